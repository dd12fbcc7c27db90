"""The engine against the plain model, and what it refuses."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet import Engine, EngineError, EngineOptions, Mcnet, load_model
from mcnet.arrays import Array, Keypoints
from mcnet.commands.arguments import PRECISIONS
from mcnet.config import McnetConfig
from mcnet.engine import DeviceChoice, Precision, Way
from mcnet.engine.device import automatic_backend
from mcnet.model_file import driven_as_trained
from mcnet.phrases import Phrase
from mcnet.pose import adapted_scale, relative_keypoints
from tests.released import to_tensor
from tests.tolerance import PROMISED, ROUNDED_OTHERWISE

FP32 = EngineOptions(device="cpu", precision="fp32", backend="torch", warm_up_frames=1)
Pictures = dict[str, NDArray[Any]]


def plain_picture(
    model: Mcnet,
    source: NDArray[Any],
    driving: NDArray[Any],
    reference: NDArray[Any] | None = None,
    *,
    adapt: bool = True,
) -> NDArray[np.uint8]:
    """What the plain model makes of it, as uint8."""
    with torch.inference_mode():
        cache = model.encode_source(to_tensor(source))
        keypoints = model.keypoint_detector(to_tensor(driving))
        if reference is not None:
            first = model.keypoint_detector(to_tensor(reference))
            scale = adapted_scale(cache.keypoints, first) if adapt else 1.0
            keypoints = relative_keypoints(cache.keypoints, keypoints, first, scale)
        prediction = model.generator(cache, keypoints)[0].permute(1, 2, 0)
        rgb: NDArray[np.uint8] = (prediction * 255).round().to(torch.uint8).numpy()
    return rgb


def tensors(keypoints: Keypoints[Array]) -> Keypoints:
    """The engine's keypoints, for the plain model."""
    return Keypoints(*map(torch.from_numpy, keypoints))


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))


def test_absolute_motion_gives_the_plain_picture(pictures: Pictures) -> None:
    model = load_model("starter")
    engine = Engine(model, FP32)
    engine.set_source(pictures["source"])
    got = engine.animate(pictures["driving"], relative=False)
    assert got.shape == (256, 256, 3)
    assert got.dtype == np.uint8
    wrong = difference(got, plain_picture(model, pictures["source"], pictures["driving"]))
    assert wrong.max() <= 1
    assert wrong.mean() < ROUNDED_OTHERWISE


@pytest.mark.parametrize("adapt", [True, False])
def test_relative_motion_gives_the_plain_picture(pictures: Pictures, adapt: bool) -> None:
    model = load_model("starter")
    engine = Engine(model, FP32)
    source, driving = pictures["source"], pictures["driving"]
    reference = np.ascontiguousarray(driving[:, ::-1])
    engine.set_source(source)
    engine.calibrate(reference)
    got = engine.animate(driving, adapt_scale=adapt)
    assert difference(got, plain_picture(model, source, driving, reference, adapt=adapt)).max() <= 1
    # It is neither the absolute picture nor the one of the other scale, or the test would prove nothing.
    assert difference(got, engine.animate(driving, relative=False)).max() > 10
    assert difference(got, engine.animate(driving, adapt_scale=not adapt)).max() > 1


def test_bfloat16_stays_close_to_float32(pictures: Pictures) -> None:
    model = load_model("starter")
    engine = Engine(model, dataclasses.replace(FP32, precision="bf16", warm_up_frames=0))  # slow where it is emulated
    engine.set_source(pictures["source"])
    wrong = difference(
        engine.animate(pictures["driving"], relative=False),
        plain_picture(model, pictures["source"], pictures["driving"]),
    )
    assert wrong.max() <= PROMISED["bf16"].largest
    assert wrong.mean() <= PROMISED["bf16"].mean


def test_the_model_stays_as_it_is(tiny: Mcnet, noise: NDArray[np.uint8]) -> None:
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    engine = Engine(tiny, dataclasses.replace(FP32, precision="bf16", warm_up_frames=0))
    engine.set_source(noise)
    engine.animate(noise, relative=False)
    after = tiny.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)


