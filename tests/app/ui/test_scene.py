"""The window's scene: cutting out, backgrounds, and where the portrait stands."""

from pathlib import Path

import numpy as np
import pytest
from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtGui import QColor, QImage, QWheelEvent
from PyQt6.QtWidgets import QApplication, QColorDialog, QFileDialog
from pytestqt.qtbot import QtBot

from app.pipeline.events import PersonCutOut, SettingRefused, StateChanged
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from app.settings import AppSettings, Background, LiveSettings
from app.ui.main_window import MainWindow
from app.ui.scene import SceneControls
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import click, double_click, drag


def choose(scene: SceneControls, kind: Background) -> None:
    scene.background.setCurrentIndex(scene.background.findData(kind))
    scene.background.activated.emit(scene.background.currentIndex())


def visible_file_dialog(window: MainWindow) -> QFileDialog:
    return next(dialog for dialog in window.findChildren(QFileDialog) if dialog.isVisible())


def test_the_person_is_cut_out_and_let_be(window: MainWindow, world: World) -> None:
    scene = window.controls.scene
    assert not scene.blur.isVisibleTo(scene)
    click(scene.cut_out)
    assert world.pipeline.settings.cut_out
    assert scene.blur.isVisibleTo(scene)
    scene.blur.moved.emit(0.8)
    assert world.pipeline.settings.background_blur == 0.8
    click(scene.cut_out)
    assert not world.pipeline.settings.cut_out


def test_what_is_around_the_portrait_is_seen_or_not(window: MainWindow, world: World) -> None:
    scene = window.controls.scene
    for on in (True, False):
        click(scene.surroundings)
        assert world.pipeline.settings.surroundings is scene.surroundings.isChecked() is on


@pytest.mark.parametrize("kind", ["own", "alpha"])
def test_what_needs_cutting_out_cuts_out(window: MainWindow, world: World, kind: Background) -> None:
    scene = window.controls.scene
    choose(scene, kind)
    assert (world.pipeline.settings.background, world.pipeline.settings.cut_out) == (kind, True)
    assert scene.cut_out.isChecked()
    click(scene.cut_out)
    assert (world.pipeline.settings.background, world.pipeline.settings.cut_out) == ("blur", False)


def test_colours(window: MainWindow, world: World) -> None:
    scene = window.controls.scene
    choose(scene, "colour")
    assert world.pipeline.settings.background == "colour"
    click(scene.swatches["#00b140"])
    assert world.pipeline.settings.background_colour == "#00b140"
    assert [colour for colour, made in scene.swatches.items() if made.isChecked()] == ["#00b140"]
    click(scene.other_colour_button)
    dialog = window.findChild(QColorDialog)
    assert dialog is not None
    assert not dialog.isModal()
    dialog.colorSelected.emit(QColor("#123456"))
    assert world.pipeline.settings.background_colour == "#123456"
    dialog.close()
    choose(scene, "alpha")
    click(scene.swatches["#264b73"])
    assert (world.pipeline.settings.background, world.pipeline.settings.background_colour) == ("alpha", "#264b73")


@pytest.mark.parametrize(("kind", "setting"), [("image", "background_image"), ("video", "background_video")])
def test_files(window: MainWindow, world: World, tmp_path: Path, kind: Background, setting: str) -> None:
    scene = window.controls.scene
    choose(scene, kind)
    assert world.pipeline.settings.background == "blur", "nothing changes before a file is chosen"
    assert scene.background.currentData() == "blur"
    path = tmp_path / "beach"
    path.write_bytes(b"")
    dialog = visible_file_dialog(window)
    dialog.fileSelected.emit(str(path))
    dialog.close()
    assert scene.background.currentData() == kind
    assert getattr(world.pipeline.settings, setting) == str(path)
    choose(scene, "blur")
    choose(scene, kind)
    assert scene.background.currentData() == kind, "a file that was chosen once is used again"
    click(scene.file_button)
    dialog = visible_file_dialog(window)
    dialog.fileSelected.emit(str(path.with_name("other")))
    dialog.close()
    assert getattr(world.pipeline.settings, setting) == str(path.with_name("other"))


def test_the_portrait_is_placed_by_sliders_and_put_back(window: MainWindow, world: World) -> None:
    scene = window.controls.scene
    assert not scene.reset_button.isEnabled()
    scene.portrait_x.moved.emit(0.2)
    scene.portrait_y.moved.emit(-0.1)
    scene.portrait_size.moved.emit(0.7)
    live = world.pipeline.settings
    assert (live.portrait_x, live.portrait_y, live.portrait_size) == (0.2, -0.1, 0.7)
    click(scene.reset_button)
    live = world.pipeline.settings
    assert (live.portrait_x, live.portrait_y, live.portrait_size) == (0, 0, 1)


