"""The global memory bank and how it compensates a warped feature (paper sections 3.2 and 3.3).

Warping cannot show what the source hides. The bank holds what faces look like; it is conditioned on an implicit scale
representation of the source, and the warped feature asks it for what is missing by dynamic cross-attention.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.arrays import ConditionedMemory, Keypoints
from mcnet.config import DEMODULATION_EPS, KERNEL_TEMPERATURE, QUERY_SCALE, McnetConfig, MemoryConfig


class Compensation(NamedTuple):
    """Everything that compensating one warped feature computes.

    Attributes:
        compensated: (B, C_f, w, w), the result, like the warped feature.
        feature: (B, C, w, w), the half of the warped feature that is compensated, in the memory's channels.
        memory: (B, C, size, size), conditioned.
        key: (B, C, size, size).
        value: (B, C, size, size).
        query: (B, C, w, w).
        residual: (B, C, w, w), what attention fetched.
    """

    compensated: Tensor
    feature: Tensor
    memory: Tensor
    key: Tensor
    value: Tensor
    query: Tensor
    residual: Tensor


class ModulatedBank(nn.Module):
    """StyleGAN2's modulated, demodulated 3x3 convolution of the bank, noise while training, bias, leaky ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Both weights start N(0, 1) and are scaled at run time (equalised learning rate), as released.
        self.modulation_weight = nn.Parameter(torch.randn(channels, channels))
        self.modulation_bias = nn.Parameter(torch.ones(channels))
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, bank: Tensor, style_code: Tensor) -> Tensor:
        """(1, C, size, size) bank and (B, C) style code -> (B, C, size, size)."""
        channels = bank.shape[1]
        style = F.linear(style_code, self.modulation_weight / math.sqrt(channels), self.modulation_bias)
        weight = self.weight / math.sqrt(channels * 9)
        # Scaling the input by the style and the output by the demodulation is the same as scaling each sample's kernel.
        demodulation = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + DEMODULATION_EPS)
        memory = F.conv2d(bank * style[:, :, None, None], weight, padding=1) * demodulation[:, :, None, None]
        if self.training:  # The released code draws noise in evaluation too, which flickers; we do not.
            noise = torch.randn_like(memory[:, :1])
            memory = memory + self.noise_strength * noise
        return F.leaky_relu(memory + self.bias[:, None, None], 0.2) * math.sqrt(2)


