"""Webcams of a Linux machine."""

import errno
import os
from pathlib import Path

import pytest

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.capture.device_camera import FoundDevice, open_device
from app.pipeline.capture.linux_cameras import LinuxCameras
from app.pipeline.v4l2 import VideoDevices
from tests.app.linux_machine import METADATA, OUTPUT, LinuxMachine
from tests.app.pipeline.capture.conftest import PlugIn


def test_cameras_by_name(tmp_path: Path) -> None:
    machine = (
        LinuxMachine(tmp_path)
        .add(10, "Second")
        .add(2, "HD Webcam")
        .link("usb-HD-video-index0", 2)
        .add(3, "HD Webcam", METADATA)
        .add(4, "Decoder", OUTPUT)
        .add(5, "Locked", error=errno.EACCES)
    )
    assert LinuxCameras(machine.devices).cameras() == [
        CameraInfo("HD Webcam", "/dev/v4l/by-id/usb-HD-video-index0"),
        CameraInfo("Locked", "/dev/video5"),
        CameraInfo("Second", "/dev/video10"),
    ]


def test_a_loopback_is_a_camera_only_while_another_program_feeds_it(tmp_path: Path) -> None:
    machine = (
        LinuxMachine(tmp_path)
        .add_loopback(0, "idle")
        .add_loopback(1, "phone", fed=True)
        .add_process(50, "droidcam", 1)
        .add_loopback(2, "ours", fed=True)
        .add_process(os.getpid(), "python", 2, only_writes=True)
    )
    assert LinuxCameras(machine.devices).cameras() == [CameraInfo("phone", "/dev/video1")]


def test_a_loopback_that_we_read_from_stays_a_camera(tmp_path: Path) -> None:
    machine = LinuxMachine(tmp_path).add_loopback(1, "phone", fed=True).add_process(os.getpid(), "python", 1)
    assert LinuxCameras(machine.devices).cameras() == [CameraInfo("phone", "/dev/video1")]


def test_a_machine_without_video(tmp_path: Path) -> None:
    assert LinuxCameras(VideoDevices(tmp_path)).cameras() == []


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "/dev/video9",
            r"got nothing there; plug it in, or choose another: /dev/video0 \(Webcam\), /dev/video1 \(Locked\)",
        ),
        ("/dev/null", "got nothing there"),
        ("/dev/video1", r"no permission for /dev/video1 \(Locked\): run `sudo usermod -aG video"),
        ("/dev/video2", "not a capture device"),
        ("/dev/video3", "a virtual camera that no program feeds"),
    ],
)
def test_what_cannot_be_a_camera(tmp_path: Path, device: str, message: str) -> None:
    machine = (
        LinuxMachine(tmp_path)
        .add(0, "Webcam")
        .add(1, "Locked", error=errno.EACCES)
        .add(2, "Metadata", METADATA)
        .add_loopback(3)
    )
    (tmp_path / "dev/null").touch()
    with pytest.raises(CameraError, match=message):
        LinuxCameras(machine.devices).find(CameraSpec("device", device))


def test_a_camera_by_its_stable_name(tmp_path: Path) -> None:
    machine = LinuxMachine(tmp_path).add(4, "Webcam").link("usb-Webcam", 4)
    spec = CameraSpec("device", "/dev/v4l/by-id/usb-Webcam")
    assert LinuxCameras(machine.devices).find(spec) == FoundDevice("Webcam (/dev/video4)", "/dev/video4")


def test_busy_is_told_with_the_other_program(capture: PlugIn, tmp_path: Path) -> None:
    capture(frames=0)
    machine = LinuxMachine(tmp_path).add(0, "HD Webcam").add_process(77, "zoom", 0)
    machine.add_process(os.getpid(), "python", 0)
    with pytest.raises(CameraError, match=r"HD Webcam .* is in use by zoom \(process 77\); close that program"):
        open_device(parse_camera("0"), LinuxCameras(machine.devices))


def test_a_device_that_does_not_open_is_not_tried_with_other_formats(capture: PlugIn, tmp_path: Path) -> None:
    made = capture(opens=False).made
    machine = LinuxMachine(tmp_path).add(0, "HD Webcam")
    with pytest.raises(CameraError, match=r"another program, or not permitted; close that program$"):
        open_device(parse_camera("0"), LinuxCameras(machine.devices))
    assert len(made) == 1
