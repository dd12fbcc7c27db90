"""Sound in recordings: what a microphone hears, laid beside the pictures that show the same moment."""

import functools
import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

RATE_HZ = 48_000
"""Of the sound in recordings."""

_KEPT_S = 10.0
_DELIVERY_S = 2.0  # a hiccup of whoever delivers is shorter
_LOST_S = 0.25
_BLOCK = 960
_BLOCK_S = _BLOCK / RATE_HZ
_FADE = 240  # 5 ms: no click
_AROUND_S = 0.5
# What is further off is made good by a cut in 20 ms, under a cross-fade, and what is less by playing faster or slower
# for a while: the deviation falls to a third within 2 s, and a tenth of a semitone is not heard.
_CUT_S = 0.012
_CATCH_UP_S = 2.0
_MOST_SPEED = 0.006
_TAPS, _PHASES = 16, 512


class Place(NamedTuple):
    """How the samples of a microphone lie in time, as far as is known now.

    Attributes:
        stretch: number of the uninterrupted stretch of sound that they belong to.
        rate_hz: samples per second, by the microphone's own clock.
        offset_s: when the stretch's first sample was heard, in seconds of `time.monotonic`. A clock that is a little
            too fast or too slow moves it by and by.
    """

    stretch: int
    rate_hz: int
    offset_s: float


class SoundFeed:
    """The newest ten seconds of a microphone, for whoever records them. One thread puts, others read.

    When a sample was heard follows from how many there were before it and from when they came. Chunks come late as
    often as the system is busy, but never early: of the last two seconds the one that came soonest counts. Where far
    less comes than time has gone, the rest was lost, and is silence: what comes after it keeps its time.

    Args:
        lost_s: what is missing for longer is lost, and what is missing for less may yet come.
    """

    def __init__(self, lost_s: float = _LOST_S) -> None:
        self._lost_s = lost_s
        self._lock = threading.Lock()
        self._stretch = 0
        self._rate_hz = RATE_HZ
        self._kept = np.zeros(0, np.float32)
        self._count = 0
        self._came: deque[tuple[float, float]] = deque()
        self._peak = 0.0

    def begin(self, rate_hz: int) -> None:
        """A stretch of sound begins; what was before it is forgotten."""
        with self._lock:
            self._begin(rate_hz)

    def _begin(self, rate_hz: int) -> None:
        self._stretch += 1
        self._rate_hz = rate_hz
        self._kept = np.zeros(round(_KEPT_S * rate_hz), np.float32)
        self._count, self._peak = 0, 0.0
        self._came.clear()

    def end(self) -> None:
        """Forget all sound, and be silent until the next stretch begins."""
        self.begin(self._rate_hz)

    def put(self, wave: Wave, now_s: float) -> None:
        """Take the next samples.

        Args:
            wave: (N,) float32 in [-1, 1]; what is beyond, or no number, is brought there.
            now_s: of the monotonic clock.
        """
        wave = np.clip(np.nan_to_num(wave), -1, 1)
        with self._lock:
            if not wave.size or not self._kept.size:
                return
            lost_s = now_s - self._came[-1][0] - wave.size / self._rate_hz if self._came else 0.0
            if lost_s > _KEPT_S:
                self._begin(self._rate_hz)
            elif lost_s > self._lost_s:
                self._append(np.zeros(round(lost_s * self._rate_hz), np.float32))
            self._append(wave)
            self._peak = max(self._peak, float(np.abs(wave).max()))
            self._came.append((now_s, now_s - self._count / self._rate_hz))
            while self._came[0][0] < now_s - _DELIVERY_S:
                self._came.popleft()

    def _append(self, wave: Wave) -> None:
        room = self._kept.size
        newest = wave[-room:]
        self._count += wave.size
        places = np.arange(self._count - newest.size, self._count) % room
        self._kept[places] = newest

    def place(self) -> Place | None:
        """Where its samples lie in time; None as long as there are none."""
        with self._lock:
            if not self._came:
                return None
            return Place(self._stretch, self._rate_hz, min(offset_s for _, offset_s in self._came))

    def end_s(self) -> float | None:
        """When its newest sample was heard, in seconds of `time.monotonic`; None as long as there are none."""
        with self._lock:
            if not self._came:
                return None
            return min(offset_s for _, offset_s in self._came) + self._count / self._rate_hz

    def read(self, stretch: int, first: int, count: int) -> Wave | None:
        """(count,) samples of a stretch from the one of that number on; None where not all of them are there."""
        with self._lock:
            if stretch != self._stretch or first < max(0, self._count - self._kept.size) or first + count > self._count:
                return None
            answer: Wave = self._kept[np.arange(first, first + count) % self._kept.size]
            return answer

    def take_peak(self) -> float:
        """The loudest sample since the last call, 0 to 1."""
        with self._lock:
            peak, self._peak = self._peak, 0.0
            return min(1.0, peak)


