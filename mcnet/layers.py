"""The blocks that every part of the network is made of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.config import HourglassConfig


class SameBlock(nn.Module):
    """Convolution at the same size -> BatchNorm -> ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DownBlock(nn.Module):
    """3x3 convolution -> BatchNorm -> ReLU -> 2x2 average pooling: half the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)


class UpBlock(nn.Module):
    """Nearest-neighbour doubling -> 3x3 convolution -> BatchNorm -> ReLU: twice the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))))


class ResBlock(nn.Module):
    """x + conv2(ReLU(norm2(conv1(ReLU(norm1(x)))))): the pre-activation residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1: nn.Module = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return x + change


class Hourglass(nn.Module):
    """DownBlocks, then UpBlocks that each see the map of their size from the way down.

    Attributes:
        out_channels: width + in_channels, since the input itself is the last map that is appended.
    """

    def __init__(self, in_channels: int, config: HourglassConfig) -> None:
        super().__init__()
        self.out_channels = config.channels(0) + in_channels
        self.down_blocks = nn.ModuleList(
            DownBlock(in_channels if depth == 0 else config.channels(depth), config.channels(depth + 1))
            for depth in range(config.blocks)
        )
        self.up_blocks = nn.ModuleList(
            # The deepest UpBlock has nothing to append yet; the others read [up, skip].
            UpBlock(config.channels(depth + 1) * (1 if depth == config.blocks - 1 else 2), config.channels(depth))
            for depth in reversed(range(config.blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down_blocks:
            skips.append(x)
            x = down(x)
        for up in self.up_blocks:
            x = torch.cat((up(x), skips.pop()), dim=1)
        return x


class AntiAlias(nn.Module):
    """Gaussian blur, then every `factor`-th pixel from 0: shrinks a picture without aliasing.

    sigma = (factor - 1) / 2, kernel side 2 round(4 sigma) + 1, zeros outside the picture.
    """

    weight: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        sigma = (factor - 1) / 2
        radius = round(4 * sigma)
        profile = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / max(sigma, 1e-9)) ** 2)
        kernel = torch.outer(profile, profile)
        self.radius = radius
        # A buffer, since the released checkpoints carry it (key `down.weight`).
        self.register_buffer("weight", (kernel / kernel.sum()).expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        # The kernel is an outer product, so that two matrix products do: along rows, then along columns. The released
        # code convolves with all of it, which takes several times as long.
        return self._rows(x.shape[-2]) @ (x @ self._rows(x.shape[-1]).T)

    def _rows(self, size_px: int) -> Tensor:
        """(ceil(size_px / factor), size_px): in row i the profile about pixel i * factor, cut at the border."""
        profile = self.weight[0, 0].sum(-1)  # the kernel sums to 1
        small, padded = (size_px - 1) // self.factor + 1, size_px + 2 * self.radius
        # Rows that are longer by `factor` than they are read shift the profile by so much from each to the next.
        longer = F.pad(profile.expand(small, -1), (0, padded + self.factor - len(profile)))
        return longer.flatten()[: small * padded].view(small, padded)[:, self.radius : self.radius + size_px]
