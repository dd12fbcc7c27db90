"""A training that travels: small data, a machine with torch, NumPy and OpenCV alone, and the way back."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from mcnet.checkpoint import load_model, save_model
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.model_file import ModelInfo
from tests.bare import code_without
from tests.tolerance import EPSILON
from tests.training.conftest import SIZE_PX, head, write_video
from training.data import (
    CLIP,
    CLIPS_FORMAT,
    PHOTOS,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    decode,
    read_landmarks,
    read_table,
    write_landmarks,
    write_table,
)
from training.fit.config import FitConfig, format_config, load_config
from training.fit.loop import AfterStage, FitResult
from training.fit.profiling import StageProfile
from training.fit.stages import in_steps
from training.fit.state import CHECKPOINT, load_state
from training.landmarks import TRAINING_POINTS
from training.prepare.portable import write_jpeg
from training.prepare.small import RATE_HZ, shrink_clips
from training.recipes import journey, plain_safetensors, starter

LARGEST_STEP = 2.0**-12 + 0.5 / 8192
"""Of a landmark: float16 below 1, and the rounding of its differences."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips: at 25 and at 12.5 frames per second, two photographs of one person, one held out, a still."""
    folder = tmp_path_factory.mktemp("journey") / "clips"
    folder.mkdir()
    kinds = (
        ("a.mp4", "ann", "train", 7, 25.0, CLIP),
        ("b.mp4", "ben", "train", 4, 12.5, CLIP),
        ("p.mp4", "pat", "train", 3, 25.0, PHOTOS),
        ("c.mp4", "cyd", "test", 4, 25.0, CLIP),
        ("s.jpg", "dee", "train", 1, 0.0, CLIP),
    )
    rows: list[Clip] = []
    places: list[NDArray[np.float32]] = []
    for number, (name, identity, split, count, rate, kind) in enumerate(kinds):
        frames = [head(number, 0.5 + 0.02 * index, 0.5, 0.03 + 0.004 * index) for index in range(count)]
        if rate:
            write_video(folder / name, [picture for picture, _ in frames], rate)
        else:
            write_jpeg(folder / name, frames[0][0])
        places += [landmarks for _, landmarks in frames]
        rows.append(Clip(name, identity, split, count, kind, "CC0"))
    valid = np.ones(len(places), bool)
    valid[2] = False
    stacked = np.stack(places).astype(np.float16)
    depth = (stacked[..., 0] - 0.7).astype(np.float16)
    write_landmarks(folder / "landmarks.npz", Landmarks(np.array(TRAINING_POINTS), stacked, valid, depth))
    write_table(folder / "clips.json", CLIPS_FORMAT, ClipTable(SIZE_PX, tuple(rows)))
    return folder


