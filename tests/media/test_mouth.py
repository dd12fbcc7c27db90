"""The inside of a mouth that is drawn into a portrait whose own is shut."""

import numpy as np
import pytest

from mcnet.media.canvas import brightness, pixels
from mcnet.media.mouth import MouthInterior
from mcnet.mesh_points import INNER_LIPS, LIP_PAIRS
from tests.media.heads import Portrait, around, bundled_portrait, changed, with_jaw_down


@pytest.fixture
def portrait() -> Portrait:
    return bundled_portrait()


def test_an_opened_mouth_shows_a_dark_inside_and_teeth_between_the_lips_alone(portrait: Portrait) -> None:
    given = portrait.square.copy()
    opened = with_jaw_down(portrait.head, 0.6)
    shown = MouthInterior(*portrait).drawn(given, opened)
    np.testing.assert_array_equal(given, portrait.square)  # what was given stays
    lips = pixels(opened.mesh[list(INNER_LIPS)], shown)
    difference = changed(shown, portrait.square)
    assert not difference[~around(lips, 3)].any()
    inside = around(lips, 0)
    assert difference[inside].mean() > 0.9
    middle = round(float(lips[:, 0].mean()))
    column = brightness(shown[inside[:, middle], middle].astype(np.float32))
    lips_brightness = float(brightness(portrait.square[inside].astype(np.float32)).mean())
    third = len(column) // 3
    assert column[:third].max() > 2 * column[third : 2 * third].mean()  # upper teeth above the cavity
    assert column[third : 2 * third].mean() < 0.5 * lips_brightness


def test_a_mouth_s_inside_comes_with_its_opening(portrait: Portrait) -> None:
    mouth, size = MouthInterior(*portrait), []
    for gap in (0.0, 0.03, 0.06, 0.1, 0.3):
        shown = mouth.drawn(portrait.square, with_jaw_down(portrait.head, gap))
        size.append(float(np.abs(shown.astype(int) - portrait.square).sum()))
    assert size == sorted(size)
    assert size[0] == 0
    assert 0 < size[-2] < size[-1]


def test_an_open_portrait_keeps_its_own_teeth_for_a_while(portrait: Portrait) -> None:
    open_already = with_jaw_down(portrait.head, 0.25)
    mouth = MouthInterior(portrait.square, open_already)
    assert mouth.drawn(portrait.square, open_already) is portrait.square
    assert mouth.drawn(portrait.square, with_jaw_down(portrait.head, 0.28)) is portrait.square
    assert mouth.drawn(portrait.square, with_jaw_down(portrait.head, 0.6)) is not portrait.square


def test_teeth_stay_where_the_skull_is(portrait: Portrait) -> None:
    mouth = MouthInterior(*portrait)
    edges = []
    for gap in (0.4, 0.6):
        opened = with_jaw_down(portrait.head, gap)
        shown = mouth.drawn(portrait.square, opened)
        lips = pixels(opened.mesh[list(INNER_LIPS)], shown)
        middle = round(float(lips[:, 0].mean()))
        column = brightness(shown[:, middle].astype(np.float32))[int(lips[:, 1].min()) + 1 :]
        edges.append(int(np.argmax(np.diff(-column[:15]))))  # where it gets dark
    assert abs(edges[1] - edges[0]) <= 1


@pytest.mark.parametrize("gap", [0.4, 0.6])
def test_lower_teeth_show_above_the_lower_lip(portrait: Portrait, gap: float) -> None:
    opened = with_jaw_down(portrait.head, gap)
    shown = MouthInterior(*portrait).drawn(portrait.square, opened)
    x, lip_y = pixels(opened.mesh[[14]], shown)[0].round().astype(int)
    rising = np.diff(brightness(shown[lip_y - 12 : lip_y - 1, x].astype(np.float32)))
    assert rising[-7:].max() > 8, "from the tongue to the teeth it gets brighter"
    assert abs(rising[:3]).max() < 5


def test_gums_show_above_teeth_where_the_upper_lip_is_raised_far(portrait: Portrait) -> None:
    opened = with_jaw_down(portrait.head, 0.4)
    shape = opened.shape.copy()
    shape[list(LIP_PAIRS[0]), 1] -= 0.35
    raised = opened._replace(shape=shape)
    shown = MouthInterior(*portrait).drawn(portrait.square, raised)
    (x, upper_y), (_, lower_y) = pixels(raised.mesh[[13, 14]], shown).round().astype(int).tolist()
    column = shown[upper_y + 2 : lower_y - 1, x - 3 : x + 4].mean(axis=1, dtype=np.float32)
    teeth = int(np.argmax(column[:, 2]))  # the whitest
    assert teeth > 3
    gums, cavity = column[:3].mean(axis=0), column[(teeth + len(column)) // 2 - 1]
    assert gums[0] > gums[1] + 20, "they are red"
    assert brightness(cavity) < 0.8 * brightness(gums) < 0.8 * brightness(column[teeth])


def test_dim_portraits_have_dim_teeth(portrait: Portrait) -> None:
    opened = with_jaw_down(portrait.head, 0.4)
    brightest = []
    for light in (1.0, 0.15):
        square = (portrait.square * light).astype(np.uint8)
        shown = MouthInterior(square, portrait.head).drawn(square, opened)
        drawn = around(pixels(opened.mesh[list(INNER_LIPS)], shown), 0)
        brightest.append(
            brightness(shown[drawn].astype(np.float32)).max() / brightness(square.astype(np.float32)).max()
        )
    assert brightest[1] < 1.4 * brightest[0]
