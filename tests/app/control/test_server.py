"""The server: who is let in, what is answered, and that nobody who listens can hold anybody up."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.control import access
from app.control.access import Access, Address
from app.control.facts import AppState
from app.control.protocol import COMMANDS, VERSION, Calibrate, RefusedError, Slate, Stop
from app.control.server import HOST, MOST_BYTES, MOST_CLIENTS, MOST_CONNECTIONS, ControlServer
from app.errors import AppError
from app.pipeline.events import CalibrationProgress, SinkFailed, StateChanged
from app.pipeline.state import State
from tests.app.control.asking import FakeOperator, Served, ask, control_threads
from tests.app.fakes import wait_until

PAGE = "http://localhost:3000"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, (PAGE,))
    yield served
    assert served.server.stop()
    assert served.server.stop()
    assert not control_threads()
    assert served.access.address() is None


def listening(
    served: Served, then: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]], **options: Any
) -> None:
    """Do something with a socket that listens."""

    async def listen() -> None:
        options.setdefault("headers", served.with_token)
        async with aiohttp.ClientSession() as session, session.ws_connect(served.url, **options) as connection:
            await asyncio.wait_for(then(connection), 20)

    asyncio.run(listen())


# Who is let in


def test_it_listens_on_this_computer_alone(served: Served) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {HOST}
    for address in [*others, "127.0.0.2"]:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((str(address), served.server.port), timeout=1).close()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer \xe9", "Basic {token}", "Bearer {token}0"]
)
def test_nobody_comes_in_without_the_token(served: Served, header: str | None) -> None:
    given = {} if header is None else {"Authorization": header.replace("{token}", served.token)}
    for path in ("/v1/state", "/v1/commands", "/v1/commands/slate", "/v1/events", "/", "/v1/nothing"):
        for method in ("GET", "POST", "OPTIONS"):
            status, answer = served.ask(method, path, headers=given)
            assert status == 401
            assert answer["error"]["code"] == "wrong_token"
            assert served.token not in json.dumps(answer)
    assert not served.operator.done
    assert not served.operator.panics


HOSTS = ["evil.example", "evil.example:{port}", HOST, f"{HOST}:1", "localhost.evil:{port}", ""]
ORIGINS = ["http://evil.example", "null", "", f"{PAGE}.evil.example", f"{PAGE}/"]


def test_a_name_that_leads_here_is_refused(served: Served) -> None:
    for host in HOSTS:
        given = {**served.with_token, "Host": host.replace("{port}", str(served.server.port))}
        status, answer = served.ask("POST", "/v1/commands/slate", headers=given)
        assert status == 403
        assert "got the host" in answer["error"]["message"]
    assert not served.operator.panics


def test_a_page_that_nobody_allowed_is_refused(served: Served) -> None:
    for origin in ORIGINS:
        for path in ("/v1/commands/slate", "/v1/events"):
            status, answer = served.ask("POST", path, headers={**served.with_token, "Origin": origin})
            assert (status, answer["error"]["code"]) == (403, "not_allowed")
    assert not served.operator.panics


def test_a_page_that_is_allowed_shows_the_token_as_a_protocol(served: Served) -> None:
    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        assert (await connection.receive_json())["type"] == "state"
        assert connection.protocol == "mcnet-avatar.v1"

    protocols = ("mcnet-avatar.v1", f"mcnet-avatar.token.{served.token}")
    listening(served, see, protocols=protocols, headers={"Origin": PAGE})
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        listening(served, see, protocols=("mcnet-avatar.v1", "mcnet-avatar.token.no"), headers={"Origin": PAGE})


def has_ended(connection: socket.socket, within_s: float) -> bool:
    connection.settimeout(within_s)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_whoever_asks_nothing_takes_no_more_than_so_many_connections_for_so_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.control.server._FIRST_REQUEST_S", 2.0)
    with contextlib.ExitStack() as stack:
        address = HOST, served.server.port
        crowd = [stack.enter_context(socket.create_connection(address)) for _ in range(MOST_CONNECTIONS + 36)]
        crowd[0].sendall(b"GET /v1/state HTTP/1.1\r\nHost: slow")
        wait_until(lambda: sum(has_ended(one, 0.001) for one in crowd) >= 36, "those beyond are let go at once")
        assert len(served.server._silent) == MOST_CONNECTIONS
        assert all(has_ended(one, 20) for one in crowd), "and the others, who ask nothing"
        assert served.ask("GET", "/v1/state")[0] == 200
        stranger = stack.enter_context(socket.create_connection(address))
        stranger.sendall(b"GET /v1/state HTTP/1.1\r\nHost: stranger\r\n\r\n")
        stranger.settimeout(20)
        while stranger.recv(4096):
            pass  # it is told, and its connection is not kept
    assert not served.server._silent


# What is answered


STRANGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + 500 * b"\xa5",  # a browser that tries https
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + 100_000 * b"a" + b" HTTP/1.1\r\n\r\n",
    b"POST /v1/commands/nope\xed\xa0\x80 HTTP/1.1\r\n\r\n",
    b"POST /v1/commands/slate HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"GET /v1/state HTTP/1.1\r\n" + 5000 * b"X: a\r\n" + b"\r\n",
]


@pytest.mark.parametrize("sent", STRANGE)
def test_what_is_no_http_is_refused_and_leaves_no_traceback(
    served: Served, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_connection((HOST, served.server.port), timeout=5) as connection:
        for _ in range(2):  # aiohttp itself is quiet about the first request alone, and of some kinds only
            with contextlib.suppress(OSError):
                connection.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert b"400 Bad Request" in connection.recv(4096)
    assert "Traceback" not in caplog.text
    assert {record.levelno for record in caplog.records} <= {logging.INFO}
    assert served.ask("GET", "/v1/state")[0] == 200


def test_a_body_that_cannot_be_read_is_refused(served: Served) -> None:
    headers = {**served.with_token, "Content-Encoding": "gzip"}
    status, answer = served.ask("POST", "/v1/commands/slate", "{}", headers)
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert not served.operator.panics


def test_a_bug_of_ours_is_told_in_json_too(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(AppState, "as_json", lambda _: 1 / 0)
    status, answer = served.ask("GET", "/v1/state")
    assert (status, answer["error"]["code"]) == (500, "failed")
    assert "ZeroDivisionError" in caplog.text


def test_localhost_is_this_computer_too(served: Served) -> None:
    status, _ = served.ask("GET", "/v1/state", headers={**served.with_token, "Host": f"localhost:{served.server.port}"})
    assert status == 200


def test_the_state_is_told_as_it_is(served: Served) -> None:
    assert served.ask("GET", "/v1/state")[1]["state"] == "starting"
    served.server.show(AppState(mode="window", state=State.LIVE, shows_avatar=True, live=True, gains={"mouth": 1.0}))
    status, state = served.ask("GET", "/v1/state")
    assert status == 200
    assert (state["version"], state["mode"], state["state"], state["live"]) == (1, "window", "live", True)
    assert state["gains"] == {"mouth": 1.0}


def test_the_commands_are_listed(served: Served) -> None:
    status, listed = served.ask("GET", "/v1/commands")
    assert status == 200
    assert list(listed["commands"]) == list(COMMANDS)


def test_a_command_is_done_and_its_answer_comes_back(served: Served) -> None:
    served.operator.answer = {"gains": {"mouth": 2.0}}
    assert served.do("gains", mouth=2) == (200, {"ok": True, "gains": {"mouth": 2.0}})
    assert served.ask("POST", "/v1/commands/calibrate") == (200, {"ok": True, "gains": {"mouth": 2.0}})
    assert served.operator.done[-1] == Calibrate()
    assert served.operator.panics == 0


@pytest.mark.parametrize(("name", "command"), [("slate", Slate("on")), ("stop", Stop())])
def test_the_slate_waits_for_nobody(
    served: Served, name: str, command: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in force before the app comes to it, and however many commands came before."""
    monkeypatch.setattr("app.control.server._PATIENCE_S", 0.05)
    for _ in range(50):
        served.operator.answer = {}
        served.do("calibrate")
    for _ in range(3):
        served.operator.answer = None
        assert served.do(name) == (200, {"ok": True, "slate": True})
    assert served.operator.panics == 3
    assert served.operator.done[-1] == command


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "said"),
    [
        ("POST", "/v1/commands/quit", "{}", 404, "unknown_command", "expected one of slate, live"),
        ("POST", "/v1/commands/slate", "[1]", 400, "bad_request", "no object"),
        ("POST", "/v1/commands/slate", "{", 400, "bad_request", "got no JSON"),
        ("POST", "/v1/commands/slate", "[" * 9000, 400, "bad_request", "got no JSON"),
        ("POST", "/v1/commands/slate", b"\xff\xfe\x00", 400, "bad_request", "got no JSON"),
        ("POST", "/v1/commands/slate", '{"to": 1}', 400, "bad_argument", "slate: argument to: got 1"),
        ("POST", "/v1/commands/slate", "{" + " " * MOST_BYTES + "}", 413, "too_large", "got more than 16384 bytes"),
        ("GET", "/v1/commands/slate", None, 404, "unknown_path", "Method Not Allowed"),
        ("DELETE", "/v1/state", None, 404, "unknown_path", "Method Not Allowed"),
        ("GET", "/v1/picture", None, 404, "unknown_path", "expected GET /v1/state"),
        ("GET", "/../../etc/passwd", None, 404, "unknown_path", "Not Found"),
        ("GET", "/v1/events", None, 400, "bad_request", "expected a WebSocket"),
    ],
)
def test_what_cannot_be_is_told_in_json(
    served: Served, method: str, path: str, body: str | bytes | None, status: int, code: str, said: str
) -> None:
    got, answer = served.ask(method, path, body)
    assert (got, answer["ok"], answer["error"]["code"]) == (status, False, code)
    assert said in answer["error"]["message"]
    assert not served.operator.done


