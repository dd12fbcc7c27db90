"""Coordinates, heatmaps and warps.

Coordinates are (x, y) in [-1, 1], x to the right and y down. Grids are corner-aligned: pixel i of n sits at
2 i / (n - 1) - 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mcnet.arrays import Keypoints
from mcnet.config import HEATMAP_VARIANCE, Border
from mcnet.pose import invert_2x2


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
