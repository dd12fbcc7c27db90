"""Time stamps: one clock over restarts, the constant rate that fits them, and a place for each picture at that rate."""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from statistics import fmean
from typing import Any, TypeVar

from av.packet import Packet

PLAUSIBLE_FPS = (0.5, 1000.0)
LONGEST_HOLD_S = 60.0
"""A longer gap between two pictures is a restart of the time stamps, not a still picture, unless there is sound."""
_STEP_BACK_S = 0.1  # decoding times only ever grow
# Where a container has the times of showing alone, a picture steps back behind some that are decoded before it, as far
# as they are apart, but never behind all that a decoder keeps.
_STEP_BACK_SHOWN_S = 1.0
_KEPT_BY_DECODER = 17
_STANDARD_FPS = [
    *(Fraction(fps) for fps in (5, 8, 10, 12, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 144, 200, 240)),
    *(Fraction(fps * 1000, 1001) for fps in (12, 15, 24, 30, 48, 60, 120, 240)),
]
# Time stamps are rounded, and taken unevenly: by so much a picture may be shown before or after its time where its own
# place is taken. At half a frame at least, for no constant rate is finer.
_OFF_BY_FRAMES = (0.5, 0.75)
_OFF_BY_S = 0.03  # what nobody hears or sees
# A picture that is left out is a movement not seen; one that is shown twice is hardly noticed.
_LOST_AGAINST_DOUBLED = 4
_LOOK_AHEAD = 4

_Part = TypeVar("_Part")


