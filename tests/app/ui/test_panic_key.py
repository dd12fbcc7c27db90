"""A key for the slate while another window has the focus: chosen in the window, kept, heard, told where it is not."""

import shutil
import sys
import threading
from dataclasses import replace

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QKeySequence
from pytestqt.qtbot import QtBot

from app.errors import AppError
from app.hotkeys.listening import KeyListener, Standing
from app.settings import AppSettings, ControlSettings, load_settings
from app.ui.main_window import MainWindow
from app.ui.panic_key import PanicKey
from app.ui.parts import WindowOptions, real_parts
from app.ui.worker import Worker
from tests.app.hotkeys.test_x11 import Other, other, server
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import press_key

__all__ = ["other", "server"]  # fixtures
KEPT = AppSettings(portrait="fake_1", control=ControlSettings(slate_key="Pause"))
CTRL_ALT = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier


def choose(window: MainWindow, key: Qt.Key, modifier: Qt.KeyboardModifier = CTRL_ALT) -> None:
    """As a user does it: press the key in its field."""
    edit = window.controls.remote.key
    edit.setFocus()
    press_key(edit, key, modifier)
    edit.editingFinished.emit()  # else it waits for a second key


def heard(window: MainWindow, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: window.session.panic_key.heard)


def test_it_is_off_until_one_is_chosen_and_is_kept(
    window: MainWindow, world: World, options: WindowOptions, qtbot: QtBot
) -> None:
    row = window.controls.remote
    assert not world.listeners
    assert row.key_said.startswith("In this window 0 shows the slate")
    choose(window, Qt.Key.Key_0)
    heard(window, qtbot)
    assert row.key_said == "Ctrl+Alt+0 shows the slate, whichever window has the focus."
    choose(window, Qt.Key.Key_Pause, Qt.KeyboardModifier.NoModifier)
    qtbot.waitUntil(lambda: len(world.listeners) == 2)
    assert not world.listeners[0].taken.is_set(), "the first one is let go before"
    heard(window, qtbot)
    window.close()
    assert window.ended
    assert not world.listeners[1].taken.is_set()
    assert load_settings(options.settings_path)[0].control.slate_key == "Pause"


def test_pressed_it_shows_the_slate_at_once_and_for_good(live: MainWindow, world: World, qtbot: QtBot) -> None:
    choose(live, Qt.Key.Key_0)
    heard(live, qtbot)
    world.listeners[0].pressed()
    assert world.pipeline.settings.slate, "before the window comes to it"
    qtbot.waitUntil(lambda: live.session.settings.live.slate)
    listening = threading.Thread(target=world.listeners[0].pressed)
    listening.start()
    listening.join()
    live.session.go_live()
    assert world.pipeline.slated(), "a click that waited does not overtake it"
    qtbot.waitUntil(lambda: live.session.settings.live.slate)
    live.session.go_live()
    assert not world.pipeline.slated()
    world.listeners[0].pressed()
    qtbot.waitUntil(lambda: live.session.settings.live.slate)
    live.session.virtual_camera.switch(False)
    assert live.session.settings.live.slate


def test_a_kept_one_is_asked_for_at_the_start_and_can_be_given_up(
    open_window: OpenWindow, world: World, qtbot: QtBot
) -> None:
    window = open_window(KEPT)
    heard(window, qtbot)
    assert window.controls.remote.key.keySequence() == QKeySequence("Pause")
    window.controls.remote.key.clear()
    window.controls.remote.key.editingFinished.emit()
    qtbot.waitUntil(lambda: not world.listeners[0].taken.is_set())
    assert window.session.settings.control.slate_key == ""


def test_a_safe_start_takes_no_key(open_window: OpenWindow, options: WindowOptions, world: World) -> None:
    open_window(AppSettings(portrait="fake_1"), replace(options, safe=True))
    assert not world.listeners


def test_a_key_that_cannot_be_had_is_told_and_can_be_asked_for_again(window: MainWindow, qtbot: QtBot) -> None:
    row = window.controls.remote
    choose(window, Qt.Key.Key_A, Qt.KeyboardModifier.NoModifier)
    qtbot.waitUntil(lambda: "alone would be taken from whatever you write" in row.key_said)
    assert row.key_said.startswith("The key is not heard: key: A alone")
    choose(window, Qt.Key.Key_A)
    heard(window, qtbot)


def test_a_key_that_is_taken_back_is_told(window: MainWindow, world: World, qtbot: QtBot) -> None:
    choose(window, Qt.Key.Key_0)
    heard(window, qtbot)
    world.listeners[0].tell(Standing(False, "the desktop has taken the key back; it is asked again in 1 s"))
    qtbot.waitUntil(lambda: not window.session.panic_key.heard)
    assert window.controls.remote.key_said.startswith("The key is not heard: the desktop has taken the key back")
    told = "The slate key is not heard: the desktop has taken the key back; it is asked again in 1 s."
    assert told in [message.text for message in window.messages.messages]
    world.listeners[0].tell(Standing(True, "Ctrl+Alt+0"))
    qtbot.waitUntil(lambda: window.session.panic_key.heard)
    assert told not in [message.text for message in window.messages.messages]
    world.listeners[0].tell(Standing(False, "the key was not given in the desktop's dialog: choose it again"))
    qtbot.waitUntil(lambda: not window.session.panic_key.heard)
    choose(window, Qt.Key.Key_0)
    heard(window, qtbot)
    world.listeners[0].tell(Standing(False, "late"))  # of the one before
    window.session.panic_key.choose("Ctrl+Alt+0")
    assert len(world.listeners) == 2, "what is heard is not asked for again"
    assert window.session.panic_key.heard


def test_a_system_that_gives_none_is_told(qtbot: QtBot) -> None:
    def refuse(*_: object) -> KeyListener:
        raise AppError("there is no desktop to hear a key on.")

    worker = Worker("test worker")
    key = PanicKey(worker, refuse, lambda: None, "F9")
    key.open()
    qtbot.waitUntil(lambda: key.text == "there is no desktop to hear a key on")
    assert not key.heard
    assert key.close()
    assert worker.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is Linux's")
@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb: apt-get install xvfb")
def test_a_real_key_while_another_window_has_the_focus(
    live: MainWindow, world: World, other: Other, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window's whole way, on a real X server that has another program's window in front."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    monkeypatch.setattr(live.session.panic_key, "_listen_for", real_parts().listen_for)
    choose(live, Qt.Key.Key_0)
    heard(live, qtbot)
    other.press("Control_L", "Alt_L", "0")
    qtbot.waitUntil(lambda: live.session.settings.live.slate)
    assert world.pipeline.settings.slate
    assert live.action_bar.slate_button.isChecked()
