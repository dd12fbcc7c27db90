"""The inside of the network, asked for at a reduced rate while somebody looks."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.ui.worker import Worker
from mcnet.errors import sentence
from mcnet.inspection import LiveView

if TYPE_CHECKING:
    from app.pipeline.inspector import Drawn, InspectorProcess, Posed

PICTURE_PX = 256
_LEAST_PAUSE_S = 0.25
_WAITS_AFTER = 3
_PAUSES = 3.0
"""After a frame the process rests so many times as long as it was busy: at most a quarter of one core is used."""


class Insight(QObject):
    """Has single frames drawn by a process of its own, while it is open.

    Lives on the GUI thread and never waits, but in `end`. A frame that is offered while another one is drawn, or too
    soon after it, is passed over: nothing queues up. Closed, it soon has neither a thread nor a process.

    Args:
        make: of a model's name, what draws.

    Attributes:
        views: what is drawn.
        point: whose attention is shown, x and y as shares of the picture.
        busy_s: how long a core was busy with the last frame; 0 before the first.
        failure: why nothing is drawn any more; "" while all is well.

    Signals:
        drawn: the views and their pictures.
        waiting: one frame after the other was made by other weights than the model's file has; once, until one is
            drawn.
        failed: see `failure`.
    """

    drawn = pyqtSignal(object, object)
    waiting = pyqtSignal()
    failed = pyqtSignal()

    def __init__(self, make: "Callable[[str], InspectorProcess]") -> None:
        super().__init__()
        self.views: tuple[LiveView, ...] = ()
        self.point = (0.5, 0.64)
        self.busy_s = 0.0
        self.failure = ""
        self._make = make
        self._worker: Worker | None = None
        self._ending: list[Worker] = []
        self._process: InspectorProcess | None = None
        self._busy = False
        self._next_s = 0.0
        self._empty = 0

    @property
    def open(self) -> bool:
        """Whether somebody looks."""
        return self._worker is not None

    def begin(self, model: str) -> None:
        """Look at a model; harmless while the same one is looked at."""
        if self._process is not None and self._process.model == model:
            return
        self.close()
        self._worker = Worker("inspector")
        self._process = self._make(model)

    def close(self) -> None:
        """Look no more, and free everything a moment later; harmless when called again."""
        process, worker = self._process, self._worker
        self._process = self._worker = None
        self._busy, self._next_s, self._empty, self.busy_s, self.failure = False, 0.0, 0, 0.0, ""
        if process is not None:
            process.close()  # which ends the wait of the thread, too
        if worker is not None:
            self._ending.append(worker)
        # Kept until its thread has ended: that must not be the last to let go of what is Qt's.
        self._ending = [worker for worker in self._ending if not worker.stop(0)]

    def end(self) -> bool:
        """`close`, and wait for it: for the end of the program.

        Returns:
            Whether its threads have ended.
        """
        self.close()
        return all(worker.stop() for worker in self._ending)

    def offer(self, posed: "Posed") -> None:
        """Have a frame drawn, if it is time for one."""
        process, worker = self._process, self._worker
        if process is None or worker is None or self._busy or self.failure or time.monotonic() < self._next_s:
            return
        from app.pipeline.inspector import Request

        self._busy = True
        request = Request(posed, self.views, self.point, PICTURE_PX)

        def done(drawn: "Drawn") -> None:
            if process is self._process:
                self._busy = False
                self.busy_s = drawn.busy_s
                self._next_s = time.monotonic() + max(_LEAST_PAUSE_S, _PAUSES * drawn.busy_s)
                self._empty = 0 if drawn.pictures else self._empty + 1
                if drawn.pictures:
                    self.drawn.emit(request.views, drawn.pictures)
                elif self._empty == _WAITS_AFTER:
                    self.waiting.emit()

        def failed(error: Exception) -> None:
            if process is self._process:
                self._busy, self.failure = False, sentence(error)
                self.failed.emit()

        worker.run(lambda: process.draw(request), done, failed)
