"""The inside of a mouth that is drawn into a portrait whose own is shut."""

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.media.canvas import brightness, pixels
from mcnet.media.head_motion import Head
from mcnet.media.mouth import MouthInterior
from mcnet.mesh_points import INNER_LIPS, LIP_PAIRS
from tests.media.heads import Portrait, around, bundled_portrait, changed, turned, with_jaw_down


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


def grinning(head: Head, gap: float, width: float = 1.0) -> Head:
    """The head with its lips drawn apart from each other, and so much wider, while its teeth stay where they are."""
    shape = head.shape.copy()
    upper, lower = (list(points) for points in LIP_PAIRS)
    shape[upper, 1] -= gap / 2
    shape[lower, 1] += gap / 2
    shape[list(INNER_LIPS), 0] *= width
    return head._replace(shape=shape)


@pytest.mark.parametrize("gap", [0.12, 0.22])
def test_teeth_of_a_grin_are_bright_from_side_to_side(portrait: Portrait, gap: float) -> None:
    """Narrow as it is, the lips' shadow does not lie on all of it; canines are hardly darker than incisors, and only
    corners are dark.
    """
    head, mouth = portrait.head, MouthInterior(*portrait)
    per_face = head.scale * portrait.square.shape[0] / 2

    def across(opened: float, places: tuple[float, ...]) -> NDArray[np.float32]:
        grin = grinning(head, opened, 1.35)
        shown = brightness(mouth.drawn(portrait.square, grin).astype(np.float32))
        x, y = pixels(grin.mesh[[13, 14]], portrait.square).mean(axis=0).round().astype(int)
        sides = [[round(x - at * per_face), round(x + at * per_face)] for at in places]
        return np.asarray(shown[y - 1 : y + 2].max(axis=0)[sides].mean(axis=1))

    cheeks = brightness(
        np.median(portrait.square[around(pixels(head.mesh[[50, 205, 187, 123]], portrait.square), 0)], axis=0)
    )
    incisors, canines, molars = across(gap, (0.08, 0.32, 0.49))
    assert incisors > cheeks
    assert incisors > 0.95 * across(0.4, (0.08,))[0]
    assert canines > 0.65 * incisors
    assert 0.2 * incisors < molars < 0.6 * incisors


def test_a_portrait_that_shows_its_teeth_has_more_like_them(portrait: Portrait) -> None:
    own = np.array((200, 195, 150))
    parted, opened = with_jaw_down(portrait.head, 0.12), grinning(portrait.head, 0.4)
    (x, y), _ = pixels(opened.mesh[[13, 14]], portrait.square).round().astype(int)
    between_lips = around(pixels(parted.mesh[list(INNER_LIPS)], portrait.square), 0)

    def teeth(colour: NDArray[np.int_], head: Head) -> NDArray[np.float32]:
        square = portrait.square.copy()
        square[between_lips] = colour
        shown = MouthInterior(square, head).drawn(square, opened)
        middle = shown[y + 2 : y + 10, x - 2 : x + 3].reshape(-1, 3).astype(np.float32)
        return np.asarray(middle[brightness(middle) >= np.quantile(brightness(middle), 0.8)].mean(axis=0))

    np.testing.assert_allclose(teeth(own, parted), own, atol=10)
    usual = teeth(own, portrait.head)  # whose lips are shut, so that these are no teeth
    assert np.abs(usual - own).max() > 20
    for no_teeth in ((255, 175, 175), (90, 85, 80)):  # a tongue in the sun; the dark
        np.testing.assert_array_equal(teeth(np.array(no_teeth), parted), teeth(np.array(no_teeth), portrait.head))


def test_teeth_that_a_portrait_shows_stay_on_its_skull_as_they_are(portrait: Portrait) -> None:
    """Their pixels, neither stretched over a wide mouth nor gone with the jaw."""
    teeth, mark = np.array((200, 195, 150)), np.array((120, 200, 120))
    parted, opened = with_jaw_down(portrait.head, 0.2), with_jaw_down(portrait.head, 0.6)
    square = portrait.square.copy()
    square[around(pixels(parted.mesh[list(INNER_LIPS)], square), 0)] = teeth
    (x, upper_y), (_, lower_y) = pixels(parted.mesh[[13, 14]], square).round().astype(int).tolist()
    square[upper_y + 3 : lower_y - 3, x - 2 : x + 3] = mark
    mouth = MouthInterior(square, parted)
    assert mouth.drawn(square, parted) is square
    for head, turned_px in ((opened, 0), (turned(opened, 10), 4)):
        shown = mouth.drawn(square, head).astype(int)
        marked = (shown[..., 1] > 130) & (shown[..., 1] - shown[..., 0] > 40)
        rows, columns = np.nonzero(marked)
        assert abs(rows.mean() - (upper_y + lower_y) / 2) < 2
        assert np.ptp(rows) < lower_y - upper_y
        assert abs(columns.mean() - x) < 2 + turned_px
        below = shown[lower_y + 3 : lower_y + 6, x - 6 : x + 7]
        assert brightness(below.astype(np.float32)).mean() < 0.5 * brightness(teeth.astype(np.float32))


def test_lower_teeth_and_the_dark_between_are_no_upper_teeth(portrait: Portrait) -> None:
    """What an open mouth shows goes with its jaw: the network moves it, until all of it is drawn."""
    open_already, opened = with_jaw_down(portrait.head, 0.4), with_jaw_down(portrait.head, 0.8)
    square = portrait.square.copy()
    square[around(pixels(open_already.mesh[list(INNER_LIPS)], square), 0)] = (60, 30, 30)
    x, lower_y = pixels(open_already.mesh[[14]], square)[0].round().astype(int)
    square[lower_y - 5 : lower_y - 1, x - 8 : x + 9] = (205, 200, 180)
    mouth = MouthInterior(square, open_already)
    assert mouth.drawn(square, with_jaw_down(portrait.head, 0.45)) is square
    shown = brightness(mouth.drawn(square, opened)[lower_y - 5 : lower_y - 1, x - 8 : x + 9].astype(np.float32))
    assert shown.max() < 100


@pytest.mark.parametrize("teeth", [None, (200, 195, 150)], ids=["shut", "smiling"])
def test_no_picture_jumps_as_a_mouth_opens(portrait: Portrait, teeth: tuple[int, int, int] | None) -> None:
    head = portrait.head if teeth is None else with_jaw_down(portrait.head, 0.2)
    square = portrait.square.copy()
    if teeth is not None:
        square[around(pixels(head.mesh[list(INNER_LIPS)], square), 0)] = teeth
    mouth = MouthInterior(square, head)
    shown = [mouth.drawn(square, with_jaw_down(head, gap)).astype(int) for gap in np.linspace(0, 0.3, 151)]
    steps = [np.abs(one - other).max(axis=-1) for one, other in itertools.pairwise(shown)]
    assert max(float(cv2.blur(step.astype(np.float32), (5, 5)).max()) for step in steps) < 30


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
