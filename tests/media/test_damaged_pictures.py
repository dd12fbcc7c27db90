from pathlib import Path

import pytest

from mcnet.media.images import read_rgb
from tests.media.damaged_pictures import read_damaged, whole_pictures


def test_whole_ones_are_read(tmp_path: Path) -> None:
    for kind, content in whole_pictures().items():
        (tmp_path / kind).write_bytes(content)
        assert sorted(read_rgb(tmp_path / kind).shape) == [3, 96, 128]


def test_damaged_ones_give_a_picture_or_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = read_damaged(count=290, seed=7, folder=tmp_path)
    assert not [outcome for outcome in outcomes if outcome.fault]
    assert sum(bool(outcome.said) for outcome in outcomes) > 100
    assert capfd.readouterr() == ("", "")
