"""What is said of errors, and to whom."""

import logging

import pytest

from mcnet.errors import UserError, log_failure


@pytest.mark.parametrize(("error", "level"), [(UserError("no such model"), "DEBUG"), (KeyError("a bug"), "ERROR")])
def test_only_a_bug_leaves_its_traceback_before_people(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log_failure(logging.getLogger("failing"), "loading 100 % of it", error)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, "loading 100 % of it")
    assert record.exc_info is not None
    assert record.exc_info[1] is error
