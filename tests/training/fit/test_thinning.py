"""A narrower dense motion that is cut out of a trained one, and taught by it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mcnet.checkpoint import load_model, save_model
from mcnet.config import ConfigError, HourglassConfig
from mcnet.dense_motion import Motion
from mcnet.generator import Mcnet
from tests.tolerance import PICTURE, largest_error
from tests.training.conftest import SIZE_PX, tiny_config
from tests.training.fit.test_growth import TINY, random_network
from training.fit import losses
from training.fit.loop import fit
from training.fit.stages import FitError
from training.fit.state import CHECKPOINT, load_state
from training.fit.thinning import can_thin, thinned

NARROW = dataclasses.replace(TINY, motion_hourglass=HourglassConfig(width=4, max_width=16, blocks=3, head_kernel=3))


def faces() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sources and two driving frames."""
    blots = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    source, driving = (nn.functional.interpolate(one, size=SIZE_PX, mode="bilinear") for one in blots)
    return source, driving


def with_idle_channels(narrow: Mcnet, seed: int) -> Mcnet:
    """A wide network that is a narrow one: further channels of its motion, in places drawn at random, say nothing."""
    wide = random_network(TINY, seed)
    generator = torch.Generator().manual_seed(seed)
    motion, theirs = wide.generator.dense_motion, narrow.generator.dense_motion
    wide.load_state_dict(
        {name: value for name, value in narrow.state_dict().items() if "dense_motion" not in name}, strict=False
    )
    before, after = NARROW.motion_hourglass, TINY.motion_hourglass
    blocks = after.blocks

    def places(depth: int) -> torch.Tensor:
        order = torch.randperm(after.channels(depth), generator=generator)
        return order[: before.channels(depth)].sort().values

    down = [torch.arange(4 * (TINY.num_keypoints + 1))] + [places(depth) for depth in range(1, blocks + 1)]
    up = [places(depth) for depth in range(blocks)]

    def fill(block: Any, small: Any, made: torch.Tensor, read: torch.Tensor) -> None:
        block.norm.weight.zero_()
        block.norm.bias.zero_()
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(block.norm, part)[made] = getattr(small.norm, part)
        block.conv.bias[made] = small.conv.bias
        block.conv.weight[made[:, None], read] = small.conv.weight

    with torch.no_grad():
        for depth in range(blocks):
            fill(
                motion.hourglass.down_blocks[depth],
                theirs.hourglass.down_blocks[depth],
                down[depth + 1],
                down[depth],
            )
            read = down[depth + 1]
            if depth < blocks - 1:
                read = torch.cat((up[depth + 1], after.channels(depth + 1) + read))
            fill(
                motion.hourglass.up_blocks[blocks - 1 - depth],
                theirs.hourglass.up_blocks[blocks - 1 - depth],
                up[depth],
                read,
            )
        read = torch.cat((up[0], after.channels(0) + down[0]))
        for head in ("mask", "occlusion"):
            mine, small = (getattr(one, head) for one in (motion, theirs))
            mine.weight[:, read] = small.weight
            mine.bias.copy_(small.bias)
    return wide


@pytest.mark.parametrize("seed", range(3))
def test_what_says_nothing_is_cut_away_first(seed: int) -> None:
    narrow = random_network(NARROW, seed)
    wide = with_idle_channels(narrow, seed + 10)
    cut = random_network(NARROW, seed + 20)
    with torch.inference_mode():
        expected, other = wide(*faces()), cut(*faces())
        assert largest_error(narrow(*faces()), expected) <= PICTURE, "the wide one is the narrow one"
        cut.load_state_dict(thinned(wide, NARROW))
        got = cut(*faces())
    assert largest_error(other, expected) > 100 * PICTURE
    assert largest_error(got, expected) <= PICTURE


def test_all_else_is_taken_as_it_is() -> None:
    wide = random_network(TINY, 0)
    weights = thinned(wide, NARROW)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in Mcnet(NARROW).state_dict().items()
    }
    for name, value in wide.state_dict().items():
        if "dense_motion" not in name:
            assert torch.equal(weights[name], value), name


def hourglass(**changes: int) -> dict[str, object]:
    return {"motion_hourglass": dataclasses.replace(TINY.motion_hourglass, **changes)}


@pytest.mark.parametrize(
    "change",
    [
        {},
        hourglass(width=16),
        hourglass(max_width=64),
        hourglass(width=4, blocks=2),
        hourglass(width=4, head_kernel=5),
        {**hourglass(width=4), "num_keypoints": 6},
        {**hourglass(width=4), "output_kernel": 5},
    ],
)
def test_other_networks_are_not_cut_out(change: dict[str, object]) -> None:
    other = dataclasses.replace(TINY, **change)  # type: ignore[arg-type]
    assert not can_thin(TINY, other)
    assert not can_thin(NARROW, TINY)
    assert can_thin(TINY, NARROW)


