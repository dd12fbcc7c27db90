"""A run's losses as one picture, drawn from its statistics: for machines without TensorBoard, and at a glance."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.fit.sheets import write_png

_WIDTH_PX, _PANEL_PX = 960, 240
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 64, 250, 34, 40
_PAPER, _INK, _GREY, _PALE = (255, 255, 255), (40, 40, 40), (130, 130, 130), (225, 225, 225)
_COLOURS = (
    (31, 119, 180),
    (214, 39, 40),
    (44, 160, 44),
    (148, 103, 189),
    (255, 127, 14),
    (23, 190, 207),
    (140, 86, 75),
)
_SHOWN_TERMS = len(_COLOURS)
_NO_TERMS = {"step", "stage", "learning_rate", "skipped", "discriminator"}


class Panel(NamedTuple):
    """One of the picture's diagrams.

    Attributes:
        title: above it.
        curves: names, and steps with values.
        least: the values' axis begins at this, or at the least value where that is None.
    """

    title: str
    curves: dict[str, list[tuple[int, float]]]
    least: float | None = None


def draw_curves(stats: Path, picture: Path) -> bool:
    """Draw a run's statistics, if there are two lines of them.

    Args:
        stats: `stats.jsonl` of the run; lines that are torn are left out.
        picture: the PNG.

    Returns:
        Whether there was something to draw.

    Raises:
        OSError: it cannot be read or written.
    """
    rows = _rows(stats)
    chosen = [panel for panel in panels(rows) if any(len(points) > 1 for points in panel.curves.values())]
    if not chosen:
        return False
    stages = _stage_starts(rows)
    write_png(picture, np.concatenate([_drawn(panel, stages) for panel in chosen]))
    return True


def panels(rows: Sequence[dict[str, Any]]) -> list[Panel]:
    """What is shown: the loss and its largest terms, shares of copying the source, and pairs per second.

    Args:
        rows: lines of statistics, in order.
    """
    totals = _curve(rows, "total")
    terms = sorted(_terms(rows), key=lambda name: -max(value for _, value in _curve(rows, name)))
    loss = {"total": totals, **{name: _curve(rows, name) for name in terms[: _SHOWN_TERMS - 1]}}
    shares = {
        label: _curve(rows, name)
        for label, name in (
            ("warped", "warped_of_copied"),
            ("predicted", "predicted_of_copied"),
            ("held out: warped", "held_out_warped_of_copied"),
            ("held out: predicted", "held_out_predicted_of_copied"),
        )
    }
    speed = {"pairs per second": _curve(rows, "pairs_per_s")}
    return [
        Panel("Loss, and its largest terms with their weights", _known(loss), 0.0),
        Panel("L1, of copying the source (1 is no better than a still picture)", _known(shares)),
        Panel("Pairs per second", _known(speed), 0.0),
    ]


def _rows(stats: Path) -> list[dict[str, Any]]:
    rows = []
    for line in stats.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows


def _terms(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The weighted terms that add up to the loss: what stands in a line and is no figure to read only."""
    names = dict.fromkeys(name for row in rows for name in row if "total" in row)
    endings = ("_l1", "_of_copied", "_of_paper", "_mean", "_ms", "_s")
    return [
        name
        for name in names
        if name not in _NO_TERMS | {"total"} and not name.endswith(endings) and not name.startswith("gradient_")
    ]


def _curve(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], float(row[name])) for row in rows if isinstance(row.get(name), int | float)]


def _known(curves: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    return {name: points for name, points in curves.items() if points}


def _stage_starts(rows: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """The step of each stage's first line, and its name."""
    starts: dict[str, int] = {}
    for row in rows:
        starts.setdefault(str(row.get("stage", "")), row["step"])
    return [(step, name) for name, step in starts.items()]


def _drawn(panel: Panel, stages: Sequence[tuple[int, str]]) -> NDArray[np.uint8]:
    """(240, 960, 3) uint8 RGB."""
    import cv2  # here: a run without pictures needs no OpenCV

    picture = np.full((_PANEL_PX, _WIDTH_PX, 3), _PAPER, np.uint8)

    def write(text: str, x: int, y: int, colour: tuple[int, int, int] = _INK) -> None:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

    steps = [step for points in panel.curves.values() for step, _ in points]
    # What a run begins with may be many times what follows: the axis shows 98 % of the values, the rest is cut off.
    values = np.array([value for points in panel.curves.values() for _, value in points if np.isfinite(value)] or [0.0])
    low = float(values.min()) if panel.least is None else panel.least
    high = max(float(np.quantile(values, 0.98)), low + 1e-9)
    first, last = min(steps), max(max(steps), min(steps) + 1)
    left, right, top, bottom = _LEFT_PX, _WIDTH_PX - _RIGHT_PX, _TOP_PX, _PANEL_PX - _BOTTOM_PX

    def place(step: float, value: float) -> tuple[int, int]:
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(left + (right - left) * (step - first) / (last - first)), round(bottom - (bottom - top) * share)

    write(panel.title, left, 20)
    for part in range(5):
        value = low + (high - low) * part / 4
        _, y = place(first, value)
        cv2.line(picture, (left, y), (right, y), _PALE, 1)
        write(f"{value:.3g}", 8, y + 4)
    for part in range(3):
        step = first + (last - first) * part / 2
        x, _ = place(step, low)
        write(f"{step:,.0f}", x - 14, bottom + 18)
    for step, name in stages:
        x, _ = place(min(max(step, first), last), low)
        cv2.line(picture, (x, top), (x, bottom), _PALE, 1)
        write(name, x - 14, bottom + 32, _GREY)
    for number, (name, points) in enumerate(panel.curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = np.array([place(step, value) for step, value in points if np.isfinite(value)], np.int32)
        if len(places) > 1:
            cv2.polylines(picture, [places], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
        y = top + 8 + 20 * number
        cv2.line(picture, (right + 14, y - 4), (right + 34, y - 4), colour, 2)
        write(f"{name} {points[-1][1]:.3g}", right + 40, y)
    return picture
