"""What becomes of the pipeline's facts and of the user's wishes."""

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from PyQt6.QtCore import QUrl
from PyQt6.QtGui import QDesktopServices, QImage
from PyQt6.QtWidgets import QApplication, QDialog, QLabel
from pytestqt.qtbot import QtBot

from app.control.protocol import Record
from app.errors import AppError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationMissed,
    CalibrationProgress,
    ReferenceImproved,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SourceFailed,
    SourceReady,
    StageFailed,
    StageRecovered,
    StateChanged,
)
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from app.presets import STANDARD, Strengths, load_presets
from app.settings import AppSettings, LiveSettings, load_settings, save_settings
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.parts import WindowOptions
from app.ui.session import Session
from app.ui.widgets import tip_of
from mcnet.disclosure import SigningFiles
from mcnet.disclosure.words import words_of_snapshot
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import STATS, FakePipeline, World, lose_virtual_camera, plain
from tests.app.ui.hand import press
from tests.disks import Room, place
from tests.media.test_picture_words import said_by


def test_start_asks_for_everything(window: MainWindow, world: World) -> None:
    session, pipeline = window.session, world.pipeline
    assert pipeline.starts == 1
    assert pipeline.camera == CameraSpec("device", 0)
    assert pipeline.portrait is not None
    assert pipeline.portrait.entry.key == "fake_1"
    assert session.camera_desk.cameras is not None
    assert session.virtual_camera.report is world.report
    assert session.chain.missing_name() == "model"


def test_the_command_line_goes_before_the_settings_and_is_not_kept(
    open_window: OpenWindow, options: WindowOptions, world: World
) -> None:
    settings = AppSettings(camera="1", portrait="fake_1", device="cuda:1")
    window = open_window(settings, replace(options, camera="0", portrait="fake_3", device="cpu", model="mine"))
    assert world.pipeline.camera == CameraSpec("device", 0)
    assert world.pipeline.portrait is not None
    assert world.pipeline.portrait.entry.key == "fake_3"
    assert world.pipeline.made_from.device == "cpu"
    assert world.pipeline.made_from.model == "mine"
    assert window.session.settings.camera == "1"
    assert window.session.settings.device == "cuda:1"
    assert window.session.settings.portrait == "fake_1"


def test_the_chain_says_what_is_missing(window: MainWindow, world: World, qtbot: QtBot) -> None:
    session, pipeline = window.session, world.pipeline
    assert not window.action_bar.live_button.isEnabled()
    pipeline.prove()
    qtbot.waitUntil(lambda: session.chain.missing_name() == "virtual camera")
    assert "virtual camera is off" in window.action_bar.live_button.toolTip()
    assert not window.action_bar.live_button.isEnabled()
    session.go_live()
    assert not session.live


