import copy
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline import tiers
from app.pipeline.animator import LOOK_AGAIN_S
from app.pipeline.engine import LiveEngine
from app.pipeline.tiers import Hardware, Tier, candidates, load_tier, measure_tier, save_tier, this_hardware
from mcnet.checkpoint import load_model
from mcnet.engine import DeviceChoice, Engine, EngineError, EngineOptions
from mcnet.generator import Mcnet

CPU = Hardware("Fast CPU, 8 cores")
GPU = Hardware("Fast CPU, 8 cores", ("Big GPU",))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class FakeEngine:
    """Takes its time on a fake clock."""

    def __init__(self, clock: Clock, step_s: float) -> None:
        self._clock, self._step_s = clock, step_s
        self.frames = 0

    def set_source(self, source: NDArray[np.uint8]) -> None:
        assert source.ndim == 3

    def detect(self, picture: NDArray[np.uint8]) -> str:
        assert picture.shape == (256, 256, 3)
        return "keypoints"

    def render(self, driving: str) -> None:
        assert driving == "keypoints"
        self.frames += 1
        self._clock.now_s += self._step_s


Maker = Callable[[EngineOptions], LiveEngine]


@pytest.fixture(scope="module")
def starter() -> Mcnet:
    return load_model("starter")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[tuple[str, str, str], float | Exception]], Maker]:
    """Engines by device, precision and backend: seconds of a frame, or what making one raises."""
    clock = Clock()
    monkeypatch.setattr(tiers, "perf_counter", clock)
    monkeypatch.setattr(DeviceChoice, "of", lambda *_: DeviceChoice(torch.device("cpu"), torch.bfloat16, "so"))

    def build(steps: dict[tuple[str, str, str], float | Exception]) -> Maker:
        def make(options: EngineOptions) -> Any:
            step = steps.get((options.device, options.precision, options.backend), EngineError("it is not there"))
            if isinstance(step, Exception):
                raise step
            return FakeEngine(clock, step)

        return make

    return build


