import dataclasses
import logging
import shutil
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from app.errors import SinkError
from app.pipeline.output import recorder
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.sound import SoundFeed
from app.pipeline.state import State
from mcnet.disclosure.words import LIVE
from mcnet.media.video import open_driving
from tests.app.fakes import wait_until
from tests.app.recordings import STEPS
from tests.disks import HOWS, in_child, mounted, place
from tests.media.test_writer import decoded_with_alpha
from tests.media.videos import counted, number_of

OUTPUT = OutputFormat(96, 64, 30)
RECORD_AND_DIE = """
import os, sys, time
from pathlib import Path
import numpy as np
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.sound import SoundFeed

sink = RecorderSink(Path(sys.argv[1]), SoundFeed() if sys.argv[2] == "sound" else None)
sink.open(OutputFormat(96, 64, 10))
noise = np.random.default_rng(0)
for index in range(100):
    sink.send(Composed(0, 0.0, State.LIVE, noise.integers(0, 255, (64, 96, 3), np.uint8), fresh=True))
    while sink._recording._pending:
        time.sleep(0.0005)
os._exit(9)
"""


def finish(sink: RecorderSink) -> None:
    """Close it, and wait until its file is finished."""
    sink.close()
    wait_until(sink.finished, "the file is finished")


def stopped() -> float:
    """A clock that stands still: each picture has the tick after the one before."""
    return 0.0


