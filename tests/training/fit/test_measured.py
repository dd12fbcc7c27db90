"""Keypoints measured by the mesh: they are what the dense motion gets, and the detector learns nothing by them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import training.fit.objective
from mcnet.arrays import Keypoints
from mcnet.checkpoint import load_model, save_model
from mcnet.config import ConfigError, McnetConfig
from mcnet.dense_motion import Motion
from mcnet.engine import Engine, EngineOptions
from mcnet.generator import Mcnet
from mcnet.model_file import ModelInfo
from mcnet.pose import LinearMap, linear_jacobians, squeezes
from tests.tolerance import largest_error
from tests.training.conftest import SIZE_PX, tiny_config
from training.data import DataError, Dataset, open_dataset
from training.draws import Draws
from training.fit.augment import Faces
from training.fit.config import DataConfig, FitConfig
from training.fit.export import export
from training.fit.growth import with_more_places
from training.fit.linear_jacobians import fit_linear_jacobians
from training.fit.loop import fit, take_weights
from training.fit.measured import Measured, measured
from training.fit.sampler import PairSampler
from training.fit.stores import FrameStore, LandmarkStore
from training.fit.warps import random_warp
from training.landmarks import GUIDANCE_POINTS, KEYPOINT_GROUPS, MIRROR, PUPILS, TRAINING_POINTS

POINTS = (386, 159, 1, 291, 61)
RIGID = (33, 263, 168, 10, 454, 234)
PIXEL = 2 / 255
MEASURED = DataConfig(keypoints="measured", keypoint_points=POINTS, detected_share=0.0)
RUN: dict[str, object] = {"keypoints": "measured", "keypoint_points": list(POINTS)}


def faces(count: int, seed: int) -> Faces:
    generator = torch.Generator().manual_seed(seed)
    landmarks = 2 * torch.rand((count, len(TRAINING_POINTS), 2), generator=generator) - 1
    pictures = torch.rand((count, 3, SIZE_PX, SIZE_PX), generator=generator)
    return Faces(pictures, landmarks, torch.ones(count, dtype=torch.bool))


def keypoints(count: int, seed: int) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    return Keypoints(torch.rand((count, 5, 2), generator=generator), torch.rand((count, 5, 2, 2), generator=generator))


def made(config: DataConfig, draws: Draws | None = None, count: int = 4) -> tuple[Measured, Faces, Faces]:
    source, driving = faces(count, 1), faces(count, 2)
    found = measured(source, driving, config, draws)
    assert found is not None
    return found, source, driving


def test_nothing_is_measured_unless_told() -> None:
    assert measured(faces(2, 0), faces(2, 1), DataConfig()) is None


def test_places_are_the_landmarks_with_the_meshs_noise() -> None:
    columns = [TRAINING_POINTS.index(point) for point in POINTS]
    exact, source, driving = made(MEASURED)
    assert torch.equal(exact.source, source.landmarks[:, columns])
    assert torch.equal(exact.driving, driving.landmarks[:, columns])
    noisy, source, driving = made(dataclasses.replace(MEASURED, keypoint_jitter_px=0.5), Draws(1, 2, 0, 200), 200)
    for places, truth in ((noisy.source, source), (noisy.driving, driving)):
        noise = (places - truth.landmarks[:, columns]) / PIXEL
        # 2000 deviates: their standard deviation is known to 1.6 %, and four times that is allowed.
        assert noise.std().item() == pytest.approx(0.5, rel=0.065)
    assert not torch.equal(noisy.source - source.landmarks[:, columns], noisy.driving - driving.landmarks[:, columns])


def test_noise_is_a_function_of_seed_step_and_place() -> None:
    def places(seed: int, step: int, first: int, count: int) -> Tensor:
        found, source, _ = made(MEASURED, Draws(seed, step, first, count), count)
        return found.source - source.landmarks[:, [TRAINING_POINTS.index(point) for point in POINTS]]

    whole = places(1, 5, 0, 4)
    assert torch.equal(whole, places(1, 5, 0, 4))
    assert torch.allclose(whole[2:], places(1, 5, 2, 2), atol=1e-6)
    assert not torch.allclose(whole, places(1, 6, 0, 4), atol=1e-4)
    assert not torch.allclose(whole, places(2, 5, 0, 4), atol=1e-4)


def test_some_pairs_are_detected_and_those_without_landmarks_always() -> None:
    source, driving = faces(64, 1), faces(64, 2)
    driving.valid[3] = False
    found = measured(source, driving, dataclasses.replace(MEASURED, detected_share=0.5), Draws(1, 2, 0, 64))
    assert found is not None
    assert not found.used[3]
    assert 10 < found.used.sum() < 54
    detected = keypoints(64, 3)
    taken, _ = found.keypoints(detected, detected)
    assert torch.equal(taken.value[found.used], found.source[found.used])
    assert torch.equal(taken.value[~found.used], detected.value[~found.used])
    assert torch.equal(taken.jacobian, detected.jacobian)


@pytest.mark.parametrize("kind", ["identity", "rotation"])
def test_jacobians_without_a_detector(kind: Any) -> None:
    points = RIGID[:5] if kind == "identity" else (*RIGID, 4)
    config = dataclasses.replace(MEASURED, keypoint_points=points, keypoint_jacobians=kind)
    found, _, _ = made(config)
    detected = keypoints(4, 3)
    detected = Keypoints(found.source, detected.jacobian[:, :1].expand(-1, len(points), -1, -1))
    taken, _ = found.keypoints(detected, detected)
    expected = torch.eye(2).expand_as(taken.jacobian)
    assert torch.equal(taken.jacobian, expected) == (kind == "identity")
    assert torch.isfinite(taken.jacobian).all()


def test_some_driving_jacobians_are_the_sources_changed_as_the_linear_map_says() -> None:
    linear = tuple(tuple(row) for row in torch.randn((11, 20), generator=torch.Generator().manual_seed(6)).tolist())
    config = dataclasses.replace(MEASURED, linear_share=0.5)
    source, driving = faces(64, 1), faces(64, 2)
    driving.valid[1] = False
    found = measured(source, driving, config, Draws(1, 2, 0, 64), linear)
    assert found is not None
    assert 10 < found.moved.sum() < 54
    one, other = keypoints(64, 3), keypoints(64, 4)
    of_source, of_driving = found.keypoints(one, other)
    assert torch.equal(of_source.jacobian, one.jacobian)
    moved = found.used & found.moved
    assert not moved[1]
    assert torch.equal(of_driving.jacobian[~moved], other.jacobian[~moved])
    before, after = (linear_jacobians(places, linear)[moved] for places in (found.source, found.driving))
    expected = after @ torch.linalg.inv(before) @ one.jacobian[moved]
    torch.testing.assert_close(of_driving.jacobian[moved], expected, rtol=1e-3, atol=1e-3)
    without = measured(source, driving, config, linear=linear)  # as the sheets look at them
    assert without is not None
    assert torch.equal(without.keypoints(one, other)[1].jacobian, other.jacobian)


def test_the_linear_map_is_fitted_to_the_detector_over_all_clips_alike(heads_in_space: Path) -> None:
    """Against a detector whose jacobians are such a map of the landmarks, but for what the ridge takes."""
    dataset = open_dataset(heads_in_space)
    frames, landmarks = FrameStore(dataset, torch.device("cpu"), "memmap"), LandmarkStore(dataset, torch.device("cpu"))
    rows = torch.arange(len(dataset.frames))
    columns = [TRAINING_POINTS.index(point) for point in POINTS]
    places = landmarks.read(rows)[0][:, columns].flatten(1)
    linear = 0.5 * torch.randn((11, 20), generator=torch.Generator().manual_seed(7))
    asked: list[int] = []

    class Detector(torch.nn.Module):
        def forward(self, pictures: Tensor) -> Keypoints:
            found = [
                int((frames.to_pictures(frames.read(rows)) - one).abs().amax((1, 2, 3)).argmin()) for one in pictures
            ]
            asked.extend(found)
            jacobian = (places[found] @ linear[:-1] + linear[-1]).view(-1, 5, 2, 2)
            return Keypoints(torch.zeros(len(found), 5, 2), jacobian)

    detector = Detector().train()
    fitted = fit_linear_jacobians(detector, dataset, "train", frames, landmarks, POINTS)  # type: ignore[arg-type]
    assert detector.training
    of_train = [clip.split == "train" for clip in dataset.clips for _ in range(clip.frames)]
    assert all(of_train[row] for row in asked)
    assert len(asked) == sum(of_train)  # its clips are short
    wanted = (places @ linear[:-1] + linear[-1])[of_train]
    left = wanted - (places @ torch.tensor(fitted)[:-1] + torch.tensor(fitted)[-1])[of_train]
    assert left.var() < 0.05 * wanted.var(0).mean()
    assert left.mean().abs() < 1e-3


def test_a_linear_map_is_kept_through_a_resume_and_taken_from_the_initial_model(
    heads_in_space: Path, tmp_path: Path
) -> None:
    data: dict[str, object] = {**RUN, "linear_share": 0.5}
    stages: dict[str, dict[str, object]] = {
        "full": {"steps": 0},
        "data": data,
        "loss": {"guidance_points": list(POINTS)},
    }
    config = tiny_config(heads_in_space, run={"initial": str(first_model(tmp_path))}, **stages)
    fit(config, tmp_path / "run", max_minutes=0)
    before = torch.load(tmp_path / "run" / "checkpoint.pt")["facts"]["linear_jacobians"]
    fit(config, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "one.safetensors")
    one = load_model(tmp_path / "one.safetensors").info
    assert one.linear_jacobians == before
    assert "linear_jacobians" not in one.training  # it stands with the keypoints
    stages["data"] = RUN  # which asks for no share of such pairs: the map is the model's all the same
    fit(tiny_config(heads_in_space, run={"initial": str(tmp_path / "one.safetensors")}, **stages), tmp_path / "two")
    export(tmp_path / "two", tmp_path / "two.safetensors")
    assert load_model(tmp_path / "two.safetensors").info.linear_jacobians == before


def test_data_without_landmarks_has_no_linear_map(heads_in_space: Path) -> None:
    dataset = open_dataset(heads_in_space)
    frames, landmarks = FrameStore(dataset, torch.device("cpu"), "memmap"), LandmarkStore(dataset, torch.device("cpu"))
    detector = Mcnet(McnetConfig.named("tiny")).keypoint_detector
    landmarks._valid[:] = False
    for split in ("train", "nobody's"):
        with pytest.raises(DataError, match=f"no picture of the split {split} has landmarks that can be trusted"):
            fit_linear_jacobians(detector, dataset, split, frames, landmarks, POINTS)


@pytest.mark.parametrize("stage", ["motion", "full"])
def test_the_dense_motion_gets_them_and_the_detector_no_gradient_by_them(
    stage: str, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(heads, data=RUN)
    model = Mcnet(config.model).train()
    source, driving = faces(2, 4), faces(2, 5)
    places = measured(source, driving, dataclasses.replace(config.data, keypoint_jacobians="identity"))
    assert places is not None
    given: list[Keypoints] = []
    original = training.fit.objective._move

    def move(dense_motion: Any, small: Tensor, one: Keypoints, other: Keypoints, *more: Any) -> Any:
        given.extend((one, other))
        return original(dense_motion, small, one, other, *more)

    monkeypatch.setattr(training.fit.objective, "_move", move)
    compute = training.fit.objective.motion_outputs if stage == "motion" else training.fit.objective.full_outputs
    warp = random_warp(torch.zeros(2, 2, 3), torch.zeros(2, 1, 25))
    plain = torch.autocast("cpu", enabled=False)
    outputs = compute(model, source.pictures, driving.pictures, warp, lambda: plain, measured=places)
    assert torch.equal(given[0].value, places.source)
    assert torch.equal(given[1].value, places.driving)
    picture = outputs.warped if stage == "motion" else outputs.prediction
    assert picture is not None
    picture.square().mean().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    for name, weight in model.keypoint_detector.named_parameters():
        assert weight.grad is None or not weight.grad.any(), name
    assert any(weight.grad is not None and weight.grad.any() for weight in model.generator.dense_motion.parameters())
    # What the detector itself found is what its own losses look at.
    assert outputs.detected is not None
    outputs.detected[0].value.sum().backward()  # type: ignore[no-untyped-call]
    assert any(weight.grad is not None and weight.grad.any() for weight in model.keypoint_detector.parameters())


def first_model(folder: Path) -> Path:
    """Whose detector has jacobians that depend on what it sees."""
    torch.manual_seed(4)
    model = Mcnet(dataclasses.replace(tiny_config(Path()).model, num_keypoints=len(POINTS)))
    torch.nn.init.normal_(model.keypoint_detector.jacobians.weight, std=0.05)
    save_model(model, folder / "first.safetensors")
    return folder / "first.safetensors"


def run_and_export(config: FitConfig, folder: Path) -> Path:
    fit(config, folder / "run")
    export(folder / "run", folder / "model.safetensors", name="mine")
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("data", "points"),
    [
        ({}, POINTS),
        ({**RUN, "keypoint_jacobians": "detected"}, POINTS),
        ({**RUN, "keypoint_jacobians": "identity", "detected_share": 0.0}, POINTS),
        ({**RUN, "keypoint_points": list(RIGID), "keypoint_jacobians": "rotation", "detected_share": 0.0}, RIGID),
        ({**RUN, "linear_share": 0.5}, POINTS),
    ],
    ids=["detected", "measured", "measured, identity", "measured, rotation", "measured, linear in space"],
)
def test_each_kind_trains_exports_and_opens_in_the_engine_with_places(
    data: dict[str, object], points: tuple[int, ...], heads_in_space: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        heads_in_space,
        data=data,
        model={"num_keypoints": len(points)},
        loss={"guidance_points": list(points)},
        augment={"moved_stills": 1.0, "moved_clips": 0.3},
        log={"sheet_every": 4},
        run={"initial": str(first_model(tmp_path))} if "linear_share" in data else {},
    )
    model = load_model(run_and_export(config, tmp_path))
    assert model.info.keypoint_landmarks == points
    assert model.info.keypoint_jacobians == data.get("keypoint_jacobians", "detected")
    assert ("keypoints" in model.info.training) == bool(data)
    assert bool(model.info.linear_jacobians) == ("linear_share" in data)
    assert list((tmp_path / "run" / "sheets").glob("*.png"))
    engine = Engine(model, EngineOptions(precision="fp32", backend="torch"))
    dataset = open_dataset(heads_in_space)
    columns = [TRAINING_POINTS.index(point) for point in points]
    picture, other = (np.array(dataset.frames[row]) for row in (0, 1))
    places = [dataset.landmarks.landmarks[row, columns].astype(np.float32) * 2 - 1 for row in (0, 1)]
    cache = engine.set_source(picture, places[0])
    driving = engine.detect(other, places[1])
    assert np.array_equal(cache.keypoints.value[0], places[0])
    shown = engine.animate(other, places[1], relative=False)
    assert shown.shape == (SIZE_PX, SIZE_PX, 3)
    if model.info.keypoint_jacobians == "detected":
        np.testing.assert_array_equal(driving.jacobian, engine.detect(other).jacobian)
    else:
        assert (driving.jacobian == driving.jacobian[:, :1]).all()  # one head, one turn
        is_identity = bool((driving.jacobian[0, 0] == np.eye(2)).all())
        assert is_identity == (model.info.keypoint_jacobians == "identity")
        # Jacobians that somebody else made of detected ones count for nothing.
        twice = driving._replace(jacobian=2 * driving.jacobian)
        assert np.array_equal(engine.render(twice), shown)


def test_a_run_on_measured_places_learns_by_them_and_resumes_bit_for_bit(heads_in_space: Path, tmp_path: Path) -> None:
    motion: dict[str, dict[str, object]] = {"full": {"steps": 0}}
    config = tiny_config(heads_in_space, data=RUN, **motion)
    fit(config, tmp_path / "whole")
    fit(config, tmp_path / "parts", max_minutes=0)
    fit(config, tmp_path / "parts")
    one, other = (torch.load(tmp_path / name / "checkpoint.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    fit(tiny_config(heads_in_space, **motion), tmp_path / "detected")
    detected = torch.load(tmp_path / "detected" / "checkpoint.pt")["model"]
    assert any(not torch.equal(one[name], detected[name]) for name in one)


def test_detected_pairs_are_as_without_measuring(heads_in_space: Path) -> None:
    dataset = open_dataset(heads_in_space)
    plan = PairSampler(dataset, "train", 0.0, 1).plan(0, 2)
    frames, landmarks = FrameStore(dataset, torch.device("cpu"), "memmap"), LandmarkStore(dataset, torch.device("cpu"))
    source, driving = (
        Faces(frames.to_pictures(frames.read(rows)), *landmarks.read(rows)) for rows in (plan.source, plan.driving)
    )
    found = measured(source, driving, dataclasses.replace(MEASURED, detected_share=1.0), plan.draws)
    assert found is not None
    one, other = keypoints(2, 1), keypoints(2, 2)
    for before, after in zip((one, other), found.keypoints(one, other), strict=True):
        assert torch.equal(before.value, after.value)
        assert torch.equal(before.jacobian, after.jacobian)


@pytest.mark.parametrize(
    ("data", "loss", "told"),
    [
        ({**RUN, "keypoint_points": [1]}, {}, "data.keypoint_points: got .*, expected 5 mesh points"),
        ({**RUN, "keypoint_points": [386, 159, 1, 291, 13]}, {}, "left-right pair"),
        ({**RUN, "keypoint_points": [1, 1, 13, 14, 10]}, {}, "each mesh point once"),
        ({**RUN, "keypoint_points": [1, 4, 13, 14, 10]}, {}, "loss.guidance_points: got .* data.keypoint_points"),
        (RUN, {"guidance": 0.0, "guidance_late": 0.0}, "loss.guidance: got 0.0, expected above 0"),
        ({**RUN, "keypoint_jacobians": "rotation"}, {}, "several of 33, .*, not in one plane"),
        ({**RUN, "keypoint_jacobians": "sideways"}, {}, "keypoint_jacobians"),
        ({**RUN, "linear_share": 0.5}, {}, "run.initial: got '', expected a model whose detector"),
        ({**RUN, "linear_share": 1.5}, {}, "data.linear_share: got 1.5, expected at most 1"),
        ({**RUN, "linear_share": 0.5, "keypoint_jacobians": "identity"}, {}, "keypoint_jacobians: got 'identity'"),
        ({"linear_share": 0.5}, {}, "data.keypoints: got 'detected', expected measured"),
        ({**RUN, "detected_share": 1.5}, {}, "data.detected_share: got 1.5, expected at most 1"),
    ],
)
def test_what_cannot_be_measured_is_told(data: dict[str, object], loss: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        tiny_config(Path(), data=data, loss=loss)


def test_groups_of_keypoints_go_by_their_names() -> None:
    assert all(MIRROR[point] in points for points in KEYPOINT_GROUPS.values() for point in points)
    everything = [point for points in KEYPOINT_GROUPS.values() for point in points]
    assert len(set(everything)) == len(everything)
    assert set(everything) <= set(TRAINING_POINTS)
    named: dict[str, dict[str, object]] = {
        "model": {"base": "tiny", "num_keypoints": 18},
        "data": {**RUN, "keypoint_points": ["face", "pupils", 4]},
        "loss": {"guidance_points": ["face", "pupils", 4]},
    }
    config = tiny_config(Path(), **named)
    assert config.data.keypoint_points == (*GUIDANCE_POINTS, *PUPILS, 4)
    assert config.loss.guidance_points == config.keypoint_points == config.data.keypoint_points
    assert FitConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match=r"data.keypoint_points: got 'ears', expected numbers or face, pupils, lids"):
        tiny_config(Path(), **{**named, "data": {**RUN, "keypoint_points": ["ears"]}})


def without_pupils(dataset: Dataset) -> Dataset:
    kept = dataset.landmarks
    others = ~np.isin(kept.points, PUPILS)
    return dataclasses.replace(
        dataset,
        landmarks=kept._replace(
            points=kept.points[others],
            landmarks=kept.landmarks[:, others],
            depth=None if kept.depth is None else kept.depth[:, others],
        ),
    )


def test_pupils_are_asked_for_only_where_they_are_keypoints(heads: Path) -> None:
    whole, cpu = open_dataset(heads), torch.device("cpu")
    older = without_pupils(whole)
    rows = torch.arange(4)
    one, other = (LandmarkStore(dataset, cpu).read(rows)[0] for dataset in (whole, older))
    pupils = torch.tensor([point in PUPILS for point in TRAINING_POINTS])
    assert torch.equal(one[:, ~pupils], other[:, ~pupils])
    corners = other[:, [TRAINING_POINTS.index(point) for point in (33, 133, 362, 263)]]
    torch.testing.assert_close(other[:, pupils], corners.view(4, 2, 2, 2).mean(2))
    LandmarkStore(whole, cpu, (*PUPILS, 1))
    with pytest.raises(DataError, match=r"has no pupils, .*: label the data anew \(mcnet-train relabel\)"):
        LandmarkStore(older, cpu, (*PUPILS, 1))


@pytest.mark.parametrize("mapped", [False, True])
def test_irises_are_squeezed_where_they_are_measured(mapped: bool) -> None:
    points = (*GUIDANCE_POINTS, *PUPILS)
    config = dataclasses.replace(MEASURED, keypoint_points=points)
    found, source, driving = made(config)
    found = found._replace(used=torch.tensor([True, True, False, False]))
    generator = torch.Generator().manual_seed(3)
    detected = [
        Keypoints(*(torch.rand((4, 17, *shape), generator=generator) for shape in ((2,), (2, 2)))) for _ in range(2)
    ]
    before = [each.jacobian for each in detected]
    if mapped:
        rows = torch.rand((35, 68), generator=generator)
        found = found._replace(linear=tuple(map(tuple, rows.tolist())), moved=torch.tensor([True, False, True, False]))
        one, other = (linear_jacobians(places, found.linear) for places in (found.source, found.driving))
        before[1] = torch.where(torch.arange(4)[:, None, None, None] == 0, other @ one.inverse() @ before[0], before[1])
    network = [keypoints.jacobian for keypoints in found.keypoints(*detected)]
    for got, faces_, jacobian, plain in zip(network, (source, driving), before, detected, strict=True):
        places = faces_.landmarks[:, [TRAINING_POINTS.index(point) for point in points]]
        expected = squeezes(places, points) @ jacobian
        assert largest_error(expected[:2, 15:], jacobian[:2, 15:]) > 0.01
        assert largest_error(got[:2], expected[:2]) < 1e-3 * expected[:2].abs().max()
        assert torch.equal(got[2:], plain.jacobian[2:])


def test_new_keypoints_begin_between_their_neighbours(heads: Path) -> None:
    """New ones behind the old ones: the picture changes little, they move something, and all their weights learn."""
    more = (*POINTS, *PUPILS)
    torch.manual_seed(1)
    linear = tuple(map(tuple, torch.rand((11, 20), dtype=torch.float64).tolist()))
    few = Mcnet(tiny_config(heads).model, ModelInfo(training={"keypoints": {"points": list(POINTS)}})).eval()
    many = Mcnet(dataclasses.replace(few.config, num_keypoints=7)).eval()
    landmarks = LandmarkStore(open_dataset(heads), torch.device("cpu"))
    places = landmarks.trusted.mean(0)[[TRAINING_POINTS.index(point) for point in more]]
    nearest = torch.cdist(places[5:], places[:5]).argsort(1)[:, :2]
    facts = take_weights(many, few, more, landmarks=landmarks)
    assert facts["fresh"] == []
    assert [set(row) for row in facts["neighbours"]] == [set(row) for row in nearest.tolist()]
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand((1, 3, 4, 4), generator=generator)
    picture = torch.nn.functional.interpolate(coarse, size=(SIZE_PX, SIZE_PX), mode="bicubic").clamp(0, 1)
    value = torch.rand((2, 1, 7, 2), generator=generator) - 0.5
    source, driving = (Keypoints(each, torch.eye(2).expand(1, 7, 2, 2)) for each in value)

    def moved(model: Mcnet, count: int, driven: Keypoints) -> Motion:
        one, other = (Keypoints(*(part[:, :count] for part in each)) for each in (source, driven))
        motion: Motion = model.generator.motion(model.generator.encode_source(picture, one), other)
        return motion

    with torch.inference_mode():
        old, new = moved(few, 5, driving).mask, moved(many, 7, driving).mask
        for number, neighbours in enumerate(nearest.tolist()):
            between = old[:, [1 + index for index in neighbours]].log().mean(1).exp()  # of which all shares are scaled
            assert largest_error(new[:, 6 + number] / new[:, 0] * old[:, 0], between) < 1e-5
        # It moves what the old ones would not: the face follows an iris.
        elsewhere = driving._replace(value=driving.value + torch.tensor([0.0] * 5 + [0.1] * 2)[:, None])
        step = (moved(many, 7, elsewhere).deformation - moved(many, 7, driving).deformation).abs().amax()
        assert step > 0.01
        found = [model.keypoint_detector(picture) for model in (few, many)]
        assert largest_error(found[1].value[:, :5], found[0].value) <= 1e-6
        mean = found[0].jacobian[:, nearest[0]].mean(1)
        assert largest_error(found[1].jacobian[:, 5], mean) < 0.2 * found[0].jacobian.std()
    many.generator(many.generator.encode_source(picture, source), driving).mean().backward()
    first = many.generator.dense_motion.hourglass.down_blocks[0]
    weight = next(each for each in first.parameters() if each.dim() == 4)
    assert weight.grad is not None
    assert weight.grad[:, 24:].abs().amax() > 0
    mask = many.generator.dense_motion.mask.weight.grad
    assert mask is not None
    assert mask[6:].abs().amax() > 0.05 * mask[1:6].abs().amax()
    # The map from places to jacobians goes on as it was, and new places count nothing.
    wider = with_more_places(linear, facts["neighbours"])
    before = linear_jacobians(value[0, :, :5], linear)
    after = linear_jacobians(value[0], wider)
    assert largest_error(after[:, :5], before) < 1e-6
    assert largest_error(after[:, 5], before[:, nearest[0]].mean(1)) < 1e-6
    # Other points, or in another order, are other keypoints: what fits is taken, and nothing is made to fit.
    other = Mcnet(many.config)
    assert take_weights(other, few, (*PUPILS, *POINTS), landmarks=landmarks)["fresh"] != []


def mapped_model(heads: Path, path: Path) -> LinearMap:
    """Save a model with a map of five keypoints; returns the map."""
    linear = tuple(map(tuple, torch.rand((11, 20), generator=torch.Generator().manual_seed(0)).tolist()))
    told = {"places": "measured", "points": list(POINTS), "jacobians": "detected", "linear_jacobians": linear}
    save_model(Mcnet(tiny_config(heads).model, ModelInfo(training={"keypoints": told})), path)
    return linear


@pytest.mark.parametrize("change", [{"keypoint_points": POINTS[::-1]}, {"keypoint_jacobians": "identity"}])
def test_a_map_of_other_keypoints_or_jacobians_is_left_out(
    heads: Path, tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    mapped_model(heads, tmp_path / "few.safetensors")
    data = {**RUN, **change}
    config = tiny_config(
        heads,
        run={"initial": str(tmp_path / "few.safetensors")},
        data=data,
        loss={"guidance_points": data["keypoint_points"]},
        motion={"steps": 1},
        full={"steps": 0},
    )
    fit(config, tmp_path / "run")
    assert "is left out: it is of its own measured keypoints and its own detector" in caplog.text
    export(tmp_path / "run", tmp_path / "out.safetensors")
    assert not load_model(str(tmp_path / "out.safetensors")).info.linear_jacobians


def test_a_run_carries_the_map_on_to_new_keypoints(heads: Path, tmp_path: Path) -> None:
    linear = mapped_model(heads, tmp_path / "few.safetensors")
    points = [*POINTS, *PUPILS]
    config = tiny_config(
        heads,
        model={"num_keypoints": 7},
        run={"initial": str(tmp_path / "few.safetensors")},
        data={**RUN, "keypoint_points": points, "linear_share": 0.5},
        loss={"guidance_points": points, "gaze": 5.0},
        motion={"steps": 1},
        full={"steps": 0},
    )
    fit(config, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out.safetensors")
    carried = torch.tensor(load_model(str(tmp_path / "out.safetensors")).info.linear_jacobians)
    assert carried.shape == (15, 28)
    assert largest_error(carried[:10, :20], torch.tensor(linear)[:10]) < 1e-6
    assert not carried[10:14].any()
