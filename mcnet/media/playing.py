"""A video that is played while somebody watches: which of its frames is due."""

import math
import time
from collections.abc import Callable

from mcnet.arrays import Rgb

_LATEST_S = 0.5
_SKIPPING = 0.5  # of a frame's time, that may be spent on it at once, or as long as was left since the frame before


class Playing:
    """Gives the frame that is due to one who asks again and again. It belongs to one thread.

    Who comes late gets the frame that is due, and skips the earlier ones; who comes later than by half a second goes on
    from where he was. Where it is the decoding that is late, each frame is shown, later than its time: what is skipped
    has to be decoded, too, and more is due by then, so that nothing would move for seconds.

    Args:
        pull: decodes the next frame, over the end of the video.
        fps: of the video.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, pull: Callable[[], Rgb], fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pull = pull
        self._fps = fps
        self._clock = clock
        self._next = 0  # index of the frame that is decoded next, over all loops
        self._start_s: float | None = None  # when frame 0 was due
        self._given_s = math.inf

    def until_s(self, ahead: int = 0) -> float:
        """Seconds until the frame that was given last is due, or the one so many after it; below 0: since then."""
        assert self._start_s is not None
        return self._start_s + (self._next - 1 + ahead) / self._fps - self._clock()

    def frame(self) -> Rgb:
        """(H, W, 3) uint8 RGB: the frame that is due; where none is, the next one before its time."""
        now_s = self._clock()
        next_after_s = self._next / self._fps
        if self._start_s is None or now_s - self._start_s - next_after_s > _LATEST_S:
            self._start_s = now_s - next_after_s
        due = math.floor((now_s - self._start_s) * self._fps)
        longest_s = max(_SKIPPING / self._fps, now_s - self._given_s)
        frame = self._decoded()
        while self._next <= due and self._clock() - now_s < longest_s:
            frame = self._decoded()
        self._given_s = self._clock()
        return frame

    def _decoded(self) -> Rgb:
        frame = self._pull()
        self._next += 1
        return frame
