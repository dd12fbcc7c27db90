"""Messages, status line, doctor row, checklist, keys panel, tray."""

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QGuiApplication
from PyQt6.QtWidgets import QSystemTrayIcon
from pytestqt.qtbot import QtBot

from app.pipeline.doctor import Fix, VirtualCameraReport
from app.pipeline.state import State
from app.pipeline.stats import Percentiles, Stats
from app.ui import messages
from app.ui.main_window import MainWindow
from app.ui.messages import Message, MessageBar
from app.ui.status import Words, microphone_delay_ms, statistics_text, status_text
from app.ui.tray import Tray, make_tray
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import MISSING, STATS, World
from tests.app.ui.hand import click, press_key


@pytest.fixture
def bar(qtbot: QtBot) -> MessageBar:
    made = MessageBar()
    qtbot.addWidget(made)
    return made


def test_one_message_at_a_time_errors_first(bar: MessageBar) -> None:
    assert not bar.isVisible()
    bar.show_message(Message("a", "a warning", tone="warning"))
    bar.show_message(Message("b", "an error"))
    bar.show_message(Message("c", "another error"))
    assert bar.text == "another error"
    bar.dismiss()
    assert bar.text == "an error"
    bar.dismiss()
    assert bar.text == "a warning"
    bar.dismiss()
    assert bar.text == ""
    assert not bar.isVisible()


def test_a_newer_message_of_the_same_key_takes_the_place(bar: MessageBar) -> None:
    for attempt in range(5):
        bar.show_message(Message("camera", f"attempt {attempt}"))
    assert [message.text for message in bar.messages] == ["attempt 4"]
    bar.clear("something else")
    bar.clear("camera")
    assert bar.text == ""


def test_an_action_is_done_and_the_message_goes(bar: MessageBar) -> None:
    done: list[str] = []
    bar.show_message(Message("x", "what to do", action="Do it", act=lambda: done.append("it")))
    bar.show()
    click(bar.action_button)
    assert done == ["it"]
    assert bar.text == ""


