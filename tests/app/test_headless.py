"""The command without a window, with the real model on GRID's speaker and on a face that comes and goes."""

import contextlib
import hashlib
import importlib.util
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from app.__main__ import build_parser, main
from app.control.access import Access
from app.control.client import Connection
from app.errors import AppError
from app.headless import Watch, _controlled, before_background, live_settings, parse_sink, save_motion
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.events import (
    EngineReady,
    Event,
    MotionRefused,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SourceFailed,
    SourceReady,
    StateChanged,
)
from app.pipeline.output.discloser import Discloser
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import PortraitStore, load_portrait
from app.pipeline.state import State
from app.places import control_folder, portraits_folder, settings_file
from app.presets import Presets, Strengths, save_presets
from app.settings import LiveSettings
from assets import ROOT as ASSETS
from mcnet.disclosure import ModelUsed, read_credentials
from mcnet.disclosure.manifest import GENERATED
from mcnet.disclosure.process import begin_disclosing
from mcnet.engine import open_model
from mcnet.media.faces import Face
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.motion_track import load_track
from mcnet.media.scene import parse_background
from mcnet.media.video import open_driving
from tests.app.clips import face_that_leaves
from tests.app.control.asking import ask
from tests.app.fakes import wait_until
from tests.disks import Room, full, place
from tests.media.videos import GRID

pytestmark = pytest.mark.usefixtures("_compiled_once")

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


def run(tmp_path: Path, *options: str) -> dict[str, Any]:
    path = tmp_path / "report.json"
    assert main(["--headless", "--report", str(path), "--size", "640x360", "--give-up-s", "120", *options]) == 0
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def watch_of(
    events: SimpleQueue[Event],
    sinks: set[str],
    settings: LiveSettings | None = None,
    *,
    in_space_or_fail: bool = False,
) -> Watch:
    return Watch(
        events,
        settings or LiveSettings(),
        in_space_or_fail=in_space_or_fail,
        give_up_s=1.0,
        file_camera=True,
        sinks=sinks,
        discloser=Discloser(lambda: None, events.put, begin_disclosing),
    )


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):  # the cache is all tests' own
        monkeypatch.setenv(name, str(tmp_path / name))


def test_a_speaker_drives_a_portrait_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where nothing was measured yet
    video = tmp_path / "out.mp4"
    report = run(
        tmp_path, "--camera", str(GRID), "--source", "man_2", "--sink", f"file:{video}", "--sink", "null",
        "--frames", "10", "--calibration-s", "0.5",
    )  # fmt: skip
    assert report["frames_out"] >= 10
    assert report["frames_in"] >= report["frames_out"]
    assert report["model"] == "starter"
    assert report["device"].startswith("cpu")
    assert report["backend_reason"]
    if HAS_OPENVINO:  # else there is nothing to choose
        assert "(measured to be the fastest here)" in report["device"]
        measuring, _, measured = capsys.readouterr().err.partition("measured: a frame of the model takes")
        assert "measuring what runs the model best here" in measuring
        assert " on cpu in " in measured
    assert "live" in [row["state"] for row in report["states"]]
    assert report["failure"] == ""
    assert report["age_ms"]["p50"] > 0
    assert {"face", "crop", "detect", "render", "compose", "send"} <= set(report["stage_ms"])
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 640, 360)
        assert sum(1 for _ in container.decode(video=0)) > 5
    found = read_credentials(video)
    assert found is not None
    assert (found.intact, found.source_types) == (True, (GENERATED,))
    assert found.models == (ModelUsed("starter", open_model("starter").info.content_hash),)
    assert report["recordings"] == [str(video)]


