"""Which camera is meant: the one fact about cameras that everybody may name, whoever opens them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.pipeline.v4l2 import VideoDevices


@dataclass(frozen=True)
class CameraSpec:
    """Which camera, and how it is wanted.

    Attributes:
        kind: `device`, `file` (a video, looping) or `folder` (pictures, looping).
        device: index or path (`/dev/video0`) of a device.
        path: of a file or folder.
        width_px, height_px, fps_hz: what a device is asked for; it may answer otherwise.
    """

    kind: Literal["device", "file", "folder"]
    device: int | str = 0
    path: Path | None = None
    width_px: int = 640
    height_px: int = 480
    fps_hz: float = 30.0

    @property
    def name(self) -> str:
        """For people; also says whether two specs mean the same device."""
        if self.path is not None:
            return str(self.path)
        if isinstance(self.device, str) and self.device.startswith("/dev/"):
            number = VideoDevices().number(Path(self.device))
            return f"camera {Path(self.device).name if number is None else number}"
        return f"camera {self.device}"
