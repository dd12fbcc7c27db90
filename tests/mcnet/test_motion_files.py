"""`mcnet animate` with motion files: a file's motion gives the pictures that its video gave."""

import contextlib
import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.__main__ import main
from mcnet.checkpoint import save_model
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.media.bundled import CLIP
from mcnet.media.images import read_rgb
from mcnet.media.motion_track import load_track
from mcnet.media.video import open_driving
from mcnet.model_file import ModelInfo
from tests.media.videos import make_video

FRAMES = 3
EXACT = 1
"""Steps of 255, in any pixel of the network's own size: a mesh is kept to a hundredth of a pixel, which moves hardly an
edge by more. Enlarged by a cubic kernel, and with the portrait's detail, a step grows."""


def animate(output: Path, driving: Path, *more: str, source: str = "woman_2") -> int:
    files = ["--source", source, "--driving", str(driving), "--output", str(output)]
    exact = ["--device", "cpu", "--precision", "fp32", "--backend", "torch", "--size", "256"]
    return main(["animate", *files, *exact, "--no-content-credentials", *more])


def pictures(folder: Path) -> NDArray[np.int16]:
    return np.stack([read_rgb(path) for path in sorted(folder.iterdir())]).astype(np.int16)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a motion file, and the pictures that its video gave."""
    folder = tmp_path_factory.mktemp("motion")
    more = ["--max-frames", str(FRAMES), "--save-motion", str(folder / "grid.safetensors")]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert animate(folder / "space", CLIP, *more) == 0
    assert f"{folder / 'grid.safetensors'}: the motion of {FRAMES} frames" in told.getvalue()
    assert animate(folder / "plane", CLIP, "--motion", "plane", "--max-frames", str(FRAMES)) == 0
    return folder


@pytest.mark.parametrize("motion", ["space", "plane"])
def test_a_file_gives_the_pictures_of_its_video(kept: Path, tmp_path: Path, motion: str) -> None:
    track = load_track(kept / "grid.safetensors")
    assert (len(track.faces), track.fps, track.frame_size_px) == (FRAMES, 25.0, (360, 288))
    assert track.keypoints is not None
    assert animate(tmp_path / "out", kept / "grid.safetensors", "--motion", motion) == 0
    of_video, of_file = pictures(kept / motion), pictures(tmp_path / "out")
    assert of_file.shape == of_video.shape == (FRAMES, 256, 256, 3)
    assert np.abs(of_file - of_video).max() <= EXACT
    assert np.abs(of_video[0] - of_video[-1]).max() > 5 * EXACT, "there is motion to be lost"


def test_it_plays_on_another_portrait_with_a_sheet(kept: Path, tmp_path: Path) -> None:
    more = ["--side-by-side", "--contact-sheet", str(tmp_path / "sheet.png"), "--max-frames", "2"]
    assert animate(tmp_path / "out", kept / "grid.safetensors", *more, source="man_3") == 0
    shown = pictures(tmp_path / "out")
    assert shown.shape == (2, 256, 768, 3)
    assert read_rgb(tmp_path / "sheet.png").size


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose keypoints mean nothing."""
    path = tmp_path_factory.mktemp("model") / "other.safetensors"
    save_model(Mcnet(McnetConfig.named("tiny"), ModelInfo(name="other")), path)
    return path


def test_a_model_that_detects_plays_its_own_files_alone(
    kept: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(other)]
    assert animate(tmp_path / "no", kept / "grid.safetensors", *model) == 1
    said = capsys.readouterr().err
    assert "has keypoints of model starter, and motion in the plane needs detected keypoints of model other" in said
    assert not (tmp_path / "no").exists()
    own = tmp_path / "own.safetensors"
    assert animate(tmp_path / "video", CLIP, *model, "--max-frames", "2", "--save-motion", str(own)) == 0
    assert animate(tmp_path / "file", own, *model) == 0
    assert np.abs(pictures(tmp_path / "video") - pictures(tmp_path / "file")).max() <= EXACT
    assert animate(tmp_path / "starter", own) == 0, "the mesh is in it, too, which is all that space needs"
    assert animate(tmp_path / "plane", own, "--motion", "plane") == 1
    assert "has keypoints of model other, and --motion plane needs" in capsys.readouterr().err
    assert animate(tmp_path / "absolute", own, "--absolute") == 1
    said = capsys.readouterr().err
    assert "has keypoints of model other, and --absolute needs measured keypoints of model starter" in said
    assert "leave --absolute out, and use --motion space" in said


