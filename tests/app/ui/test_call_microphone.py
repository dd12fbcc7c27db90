"""The microphone for calls in the window."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pytestqt.qtbot import QtBot

from app.pipeline.output.pipewire_microphone import MicrophoneStanding
from app.pipeline.state import State
from app.pipeline.stats import Percentiles, Stats
from app.settings import AppSettings
from app.ui.main_window import MainWindow
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World, lose_virtual_camera
from tests.app.ui.hand import click

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="PipeWire is Linux's")


def test_it_is_off_until_it_is_wanted_and_follows_the_pictures_age(
    live: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, sound = live.session, live.controls.sound
    assert not world.call_microphones
    assert not sound.call_switch.isChecked()
    monkeypatch.setattr(session, "stats", lambda: Stats(State.LIVE, age_ms=Percentiles(64.0)))
    click(sound.call_switch)
    made = world.call_microphones[-1]
    assert session.settings.call_microphone
    assert made.key == ""
    assert made.followed[-1] == (0.064, False)
    assert sound.call_said == "The microphone for calls is being made…"
    made.tell(MicrophoneStanding(there=True))
    qtbot.waitUntil(lambda: sound.call_said.startswith("Choose “mcnet-avatar microphone” in your call program."))
    made.tell(MicrophoneStanding(there=True, listened=True, delay_s=0.064))
    qtbot.waitUntil(lambda: sound.call_said == "A call hears you 64 ms late, with the picture.")
    assert session.call_microphone.in_call

    monkeypatch.setattr(session, "stats", lambda: Stats(State.LIVE, age_ms=Percentiles(90.0)))
    qtbot.waitUntil(lambda: made.followed[-1] == (0.09, False))
    monkeypatch.setattr(session, "stats", lambda: Stats(State.FAULT))
    qtbot.wait(600)
    assert made.followed[-1] == (0.09, False), "the last one that is known holds"
    click(sound.call_switch)
    assert made.stopped
    assert not session.settings.call_microphone


def test_the_slate_that_is_wanted_silences_it_at_once(live: MainWindow, world: World) -> None:
    live.session.call_microphone.switch(True)
    made = world.call_microphones[-1]
    live.session.slate()
    assert made.followed[-1][1]
    live.session.set_live(replace(live.session.settings.live, slate=False))
    assert not made.followed[-1][1]


def test_a_panic_silences_it_while_the_window_hangs(
    live: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = live.session
    session.call_microphone.switch(True)
    made = world.call_microphones[-1]
    for _ in range(2):  # the second time it is muted already
        with ThreadPoolExecutor(1) as pool:  # the GUI thread does nothing meanwhile
            pool.submit(session.remote.panic).result()
        assert made.followed[-1][1]
        monkeypatch.setattr(session, "stats", lambda: Stats(State.LIVE, age_ms=Percentiles(70.0)))
        made.followed.clear()
        qtbot.waitUntil(lambda: bool(made.followed))
        assert made.followed[-1][1], "until the window has heard of it"
        session.panic_key.pressed.emit()
    session.go_live()
    assert not made.followed[-1][1]


@pytest.mark.parametrize("fails", [True, False])
def test_losing_the_camera_after_a_stop_lets_nobody_hear(
    live: MainWindow, world: World, qtbot: QtBot, fails: bool
) -> None:
    session = live.session
    session.call_microphone.switch(True)
    made = world.call_microphones[-1]
    made.tell(MicrophoneStanding(there=True, listened=True))
    qtbot.waitUntil(lambda: session.call_microphone.in_call)
    session.stop()
    lose_virtual_camera(session, world, qtbot, fails=fails)
    assert session.call_microphone.muted
    assert made.followed[-1][1]
    assert world.pipeline.slated()
    session.go_live()
    assert not made.followed[-1][1], "the performer decides"


def test_nothing_is_told_after_the_end(live: MainWindow, world: World) -> None:
    """By threads that end later than the window does."""
    session = live.session
    session.call_microphone.switch(True)
    made = world.call_microphones[-1]
    told: list[tuple[object, ...]] = []

    def hear(*what: object) -> None:
        told.append(what)

    session.close()
    session.call_microphone._stood.connect(hear)
    session.virtual_camera._troubled.connect(hear)
    made.tell(MicrophoneStanding(trouble="too late"))
    world.tell_trouble("too late")
    assert not told


def test_it_hears_the_chosen_microphone(live: MainWindow, world: World, qtbot: QtBot) -> None:
    sound = live.controls.sound
    click(sound.call_switch)
    qtbot.waitUntil(lambda: sound.choice.count() == 3)
    assert sound.choice.isVisible()
    assert not sound.meter.isVisible(), "nothing is recorded"
    live.session.microphone.choose("webcam")
    assert [(made.key, made.name) for made in world.call_microphones] == [("", ""), ("webcam", "Webcam")]
    assert [made.stopped for made in world.call_microphones] == [True, False]


def test_what_is_wrong_is_told_until_it_is_over(live: MainWindow, world: World, qtbot: QtBot) -> None:
    live.session.call_microphone.switch(True)
    made = world.call_microphones[-1]
    made.tell(MicrophoneStanding(trouble="PipeWire has ended"))
    said = "PipeWire has ended. A call hears nothing meanwhile; it is tried again."
    qtbot.waitUntil(lambda: live.messages.text == said)
    assert live.controls.sound.call_said == "A call hears nothing: PipeWire has ended."
    made.tell(MicrophoneStanding(there=True))
    qtbot.waitUntil(lambda: live.messages.text == "")
    live.session.call_microphone.switch(False)
    made.tell(MicrophoneStanding(trouble="too late"))
    qtbot.wait(20)
    assert live.messages.text == ""


def test_it_stays_on_for_the_next_start(open_window: OpenWindow, world: World, qtbot: QtBot) -> None:
    window = open_window(AppSettings(portrait="fake_1", call_microphone=True, microphone="webcam"))
    qtbot.waitUntil(lambda: bool(world.call_microphones))
    assert world.call_microphones[-1].key == "webcam"
    assert window.controls.sound.call_switch.isChecked()
    window.close()
    qtbot.waitUntil(lambda: world.call_microphones[-1].stopped)
    assert window.session.settings.call_microphone
