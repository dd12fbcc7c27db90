"""How a motion file is named: for those, too, who need nothing else of it."""

from pathlib import Path

TRACK_SUFFIX = ".safetensors"


def is_track(path: Path) -> bool:
    """Whether a name is that of a motion file."""
    return path.suffix.lower() == TRACK_SUFFIX
