"""Recorded frames: their buffers on a CPU, where replaying computes again; everything where there is a GPU."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mcnet import Engine, EngineError, EngineOptions, Mcnet, load_model
from mcnet.backends import TorchBackend
from mcnet.cuda_graph import CudaGraphBackend
from mcnet.geometry import Keypoints
from mcnet.rewrites import rewrite
from tests.mcnet.test_engine import Pictures, difference, plain_picture

CPU = torch.device("cpu")


def compute_again(launch: Callable[[], None]) -> Callable[[], None]:
    """Stands in for a recording."""
    launch()
    return launch


@torch.inference_mode()
def test_buffers_are_filled_anew_for_each_frame(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(rewrite(tiny), CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, compute_again)
    faces = [pictures[name][None] for name in ("source", "driving")]
    caches = [recorded.encode(face) for face in faces]
    kept: list[tuple[object, ...]] = []
    for turn in (0, 1, 0):
        found = recorded.detect(faces[turn])
        expected = torch_backend.detect(faces[turn])
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
        for cache in caches:
            moved = Keypoints(found.value + 0.1, found.jacobian)
            shown, again = recorded.render(cache, moved), torch_backend.render(cache, moved)
            np.testing.assert_array_equal(shown.rgb, again.rgb)
            assert shown.witness == pytest.approx(again.witness)
            kept.append((shown.rgb, again.rgb, found.value, expected.value))
    for shown_rgb, again_rgb, found_value, expected_value in kept:  # nothing that was given is written over
        np.testing.assert_array_equal(shown_rgb, again_rgb)
        np.testing.assert_array_equal(found_value, expected_value)


@torch.inference_mode()
def test_batches_go_to_torch(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(rewrite(tiny), CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, compute_again)
    both = np.stack([pictures["source"], pictures["driving"]])
    keypoints = recorded.detect(both)
    assert keypoints.value.shape[0] == 2
    assert recorded.render(recorded.encode(both[:1]), keypoints).rgb.shape == (2, 256, 256, 3)


@torch.inference_mode()
def test_a_recording_that_shows_something_else_is_refused(tiny: Mcnet, pictures: Pictures) -> None:
    torch_backend = TorchBackend(rewrite(tiny), CPU, torch.float32)
    recorded = CudaGraphBackend(torch_backend, lambda _: lambda: None)
    cache = torch_backend.encode(pictures["source"][None])
    with pytest.raises(RuntimeError, match="differs from torch by"):
        recorded.render(cache, cache.keypoints)


def test_it_is_for_gpus(tiny: Mcnet) -> None:
    with pytest.raises(EngineError, match="got 'cudagraph', but cpu was chosen"):
        Engine(tiny, EngineOptions(device="cpu", backend="cudagraph"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1), ("bf16", 8), ("fp16", 4)])
def test_recorded_frames_are_the_plain_ones(
    pictures: Pictures, precision: str, largest: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model("starter")
    engine = Engine(model, EngineOptions(device="cuda", precision=precision, backend="cudagraph"))  # type: ignore[arg-type]
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
