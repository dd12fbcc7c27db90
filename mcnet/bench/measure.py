"""Measures a model on a device: every way of computing it in a process of its own, in turn with the others.

Allocator settings and threads hold for a process, and a machine that slows down for a while slows all of them. It needs
torch, numpy and safetensors; real pictures for the accuracy also OpenCV and PyAV.

What a device only emulates takes seconds per frame and tells nothing about the ways that anybody would use: it is left
out, with the reason, unless it is asked for by name.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcnet.arrays import Keypoints, Rgb, SourceCache
from mcnet.bench.macs import FrameMacs, Macs, count_macs
from mcnet.checkpoint import load_model
from mcnet.config import McnetConfig, named_configs
from mcnet.engine import DeviceChoice, Engine, EngineError, EngineOptions, Precision, Runtime, processor
from mcnet.engine.quantization import note_ranges
from mcnet.engine.torch_backend import TorchBackend
from mcnet.errors import UserError
from mcnet.files import as_written
from mcnet.generator import Mcnet, blend
from mcnet.model_file import bundled_models, driven_as_trained, find_model, with_own_jacobians
from mcnet.phrases import offered
from mcnet.pictures import to_picture, to_rgb
from mcnet.pose import relative_keypoints
from mcnet.processes import start_process

if TYPE_CHECKING:
    from mcnet.engine.openvino_backend import OpenVinoBackend

T = TypeVar("T")
Places = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of computing a frame, from uint8 to uint8.

    Attributes:
        name: for people.
        kind: the network as it is written down, or the engine.
        cached: whether the source is encoded once; the authors' code encodes it for each frame.
        precision: of the engine.
        runtime: of the engine.
        keep_memory: see `EngineOptions`.
    """

    name: str
    kind: Literal["plain", "engine"]
    cached: bool = True
    precision: Precision = "fp32"
    runtime: Runtime = "torch"
    keep_memory: bool = True


BASELINE = Variant("plain", "plain")
"""What speed-ups and errors are measured against: the network as it is written down, float32."""


def variants_for(choice: DeviceChoice, *, has_openvino: bool) -> list[Variant]:
    """What can be compared on a device."""
    variants = [Variant("plain, encoder each frame", "plain", cached=False), BASELINE]
    if choice.on_gpu:
        for runtime in get_args(Runtime)[1:]:
            if runtime != "openvino":
                variants += [
                    Variant(f"{runtime} {name}", "engine", precision=name, runtime=runtime)
                    for name in get_args(Precision)[1:]
                    if name != "int8"
                ]
        return variants
    variants.append(Variant("torch fp32, allocator as it comes", "engine", keep_memory=False))
    precisions: list[Precision] = ["fp32", "bf16"]
    variants += [Variant(f"torch {name}", "engine", precision=name) for name in precisions]
    if has_openvino:
        precisions.append("int8")
        variants += [Variant(f"openvino {name}", "engine", precision=name, runtime="openvino") for name in precisions]
    return variants


def why_emulated(variant: Variant, device: str) -> str | None:
    """Why a device could only emulate a variant, or None where it has the instructions.

    int8 is no such case: OpenVINO has kernels in 8 bits for every x86-64 processor.
    """
    if variant.precision == "int8" or variant.precision in processor.native_precisions(device):
        return None
    lacks = "compute capability 8.0" if device != "cpu" else "AVX-512 bf16 or AMX"
    return f"{variant.precision} without {lacks} is only emulated here, and far slower than float32"


class Pictures(NamedTuple):
    """What is animated.

    Attributes:
        sources: (N, size_px, size_px, 3) uint8 RGB.
        driving: (M, size_px, size_px, 3) uint8 RGB; the first frame is the reference pose.
        what: for people.
        real: whether they show faces, so that errors on them mean something.
        source_places: (N, K, 2), where keypoints were measured; None where the model detects them.
        driving_places: (M, K, 2), likewise.
    """

    sources: NDArray[np.uint8]
    driving: NDArray[np.uint8]
    what: str
    real: bool
    source_places: Places | None = None
    driving_places: Places | None = None

    def source(self, index: int) -> "Shown":
        """One of the sources."""
        return Shown(self.sources[index], None if self.source_places is None else self.source_places[index])

    def performer(self, index: int) -> "Shown":
        """One of the driving frames."""
        return Shown(self.driving[index], None if self.driving_places is None else self.driving_places[index])


