"""Models whose jacobians follow from measured places: they need neither a picture of the performer nor a detector."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet import Engine, EngineError, EngineOptions, Mcnet
from mcnet.arrays import Keypoints, SourceCache
from mcnet.bench.measure import BASELINE, Variant, VariantTask, bytes_of, noise_pictures, open_model, prepare
from mcnet.bench.tiers import measure
from mcnet.checkpoint import load_model, save_model
from mcnet.config import McnetConfig
from mcnet.engine.cuda_graph import CudaGraphBackend
from mcnet.engine.quantization import measure_ranges, note_ranges
from mcnet.model_file import CheckpointError, ModelFile, ModelInfo
from mcnet.pose import adapted_scale, jacobians_of_places, relative_keypoints, squeezes
from tests.mcnet.engine.test_cuda_graph import compute_again
from tests.mcnet.engine.test_engine import Pictures, difference
from tests.released import to_tensor
from tests.tolerance import PROMISED

POINTS = (33, 263, 168, 10, 454, 234, 4, 468, 473)
KINDS = ("identity", "rotation")
BACKENDS = ["torch", "cudagraph"]
if importlib.util.find_spec("openvino") is not None:
    BACKENDS += ["openvino", "int8"]
FP32 = EngineOptions(device="cpu", precision="fp32", backend="torch", warm_up_frames=1)


def model_of(kind: str, *, detected_share: float = 0.0, points: tuple[int, ...] = POINTS) -> Mcnet:
    torch.manual_seed(0)
    stated = {"places": "measured", "points": list(points), "jacobians": kind, "detected_share": detected_share}
    config = dataclasses.replace(McnetConfig.named("tiny"), num_keypoints=len(points))
    return Mcnet(config, ModelInfo(name="measured", training={"keypoints": stated})).eval()


def places(seed: int) -> NDArray[np.float64]:
    """As of one head: around the same middle, moved a little."""
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, (len(POINTS), 2))
    return spread + np.random.default_rng(seed).normal(0, 0.05, spread.shape)


def with_jacobians(kind: Any, value: torch.Tensor) -> Keypoints:
    return Keypoints(value, jacobians_of_places(value, POINTS, kind))


EYES = (*POINTS, 159, 145, 386, 374)


def eyes(gap: float, seed: int) -> NDArray[np.float64]:
    """(13, 2): as `places`, with irises half a unit apart and lids so far apart of it about each."""
    face = np.concatenate((places(seed), np.zeros((4, 2))))
    for iris, first, x in ((7, 9, -0.25), (8, 11, 0.25)):
        face[[iris, first, first + 1]] = (x, 0), (x, -gap / 4), (x, gap / 4)
    return face


@pytest.mark.parametrize("kind", ["detected", "identity"])
@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "int8"])
def test_lids_squeeze_the_irises_of_a_model_that_was_trained_so(backend: str, kind: str, pictures: Pictures) -> None:
    """The picture is that of squeezed source and driving keypoints; what callers hold and move is not squeezed."""
    model = model_of(kind, detected_share=0.15, points=EYES)
    plain = model.info
    facts = {**plain.training["keypoints"], "irises": "squeezed"}
    model.info = dataclasses.replace(plain, training={"keypoints": facts})
    opened, shut = eyes(0.12, 1), eyes(0.02, 2)
    engine = engine_on(backend, model)
    engine.set_source(pictures["source"], opened)
    driving = engine.detect(pictures["driving"], shut)
    with torch.inference_mode():
        found = [
            Keypoints(tensor(each), torch.eye(2).expand(1, 13, 2, 2))
            if kind == "identity"
            else model.keypoint_detector(to_tensor(pictures[name]))._replace(value=tensor(each))
            for name, each in (("source", opened), ("driving", shut))
        ]
        np.testing.assert_allclose(driving.jacobian, found[1].jacobian.numpy(), atol=1e-3)
        one, other = (each._replace(jacobian=squeezes(each.value, EYES) @ each.jacobian) for each in found)
        cache = model.generator.encode_source(to_tensor(pictures["source"]), one)
        expected = (model.generator(cache, other)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        open_eyed = model.generator(model.generator.encode_source(to_tensor(pictures["source"]), found[0]), found[1])
    promised = PROMISED["fp32"]
    wrong = difference(engine.render(driving), expected)
    assert wrong.max() <= promised.largest
    assert wrong.mean() <= promised.mean
    unsqueezed = (open_eyed[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert difference(unsqueezed, expected).max() > 2 * promised.largest


def tensor(one: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(one[None].astype(np.float32))


def engine_on(backend: Any, model: Mcnet) -> Engine:
    if backend == "cudagraph":
        engine = Engine(model, FP32)
        engine._backend = CudaGraphBackend(engine._torch_backend(), compute_again)
        return engine
    if backend == "int8":
        noise = noise_pictures(model)
        assert noise.source_places is not None
        assert noise.driving_places is not None
        note_ranges(model, noise.sources, noise.driving, (noise.source_places, noise.driving_places))
        return Engine(model, dataclasses.replace(FP32, precision="int8", backend="openvino"))
    return Engine(model, dataclasses.replace(FP32, backend=backend))


@pytest.fixture
def _no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the detector was asked")

    monkeypatch.setattr("mcnet.keypoints.KeypointDetector.forward", refuse)


@pytest.mark.usefixtures("_no_detector")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_plain_picture_without_picture_or_detector(
    backend: str, kind: str, pictures: Pictures
) -> None:
    model = model_of(kind)
    engine = engine_on(backend, model)
    assert engine.backend_name == {"int8": "openvino"}.get(backend, backend)
    assert engine.places_suffice
    assert not engine.detects
    one, reference, other = (places(seed) for seed in (1, 2, 3))
    engine.set_source(pictures["source"], one)
    engine.calibrate(None, reference)
    source, start, now = (with_jacobians(kind, tensor(each)) for each in (one, reference, other))
    moved = relative_keypoints(source, now, start, adapted_scale(source, start))
    with torch.inference_mode():
        cache = model.generator.encode_source(to_tensor(pictures["source"]), source)
        for pose, got in (
            (now, engine.animate(None, other, relative=False)),
            (with_jacobians(kind, moved.value), engine.animate(None, other)),
        ):
            plain = (model.generator(cache, pose)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            wrong = difference(got, plain)
            promised = PROMISED["int8" if backend == "int8" else "fp32"]
            assert wrong.max() <= promised.largest
            assert wrong.mean() <= promised.mean
    assert difference(engine.animate(None, other, relative=False), engine.animate(None, other)).max() > 1
    batch = engine.animate_batch(None, [other, reference])
    assert difference(batch[0], engine.animate(None, other)).max() <= PROMISED["int8"].largest
    assert engine.backend_name == {"int8": "openvino"}.get(backend, backend)  # nothing failed on the way


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.usefixtures("_no_detector")
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_frames_on_a_gpu_are_the_plain_ones(kind: str, pictures: Pictures) -> None:
    model = model_of(kind)
    engine = Engine(model, EngineOptions(device="cuda", precision="fp32", backend="cudagraph"))
    engine.set_source(pictures["source"], places(1))
    source, now = (with_jacobians(kind, tensor(places(seed))) for seed in (1, 2))
    with torch.inference_mode():
        plain = model.generator(model.generator.encode_source(to_tensor(pictures["source"]), source), now)
    expected = (plain[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert difference(engine.animate(None, places(2), relative=False), expected).max() <= PROMISED["fp32"].largest
    assert engine.backend_name == "cudagraph"


def test_an_openvino_engine_compiles_no_detector() -> None:
    pytest.importorskip("openvino")
    for share in (0.0, 0.15):
        engine = Engine(
            model_of("identity", detected_share=share), dataclasses.replace(FP32, backend="openvino", warm_up_frames=0)
        )
        compiled = vars(engine.backend)["_detector"]
        assert (compiled is None) == (share == 0.0)


def test_a_picture_that_is_given_all_the_same_changes_nothing(pictures: Pictures, noise: NDArray[np.uint8]) -> None:
    engine = Engine(model_of("rotation"), FP32)
    engine.set_source(pictures["source"], places(1))
    without = engine.animate(None, places(2), relative=False)
    np.testing.assert_array_equal(engine.animate(noise, places(2), relative=False), without)


def test_what_was_trained_on_both_may_be_detected_as_well(pictures: Pictures) -> None:
    engine = Engine(model_of("identity", detected_share=0.15), FP32)
    assert engine.places_suffice
    assert engine.detects
    engine.set_source(pictures["source"])
    assert engine.animate(pictures["driving"], relative=False).shape == (256, 256, 3)
    with pytest.raises(EngineError, match="picture: got none, expected one: model measured detects keypoints in it"):
        engine.animate(None, relative=False)
    engine.set_source(pictures["source"], places(1))
    assert engine.animate(None, places(2), relative=False).shape == (256, 256, 3)


def test_what_cannot_be_detected_is_refused(pictures: Pictures) -> None:
    engine = Engine(model_of("identity"), FP32)
    told = "model measured was trained on measured keypoints only .* the places of 9 points"
    for ask in (engine.set_source, engine.detect, engine.calibrate):
        with pytest.raises(EngineError, match=told):
            ask(pictures["source"])
    cache = engine.set_source(pictures["source"], places(1))
    assert isinstance(cache, SourceCache)
    with pytest.raises(EngineError, match=told):
        engine.set_source(cache._replace(measured=False))
    with pytest.raises(EngineError, match=r"got source measured, driving frame detected"):
        engine.animate(pictures["driving"], relative=False)
    with pytest.raises(EngineError, match=r"expected 1 of shape \(9, 2\)"):
        engine.detect(None, places(1)[:5])


def test_where_jacobians_are_detected_the_picture_is_needed(pictures: Pictures) -> None:
    engine = Engine(model_of("detected"), FP32)
    assert not engine.places_suffice
    assert engine.detects
    engine.set_source(pictures["source"], places(1))
    with pytest.raises(EngineError, match="got none, expected one: model measured detects jacobians in it"):
        engine.animate(None, places(1), relative=False)


@pytest.mark.usefixtures("_no_detector")
def test_ranges_and_what_is_fastest_are_measured_without_a_detector(pictures: Pictures) -> None:
    model = model_of("rotation")
    faces = np.stack([pictures["source"], pictures["driving"]])
    there = np.stack([places(1), places(2)])
    ranges = measure_ranges(model, faces, faces, (there, there))
    assert all(least <= 0 < largest for least, largest in ranges.values())
    still = measure_ranges(model, faces, faces[:1], (there, there[:1]))
    assert still != ranges  # the second frame moved something
    assert measure(ModelFile.of(model), FP32, seconds=0.1).best.frame_ms > 0


@pytest.mark.usefixtures("_no_detector")
def test_bench_measures_what_people_get(tmp_path: Path) -> None:
    """The plain network and the engine, both by places alone; the detector's cost is none of the frame's."""
    path = tmp_path / "measured.safetensors"
    save_model(model_of("rotation"), path)
    pictures = noise_pictures(open_model(str(path))[0])
    shown = []
    for variant in (BASELINE, Variant("torch fp32", "engine")):
        runner = prepare(VariantTask(str(path), "cpu", None, variant))
        runner.set_source(pictures.source(0), pictures.performer(0))
        shown.append(runner.frame(pictures.performer(1)))
        stages = runner.stages(pictures.performer(1))
    assert difference(shown[0], shown[1]).max() <= PROMISED["fp32"].largest
    assert set(stages) == {"places", "motion", "warp", "memory", "decode", "pack"}
    detecting = model_of("detected")
    assert bytes_of(model_of("rotation"), "fp32") < bytes_of(detecting, "fp32")


@pytest.mark.parametrize(
    ("stated", "detects", "kind"),
    [
        (None, True, "detected"),
        ({"points": list(POINTS), "jacobians": "identity", "detected_share": 0.0}, False, "identity"),
        ({"points": list(POINTS), "jacobians": "identity", "detected_share": 0.2}, True, "identity"),
        ({"points": list(POINTS), "jacobians": "identity"}, True, "identity"),
        ({"points": list(POINTS), "jacobians": "detected", "detected_share": 0.0}, True, "detected"),
        ({"points": [*POINTS[:-1], 478], "jacobians": "identity", "detected_share": 0.0}, True, "detected"),
    ],
)
def test_what_a_file_says_of_its_keypoints(stated: dict[str, Any] | None, detects: bool, kind: str) -> None:
    info = ModelInfo(training={} if stated is None else {"keypoints": stated})
    assert info.detects is detects
    assert info.keypoint_jacobians == kind


LINEAR = (*[(*[0.3 if at % 5 == of % 7 else 0.0 for at in range(36)],) for of in range(18)], (1.0, 0.0, 0.0, 1.0) * 9)
"""A map from places to jacobians, near the identity for places of a face."""


def stating(rows: Any) -> Mcnet:
    model = model_of("detected")
    model.info = dataclasses.replace(
        model.info, training={"keypoints": {**model.info.training["keypoints"], "linear_jacobians": rows}}
    )
    return model


def test_the_engine_tells_the_map_that_a_file_has(tmp_path: Path) -> None:
    save_model(stating(LINEAR), tmp_path / "model.safetensors")
    assert Engine(load_model(tmp_path / "model.safetensors"), FP32).linear_jacobians == LINEAR
    assert Engine(model_of("detected"), FP32).linear_jacobians == ()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (None, "no 19 rows of 36 numbers, as 9 keypoints"),
        (LINEAR[1:], "no 19 rows of 36 numbers"),
        ([row[1:] for row in LINEAR], "no 19 rows of 36 numbers"),
        ([*LINEAR[:-1], LINEAR[-1][1:]], "no 19 rows of 36 numbers"),
        ([*LINEAR[:-1], ["1"] * 36], "no 19 rows of 36 numbers"),
        ([*LINEAR[:-1], [True] * 36], "no 19 rows of 36 numbers"),
        ([*LINEAR[:-1], [float("nan")] * 36], "have nan, expected finite numbers"),
        ([*LINEAR[:-1], [10**400] * 36], "have 1000.*, expected finite numbers"),
    ],
    ids=["none", "a row short", "a column short", "ragged", "text", "booleans", "not a number", "too large"],
)
def test_a_map_that_does_not_fit_the_keypoints_is_refused(rows: Any, told: str, tmp_path: Path) -> None:
    save_model(stating(rows), tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=rf"wrong.safetensors has a header .*its linear jacobians (are )?{told}"):
        ModelFile.read(tmp_path / "wrong.safetensors")
