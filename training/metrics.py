"""The figures of an evaluation, each a plain function of arrays.

Pictures are (H, W, 3) uint8 RGB. A mesh is (468, 3) in pixels, MediaPipe's order: x to the right, y downwards, z away
from the camera. Left and right are the person's own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Mesh = NDArray[np.float32]

PSNR_OF_EQUALS = 100.0
"""dB that equal pictures count, so that a mean over pairs stays finite; one grey level in one channel of one pixel of
256 x 256 is 101 dB."""
REFERENCE_SIDE_PX = 256
"""Distances are told in pixels of a picture of this side, whatever the model's own."""

LANDMARKS_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw, from the right
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""Mesh points that stand for the 68 of the paper's metric (iBUG's), in its order."""

RIGID_POINTS = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 127, 356, 234, 454, 10, 151, 9, 98, 327, 2)
"""What neither mouth nor lids nor brows move: eye corners, nose, forehead, temples, sides of the face."""

_UPPER_LIP, _LOWER_LIP, _MOUTH_CORNERS = 13, 14, (78, 308)
_LEFT_LIDS, _LEFT_EYE_CORNERS = (386, 374), (263, 362)
_RIGHT_LIDS, _RIGHT_EYE_CORNERS = (159, 145), (33, 133)


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


def picture_l1(one: Rgb, other: Rgb) -> float:
    """Mean absolute difference, in [0, 1]."""
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean()) / 255


def psnr(one: Rgb, other: Rgb) -> float:
    """Peak signal to noise ratio in dB, of a peak of 255; `PSNR_OF_EQUALS` for equal pictures."""
    squared = float(np.square(one.astype(np.float64) - other.astype(np.float64)).mean())
    return min(PSNR_OF_EQUALS, float(10 * np.log10(255**2 / squared))) if squared else PSNR_OF_EQUALS


def landmark_distance(one: NDArray[np.float32], other: NDArray[np.float32], side_px: int) -> float:
    """Average keypoint distance (AKD): mean distance of points in the picture's plane, in pixels of 256.

    Args:
        one: (P, 2 or more), in pixels.
        other: likewise.
        side_px: of the pictures they were found in.
    """
    distance = np.linalg.norm(one[:, :2] - other[:, :2], axis=1)
    return float(distance.mean()) * REFERENCE_SIDE_PX / side_px


def mesh_distance(one: Mesh, other: Mesh, side_px: int) -> float:
    """AKD over the mesh points that stand for the paper's 68, in pixels of 256."""
    points = list(LANDMARKS_68)
    return landmark_distance(one[points], other[points], side_px)


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
        mouth=opening(_UPPER_LIP, _LOWER_LIP, _MOUTH_CORNERS),
        left_eye=opening(*_LEFT_LIDS, _LEFT_EYE_CORNERS),
        right_eye=opening(*_RIGHT_LIDS, _RIGHT_EYE_CORNERS),
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


def correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Pearson's; None for fewer than three pairs, or where one side does not change at all."""
    if len(one) < 3:
        return None
    a, b = (np.asarray(values, np.float64) - np.mean(values) for values in (one, other))
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 1e-12 else None


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Cosine of the angle between two embeddings (CSIM)."""
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


class Moments:
    """Mean and covariance of feature vectors that come one by one.

    Args:
        size: of a vector.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self._sum = np.zeros(size)
        self._products = np.zeros((size, size))

    def add(self, vector: NDArray[np.float64]) -> None:
        """Count one vector."""
        self.count += 1
        self._sum += vector
        self._products += np.outer(vector, vector)

    @property
    def mean(self) -> NDArray[np.float64]:
        """(size,)."""
        mean: NDArray[np.float64] = self._sum / self.count
        return mean

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(size, size), unbiased; needs two vectors."""
        centred: NDArray[np.float64] = self._products - np.outer(self._sum, self.mean)
        return centred / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): FID, of Inception's features."""
    roots = np.sqrt(np.linalg.eigvals(one.covariance @ other.covariance).astype(np.complex128)).real.sum()
    apart = float(np.square(one.mean - other.mean).sum())
    return apart + float(np.trace(one.covariance) + np.trace(other.covariance) - 2 * roots)
