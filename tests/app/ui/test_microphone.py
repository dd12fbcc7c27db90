import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

from app.errors import AppError
from app.pipeline.output.sound import SoundFeed
from app.settings import AppSettings, load_settings
from app.ui import microphone, microphone_process, microphones
from app.ui.main_window import MainWindow
from tests.app.fakes import wait_until
from tests.app.ui import microphone_processes
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import FakeEar, FakeSink, World


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "_AGAIN_S", 0.02)
    monkeypatch.setattr(microphone, "_SILENT_S", 0.2)


def _on(window: MainWindow, qtbot: QtBot) -> None:
    window.controls.sound.switch.click()
    qtbot.waitUntil(lambda: window.session.microphone.name != "")


def test_it_is_off_and_closed_unless_switched_on(window: MainWindow, world: World) -> None:
    assert not AppSettings().record_sound
    assert not window.controls.sound.switch.isChecked()
    assert not window.controls.sound.choice.isVisibleTo(window.controls.sound)
    assert world.ears == []
    window.session.recordings.toggle()
    window.session.close()
    assert world.sounds in ([None], [])


def test_a_recording_has_its_sound_and_the_window_its_level(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    row, heard = proven.controls.sound, proven.session.microphone
    _on(proven, qtbot)
    assert row.said == "Heard: usual"
    qtbot.waitUntil(lambda: [row.choice.itemText(at) for at in range(3)][1:] == ["Headset", "Webcam"])
    qtbot.waitUntil(lambda: abs(row.meter.level_db - 20 * np.log10(0.5)) < 0.1)
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: world.sounds == [heard.feed])
    place = heard.feed.place()
    assert place is not None
    assert place.rate_hz == 8000


def test_switched_off_nothing_is_heard_from_that_moment(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    _on(proven, qtbot)
    proven.controls.sound.switch.click()
    assert proven.session.microphone.feed.place() is None
    qtbot.waitUntil(lambda: world.ears[0].closed == 1)
    time.sleep(0.05)
    assert proven.session.microphone.feed.place() is None
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: world.sounds == [None])


def test_another_one_is_chosen_and_kept(proven: MainWindow, world: World, qtbot: QtBot, tmp_path: Path) -> None:
    _on(proven, qtbot)
    choice = proven.controls.sound.choice
    qtbot.waitUntil(lambda: choice.count() == 3)
    choice.setCurrentIndex(2)
    choice.activated.emit(2)
    qtbot.waitUntil(lambda: proven.session.microphone.name == "webcam")
    assert world.ears[0].closed == 1
    proven.close()
    kept, _ = load_settings(tmp_path / "settings.toml")
    assert (kept.record_sound, kept.microphone) == (True, "webcam")


def test_what_was_kept_is_on_again(open_window: OpenWindow, qtbot: QtBot, tmp_path: Path) -> None:
    kept = AppSettings(portrait="fake_1", record_sound=True, microphone="headset", recordings=str(tmp_path))
    window = open_window(kept)
    qtbot.waitUntil(lambda: window.session.microphone.name == "headset")
    assert window.controls.sound.switch.isChecked()


