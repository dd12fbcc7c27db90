"""A key on Wayland: the desktop hears it and tells us, by the portal GlobalShortcuts, where the desktop has it.

The desktop asks the user, who may choose another key there. A desktop that takes the key back (its portal was
restarted, the session was locked) is asked again. https://flatpak.github.io/xdg-desktop-portal
"""

import contextlib
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

from app.errors import AppError
from app.hotkeys.keys import KeyCombination
from app.hotkeys.listening import KeyListener, Standing
from mcnet.phrases import phrase

BUS_NAME = "org.freedesktop.portal.Desktop"
PATH = "/org/freedesktop/portal/desktop"
SHORTCUTS = "org.freedesktop.portal.GlobalShortcuts"
APP_ID = "io.github.mcnet_avatar.McnetAvatar"
_SHORTCUT = "slate"
_CALL_S = 10.0
_CANCELLED = 1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LASTING_S = 60.0
_MOST_LOSSES = 6
"""Lost so often in a row, and each time within a minute, the key is not asked for again: the desktop may show its
dialog each time."""
_numbers = itertools.count(1)


class _LostError(AppError):
    """The key was taken back, or could not be asked for to the end; not by the user's answer."""


class _RefusedError(AppError):
    """The user, or the desktop for him, does not give the key."""


