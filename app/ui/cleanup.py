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

    def run(self) -> bool:
        """Stop everything; harmless when called again.

        Returns:
            Whether all went well: no stopper failed or answered False, which means that something is still running.
        """
        well = True
        while self._stoppers:
            name, stop = self._stoppers.pop()
            try:
                well = stop() is not False and well
            except Exception:
                well = False
                logger.exception("stopping the %s failed", name)
        return well
