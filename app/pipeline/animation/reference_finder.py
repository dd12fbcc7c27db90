"""The performer's reference pose: calibrated, kept over runs, and improved during a call."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.calibration import Calibration, PoseScore, score_expression
from app.pipeline.animation.motion import Reference, moves_in_space
from app.pipeline.animation.reference_store import Kept, ReferenceStore, Setup, alike, kept_of, likeness_of
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.source import Source
from app.pipeline.events import Calibrated, CalibrationMissed, CalibrationProgress, Event, ReferenceImproved
from app.pipeline.portraits import Portrait
from app.settings import LiveSettings
from mcnet.media.expressions import head_turn
from mcnet.phrases import phrase

_CLEARLY_BETTER, _BETTER_FRAMES, _STRAIGHT_DEG = 10, 5, 25.0
"""An expression takes the place of the calibrated one once it scores this many points higher, for this many frames in a
row, with the head turned by no more than this angle."""
_PROGRESS_STEP = 0.05
_MOMENT_S = 0.5
"""Who wants this very moment's face is seen within so long, a frame or two in which it is missed included. A face that
comes later is not the one that was meant."""


class ReferenceFinder:
    """Finds the performer's reference pose, and says when another one holds.

    It owns the reference, the calibration that is under way, and what the store has for this setup. How the avatar
    moves from the reference, and what the output shows without one, is not decided here.

    Args:
        store: for what was calibrated, or None.
        emit: told of calibrations.

    Attributes:
        reference: None before a calibration.
        score: of its expression; 0 where no head was measured.
        taken: how many references there were, so that whoever moves the avatar knows of another one.
    """

    def __init__(self, store: ReferenceStore | None, emit: Callable[[Event], None]) -> None:
        self._store = store
        self._emit = emit
        self.reference: Reference | None = None
        self.score = 0
        self.taken = 0
        self._calibration: Calibration | None = None
        self._told_share, self._told_hint = -1.0, ""
        self._missed_from_s: float | None = None
        self._kept: tuple[Setup, Kept] | None = None
        self._looked_for: Portrait | None = None
        self._remembers = True
        self._better = 0
        self._own = 0
        self._likeness: NDArray[np.float64] | None = None

    @property
    def calibrating(self) -> bool:
        """Whether a calibration is under way, for which each frame's face has to be found."""
        return self._calibration is not None

    @property
    def wants_pose(self) -> bool:
        """Whether keypoints in the square are needed, also where the head alone would move the avatar."""
        return self._calibration is not None or self.reference is None

    def calibrate(self, duration_s: float, portrait: Portrait | None) -> None:
        """Look for the reference pose anew.

        Args:
            duration_s: how long, hands-free; 0 takes the face of this very moment, if one is seen.
            portrait: whose pose is wanted in the plane; None: a neutral one.
        """
        self._calibration = Calibration(duration_s, None if portrait is None else portrait.landmarks_px)
        self._kept = None  # who asks for a calibration wants another one
        self._told_share, self._told_hint = -1.0, ""
        self._missed_from_s = None

    def begin_anew(self, portrait: Portrait | None) -> None:
        """Begin a calibration that is under way once more, for another portrait or model."""
        if self._calibration is not None:
            self.calibrate(self._calibration.duration_s, portrait)

    def drop(self) -> None:
        """Have no reference; a calibration that is under way goes on."""
        self.reference = None

    def forget(self) -> None:
        """Have neither a reference nor a calibration, as before another camera."""
        self.reference = self._calibration = None

    def change_model(self, *, measured: bool) -> bool:
        """Another model animates from now on.

        Args:
            measured: whether the performer's head is measured for both.

        Returns:
            Whether the reference holds: a head that was measured does, as no model has a part in it.
        """
        holds = measured and self.reference is not None and self.reference.head is not None
        if not holds:
            self.drop()
        return holds

    def check(self, source: Source, settings: LiveSettings) -> None:
        """Drop a reference that does not serve the motion that is wished: in the plane, another model's keypoints."""
        if self.reference is None or not settings.relative or moves_in_space(settings):
            return
        if self.reference.fingerprint != source.engine.fingerprint:
            self.drop()

    def remember(self, *, wished: bool) -> None:
        """Keep what is found from now on, or delete what was kept where that is not wanted any more."""
        if self._remembers and not wished and self._store is not None:
            self._store.clear()
            self._kept = None
        self._remembers = wished

    def offer(self, seen: Seen, source: Source, now_s: float, settings: LiveSettings) -> None:
        """Consider a frame whose keypoints are known: for a calibration, or to tell whose reference was kept."""
        assert seen.pose is not None
        setup = _setup(seen, source, in_space=seen.head is not None and moves_in_space(settings))
        if self._calibration is None and settings.relative:
            if self.reference is None:
                self.calibrate(settings.calibration_s, source.portrait)
                self._look_for_kept(setup, source.portrait)
            elif not setup.in_space and self._looked_for is not source.portrait:
                self._look_for_kept(setup, source.portrait)  # its reference looks as this portrait does
        landmarks = seen.view.landmarks_px
        if landmarks is None or self._takes_kept(setup, landmarks, source):
            return
        if self._calibration is None:
            return
        offered = Reference(seen.pose, seen.head, seen.fingerprint)
        self._calibration.offer(now_s, landmarks, offered, in_space=setup.in_space)
        best = self._calibration.result()
        if best is None:
            self._tell_progress(self._calibration.share, self._calibration.hint)
            return
        score, reference = best
        self._take(reference, source)
        self._keep(setup, score, landmarks)
        self._emit(Calibrated(score.score, score.remarks, in_space=setup.in_space))

    def miss(self, now_s: float, source: Source, settings: LiveSettings) -> None:
        """Take a frame without a face, or the lack of one: who is being calibrated is told.

        Where the motion needs a reference and none is there, it is found hands-free after all.
        """
        self._own = 0
        if self._calibration is None:
            return
        if self._missed_from_s is None:
            self._missed_from_s = now_s
        if self._calibration.duration_s <= 0 and now_s - self._missed_from_s >= _MOMENT_S:
            if self.reference is not None or not settings.relative:
                self._calibration = None
                self._emit(CalibrationMissed())
                return
            if settings.calibration_s > 0:
                self.calibrate(settings.calibration_s, source.portrait)
        self._tell_progress(self._calibration.share, phrase("show your face to the camera"))

    def refuse(self) -> None:
        """Take a motion file's frame that may not move the avatar, about which the performer can do nothing.

        A calibration by this very moment's face ends; a hands-free one waits for one that may.
        """
        self._own = 0
        if self._calibration is not None and self._calibration.duration_s <= 0:
            self._calibration = None

    def improve(self, seen: Seen, source: Source) -> None:
        """Take over a more neutral expression than that of the calibration; where the head was then stays.

        Only the performer's own: somebody else's is no expression of his, and would be kept in its place.
        """
        assert self.reference is not None
        assert self.reference.head is not None
        head = seen.head
        assert head is not None
        found = score_expression(head.openings)
        straight = head_turn(head.rotation).angle < _STRAIGHT_DEG  # turned far, a mesh measures less well
        own = straight and self._is_own(likeness_of(head))
        self._better = self._better + 1 if own and found.score >= self.score + _CLEARLY_BETTER else 0
        if self._better < _BETTER_FRAMES:
            return
        self.score, self._better = found.score, 0
        self.reference = self.reference._replace(head=self.reference.head._replace(shape=head.shape))
        self.taken += 1
        self._keep(_setup(seen, source, in_space=True), found, head.mesh.astype(np.float32))
        self._emit(ReferenceImproved(found.score, found.remarks))

    def _is_own(self, likeness: NDArray[np.float64]) -> bool:
        """Whether a head that looks about straight is still the performer's, who was the first that did.

        It is compared with how he looked last. A head's proportions are measured otherwise as it turns, laughs and
        comes nearer, though little from frame to frame: of 25 clips of one person each (1,939 frames), 17 of 100 frames
        are further from the first one than is one person's, and 10 are not his by this. Who was gone, or is another
        one, has to look like him for some frames first.
        """
        if self._likeness is None:
            self._likeness = likeness
        self._own = self._own + 1 if alike(likeness, self._likeness) else 0
        if self._own < _BETTER_FRAMES:
            return False
        self._likeness = likeness
        return True

    def _take(self, reference: Reference, source: Source) -> None:
        self.reference = reference
        self.score = 0 if reference.head is None else score_expression(reference.head.openings).score
        self._better, self._own, self._likeness = 0, _BETTER_FRAMES, None
        self._calibration = self._kept = None
        self.taken += 1
        self._looked_for = source.portrait

    def _look_for_kept(self, setup: Setup, portrait: Portrait) -> None:
        """See whether a reference was kept for this setup; it is taken once its performer is seen."""
        self._kept = None
        self._looked_for = portrait
        if self._store is not None and self._remembers:
            kept = self._store.load(setup)
            self._kept = None if kept is None else (setup, kept)

    def _takes_kept(self, setup: Setup, landmarks: NDArray[np.float32], source: Source) -> bool:
        if self._kept is None or self._kept[0].in_space != setup.in_space:
            return False
        kept = self._kept[1]
        if not kept.is_of(landmarks):
            return False
        self._take(kept.reference, source)
        self._emit(Calibrated(kept.score, kept.remarks, in_space=setup.in_space, kept=True))
        return True

    def _keep(self, setup: Setup, score: PoseScore, landmarks: NDArray[np.float32]) -> None:
        if self._store is not None and self._remembers and self.reference is not None:
            kept = kept_of(self.reference, landmarks, score.score, score.remarks)
            self._store.save(setup, kept)

    def _tell_progress(self, share: float, hint: str) -> None:
        if share >= self._told_share + _PROGRESS_STEP or hint != self._told_hint:
            self._told_share, self._told_hint = share, hint
            self._emit(CalibrationProgress(share, hint))


def _setup(seen: Seen, source: Source, *, in_space: bool) -> Setup:
    """What a reference that this frame gives is valid for."""
    frame = seen.view.frame
    return Setup(
        frame.identity,
        frame.rgb.shape,
        in_space,
        source.space is not None,
        source.portrait.square,
        source.engine.fingerprint,
    )
