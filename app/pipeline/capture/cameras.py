"""Cameras, and what stands in for them: a video file played in real time, a folder of pictures."""

import contextlib
import errno
import itertools
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.v4l2 import Holder, VideoDevices, VideoNode
from mcnet.config import MIN_SIDE_PX
from mcnet.media.errors import MediaError
from mcnet.media.video import DrivingVideo, open_driving

logger = logging.getLogger(__name__)

VIRTUAL_CAMERAS = ("OBS Virtual Camera", "Unity Video Capture")
"""Names of what the app writes to on Windows and macOS: never offered as a camera."""

_SYSTEM: str = sys.platform
_EXPECTED = "a camera's number (0), a device (/dev/video0), a video file, or a folder of pictures"
_SIZE = re.compile(r"@(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?$")
_BACKENDS = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}
# Compressed first: uncompressed, most cameras do not reach 30 frames/s above 640x480 over USB 2.
_PIXEL_FORMATS = ("MJPG", "YUYV", "")
# One that is being filled beside the one that is being read: with a single one V4L2 cannot capture while the app
# reads, and the rate halves. The camera thread always waits in `read`, so none of them ever grows old.
_DEVICE_BUFFERS = 2
_PROBED_FRAMES = 12
_PROBED_S = 1.0
_UNEVEN_FRAMES = 2  # the first ones may come late, or in a heap from the driver's buffers
_SLOW_SHARE = 0.85
# A damaged JPEG now and then is no reason to close a camera; an unplugged one fails again at once.
_TOLERATED_FAILURES = 5
_STALLED_READ_S = 1.0
_MOST_FILE_FPS_HZ = 60.0  # a faster video is thinned out: no camera of a call is faster
_LATEST_S = 0.5


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


@dataclass(frozen=True)
class CameraInfo:
    """A camera that is there.

    Attributes:
        name: as its maker calls it.
        spec_text: what `parse_camera` turns into its spec; stays the same when cameras are plugged in otherwise, as
            far as the system allows.
    """

    name: str
    spec_text: str


@dataclass(frozen=True)
class CameraFormat:
    """What an opened camera gives.

    Attributes:
        width_px, height_px: of every frame.
        fps_hz: frames per second: measured over the first frames of a device, the true rate of a file.
        remark: what differs from what was asked, or "".
    """

    width_px: int
    height_px: int
    fps_hz: float
    remark: str = ""


class Camera(Protocol):
    """An open camera. Opened and read on one thread.

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
            CameraError: the camera gives no frames any more, or was closed.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when called again, and from any thread.

        A file's or folder's `read` that waits on another thread ends at once. A device's cannot be interrupted: there
        the device is let go of as soon as that `read` is over.
        """
        ...


def parse_camera(text: str) -> CameraSpec:
    r"""Read what a user wrote or what `list_cameras` gave.

    Args:
        text: an index (`0`), a device (`/dev/video0`, `\\?\usb#...`), a video file or a folder of pictures. A device
            may be followed by the size and rate to ask it for: `0@1280x720`, `/dev/video2@1280x720@30`.

    Raises:
        CameraError: it is none of them, or there is no such file.
    """
    text = text.strip()
    asked = _SIZE.search(text)
    device = text[: asked.start()] if asked else text
    if device.isdecimal() or device.startswith(("/dev/", "\\\\.\\", "\\\\?\\")):
        return _device_spec(device, asked)
    if not text:
        raise CameraError(f"camera: got nothing, expected {_EXPECTED}")
    path = Path(text).expanduser()
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


def list_cameras() -> list[CameraInfo]:
    """The cameras that are plugged in, without opening a stream; what the app itself writes to is left out."""
    if _SYSTEM == "linux":
        return list_linux_cameras(VideoDevices())
    return [
        CameraInfo(name, path or str(index))
        for index, name, path in _enumerated()
        if not name.startswith(VIRTUAL_CAMERAS)
    ]


def list_linux_cameras(devices: VideoDevices) -> list[CameraInfo]:
    """The capture devices of a Linux machine. A loopback is one only while another program feeds it."""
    found = []
    for node in devices.nodes():
        if node.is_loopback:
            offered = node.fed and not devices.fed_by_us(node.device)
        else:
            offered = node.can_capture or node.denied
        if offered:
            found.append(CameraInfo(node.name, str(devices.stable_link(node.device) or node.device)))
    return found


