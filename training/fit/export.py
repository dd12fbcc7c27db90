"""From a run's checkpoint to a model file that opens in `mcnet animate` and in the app."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mcnet.bench.ranges import note_bundled_ranges
from mcnet.checkpoint import build, load_model, save_model
from mcnet.config import ConfigError
from mcnet.generator import Mcnet
from mcnet.model_card import MODEL_FILE
from mcnet.model_file import CheckpointError, ModelInfo, content_hash, is_counter
from training.fit.card import card_of
from training.fit.config import FitConfig
from training.fit.journal import newest_sheet
from training.fit.model_folder import check_folder, check_sheet, write_beside
from training.fit.state import CHECKPOINT, StateError, load_state

_STORED = (torch.float32, torch.float16)
_TOLERANCE = {False: 1e-4, True: 5e-3}
"""Largest mean change of a pixel that storing may cause, in [0, 1]; the second number is for half precision. The first
is not 0: convolutions add up in an order that depends on where their weights lie in memory. Single pixels say nothing:
the comparison's pictures are noise, on which a keypoint may have two places that are as likely."""


def export(
    run: Path,
    out: Path,
    *,
    name: str = "",
    half: bool = False,
    evaluation: Mapping[str, Any] | None = None,
    sheet: Path | None = None,
) -> ModelInfo:
    """Write a run's averaged weights as a model file, read it back and compare a picture.

    The ranges of its activations are measured on the bundled faces, so that the engine may compute in 8 bits.

    Args:
        run: the run's folder, or its checkpoint.
        out: a `.safetensors` file; or a folder, which gets a card besides (`training.fit.model_folder`).
        name: of the model; the file's or folder's if empty.
        half: store float16.
        evaluation: the figures that its card has, as `mcnet.model_card.summary_of` gives them, with the `content_hash`
            of the weights that they are of; None: not measured.
        sheet: the picture that a folder gets; None: the run's newest sample sheet, if there is one.

    Returns:
        What the file's header says.

    Raises:
        StateError: there is no checkpoint, or it cannot be read.
        QuantizationError: its activations overflow.
        CheckpointError: its weights are not those of its configuration (what differs is named), are not finite, cannot
            be written, or give another picture when read back; the figures are of other weights; or the folder has
            other files in it.
        OutputError: one of the folder's files cannot be replaced.
    """
    path = run / CHECKPOINT if run.is_dir() else run
    if not path.is_file():
        raise StateError(f"{run} holds no {CHECKPOINT}: expected the folder of a run of `mcnet-train fit`")
    as_folder = out.suffix.lower() != ".safetensors"
    if as_folder:
        check_folder(out, sheet)
        if sheet is not None:
            check_sheet(sheet)
    state = load_state(path)
    try:
        config = FitConfig.from_dict(state.config)
    except ConfigError as error:
        raise StateError(f"{path} has a configuration of another version: {error}") from error
    model = build(config.model, state.ema, str(path))
    facts = card_of(config, state.step, state.skipped, state.facts)
    if evaluation is not None:
        _check_figures(evaluation, model)
        facts["evaluation"] = {key: value for key, value in evaluation.items() if key != "content_hash"}
    model.info = ModelInfo(name=name or (out.name if as_folder else out.stem), training=facts)
    note_bundled_ranges(model)
    if as_folder:
        out.mkdir(parents=True, exist_ok=True)
    weights = out / MODEL_FILE if as_folder else out
    info = save_model(model, weights, half=half)
    _compare(model, load_model(weights), weights, half=half)
    if as_folder:
        write_beside(out, config.model, info, sheet or newest_sheet(path.parent, state.step))
    return info


def _check_figures(evaluation: Mapping[str, Any], model: Mcnet) -> None:
    """Refuse the figures of other weights; those that were stored in half precision are the same."""
    weights = {key: value for key, value in model.state_dict().items() if not is_counter(key)}
    hashes = [content_hash({key: value.to(dtype) for key, value in weights.items()}) for dtype in _STORED]
    if evaluation["content_hash"] not in hashes:
        raise CheckpointError(
            f"the figures are of weights {str(evaluation['content_hash'])[:12]}, expected {hashes[0][:12]} or "
            f"{hashes[1][:12]}: export the run to a .safetensors file, evaluate that, and give its figures"
        )


@torch.inference_mode()
def _compare(model: Mcnet, written: Mcnet, out: Path, *, half: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 3, 8, 8), generator=generator)
    size_px = model.config.size_px
    pictures = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear")
    error = (model(pictures[:1], pictures[1:]) - written(pictures[:1], pictures[1:])).abs().mean().item()
    if error > _TOLERANCE[half]:
        raise CheckpointError(f"{out} gives another picture than the run's weights: it differs by {error:.2g}")
