"""From the square avatar to the picture that a call sees, and the slate that stands in for it."""

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.output.output_frame import badge_place
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.images import read_rgb
from mcnet.phrases import phrase

_FEATHER_SHARE = 0.035
_BLUR_SIDE_PX = 48
_BLUR_SIGMA = 3.0
_DIM = 0.55
_SLATE_TOP, _SLATE_BOTTOM = (38, 43, 54), (20, 22, 28)
_INK = (232, 234, 240)
_QUIET_INK = (150, 156, 170)
_SLATE_LINES = {
    State.STARTING: ("One moment", "the avatar is getting ready"),
    State.CALIBRATING: ("One moment", "the avatar is getting ready"),
    State.NO_FACE: ("Be right back", ""),
    State.NO_CAMERA: ("Be right back", ""),
    State.SLATE: ("Camera is off", ""),
    State.FAULT: ("Be right back", ""),
}
_WIDEST = 0.92  # of the picture, for a line on the slate
_BADGE = "AI avatar"
_BADGE_LETTERS, _PLATE_SHARE = 0.62, 0.78
_SHARPEN_SIGMA_PX = 0.8
_SHARPEN_MOST = 1.2
"""Unsharp masking of the avatar before it is enlarged. Nine portraits of 512 px, their avatars of 256 px enlarged to
that: at half of it the error against the portrait falls (PSNR 34.8 -> 35.1 dB), and of the portrait's mean gradient 82
% are there in place of 66; at the whole of it 95 %, with more error than without (33.3 dB)."""
_ABOVE_SHARE = 0.35
"""The share of what a portrait larger than the output loses that is cut off above: below it there are shoulders
only."""


