"""Measuring what runs the model best on this computer, when the user asks for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.settings import AppSettings
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline

_STOP_S = 5.0


class Measuring(QObject):
    """Stops the pipeline and tries what runs the model best, on the worker. Lives on the GUI thread.

    Args:
        worker: measures.
        measure: tries it, telling the share and the name of what goes on, and answers one sentence. Blocks.
        progress: brings the share and the name to `take_progress`, on the GUI thread.

    Attributes:
        share: how far the measuring has come, 0 to 1, or None while nothing is measured.
        doing: what is being tried.
        sentence: what was measured last, or "".

    Signals:
        changed: anything of the above.
        ended: the pipeline, which was stopped for it, can be started again.
        told: a message to show.
    """

    changed = pyqtSignal()
    ended = pyqtSignal()
    told = pyqtSignal(object)

    def __init__(
        self,
        worker: Worker,
        measure: Callable[[AppSettings, Callable[[float, str], None]], str],
        progress: Callable[[float, str], None],
    ) -> None:
        super().__init__()
        self.share: float | None = None
        self.doing = ""
        self.sentence = ""
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
        self.changed.emit()

        def work() -> str:
            pipeline.stop(_STOP_S)
            return self._measure(settings, self._progress)

        self._worker.run(work, self._done, self._failed)

    def take_progress(self, share: float, text: str) -> None:
        """Show how far it has come; outside of a measuring, what the engine found that was measured before."""
        if self.under_way:
            self.share, self.doing = share, text
        else:
            self.sentence = text
        self.changed.emit()

    def _done(self, sentence: str) -> None:
        self.sentence = sentence
        self._end()
        self.told.emit(Message("measured", f"Measured: {sentence}.", tone="info"))

    def _failed(self, error: Exception) -> None:
        self._end()
        self.told.emit(failure_message("measuring", error))

    def _end(self) -> None:
        self.share, self.doing = None, ""
        self.changed.emit()
        self.ended.emit()
