"""What may leave the app: pictures that the engine generated, or the slate.

The window imports this before it is up, so that OpenCV and FFmpeg are left to those who make the pictures.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.pipeline.state import State

if TYPE_CHECKING:
    from mcnet.media.matte import Cutout

_BADGE_HEIGHT, _BADGE_ASPECT, _BADGE_MARGIN = 0.058, 3.9, 0.022
_WIDEST_MARGIN = 0.05
"""Of the width, so that in a very narrow picture there is room for the badge."""
_LEAST_BADGE_PX = 12


def badge_place(width: int, height: int) -> tuple[int, int, int, int]:
    """Where the badge lies in a picture of that size: left, top, width and height, in its pixels.

    A part of the picture's own corner that depends on nothing else, so that whoever mirrors the picture can leave the
    badge legible.
    """
    margin = round(min(_BADGE_MARGIN * height, _WIDEST_MARGIN * width))
    room = width - 2 * margin
    tall = max(_LEAST_BADGE_PX, round(min(_BADGE_HEIGHT * height, room / _BADGE_ASPECT)))
    wide = min(round(_BADGE_ASPECT * tall), room)
    return width - wide - margin, height - tall - margin, wide, tall


@dataclass(frozen=True, eq=False)
class Person:
    """The avatar without its background.

    Attributes:
        cutout: the person, of the same size as the avatar.
        plate: (height, width, 3) uint8 RGB, as large, the portrait's background, filled in where the person was; the
            same array for all frames of a portrait.
    """

    cutout: "Cutout"
    plate: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class AvatarPicture:
    """The avatar as it may go out.

    Attributes:
        rgb: (height, width, 3) uint8 RGB: the square as the engine generated it, or larger with the portrait's detail,
            and what the photograph shows around it.
        person: of it, where it is to be cut out.
        detailed: whether it has the portrait's own detail.
        margins: of the portrait's square in it: left, above, right and below, in pixels.
    """

    rgb: NDArray[np.uint8]
    person: Person | None = None
    detailed: bool = False
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def finished(self) -> "AvatarPicture":
        """Itself."""
        return self


class UnfinishedPicture:
    """The avatar as the engine made it, which is finished once, by the first thread that wants it so.

    The inference stage makes the next one meanwhile, and pictures that a newer one replaces before that are never
    finished. Once it is finished, or has failed, it holds nothing of whoever made it.

    Args:
        finish: makes the picture that may go out; what it raises is raised each time that the picture is wanted.
    """

    def __init__(self, finish: Callable[[], AvatarPicture]) -> None:
        self._finish: Callable[[], AvatarPicture] | None = finish
        self._lock = threading.Lock()
        self._finished: AvatarPicture | None = None
        self._failure: Exception | None = None

    @property
    def finished(self) -> AvatarPicture:
        """The picture that may go out."""
        with self._lock:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            if self._finished is None:
                assert self._finish is not None
                finish, self._finish = self._finish, None
                try:
                    self._finished = finish()
                except Exception as error:
                    self._failure = error
                    raise
            return self._finished


@dataclass(frozen=True, eq=False)
class OutputFrame:
    """One step of the output, made by the inference stage.

    Attributes:
        frame_id: of the camera frame that moved it; a repeated or eased picture bears the last one's.
        captured_s: when that camera frame arrived, in seconds of `time.monotonic`.
        state: what this is.
        picture: the avatar; None where the slate is to be shown.
        fresh: whether a new camera frame moved it.
        whole: whether the person cannot be cut out of this portrait, so that it is to be shown as it is; where there is
            no person and this is not so, he will come.
    """

    frame_id: int
    captured_s: float
    state: State
    picture: AvatarPicture | UnfinishedPicture | None
    fresh: bool
    whole: bool = False

    @property
    def avatar(self) -> NDArray[np.uint8] | None:
        """The finished picture."""
        return None if self.picture is None else self.picture.finished.rgb

    @property
    def person(self) -> Person | None:
        """Cut out of the finished picture."""
        return None if self.picture is None else self.picture.finished.person

    @property
    def detailed(self) -> bool:
        """Whether the finished picture has the portrait's own detail."""
        return self.picture is not None and self.picture.finished.detailed

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Of the portrait's square in the finished picture."""
        return (0, 0, 0, 0) if self.picture is None else self.picture.finished.margins

    def finish(self) -> None:
        """Have the picture finished, for when it is shown."""
        if self.picture is not None:
            _ = self.picture.finished


@dataclass(frozen=True, eq=False)
class Composed:
    """A picture as a call sees it, made by the presenter from an `OutputFrame`.

    Attributes:
        frame_id: of the `OutputFrame`.
        captured_s: of the `OutputFrame`.
        state: of the `OutputFrame`, or `STARTING`, `SLATE` or `FAULT` where the presenter decided so.
        rgb: (height, width, 3) uint8 RGB, C-contiguous, never written to again.
        fresh: whether it shows a camera frame's motion for the first time; a repeated picture is not fresh.
        fading: whether avatar and slate are blended in it, so that words can be read whatever the state is.
        alpha: (height, width) uint8, how far it is not transparent; None: it is not at all. It then shows
            `behind` where it is.
        behind: the colour that shows through, as #rrggbb.
        composite: whether a picture or video of the user's is in it, as background or slate, or what the portrait's
            photograph shows around it.
    """

    frame_id: int
    captured_s: float
    state: State
    rgb: NDArray[np.uint8]
    fresh: bool
    fading: bool = False
    alpha: NDArray[np.uint8] | None = None
    behind: str = "#000000"
    composite: bool = False

    def colours(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB without the colour that shows through: those of straight alpha.

        A fade between avatar and slate mixes both alike, so that this holds for it too.
        """
        if self.alpha is None:
            return self.rgb
        from mcnet.media.scene import rgb_of

        flat = self.alpha.reshape(-1)
        mixed = np.flatnonzero((flat > 0) & (flat < 255))
        made = self.rgb.copy()
        shown = made.reshape(-1, 3)
        behind = np.array(rgb_of(self.behind), np.float32)
        share = flat[mixed].astype(np.float32)[:, None] / 255
        unmixed = behind + (shown[mixed] - behind) / share
        shown[mixed] = np.clip(np.round(unmixed), 0, 255).astype(np.uint8)
        return made

    def straight(self) -> NDArray[np.uint8]:
        """(height, width, 4) uint8 RGB and straight alpha."""
        alpha = np.full(self.rgb.shape[:2], 255, np.uint8) if self.alpha is None else self.alpha
        return np.dstack((self.colours(), alpha))