@pytest.mark.usefixtures("_signals_are_heard", "_fastest_known")
def test_a_run_is_controlled_from_outside_until_it_ends(tmp_path: Path) -> None:
    """The real program, asked by `ctl` for everything that a Stream Deck would, and ended politely."""
    command = [sys.executable, "-m", "app", "--headless", "--camera", str(GRID), "--size", "640x360", "--device", "cpu",
               "--give-up-s", "600"]  # fmt: skip # a busy machine takes a minute to load the model
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text('[control]\norigins = ["http://localhost:3000"]\n', encoding="utf-8")
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen([*command, "--control", "0"], stderr=log)
    try:
        access = Access(control_folder())
        wait_until(lambda: access.address() is not None, "it listens", 120.0)
        connection = Connection(access, None)

        def state() -> dict[str, Any]:
            return connection.ask("GET", "/v1/state")

        assert main(["ctl", "slate"]) == 0
        wait_until(lambda: state()["state"] == "slate", "the slate", 120.0)
        assert main(["ctl", "portrait", "man 2"]) == 0
        assert main(["ctl", "gains", "mouth=1.5"]) == 0
        assert main(["ctl", "live"]) == 0
        wait_until(lambda: state()["live"] and state()["portrait"]["id"] == "man_2", "another portrait", 120.0)
        assert (state()["mode"], state()["model"], state()["gains"]["mouth"]) == ("headless", "starter", 1.5)
        assert main(["ctl", "portrait", "nobody"]) == 1
        for page, status in (("http://localhost:3000", 200), ("http://localhost:3001", 403)):
            given = {"Authorization": f"Bearer {access.kept_token()}", "Origin": page}
            assert ask(connection.port, "GET", "/v1/state", None, given)[0] == status
        program.terminate()
        assert program.wait(60) == 0, (tmp_path / "log").read_text(encoding="utf-8")
        assert access.address() is None
        assert main(["ctl", "status"]) == 3
    finally:
        program.kill()
        program.wait()


def test_a_portrait_that_fails_later_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"})
    events.put(PORTRAIT)
    events.put(SourceFailed("other", "out of memory"))
    watch.drain()
    assert watch.failure == ""
    assert "out of memory; the portrait before goes on" in capsys.readouterr().err


def test_a_port_that_is_taken_ends_it_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--headless", "--camera", str(GRID), "--control", str(port), "--frames", "1"]) == 1
    assert f"cannot listen on port {port}: another program has it" in capsys.readouterr().err


def test_a_poor_portrait_is_told_with_what_speaks_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.png"
    write_rgb(small, read_rgb(ASSETS / "portraits" / "woman_1.jpg")[::6, ::6])
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that nothing runs
        args = ["--headless", "--camera", str(GRID), "--control", str(taken.getsockname()[1]), "--frames", "1"]
        assert main([*args, "--source", str(small)]) == 1
        assert "small scores " in (told := capsys.readouterr().err)
        assert " of 100 as a portrait: the face is small: use a larger picture" in told
        assert main([*args, "--source", "woman_1"]) == 1
        assert "scores" not in capsys.readouterr().err


def went_down_the_ladder_and_came_back(states: list[dict[str, Any]]) -> bool:
    rest = iter([row["state"] for row in states])  # a busy machine may hold for a moment in between
    return all(state in rest for state in ("live", "hold", "easing", "idle", "live"))


@pytest.mark.usefixtures("_fastest_known")
def test_a_face_that_leaves_goes_down_the_ladder_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = face_that_leaves(tmp_path / "leaves.mp4", there=30, slide=4, gone=75, back=25)
    follow = Watch.follow

    def until_it_was_seen(
        self: Watch, pipeline: Pipeline, frames: int | None, seconds: float | None, stopped: Callable[[], bool]
    ) -> None:
        follow(self, pipeline, frames, seconds, lambda: stopped() or went_down_the_ladder_and_came_back(self.states))

    monkeypatch.setattr(Watch, "follow", until_it_was_seen)
    report = run(tmp_path, "--camera", str(clip), "--source", "woman_3", "--calibration-s", "0.2", "--seconds", "120")
    assert went_down_the_ladder_and_came_back(report["states"])


def recorded_headless(folder: Path, frames: int) -> list[str]:
    return [
        *[sys.executable, "-m", "app", "--headless", "--camera", str(GRID), "--source", "woman_1"],
        *["--sink", f"file:{folder / 'x.mp4'}", "--frames", str(frames), "--report", str(folder / "r.json")],
    ]


def test_a_full_disk_is_told_before_a_run(tmp_path: Path) -> None:
    with full(tmp_path) as (folder, prefix):
        command = [*prefix, *recorded_headless(folder, frames=5)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, encoding="utf-8")
        assert done.returncode == 1, done.stderr
        (said,) = done.stderr.splitlines()
        assert said.startswith(f"mcnet-avatar: --report {folder / 'r.json'}: ")
        assert not list(folder.iterdir())


@pytest.mark.usefixtures("_fastest_known")
def test_a_disk_that_becomes_full_ends_a_run_that_only_records(tmp_path: Path) -> None:
    with place("disk", tmp_path) as folder:
        command = recorded_headless(folder, frames=100_000)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
            recording = folder / "x.mp4"
            wait_until(lambda: recording.exists() and recording.stat().st_size > 500_000, "it records", 60.0)
            Room("disk", folder).take()
            said = process.communicate(timeout=120)[1]
        assert process.returncode == 1, said
        last = said.splitlines()[-1]
        assert last.startswith(f"mcnet-avatar: the recording {recording} cannot go on: ")
        assert re.search(r"; its first [\d.]+ s are kept; cannot write the report ", last)
        assert "Traceback" not in said
        assert list(folder.iterdir()) == [recording]
        assert next(iter(open_driving(recording))).size


