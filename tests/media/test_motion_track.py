"""Motion files: what they keep, how exactly, and what becomes of damaged ones."""

import dataclasses
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from mcnet.arrays import Keypoints
from mcnet.media import motion_track
from mcnet.media.bundled import CLIP
from mcnet.media.crop import SquareBox
from mcnet.media.errors import MediaError
from mcnet.media.expressions import head_turn
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.head_motion import Head
from mcnet.media.motion_track import (
    MotionTrack,
    TrackDriving,
    TrackRecorder,
    load_track,
    loop_of,
    open_track,
    save_track,
)
from mcnet.media.video import open_driving
from mcnet.track_name import is_track
from tests.disks import Room, place


@pytest.fixture(scope="module")
def face() -> Face:
    with FaceFinder() as finder:
        return finder.find(next(iter(open_driving(CLIP))))[0]


def moved(face: Face, aside_px: float) -> Face:
    irises = None if face.irises_px is None else face.irises_px + np.array([aside_px, 0], np.float32)
    return Face(face.landmarks_px + np.array([aside_px, 0, 0], np.float32), 0.75, irises)


def keypoints(number: float) -> Keypoints[NDArray[Any]]:
    jacobian = np.broadcast_to((1 + number) * np.eye(2, dtype=np.float32), (1, 4, 2, 2))
    return Keypoints(np.full((1, 4, 2), number, np.float32), jacobian)


@pytest.fixture
def track(face: Face) -> MotionTrack:
    """Eight frames at 10 per second, the fourth without a face."""
    recorder = TrackRecorder("abc", "mine", measured=True)
    for index in range(8):
        seen = None if index == 3 else moved(face, 2.5 * index)
        recorder.add(
            50 + 0.1 * index, seen, None if seen is None else keypoints(index), SquareBox(180, 140, 200 + index)
        )
    return recorder.track((360, 288))


def test_what_was_recorded_comes_back(tmp_path: Path, track: MotionTrack) -> None:
    path = tmp_path / "wave.safetensors"
    save_track(path, track)
    back = load_track(path)
    np.testing.assert_allclose(back.times_s, np.arange(8) / 10, atol=1e-12)
    assert back.fps == 10.0
    assert back.frame_size_px == (360, 288)
    assert back.faces[3] is None
    for one, other in zip(track.faces, back.faces, strict=True):
        if one is not None and other is not None:
            np.testing.assert_allclose(other.mesh_px, one.mesh_px, atol=0.01)  # of a pixel
            assert other.presence == pytest.approx(one.presence)
    assert back.keypoints is not None
    assert (back.keypoints.model, back.keypoints.measured, back.model_name) == ("abc", True, "mine")
    for got, kept in zip(back.keypoints.at(5) or (), keypoints(5), strict=True):
        np.testing.assert_array_equal(got, kept)
    assert back.keypoints.at(3) is None, "nobody was there"
    np.testing.assert_allclose(back.keypoints.box[7], [180, 140, 207])


def test_the_file_is_what_its_page_says(tmp_path: Path, track: MotionTrack) -> None:
    save_track(tmp_path / "t.safetensors", track)
    with safe_open(tmp_path / "t.safetensors", framework="numpy") as file:
        kinds = {name: (file.get_tensor(name).dtype, file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    f32 = np.dtype(np.float32)
    assert kinds == {
        "time_s": (np.dtype(np.float64), (8,)),
        "confidence": (f32, (8,)),
        "mesh": (np.dtype(np.int16), (8, 478, 3)),
        "place": (f32, (8, 3)),
        "value": (f32, (8, 4, 2)),
        "jacobian": (f32, (8, 4, 2, 2)),
        "box": (f32, (8, 3)),
    }
    assert (header["format"], header["version"]) == ("mcnet-motion", "1")
    bytes_per_frame = sum(dtype.itemsize * int(np.prod(shape[1:])) for dtype, shape in kinds.values())
    assert bytes_per_frame == 2892 + 4 * 24 + 12
    page = (Path(__file__).parents[2] / "docs" / "motion_files.md").read_text(encoding="utf-8")
    for name, (dtype, _) in kinds.items():
        assert f"| `{name}` | {dtype}" in page
    assert "2,892 bytes" in page


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such rights")
def test_whoever_may_read_other_files_may_read_it(tmp_path: Path, track: MotionTrack) -> None:
    path, other = tmp_path / "t.safetensors", tmp_path / "other"
    other.touch()
    save_track(path, track)
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o664)
    save_track(path, track)
    assert stat.S_IMODE(path.stat().st_mode) == 0o664, "as it was"


def test_it_is_read_at_a_constant_rate(track: MotionTrack, face: Face) -> None:
    driving = TrackDriving(Path("t.safetensors"), track)
    assert (driving.fps, driving.frame_count, driving.has_audio) == (10.0, 8, False)
    pictures = list(driving)
    assert {picture.shape for picture in pictures} == {(288, 360, 3)}
    assert (pictures[3] == pictures[3][0, 0]).all(), "nobody is there"
    assert not (pictures[0] == pictures[7]).all()
    late = dataclasses.replace(track, times_s=np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.2, 1.4]))
    assert TrackDriving(Path("t"), late).frames == [0, 1, 2, 3, 4, *[5] * 7, 6, 6, 7]
    one = MotionTrack(np.zeros(1), [face], (360, 288))
    assert TrackDriving(Path("t"), one).frames == [0]


