"""A pipeline without a window, operated from outside: what each command does and answers."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from app.control.operation import find_portrait, switched
from app.control.pipeline_operator import PipelineOperator
from app.control.protocol import ChoosePortrait, RefusedError, read_command
from app.errors import AppError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationProgress,
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
    SinkClosed,
    SinkFailed,
    SourceReady,
    StateChanged,
)
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import Portrait, PortraitEntry
from app.pipeline.state import State
from app.presets import Presets, Strengths
from app.settings import LiveSettings
from tests.app.fakes import FakeSink, StillPipeline

SPEC = CameraSpec("network", address="http://me:secret@192.168.1.20/video")


class Operated:
    """An operator of such a pipeline."""

    def __init__(self, woman: Portrait, folder: Path) -> None:
        self.pipeline = StillPipeline(LiveSettings(), starts=1)
        names = {"woman_1": "Woman 1", "a1": "Me", "a2": "Boss", "a3": "me"}
        self.entries = [dataclasses.replace(woman.entry, key=key, name=name) for key, name in names.items()]
        self.states: list[State] = []
        self.refused = False

        def prepare(entry: PortraitEntry) -> Portrait:
            if self.refused:
                raise AppError("no face in it")
            return dataclasses.replace(woman, entry=entry)

        self.operator = PipelineOperator(
            cast(Pipeline, self.pipeline),
            lambda: self.entries,
            prepare,
            lambda path: FakeSink(f"file:{path}"),
            lambda: folder / "videos",
            woman,
            Presets().saved("Lively", Strengths(mouth_strength=1.6)),
        )
        self.operator.open()
        self.operator.on_state = lambda state: self.states.append(state.state)

    def do(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.operator.perform(read_command(command, arguments)).result(10)

    def slated(self) -> bool:
        return self.pipeline.settings.slate

    def hear(self, *events: Event) -> None:
        for event in events:
            self.operator.hear(event)


@pytest.fixture
def operated(woman: Portrait, tmp_path: Path) -> Iterator[Operated]:
    operated = Operated(woman, tmp_path)
    yield operated
    operated.operator.close()
    with pytest.raises(RefusedError, match="the app is ending"):
        operated.do("live")


def test_the_slate_comes_and_goes(operated: Operated) -> None:
    operated.operator.panic()
    assert operated.slated()
    assert operated.do("slate") == {"slate": True}
    assert operated.operator.state.slate
    assert operated.do("live") == {"slate": False}
    assert not operated.slated()
    assert operated.do("slate", to="toggle") == {"slate": True}
    assert operated.do("slate", to="toggle") == {"slate": False}
    assert operated.do("stop") == {"slate": True}
    assert operated.do("slate", to="off") == {"slate": False}


def test_nothing_that_waits_overtakes_the_slate(operated: Operated) -> None:
    """Wished for before it but done after it, `live` does not show the avatar, whatever writes the settings."""
    for before in (False, True):
        operated.do("slate", to="on" if before else "off")
        operated.operator.panic()
        operated.do("gains", mouth=1.5)
        for command, arguments in (("live", {}), ("slate", {"to": "off"}), ("live", {})):
            operated.do(command, **arguments)
            assert operated.slated(), "before its turn, too"
        operated.do("slate")
        assert operated.slated()
        assert operated.do("live") == {"slate": False}
        assert not operated.slated(), "afterwards it goes as ever"


def test_live_is_told_when_the_avatar_is_shown_and_the_slate_is_not_wanted(operated: Operated) -> None:
    operated.hear(StateChanged(State.LIVE))
    assert operated.operator.state.live
    operated.do("slate")
    assert not operated.operator.state.live


def test_portraits_by_id_by_name_and_by_steps(operated: Operated) -> None:
    assert operated.do("portrait", name="a2") == {"portrait": {"id": "a2", "name": "Boss"}}
    assert operated.do("portrait", name="boss")["portrait"]["id"] == "a2"
    assert operated.do("portrait", step=1)["portrait"]["id"] == "a3"
    assert operated.do("portrait", step=1)["portrait"]["id"] == "woman_1"
    assert operated.do("portrait", step=-2)["portrait"]["id"] == "a2"
    assert operated.pipeline.portrait is not None
    assert operated.pipeline.portrait.entry.key == "a2"
    with pytest.raises(RefusedError, match=r"got 'nobody', expected one of the gallery: woman_1 \(Woman 1\), a1"):
        operated.do("portrait", name="nobody")
    with pytest.raises(RefusedError, match=r"did you mean Woman 1\?"):
        operated.do("portrait", name="Woman 11")
    with pytest.raises(RefusedError, match="as several are called; use the id of one: a1, a3"):
        operated.do("portrait", name="ME")
    operated.refused = True
    with pytest.raises(AppError, match="no face in it"):
        operated.do("portrait", name="a1")
    assert operated.pipeline.portrait.entry.key == "a2", "the one before stays"


def test_an_empty_gallery_is_told() -> None:
    for wanted in (ChoosePortrait("a"), ChoosePortrait(step=1)):
        with pytest.raises(RefusedError, match="it is empty"):
            find_portrait({}, wanted, "")


def test_calibrations_and_gains(operated: Operated) -> None:
    operated.do("calibrate")
    operated.do("calibrate", now=True)
    assert operated.pipeline.calibrations == [False, True]
    gains = operated.do("gains", mouth=1.5, turn=0)["gains"]
    assert (gains["mouth"], gains["turn"], gains["lids"]) == (1.5, 0.0, 1.0)
    assert operated.pipeline.settings.mouth_strength == 1.5
    assert operated.operator.state.gains == gains
    assert operated.operator.state.preset == ""
    answer = operated.do("preset", name="lively")
    assert (answer["preset"], answer["gains"]["mouth"], answer["gains"]["turn"]) == ("Lively", 1.6, 1.0)
    assert operated.operator.state.preset == "Lively"
    assert operated.operator.state.presets == ("Standard", "Lively")
    with pytest.raises(AppError, match="got 'calm', expected one of Standard, Lively"):
        operated.do("preset", name="calm")


@pytest.mark.parametrize(("command", "setting"), [("retouch", "retouch"), ("detail", "fine_detail")])
def test_drawing_and_detail_are_switched(operated: Operated, command: str, setting: str) -> None:
    assert getattr(operated.operator.state, setting) is getattr(LiveSettings(), setting)
    assert operated.do(command, to="on") == {setting: True}
    steps: list[tuple[dict[str, str], bool]] = [({}, False), ({"to": "off"}, False), ({"to": "on"}, True)]
    for arguments, on in steps:
        assert operated.do(command, **arguments) == {setting: on}
        assert getattr(operated.pipeline.settings, setting) is on
        assert getattr(operated.operator.state, setting) is on


def test_a_folder_that_takes_no_recording_is_told(operated: Operated, tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(AppError, match=r"cannot make the folder .*videos.*choose another place"):
        operated.do("record")
    assert operated.operator.state.recording == ""


def test_a_recording_begins_and_ends_and_tells_its_file(operated: Operated, tmp_path: Path) -> None:
    path = operated.do("record")["recording"]
    assert Path(path).parent == tmp_path / "videos"
    assert operated.do("record", to="on") == {"recording": path}, "it goes on"
    assert list(operated.pipeline.sinks) == [f"file:{path}"]
    assert operated.operator.state.recording == path
    assert operated.do("record") == {"recording": ""}
    for to in ("on", "toggle"):
        with pytest.raises(RefusedError, match="the recording before is being finished"):
            operated.do("record", to=to)
    assert operated.do("record", to="off") == {"recording": ""}
    assert operated.operator.state.recording == path, "its file is written still"
    operated.hear(SinkClosed("null"), SinkClosed(f"file:{path}", path))
    assert operated.operator.state.recording == ""
    assert operated.do("record", to="off") == {"recording": ""}
    assert operated.do("record", to="on")["recording"] == operated.operator.state.recording != ""
    assert len(operated.pipeline.sinks) == 1


def test_a_recording_that_fails_can_be_begun_again(operated: Operated) -> None:
    path = operated.do("record")["recording"]
    operated.hear(SinkFailed(f"file:{path}", "the disk is full"))
    assert operated.operator.state.recording == ""
    assert not operated.pipeline.sinks
    assert operated.do("record", to="on")["recording"]
    operated.pipeline.stops += 1
    operated.hear(SinkClosed(next(iter(operated.pipeline.sinks)), asked=False))
    with pytest.raises(RefusedError, match="there is nothing to record"):
        operated.do("record", to="on")


def test_the_state_follows_what_is_told_and_no_secret_is_in_it(operated: Operated) -> None:
    operated.hear(
        EngineReady("starter", "cpu", "because", 0.1, backend="torch"),
        BackendChanged("openvino"),
        SourceReady("a1", from_cache=False),
        CameraOpened(SPEC, 1, SPEC.name, 640, 480, 30.0),
        StateChanged(State.CALIBRATING, "look here"),
        CalibrationProgress(0.5),
    )
    state = operated.operator.state
    assert (state.model, state.device, state.backend) == ("starter", "cpu", "openvino")
    assert (state.state, state.why, state.calibrating, state.score) == (State.CALIBRATING, "look here", 0.5, None)
    assert state.portrait is not None
    assert state.portrait.name == "Me"
    operated.hear(Calibrated(92), CameraFailed(SPEC, 1, SPEC.name, "gone"))
    state = operated.operator.state
    assert (state.calibrating, state.score, state.camera) == (None, 92, "")
    assert "secret" not in repr(state)
    assert operated.states[-1] is State.CALIBRATING


@pytest.mark.parametrize(("to", "was", "becomes"), [("on", False, True), ("on", True, True), ("off", True, False)])
def test_switches(to: Any, was: bool, becomes: bool) -> None:
    assert switched(to, was) is becomes
    assert switched("toggle", was) is not was
