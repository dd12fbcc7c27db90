"""Which device, precision and runtime are fastest here: measured once, remembered by hardware, versions and model."""

import dataclasses
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.animator import LOOK_AGAIN_S
from app.pipeline.engine import LiveEngine
from app.places import source_cache_folder
from assets import ROOT as ASSETS
from mcnet.checkpoint import content_hash, load_model
from mcnet.engine import DeviceChoice, Engine, EngineOptions, Precision, Runtime
from mcnet.errors import UserError
from mcnet.files import replacing
from mcnet.generator import Mcnet
from mcnet.media.bundled import CLIP
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.video import open_driving
from mcnet.tables import TableError, build

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

_PORTRAIT = ASSETS / "portraits" / "woman_1.jpg"
_DRIVING_FRAMES = 12
_FEWEST_FRAMES, _MOST_FRAMES = 3, 200
_HOPELESS = 2.0  # times as slow as the best so far
_PATIENCE = 5.0  # times the seconds of measuring; for loading and warming up all that is tried
_WORTH = 1.05  # a coarser precision must be faster by this factor
_EXACT_FIRST: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")
_KEPT_TIERS = 20
_GRAPHICS_VENDORS = {"0x10de": "an NVIDIA GPU", "0x1002": "an AMD GPU"}


@dataclass(frozen=True)
class Tier:
    """How this machine runs a model best.

    Attributes:
        device: `cpu` or `cuda:N`.
        precision: of the decoder.
        backend: what computes.
        fps_hz: frames a second: face, keypoints and picture, one after another on one thread.
        sentence: for people; also names a GPU that is there and not used, with the reason.
    """

    device: str
    precision: Precision
    backend: Runtime
    fps_hz: float
    sentence: str

    @property
    def options(self) -> EngineOptions:
        """For the engine."""
        return EngineOptions(device=self.device, precision=self.precision, backend=self.backend)


@dataclass(frozen=True)
class Hardware:
    """What could compute here.

    Attributes:
        cpu: its name and cores.
        gpus: names of those that torch can use, by their number.
        unused: a sentence for each GPU that is there and that torch cannot use, with the reason.
    """

    cpu: str
    gpus: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def this_hardware(root: Path = Path("/")) -> Hardware:
    """Look at this machine.

    Args:
        root: where Linux' /proc and /sys lie; tests lay out others.
    """
    usable: list[str] = []
    lacks: list[str] = []
    for index in range(max(1, torch.cuda.device_count())):
        try:
            DeviceChoice.of(EngineOptions(device=f"cuda:{index}"))
        except UserError as error:
            lacks.append(str(error).partition(", but ")[2].partition("; ")[0] or str(error))
        else:
            usable.append(torch.cuda.get_device_name(index))
    named = ["a further GPU"] * len(lacks) if usable else _graphics_cards(root)
    unused = tuple(f"{name} is there, but is not used: {lack}" for name, lack in zip(named, cycle(lacks), strict=False))
    return Hardware(f"{_cpu_name(root)}, {os.cpu_count()} cores", tuple(usable), unused)


def _cpu_name(root: Path) -> str:
    lines = _read(root / "proc/cpuinfo").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _graphics_cards(root: Path) -> list[str]:
    """Those that people buy for computing, as the system names them."""
    if sys.platform == "darwin":
        return ["the Apple GPU"] if platform.machine() == "arm64" else []
    named = [
        line.partition(":")[2].strip()
        for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
        for line in _read(information).splitlines()
        if line.startswith("Model:")
    ]
    if named or (named := _cards_of_nvidia_smi()):
        return named
    devices = sorted((root / "sys/bus/pci/devices").glob("*"))
    displays = [device for device in devices if _read(device / "class").startswith("0x03")]
    vendors = [_read(device / "vendor").strip() for device in displays]
    return [_GRAPHICS_VENDORS[vendor] for vendor in vendors if vendor in _GRAPHICS_VENDORS]


