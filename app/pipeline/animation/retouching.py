"""Draws into the engine's pictures what a portrait cannot show; where that fails, they go out as they are."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.engine import resized
from mcnet.errors import sentence
from mcnet.media.head_motion import Head
from mcnet.media.retouch import Retouch
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Retouching:
    """Retouches the pictures of one portrait, until it fails: what failed once would fail in every frame.

    Args:
        square: (side, side, 3) uint8, the portrait.
        mesh: (468 or more, 3) of it, in the keypoints' coordinates.
        size_px: the side of the engine's pictures.
        refuse: told once per failure, in words for people.
    """

    def __init__(self, square: Rgb, mesh: NDArray[np.float64], size_px: int, refuse: Callable[[str], None]) -> None:
        self._square, self._mesh, self._size_px = square, mesh, size_px
        self._refuse = refuse
        self._retouch: Retouch | None = None
        self._failed = False

    def try_again(self) -> None:
        """Whatever failed before is tried once more."""
        self._failed = False

    def posed(self, head: Head) -> Head:
        """A head as the network is to pose it (`Retouch.posed`); itself where nothing can be drawn."""
        return self._attempt(lambda retouch: retouch.posed(head), head, instead=head)

    def applied(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture, retouched; itself where there is nothing to do, or where that cannot be done.

        Args:
            rgb: (size_px, size_px, 3), what the engine made of the portrait; it stays as it is.
            head: of the portrait, as it is to be shown.
        """
        return self._attempt(lambda retouch: retouch.applied(rgb, head), head, instead=rgb)

    def _attempt(self, work: Callable[[Retouch], T], head: Head, *, instead: T) -> T:
        # What is not finite has no place in a picture. The frame after it may be well again, so that it is no failure.
        if self._failed or not all(np.isfinite(part).all() for part in head):
            return instead
        try:
            if self._retouch is None:
                shown = self._square if len(self._square) == self._size_px else resized(self._square, self._size_px)
                self._retouch = Retouch(shown, self._mesh)
            return work(self._retouch)
        except Exception as error:  # whatever it is: the call goes on with the network's own picture
            logger.exception("retouching")
            self._failed = True
            said = sentence(error)
            self._refuse(phrase("teeth and shut lids cannot be drawn for this portrait: {error}", error=said))
            return instead
