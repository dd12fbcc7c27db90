"""Motion files in a camera's place, and recorded from one: the avatar moves, and no camera's picture gets out."""

import dataclasses
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.errors import AppError, CameraError
from app.pipeline.animation import idle_motion
from app.pipeline.animation.animator import Animator
from app.pipeline.animation.idle_motion import IdleMotion
from app.pipeline.animation.motion import gains_of
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture import track_camera
from app.pipeline.capture.camera import Camera
from app.pipeline.capture.camera_control import CameraTimes
from app.pipeline.capture.camera_frame import CameraFrame, Played
from app.pipeline.capture.cameras import open_camera, open_performer
from app.pipeline.capture.track_camera import TrackCamera
from app.pipeline.events import Calibrated, CameraFailed, Event, MotionFollowed, MotionRefused, SettingRefused
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.pipeline import Pipeline, PipelineTimes
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.media import motion_track
from mcnet.media.faces import Face
from mcnet.media.head_motion import PortraitInSpace, mesh_in_square
from mcnet.media.motion_track import MotionTrack, TrackRecorder, drawn, load_track, save_track
from tests import gentle_motion
from tests.app.fakes import Cameras, FakeEngine, FakeFinder, FakeSink, marked_picture, wait_until
from tests.app.pipeline.capture.fake_capture import Clock
from tests.app.pipeline.test_pipeline import leaked

SETTINGS = LiveSettings(
    calibration_s=0.1, hold_s=0.1, ease_s=0.1, idle_s=0.2, background="colour", badge=False, fine_detail=False
)
STEPWISE = dataclasses.replace(SETTINGS, smoothing=0.0)
POINTS = (33, 263, 13, 14, 152)


def moved(face: Face, aside_px: float) -> Face:
    return Face(face.landmarks_px + np.array([aside_px, 0, 0], np.float32), 1.0)


def opened(face: Face, gap_px: float) -> Face:
    """The mouth, by so many pixels."""
    landmarks = face.landmarks_px[:468].copy()
    landmarks[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377], 1] += gap_px
    return Face(landmarks, 1.0)


@pytest.fixture
def track(face: Face) -> MotionTrack:
    """Two seconds of somebody who rests for one, and speaks."""
    gaps = [0.0] * 30 + [10 * np.sin(index / 5) ** 2 for index in range(30)]
    return MotionTrack(np.arange(60) / 30, [opened(face, gap) for gap in gaps], (640, 480))


@pytest.fixture
def file(track: MotionTrack, tmp_path: Path) -> Path:
    save_track(tmp_path / "talk.safetensors", track)
    return tmp_path / "talk.safetensors"


# The camera


def test_a_motion_file_is_named_as_a_camera(file: Path) -> None:
    spec = parse_camera(str(file))
    assert spec == CameraSpec("motion", path=file)
    assert spec.is_recorded
    assert not spec.has_one_user
    camera = open_performer(spec)
    assert isinstance(camera, TrackCamera)
    assert (camera.format.width_px, camera.format.height_px, camera.format.fps_hz) == (640, 480, 30.0)
    camera.close()
    with pytest.raises(CameraError, match="was closed"):
        camera.read()


def test_naming_one_loads_no_computer_vision() -> None:
    program = "import sys, app.pipeline.camera_spec; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_one_that_is_damaged_is_no_camera(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CameraError, match="cannot be read as a motion file"):
        open_performer(parse_camera(str(file)))


def test_it_gives_no_pictures(file: Path) -> None:
    with pytest.raises(CameraError, match="expected what gives pictures"):
        open_camera(parse_camera(str(file)))


