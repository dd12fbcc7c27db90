"""Stand-ins for engine, face finder, camera and sink, whose faults a test can choose."""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError, SinkError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraFormat
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.picture_reading import PictureReading
from app.pipeline.output.sinks import OutputFormat, Sink
from app.pipeline.portraits import Portrait
from app.settings import LiveSettings
from mcnet.arrays import Array, Flow, Keypoints, Rgb, SourceCache
from mcnet.config import McnetConfig
from mcnet.engine import DeviceChoice, EngineError
from mcnet.media.faces import Face
from mcnet.pose import LinearMap

SIZE_PX = 256
AVATAR_RGB = (40, 160, 90)


def keypoints(shift: float = 0.0, scale: float = 1.0) -> Keypoints[Array]:
    """Five points that span an area, scaled and then shifted to the right."""
    places = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.0, 0.1]], np.float32)
    places = scale * places + np.array([shift, 0.0], np.float32)
    return Keypoints(places[None], np.tile(np.eye(2, dtype=np.float32), (1, 5, 1, 1)))


class FakeEngine:
    """Answers plain green avatars whose first pixel tells the first keypoint's x.

    Attributes:
        delay_s: what a rendering takes.
        fail: what rendering raises, if anything.
        fail_source: what encoding a portrait raises, if anything.
        nan: `detect` answers NaN.
        shift, scale: of the keypoints that `detect` answers.
        rendered: the keypoints that were rendered.
    """

    config = McnetConfig.named("tiny")
    model_name = "fake"
    content_hash = "fa" * 32
    choice = DeviceChoice("cpu", "fp32", "cpu, for a test")
    fingerprint = "fake/1"
    backend_name = "fake"
    keypoint_landmarks: tuple[int, ...] = ()
    linear_jacobians: LinearMap = ()
    places_suffice = False
    detects = True
    backend_reason = "a test says so"

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.fail: Exception | None = None
        self.fail_source: Exception | None = None
        self.rendered: list[Keypoints[Array]] = []
        self.sources = 0
        self.shift, self.scale = 0.0, 1.0
        self.nan = False

    def set_source(
        self, source: Rgb | SourceCache[Array], places: NDArray[np.floating[Any]] | None = None
    ) -> SourceCache[Array]:
        if isinstance(source, SourceCache):
            return source
        if self.fail_source is not None:
            raise self.fail_source
        if places is None and not self.detects:
            raise EngineError("this model cannot detect any")
        self.sources += 1
        picture, small = (np.zeros((1, 3, side, side), np.float32) for side in (SIZE_PX, 64))
        features = tuple(np.ones((1, 2, side, side), np.float32) for side in self.config.level_sizes_px)
        found = keypoints() if places is None else keypoints()._replace(value=places[None])
        return SourceCache(
            picture,
            small,
            found,
            np.zeros((1, 5, 64, 64), np.float32),
            features,
            None,
            self.fingerprint,
            places is not None,
        )

    def detect(self, picture: Rgb | None, places: NDArray[np.floating[Any]] | None = None) -> Keypoints[Array]:
        if places is not None:
            assert picture is None
            assert self.places_suffice
            return keypoints()._replace(value=places[None])
        assert picture is not None
        assert self.detects
        assert picture.shape == (SIZE_PX, SIZE_PX, 3)
        return keypoints(float("nan") if self.nan else self.shift, self.scale)

    def render_with_flow(self, driving: Keypoints[Array]) -> tuple[Rgb, Flow]:
        x, y = np.meshgrid(np.linspace(-1, 1, 64, dtype=np.float32), np.linspace(-1, 1, 64, dtype=np.float32))
        return self.render(driving)[None], Flow(np.stack((x, y), -1)[None], np.ones((1, 64, 64), np.float32))

    def render(self, driving: Keypoints[Array]) -> Rgb:
        time.sleep(self.delay_s)
        if self.fail is not None:
            raise self.fail
        self.rendered.append(driving)
        picture = np.empty((SIZE_PX, SIZE_PX, 3), np.uint8)
        picture[:] = AVATAR_RGB
        picture[0, 0, 0] = len(self.rendered) % 256  # so that pictures differ
        return picture


class FakeFinder:
    """Finds the given face, or none.

    Attributes:
        face: what is found from now on.
        fail: what searching raises, if anything.
        go_on: searching hangs while this is clear.
        hangs: whether it does now.
        searched: how many pictures were searched.
        time_s: the time of the last of them, where it was told.
    """

    def __init__(self, face: Face | None) -> None:
        self.face = face
        self.fail: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.hangs = False
        self.searched = 0
        self.time_s: float | None = None

    def find(self, rgb: Rgb, time_s: float | None = None) -> list[Face]:
        self.searched += 1
        self.time_s = time_s
        self.hangs = not self.go_on.is_set()
        self.go_on.wait(10.0)
        self.hangs = False
        if self.fail is not None:
            raise self.fail
        return [] if self.face is None else [self.face]

    def forget(self) -> None: ...

    def choose(self) -> None: ...

    def close(self) -> None: ...


