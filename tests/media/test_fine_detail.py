"""The portrait's own detail in enlarged pictures of it."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.fine_detail import FineDetail

SMALL_PX, LARGE_PX = 64, 128


@pytest.fixture(scope="module")
def large() -> Rgb:
    """Smooth forms, and threads two pixels wide, which half the size cannot show."""
    chance = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(chance.integers(60, 200, (LARGE_PX, LARGE_PX, 3)).astype(np.float32), (0, 0), 12)
    smooth = 128 + 6 * (smooth - smooth.mean())
    threads = 12 * (-1.0) ** np.add.outer(np.arange(LARGE_PX), np.arange(LARGE_PX))[..., None]
    return np.asarray(np.clip(smooth + threads, 0, 255), np.uint8)


@pytest.fixture(scope="module")
def small(large: Rgb) -> Rgb:
    return np.asarray(cv2.resize(large, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def flow(right_px: float = 0.0, down_px: float = 0.0, zoom: float = 1.0) -> NDArray[np.float32]:
    """Every place looks so far to the right and below itself, in pixels of the small picture."""
    there = np.linspace(-1, 1, 64) * zoom
    shift = np.array((right_px, down_px)) * 2 / (SMALL_PX - 1)
    return (np.stack(np.meshgrid(there, there), -1) + shift).astype(np.float32)


def error(one: Rgb, other: Rgb) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_a_portrait_that_looks_at_itself_has_all_its_detail(large: Rgb, small: Rgb) -> None:
    shown = FineDetail(small, large).added(small, flow())
    assert error(shown, large) < 0.6
    enlarged = cv2.resize(small, (LARGE_PX, LARGE_PX), interpolation=cv2.INTER_CUBIC)
    assert error(np.asarray(enlarged, np.uint8), large) > 10


@pytest.mark.parametrize(("right_px", "down_px"), [(3, 0), (0, -2), (-4, 5)])
def test_detail_goes_where_the_picture_goes(large: Rgb, small: Rgb, right_px: int, down_px: int) -> None:
    moved = np.roll(small, (-down_px, -right_px), axis=(0, 1))
    shown = FineDetail(small, large).added(moved, flow(right_px, down_px))
    expected = np.roll(large, (-2 * down_px, -2 * right_px), axis=(0, 1))
    inside = slice(16, -16)
    assert error(shown[inside, inside], expected[inside, inside]) < 1


def test_what_the_network_made_up_gets_none(large: Rgb, small: Rgb) -> None:
    made = small.copy()
    made[20:44, 20:44] = (250, 20, 20)
    shown = FineDetail(small, large).added(made, flow())
    np.testing.assert_allclose(shown[52:76, 52:76].astype(int), np.full((24, 24, 3), (250, 20, 20)), atol=1)
    assert error(shown[:24], large[:24]) < 1, "and elsewhere it is whole"


def test_it_fades_with_the_distance_from_what_is_looked_at(large: Rgb, small: Rgb) -> None:
    detail, energies = FineDetail(small, large), []
    for apart in (0, 4, 8, 16):
        made = np.clip(small.astype(int) + apart, 0, 255).astype(np.uint8)
        shown = detail.added(made, flow())
        energies.append(float(np.abs(cv2.Laplacian(shown.astype(np.float32), cv2.CV_32F)).mean()))
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] < 0.2 * energies[0]


def test_beyond_the_portraits_edge_nothing_breaks_and_nothing_that_was_given_changes(large: Rgb, small: Rgb) -> None:
    given = [array.copy() for array in (small, large)]
    deformation = flow(200, -200, zoom=3)
    shown = FineDetail(*given).added(given[0], deformation)
    assert shown.shape == large.shape
    assert shown.dtype == np.uint8
    for before, after in zip((small, large), given, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(deformation, flow(200, -200, zoom=3))


def test_in_the_models_own_size_a_picture_stays_as_it_is(small: Rgb) -> None:
    made = np.ascontiguousarray(small[::-1])
    np.testing.assert_array_equal(FineDetail(small, small).added(made, flow()), made)
