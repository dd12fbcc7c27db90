"""Pictures with words: panels side by side under a title, on dark grey."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mcnet.arrays import Rgb
from mcnet.inspection.drawing import font

BACKGROUND = 24
_TEXT, _FAINT = (235, 235, 235), (176, 182, 190)
_TITLE_PX, _CAPTION_PX = 20, 15
_GAP_PX = 12
_LINE = 1.3


class Panel(NamedTuple):
    """A picture and what is written below it.

    Attributes:
        rgb: of any size.
        caption: wrapped to the picture's width; what follows a line break is fainter.
    """

    rgb: Rgb
    caption: str


def sheet(title: str, rows: Sequence[Sequence[Panel]], note: str = "") -> Rgb:
    """Lay panels out.

    Args:
        title: above them.
        rows: each from left to right.
        note: below the title, wrapped to the sheet's width.

    Returns:
        (H, W, 3) uint8 RGB, both even. The size depends on that of the pictures and on the words alone.
    """
    width = max(
        max(sum(panel.rgb.shape[1] + _GAP_PX for panel in row) for row in rows) + _GAP_PX,
        round(font(_TITLE_PX).getlength(title)) + 2 * _GAP_PX,
    )
    width += width % 2
    noted = _wrapped(note, _CAPTION_PX, width - 2 * _GAP_PX)
    captions = [[_wrapped(panel.caption, _CAPTION_PX, panel.rgb.shape[1]) for panel in row] for row in rows]
    caption_line = round(_CAPTION_PX * _LINE)
    top = _GAP_PX + round(_TITLE_PX * _LINE) + len(noted) * caption_line + _GAP_PX // 2
    heights = [
        max(panel.rgb.shape[0] + 4 + len(lines) * caption_line for panel, lines in zip(row, said, strict=True))
        for row, said in zip(rows, captions, strict=True)
    ]
    height = top + sum(height + _GAP_PX for height in heights) + _GAP_PX // 2
    height += height % 2
    image = Image.new("RGB", (width, height), (BACKGROUND,) * 3)
    pen = ImageDraw.Draw(image)
    pen.text((_GAP_PX, _GAP_PX), title, _TEXT, font(_TITLE_PX))
    for number, line in enumerate(noted):
        at = (_GAP_PX, _GAP_PX + round(_TITLE_PX * _LINE) + number * caption_line)
        pen.text(at, line.text, _FAINT, font(_CAPTION_PX))
    for row, said, row_height in zip(rows, captions, heights, strict=True):
        left = _GAP_PX
        for panel, lines in zip(row, said, strict=True):
            image.paste(Image.fromarray(panel.rgb), (left, top))
            for number, line in enumerate(lines):
                at = (left, top + panel.rgb.shape[0] + 4 + number * caption_line)
                pen.text(at, line.text, _TEXT if line.first else _FAINT, font(_CAPTION_PX))
            left += panel.rgb.shape[1] + _GAP_PX
        top += row_height + _GAP_PX
    return np.asarray(image, np.uint8)


class _Line(NamedTuple):
    text: str
    first: bool
    """Whether it belongs to what is before the first line break."""


def _wrapped(text: str, size_px: int, width_px: int) -> list[_Line]:
    """Lines no wider than the room, unless a word is; a line break in the text is one."""
    lines: list[_Line] = []
    for number, part in enumerate(text.split("\n") if text else ()):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".lstrip()
            if line and font(size_px).getlength(longer) > width_px:
                lines.append(_Line(line, number == 0))
                longer = word
            line = longer
        lines.append(_Line(line, number == 0))
    return lines
