"""Torch behind the engine's seam. Importing this imports torch."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mcnet.arrays import Array, ConditionedMemory, Flow, Keypoints, Rgb, SourceCache
from mcnet.dense_motion import Motion
from mcnet.engine.backends import Rendered
from mcnet.engine.rewrites import rewrite
from mcnet.generator import Mcnet, Warped, blend
from mcnet.pictures import to_picture, to_rgb

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By the names that `DeviceChoice.dtype` has."""

Method = TypeVar("Method", bound=Callable[..., Any])


def exactly(method: Method) -> Method:
    """Compute without gradients, and keep cuDNN from doing float32 convolutions in TF32.

    Its ten bits are 0.1 px of a keypoint's place.
    """

    @functools.wraps(method)
    def computed(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return method(*args, **kwargs)

    return computed  # type: ignore[return-value]


class TorchBackend:
    """Torch, operation by operation, on the rewritten model: float32 up to the warped features, then `dtype`.

    Attributes:
        device: where it is.
        model: rewritten.
    """

    name = "torch"

    @exactly
    def __init__(self, model: Mcnet, device: torch.device, dtype: torch.dtype) -> None:
        """Rewrite a copy of `model`, and put it on the device."""
        self.device = device
        self._dtype = dtype
        self._source: tuple[SourceCache[Array], SourceCache] | None = None
        self.model = rewrite(model).to(device)
        for weight in self.model.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        generator = self.model.generator
        for part in (generator.memory, generator.res_stages, generator.up_blocks, generator.final):
            if part is not None:
                part.to(dtype)

    @exactly
    def detect(self, rgb: Rgb) -> Keypoints[Array]:
        found: Keypoints[Array] = _on_host(self.model.keypoint_detector(self._picture(rgb)))
        return found

    @exactly
    def encode(self, rgb: Rgb, keypoints: Keypoints[Array]) -> SourceCache[Array]:
        source = self.model.generator.encode_source(self._picture(rgb), self.moved(keypoints))
        cache: SourceCache[Array] = _on_host(source)
        return cache

    @exactly
    def render(self, cache: SourceCache[Array], driving: Keypoints[Array], *, with_flow: bool = False) -> Rendered:
        packed, witness, motion = self.predict(self.taken(cache), self.moved(driving))
        flow = None
        if with_flow:
            flow = Flow(motion.deformation.cpu().numpy(), motion.occlusion[:, 0].cpu().numpy())
        rgb: Rgb = packed.cpu().numpy()
        return Rendered(rgb, witness.item(), flow)

    def taken(self, cache: SourceCache[Array]) -> SourceCache:
        """The source on the device; copied there when it is another one than before."""
        if self._source is None or self._source[0] is not cache:
            tensors: SourceCache = _map(cache, lambda array: torch.from_numpy(array).to(self.device))
            features = tuple(feature.contiguous(memory_format=torch.channels_last) for feature in tensors.features)
            memory = tensors.memory
            if memory is not None:
                memory = ConditionedMemory(*(part.to(self._dtype) for part in memory))
            self._source = cache, tensors._replace(features=features, memory=memory)
        return self._source[1]

    def moved(self, keypoints: Keypoints[Array]) -> Keypoints:
        """Keypoints on the device."""
        return Keypoints(*(torch.from_numpy(np.ascontiguousarray(part)).to(self.device) for part in keypoints))

    def predict(self, cache: SourceCache, driving: Keypoints) -> tuple[Tensor, Tensor, Motion]:
        """`render`, all of it on the device: waits for nothing."""
        generator = self.model.generator
        motion = generator.motion(cache, driving)
        warped = generator.warp(cache, motion)
        prediction = blend(generator.decode(cache, self.narrow(warped)).float(), warped)
        # One number tells of any NaN or infinity: each of them survives a sum. Keypoints are in it, since sampling at
        # NaN gives zeros.
        witness = prediction.sum() + driving.value.sum() + driving.jacobian.sum()
        return to_rgb(prediction), witness, motion

    def narrow(self, warped: Warped) -> Warped:
        """As the decoder wants it."""
        if self._dtype == torch.float32:
            return warped
        features = tuple(feature.to(self._dtype, memory_format=torch.channels_last) for feature in warped.features)
        return Warped(features, warped.picture, warped.occlusion.to(self._dtype))

    def _picture(self, rgb: Rgb) -> Tensor:
        return to_picture(torch.from_numpy(rgb).to(self.device))


def _on_host(value: Any) -> Any:
    return _map(value, lambda tensor: tensor.detach().float().cpu().contiguous().numpy())


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` (an array, a string, None, or tuples of them) with every array, or tensor, changed."""
    if isinstance(value, np.ndarray | Tensor):
        return change(value)
    if isinstance(value, tuple):
        items = [_map(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
