"""Another model takes over while the output is watched: never a wrong picture, and the last good one stays."""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.events import Calibrated, EngineReady, ModelRefused, SourceReady, StageFailed
from app.pipeline.pipeline import PipelineTimes
from app.pipeline.state import State
from mcnet.arrays import Array, Keypoints, Rgb, SourceCache
from mcnet.config import McnetConfig
from mcnet.engine import EngineError
from tests.app.fakes import AVATAR_RGB, FakeEngine, wait_until
from tests.app.pipeline.test_pipeline import SETTINGS, Rig, rig

__all__ = ["rig"]
OTHER_RGB = (200, 60, 30)
POINTS = (33, 263, 13, 14, 152)


class OtherEngine(FakeEngine):
    """Another model's: its avatars are red."""

    model_name = "other"
    content_hash = "0e" * 32
    fingerprint = "other/1"

    def render(self, driving: Keypoints[Array]) -> Rgb:
        picture = super().render(driving)
        picture[1:] = OTHER_RGB
        return picture


def colours(rig: Rig, first: int = 0) -> list[tuple[int, ...]]:
    """A place beside the face in each picture that went out as the avatar, where nothing is drawn; fades left out."""
    shown = [picture for picture in rig.sink.pictures[first:] if picture.state is State.LIVE and not picture.fading]
    return [tuple(picture.rgb[30, 120].tolist()) for picture in shown]


def go_live(rig: Rig) -> None:
    rig.pipeline.start()
    rig.reach(State.LIVE)
    wait_until(lambda: AVATAR_RGB in colours(rig), "the first model's avatar is shown")


def ready(rig: Rig) -> list[EngineReady]:
    return [event for event in rig.events if isinstance(event, EngineReady) and event.asked]


def test_it_takes_over_between_two_frames_and_the_portrait_stays(rig: Rig) -> None:
    go_live(rig)
    other = OtherEngine()
    rig.pipeline.use_engine(lambda: other, "other.safetensors")
    wait_until(lambda: OTHER_RGB in colours(rig), "the other model's avatar is shown")
    [event] = ready(rig)
    assert (event.asked, event.model, event.keeps_reference) == ("other.safetensors", "other", False)
    # Detected keypoints mean something else to each model, so that the reference is looked for anew.
    assert len(rig.told(Calibrated)) == 2
    assert [event.key for event in rig.events if isinstance(event, SourceReady)] == [rig.portrait.entry.key] * 2
    first = colours(rig).index(OTHER_RGB)
    assert set(colours(rig)[:first]) == {AVATAR_RGB}
    assert set(colours(rig)[first:]) == {OTHER_RGB}
    assert not rig.told(StageFailed)
    states = [picture.state for picture in rig.sink.pictures]
    assert State.CALIBRATING in states[states.index(State.LIVE) :]  # the slate, while the reference is missing


def test_a_measured_reference_holds_so_that_a_call_sees_no_slate(rig: Rig) -> None:
    rig.engine.keypoint_landmarks = POINTS
    rig.pipeline.times = PipelineTimes(model_s=10.0)  # a busy machine is slow, which is not what is asked
    go_live(rig)
    begun = len(rig.sink.pictures)
    other = OtherEngine()
    other.keypoint_landmarks = POINTS
    rig.pipeline.use_engine(lambda: other, "other")
    wait_until(lambda: OTHER_RGB in colours(rig), "the other model's avatar is shown")
    assert ready(rig)[0].keeps_reference
    assert len(rig.told(Calibrated)) == 1
    assert all(picture.state.shows_avatar for picture in rig.sink.pictures[begun:])
    # In the plane the reference is the other model's own keypoints: it is looked for anew.
    rig.pipeline.update(dataclasses.replace(SETTINGS, motion="plane"))
    wait_until(lambda: len(rig.told(Calibrated)) == 2, "a reference for the plane is found")
    rig.reach(State.LIVE)


def broken() -> LiveEngine:
    raise EngineError("no such model")


def torn() -> LiveEngine:
    raise MemoryError("no memory is left")


def of_no_portrait() -> LiveEngine:
    engine = OtherEngine()
    engine.fail_source = EngineError("model other gives NaN")
    return engine


def of_no_picture() -> LiveEngine:
    engine = OtherEngine()
    engine.fail = EngineError("model other gives NaN in every picture")
    return engine


