"""Self-reenactment clip by clip, since a mean over all clips hides the people whom a model shows badly."""

from collections.abc import Sequence
from typing import NamedTuple

from training.evaluate.blending import BlendShares, blend_shares
from training.evaluate.scores import Comparison, PairResult, summarise

WORST_CLIPS = 3
"""So many are named."""


class ClipFigures(NamedTuple):
    """One clip's figures.

    Attributes:
        clip: by number.
        figures: of the method that people get; see `scores.summarise`.
        blend: the shares of the blend and of its parts; None if nothing was animated.
    """

    clip: int
    figures: dict[str, float | None]
    blend: BlendShares | None


class Ranking(NamedTuple):
    """By which figure clips are compared.

    Attributes:
        figure: its name; the larger it is, the worse.
        label: for people.
        form: how the number is written.
    """

    figure: str
    label: str
    form: str


RANKINGS = (
    Ranking("l1_of_copying", "L1, of copying the source", "{:.0%}"),
    Ranking("akd_of_copying", "AKD, of copying the source", "{:.0%}"),
    Ranking("mouth_error", "mouth opening: mean error, of its width", "{:.3f}"),
    Ranking("lids_error", "lids (iris network): mean error", "{:.3f}"),
    Ranking("faces_missing", "pictures in which no face is found", "{:.0f}"),
)
"""Errors rather than correlations, which a handful of frames of one clip cannot tell."""


def by_clip(of_self: Comparison) -> list[ClipFigures]:
    """The figures of each clip that drives, in the order of the evaluation."""
    pairs: dict[int, list[PairResult]] = {}
    for result in of_self.pairs:
        pairs.setdefault(result.pair.performer.clip, []).append(result)
    return [
        ClipFigures(clip, summarise(results, of_self.main), blend_shares([result.blend for result in results]))
        for clip, results in pairs.items()
    ]


def worst(clips: Sequence[ClipFigures], figure: str) -> list[tuple[int, float]]:
    """The clips with the largest figure, the worst first, and what it is.

    Returns:
        At most `WORST_CLIPS`; not among them are clips where it could not be measured or is 0.
    """
    known = [(of_clip.clip, of_clip.figures[figure]) for of_clip in clips]
    ranked = sorted(((clip, value) for clip, value in known if value), key=lambda row: -row[1])
    return ranked[:WORST_CLIPS]
