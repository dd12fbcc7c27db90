"""Landmarks measured anew: in order, resumed, of both forms of data and both versions of tables."""

import contextlib
import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT
from mcnet.commands.outputs import OutputError
from mcnet.files import claimed
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import read_rgb, write_rgb
from tests.training.conftest import write_video
from training.__main__ import main
from training.data import (
    CLIPS_FORMAT,
    PHOTOS,
    PNG_PATTERN,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    decode,
    open_dataset,
    pack,
    read_landmarks,
    read_table,
    write_landmarks,
    write_table,
)
from training.landmarks import EYE_CORNERS, PUPILS, TRAINING_POINTS
from training.prepare.portable import write_jpeg
from training.prepare.relabel import Finders, relabel
from training.prepare.small import shrink_clips

SIZE_PX = 256
OLD_POINTS = np.array([point for point in TRAINING_POINTS if point not in PUPILS])


def picture(x: int, y: int = 128) -> NDArray[np.uint8]:
    rgb = np.full((SIZE_PX, SIZE_PX, 3), 40, np.uint8)
    rgb[y - 8 : y + 8, x - 8 : x + 8] = 220
    return rgb


def found_at(rgb: NDArray[np.uint8]) -> Face | None:
    """A "face" whose every point lies on the bright square, 10 px deep, with irises 2 px to its right."""
    down, across = np.nonzero(rgb.min(2) > 130)
    if not len(down):
        return None
    middle = np.array([across.mean() + 0.5, down.mean() + 0.5, 10], np.float32)
    return Face(np.tile(middle, (468, 1)), 1.0, np.tile(middle[:2] + np.array([2, 0], np.float32), (2, 5, 1)))


class Fakes:
    """Finders that note what they were asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stop_after = 10**9

    def __call__(self) -> Finders:
        def noted(name: str) -> Callable[[NDArray[np.uint8]], Face | None]:
            def find(rgb: NDArray[np.uint8]) -> Face | None:
                if len(self.calls) >= self.stop_after:
                    raise KeyboardInterrupt
                self.calls.append(name)
                return found_at(rgb)

            return find

        return Finders(noted("follow"), lambda: self.calls.append("forget"), noted("search"))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A clip, two photographs of one person, a still, and a clip that shows nobody at its end; old labels all wrong."""
    folder = tmp_path / "clips"
    (folder / "m").mkdir(parents=True)
    write_video(folder / "m" / "a.mp4", [picture(60), picture(100), picture(140)])
    write_video(folder / "m" / "p.mp4", [picture(80), picture(90)])
    write_jpeg(folder / "m" / "s.jpg", picture(200, 60))
    write_video(folder / "m" / "b.mp4", [picture(120), np.full((SIZE_PX, SIZE_PX, 3), 40, np.uint8)])
    table = [
        Clip("m/a.mp4", "ann", "train", 3),
        Clip("m/p.mp4", "pam", "train", 2, PHOTOS),
        Clip("m/s.jpg", "sue", "test", 1),
        Clip("m/b.mp4", "ben", "train", 2, licence="CC BY 4.0"),
    ]
    write_table(folder / "clips.json", CLIPS_FORMAT, ClipTable(SIZE_PX, tuple(table)))
    places = np.full((8, len(OLD_POINTS), 2), 0.25, np.float16)
    depth = np.zeros((8, len(OLD_POINTS)), np.float16)
    valid = np.array([True] * 7 + [False])
    valid[1] = False
    write_landmarks(folder / "landmarks.npz", Landmarks(OLD_POINTS, places, valid, depth))
    return folder


def check(landmarks: Landmarks) -> None:
    """Every frame's labels lie where its own picture shows the square."""
    assert landmarks.points.tolist() == list(TRAINING_POINTS)
    assert landmarks.valid.tolist() == [True] * 7 + [False]
    pupils = np.isin(landmarks.points, PUPILS)
    expected = np.array([[60, 128], [100, 128], [140, 128], [80, 128], [90, 128], [200, 60], [120, 128]])
    for row, (x, y) in enumerate(expected):
        there = landmarks.in_space[row].astype(np.float64) * SIZE_PX
        np.testing.assert_allclose(there[~pupils], np.tile([x, y, 10], ((~pupils).sum(), 1)), atol=0.3)
        np.testing.assert_allclose(there[pupils], np.tile([x + 2, y, 10], (2, 1)), atol=0.3)
    assert not landmarks.in_space[7].any()


def test_a_folder_of_clips_in_place(clips: Path) -> None:
    before = (clips / "clips.json").read_bytes()
    fakes = Fakes()
    report = relabel(clips, clips, fakes())
    check(read_landmarks(clips / "landmarks.npz"))
    assert (clips / "clips.json").read_bytes() == before
    assert read_landmarks(clips / "landmarks.before.npz").points.tolist() == OLD_POINTS.tolist()
    assert (report.clips, report.frames, report.lost, report.found, report.skipped) == (4, 8, 0, 1, ())
    assert report.moved_px > 30
    # Consecutive frames are followed as live, each clip afresh; photographs and stills are looked at one by one.
    assert fakes.calls == [
        "forget",
        *["follow"] * 3,
        "forget",
        *["search"] * 2,
        "forget",
        "search",
        "forget",
        *["follow"] * 2,
    ]
    assert sorted(path.name for path in clips.iterdir()) == ["clips.json", "landmarks.before.npz", "landmarks.npz", "m"]
    relabel(clips, clips, Fakes()())
    assert read_landmarks(clips / "landmarks.before.npz").points.tolist() == OLD_POINTS.tolist()  # the first ones stay


