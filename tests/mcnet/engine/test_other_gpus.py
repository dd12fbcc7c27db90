"""Intel's and Apple's GPUs: how they are found, chosen and refused, by stand-ins; and parity where one is there."""

import importlib.util
import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mcnet import Engine, EngineError, EngineOptions, Mcnet, load_model, open_model
from mcnet.bench.tiers import ways
from mcnet.engine import DeviceChoice, Way, device, other_gpus, processor
from mcnet.engine.device import automatic_backend, explicit_device, gpu_lacks, kind_of
from tests.mcnet.engine.test_engine import Pictures, difference, plain_picture

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
NAMES = ("Intel(R) Iris(R) Xe Graphics (iGPU)", "Intel(R) Arc(TM) A770 (dGPU)")
Apple = Callable[..., None]


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Intel GPUs, the second of which multiplies bytes."""
    monkeypatch.setattr(device, "_intel_gpus", lambda: NAMES)
    monkeypatch.setattr(device, "_GPU_NODES", ("null",))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(device, "_why_no_openvino_package", lambda: None)
    here = processor.native_precisions
    told = {"gpu:0": frozenset({"fp32", "fp16"}), "gpu:1": frozenset({"fp32", "fp16", "int8"})}
    monkeypatch.setattr(processor, "native_precisions", lambda name: told.get(name) or here(name))


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Apple:
    """Has the machine be a Mac."""

    def be(*, built: bool = True, available: bool = True) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)

    return be


class TestIntel:
    @pytest.mark.usefixtures("intel")
    def test_they_have_names_and_numbers(self) -> None:
        assert other_gpus() == {"gpu:0": NAMES[0], "gpu:1": NAMES[1]}
        assert [explicit_device(name) for name in ("gpu", "gpu:0", "gpu:1")] == ["gpu:0", "gpu:0", "gpu:1"]

    @pytest.mark.usefixtures("intel")
    def test_one_that_is_not_there_is_refused_with_what_is(self) -> None:
        with pytest.raises(EngineError, match="got 'gpu:2', but there is no Intel GPU 2: OpenVINO finds 2; use"):
            explicit_device("gpu:2")

    @pytest.mark.parametrize(
        ("system", "nodes", "found", "package", "told"),
        [
            ("Linux", ("no-such-node",), (), True, "shows no GPU that a program may compute with"),
            ("Linux", ("null",), (), True, "OpenVINO finds no Intel GPU: there is none, or its driver"),
            ("Windows", ("no-such-node",), (), True, "OpenVINO finds no Intel GPU"),
            ("Darwin", ("null",), (), True, r"OpenVINO knows no GPU on macOS \(device mps is Apple's\)"),
            ("Linux", ("null",), NAMES, False, "the package openvino is not installed"),
        ],
    )
    def test_a_machine_without_one_refuses_it_and_says_why(
        self,
        system: str,
        nodes: tuple[str, ...],
        found: tuple[str, ...],
        package: bool,
        told: str,
        tiny: Mcnet,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(device, "_GPU_NODES", nodes)
        monkeypatch.setattr(device, "_intel_gpus", lambda: found)
        if not package:
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
        with pytest.raises(EngineError, match=f"device: got 'gpu', but .*{told}"):
            Engine(tiny, EngineOptions(device="gpu"))
        assert "gpu:0" not in other_gpus()

    @pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed")
    @pytest.mark.parametrize("broken", ["Core", "available_devices", "get_property", "import"])
    def test_an_openvino_that_is_broken_leaves_the_other_devices(
        self, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import mcnet.openvino_import

        class Core:
            def __init__(self) -> None:
                if broken == "Core":
                    raise RuntimeError("the plugins do not load")

            @property
            def available_devices(self) -> list[str]:
                if broken == "available_devices":
                    raise RuntimeError("the driver does not answer")
                return ["GPU"]

            def get_property(self, *_: str) -> str:
                raise RuntimeError("the driver does not answer")

        if broken == "import":
            monkeypatch.delattr(mcnet.openvino_import, "ov")
        else:
            monkeypatch.setattr(mcnet.openvino_import.ov, "Core", Core)
        monkeypatch.setattr(device, "_GPU_NODES", ("null",))
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        ask = device._intel_gpus.__wrapped__  # what it remembers of this machine stays
        monkeypatch.setattr(device, "_intel_gpus", lambda: ask())
        assert other_gpus() == {}
        assert "OpenVINO cannot be asked for its GPUs" in caplog.text
        assert "cpu" in {way.device for way in ways(open_model("starter"), EngineOptions())}
        with pytest.raises(EngineError, match="OpenVINO finds no Intel GPU"):
            explicit_device("gpu")

    @pytest.mark.usefixtures("intel")
    def test_what_is_tried_and_measured_against_the_processor(self) -> None:
        starter = open_model("starter")
        of_gpu = [Way("gpu:1", precision, "openvino") for precision in ("int8", "fp16", "fp32")]
        assert ways(starter, EngineOptions(device="gpu:1")) == of_gpu
        tried = [way.device for way in ways(starter, EngineOptions())]
        assert list(dict.fromkeys(tried))[-3:] == ["gpu:0", "gpu:1", "cpu"]
        assert {kind_of(way.device) for way in ways(starter, EngineOptions(backend="torch"))} <= {"cpu", "cuda"}

    @pytest.mark.usefixtures("intel")
    def test_nothing_takes_it_unmeasured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "why_no_cuda", lambda _: "there is none")
        assert DeviceChoice.of(EngineOptions()).device == "cpu"
        measured = DeviceChoice.of(EngineOptions(measured=Way("gpu:0", "fp16", "openvino")))
        assert (measured.device, measured.dtype, measured.on_gpu) == ("gpu:0", "fp16", True)
        assert measured.reason == f"gpu:0 ({NAMES[0]}), as measured, in fp16 (measured to be the fastest here)"
        asked = DeviceChoice.of(EngineOptions(device="gpu"))
        assert automatic_backend(asked, None) == ("openvino", "it is what computes on Intel GPUs")

    @pytest.mark.usefixtures("intel")
    def test_eight_bits_leave_the_rest_in_half_precision(self) -> None:
        choice = DeviceChoice.of(EngineOptions(device="gpu:1", precision="int8"), open_model("starter").info)
        assert (choice.int8, choice.dtype) == (True, "fp16")

    @pytest.mark.usefixtures("intel")
    def test_what_it_does_not_do_is_refused(self, tiny: Mcnet) -> None:
        for options, told in (
            (EngineOptions(device="gpu", precision="bf16"), "got bf16 on gpu:0, expected fp32, fp16 or int8 there"),
            (EngineOptions(device="gpu", backend="torch"), "got 'torch', but gpu:0 was chosen, where OpenVINO alone"),
            (EngineOptions(device="gpu", backend="cudagraph"), "gpu:0 was chosen, expected an NVIDIA GPU"),
        ):
            with pytest.raises(EngineError, match=told):
                Engine(tiny, options)

    @pytest.mark.usefixtures("intel")
    @pytest.mark.skipif(not HAS_OPENVINO, reason="the extra `openvino` is not installed")
    def test_the_graphs_go_to_that_gpu_in_that_precision_and_one_queue(
        self, tiny: Mcnet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mcnet.openvino_import import ov

        asked: list[tuple[Any, str, dict[str, Any]]] = []
        compile_model = ov.Core.compile_model

        def on_the_processor(core: Any, graph: Any, name: str, settings: dict[str, Any]) -> Any:
            asked.append((core, name, dict(settings)))
            return compile_model(core, graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        monkeypatch.setattr(ov.Core, "compile_model", on_the_processor)
        engine = Engine(tiny, EngineOptions(device="gpu:1", precision="fp16", backend="openvino", warm_up_frames=0))
        assert engine.backend_name == "openvino"
        its_own = next(core for core, name, _ in asked if name != "CPU")  # a thread of another test may compile, too
        compiled = [(name, settings) for core, name, settings in asked if core is its_own]
        assert {name for name, _ in compiled} == {"GPU.1"}
        assert all(settings["NUM_STREAMS"] == 1 for _, settings in compiled)
        assert not any("INFERENCE_NUM_THREADS" in settings for _, settings in compiled)
        hints = [settings["INFERENCE_PRECISION_HINT"] for _, settings in compiled]
        assert hints.count("f16") == 2  # dense motion's hourglass, and memory with decoder
        assert set(hints) == {"f16", "f32"}

    @pytest.mark.usefixtures("intel")
    @pytest.mark.skipif(not HAS_OPENVINO, reason="the extra `openvino` is not installed")
    def test_one_that_fails_is_no_reason_to_compute_elsewhere_unasked(
        self, tiny: Mcnet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mcnet.openvino_import import ov

        def broken(*_: Any) -> Any:
            raise RuntimeError("CL_OUT_OF_RESOURCES")

        monkeypatch.setattr(ov.Core, "compile_model", broken)
        engine = Engine(tiny, EngineOptions(device="gpu", precision="fp32"))
        with pytest.raises(EngineError, match=r"CL_OUT_OF_RESOURCES; nothing else computes on gpu:0: use device cpu"):
            engine.settle()


class TestApple:
    def test_it_is_refused_elsewhere(self, tiny: Mcnet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        with pytest.raises(EngineError, match="got 'mps', but mps is for Apple's GPUs, and this is Linux; use"):
            Engine(tiny, EngineOptions(device="mps"))

    def test_a_mac_that_cannot_says_why(self, apple: Apple) -> None:
        for be, told in (
            ({"built": False}, "is a build without Apple's Metal"),
            ({"available": False}, "finds no Apple GPU that it can use"),
        ):
            apple(**be)
            with pytest.raises(EngineError, match=f"got 'mps', but torch .* {told}"):
                explicit_device("mps")
            assert [told in lack for lack in gpu_lacks()] == [True]

    def test_it_is_measured_with_torch(self, apple: Apple) -> None:
        apple()
        assert other_gpus() == {"mps": "the Apple GPU"}
        assert gpu_lacks() == []
        expected = [Way("mps", precision, "torch") for precision in ("fp16", "fp32")]
        assert ways(open_model("starter"), EngineOptions(device="mps")) == expected
        choice = DeviceChoice.of(EngineOptions(device="mps"))
        assert (choice.device, choice.dtype, choice.kind) == ("mps", "fp32", "mps")
        assert automatic_backend(choice, None) == ("torch", "it is what computes on Apple GPUs")
        with pytest.raises(EngineError, match="got bf16 on mps, expected fp32 or fp16 there"):
            DeviceChoice.of(EngineOptions(device="mps", precision="bf16"))

    def test_an_operation_that_is_missing_there_is_told(
        self, apple: Apple, tiny: Mcnet, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        apple()
        with monkeypatch.context() as patch:
            patch.setattr("mcnet.engine.torch_backend.TorchBackend.__init__", lambda *_: None)
            engine = Engine(tiny, EngineOptions(device="mps", warm_up_frames=0))

        def missing(*_: Any) -> Any:
            raise NotImplementedError("The operator 'aten::odd' is not implemented for the MPS device. Set a variable")

        monkeypatch.setattr("mcnet.engine.torch_backend.TorchBackend.detect", missing)
        with pytest.raises(EngineError, match=r"\(The operator 'aten::odd' is not implemented for the MPS device\)"):
            engine.set_source(pictures["source"])


def test_a_name_that_nothing_knows() -> None:
    for name in ("gpu:", "gpu:x", "mps:1", "vulkan"):
        with pytest.raises(EngineError, match="expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps"):
            explicit_device(name)


@pytest.mark.skipif(not other_gpus(), reason="no GPU of Intel's or Apple's here")
@pytest.mark.parametrize(("precision", "largest"), [("fp32", 1), ("fp16", 4)])
def test_a_gpu_that_is_there_gives_the_plain_picture(pictures: Pictures, precision: Any, largest: int) -> None:
    model = load_model("starter")
    for name in other_gpus():
        engine = Engine(model, EngineOptions(device=name, precision=precision))
        engine.set_source(pictures["source"])
        got = engine.animate(pictures["driving"], relative=False)
        assert difference(got, plain_picture(model, pictures["source"], pictures["driving"])).max() <= largest
