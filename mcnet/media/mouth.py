"""The inside of a mouth that a performer opens farther than the portrait: cavity, tongue, gums and teeth, drawn.

Warping cannot show what a picture does not hold. A network learns to make it up, from many faces and for long; the
bundled one gives a smear of lips between lips that are where they should be. A mouth's inside has little of a person
in it, and where it is follows from the mesh: upper teeth are fixed to the skull, lower teeth and tongue to the jaw,
and the ring of the inner lips is the opening through which they are seen. Upper teeth that a portrait shows are its
own, others are everybody's. No picture of the performer goes into it.

Lengths are in face sizes (`mcnet.media.head_motion`), some 53 mm of a grown-up, and axes the head's own.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.canvas import (
    Canvas,
    Colour,
    Maps,
    blurred,
    brightness,
    colours_inside,
    facing,
    part_around,
    pixels,
    ramp,
)
from mcnet.media.head_motion import Array, Head
from mcnet.mesh_points import INNER_LIPS, LEFT_LID_PAIRS, MOUTH_CORNERS, RIGHT_LID_PAIRS

_UPPER_LIP, _LOWER_LIP, _CHIN = 13, 14, 152
_LOWER_LIP_RED = (91, 181, 84, 17, 314, 405, 321, 402, 317, 14, 87, 178, 88)
_CHEEKS = ((50, 205, 187, 123), (280, 425, 411, 352))

_SHUT = 0.08
"""A portrait whose mouth is open by less (`expressions.openings`) shows nothing of its inside."""
_FROM_SHUT, _FROM_TEETH, _FROM_OPEN = 0.03, 0.01, 0.1
"""So much further than the portrait's own a mouth has to open before its inside is drawn. The warp stretches what an
open one shows well for a while, but for teeth."""
_FADE, _FADE_OF_TEETH = 0.05, 0.02
"""And by so much further until nothing else is seen; of teeth, while those that are drawn out and those that stay where
they are lie on each other."""
_DRAWN_WIDTH_PX = 150
_LEAST_FACTOR, _LARGEST_FACTOR = 2, 8
"""A portrait's mouth is drawn in about this width and then made smaller, so that edges are smooth; always by the same
factor, since another one draws a little otherwise."""
_MARGIN_PX = 3
_TONGUE = np.array((0.0, 0.04, 0.25))
"""Its middle, from that of the seam of closed lips."""
_BLUR, _FEATHER = 0.008, 0.012
"""Of what is drawn and of its edge, in widths of the mouth."""
_SHADOW, _SHADOW_WIDTH = 0.75, 0.05
"""What is left of the light right behind the lips, and where it is whole again, in widths of the mouth."""
_DEEP_SHADOW, _DEEP_SHADOW_WIDTH = 0.8, 0.1
"""And besides, of what lies in the mouth; teeth stand in front and have light of their own."""
_CAVITY, _TONGUE_COLOUR, _GUMS_COLOUR = (0.24, 0.16, 0.16), (0.55, 0.45, 0.45), (0.8, 0.62, 0.62)
"""Of the lips' red, green and blue."""
_TEETH_CORNERS = np.array(((-0.3, 0.0, 0.1), (0.3, 0.0, 0.1), (0.0, 0.3, 0.1)))
"""Three places of the plane of a portrait's own teeth, from the middle of the seam of closed lips."""
_TEETH_OVER_BRIGHTEST, _FILLED = 0.6, 0.4
"""What is as bright over the brightest teeth is one, too; a smile is filled by them to more than this share: of 83
portraits that show teeth, two photographs of one open mouth have 0.22, all others 0.52 and more."""
_LONGEST = 1.6
"""By so much they are drawn out at most where the upper lip is raised; behind them stand everybody's."""
_LIPS_PX, _TEETH_FEATHER = 1, 0.02
"""Of them so much is left out along the lips, in the portrait's pixels; how soft their edge is, in widths of the mouth.
"""
_IVORY = np.array((1.02, 1.0, 0.94), np.float32)
_TEETH_FROM = 87.0, 0.32, 0.34
"""How bright teeth are: a number, and shares of the brightness of skin and of the whites of eyes. Fitted to 83
portraits that show theirs; off by 19 (root mean square), where their brightness varies by 29."""
_BRIGHTEST_TEETH = 225.0
_OVER_SKIN, _OVER_WHITE = 1.6, 1.3
"""And over the skin's or the eyes' at most: where light is dim they would glow."""
_PARTED, _OWN_TEETH_OVER_SKIN, _REDDEST_TEETH = 0.05, 0.9, 1.25
"""A portrait whose lips are open so far shows its teeth if what is brightest between them is so bright, over the skin,
and no redder, red over green: closed lips have more than 1.4 in nine of ten portraits, teeth less than 1.2."""
_GREYEST_LIPS = 0.08
"""The least that red, green and blue differ by in a portrait with colours, over its lips' brightness."""


