import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera_control import CameraControl, CameraTimes
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import CameraDark, CameraFailed, CameraLit, CameraOpened, Event
from tests.app.fakes import Cameras, FakeCamera, StuckCamera, wait_until

PATIENT = CameraTimes(open_s=60, stall_s=60, frozen_s=60, first_retry_s=0.05, longest_retry_s=0.1, release_s=0.3)
"""Fails only cameras that fail: on a busy machine a thread may well not be run for half a second."""
ONE, TWO = CameraSpec("device", 1), CameraSpec("device", 2)


class Desk:
    """A camera control on a thread of its own, and what it told."""

    def __init__(self, cameras: Cameras, times: CameraTimes = PATIENT) -> None:
        self.cameras = cameras
        self.frames: list[CameraFrame] = []
        self.events: list[Event] = []
        self.wishes = 0
        self.control = CameraControl(self.frames.append, self.events.append, cameras, times)
        self.thread = threading.Thread(target=self.control.run, name="camera control")
        self.thread.start()

    def wish(self, spec: CameraSpec | None) -> None:
        self.wishes += 1
        self.control.set_camera(spec, self.wishes)

    def opened(self) -> list[str]:
        return [event.camera for event in self.events if isinstance(event, CameraOpened)]

    def failures(self) -> list[CameraFailed]:
        return [event for event in self.events if isinstance(event, CameraFailed)]

    def current(self) -> str:
        return self.frames[-1].camera if self.frames else ""

    def flowing(self) -> None:
        count = len(self.frames)
        wait_until(lambda: len(self.frames) > count + 3, "frames flow")

    def close(self) -> None:
        for camera in self.cameras.opened:
            camera.block.clear()
        self.control.request_stop()
        self.thread.join(5.0)
        assert not self.thread.is_alive()
        wait_until(lambda: all(camera.closed for camera in self.cameras.opened), "every camera is closed")


@pytest.fixture
def times() -> CameraTimes:
    """Of the fixture `desk`; a test says which of them it is about."""
    return PATIENT


@pytest.fixture
def desk(times: CameraTimes) -> Iterator[Desk]:
    desk = Desk(Cameras(), times)
    yield desk
    desk.close()


