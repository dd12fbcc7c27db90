"""The output, the model, the device and the recordings' folder are chosen in the window."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.pipeline.events import PersonCutOut
from app.pipeline.state import State
from app.settings import load_settings
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from app.ui.run_settings import RunSettings
from app.ui.widgets import Combo
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World, card


def choose(combo: Combo, text: str) -> None:
    """As a user does, who picks an entry."""
    row = combo.findText(text)
    assert row >= 0, [combo.itemText(row) for row in range(combo.count())]
    combo.setCurrentIndex(row)
    combo.activated.emit(row)


def settle(window: MainWindow, qtbot: QtBot, world: World, pipelines: int) -> None:
    qtbot.waitUntil(lambda: len(world.pipelines) == pipelines and window.session.ready)


@pytest.fixture
def run(proven: MainWindow) -> RunSettings:
    return proven.controls.run


def test_the_output_gets_another_size_and_rate(
    proven: MainWindow, run: RunSettings, world: World, options: WindowOptions, qtbot: QtBot
) -> None:
    first = world.pipeline
    portrait, camera = first.portrait, first.camera
    choose(run.size_choice, "1920 x 1080")
    settle(proven, qtbot, world, 2)
    made = world.pipeline.made_from
    assert (made.output_width_px, made.output_height_px, made.output_fps_hz) == (1920, 1080, 30.0)
    assert not first.running
    assert world.pipeline.running
    assert (world.pipeline.portrait, world.pipeline.camera) == (portrait, camera)
    assert proven.session.state is State.STARTING
    assert not proven.session.chain.model.done  # everything has to be proven anew
    choose(run.rate_choice, "24 per second")
    settle(proven, qtbot, world, 3)
    assert world.pipeline.made_from.output_fps_hz == 24.0
    proven.close()
    kept, _ = load_settings(options.settings_path)
    assert (kept.output_width_px, kept.output_fps_hz) == (1920, 24.0)
    assert not world.pipeline.running


def test_a_pipeline_that_is_made_anew_cuts_nobody_out_yet(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot
) -> None:
    world.pipeline.tell(PersonCutOut(under_way=True))
    qtbot.waitUntil(lambda: proven.status.busy.startswith("cutting the person out"))
    choose(run.size_choice, "1920 x 1080")  # the pipeline that was about it tells of no end any more
    settle(proven, qtbot, world, 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.chain.model.done)
    qtbot.waitUntil(lambda: proven.status.busy == "")


def test_the_same_again_makes_nothing_anew(run: RunSettings, world: World, qtbot: QtBot) -> None:
    choose(run.size_choice, "1280 x 720")
    qtbot.wait(50)
    assert len(world.pipelines) == 1


def test_the_model_runs_on_another_device(proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot) -> None:
    assert run.device_choice.currentText() == "Automatic: cuda:0"
    choose(run.device_choice, "GPU 0: a fake one")
    settle(proven, qtbot, world, 2)
    assert world.pipeline.made_from.device == "cuda:0"
    choose(run.device_choice, "Processor")
    settle(proven, qtbot, world, 3)
    assert world.pipeline.made_from.device == "cpu"


def test_another_model_is_picked_from_a_file(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    world.cards[str(path)] = card(path)
    choose(run.model_choice, "Another file…")
    assert run.model_choice.currentText() == "starter"
    dialog = proven.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(path))
    dialog.close()
    settle(proven, qtbot, world, 2)
    assert world.pipeline.made_from.model == str(path)
    assert run.model_choice.currentText() == "other"


def test_what_the_command_line_asked_for_gives_way_where_it_is_changed_and_only_there(
    open_window: OpenWindow, options: WindowOptions, world: World, qtbot: QtBot
) -> None:
    window = open_window(options=replace(options, model="other.safetensors", size="640x480"))
    run = window.controls.run
    assert (run.size_choice.currentText(), run.model_choice.currentText()) == ("640 x 480", "other")
    choose(run.size_choice, "640 x 360")
    settle(window, qtbot, world, 2)
    made = world.pipeline.made_from
    assert (made.output_width_px, made.output_height_px, made.model) == (640, 360, "other.safetensors")
    assert window.session.settings.model == "starter"  # as it is kept


def test_a_call_keeps_what_it_began_with(live: MainWindow, world: World, qtbot: QtBot) -> None:
    run = live.controls.run
    assert not run.size_choice.isEnabled()
    assert run.size_choice.toolTip().startswith("Switch the virtual camera off")
    run.size_choice.activated.emit(0)
    qtbot.wait(50)
    assert len(world.pipelines) == 1
    live.session.virtual_camera.switch(False)
    qtbot.waitUntil(run.size_choice.isEnabled)
    assert run.size_choice.toolTip() == "Of the picture that calls and recordings get, in pixels."


@pytest.mark.parametrize("folder", ["there", "busy", "missing", "silent"])
def test_another_folder_is_chosen_whatever_the_one_in_use_does(
    proven: MainWindow, run: RunSettings, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    gate, home, videos = threading.Event(), tmp_path / "home", tmp_path / "videos"
    home.mkdir()
    if folder != "missing":
        videos.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    silent = f"The folder {videos} does not answer"
    monkeypatch.setattr("app.ui.folders._MOMENT_MS", 50 if folder == "silent" else 60_000)
    monkeypatch.setattr("app.ui.folders._SILENT_MS", 60_000)
    opened: list[Path] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(Path(url.toLocalFile())))
    if folder == "busy":
        for _ in range(2):
            proven.session._folders.run(videos, lambda: gate.wait(60), lambda _: None, lambda _: None)
    elif folder == "silent":
        monkeypatch.setattr("app.ui.folders._is_folder", lambda path: path != videos or gate.wait(60))
    run.folder_button.click()
    qtbot.waitUntil(lambda: proven.findChild(QFileDialog) is not None)
    dialog = proven.findChild(QFileDialog)
    assert dialog is not None
    assert Path(dialog.directory().absolutePath()) == (videos if folder in ("there", "busy") else home)
    assert [Path(path) for path in dialog.selectedFiles()] in ([], [Path(dialog.directory().absolutePath())])
    assert proven.messages.text.startswith(silent) is (folder == "silent")
    proven.messages.dismiss()
    run.open_button.click()
    qtbot.waitUntil(lambda: bool(opened or proven.messages.text))
    if folder == "silent":
        assert proven.messages.text.startswith(silent)
        qtbot.waitUntil(lambda: not proven.session._folders._folder(videos)._asked)  # its moment is over
    elif folder == "missing":
        assert proven.messages.text.startswith(f"There is no folder {videos} to open yet")
    elif folder == "busy":
        busy = proven.session._folders._folder(videos)
        qtbot.waitUntil(lambda: not busy._looking)
        busy._look_after_it()  # when it would be told of
        assert proven.messages.text == ""
    gate.set()
    qtbot.waitUntil(lambda: not proven.session.busy and silent not in proven.messages.text)
    qtbot.wait(20)
    assert opened == [videos] * (folder in ("there", "busy")), "what was not opened at once stays so"
    assert len(proven.findChildren(QFileDialog)) == 1
    dialog.close()


def test_recordings_go_where_they_are_wanted(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    run.folder_button.click()
    qtbot.waitUntil(lambda: proven.findChild(QFileDialog) is not None)
    dialog = proven.findChild(QFileDialog)
    assert dialog is not None
    assert dialog.fileMode() is QFileDialog.FileMode.Directory
    dialog.fileSelected.emit(str(tmp_path / "elsewhere"))
    dialog.close()
    assert proven.session.settings.recordings == str(tmp_path / "elsewhere")
    qtbot.waitUntil(lambda: run._folder.text() == str(Path("~/elsewhere")))
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: bool(world.recordings))
    assert world.recordings[0].parent == tmp_path / "elsewhere"
