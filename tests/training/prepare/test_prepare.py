"""From raw videos to clips: what becomes one, what is rejected and why, and that nothing is done twice or by halves."""

import argparse
import csv
import errno
import fcntl
import gc
import io
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable, Sequence
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
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter
from tests.media.clips import turned
from tests.media.matrix import stored_for
from tests.media.videos import GRID, make_sound_only, make_video
from tests.training.chores import Errand, dies_on_two, run_errand, stops_on_two
from training.data import DataError, Dataset, decode, open_or_pack, read_landmarks, write_landmarks
from training.fit.sampler import PairSampler
from training.fit.stores import LandmarkStore
from training.landmarks import TRAINING_POINTS
from training.prepare import clips as clips_module
from training.prepare import command as prepare
from training.prepare import progress, shards, workers
from training.prepare.clips import ClipRules, Record, SourceTask, prepare_source
from training.prepare.relabel import Finders, relabel
from training.prepare.sources import (
    Identities,
    Source,
    SourceError,
    cost_of,
    find_sources,
    read_table_of_identities,
    split_identities,
    without_copies,
)
from training.prepare.tracks import (
    CORE_PER_SIZE,
    LONGEST_S,
    MAX_SIDE_PER_SIZE,
    Part,
    clip_square,
    head_pose_deg,
    outside_share,
    split_by_movement,
)
from training.prepare.workers import Failure, WorkerError, run_tasks

Frames = list[NDArray[np.uint8]]


def call(*arguments: object) -> int:
    """Run `mcnet-train prepare` in this process."""
    parser = argparse.ArgumentParser()
    prepare.add_parser(parser.add_subparsers())
    options = parser.parse_args(["prepare", "--workers", "1", *map(str, arguments)])
    return int(options.run_command(options))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
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
    woman = swaying("woman_1.jpg", 30)
    make_video(folder / "two.mp4", [np.hstack(pair) for pair in zip(grid[:30], woman, strict=True)])
    make_video(folder / "cut.mp4", grid[:26] + woman[:26])
    still = (140, 56)
    same_room = [*placed(grid[:26], (640, 400), lambda _: still), *placed(woman[:26], (640, 400), lambda _: still)]
    make_video(folder / "same room.mp4", same_room)
    make_video(folder / "leaves.mp4", placed(grid[:60], (360, 288), lambda index: (max(0, index - 30) * 8, 0)))
    make_video(folder / "walks.mp4", placed(grid[:75], (640, 288), lambda index: (index * 2, 0)))
    make_video(folder / "tiny.mp4", scaled(grid[:26], (216, 172)))
    make_video(folder / "blurred.mp4", [cv2.GaussianBlur(frame, (0, 0), 3).astype(np.uint8) for frame in grid[:26]])
    make_video(folder / "photo.mp4", [woman[0]] * 26)
    make_video(folder / "one frame.mp4", grid[:1])
    make_video(folder / "nobody.mp4", [np.full((288, 360, 3), 40 + index, np.uint8) for index in range(30)])
    make_sound_only(folder / "sound.mp4")
    (folder / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("not a video", encoding="utf-8")
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


def test_a_phone_video_that_is_turned_and_mirrored_is_prepared_upright(tmp_path: Path, grid: Frames) -> None:
    (tmp_path / "raw").mkdir()
    matrix = (0, 1, 1, 0)
    path = make_video(tmp_path / "raw" / "phone.mp4", [stored_for(frame, matrix) for frame in grid[:30]])
    turned(path, matrix)
    assert call(tmp_path / "raw", tmp_path / "out") == 0
    (row,) = rows_of(tmp_path / "out", "phone.mp4")
    x, y, side = (float(row[name]) for name in ("center_x", "center_y", "side_px"))
    wanted = crop(grid[0], SquareBox(x, y, side), 256)
    shown = next(iter(decode(tmp_path / "out" / row["file"])))
    assert np.abs(shown.astype(int) - wanted.astype(int)).mean() < 3


def test_everybody_in_the_picture_is_followed(prepared: Path) -> None:
    rows = rows_of(prepared, "two.mp4")
    assert [row["track"] for row in rows] == ["0", "1"]
    assert sorted(float(row["center_x"]) > 360 for row in rows) == [False, True]
    assert {row["frames"] for row in rows} == {"30"}
    assert len({row["identity"] for row in rows}) == 1  # nobody said otherwise: one source, one side of the split


@pytest.mark.parametrize("source", ["cut.mp4", "same room.mp4"])
def test_a_hard_cut_ends_a_track_to_the_frame(prepared: Path, source: str) -> None:
    first, second = rows_of(prepared, source)
    assert (first["frames"], first["ended"]) == ("26", "cut")
    assert second["ended"] == "end"
    assert float(second["start_s"]) == pytest.approx(26 / 25)


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
    report = (prepared / "report.txt").read_text(encoding="utf-8")
    assert "unreadable" in report
    assert "damaged.mp4: " in report
    assert "cut short" in report
    manifest = read_csv(prepared / "manifest.csv")
    assert f"{len(manifest):>10}" in report.splitlines()[1]
    sheet = read_rgb(prepared / "contact_sheet.png")
    assert sheet.shape[1] > 128 * min(10, len(manifest))


def landmarks_of(prepared: Path, file: str) -> NDArray[np.float16]:
    table = json.loads((prepared / "clips.json").read_text(encoding="utf-8"))["clips"]
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
            found = face.mesh_px[:, :2] / 256
            error = np.linalg.norm(found - packed.landmarks.landmarks[row].astype(np.float32), axis=1)
            assert error.mean() < 0.012, clip.file
            # In depth, only differences within a face mean something.
            depth = packed.landmarks.in_space[row, :, 2].astype(np.float32)
            away = face.mesh_px[:, 2] / 256
            assert np.abs((depth - depth.mean()) - (away - away.mean())).mean() < 0.012, clip.file
            assert depth[[234, 454]].mean() > depth[1] + 0.1  # the ears are behind the tip of the nose


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
        text = (out / "manifest.csv").read_text(encoding="utf-8")
        (out / "manifest.csv").write_text(text.replace("grid.mpg,,", "grid.mpg,CC BY 4.0,"), encoding="utf-8")
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
    assert b'"licence": "CC BY 4.0"' in again["clips.json"]  # what the user wrote goes into the dataset's table as well
    for name in ("manifest.csv", "clips.json"):
        assert again.pop(name).replace(b"CC BY 4.0", b"") == before.pop(name)
    assert again == before


@pytest.fixture(scope="module")
def two_short(tmp_path_factory: pytest.TempPathFactory, grid: Frames) -> Path:
    folder = tmp_path_factory.mktemp("short")
    make_video(folder / "a.mp4", grid[:28])
    make_video(folder / "b.mp4", swaying("man_2.jpg", 28))
    return folder


@pytest.fixture
def short(tmp_path: Path, two_short: Path) -> Path:
    """A folder of two short sources, of a test's own."""
    return Path(shutil.copytree(two_short, tmp_path / "short"))


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
            name, _, rest = path.read_text(encoding="utf-8").rpartition(")")
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
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(24):  # more than are done before a busy machine lets this process go on
        other = number.to_bytes(4, "big")  # the same footage once more would be left out
        (clips / f"{number}.mp4").write_bytes((short / "a.mp4").read_bytes() + b"\0\0\0\x0cfree" + other)
    arguments = [sys.executable, "-c", CALL, "prepare", str(clips), str(out), "--workers", "2"]
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.PIPE, text=True, encoding="utf-8")
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


