"""An evaluation for people and for programs: a table, JSON, and a sheet of pictures."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mcnet.arrays import Rgb
from mcnet.generator import Mcnet
from mcnet.media.contact_sheet import contact_sheet
from mcnet.media.faces import FaceFinder
from mcnet.media.images import write_rgb
from mcnet.model_file import ModelInfo
from training.evaluate.bars import TEST_SPLIT, bar_lines, standings
from training.evaluate.blending import NEIGHBOURHOOD_PX, BlendShares
from training.evaluate.evaluation import ClipStore, choose_clips, make_engine, pictures_of
from training.evaluate.jitter import NOISE_LEVELS, SHIFT_PX
from training.evaluate.methods import MethodRunner
from training.evaluate.options import EvaluateOptions
from training.evaluate.per_clip import RANKINGS, by_clip, worst
from training.evaluate.scores import COPY, Comparison, Evaluation, PairResult, Score


class _Row(NamedTuple):
    """A line of the table.

    Attributes:
        figure: its name in the figures.
        label: for people; may name other figures, in braces.
        form: how the number is written.
    """

    figure: str
    label: str
    form: str = "{:.3f}"


_PERCENT = "{:.0%}"
_TENTHS = "{:.1%}"
_DEGREES = "{:.2f}"
_MOUTH_ROWS = (
    _Row("mouth_correlation", "mouth opening: correlation of change"),
    _Row("mouth_in_space_correlation", "  measured in space"),
    _Row("mouth_error", "  mean error, of the mouth's width"),
)
_EYE_ROWS = (
    _Row("eyes_correlation", "eye opening: correlation of change"),
    _Row("eyes_in_space_correlation", "  measured in space"),
    _Row("left_eye_correlation", "  left eye alone"),
    _Row("right_eye_correlation", "  right eye alone"),
    _Row("left_eye_error", "  left eye's mean error, of its width"),
    _Row("right_eye_error", "  right eye's mean error"),
    _Row("lids_correlation", "lids (iris network): correlation of change"),
    _Row("lids_error", "  mean error, of the eye's width"),
)
_GAZE_ROWS = (
    _Row("shut_shown", "  shut eyes shown shut, of {shut:.0f} frames", _PERCENT),
    _Row("open_shown", "  open eyes shown open, of {open:.0f} frames", _PERCENT),
    _Row("gaze_correlation", "gaze (iris network), over {gaze_pairs:.0f} pairs with open eyes"),
)
_POSE_ROWS = (
    _Row("angle_deg", "head pose error since the reference, degrees", _DEGREES),
    _Row("yaw_deg", "  yaw", _DEGREES),
    _Row("pitch_deg", "  pitch", _DEGREES),
    _Row("roll_deg", "  roll", _DEGREES),
)
_FACE_ROWS = (
    _Row("distorted", "distorted faces (of the performer's own: {performer_distorted:.0%})", _PERCENT),
    _Row("faces_missing", "pictures in which no face is found", "{:.0f}"),
)
_REGIONS_IN_SPACE_ROWS = (
    _Row("mouth_expression_error", "expression in space: mouth's error, of the face size", _TENTHS),
    _Row("right_eye_expression_error", "  right eye", _TENTHS),
    _Row("left_eye_expression_error", "  left eye", _TENTHS),
    _Row("brows_expression_error", "  brows", _TENTHS),
)
_REGIONS_ROWS = (
    _Row("mouth_akd", "  of the mouth", "{:.2f}"),
    _Row("right_eye_akd", "  of the right eye", "{:.2f}"),
    _Row("left_eye_akd", "  of the left eye", "{:.2f}"),
    _Row("brows_akd", "  of the brows", "{:.2f}"),
)
SELF_ROWS = (
    _Row("l1", "L1, of 1", "{:.4f}"),
    _Row("l1_of_copying", "  of copying the source", _PERCENT),
    _Row("psnr", "PSNR, dB", "{:.2f}"),
    _Row("ssim", "SSIM"),
    _Row("lpips", "LPIPS (AlexNet)"),
    _Row("sharpness", "sharpness of the face, of the driving frame's", _PERCENT),
    _Row("fid", "FID", "{:.1f}"),
    _Row("akd", "AKD, px of 256 (68 points of the mesh)", "{:.2f}"),
    _Row("akd_of_copying", "  of copying the source", _PERCENT),
    _Row("akd_wherever_found", "  over all pictures with a face", "{:.2f}"),
    *_REGIONS_ROWS,
    _Row("akd_paper", "AKD, px of 256 (face-alignment)", "{:.2f}"),
    _Row("aed", "AED (dlib), to the performer"),
    _Row("csim_performer", "CSIM (dlib), to the performer"),
    *_MOUTH_ROWS,
    *_EYE_ROWS,
    *_GAZE_ROWS,
    *_REGIONS_IN_SPACE_ROWS,
    *_POSE_ROWS,
    *_FACE_ROWS,
)
CROSS_ROWS = (
    _Row("csim_source", "CSIM (dlib), to the source"),
    _Row("csim_performer", "leakage: CSIM to the performer"),
    *_MOUTH_ROWS,
    _Row("mouth_itself_correlation", "  with the performer's opening itself"),
    *_EYE_ROWS,
    _Row("lids_itself_correlation", "  with the performer's opening itself"),
    *_GAZE_ROWS,
    *_REGIONS_IN_SPACE_ROWS,
    *_POSE_ROWS,
    _Row("direction_angle_deg", "  against the performer's direction itself", _DEGREES),
    *_FACE_ROWS,
)
_HEADINGS = {
    "model": "model",
    "measured": "measured",
    "detected": "detected",
    "space": "in space",
    "unretouched": "unretouched",
    "plane": "in the plane",
    "warp": "warp only",
    COPY: "copy source",
}
_LEGENDS = {
    "measured": "measured: keypoints by the face mesh at the clip's resolution; detected: by the model; warp only: of "
    "measured ones",
    "space": "in space: the source's shape, the performer's change of expression and pose, with what the source cannot "
    "show drawn into the picture; unretouched: the same, by the network alone; in the plane: relative motion; all of "
    "measured keypoints",
}
_NOTHING = "-"


def format_table(evaluation: Evaluation, model_name: str, split: str) -> str:
    """The table for a terminal."""
    clips, people = evaluation.driving
    lines = [
        f"model {model_name} on {evaluation.device}",
        f"split {split}: {clips} clips of {people} people at {evaluation.size_px} px",
        "",
        *_section("self-reenactment", evaluation.of_self, SELF_ROWS),
    ]
    lines += [*_blend_lines(evaluation.blend), *_clip_lines(evaluation), *_bar_lines(evaluation, split)]
    for kind, comparison in evaluation.of_cross.items():
        lines += ["", *_section(f"cross-identity, {kind} reference", comparison, CROSS_ROWS)]
    lines += [
        "",
        f"still performer, noise of {NOISE_LEVELS:g} grey levels or shifts of up to {SHIFT_PX:g} px; px of 256:",
    ]
    for method, jitter in evaluation.jitter.items():
        lines.append(
            f"  {_HEADINGS[method]}: keypoints move {jitter.keypoints_px:.3f} px, the picture {jitter.picture_px:.3f} "
            f"px, its colours flicker by {jitter.flicker_levels:.2f} levels of 255; keypoints miss a shift by "
            f"{jitter.shifted_keypoints_px:.3f} px"
        )
    times = [
        f"{_HEADINGS[method]} {median_ms:.1f} ms (95 %: {slow_ms:.1f})"
        for method, (median_ms, slow_ms) in evaluation.engine_ms.items()
    ]
    return "\n".join([*lines, f"a frame in the engine takes: {', '.join(times)}", *evaluation.notes]) + "\n"


def _section(title: str, comparison: Comparison, rows: Sequence[_Row]) -> list[str]:
    figures, main = comparison.figures, comparison.figures[comparison.main]
    pairs = len(comparison.pairs)
    labels = {row: row.label.format(**{name: value or 0 for name, value in main.items()}) for row in rows}
    heading = f"{title}, {pairs} pairs"
    width = max(map(len, [heading, *labels.values()])) + 2
    lines = [f"{heading:<{width}}" + "".join(f"{_HEADINGS[method]:>13}" for method in figures)]
    for row, label in labels.items():
        values = [of_method.get(row.figure) for of_method in figures.values()]
        if any(value is not None for value in values):
            written = (_NOTHING if value is None else row.form.format(value) for value in values)
            lines.append(f"{label:<{width}}" + "".join(f"{value:>13}" for value in written))
    if (main["complete"] or 0) < pairs:
        lost = f", {main['unmeasurable']:.0f} lack one in source or performer" if main["unmeasurable"] else ""
        lines.append(f"figures of faces count the {main['complete']:.0f} pairs with a face in every picture{lost}")
    if comparison.main in _LEGENDS:
        lines.append(_LEGENDS[comparison.main])
    return lines


def _blend_lines(blend: BlendShares | None) -> list[str]:
    if blend is None:
        return []
    shares = (
        ("the prediction, which blends the two below", blend.blended),
        ("  the warped source alone", blend.warped),
        ("  the generated picture alone", blend.generated),
        (f"  the better of both in each neighbourhood of {NEIGHBOURHOOD_PX}x{NEIGHBOURHOOD_PX} px", blend.better),
        ("  gap between the blend and the better of both", blend.gap),
    )
    heading = f"blend, {blend.pairs} pairs by the plain model: L1 of copying the source"
    width = max(len(heading), *(len(label) for label, _ in shares)) + 2
    return ["", heading, *(f"{label:<{width}}{share:>7.1%}" for label, share in shares)]


def _clip_lines(evaluation: Evaluation) -> list[str]:
    """The worst clips by each ranking; nothing where there is only one."""
    clips = by_clip(evaluation.of_self)
    if len(clips) < 2:
        return []
    lines = ["", f"worst of {len(clips)} clips in self-reenactment, each clip by itself"]
    width = max(len(ranking.label) for ranking in RANKINGS) + 2
    for ranking in RANKINGS:
        named = [
            f"{Path(evaluation.clips[clip].file).stem} {ranking.form.format(value)}"
            for clip, value in worst(clips, ranking.figure)
        ]
        if named:
            lines.append(f"{ranking.label:<{width}}{', '.join(named)}")
    return lines


def _bar_lines(evaluation: Evaluation, split: str) -> list[str]:
    if split != TEST_SPLIT:
        return []
    all_clips, used = len(choose_clips(evaluation.clips, split, None)), evaluation.driving[0]
    extent = "" if used == all_clips else f" (these figures are of {used} of its {all_clips} clips)"
    of_self = evaluation.of_self
    return ["", f"the project's bars for its test split{extent}", *bar_lines(of_self.figures[of_self.main])]


def to_json(evaluation: Evaluation, info: ModelInfo, options: EvaluateOptions) -> str:
    """All figures, and every pair's."""

    def rows(results: Sequence[PairResult]) -> list[dict[str, object]]:
        return [
            {
                **{
                    name: [evaluation.clips[still.clip].file, still.frame]
                    for name, still in result.pair._asdict().items()
                },
                "measurable": result.measurable,
                "wanted": result.wanted,
                "wanted_in_space": result.wanted_in_space,
                "driving": result.driving,
                "eyes": result.eyes,
                "performer_distortion": result.performer_distortion,
                "engine_ms": result.engine_ms,
                "blend": result.blend,
                "scores": {
                    method: {field.name: getattr(score, field.name) for field in dataclasses.fields(score)}
                    for method, score in result.scores.items()
                },
            }
            for result in results
        ]

    clips, main_figures = by_clip(evaluation.of_self), evaluation.of_self.figures[evaluation.of_self.main]

    def name(clip: int) -> str:
        return evaluation.clips[clip].file

    content = {
        "format": "mcnet-evaluation/2",
        "model": {"name": info.name, "content_hash": info.content_hash},
        "options": dataclasses.asdict(options),
        "data": {"size_px": evaluation.size_px, "clips": evaluation.driving[0], "people": evaluation.driving[1]},
        "device": evaluation.device,
        "self": evaluation.of_self.figures,
        "blend": evaluation.blend,
        "self_clips": [
            {"clip": name(of_clip.clip), "figures": of_clip.figures, "blend": of_clip.blend} for of_clip in clips
        ],
        "worst_clips": {
            ranking.figure: [{"clip": name(clip), "value": value} for clip, value in worst(clips, ranking.figure)]
            for ranking in RANKINGS
        },
        "bars": [
            {
                "figure": standing.bar.figure,
                "bar": standing.bar.value,
                "at_most": standing.bar.at_most,
                "value": standing.value,
                "reached": standing.reached,
                "missing": standing.missing,
            }
            for standing in (standings(main_figures) if options.split == TEST_SPLIT else [])
        ],
        "cross": {kind: comparison.figures for kind, comparison in evaluation.of_cross.items()},
        "jitter": {method: dataclasses.asdict(jitter) for method, jitter in evaluation.jitter.items()},
        "engine_ms": {method: {"median": times[0], "p95": times[1]} for method, times in evaluation.engine_ms.items()},
        "notes": evaluation.notes,
        "self_pairs": rows(evaluation.of_self.pairs),
        "cross_pairs": {kind: rows(comparison.pairs) for kind, comparison in evaluation.of_cross.items()},
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    """For JSON: six digits, named tuples by their names."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def write_sheet(path: Path, evaluation: Evaluation, model: Mcnet, data: Path, options: EvaluateOptions) -> None:
    """Best, median and worst pairs as pictures, a column for each method but copying.

    By what people get: of self-reenactment by L1, of cross-identity by CSIM to the source, a block for each kind of
    reference. A picture without a face counts as worse than any with one. Pictures are made again for it.

    Args:
        path: of the PNG or JPEG.
        evaluation: what to choose from.
        model: that was evaluated.
        data: on which it was.
        options: of the evaluation.
    """
    store, runner = ClipStore(data), MethodRunner(model, make_engine(model, options))
    blocks: list[Rgb] = []
    with FaceFinder() as finder:
        for title, comparison in (("self", evaluation.of_self), *evaluation.of_cross.items()):
            of_self = title == "self"
            methods = [method for method in comparison.figures if method != COPY]
            stills = ["source", "performer"] if of_self else ["source", "reference", "performer"]
            rows: list[list[Rgb | None]] = []
            ranked = _ranked(comparison, _self_loss if of_self else _cross_loss)
            made = pictures_of(store, [result.pair for _, result in ranked], runner, finder)
            for rank, result in ranked:
                pictures = made[result.pair]
                facts = [f"{title}, {rank}", *_facts(evaluation, result)]
                rows.append([_caption(facts), *(pictures[name] for name in (*stills, *methods))])
            blocks.append(contact_sheet(rows, column_labels=["", *stills, *(_HEADINGS[each] for each in methods)]))
    write_rgb(path, _stacked(blocks))


def _stacked(blocks: Sequence[Rgb]) -> Rgb:
    """One above the other, narrow ones filled up with their own background."""
    width = max(block.shape[1] for block in blocks)
    filled = []
    for block in blocks:
        wide = np.full((block.shape[0], width, 3), block[0, 0], np.uint8)
        wide[:, : block.shape[1]] = block
        filled.append(wide)
    return np.concatenate(filled)


def _ranked(comparison: Comparison, loss: Callable[[Score], tuple[bool, float]]) -> list[tuple[str, PairResult]]:
    ordered = sorted(comparison.pairs, key=lambda result: loss(result.scores[comparison.main]))
    return [("best", ordered[0]), ("median", ordered[len(ordered) // 2]), ("worst", ordered[-1])]


def _self_loss(score: Score) -> tuple[bool, float]:
    return not score.face, score.l1 or 0.0


def _cross_loss(score: Score) -> tuple[bool, float]:
    if score.csim_source is not None:
        return not score.face, -score.csim_source
    return not score.face, score.turn.angle if score.turn else 0.0


def _facts(evaluation: Evaluation, result: PairResult) -> list[str]:
    """Lines of a few words and numbers: what was asked for, and what each method made of it."""
    pair = result.pair
    asked = []
    if result.wanted is not None:
        asked.append(f"mouth {result.wanted.mouth:+.2f}")
    if result.eyes is not None:
        asked.append(f"lids {result.eyes.performer.opening - result.eyes.reference.opening:+.2f}")
    facts = [f"wanted: {', '.join(asked)}"] if asked else []
    for method, score in result.scores.items():
        numbers = [
            ("L1", score.l1, "{:.4f}"),
            ("AKD", score.akd, "{:.2f}"),
            ("CSIM", score.csim_source if pair.relative else None, "{:.3f}"),
            ("turn off", score.turn and score.turn.angle if pair.relative else None, "{:.1f}"),
            ("head off", score.direction and score.direction.angle, "{:.1f}"),
            ("mouth", score.moved and score.moved.mouth, "{:+.2f}"),
            ("lids", score.eyes and result.eyes and score.eyes.opening - result.eyes.source.opening, "{:+.2f}"),
        ]
        told = [f"{name} {form.format(value)}" for name, value, form in numbers if value is not None]
        if not score.face:
            told.append("no face is found")
        facts.append(f"{_HEADINGS[method]}: {', '.join(told[:2])}")
        if told[2:] and method != COPY:
            facts.append(f"  {', '.join(told[2:])}")
    names = [Path(evaluation.clips[still.clip].file).stem[:24] for still in (pair.source, pair.performer)]
    return [*facts, *dict.fromkeys(names), f"frame {pair.performer.frame} since {pair.reference.frame}"]


def _caption(lines: Sequence[str], side_px: int = 256) -> Rgb:
    """Light text on dark grey, a line below the other."""
    cell = np.full((side_px, side_px, 3), 24, np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(cell, line, (8, 22 + 19 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (224, 224, 224), 1, cv2.LINE_AA)
    return cell
