import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pyvirtualcam
from numpy.typing import NDArray
from pyvirtualcam import camera as pyvirtualcam_camera

from app.errors import SinkError
from app.pipeline import v4l2
from app.pipeline.output import virtual_camera
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.virtual_camera import VirtualCameraSink
from app.pipeline.output.virtual_camera_report import Fix, Status, VirtualCameraReport
from app.pipeline.state import State
from tests.app.linux_machine import LinuxMachine

OUTPUT = OutputFormat(128, 72, 30)


class FakeDriver:
    """One device that takes one writer, as pyvirtualcam's drivers do."""

    made: ClassVar[list["FakeDriver"]] = []
    in_use: ClassVar[bool] = False
    fails_on: ClassVar[str] = ""

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None, **_: Any) -> None:
        if self.in_use or self.fails_on == "open":
            raise RuntimeError("No v4l2 loopback device found\nDid you run 'modprobe v4l2loopback'?")
        type(self).in_use = True
        self.size_px, self.fps, self.fourcc = (width, height), fps, fourcc
        self.name = device or "/dev/video10"
        self.pictures: list[NDArray[np.uint8]] = []
        self.closed = 0
        self.made.append(self)

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> int | None:
        return None

    def send(self, frame: NDArray[np.uint8]) -> None:
        if self.fails_on == "send":
            raise RuntimeError("device is gone")
        self.pictures.append(frame.copy())

    def close(self) -> None:
        self.closed += 1
        type(self).in_use = False
        if self.fails_on == "close":
            raise RuntimeError("cannot let go")


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeDriver]]:
    class Driver(FakeDriver):
        made: ClassVar[list[FakeDriver]] = []

    monkeypatch.setattr(pyvirtualcam_camera, "BACKENDS", {})
    pyvirtualcam.register_backend("fake", Driver)
    yield Driver
    assert not Driver.in_use


def picture(value: int = 0, size_px: tuple[int, int] = (128, 72)) -> Composed:
    return Composed(0, 0.0, State.LIVE, np.full((size_px[1], size_px[0], 3), value, np.uint8), fresh=True)


def reports(*status: Status) -> Callable[[str | None], VirtualCameraReport]:
    """A machine that stands as told, look after look."""
    left = list(status)

    def examine(device: str | None) -> VirtualCameraReport:
        now = left.pop(0) if len(left) > 1 else left[0]
        return VirtualCameraReport(now, device or "/dev/video7", f"It is {now}.", (Fix("Do this", "one\ntwo"),))

    return examine


def test_pictures_arrive_as_rgb_at_one_size(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink(backend="fake")
    sink.open(OUTPUT)
    assert (sink.name, sink.detail) == ("virtualcam", "/dev/video10")
    sink.send(picture(7))
    sink.send(picture(8))
    sink.close()
    made = driver.made[0]
    assert (made.size_px, made.fps) == ((128, 72), 30)
    assert [int(shown[0]) for shown in made.pictures] == [7, 8]
    assert made.pictures[0].shape == (128 * 72 * 3,)
    assert made.closed == 1
    assert sink.sent == 2


def test_the_device_that_was_chosen(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink("/dev/video12", backend="fake")
    sink.open(OUTPUT)
    sink.close()
    assert driver.made[0].name == "/dev/video12"


def test_the_device_that_was_found_free_is_named_to_the_driver(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink(examine=reports("ready"))
    sink.open(OUTPUT)
    assert sink.detail == driver.made[0].name == "/dev/video7"
    sink.close()


def test_a_device_that_an_older_module_left_stuck_is_freed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = LinuxMachine(tmp_path).add_loopback(7, flags=0)
    freed: list[Path] = []
    monkeypatch.setattr(virtual_camera, "VideoDevices", lambda: machine.devices)
    monkeypatch.setattr(virtual_camera, "free_loopback", freed.append)
    sink = VirtualCameraSink(examine=reports("ready"))
    sink.open(OUTPUT)
    sink.close()
    assert freed == [Path("/dev/video7")]


def test_an_older_module_is_told_that_the_writing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = LinuxMachine(tmp_path).add_loopback(7, fed=True).add_process(os.getpid(), "python", 7, only_writes=True)
    told: list[int] = []
    monkeypatch.setattr(v4l2, "VideoDevices", lambda: machine.devices)
    monkeypatch.setattr(v4l2, "_begin_output_stream", told.append)
    v4l2.end_as_stream(Path("/dev/video7"))
    assert not told  # this module has a state, and needs no help
    (tmp_path / "sys/class/video4linux/video7/state").unlink()
    v4l2.end_as_stream(Path("/dev/video7"))
    assert told == [7]


def test_it_opens_again_and_again(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink(backend="fake")
    for _ in range(3):
        sink.open(OUTPUT)
        sink.send(picture())
        sink.close()
        sink.close()
    assert [made.closed for made in driver.made] == [1, 1, 1]


def test_a_second_opening_says_so() -> None:
    sink = VirtualCameraSink(backend="fake")
    sink.open(OUTPUT)
    with pytest.raises(SinkError, match="open already"):
        sink.open(OUTPUT)
    sink.close()


@pytest.mark.parametrize("status", ["missing", "busy", "denied"])
def test_what_the_machine_lacks_is_told_with_the_fix(status: Status, driver: type[FakeDriver]) -> None:
    with pytest.raises(SinkError, match=f"^It is {status}. Do this: one && two$"):
        VirtualCameraSink(examine=reports(status)).open(OUTPUT)
    assert not driver.made


def test_busy_since_the_look(driver: type[FakeDriver]) -> None:
    driver.fails_on = "open"
    with pytest.raises(SinkError, match="It is busy"):
        VirtualCameraSink(examine=reports("ready", "busy")).open(OUTPUT)


def test_the_drivers_own_words_where_the_machine_looks_well(driver: type[FakeDriver]) -> None:
    driver.fails_on = "open"
    with pytest.raises(SinkError, match=r"cannot be opened: .* No v4l2 loopback device found Did you run .* try again"):
        VirtualCameraSink(examine=reports("ready")).open(OUTPUT)


def test_an_unknown_backend() -> None:
    with pytest.raises(SinkError, match="got backend 'nope', expected one of fake"):
        VirtualCameraSink(backend="nope").open(OUTPUT)


def test_a_picture_of_another_size() -> None:
    sink = VirtualCameraSink(backend="fake")
    sink.open(OUTPUT)
    with pytest.raises(SinkError, match=r"got a picture of \(64, 64, 3\), expected \(72, 128, 3\)"):
        sink.send(picture(size_px=(64, 64)))
    sink.close()


def test_sending_without_opening() -> None:
    with pytest.raises(SinkError, match="not open"):
        VirtualCameraSink(backend="fake").send(picture())


def test_a_device_that_goes_away_can_be_closed(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink(backend="fake")
    sink.open(OUTPUT)
    driver.fails_on = "send"
    with pytest.raises(SinkError, match="takes no pictures any more: device is gone"):
        sink.send(picture())
    sink.close()
    assert driver.made[0].closed == 1


def test_a_driver_that_does_not_close_is_not_asked_twice(driver: type[FakeDriver]) -> None:
    sink = VirtualCameraSink(backend="fake")
    sink.open(OUTPUT)
    driver.fails_on = "close"
    with pytest.raises(SinkError, match="could not be closed: cannot let go"):
        sink.close()
    sink.close()
    del sink
    assert driver.made[0].closed == 1
