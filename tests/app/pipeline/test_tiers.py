"""What the app makes of what was measured, and the GPUs that it cannot use."""

import functools
from pathlib import Path
from typing import Any

import pytest

from app.pipeline import tiers
from app.pipeline.events import Measured, UnusedGpu
from app.pipeline.tiers import as_measured, make_engine, measure_again, unused_gpus
from mcnet.bench.tiers import NothingRunsError, Tier, Timing, remember, remembered
from mcnet.engine import EngineOptions, Way
from mcnet.model_file import ModelFile

TORCH = Way("cpu", "fp32", "torch")
TIER = Tier(Timing(TORCH, 48.1), (Timing(Way("cpu", "bf16", "torch"), 60.0),))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that remembers, a test's own."""
    path = tmp_path / "tiers.json"
    monkeypatch.setattr(tiers, "measured_file", lambda: path)
    return path


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[EngineOptions]:
    """What was measured so far; each answers `TIER`."""
    done: list[EngineOptions] = []

    def measure(_: ModelFile, options: EngineOptions, **more: Any) -> Tier:
        done.append(options)
        more.get("progress", lambda *_: None)(0.0, TORCH)
        return TIER

    monkeypatch.setattr("mcnet.bench.tiers.measure", measure)
    monkeypatch.setattr("mcnet.bench.tiers.ways", lambda *_: [TORCH, Way("cpu", "bf16", "torch")])
    monkeypatch.setattr(tiers, "measure", measure)
    return done


def test_the_first_start_measures_and_the_next_one_remembers(measured: Path, measurements: list[EngineOptions]) -> None:
    for start in range(2):
        told: list[str | Measured] = []
        measuring = functools.partial(told.append, "measuring")
        engine = make_engine("starter", "auto", "auto", on_measuring=measuring, on_measured=told.append)
        assert told == ["measuring"] * (start == 0) + [as_measured(TIER)]
        assert (engine.backend_name, engine.backend_reason) == ("torch", "as measured")
        assert "fp32 (measured to be the fastest here)" in engine.choice.reason
    assert measurements == [EngineOptions()]
    assert measured.is_file()


def test_what_is_asked_for_is_not_measured(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcnet.bench.tiers.why_no_openvino_first", lambda *_, **__: "a test says so")
    told: list[Measured] = []
    engine = make_engine("starter", "cpu", "fp32", on_measured=told.append)
    assert "as asked" in engine.choice.reason
    assert told == []
    assert not measured.exists()


def test_measuring_that_fails_leaves_what_is_known(
    measured: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise NothingRunsError("starter", ())

    monkeypatch.setattr("mcnet.bench.tiers.measure", fails)
    assert "measured" not in make_engine("starter", "auto", "auto").choice.reason
    assert "nothing here runs model starter" in caplog.text
    assert not measured.exists()


def test_it_can_be_measured_again(measured: Path, measurements: list[EngineOptions], starter: ModelFile) -> None:
    worse = Tier(Timing(Way("cpu", "bf16", "torch"), 60.0))
    remember(worse, starter, EngineOptions(), measured)
    told: list[tuple[float, Way | None]] = []
    answer = measure_again("starter", "auto", "auto", lambda share, way: told.append((share, way)))
    assert answer == as_measured(TIER)
    assert told == [(0.0, TORCH)]
    assert remembered(starter, EngineOptions(), measured) == TIER
    assert len(measurements) == 1


def test_it_is_measured_again_with_what_is_asked_for(
    measured: Path, measurements: list[EngineOptions], starter: ModelFile
) -> None:
    asked = EngineOptions(device="cpu", precision="fp32")
    measure_again("starter", "cpu", "fp32", lambda *_: None)
    assert measurements == [asked]
    assert remembered(starter, asked, measured) == TIER


@pytest.fixture(scope="module")
def starter() -> ModelFile:
    from mcnet.engine import open_model

    return open_model("starter")


def test_gpus_that_are_not_used_go_with_a_measured_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = UnusedGpu("an AMD GPU", "so")
    monkeypatch.setattr(tiers, "unused_gpus", lambda _: (gpu,))
    assert as_measured(TIER) == Measured(TIER, (gpu,))
    on_gpu = Tier(Timing(Way("cuda:0", "fp16", "cudagraph"), 1.67), (Timing(TORCH, 48.123),))
    assert as_measured(on_gpu) == Measured(on_gpu)


class TestGpus:
    @pytest.fixture(autouse=True)
    def _without_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiers, "usable_gpus", dict)
        monkeypatch.setattr(tiers, "gpu_lacks", lambda: ["there is no driver"])

    def test_without_a_driver(self, tmp_path: Path) -> None:
        for slot, (kind, vendor) in enumerate((("0x030000", "0x10de"), ("0x020000", "0x10de"), ("0x030000", "0x8086"))):
            device = tmp_path / f"sys/bus/pci/devices/0000:0{slot}:00.0"
            device.mkdir(parents=True)
            (device / "class").write_text(kind + "\n", encoding="utf-8")
            (device / "vendor").write_text(vendor + "\n", encoding="utf-8")
        assert unused_gpus(tmp_path) == (UnusedGpu("an NVIDIA GPU", "there is no driver"),)

    def test_one_that_the_engine_does_not_know(self, tmp_path: Path) -> None:
        device = tmp_path / "sys/bus/pci/devices/0000:00:00.0"
        device.mkdir(parents=True)
        (device / "class").write_text("0x030000\n", encoding="utf-8")
        (device / "vendor").write_text("0x1002\n", encoding="utf-8")
        (gpu,) = unused_gpus(tmp_path)
        assert str(gpu) == "an AMD GPU is there, but is not used: the engine knows those of NVIDIA, Intel and Apple"
        assert not gpu.usable

    def test_with_a_driver_by_its_name(self, tmp_path: Path) -> None:
        gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text("Model: \t\t NVIDIA GeForce GTX 970\nIRQ:   \t\t 10\n", encoding="utf-8")
        assert [gpu.name for gpu in unused_gpus(tmp_path)] == ["NVIDIA GeForce GTX 970"]

    def test_one_of_two(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiers, "usable_gpus", lambda: {"cuda:0": "GPU"})
        monkeypatch.setattr(tiers, "gpu_lacks", lambda: ["it is too old"])
        assert unused_gpus(tmp_path) == (UnusedGpu("a further GPU", "it is too old"),)
