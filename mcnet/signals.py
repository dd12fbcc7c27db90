"""What Ctrl-C and SIGTERM do for a while: one place that sets handlers and puts them back."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the polite kill that batch systems and service managers send."""

Handler = Callable[[int, FrameType | None], Any] | int


@contextlib.contextmanager
def handled_by(handler: Handler, *numbers: int) -> Iterator[None]:
    """Have signals handled in another way until the block ends.

    Python lets only the main thread set handlers; on any other one the block runs with those that are in force.

    Args:
        handler: a function of the number and the frame, or `signal.SIG_IGN`.
        numbers: the signals; none means `STOPPING`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers or STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class StopSignals:
    """Turns Ctrl-C and SIGTERM into a wish to stop in order; a second Ctrl-C interrupts at once.

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
