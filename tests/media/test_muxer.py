import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mcnet.media import muxer
from mcnet.media.muxer import Muxer
from mcnet.media.video import open_driving
from tests.disks import in_child


class Kind(NamedTuple):
    """How a container is used, and what FFmpeg does then."""

    container: str
    options: dict[str, str]
    codec: str
    pixels: str


KINDS = {
    "recording": Kind("mp4", {"movflags": "+hybrid_fragmented"}, "libx264", "yuv420p"),
    "mp4": Kind("mp4", {"movflags": "+faststart"}, "libx264", "yuv420p"),
    "webm": Kind("webm", {"cluster_time_limit": "200"}, "libvpx-vp9", "yuv420p"),
    "mkv": Kind("matroska", {}, "ffv1", "bgr0"),
    "gif": Kind("gif", {}, "gif", "rgb8"),
}
FRAMES = 16
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


class FullDisk(FileIO):
    """A file of a disk that takes nothing from the n-th write on; of that it may take a part.

    Attributes:
        writes: how many there were so far, of all files.
    """

    nth = sys.maxsize
    short = False
    writes = 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        FullDisk.writes += 1
        if FullDisk.writes == FullDisk.nth and FullDisk.short:
            return super().write(data[: len(data) // 2 + 1])
        if FullDisk.writes >= FullDisk.nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)

    @classmethod
    def becomes_full(cls, nth: int, *, short: bool) -> None:
        cls.nth, cls.short, cls.writes = nth, short, 0


def opened(path: Path, kind: Kind) -> tuple[Muxer, VideoStream]:
    made = Muxer(path, kind.container, kind.options)
    stream = made.container.add_stream(kind.codec, rate=10)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 64, kind.pixels
    if kind.codec == "libx264":
        stream.options = {"g": "4", "bf": "0"}
    return made, stream


def frame(index: int, kind: Kind) -> VideoFrame:
    made = VideoFrame.from_ndarray(np.roll(NOISE, index, axis=0), format="rgb24").reformat(format=kind.pixels)
    made.pts, made.time_base = index, Fraction(1, 10)
    return made


def steps(made: Muxer, stream: VideoStream, kind: Kind) -> list[Callable[[], None]]:
    """All that writing consists of, in order."""
    frames = [lambda index=index: made.mux(stream.encode(frame(index, kind))) for index in range(FRAMES)]
    return [made.start, *frames, lambda: made.mux(stream.encode(None)), made.finish]


@mock.patch.object(muxer, "FileIO", FullDisk)
def fail_everywhere(folder: Path) -> None:
    """Fail at every write of every kind of container, and go on as far as one can; tells at which steps it failed."""
    for name, kind in KINDS.items():
        FullDisk.becomes_full(sys.maxsize, short=False)
        for step in steps(*opened(folder / name, kind), kind):
            step()
        writes, files = FullDisk.writes, open_files()
        failed = {
            fail(folder / name, kind, nth, short=short) for nth in range(1, writes + 1) for short in (False, True)
        }
        assert open_files() == files, "every file is closed"
        print(json.dumps({"name": name, "writes": writes, "failed": sorted(failed)}), flush=True)


def fail(path: Path, kind: Kind, nth: int, *, short: bool) -> str:
    """Write until it fails; returns whether that was the header, a packet or the trailer."""
    FullDisk.becomes_full(nth, short=short)
    made, stream = opened(path, kind)
    whole = done = 0

    def write() -> None:
        nonlocal whole, done
        for step in steps(made, stream, kind):
            step()
            whole, done = path.stat().st_size, done + 1

    with pytest.raises(OSError, match="No space left"):
        write()
    assert path.stat().st_size == whole, "what the failed step wrote is cut off"
    for again in (made.start, lambda: made.mux([]), made.finish):
        with pytest.raises(OSError, match="No space left"):
            again()
    made.close()
    made.close()
    return "header" if done == 0 else "trailer" if done == FRAMES + 2 else "packet"


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else 0


def test_no_write_that_fails_ends_the_process(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in in_child("tests.media.test_muxer", "fail", str(tmp_path))}
    assert set(rows) == set(KINDS)
    for name, row in rows.items():
        assert row["writes"] > 5
        # Into a GIF the header comes with the first packet.
        assert row["failed"] == (["packet", "trailer"] if name == "gif" else ["header", "packet", "trailer"])


def leave(folder: Path) -> None:
    """Leave files of every kind before the first step, after the header, in the middle and before the trailer."""
    for name, kind in KINDS.items():
        for count in (0, 1, FRAMES // 2, FRAMES + 2):
            made, stream = opened(folder / name, kind)
            for step in steps(made, stream, kind)[:count]:
                step()
            made.close()
            made.close()
            for again in (made.start, lambda made=made: made.mux([]), made.finish):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    again()
    print(json.dumps("left"))


def test_files_may_be_left_unfinished(tmp_path: Path) -> None:
    assert in_child("tests.media.test_muxer", "leave", str(tmp_path)) == ["left"]


def test_a_signal_waits_for_the_end_of_a_step(tmp_path: Path) -> None:
    class Interrupting(FileIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            signal.raise_signal(signal.SIGINT)
            return super().write(data)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with mock.patch.object(muxer, "FileIO", Interrupting):
            made, stream = opened(tmp_path / "x.mp4", KINDS["mp4"])
        interrupts = 0
        for step in steps(made, stream, KINDS["mp4"]):
            try:
                step()
            except KeyboardInterrupt:
                interrupts += 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupts > 2
    made.close()
    assert len(list(open_driving(tmp_path / "x.mp4"))) == FRAMES


def test_a_file_that_is_there_stays_where_a_new_one_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError):
        Muxer(tmp_path / "x.mp4", "mp4", new=True)
    assert (tmp_path / "x.mp4").read_text(encoding="utf-8") == "precious"


if __name__ == "__main__":
    {"fail": fail_everywhere, "leave": leave}[sys.argv[1]](Path(sys.argv[2]))
