"""From the performer's keypoints to the avatar's: smoothed, relative to the reference pose, with gains and soft limits.

Everything here is arithmetic on K keypoints; it knows no pictures and no clock of its own.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.smoothing import smoothing_cutoff_hz
from app.settings import LiveSettings
from mcnet.arrays import Keypoints
from mcnet.media.face_mesh import LANDMARK_COUNT
from mcnet.media.head_motion import Gains, Head, softly
from mcnet.mesh_points import LEFT_IRIS, LEFT_LID_PAIRS, LIP_PAIRS, RIGHT_IRIS, RIGHT_LID_PAIRS
from mcnet.pose import hull_area

Array = NDArray[np.float64]

_SPEED_HZ = 3.0
_LIDS, _LIPS = sorted({*sum(RIGHT_LID_PAIRS + LEFT_LID_PAIRS, ())}), sorted({*sum(LIP_PAIRS, ())})
_IRISES = [list(range(iris.start, iris.stop)) for iris in (RIGHT_IRIS, LEFT_IRIS)]
_PARTS = (_LIDS, _LIPS, sorted({*range(LANDMARK_COUNT)} - {*_LIDS, *_LIPS}), *_IRISES)


class Pose(NamedTuple):
    """Keypoints on the host.

    Attributes:
        value: (K, 2) xy in [-1, 1].
        jacobian: (K, 2, 2).
    """

    value: Array
    jacobian: Array

    @classmethod
    def of(cls, keypoints: Keypoints[NDArray[Any]]) -> "Pose":
        """The first of a batch of keypoints."""
        value, jacobian = (part[0].astype(np.float64) for part in keypoints)
        return cls(value, jacobian)

    def to_keypoints(self) -> Keypoints[NDArray[Any]]:
        """A batch of one, float32, for the engine."""
        return Keypoints(*(part[None].astype(np.float32) for part in self))

    def towards(self, other: "Pose", share: float) -> "Pose":
        """This pose at share 0, the other one at 1, on a straight line in between."""
        return Pose(*((1 - share) * mine + share * theirs for mine, theirs in zip(self, other, strict=True)))


class OneEuroFilter:
    """Smooths an array over time: strongly at rest, where jitter shows, and hardly in motion, where delay shows.

    The 1 Euro filter (Casiez, Roussel, Vogel: CHI 2012): a first-order low-pass whose cut-off frequency rises with the
    speed of what is measured, here above the speed of mere jitter. The speed is that of the whole array (root mean
    square), so that the points of one part of a face are delayed alike and the part is not bent.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next value goes through as it is."""
        self._value: Array | None = None
        self._speed: Array | None = None
        self._latest: Array | None = None
        self._taken = 0

    def update(self, value: Array, dt_s: float, smoothing: float) -> Array:
        """Take the next value and answer the smoothed one.

        Args:
            value: any shape, always the same.
            dt_s: seconds since the one before; 0 keeps the answer as it was.
            smoothing: the setting, 0 to 1.
        """
        if self._value is None or self._speed is None or self._latest is None or smoothing <= 0:
            self._value, self._speed, self._latest, self._taken = value, np.zeros_like(value), value, 1
            return value
        if dt_s <= 0:
            return self._value
        speed, self._latest = (value - self._latest) / dt_s, value
        self._speed = self._speed + _share(_SPEED_HZ, dt_s) * (speed - self._speed)
        moving = float(np.sqrt(np.square(self._speed).mean()))
        cutoff_hz = smoothing_cutoff_hz(smoothing, moving)
        self._taken += 1
        # The first values count alike: the jitter of the very first one would stay for seconds.
        share = max(_share(cutoff_hz, dt_s), 1 / self._taken)
        self._value = self._value + share * (value - self._value)
        return self._value


def _share(cutoff_hz: float, dt_s: float) -> float:
    """How much of a difference a first-order low-pass makes up in one step (exact for a constant input)."""
    return 1 - math.exp(-2 * math.pi * cutoff_hz * dt_s)


def moves_in_space(settings: LiveSettings) -> bool:
    """Whether the performer's head moves the avatar, where it is measured; otherwise keypoints do, in the plane."""
    return settings.relative and settings.motion == "space"


