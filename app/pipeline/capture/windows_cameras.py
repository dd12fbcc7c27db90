"""Webcams of a Windows machine, through DirectShow."""

import cv2

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.device_camera import FoundDevice, wishes
from app.pipeline.capture.enumerated_cameras import Enumerated, EnumeratedCameras
from mcnet.phrases import phrase


class WindowsCameras(EnumeratedCameras):
    """See `CameraSystem`."""

    backend = cv2.CAP_DSHOW
    permission = phrase("Settings > Privacy & security > Camera")
    wishes_open = True

    def there(self) -> list[Enumerated]:
        """All of them; their paths stay the same, and open them again."""
        return list(self._enumerate(self.backend))

    def open(self, device: FoundDevice, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:
        # DirectShow builds its graph once: what comes later costs seconds, or is not heard.
        wished = [int(number) for wish in wishes(spec, pixel_format) for number in wish]
        return cv2.VideoCapture(int(device.address), self.backend, wished)
