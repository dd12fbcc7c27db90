"""Cameras that are reached by an address: phones with a camera app, and what else speaks HTTP or RTSP."""

import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from time import monotonic
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import CameraFormat, RateProbe, Tenancy
from mcnet.config import MIN_SIDE_PX
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

# How long FFmpeg waits for each step. Together less than a supervisor's patience, so that what is known is told; and a
# read that hangs ends soon after the supervisor has given the camera up, for nothing else can end it.
_ANSWER_S = 4.0
_READ_S = 3.0
_PLAUSIBLE_HZ = (0.5, 250.0)
_USUAL_HZ = 30.0
# A connection may begin in the midst of what only later pictures complete.
_DAMAGED_S = 2.0
_OPTIONS = {
    # A picture is wanted at once: as little as possible is read before the first, and nothing is kept back.
    "analyzeduration": "500000",
    "probesize": "200000",
    "fflags": "nobuffer",
    "flags": "low_delay",
    "rtsp_flags": "prefer_tcp",
    # Wherever an address leads, it leads to no file of this computer.
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,srtp,rtsp,rtsps,crypto",
}
_UNREACHABLE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET, errno.ETIMEDOUT)
# What phones' camera apps serve below the address that they show.
_USUAL_PATH = "/video"


def open_network_camera(spec: CameraSpec) -> "NetworkCamera":
    """Connect, and look at the first frames.

    Raises:
        CameraError: it cannot be reached, wants a password, or gives no live pictures.
    """
    try:
        return _opened(spec, spec.address)
    except _NoVideoError as error:
        parts = urlsplit(spec.address)
        if parts.path not in ("", "/") or not parts.scheme.lower().startswith("http"):
            raise CameraError(str(error)) from None
    try:  # the app's own page was named: its video is likely to be where such apps have it
        return _opened(spec, parts._replace(path=_USUAL_PATH).geturl())
    except CameraError:
        raise CameraError(
            phrase(
                "{name} gives no video: got a page or a file; use the address of the video itself, such as "
                "{scheme}://{address}{path}",
                name=spec.name,
                scheme=parts.scheme,
                address=parts.netloc.rpartition("@")[2],
                path=_USUAL_PATH,
            )
        ) from None


class _NoVideoError(CameraError):
    """Something answers, but not with a video."""


class NetworkCamera:
    """A camera behind an address, through PyAV; see `app.pipeline.capture.camera.Camera`.

    A read that waits for the network ends after three seconds at the latest.
    """

    # Video codecs may repeat a still picture exactly; what has frozen sends nothing.
    is_device = False

    def __init__(self, spec: CameraSpec, stream: "_Stream", camera_format: CameraFormat) -> None:
        self.name = spec.name
        self.format = camera_format
        self._stream = stream
        self._tenancy = Tenancy(spec.name, stream.close)

    def read(self) -> NDArray[np.uint8]:
        with self._tenancy.use():
            rgb = self._stream.read()
        height, width = rgb.shape[:2]
        if (width, height) != (self.format.width_px, self.format.height_px):  # a phone was turned
            raise CameraError(
                phrase(
                    "{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew",
                    name=self.name,
                    width_px=self.format.width_px,
                    height_px=self.format.height_px,
                    width=width,
                    height=height,
                )
            )
        return rgb

    def close(self) -> None:
        self._tenancy.close()


