"""Pictures that lie on their side, turned upright by the face in them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import turned
from mcnet.media.faces import Face, FaceFinder

_UPRIGHT_DEG = 45.0
# Of the ten bundled portraits, upright and on their sides: 1.00000; on their heads: at most 0.95.
_SURE = 0.98


class View(NamedTuple):
    """A picture as it is turned, and the faces in it.

    Attributes:
        angle_deg: how far it is turned, clockwise.
        rgb: (H, W, 3) uint8, turned.
        faces: largest first.
    """

    angle_deg: float
    rgb: NDArray[np.uint8]
    faces: list[Face]


def turned_view(finder: FaceFinder, rgb: NDArray[np.uint8], angle_deg: float) -> View:
    """A picture turned by that angle, searched for faces."""
    shown = turned(rgb, angle_deg) if angle_deg else rgb
    return View(angle_deg, shown, finder.search(shown))


def upright(finder: FaceFinder, rgb: NDArray[np.uint8]) -> View:
    """As the largest face stands upright, by quarter turns; as it is where none can be brought to.

    A face on its side is found as it lies. One that stands on its head is not found, or a mesh is laid over it the
    wrong way, of which the judge is not sure.
    """
    as_it_is = turned_view(finder, rgb, 0.0)
    if _is_sure(finder, as_it_is):
        quarters = round(roll_deg(as_it_is.faces[0]) / 90)
        view = as_it_is if quarters == 0 else turned_view(finder, rgb, -90.0 * quarters % 360)
        return view if view.faces else as_it_is
    others = (turned_view(finder, rgb, angle_deg) for angle_deg in (180.0, 90.0, 270.0))
    return next((view for view in others if _is_sure(finder, view) and _is_upright(view)), as_it_is)


def _is_sure(finder: FaceFinder, view: View) -> bool:
    return bool(view.faces) and finder.sureness(view.rgb, view.faces[0]) >= _SURE


def _is_upright(view: View) -> bool:
    return abs(roll_deg(view.faces[0])) <= _UPRIGHT_DEG


def roll_deg(face: Face) -> float:
    """How far a face leans to its left as seen, clockwise, -180 to 180."""
    left, right = (face.landmarks_px[point].astype(np.float64) for point in (234, 454))
    return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))
