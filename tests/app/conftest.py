"""Faces and portraits for the app's tests, found once, and as many processors as on the smallest machine."""

from pathlib import Path

import numpy as np
import pytest

from app.pipeline.portraits import Portrait, PortraitStore, load_portrait
from mcnet.media.faces import Face
from tests.conftest import TWO_PROCESSORS


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every machine settings are those of one that has two: a test says so where it wants more."""
    monkeypatch.setattr(*TWO_PROCESSORS, raising=False)


@pytest.fixture(scope="session")
def woman() -> Portrait:
    """A bundled portrait, prepared."""
    return load_portrait("woman_1", PortraitStore(Path("nowhere")))


@pytest.fixture(scope="session")
def face(woman: Portrait) -> Face:
    """A face in the middle of a camera's 640 x 480 picture."""
    assert woman.landmarks_px is not None
    landmarks = woman.landmarks_px.copy()
    landmarks *= 200 / np.ptp(landmarks[:, 1])
    landmarks[:, :2] += np.array([320, 240], np.float32) - landmarks[:, :2].mean(axis=0)
    return Face(landmarks, 1.0)
