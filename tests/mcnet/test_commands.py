"""The `mcnet` command on real input: a bundled portrait, moved by a bundled video."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.__main__ import main
from mcnet.checkpoint import load_model, save_model
from mcnet.commands.animate import BATCH_FRAMES, Moment, Moments
from mcnet.config import HourglassConfig, McnetConfig
from mcnet.generator import Mcnet
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving
from mcnet.model_file import ModelInfo
from tests.disks import full

PORTRAIT = ASSETS / "portraits" / "woman_1.jpg"
CLIP = ASSETS / "driving" / "grid_bbaf2n.mpg"
FRAMES = 6


def animate(output: Path, *more: str, source: Path = PORTRAIT, driving: Path = CLIP, frames: int = FRAMES) -> int:
    files = ["--source", str(source), "--driving", str(driving), "--output", str(output)]
    return main(["animate", *files, "--device", "cpu", "--precision", "fp32", "--max-frames", str(frames), *more])


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]


def seconds_of_sound(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_animates_with_sound_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, sheet = tmp_path / "out.mp4", tmp_path / "sheet.png"
    assert animate(output, "--side-by-side", "--contact-sheet", str(sheet), frames=40) == 0
    frames = frames_of(output)
    assert len(frames) == 40
    assert {frame.shape for frame in frames} == {(256, 768, 3)}
    source, performer, result = (np.stack([frame[:, i * 256 : (i + 1) * 256] for frame in frames]) for i in range(3))
    # The portrait beside it stands still (up to compression); the result moves, and is the portrait, not the performer.
    assert np.abs(source[0].astype(int) - source[-1]).mean() < 2
    assert max(np.abs(result[0].astype(int) - frame).mean() for frame in result) > 3
    assert np.abs(result[0].astype(int) - source[0]).mean() < 0.5 * np.abs(result[0].astype(int) - performer[0]).mean()
    assert seconds_of_sound(output) == pytest.approx(40 / 25, abs=0.1)
    assert read_rgb(sheet).shape[1] > 6 * 256
    said = capsys.readouterr()
    assert "40 frames at 25 frames/s, with its sound" in said.out
    assert "frames/s in the engine" in said.out
    assert "cpu" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "sheet.png"]


@pytest.mark.parametrize("name", ["out.webm", "out.gif", "frames"])
def test_other_outputs(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    assert animate(output) == 0
    if name == "frames":
        pictures = sorted(output.iterdir())
        assert [picture.name for picture in pictures] == [f"{index:06}.png" for index in range(FRAMES)]
        assert read_rgb(pictures[0]).shape == (256, 256, 3)
    else:
        assert len(frames_of(output)) == FRAMES


@pytest.fixture(scope="module")
def glimpses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three frames of the clip, of which the first is not the one to start from."""
    folder = tmp_path_factory.mktemp("glimpses")
    frames = list(itertools.islice(open_driving(CLIP), 44))
    for number, index in enumerate((19, 43, 24)):
        write_rgb(folder / f"{number}.png", frames[index])
    return folder


def test_options_change_the_picture(tmp_path: Path, glimpses: Path) -> None:
    """Each option moves the portrait otherwise than what stands beside it does."""
    uncropped = "--motion plane --no-crop"
    last = {}
    for options, other in (
        ("", None),
        ("--motion plane", ""),
        ("--keypoints detected", "--motion plane"),
        ("--motion plane --best-frame", "--motion plane"),
        ("--absolute", "--motion plane"),
        ("--no-crop", ""),
        (uncropped, "--motion plane"),
        # Cropped alike, both faces are of one size, and adapting the scale has nothing to do.
        (f"{uncropped} --no-adapt-scale", uncropped),
    ):
        output = tmp_path / f"frames{options.replace(' ', '')}"
        assert animate(output, *options.split(), driving=glimpses) == 0
        last[options] = read_rgb(output / "000002.png").astype(int)
        if other is not None:
            assert np.abs(last[options] - last[other]).mean() > 0.2, options