def test_a_cache_can_be_set_again(tiny: Mcnet, pictures: Pictures, noise: NDArray[np.uint8]) -> None:
    engine = Engine(tiny, FP32)
    cache = engine.set_source(pictures["source"])
    first = engine.animate(pictures["driving"], relative=False)
    engine.set_source(noise)
    assert difference(first, engine.animate(pictures["driving"], relative=False)).max() > 0
    engine.set_source(cache)
    np.testing.assert_array_equal(engine.animate(pictures["driving"], relative=False), first)
    twin = Engine(tiny, FP32)
    twin.set_source(cache)
    np.testing.assert_array_equal(twin.animate(pictures["driving"], relative=False), first)


@pytest.mark.parametrize("stored_hash", ["", "0123abcd"])
def test_another_models_cache_is_refused(tiny: Mcnet, noise: NDArray[np.uint8], stored_hash: str) -> None:
    tiny.info = dataclasses.replace(tiny.info, content_hash=stored_hash)
    cache = Engine(tiny, FP32).set_source(noise)
    with torch.no_grad():
        tiny.generator.final.weight.mul_(1.5)
    with pytest.raises(EngineError, match="set the picture itself again"):
        Engine(tiny, FP32).set_source(cache)


def test_output_is_a_fresh_array_each_time(tiny: Mcnet, pictures: Pictures) -> None:
    engine = Engine(tiny, FP32)
    engine.set_source(pictures["source"])
    first = engine.animate(pictures["driving"], relative=False)
    kept = first.copy()
    second = engine.animate(pictures["source"], relative=False)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (480, 640)])
def test_any_size_is_taken_from_its_centre(tiny: Mcnet, shape: tuple[int, int], noise: NDArray[np.uint8]) -> None:
    height, width = shape
    side = min(shape)
    picture = np.zeros((height, width, 3), np.uint8)
    face = np.resize(noise[:side, :side], (side, side, 3))
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = face
    engine = Engine(tiny, FP32)
    engine.set_source(picture)
    whole = engine.animate(picture, relative=False)
    engine.set_source(face)
    np.testing.assert_array_equal(engine.animate(face, relative=False), whole)
    assert whole.shape == (256, 256, 3)


def test_read_only_pictures_are_taken(tiny: Mcnet, noise: NDArray[np.uint8]) -> None:
    noise = noise.copy()
    noise.flags.writeable = False
    engine = Engine(tiny, FP32)
    engine.set_source(noise)
    assert engine.animate(noise, relative=False).flags.writeable


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((256, 256, 3), np.float32), r"got float32 \(256, 256, 3\), expected a uint8 array"),
        (np.zeros((256, 256), np.uint8), r"got uint8 \(256, 256\)"),
        (np.zeros((256, 256, 4), np.uint8), r"got uint8 \(256, 256, 4\)"),
        (np.zeros((63, 200, 3), np.uint8), "got 200x63 pixels, expected at least 64"),
        ("face.png", "got str"),
    ],
)
def test_pictures_that_cannot_be_used(tiny: Mcnet, noise: NDArray[np.uint8], picture: Any, message: str) -> None:
    engine = Engine(tiny, FP32)
    for call in (engine.set_source, engine.calibrate):
        with pytest.raises(EngineError, match=message):
            call(picture)
    engine.set_source(noise)
    with pytest.raises(EngineError, match=message):
        engine.animate(picture, relative=False)


