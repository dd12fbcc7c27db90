"""What a frame tells of the performer, and when the face is searched for it."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from app.pipeline.animation.face_tracker import LOOK_EVERY_S
from app.pipeline.animation.performer import Performer
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.reference_finder import ReferenceFinder
from app.pipeline.animation.seen import Seen
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Event,
)
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.engine import EngineError
from mcnet.media.crop import frame_face
from mcnet.media.faces import Face
from mcnet.media.head_motion import mesh_in_square
from tests.app.fakes import FakeEngine, FakeFinder, marked_picture
from tests.app.pipeline.animation.stage import DT_S, POINTS, SETTINGS, Stage, shown_head


class Watched:
    """A performer before a camera, whose frames come at a frame's time each.

    Args:
        face: what the finder finds.
        points: which points of the face the keypoints are, where a mesh measures them; empty: they are detected.
    """

    def __init__(self, face: Face, points: tuple[int, ...] = ()) -> None:
        self.engine = FakeEngine()
        self.engine.keypoint_landmarks = points
        self.finder = FakeFinder(face)
        events: list[Event] = []
        references = ReferenceFinder(None, events.append)
        watch = Stopwatch(lambda *_: None)
        self.performer = Performer(self.engine, self.finder, references, watch, events.append)
        self.now_s = 100.0
        self.frames = 0

    def see(self, settings: LiveSettings = SETTINGS, *, camera: str = "one", rgb: Rgb | None = None) -> Seen:
        self.now_s += DT_S
        self.frames += 1
        frame = CameraFrame(self.frames, self.now_s, marked_picture() if rgb is None else rgb, camera)
        self.performer.meet(frame)
        measured = self.engine.keypoint_landmarks != ()
        return self.performer.see(frame, settings, measured=measured, recording=None)

    def follow(self, seen: Seen) -> PerformerView:
        return self.performer.follow(seen.view, measured=self.engine.keypoint_landmarks != ())

    def seen_and_followed(self, settings: LiveSettings = SETTINGS) -> PerformerView:
        seen = self.see(settings)
        assert seen.moves
        return self.follow(seen)


def test_a_followed_face_is_not_searched_in_every_frame(face: Face) -> None:
    watched = Watched(face)
    watched.seen_and_followed()
    searched = watched.finder.searched
    views = [watched.seen_and_followed() for _ in range(30)]
    looks = watched.finder.searched - searched
    assert looks == pytest.approx(30 * DT_S / LOOK_EVERY_S, abs=1.1)  # in whole frames, so a little less often
    assert sum(view.landmarks_px is not None for view in views) == looks
    assert all(view.keypoints is not None for view in views)


def test_a_face_that_moves_is_searched_more_often(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    searched = stage.finder.searched
    for _ in range(30):
        stage.engine.shift += 0.05  # of half the crop's side, each frame
        stage.step()
    assert stage.finder.searched - searched == 10  # every third frame of 0.04 s is the first after 0.1 s
    searched = stage.finder.searched
    for index in range(30):
        stage.engine.shift += 0.03 if index % 2 else -0.03  # trembling is no moving
        stage.step()
    assert stage.finder.searched - searched <= 30 * DT_S / LOOK_EVERY_S + 1
    searched = stage.finder.searched
    for _ in range(30):
        stage.engine.scale *= 1.02  # it comes nearer
        stage.step()
    assert stage.finder.searched - searched in (10, 11)  # once more where it becomes larger than heads do


@pytest.mark.parametrize("stays", [True, False])
def test_where_a_face_is_counts_in_the_camera_not_in_the_crop(face: Face, stays: bool) -> None:
    """The crop widens and wanders, over a face that stays where it is; or the face goes along."""
    watched = Watched(face)
    watched.seen_and_followed()
    searched = watched.finder.searched
    for index in range(1, 31):
        zoom, nudge_x = (1.005 if stays else 1.02) ** index, 0.01 * index
        if stays:
            watched.engine.scale, watched.engine.shift = zoom, -2 * nudge_x * zoom
        watched.seen_and_followed(dataclasses.replace(SETTINGS, zoom=zoom, nudge_x=nudge_x))
    looks = watched.finder.searched - searched
    assert looks == (pytest.approx(30 * DT_S / LOOK_EVERY_S, abs=1.1) if stays else 10)


def test_the_picture_does_not_wait_for_the_search(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.now_s += 10 * LOOK_EVERY_S
    searched = stage.finder.searched
    step = stage.only_step()
    assert step.output is not None
    assert step.output.state is State.LIVE
    assert step.view is not None
    assert step.view.landmarks_px is None
    assert stage.finder.searched == searched
    followed = stage.animator.follow(step.view)
    assert stage.finder.searched == searched + 1
    assert followed.landmarks_px is face.landmarks_px
    assert followed.frame is step.view.frame
    assert stage.animator.follow(step.view).landmarks_px is None  # it was searched already


def test_a_lost_face_and_a_calibration_are_searched_for_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    searched = stage.finder.searched
    while stage.finder.searched == searched:  # it is found to be lost after a picture of it
        output = stage.step().output
        assert output is not None
        assert output.state is State.LIVE
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert output.state is State.HOLD
    assert stage.finder.searched == searched + 1
    stage.finder.face = face
    stage.until(State.LIVE)
    stage.animator.calibrate(1.0)
    for _ in range(5):
        searched = stage.finder.searched
        step = stage.only_step()
        assert step.view is not None
        assert step.view.landmarks_px is face.landmarks_px  # of this very frame: the calibration needs them
        assert stage.animator.follow(step.view) is step.view
        assert stage.finder.searched == searched + 1


def test_who_asks_for_a_calibration_is_the_performer(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in the background may have been followed meanwhile: the face is chosen anew."""
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    chosen: list[bool] = []
    monkeypatch.setattr(stage.finder, "choose", lambda: chosen.append(True))
    stage.animator.calibrate(1.0)
    assert chosen == [True]
    stage.until(State.LIVE)
    assert chosen == [True]


