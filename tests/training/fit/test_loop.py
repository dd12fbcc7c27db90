"""Short runs on a CPU, from the first step to the model file."""

import dataclasses
import errno
import json
import logging
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import training.fit.loop
import training.fit.trainer
from mcnet.checkpoint import load_model
from mcnet.commands.outputs import OutputError
from mcnet.errors import UserError
from mcnet.generator import Mcnet
from mcnet.model_card import MODEL_FILE, read_card
from mcnet.model_file import CheckpointError
from tests.bare import code_without
from tests.tolerance import EPSILON, PICTURE, largest_error
from tests.training.conftest import ASKED, SIZE_PX, TINY, one_thread, tiny_config, write_dataset
from training.__main__ import main
from training.data import CLIPS_FORMAT, Clip, ClipTable, write_table
from training.fit.augment import Faces, augment
from training.fit.config import AugmentConfig, FitConfig, StageConfig, format_config
from training.fit.export import export
from training.fit.journal import Journal
from training.fit.loop import fit
from training.fit.objective import full_outputs
from training.fit.sampler import PairPlan
from training.fit.stages import FitError, Stage, learning_rate, resolve_stages, stage_at
from training.fit.state import CHECKPOINT, StateError, TrainState, load_state, save_state

LOGGED = 1e-4
"""Of figures in stats.jsonl: ten of six digits each, added up."""


def stats(run: Path) -> list[dict[str, Any]]:
    """The lines of a run, without what a clock says."""
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    clock = ("_ms", "_per_s", "_left_s")
    return [{key: value for key, value in line.items() if not key.endswith(clock)} for line in lines]


