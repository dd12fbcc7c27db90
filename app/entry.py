"""Where the `mcnet-avatar` command begins: Ctrl-C is no crash, also while the rest of it is still being read."""

import sys


def run() -> None:
    """The command."""
    try:
        from app.__main__ import run as run_all

        run_all()
    except KeyboardInterrupt:
        sys.exit(130)
