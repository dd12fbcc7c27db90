"""What Ctrl-C, SIGTERM and SIGHUP do for a while: one place that sets handlers and puts them back."""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

if sys.platform == "win32":
    STOPPING = (signal.SIGINT, signal.SIGTERM)
else:
    STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the polite kill that batch systems and service managers send, and that a terminal is closed."""
FROM_TERMINAL = tuple(number for number in STOPPING if number != signal.SIGTERM)
"""Those that reach all that was started in a terminal: also a program's other processes, which it ends itself."""

Handler = Callable[[int, FrameType | None], Any] | int


@contextlib.contextmanager
def handled_by(handler: Handler, *numbers: int) -> Iterator[None]:
    """Have signals handled in another way until the block ends.

    Python lets only the main thread set handlers; on any other one the block runs with those that are in force. What
    was started by nohup goes on when its terminal is closed.

    Args:
        handler: a function of the number and the frame, or `signal.SIG_IGN`.
        numbers: the signals; none means `STOPPING`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    heard = [one for one in numbers or STOPPING if not (_is_hangup(one) and signal.getsignal(one) == signal.SIG_IGN)]
    before = {number: signal.signal(number, _without_terminal(handler)) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def leave_terminal_to_parent() -> None:
    """Outlive Ctrl-C and the end of the terminal: for a process that the one that started it ends."""
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)


def _is_hangup(number: int) -> bool:
    return sys.platform != "win32" and number == signal.SIGHUP


def _without_terminal(handler: Handler) -> Handler:
    """The handler, before which what is still said goes nowhere once the terminal is closed: writing to it fails."""
    if not callable(handler):
        return handler

    def hear(number: int, frame: FrameType | None) -> None:
        for descriptor in (1, 2) if _is_hangup(number) else ():
            with contextlib.suppress(OSError):
                if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, descriptor)
                    os.close(nowhere)
        handler(number, frame)

    return hear


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
