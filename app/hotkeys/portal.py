"""A key on Wayland: the desktop hears it and tells us, by the portal GlobalShortcuts, where the desktop has it.

The desktop asks the user, who may choose another key there. https://flatpak.github.io/xdg-desktop-portal
"""

import contextlib
import itertools
import os
import socket
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
_numbers = itertools.count(1)


class PortalListener(KeyListener):
    """Asks the desktop's portal for the key, and hears from it; has a connection of its own to the session's bus."""

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        super().__init__(key, pressed, tell)
        self._connection: DBusConnection | None = None

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
            raise AppError(phrase("the desktop has taken the key back: choose it again"))

    def _tell_bound(self, results: dict[str, tuple[str, Any]]) -> None:
        shortcuts = dict(results.get("shortcuts", ("", []))[1])
        if _SHORTCUT not in shortcuts:
            raise AppError(phrase("the desktop did not give the key: allow it in its settings for shortcuts"))
        description = shortcuts[_SHORTCUT].get("trigger_description", ("s", ""))[1]
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
                    raise AppError(phrase("the desktop has taken the key back: choose it again"))
                answer = connection.recv_until_filtered(answers)
            status, results = answer.body
        if status:
            if status == _CANCELLED:
                raise AppError(phrase("the key was not given in the desktop's dialog: choose it again to be asked"))
            raise AppError(phrase("the desktop's portal has refused the key: bind mcnet-avatar ctl slate there"))
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
            raise AppError(phrase("the desktop's portal does not answer")) from error
        except OSError as error:
            raise AppError(phrase("the session's message bus has ended: {error}", error=error)) from error


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
