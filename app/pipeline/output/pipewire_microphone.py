"""A microphone that PipeWire has: the chosen one, delayed by the age of the pictures, so that a call hears in step."""

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from app.errors import AppError
from app.pipeline.output import pipewire_sound_process
from app.pipeline.output.pipewire_worker import PipeWireKeeper

logger = logging.getLogger(__name__)


class MicrophoneStanding(NamedTuple):
    """How the microphone stands.

    Attributes:
        there: whether call programs can choose it.
        listened: whether one has it open.
        delay_s: that is kept, while one has.
        trouble: why nothing is heard, for people, or "".
    """

    there: bool = False
    listened: bool = False
    delay_s: float = 0.0
    trouble: str = ""


class PipeWireMicrophone:
    """Has the microphone, from now until `stop`; whatever fails is silence, told, and tried again.

    Args:
        key: of the microphone to be heard, as the window has it; "" is the system's usual one.
        name: of it, for people; "" where it is not known.
        tell: called from a thread whenever it stands differently.
    """

    def __init__(self, key: str, name: str, tell: Callable[[MicrophoneStanding], None]) -> None:
        self._tell = tell
        self._standing = MicrophoneStanding()
        self._lock = threading.Lock()  # of the next one, and of the order in which it is told
        self._wish = (0.0, True)
        self._keeper = PipeWireKeeper(
            pipewire_sound_process.microphone,
            (key, name),
            began=lambda: None,
            hear=self._hear,
            away=self._be_away,
            patient=True,
        )

    def follow(self, delay_s: float, *, muted: bool) -> None:
        """Delay what is heard by that from now on, or let nothing be heard; from any thread."""
        with self._lock:
            before, self._wish = self._wish, (delay_s, muted)
            if self._wish != before:  # or a process that hangs would have no room for more one day
                self._keeper.send(self._wish)

    def stop(self) -> None:
        """Take it away; harmless when called again, and waits for nothing."""
        self._keeper.stop()

    def ended(self, timeout_s: float) -> bool:
        """Whether its thread ends within that time, after `stop`."""
        return self._keeper.ended(timeout_s)

    def _hear(self, facts: dict[str, Any]) -> None:
        if "node" in facts:
            logger.info("PipeWire has the microphone as node %d", facts["node"])
            with self._lock:
                self._keeper.send(self._wish)
            self._stand(there=True, trouble="")
        elif "taken" not in facts:
            self._stand(**facts)

    def _be_away(self, error: AppError | None) -> None:
        if error is not None:
            self._stand(there=False, listened=False, trouble=str(error))

    def _stand(self, **changes: Any) -> None:
        self._standing = self._standing._replace(**changes)
        self._tell(self._standing)