def test_order_of_calls(tiny: Mcnet, noise: NDArray[np.uint8]) -> None:
    engine = Engine(tiny, FP32)
    with pytest.raises(EngineError, match=r"call set_source\(rgb\) first"):
        engine.animate(noise)
    engine.set_source(noise)
    with pytest.raises(EngineError, match=r"call calibrate\(rgb\)"):
        engine.animate(noise)
    engine.calibrate(noise)
    engine.animate(noise)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_keypoints_of_another_shape_are_refused_alike(backend: Any, tiny: Mcnet, noise: NDArray[np.uint8]) -> None:
    pytest.importorskip(backend)
    engine = Engine(tiny, EngineOptions(device="cpu", precision="fp32", backend=backend, warm_up_frames=0))
    value, jacobian = engine.set_source(noise).keypoints
    expected = engine.render(Keypoints(value, jacobian))
    np.testing.assert_array_equal(engine.render(Keypoints(value.astype(np.float64), jacobian.tolist())), expected)
    strange: list[tuple[Any, Any]] = [
        (value[:, :-1], jacobian[:, :-1]),
        (value[0], jacobian[0]),
        (value[:0], jacobian[:0]),
        (value, jacobian[:, :, 0]),
        (value, np.concatenate((jacobian, jacobian))),
        (np.float32(0), np.float32(0)),
    ]
    for keypoints in (Keypoints(*parts) for parts in strange):
        for call in (engine.render, engine.render_batch, engine.render_with_flow):
            with pytest.raises(EngineError, match=r"keypoints: got shapes .* of at least one frame"):
                call(keypoints)
    with pytest.raises(EngineError, match="expected a value and a jacobian of numbers"):
        engine.render(Keypoints([["a"]], jacobian))  # type: ignore[arg-type]
    assert engine.backend_name == backend
    np.testing.assert_array_equal(engine.render(Keypoints(value, jacobian)), expected)


def test_no_frame_is_refused(of_starter: Engine, tiny: Mcnet, pictures: Pictures) -> None:
    engine = Engine(tiny, FP32)
    engine.set_source(pictures["source"])
    for call in (engine.animate_batch, engine.drive):
        with pytest.raises(EngineError, match="frames: got none, expected one at least"):
            call([], relative=False)
    with pytest.raises(EngineError, match="frames: got none, expected one at least"):
        of_starter._keypoints(None, [])


@pytest.mark.parametrize("poisoned", ["generator.final", "generator.first.conv", "keypoint_detector.jacobians"])
def test_nan_is_never_shown(tiny: Mcnet, noise: NDArray[np.uint8], poisoned: str) -> None:
    bias = tiny.get_submodule(poisoned).bias
    assert isinstance(bias, torch.Tensor)
    with torch.no_grad():
        bias[0] = float("nan")
    engine = Engine(tiny, EngineOptions(device="cpu", precision="fp32", backend="torch", warm_up_frames=0))
    with pytest.raises(EngineError, match="NaN"):  # noqa: PT012 - either step may be the one that sees it
        engine.set_source(noise)
        engine.animate(noise, relative=False)


def test_nan_is_found_when_the_engine_starts(tiny: Mcnet) -> None:
    with torch.no_grad():
        tiny.generator.final.weight.fill_(float("nan"))
    with pytest.raises(EngineError, match="NaN"):
        Engine(tiny, FP32)


