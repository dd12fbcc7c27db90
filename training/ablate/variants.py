"""The networks that an ablation compares: one configuration with another memory each time."""

import dataclasses
from typing import NamedTuple

from mcnet.config import Conditioning, McnetConfig
from training.fit.config import FitConfig, StageConfig


class Variant(NamedTuple):
    """A member of the comparison.

    Attributes:
        name: also its folder's.
        label: for people.
        claim: what the paper says of it beside the variant before; empty for the first.
    """

    name: str
    label: str
    claim: str


VARIANTS = (
    Variant("none", "no memory", ""),
    Variant("unconditioned", "memory, without scale conditioning", "better"),
    Variant("keypoints", "memory, keypoints (first draft)", "better"),
    Variant("released", "memory, keypoints + appearance (released)", "not compared"),
)
"""In the paper's order. It says that a memory helps, and that conditioning it on the source helps further; the draft's
conditioning is what the published one took the place of."""

_CONDITIONING: dict[str, Conditioning] = {
    "unconditioned": "none",
    "keypoints": "keypoints",
    "released": "keypoints+appearance",
}


def with_memory(config: McnetConfig, variant: str) -> McnetConfig:
    """The network of a variant; all but its memory is as given.

    Args:
        config: with a memory; its levels are kept.
        variant: a name of `VARIANTS`.
    """
    if variant == "none":
        memory = dataclasses.replace(config.memory, levels_px=())
    else:
        memory = dataclasses.replace(config.memory, conditioning=_CONDITIONING[variant])
    return dataclasses.replace(config, memory=memory)


def member(config: FitConfig, variant: str, seed: int, initial: str) -> FitConfig:
    """The run of a variant with a seed.

    Args:
        config: of all of them.
        variant: a name of `VARIANTS`.
        seed: its draws follow from it, and are the same in every variant.
        initial: the model file whose weights it begins with, and which the stages before the last have made; empty: it
            is the run that does so.
    """
    run = dataclasses.replace(config.run, seed=seed, initial=initial)
    changed = dataclasses.replace(config, model=with_memory(config.model, variant), run=run)
    if not initial:
        return changed
    rest = StageConfig()  # done before, for all variants together
    return dataclasses.replace(changed, detector=rest, motion=rest)
