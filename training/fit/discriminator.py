"""Patch discriminators (LSGAN), which see a picture together with the driving keypoints."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.geometry import gaussian_heatmaps
from training.fit.config import LossConfig


class DiscriminatorBlock(nn.Module):
    """4x4 convolution without padding -> InstanceNorm -> leaky ReLU 0.2 -> 2x2 average pooling."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True) if norm else nn.Identity()
        self.pool = nn.AvgPool2d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(F.leaky_relu(self.norm(self.conv(x)), 0.2))
        return out


class Discriminator(nn.Module):
    """Four blocks and a 1x1 convolution to a map of scores.

    Args:
        num_keypoints: heatmaps appended to the picture.
        widths: channels of the blocks; the released ones are (64, 128, 256, 512).
    """

    def __init__(self, num_keypoints: int, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        in_channels = (3 + num_keypoints, *widths[:-1])
        self.down_blocks = nn.ModuleList(
            DiscriminatorBlock(wide, wider, norm=index > 0, pool=index < len(widths) - 1)
            for index, (wide, wider) in enumerate(zip(in_channels, widths, strict=True))
        )
        self.conv = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, picture: Tensor, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """Judge pictures.

        Args:
            picture: (B, 3, S, S) RGB in [0, 1].
            points: (B, K, 2) xy in [-1, 1], the driving keypoints' values.

        Returns:
            The blocks' outputs (for feature matching), and the map of scores (B, 1, h, w); 1 = real.
        """
        x = torch.cat((picture, gaussian_heatmaps(points, picture.shape[-1])), dim=1)
        features = []
        for block in self.down_blocks:
            x = block(x)
            features.append(x)
        return features, self.conv(x)


class Adversaries(nn.Module):
    """The discriminators of a run; one that has no weight is None.

    Attributes:
        whole: sees whole pictures.
        crops: sees crops of mouth and eyes, with the keypoints where they lie in the crop.
    """

    def __init__(self, num_keypoints: int, config: LossConfig) -> None:
        super().__init__()
        self.whole = Discriminator(num_keypoints, config.discriminator_widths) if config.gan else None
        self.crops = Discriminator(num_keypoints, config.crop_discriminator_widths) if config.crops_gan else None
