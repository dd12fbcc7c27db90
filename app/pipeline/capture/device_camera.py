"""A webcam, through OpenCV. What differs between operating systems is asked of a `CameraSystem`."""

import logging
from collections.abc import Sequence
from time import monotonic, sleep
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraFormat, CameraInfo, RateProbe, Tenancy
from mcnet.config import MIN_SIDE_PX
from mcnet.phrases import listed, phrase

logger = logging.getLogger(__name__)

# Compressed first: uncompressed, most cameras do not reach 30 frames/s above 640x480 over USB 2.
_PIXEL_FORMATS = ("MJPG", "YUYV", "")
# One that is being filled beside the one that is being read: with a single one V4L2 cannot capture while the app
# reads, and the rate halves. The camera thread always waits in `read`, so none of them ever grows old.
_BUFFERS = 2
# The first pictures of some cameras cannot be used: the sensor wakes up, and half a JPEG comes.
_WAKES_UP_S = 2.0
_NEXT_TRY_S = 0.01
# A damaged JPEG now and then is no reason to close a camera; an unplugged one fails again at once.
_PLAUSIBLE_HZ = (1.0, 250.0)
_USUAL_HZ = 30.0
_TOLERATED_FAILURES = 5
_STALLED_READ_S = 1.0

Wishes = Sequence[tuple[int, float]]
"""Properties of OpenCV's capture and the values that are wanted, in the order in which they are to be asked for."""


class FoundDevice(NamedTuple):
    """A device that is there.

    Attributes:
        name: for people.
        address: what OpenCV opens it by: an index, or a path.
    """

    name: str
    address: int | str


class CameraSystem(Protocol):
    """An operating system's webcams.

    Attributes:
        wishes_open: whether the wishes are part of the opening, so that a device that does not open with one pixel
            format may open with the next.
        permission: where the user allows cameras, to end a sentence; "" where there is no such place.
    """

    wishes_open: bool
    permission: str

    def cameras(self) -> list[CameraInfo]:
        """The cameras that are plugged in, without opening a stream; what the app itself writes to is left out."""
        ...

    def find(self, spec: CameraSpec) -> FoundDevice:
        """Find the device that is meant.

        Raises:
            CameraError: it is not there, not permitted, or no camera.
        """
        ...

    def open(self, device: FoundDevice, spec: CameraSpec, pixel_format: str) -> cv2.VideoCapture:
        """Open a device and ask it for a pixel format ("": its own), a size and a rate; may not be open afterwards."""
        ...

    def users(self, device: FoundDevice) -> str:
        """Other programs that have the device, for people; "" where there are none, or the system does not tell."""
        ...


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
                    phrase(
                        "{name} gives no frames any more: unplugged, or taken by another program; plug it in again "
                        "or close the other program",
                        name=self.name,
                    )
                )
            expected = (self.format.height_px, self.format.width_px)
            bgr = _shaped(bgr, self._capture)
            if bgr.shape != (*expected, 3):
                raise CameraError(
                    phrase(
                        "{name} changed its picture: got {shape}, expected {value}; open it again",
                        name=self.name,
                        shape=bgr.shape,
                        value=(*expected, 3),
                    )
                )
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return rgb.astype(np.uint8, copy=False)

    def close(self) -> None:
        self._tenancy.close()


def open_device(spec: CameraSpec, system: CameraSystem) -> DeviceCamera:
    """Find a device, and ask it for one pixel format after another until the frames can be used.

    Raises:
        CameraError: it is missing, busy, not permitted, no camera, or gives nothing that can be used.
    """
    device = system.find(spec)
    problem = ""
    for pixel_format in _PIXEL_FORMATS:
        capture = system.open(device, spec, pixel_format)
        if not capture.isOpened():
            if system.wishes_open:
                continue
            break
        frame, fps_hz = _probe(capture)
        problem = _what_is_wrong(frame, flat_allowed=not pixel_format, capture=capture)
        if frame is not None and not problem:
            height, width = _shaped(frame, capture).shape[:2]
            logger.info("%s gives %dx%d at %.1f frames/s", device.name, width, height, fps_hz)
            return DeviceCamera(device.name, capture, CameraFormat(width, height, fps_hz))
        capture.release()
    raise CameraError(_why_not(device, problem, system))


