"""What Ctrl-C, SIGTERM and SIGHUP do for a while: one place that sets handlers and puts them back."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

FROM_TERMINAL = (signal.SIGINT,) if sys.platform == "win32" else (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C, and the end of a terminal or of a connection to it: what reaches all that was started there, also a program's
other processes, which it ends itself."""

STOPPING = (*FROM_TERMINAL, signal.SIGTERM)
"""These, and the polite kill that batch systems and service managers send."""

Handler = Callable[[int, FrameType | None], Any] | int


@contextlib.contextmanager
def handled_by(handler: Handler, *numbers: int) -> Iterator[None]:
    """Have signals handled in another way until the block ends.

    Whoever was started to outlive its terminal, as by nohup, which has SIGHUP ignored, goes on ignoring it. Python lets
    only the main thread set handlers; on any other one the block runs with those that are in force.

    Args:
        handler: a function of the number and the frame, or `signal.SIG_IGN`.
        numbers: the signals; none means `STOPPING`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in numbers or STOPPING if number not in _outlived()]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def handlers_wait() -> Iterator[None]:
    """Let Python's signal handlers run after the block; on any but the main thread there are none."""
    came: list[int] = []
    asked = [number for number in STOPPING if callable(signal.getsignal(number))]
    try:
        with handled_by(lambda number, _: came.append(number), *asked) if asked else contextlib.nullcontext():
            yield
    finally:
        for waited in came:
            signal.raise_signal(waited)


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Have processes that are started in the block leave Ctrl-C and the end of the terminal to this one.

    What comes meanwhile is heard behind the block: it is not lost, and leaves no process half started.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        with handled_by(signal.SIG_IGN, *FROM_TERMINAL):
            yield
        return
    from multiprocessing import resource_tracker

    # The first process of `multiprocessing` starts its tracker, and with it lets Ctrl-C through again.
    resource_tracker.ensure_running()
    with handlers_wait():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FROM_TERMINAL)  # what is started inherits it
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlived() -> list[signal.Signals]:
    """The end of the terminal, where this process was told to ignore it."""
    return [number for number in FROM_TERMINAL[1:] if signal.getsignal(number) == signal.SIG_IGN]


def leave_terminal_to_parent() -> None:
    """Outlive Ctrl-C and the end of the terminal: for a process that the one that started it ends."""
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a wish to stop in order; a second Ctrl-C interrupts at once.

    Use as a context manager, on the main thread.

    Attributes:
        received: the name of the first signal that came, such as SIGTERM, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._handling = handled_by(self._receive)

    def __enter__(self) -> "StopSignals":
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number).name
