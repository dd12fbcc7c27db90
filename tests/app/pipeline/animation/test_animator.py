import dataclasses
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.animation.animator import Animator, Step
from app.pipeline.animation.face_tracker import LOOK_EVERY_S
from app.pipeline.animation.idle_motion import IdleMotion
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Calibrated,
    CalibrationProgress,
    Event,
    PersonCutOut,
    ReferenceImproved,
    SettingRefused,
    SourceFailed,
    SourceReady,
)
from app.pipeline.inspector import Artist, Request
from app.pipeline.output.output_frame import Person
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet import Engine, EngineOptions, load_model
from mcnet.arrays import Rgb
from mcnet.commands.drives import Shot, SpaceDrive
from mcnet.engine import EngineError, resized
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.head_motion import mesh_in_square
from mcnet.media.matte import Matte, cut_out
from mcnet.media.video import open_driving
from mcnet.pictures import to_rgb
from tests.app.fakes import FakeEngine, FakeFinder, keypoints, marked_picture, wait_until
from tests.media.videos import GRID

pytestmark = pytest.mark.usefixtures("_compiled_once")

SETTINGS = LiveSettings(calibration_s=0.2, hold_s=0.5, ease_s=0.5, idle_s=1.0, smoothing=0.0, fine_detail=False)
DT_S = 0.04


POINTS = (33, 263, 13, 14, 152)


class Stage:
    """An animator with fakes, and a clock that goes on by a frame's time at each step.

    Args:
        face: what the finder finds.
        portrait: who is animated.
        points: which points of the face the keypoints are; empty: they are detected.
        store: of encoded portraits and mattes.

    Attributes:
        timed: the parts of the steps, in order.
    """

    def __init__(
        self,
        face: Face | None,
        portrait: Portrait | None,
        points: tuple[int, ...] = (),
        store: SourceStore | None = None,
    ) -> None:
        self.engine = FakeEngine()
        self.engine.keypoint_landmarks = points
        self.finder = FakeFinder(face)
        self.events: list[Event] = []
        self.timed: list[str] = []
        self.animator = Animator(
            self.engine, self.events.append, lambda name, _: self.timed.append(name), finder=self.finder, store=store
        )
        self.now_s = 100.0
        self.frames = 0
        if portrait is not None:
            self.animator.set_portrait(portrait)

    def step(self, settings: LiveSettings = SETTINGS, *, camera: str = "one", frame: bool = True) -> Step:
        if not frame:
            self.now_s += DT_S
            return self.animator.step(None, self.now_s, settings)
        step = self.only_step(settings, camera=camera)
        return step if step.view is None else step._replace(view=self.animator.follow(step.view))

    def only_step(self, settings: LiveSettings = SETTINGS, *, camera: str = "one", rgb: Rgb | None = None) -> Step:
        """As `step`, without what comes after the picture was handed on."""
        self.now_s += DT_S
        self.frames += 1
        picture = marked_picture() if rgb is None else rgb
        return self.animator.step(CameraFrame(self.frames, self.now_s, picture, camera), self.now_s, settings)

    def idle_motion(self, settings: LiveSettings) -> IdleMotion | None:
        """After one more step; None while it is being read."""
        self.step(settings)
        return self.animator._idling.motion

    def until(self, state: State, settings: LiveSettings = SETTINGS, *, frame: bool = True) -> Step:
        for _ in range(200):
            step = self.step(settings, frame=frame)
            if step.output is not None and step.output.state is state:
                return step
        raise AssertionError(f"never {state}")