def test_after_frames_that_did_not_come_the_face_is_searched_for_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.until(State.HOLD, frame=False)
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert output.state is State.LIVE
    assert stage.finder.searched == searched + 1


def test_another_camera_or_size_is_searched_at_once(face: Face) -> None:
    watched = Watched(face)
    watched.seen_and_followed()
    searched = watched.finder.searched
    frames = [watched.see(camera="two"), watched.see(camera="two", rgb=marked_picture(960, 1280))]
    assert watched.finder.searched == searched + 2
    for seen in frames:
        assert seen.searched
        assert seen.view.landmarks_px is face.landmarks_px
        assert watched.follow(seen) is seen.view


def test_after_a_search_that_failed_the_next_frame_is_searched_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.now_s += 10 * LOOK_EVERY_S
    view = stage.only_step().view
    assert view is not None
    stage.finder.fail = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        stage.animator.follow(view)
    stage.animator.recover()
    stage.finder.fail = None
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert output.state is State.LIVE
    assert stage.finder.searched == searched + 1


def test_another_size_of_frames_is_framed_afresh(face: Face) -> None:
    watched = Watched(face)
    for _ in range(5):
        watched.seen_and_followed()
    double = Face(face.landmarks_px * 2, 1.0)
    watched.finder.face = double
    box = watched.see(rgb=marked_picture(960, 1280)).view.box
    assert box is not None
    assert dataclasses.astuple(box) == pytest.approx(dataclasses.astuple(frame_face(double)))


