"""The whole pipeline with fakes at its ends: latest wins, ages, faults, stops; and that no camera picture gets out."""

import dataclasses
import errno
import gc
import itertools
import logging
import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest

from app.errors import SinkError
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.pictures import Pictures
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture.camera_control import CameraTimes
from app.pipeline.events import (
    Calibrated,
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
    ModelRefused,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SinkOpened,
    SourceFailed,
    SourceReady,
    StageFailed,
    StageRecovered,
    StateChanged,
)
from app.pipeline.output.compositor import Compositor
from app.pipeline.output.output_frame import AvatarPicture, Composed
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.pipeline import Pipeline, PipelineTimes
from app.pipeline.portraits import Portrait, PortraitStore
from app.pipeline.state import State
from app.pipeline.stats import Meter
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.engine import EngineError
from mcnet.media.faces import Face
from tests.app.control.driving import drive_every_command
from tests.app.fakes import (
    AVATAR_RGB,
    Cameras,
    FakeEngine,
    FakeFinder,
    FakeSink,
    StuckCamera,
    marked_picture,
    wait_until,
)
from tests.app.pipeline.capture.phone import PASSWORD, phone
from tests.media.heads import JAW
from tests.media.videos import make_video

OUTPUT = OutputFormat(640, 480, fps_hz=60)
SETTINGS = LiveSettings(
    calibration_s=0.1, hold_s=0.1, ease_s=0.1, idle_s=0.2, background="colour", badge=False, fine_detail=False
)
TIMES = PipelineTimes(
    model_s=0.4, camera=CameraTimes(open_s=1.0, stall_s=0.3, frozen_s=0.4, first_retry_s=0.05, longest_retry_s=0.1)
)
SPEC = CameraSpec("device", 0)

T = TypeVar("T")


