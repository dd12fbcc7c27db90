"""The inference stage's work on one frame: find the face, crop, detect, move, render. It owns no thread."""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.cutting_out import Cutter, CuttingOut
from app.pipeline.animation.face_tracker import Finder
from app.pipeline.animation.finish import Finish, detailed_px
from app.pipeline.animation.idle_motion import Idling
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.motion import Pose, gains_of, moves_in_space
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer import Performer
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.posing import Posing
from app.pipeline.animation.reference_finder import ReferenceFinder
from app.pipeline.animation.reference_store import ReferenceStore
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.source import Encoder, Source
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Event,
    PersonCutOut,
    SettingRefused,
    SourceFailed,
    SourceReady,
)
from app.pipeline.inspector import Posed
from app.pipeline.output.output_frame import OutputFrame, Person
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.errors import UserError, sentence
from mcnet.media.head_motion import Head
from mcnet.media.matte import Matte, cut_frame
from mcnet.media.retouch import Retouching

logger = logging.getLogger(__name__)

_CAMERA_GAP_S = 0.4
_MATTE_WAIT_S = 1.0
"""Where the model changes, no frame is made for so long at most until the portrait is cut out in the new size."""


class Step(NamedTuple):
    """What a step made: `output` for the sinks, `view` for the window; None where there is nothing new.

    The view is for `Animator.follow` first.
    """

    output: OutputFrame | None
    view: PerformerView | None


class _Picture(NamedTuple):
    """What the engine made last.

    Attributes:
        avatar: the picture, in the size that `Finish` gave it.
        person: cut out of it, where that is wanted.
        stance: how the portrait is posed in it.
        retouched: whether it has what the network cannot show.
        detailed: whether it has the portrait's own detail.
    """

    avatar: NDArray[np.uint8]
    person: Person | None
    stance: Pose | Head
    retouched: bool
    detailed: bool


