"""The system's microphones, each in a process of its own; see `app.ui.microphone_process`."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import app
from app.errors import AppError

logger = logging.getLogger(__name__)

_LONGEST_S = 10.0
_CHUNK_BYTES = 1 << 16
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of a console, on Windows


class Ear(Protocol):
    """A microphone that is open.

    Attributes:
        name: for people.
        rate_hz: samples per second.
    """

    name: str
    rate_hz: int

    def read(self) -> NDArray[np.float32]:
        """(N,) float32 in [-1, 1]: what has come since the last call, which may be nothing; never waits for it.

        Raises:
            AppError: it gives no sound any more.
        """
        ...

    def close(self) -> None:
        """Let go of it; harmless when called again."""
        ...


def list_microphones() -> list[tuple[str, str]]:
    """Key and name of every microphone that is there, the usual one first. Takes a moment.

    Raises:
        AppError: sound cannot be recorded here at all.
    """
    try:
        answer = subprocess.run(  # noqa: S603 # our own
            _command("--list"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=_LONGEST_S,
            check=False,
            creationflags=_NO_WINDOW,
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise AppError(f"the system's sound did not answer within {_LONGEST_S:g} s: start it again") from error
    return [(str(key), str(name)) for key, name in _facts(answer)["microphones"]]


def open_microphone(key: str) -> Ear:
    """Open a microphone; "" is the system's usual one. Takes a moment.

    Raises:
        AppError: it is not there, or cannot be opened.
    """
    return _PipedEar(_command(*([key] if key else [])))


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "app.ui.microphone_process", *arguments]


def _environment() -> dict[str, str]:
    """In which the process finds this very package, and nothing of the folder that the app was started in."""
    assert app.__file__ is not None
    ours = str(Path(app.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}


def _facts(line: bytes) -> dict[str, Any]:
    """What the process says in a line.

    Raises:
        AppError: it says what is wrong, or nothing.
    """
    try:
        facts: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise AppError("the system's sound cannot be used: what asks for it has crashed; start it again") from error
    if "error" in facts:
        raise AppError(str(facts["error"]))
    return facts


class _PipedEar:
    """Reads what the process writes, by a thread that ends with it."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 # our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            creationflags=_NO_WINDOW,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        self._pieces: deque[bytes] = deque()
        self._rest = b""
        self._reader = threading.Thread(target=self._collect, name="microphone pipe", daemon=True)
        too_long = threading.Timer(_LONGEST_S, self._process.kill)
        too_long.daemon = True
        too_long.start()
        try:
            facts = _facts(self._pipe.readline())
            self.name, self.rate_hz = str(facts["name"]), int(facts["rate_hz"])
            self._reader.start()
        except BaseException:
            self.close()
            raise
        finally:
            too_long.cancel()
            too_long.join()

    def read(self) -> NDArray[np.float32]:
        ended = not self._reader.is_alive()
        data = self._rest
        while self._pieces:
            data += self._pieces.popleft()
        if ended and not data:
            raise AppError(
                f"the microphone {self.name} gives no sound any more: plug it in again, close what else uses it, or "
                "choose another one"
            )
        whole = len(data) - len(data) % 4
        self._rest = b"" if ended else data[whole:]
        return np.frombuffer(data[:whole], np.float32)

    def close(self) -> None:
        self._process.kill()
        status = self._process.wait()
        logger.debug("the microphone's process ended with %d", status)
        if self._reader.is_alive():
            self._reader.join()
        with contextlib.suppress(OSError):
            self._pipe.close()

    def _collect(self) -> None:
        while data := self._pipe.read1(_CHUNK_BYTES):  # type: ignore[attr-defined] # a BufferedReader
            self._pieces.append(data)
