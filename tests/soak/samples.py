"""What is sampled of the process, whether it stays flat, and its plot."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mcnet.arrays import Rgb
from mcnet.media.images import write_rgb

WARM_UP_SHARE = 0.25
"""Of a run: what is loaded and encoded for the first time belongs to its beginning."""
_MOST_POINTS = 600
_PANEL_PX = (900, 190)
_MARGIN_PX = 70
_INK, _FAINT, _LINE, _TREND = (40, 40, 40), (200, 200, 200), (30, 90, 200), (210, 60, 40)


class Sample(NamedTuple):
    """The process at a moment.

    Attributes:
        at_s: since the run began.
        rss_mb: memory that it has.
        files: open files.
        threads: of the whole process, libraries' included.
        age_ms: median age of the pictures of the last seconds; 0 where none moved the avatar.
    """

    at_s: float
    rss_mb: float
    files: float
    threads: float
    age_ms: float


class Limit(NamedTuple):
    """How much a figure may grow over a run: its slope, times the run's length after the warm-up.

    Attributes:
        name: of the figure, for people.
        field: of `Sample`.
        most: in its own unit.
    """

    name: str
    field: str
    most: float


LIMITS = (
    Limit("memory, MB", "rss_mb", 32.0),
    Limit("open files", "files", 3.0),
    Limit("threads", "threads", 3.0),
    Limit("age, ms", "age_ms", 25.0),
)


def sample(at_s: float, age_ms: float) -> Sample:
    """Look at this process, as Linux tells of it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    rss_mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    files, threads = (len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("fd", "task"))
    return Sample(at_s, rss_mb, float(files), float(threads), age_ms)


def after_warm_up(samples: Sequence[Sample]) -> list[Sample]:
    """Those that count."""
    if not samples:
        return []
    from_s = samples[0].at_s + WARM_UP_SHARE * (samples[-1].at_s - samples[0].at_s)
    return [one for one in samples if one.at_s >= from_s]


def growth(samples: Sequence[Sample], field: str) -> float:
    """How much a figure grows from the warm-up to the end, by the median of the slopes between all pairs (Theil-Sen): a
    fault's peak does not count, a leak does. Moments without a picture have no age.
    """
    counted = after_warm_up(samples)
    points = [(one.at_s, getattr(one, field)) for one in counted if field != "age_ms" or one.age_ms > 0]
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    if len(points) < 2:
        return 0.0
    at_s, values = np.array(points).T
    first, second = np.triu_indices(len(points), 1)
    slope = float(np.median((values[second] - values[first]) / (at_s[second] - at_s[first])))
    return slope * float(counted[-1].at_s - counted[0].at_s)


def complaints(samples: Sequence[Sample]) -> list[str]:
    """What does not stay flat, a sentence each."""
    told = []
    for limit in LIMITS:
        grown = growth(samples, limit.field)
        if grown > limit.most:
            told.append(f"{limit.name}: grew by {grown:.1f} after the warm-up, expected at most {limit.most:g}")
    return told


def draw(samples: Sequence[Sample], faults: Sequence[tuple[float, str]], title: str) -> Rgb:
    """A panel per figure over the minutes, with its trend; a tick at the foot for each fault."""
    panels = [_panel(samples, faults, limit) for limit in LIMITS]
    head = np.full((40, _PANEL_PX[0], 3), 255, np.uint8)
    _write(head, title, (10, 26))
    return np.concatenate([head, *panels])


def save_plot(path: Path, samples: Sequence[Sample], faults: Sequence[tuple[float, str]], title: str) -> None:
    """Draw it to a PNG."""
    write_rgb(path, draw(samples, faults, title))


def _panel(samples: Sequence[Sample], faults: Sequence[tuple[float, str]], limit: Limit) -> Rgb:
    width, height = _PANEL_PX
    panel = np.full((height, width, 3), 255, np.uint8)
    values = [getattr(one, limit.field) for one in samples]
    low, high = 0.0, 1.15 * max([*values, 1.0])
    last_s = max(samples[-1].at_s, 1.0)

    def place(at_s: float, value: float) -> tuple[int, int]:
        x = _MARGIN_PX + (width - _MARGIN_PX - 20) * at_s / last_s
        y = 30 + (height - 60) * (1 - (value - low) / (high - low))
        return round(x), round(y)

    for value in (low, high / 2, high):
        cv2.line(panel, place(0, value), place(last_s, value), _FAINT, 1, cv2.LINE_AA)
        _write(panel, f"{value:.0f}", (8, place(0, value)[1] + 4))
    for at_s, _ in faults:
        x, foot = place(at_s, low)
        cv2.line(panel, (x, foot), (x, foot - 6), _TREND, 1)
    line = np.array([place(one.at_s, value) for one, value in zip(samples, values, strict=True)], np.int32)
    cv2.polylines(panel, [line], False, _LINE, 1, cv2.LINE_AA)
    counted = after_warm_up(samples)
    middle, grown = statistics.median(getattr(one, limit.field) for one in counted), growth(samples, limit.field)
    ends = [place(one.at_s, middle + half * grown) for one, half in ((counted[0], -0.5), (counted[-1], 0.5))]
    cv2.line(panel, ends[0], ends[1], _TREND, 2, cv2.LINE_AA)
    _write(panel, f"{limit.name}: median {middle:.1f}, growth {grown:+.1f} (at most {limit.most:g})", (_MARGIN_PX, 20))
    _write(panel, f"{last_s / 60:.1f} min", (width - 80, height - 10))
    return panel


def _write(picture: Rgb, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
