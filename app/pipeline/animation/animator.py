"""The inference stage's work on one frame: find the face, crop, detect, move, render. It owns no thread."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.cutting_out import Cutter, CuttingOut
from app.pipeline.animation.finish import Finish, detailed_px
from app.pipeline.animation.idle_motion import IdleMotion, IdleMotionLoading
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.motion import MotionFilter, Pose, gains_of, moves_in_space
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.reference_finder import ReferenceFinder
from app.pipeline.animation.reference_store import ReferenceStore
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.source import Encoder, Source
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.animation.tracking_ladder import TrackingLadder, eased
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Event,
    MotionRefused,
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
from mcnet.engine import EngineError
from mcnet.errors import UserError, sentence
from mcnet.media.crop import CropSmoother, SquareBox, crop, frame_face
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from mcnet.media.head_motion import Head, mesh_in_square, places_on
from mcnet.media.light import Light
from mcnet.media.matte import Matte, cut_frame
from mcnet.media.retouch import Retouching
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""Where the model detects the keypoints, the followed face is searched for only this often, since the crop moves
slowly. Once the keypoints have moved by `_MOVED`, it is searched every `LOOK_AGAIN_S`. Measured keypoints need it in
every frame."""
LOOK_AGAIN_S = 0.1
_MOVED = 0.04
"""As a share of the crop's side, or of the keypoints' spread. While somebody only talks, the two stay within 0.01 and
0.03."""
_CAMERA_GAP_S = 0.4
_LONGEST_STEP_S = 0.5
_JUMP = 0.08
"""In sides of the square per frame: heads move by up to 0.03, keypoints that lost the face jump by 0.1 to 0.6."""
_ELSEWHERE = 0.5
"""In sides of the square: no head moves this far, or grows by this share, between two frames."""
_LEAST_INSIDE = 0.6
"""At least this share of the face's box must lie in the frame: the mesh only guesses what is outside."""
_BRIDGE_S = 0.3
_MATTE_WAIT_S = 1.0
"""Where the model changes, no frame is made for so long at most until the portrait is cut out in the new size."""
_IDLE_IN_S = 1.5
"""Within so long an avatar at rest comes into its idle motion."""


class Finder(Protocol):
    """Follows the performer's face; see `mcnet.media.faces.FaceFinder`."""

    def find(self, rgb: NDArray[np.uint8]) -> list[Face]: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


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


class _Whereabouts(NamedTuple):
    """Where a frame's keypoints lie together, in the camera's pixels; so whether the crop moved makes no difference."""

    center_px: NDArray[np.float64]
    spread_px: float
    side_px: float
    """Of the crop."""

    @classmethod
    def of(cls, value: NDArray[np.float64], box: SquareBox) -> "_Whereabouts":
        """Of keypoints, (K, 2) xy in [-1, 1] of the box."""
        center = value.mean(0)
        spread = float(np.sqrt(np.square(value - center).sum(1).mean()))
        half = box.side / 2
        return cls(np.array((box.center_x, box.center_y)) + center * half, spread * half, box.side)


