"""Writes outputs that fail at one step after another: a child process of `test_full_disk`.

Usage: HOW FOLDER; tells a JSON object a line, one for each of `STEPS`.
"""

import errno
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from mcnet.media import muxer, video, video_writer
from mcnet.media.errors import MediaError
from tests.disks import Room
from tests.media.videos import GRID


class Step(NamedTuple):
    """What fails, and what then stays.

    Attributes:
        name: of the output.
        container: FFmpeg's name, or "folder"; a GIF has a Matroska file before it.
        method: the call before which the room goes; "open": before the writer does; "close": the file does not close;
            "gone": the folder is removed meanwhile.
        nth: the call's number.
        says: how the message begins.
        kept: how many of the 80 frames play afterwards, at least; 0: there is nothing.
    """

    name: str
    container: str
    method: str
    nth: int
    says: str
    kept: int


STEPS = [
    Step("x.mp4", "mp4", "open", 1, "cannot write", 0),
    Step("x.mp4", "mp4", "start", 1, "cannot write", 0),
    Step("x.mp4", "mp4", "mux", 20, "cannot go on writing", 0),
    Step("x.mp4", "mp4", "finish", 1, "cannot complete", 0),
    Step("x.mp4", "mp4", "close", 1, "cannot complete", 80),
    Step("x.mp4", "mp4", "gone", 1, "cannot complete", 0),
    Step("x.webm", "webm", "open", 1, "cannot write", 0),
    Step("x.webm", "webm", "start", 1, "cannot write", 0),
    Step("x.webm", "webm", "mux", 10, "cannot go on writing", 0),
    Step("x.webm", "webm", "mux", 50, "cannot go on writing", 20),
    Step("x.webm", "webm", "finish", 1, "cannot complete", 60),
    Step("x.webm", "webm", "close", 1, "cannot complete", 80),
    Step("x.webm", "webm", "gone", 1, "cannot complete", 0),
    Step("x.gif", "matroska", "open", 1, "cannot write", 0),
    Step("x.gif", "matroska", "start", 1, "cannot write", 0),
    Step("x.gif", "matroska", "mux", 40, "cannot go on writing", 0),
    Step("x.gif", "matroska", "finish", 1, "cannot complete", 0),
    Step("x.gif", "matroska", "close", 1, "cannot complete", 0),
    Step("x.gif", "gif", "mux", 1, "cannot complete", 0),
    Step("x.gif", "gif", "mux", 40, "cannot complete", 35),
    Step("x.gif", "gif", "finish", 1, "cannot complete", 79),
    Step("x.gif", "gif", "close", 1, "cannot complete", 80),
    Step("x.gif", "gif", "gone", 1, "cannot complete", 0),
    Step("x", "folder", "open", 1, "cannot write", 0),
    Step("x", "folder", "write", 1, "cannot go on writing", 0),
    Step("x", "folder", "write", 40, "cannot go on writing", 39),
    Step("x", "folder", "gone", 1, "cannot go on writing", 0),
]
FRAMES = 80
FRAMES_OF_A_LONG_INDEX = 400  # MP4's trailer then takes more than a block of the disk


def main() -> None:
    how, folder = sys.argv[1], Path(sys.argv[2])
    room = Room(how, folder)
    for step in STEPS:
        with failing(step, room):
            error, files, frames = attempt(folder / step.name, step, room)
        print(json.dumps({"error": error, "files": files, "frames": frames}), flush=True)


@contextmanager
def failing(step: Step, room: Room) -> Iterator[None]:
    if step.method in ("open", "gone"):
        yield
    elif step.method == "close":
        with mock.patch.object(muxer, "FileIO", unclosable(".mkv" if step.container == "matroska" else step.container)):
            yield
    else:
        with before_call(step.container, step.method, step.nth, room.take):
            yield


def unclosable(suffix: str) -> type[FileIO]:
    """Files whose disk tells only when they are closed that it could not write: network file systems do so."""

    class Unclosable(FileIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                if str(self.name).endswith(suffix):
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

    return Unclosable


@contextmanager
def before_call(container: str, method: str, nth: int, act: Callable[[Path | None], None]) -> Iterator[None]:
    """Have something happen before the n-th call of a muxer's method, or of what writes a folder's pictures."""
    owner: Any = video_writer._PictureSink if container == "folder" else muxer.Muxer
    call = getattr(owner, method)
    calls = 0

    @functools.wraps(call)
    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        if container == "folder" or self.container.format.name == container:
            calls += 1
            if calls == nth:
                act(None if container == "folder" else Path(self._file.name))
        return call(self, *arguments)

    with mock.patch.object(owner, method, counted):
        yield
    assert calls >= nth, f"{container} {method} was called {calls} times"


def attempt(path: Path, step: Step, room: Room) -> tuple[str, list[str], int]:
    """Write; returns what was said, what then lies in the folder, and how many frames of it play. Leaves nothing."""
    error = ""
    writer = video_writer.VideoWriter(path, 10, (64, 64), audio_from=GRID if step.container == "mp4" else None)
    long = (step.container, step.method) == ("mp4", "finish")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    if step.method == "open":
        room.take_names()
    try:
        with writer:
            for index in range(FRAMES_OF_A_LONG_INDEX if long else FRAMES):
                writer.write(np.roll(noise, index, axis=0))
                if step.method == "gone" and index == FRAMES // 2:
                    shutil.rmtree(path.parent)
    except MediaError as failure:
        error = str(failure)
    room.give()
    files = sorted(entry.name for entry in path.parent.iterdir())
    frames = sum(1 for _ in video.open_driving(path)) if path.name in files else 0
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return error, files, frames


if __name__ == "__main__":
    main()
