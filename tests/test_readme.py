"""What the README says can be typed in works."""

import re
import runpy
from pathlib import Path

import pytest

from mcnet.media.images import read_rgb

ROOT = Path(__file__).parent.parent


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(
        r"^```python\n(.+?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert example is not None
    (tmp_path / "example.py").write_text(example[1], encoding="utf-8")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")
    assert read_rgb(tmp_path / "out.png").shape == (256, 256, 3)
