"""What the avatar shows of a performer, step by step: the order in which the animator asks its collaborators."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from app.pipeline.animation.animator import Animator
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Calibrated,
    CalibrationProgress,
    Event,
    SourceFailed,
)
from app.pipeline.inspector import Artist, Request
from app.pipeline.output.output_frame import OutputFrame
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet import Engine, EngineOptions, load_model
from mcnet.commands.drives import Shot, SpaceDrive
from mcnet.engine import EngineError, resized
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.head_motion import mesh_in_square
from mcnet.media.video import open_driving
from mcnet.pictures import to_rgb
from tests.app.fakes import FakeEngine, marked_picture, wait_until
from tests.app.pipeline.animation.stage import DT_S, POINTS, SETTINGS, Stage, shown_head, turned
from tests.media.videos import GRID

pytestmark = pytest.mark.usefixtures("_compiled_once")


def test_only_a_moved_avatar_can_be_inspected(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    calibrating = stage.step().view
    assert calibrating is not None
    assert calibrating.posed is None
    moved = stage.until(State.LIVE).view
    assert moved is not None
    assert moved.posed is not None
    assert moved.posed.measured
    assert moved.posed.square is woman.square
    assert moved.posed.driving_value.shape == (len(POINTS), 2)
    rendered = stage.engine.rendered[-1]
    assert np.abs(moved.posed.driving_value - rendered.value[0]).max() < 1e-6
    stage.finder.face = None
    lost = stage.step().view
    assert lost is not None
    assert lost.posed is None


def test_no_portrait_no_avatar(face: Face) -> None:
    output = Stage(face, None).step().output
    assert output is not None
    assert (output.state, output.avatar) == (State.STARTING, None)


def test_the_slate_stays_until_the_reference_pose_is_taken(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    first = stage.step().output
    assert first is not None
    assert (first.state, first.avatar) == (State.CALIBRATING, None)
    live = stage.until(State.LIVE).output
    assert live is not None
    assert live.avatar is not None
    assert live.fresh
    assert [event for event in stage.events if isinstance(event, Calibrated)] != []
    assert [event for event in stage.events if isinstance(event, CalibrationProgress)] != []


def test_absolute_motion_needs_no_calibration(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.2
    for _ in range(20):
        output = stage.step(dataclasses.replace(SETTINGS, relative=False)).output
    assert output is not None
    assert output.state is State.LIVE
    shown = stage.engine.rendered[-1].value[0]
    np.testing.assert_allclose(shown, stage.engine.detect(np.zeros((256, 256, 3), np.uint8)).value[0], atol=1e-6)


def test_relative_motion_moves_the_avatar_as_the_driver_moved(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.3  # the driver sits aside, which is not to be seen
    stage.until(State.LIVE)
    for _ in range(20):
        stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)
    stage.engine.shift = 0.4
    stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.1, 0.1], atol=1e-6)


def test_a_lost_face_goes_down_the_ladder_and_comes_back_by_itself(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.engine.shift = 0.1
    stage.until(State.LIVE)
    stage.engine.shift = 0.3
    for _ in range(20):
        searched = stage.finder.searched
        live = stage.step().output
        if stage.finder.searched > searched and live is not None:
            proven = live.avatar
    stage.finder.face = None
    held = stage.step().output
    while held is not None and held.state is State.LIVE:  # until the next look for the face
        held = stage.step().output
    assert live is not None
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is proven, "what is held is of the last frame that is known to show a face"
    assert not held.fresh
    stage.until(State.EASING)
    idle = stage.until(State.IDLE).output
    assert idle is not None
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)
    rendered = len(stage.engine.rendered)
    stage.step()
    assert len(stage.engine.rendered) == rendered  # resting costs nothing
    gone = stage.until(State.NO_FACE).output
    assert gone is not None
    assert gone.avatar is None
    stage.finder.face = face
    back = stage.until(State.LIVE).output
    assert back is not None
    assert back.avatar is not None
    for _ in range(20):
        stage.step()
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.2, 0.1], atol=1e-6)


def test_a_camera_that_stops_goes_down_the_same_ladder(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    assert stage.step(frame=False).output is None  # one frame late is no loss
    stage.until(State.HOLD, frame=False)
    stage.until(State.EASING, frame=False)
    stage.until(State.NO_CAMERA, frame=False)
    stage.until(State.LIVE)


def test_between_the_frames_of_a_slow_camera_what_is_shown_stays(face: Face, woman: Portrait) -> None:
    """A network camera at night, say; the sinks take a model that says nothing for hung."""
    stage = Stage(face, woman)
    stage.until(State.LIVE)

    def between(next_s: float, steps: int) -> list[tuple[State, bool]]:
        stage.now_s += DT_S
        frame = CameraFrame(stage.frames, stage.now_s, marked_picture(), "one", next_s=next_s)
        assert stage.animator.step(frame, stage.now_s, SETTINGS).output is not None
        outputs = [stage.step(frame=False).output for _ in range(steps)]
        return [(output.state, output.fresh) for output in outputs if output is not None]

    for _ in range(2):
        shown = between(2.0, 50)
        assert len(shown) > 35
        assert set(shown) == {(State.LIVE, False)}
    assert State.NO_CAMERA in {state for state, _ in between(2.0, 150)}, "it has ended"
    assert State.EASING in {state for state, _ in between(0.04, 50)}
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.HOLD)
    assert State.EASING in {state for state, _ in between(2.0, 50)}, "nothing waits for it where no face is seen"


class SlowCamera:
    """A performer before a camera that gives a frame per 5 s, of which one has just been shown.

    Attributes:
        shown: the picture of that frame.
    """

    def __init__(self, face: Face, portrait: Portrait, settings: LiveSettings = SETTINGS) -> None:
        self.stage = Stage(face, portrait, POINTS)
        self.stage.until(State.LIVE, settings)
        self.stage.now_s += 5.0
        frame = CameraFrame(self.stage.frames, self.stage.now_s, marked_picture(), "one", next_s=5.0)
        shown = self.stage.animator.step(frame, self.stage.now_s, settings).output
        assert shown is not None
        assert shown.state is State.LIVE
        self.shown = shown.picture
        self.stage.now_s += 1.0

    def between(self, settings: LiveSettings = SETTINGS) -> OutputFrame:
        """What goes out a second after that frame."""
        output = self.stage.animator.step(None, self.stage.now_s, settings).output
        assert output is not None
        assert not output.fresh
        return output


def test_another_portrait_is_shown_between_the_frames_of_a_slow_camera(face: Face, woman: Portrait) -> None:
    slow = SlowCamera(face, woman)
    assert slow.between().picture is slow.shown
    other = dataclasses.replace(woman, square=woman.square[:, ::-1].copy())
    slow.stage.animator.set_portrait(other)
    output = slow.between()
    assert output.state is State.LIVE
    assert output.picture is not slow.shown
    latest = slow.stage.animator._pictures.latest
    assert latest is not None
    assert latest.posed.square is other.square
    assert slow.between().picture is output.picture, "it is made once"


@pytest.mark.parametrize("settings", [SETTINGS, dataclasses.replace(SETTINGS, motion="plane")])
def test_another_model_makes_the_pictures_between_the_frames_of_a_slow_camera(
    face: Face, woman: Portrait, settings: LiveSettings
) -> None:
    """In the plane its keypoints are to be calibrated first."""
    slow, other = SlowCamera(face, woman, settings), FakeEngine()
    other.keypoint_landmarks, other.fingerprint = POINTS, "other/1"
    slow.stage.animator.use_engine(other, lambda _: None)
    proved = len(other.rendered)
    in_space = settings.motion == "space"
    output = slow.between(settings)
    assert output.state is (State.LIVE if in_space else State.CALIBRATING)
    assert (output.avatar is not None) == in_space
    assert len(other.rendered) == proved + in_space


@pytest.mark.parametrize("switched", ["retouch", "fine_detail", "surroundings", "cut_out"])
def test_what_is_switched_counts_between_the_frames_of_a_slow_camera(
    face: Face, woman: Portrait, switched: str
) -> None:
    off = dataclasses.replace(SETTINGS, retouch=False, surroundings=False)
    slow = SlowCamera(face, woman, off)
    assert slow.between(off).picture is slow.shown
    change: dict[str, Any] = {switched: True}
    on = dataclasses.replace(off, **change)

    def is_shown() -> bool:
        output = slow.between(on)
        assert output.state is State.LIVE
        return output.picture is not slow.shown

    wait_until(is_shown, "it is seen")  # cutting out has a thread
    output = slow.between(on)
    assert (output.person is not None) == (switched == "cut_out")
    assert output.detailed == (switched == "fine_detail")
    assert any(output.margins) == (switched == "surroundings")
    assert slow.between(off).picture is not output.picture
    slow.stage.animator.close()


def test_another_camera_is_calibrated_anew_and_the_same_one_is_not(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.until(State.NO_CAMERA, frame=False)
    back = stage.step().output
    assert back is not None
    assert back.state is State.LIVE
    other = stage.step(camera="two").output
    assert other is not None
    assert other.state is State.CALIBRATING


def test_who_comes_back_elsewhere_is_framed_there_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.IDLE)
    aside = face.landmarks_px + np.array([150, 20, 0], np.float32)
    stage.finder.face = Face(aside, 1.0)
    view = stage.until(State.LIVE).view
    assert view is not None
    assert view.box is not None
    assert dataclasses.astuple(view.box) == pytest.approx(dataclasses.astuple(frame_face(Face(aside, 1.0))))


def test_a_change_of_the_reference_is_glided_over(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.3
    for _ in range(20):
        stage.step()
    stage.animator.calibrate(0.0)
    places = []
    for _ in range(20):
        stage.step()
        places.append(float(stage.engine.rendered[-1].value[0, 4, 0]))
    assert places[-1] == pytest.approx(0.0, abs=1e-6)
    assert max(abs(np.diff([0.3, *places]))) < 0.1


def test_a_portrait_that_fails_leaves_the_one_before(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail_source = EngineError("the model gave NaN")
    other = dataclasses.replace(woman, square=np.zeros_like(woman.square))
    stage.animator.set_portrait(other)
    assert stage.events[-1] == SourceFailed("woman_1", "the model gave NaN")
    output = stage.step().output
    assert output is not None
    assert output.state is State.LIVE


def test_whatever_a_portrait_meets_the_one_before_stays(
    face: Face, woman: Portrait, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail_source = RuntimeError("out of memory")
    stage.animator.set_portrait(dataclasses.replace(woman, square=np.zeros_like(woman.square)))
    assert stage.events[-1] == SourceFailed("woman_1", "RuntimeError: out of memory")
    assert "out of memory" in caplog.text
    stage.until(State.LIVE)


def test_a_model_that_fails_is_not_hidden(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.fail = EngineError("NaN")
    with pytest.raises(EngineError, match="NaN"):
        stage.step()


def test_with_the_real_model_it_shows_what_the_engine_animates(woman: Portrait) -> None:
    """GRID's speaker drives: the same crop, reference and motion as `Engine.animate`, so the same picture."""
    engine = Engine(load_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    events: list[Event] = []
    finder = FaceFinder(tracking=True)
    animator = Animator(engine, events.append, lambda *_: None, finder=finder)
    animator.set_portrait(woman)
    settings = LiveSettings(calibration_s=0.0, smoothing=0.0, keypoints="detected", fine_detail=False)
    frames = list(open_driving(GRID))[:12:3]
    shown = None
    for index, rgb in enumerate(frames):
        now_s = 10.0 + index
        shown = animator.step(CameraFrame(index, now_s, rgb, "grid"), now_s, settings).output
    assert shown is not None
    assert shown.state is State.LIVE
    with FaceFinder() as fresh:
        box = frame_face(fresh.find(frames[0])[0])
    engine.calibrate(crop(frames[0], box, 256))
    expected = engine.animate(crop(frames[-1], box, 256))
    assert shown.avatar is not None
    difference = np.abs(shown.avatar.astype(int) - expected)
    assert difference.mean() < 0.6  # the finder, tracking, frames the head a fraction of a pixel otherwise
    still = np.abs(shown.avatar.astype(int) - engine.render(engine.set_source(woman.square).keypoints))
    assert still.mean() > 2 * difference.mean()


def test_with_the_real_model_space_is_what_the_offline_command_makes(woman: Portrait) -> None:
    engine = Engine(load_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    finder = FaceFinder(tracking=True)
    events: list[Event] = []
    animator = Animator(engine, events.append, lambda *_: None, finder=finder)
    animator.set_portrait(woman)
    settings = LiveSettings(calibration_s=0.0, smoothing=0.0, fine_detail=False)
    frames = list(open_driving(GRID))[:12:3]
    shown = None
    shots = []
    for index, rgb in enumerate(frames):
        now_s = 10.0 + index
        step = animator.step(CameraFrame(index, now_s, rgb, "grid"), now_s, settings)
        shown = step.output
        assert step.view is not None
        assert step.view.box is not None
        assert step.view.landmarks_px is not None
        shots.append(Shot(rgb, Face(step.view.landmarks_px, 1.0), step.view.box, 256))
    assert shown is not None
    assert shown.state is State.LIVE
    assert shown.avatar is not None
    assert woman.landmarks_px is not None
    source = Shot(woman.rgb, Face(woman.landmarks_px, 1.0), woman.box, 256)
    expected = SpaceDrive(engine, source, shots[0]).pictures(shots[-1:])[0]
    difference = np.abs(shown.avatar.astype(int) - expected)
    assert difference.mean() < 1  # live, the portrait's larger square is shrunk by the engine
    still = np.abs(shown.avatar.astype(int) - source.square)
    assert still.mean() > 2 * difference.mean()
    # What is inspected is this very picture, but for how the portrait is shrunk.
    assert step.view is not None
    assert step.view.posed is not None
    artist = Artist("starter")
    assert len(artist.draw(Request(step.view.posed, ("warped",), (0.5, 0.5), 64))) == 1  # they are its own weights
    again = to_rgb(artist.see(step.view.posed).frame.prediction)[0].numpy()
    assert np.abs(shown.avatar.astype(int) - again).mean() < 1
    # With fine detail, what `mcnet animate --size 512` makes.
    animator.set_portrait(woman)  # the drive has taken the engine
    detailed = animator.step(
        CameraFrame(len(frames), now_s + 0.01, frames[-1], "grid"),
        now_s + 0.01,
        dataclasses.replace(settings, fine_detail=True),
    ).output
    assert detailed is not None
    assert detailed.avatar is not None
    large = dataclasses.replace(source, size_px=512).square
    expected = SpaceDrive(engine, source, shots[0], larger=large).pictures(shots[-1:])[0]
    assert detailed.avatar.shape == expected.shape == (512, 512, 3)
    assert np.abs(detailed.avatar.astype(int) - expected).mean() < 1
    plain = resized(shown.avatar, 512)
    assert np.abs(plain.astype(int) - expected).mean() > 2, "the network's own has less"


def test_in_space_the_avatar_looks_where_the_performer_looks(face: Face, woman: Portrait) -> None:
    """A reference that looks aside melts nothing: turned back, the avatar has its own face."""
    straight = Stage(face, woman, POINTS)
    straight.until(State.LIVE)
    aside = Stage(turned(face, 40), woman, POINTS)
    aside.until(State.LIVE)
    for stage in (straight, aside):
        stage.finder.face = face
        for _ in range(30):
            stage.step()
    size = np.ptp(shown_head(straight), axis=0).max()
    np.testing.assert_allclose(
        shown_head(aside) - shown_head(aside).mean(0), shown_head(straight) - shown_head(straight).mean(0),
        atol=0.03 * size,
    )  # fmt: skip
    own = aside.engine.set_source(woman.square, np.asarray(aside.animator._source.space.places, np.float32))  # type: ignore[union-attr]
    away = own.keypoints.value[0] - shown_head(aside)
    assert np.abs(away - away.mean(0)).max() < 0.1 * size, "the face shape is the portrait's"


def test_what_is_hardly_a_face_is_held(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    shown = stage.until(State.LIVE).output
    assert shown is not None
    torn = face.landmarks_px.copy()
    torn[:, :2] = torn[:, :2].mean(0) + (torn[:, :2] - torn[:, :2].mean(0)) * [1.8, 0.6]
    stage.finder.face = Face(torn, 1.0)
    held = stage.step().output
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is shown.avatar
    stage.finder.face = face
    assert stage.until(State.LIVE).output is not None


@pytest.mark.parametrize("change", [{"motion": "plane"}, {"relative": False}])
def test_measured_keypoints_in_the_plane(face: Face, woman: Portrait, change: dict[str, Any]) -> None:
    stage = Stage(face, woman, POINTS)
    settings = dataclasses.replace(SETTINGS, **change)
    stage.until(State.LIVE, settings)
    for _ in range(20):
        stage.step(settings)
    source = stage.animator._source
    assert source is not None
    assert source.space is not None
    view = stage.step(settings).view
    assert view is not None
    assert view.box is not None
    measured = mesh_in_square(face.landmarks_px, view.box, 256)[list(POINTS), :2]
    expected = source.space.places if settings.relative else measured
    np.testing.assert_allclose(shown_head(stage), expected, atol=1e-5)


def test_a_wish_for_detected_keypoints_changes_nothing_where_none_can_be_detected(undetected: Stage) -> None:
    undetected.until(State.LIVE)
    reference, told = undetected.animator._references.reference, len(undetected.events)
    for keypoints in ("detected", "measured", "detected"):
        output = undetected.step(dataclasses.replace(SETTINGS, keypoints=keypoints)).output
        assert output is not None
        assert output.state is State.LIVE
    assert undetected.animator._references.reference is reference
    assert undetected.events[told:] == []


def test_keypoints_that_cannot_be_detected_leave_portrait_and_reference(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    reference = stage.animator._references.reference
    stage.engine.fail_source = EngineError("no memory is left")
    detected = dataclasses.replace(SETTINGS, keypoints="detected")
    output = stage.step(detected).output
    assert output is not None
    assert output.state is State.LIVE
    assert isinstance(stage.events[-1], SourceFailed)
    assert stage.animator._references.reference is reference
    stage.engine.fail_source = None
    stage.animator.set_portrait(woman)
    output = stage.step(detected).output
    assert output is not None
    assert output.state is State.CALIBRATING, "a reference that was measured is none for detected keypoints"


@pytest.mark.parametrize("motion", ["space", "plane"])
def test_where_places_suffice_a_lost_face_is_held_as_ever(undetected: Stage, face: Face, motion: Any) -> None:
    settings = dataclasses.replace(SETTINGS, motion=motion)
    shown = undetected.until(State.LIVE, settings).output
    assert shown is not None
    undetected.finder.face = None
    held = undetected.step(settings).output
    assert held is not None
    assert held.state is State.HOLD
    assert held.avatar is shown.avatar
    undetected.until(State.IDLE, settings)
    undetected.finder.face = face
    undetected.until(State.LIVE, settings)
