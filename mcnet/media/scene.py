"""What stands behind a person who is cut out of a portrait: its own background, a colour, a picture, a video."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.images import is_picture, read_rgb, usual_endings
from mcnet.media.matte import Cutout, Matte, cut_frame, cut_out, cut_portrait
from mcnet.media.surroundings import Surrounded
from mcnet.media.video import looped, open_driving
from mcnet.phrases import phrase

Kind = Literal["own", "blur", "colour", "alpha", "image", "video"]

GREEN = "#00ff00"
USUAL_BLUR = 0.5
_STRONGEST_BLUR = 0.1
"""Standard deviation, as a share of the side."""
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:(?!\\)")  # of two letters or more: C: is a drive
_LONGEST_LAG_S = 2.0
_SLIGHTLY = 1e-6
"""Of a frame, by which a time may be early that is a whole number of frames but for its rounding."""


@dataclass(frozen=True)
class Background:
    """What a person is shown before.

    Attributes:
        kind: `own`: the portrait's own background, which stays still; `blur`: the same, blurred; `alpha`: nothing, the
            picture is transparent there.
        colour: as #rrggbb.
        path: of the picture or the video.
        blur: 0 (not at all) to 1.
    """

    kind: Kind
    colour: str = GREEN
    path: Path = Path()
    blur: float = USUAL_BLUR

    @property
    def is_file(self) -> bool:
        """Whether it is read from `path`."""
        return self.kind in ("image", "video")


def parse_background(text: str, blur: float = USUAL_BLUR) -> Background:
    """A background as a command line names it: own, blur, green, #rrggbb, alpha, or a file.

    Raises:
        MediaError: it is none of these, and there is no such file.
    """
    named: dict[str, Kind] = {"own": "own", "blur": "blur", "alpha": "alpha"}
    if text in named:
        return Background(named[text], blur=blur)
    if text == "green":
        return Background("colour")
    if text.startswith("#") and is_colour(text):
        return Background("colour", colour=text)
    try:
        path = require_file(text)
    except MediaError as error:
        raise MediaError(
            phrase(
                "background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video",
                error=error,
            )
        ) from error
    return Background("video" if is_moving(path) else "image", path=path, blur=blur)


def is_colour(text: str) -> bool:
    """Whether it is a colour as #rrggbb."""
    return re.fullmatch("#[0-9a-fA-F]{6}", text) is not None


def is_moving(path: Path) -> bool:
    """Whether a file that is to be a background is taken for a video: no picture, or an animated GIF."""
    suffix = path.suffix.lower()
    return suffix == ".gif" or not (suffix in usual_endings() or is_picture(path))


def require_file(text: str) -> Path:
    """The place of a picture or video that is to be a background.

    Only a regular file will do. A device may be a camera, and what is at an address may be one too: no picture of a
    camera may go out.

    Raises:
        MediaError: it is something else, or is not there.
    """
    if not text:
        raise MediaError(phrase("no file is chosen; choose a picture or a video"))
    if _ADDRESS.match(text):
        raise MediaError(
            phrase("got a network address, and only a file of this machine can be used; download it first")
        )
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return path
        found = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # the last two: ~nobody, and a NUL in the name
        raise MediaError(phrase("{path} cannot be read ({error}); check the path", path=text, error=error)) from error
    if found:
        raise MediaError(
            phrase("{path} is a folder, a device or a pipe, and only a file can be used; choose another", path=path)
        )
    raise MediaError(phrase("there is no file {path}; check the path", path=path))


