"""Presets in the window: by the mouse, by portrait, and over the end of the app."""

from pathlib import Path

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QInputDialog, QLabel
from pytestqt.qtbot import QtBot

from app.pipeline.events import SourceReady
from app.presets import STANDARD, Presets, Strengths, load_presets, save_presets
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import click, press_key

CALM = Strengths(motion_strength=0.5, lids_strength=1.5)


@pytest.fixture
def kept(options: WindowOptions) -> Path:
    return options.settings_path.with_name("presets.toml")


def animate(window: MainWindow, world: World, key: str, qtbot: QtBot) -> None:
    """Choose a portrait, and have the pipeline say that it is animated."""
    window.session.desk.choose(key)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == key)
    world.pipeline.tell(SourceReady(key, from_cache=False, measured=True))
    qtbot.waitUntil(lambda: window.session.animated == key)


def answer(window: MainWindow, text: str) -> None:
    dialog = next(one for one in window.findChildren(QInputDialog) if one.isVisible())
    assert not dialog.isModal(), "Ctrl+0 reaches the slate"
    dialog.setTextValue(text)
    dialog.accept()


def test_each_portrait_comes_back_with_its_own_strengths(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    controls = proven.controls
    press_key(controls.motion.slider, Qt.Key.Key_Left)
    press_key(controls.gains["lids"].slider, Qt.Key.Key_Right)
    own = Strengths.of(world.pipeline.settings)
    assert own == Strengths(motion_strength=0.95, lids_strength=1.05)
    animate(proven, world, "fake_2", qtbot)
    assert Strengths.of(world.pipeline.settings) == own, "a new one begins with what is in force"
    press_key(controls.motion.slider, Qt.Key.Key_Home)
    press_key(controls.zoom.slider, Qt.Key.Key_Right)
    animate(proven, world, "fake_1", qtbot)
    assert Strengths.of(world.pipeline.settings) == own
    assert controls.motion.value == 0.95
    assert world.pipeline.settings.zoom == 1.05, "framing belongs to the camera"
    animate(proven, world, "fake_2", qtbot)
    assert world.pipeline.settings.motion_strength == 0


def test_each_portrait_comes_back_where_it_stood(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    scene = proven.controls.scene
    press_key(scene.portrait_x.slider, Qt.Key.Key_Right)
    press_key(scene.portrait_size.slider, Qt.Key.Key_Left)
    animate(proven, world, "fake_2", qtbot)
    scene.reset_place()
    animate(proven, world, "fake_1", qtbot)
    live = world.pipeline.settings
    assert (live.portrait_x, live.portrait_size) == (0.01, 0.95)
    assert (scene.portrait_x.value, scene.portrait_size.value) == (0.01, 0.95)
    animate(proven, world, "fake_2", qtbot)
    live = world.pipeline.settings
    assert (live.portrait_x, live.portrait_size) == (0, 1)


def test_the_name_of_a_preset_is_shown_as_it_is(proven: MainWindow) -> None:
    row, desk = proven.controls.preset, proven.session.presets
    press_key(proven.controls.motion.slider, Qt.Key.Key_Home)
    desk.save("<b>R&B</b>")
    click(row.rename_button)
    dialog = next(one for one in proven.findChildren(QInputDialog) if one.isVisible())
    (said,) = dialog.findChildren(QLabel)
    assert said.textFormat() is Qt.TextFormat.PlainText
    assert said.text() == "Another name for <b>R&&B</b>:"
    answer(proven, "Soul")
    assert row.choice.currentText() == "Soul"


def test_they_come_back_at_the_next_start(
    proven: MainWindow, world: World, qtbot: QtBot, kept: Path, open_window: OpenWindow
) -> None:
    press_key(proven.controls.motion.slider, Qt.Key.Key_Left)
    proven.close()
    assert load_presets(kept)[0].last == {"fake_1": Strengths(motion_strength=0.95)}
    again = open_window()
    assert again.session.settings.live.motion_strength == 1.0
    world.pipeline.prove()
    qtbot.waitUntil(lambda: again.session.settings.live.motion_strength == 0.95)


def test_saving_applying_renaming_and_deleting(proven: MainWindow, world: World, kept: Path) -> None:
    row, desk = proven.controls.preset, proven.session.presets
    assert row.choice.currentText() == STANDARD
    assert not row.rename_button.isVisibleTo(row)
    press_key(proven.controls.motion.slider, Qt.Key.Key_Home)
    assert row.choice.currentIndex() == -1
    click(row.save_button)
    answer(proven, "Standard")
    assert "Standard stays as it is" in proven.messages.text
    answer(proven, "Still")
    assert row.choice.currentText() == "Still"
    assert proven.messages.text == ""
    row.choice.setCurrentIndex(0)
    row.choice.activated.emit(0)
    assert Strengths.of(world.pipeline.settings) == Strengths()
    desk.apply("still")
    assert world.pipeline.settings.motion_strength == 0
    click(row.rename_button)
    answer(proven, "Quite still")
    assert list(desk.presets.named) == ["Quite still"]
    click(row.delete_button)
    assert not desk.presets.named
    assert world.pipeline.settings.motion_strength == 0, "the portrait keeps its strengths"
    assert "was deleted" in proven.messages.text
    click(proven.messages.action_button)
    assert list(desk.presets.named) == ["Quite still"]
    proven.close()
    assert load_presets(kept)[0].named == {"Quite still": Strengths(motion_strength=0.0)}


def test_a_preset_that_is_saved_over_can_come_back(window: MainWindow, kept: Path) -> None:
    del kept
    desk = window.session.presets
    assert desk.save("Mine")
    press_key(window.controls.expression.slider, Qt.Key.Key_Home)
    assert desk.save("mine")
    assert desk.presets.get("Mine").expression_strength == 0
    assert "Mine has these strengths now" in window.messages.text
    click(window.messages.action_button)
    assert desk.presets.get("Mine") == Strengths()


def test_absolute_motion_has_no_strengths(window: MainWindow) -> None:
    click(window.controls.motion_kind.button("absolute"))
    assert not window.controls.preset.choice.isEnabled()


def test_a_file_of_a_later_version_is_told_and_stays(open_window: OpenWindow, kept: Path) -> None:
    kept.write_text("version = 9\n", encoding="utf-8")
    window = open_window()
    assert "of format 9" in window.messages.text
    window.session.presets.save("Mine")
    window.close()
    assert kept.read_text(encoding="utf-8") == "version = 9\n"


def test_a_place_that_cannot_be_written_is_told(window: MainWindow, kept: Path, qtbot: QtBot) -> None:
    kept.symlink_to(kept.parent / "no folder" / kept.name)
    window.session.presets.save("Mine")
    qtbot.waitUntil(lambda: "cannot keep the presets" in window.messages.text)
    kept.unlink()
    kept.mkdir()  # nobody knows what would be written over
    window.session.presets.save("Another")
    qtbot.waitUntil(lambda: "cannot read the presets" in window.messages.text)


def test_what_could_not_be_kept_is_kept_at_the_end(window: MainWindow, kept: Path, qtbot: QtBot) -> None:
    """As on a full disk on which there is room again."""
    kept.symlink_to(kept.parent / "no folder" / kept.name)
    window.session.presets.save("Mine")
    qtbot.waitUntil(lambda: "cannot keep the presets" in window.messages.text)
    kept.unlink()
    window.close()
    assert set(load_presets(kept)[0].named) == {"Mine"}


def test_a_safe_start_neither_reads_nor_writes_them(
    open_window: OpenWindow, options: WindowOptions, kept: Path
) -> None:
    save_presets(kept, Presets().saved("Calm", CALM))
    window = open_window(options=options.made_safe())
    assert window.session.presets.names == (STANDARD,)
    window.session.presets.save("Mine")
    window.close()
    assert list(load_presets(kept)[0].named) == ["Calm"]