class PortalListener(KeyListener):
    """Asks the desktop's portal for the key, and hears from it; has a connection of its own to the session's bus.

    What was lost is asked for again, after a pause that doubles each time; what was refused is not. As long as there is
    no portal or no bus after a loss, that goes on without a word: it was told once, and comes back with the desktop.
    """

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        super().__init__(key, pressed, tell)
        self._connection: DBusConnection | None = None
        self._heard_since_s: float | None = None

    @classmethod
    def check(cls) -> None:
        properties = DBusAddress(PATH, BUS_NAME, "org.freedesktop.DBus.Properties")
        with _bus() as connection:
            call = new_method_call(properties, "Get", "ss", (SHORTCUTS, "version"))
            _raise_for(connection.send_and_get_reply(call, timeout=_CALL_S))

    def wake(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def listen(self) -> None:
        losses, was_there, missed, pause_s = 0, False, False, _FIRST_PAUSE_S
        while not self.stopping.is_set():
            try:
                self._ask_and_listen()
                return
            except _RefusedError:
                raise
            except AppError as error:
                since_s, lost = self._heard_since_s, isinstance(error, _LostError)
                was_there = was_there or lost  # what was never there cannot come back
                if since_s is not None and time.monotonic() - since_s >= _LASTING_S:
                    losses, pause_s = 0, _FIRST_PAUSE_S
                losses += lost
                if not was_there or self.stopping.is_set():
                    raise
                if losses >= _MOST_LOSSES:
                    raise AppError(
                        phrase("the key was lost {n} times in a row ({error}): choose it again", n=losses, error=error)
                    ) from error
                if lost:
                    again = phrase("{error}; it is asked again in {pause_s:g} s", error=error, pause_s=pause_s)
                else:
                    again = phrase("{error}; until it can be had again, it is asked for from time to time", error=error)
            if lost or not missed:
                self.tell(Standing(False, again))
            missed = not lost
            self.stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ask_and_listen(self) -> None:
        self._heard_since_s = None
        with _bus() as connection:
            self._connection = connection
            try:
                if not self.stopping.is_set():
                    self._listen(connection)
            finally:
                self._connection = None

    def _listen(self, connection: DBusConnection) -> None:
        _introduce(connection)
        heard: deque[Message] = deque()
        with contextlib.ExitStack() as stack:
            stack.enter_context(_heard(connection, _owner_changes(), heard))
            session = self._session(connection)
            for signal in ("Activated", "ShortcutsChanged"):
                rule = MatchRule(type="signal", interface=SHORTCUTS, member=signal, path=PATH)
                stack.enter_context(_heard(connection, rule, heard))
            closed = MatchRule(type="signal", interface="org.freedesktop.portal.Session", member="Closed", path=session)
            stack.enter_context(_heard(connection, closed, heard))
            shortcut = {"description": ("s", "Slate: show no face"), "preferred_trigger": ("s", self.key.trigger)}
            results = self._request(connection, "BindShortcuts", "oa(sa{sv})s", (session, [(_SHORTCUT, shortcut)], ""))
            self._tell_bound(results)
            while not self.stopping.is_set():
                self._take(connection.recv_until_filtered(heard), session)

    def _take(self, message: Message, session: str) -> None:
        member = message.header.fields[HeaderFields.member]
        if member == "Activated" and message.body[:2] == (session, _SHORTCUT):
            self.pressed()
        elif member == "ShortcutsChanged" and message.body[0] == session:
            self._tell_bound({"shortcuts": ("a(sa{sv})", message.body[1])})
        elif member == "Closed" or _tells_of_the_end(message):
            raise _LostError(phrase("the desktop has taken the key back"))

    def _tell_bound(self, results: dict[str, tuple[str, Any]]) -> None:
        shortcuts = dict(results.get("shortcuts", ("", []))[1])
        if _SHORTCUT not in shortcuts:
            raise _RefusedError(phrase("the desktop did not give the key: allow it in its settings for shortcuts"))
        description = shortcuts[_SHORTCUT].get("trigger_description", ("s", ""))[1]
        if self._heard_since_s is None:
            self._heard_since_s = time.monotonic()
        self.tell(Standing(True, description or str(self.key)))

    def _session(self, connection: DBusConnection) -> str:
        token = ("s", f"mcnet_avatar_{os.getpid()}_{next(_numbers)}")
        results = self._request(connection, "CreateSession", "", (), session_handle_token=token)
        return str(results["session_handle"][1])

    def _request(
        self, connection: DBusConnection, method: str, signature: str, body: tuple[Any, ...], **options: Any
    ) -> dict[str, tuple[str, Any]]:
        """Call a method of the portal, whose answer comes later, as a signal: when the user has answered the desktop.

        Raises:
            AppError: there is no such portal, or it refuses, or ends before the user has answered.
        """
        token = f"mcnet_avatar_{os.getpid()}_{next(_numbers)}"
        sender = connection.unique_name[1:].replace(".", "_")
        answers: deque[Message] = deque()
        path = f"{PATH}/request/{sender}/{token}"
        rule = MatchRule(type="signal", interface="org.freedesktop.portal.Request", member="Response", path=path)
        address = DBusAddress(PATH, BUS_NAME, SHORTCUTS)
        with _heard(connection, rule, answers), connection.filter(_owner_changes(), queue=answers):
            call = new_method_call(
                address, method, f"{signature}a{{sv}}", (*body, {"handle_token": ("s", token), **options})
            )
            reply = connection.send_and_get_reply(call, timeout=_CALL_S)
            _raise_for(reply)
            answer = connection.recv_until_filtered(answers)
            while answer.header.fields[HeaderFields.member] != "Response":
                if _tells_of_the_end(answer):
                    raise _LostError(phrase("the desktop has taken the key back"))
                answer = connection.recv_until_filtered(answers)
            status, results = answer.body
        if status:
            if status == _CANCELLED:
                raise _RefusedError(
                    phrase("the key was not given in the desktop's dialog: choose it again to be asked")
                )
            raise _RefusedError(phrase("the desktop's portal has refused the key: bind mcnet-avatar ctl slate there"))
        return dict(results)


@contextlib.contextmanager
def _bus() -> Iterator[DBusConnection]:
    """A connection to the session's message bus.

    Raises:
        AppError: it does not answer, or ends; or the portal does not answer.
    """
    try:
        connection = open_dbus_connection("SESSION")
    except (OSError, KeyError, ValueError) as error:
        raise AppError(phrase("the session's message bus does not answer: {error}", error=error)) from error
    with connection:
        try:
            yield connection
        except TimeoutError as error:
            raise _LostError(phrase("the desktop's portal does not answer")) from error
        except OSError as error:
            raise _LostError(phrase("the session's message bus has ended: {error}", error=error)) from error


def _raise_for(reply: Message) -> None:
    """Raise what the portal has refused.

    Raises:
        AppError: it has.
    """
    if reply.header.message_type is MessageType.error:
        said = reply.body[0] if reply.body else reply.header.fields[HeaderFields.error_name]
        raise AppError(
            phrase(
                "this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the "
                "desktop's own settings",
                error=said,
            )
        )


@contextlib.contextmanager
def _heard(connection: DBusConnection, rule: MatchRule, queue: "deque[Message]") -> Iterator[None]:
    """Have signals of a rule put into a queue."""
    Proxy(message_bus, connection).AddMatch(rule)
    with connection.filter(rule, queue=queue):
        yield


def _owner_changes() -> MatchRule:
    """The portal ends, or another one takes its place."""
    rule = MatchRule(
        type="signal", interface="org.freedesktop.DBus", member="NameOwnerChanged", path="/org/freedesktop/DBus"
    )
    rule.add_arg_condition(0, BUS_NAME)
    return rule


def _tells_of_the_end(message: Message) -> bool:
    return message.header.fields[HeaderFields.member] == "NameOwnerChanged" and not message.body[2]


def _introduce(connection: DBusConnection) -> None:
    """Say which app this is, as newer portals want it of those that come from no sandbox; older ones guess."""
    registry = DBusAddress(PATH, BUS_NAME, "org.freedesktop.host.portal.Registry")
    connection.send_and_get_reply(new_method_call(registry, "Register", "sa{sv}", (APP_ID, {})), timeout=_CALL_S)
