"""What the bundle's program `mcnet` starts."""

import multiprocessing
import sys

from mcnet.__main__ import main

multiprocessing.freeze_support()  # a process that this one starts is the same program
sys.exit(main())
