"""What a face does, measured on its mesh: how far mouth and eyes are open, and how the head is turned.

A mesh is (468, 3) in pixels, MediaPipe's order: x to the right, y downwards, z away from the camera. Left and right are
the person's own.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.mean_head import RIGID_POINTS
from mcnet.mesh_points import (
    LEFT_EYE_CORNERS,
    LEFT_LID_PAIRS,
    LEFT_LIDS,
    LIP_PAIRS,
    MOUTH_CORNERS,
    RIGHT_EYE_CORNERS,
    RIGHT_LID_PAIRS,
    RIGHT_LIDS,
)

Mesh = NDArray[np.floating[Any]]

_UPPER_LIP, _LOWER_LIP = 13, 14


class Expression(NamedTuple):
    """How far mouth and eyes are open, each as a multiple of its own width; or a change of these."""

    mouth: float
    left_eye: float
    right_eye: float

    @property
    def eyes(self) -> float:
        """The mean of both."""
        return (self.left_eye + self.right_eye) / 2

    def since(self, earlier: "Expression") -> "Expression":
        """The change from an earlier one."""
        return Expression(*(now - then for now, then in zip(self, earlier, strict=True)))


class HeadTurn(NamedTuple):
    """A rotation of the head, in degrees.

    Attributes:
        yaw: about the vertical axis.
        pitch: about the axis through the ears; a nod.
        roll: in the picture's plane, clockwise as seen.
        angle: of the whole rotation about its own axis, 0 to 180.
    """

    yaw: float
    pitch: float
    roll: float
    angle: float


def expression(mesh: Mesh, *, in_space: bool = False) -> Expression:
    """The distance of the inner lips over the mouth's inner width; that of the lids over each eye's width.

    Args:
        mesh: (468, 3) in pixels.
        in_space: measure in three dimensions, so that widths do not shrink as the head turns: in the picture's plane
            the far eye of a face in profile seems to open. Depth is what the mesh network guesses.
    """
    places = mesh[:, : 3 if in_space else 2].astype(np.float64)

    def opening(upper: int, lower: int, corners: tuple[int, int]) -> float:
        width = float(np.linalg.norm(places[corners[0]] - places[corners[1]]))
        return float(np.linalg.norm(places[upper] - places[lower])) / max(width, 1e-6)

    return Expression(
        mouth=opening(_UPPER_LIP, _LOWER_LIP, MOUTH_CORNERS),
        left_eye=opening(*LEFT_LIDS, LEFT_EYE_CORNERS),
        right_eye=opening(*RIGHT_LIDS, RIGHT_EYE_CORNERS),
    )


def openings(mesh: Mesh, *, in_space: bool = False) -> Expression:
    """How far mouth and eyes are open, over their whole width and signed: what a blink is recognised by.

    It is the mean gap of all pairs of inner lips or lids, across the line of the corners in the picture's plane, over
    the distance of the corners. It falls below 0 where lids cross, as they do in a firmly shut eye. With the attention
    mesh a shut eye has about 0.02, an open one 0.21; `expression` looks at one pair and knows no sign.

    Args:
        mesh: (468, 3) in pixels, of a picture that shows the person's right eye to the left of the left one.
        in_space: take the distance of the corners in three dimensions, so that it does not shrink as the head turns.
    """
    places = mesh.astype(np.float64)

    def opening(pairs: tuple[tuple[int, ...], tuple[int, ...]], corners: tuple[int, int]) -> float:
        along = places[corners[1]] - places[corners[0]]
        gap = (places[list(pairs[1])] - places[list(pairs[0])]).mean(axis=0)
        length = max(float(np.hypot(along[0], along[1])), 1e-6)
        across = float(along[0] * gap[1] - along[1] * gap[0]) / length
        return across / (max(float(np.linalg.norm(along)), 1e-6) if in_space else length)

    return Expression(
        mouth=opening(LIP_PAIRS, MOUTH_CORNERS),
        left_eye=opening(LEFT_LID_PAIRS, (LEFT_EYE_CORNERS[1], LEFT_EYE_CORNERS[0])),
        right_eye=opening(RIGHT_LID_PAIRS, RIGHT_EYE_CORNERS),
    )


def rotation_between(one: Mesh, other: Mesh) -> NDArray[np.float64]:
    """The (3, 3) rotation that brings one head's rigid points closest to the other's (Kabsch), whatever their size.

    Args:
        one: mesh, or any (P, 3) if P is not 468: then all points count.
        other: likewise.
    """
    if len(one) > max(RIGID_POINTS):
        one, other = one[list(RIGID_POINTS)], other[list(RIGID_POINTS)]
    a, b = (points.astype(np.float64) - points.mean(axis=0, dtype=np.float64) for points in (one, other))
    left, _, right = np.linalg.svd(b.T @ a)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation: NDArray[np.float64] = left @ handed @ right
    return rotation


def head_turn(rotation: NDArray[np.float64]) -> HeadTurn:
    """A (3, 3) rotation as angles: roll after yaw after pitch."""
    yaw = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    # By sine and cosine: the arc cosine alone has no precision left at small angles.
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    angle = np.arctan2(np.linalg.norm(axis), np.trace(rotation) - 1)
    return HeadTurn(*(float(np.degrees(value)) for value in (yaw, pitch, roll, angle)))
