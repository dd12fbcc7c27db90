"""The real camera, engine and sinks, each with a switch for what can go wrong with it."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import CameraError, SinkError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.file_camera import open_file
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.sinks import NullSink, OutputFormat
from mcnet.arrays import Array, Flow, Keypoints, Rgb
from mcnet.engine import EngineError

_BORDER_PX = 24
_MARK_RGB = (255, 0, 255)
_LEAK = 180
_LOOKED_AT = (slice(None, None, 4), slice(None, None, 4))


class Footage:
    """Opens a looping video as if it were a webcam; every frame has a border of pure magenta, which nothing else has.

    Attributes:
        fault: of every camera opened from it: "", "gone", "hangs", "frozen", "garbage", "wrong shape" or "dark".
    """

    def __init__(self, path: Path) -> None:
        self.fault = ""
        self._path = path

    def __call__(self, spec: CameraSpec) -> "FootageCamera":
        if self.fault == "gone":
            raise CameraError(f"{spec.name} is not there")
        return FootageCamera(self, spec.name, self._path)


class FootageCamera:
    """See `Footage`, and `app.pipeline.capture.camera.Camera`."""

    is_device = True

    def __init__(self, footage: Footage, name: str, path: Path) -> None:
        self.name = name
        self._footage = footage
        self._file = open_file(name, path)
        self.format = self._file.format
        self._noise = np.random.default_rng(0)
        self._last: Rgb | None = None

    def read(self) -> Rgb:
        fault = self._footage.fault
        while self._footage.fault == "hangs":
            time.sleep(0.02)
        rgb = self._file.read()
        if fault == "gone":
            raise CameraError(f"{self.name}: unplugged")
        if fault == "frozen" and self._last is not None:
            return self._last.copy()
        if fault == "garbage":
            rgb = self._noise.integers(0, 256, rgb.shape, np.uint8)
        elif fault == "wrong shape":
            rgb = np.ascontiguousarray(rgb[:240, :200])
        elif fault == "dark":
            rgb = self._noise.integers(0, 4, rgb.shape, np.uint8)
        for edge in (np.s_[:_BORDER_PX], np.s_[-_BORDER_PX:], np.s_[:, :_BORDER_PX], np.s_[:, -_BORDER_PX:]):
            rgb[edge] = _MARK_RGB
        self._last = rgb
        return rgb.copy()

    def close(self) -> None:
        self._file.close()


class Faulty:
    """An engine whose rendering fails, answers NaN, or is slow while it is told to.

    Attributes:
        fault: "", "exception", "NaN" or "slow".
    """

    def __init__(self) -> None:
        self.fault = ""

    def around(self, engine: Any) -> "FaultyEngine":
        """The engine, with this one's faults."""
        return FaultyEngine(self, engine)


class FaultyEngine:
    """What `Faulty.around` makes."""

    def __init__(self, faulty: Faulty, engine: Any) -> None:
        self._faulty = faulty
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def render(self, driving: Keypoints[Array]) -> Rgb:
        picture: Rgb = self._engine.render(self._faults(driving))
        return picture

    def render_with_flow(self, driving: Keypoints[Array]) -> tuple[Rgb, Flow]:
        answer: tuple[Rgb, Flow] = self._engine.render_with_flow(self._faults(driving))
        return answer

    def _faults(self, driving: Keypoints[Array]) -> Keypoints[Array]:
        if self._faulty.fault == "exception":
            raise EngineError("the soak says so")
        if self._faulty.fault == "slow":
            time.sleep(0.5)
        if self._faulty.fault == "NaN":
            return driving._replace(value=driving.value * float("nan"))
        return driving


class Watching(NullSink):
    """Counts the pictures, and those that show anything of a camera's frame."""

    name = "watching"

    def __init__(self) -> None:
        self.pictures = 0
        self.leaks = 0

    def send(self, picture: Composed) -> None:
        self.pictures += 1
        red, green, blue = np.moveaxis(picture.rgb[_LOOKED_AT].astype(np.int16), -1, 0)
        self.leaks += bool((np.minimum(red, blue) - green).max() > _LEAK)


class BadSink(NullSink):
    """Cannot be opened ("busy"), or fails after some pictures ("gone")."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._left = 10
        self.over = threading.Event()

    def open(self, output: OutputFormat) -> None:  # noqa: ARG002
        if self.name == "busy":
            raise SinkError("in use by another program")

    def send(self, picture: Composed) -> None:  # noqa: ARG002
        self._left -= 1
        if self._left < 0:
            raise SinkError("the device is gone")
