import gc
import io
import logging
import os
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageCms
from pillow_heif import register_heif_opener

from mcnet.media.errors import MediaError
from mcnet.media.frame_rgb import RgbConverter
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving, packets_of
from tests.media.videos import GRID, counted, make_sound_only, make_video, number_of


def test_the_grid_clip() -> None:
    video = open_driving(GRID)
    assert (video.fps, video.frame_size_px, video.has_audio) == (25.0, (360, 288), True)
    assert video.frame_count == pytest.approx(75, abs=2)
    first, second = list(video), list(video)
    assert len(first) == len(second) == 75
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert first[0].shape == (288, 360, 3)
    assert first[0].dtype == np.uint8
    blue = first[0][20, 180].astype(int)
    assert blue[2] > blue[0] + 60, "the studio's wall is blue: red and blue are not swapped"


def test_a_frame_is_freed_as_soon_as_it_is_converted() -> None:
    """Without Python's cyclic collector, which comes to a few objects of a megabyte each too late."""
    gc.collect()
    gc.disable()
    try:
        for _ in open_driving(GRID):
            pass
        left = sum(type(one) is VideoFrame for one in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 2, f"{left} decoded frames are left over"


def test_frames_at_a_constant_rate_come_one_to_one(tmp_path: Path) -> None:
    video = open_driving(make_video(tmp_path / "a.mp4", counted(40), fps=30))
    assert video.fps == pytest.approx(30, rel=1e-3)
    assert video.frame_count == 40
    assert [number_of(rgb) for rgb in video] == list(range(40))
    assert not video.has_audio


def test_uneven_time_stamps_keep_the_picture_in_step(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    steps = rng.integers(8, 90, size=59)
    times_ms = [0, *np.cumsum(steps).tolist()]
    video = open_driving(make_video(tmp_path / "a.mp4", counted(60), fps=25, times_ms=times_ms))
    shown = [number_of(rgb) for rgb in video]
    assert len(shown) / video.fps == pytest.approx(times_ms[-1] / 1000, abs=0.12)
    for index, which in enumerate(shown):
        late_s = index / video.fps - times_ms[which] / 1000
        assert -0.76 / video.fps < late_s < 0.09 + 1 / video.fps


def test_a_video_of_no_constant_rate_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    times_ms = [round(sum([1000 / 30] * index)) for index in range(20)]
    times_ms += [times_ms[-1] + 67 * (index + 1) for index in range(20)]
    video = open_driving(make_video(tmp_path / "a.mp4", counted(40), times_ms=times_ms))
    assert video.fps == pytest.approx(30, abs=0.2)
    with caplog.at_level(logging.WARNING):
        shown = [number_of(rgb) for rgb in video]
        list(video)
    assert sorted(set(shown)) == list(range(40))
    (told,) = (record.getMessage() for record in caplog.records)
    assert re.search(r"at (30|29\.9\d*) frames/s 0 of its 40 pictures are left out, (19|20) are shown longer", told)


def test_a_rate_that_was_asked_for_is_not_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "a.mp4", counted(60), fps=30)
    with caplog.at_level(logging.WARNING):
        assert len(list(open_driving(path, max_fps=25))) == 50
    assert not caplog.records


def test_a_long_still_picture_is_held(tmp_path: Path) -> None:
    video = open_driving(make_video(tmp_path / "a.mp4", counted(11), times_ms=[*range(0, 400, 40), 2400]))
    shown = [number_of(rgb) for rgb in video]
    assert shown.count(9) / video.fps == pytest.approx(2.04, abs=0.3)
    assert shown == sorted(shown)


def test_a_fast_video_is_thinned_out_evenly(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mov", counted(96), fps=120)
    assert open_driving(path).fps == pytest.approx(120, rel=1e-3)
    video = open_driving(path, max_fps=30)
    assert video.fps == 30
    shown = [number_of(rgb) for rgb in video]
    assert len(shown) == 24
    assert shown == list(range(0, 96, 4))
    assert open_driving(path, max_fps=500).fps == pytest.approx(120, rel=1e-3)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_phones_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    upright = np.zeros((128, 64, 3), np.uint8) if abs(rotation) == 90 else np.zeros((64, 128, 3), np.uint8)
    upright[:20, :20] = 255  # a white patch at the upper left
    stored = np.rot90(upright, -rotation // 90).copy()
    video = open_driving(make_video(tmp_path / "a.mp4", [stored] * 3, rotation=rotation))
    assert video.frame_size_px == (upright.shape[1], upright.shape[0])
    shown = next(iter(video))
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 5


def test_the_rotation_has_the_meaning_phones_give_it(tmp_path: Path) -> None:
    """A phone held upright stores a lying picture and the track matrix 0 1 -1 0: turn it clockwise."""
    stored = np.zeros((64, 128, 3), np.uint8)
    stored[:20, :20] = 255
    path = make_video(tmp_path / "a.mp4", [stored] * 3)
    one, minus_one, zero = (value.to_bytes(4, "big", signed=True) for value in (0x10000, -0x10000, 0))
    identity = one + zero * 3 + one + zero * 3 + (0x40000000).to_bytes(4, "big")
    content = path.read_bytes()
    track = content.index(identity, content.index(b"tkhd"))
    turned = zero + one + zero + minus_one + zero * 4 + (0x40000000).to_bytes(4, "big")
    path.write_bytes(content[:track] + turned + content[track + 36 :])
    shown = next(iter(open_driving(path)))
    assert shown.shape == (128, 64, 3)
    assert shown[:18, -18:].mean() > 200, "the upper left corner comes to the upper right"


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (6, (0, -1)), (7, (-1, -1))])
def test_a_cameras_jpegs_may_have_exif(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    """As in the AVI of many a camera. FFmpeg has more kinds of side data than PyAV knows."""
    stored = np.zeros((96, 128, 3), np.uint8)
    stored[:40, :40] = 255
    jpeg = io.BytesIO()
    Image.fromarray(stored).save(jpeg, "JPEG", exif=exif(orientation))
    path = tmp_path / "a.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj420p"
        for index in range(3):
            packet = Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 25)
            container.mux(packet)
    shown = list(open_driving(path))
    assert [rgb.shape for rgb in shown] == [(96, 128, 3) if orientation == 1 else (128, 96, 3)] * 3
    assert shown[-1][corner].min() > 200
    assert shown[-1].mean() < 60


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.heic", "RGB", {"exif": exif(6)}),
        ("a.avif", "RGB", {"exif": exif(6)}),
        ("a.jpg", "RGB", {"exif": exif(6), "icc_profile": PROFILE}),
        ("cmyk.jpg", "CMYK", {}),
        ("a%03d.jpg", "RGB", {}),  # FFmpeg takes it for the name of many
        ("a.png", "RGB", {"icc_profile": PROFILE}),
        ("a.webp", "RGB", {"icc_profile": PROFILE}),
        ("jpeg.tif", "RGB", {"compression": "jpeg"}),
        ("a.gif", "P", {}),
        ("a.mpo", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (32, 32))]}),
    ],
)
def test_a_still_picture_drives_as_viewers_show_it(
    tmp_path: Path, name: str, mode: str, options: dict[str, Any]
) -> None:
    register_heif_opener()
    picture = next(iter(open_driving(GRID)))
    Image.fromarray(picture).convert(mode).save(tmp_path / name, **options)
    video = open_driving(tmp_path / name)
    assert (video.frame_count, video.has_audio) == (1, False)
    (shown,) = video
    np.testing.assert_array_equal(shown, read_rgb(tmp_path / name))


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "a.mjpeg"), ("PNG", "a.png"), ("PPM", "a.ppm")])
def test_pictures_one_behind_the_other_are_a_video(tmp_path: Path, kind: str, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        for rgb in counted(5):
            Image.fromarray(rgb).save(file, kind)
    assert [number_of(rgb) for rgb in open_driving(tmp_path / name)] == [0, 1, 2, 3, 4]


def test_a_video_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    pictures = [Image.fromarray(rgb) for rgb in counted(2, (64, 64))]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[:6] + struct.pack("<HH", 20_000, 5_001) + content[10:])
    with pytest.raises(MediaError, match="20000 x 5001, expected at most 100 million pixels; make it smaller"):
        open_driving(tmp_path / "a.gif")


