"""The inference stage's work on one frame: see the performer, pose the portrait, show it. It owns no thread."""

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

from app.pipeline.animation.cutting_out import CuttingOut
from app.pipeline.animation.face_tracker import Finder
from app.pipeline.animation.idle_motion import Idling
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.mattes import Mattes
from app.pipeline.animation.motion import Pose, gains_of, moves_in_space
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer import Performer
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.pictures import Pictures
from app.pipeline.animation.posing import Posing
from app.pipeline.animation.reference_finder import ReferenceFinder
from app.pipeline.animation.reference_store import ReferenceStore
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.source import Encoder, Source
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import Event, SourceFailed, SourceReady
from app.pipeline.output.output_frame import OutputFrame
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.errors import log_failure, sentence
from mcnet.media.head_motion import Head

logger = logging.getLogger(__name__)

_CAMERA_GAP_S = 0.4
_MOST_FRAMES_MISSING = 1.5  # of a camera that is slow by itself


class Step(NamedTuple):
    """What a step made: `output` for the sinks, `view` for the window; None where there is nothing new.

    The view is for `Animator.follow` first.
    """

    output: OutputFrame | None
    view: PerformerView | None


class Animator:
    """Animates the chosen portrait by camera frames. Used on one thread, the engine's.

    It owns the portrait that is animated and the model that does it, and takes others over. Of a camera frame,
    `Performer` says what it tells, `ReferenceFinder` from where that motion counts, `Posing` how the portrait is posed,
    and `Pictures` makes the picture, cut out by `Mattes`. Here is the order in which they are asked.

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
        self.recording: MotionRecording | None = None
        self._emit = emit
        self._store = store
        self._watch = Stopwatch(stage_done)
        self._encoder = Encoder(engine, store, self._watch, emit)
        self._references = ReferenceFinder(references, emit)
        self._performer = Performer(engine, finder, self._references, self._watch, emit)
        self._idling = Idling(emit)
        self._posing = Posing(self._idling)
        self._mattes = Mattes(store, self._size_px, self._watch, emit)
        self._pictures = Pictures(self._mattes, self._watch)
        self._source: Source | None = None
        self._detects = False
        self._frame_id = -1
        self._captured_s = self._next_s = 0.0
        self._faced: State | None = None

    @property
    def engine(self) -> LiveEngine:
        """The model that animates now."""
        return self._encoder.engine

    def close(self) -> None:
        """Free the face finder, and end the cutting out; harmless when called again."""
        self._mattes.close()
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
        self._pictures.wish_detail(wished=fine_detail)
        self._mattes.wait_for(None)
        if cut_out and not self._mattes.serves(portrait):
            self._mattes.wait_for(portrait)
        else:
            self._take_portrait(portrait)
        self._mattes.keep_wanted()

    def _take_portrait(self, portrait: Portrait, waited: CuttingOut | None = None) -> None:
        """Animate it, and have it cut out by what it `waited` for; whoever cannot be animated changes nothing."""
        try:
            source, known = self._encoder.take(portrait, detected=self._detects)
        except Exception as error:  # whatever it is, out of memory included: the call goes on with the one before
            log_failure(logger, f"portrait {portrait.entry.name}", error)
            if self._source is not None:
                self._source.engine.set_source(self._source.cache)
            self._emit(SourceFailed(portrait.entry.key, sentence(error)))
            return
        if self._source is not None and (self._source.space is None) != (source.space is None):
            self._references.drop()  # it was found in the other way
        self._source = source
        self._mattes.take(portrait, waited)
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
        if source is not None:
            self._mattes.hurry(source.portrait)
        taken_over(holds)
        if source is not None:
            self._tell_source(source, known)

    def _begin_anew(self) -> None:
        """Forget the pictures of another portrait or model, and calibrate from the start where it is under way."""
        self._pictures.begin_anew()
        self._posing.begin_anew()
        self._references.begin_anew(self._portrait)

    def _tell_source(self, source: Source, known: bool) -> None:
        self._emit(SourceReady(source.portrait.entry.key, from_cache=known, measured=source.space is not None))

    def try_again(
        self,
        *,
        cut_out: bool = False,
        retouch: bool = False,
        fine_detail: bool = False,
        surroundings: bool = False,
    ) -> None:
        """Try once more what was switched on again, if it has failed before.

        Args:
            cut_out: whether that is to cut the person out.
            retouch: whether it is to draw what the network cannot show.
            fine_detail: whether it is to show the portrait's own.
            surroundings: whether it is to show what is around the square.
        """
        if cut_out and self._mattes.try_again():
            self._pictures.renew()
        if self._source is None:
            return
        self._source.finishes.try_again(retouch=retouch, fine_detail=fine_detail, surroundings=surroundings)
        if surroundings or (fine_detail and self._source.finishes.has_detail):
            self._pictures.renew()

    def calibrate(self, duration_s: float) -> None:
        """Look for the reference pose anew: hands-free over `duration_s` seconds; 0 takes this moment's face."""
        self._performer.choose()
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
        self._obey(settings)
        if frame is None:
            silent_s = now_s - self._captured_s
            if silent_s < _CAMERA_GAP_S:
                return Step(None, None)
            is_slow = silent_s < _MOST_FRAMES_MISSING * self._next_s
            if is_slow and self._faced is not None:
                return Step(self._once_more(self._faced, settings), None)
            return Step(self._without_face(now_s, settings, camera=is_slow), None)
        if self._performer.meet(frame):
            self._posing.change_camera()
            self._references.forget()
        self._frame_id, self._captured_s, self._next_s = frame.frame_id, frame.captured_s, frame.next_s
        self._faced = None
        measured = self._measures(settings)
        seen = self._performer.see(frame, settings, measured=measured, recording=self.recording)
        if seen.refused:
            self._references.refuse()
            return Step(self._slate(State.NO_FACE), seen.view)
        if not seen.moves:
            return Step(self._without_face(now_s, settings, camera=True), seen.view)
        output = self._with_face(seen, now_s, settings)
        self._faced = output.state
        if seen.searched:
            self._pictures.prove()
        picture = self._pictures.latest if output.fresh else None
        return Step(output, dataclasses.replace(seen.view, posed=None if picture is None else picture.posed))

    def _obey(self, settings: LiveSettings) -> None:
        """Take over what was switched, and what has become of it."""
        if settings.cut_out != self._mattes.wished:
            self._mattes.wished = settings.cut_out
            self._pictures.renew()
        self._pictures.wish_detail(wished=settings.fine_detail)
        self._pictures.wish_surroundings(wished=settings.surroundings)
        self._pictures.retouches = settings.retouch
        ready = self._mattes.ready()
        if ready is not None:
            self._take_portrait(*ready)
        if self._mattes.tell():
            self._pictures.renew()
        self._references.remember(wished=settings.remember_calibration)
        self._idling.prepare(settings)

    def _measures(self, settings: LiveSettings) -> bool:
        """Whether the face mesh gives the keypoints; where a change of the wish changes that, the portrait and the
        reference are taken anew.
        """
        if (detects := settings.keypoints == "detected") != self._detects:
            self._detects = detects
            portrait = self._portrait
            if portrait is not None and self._encoder.measures(portrait, detected=detects) != self._is_measured:
                self._take_portrait(portrait)
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
            self._pictures.prove()
        return found

    def _with_face(self, seen: Seen, now_s: float, settings: LiveSettings) -> OutputFrame:
        if self._source is None:
            return self._slate(State.STARTING)
        self._references.check(self._source, settings)
        if seen.pose is not None:
            self._references.offer(seen, self._source, now_s, settings)
        if settings.relative and self._references.reference is None:
            return self._slate(State.CALIBRATING)
        target = self._target(seen, self._source, settings)
        posture = self._posing.follow(target, self._source, self._references.taken, now_s, settings)
        assert posture.stance is not None
        self._pictures.make(self._source, posture.stance, posture.drawn)
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
        self._references.miss(now_s, self._source, settings)
        if settings.relative and self._references.reference is None:
            return self._slate(State.CALIBRATING if camera else State.NO_CAMERA)
        posture = self._posing.wait(self._source, now_s, settings, camera=camera)
        if posture.state is not State.HOLD:
            self._performer.leave()
        if not posture.state.shows_avatar:
            return self._slate(posture.state)
        if posture.stance is not None:
            self._pictures.make(self._source, posture.stance)
        elif posture.state is State.HOLD:
            self._pictures.hold(self._source)
        else:
            self._pictures.rest(self._source)
        return self._shown(posture.state, fresh=False)

    def _once_more(self, state: State, settings: LiveSettings) -> OutputFrame:
        """What a slow camera's last frame with a face showed, by the portrait, model and settings of now."""
        if self._source is None:
            return self._slate(State.STARTING)
        self._references.check(self._source, settings)
        if settings.relative and self._references.reference is None:
            return self._slate(State.CALIBRATING)
        if not state.shows_avatar:
            return self._slate(state)
        self._pictures.again(self._source)
        return self._shown(state, fresh=False)

    def _size_px(self, portrait: Portrait) -> int:
        """The side of a portrait's pictures: as they are, or will be once it is animated."""
        if self._source is not None and self._source.portrait is portrait:
            return self._pictures.finish_of(self._source).size_px
        return self._pictures.size_px(portrait, self.engine.config.size_px)

    def _shown(self, state: State, *, fresh: bool) -> OutputFrame:
        assert self._source is not None
        picture = self._pictures.latest
        assert picture is not None
        return OutputFrame(
            self._frame_id,
            self._captured_s,
            state,
            picture.avatar,
            fresh,
            whole=self._mattes.failed(self._source.portrait),
        )

    def _slate(self, state: State) -> OutputFrame:
        return OutputFrame(self._frame_id, self._captured_s, state, None, fresh=False)
