"""Which cameras there are, and what opens one: the way in to this folder."""

import sys
from typing import assert_never

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import Camera, CameraInfo
from app.pipeline.capture.device_camera import CameraSystem, open_device
from app.pipeline.capture.enumerated_cameras import EnumeratedCameras
from app.pipeline.capture.file_camera import open_file
from app.pipeline.capture.linux_cameras import LinuxCameras
from app.pipeline.capture.macos_cameras import MacCameras
from app.pipeline.capture.network_camera import open_network_camera
from app.pipeline.capture.track_camera import TrackCamera, open_track_camera
from app.pipeline.capture.windows_cameras import WindowsCameras
from mcnet.phrases import phrase


def camera_system(system: str = sys.platform) -> CameraSystem:
    """The webcams of an operating system, by its name in Python."""
    if system == "linux":
        return LinuxCameras()
    if system == "win32":
        return WindowsCameras()
    if system == "darwin":
        return MacCameras()
    return EnumeratedCameras()


def list_cameras() -> list[CameraInfo]:
    """The cameras that are plugged in, without opening a stream; what the app itself writes to is left out."""
    return camera_system().cameras()


def open_performer(spec: CameraSpec) -> Camera | TrackCamera:
    """Open a camera, or a motion file in its place; everything else as of `open_camera`."""
    if spec.kind == "motion":
        assert spec.path is not None
        return open_track_camera(spec.name, spec.path)
    return open_camera(spec)


def open_camera(spec: CameraSpec) -> Camera:
    """Open a camera and look at its first frames. A device may block for seconds: give it a thread of its own.

    Raises:
        CameraError: it is missing, busy, not permitted, no camera, or gives nothing that can be used.
    """
    match spec.kind:
        case "device":
            return open_device(spec, camera_system())
        case "network":
            return open_network_camera(spec)
        case "file" | "folder":
            assert spec.path is not None
            return open_file(spec.name, spec.path)
        case "motion":
            raise CameraError(phrase("{name} is a motion file, expected what gives pictures", name=spec.name))
        case _:
            assert_never(spec.kind)