def gains_of(settings: LiveSettings) -> Gains:
    """The settings' gains of motion in space: each part's own times that of its group."""
    motion, expression = settings.motion_strength, settings.expression_strength
    return Gains(
        turn=motion * settings.turn_strength,
        nod=motion * settings.nod_strength,
        tilt=motion * settings.tilt_strength,
        shift=motion * settings.shift_strength,
        nearness=motion * settings.nearness_strength,
        lids=expression * settings.lids_strength,
        gaze=expression * settings.gaze_strength,
        mouth=expression * settings.mouth_strength,
        brows=expression * settings.brows_strength,
    )


_STRETCH = 1.35
_EXPRESSION = 0.16
_SHIFT = 0.45
_TILT = math.radians(75)
_STRANGE_STRETCH = 1.25
_STRANGE_EXPRESSION = 0.13
"""Of detected keypoints against the reference pose: the stretch of the affine map that brings them closest, either way,
what remains of them, relative to their spread, and the map's shift and turn. On faces, wide smiles
and hands before the mouth included, the stretch was 0.93 to 1.06 and the rest up to 0.09; on frames without a face 1.4
and 0.8. Nothing beyond the first four is shown, and what exceeds the strange ones is looked at before it is shown."""


class Reference(NamedTuple):
    """What a performer's motion is measured from.

    Attributes:
        pose: keypoints in the square, for motion in the plane.
        head: for motion in space, of which the expression counts and where the head was; None where no mesh measured.
        fingerprint: of the model that the keypoints are of, which no other model's can be compared with; "": of none.
    """

    pose: Pose
    head: Head | None = None
    fingerprint: str = ""

    def is_strange(self, driving: Pose) -> bool:
        """Whether keypoints are hardly those of the face that the reference pose shows."""
        around, linear, _, expression = _parted(self.pose, driving)
        rest = math.sqrt(np.square(expression).sum() / np.square(around).sum())
        stretch = np.linalg.svd(linear, compute_uv=False)
        inside_out = np.linalg.det(linear) <= 0
        too_far = max(float(stretch[0]), 1 / max(float(stretch[1]), 1e-6)) > _STRANGE_STRETCH
        return bool(inside_out or too_far or rest > _STRANGE_EXPRESSION)

    def relative(self, source: Pose, driving: Pose, motion_strength: float, expression_strength: float) -> Pose:
        """The source's keypoints moved as the performer moved since the reference pose, with gains.

        With both gains at 1 this is FOMM's relative motion with adapted scale (`mcnet.pose.relative_keypoints`).
        For other gains the movement is parted in two: the affine map that brings the reference pose closest to the
        performer's (the head's motion) and what remains (the expression). The map's turn and stretch are amplified each
        for itself, so that a tilted head is tilted further and not blown up.

        Raises:
            ValueError: the reference pose spans no area.
        """
        area = hull_area(self.pose.value.astype(np.float32))
        if not area > 0:
            raise ValueError("the keypoints of the reference pose span no area: got a flat hull; calibrate again")
        scale = math.sqrt(hull_area(source.value.astype(np.float32)) / area)
        around, linear, shift, expression = _parted(self.pose, driving)
        turned = driving.jacobian @ np.linalg.inv(self.pose.jacobian)
        linear, expression = _limited(linear, expression, float(np.square(around).sum()))
        shift = np.array([softly(part, _SHIFT) for part in shift])
        head = _amplified(linear, motion_strength)
        moved = around @ head.T + motion_strength * shift + expression_strength * expression
        turned = head + expression_strength * (turned - linear)
        return Pose(source.value + scale * (moved - around), turned @ source.jacobian)


