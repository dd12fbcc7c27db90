"""Processes that the program starts."""

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import pytest

from mcnet.processes import start_process

_PATIENCE_S = 30.0


def tell_what_is_blocked(connection: "Connection[list[str], str]", *also: str) -> None:
    blocked = sorted(signal.Signals(one).name for one in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    connection.send([*blocked, *also])


def answer(connection: "Connection[str, str]") -> None:
    connection.send(connection.recv() + ", too")


def die(_connection: "Connection[str, str]") -> None:
    os._exit(3)


_STARTS_TWO = """
from mcnet.processes import start_process
from tests.mcnet.test_processes import tell_what_is_blocked
for number in "12":
    process, pipe = start_process(tell_what_is_blocked, number)
    print(*(pipe.recv() if pipe.poll(30) else ["nothing"]))
    process.join()
"""

_ON_ANOTHER_THREAD = f"""
import threading
thread = threading.Thread(target=exec, args=({_STARTS_TWO!r}, {{}}))
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there handlers are inherited, not masks")
@pytest.mark.parametrize("code", [_STARTS_TWO, _ON_ANOTHER_THREAD], ids=["main thread", "another thread"])
def test_the_first_process_of_a_program_leaves_ctrl_c_to_it_as_later_ones_do(code: str) -> None:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=3 * _PATIENCE_S)
    assert done.stdout.splitlines() == ["SIGHUP SIGINT 1", "SIGHUP SIGINT 2"]


def test_a_process_has_its_name_and_a_pipe_to_it() -> None:
    process, pipe = start_process(answer, name="somebody")
    with pipe:
        pipe.send("we")
        assert pipe.poll(_PATIENCE_S)
        assert pipe.recv() == "we, too"
    process.join(_PATIENCE_S)
    assert (process.name, process.daemon, process.exitcode) == ("somebody", True, 0)


def test_its_death_is_the_end_of_the_pipe() -> None:
    process, pipe = start_process(die, duplex=False, daemon=False)
    with pipe:
        assert pipe.poll(_PATIENCE_S)
        with pytest.raises(EOFError):
            pipe.recv()
    process.join(_PATIENCE_S)
    assert (process.daemon, process.exitcode) == (False, 3)


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.skipif(sys.platform == "win32", reason="a signal is raised in the middle of a start")
def test_ctrl_c_during_a_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SpawnProcess.start
    started: list[SpawnProcess] = []

    def start(process: SpawnProcess) -> None:
        real(process)
        started.append(process)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(KeyboardInterrupt):
        start_process(answer)
    (process,) = started
    assert process.exitcode == -signal.SIGKILL


def test_a_start_that_fails_closes_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Connection[str, str]] = []

    class Full:
        """A system with room for a pipe, and none for a process."""

        def __init__(self) -> None:
            self._real = multiprocessing.get_context("spawn")  # noqa: TID251

        def Pipe(self, duplex: bool) -> "tuple[Connection[str, str], Connection[str, str]]":  # noqa: N802
            ours, theirs = self._real.Pipe(duplex)
            ends.extend((ours, theirs))
            return ours, theirs

        def Process(self, **_: object) -> "Full":  # noqa: N802
            return self

        pid = None

        def start(self) -> None:
            raise OSError("no more processes")

    full = Full()
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: full)
    with pytest.raises(OSError, match="no more processes"):
        start_process(answer)
    assert [end.closed for end in ends] == [True, True]
