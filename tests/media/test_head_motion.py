"""Motion in space on meshes whose pose and expression are known, since they were made here."""

import dataclasses
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.arrays import Keypoints
from mcnet.mean_head import RIGID_POINTS
from mcnet.media.bundled import bundled_faces
from mcnet.media.crop import SquareBox
from mcnet.media.expressions import head_turn
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import (
    Array,
    Gains,
    Head,
    PortraitInSpace,
    PoseLimits,
    mesh_in_square,
    most_neutral,
    places_on,
    rotation_power,
)
from mcnet.mesh_points import LEFT_LID_PAIRS, LIP_PAIRS, RIGHT_LID_PAIRS
from mcnet.pose import linear_jacobians
from tests.media.heads import JAW, LIDS, with_jaw_down

POINTS = (334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10)
FULL = SquareBox(128, 128, 256)
SHUT = 0.02


@pytest.fixture(scope="module")
def with_irises() -> list[Array]:
    """Two bundled portraits' meshes in their squares."""
    with FaceFinder() as finder:
        return [
            mesh_in_square(finder.find(rgb)[0].mesh_px, FULL, 256)
            for rgb in bundled_faces(256, portraits=2, frames=1).sources
        ]


@pytest.fixture(scope="module")
def meshes(with_irises: list[Array]) -> list[Array]:
    """Likewise without irises."""
    return [mesh[:468] for mesh in with_irises]


