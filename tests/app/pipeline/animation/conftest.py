"""An animator whose model asks nobody for keypoints."""

import pytest

from app.pipeline.portraits import Portrait
from mcnet.arrays import Rgb
from mcnet.media.faces import Face
from tests.app.pipeline.animation.stage import POINTS, Stage


@pytest.fixture
def undetected(face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A model that was trained on measured keypoints alone: whoever crops a frame or asks the detector fails."""

    def no_crop(*_: object) -> Rgb:
        raise AssertionError("the performer was cropped")

    monkeypatch.setattr("app.pipeline.animation.performer.crop", no_crop)
    stage = Stage(face, None, POINTS)
    stage.engine.places_suffice, stage.engine.detects = True, False
    stage.animator.set_portrait(woman)
    return stage
