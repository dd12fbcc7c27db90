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
