"""A key on Windows: registered for a thread of ours, whose messages tell of it. Not run on Windows yet."""

import ctypes
from collections.abc import Callable
from typing import Any

from app.errors import AppError
from app.hotkeys.keys import KeyCombination
from app.hotkeys.listening import KeyListener, Standing
from mcnet.phrases import phrase

_MODIFIERS = {"Alt": 0x1, "Ctrl": 0x2, "Shift": 0x4, "Meta": 0x8}
_NO_REPEAT = 0x4000
_ID = 1
WM_HOTKEY, WM_QUIT, WM_USER = 0x0312, 0x0012, 0x0400


class _Message(ctypes.Structure):
    """Windows' MSG."""

    _fields_ = (
        ("window", ctypes.c_void_p),
        ("message", ctypes.c_uint),
        ("w_param", ctypes.c_size_t),
        ("l_param", ctypes.c_ssize_t),
        ("time", ctypes.c_ulong),
        ("x", ctypes.c_long),
        ("y", ctypes.c_long),
    )


class WindowsListener(KeyListener):
    """Registers the key with Windows."""

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        super().__init__(key, pressed, tell)
        self._user, self._kernel = _libraries()
        self._thread_id = 0

    @classmethod
    def check(cls) -> None:
        _libraries()

    def wake(self) -> None:
        if self._thread_id:
            self._user.PostThreadMessageW(self._thread_id, WM_QUIT, 0, 0)

    def listen(self) -> None:
        message = _Message()
        self._user.PeekMessageW(ctypes.byref(message), None, WM_USER, WM_USER, 0)  # makes the thread's queue
        self._thread_id = self._kernel.GetCurrentThreadId()
        modifiers = sum(_MODIFIERS[modifier] for modifier in self.key.modifiers) | _NO_REPEAT
        if not self._user.RegisterHotKey(None, _ID, modifiers, self.key.virtual_key):
            raise AppError(phrase("key: {key} is another program's already: choose another one", key=self.key))
        try:
            self.tell(Standing(True, str(self.key)))
            while not self.stopping.is_set() and self._user.GetMessageW(ctypes.byref(message), None, 0, 0) > 0:
                if message.message == WM_HOTKEY:
                    self.pressed()
        finally:
            self._user.UnregisterHotKey(None, _ID)


def _libraries() -> tuple[Any, Any]:
    """Windows' user32 and kernel32."""
    load: Any = getattr(ctypes, "WinDLL")  # noqa: B009 - only Windows' Python has it, which the type checker sees not
    return load("user32"), load("kernel32")
