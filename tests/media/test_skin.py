"""A portrait's own skin, drawn where its mesh moves it."""

import itertools
import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media import skin as skin_module
from mcnet.media.canvas import doubled_areas, pixels
from mcnet.media.face_triangles import COUNTERPARTS, FACE_TRIANGLES
from mcnet.media.head_motion import BROWS, Array, Head, with_irises
from mcnet.media.skin import DrawnSkin
from mcnet.mesh_points import INNER_LIPS, LEFT_EYE_RING, RIGHT_EYE_RING
from tests.media.heads import SIDE_PX, Portrait, around, bundled_portrait, changed, turned, with_jaw_down

GREY, BLUE, RED = (128, 128, 128), (0, 0, 255), (255, 0, 0)
FOREHEAD, NOSE_TIP, RIGHT_CHEEK, LEFT_CHEEK, CHIN, RIGHT_BROW = 151, 4, 50, 280, 199, 105
TEMPLES = 71, 301


@pytest.fixture
def portrait() -> Portrait:
    return bundled_portrait()


def of_colour(colour: tuple[int, int, int]) -> Rgb:
    return np.full((SIDE_PX, SIDE_PX, 3), colour, np.uint8)


def with_spot(square: Rgb, head: Head, point: int) -> Rgb:
    """A portrait with a blue spot on a point of its face."""
    spotted = square.copy()
    spotted[around(pixels(head.mesh[[point]], square), 2)] = BLUE
    return spotted


def spot_in(rgb: Rgb) -> Array:
    """x and y of the middle of what is blue."""
    blue = rgb[..., 2].astype(float) - rgb[..., :2].max(axis=2)
    rows, columns = np.nonzero(blue > 60)
    assert len(rows), "the spot is to be seen"
    return np.array((columns.mean(), rows.mean()))


def nodding(head: Head, pitch_deg: float) -> Head:
    sine, cosine = math.sin(math.radians(pitch_deg)), math.cos(math.radians(pitch_deg))
    return head._replace(rotation=np.array(((1, 0, 0), (0, cosine, -sine), (0, sine, cosine))) @ head.rotation)


def middle_of(head: Head, ring: tuple[int, ...]) -> tuple[int, int]:
    """Row and column of the middle of points."""
    x, y = pixels(head.mesh[list(ring)], of_colour(GREY)).mean(axis=0).round().astype(int)
    return y, x


def test_a_face_at_rest_is_the_portrait_s_own_and_what_is_around_it_the_network_s(portrait: Portrait) -> None:
    made = of_colour(GREY)
    shown = DrawnSkin(*portrait).drawn(made, portrait.head)
    assert (made == GREY).all(), "what was given stays"
    for point in (NOSE_TIP, RIGHT_CHEEK, LEFT_CHEEK, CHIN, RIGHT_BROW):
        x, y = pixels(portrait.mesh[[point]], shown)[0].round().astype(int)
        np.testing.assert_allclose(shown[y, x].astype(int), portrait.square[y, x], atol=1)
    assert not changed(shown, made)[~around(pixels(portrait.mesh[:468], shown), 1)].any()
    for ring in (LEFT_EYE_RING, RIGHT_EYE_RING):
        assert (shown[middle_of(portrait.head, ring)] == GREY).all()
    for point in (10, 234, 454, 152):  # around the face
        x, y = pixels(portrait.mesh[[point]], shown)[0].round().astype(int)
        np.testing.assert_allclose(shown[y, x].astype(int), GREY, atol=15)


@pytest.mark.parametrize("point", [FOREHEAD, NOSE_TIP, RIGHT_CHEEK, LEFT_CHEEK, CHIN, RIGHT_BROW])
@pytest.mark.parametrize("pose", ["turned", "nodding", "moved"])
def test_each_point_of_the_skin_goes_where_the_mesh_has_it(portrait: Portrait, point: int, pose: str) -> None:
    own = portrait.head
    head = {
        "turned": turned(own, 25),
        "nodding": nodding(own, 20),
        "moved": own._replace(shift=own.shift + np.array((0.2, -0.15, 0)), scale=0.8 * own.scale),
    }[pose]
    square = with_spot(portrait.square, portrait.head, point)
    shown = DrawnSkin(square, portrait.head).drawn(of_colour(GREY), head)
    np.testing.assert_allclose(spot_in(shown), pixels(head.mesh[[point]], shown)[0], atol=1.5)


