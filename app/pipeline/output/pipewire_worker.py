"""The processes that speak to PipeWire, from the app's side; see `app.pipeline.output.pipewire_process`."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.pipeline.output import pipewire_process

NODE_NAME = "mcnet-avatar"
"""What call programs call the camera."""


def daemon_socket() -> Path:
    """Where PipeWire's daemon listens, as its library looks for it."""
    remote = os.environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    folders = (os.environ.get(name) for name in ("PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR"))
    return Path(next((folder for folder in folders if folder), f"/run/user/{_user_id()}")) / remote


def _user_id() -> int:
    return 0 if sys.platform == "win32" else os.getuid()


def require_daemon() -> None:
    """See that a daemon listens.

    Raises:
        OSError: none does.
    """
    if sys.platform == "win32":
        raise OSError("PipeWire is Linux's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        probe.connect(str(daemon_socket()))


class PipeWireWorker:
    """One of the processes that speak to PipeWire, with the pipe to it.

    Args:
        job: of `pipewire_process`.
        args: of the job, after the connection.
    """

    def __init__(self, job: Callable[..., None], *args: Any) -> None:
        # Not a fork: a copy of a process with threads may wait forever for a lock that one of them held.
        context = multiprocessing.get_context("spawn")
        self.connection: Connection[Any, Any]
        self.connection, theirs = context.Pipe()
        with theirs:
            self._process: BaseProcess = context.Process(
                target=pipewire_process.serve, args=(theirs, job, *args), name="mcnet-pipewire", daemon=True
            )
            self._process.start()

    def facts(self, timeout_s: float | None = None) -> dict[str, Any]:
        """What it says next.

        Raises:
            AppError: it says what is wrong, or nothing.
        """
        try:
            if not self.connection.poll(timeout_s):
                raise AppError(f"PipeWire did not answer within {timeout_s:g} s")
            facts: dict[str, Any] = self.connection.recv()
        except (EOFError, OSError) as error:
            raise AppError("what speaks to PipeWire has crashed") from error
        if "error" in facts:
            raise AppError(str(facts["error"]))
        return facts

    def end(self) -> None:
        """End it, whatever it is at; the daemon forgets what it had made. Harmless when called again."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Close the pipe, once nobody reads it any more."""
        self.connection.close()
