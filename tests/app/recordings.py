"""Makes recordings that fail at one step after another: a child process of `test_recorder`.

Usage: HOW FOLDER; tells a JSON object a line, one for each of `STEPS`, and at last what came of a call.
"""

import json
import operator
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import av
import numpy as np

from app.errors import SinkError
from app.pipeline.events import Event, SinkFailed
from app.pipeline.output.output_frame import Composed, OutputFrame
from app.pipeline.output.presenter import Presenter
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sink_stage import SinkStage
from app.pipeline.output.sinks import HashSink, OutputFormat
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Meter
from app.settings import LiveSettings
from mcnet.media import muxer
from tests.disks import Room
from tests.media.outputs import before_call, unclosable

OUTPUT = OutputFormat(64, 64, 10)
PICTURES = 70  # 7 s: three whole fragments of 2 s, and a part of a fourth


class Step(NamedTuple):
    """What fails, and how many of the 70 pictures then play.

    Attributes:
        method: of `Muxer`, before which the room goes; "open": before the sink opens; "close": the file does not close.
        nth: the call's number; the header goes with the first packet.
        kept: pictures.
    """

    method: str
    nth: int
    kept: int


STEPS = [Step("open", 1, 0), Step("mux", 1, 0), Step("mux", 50, 40), Step("finish", 1, 60), Step("close", 1, 70)]


def main(how: str, folder: Path) -> None:
    room = Room(how, folder)
    for step in STEPS:
        print(json.dumps(record(folder / "x.mp4", step, room)), flush=True)
    print(json.dumps(call(folder / "x.mp4", room)), flush=True)


def record(path: Path, step: Step, room: Room) -> dict[str, Any]:
    sink = RecorderSink(path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    error, comment, frames = "", "", 0
    if step.method == "open":
        room.take_names()
        fails: Any = nullcontext()
    elif step.method == "close":
        fails = mock.patch.object(muxer, "FileIO", unclosable(".mp4"))
    else:
        fails = before_call("mp4", step.method, step.nth, room.take)
    with fails:
        try:
            sink.open(OUTPUT)
            for index in range(PICTURES):
                sink.send(Composed(0, 0.0, State.LIVE, np.roll(noise, index, axis=0), fresh=True))
                assert sink._recording is not None
                until(partial(operator.not_, sink._recording._pending))
        except SinkError as failure:
            error = str(failure)
        sink.close()
        try:
            until(sink.finished)
        except SinkError as failure:
            error = str(failure)
        assert sink.finished()
    room.give()
    files = sorted(entry.name for entry in path.parent.iterdir())
    if files:
        with av.open(path) as container:
            comment = container.metadata["comment"]
            frames = sum(1 for _ in container.decode(video=0))
        path.unlink()
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return {"error": error, "files": files, "frames": frames, "comment": comment, "threads": threads}


def call(path: Path, room: Room) -> dict[str, Any]:
    """A call whose recording fails while another sink and the window get the pictures."""
    frames: LatestSlot[OutputFrame] = LatestSlot("frames")
    preview: LatestSlot[Composed] = LatestSlot("preview")
    events: list[Event] = []
    stopped = threading.Event()
    stage = SinkStage(OUTPUT, frames, preview, Presenter(OUTPUT, 30.0), Meter(("hop",)), events.append)
    thread = threading.Thread(
        target=stage.run, args=(stopped.is_set, lambda: LiveSettings(background="colour", badge=False), lambda: False)
    )
    other = HashSink()
    with before_call("mp4", "mux", 1, room.take):
        thread.start()
        stage.add(other)
        stage.add(RecorderSink(path))
        until(lambda: any(isinstance(event, SinkFailed) for event in events))
        sent = len(other.digests)
        preview.take(0.0)
        until(lambda: len(other.digests) >= sent + 3)
        shown = preview.take(1.0)
        stopped.set()
        thread.join(10.0)
    assert not thread.is_alive()
    room.give()
    failed = [event.message for event in events if isinstance(event, SinkFailed)]
    return {"failed": failed, "shown": shown is not None, "files": [entry.name for entry in path.parent.iterdir()]}


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.0005)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
