import pytest

from app.pipeline.capture.camera import RateProbe
from tests.app.pipeline.capture.fake_capture import Clock

PLAUSIBLE_HZ = (0.5, 250.0)


def probed(clock: Clock, waits_s: list[float]) -> tuple[float, int]:
    """The rate of a camera whose frames come after these waits, and how many were looked at."""
    probe = RateProbe()
    probe.arrived()
    for frames, wait_s in enumerate(waits_s, 2):
        clock.pass_s(wait_s)
        probe.arrived()
        if probe.is_done:
            return probe.rate_hz(PLAUSIBLE_HZ, 30.0), frames
    raise AssertionError(f"not known after {len(waits_s)} waits")


@pytest.mark.parametrize("before", range(11))
@pytest.mark.parametrize("stall_s", [0.5, 1.0, 2.5])
def test_a_stall_is_not_the_rate(clock: Clock, before: int, stall_s: float) -> None:
    assert probed(clock, [0.04] * before + [stall_s] + [0.04] * 20)[0] == 25.0


def test_nor_are_two_of_them(clock: Clock) -> None:
    assert probed(clock, [0.04] * 2 + [0.6, 0.6] + [0.04] * 20)[0] == 25.0


@pytest.mark.parametrize("before", range(3))
def test_nor_are_a_few_frames_that_come_in_a_heap_after_it(clock: Clock, before: int) -> None:
    assert probed(clock, [0.04] * before + [1.0] + [0.006] * 3 + [0.04] * 20)[0] == 25.0


@pytest.mark.parametrize("before", range(3))
def test_of_a_heap_that_does_not_end_nothing_is_learned(clock: Clock, before: int) -> None:
    assert probed(clock, [0.04] * before + [1.0] + [0.0] * 20)[0] == 30.0


@pytest.mark.parametrize(("step_s", "frames"), [(1 / 60, 12), (1 / 15, 12), (0.2, 7), (0.5, 4), (1.0, 4), (2.0, 3)])
def test_a_slow_camera_is_waited_for_no_longer_than_it_takes(clock: Clock, step_s: float, frames: int) -> None:
    assert probed(clock, [step_s] * 20) == (round(1 / step_s, 1), frames)


@pytest.mark.parametrize("waits_s", [[0.1, 0.5], [0.7, 1.3], [1.9, 0.1], [0.01, 3.0]])
def test_a_camera_whose_frames_come_unevenly_is_not_waited_for_long(clock: Clock, waits_s: list[float]) -> None:
    start_s = clock()
    rate_hz, _ = probed(clock, waits_s * 20)
    assert 1 / max(waits_s) - 0.1 <= rate_hz <= 1 / min(waits_s)
    assert clock() - start_s < 6.1
