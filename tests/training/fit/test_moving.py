"""Faces moved in space: the picture goes where its landmarks go, and only ever becomes a source."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mcnet.media.expressions import head_turn
from mcnet.media.head_motion import Head
from mcnet.mesh_points import MESH_SIZE
from tests.training.conftest import SIZE_PX, dotted_points, tiny_config
from training.data import DataError, open_dataset
from training.draws import Draws
from training.fit.augment import Faces, augment
from training.fit.config import AugmentConfig
from training.fit.heads import HeadStore, heads_of
from training.fit.loop import fit
from training.fit.moving import Mover, ThinPlate, move, moved_heads, rotation_of
from training.fit.sampler import PairPlan, PairSampler
from training.fit.state import CHECKPOINT
from training.fit.stores import FrameStore, LandmarkStore
from training.landmarks import TRAINING_POINTS

CPU = torch.device("cpu")
PIXEL = 2 / (SIZE_PX - 1)
MOVING = AugmentConfig(flip=False, time_flip=False, jitter=0, hue=0, moved_stills=1.0, moved_clips=1.0)


class Data:
    """A dataset opened, and pairs of it."""

    def __init__(self, folder: Path, stills: float = 0.5) -> None:
        dataset = open_dataset(folder)
        self.frames, self.landmarks = FrameStore(dataset, CPU, "memmap"), LandmarkStore(dataset, CPU)
        self.heads = HeadStore(dataset, CPU)
        self.sampler = PairSampler(dataset, "train", stills, 1)
        self.mover = Mover(self.heads, self.sampler)

    def pairs(self, step: int = 0, batch: int = 8, rank: int = 0) -> tuple[PairPlan, Faces, Faces]:
        plan = self.sampler.plan(step, batch, rank)
        return plan, self.faces(plan.source), self.faces(plan.driving)

    def faces(self, rows: Tensor) -> Faces:
        return Faces(self.frames.to_pictures(self.frames.read(rows)), *self.landmarks.read(rows))


def brightest_near(picture: Tensor, place: Tensor) -> Tensor:
    """Centre of the bright dot within 4 pixels of a place, (2,) in coordinates."""
    line = torch.linspace(-1, 1, SIZE_PX)
    near = ((line[None] - place[0]) ** 2 + (line[:, None] - place[1]) ** 2).sqrt() < 4 * PIXEL
    light = (picture.mean(0) - 60 / 255).clamp(min=0) * near
    return torch.stack(((light.sum(0) * line).sum(), (light.sum(1) * line).sum())) / light.sum()


def test_a_drawn_grid_is_found_at_its_landmarks(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, source, _ = data.pairs()
    moved, chosen = data.mover(source, plan, MOVING)
    assert chosen.all()
    way = (moved.landmarks - source.landmarks).norm(dim=-1)
    assert way.mean(1).min() > 2 * PIXEL
    seen = 0
    for index in range(len(plan.source)):
        for column in dotted_points():
            told = moved.landmarks[index, column]
            if told.abs().max() < 0.95:
                assert (brightest_near(moved.pictures[index], told) - told).norm() < PIXEL
                seen += 1
    assert seen > 60


def test_landmarks_go_where_the_moved_head_is(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, source, _ = data.pairs()
    heads, _ = data.heads.read(plan.source)
    one, other = (data.heads.read(rows)[0] for rows in data.sampler.borrowed(plan))
    moved = moved_heads(heads, other.shape - one.shape, plan.draws, MOVING)
    _, landmarks = move(source.pictures, heads, moved)
    assert (landmarks - moved.mesh[..., :2]).norm(dim=-1).quantile(0.95) < 1.5 * PIXEL


def test_expressions_are_borrowed_and_a_wrong_one_is_not(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, _, _ = data.pairs()
    heads, _ = data.heads.read(plan.source)
    at_rest = dataclasses.replace(
        MOVING, moved_turn_deg=0, moved_nod_deg=0, moved_tilt_deg=0, moved_scale=0, moved_shift=0
    )
    change = torch.zeros_like(heads.shape)
    change[:, :, 1] = 0.2
    change[0, 0, 1] = 0.5
    moved = moved_heads(heads, change, plan.draws, at_rest)
    gain = (moved.shape - heads.shape)[..., 1] / 0.2
    assert torch.equal(moved.shape[0], heads.shape[0])
    assert torch.allclose(
        gain[1:], plan.draws.between("moved expression", 0, 1.1)[1:, None].expand_as(gain[1:]), atol=1e-5
    )
    for name in ("rotation", "scale", "shift"):
        assert torch.allclose(getattr(moved, name), getattr(heads, name), atol=1e-6)


def test_only_the_source_is_moved_and_it_stays_the_source(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, source, driving = data.pairs(batch=16)
    moved, chosen = data.mover(source, plan, MOVING)
    assert plan.still.any()
    assert not plan.still.all()
    one, other = augment(moved, driving, plan, dataclasses.replace(MOVING, time_flip=True), chosen)
    assert torch.equal(one.pictures, moved.pictures)
    assert all(torch.equal(before, after) for before, after in zip(driving, other, strict=True))


def test_shares_choose_who_is_moved(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, source, _ = data.pairs(batch=16)
    stills_only = dataclasses.replace(MOVING, moved_clips=0.0)
    moved, chosen = data.mover(source, plan, stills_only)
    assert torch.equal(chosen, plan.still)
    assert torch.equal(moved.pictures[~chosen], source.pictures[~chosen])
    assert torch.equal(moved.landmarks[~chosen], source.landmarks[~chosen])
    assert (moved.pictures[chosen] - source.pictures[chosen]).abs().mean((1, 2, 3)).min() > 1e-3
    nobody, none = data.mover(source, plan, AugmentConfig())
    assert nobody is source
    assert not none.any()


def test_moves_are_a_function_of_step_and_place(heads_in_space: Path) -> None:
    data = Data(heads_in_space)

    def moved(step: int, batch: int, rank: int) -> Tensor:
        plan, source, _ = data.pairs(step, batch, rank)
        return data.mover(source, plan, MOVING)[0].landmarks

    whole = moved(3, 4, 0)
    assert torch.equal(whole, moved(3, 4, 0))
    halves = torch.cat((moved(3, 2, 0), moved(3, 2, 1)))
    assert torch.allclose(whole, halves, atol=1e-5)  # a batch of another size may be added up in another order
    assert not torch.allclose(whole, moved(4, 4, 0), atol=1e-2)


def test_heads_are_those_of_head_motion(heads_in_space: Path) -> None:
    store = Data(heads_in_space).heads
    heads, likely = store.read(torch.arange(8))
    assert likely.all()
    for index in range(8):
        mesh = np.zeros((MESH_SIZE, 3))
        mesh[list(TRAINING_POINTS)] = heads.mesh[index].numpy()
        known = Head.of(mesh)
        assert np.abs(heads.rotation[index].numpy() - known.rotation).max() < 1e-4
        assert np.abs(heads.shift[index].numpy() - known.shift).max() < 1e-5
        assert heads.scale[index].item() == pytest.approx(known.scale, rel=1e-4)
        assert np.abs(heads.shape[index].numpy() - known.shape[list(TRAINING_POINTS)]).max() < 1e-4


def test_a_mirrored_or_squeezed_mesh_is_no_head() -> None:
    generator = torch.Generator().manual_seed(0)
    mesh = torch.randn((2, len(TRAINING_POINTS), 3), generator=generator)
    heads = heads_of(mesh)
    assert torch.allclose(torch.linalg.det(heads.rotation), torch.ones(2), atol=1e-5)
    assert torch.allclose(heads.mesh, mesh, atol=1e-4)


def test_rotations_have_the_angles_of_head_turn() -> None:
    angles = torch.deg2rad(torch.tensor([[20.0, -10.0, 5.0], [-30.0, 15.0, -40.0]]))
    for angle, rotation in zip(torch.rad2deg(angles), rotation_of(*angles.T), strict=True):
        assert np.allclose(head_turn(rotation.double().numpy())[:3], angle.numpy(), atol=1e-3)


def test_a_spline_takes_its_places_near_their_values_and_keeps_what_is_straight() -> None:
    generator = torch.Generator().manual_seed(1)
    places = 2 * torch.rand((2, 60, 2), generator=generator) - 1
    values = places + 0.05 * torch.sin(3 * places.flip(-1))
    spline = ThinPlate.through(places, values)
    assert (spline(places) - values).abs().max() < 0.01
    assert (spline(spline.inverse(values, near=places)) - values).abs().max() < 1e-4
    shifted = ThinPlate.through(places, places + 0.1)
    assert (shifted(0.9 * places) - 0.9 * places - 0.1).abs().max() < PIXEL / 2


def test_a_profile_is_left_alone(heads_in_space: Path) -> None:
    data = Data(heads_in_space)
    plan, source, _ = data.pairs()
    turned = rotation_of(*(torch.full((8,), angle) for angle in (0.8, 0.0, 0.0)))
    data.heads._heads = data.heads._heads._replace(rotation=turned)
    assert not data.mover(source, plan, MOVING)[1].any()


def test_landmarks_in_the_plane_are_refused(heads: Path, tmp_path: Path) -> None:
    config = tiny_config(heads, augment={"moved_clips": 0.5})
    with pytest.raises(DataError, match=r"landmarks in space.*relabel.* or set augment.moved_stills"):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run" / "frames").exists(), "it is told before anything is unpacked"


def test_stills_alone_are_turned(heads_in_space: Path) -> None:
    data = Data(heads_in_space, stills=1.0)
    data.sampler.clips = data.sampler.photos
    plan = PairPlan(torch.tensor([6, 7]), torch.tensor([6, 7]), torch.ones(2, dtype=torch.bool), Draws(0, 0, 0, 2))
    source = data.faces(plan.source)
    moved, chosen = data.mover(source, plan, MOVING)
    assert chosen.all()
    assert (moved.landmarks - source.landmarks).norm(dim=-1).mean() > PIXEL


def test_a_run_with_moved_sources_resumes_bit_for_bit(heads_in_space: Path, tmp_path: Path) -> None:
    config = tiny_config(heads_in_space, augment={"moved_stills": 0.9, "moved_clips": 0.5}, full={"steps": 0})
    fit(config, tmp_path / "whole")
    fit(config, tmp_path / "parts", max_minutes=0)
    fit(config, tmp_path / "parts")
    one, other = (torch.load(tmp_path / name / CHECKPOINT, weights_only=False) for name in ("whole", "parts"))
    for name, weight in one["model"].items():
        assert torch.equal(weight, other["model"][name]), name
