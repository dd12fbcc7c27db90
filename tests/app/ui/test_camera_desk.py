"""Which camera is used, and what becomes of it."""

from pytestqt.qtbot import QtBot

from app.pipeline.capture.cameras import CameraSpec
from app.pipeline.events import (
    CameraFailed,
    CameraOpened,
)
from app.settings import AppSettings
from app.ui.chain import Link
from app.ui.main_window import MainWindow
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World


def test_a_camera_that_fails_while_another_goes_on(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    session.camera_desk.choose("1")
    assert world.pipeline.camera == CameraSpec("device", 1)
    world.pipeline.tell(CameraFailed("camera 1", "camera 1 is busy: close other programs", kept="camera 0"))
    qtbot.waitUntil(lambda: session.camera_desk.current == "0")
    assert session.settings.camera == "0"
    assert proven.controls.camera.currentText() == "Fake Cam"
    assert proven.messages.text == "camera 1 is busy: close other programs. camera 0 goes on."
    assert session.chain.camera == Link(True, "640 x 480, 30 fps")


def test_a_camera_that_is_gone_and_comes_back(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    world.pipeline.tell(CameraFailed("camera 0", "camera 0 is gone.", retry_s=2.0))
    qtbot.waitUntil(lambda: session.chain.camera.failed)
    assert proven.messages.text == "camera 0 is gone. Trying again in 2 s."
    world.pipeline.tell(CameraFailed("camera 0", "camera 0 is gone", retry_s=0.4))
    qtbot.waitUntil(lambda: proven.messages.text == "camera 0 is gone. Trying again in 1 s.")
    assert session.chain.missing_name() == "camera"
    world.pipeline.tell(CameraOpened("camera 0", 640, 480, 30.0, "asked for 60"))
    qtbot.waitUntil(lambda: session.chain.camera.done)
    assert proven.messages.text == ""
    assert session.chain.camera.text == "640 x 480, 30 fps; asked for 60"


def test_a_camera_that_cannot_be_parsed(open_window: OpenWindow, world: World) -> None:
    window = open_window(AppSettings(camera="nonsense", portrait="fake_1"))
    assert world.pipeline.camera is None
    assert "expected a camera" in window.messages.text
    assert window.session.chain.camera.failed


def test_no_camera_at_all(open_window: OpenWindow, world: World) -> None:
    world.cameras = []
    window = open_window()
    assert "No camera was found" in window.messages.text
    assert world.pipeline.camera is None
