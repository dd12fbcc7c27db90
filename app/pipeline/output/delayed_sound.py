"""What a microphone hears, later by as much as the picture is: live, for whoever listens now."""

from collections import deque

import numpy as np

from app.pipeline.output.sound import RATE_HZ, Follower, SoundFeed, Wave

_BLOCK = 480  # 10 ms
_AHEAD_S = (_BLOCK + 240 + 16) / RATE_HZ  # what a block reads besides: its fade, and the taps around it
_MARGIN_S = 0.002
_WATCHED_S = 2.0  # a hiccup of whoever delivers is shorter
_OFTEN = 0.9
_LONGEST_S = 0.2  # whoever lags more has not begun, or has stopped
_LOST_S = 0.004


class DelayedSound:
    """Gives the sound of a microphone some time after it was heard, to somebody who takes a little at a time.

    Both clocks, the microphone's and the listener's, are taken from when samples came and went: these are late as often
    as the system is busy, but never early. The delay follows as `Follower` does; over what the listener missed it goes
    by a cut. What has not come yet cannot be given: where the delay that is asked for is less than that, the least
    possible one is kept.

    Args:
        feed: the microphone.

    Attributes:
        delay_s: that is asked for.
        muted: nothing is to be heard.
        given_s: the delay that is kept.
    """

    def __init__(self, feed: SoundFeed) -> None:
        self.delay_s = 0.0
        self.muted = False
        self.given_s = 0.0
        self._feed = feed
        self._follower = Follower(feed, _BLOCK)
        self._rest = np.zeros(0, np.float32)
        self._begin()

    def _begin(self) -> None:
        self._taken = self._made = 0
        self._went: deque[tuple[float, float]] = deque()
        self._lags: deque[tuple[float, float]] = deque()
        self._rest = self._rest[:0]

    def take(self, count: int, now_s: float) -> Wave:
        """The next samples of `RATE_HZ`.

        Args:
            count: how many.
            now_s: of the monotonic clock: the last of them is given at this time.
        """
        since_s = now_s - self._went[-1][0] if self._went else 0.0
        if since_s > _WATCHED_S:
            self._begin()  # nobody listened meanwhile
        elif self._went and (lost_s := since_s - count / RATE_HZ) > _LOST_S:  # a busy system left a cycle out
            self._taken += round(lost_s * RATE_HZ)
            self._made += round(lost_s * RATE_HZ)
            self._follower.cut()
        self._taken += count
        self._went.append((now_s, now_s - self._taken / RATE_HZ))
        while self._went[0][0] < now_s - _WATCHED_S:
            self._went.popleft()
        begin_s = min(offset_s for _, offset_s in self._went)
        parts, have = [self._rest], self._rest.size
        while have < count:
            parts.append(self._block(begin_s + self._made / RATE_HZ, now_s))
            self._made += _BLOCK
            have += _BLOCK
        wave = np.concatenate(parts)
        self._rest = wave[count:]
        answer: Wave = wave[:count]
        return answer

    def _block(self, at_s: float, now_s: float) -> Wave:
        """The block whose first sample is given at a time."""
        end_s = self._feed.end_s()
        if end_s is None or self.muted:
            return self._follower.next(None)
        lag_s = at_s + _AHEAD_S - end_s
        if lag_s < _LONGEST_S:
            self._lags.append((now_s, lag_s))
        while self._lags and self._lags[0][0] < now_s - _WATCHED_S:
            self._lags.popleft()
        # A block that comes late once is silence, and no reason to let all others wait.
        often_s = float(np.quantile([lag_s for _, lag_s in self._lags], _OFTEN)) if self._lags else 0.0
        self.given_s = max(self.delay_s, often_s + _MARGIN_S)
        return self._follower.next(at_s - self.given_s)
