"""From where the performer's motion counts, and when from elsewhere."""

import dataclasses

import numpy as np
import pytest

from app.pipeline.animation.reference_store import alike, likeness_of
from app.pipeline.events import (
    Calibrated,
    CalibrationMissed,
    CalibrationProgress,
    ReferenceImproved,
    SourceReady,
)
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.media.faces import Face
from mcnet.media.head_motion import Head
from tests.app.pipeline.animation.stage import POINTS, SETTINGS, Stage, turned


def test_recalibrating_while_live_shows_the_avatar_all_along(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.engine.shift = 0.2
    stage.animator.calibrate(0.0)
    for _ in range(20):
        output = stage.step().output
        assert output is not None
        assert output.state is State.LIVE
    np.testing.assert_allclose(stage.engine.rendered[-1].value[0, 4], [0.0, 0.1], atol=1e-6)


@pytest.mark.parametrize("camera", [True, False], ids=["a face that is gone", "a camera that is gone"])
def test_a_face_that_comes_later_is_not_this_very_moments(face: Face, woman: Portrait, camera: bool) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    before = stage.animator._references.reference
    stage.finder.face = None
    for _ in range(30):
        stage.step(frame=camera)
    stage.animator.calibrate(0.0)
    for _ in range(30):
        stage.step(frame=camera)
    stage.finder.face = turned(face, 60)
    for _ in range(30):
        stage.step()
    assert stage.animator._references.reference is before
    calibrations = [event for event in stage.events if isinstance(event, Calibrated | CalibrationMissed)]
    assert [type(event) for event in calibrations] == [Calibrated, CalibrationMissed]
    progress = [event for event in stage.events if isinstance(event, CalibrationProgress)]
    assert progress[-1].hint == "show your face to the camera"


def test_a_face_that_is_missed_for_a_moment_is_this_very_moments(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    before = stage.animator._references.reference
    stage.finder.face = None
    stage.animator.calibrate(0.0)
    for _ in range(3):
        stage.step()
    stage.finder.face = face
    for _ in range(3):
        stage.step()
    assert stage.animator._references.reference is not before
    assert not any(isinstance(event, CalibrationMissed) for event in stage.events)


def test_without_a_reference_it_is_found_hands_free_after_all(face: Face, woman: Portrait) -> None:
    stage = Stage(None, woman, POINTS)
    stage.step()
    stage.animator.calibrate(0.0)
    for _ in range(30):
        stage.step()
    progress = [event for event in stage.events if isinstance(event, CalibrationProgress)]
    assert progress[-1].hint == "show your face to the camera"
    assert stage.animator._references.calibrating, "the slate may say so as long as it is so"
    stage.finder.face = face
    stage.until(State.LIVE)
    progress = [event for event in stage.events if isinstance(event, CalibrationProgress)]
    assert progress[-1].hint != "show your face to the camera"
    assert [type(event) for event in stage.events if isinstance(event, Calibrated | CalibrationMissed)] == [Calibrated]
    assert any(0 < event.share < 1 for event in stage.events if isinstance(event, CalibrationProgress))


@pytest.mark.parametrize(
    ("points", "settings", "mesh", "measured", "in_space"),
    [
        (POINTS, SETTINGS, True, True, True),
        (POINTS, dataclasses.replace(SETTINGS, motion="plane"), True, True, False),
        (POINTS, dataclasses.replace(SETTINGS, keypoints="detected"), True, False, False),
        (POINTS, SETTINGS, False, False, False),
        ((), SETTINGS, True, False, False),
    ],
    ids=["in space", "in the plane", "detected", "a portrait without a mesh", "a model without meaning"],
)
def test_it_tells_what_was_measured_and_what_the_calibration_asked_for(
    face: Face,
    woman: Portrait,
    points: tuple[int, ...],
    settings: LiveSettings,
    mesh: bool,
    measured: bool,
    in_space: bool,
) -> None:
    stage = Stage(face, woman if mesh else dataclasses.replace(woman, landmarks_px=None), points)
    stage.until(State.LIVE, settings)
    assert [event.measured for event in stage.events if isinstance(event, SourceReady)][-1] is measured
    assert [event.in_space for event in stage.events if isinstance(event, Calibrated)] == [in_space]


def test_a_more_neutral_expression_takes_the_place_of_the_calibrated_one(face: Face, woman: Portrait) -> None:
    """Who is caught in the middle of a word is not measured from it for the rest of the call."""
    speaking = face.landmarks_px.copy()
    lower = [14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377]
    speaking[lower, 1] += 0.12 * np.ptp(face.landmarks_px[:, 1])
    stage = Stage(Face(speaking, 1.0), woman, POINTS)
    stage.until(State.LIVE)
    first = stage.animator._references.reference
    stage.finder.face = face
    for _ in range(30):
        stage.step()
    second = stage.animator._references.reference
    assert first is not None
    assert second is not None
    assert first.head is not None
    assert second.head is not None
    assert second.head.openings.mouth < first.head.openings.mouth - 0.1
    assert second.head.shift.tolist() == first.head.shift.tolist()  # where the head was stays
    stage.finder.face = Face(speaking, 1.0)
    for _ in range(30):
        stage.step()
    third = stage.animator._references.reference
    assert third is second, "the word does not come back as the reference"
    improved = [event for event in stage.events if isinstance(event, ReferenceImproved)]
    assert improved == [ReferenceImproved(stage.animator._references.score, ())]
    assert improved[0].score > next(event.score for event in stage.events if isinstance(event, Calibrated))


def test_a_performer_whose_face_is_measured_otherwise_by_and_by_is_not_another_one(face: Face, woman: Portrait) -> None:
    speaking = face.landmarks_px.copy()
    lower = [14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377]
    speaking[lower, 1] += 0.12 * np.ptp(face.landmarks_px[:, 1])
    stage = Stage(Face(speaking, 1.0), woman, POINTS)
    stage.until(State.LIVE)
    longer = [np.array([1, 1 + 0.02 * step, 1], np.float32) for step in range(12)]
    for factor in longer:
        stage.finder.face = Face(speaking * factor, 1.0)
        stage.step()
    first, last = (likeness_of(Head.of((speaking * factor).astype(np.float64))) for factor in (longer[0], longer[-1]))
    assert not alike(first, last)
    stage.finder.face = Face(face.landmarks_px * longer[-1], 1.0)
    for _ in range(10):
        stage.step()
    assert any(isinstance(event, ReferenceImproved) for event in stage.events)


@pytest.mark.parametrize("frames", [1, 30])
def test_a_better_expression_has_to_last_and_to_look_ahead(face: Face, woman: Portrait, frames: int) -> None:
    speaking = face.landmarks_px.copy()
    speaking[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152], 1] += 0.12 * np.ptp(face.landmarks_px[:, 1])
    stage = Stage(Face(speaking, 1.0), woman, POINTS)
    stage.until(State.LIVE)
    first = stage.animator._references.reference
    stage.finder.face = turned(face, 40) if frames > 1 else face
    for _ in range(frames):
        stage.step()
    assert stage.animator._references.reference is first