@dataclass(frozen=True)
class Shown:
    """A picture of a recording.

    Attributes:
        file_s: when the file shows it.
        sent_s: when it was sent, in seconds of `time.monotonic`.
        captured_s: when what it shows was seen, likewise; None where it shows nothing new.
        muted: nothing shall be heard beside it.
    """

    file_s: float
    sent_s: float
    captured_s: float | None
    muted: bool


class Follower:
    """Reads a microphone at a place in time that may move, without a click.

    It follows by playing a little faster or slower, and by a cut under a cross-fade where it is far off. The same makes
    good a microphone whose clock is not quite ours. What is not there in time is silence, with a fade at either end.

    Args:
        feed: the microphone.
        block: samples at once.
    """

    def __init__(self, feed: SoundFeed, block: int) -> None:
        self._feed = feed
        self._block = block
        self._block_s = block / RATE_HZ
        self._stretch = -1
        self._at_s = 0.0
        self._cut_s = _CUT_S
        self._gain = 0.0
        self._tail = np.zeros(_FADE, np.float32)

    def cut(self) -> None:
        """Have the next block end where it is wanted, however little it is off: whoever listens missed something."""
        self._cut_s = 0.0

    def next(self, wanted_s: float | None) -> Wave:
        """(block,) samples of `RATE_HZ`: what was heard from then on.

        Args:
            wanted_s: of the monotonic clock; None: nothing is to be heard.
        """
        wave = None if wanted_s is None else self._heard(wanted_s)
        gain = 0.0 if wave is None else 1.0
        block = np.zeros(self._block, np.float32)
        if wave is not None:
            block, self._tail = wave[: self._block], wave[self._block :]
        elif self._gain:
            block[:_FADE] = self._tail
        if gain != self._gain:
            block[:_FADE] *= np.linspace(self._gain, gain, _FADE, dtype=np.float32)
        self._gain = gain
        return block

    def _heard(self, moment_s: float) -> Wave | None:
        """(block + _FADE,) samples of what was heard then, the last of them to fade out with; or None."""
        place = self._feed.place()
        if place is None:
            return None
        wanted_s = moment_s - place.offset_s
        if not self._gain:  # nothing is heard that could be cut
            self._stretch, self._at_s = place.stretch, wanted_s
        if place.stretch != self._stretch:
            return None
        behind_s = wanted_s - self._at_s
        cut_s, self._cut_s = self._cut_s, _CUT_S
        if abs(behind_s) > cut_s:
            before, wave = self._read(place, self._at_s, 1.0), self._read(place, wanted_s, 1.0)
            if before is None or wave is None:
                return None
            self._at_s = wanted_s + self._block_s
            shares = np.minimum(np.arange(wave.size, dtype=np.float32) / np.float32(self._block), np.float32(1))
            answer: Wave = before + (wave - before) * shares
            return answer
        speed = 1 + min(max(behind_s / _CATCH_UP_S, -_MOST_SPEED), _MOST_SPEED)
        wave = self._read(place, self._at_s, speed)
        if wave is not None:
            self._at_s += speed * self._block_s
        return wave

    def _read(self, place: Place, begin_s: float, speed: float) -> Wave | None:
        """(block + _FADE,) samples of `RATE_HZ` from the microphone's, from a time of its stretch on."""
        places = (begin_s + np.arange(self._block + _FADE) * (speed / RATE_HZ)) * place.rate_hz
        whole = np.floor(places).astype(np.int64)
        first = int(whole[0]) - _TAPS // 2 + 1
        samples = self._feed.read(place.stretch, first, int(whole[-1]) - int(whole[0]) + _TAPS)
        if samples is None:
            return None
        phases = ((places - whole) * _PHASES).astype(np.int64)
        around = np.lib.stride_tricks.sliding_window_view(samples, _TAPS)[whole - whole[0]]
        answer: Wave = np.einsum("nt,nt->n", around, _kernels()[phases])
        return answer


