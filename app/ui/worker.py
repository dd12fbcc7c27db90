"""Slow work, off the GUI thread."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from PyQt6.QtCore import Qt, pyqtSignal

from app.ui.bridge import FromThreads

logger = logging.getLogger(__name__)

T = TypeVar("T")

_KEEPING_S = 10.0
"""What the user has done to a photograph, and closed the window, may take that long on a busy machine."""


class Worker(FromThreads):
    """Runs jobs on a few named threads and brings their answers to the GUI thread.

    A job carries all its inputs. The threads are daemons: one that hangs in a driver does not keep the program from
    ending. After `stop` no answer arrives any more.

    Args:
        name: of the threads.
        threads: how many jobs may run side by side; with one they run in the order in which they were asked for.

    Signals:
        busy_changed: how many jobs are under way.
        _answered: a function that hands an answer over, always queued.
    """

    busy_changed = pyqtSignal(int)
    _answered = pyqtSignal(object)

    def __init__(self, name: str, threads: int = 1) -> None:
        super().__init__()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], bool] | None] = queue.SimpleQueue()
        self._name = name
        self._busy = 0
        self._keeping = 0
        self._kept = threading.Condition()  # guards the number above
        self._answered.connect(self._deliver, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs
        self._threads = [threading.Thread(target=self._work, name=f"{name} {n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return self._busy

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        *,
        keeps: bool = False,
    ) -> None:
        """Do `work` on a thread; then, on the GUI thread, call `done` with its answer or `failed` with its error.

        Args:
            work: carries all its inputs.
            done: not called after `stop`.
            failed: likewise.
            keeps: the work keeps what the user has done: `stop` does not drop it, and waits for it.
        """
        if self._closed:
            return
        self._count(1)

        def job() -> None:
            try:
                answer = work()
            except Exception as error:
                logger.debug("a job failed", exc_info=True)
                self._answer(lambda error=error: failed(error))  # type: ignore[misc]
            else:
                self._answer(lambda: done(answer))
            finally:
                self._count_keeping(-keeps)

        self._count_keeping(keeps)
        self._jobs.put((job, keeps))

    def stop(self, timeout_s: float = 0.5) -> bool:
        """Take no more jobs, drop the waiting ones that keep nothing, wait for the threads; harmless when called again.

        Returns:
            Whether all threads have ended. One that has not will end with the program.
        """
        return stop_together([self], timeout_s)

    def _end(self) -> None:
        self._carry_no_more()
        if self._keeping:  # what is under way may take long
            last = threading.Thread(target=self._work, name=f"{self._name} last", daemon=True)
            self._threads.append(last)
            last.start()
        for _ in self._threads:
            self._jobs.put(None)

    def _await_keeping(self, deadline_s: float) -> None:
        with self._kept:
            self._kept.wait_for(lambda: not self._keeping, max(0.0, deadline_s - time.monotonic()))

    def _await_end(self, deadline_s: float) -> bool:
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (asked := self._jobs.get()) is not None:
            job, keeps = asked
            if keeps or not self._closed:
                job()

    def _count_keeping(self, change: int) -> None:
        with self._kept:
            self._keeping += change
            self._kept.notify_all()

    def _answer(self, hand_over: Callable[[], None]) -> None:
        self._carry(self._answered, hand_over)

    def _deliver(self, hand_over: Callable[[], None]) -> None:
        if not self._closed:
            self._count(-1)
            hand_over()

    def _count(self, change: int) -> None:
        self._busy += change
        self.busy_changed.emit(self._busy)


def stop_together(workers: Sequence[Worker], timeout_s: float = 0.5) -> bool:
    """Stop each, as `Worker.stop`; several that hang are not waited for any longer than one.

    Returns:
        Whether all threads of all have ended.
    """
    for worker in workers:
        worker._end()
    deadline_s = time.monotonic() + _KEEPING_S
    for worker in workers:
        worker._await_keeping(deadline_s)
    deadline_s = time.monotonic() + timeout_s
    return all(worker._await_end(deadline_s) for worker in workers)
