"""Pictures side by side with their names: sheets to look at, and videos that show several at once."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.media.errors import MediaError

_BACKGROUND = 24
_TEXT = (224, 224, 224)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP_PX = 4
_BAR_PX = 26
_LETTER_SCALE = 0.5
_SMALLEST_LETTER_SCALE = 0.3


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8] | None]],
    *,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    cell_px: int = 256,
) -> NDArray[np.uint8]:
    """Lay pictures out in a grid on dark grey, each fitted into a square cell without being stretched.

    Args:
        rows: (H, W, 3) uint8 RGB pictures row by row, of any size; None leaves a cell empty, as does a short row.
        column_labels: one above each column, or none at all.
        row_labels: one on the left of each row, or none at all.
        cell_px: width and height of a cell.

    Returns:
        (H, W, 3) uint8 RGB. The size depends on the number of rows and columns and on the labels only, so that sheets
        of the same kind make a video.

    Raises:
        MediaError: there is no picture, or there are labels but not one for each row or column.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise MediaError("cannot lay out a sheet: got no picture, expected at least one")
    for labels, count, what in ((column_labels, columns, "column"), (row_labels, len(rows), "row")):
        if labels and len(labels) != count:
            raise MediaError(f"cannot lay out a sheet: got {len(labels)} {what} labels for {count} {what}s")
    top = _BAR_PX if column_labels else _GAP_PX
    left = max(map(_width_px, row_labels)) + 3 * _GAP_PX if row_labels else _GAP_PX
    pitch = cell_px + _GAP_PX
    sheet = np.full((top + len(rows) * pitch, left + columns * pitch, 3), _BACKGROUND, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                _place(sheet[top + y * pitch :, left + x * pitch :][:cell_px, :cell_px], picture)
    for x, label in enumerate(column_labels):
        _write(sheet[:top, left + x * pitch :][:, :cell_px], label)
    for y, label in enumerate(row_labels):
        _write(sheet[top + y * pitch :, :left][:cell_px], label)
    return sheet


def _place(cell: NDArray[np.uint8], picture: NDArray[np.uint8]) -> None:
    """Fit a picture into the middle of a view of the sheet."""
    scale = min(cell.shape[0] / picture.shape[0], cell.shape[1] / picture.shape[1])
    height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    top, left = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=how)


def _write(cell: NDArray[np.uint8], text: str) -> None:
    """Centre a line of text in a view of the sheet, smaller where it would not fit."""
    room = cell.shape[1] - 2 * _GAP_PX
    scale = max(_SMALLEST_LETTER_SCALE, _LETTER_SCALE * min(1.0, room / max(1, _width_px(text))))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    at = (max(0, (cell.shape[1] - width) // 2), (cell.shape[0] + height) // 2)
    written = np.ascontiguousarray(cell)
    cv2.putText(written, text, at, _FONT, scale, _TEXT, 1, cv2.LINE_AA)
    cell[:] = written


def _width_px(text: str) -> int:
    return math.ceil(cv2.getTextSize(text, _FONT, _LETTER_SCALE, 1)[0][0])
