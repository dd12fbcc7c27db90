"""The portrait as one engine knows it."""

import dataclasses

import numpy as np

from app.pipeline.events import (
    SourceFailed,
    SourceReady,
)
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from mcnet.media.faces import Face
from tests.app.fakes import keypoints
from tests.app.pipeline.animation.stage import POINTS, SETTINGS, Stage, shown_head


def test_a_portrait_seen_before_is_not_encoded_again(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.animator.set_portrait(woman)
    assert stage.engine.sources == 1
    assert [event.from_cache for event in stage.events if isinstance(event, SourceReady)] == [False, True]


def test_keypoints_that_are_to_be_detected_after_all_are_found_anew(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    settings = dataclasses.replace(SETTINGS, keypoints="detected")
    first = stage.step(settings).output
    assert first is not None
    assert first.state is State.CALIBRATING  # measured and detected ones are never mixed
    stage.until(State.LIVE, settings)
    for _ in range(20):
        stage.step(settings)
    np.testing.assert_allclose(shown_head(stage), keypoints().value[0], atol=1e-6)


def test_a_portrait_without_a_face_is_detected(face: Face, woman: Portrait) -> None:
    stage = Stage(face, dataclasses.replace(woman, landmarks_px=None), POINTS)
    stage.until(State.LIVE)
    assert stage.animator._source is not None
    assert not stage.animator._source.cache.measured
    stage.animator.set_portrait(woman)
    output = stage.step().output
    assert output is not None
    assert output.state is State.CALIBRATING
    stage.until(State.LIVE)
    assert stage.animator._source.cache.measured


def test_a_portrait_whose_keypoints_cannot_be_found_is_refused(undetected: Stage, woman: Portrait) -> None:
    undetected.until(State.LIVE)
    faceless = dataclasses.replace(woman, square=np.zeros_like(woman.square), landmarks_px=None)
    undetected.animator.set_portrait(faceless)
    assert undetected.events[-1] == SourceFailed("woman_1", "this model cannot detect any")
    undetected.until(State.LIVE)  # the one before stays
