"""Webcams as OpenCV's enumerator lists them, which is how Windows and macOS tell them apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.capture.device_camera import FoundDevice, open_and_wish, other_choice, wishes
from mcnet.phrases import phrase

_VIRTUAL_CAMERAS = ("OBS Virtual Camera", "Unity Video Capture")
"""Names of what the app writes to: never offered as a camera."""


@dataclass(frozen=True)
class Enumerated:
    """A camera in the list.

    Attributes:
        index: the position in the list; it changes when cameras are plugged in differently.
        name: as its maker calls it.
        path: that stays the same and opens it again; "" where the system has none.
    """

    index: int
    name: str
    path: str = ""


def enumerate_cameras(backend: int) -> list[Enumerated]:
    """The list of one of OpenCV's backends."""
    import cv2_enumerate_cameras

    return [
        Enumerated(camera.index, camera.name, camera.path or "")
        for camera in cv2_enumerate_cameras.enumerate_cameras(backend)
    ]


class EnumeratedCameras:
    """See `CameraSystem`. Used directly, it serves systems without a class of their own.

    Args:
        enumerate_them: lists the cameras of a backend; tests give others.
    """

    wishes_open = False
    permission = ""
    backend: int = cv2.CAP_ANY

    def __init__(self, enumerate_them: Callable[[int], Sequence[Enumerated]] = enumerate_cameras) -> None:
        self._enumerate = enumerate_them

    def there(self) -> list[Enumerated]:
        """All of them; paths only where they can be opened again."""
        return [replace(camera, path="") for camera in self._enumerate(self.backend)]

    def cameras(self) -> list[CameraInfo]:
        return [
            CameraInfo(camera.name, camera.path or str(camera.index))
            for camera in self.there()
            if not camera.name.startswith(_VIRTUAL_CAMERAS)
        ]

    def find(self, spec: CameraSpec) -> FoundDevice:
        there = self.there()
        for camera in there:
            if spec.device == camera.index or (camera.path and str(spec.device).lower() == camera.path.lower()):
                return FoundDevice(camera.name, camera.index)
        others = [f"{camera.index} ({camera.name})" for camera in there]
        raise CameraError(
            phrase("{name}: there is no such camera; {advice}", name=spec.name, advice=other_choice(others))
        )

    def open(self, device: FoundDevice, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:
        return open_and_wish(device, self.backend, wishes(spec, pixel_format))

    def users(self, device: FoundDevice) -> str:  # noqa: ARG002
        return ""
