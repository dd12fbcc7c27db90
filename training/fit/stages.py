"""Stages of a run: when each begins, what learns in it and how fast."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from mcnet.errors import UserError
from mcnet.generator import Mcnet
from training.data import CLIP, Clip
from training.fit.config import STAGES, FitConfig, StageConfig


class FitError(UserError, RuntimeError):
    """A run that cannot go on; the message says why and what to do."""


class Stage(NamedTuple):
    """A stage with its place in the run.

    Attributes:
        name: one of `training.fit.config.STAGES`.
        config: its table.
        first: the run's step at which it begins.
        steps: how many it has.
    """

    name: str
    config: StageConfig
    first: int
    steps: int


def resolve_stages(config: FitConfig, clips: int, processes: int) -> tuple[Stage, ...]:
    """The stages that have steps, in order; epochs become steps by the number of clips.

    Raises:
        FitError: no stage has any.
    """
    stages: list[Stage] = []
    first = 0
    for name in STAGES:
        stage: StageConfig = getattr(config, name)
        steps = stage.steps or stage.epochs * max(1, stage.repeats * clips // (stage.batch * processes))
        if steps:
            stages.append(Stage(name, stage, first, steps))
            first += steps
    if not stages:
        raise FitError("none of detector.steps, motion.steps, full.steps (or .epochs) is above 0: nothing to do")
    return tuple(stages)


def in_steps(config: FitConfig, clips: Iterable[Clip]) -> FitConfig:
    """The configuration with its epochs as the steps that one process makes of them.

    Args:
        config: of a run.
        clips: of its data, of all splits.

    Raises:
        FitError: no stage has any.
    """
    moving = sum(clip.split == config.data.split and clip.kind == CLIP and clip.frames > 1 for clip in clips)
    steps = {stage.name: stage.steps for stage in resolve_stages(config, moving, 1)}
    changes = {name: dataclasses.replace(getattr(config, name), steps=steps.get(name, 0), epochs=0) for name in STAGES}
    return dataclasses.replace(config, **changes)


def stage_at(stages: Iterable[Stage], step: int) -> Stage:
    """The stage that a step belongs to; the last one for steps beyond the end."""
    stage = None
    for candidate in stages:
        if stage is None or candidate.first <= step:
            stage = candidate
    assert stage is not None
    return stage


def _parts(model: nn.Module) -> dict[str, list[nn.Module]]:
    """What a stage's table gives a learning rate of its own."""
    assert isinstance(model, Mcnet)
    generator = model.generator
    return {
        "detector": [model.keypoint_detector],
        "motion": [generator.dense_motion],
        "encoder": [generator.first, generator.down_blocks],
    }


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The optimiser's groups: one per part, and one for the rest."""
    named = {
        name: [parameter for module in modules for parameter in module.parameters()]
        for name, modules in _parts(model).items()
    }
    known = {id(parameter) for parameters in named.values() for parameter in parameters}
    named[""] = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [{"params": parameters, "part": name} for name, parameters in named.items()]


def part_rate(config: StageConfig, part: str) -> float:
    """The factor on a stage's learning rate for a part of the network; 1 for what has none of its own."""
    return {"detector": config.detector_rate, "motion": config.motion_rate, "encoder": config.encoder_rate}.get(part, 1)


def set_trainable(model: nn.Module, config: StageConfig, *, freeze_batchnorm: bool) -> None:
    """Let all learn but the parts whose rate is 0, which stay as they are: weights, and BatchNorm's statistics."""
    model.train().requires_grad_(True)
    for name, modules in _parts(model).items():
        if part_rate(config, name) == 0:
            for module in modules:
                module.eval().requires_grad_(False)
    if freeze_batchnorm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def learning_rate(stage: Stage, step: int, first_step: int = 0, time_share: float = 0.0) -> float:
    """The learning rate of a step.

    Args:
        stage: the step's.
        step: its number in the run.
        first_step: where the run began; the rate warms up after either beginning.
        time_share: of the stage's time, in [0, 1], that is over: where the stage decays by `time`.
    """
    config = stage.config
    done = time_share if config.decay_by == "time" else min(1.0, (step - stage.first) / stage.steps)
    rate = config.learning_rate
    if config.decay == "steps":
        rate *= config.decay_factor ** sum(done >= share for share in config.decay_at)
    elif config.decay == "cosine":
        falling = 0.5 + 0.5 * math.cos(math.pi * done)
        rate *= config.decay_factor + (1 - config.decay_factor) * falling
    begun = step - max(stage.first, first_step)
    return rate * min(1.0, (begun + 1) / max(1, config.warmup_steps))
