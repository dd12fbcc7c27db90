"""What is drawn into pictures of a portrait, on heads whose mouth and eyes are opened and shut here."""

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from mcnet.arrays import Rgb
from mcnet.media.bundled import bundled_faces
from mcnet.media.canvas import brightness, pixels
from mcnet.media.crop import SquareBox
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import Array, Head, mesh_in_square
from mcnet.media.retouch import Retouch, Retouching
from mcnet.mesh_points import INNER_LIPS, LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from tests.media.heads import with_eyes_at, with_jaw_down

SIDE_PX = 256
BELOW_THE_BROW = (446, 342, 445, 444, 443, 442, 441, 413, 464, 453, 452, 451, 450, 449, 448, 261)
"""The outermost ring around the left eye."""
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (263, 362, 386, 374)


class Portrait(NamedTuple):
    square: Rgb
    head: Head

    @property
    def mesh(self) -> Array:
        return self.head.mesh


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    square = bundled_faces(SIDE_PX, portraits=1, frames=1).sources[0]
    with FaceFinder() as finder:
        mesh_px = finder.find(square)[0].mesh_px
    mesh = mesh_in_square(mesh_px, SquareBox(SIDE_PX / 2, SIDE_PX / 2, SIDE_PX), SIDE_PX)
    return Portrait(square, Head.of(mesh))


def turned(head: Head, yaw_deg: float) -> Head:
    sine, cosine = math.sin(math.radians(yaw_deg)), math.cos(math.radians(yaw_deg))
    about_y = np.array(((cosine, 0, sine), (0, 1, 0), (-sine, 0, cosine)))
    return head._replace(rotation=about_y @ head.rotation)


def changed(one: Rgb, other: Rgb) -> np.ndarray:
    """(h, w): whether anything differs."""
    return np.asarray((one != other).any(axis=2))


def around(places_px: Array, margin_px: int) -> np.ndarray:
    """(h, w): what lies in the hull of places, and so far around it."""
    inside = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(places_px.round().astype(np.int32)), (1,))
    return cv2.dilate(inside, np.ones((2 * margin_px + 1,) * 2)) > 0


def eye_of(rgb: Rgb, head: Head, points: tuple[int, ...]) -> Rgb:
    places = pixels(head.mesh[list(points)], rgb)
    (left, top), (right, bottom) = places.min(axis=0).astype(int), places.max(axis=0).astype(int) + 1
    return rgb[top:bottom, left:right]


def test_a_portrait_at_rest_stays_as_it_is(portrait: Portrait) -> None:
    assert Retouch(*portrait).applied(portrait.square, portrait.head) is portrait.square


def test_an_opened_mouth_shows_a_dark_inside_and_teeth_between_the_lips_alone(portrait: Portrait) -> None:
    given = portrait.square.copy()
    opened = with_jaw_down(portrait.head, 0.6)
    shown = Retouch(*portrait).applied(given, opened)
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
    retouch, size = Retouch(*portrait), []
    for gap in (0.0, 0.03, 0.06, 0.1, 0.3):
        shown = retouch.applied(portrait.square, with_jaw_down(portrait.head, gap))
        size.append(float(np.abs(shown.astype(int) - portrait.square).sum()))
    assert size == sorted(size)
    assert size[0] == 0
    assert 0 < size[-2] < size[-1]


def test_an_open_portrait_keeps_its_own_teeth_for_a_while(portrait: Portrait) -> None:
    open_already = with_jaw_down(portrait.head, 0.25)
    retouch = Retouch(portrait.square, open_already)
    assert retouch.applied(portrait.square, open_already) is portrait.square
    assert retouch.applied(portrait.square, with_jaw_down(portrait.head, 0.28)) is portrait.square
    assert retouch.applied(portrait.square, with_jaw_down(portrait.head, 0.6)) is not portrait.square


