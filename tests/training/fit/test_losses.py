"""Each loss against the stored cases of the released training, and what the cases do not hold."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.autograd.functional
from numpy.typing import NDArray
from torch import Tensor

from mcnet.arrays import Keypoints
from mcnet.checkpoint import build_released
from mcnet.dense_motion import Motion
from mcnet.geometry import coordinate_grid
from mcnet.memory import Compensation
from mcnet.mesh_points import LEFT_EYE_RING, RIGHT_EYE_RING
from tests.released import CASES, SHAPES, _draw_one, load_case, to_tensor
from tests.tolerance import FLOAT16, PICTURE, PLACE, assert_near, largest_error, of_sums, products
from training.fit import losses
from training.fit.discriminator import Discriminator
from training.fit.warps import Warp, random_warp
from training.landmarks import (
    EYE_CORNERS,
    EYE_OPENINGS,
    GUIDANCE_POINTS,
    MOUTH_OPENINGS,
    MOUTH_POINTS,
    PUPILS,
    TRAINING_POINTS,
)

FEW = of_sums(100)
"""Of places about 1: a warp adds up 25 control points and an affine part, a loss of keypoints 15 of them."""


class Case(NamedTuple):
    stored: dict[str, NDArray[Any]]
    keypoints: dict[str, Keypoints]
    warp: Warp


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    stored = load_case(request.param)
    keypoints = {
        name: Keypoints(*(torch.from_numpy(stored[f"kp_{name}_{part}"]) for part in ("value", "jacobian")))
        for name in ("source", "driving", "transformed")
    }
    warp = Warp(torch.from_numpy(stored["transform_theta"]), torch.from_numpy(stored["transform_control_params"]))
    return Case(stored, keypoints, warp)


def test_equivariance_value(case: Case) -> None:
    loss = losses.equivariance_value(case.keypoints["driving"], case.keypoints["transformed"], case.warp)
    assert loss.item() == pytest.approx(float(case.stored["loss_equivariance_value"]), abs=FEW)


def test_equivariance_jacobian(case: Case) -> None:
    loss = losses.equivariance_jacobian(case.keypoints["driving"], case.keypoints["transformed"], case.warp)
    # Three matrices in turn, one of them inverted; all are near the identity.
    assert loss.item() == pytest.approx(float(case.stored["loss_equivariance_jacobian"]), abs=4 * FEW)


def test_landmarks_lie_where_the_warped_picture_shows_them() -> None:
    generator = torch.Generator().manual_seed(0)
    warp = random_warp(
        torch.randn((1, 2, 3), generator=generator) * 0.05, torch.randn((1, 1, 25), generator=generator) * 0.005
    )
    line = torch.linspace(-1, 1, 64)
    blob = torch.exp(-((line - line[41]).square() + (line[:, None] - line[20]).square()) / 0.01)
    seen = warp.pictures(blob[None, None])[0, 0]
    seen = seen / seen.sum()
    told = warp.landmarks(torch.tensor([[[line[41], line[20]]]]), 64)[0, 0]
    centre = torch.stack(((seen * line).sum(), (seen * line[:, None]).sum()))
    assert (told - centre).abs().max() < 0.1 * 2 / 63  # a tenth of a pixel of the 64: the blob is seen in pixels


def test_warped_frame(case: Case) -> None:
    warped = case.warp.pictures(to_tensor(case.stored["driving"]))
    assert_near(warped, case.stored["transformed_frame"], FLOAT16 + PICTURE)


def test_keypoint_distance_of_paper(case: Case) -> None:
    counted = losses.keypoint_distance_of_paper(case.keypoints["source"].value)
    counted = counted + losses.keypoint_distance_of_paper(case.keypoints["driving"].value)
    assert counted.item() == pytest.approx(float(case.stored["loss_keypoint_distance_unweighted"]), abs=FEW)


def test_pyramid(case: Case) -> None:
    levels = losses.Pyramid((1, 2, 4, 8))(to_tensor(case.stored["source"]))
    assert torch.equal(levels[0], to_tensor(case.stored["source"]))
    for level, share in zip(levels[1:], ("0.5", "0.25", "0.125"), strict=True):
        assert_near(level, case.stored[f"pyramid_{share}"], FLOAT16 + PICTURE)


@pytest.mark.parametrize("name", CASES)
def test_feature_consistency(name: str) -> None:
    # Encoder and memory are drawn as stored; the motion is taken from the case, and nobody asks the decoder.
    stored = load_case(name)
    needed = ("first.", "down_blocks.", "mbUnit.")
    released = {
        f"{part}.{key}": torch.from_numpy(_draw_one(part, key, shape, int(stored["seed"])))
        if part == "generator" and key.startswith(needed)
        else torch.zeros(shape)
        for part in ("generator", "kp_detector")
        for key, shape in SHAPES[part].items()
    }
    generator = build_released(released, name).generator
    points = Keypoints(*(torch.from_numpy(stored[f"kp_source_{part}"]) for part in ("value", "jacobian")))
    names = ("deformation", "occlusion_map", "mask")
    motion = Motion(*(torch.from_numpy(stored[f"absolute_{part}"]).float() for part in names))
    assert generator.memory is not None
    with torch.inference_mode():
        warped = generator.warp(generator.encode_source(to_tensor(stored["source"]), points), motion)
        traces = [generator.memory.trace(feature, points, None) for feature in warped.features[:3]]
    loss = losses.feature_consistency(traces)
    layers = sum(products(part) for part in (generator.first, generator.down_blocks, generator.memory))
    assert loss.item() == pytest.approx(float(stored["loss_feature_consistency_unweighted"]), rel=of_sums(layers))


def test_feature_consistency_leaves_the_feature_alone() -> None:
    feature, value = torch.rand(1, 2, 8, 8, requires_grad=True), torch.rand(1, 2, 4, 4, requires_grad=True)
    losses.feature_consistency([Compensation(feature, feature, value, value, value, value, value)]).backward()  # type: ignore[no-untyped-call]
    assert feature.grad is None
    assert value.grad is not None
    assert value.grad.abs().sum() > 0


def test_keypoint_hinge_pushes_apart_what_the_paper_counts() -> None:
    points = torch.tensor([[[0.0, 0.0], [0.1, 0.0], [0.9, 0.9]]], requires_grad=True)
    loss = losses.keypoint_distance(points)
    assert loss.item() == pytest.approx(2 * 0.1 / 9, abs=FEW)
    assert losses.keypoint_distance_of_paper(points).item() == pytest.approx(2 * 2 / 9, abs=FEW)
    loss.backward()  # type: ignore[no-untyped-call]
    assert points.grad is not None
    assert points.grad[0, 0, 0] > 0 > points.grad[0, 1, 0]  # gradient descent moves the first left, the second right
    assert points.grad[0, 2].abs().sum() == 0


def test_jacobian_of_a_warp_is_its_derivative() -> None:
    generator = torch.Generator().manual_seed(1)
    warp = random_warp(
        0.05 * torch.randn(2, 2, 3, generator=generator, dtype=torch.float64),
        0.005 * torch.randn(2, 1, 25, generator=generator, dtype=torch.float64),
    )
    places = torch.rand(2, 4, 2, generator=generator, dtype=torch.float64) * 2 - 1
    derivative = torch.autograd.functional.jacobian(warp.points, places)  # type: ignore[no-untyped-call]
    assert isinstance(derivative, Tensor)
    for sample in range(2):
        for place in range(4):
            expected = derivative[sample, place, :, sample, place]
            # In float64, whose rounding lies far below.
            assert torch.allclose(warp.jacobian(places)[sample, place], expected, atol=1e-10)


@pytest.mark.parametrize("axes", [1, 2])
def test_inverse_of_a_warp(axes: int) -> None:
    generator = torch.Generator().manual_seed(2)
    warp = random_warp(
        0.1 * torch.randn(3, 2, 3, generator=generator), 0.005 * torch.randn(3, axes, 25, generator=generator)
    )
    targets = torch.rand(3, 6, 2, generator=generator) * 2 - 1
    assert largest_error(warp.points(warp.inverse(targets)), targets) < PLACE
    grid = warp.grid(16)
    identity = coordinate_grid(16, 16, grid).flatten(0, 1).expand(3, -1, -1)
    assert largest_error(grid.flatten(1, 2), warp.points(identity)) < FEW * grid.abs().max().item()


def test_gan_terms() -> None:
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.5])
    assert losses.gan_generator(fake).item() == pytest.approx((1 + 0.25) / 2)
    assert losses.gan_discriminator(real, fake).item() == pytest.approx((0 + 0.25 + 0 + 0.25) / 2)
    first = torch.tensor([1.0, 0.0])
    assert losses.gan_generator(fake, first).item() == pytest.approx(1 / 2)
    assert losses.gan_discriminator(real, fake, first).item() == 0
    assert losses.feature_matching([real], [fake], first).item() == pytest.approx(1 / 2)


def test_feature_matching_sums_blocks_and_leaves_the_real_alone() -> None:
    discriminator = Discriminator(2, (4, 4, 4, 4))
    real = torch.rand(1, 3, 64, 64, requires_grad=True)
    fake = torch.rand(1, 3, 64, 64, requires_grad=True)
    points = torch.zeros(1, 2, 2)
    loss = losses.feature_matching(discriminator(real, points)[0], discriminator(fake, points)[0])
    loss.backward()  # type: ignore[no-untyped-call]
    expected = sum(
        (a - b).abs().mean()
        for a, b in zip(discriminator(real, points)[0], discriminator(fake, points)[0], strict=True)
    )
    assert loss.item() == pytest.approx(torch.as_tensor(expected).item(), rel=of_sums(products(discriminator)))
    assert real.grad is None
    assert fake.grad is not None


def test_guidance_counts_only_landmarks_that_can_be_seen() -> None:
    columns = [TRAINING_POINTS.index(point) for point in GUIDANCE_POINTS[:3]]
    landmarks = torch.zeros(2, len(TRAINING_POINTS), 2)
    landmarks[:, columns[0]] = torch.tensor([0.5, 0.0])
    landmarks[:, columns[1]] = torch.tensor([1.2, 0.0])  # left the picture
    points = torch.zeros(2, 3, 2, requires_grad=True)
    loss = losses.landmark_guidance(points, landmarks, torch.tensor([True, False]), columns)
    assert loss.item() == pytest.approx(0.25 / 6, abs=FEW)
    loss.backward()  # type: ignore[no-untyped-call]
    assert points.grad is not None
    assert points.grad.nonzero().tolist() == [[0, 0, 0]]


def eye_landmarks(gap: float) -> Tensor:
    """(1, P, 2): all at the centre but the left eye's middle and corners, a gap apart."""
    landmarks = torch.zeros(1, len(TRAINING_POINTS), 2)
    opening = EYE_OPENINGS[0]
    for point, place in zip(opening, ((0.3, -gap / 2), (0.3, gap / 2), (0.2, 0.0), (0.4, 0.0)), strict=True):
        landmarks[:, TRAINING_POINTS.index(point)] = torch.tensor(place)
    return landmarks


