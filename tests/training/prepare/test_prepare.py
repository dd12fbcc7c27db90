"""From raw videos to clips: what becomes one, what is rejected and why, and that nothing is done twice or by halves."""

import argparse
import csv
import fcntl
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.commands.status import INTERRUPTED
from mcnet.media.crop import SIDE_PER_SIZE, SquareBox, crop, face_size_px
from mcnet.media.faces import FaceFinder
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter
from tests.media.videos import GRID, make_sound_only, make_video
from tests.training.chores import dies_on_two, stops_on_two
from training.data import DataError, Dataset, decode, open_or_pack, read_landmarks
from training.fit.stores import LandmarkStore
from training.landmarks import TRAINING_POINTS
from training.prepare import clips as clips_module
from training.prepare import command as prepare
from training.prepare import shards
from training.prepare.clips import ClipRules, Record, SourceTask, prepare_source
from training.prepare.sources import Identities, Source, SourceError, find_sources, read_mapping, split_identities
from training.prepare.tracks import CORE_PER_SIZE, MAX_SIDE_PER_SIZE, clip_square, head_pose_deg, outside_share
from training.prepare.workers import WorkerError, run_tasks

Frames = list[NDArray[np.uint8]]


def call(*arguments: object) -> int:
    """Run `mcnet-train prepare` in this process."""
    parser = argparse.ArgumentParser()
    prepare.add_parser(parser.add_subparsers())
    options = parser.parse_args(["prepare", "--workers", "1", *map(str, arguments)])
    return int(options.run_command(options))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def listing(folder: Path) -> dict[str, bytes]:
    """All files but the notes that are kept for the next call."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".prepare" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def grid() -> Frames:
    """75 frames of 360 x 288 of a man who speaks; his face is about 104 px wide."""
    return list(open_driving(GRID))


def swaying(name: str, count: int, size_px: tuple[int, int] = (360, 288)) -> Frames:
    """A portrait that moves as a held-up photo would."""
    portrait = read_rgb(ASSETS / "portraits" / name)
    scale = size_px[1] / portrait.shape[0]
    frames = []
    for index in range(count):
        x = (size_px[0] - portrait.shape[1] * scale) / 2 + 4 * np.sin(index / 3)
        matrix = np.array([[scale, 0, x], [0, scale, 3 * np.cos(index / 4)]])
        frame = cv2.warpAffine(portrait, matrix, size_px, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        frames.append(frame.astype(np.uint8))
    return frames


def placed(frames: Frames, size_px: tuple[int, int], where: Callable[[int], tuple[float, float]]) -> Frames:
    """Frames laid onto a larger grey picture; they may leave it."""
    answer = []
    for index, frame in enumerate(frames):
        x, y = where(index)
        matrix = np.array([[1.0, 0, x], [0, 1, y]])
        answer.append(cv2.warpAffine(frame, matrix, size_px, borderValue=(120, 130, 140)).astype(np.uint8))
    return answer


def scaled(frames: Frames, size_px: tuple[int, int]) -> Frames:
    return [cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8) for frame in frames]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory, grid: Frames) -> Path:
    """A folder of sources: good, bad and broken ones."""
    folder = tmp_path_factory.mktemp("raw videos")
    shutil.copyfile(GRID, folder / "grid.mpg")
    woman = swaying("woman_1.jpg", 40)
    make_video(folder / "two.mp4", [np.hstack(pair) for pair in zip(grid[:40], woman, strict=True)])
    make_video(folder / "cut.mp4", grid[:30] + woman[:30])
    still = (140, 56)
    same_room = [*placed(grid[:30], (640, 400), lambda _: still), *placed(woman[:30], (640, 400), lambda _: still)]
    make_video(folder / "same room.mp4", same_room)
    make_video(folder / "leaves.mp4", placed(grid[:60], (360, 288), lambda index: (max(0, index - 30) * 8, 0)))
    make_video(folder / "walks.mp4", placed(grid[:75], (640, 288), lambda index: (index * 2, 0)))
    make_video(folder / "tiny.mp4", scaled(grid[:30], (216, 172)))
    make_video(folder / "blurred.mp4", [cv2.GaussianBlur(frame, (0, 0), 3).astype(np.uint8) for frame in grid[:30]])
    make_video(folder / "photo.mp4", [woman[0]] * 30)
    make_video(folder / "one frame.mp4", grid[:1])
    make_video(folder / "nobody.mp4", [np.full((288, 360, 3), 40 + index, np.uint8) for index in range(30)])
    make_sound_only(folder / "sound.mp4")
    (folder / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("not a video")
    with VideoWriter(folder / "damaged.mp4", 25, (360, 288)) as writer:
        for frame in grid[:50]:
            writer.write(frame)
    content = (folder / "damaged.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(content[: round(0.8 * len(content))])
    pictures = folder / "frames" / "id07#speech"
    pictures.mkdir(parents=True)
    for index, frame in enumerate(grid[:30]):
        write_rgb(pictures / f"{index}.png", frame)
    return folder


@pytest.fixture(scope="module")
def prepared(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    assert call(footage, out, "--test-share", "0.3") == 0
    return out


def rows_of(prepared: Path, source: str) -> list[dict[str, str]]:
    return [row for row in read_csv(prepared / "manifest.csv") if row["source"] == source]


def rejects_of(prepared: Path, source: str) -> list[dict[str, str]]:
    return [row for row in read_csv(prepared / "rejects.csv") if row["source"] == source]


def test_a_talking_head_becomes_one_clip_framed_as_the_app_frames_it(prepared: Path, grid: Frames) -> None:
    (row,) = rows_of(prepared, "grid.mpg")
    assert (row["frames"], row["start_s"], row["ended"], row["licence"]) == ("75", "0.0", "end", "")
    assert float(row["face_width_px"]) == pytest.approx(104, abs=3)
    assert float(row["side_px"]) / float(row["face_width_px"]) == pytest.approx(2.1, abs=0.1)
    frames = list(decode(prepared / row["file"]))
    assert len(frames) == 75
    assert frames[0].shape == (256, 256, 3)
    with FaceFinder() as finder:
        (face,) = finder.find(frames[40])
    assert 256 / face_size_px(face) == pytest.approx(SIDE_PER_SIZE, rel=0.05)
    # The pictures are those of the source, colours included.
    x, y, side = (float(row[name]) for name in ("center_x", "center_y", "side_px"))
    wanted = crop(grid[40], SquareBox(x, y, side), 256)
    assert np.abs(frames[40].astype(int) - wanted.astype(int)).mean() < 2.5


def test_everybody_in_the_picture_is_followed(prepared: Path) -> None:
    rows = rows_of(prepared, "two.mp4")
    assert [row["track"] for row in rows] == ["0", "1"]
    assert sorted(float(row["center_x"]) > 360 for row in rows) == [False, True]
    assert {row["frames"] for row in rows} == {"40"}
    assert len({row["identity"] for row in rows}) == 1  # nobody said otherwise: one source, one side of the split


@pytest.mark.parametrize("source", ["cut.mp4", "same room.mp4"])
def test_a_hard_cut_ends_a_track_to_the_frame(prepared: Path, source: str) -> None:
    first, second = rows_of(prepared, source)
    assert (first["frames"], first["ended"]) == ("30", "cut")
    assert second["ended"] == "end"
    assert float(second["start_s"]) == pytest.approx(1.2)


def test_a_face_that_leaves_ends_its_track(prepared: Path) -> None:
    (row,) = rows_of(prepared, "leaves.mp4")
    assert row["ended"] == "moved"
    rejects = rejects_of(prepared, "leaves.mp4")
    assert "then the face leaves the picture" in rejects[-1]["detail"]
    assert 1.5 < float(rejects[-1]["start_s"]) + float(rejects[-1]["seconds"]) < 2.3


def test_a_person_who_walks_is_divided_into_squares_that_hold(prepared: Path) -> None:
    rows = rows_of(prepared, "walks.mp4")
    assert len(rows) >= 2
    assert {row["ended"] for row in rows[:-1]} == {"moved"}
    for row in rows:
        landmarks = landmarks_of(prepared, row["file"])
        assert landmarks.min() > 0.05
        assert landmarks.max() < 0.95
        ratio = float(row["side_px"]) / float(row["face_width_px"])
        assert CORE_PER_SIZE / 2.61 * 0.95 < ratio < MAX_SIDE_PER_SIZE / 2.61 * 1.08


@pytest.mark.parametrize(
    ("source", "reason", "detail"),
    [
        ("tiny.mp4", "too_small", r"face 6\d px wide, expected 77"),
        ("blurred.mp4", "blurred", "expected 12"),
        ("photo.mp4", "still", "faces/s"),
        ("one frame.mp4", "too_short", "got 1 frame "),
        ("nobody.mp4", "no_face", "none in 30 frames"),
        ("sound.mp4", "unreadable", "only sound"),
        ("broken.mp4", "unreadable", "^cannot read the video broken.mp4: "),
        ("empty.mp4", "unreadable", "empty file"),
    ],
)
def test_what_is_not_good_enough_is_rejected_with_the_reason(
    prepared: Path, source: str, reason: str, detail: str
) -> None:
    assert rows_of(prepared, source) == []
    (reject,) = rejects_of(prepared, source)
    assert reject["reason"] == reason
    assert re.search(detail, reject["detail"])


def test_the_report_counts_and_the_sheet_shows(prepared: Path) -> None:
    report = (prepared / "report.txt").read_text()
    assert "unreadable" in report
    assert "damaged.mp4: " in report
    assert "cut short" in report
    manifest = read_csv(prepared / "manifest.csv")
    assert f"{len(manifest):>10}" in report.splitlines()[1]
    sheet = read_rgb(prepared / "contact_sheet.png")
    assert sheet.shape[1] > 128 * min(10, len(manifest))


def landmarks_of(prepared: Path, file: str) -> NDArray[np.float16]:
    table = json.loads((prepared / "clips.json").read_text())["clips"]
    first = 0
    for clip in table:
        if clip["file"] == file:
            return read_landmarks(prepared / "landmarks.npz").landmarks[first : first + clip["frames"]]
        first += clip["frames"]
    raise AssertionError(file)


@pytest.fixture(scope="module")
def packed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_or_pack(prepared, tmp_path_factory.mktemp("cache"))


def test_fit_reads_the_result(prepared: Path, packed: Dataset) -> None:
    manifest = read_csv(prepared / "manifest.csv")
    assert [clip.file for clip in packed.clips] == [row["file"] for row in manifest]
    assert len(packed.frames) == sum(int(row["frames"]) for row in manifest)
    places, valid = LandmarkStore(packed, torch.device("cpu")).read(torch.arange(len(packed.frames)))
    assert valid.all()
    assert float(places.abs().max()) < 1


def test_landmarks_lie_where_a_search_in_the_clip_finds_them(packed: Dataset) -> None:
    with FaceFinder() as finder:
        for clip, start in zip(packed.clips, packed.starts.tolist(), strict=True):
            row = start + clip.frames // 2
            (face, *_) = finder.find(packed.frames[row])
            found = face.landmarks_px[:, :2] / 256
            error = np.linalg.norm(found - packed.landmarks.landmarks[row].astype(np.float32), axis=1)
            assert error.mean() < 0.012, clip.file


def test_nobody_is_on_both_sides(prepared: Path) -> None:
    manifest = read_csv(prepared / "manifest.csv")
    sides: dict[str, set[str]] = {}
    for row in manifest:
        sides.setdefault(row["identity"], set()).add(row["split"])
        assert row["file"].startswith(f"{row['split']}/{row['identity']}#")
    assert all(len(side) == 1 for side in sides.values())
    assert {row["split"] for row in manifest} == {"train", "test"}
    (row,) = rows_of(prepared, "frames/id07#speech")
    assert row["identity"] == "id07"


def test_a_second_call_does_nothing_again_and_gives_the_same(
    footage: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    before = listing(out)
    with monkeypatch.context() as patch:
        patch.setattr(clips_module, "prepare_source", lambda task: pytest.fail(f"{task.source.label} again"))
        assert call(footage, out, "--test-share", "0.3") == 0
        assert listing(out) == before
        # Another split moves files only; what the user wrote into the licence column stays.
        text = (out / "manifest.csv").read_text()
        (out / "manifest.csv").write_text(text.replace("grid.mpg,,", "grid.mpg,CC BY 4.0,"))
        assert call(footage, out, "--test-share", "0") == 0
    assert not (out / "test").exists()
    assert {row["split"] for row in read_csv(out / "manifest.csv")} == {"train"}
    assert rows_of(out, "grid.mpg")[0]["licence"] == "CC BY 4.0"
    # Named alone, a source is alone in the result; the others' clips are put aside and come back.
    assert call(footage / "grid.mpg", out) == 0
    assert [row["source"] for row in read_csv(out / "manifest.csv")] == ["grid.mpg"]
    assert [path.name for path in (out / "train").iterdir()] == ["grid#grid#000#000000#000074.mp4"]
    assert call(footage, out, "--test-share", "0.3") == 0
    again = listing(out)
    assert again.pop("manifest.csv").replace(b"CC BY 4.0", b"") == before.pop("manifest.csv")
    assert again == before


@pytest.fixture
def short(tmp_path: Path, grid: Frames) -> Path:
    """A folder of two short sources."""
    folder = tmp_path / "short"
    folder.mkdir()
    make_video(folder / "a.mp4", grid[:28])
    make_video(folder / "b.mp4", swaying("man_2.jpg", 28))
    return folder


def test_two_processes_give_the_same_bytes_as_one(short: Path, tmp_path: Path) -> None:
    assert call(short, tmp_path / "one") == 0
    assert call(short, tmp_path / "two", "--workers", 2) == 0
    one, two = (listing(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert len(one) >= 7


def test_other_rules_are_refused_and_a_changed_source_is_done_again(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Frames
) -> None:
    out = tmp_path / "out"
    assert call(short, out) == 0
    done: list[str] = []

    def spy(task: SourceTask) -> Record:
        done.append(task.source.label)
        return prepare_source(task)

    monkeypatch.setattr(clips_module, "prepare_source", spy)
    before = listing(out)
    with pytest.raises(DataError, match=r"other rules: min_seconds 1\.0 instead of 0\.5; .*--redo"):
        call(short, out, "--min-seconds", 0.5)
    assert listing(out) == before
    make_video(short / "a.mp4", grid[20:50])
    assert call(short, out) == 0
    assert done == ["a.mp4"]
    assert rows_of(out, "a.mp4")[0]["frames"] == "30"
    next(out.glob("t*/b#*")).unlink()  # a clip that went missing is made again
    assert call(short, out) == 0
    assert done == ["a.mp4", "b.mp4"]
    assert call(short, out, "--size", 512, "--min-face-px", 77, "--redo", "--points", "training") == 0
    assert done[2:] == ["a.mp4", "b.mp4"] or done[2:] == ["b.mp4", "a.mp4"]
    assert next(decode(out / rows_of(out, "a.mp4")[0]["file"])).shape == (512, 512, 3)
    assert len(read_landmarks(out / "landmarks.npz").points) < 468


def test_an_interrupted_call_is_gone_on_with(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    finished: list[str] = []

    def interrupted(task: SourceTask) -> Record:
        if finished:
            (task.partial / "clips").mkdir(parents=True)
            raise KeyboardInterrupt
        finished.append(task.source.label)
        return prepare_source(task)

    with monkeypatch.context() as patch:
        patch.setattr(clips_module, "prepare_source", interrupted)
        assert call(short, out) == INTERRUPTED
    assert "the same call again" in capsys.readouterr().err
    assert not (out / "clips.json").exists()
    assert not (out / ".prepare" / "partial").exists()

    def rest(task: SourceTask) -> Record:
        assert task.source.label not in finished
        return prepare_source(task)

    monkeypatch.setattr(clips_module, "prepare_source", rest)
    assert call(short, out) == 0
    assert len(read_csv(out / "manifest.csv")) == 2


CALL = """
import sys, argparse
from training.prepare import command as prepare
parser = argparse.ArgumentParser()
prepare.add_parser(parser.add_subparsers())
options = parser.parse_args(sys.argv[1:])
sys.exit(options.run_command(options))
"""


def at_work(group: int) -> list[str]:
    """The processes of a group that are not dead, as /proc has them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        state, _, its_group, *_ = rest.split()
        if int(its_group) == group and state not in "ZX":
            found.append(name)
    return found


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_all_processes_and_leave_no_halves(short: Path, tmp_path: Path, sent: signal.Signals) -> None:
    out = tmp_path / "out"
    for name in ("c.mp4", "d.mp4"):
        shutil.copyfile(short / "a.mp4", short / name)
    arguments = [sys.executable, "-c", CALL, "prepare", str(short), str(out), "--workers", "2"]
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list((out / ".prepare" / "partial").glob("*/clips")) and time.monotonic() < deadline:
            time.sleep(0.02)
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            process.send_signal(sent)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    assert not (out / ".prepare" / "partial").exists()
    assert not (out / "clips.json").exists()
    deadline = time.monotonic() + 5
    while (left := at_work(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_a_process_that_dies_fails_its_task_only() -> None:
    outcomes = {outcome.task: outcome for outcome in run_tasks(dies_on_two, [1, 2, 3, 4], 2)}
    assert [outcomes[task].result for task in (1, 2, 3, 4)] == [10, None, None, 40]
    assert "exit code 7" in outcomes[2].failure
    assert outcomes[3].failure.endswith("ValueError: three\n")
    with pytest.raises(WorkerError, match="disk is full"):
        list(run_tasks(stops_on_two, [1, 2, 3], 2))


def test_an_error_of_ours_is_counted_and_tried_again(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: SourceTask) -> Record:
        if task.source.label == "a.mp4":
            raise RuntimeError("out of luck")
        return prepare_source(task)

    with monkeypatch.context() as patch:
        patch.setattr(clips_module, "prepare_source", fails)
        assert call(short, tmp_path / "out") == 0
    (reject,) = read_csv(tmp_path / "out" / "rejects.csv")
    assert (reject["source"], reject["reason"]) == ("a.mp4", "failed")
    assert "out of luck" in reject["detail"]
    assert call(short, tmp_path / "out") == 0
    assert read_csv(tmp_path / "out" / "rejects.csv") == []


def test_png_folders_are_the_released_layout_and_exact(short: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(short / "a.mp4", out, "--png", "--test-share", 0) == 0
    folder = out / "train" / "a#a#000#000000#000027.mp4"
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "000000.png"
    assert len(names) == 28
    dataset = open_or_pack(out, tmp_path / "cache")
    assert dataset.clips[0].file == "train/a#a#000#000000#000027.mp4/%06d.png"
    assert np.array_equal(dataset.frames[5], read_rgb(folder / "000005.png"))
    with pytest.raises(DataError, match="leave out --png"):
        call(short, tmp_path / "other", "--png", "--shards")


def test_shards_hold_everything_and_become_a_folder_of_clips_again(prepared: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed: pip install '.[train]'")
    written = shards.write_shards(prepared, tmp_path / "shards", shard_bytes=200_000)
    names = [path.name for path in written]
    assert names[0] == "test-000000.tar"
    assert "train-000001.tar" in names
    again = shards.write_shards(prepared, tmp_path / "again", shard_bytes=200_000)
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    # With nothing of ours.
    pattern = str(tmp_path / "shards" / f"train-{{000000..{sum('train' in name for name in names) - 1:06d}}}.tar")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # WebDataset leaves its files to the garbage collector
        samples = list(webdataset.WebDataset(pattern, shardshuffle=False))
        gc.collect()
    table = json.loads((prepared / "clips.json").read_text())["clips"]
    assert len(samples) == sum(clip["split"] == "train" for clip in table)
    facts = json.loads(samples[0]["json"])
    assert samples[0]["mp4"] == (prepared / facts["file"]).read_bytes()
    count = shards.unshard([str(path) for path in written], tmp_path / "back")
    assert count == len(table)
    before, after = listing(prepared), listing(tmp_path / "back")
    assert {name: before[name] for name in after} == after
    assert {"clips.json", "landmarks.npz"} < set(after)
    with pytest.raises(DataError, match="already holds"):
        shards.unshard([str(written[0])], tmp_path / "back")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(DataError, match="cannot read the shards"):
        shards.unshard([str(tmp_path / "bad.tar")], tmp_path / "bad")


def test_inputs_and_places_that_cannot_be_used(short: Path, tmp_path: Path, footage: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="holds no videos and no pictures"):
        call(tmp_path / "void", tmp_path / "out")
    with pytest.raises(DataError, match="no video or folder at"):
        call(tmp_path / "missing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="holds something else"):
        call(short, footage)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="got a file"):
        call(short, tmp_path / "file")
    with pytest.raises(DataError, match="cannot write into"):
        call(short, "/proc/nowhere")
    with pytest.raises(DataError, match=r"no clip came of 1 sources: sound\.mp4: unreadable, .*only sound"):
        call(footage / "sound.mp4", tmp_path / "out")
    assert not (tmp_path / "out" / "clips.json").exists()
    with pytest.raises(DataError, match="expected at least --min-seconds"):
        call(short, tmp_path / "other", "--max-seconds", 0.5)


def test_a_second_call_at_the_same_time_is_refused(short: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".prepare").mkdir(parents=True)
    with (tmp_path / "out" / ".prepare" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another call is preparing"):
            call(short, tmp_path / "out")


def test_a_full_disk_stops_with_one_sentence(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left"):
        call(short, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json"))
    assert not (tmp_path / "out" / ".prepare" / "done").exists()


def test_slow_and_fast_videos_become_25_frames_a_second(tmp_path: Path, grid: Frames) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "slow.mp4", grid[:24], fps=15)
    make_video(tmp_path / "in" / "fast.mp4", [frame for frame in grid[:40] for _ in (0, 1)], fps=50)
    assert call(tmp_path / "in", tmp_path / "out", "--test-share", 0) == 0
    seconds = {row["source"]: (row["seconds"], row["frames"]) for row in read_csv(tmp_path / "out" / "manifest.csv")}
    assert seconds == {"slow.mp4": ("1.6", "40"), "fast.mp4": ("1.6", "40")}


def test_sources_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("x/id1/a.mp4", "x/id1/a.mkv", "x/id2/a.mp4", "y/id1/a.mp4", "x/.hidden/b.mp4", "x/out/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "x" / "id2" / "cover.jpg").touch()
    sources = find_sources([tmp_path / "x", tmp_path / "y", tmp_path / "x" / "id2" / "a.mp4"], tmp_path / "x" / "out")
    labels = [source.label for source in sources]
    assert labels == ["id1/a.mkv", "id2/a.mp4", "x/id1/a.mp4", "y/id1/a.mp4"]
    assert len({source.name for source in sources}) == 4
    assert sources[1].name == "id2-a"
    stamp = sources[1].stamp
    (tmp_path / "x" / "id2" / "a.mp4").write_text("more")
    assert sources[1].stamp != stamp


def test_who_is_seen(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("source,identity\nid1/a,Ann B.\nb.mp4,ben\nid3-two#001,cyd\n")
    mapping = read_mapping(table)

    def source(label: str) -> Source:
        return Source(label, Path(label), label.split(".")[0].replace("/", "-").replace("#", "-"))

    folder = Identities(mapping, by_folder=True)
    assert folder.of(source("id1/a.mp4"), 0) == "Ann-B"
    assert folder.of(source("id2/b.mp4"), 0) == "ben"
    assert [folder.of(source("id3/two.mp4"), track) for track in (0, 1)] == ["id3", "cyd"]
    assert folder.of(source("id3/id9#x.mp4"), 0) == "id9"
    assert Identities({}, by_folder=False).of(source("id3/two.mp4"), 0) == "id3-two"
    for text, message in (("source\na\n", "expected the columns"), ("source,identity\na,b\na,c\n", "is both")):
        table.write_text(text)
        with pytest.raises(SourceError, match=message):
            read_mapping(table)


def test_the_split_is_by_name_and_nobody_changes_sides() -> None:
    names = [f"id{number}" for number in range(400)]
    splits = split_identities(names, 0.1, 0)
    assert 20 < list(splits.values()).count("test") < 60
    more = split_identities([*names, *(f"new{number}" for number in range(200))], 0.1, 0)
    assert all(more[name] == splits[name] for name in names)
    assert split_identities(names, 0.1, 1) != splits
    assert set(split_identities(names, 0, 0).values()) == {"train"}
    assert sorted(split_identities(["a", "b"], 0.01, 0).values()) == ["test", "train"]
    assert split_identities(["a"], 0.5, 0).keys() == {"a"}


def test_a_square_stays_in_the_picture_as_far_as_it_can(grid: Frames) -> None:
    with FaceFinder() as finder:
        faces = finder.find(grid[0])
    free = clip_square(faces, 10_000, 10_000)
    size = face_size_px(faces[0])
    assert free.side == pytest.approx(SIDE_PER_SIZE * size, rel=1e-3)
    right = round(free.center_x + 0.46 * free.side)  # the border cuts a little of the free square
    moved = clip_square(faces, right, 288)
    assert moved.center_x + moved.side / 2 <= right + 0.01
    assert moved.side == pytest.approx(free.side)
    small = round(free.side * 0.9)
    shrunk = clip_square(faces, small, small)
    assert CORE_PER_SIZE * size <= shrunk.side <= free.side
    assert outside_share(free, 10_000, 10_000) == pytest.approx(0, abs=1e-9)
    assert outside_share(free, round(free.center_x), 10_000) == pytest.approx(0.5, abs=0.01)


def test_head_pose_turns_as_the_mesh_is_turned(grid: Frames) -> None:
    with FaceFinder() as finder:
        points = finder.find(grid[0])[0].landmarks_px
    middle = points.mean(axis=0)
    before = head_pose_deg(points)
    for axis, place in ((np.array([0.0, 1, 0]), 0), (np.array([1.0, 0, 0]), 1), (np.array([0.0, 0, 1]), 2)):
        turn, _ = cv2.Rodrigues(axis * np.radians(20))
        after = head_pose_deg(((points - middle) @ turn.T + middle).astype(np.float32))
        changes = np.abs(np.subtract(after, before))
        assert changes[place] == pytest.approx(20, abs=1.5)
        assert changes.max() == changes[place]


def test_rules_name_the_points() -> None:
    assert len(ClipRules().points) == 468
    assert len(ClipRules(all_points=False).points) == len(TRAINING_POINTS)
