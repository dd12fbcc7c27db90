import pytest

from app.pipeline.animation.tracking_ladder import Rung, TrackingLadder
from app.pipeline.state import State
from app.settings import LiveSettings

TIMES = LiveSettings(hold_s=0.5, ease_s=1.0, idle_s=2.0)


def walk(ladder: TrackingLadder, start_s: float, end_s: float, *, face: bool, camera: bool = True) -> list[Rung]:
    steps = round((end_s - start_s) * 50)
    return [
        ladder.update(start_s + step / 50, face=face, camera=camera, settings=TIMES) for step in range(1, steps + 1)
    ]


@pytest.mark.parametrize(("camera", "last"), [(True, State.NO_FACE), (False, State.NO_CAMERA)])
def test_a_lost_face_is_held_eased_rested_and_then_the_slate_comes(camera: bool, last: State) -> None:
    ladder = TrackingLadder()
    assert walk(ladder, 0.0, 1.0, face=True)[-1] == Rung(State.LIVE, 1.0)
    rungs = walk(ladder, 1.0, 6.0, face=False, camera=camera)
    order = list(dict.fromkeys(rung.state for rung in rungs))
    assert order == [State.HOLD, State.EASING, State.IDLE, last]
    counts = {state: sum(rung.state is state for rung in rungs) / 50 for state in order}
    assert counts[State.HOLD] == pytest.approx(0.5, abs=0.03)
    assert counts[State.EASING] == pytest.approx(1.0, abs=0.03)
    assert counts[State.IDLE] == pytest.approx(2.0, abs=0.03)


def test_easing_goes_down_smoothly_and_the_return_comes_up_from_there() -> None:
    ladder = TrackingLadder()
    walk(ladder, 0.0, 1.0, face=True)
    lost = [rung.presence for rung in walk(ladder, 1.0, 2.0, face=False)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] == 1.0
    assert 0.3 < lost[-1] < 0.7
    back = [rung.presence for rung in walk(ladder, 2.0, 3.0, face=True)]
    assert back == sorted(back)
    assert abs(back[0] - lost[-1]) < 0.15
    assert back[-1] == 1.0


def test_a_blink_of_the_finder_changes_nothing_to_be_seen() -> None:
    ladder = TrackingLadder()
    walk(ladder, 0.0, 1.0, face=True)
    assert all(rung == Rung(State.HOLD, 1.0) for rung in walk(ladder, 1.0, 1.2, face=False))
    assert walk(ladder, 1.2, 1.3, face=True)[-1] == Rung(State.LIVE, 1.0)


def test_nobody_was_there_yet() -> None:
    assert TrackingLadder().update(5.0, face=False, camera=True, settings=TIMES) == Rung(State.NO_FACE, 0.0)
    assert TrackingLadder().update(5.0, face=False, camera=False, settings=TIMES) == Rung(State.NO_CAMERA, 0.0)


def test_after_a_reset_the_avatar_rises_from_its_own_pose() -> None:
    ladder = TrackingLadder()
    walk(ladder, 0.0, 1.0, face=True)
    ladder.reset()
    assert walk(ladder, 1.0, 1.02, face=True) == [Rung(State.LIVE, 0.0)]
