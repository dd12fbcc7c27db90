"""The files of one animation, by the options that name them: what it reads, and what it writes."""

import argparse
from collections.abc import Callable
from pathlib import Path

from mcnet.commands import credentials
from mcnet.errors import UserError
from mcnet.files import as_written

_PICTURES = (".gif", ".png", ".jpg", ".jpeg")
"""Endings of what is written and would be read where a folder of pictures is."""


def read_by(args: argparse.Namespace) -> dict[str, Path]:
    """What is read; of a portrait and a model that are bundled, or a model's folder, the file.

    What cannot be found is as it was written, or left out where it may be no file: whoever reads it tells of it.
    """
    from mcnet.media.portraits import find_portrait
    from mcnet.model_file import find_model

    read = {
        "--source": _found(find_portrait, args.source),
        "--driving": args.driving,
        "--model": _found(find_model, args.model),
        **credentials.read_by(args),
    }
    if args.background is not None and (background := _background(args.background)) is not None:
        read["--background"] = background
    return read


def written_by(args: argparse.Namespace) -> dict[str, Path]:
    """What is written, the output first; without the Content Credentials that may go beside it."""
    named = {"--output": args.output, "--contact-sheet": args.contact_sheet, "--save-motion": args.save_motion}
    return {option: Path(place) for option, place in named.items() if place}


def is_picture_name(path: Path) -> bool:
    """Whether what is written would be one more picture of the folder that it lies in, for who reads that."""
    return path.suffix.lower() in _PICTURES


def _found(find: Callable[[str], Path], text: str) -> Path:
    try:
        return find(text)
    except UserError:
        return as_written(text)


def _background(text: str) -> Path | None:
    from mcnet.media.scene import parse_background

    try:
        background = parse_background(text)
    except UserError:
        return None
    return background.path if background.is_file else None