def test_a_pause_and_a_fast_camera_cost_no_frame(tmp_path: Path, face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """At the mean rate of all, most frames had no place."""
    path = tmp_path / "t.safetensors"
    steady_s = np.arange(100) / 30
    for times_s, fps, count in (
        (steady_s + 20.0 * (steady_s > 1.65), 30, 700),  # the camera was gone for 20 s
        (steady_s + 3600.0 * (steady_s > 1.65), 30, 1899),  # a minute is held of an hour and a thirtieth of a second
        (np.arange(100) / 240, 240, 100),
        (np.arange(100) * 1001 / 30000, 30000 / 1001, 100),
        (np.array([0.0, 5.0]), 1, 6),
    ):
        caplog.clear()
        save_track(path, MotionTrack(times_s, [face] * len(times_s), (360, 288)))
        driving = open_track(path)
        assert (driving.fps, driving.frame_count) == (fps, count)
        assert len(set(driving.frames)) == len(times_s)
        assert bool(caplog.messages) == (times_s[-1] > 3600)
        assert all("has pauses of more than 60 s: 1 are cut to that" in said for said in caplog.messages)


def test_what_has_no_place_at_the_rate_is_told(tmp_path: Path, face: Face, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.safetensors"
    times_s = np.sort(np.append(np.arange(100) / 30, 1.0 + np.arange(1, 9) / 10_000))
    save_track(path, MotionTrack(times_s, [face] * 108, (360, 288)))
    shown = len(set(open_track(path).frames))
    assert 99 < shown < 108
    assert f"at 30 frames/s {108 - shown} of its 108 frames are left out" in caplog.text


def test_a_loop_goes_on_without_a_jump(face: Face) -> None:
    """Somebody turns the head from side to side, and stops somewhere."""
    heads = Head.of(face.mesh_px.astype(np.float64))
    faces: list[Face | None] = [None]
    for index in range(60):
        angle = 0.2 * np.sin(index / 12)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        mesh = heads._replace(rotation=turn @ heads.rotation).mesh.astype(np.float32)
        faces.append(Face(mesh[:468], 0.9, mesh[468:, :2].reshape(2, 5, 2)))
    track = MotionTrack(np.arange(61) / 30, faces, (360, 288))
    loop = loop_of(track)
    assert all(one is not None for one in loop.faces)
    assert loop.times_s[0] == 0
    assert 1.2 < loop.length_s < 1.5

    def yaws(frames: Any) -> NDArray[np.float64]:
        return np.array([head_turn(Head.of(one.mesh_px.astype(np.float64)).rotation).yaw for one in frames if one])

    steps = np.abs(np.diff(yaws([*loop.faces, loop.faces[0]])))
    usual = np.abs(np.diff(yaws(faces))).max()
    assert steps.max() < 2.2 * usual
    assert np.abs(yaws(faces)[0] - yaws(faces)[-1]) > 4 * usual, "played as it is, it would jump"


def test_a_loop_of_next_to_nothing_is_one_all_the_same(face: Face) -> None:
    for count in (1, 2, 4):
        loop = loop_of(MotionTrack(np.arange(count) / 10, [face] * count, (64, 64)))
        assert loop.times_s[0] == 0
        assert len(loop.faces) == len(loop.times_s) >= 1


def test_the_recorder_takes_what_comes(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_track, "MOST_FRAMES", 3)
    recorder = TrackRecorder()
    for time_s in (1.0, 1.5, 1.5, 1.2, 2.0, 3.0):
        recorder.add(time_s, face)
    assert recorder.full
    assert (len(recorder), recorder.faces, recorder.length_s) == (3, 3, 1.0)
    np.testing.assert_allclose(recorder.track((64, 64)).times_s, [0, 0.5, 1.0])
    long = TrackRecorder()
    for time_s in (7.0, 7.0 + 24 * 3600, 7.1 + 24 * 3600):
        long.add(time_s, face)
    assert (len(long), long.length_s) == (2, 24 * 3600), "what can be kept"
    partly = TrackRecorder("abc", measured=True)
    partly.add(0.0, face, keypoints(1), SquareBox(1, 1, 1))
    partly.add(0.1, face)
    assert partly.track((64, 64)).keypoints is None, "keypoints of some frames are of no use"


def test_detected_keypoints_are_kept_though_a_frame_shows_no_face(face: Face) -> None:
    recorder = TrackRecorder("abc", measured=False)
    recorder.add(0.0, face, keypoints(1), SquareBox(1, 1, 1))
    recorder.add(0.1, None, None, SquareBox(1, 1, 1))
    recorder.add(0.2, None, keypoints(2), SquareBox(1, 1, 1))
    found = recorder.track((64, 64)).keypoints
    assert found is not None
    assert [found.at(frame) is None for frame in range(3)] == [False, True, False]


def test_what_cannot_be_kept_is_said_and_nothing_is_left(tmp_path: Path, track: MotionTrack, face: Face) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(MediaError, match="got 1 frames without a face"):
        save_track(path, MotionTrack(np.zeros(1), [None], (64, 64)))
    with pytest.raises(MediaError, match="at most 18000"):
        save_track(path, MotionTrack(np.arange(18_001.0), [face] * 18_001, (64, 64)))
    with pytest.raises(MediaError, match=r"got 25\.0 hours, expected at most 24"):
        save_track(path, MotionTrack(np.array([0, 25 * 3600.0]), [face] * 2, (64, 64)))
    with pytest.raises(MediaError, match=r"cannot keep the motion in .*nowhere"):
        save_track(tmp_path / "nowhere" / "t.safetensors", track)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, face: Face, track: MotionTrack) -> None:
    with place("disk", tmp_path) as folder:
        path = folder / "t.safetensors"
        save_track(path, track)
        Room("disk", folder).take()
        with pytest.raises(MediaError, match="cannot keep the motion in"):
            save_track(path, MotionTrack(np.arange(20) / 30, [face] * 20, (360, 288)))
        assert len(load_track(path).faces) == 8
        assert [one.name for one in folder.iterdir()] == ["t.safetensors"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _changed(**changes: Any) -> Callable[[Path], None]:
    """Writes the file with other tensors, or another header where a key is its."""

    def change(path: Path) -> None:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata()
        for name, value in changes.items():
            if name in tensors:
                tensors[name] = value(tensors[name])
            elif name in header:
                header[name] = value
        save_file({name: one for name, one in tensors.items() if one is not None}, path, header)

    return change


def _filled(number: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda one: np.full_like(one, number)


_TOLD = {"frame_size_px": [360, 288], "model": None}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "cannot be read as a motion file"),
        (lambda path: path.write_text("hello", encoding="utf-8"), "cannot be read as a motion file"),
        (lambda path: path.write_bytes(b""), "cannot be read as a motion file"),
        (Path.unlink, "there is no such file"),
        (_changed(format="mcnet"), "is no motion file"),
        (_changed(version="2"), "of version 2, this program knows versions up to 1; use a newer one"),
        (_changed(version="9" * 5000), "this program knows versions up to 1"),
        (_changed(motion="{"), "is a damaged motion file"),
        (_changed(motion="[" * 100_000), "is a damaged motion file"),
        (_changed(motion=json.dumps(_TOLD | {"frame_size_px": [float("inf"), 288]})), "is a damaged motion file"),
        (_changed(motion="[]"), "is a damaged motion file"),
        (_changed(motion=json.dumps({"model": None})), "is a damaged motion file"),
        (_changed(motion=json.dumps(_TOLD | {"frame_size_px": [1, 1]})), "got a frame size of 1 x 1"),
        (_changed(mesh=lambda _: None), "is a damaged motion file: 'mesh'"),
        (_changed(mesh=lambda one: one[:, :400]), "of 400 points, expected some of 468 or 478"),
        (_changed(mesh=lambda one: one.astype(np.float32)), "got mesh as float32"),
        (_changed(mesh=lambda one: one[0, 0]), "got 8 frames of 0 points"),
        (_changed(time_s=lambda one: np.array(one[0])), "got 0 frames"),
        (_changed(jacobian=_filled(0)), "jacobian has matrices without an inverse"),
        (_changed(time_s=lambda one: one[::-1].copy()), "does not ascend from 0"),
        (_changed(time_s=lambda one: one * 1e6), "194.4 hours, expected at most 24"),
        (_changed(time_s=_filled(np.nan)), "numbers that are not finite"),
        (_changed(place=_filled(np.inf)), "numbers that are not finite"),
        (_changed(place=_filled(1e6)), "lies outside of all pictures"),
        (_changed(place=_filled(30)), "lies outside of all pictures"),
        (_changed(mesh=_filled(7)), "a face has no width or no height"),
        (_changed(mesh=lambda one: one * np.array([1, 0, 1], np.int16)), "a face has no width or no height"),
        (_changed(place=lambda one: one * np.array([1, 1, 1e-6], np.float32)), "a face has no width or no height"),
        (_changed(confidence=_filled(0)), "no frame shows a face"),
        (_changed(value=lambda one: one[:5]), "got value as float32"),
    ],
)
def test_what_is_damaged_is_said_in_a_sentence(
    tmp_path: Path, track: MotionTrack, damage: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "t.safetensors"
    save_track(path, track)
    damage(path)
    with pytest.raises(MediaError, match=r"t\.safetensors") as told:
        open_track(path)
    assert reason in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_types_that_numpy_lacks_are_said_where_they_matter(tmp_path: Path, track: MotionTrack, kind: str) -> None:
    """As torch writes them. What the format does not know is not read, whatever it is."""
    path = tmp_path / "t.safetensors"
    save_track(path, track)
    size = 2 if kind == "BF16" else 1
    told, tensors = _parts(path)
    told["more"] = {"dtype": kind, "shape": [3], "data_offsets": [len(tensors), len(tensors) + 3 * size]}
    _write_parts(path, told, tensors + bytes(3 * size))
    assert len(load_track(path).faces) == 8
    save_track(path, track)
    told, tensors = _parts(path)
    told["confidence"]["dtype"] = kind
    told["confidence"]["shape"] = [8, 4 // size]
    _write_parts(path, told, tensors)
    with pytest.raises(MediaError, match=rf"damaged motion file: got confidence as {kind} \(8, {4 // size}\)"):
        load_track(path)


def test_what_the_header_does_not_call_for_is_not_looked_at(tmp_path: Path, track: MotionTrack) -> None:
    path = tmp_path / "t.safetensors"
    save_track(path, dataclasses.replace(track, keypoints=None, model_name=""))
    told, tensors = _parts(path)
    for name in ("value", "note"):
        stray = {"dtype": "F32", "shape": [1], "data_offsets": [len(tensors), len(tensors) + 4]}
        _write_parts(path, {**told, name: stray}, tensors + np.array([np.nan], np.float32).tobytes())
        assert load_track(path).keypoints is None


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _write_parts(path: Path, header: dict[str, Any], tensors: bytes) -> None:
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + tensors)


def test_the_motion_of_very_large_frames_is_read_in_proportion(tmp_path: Path, track: MotionTrack) -> None:
    """Or each of its pictures would take 800 MB."""
    path = tmp_path / "t.safetensors"
    save_track(path, track)
    small, small_box = load_track(path), track.keypoints
    large = {"place": lambda one: one * np.float32(40), "box": lambda one: one * np.float32(40)}
    told = {"frame_size_px": [14400, 11520], "model": {"name": "mine", "weights": "abc", "measured": True}}
    _changed(motion=json.dumps(told), **large)(path)
    back = load_track(path)
    assert back.frame_size_px == (4096, 3277)
    share = 4096 / 360
    for one, other in zip(small.faces, back.faces, strict=True):
        if one is not None and other is not None:
            np.testing.assert_allclose(other.mesh_px, one.mesh_px * share, rtol=1e-4, atol=1e-2)
    assert back.keypoints is not None
    assert small_box is not None
    np.testing.assert_allclose(back.keypoints.box, small_box.box * share, rtol=1e-4)
    assert back.picture(0).shape == (3277, 4096, 3)


def test_what_is_too_large_is_not_read(tmp_path: Path, track: MotionTrack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.safetensors"
    save_track(path, track)
    monkeypatch.setattr(motion_track, "MOST_FRAMES", 5)
    with pytest.raises(MediaError, match="has 8 frames, expected at most 5"):
        load_track(path)
    monkeypatch.setattr(motion_track, "_MOST_BYTES", 1000)
    with pytest.raises(MediaError, match="is larger than"):
        load_track(path)


@pytest.mark.parametrize("name", ["a\0b.safetensors", "\ud800.safetensors"])
def test_a_name_that_no_file_can_have_is_said(name: str) -> None:
    """As of a setting that was written by hand."""
    with pytest.raises(MediaError, match=r"cannot be read as a motion file|there is no such file"):
        load_track(Path(name))


def test_a_motion_file_goes_by_its_name() -> None:
    assert is_track(Path("a/Wave.SafeTensors"))
    assert not is_track(Path("wave.mp4"))