def rotation(yaw_deg: float = 0, pitch_deg: float = 0, roll_deg: float = 0) -> Array:
    yaw, pitch, roll = (math.radians(angle) for angle in (yaw_deg, pitch_deg, roll_deg))
    about_y = [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    about_x = [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    about_z = [[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]]
    return np.asarray(np.array(about_z) @ about_y @ about_x, np.float64)


def posed(head: Head, turn: Array, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Head:
    moved = head.shift + np.array([*shift, 0.0])
    return Head.of(head._replace(rotation=turn @ head.rotation, scale=scale * head.scale, shift=moved).mesh)


def with_lids(head: Head, share: float, left: float | None = None) -> Head:
    """The head with its right eye, and its left one if that is given, open by so much of what they are."""
    shape = head.shape.copy()
    for pairs, by in ((RIGHT_LID_PAIRS, share), (LEFT_LID_PAIRS, left)):
        for upper, lower in zip(*pairs, strict=True):
            shape[upper] = shape[lower] + (1 if by is None else by) * (shape[upper] - shape[lower])
    return head._replace(shape=shape)


def test_a_mesh_is_told_in_the_coordinates_of_a_crop() -> None:
    box = SquareBox(100, 60, 40)
    corners = np.array([[80.5, 40.5, 0], [119.5, 79.5, 20]], np.float32)  # the middles of the crop's outer pixels
    expected = np.array([[-1, -1, 0], [1, 1, 40 / 39]])
    np.testing.assert_allclose(mesh_in_square(corners, box, 40), expected, atol=1e-12)
    assert corners[0, 0] == 80.5  # what was given stays


def test_pose_and_shape_are_told_apart(meshes: list[Array]) -> None:
    head = Head.of(meshes[0])
    np.testing.assert_allclose(head.mesh, meshes[0], atol=1e-12)
    turned = posed(head, rotation(25, -10, 5), scale=1.3, shift=(0.2, -0.1))
    np.testing.assert_allclose(turned.shape, head.shape, atol=1e-9)
    assert turned.scale == pytest.approx(1.3 * head.scale)
    np.testing.assert_allclose(turned.rotation, rotation(25, -10, 5) @ head.rotation, atol=1e-9)
    assert head.oddity < 0.12
    squeezed = meshes[0] * [1, 0.5, 1]
    assert Head.of(squeezed).oddity > 0.2


def test_who_looks_into_the_camera_has_no_turn(meshes: list[Array]) -> None:
    mirrored = meshes[0] * [-1, 1, 1]
    swapped = list(RIGID_POINTS)
    across = {33: 263, 133: 362, 127: 356, 234: 454, 98: 327}
    across |= {left: right for right, left in across.items()}
    even = meshes[0].copy()
    even[swapped] = (meshes[0][swapped] + mirrored[[across.get(point, point) for point in swapped]]) / 2
    turn = head_turn(Head.of(even).rotation)
    assert abs(turn.yaw) < 0.01
    assert abs(turn.roll) < 0.01
    assert abs(turn.pitch) < 15


def test_the_portrait_keeps_its_shape_and_looks_where_the_performer_looks(meshes: list[Array]) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    rest = Head.of(meshes[1]).with_mouth_closed()
    reference, performer = posed(rest, rotation(40)), posed(rest, rotation(-15, 5, 8))
    head = portrait.follow(performer, reference)
    np.testing.assert_allclose(head.rotation, performer.rotation, atol=1e-9)
    rigid = list(RIGID_POINTS)
    np.testing.assert_allclose(head.shape[rigid], portrait.head.shape[rigid], atol=1e-9)
    np.testing.assert_allclose(head.shape, portrait.head.with_mouth_closed().shape, atol=1e-3)  # as the performer's is


def test_a_model_with_a_linear_map_gets_its_jacobians_in_space(meshes: list[Array]) -> None:
    made = np.random.default_rng(5)
    rows = 0.3 * made.normal(size=(2 * len(POINTS) + 1, 4 * len(POINTS)))
    rows[-1] = np.tile((1.0, 0.0, 0.0, 1.0), len(POINTS))
    linear = tuple(tuple(row) for row in rows.tolist())
    portrait, plain = PortraitInSpace(meshes[0], POINTS, linear=linear), PortraitInSpace(meshes[0], POINTS)
    np.testing.assert_allclose(portrait.driving(portrait.head)[1], np.tile(np.eye(2), (len(POINTS), 1, 1)), atol=1e-9)
    head = portrait.follow(posed(Head.of(meshes[1]), rotation(20)), Head.of(meshes[1]))
    places, maps = portrait.driving(head)
    np.testing.assert_array_equal(places, plain.driving(head)[0])
    before, after = (linear_jacobians(each[None], linear)[0] for each in (portrait.places, places))
    alike = [index for index, point in enumerate(POINTS) if point not in LIDS]  # those of shut lids are squeezed
    np.testing.assert_allclose((maps @ before)[alike], after[alike], atol=1e-9)
    np.testing.assert_allclose(maps[..., 0], (after @ np.linalg.inv(before))[..., 0], atol=1e-9)
    own = made.normal(size=(1, len(POINTS), 2, 2))
    driving: Keypoints[Array] = portrait.keypoints([head], Keypoints(portrait.places[None], own))
    np.testing.assert_allclose(driving.jacobian[0], maps @ own[0], rtol=1e-4, atol=1e-5)


def test_a_map_that_cannot_tell_a_change_leaves_it_to_the_mesh(meshes: list[Array]) -> None:
    nothing = ((0.0,) * (4 * len(POINTS)),) * (2 * len(POINTS) + 1)
    portrait, plain = PortraitInSpace(meshes[0], POINTS, linear=nothing), PortraitInSpace(meshes[0], POINTS)
    head = portrait.follow(posed(Head.of(meshes[1]), rotation(20)), Head.of(meshes[1]))
    np.testing.assert_array_equal(portrait.driving(head)[1], plain.driving(head)[1])


def test_the_performers_place_and_size_are_taken_from_the_reference(meshes: list[Array]) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    reference = Head.of(meshes[1])
    performer = posed(reference, np.eye(3), scale=1.1, shift=(0.1, -0.05))
    head = portrait.follow(performer, reference)
    ratio = portrait.head.scale / reference.scale
    assert head.scale == pytest.approx(1.1 * portrait.head.scale)
    np.testing.assert_allclose(head.shift - portrait.head.shift, [0.1 * ratio, -0.05 * ratio, 0], atol=1e-9)


def test_a_change_of_expression_is_taken_over(meshes: list[Array]) -> None:
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1]).with_mouth_closed()
    speaking = portrait.follow(with_jaw_down(rest, 0.3), rest)
    assert speaking.openings.mouth > portrait.head.openings.mouth + 0.15
    lower = list(LIP_PAIRS[1])
    assert (speaking.shape[lower, 1] - portrait.head.shape[lower, 1] > 0.25).all()


def test_what_no_face_does_is_taken_over_softly(meshes: list[Array]) -> None:
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1]).with_mouth_closed()
    spread = np.square(portrait.head.shape - portrait.head.shape.mean(axis=0)).sum()
    own = portrait.head.with_mouth_closed().shape

    def shown(strength: float) -> float:
        shape = rest.shape.copy()
        below = shape[:, 1] > 0.75  # in face sizes: what moves with the mouth
        shape[below, 0] *= 1 + strength  # lips and jaw drawn apart, the mouth shut
        return float(np.square(portrait.follow(rest._replace(shape=shape), rest).shape - own).sum())

    sizes = [shown(strength) / spread for strength in (0.05, 0.1, 0.5, 1.0, 5.0)]
    assert sizes == sorted(sizes)
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.05)  # small changes as they are
    assert 0.004 < sizes[-1] < 0.006