def test_into_another_folder_nothing_here_changes(clips: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in clips.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    relabel(clips, out, Fakes()())
    assert {path: path.read_bytes() for path in clips.rglob("*") if path.is_file()} == before
    check(read_landmarks(out / "landmarks.npz"))
    assert pack(out, tmp_path / "packed").frames == 8
    check(open_dataset(tmp_path / "packed").landmarks)
    with pytest.raises(DataError, match="holds a dataset already: choose another folder"):
        relabel(clips, out, Fakes()())


def test_clips_of_pngs_go_into_another_folder(clips: Path, tmp_path: Path) -> None:
    table = read_table(clips / "clips.json", CLIPS_FORMAT)
    listed = []
    for clip in table.clips:
        folder = (clips / clip.file).with_suffix(".png folder")
        folder.mkdir()
        for number, rgb in enumerate(decode(clips / clip.file)):
            write_rgb(folder / (PNG_PATTERN % number), rgb)
        (clips / clip.file).unlink()
        listed.append(dataclasses.replace(clip, file=str((folder / PNG_PATTERN).relative_to(clips))))
    write_table(clips / "clips.json", CLIPS_FORMAT, ClipTable(table.size_px, tuple(listed)))
    relabel(clips, tmp_path / "out", Fakes()())
    assert pack(tmp_path / "out", tmp_path / "packed").frames == 8
    check(open_dataset(tmp_path / "packed").landmarks)
    assert shrink_clips(tmp_path / "out", tmp_path / "small").skipped == ()


def test_a_full_disk_leaves_no_half_table(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, target: Path) -> None:
        target.write_text("{", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(DataError, match="No space left"):
            relabel(clips, tmp_path / "out", Fakes()())
    relabel(clips, tmp_path / "out", Fakes()())
    check(read_landmarks(tmp_path / "out" / "landmarks.npz"))


def test_a_packed_dataset(clips: Path, tmp_path: Path) -> None:
    pack(clips, tmp_path / "packed")
    relabel(tmp_path / "packed", tmp_path / "out", Fakes()())
    dataset = open_dataset(tmp_path / "out")
    check(dataset.landmarks)
    assert [clip.identity for clip in dataset.clips] == ["ann", "pam", "sue", "ben"]
    assert dataset.clips[3].licence == "CC BY 4.0"
    assert np.array_equal(dataset.frames, open_dataset(tmp_path / "packed").frames)


@pytest.mark.parametrize("small", [False, True], ids=["plain", "as differences"])
@pytest.mark.parametrize("version", [1, 2])
def test_tables_of_every_kind(clips: Path, version: int, small: bool) -> None:
    old = read_landmarks(clips / "landmarks.npz")
    if version == 1:
        old = old._replace(depth=None)
        table = json.loads((clips / "clips.json").read_text(encoding="utf-8"))
        table["format"] = "mcnet-clips/1"
        for clip in table["clips"]:
            del clip["licence"]
            if clip["identity"] != "pam":
                del clip["kind"]
        (clips / "clips.json").write_text(json.dumps(table), encoding="utf-8")
    write_landmarks(clips / "landmarks.npz", old, small=small)
    relabel(clips, clips, Fakes()())
    check(read_landmarks(clips / "landmarks.npz"))


def test_it_goes_on_where_it_was_interrupted(clips: Path) -> None:
    fakes = Fakes()
    fakes.stop_after = 6  # in the middle of the second clip
    with pytest.raises(KeyboardInterrupt):
        relabel(clips, clips, fakes())
    assert read_landmarks(clips / "landmarks.npz").points.tolist() == OLD_POINTS.tolist()
    again = Fakes()
    relabel(clips, clips, again())
    assert again.calls[:3] == ["forget", "search", "search"]  # the first clip is not measured again
    check(read_landmarks(clips / "landmarks.npz"))


def test_a_backup_is_whole_or_not_there(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("training.prepare.relabel.shutil.copyfile", half)
        with pytest.raises(DataError, match="No space left on device"):
            relabel(clips, clips, Fakes()())
    assert not (clips / "landmarks.before.npz").exists()
    relabel(clips, clips, Fakes()())
    assert read_landmarks(clips / "landmarks.before.npz").points.tolist() == OLD_POINTS.tolist()
    check(read_landmarks(clips / "landmarks.npz"))


def test_what_was_measured_of_another_table_is_not_taken(clips: Path) -> None:
    fakes = Fakes()
    fakes.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        relabel(clips, clips, fakes())
    table = read_table(clips / "clips.json", CLIPS_FORMAT)
    order = [3, 0, 1, 2]
    write_table(clips / "clips.json", CLIPS_FORMAT, table._replace(clips=tuple(table.clips[index] for index in order)))
    old = read_landmarks(clips / "landmarks.npz")
    write_landmarks(clips / "landmarks.npz", old.rows(np.array([6, 7, 0, 1, 2, 3, 4, 5])))
    relabel(clips, clips, Fakes()())
    new = read_landmarks(clips / "landmarks.npz")
    check(new.rows(np.array([2, 3, 4, 5, 6, 7, 0, 1])))


def test_what_was_measured_of_other_pictures_is_not_taken(clips: Path) -> None:
    write_video(clips / "m" / "a.mp4", [picture(30)] * 3)
    fakes = Fakes()
    fakes.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        relabel(clips, clips, fakes())
    write_video(clips / "m" / "a.mp4", [picture(60), picture(100), picture(140)])
    relabel(clips, clips, Fakes()())
    check(read_landmarks(clips / "landmarks.npz"))


def test_a_clip_that_cannot_be_read_keeps_what_it_had(clips: Path) -> None:
    relabel(clips, clips, Fakes()())
    (clips / "m" / "a.mp4").write_bytes(b"no video")
    (clips / "landmarks.before.npz").unlink()
    report = relabel(clips, clips, Fakes()())
    assert len(report.skipped) == 1
    assert "m/a.mp4" in report.skipped[0].replace("\\", "/")
    check(read_landmarks(clips / "landmarks.npz"))


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no dataset: got neither dataset\.json nor clips\.json"):
        relabel(tmp_path, tmp_path, Fakes()())


def test_the_command_with_the_networks_that_measure_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb = read_rgb(ROOT / "portraits" / "woman_1.jpg")
    with FaceFinder() as finder:
        face = crop(rgb, frame_face(finder.find(rgb)[0]), SIZE_PX)
    folder = tmp_path / "clips"
    folder.mkdir()
    write_jpeg(folder / "s.jpg", face)
    write_video(folder / "c.mp4", [face, np.roll(face, 6, 1), np.roll(face, 12, 1)])
    table = ClipTable(SIZE_PX, (Clip("s.jpg", "ann", "train", 1), Clip("c.mp4", "ann", "train", 3)))
    write_table(folder / "clips.json", CLIPS_FORMAT, table)
    old = Landmarks(OLD_POINTS, np.zeros((4, len(OLD_POINTS), 2), np.float16), np.zeros(4, bool))
    write_landmarks(folder / "landmarks.npz", old)
    assert main(["relabel", str(folder), "--out", str(tmp_path / "out"), "--points", "all"]) == 0
    assert "labelled 4 frames of 2 clips" in capsys.readouterr().out
    found = read_landmarks(tmp_path / "out" / "landmarks.npz")
    assert found.valid.all()
    assert found.points.tolist() == list(range(478))
    places = found.landmarks.astype(np.float64) * SIZE_PX
    for pupil, (right, left) in zip(PUPILS, EYE_CORNERS, strict=True):
        assert (places[:, right, 0] < places[:, pupil, 0]).all()
        assert (places[:, pupil, 0] < places[:, left, 0]).all()
    missed = np.abs(np.diff(places[1:, :, 0], axis=0) - 6)  # through H.264: single points of the mesh tremble
    assert np.percentile(missed, 99) <= 1
    assert missed.max() < 1.5
    shutil.rmtree(tmp_path / "out")
    (folder / "landmarks.npz").unlink()
    assert main(["relabel", str(folder)]) == 2
    assert "landmarks are part of a dataset" in capsys.readouterr().err


def test_two_calls_do_not_label_one_folder_at_once(clips: Path) -> None:
    with claimed(clips / "landmarks.npz"), pytest.raises(DataError, match=r"another call labels .*: wait for it"):
        relabel(clips, clips, Fakes()())
    relabel(clips, clips, Fakes()())


def test_a_folder_that_holds_another_dataset_is_not_labelled_into(clips: Path, tmp_path: Path) -> None:
    pack(clips, tmp_path / "packed")
    before = {file: file.read_bytes() for file in (tmp_path / "packed").rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="holds a dataset already"):
        relabel(clips, tmp_path / "packed", Fakes()())
    assert {file: file.read_bytes() for file in (tmp_path / "packed").rglob("*") if file.is_file()} == before


def test_labels_that_cannot_be_written_are_told_before_any_is_measured(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "landmarks.npz").mkdir(parents=True)
    fakes = Fakes()
    with pytest.raises(OutputError, match="it is a folder, expected a file's name"):
        relabel(clips, tmp_path / "out", fakes())
    assert not fakes.calls


def test_the_command_counts_what_it_could_not_label(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.prepare.relabel.live_finders", lambda: contextlib.nullcontext(Fakes()()))
    (clips / "m" / "a.mp4").write_bytes(b"no video")
    assert main(["relabel", str(clips)]) == 1
    said = capsys.readouterr()
    assert "not labelled: " in said.out
    assert "1 of 4 clips are not labelled, as told above" in said.err
