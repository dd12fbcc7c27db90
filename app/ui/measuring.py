"""Measuring what runs the model best on this computer, when the user asks for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import Measured
from app.settings import AppSettings
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline

_STOP_S = 5.0
LEAST_HZ = 10.0
"""Fewer frames per second than this are no moving face any more."""


def too_slow(rate_hz: float) -> str:
    """That so many frames per second are too few, and what to do."""
    return (
        f"about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure "
        "under First steps, or use a computer with a GPU"
    )


class Measuring(QObject):
    """Stops the pipeline and tries what runs the model best, on the worker. Lives on the GUI thread.

    Args:
        worker: measures.
        measure: tries it, telling the share and the name of what goes on. Blocks.
        progress: brings the share and the name to `take_progress`, on the GUI thread.

    Attributes:
        share: how far the measuring has come, 0 to 1, or None while nothing is measured.
        doing: what is being tried.
        measured: what was measured last, or remembered; None before.

    Signals:
        changed: anything of the above.
        ended: the pipeline, which was stopped for it, can be started again.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    ended = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self,
        worker: Worker,
        measure: Callable[[AppSettings, Callable[[float, str], None]], Measured],
        progress: Callable[[float, str], None],
    ) -> None:
        super().__init__()
        self.share: float | None = None
        self.doing = ""
        self.measured: Measured | None = None
        self._worker = worker
        self._measure = measure
        self._progress = progress

    @property
    def under_way(self) -> bool:
        """Whether something is being measured."""
        return self.share is not None

    def start(self, pipeline: "Pipeline", settings: AppSettings) -> None:
        """Measure with these settings, with everything else at rest; harmless while it is under way."""
        if self.under_way:
            return
        self.share, self.doing = 0.0, "getting ready"
        self.cleared.emit("measuring")
        self.changed.emit()

        def work() -> Measured:
            pipeline.stop(_STOP_S)
            return self._measure(settings, self._progress)

        self._worker.run(work, self._done, self._failed)

    def take_progress(self, share: float, text: str) -> None:
        """Show how far it has come."""
        if self.under_way:
            self.share, self.doing = share, text
            self.changed.emit()

    def take(self, measured: Measured) -> None:
        """What the engine was found to take when it was made."""
        self.measured = measured
        self.changed.emit()

    @property
    def too_slow(self) -> str:
        """That the model is too slow for a call here, and what to do, one sentence; "" where it is not, or unknown."""
        if self.measured is None or self.measured.frame_ms <= 1000 / LEAST_HZ:
            return ""
        return too_slow(1000 / self.measured.frame_ms)

    def _done(self, measured: Measured) -> None:
        self.measured = measured
        self._end()
        self.told.emit(Message("measured", f"Measured: {measured.sentence}.", tone="info"))

    def _failed(self, error: Exception) -> None:
        self._end()
        self.told.emit(failure_message("measuring", error))

    def _end(self) -> None:
        self.share, self.doing = None, ""
        self.changed.emit()
        self.ended.emit()
