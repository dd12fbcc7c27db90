"""What is tried, what is chosen, and what is remembered of it."""

import dataclasses
import importlib.util
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcnet import Engine, EngineError, EngineOptions, Mcnet
from mcnet.arrays import Rgb
from mcnet.bench import tiers
from mcnet.bench.tiers import Failure, NothingRunsError, Tier, Timing, fastest, measure, remember, remembered, ways
from mcnet.config import McnetConfig
from mcnet.engine import Way, open_model
from mcnet.model_file import ModelFile

AUTO = EngineOptions()
INT8, BF16, FP32 = (Way("cpu", precision, "openvino") for precision in ("int8", "bf16", "fp32"))
TORCH = Way("cpu", "fp32", "torch")
GPU16, GPU_BF16, GPU32 = (Way("cuda:0", precision, "cudagraph") for precision in ("fp16", "bf16", "fp32"))
Machine = Callable[..., None]
Engines = Callable[[EngineOptions], Any]


@pytest.fixture(scope="module")
def starter() -> ModelFile:
    return open_model("starter")


@pytest.fixture
def tiny(tiny: Mcnet) -> ModelFile:
    return ModelFile.of(tiny)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Has the machine be another one."""

    def be(
        *native: str,
        openvino: bool = True,
        gpus: Sequence[str] = (),
        kind: str = "x86_64",
        gpu_native: Sequence[str] = ("fp16", "bf16"),
    ) -> None:
        def natively(device: str) -> frozenset[str]:
            return frozenset({"fp32", *(native if device == "cpu" else gpu_native)})

        monkeypatch.setattr("mcnet.engine.processor.native_precisions", natively)
        lacking = set() if openvino else {"openvino"}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else object())
        monkeypatch.setattr("platform.machine", lambda: kind)
        lacks = dict.fromkeys(range(len(gpus)))
        monkeypatch.setattr("mcnet.engine.device.why_no_cuda", lambda index: lacks.get(index or 0, "there is none"))
        named = {f"cuda:{index}": name for index, name in enumerate(gpus)}
        monkeypatch.setattr("mcnet.bench.tiers.gpus", lambda: named)
        monkeypatch.setattr("mcnet.engine.device._gpu_name", named.__getitem__)

    return be


class TestWhatIsTried:
    def test_eight_bits_on_any_x86_cpu(self, starter: ModelFile, machine: Machine) -> None:
        machine()  # AVX2 alone
        assert ways(starter, AUTO) == [INT8, FP32]
        machine("int8")  # AVX-VNNI
        assert ways(starter, AUTO) == [INT8, FP32]
        machine("int8", "bf16")
        assert ways(starter, AUTO) == [INT8, BF16]

    def test_not_without_ranges(self, tiny: ModelFile, machine: Machine) -> None:
        machine("int8")
        assert ways(tiny, AUTO) == [FP32]

    def test_openvino_only_where_it_is_and_is_known_to_work(self, starter: ModelFile, machine: Machine) -> None:
        machine(openvino=False)
        assert ways(starter, AUTO) == [TORCH]
        machine(kind="aarch64")
        assert ways(starter, AUTO) == [TORCH]

    def test_recorded_frames_on_gpus(self, starter: ModelFile, machine: Machine) -> None:
        machine(gpus=["Big GPU"])
        assert ways(starter, AUTO) == [GPU16, GPU_BF16, GPU32, INT8, FP32]
        machine(gpus=["Old GPU"], gpu_native=["fp16"])
        assert ways(starter, EngineOptions(device="cuda:0")) == [GPU16, GPU32]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (EngineOptions(device="cpu"), [INT8, FP32]),
            (EngineOptions(device="cpu", precision="fp32"), [FP32]),
            (EngineOptions(device="cpu", backend="torch"), [TORCH]),
            (EngineOptions(precision="int8"), [INT8]),
            (EngineOptions(precision="fp16"), [GPU16]),
            (EngineOptions(backend="openvino"), [INT8, FP32]),
            (EngineOptions(backend="cudagraph"), [GPU16, GPU_BF16, GPU32]),
            (EngineOptions(device="cuda:0", backend="torch", precision="bf16"), [Way("cuda:0", "bf16", "torch")]),
        ],
    )
    def test_only_what_the_options_leave_open(
        self, starter: ModelFile, machine: Machine, options: EngineOptions, expected: list[Way]
    ) -> None:
        machine(gpus=["Big GPU"])
        if options.precision == "int8":
            options = dataclasses.replace(options, device="cpu")
        assert ways(starter, options) == expected

    def test_what_cannot_be_had_is_an_error(self, starter: ModelFile, tiny: ModelFile, machine: Machine) -> None:
        machine()
        for model, options, message in (
            (starter, EngineOptions(precision="fp16"), "got fp16 on the CPU"),
            (tiny, EngineOptions(precision="int8"), "does not tell the ranges"),
            (starter, EngineOptions(device="cuda:7"), "got 'cuda:7', but"),
        ):
            with pytest.raises(EngineError, match=message):
                ways(model, options)


class FakeEngine:
    """Takes its time on a fake clock.

    Attributes:
        frames: animated so far.
    """

    backend_reason = "a test says so"

    def __init__(self, clock: "Clock", way: Way, frame_s: Sequence[float]) -> None:
        self.backend_name: str = way.backend
        self.frames = 0
        self._clock, self._frame_s = clock, frame_s

    def settle(self) -> str:
        return self.backend_name

    stand_in_places = None

    def set_source(self, source: Rgb, places: object) -> None:
        assert places is None
        assert source.shape == (256, 256, 3)

    def calibrate(self, driving: Rgb, places: object) -> None:
        assert places is None
        assert driving.dtype == np.uint8

    def animate_batch(self, driving: Sequence[Rgb], places: object, *, adapt_scale: bool) -> Rgb:
        assert places is None
        assert not adapt_scale
        seconds = self._frame_s[min(self.frames, len(self._frame_s) - 1)]
        self.frames += 1
        self._clock.now_s += seconds * len(driving)
        return np.stack(driving)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0


class World:
    """Engines by way: seconds of a frame, or of each frame, or what making one raises.

    Attributes:
        made: every engine, by way.
        asked: the options that each was made with.
        make_s: seconds that making one takes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.made: dict[Way, FakeEngine] = {}
        self.asked: list[EngineOptions] = []
        self.make_s = 0.0
        self._frames: dict[Way, float | Sequence[float] | Exception] = {}
        monkeypatch.setattr(tiers, "perf_counter", lambda: self.clock.now_s)

    def runs(self, frames: dict[Way, float | Sequence[float] | Exception]) -> Engines:
        self._frames = frames
        return self.make

    def make(self, options: EngineOptions) -> FakeEngine:
        self.asked.append(options)
        self.clock.now_s += self.make_s
        way = options.measured
        assert way is not None
        seconds = self._frames.get(way, EngineError("it is not there"))
        if isinstance(seconds, Exception):
            raise seconds
        # The first frame of a source is slow, and is not to be counted.
        frame_s = [10.0, *(seconds if isinstance(seconds, Sequence) else [seconds])]
        self.made[way] = FakeEngine(self.clock, way, frame_s)
        return self.made[way]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> World:
    machine()
    return World(monkeypatch)


class TestTheDecision:
    def test_eight_bits_without_instructions_for_them(self, starter: ModelFile, world: World) -> None:
        """What two AVX2 cores took, where flags took float32."""
        tier = measure(starter, AUTO, make_engine=world.runs({INT8: 0.0332, FP32: 0.0372}))
        assert tier == Tier(Timing(INT8, 33.2), (Timing(FP32, 37.2),))
        assert tier.sentence == (
            "a frame of the model takes 33.2 ms on cpu in int8 with openvino (37.2 ms on cpu in fp32 with openvino)"
        )
        assert tier.over(AUTO) == EngineOptions(measured=INT8)

    def test_each_way_is_asked_for_in_the_background(self, starter: ModelFile, world: World) -> None:
        options = EngineOptions(device="cpu", threads=2)
        measure(starter, options, make_engine=world.runs({INT8: 0.03, FP32: 0.04}))
        assert world.asked == [
            EngineOptions(device="cpu", threads=2, measured=way, warm_up_frames=0) for way in (INT8, FP32)
        ]

    @pytest.mark.parametrize(("eight_s", "best"), [(0.0300, INT8), (0.0352, INT8), (0.0360, FP32), (0.0380, FP32)])
    def test_the_more_exact_of_near_equals(self, eight_s: float, best: Way, starter: ModelFile, world: World) -> None:
        tier = measure(starter, AUTO, make_engine=world.runs({INT8: eight_s, FP32: 0.0372}))
        assert tier.best.way == best

    def test_a_slow_phase_meets_all_ways_alike(self, starter: ModelFile, world: World) -> None:
        rng = np.random.default_rng(0)
        for _ in range(20):
            phases = np.repeat(rng.uniform(1, 1.5, 10), 3)
            frames = {INT8: 0.033 * phases, FP32: 0.034 * phases}
            tier = measure(starter, AUTO, make_engine=world.runs({way: list(s) for way, s in frames.items()}))
            assert tier.best.way == (FP32 if tier.calm else INT8)
            assert tier.others[0].frame_ms == pytest.approx(tier.best.frame_ms, rel=0.04)

    def test_noise_leaves_what_is_thought_to_be_the_best(self, starter: ModelFile, world: World) -> None:
        rng = np.random.default_rng(0)
        for _ in range(20):
            noise = rng.uniform(1, 3, (2, 300))
            frames = {INT8: 0.033 * noise[0], FP32: 0.037 * noise[1]}
            tier = measure(starter, AUTO, make_engine=world.runs({way: list(s) for way, s in frames.items()}))
            assert (tier.best.way, tier.calm) == (INT8, False)
        frames = {INT8: 0.133 * noise[0], FP32: 0.037 * noise[1]}
        tier = measure(starter, AUTO, make_engine=world.runs({way: list(s) for way, s in frames.items()}))
        assert tier.best.way == FP32  # it cannot be as bad as that

    def test_of_equals_in_all_the_one_that_was_thought_better(
        self, starter: ModelFile, world: World, machine: Machine
    ) -> None:
        machine(gpus=["Small GPU"])
        tier = measure(starter, AUTO, make_engine=world.runs({GPU32: 0.041, FP32: 0.04}))
        assert tier.best.way == GPU32

    def test_fp16_is_more_exact_than_bf16(self, starter: ModelFile, world: World, machine: Machine) -> None:
        machine(gpus=["Big GPU"])
        frames = {GPU16: 0.00167, GPU_BF16: 0.00163, GPU32: 0.003, INT8: 0.02, FP32: 0.03}
        tier = measure(starter, AUTO, make_engine=world.runs(dict(frames)))
        assert tier.best.way == GPU16
        assert world.made[FP32].frames == 2  # hopeless at once

    def test_a_cpu_that_is_faster_than_the_gpu(self, starter: ModelFile, world: World, machine: Machine) -> None:
        machine(gpus=["Small GPU"])
        frames = {GPU16: 0.09, GPU_BF16: 0.09, GPU32: 0.08, INT8: 0.03, FP32: 0.04}
        tier = measure(starter, AUTO, make_engine=world.runs(dict(frames)))
        assert tier.best.way == INT8
        assert [timing.way for timing in tier.others] == [FP32, GPU32, GPU16, GPU_BF16]

    def test_batches_are_told_by_the_frame(self, starter: ModelFile, world: World) -> None:
        tier = measure(starter, AUTO, batch=4, make_engine=world.runs({INT8: 0.02, FP32: 0.03}))
        assert tier.best.frame_ms == 20

    def test_what_fails_is_noted_and_the_rest_goes_on(self, starter: ModelFile, world: World, machine: Machine) -> None:
        machine(gpus=["Big GPU"])
        no_memory = torch.OutOfMemoryError("CUDA out of memory")
        frames: dict[Way, Any] = {GPU16: no_memory, GPU32: 0.002, INT8: 0.02}
        tier = measure(starter, AUTO, make_engine=world.runs(dict(frames)))
        assert tier.best.way == GPU32
        assert tier.failures[:2] == (
            Failure(GPU16, "OutOfMemoryError: CUDA out of memory"),
            Failure(GPU_BF16, "it is not there"),
        )

    def test_what_falls_back_is_not_measured_as_what_it_is_not(self, starter: ModelFile, world: World) -> None:
        make = world.runs({INT8: 0.02, FP32: 0.03})

        def fallen(options: EngineOptions) -> FakeEngine:
            engine: FakeEngine = make(options)
            if options.measured == INT8:
                engine.backend_name, engine.backend_reason = "torch", "openvino cannot be used: no libtbb"
            return engine

        tier = measure(starter, AUTO, make_engine=fallen)
        assert tier.best.way == FP32
        assert tier.failures == (Failure(INT8, "openvino cannot be used: no libtbb"),)

    def test_what_fails_in_the_middle_is_out(self, starter: ModelFile, world: World) -> None:
        make = world.runs({INT8: 0.02, FP32: 0.03})

        class Falls(FakeEngine):
            def animate_batch(self, driving: Sequence[Rgb], places: object, *, adapt_scale: bool) -> Rgb:
                if self.frames == 2:
                    raise EngineError("model starter gave NaN")
                return super().animate_batch(driving, places, adapt_scale=adapt_scale)

        def one_falls(options: EngineOptions) -> FakeEngine:
            engine: FakeEngine = make(options)
            if options.measured == INT8:
                engine.__class__ = Falls
            return engine

        tier = measure(starter, AUTO, make_engine=one_falls)
        assert tier.best.way == FP32
        assert [failure.way for failure in tier.failures] == [INT8]
        assert tier.others == ()

    def test_nothing_runs(self, starter: ModelFile, world: World) -> None:
        expected = "nothing here runs model starter: cpu in int8 with openvino: it is not"
        with pytest.raises(NothingRunsError, match=expected) as caught:
            measure(starter, AUTO, make_engine=world.runs({}))
        assert caught.value.model == "starter"
        assert caught.value.failures == (Failure(INT8, "it is not there"), Failure(FP32, "it is not there"))


