"""The processes that speak to PipeWire, from the app's side; see `app.pipeline.output.pipewire_process`."""

import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.pipeline.output import pipewire_process
from app.pipeline.output.pipewire_client import LibraryError
from mcnet.phrases import phrase
from mcnet.processes import start_process

logger = logging.getLogger(__name__)

NODE_NAME = "mcnet-avatar"
"""What call programs call the camera."""

MICROPHONE_NAME = "mcnet-avatar microphone"
"""What they call the microphone."""

_ANSWER_S = 10.0
_TAKEN_S, _LOOK_S = 2.0, 0.5
_AGAIN_S, _LONGEST_AGAIN_S = 0.5, 8.0
_STEADY_S = 10.0  # who lived as long does not crash at once


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
        self._process, self.connection = start_process(pipewire_process.serve, job, *args, name="mcnet-pipewire")

    def says(self, timeout_s: float) -> bool:
        """Whether it says something within that time, or ends."""
        return self.connection.poll(timeout_s)

    def facts(self, timeout_s: float | None = None) -> dict[str, Any]:
        """What it says next.

        Raises:
            LibraryError: PipeWire's library cannot be used.
            AppError: it says what else is wrong, or nothing.
        """
        try:
            if not self.connection.poll(timeout_s):
                raise AppError(phrase("PipeWire did not answer within {seconds:g} s", seconds=timeout_s))
            facts: dict[str, Any] = self.connection.recv()
        except (EOFError, OSError) as error:
            raise AppError(phrase("what speaks to PipeWire has crashed")) from error
        if "error" in facts:
            raise (LibraryError if facts.get("library") else AppError)(str(facts["error"]))
        return facts

    def end(self) -> None:
        """End it, whatever it is at; the daemon forgets what it had made. Harmless when called again."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Close the pipe, once nobody reads it any more."""
        self.connection.close()


class PipeWireKeeper:
    """Keeps a process that speaks to PipeWire: one that ends is started anew, once there is a daemon again.

    So is one that hangs: it is ended when it has not taken a message within 2 s.

    All functions are called from its thread.

    Args:
        job: of `PipeWireWorker`. It says `node` once what it makes is there, and then `taken` for each message.
        args: of the job.
        began: called before a process starts.
        hear: takes what it says.
        away: told why what it makes is away for the time being, and None when it is back.
        patient: whether what fails from the beginning is tried again as well.

    Attributes:
        failure: why it cannot be at all, and is not tried again.
    """

    def __init__(
        self,
        job: Callable[..., None],
        args: tuple[Any, ...],
        *,
        began: Callable[[], None],
        hear: Callable[[dict[str, Any]], None],
        away: Callable[[AppError | None], None],
        patient: bool = False,
    ) -> None:
        self.failure: AppError | None = None
        self._job = job
        self._args = args
        self._began = began
        self._hear = hear
        self._away = away
        self._patient = patient
        self._was_there = self._told = False
        self._lock = threading.Lock()  # of the next three
        self._worker: PipeWireWorker | None = None
        self._there = False  # what this one makes
        self._sent_s: deque[float] = deque()  # when what it has not taken yet was sent
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="PipeWire", daemon=True)
        self._thread.start()

    def send(self, message: Any) -> bool:
        """Tell the process something; whether there is one, and what it makes is there."""
        with self._lock:
            if self._worker is None or not self._there:
                return False
            self._sent_s.append(time.monotonic())
            try:
                self._worker.connection.send(message)
            except OSError:  # it has ended: whoever waits for what it says hears so
                return False
            return True

    def stop(self) -> None:
        """End the process; does not wait for the thread, which may be starting another one that it ends at once."""
        self._stopped.set()
        with self._lock:
            if self._worker is not None:
                self._worker.end()

    def ended(self, timeout_s: float) -> bool:
        """Whether the thread ends within that time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        again_s = _AGAIN_S
        while not self._stopped.is_set():
            began_s = time.monotonic()
            try:
                require_daemon()
                self._serve()
            except OSError as error:
                if not self._told:
                    self._be_away(AppError(phrase("PipeWire does not run: {error}", error=error)))
                again_s = _AGAIN_S
            except AppError as error:
                if self._stopped.is_set():
                    return
                if not self._was_there and not self._patient:
                    self.failure = error
                    return
                self._be_away(error)
                lived = time.monotonic() - began_s > _STEADY_S
                again_s = _AGAIN_S if lived else min(2 * again_s, _LONGEST_AGAIN_S)
            self._stopped.wait(again_s)

    def _be_away(self, error: AppError) -> None:
        logger.info("PipeWire: %s", error)
        self._told = True
        self._away(error)

    def _serve(self) -> None:
        """Have a process until it ends.

        Raises:
            AppError: why it ended.
        """
        self._began()
        worker = PipeWireWorker(self._job, *self._args)
        try:
            with self._lock:
                if self._stopped.is_set():
                    return
                self._worker, self._there = worker, False
                self._sent_s.clear()
            facts = worker.facts(_ANSWER_S)
            while not self._stopped.is_set():
                if "taken" in facts:
                    with self._lock:
                        self._sent_s.popleft()
                if "node" in facts:
                    self._was_there = True
                    with self._lock:
                        self._there = True
                    if self._told:
                        self._told = False
                        self._away(None)
                self._hear(facts)
                facts = self._next(worker)
        finally:
            with self._lock:
                self._worker = None
            worker.end()
            worker.close()

    def _next(self, worker: PipeWireWorker) -> dict[str, Any]:
        """What the process says next.

        Raises:
            AppError: it says what is wrong, has ended, or hangs.
        """
        while True:
            says = worker.says(_LOOK_S)
            with self._lock:
                late = bool(self._sent_s) and time.monotonic() - self._sent_s[0] > _TAKEN_S
            if says:
                return worker.facts()
            if late:
                raise AppError(phrase("PipeWire did not answer within {seconds:g} s", seconds=_TAKEN_S))
