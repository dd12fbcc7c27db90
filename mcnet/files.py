"""Writing files so that a failure loses nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
