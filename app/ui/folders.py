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
    message tells of it until it answers.

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
        self._silent: set[Path] = set()
        self._workers: dict[Path, tuple[Worker, QTimer]] = {}
        self._closed = False

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return sum(worker.busy for worker, _ in self._workers.values())

    def run(
        self,
        folder: Path,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        *,
        keeps: bool = False,
    ) -> None:
        """Do work in a folder, after what was asked for there before; as `Worker.run`.

        Args:
            folder: where it works.
            work: carries all its inputs.
            done: not called after `stop`.
            failed: likewise.
            keeps: the work keeps what the user has done.
        """
        if self._closed:
            return
        if folder not in self._workers:
            self._workers[folder] = self._begin(folder)
        worker, timer = self._workers[folder]

        def answered(hand_over: Callable[[T], None] | Callable[[Exception], None], answer: T | Exception) -> None:
            self._follow_answer(folder)
            hand_over(answer)  # type: ignore[arg-type]

        worker.run(work, lambda answer: answered(done, answer), lambda error: answered(failed, error), keeps=keeps)
        if not timer.isActive():
            timer.start()

    def ask(self, folder: Path, then: Callable[[bool], None]) -> None:
        """Tell `then` whether a folder answers: at once where it does, and in a moment where it does not."""
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: then(False))

        def conclude(answers: bool) -> None:
            if timer.isActive():  # nobody was told
                timer.stop()
                then(answers)

        timer.start(_MOMENT_MS)
        self.run(folder, folder.is_dir, lambda _: conclude(True), lambda _: conclude(False))

    def stop(self) -> bool:
        """Take no more work, and wait for what keeps something; harmless when called again.

        Returns:
            Whether all threads have ended.
        """
        self._closed = True
        for timer in self.findChildren(QTimer):
            timer.stop()
        return stop_together([worker for worker, _ in self._workers.values()])

    def _begin(self, folder: Path) -> tuple[Worker, QTimer]:
        worker, timer = Worker(f"folder worker {len(self._workers)}"), QTimer(self)
        worker.busy_changed.connect(lambda _: self.busy_changed.emit(self.busy))
        timer.setSingleShot(True)
        timer.setInterval(_SILENT_MS)
        timer.timeout.connect(lambda: self._tell(folder))
        return worker, timer

    def _follow_answer(self, folder: Path) -> None:
        worker, timer = self._workers[folder]
        timer.stop()
        if worker.busy:
            timer.start()
        if folder in self._silent:
            self._silent.remove(folder)
            self.cleared.emit(_key(folder))

    def _tell(self, folder: Path) -> None:
        self._silent.add(folder)
        text = tr(
            "The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output "
            "and computer” if it stays so.",
            folder=folder,
        )
        self.told.emit(Message(_key(folder), text, tone="warning"))


def _key(folder: Path) -> str:
    return f"folder {folder}"
