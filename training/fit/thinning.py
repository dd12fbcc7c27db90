"""A narrower dense motion out of a trained one, for processors that the whole one is too much for.

What is cut away is missed at first. The network learns again, best from the one that it was cut out of: `run.teacher`.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.layers import DownBlock, UpBlock

_PREFIX = "generator.dense_motion."


def can_thin(wide: McnetConfig, narrow: McnetConfig) -> bool:
    """Whether a network is another one whose dense motion has a narrower hourglass; how it sees borders is its own."""
    before, after = wide.motion_hourglass, narrow.motion_hourglass
    changes = [after.channels(depth) - before.channels(depth) for depth in range(min(before.blocks, after.blocks) + 1)]
    return (
        dataclasses.replace(after, width=before.width, max_width=before.max_width) == before
        and dataclasses.replace(narrow, motion_hourglass=before, border=wide.border) == wide
        and max(changes) <= 0
        and min(changes) < 0
    )


def thinned(wide: Mcnet, narrow: McnetConfig) -> dict[str, Tensor]:
    """Weights for the narrower network: of each map the channels that weigh most, with all else as it is.

    A channel weighs the standard deviation of its activation times the norm of the kernels that read it; the mean of
    what is cut away goes into its readers' biases. Mean and deviation are those of BatchNorm's promise: of a normal
    distribution of its bias and weight, behind the ReLU. The statistics of BatchNorm are the wide network's, until they
    are learned anew.

    Args:
        wide: whose weights are taken.
        narrow: what they are for, as `can_thin` has it.

    Returns:
        A whole state dict of it.
    """
    motion = wide.generator.dense_motion
    hourglass, before, after = motion.hourglass, wide.config.motion_hourglass, narrow.motion_hourglass
    weights = {name: weight.clone() for name, weight in wide.state_dict().items()}
    blocks = before.blocks
    down: dict[int, _Map] = {0: _Map.whole(hourglass.out_channels - before.channels(0))}
    up: dict[int, _Map] = {}
    for depth in range(blocks + 1):
        channels, count = before.channels(depth), after.channels(depth)
        above = _block(hourglass.up_blocks[blocks - depth]).conv.weight if depth else None  # reads this depth's maps
        if depth:
            assert above is not None
            readers = [above[:, -channels:]]
            if depth < blocks:
                readers.append(_block(hourglass.down_blocks[depth]).conv.weight)
            down[depth] = _Map.of(_block(hourglass.down_blocks[depth - 1]), readers, count)
        if depth < blocks:
            readers = [motion.mask.weight, motion.occlusion.weight] if above is None else [above]
            made_by = _block(hourglass.up_blocks[blocks - 1 - depth])
            up[depth] = _Map.of(made_by, [weight[:, :channels] for weight in readers], count)
    for depth in range(blocks):
        _cut(weights, f"{_PREFIX}hourglass.down_blocks.{depth}.", down[depth + 1], [down[depth]])
        read = [down[depth + 1]] if depth == blocks - 1 else [up[depth + 1], down[depth + 1]]
        _cut(weights, f"{_PREFIX}hourglass.up_blocks.{blocks - 1 - depth}.", up[depth], read)
    for head in ("mask", "occlusion"):
        _read_less(weights, f"{_PREFIX}{head}.", [up[0], down[0]])
    return weights


@dataclasses.dataclass(frozen=True)
class _Map:
    """What stays of a map.

    Attributes:
        kept: (n,) its channels that stay, in their order.
        missed: (channels,) means of those that do not; 0 for those that do.
    """

    kept: Tensor
    missed: Tensor

    @classmethod
    def whole(cls, channels: int) -> "_Map":
        """All of it."""
        return cls(torch.arange(channels), torch.zeros(channels))

    @classmethod
    @torch.no_grad()
    def of(cls, made_by: DownBlock | UpBlock, readers: Sequence[Tensor], count: int) -> "_Map":
        """The `count` channels of a block's map that weigh most for its readers, (out, channels, 3, 3) each."""
        mean, deviation = _activation(made_by)
        read = torch.stack([weight.double().square().sum((0, 2, 3)) for weight in readers]).sum(0).sqrt()
        kept = (deviation * read).topk(count).indices.sort().values
        missed = mean.index_fill(0, kept, 0.0)
        return cls(kept, missed.float())


def _activation(block: DownBlock | UpBlock) -> tuple[Tensor, Tensor]:
    """(channels,) float64 mean and standard deviation of max(0, x), x normal as BatchNorm's bias and weight say."""
    norm = block.norm
    assert isinstance(norm, nn.BatchNorm2d)
    bias, weight = norm.bias.double(), norm.weight.double().abs().clamp_min(1e-12)
    normed = bias / weight
    density = torch.exp(-normed.square() / 2) / math.sqrt(2 * math.pi)
    above = torch.special.ndtr(normed)
    mean = (weight * density + bias * above).clamp_min(0)
    square = (bias.square() + weight.square()) * above + bias * weight * density
    return mean, (square - mean.square()).clamp_min(0).sqrt()


def _block(module: nn.Module) -> DownBlock | UpBlock:
    assert isinstance(module, DownBlock | UpBlock)
    return module


def _cut(weights: dict[str, Tensor], name: str, made: _Map, read: Sequence[_Map]) -> None:
    """Keep of a block's weights what it is to make, and to read."""
    _read_less(weights, f"{name}conv.", read)
    for part in ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        weights[name + part] = weights[name + part][made.kept]


def _read_less(weights: dict[str, Tensor], name: str, read: Sequence[_Map]) -> None:
    """Keep of a convolution's kernels those that read what stays of some maps, of which its input is made."""
    kernels = weights[f"{name}weight"]
    missed = torch.cat([one.missed for one in read])
    weights[f"{name}bias"] = weights[f"{name}bias"] + kernels.sum((2, 3)) @ missed
    starts = itertools.accumulate((len(one.missed) for one in read), initial=0)
    kept = torch.cat([start + one.kept for start, one in zip(starts, read, strict=False)])
    weights[f"{name}weight"] = kernels[:, kept].contiguous()
