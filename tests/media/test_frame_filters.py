import io
import itertools
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mcnet.media.frame_filters import FrameFilters
from mcnet.media.video import open_driving
from tests.media.videos import counted, number_of

Rgb = NDArray[np.uint8]


def moved(time: float, frame_size_px: tuple[int, int] = (192, 96)) -> Rgb:
    """A bright bar at a time, counted in frames: it moves eight pixels in each."""
    rgb = np.full((frame_size_px[1], frame_size_px[0], 3), 40, np.uint8)
    left = round(16 + 8 * time)
    rgb[:, left : left + 24] = 220
    return rgb


def woven(count: int, *, top_first: bool) -> list[Rgb]:
    """Frames of two fields each, the second half a frame later."""
    frames = []
    for index in range(count):
        earlier, later = moved(index), moved(index + 0.5)
        top, bottom = (earlier, later) if top_first else (later, earlier)
        frame = top.copy()
        frame[1::2] = bottom[1::2]
        frames.append(frame)
    return frames


def marked(frames: Sequence[Rgb], order: str) -> list[VideoFrame]:
    """As what FFmpeg shall take them for: `tff`, `bff` or `prog`."""
    graph = Graph()
    height, width = frames[0].shape[:2]
    first = graph.add_buffer(
        width=width, height=height, format=av.VideoFormat("yuv422p", width, height), time_base=Fraction(1, 25)
    )
    mark, last = graph.add("setfield", order), graph.add("buffersink")
    first.link_to(mark)
    mark.link_to(last)
    graph.configure()
    made = []
    for index, rgb in enumerate(frames):
        frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv422p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        first.push(frame)
        ready = last.pull()
        assert isinstance(ready, VideoFrame)
        made.append(ready)
    return made


def written(path: Path, frames: Sequence[VideoFrame], codec: str, options: dict[str, str]) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv422p"
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def combs(rgb: Rgb) -> float:
    """How much rows differ from the next, where the bar is upright in all of them."""
    return float(np.abs(np.diff(rgb[:, :, 1].astype(int), axis=0)).mean())


MPEG_2 = "mpeg2video", {"flags": "+ilme+ildct", "b": "8M", "g": "5", "bf": "2"}
H_264 = "libx264", {"x264-params": "interlaced=1:log-level=none", "crf": "8", "preset": "ultrafast"}


@pytest.mark.parametrize(("codec", "options", "name"), [(*MPEG_2, "a.mpg"), (*H_264, "a.mp4"), (*MPEG_2, "a.avi")])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_two_fields_become_one_picture_of_one_time(
    tmp_path: Path, codec: str, options: dict[str, str], name: str, order: str
) -> None:
    frames = woven(15, top_first=order == "tff")
    assert combs(frames[7]) > 5
    if codec == "libx264":
        options = {**options, "x264-params": f"{order}=1:log-level=none"}
    path = written(tmp_path / name, marked(frames, order), codec, options)
    video = open_driving(path)
    shown = list(video)
    assert (video.fps, video.frame_count, len(shown)) == (25, 15, 15)
    for index, rgb in enumerate(shown[1:-1], start=1):  # the first and the last lack a neighbour
        assert combs(rgb) < 1.5
        nearest = min((0.1 * step for step in range(160)), key=lambda time: np.abs(moved(time)[40] - rgb[40]).mean())
        assert abs(nearest - index) <= 0.6


def test_frames_that_do_not_say_so_are_left_alone(tmp_path: Path) -> None:
    frames = woven(6, top_first=True)
    path = written(tmp_path / "a.avi", marked(frames, "prog"), "ffv1", {})
    assert all(combs(rgb) > 5 for rgb in open_driving(path))


def test_fields_from_midway_and_in_another_size_lose_no_frame() -> None:
    """As broadcasts change, with what they say of it."""
    frames = [
        *marked(counted(20)[:7], "prog"),
        *marked(counted(20)[:14], "tff")[7:],
        *marked(counted(20, (128, 96)), "bff")[14:],
        *marked(counted(21, (128, 96)), "prog")[20:],
    ]
    for index, frame in enumerate(frames):
        frame.pts = index
    filters = FrameFilters("mpeg2video")
    taken = [[*filters.taken(frame)] for frame in frames]
    assert [[frame is one for one in ready] for frame, ready in zip(frames[:7], taken, strict=False)] == [[True]] * 7
    back = [*itertools.chain(*taken), *filters.rest()]
    assert [round(frame.time * 25, 6) for frame in back] == list(range(21))
    shown = [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in back]
    assert [number_of(rgb) for rgb in shown] == list(range(21))
    assert [frame.width for frame in back] == [96] * 14 + [128] * 7


def test_pngs_that_are_stored_coarse_to_fine_have_no_fields(tmp_path: Path) -> None:
    """Which FFmpeg calls interlaced."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, right, down in passes for row in noise[y::down, x::right]]
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 1))
    png += chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(3 * png)
    assert [np.array_equal(rgb, noise) for rgb in open_driving(tmp_path / "a.png")] == [True] * 3


def test_a_png_s_colour_profile_ends_no_process(tmp_path: Path) -> None:
    """In a process of its own: PyAV frees the profile's name twice."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures = [Image.fromarray(rgb) for rgb in counted(4)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=40, icc_profile=profile)
    one = io.BytesIO()
    pictures[2].save(one, "PNG", icc_profile=profile)
    (tmp_path / "b.png").write_bytes(one.getvalue() * 2)  # a stream of pictures
    script = """
import sys
from mcnet.media.video import open_driving
from tests.media.videos import number_of
for path in sys.argv[1:]:
    print(*map(number_of, open_driving(path)))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.png", tmp_path / "b.png"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        encoding="utf-8",
    )
    assert (run.returncode, run.stdout.split("\n")[:2]) == (0, ["0 1 2 3", "2 2"]), run.stderr
