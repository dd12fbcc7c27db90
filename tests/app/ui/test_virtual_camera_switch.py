"""Switching the virtual camera on and off."""

from pytestqt.qtbot import QtBot

from app.errors import SinkError
from app.pipeline.events import (
    SinkFailed,
)
from app.ui.main_window import MainWindow
from tests.app.ui.fakes import World


def test_switching_the_virtual_camera_off_shows_the_preview_again(live: MainWindow, world: World, qtbot: QtBot) -> None:
    live.session.stop()
    live.session.virtual_camera.switch(False)
    qtbot.waitUntil(lambda: not live.session.virtual_camera.on_air)
    assert not world.pipeline.slated()
    assert not live.controls.doctor.switch.isChecked()


def test_a_panic_outlives_the_virtual_camera(live: MainWindow, world: World, qtbot: QtBot) -> None:
    live.session.slate()
    live.session.virtual_camera.switch(False)
    qtbot.waitUntil(lambda: not live.session.virtual_camera.on_air)
    assert world.pipeline.slated()


def test_a_virtual_camera_that_fails_is_examined(live: MainWindow, world: World, qtbot: QtBot) -> None:
    looked = world.examined
    world.pipeline.tell(SinkFailed("virtualcam", "the device is gone: plug it in"))
    qtbot.waitUntil(lambda: not live.session.virtual_camera.on_air)
    assert live.messages.text == "the device is gone: plug it in"
    qtbot.waitUntil(lambda: world.examined == looked + 1)
    live.session.virtual_camera.switch(True)
    qtbot.waitUntil(lambda: live.session.virtual_camera.opening)


def test_a_virtual_camera_that_failed_does_not_come_back_by_itself(
    live: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.pipeline.tell(SinkFailed("virtualcam", "gone"))
    qtbot.waitUntil(lambda: not live.session.virtual_camera.on_air)
    assert "virtualcam" not in world.pipeline.sinks


def test_switching_off_while_it_opens(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    session.virtual_camera.switch(True)
    session.virtual_camera.switch(False)
    qtbot.waitUntil(lambda: not session.busy)
    assert not session.virtual_camera.opening
    assert not world.pipeline.sinks
    assert not world.pipeline.slated()


def test_a_virtual_camera_that_cannot_be_made(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.sink_error = SinkError("no driver: install one")
    proven.session.virtual_camera.switch(True)
    qtbot.waitUntil(lambda: proven.messages.text == "no driver: install one")
    assert not proven.session.virtual_camera.opening
    assert not proven.controls.doctor.switch.isChecked()
