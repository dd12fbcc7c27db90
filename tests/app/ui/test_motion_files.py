"""Motion files in the window: recorded beside the recording, and chosen in a camera's place."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.events import CalibrationProgress, MotionFollowed, MotionRefused
from app.settings import load_settings
from app.ui.folders import Folders
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from mcnet.media.faces import Face
from mcnet.media.motion_track import load_track
from tests.app.fakes import wait_until
from tests.app.ui.fakes import World
from tests.app.ui.hand import click


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "videos").glob("*.safetensors"))


def is_kept(tmp_path: Path) -> bool:
    """A name is taken before there is anything under it."""
    return any(file.stat().st_size for file in files(tmp_path))


def shown_dialog(window: MainWindow, qtbot: QtBot) -> QFileDialog:
    """The one for files, once it is known whether the folder that it begins with answers."""
    shown: list[QFileDialog] = []

    def is_shown() -> bool:
        shown[:] = [one for one in window.findChildren(QFileDialog) if one.isVisible()]
        return bool(shown)

    qtbot.waitUntil(is_shown)
    return shown[0]


def test_the_performers_motion_is_recorded(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, face: Face
) -> None:
    button = proven.action_bar.motion_button
    click(button)
    recording = world.pipeline.motion
    assert recording is not None
    assert button.isChecked()
    assert button.accessibleName() == "Stop recording my motion"
    for index in range(5):
        recording.take(index / 30, face, (640, 480))
    assert files(tmp_path) == [], "nothing is there until it is whole"
    click(button)
    assert world.pipeline.motion is None
    qtbot.waitUntil(lambda: "Saved:" in proven.messages.text)
    (file,) = files(tmp_path)
    assert file.name.startswith("motion-")
    assert len(load_track(file).faces) == 5
    assert not button.isChecked()


def test_two_that_began_within_one_second_are_both_kept(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files are not there before they are whole, so that both were given the same name."""
    monkeypatch.setattr("app.ui.recordings.dated_file", lambda folder, suffix, what: folder / f"{what}{suffix}")
    for frames in (2, 3):
        click(proven.action_bar.motion_button)
        recording = world.pipeline.motion
        assert recording is not None
        for index in range(frames):
            recording.take(index / 30, face, (640, 480))
        click(proven.action_bar.motion_button)
    qtbot.waitUntil(lambda: not proven.session.busy)
    assert sorted(len(load_track(path).faces) for path in files(tmp_path)) == [2, 3]


