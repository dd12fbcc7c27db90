"""The inside of a mouth that a performer opens and the portrait keeps shut: cavity, tongue and teeth, drawn.

Warping cannot show what a picture does not hold. A network learns to make it up, from many faces and for long; the
bundled one gives a smear of lips between lips that are where they should be. A mouth's inside has little of a person
in it, and where it is follows from the mesh: upper teeth are fixed to the skull, lower teeth and tongue to the jaw,
and the ring of the inner lips is the opening through which they are seen. No picture of the performer goes into it.

Lengths are in face sizes (`mcnet.media.head_motion`), some 53 mm of a grown-up, and axes the head's own.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.expressions import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from mcnet.media.head_motion import Head

Array = NDArray[np.float64]
_Colour = NDArray[np.float32]

INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""The ring of the inner lips, from the right corner along the lower lip to the left one and back."""
_CORNERS = (78, 308)
_UPPER_LIP, _LOWER_LIP, _CHIN = 13, 14, 152
_LOWER_LIP_RED = (91, 181, 84, 17, 314, 405, 321, 402, 317, 14, 87, 178, 88)
_CHEEKS = ((50, 205, 187, 123), (280, 425, 411, 352))
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)

_SHUT = 0.08
"""A portrait whose mouth is open by less (`expressions.openings`) shows nothing of its inside."""
_FROM_SHUT, _FROM_OPEN = 0.02, 0.1
"""So much further than the portrait's own a mouth has to open before its inside is drawn: an open one shows its own
teeth, which the warp stretches well for a while."""
_FADE = 0.05
"""And by so much further until nothing else is seen."""
_DRAWN_WIDTH_PX = 220
"""A mouth is drawn in about this width and then made smaller, so that edges are smooth."""


class _Row(NamedTuple):
    """One jaw's row of teeth, whose front lies on a parabola.

    Attributes:
        edge: of the middle teeth, below the seam of the closed lips; where the row bites.
        length: of a tooth, from there away from the other row.
        radius: of the arch.
        depth: of the front teeth behind the lips.
        widths: from the middle to one side.
        steps: by which each tooth ends before the middle ones do.
        shade: how bright it is.
    """

    edge: float
    length: float
    radius: float
    depth: float
    widths: tuple[float, ...]
    steps: tuple[float, ...]
    shade: float


_UPPER = _Row(0.06, 0.26, 0.47, 0.1, (0.165, 0.13, 0.145, 0.125, 0.125), (0.0, 0.014, 0.004, 0.02, 0.04), 1.0)
_LOWER = _Row(-0.05, 0.22, 0.42, 0.14, (0.105, 0.115, 0.13, 0.12, 0.12), (0.0, 0.0, 0.005, 0.02, 0.03), 0.85)
_GAP = 0.006
"""Between two teeth."""
_ROUNDING = 0.022
"""Of a tooth's corners."""