class MotionFilter:
    """Takes the jitter out of a performer's mesh and keypoints, each part by a filter of its own."""

    def __init__(self) -> None:
        self._mesh = [OneEuroFilter() for _ in _PARTS]
        self._value = OneEuroFilter()
        self._jacobian = OneEuroFilter()

    def reset(self) -> None:
        """Let the next keypoints through unsmoothed, as after a gap."""
        for one in (self._value, self._jacobian, *self._mesh):
            one.reset()

    def smooth(self, driving: Pose, dt_s: float, smoothing: float, *, steady: bool = False) -> Pose:
        """The performer's keypoints without their jitter; `dt_s` seconds after those before.

        Args:
            driving: the keypoints.
            dt_s: seconds.
            smoothing: the setting, 0 to 1.
            steady: whether the places come from a mesh that was smoothed already.
        """
        return Pose(
            driving.value if steady else self._value.update(driving.value, dt_s, smoothing),
            self._jacobian.update(driving.jacobian, dt_s, smoothing),
        )

    def smooth_mesh(self, mesh: Array, dt_s: float, smoothing: float) -> Array:
        """Likewise the performer's mesh, (468, 3) in coordinates of keypoints, or (478, 3) with irises.

        Lids, lips, each iris and the rest are filtered apart: a blink is quick, and its filter must not take it for the
        stillness of the head. As the head is moved, all parts have one speed and so one delay; as it turns, nearly so.
        """
        smooth = mesh.copy()
        for part, one in zip(_PARTS, self._mesh, strict=True):
            if part[-1] < len(mesh):
                smooth[part] = one.update(mesh[part], dt_s, smoothing)
        return smooth


def _parted(reference: Pose, driving: Pose) -> tuple[Array, Array, Array, Array]:
    """A movement in two parts: the head's, as an affine map, and the expression.

    Returns:
        The reference's places around their mean (K, 2); the map's linear part (2, 2) and shift (2,), of these; what it
        leaves of the driving places (K, 2).
    """
    centre = reference.value.mean(axis=0)
    around, now = reference.value - centre, driving.value - centre
    linear, shift = _affine_fit(around, now)
    return around, linear, shift, now - (around @ linear.T + shift)


def _affine_fit(start: Array, end: Array) -> tuple[Array, Array]:
    """The affine map that brings (K, 2) points closest to others in the least squares: linear part (2, 2), shift (2,).

    The points must not all lie on one line.
    """
    columns = np.column_stack((start, np.ones(len(start))))
    solution = np.asarray(np.linalg.lstsq(columns, end, rcond=None)[0], np.float64)
    return solution[:2].T, solution[2]


def _limited(linear: Array, expression: Array, spread: float) -> tuple[Array, Array]:
    """The two parts of a movement within what a face can do, so that no portrait is torn; `spread` squared."""
    left, stretch, right = np.linalg.svd(linear)
    rest = math.sqrt(float(np.square(expression).sum()) / spread)
    expression = expression * (softly(rest, _EXPRESSION) / rest if rest else 1.0)
    widest = math.log(_STRETCH)
    limited = np.exp([softly(math.log(max(float(each), 1e-6)), widest) for each in stretch])
    if np.linalg.det(linear) <= 0:  # inside out, which no head is
        left[:, -1] *= -1
    turn = left @ right
    angle = softly(math.atan2(turn[1, 0], turn[0, 0]), _TILT)
    return _linear_map(angle, limited, right), expression


def _amplified(linear: Array, gain: float) -> Array:
    """A (2, 2) linear map of a face's motion, as strong as `gain` says: 0 none, 1 itself, 2 the map done twice.

    Polar decomposition: the angle of the rotation times the gain, the stretch to the power of the gain. A map that
    turns the face inside out, which no head does, has no such power and is scaled linearly.
    """
    if gain == 1:
        return linear
    if np.linalg.det(linear) <= 0:
        return np.asarray(np.eye(2) + gain * (linear - np.eye(2)), np.float64)
    left, stretch, right = np.linalg.svd(linear)
    rotation = left @ right
    angle = gain * math.atan2(rotation[1, 0], rotation[0, 0])
    return _linear_map(angle, stretch**gain, right)


def _linear_map(angle: float, stretch: Array, axes: Array) -> Array:
    """The (2, 2) map that stretches by `stretch` along the rows of `axes`, then turns by `angle`."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(turn @ axes.T @ np.diag(stretch) @ axes, np.float64)
