"""A server with an app that only remembers, and ways to ask it."""

import http.client
import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from app.control.access import Access
from app.control.facts import AppState
from app.control.protocol import Command
from app.control.server import HOST, ControlServer
from app.pipeline.state import State
from app.pipeline.stats import Percentiles, Stats


class FakeOperator:
    """Remembers what it was asked.

    Attributes:
        done: the commands.
        panics: how often the slate was wanted at once.
        answer: of every command; None: none comes.
        failure: what every command raises, if anything.
    """

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.panics = 0
        self.answer: dict[str, Any] | None = {}
        self.failure: Exception | None = None

    def panic(self) -> None:
        self.panics += 1

    def perform(self, command: Command) -> "Future[dict[str, Any]]":
        self.done.append(command)
        future: Future[dict[str, Any]] = Future()
        if self.failure is not None:
            future.set_exception(self.failure)
        elif self.answer is not None:
            future.set_result(self.answer)
        return future

    def stats(self) -> Stats:
        return Stats(State.LIVE, fps=30.04, age_ms=Percentiles(62.4, 88.1, 99.0))


class Served:
    """A server that listens, with its operator."""

    def __init__(self, folder: Path, origins: tuple[str, ...] = ()) -> None:
        self.operator = FakeOperator()
        self.access = Access(folder)
        self.server = ControlServer(self.operator, self.access, AppState(mode="headless"), origins)
        self.server.start(0)
        self.token = self.access.token()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server.port}/v1/events"

    @property
    def with_token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        return ask(self.server.port, method, path, body, self.with_token if headers is None else headers)

    def do(self, command: str, **arguments: Any) -> tuple[int, dict[str, Any]]:
        return self.ask("POST", f"/v1/commands/{command}", json.dumps(arguments))


def ask(
    port: int, method: str, path: str, body: str | bytes | None, headers: Mapping[str, str]
) -> tuple[int, dict[str, Any]]:
    """One request; the status, and the JSON that came."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        assert answer.getheader("Content-Type", "").startswith("application/json")
        values: dict[str, Any] = json.loads(answer.read())
        return answer.status, values
    finally:
        connection.close()


def control_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("control")]