class Compositor:
    """Draws what the sinks get, always of one size.

    The avatar's square is scaled to the output's shorter side, times the setting, and stands in the middle; where its
    edges lie in the picture they fade into the background.
    """

    def __init__(self, output: OutputFormat) -> None:
        self._width, self._height = output.width_px, output.height_px
        self._side = min(self._width, self._height)
        self._along_x = self._width > self._height
        # Where the square begins and ends on the longer way, and how much of it fades at each end.
        self._begin = (max(self._width, self._height) - self._side) // 2
        self._end = self._begin + self._side
        self._edge = max(2, round(_FEATHER_SHARE * self._side))
        self._backdrop: tuple[LiveSettings, Rgb] | None = None
        self._slate_picture: Rgb | None = None
        self._own_slates: dict[str, Rgb] = {}

    def compose(self, avatar: Rgb, settings: LiveSettings) -> Rgb:
        """Put the avatar on its background.

        Args:
            avatar: (size, size, 3) uint8 RGB.
            settings: for background, mirror and badge.

        Returns:
            (height, width, 3) uint8 RGB, a fresh array.

        Raises:
            AppError: the background picture cannot be read.
        """
        if settings.mirror_output:
            avatar = np.ascontiguousarray(avatar[:, ::-1])
        enlarged = settings.portrait_size * self._side > avatar.shape[0]
        sharp = _sharpened(avatar, settings.sharpness) if settings.sharpness and enlarged else avatar
        picture = self._fitted(avatar, sharp, settings)
        if settings.badge:
            _put_badge(picture)
        return picture

    def _fitted(self, avatar: Rgb, sharp: Rgb, settings: LiveSettings) -> Rgb:
        """The avatar as it is to be shown, on its background."""
        if settings.portrait_size != 1:
            return self._placed(avatar, sharp, settings)
        picture = np.empty((self._height, self._width, 3), np.uint8)
        square = self._between(picture, self._begin, self._end)
        cv2.resize(sharp, (self._side, self._side), dst=square, interpolation=cv2.INTER_CUBIC)
        if self._width != self._height:
            blur = settings.background == "blur"
            self._surround(picture, *(self._blurred(avatar) if blur else self._strips(self._backdrop_for(settings))))
        return picture

    def _placed(self, avatar: Rgb, sharp: Rgb, settings: LiveSettings) -> Rgb:
        """A portrait of another size than the output's height: it stands on the lower edge, or is cut off.

        Where its edges lie inside the picture they fade into the background.
        """
        side = round(settings.portrait_size * self._side)
        left, over = (self._width - side) // 2, self._height - side
        top = over if over > 0 else round(_ABOVE_SHARE * over)
        picture = self._whole_backdrop(avatar, settings)
        x, y = max(0, left), max(0, top)
        end_x, end_y = min(self._width, left + side), min(self._height, top + side)
        under = picture[y:end_y, x:end_x]
        square = _resized(sharp, (side, side), cv2.INTER_CUBIC)[y - top : end_y - top, x - left : end_x - left]
        square = np.ascontiguousarray(square)
        edge = max(2, round(_FEATHER_SHARE * side))
        height, width = square.shape[:2]
        for faded, across, start in (
            (left > 0, True, 0),
            (left + side < self._width, True, width - edge),
            (top > 0, False, 0),
            (top + side < self._height, False, height - edge),
        ):
            if faded:
                strip = (
                    (slice(None), slice(start, start + edge)) if across else (slice(start, start + edge), slice(None))
                )
                share = _ramp(edge, height if across else width, at_start=start == 0, along_x=across)
                square[strip] = cv2.blendLinear(square[strip], under[strip], share, 1 - share)
        under[:] = square
        return picture

    def _whole_backdrop(self, avatar: Rgb, settings: LiveSettings) -> Rgb:
        if settings.background == "blur":
            return _resized(self._blurred_window(avatar), (self._width, self._height), cv2.INTER_LINEAR)
        return self._backdrop_for(settings).copy()

    def slate(self, state: State, text: str = "") -> Rgb:
        """The picture in place of the avatar; the same array each time for a state and a text, not to be written to.

        Args:
            state: why it is shown.
            text: of the user, in place of ours; not while the avatar gets ready. Empty: ours.
        """
        title, subtitle = _SLATE_LINES.get(state, ("Be right back", ""))
        if subtitle:
            return _slate(self._width, self._height, title, subtitle)
        if self._slate_picture is None:
            return _slate(self._width, self._height, text or title, "")
        return self._own_slate(self._slate_picture, text)

    def use_slate_picture(self, path: str) -> None:
        """Have slates show a picture from now on, but while the avatar gets ready; "": none.

        It is read at once, for a slate may be wanted with the next picture.

        Raises:
            AppError: it cannot be read; slates show none.
        """
        self._slate_picture, self._own_slates = None, {}
        if path:
            self._slate_picture = self._cover(_read_picture(path, phrase("the slate's picture")))

    def _own_slate(self, back: Rgb, text: str) -> Rgb:
        """The user's picture; a text of his stands on it, dimmed."""
        if text not in self._own_slates:
            picture = np.asarray(cv2.convertScaleAbs(back, alpha=_DIM), np.uint8) if text else back.copy()
            if text:
                _write(picture, text, scale=0.085, offset=-0.01)
            picture.flags.writeable = False
            self._own_slates = {text: picture}
        return self._own_slates[text]

    def _between(self, picture: Rgb, start: int, stop: int | None) -> Rgb:
        """The part of a picture between two places on the output's longer way; a view."""
        return picture[:, start:stop] if self._along_x else picture[start:stop]

    def _strips(self, backdrop: Rgb) -> tuple[Rgb, Rgb]:
        """What is seen of a backdrop before and after the square, below its fading edges too; views."""
        before = self._between(backdrop, 0, self._begin + self._edge)
        return before, self._between(backdrop, self._end - self._edge, None)

    def _blurred(self, avatar: Rgb) -> tuple[Rgb, Rgb]:
        """As `_strips`, of the avatar's own picture, enlarged until it covers the output, dimmed, without detail."""
        window = self._blurred_window(avatar)
        if not self._along_x:  # OpenCV widens each row that it is given: cheapest before there are many
            return self._strips(_resized(window, (self._width, self._height), cv2.INTER_LINEAR))
        before, after = self._strips(_resized(window, (self._width, window.shape[0]), cv2.INTER_LINEAR))
        return self._heightened(before), self._heightened(after)

    def _blurred_window(self, avatar: Rgb) -> cv2.typing.MatLike:
        """The same before it is enlarged: a few dozen pixels in the output's shape."""
        small = cv2.resize(avatar, (_BLUR_SIDE_PX, _BLUR_SIDE_PX), interpolation=cv2.INTER_AREA)
        long = max(self._width, self._height)
        cut = round(_BLUR_SIDE_PX * self._height / long), round(_BLUR_SIDE_PX * self._width / long)
        top, left = (_BLUR_SIDE_PX - cut[0]) // 2, (_BLUR_SIDE_PX - cut[1]) // 2
        window = cv2.GaussianBlur(small, (0, 0), _BLUR_SIGMA)[top : top + cut[0], left : left + cut[1]]
        return cv2.convertScaleAbs(window, alpha=_DIM)

    def _heightened(self, strip: Rgb) -> Rgb:
        return _resized(strip, (strip.shape[1], self._height), cv2.INTER_LINEAR)

    def _backdrop_for(self, settings: LiveSettings) -> Rgb:
        kept = self._backdrop
        wanted = (settings.background, settings.background_colour, settings.background_image)
        if kept is None or wanted != (kept[0].background, kept[0].background_colour, kept[0].background_image):
            kept = self._backdrop = (settings, self._draw_backdrop(settings))
        return kept[1]

    def _draw_backdrop(self, settings: LiveSettings) -> Rgb:
        if settings.background == "image":
            return self._cover(_read_picture(settings.background_image, phrase("the background picture")))
        colour = settings.background_colour
        picture = np.empty((self._height, self._width, 3), np.uint8)
        picture[:] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        return picture

    def _cover(self, rgb: Rgb) -> Rgb:
        """Scale a picture until it covers the output, and cut off what is over."""
        height, width = rgb.shape[:2]
        factor = max(self._width / width, self._height / height)
        size = max(self._width, round(width * factor)), max(self._height, round(height * factor))
        scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
        top, left = (size[1] - self._height) // 2, (size[0] - self._width) // 2
        return np.ascontiguousarray(scaled[top : top + self._height, left : left + self._width], np.uint8)

    def _surround(self, picture: Rgb, before: Rgb, after: Rgb) -> None:
        """Draw the backdrop's strips around the square, whose edges there fade into them."""
        self._between(picture, 0, self._begin)[:] = self._between(before, 0, self._begin)
        self._between(picture, self._end, None)[:] = self._between(after, self._edge, None)
        self._fade(picture, self._begin, self._between(before, self._begin, None), at_start=True)
        self._fade(picture, self._end - self._edge, self._between(after, 0, self._edge), at_start=False)

    def _fade(self, picture: Rgb, start: int, backdrop: Rgb, *, at_start: bool) -> None:
        edge = self._between(picture, start, start + self._edge)
        share = _ramp(self._edge, self._side, at_start=at_start, along_x=self._along_x)
        cv2.blendLinear(edge, backdrop, share, 1 - share, dst=edge)