class Animator:
    """Animates the chosen portrait by camera frames. Used on one thread, the engine's.

    Attributes:
        recording: takes the performer's motion, while somebody wants it; else None.

    Args:
        engine: makes the pictures.
        emit: told what happens.
        stage_done: told the name and the seconds of each part of a step.
        finder: finds faces; the animator closes it.
        store: for encoded portraits, or None.
        references: for what was calibrated, or None.
    """

    def __init__(
        self,
        engine: LiveEngine,
        emit: Callable[[Event], None],
        stage_done: Callable[[str, float], None],
        *,
        finder: Finder,
        store: SourceStore | None = None,
        references: ReferenceStore | None = None,
    ) -> None:
        self._watch = Stopwatch(stage_done)
        self._encoder = Encoder(engine, store, self._watch, emit)
        self._emit = emit
        self._store = store
        self._references = ReferenceFinder(references, emit)
        self.recording: MotionRecording | None = None
        self._performer = Performer(engine, finder, self._references, self._watch, emit)
        self._idling = Idling(emit)
        self._posing = Posing(self._idling)
        self._source: Source | None = None
        self._frame_id = -1
        self._captured_s = 0.0
        self._picture: _Picture | None = None
        self._proven: _Picture | None = None
        self._retouches = LiveSettings().retouch
        self._details = False
        self._cuts_out = False
        self._cutter = Cutter(store)
        self._cutting: CuttingOut | None = None
        self._awaited: tuple[Portrait, CuttingOut] | None = None
        self._heard_of: CuttingOut | None = None
        self._told_cutting = False
        self._resting = False
        self._detects = False
        self._posed: Posed | None = None

    def close(self) -> None:
        """Free the face finder, and end the cutting out; harmless when called again."""
        self._cutter.close()
        self._performer.close()

    def recover(self) -> None:
        """Forget what a failed frame may have left behind: filters, and where the face was."""
        self._performer.recover()

    def set_portrait(self, portrait: Portrait, *, cut_out: bool = False, fine_detail: bool = False) -> None:
        """Animate this one from the next frame on; when it cannot be used, the one before stays.

        Args:
            portrait: who.
            cut_out: whether the person is to be cut out of it: the one before then goes on until that can be done, so
                that nothing of the portrait's background is seen.
            fine_detail: whether its pictures are to have its own, so that it is cut out in their size from the first.
        """
        self._take_details(wished=fine_detail)
        self._awaited = None
        shown = self._cutting
        if cut_out and (shown is None or shown.failed or not self._cuts(shown, portrait)):
            self._awaited = portrait, self._begin_cutting(portrait)
        else:
            self._take_portrait(portrait, shown)
        self._cutter.keep_only(*self._wanted_cuttings)

    def _take_portrait(self, portrait: Portrait, cutting: CuttingOut | None) -> None:
        """Animate it, cut out by `cutting` if that is its own; whoever cannot be animated changes nothing."""
        try:
            source, known = self._encoder.take(portrait, detected=self._detects)
        except Exception as error:  # whatever it is, out of memory included: the call goes on with the one before
            if not isinstance(error, UserError):
                logger.exception("portrait %s", portrait.entry.name)
            if self._source is not None:
                self._source.engine.set_source(self._source.cache)
            self._emit(SourceFailed(portrait.entry.key, sentence(error)))
            return
        if self._source is not None and (self._source.space is None) != (source.space is None):
            self._references.drop()  # it was found in the other way
        self._source = source
        self._cutting = cutting if cutting is not None and self._cuts(cutting, portrait) else None
        self._begin_anew()
        self._tell_source(source, known)

    def use_engine(self, engine: LiveEngine, taken_over: Callable[[bool], None]) -> None:
        """Animate by another model from the next frame on.

        It has to make a picture of the portrait first; when it cannot, the one before goes on as if nothing had been.

        Args:
            engine: made on this thread.
            taken_over: told that it has taken over, and whether the reference still holds: a head that was measured
                does, as the model has no part in it.

        Raises:
            UserError, RuntimeError: whatever the engine raises; the one before stays.
        """
        encoder = Encoder(engine, self._store, self._watch, self._emit)
        before, source, known = self._source, None, False
        if before is not None:
            source, known = encoder.take(before.portrait, detected=self._detects)
            engine.render(source.pose.to_keypoints())
        self._encoder, self._source = encoder, source
        measured = all(one is not None and one.space is not None for one in (before, source))
        holds = self._references.change_model(measured=measured)
        self._performer.change_model(engine)
        self._begin_anew()
        if self._cuts_out and source is not None:
            cutting = self._cutting_of(source.portrait)
            if cutting.matte is None:
                # What takes longer comes later: the last picture stays, and the window is told.
                cutting.wait(_MATTE_WAIT_S)
        taken_over(holds)
        if source is not None:
            self._tell_source(source, known)

    def _begin_anew(self) -> None:
        """Forget the pictures of another portrait or model, and calibrate from the start where it is under way."""
        self._picture = self._proven = None
        self._resting = False
        self._posing.begin_anew()
        self._references.begin_anew(self._portrait)

    def _tell_source(self, source: Source, known: bool) -> None:
        self._emit(SourceReady(source.portrait.entry.key, from_cache=known, measured=source.space is not None))

    def try_again(self, *, cut_out: bool, retouch: bool, fine_detail: bool) -> None:
        """Try once more what was switched on again, if it has failed before.

        Args:
            cut_out: whether that is to cut the person out.
            retouch: whether it is to draw what the network cannot show.
            fine_detail: whether it is to show the portrait's own.
        """
        if cut_out and self._cutting is not None and self._cutting.failed:
            self._cutting, self._resting = None, False
        if self._source is None:
            return
        self._source.finishes.try_again(retouch=retouch, fine_detail=fine_detail)
        if fine_detail and self._source.finishes.has_detail:
            self._resting = False

    def calibrate(self, duration_s: float) -> None:
        """Look for the reference pose anew: hands-free over `duration_s` seconds; 0 takes the next frame's face."""
        self._references.calibrate(duration_s, self._portrait)

    @property
    def _portrait(self) -> Portrait | None:
        return None if self._source is None else self._source.portrait

    def step(self, frame: CameraFrame | None, now_s: float, settings: LiveSettings) -> Step:
        """Take a camera frame, or the lack of one, and answer what the output shows.

        Args:
            frame: the newest, or None when none came for a while.
            now_s: of the monotonic clock.
            settings: in force for this step.

        Raises:
            EngineError: the model failed on this frame.
        """
        if settings.cut_out != self._cuts_out:
            self._cuts_out, self._resting = settings.cut_out, False
        self._take_details(wished=settings.fine_detail)
        self._retouches = settings.retouch
        self._follow_cutting()
        self._references.remember(wished=settings.remember_calibration)
        self._idling.prepare(settings)
        if frame is None:
            if now_s - self._captured_s < _CAMERA_GAP_S:
                return Step(None, None)
            return Step(self._without_face(now_s, settings, camera=False), None)
        if self._performer.meet(frame):
            self._posing.change_camera()
            self._references.forget()
        self._frame_id, self._captured_s = frame.frame_id, frame.captured_s
        measured = self._measures(settings)
        seen = self._performer.see(frame, settings, measured=measured, recording=self.recording)
        if seen.refused:
            return Step(self._slate(State.NO_FACE), seen.view)
        if not seen.moves:
            return Step(self._without_face(now_s, settings, camera=True), seen.view)
        self._posed = None
        output = self._with_face(seen, now_s, settings)
        if seen.searched:
            self._proven = self._picture
        return Step(output, dataclasses.replace(seen.view, posed=self._posed))

    def _measures(self, settings: LiveSettings) -> bool:
        """Whether the face mesh gives the keypoints; after a change of the wish everything is found anew."""
        if (detects := settings.keypoints == "detected") != self._detects:
            self._detects = detects
            self._references.forget()
            if self._source is not None:
                self._take_portrait(self._source.portrait, self._cutting)
        return self._is_measured

    @property
    def _is_measured(self) -> bool:
        """Whether the keypoints of the portrait, and so those of the performer, come from the face mesh."""
        return self._source is not None and self._source.space is not None

    def follow(self, view: PerformerView) -> PerformerView:
        """Search a step's frame for the performer's face if it is time, for the frames to come.

        Apart from the step, so that no picture waits for it.

        Returns:
            The view, with the landmarks if they were found in this very frame.
        """
        found = self._performer.follow(view, measured=self._is_measured)
        if found is not view:
            self._proven = self._picture
        return found

    def _with_face(self, seen: Seen, now_s: float, settings: LiveSettings) -> OutputFrame:
        if self._source is None:
            return self._slate(State.STARTING)
        self._references.check(settings)
        if seen.pose is not None:
            self._references.offer(seen, self._source, now_s, settings)
        if settings.relative and self._references.reference is None:
            return self._slate(State.CALIBRATING)
        target = self._target(seen, self._source, settings)
        posture = self._posing.follow(target, self._source, self._references.taken, now_s, settings)
        assert posture.stance is not None
        self._render(posture.stance, posture.drawn)
        return self._shown(posture.state, fresh=True)

    def _target(self, seen: Seen, source: Source, settings: LiveSettings) -> Pose | Head:
        """The stance that the performer means."""
        reference = self._references.reference
        if seen.head is not None and moves_in_space(settings):
            assert source.space is not None
            assert reference is not None
            assert reference.head is not None
            self._references.improve(seen, source)  # for the frames to come
            return source.space.follow(seen.head, reference.head, gains_of(settings))
        smooth = self._performer.steady(seen, settings)
        if not settings.relative:
            return smooth
        assert reference is not None
        return reference.relative(source.pose, smooth, settings.motion_strength, settings.expression_strength)

    def _without_face(self, now_s: float, settings: LiveSettings, *, camera: bool) -> OutputFrame:
        if self._source is None:
            return self._slate(State.STARTING)
        self._performer.lose()
        if settings.relative and self._references.reference is None:
            self._references.miss()
            return self._slate(State.CALIBRATING if camera else State.NO_CAMERA)
        posture = self._posing.wait(self._source, now_s, settings, camera=camera)
        held = posture.state is State.HOLD
        if not held:
            self._performer.leave()
        if not posture.state.shows_avatar:
            return self._slate(posture.state)
        if held and self._proven is not None:
            # Later ones may be of frames that showed no face any more. What is switched meanwhile counts at once.
            if not self._is_as_wished(self._proven):
                self._render(self._proven.stance)
                self._proven = self._picture
            self._picture = self._proven
        elif posture.stance is not None:
            self._render(posture.stance)
        elif self._picture is None or not (held or self._resting):
            self._render(self._source.pose)
            self._resting = True
        return self._shown(posture.state, fresh=False)

    def _take_details(self, *, wished: bool) -> None:
        if wished != self._details:
            self._details, self._resting = wished, False

    def _finish_of(self, source: Source) -> Finish:
        """What is to be done to its pictures now."""
        return source.finishes.now(detailed=self._details)

    def _retouching_in(self, stance: Pose | Head) -> Retouching | None:
        """What retouches a picture of the portrait in that stance; None where nothing is to be, or can be."""
        retouching = None if self._source is None else self._finish_of(self._source).retouching
        usable = self._retouches and isinstance(stance, Head) and retouching is not None and not retouching.failed
        return retouching if usable else None

    def _matte(self) -> Matte | None:
        """Of the portrait, if it is to be cut out, and is."""
        assert self._source is not None
        return self._cutting_of(self._source.portrait).matte if self._cuts_out else None

    def _is_as_wished(self, picture: _Picture) -> bool:
        """Whether nothing was switched since it was made that would have it look otherwise."""
        assert self._source is not None
        retouched = self._retouching_in(picture.stance) is not None
        detailed = self._finish_of(self._source).detail is not None
        wished = picture.retouched == retouched and picture.detailed == detailed
        return wished and (picture.person is None) == (self._matte() is None)

    def _render(self, stance: Pose | Head, drawn: float = 1.0) -> None:
        """Make the portrait's picture in a stance, of whose drawing so much is seen."""
        assert self._source is not None
        source, retouching = self._source, self._retouching_in(stance)
        detail = self._finish_of(source).detail
        began_s = time.perf_counter()
        posed = stance if retouching is None or isinstance(stance, Pose) else retouching.posed(stance, drawn)
        posing_s = time.perf_counter() - began_s
        pose = source.pose_of(posed)
        flow = None
        with self._watch.timed("render"):
            if detail is None and self._matte() is None:
                avatar = source.engine.render(pose.to_keypoints())
            else:
                (avatar,), flow = source.engine.render_with_flow(pose.to_keypoints())
        if detail is not None:
            assert flow is not None
            with self._watch.timed("detail"):
                avatar = detail.added(avatar, flow.deformation[0])
            retouching = self._retouching_in(stance)  # of another size, where that failed just now
        matte = None if flow is None else self._matte()
        if retouching is not None and isinstance(stance, Head):
            began_s = time.perf_counter()
            avatar = retouching.applied(avatar, stance, drawn)
            self._watch.done("retouch", posing_s + time.perf_counter() - began_s)
            if retouching.failed and posed is not stance:
                self._render(stance)  # what was left to the drawing is the network's after all
                return
        person = None
        if matte is not None:
            assert flow is not None
            with self._watch.timed("cut out"):
                person = Person(cut_frame(matte, avatar, flow.deformation[0], flow.occlusion[0]), matte.plate)
        self._picture = _Picture(
            avatar,
            person,
            stance,
            retouched=self._retouching_in(stance) is not None,
            detailed=self._finish_of(source).detail is not None,
        )
        self._posed = Posed(
            source.portrait.square,
            *source.pose,
            *pose,
            measured=source.cache.measured,
            fingerprint=source.cache.fingerprint,
        )
        self._resting = False

    def _shown_px(self, portrait: Portrait) -> int:
        """The side of its pictures: as they are, or will be once it is animated."""
        if self._source is not None and self._source.portrait is portrait:
            return self._finish_of(self._source).size_px
        size_px = self._encoder.engine.config.size_px
        return detailed_px(portrait, size_px) if self._details else size_px

    def _cuts(self, cutting: CuttingOut, portrait: Portrait) -> bool:
        """Whether it is that portrait's, in the size that is shown; one that failed is so for every size."""
        size_px = cutting.size_px if cutting.failed else self._shown_px(portrait)
        return cutting.is_for(portrait.square, size_px)

    def _begin_cutting(self, portrait: Portrait) -> CuttingOut:
        return self._cutter.begin(portrait.square, self._shown_px(portrait), before=self._cutting)

    def _cutting_of(self, portrait: Portrait) -> CuttingOut:
        """Cuts out the portrait that is animated; it begins when it is first wanted, and may be done already."""
        if self._cutting is None or not self._cuts(self._cutting, portrait):
            self._cutting = self._begin_cutting(portrait)
        return self._cutting

    @property
    def _wanted_cuttings(self) -> list[CuttingOut]:
        """That of the portrait that is animated, and of the one that waits."""
        begun = (self._cutting, None if self._awaited is None else self._awaited[1])
        return [one for one in begun if one is not None]

    def _follow_cutting(self) -> None:
        """Take a portrait that waited for being cut out, and tell what is under way."""
        if self._awaited is not None:
            portrait, cutting = self._awaited
            if self._cuts_out and not self._cuts(cutting, portrait):  # another model has come meanwhile
                self._awaited = portrait, self._begin_cutting(portrait)
            elif cutting.over or not self._cuts_out:
                self._awaited = None
                self._take_portrait(portrait, cutting)
        done = self._cutting
        if done is not None and done.over and done is not self._heard_of:
            self._heard_of, self._resting = done, False
            if done.took_s:
                self._watch.done("matte", done.took_s)
            if done.failed and self._cuts_out:
                self._emit(SettingRefused("cut_out", done.failure))
        wanted = self._wanted_cuttings
        self._cutter.keep_only(*wanted)
        under_way = self._cuts_out and any(one.takes_long for one in wanted)
        if under_way != self._told_cutting:
            self._told_cutting = under_way
            self._emit(PersonCutOut(under_way=under_way))

    def _shown(self, state: State, *, fresh: bool) -> OutputFrame:
        assert self._source is not None
        picture = self._picture
        avatar, person, detailed = (None, None, False) if picture is None else (*picture[:2], picture.detailed)
        cutting = self._cutting if self._cuts_out else None
        whole = cutting is not None and cutting.failed and self._cuts(cutting, self._source.portrait)
        return OutputFrame(
            self._frame_id, self._captured_s, state, avatar, fresh, person, whole=whole, detailed=detailed
        )

    def _slate(self, state: State) -> OutputFrame:
        return OutputFrame(self._frame_id, self._captured_s, state, None, fresh=False)
