"""A webcam on /dev/video0: what it is asked for, and what its frames may be."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.camera_spec import parse_camera
from app.pipeline.capture.camera import CameraFormat
from app.pipeline.capture.device_camera import open_device
from app.pipeline.capture.linux_cameras import LinuxCameras
from tests.app.linux_machine import LinuxMachine
from tests.app.pipeline.capture.conftest import PlugIn
from tests.app.pipeline.capture.fake_capture import Clock, FakeCapture


@pytest.fixture
def webcam(tmp_path: Path) -> LinuxCameras:
    """A machine with one."""
    return LinuxCameras(LinuxMachine(tmp_path / "machine").add(0, "HD Webcam").devices)


def test_rgb_of_the_size_asked_for(capture: PlugIn, webcam: LinuxCameras) -> None:
    made = capture().made
    camera = open_device(parse_camera("0"), webcam)
    assert camera.name == "HD Webcam (/dev/video0)"
    assert camera.format == CameraFormat(640, 480, 30.0)
    assert camera.is_device
    rgb = camera.read()
    assert rgb.shape == (480, 640, 3)
    assert rgb[0, 0].tolist() == [30, 20, 10]
    camera.close()
    camera.close()
    assert [one.released for one in made] == [1]


def test_the_pixel_format_is_asked_for_before_the_size(capture: PlugIn, webcam: LinuxCameras) -> None:
    made = capture().made
    open_device(parse_camera("0@1280x720@25"), webcam)
    assert made[0].arguments[:2] == ("/dev/video0", cv2.CAP_V4L2)
    assert made[0].asked == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 25),
        (cv2.CAP_PROP_BUFFERSIZE, 2),
    ]


def test_a_format_that_opencv_leaves_in_one_row_is_passed_over(capture: PlugIn, webcam: LinuxCameras) -> None:
    made = capture(formats=("YUYV",)).made
    camera = open_device(parse_camera("0"), webcam)
    assert camera.read().shape == (480, 640, 3)
    assert [one.pixel_format for one in made] == ["BGR3", "YUYV"]
    assert [one.released for one in made] == [1, 0]


def test_that_format_is_set_right_where_there_is_no_other(capture: PlugIn, webcam: LinuxCameras) -> None:
    capture(formats=())
    rgb = open_device(parse_camera("0"), webcam).read()
    assert rgb.shape == (480, 640, 3)
    assert rgb[0, 0].tolist() == [30, 20, 10]


def test_frames_of_no_use(capture: PlugIn, webcam: LinuxCameras) -> None:
    kind = capture(size_px=(32, 24))
    with pytest.raises(CameraError, match=r"got pictures of shape \(24, 32, 3\), expected \(height, width, 3\)"):
        open_device(parse_camera("0"), webcam)
    assert [one.released for one in kind.made] == [1, 1, 1]


def test_the_rate_is_measured(capture: PlugIn, webcam: LinuxCameras) -> None:
    capture(size_px=(1280, 720), step_s=1 / 15)
    assert open_device(parse_camera("0"), webcam).format == CameraFormat(1280, 720, 15.0)


def test_a_slow_camera_is_not_waited_for(capture: PlugIn, webcam: LinuxCameras) -> None:
    made = capture(step_s=1.0).made
    assert open_device(parse_camera("0"), webcam).format.fps_hz == 1.0
    assert made[0].grabbed == 4


def test_a_damaged_frame_is_passed_over_but_not_many(capture: PlugIn, webcam: LinuxCameras) -> None:
    capture(damaged=frozenset({2, 14, 15}), frames=16)
    camera = open_device(parse_camera("0"), webcam)
    camera.read()
    with pytest.raises(CameraError, match="gives no frames any more"):
        camera.read()


def test_a_frame_that_opencv_cannot_decode_is_passed_over(
    capture: PlugIn, webcam: LinuxCameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = capture()
    camera = open_device(parse_camera("0"), webcam)
    read = kind.read

    def once(_: FakeCapture) -> tuple[bool, NDArray[np.uint8] | None]:
        monkeypatch.setattr(kind, "read", read)
        raise cv2.error("wrong size")

    monkeypatch.setattr(kind, "read", once)
    assert camera.read().shape == (480, 640, 3)


@pytest.mark.parametrize("unusable", [5, 30, 150])
def test_a_camera_that_wakes_up_with_unusable_pictures_is_judged_by_time(
    capture: PlugIn, webcam: LinuxCameras, unusable: int
) -> None:
    kind = capture(damaged=frozenset(range(1, unusable + 1)))
    assert open_device(parse_camera("0"), webcam).format == CameraFormat(640, 480, 30.0)
    assert len(kind.made) == 1


def test_a_camera_that_never_gives_a_usable_picture_is_given_up_in_time(
    capture: PlugIn, clock: Clock, webcam: LinuxCameras
) -> None:
    start_s = clock.now_s
    capture(frames=0)
    with pytest.raises(CameraError, match="it opens, but gives no frames"):
        open_device(parse_camera("0"), webcam)
    assert 6 <= clock.now_s - start_s < 7  # two seconds for each pixel format


def test_no_frames_for_an_unknown_reason(capture: PlugIn, webcam: LinuxCameras) -> None:
    capture(frames=0)
    with pytest.raises(CameraError, match="it opens, but gives no frames"):
        open_device(parse_camera("0"), webcam)
    capture(opens=False)
    with pytest.raises(CameraError, match="in use by another program, or not permitted"):
        open_device(parse_camera("0"), webcam)


def test_a_change_of_size_ends_it(capture: PlugIn, webcam: LinuxCameras) -> None:
    kind = capture()
    camera = open_device(parse_camera("0"), webcam)
    kind.size_px = (320, 240)
    with pytest.raises(CameraError, match=r"got \(240, 320, 3\), expected \(480, 640, 3\)"):
        camera.read()


def test_it_is_let_go_of_when_the_blocked_read_is_over(
    capture: PlugIn, webcam: LinuxCameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = capture()
    camera = open_device(parse_camera("0"), webcam)
    reading, go_on = threading.Event(), threading.Event()

    def blocked(_: FakeCapture) -> tuple[bool, None]:
        reading.set()
        go_on.wait(20)
        return False, None

    monkeypatch.setattr(kind, "read", blocked)
    failed: list[CameraError] = []

    def read() -> None:
        try:
            camera.read()
        except CameraError as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(20)
    camera.close()
    assert kind.made[0].released == 0
    go_on.set()
    reader.join(20)
    assert len(failed) == 1
    assert kind.made[0].released == 1
