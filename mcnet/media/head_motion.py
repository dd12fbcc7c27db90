"""Motion in space: a portrait keeps its own shape, and takes a performer's expression and head pose.

Relative motion in the picture's plane (FOMM; `mcnet.pose.relative_keypoints`) adds differences of places in the
picture. That is right only while the reference pose looks where the portrait looks, and it carries the performer's face
shape along. A face mesh has a third coordinate, so that pose, shape and expression can be told apart: every mesh is
brought into one common frame of the head by a similarity on 20 rigid points, expressions are differences there, and the
pose is applied to the result.

A mesh here is (468 or more, 3): x and y in the keypoints' coordinates of a square picture ([-1, 1], corner-aligned), z
in the same unit, away from the camera. Shapes are in the head's frame: the origin at the mean of the rigid points, the
unit their root mean square distance from it (a "face size"), x to the picture's right, y downwards, a face that looks
straight into the camera.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Keypoints
from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE
from mcnet.media.crop import SquareBox
from mcnet.media.expressions import (
    Expression,
    Mesh,
    head_turn,
    openings,
    rotation_between,
)
from mcnet.media.face_mesh import IRIS_POINTS, LANDMARK_COUNT
from mcnet.mesh_points import (
    LEFT_EYE_CORNERS,
    LEFT_IRIS,
    LEFT_LID_PAIRS,
    LIP_PAIRS,
    RIGHT_EYE_CORNERS,
    RIGHT_IRIS,
    RIGHT_LID_PAIRS,
)
from mcnet.pose import LinearMap, invert_2x2, linear_jacobians

Array = NDArray[np.float64]

_RIGID = list(RIGID_POINTS)
_ODD = 0.2
_LIDS = (RIGHT_LID_PAIRS, LEFT_LID_PAIRS)
_LID_POINTS = [point for pairs in _LIDS for ring in pairs for point in ring]
BROWS = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336, 46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
"""Both brows' points, the person's left one first."""
_UPPER_LIP, _CHIN, _MOUTH_CORNERS = 13, 152, (61, 291)
LOWER_FACE_Y = 0.75
"""In face sizes: what lies below the nose moves with the mouth."""

_SHUT_EYE = 0.02
"""What a mesh measures of a shut eye (`expressions.openings`). From there on lids are counted, so that a shut eye shuts
a wide-eyed portrait's and a narrow-eyed one's alike."""
_LEAST_OPEN_EYE = 0.09
"""The least that counts as the opening of a reference's eye: a shut eye is no measure of an open one, a narrow one is.
"""
_SEEN_EYE = 0.14
"""An iris is measured where an eye is open so far. Of 71 clips' most neutral frames, 5 % have less."""
_WIDEST_LIDS = 1.6
"""How far lids open at most, over the portrait's own opening."""
_LIDS_TOGETHER = 0.75
_BLINK, _WINK = 0.4, 0.8
"""People blink with both eyes, while a mesh measures each by itself: in 121 of 382 frames of 19 talking heads in which
an eye is shut by 0.4 of its opening or more, the other one differs by more than 0.25, and in most of these both look
alike. So much of a difference is taken back up to the first of these; from the second one on it is a wink, and all of
it is shown."""
_IRISES = ("right_eye", RIGHT_EYE_CORNERS, RIGHT_IRIS), ("left_eye", LEFT_EYE_CORNERS, LEFT_IRIS)
"""Of each eye its corners, and the points of its iris behind the 468 of the mesh."""
_GAZE_ASKED = 1.5
"""By so much more than the performer's an iris is moved. Lids have a share in what lies between them, so that the
bundled model shows a quarter of what it is asked for; twice as much, or farther, smears irises of wide-open eyes."""
_FARTHEST_GAZE = 0.2
"""How far an iris is moved within its eye at most, over the distance of the eye's corners; approached softly."""
_LOWER_LID = 0.3
"""Share of a lid's motion that the lower one makes; were the upper one to make it all, it would drag the brow along."""
_LID_SQUEEZE = 0.25
"""By so much a shut lid's surroundings are squeezed from above. It shuts eyes by a tenth to a quarter more than places
alone do; twice as much bends the nose."""
_CALM = 0.0045
_PER_OPENING = 0.085
"""Limits of a change of expression: the sum of the squared ways of the mesh's points over that of the points from their
mean. With closed lips it is below 0.008 in 99 of 100 frames of talking heads, and it grows with the square of the
mouth's
opening: 0.01 at 0.2, 0.023 at 0.35, 0.03 at 0.5 in 9 of 10 frames. What goes beyond is not what a portrait can show:
the face shown is distorted by about half as much (`procrustes_residual`)."""
_LEAST_DETERMINANT = 0.01
"""Of a jacobian that the linear map gives for a portrait; the starter's lie between 1 and 8 on what it learned from."""
_SIGMA = 0.6
"""In face sizes, of the Gaussian that weighs the mesh around a keypoint for its local affine map."""


