"""Recorded frames: their buffers on a CPU, where replaying computes again; everything where there is a GPU."""

import functools
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mcnet import Engine, EngineError, EngineOptions, Mcnet, load_model
from mcnet.arrays import Array, Keypoints, SourceCache
from mcnet.engine import DeviceChoice, Way
from mcnet.engine.cuda_graph import Capture, CudaGraphBackend, capture_cuda
from mcnet.engine.torch_backend import TorchBackend
from tests.mcnet.engine.test_engine import Pictures, difference, plain_picture

CPU = torch.device("cpu")


def compute_again(launch: Callable[[], None]) -> Callable[[], None]:
    """Stands in for a recording."""
    launch()
    return launch


def test_buffers_are_filled_anew_for_each_frame(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(tiny, CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, compute_again)
    faces = [pictures[name][None] for name in ("source", "driving")]
    caches = [recorded.encode(face, recorded.detect(face)) for face in faces]
    kept: list[tuple[object, ...]] = []
    for turn in (0, 1, 0):
        found = recorded.detect(faces[turn])
        expected = torch_backend.detect(faces[turn])
        np.testing.assert_equal(found, expected)
        for cache in caches:
            moved = Keypoints(found.value + np.float32(0.1), found.jacobian)
            shown, again = recorded.render(cache, moved), torch_backend.render(cache, moved)
            np.testing.assert_array_equal(shown.rgb, again.rgb)
            assert shown.witness == pytest.approx(again.witness)
            kept.append((shown.rgb, again.rgb, found.value, expected.value))
    for shown_rgb, again_rgb, found_value, expected_value in kept:  # nothing that was given is written over
        np.testing.assert_array_equal(shown_rgb, again_rgb)
        np.testing.assert_array_equal(found_value, expected_value)


def test_batches_go_to_torch(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(tiny, CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, compute_again)
    both = np.stack([pictures["source"], pictures["driving"]])
    keypoints = recorded.detect(both)
    assert keypoints.value.shape[0] == 2
    assert recorded.render(recorded.encode(both[:1], recorded.detect(both[:1])), keypoints).rgb.shape == (
        2,
        256,
        256,
        3,
    )


def test_a_recording_that_shows_something_else_is_refused(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(tiny, CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, lambda _: lambda: None)
    source = pictures["source"][None]
    cache = torch_backend.encode(source, torch_backend.detect(source))
    with pytest.raises(RuntimeError, match="differs from torch by"):
        recorded.render(cache, cache.keypoints)


def test_it_is_for_gpus(tiny: Mcnet) -> None:
    with pytest.raises(EngineError, match="got 'cudagraph', but cpu was chosen"):
        Engine(tiny, EngineOptions(device="cpu", backend="cudagraph"))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Capture], None]:
    """Has the engine take the CPU for a GPU, on which recording is what a test says."""

    def pretend(capture: Capture) -> None:
        monkeypatch.setattr(DeviceChoice, "kind", "cuda")
        monkeypatch.setattr(
            "mcnet.engine.cuda_graph.CudaGraphBackend", functools.partial(CudaGraphBackend, capture=capture)
        )

    return pretend


AUTO = EngineOptions(device="cpu", precision="fp32")
"""What would be `device="cuda"` on a GPU."""


def fails_at(number: int, error: Exception) -> Capture:
    """The recording of that number, from 1, raises; the first one is the detector's, the second one the renderer's."""
    recordings: list[object] = []

    def capture(launch: Callable[[], None]) -> Callable[[], None]:
        recordings.append(launch)
        if len(recordings) == number:
            raise error
        return compute_again(launch)

    return capture


def test_auto_records_on_a_gpu(
    tiny: Mcnet, pictures: Pictures, as_on_a_gpu: Callable[[Capture], None], caplog: pytest.LogCaptureFixture
) -> None:
    as_on_a_gpu(compute_again)
    with caplog.at_level(logging.WARNING):
        engine = Engine(tiny, AUTO)
    assert engine.backend_name == "cudagraph"
    assert engine.backend_reason == "recorded frames are the fastest on GPUs"
    engine.set_source(pictures["source"])
    got = engine.animate(pictures["driving"], relative=False)
    assert difference(got, plain_picture(tiny, pictures["source"], pictures["driving"])).max() <= 1
    assert not caplog.records
    measured = Way("cpu", "fp32", "torch")
    assert Engine(tiny, EngineOptions(device="cpu", precision="fp32", measured=measured)).backend_name == "torch"


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
NOT_PERMITTED = RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.parametrize("error", [NO_MEMORY, NOT_PERMITTED], ids=["memory", "operation"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("warm_up_frames", [0, 2])
def test_torch_goes_on_and_says_why_where_recording_fails(
    number: int,
    error: Exception,
    warm_up_frames: int,
    tiny: Mcnet,
    pictures: Pictures,
    as_on_a_gpu: Callable[[Capture], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    as_on_a_gpu(fails_at(number, error))
    engine = Engine(tiny, EngineOptions(device="cpu", precision="fp32", warm_up_frames=warm_up_frames))
    engine.set_source(pictures["source"])
    got = engine.animate(pictures["driving"], relative=False)
    assert difference(got, plain_picture(tiny, pictures["source"], pictures["driving"])).max() <= 1
    assert engine.backend_name == "torch"
    assert engine.backend_reason == f"cudagraph failed: {error}"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"torch goes on: cudagraph failed: {error}")
    ]


def test_a_recording_that_shows_something_else_is_not_used(
    tiny: Mcnet, as_on_a_gpu: Callable[[Capture], None], caplog: pytest.LogCaptureFixture
) -> None:
    recordings: list[object] = []

    def second_does_nothing(launch: Callable[[], None]) -> Callable[[], None]:
        recordings.append(launch)
        return compute_again(launch) if len(recordings) == 1 else lambda: None

    as_on_a_gpu(second_does_nothing)
    engine = Engine(tiny, AUTO)
    assert engine.backend_name == "torch"
    assert "cudagraph failed: the recorded graph differs from torch by" in engine.backend_reason
    assert "torch goes on" in caplog.text


def test_a_recording_that_fails_is_an_error_where_it_was_asked_for(
    tiny: Mcnet, as_on_a_gpu: Callable[[Capture], None], caplog: pytest.LogCaptureFixture
) -> None:
    as_on_a_gpu(fails_at(2, NO_MEMORY))
    with pytest.raises(
        EngineError, match=r"got 'cudagraph', but cudagraph failed: CUDA out of memory.*use backend auto"
    ):
        Engine(tiny, EngineOptions(device="cpu", precision="fp32", backend="cudagraph", warm_up_frames=0))
    assert "torch goes on" in caplog.text


def test_torch_answers_after_the_memory_of_what_failed_is_free(
    tiny: Mcnet,
    noise: Any,
    as_on_a_gpu: Callable[[Capture], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Memory:
        """Of a recording."""

    held: list[weakref.ref[Memory]] = []
    when_torch_answers: list[bool] = []

    def capture(_: Callable[[], None]) -> Callable[[], None]:
        memory = Memory()
        held.append(weakref.ref(memory))
        raise torch.OutOfMemoryError("CUDA out of memory")

    real = TorchBackend.detect

    def detect(self: TorchBackend, rgb: Any) -> Keypoints[Array]:
        when_torch_answers.append(held[0]() is not None)
        return real(self, rgb)

    monkeypatch.setattr(TorchBackend, "detect", detect)
    as_on_a_gpu(capture)
    Engine(tiny, EngineOptions(device="cpu", precision="fp32", warm_up_frames=0)).detect(noise)
    assert when_torch_answers == [False]
    assert "out of memory" in caplog.text


class FakeCuda:
    """Streams and graphs that only remember which stream is in force.

    Attributes:
        stream: that is in force.
        error: that a recording raises at its end, as CUDA does once an operation was not permitted; None: it ends well.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        self.stream: object = self._stream("the user's")
        self.error = error
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.stream)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self, "stream", stream))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self._stream("side"))
        monkeypatch.setattr(torch.cuda, "stream", self._within)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: "replayed"))
        monkeypatch.setattr(torch.cuda, "graph", self._record)

    @staticmethod
    def _stream(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda _: None)

    @contextmanager
    def _within(self, stream: object) -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        self.stream = before

    @contextmanager
    def _record(self, graph: object, stream: object) -> Iterator[None]:
        del graph
        before, self.stream = self.stream, stream
        yield
        if self.error is not None:  # and the stream of the recording stays in force
            raise self.error
        self.stream = before


@pytest.mark.parametrize("error", [None, NOT_PERMITTED])
def test_the_stream_is_the_one_before_whether_recording_fails_or_not(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcnet.cuda_recording._failed", [])
    cuda = FakeCuda(monkeypatch, error)
    user = cuda.stream
    seen: list[object] = []
    if error is None:
        replay: Any = capture_cuda(lambda: seen.append(cuda.stream))
        assert replay() == "replayed"
    else:
        with pytest.raises(RuntimeError, match="not permitted"):
            capture_cuda(lambda: seen.append(cuda.stream))
    assert cuda.stream is user
    assert len(seen) == 4  # three to warm up, one recorded
    assert all(stream is not user for stream in seen)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("backend", ["cudagraph", "auto"])
@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1), ("bf16", 8), ("fp16", 4)])
def test_recorded_frames_are_the_plain_ones(
    pictures: Pictures, precision: Any, largest: int, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model("starter")
    engine = Engine(model, EngineOptions(device="cuda", precision=precision, backend=backend))
    for source, driving in (("source", "driving"), ("driving", "source"), ("source", "driving")):
        engine.set_source(pictures[source])
        got = engine.animate(pictures[driving], relative=False)
        assert difference(got, plain_picture(model, pictures[source], pictures[driving])).max() <= largest
    assert engine.backend_name == "cudagraph"
    assert not caplog.records


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_batch_on_cuda_is_its_frames(pictures: Pictures) -> None:
    engine = Engine(load_model("starter"), EngineOptions(device="cuda", precision="fp32"))
    engine.set_source(pictures["source"])
    frames = [pictures["driving"], pictures["source"]]
    for frame, picture in zip(frames, engine.animate_batch(frames, relative=False), strict=True):
        assert difference(engine.animate(frame, relative=False), picture).max() <= 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_an_operation_that_cannot_be_recorded_leaves_torch(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = TorchBackend.predict

    def asks_the_host(self: TorchBackend, cache: SourceCache, driving: Keypoints) -> tuple[Any, ...]:
        packed, witness, motion = real(self, cache, driving)
        if torch.cuda.is_current_stream_capturing():
            witness.item()
        return packed, witness, motion

    monkeypatch.setattr(TorchBackend, "predict", asks_the_host)
    model = load_model("starter")
    engine = Engine(model, EngineOptions(device="cuda", precision="fp32"))
    assert engine.backend_name == "torch"
    assert engine.backend_reason.startswith("cudagraph failed: ")
    assert "torch goes on: cudagraph failed: " in caplog.text
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    monkeypatch.undo()
    for one in (engine, Engine(model, EngineOptions(device="cuda", precision="fp32"))):  # and the next one records
        one.set_source(pictures["source"])
        got = one.animate(pictures["driving"], relative=False)
        assert difference(got, plain_picture(model, pictures["source"], pictures["driving"])).max() <= 1
    assert one.backend_name == "cudagraph"