def motion(seed: int) -> Motion:
    generator = torch.Generator().manual_seed(seed)
    deformation = torch.rand(2, 64, 64, 2, generator=generator) * 2 - 1
    occlusion = torch.rand(2, 1, 64, 64, generator=generator)
    return Motion(deformation, occlusion, torch.randn(2, 6, 64, 64, generator=generator).softmax(1))


def test_terms_of_a_teacher_are_0_where_all_is_learned() -> None:
    taught, other = motion(0), motion(1)
    for term in (losses.taught_motion, losses.taught_mask, losses.taught_occlusion):
        assert term(taught, taught) == pytest.approx(0, abs=1e-6)
        assert term(other, taught) > 0.01
    shifted = taught._replace(deformation=taught.deformation + torch.tensor((0.02, 0.0)))
    assert losses.taught_motion(shifted, taught) == pytest.approx(0.02, rel=1e-3)
    assert losses.taught_motion_px(shifted, taught) == pytest.approx(2.56, rel=1e-3)


def test_a_teacher_is_followed_where_it_trusts_itself_and_where_it_counts() -> None:
    taught = motion(0)._replace(occlusion=torch.ones(2, 1, 64, 64))
    taught.occlusion[:, :, :32] = 0.0
    above, below = (taught.deformation.clone() for _ in range(2))
    above[:, :32] += 0.1
    below[:, 32:] += 0.1
    distrusted, trusted = (losses.taught_motion(taught._replace(deformation=one), taught) for one in (above, below))
    assert trusted == pytest.approx(float(distrusted) * 1.3 / 0.3, rel=1e-3)
    weights = torch.ones(2, 1, 64, 64)
    weights[:, :, :32] = 0.0
    assert losses.taught_motion(taught._replace(deformation=above), taught, weights) == 0
    assert losses.taught_mask(motion(1), taught, weights) > 0


TEACHING = {"taught_motion": 100.0, "taught_mask": 2.0, "taught_occlusion": 8.0}
NOTHING_ELSE = dict.fromkeys(
    ("l1", "warped", "occlusion", "equivariance_value", "equivariance_jacobian", "keypoint_distance"), 0.0
) | {"guidance": 0.0, "guidance_late": 0.0, "feature_consistency": 0.0}


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    save_model(random_network(TINY, 0), tmp_path / "teacher.safetensors")
    return str(tmp_path / "teacher.safetensors")


def test_a_narrower_motion_learns_from_the_one_that_it_was_cut_out_of(
    heads: Path, tmp_path: Path, teacher: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = tiny_config(
        heads,
        model={"motion_hourglass": {"width": 4, "max_width": 16}},
        run={"initial": teacher, "teacher": teacher},
        loss={**NOTHING_ELSE, **TEACHING},
        motion={"steps": 40, "batch": 4, "learning_rate": 5e-3, "detector_rate": 0.0},
        full={"steps": 0},
        optim={"beta1": 0.9},
    )
    fit(config, tmp_path / "run")
    assert "the dense motion is a narrower one, cut out of that of" in caplog.text
    state = load_state(tmp_path / "run" / CHECKPOINT)
    assert state.facts["initial"]["thinned"] is True
    given = load_model(teacher)
    assert state.facts["teacher"] == {"from": given.info.name, "content_hash": given.info.content_hash}
    told = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, share in (("taught_mask", 0.5), ("taught_px", 0.8)):
        figures = [line[name] for line in told]
        assert sum(figures[-10:]) < share * sum(figures[:10]), f"the teacher's motion is learned, by {name}"
    for name, value in given.state_dict().items():
        assert "dense_motion" in name or torch.equal(state.model[name], value), f"{name} learns"


def test_a_teacher_is_asked_in_the_full_stage_too(heads: Path, tmp_path: Path, teacher: str) -> None:
    config = tiny_config(
        heads, run={"teacher": teacher}, loss=dict(TEACHING), motion={"steps": 0}, full={"steps": 1, "batch": 2}
    )
    fit(config, tmp_path / "run")
    last = load_state(tmp_path / "run" / CHECKPOINT).facts["last"]
    assert min(last[name] for name in (*TEACHING, "taught_px")) > 0


def test_a_teacher_of_other_keypoints_is_refused(heads: Path, tmp_path: Path, teacher: str) -> None:
    config = tiny_config(
        heads,
        model={"num_keypoints": 7},
        run={"teacher": teacher},
        loss={"taught_motion": 1.0, "guidance_points": [386, 159, 1, 291, 61, 385, 158]},
    )
    with pytest.raises(FitError, match="has 5 keypoints, expected 7"):
        fit(config, tmp_path / "run")


def test_a_teacher_and_its_terms_go_together(heads: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.taught_mask: got 1\.0, expected 0 where there is no run\.teacher"):
        tiny_config(heads, loss={"taught_mask": 1.0})
    with pytest.raises(ConfigError, match=r"run\.teacher: got 'starter', expected none, or one of loss\.taught_motion"):
        tiny_config(heads, run={"teacher": "starter"})
