"""Cameras, and what stands in for them: a video file played in real time, a folder of pictures."""

import errno
import itertools
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.capture.camera import Camera, CameraFormat, CameraSpec, Tenancy
from app.pipeline.capture.network_camera import open_network_camera
from app.pipeline.v4l2 import Holder, VideoDevices, VideoNode
from mcnet.config import MIN_SIDE_PX
from mcnet.media.errors import MediaError
from mcnet.media.video import DrivingVideo, open_driving

logger = logging.getLogger(__name__)

VIRTUAL_CAMERAS = ("OBS Virtual Camera", "Unity Video Capture")
"""Names of what the app writes to on Windows and macOS: never offered as a camera."""

_SYSTEM: str = sys.platform
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
class CameraInfo:
    """A camera that is there.

    Attributes:
        name: as its maker calls it.
        spec_text: what `parse_camera` turns into its spec; stays the same when cameras are plugged in otherwise, as
            far as the system allows.
    """

    name: str
    spec_text: str


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
    if spec.kind == "network":
        return open_network_camera(spec)
    assert spec.path is not None
    try:
        return FileCamera(spec.name, open_driving(spec.path, max_fps=_MOST_FILE_FPS_HZ))
    except MediaError as error:
        raise CameraError(str(error)) from error


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
        self._tenancy = Tenancy(name, self._release)

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
        self._tenancy = Tenancy(name, capture.release)

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
