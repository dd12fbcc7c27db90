"""A portrait, and heads that turn, open their mouths and shut their eyes."""

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.bundled import bundled_faces
from mcnet.media.crop import SquareBox
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import Array, Head, mesh_in_square
from mcnet.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS

SIDE_PX = 256
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (263, 362, 386, 374)
"""Corners and middles of the lids."""

JAW = (14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377)
"""Points of the lower lip and the chin."""
LIDS = (386, 374, 159, 145)
"""The middles of the lids, upper and lower, the person's left eye first."""


def with_jaw_down(head: Head, gap: float) -> Head:
    """A head whose mouth is opened by so many face sizes."""
    shape = head.shape.copy()
    shape[list(JAW), 1] += gap
    return head._replace(shape=shape)


def with_eyes_at(head: Head, share: float) -> Head:
    """A head whose eyes are open by that share of their own opening, the upper lid having moved."""
    shape = head.shape.copy()
    for upper, lower in (*zip(*RIGHT_LID_PAIRS, strict=True), *zip(*LEFT_LID_PAIRS, strict=True)):
        shape[upper] = shape[lower] + share * (shape[upper] - shape[lower])
    return head._replace(shape=shape)


def turned(head: Head, yaw_deg: float) -> Head:
    """A head turned to the side."""
    sine, cosine = math.sin(math.radians(yaw_deg)), math.cos(math.radians(yaw_deg))
    about_y = np.array(((cosine, 0, sine), (0, 1, 0), (-sine, 0, cosine)))
    return head._replace(rotation=about_y @ head.rotation)


class Portrait(NamedTuple):
    """A portrait as the model sees it.

    Attributes:
        square: (SIDE_PX, SIDE_PX, 3); nobody may write to it.
        head: its own.
    """

    square: Rgb
    head: Head

    @property
    def mesh(self) -> Array:
        return self.head.mesh


@cache
def bundled_portrait() -> Portrait:
    """The first of the bundled ones."""
    square = bundled_faces(SIDE_PX, portraits=1, frames=1).sources[0]
    square.setflags(write=False)
    with FaceFinder() as finder:
        mesh_px = finder.find(square)[0].mesh_px
    mesh = mesh_in_square(mesh_px, SquareBox(SIDE_PX / 2, SIDE_PX / 2, SIDE_PX), SIDE_PX)
    return Portrait(square, Head.of(mesh))


def changed(one: Rgb, other: Rgb) -> NDArray[np.bool_]:
    """(..., h, w): whether anything differs."""
    return np.asarray((one != other).any(axis=-1))


def around(places_px: Array, margin_px: int) -> NDArray[np.bool_]:
    """(SIDE_PX, SIDE_PX): what lies in the hull of places, and so far around it."""
    inside = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(places_px.round().astype(np.int32)), (1,))
    return cv2.dilate(inside, np.ones((2 * margin_px + 1,) * 2)) > 0
