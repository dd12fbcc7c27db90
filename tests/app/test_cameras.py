import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline import cameras
from app.pipeline.cameras import (
    CameraFormat,
    CameraInfo,
    CameraSpec,
    list_cameras,
    list_linux_cameras,
    open_camera,
    parse_camera,
    require_linux_camera,
)
from app.pipeline.v4l2 import VideoDevices
from mcnet.media.faces import FaceFinder
from mcnet.media.images import write_rgb
from mcnet.media.video import open_driving
from tests.app.clips import face_that_leaves
from tests.app.linux_machine import METADATA, OUTPUT, LinuxMachine
from tests.media.clips import turned
from tests.media.matrix import bundled_frame, stored_for
from tests.media.videos import GRID, counted, make_sound_only, make_video, number_of


class Clock:
    """Time that passes when somebody waits, and not otherwise."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cameras, "monotonic", clock)
    return clock


def _on_clock(camera: cameras.Camera, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> cameras.FileCamera:
    assert isinstance(camera, cameras.FileCamera)
    monkeypatch.setattr(camera._tenancy.closed, "wait", clock.pass_s)
    return camera


class TestParse:
    @pytest.mark.parametrize(
        ("text", "spec"),
        [
            ("0", CameraSpec("device", 0)),
            (" 2 ", CameraSpec("device", 2)),
            ("/dev/video3", CameraSpec("device", "/dev/video3")),
            (r"\\?\usb#vid_046d&pid_082d", CameraSpec("device", r"\\?\usb#vid_046d&pid_082d")),
            ("1@1280x720", CameraSpec("device", 1, width_px=1280, height_px=720)),
            ("/dev/video0@640x360@59.94", CameraSpec("device", "/dev/video0", None, 640, 360, 59.94)),
        ],
    )
    def test_devices(self, text: str, spec: CameraSpec) -> None:
        assert parse_camera(text) == spec

    def test_files_and_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert parse_camera(str(GRID)) == CameraSpec("file", path=GRID)
        assert parse_camera(str(tmp_path)) == CameraSpec("folder", path=tmp_path)
        (tmp_path / "me@640x480").touch()
        monkeypatch.setenv("HOME", str(tmp_path))
        assert parse_camera("~/me@640x480").path == tmp_path / "me@640x480"

    @pytest.mark.parametrize("text", ["", "  ", "no such clip.mp4", "clip.mp4@640x480", "-1", "0@640", "camera 0"])
    def test_anything_else_is_told_what_was_expected(self, text: str) -> None:
        with pytest.raises(CameraError, match=r"camera: got .* expected a camera's number"):
            parse_camera(text)

    @pytest.mark.parametrize("text", ["0@10x10", "0@640x480@0", "0@99999x480", "0@640x480@1000"])
    def test_absurd_sizes_and_rates(self, text: str) -> None:
        with pytest.raises(CameraError, match="for size and rate, expected 64 to 8192"):
            parse_camera(text)

    def test_one_device_has_one_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = LinuxMachine(tmp_path).add(2, "Webcam").link("usb-C920-video-index0", 2)
        monkeypatch.setattr(cameras, "VideoDevices", lambda: machine.devices)
        texts = ("2", "2@1280x720", "/dev/video2", "/dev/v4l/by-id/usb-C920-video-index0")
        assert {parse_camera(text).name for text in texts} == {"camera 2"}
        assert parse_camera("/dev/v4l/by-id/usb-unplugged").name == "camera usb-unplugged"


class TestFile:
    def test_the_grid_clip_at_its_true_rate(self) -> None:
        camera = open_camera(parse_camera(str(GRID)))
        assert camera.format == CameraFormat(360, 288, 25.0)
        assert not camera.is_device
        rgb = camera.read()
        assert rgb.shape == (288, 360, 3)
        assert rgb.dtype == np.uint8
        with FaceFinder() as finder:
            assert len(finder.find(rgb)) == 1
        camera.close()

    def test_frames_come_one_after_another_and_loop(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = open_camera(parse_camera(str(make_video(tmp_path / "clip.mp4", counted(5), fps=10))))
        camera = _on_clock(camera, clock, monkeypatch)
        start_s = clock.now_s
        seen, times_s = [], []
        for _ in range(12):
            seen.append(number_of(camera.read()))
            times_s.append(clock.now_s - start_s)
        assert seen == [0, 1, 2, 3, 4] * 2 + [0, 1]
        assert times_s == pytest.approx([index / 10 for index in range(12)])

    def test_who_reads_late_gets_the_frame_of_now(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = open_camera(parse_camera(str(make_video(tmp_path / "clip.mp4", counted(30), fps=10))))
        camera = _on_clock(camera, clock, monkeypatch)
        seen = []
        for _ in range(4):
            seen.append(number_of(camera.read()))
            clock.pass_s(0.36)
        assert seen == [0, 3, 7, 10]

    def test_who_reads_very_late_goes_on_where_he_was(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = open_camera(parse_camera(str(make_video(tmp_path / "clip.mp4", counted(30), fps=10))))
        camera = _on_clock(camera, clock, monkeypatch)
        first = number_of(camera.read())
        clock.pass_s(3600)
        assert (first, number_of(camera.read()), number_of(camera.read())) == (0, 1, 2)

    def test_every_frame_is_the_readers_own(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = make_video(tmp_path / "held.mp4", counted(3), times_ms=[0, 400, 440])
        camera = _on_clock(open_camera(parse_camera(str(held))), clock, monkeypatch)
        first, second = camera.read(), camera.read()
        assert number_of(first) == number_of(second) == 0
        first[:] = 0
        assert number_of(second) == 0

    def test_a_fast_video_is_thinned_out(self, tmp_path: Path) -> None:
        video = make_video(tmp_path / "fast.mp4", counted(30), fps=120)
        assert open_camera(parse_camera(str(video))).format.fps_hz == 60

    def test_a_file_that_is_no_video(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        for path in (tmp_path / "empty.mp4", make_sound_only(tmp_path / "song.m4a")):
            with pytest.raises(CameraError, match=r"expected a video|empty file"):
                open_camera(CameraSpec("file", path=path))
        with pytest.raises(CameraError, match="no video at"):
            open_camera(CameraSpec("file", path=tmp_path / "gone.mp4"))

    def test_a_file_that_vanishes_between_two_loops(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_video(tmp_path / "clip.mp4", counted(2), fps=10)
        camera = _on_clock(open_camera(parse_camera(str(path))), clock, monkeypatch)
        camera.read()
        path.unlink()
        camera.read()
        with pytest.raises(CameraError, match="no video at"):
            camera.read()

    def test_close_wakes_a_waiting_reader(self, tmp_path: Path) -> None:
        slow = make_video(tmp_path / "slow.mp4", counted(2), fps=1, times_ms=[0, 50_000])
        camera = open_camera(parse_camera(str(slow)))
        ended = threading.Event()

        def read_on() -> None:
            try:
                while True:
                    camera.read()
            except CameraError:
                ended.set()

        reader = threading.Thread(target=read_on)
        reader.start()
        camera.close()
        assert ended.wait(20)
        reader.join()
        camera.close()
        with pytest.raises(CameraError, match="was closed"):
            camera.read()

    @pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (0, 1, -1, 0), (0, 1, 1, 0), (0, -1, -1, 0)])
    def test_a_phones_video_is_upright(self, tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
        face = bundled_frame()
        path = turned(make_video(tmp_path / "a.mp4", [stored_for(face, matrix)] * 2), matrix)
        camera = open_camera(parse_camera(str(path)))
        assert (camera.format.width_px, camera.format.height_px) == (face.shape[1], face.shape[0])
        assert np.abs(camera.read().astype(int) - face).mean() < 6
        camera.close()

    def test_the_face_of_the_test_clip_leaves_and_comes_back(self, tmp_path: Path) -> None:
        video = face_that_leaves(tmp_path / "leaves.mp4")
        frames = open_driving(video)
        with FaceFinder(tracking=True) as finder:
            seen = "".join("x" if finder.find(rgb) else "." for rgb in frames)
        assert [len(part) > 20 for part in seen.split("." * 40)] == [True, True]


class TestFolder:
    def test_pictures_in_natural_order(self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        for index, rgb in enumerate(counted(11)):
            write_rgb(tmp_path / f"{index}.png", rgb)
        camera = _on_clock(open_camera(parse_camera(str(tmp_path))), clock, monkeypatch)
        assert camera.format == CameraFormat(96, 64, 25.0)
        assert [number_of(camera.read()) for _ in range(12)] == [*range(11), 0]

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CameraError, match="holds no picture"):
            open_camera(parse_camera(str(tmp_path)))

    def test_pictures_of_several_sizes(self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        write_rgb(tmp_path / "0.png", counted(1)[0])
        write_rgb(tmp_path / "1.png", counted(1, (64, 64))[0])
        camera = _on_clock(open_camera(parse_camera(str(tmp_path))), clock, monkeypatch)
        camera.read()
        with pytest.raises(CameraError, match="differ in size"):
            camera.read()


class FakeCapture:
    """OpenCV's capture of a device that knows some pixel formats."""

    formats: ClassVar[tuple[str, ...]] = ("MJPG", "YUYV")
    size_px: ClassVar[tuple[int, int]] = (640, 480)
    step_s: ClassVar[float] = 1 / 30
    frames: ClassVar[int] = 10_000
    damaged: ClassVar[frozenset[int]] = frozenset()
    opens: ClassVar[bool] = True
    clock: ClassVar[Clock]
    made: ClassVar[list["FakeCapture"]]

    def __init__(self, device: int | str, backend: int, parameters: tuple[int, ...] = ()) -> None:
        self.arguments = (device, backend, parameters)
        self.asked: list[tuple[int, float]] = list(zip(parameters[::2], parameters[1::2], strict=True))
        self.released = 0
        self.grabbed = 0
        self.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.asked.append((key, value))
        return True

    @property
    def pixel_format(self) -> str:
        wanted = [int(value) for key, value in self.asked if key == cv2.CAP_PROP_FOURCC]
        known = [name for name in self.formats if wanted and cv2.VideoWriter.fourcc(*name) == wanted[-1]]
        return known[0] if known else "BGR3"

    def get(self, key: int) -> float:
        return {
            cv2.CAP_PROP_FRAME_WIDTH: self.size_px[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size_px[1],
            cv2.CAP_PROP_FPS: 30,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*self.pixel_format),
        }[key]

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.grabbed += 1
        if self.grabbed > self.frames or self.grabbed in self.damaged:
            return False, None
        self.clock.pass_s(self.step_s)
        bgr = np.zeros((self.size_px[1], self.size_px[0], 3), np.uint8)
        bgr[:] = (10, 20, 30)
        return True, bgr.reshape(1, -1) if self.pixel_format == "BGR3" else bgr

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def capture(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., type[FakeCapture]]:
    """A webcam on /dev/video0; its keyword arguments are attributes of `FakeCapture`."""

    def plug_in(**attributes: object) -> type[FakeCapture]:
        kind = type("Capture", (FakeCapture,), {"clock": clock, "made": [], **attributes})
        monkeypatch.setattr(cv2, "VideoCapture", kind)
        return kind

    machine = LinuxMachine(tmp_path / "machine").add(0, "HD Webcam")
    monkeypatch.setattr(cameras, "_SYSTEM", "linux")
    monkeypatch.setattr(cameras, "VideoDevices", lambda: machine.devices)
    return plug_in


