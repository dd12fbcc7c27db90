import pytest

from app.ui.cleanup import Cleanup


def test_it_runs_once_in_reverse_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    stopped: list[str] = []
    cleanup = Cleanup()
    cleanup.add("first", lambda: stopped.append("first"))
    cleanup.add("broken", lambda: 1 // 0)
    cleanup.add("last", lambda: stopped.append("last"))
    assert not cleanup.run()
    assert cleanup.run()
    assert stopped == ["last", "first"]
    assert "stopping the broken failed" in caplog.text


def test_what_a_stopper_registers_is_stopped_too() -> None:
    stopped: list[str] = []
    cleanup = Cleanup()
    cleanup.add("outer", lambda: cleanup.add("inner", lambda: stopped.append("inner")))
    assert cleanup.run()
    assert stopped == ["inner"]


def test_it_tells_whether_something_still_runs() -> None:
    cleanup = Cleanup()
    cleanup.add("done", lambda: True)
    cleanup.add("silent", lambda: None)
    assert cleanup.run()
    cleanup.add("busy", lambda: False)
    assert not cleanup.run()
