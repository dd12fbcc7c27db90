"""`mcnet-avatar ctl` against a server, against none, and quick."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.__main__ import main
from app.control.access import Address
from app.control.facts import AppState, PortraitFact
from app.control.protocol import (
    ApplyPreset,
    Calibrate,
    ChoosePortrait,
    Live,
    Record,
    RefusedError,
    SetGains,
    Slate,
    Stop,
    SwitchDetail,
    SwitchRetouch,
)
from app.control.server import MOST_CLIENTS
from app.errors import AppError
from app.pipeline.state import State
from app.places import control_folder, settings_file
from tests.app.control.asking import Served

WOMAN, ME = PortraitFact("woman_1", "Woman 1"), PortraitFact("a1", "Me")
STATE = AppState(
    mode="window",
    state=State.NO_CAMERA,
    why="it was unplugged",
    missing="no camera yet",
    score=92,
    portrait=ME,
    portraits=(WOMAN, ME),
    gains={"mouth": 1.5},
    preset="Lively",
    presets=("Standard", "Lively"),
    model="starter",
    device="cpu",
    backend="openvino",
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served(control_folder())
    served.server.show(STATE)
    yield served
    served.server.stop()


@contextlib.contextmanager
def another_program(status: int, said: str) -> Iterator[int]:
    """One that answers every request so; yields its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("words", "command", "answer", "said"),
    [
        (["slate"], Slate("on"), {"slate": True}, "slate: on"),
        (["slate", "toggle"], Slate("toggle"), {"slate": False}, "slate: off"),
        (["live"], Live(), {"slate": False}, "slate: off"),
        (["stop"], Stop(), {"slate": True}, "slate: on"),
        (["portrait", "Me"], ChoosePortrait("Me"), {"portrait": {"id": "a1", "name": "Me"}}, "portrait: Me"),
        (["portrait", "--next"], ChoosePortrait(step=1), {"portrait": {"id": "a1", "name": "Me"}}, "portrait: Me"),
        (["calibrate", "--now"], Calibrate(now=True), {}, "calibrating"),
        (["record"], Record("toggle"), {"recording": "a.mp4"}, "recording: a.mp4"),
        (["record", "off"], Record("off"), {"recording": ""}, "recording: off"),
        (["preset", "lively"], ApplyPreset("lively"), {"preset": "Lively", "gains": {}}, "preset: Lively"),
        (["gains", "mouth=1.5"], SetGains((("mouth", 1.5),)), {"gains": {"mouth": 1.5}}, "mouth=1.5"),
        (["retouch"], SwitchRetouch("toggle"), {"retouch": True}, "retouch: on"),
        (["retouch", "off"], SwitchRetouch("off"), {"retouch": False}, "retouch: off"),
        (["detail", "on"], SwitchDetail("on"), {"fine_detail": True}, "fine detail: on"),
        (["detail"], SwitchDetail("toggle"), {"fine_detail": False}, "fine detail: off"),
    ],
)
def test_commands(
    served: Served,
    words: list[str],
    command: object,
    answer: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.operator.answer = answer
    assert main(["ctl", *words]) == 0
    assert served.operator.done == [command]
    assert capsys.readouterr().out == f"{said}\n"


def test_an_avatar_that_only_the_user_sees_is_not_called_live(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    for live, shown in ((False, "PREVIEW"), (True, "LIVE")):
        served.server.show(AppState(mode="window", state=State.LIVE, shows_avatar=True, live=live))
        assert main(["ctl", "status"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == shown


def test_a_command_is_named_once_in_what_is_refused(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for failure in ("preset: got 'Wild', expected one of Standard", "got 'Wild', expected one of Standard"):
        served.operator.failure = AppError(failure)
        assert main(["ctl", "preset", "Wild"]) == 1
        assert capsys.readouterr().err == "mcnet-avatar ctl: preset: got 'Wild', expected one of Standard\n"


def test_what_is_asked_only(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NO CAMERA: it was unplugged",
        "the call sees the slate, or nothing",
        "missing: no camera yet",
        "portrait: Me (a1)",
        "camera: none",
        "calibration: 92 of 100",
        "recording: off",
        "model: starter on cpu with openvino",
    ]
    assert main(["ctl", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["portrait"] == {"id": "a1", "name": "Me"}
    assert main(["ctl", "portrait"]) == 0
    assert capsys.readouterr().out == "  woman_1  Woman 1\n* a1  Me\n"
    assert main(["ctl", "preset"]) == 0
    assert capsys.readouterr().out == "  Standard\n* Lively\n"
    assert main(["ctl", "gains"]) == 0
    assert capsys.readouterr().out == "mouth=1.5\n"
    assert not served.operator.done


def test_a_refusal_is_told(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.operator.failure = RefusedError("not_now", "live: no camera yet")
    assert main(["ctl", "live"]) == 1
    assert capsys.readouterr().err == "mcnet-avatar ctl: live: no camera yet\n"


@pytest.mark.parametrize("words", [[], ["dance"], ["slate", "up"], ["gains", "nose=1"], ["gains", "mouth=3"]])
def test_misuse_is_told_before_anybody_is_asked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["ctl", *words])
    assert "usage: mcnet-avatar ctl" in capsys.readouterr().err


def test_no_app_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "slate"]) == 3
    assert "does not run, or its control from outside is off: switch on Control" in capsys.readouterr().err


def test_an_app_whose_control_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    lock = settings_file().with_name("settings.toml.lock")
    lock.parent.mkdir()
    lock.write_text(f"{os.getpid()}\nmcnet-avatar\nhere\n", encoding="utf-8")
    assert main(["ctl", "slate"]) == 3
    assert f"runs (process {os.getpid()}), but its control from outside is off" in capsys.readouterr().err


def test_an_app_that_does_not_answer(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    port = served.server.port
    served.server.stop()
    served.access.tell(Address(port, os.getpid(), 1))
    assert main(["ctl", "slate"]) == 3
    assert f"nobody answers on port {port}" in capsys.readouterr().err
    served.access.tell(Address(port, os.getpid(), 2))
    assert main(["ctl", "slate"]) == 1
    assert "speaks version 2 of the protocol, this command 1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["slate", "status", "portrait", "gains", "preset", "watch"])
@pytest.mark.parametrize(
    ("status", "said"),
    [(200, "[]"), (200, '{"ok": true}'), (404, '{"error": "not found"}'), (401, '{"error": null}'), (500, "{}")],
)
@pytest.mark.usefixtures("served")
def test_another_program_that_answers(status: int, said: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with another_program(status, said) as port:
        assert main(["ctl", "--port", str(port), command]) == 3
    assert capsys.readouterr().err == (
        "mcnet-avatar ctl: what answers on that port is no mcnet-avatar: name another --port\n"
    )


def test_a_program_that_takes_the_request_and_says_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.control.client._PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert port != served.server.port
        for command in ("slate", "watch"):
            assert main(["ctl", "--port", str(port), command]) == 3
            assert f"nobody answers on port {port} (timed out)" in capsys.readouterr().err


def test_one_who_watches_too_many_is_told_so(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    async def watch_beside_others() -> int:
        async with aiohttp.ClientSession(headers=served.with_token) as session:
            others = [await session.ws_connect(served.url) for _ in range(MOST_CLIENTS)]
            status = await asyncio.to_thread(main, ["ctl", "watch"])
            for other in others:
                await other.close()
            return status

    assert asyncio.run(watch_beside_others()) == 1
    assert "the app takes no other listener (HTTP status 429)" in capsys.readouterr().err


def test_names_that_the_terminal_cannot_write(served: Served) -> None:
    """In an encoding of a country, and of a file whose name is no text."""
    served.server.show(
        dataclasses.replace(STATE, portraits=(PortraitFact("a1", "caf\u00e9 \u30ab"), PortraitFact("a2", "\udce9")))
    )
    for encoding, first in (
        ("utf-8", "caf\u00e9 \u30ab"),
        ("latin-1", "caf\u00e9 \\u30ab"),
        ("ascii", "caf\\xe9 \\u30ab"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "app", "ctl", "portrait"],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode(encoding) == f"* a1  {first}\n  a2  \\udce9\n"


def test_a_port_is_enough(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an app that another one was before, whose address it left alone."""
    monkeypatch.setattr(served.access, "tell", lambda _: None)
    served.access.withdraw(Address(served.server.port, os.getpid(), 1))
    served.operator.answer = {"slate": True}
    assert main(["ctl", "slate"]) == 3
    assert main(["ctl", "--port", str(served.server.port), "slate"]) == 0
    assert main(["ctl", "slate", "off", "--port", str(served.server.port)]) == 0
    assert served.operator.panics == 1


def test_a_token_that_cannot_be_trusted(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.access, "kept_token", lambda: "")  # or the app would take it over
    served.access.token_path.write_text("0" * 64, encoding="utf-8")
    assert main(["ctl", "slate"]) == 1
    assert "got no token, or a wrong one" in capsys.readouterr().err
    served.access.token_path.chmod(0o644)
    assert main(["ctl", "slate"]) == 1
    assert "or others can read it too" in capsys.readouterr().err
    assert not served.operator.panics


@pytest.mark.usefixtures("_signals_are_heard")
def test_it_is_quick_and_watches_until_the_end(served: Served) -> None:
    """In a process of its own, where importing anything heavy fails."""
    heavy = "import sys\nfor name in ('torch', 'cv2', 'PyQt6', 'numpy', 'av', 'openvino'): sys.modules[name] = None\n"
    code = f"{heavy}from app.__main__ import main\nsys.exit(main(['ctl', *sys.argv[1:]]))"
    served.operator.answer = {"slate": True}
    done = subprocess.run(
        [sys.executable, "-c", code, "slate"], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "slate: on\n", "")
    assert served.operator.panics == 1
    watch = subprocess.Popen([sys.executable, "-c", code, "watch"], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["state"] == "no camera"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 130
    finally:
        watch.kill()
        watch.communicate()
