"""What a photograph shows around the animated square."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.crop import SquareBox, crop, turned
from mcnet.media.surroundings import (
    FARTHEST,
    NO_MARGINS,
    Margins,
    Part,
    Surrounded,
    around_animated,
    moving,
    places_px,
    surrounded,
)

SIDE, CELLS = 64, 64


def photograph(width: int = 300, height: int = 200) -> Rgb:
    """Soft colours, another one everywhere: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((x * 255 // width, y * 255 // height, (x // 2 + y // 2) % 256), axis=-1).astype(np.uint8)


def still(by_x: float = 0.0, by_y: float = 0.0) -> NDArray[np.float32]:
    """The motion by which everything is moved to the left and up by so much, in [-1, 1]."""
    line = np.linspace(-1, 1, CELLS, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1) + np.array((by_x, by_y), np.float32)


def whole(picture: NDArray[np.generic]) -> Part:
    return Part(0, 0, picture.shape[1], picture.shape[0])


def square_in(box: SquareBox, rgb: Rgb) -> Rgb:
    return crop(rgb, box, SIDE)


@pytest.mark.parametrize(
    ("box", "margins"),
    [
        (SquareBox(150, 100, 100), Margins(25, 9, 25, 9)),  # 0.4 and 0.15 of the side, and no more
        (SquareBox(60, 100, 100), Margins(6, 9, 25, 9)),  # the photograph ends
        (SquareBox(40, 40, 100), Margins(0, 0, 25, 9)),  # the square reaches beyond it
        (SquareBox(150, 100, 400), NO_MARGINS),
    ],
)
def test_what_is_around_is_seen_as_far_as_the_photograph_goes(box: SquareBox, margins: Margins) -> None:
    rgb = photograph()
    square = square_in(box, rgb)
    got = surrounded(rgb, box, square)
    assert got.margins == margins
    assert got.rgb.shape == (SIDE + margins.top + margins.bottom, SIDE + margins.left + margins.right, 3)
    np.testing.assert_array_equal(margins.square(got.rgb), square)
    scale = box.side / SIDE
    for row in range(0, len(got.rgb), 7):
        for column in range(0, got.rgb.shape[1], 7):
            x = box.center_x + (column - margins.left + 0.5 - SIDE / 2) * scale
            y = box.center_y + (row - margins.top + 0.5 - SIDE / 2) * scale
            if 4 < x < 296 and 4 < y < 196:
                expected = rgb[round(y - 0.5), round(x - 0.5), :2].astype(int)
                assert np.abs(got.rgb[row, column, :2].astype(int) - expected).max() <= 3


@pytest.mark.parametrize("angle_deg", [90.0, 180.0, 270.0, -90.0])
def test_a_photograph_on_its_side_is_as_if_it_had_been_turned_before(angle_deg: float) -> None:
    rgb = photograph()
    whole_one = turned(rgb, angle_deg)
    box = SquareBox(whole_one.shape[1] / 2 + 10, whole_one.shape[0] / 2 - 5, 100)
    got = surrounded(rgb, box, square_in(box, whole_one), angle_deg=angle_deg)
    expected = surrounded(whole_one, box, square_in(box, whole_one))
    assert got.margins == expected.margins
    assert any(got.margins)
    assert np.abs(got.rgb.astype(int) - expected.rgb.astype(int)).max() <= 1


@pytest.mark.parametrize("angle_deg", [8.0, -20.0, 98.0])
def test_of_a_photograph_that_was_straightened_nothing_is_seen_beyond_its_slanted_edge(angle_deg: float) -> None:
    """Its border is red; what a turned picture has beyond that is red as well."""
    rgb = photograph(400, 300)
    rgb[:2] = rgb[-2:] = (255, 0, 0)
    rgb[:, :2] = rgb[:, -2:] = (255, 0, 0)
    whole_one = turned(rgb, angle_deg)
    for x, y in ((0.0, 0.0), (60.0, 0.0), (-40.0, 50.0)):
        box = SquareBox(whole_one.shape[1] / 2 + x, whole_one.shape[0] / 2 + y, 100)
        got = surrounded(rgb, box, square_in(box, whole_one), angle_deg=angle_deg)
        outside = np.ones(got.rgb.shape[:2], bool)
        got.margins.square(outside)[:] = False
        strayed = (got.rgb[..., 0] > 220) & (got.rgb[..., 1] < 30) & outside
        assert strayed.sum() <= 12  # a corner may touch the border
        if (x, y) == (0, 0):
            assert min(got.margins) > 2
    narrow = SquareBox(whole_one.shape[1] / 2, whole_one.shape[0] / 2, 280)  # reaches beyond the slanted edge itself
    assert surrounded(rgb, narrow, square_in(narrow, whole_one), angle_deg=angle_deg).margins == NO_MARGINS


def test_far_from_the_square_everything_rests() -> None:
    rgb = photograph(900, 600)
    box = SquareBox(450, 300, 100)
    portrait = surrounded(rgb, box, square_in(box, rgb), FARTHEST)
    assert portrait.margins == (128, 128, 128, 128)
    shown = around_animated(portrait, square_in(box, rgb), still(by_x=0.3))
    part = moving(SIDE, portrait.margins)
    assert part == (96, 96, 128, 128)
    rests = np.ones(shown.shape[:2], bool)
    part.of(rests)[:] = False
    np.testing.assert_array_equal(shown[rests], portrait.rgb[rests])
    assert np.abs(shown[~rests].astype(int) - portrait.rgb[~rests].astype(int)).max() > 5


def test_at_rest_nothing_changes() -> None:
    box = SquareBox(150, 100, 100)
    portrait = surrounded(photograph(), box, square_in(box, photograph()))
    shown = around_animated(portrait, square_in(box, photograph()), still())
    assert np.abs(shown.astype(int) - portrait.rgb.astype(int)).max() <= 1


def test_without_margins_the_square_itself_is_shown() -> None:
    square = photograph(SIDE, SIDE)
    assert around_animated(Surrounded(square, NO_MARGINS), square, still(0.3)) is square


def test_the_network_is_seen_inside_and_the_photograph_outside_with_no_seam() -> None:
    """The network's picture is darker by 60 all over."""
    grey = np.full((200, 300, 3), 160, np.uint8)
    box = SquareBox(150, 100, 100)
    portrait = surrounded(grey, box, square_in(box, grey))
    shown = around_animated(portrait, np.full((SIDE, SIDE, 3), 100, np.uint8), still()).astype(int)
    margins = portrait.margins
    assert (margins.square(shown)[10:-10, 10:-10] == 100).all()
    outside = shown.copy()
    margins.square(outside)[:] = 160
    assert np.abs(outside - 160).max() <= 1
    for steps in (np.diff(shown, axis=0), np.diff(shown, axis=1)):
        assert np.abs(steps).max() <= 32  # of the 60, within a twentieth of the side on either hand


def test_what_is_around_moves_with_the_border_and_ever_less() -> None:
    margins = Margins(40, 0, 40, 0)
    wide = np.zeros((SIDE, SIDE + 80), np.float32)
    x, y = places_px(still(by_x=0.25), SIDE, margins, whole(wide))
    by_px = x - np.arange(wide.shape[1], dtype=np.float32)
    assert np.abs(y - np.arange(SIDE)[:, None]).max() < 0.01
    np.testing.assert_allclose(by_px[:, 40:-40], 0.25 * (SIDE - 1) / 2, atol=0.01)
    for outwards in (by_px[:, 40::-1], by_px[:, -41:]):
        assert (np.diff(outwards, axis=1) <= 1e-5).all()
        assert np.abs(np.diff(outwards, axis=1)).max() < 1  # nothing is folded
        np.testing.assert_allclose(outwards[:, 36:], 0, atol=0.01)  # half the side from the square


def test_a_part_of_the_places_is_that_part_of_all() -> None:
    margins, wide = Margins(9, 5, 12, 3), np.zeros((SIDE + 8, SIDE + 21), np.float32)
    noise = np.random.default_rng(0).normal(0, 0.01, (CELLS, CELLS, 2)).astype(np.float32)
    everywhere = places_px(still() + noise, SIDE, margins, whole(wide))
    for part in (Part(0, 0, 30, 5), Part(40, 20, 45, 52), Part(3, 60, 7, 2)):
        for got, expected in zip(places_px(still() + noise, SIDE, margins, part), everywhere, strict=True):
            np.testing.assert_allclose(got, part.of(expected), atol=0.05)  # OpenCV places in 1/32 of a cell


def test_above_a_head_that_comes_down_the_photograph_is_seen_and_no_border_drawn_out() -> None:
    """What the network makes there is red: it knows nothing of what is above the square."""
    rgb = photograph()
    box = SquareBox(150, 110, 100)
    portrait = surrounded(rgb, box, square_in(box, rgb))
    lowered = still(by_y=-0.2)
    network = cv2.remap(
        square_in(box, rgb), *places_px(lowered, SIDE, NO_MARGINS, Part(0, 0, SIDE, SIDE)), cv2.INTER_LINEAR
    )
    network[:6] = (255, 0, 0)
    shown = around_animated(portrait, np.asarray(network, np.uint8), lowered).astype(int)
    seen = portrait.margins.square(shown)[:, SIDE // 2]
    above = portrait.rgb[: portrait.margins.top, portrait.margins.left + SIDE // 2].astype(int)
    assert np.abs(seen[5, :2] - above[-2, :2]).max() < 12
    assert (np.diff(seen[:, 1]) >= 0).all()  # the photograph goes on upwards


def test_a_border_beyond_which_there_is_nothing_is_the_networks_own() -> None:
    rgb = photograph()
    box = SquareBox(60, 50, 100)  # at the photograph's upper edge
    portrait = surrounded(rgb, box, square_in(box, rgb))
    assert portrait.margins.top == 0 < portrait.margins.left
    shown = around_animated(portrait, np.zeros((SIDE, SIDE, 3), np.uint8), still())
    assert not portrait.margins.square(shown)[0, 10:-10].any()


def test_margins_are_told_trimmed_and_mirrored() -> None:
    margins = Margins(4, 3, 2, 1)
    picture = np.arange(14 * 16).reshape(14, 16)
    assert margins.side(picture) == 10
    assert margins.mirrored() == Margins(2, 3, 4, 1)
    kept = margins.at_most(Margins(1, 9, 2, 0))
    assert kept == Margins(1, 3, 2, 0)
    trimmed = margins.trimmed(picture, kept)
    assert trimmed.shape == (13, 13)
    np.testing.assert_array_equal(kept.square(trimmed), margins.square(picture))
