"""A small model and pictures that several files share."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.model_file import ModelInfo
from tests.released import load_case


@pytest.fixture
def tiny() -> Mcnet:
    """A `tiny` model with fixed random weights; its keypoints spread over the picture."""
    torch.manual_seed(0)
    model = Mcnet(McnetConfig.named("tiny"), ModelInfo(name="tiny", training={"steps": 0})).eval()
    with torch.no_grad():
        model.keypoint_detector.logits.weight.mul_(5)
    return model


@pytest.fixture(scope="session")
def pictures() -> dict[str, NDArray[Any]]:
    """Real faces: `source` and `driving`, (256, 256, 3) uint8 RGB."""
    stored = load_case("starter_case")
    return {name: stored[name] for name in ("source", "driving")}


@pytest.fixture(scope="session")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
