"""Hands-free calibration: of some seconds of the performer, the frame that serves best as the reference pose."""

import math
from dataclasses import dataclass

import numpy as np

from app.pipeline.animation.motion import Reference
from mcnet.media.expressions import Expression, Mesh, expression, head_turn, openings, rotation_between
from mcnet.phrases import phrase
from mcnet.pose import hull_area

_MIN_FRAMES = 3
_OPEN_MOUTH = 0.25
_CLOSED_EYES = 0.12
_TURNED_DEG = 15.0
_OPEN_LIPS = 0.15
_OPEN_LIDS, _SHUT_LIDS = 0.14, 0.05  # of the attention mesh; see mcnet.media.expressions.openings
_NEUTRAL = Expression(mouth=0.0, left_eye=0.3, right_eye=0.3)
_FACE_SIDES = (234, 454)
_REMARK_FROM = 0.6
_POOR, _LONGEST_FACTOR = 50, 3
_GOOD, _SHORTEST_FACTOR = 90, 0.5
_LONGEST_GAP_S = 0.5
_HINT_S = 0.7
_NOBODY = phrase("show your face to the camera")


@dataclass(frozen=True)
class PoseScore:
    """How well a frame serves as the reference pose.

    Attributes:
        score: 0 to 100.
        remarks: what keeps it from 100, for people.
    """

    score: int
    remarks: tuple[str, ...]


def score_pose(performer: Mesh, source: Mesh | None) -> PoseScore:
    """Score a performer's face.

    Relative motion adds to the portrait what the performer changes from here on, so the reference is to look as the
    portrait does: turned alike, the mouth as far open. Without a mesh of the portrait a neutral face is wanted: the
    camera seen straight, mouth closed, eyes open.

    Args:
        performer: (468, 3) in pixels.
        source: likewise, of the portrait, or None.
    """
    now = expression(performer, in_space=True)
    wanted = _NEUTRAL if source is None else expression(source, in_space=True)
    if source is None:
        turn_deg, turn_hint = _aside_deg(performer), phrase("look straight into the camera")
    else:
        turn_deg, turn_hint = (
            head_turn(rotation_between(source, performer)).angle,
            phrase("turn your head as in the portrait"),
        )
    mouth = now.mouth - wanted.mouth
    return _score(
        (turn_hint, turn_deg / _TURNED_DEG),
        (
            phrase("close your mouth") if mouth > 0 else phrase("open your mouth as in the portrait"),
            abs(mouth) / _OPEN_MOUTH,
        ),
        (phrase("open your eyes"), max(0.0, (min(wanted.eyes, 2 * _CLOSED_EYES) - now.eyes) / _CLOSED_EYES)),
    )


def score_expression(found: Expression) -> PoseScore:
    """Score how neutral an expression is: the mouth closed, the eyes open; for motion in space, where no pose counts.

    Args:
        found: from `mcnet.media.expressions.openings`.
    """
    return _score(
        (phrase("close your mouth"), max(0.0, found.mouth) / _OPEN_LIPS),
        (phrase("open your eyes"), max(0.0, _OPEN_LIDS - found.eyes) / (_OPEN_LIDS - _SHUT_LIDS)),
    )


def _score(*faults: tuple[str, float]) -> PoseScore:
    score = 100 * math.exp(-0.7 * sum(fault**2 for _, fault in faults))
    return PoseScore(round(score), tuple(hint for hint, fault in faults if fault > _REMARK_FROM))


def _aside_deg(mesh: Mesh) -> float:
    """How far the head is turned to a side or tilted, whichever is more, from where the face's two sides lie."""
    right, left = (mesh[point].astype(np.float64) for point in _FACE_SIDES)
    across = left[0] - right[0]
    return max(abs(math.degrees(math.atan2(left[axis] - right[axis], across))) for axis in (1, 2))


class Calibration:
    """Looks at frames for a while and keeps the best.

    Only time with a face counts. While the best is poor, the looking goes on, up to three times as long; once it is
    good, half the time will do.

    Args:
        duration_s: how long to look; 0 takes the first frame with a face, whatever its score.
        source: the portrait's mesh, or None.
    """

    def __init__(self, duration_s: float, source: Mesh | None) -> None:
        self.duration_s = duration_s
        self._source = source
        self._in_space = False
        self._frames = 0
        self._looked_s = 0.0
        self._latest_s: float | None = None
        self._best: tuple[PoseScore, Reference] | None = None
        self._hint = _NOBODY
        self._hinted_s = -math.inf

    def offer(self, now_s: float, performer: Mesh, reference: Reference, *, in_space: bool = False) -> None:
        """Consider a frame. A frame whose keypoints span no area is ignored.

        Args:
            now_s: of a monotonic clock.
            performer: the performer's mesh, in pixels.
            reference: what the frame would be as the reference.
            in_space: whether the expression alone counts, and not how the head is turned.
        """
        if in_space != self._in_space:  # scores of the two kinds cannot be compared
            self._best, self._in_space = None, in_space
        pose = reference.pose
        if not (np.isfinite(pose.value).all() and np.isfinite(pose.jacobian).all()):
            return
        if not hull_area(pose.value.astype(np.float32)) > 0:
            return
        if self._latest_s is not None:
            self._looked_s += min(_LONGEST_GAP_S, max(0.0, now_s - self._latest_s))
        self._latest_s = now_s
        self._frames += 1
        latest = (
            score_expression(openings(performer, in_space=True)) if in_space else score_pose(performer, self._source)
        )
        if self._best is None or latest.score > self._best[0].score:
            self._best = latest, reference
        hint = latest.remarks[0] if latest.remarks else ""
        if hint != self._hint and now_s - self._hinted_s >= _HINT_S:
            self._hint, self._hinted_s = hint, now_s

    @property
    def share(self) -> float:
        """How much of the looking is done, 0 to 1."""
        if self._best is None:
            return 0.0
        if self.duration_s <= 0:
            return 1.0
        score = self._best[0].score
        factor = _LONGEST_FACTOR if score < _POOR else _SHORTEST_FACTOR if score >= _GOOD else 1.0
        wanted_s = self.duration_s * factor
        return min(1.0, self._looked_s / wanted_s, self._frames / _MIN_FRAMES)

    @property
    def hint(self) -> str:
        """What the performer could do better, or ""; never changes faster than it can be read."""
        return self._hint

    def result(self) -> tuple[PoseScore, Reference] | None:
        """The best frame's score and what it is as a reference, once the looking is done; None before."""
        return self._best if self.share >= 1 else None
