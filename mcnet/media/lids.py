"""Lids that shut over a portrait's eyes: its own skin between lashes and brow, drawn over what the network made.

The network moves 64 x 64 places, of which an eye spans four: when it shuts one it drags the brow along and leaves a
slit. The mesh knows three rings around each eye, the edge of the lids, the fold, and one below the brow. Between them
the portrait's own picture is warped triangle by triangle, in the picture's own resolution. What an open eye hides in
its fold the portrait does not show: a lid that shuts gets the skin above the fold instead, mirrored and smoothed, or
its lashes would be drawn out over all of it. Hair and rims of glasses may lie over that skin: they are left out, and
where nothing remains, it has the colour of the skin below the eye. Where the edges of the lids meet a line of lashes
is drawn.
"""

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
    doubled_areas,
    facing,
    part_around,
    pixels,
    ramp,
    remapped,
)
from mcnet.media.head_motion import Array, Head
from mcnet.mesh_points import LEFT_EYE_RING, LEFT_IRIS, LEFT_LID_PAIRS, RIGHT_EYE_RING, RIGHT_IRIS, RIGHT_LID_PAIRS

_LIDS, _IRISES = (RIGHT_LID_PAIRS, LEFT_LID_PAIRS), (RIGHT_IRIS, LEFT_IRIS)
EYE_RINGS = (
    (
        (RIGHT_EYE_RING[0], *RIGHT_EYE_RING[:0:-1]),
        (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25),
        (226, 113, 225, 224, 223, 222, 221, 189, 244, 233, 232, 231, 230, 229, 228, 31),
    ),
    (
        (LEFT_EYE_RING[0], *LEFT_EYE_RING[:0:-1]),
        (359, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255),
        (446, 342, 445, 444, 443, 442, 441, 413, 464, 453, 452, 451, 450, 449, 448, 261),
    ),
)
"""The person's right and left eye; each ring from the outer corner over the upper lid to the inner one and back."""
_COUNT = len(EYE_RINGS[0][0])
_UPPER, _LOWER = slice(1, _COUNT // 2), slice(_COUNT - 1, _COUNT // 2, -1)
"""The points of both lids in a ring, which face each other."""
_OUTER, _INNER = 0, _COUNT // 2
_RING_TRIANGLES = [
    triangle
    for ring in (0, _COUNT)
    for here, there in ((ring + step, ring + (step + 1) % _COUNT) for step in range(_COUNT))
    for triangle in ((here, there, here + _COUNT), (there, there + _COUNT, here + _COUNT))
]
"""Between one ring and the next; points of all rings are counted through."""
_EDGES = (
    [_OUTER, *range(_UPPER.start, _UPPER.stop), _INNER],
    [_OUTER, *range(_LOWER.start, _LOWER.stop, _LOWER.step), _INNER],
)
"""Of the upper and of the lower lid, from the outer corner to the inner one."""
_GAP_TRIANGLES = [
    triangle
    for edge, middle in zip(_EDGES, (3 * _COUNT, 3 * _COUNT + len(_EDGES[0])), strict=True)
    for step in range(len(edge) - 1)
    for triangle in (
        (edge[step + 1], edge[step], middle + step),
        (middle + step + 1, edge[step + 1], middle + step),
    )
]
"""From each lid's edge to the middle of the gap, where the edge's colours go on while the gap is about to close."""
_TRIANGLES = np.array(
    [*_RING_TRIANGLES, *_GAP_TRIANGLES[: len(_GAP_TRIANGLES) // 2]]
    + [triangle[::-1] for triangle in _GAP_TRIANGLES[len(_GAP_TRIANGLES) // 2 :]]
)


def _with_gap(rings: Array) -> Array:
    """What points of the rings have, and those of the gap's middle, which show what the edges do."""
    return np.concatenate((rings, *(rings[edge] for edge in _EDGES)))


_DOWN = _with_gap(np.isin(np.arange(len(EYE_RINGS[0]) * _COUNT), np.arange(_COUNT)[_UPPER])[:, None].astype(np.float64))
"""Share of the way from the fold to the edge of the upper lid, of each point."""
_ORIENTATIONS = -1, 1
"""Of each eye's triangles where they are seen: the sign of their areas in a picture."""
_SEEN_FROM, _SEEN_WHOLE = 0.85, 0.5
"""Shares of its own opening at which drawn lids begin to be seen over an eye, and at which they are seen whole."""
_OPEN, _SHUT = 0.45, 0.2
"""An eye that is open by less than the first share is shut further, and at the second one its lids meet."""
_LEAST_OPENING = 0.06
"""Of a portrait's eye, over its width: there is nothing to be shut in a narrower one."""
_LEAST_POSED = 0.5
"""Share of their own gap that lids keep in what the network makes; drawn ones take over around that."""
_LOWERED = 0.3
"""By so much of its gap a shut eye's lids are drawn below where a head has them meet, which is at 0.7 of it: the upper
lid comes all the way down, as lids do."""
_MEETING = 0.7
"""Where lids meet, from the upper edge to the lower one."""
_FROM_UPPER, _FROM_LOWER, _FROM_CORNER = 0.04, 0.35, 0.5
"""By so much of the way to the fold the edge of a shut lid is taken from outside the mesh's, which lies on the eye."""
_UNFOLDED_FROM = 0.5
"""So far up the way from the fold to the brow lies the skin that the edge of a shut lid shows; less of it would be
drawn out into streaks, and more may have hair of the brow."""
_UNFOLDED_AT = 0.4
"""Share of the way down from the fold to the edge from which on a shut lid shows nothing else."""
_UNFOLDED_BLUR, _UNFOLDED_EDGE_BLUR = 0.08, 0.03
"""Of that skin and of its edge, in widths of the eye."""
_UNFOLDED_SHADE = 0.1
"""By so much it is darker at its edge than at the fold, as it turns away from the light."""
_DARKER = 0.6, 1.2
"""Between these, in natural logarithms of how much darker it is than the skin below the eye, a colour is not the lid's
own: hair, or the rim of glasses. Make-up is seldom darker than the first of them, and where all of the lid is, it
stays."""
_BARE_ENOUGH = 0.4
"""Of the skin around a place on the lid: where so much is bare, it tells the colour there."""
_BELOW, _LIT = 2.0, (0.5, 0.9)
"""The skin below the eye lies between its fold and so many times as far as the ring below it; of its brightness these
quantiles are taken, as rims of glasses and the shadows of tired eyes may lie there."""
_DARKEST = 8.0
"""Below so many levels there is no telling how dark."""
_REACH = 0.8
"""How far the drawn skin goes, from the fold to the ring below the brow."""
_FEATHER = 0.05
"""Of its edge, in widths of the eye."""
_TONE = 0.8, 1.25
"""By how much the drawn skin is darkened or brightened at most, to be like what is around it."""
_LASHES_WIDTH, _LASHES_SHARE = 0.05, 0.75
"""Of the line where lids meet: in widths of the eye, and how much of it is seen."""
_LASHES_BLUR = 0.02
_LINE_FACTOR = 4
_MARGIN_PX = 3
_LEAST_DOUBLED_AREA_PX2 = 0.05
_BEYOND = 1.0, 1.0, 1.0, 1.0, 0.0
"""By so much a pixel at a triangle's edge may go beyond what its corners have: two places in the portrait, in pixels,
and a share."""
_LEAST_SHARE = 1e-3


class DrawnLids:
    """Draws the shut lids of a portrait into pictures of it.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        head: the portrait's.
    """

    def __init__(self, square: Rgb, head: Head) -> None:
        self._square = square
        shape, mesh = head.shape, head.mesh
        self._openings = _openings(head)
        self._gaps = [shape[list(lower), 1] - shape[list(upper), 1] for upper, lower in _LIDS]
        self._rings = [_ring_pixels(mesh, rings, square) for rings in EYE_RINGS]
        self._lashes = [_lashes(square, ring) for ring in self._rings]
        self._usual = [_below(square, ring) for ring in self._rings]

    def opened(self, head: Head) -> Head:
        """A head as the network is to pose it: what its lids are shut beyond half-way is drawn, and nothing is dragged.

        Args:
            head: as it is to be shown.

        Returns:
            The same where no lid is shut so far.
        """
        shape = head.shape
        for eye, (lids, iris) in enumerate(zip(_LIDS, _IRISES, strict=True)):
            if self._openings[eye] < _LEAST_OPENING:
                continue
            upper, lower = (list(points) for points in lids)
            least = _LEAST_POSED * facing(head, *_corners(eye)) * np.maximum(self._gaps[eye], 0)
            more = np.where(least > 0, np.maximum(least - (shape[lower, 1] - shape[upper, 1]), 0), 0)
            if more.any():
                shape = shape.copy() if shape is head.shape else shape
                shape[upper, 1] -= _MEETING * more
                shape[lower, 1] += (1 - _MEETING) * more
                shape[iris, 1] += (0.5 - _MEETING) * more.mean()  # with the middle of the lids, as it came
        return head if shape is head.shape else head._replace(shape=shape)

    def drawn(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture of the portrait with its lids, as far as they are shut.

        Args:
            rgb: (S, S, 3), what the network made of it.
            head: of the portrait, as it is to be shown, not as `opened` had it posed; all of it finite.

        Returns:
            Another picture; `rgb` itself where there is nothing to draw.
        """
        made = rgb
        for eye, (rings, opening) in enumerate(zip(EYE_RINGS, _openings(head), strict=True)):
            if self._openings[eye] < _LEAST_OPENING:
                continue
            share = opening / self._openings[eye]
            shown = ramp(share, _SEEN_FROM, _SEEN_WHOLE) * facing(head, *_corners(eye))
            if not shown:
                continue
            shape = head.shape.copy()
            shape[[*_LIDS[eye][0], *_LIDS[eye][1]], 1] += _LOWERED * max(1 - share, 0) * self._gaps[eye].mean()
            places = _ring_pixels(head._replace(shape=shape).mesh, rings, rgb)
            part = part_around(places, rgb, _MARGIN_PX)
            if part is not None:
                made = made.copy() if made is rgb else made
                self._draw(made, part, eye, places, ramp(share, _SHUT, _OPEN), shown)
        return made

    def _draw(
        self, rgb: Rgb, part: tuple[slice, slice], eye: int, places: Array, open_share: float, shown: float
    ) -> None:
        """Draw one eye's lids.

        Args:
            rgb: the picture, changed in place.
            part: its rows and columns around the eye.
            eye: 0 or 1.
            places: (3 * 16, 2), of the rings in the picture.
            open_share: 0 where the lids shall meet, 1 where they stay as the mesh has them.
            shown: how much of the drawn lids is seen.
        """
        under, canvas = rgb[part], Canvas(*part)
        edge, fold, brow = (ring.copy() for ring in np.split(places, len(EYE_RINGS[eye])))
        width = max(float(np.linalg.norm(edge[_OUTER] - edge[_INNER])), 1.0)
        meeting = (1 - _MEETING) * edge[_UPPER] + _MEETING * edge[_LOWER]
        for lid in (_UPPER, _LOWER):
            edge[lid] = meeting + open_share * (edge[lid] - meeting)
        own = self._rings[eye].copy()
        own_edge, own_fold, own_brow = np.split(own, len(EYE_RINGS[eye]))  # views of it
        for lid, from_outside in ((_UPPER, _FROM_UPPER), (_LOWER, _FROM_LOWER)):
            own_edge[lid] += shown * from_outside * (own_fold[lid] - own_edge[lid])
        corners = [_OUTER, _INNER]
        own_edge[corners] += (1 - open_share) * _FROM_CORNER * (own_fold[corners] - own_edge[corners])
        values = [_with_gap(own)]
        if open_share < 1:
            unfolded = own.copy()
            unfolded[_UPPER] = own_fold[_UPPER] + _UNFOLDED_FROM * (own_brow[_UPPER] - own_fold[_UPPER])
            values += [_with_gap(unfolded), _DOWN]
        middle = (edge[_EDGES[0]] + edge[_EDGES[1]]) / 2
        places = np.concatenate((edge, fold, brow, middle, middle))
        maps, within = _warp(places, np.concatenate(values, 1), _ORIENTATIONS[eye], canvas)
        skin = remapped(self._square, *maps[:2]).astype(np.float32)
        if open_share < 1:
            x, y, down = maps[2:]
            smooth, share = _unfolded(remapped(self._square, x, y), down, width, self._usual[eye])
            skin += (1 - open_share) * share[..., None] * (smooth - skin)
        around = canvas.polygon(fold + _REACH * (brow - fold)) * within  # what is hidden is no skin
        skin *= _tone(under, skin, around * (1 - canvas.polygon(fold)))
        lashes = _LASHES_SHARE * (1 - open_share) * _soft_line(middle[1:-1], width, part)
        skin += lashes[..., None] * (self._lashes[eye] - skin)
        soft = blurred(around, _FEATHER * width) * within
        over = shown * (soft * (1 - open_share * canvas.polygon(edge)))[..., None]
        under[:] = np.clip(under + over * (skin - under) + 0.5, 0, 255)


def _unfolded(lid: Rgb, down: Maps, width: float, usual: Colour) -> tuple[Maps, Maps]:
    """The skin of an upper lid that comes out of the fold.

    Args:
        lid: (h, w, 3), the colours that it has from above the fold.
        down: (h, w), the share of the way from the fold to the lid's edge; 0 elsewhere.
        width: of the eye, in pixels.
        usual: the colour of skin beside it.

    Returns:
        Its colours, and the share of what is drawn that it is.
    """
    share = np.minimum(down / np.float32(_UNFOLDED_AT), 1)
    blur = _UNFOLDED_BLUR * width
    bare = share * _bareness(lid, usual)
    there, told = blurred(share, blur), blurred(bare, blur)
    skin = blurred(lid * bare[..., None], blur) / np.maximum(told, np.float32(_LEAST_SHARE))[..., None]
    sure = np.minimum(told / np.maximum(_BARE_ENOUGH * there, np.float32(_LEAST_SHARE)), 1)[..., None]
    skin = usual + sure * (skin - usual)
    skin *= (1 - np.float32(_UNFOLDED_SHADE) * down)[..., None]
    return np.asarray(skin, np.float32), blurred(share, _UNFOLDED_EDGE_BLUR * width)


def _bareness(colours: Rgb, usual: Colour) -> Maps:
    """(h, w) of (h, w, 3): 1 where a colour may be that of skin, 0 where something dark is before it."""
    begin, end = _DARKER
    darker = _log_brightness(usual) - _log_brightness(colours.astype(np.float32))
    return np.asarray(np.clip((end - darker) / (end - begin), 0, 1), np.float32)


def _log_brightness(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(brightness(colours), np.float32(_DARKEST))))


def _below(square: Rgb, ring: Array) -> Colour:
    """The colour of the lit skin below an eye, where hair and brows do not reach."""
    _, fold, brow = np.split(ring, len(EYE_RINGS[0]))
    farther = fold + _BELOW * (brow - fold)
    colours = colours_inside(square, np.concatenate((fold[_LOWER], farther[_LOWER][::-1])))
    least, most = (int(share * len(colours)) for share in _LIT)
    lit = np.argsort(brightness(colours))[least : max(most, least + 1)]
    return np.asarray(colours[lit].mean(axis=0), np.float32)


def _tone(under: Rgb, skin: Maps, around: Maps) -> Colour:
    """What the drawn skin is to be multiplied by to be like what is around the eye, where there is any of that."""
    wanted, drawn = ((colours * around[..., None]).sum(axis=(0, 1)) for colours in (under, skin))
    tone = np.divide(wanted, drawn, out=np.ones_like(drawn), where=drawn > 0)
    return np.asarray(np.clip(tone, *_TONE), np.float32)


def _corners(eye: int) -> tuple[int, int]:
    """The points of an eye's corners."""
    edge = EYE_RINGS[eye][0]
    return edge[_OUTER], edge[_INNER]


def _soft_line(places: Array, width: float, part: tuple[slice, slice]) -> Maps:
    """(h, w) of a part of a picture: where the lids of an eye of that width meet."""
    fine = Canvas(*part, _LINE_FACTOR)
    return fine.small(blurred(fine.line(places, _LASHES_WIDTH * width), _LASHES_BLUR * width * _LINE_FACTOR))


def _lashes(square: Rgb, ring: Array) -> Colour:
    """The colour of an upper lid's edge: the darkest of it."""
    side = slice(0, square.shape[0])
    found = square[Canvas(side, side).line(ring[: _INNER + 1], 1) > 0].astype(np.float32)
    if not len(found):
        return np.zeros(3, np.float32)
    dark: Colour = found[brightness(found) <= np.quantile(brightness(found), 0.3)].mean(axis=0)
    return dark


def _openings(head: Head) -> tuple[float, float]:
    """How far the right and the left eye are open (`expressions.openings`)."""
    openings = head.openings
    return openings.right_eye, openings.left_eye


def _ring_pixels(mesh: Array, rings: tuple[tuple[int, ...], ...], rgb: Rgb) -> Array:
    """(3 * 16, 2): an eye's rings, one after the other, in a picture's pixels."""
    return pixels(mesh[[point for ring in rings for point in ring]], rgb)


def _warp(places: Array, values: Array, orientation: int, canvas: Canvas) -> tuple[Maps, NDArray[np.bool_]]:
    """What each pixel of a part of a picture has, linear in each triangle between the rings.

    Args:
        places: (n, 2), of the rings and of the gap's middle in the picture.
        values: (n, c), what these have, as `_BEYOND` tells of five.
        orientation: of the triangles that are seen; those that lie the other way around are hidden.
        canvas: of the part.

    Returns:
        (c, h, w), and whether a pixel lies in a triangle.
    """
    corners = places[_TRIANGLES]
    (visible,) = np.nonzero(doubled_areas(corners) * orientation > _LEAST_DOUBLED_AREA_PX2)
    return canvas.interpolated(corners[visible], values[_TRIANGLES[visible]], _BEYOND[: values.shape[1]])
