import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import CameraError
from app.pipeline import camera_spec
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture import cameras
from app.pipeline.capture.camera import CameraFormat, CameraInfo
from app.pipeline.capture.cameras import camera_system, list_cameras, open_camera
from app.pipeline.capture.enumerated_cameras import EnumeratedCameras
from app.pipeline.capture.file_camera import FileCamera
from app.pipeline.capture.linux_cameras import LinuxCameras
from app.pipeline.capture.macos_cameras import MacCameras
from app.pipeline.capture.windows_cameras import WindowsCameras
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from mcnet.media.faces import FaceFinder
from mcnet.media.images import write_rgb
from mcnet.media.video import open_driving
from tests.app.clips import face_that_leaves
from tests.app.fakes import wait_until
from tests.app.linux_machine import LinuxMachine
from tests.app.pipeline.capture.fake_capture import Clock
from tests.media.clips import turned
from tests.media.matrix import bundled_frame, stored_for
from tests.media.videos import GRID, counted, make_sound_only, make_video, number_of


def _on_clock(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> FileCamera:
    """What is there as a camera, that waits by a clock of the test's."""
    camera = open_camera(parse_camera(str(path)))
    assert isinstance(camera, FileCamera)
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

    def test_a_name_may_end_in_a_space_and_what_is_typed_too(self, tmp_path: Path) -> None:
        for name in ("clip ", "other", " first"):
            (tmp_path / name).touch()
        for typed, name in (("clip ", "clip "), ("other ", "other"), (" first", " first")):
            assert parse_camera(str(tmp_path / typed)).path == tmp_path / name
        assert parse_camera(" 1 ") == CameraSpec("device", 1)
        with pytest.raises(CameraError, match="there is no such file"):
            parse_camera(300 * "x")

    @pytest.mark.parametrize(
        "text", ["", "  ", "no such clip.mp4", "clip.mp4@640x480", "-1", "0@640", "camera 0", 5000 * "9"]
    )
    def test_anything_else_is_told_what_was_expected(self, text: str) -> None:
        with pytest.raises(CameraError, match=r"camera: got .* expected a camera's number"):
            parse_camera(text)

    @pytest.mark.parametrize("text", ["0@10x10", "0@640x480@0", "0@99999x480", "0@640x480@1000", "0@640x999999999"])
    def test_absurd_sizes_and_rates(self, text: str) -> None:
        with pytest.raises(CameraError, match="for size and rate, expected 64 to 8192"):
            parse_camera(text)

    def test_cameras_that_are_shown_alike_have_keys_of_their_own(self) -> None:
        channels = [parse_camera(f"rtsp://nvr/cam/realmonitor?channel={channel}&subtype=0") for channel in (1, 2)]
        hidden = [parse_camera(f"http://phone/key={key}/video") for key in (1, 2)]
        assert channels[0].name == channels[1].name
        assert hidden[0].name == hidden[1].name
        assert len({spec.key for spec in (*channels, *hidden)}) == 4
        assert parse_camera("rtsp://me:secret@nvr/cam/realmonitor?channel=1&subtype=0").key == channels[0].key
        assert "channel" not in channels[0].key

    def test_one_device_has_one_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = LinuxMachine(tmp_path).add(2, "Webcam").link("usb-C920-video-index0", 2)
        monkeypatch.setattr(camera_spec, "VideoDevices", lambda: machine.devices)
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
        camera = _on_clock(make_video(tmp_path / "clip.mp4", counted(5), fps=10), clock, monkeypatch)
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
        camera = _on_clock(make_video(tmp_path / "clip.mp4", counted(30), fps=10), clock, monkeypatch)
        seen = []
        for _ in range(4):
            seen.append(number_of(camera.read()))
            clock.pass_s(0.36)
        assert seen == [0, 3, 7, 10]

    def test_what_is_too_slow_to_decode_is_seen_frame_by_frame(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = _on_clock(make_video(tmp_path / "clip.mp4", counted(30), fps=30), clock, monkeypatch)
        frames = camera._frames

        def slow() -> Iterator[NDArray[np.uint8]]:
            for rgb in frames:
                clock.pass_s(0.045)
                yield rgb

        camera._frames = slow()
        seen, times_s = [], []
        for _ in range(60):
            seen.append(number_of(camera.read()))
            times_s.append(clock.now_s)
        assert seen == 2 * list(range(30))
        assert np.diff(times_s) == pytest.approx(np.full(59, 0.045))

    def test_who_reads_very_late_goes_on_where_he_was(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = _on_clock(make_video(tmp_path / "clip.mp4", counted(30), fps=10), clock, monkeypatch)
        first = number_of(camera.read())
        clock.pass_s(3600)
        assert (first, number_of(camera.read()), number_of(camera.read())) == (0, 1, 2)

    def test_every_frame_is_the_readers_own(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = make_video(tmp_path / "held.mp4", counted(3), times_ms=[0, 400, 440])
        camera = _on_clock(held, clock, monkeypatch)
        first, second = camera.read(), camera.read()
        assert number_of(first) == number_of(second) == 0
        first[:] = 0
        assert number_of(second) == 0

    def test_a_slow_video_gives_its_pictures_again_and_again(
        self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever reads would take it for gone between two of them."""
        slow = make_video(tmp_path / "slow.mp4", counted(2), fps=1, times_ms=[0, 2000])
        camera = _on_clock(slow, clock, monkeypatch)
        start_s, seen = clock.now_s, []
        while clock.now_s < start_s + 5.7:
            before_s = clock.now_s
            seen.append((number_of(camera.read()), clock.now_s - start_s))
            assert clock.now_s - before_s <= 0.41
        assert [number for number, at_s in seen if at_s < 1.9] == [0] * 10
        assert {number for number, at_s in seen if 2.1 < at_s < 3.9} == {1}
        assert {number for number, at_s in seen if at_s > 4.1} == {0}

    @pytest.mark.parametrize("name", ["still.jpg", "still.heic"])
    def test_a_single_picture_is_read_once(
        self, name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pillow_heif.register_heif_opener()
        Image.fromarray(counted(1)[0]).save(tmp_path / name)
        camera = _on_clock(tmp_path / name, clock, monkeypatch)
        first = camera.read()
        (tmp_path / name).unlink()
        for _ in range(5):
            np.testing.assert_array_equal(camera.read(), first)

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
        camera = _on_clock(path, clock, monkeypatch)
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
        camera = _on_clock(tmp_path, clock, monkeypatch)
        assert camera.format == CameraFormat(96, 64, 25.0)
        assert [number_of(camera.read()) for _ in range(12)] == [*range(11), 0]

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CameraError, match="holds no picture"):
            open_camera(parse_camera(str(tmp_path)))

    def test_pictures_of_several_sizes(self, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        write_rgb(tmp_path / "0.png", counted(1)[0])
        write_rgb(tmp_path / "1.png", counted(1, (64, 64))[0])
        camera = _on_clock(tmp_path, clock, monkeypatch)
        camera.read()
        with pytest.raises(CameraError, match="differ in size"):
            camera.read()


@pytest.mark.parametrize(
    ("system", "kind"),
    [("linux", LinuxCameras), ("win32", WindowsCameras), ("darwin", MacCameras), ("freebsd14", EnumeratedCameras)],
)
def test_every_operating_system_has_its_cameras(system: str, kind: type) -> None:
    assert type(camera_system(system)) is kind


def test_devices_are_listed_and_opened_by_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = LinuxMachine(tmp_path).add(0, "HD Webcam")
    monkeypatch.setattr(cameras, "camera_system", lambda: LinuxCameras(machine.devices))
    assert list_cameras() == [CameraInfo("HD Webcam", "/dev/video0")]
    with pytest.raises(CameraError, match=r"no camera at /dev/video1: .*/dev/video0 \(HD Webcam\)"):
        open_camera(parse_camera("1"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells them")
def test_frames_leave_no_threads_behind(tmp_path: Path) -> None:
    """FFmpeg converts colours with threads; those of each frame lived until Python's collector came by."""

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    pictures = iter(open_driving(make_video(tmp_path / "camera.mp4", counted(60), fps=30)))
    recording = RecorderSink(tmp_path / "me.mp4")
    recording.open(OutputFormat(96, 64, 30))
    gc.collect()
    gc.disable()
    try:
        recording.send(Composed(0, 0.0, State.LIVE, next(pictures), fresh=True))
        before = threads()
        for rgb in pictures:
            recording.send(Composed(0, 0.0, State.LIVE, rgb, fresh=True))
        assert threads() < before + 12  # the decoder's and the encoder's own
    finally:
        gc.enable()
        recording.close()
    wait_until(recording.finished, "the file is finished")