def test_a_process_whose_employer_is_gone_ends_quietly() -> None:
    for task in ([], [1]):  # before a task, and with the answer to one
        ours, theirs = multiprocessing.Pipe()
        for number in task:
            ours.send(number)
        ours.close()
        workers._serve(theirs, abs)
        assert theirs.closed


def test_a_process_that_dies_fails_its_task_only() -> None:
    outcomes = {outcome.task: outcome for outcome in run_tasks(dies_on_two, [1, 2, 3, 4], 2)}
    assert [outcomes[task].result for task in (1, 2, 3, 4)] == [10, None, None, 40]
    died, raised = outcomes[2].failure, outcomes[3].failure
    assert died == Failure("the process died (exit code 7)", "the process died (exit code 7)", died=True)
    assert raised is not None
    assert (raised.reason, raised.died) == ("ValueError: three", False)
    assert raised.details.startswith("Traceback")
    assert [outcomes[task].failure for task in (1, 4)] == [None, None]
    with pytest.raises(WorkerError, match="disk is full"):
        list(run_tasks(stops_on_two, [1, 2, 3], 2))


def test_the_most_expensive_task_begins_first_and_holds_nobody_up(tmp_path: Path) -> None:
    cheap = range(5)
    errands = [Errand(number, False, (), tmp_path) for number in cheap] + [Errand(5, True, tuple(cheap), tmp_path)]
    outcomes = list(run_tasks(run_errand, errands, 2))
    assert [outcome.failure for outcome in outcomes] == [None] * 6
    told = [outcome.result for outcome in outcomes]
    assert told[:4] == [0, 1, 2, 3]
    assert set(told[4:]) == {4, 5}  # the last one ends as soon as it sees that the fifth does