@contextlib.contextmanager
def made_ready_by(make: Callable[[], object]) -> Iterator[Pipeline]:
    """A pipeline whose model is being made as long as that takes, and cannot be used then."""

    def factory() -> LiveEngine:
        make()
        raise AppError("it was enough")

    pipeline = Pipeline(factory, settings=LiveSettings(), output=OutputFormat(64, 64), on_event=lambda _: None)
    pipeline.start()
    try:
        yield pipeline
    finally:
        assert pipeline.stop(10.0)


def test_a_model_that_hangs_ends_the_run() -> None:
    watch, over = watch_of(SimpleQueue(), {"null"}), threading.Event()
    with contextlib.ExitStack() as stack:
        pipeline = stack.enter_context(made_ready_by(lambda: over.wait(60)))
        stack.callback(over.set)
        watch.follow(pipeline, None, None, lambda: False)
    assert "what makes the model ready has stood still for 1 s: try --device cpu" in watch.failure


def test_a_model_that_is_still_being_made_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """However long the machine takes for it."""
    watch, over = watch_of(SimpleQueue(), {"null"}), threading.Event()

    def work() -> None:
        while not over.is_set():
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1000)

    with contextlib.ExitStack() as stack:
        pipeline = stack.enter_context(made_ready_by(work))
        stack.callback(over.set)
        began_s, said = time.monotonic(), ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return said != "" or time.monotonic() - began_s > 60

        watch.follow(pipeline, None, None, told)
        assert watch.failure == ""
        assert re.search(r"the model is still being made ready after \d+ s: this machine is busy", said)
        watch.follow(pipeline, None, 0.0, lambda: False)
    assert "the model was still being made ready: give it more time (--seconds)" in watch.failure


def test_a_slate_that_was_asked_for_takes_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the camera's picture to blame where the run's time ends under it."""
    now_s = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr("app.headless.time", SimpleNamespace(monotonic=lambda: now_s, sleep=pass_time))
    events: SimpleQueue[Event] = SimpleQueue()
    pipeline = Pipeline(_no_engine, settings=LiveSettings(), output=OutputFormat(64, 64), on_event=events.put)
    watch = watch_of(events, {"null"})
    events.put(SourceReady("woman_1", from_cache=False, measured=True))
    watch.follow(pipeline, None, None, lambda: now_s > 0.5)
    pipeline.update(LiveSettings(slate=True))
    watch.follow(pipeline, None, None, lambda: now_s > 5.0)
    assert watch.failure == ""
    pipeline.update(LiveSettings())
    watch.follow(pipeline, None, None, lambda: now_s > 5.4)
    assert watch.failure == "", "as long again as before the slate"
    watch.follow(pipeline, None, None, lambda: now_s > 6.0)
    assert watch.failure.endswith("is there a face in front of the camera?")
    watch.failure = ""
    pipeline.slate_now()  # as `panic` does it
    watch.follow(pipeline, None, now_s, lambda: False)
    assert watch.failure.endswith("the slate was asked for, and not taken away again: mcnet-avatar ctl live does that")


def _no_engine() -> LiveEngine:
    raise AssertionError("it was not started")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not tell what a thread has used")
def test_a_library_that_computes_gets_on() -> None:
    """All that Python sees is that one call does not come back."""
    begun = threading.Event()

    def compute() -> None:
        begun.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)

    with made_ready_by(compute) as pipeline:
        assert begun.wait(10)
        marks: set[object] = set()

        def moves() -> bool:
            marks.add(pipeline.inference_mark())
            return len(marks) > 3

        wait_until(moves, "it uses processor time")


def test_sinks_by_their_names() -> None:
    assert parse_sink("pipewire").name == "pipewire"
    assert parse_sink("pipewire:Mine").name == "pipewire"
    assert parse_sink("virtualcam").name == "virtualcam"


def test_a_recording_may_be_named_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell replaces a ~ that stands behind a colon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    sink = parse_sink("file:~/call.mp4")
    sink.open(OutputFormat(64, 64, 30))
    sink.close()
    assert Path(sink.detail).parent == tmp_path
    args = build_parser().parse_args(["--headless", "--report=~/report.json", "--record-motion=~/me.safetensors"])
    assert (args.report.parent, args.record_motion.parent) == (tmp_path, tmp_path)


def test_a_run_outlives_one_of_its_sinks_and_has_failed_nevertheless(capsys: pytest.CaptureFixture[str]) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"file:x.mp4", "virtualcam"})
    events.put(SinkFailed("file:x.mp4", "the disk is full"))
    watch.drain()
    assert watch.failure == ""
    assert capsys.readouterr().err == "the disk is full; the run goes on without it\n"
    watch.end()
    assert watch.failure == "the disk is full"


def test_a_portrait_whose_teeth_cannot_be_drawn_ends_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has asked for them; a background that was asked for ends it."""
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"})
    for setting in ("retouch", "fine_detail"):
        events.put(SettingRefused(setting, "they cannot be drawn"))
        watch.drain()
        assert watch.failure == ""
        assert capsys.readouterr().err == "they cannot be drawn; the picture goes on\n"
    events.put(SettingRefused("background", "it is gone"))
    watch.drain()
    assert watch.failure == "it is gone"