class _Bridged(NamedTuple):
    """A stance within a glide, or behind it, and how much of what is drawn there is seen."""

    stance: Pose | Head
    drawn: float = 1.0


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
        self._idle_name = ""
        self._idle: IdleMotion | None = None
        self._idle_loading: IdleMotionLoading | None = None
        self._idle_since_s: float | None = None
        self._idled: Head | None = None
        self._refused = False
        self.recording: MotionRecording | None = None
        self._finder = finder
        self._smoother = CropSmoother()
        self._filter = MotionFilter()
        self._ladder = TrackingLadder()
        self._source: Source | None = None
        self._camera = ""
        self._frame_id = -1
        self._captured_s = 0.0
        self._face: Face | None = None
        self._looked_s = 0.0
        self._looked_at: _Whereabouts | None = None
        self._whereabouts: _Whereabouts | None = None
        self._target: Pose | Head | None = None
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
        self._known_light: Light | None = None
        self._strange = False
        self._resting = False
        self._gone = True
        self._shape: tuple[int, ...] = ()
        self._mode: tuple[object, ...] = (LiveSettings().relative, LiveSettings().motion, 0)
        self._bridge: tuple[float, Pose | Head] | None = None
        self._detects = False
        self._posed: Posed | None = None

    def close(self) -> None:
        """Free the face finder, and end the cutting out; harmless when called again."""
        self._cutter.close()
        self._finder.close()

    def recover(self) -> None:
        """Forget what a failed frame may have left behind: filters, and where the face was."""
        self._filter.reset()
        self._finder.forget()
        self._face = None

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
        self._filter.reset()
        self._whereabouts = self._looked_at = None
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
        self._target = self._picture = self._proven = self._bridge = None
        self._idle_since_s = self._idled = None
        self._resting = False
        self._references.begin_anew(self._portrait)

    def _tell_source(self, source: Source, known: bool) -> None:
        self._emit(SourceReady(source.portrait.entry.key, from_cache=known, measured=source.space is not None))

    def _mesh_of(self, landmarks_px: NDArray[np.float32], box: SquareBox) -> NDArray[np.float64]:
        return mesh_in_square(landmarks_px, box, self._encoder.engine.config.size_px)

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
        self._prepare_idle(settings)
        if frame is None:
            if now_s - self._captured_s < _CAMERA_GAP_S:
                return Step(None, None)
            return Step(self._without_face(now_s, settings, camera=False), None)
        if frame.camera != self._camera:
            self._change_camera(frame.camera)
        if frame.rgb.shape != self._shape:
            self._shape = frame.rgb.shape
            self._reframe()
        dt_s = min(_LONGEST_STEP_S, max(0.0, frame.captured_s - self._captured_s))
        self._frame_id, self._captured_s = frame.frame_id, frame.captured_s
        measures = self._measures(settings)
        looked = measures or self._searches_first or frame.played is not None or self.recording is not None
        if looked:
            self._look(frame)
        if self.recording is not None:
            size_px = frame.rgb.shape[1], frame.rgb.shape[0]
            self.recording.take(frame.captured_s, self._face, size_px, frame.camera)
        box = self._frame(dt_s, settings)
        if self._face is None or box is None:
            return Step(self._without_face(now_s, settings, camera=True), PerformerView(frame, box, None, None))
        landmarks = self._face.landmarks_px if looked else None
        measured = self._measure(self._face, box, dt_s, settings) if measures else None
        if measures and measured is None:
            return Step(self._without_face(now_s, settings, camera=True), PerformerView(frame, box, landmarks, None))
        driving = None
        in_the_plane = measured is None or not moves_in_space(settings) or self._references.wants_pose
        if in_the_plane and measured is not None and self._encoder.engine.places_suffice:
            driving = Pose.of(self._encoder.engine.detect(None, self._places_of(measured)))
        elif in_the_plane and frame.played is not None:
            if measured is None or not moves_in_space(settings):
                self._refuse_played(measured is not None)
                return Step(self._slate(State.NO_FACE), PerformerView(frame, box, landmarks, None))
            self._refused = False
            # For the calibration. It is no reference in the plane, which a motion file does not move.
            driving = Pose(places := self._places_of(measured), np.tile(np.eye(2), (len(places), 1, 1)))
        elif in_the_plane:
            square = self._crop(frame.rgb, box)
            if square is None:
                return Step(self._without_face(now_s, settings, camera=True), PerformerView(frame, box, None, None))
            driving = self._detect(square, measured)
            if looked:
                self._known_light = Light.of(square)
            elif self._is_doubtful(square, driving, box, frame.captured_s):
                # It is judged before it is shown: the lens may be covered, and keypoints are found on anything.
                self._look(frame)
                looked = True
                box = self._frame(0.0, settings) or box
                square = None if self._face is None else self._crop(frame.rgb, box)
                if self._face is None or square is None:
                    view = PerformerView(frame, box, None, None)
                    return Step(self._without_face(now_s, settings, camera=True), view)
                landmarks, driving = self._face.landmarks_px, self._detect(square, measured)
                self._known_light = Light.of(square)
        places = driving.value if measured is None and driving is not None else self._places_of(measured)
        self._whereabouts = _Whereabouts.of(places, box)
        if looked:
            self._looked_at = self._whereabouts
        self._posed = None
        view = PerformerView(frame, box, landmarks, places.astype(np.float32))
        output = self._with_face(Seen(view, dt_s, looked, measured, driving), now_s, settings)
        if looked:
            self._proven = self._picture
        return Step(output, dataclasses.replace(view, posed=self._posed))

    def _is_doubtful(self, square: NDArray[np.uint8], driving: Pose, box: SquareBox, captured_s: float) -> bool:
        """Whether a frame in which no face was looked for may show none: other light, or keypoints as no head moves."""
        reference = self._references.reference
        was_strange, self._strange = self._strange, reference is not None and reference.is_strange(driving)
        if self._known_light is not None and Light.of(square).differs(self._known_light):
            return True
        before, now = self._whereabouts, _Whereabouts.of(driving.value, box)
        if before is not None and np.hypot(*(now.center_px - before.center_px)) / now.side_px > _JUMP:
            return True
        # A face that stays strange was looked at already, and is again as often as one that moves.
        return self._strange and (not was_strange or captured_s - self._looked_s >= LOOK_AGAIN_S)

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

    def _measure(self, face: Face, box: SquareBox, dt_s: float, settings: LiveSettings) -> Head | None:
        """The performer's head in the square, steadied; None where this is hardly a face."""
        mesh = self._filter.smooth_mesh(self._mesh_of(face.mesh_px, box), dt_s, settings.smoothing)
        head = Head.of(mesh)
        if head.likely:
            return head
        self._finder.forget()  # what it follows is no face: the next frame is searched, and judged, anew
        return None

    def _detect(self, square: NDArray[np.uint8], measured: Head | None) -> Pose:
        """Keypoints of the performer, at measured places if there are any.

        Raises:
            EngineError: the model gave NaN.
        """
        with self._watch.timed("detect"):
            driving = Pose.of(self._encoder.engine.detect(square))
        if not (np.isfinite(driving.value).all() and np.isfinite(driving.jacobian).all()):
            raise EngineError(
                phrase(
                    "model {model} gave NaN for the keypoints of this frame: use precision fp32 or another "
                    "model; the frame is not shown",
                    model=self._encoder.engine.model_name,
                )
            )
        return driving if measured is None else driving._replace(value=self._places_of(measured))

    def _places_of(self, head: Head | None) -> NDArray[np.float64]:
        assert head is not None
        return places_on(head.mesh, self._encoder.engine.keypoint_landmarks)

    def follow(self, view: PerformerView) -> PerformerView:
        """Search a step's frame for the performer's face if it is time, for the frames to come.

        Apart from the step, so that no picture waits for it.

        Returns:
            The view, with the landmarks if they were found in this very frame.
        """
        # Where the mesh measures, it has looked at this frame already.
        if self._is_measured or self._searches_first or not self._time_to_look(view.frame.captured_s):
            return view
        self._look(view.frame)
        self._looked_at = self._whereabouts
        if self._face is not None:
            self._proven = self._picture
        return view if self._face is None else dataclasses.replace(view, landmarks_px=self._face.landmarks_px)

    @property
    def _searches_first(self) -> bool:
        """Whether a frame has to be searched for the face before anything else is made of it."""
        return self._face is None or self._references.calibrating

    def _time_to_look(self, captured_s: float) -> bool:
        rested_s = captured_s - self._looked_s
        here, there = self._whereabouts, self._looked_at
        if rested_s >= LOOK_EVERY_S or here is None or there is None:
            return True
        if rested_s < LOOK_AGAIN_S:
            return False
        moved = np.hypot(*(here.center_px - there.center_px)) / here.side_px
        grown = abs(here.spread_px / max(there.spread_px, 1e-6) - 1)
        return bool(max(moved, grown) > _MOVED)

    def _refuse_played(self, measured: bool) -> None:
        """Tell once that the motion file cannot move the avatar, as nothing can be detected in it."""
        if not self._refused:
            self._refused = True
            self._emit(MotionRefused(in_the_plane=measured))

    def _change_camera(self, camera: str) -> None:
        self._camera = camera
        self._refused = False
        self._reframe()
        self._ladder.reset()
        self._references.forget()

    def _reframe(self) -> None:
        """Look for the face anew and frame it afresh."""
        self.recover()
        self._smoother.reset()

    def _look(self, frame: CameraFrame) -> None:
        """Search a frame for the performer's face."""
        self._looked_s = frame.captured_s
        if frame.played is not None:
            faces = [] if frame.played.face is None else [frame.played.face]
        else:
            with self._watch.timed("face"):
                faces = self._finder.find(frame.rgb)
        faces = [face for face in faces if face.box.share_inside(frame.rgb) >= _LEAST_INSIDE]
        if faces and (self._gone or self._is_elsewhere(faces[0])):
            # Back after more than a blink: perhaps elsewhere, so the crop does not glide there but is there.
            self._smoother.reset()
            self._filter.reset()
            self._gone = False
        self._face = faces[0] if faces else None

    def _is_elsewhere(self, face: Face) -> bool:
        """Whether a face cannot have come from where the last one was: another person's, or another scene."""
        if self._face is None:
            return False
        before, now = frame_face(self._face), frame_face(face)
        away = math.hypot(now.center_x - before.center_x, now.center_y - before.center_y) / before.side
        return away > _ELSEWHERE or max(now.side / before.side, before.side / now.side) > 1 + _ELSEWHERE

    def _crop(self, rgb: NDArray[np.uint8], box: SquareBox) -> NDArray[np.uint8] | None:
        """The square that the model sees; None where the user's zoom and nudge left nothing of the picture in it."""
        try:
            with self._watch.timed("crop"):
                return crop(rgb, box, self._encoder.engine.config.size_px)
        except MediaError:
            return None

    def _frame(self, dt_s: float, settings: LiveSettings) -> SquareBox | None:
        """Where to crop: the training's framing rule, steadied, with the user's zoom and nudge."""
        box = self._smoother.update(None if self._face is None else frame_face(self._face), dt_s)
        if box is None:
            return None
        return SquareBox(
            box.center_x + settings.nudge_x * box.side,
            box.center_y + settings.nudge_y * box.side,
            box.side / settings.zoom,
        )

    def _with_face(self, seen: Seen, now_s: float, settings: LiveSettings) -> OutputFrame:
        if self._source is None:
            return self._slate(State.STARTING)
        self._references.check(settings)
        if seen.pose is not None:
            self._references.offer(seen, self._source, now_s, settings)
        if settings.relative and self._references.reference is None:
            return self._slate(State.CALIBRATING)
        stance = self._stance(seen, self._source, settings)
        bridged = self._bridged(stance, now_s, settings)
        self._target = target = bridged.stance
        rung = self._ladder.update(now_s, face=True, camera=True, settings=settings)
        self._idle_since_s = None
        self._render(self._source.between(self._rest(target), target, rung.presence), bridged.drawn)
        if rung.presence >= 1:
            self._idled = None
        return self._shown(rung.state, fresh=True)

    def _stance(self, seen: Seen, source: Source, settings: LiveSettings) -> Pose | Head:
        """How the portrait is to be posed."""
        reference = self._references.reference
        if seen.head is not None and moves_in_space(settings):
            assert source.space is not None
            assert reference is not None
            assert reference.head is not None
            self._references.improve(seen, source)  # for the frames to come
            return source.space.follow(seen.head, reference.head, gains_of(settings))
        assert seen.pose is not None
        smooth = self._filter.smooth(seen.pose, seen.dt_s, settings.smoothing, steady=seen.head is not None)
        if not settings.relative:
            return smooth
        assert reference is not None
        return reference.relative(source.pose, smooth, settings.motion_strength, settings.expression_strength)

    def _bridged(self, target: Pose | Head, now_s: float, settings: LiveSettings) -> _Bridged:
        """Glide where a performer means another pose from now on: after a calibration or a change of the mode.

        Between the plane and space no head is known to draw on, so that the drawing fades in behind such a glide.
        """
        mode = settings.relative, settings.motion, self._references.taken
        if mode != self._mode:
            self._bridge = None if self._target is None else (now_s, self._target)
        self._mode = mode
        if self._bridge is None:
            return _Bridged(target)
        began_s, start = self._bridge
        share = (now_s - began_s) / _BRIDGE_S
        assert self._source is not None
        if share < 1:
            return _Bridged(self._source.between(start, target, eased(share)))
        if share < 2 and isinstance(start, Pose):
            return _Bridged(target, eased(share - 1))
        self._bridge = None
        return _Bridged(target)

    def _without_face(self, now_s: float, settings: LiveSettings, *, camera: bool) -> OutputFrame:
        if self._source is None:
            return self._slate(State.STARTING)
        self._face = None
        if settings.relative and self._references.reference is None:
            self._references.miss()
            return self._slate(State.CALIBRATING if camera else State.NO_CAMERA)
        rung = self._ladder.update(now_s, face=False, camera=camera, settings=settings)
        if rung.state is not State.HOLD:
            self._gone = True
        if not rung.state.shows_avatar:
            self._idle_since_s = self._idled = None
            return self._slate(rung.state)
        if rung.state is State.HOLD and self._proven is not None:
            # Later ones may be of frames that showed no face any more. What is switched meanwhile counts at once.
            if not self._is_as_wished(self._proven):
                self._render(self._proven.stance)
                self._proven = self._picture
            self._picture = self._proven
        elif rung.state is State.EASING and self._target is not None:
            self._render(self._source.between(self._rest(self._target), self._target, rung.presence))
        elif rung.state is State.IDLE and (idle := self._idle_stance(now_s, settings)) is not None:
            self._idled = idle
            self._render(idle)
        elif self._picture is None or (rung.state is not State.HOLD and not self._resting):
            self._render(self._source.pose)
            self._resting = True
        return self._shown(rung.state, fresh=False)

    def _rest(self, like: Pose | Head) -> Pose | Head:
        """Where the avatar comes from and goes to without its performer, told as `like` is: where it idled last."""
        assert self._source is not None
        if self._idled is not None and isinstance(like, Head):
            return self._idled
        return self._source.rest(like)

    def _prepare_idle(self, settings: LiveSettings) -> None:
        """Have the chosen idle motion read, and take it once it is there."""
        if settings.idle_motion != self._idle_name:
            self._idle_name, self._idle = settings.idle_motion, None
            self._idle_loading = IdleMotionLoading(self._idle_name) if self._idle_name else None
        loading = self._idle_loading
        if loading is not None and not loading.is_alive():
            self._idle, self._idle_loading = loading.motion, None
            if loading.failure:
                self._emit(SettingRefused("idle_motion", loading.failure))

    def _idle_stance(self, now_s: float, settings: LiveSettings) -> Head | None:
        """How the avatar is posed while it idles; None where it rests still, or its motion is not read yet."""
        space = None if self._source is None else self._source.space
        if self._idle is None or space is None:
            return None
        if self._idle_since_s is None:
            self._idle_since_s = now_s
        time_s = now_s - self._idle_since_s
        stance = self._idle.stance(space, time_s, gains_of(settings))
        start = self._idled if self._idled is not None and time_s == 0 else space.head
        return start.towards(stance, eased(min(1.0, time_s / _IDLE_IN_S)))

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
