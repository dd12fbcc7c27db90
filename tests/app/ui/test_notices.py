"""What is wrong is said in words wherever it is shown, and is not said any longer than it is so."""

from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.errors import SinkError
from app.pipeline.events import SettingRefused, StageFailed, StageRecovered, StateChanged
from app.pipeline.state import State
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.session import Session
from tests.app.ui.fakes import World
from tests.app.ui.hand import click, press_key


def keys(window: MainWindow) -> list[str]:
    return [message.key for message in window.messages.messages]


@pytest.fixture
def notices(proven: MainWindow) -> MainWindow:
    proven.messages.messages.clear()
    return proven


def test_of_a_portrait_once_another_one_is_chosen(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.store.unreadable.add("fake_2")
    notices.session.desk.choose("fake_2")
    qtbot.waitUntil(lambda: keys(notices) == ["portrait"])
    notices.session.desk.choose("fake_3")
    assert keys(notices) == []


def test_of_a_picture_once_another_one_is_added(notices: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    notices.session.desk.add_files([tmp_path / "gone.png", tmp_path / "there.png"])
    qtbot.waitUntil(lambda: notices.session.desk.cropping is not None)
    assert keys(notices) == ["portrait"]  # of the first one, while the second is looked at
    notices.session.desk.cancel_crop()
    notices.session.desk.add_files([tmp_path / "there.png"])
    assert keys(notices) == []


def test_of_a_camera_once_another_one_is_tried(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.fail_camera("It is gone", retry_s=2.0)
    qtbot.waitUntil(lambda: keys(notices) == ["camera"])
    first = world.pipeline.camera
    notices.session.camera_desk.choose("1")
    assert keys(notices) == []
    world.pipeline.fail_camera("It is busy", kept=first)
    qtbot.waitUntil(lambda: keys(notices) == ["camera"])
    assert notices.messages.messages[0].tone == "warning"  # frames arrive all the same
    notices.session.camera_desk.choose("1")
    assert keys(notices) == []
    world.pipeline.fail_camera("It is busy still")
    qtbot.waitUntil(lambda: keys(notices) == ["camera"])
    world.pipeline.open_camera()
    qtbot.waitUntil(lambda: keys(notices) == [])


def test_of_the_virtual_camera_once_it_is_tried_again(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.sink_error = SinkError("it is busy")
    notices.session.virtual_camera.switch(True)
    qtbot.waitUntil(lambda: keys(notices) == ["virtual camera"])
    world.sink_error = None
    notices.session.virtual_camera.switch(True)
    assert keys(notices) == []


def test_of_a_recording_once_the_next_one_begins(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.sink_error = SinkError("the disk is full")
    notices.session.recordings.toggle()
    qtbot.waitUntil(lambda: keys(notices) == ["recording"])
    world.sink_error = None
    notices.session.recordings.toggle()
    qtbot.waitUntil(lambda: notices.session.recordings.path is not None)
    assert keys(notices) == []


def test_of_a_background_once_another_one_is_chosen(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    session = notices.session
    session.set_live(replace(session.settings.live, background="image", background_image="gone.png"))
    world.pipeline.tell(SettingRefused("background", "The background picture cannot be used."))
    qtbot.waitUntil(lambda: keys(notices) == ["background"])
    session.set_live(replace(session.settings.live, zoom=1.2))
    assert keys(notices) == ["background"]
    session.set_live(replace(session.settings.live, background="blur"))
    assert keys(notices) == []


def test_of_measuring_once_it_is_done_again(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.measure_error = SinkError("nothing runs the model")
    notices.session.measure()
    qtbot.waitUntil(lambda: keys(notices) == ["measuring"])
    world.measure_error = None
    notices.session.measure()
    assert keys(notices) == []
    world.gate.set()
    qtbot.waitUntil(lambda: not notices.session.measuring.under_way)


def test_of_a_stage_once_it_is_well(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StageFailed("camera stage", "it met a bug"))
    qtbot.waitUntil(lambda: keys(notices) == ["stage"])
    world.pipeline.tell(StageRecovered("camera stage"))
    qtbot.waitUntil(lambda: keys(notices) == [])
    assert notices.session.chain.model.done


# In words


def test_a_fault_says_what_has_failed_also_when_its_notice_is_put_away(
    notices: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.pipeline.tell(StageFailed("model", "it ends after 1024 bytes; copy it again."))
    world.pipeline.tell(StateChanged(State.FAULT))
    qtbot.waitUntil(lambda: notices.preview.words.state == "FAULT")
    notices.messages.dismiss()
    said = "the model cannot be loaded: it ends after 1024 bytes; copy it again"
    assert notices.preview.words.more == said
    assert notices.chain_row.sentence == f"{said.capitalize()}."
    qtbot.waitUntil(lambda: notices.status.text.startswith(f"FAULT: {said} | "))


def test_a_fault_can_be_started_again_as_long_as_it_stands(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    bar = notices.messages
    world.pipeline.tell(StageFailed("presenting", "it met a bug"))
    world.pipeline.tell(StateChanged(State.FAULT))
    qtbot.waitUntil(lambda: keys(notices) == ["stage"])
    assert not bar.close_button.isVisible()
    press_key(notices, Qt.Key.Key_Escape)
    assert bar.action_button.isVisible()
    bar.show_message(Message("recording", "The disk is full."))
    click(bar.close_button)
    assert keys(notices) == ["stage"]
    bar.show_message(Message("saved", "Saved: a.mp4", tone="info"))
    assert keys(notices) == ["stage", "saved"]
    click(bar.close_button)
    assert keys(notices) == ["saved", "stage"], "it comes back after what waits"
    press_key(notices, Qt.Key.Key_Escape)
    assert keys(notices) == ["stage"]

    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: "out of memory" in bar.text)
    world.pipeline.tell(StageRecovered("inference"))
    qtbot.waitUntil(lambda: "it met a bug" in bar.text)
    assert notices.session.reason == "the presenting has failed: it met a bug"
    assert notices.session.chain.model.failed
    world.pipeline.tell(StageRecovered("presenting"))
    qtbot.waitUntil(lambda: keys(notices) == [])
    assert notices.session.chain.model.done

    world.pipeline.tell(StageFailed("presenting", "it met a bug"))
    qtbot.waitUntil(lambda: keys(notices) == ["stage"])
    click(bar.action_button)
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert keys(notices) == []


def test_a_fault_of_which_no_stage_has_told_has_a_notice_too(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.show(State.FAULT)
    qtbot.waitUntil(lambda: keys(notices) == ["stage"])
    assert notices.messages.action_button.text() == "Start again"
    assert notices.preview.words.more == "the model gives no pictures: wait, or press Start again"
    world.pipeline.show(State.LIVE)
    qtbot.waitUntil(lambda: keys(notices) == [])


def test_a_recovery_tells_of_no_other_fault_before_the_next_picture(
    notices: MainWindow, world: World, qtbot: QtBot
) -> None:
    told: list[Message] = []
    notices.session.told.connect(told.append)
    world.pipeline.tell(StateChanged(State.FAULT))
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: keys(notices) == ["stage"])
    world.pipeline.tell(StageRecovered("inference"))
    qtbot.waitUntil(lambda: keys(notices) == [])
    world.pipeline.tell(StateChanged(State.LIVE))
    qtbot.waitUntil(lambda: notices.session.state is State.LIVE)
    qtbot.wait(1200)  # longer than a fault without a name waits
    assert len(told) == 1
    assert "out of memory" in told[0].text


def test_a_slate_that_stays_after_a_recovery_has_a_notice(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(StateChanged(State.FAULT))
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    world.pipeline.tell(StageRecovered("inference"))
    qtbot.waitUntil(lambda: "no picture for a while" in notices.messages.text)
    assert notices.messages.action_button.isVisible()


def test_starting_says_what_it_waits_for(notices: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.fail_camera("It is gone")
    world.pipeline.tell(StateChanged(State.STARTING))
    qtbot.waitUntil(lambda: notices.preview.words.state == "STARTING")
    assert notices.preview.words.more == "the camera gives no frames: plug it in again, or choose another one"
    assert notices.chain_row.sentence.startswith("The camera gives no frames")


# What belongs together


def test_name_and_score_are_of_one_portrait(notices: MainWindow, qtbot: QtBot) -> None:
    session: Session = notices.session
    step = notices.checklist.steps[3]
    assert notices.gallery.name == "Fake 1"
    assert notices.gallery.score.startswith("Score 70")
    assert "Fake 1, score 70" in step.accessibleName()
    session.desk.choose("fake_2")
    assert notices.gallery.name == "Fake 2"
    assert notices.gallery.score == "One moment: it is being read…"
    qtbot.waitUntil(lambda: session.portrait is not None and session.portrait.entry.key == "fake_2")
    assert notices.gallery.score.startswith("Score 71")
    assert "Fake 1" in step.accessibleName()  # which is still animated
    assert "score" not in step.accessibleName()