def test_the_fastest_is_chosen_and_said(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    make = machine({("cpu", "bf16", "openvino"): 0.025, ("cpu", "bf16", "torch"): 0.05, ("cpu", "fp32", "torch"): 0.1})
    tier = measure_tier(starter, hardware=CPU, make_engine=make)
    assert tier == Tier("cpu", "bf16", "openvino", 40.0, "about 40 frames/s on this CPU")
    assert tier.options == EngineOptions(device="cpu", precision="bf16", backend="openvino")


def test_int8_is_tried_where_it_can_be_had_and_taken_where_it_is_worth_it(
    starter: Mcnet, machine: Callable[..., Maker], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = machine({("cpu", "int8", "openvino"): 0.018, ("cpu", "bf16", "openvino"): 0.02})
    assert measure_tier(starter, hardware=CPU, make_engine=make).precision == "bf16"
    eight = DeviceChoice(torch.device("cpu"), torch.bfloat16, "so", int8=True)
    monkeypatch.setattr(DeviceChoice, "of", lambda *_: eight)
    assert measure_tier(starter, hardware=CPU, make_engine=make).precision == "int8"
    make = machine({("cpu", "int8", "openvino"): 0.0195, ("cpu", "bf16", "openvino"): 0.02})
    monkeypatch.setattr(DeviceChoice, "of", lambda *_: eight)
    assert measure_tier(starter, hardware=CPU, make_engine=make).precision == "bf16"


def test_a_tier_from_before_the_ranges_were_known_is_measured_again(starter: Mcnet, tmp_path: Path) -> None:
    path = tmp_path / "tiers.json"
    tier = Tier("cpu", "bf16", "openvino", 40.0, "about 40 frames/s on this CPU")
    before = copy.copy(starter)
    before.info = dataclasses.replace(starter.info, ranges={})
    save_tier(tier, before, path, CPU)
    assert load_tier(before, path, CPU) == tier
    assert load_tier(starter, path, CPU) is None


def test_a_more_exact_one_that_is_nearly_as_fast_is_preferred(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    make = machine({("cpu", "bf16", "torch"): 0.1, ("cpu", "fp32", "torch"): 0.104})
    assert measure_tier(starter, hardware=CPU, make_engine=make).precision == "fp32"


def test_a_gpu_is_named(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    make = machine({("cuda:0", "fp16", "torch"): 0.01, ("cpu", "fp32", "torch"): 0.1})
    tier = measure_tier(starter, hardware=GPU, make_engine=make)
    assert (tier.device, tier.precision, tier.sentence) == ("cuda:0", "fp16", "about 100 frames/s on Big GPU")


def test_a_gpu_that_fails_is_named_with_the_reason(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    failure = RuntimeError("CUDA error: out of memory")
    make = machine({("cuda:0", "fp16", "torch"): failure, ("cpu", "fp32", "torch"): 0.2})
    tier = measure_tier(starter, hardware=GPU, make_engine=make)
    assert tier.sentence == (
        "about 5.0 frames/s on this CPU; Big GPU is not used: cuda:0 in fp16 with torch: CUDA error: out of memory"
    )


def test_a_gpu_that_is_slower_is_named(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    steps = {("cuda:0", precision, "torch"): 0.5 for precision in ("fp16", "bf16", "fp32")}
    tier = measure_tier(starter, hardware=GPU, make_engine=machine({**steps, ("cpu", "fp32", "torch"): 0.2}))
    assert tier.sentence.endswith("Big GPU is not used: the CPU was measured to be faster")


def test_a_gpu_that_torch_cannot_use_is_named(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    hardware = Hardware("CPU", (), ("RTX 3060 is there, but is not used: torch is a build without CUDA",))
    tier = measure_tier(starter, hardware=hardware, make_engine=machine({("cpu", "fp32", "torch"): 0.05}))
    assert tier.sentence == (
        "about 20 frames/s on this CPU; RTX 3060 is there, but is not used: torch is a build without CUDA"
    )


def test_looks_for_the_face_count_too() -> None:
    assert tiers._live_fps_hz(0.2, 0.05) == pytest.approx(4)
    every = round(LOOK_AGAIN_S / 0.02)  # a look in every so many frames
    assert tiers._live_fps_hz(0.02, 0.007) == pytest.approx(1 / (0.02 + 0.007 / every), rel=0.02)


def test_nothing_runs(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    with pytest.raises(AppError, match="nothing here runs the model: cpu in bf16 with openvino: it is not there"):
        measure_tier(starter, hardware=CPU, make_engine=machine({}))


def test_time_is_shared_and_the_hopeless_end_early(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    made: list[Any] = []
    make = machine({("cpu", "bf16", "openvino"): 0.01, ("cpu", "fp32", "openvino"): 0.5})

    def keep(options: EngineOptions) -> LiveEngine:
        made.append(make(options))
        engine: LiveEngine = made[-1]
        return engine

    measure_tier(starter, seconds=1.0, hardware=CPU, make_engine=keep)
    assert 25 <= made[0].frames <= 28
    assert made[1].frames == 4


def test_progress_ends_at_one(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    told: list[tuple[float, str]] = []
    make = machine({("cpu", "fp32", "torch"): 0.1})
    measure_tier(starter, hardware=CPU, make_engine=make, progress=lambda share, text: told.append((share, text)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert (told[0][0], told[-1][0]) == (0.0, 1.0)
    assert ("trying cpu in fp32 with torch") in [text for _, text in told]


def test_a_slow_model_is_not_tried_on_everything(starter: Mcnet, machine: Callable[..., Maker]) -> None:
    make = machine({("cpu", "bf16", "openvino"): 5.0})
    assert measure_tier(starter, hardware=CPU, make_engine=make).fps_hz == 0.2


def test_the_real_thing(starter: Mcnet) -> None:
    hardware = this_hardware()
    only = candidates(hardware, starter)[-1]

    def make(options: EngineOptions) -> LiveEngine:
        if options != only:
            raise EngineError("not in this test")
        engine: LiveEngine = Engine(starter, options)
        return engine

    tier = measure_tier(starter, seconds=0.1, hardware=hardware, make_engine=make)
    assert (tier.device, tier.precision, tier.backend) == ("cpu", "fp32", "torch")
    assert tier.fps_hz > 0
    assert "frames/s on this CPU" in tier.sentence


class TestHardware:
    def test_this_machine(self) -> None:
        assert "cores" in this_hardware().cpu

    def test_a_gpu_without_a_driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.version, "cuda", None)
        for slot, (kind, vendor) in enumerate((("0x030000", "0x10de"), ("0x020000", "0x10de"), ("0x030000", "0x8086"))):
            device = tmp_path / f"sys/bus/pci/devices/0000:0{slot}:00.0"
            device.mkdir(parents=True)
            (device / "class").write_text(kind + "\n")
            (device / "vendor").write_text(vendor + "\n")
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text("processor: 0\nmodel name\t: Good CPU @ 3 GHz\n")
        hardware = this_hardware(tmp_path)
        assert hardware.cpu.startswith("Good CPU @ 3 GHz, ")
        assert hardware.gpus == ()
        assert hardware.unused == (
            f"an NVIDIA GPU is there, but is not used: torch {torch.__version__} is a build without CUDA",
        )

    def test_a_gpu_with_a_driver_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.version, "cuda", None)
        gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text("Model: \t\t NVIDIA GeForce GTX 970\nIRQ:   \t\t 10\n")
        assert this_hardware(tmp_path).unused[0].startswith("NVIDIA GeForce GTX 970 is there, but is not used: torch")


class TestMemory:
    TIER = Tier("cpu", "bf16", "openvino", 16.0, "about 16 frames/s on this CPU")

    def test_it_remembers_by_hardware_and_model(self, starter: Mcnet, tmp_path: Path) -> None:
        path = tmp_path / "cache" / "tiers.json"
        assert load_tier(starter, path, CPU) is None
        save_tier(self.TIER, starter, path, CPU)
        assert load_tier(starter, path, CPU) == self.TIER
        assert load_tier(starter, path, GPU) is None
        assert load_tier(Mcnet(starter.config), path, CPU) is None

    def test_it_forgets_with_another_torch(
        self, starter: Mcnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_tier(self.TIER, starter, tmp_path / "tiers.json", CPU)
        monkeypatch.setattr(torch, "__version__", "9.0")
        assert load_tier(starter, tmp_path / "tiers.json", CPU) is None

    def test_it_keeps_the_newest(self, starter: Mcnet, tmp_path: Path) -> None:
        path = tmp_path / "tiers.json"
        for number in range(22):
            save_tier(self.TIER, starter, path, Hardware(f"CPU {number}"))
        known = [load_tier(starter, path, Hardware(f"CPU {number}")) is not None for number in range(22)]
        assert known == [False] * 2 + [True] * 20

    @pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"KEY": 3}', '{"KEY": {"device": "cpu"}}'])
    def test_a_damaged_file_is_measured_anew(
        self, starter: Mcnet, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "tiers.json"
        path.write_text(content.replace("KEY", tiers._key(starter, CPU)))
        with caplog.at_level(logging.CRITICAL):
            assert load_tier(starter, path, CPU) is None
            save_tier(self.TIER, starter, path, CPU)
        assert load_tier(starter, path, CPU) == self.TIER

    def test_a_place_that_cannot_be_written_is_told(
        self, starter: Mcnet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        save_tier(self.TIER, starter, tmp_path / "file" / "tiers.json", CPU)
        assert "cannot be kept" in caplog.text