def test_a_shut_eye_shuts_the_portraits_whatever_its_shape(meshes: list[Array]) -> None:
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1])
    shut = portrait.follow(with_lids(rest, 0.0), rest)
    assert shut.openings.right_eye == pytest.approx(0, abs=1e-6)
    assert shut.openings.left_eye == pytest.approx(portrait.head.openings.left_eye, rel=1e-6)
    nearly = portrait.follow(with_lids(rest, SHUT / rest.openings.right_eye), rest)
    assert nearly.openings.right_eye == pytest.approx(0, abs=2e-3)  # what a mesh measures of a shut eye is shut
    eyes = rest.openings.right_eye, rest.openings.left_eye
    halfway = with_lids(rest, *(0.5 + 0.5 * SHUT / eye for eye in eyes))
    half = portrait.follow(halfway, rest)
    assert half.openings.right_eye == pytest.approx(portrait.head.openings.right_eye / 2, rel=0.02)


def of_lids(head: Head, opening: float) -> Head:
    """The head with its right eye open so far, over the eye's width."""
    return with_lids(head, opening / head.openings.right_eye)


@pytest.mark.parametrize("own", [0.08, 0.2, 0.35], ids=["narrow", "usual", "wide"])
@pytest.mark.parametrize("opened", [0.1, 0.2, 0.35], ids=["narrow", "usual", "wide"])
def test_lids_of_any_shape_shut_and_open_those_of_any_other(meshes: list[Array], own: float, opened: float) -> None:
    """At rest the avatar's eye is as its portrait's; shut it is shut, whatever the shapes of both people's eyes."""
    portrait = PortraitInSpace(of_lids(Head.of(meshes[0]), own).mesh, POINTS)
    rest = of_lids(Head.of(meshes[1]), opened)
    shown = [portrait.follow(of_lids(rest, now), rest).openings.right_eye for now in (SHUT, opened)]
    assert shown[0] < 0.01
    assert shown[1] == pytest.approx(portrait.head.openings.right_eye, rel=0.02)


def opened(portrait: PortraitInSpace, rest: Head, right: float, left: float) -> tuple[float, float]:
    """How far a portrait opens its eyes, over its own, where a performer opens theirs so far, over those at rest."""
    own, eyes = portrait.head.openings, (rest.openings.right_eye, rest.openings.left_eye)
    asked = [share + (1 - share) * SHUT / eye for share, eye in zip((right, left), eyes, strict=True)]
    now = portrait.follow(with_lids(rest, *asked), rest).openings
    return now.right_eye / own.right_eye, now.left_eye / own.left_eye


