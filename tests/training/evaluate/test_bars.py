"""Figures beside the project's bars, worked out by hand."""

import pytest

from training.evaluate.bars import BARS, bar_lines, standings
from training.evaluate.scores import COPY, Pair, PairResult, Score, Still, summarise

FIGURES: dict[str, float | None] = {
    "l1_of_copying": 0.577,
    "akd_of_copying": 0.07,
    "mouth_correlation": 0.8799,
    "lids_correlation": 0.91,
    "shut_shown": 0.75,
    "shut": 12,
    "gaze_correlation": None,
    "gaze_pairs": 2,
}


def test_what_is_missing_to_a_bar() -> None:
    found = {standing.bar.figure: standing for standing in standings(FIGURES)}
    assert len(found) == len(BARS) == 6
    missing = {figure: standing.missing for figure, standing in found.items()}
    assert missing.pop("gaze_correlation") is None
    assert missing == pytest.approx(
        {
            "l1_of_copying": 0.037,
            "akd_of_copying": 0,
            "mouth_correlation": 0.0001,
            "lids_correlation": 0,
            "shut_shown": 0.05,
        }
    )
    reached = {figure for figure, standing in found.items() if standing.reached}
    assert reached == {"akd_of_copying", "lids_correlation"}, "a figure on the bar reaches it, one that is unknown not"


def test_a_line_has_a_tick_or_tells_what_is_missing() -> None:
    l1, akd, mouth, lids, shut, gaze = (" ".join(line.split()) for line in bar_lines(FIGURES))
    assert l1 == "[ ] L1, of copying the source at most 54%: 57.7%, 3.7 points too much"
    assert akd == "[x] AKD, of copying the source at most 7%: 7.0%"
    assert mouth == "[ ] mouth opening: correlation of change at least 0.88: 0.880, 0.001 too little", "never by 0.000"
    assert lids == "[x] lids (iris network): correlation of change at least 0.88: 0.910"
    assert shut == "[ ] shut eyes shown shut, of 12 frames at least 80%: 75.0%, 5.0 points too little"
    assert gaze == "[ ] gaze (iris network), over 2 pairs at least 0.60: not measured"


def test_what_is_missing_is_never_told_as_nothing() -> None:
    mouth = " ".join(bar_lines(FIGURES | {"mouth_correlation": 0.88 - 1e-9})[2].split())
    assert mouth.endswith("0.880, 0.001 too little")


def test_every_bar_is_a_figure_of_the_evaluation() -> None:
    still = Still(0, 0)
    result = PairResult(Pair(still, still, still), False, None, None, None, None, None, {COPY: Score(face=False)}, {})
    assert {bar.figure for bar in BARS} <= set(summarise([result], COPY))
    assert len(bar_lines(summarise([result], COPY))) == len(BARS), "though none of them could be measured"
