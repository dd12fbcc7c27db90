"""The PipeWire camera: read back by another program, through a real daemon."""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import AppError, SinkError
from app.pipeline.output import pipewire_process
from app.pipeline.output.output_frame import AvatarPicture, Composed, OutputFrame
from app.pipeline.output.pipewire_camera import PipeWireCameraSink
from app.pipeline.output.pipewire_client import STREAMING
from app.pipeline.output.pipewire_process import PIXEL_FORMATS, CameraWish
from app.pipeline.output.pipewire_worker import NODE_NAME
from app.pipeline.output.presenter import Presenter
from app.pipeline.output.sink_stage import SinkStage
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Meter
from app.settings import LiveSettings
from tests.app.pipeline.output.pipewire_daemon import Daemon, until

SMALL = OutputFormat(320, 240, 30)
RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 180, 60), (40, 50, 190), (128, 128, 128)


def composed(rgb: NDArray[np.uint8]) -> Composed:
    return Composed(0, 0.0, State.LIVE, rgb, fresh=True)


def quarters(output: OutputFormat = SMALL) -> NDArray[np.uint8]:
    """Red above green on the left, blue above grey on the right: no two sides can be taken for each other."""
    rgb = np.empty((output.height_px, output.width_px, 3), np.uint8)
    half, middle = output.height_px // 2, output.width_px // 2
    rgb[:half, :middle], rgb[half:, :middle], rgb[:half, middle:], rgb[half:, middle:] = RED, GREEN, BLUE, GREY
    return rgb