def with_brows_raised(head: Head, by: float) -> Head:
    shape = head.shape.copy()
    shape[list(BROWS), 1] -= by
    return head._replace(shape=shape)


@pytest.mark.parametrize(("point", "expression"), [(RIGHT_BROW, with_brows_raised), (CHIN, with_jaw_down)])
def test_an_expression_goes_where_the_mesh_has_it(
    portrait: Portrait, point: int, expression: Callable[[Head, float], Head]
) -> None:
    square, head = with_spot(portrait.square, portrait.head, point), expression(portrait.head, 0.2)
    shown = DrawnSkin(square, portrait.head).drawn(of_colour(GREY), head)
    np.testing.assert_allclose(spot_in(shown), pixels(head.mesh[[point]], shown)[0], atol=1.5)


@pytest.mark.parametrize("by", [-0.15, 0.15, 0.25])
def test_skin_beside_what_moves_goes_with_it_and_is_not_folded_over(portrait: Portrait, by: float) -> None:
    """A forehead whose brightness grows downwards, row by row, goes on doing so."""
    square = np.repeat(np.arange(SIDE_PX, dtype=np.uint8)[:, None, None], SIDE_PX, axis=1).repeat(3, axis=2)
    shown = DrawnSkin(square, portrait.head).drawn(square, with_brows_raised(portrait.head, by))
    left, right = (pixels(portrait.mesh[[point]], square)[0, 0].astype(int) for point in TEMPLES)
    top, brows = (pixels(portrait.mesh[[point]], square)[0, 1].astype(int) for point in (FOREHEAD, RIGHT_BROW))
    rows = shown[top - 5 : brows + 10, left:right, 0].astype(int)
    steps = np.diff(rows, axis=0)
    assert steps.min() >= -4
    assert steps.max() <= 8, "nor is it torn"
    change = int(shown[brows, (left + right) // 2, 0]) - brows
    assert np.sign(change) == np.sign(by), "between the brows, too"


@pytest.mark.parametrize(("yaw_deg", "side", "cheek"), [(-50, 1, LEFT_CHEEK), (50, -1, RIGHT_CHEEK)])
def test_the_nose_hides_the_cheek_behind_it(portrait: Portrait, yaw_deg: float, side: int, cheek: int) -> None:
    square = of_colour(RED)
    shape = portrait.head.shape
    nose = np.abs(shape[:468, 0]) < 0.3
    nose &= (shape[:468, 1] > -0.1) & (shape[:468, 1] < 0.75)
    square[~around(pixels(portrait.mesh[:468][nose], square), 0)] = BLUE
    head = turned(portrait.head, yaw_deg)
    shown = DrawnSkin(square, portrait.head).drawn(of_colour(GREY), head)
    tip = pixels(head.mesh[[NOSE_TIP]], shown)[0]
    behind = pixels(head.mesh[[cheek]], shown)[0]
    assert abs(tip[0] - behind[0]) < 12, "so far is it turned"
    x, y = (tip - (2 * side, 0)).round().astype(int)
    assert shown[y, x, 0] > 200
    assert shown[y, x, 2] < 60


@pytest.mark.parametrize("spot", [(200, 120, 160), (25, 20, 15)], ids=["skin", "hair"])
@pytest.mark.parametrize(
    ("own_yaw_deg", "hidden", "seen"), [(60, RIGHT_CHEEK, LEFT_CHEEK), (-60, LEFT_CHEEK, RIGHT_CHEEK)]
)
def test_what_a_portrait_hides_of_one_half_the_other_one_shows(
    portrait: Portrait, own_yaw_deg: float, hidden: int, seen: int, spot: tuple[int, int, int]
) -> None:
    """Mirrored, only once it is turned into the picture, and without hair that hangs over it."""
    made, own = of_colour(GREY), turned(portrait.head, own_yaw_deg)
    square = of_colour((200, 120, 110))
    x, y = pixels(own.mesh[[seen]], square)[0].round().astype(int)
    square[y - 8 : y + 9, x - 8 : x + 9] = spot
    skin = DrawnSkin(square, own)
    shown = skin.drawn(made, portrait.head)
    for point, is_drawn in ((seen, True), (hidden, spot[0] > 100)):
        x, y = pixels(portrait.mesh[[point]], made)[0].round().astype(int)
        np.testing.assert_allclose(shown[y, x].astype(int), spot if is_drawn else GREY, atol=10)
    at_rest = skin.drawn(made, own).astype(int)
    around_it = around(pixels(own.mesh[[hidden]], made), 2)
    assert (np.abs(at_rest[around_it] - spot) > 30).any(axis=-1).all()


@pytest.mark.parametrize("yaw_deg", [0, 10])
def test_a_portrait_that_shows_both_halves_keeps_them_apart(portrait: Portrait, yaw_deg: float) -> None:
    own = turned(portrait.head, yaw_deg)
    square = of_colour(RED)
    left = np.unique(FACE_TRIANGLES)
    left = left[own.shape[left, 0] > 0.1]
    square[around(pixels(own.mesh[left], square), 3)] = BLUE
    for turn_deg in (-25, 25):
        head = turned(portrait.head, turn_deg)
        shown = DrawnSkin(square, own).drawn(of_colour(GREY), head)
        right = shown[around(pixels(head.mesh[[RIGHT_CHEEK]], shown), 4)].astype(int)
        assert (right[:, 2] <= right[:, 0] + 5).all(), "nothing of the left half is on the right one"


@pytest.mark.parametrize("darker", [0.5, 1.0])
def test_a_half_that_is_shown_in_place_of_the_other_has_its_light(portrait: Portrait, darker: float) -> None:
    own = turned(portrait.head, 35)
    seams = pixels(own.mesh[[NOSE_TIP, CHIN, FOREHEAD]], of_colour(GREY))
    square = of_colour((180, 140, 120))
    square[:, : int(seams[:, 0].mean())] = np.array((180, 140, 120)) * darker  # where the farther half is
    smooth = np.asarray(cv2.GaussianBlur(square, (0, 0), 4), np.uint8)
    shown = DrawnSkin(smooth, own).drawn(of_colour(GREY), turned(portrait.head, 5))
    x, y = pixels(turned(portrait.head, 5).mesh[[RIGHT_CHEEK]], shown)[0].round().astype(int)
    np.testing.assert_allclose(shown[y, x].astype(float), np.array((180, 140, 120)) * darker, rtol=0.3)


def test_points_have_counterparts_on_the_other_half() -> None:
    assert (COUNTERPARTS[COUNTERPARTS] == np.arange(478)).all()
    triangles = {tuple(sorted(corners)) for corners in FACE_TRIANGLES.tolist()}
    assert {tuple(sorted(corners)) for corners in COUNTERPARTS[FACE_TRIANGLES].tolist()} == triangles
    assert [int(COUNTERPARTS[point]) for point in (33, 61, 105, 50, 10, 152, 468)] == [263, 291, 334, 280, 10, 152, 473]


def test_what_the_portraits_own_nose_hides_is_the_networks(portrait: Portrait) -> None:
    """A portrait that is turned has its nose before its cheek: that is no cheek's skin."""
    own = turned(portrait.head, 45)
    square = of_colour(RED)
    shape = portrait.head.shape[:468]
    nose = (np.abs(shape[:, 0]) < 0.3) & (shape[:, 1] > -0.1) & (shape[:, 1] < 0.75)
    square[around(pixels(own.mesh[:468][nose], square), 0)] = BLUE
    shown = DrawnSkin(square, own).drawn(of_colour(GREY), portrait.head)
    blue = (shown[..., 2].astype(int) - shown[..., 0] > 100) & (shown[..., 2] > 200)
    on_nose = around(pixels(portrait.mesh[:468][nose], shown), 3)
    assert (blue & ~on_nose).sum() < 25
    assert (blue & on_nose).sum() > 200


def test_skin_fades_towards_the_outline_of_a_turned_face_and_has_no_hole_beside_its_nose(portrait: Portrait) -> None:
    head = turned(portrait.head, 40)
    shown = DrawnSkin(of_colour(BLUE), portrait.head).drawn(of_colour(GREY), head)
    strength = np.clip((shown[..., 2].astype(float) - 128) / 127, 0, 1)
    edges = np.abs(np.diff(strength, axis=1)).max(axis=1)
    # A line of the network's picture between two parts of drawn skin would flicker.
    closed = cv2.morphologyEx(strength, cv2.MORPH_CLOSE, np.ones((3, 3)))
    eyes = [around(pixels(head.mesh[list(ring)], shown), 3) for ring in (LEFT_EYE_RING, RIGHT_EYE_RING, INNER_LIPS)]
    assert ((closed - strength > 0.4) & ~np.any(eyes, axis=0)).sum() <= 5
    far_side = pixels(head.mesh[[LEFT_CHEEK if head.rotation[0, 2] < 0 else RIGHT_CHEEK]], shown)[0].astype(int)
    assert np.median(edges[far_side[1] - 5 : far_side[1] + 5]) < 0.5


@pytest.mark.parametrize("yaw_deg", [-25, 25])
def test_no_cheek_is_torn_within_the_limits_of_a_pose(portrait: Portrait, yaw_deg: float) -> None:
    """Triangles that lie the other way around are seen from behind: no seen part of the face may have such."""
    head = turned(portrait.head, yaw_deg)
    behind = doubled_areas(pixels(head.mesh, portrait.square)[FACE_TRIANGLES]) < -0.5
    near = FACE_TRIANGLES[behind]
    x = portrait.head.shape[near][..., 0].mean(axis=1)
    turned_to = np.sign(head.rotation[0, 2])
    assert (np.sign(x) != turned_to).sum() == 0 or (np.sign(x) == turned_to).sum() == 0, "on the far side alone"


def test_irises_move_within_eyes_that_are_drawn(portrait: Portrait) -> None:
    own = turned(portrait.head, 0)
    mesh = own.mesh
    square = of_colour((255, 255, 255))
    width = float(np.linalg.norm(pixels(mesh[[469]], square) - pixels(mesh[[471]], square)))
    for middle in (468, 473):
        x, y = pixels(mesh[[middle]], square)[0]
        cv2.circle(square, (round(x), round(y)), round(width / 2), (0, 0, 0), -1)
    found = []
    for way in (-0.06, 0.06):
        shape = own.shape.copy()
        shape[468:, 0] += way
        head = turned(own._replace(shape=shape), 34)
        shown = DrawnSkin(square, own).drawn(of_colour(GREY), head)
        # The nearer eye.
        ring = max((LEFT_EYE_RING, RIGHT_EYE_RING), key=lambda ring: np.ptp(pixels(head.mesh[list(ring)], shown)[:, 0]))
        dark = (shown.max(axis=2) < 90) & around(pixels(head.mesh[list(ring)], shown), 0)
        middle = 473 if ring is LEFT_EYE_RING else 468
        found.append((np.argwhere(dark)[:, 1].mean(), pixels(head.mesh[[middle]], shown)[0, 0]))
    (one, asked_one), (other, asked_other) = found
    assert 0.35 < (other - one) / (asked_other - asked_one) < 1.3


def test_eyes_are_drawn_where_the_head_is_turned_far(portrait: Portrait) -> None:
    skin, strengths = DrawnSkin(of_colour(BLUE), portrait.head), []
    for yaw_deg in (0, 15, 25, 35):
        head = turned(portrait.head, yaw_deg)
        shown = skin.drawn(of_colour(GREY), head)
        strengths.append(int(shown[middle_of(head, RIGHT_EYE_RING)][2]) - 128)
    assert strengths[:2] == [0, 0]
    assert 0 < strengths[2] < strengths[3]
    aside = portrait.head._replace(rotation=np.array(((0.0, 1, 0), (-1, 0, 0), (0, 0, 1))) @ portrait.head.rotation)
    shown = skin.drawn(of_colour(GREY), aside)
    assert (shown[middle_of(aside, LEFT_EYE_RING)] == GREY).all(), "a head that lies on its side is not turned"


def test_irises_are_not_needed(portrait: Portrait) -> None:
    without = Head.of(portrait.mesh[:468])
    head = turned(without, 35)
    shown = DrawnSkin(portrait.square, without).drawn(of_colour(GREY), head)
    ahead = Head.of(with_irises(portrait.mesh[:468]))
    expected = DrawnSkin(portrait.square, ahead).drawn(of_colour(GREY), Head.of(with_irises(head.mesh)))
    np.testing.assert_allclose(shown.astype(int), expected, atol=1)


def test_nothing_jumps_as_a_head_turns_and_a_mouth_opens(portrait: Portrait) -> None:
    skin, made = DrawnSkin(*portrait), of_colour(GREY)
    shown = [
        skin.drawn(made, with_jaw_down(turned(portrait.head, yaw_deg), gap)).astype(int)
        for yaw_deg, gap in zip(np.linspace(0, 45, 46), np.linspace(0, 0.4, 46), strict=True)
    ]
    steps = [np.abs(after - before).mean() for before, after in itertools.pairwise(shown)]
    assert max(steps) < 2 * np.median(steps)
    larger = [np.quantile(np.abs(after - before), 0.999) for before, after in itertools.pairwise(shown)]
    assert max(larger) < 100


def test_nothing_jumps_as_a_portrait_that_looks_aside_turns_to_the_camera(portrait: Portrait) -> None:
    skin, made = DrawnSkin(portrait.square, turned(portrait.head, 25)), of_colour(GREY)
    shown = [
        skin.drawn(made, turned(portrait.head, yaw_deg)).astype(np.float32) for yaw_deg in np.arange(25, -10, -0.2)
    ]
    steps = [float(cv2.blur(after - before, (7, 7)).max()) for before, after in itertools.pairwise(shown)]
    assert max(steps) < 12


def test_no_eye_is_shown_in_place_of_the_other(portrait: Portrait) -> None:
    """It would look another way; the farther one is seen in the portrait, too."""
    own, head = turned(portrait.head, 22), turned(portrait.head, 6)
    square = of_colour((200, 120, 110))
    near, far = (LEFT_EYE_RING, RIGHT_EYE_RING) if own.rotation[0, 2] > 0 else (RIGHT_EYE_RING, LEFT_EYE_RING)
    for ring in (near, far):
        square[around(pixels(own.mesh[list(ring)], square), 4)] = (150, 150, 110)
    shown = DrawnSkin(square, own).drawn(of_colour(GREY), head)
    for ring in (near, far):
        assert (shown[middle_of(head, ring)] == GREY).all()


def test_a_portrait_that_looks_aside_shows_nothing_of_its_other_half_at_rest(
    portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, made = turned(portrait.head, 25), of_colour(GREY)
    shown = [DrawnSkin(portrait.square, own).drawn(made, turned(own, yaw_deg)) for yaw_deg in (0, 5)]
    monkeypatch.setattr(skin_module, "_LOOKS_ASIDE", (2.0, 3.0))
    for with_other, yaw_deg in zip(shown, (0, 5), strict=True):  # farther aside there is less to be shown
        np.testing.assert_array_equal(DrawnSkin(portrait.square, own).drawn(made, turned(own, yaw_deg)), with_other)


def test_where_skin_ends_in_front_of_skin_no_steps_flicker_as_a_head_turns(
    portrait: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its triangles are drawn pixel by pixel; their edges are soft, and nothing else loses its sharpness."""
    heads = [turned(portrait.head, 36 + 0.1 * step) for step in range(30)]

    def drawn() -> NDArray[np.int_]:
        skin = DrawnSkin(*portrait)
        return np.stack([skin.drawn(portrait.square, head) for head in heads]).astype(int)

    soft = drawn()
    monkeypatch.setattr(skin_module, "_TORN", 10.0)
    hard = drawn()
    flickers = [np.abs(pictures[2:] - 2 * pictures[1:-1] + pictures[:-2]).max(axis=-1) for pictures in (soft, hard)]
    assert (flickers[1] > 40).sum() > 20, "steps flicker where nothing is done about them"
    assert (flickers[0] > 40).sum() < 0.6 * (flickers[1] > 40).sum()
    assert (np.abs(soft - hard).max(axis=-1) > 2).mean() < 0.02


def test_triangles_cover_a_face_once_and_leave_the_mouth_open() -> None:
    edges = np.sort(np.concatenate([FACE_TRIANGLES[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]), axis=1)
    kinds, counts = np.unique(edges, axis=0, return_counts=True)
    assert set(counts.tolist()) == {1, 2}
    border = {frozenset(edge) for edge in kinds[counts == 1].tolist()}
    lips = {frozenset(edge) for edge in itertools.pairwise((*INNER_LIPS, INNER_LIPS[0]))}
    assert lips < border, "the ring of the inner lips is a hole"
    outline = border - lips
    neighbours = [sum(point in edge for edge in outline) for point in set().union(*outline)]
    assert set(neighbours) == {2}, "and the rest of the border one ring around the face"
    shape = bundled_portrait().head.shape
    front = doubled_areas(shape[FACE_TRIANGLES][..., :2])
    assert (front > 0).all()