class _Row(NamedTuple):
    """One jaw's row of teeth, whose front lies on a parabola.

    Attributes:
        edge: of the middle teeth, below the seam of the closed lips; where the row bites.
        length: of a tooth's crown, from there away from the other row; there the gums begin.
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


_UPPER = _Row(
    edge=0.04,
    length=0.21,
    radius=0.47,
    depth=0.1,
    widths=(0.165, 0.13, 0.145, 0.125, 0.125, 0.19),
    steps=(0.0, 0.014, 0.004, 0.02, 0.04, 0.05),
    shade=1.0,
)
_LOWER = _Row(
    edge=-0.06,
    length=0.18,
    radius=0.42,
    depth=0.14,
    widths=(0.105, 0.115, 0.13, 0.12, 0.12, 0.19),
    steps=(0.0, 0.0, 0.005, 0.02, 0.03, 0.04),
    shade=0.85,
)
_WIDENED = 0.02
"""By so much of the fourth power of the angle an arch is wider than a circle: at the molars, a ninth."""
_LIT = 0.25, 0.75
"""How bright a tooth is: a number, and a share of the cosine of where it stands on the arch."""
_GAP = 0.006
"""Between two teeth."""
_ROUNDING = 0.022
"""Of a tooth's corners."""
_ARCH = 0.025
"""By so much the gums come down farther between two teeth."""
_GUMS = 0.5
"""How far they reach; lips and cheeks cover the rest."""


class _Jaw(NamedTuple):
    """What is drawn of a row of teeth, tooth by tooth from the sides to the middle, as they are drawn.

    Attributes:
        teeth: (n, p, 3) outlines from the middle of the seam.
        gums: (n, 4, 3), likewise, from half a crown's length on.
        shades: (n,) how bright each is where it stands.
    """

    teeth: Array
    gums: Array
    shades: NDArray[np.float32]


def _jaw(row: _Row, away: int) -> _Jaw:
    """Make what is drawn of a row.

    Args:
        row: of the jaw.
        away: -1 for teeth that stand upwards, 1 for the others.
    """
    ends = np.cumsum((0.0, *row.widths)) / row.radius
    across = np.linspace(-1, 1, 7)
    teeth, gums, shades = [], [], []
    for number in reversed(range(len(row.widths))):
        begin, end = ends[number] + _GAP / 2 / row.radius, ends[number + 1] - _GAP / 2 / row.radius
        for side in (-1, 1):
            angles = side * (begin + (across + 1) / 2 * (end - begin))
            x = row.radius * (np.sin(angles) + side * _WIDENED * angles**4)
            z = row.depth + 1.1 * row.radius * (1 - np.cos(angles))
            bite = row.edge + away * (row.steps[number] + _ROUNDING * across**4)
            root = row.edge + away * (row.length - _ARCH * across**2)
            teeth.append(np.concatenate((np.stack((x, bite, z), 1), np.stack((x, root, z), 1)[::-1])))
            sides = np.array([0, -1, -1, 0])
            heights = row.edge + away * np.array((row.length / 2,) * 2 + (row.length + _GUMS,) * 2)
            gums.append(np.stack((x[sides], heights, z[sides]), 1))
            shades.append(row.shade * max(_LIT[0] + _LIT[1] * math.cos((begin + end) / 2), 0))
    return _Jaw(np.stack(teeth), np.stack(gums), np.array(shades, np.float32))


_UPPER_JAW = _jaw(_UPPER, -1)
_LOWER_JAW = _jaw(_LOWER, 1)


