"""The `mcnet` command."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import mcnet
from mcnet.commands import animate, bench, convert, credentials, inspect
from mcnet.commands.status import INTERRUPTED
from mcnet.errors import UserError, is_out_of_memory, told
from mcnet.packages import told_missing
from mcnet.streams import steady_streams, untold


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 failed with a message, 2 misused, 130 interrupted."""
    steady_streams()
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser().parse_args(argv)
    args.words = argv[list(argv).index(args.command) + 1 :]
    # Before torch is imported: how long its OpenMP threads spin before they sleep. Measured on two cores with the
    # starter in bf16: about 55 ms per frame, against 60 as it comes and 86 without spinning; beside another busy
    # process 93, 103 and 104. It would override OMP_WAIT_POLICY, so that whoever has set that keeps it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    status = _run(args)
    if why := untold():
        print(f"mcnet {args.command}: cannot write all that there is to say: {why}", file=sys.stderr)
        return status or 1
    return status


def _run(args: argparse.Namespace) -> int:
    """Run a command; what its user can mend is told in a sentence."""
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"mcnet {args.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"mcnet {args.command}: {told_missing(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # whatever a file system may say that nobody has made a sentence of
        logging.getLogger(__name__).debug("from where it came", exc_info=True)
        print(f"mcnet {args.command}: {told(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        logging.getLogger(__name__).debug("from where it came", exc_info=True)
        print(
            f"mcnet {args.command}: there is not enough memory: close other programs, or take smaller pictures",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"mcnet {args.command}: interrupted before there was anything to write", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mcnet",
        description="Animate a portrait by a video of somebody's face, with MCNet.",
        epilog="'mcnet COMMAND --help' tells more of a command.",
    )
    parser.add_argument("--version", action="version", version=f"mcnet {mcnet.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what is going on")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    animate.add_parser(commands)
    convert.add_parser(commands)
    inspect.add_parser(commands)
    bench.add_parser(commands)
    credentials.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