def test_the_microphone_is_closed_after_the_pipeline(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    _on(proven, qtbot)
    heard: list[bool] = []
    stop = world.pipeline.stop

    def stop_and_look() -> bool:
        heard.append(proven.session.microphone.feed.place() is not None)
        return stop()

    world.pipeline.stop = stop_and_look  # type: ignore[method-assign, assignment]
    proven.close()
    assert heard == [True]
    assert world.ears[0].closed == 1


def test_one_that_vanishes_is_told_and_comes_back(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    _on(proven, qtbot)
    world.microphones = AppError("there is no microphone: plug one in")
    world.ears[0].fail = AppError("the microphone usual gives no sound: plug it in again")
    qtbot.waitUntil(lambda: "There is no microphone" in proven.messages.text)
    assert "Recordings go on, and are silent meanwhile." in proven.messages.text
    assert proven.controls.sound.said == "Nothing is heard: there is no microphone: plug one in."
    world.microphones = ["headset"]
    qtbot.waitUntil(lambda: proven.session.microphone.name == "usual")
    assert "no microphone" not in proven.messages.text


def test_one_that_falls_silent_is_opened_again(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    _on(proven, qtbot)
    world.ears[0].dumb = True
    qtbot.waitUntil(lambda: len(world.ears) == 2)
    assert world.ears[0].closed == 1
    qtbot.waitUntil(lambda: proven.session.microphone.name == "usual")


class Waits(threading.Event):
    """Is set once it was waited for so often, and never really waits."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.waited_s: list[float] = []
        self._times = times

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and timeout >= 1:  # not those for sound
            self.waited_s.append(timeout)
        if len(self.waited_s) == self._times:
            self.set()
        return self.is_set()


def test_one_that_cannot_be_had_is_tried_ever_more_rarely_until_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "_AGAIN_S", 3.0)
    tried = 0

    def open_one(key: str) -> FakeEar:
        nonlocal tried
        tried += 1
        if tried != 7:
            raise AppError("there is no microphone: plug one in")
        return OneWave(key)

    listening = microphone._Listening(1, "", open_one, SoundFeed(), lambda *_: None, stop := Waits(9))
    assert listening.ended(10)
    assert stop.waited_s == [3, 6, 12, 24, 30, 30, 3, 6, 12]


class OneWave(FakeEar):
    """Is heard once, and gone."""

    def read(self) -> NDArray[np.float32]:
        wave = super().read()
        self.fail = AppError("the microphone gives no sound any more")
        return wave


def test_a_bug_of_it_is_told_and_tried_again(
    proven: MainWindow, world: World, qtbot: QtBot, caplog: pytest.LogCaptureFixture
) -> None:
    _on(proven, qtbot)
    world.ears[0].fail = ZeroDivisionError("a bug")
    qtbot.waitUntil(lambda: len(world.ears) == 2)
    assert "ZeroDivisionError" in caplog.text


def test_without_any_microphone_a_recording_still_begins(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.microphones = AppError("there is no microphone: plug one in")
    proven.controls.sound.switch.click()
    qtbot.waitUntil(lambda: proven.session.microphone.trouble != "")
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: proven.session.recordings.path is not None)
    assert world.sounds == [proven.session.microphone.feed]


def test_a_recording_that_has_no_sound_says_so(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.sound_trouble = "The recording has no sound."
    _on(proven, qtbot)
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    world.pipeline.open_sink("recorder")
    qtbot.waitUntil(lambda: proven.messages.text == "The recording has no sound.")
    assert proven.session.recordings.path is not None


def test_sound_that_ends_during_a_recording_is_told_at_once_and_once(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    _on(proven, qtbot)
    proven.session.recordings.toggle()
    qtbot.waitUntil(lambda: "recorder" in world.pipeline.sinks)
    told: list[str] = []
    proven.session.recordings.told.connect(lambda message: told.append(message.text))
    sink = world.pipeline.sinks["recorder"]
    assert isinstance(sink, FakeSink)
    sink.sound_trouble = "The recording goes on without sound."
    qtbot.waitUntil(lambda: proven.messages.text == "The recording goes on without sound.")
    assert proven.session.recordings.path is not None
    proven.action_bar.show_recording()
    assert told == ["The recording goes on without sound."]


def test_a_system_whose_sound_hangs_holds_up_nothing_else(
    open_window: OpenWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> list[tuple[str, str]]:
        world.gate.wait(30)
        return []

    monkeypatch.setattr(world, "_list_microphones", hang)
    window = open_window()
    window.controls.sound.switch.click()
    for _ in range(3):
        window.session.microphone.refresh()
    listed = world.listed
    window.session.camera_desk.refresh()
    try:
        qtbot.waitUntil(lambda: world.listed > listed)
    finally:
        world.gate.set()


def test_the_system_keeps_it_away(proven: MainWindow, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "when_microphone_is_allowed", lambda _, forbidden: forbidden())
    proven.controls.sound.switch.click()
    assert "privacy settings" in proven.controls.sound.said
    assert world.ears == []


def test_without_qts_part_for_sound_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyQt6.QtMultimedia", None)
    monkeypatch.setattr(sys, "platform", "linux")
    for key in (None, "", "headset"):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        with ours, theirs:
            microphone_process.answer(theirs, key)
            said = ours.recv()["error"]
        assert said.startswith("Qt's part for sound cannot be loaded (")
        assert said.endswith("; on Debian or Ubuntu: apt-get install libpulse0")


def test_this_very_machine_opens_its_microphone_or_says_why_not() -> None:
    try:
        listed = microphones.list_microphones()
        ear = microphones.open_microphone("")
    except AppError as error:
        said = str(error)
    else:
        assert listed
        assert ear.rate_hz > 0
        ear.read()
        ear.close()
        ear.close()
        said = "heard"
    assert "libpulse0" in said or "there is no microphone: plug one in" in said or said == "heard"


def test_the_process_of_a_microphone_may_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone_process, "serve", microphone_processes.hum_and_crash)
    ear = microphones.open_microphone("usual")
    assert (ear.name, ear.rate_hz) == ("usual", 8000)
    heard: list[float] = []

    def read_on() -> None:
        while True:
            heard.extend(ear.read().tolist())

    with pytest.raises(AppError, match="the microphone usual gives no sound any more: plug it in again"):
        read_on()
    assert len(heard) == 200
    ear.close()


def test_closing_a_microphone_ends_its_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone_process, "serve", microphone_processes.hum)
    ear = microphones.open_microphone("usual")
    heard: list[float] = []

    def hums() -> bool:
        heard.extend(ear.read().tolist())
        return len(heard) == 200

    wait_until(hums, "it hums")
    assert set(heard) == {0.25}
    began_s = time.monotonic()
    ear.close()
    ear.close()
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (microphone_processes.crash, "has crashed; start it again"),
        (microphone_processes.refuse, "there is no microphone"),
    ],
)
def test_a_process_that_says_nothing_good(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., None], message: str
) -> None:
    monkeypatch.setattr(microphone_process, "serve", serve)
    with pytest.raises(AppError, match=message):
        microphones.open_microphone("")
    with pytest.raises(AppError, match=message):
        microphones.list_microphones()


def test_a_process_that_hangs_is_not_told_as_one_that_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphones, "_LONGEST_S", 1.0)
    monkeypatch.setattr(microphone_process, "serve", microphone_processes.hang)
    for use in (microphones.list_microphones, lambda: microphones.open_microphone("")):
        with pytest.raises(AppError, match="the system's sound did not answer within 1 s: start it again"):
            use()


def test_the_process_of_a_microphone_has_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone_process, "serve", microphone_processes.list_what_is_loaded)
    loaded = [name for name, _ in microphones.list_microphones()]
    assert "app.pipeline.output.sound" in loaded
    assert "torch" not in loaded


KILLED = """
import time
from app.ui import microphone_process, microphones
from tests.app.ui import microphone_processes
microphone_process.serve = microphone_processes.serve_what_hangs
microphones.open_microphone("usual")
print("open", flush=True)
time.sleep(60)
"""


def test_the_process_of_a_microphone_ends_with_an_app_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"open\n"
        began_s = time.monotonic()
        app.kill()
        assert app.stdout.read() == b""  # which ends with the last process that could write there
        assert time.monotonic() - began_s < 30
