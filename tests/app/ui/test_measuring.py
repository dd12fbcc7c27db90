"""Measuring what runs the model best, from the window."""

from dataclasses import replace

from pytestqt.qtbot import QtBot

from app.errors import SinkError
from app.pipeline.events import StageFailed
from app.settings import AppSettings
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from app.ui.run import RunChanges
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import STATS, World, measured


def test_this_computer_is_measured(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.checklist.steps[0].action.click()
    qtbot.waitUntil(lambda: proven.preview.words.more == "trying cuda:0 in fp16 with cudagraph")
    assert proven.preview.words.state == "MEASURING"
    assert proven.status.busy == "measuring…"
    assert world.pipeline.stops == 1
    assert not proven.checklist.steps[0].action.isEnabled()
    world.gate.set()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert proven.messages.text == "Measured: a frame of the model takes 1.5 ms on cuda:0 in fp16 with cudagraph."
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.chain.model.text.startswith("a frame of the model takes 1.5 ms"))


def test_measuring_that_fails(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.measure_error = SinkError("nothing here runs the model")
    proven.session.measure()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert proven.messages.text == "nothing here runs the model"
    assert not proven.session.measuring.under_way


def test_closing_while_measuring(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    proven.session.measure()
    qtbot.waitUntil(lambda: proven.session.measuring.share == 0.5)
    world.gate.set()
    proven.close()
    assert world.pipeline.starts == 1


def test_nothing_is_started_beside_it(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    world.pipeline.tell(StageFailed("inference", "out of memory"))
    qtbot.waitUntil(lambda: proven.messages.action_button.text() == "Start again")
    session._run.restart()
    session.measure()
    qtbot.waitUntil(lambda: session.measuring.share == 0.5)
    assert proven.messages.text == "", "there is nothing to start again"
    session._run.restart()
    qtbot.wait(100)
    assert world.pipeline.starts == 1
    world.gate.set()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: session.chain.model.done)


def test_what_was_started_already_is_not_started_again(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    for _ in range(2):
        proven.session._run.restart()
    qtbot.waitUntil(lambda: not proven.session.busy)
    assert world.pipeline.running
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.chain.model.done)
    proven.session._run._start_again()
    assert proven.session.chain.model.done, "it goes on"
    proven.session._run.restart()
    proven.session.set_run(RunChanges(fps_hz=25.0))
    qtbot.waitUntil(lambda: len(world.pipelines) == 2 and not proven.session.busy)
    assert world.pipelines[-1].starts == 1


def test_what_was_measured_is_told(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(measured(12.3))
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.session.chain.model.text.startswith("a frame of the model takes 12.3 ms on"))


def test_too_slow_is_no_tick_and_comes_with_the_next_step(window: MainWindow, world: World, qtbot: QtBot) -> None:
    world.pipeline.tell(measured(313.0))
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.session.chain.model.done)
    assert window.session.chain.model.slow
    said = window.session.chain.model.text
    assert said.startswith("about 3.2 frames per second are too slow")
    assert "Measure" in said
    assert "needs a hand" in window.checklist.steps[0].accessibleName()
    assert said[1:] in window.chain_row.sentence
    assert window.session.chain.missing_name() != "model"  # slow or not, one may go live
    world.pipeline.figures = STATS  # what is seen says more than what was measured
    qtbot.waitUntil(lambda: not window.session.chain.model.slow)


def test_what_turns_out_too_slow_is_told_until_it_is_fast_enough(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.pipeline.figures = replace(STATS, fps=6.0)
    qtbot.waitUntil(lambda: proven.session.chain.model.slow)
    assert "bout 6 frames per second" in proven.chain_row.sentence
    world.pipeline.figures = replace(STATS, fps=11.0)
    qtbot.wait(300)
    assert proven.session.chain.model.slow
    world.pipeline.figures = STATS
    qtbot.waitUntil(lambda: not proven.session.chain.model.slow)


def test_no_measuring_while_a_call_watches(live: MainWindow, world: World) -> None:
    live.session.measure()
    assert not live.session.measuring.under_way
    assert world.pipeline.stops == 0


def test_what_was_chosen_is_what_is_measured(
    open_window: OpenWindow, options: WindowOptions, world: World, qtbot: QtBot
) -> None:
    settings = AppSettings(portrait="fake_1", device="cpu", precision="fp32")
    window = open_window(settings, replace(options, device="cuda:1"))
    world.gate.set()
    window.session.measure()
    qtbot.waitUntil(lambda: world.pipeline.starts == 2)
    assert world.measured_with == [("starter", "cuda:1", "fp32")]