def test_going_live(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    session.virtual_camera.switch(True)
    assert world.pipeline.slated(), "the virtual camera starts with the slate"
    assert session.virtual_camera.opening
    qtbot.waitUntil(lambda: "virtualcam" in world.pipeline.sinks)
    world.pipeline.open_sink("virtualcam")
    qtbot.waitUntil(lambda: session.virtual_camera.on_air)
    assert proven.action_bar.live_button.text() == "Go live"
    assert proven.action_bar.live_button.isEnabled()
    proven.action_bar.live_button.click()
    assert not world.pipeline.slated()
    assert proven.action_bar.live_button.text() == "Stop"
    proven.action_bar.live_button.click()
    assert world.pipeline.slated()
    assert "virtualcam" in world.pipeline.sinks, "stop leaves the slate up"


def test_panic_while_live_and_back(live: MainWindow, world: World) -> None:
    live.action_bar.slate_button.click()
    assert world.pipeline.slated()
    assert live.action_bar.slate_button.isChecked()
    live.action_bar.slate_button.click()
    assert world.pipeline.slated(), "the slate's button never takes the slate away"
    live.action_bar.live_button.click()
    assert not world.pipeline.slated()


def test_the_slate_can_be_lifted_without_a_virtual_camera(window: MainWindow, world: World) -> None:
    window.action_bar.slate_button.click()
    assert window.action_bar.live_button.text() == "Lift slate"
    window.action_bar.live_button.click()
    assert not world.pipeline.slated()


def test_absolute_motion_needs_no_calibration(window: MainWindow) -> None:
    chain = window.session.chain
    assert not chain.pose().done
    window.controls.motion_kind.button("absolute").click()
    assert window.session.chain.pose().done


def test_calibration_is_seen(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    assert session.chain.calibration.text == "92 of 100: close your mouth"
    world.pipeline.tell(CalibrationProgress(0.4, "close your mouth"))
    qtbot.waitUntil(lambda: session.calibrating == 0.4)
    assert proven.preview.words.more == "close your mouth"
    assert session.chain.missing_name() == "calibration"
    world.pipeline.tell(Calibrated(80))
    qtbot.waitUntil(lambda: session.chain.calibration.done)
    assert session.calibrating is None
    world.pipeline.tell(StateChanged(State.CALIBRATING))
    qtbot.waitUntil(lambda: not session.chain.calibration.done)


def test_a_calibration_without_a_face_is_told_and_the_one_before_stands(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    session = proven.session
    world.pipeline.tell(CalibrationProgress(0.0, "show your face to the camera"))
    world.pipeline.tell(CalibrationMissed())
    qtbot.waitUntil(lambda: proven.messages.text.startswith("No face was seen, so that nothing was calibrated"))
    assert session.calibrating is None
    assert session.chain.calibration.text == "92 of 100: close your mouth"
    assert "show your face" not in proven.preview.words.more
    world.pipeline.tell(CalibrationProgress(0.4))
    qtbot.waitUntil(lambda: proven.messages.text == "")
    world.pipeline.tell(StateChanged(State.CALIBRATING))
    world.pipeline.tell(CalibrationMissed())
    qtbot.waitUntil(lambda: session.calibrating is None)
    assert not session.chain.calibration.done


def test_a_missed_calibration_is_said_no_longer_than_one_is_wanted(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    def missed() -> None:
        world.pipeline.tell(CalibrationMissed())
        qtbot.waitUntil(lambda: proven.messages.text.startswith("No face was seen"))

    missed()
    proven.controls.motion_kind.button("absolute").click()
    assert proven.messages.text == ""
    proven.controls.motion_kind.button("plane").click()
    missed()
    proven.session._output._restart()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert proven.messages.text == ""


def test_what_a_calibration_asks_for_follows_the_motion(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.show(State.CALIBRATING)
    qtbot.waitUntil(lambda: proven.session.state is State.CALIBRATING)
    controls, step = proven.controls, proven.checklist.steps[4]
    for key, wanted, unwanted in (
        ("plane", "as the portrait does", "any direction"),
        ("space", "any direction", "portrait"),
        ("absolute", "as the portrait does", "any direction"),
    ):
        controls.motion_kind.button(key).click()
        for text in (proven.preview.words.more, proven.action_bar.calibrate_button.toolTip(), step.action.toolTip()):
            assert wanted in text
            assert unwanted not in text
        button = proven.action_bar.calibrate_button
        assert tip_of(button.accessibleDescription()) == button.toolTip()


def test_a_reference_for_space_alone_is_taken_anew_in_the_plane(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    """It may look anywhere: what moves by differences in the picture would melt."""
    session, choose = proven.session, proven.controls.motion_kind.button
    choose("absolute").click()
    assert world.pipeline.calibrations == []
    choose("plane").click()
    assert world.pipeline.calibrations == [False]
    proven.controls.step_zoom(1)
    choose("absolute").click()
    choose("plane").click()
    assert world.pipeline.calibrations == [False], "once is enough"
    world.pipeline.tell(Calibrated(90, in_space=False))
    qtbot.waitUntil(lambda: session.chain.calibration.text == "90 of 100")
    for key in ("space", "plane"):
        choose(key).click()
    assert world.pipeline.calibrations == [False], "one that looked for the pose too serves both"
    choose("space").click()
    world.pipeline.tell(Calibrated(91, in_space=True))
    qtbot.waitUntil(lambda: session.chain.calibration.text == "91 of 100")
    choose("plane").click()
    assert world.pipeline.calibrations == [False, False]


def test_the_score_is_that_of_the_reference_as_it_is_now(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(ReferenceImproved(97, ("open your eyes",)))
    qtbot.waitUntil(lambda: proven.session.chain.calibration.text == "97 of 100: open your eyes")
    world.pipeline.tell(CalibrationProgress(0.3))
    world.pipeline.tell(ReferenceImproved(98))
    qtbot.waitUntil(lambda: proven.session.calibrating == 0.3)
    assert not proven.session.chain.calibration.done


def test_a_portrait_that_fails_leaves_the_one_before(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    desk = proven.session.desk
    desk.choose("fake_2")
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_2")
    world.pipeline.tell(SourceFailed("fake_2", "the picture is too small"))
    qtbot.waitUntil(lambda: desk.current == "fake_1")
    assert proven.messages.text == "the picture is too small"
    assert desk.pending == ""
    assert proven.session.portrait is not None
    assert proven.session.portrait.entry.key == "fake_1"
    assert proven.session.settings.portrait == "fake_1"
    assert "Score 70" in proven.gallery.score


def test_a_stage_that_fails_can_be_started_again(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: "out of memory" in proven.messages.text)
    assert proven.session.chain.missing_name() == "model"
    proven.messages.action_button.click()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert world.pipeline.stops == 1
    assert proven.session.state is State.STARTING
    assert not proven.session.chain.calibration.done


def test_a_state_that_nothing_else_explains_says_why(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StateChanged(State.FAULT, "the model has given no picture for 2.5 s: wait, or start again"))
    qtbot.waitUntil(lambda: "no picture for 2.5 s" in proven.preview.words.more)
    world.pipeline.tell(StateChanged(State.LIVE))
    qtbot.waitUntil(lambda: "no picture" not in proven.preview.words.more)


def test_a_stage_that_recovers_by_itself(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StageFailed("inference", "one odd frame"))
    world.pipeline.tell(StateChanged(State.FAULT))
    qtbot.waitUntil(lambda: proven.session.chain.model.failed)
    proven.session.slate()
    world.pipeline.tell(StateChanged(State.SLATE))
    world.pipeline.tell(StageRecovered("inference"))
    qtbot.waitUntil(lambda: proven.session.chain.model.done)
    assert proven.messages.text == ""


def test_starting_again_in_a_call_keeps_the_virtual_camera_and_the_slate(
    live: MainWindow, world: World, qtbot: QtBot
) -> None:
    live.session.slate()
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: "out of memory" in live.messages.text)
    live.messages.action_button.click()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert "virtualcam" in world.pipeline.sinks
    assert world.pipeline.slated()
    assert not live.session.virtual_camera.on_air
    live.session.go_live()  # nothing is proven yet
    assert world.pipeline.slated()
    world.pipeline.open_sink("virtualcam")
    qtbot.waitUntil(lambda: live.session.virtual_camera.on_air)
    assert world.pipeline.slated()


def test_nothing_is_recorded_while_nothing_runs(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.stop()
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: "nothing to record" in proven.messages.text)
    assert not world.recordings
    assert not proven.action_bar.record_button.isChecked()


def test_a_recording_is_finished_before_a_restart(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: bool(proven.messages.text))
    proven.messages.action_button.click()
    assert "recorder" not in world.pipeline.sinks
    qtbot.waitUntil(lambda: proven.messages.text == f"Saved: {world.recordings[0]}")
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)


def test_a_recording_that_never_began_is_over_all_the_same(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: proven.session.recordings.path is not None)
    world.pipeline.tell(SinkClosed("recorder", ""))
    qtbot.waitUntil(lambda: proven.session.recordings.path is None)
    assert "had not begun" in proven.messages.text


def test_only_the_sinks_own_failure_leaves_nothing_to_be_seen(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StageFailed("inference", "odd."))
    qtbot.waitUntil(lambda: proven.messages.text == "The inference has failed: odd. The output shows the slate.")
    world.pipeline.tell(StageFailed("sinks", "odd"))
    qtbot.waitUntil(lambda: proven.messages.text == "The output has failed: odd. No picture goes out any more.")


def test_a_setting_that_is_refused_is_told(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(SettingRefused("background", "cannot read beach.png"))
    qtbot.waitUntil(lambda: window.messages.text == "cannot read beach.png")


@pytest.mark.parametrize("setting", ["retouch", "fine_detail"])
def test_what_cannot_be_drawn_is_told_until_the_switch_or_the_portrait_changes(
    window: MainWindow, world: World, qtbot: QtBot, setting: str
) -> None:
    live = window.session.settings.live
    other: dict[str, Any] = {setting: not getattr(live, setting)}
    ends: list[Callable[[], None]] = [
        lambda: window.session.set_live(replace(live, **other)),
        lambda: world.pipeline.tell(SourceReady("fake_2", from_cache=False, measured=True)),
    ]
    for end in ends:
        with qtbot.waitSignal(window.session.told) as told:
            world.pipeline.tell(SettingRefused(setting, "It cannot be drawn."))
        assert told.args is not None
        assert told.args[0].text == "It cannot be drawn."
        with qtbot.waitSignal(window.session.cleared) as cleared:
            end()
        assert cleared.args == [setting]


def test_recording(proven: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    world.pipeline.open_sink("recorder")
    qtbot.waitUntil(lambda: proven.session.recordings.path is not None)
    assert proven.action_bar.record_button.isChecked()
    assert proven.action_bar.record_button.text() == "0:00"
    proven.session.recordings.began_s -= 83
    qtbot.waitUntil(lambda: proven.action_bar.record_button.text().startswith("1:2"))
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: proven.session.recordings.path is None)
    path = world.recordings[0]
    assert path.suffix == ".mp4"
    assert proven.messages.text == f"Saved: {path}"
    proven.messages.action_button.click()
    assert [url.toLocalFile() for url in opened] == [str(path.parent)]


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_losing_the_virtual_camera_after_a_stop_shows_a_recording_nobody(
    live: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, fails: bool, begun: bool
) -> None:
    session, recordings, answers = live.session, live.session.recordings, threading.Event()

    def unused(path: Path) -> Path:
        assert answers.wait(20)
        return path

    monkeypatch.setattr("app.ui.recordings.unused", unused)
    recordings.toggle()
    if begun:
        answers.set()
        qtbot.waitUntil(lambda: recordings.path is not None)
    session.stop()
    lose_virtual_camera(session, world, qtbot, fails=fails)
    assert world.pipeline.slated(), "and so it is silent"
    answers.set()
    qtbot.waitUntil(lambda: recordings.path is not None)
    session.go_live()
    assert not world.pipeline.slated(), "the performer decides"
    recordings.finish()


def test_what_is_written_is_signed_unless_it_is_switched_off(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    switch = proven.controls.run.credentials_switch
    assert switch.isChecked()
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: proven.session.recordings.path is None)
    assert world.disclose is not None
    world.disclosure_trouble = "the disk is full."
    world.disclose(world.recordings[0], False)  # as the recording's thread does at its end
    assert [(path, files) for path, _, files in world.disclosed] == [(world.recordings[0], SigningFiles())]
    assert [model.name for model in world.disclosed[0][1].models] == ["fake"]
    name = world.recordings[0].name
    told = f"{name} is saved, but without Content Credentials: the disk is full."
    qtbot.waitUntil(lambda: proven.messages.text == told)
    switch.click()
    assert not proven.session.settings.content_credentials
    world.disclose(world.recordings[0], False)
    assert len(world.disclosed) == 1


def test_a_recording_that_fails(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.action_bar.record_button.click()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    world.pipeline.tell(SinkFailed("recorder", "the disk is full: free some space"))
    qtbot.waitUntil(lambda: proven.messages.text == "the disk is full: free some space")
    assert proven.session.recordings.path is None
    assert not proven.action_bar.record_button.isChecked()


def test_a_folder_that_cannot_be_looked_into_is_told(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path
) -> None:
    """As one of another user's, which a name that is too long stands in for: it is told the same way."""
    session = proven.session
    session.set_recordings_folder(tmp_path / (300 * "a"))
    session.recordings.last = Composed(0, 0.0, State.LIVE, plain(), fresh=True)
    on_request = functools.partial(session._operator.perform, Record("on"))
    for begin in (session.recordings.toggle, session.recordings.toggle_motion, session.recordings.snapshot, on_request):
        begin()
        qtbot.waitUntil(lambda: "cannot use the folder" in proven.messages.text)
        assert not proven.action_bar.record_button.isChecked()
        proven.messages.dismiss()
    assert (session.recordings.beginning, session.recordings.motion_path, world.recordings) == (None, None, [])


def test_a_folder_that_was_written_by_hand_may_begin_at_home(
    open_window: OpenWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    kept = AppSettings(portrait="fake_1", recordings="~/My calls")
    session = open_window(kept).session
    assert session.recordings_folder == tmp_path / "My calls"
    assert session.settings.recordings == "~/My calls", "it stays as it was written"


def test_snapshot(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    window.action_bar.snapshot_button.click()
    assert "no picture yet" in window.messages.text
    window.messages.dismiss()
    world.pipeline.show()
    qtbot.waitUntil(lambda: window.preview.picture_size is not None)
    window.action_bar.snapshot_button.click()
    qtbot.waitUntil(lambda: window.messages.text.startswith("Saved: "))
    (path,) = (tmp_path / "videos").glob("*.png")
    image = QImage(str(path))
    assert (image.width(), image.height()) == (64, 36)
    assert image.pixelColor(3, 3).red() == 120
    assert said_by(path) == words_of_snapshot(composite=False)


def test_snapshots_within_one_second_are_all_kept(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ui.recordings.new_file", lambda folder, suffix, what="avatar": folder / f"{what}{suffix}")
    world.pipeline.show()
    qtbot.waitUntil(lambda: window.preview.picture_size is not None)
    for _ in range(5):
        window.action_bar.snapshot_button.click()
    qtbot.waitUntil(lambda: not window.session.busy)
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["avatar-2.png", "avatar-3.png", "avatar-4.png", "avatar-5.png", "avatar.png"]
    assert all(QImage(str(tmp_path / "videos" / name)).width() == 64 for name in names)


def test_a_folder_that_does_not_answer_holds_up_no_window_for_a_snapshot(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def new_file(folder: Path, suffix: str, what: str = "avatar") -> Path:
        assert answers.wait(20)
        return folder / f"{what}{suffix}"

    monkeypatch.setattr("app.ui.recordings.new_file", new_file)
    world.pipeline.show()
    qtbot.waitUntil(lambda: window.preview.picture_size is not None)
    window.action_bar.snapshot_button.click()
    assert not answers.is_set(), "and the window goes on"
    answers.set()
    qtbot.waitUntil(lambda: window.messages.text.startswith("Saved: "))
    assert (tmp_path / "videos" / "avatar.png").is_file()


def test_a_folder_that_does_not_answer_holds_up_no_window_for_a_recording(
    proven: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def unused(path: Path) -> Path:
        assert answers.wait(20)
        return path.with_name(f"other-{path.name}")

    monkeypatch.setattr("app.ui.recordings.unused", unused)
    recordings = proven.session.recordings
    recordings.toggle_motion()
    asked = proven.session._operator.perform(Record("on"))["recording"]
    assert recordings.motion_path is not None, "the motion is recorded from now on"
    assert (str(recordings.beginning), recordings.path, world.recordings) == (asked, None, [])
    assert not answers.is_set(), "and the window goes on"
    answers.set()
    qtbot.waitUntil(lambda: recordings.path is not None)
    assert [recordings.path] == world.recordings == [Path(asked).with_name(f"other-{Path(asked).name}")]
    assert recordings.motion_path is not None
    recordings.finish()


def test_a_folder_that_does_not_answer_is_told_and_holds_up_nothing_else(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, answers = tmp_path / "away", threading.Event()
    monkeypatch.setattr("app.ui.folders._SILENT_MS", 50)
    monkeypatch.setattr("app.ui.folders._is_folder", lambda folder: folder != away or answers.wait(30))
    monkeypatch.setattr("app.ui.recordings.make_folder", lambda folder: folder != away or answers.wait(30))
    session, recordings = proven.session, proven.session.recordings
    session.set_recordings_folder(away)
    recordings.last = Composed(0, 0.0, State.LIVE, plain(), fresh=True)
    for _ in range(3):
        recordings.snapshot()
        recordings.toggle()
    qtbot.waitUntil(lambda: proven.messages.text.startswith(f"The folder {away} does not answer"))

    listed, starts = world.listed, world.pipeline.starts
    session.camera_desk.refresh()
    session.virtual_camera.switch(True)
    session._run.restart()
    qtbot.waitUntil(lambda: world.listed > listed and world.pipeline.starts > starts)
    qtbot.waitUntil(lambda: "virtualcam" in world.pipeline.sinks)
    button = proven.action_bar.record_button
    button.click()
    assert recordings.beginning is not None
    assert (button.isChecked(), button.text(), button.accessibleName()) == (True, "Begins…", "Stop recording")
    button.click()
    assert not recordings.under_way
    assert (button.isChecked(), button.text()) == (False, "Record")
    button.click()
    session.set_recordings_folder(tmp_path)
    assert not recordings.under_way
    assert (button.isChecked(), button.text()) == (False, "Record")
    assert "The recording had not begun: there is no file." in [message.text for message in proven.messages.messages]
    recordings.toggle()
    qtbot.waitUntil(lambda: recordings.path is not None)
    assert recordings.path is not None
    assert recordings.path.parent == tmp_path
    assert proven.messages.text.startswith(f"The folder {away} does not answer"), "until it does"
    away.mkdir()
    answers.set()
    qtbot.waitUntil(lambda: not session.busy)
    assert len(list(away.iterdir())) == 3
    qtbot.waitUntil(lambda: not any("does not answer" in message.text for message in proven.messages.messages))
    recordings.finish()


def test_a_snapshot_that_cannot_be_written(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("in the way", encoding="utf-8")
    world.pipeline.show()
    qtbot.waitUntil(lambda: window.preview.picture_size is not None)
    with qtbot.captureExceptions() as caught:
        window.action_bar.snapshot_button.click()
        qtbot.waitUntil(lambda: bool(window.messages.text))
    assert not caught
    assert window.messages.messages[0].tone == "error"
    assert window.messages.text.startswith(f"cannot make the folder {tmp_path / 'videos'}: ")


def test_a_snapshot_on_a_full_disk_is_none(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    with place("disk", tmp_path) as folder:
        Room("disk", folder).take()
        (tmp_path / "videos").symlink_to(folder)
        world.pipeline.show()
        qtbot.waitUntil(lambda: window.preview.picture_size is not None)
        window.action_bar.snapshot_button.click()
        qtbot.waitUntil(lambda: bool(window.messages.text))
        assert window.messages.text.endswith("No space left on device; make room on the disk")
        assert not list(folder.iterdir())


def test_settings_are_kept_after_a_while(window: MainWindow, options: WindowOptions, qtbot: QtBot) -> None:
    window.controls.badge.click()
    assert not options.settings_path.exists()
    qtbot.waitUntil(options.settings_path.exists)
    kept, complaint = load_settings(options.settings_path)
    assert complaint is None
    assert kept.live.badge is False


def test_settings_are_kept_at_the_end(window: MainWindow, options: WindowOptions) -> None:
    window.session.slate()
    window.controls.step_zoom(2)
    window.close()
    kept, _ = load_settings(options.settings_path)
    assert kept.live.zoom == 1.1
    assert kept.live.slate is False, "the next run does not start with the slate"
    assert kept.window.width_px == window.width()


def test_two_windows_and_an_editor_take_nothing_from_each_other(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot
) -> None:
    """The first window knows nothing of what the others keep; it closes last, and then all of it is there."""
    path = options.settings_path
    save_settings(path, AppSettings(portrait="fake_1"))
    windows = [open_window(load_settings(path)[0], replace(options, new_instance=new)) for new in (False, True)]
    sessions = [window.session for window in windows]
    sessions[1].set_live(replace(sessions[1].settings.live, smoothing=0.9, zoom=1.2))
    sessions[1].set_content_credentials(False)
    sessions[1].presets.save("Calm")
    assert windows[1].close()
    kept = path.read_text(encoding="utf-8")
    assert 'slate_text = ""' in kept
    path.write_text(kept.replace('slate_text = ""', 'slate_text = "Back at ten"'), encoding="utf-8")
    sessions[0].set_live(replace(sessions[0].settings.live, zoom=1.4, nod_strength=0.5))
    sessions[0].presets.save("Still")
    qtbot.waitUntil(lambda: sessions[0].presets.names == (STANDARD, "Calm", "Still"))
    assert windows[0].close()
    settings, presets = load_settings(path)[0], load_presets(path.with_name("presets.toml"))[0]
    assert settings.live == LiveSettings(
        smoothing=0.9, zoom=1.4, nod_strength=0.5, slate_text="Back at ten", fine_detail=settings.live.fine_detail
    )
    assert not settings.content_credentials
    assert presets.named == {"Calm": Strengths(), "Still": Strengths(nod_strength=0.5)}


@pytest.mark.usefixtures("caplog")
def test_what_an_editor_got_wrong_is_told_where_the_rest_of_it_is_kept(
    window: MainWindow, options: WindowOptions, qtbot: QtBot
) -> None:
    """It stays told, though the settings are kept again."""
    path, told = options.settings_path, list[Message]()
    window.session.told.connect(told.append)
    path.write_text("portrait = 'man_3'\ncammera = 'x'\n", encoding="utf-8")
    path.with_name("presets.toml").write_text("version = 1\n[named.Theirs]\n[last]\nman_3 = 3\n", encoding="utf-8")
    window.controls.badge.click()
    window.session.presets.save("Mine")
    qtbot.waitUntil(lambda: {"settings file", "presets file"} <= {message.key for message in told})
    texts = {message.key: message.text for message in told}
    assert "not all of it can be used: unknown setting cammera. In place of that stays" in texts["settings file"]
    assert "not all of it can be used: last.man_3: got 3, expected a table. In place of that" in texts["presets file"]
    kept, complaint = load_settings(path)
    assert (kept.portrait, kept.live.badge, complaint) == ("man_3", False, None)
    assert load_presets(path.with_name("presets.toml"))[0].names == (STANDARD, "Theirs", "Mine")
    window.controls.badge.click()
    qtbot.waitUntil(lambda: load_settings(path)[0].live.badge)
    assert {"settings file", "presets file"} <= {message.key for message in window.messages.messages}


def test_settings_that_cannot_be_kept_are_told(
    open_window: OpenWindow, options: WindowOptions, tmp_path: Path, qtbot: QtBot
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    window = open_window(options=replace(options, settings_path=tmp_path / "file" / "settings.toml"))
    window.controls.badge.click()
    qtbot.waitUntil(lambda: "cannot keep the settings" in window.messages.text)


def test_settings_that_could_not_be_kept_are_kept_at_the_end(
    open_window: OpenWindow, options: WindowOptions, tmp_path: Path, qtbot: QtBot
) -> None:
    """As on a full disk on which there is room again; a window that is maximized has no other size to keep."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "settings.toml"
    window = open_window(options=replace(options, settings_path=path))
    window.showMaximized()
    window.controls.badge.click()
    qtbot.waitUntil(lambda: "cannot keep the settings" in window.messages.text)
    path.parent.unlink()
    window.close()
    assert not load_settings(path)[0].live.badge


def test_closing_while_live_stops_everything(live: MainWindow, world: World) -> None:
    live.close()
    assert world.pipeline.stops == 1
    live.close()
    assert world.pipeline.stops == 1
    world.pipeline.tell(StateChanged(State.FAULT))  # a late thread is not heard any more


def test_closing_takes_the_dialogs_along(window: MainWindow) -> None:
    window.pick_portrait()
    window.controls.network_wanted.emit()
    dialogs = [dialog for dialog in window.findChildren(QDialog) if dialog.isVisible()]
    assert len(dialogs) == 2
    window.close()
    assert not [dialog for dialog in dialogs if dialog.isVisible()]


def test_closing_before_the_pipeline_is_there(world: World, options: WindowOptions, qapp: QApplication) -> None:
    del qapp
    again = MainWindow(Session(options, AppSettings(), world.parts()))
    again.close()
    again.session.deleteLater()
    again.deleteLater()


def test_a_second_window_after_the_first(open_window: OpenWindow, world: World) -> None:
    open_window().close()
    second = open_window()
    assert len(world.pipelines) == 2
    assert second.session.ready


def test_figures(live: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.figures = STATS
    world.pipeline.show(State.LIVE)
    expected = "LIVE | 31 fps | 62 ms in app (p95 88) | dropped 3 % | cuda:0"
    qtbot.waitUntil(lambda: live.status.text == expected)
    assert live.status.hint == "delay your microphone by 60 ms"
    assert any("lips and sound agree" in widget.toolTip() for widget in live.status.findChildren(QLabel)), "what for"
    live.session.stop()
    world.pipeline.show(State.SLATE)
    qtbot.waitUntil(lambda: live.status.text.startswith("STANDBY"))
    assert live.status.hint == ""


def test_the_user_is_told_that_the_model_loads(window: MainWindow, world: World, qtbot: QtBot) -> None:
    assert window.status.busy == "loading the model…"
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.status.busy == "")


def test_an_unexpected_error_is_told_and_logged(
    open_window: OpenWindow, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FakePipeline, "__init__", lambda *_: Path("/nowhere/at/all").stat())
    monkeypatch.setattr("app.ui.session.Session.ready", True)
    window = open_window()
    assert "Something unexpected" in window.messages.text
    assert "unexpected error about the pipeline" in caplog.text
    del world


def test_what_computes_is_told(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.controls.statistics.click()
    assert "runs on  cuda:0" in proven.statistics.text
    world.pipeline.tell(BackendChanged("openvino"))
    qtbot.waitUntil(lambda: "runs on  cuda:0 openvino" in proven.statistics.text)


def test_the_window_never_waits(
    world: World, options: WindowOptions, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that can be slow hangs; keys and controls go on working, and so does closing."""
    gate, hangs_s = threading.Event(), 20.0

    def hang(*_: object) -> Never:
        gate.wait(hangs_s)
        raise AppError("too late")

    parts = replace(world.parts(), open_store=hang, list_cameras=hang, make_pipeline=hang, examine_virtual_camera=hang)
    monkeypatch.setattr("app.ui.kept_settings._SAVE_AFTER_MS", 1)
    window = MainWindow(Session(options, AppSettings(), parts))
    window.show()
    qtbot.waitUntil(window.isActiveWindow)
    window.session.start()
    began_s = time.monotonic()
    press(window, "0twwuai?")
    window.session.desk.add_files([Path("me.png")])
    window.action_bar.snapshot_button.click()
    assert window.session.settings.live.zoom == 1.1
    assert window.session.settings.live.slate
    assert time.monotonic() - began_s < hangs_s / 4
    window.close()
    assert time.monotonic() - began_s < hangs_s / 2
    assert not window.ended
    gate.set()
    qtbot.waitUntil(lambda: not [thread for thread in threading.enumerate() if "worker" in thread.name])
    window.session.deleteLater()
    window.deleteLater()