def test_eyes_blink_together_and_wink_apart(meshes: list[Array]) -> None:
    """A mesh measures each eye by itself, so that one of two shut ones may count as half open."""
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1])
    for right, left in ((0.4, 0.0), (0.0, 0.4), (0.6, 0.3), (0.8, 1.0)):
        shown = opened(portrait, rest, right, left)
        assert abs(shown[0] - shown[1]) == pytest.approx(abs(right - left) / 4, abs=0.02)
        assert (shown[0] > shown[1]) == (right > left)
        assert sum(shown) == pytest.approx(right + left, abs=0.03), "together they are as far open as measured"
    for right, left in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.85)):
        assert opened(portrait, rest, right, left) == pytest.approx((right, left), abs=0.02)
    closing = [opened(portrait, rest, share, 1.0) for share in np.linspace(1, 0, 41)]
    assert (np.diff([right for right, _ in closing]) < 1e-3).all(), "an eye that shuts opens nowhere on its way"
    assert min(left for _, left in closing) > 0.84, "the other one hardly moves with it"


@pytest.mark.parametrize("own", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("at_reference", [0.0, 0.2])
def test_lips_that_meet_meet_in_a_portrait_of_any_mouth(meshes: list[Array], own: float, at_reference: float) -> None:
    """Also in one that smiles with its teeth, and also where the reference was caught in the middle of a word."""
    portrait = PortraitInSpace(with_jaw_down(Head.of(meshes[0]).with_mouth_closed(), own).mesh, POINTS)
    closed = Head.of(meshes[1]).with_mouth_closed()
    reference = with_jaw_down(closed, at_reference)
    shown = portrait.follow(closed, reference)
    assert shown.openings.mouth < 0.03
    speaking = portrait.follow(with_jaw_down(closed, 0.3), reference)
    assert speaking.openings.mouth > 0.12
    still = portrait.follow(with_jaw_down(closed, 0.3), reference, Gains(mouth=0))
    assert still.openings.mouth == pytest.approx(portrait.head.openings.mouth, abs=1e-6)


@pytest.mark.parametrize("gap", [0.1, 0.3])
def test_a_reference_in_the_middle_of_a_word_moves_the_jaw_nowhere(meshes: list[Array], gap: float) -> None:
    """From an open mouth, a closed one is no motion; and the lips never cross."""
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1]).with_mouth_closed()
    speaking = with_jaw_down(rest, gap)
    closed = portrait.follow(rest, speaking)
    away = np.abs(closed.shape - portrait.head.shape)
    assert away[list(JAW), 1].max() < 0.25 * gap
    upper, lower = (list(points) for points in LIP_PAIRS)
    assert (closed.shape[lower, 1] - closed.shape[upper, 1] >= -0.01).all()
    wide = portrait.follow(speaking, speaking)
    assert wide.openings.mouth > portrait.head.openings.mouth + 0.25 * gap


def test_a_reference_with_shut_eyes_does_not_tear_them_open(meshes: list[Array]) -> None:
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1])
    opened = portrait.follow(rest, with_lids(rest, 0.0))
    assert portrait.head.openings.right_eye < opened.openings.right_eye <= 1.61 * portrait.head.openings.right_eye


@pytest.mark.parametrize(
    ("gain", "turn", "field"),
    [("turn", rotation(18), "yaw"), ("nod", rotation(0, 12), "pitch"), ("tilt", rotation(0, 0, 15), "roll")],
)
def test_each_axis_has_its_gain(meshes: list[Array], gain: str, turn: Array, field: str) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    rest = Head.of(meshes[0])
    performer = posed(rest, turn)

    def shown(strength: float) -> float:
        head = portrait.follow(performer, rest, dataclasses.replace(Gains(), **{gain: strength}))
        return float(getattr(head_turn(head.rotation @ rest.rotation.T), field))

    assert shown(0.0) == pytest.approx(0, abs=1e-6)
    assert shown(0.5) == pytest.approx(0.5 * shown(1.0), rel=1e-6)
    assert abs(shown(1.0)) > 10