class PictureClock:
    """Makes the time stamps of a picture track go on where they restart, as in joined recordings.

    A step back is a restart, and so is a step ahead of more than a minute, unless the sound went on meanwhile: then the
    picture stood still, as a recorded screen does.

    Attributes:
        shift: what is added to the time stamps now, in ticks.
        end: when the last picture so far stops being shown, in ticks; None before the first.
    """

    def __init__(self, time_base: Fraction) -> None:
        self.shift = 0
        self.end: int | None = None
        self._time_base = time_base
        self._decoded: deque[int] = deque(maxlen=1)  # the last time stamp of decoding, as stored
        self._shown: deque[int] = deque(maxlen=_KEPT_BY_DECODER)  # the last ones of showing
        self._step = 1
        self._heard: Fraction | None = None  # the last time stamp of the sound, in seconds
        self._heard_on_s = Fraction(0)  # for so long the sound went on since the last picture

    def hear(self, packet: "Packet[Any]") -> None:
        """Take note of a packet of the sound that lies between the pictures."""
        if packet.pts is None:
            return
        stamp = packet.pts * packet.time_base
        if self._heard is not None and 0 < stamp - self._heard < 1:
            self._heard_on_s += stamp - self._heard
        self._heard = stamp

    def place(self, packet: "Packet[Any]") -> None:
        """Set a packet's time stamps right; all packets of the track are to come, in the file's order."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None:
            return
        recent, furthest_back_s = (
            (self._decoded, _STEP_BACK_S) if packet.dts is not None else (self._shown, _STEP_BACK_SHOWN_S)
        )
        if recent and self.end is not None:
            longest_s = max(LONGEST_HOLD_S, 2 * float(self._heard_on_s))
            goes_back = (stamp - min(recent)) * self._time_base < -furthest_back_s
            if goes_back or (stamp - recent[-1]) * self._time_base > longest_s:
                self.shift = self.end - (stamp if packet.pts is None else packet.pts)
                recent.clear()
            elif stamp > recent[-1]:
                self._step = stamp - recent[-1]
        recent.append(stamp)
        self._heard_on_s = Fraction(0)
        packet.dts = None if packet.dts is None else packet.dts + self.shift
        if packet.pts is not None:
            packet.pts += self.shift
        shown = stamp + self.shift if packet.pts is None else packet.pts
        self.end = max(shown + (packet.duration or self._step), shown + 1 if self.end is None else self.end)


def constant_rate(times_s: Sequence[float], declared: Iterable[Fraction | None], tick_s: float) -> Fraction | None:
    """The rate that loses and doubles the fewest pictures.

    Args:
        times_s: when each picture is shown, in ascending order.
        declared: what the container says, the most trusted first; it is believed only where it fits best.
        tick_s: how finely the times are told.

    Returns:
        Pictures per second, in `PLAUSIBLE_FPS`; None where neither the times nor the container tell.
    """
    low, high = PLAUSIBLE_FPS
    candidates = [rate for rate in declared if rate and low <= rate <= high]
    steps = sorted(after - before for before, after in itertools.pairwise(times_s) if after - before > tick_s / 2)
    if not steps:
        # A single picture: what browsers write for "unknown" is 1000.
        return next((rate for rate in candidates if rate < high), None)
    usual_s = steps[(len(steps) - 1) // 2]
    regular = [step for step in steps if 0.5 * usual_s < step < 1.5 * usual_s]
    # Both ends of the measured stretch are rounded by half a tick.
    slack = tick_s / sum(regular) + 1e-5
    # Beside the usual step the shorter ones, which the pictures of a burst need, and the average.
    looked_at = [fmean(regular), usual_s, steps[len(steps) // 4], steps[len(steps) // 10], fmean(steps)]
    measured = [1 / step for step in looked_at if low <= 1 / step <= high]
    nearest = [_nearest_standard(rate) for rate in measured]
    candidates += [fps for fps, rate in zip(nearest, measured, strict=True) if abs(rate / float(fps) - 1) <= slack]
    candidates += [Fraction(whole(rate)) for rate in measured for whole in (round, math.ceil) if rate > 2]
    candidates += [Fraction(rate).limit_denominator(1001) for rate in measured]
    best: tuple[int, Fraction] | None = None
    for rate in dict.fromkeys(candidates):
        cost = _cost(times_s, float(rate))
        if best is None or cost < best[0]:
            best = cost, rate
        if not cost:  # as a rule at once: most videos are what they say
            break
    return None if best is None else best[1]


def _nearest_standard(fps: float) -> Fraction:
    return min(_STANDARD_FPS, key=lambda standard: abs(standard - fps))


def _cost(times_s: Sequence[float], fps: float) -> int:
    """How badly a constant rate fits: pictures that are lost, shown far from their times, or doubled."""
    placed = list(one_a_slot(((time_s, time_s - times_s[0]) for time_s in times_s), fps))
    lost = len(times_s) - len(placed)
    far = sum(abs(slot / fps - (time_s - times_s[0])) > _OFF_BY_S for time_s, slot in placed)
    doubled = sum(after - before > 1 for (_, before), (_, after) in itertools.pairwise(placed))
    return _LOST_AGAINST_DOUBLED * (lost + far) + doubled


def one_a_slot(timed: Iterable[tuple[_Part, float]], fps: float) -> Iterator[tuple[_Part, int]]:
    """Give each picture a slot of a constant rate: the nearest to its time that is free.

    A slot holds one picture. Where the nearest is taken, a picture comes up to 30 ms before or after its time, half a
    frame at least and three quarters of one at most; only where there is no room so near is it left out.

    Args:
        timed: pictures with their times in seconds from the first one, in the order of showing.
        fps: slots per second; slot `i` is shown at `i / fps`.

    Yields:
        The pictures with a place, and their slots, which ascend.
    """
    off_by = min(max(_OFF_BY_S * fps, _OFF_BY_FRAMES[0]), _OFF_BY_FRAMES[1])
    coming = iter(timed)
    waiting: deque[tuple[_Part, float]] = deque()
    last = -1
    while True:
        waiting.extend(itertools.islice(coming, _LOOK_AHEAD + 1 - len(waiting)))
        if not waiting:
            return
        # So that those behind it find a place too, it may have to come early; the furthest is looked at first.
        latest = math.inf
        for _, time_s in reversed(waiting):
            latest = min(latest - 1, math.floor(time_s * fps + off_by))
        part, time_s = waiting.popleft()
        earliest = max(last + 1, math.ceil(time_s * fps - off_by))
        slot = max(earliest, min(math.floor(time_s * fps + 0.5), int(latest)))
        if slot <= time_s * fps + off_by:
            last = slot
            yield part, slot
