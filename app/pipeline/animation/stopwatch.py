"""How long the parts of a step take."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Stopwatch:
    """Times the parts of a step; whoever does one tells it here.

    Args:
        done: told the name and the seconds of each part.

    Attributes:
        done: as given, for what is timed otherwise.
    """

    def __init__(self, done: Callable[[str, float], None]) -> None:
        self.done = done

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what is done within; what fails there is not told."""
        began_s = time.perf_counter()
        yield
        self.done(name, time.perf_counter() - began_s)