@pytest.mark.parametrize(("gain", "parts"), [("lids", "right_eye"), ("mouth", "mouth")])
def test_each_part_of_the_expression_has_its_gain(meshes: list[Array], gain: str, parts: str) -> None:
    portrait, rest = PortraitInSpace(meshes[0], POINTS), Head.of(meshes[1]).with_mouth_closed()
    performer = with_lids(with_jaw_down(rest, 0.2), 0.5)

    def changed(strength: float) -> float:
        head = portrait.follow(performer, rest, dataclasses.replace(Gains(), **{gain: strength}))
        return float(getattr(head.openings, parts) - getattr(portrait.head.openings, parts))

    assert changed(0.0) == pytest.approx(0, abs=1e-6)
    assert abs(changed(1.0)) > 1.5 * abs(changed(0.5)) > 0


def _aside(mesh: Array, yaw_deg: float) -> Array:
    """The mesh of a portrait whose head looks aside by so much."""
    head = Head.of(mesh)
    return head._replace(rotation=rotation(yaw_deg)).mesh


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("own_deg", "least_deg", "most_deg"), [(4, 4, 4), (12, 9, 11), (16, 9, 11), (23, 9, 11)])
def test_a_portrait_that_looks_aside_is_turned_less_to_the_side_that_it_hides(
    meshes: list[Array], own_deg: int, least_deg: float, most_deg: float, side: int
) -> None:
    straight = Head.of(meshes[0])._replace(rotation=np.eye(3))
    portrait = PortraitInSpace(_aside(meshes[0], side * own_deg), POINTS)

    def turned_deg(performer_deg: float) -> float:
        """From the portrait's own pose, towards the hidden side."""
        performer = straight._replace(rotation=rotation(side * performer_deg))
        shown = portrait.follow(performer, straight).rotation
        return -side * head_turn(shown @ portrait.head.rotation.T).yaw

    assert least_deg - 0.01 <= turned_deg(0) <= most_deg + 0.01, "while the performer looks straight ahead"
    turns = [turned_deg(degrees) for degrees in range(60, -61, -5)]
    assert (np.diff(turns) > 0).all()
    assert turned_deg(-5) - turned_deg(5) > 2, "it moves where the performer does"
    assert turned_deg(own_deg + 15) == pytest.approx(-15), "to the other side as any portrait"
    assert turned_deg(-40) < (16 if own_deg > 18 else 40)


def test_poses_are_limited_softly(meshes: list[Array]) -> None:
    limits = PoseLimits()
    portrait, rest = PortraitInSpace(meshes[0], POINTS, limits), Head.of(meshes[0])

    def shown(yaw_deg: float) -> float:
        performer = rest._replace(rotation=rotation(yaw_deg) @ rest.rotation)
        return head_turn(portrait.follow(performer, rest).rotation @ rest.rotation.T).yaw

    assert shown(15) == pytest.approx(15, abs=1e-6)
    turns = [shown(angle) for angle in range(0, 90, 5)]
    assert (np.diff(turns) > 0).all(), "it never stands still while the head goes on turning"
    assert turns[-1] < limits.turn_deg
    far = rest._replace(shift=rest.shift + np.array([5.0, 0, 0]), scale=10 * rest.scale)
    head = portrait.follow(far, rest)
    assert head.shift[0] - rest.shift[0] < 1.001 * limits.shift
    assert head.scale / rest.scale < 1.001 * limits.nearness


def test_keypoints_of_the_own_head_are_the_portraits(meshes: list[Array]) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    places, maps = portrait.driving(portrait.head)
    np.testing.assert_allclose(places, portrait.places, atol=1e-9)
    np.testing.assert_allclose(maps, np.tile(np.eye(2), (15, 1, 1)), atol=5e-3)  # but for what keeps a profile solvable


def test_a_shut_eye_squeezes_what_lies_around_its_lids_and_nothing_else(meshes: list[Array]) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    _, maps = portrait.driving(with_lids(portrait.head, 0.0))
    right_lids = [POINTS.index(point) for point in (159, 145)]
    others = [index for index in range(15) if index not in right_lids]
    assert (maps[right_lids, 1, 1] < 0.8).all()
    np.testing.assert_allclose(maps[others], np.tile(np.eye(2), (13, 1, 1)), atol=5e-3)


