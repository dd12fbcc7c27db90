"""From the pipeline's threads to the GUI's: facts in queued signals, pictures by one empty wake-up."""

import threading
from collections.abc import Callable

from PyQt6.QtCore import QObject, Qt, pyqtBoundSignal, pyqtSignal

from app.pipeline.events import Event


class FromThreads(QObject):
    """Something of the GUI's that other threads emit signals of, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # of the next one, and of what subclasses share with threads
        self._closed = False

    def _carry(self, signal: pyqtBoundSignal, *values: object) -> None:
        """Emit a signal, which is always queued; from any thread."""
        with self._lock:  # so that nothing is emitted while, or after, the GUI takes this down
            if not self._closed:
                signal.emit(*values)

    def _carry_no_more(self) -> None:
        with self._lock:
            self._closed = True


class Bridge(FromThreads):
    """Gives the pipeline functions that any thread may call, and answers them on the GUI thread.

    Wake-ups are coalesced: while one is under way, further ones are swallowed, so a slow GUI never has a queue of them.
    Once closed, the bridge carries nothing more, not even what is already queued.

    Args:
        on_event: called on the GUI thread with each fact, in order.
        on_picture: called on the GUI thread when there may be new pictures to pull.

    Signals:
        _told: a fact, always queued.
        _woken: there may be pictures, always queued.
    """

    _told = pyqtSignal(object)
    _woken = pyqtSignal()

    def __init__(self, on_event: Callable[[Event], None], on_picture: Callable[[], None]) -> None:
        super().__init__()
        self._on_event = on_event
        self._on_picture = on_picture
        self._under_way = False
        self._told.connect(self._hear, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs
        self._woken.connect(self._answer, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]

    def tell(self, event: Event) -> None:
        """Carry a fact over; from any thread."""
        self._carry(self._told, event)

    def wake(self) -> None:
        """Say that there may be a new picture; from any thread."""
        with self._lock:
            if not self._closed and not self._under_way:
                self._under_way = True
                self._woken.emit()

    def close(self) -> None:
        """Carry nothing more; harmless when called again."""
        self._carry_no_more()

    def _hear(self, event: Event) -> None:
        if not self._closed:
            self._on_event(event)

    def _answer(self) -> None:
        with self._lock:
            self._under_way = False
        if not self._closed:
            self._on_picture()