class TestDevice:
    def test_rgb_of_the_size_asked_for(self, capture: Callable[..., type[FakeCapture]]) -> None:
        made = capture().made
        camera = open_camera(parse_camera("0"))
        assert camera.name == "HD Webcam (/dev/video0)"
        assert camera.format == CameraFormat(640, 480, 30.0)
        assert camera.is_device
        rgb = camera.read()
        assert rgb.shape == (480, 640, 3)
        assert rgb[0, 0].tolist() == [30, 20, 10]
        camera.close()
        camera.close()
        assert [one.released for one in made] == [1]

    def test_the_pixel_format_is_asked_for_before_the_size(self, capture: Callable[..., type[FakeCapture]]) -> None:
        made = capture().made
        open_camera(parse_camera("0@1280x720@25"))
        assert made[0].arguments[:2] == ("/dev/video0", cv2.CAP_V4L2)
        assert made[0].asked == [
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, 1280),
            (cv2.CAP_PROP_FRAME_HEIGHT, 720),
            (cv2.CAP_PROP_FPS, 25),
            (cv2.CAP_PROP_BUFFERSIZE, 2),
        ]

    def test_windows_gets_it_all_in_the_constructor(
        self, capture: Callable[..., type[FakeCapture]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = capture().made
        monkeypatch.setattr(cameras, "_SYSTEM", "win32")
        monkeypatch.setattr(cameras, "_enumerated", lambda: [(3, "Cam", r"\\?\usb#1")])
        assert open_camera(parse_camera(r"\\?\USB#1")).name == "Cam"
        parameters = list(made[0].arguments[2])
        assert made[0].arguments[:2] == (3, cv2.CAP_DSHOW)
        assert parameters[:4] == [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_FRAME_WIDTH, 640]
        with pytest.raises(CameraError, match=r"plug it in, or choose another: 3 \(Cam\)"):
            open_camera(parse_camera("0"))

    def test_a_format_that_opencv_leaves_in_one_row_is_passed_over(
        self, capture: Callable[..., type[FakeCapture]]
    ) -> None:
        made = capture(formats=("YUYV",)).made
        camera = open_camera(parse_camera("0"))
        assert camera.read().shape == (480, 640, 3)
        assert [one.pixel_format for one in made] == ["BGR3", "YUYV"]
        assert [one.released for one in made] == [1, 0]

    def test_that_format_is_set_right_where_there_is_no_other(self, capture: Callable[..., type[FakeCapture]]) -> None:
        capture(formats=())
        rgb = open_camera(parse_camera("0")).read()
        assert rgb.shape == (480, 640, 3)
        assert rgb[0, 0].tolist() == [30, 20, 10]

    def test_frames_of_no_use(self, capture: Callable[..., type[FakeCapture]]) -> None:
        kind = capture(size_px=(32, 24))
        with pytest.raises(CameraError, match=r"got pictures of shape \(24, 32, 3\), expected \(height, width, 3\)"):
            open_camera(parse_camera("0"))
        assert [one.released for one in kind.made] == [1, 1, 1]

    def test_the_rate_is_measured_and_what_differs_is_told(self, capture: Callable[..., type[FakeCapture]]) -> None:
        capture(size_px=(1280, 720), step_s=1 / 15)
        assert open_camera(parse_camera("0")).format == CameraFormat(
            1280,
            720,
            15.0,
            "asked for 640x480, gives 1280x720; asked for 30 frames/s, gives 15 (more light often helps)",
        )

    def test_a_slow_camera_is_not_waited_for(self, capture: Callable[..., type[FakeCapture]]) -> None:
        made = capture(step_s=1.0).made
        assert open_camera(parse_camera("0")).format.fps_hz == 1.0
        assert made[0].grabbed == 4

    def test_a_damaged_frame_is_passed_over_but_not_many(self, capture: Callable[..., type[FakeCapture]]) -> None:
        capture(damaged=frozenset({2, 14, 15}), frames=16)
        camera = open_camera(parse_camera("0"))
        camera.read()
        with pytest.raises(CameraError, match="gives no frames any more"):
            camera.read()

    def test_a_frame_that_opencv_cannot_decode_is_passed_over(
        self, capture: Callable[..., type[FakeCapture]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = capture()
        camera = open_camera(parse_camera("0"))
        read = kind.read

        def once(_: FakeCapture) -> tuple[bool, NDArray[np.uint8] | None]:
            monkeypatch.setattr(kind, "read", read)
            raise cv2.error("wrong size")

        monkeypatch.setattr(kind, "read", once)
        assert camera.read().shape == (480, 640, 3)

    def test_busy_is_told_with_the_program(
        self, capture: Callable[..., type[FakeCapture]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        capture(frames=0)
        machine = LinuxMachine(tmp_path / "busy").add(0, "HD Webcam").add_process(77, "zoom", 0)
        monkeypatch.setattr(cameras, "VideoDevices", lambda: machine.devices)
        with pytest.raises(CameraError, match=r"HD Webcam .* is in use by zoom \(process 77\); close that program"):
            open_camera(parse_camera("0"))

    def test_no_frames_for_an_unknown_reason(self, capture: Callable[..., type[FakeCapture]]) -> None:
        capture(frames=0)
        with pytest.raises(CameraError, match="it opens, but gives no frames"):
            open_camera(parse_camera("0"))
        capture(opens=False)
        with pytest.raises(CameraError, match="in use by another program, or not permitted"):
            open_camera(parse_camera("0"))

    def test_a_change_of_size_ends_it(self, capture: Callable[..., type[FakeCapture]]) -> None:
        kind = capture()
        camera = open_camera(parse_camera("0"))
        kind.size_px = (320, 240)
        with pytest.raises(CameraError, match=r"got \(240, 320, 3\), expected \(480, 640, 3\)"):
            camera.read()

    def test_it_is_let_go_of_when_the_blocked_read_is_over(
        self, capture: Callable[..., type[FakeCapture]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = capture()
        camera = open_camera(parse_camera("0"))
        reading, go_on = threading.Event(), threading.Event()

        def blocked(_: FakeCapture) -> tuple[bool, None]:
            reading.set()
            go_on.wait(20)
            return False, None

        monkeypatch.setattr(kind, "read", blocked)
        failed: list[CameraError] = []

        def read() -> None:
            try:
                camera.read()
            except CameraError as error:
                failed.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        assert reading.wait(20)
        camera.close()
        assert kind.made[0].released == 0
        go_on.set()
        reader.join(20)
        assert len(failed) == 1
        assert kind.made[0].released == 1


class TestLinux:
    def test_cameras_by_name(self, tmp_path: Path) -> None:
        machine = (
            LinuxMachine(tmp_path)
            .add(10, "Second")
            .add(2, "HD Webcam")
            .link("usb-HD-video-index0", 2)
            .add(3, "HD Webcam", METADATA)
            .add(4, "Decoder", OUTPUT)
            .add(5, "Locked", error=errno.EACCES)
        )
        assert list_linux_cameras(machine.devices) == [
            CameraInfo("HD Webcam", "/dev/v4l/by-id/usb-HD-video-index0"),
            CameraInfo("Locked", "/dev/video5"),
            CameraInfo("Second", "/dev/video10"),
        ]

    def test_a_loopback_is_a_camera_only_while_another_program_feeds_it(self, tmp_path: Path) -> None:
        machine = (
            LinuxMachine(tmp_path)
            .add_loopback(0, "idle")
            .add_loopback(1, "phone", fed=True)
            .add_process(50, "droidcam", 1)
            .add_loopback(2, "ours", fed=True)
            .add_process(os.getpid(), "python", 2, only_writes=True)
        )
        assert list_linux_cameras(machine.devices) == [CameraInfo("phone", "/dev/video1")]

    def test_a_loopback_that_we_read_from_stays_a_camera(self, tmp_path: Path) -> None:
        machine = LinuxMachine(tmp_path).add_loopback(1, "phone", fed=True).add_process(os.getpid(), "python", 1)
        assert list_linux_cameras(machine.devices) == [CameraInfo("phone", "/dev/video1")]

    def test_a_machine_without_video(self, tmp_path: Path) -> None:
        assert list_linux_cameras(VideoDevices(tmp_path)) == []

    @pytest.mark.parametrize(
        ("device", "message"),
        [
            (
                "/dev/video9",
                r"got nothing there; plug it in, or choose another: /dev/video0 \(Webcam\), /dev/video1 \(Locked\)",
            ),
            ("/dev/null", "got nothing there"),
            ("/dev/video1", r"no permission for /dev/video1 \(Locked\): run `sudo usermod -aG video"),
            ("/dev/video2", "not a capture device"),
            ("/dev/video3", "a virtual camera that no program feeds"),
        ],
    )
    def test_what_cannot_be_a_camera(self, tmp_path: Path, device: str, message: str) -> None:
        machine = (
            LinuxMachine(tmp_path)
            .add(0, "Webcam")
            .add(1, "Locked", error=errno.EACCES)
            .add(2, "Metadata", METADATA)
            .add_loopback(3)
        )
        (tmp_path / "dev/null").touch()
        with pytest.raises(CameraError, match=message):
            require_linux_camera(Path(device), machine.devices)

    def test_a_camera_by_its_stable_name(self, tmp_path: Path) -> None:
        machine = LinuxMachine(tmp_path).add(4, "Webcam").link("usb-Webcam", 4)
        assert require_linux_camera(Path("/dev/v4l/by-id/usb-Webcam"), machine.devices).device == Path("/dev/video4")


def test_elsewhere_cameras_come_from_the_system_without_virtual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_SYSTEM", "win32")
    found = [(0, "HD Webcam", r"\\?\usb#1"), (1, "OBS Virtual Camera", ""), (2, "Old Cam", "")]
    monkeypatch.setattr(cameras, "_enumerated", lambda: found)
    assert list_cameras() == [CameraInfo("HD Webcam", r"\\?\usb#1"), CameraInfo("Old Cam", "2")]
