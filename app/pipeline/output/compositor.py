"""From the square avatar to the picture that a call sees, and the slate that stands in for it."""

import dataclasses
import functools
import math
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.output.backdrop_video import BackdropVideo
from app.pipeline.output.output_frame import Person, badge_place
from app.pipeline.output.picture_reading import PictureReading
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.media.matte import Cutout
from mcnet.media.scene import blurred, covering, plain, rgb_of
from mcnet.media.surroundings import NO_MARGINS, Margins
from mcnet.phrases import phrase

_FEATHER_SHARE = 0.035
_CUT_FADE_SHARE, _CROWN_FADE_SHARE, _CUT_NEAR_SHARE = 0.18, 0.05, 0.1
"""Of the portrait's side: how far a person fades out who is cut off by its edge, and by the upper one, where it is hair
that comes and goes with each nod; and how far beside him that begins."""
_CONTINUED_BLUR, _CONTINUED_SHARP = 0.04, 0.2
"""Of the portrait's side: how far its own background is blurred where it is made up, and within what distance of the
photograph's edge that begins."""
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
_OWN = ("blur", "own")
"""Backgrounds that are made of the portrait's own."""
_WIDEST = 0.92  # of the picture, for a line on the slate
_BADGE = "AI avatar"
_BADGE_LETTERS, _PLATE_SHARE = 0.62, 0.78
_SHARPEN_SIGMA_PX = 0.8
_SHARPEN_MOST = 1.2
"""Unsharp masking of the avatar before it is enlarged. Nine portraits of 512 px, their avatars of 256 px enlarged to
that: at half of it the error against the portrait falls (PSNR 34.8 -> 35.1 dB), and of the portrait's mean gradient 82
% are there in place of 66; at the whole of it 95 %, with more error than without (33.3 dB)."""
_SHARPEN_DETAILED = 0.5
"""The share of that for an avatar with the portrait's own detail. Three portraits at rest, enlarged to 720 px, the
setting at half: PSNR 44.9 -> 46.1 dB with this share, 44.6 with the whole; of the portrait's mean gradient 102 % are
there, and 115 % with the whole."""
_ABOVE_SHARE = 0.35
"""The share of what a portrait larger than the output loses that is cut off above: below it there are shoulders
only."""


