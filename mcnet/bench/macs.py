"""Counts the multiply-accumulates that a network costs per frame: what decides whether it is live on a CPU."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mcnet.arrays import SourceCache
from mcnet.config import McnetConfig
from mcnet.engine.rewrites import rewrite
from mcnet.generator import Mcnet, Warped


class FrameMacs(NamedTuple):
    """Multiply-accumulates of one frame in units of 10^9 (GMAC), of convolutions and matrix products.

    BatchNorms and sampling are left out.

    Attributes:
        detector: the performer's keypoints.
        motion: dense motion.
        memory: compensation of the warped features.
        decoder: the rest.
    """

    detector: float
    motion: float
    memory: float
    decoder: float

    @property
    def total(self) -> float:
        """Of the frame."""
        return sum(self)


class Macs(NamedTuple):
    """What a network costs.

    Attributes:
        plain: a frame as the network is written down; the source is cached.
        rewritten: a frame after the exact rewrites.
        source: GMAC once per source, its keypoints left out.
        parameters: in millions.
    """

    plain: FrameMacs
    rewritten: FrameMacs
    source: float
    parameters: float


@functools.cache  # it takes a second, and an ablation that is gone on with asks again
def count_macs(config: McnetConfig) -> Macs:
    """Count on a network of that size; its weights do not matter."""
    with torch.device("meta"):  # shapes are enough
        model = Mcnet(config).eval().requires_grad_(False)
    plain = _count_frame(model)
    picture = _picture(config)
    source = _gmac(lambda: model.encode_source(picture)) - plain.detector
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return Macs(plain, _count_frame(rewrite(model)), source, parameters)


@torch.no_grad()
def _count_frame(model: Mcnet) -> FrameMacs:
    generator = model.generator
    picture = _picture(model.config)
    cache = model.encode_source(picture)
    warped = generator.warp(cache, generator.motion(cache, cache.keypoints))
    memory = _gmac(lambda: _compensate(model, cache, warped))
    return FrameMacs(
        detector=_gmac(lambda: model.keypoint_detector(picture)),
        motion=_gmac(lambda: generator.motion(cache, cache.keypoints)),
        memory=memory,
        decoder=_gmac(lambda: generator.decode(cache, warped)) - memory,
    )


def _picture(config: McnetConfig) -> torch.Tensor:
    return torch.empty(1, 3, config.size_px, config.size_px, device="meta")


def _compensate(model: Mcnet, cache: SourceCache, warped: Warped) -> None:
    memory = model.generator.memory
    for feature in warped.features:
        if memory is not None and feature.shape[-1] in model.generator.memory_levels_px:
            memory(feature, cache.keypoints, cache.memory)


def _gmac(run: Callable[[], object]) -> float:
    # The counter does not know every fused attention, but what that is made of.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return float(counter.get_total_flops()) / 2e9
