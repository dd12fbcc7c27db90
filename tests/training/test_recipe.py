from pathlib import Path

import pytest

from mcnet.checkpoint import load_model
from training.fit.state import CHECKPOINT, load_state
from training.recipes import starter

SMALL = (
    "run.device=cpu",
    "model.base=tiny",
    "loss.guidance_points=[386, 159, 1, 291, 61]",
    "loss.scales=[2]",
    "detector.steps=1",
    "detector.batch=2",
    "motion.steps=1",
    "motion.batch=2",
    "full.steps=2",
    "full.batch=1",
)


def run(data: Path, folder: Path, *more: str) -> int:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return starter.main(
        ["train", str(data), str(folder / "out.safetensors"), "--run-dir", str(folder / "run"), *settings, *more]
    )


def test_the_recipe_starts_resumes_and_exports(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(heads, tmp_path, "--max-minutes", "0") == 0
    assert "after 1 steps; stopped (time); call again to go on" in capsys.readouterr().out
    assert run(heads, tmp_path) == 0
    assert "after 4 steps; all steps are done" in capsys.readouterr().out
    assert load_model(tmp_path / "out.safetensors").info.training["steps"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "out.safetensors", "out.stats.jsonl", "run"]

    # On a machine that has only the model of an earlier call, the schedule goes on where that call was.
    there = tmp_path / "there"
    there.mkdir()
    longer = ("--resume-from", str(tmp_path / "out.safetensors"), "--set", "full.steps=3")
    assert run(heads, there, *longer) == 0
    state = load_state(there / "run" / CHECKPOINT)
    assert state.step == 5
    assert state.facts["initial"]["fresh"] == []
    assert '"step": 5, "stage": "full"' in (there / "out.stats.jsonl").read_text()
    assert '"step": 1,' not in (there / "out.stats.jsonl").read_text()


def test_the_recipe_tells_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path) == 2
    assert "is no dataset" in capsys.readouterr().err