def test_it_plays_in_its_own_time_and_again(track: MotionTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(track_camera, "monotonic", clock)
    camera = TrackCamera("talk", track)
    monkeypatch.setattr(camera._tenancy.closed, "wait", clock.pass_s)
    began_s, length = clock.now_s, len(camera._loop.faces)
    read = [camera.read() for _ in range(3 * length)]
    assert clock.now_s - began_s == pytest.approx((3 * length - 1) / 30, abs=1e-3)
    assert all(one.rgb.shape == (480, 640, 3) for one in read)
    assert read[0].face is read[length].face
    faces = [one.face for one in read if one.face is not None]
    steps = [np.abs(one.landmarks_px - other.landmarks_px).max() for one, other in itertools.pairwise(faces)]
    assert max(steps) < 4, "without a jump"
    clock.pass_s(0.2)
    late = camera.read()
    assert late.face is camera._loop.faces[6 - 1], "who comes late has what is due"
    clock.pass_s(5.0)
    assert camera.read().face is camera._loop.faces[6], "after a long time it goes on from where it was"


def test_between_few_frames_it_is_made_up(face: Face) -> None:
    slow = MotionTrack(np.arange(10) / 5, [moved(face, 10.0 * index) for index in range(10)], (640, 480))
    camera = TrackCamera("slow", slow)
    assert camera.format.fps_hz == 25.0
    xs = np.array([one.landmarks_px[1, 0] for one in camera._loop.faces if one is not None])
    assert np.abs(np.diff(xs)).max() < 12


# The avatar


class Stage:
    """An animator with fakes, whose finder nobody may ask while a motion file plays."""

    def __init__(self, face: Face | None, portrait: Portrait, points: tuple[int, ...] = POINTS) -> None:
        self.engine, self.finder = FakeEngine(), FakeFinder(face)
        self.engine.keypoint_landmarks = points
        self.events: list[Event] = []
        self.animator = Animator(self.engine, self.events.append, lambda *_: None, finder=self.finder)
        self.animator.set_portrait(portrait)
        self.frames = 0
        self.camera = "one"
        self.waits = True
        """For the idle motion, after each step."""

    def step(self, face: Face | None, settings: LiveSettings = STEPWISE, *, played: bool = True) -> State:
        self.frames += 1
        self.finder.face = face
        now_s = 100 + 0.04 * self.frames
        rgb = drawn(face, 640, 480) if played else marked_picture()
        seen = Played(rgb, face) if played else None
        step = self.animator.step(CameraFrame(self.frames, now_s, rgb, self.camera, "", seen), now_s, settings)
        assert step.output is not None
        if step.view is not None:
            self.animator.follow(step.view)
        if (loading := self.animator._idling.loading) is not None and self.waits:
            loading.join(20)
        return step.output.state


def test_played_faces_move_the_avatar_as_seen_ones_do(woman: Portrait, track: MotionTrack) -> None:
    played, seen = Stage(None, woman), Stage(None, woman)
    states = [[stage.step(one, played=stage is played) for one in track.faces] for stage in (played, seen)]
    assert states[0] == states[1]
    assert states[0][-1] is State.LIVE
    assert played.finder.searched == 0
    for one, other in zip(played.engine.rendered, seen.engine.rendered, strict=True):
        np.testing.assert_allclose(one.value, other.value, atol=1e-6)
        np.testing.assert_allclose(one.jacobian, other.jacobian, atol=1e-6)
    assert np.ptp([one.value[0, 3, 1] for one in played.engine.rendered]) > 0.05, "the mouth moves"


def test_a_played_face_that_is_gone_is_lost_as_ever(face: Face, woman: Portrait) -> None:
    stage = Stage(None, woman)
    for _ in range(10):
        stage.step(face)
    states = [stage.step(None) for _ in range(20)]
    assert list(dict.fromkeys(states)) == [State.HOLD, State.EASING, State.IDLE, State.NO_FACE]
    assert stage.finder.searched == 0


@pytest.mark.parametrize(
    ("points", "change", "in_the_plane"),
    [((), {}, False), (POINTS, {"motion": "plane"}, True), (POINTS, {"relative": False}, True)],
)
def test_what_would_have_to_be_detected_is_refused_once(
    face: Face, woman: Portrait, points: tuple[int, ...], change: dict[str, str | bool], in_the_plane: bool
) -> None:
    stage, settings = Stage(None, woman, points), dataclasses.replace(STEPWISE, **change)  # type: ignore[arg-type]
    assert {stage.step(face, settings) for _ in range(10)} == {State.NO_FACE}
    assert [event for event in stage.events if isinstance(event, MotionRefused)] == [MotionRefused(in_the_plane)]
    assert stage.engine.rendered == []
    if in_the_plane:
        told = [MotionRefused(in_the_plane), MotionFollowed()]
        for _ in range(2):  # the second time with a reference
            assert [stage.step(face) for _ in range(10)][-1] is State.LIVE
            assert [event for event in stage.events if isinstance(event, MotionRefused | MotionFollowed)] == told
            told = told * 2
            stage.step(face, settings)


def test_who_calibrates_while_it_is_refused_is_told_why_and_not_to_show_a_face(face: Face, woman: Portrait) -> None:
    stage, plane = Stage(None, woman), dataclasses.replace(STEPWISE, motion="plane")
    while stage.step(face) is not State.LIVE:
        assert stage.frames < 50
    before = stage.animator._references.reference
    stage.events.clear()
    for duration_s in (2.0, 0.0):  # as the window does when the motion is switched, and as the user may
        stage.animator.calibrate(duration_s)
        for _ in range(30):
            stage.step(face, plane)
    assert stage.events == [MotionRefused(True)] * 2
    assert stage.step(face) is State.LIVE
    assert stage.animator._references.reference is before
    assert stage.events[2:] == [MotionFollowed()]


def test_a_hands_free_calibration_goes_on_where_it_was_refused(face: Face, woman: Portrait) -> None:
    stage, plane = Stage(None, woman), dataclasses.replace(STEPWISE, motion="plane")
    while stage.step(face) is not State.LIVE:
        assert stage.frames < 50
    stage.animator.calibrate(0.5)
    stage.step(face, plane)
    stage.events.clear()
    for _ in range(30):
        stage.step(face)
    assert len([event for event in stage.events if isinstance(event, Calibrated)]) == 1


def test_a_refusal_is_over_with_another_camera(face: Face, woman: Portrait) -> None:
    stage, plane = Stage(None, woman), dataclasses.replace(STEPWISE, motion="plane")
    stage.step(face, plane)
    stage.camera = "two"
    stage.step(None, plane, played=False)
    told = [event for event in stage.events if isinstance(event, MotionRefused | MotionFollowed)]
    assert told == [MotionRefused(True), MotionFollowed()]


def test_its_calibration_is_none_for_the_plane(face: Face, woman: Portrait) -> None:
    """Its keypoints stand in for detected ones, from which no camera's motion may be measured."""
    stage = Stage(None, woman)
    while stage.step(face) is not State.LIVE:
        assert stage.frames < 50
    assert stage.step(face, dataclasses.replace(STEPWISE, motion="plane"), played=False) is State.CALIBRATING


def test_where_places_suffice_its_calibration_is_one_for_the_plane(face: Face, woman: Portrait) -> None:
    """Its keypoints are then the model's own, as a camera's are."""
    stage, plane = Stage(None, woman), dataclasses.replace(STEPWISE, motion="plane")
    stage.engine.places_suffice = True
    while stage.step(face, plane) is not State.LIVE:
        assert stage.frames < 50
    assert {stage.step(face, plane) for _ in range(10)} == {State.LIVE}
    assert len([event for event in stage.events if isinstance(event, Calibrated)]) == 1


# Idling


IDLING = dataclasses.replace(STEPWISE, idle_motion="gentle", idle_s=60.0)


def shown(stage: Stage) -> np.ndarray:
    return np.asarray(stage.engine.rendered[-1].value[0], np.float64)


def test_who_is_away_leaves_an_avatar_that_moves_gently_and_comes_back_without_a_jump(
    face: Face, woman: Portrait
) -> None:
    stage = Stage(None, woman)
    while stage.step(face, IDLING) is not State.LIVE:
        assert stage.frames < 50
    for _ in range(15):
        stage.step(face, IDLING)
    while stage.step(None, IDLING) is not State.IDLE:
        assert stage.frames < 200
    places = [shown(stage)]
    for _ in range(300):  # 12 seconds
        assert stage.step(None, IDLING) is State.IDLE
        places.append(shown(stage))
    for _ in range(15):
        assert stage.step(face, IDLING) is State.LIVE
        places.append(shown(stage))
    still = np.abs(np.stack(places) - places[0]).max((1, 2))
    assert still[1:8].max() < 0.01, "it begins at rest"
    assert 0.02 < still[50:300].max() < 0.15, "of the picture's half: it sways"
    steps = np.abs(np.diff(np.stack(places), axis=0)).max((1, 2))
    assert steps.max() < 0.02


def test_who_comes_back_and_is_lost_at_once_sees_no_jump_either(face: Face, woman: Portrait) -> None:
    stage = Stage(None, woman)
    for _ in range(30):
        stage.step(face, IDLING)
    places = []
    for seen in (*[None] * 60, *[face] * 3, *[None] * 20):
        stage.step(seen, IDLING)
        places.append(shown(stage))
    assert np.abs(np.diff(np.stack(places), axis=0)).max() < 0.04


def test_who_is_lost_again_on_the_way_back_idles_on_from_there(face: Face, woman: Portrait) -> None:
    stage = Stage(None, woman)
    for _ in range(30):
        stage.step(face, IDLING)
    seen = [*[None] * 200, *[face] * 3, *[None] * 60]
    idle = [(stage.step(one, IDLING) is State.IDLE, shown(stage)) for one in seen]
    pairs = itertools.pairwise(idle)
    steps = [np.abs(there - here).max() for (idled, here), (idles, there) in pairs if idled and idles]
    assert len(steps) > 200
    assert max(steps) < 0.01


@pytest.mark.parametrize("change", ["none", "no file", "detected"])
def test_otherwise_it_rests_still(face: Face, woman: Portrait, tmp_path: Path, change: str) -> None:
    name = {"none": "", "no file": str(tmp_path / "gone.safetensors")}.get(change, "gentle")
    settings = dataclasses.replace(IDLING, idle_motion=name)
    stage = Stage(None, woman, () if change == "detected" else POINTS)
    for _ in range(30):
        stage.step(face, settings, played=False)
    while stage.step(None, settings, played=False) is not State.IDLE:
        assert stage.frames < 200
    rendered = len(stage.engine.rendered)
    for _ in range(20):
        stage.step(None, settings, played=False)
    assert len(stage.engine.rendered) == rendered
    told = [event for event in stage.events if isinstance(event, SettingRefused)]
    assert [event.setting for event in told] == (["idle_motion"] if change == "no file" else [])


def test_no_picture_waits_for_an_idle_motion(
    face: Face, woman: Portrait, track: MotionTrack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file on a slow disk, say: the avatar rests still until it is read."""
    slow = threading.Event()

    def load(_: Path) -> MotionTrack:
        assert slow.wait(20)
        return track

    monkeypatch.setattr(idle_motion, "load_track", load)
    settings = dataclasses.replace(IDLING, idle_motion="slow.safetensors")
    stage = Stage(None, woman)
    stage.waits = False
    for _ in range(30):
        stage.step(face, settings)
    while stage.step(None, settings) is not State.IDLE:
        assert stage.frames < 200
    rendered = len(stage.engine.rendered)
    for _ in range(10):
        assert stage.step(None, settings) is State.IDLE
    assert len(stage.engine.rendered) == rendered
    slow.set()
    stage.waits = True
    for _ in range(10):
        assert stage.step(None, settings) is State.IDLE
    assert len(stage.engine.rendered) > rendered + 5


def test_a_long_idle_motion_is_made_as_it_is_played(
    face: Face, woman: Portrait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a face that is lost for an hour in the middle, and a pause of an hour besides."""
    made: list[float] = []
    between = motion_track._between

    def counted(start: Face | None, end: Face | None, share: float) -> Face | None:
        made.append(share)
        return between(start, end, share)

    monkeypatch.setattr(motion_track, "_between", counted)
    times_s = np.concatenate((np.arange(200), np.arange(200) + 30 * 3600, np.arange(200) + 30 * 7200)) / 30
    faces: list[Face | None] = [moved(face, 0.05 * index) for index in range(600)]
    faces[150:250] = [None] * 100
    save_track(tmp_path / "long.safetensors", MotionTrack(times_s, faces, (640, 480)))
    motion = IdleMotion(str(tmp_path / "long.safetensors"))
    assert len(made) < 30, "where its end goes over into its beginning"
    assert len(motion._meshes) < 30 * 25
    space = PortraitInSpace(mesh_in_square(woman.landmarks_px, woman.box, 256), POINTS)  # type: ignore[arg-type]
    shifts = [motion.stance(space, index / 30, gains_of(IDLING)).shift for index in range(2 * len(motion._meshes))]
    assert np.abs(np.diff(np.stack(shifts), axis=0)).max() < 2, "without a jump"


def test_the_bundled_motion_is_what_its_script_makes() -> None:
    kept, made = load_track(gentle_motion.FILE), gentle_motion.gentle_motion()
    assert len(kept.faces) == len(made.faces)
    for one, other in zip(kept.faces, made.faces, strict=True):
        assert one is not None
        assert other is not None
        # The mesh network's answer for the portrait differs a little from processor to processor.
        np.testing.assert_allclose(one.landmarks_px, other.landmarks_px, atol=0.5)


# The recording


def test_what_is_recorded_is_what_was_seen(tmp_path: Path, face: Face, woman: Portrait) -> None:
    stage = Stage(None, woman)
    stage.animator.recording = recording = MotionRecording(tmp_path / "me.safetensors")
    shown = [None, face, moved(face, 4), None, moved(face, 8)]
    for one in shown:
        stage.step(one, played=False)
    assert recording.frames == 4, "it begins with the first face"
    recording.save()
    kept = load_track(tmp_path / "me.safetensors")
    assert [one is not None for one in kept.faces] == [True, True, False, True]
    np.testing.assert_allclose(kept.times_s, np.arange(4) * 0.04, atol=1e-9)
    last = kept.faces[3]
    assert last is not None
    np.testing.assert_allclose(last.landmarks_px, moved(face, 8).landmarks_px[:468], atol=0.01)
    stage.step(face)
    assert recording.frames == 4, "what is saved takes no more"


def test_every_frame_is_measured_while_it_is_recorded(tmp_path: Path, face: Face, woman: Portrait) -> None:
    """Where keypoints are detected, the face is searched for now and then only."""
    stage = Stage(None, woman, ())
    for _ in range(10):
        stage.step(face, played=False)
    searched = stage.finder.searched
    stage.animator.recording = MotionRecording(tmp_path / "me.safetensors")
    for _ in range(10):
        stage.step(face, played=False)
    assert stage.finder.searched == searched + 10


def test_another_camera_ends_it_and_so_does_a_day(tmp_path: Path, face: Face, woman: Portrait) -> None:
    """Another camera's frames may be of the same size, and show somebody else."""
    stage = Stage(None, woman)
    stage.animator.recording = recording = MotionRecording(tmp_path / "a.safetensors")
    stage.step(face, played=False)
    assert recording.ended == ""
    stage.camera = "two"
    stage.step(face, played=False)
    assert "another camera" in recording.ended
    assert recording.frames == 1
    long = MotionRecording(tmp_path / "b.safetensors")
    for time_s in (0.0, 0.1, 25 * 3600.0, 25 * 3600.1):
        long.take(time_s, face, (640, 480))
    assert "no more than 24 hours" in long.ended
    long.save()
    assert len(load_track(long.path).faces) == 2


def test_another_size_and_too_much_end_it(tmp_path: Path, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = MotionRecording(tmp_path / "a.safetensors")
    recording.take(0.0, face, (640, 480))
    recording.take(0.1, face, (480, 640))
    assert "another size" in recording.ended
    recording.save()
    assert len(load_track(recording.path).faces) == 1
    monkeypatch.setattr(TrackRecorder, "full", property(lambda self: len(self) >= 2))
    long = MotionRecording(tmp_path / "b.safetensors")
    for index in range(4):
        long.take(index / 30, face, (640, 480))
    assert "as many as a motion file takes" in long.ended
    assert long.frames == 2


def test_what_cannot_be_saved_is_said(tmp_path: Path, face: Face) -> None:
    empty = MotionRecording(tmp_path / "a.safetensors")
    empty.take(0.0, None, (640, 480))
    with pytest.raises(AppError, match="no face was seen"):
        empty.save()
    nowhere = MotionRecording(tmp_path / "nowhere" / "a.safetensors")
    nowhere.take(0.0, face, (640, 480))
    with pytest.raises(AppError, match="cannot keep the motion"):
        nowhere.save()
    assert list(tmp_path.iterdir()) == []


# All of it


class Rig:
    """A pipeline between a camera or a motion file and a sink that keeps every picture."""

    def __init__(self, face: Face, portrait: Portrait) -> None:
        self.engine, self.finder, self.sink = FakeEngine(), FakeFinder(face), FakeSink()
        self.engine.keypoint_landmarks = POINTS
        self.cameras = Cameras()
        self.events: list[Event] = []
        self.pipeline = Pipeline(
            lambda: self.engine,
            settings=SETTINGS,
            output=OutputFormat(640, 480, fps_hz=60),
            on_event=self.events.append,
            times=PipelineTimes(0.5, CameraTimes(open_s=1.0, stall_s=0.3, frozen_s=0.4, first_retry_s=0.05)),
            camera_opener=self._open,
            finder_factory=lambda: self.finder,
        )
        self.pipeline.add_sink(self.sink)
        self.pipeline.set_portrait(portrait)

    def _open(self, spec: CameraSpec) -> Camera | TrackCamera:
        return open_performer(spec) if spec.kind == "motion" else self.cameras(spec)

    @property
    def calibrations(self) -> int:
        return sum(isinstance(event, Calibrated) for event in self.events)

    def live_again(self) -> None:
        before = len(self.engine.rendered)
        wait_until(lambda: self.pipeline.state is State.LIVE and len(self.engine.rendered) > before + 5, "live")


@pytest.fixture
def rig(face: Face, woman: Portrait) -> Iterator[Rig]:
    before = set(threading.enumerate())
    rig = Rig(face, woman)
    yield rig
    rig.pipeline.stop(5.0)
    wait_until(lambda: not set(threading.enumerate()) - before, "no thread is left")


def test_no_camera_picture_goes_out_around_motion_files(rig: Rig, file: Path, tmp_path: Path) -> None:
    """A camera, its motion recorded, a file in its place, a file that is damaged, and one that is deleted."""
    rig.pipeline.set_camera(CameraSpec("device", 0))
    rig.pipeline.start()
    rig.live_again()
    rig.pipeline.motion = recording = MotionRecording(tmp_path / "me.safetensors")
    wait_until(lambda: recording.frames > 5, "the motion is taken")
    rig.pipeline.motion = None
    recording.save()
    searched = rig.finder.searched
    for path in (file, recording.path):
        before = rig.calibrations
        rig.pipeline.set_camera(parse_camera(str(path)))
        wait_until(lambda before=before: rig.calibrations > before, "calibrated anew")  # type: ignore[misc]
        rig.live_again()
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:3000])
    rig.pipeline.set_camera(CameraSpec("motion", path=damaged))

    def told(words: str) -> bool:
        return any(isinstance(one, CameraFailed) and words in one.message for one in rig.events)

    # On a busy machine the rig, which waits for 0.3 s only, tells of others, too.
    wait_until(lambda: told("cannot be read as a motion file"), "the damaged one is told")
    rig.live_again()  # the file before goes on
    file.unlink()
    rig.live_again()
    assert rig.finder.searched < searched + 100, "what plays is not searched; the camera's last frames were"
    assert len(rig.sink.pictures) > 30
    assert max(leaked(picture.rgb) for picture in rig.sink.pictures) < 40
