"""Windows, by fakes of its libraries, and systems that give no key. Nothing of it was run on Windows."""

import ctypes
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.hotkeys import windows
from app.hotkeys.listening import Standing
from app.hotkeys.support import examine_keys, listener_for
from app.hotkeys.windows import WM_HOTKEY, WM_QUIT, WindowsListener
from tests.app.fakes import wait_until
from tests.app.hotkeys.hearing import Hearing


class FakeUser32:
    """Takes keys and hands out messages, as user32 does."""

    def __init__(self) -> None:
        self.registered: list[tuple[int, int]] = []
        self.unregistered = 0
        self.taken = False
        self.messages: queue.SimpleQueue[int] = queue.SimpleQueue()

    def PeekMessageW(self, *_: object) -> int:  # noqa: N802
        return 0

    def RegisterHotKey(self, window: None, number: int, modifiers: int, key: int) -> int:  # noqa: N802
        self.registered.append((modifiers, key))
        return not self.taken

    def UnregisterHotKey(self, window: None, number: int) -> int:  # noqa: N802
        self.unregistered += 1
        return 1

    def PostThreadMessageW(self, thread: int, message: int, *_: object) -> int:  # noqa: N802
        assert thread == 4711
        self.messages.put(message)
        return 1

    def GetMessageW(self, place: Any, *_: object) -> int:  # noqa: N802
        message = ctypes.cast(place, ctypes.POINTER(windows._Message)).contents
        message.message = self.messages.get(timeout=10)
        return int(message.message != WM_QUIT)


class FakeKernel32:
    def GetCurrentThreadId(self) -> int:  # noqa: N802
        assert threading.current_thread().name == "hot key"
        return 4711


@pytest.fixture
def user32(monkeypatch: pytest.MonkeyPatch) -> FakeUser32:
    fake = FakeUser32()
    monkeypatch.setattr(windows, "_libraries", lambda: (fake, FakeKernel32()))
    return fake


def test_windows_gives_the_key_and_takes_it_back(user32: FakeUser32) -> None:
    with Hearing(WindowsListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands() == Standing(True, "Ctrl+Alt+0")
        assert user32.registered == [(0x1 | 0x2 | 0x4000, 0x30)]
        user32.messages.put(0x0100)
        user32.messages.put(WM_HOTKEY)
        wait_until(lambda: hearing.pressed == 1, "it is heard")
    assert user32.unregistered == 1


def test_windows_has_given_it_to_another_program(user32: FakeUser32) -> None:
    user32.taken = True
    with Hearing(WindowsListener, "F9") as hearing:
        assert hearing.stands() == Standing(False, "key: F9 is another program's already: choose another one")
    assert user32.unregistered == 0


def test_systems_that_give_no_key_say_so() -> None:
    assert listener_for({}, "win32")[0] is WindowsListener
    kind, why = listener_for({}, "darwin")
    assert kind is None
    assert "mcnet-avatar ctl slate" in why
    found = examine_keys({}, "linux")
    assert (found.part, found.good) == ("Panic key", True)
    assert (
        found.sentence == "Not possible here while another window has the focus: there is no desktop to hear a key on."
    )


def test_the_doctor_tells_of_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.pipeline.doctor.check_up", lambda *_: ())  # the other findings have their own tests
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["--doctor"]) == 0
    if sys.platform.startswith("linux"):
        assert "[ok] Panic key: Not possible here while another window has the focus" in capsys.readouterr().out
