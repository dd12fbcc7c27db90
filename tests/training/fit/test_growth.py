"""A larger network that begins as the function of a smaller one, and can learn what it has more."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from mcnet.checkpoint import load_model, save_model
from mcnet.config import Conditioning, McnetConfig
from mcnet.generator import Mcnet
from mcnet.memory import MemoryCompensation
from tests.tolerance import PICTURE, largest_error
from tests.training.conftest import SIZE_PX, tiny_config
from training.fit.growth import can_grow, grown, nearest_points
from training.fit.loop import fit
from training.fit.state import CHECKPOINT, load_state
from training.landmarks import TRAINING_POINTS

TINY = dataclasses.replace(McnetConfig.named("tiny"), size_px=SIZE_PX)


def random_network(config: McnetConfig, seed: int) -> Mcnet:
    """Of which every part counts: jacobians that differ, statistics of BatchNorm that were learned."""
    torch.manual_seed(seed)
    model = Mcnet(config).eval()
    with torch.no_grad():
        model.keypoint_detector.jacobians.weight.normal_(0, 0.02)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize(
    ("keypoints", "resblocks"), [(5, (1, 1, 0)), (9, (1, 1, 0)), (5, (2, 1, 1)), (8, (3, 2, 1)), (5, (1, 3, 0))]
)
@pytest.mark.parametrize("conditioning", ["keypoints", "keypoints+appearance"])
def test_a_grown_network_gives_the_same_picture(
    keypoints: int, resblocks: tuple[int, ...], conditioning: Conditioning
) -> None:
    config = dataclasses.replace(TINY, memory=dataclasses.replace(TINY.memory, conditioning=conditioning))
    small = random_network(config, 0)
    large = random_network(dataclasses.replace(config, num_keypoints=keypoints, resblocks=resblocks), 1)
    assert can_grow(small.config, large.config) == (small.config != large.config)
    parents = [1, 1, 4, 0][: keypoints - 5]  # one has two children
    generator = torch.Generator().manual_seed(2)
    source, driving = (
        nn.functional.interpolate(torch.rand(2, 3, 8, 8, generator=generator), size=SIZE_PX, mode="bilinear")
        for _ in range(2)
    )
    with torch.inference_mode():
        expected, other = small(source, driving), large(source, driving)
        large.load_state_dict(grown(small, large, parents))
        got = large(source, driving)
    assert largest_error(other, expected) > 100 * PICTURE
    assert largest_error(got, expected) <= PICTURE


def test_what_is_new_learns() -> None:
    small = random_network(TINY, 0)
    large = random_network(dataclasses.replace(TINY, num_keypoints=6, resblocks=(1, 1, 1)), 1)
    large.load_state_dict(grown(small, large, [2]))
    source, driving = torch.rand(2, 1, 3, SIZE_PX, SIZE_PX)
    large(source, driving).mean().backward()
    gradients = {name: parameter.grad for name, parameter in large.named_parameters()}

    def length(name: str, first: int = 0) -> float:
        gradient = gradients[name]
        assert gradient is not None
        return float(gradient[first:].norm())

    assert length("generator.res_stages.2.0.conv2.weight") > 0
    assert length("generator.dense_motion.mask.weight", 6) > 0
    assert length("keypoint_detector.logits.weight", 5) > 0
    assert isinstance(large.generator.memory, MemoryCompensation)
    code = gradients["generator.memory.style_route.0.weight"]
    assert code is not None
    assert code[:, 10:].norm() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"num_keypoints": 4},
        {"resblocks": (0, 1, 0)},
        {"resblocks": (2, 1, 0), "output_kernel": 5},
        {"border": "replicate", "num_keypoints": 6},
        {
            "encoder_widths": (8, 16, 24, 32, 32),
            "decoder_widths": (24, 24, 16, 12, 8),
            "resblocks": (1, 1, 0, 0),
            "size_px": 512,
        },
    ],
)
def test_other_networks_are_not_grown(change: dict[str, object]) -> None:
    assert not can_grow(TINY, dataclasses.replace(TINY, **change))  # type: ignore[arg-type]


def test_new_keypoints_begin_at_their_neighbour() -> None:
    landmarks = torch.rand(3, len(TRAINING_POINTS), 2, generator=torch.Generator().manual_seed(0)) * 0.01
    for point, x in ((386, 0.5), (1, -0.5), (385, 0.4), (4, -0.4), (387, 0.6)):
        landmarks[:, TRAINING_POINTS.index(point), 0] += x
    assert nearest_points(landmarks, (386, 1, 385, 4, 387), 2) == (0, 1, 0)
    assert nearest_points(landmarks, (386, 1), 2) == ()


def test_a_run_grows_the_model_that_it_begins_with(
    heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    given = random_network(TINY, 0)
    save_model(given, tmp_path / "small.safetensors")
    # 385 and 158 lie next to 386 and 159.
    config = tiny_config(
        heads,
        model={"num_keypoints": 7, "resblocks": [1, 2, 0]},
        run={"initial": str(tmp_path / "small.safetensors")},
        loss={"guidance_points": [386, 159, 1, 291, 61, 385, 158]},
        motion={"steps": 1, "learning_rate": 0.0},
        full={"steps": 0},
    )
    fit(config, tmp_path / "run")
    assert "grown from" in caplog.text
    state = load_state(tmp_path / "run" / CHECKPOINT)
    assert state.facts["initial"]["grown"] is True
    expected = load_model(tmp_path / "small.safetensors").state_dict()["keypoint_detector.logits.weight"]
    assert torch.equal(state.model["keypoint_detector.logits.weight"], expected[[0, 1, 2, 3, 4, 0, 1]])
