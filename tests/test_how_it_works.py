"""docs/how-it-works.md shows what its command makes."""

import re
from pathlib import Path

import numpy as np

from mcnet.media.images import read_rgb
from tests.how_it_works import FOLDER, make

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "how-it-works.md"
OF_THE_WINDOW = "window.jpg"
MOST_BYTES = 1_500_000


def shown() -> set[str]:
    """The pictures of the page, by their names."""
    links = re.findall(r"!\[.+?\]\((.+?)\)", PAGE.read_text(encoding="utf-8"))
    assert all(Path(link).parent.name == FOLDER.name for link in links)
    return {Path(link).name for link in links}


def test_the_command_makes_every_picture_that_the_page_shows(tmp_path: Path) -> None:
    assert make(tmp_path / "made") == 0
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made == shown() - {OF_THE_WINDOW}
    for name in made:
        kept, again = (read_rgb(folder / name) for folder in (ROOT / FOLDER, tmp_path / "made"))
        # The same pictures, but for what another processor's rounding changes in single pixels and words.
        assert kept.shape[1] == again.shape[1], name
        rows = min(len(kept), len(again))
        assert np.abs(kept[:rows].astype(int) - again[:rows]).mean() < 4, name


def test_the_pictures_are_all_there_and_small() -> None:
    kept = {path.name for path in (ROOT / FOLDER).iterdir()}
    assert kept == shown()
    assert sum(path.stat().st_size for path in (ROOT / FOLDER).iterdir()) < MOST_BYTES
