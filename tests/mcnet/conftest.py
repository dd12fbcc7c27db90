"""A small model and pictures that several files share."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.config import McnetConfig
from mcnet.engine import Engine, EngineOptions
from mcnet.generator import Mcnet
from mcnet.model_file import ModelInfo
from tests.released import load_case

_ON_THE_FACE = (334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10)
"""Points of the mesh."""


@pytest.fixture
def tiny() -> Mcnet:
    """A `tiny` model with fixed random weights; its keypoints spread over the picture."""
    torch.manual_seed(0)
    model = Mcnet(McnetConfig.named("tiny"), ModelInfo(name="tiny", training={"steps": 0})).eval()
    with torch.no_grad():
        model.keypoint_detector.logits.weight.mul_(5)
    return model


@pytest.fixture(scope="session")
def guided_model() -> Mcnet:
    """A `tiny` one that knows nothing, but whose keypoints are said to lie on the face."""
    torch.manual_seed(0)
    config = McnetConfig.named("tiny")
    loss = {"guidance": 1.0, "guidance_points": list(_ON_THE_FACE[: config.num_keypoints])}
    return Mcnet(config, ModelInfo(name="tiny", training={"loss": loss})).eval()


@pytest.fixture(scope="module")
def guided_engine(guided_model: Mcnet) -> Engine:
    return Engine(guided_model, EngineOptions(device="cpu", precision="fp32", backend="torch", warm_up_frames=0))


@pytest.fixture(scope="session")
def pictures() -> dict[str, NDArray[Any]]:
    """Real faces: `source` and `driving`, (256, 256, 3) uint8 RGB."""
    stored = load_case("starter_case")
    return {name: stored[name] for name in ("source", "driving")}


@pytest.fixture(scope="session")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
