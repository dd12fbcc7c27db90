"""A key by a portal: a fake one on a private message bus."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.hotkeys.listening import Standing
from app.hotkeys.support import examine_keys, listener_for
from tests.app.fakes import wait_until
from tests.app.hotkeys.hearing import Hearing

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="portals are Linux's"),
    pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="no dbus-daemon: apt-get install dbus-daemon"),
]
if sys.platform.startswith("linux"):
    from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_error, new_method_return, new_signal
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import Proxy, open_dbus_connection

    from app.hotkeys import portal as portals
    from app.hotkeys.portal import BUS_NAME, PATH, SHORTCUTS, PortalListener


TAKEN_BACK = Standing(False, "the desktop has taken the key back; it is asked again in 0.01 s")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portals, "_FIRST_PAUSE_S", 0.01)


class FakePortal:
    """Answers as a desktop's portal does, on a thread of its own.

    Attributes:
        shortcuts: what was asked for.
        apps: which apps have introduced themselves.
        answer: of the user to the desktop's dialog: 0 yes, 1 no; None: the user has not answered.
        given: whether the desktop binds the key.
    """

    def __init__(self, bus: str) -> None:
        self.shortcuts: list[Any] = []
        self.apps: list[str] = []
        self.answer: int | None = 0
        self.given = True
        self.session = ""
        self._connection = open_dbus_connection(bus)
        Proxy(message_bus, self._connection).RequestName(BUS_NAME)
        self._thread = threading.Thread(target=self._serve, name="fake portal", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._connection.sock.shutdown(2)
        self._thread.join(10)
        self._connection.close()

    def emit(self, member: str, signature: str, *body: Any, path: str = PATH, interface: str = "") -> None:
        self._connection.send(new_signal(DBusAddress(path, None, interface or SHORTCUTS), member, signature, body))

    def _serve(self) -> None:
        while True:
            try:
                message = self._connection.receive()
                if message.header.message_type is MessageType.method_call:
                    self._take(message)
            except OSError:  # the test is over, at any moment of a call
                return

    def _take(self, message: Message) -> None:
        fields, body = message.header.fields, message.body
        match fields[HeaderFields.member]:
            case "Register":
                self.apps.append(body[0])
                self._connection.send(new_method_return(message))
            case "Get":
                self._connection.send(new_method_return(message, "v", (("u", 1),)))
            case "CreateSession":
                sender = fields[HeaderFields.sender][1:].replace(".", "_")
                self.session = f"{PATH}/session/{sender}/{body[0]['session_handle_token'][1]}"
                self._respond(message, body[0], {"session_handle": ("s", self.session)})
            case "BindShortcuts":
                assert body[0] == self.session
                self.shortcuts = body[1]
                bound = [(body[1][0][0], {"trigger_description": ("s", "Strg+Alt+0")})] if self.given else []
                self._respond(message, body[3], {"shortcuts": ("a(sa{sv})", bound)}, self.answer)
            case other:
                error = "org.freedesktop.DBus.Error.UnknownMethod"
                self._connection.send(new_error(message, error, "s", (f"no {other}",)))

    def _respond(
        self, message: Message, options: dict[str, Any], results: dict[str, Any], answer: int | None = 0
    ) -> None:
        sender = message.header.fields[HeaderFields.sender][1:].replace(".", "_")
        path = f"{PATH}/request/{sender}/{options['handle_token'][1]}"
        self._connection.send(new_method_return(message, "o", (path,)))
        if answer is not None:
            interface = "org.freedesktop.portal.Request"
            self.emit("Response", "ua{sv}", answer, results, path=path, interface=interface)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        try:
            yield address
        finally:
            process.kill()


@pytest.fixture
def portal(bus: str) -> Iterator[FakePortal]:
    portal = FakePortal(bus)
    yield portal
    portal.end()


def test_it_is_asked_for_and_heard(portal: FakePortal) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands() == Standing(True, "Strg+Alt+0")
        assert portal.shortcuts == [
            ("slate", {"description": ("s", "Slate: show no face"), "preferred_trigger": ("s", "CTRL+ALT+0")})
        ]
        assert portal.apps == ["io.github.mcnet_avatar.McnetAvatar"]
        portal.emit("Activated", "osta{sv}", f"{portal.session}2", "slate", 1, {})  # another app's
        portal.emit("Activated", "osta{sv}", portal.session, "other", 1, {})
        portal.emit("Activated", "osta{sv}", portal.session, "slate", 1, {})
        portal.emit("Deactivated", "osta{sv}", portal.session, "slate", 2, {})
        wait_until(lambda: hearing.pressed == 1, "it is heard")
        changed = [("slate", {"trigger_description": ("s", "Pause")})]
        portal.emit("ShortcutsChanged", "oa(sa{sv})", portal.session, changed)
        assert hearing.stands() == Standing(True, "Pause")
        portal.emit("Activated", "osta{sv}", portal.session, "slate", 3, {})
        wait_until(lambda: hearing.pressed == 2, "once for each time")


@pytest.mark.parametrize(
    ("answer", "given", "said"),
    [
        (1, True, "the key was not given in the desktop's dialog: choose it again"),
        (2, True, "the desktop's portal has refused the key"),
        (0, False, "the desktop did not give the key: allow it"),
    ],
)
def test_a_key_that_is_not_given_is_told(portal: FakePortal, answer: int, given: bool, said: str) -> None:
    portal.answer, portal.given = answer, given
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        standing = hearing.stands()
    assert not standing.heard
    assert standing.text.startswith(said)


def test_it_can_be_given_up_while_the_desktops_dialog_waits(portal: FakePortal) -> None:
    portal.answer = None
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        wait_until(lambda: bool(portal.shortcuts), "it is asked for")
    assert not hearing.standings


def test_a_session_that_is_closed_is_told(portal: FakePortal) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().heard
        portal.emit("Closed", "a{sv}", {}, path=portal.session, interface="org.freedesktop.portal.Session")
        assert hearing.stands() == TAKEN_BACK
        assert hearing.stands().heard  # asked for again by itself
        portal.emit("Activated", "osta{sv}", portal.session, "slate", 1, {})
        wait_until(lambda: hearing.pressed == 1, "it is heard again")


def test_a_portal_that_ends_and_comes_back_is_asked_again_and_told_of_once(
    bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = FakePortal(bus)
    asked = []
    monkeypatch.setattr(portals, "_introduce", lambda connection: asked.append(connection.unique_name))
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().heard
        portal.end()
        assert hearing.stands() == TAKEN_BACK
        missing = hearing.stands()  # it is still away
        assert missing.text.startswith("this desktop's portal gives no keys to apps (")
        assert missing.text.endswith("; until it can be had again, it is asked for from time to time")
        wait_until(lambda: len(asked) > 4, "it is asked again and again")
        assert not hearing.standings, "it is told once"
        portal = FakePortal(bus)
        assert hearing.stands().heard
        portal.emit("Activated", "osta{sv}", portal.session, "slate", 1, {})
        wait_until(lambda: hearing.pressed == 1, "it is heard again")
    portal.end()


def test_a_bus_that_ends_for_good_is_told_of_once(portal: FakePortal, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().heard
        asked: list[str] = []

        def refuse(kind: str) -> None:
            asked.append(kind)
            raise ConnectionRefusedError("nobody listens")

        monkeypatch.setattr(portals, "open_dbus_connection", refuse)
        portal.emit("Closed", "a{sv}", {}, path=portal.session, interface="org.freedesktop.portal.Session")
        assert hearing.stands() == TAKEN_BACK
        wait_until(lambda: len(asked) > 4, "it is asked again and again")
        (said,) = hearing.standings
        assert said.text == (
            "the session's message bus does not answer: nobody listens; until it can be had again, it is asked for "
            "from time to time"
        )


def test_a_key_that_the_user_has_taken_back_is_asked_for_once_more_only(portal: FakePortal) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().heard
        portal.answer = 1
        portal.shortcuts = []
        portal.emit("Closed", "a{sv}", {}, path=portal.session, interface="org.freedesktop.portal.Session")
        assert hearing.stands() == TAKEN_BACK
        last = hearing.stands()
        assert last.text.startswith("the key was not given in the desktop's dialog: choose it again")
        wait_until(lambda: not hearing.listener._thread.is_alive(), "it is given up")


def test_a_desktop_that_gives_and_takes_is_not_asked_for_ever(portal: FakePortal) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        for _ in range(portals._MOST_LOSSES):
            assert hearing.stands().heard
            portal.emit("Closed", "a{sv}", {}, path=portal.session, interface="org.freedesktop.portal.Session")
            last = hearing.stands()
        assert last == Standing(
            False, "the key was lost 6 times in a row (the desktop has taken the key back): choose it again"
        )


def test_the_pause_before_it_is_asked_again_can_be_ended(portal: FakePortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portals, "_FIRST_PAUSE_S", 60.0)
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().heard
        portal.emit("Closed", "a{sv}", {}, path=portal.session, interface="org.freedesktop.portal.Session")
        assert hearing.stands().text == "the desktop has taken the key back; it is asked again in 60 s"


def test_a_portal_that_ends_while_its_dialog_waits_is_told(bus: str) -> None:
    portal = FakePortal(bus)
    portal.answer = None
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        wait_until(lambda: bool(portal.shortcuts), "it is asked for")
        portal.end()
        assert hearing.stands() == TAKEN_BACK


def test_a_desktop_without_one_is_told(bus: str) -> None:
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        standing = hearing.stands()
    assert not standing.heard
    assert standing.text.startswith("this desktop's portal gives no keys to apps (")
    assert "bind mcnet-avatar ctl slate to a key" in standing.text
    found = examine_keys({"WAYLAND_DISPLAY": "wayland-0", "DBUS_SESSION_BUS_ADDRESS": bus}, "linux")
    assert found.good
    assert found.sentence.startswith("Not possible here while another window has the focus: this desktop's portal")


def test_the_doctor_asks_it(portal: FakePortal, bus: str) -> None:
    found = examine_keys({"WAYLAND_DISPLAY": "wayland-0", "DBUS_SESSION_BUS_ADDRESS": bus}, "linux")
    assert found.sentence == "Can be chosen in the window: the desktop is asked for the key, and may ask you."
    assert not portal.shortcuts


def test_no_bus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    with Hearing(PortalListener, "Ctrl+Alt+0") as hearing:
        assert hearing.stands().text.startswith("the session's message bus does not answer")
    kind, why = listener_for({"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, "linux")
    assert kind is None, "X11 hears nothing of Wayland's windows"
    assert "has no message bus" in why