@pytest.mark.parametrize(
    ("failure", "status", "code", "said"),
    [
        (RefusedError("not_found", "there is no such portrait"), 404, "not_found", "there is no such portrait"),
        (AppError("no camera yet"), 409, "not_now", "live: no camera yet"),
        (ZeroDivisionError("a bug"), 500, "failed", "ZeroDivisionError"),
    ],
)
def test_a_failure_is_told(
    served: Served, failure: Exception, status: int, code: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.operator.failure = failure
    got, answer = served.do("live")
    assert (got, answer["error"]["code"]) == (status, code)
    assert said in answer["error"]["message"]
    assert ("a bug" in caplog.text) == (code == "failed")


def test_an_app_that_hangs_is_told_and_does_not_come_to_it_later(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.control.server._PATIENCE_S", 0.05)
    served.operator.answer = None
    status, answer = served.do("live")
    assert (status, answer["error"]["code"]) == (504, "busy")


def test_a_flood_is_refused(served: Served) -> None:
    answers = [served.do("calibrate")[0] for _ in range(60)]
    assert answers[:40] == [200] * 40
    assert 429 in answers
    assert len(served.operator.done) == answers.count(200)


# Listening


def test_a_listener_gets_the_state_events_and_answers(served: Served) -> None:
    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        assert (await connection.receive_json())["state"] == "starting"
        served.server.tell(StateChanged(State.NO_CAMERA, "it was unplugged"))
        assert await connection.receive_json() == {
            "type": "event",
            "event": "state_changed",
            "state": "no camera",
            "message": "it was unplugged",
        }
        served.server.show(AppState(mode="headless", state=State.NO_CAMERA))
        assert (await connection.receive_json())["state"] == "no camera"
        await connection.send_str(json.dumps({"id": 7, "command": "slate", "to": "toggle"}))
        assert await connection.receive_json() == {"type": "answer", "id": 7, "ok": True}
        for sent, code in (
            ("{}", "bad_request"),
            ("x", "bad_request"),
            ('{"command": "quit"}', "unknown_command"),
            ('{"command": "slate", "to": 1}', "bad_argument"),
        ):
            await connection.send_str(sent)
            answer = await connection.receive_json()
            assert (answer["type"], answer["ok"], answer["error"]["code"]) == ("answer", False, code)
        figures = await connection.receive_json()
        assert figures == {
            "type": "figures",
            "fps": 30.0,
            "camera_fps": 0.0,
            "age_ms": {"p50": 62.4, "p95": 88.1},
            "dropped_share": 0.0,
        }

    listening(served, see)
    assert served.operator.done == [Slate("toggle")]


def test_too_long_a_message_ends_its_connection_alone(served: Served) -> None:
    async def flood(connection: aiohttp.ClientWebSocketResponse) -> None:
        await connection.receive()
        await connection.send_str("x" * (MOST_BYTES + 1))
        assert (await connection.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

    listening(served, flood)
    assert served.ask("GET", "/v1/state")[0] == 200


def test_a_listener_that_reads_nothing_costs_nobody_anything(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's threads never wait for it, another listener has the newest state at once, and it is let go."""
    monkeypatch.setattr("app.control.server._SEND_S", 0.3)
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect((HOST, served.server.port))
    lines = [f"GET /v1/events HTTP/1.1\r\nHost: {HOST}:{served.server.port}", f"Authorization: Bearer {served.token}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
    lazy.sendall("\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode())
    wait_until(lambda: len(served.server._clients) == 1, "it listens")
    (slow,) = served.server._clients

    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        told, most = 0, 0
        while slow in served.server._clients:
            served.server.tell(SinkFailed("file", "x" * 20_000))
            served.server.show(AppState(mode="headless", why=str(told)))
            told += 1
            seen = ""
            while seen != str(told - 1):
                message = await connection.receive_json()
                seen = message.get("why", "") if message["type"] == "state" else ""
            most = max(most, len(slow._events))
        assert most == 64, "so many events wait for it and no more"

    listening(served, see)
    lazy.close()


def test_what_a_listener_misses_is_counted(served: Served) -> None:
    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        await connection.receive()
        with served.server._lock:  # the loop hands nothing out meanwhile
            served.server._events.extend({"type": "event", "number": number} for number in range(100))
            served.server._wake()
        assert await connection.receive_json() == {"type": "missed", "events": 36}
        assert [(await connection.receive_json())["number"] for _ in range(64)] == list(range(36, 100))

    listening(served, see)


def test_only_so_many_listen_at_once(served: Served) -> None:
    async def crowd() -> None:
        async with aiohttp.ClientSession(headers=served.with_token) as session:
            connections = [await session.ws_connect(served.url) for _ in range(MOST_CLIENTS)]
            assert served.ask("GET", "/v1/state")[0] == 200
            with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
                await session.ws_connect(served.url)
            for connection in connections:
                await connection.close()

    asyncio.run(crowd())
    wait_until(lambda: not served.server._clients, "all have gone")


# Beginning and end


def test_the_end_lets_everybody_go(tmp_path: Path) -> None:
    served = Served(tmp_path)

    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        await connection.receive()
        stopped = asyncio.get_running_loop().run_in_executor(None, served.server.stop)
        assert (await connection.receive()).type is aiohttp.WSMsgType.CLOSE
        assert await stopped

    listening(served, see)
    assert not control_threads()
    served.server.show(AppState(mode="headless"))  # what still comes goes nowhere
    served.server.tell(CalibrationProgress(0.5))
    served.server.start(0)  # and it can listen again, with the same token
    assert served.ask("GET", "/v1/state")[0] == 200
    assert served.server.stop()


def test_a_port_that_is_taken_is_told(served: Served) -> None:
    other = ControlServer(FakeOperator(), served.access, AppState(mode="headless"))
    with pytest.raises(AppError, match=rf"cannot listen on port {served.server.port}: another program has it"):
        other.start(served.server.port)
    assert len(control_threads()) == 1
    assert served.access.address() is not None, "the first one's address stays"
    other.start(0)
    other.stop()


@pytest.mark.skipif(os.name == "nt", reason="nothing is locked there: the last one is found")
def test_of_two_apps_the_one_that_stays_is_found(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key for the slate that runs `ctl` would reach nobody once the first one has ended."""
    monkeypatch.setattr("app.control.server._LOOK_S", 0.02)
    other = Served(tmp_path)
    assert served.access.address() == Address(served.server.port, os.getpid(), VERSION)
    assert served.server.stop()
    found = Address(other.server.port, os.getpid(), VERSION)
    wait_until(lambda: Access(tmp_path).address() == found, "the other one tells its address")
    served.server.start(0)
    assert Access(tmp_path).address() == found, "which stays the one that is found"
    assert other.server.stop()
    back = Address(served.server.port, os.getpid(), VERSION)
    wait_until(lambda: Access(tmp_path).address() == back, "and the first one again")


def test_an_address_is_told_again_until_it_can_be(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk was full, or somebody has taken the file away."""
    monkeypatch.setattr("app.control.server._LOOK_S", 0.02)
    other = Served(tmp_path)
    there = Address(other.server.port, os.getpid(), VERSION)
    failures = iter([AppError("full"), AppError("full"), None])
    tell = other.access.tell

    def tell_at_last(address: Address) -> None:
        if (failure := next(failures)) is not None:
            raise failure
        tell(address)

    monkeypatch.setattr(other.access, "tell", tell_at_last)
    assert served.server.stop()
    wait_until(lambda: Access(tmp_path).address() == there, "it is told at last")
    assert other.server.stop()


def test_a_new_token_of_one_app_counts_in_another(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, too, whoever knows the old one alone comes in no more, and is let go."""
    monkeypatch.setattr("app.control.server._LOOK_S", 0.02)
    old, other = served.with_token, ControlServer(FakeOperator(), Access(tmp_path), AppState(mode="window"))

    async def see(connection: aiohttp.ClientWebSocketResponse) -> None:
        await connection.receive()
        other.forget_token()
        await asyncio.get_running_loop().run_in_executor(None, other.start, 0)
        while (message := await connection.receive()).type is aiohttp.WSMsgType.TEXT:
            assert json.loads(message.data)["type"] == "figures", "which may come while the file is read"
        assert message.type is aiohttp.WSMsgType.CLOSE

    listening(served, see)
    served.token = served.access.kept_token()
    assert served.with_token != old
    assert served.server.token == other.token == served.token
    for port in (served.server.port, other.port):
        assert ask(port, "GET", "/v1/state", None, old)[0] == 401
        assert ask(port, "GET", "/v1/state", None, served.with_token)[0] == 200
    served.access.token_path.unlink()
    assert served.ask("GET", "/v1/state")[0] == 200, "the last one counts until there is another"
    assert other.stop()


def test_a_new_token_counts_with_the_next_request(served: Served, tmp_path: Path) -> None:
    old = served.with_token
    served.access.forget()
    served.token = Access(tmp_path).token()
    assert served.ask("GET", "/v1/state")[0] == 200
    assert served.ask("GET", "/v1/state", headers=old)[0] == 401


def file_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "files of control"]


def wait_until_files_are_done() -> None:
    wait_until(lambda: not file_threads(), "nobody reads or writes a file any more")


@pytest.fixture
def hung_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """From its first reading of the token or the address on, which is told, until the test's end."""
    reached, answers, read = threading.Event(), threading.Event(), access._read_private

    def read_at_last(path: Path) -> tuple[str, str]:
        reached.set()
        assert answers.wait(60)
        return read(path)

    monkeypatch.setattr(access, "_read_private", read_at_last)
    yield reached
    answers.set()
    wait_until_files_are_done()


def test_the_slate_and_the_end_wait_for_no_disk(
    served: Served, hung_disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do others who know the token; who does not is told so after a while, and one thread looks for all of them."""
    monkeypatch.setattr("app.control.server._DISK_S", 0.05)
    for name in ("slate", "stop"):
        assert served.do(name)[0] == 200
    for _ in range(3):
        assert served.ask("GET", "/v1/state", headers={"Authorization": "Bearer x"})[0] == 401
    assert hung_disk.is_set(), "the file was looked at"
    assert served.do("slate")[0] == 200
    assert served.operator.panics == 3
    assert len(file_threads()) == 1
    assert served.server.stop(1.0)
    assert not control_threads()


def test_what_was_withdrawn_is_not_told_by_a_disk_that_answers_late(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, answers, address = threading.Event(), threading.Event(), served.access.address

    def address_at_last() -> Address | None:
        telling.set()
        assert answers.wait(60)
        return None

    monkeypatch.setattr(served.access, "address", address_at_last)
    assert telling.wait(20)
    assert served.server.stop(1.0)
    monkeypatch.setattr(served.access, "address", address)
    answers.set()
    wait_until_files_are_done()
    assert Access(tmp_path).address() is None


def test_facts_from_many_threads_at_once(served: Served) -> None:
    def talk(name: str) -> None:
        for number in range(200):
            served.server.show(AppState(mode="headless", why=f"{name} {number}"))
            served.server.tell(CalibrationProgress(number / 200))

    threads = [threading.Thread(target=talk, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    why = served.ask("GET", "/v1/state")[1]["why"]
    assert why.endswith(" 199")
    assert ask(served.server.port, "GET", "/v1/state", None, served.with_token)[0] == 200
