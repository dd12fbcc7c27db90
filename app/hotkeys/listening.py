"""What all ways of hearing a key have in common."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import AppError
from app.hotkeys.keys import KeyCombination
from mcnet.errors import sentence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How listening for a key stands.

    Attributes:
        heard: whether the key is heard now.
        text: which key it is, as the system calls it; or why it is not heard, for people.
    """

    heard: bool
    text: str


class KeyListener(ABC):
    """Hears one key, on a thread of its own, whichever window has the focus.

    Args:
        key: which.
        pressed: called on that thread each time it is pressed; must not wait.
        tell: called on that thread when the standing changes; must not wait.
    """

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        self.key = key
        self.pressed = pressed
        self.tell = tell
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hot key", daemon=True)

    def start(self) -> None:
        """Begin; the first standing comes soon, or once the user has answered the desktop."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Let the key go; harmless when called again. Returns whether the thread has ended."""
        self.stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.listen()
        except AppError as error:
            self._fail(str(error))
        except Exception as error:  # the last guard of a thread; the slate has other ways
            if not self.stopping.is_set():
                logger.exception("the hot key")
            self._fail(sentence(error))

    def _fail(self, why: str) -> None:
        if not self.stopping.is_set():
            self.tell(Standing(False, why))

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """See that it can work here, without taking any key; takes a moment.

        Raises:
            AppError: it cannot.
        """

    @abstractmethod
    def listen(self) -> None:
        """Take the key, tell so, and call `pressed`, until `stopping` is set; lets the key go at the end.

        Raises:
            AppError: it cannot be had, or not any more.
        """

    @abstractmethod
    def wake(self) -> None:
        """Have `listen` look at `stopping`; on any thread, at any time."""
