"""Dense motion: from two sets of keypoints to a deformation and an occlusion map (paper section 3.1)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.config import MOTION_SIZE_PX, McnetConfig
from mcnet.geometry import coordinate_grid, gaussian_heatmaps, sparse_motions
from mcnet.layers import AntiAlias, Hourglass


class Motion(NamedTuple):
    """How the source moves to meet the driving frame, at 64x64.

    Attributes:
        deformation: (B, 64, 64, 2) xy in the source that each pixel shows.
        occlusion: (B, 1, 64, 64) in [0, 1]; 1 = trust the warp.
        mask: (B, K + 1, 64, 64), sums to 1 over the motions; 0 is the background's.
    """

    deformation: Tensor
    occlusion: Tensor
    mask: Tensor


class DenseMotion(nn.Module):
    """Weighs the sparse motions of the keypoints, pixel by pixel."""

    def __init__(self, config: McnetConfig) -> None:
        super().__init__()
        motions = config.num_keypoints + 1
        self.shrink = AntiAlias(3, config.size_px // MOTION_SIZE_PX)
        self.hourglass = Hourglass(4 * motions, config.motion_hourglass)
        kernel = config.motion_hourglass.head_kernel
        self.mask = nn.Conv2d(self.hourglass.out_channels, motions, kernel, padding=kernel // 2)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels, 1, kernel, padding=kernel // 2)

    def forward(self, small_source: Tensor, source_heatmaps: Tensor, source: Keypoints, driving: Keypoints) -> Motion:
        """Estimate the motion.

        Args:
            small_source: (B, 3, 64, 64), the source after `shrink`.
            source_heatmaps: (B, K, 64, 64), Gaussians of the source's keypoints.
            source: keypoints of the source.
            driving: keypoints of the driving frame.
        """
        sparse, seen = self.sparse(small_source, source_heatmaps, source, driving)
        features = self.hourglass(seen)
        return combine(sparse, self.mask(features), self.occlusion(features))

    def sparse(
        self, small_source: Tensor, source_heatmaps: Tensor, source: Keypoints, driving: Keypoints
    ) -> tuple[Tensor, Tensor]:
        """The candidates.

        Returns:
            The sparse motions (B, K + 1, 64, 64, 2), and what the hourglass sees of them, (B, 4 (K + 1), 64, 64): for
            each motion the difference of heatmaps and the source deformed by it.
        """
        grid = coordinate_grid(MOTION_SIZE_PX, MOTION_SIZE_PX, driving.value)
        sparse = sparse_motions(grid, source, driving)
        return sparse, self.see(small_source, source_heatmaps, sparse, driving)

    def see(self, small_source: Tensor, source_heatmaps: Tensor, sparse: Tensor, driving: Keypoints) -> Tensor:
        """What the hourglass sees of the sparse motions; see `sparse`."""
        batch, motions = sparse.shape[:2]
        # All motions sample the same picture, so they are one tall grid. The grid is corner-aligned but sampled as if
        # it were not (align_corners=False): a quirk of the released network, kept for checkpoint parity.
        deformed = F.grid_sample(
            small_source.expand(batch, -1, -1, -1),
            sparse.flatten(1, 2),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        deformed = deformed.reshape(batch, 3, motions, MOTION_SIZE_PX, MOTION_SIZE_PX).transpose(
            1, 2
        )  # (B, K + 1, 3, 64, 64)
        heatmaps = gaussian_heatmaps(driving.value, MOTION_SIZE_PX) - source_heatmaps
        heatmaps = F.pad(heatmaps, (0, 0, 0, 0, 1, 0))[:, :, None]  # zeros for the background's motion
        return torch.cat((heatmaps, deformed), dim=2).flatten(1, 2)


def combine(sparse: Tensor, mask_logits: Tensor, occlusion_logits: Tensor) -> Motion:
    """Mix the sparse motions by the softmax of the mask: deformation = sum_k mask_k T_k."""
    mask = torch.softmax(mask_logits, dim=1)
    deformation = (mask[..., None] * sparse).sum(dim=1)
    return Motion(deformation, torch.sigmoid(occlusion_logits), mask)
