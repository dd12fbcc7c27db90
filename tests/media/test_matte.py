"""The person cut out of a portrait, and how the matte follows a motion."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.media import matte as module
from mcnet.media.errors import MediaError
from mcnet.media.images import read_rgb
from mcnet.media.matte import Matte, cut_frame, cut_out, cut_portrait, moved_alpha, person_colours
from mcnet.media.surroundings import NO_MARGINS, Margins

SIDE = 256


def portrait(name: str) -> NDArray[np.uint8]:
    square = cv2.resize(read_rgb(ASSETS / "portraits" / f"{name}.jpg"), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(square, np.uint8)


@pytest.fixture(scope="module")
def bald_man() -> tuple[NDArray[np.uint8], Matte]:
    """He stands before a light wall: what is behind him is known."""
    square = portrait("man_3")
    return square, cut_out(square)


def still(by_x: float = 0.0, by_y: float = 0.0) -> NDArray[np.float32]:
    """Every pixel looks at its own place in the source, or so far beside it."""
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64))
    return np.stack((x + by_x, y + by_y), -1).astype(np.float32)


TRUSTED = np.ones((64, 64), np.float32)


@pytest.mark.parametrize("name", ["man_3", "woman_1", "man_1"])
def test_the_person_is_told_from_the_background(name: str) -> None:
    alpha = cut_out(portrait(name)).alpha
    assert alpha.shape == (SIDE, SIDE)
    assert alpha.dtype == np.float32
    assert 0 <= alpha.min() <= alpha.max() <= 1
    assert (alpha[:100, :8] == 0).all()
    assert (alpha[:100, -8:] == 0).all()
    assert (alpha[100:200, 110:146] == 1).all()
    assert 0.3 < alpha.mean() < 0.75
    assert 0.005 < ((alpha > 0.05) & (alpha < 0.95)).mean() < 0.08  # an edge, soft and narrow


def smudged(alpha: NDArray[np.float32]) -> float:
    """The share of half transparent pixels that lie far from where the person ends."""
    person = (alpha > 0.5).astype(np.uint8)
    near = np.ones((9, 9), np.uint8)
    far = cv2.dilate(person, near) == cv2.erode(person, near)
    return float((far & (alpha > 0.15) & (alpha < 0.85)).mean())


def test_where_person_and_background_have_one_colour_no_smudge_is_left() -> None:
    """The wall is dark as the person below, and light above; the network is 1 px off."""
    noise = np.random.default_rng(0).normal(0, 4, (SIDE, SIDE, 3))
    square = np.full((SIDE, SIDE, 3), 30.0)
    square[:128, 128:] = 200
    soft = np.zeros((SIDE, SIDE), np.float32)
    soft[:, :129] = 1
    alpha = module._refined(np.clip(square + noise, 0, 255).astype(np.uint8), soft, SIDE)
    ends = (alpha > 0.5).sum(1)
    assert np.abs(ends[:110] - 128).max() <= 1  # the picture's edge
    assert np.abs(ends[150:] - 129).max() <= 2  # the network's
    assert smudged(alpha) == 0
    assert ((alpha[150:] > 0.05) & (alpha[150:] < 0.95)).sum(1).max() <= 6


@pytest.mark.parametrize("name", ["woman_4", "woman_5"])
def test_dark_hair_before_a_dark_chair_has_an_edge(name: str) -> None:
    assert smudged(cut_out(portrait(name)).alpha) < 0.0005


def test_nothing_of_the_person_is_left_in_the_plate(bald_man: tuple[NDArray[np.uint8], Matte]) -> None:
    square, matte = bald_man
    wall = square[:60].reshape(-1, 3)[matte.alpha[:60].reshape(-1) == 0].astype(int)
    behind = matte.plate[:180][matte.alpha[:180] > 0.5].astype(int)  # lower down, the shirt reaches the border
    assert np.abs(square[:180][matte.alpha[:180] > 0.5] - wall.mean(0)).mean() > 60
    assert np.abs(behind - wall.mean(0)).mean() < 15
    seen = matte.alpha == 0
    seen = cv2.erode(seen.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
    assert seen.any()
    np.testing.assert_array_equal(matte.plate[seen], square[seen])  # what was seen stays as it was


@pytest.mark.parametrize("side", [128, 256])
def test_textures_and_lines_go_on_behind_the_person_s_edge(side: int) -> None:
    """A head that turns uncovers what is right behind its edge."""
    rough = np.random.default_rng(0).integers(60, 200, (side // 4, side // 4, 3), np.uint8)
    square = np.asarray(cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    square[side // 2 :] //= 3  # a dark chair before a wall
    alpha = np.zeros((side, side), np.float32)
    person = slice(round(0.3 * side), round(0.7 * side))
    alpha[:, person] = 1
    square[:, person] = (255, 0, 0)
    plate = module._plate(square, alpha, len(square)).astype(int)
    uncovered = plate[:, person.start : person.start + round(0.02 * side)]
    beside = square[:, person.start - round(0.1 * side) : person.start - round(0.03 * side)]
    upper, lower = slice(0, side // 2 - 3), slice(side // 2 + 3, side)
    assert uncovered[upper, :, 1].mean() - uncovered[lower, :, 1].mean() > 60  # the chair's edge is where it was
    for part in (upper, lower):
        assert uncovered[part].std(axis=0).mean() > 0.8 * beside[part].std(axis=0).mean()
    assert not (plate[:, person] == (255, 0, 0)).all(axis=-1).any()


def test_nothing_of_a_person_is_mirrored_into_the_plate() -> None:
    """Behind the edge of an arm there may be the body, in the place of a background."""
    side = 256
    square = np.full((side, side, 3), (60, 120, 60), np.uint8)
    alpha = np.zeros((side, side), np.float32)
    alpha[:, 60:120] = alpha[:, 140:200] = 1
    square[alpha > 0] = (255, 0, 0)
    plate = module._plate(square, alpha, len(square)).astype(int)
    assert (plate[..., 0] - plate[..., 1]).max() < 40


def test_a_picture_that_is_all_person_has_a_plate() -> None:
    square = np.full((SIDE, SIDE, 3), 90, np.uint8)
    assert (module._plate(square, np.ones((SIDE, SIDE), np.float32), SIDE) == 90).all()


def test_the_matte_moves_as_the_picture_does(bald_man: tuple[NDArray[np.uint8], Matte]) -> None:
    _, matte = bald_man
    # OpenCV interpolates in steps of a 32nd of a pixel, which at a steep edge is some percent.
    np.testing.assert_allclose(moved_alpha(matte, still(), TRUSTED), matte.alpha, atol=0.1)
    by_px = 20
    moved = moved_alpha(matte, still(by_x=by_px * 2 / (SIDE - 1)), TRUSTED)
    np.testing.assert_allclose(moved[:, :-by_px], matte.alpha[:, by_px:], atol=0.1)


def test_a_head_that_is_cut_off_above_ends_there(bald_man: tuple[NDArray[np.uint8], Matte]) -> None:
    _, matte = bald_man
    cut = Matte(np.ones_like(matte.alpha), matte.plate, module._faded_above(np.ones_like(matte.alpha), SIDE))
    lowered = moved_alpha(cut, still(by_y=-0.4), TRUSTED)  # 51 px
    assert (lowered[:30] == 0).all()
    assert (lowered[60:] == 1).all()
    raised = moved_alpha(cut, still(by_y=0.4), TRUSTED)  # and shoulders go on below
    assert (raised == 1).all()


def test_a_hole_in_the_midst_is_closed_where_the_warp_is_not_trusted(
    bald_man: tuple[NDArray[np.uint8], Matte],
) -> None:
    _, matte = bald_man
    looks_away = still()
    looks_away[34:37, 31:34] = -0.95  # three cells of the face look at the wall
    assert moved_alpha(matte, looks_away, TRUSTED)[138:144, 130:132].max() < 0.2
    hidden = TRUSTED.copy()
    hidden[30:41, 27:38] = 0
    assert moved_alpha(matte, looks_away, hidden)[138:144, 130:132].min() > 0.8
    everywhere = moved_alpha(matte, still(), np.zeros_like(TRUSTED))
    assert (everywhere[:100, :8] == 0).all()  # the wall is no hole


def test_half_transparent_pixels_have_the_persons_colour() -> None:
    share = np.clip((np.arange(SIDE) - 118) / 20, 0, 1).astype(np.float32)
    alpha = np.tile(share, (SIDE, 1))
    person, wall = np.array([180, 60, 40], np.float32), np.array([10, 200, 30], np.float32)
    mixed = (alpha[..., None] * person + (1 - alpha[..., None]) * wall).round().astype(np.uint8)
    edge = (alpha > 0.3) & (alpha < 1)
    wrong = np.abs(mixed[edge] - person).max()
    assert wrong > 90
    assert np.abs(person_colours(mixed, alpha, len(alpha))[edge] - person).max() < wrong / 3


def test_a_cut_out_person_before_something_else(bald_man: tuple[NDArray[np.uint8], Matte]) -> None:
    square, matte = bald_man
    green = np.zeros_like(square)
    green[:] = (0, 255, 0)
    shown = cut_frame(matte, square, still(), TRUSTED).before(green)
    assert (shown[matte.alpha == 0][:, 1] > 250).mean() > 0.97
    sure = cv2.erode((matte.alpha == 1).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert np.abs(shown[sure].astype(int) - square[sure]).max() <= 2
    rgba = cut_portrait(matte, square).rgba()
    assert rgba.shape == (SIDE, SIDE, 4)
    np.testing.assert_allclose(rgba[..., 3] / 255, matte.alpha, atol=0.003)


def test_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selfie.tflite").write_bytes(b"something else")
    monkeypatch.setattr(module, "NETWORK", tmp_path / "selfie.tflite")
    with pytest.raises(MediaError, match=r"selfie.tflite is not the bundled one"):
        cut_out(np.zeros((SIDE, SIDE, 3), np.uint8))


def test_a_picture_of_nobody_is_not_cut_out() -> None:
    with pytest.raises(MediaError, match="no person is told apart"):
        cut_out(np.full((SIDE, SIDE, 3), 40, np.uint8))


def in_a_room(square: NDArray[np.uint8], margins: Margins) -> NDArray[np.uint8]:
    """The man of a portrait before his wall, of which more is seen; below, his shirt goes on."""
    borders = (margins.top, margins.bottom, margins.left, margins.right)
    return np.asarray(cv2.copyMakeBorder(square, *borders, cv2.BORDER_REPLICATE), np.uint8)


def test_in_the_square_the_matte_is_as_close_as_without_what_is_around(
    bald_man: tuple[NDArray[np.uint8], Matte],
) -> None:
    square, alone = bald_man
    margins = Margins(100, 36, 100, 36)
    matte = cut_out(in_a_room(square, margins), margins)
    assert matte.margins == margins
    assert matte.alpha.shape == matte.plate.shape[:2] == (SIDE + 72, SIDE + 200)
    inner = np.abs(margins.square(matte.alpha) - alone.alpha)[15:-15, 15:-15]
    assert (inner > 0.1).mean() < 0.002
    assert matte.alpha[-1, 100 : 100 + SIDE].mean() > 0.5  # the shirt goes on
    assert not matte.alpha[: 36 + 20].any()
    np.testing.assert_array_equal(matte.of_square().alpha, margins.square(matte.alpha))
    np.testing.assert_array_equal(matte.of_square().plate, margins.square(matte.plate))
    assert matte.of_square().margins == NO_MARGINS
    assert len(matte.of_square().padded) == SIDE + len(matte.padded) - len(matte.alpha)


def test_what_is_around_moves_as_the_picture_does(bald_man: tuple[NDArray[np.uint8], Matte]) -> None:
    square, _ = bald_man
    margins = Margins(100, 36, 60, 20)
    matte = cut_out(in_a_room(square, margins), margins)
    np.testing.assert_allclose(moved_alpha(matte, still(), TRUSTED), matte.alpha, atol=0.02)
    by_px = 10
    moved = moved_alpha(matte, still(by_x=by_px * 2 / (SIDE - 1)), TRUSTED)
    inside = np.s_[40:240, 110:330]
    np.testing.assert_allclose(
        moved[inside], np.roll(matte.alpha, -by_px, axis=1)[inside], atol=0.05
    )  # of the square, and of nothing else


def test_colours_at_the_edge_do_not_hang_on_how_much_is_around() -> None:
    """A person in two colours before a wall in two: each edge has its own, within a twentieth of the square's side."""
    side = 128
    for margin in (0, 200):
        width = side + 2 * margin
        person, wall = np.zeros((width, width, 3)), np.zeros((width, width, 3))
        person[:, : width // 2], person[:, width // 2 :] = (200, 30, 30), (30, 30, 200)
        wall[: width // 2], wall[width // 2 :] = (90, 220, 90), (220, 220, 60)
        alpha = np.zeros((width, width), np.float32)
        alpha[margin + 30 : margin + 98, margin + 30 : margin + 98] = 1
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 1.5), np.float32)
        mixed = (alpha[..., None] * person + (1 - alpha[..., None]) * wall).astype(np.uint8)
        edge = (alpha > 0.2) & (alpha < 0.8)
        got = person_colours(mixed, alpha, side)
        assert np.abs(got[edge].astype(int) - person[edge]).mean() < 12


def test_a_picture_that_is_too_large_is_cut_out_as_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    margins = Margins(100, 36, 101, 37)
    picture = in_a_room(portrait("man_3"), margins)
    expected = cut_out(picture, margins)
    monkeypatch.setattr(module, "_MOST_PIXELS", 70_000)
    got = cut_out(picture, margins)
    assert (got.margins, got.alpha.shape, got.padded.shape) == (margins, expected.alpha.shape, expected.padded.shape)
    assert np.abs(got.alpha - expected.alpha).mean() < 0.01
    seen = cv2.erode((expected.alpha == 0).astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    assert seen.any()
    np.testing.assert_array_equal(got.plate[seen], picture[seen])