def test_only_a_moved_avatar_can_be_inspected(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    calibrating = stage.step().view
    assert calibrating is not None
    assert calibrating.posed is None
    moved = stage.until(State.LIVE).view
    assert moved is not None
    assert moved.posed is not None
    assert moved.posed.measured
    assert moved.posed.square is woman.square
    assert moved.posed.driving_value.shape == (len(POINTS), 2)
    rendered = stage.engine.rendered[-1]
    assert np.abs(moved.posed.driving_value - rendered.value[0]).max() < 1e-6
    stage.finder.face = None
    lost = stage.step().view
    assert lost is not None
    assert lost.posed is None


def test_the_person_is_cut_out_only_if_it_is_wanted(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    output = stage.until(State.LIVE).output
    assert output is not None
    assert output.person is None
    cut_out = dataclasses.replace(SETTINGS, cut_out=True)
    waiting = stage.step(cut_out).output
    assert waiting is not None
    assert waiting.person is None  # no picture waits for it
    assert not waiting.whole
    _wait_for_person(stage, cut_out)
    first, second = [stage.step(cut_out).output for _ in range(10)][-2:]
    assert first is not None
    assert second is not None
    assert first.person is not None
    assert second.person is not None
    assert first.avatar is not None
    alpha = first.person.cutout.alpha
    assert alpha.shape == first.avatar.shape[:2]
    assert alpha[20, 5] == 0
    assert alpha[150, 128] == 1
    assert second.person.plate is first.person.plate
    # It stays with the picture that is held, and is made for the pose of rest.
    stage.finder.face = None
    for state in (State.HOLD, State.EASING, State.IDLE):
        held = stage.until(state, cut_out).output
        assert held is not None
        assert held.person is not None
        if state is State.HOLD:  # where what is switched counts at once
            for settings in (SETTINGS, cut_out):
                switched = stage.step(settings).output
                assert switched is not None
                assert switched.state is State.HOLD
                assert (switched.person is not None) == settings.cut_out
    # Switched while nothing moves.
    for settings in (SETTINGS, cut_out):
        rests = stage.step(settings).output
        assert rests is not None
        assert rests.state is State.IDLE
        assert (rests.person is not None) == settings.cut_out


def test_the_matte_is_made_once_per_portrait(
    face: Face, woman: Portrait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Rgb] = []

    def counted(square: Rgb) -> Matte:
        made.append(square)
        return cut_out(square)

    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", counted)
    settings = dataclasses.replace(SETTINGS, cut_out=True)
    for _ in range(2):  # in this run and the next
        stage = Stage(face, woman, store=SourceStore(tmp_path))
        for _ in range(2):
            _wait_for_person(stage, settings)
            stage.animator.set_portrait(dataclasses.replace(woman, square=woman.square.copy()))
    assert len(made) == 1


class SlowCutting:
    """Cuts out only when it is let.

    Attributes:
        go_on: let it.
        begun: the squares it was asked for.
        threads: how many it was asked on at once, at most.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.begun: list[Rgb] = []
        self.threads = 0
        monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", self._cut_out)

    def _cut_out(self, square: Rgb) -> Matte:
        self.begun.append(square)
        self.threads = max(self.threads, len(_cutting_threads()))
        assert self.go_on.wait(20)
        return cut_out(square)


def test_while_the_person_is_being_cut_out_the_pictures_go_on_and_the_window_is_told(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCutting(monkeypatch)
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    wait_until(lambda: _person(stage, cut) is None and PersonCutOut(under_way=True) in stage.events, "it is told")
    shown = [stage.step(cut).output for _ in range(5)]
    assert all(one is not None and one.fresh and one.person is None and not one.whole for one in shown)
    slow.go_on.set()
    _wait_for_person(stage, cut)

    def told() -> list[PersonCutOut]:
        stage.step(cut)
        return [event for event in stage.events if isinstance(event, PersonCutOut)]

    wait_until(lambda: len(told()) > 1, "its end is told")
    assert told() == [PersonCutOut(under_way=True), PersonCutOut(under_way=False)]


def test_another_portrait_waits_until_it_is_cut_out_and_the_one_before_goes_on(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    stage = Stage(face, woman)
    _wait_for_person(stage, cut)
    slow = SlowCutting(monkeypatch)
    other = dataclasses.replace(woman, square=np.ascontiguousarray(woman.square[:, ::-1]))
    stage.animator.set_portrait(other, cut_out=True)
    for _ in range(5):
        assert _person(stage, cut) is not None  # never a picture with a background of its own
    assert len([event for event in stage.events if isinstance(event, SourceReady)]) == 1
    slow.go_on.set()

    def taken() -> bool:
        assert _person(stage, cut) is not None
        return len([event for event in stage.events if isinstance(event, SourceReady)]) == 2

    wait_until(taken, "the other portrait is taken")


def _cutting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cutting out"]


def _other(portrait: Portrait, shift_px: int = 0) -> Portrait:
    """One who looks otherwise."""
    square = np.roll(np.ascontiguousarray(portrait.square[:, ::-1]), shift_px, 1)
    return dataclasses.replace(portrait, square=square)


def _refusals(stage: Stage) -> list[SettingRefused]:
    return [event for event in stage.events if isinstance(event, SettingRefused)]


def test_of_portraits_chosen_in_a_row_only_the_last_waits_for_the_one_being_cut_out(
    woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCutting(monkeypatch)
    stage = Stage(None, None)
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    chosen = [_other(woman, shift_px) for shift_px in range(8)]
    stage.animator.set_portrait(chosen[0], cut_out=True)
    wait_until(lambda: len(slow.begun) == 1, "the first one is begun")
    for portrait in (*chosen[1:], chosen[0], chosen[-1]):  # the first one again, which is still under way
        stage.animator.set_portrait(portrait, cut_out=True)
    slow.go_on.set()

    def taken() -> bool:
        stage.step(cut)
        return any(isinstance(event, SourceReady) for event in stage.events)

    wait_until(taken, "the last one is taken")
    stage.animator.close()
    for square, wanted in zip(slow.begun, (chosen[0], chosen[-1]), strict=True):
        np.testing.assert_array_equal(square, resized(wanted.square, stage.engine.config.size_px))
    assert slow.threads == 1


def test_a_closed_animator_leaves_nothing_that_cuts_out(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.pipeline.animation.cutting_out._JOIN_S", 10.0)  # a busy machine is slow
    stage = Stage(face, None)
    stage.animator.set_portrait(woman, cut_out=True)
    stage.animator.close()
    stage.animator.close()
    assert not _cutting_threads()
    caplog.set_level(logging.INFO)
    slow = SlowCutting(monkeypatch)
    monkeypatch.setattr("app.pipeline.animation.cutting_out._JOIN_S", 0.05)
    late = Stage(face, None)
    late.animator.set_portrait(woman, cut_out=True)
    wait_until(lambda: slow.begun != [], "it is begun")
    late.animator.close()
    assert "left behind" in caplog.text
    (thread,) = _cutting_threads()
    slow.go_on.set()
    thread.join(10)
    assert not _cutting_threads()


_ENDS_WHILE_CUTTING = """
    import sys, time
    import numpy as np
    from app.pipeline.animation import cutting_out

    def cut_out(square):
        time.sleep(float(sys.argv[1]))
        print("cut out")

    cutting_out.cut_out = cut_out
    cutting_out._AT_EXIT_S = float(sys.argv[2])
    cutting_out.Cutter(None).begin(np.zeros((8, 8, 3), np.uint8), 8)
    print("the end")
"""


@pytest.mark.parametrize(
    ("takes_s", "patience_s", "said"), [(0.3, 60.0, ["the end", "cut out"]), (600.0, 0.3, ["the end"])]
)
def test_pythons_own_end_waits_for_a_portrait_and_not_for_ever(
    takes_s: float, patience_s: float, said: list[str]
) -> None:
    """Torn out of OpenCV's code its thread would abort the process; one that hangs there would keep it."""
    words = [sys.executable, "-c", textwrap.dedent(_ENDS_WHILE_CUTTING), str(takes_s), str(patience_s)]
    done = subprocess.run(words, capture_output=True, check=False, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(), KeyError("x")], ids=lambda error: type(error).__name__)
def test_however_a_cutting_ends_without_a_matte_it_is_told_and_the_call_goes_on(
    face: Face,
    woman: Portrait,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    def fail(_: Rgb) -> Matte:
        raise error

    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", fail)
    stage = Stage(face, woman)
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    wait_until(lambda: _person(stage, cut) is None and _refusals(stage) != [], "it is told")
    output = stage.step(cut).output
    assert output is not None
    assert output.whole
    assert type(error).__name__ in _refusals(stage)[0].message
    assert "cannot be cut out" in caplog.text
    # Switched on again it is tried again.
    assert _person(stage, SETTINGS) is None
    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", cut_out)
    stage.animator.try_again(cut_out=True, retouch=False, fine_detail=False)
    _wait_for_person(stage, cut)
    stage.animator.close()


def test_a_cutting_that_failed_is_tried_again_also_while_nothing_moves(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", lambda _: 1 // 0)
    stage = Stage(face, woman)
    cut = dataclasses.replace(SETTINGS, cut_out=True, idle_s=60.0)
    wait_until(lambda: _person(stage, cut) is None and _refusals(stage) != [], "it is told")
    stage.finder.face = None
    stage.until(State.IDLE, cut)
    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", cut_out)
    stage.animator.try_again(cut_out=False, retouch=True, fine_detail=False)
    assert not any(_idle_person(stage, cut) for _ in range(3))
    stage.animator.try_again(cut_out=True, retouch=False, fine_detail=False)
    wait_until(lambda: _idle_person(stage, cut), "the person is cut out")
    stage.animator.close()


def _idle_person(stage: Stage, settings: LiveSettings) -> bool:
    output = stage.step(settings).output
    assert output is not None
    assert output.state is State.IDLE
    return output.person is not None


def test_a_thread_that_cannot_start_is_a_failure_of_the_cutting_like_others(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cut = dataclasses.replace(SETTINGS, cut_out=True)
    stage = Stage(face, None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        stage.animator.set_portrait(woman, cut_out=True)
        output = stage.until(State.LIVE, cut).output
    assert output is not None
    assert output.whole
    assert "can't start new thread" in _refusals(stage)[0].message
    assert "cannot be cut out" in caplog.text
    stage.animator.set_portrait(woman, cut_out=True)
    _wait_for_person(stage, cut)
    stage.animator.close()


def test_a_portrait_is_not_shown_whole_because_another_could_not_be_cut_out(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Rgb) -> Matte:
        raise MemoryError

    cut = dataclasses.replace(SETTINGS, cut_out=True)
    stage = Stage(face, woman)
    with monkeypatch.context() as patch:
        patch.setattr("app.pipeline.animation.cutting_out.cut_out", fail)
        wait_until(lambda: _person(stage, cut) is None and _refusals(stage) != [], "it is told")
    assert "cannot be cut out" in caplog.text
    stage.animator.set_portrait(_other(woman))
    slow = SlowCutting(monkeypatch)
    for settings in (SETTINGS, cut):
        shown = [stage.step(settings).output for _ in range(3)]
        assert all(one is not None and one.avatar is not None and not one.whole for one in shown)
    slow.go_on.set()
    _wait_for_person(stage, cut)
    stage.animator.close()


def test_a_portrait_that_cannot_be_animated_leaves_the_one_before_cut_out(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    stage = Stage(face, woman)
    _wait_for_person(stage, cut)
    stage.engine.fail_source = EngineError("too large")
    stage.animator.set_portrait(_other(woman), cut_out=True)

    def refused() -> bool:
        assert _person(stage, cut) is not None
        return any(isinstance(event, SourceFailed) for event in stage.events)

    wait_until(refused, "the other one is refused")
    slow = SlowCutting(monkeypatch)
    assert all(_person(stage, cut) is not None for _ in range(3))
    assert not slow.begun
    stage.animator.close()


def test_another_model_does_not_wait_for_ever_for_the_matte(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = dataclasses.replace(SETTINGS, cut_out=True)
    stage = Stage(face, woman)
    slow = SlowCutting(monkeypatch)
    wait_until(lambda: _person(stage, cut) is None and slow.begun != [], "it is begun")
    monkeypatch.setattr("app.pipeline.animation.mattes._WAIT_S", 0.05)
    taken_over: list[bool] = []
    stage.animator.use_engine(FakeEngine(), taken_over.append)
    assert len(taken_over) == 1
    wait_until(lambda: _person(stage, cut) is None and PersonCutOut(under_way=True) in stage.events, "it is told")
    slow.go_on.set()
    _wait_for_person(stage, cut)
    stage.animator.close()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
@pytest.mark.parametrize("error", [PermissionError, ValueError])
def test_a_priority_that_is_forbidden_keeps_nobody_from_being_cut_out(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def forbid(*_: int) -> None:
        raise error

    monkeypatch.setattr(os, "setpriority", forbid)
    _wait_for_person(Stage(face, woman), dataclasses.replace(SETTINGS, cut_out=True))


def test_a_portrait_does_not_wait_for_what_is_not_wanted_any_more(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCutting(monkeypatch)
    stage = Stage(face, None)
    stage.animator.set_portrait(woman, cut_out=True)
    waiting = stage.step(dataclasses.replace(SETTINGS, cut_out=True)).output
    assert waiting is not None
    assert waiting.state is State.STARTING
    stage.until(State.LIVE)
    slow.go_on.set()
    stage.animator.close()


def _wait_for_person(stage: Stage, settings: LiveSettings) -> None:
    wait_until(lambda: _person(stage, settings) is not None, "the person is cut out")


def _person(stage: Stage, settings: LiveSettings) -> Person | None:
    """Of the next picture of the avatar."""
    output = stage.until(State.LIVE, settings).output
    assert output is not None
    return output.person


def test_a_person_who_cannot_be_cut_out_is_told_of_once(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcnet.media.matte.NETWORK", Path("nowhere.tflite"))
    stage = Stage(face, woman)
    cut_out = dataclasses.replace(SETTINGS, cut_out=True)

    def told_of() -> bool:
        stage.until(State.LIVE, cut_out)
        return any(isinstance(event, SettingRefused) for event in stage.events)

    wait_until(told_of, "it is told")
    output = stage.step(cut_out).output
    assert output is not None
    assert output.avatar is not None
    assert output.person is None
    assert output.whole
    (told,) = [event for event in stage.events if isinstance(event, SettingRefused)]
    assert told.setting == "cut_out"
    assert "reinstall the package" in told.message
    assert "cannot be cut out" in caplog.text


def test_no_portrait_no_avatar(face: Face) -> None:
    output = Stage(face, None).step().output
    assert output is not None
    assert (output.state, output.avatar) == (State.STARTING, None)


def test_the_slate_stays_until_the_reference_pose_is_taken(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    first = stage.step().output
    assert first is not None
    assert (first.state, first.avatar) == (State.CALIBRATING, None)
    live = stage.until(State.LIVE).output
    assert live is not None
    assert live.avatar is not None
    assert live.fresh
    assert [event for event in stage.events if isinstance(event, Calibrated)] != []
    assert [event for event in stage.events if isinstance(event, CalibrationProgress)] != []


def test_absolute_motion_needs_no_calibration(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.2
    for _ in range(20):
        output = stage.step(dataclasses.replace(SETTINGS, relative=False)).output
    assert output is not None
    assert output.state is State.LIVE
    shown = stage.engine.rendered[-1].value[0]
    np.testing.assert_allclose(shown, stage.engine.detect(np.zeros((256, 256, 3), np.uint8)).value[0], atol=1e-6)


def test_relative_motion_moves_the_avatar_as_the_driver_moved(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.3  # the driver sits aside, which is not to be seen
    stage.until(State.LIVE)
    for _ in range(20):
        stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)
    stage.engine.shift = 0.4
    stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.1, 0.1], atol=1e-6)


def test_a_lost_face_goes_down_the_ladder_and_comes_back_by_itself(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.1
    stage.until(State.LIVE)
    stage.engine.shift = 0.3
    for _ in range(20):
        searched = stage.finder.searched
        live = stage.step().output
        if stage.finder.searched > searched and live is not None:
            proven = live.avatar
    stage.finder.face = None
    held = stage.step().output
    while held is not None and held.state is State.LIVE:  # until the next look for the face
        held = stage.step().output
    assert live is not None
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is proven, "what is held is of the last frame that is known to show a face"
    assert not held.fresh
    stage.until(State.EASING)
    idle = stage.until(State.IDLE).output
    assert idle is not None
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)
    rendered = len(stage.engine.rendered)
    stage.step()
    assert len(stage.engine.rendered) == rendered  # resting costs nothing
    gone = stage.until(State.NO_FACE).output
    assert gone is not None
    assert gone.avatar is None
    stage.finder.face = face
    back = stage.until(State.LIVE).output
    assert back is not None
    assert back.avatar is not None
    for _ in range(20):
        stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.2, 0.1], atol=1e-6)


def test_a_camera_that_stops_goes_down_the_same_ladder(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    assert stage.step(frame=False).output is None  # one frame late is no loss
    stage.until(State.HOLD, frame=False)
    stage.until(State.EASING, frame=False)
    stage.until(State.NO_CAMERA, frame=False)
    stage.until(State.LIVE)


def test_between_the_frames_of_a_slow_camera_what_is_shown_stays(face: Face, woman: Portrait) -> None:
    """A network camera at night, say; the sinks take a model that says nothing for hung."""
    stage = Stage(face, woman)
    stage.until(State.LIVE)

    def between(next_s: float, steps: int) -> list[tuple[State, bool]]:
        stage.now_s += DT_S
        frame = CameraFrame(stage.frames, stage.now_s, marked_picture(), "one", next_s=next_s)
        assert stage.animator.step(frame, stage.now_s, SETTINGS).output is not None
        outputs = [stage.step(frame=False).output for _ in range(steps)]
        return [(output.state, output.fresh) for output in outputs if output is not None]

    for _ in range(2):
        shown = between(2.0, 50)
        assert len(shown) > 35
        assert set(shown) == {(State.LIVE, False)}
    assert State.NO_CAMERA in {state for state, _ in between(2.0, 150)}, "it has ended"
    assert State.EASING in {state for state, _ in between(0.04, 50)}
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.HOLD)
    assert State.EASING in {state for state, _ in between(2.0, 50)}, "nothing waits for it where no face is seen"


def test_another_camera_is_calibrated_anew_and_the_same_one_is_not(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.until(State.NO_CAMERA, frame=False)
    back = stage.step().output
    assert back is not None
    assert back.state is State.LIVE
    other = stage.step(camera="two").output
    assert other is not None
    assert other.state is State.CALIBRATING


def test_recalibrating_while_live_shows_the_avatar_all_along(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.2
    stage.animator.calibrate(0.0)
    for _ in range(20):
        output = stage.step().output
        assert output is not None
        assert output.state is State.LIVE
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)


def test_a_portrait_that_fails_leaves_the_one_before(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail_source = EngineError("the model gave NaN")
    other = dataclasses.replace(woman, square=np.zeros_like(woman.square))
    stage.animator.set_portrait(other)
    assert stage.events[-1] == SourceFailed("woman_1", "the model gave NaN")
    output = stage.step().output
    assert output is not None
    assert output.state is State.LIVE


def test_a_portrait_seen_before_is_not_encoded_again(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.animator.set_portrait(woman)
    assert stage.engine.sources == 1
    assert [event.from_cache for event in stage.events if isinstance(event, SourceReady)] == [False, True]


def test_a_followed_face_is_not_searched_in_every_frame(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    searched = stage.finder.searched
    views = [stage.step().view for _ in range(30)]
    looks = stage.finder.searched - searched
    assert looks == pytest.approx(30 * DT_S / LOOK_EVERY_S, abs=1.1)  # in whole frames, so a little less often
    assert sum(view is not None and view.landmarks_px is not None for view in views) == looks
    assert all(view is not None and view.keypoints is not None for view in views)


def test_a_face_that_moves_is_searched_more_often(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    searched = stage.finder.searched
    for _ in range(30):
        stage.engine.shift += 0.05  # of half the crop's side, each frame
        stage.step()
    assert stage.finder.searched - searched == 10  # every third frame of 0.04 s is the first after 0.1 s
    searched = stage.finder.searched
    for index in range(30):
        stage.engine.shift += 0.03 if index % 2 else -0.03  # trembling is no moving
        stage.step()
    assert stage.finder.searched - searched <= 30 * DT_S / LOOK_EVERY_S + 1
    searched = stage.finder.searched
    for _ in range(30):
        stage.engine.scale *= 1.02  # it comes nearer
        stage.step()
    assert stage.finder.searched - searched in (10, 11)  # once more where it becomes larger than heads do


@pytest.mark.parametrize("stays", [True, False])
def test_where_a_face_is_counts_in_the_camera_not_in_the_crop(face: Face, woman: Portrait, stays: bool) -> None:
    """The crop widens and wanders, over a face that stays where it is; or the face goes along."""
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    searched = stage.finder.searched
    for index in range(1, 31):
        zoom, nudge_x = (1.005 if stays else 1.02) ** index, 0.01 * index
        if stays:
            stage.engine.scale, stage.engine.shift = zoom, -2 * nudge_x * zoom
        stage.step(dataclasses.replace(SETTINGS, zoom=zoom, nudge_x=nudge_x))
    looks = stage.finder.searched - searched
    assert looks == (pytest.approx(30 * DT_S / LOOK_EVERY_S, abs=1.1) if stays else 10)


def test_the_picture_does_not_wait_for_the_search(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.now_s += 10 * LOOK_EVERY_S
    searched = stage.finder.searched
    step = stage.only_step()
    assert step.output is not None
    assert step.output.state is State.LIVE
    assert step.view is not None
    assert step.view.landmarks_px is None
    assert stage.finder.searched == searched
    followed = stage.animator.follow(step.view)
    assert stage.finder.searched == searched + 1
    assert followed.landmarks_px is face.landmarks_px
    assert followed.frame is step.view.frame
    assert stage.animator.follow(step.view).landmarks_px is None  # it was searched already


def test_a_lost_face_and_a_calibration_are_searched_for_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    searched = stage.finder.searched
    while stage.finder.searched == searched:  # it is found to be lost after a picture of it
        output = stage.step().output
        assert output is not None
        assert output.state is State.LIVE
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert output.state is State.HOLD
    assert stage.finder.searched == searched + 1
    stage.finder.face = face
    stage.until(State.LIVE)
    stage.animator.calibrate(1.0)
    for _ in range(5):
        searched = stage.finder.searched
        step = stage.only_step()
        assert step.view is not None
        assert step.view.landmarks_px is face.landmarks_px  # of this very frame: the calibration needs them
        assert stage.animator.follow(step.view) is step.view
        assert stage.finder.searched == searched + 1


def test_another_camera_or_size_is_searched_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    searched = stage.finder.searched
    views = [stage.only_step(camera="two").view]
    stage.now_s += DT_S
    frame = CameraFrame(999, stage.now_s, marked_picture(960, 1280), "two")
    views.append(stage.animator.step(frame, stage.now_s, SETTINGS).view)
    assert stage.finder.searched == searched + 2
    for view in views:
        assert view is not None
        assert view.landmarks_px is face.landmarks_px
        assert stage.animator.follow(view) is view


def test_after_a_search_that_failed_the_next_frame_is_searched_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.now_s += 10 * LOOK_EVERY_S
    view = stage.only_step().view
    assert view is not None
    stage.finder.fail = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        stage.animator.follow(view)
    stage.animator.recover()
    stage.finder.fail = None
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert output.state is State.LIVE
    assert stage.finder.searched == searched + 1


def test_zoom_and_nudge_move_the_crop(face: Face, woman: Portrait) -> None:
    plain = Stage(face, woman).step().view
    moved = Stage(face, woman).step(dataclasses.replace(SETTINGS, zoom=1.25, nudge_x=0.1, nudge_y=-0.1)).view
    assert plain is not None
    assert plain.box is not None
    assert moved is not None
    assert moved.box is not None
    assert moved.box.side == pytest.approx(plain.box.side / 1.25)
    assert moved.box.center_x - plain.box.center_x == pytest.approx(0.1 * plain.box.side)
    assert moved.box.center_y - plain.box.center_y == pytest.approx(-0.1 * plain.box.side)


def test_who_comes_back_elsewhere_is_framed_there_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.IDLE)
    aside = face.landmarks_px + np.array([150, 20, 0], np.float32)
    stage.finder.face = Face(aside, 1.0)
    view = stage.until(State.LIVE).view
    assert view is not None
    assert view.box is not None
    assert dataclasses.astuple(view.box) == pytest.approx(dataclasses.astuple(frame_face(Face(aside, 1.0))))


def test_another_size_of_frames_is_framed_afresh(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    double = Face(face.landmarks_px * 2, 1.0)
    stage.finder.face = double
    stage.now_s += DT_S
    frame = CameraFrame(999, stage.now_s, marked_picture(960, 1280), "one")
    view = stage.animator.step(frame, stage.now_s, SETTINGS).view
    assert view is not None
    assert view.box is not None
    assert dataclasses.astuple(view.box) == pytest.approx(dataclasses.astuple(frame_face(double)))


def test_another_portrait_while_the_face_is_lost_shows_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.HOLD)
    stage.animator.set_portrait(dataclasses.replace(woman, square=woman.square[:, ::-1].copy()))
    for _ in range(20):
        output = stage.step().output
        assert output is not None
        assert output.avatar is not None


def test_a_change_of_the_reference_is_glided_over(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.3
    for _ in range(20):
        stage.step()
    stage.animator.calibrate(0.0)
    places = []
    for _ in range(20):
        stage.step()
        places.append(float(stage.engine.rendered[-1].value[0, 4, 0]))
    assert places[-1] == pytest.approx(0.0, abs=1e-6)
    assert max(abs(np.diff([0.3, *places]))) < 0.1


def test_one_frame_without_keypoints_spoils_no_other(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    settings = dataclasses.replace(SETTINGS, smoothing=0.5)
    stage.until(State.LIVE, settings)
    stage.engine.nan = True
    with pytest.raises(EngineError, match="gave NaN for the keypoints"):
        stage.step(settings)
    stage.animator.recover()
    stage.engine.nan = False
    stage.until(State.LIVE, settings)
    assert np.isfinite(stage.engine.rendered[-1].value).all()


def test_whatever_a_portrait_meets_the_one_before_stays(
    face: Face, woman: Portrait, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail_source = RuntimeError("out of memory")
    stage.animator.set_portrait(dataclasses.replace(woman, square=np.zeros_like(woman.square)))
    assert stage.events[-1] == SourceFailed("woman_1", "RuntimeError: out of memory")
    assert "out of memory" in caplog.text
    stage.until(State.LIVE)


def test_a_model_that_fails_is_not_hidden(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail = EngineError("NaN")
    with pytest.raises(EngineError, match="NaN"):
        stage.step()


def test_with_the_real_model_it_shows_what_the_engine_animates(woman: Portrait) -> None:
    """GRID's speaker drives: the same crop, reference and motion as `Engine.animate`, so the same picture."""
    engine = Engine(load_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    events: list[Event] = []
    finder = FaceFinder(tracking=True)
    animator = Animator(engine, events.append, lambda *_: None, finder=finder)
    animator.set_portrait(woman)
    settings = LiveSettings(calibration_s=0.0, smoothing=0.0, keypoints="detected", fine_detail=False)
    frames = list(open_driving(GRID))[:12:3]
    shown = None
    for index, rgb in enumerate(frames):
        now_s = 10.0 + index
        shown = animator.step(CameraFrame(index, now_s, rgb, "grid"), now_s, settings).output
    assert shown is not None
    assert shown.state is State.LIVE
    with FaceFinder() as fresh:
        box = frame_face(fresh.find(frames[0])[0])
    engine.calibrate(crop(frames[0], box, 256))
    expected = engine.animate(crop(frames[-1], box, 256))
    assert shown.avatar is not None
    difference = np.abs(shown.avatar.astype(int) - expected)
    assert difference.mean() < 0.6  # the finder, tracking, frames the head a fraction of a pixel otherwise
    still = np.abs(shown.avatar.astype(int) - engine.render(engine.set_source(woman.square).keypoints))
    assert still.mean() > 2 * difference.mean()


def test_with_the_real_model_space_is_what_the_offline_command_makes(woman: Portrait) -> None:
    engine = Engine(load_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    finder = FaceFinder(tracking=True)
    events: list[Event] = []
    animator = Animator(engine, events.append, lambda *_: None, finder=finder)
    animator.set_portrait(woman)
    settings = LiveSettings(calibration_s=0.0, smoothing=0.0, fine_detail=False)
    frames = list(open_driving(GRID))[:12:3]
    shown = None
    shots = []
    for index, rgb in enumerate(frames):
        now_s = 10.0 + index
        step = animator.step(CameraFrame(index, now_s, rgb, "grid"), now_s, settings)
        shown = step.output
        assert step.view is not None
        assert step.view.box is not None
        assert step.view.landmarks_px is not None
        shots.append(Shot(rgb, Face(step.view.landmarks_px, 1.0), step.view.box, 256))
    assert shown is not None
    assert shown.state is State.LIVE
    assert shown.avatar is not None
    assert woman.landmarks_px is not None
    source = Shot(woman.rgb, Face(woman.landmarks_px, 1.0), woman.box, 256)
    expected = SpaceDrive(engine, source, shots[0]).pictures(shots[-1:])[0]
    difference = np.abs(shown.avatar.astype(int) - expected)
    assert difference.mean() < 1  # live, the portrait's larger square is shrunk by the engine
    still = np.abs(shown.avatar.astype(int) - source.square)
    assert still.mean() > 2 * difference.mean()
    # What is inspected is this very picture, but for how the portrait is shrunk.
    assert step.view is not None
    assert step.view.posed is not None
    artist = Artist("starter")
    assert len(artist.draw(Request(step.view.posed, ("warped",), (0.5, 0.5), 64))) == 1  # they are its own weights
    again = to_rgb(artist.see(step.view.posed).frame.prediction)[0].numpy()
    assert np.abs(shown.avatar.astype(int) - again).mean() < 1
    # With fine detail, what `mcnet animate --size 512` makes.
    animator.set_portrait(woman)  # the drive has taken the engine
    detailed = animator.step(
        CameraFrame(len(frames), now_s + 0.01, frames[-1], "grid"),
        now_s + 0.01,
        dataclasses.replace(settings, fine_detail=True),
    ).output
    assert detailed is not None
    assert detailed.avatar is not None
    large = dataclasses.replace(source, size_px=512).square
    expected = SpaceDrive(engine, source, shots[0], larger=large).pictures(shots[-1:])[0]
    assert detailed.avatar.shape == expected.shape == (512, 512, 3)
    assert np.abs(detailed.avatar.astype(int) - expected).mean() < 1
    plain = resized(shown.avatar, 512)
    assert np.abs(plain.astype(int) - expected).mean() > 2, "the network's own has less"


def turned(face: Face, yaw_deg: float) -> Face:
    angle = np.radians(yaw_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    centre = face.landmarks_px.mean(axis=0)
    return Face((face.landmarks_px - centre) @ rotation.T + centre, 1.0)


def shown_head(stage: Stage) -> NDArray[np.float32]:
    places: NDArray[np.float32] = stage.engine.rendered[-1].value[0]
    return places


def test_measured_keypoints_need_no_detector_once_calibrated(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    stage.engine.nan = True  # whatever the detector would say now
    searched = stage.finder.searched
    for _ in range(20):
        step = stage.step()
        assert step.output is not None
        assert step.output.state is State.LIVE
        assert step.view is not None
        assert step.view.landmarks_px is face.landmarks_px
        assert step.view.keypoints is not None
        assert step.view.box is not None
        np.testing.assert_allclose(
            step.view.keypoints,
            mesh_in_square(face.landmarks_px, step.view.box, 256)[list(POINTS), :2].astype(np.float32),
            atol=1e-6,
        )
    assert stage.finder.searched - searched == 20  # the mesh measures every frame, and nothing else is looked for


@pytest.mark.parametrize(
    ("points", "settings", "mesh", "measured", "in_space"),
    [
        (POINTS, SETTINGS, True, True, True),
        (POINTS, dataclasses.replace(SETTINGS, motion="plane"), True, True, False),
        (POINTS, dataclasses.replace(SETTINGS, keypoints="detected"), True, False, False),
        (POINTS, SETTINGS, False, False, False),
        ((), SETTINGS, True, False, False),
    ],
    ids=["in space", "in the plane", "detected", "a portrait without a mesh", "a model without meaning"],
)
def test_it_tells_what_was_measured_and_what_the_calibration_asked_for(
    face: Face,
    woman: Portrait,
    points: tuple[int, ...],
    settings: LiveSettings,
    mesh: bool,
    measured: bool,
    in_space: bool,
) -> None:
    stage = Stage(face, woman if mesh else dataclasses.replace(woman, landmarks_px=None), points)
    stage.until(State.LIVE, settings)
    assert [event.measured for event in stage.events if isinstance(event, SourceReady)][-1] is measured
    assert [event.in_space for event in stage.events if isinstance(event, Calibrated)] == [in_space]


def test_in_space_the_avatar_looks_where_the_performer_looks(face: Face, woman: Portrait) -> None:
    """A reference that looks aside melts nothing: turned back, the avatar has its own face."""
    straight = Stage(face, woman, POINTS)
    straight.until(State.LIVE)
    aside = Stage(turned(face, 40), woman, POINTS)
    aside.until(State.LIVE)
    for stage in (straight, aside):
        stage.finder.face = face
        for _ in range(30):
            stage.step()
    size = np.ptp(shown_head(straight), axis=0).max()
    np.testing.assert_allclose(
        shown_head(aside) - shown_head(aside).mean(0), shown_head(straight) - shown_head(straight).mean(0),
        atol=0.03 * size,
    )  # fmt: skip
    own = aside.engine.set_source(woman.square, np.asarray(aside.animator._source.space.places, np.float32))  # type: ignore[union-attr]
    away = own.keypoints.value[0] - shown_head(aside)
    assert np.abs(away - away.mean(0)).max() < 0.1 * size, "the face shape is the portrait's"


def test_a_more_neutral_expression_takes_the_place_of_the_calibrated_one(face: Face, woman: Portrait) -> None:
    """Who is caught in the middle of a word is not measured from it for the rest of the call."""
    speaking = face.landmarks_px.copy()
    lower = [14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377]
    speaking[lower, 1] += 0.12 * np.ptp(face.landmarks_px[:, 1])
    stage = Stage(Face(speaking, 1.0), woman, POINTS)
    stage.until(State.LIVE)
    first = stage.animator._references.reference
    stage.finder.face = face
    for _ in range(30):
        stage.step()
    second = stage.animator._references.reference
    assert first is not None
    assert second is not None
    assert first.head is not None
    assert second.head is not None
    assert second.head.openings.mouth < first.head.openings.mouth - 0.1
    assert second.head.shift.tolist() == first.head.shift.tolist()  # where the head was stays
    stage.finder.face = Face(speaking, 1.0)
    for _ in range(30):
        stage.step()
    third = stage.animator._references.reference
    assert third is second, "the word does not come back as the reference"
    improved = [event for event in stage.events if isinstance(event, ReferenceImproved)]
    assert improved == [ReferenceImproved(stage.animator._references.score, ())]
    assert improved[0].score > next(event.score for event in stage.events if isinstance(event, Calibrated))


def test_what_is_hardly_a_face_is_held(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    shown = stage.until(State.LIVE).output
    assert shown is not None
    torn = face.landmarks_px.copy()
    torn[:, :2] = torn[:, :2].mean(0) + (torn[:, :2] - torn[:, :2].mean(0)) * [1.8, 0.6]
    stage.finder.face = Face(torn, 1.0)
    held = stage.step().output
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is shown.avatar
    stage.finder.face = face
    assert stage.until(State.LIVE).output is not None


def test_what_is_hardly_a_face_is_not_followed(face: Face, woman: Portrait) -> None:
    """It may be a poster behind the performer: the frame after it is searched, and judged, anew."""
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    forgotten: list[bool] = []
    stage.finder.forget = lambda: forgotten.append(True)  # type: ignore[method-assign]
    squeezed = face.landmarks_px * np.array([1.8, 0.6, 1], np.float32)
    stage.finder.face = Face(squeezed + (face.landmarks_px - squeezed).mean(0), 1.0)
    stage.step()
    assert forgotten == [True]


@pytest.mark.parametrize("frames", [1, 30])
def test_a_better_expression_has_to_last_and_to_look_ahead(face: Face, woman: Portrait, frames: int) -> None:
    speaking = face.landmarks_px.copy()
    speaking[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152], 1] += 0.12 * np.ptp(face.landmarks_px[:, 1])
    stage = Stage(Face(speaking, 1.0), woman, POINTS)
    stage.until(State.LIVE)
    first = stage.animator._references.reference
    stage.finder.face = turned(face, 40) if frames > 1 else face
    for _ in range(frames):
        stage.step()
    assert stage.animator._references.reference is first


def test_a_lost_face_eases_to_the_portraits_own_pose_in_space(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    stage.finder.face = turned(face, 25)
    for _ in range(20):
        stage.step()
    stage.finder.face = None
    stage.until(State.IDLE)
    source = stage.animator._source
    assert source is not None
    assert source.space is not None
    np.testing.assert_allclose(shown_head(stage), source.space.places, atol=1e-5)


@pytest.mark.parametrize("change", [{"motion": "plane"}, {"relative": False}])
def test_measured_keypoints_in_the_plane(face: Face, woman: Portrait, change: dict[str, Any]) -> None:
    stage = Stage(face, woman, POINTS)
    settings = dataclasses.replace(SETTINGS, **change)
    stage.until(State.LIVE, settings)
    for _ in range(20):
        stage.step(settings)
    source = stage.animator._source
    assert source is not None
    assert source.space is not None
    view = stage.step(settings).view
    assert view is not None
    assert view.box is not None
    measured = mesh_in_square(face.landmarks_px, view.box, 256)[list(POINTS), :2]
    expected = source.space.places if settings.relative else measured
    np.testing.assert_allclose(shown_head(stage), expected, atol=1e-5)


def test_keypoints_that_are_to_be_detected_after_all_are_found_anew(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    settings = dataclasses.replace(SETTINGS, keypoints="detected")
    first = stage.step(settings).output
    assert first is not None
    assert first.state is State.CALIBRATING  # measured and detected ones are never mixed
    stage.until(State.LIVE, settings)
    for _ in range(20):
        stage.step(settings)
    np.testing.assert_allclose(shown_head(stage), keypoints().value[0], atol=1e-6)


def test_a_portrait_without_a_face_is_detected(face: Face, woman: Portrait) -> None:
    stage = Stage(face, dataclasses.replace(woman, landmarks_px=None), POINTS)
    stage.until(State.LIVE)
    assert stage.animator._source is not None
    assert not stage.animator._source.cache.measured
    stage.animator.set_portrait(woman)
    output = stage.step().output
    assert output is not None
    assert output.state is State.CALIBRATING
    stage.until(State.LIVE)
    assert stage.animator._source.cache.measured


@pytest.mark.parametrize("change", ["dark", "jump", "melted"])
def test_a_doubtful_frame_is_judged_before_it_is_shown(face: Face, woman: Portrait, change: str) -> None:
    lit = marked_picture()
    lit[..., 1] = lit[..., 0]
    stage = Stage(face, woman)
    for _ in range(20):
        stage.animator.follow(view) if (view := stage.only_step(rgb=lit).view) is not None else None
    live = stage.only_step(rgb=lit).output
    assert live is not None
    assert live.state is State.LIVE
    searched = stage.finder.searched
    stage.finder.face = None
    if change == "jump":
        stage.engine.shift = 0.5
    if change == "melted":
        stage.engine.scale = 0.2
    rendered = len(stage.engine.rendered)
    output = stage.only_step(rgb=lit // 20 if change == "dark" else lit).output
    assert output is not None
    assert (output.state, output.fresh) == (State.HOLD, False)
    assert stage.finder.searched == searched + 1
    assert len(stage.engine.rendered) == rendered, "nothing is made of it"


def test_a_doubtful_frame_that_shows_the_face_goes_on(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.5
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert (output.state, output.fresh) == (State.LIVE, True)
    assert stage.finder.searched == searched + 1


def test_who_leaves_the_picture_sideways_is_gone_before_the_mesh_only_guesses(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    aside = face.landmarks_px.copy()
    aside[:, 0] += 640 - aside[:, 0].min() - 0.5 * np.ptp(aside[:, 0])  # half of it is outside
    stage.finder.face = Face(aside, 1.0)
    stage.until(State.HOLD)


@pytest.fixture
def undetected(face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A model that was trained on measured keypoints alone: whoever crops a frame or asks the detector fails."""

    def no_crop(*_: object) -> Rgb:
        raise AssertionError("the performer was cropped")

    monkeypatch.setattr("app.pipeline.animation.performer.crop", no_crop)
    stage = Stage(face, None, POINTS)
    stage.engine.places_suffice, stage.engine.detects = True, False
    stage.animator.set_portrait(woman)
    return stage


@pytest.mark.parametrize(
    "change",
    [{}, {"motion": "plane"}, {"relative": False}, {"keypoints": "detected"}],
    ids=["in space", "in the plane", "absolute", "detected ones are asked for"],
)
def test_where_places_suffice_neither_crop_nor_detector_is_needed(undetected: Stage, change: dict[str, Any]) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    undetected.until(State.LIVE, settings)
    step = undetected.step(settings)
    assert step.output is not None
    assert step.output.state is State.LIVE
    assert step.view is not None
    assert step.view.box is not None
    assert step.view.keypoints is not None
    assert undetected.finder.face is not None
    source = undetected.animator._source
    assert source is not None
    assert source.space is not None
    assert source.cache.measured
    measured = mesh_in_square(undetected.finder.face.landmarks_px, step.view.box, 256)[list(POINTS), :2]
    np.testing.assert_allclose(step.view.keypoints, measured, atol=1e-5)
    for _ in range(20):  # until it has glided there
        undetected.step(settings)
    if not settings.relative:
        np.testing.assert_allclose(shown_head(undetected), measured, atol=1e-5)


@pytest.mark.parametrize("motion", ["space", "plane"])
def test_where_places_suffice_a_lost_face_is_held_as_ever(undetected: Stage, face: Face, motion: Any) -> None:
    settings = dataclasses.replace(SETTINGS, motion=motion)
    shown = undetected.until(State.LIVE, settings).output
    assert shown is not None
    undetected.finder.face = None
    held = undetected.step(settings).output
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is shown.avatar
    undetected.until(State.IDLE, settings)
    undetected.finder.face = face
    undetected.until(State.LIVE, settings)


def test_a_portrait_whose_keypoints_cannot_be_found_is_refused(undetected: Stage, woman: Portrait) -> None:
    undetected.until(State.LIVE)
    faceless = dataclasses.replace(woman, square=np.zeros_like(woman.square), landmarks_px=None)
    undetected.animator.set_portrait(faceless)
    assert undetected.events[-1] == SourceFailed("woman_1", "this model cannot detect any")
    undetected.until(State.LIVE)  # the one before stays
