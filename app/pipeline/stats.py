"""What is counted and timed, and how it is summed up."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.pipeline.output_frame import State

_WINDOW_S = 5.0


@dataclass(frozen=True)
class Percentiles:
    """Of some durations, in milliseconds; 0 where there were none."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> "Percentiles":
        """By the nearest rank."""
        if not values_ms:
            return cls()
        ordered = sorted(values_ms)
        last = len(ordered) - 1
        return cls(*(ordered[min(last, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99)))


@dataclass(frozen=True)
class Stats:
    """How the pipeline does.

    Attributes:
        state: what the output shows.
        frames_in: camera frames so far.
        frames_out: camera frames that moved the avatar and reached the sinks, each counted once.
        pictures_out: pictures sent to the sinks, repeated ones included.
        dropped: frames that a newer one replaced before they were taken, by hop, so far.
        fps: `frames_out` a second; over the last five seconds while running, over everything in a report.
        camera_fps: frames a second from the camera, likewise.
        sink_fps: pictures a second, likewise.
        age_ms: from capture to the last sink's return.
        stage_ms: median time of each stage.
        drop_share: share of the camera's frames that were dropped, 0 to 1.
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
    """Collects counts and times from all stages; every method may be called on any thread."""

    _KEPT = 20_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage_ms: dict[str, deque[tuple[float, float]]] = {}
        self._ages_ms: deque[tuple[float, float]] = deque(maxlen=self._KEPT)
        self._times: dict[str, deque[float]] = {name: deque(maxlen=self._KEPT) for name in ("in", "pictures")}
        self._counts = {"in": 0, "out": 0, "pictures": 0}
        self._first_out_s: float | None = None

    def stage(self, name: str, now_s: float, elapsed_s: float) -> None:
        """A stage took so long."""
        with self._lock:
            kept = self._stage_ms.setdefault(name, deque(maxlen=self._KEPT))
            kept.append((now_s, 1000 * elapsed_s))

    def camera_frame(self, now_s: float) -> None:
        """A frame came from the camera."""
        with self._lock:
            self._counts["in"] += 1
            self._times["in"].append(now_s)

    def picture(self, now_s: float, captured_s: float, *, fresh: bool) -> None:
        """A picture went to the sinks."""
        with self._lock:
            self._counts["pictures"] += 1
            self._times["pictures"].append(now_s)
            if fresh:
                if self._first_out_s is None:
                    self._first_out_s = now_s
                self._counts["out"] += 1
                self._ages_ms.append((now_s, 1000 * (now_s - captured_s)))

    @property
    def live_since_s(self) -> float | None:
        """When the first frame that moved the avatar reached the sinks; None before."""
        return self._first_out_s

    @property
    def frames_out(self) -> int:
        """How many frames that moved the avatar reached the sinks."""
        return self._counts["out"]

    def summary(
        self, state: State, dropped: Mapping[str, int], now_s: float, *, window_s: float | None = _WINDOW_S
    ) -> Stats:
        """Sum up the last `window_s` seconds; None: everything since the avatar was first moved."""
        with self._lock:
            since_s = (self._first_out_s or now_s) if window_s is None else now_s - window_s
            ages = [(at, ms) for at, ms in self._ages_ms if at >= since_s]
            in_window = sum(1 for at in self._times["in"] if at >= since_s)
            return Stats(
                state=state,
                frames_in=self._counts["in"],
                frames_out=self._counts["out"],
                pictures_out=self._counts["pictures"],
                dropped=dict(dropped),
                fps=_rate([at for at, _ in ages]),
                camera_fps=_rate([at for at in self._times["in"] if at >= since_s]),
                sink_fps=_rate([at for at in self._times["pictures"] if at >= since_s]),
                age_ms=Percentiles.of([ms for _, ms in ages]),
                stage_ms={
                    name: Percentiles.of([ms for at, ms in kept if at >= since_s])
                    for name, kept in self._stage_ms.items()
                },
                drop_share=max(0.0, 1 - len(ages) / in_window) if in_window else 0.0,
            )


def _rate(times_s: Sequence[float]) -> float:
    """Events a second between the first and the last; 0 for fewer than two."""
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return 0.0
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])
