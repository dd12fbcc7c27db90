"""What was measured of a model on this machine, and the GPUs that are there; `mcnet.bench.tiers` measures."""

import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, cast

from app.pipeline.events import Measured, UnusedGpu
from mcnet.bench.tiers import Tier, fastest, measure, remember, remembered, ways
from mcnet.engine import Engine, EngineOptions, Precision, Way, gpu_lacks, open_model, other_gpus
from mcnet.engine import gpus as usable_gpus
from mcnet.model_file import ModelFile
from mcnet.phrases import phrase
from mcnet.places import measured_file

logger = logging.getLogger(__name__)

_MEASURE_S = 3.0  # at leisure: somebody asked for it and waits


class _Card(NamedTuple):
    """A GPU that people buy for computing.

    Attributes:
        name: as the system names it.
        is_known: whether the engine knows its vendor's.
    """

    name: str
    is_known: bool = True


_GRAPHICS_VENDORS = {
    "0x10de": _Card(phrase("an NVIDIA GPU")),
    "0x1002": _Card(phrase("an AMD GPU"), is_known=False),
}


def make_engine(
    model: str,
    device: str,
    precision: str,
    *,
    on_measuring: Callable[[], None] = lambda: None,
    on_not_remembered: Callable[[str], None] = lambda _: None,
    on_measured: Callable[[Measured], None] = lambda _: None,
) -> Engine:
    """Make the engine. What is left at `auto` is taken as measured to be fastest on this machine; the first call
    measures.

    Measuring takes a second or two, once for a machine and a model. It is done before the first frame, since beside
    frames it would disturb them and be disturbed; the camera opens meanwhile, on threads of its own.

    Args:
        model: bundled name or file.
        device: as `EngineOptions.device`.
        precision: as `EngineOptions.precision`.
        on_measuring: called before it is measured.
        on_not_remembered: told why what was measured is not remembered, where it is not.
        on_measured: told what was measured, now or before.

    Raises:
        CheckpointError, EngineError: the model or the device cannot be used.
    """
    loaded = open_model(model)
    options = EngineOptions(device=device, precision=cast("Precision", precision))
    tier = fastest(loaded, options, measured_file(), on_measuring=on_measuring, on_not_remembered=on_not_remembered)
    if tier is not None:
        options = tier.over(options)
        on_measured(as_measured(tier))
    return Engine(loaded, options)


def known_speed(model: ModelFile, device: str, precision: str) -> Tier | None:
    """What was measured here of a model before, or None; nothing is measured now.

    Raises:
        EngineError: the device or the precision cannot be had.
    """
    return remembered(model, EngineOptions(device=device, precision=cast("Precision", precision)), measured_file())


def engine_of(model: ModelFile, device: str, precision: str, like: Tier | None = None) -> Engine:
    """The engine of a loaded model, by what was measured of it; nothing is measured now.

    Args:
        model: loaded.
        device: as `EngineOptions.device`.
        precision: as `EngineOptions.precision`.
        like: what was measured of a model of the same kind, for one that was not measured itself; None: what is known
            of the hardware has to do.

    Raises:
        EngineError: the device or the precision cannot be had, or the model gives NaN.
    """
    options = EngineOptions(device=device, precision=cast("Precision", precision))
    tier = known_speed(model, device, precision)
    if tier is None and like is not None and like.best.way in ways(model, options):
        tier = like
    return Engine(model, options if tier is None else tier.over(options))


def measure_again(model: str, device: str, precision: str, progress: Callable[[float, Way | None], None]) -> Measured:
    """Measure at leisure what runs a model best here, and remember it. Blocks.

    Args:
        model: bundled name or file.
        device: as `EngineOptions.device`; only what is `auto` is chosen.
        precision: as `EngineOptions.precision`, likewise.
        progress: as of `mcnet.bench.tiers.measure`.

    Raises:
        CheckpointError, EngineError: the model or the device cannot be used, or nothing runs the model.
    """
    loaded = open_model(model)
    options = EngineOptions(device=device, precision=cast("Precision", precision))
    tier = measure(loaded, options, seconds=_MEASURE_S, progress=progress)
    remember(tier, loaded, options, measured_file())
    return as_measured(tier)


def as_measured(tier: Tier, root: Path = Path("/")) -> Measured:
    """What was measured, and the GPUs that are not used, if none is.

    Args:
        tier: what was measured.
        root: where Linux' /proc and /sys lie; tests lay out others.
    """
    return Measured(tier, unused_gpus(root) if tier.best.way.device == "cpu" else ())


def gpus() -> tuple[tuple[str, str], ...]:
    """The GPUs that can be used: as `EngineOptions.device` names them, and for people."""
    numbered = tuple((device, f"GPU {device.partition(':')[2]}: {name}") for device, name in usable_gpus().items())
    return numbered + tuple(other_gpus().items())


def unused_gpus(root: Path = Path("/")) -> tuple[UnusedGpu, ...]:
    """The GPUs that are there and that the engine cannot use.

    Args:
        root: where Linux' /proc and /sys lie; tests lay out others.
    """
    lacks = gpu_lacks()
    cards = [_Card(phrase("a further GPU"))] * len(lacks) if usable_gpus() else _graphics_cards(root)
    return tuple(_unused(card, lack) for card, lack in zip(cards, cycle(lacks), strict=False))


def _unused(card: _Card, lack: str) -> UnusedGpu:
    if card.is_known:
        return UnusedGpu(card.name, lack)
    return UnusedGpu(card.name, phrase("the engine knows those of NVIDIA, Intel and Apple"), usable=False)


def _graphics_cards(root: Path) -> list[_Card]:
    """Those that there are."""
    if sys.platform == "darwin":
        return [_Card(phrase("the Apple GPU"))] if platform.machine() == "arm64" else []
    named = [
        _Card(line.partition(":")[2].strip())
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


def _cards_of_nvidia_smi() -> list[_Card]:
    """Where there is no /proc, as on Windows, NVIDIA's own tool knows."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=10, check=True, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("nvidia-smi does not answer: %s", error)
        return []
    return [_Card(line.strip()) for line in answer.stdout.splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