class Rig:
    """A pipeline between fakes."""

    def __init__(self, face: Face, portrait: Portrait) -> None:
        self.engine = FakeEngine()
        self.portrait = portrait
        self.finder = FakeFinder(face)
        self.cameras = Cameras()
        self.sink = FakeSink()
        self.folder = Path()
        self.patch = pytest.MonkeyPatch()
        self.events: list[Event] = []
        self.hearers: list[Callable[[Event], None]] = []
        self.load: Callable[[], LiveEngine] = lambda: self.engine
        self.pipeline = Pipeline(
            lambda: self.load(),
            settings=SETTINGS,
            output=OUTPUT,
            on_event=self.hear,
            times=TIMES,
            camera_opener=self.cameras,
            finder_factory=lambda: self.finder,
        )
        self.pipeline.add_sink(self.sink)
        self.pipeline.set_portrait(portrait)
        self.pipeline.set_camera(SPEC)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        for hear in self.hearers:
            hear(event)

    def reach(self, state: State, timeout_s: float = 10.0) -> None:
        wait_until(lambda: self.pipeline.state is state, f"the output is {state}", timeout_s)

    def told(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def rig(face: Face, woman: Portrait, tmp_path: Path) -> Iterator[Rig]:
    before = set(threading.enumerate())
    rig = Rig(face, woman)
    rig.folder = tmp_path
    yield rig
    rig.patch.undo()
    for camera in rig.cameras.opened:
        camera.block.clear()
    rig.pipeline.stop(5.0)
    wait_until(lambda: not set(threading.enumerate()) - before, "no thread is left")


@pytest.mark.parametrize("points", [(), (33, 263, 13, 14, 152)])
def test_it_tells_whether_the_models_keypoints_can_be_measured(rig: Rig, points: tuple[int, ...]) -> None:
    rig.engine.keypoint_landmarks = points
    rig.pipeline.start()
    wait_until(lambda: bool(rig.told(EngineReady)), "the model runs")
    assert [event.measures for event in rig.events if isinstance(event, EngineReady)] == [bool(points)]


def test_from_the_slate_over_calibration_to_live_and_to_every_end(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    wait_until(lambda: rig.pipeline.stats().frames_out > 10, "frames flow")
    assert [event.model for event in rig.events if isinstance(event, EngineReady)] == ["fake"]
    assert len(rig.told(Calibrated)) == 1
    states = list(dict.fromkeys(picture.state for picture in rig.sink.pictures))
    assert states[-1] is State.LIVE
    assert states[0] in (State.STARTING, State.CALIBRATING)
    wait_until(lambda: rig.sink.pictures[-1].rgb[240, 320].tolist() == list(AVATAR_RGB), "the fade is over")
    view = rig.pipeline.performer.take(1.0)
    assert view is not None
    assert view.frame.rgb.shape == (480, 640, 3)
    picture = rig.pipeline.preview.take(1.0)
    assert picture is not None
    assert picture.rgb.shape == (480, 640, 3)


def test_a_slow_model_gets_the_newest_frame_and_the_rest_is_dropped_and_counted(rig: Rig) -> None:
    rig.engine.delay_s = 0.05  # the camera gives 100 frames/s
    rig.pipeline.start()
    wait_until(lambda: rig.pipeline.stats().frames_out > 15, "frames flow")
    rig.pipeline.stop(5.0)
    stats = rig.pipeline.report()
    assert stats.dropped["camera to model"] > stats.frames_out
    # Never older than a frame's wait, its rendering and the beat of the sinks; a queue would grow without end.
    assert stats.age_ms.p50 < 250
    ids = [picture.frame_id for picture in rig.sink.pictures if picture.fresh]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert stats.pictures_out > stats.frames_out


def test_the_sinks_beat_goes_on_while_the_model_hangs_and_shows_the_slate(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.engine.delay_s = 3.0
    rig.reach(State.FAULT)
    pictures, rendered = len(rig.sink.pictures), len(rig.engine.rendered)
    wait_until(lambda: len(rig.sink.pictures) > pictures + 10, "pictures go on")
    assert len(rig.engine.rendered) == rendered  # it hangs still
    whys = [event.message for event in rig.events if isinstance(event, StateChanged) and event.state is State.FAULT]
    assert len(whys) == 1
    assert whys[0].startswith("the model has given no picture for ")
    rig.engine.delay_s = 0.0
    rig.reach(State.LIVE)


def test_a_model_that_fails_gives_the_slate_once_told_and_recovers(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.engine.fail = EngineError("the model gave NaN")
    rig.reach(State.FAULT)
    time.sleep(0.5)
    assert rig.told(StageFailed) == [StageFailed("inference", "the model gave NaN")]
    rig.engine.fail = None
    rig.reach(State.LIVE)
    assert "the model gave NaN" in caplog.text


def test_the_sinks_have_a_frames_picture_before_it_is_searched(rig: Rig, face: Face) -> None:
    rig.pipeline.start()
    wait_until(lambda: rig.pipeline.stats().frames_out > 5, "frames flow, and the calibration's searches are over")
    rig.finder.go_on.clear()
    wait_until(lambda: rig.finder.hangs, "a search hangs")
    view = rig.pipeline.performer.take(0.0)  # of a frame before: it is put after the search
    assert view is not None
    before = view.frame.frame_id
    wait_until(lambda: any(picture.frame_id > before for picture in rig.sink.pictures), "the picture is shown")
    assert rig.pipeline.performer.take(0.0) is None
    rig.finder.go_on.set()

    def is_found() -> bool:
        after = rig.pipeline.performer.take(5.0)  # where the search took long, the face is lost until the next one
        return after is not None and after.landmarks_px is face.landmarks_px

    wait_until(is_found, "what was searched is told")


def test_opencv_leaves_the_cores_to_the_model(rig: Rig) -> None:
    cv2.setNumThreads(2)
    rig.pipeline.start()
    assert cv2.getNumThreads() == 1


def test_a_search_for_the_face_that_fails_between_two_pictures_gives_the_slate_and_recovers(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.finder.fail = RuntimeError("the face finder is out of memory")
    rig.reach(State.FAULT)
    wait_until(lambda: bool(rig.told(StageFailed)), "the failure is told")
    assert rig.told(StageFailed) == [StageFailed("inference", "RuntimeError: the face finder is out of memory")]
    rig.finder.fail = None
    rig.reach(State.LIVE)
    assert len(rig.told(StageRecovered)) == 1
    assert "inference" in caplog.text


def test_a_model_that_fails_now_and_then_does_not_make_the_call_blink(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    for _ in range(4):
        rig.engine.fail = EngineError("NaN")
        rig.reach(State.FAULT)
        rig.engine.fail = None
        time.sleep(0.3)
    rig.reach(State.LIVE)
    assert len(rig.told(StageFailed)) == 1
    assert rig.told(StageRecovered) == [StageRecovered("inference")]
    assert caplog.text.count("EngineError") >= 1


class Finishing:
    """What is done to pictures after the engine made them.

    Attributes:
        threads: the names of those that did it, in order.
        fail: raised in place of it.
        spare: whether there are processors for it beside the engine's.
        go_on: it hangs while this is clear.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.threads: list[str] = []
        self.fail: Exception | None = None
        self.spare = True
        self.go_on = threading.Event()
        self.go_on.set()
        finished = Pictures._finished

        def finish(*arguments: Any) -> AvatarPicture:
            self.threads.append(threading.current_thread().name)
            self.go_on.wait(10.0)
            if self.fail is not None:
                raise self.fail
            return finished(*arguments)

        patch.setattr(Pictures, "_finished", finish)
        patch.setattr("app.pipeline.animation.pictures.has_processors_to_spare", lambda: self.spare)


def test_pictures_are_finished_apart_from_the_model_and_the_sinks(rig: Rig) -> None:
    finishing = Finishing(rig.patch)
    rig.pipeline.start()
    wait_until(lambda: rig.pipeline.stats().frames_out > 10, "frames flow")
    # The first one where it is made, as what is new may fail.
    assert finishing.threads[0] == "inference"
    assert set(finishing.threads[2:]) == {"finishing"}


def test_on_few_processors_little_work_is_done_where_pictures_are_made(rig: Rig) -> None:
    finishing = Finishing(rig.patch)
    finishing.spare = False
    rig.pipeline.start()
    wait_until(lambda: rig.pipeline.stats().frames_out > 10, "frames flow")
    assert set(finishing.threads) == {"inference"}


def test_a_slow_finish_holds_up_neither_the_sinks_nor_the_model(rig: Rig) -> None:
    finishing = Finishing(rig.patch)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rendered = len(rig.engine.rendered)
    finishing.go_on.clear()
    pictures, begun = len(rig.sink.pictures), len(finishing.threads)
    rig.reach(State.FAULT)
    wait_until(lambda: len(rig.sink.pictures) > pictures + 10, "pictures go on")
    wait_until(lambda: len(rig.engine.rendered) > rendered + 10, "the model goes on")
    assert len(finishing.threads) <= begun + 1, "one is finished at a time, and the newest next"
    finishing.go_on.set()
    rig.reach(State.LIVE)


def test_a_picture_that_cannot_be_finished_gives_the_slate_once_told_and_the_call_does_not_blink(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    finishing = Finishing(rig.patch)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    for _ in range(3):
        finishing.fail = MemoryError("no room")
        rig.reach(State.FAULT)
        finishing.fail = None
        time.sleep(0.3)
    rig.reach(State.LIVE)
    assert rig.told(StageFailed) == [StageFailed("finishing", "MemoryError: no room")]
    assert rig.told(StageRecovered) == [StageRecovered("finishing")]
    assert caplog.text.count("MemoryError") == 1


def test_a_stop_closes_the_sinks_without_anybody_having_asked_for_it(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.pipeline.stop(5.0)
    assert SinkClosed("fake", "in memory", asked=False) in rig.events
    rig.pipeline.remove_sink("fake")
    assert rig.events[-1] == SinkClosed("fake", "in memory", asked=True)


def test_what_a_sink_meets_at_the_very_end_is_told(rig: Rig) -> None:
    class Full(FakeSink):
        def finished(self) -> bool:
            raise SinkError("the disk is full")

    rig.pipeline.add_sink(Full("recording"))
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.pipeline.stop(5.0)
    assert SinkFailed("recording", "the disk is full") in rig.events


def _left_behind(caplog: pytest.LogCaptureFixture, stage: str) -> bool:
    """Whether it was told, of that stage and, on a busy machine, perhaps of others that were a little late."""
    return any(re.search(rf"left behind: .*\b{stage}\b", line) for line in caplog.messages)


def test_a_run_after_one_that_hung_waits_for_its_threads_and_then_goes_live(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.engine.delay_s = 1.0
    time.sleep(0.1)
    assert not rig.pipeline.stop(0.2)
    rig.engine.delay_s = 0.0
    rig.pipeline.start()
    assert sum(thread.name == "inference" for thread in threading.enumerate()) == 2
    rig.reach(State.LIVE)
    assert sum(thread.name == "inference" for thread in threading.enumerate()) == 1
    assert _left_behind(caplog, "inference")


def test_a_recording_whose_end_takes_longer_than_the_stop_is_told_of_before_the_next_run_opens_its_sinks(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(FakeSink):
        done = False

        def finished(self) -> bool:
            return self.done

    recording = Slow("recording")
    rig.pipeline.add_sink(recording)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.pipeline.remove_sink("recording")
    assert not rig.pipeline.stop(0.2)
    rig.pipeline.start()
    recording.done = True
    wait_until(lambda: rig.told(SinkOpened)[2:] != [], "the next run opens its sinks")
    told = [(type(one), one.sink) for one in rig.events if isinstance(one, SinkOpened | SinkClosed)]
    assert told[:2] == [(SinkOpened, "fake"), (SinkOpened, "recording")]
    assert sorted(sink for _, sink in told[2:4]) == ["fake", "recording"]
    assert [kind for kind, _ in told[2:4]] == [SinkClosed, SinkClosed]
    assert told[4:] == [(SinkOpened, "fake")]
    rig.reach(State.LIVE)
    assert _left_behind(caplog, "sinks")


def test_a_sink_of_a_run_that_never_came_to_its_turn_is_answered(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    class Hangs(FakeSink):
        def send(self, picture: Composed) -> None:
            go_on.wait(20.0)

    rig.pipeline.add_sink(Hangs("hangs"))
    rig.pipeline.start()
    wait_until(lambda: len(rig.told(SinkOpened)) == 2, "it is opened")
    assert not rig.pipeline.stop(0.2)
    rig.pipeline.remove_sink("hangs")
    rig.pipeline.start()
    rig.pipeline.add_sink(FakeSink("recording"))
    rig.pipeline.remove_sink("recording")
    assert not rig.pipeline.stop(0.2)
    assert SinkClosed("recording", "in memory") in rig.events
    rig.pipeline.start()  # a third run waits for the first one's sinks, though the second never had any
    time.sleep(0.3)
    assert sum(isinstance(event, SinkOpened) for event in rig.events) == 2
    go_on.set()
    rig.reach(State.LIVE)
    assert _left_behind(caplog, "sinks")


def test_the_next_run_waits_for_a_camera_that_hangs_in_its_driver(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.cameras = rig.pipeline.camera_opener = Cameras(StuckCamera)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    stuck = rig.cameras.opened[0]
    stuck.block.set()
    time.sleep(0.05)
    for patience_s in (0.5, 99.0):  # a run that never opened it waits likewise, and so does the one after that
        assert not rig.pipeline.stop(patience_s)
        rig.pipeline.start()
        time.sleep(0.3)
    assert "still busy 99.0 s" not in caplog.text, "nobody has waited for it so long"
    assert rig.cameras.opened == [stuck]
    stuck.block.clear()
    rig.reach(State.LIVE)
    assert len(rig.cameras.opened) == 2
    assert "left behind: fake" not in caplog.text.replace(f"left behind: {stuck.name}", "")


def test_the_state_is_read_while_another_thread_stops_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the run goes away: after the first look at it, or after the second."""
    run = SimpleNamespace(sink_stage=SimpleNamespace(state=State.LIVE), meter=Meter(()))
    for looks in (1, 2):
        left = itertools.chain([run] * looks, itertools.repeat(None))

        def look(_: Pipeline, left: Iterator[SimpleNamespace | None] = left) -> SimpleNamespace | None:
            return next(left)

        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "_run", property(look), raising=False)
            assert rig.pipeline.state is State.LIVE
            assert rig.pipeline.stats().state in (State.LIVE, State.STARTING)


def test_of_many_portraits_only_the_last_is_encoded(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.engine.delay_s = 0.3
    time.sleep(0.1)
    before = rig.engine.sources
    for shade in range(1, 6):
        square = np.full_like(rig.portrait.square, shade)
        rig.pipeline.set_portrait(dataclasses.replace(rig.portrait, square=square))
    wait_until(lambda: rig.engine.sources > before, "it is encoded")
    rig.engine.delay_s = 0.0
    time.sleep(0.3)
    assert rig.engine.sources <= before + 2


def test_a_model_that_cannot_be_loaded_gives_the_slate(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def broken() -> LiveEngine:
        raise EngineError("no such model")

    rig.load = broken
    rig.pipeline.start()
    rig.reach(State.FAULT)
    assert rig.told(StageFailed) == [StageFailed("model", "no such model")]
    assert "loading the model" in caplog.text


def test_the_panic_key_shows_the_slate_and_hides_everything_until_it_is_let_go(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.pipeline.update(dataclasses.replace(SETTINGS, slate=True))
    rig.reach(State.SLATE)
    count = len(rig.sink.pictures)
    wait_until(lambda: len(rig.sink.pictures) > count + 10, "pictures go on")
    assert all(picture.state is State.SLATE for picture in rig.sink.pictures[count:])
    rig.pipeline.update(SETTINGS)
    rig.reach(State.LIVE)


def test_a_slate_from_outside_outlasts_settings_that_do_not_know_of_it(rig: Rig) -> None:
    """It is there with the next picture, before whoever keeps the settings has heard of it."""
    rig.pipeline.start()
    rig.reach(State.LIVE)
    rig.pipeline.slate_now()
    rig.pipeline.update(dataclasses.replace(SETTINGS, zoom=1.1))
    rig.reach(State.SLATE)
    for keeps_it in (False, True):  # the settings, when it is pressed again
        rig.pipeline.update(dataclasses.replace(SETTINGS, slate=keeps_it))
        rig.pipeline.slate_now()
        rig.pipeline.take_over_slate()  # of the one before
        rig.pipeline.update(dataclasses.replace(SETTINGS, slate=True))
        rig.pipeline.update(SETTINGS)
        assert rig.pipeline.settings.slate
    rig.reach(State.SLATE)
    rig.pipeline.take_over_slate()
    rig.reach(State.LIVE)


def test_stop_and_start_as_often_as_wanted(rig: Rig) -> None:
    for _ in range(3):
        rig.pipeline.start()
        rig.pipeline.start()
        rig.reach(State.LIVE)
        assert rig.pipeline.stop(5.0)
        assert rig.pipeline.stop(5.0)
        assert not rig.pipeline.running
    assert rig.sink.opened == rig.sink.closed == 3
    assert all(camera.closed for camera in rig.cameras.opened)


def test_nothing_of_a_run_outlives_the_start_of_the_next(rig: Rig) -> None:
    """Of engines, finders and cameras, only the newest are there, however few objects Python has seen since."""
    made: list[weakref.ref[FakeEngine]] = []

    def load() -> FakeEngine:
        engine = FakeEngine()
        made.append(weakref.ref(engine))
        return engine

    rig.load = load
    gc.disable()
    try:
        for _ in range(4):
            rig.pipeline.start()
            rig.reach(State.LIVE)
            assert rig.pipeline.stop(5.0)
        runs = [one for one in gc.get_objects() if type(one).__name__ == "_Run"]
    finally:
        gc.enable()
    assert [engine() for engine in made[:-1]] == [None] * 3
    assert len(runs) <= 2, "the last one, and the one that it waited for"


@pytest.mark.parametrize("moment", ["loading", "opening", "hanging read", "hanging model", "live"])
def test_a_stop_comes_back_in_time_from_every_state(
    rig: Rig, moment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Within half a second and a busy machine's grace; what hangs is left behind, and ends by itself later."""
    hangs_s, go_on = 20.0, threading.Event()

    def hang(answer: T) -> T:
        go_on.wait(hangs_s)
        return answer

    if moment == "loading":
        rig.load = lambda: hang(rig.engine)
    if moment == "opening":
        rig.pipeline.camera_opener = lambda spec: hang(rig.cameras(spec))
    rig.pipeline.start()
    if moment in ("loading", "opening"):
        time.sleep(0.1)
    else:
        rig.reach(State.LIVE)
    if moment == "hanging read":
        rig.cameras.opened[0].block.set()
        rig.cameras.opened[0].close = lambda: None  # type: ignore[method-assign]
    if moment == "hanging model":
        monkeypatch.setattr(rig.engine, "render", lambda _: hang(marked_picture(256, 256)))
        time.sleep(0.1)
    began_s = time.monotonic()
    clean = rig.pipeline.stop(0.5)
    took_s = time.monotonic() - began_s
    go_on.set()
    assert took_s < hangs_s / 4  # the half second, and what a busy machine takes to run a thread
    if moment == "live":
        assert clean
    count = len(rig.events)
    time.sleep(0.1)
    assert len(rig.events) == count  # a stopped pipeline says nothing more
    assert all(record.levelname == "WARNING" for record in caplog.records)


def test_a_sink_can_be_added_and_removed_while_live(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    other = FakeSink("other")
    rig.pipeline.add_sink(other)
    wait_until(lambda: len(other.pictures) > 5, "the other gets pictures")
    rig.pipeline.remove_sink("other")
    wait_until(lambda: other.closed == 1, "it is closed")
    assert rig.pipeline.state is State.LIVE


# Privacy: the camera's picture is magenta and nothing else is, so that no crop, scale or mirror hides it.


def leaked(rgb: Rgb) -> float:
    """The strongest magenta in a picture, 0 to 255: how far red and blue both exceed green."""
    channels = rgb.astype(np.int16)
    return float((np.minimum(channels[..., 0], channels[..., 2]) - channels[..., 1]).max())


HARMLESS = 40  # the slate is a bluish grey


@pytest.mark.parametrize("leak", ["whole", "crop", "squeezed", "faint", "corner"])
def test_the_measure_knows_a_camera_picture_when_it_sees_one(leak: str) -> None:
    camera = marked_picture()
    composed = Compositor(OUTPUT)
    squeezed = np.asarray(cv2.resize(camera, (256, 256)), np.uint8)
    pictures: dict[str, Rgb] = {
        "whole": camera,
        "crop": composed.compose(camera[100:356, 200:456].copy(), SETTINGS),
        "squeezed": composed.compose(squeezed, SETTINGS),
        "faint": (0.7 * composed.slate(State.SLATE) + 0.3 * camera).astype(np.uint8),
        "corner": np.vstack((np.zeros((460, 640, 3), np.uint8), camera[460:])),
    }
    shown = pictures[leak]
    assert leaked(shown) > HARMLESS
    assert leaked(composed.slate(State.SLATE)) < HARMLESS
    assert leaked(composed.compose(np.full((256, 256, 3), AVATAR_RGB, np.uint8), SETTINGS)) < HARMLESS


def _unplug(rig: Rig) -> None:
    rig.cameras.broken.add(SPEC.name)
    rig.cameras.opened[-1].fail_after = 0


def _hang(rig: Rig) -> None:
    rig.cameras.slow_s = 0.4  # as drivers are: the camera is back only once the slate has come
    rig.cameras.opened[-1].block.set()


def _freeze(rig: Rig) -> None:
    rig.cameras.opened[-1].frozen = True


def _lose_face(rig: Rig) -> None:
    rig.finder.face = None


def _break_model(rig: Rig) -> None:
    rig.engine.fail = EngineError("NaN")


def _break_keypoints(rig: Rig) -> None:
    rig.engine.nan = True


def _break_portrait(rig: Rig) -> None:
    rig.engine.fail_source = RuntimeError("out of memory")
    portrait = rig.portrait
    rig.pipeline.set_portrait(dataclasses.replace(portrait, square=np.zeros_like(portrait.square)))


def _other_model(rig: Rig) -> None:
    rig.pipeline.use_engine(FakeEngine, "other")


def _break_other_model(rig: Rig) -> None:
    other = FakeEngine()
    other.fail = EngineError("NaN")
    rig.pipeline.use_engine(lambda: other, "other")


def _break_everything(rig: Rig) -> None:
    rig.engine.fail = ZeroDivisionError("a bug")


def _slow_model(rig: Rig) -> None:
    rig.engine.delay_s = 0.8


def _panic(rig: Rig) -> None:
    rig.pipeline.update(dataclasses.replace(SETTINGS, slate=True))


def _other_camera(rig: Rig) -> None:
    rig.pipeline.set_camera(CameraSpec("device", 1))


def _no_camera(rig: Rig) -> None:
    rig.pipeline.set_camera(None)


def _break_sink(rig: Rig) -> None:
    bad = FakeSink("bad")
    bad.fail_after = 1
    rig.pipeline.add_sink(bad)


def _break_background(rig: Rig) -> None:
    rig.pipeline.update(dataclasses.replace(SETTINGS, background="image", background_image="missing.png"))


def _camera_as_background(rig: Rig) -> None:
    """A device that the user names as the video behind the person may be a camera."""
    (rig.folder / "beach.mp4").symlink_to("/dev/null")
    rig.pipeline.update(
        dataclasses.replace(SETTINGS, cut_out=True, background="video", background_video=str(rig.folder / "beach.mp4"))
    )


def _vanishing_video(rig: Rig) -> None:
    path = make_video(rig.folder / "sea.mp4", [np.full((64, 96, 3), (20, 90, 160), np.uint8)] * 3)
    rig.pipeline.update(dataclasses.replace(SETTINGS, cut_out=True, background="video", background_video=str(path)))
    wait_until(lambda: rig.sink.pictures[-1].rgb[60, 10, 2] > 120, "the video is seen")
    path.unlink()


def _restart(rig: Rig) -> None:
    rig.pipeline.stop(5.0)
    rig.pipeline.start()


def _garbage(rig: Rig) -> None:
    rig.cameras.opened[-1].garbage = True


def _wrong_size(rig: Rig) -> None:
    rig.cameras.opened[-1].shape = (120, 200, 3)


def _wrong_shape(rig: Rig) -> None:
    rig.cameras.opened[-1].shape = (480, 640)


def _busy_sink(rig: Rig) -> None:
    busy = FakeSink("busy")
    busy.fail_open = True
    rig.pipeline.add_sink(busy)


def _full_disk(rig: Rig) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rig.patch.setattr("mcnet.media.muxer.Muxer.mux", no_room)
    rig.pipeline.add_sink(RecorderSink(rig.folder / "me.mp4"))
    wait_until(lambda: bool(rig.told(SinkFailed)), "the full disk is told")
    (failed,) = rig.told(SinkFailed)
    assert "make room on the disk" in str(failed)


def _delete_portrait(rig: Rig) -> None:
    store = PortraitStore(rig.folder)
    store.keep(own := store.look_at(rig.portrait.rgb[:-1], "own"))
    rig.pipeline.set_portrait(own)
    wait_until(lambda: any(event.key == own.entry.key for event in rig.events if isinstance(event, SourceReady)), "own")
    store.remove(own.entry)
    store.forget_removed()
    assert not own.entry.path.exists()


def _break_retouching(rig: Rig) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room for teeth")

    rig.patch.setattr("mcnet.media.retouch.DrawnLids", no_room)
    rig.engine.keypoint_landmarks = (33, 263, 13, 14, 152)
    rig.pipeline.set_portrait(rig.portrait)
    wait_until(lambda: bool(rig.told(SettingRefused)), "it is told")
    (refused,) = rig.told(SettingRefused)
    assert "no room for teeth" in str(refused)


def _break_detail(rig: Rig) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room for pores")

    rig.patch.setattr("mcnet.media.fine_detail.FineDetail.added", no_room)
    rig.pipeline.update(dataclasses.replace(SETTINGS, fine_detail=True))
    wait_until(lambda: bool(rig.told(SettingRefused)), "it is told")
    (refused,) = rig.told(SettingRefused)
    assert "no room for pores" in str(refused)


def _break_surroundings(rig: Rig) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room for shoulders")

    rig.patch.setattr("app.pipeline.animation.finish.around_animated", no_room)
    rig.pipeline.update(dataclasses.replace(SETTINGS, surroundings=True))
    wait_until(lambda: bool(rig.told(SettingRefused)), "it is told")
    (refused,) = rig.told(SettingRefused)
    assert "no room for shoulders" in str(refused)


@pytest.mark.parametrize("switch", ["retouch", "fine_detail", "surroundings", "cut_out"])
def test_what_is_switched_off_and_on_between_two_frames_is_tried_again(rig: Rig, switch: str) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    rig.patch.setattr("mcnet.media.retouch.DrawnLids", no_room)
    rig.patch.setattr("mcnet.media.fine_detail.FineDetail.added", no_room)
    rig.patch.setattr("app.pipeline.animation.cutting_out.cut_out", no_room)
    rig.engine.keypoint_landmarks = (33, 263, 13, 14, 152)
    rig.patch.setattr("app.pipeline.animation.finish.around_animated", no_room)
    on = dataclasses.replace(SETTINGS, cut_out=True, retouch=True, fine_detail=True, surroundings=True)
    rig.pipeline.update(on)
    rig.pipeline.start()

    def refused() -> list[str]:
        return [event.setting for event in rig.events if isinstance(event, SettingRefused)]

    wait_until(lambda: {*refused()} == {"retouch", "fine_detail", "surroundings", "cut_out"}, "all fail")
    off: dict[str, Any] = {switch: False}
    rig.pipeline.update(dataclasses.replace(on, **off))
    rig.pipeline.update(on)
    wait_until(lambda: len(refused()) == 5, "the one is tried again")
    assert refused()[4] == switch


def _change_settings(rig: Rig) -> None:
    """Everything at once, faster than frames come, while the mouth is open, so that there is something to be drawn."""
    face = rig.finder.face
    assert face is not None
    landmarks = face.landmarks_px.copy()
    landmarks[list(JAW), 1] += 0.12 * np.ptp(landmarks[:, 1])
    rig.finder.face = Face(landmarks, 1.0)
    rig.engine.keypoint_landmarks = (33, 263, 13, 14, 152)
    rig.pipeline.set_portrait(rig.portrait)
    chance = random.Random(1)
    for _ in range(300):
        settings = dataclasses.replace(
            SETTINGS,
            mirror_output=chance.random() < 0.5,
            relative=chance.random() < 0.5,
            surroundings=chance.random() < 0.5,
            motion=chance.choice(("space", "plane")),
            keypoints=chance.choice(("measured", "detected")),
            smoothing=chance.random(),
            zoom=chance.uniform(0.5, 2),
            background=chance.choice(("blur", "own", "colour", "image", "video", "alpha")),
            background_image=chance.choice(("", "missing.png")),
            cut_out=chance.random() < 0.5,
            retouch=chance.random() < 0.5,
            fine_detail=chance.random() < 0.5,
            portrait_size=chance.uniform(0.5, 1.7),
            portrait_x=chance.uniform(-0.5, 0.5),
            portrait_y=chance.uniform(-0.5, 0.5),
            slate=chance.random() < 0.1,
        )
        rig.pipeline.update(settings)
        time.sleep(0.002)
    # Of those a busy machine shows few, perhaps none with the picture that is missing.
    rig.pipeline.update(dataclasses.replace(SETTINGS, background="image", background_image="missing.png"))
    wait_until(lambda: rig.told(SettingRefused) != [], "the missing picture is told")
    rig.pipeline.update(SETTINGS)


def _wall_clock_jumps(rig: Rig) -> None:
    """As when the time is set: an hour back, then a day ahead."""
    real = time.time
    for by_s in (-3600.0, 86400.0):
        rig.patch.setattr(time, "time", lambda by_s=by_s: real() + by_s)
        time.sleep(0.2)
    assert rig.pipeline.state is State.LIVE


def _sleep_of_the_computer(rig: Rig) -> None:
    """Where the clock goes on meanwhile, everything is an hour late at once."""
    real = time.monotonic
    rig.patch.setattr(time, "monotonic", lambda: real() + 3600.0)


MATRIX: list[tuple[Callable[[Rig], None], State, type | None]] = [
    (_unplug, State.NO_CAMERA, CameraFailed),
    (_hang, State.NO_CAMERA, CameraFailed),
    (_freeze, State.LIVE, CameraFailed),
    (_garbage, State.LIVE, None),
    (_wrong_size, State.LIVE, CameraFailed),
    (_wrong_shape, State.FAULT, StageFailed),
    (_other_camera, State.LIVE, CameraOpened),
    (_no_camera, State.NO_CAMERA, None),
    (_lose_face, State.NO_FACE, None),
    (_break_model, State.FAULT, StageFailed),
    (_break_everything, State.FAULT, StageFailed),
    (_break_keypoints, State.FAULT, StageFailed),
    (_slow_model, State.FAULT, None),
    (_other_model, State.LIVE, EngineReady),
    (_break_other_model, State.LIVE, ModelRefused),
    (_busy_sink, State.LIVE, SinkFailed),
    (_break_sink, State.LIVE, SinkFailed),
    (_full_disk, State.LIVE, SinkFailed),
    (_break_portrait, State.LIVE, SourceFailed),
    (_delete_portrait, State.LIVE, SourceReady),
    (_break_retouching, State.LIVE, SettingRefused),
    (_break_detail, State.LIVE, SettingRefused),
    (_break_surroundings, State.LIVE, SettingRefused),
    (_change_settings, State.LIVE, SettingRefused),
    (_break_background, State.LIVE, SettingRefused),
    (_camera_as_background, State.LIVE, SettingRefused),
    (_vanishing_video, State.LIVE, SettingRefused),
    (_wall_clock_jumps, State.LIVE, None),
    (_sleep_of_the_computer, State.LIVE, None),
    (_panic, State.SLATE, None),
    (_restart, State.LIVE, EngineReady),
]
"""Each fault, what the output comes to show, and what is told of it. `docs/reliability.md` has them in this order."""


@pytest.mark.parametrize(("fault", "shown", "told"), MATRIX, ids=[fault.__name__.strip("_") for fault, _, _ in MATRIX])
def test_no_camera_picture_reaches_a_sink_whatever_fails(
    rig: Rig, fault: Callable[[Rig], None], shown: State, told: type | None, caplog: pytest.LogCaptureFixture
) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    before, said = len(rig.sink.pictures), len(rig.events)
    fault(rig)
    if told is not None:
        wait_until(lambda: any(isinstance(event, told) for event in rig.events[said:]), f"{told.__name__} is told")
    if shown is State.LIVE:
        rig.reach(shown)
    else:
        wait_until(lambda: shown in [picture.state for picture in rig.sink.pictures[before:]], f"{shown} is shown")
    drive_every_command(rig.pipeline, rig.portrait, rig.folder, rig.hearers, rig.sink.pictures)
    driven = len(rig.sink.pictures)
    wait_until(lambda: len(rig.sink.pictures) > max(before + 70, driven + 10), "more than a second of pictures")
    if shown is State.LIVE:
        rig.reach(shown)
    # The panic key and quitting work at this moment too.
    _panic(rig)
    pressed = len(rig.sink.pictures)
    wait_until(lambda: len(rig.sink.pictures) > pressed + 10, "pictures go on")
    assert {picture.state for picture in rig.sink.pictures[pressed + 2 :]} == {State.SLATE}
    rig.pipeline.stop(5.0)
    pictures = rig.sink.pictures
    assert max(leaked(picture.rgb) for picture in pictures) < HARMLESS
    assert {picture.rgb.shape for picture in pictures} == {(480, 640, 3)}
    assert not [record for record in caplog.records if "stage " in record.message]  # no thread died of it


@pytest.mark.parametrize("moment", ["loading", "opening", "calibrating"])
def test_the_panic_key_before_the_avatar_ever_came(rig: Rig, moment: str) -> None:
    go_on = threading.Event()

    def hang(answer: T) -> T:
        go_on.wait(20.0)
        return answer

    if moment == "loading":
        rig.load = lambda: hang(rig.engine)
    elif moment == "opening":
        rig.pipeline.camera_opener = lambda spec: hang(rig.cameras(spec))
    else:
        rig.pipeline.update(dataclasses.replace(SETTINGS, calibration_s=60.0))
    rig.pipeline.start()
    rig.reach(State.CALIBRATING if moment == "calibrating" else State.STARTING)
    _panic(rig)
    rig.reach(State.SLATE)
    go_on.set()
    shown = len(rig.sink.pictures)
    wait_until(lambda: len(rig.sink.pictures) > shown + 60, "a second of pictures")
    assert {picture.state for picture in rig.sink.pictures[shown:]} == {State.SLATE}
    assert rig.pipeline.stop(5.0)
    assert max(leaked(picture.rgb) for picture in rig.sink.pictures) < HARMLESS


def test_a_monitor_that_sleeps_costs_nobody_a_picture_and_wakes_up_to_the_newest(rig: Rig) -> None:
    """Nothing is painted meanwhile, so that nobody takes the preview's pictures, nor the performer's."""
    rig.pipeline.start()
    rig.reach(State.LIVE)
    before = len(rig.sink.pictures)
    wait_until(lambda: len(rig.sink.pictures) > before + 70, "pictures go on")
    first, second = rig.pipeline.preview.take(0.0), rig.pipeline.preview.take(0.0)
    assert first is not None
    assert any(first is picture for picture in rig.sink.pictures[-5:])
    assert second is None or any(second is picture for picture in rig.sink.pictures[-3:])
    assert rig.pipeline.state is State.LIVE


def test_faults_are_told(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    _unplug(rig)
    wait_until(lambda: len(rig.told(CameraFailed)) > 0, "the camera's failure")
    rig.reach(State.NO_CAMERA)
    rig.cameras.broken.clear()
    rig.reach(State.LIVE)
    _break_sink(rig)
    wait_until(lambda: len(rig.told(SinkFailed)) > 0, "the sink's failure")
    assert rig.pipeline.state is State.LIVE


def test_the_slate_stands_for_a_network_camera_while_it_is_gone(face: Face, woman: Portrait) -> None:
    with phone() as server:
        rig = Rig(
            Face((face.landmarks_px / 4).astype(np.float32), 1.0), woman
        )  # the phone's pictures are a quarter as large
        pipeline = Pipeline(
            lambda: rig.load(),
            settings=SETTINGS,
            output=OUTPUT,
            on_event=rig.events.append,
            times=dataclasses.replace(TIMES, camera=dataclasses.replace(TIMES.camera, open_s=10.0)),
            finder_factory=lambda: rig.finder,
        )
        rig.pipeline = pipeline
        pipeline.add_sink(rig.sink)
        pipeline.set_portrait(woman)
        pipeline.set_camera(parse_camera(server.address("/video", f"me:{PASSWORD}")))
        pipeline.start()
        try:
            rig.reach(State.LIVE)
            server.awake = False
            rig.reach(State.NO_CAMERA)
            shown = len(rig.sink.pictures)
            wait_until(lambda: len(rig.sink.pictures) > shown + 10, "pictures go on")
            assert all(not picture.state.shows_avatar for picture in rig.sink.pictures[shown + 2 :])
            server.awake = True
            rig.reach(State.LIVE)
        finally:
            assert pipeline.stop(timeout_s=10.0)
        assert PASSWORD not in repr(rig.events)
