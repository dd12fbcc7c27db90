"""Choosing, adding, cropping and removing portraits."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Never, cast

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image
from PyQt6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PyQt6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QGuiApplication, QImage, QShortcut
from PyQt6.QtWidgets import QApplication, QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from app.errors import AppError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.portraits import Portrait, PortraitEntry, PortraitStore
from app.settings import AppSettings
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.parts import WindowOptions
from app.ui.portrait_desk import PortraitDesk
from app.ui.worker import Worker
from mcnet.media.crop import SquareBox
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import FakeStore, World, plain
from tests.app.ui.hand import click, drag, press, press_key


def picture(folder: Path, name: str = "me") -> Path:
    path = folder / f"{name}.png"
    image = QImage(90, 60, QImage.Format.Format_RGB32)
    image.fill(0xFF204060)
    assert image.save(str(path))
    return path


def clipboard_with(mime: QMimeData) -> None:
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    clipboard.setMimeData(mime)


def drop(window: QWidget, mime: QMimeData) -> bool:
    actions, button, no_modifier = (
        Qt.DropAction.CopyAction,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    enter = QDragEnterEvent(QPoint(50, 50), actions, mime, button, no_modifier)
    QApplication.sendEvent(window, enter)
    event = QDropEvent(QPointF(50, 50), actions, mime, button, no_modifier)
    QApplication.sendEvent(window, event)
    return enter.isAccepted() and event.isAccepted()


def files(*paths: Path) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return mime


def wait_for_editor(window: MainWindow, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: window.pages.currentWidget() is window.crop_editor)


def test_the_gallery_shows_what_is_there(window: MainWindow) -> None:
    texts = [window.gallery.list.item(row).text() for row in range(3)]  # type: ignore[union-attr]
    assert texts == ["Fake 1", "Fake 2", "Fake 3"]
    assert window.gallery.list.currentRow() == 0
    assert not window.gallery.remove_button.isVisible()
    assert "Score 70 of 100: the head is tilted" in window.gallery.score


def test_a_click_chooses(window: MainWindow, world: World, qtbot: QtBot) -> None:
    gallery = window.gallery.list
    viewport, item = gallery.viewport(), gallery.item(2)
    assert viewport is not None
    click(viewport, gallery.visualItemRect(item).center())
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_3")
    assert window.session.settings.portrait == "fake_3"
    assert "Score 72" in window.gallery.score


def test_of_many_that_are_chosen_in_turn_the_last_is_read(
    window: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture takes some tenths of a second: the one that is meant does not wait for those that were passed by."""
    begin, read = threading.Event(), []
    prepare = world.store.prepare

    def slowly(entry: PortraitEntry) -> Portrait:
        begin.wait(10)
        read.append(entry.key)
        return prepare(entry)

    monkeypatch.setattr(world.store, "prepare", slowly)
    for _ in range(20):
        window.session.desk.step(1)
    begin.set()
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_3")
    qtbot.waitUntil(lambda: not window.session.busy)
    assert len(read) <= 2
    assert window.session.desk.current == "fake_3"


