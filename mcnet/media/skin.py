"""The skin of a portrait's face as its mesh moves it, drawn over what the network made.

The network moves a face by a few keypoints, the bundled one by seventeen, and smooths what lies between them. Where a
head turns far, the nose hides a cheek and one eye is seen from the side: that is more than a smooth motion tells, and
features smear across the face. Brows, cheeks and the edges of lips move in more ways than the keypoints do, too. The
mesh has points everywhere on the skin, so each triangle between them shows the portrait's own, in the picture's
resolution. A portrait that is turned aside hides much of its farther half, of which the nearer half is shown then, in
the light of the farther. What the portrait does not show of its face otherwise, hair, neck and what is behind it, and
the face's outline stay the network's.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.canvas import Canvas, Maps, blurred, doubled_areas, part_around, pixels, ramp, remapped
from mcnet.media.face_mesh import LANDMARK_COUNT
from mcnet.media.face_triangles import COUNTERPARTS, FACE_TRIANGLES
from mcnet.media.head_motion import BROWS, LOWER_FACE_Y, Array, Head, with_irises
from mcnet.media.lids import EYE_RINGS
from mcnet.mesh_points import INNER_LIPS

_SEEN = 0.12, 0.4
"""Of the portrait's own skin: cosines of its angle to the camera between which it comes to be used. What is seen from
the side is a few pixels wide, and hair or background as soon as the mesh is a little off."""
_SHOWN = 0.1, 0.35
"""And likewise, near the face's outline, in the picture that it is drawn into. Farther in, where a nose or lips hide
what is behind them, skin ends at once, as there is skin again."""
_FROM_OUTLINE = 0.0, 0.25
"""In face sizes: so far from the face's outline skin begins to be drawn, and is drawn whole."""
_NEAR_OUTLINE = 0.3, 0.6
"""Likewise, where it begins to matter no more whether skin turns away."""
_LOOKS_ASIDE = 0.14, 0.26
"""A portrait has its other half shown where it looks aside: sines of the angle between which that comes."""
_ASIDE = 0.25, 0.4
"""In face sizes from the midline: between these the other half's skin comes to be drawn; noses have two sides."""
_OTHER_FROM_OUTLINE = 0.0, 0.15
"""And from the face's outline; what the network makes there of a side that it does not know is a bulge."""
_BARED = 0.05, 0.2
"""And by how much more it turns to the camera than in the portrait."""
_STRETCHED = 1.5, 2.5
"""Where there is another half's skin, the portrait's own is drawn no more between these, by how much wider it is in the
picture than in the portrait: there it is a few pixels, half of them hair."""
_LACKING = 0.0, 0.3
"""Of the portrait's own skin so much lacks where its other half's comes to be drawn, and is drawn whole."""
_LIT_FROM, _LIT_BY, _LIT_BLUR, _BRIGHTENED, _DARKEST = 0.5, 0.15, 0.01, 0.5, 8.0
"""The light of a half is told by points of it that are seen at this cosine at least, as their counterparts are; by
those that are near, weighted by a Gaussian of so many face sizes; by colours blurred by so much of the picture's side;
at most so much brighter or darker, in natural logarithms; below so many levels there is no telling."""
_LEAST_FACING = 0.05
_UNLIKE_SKIN = 0.5, 0.9
"""Of what is shown in place of the other half: between these, in natural logarithms of a colour over the skin's usual
one, it is hair or a hand."""
_HIDDEN = 0.06
"""In face sizes: so far behind another part of the portrait's face a point of it is hidden."""
_AWAY = 0.0, 0.25
"""Cosines of the head's own angle to the camera between which anything comes to be drawn."""
_TURNED_DEG = 18.0, 32.0
"""Of the head, against the portrait's own: between these its eyes come to be drawn, too. Before, the network's follow
lids and gaze as well, and beyond, the farther one is smeared."""
_LEAST_DOUBLED_AREA_PX2 = 0.05
_BEYOND = 1.0, 1.0, 0.0
"""Of a triangle's corners: by so many pixels of the portrait, and by no share, a pixel at its edge may go."""
_TORN, _TORN_PX = 1 / 128, 4.0
"""Of a picture's side, and in pixels at least: so far apart in the portrait are two neighbours where skin ends in front
of other skin, and not where it only turns away."""
_LEAST_SHARE = 0.1
_EDGE_BLUR_PX = 0.8
"""Of such an edge: triangles are drawn pixel by pixel, and their steps flicker as a head moves."""
_POINTS = np.unique(FACE_TRIANGLES)
_LIDS = [point for rings in EYE_RINGS for point in rings[0]]
_EYES = [*_LIDS, *(point for rings in EYE_RINGS for point in rings[1]), *_POINTS[_POINTS >= LANDMARK_COUNT].tolist()]
"""The edges and folds of the lids, and the irises. Between folds and edges a portrait's open eyes have their lashes."""
_NEAR, _REACH = 0.12, 0.35
"""In face sizes: over which distance skin goes with what moves beside it, and at which 1 / e of that is left."""
_CORNERS = FACE_TRIANGLES.T.ravel()
"""The first corners of all triangles, then the second ones, then the third ones."""


