"""What the bundle's program `mcnet` starts."""

import sys

from mcnet.__main__ import main

sys.exit(main())
