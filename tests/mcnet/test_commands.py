"""The `mcnet` command on real input: a bundled portrait, moved by a bundled video."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.__main__ import main
from mcnet.checkpoint import load_model, save_model
from mcnet.commands import animate as animating
from mcnet.commands import credentials
from mcnet.commands.animate import BATCH_FRAMES
from mcnet.commands.animate_options import parse_one
from mcnet.commands.footage import find_performance, load_portrait, shot_of
from mcnet.commands.moments import Moment, Moments
from mcnet.commands.motion_asked import make_drive
from mcnet.config import HourglassConfig, McnetConfig
from mcnet.disclosure import Generated, ModelUsed, SigningFiles, disclose, find_identity, manifest, read_credentials
from mcnet.disclosure.manifest import COMPOSITE, GENERATED
from mcnet.disclosure.words import words_of_animation
from mcnet.engine import Engine
from mcnet.generator import Mcnet
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving
from mcnet.model_card import MODEL_FILE
from mcnet.model_file import ModelInfo
from mcnet.signals import StopSignals
from tests.disks import full
from tests.media.test_picture_words import said_by

pytestmark = pytest.mark.usefixtures("_compiled_once")

PORTRAIT = ASSETS / "portraits" / "woman_1.jpg"
CLIP = ASSETS / "driving" / "grid_bbaf2n.mpg"
FRAMES = 3


class NeverStops:
    """A stand-in for signals that do not come."""

    received = None


def animate(output: Path, *more: str, source: Path = PORTRAIT, driving: Path = CLIP, frames: int = FRAMES) -> int:
    files = ["--source", str(source), "--driving", str(driving), "--output", str(output)]
    return main(["animate", *files, "--device", "cpu", "--precision", "fp32", "--max-frames", str(frames), *more])


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]


def words_in(path: Path) -> str:
    """What a signed video says in its metadata; the same at both places."""
    with av.open(str(path)) as container:
        said = {key.lower(): value for key, value in container.metadata.items()}
    assert said["comment"] == said["description"]
    return said["comment"]


def seconds_of_sound(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_animates_with_sound_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, sheet = tmp_path / "out.mp4", tmp_path / "sheet.png"
    assert animate(output, "--side-by-side", "--contact-sheet", str(sheet), frames=20) == 0
    frames = frames_of(output)
    assert len(frames) == 20
    assert {frame.shape for frame in frames} == {(512, 1536, 3)}
    source, performer, result = (np.stack([frame[:, i * 512 : (i + 1) * 512] for frame in frames]) for i in range(3))
    # The portrait beside it stands still (up to compression); the result moves, and is the portrait, not the performer.
    assert np.abs(source[0].astype(int) - source[-1]).mean() < 2
    assert max(np.abs(result[0].astype(int) - frame).mean() for frame in result) > 3
    assert np.abs(result[0].astype(int) - source[0]).mean() < 0.5 * np.abs(result[0].astype(int) - performer[0]).mean()
    assert seconds_of_sound(output) == pytest.approx(20 / 25, abs=0.1)
    assert read_rgb(sheet).shape[1] > 6 * 256
    said = capsys.readouterr()
    assert "20 frames at 25 frames/s, with its sound" in said.out
    assert "frames/s animated" in said.out
    assert "cpu" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "sheet.png"]
    for path in (output, sheet):  # both show the performer, too
        found = read_credentials(path)
        assert found is not None
        assert (found.intact, found.source_types) == (True, (COMPOSITE,))
        assert found.models == (ModelUsed("starter", load_model("starter").info.content_hash),)
    assert "Synthetic media" in words_in(output)
    assert "a recording of the person who moved it are shown beside it" in words_in(output)
    assert said_by(sheet) == words_of_animation(beside=True, behind=False)


@pytest.mark.parametrize("name", ["out.webm", "out.mp4"])
def test_what_was_written_is_signed_also_where_something_fails_behind_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / name
    assert animate(output) == 0
    first = read_credentials(output)
    assert first is not None
    assert first.intact
    capsys.readouterr()

    def fail(*_: object) -> None:
        raise MediaError("the disk is full")

    monkeypatch.setattr("mcnet.commands.animate.write_sheet", fail)
    assert animate(output, "--contact-sheet", str(tmp_path / "sheet.png"), frames=2) == 1
    said = capsys.readouterr().err
    assert f"{output} holds the 2 frames of before" in said
    assert "the disk is full" in said
    assert len(frames_of(output)) == 2
    found = read_credentials(output)
    assert found is not None
    assert found.intact, "it is not the statement of the video that was there"
    # So is what there is when it fails midway.
    monkeypatch.undo()
    real, calls = animating._animated, itertools.count()

    def fail_later(*args: Any) -> Any:
        return fail() if next(calls) == 1 else real(*args)

    monkeypatch.setattr("mcnet.commands.animate._animated", fail_later)
    assert animate(output, frames=40) == 1
    written = len(frames_of(output))
    assert f"{output} holds the {written} frames of before" in capsys.readouterr().err
    found = read_credentials(output)
    assert found is not None
    assert found.intact


@pytest.mark.parametrize("name", ["out.webm", "out.gif", "frames"])
def test_other_outputs(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / name
    assert animate(output) == 0
    if name == "frames":
        pictures = sorted(output.iterdir())
        assert [picture.name for picture in pictures] == [f"{index:06}.png" for index in range(FRAMES)]
        assert read_rgb(pictures[0]).shape == (512, 512, 3)
        assert {said_by(picture) for picture in pictures} == {words_of_animation(beside=False, behind=False)}
        assert main(["credentials", str(output)]) == 0
        assert capsys.readouterr().out.count("says that it is generated by AI\n") == FRAMES
    else:
        assert len(frames_of(output)) == FRAMES
        if name == "out.gif":
            assert said_by(output) == words_of_animation(beside=False, behind=False)
        if name == "out.webm":
            said = words_in(output)
            assert GENERATED in said
            assert "beside" not in said
            assert "behind" not in said
            assert f"{output.with_suffix('.c2pa')}: the video's Content Credentials" in capsys.readouterr().out
        assert main(["credentials", str(output)]) == 0
        said = capsys.readouterr().out
        assert "model starter, SHA-256 " in said
        assert "unchanged since; nobody vouches for the signer" in said


def test_what_was_written_is_signed_as_the_user_wants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.mp4"
    assert animate(output, "--no-content-credentials", frames=1) == 0
    assert main(["credentials", str(output)]) == 0
    assert "has no Content Credentials: nothing is known of how it was made" in capsys.readouterr().out
    before = output.read_bytes()
    assert animate(output, "--signing-key", str(output), frames=1) == 1  # before any work
    assert "name the file of its certificates as well" in capsys.readouterr().err
    assert animate(output, "--no-content-credentials", "--signing-key", "key.pem", frames=1) == 1
    assert "leave one of them out" in capsys.readouterr().err
    assert output.read_bytes() == before

    def gone() -> None:
        raise ImportError("it is not installed")

    monkeypatch.setattr(manifest, "_imported_library", gone)
    assert animate(output, frames=1) == 0
    assert "without Content Credentials: the package c2pa-python cannot be used" in capsys.readouterr().err
    assert len(frames_of(output)) == 1


def test_a_file_that_was_changed_and_one_that_cannot_be_read_fail_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.png"
    write_rgb(output, np.zeros((64, 64, 3), np.uint8))
    disclose(output, Generated((ModelUsed("m"),)), find_identity(SigningFiles()))
    content = bytearray(output.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 1
    output.write_bytes(content)
    assert main(["credentials", str(output), str(tmp_path / "none.png")]) == 1
    said = capsys.readouterr()
    changed = "the file was changed after it was signed (assertion.dataHash.mismatch)"
    assert f"NOT as it was signed: {changed}" in said.out
    assert "none.png: No such file" in said.err


def test_what_cannot_have_credentials_is_told_what_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "a.webm").write_bytes(b"its .c2pa was left behind")
    assert main(["credentials", str(tmp_path / "notes.txt")]) == 1
    assert "among the kinds that can carry them are .mp4, .webm" in capsys.readouterr().err
    assert main(["credentials", str(tmp_path / "none.txt")]) == 1
    assert "kinds" not in capsys.readouterr().err
    assert main(["credentials", str(tmp_path)]) == 0  # the folder's one video
    assert "of the same name: a.c2pa, which is not there" in capsys.readouterr().out
    (tmp_path / "a.webm").unlink()
    assert main(["credentials", str(tmp_path)]) == 1
    assert "has no picture or video: expected any of .mp4" in capsys.readouterr().err


def test_a_statement_beside_a_file_spares_what_is_there_and_does_not_go_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, statement = tmp_path / "talk.webm", tmp_path / "talk.c2pa"
    statement.write_bytes(b"the user's")
    assert animate(output, frames=1) == 1  # before any work
    assert "another file is there" in capsys.readouterr().err
    assert (statement.read_bytes(), output.exists()) == (b"the user's", False)
    statement.unlink()
    statement.write_bytes(b"... io.github.mcnet_avatar.generation ...")
    assert animate(output, "--no-content-credentials", frames=1) == 0
    assert not statement.exists()


def test_what_stands_before_a_photograph_is_a_composite(tmp_path: Path) -> None:
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    assert animate(tmp_path / "out.mp4", "--background", str(tmp_path / "sea.png"), frames=1) == 0
    found = read_credentials(tmp_path / "out.mp4")
    assert found is not None
    assert found.source_types == (COMPOSITE,)
    assert "A picture or video of the user's choice stands behind it." in words_in(tmp_path / "out.mp4")


def test_a_transparent_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert animate(tmp_path / "frames", "--background", "alpha", "--contact-sheet", str(sheet), frames=2) == 0
    picture = cv2.imread(str(tmp_path / "frames" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.shape == (512, 512, 4)
    assert picture[80, 20, 3] == 0
    assert picture[280, 256, 3] == 255
    for output, options, told in (
        ("x.mp4", (), "which has no alpha channel here, expected .webm"),
        ("x.webm", ("--side-by-side",), "leave one of the two out"),
    ):
        assert animate(tmp_path / output, "--background", "alpha", *options) == 1
        assert told in capsys.readouterr().err
    assert animate(tmp_path / "x.mp4", "--background", "rtsp://192.0.2.1/x") == 1
    assert "network address" in capsys.readouterr().err


@pytest.fixture(scope="module")
def glimpses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three frames of the clip, of which the first is not the one to start from."""
    folder = tmp_path_factory.mktemp("glimpses")
    frames = list(itertools.islice(open_driving(CLIP), 44))
    for number, index in enumerate((19, 43, 24)):
        write_rgb(folder / f"{number}.png", frames[index])
    return folder


