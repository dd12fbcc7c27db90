"""What stands in for `app.ui.microphone_process.serve` in the process of a microphone, which imports this file."""

import array
import os
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from app.ui import microphone_process

# ruff: noqa: ARG001 - all have the signature of what they stand in for
_LONG_S = 60.0


def hum(connection: "Connection[Any, Any]", key: str | None) -> None:
    _hum(connection, key)
    time.sleep(_LONG_S)


def hum_and_crash(connection: "Connection[Any, Any]", key: str | None) -> None:
    _hum(connection, key)
    os.abort()


def crash(connection: "Connection[Any, Any]", key: str | None) -> None:
    os.abort()


def hang(connection: "Connection[Any, Any]", key: str | None) -> None:
    time.sleep(_LONG_S)


def refuse(connection: "Connection[Any, Any]", key: str | None) -> None:
    connection.send({"error": "there is no microphone"})


def list_what_is_loaded(connection: "Connection[Any, Any]", key: str | None) -> None:
    import app.__main__  # noqa: F401 # which a process that the app starts imports

    connection.send({"microphones": [(name, name) for name in sys.modules]})


def serve_what_hangs(connection: "Connection[Any, Any]", key: str | None) -> None:
    def answer(connection: "Connection[Any, Any]", key: str | None) -> None:
        connection.send({"name": key, "rate_hz": 8000})
        time.sleep(_LONG_S)

    microphone_process.answer = answer
    microphone_process.serve(connection, key)


def _hum(connection: "Connection[Any, Any]", key: str | None) -> None:
    connection.send({"name": key, "rate_hz": 8000})
    for _ in range(2):
        connection.send_bytes(array.array("f", [0.25] * 100).tobytes())