def test_one_frame_without_keypoints_spoils_no_other(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    settings = dataclasses.replace(SETTINGS, smoothing=0.5)
    stage.until(State.LIVE, settings)
    stage.engine.nan = True
    with pytest.raises(EngineError, match="gave NaN for the keypoints"):
        stage.step(settings)
    stage.animator.recover()
    stage.engine.nan = False
    stage.until(State.LIVE, settings)
    assert np.isfinite(stage.engine.rendered[-1].value).all()


def test_measured_keypoints_need_no_detector_once_calibrated(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    stage.engine.nan = True  # whatever the detector would say now
    searched = stage.finder.searched
    for _ in range(20):
        step = stage.step()
        assert step.output is not None
        assert step.output.state is State.LIVE
        assert step.view is not None
        assert step.view.landmarks_px is face.landmarks_px
        assert step.view.keypoints is not None
        assert step.view.box is not None
        np.testing.assert_allclose(
            step.view.keypoints,
            mesh_in_square(face.landmarks_px, step.view.box, 256)[list(POINTS), :2].astype(np.float32),
            atol=1e-6,
        )
    assert stage.finder.searched - searched == 20  # the mesh measures every frame, and nothing else is looked for


def test_what_is_hardly_a_face_is_not_followed(face: Face) -> None:
    """It may be a poster behind the performer: the frame after it is searched, and judged, anew."""
    watched = Watched(face, POINTS)
    assert watched.see().moves
    forgotten: list[bool] = []
    watched.finder.forget = lambda: forgotten.append(True)  # type: ignore[method-assign]
    squeezed = face.landmarks_px * np.array([1.8, 0.6, 1], np.float32)
    watched.finder.face = Face(squeezed + (face.landmarks_px - squeezed).mean(0), 1.0)
    assert not watched.see().moves
    assert forgotten == [True]


@pytest.mark.parametrize("change", ["dark", "jump", "melted"])
def test_a_doubtful_frame_is_judged_before_it_is_shown(face: Face, woman: Portrait, change: str) -> None:
    lit = marked_picture()
    lit[..., 1] = lit[..., 0]
    stage = Stage(face, woman)
    for _ in range(20):
        stage.animator.follow(view) if (view := stage.only_step(rgb=lit).view) is not None else None
    live = stage.only_step(rgb=lit).output
    assert live is not None
    assert live.state is State.LIVE
    searched = stage.finder.searched
    stage.finder.face = None
    if change == "jump":
        stage.engine.shift = 0.5
    if change == "melted":
        stage.engine.scale = 0.2
    rendered = len(stage.engine.rendered)
    output = stage.only_step(rgb=lit // 20 if change == "dark" else lit).output
    assert output is not None
    assert (output.state, output.fresh) == (State.HOLD, False)
    assert stage.finder.searched == searched + 1
    assert len(stage.engine.rendered) == rendered, "nothing is made of it"


def test_a_doubtful_frame_that_shows_the_face_goes_on(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.5
    searched = stage.finder.searched
    output = stage.only_step().output
    assert output is not None
    assert (output.state, output.fresh) == (State.LIVE, True)
    assert stage.finder.searched == searched + 1


@pytest.mark.parametrize(
    "change",
    [{}, {"motion": "plane"}, {"relative": False}, {"keypoints": "detected"}],
    ids=["in space", "in the plane", "absolute", "detected ones are asked for"],
)
def test_where_places_suffice_neither_crop_nor_detector_is_needed(undetected: Stage, change: dict[str, Any]) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    undetected.until(State.LIVE, settings)
    step = undetected.step(settings)
    assert step.output is not None
    assert step.output.state is State.LIVE
    assert step.view is not None
    assert step.view.box is not None
    assert step.view.keypoints is not None
    assert undetected.finder.face is not None
    source = undetected.animator._source
    assert source is not None
    assert source.space is not None
    assert source.cache.measured
    measured = mesh_in_square(undetected.finder.face.landmarks_px, step.view.box, 256)[list(POINTS), :2]
    np.testing.assert_allclose(step.view.keypoints, measured, atol=1e-5)
    for _ in range(20):  # until it has glided there
        undetected.step(settings)
    if not settings.relative:
        np.testing.assert_allclose(shown_head(undetected), measured, atol=1e-5)
