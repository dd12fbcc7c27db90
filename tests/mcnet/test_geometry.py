"""Coordinates, hulls and motion against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.arrays import Keypoints
from mcnet.geometry import coordinate_grid, gaussian_heatmaps, sample, sparse_motions
from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE
from mcnet.model_file import ModelInfo, driven_as_trained
from mcnet.pose import (
    adapted_scale,
    hull_area,
    invert_2x2,
    irises_have_lids,
    jacobians_of_places,
    linear_jacobians,
    relative_keypoints,
    squeezes,
    tells_rotation,
)


def keypoints(points: list[tuple[float, float]], jacobian: list[list[float]] | None = None) -> Keypoints:
    value = torch.tensor([points])
    return Keypoints(value, torch.tensor(jacobian or [[1.0, 0.0], [0.0, 1.0]]).expand(1, len(points), 2, 2))


def test_grid_has_corners_on_corners_and_x_first() -> None:
    grid = coordinate_grid(3, 5, torch.zeros(()))
    assert grid.shape == (3, 5, 2)
    assert grid[0, 0].tolist() == [-1, -1]
    assert grid[0, 4].tolist() == [1, -1]
    assert grid[2, 0].tolist() == [-1, 1]
    assert grid[1, 2].tolist() == [0, 0]


def test_heatmap_peaks_at_its_point_and_falls_as_a_gaussian() -> None:
    heatmap = gaussian_heatmaps(torch.tensor([[[0.0, 0.5]]]), 5)[0, 0]  # the point sits on pixel (x 2, y 3)
    assert heatmap[3, 2] == 1
    assert heatmap[3, 3].item() == pytest.approx(math.exp(-(0.5**2) / 0.02))


def test_inverse() -> None:
    matrix = torch.randn(7, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(invert_2x2(matrix), torch.linalg.inv(matrix))


def test_sparse_motion_takes_driving_points_to_source_points() -> None:
    source, driving = keypoints([(0.25, -0.5)], [[2.0, 0.0], [0.0, 1.0]]), keypoints([(-0.5, 0.0)])
    motions = sparse_motions(coordinate_grid(5, 5, source.value), source, driving)
    assert motions.shape == (1, 2, 5, 5, 2)
    assert torch.equal(motions[0, 0], coordinate_grid(5, 5, source.value))
    assert motions[0, 1, 2, 1].tolist() == [0.25, -0.5]  # pixel (x 1, y 2) is the driving point
    assert motions[0, 1, 2, 2].tolist() == [1.25, -0.5]  # half a unit to its right, stretched by J_s


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(0, 0), (1, 0), (1, 1), (0, 1), (0.5, 0.5)], 1.0),
        ([(0, 0), (2, 0), (0, 1)], 1.0),
        ([(0, 0), (1, 1), (2, 2)], 0.0),
        ([(0, 0), (0, 0), (1, 0), (0.5, 0), (0.5, 1)], 0.5),
    ],
)
def test_hull_area(points: list[tuple[float, float]], area: float) -> None:
    assert hull_area(np.array(points, np.float32)) == pytest.approx(area)


def test_relative_motion() -> None:
    source = keypoints([(0.0, 0.0), (0.4, 0.0), (0.0, 0.4)])
    reference = keypoints([(0.1, 0.1), (0.3, 0.1), (0.1, 0.3)])
    driving = keypoints([(0.2, 0.1), (0.4, 0.1), (0.2, 0.3)], [[0.0, -1.0], [1.0, 0.0]])
    assert adapted_scale(source, reference) == pytest.approx(2)
    moved = relative_keypoints(source, driving, reference, scale=2)
    torch.testing.assert_close(moved.value, source.value + torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(moved.jacobian, driving.jacobian)
    still = relative_keypoints(source, reference, reference, scale=2)
    torch.testing.assert_close(still.value, source.value)


def test_flat_reference_has_no_scale() -> None:
    line = keypoints([(0.0, 0.0), (0.1, 0.1), (0.2, 0.2)])
    with pytest.raises(ValueError, match="no area"):
        adapted_scale(line, line)


def test_beyond_the_border_lie_zeros_or_the_border() -> None:
    maps = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    outside = torch.tensor([[[[-3.0, -1.0], [0.0, 2.5], [5.0, 5.0]]]])
    assert sample(maps, outside).flatten().tolist() == [0, 0, 0]
    assert sample(maps, outside, "replicate").flatten().tolist() == [1, 8, 9]
    inside = torch.tensor([[[[-0.5, 0.25], [1.0, 1.0]]]])
    assert torch.equal(sample(maps, inside), sample(maps, inside, "replicate"))


def test_jacobians_of_a_turned_head_are_its_rotation() -> None:
    points = (13, *RIGID_POINTS[:12], 14)
    turn, nod, tilt = 0.4, -0.2, 0.3
    about = (
        np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]),
        np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]),
        np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]]),
    )
    rotation = about[0] @ about[1] @ about[2]
    places = np.zeros((2, len(points), 2))
    for frame, (scale, shift) in enumerate(((2 / 5.45, 0.0), (0.5, 0.3))):
        places[frame, 1:-1] = scale * (RIGID_SHAPE[:12] @ rotation.T)[:, :2] + shift
    found = jacobians_of_places(torch.from_numpy(places), points, "rotation")
    assert found.shape == (2, len(points), 2, 2)
    for frame, scale in enumerate((1.0, 0.5 * 5.45 / 2)):
        for jacobian in found[frame]:
            assert np.abs(jacobian.numpy() - scale * rotation[:2, :2]).max() < 1e-6
    assert torch.equal(
        jacobians_of_places(torch.from_numpy(places), points, "identity"),
        torch.eye(2, dtype=torch.float64).expand(2, len(points), 2, 2),
    )


def test_linear_jacobians_are_the_map_of_all_places_for_arrays_and_tensors_alike() -> None:
    made = np.random.default_rng(3)
    places = made.uniform(-1, 1, (2, 3, 2))
    rows = made.normal(size=(7, 12))
    linear = tuple(tuple(row) for row in rows.tolist())
    found = linear_jacobians(places, linear)
    for frame in range(2):
        for point in range(3):
            for row in range(2):
                for column in range(2):
                    to = 4 * point + 2 * row + column
                    expected = sum(places[frame].reshape(-1)[at] * rows[at, to] for at in range(6)) + rows[6, to]
                    assert found[frame, point, row, column] == pytest.approx(expected)
    same = linear_jacobians(torch.from_numpy(places), linear)
    np.testing.assert_allclose(same.numpy(), found, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "enough"),
    [
        ((33, 263, 168, 10, 454, 234), True),
        ((13, 33, 263, 4, 454, 234, 14), True),
        ((454, 234, 10, 1), False),  # three rigid ones lie in a plane
        ((168, 6, 197, 195, 5, 4, 10, 151, 9), False),  # so does the midline
        ((33, 133, 362, 263), False),  # and so do the eyes
        ((13, 14), False),
    ],
)
def test_a_rotation_takes_points_that_are_not_in_one_plane(points: tuple[int, ...], enough: bool) -> None:
    assert tells_rotation(points) == enough


EYES = (159, 468, 145, 1, 386, 473, 374)


def eyes(gap: float, other_gap: float, turned_deg: float = 0.0) -> NDArray[np.float64]:
    """(1, 7, 2): irises half a unit apart, lids so far apart of it about them; a nose tip; all turned."""
    places = np.zeros((7, 2))
    for first, x, each in ((0, -0.25, gap), (4, 0.25, other_gap)):
        places[first : first + 3] = (x, -each / 4), (x, 0.0), (x, each / 4)
    places[3] = 0, 0.2
    angle = math.radians(turned_deg)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned: NDArray[np.float64] = (places @ turn.T)[None]
    return turned


@pytest.mark.parametrize("turned_deg", [0.0, 30.0, -75.0])
def test_irises_are_squeezed_across_the_eyes_as_lids_shut(turned_deg: float) -> None:
    along = np.array([math.cos(math.radians(turned_deg)), math.sin(math.radians(turned_deg))])
    down = np.array([-along[1], along[0]])
    found = squeezes(eyes(0.12, 0.06, turned_deg), EYES)
    np.testing.assert_allclose(found[0, [0, 1, 2, 3, 4, 6]], np.tile(np.eye(2), (6, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(found[0, 5] @ along, along, atol=1e-6)
    np.testing.assert_allclose(found[0, 5] @ down, down / 2, atol=1e-6)
    # A tensor likewise; in another size of the face nothing is different.
    same = squeezes(torch.from_numpy(1.7 * eyes(0.12, 0.06, turned_deg)), EYES)
    np.testing.assert_allclose(same.numpy(), found, atol=1e-6)


def test_a_shut_eye_leaves_an_iris_a_motion() -> None:
    """Lids that cross or meet squeeze to a fifth, not to nothing: motions have to be inverted."""
    for gap, share in ((0.0, 0.2), (-0.1, 0.2), (0.9, 2.0)):
        np.testing.assert_allclose(squeezes(eyes(gap, 0.12), EYES)[0, 1], np.diag([1, share]), atol=1e-9)
    assert irises_have_lids(EYES)
    # Not without irises, nor without the lids before one of them.
    assert not irises_have_lids((159, 4, 145, 1, 386, 473, 374))
    assert not irises_have_lids((159, 468, 5, 1, 386, 473, 374))


@pytest.mark.parametrize("kind", ["detected", "identity"])
def test_what_drives_has_both_squeezes(kind: str) -> None:
    """The motion of an iris is squeezed as lids are against the source's; relative motion is the same as absolute."""
    made = np.random.default_rng(1)
    told = {"points": list(EYES), "jacobians": kind}
    info, plain = (ModelInfo(training={"keypoints": {**told, **more}}) for more in ({"irises": "squeezed"}, {}))
    jacobians = np.eye(2) + 0.2 * made.normal(size=(2, 1, 7, 2, 2))
    if kind == "identity":
        jacobians[:] = np.eye(2)
    source, driving = (
        Keypoints(places, jacobian)
        for places, jacobian in zip((eyes(0.1, 0.1, 10), eyes(0.05, 0.11, -5)), jacobians, strict=True)
    )
    np.testing.assert_allclose(driven_as_trained(plain, driving, source).jacobian, driving.jacobian)
    squeezed_source = squeezes(source.value, EYES) @ source.jacobian
    expected = squeezed_source @ np.linalg.inv(squeezes(driving.value, EYES) @ driving.jacobian)
    got = driven_as_trained(info, driving, source)
    np.testing.assert_allclose(source.jacobian @ np.linalg.inv(got.jacobian), expected, atol=1e-9)
    still = driven_as_trained(info, source, source)
    np.testing.assert_allclose(still.jacobian, source.jacobian, atol=1e-9)
    # A performer whose lids were shut in the reference opens them: nothing is torn.
    reference = driving._replace(value=eyes(0.0, 0.0, -5))
    moved = relative_keypoints(source, driving, reference)
    got = driven_as_trained(info, moved, source)
    motion = source.jacobian @ np.linalg.inv(got.jacobian)
    assert 0.3 < np.linalg.det(motion[0, 1]) / np.linalg.det(motion[0, 0]) < 1
