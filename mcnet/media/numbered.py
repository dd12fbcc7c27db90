"""The numbered pictures of a folder: how they are called, and whether they are still those that were written."""

import hashlib
import os
from pathlib import Path

from mcnet.files import followed


def picture_name(index: int) -> str:
    """The name of a frame's picture."""
    return f"{index:06d}.png"


def pictures_to_be(folder: Path) -> Path:
    """What the pictures are called together within a folder that is there, until they are complete: beside that name
    lies what has them meanwhile (`mcnet.files.scratch_beside`).
    """
    return folder / "pictures"


def stamp_of_pictures(folder: Path, besides: str = "") -> str | None:
    """What tells the pictures of a folder, in their place, from any others: by their names, sizes and times.

    Args:
        folder: or anything else, or nothing.
        besides: the name of an entry that does not count.

    Returns:
        "" where there is no folder, or an empty one; None where a folder holds anything else than the pictures that one
        video is written as, numbered from 0 without a gap, or cannot be looked into.
    """
    try:
        if not folder.is_dir():
            return ""
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries if entry.name != besides}
        if found.keys() != {picture_name(index) for index in range(len(found))}:
            return None
        facts = []
        for name in sorted(found):
            status = found[name].stat(follow_symlinks=False)
            if not found[name].is_file(follow_symlinks=False):
                return None
            facts.append((name, status.st_size, status.st_mtime_ns))
    except OSError:
        return None
    if not facts:
        return ""
    return hashlib.sha256(repr((str(followed(folder)), facts)).encode(errors="surrogateescape")).hexdigest()[:32]