class Track(Protocol):
    """Takes sound one block after the other, as `mcnet.media.sound.SoundEncoder` does."""

    written: int

    def write(self, wave: Wave) -> None:
        """Append (1, N) samples."""

    def finish(self) -> None:
        """There are no more."""


class SoundTrack:
    """Writes the sound of a recording beside its pictures.

    A picture is as old as the app takes to make it, and its time in the file is a whole number of ticks, which may
    stand still while none is sent. Both are known: what was heard at the moment that a picture shows belongs to where
    the file shows it. The median over the pictures half a second around a place says how far sound has to be moved
    there, so that a late picture moves nothing; therefore sound is written half a second after the pictures. How it
    follows says `Follower`.

    Args:
        feed: the microphone.
        track: of `RATE_HZ` and one channel.
    """

    def __init__(self, feed: SoundFeed, track: Track) -> None:
        self._follower = Follower(feed, _BLOCK)
        self._track = track
        self._pictures: deque[tuple[float, float, bool]] = deque()
        self._age_s = 0.0

    def follow(self, picture: Shown) -> None:
        """Take what is known of the next picture, and write what can be.

        Raises:
            OSError: the file cannot be written.
        """
        if picture.captured_s is not None:
            self._age_s = picture.sent_s - picture.captured_s
        self._pictures.append((picture.file_s, picture.file_s - picture.sent_s + self._age_s, picture.muted))
        self._write_until(picture.file_s - _AROUND_S)

    def finish(self, end_s: float) -> None:
        """Write the rest, up to the end of the video.

        Raises:
            OSError: the file cannot be written.
        """
        self._write_until(end_s)
        self._track.finish()

    def _write_until(self, until_s: float) -> None:
        while (begin_s := self._track.written / RATE_HZ) + _BLOCK_S <= until_s + 1e-9:
            self._track.write(self._block(begin_s)[None])
            while len(self._pictures) > 1 and self._pictures[1][0] < begin_s - _AROUND_S:
                self._pictures.popleft()

    def _block(self, begin_s: float) -> Wave:
        """(_BLOCK,) samples of the file, from a time on."""
        silent = not self._pictures or self._is_muted(begin_s)
        return self._follower.next(None if silent else begin_s - self._shift_s(begin_s))

    def _is_muted(self, begin_s: float) -> bool:
        """Whether any picture that is shown during the block is."""
        muted = False
        for file_s, _, is_muted in self._pictures:
            if file_s >= begin_s + _BLOCK_S:
                break
            muted = is_muted or (muted and file_s > begin_s)
        return muted

    def _shift_s(self, file_s: float) -> float:
        """By how much the file is later than what it shows, around a place."""
        near = [shift_s for at_s, shift_s, _ in self._pictures if abs(at_s - file_s) <= _AROUND_S]
        return float(np.median(near)) if near else min(self._pictures, key=lambda one: abs(one[0] - file_s))[1]


@functools.cache
def _kernels() -> Wave:
    """(_PHASES, _TAPS): what interpolates between samples, a sinc under a Blackman window, at each fraction of one."""
    fractions = (np.arange(_PHASES) + 0.5) / _PHASES
    away = np.arange(_TAPS) - (_TAPS // 2 - 1) - fractions[:, None]
    window = 0.42 + 0.5 * np.cos(2 * np.pi * away / _TAPS) + 0.08 * np.cos(4 * np.pi * away / _TAPS)
    kernels = np.sinc(away) * window
    answer: Wave = (kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32)
    return answer
