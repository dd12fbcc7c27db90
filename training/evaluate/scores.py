"""What an evaluation keeps of each pair, and the figures that it makes of them.

Changes are measured from a reference: a person's mouth counts as opened by so much since the source picture, and the
performer's since the performer's reference frame. In self-reenactment both references are the source. Motion in the
picture's plane aims at that. Motion in space aims at what the performer does whatever the reference shows, so that
figures "itself" stand beside: how the change since the source picture follows the performer's own opening and
direction.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.expressions import Expression, HeadTurn, Mesh, expression, head_turn, rotation_between
from training.data import Clip
from training.evaluate.blending import BlendL1, BlendShares
from training.evaluate.iris import Eyes
from training.evaluate.metric_networks import MetricNetworks
from training.evaluate.metrics import (
    Regions,
    correlation,
    cosine,
    landmark_distance,
    mesh_distance,
    picture_l1,
    procrustes_residual,
    psnr,
    region_changes,
    region_distances,
    sharpness,
)

COPY = "copy"
"""The method that shows the source as it is: what every other one has to beat."""
DISTORTED = 5e-3
"""A face whose shape differs by more from the source's own counts as distorted (`procrustes_residual`). Expression and
the mesh's guess of depth differ by so much now and then as well: how often, the performer's own frames tell."""


class Still(NamedTuple):
    """One frame of a clip, by number."""

    clip: int
    frame: int


class Pair(NamedTuple):
    """Who is animated and by what.

    Attributes:
        source: who is animated.
        reference: the performer's frame from which relative motion starts; the source itself in self-reenactment.
        performer: the driving frame.
    """

    source: Still
    reference: Still
    performer: Still

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
        csim_performer: cosine between the embeddings of picture and driving frame; of a stranger: leakage.
        csim_source: likewise of picture and source.
        moved: the expression's change since the source, in the picture's plane.
        moved_in_space: likewise in three dimensions.
        turn: the error of the head's turn since the reference, against the performer's turn; absolute angles.
        direction: how far the head looks from where the performer's looks; absolute angles.
        distortion: how far the face's shape is from the source's own.
        eyes: of the face in it, by the iris network.
        sharpness: the face's over that of the driving frame's; self-reenactment only.
        regions: AKD of each region of the face, in pixels of 256; self-reenactment only.
        regions_in_space: the error of each region's change of expression, in face sizes.
    """

    face: bool
    l1: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    akd: float | None = None
    akd_paper: float | None = None
    aed: float | None = None
    csim_performer: float | None = None
    csim_source: float | None = None
    moved: Expression | None = None
    moved_in_space: Expression | None = None
    turn: HeadTurn | None = None
    direction: HeadTurn | None = None
    distortion: float | None = None
    eyes: Eyes | None = None
    sharpness: float | None = None
    regions: Regions | None = None
    regions_in_space: Regions | None = None


class EyesAsked(NamedTuple):
    """The eyes of the pictures that a pair consists of, by the iris network."""

    source: Eyes
    reference: Eyes
    performer: Eyes


@dataclasses.dataclass(frozen=True)
class PairResult:
    """All about one pair.

    Attributes:
        pair: which.
        measurable: whether source, reference and driving frame show a face each.
        wanted: the performer's change of expression since the reference, in the picture's plane.
        wanted_in_space: likewise in three dimensions.
        driving: how far the performer's mouth and eyes are open, in the picture's plane.
        eyes: of source, reference and driving frame; None without a face in each, or without the network.
        performer_distortion: how far the performer's shape is from that in the reference, the same person's.
        scores: by method.
        engine_ms: what the engine took for a frame, by method; not in it are those that need no engine.
        blend: the prediction beside what it is blended of; self-reenactment only.
    """

    pair: Pair
    measurable: bool
    wanted: Expression | None
    wanted_in_space: Expression | None
    driving: Expression | None
    eyes: EyesAsked | None
    performer_distortion: float | None
    scores: dict[str, Score]
    engine_ms: dict[str, float]
    blend: BlendL1 | None = None

    @property
    def complete(self) -> bool:
        """Whether every method's picture shows a face too: only over such pairs can methods be compared by faces."""
        return self.measurable and all(score.face for score in self.scores.values())


