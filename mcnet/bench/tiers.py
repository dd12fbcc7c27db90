"""Which way of running a model is fastest here: measured in a second or two, remembered by machine, versions and model.

The processor's flags do not tell: two AVX2 cores without instructions for bytes take 40 ms for a frame of the starter
in int8 and 46 in float32. Flags decide only what is worth trying, and what `auto` means until something is measured.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from mcnet.arrays import Rgb
from mcnet.engine import processor
from mcnet.engine.device import (
    DeviceChoice,
    EngineError,
    EngineOptions,
    Precision,
    Runtime,
    Way,
    gpus,
    kind_of,
    other_gpus,
    threads_of,
    why_no_openvino_first,
)
from mcnet.engine.engine import Engine, Places
from mcnet.errors import UserError, sentence
from mcnet.files import replacing
from mcnet.model_file import ModelFile
from mcnet.phrases import listed, phrase
from mcnet.tables import TableError, build

logger = logging.getLogger(__name__)

_MEASURE_S = 0.6
_BUSY_TIMES = 4  # so much longer is measured where the machine is busy
_RESTLESS = 0.05  # half of a way's frames lie so close to their median, relative to it, unless the machine is busy
_PATIENCE_S = 4.0  # once so much has gone into making engines, no further one is made
_FEWEST_ROUNDS, _SURE_ROUNDS, _MOST_ROUNDS = 2, 5, 500
_FAR_OFF = 2.0  # on a busy machine what is thought to be the best is believed, unless it takes so many times as long
# A way whose quickest frame takes so many times the best one's median is given up: at once, or once that is sure.
_GROSS, _HOPELESS = 3.0, 1.25
_WORTH = 1.05  # a coarser precision must be faster by this factor
_EXACT_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")  # by the picture's error: docs/performance.md
_KEPT = 20
_ALL_KINDS = frozenset({"cpu", "cuda", "gpu", "mps"})
_KINDS_OF_PRECISION = {
    "int8": frozenset({"cpu", "gpu"}),
    "bf16": frozenset({"cpu", "cuda"}),
    "fp16": frozenset({"cuda", "gpu", "mps"}),
}
_KINDS_OF_BACKEND = {
    "openvino": frozenset({"cpu", "gpu"}),
    "cudagraph": frozenset({"cuda"}),
    "torch": frozenset({"cpu", "cuda", "mps"}),
}


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long a frame takes one way.

    Attributes:
        way: of running the model.
        frame_ms: from uint8 to uint8, keypoints included; the median.
    """

    way: Way
    frame_ms: float

    def __str__(self) -> str:
        return phrase("{frame_ms:.3g} ms on {way}", frame_ms=self.frame_ms, way=self.way)


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a way of running the model cannot be used.

    Attributes:
        way: of running the model.
        reason: for people.
    """

    way: Way
    reason: str

    def __str__(self) -> str:
        return phrase("{way}: {reason}", way=self.way, reason=self.reason)


@dataclasses.dataclass(frozen=True)
class Tier:
    """What was measured of a model here.

    Attributes:
        best: to be used.
        others: that were slower, or too little faster for what they round; the fastest first.
        failures: ways that cannot be used.
        calm: whether the machine was at rest, so that this will hold.
    """

    best: Timing
    others: tuple[Timing, ...] = ()
    failures: tuple[Failure, ...] = ()
    calm: bool = True

    @property
    def sentence(self) -> str:
        """For people."""
        if self.others:
            others = listed(map(str, self.others))
            found = phrase("a frame of the model takes {best} ({others})", best=self.best, others=others)
        else:
            found = phrase("a frame of the model takes {best}", best=self.best)
        return found if self.calm else phrase("{found}, while the machine was busy with something else", found=found)

    def over(self, options: EngineOptions) -> EngineOptions:
        """The options, with what is `auto` in them as it was measured; as they are, where there is only one way."""
        compared = self.others or self.failures
        return dataclasses.replace(options, measured=self.best.way) if compared else options


class NothingRunsError(EngineError):
    """No way of running a model works here.

    Attributes:
        model: its name.
        failures: why each way does not.
    """

    def __init__(self, model: str, failures: Sequence[Failure]) -> None:
        self.model = model
        self.failures = tuple(failures)
        reasons = listed(map(str, failures), ";")
        super().__init__(
            phrase(
                "nothing here runs model {model}: {reasons}; is another program in the way?",
                model=model,
                reasons=reasons,
            )
        )


class Measurable(Protocol):
    """What is wanted of an engine; `mcnet.Engine` has it, and tests give fakes."""

    backend_reason: str

    @property
    def backend_name(self) -> str: ...

    def settle(self) -> str: ...

    @property
    def stand_in_places(self) -> Places | None: ...

    def set_source(self, source: Rgb, places: Places | None) -> object: ...

    def calibrate(self, driving: Rgb, places: Places | None) -> None: ...

    def animate_batch(self, driving: Sequence[Rgb], places: Sequence[Places] | None, *, adapt_scale: bool) -> Rgb: ...


def fastest(
    model: ModelFile,
    options: EngineOptions,
    path: Path,
    *,
    batch: int = 1,
    on_measuring: Callable[[], None] = lambda: None,
    on_not_remembered: Callable[[str], None] = lambda _: None,
) -> Tier | None:
    """What is remembered of a model here, or is measured now and remembered.

    What was measured on a busy machine serves once, and is measured again at the next start.

    Args:
        model: to be run.
        options: only what is `auto` in them is chosen.
        path: of the file that remembers.
        batch: frames that will be computed at once.
        on_measuring: called before measuring, which takes a second or two, for a large model more.
        on_not_remembered: told why what was measured is not remembered, where it is not.

    Returns:
        None where the options leave nothing to choose, or where nothing could be measured: then what is known of the
        hardware has to do, and the engine tells what is wrong.

    Raises:
        EngineError: what the options ask for cannot be had.
    """
    if len(ways(model, options)) < 2:
        return None
    tier = remembered(model, options, path, batch=batch)
    if tier is None:
        on_measuring()
        try:
            tier = measure(model, options, batch=batch)
        except NothingRunsError as error:
            logger.warning("%s", error)
            return None
        # What failed elsewhere than on the best's device, as a GPU that another program filled, may not fail again.
        elsewhere = any(failure.way.device != tier.best.way.device for failure in tier.failures)
        if not tier.calm:
            on_not_remembered("the computer was busy")
        elif elsewhere:
            on_not_remembered("a device failed that may not fail again")
        else:
            remember(tier, model, options, path, batch=batch)
    return tier


def ways(model: ModelFile, options: EngineOptions) -> list[Way]:
    """What is worth trying of all that the options leave open, the likely best first.

    On a GPU recorded frames, in every precision that it multiplies natively; on an Intel GPU OpenVINO, on an Apple GPU
    torch, neither of which was measured by the project. On a CPU OpenVINO, where it is installed
    and known to work, else torch: in int8, whether the processor has instructions for bytes or not, if the model tells
    its ranges, and in the coarsest other precision that is native. Beside OpenVINO torch is not worth a second: it took
    1.1 to 2.2 times as long in every precision and size that was measured (docs/performance.md).

    Raises:
        EngineError: what the options ask for cannot be had.
    """
    choice = DeviceChoice.of(dataclasses.replace(options, measured=None), model.info)
    if options.device != "auto":
        return _ways_of(choice.device, model, options)
    devices = [*gpus(), *other_gpus(), "cpu"]
    kinds = _KINDS_OF_PRECISION.get(options.precision, _ALL_KINDS) & _KINDS_OF_BACKEND.get(options.backend, _ALL_KINDS)
    devices = [device for device in devices if kind_of(device) in kinds]
    return [way for device in devices for way in _ways_of(device, model, options)]


def _ways_of(device: str, model: ModelFile, options: EngineOptions) -> list[Way]:
    native = processor.native_precisions(device)
    runtimes: tuple[Runtime, ...]
    precisions: tuple[Precision, ...]
    if kind_of(device) == "gpu":
        runtimes, precisions = ("openvino",), ("int8", "fp16", "fp32")
    elif device == "mps":
        runtimes, precisions = ("torch",), ("fp16", "fp32")
    elif device != "cpu":
        runtimes = ("cudagraph",)
        precisions = ("fp16", "bf16", "fp32") if "bf16" in native else ("fp16", "fp32")
    else:
        runtimes = ("torch",) if why_no_openvino_first(device) else ("openvino",)
        precisions = ("int8", "bf16" if "bf16" in native else "fp32")
    if options.backend != "auto":
        runtimes = (options.backend,)
    if options.precision != "auto":
        precisions = (options.precision,)
    return [
        Way(device, precision, runtime)
        for runtime in runtimes
        for precision in precisions
        if precision != "int8" or (runtime == "openvino" and model.info.ranges)
    ]


def measure(
    model: ModelFile,
    options: EngineOptions,
    *,
    batch: int = 1,
    seconds: float = _MEASURE_S,
    progress: Callable[[float, Way | None], None] = lambda _share, _way: None,
    make_engine: Callable[[EngineOptions], Measurable] | None = None,
) -> Tier:
    """Try what is worth trying, and choose. Blocks; engines are made and dropped on this thread.

    The ways take turns frame by frame, so that a moment in which the machine is slow meets all of them.

    Args:
        model: to be run.
        options: only what is `auto` in them is chosen.
        batch: frames that are computed at once.
        seconds: of timing, several times as much if the machine is busy. Making the engines comes on top; OpenVINO's
            are made side by side.
        progress: told the share of the work that is done, from 0 to below 1, and the way that is made ready next, or
            None once all are ready and are timed; on this thread.
        make_engine: a test's; of `model` otherwise.

    Raises:
        NothingRunsError: nothing runs the model.
        EngineError: what the options ask for cannot be had.
    """
    make_engine = make_engine or (lambda one: Engine(model, one))
    tried = ways(model, options)
    failures: list[Failure] = []
    runners: list[_Runner] = []
    end_s = perf_counter() + _PATIENCE_S
    for index, way in enumerate(tried):
        if runners and perf_counter() > end_s:
            logger.info("not tried, for time: %s", ", ".join(map(str, tried[index:])))
            break
        progress(0.6 * index / len(tried), way)
        runner = _Runner(way, model.config.size_px, batch)
        one = dataclasses.replace(options, device=way.device, measured=way, warm_up_frames=0)
        if _works(way, functools.partial(runner.make, make_engine, one), failures):
            runners.append(runner)
    progress(0.6, None)
    runners = [runner for runner in runners if _works(runner.way, runner.get_ready, failures)]
    runners = _take_turns(runners, seconds, failures)
    if not runners:
        raise NothingRunsError(model.info.name, failures)
    calm = all(runner.calm for runner in _racing(runners))
    best = _best(runners, calm=calm)
    others = sorted((runner for runner in runners if runner is not best), key=lambda runner: runner.frame_ms)
    tier = Tier(best.timing, tuple(runner.timing for runner in others), tuple(failures), calm)
    logger.info("measured: %s", tier.sentence)
    return tier


class _Runner:
    """An engine that is measured.

    Attributes:
        way: of running the model.
        times_ms: of its turns, per frame.
    """

    def __init__(self, way: Way, size_px: int, batch: int) -> None:
        self.way = way
        self.times_ms: list[float] = []
        # Time hardly depends on what is shown. Driven by the picture of the reference pose, the source does not move:
        # a face moves little, too, and what lies close together is read quickly.
        self._rgb: Rgb = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
        self._frames = [self._rgb] * batch
        self._places: list[Places] | None = None
        self._engine: Measurable | None = None

    @property
    def frame_ms(self) -> float:
        """The median."""
        return median(self.times_ms)

    @property
    def calm(self) -> bool:
        """Whether the times lie close together."""
        return median(abs(taken_ms - self.frame_ms) for taken_ms in self.times_ms) <= _RESTLESS * self.frame_ms

    @property
    def timing(self) -> Timing:
        """What came of it."""
        return Timing(self.way, round(self.frame_ms, 3))

    def make(self, make_engine: Callable[[EngineOptions], Measurable], options: EngineOptions) -> str | None:
        """Make the engine; what it prepares in the background may go on.

        Returns:
            None: what keeps the engine from this way shows later.
        """
        self._engine = make_engine(options)
        return None

    def get_ready(self) -> str | None:
        """Wait for that, and animate once: the first frame of a source may be slow. Returns what `step` returns."""
        assert self._engine is not None
        self._engine.settle()
        places = self._engine.stand_in_places
        self._places = None if places is None else [places] * len(self._frames)
        self._engine.set_source(self._rgb, places)
        self._engine.calibrate(self._rgb, places)
        lack = self.step()
        self.times_ms.clear()
        return lack

    def step(self) -> str | None:
        """Time one frame, or one batch.

        Returns:
            The engine's reason where it computes another way than this one, or None.
        """
        assert self._engine is not None
        before_s = perf_counter()
        self._engine.animate_batch(self._frames, self._places, adapt_scale=False)
        self.times_ms.append(1e3 * (perf_counter() - before_s) / len(self._frames))
        return None if self._engine.backend_name == self.way.backend else self._engine.backend_reason


def _works(way: Way, do: Callable[[], str | None], failures: list[Failure]) -> bool:
    """Do it; an error, or a lack that it returns, is noted as a failure."""
    try:
        lack = do()
    except (UserError, RuntimeError) as error:  # RuntimeError: what torch says of a GPU that is out of memory
        lack = sentence(error)
    if lack is None:
        return True
    failures.append(Failure(way, lack))
    logger.info("cannot be used: %s", failures[-1])
    return False


def _take_turns(runners: list[_Runner], seconds: float, failures: list[Failure]) -> list[_Runner]:
    """Time all in turn until it is clear who is best, or the time is over; who cannot win stops early.

    Returns:
        Those that did not fail.
    """
    began_s = perf_counter()
    for turn in range(1, _MOST_ROUNDS + 1):
        racing = _racing(runners)
        failed = [runner for runner in racing if not _works(runner.way, runner.step, failures)]
        runners = [runner for runner in runners if runner not in failed]
        racing = _racing(runners)
        sure = turn >= _SURE_ROUNDS and all(runner.calm for runner in racing)
        over = perf_counter() >= began_s + (seconds if sure else _BUSY_TIMES * seconds)
        if turn >= _FEWEST_ROUNDS and (over or len(racing) < 2):
            break
    return runners


def _racing(runners: Sequence[_Runner]) -> list[_Runner]:
    """Those that may still turn out to be the best."""
    timed = [runner for runner in runners if runner.times_ms]
    if len(timed) < 2:
        return list(runners)
    best = min(timed, key=lambda runner: runner.frame_ms)

    def can_win(runner: _Runner) -> bool:
        at_rest = len(runner.times_ms) >= _SURE_ROUNDS and runner.calm and best.calm
        return min(runner.times_ms) <= best.frame_ms * (_HOPELESS if at_rest else _GROSS)

    return [runner for runner in timed if can_win(runner)]


def _best(runners: Sequence[_Runner], *, calm: bool) -> _Runner:
    """The fastest, or a more exact one that is nearly as fast; of equals, the one that was thought the better."""
    fastest_ms = min(runner.frame_ms for runner in runners)
    if not calm:
        return next(runner for runner in runners if runner.frame_ms <= _FAR_OFF * fastest_ms)
    near = [runner for runner in runners if runner.frame_ms <= _WORTH * fastest_ms]
    return min(near, key=lambda runner: _EXACT_FIRST.index(runner.way.precision))


def remembered(model: ModelFile, options: EngineOptions, path: Path, *, batch: int = 1) -> Tier | None:
    """What was measured for this model and these options on this very machine with these versions, or None.

    Args:
        model: to be run.
        options: that were measured.
        path: of the file that remembers.
        batch: frames that are computed at once.

    Raises:
        EngineError: what the options ask for cannot be had.
    """
    entry = _read(path).get(_key(model, options, batch))
    if entry is None:
        return None
    try:
        tier = build(Tier, entry, what="tier")
    except (TableError, TypeError) as error:  # TypeError: a field is missing
        logger.warning("what was measured cannot be read and is measured again: %s", error)
        return None
    return tier if tier.best.way in ways(model, options) else None


def remember(tier: Tier, model: ModelFile, options: EngineOptions, path: Path, *, batch: int = 1) -> None:
    """Keep it. That the file cannot be written costs a measurement at the next start and is only logged.

    Args:
        tier: what `measure` answered.
        model: that was measured.
        options: that were measured.
        path: of the file that remembers.
        batch: frames that were computed at once.
    """
    tiers = _read(path)
    key = _key(model, options, batch)
    tiers.pop(key, None)
    tiers[key] = dataclasses.asdict(tier)
    newest = dict(list(tiers.items())[-_KEPT:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(newest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("what was measured cannot be kept in %s: %s", path, error)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tiers = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, what is fastest is measured again: %s", path, error)
        return {}
    if not isinstance(tiers, dict):
        return {}
    return {key: entry for key, entry in tiers.items() if isinstance(entry, dict)}


def _key(model: ModelFile, options: EngineOptions, batch: int) -> str:
    """Of everything that what is fastest depends on."""
    facts = [
        *machine_facts(),
        f"threads {threads_of(options)}",
        *map(str, ways(model, options)),
        f"batches of {batch}",
        model.info.content_hash or model.hash_in_float32,
        "with ranges" if model.info.ranges else "without",
        *(["measured places"] if model.places_suffice else []),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def machine_facts() -> tuple[str, ...]:
    """What computes here: processor, what it multiplies natively, GPUs, and versions."""
    native = sorted(processor.native_precisions("cpu"))
    versions = (f"{package} {_version(package)}" for package in ("mcnet-avatar", "torch", "openvino"))
    return (processor.cpu_name(), f"{os.cpu_count()} cores", *native, *(gpus() | other_gpus()).values(), *versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