class TestItsCost:
    def test_about_a_second(self, starter: ModelFile, world: World) -> None:
        measure(starter, AUTO, make_engine=world.runs({INT8: 0.0332, FP32: 0.0372}))
        assert world.clock.now_s - 2 * 10 < 0.8  # but for the first, slow frame of each
        assert 6 <= world.made[INT8].frames <= 12

    def test_what_cannot_win_is_given_up_once_that_is_sure(self, starter: ModelFile, world: World) -> None:
        measure(starter, AUTO, make_engine=world.runs({INT8: 0.02, FP32: 0.03}), seconds=10)
        assert world.made[FP32].frames == 1 + 5

    def test_a_slow_model_is_not_repeated(self, starter: ModelFile, world: World) -> None:
        tier = measure(starter, AUTO, make_engine=world.runs({INT8: 0.56, FP32: 1.53}))
        assert tier.best.way == INT8
        assert {engine.frames for engine in world.made.values()} == {1 + 2}

    def test_a_busy_machine_is_measured_for_longer(self, starter: ModelFile, world: World) -> None:
        noise = np.random.default_rng(0).uniform(1, 3, (2, 200))
        make = world.runs({INT8: list(0.033 * noise[0]), FP32: list(0.05 * noise[1])})
        tier = measure(starter, AUTO, make_engine=make)
        assert tier.best.way == INT8
        assert not tier.calm
        assert tier.sentence.endswith(", while the machine was busy with something else")
        assert 2.4 <= world.clock.now_s - 2 * 10 < 2.4 + 0.3

    def test_engines_that_take_long_to_make_are_not_all_made(
        self, starter: ModelFile, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.make_s = 5.0
        with caplog.at_level(logging.INFO):
            measure(starter, AUTO, make_engine=world.runs({INT8: 0.5, FP32: 1.5}))
        assert list(world.made) == [INT8]
        assert "not tried, for time: cpu in fp32 with openvino" in caplog.text

    def test_progress_tells_what_is_made_ready_and_then_that_all_are_timed(
        self, starter: ModelFile, world: World
    ) -> None:
        told: list[tuple[float, Way | None]] = []
        make = world.runs({INT8: 0.03, FP32: 0.04})
        measure(starter, AUTO, make_engine=make, progress=lambda share, way: told.append((share, way)))
        assert told == [(0.0, INT8), (0.3, FP32), (0.6, None)]

    def test_more_time_is_used(self, starter: ModelFile, world: World) -> None:
        make = world.runs({INT8: 0.03, FP32: 0.031})
        measure(starter, AUTO, make_engine=make, seconds=6.0)
        assert 90 < world.made[INT8].frames < 110


TIER = Tier(Timing(INT8, 33.2), (Timing(FP32, 37.2),), (Failure(TORCH, "a test says so"),))


class TestMemory:
    @pytest.fixture(autouse=True)
    def _machine(self, machine: Machine) -> None:
        machine("int8")

    def test_it_remembers_by_model_and_options(self, starter: ModelFile, tiny: ModelFile, tmp_path: Path) -> None:
        path = tmp_path / "cache" / "tiers.json"
        assert remembered(starter, AUTO, path) is None
        remember(TIER, starter, AUTO, path)
        assert remembered(starter, AUTO, path) == TIER
        assert remembered(starter, EngineOptions(device="cpu"), path) == TIER  # that leaves as much to choose here
        for other in (EngineOptions(precision="fp32"), EngineOptions(backend="torch"), EngineOptions(threads=7)):
            assert remembered(starter, other, path) is None
        assert remembered(starter, AUTO, path, batch=16) is None
        assert remembered(ModelFile.of(Mcnet(starter.config)), AUTO, path) is None
        assert remembered(tiny, AUTO, path) is None

    def test_what_was_measured_before_the_ranges_were_known(self, starter: ModelFile, tmp_path: Path) -> None:
        before = dataclasses.replace(starter, info=dataclasses.replace(starter.info, ranges={}))
        tier = Tier(Timing(FP32, 37.2))
        remember(tier, before, AUTO, tmp_path / "tiers.json")
        assert remembered(before, AUTO, tmp_path / "tiers.json") == tier
        assert remembered(starter, AUTO, tmp_path / "tiers.json") is None

    @pytest.mark.parametrize("package", ["torch", "openvino", "mcnet-avatar"])
    def test_other_versions_are_measured_again(
        self, package: str, starter: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remember(TIER, starter, AUTO, tmp_path / "tiers.json")
        real = tiers._version
        monkeypatch.setattr(tiers, "_version", lambda name: "9.9" if name == package else real(name))
        assert remembered(starter, AUTO, tmp_path / "tiers.json") is None

    @pytest.mark.parametrize("change", ["processor", "cores", "instructions", "gpu", "threads"])
    def test_other_hardware_is_measured_again(
        self, change: str, starter: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
    ) -> None:
        path = tmp_path / "tiers.json"
        remember(TIER, starter, AUTO, path)
        assert remembered(starter, AUTO, path) == TIER
        if change == "processor":
            monkeypatch.setattr("mcnet.engine.processor.cpu_name", lambda: "another processor")
        elif change == "cores":
            monkeypatch.setattr("os.cpu_count", lambda: 64)
        elif change == "instructions":
            machine()
        elif change == "gpu":
            machine("int8", gpus=["Big GPU"])
        else:
            monkeypatch.setattr("mcnet.engine.processor.threads", lambda: 77)
        assert remembered(starter, AUTO, path) is None

    def test_another_gpu_is_measured_again(self, starter: ModelFile, tmp_path: Path, machine: Machine) -> None:
        tier = Tier(Timing(GPU16, 1.67))
        machine("int8", gpus=["Big GPU"])
        remember(tier, starter, AUTO, tmp_path / "tiers.json")
        assert remembered(starter, AUTO, tmp_path / "tiers.json") == tier
        machine("int8", gpus=["Bigger GPU"])
        assert remembered(starter, AUTO, tmp_path / "tiers.json") is None

    def test_it_keeps_the_newest(self, starter: ModelFile, tmp_path: Path) -> None:
        path = tmp_path / "tiers.json"
        for threads in range(1, 23):
            remember(TIER, starter, EngineOptions(threads=threads), path)
        known = [remembered(starter, EngineOptions(threads=threads), path) is not None for threads in range(1, 23)]
        assert known == [False] * 2 + [True] * 20

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "nonsense",
            "[]",
            '{"KEY": 3}',
            '{"KEY": {"device": "cpu"}}',
            '{"KEY": {"best": {"way": {"device": "cpu"}, "frame_ms": 3}}}',
            '{"KEY": {"best": {"way": {"device": "cpu", "precision": "auto", "backend": "torch"}, "frame_ms": 3}}}',
            '{"KEY": {"best": {"way": {"device": "tpu", "precision": "fp32", "backend": "torch"}, "frame_ms": 3}}}',
            '{"KEY": {"best": {"way": {"device": "cpu", "precision": "fp32", "backend": "torch"}, "frame_ms": "x"}}}',
            b"\xff\xfe\x00",
        ],
    )
    def test_a_damaged_file_is_measured_anew(
        self, starter: ModelFile, tmp_path: Path, content: str | bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "tiers.json"
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(raw.replace(b"KEY", tiers._key(starter, AUTO, 1).encode()))
        with caplog.at_level(logging.CRITICAL):
            assert remembered(starter, AUTO, path) is None
            remember(TIER, starter, AUTO, path)
        assert remembered(starter, AUTO, path) == TIER
        json.loads(path.read_text(encoding="utf-8"))

    def test_a_place_that_cannot_be_written_is_told(
        self, starter: ModelFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        remember(TIER, starter, AUTO, tmp_path / "file" / "tiers.json")
        assert "cannot be kept" in caplog.text


class TestFastest:
    def test_it_measures_once(
        self, starter: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
    ) -> None:
        machine()
        measured: list[tuple[EngineOptions, int]] = []

        def fake(_: Mcnet, options: EngineOptions, *, batch: int) -> Tier:
            measured.append((options, batch))
            return TIER

        monkeypatch.setattr(tiers, "measure", fake)
        told: list[None] = []
        for _ in range(2):
            assert fastest(starter, AUTO, tmp_path / "t.json", on_measuring=lambda: told.append(None)) == TIER
        assert fastest(starter, AUTO, tmp_path / "t.json", batch=16) == TIER
        assert measured == [(AUTO, 1), (AUTO, 16)]
        assert len(told) == 1

    def test_what_was_measured_on_a_busy_machine_serves_once(
        self, starter: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
    ) -> None:
        machine()
        answers = [dataclasses.replace(TIER, calm=False), TIER]
        monkeypatch.setattr(tiers, "measure", lambda *_, **__: answers.pop(0))
        told: list[str] = []
        got = [fastest(starter, AUTO, tmp_path / "t.json", on_not_remembered=told.append) for _ in range(3)]
        assert told == ["the computer was busy"]
        assert [tier is not None and tier.calm for tier in got] == [False, True, True]
        assert answers == []

    def test_where_nothing_is_to_be_chosen(self, starter: ModelFile, tmp_path: Path, machine: Machine) -> None:
        machine()
        assert fastest(starter, EngineOptions("cpu", "int8"), tmp_path / "t.json") is None
        assert not list(tmp_path.iterdir())

    def test_where_nothing_can_be_measured(
        self,
        starter: ModelFile,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        machine: Machine,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        machine()

        def fails(*_: object, **__: object) -> None:
            raise NothingRunsError("starter", ())

        monkeypatch.setattr(tiers, "measure", fails)
        assert fastest(starter, AUTO, tmp_path / "t.json") is None
        assert "nothing here runs model starter" in caplog.text
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed")
def test_the_real_thing(starter: ModelFile, tmp_path: Path) -> None:
    options = EngineOptions(device="cpu")
    tier = measure(starter, options, seconds=0.1)
    remember(tier, starter, options, tmp_path / "tiers.json")  # also on a busy machine
    assert {tier.best.way, *(timing.way for timing in tier.others)} <= set(ways(starter, options))
    assert "int8" in {timing.way.precision for timing in (tier.best, *tier.others)}
    assert tier.failures == ()
    assert fastest(starter, options, tmp_path / "tiers.json", on_measuring=pytest.fail) == tier
    engine = Engine(starter, tier.over(options))
    assert engine.settle() == tier.best.way.backend
    assert engine.backend_reason == "as measured"
    assert engine.choice.int8 == (tier.best.way.precision == "int8")


def test_a_model_of_512_px_is_measured_in_its_own_size() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        McnetConfig.named("tiny"),
        size_px=512,
        encoder_widths=(4, 6, 8, 8, 8),
        decoder_widths=(8, 8, 6, 6, 4),
        resblocks=(1, 0, 0, 0),
    )
    model = ModelFile.of(Mcnet(config).eval())
    tier = measure(model, EngineOptions(device="cpu", precision="fp32", backend="torch"), seconds=0.1)
    assert (tier.best.way, tier.failures) == (TORCH, ())
    assert tier.best.frame_ms > 0
