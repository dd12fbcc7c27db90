"""The words of facts that both the window and the command line say."""

from app.pipeline.events import Measured, UnusedGpu
from app.words import measured_words
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