class Compositor:
    """Draws what the sinks get, always of one size.

    The avatar's square is scaled to the output's shorter side, times the setting, and stands in the middle or where the
    settings shift it; where its edges lie in the picture they fade into the background. A person who is cut out of it
    stands before a background that covers the picture and is still; the portrait's own goes on beyond its edges.
    """

    def __init__(self, output: OutputFormat) -> None:
        self._width, self._height = output.width_px, output.height_px
        self._fps_hz = output.fps_hz
        self._side = min(self._width, self._height)
        self._along_x = self._width > self._height
        # Where the square begins and ends on the longer way, and how much of it fades at each end.
        self._begin = (max(self._width, self._height) - self._side) // 2
        self._end = self._begin + self._side
        self._edge = max(2, round(_FEATHER_SHARE * self._side))
        self._backdrop: tuple[tuple[str, str], Rgb] | None = None
        self._blurred_plate: tuple[Rgb, float, Rgb] | None = None
        self._continued_plate: tuple[Rgb, tuple[_Place, float, bool], Rgb] | None = None
        self._video: BackdropVideo | None = None
        self._ended_videos: list[BackdropVideo] = []
        self._images: dict[str, PictureReading] = {}  # by path; of those not wanted any more what is still under way
        self._slate_reading: PictureReading | None = None
        self._slate_picture: Rgb | None = None
        self._own_slates: dict[str, Rgb] = {}

    def close(self) -> None:
        """End what runs in the background; harmless when called again."""
        self._end_video()
        for video in self._ended_videos:
            video.close()
        self._ended_videos = []

    def shows_video(self, settings: LiveSettings) -> bool:
        """Whether the picture changes though the avatar does not; a video that is not wanted any more is ended."""
        if settings.background != "video" or (
            self._video is not None and self._video.path != settings.background_video
        ):
            self._end_video()
        return settings.background == "video"

    def reads_background(self, settings: LiveSettings) -> bool:
        """Whether the background's picture is still being read, which begins when first asked."""
        path = settings.background_image if settings.background == "image" else ""
        self._images = {of: reading for of, reading in self._images.items() if of == path or reading.is_alive()}
        if not path or (self._backdrop is not None and self._backdrop[0] == _backdrop_of(settings)):
            return False
        if path not in self._images:
            self._images[path] = PictureReading(path, phrase("the background picture"), (self._width, self._height))
        return self._images[path].is_alive()

    def _end_video(self) -> None:
        """Have the video end, which the pictures do not wait for."""
        if self._video is not None:
            self._video.end()
            self._ended_videos = [*(video for video in self._ended_videos if not video.over()), self._video]
            self._video = None

    def compose(
        self,
        avatar: Rgb,
        settings: LiveSettings,
        person: Person | None = None,
        *,
        margins: tuple[int, int, int, int] = NO_MARGINS,
    ) -> Rgb:
        """Put the avatar on its background.

        Args:
            avatar: (height, width, 3) uint8 RGB.
            settings: for background, place, mirror and badge.
            person: of the avatar, without its background; needed to cut it out.
            margins: of the portrait's square in the avatar's picture: left, above, right and below, in pixels.

        Returns:
            (height, width, 3) uint8 RGB, a fresh array.

        Raises:
            AppError: the background's picture or video cannot be read.
        """
        return self.compose_layers(avatar, settings, person, margins=margins)[0]

    def compose_layers(
        self,
        avatar: Rgb,
        settings: LiveSettings,
        person: Person | None,
        *,
        margins: tuple[int, int, int, int] = NO_MARGINS,
        detailed: bool = False,
    ) -> tuple[Rgb, NDArray[np.uint8] | None]:
        """Likewise, with what is transparent: (height, width) uint8 alpha, where there is to be no background.

        The picture then shows the background's colour there. `detailed`: whether the avatar has the portrait's own
        detail, so that less of it is to be brought out.
        """
        around_square = Margins(*margins)
        if detailed:
            settings = dataclasses.replace(settings, sharpness=settings.sharpness * _SHARPEN_DETAILED)
        if settings.mirror_output:
            avatar, around_square = np.ascontiguousarray(avatar[:, ::-1]), around_square.mirrored()
        alpha: NDArray[np.uint8] | None = None
        if settings.cut_out and person is not None:
            picture, alpha = self._before(person, settings, around_square)
        else:
            picture = self._fitted(avatar, settings, around_square)
        if settings.badge:
            if alpha is not None:
                _darken_below_badge(picture, alpha, settings.background_colour)
            _put_badge(picture)
        return picture, alpha

    def _sharp(self, seen: Rgb, settings: LiveSettings, side_px: int) -> Rgb:
        """What is seen of an avatar whose square has that side, sharpened where it is to be enlarged."""
        enlarged = settings.portrait_size * self._side > side_px
        return _sharpened(seen, settings.sharpness) if settings.sharpness and enlarged else seen

    def _fitted(self, avatar: Rgb, settings: LiveSettings, margins: Margins) -> Rgb:
        """The avatar as it is to be shown, on its background."""
        if any(margins) or (settings.portrait_size, settings.portrait_x, settings.portrait_y) != (1, 0, 0):
            return self._placed(avatar, settings, margins)
        picture = np.empty((self._height, self._width, 3), np.uint8)
        square = self._between(picture, self._begin, self._end)
        sharp = self._sharp(avatar, settings, len(avatar))
        cv2.resize(sharp, (self._side, self._side), dst=square, interpolation=cv2.INTER_CUBIC)
        if self._width != self._height:
            blur = settings.background in _OWN
            self._surround(picture, *(self._blurred(avatar) if blur else self._strips(self._backdrop_for(settings))))
        return picture

    def _placed(self, avatar: Rgb, settings: LiveSettings, margins: Margins) -> Rgb:
        """A portrait of another size than the output's height, at another place, or with what is around its square.

        Where its edges lie inside the picture they fade into the background.
        """
        place, seen = self._place(settings, margins, margins.side(avatar))
        if place.covers:
            picture = np.empty((self._height, self._width, 3), np.uint8)
        elif settings.background in _OWN:
            window = self._blurred_window(margins.square(avatar))
            picture = _resized(window, (self._width, self._height), cv2.INTER_LINEAR)
        else:
            picture = self._backdrop_for(settings).copy()
        if place.empty:
            return picture
        under = picture[place.rows, place.columns]
        sharp = self._sharp(margins.trimmed(avatar, seen), settings, margins.side(avatar))
        shown = place.cut(_resized(sharp, place.size_px, cv2.INTER_CUBIC))
        for strip, share in place.fading():
            shown[strip] = cv2.blendLinear(shown[strip], under[strip], share, 1 - share)
        under[:] = shown
        return picture

    def _before(self, person: Person, settings: LiveSettings, margins: Margins) -> tuple[Rgb, NDArray[np.uint8] | None]:
        """A person who is cut out, before a background that covers the picture."""
        cutout = _turned(person.cutout) if settings.mirror_output else person.cutout
        side_px = margins.side(cutout.alpha)
        place, seen = self._place(settings, margins, side_px)
        if settings.background == "blur":
            backdrop = self._blurred_plate_of(person.plate, settings)
            picture = np.ascontiguousarray(backdrop[:, ::-1]) if settings.mirror_output else backdrop.copy()
        elif settings.background == "own":
            picture = self._continued_plate_of(person.plate, settings, margins, place, seen).copy()
        else:
            picture = self._backdrop_for(settings).copy()
        share = np.zeros((self._height, self._width), np.float32) if settings.background == "alpha" else None
        if not place.empty:
            under = picture[place.rows, place.columns]
            colours = self._sharp(margins.trimmed(cutout.colours, seen), settings, side_px)
            shown = place.cut(_resized(colours, place.size_px, cv2.INTER_CUBIC))
            alpha = _ending_softly(margins.trimmed(cutout.alpha, seen), place, side_px)
            there = np.asarray(place.cut(cv2.resize(alpha, place.size_px, interpolation=cv2.INTER_LINEAR)), np.float32)
            under[:] = cv2.blendLinear(shown, under, there, 1 - there)
            if share is not None:
                share[place.rows, place.columns] = there
        return picture, None if share is None else np.asarray(cv2.convertScaleAbs(share, alpha=255), np.uint8)

    def _blurred_plate_of(self, plate: Rgb, settings: LiveSettings) -> Rgb:
        """The portrait's own background, out of focus, covering the picture."""
        kept = self._blurred_plate
        if kept is None or kept[0] is not plate or kept[1] != settings.background_blur:
            whole = covering(blurred(plate, settings.background_blur), (self._width, self._height))
            kept = self._blurred_plate = (plate, settings.background_blur, whole)
        return kept[2]

    def _continued_plate_of(
        self, plate: Rgb, settings: LiveSettings, margins: Margins, place: "_Place", seen: Margins
    ) -> Rgb:
        """The portrait's own background where it belongs; beyond its edges it goes on mirrored, and out of focus."""
        kept, asked = self._continued_plate, (place, settings.sharpness, settings.mirror_output)
        if kept is None or kept[0] is not plate or kept[1] != asked:
            shown = margins.trimmed(np.ascontiguousarray(plate[:, ::-1]) if settings.mirror_output else plate, seen)
            whole = self._continued(self._sharp(shown, settings, margins.side(plate)), place)
            kept = self._continued_plate = (plate, asked, whole)
        return kept[2]

    def _continued(self, plate: Rgb, place: "_Place") -> Rgb:
        if place.empty:
            return covering(blurred(plate, 1), (self._width, self._height))
        shown = place.cut(_resized(plate, place.size_px, cv2.INTER_CUBIC))
        beyond = (
            place.rows.start,
            self._height - place.rows.stop,
            place.columns.start,
            self._width - place.columns.stop,
        )
        if not any(beyond):
            return np.asarray(shown, np.uint8)
        mirrored = cv2.copyMakeBorder(shown, *beyond, cv2.BORDER_REFLECT)
        little = cv2.resize(mirrored, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        little = cv2.GaussianBlur(little, (0, 0), _CONTINUED_BLUR * place.side / 4, borderType=cv2.BORDER_REPLICATE)
        smooth = cv2.resize(little, (self._width, self._height), interpolation=cv2.INTER_LINEAR)
        outside = cv2.copyMakeBorder(np.zeros(shown.shape[:2], np.uint8), *beyond, cv2.BORDER_CONSTANT, value=(1,))
        away = cv2.distanceTransform(outside, cv2.DIST_L2, 3) / (_CONTINUED_SHARP * place.side)
        share = np.clip(away, 0, 1).astype(np.float32)
        return np.asarray(cv2.blendLinear(smooth, mirrored, share, 1 - share), np.uint8)

    def _place(self, settings: LiveSettings, margins: Margins, side_px: int) -> tuple["_Place", Margins]:
        """Where the avatar lies: its square stands on the lower edge, or is cut off, and is shifted from there.

        Args:
            settings: say how large it is, and how far shifted.
            margins: of the avatar's square in its picture.
            side_px: of that square.

        Returns:
            Where it lies, and which of the margins are seen: there is no use in enlarging what is not.
        """
        side = round(settings.portrait_size * self._side)
        over = self._height - side
        left = (self._width - side) // 2 + round(settings.portrait_x * self._width)
        top = (over if over > 0 else round(_ABOVE_SHARE * over)) + round(settings.portrait_y * self._height)
        scale = side / side_px
        room = (left, top, self._width - left - side, self._height - top - side)
        seen = margins.at_most(Margins(*(math.ceil(max(0, px) / scale) for px in room)))
        wide = Margins(*(round(px * scale) for px in seen))
        return (
            _Place(
                left - wide.left,
                top - wide.top,
                side + wide.left + wide.right,
                side + wide.top + wide.bottom,
                side,
                self._width,
                self._height,
            ),
            seen,
        )

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
        """Have slates show a picture as soon as it is read, but while the avatar gets ready; "": none.

        Until then they are plain: a slate never waits.
        """
        self._slate_picture, self._own_slates = None, {}
        what = phrase("the slate's picture")
        self._slate_reading = PictureReading(path, what, (self._width, self._height)) if path else None

    def take_slate_picture(self) -> None:
        """Take the picture for slates, if it has been read by now.

        Raises:
            AppError: it cannot be used, which is told once; slates show none.
        """
        reading = self._slate_reading
        if reading is not None and not reading.is_alive():
            self._slate_reading = None
            self._slate_picture = reading.result()

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
        """As `_strips`, of the avatar's own picture, enlarged until it covers the output, dimmed, without detail.

        Where the output is wide they still are as low as the blurred picture: `_surround` heightens them in place.
        """
        window = self._blurred_window(avatar)
        if not self._along_x:  # OpenCV widens each row that it is given: cheapest before there are many
            return self._strips(_resized(window, (self._width, self._height), cv2.INTER_LINEAR))
        return self._strips(_resized(window, (self._width, window.shape[0]), cv2.INTER_LINEAR))

    def _blurred_window(self, avatar: Rgb) -> cv2.typing.MatLike:
        """The same before it is enlarged: a few dozen pixels in the output's shape."""
        small = cv2.resize(avatar, (_BLUR_SIDE_PX, _BLUR_SIDE_PX), interpolation=cv2.INTER_AREA)
        long = max(self._width, self._height)
        cut = round(_BLUR_SIDE_PX * self._height / long), round(_BLUR_SIDE_PX * self._width / long)
        top, left = (_BLUR_SIDE_PX - cut[0]) // 2, (_BLUR_SIDE_PX - cut[1]) // 2
        window = cv2.GaussianBlur(small, (0, 0), _BLUR_SIGMA)[top : top + cut[0], left : left + cut[1]]
        return cv2.convertScaleAbs(window, alpha=_DIM)

    def _backdrop_for(self, settings: LiveSettings) -> Rgb:
        """The whole background, where it is none of the portrait's; not to be written to. Plain while it is read."""
        if settings.background == "video":
            if self._video is None:
                self._video = BackdropVideo(settings.background_video, (self._width, self._height), self._fps_hz)
            picture = self._video.latest()
            if picture is not None:
                return picture
        wanted = _backdrop_of(settings)
        if self._backdrop is None or self._backdrop[0] != wanted:
            picture = self._draw_backdrop(settings)
            if picture is None:
                return plain(settings.background_colour, (self._width, self._height))
            self._backdrop = (wanted, picture)
        return self._backdrop[1]

    def _draw_backdrop(self, settings: LiveSettings) -> Rgb | None:
        """A background that is still; None while its picture is being read."""
        if settings.background != "image":
            return plain(settings.background_colour, (self._width, self._height))
        path = settings.background_image
        if not path:
            raise AppError(
                phrase("the background is to be a picture, but none is chosen: choose a file, or another background")
            )
        return self._images[path].result() if path in self._images else None

    def _surround(self, picture: Rgb, before: Rgb, after: Rgb) -> None:
        """Draw the backdrop's strips around the square, whose edges there fade into them."""
        _put(self._between(before, 0, self._begin), self._between(picture, 0, self._begin))
        _put(self._between(after, self._edge, None), self._between(picture, self._end, None))
        self._fade(picture, self._begin, self._between(before, self._begin, None), at_start=True)
        self._fade(picture, self._end - self._edge, self._between(after, 0, self._edge), at_start=False)

    def _fade(self, picture: Rgb, start: int, backdrop: Rgb, *, at_start: bool) -> None:
        edge = self._between(picture, start, start + self._edge)
        behind = np.empty(edge.shape, np.uint8)
        _put(backdrop, behind)
        share = _ramp(self._edge, self._side, at_start=at_start, along_x=self._along_x)
        cv2.blendLinear(edge, behind, share, 1 - share, dst=edge)


def _backdrop_of(settings: LiveSettings) -> tuple[str, str]:
    """What a background that is still is drawn from, where it is none of the portrait's."""
    image = settings.background == "image"
    return settings.background, settings.background_image if image else settings.background_colour


class _Place(NamedTuple):
    """Where the avatar lies in the picture, in pixels; it may reach beyond it.

    Attributes:
        left: of the avatar.
        top: likewise.
        wide: likewise.
        tall: likewise.
        side: of the portrait's square in it.
        width: of the picture.
        height: likewise.
    """

    left: int
    top: int
    wide: int
    tall: int
    side: int
    width: int
    height: int

    @property
    def size_px(self) -> tuple[int, int]:
        """The avatar's width and height."""
        return self.wide, self.tall

    @property
    def columns(self) -> slice:
        """Those of the picture that show the avatar."""
        return slice(max(0, self.left), max(0, min(self.width, self.left + self.wide)))

    @property
    def rows(self) -> slice:
        """Likewise."""
        return slice(max(0, self.top), max(0, min(self.height, self.top + self.tall)))

    @property
    def covers(self) -> bool:
        """Whether nothing else is seen in the picture."""
        return not any(True for _ in self.edges_inside())

    @property
    def empty(self) -> bool:
        """Whether the avatar lies outside of the picture."""
        return bool(self.rows.start >= self.rows.stop or self.columns.start >= self.columns.stop)

    def cut(self, avatar: cv2.typing.MatLike) -> cv2.typing.MatLike:
        """What is seen of the avatar, which is of this size; a fresh array."""
        rows, columns = self.rows, self.columns
        seen = avatar[
            rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left
        ]
        return np.ascontiguousarray(seen)

    def edges_inside(self) -> Iterator[tuple[bool, bool]]:
        """The avatar's edges that lie in the picture: whether it is left or right, and whether left or upper."""
        for inside, across, at_start in (
            (self.left > 0, True, True),
            (self.left + self.wide < self.width, True, False),
            (self.top > 0, False, True),
            (self.top + self.tall < self.height, False, False),
        ):
            if inside:
                yield across, at_start

    def fading(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
        """Strips of what is seen, along the avatar's edges that lie in the picture, and the avatar's share there."""
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        edge = max(2, round(_FEATHER_SHARE * self.side))
        for across, at_start in self.edges_inside():
            long, side = (width, height) if across else (height, width)
            if long < edge:
                continue
            strip = slice(0, edge) if at_start else slice(long - edge, long)
            whole = slice(None)
            share = _ramp(edge, side, at_start=at_start, along_x=across)
            yield ((whole, strip) if across else (strip, whole)), share


def _turned(cutout: Cutout) -> Cutout:
    """The person as in a mirror."""
    return Cutout(np.ascontiguousarray(cutout.colours[:, ::-1]), np.ascontiguousarray(cutout.alpha[:, ::-1]))


def _ending_softly(alpha: NDArray[np.float32], place: _Place, side: int) -> NDArray[np.float32]:
    """The share of a person who ends with the avatar's picture, faded out along the edges that lie in the one we draw.

    Only where the person reaches an edge, so that hair close to it stays as it is; and by as much as he does, so that
    nothing jumps when he comes to it. Where two such edges meet, the corner is round.
    """
    near = 2 * round(_CUT_NEAR_SHARE * side) + 1
    depths: list[NDArray[np.float32] | None] = [None, None]  # in the fades along columns and rows: 1 on the edge itself
    for across, at_start in place.edges_inside():
        edge = (alpha if across else alpha.T)[:, 0 if at_start else -1]
        if not edge.any():
            continue
        known = depths[across]
        whole = depths[across] = np.zeros_like(alpha) if known is None else known
        reached = cv2.GaussianBlur(cv2.dilate(edge[:, None].copy(), np.ones((near, 1), np.uint8)), (1, near), 0)
        length = max(2, round((_CROWN_FADE_SHARE if at_start and not across else _CUT_FADE_SHARE) * side))
        depth = np.linspace(1, 0, length, endpoint=False, dtype=np.float32)
        lines = whole if across else whole.T
        strip = slice(0, length) if at_start else slice(lines.shape[1] - length, lines.shape[1])
        lines[:, strip] = reached * (depth if at_start else depth[::-1])
    used = [one for one in depths if one is not None]
    if not used:
        return alpha
    share = np.maximum(1 - (used[0] if len(used) == 1 else cv2.magnitude(*used)), 0)
    return np.asarray(alpha * (share * share * (3 - 2 * share)), np.float32)


@functools.lru_cache(maxsize=32)
def _ramp(length: int, side: int, *, at_start: bool, along_x: bool) -> NDArray[np.float32]:
    """The square's share of an edge's pixels: (side, length), or (length, side)."""
    share = (np.arange(length, dtype=np.float32) + 0.5) / length
    share = share * share * (3 - 2 * share)
    rows = np.tile(share if at_start else share[::-1], (side, 1))
    return np.ascontiguousarray(rows if along_x else rows.T, np.float32)


def _resized(rgb: cv2.typing.MatLike, size_px: tuple[int, int], interpolation: int) -> Rgb:
    return np.asarray(cv2.resize(rgb, size_px, interpolation=interpolation), np.uint8)


def _put(part: Rgb, place: Rgb) -> None:
    """Draw a part of a picture into a place, enlarged where that is larger."""
    if part.shape == place.shape:
        place[:] = part
    elif place.size:
        cv2.resize(part, (place.shape[1], place.shape[0]), dst=place, interpolation=cv2.INTER_LINEAR)


def _sharpened(rgb: Rgb, sharpness: float) -> Rgb:
    """By unsharp masking; `sharpness` from 0 to 1."""
    amount = sharpness * _SHARPEN_MOST
    smooth = cv2.GaussianBlur(rgb, (5, 5), _SHARPEN_SIGMA_PX)
    return np.asarray(cv2.addWeighted(rgb, 1 + amount, smooth, -amount, 0), np.uint8)


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


def _darken_below_badge(picture: Rgb, alpha: NDArray[np.uint8], behind: str) -> None:
    """Where a picture is transparent below the badge, make it dark and opaque: the badge lets some of it through."""
    left, top, width, height = badge_place(picture.shape[1], picture.shape[0])
    place = (slice(top, top + height), slice(left, left + width))
    through = 1 - alpha[place].astype(np.float32)[..., None] / 255
    darker = picture[place] + through * (np.array(_SLATE_BOTTOM, np.float32) - np.array(rgb_of(behind), np.float32))
    picture[place] = np.clip(darker + 0.5, 0, 255).astype(np.uint8)
    alpha[place] = 255


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
    text = unicodedata.normalize("NFC", text)  # OpenCV puts an accent of its own beside its letter
    text = text.encode(errors="replace").decode()  # and ends the process over half a character
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