def test_one_thread(tiny: Mcnet, noise: NDArray[np.uint8]) -> None:
    engine = Engine(tiny, FP32)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            engine.set_source(noise)
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere, name="elsewhere")
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert "'elsewhere'" in str(caught[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions(device="cuda:99"), "got 'cuda:99', but"),
        (EngineOptions(device="gpu:99"), "got 'gpu:99', but"),
        (EngineOptions(device="vulkan"), "got 'vulkan', expected auto, cpu, cuda"),
        (EngineOptions(device="cpu:7"), "got 'cpu:7', expected auto, cpu, cuda"),
        (EngineOptions(device="cpu", precision="fp16"), "got fp16 on the CPU"),
        (EngineOptions(precision="int4"), "got 'int4', expected one of"),  # type: ignore[arg-type]
        # These tests also run where there is no OpenVINO, and then that is what is lacking.
        (EngineOptions(device="cpu", precision="int8"), "int8', but (the model does not tell the ranges|the package)"),
        (
            EngineOptions(device="cpu", precision="int8", backend="torch"),
            "int8', but OpenVINO alone knows it",
        ),
    ],
)
def test_options_that_cannot_be_met(options: EngineOptions, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        DeviceChoice.of(options)


def test_the_commands_offer_every_precision() -> None:
    assert get_args(Precision) == PRECISIONS


def test_threads_are_checked(tiny: Mcnet) -> None:
    with pytest.raises(EngineError, match="threads: got 0, expected at least 1"):
        Engine(tiny, EngineOptions(device="cpu", threads=0))


def test_auto_says_what_it_took_and_why() -> None:
    choice = DeviceChoice.of(EngineOptions())
    assert choice.device == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert choice.device in choice.reason
    assert ("because" in choice.reason) == (choice.device == "cpu")


def test_auto_records_frames_on_gpus() -> None:
    gpu = DeviceChoice("cuda:0", "fp32", "")
    assert automatic_backend(gpu, None) == ("cudagraph", "recorded frames are the fastest on GPUs")
    measured = Way("cuda:0", "fp16", "torch")
    assert automatic_backend(gpu, measured) == ("torch", "as measured")


def test_what_was_measured_is_taken_where_nothing_is_asked_for(tiny: Mcnet) -> None:
    measured = Way("cpu", "bf16", "torch")
    choice = DeviceChoice.of(EngineOptions(measured=measured))
    assert (choice.device, choice.dtype) == ("cpu", "bf16")
    assert "in bf16 (measured to be the fastest here)" in choice.reason
    asked = EngineOptions(device="cpu", precision="fp32", backend="torch", measured=measured)
    choice = DeviceChoice.of(asked)
    assert choice.dtype == "fp32"
    assert "measured" not in choice.reason
    engine = Engine(tiny, EngineOptions(device="cpu", measured=measured, warm_up_frames=0))
    assert (engine.backend_name, engine.backend_reason) == ("torch", "as measured")
    assert Engine(tiny, dataclasses.replace(asked, warm_up_frames=0)).backend_reason == "as asked"


def test_a_cpu_that_was_measured_to_be_best_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcnet.engine.device.why_no_cuda", lambda _: None)
    choice = DeviceChoice.of(EngineOptions(measured=Way("cpu", "fp32", "torch")))
    assert ", as measured, in fp32 (measured to be the fastest here)" in choice.reason
    assert isinstance(choice.reason, Phrase)
    assert isinstance(choice.reason.fields["why"], Phrase), "it can be said in another language"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1), ("bf16", 8), ("fp16", 4)])
def test_cuda_gives_the_plain_picture(pictures: Pictures, precision: Any, largest: int) -> None:
    model = load_model("starter")
    engine = Engine(model, EngineOptions(device="cuda", precision=precision, backend="torch"))
    engine.set_source(pictures["source"])
    got = engine.animate(pictures["driving"], relative=False)
    assert difference(got, plain_picture(model, pictures["source"], pictures["driving"])).max() <= largest


@pytest.mark.parametrize("name", ["starter", "tiny"])
def test_a_batch_is_its_frames(name: str, tiny: Mcnet, pictures: Pictures) -> None:
    engine = Engine(tiny if name == "tiny" else load_model(name), FP32)
    engine.set_source(pictures["source"])
    frames = [pictures["driving"], np.ascontiguousarray(pictures["driving"][:, ::-1]), pictures["source"][8:248, 8:248]]
    engine.calibrate(frames[0])
    batch = engine.animate_batch(frames)
    assert batch.shape == (3, 256, 256, 3)
    for frame, picture in zip(frames, batch, strict=True):
        assert difference(engine.animate(frame), picture).max() <= 1
    assert difference(batch[0], batch[1]).max() > 10


