"""What is drawn into a network's picture of a portrait, as its face moves in more ways than the network can show."""

from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np

from mcnet.arrays import Rgb
from mcnet.media.attempts import Attempts
from mcnet.media.head_motion import Head
from mcnet.media.lids import DrawnLids
from mcnet.media.mouth import MouthInterior
from mcnet.media.skin import DrawnSkin


class Retouch:
    """Retouches pictures of one portrait.

    It needs to know where the face is in space, so it goes with motion in space (`PortraitInSpace`). A head that is
    nowhere (NaN or infinite) has no place in a picture: there nothing is done.

    Args:
        square: (S, S, 3), the portrait in the size of the pictures.
        head: the portrait's own.
    """

    def __init__(self, square: Rgb, head: Head) -> None:
        self._square, self._head = square, head

    def posed(self, head: Head, share: float = 1.0) -> Head:
        """A head as the network is to pose it, before its picture is retouched: what is drawn is left to the drawing.

        Args:
            head: as it is to be shown.
            share: how much of what is drawn will be seen.
        """
        if not _is_finite(head):
            return head
        posed = self._lids.opened(head)
        return posed if share >= 1 or posed is head else head.towards(posed, share)

    def applied(self, rgb: Rgb, head: Head, share: float = 1.0) -> Rgb:
        """A picture, retouched.

        Args:
            rgb: (S, S, 3), what the network made of the portrait; it stays as it is.
            head: of the portrait, as it is to be shown in that picture, not as `posed` gave it.
            share: how much of what is drawn is seen.

        Returns:
            (S, S, 3); `rgb` itself where there was nothing to do.
        """
        if share <= 0 or not _is_finite(head):
            return rgb
        drawn = self._skin.drawn(rgb, self._lids.opened(head))
        drawn = self._lids.drawn(self._mouth.drawn(drawn, head), head)
        if share >= 1 or drawn is rgb:
            return drawn
        return np.asarray(cv2.addWeighted(drawn, share, rgb, 1 - share, 0), np.uint8)

    # Made when they are first needed: for a portrait whose own head is nowhere they never are.

    @cached_property
    def _skin(self) -> DrawnSkin:
        return DrawnSkin(self._square, self._head)

    @cached_property
    def _mouth(self) -> MouthInterior:
        return MouthInterior(self._square, self._head)

    @cached_property
    def _lids(self) -> DrawnLids:
        return DrawnLids(self._square, self._head)


class Retouching(Attempts):
    """A `Retouch` that may fail: pictures then stay as the network made them, and nothing is tried until it shall be.

    Args:
        retouch: of the portrait.
        refuse: told of a failure, while it is handled.
    """

    def __init__(self, retouch: Retouch, refuse: Callable[[Exception], None]) -> None:
        super().__init__(refuse)
        self._retouch = retouch

    def posed(self, head: Head, share: float = 1.0) -> Head:
        """See `Retouch.posed`; the head itself where that fails."""
        return self._attempt(lambda: self._retouch.posed(head, share), instead=head)

    def applied(self, rgb: Rgb, head: Head, share: float = 1.0) -> Rgb:
        """See `Retouch.applied`; the picture itself where that fails."""
        return self._attempt(lambda: self._retouch.applied(rgb, head, share), instead=rgb)


def _is_finite(head: Head) -> bool:
    return all(bool(np.isfinite(part).all()) for part in head)
