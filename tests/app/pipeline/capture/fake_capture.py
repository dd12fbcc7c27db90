"""OpenCV's captures without devices, and time that a test lets pass."""

from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray


class Clock:
    """Time that passes when somebody waits, and not otherwise."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


class FakeCapture:
    """OpenCV's capture of a device that knows some pixel formats."""

    formats: ClassVar[tuple[str, ...]] = ("MJPG", "YUYV")
    size_px: ClassVar[tuple[int, int]] = (640, 480)
    step_s: ClassVar[float] = 1 / 30
    frames: ClassVar[int] = 10_000
    damaged: ClassVar[frozenset[int]] = frozenset()
    opens: ClassVar[bool] = True
    clock: ClassVar[Clock]
    made: ClassVar[list["FakeCapture"]]

    def __init__(self, device: int | str, backend: int, parameters: tuple[int, ...] = ()) -> None:
        self.arguments = (device, backend, parameters)
        self.asked: list[tuple[int, float]] = list(zip(parameters[::2], parameters[1::2], strict=True))
        self.released = 0
        self.grabbed = 0
        self.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.asked.append((key, value))
        return True

    @property
    def pixel_format(self) -> str:
        wanted = [int(value) for key, value in self.asked if key == cv2.CAP_PROP_FOURCC]
        known = [name for name in self.formats if wanted and cv2.VideoWriter.fourcc(*name) == wanted[-1]]
        return known[0] if known else "BGR3"

    def get(self, key: int) -> float:
        return {
            cv2.CAP_PROP_FRAME_WIDTH: self.size_px[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size_px[1],
            cv2.CAP_PROP_FPS: 30,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*self.pixel_format),
        }[key]

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.grabbed += 1
        if self.grabbed > self.frames or self.grabbed in self.damaged:
            return False, None
        self.clock.pass_s(self.step_s)
        bgr = np.zeros((self.size_px[1], self.size_px[0], 3), np.uint8)
        bgr[:] = (10, 20, 30)
        return True, bgr.reshape(1, -1) if self.pixel_format == "BGR3" else bgr

    def release(self) -> None:
        self.released += 1
