"""Backgrounds: what is taken for one, and how they run."""

import contextlib
import os
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from mcnet.media.colours import opaque
from mcnet.media.errors import MediaError
from mcnet.media.images import write_rgb
from mcnet.media.scene import (
    Background,
    LoopedVideo,
    Scene,
    blurred,
    covering,
    is_moving,
    parse_background,
)
from mcnet.media.surroundings import NO_MARGINS, Surrounded
from tests.media.test_matte import TRUSTED, portrait, still
from tests.media.videos import counted, make_video, number_of


def test_backgrounds_by_name() -> None:
    assert parse_background("own").kind == "own"
    assert parse_background("alpha").kind == "alpha"
    assert (parse_background("blur", 0.8).kind, parse_background("blur", 0.8).blur) == ("blur", 0.8)
    assert (parse_background("green").kind, parse_background("green").colour) == ("colour", "#00ff00")
    assert parse_background("#12aBff").colour == "#12aBff"


def test_files_are_pictures_or_videos_by_their_content(tmp_path: Path) -> None:
    write_rgb(tmp_path / "a.png", np.zeros((70, 70, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "nameless")
    make_video(tmp_path / "b.mp4", counted(3))
    assert parse_background(str(tmp_path / "nameless")).kind == "image"
    assert parse_background(str(tmp_path / "b.mp4")).kind == "video"
    assert is_moving(Path("waving.gif"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.png", "there is no file"),
        ("#12345g", "there is no file"),
        ("", "no file is chosen"),
        ("rtsp://192.0.2.1/stream", "network address"),
        ("http:camera", "network address"),
        ("/dev/null", "a device or a pipe"),
        ("~nobody-of-this-name/x", "cannot be read"),
        ("a\0b", "cannot be read|no file"),
    ],
)
def test_what_is_no_background_is_told(text: str, told: str) -> None:
    with pytest.raises(MediaError, match=told) as caught:
        parse_background(text)
    assert "expected own, blur, green, #rrggbb, alpha, or the file" in str(caught.value)


def test_a_camera_cannot_come_in_as_a_background(tmp_path: Path) -> None:
    """Nor under another name: what counts is where a link leads."""
    (tmp_path / "beach.mp4").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("beach.mp4", "pipe.mp4", "."):
        with pytest.raises(MediaError, match="a folder, a device or a pipe"):
            parse_background(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("beach.mp4", "ffconcat version 1.0\nfile camera.ts\n"),
        ("beach.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ncamera.ts\n"),
        ("beach.sdp", "v=0\nm=video 9 RTP/AVP 96\nc=IN IP4 127.0.0.1\na=rtpmap:96 H264/90000\n"),
    ],
)
def test_a_camera_cannot_come_in_through_a_file_that_names_it(name: str, text: str, tmp_path: Path) -> None:
    """A pipe stands for it: who opened it would take what is in it."""
    shot = make_video(tmp_path / "shot.ts", counted(3)).read_bytes()
    os.mkfifo(tmp_path / "camera.ts")
    (tmp_path / name).write_text(text, encoding="utf-8")
    camera = os.open(tmp_path / "camera.ts", os.O_RDWR)  # else who opens the pipe waits for the other end
    os.write(camera, shot)
    end = threading.Timer(3, os.close, [camera])  # else who reads it waits for more
    end.start()
    try:
        with pytest.raises(MediaError, match="expected a video such as MP4, MOV or WebM"):
            LoopedVideo(parse_background(str(tmp_path / name)).path)
        assert os.read(camera, 1 << 20) == shot
    finally:
        end.cancel()
        end.join()
        with contextlib.suppress(OSError):
            os.close(camera)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.ts", "a.gif", "a.mpg", "a.flv"])
def test_the_usual_kinds_of_video_are_self_contained(name: str, tmp_path: Path) -> None:
    codec = {".gif": "gif", ".webm": "libvpx-vp9", ".mpg": "mpeg2video"}.get(Path(name).suffix, "libx264")
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "rgb8" if codec == "gif" else "yuv420p"
        for _ in range(5):
            frame = VideoFrame.from_ndarray(np.full((128, 128, 3), 255, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert LoopedVideo(tmp_path / name).at(0).min() > 240


def test_a_video_begins_anew_where_it_ends(tmp_path: Path) -> None:
    video = LoopedVideo(make_video(tmp_path / "a.mp4", counted(5), fps=25))
    assert [number_of(video.at(index / 25 + 0.01)) for index in range(12)] == [*range(5), *range(5), 0, 1]
    first = video.at(0.49)
    assert video.at(0.5) is not None
    assert number_of(first) == 2
    before = number_of(video.at(0.6))
    assert number_of(video.at(1000.0)) == (before + 1) % 5  # who was away for long goes on where he was


@pytest.mark.parametrize("fps", [24000 / 1001, 25, 30000 / 1001, 30, 50, 60])
def test_a_video_of_the_same_rate_moves_with_every_frame(fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rounding of n / fps * fps makes of n."""

    class Counting:
        def __init__(self, *_: object, **__: object) -> None:
            self.fps = fps

    monkeypatch.setattr("mcnet.media.scene.open_driving", Counting)
    monkeypatch.setattr("mcnet.media.scene.looped", lambda _: (np.full((1, 1, 3), n, np.int64) for n in range(5000)))
    video = LoopedVideo(Path("a.mp4"))
    assert [int(video.at(index / fps)[0, 0, 0]) for index in range(3000)] == list(range(3000))


def test_a_video_of_a_single_picture_is_read_once(tmp_path: Path) -> None:
    """As a GIF that does not move."""
    Image.fromarray(counted(1)[0]).save(tmp_path / "still.gif")
    video = LoopedVideo(tmp_path / "still.gif")
    first = video.at(0)
    (tmp_path / "still.gif").unlink()
    assert all(video.at(index / 10) is first for index in range(20))


def test_a_video_that_goes_away_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", counted(3), fps=25)
    video = LoopedVideo(path)
    path.unlink()
    with pytest.raises(MediaError, match="no video at"):
        video.at(0.3)
    (tmp_path / "b.mp4").write_bytes(b"no video" * 50)
    with pytest.raises(MediaError, match=r"cannot read the video .*/b.mp4"):
        LoopedVideo(tmp_path / "b.mp4")


def test_the_head_no_longer_drags_the_background_along() -> None:
    square = portrait("man_3")
    alone = Surrounded(square, NO_MARGINS)
    seen = [np.roll(square, by_px, 1) for by_px in (0, 6, 12)]  # what a network makes of a head that moves
    flows = [still(by_x=-by_px * 2 / 255) for by_px in (0, 6, 12)]
    wall, face = np.s_[20:80, :40], np.s_[90:190, 110:140]
    for kind, beside in (("own", None), ("blur", None), ("colour", (0, 255, 0))):
        scene = Scene(Background(kind), alone)  # type: ignore[arg-type]
        shown = [
            scene.show(scene.cut(rgb, flow, TRUSTED), index / 25).astype(int)
            for index, (rgb, flow) in enumerate(zip(seen, flows, strict=True))
        ]
        for frame, rgb in zip(shown, seen, strict=True):
            np.testing.assert_array_equal(frame[wall], shown[0][wall])
            assert np.abs(frame[face] - rgb[face]).max() <= 2
        if beside is not None:
            assert (shown[0][wall] == beside).all()
    assert np.abs(seen[0][wall].astype(int) - seen[2][wall]).max() > 0
    transparent = Scene(Background("alpha"), alone)
    assert transparent.show(transparent.portrait(), 0).shape == (256, 256, 4)


def test_pictures_and_videos_stand_behind(tmp_path: Path) -> None:
    alone = Surrounded(portrait("man_3"), NO_MARGINS)
    write_rgb(tmp_path / "a.png", np.full((90, 200, 3), 77, np.uint8))
    still_one = Scene(parse_background(str(tmp_path / "a.png")), alone)
    assert (still_one.show(still_one.portrait(), 0)[20:80, :40] == 77).all()
    make_video(tmp_path / "b.mp4", counted(3), fps=25)
    moving = Scene(parse_background(str(tmp_path / "b.mp4")), alone)
    shown = [moving.show(moving.portrait(), index / 25)[20:80, :40] for index in range(7)]
    assert [number_of(rgb) for rgb in shown] == [0, 1, 2, 0, 1, 2, 0]


def test_pictures_are_fitted() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert covering(wide, (64, 64)).shape == (64, 64, 3)
    assert (covering(wide, (64, 64)) == 200).mean() > 0.9


def test_a_narrow_picture_is_cut_before_it_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaled as a whole, a picture of 8 x 8000 would have 10 million pixels at 100 x 100."""
    resize, sizes = cv2.resize, []

    def watched(picture: NDArray[np.uint8], size_px: tuple[int, int], interpolation: int) -> cv2.typing.MatLike:
        sizes.append(size_px)
        return resize(picture, size_px, interpolation=interpolation)

    monkeypatch.setattr(cv2, "resize", watched)
    narrow = np.zeros((8000, 8, 3), np.uint8)
    narrow[3996:4004] = 200
    for rgb in (narrow, narrow.transpose(1, 0, 2)):
        assert (covering(rgb, (100, 100)) == 200).all()
    assert sizes == [(100, 100)] * 2
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 200
    assert blurred(edge, 0) is edge
    assert 50 < blurred(edge, 0.5)[32, 30, 0] < 150
    see_through = np.dstack((edge, np.zeros((64, 64), np.uint8)))
    assert (opaque(see_through) == 128).all()
    assert opaque(edge) is edge
