"""All that is drawn into pictures of a portrait, together."""

import math

import cv2
import numpy as np
import pytest

from mcnet.arrays import Rgb
from mcnet.media.canvas import pixels
from mcnet.media.head_motion import Head
from mcnet.media.lids import DrawnLids
from mcnet.media.mouth import MouthInterior
from mcnet.media.retouch import Retouch, Retouching
from mcnet.media.skin import DrawnSkin
from tests.media.heads import (
    LEFT_EYE,
    RIGHT_EYE,
    SIDE_PX,
    Portrait,
    around,
    bundled_portrait,
    changed,
    turned,
    with_eyes_at,
    with_jaw_down,
)


@pytest.fixture
def portrait() -> Portrait:
    return bundled_portrait()


def test_a_portrait_at_rest_stays_as_it_is(portrait: Portrait) -> None:
    np.testing.assert_array_equal(Retouch(*portrait).applied(portrait.square, portrait.head), portrait.square)


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


def test_lids_are_drawn_over_the_skin_of_a_turned_head_which_is_drawn_with_eyes_half_shut(portrait: Portrait) -> None:
    skin, mouth, lids = DrawnSkin(*portrait), MouthInterior(*portrait), DrawnLids(*portrait)
    shut, grey = turned(with_eyes_at(portrait.head, 0.0), 34), np.full_like(portrait.square, 128)
    shown = Retouch(*portrait).applied(grey, shut)
    half = lids.opened(shut)
    np.testing.assert_array_equal(shown, lids.drawn(mouth.drawn(skin.drawn(grey, half), shut), shut))
    eyes = around(pixels(shut.mesh[[*LEFT_EYE, *RIGHT_EYE]], shown), 4)
    for another in (skin.drawn(lids.drawn(grey, shut), half), lids.drawn(skin.drawn(grey, shut), shut)):
        assert changed(shown, another)[eyes].any(), "that is no matter of taste"


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
    np.testing.assert_array_equal(retouch.applied(portrait.square, portrait.head, 0.5), portrait.square)
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