def test_keypoint_openings_mind_the_gap_and_not_the_place() -> None:
    pairs = losses.keypoint_pairs((1, 386, 374, 159))
    assert [(pair.upper, pair.lower) for pair in pairs] == [(1, 2)]  # 159 lacks its other lid
    landmarks, valid = eye_landmarks(0.1), torch.tensor([True])
    points = torch.tensor([[[0.0, 0.0], [0.9, 0.45], [0.9, 0.55], [0.0, 0.0]]])
    assert losses.keypoint_openings(points, landmarks, valid, pairs).item() == pytest.approx(0.0, abs=FEW)
    points[0, 1, 1] = 0.55  # closed
    assert losses.keypoint_openings(points, landmarks, valid, pairs).item() == pytest.approx(0.1 / 2, abs=FEW)
    assert losses.keypoint_openings(points, landmarks, ~valid, pairs).item() == 0


def test_correspondence_is_what_the_deformation_misses() -> None:
    grid = coordinate_grid(64, 64, torch.zeros(0))[None]
    driving = torch.tensor([[[0.2, -0.3], [0.5, 0.5], [0.0, 1.4]]])
    source = driving + torch.tensor([0.1, 0.0])
    valid = torch.tensor([True])
    deformation = grid + torch.tensor([0.1, 0.0])
    assert losses.correspondence(deformation, source, driving, valid).item() == pytest.approx(0, abs=FEW)
    missed = losses.correspondence(grid, source, driving, valid)
    assert missed.item() == pytest.approx(2 * 0.05 / 3, abs=FEW)  # the third point left the picture
    assert losses.correspondence(grid, source, driving, valid, [0]).item() == pytest.approx(0.05, abs=FEW)
    assert losses.correspondence(grid, source, driving, ~valid).item() == 0


def looking(gap: float, moved: float = 0.0) -> Tensor:
    """(1, P, 2): two eyes, so far open over the distance of their corners; pupils in their middles, moved to a side."""
    landmarks = torch.zeros(1, len(TRAINING_POINTS), 2)
    for opening in EYE_OPENINGS:
        middle = 0.3 if opening[2:] == EYE_OPENINGS[0][2:] else -0.3
        places = ((middle, -0.1 * gap), (middle, 0.1 * gap), (middle - 0.1, 0.0), (middle + 0.1, 0.0))
        for point, place in zip(opening, places, strict=True):
            landmarks[:, TRAINING_POINTS.index(point)] = torch.tensor(place)
    for pupil, corners in zip(PUPILS, EYE_CORNERS, strict=True):
        middle_of = landmarks[:, [TRAINING_POINTS.index(point) for point in corners]].mean(1)
        landmarks[:, TRAINING_POINTS.index(pupil)] = middle_of + torch.tensor([moved, 0.0])
    return landmarks


def test_the_gaze_counts_of_eyes_that_are_open_in_both() -> None:
    source, driving, valid = looking(0.2, 0.02), looking(0.2), torch.tensor([True])
    grid = coordinate_grid(64, 64, torch.zeros(0))[None].requires_grad_()
    missed = losses.gaze(grid, source, driving, valid)
    assert missed.item() == pytest.approx(0.01, abs=FEW)
    assert losses.gaze(grid + torch.tensor([0.02, 0.0]), source, driving, valid).item() == pytest.approx(0, abs=FEW)
    (gradient,) = torch.autograd.grad(missed, grid)
    assert (gradient != 0).any(-1).sum() == 2 * 4  # around both pupils, and nowhere else
    shut = looking(0.05)
    for one, other in ((shut, driving), (source, shut)):
        assert losses.gaze(grid, one, other, valid).item() == 0
    assert losses.gaze(grid, source, driving, ~valid).item() == 0
    winking = driving.clone()
    left = [TRAINING_POINTS.index(point) for opening in EYE_OPENINGS[:5] for point in opening]
    winking[:, left] = shut[:, left]
    assert losses.gaze(grid, source, winking, valid).item() == pytest.approx(0.005, abs=FEW)
    # Each pupil counts by its own eye.
    for pupil, expected in zip(PUPILS, (0.005, 0.0), strict=True):
        aside = driving.clone()
        aside[:, TRAINING_POINTS.index(pupil), 0] += 0.02
        assert losses.gaze(grid, aside, winking, valid).item() == pytest.approx(expected, abs=FEW)


