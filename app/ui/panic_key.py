"""The key that shows the slate while another window has the focus."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt, pyqtSignal

from app.ui.bridge import FromThreads
from app.ui.languages import clause, tr
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.hotkeys.listening import KeyListener, Standing

logger = logging.getLogger(__name__)

ListenFor = Callable[[str, Callable[[], None], "Callable[[Standing], None]"], "KeyListener"]


class PanicKey(FromThreads):
    """Has the system give a key to the app, if one was chosen. Lives on the GUI thread; slow work goes to the worker.

    Args:
        worker: makes listeners.
        listen_for: a listener for a key.
        panic: shows the slate at once; called on a thread of the listener's, and must not wait.
        key: as it was kept; "" is none.

    Attributes:
        key: which one is wished for, or "".
        heard: whether it is heard now.
        text: what the system calls it, or why it is not heard; "" before either is known.

    Signals:
        changed: anything of the above.
        chosen: another key is wished for, to be kept.
        pressed: it was pressed.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        _told: how a listener stands, by its number, always queued.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(str)
    pressed = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    _told = pyqtSignal(int, object)

    def __init__(self, worker: Worker, listen_for: ListenFor, panic: Callable[[], None], key: str) -> None:
        super().__init__()
        self.key = key
        self.heard = False
        self.text = ""
        self._relied_on = False
        self._worker = worker
        self._listen_for = listen_for
        self._panic = panic
        self._listener: KeyListener | None = None
        self._wishes = 0
        self._told.connect(self._hear, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs

    def open(self) -> None:
        """Listen for the key, if one was chosen."""
        if self.key:
            self._listen()

    def choose(self, key: str) -> None:
        """Listen for another key, or for none by ""; the same one is asked for again, if it could not be had."""
        could_not = bool(self.text) and not self.heard
        if key == self.key and not could_not:
            return
        if key != self.key:
            self.key = key
            self.chosen.emit(key)
        self._listen()

    def close(self) -> bool:
        """Let the key go; harmless when called again."""
        self._carry_no_more()
        listener, self._listener = self._listener, None
        return listener is None or listener.stop()

    def _listen(self) -> None:
        self._wishes += 1
        wish, key = self._wishes, self.key
        before, self._listener = self._listener, None
        self._stand(False, "")

        def work() -> "KeyListener | None":
            if before is not None:
                before.stop()  # or it would have the key that is asked for now
            return self._listen_for(key, self._press, lambda standing: self._tell(wish, standing)) if key else None

        def made(listener: "KeyListener | None") -> None:
            if wish == self._wishes and listener is not None:
                self._listener = listener
                listener.start()

        def failed(error: Exception) -> None:
            if wish == self._wishes:
                self._stand(False, clause(failure_message("panic key", error).text))

        self._worker.run(work, made, failed)

    def _press(self) -> None:
        self._panic()
        self._carry(self.pressed)

    def _tell(self, wish: int, standing: "Standing") -> None:
        self._carry(self._told, wish, standing)

    def _hear(self, wish: int, standing: "Standing") -> None:
        if wish == self._wishes and not self._closed:
            logger.info("slate key: %s%s", "" if standing.heard else "not heard: ", standing.text)
            self._stand(standing.heard, clause(standing.text))

    def _stand(self, heard: bool, text: str) -> None:
        """Know how it stands; that it was heard and is not any more is told at once: somebody relies on it."""
        self.heard, self.text = heard, text
        if heard or not text:
            self.cleared.emit("panic key")
            self._relied_on = heard
        elif self._relied_on:
            self.told.emit(Message("panic key", tr("The slate key is not heard: {why}.", why=text), tone="warning"))
        self.changed.emit()