def test_affine_maps_follow_a_tilt_and_a_growth(meshes: list[Array]) -> None:
    portrait = PortraitInSpace(meshes[0], POINTS)
    head = portrait.head
    moved = head._replace(rotation=rotation(roll_deg=20) @ head.rotation, scale=1.2 * head.scale)
    _, maps = portrait.driving(moved)
    expected = 1.2 * rotation(roll_deg=20)[:2, :2]
    np.testing.assert_allclose(maps, np.tile(expected, (15, 1, 1)), atol=5e-3)
    own: Keypoints[NDArray[Any]] = Keypoints(
        portrait.places[None].astype(np.float32), np.full((1, 15, 2, 2), 0.5, np.float32)
    )
    batch = portrait.keypoints([head, moved], own)
    assert batch.value.shape == (2, 15, 2)
    np.testing.assert_array_equal(batch.jacobian[1], maps.astype(np.float32) @ own.jacobian[0])


def test_halfway_between_two_poses(meshes: list[Array]) -> None:
    start = Head.of(meshes[0])
    end = start._replace(rotation=rotation(60) @ start.rotation, scale=4 * start.scale)
    half = start.towards(end, 0.5)
    assert head_turn(half.rotation @ start.rotation.T).yaw == pytest.approx(30)
    assert half.scale == pytest.approx(2 * start.scale)
    for share, wanted in ((0.0, start), (1.0, end)):
        np.testing.assert_allclose(start.towards(end, share).mesh, wanted.mesh, atol=1e-9)
    np.testing.assert_allclose(rotation_power(np.eye(3), 0.3), np.eye(3))


def test_the_most_neutral_frame(meshes: list[Array]) -> None:
    rest = Head.of(meshes[1]).with_mouth_closed()
    speaking, blinking = with_jaw_down(rest, 0.3), with_lids(rest, 0.1)
    aside = posed(rest, rotation(40))
    found = [None, speaking.mesh, blinking.mesh, aside.mesh, rest.mesh, None]
    assert most_neutral(found) == 4
    with pytest.raises(ValueError, match="no mesh"):
        most_neutral([None, None])


