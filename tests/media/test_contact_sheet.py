import numpy as np
import pytest

from mcnet.media.contact_sheet import contact_sheet
from mcnet.media.errors import MediaError


def test_pictures_lie_in_their_cells_unstretched() -> None:
    red = np.full((100, 100, 3), (255, 0, 0), np.uint8)
    wide = np.full((50, 100, 3), (0, 255, 0), np.uint8)
    sheet = contact_sheet([[red, wide], [None, red]], cell_px=100)
    assert sheet.dtype == np.uint8
    first = sheet[4:104, 4:104]
    assert (first == (255, 0, 0)).all()
    second = sheet[4:104, 108:208]
    assert (second[25:75] == (0, 255, 0)).all()
    assert (second[:25] == sheet[0, 0]).all()
    assert (sheet[108:208, 4:104] == sheet[0, 0]).all()
    assert (sheet[108:208, 108:208] == (255, 0, 0)).all()


def test_labels_are_written_beside_the_pictures_only() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    rows = [[black, black, black]]
    sheet = contact_sheet(
        rows, column_labels=["source", "driving", "a label that is far too long"], row_labels=["0.5 s"]
    )
    bright = sheet.max(axis=2) > 120
    assert bright[:26].any()
    assert bright[:, :40].any()
    assert not bright[26:, 60:].any()
    assert sheet.shape == contact_sheet(rows, column_labels=["x"] * 3, row_labels=["0.7 s"]).shape


def test_sheets_that_cannot_be_laid_out_are_refused() -> None:
    with pytest.raises(MediaError, match="no picture"):
        contact_sheet([[]])
    with pytest.raises(MediaError, match="2 column labels for 1 columns"):
        contact_sheet([[np.zeros((9, 9, 3), np.uint8)]], column_labels=["a", "b"])