class DynamicKeyValue(nn.Module):
    """A 3x3 convolution whose kernel is a mixture, weighed by the warped feature, of P parallel ones."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        channels, kernels = config.channels, config.parallel_kernels
        self.squeeze = nn.Conv2d(channels, config.attention_hidden, 1, bias=False)
        self.excite = nn.Conv2d(config.attention_hidden, kernels, 1)
        self.weight = nn.Parameter(torch.empty(kernels, 2 * channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(kernels, 2 * channels))
        for kernel in self.weight:
            nn.init.kaiming_uniform_(kernel)

    def kernel_weights(self, pooled: Tensor) -> Tensor:
        """(B, C) spatial mean of the feature -> (B, P), summing to 1."""
        logits = self.excite(F.relu(self.squeeze(pooled[:, :, None, None]))).flatten(1)
        return torch.softmax(logits / KERNEL_TEMPERATURE, dim=-1)

    def responses(self, memory: Tensor) -> Tensor:
        """What each parallel kernel makes of (B, C, size, size): (B, P, 2 C, size, size)."""
        stacked = F.conv2d(memory, self.weight.flatten(0, 1), self.bias.flatten(), padding=1)
        return stacked.reshape(len(memory), *self.weight.shape[:2], *memory.shape[2:])

    def forward(self, memory: Tensor, kernel_weights: Tensor) -> Tensor:
        """Convolve each sample of (B, C, size, size) with its own mixed kernel: (B, 2 C, size, size)."""
        batch, channels, size, _ = memory.shape
        weight = torch.einsum("bp,poikl->boikl", kernel_weights, self.weight).flatten(0, 1)
        bias = (kernel_weights @ self.bias).flatten()
        mixed = F.conv2d(memory.reshape(1, batch * channels, size, size), weight, bias, padding=1, groups=batch)
        return mixed.reshape(batch, 2 * channels, size, size)


class LevelProjection(nn.Module):
    """What is learned anew for each compensated size: into the memory's channels, and back out."""

    def __init__(self, feature_channels: int, memory_channels: int) -> None:
        super().__init__()
        self.inward = nn.Conv2d(feature_channels // 2, memory_channels, 1)
        self.outward = nn.Conv2d(memory_channels, feature_channels // 2, 3, padding=1)
        self.norm = nn.InstanceNorm2d(feature_channels // 2, affine=True)


class MemoryCompensation(nn.Module):
    """The memory bank and its compensation of warped features; one and the same for all levels."""

    def __init__(self, config: McnetConfig) -> None:
        super().__init__()
        memory = config.memory
        self.conditioning = memory.conditioning
        self.bank = nn.Parameter(torch.empty(1, memory.channels, memory.size, memory.size))
        nn.init.kaiming_uniform_(self.bank)
        if memory.conditioning != "none":
            code_size = 2 * config.num_keypoints
            if memory.conditioning == "keypoints+appearance":
                code_size += memory.channels
            self.style_route = nn.Sequential(
                nn.Linear(code_size, memory.code_hidden), nn.ReLU(), nn.Linear(memory.code_hidden, memory.channels)
            )
            self.modulated_bank = ModulatedBank(memory.channels)
        self.key_value = DynamicKeyValue(memory)
        self.query = nn.Conv2d(memory.channels, memory.channels, 1)
        self.difference = nn.Conv2d(memory.channels, memory.channels, 1)
        widths = dict(zip(config.level_sizes_px, config.decoder_widths, strict=True))
        self.levels = nn.ModuleDict(
            {str(size_px): LevelProjection(widths[size_px], memory.channels) for size_px in memory.levels_px}
        )

    def condition(self, source: Keypoints) -> ConditionedMemory | None:
        """What a source settles once and for all: everything up to the mixing of kernels, or nothing.

        Args:
            source: keypoints of the source.

        Returns:
            None where the conditioning looks at the warped feature too, so that nothing can be settled.
        """
        if self.conditioning == "keypoints+appearance":
            return None
        if self.conditioning == "none":
            memory = self.bank.expand(len(source.value), -1, -1, -1)
        else:
            memory = self.modulated_bank(self.bank, self.style_route(source.value.flatten(1)))
        return ConditionedMemory(memory, self.key_value.responses(memory))

    def forward(self, warped: Tensor, source: Keypoints, conditioned: ConditionedMemory | None) -> Tensor:
        """Compensate a warped feature; arguments as `trace`'s. Returns it with its lacking half filled in."""
        return self.trace(warped, source, conditioned).compensated

    def trace(self, warped: Tensor, source: Keypoints, conditioned: ConditionedMemory | None) -> Compensation:
        """Compensate a warped feature and show how.

        Args:
            warped: (B, C_f, w, w), warped and occluded; w is one of the configuration's `levels_px`.
            source: keypoints of the source.
            conditioned: what `condition` gave for that source.
        """
        level = self.levels[str(warped.shape[-1])]
        assert isinstance(level, LevelProjection)
        keep, lacking = warped[:, 0::2], warped[:, 1::2]
        feature = level.inward(lacking)
        pooled = feature.mean((2, 3))
        kernel_weights = self.key_value.kernel_weights(pooled)
        if conditioned is None:
            scale_code = torch.cat((pooled, source.value.flatten(1).expand(len(pooled), -1)), dim=1)
            memory = self.modulated_bank(self.bank, self.style_route(scale_code))
            key_value = self.key_value(memory, kernel_weights)
        else:
            memory = conditioned.memory
            key_value = (kernel_weights[:, :, None, None, None] * conditioned.responses).sum(1)
        key, value = F.relu(key_value).chunk(2, dim=1)
        query = F.relu(self.query(feature))
        residual = attend(query, key, value)
        filled = F.relu(self.difference(feature - residual)) + feature
        filled = F.relu(level.norm(level.outward(filled)))
        return Compensation(interleave(keep, filled), feature, memory, key, value, query, residual)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Cross-attention of every position of `query` to every position of the memory.

    Args:
        query: (B, C, w, w).
        key: (B, C, size, size).
        value: (B, C_v, size, size).

    Returns:
        (B, C_v, w, w).
    """
    fetched = value.flatten(2) @ attention(query, key).transpose(1, 2)  # (B, C_v, w w)
    return fetched.reshape(*fetched.shape[:2], *query.shape[2:])


def attention(query: Tensor, key: Tensor) -> Tensor:
    """How much of each position of the memory each position of `query` takes.

    Args:
        query: (B, C, h, w).
        key: (B, C, size, size).

    Returns:
        (B, h w, size size), row by row; sums to 1 over the memory.
    """
    logits = query.flatten(2).transpose(1, 2) @ key.flatten(2) * QUERY_SCALE
    return torch.softmax(logits, dim=-1)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Channels of `even` and of `odd` in turn: undoes the split by parity."""
    return torch.stack((even, odd), dim=2).flatten(1, 2)
