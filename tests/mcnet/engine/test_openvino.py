"""The OpenVINO backend against the plain model, and what happens when it cannot be had."""

import contextlib
import dataclasses
import importlib.util
import logging
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet import Engine, EngineError, EngineOptions, Mcnet, load_model, open_model
from mcnet.arrays import Array, Keypoints
from mcnet.config import McnetConfig, range_names
from mcnet.engine import DeviceChoice
from mcnet.engine.quantization import note_ranges
from mcnet.engine.weights import Weights
from tests.mcnet.engine.test_engine import Pictures, difference, plain_picture, tensors
from tests.released import to_tensor
from tests.tolerance import PICTURE, PLACE, PROMISED, ROUNDED_OTHERWISE, largest_error, of_sums

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed"
)

FP32 = EngineOptions(device="cpu", precision="fp32", backend="openvino", warm_up_frames=0)
BF16 = dataclasses.replace(FP32, precision="bf16")
INT8 = dataclasses.replace(FP32, precision="int8")
AUTO = dataclasses.replace(FP32, backend="auto")
TORCH = dataclasses.replace(FP32, backend="torch")


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))


def random_model(config: McnetConfig) -> Mcnet:
    torch.manual_seed(0)
    model = Mcnet(config).eval()
    with torch.no_grad():
        model.keypoint_detector.logits.weight.mul_(5)
        for name, buffer in model.named_buffers():  # so that folding them is put to the test
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return model


def of_family(base: McnetConfig, **changes: Any) -> McnetConfig:
    memory = {key.removeprefix("memory_"): changes.pop(key) for key in list(changes) if key.startswith("memory_")}
    return dataclasses.replace(base, memory=dataclasses.replace(base.memory, **memory), **changes)


