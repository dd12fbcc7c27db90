"""Work in folders, and what is told of those that do not answer."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.ui.folders import Folders
from app.ui.messages import Message


class Bench:
    """Folders, what they tell, and whether one of them answers."""

    def __init__(self) -> None:
        self.folders = Folders()
        self.told: list[Message] = []
        self.cleared: list[str] = []
        self.answers = threading.Event()
        self.looks = 0
        self.answers.set()
        self.folders.told.connect(self.told.append)
        self.folders.cleared.connect(self.cleared.append)

    def is_folder(self, path: Path) -> bool:
        self.looks += 1
        return path == Path("elsewhere") or self.answers.wait(60)

    def go_on(self, path: Path, qtbot: QtBot) -> None:
        """So much time goes by as a look may take; one that has an answer has it by then."""
        folder = self.folders._folder(path)
        qtbot.waitUntil(lambda: not folder._looking or not self.answers.is_set())
        folder._look_after_it()

    def work(self, path: Path, gate: threading.Event) -> None:
        self.folders.run(path, lambda: gate.wait(60), lambda _: None, lambda _: None)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench()
    monkeypatch.setattr("app.ui.folders._is_folder", made.is_folder)
    monkeypatch.setattr("app.ui.folders._SILENT_MS", 60_000)
    yield made
    made.answers.set()
    made.folders.stop()


def test_work_that_takes_long_is_no_silence_and_holds_up_no_other(bench: Bench, qtbot: QtBot, tmp_path: Path) -> None:
    gate, done = threading.Event(), list[bool]()
    bench.work(tmp_path, gate)
    for looks in range(1, 4):
        qtbot.waitUntil(lambda: not bench.folders._folder(tmp_path)._looking)
        assert bench.looks == looks
        bench.go_on(tmp_path, qtbot)
    bench.folders.run(tmp_path, lambda: True, done.append, lambda _: None)
    qtbot.waitUntil(lambda: done == [True])
    assert bench.told == []
    gate.set()
    qtbot.waitUntil(lambda: not bench.folders.busy and not bench.folders._folder(tmp_path)._looking)
    looks = bench.looks
    for _ in range(3):
        bench.go_on(tmp_path, qtbot)
    assert not bench.folders._folder(tmp_path)._patience.isActive(), "nothing waits for it any more"
    assert bench.looks == looks
    assert bench.told == []


def test_one_that_falls_silent_during_the_work_is_told_until_it_answers(
    bench: Bench, qtbot: QtBot, tmp_path: Path
) -> None:
    gate, elsewhere = threading.Event(), Path("elsewhere")
    bench.work(tmp_path, gate)
    bench.go_on(tmp_path, qtbot)
    qtbot.waitUntil(lambda: not bench.folders._folder(tmp_path)._looking)
    bench.answers.clear()
    for _ in range(4):
        bench.go_on(tmp_path, qtbot)
    assert [message.text.startswith(f"The folder {tmp_path} does not answer") for message in bench.told] == [True]
    bench.work(tmp_path, gate)
    assert len(bench.told) == 2, "at once: it is known"
    asked: list[bool | None] = []
    bench.folders.ask(elsewhere, asked.append)
    qtbot.waitUntil(lambda: asked == [True])
    assert bench.cleared == []
    bench.answers.set()
    qtbot.waitUntil(lambda: bench.cleared == [bench.told[0].key])
    gate.set()
    qtbot.waitUntil(lambda: not bench.folders.busy)


def test_who_asks_is_told_once(bench: Bench, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ui.folders._MOMENT_MS", 50)
    asked: list[bool | None] = []
    bench.answers.clear()
    for _ in range(2):
        bench.folders.ask(tmp_path, asked.append)
    qtbot.waitUntil(lambda: asked == [None, None])
    bench.answers.set()
    qtbot.waitUntil(lambda: bool(bench.cleared))
    assert asked == [None, None]