def _cards_of_nvidia_smi() -> list[str]:
    """Where there is no /proc, as on Windows, NVIDIA's own tool knows."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("nvidia-smi does not answer: %s", error)
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def measure_tier(
    model: Mcnet,
    seconds: float = 3.0,
    *,
    progress: Callable[[float, str], None] | None = None,
    hardware: Hardware | None = None,
    make_engine: Callable[[EngineOptions], LiveEngine] | None = None,
) -> Tier:
    """Try what is there on real frames and choose the fastest. Blocks; engines are made and dropped on this thread.

    Args:
        model: to be run.
        seconds: of measuring, shared among all that is tried; making the engines ready comes on top.
        progress: told the share of the work, 0 to 1, and what is tried, on this thread.
        hardware: this machine's, unless a test says otherwise.
        make_engine: a test's; of `model` otherwise.

    Raises:
        AppError: nothing runs the model; the message says why each did not.
    """
    hardware = hardware or this_hardware()
    make_engine = make_engine or (lambda options: Engine(model, options))
    tell = progress or _tell_nobody
    tell(0.0, "looking for the face")
    portrait, frames, look_s = _workload(model.config.size_px)
    tried = candidates(hardware, model)
    results: list[tuple[EngineOptions, float]] = []
    problems: list[str] = []
    end_s = perf_counter() + _PATIENCE * seconds
    for index, options in enumerate(tried):
        if results and perf_counter() > end_s:
            logger.info("not tried, for time: %s", ", ".join(map(_describe, tried[index:])))
            break
        tell((index + 0.2) / (len(tried) + 0.2), f"trying {_describe(options)}")
        best_s = min((step_s for _, step_s in results), default=float("inf"))
        try:
            step_s = _measure(make_engine(options), portrait, frames, seconds / len(tried), best_s)
        except (UserError, RuntimeError) as error:  # RuntimeError: what torch says of a GPU that is out of memory
            problems.append(f"{_describe(options)}: {error}")
            logger.info("cannot be used: %s", problems[-1])
            continue
        results.append((options, step_s))
        logger.info("%s: %.1f ms a frame", _describe(options), 1000 * step_s)
    tell(1.0, "done")
    if not results:
        raise AppError(f"nothing here runs the model: {'; '.join(problems)}; is another model or program in the way?")
    options, step_s = _best(results)
    fps_hz = _live_fps_hz(step_s, look_s)
    sentence = _sentence(options, fps_hz, hardware, problems)
    return Tier(options.device, options.precision, options.backend, round(fps_hz, 1), sentence)


def _live_fps_hz(step_s: float, look_s: float) -> float:
    """Frames a second where a look for a moving face comes on top, in each frame or, if they are quicker, in some."""
    with_look_s = step_s + look_s
    if with_look_s >= LOOK_AGAIN_S:
        return 1 / with_look_s
    return (1 - min(look_s / LOOK_AGAIN_S, 0.5)) / step_s


def candidates(hardware: Hardware, model: Mcnet) -> list[EngineOptions]:
    """What is worth trying, the likely best first; a CPU that only imitates bf16 or int8 is not asked for it."""
    choice = DeviceChoice.of(EngineOptions(device="cpu"), model)
    on_cpu: tuple[Precision, ...] = ("bf16", "fp32") if choice.dtype == torch.bfloat16 else ("fp32",)
    on_gpu: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    runtimes: tuple[Runtime, ...] = ("openvino", "torch")
    found = [
        EngineOptions(device=f"cuda:{index}", precision=precision, backend="torch", warm_up_frames=1)
        for index in range(len(hardware.gpus))
        for precision in on_gpu
    ]
    if choice.int8:
        found.append(EngineOptions(device="cpu", precision="int8", backend="openvino", warm_up_frames=1))
    return found + [
        EngineOptions(device="cpu", precision=precision, backend=runtime, warm_up_frames=1)
        for runtime in runtimes
        for precision in on_cpu
    ]


def _tell_nobody(_share: float, _text: str) -> None:
    """Progress that nobody asked for."""


def _workload(size_px: int) -> tuple[Picture, list[Picture], float]:
    """A portrait, a driver's cropped frames, and the seconds that a look for the face takes."""
    pictures = [rgb for rgb, _ in zip(open_driving(CLIP), range(_DRIVING_FRAMES), strict=False)]
    with FaceFinder(tracking=True) as finder:
        box = frame_face(finder.find(pictures[0])[0])
        costs_s = []
        for rgb in pictures[1:]:
            start_s = perf_counter()
            finder.find(rgb)
            costs_s.append(perf_counter() - start_s)
    return read_rgb(_PORTRAIT), [crop(rgb, box, size_px) for rgb in pictures], median(costs_s)


