"""Which camera is meant, and what a user writes for it: what everybody may name, whoever opens cameras."""

import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, assert_never
from urllib.parse import SplitResult, unquote, urlsplit

from app.errors import CameraError
from app.pipeline.v4l2 import VideoDevices
from mcnet.config import MIN_SIDE_PX
from mcnet.files import as_written
from mcnet.phrases import phrase
from mcnet.track_name import is_track

_EXPECTED = phrase(
    "a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion "
    "file, or a folder of pictures"
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # longer than a drive's letter
_SCHEMES = ("http", "https", "rtsp", "rtsps")
_NUMBER = re.compile(r"\d{1,9}")  # a device of more digits there is nowhere
_SIZE = re.compile(r"@(\d{1,9})x(\d{1,9})(?:@(\d{1,9}(?:\.\d{1,9})?))?$")


CameraKind = Literal["device", "network", "file", "folder", "motion"]


@dataclass(frozen=True)
class CameraSpec:
    """Which camera, and how it is wanted.

    Attributes:
        kind: `device`, `network`, `file` (a video, looping) or `folder` (pictures, looping),
            `motion` (a motion file, looping).
        device: index or path (`/dev/video0`) of a device.
        path: of a file or folder.
        address: of a network camera; it may have a password in it, and is not to be shown.
        width_px, height_px, fps_hz: what a device is asked for; it may answer otherwise.
    """

    kind: CameraKind
    device: int | str = 0
    path: Path | None = None
    width_px: int = 640
    height_px: int = 480
    fps_hz: float = 30.0
    address: str = field(default="", repr=False)

    @property
    def has_one_user(self) -> bool:
        """Whether it can be opened once only: it has to be closed before it is opened again."""
        return self.kind in ("device", "network")

    @property
    def is_recorded(self) -> bool:
        """Whether it plays what lies on the disk, in a loop."""
        return self.kind in ("file", "folder", "motion")

    @property
    def remedy(self) -> str:
        """What to do when it gives no frames, for the middle of a sentence."""
        match self.kind:
            case "device":
                return phrase("unplug it and plug it in again, close other programs that use it")
            case "network":
                return phrase("see that its app is in front, the phone awake, and both in the same network")
            case "file" | "folder" | "motion":
                return phrase("see whether the disk is slow")
            case _:
                assert_never(self.kind)

    @property
    def name(self) -> str:
        """For people. Several may have the same: what may be a password is left out of an address."""
        if self.address:
            return phrase("network camera {address}", address=without_secrets(self.address))
        if self.path is not None:
            return str(self.path)
        if isinstance(self.device, str) and self.device.startswith("/dev/"):
            number = VideoDevices().number(Path(self.device))
            return phrase("camera {name}", name=Path(self.device).name if number is None else number)
        return phrase("camera {device}", device=self.device)

    @property
    def key(self) -> str:
        """The same where two specs mean the same device. Not to be shown: it is made of the whole address, but for who
        asks there.
        """
        if not self.address:
            return self.name
        parts = _readable(self.address)
        place = self.address if parts is None else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return hashlib.sha256(place.encode()).hexdigest()


def parse_camera(text: str) -> CameraSpec:
    r"""Read what a user wrote or what `list_cameras` gave.

    Args:
        text: an index (`0`), a device (`/dev/video0`, `\\?\usb#...`), an address (`http://192.168.1.20:8080/video`,
            `rtsp://...`), a video file, a motion file (`.safetensors`) or a folder of pictures. A device may be
            followed by the size and rate to ask it for: `0@1280x720`, `/dev/video2@1280x720@30`.

    Raises:
        CameraError: it is none of them, or there is no such file.
    """
    if is_address(text):
        return _network_spec(text.strip())
    asked = _SIZE.search(text.strip())
    device = text.strip()[: asked.start()] if asked else text.strip()
    if _NUMBER.fullmatch(device) or device.startswith(("/dev/", "\\\\.\\", "\\\\?\\")):
        return _device_spec(device, asked)
    if not text.strip():
        raise CameraError(phrase("camera: got nothing, expected {expected}", expected=_EXPECTED))
    for name in (text, text.strip()):  # a name may end in a space, and what is typed may too
        with contextlib.suppress(OSError):  # too long a name: no such file either
            path = as_written(name)
            if path.is_dir():
                return CameraSpec("folder", path=path)
            if path.is_file():
                return CameraSpec("motion" if is_track(path) else "file", path=path)
    shown = re.sub(r"[^/\s]*:[^/\s]*@", "...@", text)  # an address without its beginning may have a password, too
    raise CameraError(
        phrase(
            "camera: got {shown}, and there is no such file; expected {expected}", shown=repr(shown), expected=_EXPECTED
        )
    )


def is_address(text: str) -> bool:
    """Whether a camera is named by an address, as `http://192.168.1.20:8080/video`."""
    return _ADDRESS.match(text.strip()) is not None


def without_secrets(address: str) -> str:
    """An address to show: without user name and password, and without what may have one further on."""
    scheme = address.strip().partition(":")[0].lower()
    parts = _readable(address.strip())
    if parts is None:
        return f"{scheme}://..."
    path = "/..." if re.search("[=@:]", unquote(parts.path)) else parts.path
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{path}{'?...' if parts.query else ''}"


def _readable(address: str) -> SplitResult | None:
    """An address in its parts, or None where it has none, or what stands before the host cannot be told from it."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # a port that is no number: a password with a slash, maybe
        return None
    after_host = parts.path + parts.query + parts.fragment
    usable = parts.hostname and port != 0 and "@" not in after_host and not re.search(r"\s", address)
    return parts if usable else None


def _network_spec(text: str) -> CameraSpec:
    """Read an address. A user name and a password stand before the host, as in `http://USER:PASSWORD@HOST/video`.

    Raises:
        CameraError: it cannot be used; the message does not show what may be a password.
    """
    scheme = text.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        raise CameraError(
            phrase(
                "camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://",
                scheme=scheme,
            )
        )
    if _readable(text) is None:
        raise CameraError(
            phrase(
                "camera: got an address that cannot be read, expected one such as "
                "{scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 "
                "and ? as %3F",
                scheme=scheme,
            )
        )
    return CameraSpec("network", address=text)


def _device_spec(device: str, asked: re.Match[str] | None) -> CameraSpec:
    spec = CameraSpec("device", int(device) if _NUMBER.fullmatch(device) else device)
    if asked is None:
        return spec
    width, height = int(asked[1]), int(asked[2])
    fps = float(asked[3]) if asked[3] else spec.fps_hz
    if not (MIN_SIDE_PX <= width <= 8192 and MIN_SIDE_PX <= height <= 8192 and 1 <= fps <= 240):
        raise CameraError(
            phrase(
                "camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to "
                "240 frames/s, as @1280x720@30",
                asked=repr(asked[0]),
                least_px=MIN_SIDE_PX,
            )
        )
    return CameraSpec("device", spec.device, width_px=width, height_px=height, fps_hz=fps)