TINY = McnetConfig.named("tiny")
FAMILY = {
    "tiny": TINY,
    "no memory": of_family(TINY, memory_levels_px=()),
    "all compensated": of_family(TINY, memory_levels_px=(32, 64, 128)),
    "only in the middle": of_family(TINY, memory_levels_px=(64,)),
    "two blocks, none": of_family(TINY, resblocks=(2, 0, 1)),
    "odd widths": of_family(TINY, decoder_widths=(10, 14, 9, 5)),
    "no laterals": of_family(TINY, lateral=False, decoder_widths=(32, 24, 16, 8)),
    "as released": of_family(TINY, memory_conditioning="keypoints+appearance", lateral=False,
                             decoder_widths=(32, 24, 16, 8), memory_levels_px=(32, 64, 128)),
    "memory without scale code": of_family(TINY, memory_conditioning="none"),
    "seven by seven": of_family(TINY, output_kernel=7),
    "border repeated": of_family(TINY, border="replicate"),
    "whole registers of motions": of_family(TINY, num_keypoints=7),
    "512 px": of_family(TINY, size_px=512, encoder_widths=(8, 16, 24, 32, 32), decoder_widths=(24, 16, 12, 8, 8),
                        resblocks=(1, 0, 1, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILY)
def test_the_whole_family_gives_the_plain_picture(name: str, pictures: Pictures) -> None:
    model = random_model(FAMILY[name])
    size_px = model.config.size_px
    source, driving = (np.ascontiguousarray(np.resize(pictures[who], (size_px, size_px, 3))) for who in pictures)
    engine = Engine(model, FP32)
    assert engine.backend_name == "openvino"
    cache = engine.set_source(source)
    with torch.inference_mode():
        expected = model.keypoint_detector(to_tensor(driving))
    got = tensors(engine.detect(driving))
    assert largest_error(got.value, expected.value) <= PLACE
    assert largest_error(got.jacobian, expected.jacobian) <= PLACE
    # Another pose than the source's own, some of it looking outside the picture.
    shear = np.array([[1.1, 0.1], [-0.2, 0.9]], np.float32)
    pose = Keypoints(cache.keypoints.value + np.float32(0.2), shear @ cache.keypoints.jacobian)
    with torch.inference_mode():
        plain = model.generator(model.encode_source(to_tensor(source)), tensors(pose))[0].permute(1, 2, 0) * 255
    rendered = engine.render(pose)
    assert rendered.shape == (size_px, size_px, 3)
    assert np.abs(rendered - plain.numpy()).max() <= 0.5 + 255 * PICTURE  # half a step is what rounding takes


class Shown(NamedTuple):
    """What the starter gives in float32, by a graph of its own; nothing that a test could change."""

    model: Mcnet
    keypoints: Keypoints[Array]
    absolute: NDArray[np.uint8]


@pytest.fixture(scope="module")
def in_full(pictures: Pictures) -> Shown:
    model = load_model("starter")
    engine = Engine(model, FP32)
    engine.set_source(pictures["source"])
    keypoints = engine.detect(pictures["driving"])
    return Shown(model, keypoints, engine.render(keypoints))


def test_starter_gives_the_plain_picture(in_full: Shown, pictures: Pictures) -> None:
    wrong = difference(in_full.absolute, plain_picture(in_full.model, pictures["source"], pictures["driving"]))
    assert wrong.max() <= 1
    assert wrong.mean() < ROUNDED_OTHERWISE


def test_bfloat16_leaves_keypoints_and_motion_alone(in_full: Shown, pictures: Pictures) -> None:
    half = Engine(in_full.model, BF16)
    half.set_source(pictures["source"])
    np.testing.assert_equal(half.detect(pictures["driving"]), in_full.keypoints)
    wrong = difference(half.render(in_full.keypoints), in_full.absolute)
    assert wrong.max() <= PROMISED["bf16"].largest
    assert wrong.mean() <= PROMISED["bf16"].mean  # with the blend in bfloat16 it was 0.15


@pytest.mark.parametrize("options", [BF16, INT8], ids=["bf16", "int8"])
def test_one_thread_keeps_the_promise_too(options: EngineOptions, in_full: Shown, pictures: Pictures) -> None:
    """OpenVINO fuses other operations then, down to ones that round what must not be."""
    one = Engine(in_full.model, dataclasses.replace(options, threads=1))
    one.set_source(pictures["source"])
    wrong = difference(one.render(in_full.keypoints), in_full.absolute)
    assert wrong.max() <= PROMISED[options.precision].largest
    assert wrong.mean() <= PROMISED[options.precision].mean


def test_eight_bits_reach_the_decoder_alone(in_full: Shown, pictures: Pictures) -> None:
    """Convolutions really are computed in 8 bits, on ranges the file tells; the picture stays bf16's but for a step."""
    eight = Engine(in_full.model, INT8)
    assert "int8 with OpenVINO" in eight.choice.reason
    used = {name: in_8_bits("Convolution", eight, name) for name in ("_detector", "_mask", "_warp", "_decoder")}
    # Three levels picked and two filled in, a ResBlock's two, three doublings; the last one is not.
    assert used == {"_detector": 0, "_mask": 0, "_warp": 0, "_decoder": 10}
    eight.set_source(pictures["source"])
    np.testing.assert_equal(eight.detect(pictures["driving"]), in_full.keypoints)
    wrong = difference(eight.render(in_full.keypoints), in_full.absolute)
    assert 0 < wrong.max() <= PROMISED["int8"].largest
    assert wrong.mean() <= PROMISED["int8"].mean


def in_8_bits(layer: str, engine: Engine, graph: str) -> int:
    compiled = getattr(engine.backend, graph).get_compiled_model().get_runtime_model()
    facts = [operation.get_rt_info() for operation in compiled.get_ordered_ops()]
    kinds = [(str(fact["layerType"].astype(str)), str(fact["primitiveType"].astype(str))) for fact in facts]
    return sum(of == layer and kind.endswith("_I8") for of, kind in kinds)


@pytest.mark.parametrize(
    "name", ["tiny", "as released", "no memory", "two blocks, none", "odd widths", "seven by seven"]
)
def test_the_family_in_eight_bits(name: str, pictures: Pictures) -> None:
    model = random_model(FAMILY[name])
    faces = np.stack([pictures["source"], pictures["driving"]])
    note_ranges(model, faces, faces)
    engines = [Engine(model, INT8)]
    # One convolution reads each of the ranges.
    assert in_8_bits("Convolution", engines[0], "_decoder") == len(range_names(model.config))
    # What doubles a level is clipped before it is taken apart, unless residual blocks read it first.
    config = model.config
    early = sum(not blocks for blocks in config.resblocks[1:])
    assert in_8_bits("DepthToSpace", engines[0], "_decoder") == early
    nothing = dict.fromkeys(range_names(model.config), (0.0, 1e-6))
    model.info = dataclasses.replace(model.info, ranges=nothing)
    engines.append(Engine(model, INT8))
    for engine in engines:
        engine.set_source(pictures["source"])
    eight, clipped = (engine.animate(pictures["driving"], relative=False) for engine in engines)
    plain = plain_picture(model, pictures["source"], pictures["driving"])
    wrong = difference(eight, plain)
    assert wrong.max() <= PROMISED["int8"].largest
    assert wrong.mean() <= PROMISED["int8"].mean
    assert difference(clipped, plain).mean() > 2 * wrong.mean()  # ranges matter, or this would prove nothing


def test_doubling_by_differences_is_doubling() -> None:
    openvino_graph = pytest.importorskip("mcnet.engine.openvino_graph")
    channels, outputs, shape = 256, 5, (4, 7)
    random = np.random.default_rng(0)
    maps = random.normal(size=(1, channels, *shape)).astype(np.float32)
    weight = random.normal(size=(outputs, channels, 3, 3)).astype(np.float32)
    up = openvino_graph.Conv(weight, random.normal(size=outputs).astype(np.float32))
    parameter = openvino_graph._parameter("maps", maps.shape)
    doubled = openvino_graph._unpaired(openvino_graph._paired_by_differences(parameter, up))
    graph = openvino_graph.ov.Model([doubled], [parameter], "doubling")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino_graph.ov.Core().compile_model(graph, "CPU", settings)([maps])[0]
    nearest = torch.from_numpy(maps).repeat_interleave(2, 2).repeat_interleave(2, 3)
    plainly = torch.conv2d(
        nearest.double(), torch.from_numpy(weight).double(), torch.from_numpy(up.bias).double(), padding=1
    )
    expected = plainly.relu().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=of_sums(16 * channels) * expected.max())
    assert (found > 0).any()


def test_only_float32_doubles_by_differences() -> None:
    """Differences of what is rounded to bfloat16 would be rounded once more."""
    openvino_graph = pytest.importorskip("mcnet.engine.openvino_graph")
    starter = open_model("starter")
    weights = Weights(starter.weights)
    counts = [
        sum(node.get_type_name() == "Subtract" for node in graph.get_ops())
        for graph in (
            openvino_graph.mask_graph(starter.config, weights, in_float32=in_float32) for in_float32 in (True, False)
        )
    ]
    assert counts == [12, 0], "four doublings, three differences each"


def test_logits_stay_float32_in_a_graph_in_bfloat16() -> None:
    """Two keys whose logits, 100 and 100.25, are one number in bfloat16: the weights would be equal."""
    openvino_graph = pytest.importorskip("mcnet.engine.openvino_graph")
    channels, rows = 64, 256
    query, key = np.zeros((1024, channels), np.float32), np.zeros((rows, channels), np.float32)
    query[:, :2], key[:, 0] = (10, 1), -10
    key[0, :2], key[1, :2] = (10, 0), (10, 0.25)
    value = np.zeros((rows, channels), np.float32)
    value[1] = 1
    shapes = {"query": query.shape, "key": key.shape, "value": value.shape}
    inputs = [openvino_graph._parameter(name, shape) for name, shape in shapes.items()]
    graph = openvino_graph.ov.Model([openvino_graph._attend(*inputs)], inputs, "attention")
    compiled = openvino_graph.ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    fetched = compiled([query, key, value])[0]
    np.testing.assert_allclose(fetched, 1 / (1 + np.exp(-0.25)), atol=0.005)


def test_eight_bits_that_were_asked_for_are_there_from_the_start_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    starter = load_model("starter")
    asked = EngineOptions(device="cpu", precision="int8", warm_up_frames=0)
    assert Engine(starter, asked).backend_name == "openvino"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert Engine(starter, asked).backend_name == "openvino"
    assert not DeviceChoice.of(dataclasses.replace(asked, precision="auto"), starter.info).int8  # not measured there
    without_openvino(monkeypatch)
    with pytest.raises(EngineError, match="int8', but the package openvino is not installed"):
        Engine(starter, asked)


def test_it_warms_up_by_itself(tiny: Mcnet, monkeypatch: pytest.MonkeyPatch) -> None:
    animated: list[object] = []
    monkeypatch.setattr(Engine, "animate", lambda _, rgb, *__, **___: animated.append(rgb))
    Engine(tiny, dataclasses.replace(AUTO, warm_up_frames=2)).settle()
    assert animated == []
    Engine(tiny, dataclasses.replace(TORCH, warm_up_frames=2))
    assert len(animated) == 2


def test_auto_takes_eight_bits_where_they_are_worth_it(monkeypatch: pytest.MonkeyPatch, tiny: Mcnet) -> None:
    starter = load_model("starter")
    auto = EngineOptions(device="cpu")
    monkeypatch.setattr("mcnet.engine.processor.native_precisions", lambda _: frozenset({"fp32", "int8"}))
    assert DeviceChoice.of(auto, starter.info).int8
    assert not DeviceChoice.of(auto, tiny.info).int8  # its ranges were not measured
    assert not DeviceChoice.of(dataclasses.replace(auto, backend="torch"), starter.info).int8
    assert not DeviceChoice.of(dataclasses.replace(auto, precision="bf16"), starter.info).int8
    monkeypatch.setattr("mcnet.engine.processor.native_precisions", lambda _: frozenset({"fp32"}))
    assert not DeviceChoice.of(auto, starter.info).int8
    assert DeviceChoice.of(dataclasses.replace(auto, precision="int8"), starter.info).int8  # as asked


def test_caches_are_shared_with_torch(tiny: Mcnet, pictures: Pictures) -> None:
    ours, theirs = Engine(tiny, FP32), Engine(tiny, TORCH)
    cache = theirs.set_source(pictures["source"])
    ours.set_source(pictures["driving"])
    ours.animate(pictures["driving"], relative=False)
    ours.set_source(cache)
    one, other = (engine.animate(pictures["driving"], relative=False) for engine in (ours, theirs))
    assert difference(one, other).max() <= 1


def test_output_is_a_fresh_array_each_time(tiny: Mcnet, pictures: Pictures) -> None:
    engine = Engine(tiny, FP32)
    engine.set_source(pictures["source"])
    first_keypoints = engine.detect(pictures["driving"])
    kept_keypoints = first_keypoints.value.copy()
    first = engine.render(first_keypoints)
    kept = first.copy()
    second = engine.animate(pictures["source"], relative=False)
    assert difference(first, second).max() > 0
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first_keypoints.value, kept_keypoints)


