import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest

from app.pipeline.events import Event, SinkClosed, SinkFailed, SinkOpened, StageFailed, StateChanged
from app.pipeline.output.output_frame import AvatarPicture, Composed, OutputFrame
from app.pipeline.output.presenter import Presenter
from app.pipeline.output.sink_stage import SinkStage, Ticker
from app.pipeline.output.sinks import HashSink, OutputFormat
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Meter
from app.settings import LiveSettings
from tests.app.fakes import AVATAR_RGB, FakeSink, wait_until

OUTPUT = OutputFormat(320, 240, fps_hz=50)


class Bench:
    """A sink stage on a thread of its own."""

    def __init__(self) -> None:
        self.frames: LatestSlot[OutputFrame] = LatestSlot("frames")
        self.preview: LatestSlot[Composed] = LatestSlot("preview")
        self.events: list[Event] = []
        self.meter = Meter(("hop",))
        self.fault = threading.Event()
        self.stopped = threading.Event()
        self.settings = LiveSettings(background="colour", badge=False)
        self.stage = SinkStage(
            OUTPUT, self.frames, self.preview, Presenter(OUTPUT, 30.0), self.meter, self.events.append
        )
        self.thread = threading.Thread(
            target=self.stage.run, args=(self.stopped.is_set, lambda: self.settings, self.fault.is_set)
        )
        self.thread.start()
        self.sent = 0

    def send(self) -> None:
        self.sent += 1
        avatar = np.full((256, 256, 3), AVATAR_RGB, np.uint8)
        self.frames.put(OutputFrame(self.sent, time.monotonic(), State.LIVE, AvatarPicture(avatar), fresh=True))

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(5.0)
        assert not self.thread.is_alive()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


def test_pictures_go_on_at_the_stated_rate_while_the_model_says_nothing(bench: Bench) -> None:
    sink = FakeSink()
    bench.stage.add(sink)
    wait_until(lambda: sink.opened == 1, "a frame that comes before goes to nobody")
    bench.send()

    def rates_hz(pictures: int) -> list[float]:
        times_s = list(sink.times_s)
        return [pictures / (end - begin) for begin, end in zip(times_s, times_s[pictures:], strict=False)]

    # The clock's mean, not its jitter; and a busy machine does not always let a thread run when it is due.
    wait_until(lambda: max(rates_hz(60), default=0.0) > 40, "sixty pictures at that rate")
    assert max(rates_hz(60)) < 60
    assert len([picture for picture in sink.pictures if picture.fresh]) == 1


def test_sinks_that_fail_are_taken_out_and_the_others_go_on(bench: Bench) -> None:
    good, bad, unopened = FakeSink("good"), FakeSink("bad"), FakeSink("unopened")
    bad.fail_after = 3
    unopened.fail_open = True
    for sink in (good, bad, unopened):
        bench.stage.add(sink)
    wait_until(lambda: len(good.pictures) > 20, "the good one goes on")
    assert SinkFailed("bad", "bad is gone") in bench.events
    assert SinkFailed("unopened", "unopened is busy") in bench.events
    assert (bad.closed, unopened.closed, len(bad.pictures)) == (1, 0, 3)
    bench.stop()
    assert good.closed == 1


def test_a_sink_that_raises_what_nobody_expected_is_taken_out_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeSink):
        def send(self, picture: Composed) -> None:
            raise ZeroDivisionError("oops")

    broken = Broken("broken")
    bench.stage.add(broken)
    wait_until(lambda: broken.closed == 1, "it is closed")
    assert SinkFailed("broken", "broken failed: ZeroDivisionError: oops") in bench.events
    assert "sink broken" in caplog.text


def test_sinks_come_and_go_and_come_again(bench: Bench) -> None:
    sink = FakeSink()
    for _ in range(2):
        bench.stage.add(sink)
        wait_until(lambda: sink.opened > sink.closed, "opened")
        bench.stage.remove(sink.name)
        wait_until(lambda: sink.opened == sink.closed, "closed")
    assert [type(event) for event in bench.events if not isinstance(event, StateChanged)] == [
        SinkOpened,
        SinkClosed,
    ] * 2
    bench.stage.remove("never there")


def test_the_age_is_counted_from_the_capture_to_the_last_sink(bench: Bench) -> None:
    bench.stage.add(FakeSink())
    captured_s = time.monotonic() - 1.0
    avatar = np.zeros((256, 256, 3), np.uint8)
    bench.frames.put(OutputFrame(1, captured_s, State.LIVE, AvatarPicture(avatar), fresh=True))
    wait_until(lambda: bench.meter.frames_out == 1, "it went out")
    stats = bench.meter.recent(State.LIVE, time.monotonic())
    assert 1000 <= stats.age_ms.p50 < 3000
    assert stats.frames_out == 1


