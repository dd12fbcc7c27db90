"""A step that needs no host: what it may not ask for, what it gives when it is recorded, and what its profile says."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import training.fit.augment
import training.fit.loop
import training.fit.moving
from mcnet.generator import Mcnet
from tests.tolerance import EPSILON, FLOAT16, largest_error
from tests.training.conftest import ASKED, tiny_config
from training.data import open_dataset
from training.fit.config import AugmentConfig, FitConfig
from training.fit.discriminator import Adversaries
from training.fit.heads import HeadStore
from training.fit.loop import fit, profile
from training.fit.moving import Mover
from training.fit.processes import Processes
from training.fit.sampler import PairSampler
from training.fit.stages import Stage, resolve_stages
from training.fit.state import WeightAverage
from training.fit.stores import FrameStore, LandmarkStore
from training.fit.trainer import EAGER_STEPS, Capture, Trainer

ADVERSARY: dict[str, object] = {"gan": 1.0, "discriminator_widths": [4, 4, 4, 4]}
HOST_IS_ASKED = {
    "aten::_local_scalar_dense": "reads a number, as .item() and .tolist() do",
    "aten::nonzero": "makes a shape that depends on values",
    "aten::masked_select": "makes a shape that depends on values",
    "aten::lift_fresh": "copies numbers of the host, as torch.tensor([...]) and an index that is a list do",
}


class NeedsNoHost(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails on operations for which a GPU and its host would wait for one another, or that cannot be recorded."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        assert name not in HOST_IS_ASKED, f"{name} {HOST_IS_ASKED[name]}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the one place that knows that the host is at hand on a CPU do as on a GPU."""
    for module in (training.fit.augment, training.fit.moving):
        monkeypatch.setattr(module, "rows_to_change", _all_rows)


def _all_rows(chosen: Tensor) -> Tensor:
    return torch.arange(len(chosen))


def trainer(config: FitConfig, data: Path, capture: Capture | None = None) -> tuple[Trainer, dict[str, Stage]]:
    """As `fit` makes it, with all frames in memory."""
    torch.manual_seed(config.run.seed)
    dataset = open_dataset(data)
    cpu = torch.device("cpu")
    sampler = PairSampler(dataset, "train", config.data.stills_share, config.run.seed)
    adversaries = Adversaries(config.model.num_keypoints, config.loss)
    made = Trainer(
        config,
        Mcnet(config.model),
        adversaries if config.loss.gan else None,
        None,
        sampler,
        FrameStore(dataset, cpu, "device"),
        LandmarkStore(dataset, cpu),
        Processes(on_gpu=False),
        capture,
        Mover(HeadStore(dataset, cpu), sampler) if config.augment.moved_clips else None,
    )
    return made, {stage.name: stage for stage in resolve_stages(config, len(sampler.clips), 1)}


def all_stages(data: Path, **changes: dict[str, object]) -> FitConfig:
    """Every stage, and every part of a step."""
    tables: dict[str, dict[str, object]] = {
        "model": ASKED["model"],
        "detector": {"steps": 3, "batch": 2},
        "augment": {"disturb_share": 0.5},
        "loss": {
            **ASKED["loss"],
            "correspondence": 20.0,
            "openings": 40.0,
            "guidance_openings": 10.0,
        },
    }
    return tiny_config(
        data, **{name: {**tables.get(name, {}), **changes.get(name, {})} for name in {*tables, *changes}}
    )


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("name", ["detector", "motion", "full"])
def test_no_step_asks_the_host(heads_in_space: Path, name: str) -> None:
    moving: dict[str, object] = {"moved_stills": 0.5, "moved_clips": 0.5}
    made, stages = trainer(all_stages(heads_in_space, augment=moving), heads_in_space)
    stage = stages[name]
    made.begin(stage)
    made.launch(stage, stage.first)  # fills the caches of constants
    # Adam's fused kernel takes its rate as a tensor on a GPU; on a CPU it reads it.
    for optimizer in (made.optimizer, made.discriminator_optimizer):
        assert optimizer is not None
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
    with NeedsNoHost():  # type: ignore[no-untyped-call]
        made._compute(stage.config, name, name == "full", None)