def test_an_animated_webp_is_named(tmp_path: Path) -> None:
    pictures = [Image.fromarray(rgb) for rgb in counted(4)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100)
    with pytest.raises(MediaError, match=r"got an animated WebP, .* convert it to MP4 or GIF"):
        open_driving(tmp_path / "a.webp")


def test_an_animated_avif_moves(tmp_path: Path) -> None:
    pictures = [Image.fromarray(rgb) for rgb in counted(4, (128, 96))]
    pictures[0].save(tmp_path / "a.avif", save_all=True, append_images=pictures[1:], duration=100)
    assert [number_of(rgb) for rgb in open_driving(tmp_path / "a.avif")] == [0, 1, 2, 3]


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for index, rgb in enumerate(counted(12)):
        write_rgb(tmp_path / f"frame{index}.png", rgb)
    (tmp_path / "notes.txt").write_text("not a picture", encoding="utf-8")
    video = open_driving(tmp_path, folder_fps=12)
    assert (video.fps, video.frame_count, video.frame_size_px, video.has_audio) == (12, 12, (96, 64), False)
    assert [number_of(rgb) for rgb in video] == list(range(12)) == [number_of(rgb) for rgb in video]


def test_pictures_of_different_size_are_named(tmp_path: Path) -> None:
    write_rgb(tmp_path / "1.png", np.zeros((64, 64, 3), np.uint8))
    write_rgb(tmp_path / "2.png", np.zeros((64, 80, 3), np.uint8))
    with pytest.raises(MediaError, match=r"80 x 64 in 2\.png, expected 64 x 64 as in 1\.png"):
        list(open_driving(tmp_path))


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video at all" * 20, encoding="utf-8")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    make_sound_only(tmp_path / "song.m4a")
    whole = make_video(tmp_path / "whole.mp4", counted(30)).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: whole.rindex(b"moov")])
    (tmp_path / "unknown.mp4").write_bytes(whole.replace(b"avc1", b"xyz1").replace(b"avcC", b"xyzC"))
    for name, message in (
        ("unknown.mp4", "got pictures in a codec that cannot be decoded"),
        ("missing.mp4", "no video at"),
        ("empty.mp4", "empty file"),
        ("pipe.mp4", "a device or a pipe, and a video is read more than once; save it as a file first"),
        ("text.mp4", "cannot read the video"),
        ("folder", "holds no picture"),
        ("song.m4a", "only sound"),
        ("headless.mp4", "cannot read the video"),
    ):
        with pytest.raises(MediaError, match=message):
            open_driving(tmp_path / name)


