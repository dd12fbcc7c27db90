"""Figures clip by clip, worked out by hand."""

import pytest

from mcnet.media.expressions import Expression
from training.evaluate.blending import BlendL1
from training.evaluate.per_clip import RANKINGS, ClipFigures, by_clip, worst
from training.evaluate.scores import COPY, Comparison, Pair, PairResult, Score, Still, summarise

METHODS = ("model", COPY)
STILL = Expression(0, 0, 0)


def result(clip: int, l1: float, copied_l1: float, *, mouth: float = 0.0, blend: BlendL1 | None = None) -> PairResult:
    """A pair whose mouth opens too far by so much."""
    first = Still(clip, 0)
    scores = {
        "model": Score(face=True, l1=l1, moved=Expression(mouth, 0, 0), moved_in_space=STILL),
        COPY: Score(face=True, l1=copied_l1, moved=STILL, moved_in_space=STILL),
    }
    return PairResult(Pair(first, first, Still(clip, 1)), True, STILL, STILL, STILL, None, None, scores, {}, blend)


def compare(*results: PairResult) -> Comparison:
    return Comparison(results, {method: summarise(results, method) for method in METHODS})


def test_each_clip_has_figures_of_its_own() -> None:
    blends = BlendL1(0.04, 0.05, 0.06, 0.03, 0.1), BlendL1(0.02, 0.01, 0.02, 0.01, 0.1)
    clips = by_clip(
        compare(
            result(7, 0.04, 0.1, mouth=0.1, blend=blends[0]),
            result(2, 0.03, 0.1, mouth=-0.4),
            result(7, 0.02, 0.2, mouth=0.3, blend=blends[1]),
        )
    )
    assert [of_clip.clip for of_clip in clips] == [7, 2], "in the order of the evaluation"
    seventh, second = clips
    assert (seventh.figures["pairs"], second.figures["pairs"]) == (2, 1)
    assert seventh.figures["l1_of_copying"] == pytest.approx(0.2), "0.06 of 0.3"
    assert second.figures["l1_of_copying"] == pytest.approx(0.3)
    assert seventh.figures["mouth_error"] == pytest.approx(0.2)
    assert second.figures["mouth_error"] == pytest.approx(0.4)
    assert seventh.blend is not None
    assert seventh.blend.gap == pytest.approx(0.1), "0.3 less 0.2 of copying"
    assert second.blend is None


def test_a_clip_in_which_nothing_moves_has_no_share_of_copying() -> None:
    (still,) = by_clip(compare(result(0, 0.01, 0.0)))
    assert still.figures["l1"] == 0.01
    assert still.figures["l1_of_copying"] is None


def test_the_worst_clips_come_first() -> None:
    shares = [0.5, None, 0.9, 0.6, 0.0, 1.2]
    clips = [ClipFigures(10 + number, {"l1_of_copying": share}, None) for number, share in enumerate(shares)]
    assert worst(clips, "l1_of_copying") == [(15, 1.2), (12, 0.9), (13, 0.6)]
    assert worst(clips[:2], "l1_of_copying") == [(10, 0.5)], "what could not be measured is not ranked"
    assert worst(clips[4:5], "l1_of_copying") == [], "nor what is perfect"


def test_clips_are_ranked_by_figures_that_there_are() -> None:
    figures = compare(result(0, 0.1, 0.2)).figures["model"]
    assert {ranking.figure for ranking in RANKINGS} <= set(figures)