def test_the_hash_sink_tells_pictures_apart(bench: Bench) -> None:
    sink = HashSink()
    bench.stage.add(sink)
    wait_until(lambda: len(sink.digests) > 2, "the slate")
    bench.send()
    wait_until(lambda: "live" in sink.states, "the avatar")
    wait_until(lambda: sink.states.count("live") > 30, "after the fade")
    assert sink.digests[0] != sink.digests[-1]
    assert sink.digests[-1] == sink.digests[-2]


def test_a_new_frame_may_go_a_little_early_and_a_stall_makes_no_burst() -> None:
    ticker = Ticker(50, 10.0)
    ticker.went(10.0)
    assert ticker.due_s(early=False) == pytest.approx(10.02)
    assert ticker.due_s(early=True) == pytest.approx(10.005)
    ticker.went(10.005)
    assert ticker.due_s(early=False) == pytest.approx(10.04)  # the grid stays
    ticker.went(11.0)
    assert ticker.due_s(early=False) == pytest.approx(11.0)  # one at once,
    ticker.went(11.0)
    assert ticker.due_s(early=False) == pytest.approx(11.02)  # and no second one


def test_frames_that_come_as_often_as_pictures_go_wait_less_and_less() -> None:
    ticker = Ticker(50, 0.019)
    waits = []
    for step in range(100):
        comes_s = step * 0.02
        goes_s = max(comes_s, ticker.due_s(early=True))
        waits.append(goes_s - comes_s)
        ticker.lean(waits[-1])
        ticker.went(goes_s)
    assert waits[0] > 0.003
    assert waits[-1] < 0.0005


def test_the_beat_follows_a_camera_that_is_a_little_faster() -> None:
    """Or each frame would wait longer than the one before, until one is dropped, and then again."""
    ticker, waits = Ticker(30, 0.0), []
    for step in range(3000):
        comes_s = step / 30.2
        waits.append(max(0.0, ticker.due_s(early=True) - comes_s))
        ticker.lean(waits[-1])
        ticker.went(comes_s + waits[-1])
    assert max(waits[1000:]) < 0.003


@pytest.mark.parametrize(("output_hz", "camera_hz"), [(30, 60), (30, 40), (25, 30), (24, 30), (30, 30), (30, 15)])
def test_the_mean_rate_is_what_was_asked_for_whatever_the_camera_gives(output_hz: int, camera_hz: int) -> None:
    """A recording counts pictures, so that a rate of its own would make it play too slowly."""
    ticker, now_s, taken, pictures = Ticker(output_hz, 0.0), 0.0, -1, 600 * output_hz
    for _ in range(pictures):
        newest = math.floor(now_s * camera_hz)
        comes_s = now_s if newest > taken else (newest + 1) / camera_hz
        due_s = ticker.due_s(early=False)
        if comes_s < due_s:
            goes_s = max(now_s, comes_s, ticker.due_s(early=True))
            ticker.lean(max(0.0, ticker.due_s(early=True) - max(now_s, comes_s)))
            taken = math.floor(goes_s * camera_hz)
        else:
            goes_s = max(now_s, due_s)
        now_s = goes_s
        ticker.went(now_s)
    assert pictures / now_s == pytest.approx(output_hz, rel=0.0105)


def test_a_picture_that_costs_more_than_a_period_costs_no_more_than_that() -> None:
    ticker, now_s = Ticker(50, 0.0), 0.0
    for _ in range(100):
        now_s = max(now_s, ticker.due_s(early=False)) + 0.022
        ticker.went(now_s)
    assert now_s == pytest.approx(100 * 0.022, rel=0.02)


def test_presenting_that_fails_gives_the_slate_and_the_call_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink()
    bench.stage.add(sink)
    wait_until(lambda: len(sink.pictures) > 2, "pictures")

    def broken(*_: object, **__: object) -> Composed:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Presenter, "present", broken)
        wait_until(lambda: bench.stage.state is State.FAULT, "the slate")
        count = len(sink.pictures)
        wait_until(lambda: len(sink.pictures) > count + 10, "pictures go on")
    assert [event for event in bench.events if isinstance(event, StageFailed)] == [
        StageFailed("presenting", "MemoryError: no room")
    ]
    assert "presenting" in caplog.text
    wait_until(lambda: bench.stage.state is not State.FAULT, "it recovers")