@pytest.mark.parametrize("factory", [broken, torn, of_no_portrait, of_no_picture])
def test_where_it_fails_the_last_good_one_goes_on(
    factory: Callable[[], LiveEngine], rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    go_live(rig)
    begun, rendered = len(rig.sink.pictures), len(rig.engine.rendered)
    rig.pipeline.use_engine(factory, "other")
    wait_until(lambda: bool(rig.told(ModelRefused)), "it is refused")
    wait_until(lambda: len(rig.engine.rendered) > rendered + 5, "the first model goes on")
    [event] = rig.told(ModelRefused)
    assert isinstance(event, ModelRefused)
    assert event.model == "other"
    assert event.message
    assert set(colours(rig, begun)) == {AVATAR_RGB}
    assert not ready(rig)
    assert not rig.told(StageFailed)
    assert len(rig.told(Calibrated)) == 1  # the reference is the one of before
    assert ("model other" in caplog.text) == (factory is torn)  # what nobody expected is logged
    rig.pipeline.stop(5.0)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    assert set(colours(rig)) == {AVATAR_RGB}


def test_one_that_takes_long_leaves_the_last_picture_and_then_the_slate(rig: Rig) -> None:
    go_live(rig)
    gate = threading.Event()

    def slow() -> LiveEngine:
        gate.wait(10.0)
        return OtherEngine()

    begun = len(rig.sink.pictures)
    rig.pipeline.use_engine(slow, "other")
    rig.reach(State.FAULT)
    gate.set()
    wait_until(lambda: OTHER_RGB in colours(rig), "the other model's avatar is shown")
    assert not rig.told(StageFailed)
    states = list(dict.fromkeys(picture.state for picture in rig.sink.pictures[begun:]))
    assert states[:2] == [State.LIVE, State.FAULT]


def test_of_several_only_the_last_is_made_and_the_next_run_begins_with_it(rig: Rig) -> None:
    go_live(rig)
    rig.engine.delay_s = 0.3
    time.sleep(0.1)
    made: list[int] = []

    def factory(number: int) -> Callable[[], LiveEngine]:
        def make() -> LiveEngine:
            made.append(number)
            return OtherEngine()

        return make

    for number in range(4):
        rig.pipeline.use_engine(factory(number), str(number))
    wait_until(lambda: OTHER_RGB in colours(rig), "the last model's avatar is shown")
    assert made[-1] == 3
    assert len(made) <= 2  # one may have been taken before the others were asked for
    rig.pipeline.stop(5.0)
    count = len(made)
    rig.pipeline.start()
    rig.reach(State.LIVE)
    assert made[count:] == [3]


def test_one_that_is_asked_for_between_two_runs_begins_the_next(rig: Rig) -> None:
    other = OtherEngine()
    rig.pipeline.use_engine(lambda: other, "other")
    rig.pipeline.start()
    wait_until(lambda: OTHER_RGB in colours(rig), "the other model's avatar is shown")


def test_a_model_of_another_kind_takes_over(rig: Rig) -> None:
    """From measured keypoints to detected ones, and another number of them."""
    rig.engine.keypoint_landmarks = POINTS
    go_live(rig)

    class More(OtherEngine):
        config = McnetConfig.named("starter")

        def detect(self, picture: Rgb | None, places: NDArray[np.floating[Any]] | None = None) -> Keypoints[Array]:
            value, jacobian = super().detect(picture, places)
            return Keypoints(np.tile(value, (1, 3, 1)), np.tile(jacobian, (1, 3, 1, 1)))

        def set_source(
            self, source: Rgb | SourceCache[Array], places: NDArray[np.floating[Any]] | None = None
        ) -> SourceCache[Array]:
            cache = super().set_source(source, places)
            value, jacobian = cache.keypoints
            if value.shape[1] == 15:
                return cache
            return cache._replace(keypoints=Keypoints(np.tile(value, (1, 3, 1)), np.tile(jacobian, (1, 3, 1, 1))))

    rig.pipeline.use_engine(More, "more")
    wait_until(lambda: OTHER_RGB in colours(rig), "the other model's avatar is shown")
    assert not ready(rig)[0].keeps_reference
    assert not ready(rig)[0].measures
    wait_until(lambda: rig.pipeline.stats().frames_out > 10, "frames flow")
    assert not rig.told(StageFailed)
    assert np.isfinite(rig.sink.pictures[-1].rgb).all()
