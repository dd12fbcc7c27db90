"""The hand-off between two threads: the newest wins."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Holds one value at most. Putting never waits, and drops what nobody took; so nothing ever queues up.

    Attributes:
        name: for statistics.
    """

    def __init__(self, name: str, *, on_put: Callable[[], None] | None = None) -> None:
        self.name = name
        self._on_put = on_put
        self._changed = threading.Condition()
        self._value: T | None = None
        self._closed = False

    def put(self, value: T) -> bool:
        """Put a value. Returns whether it replaced one that nobody had taken. A closed slot ignores it."""
        with self._changed:
            if self._closed:
                return False
            replaced = self._value is not None
            self._value = value
            self._changed.notify()
        if self._on_put is not None:
            self._on_put()
        return replaced

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until a value is there, and leave it there; False without one, or closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._value is not None or self._closed, timeout_s) and (
                not self._closed
            )

    def take(self, timeout_s: float) -> T | None:
        """Take the value away, waiting for one at most `timeout_s` seconds; None when there is none, or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._value is not None or self._closed, timeout_s)
            value, self._value = self._value, None
            return value

    def close(self) -> None:
        """Wake whoever waits; from now on the slot stays empty. Harmless when called again."""
        with self._changed:
            self._closed = True
            self._value = None
            self._changed.notify_all()