def test_clips_are_halved_and_recoded_where_they_are_not_small(clips: Path, tmp_path: Path) -> None:
    report = shrink_clips(clips, tmp_path / "small")
    assert (report.clips, report.frames, report.skipped) == (5, 4 + 4 + 3 + 2 + 1, ())
    table = read_table(tmp_path / "small/clips.json", CLIPS_FORMAT)
    assert [(clip.identity, clip.split, clip.frames) for clip in table.clips] == [
        ("ann", "train", 4),
        ("ben", "train", 4),
        ("pat", "train", 3),
        ("cyd", "test", 2),
        ("dee", "train", 1),
    ]
    assert table.clips[2].kind == PHOTOS
    assert {clip.licence for clip in table.clips} == {"CC0"}
    kept = [0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18]
    given, got = (read_landmarks(folder / "landmarks.npz") for folder in (clips, tmp_path / "small"))
    assert np.array_equal(got.valid, given.valid[kept])
    assert got.landmarks.dtype == np.float16
    error = np.abs(got.in_space.astype(float) - given.in_space[kept].astype(float)).max((1, 2))
    assert error[got.valid].max() <= LARGEST_STEP
    assert (got.landmarks[~got.valid] == 0).all()
    frames = np.stack([frame for clip in table.clips for frame in decode(tmp_path / "small" / clip.file)])
    files = [clip.file for clip in read_table(clips / "clips.json", CLIPS_FORMAT).clips]
    wanted = np.stack([frame for name in files for frame in decode(clips / name)])[kept]
    assert np.abs(frames.astype(int) - wanted.astype(int)).mean((1, 2, 3)).max() < 4  # HEVC loses a little
    with av.open(str(tmp_path / "small" / table.clips[0].file)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "hevc"
        assert float(stream.average_rate or 0) == pytest.approx(RATE_HZ)
    # What is small already stays as it is, bit for bit.
    again = shrink_clips(tmp_path / "small", tmp_path / "again")
    assert again.frames == report.frames
    for clip in table.clips:
        assert (tmp_path / "again" / clip.file).read_bytes() == (tmp_path / "small" / clip.file).read_bytes()


def test_opencv_decodes_what_travels(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_clips(clips, tmp_path / "small")
    names = [clip.file for clip in read_table(tmp_path / "small/clips.json", CLIPS_FORMAT).clips]
    with_av = [np.stack(list(decode(tmp_path / "small" / name))) for name in names]
    monkeypatch.setitem(sys.modules, "av", None)
    for name, frames in zip(names, with_av, strict=True):
        without = np.stack(list(decode(tmp_path / "small" / name)))
        assert without.shape == frames.shape
        assert np.abs(without.astype(int) - frames.astype(int)).mean() < 1.5


def test_clips_that_cannot_be_used_are_told(clips: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in clips.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "a.mp4").write_bytes(b"no video")
    report = shrink_clips(broken, tmp_path / "small")
    assert (report.clips, len(report.skipped)) == (4, 1)
    assert "a.mp4 cannot be read" in report.skipped[0]
    for name in ("b.mp4", "p.mp4", "c.mp4", "s.jpg"):
        (broken / name).unlink()
    with pytest.raises(DataError, match="none of the 5 clips"):
        shrink_clips(broken, tmp_path / "small")


@pytest.mark.parametrize("deep", [False, True])
def test_differences_take_less_and_go_round(tmp_path: Path, deep: bool) -> None:
    rng = np.random.default_rng(3)
    walk = 0.5 + np.cumsum(rng.normal(0, 0.002, (300, 40, 2)), 0)
    walk[5, 0, 0] = np.nan
    walk[9] = 1.7  # beyond the picture's border
    depth = walk[..., 0].astype(np.float16) if deep else None
    given = Landmarks(np.arange(40), walk.astype(np.float16), rng.random(300) < 0.9, depth)
    for small in (False, True):
        write_landmarks(tmp_path / f"{small}.npz", given, small=small)
    assert (tmp_path / "True.npz").stat().st_size < 0.85 * (tmp_path / "False.npz").stat().st_size
    got = read_landmarks(tmp_path / "True.npz")
    valid = given.valid & np.isfinite(walk).all((1, 2))
    assert np.array_equal(got.valid, valid)
    error = np.abs(got.landmarks[valid].astype(float) - given.landmarks[valid].astype(float))
    assert error.max() <= 2 * LARGEST_STEP  # float16 above 1 has steps twice as large
    assert (got.depth is not None) == deep
    if got.depth is not None and given.depth is not None:
        assert np.abs(got.depth[valid].astype(float) - given.depth[valid].astype(float)).max() <= 2 * LARGEST_STEP


def test_the_stand_in_reads_and_writes_what_the_library_does(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.rand(3, 4, generator=generator),
        "b": torch.rand(5, generator=generator).half(),
        "c": torch.tensor(7),
        "d": torch.zeros(0, 2),
        "e": torch.rand(2, 3, generator=generator).T,
    }
    metadata = {"name": "x", "umlaut": "ä"}
    contents = {
        "library": save({key: value.contiguous() for key, value in tensors.items()}, metadata),
        "stand-in": plain_safetensors.save(tensors, metadata),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        for opened in (safe_open(path, framework="pt"), plain_safetensors.safe_open(path)):
            with opened as file:
                assert file.metadata() == metadata
                assert sorted(file.keys()) == sorted(tensors)
                assert [file.get_slice(key).get_dtype() for key in "abcde"] == ["F32", "F16", "I64", "F32", "F32"]
                assert all(torch.equal(file.get_tensor(key), value) for key, value in tensors.items())
    whole = contents["library"]
    damaged = (whole[:5], whole[:40], whole[:-3], b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]", b"")
    for content in damaged:
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(plain_safetensors.SafetensorError):
            plain_safetensors.safe_open(tmp_path / "damaged")


def test_steps_fill_the_minutes_by_their_shares() -> None:
    config = load_config("starter", ["data.linear_share=0", "detector.steps=9", "motion.steps=9", "full.steps=9"])
    planned = journey.scheduled(config, {"detector": 0.1, "motion": 0.2, "full": 0.5}, 500)
    # The last one goes by the clock, and may have more steps than a profile promises.
    assert [getattr(planned, name).steps for name in ("detector", "motion", "full")] == [1000, 500, 2 * 600]
    assert [getattr(planned, name).decay_by for name in ("detector", "motion", "full")] == ["steps", "steps", "time"]
    assert planned.full.warmup_steps == 60
    assert planned.optim.ema_decay == pytest.approx(1 - 10 / 500, abs=EPSILON)
    # Discriminators join after the same share of their stage.
    late = load_config("starter", ["data.linear_share=0", "full.steps=9", "loss.gan=1", "loss.gan_after=6"])
    assert journey.scheduled(late, {"detector": 0.1, "motion": 0.2, "full": 0.5}, 500).loss.gan_after == 400
    epochs = load_config("starter", ["data.linear_share=0", "full.steps=0", "full.epochs=1", "full.batch=75"])
    epochs = in_steps(dataclasses.replace(epochs, loss=late.loss), [Clip("a", "ann", "train", 2)] * 9)
    assert (epochs.full.steps, epochs.full.epochs) == (9, 0)
    assert journey.scheduled(epochs, {"detector": 0.1, "motion": 0.2, "full": 0.5}, 500).loss.gan_after == 400
    # A stage without steps has no share, and no time at all still makes one step.
    two = journey.scheduled(config, {"motion": 0.2, "full": 0.5}, 500)
    assert (two.motion.steps, two.full.steps) == (int(500 * 0.25 / 0.2), 2 * int(500 * 0.75 / 0.5))
    assert journey.scheduled(config, {"full": 0.5}, -3).full.steps == 2


SMALL = (
    "model.base=tiny",
    f"model.size_px={SIZE_PX}",
    f"loss.warped_px={SIZE_PX}",
    "loss.guidance_points=[386, 159, 1, 291, 61]",
    "data.keypoint_points=[386, 159, 1, 291, 61]",
    "data.linear_share=0",  # the detector learns here
    "loss.scales=[2]",
    "loss.picture_openings=0",
    "run.precision=fp32",
)

_THERE = """
import runpy, torch
torch.set_num_threads(1)
sys.argv = sys.argv[1:]
runpy.run_module("training.recipes.there", run_name="__main__", alter_sys=True)
"""


def command(*arguments: object, small: bool = True) -> int:
    settings = [part for setting in SMALL for part in ("--set", setting)] if small else []
    return starter.main([*map(str, arguments), *settings])


def test_a_training_travels_and_comes_back(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, run = tmp_path / "there", tmp_path / "run"
    assert command("travel", there, clips, "--set", "detector.steps=100") == 0
    assert "there: sh run.sh MINUTES" in capsys.readouterr().out
    assert sum(file.stat().st_size for file in there.rglob("*") if file.is_file()) < journey.LARGEST_FOLDER
    # A Python that has torch, NumPy and OpenCV, and none of the others; run.sh calls it by PYTHON.
    python = tmp_path / "python"
    (tmp_path / "bare.py").write_text(code_without("safetensors") + _THERE, encoding="utf-8")
    python.write_text(
        f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{tmp_path / "bare.py"}" there "$@"\n', encoding="utf-8"
    )
    python.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    called = subprocess.run(
        ["sh", str(there / "run.sh"), "0.1"],
        env={**environment, "PYTHON": str(python)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        encoding="utf-8",
    )
    assert called.returncode == 0, called.stderr
    back = there / "out"
    log = (back / "log.txt").read_text(encoding="utf-8")
    assert "tensors from" in log
    assert "ended before its end" not in log
    stages = ["detector", "motion", "full"]
    profile = (back / "profile.txt").read_text(encoding="utf-8")
    assert [line.split(":")[0] for line in profile.splitlines() if "pairs per second" in line] == stages
    reached = [stage for stage in stages if (back / f"model_{stage}.safetensors").is_file()]
    assert reached == stages[: len(reached)] != []
    for stage in reached:
        model = load_model(back / f"model_{stage}.safetensors")
        assert model.info.training["stage"] == stage
        assert model.info.keypoint_landmarks == (386, 159, 1, 291, 61)  # so that it can be driven
    steps = model.info.training["steps"]
    assert json.loads((back / "stats.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"] <= steps
    assert all(file.stat().st_size < journey.LARGEST_FILE for file in back.rglob("*") if file.is_file())
    assert (back / "sheet.png").is_file()

    out = tmp_path / "mine.safetensors"
    assert command("resume", back, out, "--run-dir", run, small=False) == 0
    assert f"mine after {steps} steps" in capsys.readouterr().out
    assert load_model(out).info.ranges
    assert load_state(run / CHECKPOINT).step == steps
    assert sorted(path.name for path in tmp_path.glob("mine.*")) == [
        "mine.png",
        "mine.safetensors",
        "mine.stats.jsonl",
    ]
    assert command("resume", back, out, "--run-dir", run, small=False) == 2
    assert "already holds a run" in capsys.readouterr().err
    # It goes on here, with the data that travelled.
    more = [f"{stage}.steps={number}" for stage, number in zip(stages, (steps, 0, 1), strict=True)]
    batches = [f"{stage}.batch=1" for stage in stages]
    settings = [part for change in (*more, *batches, "run.device=cpu") for part in ("--set", change)]
    assert command("train", there / "data", tmp_path / "on.safetensors", "--run-dir", run, *settings) == 0
    assert load_state(run / CHECKPOINT).step == steps + 1

    piece = next((back / "state").glob("*.000"))
    piece.write_bytes(piece.read_bytes()[:-1])
    assert command("resume", back, out, "--run-dir", tmp_path / "other", small=False) == 2
    assert f"{piece.name}: got hash" in capsys.readouterr().err
    assert not (tmp_path / "other" / CHECKPOINT).exists()
    piece.unlink()
    assert command("resume", back, out, "--run-dir", tmp_path / "other", small=False) == 2
    assert "got nothing there; fetch it again" in capsys.readouterr().err


def test_another_call_goes_on_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = Mcnet(McnetConfig.named("tiny"))
    taken: list[str] = []

    def profiled(*_: object, **__: object) -> list[StageProfile]:
        return [StageProfile("full", 100.0, 10.0, "a table")]

    def fitted(config: FitConfig, run: Path, *, after_stage: AfterStage, **_: object) -> FitResult:
        taken.append(config.run.initial)
        run.mkdir()
        for name in (CHECKPOINT, "stats.jsonl", "config.toml"):
            (run / name).write_text(f"{len(taken)}", encoding="utf-8")
        after_stage("full", model, {"steps": 7})
        return FitResult(7, "done", run / CHECKPOINT)

    monkeypatch.setattr("training.fit.loop.profile", profiled)
    monkeypatch.setattr("training.fit.loop.fit", fitted)
    (tmp_path / "travel.toml").write_text(format_config(load_config("starter", ["full.steps=1"])), encoding="utf-8")
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data" / "clips.json", CLIPS_FORMAT, ClipTable(256, (Clip("a.mp4", "ann", "train", 2),)))
    for _ in range(2):
        journey.run(tmp_path, 1.0)
    assert taken == [str(tmp_path / "weights.safetensors"), str(tmp_path / "out/model_full.safetensors")]
    for name, content in (("out", "1"), ("out-2", "2")):
        assert (tmp_path / name / "state" / f"{CHECKPOINT}.000").read_text(encoding="utf-8") == content
        assert "1.0 minutes from" in (tmp_path / name / "log.txt").read_text(encoding="utf-8")


def test_a_teacher_travels_along(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there, teacher = tmp_path / "there", tmp_path / "mine.safetensors"
    model = Mcnet(dataclasses.replace(McnetConfig.named("tiny"), size_px=SIZE_PX))
    taught_by = ("--set", f"run.teacher={teacher}", "--set", "loss.taught_motion=1")
    points = (386, 159, 1, 291, 61)
    stated = {"places": "measured", "points": points[::-1], "jacobians": "detected"}
    model.info = ModelInfo(training={"keypoints": stated})
    save_model(model, teacher)
    assert command("travel", there, clips, *taught_by) == 2, "of other keypoints"
    assert "expected data.keypoint_points" in capsys.readouterr().err
    assert not there.exists()
    stated["points"] = points
    save_model(model, teacher)
    assert command("travel", there, clips, *taught_by) == 0
    teacher.unlink()
    taught: list[str] = []

    def fitted(config: FitConfig, run: Path, **_: object) -> FitResult:
        taught.append(config.run.teacher)
        run.mkdir()
        for name in (CHECKPOINT, "stats.jsonl", "config.toml"):
            (run / name).write_text("whatever", encoding="utf-8")
        return FitResult(1, "done", run / CHECKPOINT)

    monkeypatch.setattr("training.fit.loop.profile", lambda *_, **__: [StageProfile("motion", 100.0, 10.0, "a table")])
    monkeypatch.setattr("training.fit.loop.fit", fitted)
    journey.run(there, 1.0)
    (path,) = taught
    assert Path(path).parent == there
    for name, weight in load_model(path).state_dict().items():
        assert torch.allclose(weight, model.state_dict()[name], atol=1e-3, rtol=1e-3), name  # it travels in float16


def test_what_cannot_travel_is_told(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/letter.txt").write_text("mine", encoding="utf-8")
    assert command("travel", tmp_path / "taken", clips) == 2
    assert "holds something else than a journey" in capsys.readouterr().err
    assert (tmp_path / "taken/letter.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert command("travel", tmp_path / "file", clips) == 2
    assert "is a file" in capsys.readouterr().err
    monkeypatch.setattr(journey, "LARGEST_FOLDER", 1_000_000)
    assert command("travel", tmp_path / "there", clips) == 2
    assert "expected at most 1: leave out clips" in capsys.readouterr().err
    assert command("travel", tmp_path / "other", tmp_path / "nowhere") == 2
    assert "nowhere is no dataset" in capsys.readouterr().err
    assert command("travel", tmp_path / "other", clips, "--backbone", tmp_path / "nothing.pt") == 2
    assert "there is no file" in capsys.readouterr().err
    assert not (tmp_path / "other" / "data").exists(), "clips are made small before the backbone is looked for"
    assert command("travel", tmp_path / "new", clips, "--set", "data.split=nobody") == 2
    assert "has no clip of two frames or more in split 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    for minutes in ([], ["nan"], ["inf"], ["0"], ["-1"]):
        assert journey.main_there([str(tmp_path), *minutes]) == 2
        assert "usage: sh run.sh MINUTES" in capsys.readouterr().err
    (tmp_path / "full").write_text("no folder can be made in it", encoding="utf-8")
    assert journey.main_there([str(tmp_path / "full"), "1"]) == 2
    assert "what was saved before is kept" in capsys.readouterr().err


def test_a_folder_that_is_no_journey_alone_is_left_as_it_is(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"  # somebody's project, which has a run.sh and a folder data, too
    (own / "data").mkdir(parents=True)
    (own / "data" / "thesis.txt").write_text("mine", encoding="utf-8")
    (own / "run.sh").write_text("echo mine", encoding="utf-8")
    assert command("travel", own, clips) == 2
    assert "holds something else than a journey, such as data" in capsys.readouterr().err
    assert (own / "data" / "thesis.txt").read_text(encoding="utf-8") == "mine"

    there = tmp_path / "there"
    assert command("travel", there, tmp_path / "nowhere") == 2
    assert command("travel", there, clips) == 0
    before = (there / "data" / "clips.json").read_bytes()
    capsys.readouterr()
    assert command("travel", there, there / "data") == 2
    assert f"{there / 'data'}, which is read, lies in it" in capsys.readouterr().err
    assert (there / "data" / "clips.json").read_bytes() == before
    assert command("travel", there, clips) == 0
    (there / "out").mkdir()  # what a training left there
    assert command("travel", there, clips) == 2
    assert "such as out: choose an empty folder, or put that away" in capsys.readouterr().err
    assert (there / "out").is_dir()


@pytest.mark.parametrize("listed", ["[]x", "5", "{}", '{"checkpoint.pt.000": 5}', '["ab"]'])
def test_a_list_of_pieces_that_is_none_is_told(tmp_path: Path, listed: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "pieces.json").write_text(listed, encoding="utf-8")
    with pytest.raises(journey.JourneyError, match="fetch it again"):
        journey.bring_back(tmp_path, tmp_path / "run", tmp_path / "out.safetensors")
    assert not list((tmp_path / "run").iterdir())