def turn_wheel(window: MainWindow, notches: int) -> None:
    place = window.preview.picture_rect().center()
    event = QWheelEvent(
        place,
        QPointF(window.preview.mapToGlobal(place.toPoint())),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(window.preview, event)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_portrait_is_placed_in_the_preview_while_it_is_seen(
    open_window: OpenWindow, world: World, qtbot: QtBot, mirrored: bool
) -> None:
    window = open_window(AppSettings())
    if window.session.settings.window.mirror_preview is not mirrored:
        click(window.controls.mirror_preview)
    scene, rect = window.controls.scene, window.preview.picture_rect()
    start = rect.center().toPoint()
    way = QPoint(round(rect.width() / 10), round(rect.height() / 20))

    def draw() -> None:
        drag(window.preview, start, start + way)

    draw()
    turn_wheel(window, 1)
    assert world.pipeline.settings.portrait_x == 0, "on the slate nobody sees what comes of it"
    assert world.pipeline.settings.portrait_size == 1
    world.pipeline.tell(StateChanged(State.LIVE))
    qtbot.waitUntil(lambda: window.session.state is State.LIVE)
    draw()
    turn_wheel(window, -2)
    live = world.pipeline.settings
    assert live.portrait_x == pytest.approx(-0.1 if mirrored else 0.1, abs=0.005)
    assert live.portrait_y == pytest.approx(0.05, abs=0.005)
    assert live.portrait_size == pytest.approx(0.9)
    assert scene.portrait_size.value == pytest.approx(0.9)
    for _ in range(20):
        draw()
        turn_wheel(window, -2)
    live = world.pipeline.settings
    assert abs(live.portrait_x) == live.portrait_y == live.portrait_size == 0.5
    double_click(window.preview, rect.center().toPoint())
    assert world.pipeline.settings == LiveSettings()


def test_without_background_files_are_transparent(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    choose(window.controls.scene, "alpha")
    rgb, alpha = np.full((36, 64, 3), 90, np.uint8), np.full((36, 64), 255, np.uint8)
    alpha[:, :32] = 0
    picture = Composed(1, 0.0, State.LIVE, rgb, fresh=True, alpha=alpha)
    window.session.recordings.last = picture
    window.session.recordings.snapshot()

    def saved() -> list[QImage]:
        images = [QImage(str(path)) for path in (tmp_path / "videos").glob("*.png")]
        return [image for image in images if not image.isNull()]  # an empty file keeps the name until it is written

    qtbot.waitUntil(lambda: bool(saved()))
    (image,) = saved()
    assert (image.pixelColor(3, 3).alpha(), image.pixelColor(50, 3).alpha()) == (0, 255)
    click(window.action_bar.record_button)
    qtbot.waitUntil(lambda: window.session.recordings.path is not None)
    assert window.session.recordings.path is not None
    assert window.session.recordings.path.suffix == ".webm"


def test_the_scene_comes_back(open_window: OpenWindow) -> None:
    live = LiveSettings(cut_out=True, background="blur", background_blur=0.9, portrait_x=0.3, portrait_y=-0.2)
    scene = open_window(AppSettings(live=live)).controls.scene
    assert scene.cut_out.isChecked()
    assert scene.background.currentData() == "blur"
    assert (scene.blur.value, scene.portrait_x.value, scene.portrait_y.value) == (0.9, 0.3, -0.2)


def test_the_status_line_says_while_somebody_is_being_cut_out(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(PersonCutOut(under_way=True))
    qtbot.waitUntil(lambda: proven.status.busy.startswith("cutting the person out"))
    world.pipeline.tell(PersonCutOut(under_way=False))
    qtbot.waitUntil(lambda: proven.status.busy == "")


@pytest.mark.parametrize("setting", ["background", "cut_out"])
def test_what_is_refused_is_told_until_something_else_is_wished_for(
    window: MainWindow, world: World, qtbot: QtBot, setting: str
) -> None:
    scene = window.controls.scene
    with qtbot.waitSignal(window.session.told) as told:
        world.pipeline.tell(SettingRefused(setting, "It cannot be used."))
    assert told.args is not None
    assert told.args[0].text == "It cannot be used."
    with qtbot.waitSignal(window.session.cleared) as cleared:
        choose(scene, "colour") if setting == "background" else click(scene.cut_out)
    assert cleared.args == [setting]