def picture(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Composed:
    return Composed(0, 0.0, State.LIVE, rgb, fresh=True)


def test_one_picture_a_tick_at_the_outputs_size_and_rate(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "me.mp4", clock=stopped)
    sink.open(OUTPUT)
    for rgb in counted(6):
        sink.send(picture(rgb))
    finish(sink)
    finish(sink)
    assert (sink.name, sink.detail) == (f"file:{tmp_path / 'me.mp4'}", str(tmp_path / "me.mp4"))
    assert (sink.sent, sink.dropped) == (6, 0)
    video = open_driving(tmp_path / "me.mp4")
    assert (video.fps, video.frame_size_px, video.frame_count) == (30.0, (96, 64), 6)
    assert [number_of(rgb) for rgb in video] == [0, 1, 2, 3, 4, 5]


def test_webm_keeps_what_is_transparent_and_the_slate_is_not(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "me.webm", SoundFeed())
    sink.open(OUTPUT)
    share = np.zeros((64, 96), np.uint8)
    share[:, 32:64], share[:, 64:] = 128, 255
    red, green = np.array([200, 40, 60], np.float32), np.array([0, 255, 0], np.float32)
    over = np.round(green + (red - green) * (share[..., None] / 255)).astype(np.uint8)
    avatar = Composed(0, 0.0, State.LIVE, over, fresh=True, alpha=share, behind="#00ff00")
    assert np.abs(avatar.straight()[:, 32:, :3].astype(int) - red).max() <= 2
    slate = Composed(0, 0.0, State.SLATE, np.full((64, 96, 3), 30, np.uint8), fresh=False)
    for one in (avatar, avatar, slate, slate):
        sink.send(one)
    finish(sink)
    shown = decoded_with_alpha(tmp_path / "me.webm")
    assert len(shown) == 4
    for column, alpha in ((16, 0), (48, 128), (80, 255)):
        assert abs(int(shown[1][32, column, 3]) - alpha) < 12
        assert shown[3][32, column, 3] > 250
    assert np.abs(shown[1][32, 80, :3].astype(int) - red).max() < 16
    assert open_driving(tmp_path / "me.webm").has_audio


def test_colours_survive(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "red.mp4")
    sink.open(OUTPUT)
    red = np.zeros((64, 96, 3), np.uint8)
    red[:] = (200, 40, 60)
    sink.send(picture(red))
    finish(sink)
    shown = next(iter(open_driving(tmp_path / "red.mp4")))
    assert np.abs(shown.astype(int) - red).max() <= 4


def test_it_is_h264_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "me.mp4")
    sink.open(OutputFormat(96, 64, 29.97))
    sink.send(picture(counted(1)[0]))
    finish(sink)
    with av.open(tmp_path / "me.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(2997, 100)
        assert container.metadata["comment"] == container.metadata["description"] == LIVE
        assert "Synthetic media" in LIVE


def test_it_is_given_to_be_signed_once_it_is_whole_and_not_before(tmp_path: Path) -> None:
    lengths = []

    def disclose(path: Path, composite: bool) -> None:
        assert not composite
        with av.open(path) as container:
            lengths.append(container.streams.video[0].frames)

    sink = RecorderSink(tmp_path / "me.mp4", disclose=disclose)
    for pictures in (5, 0):  # a recording without a picture leaves no file
        sink.open(OUTPUT)
        for frame in counted(pictures):
            sink.send(picture(frame))
        assert lengths == [5] * (pictures == 0)
        finish(sink)
    assert lengths == [5]


def test_a_recording_is_composite_if_one_of_its_pictures_is(tmp_path: Path) -> None:
    said: list[bool] = []
    sink = RecorderSink(tmp_path / "me.mp4", disclose=lambda _, composite: said.append(composite))
    for composites in ((False, True, False), (False, False, False)):
        sink.open(OUTPUT)
        for frame, composite in zip(counted(3), composites, strict=True):
            sink.send(dataclasses.replace(picture(frame), composite=composite))
        finish(sink)
    assert said == [True, False]


def test_a_slow_encoder_never_stops_the_stage_and_keeps_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    write = recorder._Encoder.write

    def slow(self: recorder._Encoder, tick: int, picture: Composed) -> None:
        began.set()
        assert go_on.wait(20)
        write(self, tick, picture)

    monkeypatch.setattr(recorder._Encoder, "write", slow)
    sink = RecorderSink(tmp_path / "me.mp4", clock=stopped)
    sink.open(OUTPUT)
    frames = counted(40)
    sink.send(picture(frames[0]))
    assert began.wait(20)
    for rgb in frames[1:]:
        sink.send(picture(rgb))
    go_on.set()
    finish(sink)
    assert (sink.sent, sink.dropped) == (40, 31)
    assert _numbers_and_ticks(tmp_path / "me.mp4") == [(number, number) for number in (0, *range(32, 40))]


def _sent_at(path: Path, *times_s: float) -> list[int]:
    """The ticks in the file of pictures that were sent at these times."""
    clock = iter(times_s)
    sink = RecorderSink(path, clock=lambda: next(clock))
    sink.open(OUTPUT)
    for number, rgb in enumerate(counted(len(times_s)), 1):
        sink.send(picture(rgb))
        wait_until(lambda count=number: sink._recording._encoder.written == count, "it is written")  # type: ignore[misc, union-attr]
    finish(sink)
    numbers, ticks = zip(*_numbers_and_ticks(path), strict=True)
    assert list(numbers) == list(range(len(times_s)))
    return list(ticks)


def test_an_output_that_cannot_keep_its_rate_is_seen_at_its_own_speed(tmp_path: Path) -> None:
    assert _sent_at(tmp_path / "me.mp4", *(7 + index / 15 for index in range(6))) == [0, 2, 4, 6, 8, 10]
    assert _sent_at(tmp_path / "uneven.mp4", 7.0, 7.04, 7.2, 7.21, 7.22, 7.3) == [0, 1, 6, 7, 8, 9]


def test_a_beat_that_comes_a_little_early_or_late_skips_no_tick(tmp_path: Path) -> None:
    steps = (0.0, 0.025, 0.075, 0.1, 0.12, 0.175, 0.2)
    assert _sent_at(tmp_path / "me.mp4", *(7 + step_s for step_s in steps)) == [0, 1, 2, 3, 4, 5, 6]


def test_what_a_computer_sleeps_is_not_in_the_file(tmp_path: Path) -> None:
    assert _sent_at(tmp_path / "me.mp4", 7.0, 7.1, 3607.1, 3607.2, 3607.3) == [0, 3, 33, 36, 39]


def test_an_output_of_few_pictures_per_second_keeps_its_time_too(tmp_path: Path) -> None:
    for rate_hz, step_s in ((1, 1.4), (1, 1.7), (1, 3.2), (2, 0.9), (2, 1.9)):
        sink = RecorderSink(tmp_path / "me.mp4", clock=iter(step_s * np.arange(1, 41)).__next__)
        sink._rate_hz = rate_hz
        for _ in range(40):
            sink._tick = sink._tick_at(sink._clock())
        assert sink._tick == round(39 * step_s * rate_hz)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_crash_costs_two_seconds_however_few_pictures_there_are(tmp_path: Path, suffix: str, every: int) -> None:
    path = tmp_path / f"me{suffix}"
    encoder = recorder._Encoder(path, OUTPUT, None, lambda _: None)
    noise = np.random.default_rng(0)
    ticks = range(0, 12 * 30 + 1, every)
    for tick in ticks:
        encoder.write(tick, picture(noise.integers(0, 255, (64, 96, 3), np.uint8)))
    assert encoder.give_up().startswith("its first")
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None and packet.time_base]
        times_s = np.array([float(packet.pts * packet.time_base) for packet in packets])  # type: ignore[operator]
        keys_s = times_s[[packet.is_keyframe for packet in packets]]
    assert times_s[-1] > 12 - 2 * recorder._KEYFRAME_S - 0.5
    assert np.diff(keys_s).max() < recorder._KEYFRAME_S + 0.01


