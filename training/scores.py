"""What an evaluation keeps of each pair, and the figures that it makes of them.

Changes are measured from a reference: a person's mouth counts as opened by so much since the source picture, and the
driver's since the driver's first frame. In self-reenactment both references are the source.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.media.expressions import Expression, HeadTurn, Mesh, expression, head_turn, rotation_between
from training.data import Clip
from training.judges import Judges
from training.metrics import Rgb, correlation, cosine, landmark_distance, mesh_distance, picture_l1, psnr

METHODS = ("model", "warp", "copy")
"""What is compared: the model's prediction, its warp alone, and a copy of the source."""


class Still(NamedTuple):
    """One frame of a clip, by number."""

    clip: int
    frame: int


class Pair(NamedTuple):
    """Who is animated and by what.

    Attributes:
        source: who is animated.
        reference: the driver's first frame; the source itself in self-reenactment.
        driver: the driving frame.
    """

    source: Still
    reference: Still
    driver: Still

    @property
    def relative(self) -> bool:
        """Whether somebody else drives."""
        return self.source != self.reference


@dataclasses.dataclass(frozen=True)
class Score:
    """One method's picture of one pair; None where a judge or a face is missing.

    Attributes:
        face: whether a face is found in it.
        l1, psnr, ssim, lpips, akd, akd_paper, aed: against the driving frame; self-reenactment only.
        csim_driver: cosine between the embeddings of picture and driving frame; of a stranger: leakage.
        csim_source: likewise of picture and source.
        moved: the expression's change since the source, in the picture's plane.
        moved_in_space: likewise in three dimensions.
        turn: what is missing to the head's turn that the driver asks for; absolute angles.
    """

    face: bool
    l1: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    akd: float | None = None
    akd_paper: float | None = None
    aed: float | None = None
    csim_driver: float | None = None
    csim_source: float | None = None
    moved: Expression | None = None
    moved_in_space: Expression | None = None
    turn: HeadTurn | None = None


@dataclasses.dataclass(frozen=True)
class PairResult:
    """All about one pair.

    Attributes:
        pair: which.
        measurable: whether source, reference and driving frame show a face each.
        wanted: the driver's change of expression since the reference, in the picture's plane.
        wanted_in_space: likewise in three dimensions.
        scores: by method.
        engine_ms: what the prediction took.
    """

    pair: Pair
    measurable: bool
    wanted: Expression | None
    wanted_in_space: Expression | None
    scores: dict[str, Score]
    engine_ms: float

    @property
    def complete(self) -> bool:
        """Whether every method's picture shows a face too: only over such pairs can methods be compared by faces."""
        return self.measurable and all(score.face for score in self.scores.values())


