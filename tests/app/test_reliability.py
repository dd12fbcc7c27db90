"""That docs/reliability.md says what the tests do."""

import re
from pathlib import Path

from tests.app.pipeline.test_pipeline import MATRIX

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_matrix_in_the_docs_is_the_one_that_is_run() -> None:
    rows = re.findall(r"^\|[^|]*\|[^|]+\| `(?!test_)(\w+)` \|", TEXT, flags=re.MULTILINE)
    assert rows == [fault.__name__.strip("_") for fault, _, _ in MATRIX]
    assert f"**{len(rows)} of {len(rows)} rows" in TEXT


def test_every_test_that_the_docs_name_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []
