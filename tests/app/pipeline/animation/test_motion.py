import math

import numpy as np
import pytest

from app.pipeline.animation.motion import (
    MotionFilter,
    OneEuroFilter,
    Pose,
    Reference,
    gains_of,
)
from app.pipeline.animation.smoothing import SLOW, smoothing_cutoff_hz, smoothing_delay_ms
from app.settings import LiveSettings
from mcnet.arrays import Array, Keypoints
from mcnet.media.head_motion import Gains
from mcnet.pose import adapted_scale, hull_area, relative_keypoints
from tests.tolerance import EPSILON, of_sums


def random_keypoints(seed: int) -> Keypoints[Array]:
    generator = np.random.default_rng(seed)
    value = generator.random((1, 15, 2), np.float32) - np.float32(0.5)
    jacobian = np.eye(2, dtype=np.float32) + np.float32(0.2) * generator.standard_normal((1, 15, 2, 2), np.float32)
    return Keypoints(value, jacobian)


def test_gains_of_one_are_the_engines_relative_motion() -> None:
    source, other, reference = (random_keypoints(seed) for seed in range(3))
    # As far as a face moves: beyond that the app limits what the engine does not.
    driving = Keypoints(reference.value + 0.08 * (other.value + 0.5), other.jacobian)
    calibrated = Reference(Pose.of(reference))
    assert not calibrated.is_strange(Pose.of(driving))
    moved = calibrated.relative(Pose.of(source), Pose.of(driving), 1.0, 1.0)
    expected = relative_keypoints(source, driving, reference, adapted_scale(source, reference))
    # The engine's are float32: a scale, two differences and three matrices, one of them inverted.
    np.testing.assert_allclose(moved.value, expected.value[0], atol=of_sums(100))
    np.testing.assert_allclose(moved.jacobian, expected.jacobian[0], atol=of_sums(100))


def test_gains_of_nought_leave_the_source_as_it_is() -> None:
    source, driving, reference = (Pose.of(random_keypoints(seed)) for seed in range(3))
    calibrated = Reference(reference)
    still = calibrated.relative(source, driving, 0.0, 0.0)
    np.testing.assert_allclose(still.value, source.value, atol=1e-12)
    np.testing.assert_allclose(still.jacobian, source.jacobian, atol=1e-12)


def test_a_moved_head_is_motion_and_nothing_of_it_is_expression() -> None:
    source, reference = (Pose.of(random_keypoints(seed)) for seed in range(2))
    turn = np.array([[0.96, -0.28], [0.28, 0.96]])
    driving = Pose(reference.value @ turn.T + [0.1, -0.05], turn @ reference.jacobian)
    calibrated = Reference(reference)
    without_expression = calibrated.relative(source, driving, 1.0, 0.0)
    both = calibrated.relative(source, driving, 1.0, 1.0)
    only_expression = calibrated.relative(source, driving, 0.0, 1.0)
    np.testing.assert_allclose(without_expression.value, both.value, atol=1e-9)
    np.testing.assert_allclose(only_expression.value, source.value, atol=1e-9)
    np.testing.assert_allclose(only_expression.jacobian, source.jacobian, atol=1e-9)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_tilted_head_is_tilted_further_and_not_blown_up(gain: float) -> None:
    source = reference = Pose.of(random_keypoints(1))
    angle = math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = reference.value.mean(axis=0)
    driving = Pose((reference.value - centre) @ turn.T + centre, turn @ reference.jacobian)
    calibrated = Reference(reference)
    moved = calibrated.relative(source, driving, gain, 1.0)
    angle *= gain
    expected = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(moved.value, (source.value - centre) @ expected.T + centre, atol=1e-9)
    np.testing.assert_allclose(moved.jacobian, expected @ source.jacobian, atol=1e-9)


def test_one_moved_point_is_mostly_expression() -> None:
    source, reference = (Pose.of(random_keypoints(seed)) for seed in range(2))
    value = reference.value.copy()
    value[4] += [0.0, 0.1]
    calibrated = Reference(reference)
    doubled = calibrated.relative(source, Pose(value, reference.jacobian), 1.0, 2.0).value - source.value
    plain = calibrated.relative(source, Pose(value, reference.jacobian), 1.0, 1.0).value - source.value
    assert doubled[4, 1] > 1.6 * plain[4, 1]


@pytest.mark.parametrize("change", ["scattered", "inside out", "blown up", "flattened", "far away"])
def test_keypoints_as_no_face_has_them_tear_nothing(change: str) -> None:
    source, reference = (Pose.of(random_keypoints(seed)) for seed in range(2))
    centre = reference.value.mean(axis=0)
    value = {
        "scattered": np.random.default_rng(5).uniform(-1, 1, reference.value.shape),
        "inside out": (reference.value - centre) * [-1, 1] + centre,
        "blown up": 3 * reference.value,
        "flattened": (reference.value - centre) * [0.1, 1] + centre,
        "far away": reference.value + np.array([2.0, 0.0]),
    }[change]
    calibrated = Reference(reference)
    assert calibrated.is_strange(Pose(value, reference.jacobian)) == (change != "far away")
    moved = calibrated.relative(source, Pose(value, reference.jacobian), 1.0, 1.0)
    assert np.isfinite(moved.jacobian).all()
    scale = math.sqrt(hull_area(source.value.astype(np.float32)) / hull_area(reference.value.astype(np.float32)))
    spread = scale * np.sqrt(np.square(reference.value - centre).sum())
    stayed = source.value - source.value.mean(axis=0) + moved.value.mean(axis=0)
    # Turned by 75 degrees at most and stretched by a third, and a sixth of the spread besides.
    most = math.sqrt(1.35**2 + 1 - 2 * 1.35 * math.cos(math.radians(75))) + 0.16
    assert np.sqrt(np.square(moved.value - stayed).sum()) <= most * spread
    assert np.abs(moved.value.mean(axis=0) - source.value.mean(axis=0)).max() <= 0.46 * scale


