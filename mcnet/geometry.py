"""Coordinates, keypoints and warps.

Coordinates are (x, y) in [-1, 1], x to the right and y down. Grids are corner-aligned: pixel i of n sits at
2 i / (n - 1) - 1.
"""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mcnet.config import Border
from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE

HEATMAP_VARIANCE = 0.01
"""Variance of the Gaussians that stand for keypoints, in squared coordinate units."""


class Keypoints(NamedTuple):
    """K keypoints with the local affine frame of each (first-order motion).

    Attributes:
        value: (B, K, 2) float32 xy in [-1, 1].
        jacobian: (B, K, 2, 2) float32.
    """

    value: Tensor
    jacobian: Tensor


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """The identity grid, (height, width, 2) xy in [-1, 1], corner-aligned, with the dtype and device of `like`."""
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def gaussian_heatmaps(points: Tensor, size_px: int) -> Tensor:
    """One isotropic Gaussian per keypoint, 1 at its peak.

    Args:
        points: (B, K, 2) xy in [-1, 1].
        size_px: side of the maps.

    Returns:
        (B, K, size_px, size_px), exp(-|z - p|^2 / (2 * 0.01)).
    """
    squared = (coordinate_grid(size_px, size_px, points) - points[:, :, None, None, :]).square().sum(-1)
    return torch.exp(squared * (-0.5 / HEATMAP_VARIANCE))


def invert_2x2(matrix: Tensor) -> Tensor:
    """Inverse of (..., 2, 2) matrices in closed form; `torch.inverse` would make a GPU wait for the host."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    adjugate = torch.stack((torch.stack((d, -b), -1), torch.stack((-c, a), -1)), -2)
    return adjugate / (a * d - b * c)[..., None, None]


Jacobians = Literal["detected", "identity", "rotation"]
"""Where the jacobians of measured keypoints come from: the detector, nowhere, or the head's rotation and size."""
_LEAST_DEPTH = 0.3
"""Root of the summed squares, in face sizes, of the rigid keypoints' distances from the plane that fits them best: with
less, noise of their places would turn the head."""
_FACE_SIZE = 2 / 5.45
"""Of a face as it is framed: at this size, looking into the camera, the rotation's jacobian is the identity."""


def jacobians_of_places(places: Tensor, points: Sequence[int], kind: Jacobians) -> Tensor:
    """Jacobians of measured keypoints that follow from their places alone, so that nothing has to be detected.

    For `rotation`, a mean head's rigid points are fitted to those among the keypoints by an affine map of space to the
    picture, of which the nearest scaled rotation is taken (weak perspective): what it does to the plane of the face is
    the jacobian of all keypoints.

    Args:
        places: (B, K, 2) xy in [-1, 1].
        points: which of the face mesh's points they are; for `rotation`, `tells_rotation` of them.
        kind: `identity` or `rotation`.

    Returns:
        (B, K, 2, 2).
    """
    shape = (*places.shape[:2], 2, 2)
    identity = _constant(((1.0, 0.0), (0.0, 1.0)), places.device).to(places.dtype)
    if kind == "identity":
        return identity.expand(shape)
    fit = _constant(_rigid_fit(tuple(points)), places.device).to(places.dtype)  # (3, K)
    affine = (fit @ places).mT  # (B, 2, 3)
    gram = affine @ affine.mT
    # The inverse root of a symmetric 2x2 matrix in closed form, by Cayley and Hamilton.
    root = (gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] * gram[:, 1, 0]).clamp(min=1e-12).sqrt()
    trace = gram[:, 0, 0] + gram[:, 1, 1]
    square_root = (gram + root[:, None, None] * identity) / (trace + 2 * root).sqrt()[:, None, None]
    rotation = invert_2x2(square_root) @ affine
    scale = (trace / 2).sqrt() / _FACE_SIZE
    return (scale[:, None, None] * rotation[:, :, :2])[:, None].expand(shape)


def tells_rotation(points: Sequence[int]) -> bool:
    """Whether the head's rotation follows from the places of these points of the face mesh.

    It takes rigid points of the head that do not lie in one plane, as both sides of the face, forehead and nose.
    """
    shape = _centred_shape(points)
    return len(shape) >= 4 and float(np.linalg.svd(shape, compute_uv=False)[-1]) >= _LEAST_DEPTH


def _rigid_among(points: Sequence[int]) -> list[int]:
    """The keypoints that lie on rigid points of the head, by their places in the order."""
    return [index for index, point in enumerate(points) if point in RIGID_POINTS]


def _centred_shape(points: Sequence[int]) -> NDArray[np.float64]:
    """(n, 3): a mean head's rigid points among the keypoints, about their mean."""
    rigid = [RIGID_POINTS.index(points[index]) for index in _rigid_among(points)]
    shape: NDArray[np.float64] = RIGID_SHAPE[rigid]
    return shape - shape.mean(axis=0) if rigid else shape