def rgb_of(colour: str) -> tuple[int, int, int]:
    """#rrggbb as red, green and blue, 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def plain(colour: str, size_px: tuple[int, int]) -> Rgb:
    """A picture of one colour; `size_px` is (width, height)."""
    picture = np.empty((size_px[1], size_px[0], 3), np.uint8)
    picture[:] = rgb_of(colour)
    return picture


def covering(rgb: Rgb, size_px: tuple[int, int]) -> Rgb:
    """A picture scaled until it covers (width, height); what is over is cut off on both sides.

    It is cut first: a narrow picture would become huge.
    """
    (height, width), (wide, tall) = rgb.shape[:2], size_px
    factor = max(wide / width, tall / height)
    seen_width, seen_height = min(width, max(1, round(wide / factor))), min(height, max(1, round(tall / factor)))
    top, left = (height - seen_height) // 2, (width - seen_width) // 2
    seen = rgb[top : top + seen_height, left : left + seen_width]
    scaled = cv2.resize(seen, size_px, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return np.ascontiguousarray(scaled, np.uint8)


def blurred(rgb: Rgb, strength: float) -> Rgb:
    """A picture out of focus; `strength` from 0 to 1."""
    sigma = strength * _STRONGEST_BLUR * min(rgb.shape[:2])
    if sigma < 0.3:
        return rgb
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


class LoopedVideo:
    """A video that begins anew where it ends. It belongs to one thread, which asks for times or for the next frame.

    It holds its pictures itself: a playlist, which could lead to a camera, is refused.

    Attributes:
        fps: of the video.

    Args:
        path: of the video.
        max_fps: a faster one is thinned out to this rate; None keeps its own.

    Raises:
        MediaError: it cannot be read.
    """

    def __init__(self, path: Path, max_fps: float | None = None) -> None:
        self._video = open_driving(path, self_contained=True, max_fps=max_fps)
        self.fps = self._video.fps
        self._frames: Iterator[Rgb] = looped(self._video)
        self._index = -1
        self._frame: Rgb | None = None

    def at(self, time_s: float) -> Rgb:
        """What is to be seen so many seconds after the start; times must not go back.

        One who comes late by more than two seconds sees it go on from where it was.

        Returns:
            (H, W, 3) uint8 RGB; the same array as long as it is the same frame.

        Raises:
            MediaError: it cannot be read any more.
        """
        wanted = int(time_s * self.fps + _SLIGHTLY)
        if self._frame is not None and wanted - self._index > _LONGEST_LAG_S * self.fps:
            self._index = wanted - 1
        while self._frame is None or self._index < wanted:
            self._frame = self.next()
        return self._frame

    def next(self) -> Rgb:
        """The frame after the one before; see `at`."""
        frame = next(self._frames, None)
        if frame is None:
            raise MediaError(phrase("no frame of {path} can be decoded; choose another video", path=self._video.path))
        self._index += 1
        return frame


class Scene:
    """Shows the frames of one animated portrait before a background, in the size of the portrait's picture.

    Args:
        background: behind the person.
        portrait: as the engine gets it, with what is seen around.

    Raises:
        MediaError: nobody is seen in the portrait; the background's file, or the bundled network, cannot be read.
    """

    def __init__(self, background: Background, portrait: Surrounded) -> None:
        self._matte: Matte = cut_out(*portrait)
        self._picture = portrait.rgb
        self._size_px = (self._picture.shape[1], self._picture.shape[0])
        self._video: LoopedVideo | None = None
        self._shown: tuple[Rgb, Rgb] | None = None
        self.has_alpha = background.kind == "alpha"
        self._still = self._backdrop(background)

    def _backdrop(self, background: Background) -> Rgb:
        match background.kind:
            case "own":
                return self._matte.plate
            case "blur":
                return blurred(self._matte.plate, background.blur)
            case "image":
                return covering(read_rgb(background.path), self._size_px)
            case "video":
                self._video = LoopedVideo(background.path)
                return covering(self._video.at(0), self._size_px)
            case _:
                return plain(background.colour, self._size_px)

    def cut(self, rgb: Rgb, deformation: NDArray[np.float32], occlusion: NDArray[np.float32]) -> Cutout:
        """The person in one animated picture; see `cut_frame`."""
        return cut_frame(self._matte, rgb, deformation, occlusion)

    def portrait(self) -> Cutout:
        """The person in the portrait itself."""
        return cut_portrait(self._matte, self._picture)

    def show(self, person: Cutout, time_s: float) -> NDArray[np.uint8]:
        """The picture at that time: (H, W, 3) uint8 RGB, or (H, W, 4) with straight alpha where there is no background.

        Raises:
            MediaError: the background's video cannot be read any more.
        """
        return person.rgba() if self.has_alpha else person.before(self._backdrop_at(time_s))

    def _backdrop_at(self, time_s: float) -> Rgb:
        if self._video is None:
            return self._still
        frame = self._video.at(time_s)
        if self._shown is None or self._shown[0] is not frame:
            self._shown = frame, covering(frame, self._size_px)
        return self._shown[1]