@dataclasses.dataclass(frozen=True)
class Jitter:
    """How restless the animation of a performer is who does not move; root mean squares, means over some clips.

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


Figures = dict[str, dict[str, float | None]]
"""By method and figure; see `summarise`."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods side by side on the same pairs.

    Attributes:
        pairs: results in order.
        figures: of the methods; the first one is what people get.
    """

    pairs: tuple[PairResult, ...]
    figures: Figures

    @property
    def main(self) -> str:
        """The method that people get."""
        return next(iter(self.figures))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result.

    Attributes:
        clips: the dataset's clips, by number.
        of_self: self-reenactment.
        blend: self-reenactment's predictions beside what they are blended of; None if nothing was animated.
        of_cross: cross-identity, by the kind of the reference frame; empty if there are no pairs.
        jitter: of a still performer, by self-reenactment's methods.
        engine_ms: median and 95th percentile of a frame, by method.
        device: where and how the engine ran.
        size_px: side of the model's pictures.
        notes: sentences on what was left out, and why.
    """

    clips: tuple[Clip, ...]
    of_self: Comparison
    blend: BlendShares | None
    of_cross: dict[str, Comparison]
    jitter: dict[str, Jitter]
    engine_ms: dict[str, tuple[float, float]]
    device: str
    size_px: int
    notes: tuple[str, ...]

    @property
    def driving(self) -> tuple[int, int]:
        """Clips that were used in self-reenactment, and people in them."""
        clips = {result.pair.performer.clip for result in self.of_self.pairs}
        return len(clips), len({who(self.clips[clip]) for clip in clips})


def who(clip: Clip) -> str:
    """Who is seen in it; a picture without a name is a person of its own."""
    return clip.identity or clip.file


class Seen(NamedTuple):
    """A picture and what was found in it.

    Attributes:
        rgb: (S, S, 3).
        mesh: of the largest face, or None.
        embedding: who it is, if there is a face and a network.
        paper: face-alignment's 68 points.
        eyes: of the face, by the iris network.
    """

    rgb: Rgb
    mesh: Mesh | None
    embedding: NDArray[np.float64] | None
    paper: NDArray[np.float32] | None
    eyes: Eyes | None


def result_of(
    pair: Pair,
    source: Seen,
    reference: Seen,
    performer: Seen,
    scores: dict[str, Score],
    engine_ms: dict[str, float],
    blend: BlendL1 | None = None,
) -> PairResult:
    """Put a pair's scores beside what was asked for.

    Args:
        pair: which.
        source: who is animated.
        reference: the performer's reference frame.
        performer: the driving frame.
        scores: by method.
        engine_ms: by method.
        blend: the prediction beside its parts.
    """
    wanted = _change(reference, performer, in_space=False)
    asked = None
    if source.eyes is not None and reference.eyes is not None and performer.eyes is not None:
        asked = EyesAsked(source.eyes, reference.eyes, performer.eyes)
    return PairResult(
        pair=pair,
        measurable=wanted is not None and source.mesh is not None,
        wanted=wanted,
        wanted_in_space=_change(reference, performer, in_space=True),
        driving=None if performer.mesh is None else expression(performer.mesh),
        eyes=asked,
        performer_distortion=_distortion(reference, performer),
        scores=scores,
        engine_ms=engine_ms,
        blend=blend,
    )


def _change(earlier: Seen, now: Seen, *, in_space: bool) -> Expression | None:
    if earlier.mesh is None or now.mesh is None:
        return None
    return expression(now.mesh, in_space=in_space).since(expression(earlier.mesh, in_space=in_space))


def _distortion(own: Seen, now: Seen) -> float | None:
    return None if own.mesh is None or now.mesh is None else procrustes_residual(now.mesh, own.mesh)


