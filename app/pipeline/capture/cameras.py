"""Which cameras there are, what the user writes for one, and how it is opened: the way in to this folder."""

import contextlib
import re
import sys
from pathlib import Path

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import Camera, CameraInfo
from app.pipeline.capture.device_camera import CameraSystem, open_device
from app.pipeline.capture.enumerated_cameras import EnumeratedCameras
from app.pipeline.capture.file_camera import open_file
from app.pipeline.capture.linux_cameras import LinuxCameras
from app.pipeline.capture.macos_cameras import MacCameras
from app.pipeline.capture.windows_cameras import WindowsCameras
from mcnet.config import MIN_SIDE_PX

_EXPECTED = "a camera's number (0), a device (/dev/video0), a video file, or a folder of pictures"
_SIZE = re.compile(r"@(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?$")


def parse_camera(text: str) -> CameraSpec:
    r"""Read what a user wrote or what `list_cameras` gave.

    Args:
        text: an index (`0`), a device (`/dev/video0`, `\\?\usb#...`), a video file or a folder of pictures. A device
            may be followed by the size and rate to ask it for: `0@1280x720`, `/dev/video2@1280x720@30`.

    Raises:
        CameraError: it is none of them, or there is no such file.
    """
    asked = _SIZE.search(text.strip())
    device = text.strip()[: asked.start()] if asked else text.strip()
    if device.isdecimal() or device.startswith(("/dev/", "\\\\.\\", "\\\\?\\")):
        return _device_spec(device, asked)
    if not text.strip():
        raise CameraError(f"camera: got nothing, expected {_EXPECTED}")
    for name in (text, text.strip()):  # a name may end in a space, and what is typed may too
        with contextlib.suppress(OSError, RuntimeError):  # too long a name, or ~ of nobody: no such file either
            path = Path(name).expanduser()
            if path.is_dir():
                return CameraSpec("folder", path=path)
            if path.is_file():
                return CameraSpec("file", path=path)
    raise CameraError(f"camera: got {text!r}, and there is no such file; expected {_EXPECTED}")


def _device_spec(device: str, asked: re.Match[str] | None) -> CameraSpec:
    spec = CameraSpec("device", int(device) if device.isdecimal() else device)
    if asked is None:
        return spec
    width, height = int(asked[1]), int(asked[2])
    fps = float(asked[3]) if asked[3] else spec.fps_hz
    if not (MIN_SIDE_PX <= width <= 8192 and MIN_SIDE_PX <= height <= 8192 and 1 <= fps <= 240):
        raise CameraError(
            f"camera: got {asked[0]!r} for size and rate, expected {MIN_SIDE_PX} to 8192 pixels per side and 1 to 240 "
            "frames/s, as @1280x720@30"
        )
    return CameraSpec("device", spec.device, width_px=width, height_px=height, fps_hz=fps)


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


def open_camera(spec: CameraSpec) -> Camera:
    """Open a camera and look at its first frames. A device may block for seconds: give it a thread of its own.

    Raises:
        CameraError: it is missing, busy, not permitted, no camera, or gives nothing that can be used.
    """
    if spec.kind == "device":
        return open_device(spec, camera_system())
    assert spec.path is not None
    return open_file(spec.name, spec.path)
