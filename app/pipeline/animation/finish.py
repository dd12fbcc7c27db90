"""In which size a portrait's pictures go out, and what is done to the network's before."""

import logging
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.events import Event, SettingRefused
from app.pipeline.portraits import Portrait
from mcnet.arrays import Rgb
from mcnet.engine import resized
from mcnet.errors import log_failure, sentence
from mcnet.media.attempts import Attempts
from mcnet.media.fine_detail import ENOUGH_PIXELS, MOST_TIMES, FineDetail
from mcnet.media.head_motion import PortraitInSpace
from mcnet.media.retouch import Retouch, Retouching
from mcnet.media.surroundings import NO_MARGINS, Surrounded, around_animated
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)


class Detailing(Attempts):
    """A `FineDetail` that may fail: pictures then stay as the network made them, and it is not tried until it shall be.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        large: (L, L, 3), the portrait in the size that pictures are to get.
        refuse: told of a failure, while it is handled.
    """

    def __init__(self, square: Rgb, large: Rgb, refuse: Callable[[Exception], None]) -> None:
        super().__init__(refuse)
        self._square, self._large = square, large

    def added(self, rgb: Rgb, deformation: NDArray[np.float32]) -> Rgb:
        """See `FineDetail.added`; the picture itself where that fails."""
        return self._attempt(lambda: self._detail.added(rgb, deformation), instead=rgb)

    @cached_property
    def _detail(self) -> FineDetail:
        """Made when it is first needed, where its failure is one of a picture."""
        return FineDetail(self._square, self._large)


class Surrounding(Attempts):
    """What is seen around a portrait's square; where that fails, pictures show the square alone.

    Args:
        portrait: whose.
        size_px: the side of the square.
        refuse: told of a failure, while it is handled.
    """

    def __init__(self, portrait: Portrait, size_px: int, refuse: Callable[[Exception], None]) -> None:
        super().__init__(refuse)
        self._of, self._size_px = portrait, size_px

    def around(self, rgb: Rgb, deformation: NDArray[np.float32]) -> Surrounded:
        """See `around_animated`; without margins where that fails."""
        return self._attempt(
            lambda: Surrounded(around_animated(self._portrait, rgb, deformation), self._portrait.margins),
            instead=Surrounded(rgb, NO_MARGINS),
        )

    @cached_property
    def _portrait(self) -> Surrounded:
        """Made when it is first needed, where its failure is one of a picture."""
        return self._of.surrounded(self._size_px)


class Finish(NamedTuple):
    """What is done to the network's pictures of a portrait, for one size.

    Attributes:
        size_px: the side of the pictures as they go out.
        detail: brings them to that size; None: the network makes them in it.
        retouching: of pictures of that size, where the portrait's head is known.
        surrounding: of pictures of that size.
    """

    size_px: int
    detail: Detailing | None
    retouching: Retouching | None
    surrounding: Surrounding

    @property
    def usable(self) -> bool:
        """Whether pictures can be had so: nothing failed that gives them their size."""
        return self.detail is None or not self.detail.failed


class Finishes:
    """What can be done to the pictures of one portrait, in each size that they may have.

    What fails is told and given up for this portrait until it is tried again: what failed once would fail in every
    frame of a call. What is wished of it now is not known here.

    Args:
        portrait: whose.
        space: its head, for what is drawn; None where it is not known.
        own_px: the side of the network's pictures.
        emit: told of what fails.
    """

    def __init__(
        self, portrait: Portrait, space: PortraitInSpace | None, own_px: int, emit: Callable[[Event], None]
    ) -> None:
        self._emit = emit
        size_px = detailed_px(portrait, own_px)
        square = resized(portrait.square, own_px)
        self._plain = Finish(own_px, None, self._retouching_of(square, space), self._surrounding_of(portrait, own_px))
        self._detailed: Finish | None = None  # where the portrait has no more to show
        if size_px != own_px:
            large = resized(portrait.square, size_px)
            self._detailed = Finish(
                size_px,
                Detailing(square, large, self._refuse_detail),
                self._retouching_of(large, space),
                self._surrounding_of(portrait, size_px),
            )

    def now(self, *, detailed: bool) -> Finish:
        """What is to be done.

        Args:
            detailed: whether the portrait's own detail is wished; without any, or where it failed, there is none.
        """
        wished = self._detailed if detailed else None
        return wished if wished is not None and wished.usable else self._plain

    def try_again(self, *, retouch: bool, fine_detail: bool, surroundings: bool) -> None:
        """Try once more what has failed before, in every size.

        Args:
            retouch: whether that is what the network cannot show.
            fine_detail: whether it is the portrait's own detail.
            surroundings: whether it is what is seen around the square.
        """
        for finish in self._all:
            if retouch and finish.retouching is not None:
                finish.retouching.try_again()
            if fine_detail and finish.detail is not None:
                finish.detail.try_again()
            if surroundings:
                finish.surrounding.try_again()

    @property
    def has_detail(self) -> bool:
        """Whether the portrait has more to show than the network's pictures do."""
        return self._detailed is not None

    @property
    def _all(self) -> list[Finish]:
        return [self._plain] if self._detailed is None else [self._plain, self._detailed]

    def _retouching_of(self, square: Rgb, space: PortraitInSpace | None) -> Retouching | None:
        """For pictures of that square's size."""
        return None if space is None else Retouching(Retouch(square, space.head), self._refuse_retouch)

    def _surrounding_of(self, portrait: Portrait, size_px: int) -> Surrounding:
        return Surrounding(portrait, size_px, self._refuse_surroundings)

    def _refuse_retouch(self, error: Exception) -> None:
        """Tell that nothing more is drawn for this portrait.

        In no size: another failure would tell the same again.
        """
        log_failure(logger, "retouching", error)
        for finish in self._all:
            if finish.retouching is not None:
                finish.retouching.failed = True
        said = phrase("skin, teeth and shut lids cannot be drawn for this portrait: {error}", error=sentence(error))
        self._emit(SettingRefused("retouch", said))

    def _refuse_detail(self, error: Exception) -> None:
        """Likewise of its fine detail."""
        log_failure(logger, "fine detail", error)
        said = phrase("the fine detail of this portrait cannot be shown: {error}", error=sentence(error))
        self._emit(SettingRefused("fine_detail", said))

    def _refuse_surroundings(self, error: Exception) -> None:
        """Likewise of what is around it; in no size, as with the retouching."""
        log_failure(logger, "surroundings", error)
        for finish in self._all:
            finish.surrounding.failed = True
        said = phrase("what is around this portrait cannot be shown: {error}", error=sentence(error))
        self._emit(SettingRefused("surroundings", said))


def detailed_px(portrait: Portrait, size_px: int) -> int:
    """The side of pictures that show all that there is in a portrait.

    Args:
        portrait: of whom.
        size_px: of the network's pictures.

    Returns:
        At most twice the network's and that of the portrait's square; `size_px` where the portrait has no more pixels
        than that.
    """
    if portrait.box.side <= size_px:
        return size_px
    most = min(MOST_TIMES * size_px, len(portrait.square))
    return max(size_px, min(most, round(portrait.box.side / ENOUGH_PIXELS)))