def compute_again(launch: Callable[[], None]) -> Callable[[], None]:
    """Stands in for a recording."""
    return launch


def weights(made: Trainer) -> list[Tensor]:
    return [value.clone() for value in (*made.model.state_dict().values(), *made.average.model.state_dict().values())]


@pytest.mark.parametrize("name", ["motion", "full"])
def test_a_recorded_step_is_the_same_step(heads: Path, name: str) -> None:
    stage_table: dict[str, object] = {"steps": EAGER_STEPS + 2, "batch": 1, "warmup_steps": 9}
    config = all_stages(heads, **{name: stage_table})
    recordings: list[Callable[[], None]] = []

    def capture(launch: Callable[[], None]) -> Callable[[], None]:
        recordings.append(launch)
        return launch

    results = []
    for how in (None, capture):
        made, stages = trainer(config, heads, how)
        stage = stages[name]
        made.begin(stage)
        rates = [made.launch(stage, stage.first + number) for number in range(stage.steps)]
        assert rates == sorted(set(rates))
        made.totals.time(0.0)
        line = made.totals.take(Processes(on_gpu=False))
        figures = {name: value for name, value in line.items() if "_ms" not in name}
        results.append((weights(made), figures, made.standing()))
    assert len(recordings) == 1
    (ours, lines, standing), (theirs, other_lines, other_standing) = results
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert {k: v for k, v in lines.items() if "_ms" not in k} == {
        k: v for k, v in other_lines.items() if "_ms" not in k
    }
    assert standing == other_standing == (0, 0, -1)


