"""A listener, and what it says."""

import threading
from types import TracebackType

from app.hotkeys.keys import parse_key
from app.hotkeys.listening import KeyListener, Standing
from tests.app.fakes import wait_until


class Hearing:
    """Listens for a key while the block runs, and keeps what it hears.

    Attributes:
        pressed: how often the key was.
        standings: how it stood.
    """

    def __init__(self, kind: type[KeyListener], key: str) -> None:
        self.pressed = 0
        self.standings: list[Standing] = []
        self.listener = kind(parse_key(key), self._press, self.standings.append)

    def __enter__(self) -> "Hearing":
        self.listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.listener.stop(10.0)
        assert self.listener.stop()
        assert not [thread for thread in threading.enumerate() if thread.name == "hot key"]

    def stands(self) -> Standing:
        """How it stands first, or after what was said before."""
        wait_until(lambda: bool(self.standings), "it stands somehow")
        return self.standings.pop(0)

    def _press(self) -> None:
        self.pressed += 1
