"""Switching the virtual camera on and off."""

import sys

import pytest
from pytestqt.qtbot import QtBot

from app.errors import SinkError
from app.pipeline.doctor import Fix, VirtualCameraReport
from app.pipeline.events import (
    SinkFailed,
)
from app.settings import AppSettings
from app.ui.main_window import MainWindow
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.ui.worker import Worker
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import READY, World
from tests.app.ui.hand import click


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


def test_what_a_wish_before_brings_is_not_taken_for_what_is_wished_now(
    proven: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a switch that was pressed three times before the first camera was made."""
    switch, jobs = proven.session.virtual_camera, []
    monkeypatch.setattr(switch._worker, "run", lambda *job: jobs.append(job))
    switch.switch(True)
    switch.switch(False)
    monkeypatch.setattr(switch, "kind", "pipewire")
    switch.switch(True)
    (make_first, add_first, fail_first), (make, add, _) = jobs
    fail_first(SinkError("no driver: install one"))
    assert switch.opening
    assert "install one" not in proven.messages.text
    add_first(make_first())
    assert not world.pipeline.sinks
    add(make())
    assert set(world.pipeline.sinks) == {"pipewire"}
    tell_of_it = world.tell_trouble
    tell_of_it("The camera is away. It comes back by itself.")
    qtbot.waitUntil(lambda: "The camera is away" in proven.messages.text)


def test_a_virtual_camera_that_cannot_be_made(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.sink_error = SinkError("no driver: install one")
    proven.session.virtual_camera.switch(True)
    qtbot.waitUntil(lambda: proven.messages.text == "no driver: install one")
    assert not proven.session.virtual_camera.opening
    assert not proven.controls.doctor.switch.isChecked()


def test_a_camera_in_pipewire_instead(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    switch, doctor = proven.session.virtual_camera, proven.controls.doctor
    if sys.platform != "linux":
        assert not doctor.kind.isVisible()
        return
    assert doctor.kind.isVisible()
    assert doctor.kind.button("driver").isChecked()
    click(doctor.kind.button("pipewire"))
    qtbot.waitUntil(lambda: doctor.text == "PipeWire can have a camera.")
    assert proven.session.settings.virtual_camera == "pipewire"
    click(doctor.switch)
    qtbot.waitUntil(lambda: "pipewire" in world.pipeline.sinks)
    world.pipeline.open_sink("pipewire")
    qtbot.waitUntil(lambda: switch.on_air)
    assert not doctor.kind.isEnabled()
    switch.choose("driver")
    assert switch.kind == "pipewire", "not in a call"

    world.tell_trouble("The camera is away. It comes back by itself.")
    qtbot.waitUntil(lambda: proven.messages.text == "The camera is away. It comes back by itself.")
    assert switch.on_air
    world.tell_trouble("")
    qtbot.waitUntil(lambda: proven.messages.text == "")
    click(doctor.switch)
    qtbot.waitUntil(lambda: not world.pipeline.sinks)
    qtbot.waitUntil(doctor.kind.isEnabled)
    tell_of_the_first = world.tell_trouble
    tell_of_the_first("too late")
    qtbot.wait(20)
    assert proven.messages.text == ""
    click(doctor.switch)
    qtbot.waitUntil(lambda: "pipewire" in world.pipeline.sinks)
    tell_of_the_first("of another camera")
    qtbot.wait(20)
    assert proven.messages.text == ""


def test_what_pipewire_lacks_comes_with_its_fix(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    if sys.platform != "linux":
        pytest.skip("PipeWire is Linux's")
    world.pipewire_report = VirtualCameraReport(
        "missing", "", "PipeWire does not run.", (Fix("Start it", "systemctl"),)
    )
    window = open_window(AppSettings(virtual_camera="pipewire"))
    doctor = window.controls.doctor
    qtbot.waitUntil(lambda: doctor.text == "PipeWire does not run.")
    assert (doctor.fix, doctor.command) == ("Start it.", "systemctl")
    assert not doctor.switch.isEnabled()
    click(doctor.kind.button("driver"))
    qtbot.waitUntil(lambda: doctor.text == READY.sentence)


@pytest.mark.usefixtures("qapp")
def test_a_kind_that_the_system_lacks_is_not_taken(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    worker = Worker("test")
    parts = world.parts()
    switch = VirtualCameraSwitch(worker, parts.examine_virtual_camera, parts.make_virtual_camera, "pipewire")
    assert (switch.kind, switch.kinds) == ("driver", ("driver",))
    worker.stop()
