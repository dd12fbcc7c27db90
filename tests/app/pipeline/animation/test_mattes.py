"""Who is cut out of the pictures, when, and what becomes of a call where nobody can be."""

import dataclasses
import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from app.pipeline.animation.source_store import SourceStore
from app.pipeline.events import (
    PersonCutOut,
    SettingRefused,
    SourceFailed,
    SourceReady,
)
from app.pipeline.output.output_frame import Person
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.engine import EngineError
from mcnet.media.faces import Face
from mcnet.media.matte import Matte, cut_out
from mcnet.media.surroundings import Margins
from tests.app.fakes import FakeEngine, wait_until
from tests.app.pipeline.animation.stage import SETTINGS, Stage


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

    def counted(picture: Rgb, margins: Margins) -> Matte:
        made.append(picture)
        return cut_out(picture, margins)

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
        begun: the pictures it was asked for.
        threads: how many it was asked on at once, at most.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.begun: list[Rgb] = []
        self.threads = 0
        monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", self._cut_out)

    def _cut_out(self, picture: Rgb, margins: Margins) -> Matte:
        self.begun.append(picture)
        self.threads = max(self.threads, len(_cutting_threads()))
        assert self.go_on.wait(20)
        return cut_out(picture, margins)


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
    for picture, wanted in zip(slow.begun, (chosen[0], chosen[-1]), strict=True):
        np.testing.assert_array_equal(picture, wanted.surrounded(stage.engine.config.size_px).rgb)
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


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(), KeyError("x")], ids=lambda error: type(error).__name__)
def test_however_a_cutting_ends_without_a_matte_it_is_told_and_the_call_goes_on(
    face: Face,
    woman: Portrait,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    def fail(*_: object) -> Matte:
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
    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", lambda *_: 1 // 0)
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
    def fail(*_: object) -> Matte:
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
