"""Cameras on a clock of the test's own, and a webcam that is none."""

from collections.abc import Callable

import cv2
import pytest

from app.pipeline.capture import camera, device_camera, file_camera
from tests.app.pipeline.capture.fake_capture import Clock, FakeCapture

PlugIn = Callable[..., type[FakeCapture]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (camera, device_camera, file_camera):
        monkeypatch.setattr(module, "monotonic", clock)
    monkeypatch.setattr(device_camera, "sleep", clock.pass_s)
    return clock


@pytest.fixture
def capture(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """What OpenCV opens from now on; its keyword arguments are attributes of `FakeCapture`."""

    def plug_in(**attributes: object) -> type[FakeCapture]:
        kind = type("Capture", (FakeCapture,), {"clock": clock, "made": [], **attributes})
        monkeypatch.setattr(cv2, "VideoCapture", kind)
        return kind

    return plug_in
