"""The performer as the camera shows them: from a frame to keypoints, and to a head where a mesh measures it."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.face_tracker import FaceTracker, Finder
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.motion import MotionFilter, Pose, moves_in_space
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.reference_finder import ReferenceFinder
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import Event, MotionFollowed, MotionRefused
from app.settings import LiveSettings
from mcnet.engine import EngineError
from mcnet.media.crop import SquareBox, crop, touches
from mcnet.media.faces import Face
from mcnet.media.head_motion import Head, mesh_in_square, places_on
from mcnet.phrases import phrase

_LONGEST_STEP_S = 0.5


class Performer:
    """Reads the performer's motion from frames.

    It owns the tracker of the face, the filters against jitter, and which camera it looks through. It asks the
    reference finder for what a frame has to tell, and knows neither the portrait nor what is made of the motion.

    Args:
        engine: finds keypoints.
        finder: finds faces; the performer closes it.
        references: says what is known of this performer.
        watch: times the finding, the crop and the detector.
        emit: told where a motion file cannot be read.
    """

    def __init__(
        self,
        engine: LiveEngine,
        finder: Finder,
        references: ReferenceFinder,
        watch: Stopwatch,
        emit: Callable[[Event], None],
    ) -> None:
        self._engine = engine
        self._tracker = FaceTracker(finder, watch)
        self._references = references
        self._watch = watch
        self._emit = emit
        self._filter = MotionFilter()
        self._camera = ""
        self._shape: tuple[int, ...] = ()
        self._captured_s = self._dt_s = 0.0
        self._told: MotionRefused | None = None
        self._tells_again = False

    def close(self) -> None:
        """Free the face finder; harmless when called again."""
        self._tracker.close()

    def recover(self) -> None:
        """Forget what a failed frame may have left behind: filters, and where the face was."""
        self._filter.reset()
        self._tracker.forget()

    def change_model(self, engine: LiveEngine) -> None:
        """Another model finds the keypoints from now on."""
        self._engine = engine
        self._filter.reset()
        self._tracker.change_model()

    def lose(self) -> None:
        """There is no face to follow: the next frame is searched for one."""
        self._tracker.face = None

    def choose(self) -> None:
        """The largest face of the next frame is the performer's, whoever was followed: who calibrates is there.

        Where a motion file moves nothing, that is told once more: it is why nothing is calibrated.
        """
        self._tells_again = True
        self._tracker.choose()

    def leave(self) -> None:
        """The performer is away for longer than a blink, and may come back elsewhere."""
        self._tracker.leave()

    def meet(self, frame: CameraFrame) -> bool:
        """Take the next frame, before `see`: one of another camera or size is looked at afresh.

        Returns:
            Whether it is another camera's.
        """
        other = frame.camera != self._camera
        if other:
            self._camera = frame.camera
            self._tell(None)
            self._begin_anew()
        if frame.rgb.shape != self._shape:
            self._shape = frame.rgb.shape
            self._begin_anew()
        self._dt_s = min(_LONGEST_STEP_S, max(0.0, frame.captured_s - self._captured_s))
        self._captured_s = frame.captured_s
        return other

    def see(
        self, frame: CameraFrame, settings: LiveSettings, *, measured: bool, recording: MotionRecording | None
    ) -> Seen:
        """Read the performer's motion from a frame.

        Args:
            frame: the one that was met.
            settings: in force for it.
            measured: whether a face mesh gives the keypoints.
            recording: takes the face, or None.

        Raises:
            EngineError: the model gave NaN.
        """
        seen = self._read(frame, settings, measured=measured, recording=recording)
        if seen.refused:
            self._tell(MotionRefused(in_the_plane=seen.head is not None))
        elif seen.moves:
            self._tell(None)
        return seen

    def _read(
        self, frame: CameraFrame, settings: LiveSettings, *, measured: bool, recording: MotionRecording | None
    ) -> Seen:
        searched = measured or self._searches_first or frame.played is not None or recording is not None
        if searched:
            self._look(frame)
        if recording is not None:
            size_px = frame.rgb.shape[1], frame.rgb.shape[0]
            recording.take(frame.captured_s, self._tracker.face, size_px, frame.camera)
        box, face = self._tracker.square(self._dt_s, settings), self._tracker.face
        if face is None or box is None:
            return self._nobody(frame, box)
        head = self._measure(face, box, settings) if measured else None
        view = PerformerView(frame, box, face.landmarks_px if searched else None, None)
        seen = Seen(view, self._dt_s, searched, head)
        if measured and head is None:
            return seen
        if head is not None and moves_in_space(settings) and not self._references.wants_pose:
            return self._located(seen, box)
        if head is not None and self._engine.places_suffice:
            pose = Pose.of(self._engine.detect(None, self._places_of(head)))
            return self._located(seen._replace(pose=pose, fingerprint=self._engine.fingerprint), box)
        if frame.played is not None:
            return self._played(seen, box, settings)
        return self._detected(seen, box, settings)

    def follow(self, view: PerformerView, *, measured: bool) -> PerformerView:
        """Search a frame that was seen for the face if it is time, for the frames to come.

        Args:
            view: of the frame.
            measured: as of `see`; where the mesh measures, it has looked at this frame already.

        Returns:
            The very view where no face was searched for or found; otherwise another one, with its landmarks.
        """
        if measured or self._searches_first or not self._tracker.is_time(view.frame.captured_s):
            return view
        self._look(view.frame)
        self._tracker.take_later_look()
        face = self._tracker.face
        return view if face is None else dataclasses.replace(view, landmarks_px=face.landmarks_px)

    def steady(self, seen: Seen, settings: LiveSettings) -> Pose:
        """A frame's keypoints without their jitter; to be asked for once per frame that they move."""
        assert seen.pose is not None
        return self._filter.smooth(seen.pose, seen.dt_s, settings.smoothing, steady=seen.head is not None)

    @property
    def _searches_first(self) -> bool:
        """Whether a frame has to be searched for the face before anything else is made of it."""
        return self._tracker.face is None or self._references.calibrating

    def _begin_anew(self) -> None:
        """Look for the face anew and frame it afresh."""
        self.recover()
        self._tracker.reframe()

    def _look(self, frame: CameraFrame) -> None:
        if self._tracker.look(frame):
            self._filter.reset()

    def _nobody(self, frame: CameraFrame, box: SquareBox | None) -> Seen:
        return Seen(PerformerView(frame, box, None, None), self._dt_s, searched=False)

    def _located(self, seen: Seen, box: SquareBox) -> Seen:
        """The frame with its keypoints, which are known now."""
        if seen.head is not None:
            places = self._places_of(seen.head)
        else:
            assert seen.pose is not None
            places = seen.pose.value
        self._tracker.take_places(places, box, searched=seen.searched)
        return seen._replace(view=dataclasses.replace(seen.view, keypoints=places.astype(np.float32)))

    def _played(self, seen: Seen, box: SquareBox, settings: LiveSettings) -> Seen:
        """A motion file's frame, in which nothing can be detected: what would need that is refused."""
        if seen.head is None or not moves_in_space(settings):
            return seen._replace(refused=True)
        # For the calibration. It is no reference in the plane, which a motion file does not move.
        places = self._places_of(seen.head)
        return self._located(seen._replace(pose=Pose(places, np.tile(np.eye(2), (len(places), 1, 1)))), box)

    def _tell(self, refusal: MotionRefused | None) -> None:
        """Tell once why a motion file moves nothing, again to who asks, and once that it is over."""
        if refusal != self._told or (refusal is not None and self._tells_again):
            self._told = refusal
            self._emit(MotionFollowed() if refusal is None else refusal)
        self._tells_again = False

    def _detected(self, seen: Seen, box: SquareBox, settings: LiveSettings) -> Seen:
        """A frame whose keypoints the model detects."""
        frame = seen.view.frame
        square = self._crop(frame.rgb, box)
        if square is None:
            return self._nobody(frame, box)
        pose = self._detect(square, seen.head)
        if not seen.searched and self._is_doubtful(square, pose, box):
            # It is judged before it is shown: the lens may be covered, and keypoints are found on anything.
            self._look(frame)
            box, face = self._tracker.square(0.0, settings) or box, self._tracker.face
            square = None if face is None else self._crop(frame.rgb, box)
            if face is None or square is None:
                return self._nobody(frame, box)
            seen = seen._replace(view=PerformerView(frame, box, face.landmarks_px, None), searched=True)
            pose = self._detect(square, seen.head)
        if seen.searched:
            self._tracker.take_light(square)
        return self._located(seen._replace(pose=pose, fingerprint=self._engine.fingerprint), box)

    def _is_doubtful(self, square: NDArray[np.uint8], pose: Pose, box: SquareBox) -> bool:
        reference = self._references.reference
        strange = reference is not None and reference.is_strange(pose)
        return self._tracker.is_doubtful(square, pose.value, box, self._captured_s, strange=strange)

    def _measure(self, face: Face, box: SquareBox, settings: LiveSettings) -> Head | None:
        """The performer's head in the square, steadied; None where this is hardly a face."""
        mesh = mesh_in_square(face.mesh_px, box, self._engine.config.size_px)
        head = Head.of(self._filter.smooth_mesh(mesh, self._dt_s, settings.smoothing))
        if head.likely:
            return head
        self._tracker.distrust()
        return None

    def _crop(self, rgb: NDArray[np.uint8], box: SquareBox) -> NDArray[np.uint8] | None:
        """The square that the model sees; None where the user's zoom and nudge left nothing of the picture in it."""
        if not touches(box, rgb):
            return None
        with self._watch.timed("crop"):
            return crop(rgb, box, self._engine.config.size_px)

    def _detect(self, square: NDArray[np.uint8], measured: Head | None) -> Pose:
        """Keypoints of the performer, at measured places if there are any.

        Raises:
            EngineError: the model gave NaN.
        """
        with self._watch.timed("detect"):
            pose = Pose.of(self._engine.detect(square))
        if not (np.isfinite(pose.value).all() and np.isfinite(pose.jacobian).all()):
            raise EngineError(
                phrase(
                    "model {model} gave NaN for the keypoints of this frame: use precision fp32 or another "
                    "model; the frame is not shown",
                    model=self._engine.model_name,
                )
            )
        return pose if measured is None else pose._replace(value=self._places_of(measured))

    def _places_of(self, head: Head) -> NDArray[np.float64]:
        return places_on(head.mesh, self._engine.keypoint_landmarks)
