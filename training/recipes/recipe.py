"""The commands of a recipe: `train` here, `travel` to another machine, `resume` what came back from it."""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mcnet.checkpoint import load_model
from mcnet.commands.arguments import number
from mcnet.commands.outputs import check_outputs
from mcnet.model_file import CheckpointError, ModelInfo
from training.__main__ import tell_mistakes
from training.fit.config import FitConfig, load_config
from training.fit.export import export
from training.fit.journal import STATS, newest_sheet
from training.fit.loop import fit
from training.fit.stages import FitError
from training.fit.state import CHECKPOINT, load_state
from training.recipes import journey

_EXPORT_MINUTES = 0.5
_STATISTICS, _SHEET = "OUT's statistics", "OUT's sheet"


class Recipe(NamedTuple):
    """A whole training.

    Attributes:
        name: of its configuration, one of `training.fit.config.SHIPPED`, and of its module.
        about: what it does, in a line.
        on_a_cpu: changes of its configuration where there is no GPU.
    """

    name: str
    about: str
    on_a_cpu: tuple[str, ...]


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> int:
    """Run a recipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m training.recipes.{recipe.name}", description=recipe.about)
    folder_of_runs = Path("runs") / recipe.name
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    changes = argparse.ArgumentParser(add_help=False)
    changes.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")

    train = commands.add_parser("train", parents=[changes], help="train here; the same command again goes on")
    train.add_argument("data", type=Path, help="packed dataset or folder of clips")
    train.add_argument(
        "out", type=Path, help="model file to write at the end of each call; sheet and statistics beside"
    )
    train.add_argument("--run-dir", type=Path, default=folder_of_runs, help="folder of the run")
    train.add_argument("--cache", type=Path, help="where a folder of clips is unpacked")
    train.add_argument(
        "--max-minutes", type=number(0, 1_000_000), default=9.0, help="of this call, export included (default: 9)"
    )
    train.add_argument("--resume-from", type=Path, metavar="MODEL", help="go on from the model of an earlier call")
    train.set_defaults(run_command=_train)

    travel = commands.add_parser("travel", parents=[changes], help="write a folder that trains on another machine")
    travel.add_argument("folder", type=Path, help="the folder to write")
    travel.add_argument("clips", type=Path, help="folder of clips to learn from")
    travel.add_argument("--weights", default="starter", metavar="MODEL", help="to go on from (default: starter)")
    travel.add_argument("--backbone", type=Path, metavar="FILE", help="weights of the perceptual backbone")
    travel.set_defaults(run_command=_travel)

    resume = commands.add_parser("resume", help="take in what a travelled training left")
    resume.add_argument("back", type=Path, help="the folder out/ that came back")
    resume.add_argument("out", type=Path, help="model file to write; sheet and statistics beside")
    resume.add_argument("--run-dir", type=Path, default=folder_of_runs, help="folder of the run to make")
    resume.set_defaults(run_command=_resume)

    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return tell_mistakes(lambda: options.run_command(recipe, options))


def _train(recipe: Recipe, options: argparse.Namespace) -> int:
    config = _config(recipe, options)
    check_outputs(_written(options.out), {}, {"OUT": (".safetensors",)})
    minutes = max(0.0, options.max_minutes - _EXPORT_MINUTES)
    result = fit(config, options.run_dir, max_minutes=minutes, cache=options.cache)
    info = export(options.run_dir, options.out, half=True)
    beside = _written(options.out)
    shutil.copyfile(options.run_dir / STATS, beside[_STATISTICS])
    if sheet := newest_sheet(options.run_dir, result.step):
        shutil.copyfile(sheet, beside[_SHEET])
    ending = "all steps are done" if result.reason == "done" else f"stopped ({result.reason}); call again to go on"
    sys.stdout.write(f"{options.out}: {info.name} after {result.step} steps; {ending}\n")
    return 0


def _travel(recipe: Recipe, options: argparse.Namespace) -> int:
    parts = journey.pack(
        options.folder, options.clips, options.weights, options.backbone, options.overrides, recipe.name
    )
    told = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in parts.items())
    sys.stdout.write(f"{options.folder}: {sum(parts.values()) / 1e6:.1f} MB ({told}); there: sh run.sh MINUTES\n")
    return 0


def _resume(_: Recipe, options: argparse.Namespace) -> int:
    check_outputs(_written(options.out), {}, {"OUT": (".safetensors",)})
    info = journey.bring_back(options.back, options.run_dir, options.out)
    sys.stdout.write(
        f"{options.out}: {info.name} after {info.training['steps']} steps; {options.run_dir} goes on from there\n"
    )
    return 0


def _written(out: Path) -> dict[str, Path]:
    """The model file and what is written beside it."""
    return {"OUT": out, _STATISTICS: out.with_suffix(".stats.jsonl"), _SHEET: out.with_suffix(".png")}


def _config(recipe: Recipe, options: argparse.Namespace) -> FitConfig:
    overrides = [] if torch.cuda.is_available() else list(recipe.on_a_cpu)
    overrides += [f"data.path={options.data}", *options.overrides]
    if options.resume_from is not None:
        info = load_model(options.resume_from).info
        steps = info.training.get("steps")
        if not isinstance(steps, int):
            raise CheckpointError(
                f"{options.resume_from} does not say how many steps it is old: it is no model of a run"
            )
        _check_begun(options.run_dir, options.resume_from, info)
        overrides += [f"run.initial={options.resume_from}", f"run.first_step={steps}"]
    elif not (options.run_dir / CHECKPOINT).is_file():
        logging.getLogger(__name__).info("starting afresh in %s", options.run_dir)
    return load_config(recipe.name, overrides)


def _check_begun(run: Path, resume_from: Path, info: ModelInfo) -> None:
    """Refuse a model that a run would not go on from, as it has gone further already.

    Raises:
        FitError: the run's folder has a checkpoint, and that did not begin with this model.
    """
    if not (run / CHECKPOINT).is_file():
        return
    begun = load_state(run / CHECKPOINT).facts.get("initial", {})
    if begun.get("content_hash") != info.content_hash:
        raise FitError(
            f"{run} holds a run, which goes on from its own {CHECKPOINT} and not from {resume_from}: leave out "
            "--resume-from to go on with it, or choose another --run-dir to begin with that model"
        )