@pytest.mark.parametrize(
    "poisoned",
    [
        "generator.final",
        "generator.first.conv",
        "generator.dense_motion.mask",
        "keypoint_detector.jacobians",
    ],
)
@pytest.mark.parametrize("options", [FP32, BF16, INT8], ids=lambda options: str(options.precision))
def test_nan_is_never_shown(tiny: Mcnet, noise: NDArray[np.uint8], poisoned: str, options: EngineOptions) -> None:
    note_ranges(tiny, noise[None], noise[None])
    bias = tiny.get_submodule(poisoned).bias
    assert isinstance(bias, torch.Tensor)
    with torch.no_grad():
        bias[0] = float("nan")
    with pytest.raises(EngineError, match=f"OpenVINO failed: model tiny: {poisoned}.bias holds NaN"):
        Engine(tiny, options)
    engine = Engine(tiny, TORCH)  # which goes on where nothing is asked for
    with pytest.raises(EngineError, match="NaN"):  # noqa: PT012 - either step may be the one that sees it
        engine.set_source(noise)
        engine.animate(noise, relative=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_keypoints_from_nowhere(tiny: Mcnet, noise: NDArray[np.uint8], value: float) -> None:
    engine = Engine(tiny, FP32)
    cache = engine.set_source(noise)
    before = engine.render(cache.keypoints)
    far = Keypoints(np.full_like(cache.keypoints.value, value), cache.keypoints.jacobian)
    with contextlib.nullcontext() if np.isfinite(value) else pytest.raises(EngineError, match="NaN"):
        engine.render(far)
    np.testing.assert_array_equal(engine.render(cache.keypoints), before)
    assert engine.backend_name == "openvino"


def test_it_is_made_ready_beside_what_else_there_is_to_do(
    tiny: Mcnet, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import mcnet.engine.openvino_backend as module

    go_on = threading.Event()
    real = module.OpenVinoBackend

    def late(*arguments: Any, **options: Any) -> Any:
        assert go_on.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "OpenVinoBackend", late)
    with caplog.at_level(logging.WARNING):
        engine = Engine(tiny, AUTO)  # does not wait
        assert (engine.backend_name, engine.backend_reason) == ("openvino", "it is the fastest on x86-64 CPUs")
        go_on.set()
        engine.set_source(pictures["source"])
        got = engine.animate(pictures["driving"], relative=False)
        assert engine.settle() == "openvino"
    assert difference(got, plain_picture(tiny, pictures["source"], pictures["driving"])).max() <= 1
    assert not caplog.records


def test_a_batch_is_its_frames(tiny: Mcnet, pictures: Pictures) -> None:
    engine = Engine(tiny, FP32)
    engine.set_source(pictures["source"])
    frames = [pictures["driving"], np.ascontiguousarray(pictures["driving"][:, ::-1])]
    for frame, picture in zip(frames, engine.animate_batch(frames, relative=False), strict=True):
        np.testing.assert_array_equal(engine.animate(frame, relative=False), picture)


def test_torch_goes_on_where_it_cannot_be_made(
    tiny: Mcnet, noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr("mcnet.engine.openvino_backend.OpenVinoBackend", broken)
    engine = Engine(tiny, AUTO)
    assert engine.settle() == "torch"
    engine.set_source(noise)
    engine.animate(noise, relative=False)
    assert [(record.levelname, "libtbb.so.12" in record.message) for record in caplog.records] == [("WARNING", True)]
    assert engine.backend_reason.startswith("openvino cannot be used: libtbb.so.12")
    with pytest.raises(EngineError, match=r"backend: OpenVINO failed: libtbb\.so\.12"):
        Engine(tiny, FP32)


def test_torch_goes_on_where_it_fails_later(
    tiny: Mcnet, noise: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tiny, FP32)
    engine.set_source(noise)
    before = engine.animate(noise, relative=False)

    def failing(*_: Any) -> None:
        raise RuntimeError("primitive could not be executed")

    monkeypatch.setattr("mcnet.engine.openvino_backend._infer", failing)
    after = engine.animate(noise, relative=False)
    assert difference(before, after).max() <= 1
    assert engine.backend_name == "torch"
    assert engine.backend_reason == "openvino failed: primitive could not be executed"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "primitive could not be executed" in caplog.text


def test_where_it_is_not_installed(tiny: Mcnet, monkeypatch: pytest.MonkeyPatch) -> None:
    without_openvino(monkeypatch)
    assert Engine(tiny, AUTO).settle() == "torch"
    with pytest.raises(EngineError, match=r"got 'openvino', but the package openvino is not installed \(pip install"):
        Engine(tiny, FP32)


def test_a_backend_that_nobody_knows(tiny: Mcnet) -> None:
    with pytest.raises(EngineError, match="backend: got 'tensorrt', expected one of auto, torch, openvino"):
        Engine(tiny, EngineOptions(device="cpu", backend="tensorrt"))  # type: ignore[arg-type]