def test_a_file_that_takes_time_to_finish_keeps_nobody_waiting(bench: Bench) -> None:
    class Slow(FakeSink):
        done = False

        def finished(self) -> bool:
            return self.done

    slow, quick = Slow("slow"), FakeSink("quick")
    bench.stage.add(slow)
    bench.stage.add(quick)
    wait_until(lambda: len(slow.pictures) > 2, "pictures")
    bench.stage.remove("slow")
    wait_until(lambda: slow.closed == 1, "it is closed")
    count = len(quick.pictures)
    wait_until(lambda: len(quick.pictures) > count + 10, "the other goes on")
    assert not [event for event in bench.events if isinstance(event, SinkClosed)]
    slow.done = True
    wait_until(lambda: SinkClosed("slow", "in memory") in bench.events, "its end is told")


def test_an_end_that_fails_as_nobody_expected_leaves_the_others_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeSink):
        def finished(self) -> bool:
            raise ValueError("odd")

    good = FakeSink("good")
    bench.stage.add(Broken("broken"))
    bench.stage.add(good)
    wait_until(lambda: len(good.pictures) > 2, "pictures")
    bench.stage.remove("broken")
    failed = SinkFailed("broken", "broken could not be finished: ValueError: odd")
    wait_until(lambda: failed in bench.events, "its failure is told")
    count = len(good.pictures)
    wait_until(lambda: len(good.pictures) > count + 10, "the other goes on")
    assert "finishing sink broken" in caplog.text


def test_a_sink_that_was_wished_away_before_it_was_opened_is_answered_at_the_end() -> None:
    bench = Bench()
    bench.stop()
    bench.stage.add(FakeSink("late"))
    bench.stage.remove("late")
    bench.stage.remove("never there")
    bench.stage.give_up_requests()
    assert [event for event in bench.events if isinstance(event, SinkClosed)] == [SinkClosed("late", "in memory")]


def test_a_file_that_is_not_finished_in_time_is_told_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(FakeSink):
        def finished(self) -> bool:
            return False

    monkeypatch.setattr("app.pipeline.output.sink_stage._LONGEST_ENDING_S", 0.2)
    slow = Slow("slow")
    bench.stage.add(slow)
    wait_until(lambda: len(slow.pictures) > 2, "pictures")
    bench.stage.remove("slow")
    wait_until(lambda: slow.closed == 1, "it is closed")
    bench.stop()
    told = [event for event in bench.events if isinstance(event, SinkClosed | SinkFailed)]
    said = "in memory was not finished within 0.2 s: leave its disk connected, and see later if it plays"
    assert told == [SinkFailed("slow", said)]


def test_a_sink_that_is_wished_away_just_before_the_end_is_not_to_come_again(bench: Bench) -> None:
    sending, go_on = threading.Event(), threading.Event()

    class Holds(FakeSink):
        def send(self, picture: Composed) -> None:
            sending.set()
            go_on.wait(60.0)

    other = FakeSink("other")
    bench.stage.add(other)
    wait_until(lambda: bool(other.pictures), "it is opened before the stage is held up")
    bench.stage.add(Holds("holds"))
    assert sending.wait(60.0)
    bench.stage.remove("holds")
    bench.stopped.set()
    go_on.set()
    bench.stop()
    told = [event for event in bench.events if isinstance(event, SinkClosed)]
    assert told == [SinkClosed("holds", "in memory"), SinkClosed("other", "in memory", asked=False)]


def test_a_sink_that_is_wished_away_once_the_stage_ends_is_answered(bench: Bench) -> None:
    class Late(FakeSink):
        def close(self) -> None:
            super().close()
            bench.stage.remove("late")  # once nothing is served any more

    late = Late("late")
    bench.stage.add(late)
    wait_until(lambda: len(late.pictures) > 2, "pictures")
    bench.stop()
    bench.stage.remove("late")
    bench.stage.give_up_requests()
    told = [event for event in bench.events if isinstance(event, SinkClosed)]
    assert told == [SinkClosed("late", "in memory", asked=False), SinkClosed("late", "in memory")], "once"


def test_a_package_that_a_sink_lacks_is_told_in_its_sentence_and_logged_nowhere(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: object) -> NoReturn:
        raise ModuleNotFoundError(name="nowhere")

    sinks = {name: FakeSink(name) for name in ("open", "send", "finished")}
    for name, sink in sinks.items():
        setattr(sink, name, lacking)
        bench.stage.add(sink)
    sinks["send"].close = lacking  # type: ignore[method-assign]
    bench.stage.remove("finished")
    told: dict[str, str] = {}

    def all_told() -> bool:
        told.update((event.sink, event.message) for event in bench.events if isinstance(event, SinkFailed))
        return told.keys() == sinks.keys()

    wait_until(all_told, "each failure is told")
    lack = "the package nowhere is not installed (pip install nowhere)"
    assert told["open"].startswith(f"open cannot be opened: {lack}")
    assert told["send"].startswith(f"send failed: {lack}")
    assert told["finished"].startswith(f"finished could not be finished: {lack}")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
