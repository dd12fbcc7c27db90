"""What is painted, pixel by pixel where it matters."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, Qt
from PyQt6.QtGui import QColor, QColorSpace, QImage, QPolygonF
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.pipeline.output.output_frame import badge_place
from app.pipeline.state import State
from app.settings import load_settings
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from app.ui.pictures import to_image, to_rgb
from app.ui.preview import Preview
from app.ui.status import Words
from app.ui.theme import DARK, apply_theme
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World, performer_view_of, plain
from tests.app.ui.hand import click, press_key


@pytest.fixture
def preview(qtbot: QtBot, qapp: QApplication) -> Preview:
    apply_theme(qapp, DARK)
    made = Preview(16 / 9)
    qtbot.addWidget(made)
    made.resize(660, 400)
    made.show()
    return made


def halves() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Red on the left, blue on the right."""
    rgb = plain(0, 320, 180)
    rgb[:, :160, 0] = 255
    rgb[:, 160:, 2] = 255
    return rgb


def colours(preview: Preview) -> tuple[QColor, QColor]:
    """At the left and at the right of the picture."""
    image, picture = preview.grab().toImage(), preview.picture_rect()
    row = round(picture.center().y())
    return (
        image.pixelColor(round(picture.left() + picture.width() / 4), row),
        image.pixelColor(round(picture.right() - picture.width() / 4), row),
    )


def test_the_picture_is_fitted_and_painted(preview: Preview) -> None:
    preview.show_picture(halves(), mirrored=False)
    picture = preview.picture_rect()
    assert picture.width() / picture.height() == pytest.approx(16 / 9)
    left, right = colours(preview)
    assert (left.red(), left.blue(), right.red(), right.blue()) == (255, 0, 0, 255)


def test_it_can_be_mirrored(preview: Preview) -> None:
    preview.show_picture(halves(), mirrored=True)
    left, right = colours(preview)
    assert (left.red(), left.blue(), right.red(), right.blue()) == (0, 255, 255, 0)


def test_it_keeps_its_own_memory(preview: Preview) -> None:
    rgb = halves()
    preview.show_picture(rgb, mirrored=False)
    rgb[:] = 0
    left, _ = colours(preview)
    assert left.red() == 255