def test_good_news_goes_by_itself(bar: MessageBar, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_INFO_MS", 30)
    bar.show_message(Message("saved", "saved", tone="info"))
    assert bar.text == "saved"
    qtbot.waitUntil(lambda: bar.text == "")


def test_news_with_an_action_stay_longer_and_are_not_replaced(
    bar: MessageBar, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert messages._ACTION_MS >= 20000
    monkeypatch.setattr(messages, "_INFO_MS", 30)
    bar.show_message(Message("removed", "removed", tone="info", action="Undo"))
    for number in range(2):
        bar.show_message(Message(f"saved {number}", f"saved {number}", tone="info"))
    assert [message.text for message in bar.messages] == ["saved 1", "removed"]
    qtbot.waitUntil(lambda: bar.text == "removed")
    qtbot.wait(100)
    assert bar.text == "removed"
    monkeypatch.setattr(messages, "_ACTION_MS", 30)
    bar.refresh_theme()
    qtbot.waitUntil(lambda: bar.text == "")


def test_escape_puts_a_message_away(window: MainWindow) -> None:
    window.session.told.emit(Message("x", "an error"))
    press_key(window, Qt.Key.Key_Escape)
    assert window.messages.text == ""


def test_the_status_line_reads_as_specified() -> None:
    assert (
        status_text(Words("LIVE", "live"), STATS, "cuda:0")
        == "LIVE | 31 fps | 62 ms in app (p95 88) | dropped 3 % | cuda:0"
    )
    assert status_text(Words("STARTING", "quiet", "loading"), Stats(State.STARTING), "") == "STARTING"
    told = status_text(Words("NO CAMERA", "error", "plug it in"), STATS, "cuda:0")
    assert told.startswith("NO CAMERA: plug it in | 31 fps | ")


def test_the_microphones_delay_can_be_set_by_hand() -> None:
    assert microphone_delay_ms(STATS) == 60
    assert microphone_delay_ms(Stats(State.LIVE, age_ms=Percentiles(67.0))) == 70
    assert microphone_delay_ms(Stats(State.STARTING)) == 0


def test_statistics_tell_everything() -> None:
    text = statistics_text(STATS, "cuda:0 torch")
    for part in ("runs on  cuda:0 torch", "camera", "render", "render     12.0", "3 from camera to model", "99.0"):
        assert part in text


def test_a_missing_virtual_camera_gets_its_fixes(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    world.report = MISSING
    window = open_window()
    doctor = window.controls.doctor
    assert doctor.text == "There is no virtual camera: OBS Studio brings one."
    assert not doctor.switch.isEnabled()
    assert (doctor.fix, doctor.command) == ("Install it.", "sudo apt install v4l2loopback-dkms")
    click(doctor.copy_button)
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    assert clipboard.text() == "sudo apt install v4l2loopback-dkms"
    click(doctor.next_button)
    assert doctor.command == "sudo modprobe v4l2loopback"
    click(doctor.next_button)
    assert doctor.fix == "Install it."
    world.report = VirtualCameraReport("busy", "/dev/video10", "It is in use by OBS.", (Fix("Close OBS"),))
    click(doctor.again_button)
    qtbot.waitUntil(lambda: doctor.text == "It is in use by OBS.")
    assert (doctor.fix, doctor.command) == ("Close OBS.", "")
    assert not doctor.copy_button.isVisible()
    assert not doctor.next_button.isVisible()


def test_the_virtual_cameras_switch(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    doctor = proven.controls.doctor
    click(doctor.switch)
    assert doctor.switch.isChecked()
    assert doctor.text == "Opening…"
    qtbot.waitUntil(lambda: "virtualcam" in world.pipeline.sinks)
    world.pipeline.open_sink("virtualcam")
    qtbot.waitUntil(lambda: doctor.text == "On: device of virtualcam. Choose it in your call program.")
    click(doctor.switch)
    qtbot.waitUntil(lambda: not world.pipeline.sinks)
    assert not doctor.switch.isChecked()


def test_the_checklist_follows_the_chain(window: MainWindow, world: World, qtbot: QtBot) -> None:
    checklist = window.checklist
    assert checklist.isVisible()
    assert [step.done for step in checklist.steps] == [False] * 6
    world.pipeline.prove()
    qtbot.waitUntil(lambda: [step.done for step in checklist.steps] == [True, True, False, True, True, False])
    click(checklist.steps[2].action)
    qtbot.waitUntil(lambda: "virtualcam" in world.pipeline.sinks)
    world.pipeline.open_sink("virtualcam")
    qtbot.waitUntil(lambda: checklist.steps[2].done)
    click(checklist.steps[5].action)
    assert all(step.done for step in checklist.steps)
    click(checklist.steps[4].action)
    assert world.pipeline.calibrations == [False]
    assert "Step 4, Portrait: done. Fake 1, score 70 of 100" in checklist.steps[3].accessibleName()


def test_the_checklist_is_put_away_and_comes_back(window: MainWindow) -> None:
    click(window.checklist.close_button)
    assert not window.checklist.isVisible()
    assert window.session.settings.window.checklist_done
    window.controls.checklist.click()
    assert window.checklist.isVisible()


def test_a_step_that_needs_a_hand(open_window: OpenWindow, world: World) -> None:
    world.report = MISSING
    window = open_window()
    assert "needs a hand. There is no virtual camera: OBS" in window.checklist.steps[2].accessibleName()
    assert not window.checklist.steps[2].action.isEnabled()


def test_the_tray_starts_stops_and_slates(live: MainWindow, world: World) -> None:
    tray = Tray(live)
    assert tray.live.text() == "Stop"
    tray.live.trigger()
    assert world.pipeline.slated()
    assert tray.live.text() == "Go live"
    tray.live.trigger()
    assert not world.pipeline.slated()
    tray.slate.trigger()
    assert world.pipeline.slated()
    live.showMaximized()
    tray.show_window.trigger()
    assert live.isMaximized()
    tray.close()
    tray.close()
    tray.quit.trigger()
    assert world.pipeline.stops == 1


def test_no_tray_where_there_is_none(window: MainWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: False)
    assert make_tray(window) is None