def _measure(engine: LiveEngine, portrait: Picture, frames: Sequence[Picture], seconds: float, best_s: float) -> float:
    """Median seconds of a frame, over so many seconds, or until it is clear that it cannot become the best."""
    engine.set_source(portrait)
    engine.render(engine.detect(frames[0]))  # the first one with a source may be slow
    times_s: list[float] = []
    start_s = perf_counter()
    while len(times_s) < _MOST_FRAMES:
        before_s = perf_counter()
        engine.render(engine.detect(frames[len(times_s) % len(frames)]))
        now_s = perf_counter()
        times_s.append(now_s - before_s)
        if len(times_s) >= _FEWEST_FRAMES and (now_s - start_s > seconds or median(times_s) > _HOPELESS * best_s):
            break
    return median(times_s)


def _best(results: Sequence[tuple[EngineOptions, float]]) -> tuple[EngineOptions, float]:
    """The fastest, or a more exact one that is nearly as fast."""
    fastest_s = min(step_s for _, step_s in results)
    near = [result for result in results if result[1] <= _WORTH * fastest_s]
    return min(near, key=lambda result: (_EXACT_FIRST.index(result[0].precision), result[1]))


def _describe(options: EngineOptions) -> str:
    return f"{options.device} in {options.precision} with {options.backend}"


def _sentence(options: EngineOptions, fps_hz: float, hardware: Hardware, problems: Sequence[str]) -> str:
    on_gpu = options.device.startswith("cuda:")
    where = hardware.gpus[int(options.device.removeprefix("cuda:"))] if on_gpu else "this CPU"
    rate = f"{fps_hz:.0f}" if fps_hz >= 10 else f"{fps_hz:.1f}"
    sentence = f"about {rate} frames/s on {where}"
    if on_gpu:
        return sentence
    reasons = list(hardware.unused)
    if hardware.gpus:
        failed = [problem for problem in problems if problem.startswith("cuda:")]
        told = failed[0] if failed else "the CPU was measured to be faster"
        reasons.append(f"{' and '.join(hardware.gpus)} is not used: {told}")
    return "; ".join([sentence, *reasons])


def make_engine(model: str, device: str, precision: str, on_measured: Callable[[str], None] = lambda _: None) -> Engine:
    """Make the engine as was measured to be best here, unless something else is asked for.

    Args:
        model: bundled name or file.
        device: as `EngineOptions.device`.
        precision: as `EngineOptions.precision`.
        on_measured: told the sentence of the tier that is used, if one is remembered.

    Raises:
        CheckpointError, EngineError: the model or the device cannot be used.
    """
    loaded = load_model(model)
    options = EngineOptions(device=device, precision=cast("Precision", precision))
    if device == precision == "auto" and (tier := load_tier(loaded)) is not None:
        options = tier.options
        on_measured(tier.sentence)
    return Engine(loaded, options)


def load_tier(model: Mcnet, path: Path | None = None, hardware: Hardware | None = None) -> Tier | None:
    """What was measured for this model on this very hardware with these versions, or None.

    Args:
        model: to be run.
        path: of the file that remembers; None: in the user's cache.
        hardware: this machine's, unless a test says otherwise.
    """
    entry = _remembered(path or _default_path()).get(_key(model, hardware or this_hardware()))
    if entry is None:
        return None
    try:
        return build(Tier, entry, what="tier")
    except (TableError, TypeError) as error:  # TypeError: a field is missing
        logger.warning("a remembered tier cannot be read and is measured again: %s", error)
        return None


def save_tier(tier: Tier, model: Mcnet, path: Path | None = None, hardware: Hardware | None = None) -> None:
    """Remember. That the cache cannot be written costs a measurement at the next start and is only logged.

    Args:
        tier: what `measure_tier` answered.
        model: that was measured.
        path: of the file that remembers; None: in the user's cache.
        hardware: this machine's, unless a test says otherwise.
    """
    path = path or _default_path()
    tiers = _remembered(path)
    key = _key(model, hardware or this_hardware())
    tiers.pop(key, None)
    tiers[key] = dataclasses.asdict(tier)
    newest = dict(list(tiers.items())[-_KEPT_TIERS:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(newest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("what was measured cannot be kept in %s: %s", path, error)


def _default_path() -> Path:
    return source_cache_folder().with_name("tiers.json")


def _remembered(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tiers = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, tiers are measured again: %s", path, error)
        return {}
    if not isinstance(tiers, dict):
        return {}
    return {key: entry for key, entry in tiers.items() if isinstance(entry, dict)}


def _key(model: Mcnet, hardware: Hardware) -> str:
    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        openvino = "none"
    weights = model.info.content_hash or content_hash(model.state_dict())
    ranges = "with ranges" if model.info.ranges else "without"
    facts = (hardware.cpu, *hardware.gpus, *hardware.unused, torch.__version__, openvino, weights, ranges)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