def test_teeth_stay_where_the_skull_is(portrait: Portrait) -> None:
    retouch = Retouch(*portrait)
    edges = []
    for gap in (0.4, 0.6):
        opened = with_jaw_down(portrait.head, gap)
        shown = retouch.applied(portrait.square, opened)
        lips = pixels(opened.mesh[list(INNER_LIPS)], shown)
        middle = round(float(lips[:, 0].mean()))
        column = brightness(shown[:, middle].astype(np.float32))[int(lips[:, 1].min()) + 1 :]
        edges.append(int(np.argmax(np.diff(-column[:15]))))  # where it gets dark
    assert abs(edges[1] - edges[0]) <= 1


def test_shut_lids_cover_the_eyes_and_little_more(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    shown = Retouch(*portrait).applied(portrait.square, shut)
    eyes = [around(pixels(portrait.mesh[list(points)], shown), 20) for points in (RIGHT_EYE, LEFT_EYE)]
    assert not changed(shown, portrait.square)[~(eyes[0] | eyes[1])].any()
    for points in (RIGHT_EYE, LEFT_EYE):
        # An eye has dark and white in it, a lid is skin but for the line of its lashes.
        before, after = (
            brightness(eye_of(rgb, portrait.head, points).astype(np.float32)) for rgb in (portrait.square, shown)
        )
        upper_half = slice(0, max(len(before) // 2, 1))
        assert after[upper_half].std() < 0.7 * before[upper_half].std()


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_nothing_is_taken_from_elsewhere_in_the_portrait(portrait: Portrait, corner: tuple[int, int]) -> None:
    """What lies at the edges of what is drawn looks no farther than the outermost ring around the eye."""
    square = np.full_like(portrait.square, (200, 150, 120))
    square[~around(pixels(portrait.mesh[list(BELOW_THE_BROW)], square), 1)] = (0, 0, 255)
    retouch, made = Retouch(square, portrait.head), np.full_like(portrait.square, (200, 150, 120))
    made[..., 0] = np.linspace(150, 250, SIDE_PX)
    left = around(pixels(portrait.mesh[list(LEFT_EYE)], made), 24)
    for share in (0.0, 0.3, 0.6):
        shift = portrait.head.shift + 0.003 * np.array((*corner, 0))
        shown = retouch.applied(made, with_eyes_at(portrait.head, share)._replace(shift=shift))
        assert changed(shown, made)[left].any()
        assert int(shown[left][:, 2].max()) < 150


def test_lids_come_down_without_a_jump(portrait: Portrait) -> None:
    retouch = Retouch(*portrait)
    shown = [
        retouch.applied(portrait.square, with_eyes_at(portrait.head, share)).astype(int)
        for share in np.linspace(1, 0, 21)
    ]
    steps = [np.abs(after - before).sum() for before, after in itertools.pairwise(shown)]
    assert steps[0] == 0
    assert max(steps) < 0.35 * np.abs(shown[-1] - shown[0]).sum()


def test_a_network_shuts_lids_half_way_and_the_rest_is_drawn(portrait: Portrait) -> None:
    retouch = Retouch(*portrait)
    for share, expected in ((1.0, 1.0), (0.7, 0.7), (0.3, 0.5), (0.0, 0.5)):
        head = with_eyes_at(portrait.head, share)
        posed = retouch.posed(head)
        for upper, lower in (RIGHT_LID_PAIRS, LEFT_LID_PAIRS):
            before, after = (
                shape[list(lower), 1] - shape[list(upper), 1] for shape in (portrait.head.shape, posed.shape)
            )
            np.testing.assert_allclose(after, expected * before, atol=1e-9)
            # What lies between lids has come down with their middle, and goes back with it.
            iris = slice(468, 473) if upper == RIGHT_LID_PAIRS[0] else slice(473, 478)
            middles = [shape[[*upper, *lower], 1].mean() for shape in (head.shape, posed.shape)]
            np.testing.assert_allclose(posed.shape[iris, 1] - head.shape[iris, 1], middles[1] - middles[0], atol=1e-9)
        lids = [point for pairs in (*RIGHT_LID_PAIRS, *LEFT_LID_PAIRS) for point in pairs]
        others = np.delete(np.arange(468), lids)
        np.testing.assert_array_equal(posed.shape[others], head.shape[others])
    head = portrait.head
    assert retouch.posed(head) is head


def test_narrow_eyes_of_a_portrait_are_not_shut(portrait: Portrait) -> None:
    narrow = with_eyes_at(portrait.head, 0.1)
    retouch = Retouch(portrait.square, narrow)
    assert retouch.applied(portrait.square, with_eyes_at(portrait.head, 0.0)) is portrait.square


def test_a_portrait_without_colours_gets_none(portrait: Portrait) -> None:
    grey = np.repeat(portrait.square[..., 1:2], 3, axis=2)
    busy = with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    shown = Retouch(grey, portrait.head).applied(grey, busy)
    assert changed(shown, grey).any()
    assert int(np.ptp(shown.astype(int), axis=2).max()) <= 1


def test_a_larger_portrait_is_drawn_alike(portrait: Portrait) -> None:
    busy = with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    large: Rgb = np.asarray(cv2.resize(portrait.square, (2 * SIDE_PX,) * 2, interpolation=cv2.INTER_CUBIC), np.uint8)
    shown = Retouch(large, portrait.head).applied(large, busy)
    small = cv2.resize(shown, (SIDE_PX,) * 2, interpolation=cv2.INTER_AREA)
    expected = Retouch(*portrait).applied(portrait.square, busy)
    drawn = changed(expected, portrait.square)
    assert np.abs(small.astype(int) - expected)[drawn].mean() < 10


@pytest.mark.parametrize("yaw_deg", [-100, -40, 40, 100])
def test_turned_heads_are_drawn(portrait: Portrait, yaw_deg: float) -> None:
    busy = turned(with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0), yaw_deg)
    shown = Retouch(*portrait).applied(portrait.square, busy)
    hull = around(pixels(busy.mesh[:468], shown), 4)
    assert not changed(shown, portrait.square)[~hull].any()
    assert changed(shown, portrait.square).any() == (abs(yaw_deg) < 90)


@pytest.mark.parametrize("shift", [(0.0, 0.8), (0.9, 0.0), (-3.0, 0.0), (1e7, 1e7), (math.nan, 0.0)])
def test_a_face_that_leaves_the_picture_ends_nothing(portrait: Portrait, shift: tuple[float, float]) -> None:
    busy = with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    moved = busy._replace(shift=busy.shift + np.array((*shift, 0.0)))
    shown = Retouch(*portrait).applied(portrait.square, moved)
    assert shown.shape == portrait.square.shape
    if abs(shift[0]) > 2 or math.isnan(shift[0]):
        assert shown is portrait.square
    else:
        assert changed(shown, portrait.square).any()


@pytest.mark.parametrize("point", [152, 14, 159, 10])
def test_a_mesh_with_a_point_that_is_nowhere_is_left_alone(portrait: Portrait, point: int) -> None:
    busy = with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    busy.shape[point] = math.nan
    retouch = Retouch(*portrait)
    assert retouch.posed(busy) is busy
    assert retouch.applied(portrait.square, busy) is portrait.square
    assert Retouch(portrait.square, busy).applied(portrait.square, busy) is portrait.square, "nor is a portrait drawn"


def test_a_failure_is_told_and_the_picture_stays_until_it_is_tried_again(portrait: Portrait) -> None:
    class Failing(Retouch):
        tried = 0

        def applied(self, rgb: Rgb, head: Head, share: float = 1.0) -> Rgb:
            self.tried += 1
            if self.tried == 1:
                raise MemoryError("no room for teeth")
            return super().applied(rgb, head, share)

    told: list[Exception] = []
    failing, busy = Failing(*portrait), with_jaw_down(portrait.head, 0.6)
    retouching = Retouching(failing, told.append)
    for _ in range(3):
        assert retouching.applied(portrait.square, busy) is portrait.square
        assert retouching.posed(with_eyes_at(portrait.head, 0.0)).openings.eyes < 0.1, "as it is to be shown"
    assert retouching.failed
    assert [str(error) for error in told] == ["no room for teeth"]
    assert failing.tried == 1
    retouching.try_again()
    np.testing.assert_array_equal(
        retouching.applied(portrait.square, busy), Retouch(*portrait).applied(portrait.square, busy)
    )
    assert not retouching.failed


def test_the_same_is_drawn_whenever_it_is_asked_for(portrait: Portrait) -> None:
    retouch, busy = Retouch(*portrait), with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    first = retouch.applied(portrait.square, busy)
    retouch.applied(first, with_eyes_at(turned(busy, 20), 0.4))
    np.testing.assert_array_equal(retouch.applied(portrait.square, busy), first)


def test_an_eye_that_is_half_open_stays_the_network_s(portrait: Portrait) -> None:
    """What is seen between the lids is not drawn."""
    made = portrait.square.copy()
    made[around(pixels(portrait.mesh[list(LEFT_EYE)], made), 3)] = (0, 255, 0)
    half = with_eyes_at(portrait.head, 0.5)
    shown = Retouch(*portrait).applied(made, half)
    places = pixels(half.mesh[[386, 374]], made)  # the middles of the lids
    x, y = places.mean(axis=0).round().astype(int)
    np.testing.assert_allclose(shown[y, x], (0, 255, 0), atol=15)  # soft edges come near
    assert changed(shown, made).any()


def test_lids_are_as_bright_as_what_is_around_the_eye_whatever_is_in_it(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    retouch = Retouch(*portrait)
    folds = []
    for colour in (0, 255):
        made = portrait.square.copy()
        made[around(pixels(portrait.mesh[list(LEFT_EYE)], made), 0)] = colour
        shown = retouch.applied(made, shut)
        x, y = pixels(shut.mesh[[257]], made)[0].round().astype(int)  # the fold of the upper lid
        folds.append(shown[y - 1 : y + 2, x - 1 : x + 2].astype(float).mean())
    assert abs(folds[0] - folds[1]) < 3
    darker = (portrait.square * 0.9).astype(np.uint8)
    x, y = pixels(shut.mesh[[257]], darker)[0].round().astype(int)
    dark, bright = (
        retouch.applied(made, shut)[y - 1 : y + 2, x - 1 : x + 2].astype(float).mean()
        for made in (darker, portrait.square)
    )
    assert 0.85 < dark / bright < 0.95


def test_each_eye_has_its_own_skin_and_shuts_by_itself(portrait: Portrait) -> None:
    square = portrait.square.copy()
    square[around(pixels(portrait.mesh[[257, 259, 258]], square), 3)] = (0, 0, 255)  # on the left lid's fold
    wink = portrait.head.shape.copy()
    for upper, lower in zip(*LEFT_LID_PAIRS, strict=True):
        wink[upper] = wink[lower]
    shown = Retouch(square, portrait.head).applied(portrait.square, portrait.head._replace(shape=wink))
    blue = (shown[..., 2].astype(int) - shown[..., 0] > 60).astype(bool)
    left = around(pixels(portrait.mesh[list(LEFT_EYE)], shown), 20)
    assert blue[left].any()
    assert not blue[~left].any()
    assert not changed(shown, portrait.square)[~left].any()
    narrow = portrait.head.shape.copy()
    narrow[list(RIGHT_LID_PAIRS[0])] = narrow[list(RIGHT_LID_PAIRS[1])]
    retouch = Retouch(portrait.square, portrait.head._replace(shape=narrow))
    shown = retouch.applied(portrait.square, portrait.head._replace(shape=wink))
    assert changed(shown, portrait.square)[left].any()


def test_shut_lids_meet_in_a_dark_line(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    shown = Retouch(*portrait).applied(portrait.square, shut)
    x, y = pixels(shut.mesh[[386]], shown)[0].round().astype(int)
    column = brightness(shown[y - 6 : y + 7, x].astype(np.float32))
    assert 4 <= int(column.argmin()) <= 8
    assert column.min() < 0.75 * np.median(column)


def test_the_upper_lid_comes_all_the_way_down(portrait: Portrait) -> None:
    """Motion in space has lids meet at 0.7 of the gap, as it raises the lower one; drawn, they meet below that."""
    shape = portrait.head.shape.copy()
    for upper, lower in (*zip(*LEFT_LID_PAIRS, strict=True), *zip(*RIGHT_LID_PAIRS, strict=True)):
        shape[[upper, lower]] = 0.3 * shape[upper] + 0.7 * shape[lower]
    large: Rgb = np.asarray(cv2.resize(portrait.square, (4 * SIDE_PX,) * 2, interpolation=cv2.INTER_CUBIC), np.uint8)
    shown = Retouch(large, portrait.head).applied(large, portrait.head._replace(shape=shape))
    for upper, lower in ((386, 374), (385, 380), (159, 145), (158, 153)):
        (x, top), (_, bottom) = pixels(portrait.mesh[[upper, lower]], shown)
        rows = slice(round(top), round(bottom + (bottom - top)))
        column = brightness(shown[rows, round(x) - 2 : round(x) + 3].astype(np.float32)).mean(axis=1)
        line = (rows.start + int(column.argmin()) - top) / (bottom - top)
        assert 0.8 < line < 1.05


def test_what_is_drawn_is_seen_by_a_share(portrait: Portrait) -> None:
    retouch, busy = Retouch(*portrait), with_eyes_at(with_jaw_down(portrait.head, 0.6), 0.0)
    whole = retouch.applied(portrait.square, busy)
    assert retouch.applied(portrait.square, busy, 0.0) is portrait.square
    for share in (0.25, 0.75):
        shown = retouch.applied(portrait.square, busy, share)
        expected = (1 - share) * portrait.square + share * whole
        np.testing.assert_allclose(shown, expected, atol=1)
        # What the network leaves to the drawing is left to it by the same share.
        lids = [shape[[386, 374], 1] for shape in (busy.shape, retouch.posed(busy, share).shape)]
        half = np.diff(retouch.posed(busy).shape[[386, 374], 1])
        np.testing.assert_allclose(np.diff(lids[1]), (1 - share) * np.diff(lids[0]) + share * half)
    assert retouch.applied(portrait.square, portrait.head, 0.5) is portrait.square
    assert retouch.posed(portrait.head, 0.5) is portrait.head


def test_what_is_drawn_turns_with_the_head(portrait: Portrait) -> None:
    quarter = np.array(((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))  # as np.rot90 turns pictures
    busy = with_eyes_at(with_jaw_down(portrait.head, 0.5), 0.0)
    aside = busy._replace(rotation=quarter @ busy.rotation, shift=quarter @ busy.shift)
    retouch = Retouch(*portrait)
    upright = np.rot90(retouch.applied(portrait.square, busy))
    turned_aside = retouch.applied(np.ascontiguousarray(np.rot90(portrait.square)), aside)
    drawn = changed(upright, np.rot90(portrait.square))
    assert np.abs(turned_aside.astype(int) - upright)[drawn].mean() < 4


@pytest.mark.parametrize("gap", [0.4, 0.6])
def test_lower_teeth_show_above_the_lower_lip(portrait: Portrait, gap: float) -> None:
    opened = with_jaw_down(portrait.head, gap)
    shown = Retouch(*portrait).applied(portrait.square, opened)
    x, lip_y = pixels(opened.mesh[[14]], shown)[0].round().astype(int)
    rising = np.diff(brightness(shown[lip_y - 12 : lip_y - 1, x].astype(np.float32)))
    assert rising[-7:].max() > 8, "from the tongue to the teeth it gets brighter"
    assert abs(rising[:3]).max() < 5


def test_dim_portraits_have_dim_teeth(portrait: Portrait) -> None:
    opened = with_jaw_down(portrait.head, 0.4)
    brightest = []
    for light in (1.0, 0.15):
        square = (portrait.square * light).astype(np.uint8)
        shown = Retouch(square, portrait.head).applied(square, opened)
        drawn = around(pixels(opened.mesh[list(INNER_LIPS)], shown), 0)
        brightest.append(
            brightness(shown[drawn].astype(np.float32)).max() / brightness(square.astype(np.float32)).max()
        )
    assert brightest[1] < 1.4 * brightest[0]