def test_a_frame_without_a_face_costs_no_keypoints(other: Path, tmp_path: Path) -> None:
    """It is held, in the video and wherever the file is played."""
    first, last = itertools.islice(open_driving(CLIP), 2)
    video = make_video(tmp_path / "lost.mp4", [first, np.full_like(first, 90), last])
    own, model = tmp_path / "own.safetensors", ["--model", str(other)]
    assert animate(tmp_path / "video", video, *model, "--save-motion", str(own)) == 0
    keypoints = load_track(own).keypoints
    assert keypoints is not None
    assert not keypoints.measured
    for name, more in (("file", []), ("whole", ["--no-crop"])):
        assert animate(tmp_path / name, own, *model, *more) == 0
        shown = pictures(tmp_path / name)
        assert len(shown) == 3
        assert (shown[1] == shown[0]).all(), "held"
        assert (shown[2] != shown[1]).any()
    assert np.abs(pictures(tmp_path / "video") - pictures(tmp_path / "file")).max() <= EXACT


def test_keypoints_found_in_another_way_are_told_how_to_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = McnetConfig.named("tiny")
    facts = {"keypoints": {"points": list(range(config.num_keypoints))}}
    save_model(Mcnet(config, ModelInfo(name="either", training=facts)), tmp_path / "either.safetensors")
    way = {"detected": ["--keypoints", "detected"], "measured": ["--motion", "plane"]}
    model = ["--model", str(tmp_path / "either.safetensors"), "--max-frames", "2"]
    for kept, told in (("detected", "use --keypoints detected"), ("measured", "leave --keypoints detected out")):
        own = tmp_path / f"{kept}.safetensors"
        assert animate(tmp_path / kept, CLIP, *model, *way[kept], "--save-motion", str(own)) == 0
        [other_way] = [options for name, options in way.items() if name != kept]
        capsys.readouterr()
        assert animate(tmp_path / "no", own, *model, *other_way) == 1
        assert capsys.readouterr().err.strip().endswith(f"keypoints of model either: {told}")
        assert animate(tmp_path / f"{kept} again", own, *model, *way[kept]) == 0


def test_what_a_motion_file_does_not_take_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcnet.media.motion_track.MOST_FRAMES", 2)
    file = tmp_path / "short.safetensors"
    assert animate(tmp_path / "out", CLIP, "--max-frames", "3", "--save-motion", str(file)) == 0
    said = capsys.readouterr()
    assert f"{file}: the motion of 2 frames" in said.out
    assert "the motion file has the first 2 of 3 frames: it takes 2 at most" in said.err
    assert "cut the video into parts" in said.err
    assert len(load_track(file).faces) == 2
    assert len(pictures(tmp_path / "out")) == 3


def test_no_motion_is_saved_of_a_video_without_a_face(
    other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before the video is rendered."""
    video = make_video(tmp_path / "grey.mp4", [np.full((256, 256, 3), 128, np.uint8)] * 3)
    more = ["--no-crop", "--model", str(other)]
    assert animate(tmp_path / "out", video, *more, "--save-motion", str(tmp_path / "m.safetensors")) == 1
    said = capsys.readouterr().err
    assert "no face in any of the 3 frames" in said
    assert "leave --save-motion out" in said
    assert not (tmp_path / "out").exists()
    assert animate(tmp_path / "out", video, *more) == 0


def test_what_cannot_be_done_is_said(
    kept: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = kept / "grid.safetensors"
    cut = tmp_path / "cut.safetensors"
    shutil.copy(file, cut)
    cut.write_bytes(cut.read_bytes()[:999])
    for driving, more, reason in (
        (other, [], "is no motion file"),
        (cut, [], "cannot be read as a motion file"),
        (tmp_path / "gone.safetensors", [], "there is no such file"),
        (file, ["--save-motion", str(tmp_path / "b.safetensors")], "is a motion file already"),
        (CLIP, ["--save-motion", str(tmp_path / "b.npz")], "got suffix '.npz', expected .safetensors"),
        (CLIP, ["--save-motion", str(tmp_path / "no" / "b.safetensors")], "there is no folder"),
    ):
        assert animate(tmp_path / "out", driving, *more) == 1
        said = capsys.readouterr().err.strip()
        assert reason in said
        assert not (tmp_path / "out").exists()