def test_one_without_a_face_is_none(proven: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    click(proven.action_bar.motion_button)
    click(proven.action_bar.motion_button)
    qtbot.waitUntil(lambda: "no face was seen" in proven.messages.text)
    assert files(tmp_path) == []


def test_it_ends_by_itself_where_it_has_to(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, face: Face
) -> None:
    click(proven.action_bar.motion_button)
    assert world.pipeline.motion is not None
    world.pipeline.motion.take(0.0, face, (640, 480))
    world.pipeline.motion.take(0.1, face, (480, 640))
    qtbot.waitUntil(lambda: is_kept(tmp_path))
    assert not proven.action_bar.motion_button.isChecked()
    assert any("another size" in message.text for message in proven.messages.messages)


@pytest.mark.parametrize("how", ["closed", "started again"])
def test_nothing_of_it_is_lost_at_the_end(
    proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, face: Face, how: str
) -> None:
    click(proven.action_bar.motion_button)
    assert world.pipeline.motion is not None
    world.pipeline.motion.take(0.0, face, (640, 480))
    if how == "closed":
        proven.close()
    else:
        proven.session._run.restart()
        qtbot.waitUntil(lambda: is_kept(tmp_path))
    assert [len(load_track(file).faces) for file in files(tmp_path)] == [1]


@pytest.mark.parametrize("when", ["waits", "is written"])
def test_one_that_was_just_stopped_is_not_lost_either(
    proven: MainWindow, world: World, tmp_path: Path, face: Face, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Its save waits behind other work, or takes longer than the worker is waited for at the end."""
    begun, saved = threading.Event(), threading.Event()
    save = MotionRecording.save

    def slowly(recording: MotionRecording) -> None:
        begun.set()
        time.sleep(0.0 if when == "waits" else 1.0)
        save(recording)
        saved.set()

    monkeypatch.setattr(MotionRecording, "save", slowly)
    if when == "waits":
        folder = proven.session.recordings_folder
        for _ in range(2):
            proven.session._folders.run(folder, lambda: saved.wait(10), lambda _: None, lambda _: None)
    click(proven.action_bar.motion_button)
    assert world.pipeline.motion is not None
    world.pipeline.motion.take(0.0, face, (640, 480))
    click(proven.action_bar.motion_button)
    assert when == "waits" or begun.wait(5.0)
    proven.close()
    assert [len(load_track(file).faces) for file in files(tmp_path)] == [1]
    assert not list((tmp_path / "videos").glob(".*"))


@pytest.mark.parametrize("answers", [True, False])
def test_the_end_waits_for_a_folder_only_so_long_and_keeps_the_settings_before(
    proven: MainWindow,
    world: World,
    options: WindowOptions,
    qtbot: QtBot,
    tmp_path: Path,
    face: Face,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answers: bool,
) -> None:
    late, given_up = threading.Event(), threading.Event()

    def make_folder(folder: Path) -> None:
        for _ in range(600):  # it answers once the settings are kept, or never
            if given_up.wait(0.05) or (answers and late.is_set()):
                break
        folder.mkdir(exist_ok=True)

    def is_late(folders: Folders) -> bool:
        if "zoom = 1.5" in options.settings_path.read_text(encoding="utf-8"):
            late.set()
        return stop(folders)

    stop = Folders.stop
    monkeypatch.setattr(Folders, "stop", is_late)
    monkeypatch.setattr("app.ui.recordings.make_folder", make_folder)
    monkeypatch.setattr("app.ui.worker._KEEPING_S", 5.0 if answers else 0.5)
    click(proven.action_bar.motion_button)
    assert world.pipeline.motion is not None
    world.pipeline.motion.take(0.0, face, (640, 480))
    proven.session.set_live(replace(proven.session.settings.live, zoom=1.5))
    began_s = time.monotonic()
    proven.close()
    assert time.monotonic() - began_s < 20.0
    assert load_settings(options.settings_path)[0].live.zoom == 1.5
    assert late.is_set()
    assert len(files(tmp_path)) == answers
    assert ("is lost: its folder did not answer in time" in caplog.text) == (not answers)
    given_up.set()
    qtbot.waitUntil(lambda: not [thread for thread in threading.enumerate() if "worker" in thread.name])


@pytest.mark.parametrize("when", ["before", "at the end", "told"])
def test_what_fails_as_the_window_closes_is_logged_whatever_it_is(
    proven: MainWindow,
    world: World,
    qtbot: QtBot,
    face: Face,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    failing = threading.Event()

    def save(_: MotionRecording) -> None:
        failing.set()
        raise ValueError("odd")

    monkeypatch.setattr(MotionRecording, "save", save)
    click(proven.action_bar.motion_button)
    assert world.pipeline.motion is not None
    world.pipeline.motion.take(0.0, face, (640, 480))
    if when != "at the end":
        click(proven.action_bar.motion_button)
        assert failing.wait(60)
    if when == "before":
        (under_way,) = proven.session.recordings._saves
        wait_until(lambda: under_way.done, "its answer is queued")
    elif when == "told":
        qtbot.waitUntil(lambda: "ValueError('odd')" in proven.messages.text)
    proven.close()
    lost = [record.message for record in caplog.records if "is lost" in record.message]
    assert [message.endswith("is lost: ValueError('odd')") for message in lost] == [True] * (when != "told")


def test_a_motion_file_stands_in_for_a_camera(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "wave.safetensors").touch()
    click(window.controls.motion_button)
    dialog = shown_dialog(window, qtbot)
    assert not dialog.isModal(), "Ctrl+0 reaches the slate"
    dialog.fileSelected.emit(str(tmp_path / "wave.safetensors"))
    dialog.close()
    assert world.pipeline.camera is not None
    assert world.pipeline.camera.path == tmp_path / "wave.safetensors"
    assert window.controls.camera.currentText() == "wave.safetensors"
    assert window.session.settings.camera == str(tmp_path / "wave.safetensors")


def test_what_the_avatar_does_meanwhile_is_chosen(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path
) -> None:
    choice = window.controls.idle

    def choose(text: str) -> None:
        choice.setCurrentIndex(choice.findText(text))
        choice.activated.emit(choice.currentIndex())

    assert choice.currentText() == "Rests still"
    choose("Moves gently")
    assert world.pipeline.settings.idle_motion == "gentle"
    choose("A motion file…")
    assert choice.currentText() == "Moves gently", "nothing is changed before a file is picked"
    dialog = shown_dialog(window, qtbot)
    dialog.fileSelected.emit(str(tmp_path / "wave.safetensors"))
    dialog.close()
    assert world.pipeline.settings.idle_motion == str(tmp_path / "wave.safetensors")
    assert choice.currentText() == "wave.safetensors"
    choose("Rests still")
    assert world.pipeline.settings.idle_motion == ""


@pytest.mark.parametrize(("in_the_plane", "said"), [(True, "in space only"), (False, "no pictures in which")])
def test_a_motion_file_that_cannot_move_the_avatar_is_told(
    proven: MainWindow, world: World, qtbot: QtBot, in_the_plane: bool, said: str
) -> None:
    world.pipeline.tell(MotionRefused(in_the_plane))
    qtbot.waitUntil(lambda: said in proven.messages.text)
    assert proven.messages.text.startswith("A motion file")
    world.pipeline.tell(MotionFollowed())
    qtbot.waitUntil(lambda: proven.messages.text == "")


def test_a_refusal_ends_what_was_told_of_a_calibration(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    world.pipeline.tell(CalibrationProgress(0.4, "close your mouth"))
    qtbot.waitUntil(lambda: session.calibrating == 0.4)
    world.pipeline.tell(MotionRefused(in_the_plane=True))
    qtbot.waitUntil(lambda: session.calibrating is None)
    assert "under way" not in session.chain.calibration.text
    assert "close your mouth" not in proven.preview.words.more


def test_a_refusal_and_news_of_a_camera_leave_each_other_alone(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    refusal, bar = MotionRefused(in_the_plane=True), proven.messages
    camera = world.pipeline.camera
    world.pipeline.tell(refusal)
    qtbot.waitUntil(lambda: bool(bar.messages))
    world.pipeline.open_camera()  # the same file anew: of that the pipeline tells no second time
    world.pipeline.fail_camera("It is busy", kept=camera)
    qtbot.waitUntil(lambda: len(bar.messages) == 2)
    world.pipeline.tell(MotionFollowed())
    qtbot.waitUntil(lambda: len(bar.messages) == 1)
    assert "It is busy" in bar.text
