"""Signals that are handled in another way for a while."""

import contextlib
import signal
import sys
import threading

import pytest

from mcnet.signals import STOPPING, StopSignals, handled_by


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_a_signal_becomes_a_wish_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with StopSignals() as stop:
        assert not stop.received
        signal.raise_signal(number)
        assert stop.received == number.name
    assert [signal.getsignal(each) for each in STOPPING] == before


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