def score(
    shown: Seen, source: Seen, reference: Seen, performer: Seen, networks: MetricNetworks, *, of_self: bool
) -> Score:
    """Compare what a method shows with what it was asked for.

    Args:
        shown: the method's picture.
        source: who is animated.
        reference: the performer's reference frame.
        performer: the driving frame.
        networks: for what needs more than arithmetic.
        of_self: whether the driving frame is what should come out, pixel by pixel.
    """
    values: dict[str, Any] = {}
    if of_self:
        values["l1"] = picture_l1(shown.rgb, performer.rgb)
        values["psnr"] = psnr(shown.rgb, performer.rgb)
        values["ssim"] = networks.ssim(shown.rgb, performer.rgb) if networks.ssim else None
        values["lpips"] = networks.lpips(shown.rgb, performer.rgb) if networks.lpips else None
        side_px = performer.rgb.shape[0]
        if shown.mesh is not None and performer.mesh is not None:
            values["akd"] = mesh_distance(shown.mesh, performer.mesh, side_px)
            values["regions"] = region_distances(shown.mesh, performer.mesh, side_px)
            values["sharpness"] = _relative_sharpness(shown, performer)
        if shown.paper is not None and performer.paper is not None:
            values["akd_paper"] = landmark_distance(shown.paper, performer.paper, side_px)
    if shown.embedding is not None and performer.embedding is not None:
        values["csim_performer"] = cosine(shown.embedding, performer.embedding)
        if of_self:
            values["aed"] = float(np.linalg.norm(shown.embedding - performer.embedding))
    if shown.embedding is not None and source.embedding is not None:
        values["csim_source"] = cosine(shown.embedding, source.embedding)
    values["moved"] = _change(source, shown, in_space=False)
    values["moved_in_space"] = _change(source, shown, in_space=True)
    if shown.mesh is not None and source.mesh is not None and performer.mesh is not None and reference.mesh is not None:
        turned = rotation_between(source.mesh, shown.mesh)
        wanted = rotation_between(reference.mesh, performer.mesh)
        values["turn"] = _size(turned @ wanted.T)
        values["direction"] = _size(rotation_between(performer.mesh, shown.mesh))
        values["regions_in_space"] = region_changes(source.mesh, shown.mesh, reference.mesh, performer.mesh)
    values["distortion"] = _distortion(source, shown)
    return Score(face=shown.mesh is not None, eyes=shown.eyes, **values)


def _relative_sharpness(shown: Seen, performer: Seen) -> float | None:
    """None where a face lies outside of its picture, or the performer's has no edge at all."""
    if shown.mesh is None or performer.mesh is None:
        return None
    of_shown, of_performer = sharpness(shown.rgb, shown.mesh), sharpness(performer.rgb, performer.mesh)
    return of_shown / of_performer if of_shown is not None and of_performer else None


def _size(rotation: NDArray[np.float64]) -> HeadTurn:
    return HeadTurn(*(abs(angle) for angle in head_turn(rotation)))


_OF_PICTURES = ("l1", "psnr", "ssim", "lpips")
_OF_FACES = ("akd", "akd_paper", "aed", "csim_performer", "csim_source", "sharpness")


