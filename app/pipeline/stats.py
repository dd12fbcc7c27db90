"""What is counted and timed, and how it is summed up."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.pipeline.state import State

_WINDOW_S = 5.0
LEAST_HZ = 10.0
"""Fewer frames per second than this are no moving face any more."""


@dataclass(frozen=True)
class Percentiles:
    """Of some durations, in milliseconds; 0 where there were none."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> "Percentiles":
        """By the nearest rank: the least value that so many percent do not exceed."""
        if not values_ms:
            return cls()
        ordered = sorted(values_ms)
        return cls(*(ordered[-(-percent * len(ordered) // 100) - 1] for percent in (50, 95, 99)))


@dataclass(frozen=True)
class Stats:
    """How the pipeline does.

    While running, rates, ages and times are those of the last seconds, and counts those since the start. In a report
    everything counts from the capture of the first frame that moved the avatar: frames that came while the model
    loaded would distort it.

    Attributes:
        state: what the output shows.
        frames_in: camera frames.
        frames_out: camera frames that moved the avatar and reached the sinks, each counted once.
        pictures_out: pictures sent to the sinks, repeated ones included.
        dropped: frames that a newer one replaced before they were taken, by hop.
        fps: `frames_out` per second.
        camera_fps: frames per second from the camera.
        sink_fps: pictures per second.
        age_ms: from capture to the last sink's return.
        stage_ms: time of each stage.
        drop_share: share of the camera's frames that were dropped at any hop, 0 to 1.
    """

    state: State
    frames_in: int = 0
    frames_out: int = 0
    pictures_out: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    fps: float = 0.0
    camera_fps: float = 0.0
    sink_fps: float = 0.0
    age_ms: Percentiles = Percentiles()
    stage_ms: Mapping[str, Percentiles] = field(default_factory=dict)
    drop_share: float = 0.0


class Meter:
    """Collects counts and times from all stages; every method may be called on any thread.

    Args:
        hops: names of the slots whose drops are counted.
    """

    def __init__(self, hops: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._stages: dict[str, _Series] = {}
        self._ages = _Series()
        self._in = _Series()
        self._pictures = _Series()
        self._drops = {hop: _Series() for hop in hops}
        self._live_since_s: float | None = None

    def stage(self, name: str, now_s: float, elapsed_s: float) -> None:
        """A stage took so long."""
        with self._lock:
            self._stages.setdefault(name, _Series()).add(now_s, 1000 * elapsed_s)

    def camera_frame(self, now_s: float) -> None:
        """A frame came from the camera."""
        with self._lock:
            self._in.add(now_s)

    def drop(self, hop: str, now_s: float) -> None:
        """A frame was replaced before it was taken."""
        with self._lock:
            self._drops[hop].add(now_s)

    def picture(self, now_s: float, captured_s: float, *, fresh: bool) -> None:
        """A picture went to the sinks."""
        with self._lock:
            self._pictures.add(now_s)
            if fresh:
                if self._live_since_s is None:
                    self._live_since_s = now_s
                    for series in (self._in, self._pictures, *self._drops.values()):
                        series.mark(captured_s)
                self._ages.add(now_s, 1000 * (now_s - captured_s))

    @property
    def frames_out(self) -> int:
        """How many frames that moved the avatar reached the sinks."""
        return self._ages.total

    def recent(self, state: State, now_s: float) -> Stats:
        """Sum up the last five seconds."""
        window_s = max(1e-3, min(_WINDOW_S, now_s - self._began_s))
        since_s = now_s - window_s
        with self._lock:
            ages_ms = self._ages.since(since_s)
            cameras, pictures = len(self._in.since(since_s)), len(self._pictures.since(since_s))
            lost = sum(len(series.since(since_s)) for series in self._drops.values())
            stages_ms = {name: series.since(since_s) for name, series in self._stages.items()}
            counts = self._in.total, self._ages.total, self._pictures.total
            dropped = {hop: series.total for hop, series in self._drops.items()}
        rates = (count / window_s for count in (len(ages_ms), cameras, pictures))
        return _stats(state, counts, dropped, rates, ages_ms, stages_ms, lost / cameras if cameras else 0.0)

    def overall(self, state: State, now_s: float) -> Stats:
        """Sum up everything since the avatar was first moved; percentiles of the last 20,000 values."""
        with self._lock:
            live_s = 0.0 if self._live_since_s is None else now_s - self._live_since_s
            counts = self._in.since_mark, self._ages.total, self._pictures.since_mark
            dropped = {hop: series.since_mark for hop, series in self._drops.items()}
            ages_ms = self._ages.since(0.0)
            stages_ms = {name: series.since(0.0) for name, series in self._stages.items()}
        in_count, out_count, picture_count = counts
        # The first frame out begins the time and is not in it.
        rates = ((max(0, count) / live_s if live_s > 0 else 0.0) for count in (out_count - 1, in_count, picture_count))
        lost = sum(dropped.values()) / in_count if in_count else 0.0
        return _stats(state, counts, dropped, rates, ages_ms, stages_ms, lost)


class _Series:
    """Events with a value each: the newest ones, and how many there were."""

    _KEPT = 20_000

    def __init__(self) -> None:
        self._kept: deque[tuple[float, float]] = deque(maxlen=self._KEPT)
        self._mark: int | None = None
        self.total = 0

    def add(self, now_s: float, value: float = 0.0) -> None:
        self._kept.append((now_s, value))
        self.total += 1

    def mark(self, start_s: float) -> None:
        """Count from that moment on, which may have been a while ago."""
        self._mark = self.total - len(self.since(start_s))

    @property
    def since_mark(self) -> int:
        return 0 if self._mark is None else self.total - self._mark

    def since(self, start_s: float) -> list[float]:
        """Values of the events after a moment, newest first; costs as many steps as there are."""
        values = []
        for at_s, value in reversed(self._kept):
            if at_s < start_s:
                break
            values.append(value)
        return values


def _stats(
    state: State,
    counts: tuple[int, int, int],
    dropped: Mapping[str, int],
    rates: Iterable[float],
    ages_ms: Sequence[float],
    stages_ms: Mapping[str, Sequence[float]],
    drop_share: float,
) -> Stats:
    fps, camera_fps, sink_fps = rates
    frames_in, frames_out, pictures_out = counts
    return Stats(
        state=state,
        frames_in=frames_in,
        frames_out=frames_out,
        pictures_out=pictures_out,
        dropped=dropped,
        fps=fps,
        camera_fps=camera_fps,
        sink_fps=sink_fps,
        age_ms=Percentiles.of(ages_ms),
        stage_ms={name: Percentiles.of(values) for name, values in stages_ms.items()},
        drop_share=min(1.0, drop_share),
    )
