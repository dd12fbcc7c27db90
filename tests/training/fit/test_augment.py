"""Pictures and landmarks move together."""

from pathlib import Path

import pytest
import torch

from tests.tolerance import largest_error
from tests.training.conftest import SIZE_PX
from training.data import open_dataset
from training.draws import Draws
from training.fit.augment import Faces, augment, disturb
from training.fit.config import AugmentConfig
from training.fit.sampler import PairPlan, PairSampler
from training.fit.stores import FrameStore, LandmarkStore
from training.landmarks import MOUTH_POINTS, TRAINING_POINTS

CPU = torch.device("cpu")
STILL = AugmentConfig(flip=False, time_flip=False, jitter=0, hue=0, similarity_share=0)


def pairs(heads: Path, *, still: bool = False) -> tuple[PairPlan, Faces, Faces]:
    dataset = open_dataset(heads)
    plan = PairSampler(dataset, "train", 1.0 if still else 0.0, 1).plan(2, 6)
    frames, landmarks = FrameStore(dataset, CPU, "memmap"), LandmarkStore(dataset, CPU)

    def faces(rows: torch.Tensor) -> Faces:
        return Faces(frames.to_pictures(frames.read(rows)), *landmarks.read(rows))

    return plan, faces(plan.source), faces(plan.driving)


def dark_centre(picture: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Centre (x, y in coordinates) of the dark blob, which is mouth or eye, about a place."""
    line = torch.linspace(-1, 1, SIZE_PX)
    close = ((line[None, :] - near[0]).abs() < 0.2) & ((line[:, None] - near[1]).abs() < 0.13)
    # 1 at the blob's darkness, 0 at the skin's.
    grey = picture.mean(0)
    skin = grey[close].quantile(0.9)  # a wide mouth fills more than half of what is close
    weight = ((0.55 * skin - grey).clamp(min=0) * close).double()
    return torch.stack(((weight.sum(0) * line).sum(), (weight.sum(1) * line).sum())) / weight.sum()


def mouth(faces: Faces, index: int) -> torch.Tensor:
    return faces.landmarks[index, [TRAINING_POINTS.index(point) for point in MOUTH_POINTS]].mean(0)


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_the_mouth_is_where_its_landmarks_are(heads: Path, still: bool, flip: bool) -> None:
    plan, source, driving = pairs(heads, still=still)
    config = AugmentConfig(flip=flip, time_flip=flip, jitter=0, hue=0, similarity_share=1.0)
    before = [mouth(faces, i) for faces in (source, driving) for i in range(6)]
    changed = augment(source, driving, plan, config)
    after = [(faces, i) for faces in changed for i in range(6)]
    moved = 0.0
    for place, (faces, index) in zip(before, after, strict=True):
        told = mouth(faces, index)
        seen = dark_centre(faces.pictures[index], told)
        assert (seen - told).abs().max() < 0.03, f"face {index}: seen at {seen}, told {told}"
        moved = max(moved, float((told - place).abs().max()))
    assert moved > 0.03
    # Source and driving go their own ways.
    assert not torch.allclose(changed[0].landmarks - source.landmarks, changed[1].landmarks - driving.landmarks)


def test_nothing_changes_without_augmentation(heads: Path) -> None:
    plan, source, driving = pairs(heads)
    for before, after in zip((source, driving), augment(source, driving, plan, STILL), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_still_becomes_two_pictures(heads: Path) -> None:
    plan, source, driving = pairs(heads, still=True)
    assert torch.equal(source.pictures, driving.pictures)
    one, other = augment(source, driving, plan, STILL)
    assert (one.pictures - other.pictures).abs().mean((1, 2, 3)).min() > 0.005


def test_a_mirrored_face_has_its_landmarks_on_the_other_side(heads: Path) -> None:
    plan, source, driving = pairs(heads)
    config = AugmentConfig(flip=True, time_flip=False, jitter=0, hue=0)
    flipped = plan.draws.chance("flip", 0.5)
    assert 0 < flipped.sum() < len(flipped)
    changed, _ = augment(source, driving, plan, config)
    assert torch.equal(changed.pictures[flipped], source.pictures[flipped].flip(-1))
    assert torch.equal(changed.pictures[~flipped], source.pictures[~flipped])
    left, right = TRAINING_POINTS.index(263), TRAINING_POINTS.index(33)
    assert (changed.landmarks[:, left, 0] > changed.landmarks[:, right, 0]).all()
    assert torch.allclose(changed.landmarks[flipped, left, 0], -source.landmarks[flipped, right, 0])


def test_time_flip_swaps(heads: Path) -> None:
    plan, source, driving = pairs(heads)
    config = AugmentConfig(flip=False, time_flip=True, jitter=0, hue=0)
    swapped = plan.draws.chance("time flip", 0.5)
    one, other = augment(source, driving, plan, config)
    assert torch.equal(one.pictures[swapped], driving.pictures[swapped])
    assert torch.equal(other.landmarks[swapped], source.landmarks[swapped])
    assert torch.equal(one.pictures[~swapped], source.pictures[~swapped])


def test_colours_change_alike_in_both_and_stay_grey_where_they_were_grey() -> None:
    grey = torch.full((2, 3, 8, 8), 0.5)
    faces = Faces(grey, torch.zeros(2, len(TRAINING_POINTS), 2), torch.ones(2, dtype=torch.bool))
    plan = PairPlan(torch.tensor([0, 0]), torch.tensor([0, 0]), torch.tensor([False, False]), Draws(0, 0, 0, 2))
    config = AugmentConfig(flip=False, time_flip=False, jitter=0.1, hue=0.1)
    one, other = augment(faces, faces, plan, config)
    assert torch.equal(one.pictures, other.pictures)
    # The published matrix of YIQ has four digits; a quarter of a step of 255 is what they leave.
    assert (one.pictures - one.pictures.mean(1, keepdim=True)).abs().max() < 0.25 / 255
    bright = 0.5 * plan.draws.between("brightness", 0.9, 1.1)
    assert largest_error(one.pictures[:, 0, 0, 0], bright) < 0.5 / 255
    red = faces._replace(pictures=torch.tensor([0.8, 0.2, 0.2])[:, None, None].expand(2, 3, 8, 8).clone())
    turned, _ = augment(red, red, plan, config)
    assert (turned.pictures[0] - turned.pictures[1]).abs().max() > 0.01


def test_disturbed_pictures_differ_and_the_others_stay() -> None:
    pictures = torch.rand((8, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    draws = Draws(0, 3, 0, 4)
    changed = disturb(pictures, draws, 0.5)
    same = (changed == pictures).flatten(1).all(1)
    assert 0 < same.sum() < 8
    assert ((changed >= 0) & (changed <= 1)).all()
    away = (changed - pictures).abs().mean((1, 2, 3))[~same]
    assert away.min() > 0.01
    assert away.max() < 0.5
    assert torch.equal(changed, disturb(pictures, draws, 0.5))
    assert torch.equal(disturb(pictures, draws, 0.0), pictures)
    twice = disturb(pictures[:4].repeat(2, 1, 1, 1), draws, 1.0)
    assert not torch.allclose(twice[:4], twice[4:])  # source and driving are disturbed apart
