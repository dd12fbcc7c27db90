"""The system's microphones, each in a process of its own; see `app.ui.microphone_process`."""

import contextlib
import logging
import threading
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.output.pipewire_worker import MICROPHONE_NAME
from app.ui import microphone_process
from mcnet.phrases import phrase
from mcnet.processes import start_process

logger = logging.getLogger(__name__)

_LONGEST_S = 10.0


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
    """Key and name of every microphone that is there, the usual one first, but our own for calls. Takes a moment.

    Raises:
        AppError: sound cannot be recorded here at all.
    """
    process, connection = _start(None)
    try:
        named = [(str(key), str(name)) for key, name in _facts(connection)["microphones"]]
        return [(key, name) for key, name in named if name != MICROPHONE_NAME]
    finally:
        _end(process)
        connection.close()


def open_microphone(key: str) -> Ear:
    """Open a microphone; "" is the system's usual one. Takes a moment.

    Raises:
        AppError: it is not there, or cannot be opened.
    """
    return _PipedEar(key)


def _start(key: str | None) -> "tuple[BaseProcess, Connection[Any, Any]]":
    """The process, and where it says what it has to; see `microphone_process.answer`."""
    return start_process(microphone_process.serve, key, name="mcnet-microphone", duplex=False)


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()
    logger.debug("the microphone's process ended with %s", process.exitcode)


def _facts(connection: "Connection[Any, Any]") -> dict[str, Any]:
    """What the process says first.

    Raises:
        AppError: it says what is wrong, or nothing.
    """
    if not connection.poll(_LONGEST_S):
        raise AppError(
            phrase("the system's sound did not answer within {seconds:g} s: start it again", seconds=_LONGEST_S)
        )
    try:
        facts: dict[str, Any] = connection.recv()
    except (EOFError, OSError) as error:
        raise AppError(
            phrase("the system's sound cannot be used: what asks for it has crashed; start it again")
        ) from error
    if "error" in facts:
        raise AppError(str(facts["error"]))
    return facts


class _PipedEar:
    """Reads what the process sends, by a thread that ends with it."""

    def __init__(self, key: str) -> None:
        self._process, self._connection = _start(key)
        self._pieces: deque[bytes] = deque()
        self._reader = threading.Thread(target=self._collect, name="microphone pipe", daemon=True)
        try:
            facts = _facts(self._connection)
            self.name, self.rate_hz = str(facts["name"]), int(facts["rate_hz"])
            self._reader.start()
        except BaseException:
            self.close()
            raise

    def read(self) -> NDArray[np.float32]:
        ended = not self._reader.is_alive()
        data = b""
        while self._pieces:
            data += self._pieces.popleft()
        if ended and not data:
            raise AppError(
                phrase(
                    "the microphone {name} gives no sound any more: plug it in again, close what else uses it, or "
                    "choose another one",
                    name=self.name,
                )
            )
        return np.frombuffer(data, np.float32)

    def close(self) -> None:
        _end(self._process)
        if self._reader.is_alive():
            self._reader.join()
        self._connection.close()

    def _collect(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._pieces.append(self._connection.recv_bytes())