def test_nothing_is_drawn_where_it_is_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    assert live_settings(parser.parse_args(["--headless"])).retouch is True
    assert live_settings(parser.parse_args(["--headless", "--no-retouch"])).retouch is False
    with pytest.raises(SystemExit):
        main(["--no-retouch"])
    assert "--no-retouch goes with --headless" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["fine-detail", "surroundings"])
def test_what_takes_time_is_there_where_there_are_processors_for_it_or_as_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    parser = build_parser()
    for processors, usual in ((3, False), (4, True)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)), raising=False)
        asked: tuple[tuple[list[str], bool], ...] = (
            ([], usual),
            ([f"--{option}"], True),
            ([f"--no-{option}"], False),
        )
        for options, on in asked:
            got = live_settings(parser.parse_args(["--headless", *options]))
            assert getattr(got, option.replace("-", "_")) is on
            assert got.cut_out is False  # that is asked for by a background
    for asked_in_the_window in (f"--{option}", f"--no-{option}"):
        with pytest.raises(SystemExit):
            main([asked_in_the_window])
        assert f"--{option} goes with --headless" in capsys.readouterr().err


def test_a_run_ends_with_the_last_of_its_sinks() -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"file:x.mp4", "virtualcam"})
    events.put(SinkFailed("virtualcam", "the device is gone"))
    events.put(SinkFailed("file:x.mp4", "the disk is full"))
    watch.drain()
    assert watch.failure == "the device is gone; the disk is full"


def test_a_recording_that_cannot_be_finished_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"file:x.mp4", "virtualcam"})
    events.put(SinkFailed("file:x.mp4", "the disk is full"))
    watch.end()
    assert watch.failure == "the disk is full"
    assert capsys.readouterr().err == "", "nothing goes on after the end"


def test_the_file_that_was_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.mp4", "y.mp4", "y-2.mp4"):
        Path(name).touch()
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"file:x.mp4", "file:y.mp4", "file:none.mp4", "null"})
    events.put(SinkClosed("file:x.mp4", "x.mp4", asked=False))
    events.put(SinkClosed("file:y.mp4", "y-2.mp4", asked=False))
    events.put(SinkClosed("file:none.mp4", "none.mp4", asked=False))  # it had no picture, so that there is no file
    events.put(SinkClosed("null", asked=False))
    events.put(SinkClosed("file:x.mp4", "x.mp4"))  # taken out after the end
    watch.end()
    assert capsys.readouterr().err == "x.mp4 is saved\ny-2.mp4 is saved; y.mp4 was there already\n"
    assert watch.recordings == ["x.mp4", "y-2.mp4"]


ENGINE = EngineReady("fake", "cpu", "cpu, for a test", 0.1, measures=True)
PORTRAIT = SourceReady("fake", from_cache=False, measured=True)
NOT_IN_SPACE: list[tuple[LiveSettings, tuple[Event, ...], str]] = [
    (LiveSettings(), (replace(ENGINE, measures=False), replace(PORTRAIT, measured=False)), "this model's keypoints"),
    (LiveSettings(), (ENGINE, replace(PORTRAIT, measured=False)), "no face was found in this portrait"),
    (LiveSettings(keypoints="detected"), (ENGINE, PORTRAIT), "the settings ask for detected keypoints"),
]


