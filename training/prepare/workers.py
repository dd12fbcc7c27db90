"""Many tasks in several processes: a process that dies fails its task only, and Ctrl-C ends all of them at once."""

import collections
import contextlib
import os
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Generic, NamedTuple, TypeVar

from mcnet.errors import sentence
from mcnet.processes import start_process

T = TypeVar("T")
R = TypeVar("R")

_PATIENCE_S = 5.0


class WorkerError(RuntimeError):
    """What stops everything, such as a full disk; the message says what it is."""


class Failure(NamedTuple):
    """Why a task failed.

    Attributes:
        reason: in one line.
        details: the traceback where there is one, else the reason.
        died: whether the process died of it.
    """

    reason: str
    details: str
    died: bool = False

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Of an exception that is being handled."""
        return cls(" ".join(sentence(error).split()), traceback.format_exc())


class Outcome(NamedTuple, Generic[T, R]):
    """What became of a task.

    Attributes:
        task: the task itself.
        result: what the function answered; None if it failed.
        failure: why it failed; None if it did not.
    """

    task: T
    result: R | None
    failure: Failure | None = None


def run_tasks(function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Generator[Outcome[T, R], None, None]:
    """Run a function on many tasks, and answer in the order in which they end.

    With one worker it runs here, in this process, one task after the other. With more, each is a fresh process
    ("spawn": threads and locks of this one are not copied) with one thread for numerical libraries. The first of them
    takes tasks from the end and the others take them from the beginning, so that with tasks in the order of their cost
    many results come early, and the most expensive task does not begin last. Leaving the iterator early ends the
    processes.

    Args:
        function: of a module's top level, so that it can be sent.
        tasks: what can be sent likewise, the cheapest first.
        workers: at least 1.

    Yields:
        One outcome per task. An exception, or the death of a worker, is a failure of its task.

    Raises:
        WorkerError: a function raised it.
    """
    if workers > 1:
        yield from _run_in_processes(function, list(tasks), workers)
        return
    for task in tasks:
        try:
            outcome = Outcome[T, R](task, function(task))
        except WorkerError:
            raise
        except Exception as error:
            outcome = Outcome(task, None, Failure.of(error))
        yield outcome


class _Worker(Generic[T, R]):
    """A process that takes tasks one by one.

    Args:
        function: to run.
        from_end: whether it takes its tasks from the end.
    """

    def __init__(self, function: Callable[[T], R], *, from_end: bool) -> None:
        self.from_end = from_end
        self.task: T | None = None
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # the process inherits it
        try:
            self.process, self.connection = start_process(_serve, function)
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def give(self, task: T) -> None:
        self.task = task
        # A worker that died before its first task is found out when its answer is waited for.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(task)

    def receive(self) -> Outcome[T, R]:
        task, self.task = self.task, None
        assert task is not None
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(_PATIENCE_S)
            reason = f"the process died (exit code {self.process.exitcode})"
            return Outcome(task, None, Failure(reason, reason, died=True))
        if kind == "stop":
            raise WorkerError(value)
        return Outcome(task, value) if kind == "done" else Outcome(task, None, value)

    def close(self) -> None:
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join(_PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _run_in_processes(function: Callable[[T], R], tasks: list[T], workers: int) -> Iterator[Outcome[T, R]]:
    waiting = collections.deque(tasks)
    team: dict[Connection, _Worker[T, R]] = {}

    def give_next(worker: _Worker[T, R]) -> None:
        if waiting:
            worker.give(waiting.pop() if worker.from_end else waiting.popleft())

    def engage() -> None:
        if waiting:
            worker = _Worker(function, from_end=not any(other.from_end for other in team.values()))
            team[worker.connection] = worker
            give_next(worker)

    try:
        for _ in range(min(workers, len(tasks))):
            engage()
        while busy := [connection for connection, worker in team.items() if worker.task is not None]:
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                worker = team[ready]
                outcome = worker.receive()
                if not worker.process.is_alive():
                    team.pop(ready).close()
                    engage()
                else:
                    give_next(worker)
                yield outcome
    finally:
        for worker in team.values():
            worker.close()


def _serve(connection: Connection, function: Callable[[T], R]) -> None:
    """A worker's life: until the other end is closed."""
    with connection:
        while True:
            try:
                task = connection.recv()
            except (EOFError, ConnectionError):
                return
            answer: tuple[str, R | str | Failure]
            try:
                answer = ("done", function(task))
            except WorkerError as error:
                answer = ("stop", str(error))
            except Exception as error:
                answer = ("failed", Failure.of(error))
            try:
                connection.send(answer)
            except ConnectionError:  # nobody is there any more who waits for it
                return
