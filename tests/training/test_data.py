"""Data layouts go round, and broken ones are refused in a sentence or left out and counted."""

import dataclasses
import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pillow_heif
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import training.data
from mcnet.media.crop import SHIFT_PER_SIZE, SIDE_PER_SIZE
from mcnet.media.faces import Face
from mcnet.media.images import write_rgb
from mcnet.mesh_points import MESH_SIZE
from tests.tolerance import EPSILON, largest_error
from tests.training.conftest import SIZE_PX, head, write_dataset, write_video
from training.data import (
    CLIPS_FORMAT,
    PHOTOS,
    Clip,
    ClipTable,
    DataError,
    Dataset,
    Landmarks,
    PackReport,
    decode,
    open_dataset,
    open_or_pack,
    pack,
    read_landmarks,
    read_table,
    write_landmarks,
    write_table,
)
from training.draws import Draws
from training.fit.config import AugmentConfig
from training.fit.sampler import PairSampler, expressions, held_out_pairs
from training.fit.stores import FrameStore, LandmarkStore, to_coordinates
from training.landmarks import EYE_CORNERS, MIRROR, PUPILS, TRAINING_POINTS
from training.prepare.portable import Entry, build_clips_folder, write_jpeg

CPU = torch.device("cpu")


def moving_head(person: int, count: int) -> list[NDArray[np.uint8]]:
    return [head(person, 0.5 + 0.02 * index, 0.5, 0.04)[0] for index in range(count)]


@pytest.fixture
def clips_folder(tmp_path: Path) -> Path:
    """A folder of clips: two videos and a still."""
    folder = tmp_path / "clips folder"
    (folder / "clips").mkdir(parents=True)
    write_video(folder / "clips/a.mp4", moving_head(1, 6))
    write_video(folder / "clips/b.mp4", moving_head(2, 4))
    write_jpeg(folder / "clips/s.jpg", moving_head(3, 1)[0])
    table = ClipTable(
        SIZE_PX,
        (
            Clip("clips/a.mp4", "ann", "train", 6, licence="CC BY 4.0"),
            Clip("clips/b.mp4", "ben", "test", 4),
            Clip("clips/s.jpg", "dee", "train", 1),
        ),
    )
    write_table(folder / "clips.json", CLIPS_FORMAT, table)
    rng = np.random.default_rng(0)
    landmarks = rng.random((11, len(TRAINING_POINTS), 3)).astype(np.float16)
    in_space = Landmarks(np.array(TRAINING_POINTS), landmarks[..., :2], rng.random(11) < 0.8, landmarks[..., 2])
    write_landmarks(folder / "landmarks.npz", in_space)
    return folder


def test_a_folder_of_clips_is_packed_and_read_back(clips_folder: Path, tmp_path: Path) -> None:
    report = pack(clips_folder, tmp_path / "packed")
    assert report == (3, 11, ())
    dataset = open_dataset(tmp_path / "packed")
    assert [clip.frames for clip in dataset.clips] == [6, 4, 1]
    assert dataset.starts.tolist() == [0, 6, 10]
    wanted = np.stack(moving_head(1, 6) + moving_head(2, 4) + moving_head(3, 1))
    error = np.abs(dataset.frames.astype(int) - wanted.astype(int)).mean((1, 2, 3))
    assert error.max() < 3  # H.264 and JPEG lose a little
    given = read_landmarks(clips_folder / "landmarks.npz")
    assert np.array_equal(dataset.landmarks.landmarks, given.landmarks)
    assert np.array_equal(dataset.landmarks.valid, given.valid)
    assert dataset.landmarks.in_space.shape == (11, len(TRAINING_POINTS), 3)
    assert dataset.landmarks.in_space.dtype == np.float16
    assert np.array_equal(dataset.landmarks.in_space, given.in_space)
    assert [clip.licence for clip in dataset.clips] == ["CC BY 4.0", "", ""]


def test_datasets_of_the_version_before_are_read_and_have_no_depth(clips_folder: Path, tmp_path: Path) -> None:
    whole = read_landmarks(clips_folder / "landmarks.npz")
    write_landmarks(clips_folder / "landmarks.npz", whole._replace(depth=None))
    table = json.loads((clips_folder / "clips.json").read_text(encoding="utf-8"))
    table["format"] = "mcnet-clips/1"
    for clip in table["clips"]:
        del clip["kind"], clip["licence"]
    (clips_folder / "clips.json").write_text(json.dumps(table), encoding="utf-8")
    dataset = open_or_pack(clips_folder, tmp_path / "cache")
    assert {(clip.kind, clip.licence) for clip in dataset.clips} == {("clip", "")}
    assert np.array_equal(dataset.landmarks.landmarks, whole.landmarks)
    assert LandmarkStore(dataset, CPU).read(torch.tensor([0]))[0].shape == (1, len(TRAINING_POINTS), 2)
    with pytest.raises(DataError, match=r"expected landmarks in space.*prepare it anew"):
        _ = dataset.landmarks.in_space