def test_places_outside_a_closed_eye_are_apart_and_turn_with_it() -> None:
    closed = losses.outside_openings(eye_landmarks(0.0))[0]
    count = len(MOUTH_OPENINGS) + len(EYE_OPENINGS)
    assert closed.shape == (2 * count, 2)
    first = len(MOUTH_OPENINGS)
    above, below = closed[first], closed[first + count]
    assert above.tolist() == pytest.approx([0.3, -losses.OUTSIDE], abs=FEW)
    assert below.tolist() == pytest.approx([0.3, losses.OUTSIDE], abs=FEW)
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # clockwise as seen
    turned = losses.outside_openings(eye_landmarks(0.0) @ quarter)[0]
    assert largest_error(turned[first], above @ quarter) < FEW


def test_occlusion_judge_trusts_a_good_warp_only() -> None:
    target = torch.zeros(1, 3, 64, 64)
    warped = target.clone()
    warped[..., 32:] = 0.5
    warped.requires_grad_()
    occlusion = torch.full((1, 1, 64, 64), 0.5, requires_grad=True)
    losses.occlusion_by_errors(occlusion, warped, target, price=1.5).backward()  # type: ignore[no-untyped-call]
    assert warped.grad is None
    assert occlusion.grad is not None
    assert (occlusion.grad[..., :28] < 0).all()  # descent opens it where the warp is right
    assert (occlusion.grad[..., 36:] > 0).all()


def test_occlusion_by_both_errors_trusts_the_better_picture_by_its_share() -> None:
    target = torch.zeros(1, 3, 32, 256)
    warped, generated = torch.full_like(target, 0.1), torch.full_like(target, 0.3)
    warped[..., 128:], generated[..., 128:] = 0.4, 0.1
    pictures = warped.requires_grad_(), generated.requires_grad_()
    logits = torch.zeros(1, 1, 8, 64, requires_grad=True)
    for _ in range(200):
        loss = losses.occlusion_by_both_errors(torch.sigmoid(logits), warped, generated, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 8 * 64 * gradient).detach().requires_grad_()
    losses.occlusion_by_both_errors(torch.sigmoid(logits), warped, generated, target).backward()  # type: ignore[no-untyped-call]
    assert all(picture.grad is None for picture in pictures)
    learned = torch.sigmoid(logits.detach())[0, 0]
    # e_g / (e_g + e_w), each with its 1e-3; within the 9x9 pixels about the edge both sides are seen.
    assert largest_error(learned[:, :31], torch.full((8, 31), 0.301 / 0.402)) < PICTURE
    assert largest_error(learned[:, 33:], torch.full((8, 31), 0.101 / 0.502)) < PICTURE


