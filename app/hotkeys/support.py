"""Which way of hearing a key this system has, for the window and the doctor."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.errors import AppError
from app.hotkeys.keys import parse_key
from app.hotkeys.listening import KeyListener, Standing
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.doctor import Finding


def listener_for(
    environment: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> "tuple[type[KeyListener] | None, str]":
    """What hears keys on this system.

    Returns:
        The listener and how it does so, for people; or None and why nothing does.
    """
    if platform == "win32":
        from app.hotkeys.windows import WindowsListener

        return WindowsListener, phrase("Windows gives the key to this app")
    if platform == "darwin":
        return None, phrase(
            "macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run "
            "mcnet-avatar ctl slate by a key"
        )
    if environment.get("WAYLAND_DISPLAY") or environment.get("XDG_SESSION_TYPE") == "wayland":
        if not environment.get("DBUS_SESSION_BUS_ADDRESS"):
            return None, phrase(
                "this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key "
                "in the desktop's own settings"
            )
        from app.hotkeys.portal import PortalListener

        return PortalListener, phrase("the desktop is asked for the key, and may ask you")
    if environment.get("DISPLAY"):
        from app.hotkeys.x11 import X11Listener

        return X11Listener, phrase("the X server gives the key to this app")
    return None, phrase("there is no desktop to hear a key on")


def listen_for(text: str, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> KeyListener:
    """A listener for a key, not started yet.

    Args:
        text: the key, as `parse_key` reads it.
        pressed: as of `KeyListener`.
        tell: likewise.

    Raises:
        AppError: it is no key, or this system gives none.
    """
    key = parse_key(text)
    kind, why = listener_for()
    if kind is None:
        raise AppError(why)
    return kind(key, pressed, tell)


def examine_keys(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> "Finding":
    """Whether a key can be heard while another window has the focus; nothing is wrong where it cannot."""
    from app.pipeline.doctor import Finding

    kind, words = listener_for(environment, platform)
    if kind is not None:
        try:
            kind.check()
        except AppError as error:
            kind, words = None, str(error)
    if kind is None:
        said = phrase("Not possible here while another window has the focus: {words}.", words=words)
    else:
        said = phrase("Can be chosen in the window: {words}.", words=words)
    return Finding(phrase("Panic key"), True, said)
