"""The figures that the project wants a model to reach on its test split, and how far a model is from them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

TEST_SPLIT = "test"
"""The split that the bars were set for; they say nothing about other footage, which is harder or easier."""


class Bar(NamedTuple):
    """A limit for a figure of self-reenactment, by the method that people get.

    Attributes:
        figure: its name in `scores.summarise`.
        label: for people; may name other figures, in braces.
        value: the limit.
        at_most: whether the figure must not be above it; else it must not be below it.
        percent: whether people read it in percent.
    """

    figure: str
    label: str
    value: float
    at_most: bool
    percent: bool


BARS = (
    Bar("l1_of_copying", "L1, of copying the source", 0.54, at_most=True, percent=True),
    Bar("akd_of_copying", "AKD, of copying the source", 0.07, at_most=True, percent=True),
    Bar("mouth_correlation", "mouth opening: correlation of change", 0.88, at_most=False, percent=False),
    Bar("lids_correlation", "lids (iris network): correlation of change", 0.88, at_most=False, percent=False),
    Bar("shut_shown", "shut eyes shown shut, of {shut:.0f} frames", 0.80, at_most=False, percent=True),
    Bar("gaze_correlation", "gaze (iris network), over {gaze_pairs:.0f} pairs", 0.60, at_most=False, percent=False),
)


class Standing(NamedTuple):
    """A figure beside its bar.

    Attributes:
        bar: what it has to reach.
        value: the figure; None if it could not be measured.
    """

    bar: Bar
    value: float | None

    @property
    def missing(self) -> float | None:
        """How much is missing, 0 where the bar is reached; None if the figure could not be measured."""
        if self.value is None:
            return None
        over = self.value - self.bar.value
        return max(0.0, over if self.bar.at_most else -over)

    @property
    def reached(self) -> bool:
        """Whether the figure is known and good enough."""
        return self.missing == 0


def standings(figures: Mapping[str, float | None]) -> list[Standing]:
    """Every bar with a model's figure, in order.

    Args:
        figures: of `scores.summarise`, by name.
    """
    return [Standing(bar, figures.get(bar.figure)) for bar in BARS]


def bar_lines(figures: Mapping[str, float | None]) -> list[str]:
    """A line for each bar: a tick or an empty box, the bar, the figure, and how much is missing."""
    counts = {name: value or 0 for name, value in figures.items()}
    named = [(standing, standing.bar.label.format(**counts)) for standing in standings(figures)]
    width = max(len(label) for _, label in named)
    return [
        f"[{'x' if standing.reached else ' '}] {label:<{width}}  {_numbers(standing)}".rstrip()
        for standing, label in named
    ]


def _numbers(standing: Standing) -> str:
    bar, value, missing = standing.bar, standing.value, standing.missing
    limit = f"at {'most' if bar.at_most else 'least'} {f'{bar.value:.0%}' if bar.percent else f'{bar.value:.2f}'}:"
    if value is None or missing is None:
        return f"{limit:<14} not measured"
    told = f"{value:.1%}" if bar.percent else f"{value:.3f}"
    if standing.reached:
        return f"{limit:<14} {told:>7}"
    # Rounded up: what is missing is never told as nothing.
    amount = f"{_up(100 * missing, 1):.1f} points" if bar.percent else f"{_up(missing, 3):.3f}"
    return f"{limit:<14} {told:>7}, {amount} {'too much' if bar.at_most else 'too little'}"


def _up(missing: float, digits: int) -> float:
    # Less a millionth of the last digit, so that 0.1 + 0.2 does not become 0.4.
    units = math.ceil(missing * 10.0**digits - 1e-6)
    return float(max(1, units) / 10.0**digits)
