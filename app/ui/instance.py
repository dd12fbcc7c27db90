"""One window per user and settings, and whether the one before ended in order."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QLockFile
from PyQt6.QtNetwork import QLocalServer, QLocalSocket

logger = logging.getLogger(__name__)

_ANSWER_MS = 20_000
"""A window that is loading its model on a busy machine may be that late."""
_SHOW, _SHOWN = b"show\n", b"shown\n"


class Instance:
    """Claims settings for one window, and lets a second start bring that window to the front.

    The claim is a lock file beside the settings. It goes when the window ends in order; one that is left by a process
    that is no more tells of a crash, or of a power cut.

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
        digest = hashlib.sha256(str(settings_path.absolute()).encode()).hexdigest()
        self._name = f"mcnet-avatar-{digest[:16]}"
        self._server: QLocalServer | None = None

    def claim(self) -> bool:
        """Take the claim, unless a running window has it; where no lock can be written, nobody has."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            left = self._path.exists()
        except OSError as error:
            logger.warning("cannot look for a running window: %s", error)
            return True
        if not self._lock.tryLock(0):
            if self._lock.error() == QLockFile.LockError.LockFailedError:
                return False
            logger.warning("cannot write %s, so that a second start would not find this window", self._path)
            return True
        self.crashed = left
        self._listen()
        return True

    def ask_to_show(self) -> bool:
        """Have the running window come to the front; returns whether it answered."""
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(_ANSWER_MS):
            return False
        socket.write(_SHOW)
        socket.flush()
        shown = socket.waitForReadyRead(_ANSWER_MS) and socket.readAll().data() == _SHOWN
        socket.abort()
        return shown

    def holder(self) -> str:
        """Who has the claim, as "process 4711"."""
        _, process, _, _ = self._lock.getLockInfo()
        return f"process {process}"

    def release(self) -> None:
        """Let go of the claim: the run has ended in order. Harmless when called again."""
        if self._server is not None:
            self._server.close()
            self._server.deleteLater()
            self._server = None
        self._lock.unlock()

    def _listen(self) -> None:
        QLocalServer.removeServer(self._name)  # a crash leaves it behind, and the claim is ours
        self._server = server = QLocalServer()
        server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        server.newConnection.connect(self._take)
        if not server.listen(self._name):
            logger.warning("a second start will not find this window: %s", server.errorString())

    def _take(self) -> None:
        if self._server is None or (socket := self._server.nextPendingConnection()) is None:
            return
        socket.disconnected.connect(socket.deleteLater)
        socket.readyRead.connect(lambda: self._answer(socket))
        if socket.bytesAvailable():
            self._answer(socket)

    def _answer(self, socket: QLocalSocket) -> None:
        if socket.readAll().data() == _SHOW:
            self.show()
            socket.write(_SHOWN)
            socket.flush()
