"""Where the `mcnet-train` command begins: Ctrl-C is no crash, also while the rest of it is still being read."""

import sys


def run() -> None:
    """The command."""
    try:
        from training.__main__ import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