@functools.lru_cache(maxsize=8)
def _rigid_fit(points: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    """(3, K): what takes the places of keypoints to the affine map from a mean head to them, transposed.

    Its rows sum to 0, so that places need no centring.
    """
    fit = np.zeros((3, len(points)))
    fit[:, _rigid_among(points)] = np.linalg.pinv(
        _centred_shape(points)
    )  # its rows sum to 0, so that places need no centring
    return tuple(tuple(row) for row in fit.tolist())


@functools.lru_cache(maxsize=16)
def _constant(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # it outlives the call, and is later used where gradients are taken
        return torch.tensor(rows, device=device)


def sparse_motions(grid: Tensor, source: Keypoints, driving: Keypoints) -> Tensor:
    """Where in the source each pixel looks if it moves with one keypoint, for every keypoint (paper eq. 1).

    T_k(z) = J_s J_d^-1 (z - p_d) + p_s, with the identity put before them as motion 0 (the background).

    Args:
        grid: (H, W, 2) identity grid.
        source: keypoints of the source, batch 1 or B.
        driving: keypoints of the driving frame, batch B.

    Returns:
        (B, K + 1, H, W, 2) xy.
    """
    affine = source.jacobian @ invert_2x2(driving.jacobian)  # (B, K, 2, 2)
    offset = grid - driving.value[:, :, None, None, :]  # (B, K, H, W, 2)
    # One product per keypoint: a product per pixel would be millions of 2x2 by 2x1 ones.
    moved = (offset.flatten(2, 3) @ affine.mT + source.value[:, :, None, :]).view(offset.shape)
    return torch.cat((grid.expand(len(moved), 1, *grid.shape), moved), dim=1)


def resize_aligned(maps: Tensor, size_px: int) -> Tensor:
    """Resize (B, C, h, w) maps bilinearly to a square, corners on corners."""
    if maps.shape[-1] == size_px and maps.shape[-2] == size_px:
        return maps
    return F.interpolate(maps, size=(size_px, size_px), mode="bilinear", align_corners=True)


def resize_deformation(deformation: Tensor, size_px: int) -> Tensor:
    """Resize a (B, h, w, 2) deformation bilinearly to (B, size_px, size_px, 2), corners on corners."""
    return resize_aligned(deformation.permute(0, 3, 1, 2), size_px).permute(0, 2, 3, 1)


def sample(maps: Tensor, deformation: Tensor, border: Border = "zeros") -> Tensor:
    """Sample (B, C, H, W) maps at (B, h, w, 2) places: bilinear, corner-aligned.

    Outside lie zeros, or the border's values, repeated.
    """
    padding = "zeros" if border == "zeros" else "border"
    return F.grid_sample(maps, deformation, mode="bilinear", padding_mode=padding, align_corners=True)


def hull_area(points: NDArray[np.float32]) -> float:
    """Area of the convex hull of (K, 2) points, in squared coordinate units; 0 when they lie on one line.

    Andrew's monotone chain, then the shoelace formula, in float64.
    """
    ordered = sorted({(float(x), float(y)) for x, y in points})

    def half_hull(chain: list[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for point in chain:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2], hull[-1]
                if (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) > 0:
                    break
                hull.pop()
            hull.append(point)
        return hull[:-1]

    hull = half_hull(ordered) + half_hull(ordered[::-1])
    twice = sum(ax * by - ay * bx for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True))
    return abs(twice) / 2


def adapted_scale(source: Keypoints, reference: Keypoints) -> float:
    """How much larger the source's face is than the performer's: the root of the ratio of their keypoints' hull areas.

    Args:
        source: keypoints of the source, batch 1.
        reference: keypoints of the performer's reference pose, batch 1.

    Raises:
        ValueError: all keypoints of the reference lie on one line, so no scale can be told.
    """
    areas = [hull_area(keypoints.value[0].detach().cpu().numpy()) for keypoints in (source, reference)]
    if not areas[1] > 0:
        raise ValueError("the keypoints of the reference pose span no area: got a flat hull, expected a face")
    return float(np.sqrt(areas[0] / areas[1]))


def relative_keypoints(source: Keypoints, driving: Keypoints, reference: Keypoints, scale: float = 1.0) -> Keypoints:
    """The source's keypoints, moved as the performer moved since the reference pose (FOMM, "relative motion transfer").

    p = (p_d - p_0) * scale + p_s and J = J_d J_0^-1 J_s.

    Args:
        source: p_s, J_s.
        driving: p_d, J_d of this frame.
        reference: p_0, J_0 of the calibrated frame.
        scale: `adapted_scale`, or 1.
    """
    return Keypoints(
        value=(driving.value - reference.value) * scale + source.value,
        jacobian=driving.jacobian @ invert_2x2(reference.jacobian) @ source.jacobian,
    )
