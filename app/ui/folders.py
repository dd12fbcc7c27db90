"""Work in folders that may lie in a network, and not answer for a while."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.ui.languages import tr
from app.ui.messages import Message
from app.ui.worker import Worker, stop_together

T = TypeVar("T")

_SILENT_MS = 3000
_MOMENT_MS = 500


class Folders(QObject):
    """Has work done in folders, in each by a worker of its own. Lives on the GUI thread.

    So one that does not answer holds up what is to be done there, and nothing else: another one can be chosen. A
    message tells of it until it answers. Whether it does, looks tell, beside the work: that may take long by itself.

    Signals:
        busy_changed: how many jobs are under way.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    busy_changed = pyqtSignal(int)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[Path, _Folder] = {}
        self._closed = False

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return sum(folder.worker.busy for folder in self._folders.values())

    def run(
        self,
        folder: Path,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        *,
        keeps: bool = False,
    ) -> None:
        """Do work in a folder, beside one other job there; as `Worker.run`.

        Args:
            folder: where it works.
            work: carries all its inputs.
            done: not called after `stop`.
            failed: likewise.
            keeps: the work keeps what the user has done.
        """
        if not self._closed:
            self._folder(folder).worker.run(work, done, failed, keeps=keeps)
            self._folder(folder).look()

    def ask(self, folder: Path, then: Callable[[bool | None], None]) -> None:
        """Tell `then` whether there is such a folder: at once where it answers, and None in a moment where it does not,
        of which a message tells. Not called after `stop`.
        """
        if not self._closed:
            self._folder(folder).ask(then)

    def stop(self) -> bool:
        """Take no more work, and wait for what keeps something; harmless when called again.

        Returns:
            Whether all threads have ended.
        """
        self._closed = True
        for timer in self.findChildren(QTimer):
            timer.stop()
        return stop_together([worker for one in self._folders.values() for worker in (one.worker, one.looker)])

    def _folder(self, path: Path) -> "_Folder":
        if path not in self._folders:
            made = self._folders[path] = _Folder(self, path, f"folder worker {len(self._folders)}")
            made.worker.busy_changed.connect(lambda _: self.busy_changed.emit(self.busy))
            made.told.connect(self.told)
            made.cleared.connect(self.cleared)
        return self._folders[path]


class _Folder(QObject):
    """One of them.

    Args:
        parent: of this and its timers.
        path: where it is.
        name: of its threads.

    Attributes:
        worker: does the work.
        looker: looks whether it is there, which tells whether it answers.

    Signals:
        told, cleared: as of `Folders`.
    """

    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self, parent: QObject, path: Path, name: str) -> None:
        super().__init__(parent)
        self.worker, self.looker = Worker(name, threads=2), Worker(f"{name} looks")
        self._path = path
        self._asked: list[Callable[[bool | None], None]] = []
        self._looking = self._silent = False
        self._patience, self._moment = QTimer(self), QTimer(self)
        self._patience.setInterval(_SILENT_MS)
        self._patience.timeout.connect(self._look_after_it)
        self._moment.setSingleShot(True)
        self._moment.setInterval(_MOMENT_MS)
        self._moment.timeout.connect(lambda: self._conclude(None))

    def look(self) -> None:
        """See whether it answers, now and as long as there is work."""
        if self._looking:
            if self._silent:  # the message may have been put away, and there is something new that waits
                self._tell()
            return
        self._looking = True
        self._patience.start()
        self.looker.run(lambda: _is_folder(self._path), self._hear, lambda _: self._hear(False))

    def ask(self, then: Callable[[bool | None], None]) -> None:
        """As `Folders.ask`."""
        self._asked.append(then)
        if not self._moment.isActive():
            self._moment.start()
        self.look()

    def _look_after_it(self) -> None:
        if self._looking:
            if not self._silent:
                self._tell()
        elif self.worker.busy:
            self.look()
        else:
            self._patience.stop()

    def _hear(self, there: bool) -> None:
        self._looking = False
        if self._silent:
            self._silent = False
            self.cleared.emit(self._key)
        self._conclude(there)

    def _conclude(self, there: bool | None) -> None:
        self._moment.stop()
        if there is None:
            self._tell()
        asked, self._asked = self._asked, []
        for then in asked:
            then(there)

    def _tell(self) -> None:
        self._silent = True
        text = tr(
            "The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output "
            "and computer” if it stays so.",
            folder=self._path,
        )
        self.told.emit(Message(self._key, text, tone="warning"))

    @property
    def _key(self) -> str:
        return f"folder {self._path}"


def _is_folder(path: Path) -> bool:
    return path.is_dir()