def test_another_recording_begins_at_its_own_time(tmp_path: Path) -> None:
    now_s = 7.0
    sink = RecorderSink(tmp_path / "me.mp4", clock=lambda: now_s)
    for path in (tmp_path / "me.mp4", tmp_path / "me-2.mp4"):
        sink.open(OUTPUT)
        for rgb in counted(2):
            sink.send(picture(rgb))
            now_s += 0.1
        finish(sink)
        assert _numbers_and_ticks(path) == [(0, 0), (1, 3)]


def _numbers_and_ticks(path: Path) -> list[tuple[int, int]]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    return [
        (number_of(frame.to_ndarray(format="rgb24").astype(np.uint8)), round((frame.time or 0) * OUTPUT.fps_hz))
        for frame in frames
    ]


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "me.mp4").write_text("precious", encoding="utf-8")
    names = []
    for _ in range(2):
        sink = RecorderSink(tmp_path / "me.mp4")
        sink.open(OUTPUT)
        sink.send(picture(counted(1)[0]))
        finish(sink)
        names.append(Path(sink.detail).name)
    assert names == ["me-2.mp4", "me-3.mp4"]
    assert (tmp_path / "me.mp4").read_text(encoding="utf-8") == "precious"


def test_without_a_picture_there_is_no_file_and_it_opens_again(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "me.mp4")
    sink.open(OUTPUT)
    with pytest.raises(SinkError, match="going on already"):
        sink.open(OUTPUT)
    finish(sink)
    assert not list(tmp_path.iterdir())
    sink.open(OUTPUT)
    sink.send(picture(counted(1)[0]))
    finish(sink)
    assert [path.name for path in tmp_path.iterdir()] == ["me.mp4"]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "me.avi", r"got suffix '.avi', expected .mp4"),
        (tmp_path / "none" / "me.mp4", "there is no folder"),
        (tmp_path / (300 * "n") / "me.mp4", "File name too long; choose another place"),
        (tmp_path / "file" / "me.mp4", "choose another place"),
    ):
        with pytest.raises(SinkError, match=message):
            RecorderSink(path).open(OUTPUT)


def test_a_picture_of_another_size_and_one_too_early(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "me.mp4")
    with pytest.raises(SinkError, match="not open"):
        sink.send(picture(counted(1)[0]))
    sink.open(OUTPUT)
    with pytest.raises(SinkError, match=r"got a picture of \(64, 64, 3\), expected \(64, 96, 3\)"):
        sink.send(picture(counted(1, (64, 64))[0]))
    finish(sink)


