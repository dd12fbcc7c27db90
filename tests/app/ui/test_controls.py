"""Every control does something, and shows what is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QWheelEvent
from PyQt6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QInputDialog,
    QLabel,
    QScrollArea,
    QSlider,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.pipeline.animation.smoothing import smoothing_delay_ms
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraInfo
from app.settings import (
    EXPRESSION_PARTS,
    LONGEST_SLATE_TEXT,
    MOTION_PARTS,
    AppSettings,
    LiveSettings,
    WindowSettings,
    load_settings,
)
from app.ui.controls import Controls
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from app.ui.session import Session
from app.ui.theme import DARK, LIGHT
from app.ui.widgets import ValueSlider, written
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import MISSING, World
from tests.app.ui.hand import click, double_click, press, press_key


@pytest.mark.parametrize(
    ("slider", "name", "steps", "value"),
    [
        (lambda controls: controls.motion, "motion_strength", 2, 1.1),
        (lambda controls: controls.expression, "expression_strength", -2, 0.9),
        (lambda controls: controls.smoothing, "smoothing", 4, 0.5),
        (lambda controls: controls.zoom, "zoom", 1, 1.05),
        (lambda controls: controls.scene.portrait_size, "portrait_size", -2, 0.9),
        (lambda controls: controls.sharpness, "sharpness", 1, 0.55),
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
    press_key(made.slider, Qt.Key.Key_End)
    assert getattr(world.pipeline.settings, name) > value
    press_key(made.slider, Qt.Key.Key_Backspace)
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


def test_smoothing_tells_its_delay_from_the_start(
    qtbot: QtBot, world: World, options: WindowOptions, tmp_path: Path
) -> None:
    window = MainWindow(Session(options, AppSettings(recordings=str(tmp_path)), world.parts()))
    qtbot.addWidget(window)
    assert not window.session.ready
    assert window.controls.smoothing.value_label.text() == f"{smoothing_delay_ms(0.3):.0f} ms"
    window.close()


def chosen(controls: Controls) -> list[str]:
    return [key for key in ("space", "plane", "absolute") if controls.motion_kind.button(key).isChecked()]


def enabled_gains(controls: Controls) -> set[str]:
    return {part for part, slider in controls.gains.items() if slider.isEnabled()}


def test_kinds_of_motion(window: MainWindow, world: World) -> None:
    controls = window.controls
    assert chosen(controls) == ["space"]
    for key, relative, motion in (
        ("plane", True, "plane"),
        ("absolute", False, "plane"),
        ("space", True, "space"),
        ("absolute", False, "space"),
    ):
        click(controls.motion_kind.button(key))
        assert (world.pipeline.settings.relative, world.pipeline.settings.motion) == (relative, motion)
        assert chosen(controls) == [key]


def test_only_what_has_an_effect_can_be_moved(proven: MainWindow) -> None:
    controls, every = proven.controls, {*MOTION_PARTS, *EXPRESSION_PARTS}
    assert set(controls.gains) == every
    for key, whole, parts in (("absolute", False, set()), ("plane", True, set()), ("space", True, every)):
        click(controls.motion_kind.button(key))
        assert controls.motion.isEnabled() is whole
        assert controls.expression.isEnabled() is whole
        assert enabled_gains(controls) == parts
        assert controls.retouch.isEnabled() is (key == "space")
    press_key(controls.expression.slider, Qt.Key.Key_Home)
    assert enabled_gains(controls) == set(MOTION_PARTS), "nothing times something is nothing"


@pytest.mark.parametrize(
    ("measures", "measured", "why"), [(False, False, "this model"), (True, False, "this portrait"), (True, True, "")]
)
def test_in_space_needs_measured_keypoints(
    window: MainWindow, world: World, qtbot: QtBot, measures: bool, measured: bool, why: str
) -> None:
    controls = window.controls
    assert controls.motion_kind.button("space").isEnabled(), "nothing is known yet"
    world.pipeline.prove(measures=measures, measured=measured)
    qtbot.waitUntil(lambda: window.session.chain.calibration.done)
    space = controls.motion_kind.button("space")
    assert space.isEnabled() is measured
    assert chosen(controls) == ["space" if measured else "plane"]
    assert enabled_gains(controls) == (set(controls.gains) if measured else set())
    assert controls.retouch.isEnabled() is measured
    assert controls.no_space.isVisible() is not measured
    assert why in space.toolTip()
    assert why in controls.no_space.text()
    click(controls.motion_kind.button("absolute"))
    click(controls.motion_kind.button("plane"))
    wish = "plane" if measured else "space"
    assert world.pipeline.settings.motion == wish, "where there is no choice, none is kept"


def test_detected_keypoints_leave_the_plane(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    window = open_window(AppSettings(live=LiveSettings(keypoints="detected"), portrait="fake_1"))
    world.pipeline.prove(measured=False)
    qtbot.waitUntil(lambda: window.session.chain.calibration.done)
    assert chosen(window.controls) == ["plane"]
    assert "detected" in window.controls.no_space.text()


@pytest.mark.parametrize("part", MOTION_PARTS + EXPRESSION_PARTS)
def test_fine_tuning(window: MainWindow, world: World, part: str) -> None:
    controls, name = window.controls, f"{part}_strength"
    assert not controls.gains[part].isVisible()
    click(controls.fine_tune.button)
    QApplication.processEvents()  # the sliders find their places
    slider = controls.gains[part]
    assert slider.isVisible()
    assert controls.fine_tune.remark == ""
    press_key(slider.slider, Qt.Key.Key_Right)
    assert world.pipeline.settings == replace(LiveSettings(), **{name: 1.05})  # type: ignore[arg-type]
    assert slider.value_label.text() == "105 %"
    assert controls.fine_tune.remark == "1 changed"
    double_click(slider, slider.name_label.geometry().center())
    assert world.pipeline.settings == LiveSettings()
    assert controls.fine_tune.remark == ""
    press_key(slider.slider, Qt.Key.Key_Home)
    assert getattr(world.pipeline.settings, name) == 0
    press_key(slider.slider, Qt.Key.Key_Backspace)
    assert world.pipeline.settings == LiveSettings()


def test_fine_tuning_is_opened_by_keyboard_and_stays_so(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot
) -> None:
    window = open_window()
    press_key(window.controls.fine_tune.button, Qt.Key.Key_Space)
    assert window.controls.gains["lids"].isVisible()
    qtbot.waitUntil(options.settings_path.exists)
    press_key(window.controls.retouch, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: not load_settings(options.settings_path)[0].live.retouch)
    kept, _ = load_settings(options.settings_path)
    again = open_window(replace(kept, live=replace(kept.live, nod_strength=0.5)))
    assert again.controls.gains["lids"].isVisible()
    assert again.controls.gains["nod"].value == 0.5
    assert not again.controls.retouch.isChecked()
    press_key(again.controls.fine_tune.button, Qt.Key.Key_Space)
    assert not again.controls.gains["lids"].isVisible()
    assert again.controls.fine_tune.remark == "2 changed", "what is hidden is not forgotten"


def test_nothing_of_the_column_is_cut_in_the_smallest_window(
    open_window: OpenWindow, world: World, qtbot: QtBot
) -> None:
    world.report = MISSING
    live = LiveSettings(background="colour", motion="space")
    window = open_window(AppSettings(live=live, window=WindowSettings(show_fine_tune=True), portrait="fake_1"))
    window.resize(window.minimumSize())
    world.pipeline.prove(measures=False, measured=False)
    qtbot.waitUntil(lambda: window.session.chain.calibration.done)
    scroll = window.controls.findChild(QScrollArea)
    assert scroll is not None
    body, bar, viewport = scroll.widget(), scroll.verticalScrollBar(), scroll.viewport()
    assert body is not None
    assert bar is not None
    assert viewport is not None
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    assert bar.maximum() + viewport.height() == body.height()
    assert body.width() <= viewport.width()
    widgets = [widget for kind in (QLabel, QAbstractButton, QSlider, QComboBox) for widget in body.findChildren(kind)]
    for widget in widgets:
        if widget.isVisible():
            least = widget.minimumSizeHint()
            height = widget.heightForWidth(widget.width()) if widget.hasHeightForWidth() else least.height()
            assert widget.width() >= min(least.width(), widget.maximumWidth()), widget
            assert widget.height() >= min(height, widget.maximumHeight()), widget


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        (lambda controls: controls.badge, "badge"),
        (lambda controls: controls.mirror_output, "mirror_output"),
        (lambda controls: controls.remember_calibration, "remember_calibration"),
        (lambda controls: controls.retouch, "retouch"),
        (lambda controls: controls.fine_detail, "fine_detail"),
    ],
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
        (lambda controls: controls.inspector, "show_inspector"),
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


def test_a_phone_stands_in_for_a_camera(window: MainWindow, world: World) -> None:
    for typed, address, shown in (
        ("192.168.1.20:8080/video", "http://192.168.1.20:8080/video", "http://192.168.1.20:8080/video"),
        (
            " rtsp://me:secret@10.0.0.7/live?a=secret ",
            "rtsp://me:secret@10.0.0.7/live?a=secret",
            "rtsp://10.0.0.7/live?...",
        ),
    ):
        click(window.controls.network_button)
        dialog = next(dialog for dialog in window.findChildren(QInputDialog) if dialog.isVisible())
        assert dialog.textValue() == "http://"
        assert not dialog.isModal()  # Ctrl+0 slates from here, too
        dialog.setTextValue(typed)
        dialog.accept()
        assert world.pipeline.camera == CameraSpec("network", address=address)
        assert window.controls.camera.currentText() == shown
        assert window.session.settings.camera == address


def test_an_address_that_cannot_be_read_is_not_lost(window: MainWindow, world: World) -> None:
    before = world.pipeline.camera
    click(window.controls.network_button)
    dialog = next(dialog for dialog in window.findChildren(QInputDialog) if dialog.isVisible())
    dialog.setTextValue("http://me:se/cret@phone/video")
    dialog.accept()
    assert world.pipeline.camera == before
    assert "camera: got an address that cannot be read" in window.messages.text
    assert "cret" not in window.messages.text + window.controls.camera.currentText()
    click(window.controls.network_button)
    again = next(dialog for dialog in window.findChildren(QInputDialog) if dialog.isVisible())
    assert again.textValue() == "http://me:se/cret@phone/video"
    again.reject()


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
    assert controls.scene.background.currentData() == "colour"
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


def test_the_slate_says_what_is_written(window: MainWindow, world: World) -> None:
    field = window.controls.slate_text
    field.setFocus()
    press(field, "Back at 10")  # letters and digits are no commands here
    assert world.pipeline.settings.slate_text == ""
    press_key(field, Qt.Key.Key_Return)
    assert world.pipeline.settings.slate_text == "Back at 10"
    assert not world.pipeline.settings.slate


def test_the_slates_text_ends_with_a_whole_character(window: MainWindow) -> None:
    """A field's limit counts halves of those that Unicode took up last."""
    field = window.controls.slate_text
    field.insert("-" + LONGEST_SLATE_TEXT * "\N{GRINNING FACE}")
    assert written(field) == "-" + (LONGEST_SLATE_TEXT // 2 - 1) * "\N{GRINNING FACE}"


def test_what_the_slate_cannot_show_is_told_and_stays_to_be_mended(window: MainWindow, world: World) -> None:
    field = window.controls.slate_text
    field.setFocus()
    field.insert("Back \N{GRINNING FACE}")
    press_key(field, Qt.Key.Key_Return)
    assert window.messages.text == (
        "The slate cannot show \N{GRINNING FACE}. Leave that out, or choose a picture that shows it for the slate."
    )
    assert (world.pipeline.settings.slate_text, field.text()) == ("", "Back \N{GRINNING FACE}")
    field.backspace()
    press_key(field, Qt.Key.Key_Return)
    assert window.messages.text == ""
    assert world.pipeline.settings.slate_text == "Back"


def test_the_slate_shows_a_picture_of_ones_own(window: MainWindow, world: World, tmp_path: Path) -> None:
    assert not window.controls.no_slate_button.isVisible()
    window.controls.slate_button.click()
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(tmp_path / "own.png"))
    dialog.close()
    assert world.pipeline.settings.slate_image == str(tmp_path / "own.png")
    assert not window.controls.no_slate_button.isHidden()
    window.controls.no_slate_button.click()
    assert world.pipeline.settings.slate_image == ""