def as_rgb(row: NDArray[np.uint8], pixel_format: str, output: OutputFormat = SMALL) -> NDArray[np.uint8]:
    height, width = output.height_px, output.width_px
    if pixel_format == "YUY2":
        return np.asarray(cv2.cvtColor(row.reshape(height, width, 2), cv2.COLOR_YUV2RGB_YUY2), np.uint8)
    if pixel_format == "I420":
        return np.asarray(cv2.cvtColor(row.reshape(height * 3 // 2, width), cv2.COLOR_YUV2RGB_I420), np.uint8)
    return row.reshape(height, width, 3)


class Feeding:
    """Sends pictures at the output's rate, as the sink stage does, until it is left."""

    def __init__(self, sink: PipeWireCameraSink, pictures: Iterator[NDArray[np.uint8]], fps_hz: float = 30) -> None:
        self._sink, self._pictures, self._period_s = sink, pictures, 1 / fps_hz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            self._sink.send(composed(next(self._pictures)))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def sink(daemon: Daemon, told: list[str]) -> Iterator[PipeWireCameraSink]:
    sink = PipeWireCameraSink(tell=told.append)
    sink.open(SMALL)
    until(lambda: daemon.nodes(NODE_NAME) != [], "the node is there")
    yield sink
    sink.close()
    until(lambda: daemon.nodes(NODE_NAME) == [], "the node is gone")


def test_colours_and_the_order_of_lines_in_each_format(daemon: Daemon, sink: PipeWireCameraSink) -> None:
    assert (
        daemon.nodes(NODE_NAME)[0]["info"]["props"]
        | {
            "media.class": "Video/Source",
            "media.role": "Camera",
            "node.description": "mcnet-avatar",
        }
        == daemon.nodes(NODE_NAME)[0]["info"]["props"]
    )
    picture = quarters()
    with Feeding(sink, itertools.repeat(picture)):
        for pixel_format in ("YUY2", "I420", "RGB"):
            rows, _, caps = daemon.read(3, pixel_format).pictures()
            for part in (
                f"format=(string){pixel_format}",
                "width=(int)320",
                "height=(int)240",
                "framerate=(fraction)30/1",
            ):
                assert part in caps
            for row in rows:
                seen = as_rgb(row, pixel_format)
                inside = np.abs(seen.astype(int) - picture) <= (0 if pixel_format == "RGB" else 4)
                inside[118:122], inside[:, 158:162] = True, True  # chroma is shared across the edges
                assert inside.all()


def test_each_picture_comes_once_in_order_with_its_time(daemon: Daemon, sink: PipeWireCameraSink) -> None:
    pictures = (np.full((240, 320, 3), number % 256, np.uint8) for number in itertools.count())
    with Feeding(sink, pictures):
        rows, times, _ = daemon.read(30, "RGB").pictures()
    numbers = rows[:, 0].astype(int)
    assert (rows == rows[:, :1]).all(), "torn"
    steps = np.diff(numbers)
    assert (steps > 0).all()
    assert steps.mean() < 2  # a busy reader may miss some, even some in a row, but not many
    gaps_s = np.diff(times)
    assert (gaps_s > 0).all()
    assert abs(np.median(gaps_s / steps) - 1 / 30) < 0.01  # whoever feeds it may be late, too


class LateStream:
    """A stream of a loop that comes to its turn late: it processes what was triggered when the camera is left."""

    def __init__(self, _: object, __: object, **hears: Callable[..., None]) -> None:
        self.hears = hears
        self.triggered = 0
        self.given: list[int] = []

    def connect(self, *_: object) -> None:
        self.hears["on_state"](STREAMING, "")

    def trigger(self) -> None:
        self.triggered += 1

    def give_picture(self, _: int, __: int, ___: int, time_ns: int, ____: int) -> None:
        self.given.append(time_ns)

    def overwrite(self, *_: object) -> None:
        pass


def test_a_picture_is_not_given_twice_where_the_next_came_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a call program would have the second of two in place of both."""
    times_ns = [("RGB", 1), ("RGB", 2)]

    class Connection:
        def send(self, _: object) -> None:
            pass

        def recv(self) -> tuple[str, int]:
            if not times_ns:
                raise EOFError
            return times_ns.pop(0)

    monkeypatch.setattr(pipewire_process, "PipeWire", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(pipewire_process, "Stream", LateStream)
    wish = CameraWish("camera", (SMALL.width_px, SMALL.height_px), (30, 1))
    size_bytes = PIXEL_FORMATS["RGB"].bytes_of(wish.size_px)[1]
    camera = pipewire_process._Camera(Connection(), wish, (ctypes.c_char * size_bytes)())  # type: ignore[arg-type]
    camera._format = "RGB"
    with pytest.raises(EOFError):
        camera.run()
    stream = cast(LateStream, camera._stream)
    assert stream.triggered == 2
    for _ in range(stream.triggered):
        stream.hears["on_process"]()
    assert stream.given == [2]


def test_nothing_is_computed_while_nobody_looks(
    daemon: Daemon, sink: PipeWireCameraSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = quarters()
    with Feeding(sink, itertools.repeat(picture)):
        daemon.read(2, "YUY2").pictures()
        assert sink.sent >= 2

        def converted(*_: object, **__: object) -> None:
            raise AssertionError("a picture was converted for nobody")

        before = sink.sent
        until(lambda: daemon.nodes(NODE_NAME)[0]["info"]["state"] in ("suspended", "idle"), "nobody reads")
        monkeypatch.setattr(cv2, "cvtColor", converted)
        settled = sink.sent
        time.sleep(0.2)
        assert sink.sent == settled >= before


def test_another_size_is_another_camera(daemon: Daemon, told: list[str]) -> None:
    sink = PipeWireCameraSink("Mine", tell=told.append)
    for output in (SMALL, OutputFormat(642, 362, 24)):
        sink.open(output)
        with pytest.raises(SinkError, match="open already"):
            sink.open(output)
        until(lambda: len(daemon.nodes("Mine")) == 1, "the node is there, and no other")
        picture = quarters(output)
        with Feeding(sink, itertools.repeat(picture)):
            rows, _, caps = daemon.read(2, "RGB", "Mine").pictures()
        assert f"width=(int){output.width_px}, height=(int){output.height_px}" in caps.replace(
            "format=(string)RGB, ", ""
        )
        assert f"framerate=(fraction){output.fps_hz:g}/1" in caps
        assert (rows[-1] == picture.ravel()).all()
        with pytest.raises(SinkError, match="expected"):
            sink.send(composed(np.zeros((64, 64, 3), np.uint8)))
        sink.close()
        sink.close()
        until(lambda: daemon.nodes("Mine") == [], "the node is gone")
    with pytest.raises(SinkError, match="not open"):
        sink.send(composed(quarters()))
    assert told == []


def test_a_fault_shows_the_slate_and_nothing_else(daemon: Daemon) -> None:
    """Fail closed, through the stage that feeds every sink: avatar before the fault, the slate after it."""
    faulty = threading.Event()
    stop = threading.Event()
    frames: LatestSlot[OutputFrame] = LatestSlot("frames")
    preview: LatestSlot[Composed] = LatestSlot("preview")
    stage = SinkStage(SMALL, frames, preview, Presenter(SMALL, 60.0), Meter(()), lambda _: None)
    stage.add(PipeWireCameraSink())
    settings = LiveSettings(background="colour", badge=False)
    thread = threading.Thread(target=lambda: stage.run(stop.is_set, lambda: settings, faulty.is_set))
    thread.start()
    try:
        avatar = np.full((256, 256, 3), (250, 10, 200), np.uint8)
        frames.put(OutputFrame(1, time.monotonic(), State.LIVE, AvatarPicture(avatar), fresh=True))
        until(lambda: daemon.nodes(NODE_NAME) != [], "the node is there")
        before = as_rgb(daemon.read(20, "RGB").pictures()[0][-1], "RGB")
        assert np.abs(before[120, 160].astype(int) - (250, 10, 200)).max() <= 2
        faulty.set()
        until(lambda: stage.state is State.FAULT, "the fault is shown")
        rows = daemon.read(5, "RGB").pictures()[0]
        slate = Presenter(SMALL, 60.0).last_resort(0).rgb
        assert [bool((as_rgb(row, "RGB") == slate).all()) for row in rows] == [True] * 5
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SIGKILL", "what speaks to PipeWire has crashed"),
        ("SIGSTOP", "PipeWire did not answer within 2 s"),
    ],
)
def test_a_process_that_crashes_or_hangs_comes_back(
    daemon: Daemon, sink: PipeWireCameraSink, told: list[str], name: str, why: str
) -> None:
    worker = next(one for one in multiprocessing.active_children() if one.name == "mcnet-pipewire")
    assert worker.pid is not None
    with Feeding(sink, itertools.repeat(quarters())):
        reader = daemon.read(10**6, "RGB")
        until(lambda: sink.sent > 2, "somebody reads")
        os.kill(worker.pid, getattr(signal, name))
        until(lambda: len(told) == 2, "it was told, and is over")
        reader.kill()
        assert told == [f"The camera mcnet-avatar is away ({why}). It comes back by itself.", ""]
        assert (daemon.read(2, "RGB").pictures()[0][-1] == quarters().ravel()).all()


def test_the_camera_comes_back_with_the_daemon(daemon: Daemon, sink: PipeWireCameraSink, told: list[str]) -> None:
    slate = np.full((240, 320, 3), 40, np.uint8)
    with Feeding(sink, itertools.repeat(slate)):
        reader = daemon.read(10**6, "RGB")
        until(lambda: sink.sent > 2, "somebody reads")
        daemon.stop()
        reader.kill()
        until(lambda: told != [], "it was told")
        assert told == ["The camera mcnet-avatar is away (PipeWire has ended). It comes back by itself."]
        daemon.start()
        until(lambda: daemon.nodes(NODE_NAME) != [], "the node is there again")
        assert (daemon.read(3, "RGB").pictures()[0] == 40).all()
    assert told[1:] == [""]


def test_without_a_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    with pytest.raises(SinkError, match=r"no daemon listens at .*pipewire-0 .*systemctl --user start pipewire"):
        PipeWireCameraSink().open(SMALL)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 65])
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(AppError, match="expected 1 to 64 printable characters"):
        PipeWireCameraSink(name)


@pytest.mark.parametrize("pixel_format", list(PIXEL_FORMATS))
def test_black_is_black(pixel_format: str) -> None:
    data = np.frombuffer(PIXEL_FORMATS[pixel_format].black((320, 240)), np.uint8)
    assert (as_rgb(data, pixel_format) == 0).all()
