"""Hands-free calibration: of some seconds of the driver, the frame that serves best as the reference pose."""

import math
from dataclasses import dataclass

import numpy as np

from app.pipeline.motion import Pose
from mcnet.media.expressions import Expression, Mesh, expression, head_turn, rotation_between

_MIN_FRAMES = 3
_OPEN_MOUTH = 0.25
_CLOSED_EYES = 0.12
_TURNED_DEG = 15.0
_NEUTRAL = Expression(mouth=0.0, left_eye=0.3, right_eye=0.3)
_FACE_SIDES = (234, 454)
_REMARK_FROM = 0.6


@dataclass(frozen=True)
class PoseScore:
    """How well a frame serves as the reference pose.

    Attributes:
        score: 0 to 100.
        remarks: what keeps it from 100, for people.
    """

    score: int
    remarks: tuple[str, ...]


def score_pose(driver: Mesh, source: Mesh | None) -> PoseScore:
    """Score a driver's face.

    Relative motion adds to the portrait what the driver changes from here on, so the reference is to look as the
    portrait does: turned alike, the mouth as far open. Without a mesh of the portrait a neutral face is wanted: the
    camera seen straight, mouth closed, eyes open.

    Args:
        driver: (468, 3) in pixels.
        source: likewise, of the portrait, or None.
    """
    now = expression(driver, in_space=True)
    wanted = _NEUTRAL if source is None else expression(source, in_space=True)
    if source is None:
        turn_deg, turn_hint = abs(_yaw_deg(driver)), "look straight into the camera"
    else:
        turn_deg, turn_hint = head_turn(rotation_between(source, driver)).angle, "turn your head as in the portrait"
    mouth = now.mouth - wanted.mouth
    faults = (
        (turn_hint, turn_deg / _TURNED_DEG),
        ("close your mouth" if mouth > 0 else "open your mouth as in the portrait", abs(mouth) / _OPEN_MOUTH),
        ("open your eyes", max(0.0, (min(wanted.eyes, 2 * _CLOSED_EYES) - now.eyes) / _CLOSED_EYES)),
    )
    score = 100 * math.exp(-0.7 * sum(fault**2 for _, fault in faults))
    return PoseScore(round(score), tuple(hint for hint, fault in faults if fault > _REMARK_FROM))


def _yaw_deg(mesh: Mesh) -> float:
    """How far the head is turned about the vertical axis, from the depth of the face's two sides."""
    right, left = (mesh[point].astype(np.float64) for point in _FACE_SIDES)
    return math.degrees(math.atan2(left[2] - right[2], left[0] - right[0]))


class Calibration:
    """Looks at frames for a while and keeps the best.

    Args:
        duration_s: how long to look at least; 0 takes the first frame with a face.
        source: the portrait's mesh, or None.
    """

    def __init__(self, duration_s: float, source: Mesh | None) -> None:
        self._started_s: float | None = None
        self._duration_s = duration_s
        self._source = source
        self._frames = 0
        self._best: tuple[PoseScore, Pose] | None = None
        self._latest: PoseScore | None = None

    def offer(self, now_s: float, driver: Mesh, pose: Pose) -> None:
        """Take a frame into consideration."""
        if self._started_s is None:
            self._started_s = now_s
        self._frames += 1
        self._latest = score_pose(driver, self._source)
        if self._best is None or self._latest.score > self._best[0].score:
            self._best = self._latest, pose

    def share(self, now_s: float) -> float:
        """How much of the looking is done, 0 to 1; the time counts from the first face on."""
        if self._started_s is None:
            return 0.0
        by_time = 1.0 if self._duration_s <= 0 else (now_s - self._started_s) / self._duration_s
        needed = 1 if self._duration_s <= 0 else _MIN_FRAMES
        return max(0.0, min(1.0, by_time, self._frames / needed))

    @property
    def hint(self) -> str:
        """What the driver could do better at this moment, or ""."""
        if self._latest is None:
            return "show your face to the camera"
        return self._latest.remarks[0] if self._latest.remarks else ""

    def result(self, now_s: float) -> tuple[PoseScore, Pose] | None:
        """The best frame's score and pose once the looking is done; None before."""
        return self._best if self.share(now_s) >= 1 else None