class MouthInterior:
    """Draws the inside of a portrait's mouth into pictures of it.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        head: the portrait's.
    """

    def __init__(self, square: Rgb, head: Head) -> None:
        mesh = head.mesh
        closed = head.with_mouth_closed().shape
        self._seam: Array = (closed[_UPPER_LIP] + closed[_LOWER_LIP]) / 2
        self._chin: Array = closed[_CHIN]
        width_px = float(np.linalg.norm(np.subtract(*pixels(mesh[list(MOUTH_CORNERS)], square))))
        self._factor = min(max(round(_DRAWN_WIDTH_PX / max(width_px, 1)), _LEAST_FACTOR), _LARGEST_FACTOR)
        lips, self._teeth, shows_teeth = _colours(square, head)
        own = max(head.openings.mouth, 0)
        self._own = _own_teeth(square, head, self._seam) if shows_teeth and own >= _SHUT else None
        self._upper = self._seam.copy()
        if self._own is not None:  # the others begin behind them, and are seen above them
            self._upper[1] = head.shape[[_UPPER_LIP, _LOWER_LIP], 1].mean() - _UPPER.edge
        if self._own is None:
            self._from = own + (_FROM_SHUT if own < _SHUT else _FROM_OPEN)
            self._fade = _FADE
        else:
            self._from, self._fade = own + _FROM_TEETH, _FADE_OF_TEETH
        self._cavity, self._tongue, self._gums = (
            _tinted(lips, factors) for factors in (_CAVITY, _TONGUE_COLOUR, _GUMS_COLOUR)
        )

    def drawn(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture of the portrait with the inside of its mouth, as far as it is open.

        Args:
            rgb: (S, S, 3), what the network made of it.
            head: of the portrait, as it is to be shown in that picture; all of it finite.

        Returns:
            Another picture; `rgb` itself where there is nothing to draw.
        """
        shown = ramp(head.openings.mouth, self._from, self._from + self._fade) * facing(head, *MOUTH_CORNERS)
        if not shown:
            return rgb
        lips_px = pixels(head.mesh[list(INNER_LIPS)], rgb)
        part = part_around(lips_px, rgb, _MARGIN_PX)
        if part is None:
            return rgb
        made = rgb.copy()
        behind = made[part]
        canvas = Canvas(*part, self._factor)
        corners_px = pixels(head.mesh[list(MOUTH_CORNERS)], rgb)
        width = canvas.factor * max(float(np.linalg.norm(corners_px[1] - corners_px[0])), 1.0)
        inside = canvas.polygon(lips_px)
        # What lies behind the lips is in their shadow.
        depth = np.asarray(cv2.distanceTransform((inside > 0.5).astype(np.uint8), cv2.DIST_L2, 3) / width, np.float32)
        light = _light(depth, _DEEP_SHADOW, _DEEP_SHADOW_WIDTH)
        colours = canvas.small(self._behind_lips(canvas, head, rgb, width, light))
        colours *= _light(canvas.small(depth), _SHADOW, _SHADOW_WIDTH)
        share = shown * canvas.small(blurred(inside, _FEATHER * width))[..., None]
        behind[:] = np.clip(behind + share * (colours - behind) + 0.5, 0, 255)
        return made

    def _behind_lips(self, canvas: Canvas, head: Head, rgb: Rgb, width: float, light: Maps) -> Maps:
        """(h, w, 3) on a canvas, where the mouth is so wide: all that lips may leave to be seen.

        Args:
            canvas: to draw on.
            head: of the portrait, as it is to be shown.
            rgb: the picture.
            width: of the mouth, in the canvas's pixels.
            light: (h, w, 1), on what lies in the mouth.
        """

        def seen(places: Array) -> Array:
            return pixels(head._replace(shape=places).mesh, rgb)

        jaw = head.shape[_CHIN] - self._chin
        colours = np.empty((*canvas.shape, 3), np.float32)
        colours[:] = self._cavity
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        tongue = self._seam + jaw + _TONGUE + np.stack((0.33 * np.cos(angles), 0.16 * np.sin(angles), 0 * angles), 1)
        share = blurred(canvas.polygon(seen(tongue)), 0.05 * width)[..., None]
        colours += share * (self._tongue - colours)
        colours *= light
        # The lower lip covers the lower teeth, also where it moves without the chin.
        lower = (
            self._seam[0] + jaw[0],
            max(self._seam[1] + jaw[1], float(head.shape[_LOWER_LIP, 1])),
            self._seam[2] + jaw[2] / 2,
        )
        for row, origin in ((_LOWER_JAW, lower), (_UPPER_JAW, self._upper)):
            for outlines, colour in ((row.gums, self._gums), (row.teeth, self._teeth)):
                places = seen((outlines + origin).reshape(-1, 3)).reshape(*outlines.shape[:2], 2)
                canvas.fill(colours, places, row.shades[:, None] * colour)
        colours = blurred(colours, _BLUR * width)
        if self._own is not None:
            teeth, share = self._own.seen_in(canvas, seen(self._own.bared(float(head.shape[_UPPER_LIP, 1]))))
            colours += share * (teeth - colours)
        return colours


class _OwnTeeth(NamedTuple):
    """What a portrait shows of its upper teeth, as a plane that is fixed to its skull.

    Attributes:
        rgb: (S, S, 3), the portrait.
        share: (S, S): where its teeth are.
        places: (3, 2), three places of the plane, in the portrait's pixels.
        corners: (3, 3), the same ones in the head's frame.
        lip: where the upper lip's edge is, downwards in the head's frame.
        bite: and the lower one's.
    """

    rgb: Maps
    share: Maps
    places: NDArray[np.float32]
    corners: Array
    lip: float
    bite: float

    def bared(self, lip: float) -> Array:
        """(3, 3), the corners where the upper lip is raised that far: crowns are longer than the portrait shows."""
        longer = min(max((self.bite - lip) / max(self.bite - self.lip, 1e-6), 1.0), _LONGEST)
        corners = self.corners.copy()
        corners[:, 1] = self.bite + longer * (corners[:, 1] - self.bite)
        return corners

    def seen_in(self, canvas: Canvas, places_px: Array) -> tuple[Maps, Maps]:
        """(h, w, 3) colours and (h, w, 1) shares on a canvas, where the picture has these three places, in pixels."""
        affine = cv2.getAffineTransform(self.places, canvas.places(places_px).astype(np.float32))
        size = canvas.shape[::-1]
        colours = cv2.warpAffine(self.rgb, affine, size, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpAffine(self.share, affine, size)
        return np.asarray(colours, np.float32), np.asarray(share, np.float32)[..., None]


def _own_teeth(square: Rgb, head: Head, seam: Array) -> _OwnTeeth:
    """Take what is between a portrait's lips for its upper teeth.

    Args:
        square: (S, S, 3).
        head: the portrait's.
        seam: (3,), the middle of its lips when they are closed, in the head's frame.
    """
    lips_px = pixels(head.mesh[list(INNER_LIPS)], square)
    canvas = Canvas(slice(0, square.shape[0]), slice(0, square.shape[1]))
    inside = cv2.erode(canvas.polygon(lips_px), np.ones((2 * _LIPS_PX + 1,) * 2, np.uint8))
    share = blurred(np.asarray(inside, np.float32), _TEETH_FEATHER * float(np.ptp(lips_px[:, 0])))
    corners = seam + _TEETH_CORNERS
    places = pixels(head._replace(shape=corners).mesh, square)
    lip, bite = head.shape[[_UPPER_LIP, _LOWER_LIP], 1].tolist()
    return _OwnTeeth(square.astype(np.float32), share, places.astype(np.float32), corners, lip, bite)


def _light(depth: Maps, least: float, reach: float) -> Maps:
    """(h, w, 1): what is left of the light so far, (h, w), behind the lips' edge."""
    return np.asarray(least + (1 - least) * np.minimum(depth / reach, 1), np.float32)[..., None]


def _colours(square: Rgb, head: Head) -> tuple[Colour, Colour, bool]:
    """Of a portrait's lips and teeth, and whether it shows a row of teeth and little else.

    It may show some beside a tongue and the dark; where it shows none, their colour follows from its eyes and its skin.
    """
    places = pixels(head.mesh, square)

    def inside(points: tuple[int, ...]) -> Colour:
        return colours_inside(square, places[list(points)])

    lips = np.median(inside(_LOWER_LIP_RED), axis=0)
    skin = max(float(brightness(np.median(inside(cheek), axis=0))) for cheek in _CHEEKS)
    if head.openings.mouth >= _PARTED:
        between = inside(INNER_LIPS)
        own = _brightest(between, 0.2)
        red, green, _ = own.tolist()
        if brightness(own) >= _OWN_TEETH_OVER_SKIN * skin and red <= _REDDEST_TEETH * green:
            return lips, own, bool((brightness(between) > _TEETH_OVER_BRIGHTEST * brightness(own)).mean() > _FILLED)
    whites = [_brightest(inside((*upper, *lower[::-1])), 0.1) for upper, lower in (LEFT_LID_PAIRS, RIGHT_LID_PAIRS)]
    white = max(whites, key=lambda colour: float(brightness(colour)))
    base, of_skin, of_white = _TEETH_FROM
    brightest = max(_OVER_SKIN * skin, _OVER_WHITE * float(brightness(white)))
    bright = min(base + of_skin * skin + of_white * float(brightness(white)), brightest, _BRIGHTEST_TEETH)
    if _is_grey(lips):
        return lips, np.full(3, bright, np.float32), False
    tint = white / max(float(brightness(white)), 1.0)
    return lips, np.minimum(0.5 * bright * (tint + _IVORY), 255).astype(np.float32), False


def _brightest(colours: NDArray[np.float32], share: float) -> Colour:
    """The mean of the brightest of some colours."""
    bright = brightness(colours)
    return np.asarray(colours[bright >= np.quantile(bright, 1 - share)].mean(axis=0))


def _tinted(lips: Colour, factors: tuple[float, float, float]) -> Colour:
    """The lips' colour, darkened; by their mean where the portrait has no colours."""
    return lips * np.array((float(np.mean(factors)),) * 3 if _is_grey(lips) else factors, np.float32)


def _is_grey(lips: Colour) -> bool:
    return float(np.ptp(lips)) <= _GREYEST_LIPS * float(brightness(lips))