@pytest.mark.parametrize(("settings", "told", "why"), NOT_IN_SPACE)
@pytest.mark.parametrize("asked", [False, True])
def test_motion_in_space_that_cannot_be_had_is_told_or_fails_if_it_was_asked_for(
    settings: LiveSettings, told: tuple[Event, ...], why: str, asked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"}, settings, in_space_or_fail=asked)
    for event in told:
        events.put(event)
    watch.drain()
    if asked:
        assert watch.failure.startswith(f"--motion space: {why}")
        assert watch.failure.endswith("; use --motion plane, or another model or portrait")
    else:
        assert watch.failure == ""
        assert capsys.readouterr().err.count(f"motion in the plane: {why}") == 1


@pytest.mark.parametrize(
    ("settings", "measured"),
    [(LiveSettings(), True), (LiveSettings(motion="plane"), False), (LiveSettings(relative=False), False)],
)
def test_nothing_is_said_of_space_where_it_is_had_or_not_wanted(
    settings: LiveSettings, measured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"}, settings)
    events.put(replace(ENGINE, measures=measured))
    events.put(replace(PORTRAIT, measured=measured))
    watch.drain()
    assert watch.failure == ""
    assert "motion in the plane" not in capsys.readouterr().err


def test_a_preset_of_the_window_moves_the_avatar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = Strengths(motion_strength=0.5, mouth_strength=1.5)
    save_presets(tmp_path / "presets.toml", Presets().saved("Calm", calm))
    monkeypatch.setattr("app.headless.presets_file", lambda: tmp_path / "presets.toml")

    def settings(*words: str) -> LiveSettings:
        return live_settings(build_parser().parse_args(["--headless", *words]))

    assert settings("--preset", "calm", "--motion", "plane") == calm.over(LiveSettings(motion="plane"))
    assert settings("--preset", "Standard") == settings() == LiveSettings()
    with pytest.raises(AppError, match=r"preset: got 'Wild', expected one of Standard, Calm"):
        settings("--preset", "Wild")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 99\n", "they are of format 99"),
        ("version = 1\nwild = 3\n", "unknown key wild"),
        ("=", "not be read"),
    ],
)
def test_control_starts_whatever_the_presets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """They are a window's, which may be open, and of a later app."""
    file = tmp_path / "presets.toml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr("app.headless.presets_file", lambda: file)
    monkeypatch.setattr("app.headless.control_folder", lambda: tmp_path / "control")
    store, discloser = PortraitStore(tmp_path / "portraits"), Discloser(lambda: None, lambda _: None, begin_disclosing)
    pipeline = Pipeline(lambda: None, settings=LiveSettings(), output=OutputFormat(64, 64), on_event=lambda _: None)  # type: ignore[arg-type, return-value]
    with _controlled(pipeline, store, load_portrait("woman_1", store), 0, discloser):
        told = capsys.readouterr().err
    assert said in told
    assert "control from outside: on port" in told
    assert file.read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.glob("presets*")) == ["presets.toml"]


def test_a_background_cuts_the_person_out_before_it() -> None:
    usual = LiveSettings(portrait_x=0.2)
    green = before_background(usual, parse_background("green"))
    assert (green.cut_out, green.background, green.background_colour) == (True, "colour", "#00ff00")
    assert green.portrait_x == 0.2
    video = before_background(usual, parse_background(str(GRID)))
    assert (video.background, video.background_video, video.background_image) == ("video", str(GRID), "")
    blurred = before_background(usual, parse_background("blur", 0.9))
    assert (blurred.background, blurred.background_blur) == ("blur", 0.9)


def test_a_motion_that_was_recorded_is_written_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = MotionRecording(tmp_path / "m.safetensors")
    with pytest.raises(AppError, match="no face was seen"):
        save_motion(recording)
    recording = MotionRecording(tmp_path / "m.safetensors")
    face = Face(np.random.default_rng(1).uniform(0, 100, (468, 3)).astype(np.float32), 1.0)
    recording.take(0.0, face, (640, 480))
    recording.take(0.1, face, (480, 640))
    save_motion(recording)
    assert capsys.readouterr().err.startswith(f"{recording.path}: 1 frames of motion; it ended early: the camera's")
    assert len(load_track(recording.path).faces) == 1


