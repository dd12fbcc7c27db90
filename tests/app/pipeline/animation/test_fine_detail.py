"""What a call sees of the portrait's own detail, and what becomes of the call when that fails."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.pipeline.animation.finish import detailed_px
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.events import SettingRefused, SourceReady
from app.pipeline.output.output_frame import OutputFrame
from app.pipeline.portraits import SQUARE_PX, Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Array, Keypoints, Rgb
from mcnet.config import McnetConfig
from mcnet.engine import resized
from mcnet.media.crop import SquareBox
from mcnet.media.faces import Face
from mcnet.media.fine_detail import FineDetail
from mcnet.media.matte import Matte, cut_out, resized_matte
from mcnet.media.surroundings import Margins
from tests.app.fakes import SIZE_PX, FakeEngine, wait_until
from tests.app.pipeline.animation.stage import POINTS, SETTINGS, Stage
from tests.app.pipeline.animation.test_retouching import drawn_px, speaking

OFF = dataclasses.replace(SETTINGS, retouch=False)
ON = dataclasses.replace(OFF, fine_detail=True)
CUT_OFF, CUT_ON = (dataclasses.replace(one, cut_out=True) for one in (OFF, ON))


def still_of(stage: Stage, portrait: Portrait, monkeypatch: pytest.MonkeyPatch, size_px: int = SIZE_PX) -> None:
    """Have the engine show the portrait as it is, as a network does that moves nothing."""
    shown = resized(portrait.square, size_px)

    def render(pose: Keypoints[Array]) -> Rgb:
        stage.engine.rendered.append(pose)
        return shown.copy()

    monkeypatch.setattr(stage.engine, "render", render)


def shown(stage: Stage, settings: LiveSettings) -> OutputFrame:
    output = stage.step(settings).output
    assert output is not None
    assert output.avatar is not None
    assert output.detailed is (len(output.avatar) > SIZE_PX)
    return output


def side(output: OutputFrame) -> int:
    assert output.avatar is not None
    return len(output.avatar)


def refused(stage: Stage) -> list[str]:
    return [event.message for event in stage.events if isinstance(event, SettingRefused)]


@pytest.mark.parametrize(
    "change",
    [{}, {"motion": "plane"}, {"relative": False}, {"keypoints": "detected"}],
    ids=["in space", "in the plane", "absolute", "detected"],
)
def test_a_portrait_that_rests_is_shown_as_it_is_however_it_is_moved(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    stage = Stage(face, woman, POINTS)
    still_of(stage, woman, monkeypatch)
    stage.until(State.LIVE, settings := dataclasses.replace(ON, **change))
    avatar = shown(stage, settings).avatar
    assert avatar is not None
    assert avatar.shape == woman.square.shape
    assert np.abs(avatar.astype(int) - woman.square).mean() < 0.5
    enlarged = resized(resized(woman.square, SIZE_PX), SQUARE_PX)
    assert np.abs(enlarged.astype(int) - woman.square).mean() > 2, "the network's alone has less"


def test_the_switch_takes_effect_with_the_next_picture_and_is_timed(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, OFF)
    for settings in (ON, OFF, ON):
        stage.timed.clear()
        assert side(shown(stage, settings)) == (SQUARE_PX if settings.fine_detail else SIZE_PX)
        assert stage.timed.count("detail") == settings.fine_detail
        assert stage.timed.count("render") == 1


@pytest.mark.parametrize(
    ("own_px", "size_px"), [(100, 256), (256, 256), (258, 344), (300, 400), (384, 512), (450, 512), (3000, 512)]
)
def test_pictures_are_as_large_as_the_portrait_has_pixels_for(
    face: Face, woman: Portrait, own_px: float, size_px: int
) -> None:
    box = SquareBox(woman.box.center_x, woman.box.center_y, own_px)
    stage = Stage(face, dataclasses.replace(woman, box=box))
    stage.until(State.LIVE, ON)
    output = shown(stage, ON)
    assert side(output) == size_px
    if size_px == SIZE_PX:  # not even another way of rendering
        stage.step(OFF)
        assert output.avatar is not None
        assert drawn_px(output.avatar) == 0


@pytest.mark.parametrize(("networks_px", "size_px"), [(64, 128), (128, 256), (256, 512), (512, 512)])
def test_pictures_are_at_most_twice_as_large_as_the_networks(woman: Portrait, networks_px: int, size_px: int) -> None:
    assert detailed_px(woman, networks_px) == size_px


def test_a_model_of_another_size_gives_the_pictures_their_size(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, ON)
    assert side(shown(stage, ON)) == SQUARE_PX
    other = FakeEngine()
    other.keypoint_landmarks = POINTS
    other.config = McnetConfig.named("studio")
    assert other.config.size_px == SQUARE_PX
    monkeypatch.setattr(other, "render", lambda _: np.zeros((SQUARE_PX, SQUARE_PX, 3), np.uint8))
    stage.animator.use_engine(other, lambda _: None)
    stage.until(State.LIVE, ON)
    output = stage.step(ON).output
    assert output is not None
    assert not output.detailed, "the network has as many pixels itself"
    assert side(output) == SQUARE_PX


def test_what_is_drawn_is_drawn_in_the_larger_size(face: Face, woman: Portrait) -> None:
    drawn = {}
    for settings in (dataclasses.replace(SETTINGS, fine_detail=on) for on in (False, True)):
        stage = Stage(face, woman, POINTS)
        stage.until(State.LIVE, settings)
        stage.finder.face = speaking(face)
        for _ in range(20):
            output = shown(stage, settings)
        drawn[settings.fine_detail] = drawn_px(output.avatar) / side(output) ** 2
    assert drawn[True] == pytest.approx(drawn[False], rel=0.1)
    assert drawn[True] > 0.05


@pytest.mark.parametrize("where", ["__init__", "added"])
def test_where_it_fails_the_networks_own_picture_goes_out_and_it_is_told_once(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    tried: list[int] = []

    def fail(*_: object) -> None:
        tried.append(1)
        raise MemoryError("no room for pores")

    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, ON)
    with monkeypatch.context() as patch:
        patch.setattr(FineDetail, where, fail)
        stage.animator.set_portrait(dataclasses.replace(woman))
        stage.until(State.LIVE, ON)
        for _ in range(5):
            output = shown(stage, ON)
            assert output.state is State.LIVE
            assert side(output) == SIZE_PX
            assert drawn_px(output.avatar) == 0
        assert len(tried) == 1
        (told,) = refused(stage)
        assert told.startswith("the fine detail of this portrait cannot be shown: ")
        assert "no room for pores" in told
        assert "MemoryError" in caplog.text
        # What is drawn goes on in the network's size.
        retouched = shown(stage, dataclasses.replace(ON, retouch=True))
        assert side(retouched) == SIZE_PX
        assert drawn_px(retouched.avatar) > 0.05 * SIZE_PX**2
    stage.animator.try_again(cut_out=True, retouch=True, fine_detail=False)
    assert side(shown(stage, ON)) == SIZE_PX, "nobody asked for it"
    stage.animator.try_again(cut_out=False, retouch=False, fine_detail=True)
    assert side(shown(stage, ON)) == SQUARE_PX
    assert len(refused(stage)) == 1


def test_where_it_fails_in_mid_call_that_very_picture_is_drawn_into_in_the_networks_size(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(ON, retouch=True)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    stage.finder.face = speaking(face)
    for _ in range(20):
        output = shown(stage, settings)
    assert side(output) == SQUARE_PX

    def fail(*_: object) -> None:
        raise MemoryError("no room for pores")

    monkeypatch.setattr(FineDetail, "added", fail)
    failed, after = shown(stage, settings), shown(stage, settings)
    assert side(failed) == side(after) == SIZE_PX
    assert drawn_px(failed.avatar) == pytest.approx(drawn_px(after.avatar), rel=0.01)
    assert drawn_px(after.avatar) > 0.05 * SIZE_PX**2
    assert len(refused(stage)) == 1
    assert "MemoryError" in caplog.text


@pytest.mark.parametrize("state", [State.HOLD, State.IDLE])
def test_a_picture_that_is_held_or_rests_goes_by_the_switch_as_any_other(
    face: Face, woman: Portrait, state: State
) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, ON)
    stage.finder.face = None
    stage.until(state, ON)
    for settings in (ON, OFF, OFF, ON):
        rendered = len(stage.engine.rendered)
        output = shown(stage, settings)
        assert output.state is state
        assert side(output) == (SQUARE_PX if settings.fine_detail else SIZE_PX)
        assert len(stage.engine.rendered) - rendered <= 1
    rendered = len(stage.engine.rendered)
    shown(stage, ON)
    assert len(stage.engine.rendered) == rendered, "what rests is made once"


def test_an_idle_motion_has_it_too(face: Face, woman: Portrait) -> None:
    settings = dataclasses.replace(ON, idle_motion="gentle", idle_s=60.0)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    wait_until(lambda: stage.idle_motion(settings) is not None, "the motion is read")
    stage.finder.face = None
    for state in (State.HOLD, State.EASING, State.IDLE):
        output = stage.until(state, settings).output
        assert output is not None
        assert side(output) == SQUARE_PX


def test_nothing_of_the_performers_picture_is_in_it(face: Face, woman: Portrait) -> None:
    pictures = []
    for level in (0, 255):
        stage = Stage(face, woman, POINTS)
        for _ in range(15):
            output = stage.only_step(ON, rgb=np.full((480, 640, 3), level, np.uint8)).output
        assert output is not None
        assert output.state is State.LIVE
        assert side(output) == SQUARE_PX
        pictures.append(output.avatar)
    np.testing.assert_array_equal(pictures[0], pictures[1])


# Cut out


def cut_in(stage: Stage, settings: LiveSettings) -> int:
    """The side of who is cut out of the next picture, which is the picture's; 0: nobody is."""
    output = shown(stage, settings)
    if output.person is None:
        assert not output.whole
        return 0
    sizes = {len(output.person.cutout.alpha), len(output.person.cutout.colours), len(output.person.plate)}
    assert sizes == {side(output)}
    return side(output)


