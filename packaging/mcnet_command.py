"""What the bundle's program `mcnet` starts."""

import multiprocessing

from mcnet.entry import run

multiprocessing.freeze_support()  # a process that this one starts is the same program
run()
