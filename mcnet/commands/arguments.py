"""What several commands take on the command line."""

import argparse

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""As `mcnet.engine.Precision`, which would import torch."""


def whole_number(text: str) -> int:
    """A whole number from 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number")
    return int(text)


def whole_number_from_1(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return int(text)