@functools.lru_cache(maxsize=8)
def _ramp(length: int, side: int, *, at_start: bool, along_x: bool) -> NDArray[np.float32]:
    """The square's share of an edge's pixels: (side, length), or (length, side)."""
    share = (np.arange(length, dtype=np.float32) + 0.5) / length
    share = share * share * (3 - 2 * share)
    rows = np.tile(share if at_start else share[::-1], (side, 1))
    return np.ascontiguousarray(rows if along_x else rows.T, np.float32)


def _resized(rgb: cv2.typing.MatLike, size_px: tuple[int, int], interpolation: int) -> Rgb:
    return np.asarray(cv2.resize(rgb, size_px, interpolation=interpolation), np.uint8)


def _sharpened(rgb: Rgb, sharpness: float) -> Rgb:
    """By unsharp masking; `sharpness` from 0 to 1."""
    amount = sharpness * _SHARPEN_MOST
    smooth = cv2.GaussianBlur(rgb, (5, 5), _SHARPEN_SIGMA_PX)
    return np.asarray(cv2.addWeighted(rgb, 1 + amount, smooth, -amount, 0), np.uint8)


def _read_picture(path: str, what: str) -> Rgb:
    if not path:
        raise AppError(
            phrase("the background is to be a picture, but none is chosen: choose a file, or another background")
        )
    try:
        return read_rgb(Path(path).expanduser())
    except (MediaError, OSError, RuntimeError, ValueError) as error:  # the last two: ~nobody, and a NUL in the name
        raise AppError(phrase("{what} cannot be used: {error}", what=what, error=error)) from error


