"""Webcams of a Linux machine: V4L2's devices."""

import errno
import os
from pathlib import Path

import cv2

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.capture.device_camera import FoundDevice, open_and_wish, other_choice, wishes
from app.pipeline.v4l2 import VideoDevices, VideoNode
from mcnet.phrases import listed, phrase


class LinuxCameras:
    """See `CameraSystem`.

    Args:
        devices: the machine's video devices; None: this one's.
    """

    wishes_open = False
    permission = ""

    def __init__(self, devices: VideoDevices | None = None) -> None:
        self._devices = devices or VideoDevices()

    def cameras(self) -> list[CameraInfo]:
        """The capture devices. A loopback is one only while another program feeds it."""
        found = []
        for node in self._devices.nodes():
            if node.is_loopback:
                offered = node.fed and not self._devices.fed_by_us(node.device)
            else:
                offered = node.can_capture or node.denied
            if offered:
                found.append(CameraInfo(node.name, str(self._devices.stable_link(node.device) or node.device)))
        return found

    def find(self, spec: CameraSpec) -> FoundDevice:
        path = Path(f"/dev/video{spec.device}" if isinstance(spec.device, int) else spec.device)
        node = self._camera_at(path)
        return FoundDevice(f"{node.name} ({node.device})", str(node.device))

    def open(self, device: FoundDevice, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:
        return open_and_wish(device, cv2.CAP_V4L2, wishes(spec, pixel_format))

    def users(self, device: FoundDevice) -> str:
        others = [holder for holder in self._devices.holders(Path(str(device.address))) if holder.pid != os.getpid()]
        named = [phrase("{name} (process {pid})", name=holder.name, pid=holder.pid) for holder in others]
        return listed(named, "and")

    def _camera_at(self, path: Path) -> VideoNode:
        node = self._devices.node(path)
        if node is None or node.error in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            there = [f"{info.spec_text} ({info.name})" for info in self.cameras()]
            raise CameraError(
                phrase(
                    "no camera at {path}: got nothing there; {advice}",
                    path=path,
                    advice=other_choice(there),
                )
            )
        if node.denied:
            raise CameraError(
                phrase(
                    "no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again",
                    path=path,
                    name=node.name,
                )
            )
        if node.is_loopback and not node.fed:
            raise CameraError(
                phrase(
                    "{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another",
                    path=path,
                    name=node.name,
                )
            )
        if node.flags is not None and not node.can_capture:
            raise CameraError(
                phrase(
                    "{path} ({name}) is not a capture device, expected a webcam; choose another",
                    path=path,
                    name=node.name,
                )
            )
        return node
