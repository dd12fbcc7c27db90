"""Lids that shut over a portrait's eyes: its own skin between lashes and brow, drawn over what the network made.

The network moves 64 x 64 places, of which an eye spans four: when it shuts one it drags the brow along and leaves a
slit. The mesh knows three rings around each eye, the edge of the lids, the fold, and one below the brow. Between them
the portrait's own picture is warped triangle by triangle, in the picture's own resolution, and where the edges of the
lids meet a line of lashes is drawn.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.canvas import Array, Canvas, Colour, Maps, blurred, brightness, part_around, pixels, ramp
from mcnet.media.expressions import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from mcnet.media.head_motion import Head

_RINGS = (
    (
        (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
        (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25),
        (226, 113, 225, 224, 223, 222, 221, 189, 244, 233, 232, 231, 230, 229, 228, 31),
    ),
    (
        (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
        (359, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255),
        (446, 342, 445, 444, 443, 442, 441, 413, 464, 453, 452, 451, 450, 449, 448, 261),
    ),
)
"""The person's right and left eye; each ring from the outer corner over the upper lid to the inner one and back."""
_COUNT = len(_RINGS[0][0])
_UPPER, _LOWER = slice(1, _COUNT // 2), slice(_COUNT - 1, _COUNT // 2, -1)
"""The points of both lids in a ring, which face each other."""
_OUTER, _INNER = 0, _COUNT // 2
_TRIANGLES = np.array(
    [
        triangle
        for ring in (0, _COUNT)
        for here, there in ((ring + step, ring + (step + 1) % _COUNT) for step in range(_COUNT))
        for triangle in ((here, there, here + _COUNT), (there, there + _COUNT, here + _COUNT))
    ]
)
"""Between one ring and the next; points of all rings are counted through."""
_SEEN_FROM, _SEEN_WHOLE = 0.85, 0.5
"""Shares of its own opening at which drawn lids begin to be seen over an eye, and at which they are seen whole."""
_OPEN, _SHUT = 0.45, 0.08
"""An eye that is open by less than the first share is shut further, and at the second one its lids meet."""
_LEAST_OPENING = 0.06
"""Of a portrait's eye, over its width: there is nothing to be shut in a narrower one."""
_LEAST_POSED = 0.6
"""Share of their own gap that lids keep in what the network makes; drawn ones take over around that."""
_MEETING = 0.7
"""Where lids meet, from the upper edge to the lower one."""
_FROM_UPPER, _FROM_LOWER = 0.04, 0.15
"""By so much of the way to the fold the edge of a shut lid is taken from outside the mesh's, which lies on the eye."""
_REACH = 0.8
"""How far the drawn skin goes, from the fold to the ring below the brow."""
_FEATHER = 0.05
"""Of its edge, in widths of the eye."""
_TONE = 0.8, 1.25
"""By how much the drawn skin is darkened or brightened at most, to be like what is around it."""
_LASHES_WIDTH, _LASHES_SHARE = 0.05, 0.75
"""Of the line where lids meet: in widths of the eye, and how much of it is seen."""
_LASHES_BLUR = 0.015
_LINE_FACTOR = 4
_MARGIN_PX = 3
_LEAST_AREA_PX2 = 0.05


class DrawnLids:
    """Draws the shut lids of a portrait into pictures of it.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        mesh: (468 or more, 3) of it, in the keypoints' coordinates.
    """

    def __init__(self, square: Rgb, mesh: Array) -> None:
        self._square = square
        shape = Head.of(mesh).shape
        self._openings = [_opening(shape, rings[0]) for rings in _RINGS]
        self._gaps = [
            shape[list(lower), 1] - shape[list(upper), 1] for upper, lower in (RIGHT_LID_PAIRS, LEFT_LID_PAIRS)
        ]
        self._rings = [_ring_pixels(mesh, rings, square) for rings in _RINGS]
        self._orientations = [np.sign(_areas(ring[_TRIANGLES])) for ring in self._rings]
        self._lashes = [_lashes(square, ring) for ring in self._rings]

    def opened(self, head: Head) -> Head:
        """A head as the network is to pose it: what its lids are shut beyond half-way is drawn, and nothing is dragged.

        Args:
            head: as it is to be shown.

        Returns:
            The same where no lid is shut so far.
        """
        shape = head.shape
        for eye, lids in enumerate((RIGHT_LID_PAIRS, LEFT_LID_PAIRS)):
            if self._openings[eye] < _LEAST_OPENING:
                continue
            upper, lower = (list(points) for points in lids)
            gap = shape[lower, 1] - shape[upper, 1]
            more = np.maximum(_LEAST_POSED * self._gaps[eye] - gap, 0)
            if more.any():
                shape = shape.copy() if shape is head.shape else shape
                shape[upper, 1] -= _MEETING * more
                shape[lower, 1] += (1 - _MEETING) * more
        return head if shape is head.shape else head._replace(shape=shape)

    def drawn(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture of the portrait with its lids, as far as they are shut.

        Args:
            rgb: (S, S, 3), what the network made of it.
            head: of the portrait, moved as it is shown in that picture.

        Returns:
            Another picture; `rgb` itself where there is nothing to draw.
        """
        made = rgb
        for eye, rings in enumerate(_RINGS):
            if self._openings[eye] < _LEAST_OPENING:
                continue
            share = _opening(head.shape, rings[0]) / self._openings[eye]
            shown = ramp(share, _SEEN_FROM, _SEEN_WHOLE)
            places = _ring_pixels(head.mesh, rings, rgb)
            part = part_around(places, rgb, _MARGIN_PX)
            if shown and part is not None:
                made = made.copy() if made is rgb else made
                self._draw(made, part, eye, places, ramp(share, _SHUT, _OPEN), shown)
        return made

    def _draw(
        self, rgb: Rgb, where: tuple[slice, slice], eye: int, places: Array, open_share: float, shown: float
    ) -> None:
        """Draw one eye's lids.

        Args:
            rgb: the picture, changed in place.
            where: its rows and columns around the eye.
            eye: 0 or 1.
            places: (3 * 16, 2), of the rings in the picture.
            open_share: 0 where the lids shall meet, 1 where they are where they are.
            shown: how much of the drawn lids is seen.
        """
        part, canvas = rgb[where], Canvas(where, 1)
        edge, fold, brow = places[:_COUNT], places[_COUNT : 2 * _COUNT], places[2 * _COUNT :]
        width = max(float(np.linalg.norm(edge[_OUTER] - edge[_INNER])), 1.0)
        meeting = (1 - _MEETING) * edge[_UPPER] + _MEETING * edge[_LOWER]
        for lid in (_UPPER, _LOWER):
            edge[lid] = meeting + open_share * (edge[lid] - meeting)
        own = self._rings[eye].copy()
        for lid, from_outside in ((_UPPER, _FROM_UPPER), (_LOWER, _FROM_LOWER)):
            own[:_COUNT][lid] += shown * from_outside * (own[_COUNT : 2 * _COUNT][lid] - own[:_COUNT][lid])
        x, y, within = _warp(places, own, self._orientations[eye], canvas)
        skin = cv2.remap(self._square, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        over = canvas.polygon(fold + _REACH * (brow - fold)) * within
        over = blurred(np.asarray(cv2.erode(over, np.ones((3, 3))), np.float32), _FEATHER * width)[..., None]
        tone = (part * over).sum(axis=(0, 1)) / np.maximum((skin * over).sum(axis=(0, 1)), 1)
        skin *= np.clip(tone, *_TONE).astype(np.float32)
        line = np.concatenate((edge[_OUTER : _OUTER + 1], (edge[_UPPER] + edge[_LOWER]) / 2, edge[_INNER : _INNER + 1]))
        lashes = _LASHES_SHARE * (1 - open_share) * _soft_line(line, width, where)
        skin += lashes[..., None] * (self._lashes[eye] - skin)
        part[:] = np.clip(part + shown * over * (skin - part) + 0.5, 0, 255)


def _soft_line(places: Array, width: float, where: tuple[slice, slice]) -> Maps:
    """(h, w) of a part of a picture: where the lids of an eye of that width meet."""
    fine = Canvas(where, _LINE_FACTOR)
    return fine.small(blurred(fine.line(places, _LASHES_WIDTH * width), _LASHES_BLUR * width * _LINE_FACTOR))


def _lashes(square: Rgb, ring: Array) -> Colour:
    """The colour of an upper lid's edge: the darkest of it."""
    side = slice(0, square.shape[0])
    found = square[Canvas((side, side), 1).line(ring[: _INNER + 1], 1) > 0].astype(np.float32)
    if not len(found):
        return np.zeros(3, np.float32)
    dark: Colour = found[brightness(found) <= np.quantile(brightness(found), 0.3)].mean(axis=0)
    return dark


def _opening(shape: Array, ring: tuple[int, ...]) -> float:
    """How far lids are apart, in the head's frame, over the distance of the eye's corners."""
    edge = shape[list(ring)]
    width = float(np.linalg.norm(edge[_OUTER] - edge[_INNER]))
    return float((edge[_LOWER, 1] - edge[_UPPER, 1]).mean()) / max(width, 1e-6)


def _ring_pixels(mesh: Array, rings: tuple[tuple[int, ...], ...], rgb: Rgb) -> Array:
    """(3 * 16, 2): an eye's rings, one after the other, in a picture's pixels."""
    return pixels(mesh[[point for ring in rings for point in ring]], rgb)


def _areas(triangles: Array) -> Array:
    """(T,): twice the signed areas of (T, 3, 2) triangles."""
    along, across = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.asarray(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])


def _warp(places: Array, own: Array, orientations: Array, canvas: Canvas) -> tuple[Maps, Maps, NDArray[np.bool_]]:
    """Where in the portrait each pixel of a part of a picture looks, affine in each triangle between the rings.

    Args:
        places: (3 * 16, 2), of the rings in the picture.
        own: likewise, in the portrait.
        orientations: (T,), of the triangles in the portrait: those that lie the other way around are hidden.
        canvas: of the part.

    Returns:
        x and y in the portrait's pixels, (h, w) each, and whether a pixel lies in a triangle.
    """
    corners = places[_TRIANGLES]
    (there,) = np.nonzero(_areas(corners) * orientations > _LEAST_AREA_PX2)
    triangle = canvas.numbered(corners[there])
    affine = np.zeros((len(there) + 1, 3, 2))
    rows = np.concatenate((corners[there], np.ones((len(there), 3, 1))), 2)  # x, y, 1
    affine[1:] = np.linalg.solve(rows, own[_TRIANGLES[there]])
    affine = affine.astype(np.float32)
    left, top = canvas.origin_px
    width, height = canvas.size_px
    x = np.arange(left, left + width, dtype=np.float32)
    y = np.arange(top, top + height, dtype=np.float32)[:, None]
    by_x, by_y, shift = affine[triangle].transpose(2, 3, 0, 1)  # each (2, h, w)
    looks_x, looks_y = by_x * x + by_y * y + shift
    return looks_x, looks_y, triangle > 0
