"""Counts the multiply-accumulates that a network costs a frame: what decides whether it is live on a CPU."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet


class Macs(NamedTuple):
    """Multiply-accumulates in units of 10^9 (GMAC), of convolutions and matrix products.

    Attributes:
        frame: keypoints, motion, warping and decoding of one driving frame; the source is cached. Counted as the
            network is written: nearest x2 + 3x3 convolutions as they stand, BatchNorms and sampling left out.
        rewritten: the same with each UpBlock's convolution as four 2x2 ones (4/9 of the work), an exact rewrite.
        detector: part of `frame`.
        motion: part of `frame`.
        source: once per source.
        parameters: in millions.
    """

    frame: float
    rewritten: float
    detector: float
    motion: float
    source: float
    parameters: float


def count_macs(config: McnetConfig) -> Macs:
    """Count on a network of that size; its weights do not matter."""
    model = Mcnet(config).eval().requires_grad_(False)
    picture = torch.zeros(1, 3, config.size_px, config.size_px)
    with torch.no_grad():
        cache = model.encode_source(picture)
        source = _gmac(lambda: model.encode_source(picture))
        detector = _gmac(lambda: model.keypoint_detector(picture))
        motion = _gmac(lambda: model.generator.motion(cache, cache.keypoints))
        ups: list[float] = []
        handles = [
            module.register_forward_hook(lambda m, _i, output: ups.append(m.conv.weight.numel() * output[0, 0].numel()))
            for name, module in model.named_modules()
            if "up_blocks" in name and type(module).__name__ == "UpBlock"
        ]
        model.keypoint_detector(picture)
        frame = detector + _gmac(lambda: model.generator(cache, cache.keypoints))
        for handle in handles:
            handle.remove()
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return Macs(frame, frame - sum(ups) / 1e9 * 5 / 9, detector, motion, source - detector, parameters)


def _gmac(run: object) -> float:
    assert callable(run)
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2e9
