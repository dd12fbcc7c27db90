import threading
from collections.abc import Callable

from pytestqt.qtbot import QtBot

from app.pipeline.events import Event, SinkClosed, SinkOpened
from app.ui.bridge import Bridge


def in_thread(*work: Callable[[], None]) -> None:
    def body() -> None:
        for one in work:
            one()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def test_facts_arrive_in_order_on_the_gui_thread(qtbot: QtBot) -> None:
    heard: list[tuple[Event, threading.Thread]] = []
    bridge = Bridge(lambda event: heard.append((event, threading.current_thread())), lambda: None)
    facts: list[Event] = [SinkOpened(str(number)) for number in range(50)]
    in_thread(*[lambda fact=fact: bridge.tell(fact) for fact in facts])
    assert not heard
    qtbot.waitUntil(lambda: len(heard) == 50)
    assert [event for event, _ in heard] == facts
    assert {thread for _, thread in heard} == {threading.main_thread()}


def test_a_fact_told_on_the_gui_thread_is_queued_too(qtbot: QtBot) -> None:
    heard: list[Event] = []
    bridge = Bridge(heard.append, lambda: None)
    bridge.tell(SinkClosed("x"))
    assert not heard
    qtbot.waitUntil(lambda: len(heard) == 1)


def test_wake_ups_are_coalesced(qtbot: QtBot) -> None:
    wakes: list[int] = []
    bridge = Bridge(lambda _: None, lambda: wakes.append(1))
    in_thread(*[bridge.wake] * 1000)
    qtbot.waitUntil(lambda: bool(wakes))
    assert len(wakes) == 1
    in_thread(bridge.wake)
    qtbot.waitUntil(lambda: len(wakes) == 2)


def test_a_picture_put_while_pulling_wakes_again(qtbot: QtBot) -> None:
    wakes: list[int] = []

    def pull() -> None:
        wakes.append(1)
        if len(wakes) == 1:
            in_thread(bridge.wake)

    bridge = Bridge(lambda _: None, pull)
    bridge.wake()
    qtbot.waitUntil(lambda: len(wakes) == 2)


def test_once_closed_it_carries_nothing_not_even_what_is_queued(qtbot: QtBot) -> None:
    heard: list[object] = []
    bridge = Bridge(heard.append, lambda: heard.append("picture"))
    in_thread(lambda: bridge.tell(SinkClosed("x")), bridge.wake)
    bridge.close()
    bridge.close()
    in_thread(lambda: bridge.tell(SinkClosed("y")), bridge.wake)
    qtbot.wait(20)
    assert not heard
