"""The figures of an evaluation, each a plain function of arrays.

Pictures are (H, W, 3) uint8 RGB. A mesh is (468, 3) in pixels, MediaPipe's order: x to the right, y downwards, z away
from the camera. Left and right are the person's own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.expressions import Mesh
from mcnet.media.head_motion import BROWS, Head
from mcnet.mesh_points import LEFT_LID_PAIRS, LIP_PAIRS, RIGHT_LID_PAIRS

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

_OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_INNER_LIP_CORNERS = (78, 308)
_RIGHT_EYE_CORNERS, _LEFT_EYE_CORNERS = (33, 133), (263, 362)
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


class Regions(NamedTuple):
    """A mean error of each part of the face that expresses."""

    mouth: float
    right_eye: float
    left_eye: float
    brows: float


REGION_POINTS = {
    "mouth": [*_OUTER_LIPS, *_INNER_LIP_CORNERS, *LIP_PAIRS[0], *LIP_PAIRS[1]],
    "right_eye": [*_RIGHT_EYE_CORNERS, *RIGHT_LID_PAIRS[0], *RIGHT_LID_PAIRS[1]],
    "left_eye": [*_LEFT_EYE_CORNERS, *LEFT_LID_PAIRS[0], *LEFT_LID_PAIRS[1]],
    "brows": list(BROWS),
}
"""The mesh's points of each region: the lips' outer and inner ring, the ring of each eye's lids, both brows."""


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


def region_distances(one: Mesh, other: Mesh, side_px: int) -> Regions:
    """AKD of each region in the picture's plane, in pixels of 256.

    It includes the error of the head's pose: where the head is in the wrong place, its regions are as well.
    """
    return Regions(
        **{region: landmark_distance(one[points], other[points], side_px) for region, points in REGION_POINTS.items()}
    )


def region_changes(source: Mesh, shown: Mesh, reference: Mesh, performer: Mesh) -> Regions:
    """The error of each region's change of expression in space.

    The head's pose, place and size have no influence: every mesh is brought into the head's frame first
    (`head_motion.Head`).

    Args:
        source: (468, 3) in pixels, of the picture that is animated.
        shown: of what came of it.
        reference: of the performer, where his change begins; the source itself in self-reenactment.
        performer: of the driving frame.

    Returns:
        The mean distance over the points between the source's change and the performer's, in face sizes: the root mean
        square distance of the head's rigid points from their mean, of which the outer corners of the eyes are 1.7
        apart.
    """
    before, after, first, now = (
        Head.of(mesh.astype(np.float64)).shape for mesh in (source, shown, reference, performer)
    )
    missing = np.linalg.norm((after - before) - (now - first), axis=1)
    return Regions(**{region: float(missing[points].mean()) for region, points in REGION_POINTS.items()})


def sharpness(rgb: Rgb, mesh: Mesh) -> float | None:
    """The mean squared gradient of a face's brightness, a measure of focus (Tenengrad, of neighbouring pixels).

    Blur lowers it: an edge that is spread over two pixels counts half. The mean gradient without the square would not
    notice, since an edge climbs by the same amount however wide it is. Noise and block edges count as sharp.

    Args:
        rgb: (H, W, 3).
        mesh: (468, 3) in pixels, or any (P, 2 or more): what counts lies within the convex hull of it.

    Returns:
        In squared grey levels of 255; None where the hull lies outside the picture.
    """
    grey = rgb.astype(np.float32) @ _LUMA
    inside = np.zeros(grey.shape, np.uint8)
    hull = cv2.convexHull(mesh[:, :2].round().astype(np.int32))
    cv2.fillConvexPoly(inside, hull, 1)
    counted = inside[:-1, :-1].astype(bool)
    if not counted.any():
        return None
    squared = np.square(np.diff(grey, axis=1)[:-1]) + np.square(np.diff(grey, axis=0)[:, :-1])
    return float(squared[counted].mean(dtype=np.float64))


def procrustes_residual(one: Mesh, other: Mesh) -> float:
    """How far two faces differ in shape: what remains after the best similarity in space, all 468 points counting.

    Returns:
        The sum of the squared distances that are left, over that of the points from their mean: 0 for the same shape in
        any size, place and pose, at most 1.
    """
    a, b = (mesh.astype(np.float64) - mesh.mean(axis=0, dtype=np.float64) for mesh in (one, other))
    left, spread, right = np.linalg.svd((a / np.linalg.norm(a)).T @ (b / np.linalg.norm(b)))
    spread[-1] *= np.sign(np.linalg.det(left @ right))  # a mirror image is another shape
    return max(0.0, 1 - float(spread.sum()) ** 2)


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
