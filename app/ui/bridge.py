"""From the pipeline's threads to the GUI's: facts in queued signals, pictures by one empty wake-up."""

import threading
from collections.abc import Callable

from PyQt6.QtCore import QObject, Qt, pyqtSignal

from app.pipeline.events import Event


class Bridge(QObject):
    """Gives the pipeline functions that any thread may call, and answers them on the GUI thread.

    Wake-ups are coalesced: while one is under way, further ones are swallowed, so a slow GUI never has a queue of them.
    Once closed, the bridge carries nothing more, not even what is already queued.

    Args:
        on_event: called on the GUI thread with each fact, in order.
        on_picture: called on the GUI thread when there may be new pictures to pull.
        on_progress: called on the GUI thread with the share (0 to 1) and the name of something slow that goes on.

    Signals:
        _told: a fact, always queued.
        _woken: there may be pictures, always queued.
        _went_on: something slow has come this far, always queued.
    """

    _told = pyqtSignal(object)
    _woken = pyqtSignal()
    _went_on = pyqtSignal(float, str)

    def __init__(
        self,
        on_event: Callable[[Event], None],
        on_picture: Callable[[], None],
        on_progress: Callable[[float, str], None],
    ) -> None:
        super().__init__()
        self._on_event = on_event
        self._on_picture = on_picture
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._under_way = False
        self._closed = False
        self._told.connect(self._hear, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs
        self._went_on.connect(self._go_on, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]
        self._woken.connect(self._answer, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]

    def tell(self, event: Event) -> None:
        """Carry a fact over; from any thread."""
        with self._lock:  # so that no thread emits while, or after, the GUI takes the bridge down
            if not self._closed:
                self._told.emit(event)

    def wake(self) -> None:
        """Say that there may be a new picture; from any thread."""
        with self._lock:
            if not self._closed and not self._under_way:
                self._under_way = True
                self._woken.emit()

    def progress(self, share: float, text: str) -> None:
        """Say how far something has come, and what it is; from any thread."""
        with self._lock:
            if not self._closed:
                self._went_on.emit(share, text)

    def close(self) -> None:
        """Carry nothing more; harmless when called again."""
        with self._lock:
            self._closed = True

    def _hear(self, event: Event) -> None:
        if not self._closed:
            self._on_event(event)

    def _go_on(self, share: float, text: str) -> None:
        if not self._closed:
            self._on_progress(share, text)

    def _answer(self) -> None:
        with self._lock:
            self._under_way = False
        if not self._closed:
            self._on_picture()
