"""A key on a real X server, pressed by another client while another client's window has the focus."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.errors import AppError
from app.hotkeys.listening import Standing
from app.hotkeys.support import examine_keys, listener_for
from tests.app.fakes import wait_until
from tests.app.hotkeys.hearing import Hearing

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is Linux's"),
    pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb: apt-get install xvfb"),
]
if sys.platform.startswith("linux"):
    from Xlib import XK, X
    from Xlib.display import Display
    from Xlib.ext import xtest

    from app.hotkeys.x11 import X11Listener


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x200x24", "-noreset"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as process:
        os.close(write)
        with os.fdopen(read) as told:
            number = told.readline().strip()
        assert number
        try:
            yield f":{number}"
        finally:
            process.kill()


class Other:
    """Another program: its window has the focus, and a hand of its own presses keys."""

    def __init__(self, name: str) -> None:
        self.display: Any = Display(name)
        root = self.display.screen().root
        self.window = root.create_window(0, 0, 100, 100, 0, X.CopyFromParent, event_mask=X.KeyPressMask)
        self.window.map()
        self.display.sync()
        wait_until(lambda: self.window.get_attributes().map_state == X.IsViewable, "the window is there")
        self.window.set_input_focus(X.RevertToParent, X.CurrentTime)
        self.display.sync()
        assert self.display.get_input_focus().focus == self.window

    def press(self, *keysyms: str) -> None:
        codes = [self.display.keysym_to_keycode(XK.string_to_keysym(one)) for one in keysyms]
        assert all(codes)
        for code in codes:
            xtest.fake_input(self.display, X.KeyPress, code)
        for code in reversed(codes):
            xtest.fake_input(self.display, X.KeyRelease, code)
        self.display.sync()

    def seen(self) -> int:
        """How many keys the window itself has got since the last look."""
        self.display.sync()
        count = 0
        while self.display.pending_events():
            count += self.display.next_event().type == X.KeyPress
        return count


@pytest.fixture
def other(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Other]:
    monkeypatch.setenv("DISPLAY", server)
    other = Other(server)
    yield other
    other.display.close()


def test_it_is_heard_while_another_window_has_the_focus(other: Other) -> None:
    with Hearing(X11Listener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands() == Standing(True, "Ctrl+Alt+0")
        for number in range(1, 4):
            other.press("Control_L", "Alt_L", "0")
            wait_until(lambda number=number: hearing.pressed == number, "it is heard")  # type: ignore[misc]
        other.seen()
        other.press("0")
        other.press("Control_L", "0")
        other.press("Control_L", "Alt_L", "Shift_L", "0")
        wait_until(lambda: other.seen() >= 3, "other keys are the other window's")
        assert hearing.pressed == 3
    other.press("Control_L", "Alt_L", "0")
    wait_until(lambda: other.seen() >= 3, "afterwards this one is, too")
    assert hearing.pressed == 3


def test_caps_lock_and_num_lock_do_not_matter(other: Other) -> None:
    with Hearing(X11Listener, "Pause") as hearing:
        assert hearing.stands().heard
        for lock in ("Caps_Lock", "Num_Lock"):
            other.press(lock)
            other.press("Pause")
        wait_until(lambda: hearing.pressed == 2, "it is heard with both on")
        for lock in ("Caps_Lock", "Num_Lock"):
            other.press(lock)


def test_a_key_that_another_program_has_is_told(other: Other) -> None:
    with Hearing(X11Listener, "F9") as first:
        assert first.stands().heard
        second = Hearing(X11Listener, "F9")
        second.listener.start()
        standing = second.stands()
        assert not standing.heard
        assert standing.text.startswith("key: F9 is another program's already")
        second.listener.stop()
        other.press("F9")
        wait_until(lambda: first.pressed == 1, "the first one has it still")


def test_another_layout_does_not_lose_it(other: Other) -> None:
    """The key moves to another place of the keyboard, as by a change of layout."""
    with Hearing(X11Listener, "Ctrl+Alt+F20") as hearing:
        standing = hearing.stands()
        assert not standing.heard
        assert "is not on this keyboard" in standing.text
    free = other.display.keysym_to_keycode(XK.XK_F11)
    with Hearing(X11Listener, "F11") as hearing:
        assert hearing.stands().heard
        names = [XK.XK_F12, XK.XK_F11]
        other.display.change_keyboard_mapping(free, [[name] * 2 for name in names])
        other.display.sync()

        def heard_when_pressed() -> bool:  # the listener may not have heard of the new layout at once
            xtest.fake_input(other.display, X.KeyPress, free + 1)
            xtest.fake_input(other.display, X.KeyRelease, free + 1)
            other.display.sync()
            return hearing.pressed >= 1

        wait_until(heard_when_pressed, "it is heard at its new place")
        other.display.change_keyboard_mapping(free, [[name] * 2 for name in reversed(names)])
        other.display.sync()


def test_a_server_that_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with subprocess.Popen(["Xvfb", "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL) as process:
        os.close(write)
        with os.fdopen(read) as told:
            monkeypatch.setenv("DISPLAY", f":{told.readline().strip()}")
        with Hearing(X11Listener, "F9") as hearing:
            assert hearing.stands().heard
            process.kill()
            standing = hearing.stands()
            assert not standing.heard
            assert standing.text.startswith("the X server has ended")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Xlib leaves its sockets to Python
def test_no_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    with Hearing(X11Listener, "F9") as hearing:
        assert hearing.stands().text.startswith("the X server does not answer for a key")
    with pytest.raises(AppError, match="the X server does not answer for a key"):
        X11Listener.check()
    gc.collect()


@pytest.mark.usefixtures("other")
def test_the_doctor_says_so() -> None:
    found = examine_keys({"DISPLAY": os.environ["DISPLAY"]}, "linux")
    assert found.good
    assert found.sentence == "Can be chosen in the window: the X server gives the key to this app."
    assert listener_for({"DISPLAY": ":1"}, "linux")[0] is X11Listener