def summarise(results: Sequence[PairResult], method: str) -> dict[str, float | None]:
    """A method's figures over all pairs; None for what could not be measured in any.

    What needs faces counts over the pairs that show one in every picture, each method's included: a method that lost
    the hardest faces would look better for it. So three counts stand beside it: `faces_missing`, this method's pictures
    without a face though source, reference and performer show one; `unmeasurable`, the pairs where those do not;
    `complete`, the pairs that count. `akd_wherever_found` is the mean over all of this method's pictures with a face,
    `distorted` the share of these whose face is distorted, `performer_distorted` that of the driving frames themselves.
    `*_of_copying` is the figure over that of the copied source; None where that is perfect, as nothing moves.
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
        shown, copied = figures[name], _mean([getattr(result.scores[COPY], name) for result in counted])
        figures[f"{name}_of_copying"] = shown / copied if shown is not None and copied else None
    for name, suffix in (("regions", "akd"), ("regions_in_space", "expression_error")):
        parts = [getattr(result.scores[method], name) for result in complete]
        for region in Regions._fields:
            values = [None if part is None else getattr(part, region) for part in parts]
            figures[f"{region}_{suffix}"] = _mean(values)
    figures["akd_wherever_found"] = _mean([result.scores[method].akd for result in results])
    for suffix in ("", "_in_space"):
        moves = [getattr(result.scores[method], f"moved{suffix}") for result in complete]
        wishes = [getattr(result, f"wanted{suffix}") for result in complete]
        for part in ("mouth", "eyes", "left_eye", "right_eye"):
            figures |= _compared(
                f"{part}{suffix}", *([getattr(change, part) for change in changes] for changes in (moves, wishes))
            )
    mouths = [(result.scores[method].moved, result.driving) for result in complete]
    known = [(moved.mouth, driving.mouth) for moved, driving in mouths if moved is not None and driving is not None]
    figures["mouth_itself_correlation"] = correlation([moved for moved, _ in known], [driving for _, driving in known])
    for name, prefix in (("turn", ""), ("direction", "direction_")):
        turns = [getattr(result.scores[method], name) for result in complete]
        for part in HeadTurn._fields:
            figures[f"{prefix}{part}_deg"] = _mean([None if turn is None else getattr(turn, part) for turn in turns])
    measurable = [result for result in results if result.measurable]
    figures["distorted"] = _share_distorted([result.scores[method].distortion for result in measurable])
    figures["performer_distorted"] = _share_distorted([result.performer_distortion for result in measurable])
    return figures | _of_eyes(complete, method)


def _of_eyes(complete: Sequence[PairResult], method: str) -> dict[str, float | None]:
    """What the iris network tells: lids, blinks, and the gaze where eyes are open in every picture of a pair.

    A blink counts frame by frame: `shut_shown` is the share of the performer's shut frames that are shown shut,
    `open_shown` that of the open ones that are shown open. Who never moves a lid has 0 in the one and 1 in the other.
    """
    moved: dict[str, list[float]] = {"opening": [], "gaze": []}
    wanted: dict[str, list[float]] = {"opening": [], "gaze": []}
    driving: list[float] = []
    shut: list[float] = []
    opened: list[float] = []
    for result in complete:
        asked, shown = result.eyes, result.scores[method].eyes
        if asked is None or shown is None:
            continue
        seen = [*asked, *(score.eyes for score in result.scores.values())]
        for part in ("opening", "gaze") if all(eyes and eyes.open for eyes in seen) else ("opening",):
            moved[part].append(getattr(shown, part) - getattr(asked.source, part))
            wanted[part].append(getattr(asked.performer, part) - getattr(asked.reference, part))
        driving.append(asked.performer.opening)
        if asked.performer.shut:
            shut.append(shown.shut)
        if asked.performer.open:
            opened.append(shown.open)
    return {
        **_compared("lids", moved["opening"], wanted["opening"]),
        "lids_itself_correlation": correlation(moved["opening"], driving),
        **_compared("gaze", moved["gaze"], wanted["gaze"]),
        "gaze_pairs": len(moved["gaze"]),
        "shut": len(shut),
        "shut_shown": _mean(shut),
        "open": len(opened),
        "open_shown": _mean(opened),
    }


def _compared(name: str, moved: Sequence[float], wanted: Sequence[float]) -> dict[str, float | None]:
    """How well changes follow those that were asked for."""
    return {
        f"{name}_correlation": correlation(moved, wanted),
        f"{name}_error": _mean([abs(a - b) for a, b in zip(moved, wanted, strict=True)]),
    }


def _share_distorted(residuals: Sequence[float | None]) -> float | None:
    return _mean([None if residual is None else float(residual > DISTORTED) for residual in residuals])


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None
