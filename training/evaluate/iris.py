"""What eyes do, as MediaPipe's iris network sees it: how far the lids are open, and where the pupils look.

Keypoints are measured by the attention mesh, or found by detectors that were trained on a mesh's labels. This network
has had no part in either, so that it can judge what became of them.
"""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.media.expressions import Mesh
from mcnet.media.face_mesh import checked_content
from mcnet.media.sampling import sample_square

IRIS_NETWORK = ASSETS / "models" / "iris_landmark.tflite"
_SHA256 = "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f"

SHUT = 0.11
"""Lids that are open by less than this are shut. By blind labels, shut eyes have 0.06, half open ones 0.17 and open
ones 0.24; all of the open ones lie above, as do nearly all of the half open ones."""
OPEN = 0.14
"""Where lids are open by less than this, the pupil is hidden in part and its place is a guess."""

_INPUT_PX = 64
_REGION_FACTOR = 2.3  # of the distance between the corners
_CORNERS = ((33, 133), (362, 263))  # of the person's right eye and of the left one; each left to right in the picture
_OUTPUTS = ("output_eyes_contours_and_brows", "output_iris")
# The contour's first 16 points: outer corner, lower lid, inner corner, upper lid from the outer side to the inner one.
_OUTER, _INNER, _LOWER_LID, _UPPER_LID, _PUPIL = 0, 8, slice(1, 8), slice(9, 16), 0


class Eyes(NamedTuple):
    """Both eyes of a face, as means of the two.

    Attributes:
        opening: mean gap of the lids over the distance of the corners; below 0 where the lids cross.
        gaze: the pupils' place between the corners, from -1 at the corner on the picture's left to 1 at the right one.
            A guess where the lids are open by less than `OPEN`.
    """

    opening: float
    gaze: float

    @property
    def shut(self) -> bool:
        """Whether they count as shut."""
        return self.opening < SHUT

    @property
    def open(self) -> bool:
        """Whether they are so far open that their gaze can be told."""
        return self.opening > OPEN


class IrisNetwork:
    """Measures the eyes of a face whose mesh is known. It belongs to one thread.

    Args:
        path: of the network; only the bundled one is accepted.

    Raises:
        MediaError: the file is missing or is another one.
    """

    def __init__(self, path: Path = IRIS_NETWORK) -> None:
        checked_content(path, _SHA256)
        # OpenCV 5's new engine returns only the last of several outputs; the classic one returns all of them.
        self._network = cv2.dnn.readNetFromTFLite(str(path), cv2.dnn.ENGINE_CLASSIC)

    def look(self, rgb: Rgb, mesh: Mesh) -> Eyes:
        """Measure.

        Args:
            rgb: (H, W, 3).
            mesh: (468, 3) in pixels, of a face in it; only the corners of its eyes are used.
        """
        right, left = (_square(rgb, mesh, corners) for corners in _CORNERS)
        # The network knows the eye on the picture's left; the other one is shown to it in a mirror.
        pictures = [right, np.ascontiguousarray(left[:, ::-1])]
        self._network.setInput(cv2.dnn.blobFromImages(pictures, 1 / 255))
        contours, irises = (answer.reshape(2, -1, 3)[..., :2] for answer in self._network.forward(_OUTPUTS))
        along = contours[:, _INNER] - contours[:, _OUTER]
        length2 = np.square(along).sum(axis=1)
        gap = (contours[:, _LOWER_LID] - contours[:, _UPPER_LID]).mean(axis=1)
        opening = (along[:, 0] * gap[:, 1] - along[:, 1] * gap[:, 0]) / length2
        aside = irises[:, _PUPIL] - (contours[:, _OUTER] + contours[:, _INNER]) / 2
        inward = np.clip((aside * along).sum(axis=1) / (length2 / 2), -1, 1)
        return Eyes(float(opening.mean()), float(inward[0] - inward[1]) / 2)


def _square(rgb: Rgb, mesh: Mesh, corners: tuple[int, int]) -> NDArray[np.uint8]:
    """(64, 64, 3): the eye in the middle, the line of its corners level."""
    one, other = mesh[list(corners), :2].astype(np.float64)
    x, y = (other - one).tolist()
    center_x, center_y = ((one + other) / 2).tolist()
    square, _ = sample_square(
        rgb,
        (center_x, center_y),
        _REGION_FACTOR * max(math.hypot(x, y), 1.0),
        _INPUT_PX,
        angle_rad=math.atan2(y, x),
        border=cv2.BORDER_REPLICATE,
    )
    return square
