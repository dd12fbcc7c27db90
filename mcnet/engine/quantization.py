"""Where the decoder's activations lie, so that its convolutions may be computed in 8 bits.

Not those of dense motion: what its hourglass sees depends on how far a performer moves, and where values are clipped or
rounded the wrong part of the face is shown (measured: errors of up to half the range).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.config import range_names
from mcnet.engine.rewrites import rewrite
from mcnet.errors import UserError
from mcnet.generator import Mcnet
from mcnet.model_file import driven_as_trained, with_own_jacobians
from mcnet.pictures import to_picture
from mcnet.pose import relative_keypoints

BEYOND = 1e-4
"""Of the values that go into a convolution, the share that may lie beyond either end of its range, and is clipped. Some
portraits have single values several times as large as all others: a range that holds them has few steps left for the
rest (docs/performance.md has the figures)."""
BEYOND_OF_FEATURES = 5e-4
"""Likewise of what is picked from warped features and from the memory, where such values are."""
_LOOKED_AT = 50_000
"""Of a convolution's values in one picture, at most so many, evenly spaced."""


FacePlaces = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]
"""Measured places of the keypoints of sources and of driving frames."""


class QuantizationError(UserError, ValueError):
    """A model's activations cannot be measured; the message says where."""


@torch.inference_mode()
def measure_ranges(
    model: Mcnet, sources: NDArray[np.uint8], driving: NDArray[np.uint8], places: FacePlaces | None = None
) -> dict[str, tuple[float, float]]:
    """Animate every source by every frame, in float32 on the CPU, and see which values go into the convolutions.

    Args:
        model: stays as it is.
        sources: (N, size_px, size_px, 3) uint8 RGB.
        driving: (M, size_px, size_px, 3) uint8 RGB; relative motion, the first frame is the reference pose.
        places: of the keypoints in both, (N, K, 2) and (M, K, 2), if they were measured; jacobians are the model's own.
            None: the model detects them.

    Returns:
        By name, as `mcnet.model_file.Ranges`: what holds all values of all pictures but the share `BEYOND` or
        `BEYOND_OF_FEATURES` at each end. Some 200 kB of memory are needed for each range and pair of pictures.

    Raises:
        QuantizationError: the model gives values that are not finite.
    """
    fast = rewrite(model).float().cpu()
    generator = fast.generator
    seen: dict[str, list[Tensor]] = {}

    def see(name: str, values: Tensor) -> None:
        least, largest = (float(value) for value in torch.aminmax(values))
        if not (np.isfinite(least) and np.isfinite(largest)):
            raise QuantizationError(
                f"{name}: got values between {least} and {largest}, expected finite ones; the model overflows on these "
                "pictures and cannot be computed in 8 bits"
            )
        every = -(-values.numel() // _LOOKED_AT) | 1  # an odd step meets all columns of a map
        seen.setdefault(name, []).append(values.flatten()[::every].clone())

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, inputs: see(name, inputs[0])

    wanted = range_names(model.config)
    for name, module in generator.named_modules():
        if name in wanted:
            module.register_forward_pre_hook(hook(name))
    of_sources, of_driving = (None, None) if places is None else places
    frames = _keypoints(fast, driving, of_driving)
    for picture, keypoints in zip(_pictures(sources), _keypoints(fast, sources, of_sources), strict=True):
        cache = generator.encode_source(picture[None], keypoints)
        for frame in frames:
            pose = relative_keypoints(cache.keypoints, frame, frames[0])
            if places is not None:
                pose = driven_as_trained(model.info, pose, cache.keypoints)
            warped = generator.warp(cache, generator.motion(cache, pose))
            for feature in warped.features[:-1]:
                see(f"warped_{feature.shape[-1]}", feature)
            generator.decode(cache, warped)
    return {
        name: range_of(torch.cat(parts), BEYOND_OF_FEATURES if name.startswith(("warped_", "memory.")) else BEYOND)
        for name, parts in sorted(seen.items())
    }


def range_of(values: Tensor, share: float) -> tuple[float, float]:
    """What holds 0 and all (n,) values but that share at each end."""
    beyond = int(share * len(values))
    ordered = values.sort().values
    return min(0.0, float(ordered[beyond])), max(0.0, float(ordered[-1 - beyond]))


def note_ranges(
    model: Mcnet, sources: NDArray[np.uint8], driving: NDArray[np.uint8], places: FacePlaces | None = None
) -> None:
    """Measure the ranges of a model's activations and note them in its `info`; arguments as `measure_ranges`'."""
    model.info = dataclasses.replace(model.info, ranges=measure_ranges(model, sources, driving, places))


def _keypoints(model: Mcnet, rgb: NDArray[np.uint8], places: NDArray[np.floating[Any]] | None) -> list[Keypoints]:
    """Of each picture, batch 1."""
    found: list[Keypoints] = []
    for index, picture in enumerate(_pictures(rgb)):
        if places is None:
            found.append(model.keypoint_detector(picture[None]))
            continue
        value = torch.from_numpy(places[index : index + 1].astype(np.float32))
        if model.info.keypoint_jacobians == "detected":
            found.append(model.keypoint_detector(picture[None])._replace(value=value))
        else:
            found.append(with_own_jacobians(model.info, Keypoints(value, torch.empty(0))))
    return found


def _pictures(rgb: NDArray[np.uint8]) -> Tensor:
    return to_picture(torch.from_numpy(np.ascontiguousarray(rgb)))