def test_the_keyboard_chooses(window: MainWindow, world: World, qtbot: QtBot) -> None:
    gallery = window.gallery.list
    gallery.setFocus()
    press_key(gallery, Qt.Key.Key_Right)
    press_key(gallery, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_2")


def test_a_portrait_that_cannot_be_read(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.store.fail = AppError("the file is gone: choose another")
    proven.session.desk.choose("fake_2")
    qtbot.waitUntil(lambda: proven.messages.text == "the file is gone: choose another")
    assert proven.session.desk.current == "fake_1"


def test_adding_by_dialog_asks_for_permission(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    click(window.gallery.add_button)
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    dialog.filesSelected.emit([str(picture(tmp_path))])
    dialog.close()
    wait_for_editor(window, qtbot)
    editor = window.crop_editor
    assert editor.allowed.isVisible()
    assert not editor.allowed.isChecked()
    assert not editor.accept_button.isEnabled()
    click(editor.allowed, QPoint(8, editor.allowed.height() // 2))
    assert editor.accept_button.isEnabled()
    click(editor.accept_button)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "own_me")
    assert window.pages.currentWidget() is window.preview
    assert window.session.settings.portrait == "own_me"
    assert window.gallery.list.count() == 4
    assert window.gallery.remove_button.isVisible()


def test_a_new_picture_is_not_in_the_gallery_before_it_is_accepted(
    window: MainWindow, store: FakeStore, qtbot: QtBot, tmp_path: Path
) -> None:
    window.session.desk.add_files([picture(tmp_path)])
    wait_for_editor(window, qtbot)
    assert store.own == []
    assert window.gallery.list.count() == 3
    press_key(window, Qt.Key.Key_Escape)
    assert window.pages.currentWidget() is window.preview
    qtbot.waitUntil(lambda: not window.session.busy)
    assert store.own == []
    assert window.gallery.list.count() == 3
    assert window.session.desk.current == "fake_1"


def test_of_a_whole_folder_of_pictures_only_the_next_are_read(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photographs take up to 72 MB each; and another portrait is chosen at once, however many were added."""
    looked_at: list[Path] = []
    look = world.store.look

    def look_at(path: Path) -> Portrait:
        looked_at.append(path)
        return look(path)

    monkeypatch.setattr(world.store, "look", look_at)
    desk, editor = window.session.desk, window.crop_editor
    paths = [picture(tmp_path, f"photo {number}") for number in range(20)]
    desk.add_files(paths)
    qtbot.waitUntil(lambda: editor.title == "Crop of photo 0 (1 of 20)" and not window.session.busy)
    assert looked_at == paths[:4]
    desk.choose("fake_2")
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_2")
    for number in range(1, 20):
        desk.cancel_crop()
        qtbot.waitUntil(lambda number=number: editor.title == f"Crop of photo {number} ({number + 1} of 20)")  # type: ignore[misc]
    desk.cancel_crop()
    assert looked_at == paths
    assert desk.cropping is None


def held_back(world: World, monkeypatch: pytest.MonkeyPatch, stem: str) -> tuple[threading.Event, threading.Event]:
    """Have the store wait in the middle of looking at one file: until the first event, and since the second one."""
    go_on, reading = threading.Event(), threading.Event()
    look = world.store.look

    def look_at(path: Path) -> Portrait:
        if path.stem == stem:
            reading.set()
            assert go_on.wait(60)
        return look(path)

    monkeypatch.setattr(world.store, "look", look_at)
    return go_on, reading


def test_all_that_wait_can_be_given_up(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole folder may have been meant for another program; one of its pictures is being read at that moment."""
    go_on, reading = held_back(world, monkeypatch, "photo 1")
    desk, editor = window.session.desk, window.crop_editor
    desk.add_files([picture(tmp_path, f"photo {number}") for number in range(20)])
    qtbot.waitUntil(lambda: editor.title == "Crop of photo 0 (1 of 20)" and reading.is_set())
    click(editor.cancel_all_button)
    go_on.set()
    qtbot.waitUntil(lambda: not window.session.busy)
    assert desk.cropping is None
    assert desk.turn == (0, 0)
    desk.add_files([tmp_path / "photo 7.png"])
    qtbot.waitUntil(lambda: editor.title == "Crop of photo 7")
    assert not editor.cancel_all_button.isVisible()


def test_a_portrait_that_was_accepted_is_kept_though_the_window_closes(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photograph without a face takes seconds to look at; what was accepted before it waits for that."""
    go_on, reading = held_back(world, monkeypatch, "you")
    editor = window.crop_editor
    window.session.desk.add_files([picture(tmp_path, name) for name in ("me", "you")])
    qtbot.waitUntil(lambda: editor.title == "Crop of me (1 of 2)" and reading.is_set())
    editor.allowed.setChecked(True)
    click(editor.accept_button)
    window.close()
    assert not window.ended
    assert world.store.own == ["own_me"]
    go_on.set()
    qtbot.waitUntil(lambda: not any(one.name.startswith("portrait worker") for one in threading.enumerate()))


def test_several_pictures_are_cropped_one_after_the_other(
    window: MainWindow, store: FakeStore, qtbot: QtBot, tmp_path: Path
) -> None:
    editor, desk = window.crop_editor, window.session.desk
    names = ["me", "you", "us"]
    desk.add_files([picture(tmp_path, name) for name in [*names, "me"]] + [tmp_path / "gone.png"])
    qtbot.waitUntil(lambda: desk.turn == (1, 3))
    assert "cannot read" in window.messages.text
    titles = []
    for name in names:
        titles.append(editor.title)
        assert not editor.accept_button.isEnabled()
        if name == "you":
            press_key(editor.canvas, Qt.Key.Key_Left)  # its scoring must not reach the next picture
            click(editor.cancel_button)
        else:
            editor.allowed.setChecked(True)
            click(editor.accept_button)
    assert titles == ["Crop of me (1 of 3)", "Crop of you (2 of 3)", "Crop of us (3 of 3)"]
    assert window.pages.currentWidget() is window.preview
    qtbot.waitUntil(lambda: store.own == ["own_me", "own_us"])
    qtbot.waitUntil(lambda: desk.current == "own_us")
    assert store.kept[-1].box is None
    assert desk.turn == (0, 0)


def test_a_picture_that_is_there_already_is_only_cropped(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot, tmp_path: Path
) -> None:
    store.own_one("me")
    window = open_window()
    window.session.desk.add_files([picture(tmp_path)])
    wait_for_editor(window, qtbot)
    assert not window.crop_editor.allowed.isVisible()
    assert window.crop_editor.title == "Crop of me"
    press_key(window, Qt.Key.Key_Escape)
    assert store.own == ["own_me"]


def test_a_crop_that_is_only_looked_at_gives_way_and_a_new_picture_waits(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    desk, editor = window.session.desk, window.crop_editor
    desk.crop("fake_1")
    qtbot.waitUntil(lambda: editor.title == "Crop of Fake 1")
    desk.crop("fake_2")
    qtbot.waitUntil(lambda: editor.title == "Crop of Fake 2")
    desk.add_files([picture(tmp_path)])
    qtbot.waitUntil(lambda: editor.title == "Crop of Fake 2 (1 of 2)" and not window.session.busy)
    desk.cancel_crop()
    assert editor.title == "Crop of me (2 of 2)"
    assert editor.allowed.isVisible()


def test_a_picture_that_cannot_be_added(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    window.session.desk.add_files([tmp_path / "gone.png"])
    qtbot.waitUntil(lambda: "cannot read" in window.messages.text)


def test_dropping_pictures_and_videos(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    assert drop(window, files(picture(tmp_path)))
    wait_for_editor(window, qtbot)
    assert drop(window, files(tmp_path / "clip.mp4"))
    assert world.pipeline.camera == CameraSpec("file", path=tmp_path / "clip.mp4")


def test_what_is_dropped_is_never_moved(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    """With Shift a file manager proposes to move the file, and deletes its own where that is accepted."""
    actions, button = Qt.DropAction.CopyAction | Qt.DropAction.MoveAction, Qt.MouseButton.LeftButton
    mime, shift = files(picture(tmp_path)), Qt.KeyboardModifier.ShiftModifier
    enter = QDragEnterEvent(QPoint(50, 50), actions, mime, button, shift)
    event = QDropEvent(QPointF(50, 50), actions, mime, button, shift)
    assert enter.proposedAction() is event.proposedAction() is Qt.DropAction.MoveAction
    for one in (enter, event):
        QApplication.sendEvent(window, one)
        assert one.isAccepted()
        assert one.dropAction() is Qt.DropAction.CopyAction
    wait_for_editor(window, qtbot)


@pytest.mark.parametrize("name", ["wave.safetensors", "clip.WMV", "clip.m2ts", "clip.3gp"])
def test_dropping_motion_and_videos_of_all_kinds(window: MainWindow, world: World, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert drop(window, files(tmp_path / name))
    assert world.pipeline.camera is not None
    assert world.pipeline.camera.path == tmp_path / name


def test_dropping_a_folder_adds_its_pictures(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    folder = tmp_path / "us.mp4"  # whatever it is called
    folder.mkdir()
    assert drop(window, files(folder))
    qtbot.waitUntil(lambda: f"no picture in the folder {folder}" in window.messages.text)
    for name in ("photo 10", "photo 2"):
        picture(folder, name)
    assert drop(window, files(folder))
    qtbot.waitUntil(lambda: window.crop_editor.title == "Crop of photo 2 (1 of 2)")


def test_a_folder_that_cannot_be_looked_into_is_told(
    window: MainWindow, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> Never:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert drop(window, files(tmp_path))
    qtbot.waitUntil(lambda: f"cannot use the folder {tmp_path}" in window.messages.text)


def test_a_file_is_dropped_on_a_field_as_anywhere_else(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    """Many a file manager offers a file's name as text, too: the call must not read it on the slate."""
    mime = files(picture(tmp_path))
    mime.setText(str(tmp_path / "me.png"))
    field = window.controls.slate_text
    before = field.text()
    assert drop(field, mime)
    wait_for_editor(window, qtbot)
    assert field.text() == before


def test_the_address_of_a_picture_is_told_from_nothing(window: MainWindow) -> None:
    linked, copied = QMimeData(), QMimeData()
    linked.setUrls([QUrl("https://example.org/me.jpg")])
    copied.setText(" https://example.org/me.jpg\n")
    assert not drop(window, linked)
    assert "only the address of a picture" in window.messages.text
    for mime in (linked, copied):
        window.messages.dismiss()
        clipboard_with(mime)
        click(window.gallery.paste_button)
        assert "only the address of a picture" in window.messages.text


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JPEG", "TIFF", "GIF"])
def test_what_is_dropped_or_pasted_is_told_by_its_content(
    window: MainWindow, qtbot: QtBot, tmp_path: Path, kind: str
) -> None:
    pillow_heif.register_heif_opener()
    Image.new("RGB", (90, 60), (32, 64, 96)).save(tmp_path / "from a phone", kind)
    assert drop(window, files(tmp_path / "from a phone"))
    wait_for_editor(window, qtbot)
    window.session.desk.cancel_crop()
    clipboard_with(files(tmp_path / "from a phone"))
    click(window.gallery.paste_button)
    wait_for_editor(window, qtbot)


def test_a_damaged_picture_that_is_dropped_is_taken_for_one_so_that_it_is_told(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "damaged.jfif").write_bytes(b"damaged")
    assert drop(window, files(tmp_path / "damaged.jfif"))
    wait_for_editor(window, qtbot)  # whose stand-in reads anything


def test_the_file_dialogs_show_every_kind_of_picture_and_all_files(window: MainWindow, qtbot: QtBot) -> None:
    for ask in (window.gallery.add_button.click, window.controls.scene.picture_wanted.emit):
        ask()
        dialog = next(dialog for dialog in window.findChildren(QFileDialog) if dialog.isVisible())
        pictures, everything = dialog.nameFilters()
        assert {"*.heic", "*.avif", "*.jfif", "*.tif", "*.jpg", "*.png"} <= {*pictures[10:-1].split()}
        assert everything == "All files (*)"
        dialog.reject()
        qtbot.waitUntil(lambda: not [dialog for dialog in window.findChildren(QFileDialog) if dialog.isVisible()])


def test_dropping_something_else(window: MainWindow, tmp_path: Path) -> None:
    drop(window, files(tmp_path / "letter.pdf"))
    assert "Drop a picture" in window.messages.text


def test_what_cannot_be_looked_at_is_told_when_it_is_dropped(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    """As in a folder of another user's, which a name that is too long stands in for: it is told the same way."""
    assert drop(window, files(tmp_path / f"{300 * 'a'}.png"))
    qtbot.waitUntil(lambda: "cannot read" in window.messages.text)
    window.messages.dismiss()
    drop(window, files(tmp_path / (300 * "a")))
    assert "Drop a picture" in window.messages.text


def test_a_picture_from_a_browser_that_is_damaged_is_none(window: MainWindow) -> None:
    mime = QMimeData()
    mime.setImageData(QImage())
    assert not drop(window, mime)
    assert "Drop a picture" in window.messages.text


@pytest.mark.parametrize("name", ["gone.png", 300 * "a"])
def test_a_picture_to_start_with_that_cannot_be_had_leaves_a_portrait(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot, tmp_path: Path, name: str
) -> None:
    window = open_window(options=replace(options, portrait=str(tmp_path / name)))
    qtbot.waitUntil(lambda: window.session.portrait is not None)
    assert window.session.desk.current == "fake_1"
    assert ("cannot read" if name == 300 * "a" else "not in the gallery any more") in window.messages.text


def test_a_picture_to_start_with_that_is_not_taken_leaves_a_portrait(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot, tmp_path: Path
) -> None:
    window = open_window(options=replace(options, portrait=str(picture(tmp_path))))
    wait_for_editor(window, qtbot)
    assert window.session.desk.current == ""
    press_key(window, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: window.session.portrait is not None)
    assert window.session.desk.current == "fake_1"


def test_a_list_that_cannot_be_read_leaves_the_bundled_portraits(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries() -> Never:
        raise AppError("cannot read the list of portraits: check its permissions")

    monkeypatch.setattr(store, "entries", entries)
    monkeypatch.setattr("app.pipeline.portraits.bundled_portraits", lambda: store.kept)
    window = open_window()
    qtbot.waitUntil(lambda: window.session.portrait is not None)
    assert window.session.desk.current == "fake_1"
    assert window.messages.text == "cannot read the list of portraits: check its permissions"


def test_a_large_gallery_keeps_no_portrait_waiting(
    store: FakeStore, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first one nor one that is chosen while the small pictures are read."""
    own, prepare, read = [store.own_one(str(number)).key for number in range(60)], store.prepare, list[str]()

    def read_small(_entry: PortraitEntry, size_px: int) -> NDArray[np.uint8]:
        read.append("small")
        time.sleep(0.1)
        return plain(width=size_px, height=size_px)

    def read_whole(entry: PortraitEntry) -> Portrait:
        read.append(entry.key)
        return prepare(entry)

    monkeypatch.setattr(store, "thumbnail", read_small)
    monkeypatch.setattr(store, "prepare", read_whole)
    worker = Worker("portrait worker")
    desk = PortraitDesk(worker, lambda: cast(PortraitStore, store))
    desk.open(own[7])
    qtbot.waitUntil(lambda: read.count("small") > 0)
    desk.choose(own[9])
    qtbot.waitUntil(lambda: len(desk.thumbnails) == len(own) + 3)
    assert worker.stop()
    assert read[0] == own[7]
    assert read.index(own[9]) < 10
    assert read.count("small") == len(own) + 3


def test_pasting_a_picture(window: MainWindow, qtbot: QtBot) -> None:
    mime = QMimeData()
    image = QImage(50, 40, QImage.Format.Format_ARGB32)
    image.fill(0x00000000)
    mime.setImageData(image)
    clipboard_with(mime)
    press_key(window, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    wait_for_editor(window, qtbot)
    cropping = window.session.desk.cropping
    assert cropping is not None
    assert cropping.portrait.entry.key == "own_pasted"


def test_pasting_a_file(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    clipboard_with(files(picture(tmp_path)))
    click(window.gallery.paste_button)
    wait_for_editor(window, qtbot)


def test_pasting_nothing(window: MainWindow) -> None:
    clipboard_with(QMimeData())
    click(window.gallery.paste_button)
    assert "no picture in the clipboard" in window.messages.text


def test_dropping_a_picture_from_a_browser(window: MainWindow, qtbot: QtBot) -> None:
    mime = QMimeData()
    image = QImage(50, 40, QImage.Format.Format_RGB32)
    image.fill(0xFF808080)
    mime.setImageData(image)
    assert drop(window, mime)
    wait_for_editor(window, qtbot)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (Qt.Key.Key_Left, (-0.6, 0, 0)),
        (Qt.Key.Key_Right, (0.6, 0, 0)),
        (Qt.Key.Key_Up, (0, -0.6, 0)),
        (Qt.Key.Key_Down, (0, 0.6, 0)),
        (Qt.Key.Key_Plus, (0, 0, 1.2)),
        (Qt.Key.Key_Minus, (0, 0, -1.2)),
    ],
)
def test_cropping_by_keys(
    window: MainWindow, world: World, qtbot: QtBot, key: Qt.Key, change: tuple[float, float, float]
) -> None:
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    editor = window.crop_editor
    assert not editor.allowed.isVisible()
    assert editor.accept_button.isEnabled()
    press_key(editor.canvas, key)
    click(editor.accept_button)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.box is not None)
    assert world.pipeline.portrait is not None
    box = world.pipeline.portrait.box
    expected = (50 + change[0], 40 + change[1], 60 + change[2])
    assert (box.center_x, box.center_y, box.side) == pytest.approx(expected)


def test_turning_by_keys_buttons_and_slider(window: MainWindow, world: World, qtbot: QtBot) -> None:
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    editor, canvas = window.crop_editor, window.crop_editor.canvas
    assert canvas.box is not None
    for _ in range(10):
        press_key(canvas, Qt.Key.Key_Left)
    assert (canvas.box.center_x, canvas.box.center_y) == pytest.approx((44, 40))
    press_key(canvas, Qt.Key.Key_PageDown)  # the picture is 100 x 80
    assert canvas.angle_deg == 90
    assert (canvas.box.center_x, canvas.box.center_y) == pytest.approx((80 - 40, 44))
    click(editor.left_button)
    click(editor.left_button)
    assert canvas.angle_deg == 270
    assert (canvas.box.center_x, canvas.box.center_y) == pytest.approx((40, 100 - 44))
    click(editor.right_button)
    assert (canvas.box.center_x, canvas.box.center_y) == pytest.approx((44, 40))
    for _ in range(3):
        press_key(canvas, Qt.Key.Key_Period)
    press_key(canvas, Qt.Key.Key_Comma)
    assert canvas.angle_deg == 1
    assert editor.straighten.value == 1
    click(editor.right_button)
    assert editor.straighten.value == 1  # beyond the quarter
    editor.straighten.slider.setValue(editor.straighten.slider.minimum())
    assert canvas.angle_deg == 45
    editor.straighten.slider.setValue(editor.straighten.slider.maximum())
    assert canvas.angle_deg == pytest.approx(135, abs=0.01)
    assert editor.straighten.value == 45
    editor.straighten.slider.setValue(editor.straighten.slider.maximum() // 2 + 4)
    assert canvas.angle_deg == pytest.approx(92)
    click(editor.accept_button)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.angle_deg != 0)
    assert world.pipeline.portrait is not None
    assert world.pipeline.portrait.entry.angle_deg == pytest.approx(92)
    assert world.pipeline.portrait.entry.box is not None
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    assert canvas.angle_deg == pytest.approx(92)
    click(editor.automatic_button)
    qtbot.waitUntil(lambda: canvas.box is not None and canvas.box.side == 60)
    assert canvas.angle_deg == pytest.approx(92)


def test_cropping_by_mouse(window: MainWindow, qtbot: QtBot) -> None:
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    canvas = window.crop_editor.canvas
    square = canvas.square_rect()
    scale = square.width() / 60
    centre = square.center().toPoint()
    drag(canvas, centre, centre + QPoint(round(5 * scale), 0))
    assert canvas.box is not None
    assert canvas.box.center_x == pytest.approx(55, abs=0.5)
    corner = canvas.square_rect().bottomRight().toPoint()
    drag(canvas, corner, corner + QPoint(round(5 * scale), round(5 * scale)))
    assert canvas.box.side == pytest.approx(70, abs=1)
    drag(canvas, canvas.square_rect().center().toPoint(), QPoint(-5000, -5000))
    assert (canvas.box.center_x, canvas.box.center_y) == (0, 0)


def test_the_crop_is_scored_while_it_is_adjusted(window: MainWindow, qtbot: QtBot) -> None:
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    press_key(window.crop_editor.canvas, Qt.Key.Key_Left)

    def chosen() -> bool:
        cropping = window.session.desk.cropping
        return cropping is not None and cropping.portrait.entry.box is not None

    qtbot.waitUntil(chosen)
    click(window.crop_editor.automatic_button)
    qtbot.waitUntil(lambda: not chosen())
    assert window.crop_editor.canvas.box is not None
    assert window.crop_editor.canvas.box.center_x == 50


def test_an_automatic_crop_stays_automatic(window: MainWindow, world: World, qtbot: QtBot) -> None:
    before = world.pipeline.portrait
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    click(window.crop_editor.accept_button)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not before)
    assert world.pipeline.portrait is not None
    assert world.pipeline.portrait.entry.box is None


def test_the_crop_of_a_bundled_portrait_lasts_while_the_window_is_open(
    window: MainWindow, world: World, qtbot: QtBot
) -> None:
    def box() -> SquareBox | None:
        assert world.pipeline.portrait is not None
        return world.pipeline.portrait.entry.box

    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    press_key(window.crop_editor.canvas, Qt.Key.Key_Left)
    click(window.crop_editor.accept_button)
    qtbot.waitUntil(lambda: box() is not None)
    window.session.desk.choose("fake_2")
    qtbot.waitUntil(lambda: box() is None)
    window.session.desk.choose("fake_1")
    qtbot.waitUntil(lambda: box() is not None)


def test_removing(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    window.session.desk.add_files([picture(tmp_path)])
    wait_for_editor(window, qtbot)
    window.crop_editor.allowed.setChecked(True)
    click(window.crop_editor.accept_button)
    qtbot.waitUntil(lambda: window.session.desk.current == "own_me")
    click(window.gallery.remove_button)
    qtbot.waitUntil(lambda: window.gallery.list.count() == 3)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.bundled)


def test_removing_can_be_undone(window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    window.session.desk.add_files([picture(tmp_path)])
    wait_for_editor(window, qtbot)
    window.crop_editor.allowed.setChecked(True)
    press_key(window.crop_editor.canvas, Qt.Key.Key_Left)
    click(window.crop_editor.accept_button)
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "own_me")
    box = world.store.kept[-1].box
    assert box is not None
    window.gallery.list.setFocus()
    press_key(window.gallery.list, Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: len(world.store.kept) == 3)
    qtbot.waitUntil(lambda: window.messages.text == "me was taken out of the gallery.")
    window.session.told.emit(Message("saved", "Saved: a picture", tone="info"))
    window.messages.dismiss()
    click(window.messages.action_button)
    qtbot.waitUntil(lambda: world.store.kept[-1].box == box)
    qtbot.waitUntil(lambda: window.session.desk.current == "own_me")


def test_delete_removes_what_is_highlighted(open_window: OpenWindow, store: FakeStore, qtbot: QtBot) -> None:
    store.own_one("used")
    store.own_one("highlighted")
    window = open_window(AppSettings(portrait="own_used"))
    gallery, desk = window.gallery.list, window.session.desk
    qtbot.waitUntil(lambda: desk.current == "own_used" and not window.session.busy)
    assert gallery.currentRow() == 3
    gallery.setFocus()
    press_key(gallery, Qt.Key.Key_Right)
    desk.settle("own_used")  # news of the one in use do not move the highlight
    assert gallery.currentRow() == 4
    press_key(gallery, Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: store.own == ["own_used"])
    qtbot.waitUntil(lambda: gallery.count() == 4)
    assert (desk.current, gallery.currentRow()) == ("own_used", 3)
    click(window.messages.action_button)
    qtbot.waitUntil(lambda: store.own == ["own_used", "own_highlighted"])
    qtbot.waitUntil(lambda: not window.session.busy)
    assert desk.current == "own_used"  # what was not in use is not put to use by an Undo


def test_after_one_that_is_removed_the_next_is_highlighted_and_not_the_one_in_use(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot
) -> None:
    """Whoever presses Delete a few times would lose the avatar of the call."""
    own = [store.own_one(str(number)).key for number in range(4)]
    window = open_window(AppSettings(portrait=own[3]))
    gallery = window.gallery.list
    assert [shortcut.autoRepeat() for shortcut in gallery.findChildren(QShortcut)] == [False]
    gallery.setFocus()
    gallery.setCurrentRow(3)
    for left in (own[1:], own[2:]):
        press_key(gallery, Qt.Key.Key_Delete)
        qtbot.waitUntil(lambda left=left: store.own == left and not window.session.busy)  # type: ignore[misc]
        assert gallery.currentRow() == 3
    assert window.session.desk.current == own[3]
    window.session.desk.choose(own[2])
    press_key(gallery, Qt.Key.Key_Right)
    press_key(gallery, Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: store.own == [own[2]] and not window.session.busy)
    assert gallery.currentRow() == 3, "behind the last one there is none"


def test_a_portrait_that_is_renamed_while_it_is_cropped_keeps_its_new_name(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot
) -> None:
    own = store.own_one("Old")
    window = open_window(AppSettings(portrait=own.key))
    desk, editor = window.session.desk, window.crop_editor
    qtbot.waitUntil(lambda: desk.name_of(own.key) == "Old")
    desk.crop(own.key)
    qtbot.waitUntil(lambda: editor.title == "Crop of Old")
    desk.rename(own.key, "Anna")
    qtbot.waitUntil(lambda: editor.title == "Crop of Anna")
    desk.score_crop(SquareBox(10.0, 10.0, 40.0), 0.0)
    qtbot.waitUntil(lambda: desk.cropping is not None and desk.cropping.portrait.entry.box is not None)
    assert editor.title == "Crop of Anna"
    chosen: list[Portrait] = []
    desk.chosen.connect(chosen.append)
    editor.accept_button.click()
    qtbot.waitUntil(lambda: bool(chosen))
    assert (chosen[0].entry.name, store.kept[-1].name, desk.name_of(own.key)) == ("Anna", "Anna", "Anna")
    assert store.kept[-1].box is not None
    store.rename(own, "Beth")  # another window does
    desk.remove(own.key)
    qtbot.waitUntil(lambda: window.messages.text == "Beth was taken out of the gallery.")
    window.messages.action_button.click()
    qtbot.waitUntil(lambda: desk.name_of(own.key) == "Beth")


def test_a_damaged_list_of_portraits_is_told(open_window: OpenWindow, store: FakeStore, qtbot: QtBot) -> None:
    own = store.own_one("a")
    store.complaint = "Not all of the list of portraits could be read."
    window = open_window()
    qtbot.waitUntil(lambda: window.messages.text == "Not all of the list of portraits could be read.")
    store.complaint = "And again."
    window.session.desk.rename(own.key, "b")
    qtbot.waitUntil(lambda: window.messages.text == "And again.")


def test_a_long_gallery_stays_where_it_was_scrolled_to(open_window: OpenWindow, store: FakeStore, qtbot: QtBot) -> None:
    own = [store.own_one(str(number)).key for number in range(200)]
    window = open_window()
    gallery, desk = window.gallery.list, window.session.desk
    bar = gallery.verticalScrollBar()
    assert bar is not None
    qtbot.waitUntil(lambda: bar.maximum() > 2000)
    bar.setValue(1500)
    desk.remove(own[199])
    qtbot.waitUntil(lambda: len(desk.entries) == 202)
    desk.rename(own[7], "seven")
    qtbot.waitUntil(lambda: gallery.item(10).text() == "seven")  # type: ignore[union-attr]
    window.messages.action_button.click()
    qtbot.waitUntil(lambda: len(desk.entries) == 203 and not window.session.busy)
    assert [str(item.data(Qt.ItemDataRole.UserRole)) for item in map(gallery.item, range(gallery.count())) if item] == [
        entry.key for entry in desk.entries
    ]
    assert bar.value() == 1500


def test_two_removed_portraits_can_both_be_put_back_until_the_window_closes(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot
) -> None:
    for name in ("a", "b", "c"):
        store.own_one(name)
    window = open_window()
    for key in ("own_a", "own_b", "own_c"):
        window.session.desk.remove(key)
    qtbot.waitUntil(lambda: len(window.messages.messages) == 3)
    for _ in range(2):
        click(window.messages.action_button)
    qtbot.waitUntil(lambda: store.own == ["own_c", "own_b"])
    assert [entry.key for entry in store.aside] == ["own_a"]
    window.close()
    assert store.aside == []


def test_a_portrait_that_cannot_be_read_can_be_removed(open_window: OpenWindow, store: FakeStore, qtbot: QtBot) -> None:
    store.own_one("damaged")
    store.unreadable.add("own_damaged")
    window = open_window()
    window.session.desk.settle("fake_1")
    window.session.desk.choose("own_damaged")
    qtbot.waitUntil(lambda: window.messages.text == "cannot read damaged")
    assert window.session.desk.current == "fake_1"
    assert window.messages.action_button.text() == "Remove it"
    click(window.messages.action_button)
    qtbot.waitUntil(lambda: store.own == [])


def test_a_kept_portrait_that_is_damaged_does_not_stop_the_start(
    open_window: OpenWindow, world: World, qtbot: QtBot
) -> None:
    world.store.own_one("damaged")
    world.store.unreadable.add("own_damaged")
    window = open_window(AppSettings(portrait="own_damaged"))
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None)
    assert world.pipeline.portrait is not None
    assert world.pipeline.portrait.entry.key == window.session.desk.current == "fake_1"
    assert window.messages.text == "cannot read damaged"
    click(window.messages.action_button)
    qtbot.waitUntil(lambda: world.store.own == [])
    assert window.session.desk.current == "fake_1"


def test_where_no_portrait_can_be_used_that_is_said(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    world.store.fail = AppError("the disk is gone")
    window = open_window()
    qtbot.waitUntil(lambda: window.session.desk.exhausted)
    assert window.session.chain.portrait.failed
    assert window.preview.words.more == "no portrait can be used: add another one"
    world.store.fail = None
    window.session.desk.choose("fake_2")
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.session.chain.portrait.done)


def test_a_crop_without_a_face_is_refused_with_the_reason(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.store.faceless = 60.5
    before = world.pipeline.portrait
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    editor = window.crop_editor
    press_key(editor.canvas, Qt.Key.Key_Minus)
    qtbot.waitUntil(lambda: not editor.accept_button.isEnabled())
    assert "no face in this square of Fake 1" in editor.accept_button.toolTip()
    assert world.pipeline.portrait is before
    click(editor.automatic_button)
    qtbot.waitUntil(editor.accept_button.isEnabled)


def test_a_new_crop_that_is_accepted_before_it_was_looked_at_comes_back_unticked(
    window: MainWindow, world: World, qtbot: QtBot, tmp_path: Path
) -> None:
    world.store.faceless = 60.5
    window.session.desk.add_files([picture(tmp_path)])
    wait_for_editor(window, qtbot)
    editor = window.crop_editor
    click(editor.allowed)
    press_key(editor.canvas, Qt.Key.Key_Minus)
    click(editor.accept_button)
    qtbot.waitUntil(lambda: "no face in this square" in window.messages.text)
    wait_for_editor(window, qtbot)
    assert not editor.allowed.isChecked()
    assert world.store.own == []
    click(editor.automatic_button)
    qtbot.waitUntil(lambda: window.session.desk.cropping is not None and editor.canvas.box is not None)
    click(editor.allowed)
    qtbot.waitUntil(editor.accept_button.isEnabled)
    click(editor.accept_button)
    qtbot.waitUntil(lambda: len(world.store.own) == 1)


def test_a_bundled_portrait_cannot_be_removed(window: MainWindow, world: World) -> None:
    window.gallery.list.setFocus()
    press_key(window.gallery.list, Qt.Key.Key_Delete)
    assert not window.session.busy
    assert len(world.store.kept) == 3


def test_dragging_says_what_a_drop_does(window: MainWindow, tmp_path: Path) -> None:
    mime = files(tmp_path / "me.png")
    actions, button, no_modifier = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    before = window.preview.words
    QApplication.sendEvent(window, QDragEnterEvent(QPoint(50, 50), actions, mime, button, no_modifier))
    assert window.preview.words.state == "DROP"
    QApplication.sendEvent(window, QDragLeaveEvent())
    assert window.preview.words == before


def test_the_panic_key_works_while_cropping(window: MainWindow, world: World, qtbot: QtBot) -> None:
    click(window.gallery.crop_button)
    wait_for_editor(window, qtbot)
    press_key(window.crop_editor.canvas, Qt.Key.Key_0)
    assert world.pipeline.slated()
    assert window.action_bar.slate_button.isVisible()


def test_a_kept_portrait_that_is_gone(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    window = open_window(AppSettings(portrait="own_lost"))
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None)
    assert window.session.desk.current == "fake_1"
    assert "not in the gallery any more" in window.messages.text


def test_a_picture_on_the_command_line(open_window: OpenWindow, qtbot: QtBot, tmp_path: Path) -> None:
    options = WindowOptions(settings_path=tmp_path / "s.toml")
    window = open_window(AppSettings(), replace(options, portrait=str(picture(tmp_path))))
    wait_for_editor(window, qtbot)


def test_a_portrait_of_ones_own_is_renamed(open_window: OpenWindow, store: FakeStore, qtbot: QtBot) -> None:
    store.own_one("me")
    window = open_window(AppSettings(portrait="own_me"))
    gallery = window.gallery
    qtbot.waitUntil(lambda: gallery.name == "me" and not window.session.busy)
    click(gallery.rename_button)
    assert gallery.name_field.selectedText() == "me"
    press(gallery.name_field, "Dad 1")  # letters and digits are no commands here
    press_key(gallery.name_field, Qt.Key.Key_Return)
    assert not gallery.renaming
    qtbot.waitUntil(lambda: gallery.name == "Dad 1")
    assert store.kept[-1].name == "Dad 1"
    assert window.session.desk.current == "own_me"


def test_renaming_is_left_by_escape_and_by_an_empty_name(
    open_window: OpenWindow, store: FakeStore, qtbot: QtBot
) -> None:
    store.own_one("me")
    window = open_window(AppSettings(portrait="own_me"))
    gallery = window.gallery
    qtbot.waitUntil(lambda: gallery.name == "me" and not window.session.busy)
    for text, key in (("x", Qt.Key.Key_Escape), (" ", Qt.Key.Key_Return)):
        press_key(window, Qt.Key.Key_F2)
        assert gallery.name_field.isVisible()
        press(gallery.name_field, text)
        press_key(gallery.name_field, key)
        assert not gallery.renaming
        qtbot.wait(20)
        assert store.kept[-1].name == "me"


def test_bundled_portraits_keep_their_names(window: MainWindow) -> None:
    assert not window.gallery.rename_button.isVisible()
    press_key(window, Qt.Key.Key_F2)
    assert not window.gallery.renaming


def test_a_renamed_portrait_is_named_so_in_the_chain(
    open_window: OpenWindow, store: FakeStore, world: World, qtbot: QtBot
) -> None:
    store.own_one("me")
    window = open_window(AppSettings(portrait="own_me"))
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.session.chain.portrait.text == "me")
    window.session.desk.rename("own_me", "Dad")
    qtbot.waitUntil(lambda: window.session.chain.portrait.text == "Dad")
