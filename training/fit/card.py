"""The facts of a training run that go with what it has learned."""

import time
from collections.abc import Mapping
from typing import Any

from mcnet.model_file import IRISES, LINEAR_JACOBIANS, SQUEEZED
from mcnet.pose import irises_have_lids
from training.fit.config import STAGES, FitConfig

_FOR_A_RESUME = ("time_share", LINEAR_JACOBIANS)
"""Facts that a checkpoint needs and nobody else, or that stand elsewhere in the card."""


def card_of(config: FitConfig, step: int, skipped: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the training run that go with the model.

    Args:
        config: of the run.
        step: how many steps are done.
        skipped: how many of them were left out.
        facts: as the run's checkpoint has them.
    """
    tables = config.to_dict()
    return {
        "steps": step,
        "steps_left_out": skipped,
        "stages": {name: tables[name] for name in STAGES},
        "seed": config.run.seed,
        "loss": tables["loss"],
        "exported": time.strftime("%Y-%m-%d", time.gmtime()),
        **_keypoints(config, facts),
        **{name: fact for name, fact in facts.items() if name not in _FOR_A_RESUME},
    }


def _keypoints(config: FitConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the keypoints of a network that was trained on measured places are; nothing of others."""
    data = config.data
    if data.keypoints == "detected":
        return {}
    stated: dict[str, Any] = {
        "places": data.keypoints,
        "points": list(data.keypoint_points),
        "jacobians": data.keypoint_jacobians,
        "jitter_px": data.keypoint_jitter_px,
        "detected_share": data.detected_share,
    }
    if irises_have_lids(data.keypoint_points):
        stated[IRISES] = SQUEEZED
    if LINEAR_JACOBIANS in facts:
        stated |= {"linear_share": data.linear_share, LINEAR_JACOBIANS: [list(row) for row in facts[LINEAR_JACOBIANS]]}
    return {"keypoints": stated}