class Shown(NamedTuple):
    """A picture, and where its keypoints were measured, if they were."""

    rgb: Rgb
    places: Places | None


def real_pictures(model: Mcnet, *, portraits: int = 2, frames: int = 6) -> Pictures:
    """Bundled portraits and frames, spread evenly, of the bundled clip, cropped as the command crops them; measured for
    a model that needs nothing else than places.

    Raises:
        ImportError: PyAV or OpenCV is not installed.
        UserError: OpenCV does not load.
    """
    from mcnet.media.bundled import CLIP, bundled_faces

    faces = bundled_faces(model.config.size_px, portraits=portraits, frames=frames)
    what = f"{len(faces.sources)} bundled portraits by {len(faces.driving)} frames of {CLIP.name}"
    pictures = Pictures(faces.sources, faces.driving, what, real=True)
    if not model.places_suffice:
        return pictures
    points = list(model.info.keypoint_landmarks)
    return pictures._replace(
        what=f"{what}, keypoints measured",
        source_places=faces.source_meshes[:, points, :2],
        driving_places=faces.driving_meshes[:, points, :2],
    )


def noise_pictures(model: Mcnet) -> Pictures:
    """Noise: time hardly depends on what is shown."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, model.config.size_px, model.config.size_px, 3), np.uint8)
    pictures = Pictures(noise[:1], noise[1:], "noise", real=False)
    if not model.places_suffice:
        return pictures
    places = rng.uniform(-0.5, 0.5, (3, model.config.num_keypoints, 2))
    return pictures._replace(source_places=places[:1], driving_places=places[1:])


class Spread(NamedTuple):
    """Milliseconds per frame."""

    median: float
    p95: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> "Spread":
        """Of single frames; the 95th percentile is the nearest rank: the least value that 95 % do not exceed."""
        ordered = sorted(values_ms)
        return cls(statistics.median(ordered), ordered[-(-95 * len(ordered) // 100) - 1])


class Accuracy(NamedTuple):
    """How far a variant's pictures are from the plain float32 model's, both rounded to uint8.

    Attributes:
        largest: error in steps of 255.
        mean: error in steps of 255.
        psnr_db: of the worst picture; infinite where none differs.
    """

    largest: int
    mean: float
    psnr_db: float

    @classmethod
    def of(cls, pictures: Rgb, expected: Rgb) -> "Accuracy":
        """Compare (N, size_px, size_px, 3)."""
        error = np.abs(pictures.astype(np.int16) - expected.astype(np.int16))
        worst = float(np.square(error.astype(np.float64)).mean(axis=(1, 2, 3)).max())
        psnr_db = float("inf") if worst == 0 else 10 * np.log10(255**2 / worst)
        return cls(int(error.max()), float(error.mean()), float(psnr_db))


class Rates(NamedTuple):
    """What the device does at best, measured.

    Attributes:
        gmac_per_s: of a product of large square matrices, by precision; those that the device multiplies natively.
        copy_gb_per_s: bytes read plus bytes written by a large copy.
    """

    gmac_per_s: dict[str, float]
    copy_gb_per_s: float

    def best_of(self, other: "Rates") -> "Rates":
        """The higher of each."""
        rates = {name: max(rate, other.gmac_per_s[name]) for name, rate in self.gmac_per_s.items()}
        return Rates(rates, max(self.copy_gb_per_s, other.copy_gb_per_s))


class Floor(NamedTuple):
    """The least that a frame can take on this device, in milliseconds.

    Attributes:
        operations_ms: multiply-accumulates after the rewrites over the measured rate of matrix products, part by part.
        bytes_ms: weights and cached source once, over the measured bandwidth.
    """

    operations_ms: float
    bytes_ms: float

    @property
    def total_ms(self) -> float:
        """The larger one."""
        return max(self)


def floor_of(macs: FrameMacs, bytes_: float, rates: Rates, precision: str, runtime: str) -> Floor | None:
    """The floor of a frame in a precision, or None where the device's rate in that precision is not known.

    Args:
        macs: after the rewrites.
        bytes_: that have to be read.
        rates: of the device.
        precision: of the parts that may be rounded: the decoder and the memory, with OpenVINO dense motion's hourglass
            too. The others are float32; with int8 it is the decoder alone, and the other two are bf16, or float32
            where the device has no bf16.
        runtime: what computes.
    """
    if precision not in rates.gmac_per_s:
        return None
    whole = rates.gmac_per_s["fp32"]
    half = rates.gmac_per_s.get("bf16" if precision == "int8" else precision, whole)
    per_second = {"detector": whole, "motion": whole, "memory": half, "decoder": rates.gmac_per_s[precision]}
    if runtime == "openvino":
        per_second["motion"] = half
    operations_s = sum(count / per_second[part] for part, count in macs._asdict().items())
    return Floor(operations_s * 1e3, bytes_ / rates.copy_gb_per_s / 1e6)


def bytes_of(model: Mcnet, precision: str) -> float:
    """Weights of a frame, and what is cached of a source: read once each. The decoder's weights in the precision."""
    generator = model.generator
    half = 1.0 if precision == "fp32" else 0.5
    coarsest = 0.25 if precision == "int8" else half
    detector = None if model.places_suffice else model.keypoint_detector
    parts: list[tuple[Any, float]] = [(detector, 1.0), (generator.dense_motion, 1.0)]
    parts += [(generator.memory, half), (generator.final, half)]
    parts += [(generator.res_stages, coarsest), (generator.up_blocks, coarsest)]
    weights: float = sum(
        scale * parameter.numel() for part, scale in parts if part is not None for parameter in part.parameters()
    )
    config = model.config
    source: float = sum(
        width * size_px**2 for width, size_px in zip(config.decoder_widths, config.level_sizes_px, strict=True)
    )
    return 4.0 * (weights + source + 3 * config.size_px**2)


