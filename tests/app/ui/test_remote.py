"""Control from outside, in the window: the real server, asked by other threads."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from app.control.protocol import Record, RefusedError
from app.pipeline.events import CalibrationProgress, SinkClosed, StageFailed, StateChanged
from app.pipeline.state import State
from app.settings import AppSettings, ControlSettings, load_settings
from app.ui.languages import spoken
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from tests.app.control.asking import ask, control_threads
from tests.app.control.driving import EVERY_COMMAND
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import press_key
from tests.app.ui.test_languages import TEXTS, german

__all__ = ["german"]  # a fixture


class Outside:
    """Another program, which knows the token."""

    def __init__(self, window: MainWindow, world: World, qtbot: QtBot) -> None:
        self.window, self.world, self.qtbot = window, world, qtbot

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        """Ask on another thread, while the window goes on."""
        given = {"Authorization": f"Bearer {self.world.access.kept_token()}"}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, self.window.session.remote.port, method, path, body, given)
            self.qtbot.waitUntil(asked.done, timeout=10_000)
        return asked.result()

    def do(self, command: str, **arguments: Any) -> tuple[int, dict[str, Any]]:
        return self.ask("POST", f"/v1/commands/{command}", json.dumps(arguments))

    def refusal(self, command: str, **arguments: Any) -> str:
        status, answer = self.do(command, **arguments)
        assert status == 409, answer
        return str(answer["error"]["message"])

    def slated(self) -> bool:
        """Whether the pipeline has the slate."""
        return self.world.pipeline.settings.slate

    @property
    def state(self) -> dict[str, Any]:
        return self.ask("GET", "/v1/state")[1]


def switched_on(window: MainWindow, world: World, qtbot: QtBot) -> Outside:
    window.controls.remote.port.setText("0")
    window.controls.remote.port.editingFinished.emit()
    window.controls.remote.switch.click()
    qtbot.waitUntil(lambda: window.session.remote.port != 0)
    return Outside(window, world, qtbot)


@pytest.fixture
def outside(window: MainWindow, world: World, qtbot: QtBot) -> Outside:
    return switched_on(window, world, qtbot)


@pytest.fixture
def calling(live: MainWindow, world: World, qtbot: QtBot) -> Outside:
    """While a call sees the avatar."""
    return switched_on(live, world, qtbot)


def test_it_is_off_until_it_is_switched_on_and_is_kept(
    window: MainWindow, world: World, options: WindowOptions, qtbot: QtBot
) -> None:
    row, remote = window.controls.remote, window.session.remote
    assert not row.switch.isChecked()
    assert not row.copy_button.isVisibleTo(row)
    assert not control_threads()[1:], "but for the worker"
    assert not world.access.token_path.exists()
    switched_on(window, world, qtbot)
    assert row.said == f"Programs that show the token can control this window on port {remote.port}."
    row.copy_button.click()
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    assert clipboard.text() == world.access.token()
    row.switch.click()
    qtbot.waitUntil(lambda: world.access.address() is None)
    assert remote.port == 0
    row.switch.click()
    qtbot.waitUntil(lambda: remote.port != 0)
    window.close()
    assert window.ended
    assert world.access.address() is None
    assert load_settings(options.settings_path)[0].control == ControlSettings(on=True, port=0)


def test_the_command_line_switches_it_on_for_one_run(
    open_window: OpenWindow, options: WindowOptions, qtbot: QtBot
) -> None:
    window = open_window(AppSettings(portrait="fake_1"), replace(options, control_port=0))
    qtbot.waitUntil(lambda: window.session.remote.port != 0)
    assert window.controls.remote.switch.isChecked()
    assert not window.session.settings.control.on


def test_a_port_that_is_taken_is_told_and_another_one_helps(window: MainWindow, qtbot: QtBot) -> None:
    row, remote = window.controls.remote, window.session.remote
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        row.port.setText(str(port))
        press_key(row.port, Qt.Key.Key_Return)
        row.switch.click()
        qtbot.waitUntil(lambda: bool(remote.failure))
        assert row.said.startswith(f"It is off: control from outside cannot listen on port {port}: another program")
        assert row.said in f"It is off: {window.messages.text}."
        assert row.switch.isChecked(), "it is still wished for"
        row.port.setText("0")
        press_key(row.port, Qt.Key.Key_Return)
        qtbot.waitUntil(lambda: remote.port != 0)
        assert not window.messages.text


def test_a_new_token_makes_the_old_one_useless(outside: Outside, world: World, qtbot: QtBot) -> None:
    old = world.access.kept_token()
    outside.window.controls.remote.renew_button.click()
    assert not outside.window.controls.remote.renew_button.isEnabled()
    qtbot.waitUntil(lambda: outside.window.session.remote.port != 0)
    assert world.access.kept_token() not in ("", old)
    assert outside.ask("GET", "/v1/state")[0] == 200
    port = outside.window.session.remote.port
    assert ask(port, "GET", "/v1/state", None, {"Authorization": f"Bearer {old}"})[0] == 401


def test_the_switch_in_a_hurry_ends_as_it_was_left(window: MainWindow, world: World, qtbot: QtBot) -> None:
    row, remote = window.controls.remote, window.session.remote
    row.port.setText("0")
    row.port.editingFinished.emit()
    for _ in range(5):
        row.switch.click()
    qtbot.waitUntil(lambda: remote.port != 0)
    qtbot.waitUntil(lambda: len(control_threads()) == 2)
    assert Outside(window, world, qtbot).ask("GET", "/v1/state")[0] == 200


def test_nothing_goes_live_from_outside_before_it_is_proven(outside: Outside, world: World, qtbot: QtBot) -> None:
    assert "the model is loading" in outside.refusal("live")
    assert "the model is loading" in outside.refusal("calibrate")
    world.pipeline.prove()
    qtbot.waitUntil(lambda: outside.window.session.chain.missing_name() == "virtual camera")
    assert "the virtual camera is off: switch it on for a call" in outside.refusal("live")
    assert outside.do("slate", to="off") == (200, {"ok": True, "slate": False}), "there is none to take away"
    outside.window.session.virtual_camera.switch(True)
    assert "the virtual camera is being opened" in outside.refusal("slate", to="off")
    assert outside.slated()
    assert outside.state["missing"] == "the virtual camera is being opened"


@pytest.mark.usefixtures("german")
def test_other_programs_are_told_in_english_whatever_the_window_speaks(
    outside: Outside, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEXTS, "the virtual camera is being opened", "die Kamera wird geöffnet")
    monkeypatch.setitem(TEXTS, "the model cannot be loaded: {reason}", "kein Modell: {reason}")
    world.pipeline.prove()
    session = outside.window.session
    qtbot.waitUntil(lambda: session.chain.missing_name() == "virtual camera")
    session.virtual_camera.switch(True)
    assert spoken(session.chain.missing()) == "die Kamera wird geöffnet"
    assert outside.refusal("live") == "live: the virtual camera is being opened"
    assert outside.state["missing"] == "the virtual camera is being opened"
    world.pipeline.tell(StageFailed("model", "gone"))
    world.pipeline.tell(StateChanged(State.FAULT))
    qtbot.waitUntil(lambda: spoken(session.reason) == "kein Modell: gone")
    assert outside.state["why"] == "the model cannot be loaded: gone"
    assert outside.refusal("calibrate") == "calibrate: the model cannot be loaded: gone"


def test_in_a_call(calling: Outside, world: World) -> None:
    assert calling.state["live"]
    assert calling.do("slate") == (200, {"ok": True, "slate": True})
    assert calling.slated()
    assert calling.window.action_bar.slate_button.isChecked()
    assert not calling.state["live"]
    assert calling.do("live") == (200, {"ok": True, "slate": False})
    assert not calling.slated()
    assert calling.do("stop")[1]["slate"] is True
    assert calling.do("slate", to="toggle")[1]["slate"] is False
    assert calling.do("calibrate", now=True)[0] == 200
    assert world.pipeline.calibrations[-1] is True


def test_portraits_and_gains_are_the_windows(calling: Outside, world: World, qtbot: QtBot) -> None:
    assert [one["id"] for one in calling.state["portraits"]] == ["fake_1", "fake_2", "fake_3"]
    assert calling.do("portrait", name="fake 3")[1]["portrait"] == {"id": "fake_3", "name": "Fake 3"}
    qtbot.waitUntil(lambda: world.pipeline.portrait is not None and world.pipeline.portrait.entry.key == "fake_3")
    assert calling.do("portrait", step=1)[1]["portrait"]["id"] == "fake_1"
    assert calling.do("portrait", name="fake_9")[0] == 404
    assert calling.do("gains", mouth=1.5)[1]["gains"]["mouth"] == 1.5
    assert world.pipeline.settings.mouth_strength == 1.5
    assert calling.window.controls.gains["mouth"].value == 1.5
    assert calling.do("preset", name="Standard")[1]["preset"] == calling.state["preset"] == "Standard"
    assert world.pipeline.settings.mouth_strength == 1.0
    assert "got 'nobody', expected one of Standard" in calling.refusal("preset", name="nobody")
    assert calling.do("retouch", to="off")[1]["retouch"] is calling.state["retouch"] is False
    assert world.pipeline.settings.retouch is False
    assert not calling.window.controls.retouch.isChecked()
    assert calling.do("retouch")[1]["retouch"] is world.pipeline.settings.retouch is True


def test_fine_detail_is_switched(calling: Outside, world: World) -> None:
    for to, on in (("off", False), ("on", True), ("toggle", False)):
        assert calling.do("detail", to=to)[1]["fine_detail"] is calling.state["fine_detail"] is on
        assert world.pipeline.settings.fine_detail is on
        assert calling.window.controls.fine_detail.isChecked() is on


def test_a_recording_is_the_windows(calling: Outside, world: World, qtbot: QtBot) -> None:
    path = calling.do("record", to="on")[1]["recording"]
    assert path
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    assert calling.do("record", to="on")[1]["recording"] == calling.state["recording"] == path
    assert calling.do("record")[1]["recording"] == ""
    qtbot.waitUntil(lambda: calling.window.session.recordings.path is None)
    assert calling.do("record", to="off")[1]["recording"] == ""
    world.pipeline.stops = world.pipeline.starts
    assert "nothing to record" in calling.refusal("record")


def test_a_recording_that_begins_or_ends_is_no_other_one(calling: Outside, world: World, qtbot: QtBot) -> None:
    """Asked on the GUI thread, so that nothing is made or finished in between."""
    session = calling.window.session
    path = session._operator.perform(Record("on"))["recording"]
    assert session._operator.perform(Record("on"))["recording"] == path != ""
    assert session._operator.perform(Record())["recording"] == "", "it is cancelled"
    qtbot.waitUntil(lambda: not session.busy)
    assert "recorder" not in world.pipeline.sinks
    assert session.recordings.path is None
    assert session._operator.perform(Record())["recording"]
    qtbot.waitUntil(lambda: session.recordings.path is not None)
    assert session._operator.perform(Record("off"))["recording"] == ""
    assert session._operator.perform(Record("off"))["recording"] == ""
    with pytest.raises(RefusedError, match="the recording before is being finished"):
        session._operator.perform(Record("on"))
    qtbot.waitUntil(lambda: session.recordings.path is None)
    assert session._operator.perform(Record("on"))["recording"]
    qtbot.waitUntil(lambda: session.recordings.path is not None)


def test_the_state_is_the_windows(calling: Outside, world: World, qtbot: QtBot) -> None:
    state = calling.state
    assert (state["mode"], state["state"], state["score"], state["camera"]) == (
        "window",
        "live",
        92,
        calling.window.session.chain.camera.text,
    )
    assert state["portrait"] == {"id": "fake_1", "name": "Fake 1"}
    assert (state["model"], state["device"], state["missing"], state["why"]) == ("starter", "cuda:0", "", "")
    world.pipeline.tell(StateChanged(State.CALIBRATING))
    world.pipeline.tell(CalibrationProgress(0.5, "look here"))
    qtbot.waitUntil(lambda: calling.window.session.calibrating == 0.5)
    state = calling.state
    assert (state["state"], state["calibrating"], state["score"], state["why"]) == (
        "calibrating",
        0.5,
        None,
        "look here",
    )


def test_the_slate_comes_while_the_window_hangs(
    calling: Outside, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers on the GUI thread; the pipeline has the slate all the same, and the window follows later."""
    monkeypatch.setattr("app.control.server._PATIENCE_S", 0.1)
    given = {"Authorization": f"Bearer {world.access.kept_token()}"}
    port = calling.window.session.remote.port
    status, _ = ask(port, "POST", "/v1/commands/slate", None, given)  # on this thread, which is the GUI's
    assert status == 200
    assert calling.slated()
    assert not calling.window.session.settings.live.slate
    status, answer = ask(port, "POST", "/v1/commands/portrait", '{"step": 1}', given)
    assert (status, answer["error"]["code"]) == (504, "busy")
    calling.qtbot.waitUntil(lambda: calling.window.session.settings.live.slate)
    assert calling.window.session.desk.current == "fake_1", "what timed out is not done later"
    ask(port, "POST", "/v1/commands/stop", None, given)
    calling.window.session.go_live()  # a click of before, that comes to its turn now
    assert calling.slated()
    calling.qtbot.waitUntil(lambda: calling.window.session.settings.live.slate)
    calling.window.session.go_live()
    assert not calling.slated()


@pytest.mark.parametrize("fault", ["no camera", "no virtual camera", "no model"])
def test_whatever_is_asked_the_call_has_the_slate_until_all_is_proven(
    calling: Outside, world: World, qtbot: QtBot, fault: str
) -> None:
    session = calling.window.session
    session.stop()
    match fault:
        case "no camera":
            world.pipeline.fail_camera("unplugged", retry_s=1.0)
        case "no virtual camera":
            world.pipeline.tell(SinkClosed("virtualcam", asked=False))
        case "no model":
            session._run.restart()
    qtbot.waitUntil(lambda: bool(session.chain.missing()))
    for command, body in EVERY_COMMAND:
        status, _ = calling.ask("POST", f"/v1/commands/{command}", body or None)
        assert status in (200, 404, 409)  # the fakes have no such portrait
        assert not (session.live and session.chain.missing())
        assert session.settings.live.slate
        assert calling.slated()