def test_a_recording_that_fails_leaves_eager_steps(heads: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(heads, motion={"steps": EAGER_STEPS + 2})
    asked: list[None] = []

    def fails(_: Callable[[], None]) -> Callable[[], None]:
        asked.append(None)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    results = []
    for capture in (None, fails):
        made, stages = trainer(config, heads, capture)
        made.begin(stages["motion"])
        for step in range(EAGER_STEPS + 2):
            made.launch(stages["motion"], step)
        results.append(weights(made))
    assert len(asked) == 1
    assert "launched one operation at a time: recording them failed: CUDA error: operation not permitted" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_new_stage_is_recorded_anew(heads: Path) -> None:
    recordings: list[Callable[[], None]] = []

    def capture(launch: Callable[[], None]) -> Callable[[], None]:
        recordings.append(launch)
        return launch

    config = tiny_config(heads, motion={"steps": EAGER_STEPS + 2}, full={"steps": EAGER_STEPS + 1, "batch": 1})
    made, stages = trainer(config, heads, capture)
    for name, expected in (("motion", 1), ("full", 2)):
        made.begin(stages[name])
        for number in range(stages[name].steps):
            made.launch(stages[name], stages[name].first + number)
        assert len(recordings) == expected


@pytest.mark.parametrize("moved", [0.0, 0.4, 1.0])
def test_a_gpu_warps_the_pictures_that_a_cpu_warps(heads: Path, moved: float, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(heads)
    plan = PairSampler(dataset, "train", 0.0, 1).plan(2, 6)
    pictures = FrameStore(dataset, torch.device("cpu"), "memmap")
    places = LandmarkStore(dataset, torch.device("cpu"))
    faces = training.fit.augment.Faces(pictures.to_pictures(pictures.read(plan.source)), *places.read(plan.source))
    chosen = plan.draws.chance("moved", moved)
    warps = training.fit.augment._warps(plan.draws, plan.still, AugmentConfig())
    warps = type(warps)(*(part[:6] for part in warps))
    on_cpu = training.fit.augment._warp(faces, chosen, warps)
    monkeypatch.setattr(training.fit.augment, "rows_to_change", _all_rows)
    on_gpu = training.fit.augment._warp(faces, chosen, warps)
    assert all(torch.equal(a, b) for a, b in zip(on_cpu, on_gpu, strict=True))
    assert torch.equal(on_cpu.pictures[~chosen], faces.pictures[~chosen])


@pytest.mark.parametrize("of_weight", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("of_gradient", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_that_lies_otherwise_changes_the_same_weights(
    of_weight: torch.memory_format, of_gradient: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 6, 5, 3, 3, generator=generator)
    results = []
    for fused, layout in ((True, of_weight), (False, torch.contiguous_format)):
        parameter = torch.nn.Parameter(weight.clone(memory_format=layout))
        optimizer = torch.optim.Adam([parameter], lr=0.1, fused=fused)
        for scale in (1.0, -2.0, 0.5):
            turned = scale * gradient.roll(1, 0)
            parameter.grad = turned.clone(memory_format=of_gradient if fused else layout)
            if fused:
                Trainer._apply(optimizer, torch.tensor(True))
            else:
                optimizer.step()
        results.append(parameter.detach().contiguous())
    assert largest_error(results[0], results[1]) <= 10 * EPSILON


def test_the_average_leaves_bad_steps_out() -> None:
    model = Mcnet(tiny_config(Path()).model)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    key = "generator.final.weight"
    before = average.model.state_dict()[key].clone()
    average.update(torch.tensor(0), torch.tensor(False))
    assert torch.equal(average.model.state_dict()[key], before)
    average.update(torch.tensor(0), torch.tensor(True))  # keeps a tenth at first: (1 + 0) / (10 + 0)
    assert torch.allclose(average.model.state_dict()[key], before + 0.9, atol=FLOAT16)


def test_a_profile_names_operations_and_saves_nothing(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, motion={"steps": 1}, full={"steps": 1})
    stages = profile(config, tmp_path / "run", 1)
    assert [stage.stage for stage in stages] == ["motion", "full"]
    for stage in stages:
        assert stage.step_ms > 0
        assert stage.pairs_per_s == pytest.approx(2 * 1000 / stage.step_ms)
        title, header, *rows = stage.table.splitlines()
        assert title.startswith(f"{stage.stage}: ")
        assert "the CPU" in title
        assert header.split() == ["host,", "ms", "share", "calls", "operation"]
        assert any("convolution" in row for row in rows)
        *named, total = (float(row.split()[0]) for row in rows)
        assert sum(named) == pytest.approx(total, abs=0.005 * (len(rows) + 1))  # each is rounded to a hundredth
    assert list((tmp_path / "run").iterdir()) == []
    fit(config, tmp_path / "run")  # and a run after it is a fresh one


def test_where_minutes_are_few_the_profile_takes_few_of_them(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, motion={"steps": 9}, full={"steps": 0})
    (stage,) = profile(config, tmp_path / "run", 5, limit_s=600)
    assert "Below, 3 steps, launched one operation at a time" in stage.table


def test_the_command_profiles(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.training.fit.test_loop import command, write_config

    config = str(write_config(tmp_path / "mine.toml", full={"steps": 0}))
    fitting = ("fit", config, "--run-dir", str(tmp_path / "run"), "--data", str(heads), "--profile")
    assert command(*fitting, "1") == 0
    assert "pairs per second" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        command(*fitting, "0")
    assert "--profile: got '0', expected a whole number from 1 to 100000" in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_records_its_steps(
    heads: Path, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = EAGER_STEPS + 4
    config = tiny_config(
        heads,
        run={"device": "cuda", "precision": precision},
        motion={"steps": steps},
        full={"steps": steps},
        loss=ADVERSARY,
    )
    with caplog.at_level(logging.WARNING):
        assert fit(config, tmp_path / "recorded").step == 2 * steps
    assert "recording them failed" not in caplog.text
    monkeypatch.setattr(training.fit.loop, "record", None)
    assert fit(config, tmp_path / "eager").step == 2 * steps
    from tests.training.fit.test_loop import stats

    for ours, theirs in zip(stats(tmp_path / "recorded"), stats(tmp_path / "eager"), strict=True):
        # The same draws and nearly the same weights: a GPU adds up gradients of samples in any order.
        assert ours["copied_l1"] == pytest.approx(theirs["copied_l1"], rel=1e-4)
        assert ours["total"] == pytest.approx(theirs["total"], rel=0.05)