def test_options_change_the_picture(tmp_path: Path, glimpses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each option moves the portrait otherwise than what stands beside it does; and which motion it is, is said."""
    uncropped = "--motion plane --no-crop"
    space, plane = "motion in space, keypoints measured", "motion in the plane, keypoints measured"
    last = {}
    for options, other, told in (
        ("", None, space),
        ("--motion plane", "", plane),
        ("--keypoints detected", "--motion plane", "motion in the plane, keypoints detected"),
        ("--motion plane --best-frame", "--motion plane", plane),
        ("--absolute", "--motion plane", "motion absolute, keypoints measured"),
        ("--no-crop", "", space),
        (uncropped, "--motion plane", plane),
        # Cropped alike, both faces are of one size, and adapting the scale has nothing to do.
        (f"{uncropped} --no-adapt-scale", uncropped, plane),
    ):
        output = tmp_path / f"frames{options.replace(' ', '')}"
        assert animate(output, *options.split(), driving=glimpses) == 0
        assert told in capsys.readouterr().err
        last[options] = read_rgb(output / "000002.png").astype(int)
        if other is not None:
            assert np.abs(last[options] - last[other]).mean() > 0.2, options


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


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_portrait_that_lies_on_its_side_is_turned_upright(
    tmp_path: Path, quarters: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the window: a head on its side would be tilted by 45 degrees to follow an upright performer."""
    lying = tmp_path / "lying.png"
    write_rgb(lying, np.rot90(read_rgb(PORTRAIT), quarters))
    args = parse_one(["--source", str(lying)])
    upright = load_portrait(PORTRAIT, args, measurable=True)
    turned = load_portrait(lying, args, measurable=True)
    assert np.array_equal(turned.rgb, upright.rgb)
    assert turned.box == upright.box
    told = capsys.readouterr().err
    assert told == f"{lying} is turned by {90 * quarters} degrees, so that its face stands upright\n"
    as_it_is = load_portrait(lying, parse_one(["--source", str(lying), "--no-crop"]), measurable=True)
    assert np.array_equal(as_it_is.rgb, read_rgb(lying))


def test_a_poor_portrait_is_told_with_what_speaks_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.png"
    write_rgb(small, cv2.resize(read_rgb(PORTRAIT), (80, 80), interpolation=cv2.INTER_AREA).astype(np.uint8))
    load_portrait(small, parse_one(["--source", str(small)]), measurable=True)
    told = capsys.readouterr().err
    assert told.startswith(f"{small} scores ")
    assert " of 100 as a portrait: the face is small: use a larger picture; " in told
    load_portrait(PORTRAIT, parse_one(["--source", str(PORTRAIT)]), measurable=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_video_that_is_not_upright_is_told(tmp_path: Path, quarters: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, rgb in enumerate(itertools.islice(open_driving(CLIP), 16)):
        write_rgb(folder / f"{index}.png", np.rot90(rgb, quarters))
    args = parse_one(["--driving", str(folder)])
    find_performance(open_driving(folder), args, cast("StopSignals", NeverStops()), measurable=True)
    told = capsys.readouterr().err
    asked = f"{folder} has to be turned by {90 * quarters} degrees, clockwise, for its face to stand upright"
    assert (asked in told) == (quarters > 0)
    assert ("has to be turned" in told) == (quarters > 0)


def test_a_shot_of_a_single_frame_is_framed_by_its_own_face(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    person = cv2.resize(read_rgb(PORTRAIT), (240, 240), interpolation=cv2.INTER_AREA)
    dark = np.full((240, 480, 3), 40, np.uint8)
    bright = np.repeat(np.linspace(250, 90, 240).astype(np.uint8)[:, None, None], 480, axis=1).repeat(3, axis=2)
    dark[:, :240] = bright[:, 240:] = person
    for index in range(13):
        write_rgb(folder / f"{index}.png", bright if index == 6 else dark)
    args = parse_one(["--driving", str(folder)])
    found = find_performance(open_driving(folder), args, cast("StopSignals", NeverStops()), measurable=True)
    assert [round(box.center_x / 240 - 0.5) for box in found.boxes] == [0] * 6 + [1] + [0] * 6


def test_a_second_person_of_a_film_moves_the_portrait_as_if_alone(tmp_path: Path, guided_engine: Engine) -> None:
    """From the first one's neutral face, the difference of the two faces would be carried into the portrait."""
    pictures = [ASSETS / "portraits" / f"{name}.jpg" for name in ("woman_4", "man_2")]
    for name, parts in (("film", [(0, 6), (1, 4)]), ("alone", [(1, 4)])):
        (tmp_path / name).mkdir()
        shown = [read_rgb(pictures[person])[::2, ::2] for person, frames in parts for _ in range(frames)]
        for index, rgb in enumerate(shown):
            write_rgb(tmp_path / name / f"{index}.png", rgb)
    portrait = load_portrait(PORTRAIT, parse_one(["--source", str(PORTRAIT)]), measurable=True)
    source = shot_of(portrait.rgb, portrait.face, portrait.box, 256)
    keypoints = []
    for name, last in (("film", 9), ("alone", 3)):
        driving = open_driving(tmp_path / name, folder_fps=4)
        args = parse_one(["--driving", str(driving.path)])
        performance = find_performance(driving, args, cast("StopSignals", NeverStops()), measurable=True)
        drive = make_drive(args, guided_engine, source, driving, performance, measurable=True, retouch=False)
        shot = performance.shot(last, read_rgb(driving.path / f"{last}.png"), 256)
        assert shot.performer == (name == "film")
        keypoints.append(drive.keypoints([shot]))
    np.testing.assert_allclose(keypoints[0].value, keypoints[1].value, atol=0.002)


def test_the_finder_is_told_when_a_frame_of_a_video_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who drives is a matter of seconds, whatever the frame rate."""
    told: list[float | None] = []
    find = FaceFinder.find

    def noted(finder: FaceFinder, rgb: NDArray[np.uint8], time_s: float | None = None) -> list[Face]:
        told.append(time_s)
        return find(finder, rgb, time_s)

    monkeypatch.setattr(FaceFinder, "find", noted)
    args = parse_one(["--driving", str(CLIP), "--max-frames", "3"])
    find_performance(open_driving(CLIP), args, cast("StopSignals", NeverStops()), measurable=True)
    assert [time_s for time_s in told if time_s is not None] == pytest.approx([0, 0.04, 0.08])


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
    assert animate(tmp_path / "out", driving=folder, frames=6) == 0
    written = [read_rgb(tmp_path / "out" / f"{index:06}.png") for index in range(6)]
    np.testing.assert_array_equal(written[3], written[2])
    np.testing.assert_array_equal(written[4], written[2])
    assert not np.array_equal(written[5], written[2])
    assert "3 frames" in capsys.readouterr().err


def test_a_face_that_is_mostly_outside_of_the_frame_holds_the_picture(tmp_path: Path) -> None:
    """As live: of what is outside, a mesh only guesses."""
    folder = tmp_path / "driving"
    folder.mkdir()
    rgb = frames_of(CLIP)[0]
    for index, left in enumerate([0, 40, 80, 115, 130, 145, 150, 155]):
        write_rgb(folder / f"{index}.png", np.pad(rgb[:, left:], ((0, 0), (0, left), (0, 0)), mode="edge"))
    args = parse_one(["--driving", str(folder)])
    found = find_performance(open_driving(folder), args, cast("StopSignals", NeverStops()), measurable=True)
    assert [face is not None for face in found.faces][:5] == [True] * 5
    assert [face is not None for face in found.faces][6:] == [False] * 2


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
        for more, what in (([], "cannot write"), (["--contact-sheet", str(folder / "x.png")], "--contact-sheet")):
            done = subprocess.run(
                [*command, *more], capture_output=True, text=True, timeout=120, check=False, encoding="utf-8"
            )
            assert done.returncode == 1, done.stderr
            (said,) = done.stderr.splitlines()  # and nothing of measuring, or of finding a face
            assert said.startswith(f"mcnet animate: {what} {folder / 'x.'}")
            assert not list(folder.iterdir())


def test_nothing_read_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    portrait = tmp_path / "me.png"
    write_rgb(portrait, read_rgb(PORTRAIT))
    folder = tmp_path / "000000"
    folder.mkdir()
    for index, frame in enumerate(frames_of(CLIP)[:2]):
        write_rgb(folder / f"{index:06}.png", frame)
    model = tmp_path / "model" / MODEL_FILE
    model.parent.mkdir()
    model.touch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    out, sheet = tmp_path / "out.mp4", "--contact-sheet"
    cases: list[tuple[Path, tuple[str, ...], str, dict[str, Path]]] = [
        (folder, (), "--output", {"driving": folder}),
        (folder, (), "is not empty", {}),
        (out, (sheet, str(portrait)), "--contact-sheet", {"source": portrait}),
        (out, (sheet, str(folder / "000001.png")), "--contact-sheet", {"driving": folder}),
        (folder / "x.gif", (), "lies in the folder that --driving reads", {"driving": folder}),
        (out, (sheet, str(tmp_path / "no" / "sheet.png")), "there is no folder", {}),
        (out, ("--model", str(model.parent), "--save-motion", str(model)), "over what --model reads", {}),
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


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: bytearray(2**62),
        lambda: cv2.resize(np.zeros((8, 8), np.uint8), (2**20, 2**26)),
        lambda: torch.empty(2**60),
    ],
)
def test_too_little_memory_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, allocate: Callable[[], object]
) -> None:
    monkeypatch.setattr("mcnet.media.portraits.find_portrait", lambda _: allocate())
    assert animate(tmp_path / "out.mp4") == 1
    said = capsys.readouterr().err
    assert said.startswith("mcnet animate: there is not enough memory: close other programs")
    assert said.count("\n") == 1


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
    # Without a search for faces, so that frames are being written as soon as there is a file.
    detected = ("--no-crop", "--keypoints", "detected")
    with subprocess.Popen(
        [*command, *("--output", str(output), "--device", "cpu", "--precision", "fp32"), *detected],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
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


def test_a_polite_kill_waits_until_what_was_written_is_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = credentials.disclose_all

    def killed(*arguments: Any) -> str:
        assert callable(signal.getsignal(signal.SIGTERM)), "the process would end here, and leave half a copy behind"
        signal.raise_signal(signal.SIGTERM)
        return sign(*arguments)

    monkeypatch.setattr(credentials, "disclose_all", killed)
    assert animate(tmp_path / "out.mp4") == 0
    assert f"{FRAMES} frames" in capsys.readouterr().out
    assert read_credentials(tmp_path / "out.mp4") is not None


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


def test_how_threads_wait_is_left_to_whoever_has_set_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for policy, spins in ((None, "20000"), ("PASSIVE", None)):
        monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is as before afterwards
        monkeypatch.delenv("GOMP_SPINCOUNT")
        if policy is None:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        else:
            monkeypatch.setenv("OMP_WAIT_POLICY", policy)
        assert main(["credentials", str(tmp_path / "none.mp4")]) == 1
        assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, mcnet.__main__ as m; m.build_parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_broken_opencv_is_said_and_does_not_hinder_convert(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')", encoding="utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "mcnet", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
        ).stderr

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


# One step of the network's pictures is up to 1.64 of an enlarged one (a cubic kernel along both axes), and their detail
# is moved and rounded besides.
@pytest.mark.parametrize(("motion", "size_px", "steps"), [("space", 512, 4), ("space", 256, 1), ("plane", 256, 1)])
def test_batches_show_what_single_frames_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, motion: str, size_px: int, steps: int
) -> None:
    options = ["--backend", "torch", "--motion", motion, "--size", str(size_px)]
    assert animate(tmp_path / "single", *options) == 0
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 2)  # 3 frames: one whole batch and a rest
    assert animate(tmp_path / "batched", *options) == 0
    names = sorted(path.name for path in (tmp_path / "single").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "batched").iterdir())
    assert len(names) == FRAMES
    for name in names:
        one, other = (read_rgb(tmp_path / folder / name).astype(int) for folder in ("single", "batched"))
        assert one.shape == (size_px, size_px, 3)
        assert np.abs(one - other).max() <= steps
