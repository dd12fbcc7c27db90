"""One window per user and settings, and whether the one before ended in order."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QLockFile, QTimer
from PyQt6.QtNetwork import QLocalServer, QLocalSocket

logger = logging.getLogger(__name__)

_ANSWER_MS = 20_000
"""A window that is loading its model on a busy machine may be that late."""
_MADE_S = 0.2
_AGAIN_MS = 1000
_SHOW, _SHOWN = b"show\n", b"shown\n"


class Instance:
    """Claims settings for one window, and lets a second start bring that window to the front.

    The claim is a lock file beside the settings, which holds as long as its process lives. A mark beside it goes when
    the window ends in order; one that is left tells whoever has the claim next of a crash, or of a power cut.

    Args:
        settings_path: of the settings, whose folder is made if need be.

    Attributes:
        crashed: whether the run that had the claim before did not end in order; known once it is claimed.
        show: brings the window to the front; called on the GUI thread when a second start asks for it.
    """

    def __init__(self, settings_path: Path) -> None:
        self.crashed = False
        self.show: Callable[[], None] = lambda: None
        self._path = settings_path.with_name(settings_path.name + ".lock")
        self._lock = QLockFile(str(self._path))
        self._lock.setStaleLockTime(0)  # however old it is, it holds as long as its process lives
        self._mark = settings_path.with_name(settings_path.name + ".running")
        digest = hashlib.sha256(str(settings_path.absolute()).encode()).hexdigest()
        self._name = f"mcnet-avatar-{digest[:16]}"
        self._server: QLocalServer | None = None
        self._asking: list[QLocalSocket] = []
        self._late = False
        self._again = QTimer()
        self._again.setInterval(_AGAIN_MS)
        self._again.timeout.connect(self._claim_late)

    def claim(self) -> bool:
        """Take the claim, unless a running window has it; where no lock can be written, nobody has."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("cannot look for a running window: %s", error)
            return True
        if not self._lock.tryLock(0) and not self._take_damaged():
            if self._lock.error() == QLockFile.LockError.LockFailedError and not self._path.is_dir():
                return False
            logger.warning("cannot write %s, so that a second start would not find this window", self._path)
            return True
        try:  # with the claim: without, the one before could be ending in order at this moment
            self.crashed = self._mark.exists()
            self._mark.touch()
        except OSError as error:
            logger.warning("cannot write %s, so that the next start would not know of a crash: %s", self._mark, error)
        self._listen()
        return True

    def claim_once_free(self) -> None:
        """Take the claim as soon as the window that has it has ended; of one that crashed the next start is told."""
        self._again.start()

    def _claim_late(self) -> None:
        if self.claim():
            self._late = True
            self._again.stop()

    def ask_to_show(self) -> bool:
        """Have the running window come to the front.

        Returns:
            Whether it is there; False where nobody listens, or does not any more.

        Raises:
            TimeoutError: somebody listens and does not answer.
        """
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        shown = False
        if socket.waitForConnected(_ANSWER_MS):
            socket.write(_SHOW)
            socket.flush()
            while not socket.canReadLine() and socket.waitForReadyRead(_ANSWER_MS):
                pass
            shown = socket.canReadLine() and socket.readLine().data() == _SHOWN
        gone = socket.state() is QLocalSocket.LocalSocketState.UnconnectedState
        late = socket.error() is QLocalSocket.LocalSocketError.SocketTimeoutError
        socket.abort()
        if not shown and (late or not gone):
            raise TimeoutError
        return shown

    def holder(self) -> str:
        """Who has the claim, as "process 4711"."""
        known, process, _, _ = self._lock.getLockInfo()
        return f"process {process}" if known else f"whose process {self._path} does not name"

    def release(self) -> None:
        """Let go of the claim: the run has ended in order. Harmless when called again."""
        self.hang_up()  # before the lock goes: closing takes the server's name away, which is the next one's by then
        if self._lock.isLocked():
            if not (self._late and self.crashed):  # which nobody was asked about
                with contextlib.suppress(OSError):
                    self._mark.unlink(missing_ok=True)
            self._lock.unlock()

    def hang_up(self) -> None:
        """Answer no second start any more: the window is closed. Harmless when called again."""
        self._again.stop()
        for socket in tuple(self._asking):
            socket.abort()
        if self._server is not None:
            self._server.close()
            self._server.deleteLater()
            self._server = None

    def _says_who(self) -> bool:
        """Whether the lock file says whose it is."""
        known, _, _, _ = self._lock.getLockInfo()
        return known

    def _take_damaged(self) -> bool:
        """Take a lock file's place that says nothing, as a power cut leaves one; the system knows of nobody who has it.

        One that has just been made says nothing either, for a moment.
        """
        if self._says_who():
            return False
        time.sleep(_MADE_S)
        return not self._says_who() and self._lock.removeStaleLockFile() and self._lock.tryLock(0)

    def _listen(self) -> None:
        QLocalServer.removeServer(self._name)  # a crash leaves it behind, and the claim is ours
        self._server = server = QLocalServer()
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        server.newConnection.connect(self._take)
        if not server.listen(self._name):
            logger.warning("a second start will not find this window: %s", server.errorString())

    def _take(self) -> None:
        while self._server is not None and (socket := self._server.nextPendingConnection()) is not None:
            # Qt owns the socket and Python's half of it nobody: held by its own slots alone, it would be collected with
            # them, and Qt would call what is left of them, which ends the process.
            self._asking.append(socket)
            socket.readyRead.connect(self._answer)
            socket.disconnected.connect(self._let_go)
        self._answer()
        self._let_go()  # of those that had gone before they were taken

    def _answer(self) -> None:
        for socket in tuple(self._asking):
            if socket.canReadLine() and socket.readLine().data() == _SHOW:
                self.show()
                if socket.state() is QLocalSocket.LocalSocketState.ConnectedState:
                    socket.write(_SHOWN)
                    socket.flush()

    def _let_go(self) -> None:
        gone = [socket for socket in self._asking if socket.state() is QLocalSocket.LocalSocketState.UnconnectedState]
        for socket in gone:
            self._asking.remove(socket)
            socket.deleteLater()