def mesh_in_square(landmarks_px: NDArray[np.float32], box: SquareBox, size_px: int) -> Array:
    """A mesh in the coordinates of keypoints in a crop.

    Args:
        landmarks_px: (N, 3) in the picture's pixels, counted from its edges.
        box: what was cropped from the picture.
        size_px: the side of the crop as the model sees it.

    Returns:
        (N, 3) float64: x and y in [-1, 1] of the square's outer pixels' centres, z in the same unit.
    """
    mesh = landmarks_px.astype(np.float64)
    per_px = size_px / box.side
    mesh[:, 0] -= box.center_x - box.side / 2
    mesh[:, 1] -= box.center_y - box.side / 2
    mesh *= per_px
    mesh[:, :2] -= 0.5  # pixels' centres
    mesh *= 2 / (size_px - 1)
    mesh[:, :2] -= 1
    return mesh


def with_irises(mesh: Array) -> Array:
    """(478, 3): a mesh with its irises; one of 468 points, as older motion files have it, looks straight ahead."""
    if len(mesh) > LANDMARK_COUNT:
        return mesh
    middles = [_between(mesh, pairs) for pairs in _LIDS]
    irises = [np.tile(middle, (IRIS_POINTS // len(middles), 1)) for middle in middles]
    return np.concatenate((mesh[:LANDMARK_COUNT], *irises))


def places_on(mesh: Array, points: Sequence[int]) -> Array:
    """(K, 2): where some of a mesh's points are; irises that it has not are in the middle of their lids."""
    if max(points) >= LANDMARK_COUNT:
        mesh = with_irises(mesh)
    return mesh[list(points), :2]


class Head(NamedTuple):
    """A face in space.

    Attributes:
        shape: (N, 3) in the head's frame.
        rotation: (3, 3), from the head's frame to the picture's axes; the identity looks into the camera.
        scale: the face size, in the picture's coordinates.
        shift: (3,), the mean of the rigid points in the picture's coordinates.
    """

    shape: Array
    rotation: Array
    scale: float
    shift: Array

    @classmethod
    def of(cls, mesh: Array) -> "Head":
        """Tell pose and shape of a mesh apart."""
        rigid = mesh[_RIGID]
        shift = rigid.mean(axis=0)
        rotation = rotation_between(RIGID_SHAPE, rigid)
        spread = np.square(rigid - shift).sum() / np.square(RIGID_SHAPE).sum()
        scale = math.sqrt(spread)
        return cls((mesh - shift) @ rotation / scale, rotation, scale, shift)

    @property
    def mesh(self) -> Array:
        """(N, 3), back in the picture's coordinates."""
        return self.shape @ self.rotation.T * self.scale + self.shift

    def towards(self, other: "Head", share: float) -> "Head":
        """This head at share 0, the other one at 1; turning about one axis in between."""
        return Head(
            (1 - share) * self.shape + share * other.shape,
            rotation_power(other.rotation @ self.rotation.T, share) @ self.rotation,
            self.scale ** (1 - share) * other.scale**share,
            (1 - share) * self.shift + share * other.shift,
        )

    @property
    def oddity(self) -> float:
        """How far the rigid points are from a mean head's, root mean square in face sizes: 0.03 to 0.12 on faces."""
        return float(np.sqrt(np.square(self.shape[_RIGID] - RIGID_SHAPE).sum(axis=1).mean()))

    @property
    def likely(self) -> bool:
        """Whether this can be a face. Of real ones, with hands before them or in profile, none is odder than 0.12."""
        return self.oddity < _ODD

    @property
    def openings(self) -> Expression:
        """How far mouth and eyes are open, whatever the pose; see `mcnet.media.expressions.openings`."""
        return openings(self.shape)

    def with_mouth_closed(self) -> "Head":
        """The same head, its jaw raised until the lips meet: a reference that was caught in the middle of a word.

        The lower lip rises by the gap above it, the chin by the gap at the middle, what lies between chin and cheek by
        a share of that.
        """
        shape = self.shape.copy()
        upper, lower = (shape[list(points)] for points in LIP_PAIRS)
        gap = np.maximum(lower[:, 1] - upper[:, 1], 0)
        middle = float(gap[len(gap) // 2])
        lips_y, chin_y = float(shape[_UPPER_LIP, 1]), float(shape[_CHIN, 1])
        order = np.argsort(lower[:, 0])
        above = np.interp(shape[:, 0], lower[order, 0], gap[order], left=0, right=0)
        # From the lip's own profile at the mouth to the jaw's at the chin.
        down = np.clip((shape[:, 1] - lips_y) / max(chin_y - lips_y, 1e-6), 0, 1)
        below = shape[:, 1] > np.interp(shape[:, 0], lower[order, 0], ((upper + lower) / 2)[order, 1])
        shape[:, 1] -= np.where(below, (1 - down) * above + down * middle, 0)
        return self._replace(shape=shape)


@dataclasses.dataclass(frozen=True)
class Gains:
    """How strongly each part of a performer's motion is taken over: 0 not at all, 1 as it is."""

    turn: float = 1.0
    """To the sides (yaw)."""
    nod: float = 1.0
    """Up and down (pitch)."""
    tilt: float = 1.0
    """Towards a shoulder (roll)."""
    shift: float = 1.0
    """Of the head in the picture."""
    nearness: float = 1.0
    """To the camera: the head's size."""
    lids: float = 1.0
    gaze: float = 1.0
    """Of the irises within their eyes, for models with keypoints on them; at 1 they move half as far again
    as the performer's, of which the bundled model shows a third."""
    mouth: float = 1.0
    """Lips, jaw and chin."""
    brows: float = 1.0


_LOOKS_ASIDE_DEG = 8.0, 18.0
"""Of a portrait's own head: between these it comes to hide one half of its face."""


class PoseLimits(NamedTuple):
    """How far a portrait is posed away from its own pose; approached softly.

    Measured with the bundled model on five portraits whose heads were turned about one axis, drawn skin and all: up to
    40 degrees to a side, 25 up and 25 down the shown face stays within 0.006 of the portrait's (Procrustes residual of
    the mesh; 0.007 about both axes at once, and by the network alone). At 50 degrees to a side it is 0.009 in the worst
    of them, and hair and ears are no longer the head's from some 35 on.

    A portrait that looks aside shows little of its farther half, and turned to the camera by more than some 10 degrees
    that half is smeared: seen on ten portraits that look aside by 8 to 23 degrees, turned by 6 to 38.

    Attributes:
        turn_deg, nod_deg, tilt_deg: of the head, to either side.
        shift: in the picture's coordinates.
        nearness: factor of size, and its inverse.
        hidden_turn_deg: of a head that looks aside by 18 degrees or more, towards the side that it hides. Turns are
            compressed from the first degree on, to half of it for a turn by as much, so that the head still moves
            where a performer's looks straight ahead.
    """

    turn_deg: float = 40.0
    nod_deg: float = 25.0
    tilt_deg: float = 45.0
    shift: float = 0.45
    nearness: float = 1.4
    hidden_turn_deg: float = 20.0


class PortraitInSpace:
    """A portrait that takes the expression and the pose of a performer.

    Attributes:
        head: the portrait's own.
    """

    def __init__(
        self, mesh: Array, points: Sequence[int], limits: PoseLimits | None = None, linear: LinearMap = ()
    ) -> None:
        """Take a portrait.

        Args:
            mesh: of the portrait.
            points: which of the mesh's points the model's keypoints are, in their order. Only where some are on the
                irises do irises count; a mesh that has none looks straight ahead.
            limits: of the pose.
            linear: the model's map from places to jacobians, if it has one.
        """
        self._mesh = mesh = with_irises(mesh) if max(points) >= LANDMARK_COUNT else mesh[:LANDMARK_COUNT]
        self.head = Head.of(mesh)
        self._points = list(points)
        self._limits = limits or PoseLimits()
        self._own_yaw_deg = head_turn(self.head.rotation).yaw
        shape = self.head.shape
        self._closing = self.head.with_mouth_closed().shape - shape
        self._own_mouth = self.head.openings.mouth
        rest = shape[:LANDMARK_COUNT]
        self._spread = float(np.square(rest - rest.mean(axis=0)).sum())
        self._brows = np.zeros(len(shape), bool)
        self._brows[list(BROWS)] = True
        self._mouth = shape[:, 1] > LOWER_FACE_Y  # irises lie above
        self._mouth[_RIGID] = False
        # Of the affine maps: each is linear in the target's mesh.
        offset = shape[:, None, :2] - shape[None, self._points, :2]
        weight = np.exp(-np.square(offset).sum(-1) / (2 * _SIGMA**2)).T  # (K, N)
        weight[:, _LID_POINTS] = 0  # a blink is no stretching of what lies around the eye: it would widen the brow
        weight[:, LANDMARK_COUNT:] = 0  # nor is a gaze
        weight /= weight.sum(1, keepdims=True)
        own = mesh[:, :2]
        around = own[None] - (weight @ own)[:, None]  # (K, N, 2)
        spread = np.einsum("kn,kni,knj->kij", weight, around, around)
        spread += 1e-3 * np.trace(spread, axis1=1, axis2=2)[:, None, None] * np.eye(2)  # a profile has no width
        fit = weight[..., None] * (around @ np.linalg.inv(spread))  # (K, N, 2)
        self._fit = np.ascontiguousarray(fit.transpose(1, 0, 2).reshape(len(shape), -1))  # (N, 2 K)
        facing = {point: pair for pairs in _LIDS for pair in zip(*pairs, strict=True) for point in pair}
        self._on_lids = [(index, facing[point]) for index, point in enumerate(self._points) if point in facing]
        self._linear = linear
        self._own_inverse: Array | None = None
        if linear:
            own_jacobians = linear_jacobians(self.places[None], linear)
            # Else no map can tell what has changed, and the mesh does.
            if np.abs(np.linalg.det(own_jacobians)).min() > _LEAST_DETERMINANT:
                self._own_inverse = invert_2x2(own_jacobians)
        self._taken: tuple[Head, Array, Expression] | None = None

    def follow(self, performer: Head, reference: Head, gains: Gains | None = None) -> Head:
        """The portrait's head, moved as the performer moves.

        Args:
            performer: in the driving frame.
            reference: the performer with a neutral expression, in any pose.
            gains: of the parts of the motion.
        """
        gains = gains or Gains()
        return Head(self._shape(performer, reference, gains), *self._pose(performer, reference, gains))

    @property
    def places(self) -> Array:
        """(K, 2): where the portrait's own keypoints lie."""
        return self._mesh[self._points, :2]

    def driving(self, head: Head) -> tuple[Array, Array]:
        """The keypoints of the portrait when its head is `head`.

        Returns:
            (K, 2) places, and (K, 2, 2) affine maps: how the face around each keypoint is turned and stretched against
            the portrait as it is. A map times the jacobian of the portrait's keypoint is the driving one. By the
            model's linear map where it has one, whose network knows such jacobians; else as the mesh around each
            keypoint says. A shut lid's are squeezed.
        """
        mesh = head.mesh
        places = mesh[self._points, :2]
        if self._own_inverse is not None:
            maps = (linear_jacobians(places[None], self._linear) @ self._own_inverse)[0]
        else:
            maps = np.ascontiguousarray((mesh[:, :2].T @ self._fit).reshape(2, -1, 2).transpose(1, 0, 2))
        for index, pair in self._on_lids:
            upper, lower = pair
            own = self.head.shape[lower, 1] - self.head.shape[upper, 1]
            share = (head.shape[lower, 1] - head.shape[upper, 1]) / max(own, 1e-6)
            maps[index, :, 1] *= 1 - _LID_SQUEEZE * (1 - min(max(float(share), 0.0), 1.0))
        return places, maps

    def keypoints(self, heads: Sequence[Head], source: Keypoints[NDArray[Any]]) -> Keypoints[NDArray[Any]]:
        """Driving keypoints of a batch of frames.

        Args:
            heads: from `follow`.
            source: the portrait's keypoints, batch 1, at `places`.
        """
        values, maps = (np.stack(arrays) for arrays in zip(*map(self.driving, heads), strict=True))
        return Keypoints(values.astype(np.float32), maps.astype(np.float32) @ source.jacobian)

    def _pose(self, performer: Head, reference: Head, gains: Gains) -> tuple[Array, float, Array]:
        own, limits = self.head, self._limits
        yaw, pitch, roll, _ = head_turn(performer.rotation @ own.rotation.T)
        turned = _rotation(
            self._turned_deg(gains.turn * yaw),
            softly(gains.nod * pitch, limits.nod_deg),
            softly(gains.tilt * roll, limits.tilt_deg),
        )
        nearer = gains.nearness * math.log(performer.scale / reference.scale)
        scale = own.scale * math.exp(softly(nearer, math.log(limits.nearness)))
        moved = gains.shift * (performer.shift - reference.shift) * (own.scale / reference.scale)
        shift = own.shift + np.array([softly(part, limits.shift) for part in moved])
        return turned @ own.rotation, scale, shift

    def _turned_deg(self, yaw_deg: float) -> float:
        """By how much the head is turned from its own pose for a turn by so much."""
        turned = softly(yaw_deg, self._limits.turn_deg)
        if yaw_deg * self._own_yaw_deg >= 0:
            return turned
        begin, end = _LOOKS_ASIDE_DEG
        hidden = min(max((abs(self._own_yaw_deg) - begin) / (end - begin), 0.0), 1.0)
        compressed = yaw_deg / (1 + abs(yaw_deg) / self._limits.hidden_turn_deg)
        return turned + hidden * (softly(compressed, self._limits.turn_deg) - turned)

    def _shape(self, performer: Head, reference: Head, gains: Gains) -> Array:
        own = self.head.shape
        closed, neutral = self._neutral(reference)
        now = performer.openings
        gain = gains.brows * self._brows + gains.mouth * self._mouth
        change = np.zeros_like(own)  # irises follow their lids and the gaze
        rest = slice(LANDMARK_COUNT)
        change[rest] = gain[rest, None] * (performer.shape[rest] - closed[rest])
        # Lips that meet are to meet in the portrait too, whatever its own mouth does: from there on the mouth is moved.
        change += min(gains.mouth, 1.0) * self._closing
        size = math.sqrt(float(np.square(change).sum()) / self._spread)
        widest = max(now.mouth, self._own_mouth, 0.0)
        limit = math.sqrt(_CALM + _PER_OPENING * widest**2) * max(1.0, gains.mouth, gains.brows)
        shape = own + change * (softly(size, limit) / size if size else 1.0)
        for (_, _, iris), pairs, opened in zip(_IRISES, _LIDS, _opened(now, neutral), strict=True):
            share = min(max(1 + gains.lids * (opened - 1), 0.0), _WIDEST_LIDS)
            upper, lower = (list(points) for points in pairs)
            opening = own[upper] - own[lower]
            shape[lower] = own[lower] + _LOWER_LID * (1 - share) * opening
            shape[upper] = shape[lower] + share * opening
            # An iris goes with its lids: of a shut eye, a mesh finds it where they meet.
            shape[iris] += _between(shape, pairs) - _between(own, pairs)
        if len(own) > LANDMARK_COUNT and gains.gaze:
            self._look(shape, performer, reference, gains.gaze)
        upper, lower = (list(points) for points in LIP_PAIRS)
        least = np.minimum(own[lower, 1] - own[upper, 1], 0)  # where they touch, a mesh may have them cross a little
        crossed = np.minimum(shape[lower, 1] - shape[upper, 1] - least, 0) / 2
        shape[upper, 1] += crossed
        shape[lower, 1] -= crossed
        return shape

    def _look(self, shape: Array, performer: Head, reference: Head, gain: float) -> None:
        """Move the irises in a shape as the performer's moved within their eyes; where an eye shuts a mesh guesses."""
        for (eye, corners, iris), pairs in zip(_IRISES, _LIDS, strict=True):
            opening = min(getattr(performer.openings, eye), getattr(self._neutral(reference)[1], eye))
            seen = min(max(opening / _SEEN_EYE, 0.0), 1.0)
            there = [_gaze(with_irises(head.shape), corners, iris, pairs) for head in (performer, reference)]
            width, own_width = (
                float(np.linalg.norm(np.subtract(*of[list(corners)]))) for of in (performer.shape, self.head.shape)
            )
            moved = (there[0] - there[1])[:2] / max(width, 1e-6)
            moved = np.array([softly(gain * _GAZE_ASKED * seen * float(part), _FARTHEST_GAZE) for part in moved])
            shape[iris, :2] += own_width * moved

    def _neutral(self, reference: Head) -> tuple[Array, Expression]:
        """The reference's shape with its mouth closed, and its openings; kept, as it is the same for many frames."""
        if self._taken is None or self._taken[0] is not reference:
            self._taken = reference, reference.with_mouth_closed().shape, reference.openings
        return self._taken[1:]


def _opened(now: Expression, neutral: Expression) -> tuple[float, float]:
    """How far a performer's right and left eye are open, over the reference's: 0 where they are shut."""
    right, left = (
        max(getattr(now, eye) - _SHUT_EYE, 0.0) / (max(getattr(neutral, eye), _LEAST_OPEN_EYE) - _SHUT_EYE)
        for eye, _, _ in _IRISES
    )
    taken = _LIDS_TOGETHER * float(np.interp(abs(left - right), (_BLINK, _WINK), (1, 0)))
    half = taken * (left - right) / 2
    return right + half, left - half


def _between(shape: Array, pairs: Sequence[Sequence[int]]) -> Array:
    """(3,): the middle between the lids of an eye."""
    return np.asarray(shape[[*pairs[0], *pairs[1]]].mean(axis=0))


def _gaze(shape: Array, corners: tuple[int, int], iris: slice, pairs: Sequence[Sequence[int]]) -> Array:
    """(3,): where an iris is in its eye, to the sides from the middle of the corners, and up or down from that of the
    lids.
    """
    from_corners = shape[iris].mean(axis=0) - shape[list(corners)].mean(axis=0)
    from_lids = shape[iris].mean(axis=0) - _between(shape, pairs)
    return np.array([from_corners[0], from_lids[1], from_corners[2]])


def rotation_power(rotation: Array, share: float) -> Array:
    """A (3, 3) rotation about the same axis by that share of its angle (Rodrigues' formula)."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        return np.eye(3) if share < 0.5 else rotation
    angle = share * math.atan2(length, float(np.trace(rotation)) - 1)
    x, y, z = axis / length
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * across @ across, np.float64)


def _rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Array:
    """The rotation of these angles: roll after yaw after pitch."""
    (sy, cy), (sp, cp), (sr, cr) = (
        (math.sin(math.radians(angle)), math.cos(math.radians(angle))) for angle in (yaw_deg, pitch_deg, roll_deg)
    )
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def softly(value: float, limit: float) -> float:
    """The value itself up to 0.6 of the limit; beyond, ever less of it, and never more than the limit."""
    free = 0.6 * limit
    beyond = abs(value) - free
    if beyond <= 0:
        return value
    return math.copysign(free + (limit - free) * math.tanh(beyond / (limit - free)), value)


def _expression(head: Head) -> tuple[float, float, float, float]:
    """Openings of mouth and eyes, the mouth's width, and the angle by which the head is turned, in degrees."""
    width = np.linalg.norm(head.shape[_MOUTH_CORNERS[1]] - head.shape[_MOUTH_CORNERS[0]])
    return head.openings.mouth, head.openings.eyes, float(width), head_turn(head.rotation).angle


def most_neutral(meshes: Sequence[Mesh | None]) -> int:
    """Which of a person's meshes has the most neutral expression: the reference for all others.

    The mouth is closed and as wide as usual, the eyes are as open as usual, and the head looks into the camera, where
    a mesh is measured best. What is usual is told by the meshes themselves.

    Args:
        meshes: of the frames of a video, in any coordinates; None where no face was found.

    Returns:
        Index into `meshes`; the first of equals.

    Raises:
        ValueError: all are None.
    """
    found = [index for index, mesh in enumerate(meshes) if mesh is not None]
    if not found:
        raise ValueError("got no mesh, expected one at least")
    # A head is several times as large as its mesh: one at a time.
    expressions = (_expression(Head.of(np.asarray(meshes[index], np.float64))) for index in found)
    mouth, eyes, width, turn_deg = np.array(list(expressions)).T
    faults = (
        np.maximum(mouth, 0) / 0.1,
        np.abs(eyes - np.quantile(eyes, 0.75)) / 0.05,
        np.abs(width / np.median(width) - 1) / 0.1,
        turn_deg / 30,
    )
    return found[int(np.argmin(np.square(faults).sum(axis=0)))]
