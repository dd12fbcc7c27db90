"""`mcnet bench`: what it reports, not how fast anything is."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.__main__ import main
from mcnet.bench import measure as bench
from mcnet.bench.macs import FrameMacs
from mcnet.bench.measure import (
    BASELINE,
    Accuracy,
    Pictures,
    Rates,
    Spread,
    Variant,
    VariantTask,
    bytes_of,
    floor_of,
    noise_pictures,
    open_model,
    prepare,
    real_pictures,
    variants_for,
    why_emulated,
)
from mcnet.checkpoint import load_model
from mcnet.commands.bench import as_table, as_text
from mcnet.config import McnetConfig
from mcnet.engine import DeviceChoice, EngineOptions
from mcnet.errors import UserError
from mcnet.generator import Mcnet
from mcnet.model_file import CheckpointError
from tests.bare import code_without
from tests.tolerance import PROMISED

CPU = DeviceChoice.of(EngineOptions(device="cpu", precision="fp32"))
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


def test_the_command_ends_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["torch fp32"] + ["openvino fp32"] * HAS_OPENVINO
    arguments = ["--model", "tiny", "--device", "cpu", "--rounds", "1", "--frames", "1", "--variants", *chosen]
    assert main(["bench", *arguments]) == 0
    printed, progress = capsys.readouterr()
    assert "tiny (random weights) on" in printed
    assert "GMAC per frame" in printed
    result = json.loads(printed.splitlines()[-1])
    (model,) = result["models"]
    assert list(model["variants"]) == ["plain", *chosen]
    for row in model["variants"].values():
        assert 0 < row["median"] <= row["p95"]
        assert row["floor"]["operations_ms"] > 0
        assert row["error"] is None  # random weights on noise tell nothing
    assert set(model["variants"]["torch fp32"]["stages"]) == {"detect", "motion", "warp", "memory", "decode", "pack"}
    assert model["rates"]["gmac_per_s"]["fp32"] > 0
    assert f"torch {torch.__version__}" in model["machine"]
    names = ["plain", *chosen]
    lines = [f"mcnet bench: tiny, {number} of {len(names)}, {name}: ready" for number, name in enumerate(names, 1)]
    lines.append("mcnet bench: tiny, round 1 of 1, ")
    told = [line for line in progress.splitlines() if line.startswith("mcnet bench")]
    assert [line[: len(start)] for line, start in zip(told, lines, strict=True)] == lines


class FakeWorkers:
    """Workers in this process on a clock of their own: every variant takes some seconds for a frame.

    Attributes:
        made: names of the variants that were asked for.
        frames: how many each computed while it was timed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, frame_s: float) -> None:
        self.now_s = 0.0
        self.made: list[str] = []
        self.frames: dict[str, int] = {}
        self._frame_s = frame_s
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)
        monkeypatch.setattr(bench, "_worker", self._worker)
        monkeypatch.setattr(bench, "_ask", self._ask)
        monkeypatch.setattr(bench, "measure_rates", lambda _: Rates({"fp32": 100.0}, 10.0))

    @contextmanager
    def _worker(self, task: VariantTask) -> Iterator[tuple[str, None]]:
        self.made.append(task.variant.name)
        self.now_s += 3
        yield task.variant.name, None

    def _ask(self, name: str, question: Any) -> Any:
        if isinstance(question, Pictures):
            sources, driving = question.sources, question.driving
            return np.zeros((len(sources) * len(driving), *driving.shape[1:]), np.uint8)
        kind, count, limit_s = question
        made = min(count, max(1, -(-limit_s // self._frame_s)))
        self.now_s += made * self._frame_s
        self.frames[name] = self.frames.get(name, 0) + int(made)
        return [{} if kind == "stages" else 1e3 * self._frame_s] * int(made)


@pytest.mark.parametrize("frame_s", [0.05, 1.0, 4.0])
def test_it_ends_in_time_on_slow_processors(frame_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = FakeWorkers(monkeypatch, frame_s)
    report = bench.measure("tiny", "cpu", threads=None, rounds=5, frames=8, seconds=100)
    every = frame_s * len(workers.made)
    assert workers.now_s <= 100 or workers.now_s == 3 * len(workers.made) + 3 * every  # one round at least
    assert all(row.frames >= 1 for row in report.rows)
    if frame_s == 0.05:
        assert {row.frames for row in report.rows} == {40}


@pytest.mark.parametrize("native", [{"fp32"}, {"fp32", "int8"}, {"fp32", "bf16", "int8"}])
def test_what_is_only_emulated_is_left_out_and_named(native: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcnet.engine.processor.native_precisions", lambda _: frozenset(native))
    workers = FakeWorkers(monkeypatch, 0.1)
    told: list[str] = []
    arguments: dict[str, Any] = {"threads": None, "rounds": 1, "frames": 2, "seconds": 100, "progress": told.append}
    report = bench.measure("tiny", "cpu", **arguments)
    half = [name for name in ("torch bf16", "openvino bf16") if HAS_OPENVINO or name.startswith("torch")]
    assert list(report.left_out) == ([] if "bf16" in native else half)
    assert set(workers.made).isdisjoint(report.left_out)
    assert ("openvino int8" in workers.made) == HAS_OPENVINO
    printed = as_text(report)
    for name in report.left_out:
        assert f"{name}: not measured: bf16 without AVX-512 bf16 or AMX is only emulated here" in printed
        assert any(f"{name}: left out: bf16 without AVX-512 bf16 or AMX" in line for line in told)

    report = bench.measure("tiny", "cpu", only=["torch bf16"], **arguments)  # as asked
    assert [row.variant.name for row in report.rows] == ["plain", "torch bf16"]
    assert ("torch bf16: bf16 without AVX-512 bf16 or AMX is only emulated" in as_text(report)) == (
        "bf16" not in native
    )
    assert (as_table(report)["variants"]["torch bf16"]["emulated"] is None) == ("bf16" in native)


@pytest.mark.parametrize("native", [{"fp32"}, {"fp32", "int8"}, {"fp32", "bf16"}])
def test_rates_are_of_what_is_native(native: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcnet.engine.processor.native_precisions", lambda _: frozenset(native))
    multiplied: list[torch.dtype] = []
    monkeypatch.setattr(torch, "mm", lambda a, _: multiplied.append(a.dtype))
    monkeypatch.setattr(torch, "_int_mm", lambda a, _: multiplied.append(a.dtype))
    rates = bench.measure_rates(torch.device("cpu"))
    assert set(rates.gmac_per_s) == native
    assert {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int8: "int8"}.keys() >= set(multiplied)
    assert len(set(multiplied)) == len(native)


def test_a_slow_product_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now_s[0])

    def slow() -> None:
        now_s[0] += 30

    assert bench.best_s(slow, torch.device("cpu")) == 30
    assert now_s == [30]


def test_a_worker_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in the other process: at least one frame, and no further one once the time is over."""
    now_s = [0.0]

    def frame(shown: bench.Shown) -> Any:
        now_s[0] += 2
        return shown.rgb

    runner = bench.Runner(lambda *_: None, frame, lambda shown: {"all": frame(shown).size})
    monkeypatch.setattr(bench, "prepare", lambda _: runner)
    monkeypatch.setattr("time.perf_counter", lambda: now_s[0])
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    orders = [
        Pictures(pictures, pictures, "nothing", real=False),
        ("frames", 8, 5.0),
        ("frames", 8, 0.0),
        ("stages", 2, 100.0),
        None,
    ]

    answers: list[Any] = []
    pipe = SimpleNamespace(recv=lambda: orders.pop(0), send=answers.append)
    bench.work(cast("Connection", pipe), VariantTask("tiny", "cpu", None, BASELINE))
    assert answers[2:] == [[2000.0] * 3, [2000.0], [{"all": 48}] * 2]


def test_a_variant_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "tiny", "--device", "cpu", "--variants", "tensorrt"]) == 1
    assert "got 'tensorrt', expected some of plain, encoder each frame, plain" in capsys.readouterr().err


_BENCH = """
import mcnet.bench.measure
from mcnet.__main__ import main
main(["bench", "--help"])
"""


def test_the_command_runs_where_only_torch_and_numpy_are() -> None:
    """Such as on a GPU's machine, where nothing can be installed (CONTRIBUTING.md)."""
    program = code_without("cv2") + _BENCH
    called = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, encoding="utf-8")
    assert (called.returncode, called.stderr) == (0, "")
    assert "--variants" in called.stdout


def test_a_model_that_nobody_knows() -> None:
    with pytest.raises(CheckpointError, match="huge"):
        open_model("huge")


# But the baseline, which is what they are compared with.
NATIVE = [
    one for one in variants_for(CPU, has_openvino=HAS_OPENVINO) if one != BASELINE and not why_emulated(one, CPU.device)
]


@pytest.fixture(scope="module")
def faces() -> Pictures:
    return real_pictures(load_model("starter"), portraits=1, frames=3)


def shown_by(variant: Variant, faces: Pictures) -> NDArray[np.uint8]:
    runner = prepare(VariantTask("starter", "cpu", None, variant))
    runner.set_source(faces.source(0), faces.performer(0))
    shown = np.stack([runner.frame(faces.performer(index)) for index in range(3)])
    assert set(runner.stages(faces.performer(1))) == set() or variant.kind == "engine"
    return shown


@pytest.fixture(scope="module")
def plainly(faces: Pictures) -> NDArray[np.uint8]:
    """What the plain float32 model shows."""
    shown = shown_by(BASELINE, faces)
    assert np.abs(shown[0].astype(int) - shown[2]).mean() > 0.5  # the face moves, or it would prove nothing
    return shown


@pytest.mark.parametrize("variant", NATIVE, ids=lambda variant: str(variant.name))
def test_every_variant_gives_the_same_picture(variant: Variant, faces: Pictures, plainly: NDArray[np.uint8]) -> None:
    """The accuracy guard: every backend and precision against the plain float32 model on real faces."""
    accuracy = Accuracy.of(shown_by(variant, faces), plainly)
    promised = PROMISED[variant.precision]
    assert accuracy.largest <= promised.largest
    assert accuracy.mean <= promised.mean
    assert accuracy.psnr_db >= promised.psnr_db


def test_cuda_has_half_precision_too(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = DeviceChoice("cuda:0", "fp32", "")
    names = [variant.name for variant in variants_for(choice, has_openvino=True)]
    runs = [f"{runtime} {precision}" for runtime in ("torch", "cudagraph") for precision in ("fp32", "bf16", "fp16")]
    assert names == ["plain, encoder each frame", "plain", *runs]
    for capability, emulated in (((7, 5), {"torch bf16", "cudagraph bf16"}), ((8, 0), set())):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        variants = variants_for(choice, has_openvino=True)
        assert {variant.name for variant in variants if why_emulated(variant, choice.device)} == emulated


def test_accuracy() -> None:
    expected = np.full((2, 4, 4, 3), 100, np.uint8)
    assert Accuracy.of(expected, expected) == (0, 0.0, float("inf"))
    shown = expected.copy()
    shown[1, 0, 0, 0] = 97
    accuracy = Accuracy.of(shown, expected)
    assert accuracy.largest == 3
    assert accuracy.mean == pytest.approx(3 / 96)
    assert accuracy.psnr_db == pytest.approx(10 * np.log10(255**2 * 48 / 9))  # of the worse picture, not of both


def test_spread() -> None:
    assert Spread.of([5.0]) == (5.0, 5.0)
    assert Spread.of(list(range(100, 0, -1))) == (50.5, 95)
    assert Spread.of(list(range(1, 21))) == (10.5, 19)
    assert Spread.of(list(range(1, 22))) == (11, 20)


def operations_ms(macs: FrameMacs, rates: Rates, precision: str, runtime: str = "openvino") -> float:
    floor = floor_of(macs, 1e9, rates, precision, runtime)
    assert floor is not None
    return floor.operations_ms


def test_floor_counts_each_part_at_its_own_rate() -> None:
    rates = Rates({"fp32": 100.0, "bf16": 200.0}, 10.0)
    macs = FrameMacs(detector=1.0, motion=2.0, memory=3.0, decoder=4.0)
    assert floor_of(macs, 1e9, rates, "fp32", "torch") == pytest.approx((100.0, 100.0))
    assert operations_ms(macs, rates, "bf16", "torch") == pytest.approx((1 + 2) * 10 + (3 + 4) * 5)
    assert operations_ms(macs, rates, "bf16") == pytest.approx(1 * 10 + (2 + 3 + 4) * 5)
    eight = Rates({**rates.gmac_per_s, "int8": 400.0}, 10.0)
    assert operations_ms(macs, eight, "int8") == pytest.approx(1 * 10 + (2 + 3) * 5 + 4 * 2.5)
    without = Rates({"fp32": 100.0, "int8": 400.0}, 10.0)  # AVX-VNNI alone: what is not in 8 bits is in float32
    assert operations_ms(macs, without, "int8") == pytest.approx((1 + 2 + 3) * 10 + 4 * 2.5)
    slow_bytes = floor_of(macs, 5e9, rates, "fp32", "torch")
    assert slow_bytes is not None
    assert slow_bytes.total_ms == pytest.approx(500)
    assert floor_of(macs, 1e9, rates, "int8", "openvino") is None  # no rate, no floor
    assert Rates({"fp32": 1.0}, 5.0).best_of(Rates({"fp32": 2.0}, 3.0)) == ({"fp32": 2.0}, 5.0)


def test_bytes_are_weights_and_source(tiny: Mcnet) -> None:
    encoder = sum(weight.numel() for part in ("first", "down_blocks", "laterals") for weight in _weights(tiny, part))
    weights = sum(weight.numel() for weight in tiny.parameters()) - encoder
    source = 24 * 32**2 + 16 * 64**2 + 12 * 128**2 + (8 + 3) * 256**2
    assert bytes_of(tiny, "fp32") == 4 * (weights + source)
    assert bytes_of(tiny, "bf16") < bytes_of(tiny, "fp32")


def _weights(model: Mcnet, part: str) -> Any:
    return getattr(model.generator, part).parameters()


def test_pictures_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for module in ("crop", "bundled"):
        monkeypatch.delitem(sys.modules, f"mcnet.media.{module}", raising=False)
    with pytest.raises((ImportError, UserError)):
        real_pictures(Mcnet(McnetConfig.named("tiny")))
    noise = noise_pictures(Mcnet(McnetConfig.named("tiny")))
    assert noise.sources.shape[1:] == noise.driving.shape[1:] == (256, 256, 3)
    assert not noise.real


def test_random_weights_stand_in_for_those_that_are_not_bundled() -> None:
    model, trained = open_model("tiny")
    assert not trained
    assert model.config == McnetConfig.named("tiny")
    assert open_model("starter")[1]
    with pytest.raises(CheckpointError, match="no model '~nobody-of-that-name'"):
        open_model("~nobody-of-that-name")