def test_the_most_neutral_frame_of_a_long_video_is_found_in_little_memory(meshes: list[Array]) -> None:
    """The heads of all frames, each several times its mesh, would take gigabytes for an hour."""
    many = [meshes[0]] * 400
    most_neutral(many[:2])
    tracemalloc.start()
    try:
        most_neutral(many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1000 * len(many) + 1_000_000


PUPILS = (468, 473)


def looking(head: Head, aside: float) -> Head:
    """Both irises moved to the picture's right, in face sizes."""
    shape = head.shape.copy()
    shape[468:, 0] += aside
    return head._replace(shape=shape)


def test_a_mesh_with_irises_has_them_between_the_lids(with_irises: list[Array]) -> None:
    for mesh in with_irises:
        assert mesh.shape == (478, 3)
        for pupil, (upper, lower), corners in ((468, (159, 145), (33, 133)), (473, (386, 374), (362, 263))):
            assert mesh[corners[0], 0] < mesh[pupil, 0] < mesh[corners[1], 0]
            assert mesh[upper, 1] < mesh[pupil, 1] < mesh[lower, 1]
            assert mesh[list(corners), 2].min() - 0.1 < mesh[pupil, 2] < mesh[list(corners), 2].max() + 0.1


def test_irises_follow_the_performers_gaze(with_irises: list[Array]) -> None:
    portrait = PortraitInSpace(with_irises[0], (*POINTS, *PUPILS))
    own, rest = portrait.head, Head.of(with_irises[1])
    scale = np.linalg.norm(own.shape[33] - own.shape[133]) / np.linalg.norm(rest.shape[33] - rest.shape[133])

    def moved(performer: Head, gaze: float = 1.0) -> Array:
        shape = portrait.follow(performer, rest, Gains(gaze=gaze)).shape
        return np.asarray((shape - own.shape)[list(PUPILS), 0])

    np.testing.assert_allclose(moved(rest), 0, atol=1e-9)
    np.testing.assert_allclose(moved(looking(rest, 0.02))[0], 1.5 * 0.02 * scale, rtol=1e-6)
    np.testing.assert_allclose(moved(looking(rest, -0.02), 0.5)[0], -0.015 * scale, rtol=1e-6)
    assert not moved(looking(rest, 0.05), 0.0).any()
    width = np.linalg.norm(own.shape[33] - own.shape[133])
    assert (moved(looking(rest, 5.0)) <= 0.2 * width * 1.2).all(), "no iris leaves its eye"
    # Turned as a whole, eyes look where the head does: the irises stay where they are within it.
    np.testing.assert_allclose(moved(posed(rest, rotation(20))), 0, atol=1e-6)
    # Behind a lid that shuts, a mesh guesses: the iris goes on as far as the eye is open.
    half, shut = (moved(looking(with_lids(rest, share), 0.05))[0] for share in (0.5, 0.0))
    assert 0 <= shut < half < moved(looking(rest, 0.05))[0] + 1e-9


def test_an_iris_goes_with_its_lids(with_irises: list[Array]) -> None:
    portrait = PortraitInSpace(with_irises[0], (*POINTS, *PUPILS))
    own, rest = portrait.head, Head.of(with_irises[1])
    upper, lower = (list(points) for points in RIGHT_LID_PAIRS)
    winking = portrait.follow(with_lids(rest, 0.0), rest)
    middle = winking.shape[[*upper, *lower]].mean(0)
    assert winking.shape[468, 1] > own.shape[468, 1], "the line where lids meet is below an open eye's middle"
    np.testing.assert_allclose(winking.shape[468] - own.shape[468], middle - own.shape[[*upper, *lower]].mean(0))
    np.testing.assert_allclose(winking.shape[473], own.shape[473], atol=1e-9)
    # A performer's iris that goes with its lids looks nowhere else.
    half = with_lids(rest, 0.5)
    lids = [*upper, *lower]
    half.shape[468:473] += half.shape[lids].mean(0) * (0, 1, 0) - rest.shape[lids].mean(0) * (0, 1, 0)
    shown = portrait.follow(half, rest).shape
    np.testing.assert_allclose(
        shown[468, 1] - own.shape[468, 1], shown[lids, 1].mean() - own.shape[lids, 1].mean(), atol=1e-9
    )


def test_a_mesh_without_irises_looks_straight_ahead(with_irises: list[Array]) -> None:
    """As older motion files and references have them, and a portrait that was found by an older mesh."""
    points = (*POINTS, *PUPILS)
    portrait = PortraitInSpace(with_irises[0], points)
    whole, bare = Head.of(with_irises[1]), Head.of(with_irises[1][:468])
    winking = with_lids(whole, 0.3)
    expected = portrait.follow(winking, winking._replace(shape=whole.shape))
    for performer, reference in (
        (winking._replace(shape=winking.shape[:468]), bare),
        (winking._replace(shape=winking.shape[:468]), whole),
        (winking, bare),
    ):
        found = portrait.follow(performer, reference)
        assert found.shape.shape == (478, 3)
        np.testing.assert_allclose(found.shape[:468], expected.shape[:468], atol=1e-9)
    straight = portrait.follow(bare, bare).shape - portrait.head.shape
    np.testing.assert_allclose(straight[468:], 0, atol=1e-9)
    older = PortraitInSpace(with_irises[0][:468], points)
    lids = [point for pairs in RIGHT_LID_PAIRS for point in pairs]
    np.testing.assert_allclose(older.places[len(POINTS)], with_irises[0][lids, :2].mean(0), atol=1e-9)
    np.testing.assert_allclose(places_on(with_irises[0][:468], points), older.places, atol=1e-9)
    np.testing.assert_array_equal(places_on(with_irises[0], points), portrait.places)


def test_irises_change_nothing_for_a_model_without_keypoints_on_them(with_irises: list[Array]) -> None:
    plain, other = (PortraitInSpace(mesh, POINTS) for mesh in (with_irises[0], with_irises[0][:468]))
    rest = Head.of(with_irises[1])
    one = plain.driving(plain.follow(looking(rest, 0.1), rest))
    two = other.driving(other.follow(rest, rest))
    for left, right in zip(one, two, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)
