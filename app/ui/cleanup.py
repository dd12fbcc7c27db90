"""Whoever starts something registers how it is stopped."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Cleanup:
    """Stops what was started, once, the last one first. A stopper that fails does not keep the others from running."""

    def __init__(self) -> None:
        self._stoppers: list[tuple[str, Callable[[], object]]] = []

    def add(self, name: str, stop: Callable[[], object]) -> None:
        """Register what has just been started."""
        self._stoppers.append((name, stop))

    def run(self) -> None:
        """Stop everything; harmless when called again."""
        while self._stoppers:
            name, stop = self._stoppers.pop()
            try:
                stop()
            except Exception:
                logger.exception("stopping the %s failed", name)
