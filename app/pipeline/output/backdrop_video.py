"""A video that runs behind the avatar, decoded on a thread of its own."""

import logging
import threading

from app.errors import AppError
from mcnet.arrays import Rgb
from mcnet.errors import UserError, sentence
from mcnet.media.playing import Playing
from mcnet.media.scene import LoopedVideo, covering, require_file
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_JOIN_S = 1.0


class BackdropVideo:
    """Gives the newest picture of a video that begins anew where it ends, at the output's size.

    What is slow to decode is shown as it comes, frame by frame: nobody waits for it.

    Args:
        path: of the video, as the user gave it.
        size_px: (width, height) of the output.
        most_fps: a faster video is thinned out to this rate.

    Attributes:
        path: as given.
    """

    def __init__(self, path: str, size_px: tuple[int, int], most_fps: float) -> None:
        self.path = path
        self._size_px = size_px
        self._most_fps = most_fps
        self._latest: Rgb | None = None
        self._failure = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backdrop video", daemon=True)
        self._thread.start()

    def latest(self) -> Rgb | None:
        """(height, width, 3) uint8 RGB, not to be written to; None while there is none yet.

        Raises:
            AppError: the video cannot be used, or not any more.
        """
        if self._failure:
            raise AppError(self._failure)
        return self._latest

    def end(self) -> None:
        """Have it end, without waiting for that; harmless when called again."""
        self._ended.set()

    def over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """End it; harmless when called again. A file that hangs is left behind."""
        self.end()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        """The thread's body."""
        try:
            video = LoopedVideo(require_file(self.path), self._most_fps)
            playing = Playing(video.next, video.fps)
            frame = latest = None
            while not self._ended.is_set():
                newest = playing.frame()
                if newest is not frame:
                    frame, latest = newest, covering(newest, self._size_px)
                self._ended.wait(max(0.0, playing.until_s()))
                self._latest = latest
        except UserError as error:
            self._failure = phrase("the background video cannot be used: {error}", error=error)
        except Exception as error:  # told to the sink stage, which is another thread
            logger.exception("the background video %s", self.path)
            self._failure = phrase("the background video cannot be used: {error}", error=sentence(error))