def test_a_motion_file_that_moves_nothing_ends_the_run() -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"})
    events.put(MotionRefused(in_the_plane=True))
    watch.drain()
    assert "moves the avatar in space only" in watch.failure
    assert "--motion space" in watch.failure


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--motion", "plane"], "--motion plane: {file} is a motion file, which has no pictures"),
        (["--absolute"], "in space only: use --motion space, without --absolute"),
    ],
)
def test_a_motion_file_that_will_move_nothing_is_refused_before_anything_is_loaded(
    options: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ASSETS / "motions" / "gentle.safetensors"
    monkeypatch.setattr(Pipeline, "start", lambda _: pytest.fail("it was started"))
    assert main(["--headless", "--frames", "1", "--camera", str(file), *options]) == 1
    assert told.format(file=file) in capsys.readouterr().err


def test_one_that_moves_nothing_any_more_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Another portrait was asked for from outside, whose keypoints would have to be detected."""
    events: SimpleQueue[Event] = SimpleQueue()
    watch = watch_of(events, {"null"})
    for event in (PORTRAIT, StateChanged(State.LIVE), PORTRAIT, MotionRefused(in_the_plane=False)):
        events.put(event)
    watch.drain()
    assert watch.failure == ""
    assert "could detect keypoints" in (said := capsys.readouterr().err)
    assert "; the run goes on" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--camera", "missing.mp4"], "there is no such file"),
        (["--camera", str(GRID), "--source", "nobody"], "no portrait 'nobody'"),
        (["--camera", str(GRID), "--model", "nothing"], "nothing"),
        (["--camera", str(GRID), "--sink", "tv"], "--sink: got 'tv', expected"),
        (["--camera", str(GRID), "--sink", "pipewire:a\tb"], "name of the PipeWire camera: got 'a\\tb', expected"),
        (["--camera", str(GRID), "--size", "big"], "--size: got 'big', expected"),
        (["--camera", str(GRID), "--size", "641x360"], "even number"),
        (["--camera", str(GRID), "--device", "cuda:9"], "cuda:9"),
        (["--camera", str(GRID), "--device", "tpu"], "device: got 'tpu', expected"),
        (["--camera", str(GRID), "--device", "cpu", "--precision", "fp16"], "expected fp32, bf16 or int8 there"),
        (["--camera", str(GRID), "--motion", "space", "--absolute"], "--motion space: got --absolute too"),
        (["--camera", str(GRID), "--motion", "space", "--keypoints", "detected"], "got --keypoints detected too"),
        (["--camera", str(GRID), "--report", "nowhere/r.json"], "--report nowhere/r.json: there is no folder"),
        (["--camera", str(GRID), "--report", "."], "--report .: it is a folder"),
        (["--camera", str(GRID), "--report", str(GRID)], "it would write over what --camera reads"),
        (["--camera", str(GRID), "--sink", "file:nowhere/x.mp4"], "there is no folder"),
        (["--camera", str(GRID), "--sink", "file:x.avi"], "got suffix '.avi', expected .mp4"),
        (["--camera", str(GRID), "--sink", "file:a.mp4", "--sink", "file:a.mp4"], "got it twice"),
        (["--camera", str(GRID), "--sink", "file:a.mp4", "--report", "a.mp4"], "is to be written there, too"),
        (["--camera", str(GRID), "--background", "rtsp://192.0.2.1/x"], "got a network address"),
        (["--camera", str(GRID), "--background", "/dev/null"], "a folder, a device or a pipe"),
        (["--camera", str(GRID), "--background", str(GRID), "--report", str(GRID)], "it would write over what"),
        (["--camera", str(GRID), "--record-motion", "nowhere/m.safetensors"], "there is no folder"),
        (["--camera", str(GRID), "--record-motion", "m.mp4"], "got suffix '.mp4', expected .safetensors"),
        (["--camera", str(GRID), "--preset", "Nobody's"], "preset: got"),
        (["--camera", 300 * "x"], "there is no such file"),
        (["--camera", str(GRID), "--source", 300 * "x"], "got neither a file nor a known name"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert main(["--headless", "--frames", "1", *options]) == 1
    assert message in capsys.readouterr().err
    assert not [record.getMessage() for record in caplog.records if record.exc_info], "a traceback says less"


def test_a_damaged_list_of_portraits_is_left_to_the_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = portraits_folder() / "portraits.json"
    path.parent.mkdir(parents=True)
    path.write_text('[{"key": 1}]', encoding="utf-8")
    run(tmp_path, "--camera", str(GRID), "--frames", "1", "--calibration-s", "0.5")
    assert path.read_text(encoding="utf-8") == '[{"key": 1}]'
    assert [file.name for file in path.parent.iterdir()] == ["portraits.json"]
    assert "Not all of the list of portraits could be read: row 1: got {'key': 1}" in capsys.readouterr().err