def test_the_same_picture_again_costs_nothing(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = halves()
    preview.show_picture(rgb, mirrored=False)
    monkeypatch.setattr("app.ui.preview.to_image", lambda _: pytest.fail("converted again"))
    preview.show_picture(rgb, mirrored=False)


def test_the_border_has_the_states_colour(preview: Preview) -> None:
    for tone in ("live", "error"):
        preview.set_words(Words("STATE", tone, "a reason that is much too long for the room " * 5))
        image, picture = preview.grab().toImage(), preview.picture_rect()
        edge = image.pixelColor(round(picture.left()), round(picture.center().y()))
        assert edge.name() == DARK.tone(tone)
    assert preview.accessibleDescription().startswith("STATE. a reason")


def test_progress_is_painted(preview: Preview) -> None:
    preview.show_picture(plain(0, 320, 180), mirrored=False)
    preview.set_progress(0.5)
    image, picture = preview.grab().toImage(), preview.picture_rect()
    row = round(picture.bottom() - 4)
    assert image.pixelColor(round(picture.left() + picture.width() / 4), row).name() == DARK.accent
    assert image.pixelColor(round(picture.right() - picture.width() / 4), row).name() != DARK.accent


def test_the_badge_is_not_turned_round_in_the_mirror(preview: Preview) -> None:
    rgb = plain(60, 640, 360)
    left, top, width, height = badge_place(640, 360)
    rgb[top : top + height, left : left + width // 2] = (255, 0, 0)
    rgb[top : top + height, left + width // 2 : left + width] = (0, 0, 255)
    for badge, expected in ((True, ("red", "blue")), (False, ("blue", "red"))):
        preview.show_picture(rgb, mirrored=True, badge=badge)
        image, picture = preview.grab().toImage(), preview.picture_rect()
        scale, row = picture.width() / 640, picture.top() + (top + height / 2) * picture.width() / 640
        found = []
        for share in (0.25, 0.75):
            column = picture.left() + (640 - left - width + share * width) * scale  # at the other side of the picture
            colour = image.pixelColor(round(column), round(row))
            found.append("red" if colour.red() > colour.blue() else "blue")
        assert tuple(found) == expected


def test_a_paused_preview_stands_still_and_says_so(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.show(State.LIVE, plain(200))
    qtbot.waitUntil(lambda: window.preview.picture_size is not None)
    shown, _ = colours(window.preview)
    window.controls.pause.click()
    paused, _ = colours(window.preview)
    assert paused.lightness() < shown.lightness()
    world.pipeline.show(State.SLATE, plain(20))
    qtbot.waitUntil(lambda: window.session.state is State.SLATE)
    assert window.preview.words.state == "SLATE"  # the words go on
    assert colours(window.preview)[0] == paused
    window.controls.pause.click()
    assert colours(window.preview)[0] == QColor(20, 20, 20)


def test_no_mirror_for_the_slate(window: MainWindow, world: World, qtbot: QtBot) -> None:
    for state, expected in ((State.LIVE, (0, 255)), (State.SLATE, (255, 0))):
        world.pipeline.show(state, halves())
        qtbot.waitUntil(lambda state=state: window.session.state is state)  # type: ignore[misc]
        left, _ = colours(window.preview)
        assert (left.red(), left.blue()) == expected


def test_statistics_cover_nothing_and_move_nothing(window: MainWindow, qtbot: QtBot) -> None:
    before = window.preview.geometry()
    window.controls.statistics.click()
    assert window.statistics.isVisible()
    assert "camera" in window.statistics.text
    qtbot.wait(50)
    assert window.preview.geometry() == before
    assert not window.preview.isAncestorOf(window.statistics)
    window.controls.statistics.click()
    assert not window.statistics.isVisible()


@pytest.mark.parametrize(
    ("state", "on_air", "word"),
    [
        (State.STARTING, False, "STARTING"),
        (State.CALIBRATING, True, "CALIBRATING"),
        (State.LIVE, False, "PREVIEW"),
        (State.LIVE, True, "LIVE"),
        (State.HOLD, True, "HOLD"),
        (State.EASING, True, "HOLD"),
        (State.IDLE, True, "IDLE"),
        (State.NO_FACE, True, "NO FACE"),
        (State.NO_CAMERA, True, "NO CAMERA"),
        (State.SLATE, False, "SLATE"),
        (State.SLATE, True, "STANDBY"),
        (State.FAULT, True, "FAULT"),
    ],
)
def test_every_state_has_words(
    request: pytest.FixtureRequest, world: World, qtbot: QtBot, state: State, on_air: bool, word: str
) -> None:
    window = request.getfixturevalue("live" if on_air else "window")
    world.pipeline.show(state)
    qtbot.waitUntil(lambda: window.preview.words.state == word)
    assert window.preview.words.more or state is State.LIVE


def test_the_driver_is_shown_with_what_was_found(window: MainWindow, world: World, qtbot: QtBot) -> None:
    performer = window.performer
    world.pipeline.show_performer(performer_view_of())
    world.pipeline.show()
    qtbot.waitUntil(lambda: performer.view is not None)
    plain_picture = performer.grab().toImage()
    assert contains(plain_picture, DARK.live), "the crop box"
    window.controls.landmarks.click()
    assert performer.grab().toImage() != plain_picture
    window.controls.landmarks.click()
    window.controls.step_overlay(10)
    covered = performer.grab().toImage()
    centre = covered.rect().center()
    assert covered.pixelColor(centre).red() == 60, "the portrait covers the performer's face"


def test_a_driver_without_a_face(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.show_performer(performer_view_of(found=False))
    world.pipeline.show()
    qtbot.waitUntil(lambda: window.performer.view is not None)
    window.controls.landmarks.click()
    assert not contains(window.performer.grab().toImage(), DARK.live)


def test_a_mesh_that_does_not_move_the_avatar_is_no_find(window: MainWindow) -> None:
    """It lies where the face is guessed to be, behind a hand: the box says that the avatar waits."""
    window.performer.show_view(replace(performer_view_of(), keypoints=None))
    picture = window.performer.grab().toImage()
    assert contains(picture, DARK.warning)
    assert not contains(picture, DARK.live)


def test_what_is_hidden_costs_nothing(window: MainWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh comes with every frame: nothing of it is touched before it is painted."""
    performer, pictures, meshes = window.performer, list[int](), list[int]()

    def image(rgb: NDArray[np.uint8]) -> QImage:
        pictures.append(len(rgb))
        return to_image(rgb)

    def polygon(points: list[QPointF]) -> QPolygonF:
        meshes.append(len(points))
        return QPolygonF(points)

    monkeypatch.setattr("app.ui.performer_widget.to_image", image)
    monkeypatch.setattr("app.ui.performer_widget.QPolygonF", polygon)
    click(window.controls.performer)
    for _ in range(3):
        performer.show_view(performer_view_of())
        QApplication.processEvents()
    assert (pictures, meshes) == ([], [])
    click(window.controls.performer)
    QApplication.processEvents()
    performer.grab()
    assert (pictures, meshes) == ([48], []), "the newest picture, once, without landmarks"
    window.controls.landmarks.click()
    performer.grab()
    assert pictures == [48]
    assert set(meshes) == {468}


def test_landmarks_do_not_flicker_between_the_looks_for_the_face(window: MainWindow) -> None:
    performer, view = window.performer, performer_view_of()
    performer.set_points(True)
    performer.show_view(view)
    looked = performer.grab().toImage()
    performer.show_view(replace(view, landmarks_px=None))
    assert performer.grab().toImage() == looked
    performer.show_view(replace(view, landmarks_px=None, keypoints=None))
    assert performer.grab().toImage() != looked


def test_the_driver_grows_and_shrinks(window: MainWindow) -> None:
    small = window.performer.width()
    click(window.performer)
    assert window.performer.width() > small
    assert window.preview.rect().contains(window.performer.geometry())
    window.performer.setFocus()
    press_key(window.performer, Qt.Key.Key_Return)
    assert window.performer.width() == small


def contains(image: QImage, colour: str) -> bool:
    wanted = QColor(colour)
    rgb = to_rgb(image).reshape(-1, 3).astype(int)
    return bool((np.abs(rgb - [wanted.red(), wanted.green(), wanted.blue()]).max(axis=1) < 12).any())


def test_pictures_there_and_back() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    assert np.array_equal(to_rgb(to_image(rgb)), rgb)
    assert np.array_equal(to_rgb(to_image(rgb[:, ::-1])), rgb[:, ::-1])


def test_what_is_transparent_becomes_white() -> None:
    image = QImage(3, 2, QImage.Format.Format_ARGB32)
    image.fill(0x00112233)
    assert (to_rgb(image) == 255).all()


def test_a_pasted_pictures_colours_become_srgb() -> None:
    image = to_image(np.full((4, 4, 3), (200, 120, 90), np.uint8))
    image.setColorSpace(QColorSpace(QColorSpace.NamedColorSpace.SRgb))
    wide = image.convertedToColorSpace(QColorSpace(QColorSpace.NamedColorSpace.DisplayP3))
    assert wide.pixelColor(1, 1).red() < 195
    assert np.abs(to_rgb(wide).astype(int) - (200, 120, 90)).max() <= 1


def test_the_drivers_own_picture_can_be_hidden_and_stays_so(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot
) -> None:
    window = open_window()
    assert window.performer.isVisible()
    click(window.controls.performer)
    assert not window.performer.isVisible()
    qtbot.waitUntil(options.settings_path.exists)
    kept, _ = load_settings(options.settings_path)
    assert not kept.window.show_driver
    again = open_window(kept)
    assert not again.performer.isVisible()
    assert not again.controls.performer.isChecked()
    click(again.controls.performer)
    assert again.performer.isVisible()


@pytest.mark.parametrize(
    ("state", "fading", "mirrored"),
    [(State.LIVE, False, True), (State.LIVE, True, False), (State.NO_FACE, True, False), (State.SLATE, False, False)],
)
def test_words_are_never_turned_round(
    window: MainWindow, world: World, qtbot: QtBot, state: State, fading: bool, mirrored: bool
) -> None:
    assert window.session.settings.window.mirror_preview
    world.pipeline.show(state, halves(), fading=fading)
    qtbot.waitUntil(lambda: colours(window.preview)[0].red() + colours(window.preview)[0].blue() >= 250)
    left, _ = colours(window.preview)
    assert (left.blue() > left.red()) == mirrored
