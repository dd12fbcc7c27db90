"""Trains the variants of one network under one budget and measures them; what is done is not done again."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mcnet.bench.macs import count_macs
from mcnet.checkpoint import build, save_model
from mcnet.errors import UserError
from mcnet.files import replacing
from mcnet.generator import Mcnet
from mcnet.layers import AntiAlias
from mcnet.model_file import CheckpointError, ModelInfo
from mcnet.pictures import to_picture, to_rgb
from training.ablate.held_out import check_held_out, figures
from training.ablate.variants import VARIANTS, member, with_memory
from training.data import (
    CLIP,
    PACKED_FORMAT,
    ClipTable,
    Dataset,
    open_dataset,
    open_or_pack,
    state_of_files,
    table_of,
    write_landmarks,
    write_table,
)
from training.fit.config import STAGES, FitConfig, differences
from training.fit.loop import fit
from training.fit.stages import in_steps
from training.fit.state import CHECKPOINT, load_state

RESULTS, CONFIG = "ablation.json", "config.json"
_FIGURES = "figures.json"
_CLOCK = "minutes.json"
_SHRUNK_FROM = "shrunk_from"
_CHUNK = 64
"""Frames that are shrunk at a time."""
_log = logging.getLogger(__name__)


class AblationError(UserError, ValueError):
    """An ablation that cannot be made; the message says what was found and what was expected."""


class Member(NamedTuple):
    """A trained and measured variant.

    Attributes:
        variant: its name.
        seed: of its run.
        minutes: that its own stage took, of all calls together.
        figures: of `held_out.figures`.
    """

    variant: str
    seed: int
    minutes: float
    figures: dict[str, float]


class Size(NamedTuple):
    """What a variant costs.

    Attributes:
        parameters: in millions.
        gmac: 10^9 multiply-accumulates per frame of the network as it is written down.
        rewritten_gmac: the same after the engine's exact rewrites.
    """

    parameters: float
    gmac: float
    rewritten_gmac: float


class Ablation(NamedTuple):
    """What came of it.

    Attributes:
        members: those that are done, by variant and then by seed.
        sizes: of each variant.
        budget: what every member was given, for people and JSON.
        missing: members that are not done; the same call again goes on with them.
    """

    members: list[Member]
    sizes: dict[str, Size]
    budget: dict[str, Any]
    missing: int


def ablate(
    config: FitConfig,
    out: Path,
    *,
    seeds: int,
    frames_per_clip: int,
    max_minutes: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Ablation:
    """Train every variant with every seed, and measure each by the same held-out pairs.

    The stages before the last know no memory: they are trained once for each seed, and all variants begin with what
    came of them. In the last stage all members of a seed see the same pairs in the same order with the same random
    changes, and begin with the same weights wherever they have the same tensors. Seeds are done one after another, so
    that what is there at any time compares all variants.

    Args:
        config: of all of them, with a memory; `data.path` filled in.
        out: folder of the ablation: a run's folder for each member.
        seeds: how many, from the configuration's own on.
        frames_per_clip: held-out driving frames.
        max_minutes: of this call, after which it stops with what there is; None: when all is done.
        say: told in a sentence what is being done.

    Raises:
        AblationError: the network has no memory to leave out, the configuration has other weights to begin with or no
            last stage, or the folder is of another ablation.
        DataError, FitError, StateError, CheckpointError: as `fit`.
    """
    if not config.model.memory.levels_px:
        raise AblationError("model.memory.levels_px is empty, expected levels that a memory compensates: it is ablated")
    if config.run.initial:
        raise AblationError(f"run.initial is {config.run.initial}, expected none: its memory would come along")
    if not config.full.runs:
        raise AblationError(
            "full.steps and full.epochs are 0, expected those of the stage in which the variants differ"
        )
    started = time.monotonic()
    check_held_out(Path(config.data.path), table_of(Path(config.data.path)).clips, config.data.held_out_split)
    out.mkdir(parents=True, exist_ok=True)
    dataset = shrunk(open_or_pack(Path(config.data.path), out / "packed"), config.model.size_px, out / "frames")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(dataset.folder)))
    config = in_steps(config, dataset.clips)
    _check_same(out, config, dataset, frames_per_clip)
    check_held_out(dataset.folder, dataset.clips, config.data.held_out_split)  # again: some clips may be left out
    done: list[Member] = []
    wanted = [(variant, config.run.seed + number) for number in range(seeds) for variant in VARIANTS]
    for variant, seed in wanted:
        left = None if max_minutes is None else max_minutes - (time.monotonic() - started) / 60
        folder = out / variant.name / f"seed-{seed}"
        if not (folder / _FIGURES).is_file() and (left is None or left > 0):
            initial = _first_weights(config, seed, out, left, say)
            if initial is None:
                break  # told to stop
            say(f"{variant.label}, seed {seed}")
            left = None if max_minutes is None else max_minutes - (time.monotonic() - started) / 60
            if not _train(member(config, variant.name, seed, str(initial)), folder, left, dataset, frames_per_clip):
                break
        if (folder / _FIGURES).is_file():
            done.append(_read_member(folder / _FIGURES, variant.name, seed))
    sizes = {variant.name: _size(config, variant.name) for variant in VARIANTS}
    budget = {
        "steps": config.full.steps,
        "batch": config.full.batch,
        "pairs": config.full.steps * config.full.batch,
        "size_px": config.model.size_px,
        "seeds": seeds,
        "held_out_clips": _count(dataset, config.data.held_out_split),
        "frames_per_clip": frames_per_clip,
        "training_clips": _count(dataset, config.data.split),
        "threads": torch.get_num_threads(),
        "device": config.run.device,
        "shared_steps": config.detector.steps + config.motion.steps,
        "minutes": sum(
            float(json.loads(clock.read_text(encoding="utf-8"))) for clock in sorted(out.glob(f"*/*/{_CLOCK}"))
        ),
    }
    order = [variant.name for variant in VARIANTS]
    done.sort(key=lambda each: (order.index(each.variant), each.seed))
    result = Ablation(done, sizes, budget, len(wanted) - len(done))
    _write_json(out / RESULTS, to_dict(result))
    return result


def to_dict(ablation: Ablation) -> dict[str, Any]:
    """Plain values, ready for JSON."""
    return {
        "format": "mcnet-ablation/1",
        "budget": ablation.budget,
        "missing": ablation.missing,
        "variants": {name: size._asdict() for name, size in ablation.sizes.items()},
        "members": [each._asdict() for each in ablation.members],
    }


def shrunk(dataset: Dataset, size_px: int, folder: Path) -> Dataset:
    """The dataset with smaller pictures, made by the same filter that shrinks pictures for the keypoint detector.

    Args:
        dataset: with pictures of a multiple of the size.
        size_px: wanted.
        folder: where they are written, unless that was done before from this very dataset.

    Raises:
        AblationError: the pictures are no multiple of the size.
        OSError: it cannot be written.
    """
    factor, rest = divmod(dataset.size_px, size_px)
    if rest or not factor:
        raise AblationError(
            f"the data has pictures of {dataset.size_px} px, expected a multiple of model.size_px, {size_px}"
        )
    if factor == 1:
        return dataset
    stamp, mark = _stamp(dataset, size_px), folder / _SHRUNK_FROM
    if (folder / "dataset.json").is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == stamp:
        return open_dataset(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    shrink = AntiAlias(3, factor)
    with (folder / "frames.u8").open("wb") as file:
        for start in range(0, len(dataset.frames), _CHUNK):
            frames = torch.from_numpy(np.array(dataset.frames[start : start + _CHUNK]))
            file.write(to_rgb(shrink(to_picture(frames))).numpy().tobytes())
    write_landmarks(folder / "landmarks.npz", dataset.landmarks)
    mark.write_text(stamp, encoding="utf-8")
    write_table(folder / "dataset.json", PACKED_FORMAT, ClipTable(size_px, dataset.clips))  # last: it makes a dataset
    return open_dataset(folder)


def _stamp(dataset: Dataset, size_px: int) -> str:
    """Tells what is shrunk: its table, its landmarks, and by size and time its frames, which are too many to read."""
    digest = hashlib.sha256(f"{size_px} {state_of_files(dataset.folder, ['frames.u8'])}\n".encode())
    for name in ("dataset.json", "landmarks.npz"):
        digest.update((dataset.folder / name).read_bytes())
    return digest.hexdigest()


def _train(config: FitConfig, folder: Path, minutes: float | None, dataset: Dataset, frames_per_clip: int) -> bool:
    """Train a member, going on where it was, and measure it; whether it is done."""
    model = _fitted(config, folder, minutes)
    if model is None:
        return False
    measured = figures(model, dataset, config.data.held_out_split, frames_per_clip)
    _write_json(
        folder / _FIGURES, {"minutes": json.loads((folder / _CLOCK).read_text(encoding="utf-8")), "figures": measured}
    )
    _log.info("%s: %s", folder, ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    return True


def _fitted(config: FitConfig, folder: Path, minutes: float | None) -> Mcnet | None:
    """The averaged network of a run, which goes on where it was; None if it was told to stop before its end."""
    clock = folder / _CLOCK
    before = float(json.loads(clock.read_text(encoding="utf-8"))) if clock.is_file() else 0.0
    began = time.monotonic()
    result = fit(config, folder, max_minutes=minutes)
    _write_json(clock, before + (time.monotonic() - began) / 60)
    if result.reason != "done":
        return None
    return build(config.model, load_state(folder / CHECKPOINT).ema, str(folder / CHECKPOINT))


def _read_member(path: Path, variant: str, seed: int) -> Member:
    values = json.loads(path.read_text(encoding="utf-8"))
    return Member(variant, seed, values["minutes"], values["figures"])


def _first_weights(
    config: FitConfig, seed: int, out: Path, minutes: float | None, say: Callable[[str], None]
) -> Path | None:
    """A file with the weights that a seed's members begin with, made by the stages that know no memory.

    It is of the largest variant, whose tensors the others have as well. None: it was told to stop.
    """
    path = out / "shared" / f"seed-{seed}.safetensors"
    if path.is_file():
        return path
    shared = member(config, VARIANTS[-1].name, seed, "")
    if config.detector.runs or config.motion.runs:
        say(f"what all variants share, seed {seed}")
        shared = dataclasses.replace(shared, full=dataclasses.replace(shared.full, steps=0))
        model = _fitted(shared, out / "shared" / f"seed-{seed}", minutes)
        if model is None:
            return None
    else:
        torch.manual_seed(seed)
        model = Mcnet(shared.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.info = ModelInfo(name=path.stem)
    save_model(model, path)
    return path


def _count(dataset: Dataset, split: str) -> int:
    """Clips of a split in which somebody moves."""
    return sum(clip.split == split and clip.kind == CLIP and clip.frames > 1 for clip in dataset.clips)


def _size(config: FitConfig, variant: str) -> Size:
    macs = count_macs(with_memory(config.model, variant))
    return Size(macs.parameters, macs.plain.total, macs.rewritten.total)


def _check_same(out: Path, config: FitConfig, dataset: Dataset, frames_per_clip: int) -> None:
    """Refuse to mix the members of two ablations; note what this one is."""
    table = config.to_dict()
    del table["data"]["path"]
    now = {**table, "ablation": {"frames_per_clip": frames_per_clip, "data": dataset.fingerprint}}
    path = out / CONFIG
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if epochs := [name for name in STAGES if before.get(name, {}).get("epochs")]:
            raise AblationError(
                f"{out} is of an earlier version, whose stages went by epochs ({epochs[0]}.epochs); "
                "they go by steps now: use another --out"
            )
        changed = differences(before, now)
        if changed:
            raise AblationError(
                f"{out} is of another ablation: {'; '.join(map(str, changed[:5]))}. Use another --out, "
                "or the same values"
            )
    else:
        _write_json(path, now)


def _write_json(path: Path, values: Any) -> None:
    try:
        with replacing(path) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