def test_an_adversarial_gradient_gets_its_share() -> None:
    others, adversarial = torch.tensor([3.0, 4.0]), torch.tensor([[0.0], [2.0]])
    factor = losses.adversarial_factor(others, adversarial, 0.3)
    assert (factor * adversarial).norm().item() == pytest.approx(0.3 * 5.0, rel=1e-5)
    assert losses.adversarial_factor(others, torch.zeros(2), 0.3).item() == 1e4  # VQGAN's limit


def test_lid_distances_count_whatever_the_place() -> None:
    pairs = losses.keypoint_pairs((386, 374, 1))
    wanted = torch.tensor([[[0.1, 0.2], [0.1, 0.3], [0.0, 0.0]]])
    elsewhere = (wanted + 0.5).requires_grad_()
    assert losses.shown_openings(elsewhere, wanted, pairs).item() == pytest.approx(0.0, abs=FEW)
    shut = wanted.clone()
    shut[0, 1, 1] = 0.2
    assert losses.shown_openings(shut, wanted, pairs).item() == pytest.approx(0.1 / 2)  # of x and y


def test_region_weights_lie_on_the_mouth_and_have_mean_one() -> None:
    landmarks = torch.zeros(2, len(TRAINING_POINTS), 2)
    angle = torch.linspace(0, 2 * torch.pi, 21)[:-1]
    for point, a in zip(MOUTH_POINTS, angle.tolist(), strict=True):
        landmarks[:, TRAINING_POINTS.index(point)] = torch.tensor([0.3 * np.cos(a), 0.5 + 0.1 * np.sin(a)])
    weights = losses.region_weights(landmarks, torch.tensor([True, False]), 64, losses.Regions(mouth=4.0, eyes=0.0))
    assert weights is not None
    assert largest_error(weights.mean((1, 2, 3)), torch.ones(2)) < of_sums(64 * 64)
    assert torch.equal(weights[1], torch.ones(1, 64, 64))
    row, column = round((0.5 + 1) / 2 * 63), 31
    ratio = weights[0, 0, row, column] / weights[0, 0, 5, 5]
    assert ratio.item() == pytest.approx(5.0, rel=0.02)  # the soft border leaves 0.998 of what is added in the middle
    assert losses.region_weights(landmarks, torch.tensor([True, False]), 64, losses.Regions(0, 0)) is None


def test_region_weights_are_soft_ellipses_about_each_ring() -> None:
    generator = torch.Generator().manual_seed(4)
    landmarks = 0.5 * torch.randn(3, len(TRAINING_POINTS), 2, generator=generator, dtype=torch.float64)
    valid = torch.tensor([True, True, False])
    got = losses.region_weights(landmarks, valid, 48, losses.Regions(mouth=4.0, eyes=2.0))
    assert got is not None
    grid = coordinate_grid(48, 48, landmarks)
    expected = torch.ones(3, 48, 48, dtype=torch.float64)
    for points, weight in ((MOUTH_POINTS, 4.0), (LEFT_EYE_RING, 2.0), (RIGHT_EYE_RING, 2.0)):
        ring = landmarks[:, [TRAINING_POINTS.index(point) for point in points]]
        for sample in range(2):
            spread = torch.cov(ring[sample].T, correction=0) + torch.eye(2, dtype=torch.float64) * 0.02**2
            offset = grid - ring[sample].mean(0)
            squared = torch.einsum("hwx,xy,hwy->hw", offset, torch.linalg.inv(spread), offset) / (2 * 1.5**2)
            expected[sample] += weight * torch.sigmoid(6 * (1 - squared))
    expected = expected / expected.mean((1, 2), keepdim=True)
    assert largest_error(got[:, 0], expected) < 1e-10  # in float64, whose rounding lies far below


def test_perceptual_is_zero_for_equal_pictures_and_grows() -> None:
    backbone = torch.nn.Conv2d(3, 4, 3)

    def taps(x: Tensor) -> list[Tensor]:
        return [backbone(x)]

    same = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pyramid = losses.Pyramid((1, 2))
    assert losses.perceptual(taps, pyramid, same, losses.perceived(taps, pyramid, same)).item() == 0
    other = (same + 0.2).requires_grad_()
    loss = losses.perceptual(taps, pyramid, other, losses.perceived(taps, pyramid, same))
    expected = (backbone(other) - backbone(same)).abs().mean()
    expected = expected + (backbone(pyramid(other)[1]) - backbone(pyramid(same)[1])).abs().mean()
    # The features differ by a fifth of their size or more.
    assert loss.item() == pytest.approx(expected.item(), rel=5 * of_sums(products(backbone)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert other.grad is not None
