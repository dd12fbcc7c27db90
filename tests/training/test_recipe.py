import shutil
from pathlib import Path

import numpy as np
import pytest

from mcnet.checkpoint import load_model
from tests.training.conftest import SIZE_PX
from training.data import PACKED_FORMAT, read_table, write_table
from training.fit.state import CHECKPOINT, load_state
from training.recipes import starter, studio

SMALL = (
    "run.device=cpu",
    "model.base=tiny",
    f"model.size_px={SIZE_PX}",
    f"loss.warped_px={SIZE_PX}",
    "loss.guidance_points=[386, 159, 1, 291, 61]",
    "data.keypoint_points=[386, 159, 1, 291, 61]",
    "data.linear_share=0",  # the detector learns here
    "loss.scales=[2]",
    "loss.picture_openings=0",  # it needs points on both sides of an opening
    "augment.moved_stills=0",  # they need landmarks in space
    "augment.moved_clips=0",
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

    # It stops before there is a line to write.
    soon = tmp_path / "soon"
    soon.mkdir()
    assert run(heads, soon, "--max-minutes", "0", "--set", "run.first_step=1") == 0
    assert "after 2 steps; stopped (time)" in capsys.readouterr().out
    assert (soon / "out.stats.jsonl").read_text(encoding="utf-8") == ""

    # On a machine that has only the model of an earlier call, the schedule goes on where that call was.
    there = tmp_path / "there"
    there.mkdir()
    longer = ("--resume-from", str(tmp_path / "out.safetensors"), "--set", "full.steps=3")
    assert run(heads, there, *longer) == 0
    state = load_state(there / "run" / CHECKPOINT)
    assert state.step == 5
    assert state.facts["initial"]["fresh"] == []
    assert '"step": 5, "stage": "full"' in (there / "out.stats.jsonl").read_text(encoding="utf-8")
    assert '"step": 1,' not in (there / "out.stats.jsonl").read_text(encoding="utf-8")
    # The same call again goes on with the run; another model is nothing that it could go on from.
    assert run(heads, there, *longer) == 0
    capsys.readouterr()
    before = (there / "run" / CHECKPOINT).read_bytes()
    assert run(heads, there, "--resume-from", str(there / "out.safetensors")) == 2
    assert "leave out --resume-from to go on with it, or choose another --run-dir" in capsys.readouterr().err
    assert (there / "run" / CHECKPOINT).read_bytes() == before


@pytest.fixture
def large_heads(heads: Path, tmp_path: Path) -> Path:
    """The made-up heads at 512 px."""
    folder = tmp_path / "large"
    folder.mkdir()
    frames = np.fromfile(heads / "frames.u8", np.uint8).reshape(-1, SIZE_PX, SIZE_PX, 3)
    times = 512 // SIZE_PX
    (folder / "frames.u8").write_bytes(frames.repeat(times, 1).repeat(times, 2).tobytes())
    shutil.copyfile(heads / "landmarks.npz", folder / "landmarks.npz")
    table = read_table(heads / "dataset.json", PACKED_FORMAT)
    write_table(folder / "dataset.json", PACKED_FORMAT, table._replace(size_px=512))
    return folder


def test_the_studio_trains_at_512_px(large_heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shrunk = (
        "run.device=cpu",
        "model.encoder_widths=[4, 6, 8, 8, 8]",
        "model.decoder_widths=[8, 8, 6, 6, 4]",
        "loss.scales=[4]",
        "loss.crop_px=64",
        "augment.moved_stills=0",  # they need landmarks in space
        "augment.moved_clips=0",
        "motion.steps=1",
        "motion.batch=1",
        "full.steps=1",
        "log.sheet_rows=1",
    )
    out = tmp_path / "studio.safetensors"
    settings = [part for setting in shrunk for part in ("--set", setting)]
    assert studio.main(["train", str(large_heads), str(out), "--run-dir", str(tmp_path / "run"), *settings]) == 0
    assert "after 2 steps; all steps are done" in capsys.readouterr().out
    model = load_model(out)
    assert model.config.level_sizes_px == (32, 64, 128, 256, 512)
    assert model.info.ranges
    # Detector and motion are the bundled model's at first.
    fresh = load_state(tmp_path / "run" / CHECKPOINT).facts["initial"]["fresh"]
    parts = ("keypoint_detector.hourglass", "keypoint_detector.logits", "generator.dense_motion.hourglass")
    assert not any(module.startswith(parts) for module in fresh)
    assert "generator.final" in fresh
    assert out.with_suffix(".png").is_file()


def test_the_recipe_tells_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path) == 2
    assert "is no dataset" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.png", "out.stats.jsonl"])
def test_what_cannot_be_written_beside_the_model_is_told_at_once(
    name: str, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    assert run(heads, tmp_path) == 2
    assert f"{name}: it is a folder, expected a file's name" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