@dataclasses.dataclass(frozen=True)
class Jitter:
    """How restless the animation of a driver is who does not move; root mean squares, means over some clips.

    Attributes:
        keypoints_px: of the keypoints' places under sensor noise, in pixels of 256.
        picture_px: of where the warp looks, over all pixels of the picture, likewise.
        flicker_levels: of the prediction's colours, in grey levels of 255.
        shifted_keypoints_px: by how far keypoints miss a shift of a fraction of a pixel that they should follow.
    """

    keypoints_px: float
    picture_px: float
    flicker_levels: float
    shifted_keypoints_px: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result.

    Attributes:
        clips: the dataset's clips, by number.
        self_pairs, cross_pairs: results in order.
        self_figures, cross_figures: by method and figure; see `summarise`.
        jitter: of a still driver.
        engine_ms: median and 95th percentile of a frame.
        device: where and how the engine ran.
        size_px: side of the model's pictures.
        notes: sentences on what was left out, and why.
    """

    clips: tuple[Clip, ...]
    self_pairs: tuple[PairResult, ...]
    cross_pairs: tuple[PairResult, ...]
    self_figures: dict[str, dict[str, float | None]]
    cross_figures: dict[str, dict[str, float | None]]
    jitter: Jitter
    engine_ms: tuple[float, float]
    device: str
    size_px: int
    notes: tuple[str, ...]

    @property
    def driving(self) -> tuple[int, int]:
        """Clips that were used in self-reenactment, and people in them."""
        clips = {result.pair.driver.clip for result in self.self_pairs}
        return len(clips), len({who(self.clips[clip]) for clip in clips})


def who(clip: Clip) -> str:
    """Who is seen in it; a picture without a name is a person of its own."""
    return clip.identity or clip.file


class Seen(NamedTuple):
    """A picture and what was found in it.

    Attributes:
        rgb: (S, S, 3).
        mesh: of the largest face, or None.
        embedding: who it is, if there is a face and a judge.
        paper: face-alignment's 68 points.
    """

    rgb: Rgb
    mesh: Mesh | None
    embedding: NDArray[np.float64] | None
    paper: NDArray[np.float32] | None


def score_pair(
    pair: Pair, source: Seen, reference: Seen, driver: Seen, seen: dict[str, Seen], judges: Judges, engine_ms: float
) -> PairResult:
    """Score all methods' pictures of a pair.

    Args:
        pair: which.
        source: who is animated.
        reference: the driver's reference pose.
        driver: the driving frame.
        seen: the picture of each method.
        judges: for what needs more than arithmetic.
        engine_ms: what the prediction took.
    """
    wanted = _change(reference, driver, in_space=False)
    measurable = wanted is not None and source.mesh is not None
    scores = {
        method: score(shown, source, reference, driver, judges, of_self=not pair.relative)
        for method, shown in seen.items()
    }
    return PairResult(pair, measurable, wanted, _change(reference, driver, in_space=True), scores, engine_ms)


def _change(earlier: Seen, now: Seen, *, in_space: bool) -> Expression | None:
    if earlier.mesh is None or now.mesh is None:
        return None
    return expression(now.mesh, in_space=in_space).since(expression(earlier.mesh, in_space=in_space))


def score(shown: Seen, source: Seen, reference: Seen, driver: Seen, judges: Judges, *, of_self: bool) -> Score:
    """Compare what a method shows with what it was asked for.

    Args:
        shown: the method's picture.
        source: who is animated.
        reference: the driver's reference pose.
        driver: the driving frame.
        judges: for what needs more than arithmetic.
        of_self: whether the driving frame is what should come out, pixel by pixel.
    """
    values: dict[str, Any] = {}
    if of_self:
        values["l1"] = picture_l1(shown.rgb, driver.rgb)
        values["psnr"] = psnr(shown.rgb, driver.rgb)
        values["ssim"] = judges.ssim(shown.rgb, driver.rgb) if judges.ssim else None
        values["lpips"] = judges.lpips(shown.rgb, driver.rgb) if judges.lpips else None
        side_px = driver.rgb.shape[0]
        if shown.mesh is not None and driver.mesh is not None:
            values["akd"] = mesh_distance(shown.mesh, driver.mesh, side_px)
        if shown.paper is not None and driver.paper is not None:
            values["akd_paper"] = landmark_distance(shown.paper, driver.paper, side_px)
    if shown.embedding is not None and driver.embedding is not None:
        values["csim_driver"] = cosine(shown.embedding, driver.embedding)
        if of_self:
            values["aed"] = float(np.linalg.norm(shown.embedding - driver.embedding))
    if shown.embedding is not None and source.embedding is not None:
        values["csim_source"] = cosine(shown.embedding, source.embedding)
    values["moved"] = _change(source, shown, in_space=False)
    values["moved_in_space"] = _change(source, shown, in_space=True)
    if shown.mesh is not None and source.mesh is not None and driver.mesh is not None and reference.mesh is not None:
        turned = rotation_between(source.mesh, shown.mesh)
        wanted = rotation_between(reference.mesh, driver.mesh)
        values["turn"] = HeadTurn(*(abs(angle) for angle in head_turn(turned @ wanted.T)))
    return Score(face=shown.mesh is not None, **values)


_OF_PICTURES = ("l1", "psnr", "ssim", "lpips")
_OF_FACES = ("akd", "akd_paper", "aed", "csim_driver", "csim_source")


def summarise(results: Sequence[PairResult], method: str) -> dict[str, float | None]:
    """A method's figures over all pairs; None for what could not be measured in any.

    What needs faces counts over the pairs that show one in every picture, each method's included: a method that lost
    the hardest faces would look better for it. So three counts stand beside it: `faces_missing`, this method's pictures
    without a face though source, reference and driver show one; `unmeasurable`, the pairs where those do not;
    `complete`, the pairs that count. `akd_wherever_found` is the mean over all of this method's pictures with a face.
    `*_of_copying` is the figure over that of the copied source.
    """
    complete = [result for result in results if result.complete]
    figures: dict[str, float | None] = {
        "pairs": len(results),
        "complete": len(complete),
        "faces_missing": sum(result.measurable and not result.scores[method].face for result in results),
        "unmeasurable": sum(not result.measurable for result in results),
    }
    for names, counted in ((_OF_PICTURES, results), (_OF_FACES, complete)):
        for name in names:
            figures[name] = _mean([getattr(result.scores[method], name) for result in counted])
    for name, counted in (("l1", results), ("akd", complete)):
        shown, copied = figures[name], _mean([getattr(result.scores["copy"], name) for result in counted])
        figures[f"{name}_of_copying"] = shown / copied if shown is not None and copied else None
    figures["akd_wherever_found"] = _mean([result.scores[method].akd for result in results])
    for suffix in ("", "_in_space"):
        moves = [getattr(result.scores[method], f"moved{suffix}") for result in complete]
        wishes = [getattr(result, f"wanted{suffix}") for result in complete]
        for part in ("mouth", "eyes", "left_eye", "right_eye"):
            moved, wanted = ([getattr(change, part) for change in changes] for changes in (moves, wishes))
            figures[f"{part}{suffix}_correlation"] = correlation(moved, wanted)
            figures[f"{part}{suffix}_error"] = _mean([abs(a - b) for a, b in zip(moved, wanted, strict=True)])
    turns = [result.scores[method].turn for result in complete]
    for part in HeadTurn._fields:
        figures[f"{part}_deg"] = _mean([None if turn is None else getattr(turn, part) for turn in turns])
    return figures


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None
