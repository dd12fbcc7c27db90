"""A frame as two recorded CUDA graphs: on a GPU a small network is bound by launching its many operations one by one.

Measured on one NVIDIA H200 with torch 2.11 (CUDA 13.0), bf16, one frame from uint8 to uint8: 1.6 ms against 5.3 for the
starter, 5.5 against 8.7 for a network of the released size (docs/performance.md). On a CPU the tests replay by
computing again, which exercises the buffers. What is recorded is compared with what torch gives, once, before it is
used.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcnet.arrays import Rgb
from mcnet.cuda_recording import record
from mcnet.engine.backends import Rendered, TorchBackend
from mcnet.generator import SourceCache
from mcnet.geometry import Keypoints
from mcnet.pictures import to_picture

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what launches operations on fixed buffers; gives what launches the same ones again."""

LARGEST_ERROR = 2
"""By which the first recorded frame may differ from torch's own, in steps of 255."""


def capture_cuda(launch: Callable[[], None]) -> Callable[[], None]:
    """Record a CUDA graph, after the warm-up on a stream of its own that PyTorch asks for.

    Raises:
        RuntimeError: it cannot be recorded; see `record`.
    """
    before = torch.cuda.current_stream()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        for _ in range(3):
            launch()
    before.wait_stream(stream)
    return record(launch, stream)


class CudaGraphBackend:
    """Keypoints and rendering of single frames, recorded when they are first asked for; batches go to torch.

    Pictures travel through page-locked memory, so that the copies are asynchronous; the one wait of a frame is for its
    picture. Whatever prevents a recording is a RuntimeError: the engine then goes on with torch.
    """

    name = "cudagraph"

    def __init__(self, torch_backend: TorchBackend, capture: Capture = capture_cuda) -> None:
        self._torch = torch_backend
        self._capture = capture
        self._detector: _Detector | None = None
        self._renderer: _Renderer | None = None

    def detect(self, rgb: Rgb) -> Keypoints:
        if len(rgb) > 1:
            return self._torch.detect(rgb)
        with _on(self._torch.device):
            if self._detector is None:
                self._detector = _Detector(self._torch, rgb, self._capture)
            return self._detector(rgb)

    def encode(self, rgb: Rgb, keypoints: Keypoints) -> SourceCache:
        return self._torch.encode(rgb, keypoints)

    def render(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        if len(driving.value) > 1:
            return self._torch.render(cache, driving)
        with _on(self._torch.device):
            if self._renderer is None:
                renderer = _Renderer(self._torch, cache, driving, self._capture)
                _compare(renderer(cache, driving), self._torch.render(cache, driving))
                self._renderer = renderer
            return self._renderer(cache, driving)


class _Detector:
    def __init__(self, backend: TorchBackend, rgb: Rgb, capture: Capture) -> None:
        self._host = _host_buffer(rgb.shape, torch.uint8, backend.device)
        self._copied = torch.cuda.Event() if backend.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._found: list[Keypoints] = []
        self._host.copy_(torch.from_numpy(rgb))

        def launch() -> None:
            picture = to_picture(self._host.to(backend.device, non_blocking=True))
            self._found[:] = [backend.model.keypoint_detector(picture)]

        self._replay = capture(launch)

    def __call__(self, rgb: Rgb) -> Keypoints:
        if self._copied is not None:
            self._copied.synchronize()  # the picture before may still be on its way
        self._host.copy_(torch.from_numpy(rgb))
        self._replay()
        if self._copied is not None:
            self._copied.record()
        return Keypoints(*(tensor.clone() for tensor in self._found[0]))


class _Renderer:
    def __init__(self, backend: TorchBackend, cache: SourceCache, driving: Keypoints, capture: Capture) -> None:
        self._device = backend.device
        self._cache = _tensors(cache)
        self._own_cache: SourceCache = _cloned(cache)
        self._driving = Keypoints(*(tensor.clone() for tensor in driving))
        size_px = cache.picture.shape[-1]
        self._rgb = _host_buffer((1, size_px, size_px, 3), torch.uint8, backend.device)
        self._witness = _host_buffer((), torch.float32, backend.device)

        def launch() -> None:
            packed, witness = backend.predict(self._own_cache, self._driving)
            self._rgb.copy_(packed, non_blocking=True)
            self._witness.copy_(witness, non_blocking=True)

        self._replay = capture(launch)

    def __call__(self, cache: SourceCache, driving: Keypoints) -> Rendered:
        tensors = _tensors(cache)
        if any(new is not old for new, old in zip(tensors, self._cache, strict=True)):
            self._cache = []  # what is half copied is nobody's
            for own, new in zip(_tensors(self._own_cache), tensors, strict=True):
                own.copy_(new)
            self._cache = tensors
        for own, new in zip(self._driving, driving, strict=True):
            own.copy_(new)
        self._replay()
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return Rendered(self._rgb.numpy().copy(), float(self._witness))


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Make a GPU the current one: streams and events are made there, which may be another one than the first."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _compare(recorded: Rendered, expected: Rendered) -> None:
    error = np.abs(recorded.rgb.astype(np.int16) - expected.rgb.astype(np.int16)).max()
    if error > LARGEST_ERROR:
        raise RuntimeError(f"the recorded graph differs from torch by {error} steps of 255, expected {LARGEST_ERROR}")


def _host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def _tensors(cache: SourceCache) -> list[Tensor]:
    memory = () if cache.memory is None else cache.memory
    return [cache.picture, cache.small, *cache.keypoints, cache.heatmaps, *cache.features, *memory]


def _cloned(value: Any) -> Any:
    """A cache with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.preserve_format)
    if isinstance(value, tuple):
        items = [_cloned(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
