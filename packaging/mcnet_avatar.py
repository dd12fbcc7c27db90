"""What the bundle's program `mcnet-avatar` starts."""

import multiprocessing

from app.entry import run

multiprocessing.freeze_support()  # a process that this one starts is the same program
run()