def wishes(spec: CameraSpec, pixel_format: str) -> Wishes:
    """A pixel format ("": whichever), a size and a rate, in this order: a size belongs to a format."""
    format_first = [(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format))] if pixel_format else []
    return [
        *format_first,
        (cv2.CAP_PROP_FRAME_WIDTH, spec.width_px),
        (cv2.CAP_PROP_FRAME_HEIGHT, spec.height_px),
        (cv2.CAP_PROP_FPS, spec.fps_hz),
    ]


def open_and_wish(device: FoundDevice, backend: int, wished: Wishes) -> cv2.VideoCapture:
    """Open a device with one of OpenCV's backends, then ask it for what is wished."""
    capture = cv2.VideoCapture(device.address, backend)
    if capture.isOpened():
        for key, value in wished:
            capture.set(key, value)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
    return capture


def other_choice(there: Sequence[str]) -> str:
    """What to do about a camera that is not there, to end a sentence; `there`: those that are, for people."""
    return (
        phrase("plug it in, or choose another: {there}", there=listed(there))
        if there
        else phrase("plug one in; no camera is there at all")
    )


def _grab(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    for _ in range(_TOLERATED_FAILURES):
        start_s = monotonic()
        if (frame := _try_to_grab(capture)) is not None:
            return frame
        if monotonic() - start_s > _STALLED_READ_S:
            break
    return None


def _try_to_grab(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    try:
        arrived, frame = capture.read()
    except cv2.error as error:  # what a driver delivers may be of any size
        logger.info("a frame cannot be decoded: %s", error)
        return None
    return np.asarray(frame, np.uint8) if arrived and frame is not None else None


def _first(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """The first picture that can be read; None where none comes in time, however many could not be."""
    start_s = monotonic()
    while (frame := _try_to_grab(capture)) is None and monotonic() - start_s < _WAKES_UP_S:
        sleep(_NEXT_TRY_S)
    return frame


def _probe(capture: cv2.VideoCapture) -> tuple[NDArray[np.uint8] | None, float]:
    """The last of the first frames, and the rate that they came at."""
    frame, probe = _first(capture), RateProbe()
    while frame is not None:
        probe.arrived()
        if probe.is_done:
            nominal_hz = capture.get(cv2.CAP_PROP_FPS)
            low_hz, high_hz = _PLAUSIBLE_HZ
            return frame, probe.rate_hz(_PLAUSIBLE_HZ, nominal_hz if low_hz <= nominal_hz <= high_hz else _USUAL_HZ)
        frame = _grab(capture)
    return None, 0.0


def _what_is_wrong(frame: NDArray[np.uint8] | None, *, flat_allowed: bool, capture: cv2.VideoCapture) -> str:
    if frame is None:
        return phrase("it opens, but gives no frames")
    shape = (_shaped(frame, capture) if flat_allowed else frame).shape
    if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < MIN_SIDE_PX:
        return phrase(
            "got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side",
            shape=shape,
            least_px=MIN_SIDE_PX,
        )
    return ""


def _shaped(frame: NDArray[np.uint8], capture: cv2.VideoCapture) -> NDArray[np.uint8]:
    """Reshape frames that OpenCV returns as one row: it does not recognise V4L2's BGR3 as its own order of bytes."""
    if frame.ndim == 3:
        return frame
    width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    is_bgr = int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"BGR3")
    return frame.reshape(height, width, 3) if is_bgr and frame.size == width * height * 3 else frame


def _why_not(device: FoundDevice, problem: str, system: CameraSystem) -> str:
    """Why a device that is there gives no pictures: another program has it, as a rule."""
    name = device.name
    if users := system.users(device):
        return phrase("{name} is in use by {users}; close that program", name=name, users=users)
    if problem:
        return phrase(
            "{name} cannot be used: {problem}; close programs that may use it, or plug it in again",
            name=name,
            problem=problem,
        )
    if system.permission:
        return phrase(
            "{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it "
            "under {place}",
            name=name,
            place=system.permission,
        )
    return phrase(
        "{name} cannot be opened: it is in use by another program, or not permitted; close that program", name=name
    )
