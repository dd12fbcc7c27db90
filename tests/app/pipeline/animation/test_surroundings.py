"""What a portrait's photograph shows around its square, in the call's pictures."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.pipeline.animation.source_store import SourceStore
from app.pipeline.events import SettingRefused
from app.pipeline.output.output_frame import OutputFrame
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.engine import resized
from mcnet.media.crop import SquareBox
from mcnet.media.faces import Face
from mcnet.media.matte import Matte, cut_out
from mcnet.media.surroundings import NO_MARGINS, Margins
from tests.app.fakes import wait_until
from tests.app.pipeline.animation.stage import SETTINGS, Stage

ALONE = SETTINGS
AROUND = dataclasses.replace(SETTINGS, surroundings=True)
CUT = dataclasses.replace(AROUND, cut_out=True)


@pytest.fixture
def wide(woman: Portrait) -> Portrait:
    """The portrait as it lies in a photograph that shows more: to the right a grey wall, above a white one."""
    height, width = woman.rgb.shape[:2]
    rgb = np.full((height + 60, width + 200, 3), 120, np.uint8)
    rgb[:60] = 255
    rgb[60:, :width] = woman.rgb
    box = SquareBox(woman.box.center_x, woman.box.center_y + 60, woman.box.side)
    return dataclasses.replace(woman, rgb=rgb, box=box)


def shown(stage: Stage, settings: LiveSettings) -> OutputFrame:
    output = stage.step(settings).output
    assert output is not None
    return output


def test_it_is_seen_where_it_is_wished_and_in_every_state(face: Face, wide: Portrait) -> None:
    stage = Stage(face, wide)
    for state in (State.LIVE, State.HOLD, State.EASING, State.IDLE):
        stage.finder.face = face if state is State.LIVE else None
        assert stage.until(state, AROUND).output is not None
        for settings in (ALONE, AROUND, ALONE, AROUND):  # a switch counts at once
            output = shown(stage, settings)
            assert output.state is state
            assert output.avatar is not None
            margins = Margins(*output.margins)
            assert any(margins) == settings.surroundings
            assert margins.side(output.avatar) == output.avatar.shape[1] - margins.left - margins.right == 256
    assert {"surround"} < set(stage.timed)


def test_a_portrait_that_rests_is_shown_as_its_photograph_is(face: Face, wide: Portrait) -> None:
    stage = Stage(face, wide)
    stage.until(State.LIVE, AROUND)
    stage.finder.face = None
    stage.until(State.IDLE, AROUND)
    output = shown(stage, AROUND)
    expected = wide.surrounded(256)
    assert output.margins == expected.margins
    assert expected.margins.right == 102
    assert expected.margins.top > 30
    avatar = output.avatar
    assert avatar is not None
    outside = np.ones(avatar.shape[:2], bool)
    expected.margins.square(outside)[:] = False
    # The fake's picture is its own; its flow is still.
    assert np.abs(avatar[outside].astype(int) - expected.rgb[outside].astype(int)).max() <= 1
    assert (avatar[60:, -20:] == 120).all()


def test_a_portrait_whose_photograph_ends_with_it_is_its_square(face: Face, woman: Portrait) -> None:
    whole = dataclasses.replace(woman, rgb=woman.square, box=SquareBox(256, 256, 512))
    stage = Stage(face, whole)
    output = stage.until(State.LIVE, AROUND).output
    assert output is not None
    assert output.avatar is not None
    assert (output.margins, output.avatar.shape) == (NO_MARGINS, (256, 256, 3))


def test_a_photograph_that_was_turned_is_seen_turned(wide: Portrait) -> None:
    entry = dataclasses.replace(wide.entry, angle_deg=90.0)
    turned = dataclasses.replace(wide, entry=entry, rgb=np.ascontiguousarray(np.rot90(wide.rgb)))
    assert np.abs(turned.surrounded(256).rgb.astype(int) - wide.surrounded(256).rgb).max() <= 1
    for portrait in (turned, wide):
        assert portrait.margins(256) == portrait.surrounded(256).margins


def test_who_is_cut_out_is_so_with_what_is_around_and_once(
    face: Face, wide: Portrait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Margins] = []

    def counted(picture: Rgb, margins: Margins) -> Matte:
        made.append(margins)
        return cut_out(picture, margins)

    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", counted)
    for _ in range(2):  # in this run and the next
        stage = Stage(face, wide, store=SourceStore(tmp_path))
        wait_until(lambda stage=stage: shown(stage, CUT).person is not None, "the person is cut out")  # type: ignore[misc]
        plates: dict[tuple[int, ...], Rgb] = {}
        margins, matte = wide.surrounded(256).margins, cut_out(*wide.surrounded(256))
        for settings in (CUT, dataclasses.replace(CUT, surroundings=False)) * 2:
            output = shown(stage, settings)
            assert output.person is not None
            assert output.avatar is not None
            size = output.avatar.shape[:2]
            assert output.person.cutout.alpha.shape == output.person.plate.shape[:2] == size
            assert (size == (256, 256)) is not settings.surroundings
            plates.setdefault(size, output.person.plate)
            square = Margins(*output.margins).square(output.person.plate)
            np.testing.assert_array_equal(square, margins.square(matte.plate))
            assert output.person.plate is plates[size]  # what is blurred of it once stays so
        stage.animator.close()
    assert made == [wide.surrounded(256).margins]


def test_others_who_stand_apart_are_neither_cut_out_nor_in_the_background(woman: Portrait) -> None:
    """The same woman once more, small, beside the square."""
    small = resized(woman.square, 128)
    rgb = np.full((700, 1100, 3), 200, np.uint8)
    rgb[188:700, 300:812] = woman.square
    rgb[300:428, 940:1068] = small
    portrait = dataclasses.replace(woman, rgb=rgb, box=SquareBox(556, 444, 512))
    picture, margins = portrait.surrounded(256)
    matte = cut_out(picture, margins)
    alpha = matte.alpha
    assert margins.right > 80
    right = np.s_[:, 256 + margins.left + 55 :]
    assert (picture[right] < 60).any()
    assert matte.plate[right].min() > 100  # nor is she seen in the background
    assert alpha[:, 256 + margins.left + 55 :].max() < 0.5
    assert margins.square(alpha)[150, 128] == 1


@pytest.mark.parametrize("breaks", ["around_animated", "Portrait.surrounded"])
def test_where_it_fails_the_square_goes_out_alone_and_it_is_told_once(
    face: Face, wide: Portrait, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError("no room for shoulders")

    stage = Stage(face, wide)
    wait_until(lambda: shown(stage, CUT).person is not None, "the person is cut out")
    with monkeypatch.context() as patch:
        if breaks == "around_animated":
            patch.setattr("app.pipeline.animation.finish.around_animated", no_room)
        else:
            stage.animator.set_portrait(dataclasses.replace(wide))
            patch.setattr("app.pipeline.portraits.surrounded", no_room)
        for settings in (CUT, AROUND, CUT):
            output = shown(stage, settings)
            assert output.margins == NO_MARGINS
            assert output.avatar is not None
            assert output.avatar.shape == (256, 256, 3)
            if output.person is not None:
                assert output.person.cutout.alpha.shape == output.person.plate.shape[:2] == (256, 256)
    told = [event for event in stage.events if isinstance(event, SettingRefused) and event.setting == "surroundings"]
    assert len(told) == 1
    assert "no room for shoulders" in str(told[0].message)
    assert not any(shown(stage, AROUND).margins)  # not with every frame anew
    stage.animator.try_again(surroundings=True)
    assert any(shown(stage, AROUND).margins)
    stage.animator.close()


def test_what_fails_in_one_size_is_not_tried_in_the_other_and_what_rests_is_made_anew(
    face: Face, wide: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def no_room(*_: object) -> None:
        tried.append(1)
        raise MemoryError("no room for shoulders")

    stage = Stage(face, wide)
    stage.until(State.LIVE, ALONE)
    stage.finder.face = None
    stage.until(State.IDLE, ALONE)
    with monkeypatch.context() as patch:
        patch.setattr("app.pipeline.animation.finish.around_animated", no_room)
        for fine_detail in (False, True, False, True):
            assert not any(shown(stage, dataclasses.replace(AROUND, fine_detail=fine_detail)).margins)
    assert len(tried) == 1
    settings = dataclasses.replace(AROUND, fine_detail=True)
    stage.animator.try_again(surroundings=True)
    assert any(shown(stage, settings).margins)


@pytest.mark.parametrize("fine_detail", [False, True])
def test_it_has_the_size_of_the_pictures(face: Face, wide: Portrait, fine_detail: bool) -> None:
    settings = dataclasses.replace(AROUND, fine_detail=fine_detail)
    output = Stage(face, wide).until(State.LIVE, settings).output
    assert output is not None
    assert output.avatar is not None
    assert Margins(*output.margins).side(output.avatar) == (512 if fine_detail else 256)
    assert output.margins == wide.surrounded(512 if fine_detail else 256).margins


def test_where_the_detail_fails_in_mid_call_it_is_seen_in_the_networks_size(
    face: Face, wide: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room for pores")

    settings = dataclasses.replace(CUT, fine_detail=True)
    stage = Stage(face, wide)
    wait_until(lambda: shown(stage, settings).person is not None, "the person is cut out")
    monkeypatch.setattr("mcnet.media.fine_detail.FineDetail.added", no_room)
    output = shown(stage, settings)
    assert output.avatar is not None
    assert output.person is not None
    assert output.margins == wide.surrounded(256).margins
    assert output.person.cutout.alpha.shape == output.person.plate.shape[:2] == output.avatar.shape[:2]
    stage.animator.close()
