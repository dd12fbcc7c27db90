"""The dock that shows the inside of the network: on demand, at a reduced rate, and nothing of it when closed."""

import threading
from dataclasses import replace

import pytest
from PyQt6.QtCore import QPoint
from pytestqt.qtbot import QtBot

from app.errors import AppError
from app.settings import AppSettings, WindowSettings, settings_from
from app.ui import insight
from app.ui.main_window import MainWindow
from app.ui.run import RunChanges
from app.ui.worker import Worker
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World, performer_view_of
from tests.app.ui.hand import click


def show_inspector(window: MainWindow, shown: bool = True) -> None:
    window.session.set_window(replace(window.session.settings.window, show_inspector=shown))


def move(world: World, window: MainWindow) -> None:
    """One frame that moves the avatar."""
    world.pipeline.show_performer(performer_view_of())
    world.pipeline.show()
    window.session.woken.emit()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between frames."""
    monkeypatch.setattr(insight, "_LEAST_PAUSE_S", 0.0)
    monkeypatch.setattr(insight, "_PAUSES", 0.0)


def test_closed_it_costs_nothing(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    def names() -> set[str]:
        return {thread.name.split(" ")[0] for thread in threading.enumerate()}

    for _ in range(3):
        move(world, proven)
    qtbot.wait(20)
    assert world.inspectors == []
    assert "inspector" not in names()
    assert not proven.inspector.isVisible()
    show_inspector(proven)
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    assert "inspector" in names()
    show_inspector(proven, False)
    assert world.inspectors[0].closed
    qtbot.waitUntil(lambda: "inspector" not in names())
    asked = len(world.inspectors[0].asked)
    move(world, proven)
    qtbot.wait(20)
    assert len(world.inspectors[0].asked) == asked
    assert len(world.inspectors) == 1


def test_closing_it_waits_for_nothing_and_the_program_for_its_end(
    proven: MainWindow, world: World, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s: list[float] = []
    stop = Worker.stop

    def spied(self: Worker, timeout_s: float = 0.5) -> bool:
        waits_s.append(timeout_s)
        return stop(self, timeout_s)

    show_inspector(proven)
    inspector = world.inspectors[0]
    inspector.gate.clear()
    monkeypatch.setattr(inspector, "close", lambda: None)  # its process takes its time to end
    move(world, proven)
    qtbot.waitUntil(lambda: bool(inspector.asked))
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "stop", spied)
        show_inspector(proven, False)
        show_inspector(proven)
    assert waits_s
    assert not any(waits_s)
    inspector.gate.set()  # what it drew at last is nobody's any more
    qtbot.wait(30)
    assert proven.inspector.canvas.shown == []
    assert proven.session.insight.end()
    assert not any(thread.name.startswith("inspector") for thread in threading.enumerate())


def test_a_frame_is_drawn_by_the_chosen_views(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    assert proven.inspector.isVisible()
    assert proven.inspector.canvas.words == "starting…"
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    assert world.inspectors[0].model == "starter"
    assert world.inspectors[0].asked[0].views == ("flow", "warped", "occlusion", "attention")
    assert proven.inspector.canvas.shown == ["flow", "warped", "occlusion", "attention"]
    assert proven.inspector.figures.text() == "200 ms each"


@pytest.mark.usefixtures("impatient")
def test_frames_that_come_while_one_is_drawn_are_passed_over(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    world.inspectors[0].gate.clear()
    for _ in range(5):
        move(world, proven)
    qtbot.waitUntil(lambda: len(world.inspectors[0].asked) == 1)
    world.inspectors[0].gate.set()
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    assert len(world.inspectors[0].asked) == 1
    move(world, proven)
    qtbot.waitUntil(lambda: len(world.inspectors[0].asked) == 2)


def test_it_rests_after_a_frame(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    move(world, proven)
    qtbot.wait(30)
    assert len(world.inspectors[0].asked) == 1
    proven.session.insight._next_s = 0.0
    move(world, proven)
    qtbot.waitUntil(lambda: len(world.inspectors[0].asked) == 2)


def test_two_to_four_views_can_be_chosen_and_are_kept(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    def kept() -> list[str]:
        return list(proven.session.settings.window.inspector_views)

    show_inspector(proven)
    actions = proven.inspector.actions_of
    assert [view for view, action in actions.items() if action.isChecked()] == [
        "flow",
        "occlusion",
        "warped",
        "attention",
    ]
    assert not actions["masks"].isEnabled()  # four are shown already
    actions["flow"].trigger()
    actions["warped"].trigger()
    assert kept() == ["occlusion", "attention"]
    assert not actions["occlusion"].isEnabled()  # two are the least
    assert actions["masks"].isEnabled()
    actions["masks"].trigger()
    assert kept() == ["occlusion", "attention", "masks"]
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    assert world.inspectors[0].asked[-1].views == ("occlusion", "attention", "masks")


@pytest.mark.usefixtures("impatient")
def test_a_click_marks_the_place_that_asks(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    canvas = proven.inspector.canvas
    asked = canvas.picture_rects()[canvas.shown.index("attention")]
    at = QPoint(round(asked.left() + 0.25 * asked.height()), round(asked.top() + 0.75 * asked.height()))
    click(canvas, at)
    assert proven.session.insight.point == pytest.approx((0.25, 0.75), abs=0.02)
    flow = canvas.picture_rects()[0].center().toPoint()
    click(canvas, flow)
    assert proven.session.insight.point == pytest.approx((0.25, 0.75), abs=0.02)
    move(world, proven)
    qtbot.waitUntil(lambda: len(world.inspectors[0].asked) == 2)
    assert world.inspectors[0].asked[-1].point == pytest.approx((0.25, 0.75), abs=0.02)


@pytest.mark.usefixtures("impatient")
def test_what_fails_is_said_in_its_place(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    world.inspectors[0].error = AppError("the process that looks inside the network has ended")
    move(world, proven)
    qtbot.waitUntil(lambda: "has ended" in proven.inspector.canvas.words)
    move(world, proven)
    qtbot.wait(20)
    assert len(world.inspectors[0].asked) == 1  # it is not tried again and again
    show_inspector(proven, False)
    show_inspector(proven)
    move(world, proven)
    qtbot.waitUntil(lambda: bool(proven.inspector.canvas.shown))
    assert len(world.inspectors) == 2


def test_another_model_is_looked_into_anew(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    show_inspector(proven)
    proven.session.set_run(RunChanges(model="other.safetensors"))
    qtbot.waitUntil(lambda: len(world.pipelines) == 2)
    assert [one.model for one in world.inspectors] == ["starter", "other.safetensors"]
    assert world.inspectors[0].closed
    assert not world.inspectors[1].closed


def test_weights_that_learned_more_are_the_process_s_own_business(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    show_inspector(proven)
    world.pipeline.models.append("starter")
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: proven.session.engine == "the processor")
    assert len(world.inspectors) == 1  # it reads them by itself where a frame asks for them
    assert not world.inspectors[0].closed


def test_it_floats_while_there_is_no_room_and_comes_back(proven: MainWindow, qtbot: QtBot) -> None:
    show_inspector(proven)
    assert not proven.inspector.isFloating()
    proven.resize(900, 600)
    qtbot.waitUntil(proven.inspector.isFloating)
    assert proven.width() == 900
    proven.resize(1180, 720)
    qtbot.waitUntil(lambda: not proven.inspector.isFloating())
    show_inspector(proven, False)


def test_its_own_button_closes_it(proven: MainWindow, world: World) -> None:
    show_inspector(proven)
    proven.inspector.close()
    assert not proven.session.settings.window.show_inspector
    assert not proven.controls.inspector.isChecked()
    assert world.inspectors[0].closed


def test_it_opens_with_the_window_and_ends_with_it(open_window: OpenWindow, world: World) -> None:
    window = open_window(AppSettings(portrait="fake_1", window=WindowSettings(show_inspector=True)))
    assert window.inspector.isVisible()
    window.close()
    assert window.ended
    assert all(one.closed for one in world.inspectors)


def test_views_that_cannot_be_are_named() -> None:
    for views, said in ((["flow"], "expected 2 to 4"), (["flow", "flow"], "expected 2 to 4"), (["flow", "x"], "'x'")):
        settings, complaints = settings_from({"window": {"inspector_views": views}})
        assert settings.window.inspector_views == WindowSettings().inspector_views
        assert len(complaints) == 1
        assert said in complaints[0]


@pytest.mark.usefixtures("impatient")
def test_a_frame_of_other_weights_changes_nothing_and_several_are_told(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    dock, insight = proven.inspector, proven.session.insight
    show_inspector(proven)
    inspector, answers = world.inspectors[0], 0

    def draw() -> None:
        nonlocal answers
        answers += 1
        move(world, proven)
        qtbot.waitUntil(lambda: len(inspector.asked) == answers and not insight._busy)

    draw()
    shown = dock.canvas.shown
    assert len(shown) == 4
    inspector.weights_differ = True
    draw()
    draw()
    assert dock.canvas.shown == shown
    draw()
    assert dock.canvas.words == "waiting for the weights of the model in use…"
    assert (dock.canvas.shown, dock.figures.text(), insight.failure) == ([], "", "")
    inspector.weights_differ = False
    draw()
    assert (dock.canvas.shown, dock.canvas.words) == (shown, "")
