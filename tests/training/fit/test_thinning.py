"""A narrower dense motion that is cut out of a trained one, and taught by it."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from mcnet.checkpoint import load_model, save_model
from mcnet.config import ConfigError, HourglassConfig
from mcnet.dense_motion import Motion
from mcnet.generator import Mcnet
from mcnet.layers import DownBlock
from mcnet.model_file import ModelInfo
from tests.tolerance import PICTURE, largest_error
from tests.training.conftest import SIZE_PX, tiny_config
from tests.training.fit.test_growth import TINY, random_network
from training.fit import losses
from training.fit.config import FitConfig
from training.fit.loop import fit
from training.fit.stages import FitError
from training.fit.state import CHECKPOINT, load_state
from training.fit.thinning import _activation, _Map, _read_less, can_thin, thinned

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
        hourglass(max_width=1024, width=8),
        hourglass(width=4, blocks=2),
        hourglass(width=4, head_kernel=5),
        {**hourglass(width=4), "num_keypoints": 6},
        {**hourglass(width=4), "output_kernel": 5},
    ],
)
def test_other_networks_are_not_cut_out(change: dict[str, object]) -> None:
    other = dataclasses.replace(TINY, **change)  # type: ignore[arg-type]
    assert not can_thin(TINY, other)


def test_a_narrower_motion_can_be_cut_out_whatever_is_beyond_the_border() -> None:
    assert can_thin(TINY, NARROW)
    assert can_thin(TINY, dataclasses.replace(NARROW, border="replicate"))
    assert not can_thin(NARROW, TINY)
    wide, same = (dataclasses.replace(TINY, **hourglass(max_width=width)) for width in (1024, 512))  # type: ignore[arg-type]
    assert not can_thin(wide, same), "no map is as wide as either"


def block_of(weight: list[float], bias: list[float]) -> DownBlock:
    made = DownBlock(1, len(weight))
    assert isinstance(made.norm, nn.BatchNorm2d)
    with torch.no_grad():
        made.norm.weight.copy_(torch.tensor(weight))
        made.norm.bias.copy_(torch.tensor(bias))
    return made


def activation(block: DownBlock) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return _activation(block)


@pytest.mark.parametrize(
    ("weight", "bias"), [(1.0, 0.0), (0.5, 0.7), (-0.8, -0.4), (2.0, -3.0), (0.0, 0.6), (0.0, -0.6)]
)
def test_an_activation_is_that_of_a_normal_distribution_behind_the_relu(weight: float, bias: float) -> None:
    mean, deviation = activation(block_of([weight], [bias]))
    drawn = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = (weight * drawn + bias).relu()
    assert float(mean) == pytest.approx(float(seen.mean()), abs=3e-3)
    assert float(deviation) == pytest.approx(float(seen.std()), abs=3e-3)


def test_an_activation_that_hardly_ever_is_has_no_negative_mean() -> None:
    mean, deviation = activation(block_of([0.01, 0.01, 0.01], [-0.05, -0.055, -1.0]))
    assert (mean >= 0).all()
    assert mean.tolist() == sorted(mean.tolist(), reverse=True)
    assert torch.isfinite(deviation).all()


def test_the_channels_stay_that_their_readers_hear_most() -> None:
    """The first is lively and read by nobody, the second read and constant; of the others one reader hears each."""
    block = block_of([3.0, 0.0, 1.0, 0.5, 0.9], [0.0, 4.0, 0.0, 0.0, 0.0])
    first, second = torch.zeros(2, 5, 3, 3), torch.zeros(1, 5, 3, 3)
    first[0, 1:4, 1, 1] = torch.tensor([5.0, 0.5, 3.0])
    second[0, 4] = -0.2
    kept = [_Map.of(block, [first, second], count).kept.tolist() for count in (1, 2, 3, 4)]
    assert kept[:3] == [[3], [3, 4], [2, 3, 4]]
    assert _Map.of(block, [first], 2).kept.tolist() == [2, 3]
    assert _Map.of(block, [first, second], 3).missed.tolist() == pytest.approx([3 / (2 * math.pi) ** 0.5, 4, 0, 0, 0])


def test_the_mean_of_what_is_cut_away_goes_into_its_readers_bias() -> None:
    convolution = nn.Conv2d(5, 2, 3, padding=1)
    maps = torch.rand(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[:, 1], maps[:, 3] = 0.7, 0.2  # of the first map and of the second
    weights = dict(convolution.state_dict(prefix="a."))
    read = [
        _Map(torch.tensor([0, 2]), torch.tensor([0.0, 0.7, 0.0])),
        _Map(torch.tensor([1]), torch.tensor([0.2, 0.0])),
    ]
    _read_less(weights, "a.", read)
    less = nn.Conv2d(3, 2, 3, padding=1)
    less.load_state_dict({name.removeprefix("a."): value for name, value in weights.items()})
    with torch.inference_mode():
        expected, got = convolution(maps), less(maps[:, [0, 2, 4]])
    assert torch.allclose(got[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)


class Said(NamedTuple):
    """A motion and the logits that it is made of."""

    motion: Motion
    mask: torch.Tensor
    occlusion: torch.Tensor


def said(seed: int) -> Said:
    generator = torch.Generator().manual_seed(seed)
    deformation = torch.rand(2, 64, 64, 2, generator=generator) * 2 - 1
    mask = torch.randn(2, 6, 64, 64, generator=generator)
    occlusion = torch.randn(2, 1, 64, 64, generator=generator)
    return Said(Motion(deformation, occlusion.sigmoid(), mask.softmax(1)), mask, occlusion)


def terms(one: Said, teacher: Motion, weights: torch.Tensor | None = None) -> list[torch.Tensor]:
    return [
        losses.taught_motion(one.motion, teacher, weights),
        losses.taught_mask(one.mask, teacher, weights),
        losses.taught_occlusion(one.occlusion, teacher, weights),
    ]


def test_terms_of_a_teacher_are_0_where_all_is_learned() -> None:
    mine, other = said(0), said(1)
    taught = mine.motion
    assert [float(term) for term in terms(mine, taught)] == pytest.approx([0, 0, 0], abs=1e-6)
    assert min(terms(other, taught)) > 0.01
    shifted = taught._replace(deformation=taught.deformation + torch.tensor((0.02, 0.0)))
    assert losses.taught_motion(shifted, taught) == pytest.approx(0.02, rel=1e-3)
    assert losses.taught_motion_px(shifted, taught) == pytest.approx(2.56, rel=1e-3)


def test_a_teacher_is_followed_where_it_trusts_itself_and_where_it_counts() -> None:
    mine = said(0)
    taught = mine.motion._replace(occlusion=torch.ones(2, 1, 64, 64))
    taught.occlusion[:, :, :32] = 0.0
    above, below = (taught.deformation.clone() for _ in range(2))
    above[:, :32] += 0.1
    below[:, 32:] += 0.1
    distrusted, trusted = (losses.taught_motion(taught._replace(deformation=one), taught) for one in (above, below))
    assert trusted == pytest.approx(float(distrusted) * 1.3 / 0.3, rel=1e-3)
    weights = torch.ones(2, 1, 64, 64)
    weights[:, :, :32] = 0.0
    assert losses.taught_motion(taught._replace(deformation=above), taught, weights) == 0
    assert min(terms(said(1), taught, weights)) > 0


def test_what_was_shut_off_is_learned_back() -> None:
    """Logits far beyond what a share can tell have a gradient still."""
    taught = said(0).motion._replace(mask=torch.full((2, 6, 64, 64), 1 / 6), occlusion=torch.full((2, 1, 64, 64), 0.5))
    mask = torch.zeros(2, 6, 64, 64)
    mask[:, 0] = -40.0
    mask.requires_grad_()
    occlusion = torch.full((2, 1, 64, 64), 40.0).requires_grad_()
    (losses.taught_mask(mask, taught) + losses.taught_occlusion(occlusion, taught)).backward()  # type: ignore[no-untyped-call]
    assert mask.grad is not None
    assert occlusion.grad is not None
    count = mask[:, 0].numel()
    assert torch.allclose(mask.grad[:, 0] * count, torch.tensor(-1 / 6), atol=1e-3)
    assert torch.allclose(occlusion.grad * count, torch.tensor(0.5), atol=1e-3)


def test_what_is_not_finite_is_told_by_the_loss_alone() -> None:
    """So that its step is left out: on a GPU an operation that stops the program would stop it for good."""
    mine, taught = said(0), said(1).motion
    for part in (mine.motion.deformation, mine.mask, mine.occlusion):
        part[0, 0, 0, 0] = torch.nan
    assert all(torch.isnan(term) for term in terms(mine, taught))
    taught.occlusion[0, 0, 0, 0] = torch.nan
    assert all(torch.isnan(term) for term in terms(said(0), taught))


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
    noted = {"from": given.info.name, "content_hash": given.info.content_hash}
    assert state.facts["teacher"] == {**noted, "licences": {"not stated": 0}}, "nothing is noted of its data"
    told = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, share in (("taught_mask", 0.5), ("taught_px", 0.8)):
        figures = [line[name] for line in told]
        assert sum(figures[-10:]) < share * sum(figures[:10]), f"the teacher's motion is learned, by {name}"
    for name, value in given.state_dict().items():
        assert "dense_motion" in name or torch.equal(state.model[name], value), f"{name} learns"


def test_a_teacher_is_asked_in_the_full_stage_too(
    heads: Path, tmp_path: Path, teacher: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(
        heads,
        run={"initial": teacher, "teacher": teacher, "freeze_batchnorm": True},
        loss=dict(TEACHING),
        motion={"steps": 0},
        full={"steps": 1, "batch": 2, "detector_rate": 0.0},
    )
    fit(config, tmp_path / "run")
    last = load_state(tmp_path / "run" / CHECKPOINT).facts["last"]
    assert [last[name] for name in (*TEACHING, "taught_px")] == pytest.approx([0, 0, 0, 0], abs=1e-2), "it is its own"
    # The file behind the name is another one in the next call.
    save_model(random_network(TINY, 5), Path(teacher))
    fit(dataclasses.replace(config, full=dataclasses.replace(config.full, steps=2)), tmp_path / "run")
    assert "another teacher than in the last call" in caplog.text
    state = load_state(tmp_path / "run" / CHECKPOINT)
    assert state.facts["teacher"]["content_hash"] == load_model(teacher).info.content_hash
    assert min(state.facts["last"][name] for name in TEACHING) > 0


POINTS = [386, 159, 1, 291, 61]


def taught_at_rest(heads: Path, teacher: str, **changes: dict[str, object]) -> FitConfig:
    """A configuration with a teacher, by whom no detector learns."""
    tables: dict[str, dict[str, object]] = {"run": {"teacher": teacher}, "loss": {"taught_motion": 1.0}}
    stages: dict[str, dict[str, object]] = {name: {"detector_rate": 0.0} for name in ("motion", "full")}
    return tiny_config(heads, **{**tables, **stages, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {
                "model": {"num_keypoints": 7},
                "loss": {"taught_motion": 1.0, "guidance_points": [*POINTS, 385, 158]},
            },
            "has 5 keypoints, expected 7",
        ),
        (
            {"data": {"keypoints": "measured", "keypoint_points": POINTS}},
            r"has keypoints at the mesh points \[\], expected data.keypoint_points",
        ),
    ],
)
def test_a_teacher_of_other_keypoints_is_refused(
    heads: Path, tmp_path: Path, teacher: str, changes: dict[str, dict[str, object]], told: str
) -> None:
    with pytest.raises(FitError, match=told):
        fit(taught_at_rest(heads, teacher, **changes), tmp_path / "run")


def test_a_teacher_of_other_jacobians_is_refused(heads: Path, tmp_path: Path) -> None:
    model = random_network(TINY, 0)
    stated = {"places": "measured", "points": POINTS, "jacobians": "identity"}
    model.info = ModelInfo(name="other", training={"keypoints": stated})
    save_model(model, tmp_path / "other.safetensors")
    measured: dict[str, object] = {"keypoints": "measured", "keypoint_points": POINTS}
    config = taught_at_rest(heads, str(tmp_path / "other.safetensors"), data=measured)
    told = r"has identity jacobians, expected data\.keypoint_jacobians, which are detected"
    with pytest.raises(FitError, match=told):
        fit(config, tmp_path / "run")


def test_a_teacher_and_its_terms_go_together(heads: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.taught_mask: got 1\.0, expected 0 where there is no run\.teacher"):
        tiny_config(heads, loss={"taught_mask": 1.0})
    with pytest.raises(ConfigError, match=r"run\.teacher: got 'starter', expected none, or one of loss\.taught_motion"):
        tiny_config(heads, run={"teacher": "starter"})
    with pytest.raises(ConfigError, match=r"motion\.detector_rate: got 1\.0, expected 0 where there is a run\.teacher"):
        tiny_config(heads, run={"teacher": "starter"}, loss={"taught_mask": 1.0})