def test_a_video_cut_short_yields_what_is_there_and_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mcnet.media.video_writer import VideoWriter  # puts the index first, as a download that broke off has it

    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "whole.mp4", 25, (96, 64)) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    video = open_driving(tmp_path / "half.mp4")
    with caplog.at_level(logging.WARNING):
        count = len(list(video))
        assert len(list(video)) == count
    assert 20 <= count <= 40
    assert len(caplog.records) == 1
    assert "of 60 promised could be decoded" in caplog.text


def test_damage_in_the_middle_loses_some_frames_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(GRID.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "hole.mpg").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        count = len(list(open_driving(tmp_path / "hole.mpg")))
    assert count >= 65


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    """The cover is a picture track to FFmpeg."""
    flac = make_sound_only(tmp_path / "a.m4a").read_bytes()
    _, cover = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))
    data = len(cover.tobytes()) + 16
    covr = (data + 8).to_bytes(4, "big") + b"covr" + data.to_bytes(4, "big") + b"data" + (13).to_bytes(4, "big")
    covr += bytes(4) + cover.tobytes()
    ilst = (len(covr) + 8).to_bytes(4, "big") + b"ilst" + covr
    hdlr = (33).to_bytes(4, "big") + b"hdlr" + bytes(8) + b"mdirappl" + bytes(9)
    meta = (len(hdlr) + len(ilst) + 12).to_bytes(4, "big") + b"meta" + bytes(4) + hdlr + ilst
    udta = (len(meta) + 8).to_bytes(4, "big") + b"udta" + meta
    at = flac.rindex(b"moov") - 4
    size = int.from_bytes(flac[at : at + 4], "big")
    assert at + size == len(flac)
    (tmp_path / "b.m4a").write_bytes(flac[:at] + (size + len(udta)).to_bytes(4, "big") + flac[at + 4 :] + udta)
    with pytest.raises(MediaError, match="only sound"):
        open_driving(tmp_path / "b.m4a")


def test_tracks_that_turn_up_midway_do_not_disturb(tmp_path: Path) -> None:
    """PyAV then fails at the end, as chance would have it."""

    class Container:
        def demux(self, *_: VideoStream) -> "Iterator[Packet[VideoStream]]":
            yield from container.demux(video=0)
            raise IndexError("list index out of range")

    with av.open(make_video(tmp_path / "a.mp4", counted(5))) as container:
        stream = container.streams.video[0]
        packets = list(packets_of(cast("InputContainer", Container()), stream))
    assert len([packet for packet in packets if packet.size]) == 5


def test_a_title_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", counted(5))
    content = path.read_bytes()
    assert b"VideoHandler" in content
    path.write_bytes(content.replace(b"VideoHandler", "VidéoHandlér".encode("latin-1")))
    assert len(list(open_driving(path))) == 5


def test_pictures_that_cannot_be_converted_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    path = make_video(tmp_path / "a.mp4", counted(5))
    monkeypatch.setattr(RgbConverter, "__call__", refused)
    with pytest.raises(MediaError, match=r"got yuv420p, 96 x 64, which cannot be converted .* export it again"):
        list(open_driving(path))
