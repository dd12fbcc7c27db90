"""An evaluation for people and for programs: a table, JSON, and a sheet of pictures."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mcnet.generator import Mcnet, ModelInfo
from mcnet.media.contact_sheet import contact_sheet
from mcnet.media.images import write_rgb
from training.evaluation import NOISE_LEVELS, SHIFT_PX, Animator, EvaluateOptions, make_engine, pictures_of
from training.metrics import REFERENCE_SIDE_PX, Rgb
from training.scores import METHODS, Evaluation, PairResult

Figures = dict[str, dict[str, float | None]]


class _Row(NamedTuple):
    """A line of the table.

    Attributes:
        figure: its name in the figures.
        label: for people.
        form: how the number is written.
    """

    figure: str
    label: str
    form: str = "{:.3f}"


_PERCENT = "{:.0%}"
_DEGREES = "{:.2f}"
_EXPRESSION_ROWS = (
    _Row("mouth_correlation", "mouth opening: correlation of change"),
    _Row("mouth_in_space_correlation", "  measured in space"),
    _Row("mouth_error", "  mean error, of the mouth's width"),
    _Row("eyes_correlation", "eye opening: correlation of change"),
    _Row("eyes_in_space_correlation", "  measured in space"),
    _Row("left_eye_correlation", "  left eye alone"),
    _Row("right_eye_correlation", "  right eye alone"),
    _Row("left_eye_error", "  left eye's mean error, of its width"),
    _Row("right_eye_error", "  right eye's mean error"),
    _Row("angle_deg", "head pose error, degrees", _DEGREES),
    _Row("yaw_deg", "  yaw", _DEGREES),
    _Row("pitch_deg", "  pitch", _DEGREES),
    _Row("roll_deg", "  roll", _DEGREES),
    _Row("faces_missing", "pictures in which no face is found", "{:.0f}"),
)
SELF_ROWS = (
    _Row("l1", "L1, of 1", "{:.4f}"),
    _Row("l1_of_copying", "  of copying the source", _PERCENT),
    _Row("psnr", "PSNR, dB", "{:.2f}"),
    _Row("ssim", "SSIM"),
    _Row("lpips", "LPIPS (AlexNet)"),
    _Row("fid", "FID", "{:.1f}"),
    _Row("akd", "AKD, px of 256 (68 points of the mesh)", "{:.2f}"),
    _Row("akd_of_copying", "  of copying the source", _PERCENT),
    _Row("akd_wherever_found", "  over all pictures with a face", "{:.2f}"),
    _Row("akd_paper", "AKD, px of 256 (face-alignment)", "{:.2f}"),
    _Row("aed", "AED (dlib), to the driver"),
    _Row("csim_driver", "CSIM (dlib), to the driver"),
    *_EXPRESSION_ROWS,
)
CROSS_ROWS = (
    _Row("csim_source", "CSIM (dlib), to the source"),
    _Row("csim_driver", "leakage: CSIM to the driver"),
    *_EXPRESSION_ROWS,
)
_HEADINGS = {"model": "model", "warp": "warp only", "copy": "copy source"}
_NOTHING = "-"


def format_table(evaluation: Evaluation, model_name: str, split: str) -> str:
    """The table for a terminal."""
    clips, people = evaluation.driving
    lines = [
        f"model {model_name} on {evaluation.device}",
        f"split {split}: {clips} clips of {people} people at {evaluation.size_px} px",
        "",
        *_section("self-reenactment", evaluation.self_pairs, SELF_ROWS, evaluation.self_figures),
    ]
    if evaluation.cross_figures:
        lines += ["", *_section("cross-identity", evaluation.cross_pairs, CROSS_ROWS, evaluation.cross_figures)]
    jitter, (median_ms, slow_ms) = evaluation.jitter, evaluation.engine_ms
    lines += [
        "",
        f"still driver (noise of {NOISE_LEVELS:g} grey levels): keypoints move {jitter.keypoints_px:.3f} px of 256, "
        f"the picture {jitter.picture_px:.3f} px; its colours flicker by {jitter.flicker_levels:.2f} levels of 255",
        f"driver shifted by up to {SHIFT_PX:g} px: keypoints miss it by {jitter.shifted_keypoints_px:.3f} px of 256",
        f"a frame takes {median_ms:.1f} ms in the engine (95 %: {slow_ms:.1f} ms)",
        *evaluation.notes,
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, results: Sequence[PairResult], rows: Sequence[_Row], figures: Figures) -> list[str]:
    width = max(len(row.label) for row in rows) + 2
    columns = "".join(f"{_HEADINGS[method]:>13}" for method in METHODS)
    lines = [f"{f'{title}, {len(results)} pairs':<{width}}{columns}"]
    for row in rows:
        values = [figures[method].get(row.figure) for method in METHODS]
        if any(value is not None for value in values):
            written = (_NOTHING if value is None else row.form.format(value) for value in values)
            lines.append(f"{row.label:<{width}}" + "".join(f"{value:>13}" for value in written))
    counts = figures["model"]
    if (counts["complete"] or 0) < len(results):
        lost = f", {counts['unmeasurable']:.0f} lack one in source or driver" if counts["unmeasurable"] else ""
        lines.append(f"figures of faces count the {counts['complete']:.0f} pairs with a face in every picture{lost}")
    return lines


def to_json(evaluation: Evaluation, info: ModelInfo, options: EvaluateOptions) -> str:
    """All figures, and every pair's."""

    def rows(results: Sequence[PairResult]) -> list[dict[str, object]]:
        return [
            {
                "source": [evaluation.clips[result.pair.source.clip].file, result.pair.source.frame],
                "driver": [evaluation.clips[result.pair.driver.clip].file, result.pair.driver.frame],
                "measurable": result.measurable,
                "wanted": result.wanted and result.wanted._asdict(),
                "wanted_in_space": result.wanted_in_space and result.wanted_in_space._asdict(),
                "engine_ms": result.engine_ms,
                "scores": {
                    method: {
                        **dataclasses.asdict(score),
                        "moved": score.moved and score.moved._asdict(),
                        "moved_in_space": score.moved_in_space and score.moved_in_space._asdict(),
                        "turn": score.turn and score.turn._asdict(),
                    }
                    for method, score in result.scores.items()
                },
            }
            for result in results
        ]

    content = {
        "format": "mcnet-evaluation/1",
        "model": {"name": info.name, "content_hash": info.content_hash},
        "options": dataclasses.asdict(options),
        "data": {"size_px": evaluation.size_px, "clips": evaluation.driving[0], "people": evaluation.driving[1]},
        "device": evaluation.device,
        "self": evaluation.self_figures,
        "cross": evaluation.cross_figures,
        "jitter": dataclasses.asdict(evaluation.jitter),
        "engine_ms": {"median": evaluation.engine_ms[0], "p95": evaluation.engine_ms[1]},
        "notes": evaluation.notes,
        "self_pairs": rows(evaluation.self_pairs),
        "cross_pairs": rows(evaluation.cross_pairs),
    }
    return json.dumps(_rounded(content), indent=1, allow_nan=False) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def write_sheet(path: Path, evaluation: Evaluation, model: Mcnet, data: Path, options: EvaluateOptions) -> None:
    """Best, median and worst pairs as pictures: of self-reenactment by L1, of cross-identity by CSIM to the source.

    A picture without a face counts as worse than any with one. Pictures are made again for it.

    Args:
        path: of the PNG or JPEG.
        evaluation: what to choose from.
        model: that was evaluated.
        data: on which it was.
        options: of the evaluation.
    """
    animator = Animator(model, make_engine(model, options))
    chosen = [
        *((f"self, {rank}", result) for rank, result in _ranked(evaluation.self_pairs, _self_loss)),
        *((f"cross, {rank}", result) for rank, result in _ranked(evaluation.cross_pairs, _cross_loss)),
    ]
    rows: list[list[Rgb | None]] = []
    for title, result in chosen:
        pictures = pictures_of(data, result.pair, animator)
        shown = [pictures[name] for name in ("source", "driver", "model", "warp")]
        rows.append([_caption([title, *_facts(evaluation, result)]), *shown])
    labels = ("", "source", "driver", "prediction", "warp only")
    write_rgb(path, contact_sheet(rows, column_labels=labels))


