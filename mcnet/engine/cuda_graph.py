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

from mcnet.arrays import Array, Flow, Keypoints, Rgb, SourceCache
from mcnet.config import MOTION_SIZE_PX
from mcnet.cuda_recording import record
from mcnet.engine.backends import Rendered
from mcnet.engine.torch_backend import TorchBackend, exactly
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

    Frames with their flow are a recording of their own, made when the first one is asked for.

    Pictures travel through page-locked memory, so that the copies are asynchronous; the one wait of a frame is for its
    picture. Whatever prevents a recording is a RuntimeError: the engine then goes on with torch.
    """

    name = "cudagraph"

    def __init__(self, torch_backend: TorchBackend, capture: Capture = capture_cuda) -> None:
        self._torch = torch_backend
        self._capture = capture
        self._detector: _Detector | None = None
        self._renderers: dict[bool, _Renderer] = {}  # by whether they give the flow

    @exactly
    def detect(self, rgb: Rgb) -> Keypoints[Array]:
        if len(rgb) > 1:
            return self._torch.detect(rgb)
        with _on(self._torch.device):
            if self._detector is None:
                self._detector = _Detector(self._torch, rgb, self._capture)
            return self._detector(rgb)

    def encode(self, rgb: Rgb, keypoints: Keypoints[Array]) -> SourceCache[Array]:
        return self._torch.encode(rgb, keypoints)

    @exactly
    def render(self, cache: SourceCache[Array], driving: Keypoints[Array], *, with_flow: bool = False) -> Rendered:
        if len(driving.value) > 1:
            return self._torch.render(cache, driving, with_flow=with_flow)
        with _on(self._torch.device):
            if with_flow not in self._renderers:
                renderer = _Renderer(self._torch, cache, driving, self._capture, with_flow=with_flow)
                _compare(renderer(cache, driving), self._torch.render(cache, driving))
                self._renderers[with_flow] = renderer
            return self._renderers[with_flow](cache, driving)


class _Detector:
    def __init__(self, backend: TorchBackend, rgb: Rgb, capture: Capture) -> None:
        self._device = backend.device
        self._host = _host_buffer(rgb.shape, torch.uint8, backend.device)
        points = backend.model.config.num_keypoints
        shapes = ((1, points, 2), (1, points, 2, 2))
        self._found = [_host_buffer(shape, torch.float32, backend.device) for shape in shapes]
        self._host.copy_(torch.from_numpy(rgb))

        def launch() -> None:
            picture = to_picture(self._host.to(backend.device, non_blocking=True))
            for host, part in zip(self._found, backend.model.keypoint_detector(picture), strict=True):
                host.copy_(part, non_blocking=True)

        self._replay = capture(launch)

    def __call__(self, rgb: Rgb) -> Keypoints[Array]:
        self._host.copy_(torch.from_numpy(rgb))
        self._replay()
        _wait(self._device)
        return Keypoints(*(host.numpy().copy() for host in self._found))


class _Renderer:
    def __init__(
        self,
        backend: TorchBackend,
        cache: SourceCache[Array],
        driving: Keypoints[Array],
        capture: Capture,
        *,
        with_flow: bool,
    ) -> None:
        self._backend = backend
        self._cache = backend.taken(cache)
        self._own_cache: SourceCache = _cloned(self._cache)
        self._driving = Keypoints(*(_host_buffer(part.shape, torch.float32, backend.device) for part in driving))
        self._fill(driving)
        size_px = cache.picture.shape[-1]
        self._rgb = _host_buffer((1, size_px, size_px, 3), torch.uint8, backend.device)
        self._witness = _host_buffer((), torch.float32, backend.device)
        side = MOTION_SIZE_PX
        shapes = ((1, side, side, 2), (1, side, side)) if with_flow else ()
        self._flow = [_host_buffer(shape, torch.float32, backend.device) for shape in shapes]

        def launch() -> None:
            moved = Keypoints(*(part.to(backend.device, non_blocking=True) for part in self._driving))
            packed, witness, motion = backend.predict(self._own_cache, moved)
            self._rgb.copy_(packed, non_blocking=True)
            self._witness.copy_(witness, non_blocking=True)
            if with_flow:
                for host, part in zip(self._flow, (motion.deformation, motion.occlusion[:, 0]), strict=True):
                    host.copy_(part, non_blocking=True)

        self._replay = capture(launch)

    def __call__(self, cache: SourceCache[Array], driving: Keypoints[Array]) -> Rendered:
        taken = self._backend.taken(cache)
        if taken is not self._cache:
            for own, new in zip(_tensors(self._own_cache), _tensors(taken), strict=True):
                own.copy_(new)
            self._cache = taken
        self._fill(driving)
        self._replay()
        _wait(self._backend.device)
        flow = Flow(*(host.numpy().copy() for host in self._flow)) if self._flow else None
        return Rendered(self._rgb.numpy().copy(), float(self._witness), flow)

    def _fill(self, driving: Keypoints[Array]) -> None:
        for own, new in zip(self._driving, driving, strict=True):
            own.numpy()[:] = new


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


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
