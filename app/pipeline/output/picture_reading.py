"""A picture of the user's, read at the output's size on a thread of its own: the output's beat waits for no disk."""

import logging
import threading

import cv2

from app.errors import AppError
from mcnet.arrays import Rgb
from mcnet.errors import UserError, sentence
from mcnet.media.images import read_rgb
from mcnet.media.scene import covering, require_file
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)


class PictureReading(threading.Thread):
    """Reads a picture, which begins at once. A disk that does not answer keeps this thread, and nobody else.

    Args:
        path: of the picture, as the user gave it.
        what: the picture is for, for messages.
        size_px: (width, height) of the output, which it covers.

    Attributes:
        path: as given.
    """

    def __init__(self, path: str, what: str, size_px: tuple[int, int]) -> None:
        super().__init__(name="picture", daemon=True)
        self.path = path
        self._what = what
        self._size_px = size_px
        self._picture: Rgb | None = None
        self._failure = ""
        self.start()

    def result(self) -> Rgb | None:
        """(height, width, 3) uint8 RGB, not to be written to; None while it is being read.

        Raises:
            AppError: it cannot be used.
        """
        if self._failure:
            raise AppError(self._failure)
        return self._picture

    def run(self) -> None:
        try:
            self._picture = covering(read_rgb(require_file(self.path)), self._size_px)
        except Exception as error:  # whatever it is, out of memory included: told by `result`, on another thread
            if not isinstance(error, (UserError, OSError, MemoryError, cv2.error)):
                logger.exception("the picture %s", self.path)
            reason = error if isinstance(error, OSError) else sentence(error)
            self._failure = phrase("{what} cannot be used: {error}", what=self._what, error=reason)
