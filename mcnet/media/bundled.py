"""The bundled portraits and the bundled clip, cropped as the command crops them: real faces for measuring."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets import ROOT
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.video import open_driving

CLIP = ROOT / "driving" / "grid_bbaf2n.mpg"
"""It shows one speaker."""


class Faces(NamedTuple):
    """Squares of `size_px`.

    Attributes:
        sources: (N, size_px, size_px, 3) uint8 RGB.
        driving: (M, size_px, size_px, 3) uint8 RGB, in order.
    """

    sources: NDArray[np.uint8]
    driving: NDArray[np.uint8]


def bundled_faces(size_px: int, *, portraits: int, frames: int) -> Faces:
    """So many portraits and frames of the `CLIP`, spread evenly.

    Raises:
        UserError: OpenCV does not load.
    """
    files = sorted((ROOT / "portraits").glob("*.jpg"))
    shown = list(open_driving(CLIP))
    with FaceFinder() as finder:
        sources = [
            crop(rgb, frame_face(finder.find(rgb)[0]), size_px)
            for rgb in map(read_rgb, files[:: len(files) // portraits][:portraits])
        ]
        box = frame_face(finder.find(shown[0])[0])
    driving = [crop(rgb, box, size_px) for rgb in shown[:: len(shown) // frames][:frames]]
    return Faces(np.stack(sources), np.stack(driving))
