"""Cameras behind an address, served by this computer."""

import logging
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture import network_camera
from app.pipeline.capture.camera import Camera
from app.pipeline.capture.camera_control import CameraControl, CameraTimes
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.capture.cameras import open_camera
from app.pipeline.events import CameraFailed, CameraOpened, Event
from tests.app.pipeline.capture.phone import PASSWORD, Phone, phone, wait_for
from tests.app.pipeline.capture.rtsp import COLOUR, SIZE_PX, rtsp_camera


@pytest.fixture(name="phone")
def _phone() -> Iterator[Phone]:
    with phone() as server:
        yield server


@pytest.fixture(name="impatient")
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what says nothing. Others keep the seconds of the product, as a busy machine may stop for one."""
    monkeypatch.setattr(network_camera, "_ANSWER_S", 1.0)
    monkeypatch.setattr(network_camera, "_READ_S", 0.8)


def read_many(camera: Camera) -> None:
    for _ in range(100):
        camera.read()


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("http://192.168.1.20:8080/video", "http://192.168.1.20:8080/video"),
            (" HTTP://me:pw@Phone.local/video ", "http://Phone.local/video"),
            ("https://me:p%40ss@cam/x?password=pw&size=1", "https://cam/x?..."),
            ("rtsp://me:p:w@10.0.0.7:554/user=me_password=pw_channel=1", "rtsp://10.0.0.7:554/..."),
            ("rtsp://10.0.0.7/user%3Dme%26password%3Dpw", "rtsp://10.0.0.7/..."),
            ("rtsps://[fe80::1]:322/live", "rtsps://[fe80::1]:322/live"),
        ],
    )
    def test_are_read_and_shown_without_what_is_secret(self, text: str, name: str) -> None:
        spec = parse_camera(text)
        assert spec == CameraSpec("network", address=text.strip())
        assert spec.name == f"network camera {name}"
        assert "pw" not in repr(spec) + spec.name

    @pytest.mark.parametrize(
        "text",
        [
            "http://",
            "http://:8080/video",
            "http://me:p/w@phone/video",
            "http://me:p#w@phone/video",
            "http://me:12/pw@phone/video",
            "http://me:12#pw@phone/video",
            "http://me:12?pw@phone/video",
            "http://phone:port/pw",
            "http://phone:99999/pw",
            "http://pho ne/pw",
            "http://[::1/pw",
            "ftp://me:pw@phone/video",
            "file:///etc/pw",
            "concat:pw|pw",
            "me:pw@phone/video",
        ],
    )
    def test_that_cannot_be_are_told_without_what_is_secret(self, text: str) -> None:
        with pytest.raises(CameraError, match=r"camera: got .*expected") as told:
            parse_camera(text)
        assert "pw" not in str(told.value).replace("concat:pw|pw", "")


def opened_while_idle(address: str, tries: int = 3) -> Camera:
    """A camera whose frames came as they were sent: a machine with much else to do gives them late, again and again."""
    for _ in range(tries - 1):
        camera = open_camera(parse_camera(address))
        if 10 < camera.format.fps_hz < 60:
            return camera
        camera.close()
    return open_camera(parse_camera(address))


class TestReading:
    def test_pictures_come_at_their_size_and_rate(self, phone: Phone) -> None:
        camera = opened_while_idle(phone.address("/video"))
        assert (camera.format.width_px, camera.format.height_px) == (160, 120)
        assert 10 < camera.format.fps_hz < 60
        assert not camera.is_device
        first, second = camera.read(), camera.read()
        assert np.abs(first[60, 150].astype(int) - (200, 120, 40)).max() < 12  # RGB of the server's BGR
        assert not np.array_equal(first, second)
        camera.close()
        camera.close()
        with pytest.raises(CameraError, match="was closed"):
            camera.read()

    def test_the_page_of_an_app_leads_to_its_video(self, phone: Phone) -> None:
        for path in ("", "/"):
            camera = open_camera(parse_camera(phone.address(path)))
            assert camera.read().shape == (120, 160, 3)
            camera.close()

    def test_damaged_pictures_are_passed_over(self, phone: Phone) -> None:
        camera = open_camera(parse_camera(phone.address("/damaged")))
        assert all(camera.read().shape == (120, 160, 3) for _ in range(25))
        camera.close()

    def test_a_camera_that_begins_with_damaged_pictures_is_judged_by_time(self, phone: Phone) -> None:
        camera = open_camera(parse_camera(phone.address("/waking")))
        assert camera.read().shape == (120, 160, 3)
        camera.close()
        assert phone.served == 1

    def test_a_password_is_given_and_not_shown(self, phone: Phone, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        camera = open_camera(parse_camera(phone.address("/locked", f"me:{PASSWORD}")))
        assert camera.read().shape == (120, 160, 3)
        camera.close()
        with pytest.raises(CameraError, match="wants another user name or password") as told:
            open_camera(parse_camera(phone.address("/locked", f"me:{PASSWORD}x")))
        shown = caplog.text + str(told.value) + camera.name + "".join(map(str, (told.value.__cause__,)))
        assert "127.0.0.1" in shown
        assert PASSWORD not in shown

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/hang", "does not answer: got nothing within 1 s"),
            ("/nothing", "has no video there .*404"),
            ("/file", "is a recording, expected a live camera"),
            ("/tiny", "pictures of 48 x 48, expected at least 64"),
        ],
    )
    @pytest.mark.usefixtures("impatient")
    def test_what_gives_no_pictures_is_told(self, phone: Phone, path: str, message: str) -> None:
        began_s = time.monotonic()
        with pytest.raises(CameraError, match=message) as told:
            open_camera(parse_camera(phone.address(path, f"me:{PASSWORD}")))
        assert time.monotonic() - began_s < 10
        assert PASSWORD not in str(told.value)

    def test_who_refuses_is_told(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]  # bound, and nobody listens
            for scheme in ("http", "rtsp"):
                with pytest.raises(CameraError, match=r"cannot be reached \(Connection refused\)"):
                    open_camera(parse_camera(f"{scheme}://127.0.0.1:{port}/video"))

    @pytest.mark.usefixtures("impatient")
    def test_who_accepts_and_says_nothing_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for scheme in ("http", "rtsp"):
                with pytest.raises(CameraError, match="does not answer"):
                    open_camera(parse_camera(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/video"))

    def test_an_unknown_host_is_told(self) -> None:
        with pytest.raises(CameraError, match=r"network camera http://phone\.invalid/video cannot be found"):
            open_camera(parse_camera("http://phone.invalid/video"))

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/close", "has closed the connection"),
            ("/stall", "has given no picture for 0.8 s"),
            ("/turn", "changed its picture from 160 x 120 to 120 x 160"),
        ],
    )
    @pytest.mark.usefixtures("impatient")
    def test_an_end_is_told(self, phone: Phone, path: str, message: str) -> None:
        camera = open_camera(parse_camera(phone.address(path)))
        with pytest.raises(CameraError, match=message):
            read_many(camera)
        camera.close()

    def test_no_address_leads_to_a_file_of_this_computer(self, phone: Phone) -> None:
        assert "file" not in network_camera._OPTIONS["protocol_whitelist"].split(",")


class TestReconnection:
    def test_a_camera_that_goes_comes_back_and_says_so(self, phone: Phone) -> None:
        frames: list[CameraFrame] = []
        events: list[Event] = []
        times = CameraTimes(open_s=5, stall_s=5, first_retry_s=0.1, longest_retry_s=0.2)
        control = CameraControl(frames.append, events.append, open_camera, times)
        thread = threading.Thread(target=control.run)
        thread.start()
        try:
            control.set_camera(parse_camera(phone.address("/video", f"me:{PASSWORD}")), 1)
            wait_for(lambda: len(frames) > 5)
            phone.awake = False
            wait_for(lambda: any(isinstance(event, CameraFailed) for event in events))

            def none_for(seconds: float) -> bool:
                seen = len(frames)
                time.sleep(seconds)
                return len(frames) == seen

            wait_for(lambda: none_for(0.3))  # nothing is shown for what is gone, once what was on its way has come
            seen = len(frames)
            phone.awake = True
            wait_for(lambda: len(frames) > seen + 5)
        finally:
            control.request_stop()
            thread.join()
        failed = [event for event in events if isinstance(event, CameraFailed)]
        assert "network camera http://127.0.0.1" in failed[0].message
        assert failed[0].retry_s is not None
        assert len([event for event in events if isinstance(event, CameraOpened)]) == 2
        assert PASSWORD not in repr(events) + repr([(frame.frame_id, frame.camera) for frame in frames])

    def test_one_that_hangs_counts_as_stalled(self, phone: Phone) -> None:
        events: list[Event] = []
        times = CameraTimes(open_s=5, stall_s=0.4, first_retry_s=0.1)
        control = CameraControl(lambda _: None, events.append, open_camera, times)
        thread = threading.Thread(target=control.run)
        thread.start()
        try:
            control.set_camera(parse_camera(phone.address("/stall")), 1)
            wait_for(lambda: len([event for event in events if isinstance(event, CameraOpened)]) >= 2)
        finally:
            control.request_stop()
            thread.join()
        failed = next(event for event in events if isinstance(event, CameraFailed))
        assert "has given no frame for 0.4 s; it is opened anew" in failed.message
        assert "the phone awake" in failed.message


class TestRtsp:
    def test_pictures_come_and_an_end_is_told(self) -> None:
        with rtsp_camera() as relay:
            camera = opened_while_idle(relay.address)
            assert (camera.format.width_px, camera.format.height_px) == SIZE_PX
            assert 10 < camera.format.fps_hz < 60
            rgb = camera.read()
            assert np.abs(rgb[60, 150].astype(int) - COLOUR).max() < 12
            relay.hang_up()
            with pytest.raises(CameraError, match=r"has closed the connection|has given no picture"):
                read_many(camera)
            camera.close()