def test_what_is_stated_about_a_clip_does_not_make_it_another_dataset(heads: Path) -> None:
    dataset = open_dataset(heads)
    stated = tuple(dataclasses.replace(clip, licence="CC0") for clip in dataset.clips)
    assert dataclasses.replace(dataset, clips=stated).fingerprint == dataset.fingerprint
    assert dataclasses.replace(dataset, clips=stated[:-1]).fingerprint != dataset.fingerprint


def test_opencv_stands_in_where_pyav_is_missing(clips_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_av = {name: np.stack(list(decode(clips_folder / "clips" / name))) for name in ("a.mp4", "s.jpg")}
    monkeypatch.setitem(sys.modules, "av", None)
    for name, frames in with_av.items():
        without = np.stack(list(decode(clips_folder / "clips" / name)))
        assert without.shape == frames.shape
        assert np.abs(without.astype(int) - frames.astype(int)).mean() < 1.5
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match="neither PyAV"):
        list(decode(clips_folder / "clips/a.mp4"))


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("name", ["a:b", "b\udcff"])
def test_any_name_of_a_folder_is_decoded_or_told(
    clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).symlink_to(clips_folder)
    monkeypatch.chdir(tmp_path)
    path = Path(name, "clips", "a.mp4")
    expected = len(list(decode(clips_folder / "clips" / "a.mp4")))
    assert len(list(decode(path))) == expected
    monkeypatch.setitem(sys.modules, "av", None)
    if name == "a:b":
        assert len(list(decode(path))) == expected
    else:
        with pytest.raises(DataError, match="its name is no text; rename it, or pip install av"):
            list(decode(path))


def test_packing_again_is_spared_until_the_clips_change(clips_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = open_or_pack(clips_folder, cache)
    stamp = (cache / "frames.u8").stat().st_mtime_ns
    assert open_or_pack(clips_folder, cache).fingerprint == first.fingerprint
    assert (cache / "frames.u8").stat().st_mtime_ns == stamp
    table = json.loads((clips_folder / "clips.json").read_text(encoding="utf-8"))
    table["clips"][0]["identity"] = "zoe"
    (clips_folder / "clips.json").write_text(json.dumps(table), encoding="utf-8")
    assert open_or_pack(clips_folder, cache).fingerprint != first.fingerprint


def test_a_clip_that_is_left_out_is_told_each_time_until_it_is_mended(
    clips_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, clip = tmp_path / "cache", clips_folder / "clips/a.mp4"
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 3])
    for _ in range(2):  # packed, and opened as it was packed
        caplog.clear()
        assert len(open_or_pack(clips_folder, cache).clips) == 2
        assert "lacks 1 of 3 clips, which could not be read: " in caplog.text
        assert "a.mp4" in caplog.text
    clip.write_bytes(whole)
    caplog.clear()
    assert len(open_or_pack(clips_folder, cache).clips) == 3
    assert not caplog.messages


