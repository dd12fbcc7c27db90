"""Work on a picture that may fail and ends nothing by it."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Attempts:
    """Work that is given up where it fails: something else is taken instead, and nothing is tried until it shall be.

    Several threads may work at once.

    Args:
        refuse: told of a failure, while it is handled; once, however many work.

    Attributes:
        failed: whether it has failed since it was made, or was last to try again.
    """

    def __init__(self, refuse: Callable[[Exception], None]) -> None:
        self._refuse = refuse
        self._lock = threading.Lock()
        self.failed = False

    def try_again(self) -> None:
        """Whatever failed before is tried once more."""
        self.failed = False

    def _attempt(self, work: Callable[[], T], *, instead: T) -> T:
        if self.failed:
            return instead
        try:
            return work()
        except Exception as error:  # whatever it is, out of memory included: no call and no video ends for it
            with self._lock:
                known, self.failed = self.failed, True
            if not known:
                self._refuse(error)
            return instead
