"""Counts the multiply-accumulates that a network costs per frame: what decides whether it is live on a CPU."""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mcnet.arrays import SourceCache
from mcnet.config import McnetConfig
from mcnet.engine.rewrites import rewrite
from mcnet.generator import Mcnet, Warped

_Result = TypeVar("_Result")


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
    plain, source = _count_frame(model)
    rewritten, _ = _count_frame(rewrite(model))
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return Macs(plain, rewritten, source, parameters)


@torch.no_grad()
def _count_frame(model: Mcnet) -> tuple[FrameMacs, float]:
    """Of a frame, and of its source without keypoints; what a part gives is what the next one takes."""
    generator = model.generator
    picture = torch.empty(1, 3, model.config.size_px, model.config.size_px, device="meta")
    keypoints, detector = _counted(lambda: model.keypoint_detector(picture))
    cache, source = _counted(lambda: generator.encode_source(picture, keypoints))
    motion, of_motion = _counted(lambda: generator.motion(cache, keypoints))
    warped = generator.warp(cache, motion)
    _, memory = _counted(lambda: _compensate(model, cache, warped))
    _, decoder = _counted(lambda: generator.decode(cache, warped))
    return FrameMacs(detector, of_motion, memory, decoder - memory), source


def _compensate(model: Mcnet, cache: SourceCache, warped: Warped) -> None:
    memory = model.generator.memory
    for feature in warped.features:
        if memory is not None and feature.shape[-1] in model.generator.memory_levels_px:
            memory(feature, cache.keypoints, cache.memory)


def _counted(run: Callable[[], _Result]) -> tuple[_Result, float]:
    """What it returns, and its GMAC."""
    # The counter does not know every fused attention, but what that is made of.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        result = run()
    return result, float(counter.get_total_flops()) / 2e9
