import threading
import time

from app.pipeline.slot import LatestSlot


def test_the_newest_wins_and_what_nobody_took_is_counted() -> None:
    slot: LatestSlot[int] = LatestSlot("numbers")
    assert [slot.put(number) for number in range(5)] == [False, True, True, True, True]
    assert slot.take(0.0) == 4
    assert slot.take(0.0) is None
    assert not slot.put(5)


def test_take_waits_for_a_value_of_another_thread() -> None:
    slot: LatestSlot[str] = LatestSlot("words")
    threading.Timer(0.05, slot.put, ("late",)).start()
    assert slot.take(5.0) == "late"


def test_wait_leaves_the_value_there() -> None:
    slot: LatestSlot[str] = LatestSlot("words")
    assert not slot.wait(0.01)
    slot.put("here")
    assert slot.wait(0.0)
    assert slot.take(0.0) == "here"


def test_closing_wakes_who_waits_and_lets_nothing_in() -> None:
    slot: LatestSlot[int] = LatestSlot("numbers")
    answers: list[int | None] = []
    waiter = threading.Thread(target=lambda: answers.append(slot.take(30.0)))
    waiter.start()
    time.sleep(0.02)
    slot.close()
    waiter.join(5.0)
    slot.put(1)
    slot.close()
    assert answers == [None]
    assert slot.take(0.0) is None
    assert not slot.wait(0.0)


def test_every_put_wakes_whoever_asked_for_it() -> None:
    woken: list[int] = []
    slot: LatestSlot[int] = LatestSlot("numbers", on_put=lambda: woken.append(1))
    slot.put(1)
    slot.put(2)
    assert len(woken) == 2
