"""The unsupervised keypoint detector (paper section 3.1)."""

import torch
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.config import HEATMAP_TEMPERATURE, MOTION_SIZE_PX, McnetConfig
from mcnet.geometry import coordinate_grid
from mcnet.layers import AntiAlias, Hourglass


class KeypointDetector(nn.Module):
    """Finds K keypoints and their jacobians on a picture shrunk to 64x64."""

    def __init__(self, config: McnetConfig) -> None:
        super().__init__()
        self.shrink = AntiAlias(3, config.size_px // MOTION_SIZE_PX)
        self.hourglass = Hourglass(3, config.keypoint_hourglass)
        # Without padding, as released: a 7x7 head on 64x64 gives 58x58 maps.
        head_kernel = config.keypoint_hourglass.head_kernel
        self.logits = nn.Conv2d(self.hourglass.out_channels, config.num_keypoints, head_kernel)
        self.jacobians = nn.Conv2d(self.hourglass.out_channels, 4 * config.num_keypoints, head_kernel)
        with torch.no_grad():
            self.jacobians.weight.zero_()
            assert self.jacobians.bias is not None
            self.jacobians.bias.copy_(torch.eye(2).flatten().repeat(config.num_keypoints))

    def forward(self, picture: Tensor) -> Keypoints:
        """Detect.

        Args:
            picture: (B, 3, size_px, size_px) float RGB in [0, 1].
        """
        features = self.hourglass(self.shrink(picture))
        return expected_keypoints(self.logits(features), self.jacobians(features))


def expected_keypoints(logits: Tensor, jacobians: Tensor) -> Keypoints:
    """Expectations under the heatmap softmax(logits / 0.1) over all positions.

    Args:
        logits: (B, K, h, w).
        jacobians: (B, 4 K, h, w); four consecutive channels are one 2x2 matrix, row by row.
    """
    batch, num_keypoints, height, width = logits.shape
    heatmap = torch.softmax(logits.flatten(2) / HEATMAP_TEMPERATURE, dim=-1)  # (B, K, h w)
    value = heatmap @ coordinate_grid(height, width, logits).flatten(0, 1)
    jacobian = jacobians.reshape(batch, num_keypoints, 4, height * width) @ heatmap[..., None]
    return Keypoints(value, jacobian.reshape(batch, num_keypoints, 2, 2))
