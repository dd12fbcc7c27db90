"""A video that is played while somebody watches: which of its frames is due."""

import math
import time
from collections import deque
from collections.abc import Callable

from mcnet.arrays import Rgb

_LATEST_S = 0.5
_CATCH_UP_S = 0.2  # spent at once on frames that are skipped
_IN_TIME = 0.8  # of a frame's time: what takes longer to decode hardly gains on what is due
_MEASURED = 30  # frames: one that is slow says nothing of the others


class Playing:
    """Gives the frame that is due to one who asks again and again. It belongs to one thread.

    Who comes late gets the frame that is due, and skips the earlier ones; who comes later than by half a second goes on
    from where he was. Where a frame takes as long to decode as it is to be seen, each one is shown, later than its
    time: what is skipped has to be decoded, too, and more is due by then, so that nothing would move for seconds.

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
        self._took_s: deque[float] = deque(maxlen=_MEASURED)  # to decode each of the last ones

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
        frame = self._decoded()
        while self._next <= due and self._in_time() and self._clock() - now_s < _CATCH_UP_S:
            frame = self._decoded()
        return frame

    def _decoded(self) -> Rgb:
        begin_s = self._clock()
        frame = self._pull()
        self._took_s.append(self._clock() - begin_s)
        self._next += 1
        return frame

    def _in_time(self) -> bool:
        """Whether decoding is clearly faster than the video."""
        return sum(self._took_s) / len(self._took_s) * self._fps < _IN_TIME