def measure_rates(device: torch.device) -> Rates:
    """The best of several products, in the precisions that the device multiplies natively, and copies."""
    native = processor.native_precisions(str(device))
    side = 8192 if device.type == "cuda" else 1536
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if name in native:
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            rates[name] = side**3 / best_s(functools.partial(torch.mm, a, b), device) / 1e9
    if "int8" in native:
        a, b = (torch.randint(-100, 100, (side, side), dtype=torch.int8) for _ in range(2))
        rates["int8"] = side**3 / best_s(functools.partial(torch._int_mm, a, b), device) / 1e9
    source = torch.zeros(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    copy_s = best_s(lambda: target.copy_(source), device)
    return Rates(rates, 2 * source.numel() * source.element_size() / copy_s / 1e9)


def best_s(run: Callable[[], object], device: torch.device, repeats: int = 4, enough_s: float = 1.0) -> float:
    """Seconds of the quickest of several runs, or of fewer where these already take `enough_s` together."""
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < enough_s:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def open_model(name_or_path: str) -> tuple[Mcnet, bool]:
    """A model, and whether its weights are trained: a configuration's name without weights gives random ones."""
    path = as_written(name_or_path)
    if name_or_path in bundled_models() or path.is_file() or (path.is_dir() and name_or_path not in named_configs()):
        return load_model(name_or_path), True
    try:
        config = McnetConfig.named(name_or_path)
    except ValueError:
        find_model(name_or_path)  # says what there is
        raise
    torch.manual_seed(0)
    return Mcnet(config).eval(), False


@dataclasses.dataclass(frozen=True)
class VariantTask:
    """What a worker is to prepare. Plain values: it travels to another process."""

    model: str
    device: str
    threads: int | None
    variant: Variant


class Runner(NamedTuple):
    """A prepared variant.

    Attributes:
        set_source: choose who is animated, and by whom (the reference pose).
        frame: animate by one frame, and wait for the picture.
        stages: milliseconds of each stage of one frame; of the plain network nothing.
    """

    set_source: Callable[[Shown, Shown], None]
    frame: Callable[[Shown], Rgb]
    stages: Callable[[Shown], dict[str, float]]


def prepare(task: VariantTask) -> Runner:
    """Build a variant in this process.

    Raises:
        UserError: it cannot be had here.
    """
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    model, trained = open_model(task.model)
    variant = task.variant
    if variant.kind == "plain":
        device = DeviceChoice.of(EngineOptions(task.device, "fp32")).device
        return _plain_runner(model, torch.device(device), cached=variant.cached)
    if variant.precision == "int8" and not trained:
        noise = noise_pictures(model)  # time does not depend on the ranges
        note_ranges(model, noise.sources, noise.driving)
    options = EngineOptions(
        device=task.device,
        precision=variant.precision,
        backend=variant.runtime,
        threads=task.threads,
        keep_memory=variant.keep_memory,
    )
    engine = Engine(model, options)

    def set_source(source: Shown, reference: Shown) -> None:
        engine.set_source(*source)
        engine.calibrate(*reference)

    return Runner(
        set_source, lambda shown: engine.animate(*shown, adapt_scale=False), lambda shown: stages_ms(engine, shown)
    )


def _plain_runner(model: Mcnet, device: torch.device, *, cached: bool) -> Runner:
    model = model.to(device)
    pictures: list[Rgb] = []
    caches: list[tuple[SourceCache, Keypoints]] = []
    measured = model.places_suffice  # so that its jacobians follow from the places that it is given

    def upload(rgb: Rgb) -> Tensor:
        return to_picture(torch.from_numpy(rgb)[None].to(device))

    def find(shown: Shown) -> Keypoints:
        if shown.places is None:
            found: Keypoints = model.keypoint_detector(upload(shown.rgb))
            return found
        value = torch.from_numpy(shown.places[None].astype(np.float32)).to(device)
        return with_own_jacobians(model.info, Keypoints(value, torch.empty(0)))

    @torch.inference_mode()
    def set_source(source: Shown, reference: Shown) -> None:
        pictures[:] = [source.rgb]
        caches[:] = [(model.generator.encode_source(upload(source.rgb), find(source)), find(reference))]

    @torch.inference_mode()
    def frame(performer: Shown) -> Rgb:
        cache, reference = caches[0]
        if not cached:
            cache = model.generator.encode_source(upload(pictures[0]), cache.keypoints)
        keypoints = relative_keypoints(cache.keypoints, find(performer), reference)
        if measured:
            keypoints = driven_as_trained(model.info, keypoints, cache.keypoints)
        shown: Rgb = to_rgb(model.generator(cache, keypoints))[0].cpu().numpy()
        return shown

    return Runner(set_source, frame, lambda _: {})


@torch.inference_mode()
def stages_ms(engine: Engine, shown: Shown) -> dict[str, float]:
    """Milliseconds of each stage of one frame, waited for one by one."""
    assert engine.source is not None
    if isinstance(engine.backend, TorchBackend):
        return _torch_stages_ms(engine, engine.backend, engine.backend.taken(engine.source), shown)
    if engine.backend.name != "openvino":  # a recorded graph has no stages
        return {}
    clock = Clock(torch.device(engine.choice.device))
    clock.time("places" if shown.places is not None else "detect", lambda: engine.detect(*shown))
    for name, run in cast("OpenVinoBackend", engine.backend).stages().items():
        clock.time(name, run)
    return clock.taken_ms


class Clock:
    """Adds up milliseconds by name.

    Attributes:
        taken_ms: so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.taken_ms: dict[str, float] = {}
        self._device = device

    def time(self, name: str, run: Callable[[], T]) -> T:
        """Run, and wait for the device."""
        synchronize(self._device)
        start = time.perf_counter()
        result = run()
        synchronize(self._device)
        self.taken_ms[name] = self.taken_ms.get(name, 0.0) + (time.perf_counter() - start) * 1e3
        return result


def _torch_stages_ms(engine: Engine, backend: TorchBackend, cache: SourceCache, shown: Shown) -> dict[str, float]:
    clock = Clock(backend.device)
    generator = backend.model.generator
    found = clock.time("places" if shown.places is not None else "detect", lambda: engine.detect(*shown))
    keypoints = backend.moved(found)
    motion = clock.time("motion", lambda: generator.motion(cache, keypoints))
    warped = clock.time("warp", lambda: backend.narrow(generator.warp(cache, motion)))
    memory = generator.memory
    if memory is not None:
        for feature in warped.features:
            if feature.shape[-1] in generator.memory_levels_px:
                clock.time("memory", functools.partial(memory, feature, cache.keypoints, cache.memory))
    logits = clock.time("decode", lambda: generator.decode(cache, warped))
    clock.taken_ms["decode"] -= clock.taken_ms.get("memory", 0.0)  # it was called once more in there
    clock.time("pack", lambda: to_rgb(blend(logits.float(), warped)).cpu())
    return clock.taken_ms


def work(pipe: Connection, task: VariantTask) -> None:
    """One variant in a process of its own.

    Answers with None or a sentence on what is amiss; then to `Pictures` with what it makes of all of them, and after
    that to ("frames", n, s) with the milliseconds of each of at most n frames and, but for the first one, s seconds; to
    ("stages", n, s) with those of each stage; until None comes.
    """
    try:
        runner = prepare(task)
    except UserError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    pictures: Pictures = pipe.recv()
    performers = [pictures.performer(index) for index in range(len(pictures.driving))]
    shown = []
    for index in range(len(pictures.sources)):
        runner.set_source(pictures.source(index), performers[0])
        shown += [runner.frame(performer) for performer in performers]
    pipe.send(np.stack(shown))
    turn = 0
    while (order := pipe.recv()) is not None:
        kind, count, limit_s = order
        taken: list[Any] = []
        end_s = time.perf_counter() + limit_s
        while len(taken) < count and (not taken or time.perf_counter() < end_s):
            turn += 1
            performer = performers[turn % len(performers)]
            start = time.perf_counter()
            stages = runner.stages(performer) if kind == "stages" else runner.frame(performer)
            taken.append(stages if kind == "stages" else (time.perf_counter() - start) * 1e3)
        pipe.send(taken)


class Row(NamedTuple):
    """What was measured of a variant."""

    variant: Variant
    ms: Spread
    frames: int
    """That were timed."""
    accuracy: Accuracy
    floor: Floor | None
    """None where the device's rate in this precision is not known."""
    stages_ms: dict[str, float]
    emulated: str | None
    """Why the device only emulates it: then somebody asked for it by name."""


class Report(NamedTuple):
    """What was measured of a model."""

    model: str
    trained: bool
    machine: str
    pictures: str
    real: bool
    macs: Macs
    rates: Rates
    load: tuple[float, float]
    """Processes that wanted to run, in the minute before and in the last one (0 where the system does not tell)."""
    rows: list[Row]
    left_out: dict[str, str]
    """Variants that could not be had or are only emulated, and why."""


def measure(
    model: str,
    device: str,
    *,
    threads: int | None,
    rounds: int,
    frames: int,
    seconds: float,
    only: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure every variant in turn.

    Args:
        model: a bundled name, a file, or a configuration's name.
        device: as `EngineOptions.device`.
        threads: as `EngineOptions.threads`.
        rounds: turns of each variant, at most.
        frames: per turn, at most.
        seconds: that all of it may take. Variants are made ready and compared whatever that takes, and there is one
            round at least; no further one is begun that would end later.
        only: names of variants; none means all that are not emulated. The baseline is always there.
        progress: told a line of text for every variant and every round.

    Raises:
        UserError: the model or the device cannot be had, or nothing is named so.
    """
    began_s = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    choice = DeviceChoice.of(EngineOptions(device, "fp32"))
    if choice.kind not in ("cpu", "cuda"):
        raise EngineError(
            f"device: got {device!r}, expected cpu, cuda or cuda:N: these are what is compared; of other GPUs "
            "`mcnet-avatar --doctor` tells what a frame takes, once it was measured"
        )
    has_openvino = importlib.util.find_spec("openvino") is not None
    variants = variants_for(choice, has_openvino=has_openvino)
    if unknown := set(only) - {variant.name for variant in variants}:
        got = sorted(unknown)[0]
        offer = offered([variant.name for variant in variants], got)
        raise EngineError(f"variants: got {got!r}, expected some of {offer}")
    if only:
        variants = [variant for variant in variants if variant is BASELINE or variant.name in only]
    emulated = {variant: why for variant in variants if (why := why_emulated(variant, choice.device))}
    opened, trained = open_model(model)
    pictures = noise_pictures(opened)
    if trained:
        with contextlib.suppress(ImportError, UserError):
            pictures = real_pictures(opened)
    load_before = _load()
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        pipes: dict[Variant, Connection] = {}
        shown: dict[Variant, Rgb] = {}
        for number, variant in enumerate(variants, start=1):
            heading = f"{model}, {number} of {len(variants)}, {variant.name}"
            if variant in emulated and variant.name not in only:
                left_out[variant.name] = emulated[variant]
                progress(f"{heading}: left out: {emulated[variant]}")
                continue
            ready_s = time.perf_counter()
            pipe, lack = stack.enter_context(_worker(VariantTask(model, device, threads, variant)))
            if lack is not None:
                left_out[variant.name] = lack
                progress(f"{heading}: left out: {lack}")
                continue
            pipes[variant] = pipe
            shown[variant] = _ask(pipe, pictures)
            remark = f"; {emulated[variant]}" if variant in emulated else ""
            progress(f"{heading}: ready after {time.perf_counter() - ready_s:.1f} s{remark}")
        times: dict[Variant, list[float]] = {variant: [] for variant in pipes}
        stages: dict[Variant, list[dict[str, float]]] = {variant: [] for variant in pipes}
        rates = measure_rates(torch.device(choice.device))
        for turn in range(rounds):
            turn_s = time.perf_counter()
            left_s = began_s + seconds - turn_s
            each_s = left_s / (rounds - turn) / len(pipes)
            rates = rates.best_of(measure_rates(torch.device(choice.device)))
            for variant, pipe in pipes.items():
                _ask(pipe, ("frames", 1, each_s))  # the one before may have left the caches to others
                times[variant] += _ask(pipe, ("frames", frames, 0.8 * each_s))
                stages[variant] += _ask(pipe, ("stages", max(1, frames // 4), 0.2 * each_s))
            now_s = time.perf_counter()
            progress(f"{model}, round {turn + 1} of {rounds}, {now_s - began_s:.0f} s of {seconds:g}")
            if now_s + (now_s - turn_s) > began_s + seconds:
                break
    macs = count_macs(opened.config)
    if opened.places_suffice:
        plain, rewritten = (frame._replace(detector=0.0) for frame in (macs.plain, macs.rewritten))
        macs = macs._replace(plain=plain, rewritten=rewritten)
    rows = [
        Row(
            variant,
            Spread.of(times[variant]),
            len(times[variant]),
            Accuracy.of(shown[variant], shown[BASELINE]),
            floor_of(macs.rewritten, bytes_of(opened, variant.precision), rates, variant.precision, variant.runtime),
            {name: statistics.median(one[name] for one in stages[variant]) for name in stages[variant][0]},
            emulated.get(variant),
        )
        for variant in pipes
    ]
    return Report(
        opened.info.name if trained else f"{model} (random weights)",
        trained,
        machine_name(choice, has_openvino=has_openvino),
        pictures.what,
        pictures.real and trained,
        macs,
        rates,
        (load_before, _load()),
        rows,
        left_out,
    )


@contextlib.contextmanager
def _worker(task: VariantTask) -> Iterator[tuple[Connection, str | None]]:
    """A worker's pipe, and what is amiss with it."""
    process, ours = start_process(work, task)
    try:
        lack = ours.recv()
        yield ours, lack
        if lack is None:
            ours.send(None)
        process.join()
    finally:
        process.kill()
        ours.close()


def _ask(pipe: Connection, question: object) -> Any:
    pipe.send(question)
    return pipe.recv()


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def machine_name(choice: DeviceChoice, *, has_openvino: bool) -> str:
    """Processor, cores, threads and versions."""
    parts = [f"torch {torch.__version__}"]
    if choice.on_gpu:
        return f"{torch.cuda.get_device_name(choice.device)}, {parts[0]}"
    if has_openvino:
        parts.append(f"openvino {importlib.metadata.version('openvino')}")
    return f"{processor.description(torch.get_num_threads())}, {', '.join(parts)}"