class Cuttings:
    """What was cut out, and by whom a test waits for it.

    Attributes:
        made: the sides of the squares, in order.
        fail: whether it fails from now on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[int] = []
        self.fail = False
        monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", self._cut_out)

    def _cut_out(self, picture: Rgb, margins: Margins) -> Matte:
        if self.fail:
            raise MemoryError("no room for hair")
        self.made.append(margins.side(picture))
        return cut_out(picture, margins)


@pytest.fixture
def cuttings(monkeypatch: pytest.MonkeyPatch) -> Cuttings:
    return Cuttings(monkeypatch)


def _wait_for_cut(stage: Stage) -> None:
    wait_until(lambda: cut_in(stage, CUT_ON) == SQUARE_PX, "the person is cut out")


def exact(stage: Stage) -> Callable[[], bool]:
    """Whether the matte is there that was made for the pictures as they are now."""
    return lambda: (current := stage.animator._mattes.current) is not None and current.over


def test_who_is_cut_out_stays_so_while_the_switch_goes_and_is_cut_once_in_each_size(
    face: Face, woman: Portrait, tmp_path: Path, cuttings: Cuttings
) -> None:
    for _ in range(2):  # in this run and the next
        stage = Stage(face, woman, store=SourceStore(tmp_path))
        stage.until(State.LIVE, CUT_ON)
        _wait_for_cut(stage)
        for settings in (CUT_OFF, CUT_ON, CUT_OFF):
            size_px = SQUARE_PX if settings.fine_detail else SIZE_PX
            assert cut_in(stage, settings) == size_px, "at once"
            wait_until(exact(stage), "the matte of that size is there")
            assert cut_in(stage, settings) == size_px
        stage.animator.close()
    assert sorted(cuttings.made) == [SIZE_PX, SQUARE_PX]


def test_who_was_cut_out_stays_so_where_the_other_size_or_the_detail_fails(
    face: Face, woman: Portrait, cuttings: Cuttings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE, CUT_ON)
    _wait_for_cut(stage)
    cuttings.fail = True
    assert cut_in(stage, CUT_OFF) == SIZE_PX
    wait_until(exact(stage), "the other size fails")
    assert cut_in(stage, CUT_OFF) == SIZE_PX
    assert refused(stage) == []
    cuttings.fail = False
    assert cut_in(stage, CUT_ON) == SQUARE_PX

    def fail(*_: object) -> None:
        raise MemoryError("no room for pores")

    monkeypatch.setattr(FineDetail, "added", fail)
    assert cut_in(stage, CUT_ON) == SIZE_PX
    assert len(refused(stage)) == 1
    stage.animator.close()


def test_a_portrait_that_is_chosen_cut_out_is_cut_in_the_size_of_its_pictures(
    face: Face, woman: Portrait, cuttings: Cuttings
) -> None:
    stage = Stage(face, None)
    stage.animator.set_portrait(woman, cut_out=True, fine_detail=True)

    def taken() -> bool:
        stage.step(CUT_ON)
        return any(isinstance(event, SourceReady) for event in stage.events)

    wait_until(taken, "it is taken")
    stage.until(State.LIVE, CUT_ON)
    assert cut_in(stage, CUT_ON) == SQUARE_PX
    assert cuttings.made == [SQUARE_PX]
    stage.animator.close()


def test_what_fails_in_one_size_is_not_tried_and_told_again_in_the_other(
    face: Face, woman: Portrait, cuttings: Cuttings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for teeth")

    monkeypatch.setattr("mcnet.media.retouch.DrawnLids", fail)
    cuttings.fail = True
    stage = Stage(face, woman, POINTS)
    on, off = (dataclasses.replace(one, retouch=True) for one in (CUT_ON, CUT_OFF))
    stage.until(State.LIVE, on)
    wait_until(lambda: shown(stage, on).whole, "it is given up")
    for settings in (off, on):
        output = shown(stage, settings)
        assert output.whole
        assert side(output) == (SQUARE_PX if settings.fine_detail else SIZE_PX)
    told = [event.setting for event in stage.events if isinstance(event, SettingRefused)]
    assert sorted(told) == ["cut_out", "retouch"]
    stage.animator.close()


def test_a_matte_of_another_size_cuts_out_the_same_person(woman: Portrait) -> None:
    made = {size_px: cut_out(resized(woman.square, size_px)) for size_px in (SIZE_PX, SQUARE_PX)}
    for size_px, other_px in ((SIZE_PX, SQUARE_PX), (SQUARE_PX, SIZE_PX)):
        again = resized_matte(made[other_px], size_px)
        for name in ("alpha", "plate", "padded"):
            expected, got = getattr(made[size_px], name), getattr(again, name)
            assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert np.abs(again.alpha - made[size_px].alpha).mean() < 0.02