def test_a_batch_of_a_network_whose_memory_sees_the_frame(pictures: Pictures) -> None:
    tiny = McnetConfig.named("tiny")
    torch.manual_seed(0)
    memory = dataclasses.replace(tiny.memory, conditioning="keypoints+appearance")
    engine = Engine(Mcnet(dataclasses.replace(tiny, memory=memory)).eval(), FP32)
    engine.set_source(pictures["source"])
    frames = [pictures["driving"], pictures["source"]]
    batch = engine.animate_batch(frames, relative=False)
    for frame, picture in zip(frames, batch, strict=True):
        assert difference(engine.animate(frame, relative=False), picture).max() <= 1


@pytest.mark.usefixtures("_signals_are_heard")
def test_ctrl_c_while_a_backend_is_made_leaves_its_thread_to_end() -> None:
    script = """
import time
from mcnet.engine.backends import Preparation

def make():
    print("making", flush=True)
    time.sleep(2)
    print("made", flush=True)

try:
    Preparation(make).wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        time.sleep(0.5)  # the main thread waits by now
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0].split()
    assert said == ["interrupted", "made"], "the thread was torn out of what it does"


def test_measured_places_stand_in_for_detected_ones(pictures: Pictures) -> None:
    model = load_model("starter")
    engine = Engine(model, FP32)
    assert engine.keypoint_landmarks == (334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10, 468, 473)
    source, driving = pictures["source"], pictures["driving"]
    found = {name: engine.detect(picture) for name, picture in (("source", source), ("driving", driving))}
    moved = {name: keypoints.value[0] + np.float32(0.02) for name, keypoints in found.items()}
    measured = engine.detect(driving, moved["driving"])
    np.testing.assert_array_equal(measured.value[0], moved["driving"])
    np.testing.assert_array_equal(measured.jacobian, found["driving"].jacobian)
    cache = engine.set_source(source, moved["source"])
    assert cache.measured
    np.testing.assert_array_equal(cache.keypoints.value[0], moved["source"])
    with torch.inference_mode():
        encoded = model.generator.encode_source(to_tensor(source), tensors(cache.keypoints))
        plain = model.generator(encoded, tensors(driven_as_trained(model.info, measured, cache.keypoints)))
    expected = (plain[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    got = engine.animate(driving, moved["driving"], relative=False)
    assert difference(got, expected).max() <= 1
    engine.calibrate(driving, moved["driving"])
    # At the reference pose the source keeps its own keypoints, measured ones.
    still = engine.animate(driving, moved["driving"], adapt_scale=False)
    assert difference(still, engine.render(cache.keypoints)).max() <= 1


def test_measured_and_detected_places_are_not_mixed(pictures: Pictures) -> None:
    engine = Engine(load_model("starter"), FP32)
    places = engine.detect(pictures["driving"]).value[0]
    engine.set_source(pictures["source"])
    with pytest.raises(EngineError, match="got source detected, driving frame measured; expected all alike"):
        engine.animate(pictures["driving"], places, relative=False)
    engine.set_source(pictures["source"], engine.detect(pictures["source"]).value[0])
    engine.calibrate(pictures["driving"])
    with pytest.raises(EngineError, match="reference pose detected"):
        engine.animate(pictures["driving"], places)


@pytest.fixture(scope="module")
def of_starter() -> Engine:
    """An engine that refuses what it is given, and stays as it is."""
    return Engine(load_model("starter"), FP32)


@pytest.mark.parametrize("strange", [np.zeros((16, 2)), np.zeros(34), np.full((17, 2), np.nan)])
def test_places_that_cannot_be(of_starter: Engine, pictures: Pictures, strange: NDArray[Any]) -> None:
    with pytest.raises(EngineError, match=r"expected 1 of shape \(17, 2\), finite"):
        of_starter.set_source(pictures["source"], strange)


def test_a_model_without_meaning_detects(pictures: Pictures, tiny: Mcnet) -> None:
    engine = Engine(tiny, FP32)
    assert engine.keypoint_landmarks == ()
    with pytest.raises(EngineError, match="can only be detected: leave places out"):
        engine.set_source(pictures["source"], np.zeros((5, 2)))
