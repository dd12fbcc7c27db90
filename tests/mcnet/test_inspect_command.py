"""`mcnet inspect` on real input: a bundled portrait, moved by a bundled video."""

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.__main__ import main
from mcnet.checkpoint import save_model
from mcnet.commands.inspect import OF_MEMORY, PICTURES, VIDEO
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.inspection.figures import CELL_PX
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import DrivingVideo
from mcnet.model_file import ModelInfo

CLIP = ASSETS / "driving" / "grid_bbaf2n.mpg"
FRAMES = 4


def inspect(output: Path, *more: str, source: str = "woman_1", driving: Path = CLIP) -> int:
    files = ["--source", source, "--driving", str(driving), "--output", str(output)]
    return main(["inspect", *files, "--device", "cpu", "--max-frames", str(FRAMES), *more])


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A model of little work, whose keypoints mean nothing."""
    torch.manual_seed(0)
    save_model(Mcnet(McnetConfig.named("tiny"), ModelInfo(name="small")), tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


class Inside(NamedTuple):
    """What the command left of the bundled model, by its defaults."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    folder = tmp_path_factory.mktemp("inspected") / "inside"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert inspect(folder, "--video", "--frame", "3") == 0
    return Inside(folder, said.getvalue())


def test_writes_every_picture_and_the_video(inside: Inside) -> None:
    output, said = inside
    assert sorted(path.name for path in output.iterdir()) == sorted([*(f"{name}.png" for name in PICTURES), VIDEO])
    for name in PICTURES:
        sheet = read_rgb(output / f"{name}.png")
        assert sheet.shape[0] > 200
        assert sheet.shape[1] > 700
    assert "frame 3 by model starter, motion in space, keypoints measured" in said
    assert f"{VIDEO}: {FRAMES} frames at 25 frames/s" in said
    with av.open(str(output / VIDEO)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    still = read_rgb(output / "overview.png")
    assert {frame.shape for frame in frames} == {still.shape}
    apart = [np.abs(frame.astype(int) - still).mean() for frame in frames]
    assert np.argmin(apart) == 3  # the video's frame 3 is the still picture, up to compression


def test_the_result_is_what_the_network_gives_to_animate(inside: Inside, tmp_path: Path, small: str) -> None:
    # In space by measured keypoints, in the plane by detected ones.
    for options, folder in (((), inside.folder), (("--model", small), tmp_path / "inside")):
        frames = tmp_path / f"frames{len(options)}"
        files = ["--source", "woman_1", "--driving", str(CLIP), "--output", str(frames), "--max-frames", str(FRAMES)]
        how = ["--device", "cpu", "--precision", "fp32", "--backend", "torch", "--no-retouch", "--size", "256"]
        assert main(["animate", *files, *how, *options]) == 0
        if options:
            assert inspect(folder, "--frame", "3", *options) == 0
        overview = read_rgb(folder / "overview.png").astype(int)
        animated = read_rgb(frames / "000003.png").astype(int)
        corner = next(
            (top, left)
            for top in range(200, overview.shape[0] - CELL_PX + 1)
            for left in (12 + 2 * (CELL_PX + 12),)
            if np.abs(overview[top : top + CELL_PX, left : left + CELL_PX] - animated).max() <= 1
        )
        assert corner[0] > CELL_PX


def test_a_model_of_meaningless_keypoints(tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "inside"
    output.mkdir()
    (output / "mine.txt").write_text("stays", encoding="utf-8")
    assert inspect(output, "--model", small, "--point", "0,1") == 0
    assert f"frame {FRAMES // 2} by model small, motion in the plane, keypoints detected" in capsys.readouterr().out
    assert {path.stem for path in output.iterdir()} == {*PICTURES, "mine"}
    assert inspect(output, "--model", small, "--no-crop") == 0  # once more: older pictures are replaced
    assert (output / "mine.txt").read_text(encoding="utf-8") == "stays"


def test_a_model_without_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = McnetConfig.named("tiny")
    config = dataclasses.replace(tiny, memory=dataclasses.replace(tiny.memory, levels_px=()))
    save_model(Mcnet(config, ModelInfo(name="bare")), tmp_path / "bare.safetensors")
    assert inspect(tmp_path / "inside", "--model", str(tmp_path / "bare.safetensors")) == 0
    assert "model bare has no memory: features, memory, attention, scales are left out" in capsys.readouterr().err
    assert {path.stem for path in (tmp_path / "inside").iterdir()} == set(PICTURES) - set(OF_MEMORY)


def test_what_cannot_be_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    write_rgb(pictures / "0.png", np.zeros((64, 64, 3), np.uint8))
    inside = tmp_path / "inside"
    (inside / "flow.png").mkdir(parents=True)
    for output, more, said in (
        (file, {}, "it is a file, expected a folder"),
        (tmp_path / "no" / "where", {}, "there is no folder"),
        (pictures, {"driving": pictures}, "it would write over what --driving reads"),
        (inside, {}, "it is a folder, expected a file's name"),
        (tmp_path / "new", {"source": "nobody"}, "no portrait 'nobody'"),
        (tmp_path / "new", {"driving": tmp_path / "no.mp4"}, "no.mp4"),
        (tmp_path / "new", {"driving": tmp_path / "talk.safetensors"}, "a motion file has no pictures to look at"),
    ):
        assert inspect(output, **more) == 1
        assert said in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "kept"
    assert not (tmp_path / "new").exists()
    assert inspect(tmp_path / "new", "--model", str(tmp_path / "no.safetensors")) == 1
    assert "no.safetensors" in capsys.readouterr().err


def test_frames_and_faces_that_are_not_there(tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(tmp_path / "new", "--model", small, "--frame", str(FRAMES)) == 1
    assert f"--frame {FRAMES}: {CLIP} has {FRAMES} frames, expected 0 to {FRAMES - 1}" in capsys.readouterr().err
    blank = tmp_path / "blank.png"
    write_rgb(blank, np.full((256, 256, 3), 128, np.uint8))
    assert inspect(tmp_path / "new", "--model", small, source=str(blank)) == 1
    assert f"no face in {blank}" in capsys.readouterr().err
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    portrait = read_rgb(ASSETS / "portraits" / "man_1.jpg")
    for number, rgb in enumerate((portrait, np.full_like(portrait, 128), portrait)):
        write_rgb(pictures / f"{number}.png", rgb)
    assert inspect(tmp_path / "new", "--model", small, "--frame", "1", driving=pictures) == 1
    assert "--frame 1: it shows no face" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert inspect(tmp_path / "new", "--model", small, "--frame", "2", "--video", driving=pictures) == 0
    assert f"{VIDEO}: 3 frames" in capsys.readouterr().out


def test_a_video_that_is_shorter_when_it_is_read_again(
    tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, passes = DrivingVideo.__iter__, itertools.count()

    def shorter(driving: DrivingVideo) -> Iterator[NDArray[np.uint8]]:
        return itertools.islice(whole(driving), FRAMES if next(passes) < 2 else 2)  # start, count, look

    monkeypatch.setattr(DrivingVideo, "__iter__", shorter)
    options = ["--model", small, "--motion", "plane", "--keypoints", "detected", "--absolute", "--no-crop"]
    assert inspect(tmp_path / "new", *options, "--frame", "3") == 1
    said = capsys.readouterr().err
    assert f"{CLIP}: got 2 frames when it was read again, expected frame 3" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("point", ["0.5", "0.5,1.1", "a,b", "1,2,3"])
def test_a_point_outside_of_the_picture(tmp_path: Path, point: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect(tmp_path / "new", "--point", point)
    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err
