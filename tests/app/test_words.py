"""The words of facts that both the window and the command line say."""

from pathlib import Path

import pytest

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import CameraOpened, Measured, UnusedGpu
from app.words import measured_words, unmet_wishes_words
from mcnet.bench.tiers import Failure, Tier, Timing
from mcnet.engine import Way

CPU, GPU = Way("cpu", "fp32", "torch"), Way("cuda:0", "fp16", "cudagraph")


def test_a_gpu_that_is_not_used_is_told_with_the_reason() -> None:
    lost = Failure(GPU, "CUDA error: out of memory")
    measured = Measured(Tier(Timing(CPU, 48.123), (), (lost,)), (UnusedGpu("an AMD GPU", "so"),))
    assert measured_words(measured) == (
        "a frame of the model takes 48.1 ms on cpu in fp32 with torch; the GPU is not used: cuda:0 in fp16 with "
        "cudagraph: CUDA error: out of memory; an AMD GPU is there, but is not used: so"
    )


def test_a_gpu_that_is_used_needs_no_excuse() -> None:
    lost = Failure(Way("cuda:1", "fp16", "cudagraph"), "CUDA error: out of memory")
    assert measured_words(Measured(Tier(Timing(GPU, 1.67), (Timing(CPU, 48.123),), (lost,)))) == (
        "a frame of the model takes 1.67 ms on cuda:0 in fp16 with cudagraph (48.1 ms on cpu in fp32 with torch)"
    )


@pytest.mark.parametrize(
    ("size_px", "fps_hz", "words"),
    [
        ((640, 480), 30.0, ""),
        ((640, 480), 26.0, ""),
        ((640, 480), 15.0, "asked for 30 frames/s, gives 15 (more light often helps)"),
        ((1280, 720), 29.9, "asked for 640x480, gives 1280x720"),
        (
            (1280, 720),
            15.0,
            "asked for 640x480, gives 1280x720; asked for 30 frames/s, gives 15 (more light often helps)",
        ),
    ],
)
def test_what_a_device_gives_otherwise_than_it_was_asked_is_told(
    size_px: tuple[int, int], fps_hz: float, words: str
) -> None:
    assert unmet_wishes_words(CameraOpened(CameraSpec("device"), 1, "camera 0", *size_px, fps_hz)) == words


def test_a_file_was_asked_for_nothing() -> None:
    spec = CameraSpec("file", path=Path("talk.mp4"))
    assert unmet_wishes_words(CameraOpened(spec, 1, "talk.mp4", 1920, 1080, 12.0)) == ""
