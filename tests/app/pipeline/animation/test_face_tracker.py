"""Where the performer's face is, and in which square."""

import dataclasses

import numpy as np
import pytest

from app.pipeline.animation.face_tracker import FaceTracker
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.settings import LiveSettings
from mcnet.media.crop import SquareBox, frame_face
from mcnet.media.faces import Face
from tests.app.fakes import FakeFinder, marked_picture
from tests.app.pipeline.animation.stage import DT_S, SETTINGS


class Followed:
    """A face that a tracker follows, in frames of some time each."""

    def __init__(self, face: Face | None) -> None:
        self.finder = FakeFinder(face)
        self.tracker = FaceTracker(self.finder, Stopwatch(lambda *_: None))
        self.frames = 0

    def look(self) -> bool:
        self.frames += 1
        return self.tracker.look(CameraFrame(self.frames, self.frames * DT_S, marked_picture(), "one"))

    def square(self, settings: LiveSettings = SETTINGS) -> SquareBox:
        box = self.tracker.square(DT_S, settings)
        assert box is not None
        return box


def test_zoom_and_nudge_move_the_crop(face: Face) -> None:
    followed = Followed(face)
    followed.look()
    plain = followed.square()
    moved = followed.square(dataclasses.replace(SETTINGS, zoom=1.25, nudge_x=0.1, nudge_y=-0.1))
    assert moved.side == pytest.approx(plain.side / 1.25)
    assert moved.center_x - plain.center_x == pytest.approx(0.1 * plain.side)
    assert moved.center_y - plain.center_y == pytest.approx(-0.1 * plain.side)


def test_the_finder_knows_when_a_frame_was_taken(face: Face) -> None:
    followed = Followed(face)
    for frame in (1, 2):
        followed.look()
        assert followed.finder.time_s == frame * DT_S


@pytest.mark.parametrize("left", [True, False])
def test_who_comes_back_elsewhere_is_framed_there_at_once_and_who_moves_is_followed(face: Face, left: bool) -> None:
    followed = Followed(face)
    assert followed.look()
    before = followed.square()
    if left:
        followed.finder.face = None
        assert not followed.look()
        followed.tracker.leave()
    aside = Face(face.landmarks_px + np.array([150, 20, 0], np.float32), 1.0)
    followed.finder.face = aside
    assert followed.look() is left
    box, there = followed.square(), frame_face(aside)
    if left:
        assert dataclasses.astuple(box) == pytest.approx(dataclasses.astuple(there))
    else:
        assert before.center_x < box.center_x < there.center_x - 1


def test_who_leaves_the_picture_sideways_is_gone_before_the_mesh_only_guesses(face: Face) -> None:
    followed = Followed(face)
    followed.look()
    assert followed.tracker.face is face
    aside = face.landmarks_px.copy()
    aside[:, 0] += 640 - aside[:, 0].min() - 0.5 * np.ptp(aside[:, 0])  # half of it is outside
    followed.finder.face = Face(aside, 1.0)
    followed.look()
    assert followed.tracker.face is None