class MouthInterior:
    """Draws the inside of a portrait's mouth into pictures of it.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        mesh: (468 or more, 3) of it, in the keypoints' coordinates.
    """

    def __init__(self, square: Rgb, mesh: Array) -> None:
        head = Head.of(mesh)
        closed = head.with_mouth_closed().shape
        self._seam: Array = (closed[_UPPER_LIP] + closed[_LOWER_LIP]) / 2
        self._chin: Array = closed[_CHIN]
        own = head.openings.mouth
        self._begin = max(own, 0) + (_FROM_SHUT if own < _SHUT else _FROM_OPEN)
        lips, self._teeth = _colours(square, mesh)
        self._cavity = lips * np.array((0.24, 0.16, 0.16), np.float32)
        self._tongue = lips * np.array((0.55, 0.45, 0.45), np.float32)

    def drawn(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture of the portrait with the inside of its mouth, as far as it is open.

        Args:
            rgb: (S, S, 3), what the network made of it.
            head: of the portrait, moved as it is shown in that picture.

        Returns:
            Another picture; `rgb` itself where there is nothing to draw.
        """
        shown = _ramp(head.openings.mouth, self._begin, self._begin + _FADE)
        ring = _pixels(head.mesh[list(INNER_LIPS)], rgb)
        if not shown or not np.isfinite(ring).all():
            return rgb
        left, top = np.maximum(np.floor(ring.min(axis=0)).astype(int) - 3, 0)
        right, bottom = np.minimum(np.ceil(ring.max(axis=0)).astype(int) + 4, rgb.shape[1::-1])
        if left >= right or top >= bottom:
            return rgb
        width = float(np.hypot(*np.subtract(*ring[[INNER_LIPS.index(corner) for corner in _CORNERS]])))
        canvas = _Canvas(rgb, head, (left, top, right, bottom), min(max(round(_DRAWN_WIDTH_PX / max(width, 1)), 1), 8))
        inside = canvas.mask(ring)
        wide = max(width * canvas.factor, 1.0)
        canvas.colours[:] = self._cavity
        jaw = head.shape[_CHIN] - self._chin
        self._draw_tongue(canvas, jaw, wide)
        lower_edge = max(self._seam[1] + jaw[1], float(head.shape[_LOWER_LIP, 1]))
        self._draw_row(canvas, _LOWER, np.array((self._seam[0] + jaw[0], lower_edge, self._seam[2] + jaw[2] / 2)), 1)
        self._draw_row(canvas, _UPPER, self._seam, -1)
        colours = cv2.GaussianBlur(canvas.colours, (0, 0), 0.008 * wide)
        # What lies behind the lips is in their shadow.
        behind = cv2.distanceTransform((inside > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / wide
        colours *= (0.6 + 0.4 * np.minimum(behind / 0.1, 1))[..., None]
        share = cv2.GaussianBlur(inside, (0, 0), 0.012 * wide) * shown
        return canvas.laid_over(colours, share)

    def _draw_tongue(self, canvas: "_Canvas", jaw: Array, wide: float) -> None:
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        middle = self._seam + jaw + (0, 0.04, 0.25)
        outline = middle + np.stack((0.33 * np.cos(angles), 0.16 * np.sin(angles), 0 * angles), 1)
        share = cv2.GaussianBlur(canvas.mask(canvas.project(outline)), (0, 0), 0.05 * wide)[..., None]
        canvas.colours += share * (self._tongue - canvas.colours)

    def _draw_row(self, canvas: "_Canvas", row: _Row, origin: Array, away: int) -> None:
        """Both sides of a row, from the sides to the middle; `away` is -1 for teeth that stand upwards."""
        for outline, towards_us in _teeth(row, away):
            canvas.fill(canvas.project(outline + origin), self._teeth * (row.shade * towards_us))


def _teeth(row: _Row, away: int) -> Iterator[tuple[Array, float]]:
    """The outline of each tooth, (n, 3) from the middle of the seam, and how bright it is where it stands."""
    ends = np.cumsum((0.0, *row.widths)) / row.radius
    across = np.linspace(-1, 1, 7)
    for number in reversed(range(len(row.widths))):
        begin, end = ends[number] + _GAP / 2 / row.radius, ends[number + 1] - _GAP / 2 / row.radius
        for side in (-1, 1):
            angles = side * (begin + (across + 1) / 2 * (end - begin))
            x = row.radius * np.sin(angles)
            z = row.depth + 1.1 * row.radius * (1 - np.cos(angles))
            bite = row.edge + away * (row.steps[number] + _ROUNDING * across**4)
            root = np.full_like(bite, row.edge + away * row.length)
            outline = np.concatenate((np.stack((x, bite, z), 1), np.stack((x, root, z), 1)[::-1]))
            yield outline, math.cos((begin + end) / 2) ** 1.2


class _Canvas:
    """A part of a picture, enlarged to be drawn in.

    Args:
        rgb: (S, S, 3), the picture.
        head: whose places are drawn.
        box: left, top, right and bottom of the part.
        factor: by which it is enlarged.

    Attributes:
        colours: (h, w, 3) float32.
        factor: as given.
    """

    def __init__(self, rgb: Rgb, head: Head, box: tuple[int, int, int, int], factor: int) -> None:
        self._rgb, self._head, self._box = rgb, head, box
        self.factor = factor
        left, top, right, bottom = box
        self.colours: NDArray[np.float32] = np.empty(((bottom - top) * factor, (right - left) * factor, 3), np.float32)

    def project(self, places: Array) -> Array:
        """(n, 3) in the head's frame -> (n, 2) in the picture's pixels."""
        head = self._head
        return _pixels(places @ head.rotation.T * head.scale + head.shift, self._rgb)

    def fill(self, outline_px: Array, colour: _Colour) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.colours, [self._drawable(outline_px)], colour.tolist(), cv2.LINE_AA, _SHIFT)

    def mask(self, outline_px: Array) -> NDArray[np.float32]:
        """(h, w): 1 in a polygon, 0 elsewhere."""
        drawn = np.zeros(self.colours.shape[:2], np.uint8)
        cv2.fillPoly(drawn, [self._drawable(outline_px)], 255, cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / 255

    def laid_over(self, colours: NDArray[np.float32], share: NDArray[np.float32]) -> Rgb:
        """The picture with that much of these colours in its part; both as large as the canvas."""
        left, top, right, bottom = self._box
        drawn, over = (
            cv2.resize(maps, (right - left, bottom - top), interpolation=cv2.INTER_AREA) for maps in (colours, share)
        )
        made = self._rgb.copy()
        part = made[top:bottom, left:right]
        part[:] = np.clip(part + over[..., None] * (drawn - part) + 0.5, 0, 255)
        return made

    def _drawable(self, outline_px: Array) -> NDArray[np.int32]:
        """Places in the canvas, in fixed point, in which OpenCV draws."""
        inside = (outline_px - self._box[:2] + 0.5) * self.factor - 0.5
        return np.round(np.clip(inside, -1e4, 1e4) * (1 << _SHIFT)).astype(np.int32)


_SHIFT = 4


def _pixels(places: Array, rgb: Rgb) -> Array:
    """(n, 2): places in the keypoints' coordinates as a picture's pixels, counted from the first one's centre."""
    return (places[:, :2] + 1) * (rgb.shape[0] - 1) / 2


def _ramp(value: float, begin: float, end: float) -> float:
    """0 up to one value, 1 from another one on, smoothly between them."""
    share = min(max((value - begin) / (end - begin), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _colours(square: Rgb, mesh: Array) -> tuple[_Colour, _Colour]:
    """Of a portrait's lips, and of its teeth: as white as its eyes and its skin let them be in that light."""
    places = _pixels(mesh, square)

    def inside(points: tuple[int, ...]) -> NDArray[np.float32]:
        mask = np.zeros(square.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(np.clip(places[list(points)], -1e4, 1e4)).astype(np.int32)], 1)
        found = square[mask > 0]
        return (found if len(found) else square.reshape(-1, 3)).astype(np.float32)

    lips = np.median(inside(_LOWER_LIP_RED), axis=0)
    skin = max((np.median(inside(cheek), axis=0) for cheek in _CHEEKS), key=_brightness)
    whites = []
    for upper, lower in (LEFT_LID_PAIRS, RIGHT_LID_PAIRS):
        eye = inside((*upper, *lower[::-1]))
        whites.append(eye[eye @ _LUMA >= np.quantile(eye @ _LUMA, 0.9)].mean(axis=0))
    white = max(whites, key=_brightness)
    bright = min(max(1.15 * _brightness(white), 1.05 * _brightness(skin), 90.0), 225.0)
    teeth = 0.5 * bright * (white / max(_brightness(white), 1.0) + _IVORY)
    grey = float(np.ptp(lips)) < _GREYEST_LIPS  # a drawing, or a photograph without colours
    return lips, np.full(3, bright, np.float32) if grey else np.minimum(teeth, 255).astype(np.float32)


_IVORY = np.array((1.02, 1.0, 0.94), np.float32)
_GREYEST_LIPS = 12


def _brightness(colour: _Colour) -> float:
    return float(colour @ _LUMA)
