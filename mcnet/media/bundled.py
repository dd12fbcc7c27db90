"""The bundled portraits and the bundled clip, cropped as the command crops them: real faces for measuring."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets import ROOT
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import mesh_in_square
from mcnet.media.images import read_rgb
from mcnet.media.video import open_driving

CLIP = ROOT / "driving" / "grid_bbaf2n.mpg"
"""It shows one speaker."""


class Faces(NamedTuple):
    """Squares of `size_px`.

    Attributes:
        sources: (N, size_px, size_px, 3) uint8 RGB.
        driving: (M, size_px, size_px, 3) uint8 RGB, in order.
        source_meshes: (N, 478, 3), measured in the whole pictures, in the coordinates of the squares
            (`mcnet.media.head_motion.mesh_in_square`).
        driving_meshes: (M, 478, 3), likewise.
    """

    sources: NDArray[np.uint8]
    driving: NDArray[np.uint8]
    source_meshes: NDArray[np.float64]
    driving_meshes: NDArray[np.float64]


@lru_cache(maxsize=1)  # whoever exports one model exports several
def bundled_faces(size_px: int, *, portraits: int, frames: int) -> Faces:
    """So many portraits and frames of the `CLIP`, spread evenly; to be read, not changed.

    Raises:
        UserError: OpenCV does not load.
    """
    files = sorted((ROOT / "portraits").glob("*.jpg"))
    shown = list(open_driving(CLIP))
    chosen = shown[:: len(shown) // frames][:frames]
    sources, source_meshes, driving, driving_meshes = [], [], [], []
    with FaceFinder() as finder:
        for rgb in map(read_rgb, files[:: len(files) // portraits][:portraits]):
            face = finder.find(rgb)[0]
            box = frame_face(face)
            sources.append(crop(rgb, box, size_px))
            source_meshes.append(mesh_in_square(face.mesh_px, box, size_px))
        box = frame_face(finder.find(shown[0])[0])
        for rgb in chosen:
            driving.append(crop(rgb, box, size_px))
            driving_meshes.append(mesh_in_square(finder.find(rgb)[0].mesh_px, box, size_px))
    return Faces(np.stack(sources), np.stack(driving), np.stack(source_meshes), np.stack(driving_meshes))