def same_state(one: TrainState, other: TrainState) -> None:
    for name in ("model", "ema", "discriminator"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    moments = [[v for s in state.optimizer["state"].values() for v in s.values()] for state in (one, other)]
    assert len(moments[0]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert (one.step, one.skipped) == (other.step, other.skipped)


def kill_at(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal while it is in the middle of a step."""
    original = augment

    def killing(*arguments: Any) -> Any:
        if arguments[2].draws.step == step:
            os.kill(os.getpid(), number)
        return original(*arguments)

    monkeypatch.setattr(training.fit.trainer, "augment", killing)


def test_a_short_run_learns_logs_and_saves(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, log={"sheet_every": 2, "tensorboard": True})
    before = torch.random.get_rng_state()
    result = fit(config, tmp_path)
    torch.random.set_rng_state(before)
    assert (result.step, result.reason) == (4, "done")
    lines = [line for line in stats(tmp_path) if "total" in line]
    assert [(line["step"], line["stage"]) for line in lines] == [(1, "motion"), (2, "motion"), (3, "full"), (4, "full")]
    for line in lines:
        weighted = ["equivariance_value", "equivariance_jacobian", "keypoint_distance", "warped", "occlusion"]
        weighted += ["guidance"] + (["l1", "feature_consistency"] if line["stage"] == "full" else [])
        assert line["total"] == pytest.approx(sum(line[name] for name in weighted), rel=LOGGED)
        assert line["warped_of_copied"] == pytest.approx(line["warped_l1"] / line["copied_l1"], rel=LOGGED)
        assert 0 < line["occlusion_mean"] < 1
    assert [line["guidance"] > 0 for line in lines] == [True] * 4
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == [f"000000{n}.png" for n in (1, 2, 4)]
    assert list((tmp_path / "tensorboard").iterdir())
    times = json.loads((tmp_path / "stats.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert times["data_ms"] + times["compute_ms"] == pytest.approx(times["step_ms"], rel=LOGGED)
    assert (tmp_path / "config.toml").read_text(encoding="utf-8") == format_config(config)
    state = load_state(tmp_path / CHECKPOINT)
    assert (state.step, state.skipped) == (4, 0)
    assert state.facts["data"]["clips"] == 3
    assert state.facts["data"]["stills"] == 2


def test_the_motion_stage_leaves_encoder_and_decoder_alone(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, full={"steps": 0})
    fit(config, tmp_path)
    torch.manual_seed(config.run.seed)
    fresh = Mcnet(config.model).state_dict()
    changed = {
        key for key, value in load_state(tmp_path / CHECKPOINT).model.items() if not torch.equal(value, fresh[key])
    }
    prefixes = ("keypoint_detector.", "generator.dense_motion.")
    assert changed
    assert all(key.startswith(prefixes) for key in changed)
    for prefix in prefixes:
        parameters = {key for key in fresh if key.startswith(prefix) and key.endswith(("conv.weight", "logits.weight"))}
        assert parameters <= changed


def test_the_detector_stage_teaches_the_detector_alone(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(
        heads,
        model={"num_keypoints": 6},
        detector={"steps": 2, "batch": 2, "decay": "none"},
        motion={"steps": 0},
        full={"steps": 0},
        augment={"disturb_share": 0.5},
        loss={"guidance_openings": 10.0, "guidance_points": [386, 374, 159, 145, 13, 14]},
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, lively_share=0.5))
    fit(config, tmp_path)
    torch.manual_seed(config.run.seed)
    fresh = Mcnet(config.model).state_dict()
    state = load_state(tmp_path / CHECKPOINT)
    changed = {key for key, value in state.model.items() if not torch.equal(value, fresh[key])}
    assert changed
    assert all(key.startswith("keypoint_detector.") for key in changed)
    line = stats(tmp_path)[0]
    assert line["stage"] == "detector"
    weighted = ["equivariance_value", "equivariance_jacobian", "keypoint_distance", "guidance", "guidance_openings"]
    assert line["total"] == pytest.approx(sum(line[name] for name in weighted), rel=LOGGED)
    assert "warped_l1" not in line


def test_a_stage_transforms_its_own_share_of_pairs(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[float, float]] = []
    original = augment

    def watched(
        source: Faces, driving: Faces, plan: PairPlan, config: AugmentConfig, in_space: Tensor | None
    ) -> tuple[Faces, Faces]:
        shares.append((config.similarity_share, float(plan.still.float().mean())))
        return original(source, driving, plan, config, in_space)

    monkeypatch.setattr(training.fit.trainer, "augment", watched)
    config = tiny_config(heads, motion={"steps": 1}, full={"steps": 1, "similarity": 0.5, "stills": 0.0})
    fit(config, tmp_path)
    assert [share for share, _ in shares] == [0.5, 0.25]
    assert shares[1][1] == 0


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_average_follows_every_weight_in_any_layout(heads: Path, tmp_path: Path, channels_last: bool) -> None:
    fit(tiny_config(heads, run={"channels_last": channels_last}, optim={"ema_decay": 0.0}), tmp_path)
    state = load_state(tmp_path / CHECKPOINT)
    torch.manual_seed(3)
    fresh = Mcnet(tiny_config(heads).model).state_dict()
    assert not torch.equal(state.ema["generator.final.weight"], fresh["generator.final.weight"])
    for key, value in state.model.items():
        if value.is_floating_point():
            # A decay of 0 makes old + 1 (new - old): a rounding at the size of each.
            assert torch.allclose(state.ema[key], value, rtol=2 * EPSILON, atol=EPSILON), key


def test_parts_whose_rate_is_0_stay_as_they_are(heads: Path, tmp_path: Path) -> None:
    resting = {"detector_rate": 0.0, "motion_rate": 0.0, "encoder_rate": 0.0}
    config = tiny_config(heads, motion={"steps": 1, "detector_rate": 0.0}, full={"steps": 1, **resting})
    fit(config, tmp_path)
    torch.manual_seed(config.run.seed)
    fresh = Mcnet(config.model).state_dict()
    state = load_state(tmp_path / CHECKPOINT)
    changed = {key for key, value in state.model.items() if not torch.equal(value, fresh[key])}
    learned = ("dense_motion", "laterals", "memory", "res_stages", "up_blocks", "final")
    assert {key.split(".")[1] for key in changed} <= {*learned}
    assert {"generator.final.weight", "generator.dense_motion.mask.weight"} <= changed
    motion, full = stats(tmp_path)
    assert motion["gradient_detector"] == full["gradient_detector"] == 0
    assert not {"guidance", "equivariance_value", "keypoint_distance"} & {*motion, *full}
    # The motion rests in the second stage: its weights are the first stage's.
    only = tiny_config(heads, motion={"steps": 1, "detector_rate": 0.0}, full={"steps": 0})
    fit(only, tmp_path / "only")
    first = load_state(tmp_path / "only" / CHECKPOINT)
    for key, value in first.model.items():
        if key.startswith("generator.dense_motion."):
            assert torch.equal(value, state.model[key])


def test_the_motion_stage_compares_at_full_size_if_told(heads: Path, tmp_path: Path) -> None:
    loss: dict[str, object] = {"warped_px": SIZE_PX, "correspondence": 20.0, "openings": 40.0}
    fit(tiny_config(heads, loss=loss, motion={"steps": 1}, full={"steps": 0}), tmp_path)
    line = stats(tmp_path)[0]
    assert line["correspondence"] > 0
    assert line["openings"] > 0
    fit(tiny_config(heads, motion={"steps": 1}, full={"steps": 0}), tmp_path / "small")
    assert line["copied_l1"] != stats(tmp_path / "small")[0]["copied_l1"]


@pytest.fixture(scope="module")
def whole(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FitConfig, Path]:
    """A run that was not stopped."""
    config, folder = tiny_config(heads, **ASKED, optim={"ema_decay": 0.5}), tmp_path_factory.mktemp("whole")
    with one_thread():
        fit(config, folder)
    return config, folder


@pytest.fixture(scope="module")
def plain(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `tiny_config` as it is. It is read and never written."""
    folder = tmp_path_factory.mktemp("plain")
    with one_thread():
        fit(tiny_config(heads), folder)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_it_saves_and_resumes_bit_for_bit(
    whole: tuple[FitConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    # Stop in the first stage for one signal and in the second for the other.
    stop = 1 if number == signal.SIGTERM else 2
    config, unstopped = whole
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        kill_at(stop, number, patch)
        stopped = fit(config, tmp_path / "parts")
    assert (stopped.step, stopped.reason) == (stop + 1, number.name)
    assert handlers == [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    assert load_state(stopped.checkpoint).step == stop + 1
    # A run that was killed later may have left lines of steps that it did not save.
    with (tmp_path / "parts/stats.jsonl").open("a") as file:
        file.write('{"step": 4, "stage": "full", "total": 0.0}\n{"step": 4, "st')
    assert fit(config, tmp_path / "parts").reason == "done"
    assert stats(tmp_path / "parts") == stats(unstopped)
    same_state(load_state(tmp_path / "parts" / CHECKPOINT), load_state(unstopped / CHECKPOINT))
    # Once more is nothing more.
    assert fit(config, tmp_path / "parts").step == 4
    assert stats(tmp_path / "parts") == stats(unstopped)


def test_frames_in_memory_give_the_run_of_frames_on_disk(heads: Path, plain: Path, tmp_path: Path) -> None:
    config = tiny_config(heads)
    assert config.data.frames != "device"
    fit(dataclasses.replace(config, data=dataclasses.replace(config.data, frames="device")), tmp_path)
    assert stats(plain) == stats(tmp_path)
    same_state(*(load_state(folder / CHECKPOINT) for folder in (plain, tmp_path)))


def test_minutes_that_are_over_stop_it_cleanly(heads: Path, tmp_path: Path) -> None:
    result = fit(tiny_config(heads), tmp_path, max_minutes=0.0)
    assert (result.step, result.reason) == (1, "time")
    assert load_state(result.checkpoint).step == 1


def test_a_rate_that_falls_by_time_ends_with_the_minutes(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.fit.loop, "time", Seconds())
    stage = {"steps": 10_000, "learning_rate": 1.0, "decay": "cosine", "decay_factor": 0.0, "decay_by": "time"}
    config = tiny_config(heads, motion={"steps": 0}, full=stage)

    def rates() -> list[float]:
        return [line["learning_rate"] for line in stats(tmp_path) if "total" in line]

    kill_at(1, signal.SIGTERM, monkeypatch)
    fit(config, tmp_path, max_minutes=0.3)  # 18 s, and each step looks at the clock several times
    stopped = load_state(tmp_path / CHECKPOINT).facts["time_share"]
    assert 0.1 < stopped < 0.5
    assert rates() == pytest.approx([1.0, 0.5 + 0.5 * math.cos(math.pi * stopped)], abs=1e-4)
    # The next call divides what was left then, and comes to the end.
    monkeypatch.setattr(training.fit.trainer, "augment", augment)
    result = fit(config, tmp_path, max_minutes=0.12)
    assert result.reason == "time"
    assert rates() == sorted(rates(), reverse=True)
    assert rates()[2] == pytest.approx(rates()[1])
    assert rates()[-1] < 0.1
    assert "time_share" not in load_model(str(tmp_path / "latest.safetensors")).info.training


def test_a_stage_that_goes_by_the_clock_ends_with_a_line_and_a_sheet(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They tell of the weights that are saved, as where the steps are done."""
    monkeypatch.setattr(training.fit.loop, "time", Seconds())
    stage: dict[str, object] = {"steps": 10_000, "decay": "cosine", "decay_by": "time"}
    log: dict[str, object] = {"every": 1000, "sheet_every": 1000, "checkpoint_every": 1000}
    config = tiny_config(heads, motion={"steps": 0}, full=stage, log=log)
    result = fit(config, tmp_path, max_minutes=0.5)
    assert (result.reason, result.step > 2) == ("time", True)
    facts = load_state(tmp_path / CHECKPOINT).facts
    assert (facts["last"]["step"], facts["held_out"]["step"]) == (result.step, result.step)
    assert stats(tmp_path)[-1]["step"] == result.step
    assert [path.stem.split("_")[0] for path in sorted((tmp_path / "sheets").glob("*.png"))][-1].endswith(
        str(result.step)
    )


class Seconds:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1
        return self._now

    def perf_counter(self) -> float:
        return self._now


def test_a_rate_that_cannot_fall_by_time_is_told(heads: Path, tmp_path: Path) -> None:
    by_time = {"steps": 2, "decay_by": "time"}
    with pytest.raises(FitError, match=r"full\.decay_by is time, but the call has no end: give --max-minutes"):
        fit(tiny_config(heads, full=by_time), tmp_path)
    with pytest.raises(FitError, match=r"motion\.decay_by is time, but the stage full follows"):
        fit(tiny_config(heads, motion=by_time), tmp_path, max_minutes=1)


def poison(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a NaN into the pictures of some steps."""
    original = augment

    def poisoned(source: Faces, driving: Faces, plan: Any, *others: Any) -> tuple[Faces, Faces]:
        source, driving = original(source, driving, plan, *others)
        if plan.draws.step in steps:
            source.pictures[0, 0, 0, 0] = float("nan")
        return source, driving

    monkeypatch.setattr(training.fit.trainer, "augment", poisoned)


def test_a_nan_step_is_left_out_and_counted(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(heads)
    fit(tiny_config(heads, full={"steps": 0}), tmp_path / "two")
    two = load_state(tmp_path / "two" / CHECKPOINT)
    poison({2, 3}, monkeypatch)
    fit(config, tmp_path / "four")
    four = load_state(tmp_path / "four" / CHECKPOINT)
    assert four.skipped == 2
    assert "step 3 left out" in caplog.text
    assert all(torch.equal(two.model[key], four.model[key]) for key in two.model)  # BatchNorm's statistics too
    assert [line.get("total") is None for line in stats(tmp_path / "four")] == [False, False, True, True]
    assert stats(tmp_path / "four")[-1]["skipped"] == 2


def test_too_many_nan_steps_stop_the_run(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(heads, run={"max_bad_steps": 1}, motion={"steps": 9}, log={"checkpoint_every": 1})
    poison({2, 4, 5}, monkeypatch)
    with pytest.raises(FitError, match=r"2 steps in a row had a loss or gradient that is not finite, the last one 5"):
        fit(config, tmp_path)
    assert load_state(tmp_path / CHECKPOINT).step == 5


def test_a_full_disk_leaves_the_old_checkpoint(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, full={"steps": 0})
    fit(config, tmp_path)
    old = (tmp_path / CHECKPOINT).read_bytes()
    more = tiny_config(heads, motion={"steps": 3}, full={"steps": 0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, before[1]))
    try:
        with pytest.raises(StateError, match=r"cannot be written .*is unchanged.*Make room"):
            fit(more, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / CHECKPOINT).read_bytes() == old
    assert not list(tmp_path.glob(".*partial"))
    assert fit(more, tmp_path).step == 3


def test_a_damaged_checkpoint_is_refused(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, full={"steps": 0}, motion={"steps": 1})
    fit(config, tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    # Cut short, empty, a pickle that ends early, and pickles of nothing that is known or of what is called wrongly.
    for content in (
        whole[:1000],
        b"",
        b"\x80\x02",
        b"\x80\x6a\x02.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02\x8a\xff.",
        b"K",
    ):
        (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(StateError, match=r"cannot be read as a checkpoint: .* move it away to start anew"):
            fit(config, tmp_path)
    torch.save({"format": "another"}, tmp_path / CHECKPOINT)
    with pytest.raises(StateError, match="no training checkpoint of this version"):
        fit(config, tmp_path)


def test_another_run_is_not_continued_and_changes_are_named(
    heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    short: dict[str, dict[str, object]] = {"full": {"steps": 0}, "motion": {"steps": 1}}
    fit(tiny_config(heads, **short), run)
    with pytest.raises(FitError, match=r"model\.output_kernel: 3 -> 5"):
        fit(tiny_config(heads, **short, model={"output_kernel": 5}), run)
    with pytest.raises(FitError, match=r"run\.seed: 3 -> 4"):
        fit(tiny_config(heads, **short, run={"seed": 4}), run)
    other = write_dataset(tmp_path / "other", [Clip("a", "zoe", "train", 2), Clip("s", "dee", "train", 1)])
    with pytest.raises(FitError, match="the data's fingerprint"):
        fit(tiny_config(other, **short), run)
    fit(tiny_config(heads, full={"steps": 0}, motion={"steps": 2}, loss={"warped": 7.0}), run)
    assert "changed since the last call: loss.warped: 10.0 -> 7.0" in caplog.text
    measured: dict[str, object] = {"keypoints": "measured", "keypoint_points": [386, 159, 1, 291, 61]}
    with pytest.raises(FitError, match=r"data\.keypoint_points: .*; data\.keypoints: 'detected' -> 'measured'"):
        fit(tiny_config(heads, **short, data=measured), run)
    fit(tiny_config(heads, **short, data=measured), tmp_path / "measured")
    points = [374, 145, 1, 291, 61]
    moved = tiny_config(heads, **short, data={**measured, "keypoint_points": points}, loss={"guidance_points": points})
    with pytest.raises(FitError, match=r"data\.keypoint_points: \[386, .*\] -> \[374, 145, 1, .*\]\. Use another"):
        fit(moved, tmp_path / "measured")


def test_a_run_that_can_draw_no_sheets_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_dataset(tmp_path / "data", [Clip("a", "ann", "train", 3), Clip("s", "dee", "test", 1)])
    for every, told in ((1, True), (0, False)):
        caplog.clear()
        config = tiny_config(
            data,
            data={"stills_share": 0.0},
            full={"steps": 0},
            motion={"steps": 1},
            log={"sheet_every": every},
        )
        fit(config, tmp_path / f"run of {every}")
        assert ("there will be no sample sheets: the split 'test' of" in caplog.text) is told


def test_a_run_has_its_beginning_from_its_first_call(
    heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it begins with, and where, says nothing to a run that has a checkpoint."""
    run = tmp_path / "run"

    def config(steps: int, **begun: object) -> FitConfig:
        return tiny_config(heads, full={"steps": 0}, motion={"steps": steps, "warmup_steps": 2}, run=begun)

    fit(config(2, first_step=1), run)
    fit(config(3, first_step=9, initial="nothing"), run)
    for told in ("run.first_step: 1 -> 9 has no effect: the run goes on", "run.initial: '' -> 'nothing' has no effect"):
        assert told in caplog.text
    assert "changed since the last call: run" not in caplog.text
    rates = [line["learning_rate"] for line in stats(run)]
    assert rates == pytest.approx([1e-4, 2e-4])
    kept = load_state(run / CHECKPOINT).config["run"]
    assert (kept["initial"], kept["first_step"]) == ("", 1)


def test_the_card_tells_of_all_data_that_went_into_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [Clip("a", "ann", "train", 3, licence="CC0"), Clip("b", "ben", "more", 3, licence="CC BY 4.0")]
    data = write_dataset(tmp_path / "data", clips)

    def config(folder: Path, split: str, steps: int, **run: object) -> FitConfig:
        stages: dict[str, dict[str, object]] = {"motion": {"steps": steps}, "full": {"steps": 0}}
        return tiny_config(folder, data={"split": split, "stills_share": 0.0}, run=run, **stages)

    fit(config(data, "train", 1), tmp_path / "run")
    fit(config(data, "more", 2), tmp_path / "run")
    fit(config(data, "more", 3), tmp_path / "run")
    told = export(tmp_path / "run", tmp_path / "first.safetensors").training
    assert told["data"]["licences"] == {"CC0": 1, "CC BY 4.0": 1}
    assert (told["data"]["clips"], told["data"]["clip_identities"]) == (2, 2)
    # A model that begins with those weights has their licences beside its own; and so have those that begin with it.
    other = write_dataset(tmp_path / "other", [Clip("c", "cyd", "train", 3, licence="MIT")])
    before = tmp_path / "first.safetensors"
    for name in ("second", "third"):
        fit(config(other, "train", 1, initial=str(before)), tmp_path / name)
        assert main(["export", str(tmp_path / name), str(tmp_path / "models" / name)]) == 0
        assert "licences of the data: MIT (1 clip)\n" in (printed := capsys.readouterr().out)
        assert "licences of the initial model's data: " in printed
        card = read_card(tmp_path / "models" / name / MODEL_FILE)
        assert card.training["data"]["licences"] == {"MIT": 1}
        assert {"CC0", "CC BY 4.0"} <= set(card.training["initial"]["licences"])
        assert all(licence in card.licence for licence in ("MIT", "CC0", "CC BY 4.0"))
        text = (tmp_path / "models" / name / "README.md").read_text(encoding="utf-8")
        assert text.startswith("---\nlicense: other\n")
        assert f"It began with the weights of {before.stem}" in text
        assert "| CC BY 4.0 | 1 |" in text
        before = tmp_path / "models" / name


def test_a_checkpoint_of_one_discriminator_goes_on(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, loss={"gan": 1.0, "discriminator_widths": [4, 4, 4, 4]})
    fit(config, tmp_path / "whole")
    fit(config, tmp_path / "parts", max_minutes=0)
    path = tmp_path / "parts" / CHECKPOINT
    values = torch.load(path, weights_only=True)
    assert values["format"] == "mcnet-training/3"
    # As the version before wrote it: no parts of discriminators, no keys of what came later.
    values["format"] = "mcnet-training/2"
    values["discriminator"] = {name.removeprefix("whole."): value for name, value in values["discriminator"].items()}
    del values["config"]["loss"]["crop_discriminator_widths"], values["config"]["loss"]["occlusion_by"]
    torch.save(values, path)
    assert fit(config, tmp_path / "parts").reason == "done"
    same_state(load_state(path), load_state(tmp_path / "whole" / CHECKPOINT))


def test_a_discriminator_that_joins_later_leaves_the_other_its_weights(
    heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    still: dict[str, object] = {"steps": 1, "batch": 1, "learning_rate": 0.0, "decay": "none"}
    loss: dict[str, object] = {"gan": 1.0, "discriminator_widths": [4, 4, 4, 4]}
    loss["crop_discriminator_widths"] = loss["discriminator_widths"]  # those of a run stay
    fit(tiny_config(heads, loss=loss, motion={"steps": 0}, full={**still, "learning_rate": 1e-3}), tmp_path)
    before = load_state(tmp_path / CHECKPOINT).discriminator
    loss |= {"crops_gan": 1.0, "crop_px": 64}
    fit(tiny_config(heads, loss=loss, motion={"steps": 0}, full={**still, "steps": 2}), tmp_path)
    after = load_state(tmp_path / CHECKPOINT).discriminator
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(name.startswith("crops.") for name in after)
    assert "other discriminators play than in the last call" in caplog.text


def test_weights_are_taken_where_they_fit(heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = tiny_config(heads, full={"steps": 1}, motion={"steps": 1})
    fit(first, tmp_path / "first")
    export(tmp_path / "first", tmp_path / "first.safetensors")
    wider: dict[str, object] = {"base": "tiny", "motion_hourglass": {"width": 12}}
    second = tiny_config(
        heads,
        model=wider,
        run={"initial": str(tmp_path / "first.safetensors")},
        motion={"steps": 1, "learning_rate": 0.0},
        full={"steps": 0},
    )
    fit(second, tmp_path / "second")
    state, given = load_state(tmp_path / "second" / CHECKPOINT), load_model(tmp_path / "first.safetensors").state_dict()
    key = "keypoint_detector.logits.weight"
    assert torch.equal(state.model[key], given[key])
    taken = state.facts["initial"]
    assert taken["from"] == "first"
    assert "generator.dense_motion.hourglass.down_blocks.0.conv" in taken["fresh"]
    assert "generator.final" not in taken["fresh"]
    assert 0 < taken["taken"] < len(given)
    assert f"took {taken['taken']} of {len(given)} tensors" in caplog.text


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_keypoints_motion_and_sampling_stay_float32(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    seen: list[tuple[torch.dtype, ...]] = []
    decoded: list[torch.dtype] = []
    original = full_outputs

    def watched(model: Mcnet, *arguments: Any) -> Any:
        handle = model.generator.final.register_forward_hook(lambda _m, _i, output: decoded.append(output.dtype))
        outputs = original(model, *arguments)
        handle.remove()
        assert outputs.motion is not None
        assert outputs.warped is not None
        parts: list[Tensor] = [*outputs.source, *outputs.driving, *outputs.motion, outputs.warped]
        seen.append(tuple(part.dtype for part in parts))
        assert outputs.prediction is not None
        assert outputs.prediction.dtype == torch.float32
        return outputs

    monkeypatch.setattr(training.fit.trainer, "full_outputs", watched)
    fit(tiny_config(heads, run={"precision": precision}, motion={"steps": 0}, full={"steps": 1}), tmp_path)
    assert set(seen[0]) == {torch.float32}
    assert decoded == [torch.bfloat16 if precision == "bf16" else torch.float32]
    assert math.isfinite(stats(tmp_path)[0]["total"])


def test_a_network_without_memory_and_ones_with_another(heads: Path, tmp_path: Path) -> None:
    models: list[dict[str, object]] = [
        {"memory": {"levels_px": []}},
        {"memory": {"conditioning": "keypoints+appearance"}},
        {"memory": {"conditioning": "none"}},
    ]
    for number, model in enumerate(models):
        run = tmp_path / str(number)
        fit(tiny_config(heads, model=model, motion={"steps": 0}, full={"steps": 1}), run)
        line = stats(run)[0]
        assert ("feature_consistency" in line) == (number > 0)
        assert line["gradient_generator"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("run", [{"device": "cuda"}, {"device": "auto", "precision": "fp16"}])
def test_a_missing_gpu_is_told(heads: Path, tmp_path: Path, run: dict[str, object]) -> None:
    with pytest.raises(FitError, match="there is no CUDA device here"):
        fit(tiny_config(heads, run=run), tmp_path)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_resumes_and_exports(heads: Path, tmp_path: Path, precision: str) -> None:
    loss: dict[str, object] = {} if precision == "fp16" else {"gan": 1.0, "discriminator_widths": [4, 4, 4, 4]}
    config = tiny_config(heads, run={"device": "cuda", "precision": precision}, loss=loss, log={"sheet_every": 2})
    assert fit(config, tmp_path, max_minutes=0.0).step == 1
    assert fit(config, tmp_path).step == 4
    lines = [line for line in stats(tmp_path) if "total" in line]
    assert all(math.isfinite(line["total"]) for line in lines)
    export(tmp_path, tmp_path / "out.safetensors")


def test_the_backbones_weights_are_missing(heads: Path, tmp_path: Path) -> None:
    from training.fit.backbones import BackboneError

    config = tiny_config(heads, loss={"perceptual": 1.0, "backbone_weights": str(tmp_path / "none.pth")})
    with pytest.raises(BackboneError, match="there is no file"):
        fit(config, tmp_path / "run")


def test_stages_and_learning_rates(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(Path(), motion={"steps": 10}, full={"steps": 0, "epochs": 4, "repeats": 6, "batch": 2})
    stages = resolve_stages(config, clips=5, processes=3)
    assert [(s.name, s.first, s.steps) for s in stages] == [("motion", 0, 10), ("full", 10, 4 * (6 * 5 // 6))]
    assert [stage_at(stages, step).name for step in (0, 9, 10, 99)] == ["motion", "motion", "full", "full"]
    steps = Stage("full", StageConfig(steps=10, learning_rate=1.0, decay="steps", decay_at=(0.5, 0.8)), 100, 10)
    assert [learning_rate(steps, 100 + n) for n in (0, 4, 5, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = Stage("full", StageConfig(learning_rate=1.0, decay="cosine", decay_factor=0.2, warmup_steps=2), 0, 10)
    assert [learning_rate(cosine, n) for n in (0, 5, 10)] == pytest.approx([0.5, 0.6, 0.2])
    by_time = Stage("full", dataclasses.replace(cosine.config, decay_by="time"), 0, 1000)
    assert [learning_rate(by_time, 9, 0, share) for share in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])
    # A run that begins at step 6 of the schedule warms up there.
    assert [learning_rate(cosine, n, 6) for n in (6, 7)] == pytest.approx([0.5 * 0.4764, 0.3649], rel=1e-3)
    with pytest.raises(FitError, match=r"first_step is 4, but the stages have 4 steps"):
        fit(tiny_config(heads, run={"first_step": 4}), tmp_path)
    with pytest.raises(FitError, match="nothing to do"):
        resolve_stages(tiny_config(Path(), motion={"steps": 0}, full={"steps": 0}), 1, 1)


def test_an_exported_model_gives_the_same_picture(heads: Path, plain: Path, tmp_path: Path) -> None:
    config = tiny_config(heads)
    state = load_state(plain / CHECKPOINT)
    model = Mcnet(config.model).eval()
    model.load_state_dict(state.ema)
    pictures = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(5))
    # float16 rounds weights by up to 2^-11 of their size, which may be 5 steps of 255 after all the layers.
    for half, bar in ((False, PICTURE), (True, 5 / 255)):
        info = export(plain, tmp_path / f"{half}.safetensors", name="mine", half=half)
        written = load_model(tmp_path / f"{half}.safetensors")
        with torch.inference_mode():
            assert largest_error(written(pictures[:1], pictures[1:]), model(pictures[:1], pictures[1:])) <= bar
        assert written.info == info
        assert written.info.name == "mine"
        assert written.info.training["steps"] == 4
        assert written.info.training["data"]["clip_identities"] == 2
        assert written.info.training["data"]["licences"] == {"CC BY 4.0": 2, "not stated": 3}  # not the held-out clip's
        assert written.info.training["last"]["step"] == 4


def test_an_export_that_does_not_fit_says_what_differs(heads: Path, tmp_path: Path) -> None:
    fit(tiny_config(heads, motion={"steps": 1}, full={"steps": 0}), tmp_path)
    state = load_state(tmp_path / CHECKPOINT)
    state.config["model"]["output_kernel"] = 5
    save_state(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt does not hold the network it should: .*got .*expected"):
        export(tmp_path / "other.pt", tmp_path / "x.safetensors")
    state.config["lose"] = {}
    save_state(state, tmp_path / "newer.pt")
    with pytest.raises(StateError, match="unknown config key lose"):
        export(tmp_path / "newer.pt", tmp_path / "x.safetensors")
    with pytest.raises(StateError, match=r"holds no checkpoint\.pt"):
        export(tmp_path / "sheets", tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"expected \.safetensors"):
        export(tmp_path, tmp_path / "x.pth")
    assert not (tmp_path / "x.safetensors").exists()


_WORKER = """
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    torch.randn_like = torch.zeros_like  # the memory's noise is each process's own, so it is silenced here and there
    from training.fit.config import load_config
    from training.fit.loop import fit
    print("begins", flush=True)
    fit(load_config(sys.argv[1]), Path(sys.argv[2]))
"""


def test_two_processes_are_one_with_twice_the_batch(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # BatchNorm sees each process's own batch on a CPU (torch synchronises it on GPUs only), so that its statistics are
    # frozen here, in both runs. Everything else is as it always is: sampling, augmentation, averaging, clipping.
    tables: dict[str, dict[str, object]] = {
        **ASKED,
        "run": {"freeze_batchnorm": True},
        "motion": {"steps": 2, "batch": 2},
        "full": {"steps": 2, "batch": 1},
    }
    config = tiny_config(heads, **tables)
    (tmp_path / "two.toml").write_text(format_config(config), encoding="utf-8")
    tables["motion"]["batch"], tables["full"]["batch"] = 4, 2
    alone = tiny_config(heads, **tables)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    program = code_without("cv2") + textwrap.dedent(_WORKER)
    first = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "two.toml"), str(tmp_path / "run of 2")],
        env={**os.environ, **place, "RANK": "0", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    fit(alone, tmp_path / "run of 1")
    assert first.stdout is not None
    assert first.stderr is not None
    if first.stdout.readline() != "begins\n":
        pytest.fail(first.stderr.read())
    # The second process is this one: it has imported all that a process of its own would import once more.
    level = logging.getLogger("training").level
    with monkeypatch.context() as patch:
        for name, value in {**place, "RANK": "1", "LOCAL_RANK": "1"}.items():
            patch.setenv(name, value)
        try:
            fit(config, tmp_path / "run of 2")
        finally:
            logging.getLogger("training").setLevel(level)
            _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    two, one = stats(tmp_path / "run of 2"), stats(tmp_path / "run of 1")
    assert len(two) == len(one) == 4
    for ours, theirs in zip(two, one, strict=True):
        names = ["total", "warped_l1", "guidance", "gradient_detector", "gradient_generator"]
        if ours["stage"] == "full":
            names += ["adversarial_factor", "crops", "picture_openings", "discriminator"]
        for name in names:
            # Rounding errors grow from step to step, as is told below; a batch that is halved wrongly is a matter of
            # percents, as each picture differs from the next.
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3), (ours["step"], name)
    assert two[0]["total"] == pytest.approx(one[0]["total"], rel=LOGGED)
    weights = [load_state(tmp_path / f"run of {n}" / CHECKPOINT).model for n in (2, 1)]
    # Adam turns a gradient's sign into a step, so that rounding moves single weights by a whole step; few of them.
    far = sum(int(((weights[0][key] - weights[1][key]).abs() > 2e-5).sum()) for key in weights[0])
    assert far < 0.01 * sum(value.numel() for value in weights[0].values())


def command(*arguments: str) -> int:
    return main(arguments)


def write_config(path: Path, **changes: dict[str, object]) -> Path:
    config = tiny_config(Path("unused"), **changes)
    path.write_text(format_config(config), encoding="utf-8")
    return path


def test_the_command_fits_resumes_and_exports(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(write_config(tmp_path / "mine.toml"))
    fitting = ("fit", config, "--run-dir", str(tmp_path / "run"), "--data", str(heads))
    with monkeypatch.context() as patch:
        kill_at(2, signal.SIGTERM, patch)
        assert command(*fitting) == 128 + signal.SIGTERM
    assert command(*fitting) == 0
    out = tmp_path / "mine.safetensors"
    assert command("export", str(tmp_path / "run"), str(out), "--half") == 0
    told = capsys.readouterr().out
    assert "mine, 4 steps" in told
    assert "licences of the data: CC BY 4.0 (2 clips), not stated (3 clips)" in told
    assert load_model(out).info.name == "mine"


def test_the_command_prints_the_resolved_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("fit", "smoke", "--dry-run", "--set", "loss.l1=3.5", "--data", "somewhere") == 0
    printed = capsys.readouterr().out
    assert "l1 = 3.5" in printed
    assert 'path = "somewhere"' in printed
    assert "num_keypoints = 5" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "smoke"), "data.path is empty"),
        (("fit", "smoke", "--data", "nowhere"), "nowhere is no dataset"),
        (("fit", "smoke", "--set", "a.b=1", "--data", "x"), "unknown config key a"),
        (("export", "nowhere", "x.safetensors"), "nowhere holds no checkpoint.pt"),
        (("pack", "nowhere", "out"), "nowhere holds no clips.json, expected a dataset: mcnet-train prepare makes one"),
        (("pack", "nowhere", "a file"), "cannot pack into a file: it is a file, expected an empty folder"),
        (
            ("export", "nowhere", "out", "--figures", "none"),
            "cannot use the file none: No such file or directory; check",
        ),
        (
            ("export", "nowhere", "out", "--figures", "a file"),
            "a file: got figures of format 'other', expected 'mcnet-",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").write_text('{"format": "other"}', encoding="utf-8")
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
    ],
)
def test_too_little_memory_is_told(
    error: Exception, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("training.fit.loop.fit", large)
    assert command("fit", "smoke", "--data", str(heads), "--run-dir", str(tmp_path)) == 2
    assert "not enough memory: close other programs, or take smaller batches" in capsys.readouterr().err
    monkeypatch.setattr("training.fit.loop.fit", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        command("fit", "smoke", "--data", str(heads), "--run-dir", str(tmp_path))


def test_a_full_disk_leaves_the_figures_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stats.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"st\xff')
    before = (tmp_path / "stats.jsonl").read_bytes()

    def full(path: Path, *_: object, **__: object) -> int:
        path.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            Journal(tmp_path, 1, tensorboard=False)
    assert (tmp_path / "stats.jsonl").read_bytes() == before


def test_lines_of_a_journal_beyond_the_step_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st', encoding="utf-8")
    Journal(tmp_path, 1, tensorboard=False).close()
    assert (tmp_path / "stats.jsonl").read_text(encoding="utf-8") == '{"step": 1}\n'
    assert TINY["log"]["tensorboard"] is False


@pytest.mark.parametrize("name", ["checkpoint.pt", "latest.safetensors", "stats.jsonl", "curves.png", "config.toml"])
def test_a_folder_in_a_files_place_is_told_before_the_first_step(name: str, heads: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"the run's folder .*{re.escape(name)}: it is a folder, expected a file's"):
        fit(tiny_config(heads), tmp_path / "run")
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [name]


@pytest.mark.parametrize("name", ["sheets", "tensorboard"])
def test_a_file_in_a_folders_place_is_told_before_the_first_step(name: str, heads: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(FitError, match=f"{name} is a file, expected a folder: move it away"):
        fit(tiny_config(heads), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_run_that_is_a_file_is_told(heads: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="it is a file, expected a folder, or the name of a new one"):
        fit(tiny_config(heads), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": {"initial": "nothing"}}, "no model 'nothing'"),
        ({"loss": {"perceptual": 1.0, "backbone_weights": "nothing.pt"}}, "there is no file nothing.pt"),
    ],
)
def test_what_is_given_by_name_is_read_before_clips_are_unpacked(
    changes: dict[str, dict[str, object]], message: str, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    table = (Clip("no such.mp4", "ann", "train", 5), Clip("none.jpg", "ben", "train", 1))
    write_table(clips / "clips.json", CLIPS_FORMAT, ClipTable(SIZE_PX, table))
    with pytest.raises(UserError, match=message):
        fit(tiny_config(clips, **changes), tmp_path / "run")


def test_a_folder_in_the_place_of_a_models_file_is_told_before_the_export(heads: Path, tmp_path: Path) -> None:
    fit(tiny_config(heads), tmp_path / "run")
    (tmp_path / "out" / "README.md").mkdir(parents=True)
    (tmp_path / "out" / "model.safetensors").write_bytes(b"of before")
    with pytest.raises(OutputError, match=r"README\.md .*: it is a folder, expected a file's name"):
        export(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"of before"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_run_and_a_model_may_have_any_name(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "caf\udce9", tmp_path / "model"
    result = fit(tiny_config(heads, log={"tensorboard": True}), run)
    assert result.reason == "done"
    assert load_model(run / "latest.safetensors").info.name == "caf\N{REPLACEMENT CHARACTER}"
    assert command("export", str(run), str(out), "--name", "mine\nrm -rf /\x1b[2J") == 0
    assert load_model(out).info.name == "mine rm -rf /\N{REPLACEMENT CHARACTER}[2J"
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert not any(line.startswith("rm -rf") for line in readme.splitlines())
    assert "\x1b" not in readme + capsys.readouterr().out


@pytest.mark.parametrize(
    ("size_px", "changes", "message"),
    [
        (SIZE_PX, {"data": {"stills_share": 0.3}}, r"has no stills in split 'train' .*--set data\.stills_share=0"),
        (SIZE_PX, {"data": {"split": "nobody"}}, r"in split 'nobody' .*another split \(--set data\.split=train\)"),
        (2 * SIZE_PX, {}, f"the data has pictures of {2 * SIZE_PX} px, the model wants {SIZE_PX} px: prepare"),
    ],
)
def test_data_that_does_not_suit_is_told_before_it_is_unpacked(
    size_px: int, changes: dict[str, dict[str, object]], message: str, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_table(clips / "clips.json", CLIPS_FORMAT, ClipTable(size_px, (Clip("no such.mp4", "ann", "train", 5),)))
    with pytest.raises(UserError, match=message):
        fit(tiny_config(clips, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "frames").exists()
