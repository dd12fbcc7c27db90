import logging
import os
import shutil
from pathlib import Path
from unittest import mock

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.media import muxer
from mcnet.media.errors import MediaError
from mcnet.media.images import write_rgb
from mcnet.media.numbered import stamp_of_pictures
from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter
from tests.disks import mounted
from tests.media.outputs import unclosable
from tests.media.videos import GRID, counted, make_sound_only, make_video, number_of, sound_of


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


KINDS = ["out.mp4", "out.webm", "out.gif", "out"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_can_be_read(tmp_path: Path, name: str) -> None:
    frames = counted(30)
    frames[3][:, :48] = (200, 60, 40)
    with VideoWriter(tmp_path / name, 25, (96, 64)) as writer:
        for rgb in frames:
            writer.write(rgb)
        assert not (tmp_path / name).exists(), "nothing stands there before it is complete"
    video = open_driving(tmp_path / name)
    assert (video.fps, video.frame_count, video.frame_size_px) == (25, 30, (96, 64))
    shown = list(video)
    assert [number_of(rgb) for index, rgb in enumerate(shown) if index != 3] == [*range(3), *range(4, 30)]
    assert np.abs(shown[3][8:56, 8:40].astype(int) - (200, 60, 40)).max() < 12
    assert names(tmp_path) == [name]


def decoded_with_alpha(path: Path) -> list[NDArray[np.uint8]]:
    """FFmpeg's own VP9 decoder leaves the alpha channel out; libvpx's knows it."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.metadata["alpha_mode"] == "1"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    return [frame.to_ndarray(format="rgba").astype(np.uint8, copy=False) for frame in frames]


def test_alpha_is_kept_where_it_can_be(tmp_path: Path) -> None:
    frames = [np.dstack((rgb, np.full(rgb.shape[:2], 30 * index, np.uint8))) for index, rgb in enumerate(counted(8))]
    for rgba in frames:
        rgba[:, :32, 3] = 255
    for name in ("a.webm", "a"):
        with VideoWriter(tmp_path / name, 25, (96, 64), alpha=True) as writer:
            for rgba in frames:
                writer.write(rgba)
    for index, rgba in enumerate(decoded_with_alpha(tmp_path / "a.webm")):
        assert number_of(rgba[..., :3]) == index
        assert np.abs(rgba[..., 3].astype(int) - frames[index][..., 3])[8:56, [8, 20, 50, 80]].max() < 12
    for index, rgba in enumerate(frames):
        stored = cv2.imread(str(tmp_path / "a" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        np.testing.assert_array_equal(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA), rgba)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_alpha_is_refused_where_it_cannot_be_kept(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"which has no alpha channel here, expected .webm, or none for a folder"):
        VideoWriter(tmp_path / name, 25, (96, 64), alpha=True)


def test_mp4_is_what_browsers_and_players_take(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 30, (96, 64), audio_from=GRID) as writer:
        for rgb in counted(30):
            writer.write(rgb)
    assert writer.has_sound
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first: it plays while it loads"
    with av.open(tmp_path / "a.mp4") as container:
        picture = container.streams.video[0].codec_context
        assert (picture.name, picture.pix_fmt, picture.colorspace) == ("h264", "yuv420p", 1)
        assert container.streams.audio[0].codec_context.name == "aac"


def test_pngs_are_lossless_and_numbered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (65, 67, 3), dtype=np.uint8) for _ in range(3)]
    with VideoWriter(f"{tmp_path}/out.d/", 25, (67, 65)) as writer:
        for rgb in frames:
            writer.write(rgb)
    assert names(tmp_path / "out.d") == ["000000.png", "000001.png", "000002.png"]
    assert all(np.array_equal(a, b) for a, b in zip(open_driving(tmp_path / "out.d"), frames, strict=True))


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_odd_sizes_grow_by_a_pixel(tmp_path: Path, name: str) -> None:
    with VideoWriter(tmp_path / name, 25, (97, 65)) as writer:
        for rgb in counted(5, (97, 65)):
            writer.write(rgb)
    video = open_driving(tmp_path / name)
    assert video.frame_size_px == (98, 66)
    assert [number_of(rgb) for rgb in video] == list(range(5))


def test_a_gif_has_a_palette_of_its_own(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :96].astype(np.float32)
    rgb = np.stack([180 + x / 3, 120 + y / 2, 100 + (x + y) / 4], axis=-1).astype(np.uint8)  # skin-like, soft
    with VideoWriter(tmp_path / "a.gif", 100, (96, 64)) as writer:
        for _ in range(20):
            writer.write(rgb)
    video = open_driving(tmp_path / "a.gif")
    shown = list(video)
    assert video.fps == pytest.approx(50, rel=0.1)
    assert len(shown) == pytest.approx(10, abs=1)
    assert np.abs(shown[0].astype(int) - rgb).mean() < 4


@pytest.mark.parametrize(("name", "codec"), [("out.mp4", "aac"), ("out.webm", "opus")])
@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_the_sound_of_the_grid_clip_is_carried_over_to_the_length_of_the_picture(
    tmp_path: Path, name: str, codec: str, seconds: float
) -> None:
    with VideoWriter(tmp_path / name, 25, (96, 64), audio_from=GRID) as writer:
        for rgb in counted(round(25 * seconds)):
            writer.write(rgb)
    got_codec, got, rate = sound_of(tmp_path / name)
    _, original, original_rate = sound_of(GRID)
    assert got_codec == codec
    assert got.size / rate == pytest.approx(min(seconds, original.size / original_rate), abs=0.03)
    _assert_in_step(got, rate, original, original_rate)


def _assert_in_step(got: NDArray[np.float32], rate: int, original: NDArray[np.float32], original_rate: int) -> None:
    """Both loud at the same times, to 20 ms: the loudness in steps of 10 ms is compared at all shifts."""

    def loudness(wave: NDArray[np.float32], hz: int) -> NDArray[np.float32]:
        step = hz // 100
        power: NDArray[np.float32] = (wave[: wave.size // step * step].reshape(-1, step) ** 2).mean(axis=1)
        level: NDArray[np.float32] = np.log(power + 1e-5)
        return level

    one, other = loudness(got, rate), loudness(original, original_rate)
    length = min(one.size, other.size) - 40
    likeness = [np.corrcoef(one[20 : 20 + length], other[20 + by : 20 + by + length])[0, 1] for by in range(-20, 21)]
    assert abs(int(np.argmax(likeness)) - 20) <= 2
    assert max(likeness) > 0.8


@pytest.mark.parametrize(
    ("codec", "name", "written"),
    [("aac", "out.mp4", "aac"), ("aac", "out.webm", "opus"), ("libmp3lame", "out.mp4", "mp3float")],
)
@pytest.mark.parametrize("from_s", [0.0, 0.5])
def test_sound_that_starts_later_stays_in_step(
    tmp_path: Path, codec: str, name: str, written: str, from_s: float
) -> None:
    frames = counted(50)
    source = make_video(tmp_path / "in.mp4", frames, sound_s=3.0, sound_from_s=from_s, sound_codec=codec)
    with VideoWriter(tmp_path / name, 25, (96, 64), audio_from=source) as writer:
        for rgb in frames:
            writer.write(rgb)
    got_codec, wave, rate = sound_of(tmp_path / name)
    loud = np.flatnonzero(np.abs(wave) > 0.1)
    assert got_codec == written
    assert loud[0] / rate == pytest.approx(from_s, abs=0.04)
    assert loud[-1] / rate == pytest.approx(2.0, abs=0.04)


def test_a_picture_that_starts_later_than_the_sound_stays_in_step(tmp_path: Path) -> None:
    frames = counted(25)
    source = make_video(tmp_path / "in.mkv", frames, times_ms=range(600, 1600, 40), sound_s=1.0)
    for name in ("out.mp4", "out.webm"):
        with VideoWriter(tmp_path / name, 25, (96, 64), audio_from=source) as writer:
            for rgb in frames:
                writer.write(rgb)
        _, wave, rate = sound_of(tmp_path / name)
        loud = np.flatnonzero(np.abs(wave) > 0.1)
        assert loud[0] / rate < 0.04
        assert loud[-1] / rate == pytest.approx(0.4, abs=0.04), "the tone ends 0.4 s after the first picture"


@pytest.mark.parametrize("name", KINDS)
def test_a_driving_video_without_sound_is_fine(tmp_path: Path, name: str) -> None:
    source = make_video(tmp_path / "in.mp4", counted(3))
    (tmp_path / "pictures").mkdir()
    write_rgb(tmp_path / "pictures" / "1.png", counted(1)[0])
    for audio_from in (source, tmp_path / "pictures"):
        with VideoWriter(tmp_path / name, 25, (96, 64), audio_from=audio_from) as writer:
            for rgb in counted(4):
                writer.write(rgb)
        assert len(list(open_driving(tmp_path / name))) == 4
        assert not writer.has_sound
        if not Path(name).suffix:
            shutil.rmtree(tmp_path / name)  # a folder is written once


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_video_plays(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    def video() -> None:
        with VideoWriter(tmp_path / name, 25, (96, 64), audio_from=GRID) as writer:
            for rgb in counted(23):
                writer.write(rgb)
            raise error

    with pytest.raises(error):
        video()
    assert [number_of(rgb) for rgb in open_driving(tmp_path / name)] == list(range(23))
    assert names(tmp_path) == [name]
    if name in ("out.mp4", "out.webm"):
        _, wave, rate = sound_of(tmp_path / name)
        assert wave.size / rate == pytest.approx(23 / 25, abs=0.03)


@pytest.mark.parametrize("name", KINDS)
def test_an_end_before_the_first_frame_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    if target.suffix:
        target.write_bytes(b"precious")
    else:
        target.mkdir()
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, 25, (96, 64), audio_from=GRID):
        raise KeyboardInterrupt
    with VideoWriter(target, 25, (96, 64)):
        pass
    assert names(tmp_path) == [name]
    assert target.read_bytes() == b"precious" if target.suffix else names(target) == []


@pytest.mark.parametrize("name", [name for name in KINDS if Path(name).suffix])
def test_an_older_result_is_replaced(tmp_path: Path, name: str) -> None:
    for count in (9, 4):
        with VideoWriter(tmp_path / name, 25, (96, 64)) as writer:
            for rgb in counted(count):
                writer.write(rgb)
    assert len(list(open_driving(tmp_path / name))) == 4


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    picture = tmp_path / "out" / "000000.png"
    picture.parent.mkdir()
    write_rgb(picture, counted(1)[0])
    before = picture.read_bytes()
    with pytest.raises(MediaError, match="is not empty"):
        VideoWriter(tmp_path / "out", 25, (96, 64))
    assert picture.read_bytes() == before


@pytest.mark.parametrize("meanwhile", ["", "000002.png", "theirs.png"])
def test_pictures_of_before_make_way_as_long_as_they_are_alone(tmp_path: Path, meanwhile: str) -> None:
    folder = tmp_path / "out"
    write(folder, 4)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stamp = stamp_of_pictures(folder)
    assert stamp
    with pytest.raises(MediaError, match="is not empty"):
        VideoWriter(folder, 25, (96, 64), replaces=stamp[::-1])

    def again() -> None:
        with VideoWriter(folder, 25, (96, 64), replaces=stamp) as writer:
            writer.write(255 - counted(1)[0])
            assert {path.name: path.read_bytes() for path in folder.glob("0*")} == before, "until there are others"
            if meanwhile:
                (folder / meanwhile).write_bytes(b"theirs")

    if not meanwhile:
        again()
        assert names(folder) == ["000000.png"]
        assert (folder / "000000.png").read_bytes() != before["000000.png"]
        return
    with pytest.raises(MediaError, match=r"out: File exists; .* is kept as .*out-2$"):
        again()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**before, meanwhile: b"theirs"}
    assert names(tmp_path / "out-2") == ["000000.png"]


def test_a_stamp_is_of_one_videos_pictures_in_their_place(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert stamp_of_pictures(folder) == ""
    write(folder)
    stamp = stamp_of_pictures(folder)
    assert len(stamp or "") == 32
    assert stamp_of_pictures(folder / "000000.png") == "", "a file is no folder"
    folder.rename(tmp_path / "moved")
    assert stamp_of_pictures(tmp_path / "moved") not in ("", None, stamp)
    (tmp_path / "moved" / "000001.png").unlink()
    assert stamp_of_pictures(tmp_path / "moved") is None, "there is a gap"


def write(path: Path, count: int = 3) -> None:
    with VideoWriter(path, 25, (96, 64)) as writer:
        for rgb in counted(count):
            writer.write(rgb)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, name: str, *, is_there: bool) -> None:
    link, real = tmp_path / name, tmp_path / "elsewhere" / name
    real.parent.mkdir()
    link.symlink_to(Path("elsewhere", name))
    if is_there and real.suffix:
        real.write_bytes(b"old")
    elif is_there:
        real.mkdir()
    write(link)
    assert link.is_symlink()
    assert names(tmp_path) == sorted(["elsewhere", name])
    assert names(real.parent) == [name]
    assert len(list(open_driving(real))) == 3


def test_a_link_into_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone" / "a.mp4")
    with pytest.raises(MediaError, match=r"there is no folder .*gone; make it first"):
        write(tmp_path / "a.mp4")


def test_an_empty_folder_is_filled_and_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be mounted, or be where the user stands; and file managers put files of theirs into it meanwhile."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    with VideoWriter(".", 25, (96, 64)) as writer:
        writer.write(counted(1)[0])
        (tmp_path / ".DS_Store").touch()
    assert tmp_path.stat().st_ino == before
    assert names(tmp_path) == [".DS_Store", "000000.png"]


def test_a_folder_that_another_one_filled_meanwhile_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def both() -> None:
        with VideoWriter(folder, 25, (96, 64)) as writer:
            writer.write(counted(1)[0])
            (folder / "000000.png").write_bytes(b"theirs")

    with pytest.raises(MediaError, match=r"cannot complete .*out: File exists; .* is kept as .*out-2$"):
        both()
    assert (folder / "000000.png").read_bytes() == b"theirs"
    assert names(tmp_path) == ["out", "out-2"]
    assert names(folder) == names(tmp_path / "out-2") == ["000000.png"]


def test_what_cannot_be_written_is_named_before_any_frame(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    (tmp_path / "file").touch()
    (tmp_path / "sound.mp4").write_text("no video", encoding="utf-8")
    before = names(tmp_path)
    cases: list[tuple[str, Path | None, str]] = [
        ("a.avi", None, r"got suffix '\.avi', expected \.mp4, \.webm, \.gif"),
        ("nowhere/a.mp4", None, "there is no folder"),
        ("full", None, "is not empty"),
        ("file", None, "got a file of that name"),
        ("a.mp4", tmp_path / "missing.mp4", "no video at"),
        ("a.mp4", tmp_path / "sound.mp4", "cannot read the video"),
    ]
    for name, audio_from, message in cases:
        with pytest.raises(MediaError, match=message):
            VideoWriter(tmp_path / name, 25, (96, 64), audio_from=audio_from)
    with pytest.raises(MediaError, match="frames/s"):
        VideoWriter(tmp_path / "a.mp4", 0, (96, 64))
    assert names(tmp_path) == before


def test_the_driving_video_is_not_overwritten(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", counted(3))
    with pytest.raises(MediaError, match="the driving video itself"):
        VideoWriter(tmp_path / "in.mp4", 25, (96, 64), audio_from=source)
    assert len(list(open_driving(source))) == 3


def test_a_place_that_refuses_is_named_and_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    with pytest.raises(MediaError, match="not writable"):
        VideoWriter(tmp_path / "a.mp4", 25, (96, 64))


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, (96, 64)) as writer:
        writer.write(counted(1)[0])
        with pytest.raises(MediaError, match=r"expected uint8 \(64, 96, 3\)"):
            writer.write(np.zeros((96, 64, 3), np.uint8))
        with pytest.raises(MediaError, match="float64"):
            writer.write(np.zeros((64, 96, 3)))  # type: ignore[arg-type]
    writer.close()
    with pytest.raises(MediaError, match="not open"):
        writer.write(counted(1)[0])
    assert len(list(open_driving(tmp_path / "a.mp4"))) == 1


def test_a_failure_at_the_end_leaves_nothing_and_does_not_hide_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Path, __: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MediaError, match="No space left"), VideoWriter(tmp_path / "a.mp4", 25, (96, 64)) as writer:
        writer.write(counted(1)[0])

    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", 25, (96, 64)) as writer:
            writer.write(counted(1)[0])
            raise KeyboardInterrupt

    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "No space left" in caplog.text
    assert names(tmp_path) == []


def test_what_is_cut_short_does_not_replace_an_older_result(tmp_path: Path) -> None:
    (tmp_path / "a.webm").write_bytes(b"precious")

    def write() -> None:
        with VideoWriter(tmp_path / "a.webm", 25, (96, 64)) as writer:
            for rgb in counted(9):
                writer.write(rgb)

    with (
        mock.patch.object(muxer, "FileIO", unclosable(".webm")),
        pytest.raises(MediaError, match=r"cannot complete .*a\.webm: Input/output error; .* is kept as .*a-2\.webm$"),
    ):
        write()
    assert (tmp_path / "a.webm").read_bytes() == b"precious"
    assert len(list(open_driving(tmp_path / "a-2.webm"))) == 9


def test_a_disk_that_only_lets_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro"), pytest.raises(MediaError, match="is not writable; choose another place"):
        VideoWriter(tmp_path / "disk" / "a.mp4", 25, (96, 64))


def test_sound_that_is_damaged_ends_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_video(tmp_path / "in.mp4", counted(50), sound_s=2.0)
    content = source.read_bytes()
    source.write_bytes(
        content[: content.rindex(b"moov") - 4000] + bytes(3000) + content[content.rindex(b"moov") - 1000 :]
    )
    with caplog.at_level(logging.WARNING), VideoWriter(tmp_path / "a.webm", 25, (96, 64), audio_from=source) as writer:
        for rgb in counted(50):
            writer.write(rgb)
    assert len(list(open_driving(tmp_path / "a.webm"))) == 50


def test_sound_from_a_song(tmp_path: Path) -> None:
    song = make_sound_only(tmp_path / "song.m4a")
    with VideoWriter(tmp_path / "a.mp4", 25, (96, 64), audio_from=song) as writer:
        for rgb in counted(3):
            writer.write(rgb)
    assert open_driving(tmp_path / "a.mp4").has_audio