@functools.lru_cache(maxsize=16)
def _slate(width: int, height: int, title: str, subtitle: str) -> Rgb:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (np.array(_SLATE_TOP) * (1 - share) + np.array(_SLATE_BOTTOM) * share + 0.5).astype(np.uint8)
    _write(picture, title, scale=0.085, offset=-0.01)
    if subtitle:
        _write(picture, subtitle, scale=0.034, offset=0.075, ink=_QUIET_INK)
    picture.flags.writeable = False
    return picture


def _put_badge(picture: Rgb) -> None:
    """Say in the lower right corner that the picture is synthetic, on a plate that is dark whatever lies below it."""
    left, top, width, height = badge_place(picture.shape[1], picture.shape[0])
    plate, share = _plate(width, height)
    place = picture[top : top + height, left : left + width]
    cv2.blendLinear(plate, place, share, 1 - share, dst=place)


@functools.lru_cache(maxsize=8)
def _plate(width: int, height: int) -> tuple[Rgb, NDArray[np.float32]]:
    """The badge, and its share of each pixel: its letters cover what is below them, its plate lets some through."""
    plate = np.empty((height, width, 3), np.uint8)
    plate[:] = _SLATE_BOTTOM
    size = round(_BADGE_LETTERS * height)
    while size > 4 and cv2.getTextSize((width, height), _BADGE, (0, 0), _face(), size)[2] > width - height // 2:
        size -= 1
    letters = np.zeros_like(plate)
    _write_centred(letters, _BADGE, size=size, bottom=(height + round(0.72 * size)) // 2, ink=(255, 255, 255))
    ink = letters[:, :, 0].astype(np.float32) / 255
    plate = np.where(letters > 0, (ink[..., None] * np.array(_INK) + (1 - ink[..., None]) * plate), plate)
    radius = height // 4
    round_plate = np.zeros((height, width), np.uint8)
    cv2.rectangle(round_plate, (radius, 0), (width - 1 - radius, height - 1), 255, -1)
    cv2.rectangle(round_plate, (0, radius), (width - 1, height - 1 - radius), 255, -1)
    for x in (radius, width - 1 - radius):
        for y in (radius, height - 1 - radius):
            cv2.circle(round_plate, (x, y), radius, 255, -1, cv2.LINE_AA)
    share = np.maximum(ink, _PLATE_SHARE * round_plate.astype(np.float32) / 255)
    return np.ascontiguousarray(plate, np.uint8), share


def _write(picture: Rgb, text: str, *, scale: float, offset: float = 0.0, ink: tuple[int, int, int] = _INK) -> None:
    """Write a line in the middle of a picture, smaller where it would be too wide.

    Args:
        picture: written into.
        text: what.
        scale: the letters' height, of the picture's height.
        offset: below the middle, of the picture's height.
        ink: its colour.
    """
    height, width = picture.shape[:2]
    size = max(10, round(scale * height))
    while size > 6 and cv2.getTextSize((width, height), text, (0, 0), _face(), size)[2] > _WIDEST * width:
        size -= 1
    _write_centred(picture, text, size=size, bottom=round(height * (0.5 + offset)) + size // 3, ink=ink)


def _write_centred(picture: Rgb, text: str, *, size: int, bottom: int, ink: tuple[int, int, int]) -> None:
    """Write a line in OpenCV's own sans-serif face, centred, its foot at a height in pixels."""
    height, width = picture.shape[:2]
    box = cv2.getTextSize((width, height), text, (0, 0), _face(), size)
    cv2.putText(picture, text, ((width - box[2]) // 2, bottom), ink, _face(), size)


@functools.cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")