def test_short_work_comes_first(tmp_path: Path, grid: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_video(folder / "a large one.mp4", scaled(grid[:5], (1440, 1152)))
    make_video(folder / "b long.mp4", grid[:50])
    make_video(folder / "c short.mp4", grid[:28])
    for index in range(2):
        (folder / "d frames").mkdir(exist_ok=True)
        write_rgb(folder / "d frames" / f"{index}.png", grid[index])
    (folder / "e broken.mp4").write_bytes(b"no video" * 20)
    costs = {source.label: cost_of(source) for source in find_sources([folder], tmp_path / "out")}
    assert costs["a large one.mp4"] == 5 * 1440 * 1152
    assert costs["b long.mp4"] == 50 * 360 * 288
    assert costs["d frames"] == 2 * 360 * 288
    assert costs["e broken.mp4"] == 80 * 160
    order: list[str] = []

    def spy(task: SourceTask) -> Record:
        order.append(task.source.label)
        return prepare_source(task)

    monkeypatch.setattr(clips_module, "prepare_source", spy)
    assert call(folder, tmp_path / "out") == 0
    assert order == ["e broken.mp4", "d frames", "c short.mp4", "b long.mp4", "a large one.mp4"]


def test_progress_is_written_line_by_line_where_there_is_no_terminal(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    monkeypatch.setattr(progress, "_NOTE_EVERY_S", 0.0)
    assert call(short, tmp_path / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    told = re.compile(r"\d:\d\d: (\d) of 2 sources, (\d) clips(?:; at work: (\w)\.mp4 \(0:0\d of 0:01\))?")
    counted = [told.fullmatch(line) for line in lines]
    assert all(counted), lines
    done = [(int(match[1]), int(match[2])) for match in counted if match]
    assert done == sorted(done)
    assert {match[3] for match in counted if match} >= {"a", "b"}
    assert not (tmp_path / "out" / ".prepare" / "partial").exists()
    assert progress.EVERY_S != 10
    monkeypatch.undo()
    assert progress.EVERY_S == 10


def test_a_terminal_shows_a_bar(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert call(short / "a.mp4", tmp_path / "out") == 0
    assert isinstance(sys.stderr, Terminal)
    shown = sys.stderr.getvalue()
    assert "1/1" in shown
    assert "clips=1" in shown
    assert " of 1 sources" not in shown


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--fps", "0", "a number from 1 to 240"),
        ("--fps", "nan", "a number from 1 to 240"),
        ("--min-face-px", "-3", "a number from 8 to 4096"),
        ("--min-seconds", "-1", "a number from 0 to 60"),
        ("--max-seconds", "90", "a number from 0.04 to 60"),
        ("--min-sharpness", "x", "a number from 0 to 1000"),
        ("--min-motion", "-0.1", "a number from 0 to 10"),
        ("--max-outside", "1", "a number from 0 to 0.95"),
        ("--test-share", "1.5", "a number from 0 to 0.95"),
        ("--seed", "-1", "a whole number from 0 to 4294967295"),
        ("--workers", "0", "a whole number from 1 to 1024"),
    ],
)
def test_numbers_out_of_range_are_refused_with_the_range(
    option: str, value: str, expected: str, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(short, tmp_path / "out", f"{option}={value}")
    assert f"argument {option}: got '{value}', expected {expected}\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert prepare._LONGEST_S == LONGEST_S


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
    table = json.loads((prepared / "clips.json").read_text(encoding="utf-8"))["clips"]
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
    with pytest.raises(DataError, match=r"name the clip .* twice: expected those of one dataset, each once"):
        shards.unshard([str(written[0]), str(written[0])], tmp_path / "twice")
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(DataError, match=r"cannot read the shard .*bad\.tar \(.*\): expected a tar file"):
        shards.unshard([str(written[0]), str(tmp_path / "bad.tar")], tmp_path / "bad")
    with pytest.raises(DataError, match=r"nowhere\.tar \(No such file or directory\)"):
        shards.unshard([str(tmp_path / "nowhere.tar")], tmp_path / "new")
    assert shards.unshard([str(path) for path in written], tmp_path / "bad") == count  # half of it is there
    assert listing(tmp_path / "bad") == after
    taken = tmp_path / "taken" / facts["file"]
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    with pytest.raises(DataError, match="holds something else: choose an empty folder"):
        shards.unshard([str(path) for path in written], tmp_path / "taken")
    assert taken.read_bytes() == b"mine"
    with pytest.raises(DataError, match="is a file, expected an empty folder or a new name for the clips"):
        shards.unshard([str(written[0])], written[1])


def test_inputs_and_places_that_cannot_be_used(short: Path, tmp_path: Path, footage: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="holds no videos and no pictures"):
        call(tmp_path / "void", tmp_path / "out")
    with pytest.raises(DataError, match="no video or folder at"):
        call(tmp_path / "missing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="holds something else"):
        call(short, footage)
    (tmp_path / "file").write_text("", encoding="utf-8")
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


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (clips_module, "VideoWriter", MediaError("cannot write a clip: No space left on device")),
        (VideoWriter, "write", MediaError("cannot write a clip: No space left on device")),
    ],
)
def test_a_full_disk_stops_with_one_sentence(
    place: object, name: str, error: Exception, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise error

    monkeypatch.setattr(place, name, full)
    with pytest.raises(DataError, match="No space left"):
        call(short, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json"))
    assert not (tmp_path / "out" / ".prepare" / "done").exists()
    assert not (tmp_path / "out" / ".prepare" / "partial").exists()
    assert not (tmp_path / "out" / "rejects.csv").exists()  # no source counts as failed


@pytest.mark.parametrize("photographs", [False, True])
def test_a_source_that_is_away_is_not_done(
    photographs: bool, short: Path, tmp_path: Path, grid: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "drive", tmp_path / "unplugged"
    folder.mkdir()
    if photographs:
        for number in range(3):
            write_rgb(folder / f"{number}.png", grid[number])
    else:
        shutil.copyfile(short / "a.mp4", folder / "a.mp4")
    options = ("--test-share", 0, *(["--photos"] if photographs else []))

    def unplug(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*arguments: Any, **named: Any) -> Any:
            if folder.exists():
                folder.rename(away)
            return read(*arguments, **named)

        return reading

    with monkeypatch.context() as patch:
        for name in ("open_driving", "read_rgb"):
            patch.setattr(clips_module, name, unplug(getattr(clips_module, name)))
        with pytest.raises(DataError, match=r"cannot be reached any more .*: see that its drive is there"):
            call(folder, tmp_path / "out", *options)
    away.rename(folder)
    assert call(folder, tmp_path / "out", *options) == 0
    (row,) = read_csv(tmp_path / "out" / "manifest.csv")
    assert int(row["frames"]) >= 3


def test_landmarks_that_have_no_room_are_told(short: Path, tmp_path: Path) -> None:
    assert call(short / "a.mp4", tmp_path / "whole") == 0
    (landmarks,) = (tmp_path / "whole").rglob("landmarks.npy")
    (clip,) = (tmp_path / "whole").rglob("*.mp4")
    least = landmarks.stat().st_size - 1
    assert clip.stat().st_size < least
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, before[1]))
    try:
        with pytest.raises(DataError, match="File too large"):  # not how many bytes, as NumPy has it
            call(short / "a.mp4", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    (tmp_path / "x" / "id2" / "a.mp4").write_text("more", encoding="utf-8")
    assert sources[1].stamp != stamp


def test_who_is_seen(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("source,identity\nid1/a,Ann B.\nb.mp4,ben\nid3-two#001,cyd\n", encoding="utf-8")
    read = read_table_of_identities(table)

    def source(label: str) -> Source:
        name = label.split(".")[0].replace("/", "-").replace("#", "-")
        return Source(label, Path(label), name, folder=label.partition("/")[0])

    folder = Identities(read, by_folder=True)
    assert folder.of(source("id1/a.mp4"), 0) == "Ann-B"
    assert folder.of(source("id2/b.mp4"), 0) == "ben"
    assert [folder.of(source("id3/two.mp4"), track) for track in (0, 1)] == ["id3", "cyd"]
    assert folder.of(source("id3/id9#x.mp4"), 0) == "id9"
    assert Identities({}, by_folder=False).of(source("id3/two.mp4"), 0) == "id3-two"
    for text, message in (
        ("source\na\n", "expected the columns source and identity, licence or kind"),
        ("source,identity\na,b\na,c\n", "is both b and c"),
        ("source,kind\na,film\n", "a is of kind 'film', expected clip or photos"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(SourceError, match=message):
            read_table_of_identities(table)


def test_names_in_any_letters_stay_different_people(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    names = ("Анна", "Борис", "王", "Müller", "Möller", "Ann B.")
    lines = [f"{index}.mp4,{name}" for index, name in enumerate(names)]
    table.write_text("\n".join(("source,identity", *lines)), encoding="utf-8")
    identities = Identities(read_table_of_identities(table), by_folder=True)
    told = [identities.of(Source(f"{index}.mp4", Path(f"{index}.mp4"), str(index)), 0) for index in range(len(names))]
    assert len(set(told)) == len(names)
    assert told[-1] == "Ann-B"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in told)
    # As a Mac writes folders' names, and as everybody else does.
    composed, decomposed = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    folders = [Source("a.mp4", Path("a.mp4"), "a", folder=name) for name in (composed, decomposed)]
    one, two = (identities.of(source, 0) for source in folders)
    assert one == two
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("Анна#1.jpg", "Анна#2.jpg", "Борис#1.jpg"):
        (pictures / name).touch()
    packs = find_sources([pictures], tmp_path / "out", photos=True)
    assert sorted(len(source.files) for source in packs) == [1, 2]


def test_the_first_folder_below_an_input_tells_who_is_seen(tmp_path: Path) -> None:
    for name in ("x/v/id1/a.mp4", "x/v/id1/b.mp4", "y/v/id1/a.mp4", "x/v/solo.mp4", "x/v/id2/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    identities = Identities({}, by_folder=True)
    sources = find_sources([tmp_path / "x" / "v", tmp_path / "y" / "v"], tmp_path / "out")
    assert {source.label: identities.of(source, 0) for source in sources} == {
        "x/v/id1/a.mp4": "id1",  # lengthened, as the other input has such a one
        "y/v/id1/a.mp4": "id1",
        "id1/b.mp4": "id1",
        "id2": "id2",
        "solo.mp4": "solo",
    }
    with pytest.raises(DataError, match=r"solo\.mp4 lies in no folder of its input, expected a folder for each person"):
        call(tmp_path / "x" / "v", tmp_path / "out", "--identity", "folder")
    table = tmp_path / "who.csv"
    table.write_text("source,identity\nsolo,ann\n", encoding="utf-8")
    Identities(read_table_of_identities(table), by_folder=True).refuse_unknown(sources)
    Identities({}, by_folder=False).refuse_unknown(sources)


def test_the_same_footage_twice_is_learned_from_once(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for place in ("a.mp4", "backup/a again.mp4", "c.mp4"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(short / "a.mp4", folder / place)
    shutil.copyfile(short / "b.mp4", folder / "b.mp4")
    for name in ("empty.mp4", "also empty.mp4"):
        (folder / name).touch()
    table = tmp_path / "who.csv"
    table.write_text("source,identity\nc.mp4,cyd\n", encoding="utf-8")
    out = tmp_path / "out"
    assert call(folder, out, "--identities", table) == 0
    assert {row["source"]: row["identity"] for row in read_csv(out / "manifest.csv")} == {"b.mp4": "b", "c.mp4": "cyd"}
    rejects = {row["source"]: row for row in read_csv(out / "rejects.csv")}
    assert rejects["a.mp4"]["detail"] == "the same footage as c.mp4, which stands for it"
    assert {name: row["reason"] for name, row in rejects.items()} == {
        "a.mp4": "copy",
        "backup/a again.mp4": "copy",
        "empty.mp4": "unreadable",
        "also empty.mp4": "unreadable",
    }
    assert "copy" in (out / "report.txt").read_text(encoding="utf-8")
    table.write_text("source,identity\nc.mp4,cyd\na.mp4,ann\n", encoding="utf-8")
    with pytest.raises(DataError, match="are the same footage, and the table says that ann is seen in one and cyd in"):
        call(folder, out, "--identities", table)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_a_name_that_is_no_text_is_prepared(short: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copyfile(short / "a.mp4", os.fsencode(folder) + b"/caf\xe9.mp4")
    (folder / "pictures").mkdir()
    (folder / "pictures" / os.fsdecode(b"\xe9.png")).write_bytes(b"no picture")
    for licence in ("CC0", ""):  # also when the manifest is read back
        (tmp_path / "who.csv").write_text(f"source,licence,kind\ncaf%E9,{licence},clip\n", encoding="utf-8")
        assert call(folder, tmp_path / "out", "--identities", tmp_path / "who.csv", "--photos") == 0
        (row,) = read_csv(tmp_path / "out" / "manifest.csv")
        assert (row["source"], row["identity"], row["licence"]) == ("caf%E9.mp4", "caf-E9", "CC0")
    (reject,) = read_csv(tmp_path / "out" / "rejects.csv")
    assert reject["reason"] == "unreadable"
    assert r"\udce9.png" in reject["detail"]


def test_links_that_lead_back_are_walked_once(tmp_path: Path) -> None:
    for index in range(12):  # as many ways through them as 2 to their number
        (tmp_path / "in" / f"{index}").mkdir(parents=True)
        (tmp_path / "in" / f"{index}" / "up").symlink_to("..")
    (tmp_path / "in" / "a.mp4").touch()
    assert [source.label for source in find_sources([tmp_path / "in"], tmp_path / "out")] == ["a.mp4"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "0.png").touch()
    (pictures / "1.png").symlink_to("gone.png")
    (source,) = find_sources([pictures], tmp_path / "out")
    stamp = source.stamp
    (pictures / "out").mkdir()  # where what comes of it may lie
    assert source.stamp == stamp


def test_what_file_managers_leave_in_a_folder_of_frames_does_not_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rgb(tmp_path / name / "0.png", np.zeros((64, 96, 3), np.uint8))
        write_rgb(tmp_path / name / "1.png", np.ones((64, 96, 3), np.uint8))
    one, other = find_sources([tmp_path], tmp_path / "out")
    stamp, cost = one.stamp, cost_of(one)
    for name in (".DS_Store", "Thumbs.db", "._0.png"):
        (tmp_path / "a" / name).write_bytes(b"of a file manager")
    assert (one.stamp, cost_of(one)) == (stamp, cost)
    assert without_copies([one, other], Identities({}, by_folder=False)) == ([one], [(other, one)])


def test_a_table_of_identities_is_read_as_it_is_meant(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    for text, message in (
        ("source,license\na,CC0\n", "got the column 'license', expected licence: rename it"),
        ("Source,identity\na,b\n", "got the column 'Source', expected source"),
        ("source, identity\na,b\n", "got the column ' identity', expected identity"),
        ("source,identity,identity\na,b,c\n", "got the column identity twice"),
        ("source,licence\na,CC BY, 4.0\n", r"got the cells \[' 4.0'\] behind the last column in the line of 'a'"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(SourceError, match=message):
            read_table_of_identities(table)
    table.write_bytes('\ufeffsource,identity,notes\r\na,"Ann, B.",x\r\n,,\r\n\r\n'.encode())
    assert {name: line.identity for name, line in read_table_of_identities(table).items()} == {"a": "Ann, B."}


def test_a_full_disk_does_not_forget_by_which_rules(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copyfile(short / "a.mp4", tmp_path / "in" / "a.mp4")
    assert call(tmp_path / "in", tmp_path / "out") == 0
    before = (tmp_path / "out" / ".prepare" / "rules.json").read_bytes()

    def full(path: Path, *_: object, **__: object) -> int:
        path.open("w").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(DataError, match="No space left"):
            call(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / ".prepare" / "rules.json").read_bytes() == before
    assert call(tmp_path / "in", tmp_path / "out") == 0


def test_the_licence_of_the_table_reaches_the_dataset(short: Path, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("source,licence,identity\na.mp4,CC BY 4.0,\nb,,ben\n", encoding="utf-8")
    out = tmp_path / "out"
    assert call(short, out, "--identities", table) == 0
    manifest = {row["source"]: row for row in read_csv(out / "manifest.csv")}
    assert [manifest[name]["licence"] for name in ("a.mp4", "b.mp4")] == ["CC BY 4.0", ""]
    assert [manifest[name]["identity"] for name in ("a.mp4", "b.mp4")] == ["a", "ben"]
    clips = open_or_pack(out, tmp_path / "cache").clips
    assert {clip.identity: clip.licence for clip in clips} == {"a": "CC BY 4.0", "ben": ""}
    # A call without the table forgets nothing, and what the table says counts for more than what was there.
    assert call(short, out) == 0
    assert {row["source"]: row["licence"] for row in read_csv(out / "manifest.csv")} == {
        "a.mp4": "CC BY 4.0",
        "b.mp4": "",
    }
    table.write_text("source,licence\na.mp4,CC0\nb.mp4,MIT\n", encoding="utf-8")
    assert call(short, out, "--identities", table) == 0
    assert {row["source"]: row["licence"] for row in read_csv(out / "manifest.csv")} == {"a.mp4": "CC0", "b.mp4": "MIT"}


def licences_in(out: Path) -> dict[str, str]:
    """The manifest's licences, by clip."""
    return {Path(row["file"]).stem.partition("#")[2]: row["licence"] for row in read_csv(out / "manifest.csv")}


def write_licences(out: Path, licences: dict[str, str]) -> None:
    """As by hand."""
    rows = read_csv(out / "manifest.csv")
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            key = Path(row["file"]).stem.partition("#")[2]
            writer.writerow({**row, "licence": licences.get(key, row["licence"])})


def test_licences_by_hand_are_not_of_other_footage_of_that_name(
    short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, one, two = tmp_path / "out", tmp_path / "one" / "talk.mp4", tmp_path / "two" / "talk.mp4"
    for talk, of in ((one, "a.mp4"), (two, "b.mp4")):
        talk.parent.mkdir()
        shutil.copy2(short / of, talk)
    assert call(one, out) == 0
    (key,) = licences_in(out)
    write_licences(out, {key: "CC0"})
    assert call(one, out) == 0
    assert call(short / "a.mp4", out) == 0  # it stands in no manifest meanwhile
    assert call(one, out) == 0
    assert licences_in(out) == {key: "CC0"}
    assert not caplog.messages
    assert call(two, out) == 0
    assert licences_in(out) == {key: ""}  # of the same name, and cut alike
    assert "what was stated of talk.mp4 is not taken over: there is other content of that name now" in caplog.text
    assert call(two, out, "--min-seconds", 0.4, "--max-seconds", 0.6, "--redo") == 0
    assert set(licences_in(out).values()) == {""}


def test_licences_by_hand_outlive_calls_with_other_inputs(short: Path, tmp_path: Path) -> None:
    out, halves = tmp_path / "out", ("--min-seconds", 0.4, "--max-seconds", 0.6)
    assert call(short, out, *halves) == 0
    keys = sorted(licences_in(out))
    assert [key.split("#")[0] for key in keys] == ["a", "a", "b", "b"]
    by_hand = dict(zip(keys, ("CC BY 4.0", "CC0", "MIT", "MIT"), strict=True))
    write_licences(out, by_hand)
    assert call(short, out, *halves) == 0
    assert licences_in(out) == by_hand  # each clip has its own
    assert call(short / "a.mp4", out, *halves) == 0
    assert licences_in(out) == {key: by_hand[key] for key in keys[:2]}
    make_video(tmp_path / "grey.mp4", [np.full((288, 360, 3), 90, np.uint8)] * 28)
    with pytest.raises(DataError, match="no clip came"):
        call(tmp_path / "grey.mp4", out, *halves)
    assert call(short, out, *halves) == 0
    assert licences_in(out) == by_hand
    # What is taken back stays so, and clips that are cut otherwise have what all those of their source have.
    write_licences(out, {keys[1]: ""})
    assert call(short, out, *halves) == 0
    assert licences_in(out) == {**by_hand, keys[1]: ""}
    assert call(short, out, "--redo") == 0
    assert {key.split("#")[0]: licence for key, licence in licences_in(out).items()} == {"a": "", "b": "MIT"}
    (out / ".prepare" / "licences.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"licences\.json, which keeps the licences .*; mend it, or put it away"):
        call(short, out)


def labelled_at(middle: float) -> Finders:
    """Finders that see a face whose points all lie in one place, in pixels."""
    face = Face(np.full((468, 3), middle, np.float32), 1.0, np.full((2, 5, 2), middle, np.float32))
    return Finders(lambda _: face, lambda: None, lambda _: face)


def test_labels_that_were_measured_anew_outlive_a_further_call(
    short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    assert call(short / "a.mp4", out, "--test-share", 0) == 0
    ours = read_landmarks(out / "landmarks.npz")
    relabel(out, out, labelled_at(64))
    theirs = read_landmarks(out / "landmarks.npz")
    assert (theirs.landmarks == 0.25).all()
    for share in (0, 0.95):  # in whichever split they are
        assert call(short / "a.mp4", out, "--test-share", share) == 0
        again = read_landmarks(out / "landmarks.npz")
        for one, other in zip(again, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(read_landmarks(out / "landmarks.before.npz").landmarks, ours.landmarks)
    assert not caplog.messages
    # With a source that was not labelled anew, all are prepare's own, which is told; labelled again, they stay.
    assert call(short, out) == 0
    assert "call mcnet-train relabel" in caplog.text
    both = read_landmarks(out / "landmarks.npz")
    assert len(both.points) == len(ours.points)
    assert not (out / "landmarks.before.npz").exists()
    relabel(out, out, labelled_at(128))
    np.testing.assert_array_equal(read_landmarks(out / "landmarks.before.npz").landmarks, both.landmarks)
    caplog.clear()
    assert call(short, out) == 0
    assert (read_landmarks(out / "landmarks.npz").landmarks == 0.5).all()
    assert not caplog.messages
    # What is prepared anew was not labelled.
    assert call(short, out, "--redo", "--min-seconds", 0.5) == 0
    assert len(read_landmarks(out / "landmarks.npz").points) == len(ours.points)


def test_labels_that_a_version_before_measured_outlive_a_further_call(
    short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It kept them in the table alone."""
    out = tmp_path / "out"
    assert call(short, out) == 0
    ours = read_landmarks(out / "landmarks.npz")
    relabel(out, out, labelled_at(64))
    for kept in (out / ".prepare" / "done").glob("*/relabelled.npz"):
        kept.unlink()
    before = (out / "landmarks.before.npz").read_bytes()
    for _ in range(2):
        assert call(short, out) == 0
        assert (read_landmarks(out / "landmarks.npz").landmarks == 0.25).all()
    assert not caplog.messages
    # What cannot be taken over is put aside, and the reason is the true one.
    for kept in (out / ".prepare" / "done").glob("*/relabelled.npz"):
        kept.unlink()
    (out / "landmarks.before.npz").write_bytes(before)
    theirs = read_landmarks(out / "landmarks.npz")._replace(depth=None)
    write_landmarks(out / "landmarks.npz", theirs)
    assert call(short, out) == 0
    assert [message for message in caplog.messages if "cannot be taken over (the dataset has landmarks in" in message]
    assert "relabel did not measure all" not in caplog.text
    np.testing.assert_array_equal(read_landmarks(out / "landmarks.npz").landmarks, ours.landmarks)
    assert (read_landmarks(out / "landmarks.relabelled.npz").landmarks == 0.25).all()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, grid: Frames) -> Path:
    """Two people in one folder, as photographs."""
    folder = tmp_path_factory.mktemp("photographs") / "people"
    folder.mkdir()
    woman = read_rgb(ASSETS / "portraits" / "woman_1.jpg")
    for index, frame in enumerate((grid[0], grid[30], grid[60])):
        write_rgb(folder / f"man {index}.png", frame)
    write_rgb(folder / "woman 0.png", woman)
    write_rgb(folder / "woman 1.png", woman[:, ::-1])
    return folder


def test_photographs_of_one_person_become_pairs(photographs: Path, tmp_path: Path, grid: Frames) -> None:
    folder = tmp_path / "man"
    folder.mkdir()
    for picture in photographs.glob("man*"):
        shutil.copyfile(picture, folder / picture.name)
    write_rgb(folder / "other size.png", placed(grid[:1], (400, 300), lambda _: (0, 0))[0])
    write_rgb(folder / "blurred.png", cv2.GaussianBlur(grid[5], (0, 0), 3).astype(np.uint8))
    write_rgb(folder / "nobody.png", np.full((288, 360, 3), 90, np.uint8))
    (folder / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert call(folder, out, "--photos", "--test-share", 0) == 0
    (row,) = read_csv(out / "manifest.csv")
    assert (row["kind"], row["frames"], row["seconds"], row["motion"]) == ("photos", "3", "0.0", "0.0")
    assert (row["identity"], row["source"]) == ("man", "man")
    reasons = {reject["detail"].split(":")[0]: reject["reason"] for reject in read_csv(out / "rejects.csv")}
    assert reasons.pop("nobody.png") == "no_face"
    assert reasons.pop("blurred.png") == "blurred"
    assert reasons.pop("other size.png") == "apart"
    assert list(reasons.values()) == ["unreadable"]
    assert "photographs" in (out / "report.txt").read_text(encoding="utf-8")
    dataset = open_or_pack(out, tmp_path / "cache")
    assert [(clip.kind, clip.frames) for clip in dataset.clips] == [("photos", 3)]
    # One box cuts all of them. (H.264 loses a little; another photograph of the three, or another box, is far off.)
    box = SquareBox(*(float(row[name]) for name in ("center_x", "center_y", "side_px")))
    squares = [crop(original, box, 256).astype(int) for original in (grid[0], grid[30], grid[60])]
    errors = [[np.abs(frame.astype(int) - square).mean() for square in squares] for frame in dataset.frames]
    assert np.argmin(errors, axis=1).tolist() == [0, 1, 2]
    assert np.diag(errors).max() < 3.5
    with FaceFinder() as finder:
        for frame, places in zip(dataset.frames, dataset.landmarks.landmarks.astype(np.float32), strict=True):
            (face,) = finder.find(frame)
            assert np.linalg.norm(face.mesh_px[:, :2] / 256 - places, axis=1).mean() < 0.012
    plan = PairSampler(dataset, "train", 0.0, 1).plan(0, 40)
    assert {tuple(sorted(pair)) for pair in zip(plan.source.tolist(), plan.driving.tolist(), strict=True)} == {
        (0, 1),
        (0, 2),
        (1, 2),
    }
    # The same folder without --photos is a video's frames, and is looked at anew.
    with pytest.raises(DataError, match="no clip came of 1 sources"):
        call(folder, out)


def test_a_table_tells_whose_photographs_they_are(photographs: Path, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    lines = [f"man {index}.png,cyd,photos,CC0" for index in range(3)]
    lines += [f"people/woman {index},dora,photos,CC BY 4.0" for index in range(2)]
    table.write_text("\n".join(("source,identity,kind,licence", *lines)), encoding="utf-8")
    out = tmp_path / "out"
    assert call(photographs, out, "--identities", table, "--test-share", 0) == 0
    rows = {row["identity"]: row for row in read_csv(out / "manifest.csv")}
    assert {name: (row["frames"], row["kind"], row["licence"]) for name, row in rows.items()} == {
        "cyd": ("3", "photos", "CC0"),
        "dora": ("2", "photos", "CC BY 4.0"),
    }
    assert [row["source"] for row in rows.values()] == ["people/cyd", "people/dora"]
    table.write_text("\n".join(("source,identity,kind,licence", *lines[:-1])), encoding="utf-8")
    with pytest.raises(DataError, match=r"of the 5 photographs in .*, 4 are named .*woman 1\.png is not"):
        call(photographs, out, "--identities", table)
    # Named as in the released layout, no table is needed; one photograph of somebody is a still.
    named = tmp_path / "named"
    named.mkdir()
    for source, name in (("man 0", "cyd#0"), ("man 1", "cyd#1"), ("woman 0", "dora#0")):
        shutil.copyfile(photographs / f"{source}.png", named / f"{name}.png")
    assert call(named, tmp_path / "other", "--photos", "--test-share", 0) == 0
    assert {row["identity"]: row["frames"] for row in read_csv(tmp_path / "other" / "manifest.csv")} == {
        "cyd": "2",
        "dora": "1",
    }
    dataset = open_or_pack(tmp_path / "other", tmp_path / "cache")
    assert PairSampler(dataset, "train", 1.0, 1).plan(0, 4).still.all()


def test_photographs_from_different_places_are_no_pack(tmp_path: Path, grid: Frames) -> None:
    folder = tmp_path / "apart"
    folder.mkdir()
    for index, picture in enumerate(placed(grid[:1] * 2, (640, 288), lambda index: (280 * index, 0))):
        write_rgb(folder / f"{index}.png", picture)
    with pytest.raises(DataError, match="apart: apart, the heads are too far apart for one box"):
        call(folder, tmp_path / "out", "--photos")


def moved_faces(grid: Frames, away_px: NDArray[np.float64], down_px: float = 0) -> list[Face]:
    """The grid speaker's face, moved to the right by so much in each frame, and down in all of them."""
    with FaceFinder() as finder:
        (face,) = finder.find(grid[0])
    return [Face((face.landmarks_px + np.array([x, down_px, 0])).astype(np.float32), 1.0) for x in away_px]


def swaying_px(reach_px: float) -> NDArray[np.float64]:
    """From side to side within 2 s, for 4 s at 25 frames/s."""
    return np.asarray(reach_px * np.sin(2 * np.pi * np.arange(100) / 50))


def test_a_head_that_moves_is_kept_in_one_larger_square(grid: Frames) -> None:
    sway_px = swaying_px(30)  # 0.7 face sizes to either side: beyond the dead zone of 0.33
    (free,) = moved_faces(grid, np.zeros(1))
    size, middle = face_size_px(free), clip_square([free], 10_000, 10_000).center_y
    for height_px in (288, round(5.3 * size)):  # in the second picture a square of 5.45 sizes has no room
        faces = moved_faces(grid, sway_px, height_px / 2 - middle)
        (part,) = split_by_movement(faces, 360, height_px, 0.15, 25)
        assert part == (range(100), True)
        square = clip_square(faces, 360, height_px)
        assert SIDE_PER_SIZE * size < square.side <= MAX_SIDE_PER_SIZE * size
        assert outside_share(square, 360, height_px) <= 0.15


def test_a_track_is_divided_where_one_square_would_show_too_little_of_the_head_or_of_the_picture(grid: Frames) -> None:
    wide = moved_faces(grid, swaying_px(60))  # from end to end 2.9 face sizes: with the core 7.7
    parts = split_by_movement(wide, 10_000, 10_000, 0.15, 25)
    assert len(parts) > 1
    assert_covered(parts, 100)
    size = face_size_px(wide[0])
    for frames, held in parts:
        assert held == (len(frames) >= 25)
        if held:
            square = clip_square(wide[frames.start : frames.stop], 10_000, 10_000)
            assert square.side <= MAX_SIDE_PER_SIZE * size + 0.01
    # A head that goes beyond the picture's left border and comes back: what is beyond is apart from what is good.
    box = clip_square(wide[:1], 10_000, 10_000)
    left = np.concatenate((np.zeros(40), np.linspace(0, -box.center_x, 20), np.zeros(40)))
    faces = moved_faces(grid, left)
    parts = split_by_movement(faces, 360, 288, 0.15, 25)
    assert_covered(parts, 100)
    assert [part.held for part in parts] == [True, False, True]
    assert min(len(part.frames) for part in parts if part.held) >= 38
    for frames, held in parts:
        share = outside_share(clip_square(faces[frames.start : frames.stop], 360, 288), 360, 288)
        assert held == (share <= 0.15)
    # A head that is thrown from side to side twice a second is held nowhere for a second.
    fast = moved_faces(grid, 80 * np.sin(2 * np.pi * np.arange(75) / 12))
    assert split_by_movement(fast, 10_000, 10_000, 0.15, 25) == [(range(75), False)]


def assert_covered(parts: Sequence[Part], count: int) -> None:
    assert [index for part in parts for index in part.frames] == list(range(count))


def test_the_split_is_by_name_and_nobody_changes_sides() -> None:
    names = [f"id{number}" for number in range(400)]
    splits = split_identities(names, 0.1, 0)
    assert 20 < list(splits.values()).count("test") < 60
    more = split_identities([*names, *(f"new{number}" for number in range(200))], 0.1, 0)
    assert all(more[name] == splits[name] for name in names)
    assert split_identities(names, 0.1, 1) != splits
    assert set(split_identities(names, 0, 0).values()) == {"train"}
    assert sorted(split_identities(["a", "b"], 0.01, 0).values()) == ["test", "train"]
    assert all(split_identities([name], 0.9, 0) == {name: "train"} for name in names[:10]), "nothing to learn from"


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
    assert ClipRules().points == tuple(range(478))  # with irises
    assert len(ClipRules(all_points=False).points) == len(TRAINING_POINTS)