def _enumerated() -> list[tuple[int, str, str]]:
    """Index, name and path of each camera on Windows or macOS; only Windows' paths can be opened again."""
    import cv2_enumerate_cameras

    cameras = cv2_enumerate_cameras.enumerate_cameras(_BACKENDS.get(_SYSTEM, cv2.CAP_ANY))
    return [(camera.index, camera.name, (camera.path or "") if _SYSTEM == "win32" else "") for camera in cameras]


def open_camera(spec: CameraSpec) -> Camera:
    """Open a camera and look at its first frames. A device may block for seconds: give it a thread of its own.

    Raises:
        CameraError: it is missing, busy, not permitted, no camera, or gives nothing that can be used.
    """
    if spec.kind == "device":
        return _open_device(spec)
    assert spec.path is not None
    try:
        return FileCamera(spec.name, open_driving(spec.path, max_fps=_MOST_FILE_FPS_HZ))
    except MediaError as error:
        raise CameraError(str(error)) from error


class _Tenancy:
    """Lets go of something as soon as nobody uses it, whichever thread asks for that.

    Attributes:
        closed: set by the first `close`.
    """

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        self.closed = threading.Event()
        self._name = name
        self._release = release
        self._released = False
        self._in_use = threading.Lock()

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from being let go of within the block."""
        try:
            with self._in_use:
                self.require_open()
                yield
        finally:
            if self.closed.is_set():
                self._try_release()

    def require_open(self) -> None:
        """Raise a CameraError once closed."""
        if self.closed.is_set():
            raise CameraError(f"{self._name} was closed; open it again to read on")

    def close(self) -> None:
        """Let go of it now, or when the user of now is done."""
        self.closed.set()
        self._try_release()

    def _try_release(self) -> None:
        # Whoever comes second finds the lock free: the closer after the user's block, or the user after the closer.
        if not self._in_use.acquire(blocking=False):
            return
        try:
            if not self._released:
                self._released = True
                self._release()
        finally:
            self._in_use.release()


class FileCamera:
    """A video file or a folder of pictures, looping, in real time like a camera; see `Camera`.

    Who reads late gets the frame that is due, and those before it are skipped; who is later than half a second, or
    whose machine cannot decode in time, sees the video go on from where it was.
    """

    is_device = False

    def __init__(self, name: str, video: DrivingVideo) -> None:
        self.name = name
        width, height = video.size_px
        self.format = CameraFormat(width, height, round(video.fps, 3))
        self._video = video
        self._frames: Iterator[NDArray[np.uint8]] = iter(())
        self._next = 0  # index of the frame that the iterator yields next, over all loops
        self._start_s: float | None = None  # when frame 0 was due
        self._tenancy = _Tenancy(name, self._release)

    def read(self) -> NDArray[np.uint8]:
        with self._tenancy.use():
            due = self._due_index()
            rgb = self._pull()
            while self._next <= due:
                rgb = self._pull()
            assert self._start_s is not None
            wait_s = self._start_s + (self._next - 1) / self.format.fps_hz - monotonic()
            if wait_s > 0:
                self._tenancy.closed.wait(wait_s)
            self._tenancy.require_open()
            return rgb.copy()  # a video that holds a frame gives one array several times

    def close(self) -> None:
        self._tenancy.close()

    def _due_index(self) -> int:
        """Which frame a camera would have by now; at least the next one."""
        now_s = monotonic()
        next_after_s = self._next / self.format.fps_hz
        if self._start_s is None or now_s - self._start_s - next_after_s > _LATEST_S:
            self._start_s = now_s - next_after_s
        return max(self._next, math.floor((now_s - self._start_s) * self.format.fps_hz))

    def _pull(self) -> NDArray[np.uint8]:
        """The next frame, over the end of the file. Cannot be interrupted, but takes a frame's decoding only."""
        self._tenancy.require_open()
        try:
            rgb = next(self._frames, None)
            if rgb is None:
                self._frames = iter(self._video)
                rgb = next(self._frames, None)
        except MediaError as error:
            raise CameraError(str(error)) from error
        if rgb is None:
            raise CameraError(f"{self.name}: got no frame any more, expected a video; was the file changed?")
        self._next += 1
        return rgb

    def _release(self) -> None:
        self._frames = iter(())