def test_frames_are_numbered_and_stamped(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    assert desk.opened() == ["camera 1"]
    assert [frame.frame_id for frame in desk.frames] == list(range(len(desk.frames)))
    stamps = [frame.captured_s for frame in desk.frames]
    assert stamps == sorted(stamps)


def test_a_camera_that_is_not_there_is_tried_again_with_growing_waits(desk: Desk) -> None:
    desk.cameras.broken.add("camera 1")
    desk.wish(ONE)
    wait_until(lambda: len(desk.failures()) >= 3, "three tries")
    assert [failure.retry_s for failure in desk.failures()[:3]] == [0.05, 0.1, 0.1]
    assert desk.failures()[0].message == "camera 1 is not there"
    desk.cameras.broken.clear()
    wait_until(lambda: desk.opened() == ["camera 1"], "it is found")
    desk.flowing()


def test_a_switch_keeps_the_old_camera_until_the_new_one_gives_frames(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.slow_s = 0.15
    desk.wish(TWO)
    desk.flowing()
    assert desk.current() == "camera 1"
    wait_until(lambda: desk.current() == "camera 2", "the switch")
    wait_until(lambda: desk.cameras.opened[0].closed >= 1, "the old one is let go of")


def test_channels_of_one_recorder_are_cameras_of_their_own(desk: Desk) -> None:
    """They have one name, since what may be a password is left out of it."""
    of_one, of_two = (
        CameraSpec("network", address=f"rtsp://me:secret@nvr/cam/realmonitor?channel={channel}") for channel in (1, 2)
    )
    assert of_one.name == of_two.name
    desk.wish(of_one)
    desk.flowing()
    first = desk.current()
    desk.cameras.slow_s = 0.15
    desk.wish(of_two)
    desk.flowing()
    assert desk.current() == first, "it is another device, so that this one is not let go of before"
    wait_until(lambda: desk.current() != first, "the switch")
    assert not any("secret" in camera or "channel" in camera for camera in (first, desk.current()))


def test_a_switch_that_fails_leaves_the_old_camera(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.broken.add(TWO.name)
    desk.wish(TWO)
    wait_until(lambda: bool(desk.failures()), "the failure is told")
    (failure,) = desk.failures()
    assert (failure.spec, failure.wish, failure.kept, failure.kept_name) == (TWO, 2, ONE, "camera 1")
    assert failure.retry_s is None
    desk.flowing()
    assert desk.current() == "camera 1"


def test_events_tell_their_camera_and_the_newest_wish_that_was_heard_of(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.slow_s = 1.0
    desk.wish(TWO)
    wait_until(lambda: len(desk.cameras.opened) == 1 and desk.control._candidate is not None, "the other is opened")
    desk.cameras.opened[0].fail_after = 0
    wait_until(lambda: ONE in [failure.spec for failure in desk.failures()], "the one in use fails meanwhile")
    events = [event for event in desk.events if isinstance(event, CameraOpened | CameraFailed) and event.spec == ONE]
    assert [(type(event), event.wish) for event in events[:2]] == [(CameraOpened, 1), (CameraFailed, 2)]


class Shut(FakeCamera):
    """Behind a closed shutter."""

    def read(self) -> NDArray[np.uint8]:
        rgb: NDArray[np.uint8] = np.zeros_like(super().read())
        return rgb


def test_a_closed_shutter_is_told_once_and_the_camera_goes_on() -> None:
    desk = Desk(Cameras(Shut), replace(PATIENT, frozen_s=0.4))
    try:
        desk.wish(ONE)
        wait_until(lambda: CameraDark(ONE, 1, "camera 1") in desk.events, "it is told")
        desk.flowing()
        assert len([event for event in desk.events if isinstance(event, CameraDark)]) == 1
        assert desk.failures() == []
    finally:
        desk.close()


def test_darkness_is_told_anew_where_another_camera_cannot_be_had() -> None:
    desk = Desk(Cameras(Shut), replace(PATIENT, frozen_s=0.4))
    try:
        desk.wish(ONE)
        wait_until(lambda: CameraDark(ONE, 1, "camera 1") in desk.events, "it is told")
        desk.cameras.broken.add(TWO.name)
        desk.wish(TWO)
        wait_until(lambda: CameraDark(ONE, 2, "camera 1") in desk.events, "it is told anew")
        assert [failure.kept for failure in desk.failures()] == [ONE]
    finally:
        desk.close()


def test_a_shutter_that_is_opened_is_told_and_closed_again_too() -> None:
    shut = threading.Event()

    class Shuttered(FakeCamera):
        def read(self) -> NDArray[np.uint8]:
            rgb = super().read()
            return np.zeros_like(rgb) if shut.is_set() else rgb

    # While it is open a thread that is not run for so long counts as a frozen camera.
    desk = Desk(Cameras(Shuttered), replace(PATIENT, frozen_s=2.0))
    dark, lit = (event(ONE, 1, "camera 1") for event in (CameraDark, CameraLit))
    try:
        desk.wish(ONE)
        desk.flowing()
        for _ in range(2):
            shut.set()
            wait_until(lambda: desk.events[-1] == dark, "the shutter is told")
            shut.clear()
            wait_until(lambda: desk.events[-1] == lit, "the light is told")
        desk.flowing()
        assert [event for event in desk.events if isinstance(event, CameraDark | CameraLit)] == [dark, lit] * 2
    finally:
        desk.close()


def test_the_same_device_is_let_go_of_before_it_is_opened_otherwise(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.wish(CameraSpec("device", 1, width_px=1280, height_px=720))
    wait_until(lambda: len(desk.cameras.opened) == 2, "opened again")
    assert desk.cameras.opened[0].closed
    desk.flowing()


def test_the_same_device_comes_back_as_it_was_if_the_other_way_fails(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.broken.add("camera 1")
    desk.wish(CameraSpec("device", 1, width_px=1280, height_px=720))
    wait_until(lambda: bool(desk.failures()), "the failure is told")
    assert desk.failures()[0].kept == ONE
    desk.cameras.broken.clear()
    wait_until(lambda: len(desk.opened()) == 2, "the old way")
    desk.flowing()


def test_a_second_quick_wish_for_one_device_keeps_the_way_back_to_what_worked(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.refused = lambda spec: spec != ONE
    for width_px in (1280, 1920):
        desk.wish(CameraSpec("device", 1, width_px=width_px, height_px=720))
        wait_until(lambda: desk.control._active is None, "the wish is heard")
    wait_until(lambda: any(failure.wish == 3 for failure in desk.failures()), "the failure is told")
    assert [failure.kept for failure in desk.failures() if failure.wish == 3][:1] == [ONE]
    wait_until(lambda: len(desk.opened()) == 2, "the old way")
    desk.flowing()


def test_what_failed_long_ago_is_no_way_back(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.broken |= {"camera 1", "camera 2"}
    desk.cameras.opened[0].fail_after = 0
    wait_until(lambda: bool(desk.failures()), "the one in use fails")
    desk.wish(TWO)
    wait_until(lambda: sum(failure.spec == TWO for failure in desk.failures()) >= 2, "the new one is tried again")
    assert {failure.kept for failure in desk.failures()} == {None}


@pytest.mark.parametrize("times", [replace(PATIENT, open_s=0.3)])
def test_an_opening_that_blocks_blocks_nobody_and_is_given_up(desk: Desk) -> None:
    desk.cameras.slow_s = 1.0
    desk.wish(ONE)
    wait_until(lambda: bool(desk.failures()), "the time-out")
    assert "gave no frame within 0.3 s" in desk.failures()[0].message
    desk.wish(None)


def test_an_unplugged_camera_comes_back_by_itself(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.opened[0].fail_after = 0
    wait_until(lambda: bool(desk.failures()), "the failure is told")
    assert "unplugged" in desk.failures()[0].message
    wait_until(lambda: len(desk.opened()) == 2, "it is back")
    desk.flowing()


@pytest.mark.parametrize("times", [replace(PATIENT, stall_s=0.3)])
def test_a_read_that_hangs_counts_as_stalled(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.opened[0].block.set()
    wait_until(lambda: bool(desk.failures()), "the stall is told")
    assert "no frame for 0.3 s" in desk.failures()[0].message
    wait_until(lambda: len(desk.opened()) >= 2, "it is opened again")


def test_a_camera_that_is_slow_by_itself_is_not_taken_for_stalled() -> None:
    desk = Desk(Cameras(lambda name: FakeCamera(name, fps_hz=2.0)), replace(PATIENT, stall_s=0.3))
    try:
        desk.wish(ONE)
        wait_until(lambda: len(desk.frames) > 3, "frames come")
        assert not desk.failures()
        assert len(desk.opened()) == 1
        assert all(frame.next_s > 0.4 for frame in desk.frames)
        desk.cameras.opened[0].block.set()
        wait_until(lambda: bool(desk.failures()), "the stall is told")
    finally:
        desk.close()


def test_a_read_that_never_returns_is_opened_beside_and_told_again_and_again() -> None:
    """A few times, for each keeps a thread; after that it is only told, until one returns."""
    cameras = Cameras(StuckCamera)
    desk = Desk(cameras, replace(PATIENT, stall_s=0.3))
    try:
        desk.wish(ONE)
        desk.flowing()
        for number in (1, 2, 3):
            wait_until(lambda number=number: len(desk.opened()) == number, f"opening {number}")  # type: ignore[misc]
            cameras.opened[-1].block.set()
        wait_until(lambda: sum("hang in its driver" in one.message for one in desk.failures()) >= 3, "it is told again")
        assert len(cameras.opened) == 3
        assert all(failure.retry_s is not None for failure in desk.failures())
        cameras.opened[0].block.clear()
        wait_until(lambda: len(desk.opened()) == 4, "it is opened again")
        desk.flowing()
    finally:
        desk.close()


def test_another_camera_need_not_wait_for_one_that_hangs() -> None:
    cameras = Cameras(StuckCamera)
    desk = Desk(cameras, replace(PATIENT, stall_s=0.3))
    try:
        desk.wish(ONE)
        desk.flowing()
        cameras.opened[0].block.set()
        wait_until(lambda: bool(desk.failures()), "the stall is told")
        desk.wish(TWO)
        wait_until(lambda: desk.current() == "camera 2", "the other one")
    finally:
        desk.close()


@pytest.mark.parametrize("times", [replace(PATIENT, frozen_s=0.4)])
def test_a_device_that_repeats_one_picture_counts_as_frozen(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.cameras.opened[0].frozen = True
    wait_until(lambda: bool(desk.failures()), "the freeze is told")
    assert "frozen" in desk.failures()[0].message


def test_a_file_may_stand_still() -> None:
    class StillFile(FakeCamera):
        is_device = False

    cameras = Cameras(StillFile)
    desk = Desk(cameras, replace(PATIENT, frozen_s=0.4))
    try:
        desk.wish(ONE)
        desk.flowing()
        cameras.opened[0].frozen = True
        wait_until(lambda: desk.frames[-1].captured_s - desk.frames[0].captured_s > 1.0, "a second of frames")
        assert desk.failures() == []
    finally:
        desk.close()


def test_no_camera_may_be_wished_for(desk: Desk) -> None:
    desk.wish(ONE)
    desk.flowing()
    desk.wish(None)
    wait_until(lambda: desk.cameras.opened[0].closed >= 1, "it is closed")
    count = len(desk.frames)
    wait_until(lambda: not any(t.name.startswith("camera 1") for t in threading.enumerate()), "its thread ends")
    assert len(desk.frames) <= count + 1


def test_a_package_that_a_camera_lacks_is_told_in_its_sentence_and_logged_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lack = "the package nowhere is not installed (pip install nowhere)"

    class Lacking(FakeCamera):
        def read(self) -> NDArray[np.uint8]:
            raise ModuleNotFoundError(name="nowhere")

    def refuse(_: CameraSpec) -> bool:
        raise ModuleNotFoundError(name="nowhere")

    desk = Desk(Cameras(Lacking))
    try:
        desk.wish(ONE)
        wait_until(lambda: len(desk.failures()) > 0, "the reading fails")
        desk.cameras.refused = refuse
        desk.wish(TWO)
        wait_until(lambda: any(failed.camera == TWO.name for failed in desk.failures()), "the opening fails")
    finally:
        desk.close()
    first = desk.failures()[0]
    assert first.message.startswith(f"{first.camera} failed: {lack}")
    second = next(failed for failed in desk.failures() if failed.camera == TWO.name)
    assert second.message.startswith(f"{TWO.name} cannot be opened: {lack}")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
