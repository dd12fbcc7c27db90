"""Every control does something, and shows what is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QColor, QWheelEvent
from PyQt6.QtWidgets import QApplication, QColorDialog, QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from app.pipeline.cameras import CameraInfo, CameraSpec
from app.settings import AppSettings, LiveSettings, WindowSettings
from app.ui.controls import Controls
from app.ui.main_window import MainWindow
from app.ui.theme import DARK, LIGHT
from app.ui.widgets import ValueSlider
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import click, double_click, press_key


@pytest.mark.parametrize(
    ("slider", "name", "steps", "value"),
    [
        (lambda controls: controls.motion, "motion_strength", 2, 1.1),
        (lambda controls: controls.expression, "expression_strength", -2, 0.9),
        (lambda controls: controls.smoothing, "smoothing", 4, 0.5),
        (lambda controls: controls.zoom, "zoom", 1, 1.05),
    ],
)
def test_sliders(
    window: MainWindow, world: World, slider: Callable[[Controls], ValueSlider], name: str, steps: int, value: float
) -> None:
    made = slider(window.controls)
    for _ in range(abs(steps)):
        press_key(made.slider, Qt.Key.Key_Right if steps > 0 else Qt.Key.Key_Left)
    assert getattr(world.pipeline.settings, name) == pytest.approx(value)
    assert made.value == pytest.approx(value)
    double_click(made, made.name_label.geometry().center())
    assert getattr(world.pipeline.settings, name) == getattr(LiveSettings(), name)


def test_a_slider_jumps_to_where_it_is_clicked(window: MainWindow) -> None:
    slider = window.controls.motion.slider
    click(slider, QPoint(slider.width() - 3, slider.height() // 2))
    assert window.session.settings.live.motion_strength == 2.0


def test_the_wheel_changes_nothing_without_the_focus(window: MainWindow) -> None:
    controls = window.controls
    for widget in (controls.motion.slider, controls.camera):
        turn_wheel(widget)
    assert window.session.settings.live == LiveSettings()
    assert controls.camera.currentIndex() == 0
    controls.motion.slider.setFocus()
    window.activateWindow()
    turn_wheel(controls.motion.slider)
    assert window.session.settings.live.motion_strength > 1.0


def turn_wheel(widget: QWidget) -> None:
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_smoothing_tells_its_delay(window: MainWindow) -> None:
    assert window.controls.smoothing.value_label.text() == "30 ms"


def test_absolute_motion_has_no_gains(window: MainWindow, world: World) -> None:
    controls = window.controls
    click(controls.motion_kind.button("absolute"))
    assert world.pipeline.settings.relative is False
    assert not controls.motion.isEnabled()
    assert not controls.expression.isEnabled()
    click(controls.motion_kind.button("relative"))
    assert controls.motion.isEnabled()


@pytest.mark.parametrize(
    ("switch", "name"),
    [(lambda controls: controls.badge, "badge"), (lambda controls: controls.mirror_output, "mirror_output")],
)
def test_live_switches(window: MainWindow, world: World, switch: Callable[[Controls], QWidget], name: str) -> None:
    before = getattr(LiveSettings(), name)
    click(switch(window.controls))
    assert getattr(world.pipeline.settings, name) is not before
    click(switch(window.controls))
    assert getattr(world.pipeline.settings, name) is before


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        (lambda controls: controls.mirror_preview, "mirror_preview"),
        (lambda controls: controls.statistics, "show_statistics"),
        (lambda controls: controls.landmarks, "show_landmarks"),
        (lambda controls: controls.checklist, "checklist_done"),
    ],
)
def test_window_switches(window: MainWindow, switch: Callable[[Controls], QWidget], name: str) -> None:
    before = getattr(WindowSettings(), name)
    click(switch(window.controls))
    assert getattr(window.session.settings.window, name) is not before


def test_overlay(window: MainWindow) -> None:
    press_key(window.controls.overlay.slider, Qt.Key.Key_Right)
    assert window.session.settings.window.overlay_opacity == 0.1


@pytest.mark.parametrize(
    ("where", "x", "y"), [("left", -0.01, 0), ("right", 0.01, 0), ("up", 0, -0.01), ("down", 0, 0.01)]
)
def test_nudges(window: MainWindow, world: World, where: str, x: float, y: float) -> None:
    buttons = window.controls.nudge_buttons
    click(buttons[where])
    assert (world.pipeline.settings.nudge_x, world.pipeline.settings.nudge_y) == (x, y)
    click(buttons["centre"])
    assert (world.pipeline.settings.nudge_x, world.pipeline.settings.nudge_y) == (0, 0)


def test_background_colours(window: MainWindow, world: World) -> None:
    controls = window.controls
    click(controls.background.button("colour"))
    assert world.pipeline.settings.background == "colour"
    click(controls.swatches["#00b140"])
    assert world.pipeline.settings.background_colour == "#00b140"
    assert [colour for colour, made in controls.swatches.items() if made.isChecked()] == ["#00b140"]
    click(controls.other_colour_button)
    dialog = window.findChild(QColorDialog)
    assert dialog is not None
    assert not dialog.isModal()
    dialog.colorSelected.emit(QColor("#123456"))
    assert world.pipeline.settings.background_colour == "#123456"
    dialog.close()


def test_background_picture(window: MainWindow, world: World, tmp_path: Path) -> None:
    controls = window.controls
    click(controls.background.button("image"))
    assert world.pipeline.settings.background == "blur", "nothing changes before a file is chosen"
    assert controls.background.button("blur").isChecked()
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    path = tmp_path / "beach.jpg"
    path.write_bytes(b"")
    dialog.fileSelected.emit(str(path))
    assert controls.background.button("image").isChecked()
    assert world.pipeline.settings.background_image == str(path)
    dialog.close()
    click(controls.background.button("blur"))
    click(controls.background.button("image"))
    assert controls.background.button("image").isChecked(), "a picture that was chosen once is used again"


def test_cameras_by_name(window: MainWindow, world: World, qtbot: QtBot) -> None:
    camera = window.controls.camera
    assert [camera.itemText(row) for row in range(camera.count())] == ["Fake Cam", "Other"]
    press_key(camera, Qt.Key.Key_Down)
    assert world.pipeline.camera == CameraSpec("device", 1)
    assert window.session.settings.camera == "1"
    world.cameras.append(CameraInfo("Third", "2"))
    window.controls.refresh_button.click()
    assert not window.controls.refresh_button.isEnabled()
    qtbot.waitUntil(lambda: camera.count() == 3)
    assert camera.currentText() == "Other"


def test_a_video_stands_in_for_a_camera(window: MainWindow, world: World, tmp_path: Path) -> None:
    click(window.controls.file_button)
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    clip = tmp_path / "talk.mp4"
    dialog.fileSelected.emit(str(clip))
    dialog.close()
    assert world.pipeline.camera == CameraSpec("file", path=clip)
    assert window.controls.camera.currentText() == "talk.mp4"
    assert window.session.settings.camera == str(clip)


def test_what_was_kept_is_shown(open_window: OpenWindow) -> None:
    live = LiveSettings(
        relative=False, motion_strength=0.5, expression_strength=1.5, smoothing=0.8, zoom=1.2, mirror_output=True,
        background="colour", badge=False,
    )  # fmt: skip
    looks = WindowSettings(mirror_preview=False, overlay_opacity=0.6, show_landmarks=True, theme="dark")
    window = open_window(AppSettings(live=live, window=looks, portrait="fake_1"))
    controls = window.controls
    assert controls.motion_kind.button("absolute").isChecked()
    assert controls.motion.value == 0.5
    assert controls.expression.value == 1.5
    assert controls.smoothing.value == 0.8
    assert controls.zoom.value == 1.2
    assert controls.overlay.value == 0.6
    assert controls.mirror_output.isChecked()
    assert controls.background.button("colour").isChecked()
    assert not controls.badge.isChecked()
    assert not controls.mirror_preview.isChecked()
    assert controls.landmarks.isChecked()
    assert controls.theme.button("dark").isChecked()
    assert window.session.settings.live == replace(live, slate=False)


def test_the_theme_changes_at_once(window: MainWindow, qapp: QApplication) -> None:
    click(window.controls.theme.button("light"))
    assert qapp.palette().window().color().name() == LIGHT.window
    click(window.controls.theme.button("dark"))
    assert qapp.palette().window().color().name() == DARK.window