def _playable_frames(path: Path) -> int:
    count = 0
    with av.open(path) as container:
        try:
            for _ in container.decode(video=0):
                count += 1
        except av.error.InvalidDataError:  # the end of the last fragment is missing
            pass
    return count


@pytest.mark.parametrize("with_sound", ["sound", "silent"])
def test_what_was_written_plays_when_the_app_dies(tmp_path: Path, with_sound: str) -> None:
    command = [sys.executable, "-c", RECORD_AND_DIE, str(tmp_path / "me.mp4"), with_sound]
    assert subprocess.run(command, timeout=100, check=False).returncode == 9
    assert _playable_frames(tmp_path / "me.mp4") >= 40


@pytest.mark.parametrize("how", HOWS)
def test_a_full_disk_ends_the_recording_and_not_the_call(tmp_path: Path, how: str) -> None:
    with place(how, tmp_path) as folder:
        *rows, call = in_child("tests.app.recordings", how, str(folder))
    path = folder / "x.mp4"
    full = {
        "disk": "No space left on device; make room on the disk",
        "limit": "File too large; choose a disk that takes larger files, or make it shorter",
    }[how]
    for step, row in zip(STEPS, rows, strict=True):
        kept = f"its first {step.kept // 10} s are kept" if step.kept else "nothing of it could be kept"
        if step.method == "open":
            gone = f"there is no folder {folder}; make it first"
            assert row["error"] == f"cannot record to {path}: {full if how == 'disk' else gone}"
        else:
            said = "Input/output error; choose another place" if step.method == "close" else full
            assert row["error"] == f"the recording {path} cannot go on: {said}; {kept}"
        assert row["files"] == (["x.mp4"] if step.kept else [])
        assert row["frames"] == step.kept
        assert row["comment"] == (LIVE if step.kept else "")
        assert row["threads"] == []
    assert call == {
        "failed": [f"the recording {path} cannot go on: {full}; nothing of it could be kept"],
        "shown": True,
        "files": [],
    }


@pytest.mark.skipif(sys.platform == "win32", reason="there, what is open cannot be removed")
def test_a_recording_that_is_removed_meanwhile(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "videos" / "me.mp4")
    (tmp_path / "videos").mkdir()
    sink.open(OUTPUT)
    sink.send(picture(counted(1)[0]))
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(SinkError, match=r"me\.mp4 cannot go on: it was removed meanwhile; nothing of it could be kept"):
        finish(sink)
    finish(sink)


def test_a_disk_that_only_lets_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro"), pytest.raises(SinkError, match="Read-only file system; choose another pl"):
        RecorderSink(tmp_path / "disk" / "me.mp4").open(OUTPUT)


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".mp4", {"codec": "h264_nonsense"}),
        (".mp4", {"options": {"preset": "nonsense"}}),
        (".webm", {"codec": "vp9_nonsense"}),
    ],
)
def test_an_encoder_that_is_not_there_or_cannot_be_opened_is_a_sinks_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, change: dict[str, Any]
) -> None:
    monkeypatch.setitem(recorder._KINDS, suffix, recorder._KINDS[suffix]._replace(**change))
    told = rf"cannot record to .*me{suffix}: the encoder .* cannot be opened for 96 x 64 \("
    with pytest.raises(SinkError, match=told):
        RecorderSink(tmp_path / f"me{suffix}").open(OUTPUT)
    assert not list(tmp_path.iterdir())


def test_a_package_that_a_recording_lacks_is_told_in_its_sentence_and_logged_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError(name="nowhere")

    sink = RecorderSink(tmp_path / "me.mp4")
    sink.open(OUTPUT)
    monkeypatch.setattr(recorder._Encoder, "finish", lacking)
    sink.send(picture(counted(1)[0]))
    with pytest.raises(
        SinkError, match=r"me\.mp4 failed: the package nowhere is not installed \(pip install nowhere\)"
    ):
        finish(sink)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
