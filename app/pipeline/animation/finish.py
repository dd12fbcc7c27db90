"""In which size a portrait's pictures go out, and what is done to the network's before."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.portraits import Portrait
from mcnet.arrays import Rgb
from mcnet.media.attempts import Attempts
from mcnet.media.fine_detail import ENOUGH_PIXELS, MOST_TIMES, FineDetail
from mcnet.media.retouch import Retouching


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


class Finish(NamedTuple):
    """What is done to the network's pictures of a portrait, for one size.

    Attributes:
        size_px: the side of the pictures as they go out.
        detail: brings them to that size; None: the network makes them in it.
        retouching: of pictures of that size, where the portrait's head is known.
    """

    size_px: int
    detail: Detailing | None
    retouching: Retouching | None

    @property
    def usable(self) -> bool:
        """Whether pictures can be had so: nothing failed that gives them their size."""
        return self.detail is None or not self.detail.failed


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
