"""What several commands take on the command line.

The types refuse a number out of its range while the command line is read, with the range in the message.
"""

import argparse
from collections.abc import Callable

from mcnet.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""As `mcnet.engine.Precision`, which would import torch."""

_MOST = 1_000_000_000
_MOST_DIGITS = 18  # Python refuses to convert some thousands of them


def whole_number(low: int = 0, high: int = _MOST) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`."""

    def convert(text: str) -> int:
        digits = text.strip()
        if digits.isdecimal() and len(digits) <= _MOST_DIGITS and low <= int(digits) <= high:
            return int(digits)
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from {low} to {high}")

    return convert


def number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a number from `low` to `high`.

    Args:
        low: the least.
        high: the most.
        above: `low` itself is left out.
    """

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")  # which is in no range
        if low <= value <= high and not (above and value == low):
            return value
        least = f"above {low:.10g}" if above else f"from {low:.10g}"
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number {least} to {high:.10g}")

    return convert


def seconds(*, zero: bool = False) -> Callable[[str], float]:
    """An argparse type: how long something may take, up to some months."""
    return number(0, 10_000_000, above=not zero)


def seed() -> Callable[[str], int]:
    """An argparse type: what random generators are started with."""
    return whole_number(0, 2**32 - 1)


def check_motion_options(args: argparse.Namespace) -> None:
    """See that `--motion`, `--absolute` and `--keypoints` go together.

    Raises:
        UserError: they do not.
    """
    if args.motion == "space" and args.absolute:
        raise UserError("--motion space: got --absolute too, expected one of them; --absolute is motion in the plane")
    if args.motion == "space" and args.keypoints == "detected":
        raise UserError(
            "--motion space: got --keypoints detected too, but motion in space is measured by the face mesh: use "
            "--keypoints measured, or --motion plane"
        )