def test_which_motion_and_keypoints_are_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in (
        ((), "motion in space, keypoints measured"),
        (("--motion", "plane"), "motion in the plane, keypoints measured"),
        (("--absolute", "--keypoints", "detected"), "motion absolute, keypoints detected"),
    ):
        assert animate(tmp_path / "out.mp4", *options, frames=2) == 0
        assert told in capsys.readouterr().err


def test_a_model_without_meaning_moves_in_the_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Mcnet(McnetConfig.named("tiny"))
    save_model(model, tmp_path / "own.safetensors")
    assert animate(tmp_path / "out.mp4", "--model", str(tmp_path / "own.safetensors"), frames=2) == 0
    assert "motion in the plane, keypoints detected" in capsys.readouterr().err
    for options in (["--motion", "space"], ["--keypoints", "measured"]):
        assert animate(tmp_path / "out.mp4", "--model", str(tmp_path / "own.safetensors"), *options) == 1
        assert "can only be detected: use --motion plane --keypoints detected" in capsys.readouterr().err


def test_a_model_of_the_studios_shape_animates_at_512_px(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = dataclasses.replace(
        McnetConfig.named("studio"),
        keypoint_hourglass=HourglassConfig(width=4, max_width=16, blocks=5, head_kernel=3),
        motion_hourglass=HourglassConfig(width=4, max_width=16, blocks=5, head_kernel=3),
        encoder_widths=(4, 6, 8, 8, 8),
        decoder_widths=(8, 8, 6, 6, 4),
    )
    points = load_model("starter").info.keypoint_landmarks
    guided = {"loss": {"guidance": 1.0, "guidance_points": list(points)}}
    save_model(Mcnet(config, ModelInfo(name="small studio", training=guided)), tmp_path / "studio.safetensors")
    assert animate(tmp_path / "out.mp4", "--model", str(tmp_path / "studio.safetensors"), frames=2) == 0
    assert "motion in space, keypoints measured" in capsys.readouterr().err
    assert [frame.shape for frame in frames_of(tmp_path / "out.mp4")] == [(512, 512, 3)] * 2


def test_motion_that_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate(tmp_path / "out.mp4", "--motion", "space", "--absolute") == 1
    assert "got --absolute too" in capsys.readouterr().err
    assert animate(tmp_path / "out.mp4", "--motion", "space", "--keypoints", "detected") == 1
    assert "got --keypoints detected too" in capsys.readouterr().err


def test_without_a_crop_a_portrait_without_a_face_is_detected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = noise_picture(tmp_path)
    assert animate(tmp_path / "out.mp4", "--no-crop", source=noise, frames=2) == 0
    said = capsys.readouterr().err
    assert "keypoints are detected, since the portrait shows no face that can be measured" in said
    assert animate(tmp_path / "out.mp4", "--no-crop", "--keypoints", "measured", source=noise, frames=2) == 1
    assert "no face in the portrait: measured keypoints need one" in capsys.readouterr().err


def test_a_folder_of_pictures_drives(tmp_path: Path) -> None:
    folder = tmp_path / "driving"
    folder.mkdir()
    for index, frame in enumerate(frames_of(CLIP)[:3]):
        write_rgb(folder / f"{index}.png", frame)
    assert animate(tmp_path / "out.mp4", driving=folder) == 0
    assert len(frames_of(tmp_path / "out.mp4")) == 3


def test_frames_without_a_face_hold_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "driving"
    folder.mkdir()
    frames = frames_of(CLIP)
    blank = np.full_like(frames[0], 90)
    for index, frame in enumerate([blank, frames[0], frames[20], blank, blank, frames[40]]):
        write_rgb(folder / f"{index}.png", frame)
    assert animate(tmp_path / "out", driving=folder) == 0
    written = [read_rgb(tmp_path / "out" / f"{index:06}.png") for index in range(6)]
    np.testing.assert_array_equal(written[3], written[2])
    np.testing.assert_array_equal(written[4], written[2])
    assert not np.array_equal(written[5], written[2])
    assert "3 frames" in capsys.readouterr().err


def noise_picture(folder: Path) -> Path:
    path = folder / "noise.png"
    write_rgb(path, np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    return path


def test_what_cannot_be_done_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise, output = noise_picture(tmp_path), tmp_path / "out.mp4"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    faceless = tmp_path / "faceless"
    faceless.mkdir()
    noise_picture(faceless)
    cases: list[tuple[dict[str, Path], list[str], str]] = [
        ({"source": noise}, [], "no face in"),
        ({"source": tmp_path / "none.jpg"}, [], "none.jpg"),
        ({"source": CLIP}, [], "grid_bbaf2n.mpg"),
        ({"driving": tmp_path / "none.mp4"}, [], "none.mp4"),
        ({"driving": empty}, [], "empty.mp4"),
        ({"driving": PORTRAIT.parent.parent / "README.md"}, [], "README.md"),
        ({"driving": faceless}, [], "no face in any of the 1 frames"),
        ({}, ["--model", "nobody"], "no model 'nobody'"),
        ({}, ["--device", "cuda:9"], "got 'cuda:9', but"),
    ]
    for files, more, message in cases:
        assert animate(output, *more, **files) == 1, message  # type: ignore[arg-type]
        said = capsys.readouterr().err
        assert message in said
        assert said.startswith("mcnet animate: ") or "\nmcnet animate: " in said
        assert "Traceback" not in said
        assert not output.exists()
    for bad in (tmp_path / "no" / "such" / "out.mp4", tmp_path / "out.avi", Path("/proc/out.mp4")):
        assert animate(bad) == 1
        assert str(bad) in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.mp4", "faceless", "noise.png"]


def test_a_full_disk_is_told_before_the_work(tmp_path: Path) -> None:
    with full(tmp_path) as (folder, prefix):
        command = [
            *[*prefix, sys.executable, "-m", "mcnet", "animate", "--source", str(PORTRAIT), "--driving", str(CLIP)],
            *["--output", str(folder / "x.mp4"), "--device", "cpu", "--max-frames", "5"],
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"mcnet animate: cannot write {folder / 'x.mp4'}: ")
        assert "finding the face" not in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(folder.iterdir())


def test_nothing_read_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    portrait = tmp_path / "me.png"
    write_rgb(portrait, read_rgb(PORTRAIT))
    folder = tmp_path / "000000"
    folder.mkdir()
    for index, frame in enumerate(frames_of(CLIP)[:2]):
        write_rgb(folder / f"{index:06}.png", frame)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    out, sheet = tmp_path / "out.mp4", "--contact-sheet"
    cases: list[tuple[Path, tuple[str, ...], str, dict[str, Path]]] = [
        (folder, (), "--output", {"driving": folder}),
        (folder, (), "is not empty", {}),
        (out, (sheet, str(portrait)), "--contact-sheet", {"source": portrait}),
        (out, (sheet, str(folder / "000001.png")), "--contact-sheet", {"driving": folder}),
        (out, (sheet, str(tmp_path / "no" / "sheet.png")), "there is no folder", {}),
        (out, (sheet, str(tmp_path / "sheet.bmp")), "got suffix '.bmp'", {}),
        (tmp_path / "x.png", (), "got suffix '.png'", {}),
    ]
    for output, more, message, files in cases:
        assert animate(output, *more, **files) == 1, message  # type: ignore[arg-type]
        assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize("option", ["--source", "--driving", "--output", "--model", "--contact-sheet"])
def test_a_name_that_no_file_system_takes_is_told_in_a_line(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--source": str(PORTRAIT), "--driving": str(CLIP), "--output": str(tmp_path / "out.mp4")}
    files[option] = str(tmp_path / (300 * "x" + ".png"))
    assert main(["animate", *(word for pair in files.items() for word in pair), "--device", "cpu"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("mcnet animate: ")
    assert not list(tmp_path.iterdir())


def test_a_bundled_portrait_goes_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate(tmp_path / "out", source=Path("man_3"), frames=1) == 0
    capsys.readouterr()
    assert animate(tmp_path / "x.mp4", source=Path("nobody")) == 1
    assert "no portrait 'nobody': got neither a file nor a known name (man_1, " in capsys.readouterr().err


def test_names_with_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("10:30 talk.mpg").write_bytes(CLIP.read_bytes())
    assert animate(Path("12:30.mp4"), driving=Path("10:30 talk.mpg"), frames=2) == 0
    assert len(frames_of(tmp_path / "12:30.mp4")) == 2


@pytest.mark.parametrize("count", [1, 5, 6, 7, 100, 1000])
def test_moments_are_spread_over_videos_of_any_length(count: int) -> None:
    moments = Moments(6)
    blank = np.zeros((1, 1, 3), np.uint8)
    for index in range(count):
        moments.offer(index, Moment(index, blank, blank))
    times = [moment.time_s for moment in moments.chosen()]
    assert len(times) == min(6, count)
    assert times[0] == 0
    assert times[-1] >= 0.9 * (count - 1)
    gaps = np.diff(times)
    assert count < 12 or gaps.max() < 1.6 * gaps.min()


def test_misuse_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["animate", "--source", "a.png"])
    assert exit_.value.code == 2
    assert "--driving" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        animate(Path("out.mp4"), "--absolute", "--best-frame")
    assert "not allowed with" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        animate(Path("out.mp4"), frames=0)
    assert "whole number from 1 to 1000000000" in capsys.readouterr().err


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to another process")
def test_interrupt_leaves_a_playable_file(tmp_path: Path) -> None:
    folder = tmp_path / "driving"
    folder.mkdir()
    frames = frames_of(CLIP)
    for index in range(400):
        write_rgb(folder / f"{index:03}.jpg", frames[index % len(frames)])
    output = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "mcnet", "animate", "--source", str(PORTRAIT), "--driving", str(folder)]
    with subprocess.Popen(
        # Without a search for faces, so that frames are being written as soon as there is a file.
        [*command, "--output", str(output), "--device", "cpu", "--no-crop", "--keypoints", "detected"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob(".*partial*")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2)  # long enough for some frames; one is written in any case
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    count = len(frames_of(output))
    assert 0 < count < 400
    assert f"holds the first {count} frames" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driving", "out.mp4"]


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.safetensors"
    assert (
        main(["convert", str(ASSETS / "models" / "starter.safetensors"), str(output), "--name", "mine", "--half"]) == 0
    )
    assert "model mine, 7.8 M parameters, 256 px" in capsys.readouterr().out
    assert animate(tmp_path / "frames", "--model", str(output), frames=1) == 0
    capsys.readouterr()
    assert main(["convert", str(output), str(tmp_path / "mine.onnx")]) == 1
    assert "expected .safetensors" in capsys.readouterr().err
    before = output.read_bytes()
    assert main(["convert", str(output), str(output), "--half"]) == 1
    assert "it would write over what IN reads" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert main(["convert", str(tmp_path / "none.pth.tar"), str(output)]) == 1
    assert "no model" in capsys.readouterr().err


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, mcnet.__main__ as m; m.build_parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_broken_opencv_is_said_and_does_not_hinder_convert(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "mcnet", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr

    said = run("animate", "--source", str(PORTRAIT), "--driving", str(CLIP), "--output", str(tmp_path / "out.mp4"))
    assert "apt-get install libgl1" in said
    assert "Traceback" not in said
    assert "no model 'none.pth.tar'" in run("convert", "none.pth.tar", str(tmp_path / "out.safetensors"))


def test_the_network_needs_torch_numpy_and_safetensors_only() -> None:
    code = """
import sys
import numpy, safetensors.torch, torch
before = {name.split(".")[0] for name in sys.modules}
import mcnet.engine, mcnet.checkpoint
added = {name.split(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
sys.exit(str(added) if added - {"mcnet", "assets"} else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("motion", ["space", "plane"])
def test_batches_show_what_single_frames_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, motion: str) -> None:
    assert animate(tmp_path / "single", "--backend", "torch", "--motion", motion) == 0
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 4)  # 6 frames: one whole batch and a rest
    assert animate(tmp_path / "batched", "--backend", "torch", "--motion", motion) == 0
    names = sorted(path.name for path in (tmp_path / "single").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "batched").iterdir())
    assert len(names) == FRAMES
    for name in names:
        one, other = (read_rgb(tmp_path / folder / name).astype(int) for folder in ("single", "batched"))
        assert np.abs(one - other).max() <= 1
