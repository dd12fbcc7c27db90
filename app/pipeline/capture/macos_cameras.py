"""Webcams of a Mac, through AVFoundation."""

import cv2

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.device_camera import FoundDevice, open_and_wish, wishes
from app.pipeline.capture.enumerated_cameras import EnumeratedCameras
from mcnet.phrases import phrase


class MacCameras(EnumeratedCameras):
    """See `CameraSystem`."""

    backend = cv2.CAP_AVFOUNDATION
    permission = phrase("System Settings > Privacy & Security > Camera")

    def open(self, device: FoundDevice, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:  # noqa: ARG002
        return open_and_wish(device, self.backend, wishes(spec, ""))  # AVFoundation chooses the pixel format itself
