import threading
import time
from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot

from app.ui.worker import Worker, stop_together


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("ui-worker", threads=2)
    yield made
    assert made.stop(2.0)


def fail(error: Exception) -> None:
    raise AssertionError(f"not expected: {error!r}")


def test_work_runs_elsewhere_and_its_answer_comes_here(worker: Worker, qtbot: QtBot) -> None:
    answers: list[tuple[threading.Thread, threading.Thread]] = []
    worker.run(threading.current_thread, lambda there: answers.append((there, threading.current_thread())), fail)
    qtbot.waitUntil(lambda: bool(answers))
    there, here = answers[0]
    assert there.name.startswith("ui-worker")
    assert here is threading.main_thread()


def test_an_error_is_handed_over(worker: Worker, qtbot: QtBot) -> None:
    errors: list[Exception] = []
    worker.run(lambda: 1 // 0, lambda _: None, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert isinstance(errors[0], ZeroDivisionError)
    assert worker.busy == 0


def test_busy_counts_what_is_under_way(worker: Worker, qtbot: QtBot) -> None:
    gate = threading.Event()
    counts: list[int] = []
    worker.busy_changed.connect(counts.append)
    for _ in range(3):
        worker.run(gate.wait, lambda _: None, fail)
    assert worker.busy == 3
    gate.set()
    qtbot.waitUntil(lambda: worker.busy == 0)
    assert counts == [1, 2, 3, 2, 1, 0]


def test_a_slow_job_does_not_hold_up_another(worker: Worker, qtbot: QtBot) -> None:
    gate = threading.Event()
    answers: list[str] = []
    worker.run(gate.wait, lambda _: answers.append("slow"), fail)
    worker.run(lambda: None, lambda _: answers.append("quick"), fail)
    qtbot.waitUntil(lambda: answers == ["quick"])
    gate.set()
    qtbot.waitUntil(lambda: answers == ["quick", "slow"])


def test_stop_drops_what_waits_and_delivers_nothing_more(qtbot: QtBot) -> None:
    worker = Worker("ui-worker")
    gate, started = threading.Event(), threading.Event()
    done: list[object] = []
    worker.run(lambda: started.set() or gate.wait(), done.append, fail)  # type: ignore[func-returns-value]
    started.wait(5)
    worker.run(lambda: done.append("ran"), done.append, fail)
    kept: list[str] = []
    worker.run(lambda: kept.append("what the user did"), done.append, fail, keeps=True)
    began_s = time.monotonic()
    assert not worker.stop(0.05)
    assert time.monotonic() - began_s < 5
    assert kept == ["what the user did"]
    gate.set()
    assert worker.stop(2.0)
    assert worker.stop(2.0)
    worker.run(lambda: done.append("late"), done.append, fail)
    qtbot.wait(20)
    assert not done
    assert len(kept) == 1


def test_several_that_hang_are_waited_for_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ui.worker._KEEPING_S", 2.0)
    workers, gate = [Worker(f"ui-worker {n}") for n in range(8)], threading.Event()
    for worker in workers:
        worker.run(gate.wait, lambda _: None, fail, keeps=True)
    began_s = time.monotonic()
    assert not stop_together(workers)
    assert 2.0 <= time.monotonic() - began_s < 10.0
    gate.set()
    assert stop_together(workers, 5.0)
