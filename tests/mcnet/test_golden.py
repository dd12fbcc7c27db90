"""The released network's stored cases: every number that they hold."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.arrays import Keypoints, SourceCache
from mcnet.checkpoint import build_released
from mcnet.generator import Inspection, Mcnet
from mcnet.layers import AntiAlias
from mcnet.memory import attention
from mcnet.pose import adapted_scale, relative_keypoints
from tests.released import CASES, draw, load_case, to_tensor
from tests.tolerance import EPSILON, FLOAT16, PICTURE, PLACE, assert_near, of_sums, products
from training.fit.discriminator import Discriminator


class Case(NamedTuple):
    stored: dict[str, NDArray[Any]]
    model: Mcnet
    keypoints: dict[str, Keypoints]
    cache: SourceCache
    frames: dict[str, Inspection]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    stored = load_case(request.param)
    seed = int(stored["seed"])
    released = {
        f"{part}.{key}": value for part in ("generator", "kp_detector") for key, value in draw(part, seed).items()
    }
    model = build_released(released, request.param)
    with torch.inference_mode():
        keypoints = {
            name: model.keypoint_detector(to_tensor(stored[picture]))
            for name, picture in (("source", "source"), ("driving", "driving"), ("initial", "driving_initial"))
        }
        keypoints["normalized"] = relative_keypoints(
            keypoints["source"],
            keypoints["driving"],
            keypoints["initial"],
            adapted_scale(keypoints["source"], keypoints["initial"]),
        )
        cache = model.generator.encode_source(to_tensor(stored["source"]), keypoints["source"])
        frames = {
            "absolute": model.generator.inspect(cache, keypoints["driving"]),
            "relative": model.generator.inspect(cache, keypoints["normalized"]),
        }
        yield Case(stored, model, keypoints, cache, frames)


@pytest.mark.parametrize("name", ["source", "driving", "initial", "normalized"])
def test_keypoints(case: Case, name: str) -> None:
    assert_near(case.keypoints[name].value, case.stored[f"kp_{name}_value"], PLACE)
    # A jacobian moves what lies at a distance of 1 by as much as it is off.
    assert_near(case.keypoints[name].jacobian, case.stored[f"kp_{name}_jacobian"], PLACE)


@pytest.mark.parametrize("mode", ["absolute", "relative"])
def test_motion(case: Case, mode: str) -> None:
    frame = case.frames[mode]
    assert_near(frame.motion.deformation, case.stored[f"{mode}_deformation"], PLACE)
    assert_near(frame.motion.occlusion, case.stored[f"{mode}_occlusion_map"], PICTURE)
    assert_near(frame.motion.mask, case.stored[f"{mode}_mask"], FLOAT16 + PICTURE)
    assert_near(frame.warped.picture, case.stored[f"{mode}_deformed"], FLOAT16 + PICTURE)


@pytest.mark.parametrize("mode", ["absolute", "relative"])
@pytest.mark.parametrize("size_px", [32, 64, 128])
@pytest.mark.parametrize("name", ["before", "feat", "memory", "key", "value", "query", "residual", "after"])
def test_compensation(case: Case, mode: str, size_px: int, name: str) -> None:
    frame = case.frames[mode]
    compensation = frame.compensations[size_px]
    got = {
        "before": frame.warped.features[(32, 64, 128).index(size_px)],
        "feat": compensation.feature,
        "after": compensation.compensated,
    }.get(name)
    if got is None:
        got = getattr(compensation, name)
    stem = f"{mode}_{name}_{size_px}"
    assert tuple(got.shape) == tuple(case.stored[f"{stem}_shape"])
    samples = got.flatten()[torch.from_numpy(case.stored[f"{stem}_index"])]
    # The memory and what follows from it alone have few layers before them; the others have half of the network.
    memory = case.model.generator.memory
    assert memory is not None
    layers = products(case.model)
    if name == "memory":
        layers = products(memory.style_route) + products(memory.modulated_bank)
    elif name in ("key", "value", "residual"):
        layers = products(memory)
    # The size is that of the whole map, of which only samples are stored.
    assert_near(samples, case.stored[f"{stem}_sample"], of_sums(layers) * got.abs().max().item())


@pytest.mark.parametrize("mode", ["absolute", "relative"])
def test_prediction(case: Case, mode: str) -> None:
    assert_near(case.frames[mode].prediction, case.stored[f"{mode}_prediction"], PICTURE)


def test_forward_is_what_inspect_shows(tiny: Mcnet, pictures: dict[str, NDArray[Any]]) -> None:
    with torch.inference_mode():
        cache = tiny.encode_source(to_tensor(pictures["source"]))
        driving = tiny.keypoint_detector(to_tensor(pictures["driving"]))
        assert torch.equal(tiny.generator(cache, driving), tiny.generator.inspect(cache, driving).prediction)


def test_the_blend_is_the_occlusion_weighted_sum_of_what_is_shown(case: Case) -> None:
    for frame in case.frames.values():
        trusted = frame.warped.occlusion
        blended = frame.warped.picture * trusted + frame.generated * (1 - trusted)
        assert_near(frame.prediction, blended.numpy(), EPSILON)


def test_attention_gives_the_residual(case: Case) -> None:
    """Each position asks for itself, so that every fourth of a row and of a column tells of all."""
    for frame in case.frames.values():
        for compensation in frame.compensations.values():
            query, residual = (part[..., ::4, ::4] for part in (compensation.query, compensation.residual))
            share = attention(query, compensation.key)
            assert_near(share.sum(-1), np.ones(share.shape[:2]), of_sums(share.shape[-1]))
            fetched = (share @ compensation.value.flatten(2).mT).mT.reshape_as(residual)
            bar = of_sums(share.shape[-1]) * compensation.residual.abs().max().item()
            assert_near(fetched, residual.numpy(), bar)


def test_discriminator(case: Case) -> None:
    discriminator = Discriminator(num_keypoints=15)
    weights = draw("discriminator", int(case.stored["seed"]))
    discriminator.load_state_dict({key.removeprefix("discs.1."): value for key, value in weights.items()})
    with torch.inference_mode():
        features, scores = discriminator(to_tensor(case.stored["driving"]), case.keypoints["driving"].value)
    assert len(features) == 4
    expected = case.stored["discriminator_prediction_map"]
    layers = products(discriminator) + products(case.model.keypoint_detector)
    assert_near(scores, expected, of_sums(layers) * float(np.abs(expected).max()))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_antialiased_pyramid(case: Case, factor: int) -> None:
    shrunk = AntiAlias(3, factor)(to_tensor(case.stored["source"]))
    assert_near(shrunk, case.stored[f"pyramid_{1 / factor}"], FLOAT16 + PICTURE)
