"""Cameras, and what stands in for them: a video file played in real time, a folder of pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


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
        return str(self.path) if self.path is not None else f"camera {self.device}"


@dataclass(frozen=True)
class CameraInfo:
    """A camera that is there.

    Attributes:
        name: as its maker calls it.
        spec_text: what `parse_camera` turns into its spec.
    """

    name: str
    spec_text: str


@dataclass(frozen=True)
class CameraFormat:
    """What an opened camera gives. `fps_hz` is nominal; `remark` says what differs from what was asked, or ""."""

    width_px: int
    height_px: int
    fps_hz: float
    remark: str = ""


class Camera(Protocol):
    """An open camera. Opened, read and closed on one thread.

    Attributes:
        name: for people.
        format: what it gives.
        is_device: whether frames come from a sensor, so that identical ones mean that it froze.
    """

    name: str
    format: CameraFormat
    is_device: bool

    def read(self) -> NDArray[np.uint8]:
        """Wait for the next frame: (H, W, 3) uint8 RGB of the format's size, a fresh array.

        Raises:
            CameraError: the camera gives no frames any more.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when called again."""
        ...