def _ranked(
    results: Sequence[PairResult], loss: Callable[[PairResult], tuple[bool, float]]
) -> list[tuple[str, PairResult]]:
    ordered = sorted(results, key=loss)
    if not ordered:
        return []
    return [("best", ordered[0]), ("median", ordered[len(ordered) // 2]), ("worst", ordered[-1])]


def _self_loss(result: PairResult) -> tuple[bool, float]:
    score = result.scores["model"]
    return not score.face, score.l1 or 0.0


def _cross_loss(result: PairResult) -> tuple[bool, float]:
    score = result.scores["model"]
    if score.csim_source is not None:
        return not score.face, -score.csim_source
    return not score.face, score.turn.angle if score.turn else 0.0


def _facts(evaluation: Evaluation, result: PairResult) -> list[str]:
    """Lines of a few words and numbers."""
    score, pair = result.scores["model"], result.pair
    facts = [] if score.face else ["no face is found in it"]
    numbers = [
        ("L1", score.l1, "{:.4f}"),
        ("L1 of the warp", result.scores["warp"].l1, "{:.4f}"),
        ("L1 of copying", result.scores["copy"].l1, "{:.4f}"),
        (f"AKD, px of {REFERENCE_SIDE_PX}", score.akd, "{:.2f}"),
        ("CSIM to source", score.csim_source, "{:.3f}"),
        ("CSIM to driver", score.csim_driver, "{:.3f}"),
        ("head, degrees off", score.turn and score.turn.angle, "{:.1f}"),
    ]
    facts += [f"{name} {form.format(value)}" for name, value, form in numbers if value is not None]
    if score.moved is not None and result.wanted is not None:
        facts.append(f"mouth {score.moved.mouth:+.2f}, wanted {result.wanted.mouth:+.2f}")
        facts.append(f"eyes {score.moved.eyes:+.2f}, wanted {result.wanted.eyes:+.2f}")
    names = [Path(evaluation.clips[still.clip].file).stem[:24] for still in (pair.source, pair.driver)]
    return [*facts, *dict.fromkeys(names), f"frame {pair.driver.frame}"]


def _caption(lines: Sequence[str], side_px: int = 256) -> Rgb:
    """Light text on dark grey, a line below the other."""
    cell = np.full((side_px, side_px, 3), 24, np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(cell, line, (8, 22 + 19 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (224, 224, 224), 1, cv2.LINE_AA)
    return cell
