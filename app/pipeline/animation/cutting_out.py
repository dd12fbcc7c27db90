"""The matte of a portrait, made on a thread of its own: no picture waits for it."""

import contextlib
import logging
import os
import sys
import threading
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.source_store import SourceStore
from mcnet.engine import resized
from mcnet.errors import sentence
from mcnet.media.errors import MediaError
from mcnet.media.matte import Matte, cut_out
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_NICENESS = 10


class CuttingOut(threading.Thread):
    """Cuts the person out of a portrait, or reads what was cut before; it begins at once.

    Args:
        square: (S, S, 3) uint8, the portrait's.
        size_px: the side of the engine's pictures.
        store: of mattes, or None.

    Attributes:
        square: as given; the same array.
        size_px: as given.
        computes: whether it is being computed, as none was kept.
        took_s: for how long it was computed; 0 before the end.
        matte: None before the end, and where it cannot be made.
        failure: why it cannot be, for people; "" otherwise.
    """

    def __init__(self, square: NDArray[np.uint8], size_px: int, store: SourceStore | None) -> None:
        super().__init__(name="cutting out", daemon=True)
        self.square = square
        self.size_px = size_px
        self.computes = False
        self.took_s = 0.0
        self.matte: Matte | None = None
        self.failure = ""
        self._store = store
        self.start()

    def is_for(self, square: NDArray[np.uint8], size_px: int) -> bool:
        """Whether it is that very portrait's, for pictures of that size."""
        return self.square is square and self.size_px == size_px

    def run(self) -> None:
        if sys.platform == "linux":  # where it concerns this thread only: the call's pictures come first
            with contextlib.suppress(OSError):  # a container may forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self.matte = self._matte()
        except Exception as error:  # whatever it is, out of memory included: the person is not cut out
            if isinstance(error, MediaError | cv2.error):
                logger.warning("the person cannot be cut out: %s", error)
            else:
                logger.exception("the person cannot be cut out")
            self.failure = phrase("the person cannot be cut out of this portrait: {error}", error=sentence(error))

    def _matte(self) -> Matte:
        shown = self.square if len(self.square) == self.size_px else resized(self.square, self.size_px)
        kept = self._store.load_matte(shown) if self._store else None
        if kept is not None:
            return kept
        began_s = time.perf_counter()
        self.computes = True
        made = cut_out(shown)
        self.took_s = time.perf_counter() - began_s
        if self._store:
            self._store.save_matte(shown, made)
        return made
