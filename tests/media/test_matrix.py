"""Every row of `docs/media.md`: the file is made, read, written and measured."""

from pathlib import Path

import pytest

from tests.media.matrix import Case, cases, examined, page

CASES = list(cases())
_rows: dict[Case, tuple[str, ...]] = {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {', '.join(case.name)}")
def test_is_read_and_carried_as_it_should_be(case: Case) -> None:
    _rows[case] = examined(case)


def test_the_page_is_current() -> None:
    """After `python -m tests.media.matrix docs/media.md`."""
    text = page({case: _rows[case] if case in _rows else examined(case) for case in CASES})
    assert (Path(__file__).parents[2] / "docs" / "media.md").read_text(encoding="utf-8") == text