def _outline() -> list[int]:
    """The points around the face."""
    edges = np.concatenate([FACE_TRIANGLES[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    kinds, counts = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    return sorted(set(kinds[counts == 1].ravel().tolist()) - set(INNER_LIPS))


_OUTLINE = _outline()


class _Layer(NamedTuple):
    """Skin that can be drawn.

    Attributes:
        rgb: (S, S, 3), the picture that has it.
        places: (478, 2), in that picture's pixels.
        usable: (478,): how much of each point is used.
        skin: (S, S): how much of each pixel is; None: all.
    """

    rgb: Rgb
    places: Array
    usable: Array
    skin: Maps | None = None


class DrawnSkin:
    """Draws the skin of a portrait's face into pictures of it.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        head: the portrait's; all of it finite.
    """

    def __init__(self, square: Rgb, head: Head) -> None:
        self._square, self._head = square, _whole(head)
        self._followers = _Followers(self._head.shape)
        mesh, shape = self._head.mesh, self._head.shape
        self._places = pixels(mesh, square)
        self._facing = _towards_camera(mesh)
        away = np.linalg.norm(shape[:, None] - shape[_OUTLINE], axis=2).min(axis=1)
        self._fades = 1 - _shares(away, *_NEAR_OUTLINE)
        seen = _shares(self._facing, *_SEEN)
        seen[self._hidden(mesh)] = 0
        self._own = _Layer(square, self._places, seen * _shares(away, *_FROM_OUTLINE))
        self._other = self._other_half(seen, away)

    def drawn(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture of the portrait with its skin.

        Args:
            rgb: (S, S, 3), what the network made of it.
            head: of the portrait in that picture, with lids as `DrawnLids.opened` has them; all of it finite.

        Returns:
            Another picture; `rgb` itself where there is nothing to draw.
        """
        head, own = _whole(head), self._head
        shape = self._followers.drawn_along(head.shape, own.shape)
        mesh = head._replace(shape=shape).mesh
        facing = _towards_camera(mesh)
        shown = 1 - self._fades * (1 - _shares(facing, *_SHOWN))
        shown *= ramp(float(head.rotation[2, 2]), *_AWAY)
        share = self._own.usable * shown
        places = pixels(mesh, rgb)
        triangles = FACE_TRIANGLES[_seen_triangles(mesh, places)]
        if self._other is not None:
            stretched = _shares(facing / np.maximum(self._facing, _LEAST_FACING), *_STRETCHED)
            share *= 1 - stretched * self._other.usable
            bared = _shares(facing - self._facing, *_BARED)
            lacking = _shares(1 - self._own.usable * (1 - stretched), *_LACKING)
            rgb = _laid(rgb, self._other, places, triangles, self._other.usable * bared * lacking * shown)
        turn = math.degrees(math.acos(min(max(float(head.rotation[:, 2] @ own.rotation[:, 2]), -1.0), 1.0)))
        share[_EYES] *= ramp(turn, *_TURNED_DEG)
        return _laid(rgb, self._own, places, triangles, share)

    def _other_half(self, seen: Array, away: Array) -> _Layer | None:
        """What counterparts show of a half that the portrait hides; None where it shows both.

        Args:
            seen: (478,): how well each point is seen.
            away: (478,): how far it is from the face's outline, in face sizes.
        """
        aside = ramp(abs(float(self._head.rotation[0, 2])), *_LOOKS_ASIDE)
        if not aside:
            return None
        usable = aside * seen[COUNTERPARTS] * _shares(np.abs(self._head.shape[:, 0]), *_ASIDE)
        usable[[*_EYES, *INNER_LIPS]] = 0
        side_px = len(self._square)
        smooth = cv2.GaussianBlur(self._square, (0, 0), _LIT_BLUR * side_px)
        light = np.log(np.maximum(smooth.astype(np.float64), _DARKEST))
        columns, rows = np.clip(np.round(self._places), 0, side_px - 1).astype(int).T
        at_points = light[rows, columns]
        lit, bare = self._lit_as_the_other(at_points, usable), self._bare_skin(light, at_points)
        return _Layer(lit, self._places[COUNTERPARTS], usable * _shares(away, *_OTHER_FROM_OUTLINE), bare)

    def _bare_skin(self, light: Array, at_points: Array) -> Maps:
        """(S, S): 1 where the portrait has the colour of its skin, or brows, 0 where hair or a hand is before it.

        Args:
            light: (S, S, 3), logarithms of the portrait's colours, blurred a little.
            at_points: (478, 3), of these at the mesh's points.
        """
        usable = self._own.usable[_POINTS]
        usual = np.median(at_points[_POINTS][usable >= usable.max()], axis=0)
        bare = 1 - _shares(np.abs(light - usual).max(axis=2), *_UNLIKE_SKIN)
        for brow in (BROWS[: len(BROWS) // 2], BROWS[len(BROWS) // 2 :]):
            hull = cv2.convexHull(np.round(self._places[list(brow)]).astype(np.int32))
            cv2.fillConvexPoly(bare, hull, (1.0,))
        return np.asarray(cv2.GaussianBlur(bare, (0, 0), _LIT_BLUR * len(bare)), np.float32)

    def _lit_as_the_other(self, light: Array, usable: Array) -> Rgb:
        """(S, S, 3): the portrait with each half in the light of the other, as far as that can be told.

        Args:
            light: (478, 3), logarithms of the portrait's colours at the mesh's points.
            usable: (478,): how much of each point's counterpart is used.
        """
        both = np.minimum(self._facing, self._facing[COUNTERPARTS]) > _LIT_FROM
        (told,) = np.nonzero(both & (self._own.usable == 1) & (usable == usable.max()))
        part = part_around(self._places, self._square, 1)
        if part is None or not len(told):
            return self._square
        shape = self._head.shape
        apart = np.square(shape[:, None] - shape[told]).sum(axis=2)
        weight = np.exp((apart.min(axis=1, keepdims=True) - apart) / (2 * _LIT_BY**2))
        brighter = weight @ (light[told] - light[COUNTERPARTS[told]]) / weight.sum(axis=1, keepdims=True)
        brighter = np.clip(brighter, -_BRIGHTENED, _BRIGHTENED)[COUNTERPARTS]
        triangles = FACE_TRIANGLES[_seen_triangles(self._head.mesh, self._places)]
        maps, _ = Canvas(*part).interpolated(self._places[triangles], brighter[triangles], (0.0, 0.0, 0.0))
        lit = self._square.copy()
        lit[part] = np.clip(lit[part] * np.exp(maps).transpose(1, 2, 0) + 0.5, 0, 255)
        return lit

    def _hidden(self, mesh: Array) -> NDArray[np.bool_]:
        """(478,): the points of the portrait's own mesh that lie behind another part of its face."""
        part = part_around(self._places, self._square, 1)
        hidden = np.zeros(len(mesh), bool)
        if part is None:
            return hidden
        canvas, triangles = Canvas(*part), FACE_TRIANGLES[_seen_triangles(mesh, self._places)]
        (depth,), within = canvas.interpolated(self._places[triangles], mesh[triangles][..., 2:], (0.0,))
        columns, rows = np.round(self._places - canvas.origin_px).astype(int).T
        inside = (columns >= 0) & (columns < depth.shape[1]) & (rows >= 0) & (rows < depth.shape[0])
        columns, rows = columns[inside], rows[inside]
        behind = mesh[inside, 2] - depth[rows, columns]
        hidden[inside] = within[rows, columns] & (behind > _HIDDEN * self._head.scale)
        return hidden


class _Followers:
    """Skin that goes with what moves beside it: an expression moves brows and the lower face alone
    (`PortraitInSpace.follow`), which would be folded over what is beside them, or torn from it.

    Args:
        shape: the portrait's, (478, 3).
    """

    def __init__(self, shape: Array) -> None:
        moving = np.isin(_POINTS, BROWS) | (shape[_POINTS, 1] > LOWER_FACE_Y)
        itself = np.isin(_POINTS, _LIDS) | (_POINTS >= LANDMARK_COUNT)  # moves in its own way
        self._moving, self._following = _POINTS[moving], _POINTS[~moving & ~itself]
        apart = np.linalg.norm(shape[self._following, None] - shape[self._moving], axis=2)
        nearest = apart.min(axis=1, keepdims=True)
        weight = np.exp((np.square(nearest) - np.square(apart)) / (2 * _NEAR**2))
        self._weight = weight / weight.sum(axis=1, keepdims=True) * np.exp(-np.square(nearest / _REACH))

    def drawn_along(self, shape: Array, own: Array) -> Array:
        """A shape of the portrait, (478, 3), whose own is given, with what follows."""
        along = shape.copy()
        along[self._following] += self._weight @ (shape[self._moving] - own[self._moving])
        return along


def _laid(rgb: Rgb, layer: _Layer, places: Array, triangles: NDArray[np.intp], share: Array) -> Rgb:
    """A picture with skin on it; `rgb` itself where there is nothing to draw.

    Args:
        rgb: (S, S, 3).
        layer: the skin.
        places: (478, 2), where its points are to be, in pixels.
        triangles: (n, 3), those that are seen, the farthest first.
        share: (478,): how much of it is seen.
    """
    triangles = triangles[(share > 0)[triangles].any(axis=1)]
    corners = places[triangles]
    part = part_around(corners.reshape(-1, 2), rgb, 1) if len(triangles) else None
    if part is None:
        return rgb
    values = np.concatenate((layer.places, share[:, None]), 1)
    (x, y, strength), _ = Canvas(*part).interpolated(corners, values[triangles], _BEYOND)
    if layer.skin is not None:
        strength *= cv2.remap(layer.skin, x, y, cv2.INTER_LINEAR)
    made = rgb.copy()
    made[part] = cv2.blendLinear(remapped(layer.rgb, x, y), made[part], strength, 1 - strength)
    edges = _edges(x, y, strength, max(_TORN * len(rgb), _TORN_PX))
    if edges.any():
        edges = blurred(edges, _EDGE_BLUR_PX)
        smooth = cv2.GaussianBlur(made[part], (0, 0), _EDGE_BLUR_PX)
        made[part] = cv2.blendLinear(smooth, made[part], edges, 1 - edges)
    return made


def _edges(x: Maps, y: Maps, strength: Maps, least_px: float) -> Maps:
    """(h, w): 1 where a pixel and the one beside it, or below, are drawn from so far apart, and 0 elsewhere."""
    edges = np.zeros(x.shape, np.float32)
    drawn = strength > _LEAST_SHARE
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        torn = (cv2.absdiff(x[one], x[other]) > least_px) | (cv2.absdiff(y[one], y[other]) > least_px)
        torn &= drawn[one] & drawn[other]
        if torn.any():
            edges[one][torn] = edges[other][torn] = 1
    return edges


def _whole(head: Head) -> Head:
    """A head with irises."""
    if len(head.shape) > LANDMARK_COUNT:
        return head
    return head._replace(shape=with_irises(head.shape))


def _seen_triangles(mesh: Array, places: Array) -> NDArray[np.intp]:
    """Those whose front is seen, the farthest first: a nose lies over the cheek behind it."""
    (seen,) = np.nonzero(doubled_areas(places[FACE_TRIANGLES]) > _LEAST_DOUBLED_AREA_PX2)
    return seen[np.argsort(-mesh[FACE_TRIANGLES[seen], 2].mean(axis=1))]


def _towards_camera(mesh: Array) -> Array:
    """(478,): the cosine of the angle between the skin's normal at each point and the way to the camera; -1 is away."""
    corners = mesh[FACE_TRIANGLES]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.stack([np.bincount(_CORNERS, np.tile(part, 3), len(mesh)) for part in normals.T], 1)
    length = np.linalg.norm(sums, axis=1)
    return np.asarray(np.divide(sums[:, 2], length, out=np.zeros(len(mesh)), where=length > 0))


def _shares(values: Array, begin: float, end: float) -> Array:
    """0 at `begin` and before, 1 at `end` and behind."""
    return np.asarray(np.clip((values - begin) / (end - begin), 0, 1))
