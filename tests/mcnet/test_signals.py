"""Signals that are handled in another way for a while."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcnet.signals import STOPPING, StopSignals, handled_by, starting_processes


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_becomes_a_wish_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with StopSignals() as stop:
        assert not stop.received
        signal.raise_signal(number)
        assert stop.received == number.name
    assert [signal.getsignal(each) for each in STOPPING] == before


_CLOSED_TERMINAL = """
import os, pathlib, signal, sys
from mcnet.signals import StopSignals
from mcnet.streams import steady_streams
steady_streams()
os.open(os.ttyname(2), os.O_RDWR)  # whoever leads a session has it then
with StopSignals() as stop:
    print("ready", file=sys.stderr, flush=True)
    while not stop.received:
        signal.pause()
    print("what is said last", file=sys.stderr, flush=True)
    print("and this", flush=True)
pathlib.Path(sys.argv[1]).write_text(stop.received)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals that hang up")
@pytest.mark.usefixtures("_signals_are_heard")
def test_what_runs_in_a_terminal_that_is_closed_ends_in_order(tmp_path: Path) -> None:
    terminal, end = os.openpty()
    command = [sys.executable, "-c", _CLOSED_TERMINAL, str(tmp_path / "ended")]
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, start_new_session=True) as process:
        os.close(end)
        assert os.read(terminal, 5) == b"ready"
        os.close(terminal)
        assert process.wait(20) == 0
    assert (tmp_path / "ended").read_text(encoding="utf-8") == "SIGHUP"


@pytest.mark.usefixtures("_signals_are_heard")
def test_other_processes_of_a_program_leave_a_terminal_to_it() -> None:
    code = (
        "import signal; from mcnet.signals import FROM_TERMINAL, leave_terminal_to_parent\n"
        "leave_terminal_to_parent()\n"
        "for number in FROM_TERMINAL: signal.raise_signal(number)\n"
        "print('goes on', flush=True); signal.raise_signal(signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stdout.strip() == b"goes on"
    assert done.returncode == -signal.SIGTERM


def test_the_second_ctrl_c_interrupts_and_the_first_signal_keeps_its_name() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.received == "SIGTERM"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_who_is_to_outlive_the_terminal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.received
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError), handled_by(signal.SIG_IGN, signal.SIGTERM):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is before


def test_on_another_thread_the_block_runs_and_nothing_is_set() -> None:
    seen = []

    def run() -> None:
        with handled_by(lambda *_: None), StopSignals() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.received))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(signal.getsignal(signal.SIGINT), None)]


_SAYS_WHAT_IS_BLOCKED = "import signal; print(sorted(one.name for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that reach a group")
@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize("number", STOPPING)
def test_what_comes_while_a_process_is_started_is_heard_behind_it(number: signal.Signals) -> None:
    """And what is started leaves the terminal's signals to who started it, but ends when that one asks it to."""
    reached = []
    with StopSignals() as stop:
        with starting_processes():
            os.kill(os.getpid(), number)
            started = subprocess.run(
                [sys.executable, "-c", _SAYS_WHAT_IS_BLOCKED],
                capture_output=True,
                check=True,
                text=True,
                encoding="utf-8",
            )
            reached.append(stop.received)
        reached.append(stop.received)
    assert reached == [None, number.name]
    assert started.stdout.strip() == "['SIGHUP', 'SIGINT']"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.usefixtures("_signals_are_heard")
def test_a_start_that_fails_leaves_signals_as_they_were() -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with pytest.raises(OSError, match="no more processes"), starting_processes():
        raise OSError("no more processes")
    assert [signal.getsignal(each) for each in STOPPING] == before
