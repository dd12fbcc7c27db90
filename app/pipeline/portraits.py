"""Portraits: what can be animated, the bundled ones and the user's own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import SquareBox


@dataclass(frozen=True)
class PortraitEntry:
    """A portrait in the gallery, not yet read.

    Attributes:
        key: bundled: its file's stem (`woman_1`); the user's own: a hash of the picture.
        name: for people.
        path: the picture.
        bundled: whether it came with the app and cannot be removed.
        box: the crop that the user chose, in the picture's pixels; None: found by the face.
    """

    key: str
    name: str
    path: Path
    bundled: bool
    box: SquareBox | None = None


@dataclass(frozen=True, eq=False)
class Portrait:
    """A portrait that is ready to be animated.

    Attributes:
        entry: where it came from.
        rgb: (H, W, 3) uint8, the whole picture.
        box: the square that is animated, in its pixels.
        square: (512, 512, 3) uint8, that square.
        landmarks_px: (468, 3) float32 of its face in the whole picture; None where none was found (the user chose the
            crop).
        score: 0 to 100, how well it should animate.
        remarks: why it is not higher, as "the mouth is open".
    """

    entry: PortraitEntry
    rgb: NDArray[np.uint8]
    box: SquareBox
    square: NDArray[np.uint8]
    landmarks_px: NDArray[np.float32] | None
    score: int
    remarks: tuple[str, ...]
