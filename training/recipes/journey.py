"""A training that travels to a machine on which nothing can be installed, and comes back.

`pack` writes a folder: code, small data, weights, backbone, and `run.sh MINUTES`, which needs Python with torch, NumPy
and OpenCV. There, `run` measures what the machine can do, gives each stage the steps that its share of the minutes
allows, trains, and leaves in `out/`:

    model_STAGE.safetensors   a model file for each stage, float16
    state/                    the checkpoint in pieces, with their hashes
    sheet.png                 what the last weights make of held-out pairs
    profile.txt, stats.jsonl, log.txt, config.toml

`bring_back` makes a run's folder of it again. No file of either way is larger than 16 MB.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from mcnet.errors import UserError
from mcnet.files import followed, free_name
from mcnet.generator import Mcnet
from mcnet.model_file import ModelInfo
from training.fit.config import STAGES, FitConfig, StageConfig, format_config, load_config

_log = logging.getLogger(__name__)
LARGEST_FOLDER = 55_000_000
"""Bytes that may travel."""
LARGEST_FILE = 16_000_000
"""Bytes of one file that comes back."""
_PIECE = 15_000_000
PROFILED_STEPS = 20
ON_A_CPU = ("data.frames=memmap", "detector.batch=10", "motion.batch=8", "full.batch=4")
"""Batches that a CPU can carry."""
_SHARES = {"detector": 0.2, "motion": 0.2, "full": 0.6}
"""Of the minutes, for the stages that a configuration has."""
_AT_THE_END, _AT_THE_END_S = 0.06, 15.0
"""Share of the minutes, kept for the last sheet, the model files and the state; and seconds that suffice a GPU."""
_FASTER = 2
"""The last stage may have so many times as many steps as the profile promises, if there is time for them."""
_PROFILE_SHARE = 0.15
"""Share of the minutes that profiling may take at the most."""
_CONFIG, _TEACHER = "travel.toml", "teacher.safetensors"
_PARTS = frozenset(
    ("mcnet", "training", "assets", "data", "weights.safetensors", _TEACHER, "backbone.pt", _CONFIG, "run.sh")
)
"""What a folder has that was packed, and nothing else."""
_RUN = """#!/bin/sh
# usage: sh run.sh MINUTES
# Needs Python with torch, NumPy and OpenCV; PYTHON chooses it. Leaves all that it makes in out/, and when it is called
# again in out-2/ and so on.
set -eu
cd "$(dirname "$0")"
export PYTHONPATH=.
exec "${PYTHON:-python3}" -m training.recipes.there . "$@"
"""


class JourneyError(UserError, RuntimeError):
    """A folder that cannot travel or come back; the message says why and what to do."""


def pack(
    folder: Path,
    clips: Path,
    weights: str,
    backbone: Path | None,
    overrides: Sequence[str] = (),
    recipe: str = "starter",
) -> dict[str, int]:
    """Write the folder that travels.

    Args:
        folder: that is made; an earlier journey in it is replaced, if nothing else is there.
        clips: a folder of clips.
        weights: model, by name or file, from which the training goes on.
        backbone: file of the perceptual backbone's weights; None: where it usually has them.
        overrides: changes of the configuration.
        recipe: name of the configuration.

    Returns:
        Bytes of each part: code, data, weights, backbone.

    Raises:
        DataError, FitError, CheckpointError, BackboneError, ConfigError: something given cannot be used.
        JourneyError: the folder holds something else, or what is read, and is as it was; or it is larger than what may
            travel: what was written stays there, to be looked at.
    """
    from mcnet.checkpoint import load_model, save_model
    from training.fit.backbones import write_backbone
    from training.fit.loop import check_data, load_teacher
    from training.prepare.small import shrink_clips

    model = load_model(weights)
    config = load_config(
        recipe,
        [
            "data.path=data",
            "run.initial=weights.safetensors",
            "loss.backbone_weights=backbone.pt",
            "log.tensorboard=false",
            *overrides,
        ],
    )
    _check_free(
        folder,
        [
            clips,
            Path(weights),
            *([] if backbone is None else [backbone]),
            *([Path(config.run.teacher)] if config.run.teacher else []),
        ],
    )
    check_data(config, clips)
    teacher = load_teacher(config)
    if teacher is not None:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, teacher=_TEACHER))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _CONFIG).write_text(format_config(config), encoding="utf-8")  # first: it tells that all is ours
    _copy_code(folder)
    write_backbone(config.loss.backbone, folder / "backbone.pt", "" if backbone is None else str(backbone))
    report = shrink_clips(clips, folder / "data")
    for reason in report.skipped:
        _log.warning("left out: %s", reason)
    save_model(model, folder / "weights.safetensors", half=True)
    if teacher is not None:
        save_model(teacher, folder / _TEACHER, half=True)
    (folder / "run.sh").write_text(_RUN, encoding="utf-8")
    parts = {
        "code": _bytes(folder / "mcnet") + _bytes(folder / "training") + _bytes(folder / "assets"),
        "data": _bytes(folder / "data"),
        "weights": _bytes(folder / "weights.safetensors") + (0 if teacher is None else _bytes(folder / _TEACHER)),
        "backbone": _bytes(folder / "backbone.pt"),
    }
    total = _bytes(folder)
    if total > LARGEST_FOLDER:
        told = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in parts.items())
        raise JourneyError(
            f"{folder} has {total / 1e6:.1f} MB ({told}), expected at most {LARGEST_FOLDER / 1e6:.0f}: leave out clips"
        )
    return parts


def _check_free(folder: Path, inputs: Sequence[Path]) -> None:
    """See that nothing is lost if a folder is made anew.

    Raises:
        JourneyError: it holds what no journey has, such as what a training left there, or what is to be read.
    """
    if folder.exists() and not folder.is_dir():
        raise JourneyError(f"{folder} is a file, expected an empty folder or a new name")
    found = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if found and (others := found if _CONFIG not in found else found - _PARTS):
        raise JourneyError(
            f"{folder} holds something else than a journey, such as {min(others)}: choose an empty folder, or put that "
            "away"
        )
    for path in inputs:
        if path.exists() and followed(path).is_relative_to(followed(folder)):
            raise JourneyError(f"{folder} is made anew, and {path}, which is read, lies in it: choose another folder")


def _copy_code(folder: Path) -> None:
    """The packages that train; of assets only the module, since models and pictures are large."""
    for package, patterns in (("mcnet", ("*.py",)), ("training", ("*.py", "*.toml")), ("assets", ("__init__.py",))):
        root = Path(str(resources.files(package)))
        for pattern in patterns:
            for file in sorted(root.rglob(pattern)):
                copied = folder / package / file.relative_to(root)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copied)


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def run(folder: Path, minutes: float) -> None:
    """Train for so long on whatever is there, everything included; leaves `out/`.

    Called again, it goes on from the newest model of the calls before, and leaves `out-2/` and so on beside theirs.

    Raises:
        UserError: of any kind: something cannot be used.
    """
    from training.data import table_of
    from training.fit.journal import newest_sheet
    from training.fit.loop import fit, profile
    from training.fit.stages import in_steps
    from training.fit.state import CHECKPOINT

    started = time.monotonic()
    before = sorted(folder.glob("out*/model_*.safetensors"), key=lambda path: path.stat().st_mtime)
    weights = before[-1] if before else folder / "weights.safetensors"
    out, work = free_name(folder / "out"), free_name(folder / "run")
    out.mkdir()
    handler = logging.FileHandler(out / "log.txt")
    handler.setFormatter(logging.Formatter("%(relativeCreated)9.0f ms  %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        gpu = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if gpu else f"a CPU with {torch.get_num_threads()} threads"
        _log.info("%.1f minutes from %s on %s, torch %s", minutes, weights.relative_to(folder), name, torch.__version__)
        here = [] if gpu else list(ON_A_CPU)
        here += [f"data.path={folder / 'data'}", f"run.initial={weights}"]
        here += [f"loss.backbone_weights={folder / 'backbone.pt'}"]
        if (folder / _TEACHER).is_file():
            here += [f"run.teacher={folder / _TEACHER}"]
        config = in_steps(load_config(folder / _CONFIG, here), table_of(folder / "data").clips)
        limit_s = 60 * minutes * _PROFILE_SHARE / len(STAGES)
        profiles = profile(config, work, PROFILED_STEPS, cache=folder / "frames", limit_s=limit_s)
        (out / "profile.txt").write_text("\n\n".join(each.table for each in profiles) + "\n", encoding="utf-8")
        kept_s = min(60 * minutes * _AT_THE_END, _AT_THE_END_S if gpu else math.inf)
        left_s = 60 * minutes - kept_s - (time.monotonic() - started)
        config = scheduled(config, {each.stage: each.step_ms / 1000 for each in profiles}, left_s)
        _log.info("%s", ", ".join(f"{stage}: {getattr(config, stage).steps} steps" for stage in STAGES))
        result = fit(
            config,
            work,
            max_minutes=left_s / 60,
            cache=folder / "frames",
            after_stage=functools.partial(_save_stage, out),
        )
        _split(work / CHECKPOINT, out / "state")
        for file in ("stats.jsonl", "config.toml"):
            shutil.copyfile(work / file, out / file)
        if sheet := newest_sheet(work, result.step):
            shutil.copyfile(sheet, out / "sheet.png")
        _log.info("done after %.1f s; all is in %s", time.monotonic() - started, out)
    except BaseException:
        _log.exception("ended before its end")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def scheduled(config: FitConfig, step_s: dict[str, float], seconds: float) -> FitConfig:
    """The configuration with as many steps as fit into the seconds, each stage in its share.

    The last stage takes what is left of its time by the clock, and its rate falls by it: a machine is never as fast in
    the run as it was in the profile.

    Args:
        config: its stages without steps stay so, and none goes by epochs.
        step_s: seconds per step of each stage that has steps.
        seconds: that training may take.
    """
    every = sum(_SHARES[name] for name in step_s)
    changes: dict[str, Any] = {}
    for name, cost_s in step_s.items():
        stage: StageConfig = getattr(config, name)
        steps = max(1, int(max(seconds, 0) * _SHARES[name] / every / cost_s))
        changes[name] = dataclasses.replace(
            stage, steps=steps, epochs=0, warmup_steps=min(stage.warmup_steps, steps // 10)
        )
    least = min(change.steps for change in changes.values())
    # An average over a tenth of the shortest stage, that of the configuration at the longest.
    decay = min(config.optim.ema_decay, max(0.0, 1 - 10 / least))
    whole = sum(change.steps for change in changes.values())
    loss = config.loss
    if "full" in changes and config.full.steps:  # discriminators join after the same share of their stage
        after = round(loss.gan_after * changes["full"].steps / config.full.steps)
        loss = dataclasses.replace(loss, gan_after=after)
    last, planned = list(changes.items())[-1]
    changes[last] = dataclasses.replace(planned, steps=_FASTER * planned.steps, decay_by="time")
    log = dataclasses.replace(
        config.log,
        every=max(1, min(config.log.every, least // 4)),
        sheet_every=max(1, whole // 3),
        checkpoint_every=max(config.log.checkpoint_every, whole),
    )
    optim = dataclasses.replace(config.optim, ema_decay=decay)
    return dataclasses.replace(config, **changes, loss=loss, optim=optim, log=log)


def _save_stage(out: Path, stage: str, model: Mcnet, card: dict[str, Any]) -> None:
    """A model that can be driven, and gone on with, by itself: its card says what its keypoints are."""
    from mcnet.checkpoint import save_model

    written = copy.deepcopy(model).cpu().float()
    written.info = ModelInfo(name=f"model_{stage}", training=card)
    path = out / f"model_{stage}.safetensors"
    save_model(written, path, half=True)
    size = path.stat().st_size
    if size >= LARGEST_FILE:
        _log.warning("%s has %.1f MB, more than the %.0f that a file may have", path, size / 1e6, LARGEST_FILE / 1e6)


def _split(path: Path, out: Path) -> None:
    """Cut a file into pieces, with a list of their hashes."""
    out.mkdir()
    hashes: dict[str, str] = {}
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            name = f"{path.name}.{len(hashes):03d}"
            (out / name).write_bytes(piece)
            hashes[name] = hashlib.sha256(piece).hexdigest()
    (out / "pieces.json").write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


def _join(pieces: Path, path: Path) -> None:
    try:
        hashes: dict[str, str] = dict(json.loads((pieces / "pieces.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise JourneyError(f"{pieces} holds no state that came back: {error}; fetch it again") from error
    if not hashes:
        raise JourneyError(f"{pieces} holds no state that came back: its list is empty; fetch it again")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            for name, expected in hashes.items():
                piece = (pieces / name).read_bytes() if (pieces / name).is_file() else b""
                got = hashlib.sha256(piece).hexdigest()
                if got != expected:
                    what = f"hash {got[:12]}, expected {str(expected)[:12]}" if piece else "nothing there"
                    raise JourneyError(f"{pieces / name}: got {what}; fetch it again")
                file.write(piece)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def bring_back(folder: Path, run_dir: Path, out: Path) -> ModelInfo:
    """Make a run's folder of what came back, from which `fit` goes on, and a model file.

    Args:
        folder: `out` of the journey.
        run_dir: a folder that is made; it must not hold a run.
        out: the model file; the sheet and the statistics go beside it.

    Returns:
        What the model file's header says.

    Raises:
        JourneyError: something is missing or damaged, or the place is taken.
        StateError, CheckpointError, QuantizationError: the state is not what can be exported.
    """
    from training.fit.export import export
    from training.fit.state import CHECKPOINT

    if (run_dir / CHECKPOINT).exists():
        raise JourneyError(
            f"{run_dir} already holds a run: choose another folder, or write that one's model by mcnet-train export"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    _join(folder / "state", run_dir / CHECKPOINT)
    for name, place in (
        ("stats.jsonl", run_dir / "stats.jsonl"),
        ("config.toml", run_dir / "config.toml"),
        ("stats.jsonl", out.with_suffix(".stats.jsonl")),
        ("sheet.png", out.with_suffix(".png")),
    ):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, place)
    return export(run_dir, out, half=True)


def main_there(arguments: Sequence[str]) -> int:
    """What `run.sh` calls: the folder, and the minutes."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        folder, minutes = Path(arguments[0]), float(arguments[1])
        if not 0 < minutes < math.inf:
            raise ValueError(minutes)
    except (IndexError, ValueError):
        sys.stderr.write("usage: sh run.sh MINUTES\n")
        return 2
    try:
        run(folder.resolve(), minutes)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:  # nothing may be written there, or there is no room
        sys.stderr.write(f"{error}; what was saved before is kept\n")
        return 2
    return 0
