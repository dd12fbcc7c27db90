"""What computes for the engine: one interface, and torch's own way of meeting it."""

import copy
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mcnet.arrays import Rgb
from mcnet.generator import Mcnet, SourceCache, Warped, blend
from mcnet.geometry import Keypoints
from mcnet.pictures import to_picture, to_rgb


class Rendered(NamedTuple):
    """Frames.

    Attributes:
        rgb: (B, size_px, size_px, 3) uint8, a fresh array.
        witness: a number that is NaN or infinite if any keypoint or colour was; uint8 cannot tell.
    """

    rgb: Rgb
    witness: float


class Backend(Protocol):
    """What computes. The engine has one, and may change it between two calls.

    Every call comes from one thread, in inference mode. Pictures are (B, size_px, size_px, 3) uint8 RGB. Sources and
    keypoints are on the engine's device and may come from another backend of the same model and precision.

    Attributes:
        name: for people.
    """

    name: str

    def detect(self, rgb: Rgb) -> Keypoints:
        """Keypoints of B pictures, float32; asked only of a model that detects (`ModelInfo.detects`)."""
        ...

    def encode(self, rgb: Rgb, keypoints: Keypoints) -> SourceCache:
        """Everything that a source (B = 1) and its keypoints settle."""
        ...

    def render(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        """One source, taking the keypoints of B frames."""
        ...


class TorchBackend:
    """Torch, operation by operation, on the rewritten model: float32 up to the warped features, then `dtype`.

    Attributes:
        device: where it is.
        model: the copy.
    """

    name = "torch"

    def __init__(self, model: Mcnet, device: torch.device, dtype: torch.dtype) -> None:
        """Take a copy of `model`, which is rewritten already (`mcnet.engine.rewrites.rewrite`)."""
        self.device = device
        self._dtype = dtype
        self.model = copy.deepcopy(model).to(device)
        for weight in self.model.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        generator = self.model.generator
        for part in (generator.memory, generator.res_stages, generator.up_blocks, generator.final):
            if part is not None:
                part.to(dtype)

    def detect(self, rgb: Rgb) -> Keypoints:
        keypoints: Keypoints = self.model.keypoint_detector(to_picture(torch.from_numpy(rgb).to(self.device)))
        return keypoints

    def encode(self, rgb: Rgb, keypoints: Keypoints) -> SourceCache:
        picture = to_picture(torch.from_numpy(rgb).to(self.device))
        cache: SourceCache = self.model.generator.encode_source(picture, keypoints)
        features = tuple(feature.contiguous(memory_format=torch.channels_last) for feature in cache.features)
        return cache._replace(features=features)

    def render(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        packed, witness = self.predict(cache, driving)
        rgb: Rgb = packed.cpu().numpy()
        return Rendered(rgb, witness.item())

    def predict(self, cache: SourceCache, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """`render`, left on the device: waits for nothing."""
        generator = self.model.generator
        warped = generator.warp(cache, generator.motion(cache, driving))
        prediction = blend(generator.decode(cache, self.narrow(warped)).float(), warped)
        # One number tells of any NaN or infinity: each of them survives a sum. Keypoints are in it, since sampling at
        # NaN gives zeros.
        witness = prediction.sum() + driving.value.sum() + driving.jacobian.sum()
        return to_rgb(prediction), witness

    def narrow(self, warped: Warped) -> Warped:
        """As the decoder wants it."""
        if self._dtype == torch.float32:
            return warped
        features = tuple(feature.to(self._dtype, memory_format=torch.channels_last) for feature in warped.features)
        return Warped(features, warped.picture, warped.occlusion.to(self._dtype))


class Preparation:
    """A backend in the making, on a thread of its own.

    Attributes:
        backend: once it is made.
        failure: what prevented it.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        """Start making it."""
        self._make = make
        self.backend: Backend | None = None
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="mcnet-backend")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it is made, or never will be."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it is done."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.backend = self._make()
        except Exception as error:  # whatever it is, the engine says it and goes on
            self.failure = error
