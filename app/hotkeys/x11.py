"""A key on X11: taken from the root window, so that every other window's focus lets it through to us."""

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

from Xlib import XK, X, error
from Xlib.display import Display

from app.errors import AppError
from app.hotkeys.keys import KeyCombination
from app.hotkeys.listening import KeyListener, Standing
from mcnet.phrases import phrase

_MASKS = {"Ctrl": X.ControlMask, "Alt": X.Mod1Mask, "Shift": X.ShiftMask, "Meta": X.Mod4Mask}
_MODIFIER_OF = (X.ShiftMask, X.LockMask, X.ControlMask, X.Mod1Mask, X.Mod2Mask, X.Mod3Mask, X.Mod4Mask, X.Mod5Mask)


class X11Listener(KeyListener):
    """Grabs the key, whatever the state of Caps Lock and Num Lock; has a connection of its own to the X server."""

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        super().__init__(key, pressed, tell)
        self._lock = threading.Lock()  # of the next one
        self._waker: int | None = None

    @classmethod
    def check(cls) -> None:
        with _display():
            pass

    def wake(self) -> None:
        with self._lock:
            if self._waker is not None:
                os.write(self._waker, b"x")

    def listen(self) -> None:
        woken, waker = os.pipe()
        with self._lock:
            self._waker = waker
        try:
            with _display() as display:
                self._grab(display)
                self.tell(Standing(True, str(self.key)))
                self._hear(display, woken)
        finally:
            with self._lock:
                self._waker = None
            os.close(waker)
            os.close(woken)

    def _hear(self, display: Any, woken: int) -> None:
        while not self.stopping.is_set():
            while display.pending_events():
                event = display.next_event()
                if event.type == X.KeyPress:
                    self.pressed()
                elif event.type == X.MappingNotify and event.request != X.MappingPointer:
                    display.refresh_keyboard_mapping(event)  # another layout: the key may be elsewhere
                    display.screen().root.ungrab_key(X.AnyKey, X.AnyModifier)
                    self._grab(display)
            select.select([display.fileno(), woken], [], [])

    def _grab(self, display: Any) -> None:
        keycode = display.keysym_to_keycode(XK.string_to_keysym(self.key.keysym))
        if not keycode:
            raise AppError(
                phrase("key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0", key=self.key)
            )
        wanted = sum(_MASKS[modifier] for modifier in self.key.modifiers)
        refused = error.CatchError(error.BadAccess)
        for locks in _lock_masks(display):
            display.screen().root.grab_key(
                keycode, wanted | locks, False, X.GrabModeAsync, X.GrabModeAsync, onerror=refused
            )
        display.sync()
        if refused.get_error() is not None:
            display.screen().root.ungrab_key(X.AnyKey, X.AnyModifier)
            raise AppError(
                phrase(
                    "key: {key} is another program's already, the desktop's maybe: choose another one",
                    key=self.key,
                )
            )


@contextlib.contextmanager
def _display() -> Iterator[Any]:
    """A connection to the X server.

    Raises:
        AppError: it does not answer, or goes away.
    """
    try:
        display = Display()
    except (error.DisplayError, error.XauthError, OSError) as failure:
        raise AppError(phrase("the X server does not answer for a key: {failure}", failure=failure)) from failure
    try:
        yield display
    except error.ConnectionClosedError as failure:
        raise AppError(phrase("the X server has ended: {failure}", failure=failure)) from failure
    finally:
        with contextlib.suppress(error.ConnectionClosedError, OSError):
            display.close()


def _lock_masks(display: Any) -> list[int]:
    """Every combination of Caps Lock and Num Lock, as masks."""
    number = display.keysym_to_keycode(XK.XK_Num_Lock)
    mapping = display.get_modifier_mapping()
    num_lock = next((mask for mask, codes in zip(_MODIFIER_OF, mapping, strict=True) if number and number in codes), 0)
    return sorted({0, X.LockMask, num_lock, X.LockMask | num_lock})
