"""How long the parts of a step take."""

import pytest

from app.pipeline.animation.stopwatch import Stopwatch


def test_a_part_is_told_by_its_name_and_one_that_fails_is_not() -> None:
    told: list[tuple[str, float]] = []
    watch = Stopwatch(lambda name, took_s: told.append((name, took_s)))
    with watch.timed("crop"):
        assert told == []
    with pytest.raises(ValueError, match="no face"), watch.timed("detect"):
        raise ValueError("no face")
    ((name, took_s),) = told
    assert name == "crop"
    assert took_s >= 0
