"""Every key does what the panel says."""

from collections.abc import Callable

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QApplication,
    QColorDialog,
    QDialog,
    QFileDialog,
    QLineEdit,
    QSpinBox,
    QTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.settings import AppSettings
from app.ui.keys import GROUPS
from app.ui.main_window import MainWindow
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import press, press_key


@pytest.mark.parametrize(
    ("keys", "name", "value"),
    [
        ("w", "zoom", 1.05),
        ("s", "zoom", 0.95),
        ("ww", "zoom", 1.1),
        ("u", "nudge_y", -0.01),
        ("j", "nudge_y", 0.01),
        ("h", "nudge_x", -0.01),
        ("k", "nudge_x", 0.01),
        ("t", "mirror_output", True),
        ("tt", "mirror_output", False),
        ("0", "slate", True),
        ("00", "slate", True),  # pressed twice in a panic it must not come off
    ],
)
def test_live_settings(window: MainWindow, world: World, keys: str, name: str, value: object) -> None:
    press(window, keys)
    assert getattr(window.session.settings.live, name) == value
    assert getattr(world.pipeline.settings, name) == value


@pytest.mark.parametrize(
    ("keys", "name", "value"),
    [
        ("c", "overlay_opacity", 0.1),
        ("ccz", "overlay_opacity", 0.1),
        ("z", "overlay_opacity", 0.0),
        ("r", "mirror_preview", False),
        ("i", "show_statistics", True),
        ("n", "show_inspector", True),
        ("o", "show_landmarks", True),
        ("oo", "show_landmarks", False),
        ("b", "show_driver", False),
        ("bb", "show_driver", True),
    ],
)
def test_window_settings(window: MainWindow, keys: str, name: str, value: object) -> None:
    press(window, keys)
    assert getattr(window.session.settings.window, name) == value


def test_limits_hold(window: MainWindow) -> None:
    press(window, "w" * 30 + "h" * 40 + "c" * 15)
    assert window.session.settings.live.zoom == 2.0
    assert window.session.settings.live.nudge_x == -0.3
    assert window.session.settings.window.overlay_opacity == 1.0


def test_calibrate(window: MainWindow, world: World) -> None:
    press(window, "xf")
    assert world.pipeline.calibrations == [True, False]


@pytest.mark.parametrize(("keys", "key"), [("2", "fake_2"), ("3", "fake_3"), ("d", "fake_2"), ("a", "fake_3")])
def test_portraits(window: MainWindow, world: World, qtbot: QtBot, keys: str, key: str) -> None:
    press(window, keys)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == key)
    assert window.session.desk.current == key


def test_a_number_beyond_the_gallery_does_nothing(window: MainWindow) -> None:
    press(window, "9")
    assert window.session.desk.current == "fake_1"


def test_keypad(window: MainWindow) -> None:
    press_key(window, Qt.Key.Key_0, Qt.KeyboardModifier.KeypadModifier)
    assert window.session.settings.live.slate


def test_go_live_and_stop(live: MainWindow) -> None:
    slates = [live.session.settings.live.slate]
    for _ in range(2):
        press(live, "g")
        slates.append(live.session.settings.live.slate)
    assert slates == [False, True, False]


def test_record_and_snapshot(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.show()
    qtbot.waitUntil(lambda: proven.preview.picture_size is not None)
    press(proven, "vp")
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    world.pipeline.open_sink("recorder")
    press(proven, "v")
    qtbot.waitUntil(lambda: proven.session.recordings.path is None)
    qtbot.waitUntil(lambda: bool(list(world.recordings[0].parent.glob("*.png"))))


def test_help(window: MainWindow) -> None:
    press(window, "?")
    assert window.pages.currentWidget() is window.keys_panel
    press_key(window, Qt.Key.Key_Escape)
    assert window.pages.currentWidget() is window.preview
    press_key(window, Qt.Key.Key_F1)
    window.keys_panel.close_button.click()
    assert window.pages.currentWidget() is window.preview


def open_file_dialog(window: MainWindow) -> QDialog:
    press_key(window, Qt.Key.Key_O, Qt.KeyboardModifier.ControlModifier)
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    assert dialog.testOption(QFileDialog.Option.DontUseNativeDialog)
    return dialog


def open_colour_dialog(window: MainWindow) -> QDialog:
    window.controls.scene.other_colour_button.click()
    dialog = window.findChild(QColorDialog)
    assert dialog is not None
    assert dialog.testOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)
    return dialog


@pytest.mark.parametrize("open_dialog", [open_file_dialog, open_colour_dialog])
def test_the_slate_has_a_key_that_works_in_dialogs(
    window: MainWindow, qtbot: QtBot, open_dialog: Callable[[MainWindow], QDialog]
) -> None:
    dialog = open_dialog(window)
    assert not dialog.isModal()
    dialog.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is dialog)
    field = dialog.focusWidget() or dialog
    slates: list[bool] = []
    for modifier in (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier):
        press_key(field, Qt.Key.Key_0, modifier)
        slates.append(window.session.settings.live.slate)
    assert slates == [False, True]  # the plain key is the dialog's own
    dialog.close()


@pytest.mark.parametrize("modifier", [Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier])
def test_the_slate_has_a_key_that_works_in_lists_that_are_open(
    window: MainWindow, qtbot: QtBot, modifier: Qt.KeyboardModifier
) -> None:
    window.controls.camera.showPopup()
    view = window.controls.camera.view()
    assert view is not None
    qtbot.waitUntil(view.isVisible)
    press_key(view, Qt.Key.Key_0, modifier)
    assert window.session.settings.live.slate
    window.controls.camera.hidePopup()


@pytest.mark.parametrize("kind", [QLineEdit, QSpinBox, QTextEdit])
def test_text_fields_leave_the_panic_key_alone(window: MainWindow, qtbot: QtBot, kind: type[QWidget]) -> None:
    field = kind()
    qtbot.addWidget(field)
    field.show()
    field.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is field)
    press_key(field, Qt.Key.Key_0, Qt.KeyboardModifier.ControlModifier)
    assert window.session.settings.live.slate


def test_quit(window: MainWindow, qtbot: QtBot) -> None:
    with qtbot.waitSignal(window.closed):
        press_key(window, Qt.Key.Key_Q, Qt.KeyboardModifier.ControlModifier)


def test_keys_work_wherever_the_focus_is(window: MainWindow) -> None:
    for widget in (
        window.controls.camera,
        window.controls.zoom.slider,
        window.gallery.list,
        window.action_bar.slate_button,
    ):
        widget.setFocus()
        press(window, "t")
    assert window.session.settings.live.mirror_output is False  # four times


def test_every_key_is_bound_once() -> None:
    sequences = [sequence for _, keys in GROUPS for key in keys for sequence in key.sequences]
    assert len(sequences) == len(set(sequences))


def test_keys_before_anything_is_loaded_are_harmless(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    window = MainWindow(open_window(AppSettings()).session)
    qtbot.addWidget(window)
    del world
    press(window, "0gvpadxfwsuhjkzcriotb")