def test_a_flat_reference_is_refused() -> None:
    flat = Pose(np.linspace(0, 1, 10).repeat(2).reshape(10, 2), np.tile(np.eye(2), (10, 1, 1)))
    calibrated = Reference(flat)
    with pytest.raises(ValueError, match="span no area"):
        calibrated.relative(flat, flat, 1.0, 1.0)


def test_poses_go_to_keypoints_and_back() -> None:
    pose = Pose.of(random_keypoints(3))
    back = Pose.of(pose.to_keypoints())
    np.testing.assert_allclose(back.value, pose.value, atol=EPSILON)  # float32 in between
    np.testing.assert_allclose(pose.towards(back, 0.5).jacobian, pose.jacobian, atol=EPSILON)


def test_smoothing_of_nought_changes_nothing() -> None:
    filtered = OneEuroFilter()
    for value in (0.0, 1.0, -3.0):
        np.testing.assert_array_equal(filtered.update(np.array([value]), 0.03, 0.0), [value])
    assert smoothing_delay_ms(0.0) == 0
    assert math.isinf(smoothing_cutoff_hz(0.0))


def test_jitter_at_rest_is_damped_more_the_stronger_the_setting() -> None:
    noise = 0.0005 * np.random.default_rng(0).standard_normal((300, 468, 3))  # of a mesh under a camera's noise
    spread = {}
    for smoothing in (0.1, 0.3, 1.0):
        filtered = OneEuroFilter()
        spread[smoothing] = np.std([filtered.update(value, 1 / 30, smoothing) for value in noise][50:])
    assert spread[1.0] < spread[0.3] < spread[0.1] < 0.0005
    assert spread[0.3] < 0.3 * 0.0005


@pytest.mark.parametrize("smoothing", [0.3, 1.0])
def test_the_stated_delay_is_that_of_a_slow_movement(smoothing: float) -> None:
    """A ramp comes out later by the filter's time constant at its speed."""
    dt_s = 1 / 200
    filtered = OneEuroFilter()
    for step in range(2000):
        answer = filtered.update(np.array([SLOW * step * dt_s]), dt_s, smoothing)
    lag_ms = 1000 * (SLOW * 1999 * dt_s - float(answer[0])) / SLOW
    assert lag_ms == pytest.approx(smoothing_delay_ms(smoothing), abs=1000 * dt_s)
    assert smoothing_delay_ms(0.3) < 30


def test_fast_movement_is_delayed_less() -> None:
    def lag_ms(speed: float) -> float:
        filtered = OneEuroFilter()
        for step in range(200):
            answer = filtered.update(np.array([speed * step / 30]), 1 / 30, 1.0)
        return 1000 * (speed * 199 / 30 - float(answer[0])) / speed

    assert lag_ms(1.0) < 0.5 * lag_ms(0.01)


def test_a_repeated_time_stamp_and_a_reset_do_no_harm() -> None:
    filtered = OneEuroFilter()
    filtered.update(np.array([1.0]), 0.03, 0.5)
    np.testing.assert_array_equal(filtered.update(np.array([5.0]), 0.0, 0.5), [1.0])
    filtered.reset()
    np.testing.assert_array_equal(filtered.update(np.array([5.0]), 0.03, 0.5), [5.0])


def test_a_blink_is_not_held_back_by_the_stillness_of_the_head() -> None:
    """The eyes' filter follows the lids' speed, not the mean speed of a face that rests."""
    upper = 159
    mesh = np.random.default_rng(0).normal(0, 0.2, (468, 3))
    together, apart = OneEuroFilter(), MotionFilter()
    together.update(mesh, 1 / 30, 0.6)
    apart.smooth_mesh(mesh, 1 / 30, 0.6)
    closed = mesh.copy()
    closed[[159, 158, 160, 386, 385, 387], 1] += 0.05
    followed = apart.smooth_mesh(closed, 1 / 30, 0.6)[upper, 1] - mesh[upper, 1]
    held_back = together.update(closed, 1 / 30, 0.6)[upper, 1] - mesh[upper, 1]
    assert followed > 1.5 * held_back
    nose = 1
    np.testing.assert_allclose(apart.smooth_mesh(closed, 1 / 30, 0.6)[nose], mesh[nose], atol=1e-12)


def test_parts_of_the_face_are_gained_by_their_own_and_their_groups_strength() -> None:
    gains = gains_of(
        LiveSettings(
            motion_strength=0.5, nod_strength=2.0, expression_strength=2.0, lids_strength=0.25, gaze_strength=0.5
        )
    )
    assert gains == Gains(
        turn=0.5, nod=1.0, tilt=0.5, shift=0.5, nearness=0.5, lids=0.5, gaze=1.0, mouth=2.0, brows=2.0
    )
