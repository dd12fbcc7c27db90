"""A narrower dense motion out of a trained one, for processors that the whole one is too much for.

What is cut away is missed at first. The network learns again, best from the one that it was cut out of: `run.teacher`.
"""

import dataclasses
import math

import torch
from torch import Tensor, nn

from mcnet.config import HourglassConfig, McnetConfig
from mcnet.dense_motion import DenseMotion
from mcnet.generator import Mcnet
from mcnet.layers import DownBlock, UpBlock

_PREFIX = "generator.dense_motion."


def can_thin(wide: McnetConfig, narrow: McnetConfig) -> bool:
    """Whether a network is another one whose dense motion has a narrower hourglass, and nothing else."""
    before, after = wide.motion_hourglass, narrow.motion_hourglass
    blocks = range(before.blocks + 1)
    return (
        before != after
        and dataclasses.replace(after, width=before.width, max_width=before.max_width) == before
        and dataclasses.replace(narrow, motion_hourglass=before) == wide
        and all(after.channels(depth) <= before.channels(depth) for depth in blocks)
    )


def thinned(wide: Mcnet, narrow: McnetConfig) -> dict[str, Tensor]:
    """Weights for the narrower network: of each map the channels that weigh most, with all else as it is.

    A channel weighs its mean activation times the norm of the kernels that read it. The mean is that of BatchNorm's
    promise: a normal distribution of its bias and weight, behind the ReLU.

    Args:
        wide: whose weights are taken.
        narrow: what they are for, as `can_thin` has it.

    Returns:
        A whole state dict of it.
    """
    motion = wide.generator.dense_motion
    kept = _kept_channels(motion, wide.config.motion_hourglass, narrow.motion_hourglass)
    weights = dict(wide.state_dict())
    blocks = narrow.motion_hourglass.blocks
    before = wide.config.motion_hourglass
    for depth in range(blocks):
        name = f"{_PREFIX}hourglass.down_blocks.{depth}."
        _cut(weights, name, kept.down[depth + 1], kept.down[depth] if depth else None)
        read = kept.down[depth + 1]
        if depth < blocks - 1:
            read = torch.cat((kept.up[depth + 1], before.channels(depth + 1) + read))
        _cut(weights, f"{_PREFIX}hourglass.up_blocks.{blocks - 1 - depth}.", kept.up[depth], read)
    whole = motion.hourglass.out_channels
    read = torch.cat((kept.up[0], torch.arange(before.channels(0), whole)))
    for head in ("mask", "occlusion"):
        weights[f"{_PREFIX}{head}.weight"] = weights[f"{_PREFIX}{head}.weight"][:, read]
    return {name: weight.clone(memory_format=torch.contiguous_format) for name, weight in weights.items()}


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Channels that stay of an hourglass's maps, in their order, by how often the map was halved.

    Attributes:
        down: of the DownBlocks' maps, from 1 on.
        up: of the UpBlocks' maps, from 0 on.
    """

    down: dict[int, Tensor]
    up: dict[int, Tensor]


@torch.no_grad()
def _kept_channels(motion: DenseMotion, before: HourglassConfig, after: HourglassConfig) -> _Kept:
    hourglass, blocks = motion.hourglass, before.blocks
    kept = _Kept({}, {})
    for depth in range(blocks + 1):
        up = hourglass.up_blocks[blocks - depth] if depth else None  # reads this depth's maps: [up, down]
        channels, count = before.channels(depth), after.channels(depth)
        if depth:
            assert up is not None
            readers = [_block(up).conv.weight[:, -channels:]]
            if depth < blocks:
                readers.append(_block(hourglass.down_blocks[depth]).conv.weight)
            kept.down[depth] = _heaviest(_block(hourglass.down_blocks[depth - 1]), readers, count)
        if depth < blocks:
            readers = (
                [head.weight for head in (motion.mask, motion.occlusion)] if up is None else [_block(up).conv.weight]
            )
            made_by = _block(hourglass.up_blocks[blocks - 1 - depth])
            kept.up[depth] = _heaviest(made_by, [weight[:, :channels] for weight in readers], count)
    return kept


def _block(module: nn.Module) -> DownBlock | UpBlock:
    assert isinstance(module, DownBlock | UpBlock)
    return module


def _heaviest(made_by: DownBlock | UpBlock, readers: list[Tensor], count: int) -> Tensor:
    """(count,) channels of a block's map, by what they weigh for its readers, (out, channels, 3, 3) each."""
    norm = made_by.norm
    assert isinstance(norm, nn.BatchNorm2d)
    mean, deviation = norm.bias, norm.weight.abs().clamp_min(1e-12)
    normed = mean / deviation
    density = torch.exp(-normed.square() / 2) / math.sqrt(2 * math.pi)
    activation = deviation * density + mean * torch.special.ndtr(normed)
    read = torch.stack([weight.square().sum((0, 2, 3)) for weight in readers]).sum(0).sqrt()
    kept: Tensor = (activation * read).topk(count).indices.sort().values
    return kept


def _cut(weights: dict[str, Tensor], name: str, made: Tensor, read: Tensor | None) -> None:
    """Keep of a block what it is to make, and to read; None: all."""
    kernels = weights[f"{name}conv.weight"][made]
    weights[f"{name}conv.weight"] = kernels if read is None else kernels[:, read]
    weights[f"{name}conv.bias"] = weights[f"{name}conv.bias"][made]
    for part in ("weight", "bias", "running_mean", "running_var"):
        weights[f"{name}norm.{part}"] = weights[f"{name}norm.{part}"][made]