class DeviceCamera:
    """A webcam, through OpenCV; see `Camera`."""

    is_device = True

    def __init__(self, name: str, capture: cv2.VideoCapture, camera_format: CameraFormat) -> None:
        self.name = name
        self.format = camera_format
        self._capture = capture
        self._tenancy = _Tenancy(name, capture.release)

    def read(self) -> NDArray[np.uint8]:
        with self._tenancy.use():
            bgr = _grab(self._capture)
            if bgr is None:
                raise CameraError(
                    f"{self.name} gives no frames any more: unplugged, or taken by another program; plug it in again "
                    "or close the other program"
                )
            expected = (self.format.height_px, self.format.width_px)
            bgr = _shaped(bgr, self._capture)
            if bgr.shape != (*expected, 3):
                raise CameraError(
                    f"{self.name} changed its picture: got {bgr.shape}, expected {(*expected, 3)}; open it again"
                )
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return rgb.astype(np.uint8, copy=False)

    def close(self) -> None:
        self._tenancy.close()


def _open_device(spec: CameraSpec) -> DeviceCamera:
    """Ask for one pixel format after another until the frames can be used."""
    name, device = _found(spec)
    problem = ""
    for pixel_format in _PIXEL_FORMATS:
        capture = _asked(device, spec, pixel_format)
        if not capture.isOpened():
            if _SYSTEM == "win32":  # where the wishes are part of the opening
                continue
            break
        frame, fps_hz = _probe(capture)
        problem = _what_is_wrong(frame, flat_allowed=not pixel_format, capture=capture)
        if frame is not None and not problem:
            height, width = _shaped(frame, capture).shape[:2]
            logger.info("%s gives %dx%d at %.1f frames/s", name, width, height, fps_hz)
            remark = _remark(spec, width, height, fps_hz)
            return DeviceCamera(name, capture, CameraFormat(width, height, fps_hz, remark))
        capture.release()
    raise CameraError(_why_not(name, device, problem))


def _found(spec: CameraSpec) -> tuple[str, int | str]:
    """The name of a device, and what OpenCV opens it by.

    Raises:
        CameraError: it is not there, not permitted, or no camera.
    """
    if _SYSTEM == "linux":
        path = Path(f"/dev/video{spec.device}" if isinstance(spec.device, int) else spec.device)
        node = require_linux_camera(path, VideoDevices())
        return f"{node.name} ({node.device})", str(node.device)
    cameras = _enumerated()
    for index, name, path_text in cameras:
        if spec.device == index or (path_text and str(spec.device).lower() == path_text.lower()):
            return name, index
    there = [f"{index} ({name})" for index, name, _ in cameras]
    raise CameraError(f"{spec.name}: there is no such camera; {_remedy(there)}")


def _remedy(there: Sequence[str]) -> str:
    return f"plug it in, or choose another: {', '.join(there)}" if there else "plug one in; no camera is there at all"


def require_linux_camera(path: Path, devices: VideoDevices) -> VideoNode:
    """Find out that a device can be a camera.

    Raises:
        CameraError: it is missing, not permitted, or no capture device.
    """
    node = devices.node(path)
    if node is None or node.error in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        there = [f"{info.spec_text} ({info.name})" for info in list_linux_cameras(devices)]
        raise CameraError(f"no camera at {path}: got nothing there; {_remedy(there)}")
    if node.denied:
        raise CameraError(
            f"no permission for {path} ({node.name}): run `sudo usermod -aG video $USER`, then log out and in again"
        )
    if node.is_loopback and not node.fed:
        raise CameraError(
            f"{path} ({node.name}) is a virtual camera that no program feeds, expected a webcam; choose another"
        )
    if node.flags is not None and not node.can_capture:
        raise CameraError(f"{path} ({node.name}) is not a capture device, expected a webcam; choose another")
    return node


def _asked(device: int | str, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:
    """Open a device and ask it for a pixel format, size and rate, in this order: a size belongs to a format."""
    wishes: list[tuple[int, float]] = []
    if pixel_format and _SYSTEM != "darwin":  # AVFoundation chooses for itself
        wishes.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format)))
    wishes += [
        (cv2.CAP_PROP_FRAME_WIDTH, spec.width_px),
        (cv2.CAP_PROP_FRAME_HEIGHT, spec.height_px),
        (cv2.CAP_PROP_FPS, spec.fps_hz),
    ]
    backend = _BACKENDS.get(_SYSTEM, cv2.CAP_ANY)
    if _SYSTEM == "win32":  # DirectShow builds its graph once: what comes later costs seconds, or is not heard
        return cv2.VideoCapture(int(device), backend, [int(number) for wish in wishes for number in wish])
    capture = cv2.VideoCapture(device, backend)
    if capture.isOpened():
        for key, value in wishes:
            capture.set(key, value)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _DEVICE_BUFFERS)
    return capture