def test_a_frame_of_a_clip_of_pngs_that_changes_is_packed_again(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    frames = [np.full((SIZE_PX, SIZE_PX, 3), 40 * index, np.uint8) for index in range(3)]
    (folder / "a").mkdir(parents=True)
    for index, rgb in enumerate(frames[:2]):
        write_rgb(folder / "a" / f"{index:06d}.png", rgb)
    write_table(folder / "clips.json", CLIPS_FORMAT, ClipTable(SIZE_PX, (Clip("a/%06d.png", "ann", "train", 2),)))
    places = np.full((2, len(TRAINING_POINTS), 2), 0.5, np.float16)
    write_landmarks(folder / "landmarks.npz", Landmarks(np.array(TRAINING_POINTS), places, np.ones(2, bool)))
    assert open_or_pack(folder, tmp_path / "cache").frames[1].max() == 40
    write_rgb(folder / "a" / "000001.png", frames[2])
    assert open_or_pack(folder, tmp_path / "cache").frames[1].max() == 80


def test_what_was_unpacked_stays_while_its_clips_are_away(
    clips_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    first = open_or_pack(clips_folder, cache)
    stamp = (cache / "frames.u8").stat().st_mtime_ns
    for away in ("clips/a.mp4", "clips"):  # one of them, then all
        (clips_folder / away).rename(tmp_path / "away")
        caplog.clear()
        assert open_or_pack(clips_folder, cache).fingerprint == first.fingerprint
        assert (
            f"{1 if away != 'clips' else 3} of 3 clips of {clips_folder} are away, such as clips/a.mp4" in caplog.text
        )
        (tmp_path / "away").rename(clips_folder / away)
    caplog.clear()
    assert open_or_pack(clips_folder, cache).fingerprint == first.fingerprint
    assert not caplog.messages
    assert (cache / "frames.u8").stat().st_mtime_ns == stamp


def test_what_a_version_before_unpacked_is_not_unpacked_anew(clips_folder: Path, tmp_path: Path) -> None:
    cache, clip = tmp_path / "cache", clips_folder / "clips/a.mp4"
    open_or_pack(clips_folder, cache)
    tables = (clips_folder / "clips.json").read_bytes() + (clips_folder / "landmarks.npz").read_bytes()
    (cache / "packed_from").write_text(hashlib.sha256(tables).hexdigest(), encoding="utf-8")
    stamp = (cache / "frames.u8").stat().st_mtime_ns
    clip.rename(tmp_path / "away")
    assert len(open_or_pack(clips_folder, cache).clips) == 3
    (tmp_path / "away").rename(clip)
    assert len(open_or_pack(clips_folder, cache).clips) == 3
    assert (cache / "frames.u8").stat().st_mtime_ns == stamp
    os.utime(clip, ns=(1, 1))  # its state is known by now
    assert len(open_or_pack(clips_folder, cache).clips) == 3
    assert (cache / "frames.u8").stat().st_mtime_ns != stamp


def test_what_was_unpacked_goes_when_there_is_a_whole_one_in_its_place(clips_folder: Path, tmp_path: Path) -> None:
    cache, clip = tmp_path / "cache", clips_folder / "clips/a.mp4"
    first = open_or_pack(clips_folder, cache)
    before = {file.name: file.read_bytes() for file in cache.iterdir()}
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 3])
    lost = "of the clips that .* has, 1 cannot be read now, such as clips/a.mp4; bring them back, or remove"
    with pytest.raises(DataError, match=lost):
        open_or_pack(clips_folder, cache)
    table = json.loads((clips_folder / "clips.json").read_text(encoding="utf-8"))
    table["clips"][0]["identity"] = "zoe"
    (clips_folder / "clips.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(DataError, match=lost):
        open_or_pack(clips_folder, cache)
    (clips_folder / "clips").rename(tmp_path / "away")
    with pytest.raises(DataError, match="none of the 3 clips"):
        open_or_pack(clips_folder, cache)
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == before
    (tmp_path / "away").rename(clips_folder / "clips")
    clip.write_bytes(whole)
    again = open_or_pack(clips_folder, cache)
    assert again.fingerprint != first.fingerprint
    assert np.array_equal(again.frames, first.frames)
    assert {file.name for file in cache.iterdir()} == set(before)


def test_a_folder_of_clips_is_not_packed_into(clips_folder: Path) -> None:
    (clips_folder / "clips/a.mp4").write_bytes(b"")  # left out, and so would be its landmarks
    before = {file: file.read_bytes() for file in clips_folder.rglob("*") if file.is_file()}
    for packing in (pack, open_or_pack):
        with pytest.raises(DataError, match="it is a folder of clips; choose an empty folder"):
            packing(clips_folder, clips_folder)
    assert {file: file.read_bytes() for file in clips_folder.rglob("*") if file.is_file()} == before


def test_who_learns_from_a_dataset_keeps_it_when_it_is_packed_again(clips_folder: Path, tmp_path: Path) -> None:
    pack(clips_folder, tmp_path / "packed")
    opened = open_dataset(tmp_path / "packed")
    before = opened.frames.copy()
    (clips_folder / "clips/a.mp4").write_bytes(b"")  # so that it is a shorter one
    pack(clips_folder, tmp_path / "packed")
    assert len(open_dataset(tmp_path / "packed").frames) < len(before)
    assert np.array_equal(opened.frames, before)


@pytest.mark.skipif(sys.platform == "win32", reason="nobody waits there")
def test_two_runs_with_one_cache_pack_it_once(
    clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[Path] = []

    def slowly(folder: Path, out: Path) -> PackReport:
        packed.append(out)
        time.sleep(0.3)  # for the other one to come by
        return pack(folder, out)

    monkeypatch.setattr(training.data, "pack", slowly)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: open_or_pack(clips_folder, tmp_path / "cache"), range(2)))
    assert packed == [tmp_path / "cache"]
    assert np.array_equal(both[0].frames, both[1].frames)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_packing_that_ends_early_leaves_no_frames(
    error: BaseException, clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(type(error)):
        pack(clips_folder, tmp_path / "packed")
    assert not (tmp_path / "packed" / "frames.u8").exists()


def test_clips_that_cannot_be_used_are_left_out_and_counted(clips_folder: Path, tmp_path: Path) -> None:
    whole = (clips_folder / "clips/a.mp4").read_bytes()
    (clips_folder / "clips/a.mp4").write_bytes(whole[: len(whole) // 3])
    (clips_folder / "clips/s.jpg").unlink()
    report = pack(clips_folder, tmp_path / "packed")
    assert (report.clips, report.frames, len(report.skipped)) == (1, 4, 2)
    assert "a.mp4" in report.skipped[0]
    dataset = open_dataset(tmp_path / "packed")
    assert np.array_equal(dataset.landmarks.landmarks, read_landmarks(clips_folder / "landmarks.npz").landmarks[6:10])
    (clips_folder / "clips/b.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 clips"):
        pack(clips_folder, tmp_path / "packed")
    with pytest.raises(DataError, match=r"holds no dataset\.json"):
        open_dataset(tmp_path / "packed")  # a failed packing leaves nothing that looks whole


def test_a_clip_of_other_length_or_size_is_left_out(clips_folder: Path, tmp_path: Path) -> None:
    write_video(clips_folder / "clips/a.mp4", moving_head(1, 5))
    write_jpeg(clips_folder / "clips/s.jpg", np.zeros((64, 64, 3), np.uint8))
    report = pack(clips_folder, tmp_path / "packed")
    assert "got 5 frames, expected 6" in report.skipped[0]
    assert "got frames of 64x64, expected 128x128" in report.skipped[1]


def relabelled(folder: Path, **changes: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    arrays = read_landmarks(folder / "landmarks.npz")._asdict()
    del arrays["depth"]
    np.savez(folder / "landmarks.npz", **(arrays | {name: change(arrays[name]) for name, change in changes.items()}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), "neither dataset.json nor clips.json"),
        (lambda folder: (folder / "dataset.json").write_text("{", encoding="utf-8"), "cannot be read"),
        (lambda folder: (folder / "dataset.json").write_text('{"format": "x"}', encoding="utf-8"), "got format 'x'"),
        (
            lambda folder: (folder / "dataset.json").write_text(
                (folder / "dataset.json").read_text(encoding="utf-8").replace('"clip"', '"film"'), encoding="utf-8"
            ),
            "clip a is of kind 'film', expected clip or photos",
        ),
        (lambda folder: (folder / "dataset.json").write_text("[" * 100_000, encoding="utf-8"), "cannot be read"),
        (
            lambda folder: relabelled(folder, points=lambda points: points[::-1]),
            "got the mesh points .*, expected some",
        ),
        (
            lambda folder: relabelled(folder, points=lambda points: points + 9000),
            "got the mesh points .*, expected some",
        ),
        (
            lambda folder: relabelled(folder, landmarks=lambda places: places * SIZE_PX),
            "expected shares of the picture's width and height, from 0 to 1: divide",
        ),
        (lambda folder: (folder / "landmarks.npz").unlink(), "landmarks are part of a dataset"),
        (lambda folder: (folder / "landmarks.npz").write_bytes(b"PK\x03\x04"), "may be truncated"),
        (lambda folder: (folder / "frames.u8").write_bytes(b"123"), "got 3 bytes, expected"),
        (lambda folder: (folder / "frames.u8").unlink(), "got 0 bytes, expected"),
    ],
)
def test_a_broken_dataset_is_refused(break_it: object, message: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", [Clip("a", "ann", "train", 2)])
    assert callable(break_it)
    break_it(folder)
    with pytest.raises(DataError, match=message):
        open_or_pack(folder, tmp_path / "cache")


def test_a_clip_that_is_listed_twice_is_told(clips_folder: Path, tmp_path: Path) -> None:
    table = read_table(clips_folder / "clips.json", CLIPS_FORMAT)
    write_table(clips_folder / "clips.json", CLIPS_FORMAT, ClipTable(table.size_px, (*table.clips, table.clips[0])))
    with pytest.raises(DataError, match=r"the clip clips/a\.mp4 is listed twice, expected each once"):
        pack(clips_folder, tmp_path / "packed")


def test_people_on_both_sides_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sides = (("ann", "train"), ("ann", "test"), ("ben", "train"))
    clips = [Clip(f"{number}", who, split, 2) for number, (who, split) in enumerate(sides)]
    open_dataset(write_dataset(tmp_path / "d", clips))
    assert "people in several splits, such as ann in test and train" in caplog.text
    caplog.clear()
    open_dataset(write_dataset(tmp_path / "e", clips[1:]))
    assert not caplog.text


def test_missing_landmarks_and_points(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", [Clip("a", "ann", "train", 2)])
    whole = read_landmarks(folder / "landmarks.npz")
    write_landmarks(folder / "landmarks.npz", whole._replace(landmarks=whole.landmarks[:1], valid=whole.valid[:1]))
    with pytest.raises(DataError, match="got 1 rows, expected 2"):
        open_dataset(folder)
    write_landmarks(folder / "landmarks.npz", whole._replace(depth=np.zeros((2, 3), np.float16)))
    with pytest.raises(DataError, match=r"got depths of shape \(2, 3\), expected"):
        open_dataset(folder)
    few = whole._replace(points=whole.points[2:], landmarks=whole.landmarks[:, 2:])
    write_landmarks(folder / "landmarks.npz", few)
    with pytest.raises(DataError, match="lacks mesh points"):
        LandmarkStore(open_dataset(folder), CPU)
    # A frame whose landmarks are not numbers counts as one without.
    lost = whole.landmarks.copy()
    lost[1, 0, 0] = np.nan
    write_landmarks(folder / "landmarks.npz", whole._replace(landmarks=lost))
    places, valid = LandmarkStore(open_dataset(folder), CPU).read(torch.tensor([0, 1]))
    assert valid.tolist() == [True, False]
    assert torch.isfinite(places).all()


def test_one_frame_clips_are_stills_and_make_no_pairs_of_frames(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", [Clip("a", "ann", "train", 1)]))
    with pytest.raises(DataError, match="a pair needs two frames"):
        PairSampler(dataset, "train", 0.0, 0)
    plan = PairSampler(dataset, "train", 1.0, 0).plan(0, 4)
    assert plan.still.all()
    with pytest.raises(DataError, match="has no clip of two frames or more in split 'val'"):
        PairSampler(dataset, "val", 0.0, 0)


def test_pairs_are_of_one_clip_two_frames_and_fair_to_people(heads: Path) -> None:
    dataset = open_dataset(heads)
    sampler = PairSampler(dataset, "train", 0.25, 7)
    plans = [sampler.plan(step, 16) for step in range(60)]
    source, driving, still = (
        torch.cat([getattr(plan, name) for plan in plans]).numpy() for name in ("source", "driving", "still")
    )
    clip_of = np.repeat(np.arange(len(dataset.clips)), [clip.frames for clip in dataset.clips])
    assert (clip_of[source] == clip_of[driving]).all()
    assert ((source == driving) == still).all()
    people = [dataset.clips[clip].identity for clip in clip_of[source]]
    counts = {name: people.count(name) for name in set(people)}
    assert set(counts) == {"ann", "ben", "dee", "eli"}  # cyd is held out
    assert still.mean() == pytest.approx(0.25, abs=0.05)
    assert counts["ann"] == pytest.approx(counts["ben"], rel=0.25)  # by person, although ann has twice the frames


@pytest.fixture(scope="module")
def with_packs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two people with clips, and packs of photographs of one of them and of two others, one held out."""
    clips = [
        Clip("a", "ann", "train", 5),
        Clip("b", "ben", "train", 4),
        Clip("p1", "ben", "train", 2, PHOTOS),
        Clip("p2", "fay", "train", 3, PHOTOS),
        Clip("p3", "gus", "test", 2, PHOTOS),
        Clip("p4", "ida", "train", 1, PHOTOS),
    ]
    return open_dataset(write_dataset(tmp_path_factory.mktemp("packs") / "packs", clips))


def test_two_photographs_of_one_pack_are_a_pair(with_packs: Dataset) -> None:
    kinds = np.repeat([clip.kind for clip in with_packs.clips], [clip.frames for clip in with_packs.clips])
    clip_of = np.repeat(np.arange(len(with_packs.clips)), [clip.frames for clip in with_packs.clips])
    plan = PairSampler(with_packs, "train", 0.25, 7, photos_share=0.4).plan(0, 4000)
    source, driving, still = plan.source.numpy(), plan.driving.numpy(), plan.still.numpy()
    assert (clip_of[source] == clip_of[driving]).all()
    assert ((source == driving) == still).all()
    assert set(clip_of[source][still]) == {5}  # one photograph of somebody is a still
    pairs = clip_of[source][~still]
    of_photos = kinds[source][~still] == PHOTOS
    assert of_photos.mean() == pytest.approx(0.4, abs=0.05)
    assert set(pairs[of_photos]) == {2, 3}
    assert (pairs[of_photos] == 2).mean() == pytest.approx(0.5, abs=0.06)  # by person here as well
    assert set(pairs[~of_photos]) == {0, 1}


def test_packs_alone_are_enough_and_none_changes_nothing(with_packs: Dataset, heads: Path) -> None:
    only = dataclasses.replace(
        with_packs,
        clips=tuple(
            dataclasses.replace(clip, split="val" if clip.kind == PHOTOS else "x") for clip in with_packs.clips
        ),
    )
    plan = PairSampler(only, "val", 0.0, 7).plan(0, 50)
    assert (plan.source >= 9).all()
    assert (plan.source != plan.driving).all()
    dataset = open_dataset(heads)
    one, other = (PairSampler(dataset, "train", 0.25, 7, photos_share=share).plan(3, 64) for share in (0.0, 0.5))
    assert torch.equal(one.source, other.source)
    assert torch.equal(one.driving, other.driving)


def test_a_stage_takes_its_own_share_of_stills(heads: Path) -> None:
    sampler = PairSampler(open_dataset(heads), "train", 0.25, 7)
    shares = [sampler.plan(0, 2000, stills=stills).still.float().mean().item() for stills in (0.0, 1.0, 2.0)]
    assert shares == pytest.approx([0.0, 0.25, 0.5], abs=0.04)


def test_lively_pairs_differ_more_in_expression(heads: Path) -> None:
    dataset = open_dataset(heads)
    mouth = expressions(dataset.landmarks)
    assert mouth.shape == (len(dataset.frames), 3)
    change = []
    for share in (0.0, 1.0):
        plan = PairSampler(dataset, "train", 0.0, 7, share).plan(0, 256)
        source, driving = plan.source.numpy(), plan.driving.numpy()
        assert (source != driving).all()
        clip_of = np.repeat(np.arange(len(dataset.clips)), [clip.frames for clip in dataset.clips])
        assert (clip_of[source] == clip_of[driving]).all()
        change.append(np.abs(mouth[driving] - mouth[source]).sum(1).mean())
    assert change[1] > 1.2 * change[0]
    blind = dataset.landmarks._replace(valid=np.zeros(len(dataset.frames), bool))
    assert not expressions(blind).any()


def test_gaze_is_part_of_an_expression(heads: Path) -> None:
    """To the sides, along the line of the corners; of tables without pupils only lids and lips count."""
    dataset = open_dataset(heads)
    kept = dataset.landmarks
    columns = {int(point): column for column, point in enumerate(kept.points)}
    places = kept.landmarks.copy()
    for pupil, (right, left) in zip(PUPILS, EYE_CORNERS, strict=True):
        one, other = places[:, columns[right]], places[:, columns[left]]
        places[:, columns[pupil]] = (one + other) / 2
        places[3, columns[pupil]] += 0.25 * (other - one)[3]
    told = expressions(kept._replace(landmarks=places))
    others = np.delete(told[:, 2], 3)
    assert told[3, 2] > 3
    assert np.ptp(others) < 0.2  # they are kept in halves
    without = ~np.isin(kept.points, PUPILS)
    blind_to_it = expressions(kept._replace(points=kept.points[without], landmarks=places[:, without]))
    assert np.allclose(blind_to_it, told[:, :2])


def test_the_sampler_is_a_function_of_seed_step_and_place(heads: Path) -> None:
    dataset = open_dataset(heads)
    whole = PairSampler(dataset, "train", 0.25, 7).plan(5, 8)
    parts = [PairSampler(dataset, "train", 0.25, 7).plan(5, 4, rank) for rank in (0, 1)]
    for name in ("source", "driving", "still"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert torch.equal(whole.draws.normal("x", 3), torch.cat([part.draws.normal("x", 3) for part in parts]))
    assert not torch.equal(PairSampler(dataset, "train", 0.25, 8).plan(5, 8).source, whole.source)
    # A recorded step has its number in a tensor.
    recorded = PairSampler(dataset, "train", 0.25, 7).plan(torch.tensor(5), 8)
    assert torch.equal(recorded.source, whole.source)
    assert torch.equal(recorded.draws.normal("x", 3), whole.draws.normal("x", 3))


def test_draws_are_uniform_and_normal() -> None:
    numbers = Draws(0, 1, 0, 200_000).uniform("u").numpy()
    assert np.abs(np.histogram(numbers, 20, (0, 1))[0] / 10_000 - 1).max() < 0.05
    normal = Draws(0, 1, 0, 200_000).normal("n").numpy()
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs((normal**3).mean()) < 0.05
    assert (normal**4).mean() == pytest.approx(3, abs=0.1)
    others = [Draws(0, 2, 0, 200_000).uniform("u"), Draws(1, 1, 0, 200_000).uniform("u")]
    others += [Draws(0, 1, 0, 200_000).uniform("v"), Draws(0, 1, 1, 200_000).uniform("u")]
    for other in others:
        assert abs(np.corrcoef(numbers, other.numpy())[0, 1]) < 0.01
    limits = torch.tensor([1, 3, 2**31]).repeat(40_000)
    below = Draws(0, 1, 0, 120_000).below("b", limits).view(-1, 3)
    assert (below[:, 0] == 0).all()
    assert np.bincount(below[:, 1]).tolist() == pytest.approx([40_000 / 3] * 3, rel=0.05)
    assert below[:, 2].float().mean().item() / 2**31 == pytest.approx(0.5, abs=0.01)


def test_frames_are_the_same_from_disk_and_from_the_device(heads: Path) -> None:
    dataset = open_dataset(heads)
    rows = torch.tensor([3, 0, 7])
    stores = [FrameStore(dataset, CPU, where) for where in ("memmap", "device", "auto")]
    assert [store.resident for store in stores] == [False, True, False]
    pictures = [store.to_pictures(store.read(rows)) for store in stores]
    assert pictures[0].shape == (3, 3, SIZE_PX, SIZE_PX)
    assert torch.equal(pictures[0], pictures[1])
    assert pictures[0][1, :, 9, 4].mul(255).round().tolist() == dataset.frames[0, 9, 4].tolist()


def test_coordinates_of_landmarks() -> None:
    centres = (torch.arange(256) + 0.5) / 256
    assert largest_error(to_coordinates(centres, 256), torch.linspace(-1, 1, 256)) <= 4 * EPSILON  # as many roundings


def test_held_out_pairs_are_of_the_split_and_of_different_people(heads: Path) -> None:
    dataset = open_dataset(heads)
    source, driving = held_out_pairs(dataset, "test", 4)
    assert source.tolist() == [12]
    assert driving.tolist() == [14]
    source, _ = held_out_pairs(dataset, "no such split", 3)
    assert source.tolist() == [0, 8, 12]  # one of each person before a second of ann


def test_mirroring_a_point_twice_gives_it_back() -> None:
    assert set(MIRROR) == set(TRAINING_POINTS) == set(MIRROR.values())
    assert all(MIRROR[MIRROR[point]] == point for point in MIRROR)
    assert MIRROR[33] == 263
    assert MIRROR[61] == 291
    assert MIRROR[13] == 13
    assert AugmentConfig().flip


def test_building_a_folder_of_clips_with_a_finder(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_head(1, 3))
    write_video(tmp_path / "small.mp4", [np.zeros((64, 64, 3), np.uint8)] * 2)
    portrait = np.full((400, 300, 3), 90, np.uint8)
    portrait[150:250, 100:200] = 200
    write_jpeg(tmp_path / "face.png", portrait)
    write_jpeg(tmp_path / "blank.png", np.zeros((300, 300, 3), np.uint8))

    def finder(rgb: NDArray[np.uint8]) -> Face | None:
        """The box of what is bright, as a mesh of two of its corners."""
        down, across = np.nonzero(rgb.min(2) > 120)
        if not len(down):
            return None
        corners = np.array([[across.min(), down.min(), 0], [across.max() + 1, down.max() + 1, 0]], np.float32)
        return Face(np.tile(corners, (MESH_SIZE // 2, 1)), 1.0)

    entries = [
        Entry(tmp_path / "a.mp4", "ann", "train", still=False),
        Entry(tmp_path / "small.mp4", "tom", "train", still=False),
        Entry(tmp_path / "face.png", "dee", "train", still=True),
        Entry(tmp_path / "blank.png", "eve", "train", still=True),
        Entry(tmp_path / "gone.mp4", "gil", "train", still=False),
    ]
    report = build_clips_folder(entries, tmp_path / "out", finder, size_px=SIZE_PX)
    assert (report.clips, report.frames, len(report.skipped)) == (2, 4, 3)
    assert "got 64x64" in report.skipped[0]
    assert "no face is found" in report.skipped[1]
    dataset = open_or_pack(tmp_path / "out", tmp_path / "cache")
    assert [clip.identity for clip in dataset.clips] == ["ann", "dee"]
    places = dataset.landmarks.landmarks[3].astype(float)
    assert dataset.landmarks.valid.all()
    assert not dataset.landmarks.in_space[..., 2].any()  # the finder's faces are flat
    # The face is 100 px wide and half of its points lie at either corner: its size is 50 sqrt(2) px. It is framed by
    # the app's rule, and the square's part outside the picture repeats the border.
    size = 50 * np.sqrt(2)
    side, shift = SIDE_PER_SIZE * size, SHIFT_PER_SIZE * size
    assert side > 300
    assert places.min(0) == pytest.approx([0.5 - 50 / side, 0.5 - (50 + shift) / side], abs=0.01)
    assert places.max(0) == pytest.approx([0.5 + 50 / side, 0.5 + (50 - shift) / side], abs=0.01)
    with pytest.raises(DataError, match="nothing can be used"):
        build_clips_folder(entries[-1:], tmp_path / "none", finder)


def test_a_still_is_read_as_a_viewer_shows_it(tmp_path: Path) -> None:
    """Upright, by the reader of all pictures, whatever its kind."""
    pillow_heif.register_heif_opener()
    seen: list[tuple[int, ...]] = []

    def finder(rgb: NDArray[np.uint8]) -> None:
        seen.append(rgb.shape)

    exif = Image.Exif()
    exif[0x0112] = 6
    entries = []
    for kind in ("JPEG", "HEIF"):
        Image.new("RGB", (120, 90)).save(tmp_path / kind, kind, exif=exif.tobytes())
        entries.append(Entry(tmp_path / kind, "ann", "train", still=True))
    with pytest.raises(DataError, match="nothing can be used"):
        build_clips_folder(entries, tmp_path / "out", finder, size_px=SIZE_PX)
    assert seen == [(120, 90, 3), (120, 90, 3)]


def test_the_command_counts_what_it_left_out(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.__main__ import main

    out = tmp_path / "packed"
    assert main(["pack", str(clips_folder), str(out)]) == 0
    assert "left_out" not in json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    (clips_folder / "clips/b.mp4").write_bytes(b"")
    capsys.readouterr()
    assert main(["pack", str(clips_folder), str(out)]) == 1
    said = capsys.readouterr()
    assert said.out.count("left out: ") == 1
    assert "1 of 3 clips are left out, as told above and in" in said.err
    (why,) = json.loads((out / "dataset.json").read_text(encoding="utf-8"))["left_out"]
    assert str(Path("clips", "b.mp4")) in why
    assert len(open_dataset(out).clips) == 2


def test_a_dataset_that_was_packed_for_itself_is_no_cache(clips_folder: Path, tmp_path: Path) -> None:
    pack(clips_folder, tmp_path / "packed")
    frames = open_dataset(tmp_path / "packed").frames.copy()
    (clips_folder / "clips/a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="it holds a packed dataset, which would be lost; choose another folder"):
        open_or_pack(clips_folder, tmp_path / "packed")
    assert np.array_equal(open_dataset(tmp_path / "packed").frames, frames)


def test_packing_without_room_loses_no_dataset(
    clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(clips_folder, tmp_path / "packed")
    size, left = (tmp_path / "packed" / "frames.u8").stat().st_size, -1
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=left))
    with pytest.raises(DataError, match="MiB are needed"):
        pack(clips_folder, tmp_path / "packed")
    assert open_dataset(tmp_path / "packed").frames.nbytes == size
    left = 0  # the one that it replaces makes room for it
    assert pack(clips_folder, tmp_path / "packed").clips == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_px": float("inf")}, r"has something else in a value's place \(cannot convert float infinity"),
        ({"size_px": 0}, "got pictures of 0 px, expected at least 1"),
        ({"clips": {"a.mp4": 5}}, "has something else in a value's place"),
        ({"file": "../a.mp4"}, r"lists the clip '\.\./a\.mp4', expected paths below its folder"),
        ({"file": "/a.mp4"}, "expected paths below its folder"),
        ({"file": ""}, "expected paths below its folder"),
        ({"file": "a\0.mp4"}, "expected paths below its folder"),
    ],
)
def test_a_table_that_others_wrote_is_read_with_care(
    changes: dict[str, Any], message: str, clips_folder: Path, tmp_path: Path
) -> None:
    values = json.loads((clips_folder / "clips.json").read_text(encoding="utf-8"))
    (values["clips"][0] if "file" in changes else values).update(changes)
    (clips_folder / "clips.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        pack(clips_folder, tmp_path / "packed")


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes that are files")
def test_a_pipe_in_a_clips_place_is_left_out(clips_folder: Path, tmp_path: Path) -> None:
    (clips_folder / "clips/a.mp4").unlink()
    os.mkfifo(clips_folder / "clips/a.mp4")
    (clips_folder / "clips/s.jpg").unlink()
    (clips_folder / "clips/s.jpg").mkdir()
    values = json.loads((clips_folder / "clips.json").read_text(encoding="utf-8"))
    values["clips"].append({**values["clips"][2], "file": "x" * 300})
    (clips_folder / "clips.json").write_text(json.dumps(values), encoding="utf-8")
    old = read_landmarks(clips_folder / "landmarks.npz")
    write_landmarks(clips_folder / "landmarks.npz", old.rows(np.array([*range(11), 10])))
    report = pack(clips_folder, tmp_path / "packed")
    assert ["it is a folder, a device or a pipe, expected a file" in line for line in report.skipped] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [({"valid": np.array(True)}, "got landmarks of shape"), (None, "cannot be read")],
    ids=["a number", "no archive"],
)
def test_landmarks_that_are_none_are_told(
    arrays: dict[str, NDArray[Any]] | None, message: str, clips_folder: Path, tmp_path: Path
) -> None:
    path = clips_folder / "landmarks.npz"
    with np.load(path) as file:
        before = dict(file)
    with path.open("wb") as opened:
        if arrays is None:
            np.save(opened, before["valid"])
        else:
            np.savez(opened, **{**before, **arrays})
    with pytest.raises(DataError, match=message):
        pack(clips_folder, tmp_path / "packed")
