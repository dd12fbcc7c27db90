"""Lids that are drawn shut over a portrait's open eyes."""

import itertools

import cv2
import numpy as np
import pytest

from mcnet.arrays import Rgb
from mcnet.media.canvas import brightness, pixels
from mcnet.media.head_motion import Head
from mcnet.media.lids import EYE_RINGS, DrawnLids
from mcnet.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from tests.media.heads import LEFT_EYE, RIGHT_EYE, SIDE_PX, Portrait, around, bundled_portrait, changed, with_eyes_at

BELOW_THE_BROW = (446, 342, 445, 444, 443, 442, 441, 413, 464, 453, 452, 451, 450, 449, 448, 261)
"""The outermost ring around the left eye."""


@pytest.fixture
def portrait() -> Portrait:
    return bundled_portrait()


def eye_of(rgb: Rgb, head: Head, points: tuple[int, ...]) -> Rgb:
    places = pixels(head.mesh[list(points)], rgb)
    (left, top), (right, bottom) = places.min(axis=0).astype(int), places.max(axis=0).astype(int) + 1
    return rgb[top:bottom, left:right]


def test_shut_lids_cover_the_eyes_and_little_more(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    shown = DrawnLids(*portrait).drawn(portrait.square, shut)
    eyes = [around(pixels(portrait.mesh[list(points)], shown), 20) for points in (RIGHT_EYE, LEFT_EYE)]
    assert not changed(shown, portrait.square)[~(eyes[0] | eyes[1])].any()
    for points in (RIGHT_EYE, LEFT_EYE):
        # An eye has dark and white in it, a lid is smooth skin but for the line of its lashes.
        before, after = (
            brightness(eye_of(rgb, portrait.head, points).astype(np.float32)) for rgb in (portrait.square, shown)
        )
        above_lashes = slice(0, max(3 * len(before) // 4, 1))
        edges_before, edges_after = (np.abs(np.diff(eye[above_lashes], axis=1)).mean() for eye in (before, after))
        assert edges_after < 0.33 * edges_before


def test_lashes_are_not_drawn_out_over_a_shut_lid(portrait: Portrait) -> None:
    """They cover most of what an open eye shows of its lid."""
    striped = portrait.square.copy()
    edge, fold, _ = (pixels(portrait.mesh[list(ring)], striped) for ring in EYE_RINGS[1])
    beneath = cv2.fillPoly(np.zeros(striped.shape[:2], np.uint8), [np.round(edge + 0.6 * (fold - edge)).astype(int)], 1)
    striped[(beneath > 0) & (np.arange(SIDE_PX) % 4 < 2)] = 0
    shut = with_eyes_at(portrait.head, 0.0)
    plain, shown = (
        DrawnLids(square, portrait.head).drawn(portrait.square, shut) for square in (portrait.square, striped)
    )
    left, right = sorted(edge[[0, 8], 0])
    middle = slice(int(left + 0.25 * (right - left)), int(right - 0.25 * (right - left)))
    meeting = pixels(shut.mesh[list(EYE_RINGS[1][0][1:8])], shown)
    lid = slice(int(fold[1:8, 1].min()) + 3, int(meeting[:, 1].mean()))
    assert lid.stop - lid.start > 5
    assert np.abs(shown[lid, middle].astype(int) - plain[lid, middle]).mean() < 3


SKIN, BLACK, MAKE_UP = (200, 150, 120), (12, 10, 14), (90, 100, 160)


def middle_of_lid(portrait: Portrait, above: int, below: int, colour: tuple[int, ...]) -> Rgb:
    """(5, 3): what a shut left lid shows in its middle where something of a colour covers what is between the fold and
    the brow, and the cheek: along so many of the nine points above the eye, and of those below.
    """
    covered = np.full_like(portrait.square, SKIN)
    _, fold, brow = (pixels(portrait.mesh[list(ring)], covered) for ring in EYE_RINGS[1])
    upper, lower = np.arange(9)[:above], np.arange(8, 17)[:below] % 16
    for points in (upper, lower):
        if len(points):
            band = np.concatenate((fold[points], brow[points][::-1]))
            cv2.fillPoly(covered, [np.round(band).astype(np.int32)], colour)
    shut = with_eyes_at(portrait.head, 0.0)
    shown = DrawnLids(covered, portrait.head).drawn(covered, shut)
    meeting = pixels(shut.mesh[list(EYE_RINGS[1][0][2:7])], shown)
    column, row = (0.55 * meeting + 0.45 * fold[2:7]).round().astype(int).T
    lid: Rgb = shown[row, column]
    return lid


@pytest.mark.parametrize(
    ("above", "below"), [(3, 0), (9, 0), (0, 9), (9, 9)], ids=["a strand", "an upper rim", "a lower rim", "both rims"]
)
def test_a_shut_lid_is_skin_where_something_dark_lies_around_the_eye(
    portrait: Portrait, above: int, below: int
) -> None:
    """It has the colour of the skin above the fold, if that is seen, else of that below."""
    lid = middle_of_lid(portrait, above, below, BLACK)
    assert np.abs(np.log(lid / np.array(SKIN))).max() < 0.3


@pytest.mark.parametrize("share", [0.5, 0.35, 0.2])
def test_a_lid_in_the_shade_is_no_lighter_than_what_is_around_it(portrait: Portrait, share: float) -> None:
    shaded = portrait.square.copy()
    _, fold, brow = (pixels(portrait.mesh[list(ring)], shaded) for ring in EYE_RINGS[1])
    left = int(pixels(portrait.mesh[[6]], shaded)[0, 0])  # from the bridge of the nose on
    shaded[:, left:] = share * shaded[:, left:]
    shut = with_eyes_at(portrait.head, 0.0)
    shown = DrawnLids(shaded, portrait.head).drawn(shaded, shut)
    meeting = pixels(shut.mesh[list(EYE_RINGS[1][0][2:7])], shown)
    lid, above = (
        brightness(shown[rows, columns].astype(np.float32)).mean()
        for columns, rows in (
            (0.55 * meeting + 0.45 * fold[2:7]).round().astype(int).T,
            (0.5 * fold[2:7] + 0.5 * brow[2:7]).round().astype(int).T,
        )
    )
    assert np.abs(np.log(lid / above)) < 0.3


def test_make_up_above_the_eye_is_on_the_lid_too(portrait: Portrait) -> None:
    lid = middle_of_lid(portrait, 9, 0, MAKE_UP)
    assert np.abs(np.log(lid / np.array(MAKE_UP))).max() < 0.2


@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_nothing_is_taken_from_elsewhere_in_the_portrait(portrait: Portrait, corner: tuple[int, int]) -> None:
    """What lies at the edges of what is drawn looks no farther than the outermost ring around the eye."""
    square = np.full_like(portrait.square, (200, 150, 120))
    square[~around(pixels(portrait.mesh[list(BELOW_THE_BROW)], square), 1)] = (0, 0, 255)
    lids, made = DrawnLids(square, portrait.head), np.full_like(portrait.square, (200, 150, 120))
    made[..., 0] = np.linspace(150, 250, SIDE_PX)
    left = around(pixels(portrait.mesh[list(LEFT_EYE)], made), 24)
    for share in (0.0, 0.3, 0.6):
        shift = portrait.head.shift + 0.003 * np.array((*corner, 0))
        shown = lids.drawn(made, with_eyes_at(portrait.head, share)._replace(shift=shift))
        assert changed(shown, made)[left].any()
        assert int(shown[left][:, 2].max()) < 150


def test_lids_come_down_without_a_jump(portrait: Portrait) -> None:
    lids = DrawnLids(*portrait)
    shown = [
        lids.drawn(portrait.square, with_eyes_at(portrait.head, share)).astype(int) for share in np.linspace(1, 0, 21)
    ]
    steps = [np.abs(after - before).sum() for before, after in itertools.pairwise(shown)]
    assert steps[0] == 0
    assert max(steps) < 0.35 * np.abs(shown[-1] - shown[0]).sum()


def test_a_network_shuts_lids_half_way_and_the_rest_is_drawn(portrait: Portrait) -> None:
    lids = DrawnLids(*portrait)
    for share, expected in ((1.0, 1.0), (0.7, 0.7), (0.3, 0.5), (0.0, 0.5)):
        head = with_eyes_at(portrait.head, share)
        posed = lids.opened(head)
        for upper, lower in (RIGHT_LID_PAIRS, LEFT_LID_PAIRS):
            before, after = (
                shape[list(lower), 1] - shape[list(upper), 1] for shape in (portrait.head.shape, posed.shape)
            )
            np.testing.assert_allclose(after, expected * before, atol=1e-9)
            # What lies between lids has come down with their middle, and goes back with it.
            iris = slice(468, 473) if upper == RIGHT_LID_PAIRS[0] else slice(473, 478)
            middles = [shape[[*upper, *lower], 1].mean() for shape in (head.shape, posed.shape)]
            np.testing.assert_allclose(posed.shape[iris, 1] - head.shape[iris, 1], middles[1] - middles[0], atol=1e-9)
        on_lids = [point for pairs in (*RIGHT_LID_PAIRS, *LEFT_LID_PAIRS) for point in pairs]
        others = np.delete(np.arange(468), on_lids)
        np.testing.assert_array_equal(posed.shape[others], head.shape[others])
    head = portrait.head
    assert lids.opened(head) is head


def test_narrow_eyes_of_a_portrait_are_not_shut(portrait: Portrait) -> None:
    narrow = with_eyes_at(portrait.head, 0.1)
    lids = DrawnLids(portrait.square, narrow)
    assert lids.drawn(portrait.square, with_eyes_at(portrait.head, 0.0)) is portrait.square


def test_an_eye_that_is_half_open_stays_the_network_s(portrait: Portrait) -> None:
    """What is seen between the lids is not drawn."""
    made = portrait.square.copy()
    made[around(pixels(portrait.mesh[list(LEFT_EYE)], made), 3)] = (0, 255, 0)
    half = with_eyes_at(portrait.head, 0.5)
    shown = DrawnLids(*portrait).drawn(made, half)
    places = pixels(half.mesh[[386, 374]], made)  # the middles of the lids
    x, y = places.mean(axis=0).round().astype(int)
    np.testing.assert_allclose(shown[y, x], (0, 255, 0), atol=15)  # soft edges come near
    assert changed(shown, made).any()


def test_lids_are_as_bright_as_what_is_around_the_eye_whatever_is_in_it(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    lids = DrawnLids(*portrait)
    folds = []
    for colour in (0, 255):
        made = portrait.square.copy()
        made[around(pixels(portrait.mesh[list(LEFT_EYE)], made), 0)] = colour
        shown = lids.drawn(made, shut)
        x, y = pixels(shut.mesh[[257]], made)[0].round().astype(int)  # the fold of the upper lid
        folds.append(shown[y - 1 : y + 2, x - 1 : x + 2].astype(float).mean())
    assert abs(folds[0] - folds[1]) < 3
    darker = (portrait.square * 0.9).astype(np.uint8)
    x, y = pixels(shut.mesh[[257]], darker)[0].round().astype(int)
    dark, bright = (
        lids.drawn(made, shut)[y - 1 : y + 2, x - 1 : x + 2].astype(float).mean() for made in (darker, portrait.square)
    )
    assert 0.85 < dark / bright < 0.95


def test_each_eye_has_its_own_skin_and_shuts_by_itself(portrait: Portrait) -> None:
    square = portrait.square.copy()
    square[around(pixels(portrait.mesh[[257, 259, 258]], square), 3)] = (0, 0, 255)  # on the left lid's fold
    wink = portrait.head.shape.copy()
    for upper, lower in zip(*LEFT_LID_PAIRS, strict=True):
        wink[upper] = wink[lower]
    shown = DrawnLids(square, portrait.head).drawn(portrait.square, portrait.head._replace(shape=wink))
    blue = (shown[..., 2].astype(int) - shown[..., 0] > 60).astype(bool)
    left = around(pixels(portrait.mesh[list(LEFT_EYE)], shown), 20)
    assert blue[left].any()
    assert not blue[~left].any()
    assert not changed(shown, portrait.square)[~left].any()
    narrow = portrait.head.shape.copy()
    narrow[list(RIGHT_LID_PAIRS[0])] = narrow[list(RIGHT_LID_PAIRS[1])]
    lids = DrawnLids(portrait.square, portrait.head._replace(shape=narrow))
    shown = lids.drawn(portrait.square, portrait.head._replace(shape=wink))
    assert changed(shown, portrait.square)[left].any()


def test_shut_lids_meet_in_a_dark_line(portrait: Portrait) -> None:
    shut = with_eyes_at(portrait.head, 0.0)
    shown = DrawnLids(*portrait).drawn(portrait.square, shut)
    x, y = pixels(shut.mesh[[386]], shown)[0].round().astype(int)
    column = brightness(shown[y - 6 : y + 7, x].astype(np.float32))
    assert 4 <= int(column.argmin()) <= 8
    assert column.min() < 0.75 * np.median(column)


def test_a_shut_eye_shows_no_white_at_its_corners(portrait: Portrait) -> None:
    """The mesh's corners lie on the eye, whose white goes on to there; blue stands in for it."""
    square = np.full((4 * SIDE_PX, 4 * SIDE_PX, 3), (200, 150, 0), np.uint8)
    skin = square.copy()
    edges = [pixels(portrait.mesh[list(rings[0])], square) for rings in EYE_RINGS]
    for edge in edges:
        cv2.fillPoly(square, [np.round(edge).astype(int)], (200, 150, 255))
    shown = DrawnLids(square, portrait.head).drawn(skin, with_eyes_at(portrait.head, 0.0))
    for edge in edges:
        corners = edge[[0, 8]].round().astype(int)
        (left, _), (right, _) = corners[corners[:, 0].argsort()]
        assert changed(shown, skin)[:, left:right].any(), "it is drawn"
        for x, y in corners:
            assert int(shown[y - 3 : y + 4, x - 3 : x + 4, 2].max()) < 8


def test_the_upper_lid_comes_all_the_way_down(portrait: Portrait) -> None:
    """Motion in space has lids meet at 0.7 of the gap, as it raises the lower one; drawn, they meet below that."""
    shape = portrait.head.shape.copy()
    for upper, lower in (*zip(*LEFT_LID_PAIRS, strict=True), *zip(*RIGHT_LID_PAIRS, strict=True)):
        shape[[upper, lower]] = 0.3 * shape[upper] + 0.7 * shape[lower]
    large: Rgb = np.asarray(cv2.resize(portrait.square, (4 * SIDE_PX,) * 2, interpolation=cv2.INTER_CUBIC), np.uint8)
    shown = DrawnLids(large, portrait.head).drawn(large, portrait.head._replace(shape=shape))
    for upper, lower in ((386, 374), (385, 380), (159, 145), (158, 153)):
        (x, top), (_, bottom) = pixels(portrait.mesh[[upper, lower]], shown)
        rows = slice(round(top), round(bottom + (bottom - top)))
        column = brightness(shown[rows, round(x) - 2 : round(x) + 3].astype(np.float32)).mean(axis=1)
        line = (rows.start + int(column.argmin()) - top) / (bottom - top)
        assert 0.8 < line < 1.05