def marked_picture(height: int = 480, width: int = 640) -> Rgb:
    """A camera picture that nothing else looks like: magenta, in coarse blocks of different brightness."""
    coarse = np.random.default_rng(7).integers(150, 256, (height // 16, width // 16), np.uint8)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = picture[..., 2] = coarse.repeat(16, 0).repeat(16, 1)
    return picture


class FakeCamera:
    """Gives marked pictures at a rate, until it is told to misbehave.

    Attributes:
        fail_after: after so many frames `read` raises.
        block: `read` hangs while this is set.
        frozen: every frame is the same.
        garbage: every frame is noise, in the marked pictures' colour.
        shape: of every frame, if not that of the format; an array of two dimensions has no colours.
        closed: how often it was closed.
    """

    is_device = True

    def __init__(self, name: str = "fake", fps_hz: float = 100.0) -> None:
        self.name = name
        self.format = CameraFormat(640, 480, fps_hz)
        self.fail_after: int | None = None
        self.block = threading.Event()
        self.frozen = False
        self.garbage = False
        self.shape: tuple[int, ...] | None = None
        self.closed = 0
        self.frames = 0
        self.picture = marked_picture()

    def read(self) -> Rgb:
        time.sleep(1 / self.format.fps_hz)
        while self.block.is_set():
            time.sleep(0.005)
        if self.fail_after is not None and self.frames >= self.fail_after:
            raise CameraError(f"{self.name}: unplugged")
        self.frames += 1
        rgb = self.picture.copy()
        if self.garbage:
            rgb[..., 0] = rgb[..., 2] = np.random.default_rng(self.frames).integers(150, 256, rgb.shape[:2], np.uint8)
        if self.shape is not None:
            return np.full(self.shape, (255, 0, 255) if len(self.shape) == 3 else 255, np.uint8)
        if not self.frozen:
            rgb[0, 0] = (self.frames % 256, 0, 255)
        return rgb

    def close(self) -> None:
        self.closed += 1
        self.block.clear()


class StuckCamera(FakeCamera):
    """One whose driver never comes back from a read that hangs, closed or not, until `block` is cleared."""

    def close(self) -> None:
        self.closed += 1


class Cameras:
    """Opens fakes by their spec's name.

    Attributes:
        opened: every camera that was opened, in order.
        broken: names that cannot be opened.
        refused: says which specs cannot be opened.
        slow_s: what opening takes.
    """

    def __init__(self, make: Callable[[str], FakeCamera] = FakeCamera) -> None:
        self.opened: list[FakeCamera] = []
        self.broken: set[str] = set()
        self.refused: Callable[[CameraSpec], bool] = lambda _: False
        self.slow_s = 0.0
        self._make = make

    def __call__(self, spec: CameraSpec) -> FakeCamera:
        time.sleep(self.slow_s)
        if spec.name in self.broken or self.refused(spec):
            raise CameraError(f"{spec.name} is not there")
        camera = self._make(spec.name)
        self.opened.append(camera)
        return camera


class FakeSink:
    """Keeps what it got.

    Attributes:
        pictures: every picture.
        times_s: when each came.
        fail_after: after so many pictures `send` raises.
        fail_open: `open` raises.
        closed: how often it was closed.
    """

    detail = "in memory"

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.pictures: list[Composed] = []
        self.times_s: list[float] = []
        self.fail_after: int | None = None
        self.fail_open = False
        self.opened = 0
        self.closed = 0

    def open(self, output: OutputFormat) -> None:
        if self.fail_open:
            raise SinkError(f"{self.name} is busy")
        self.opened += 1

    def send(self, picture: Composed) -> None:
        if self.fail_after is not None and len(self.pictures) >= self.fail_after:
            raise SinkError(f"{self.name} is gone")
        self.pictures.append(picture)
        self.times_s.append(time.monotonic())

    def close(self) -> None:
        self.closed += 1

    def finished(self) -> bool:
        return True


class StillPipeline:
    """Remembers what it was asked, and runs nothing.

    Args:
        live: the settings in force.
        starts: how often it was started already.
    """

    def __init__(self, live: LiveSettings, starts: int = 0) -> None:
        self.kept = live
        self.slates = 0
        self.portrait: Portrait | None = None
        self.sinks: dict[str, Sink] = {}
        self.calibrations: list[bool] = []
        self.starts = starts
        self.stops = 0

    @property
    def running(self) -> bool:
        return self.starts > self.stops

    @property
    def settings(self) -> LiveSettings:
        """As the real one: with the slate of which whoever keeps the settings does not know yet."""
        return dataclasses.replace(self.kept, slate=True) if self.slates else self.kept

    def update(self, settings: LiveSettings) -> None:
        self.kept = settings

    def slate_now(self) -> None:
        self.slates += 1

    def take_over_slate(self) -> None:
        self.slates = max(0, self.slates - 1)

    def set_portrait(self, portrait: Portrait) -> None:
        self.portrait = portrait

    def calibrate(self, *, now: bool = False) -> None:
        self.calibrations.append(now)

    def add_sink(self, sink: Sink) -> None:
        self.sinks[sink.name] = sink

    def remove_sink(self, name: str) -> None:
        self.sinks.pop(name, None)


def pictures_are_read() -> None:
    """Wait for the pictures of the user's that are being read, as backgrounds and for the slate."""
    for thread in threading.enumerate():
        if isinstance(thread, PictureReading):
            thread.join(60.0)
            assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait for something that threads bring about; fails with `what` when it does not come."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"did not happen within {timeout_s:g} s: {what}"
        time.sleep(0.005)
