"""From a run's checkpoint to a model file that opens in `mcnet animate` and in the app."""

import time
from pathlib import Path
from typing import Any

import torch

from mcnet.bench.ranges import note_bundled_ranges
from mcnet.checkpoint import build, load_model, save_model
from mcnet.config import ConfigError
from mcnet.generator import Mcnet
from mcnet.model_file import CheckpointError, ModelInfo
from training.fit.config import STAGES, FitConfig
from training.fit.state import CHECKPOINT, StateError, TrainState, load_state

_TOLERANCE = {False: 1e-4, True: 5e-3}
"""Largest mean change of a pixel that storing may cause, in [0, 1]; the second number is for half precision. The first
is not 0: convolutions add up in an order that depends on where their weights lie in memory. Single pixels say nothing:
the comparison's pictures are noise, on which a keypoint may have two places that are as likely."""


def export(run: Path, out: Path, *, name: str = "", half: bool = False) -> ModelInfo:
    """Write a run's averaged weights as a model file, read it back and compare a picture.

    The ranges of its activations are measured on the bundled faces, so that the engine may compute in 8 bits.

    Args:
        run: the run's folder, or its checkpoint.
        out: a `.safetensors` file.
        name: of the model; the file's name if empty.
        half: store float16.

    Returns:
        What the file's header says.

    Raises:
        StateError: there is no checkpoint, or it cannot be read.
        QuantizationError: its activations overflow.
        CheckpointError: its weights are not those of its configuration (what differs is named), are not finite, cannot
            be written, or give another picture when read back.
    """
    path = run / CHECKPOINT if run.is_dir() else run
    if not path.is_file():
        raise StateError(f"{run} holds no {CHECKPOINT}: expected the folder of a run of `mcnet-train fit`")
    state = load_state(path)
    try:
        config = FitConfig.from_dict(state.config)
    except ConfigError as error:
        raise StateError(f"{path} has a configuration of another version: {error}") from error
    model = build(config.model, state.ema, str(path))
    model.info = ModelInfo(name=name or out.stem, training=_card(config, state))
    note_bundled_ranges(model)
    info = save_model(model, out, half=half)
    _compare(model, load_model(out), out, half=half)
    return info


def _card(config: FitConfig, state: TrainState) -> dict[str, Any]:
    """The facts of the training run that go with the model."""
    tables = config.to_dict()
    return {
        "steps": state.step,
        "steps_left_out": state.skipped,
        "stages": {name: tables[name] for name in STAGES},
        "seed": config.run.seed,
        "loss": tables["loss"],
        "exported": time.strftime("%Y-%m-%d", time.gmtime()),
        **_keypoints(config),
        **state.facts,
    }


def _keypoints(config: FitConfig) -> dict[str, Any]:
    """What the keypoints of a network that was trained on measured places are; nothing of others."""
    data = config.data
    if data.keypoints == "detected":
        return {}
    return {
        "keypoints": {
            "places": data.keypoints,
            "points": list(data.keypoint_points),
            "jacobians": data.keypoint_jacobians,
            "jitter_px": data.keypoint_jitter_px,
            "detected_share": data.detected_share,
        }
    }


@torch.inference_mode()
def _compare(model: Mcnet, written: Mcnet, out: Path, *, half: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((2, 3, 8, 8), generator=generator)
    size_px = model.config.size_px
    pictures = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bilinear")
    error = (model(pictures[:1], pictures[1:]) - written(pictures[:1], pictures[1:])).abs().mean().item()
    if error > _TOLERANCE[half]:
        raise CheckpointError(f"{out} gives another picture than the run's weights: it differs by {error:.2g}")
