"""Webcams of systems that list them: Windows, macOS, and others."""

from collections.abc import Callable

import cv2
import pytest

from app.errors import CameraError
from app.pipeline.camera_spec import parse_camera
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.capture.device_camera import CameraSystem, FoundDevice, open_device
from app.pipeline.capture.enumerated_cameras import Enumerated, EnumeratedCameras
from app.pipeline.capture.macos_cameras import MacCameras
from app.pipeline.capture.windows_cameras import WindowsCameras
from tests.app.pipeline.capture.conftest import PlugIn

THERE = [
    Enumerated(0, "HD Webcam", r"\\?\usb#1"),
    Enumerated(1, "OBS Virtual Camera", "obs"),
    Enumerated(2, "Unity Video Capture #2"),
    Enumerated(3, "Old Cam"),
]
MakeSystem = Callable[[Callable[[int], list[Enumerated]]], CameraSystem]
OTHERS = pytest.mark.parametrize("make", [MacCameras, EnumeratedCameras])


def there(_: int) -> list[Enumerated]:
    return THERE


def test_windows_cameras_by_their_paths_without_virtual_ones() -> None:
    assert WindowsCameras(there).cameras() == [CameraInfo("HD Webcam", r"\\?\usb#1"), CameraInfo("Old Cam", "3")]


@OTHERS
def test_elsewhere_by_their_numbers(make: MakeSystem) -> None:
    assert make(there).cameras() == [CameraInfo("HD Webcam", "0"), CameraInfo("Old Cam", "3")]
    with pytest.raises(CameraError, match="there is no such camera"):
        make(there).find(parse_camera(r"\\?\usb#1"))


@pytest.mark.parametrize("make", [WindowsCameras, MacCameras, EnumeratedCameras])
def test_a_camera_that_is_not_there_is_told_with_those_that_are(make: MakeSystem) -> None:
    with pytest.raises(CameraError, match=r"camera 7: .*plug it in, or choose another: 0 \(HD Webcam\), 1 \(OBS"):
        make(there).find(parse_camera("7"))
    with pytest.raises(CameraError, match=r"camera 0: .*plug one in; no camera is there at all"):
        make(lambda _: []).find(parse_camera("0"))


@pytest.mark.parametrize(
    ("make", "backend"),
    [(WindowsCameras, cv2.CAP_DSHOW), (MacCameras, cv2.CAP_AVFOUNDATION), (EnumeratedCameras, cv2.CAP_ANY)],
)
def test_each_lists_and_opens_with_its_own_backend(capture: PlugIn, make: MakeSystem, backend: int) -> None:
    made, listed = capture().made, []

    def enumerate_them(asked: int) -> list[Enumerated]:
        listed.append(asked)
        return THERE

    open_device(parse_camera("3"), make(enumerate_them))
    assert listed == [backend]
    assert made[0].arguments[:2] == (3, backend)


def test_windows_gets_all_wishes_with_the_opening(capture: PlugIn) -> None:
    made = capture().made
    system = WindowsCameras(there)
    assert system.find(parse_camera(r"\\?\USB#1")) == FoundDevice("HD Webcam", 0)
    assert open_device(parse_camera(r"\\?\USB#1@1280x720@25"), system).name == "HD Webcam"
    assert list(made[0].arguments[2]) == [
        *(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        *(cv2.CAP_PROP_FRAME_WIDTH, 1280),
        *(cv2.CAP_PROP_FRAME_HEIGHT, 720),
        *(cv2.CAP_PROP_FPS, 25),
    ]


def test_windows_tries_the_next_format_where_one_does_not_open(capture: PlugIn) -> None:
    made = capture(opens=False).made
    with pytest.raises(CameraError, match=r"; allow it under Settings > Privacy & security > Camera$"):
        open_device(parse_camera("0"), WindowsCameras(there))
    assert len(made) == 3


def test_a_mac_is_not_asked_for_a_pixel_format(capture: PlugIn) -> None:
    made = capture(formats=()).made
    open_device(parse_camera("0@1280x720"), MacCameras(there))
    assert [one.asked for one in made] == 3 * [
        [
            (cv2.CAP_PROP_FRAME_WIDTH, 1280),
            (cv2.CAP_PROP_FRAME_HEIGHT, 720),
            (cv2.CAP_PROP_FPS, 30.0),
            (cv2.CAP_PROP_BUFFERSIZE, 2),
        ]
    ]


def test_a_mac_tells_where_cameras_are_allowed(capture: PlugIn) -> None:
    made = capture(opens=False).made
    with pytest.raises(CameraError, match=r"; allow it under System Settings > Privacy & Security > Camera$"):
        open_device(parse_camera("0"), MacCameras(there))
    assert len(made) == 1