class _Stream:
    """A connection, and the frames that come over it. Used on one thread."""

    def __init__(self, name: str, container: InputContainer, stream: VideoStream) -> None:
        self._name = name
        self._container = container
        self._stream = stream
        self._frames = self._decoded()
        self._reformatter = VideoReformatter()  # a frame's own has threads of its own, for as long as the frame lives

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) uint8 RGB.

        Raises:
            CameraError: none comes any more.
        """
        start_s = monotonic()
        try:
            frame = next(self._frames, None)
        except (av.error.FFmpegError, OSError) as error:
            logger.info("%s: %s", self._name, _cause(error))
            if monotonic() - start_s > 0.9 * _READ_S:
                raise CameraError(
                    phrase(
                        "{name} has given no picture for {seconds:g} s: see that its app is in front, the phone "
                        "awake, and both in the same network",
                        name=self._name,
                        seconds=_READ_S,
                    )
                ) from None
            frame = None
        if frame is None:
            raise CameraError(phrase("{name} has closed the connection: see that its app still runs", name=self._name))
        return np.asarray(self._reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)

    def close(self) -> None:
        """Hang up."""
        self._frames = iter(())
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._container.close()

    def _decoded(self) -> Iterator[VideoFrame]:
        sound_s = monotonic()
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # damaged on its way: no reason to hang up
                if monotonic() - sound_s > _DAMAGED_S:
                    raise
                continue
            for frame in frames:
                sound_s = monotonic()
                yield frame


def _opened(spec: CameraSpec, address: str) -> NetworkCamera:
    name = spec.name
    container = _connected(name, address)
    try:
        video = next(iter(container.streams.video), None)
        if video is None:
            raise _NoVideoError(
                phrase(
                    "{name} gives no video: got a stream without pictures; look in its app for the video's address",
                    name=name,
                )
            )
        if container.duration:
            raise CameraError(
                phrase("{name} is a recording, expected a live camera: download it, and give the file", name=name)
            )
        video.thread_type = "SLICE"  # threads by frames would keep some frames back
        stream = _Stream(name, container, video)
        width, height, fps_hz = _probed(stream)
        if min(width, height) < MIN_SIDE_PX:
            raise CameraError(
                phrase(
                    "{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: "
                    "choose a larger size in its app",
                    name=name,
                    width=width,
                    height=height,
                    least_px=MIN_SIDE_PX,
                )
            )
        logger.info("%s gives %dx%d at %.1f frames/s", name, width, height, fps_hz)
        return NetworkCamera(spec, stream, CameraFormat(width, height, fps_hz))
    except BaseException:
        container.close()
        raise


def _connected(name: str, address: str) -> InputContainer:
    _require_host(name, address)
    start_s = monotonic()
    try:
        return av.open(address, options=dict(_OPTIONS), timeout=(_ANSWER_S, _READ_S))
    except (av.error.FFmpegError, OSError) as error:  # whose text has the address in it: it is not passed on
        logger.info("%s: %s", name, _cause(error))
        if monotonic() - start_s > 0.9 * _ANSWER_S:
            raise CameraError(
                phrase(
                    "{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both "
                    "are in the same network",
                    name=name,
                    seconds=_ANSWER_S,
                )
            ) from None
        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            raise CameraError(
                phrase(
                    "{name} wants another user name or password: give them in the address, as in "
                    "http://USER:PASSWORD@HOST/video",
                    name=name,
                )
            ) from None
        if isinstance(error, av.error.HTTPClientError | av.error.HTTPServerError):
            raise _NoVideoError(
                phrase(
                    "{name} has no video there ({cause}): look in its app for the video's address",
                    name=name,
                    cause=_cause(error),
                )
            ) from None
        if error.errno in _UNREACHABLE:
            raise CameraError(
                phrase(
                    "{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, "
                    "and that the address and its port are right",
                    name=name,
                    cause=_cause(error),
                )
            ) from None
        raise _NoVideoError(
            phrase(
                "{name} gives no video ({cause}): look in its app for the video's address",
                name=name,
                cause=_cause(error),
            )
        ) from None


def _require_host(name: str, address: str) -> None:
    parts = urlsplit(address)
    try:
        socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CameraError(
            phrase(
                "{name} cannot be found: no host of that name is known; check the address, or use the number that "
                "the app shows",
                name=name,
            )
        ) from None


def _probed(stream: _Stream) -> tuple[int, int, float]:
    """Width, height and rate of the first frames."""
    probe = RateProbe()
    while not probe.is_done:
        rgb = stream.read()
        probe.arrived()
    return rgb.shape[1], rgb.shape[0], probe.rate_hz(_PLAUSIBLE_HZ, _USUAL_HZ)


def _cause(error: Exception) -> str:
    """What failed, without the address."""
    return getattr(error, "strerror", None) or type(error).__name__
