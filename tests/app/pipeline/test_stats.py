import time

import pytest

from app.pipeline.state import State
from app.pipeline.stats import Meter, Percentiles


def test_percentiles_by_the_nearest_rank() -> None:
    assert Percentiles.of([]) == Percentiles(0.0, 0.0, 0.0)
    assert Percentiles.of([float(value) for value in range(100, 0, -1)]) == Percentiles(50.0, 95.0, 99.0)
    assert Percentiles.of([3.0]) == Percentiles(3.0, 3.0, 3.0)
    assert Percentiles.of([1.0, 2.0]) == Percentiles(1.0, 2.0, 2.0)
    assert Percentiles.of([float(value) for value in range(1, 22)]) == Percentiles(11.0, 20.0, 21.0)


def run(meter: Meter, start_s: float, seconds: float) -> None:
    """30 frames per second come, every second one is dropped, the others go out 40 ms old, each picture twice."""
    for frame in range(round(30 * seconds)):
        captured_s = start_s + frame / 30
        meter.camera_frame(captured_s)
        if frame % 2:
            meter.drop("hop", captured_s)
        else:
            meter.stage("render", captured_s + 0.03, 0.025)
            meter.picture(captured_s + 0.04, captured_s, fresh=True)
            meter.picture(captured_s + 0.06, captured_s, fresh=False)


def test_recent_figures_are_those_of_the_last_seconds() -> None:
    meter = Meter(("hop",))
    now_s = time.monotonic()
    run(meter, now_s, 20.0)
    meter._began_s = now_s
    stats = meter.recent(State.LIVE, now_s + 20.0)
    assert stats.fps == pytest.approx(15, rel=0.05)
    assert stats.camera_fps == pytest.approx(30, rel=0.05)
    assert stats.sink_fps == pytest.approx(30, rel=0.05)
    assert stats.drop_share == pytest.approx(0.5, rel=0.05)
    assert stats.age_ms.p95 == pytest.approx(40)
    assert stats.stage_ms["render"].p50 == pytest.approx(25)
    assert (stats.frames_in, stats.frames_out) == (600, 300)


def test_a_stall_shows_in_the_rate() -> None:
    meter = Meter(("hop",))
    now_s = time.monotonic()
    meter._began_s = now_s - 60
    run(meter, now_s, 1.0)
    assert meter.recent(State.FAULT, now_s + 5.0).fps == pytest.approx(3, rel=0.1)


def test_a_report_counts_from_the_first_frame_that_went_out_and_adds_up() -> None:
    meter = Meter(("hop",))
    now_s = time.monotonic()
    for frame in range(100):  # while the model loads
        meter.camera_frame(now_s - 10 + frame / 30)
        meter.drop("hop", now_s - 10 + frame / 30)
    run(meter, now_s, 10.0)
    stats = meter.overall(State.LIVE, now_s + 10.0)
    assert (stats.frames_in, stats.frames_out, stats.dropped) == (300, 150, {"hop": 150})
    assert stats.drop_share == pytest.approx(0.5)
    assert stats.fps == pytest.approx(15, rel=0.02)


def test_without_a_frame_out_a_report_is_empty() -> None:
    meter = Meter(("hop",))
    meter.camera_frame(time.monotonic())
    stats = meter.overall(State.STARTING, time.monotonic())
    assert (stats.frames_in, stats.fps, stats.drop_share) == (0, 0.0, 0.0)