def _grab(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    for _ in range(_TOLERATED_FAILURES):
        start_s = monotonic()
        try:
            arrived, frame = capture.read()
        except cv2.error as error:  # what a driver delivers may be of any size
            logger.info("a frame cannot be decoded: %s", error)
            arrived, frame = False, None
        if arrived and frame is not None:
            return np.asarray(frame, np.uint8)
        if monotonic() - start_s > _STALLED_READ_S:
            break
    return None


def _probe(capture: cv2.VideoCapture) -> tuple[NDArray[np.uint8] | None, float]:
    """The last of the first frames, and the rate that they came at."""
    times_s: list[float] = []
    frame = None
    start_s = monotonic()
    while len(times_s) < _PROBED_FRAMES and (len(times_s) <= _UNEVEN_FRAMES + 1 or monotonic() - start_s < _PROBED_S):
        grabbed = _grab(capture)
        if grabbed is None:
            return None, 0.0
        frame = grabbed
        times_s.append(monotonic())
    return frame, _rate(times_s[_UNEVEN_FRAMES:], capture.get(cv2.CAP_PROP_FPS))


def _rate(times_s: Sequence[float], nominal_hz: float) -> float:
    """Frames a second by the median of their distances; what the driver says where that cannot be."""
    step_s = median(after - before for before, after in itertools.pairwise(times_s))
    if 1 <= 1 / max(step_s, 1e-6) <= 250:
        return round(1 / step_s, 1)
    return nominal_hz if 1 <= nominal_hz <= 250 else 30.0


def _what_is_wrong(frame: NDArray[np.uint8] | None, *, flat_allowed: bool, capture: cv2.VideoCapture) -> str:
    if frame is None:
        return "it opens, but gives no frames"
    shape = (_shaped(frame, capture) if flat_allowed else frame).shape
    if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < MIN_SIDE_PX:
        return f"got pictures of shape {shape}, expected (height, width, 3) of at least {MIN_SIDE_PX} pixels per side"
    return ""


def _shaped(frame: NDArray[np.uint8], capture: cv2.VideoCapture) -> NDArray[np.uint8]:
    """Set right what OpenCV hands on in one row: V4L2's BGR3, which it does not know as its own order of bytes."""
    if frame.ndim == 3:
        return frame
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    is_bgr = int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"BGR3")
    return frame.reshape(height, width, 3) if is_bgr and frame.size == width * height * 3 else frame


def _remark(spec: CameraSpec, width_px: int, height_px: int, fps_hz: float) -> str:
    remarks = []
    if (width_px, height_px) != (spec.width_px, spec.height_px):
        remarks.append(f"asked for {spec.width_px}x{spec.height_px}, gives {width_px}x{height_px}")
    if fps_hz < _SLOW_SHARE * spec.fps_hz:
        remarks.append(f"asked for {spec.fps_hz:g} frames/s, gives {fps_hz:g} (more light often helps)")
    return "; ".join(remarks)


def _why_not(name: str, device: int | str, problem: str) -> str:
    """Why a device that is there gives no pictures: another program has it, as a rule."""
    holders = [holder for holder in _holders(device) if holder.pid != os.getpid()]
    if holders:
        by = " and ".join(f"{holder.name} (process {holder.pid})" for holder in holders)
        return f"{name} is in use by {by}; close that program"
    if problem:
        return f"{name} cannot be used: {problem}; close programs that may use it, or plug it in again"
    privacy = {
        "darwin": "; allow it under System Settings > Privacy & Security > Camera",
        "win32": "; allow it under Settings > Privacy & security > Camera",
    }.get(_SYSTEM, "")
    return f"{name} cannot be opened: it is in use by another program, or not permitted; close that program{privacy}"


def _holders(device: int | str) -> Sequence[Holder]:
    return VideoDevices().holders(Path(device)) if _SYSTEM == "linux" and isinstance(device, str) else ()
