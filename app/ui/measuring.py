"""Measuring what runs the model best on this computer, when the user asks for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import Measured, MeasuringProgress
from app.pipeline.stats import LEAST_HZ
from app.settings import AppSettings
from app.ui.languages import tr
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker
from app.words import measured_words, too_slow_words
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline

_STOP_S = 5.0


class Measuring(QObject):
    """Stops the pipeline and tries what runs the model best, on the worker. Lives on the GUI thread.

    Args:
        worker: measures.
        measure: tries it, and tells how far it has come. Blocks.
        tell: brings those facts to `hear`, on the GUI thread.

    Attributes:
        share: how far the measuring has come, 0 to 1, or None while nothing is measured.
        doing: what is being tried, for people.
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
        measure: Callable[[AppSettings, Callable[[MeasuringProgress], None]], Measured],
        tell: Callable[[MeasuringProgress], None],
    ) -> None:
        super().__init__()
        self.share: float | None = None
        self.doing = ""
        self.measured: Measured | None = None
        self._worker = worker
        self._measure = measure
        self._tell = tell

    @property
    def words(self) -> str:
        """What was measured last, for people, or ""."""
        return "" if self.measured is None else measured_words(self.measured)

    @property
    def too_slow(self) -> str:
        """That the model is too slow for a call here, and what to do, one sentence; "" where it is not, or unknown."""
        if self.measured is None or self.measured.tier.best.frame_ms <= 1000 / LEAST_HZ:
            return ""
        return too_slow_words(1000 / self.measured.tier.best.frame_ms)

    @property
    def under_way(self) -> bool:
        """Whether something is being measured."""
        return self.share is not None

    def start(self, pipeline: "Pipeline", settings: AppSettings) -> None:
        """Measure with these settings, with everything else at rest; harmless while it is under way."""
        if self.under_way:
            return
        self.share, self.doing = 0.0, phrase("getting ready")
        self.cleared.emit("measuring")
        self.changed.emit()

        def work() -> Measured:
            pipeline.stop(_STOP_S)
            return self._measure(settings, self._tell)

        self._worker.run(work, self._done, self._failed)

    def hear(self, event: MeasuringProgress | Measured) -> None:
        """Take how far it has come, or what was measured: also by the pipeline, when it made the engine."""
        if isinstance(event, Measured):
            self.measured = event
        elif self.under_way:
            self.share = event.share
            self.doing = phrase("measuring") if event.way is None else phrase("trying {way}", way=event.way)
        self.changed.emit()

    def _done(self, measured: Measured) -> None:
        self.hear(measured)
        self._end()
        self.told.emit(Message("measured", tr("Measured: {words}.", words=self.words), tone="info"))

    def _failed(self, error: Exception) -> None:
        self._end()
        self.told.emit(failure_message("measuring", error))

    def _end(self) -> None:
        self.share, self.doing = None, ""
        self.changed.emit()
        self.ended.emit()
