"""Writing files so that a failure loses nothing."""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room: what you may use of the disk is used up",
    errno.EFBIG: "choose a disk that takes larger files, or make it shorter",
}


def cause_and_remedy(error: Exception) -> str:
    """Why a file could not be written and what to do about it, for the end of a sentence.

    Args:
        error: an `OSError`, or one of PyAV's, which have the same fields and numbers of FFmpeg's own besides.
    """
    number, said = getattr(error, "errno", None) or 0, getattr(error, "strerror", None) or str(error)
    if number not in errno.errorcode:  # an encoder's failure, say, that no other place would help
        return said
    return f"{said}; {_REMEDIES.get(number, 'choose another place')}"


def free_name(path: Path) -> Path:
    """The path itself, or with a number behind its stem, such that nothing is there yet."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file in one step: what was at `path` stays until the block has ended well.

    Yields:
        A path beside it to write to; the file there takes the place of `path`, or is removed if the block fails.

    Raises:
        OSError: it cannot take the place.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
