"""Trains the bundled model: one command that starts, resumes and exports, on whatever device is there.

    python -m training.recipes.starter DATA OUT.safetensors --run-dir RUN --max-minutes 9

Call it again until it says that all steps are done. Each call goes on from RUN's checkpoint. Where that stayed behind
with a machine, `--resume-from MODEL` goes on from the model file of an earlier call: same place in the schedule, fresh
optimiser. A new run begins with the weights of the bundled model. For a machine without network, `--write-backbone
FILE` writes the perceptual backbone's weights beforehand, and `--set loss.backbone_weights=FILE` reads them there. On
cores that others use as well, OMP_NUM_THREADS=1 is several times as fast as threads that wait for one another.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mcnet.checkpoint import CheckpointError, load_model
from mcnet.commands.arguments import number
from mcnet.commands.outputs import check_outputs
from training.__main__ import tell_mistakes
from training.fit.backbones import write_backbone
from training.fit.config import FitConfig, load_config
from training.fit.export import export
from training.fit.journal import STATS
from training.fit.loop import fit
from training.fit.state import CHECKPOINT

ON_A_CPU = (
    "data.frames=memmap",
    "detector.steps=2800",
    "detector.batch=10",
    "motion.steps=1200",
    "motion.batch=8",
    "full.steps=450",
    "full.batch=4",
    "full.warmup_steps=20",
    "optim.ema_decay=0.98",
    "log.every=20",
    "log.sheet_every=200",
    "log.checkpoint_every=50",
)
"""What differs without a GPU: batches and steps that two cores can carry in two hours."""
_EXPORT_MINUTES = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.recipes.starter", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="packed dataset or folder of clips")
    parser.add_argument(
        "out", type=Path, help="model file to write at the end of each call; sheet and statistics beside"
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/starter"), help="folder of the run")
    parser.add_argument("--cache", type=Path, help="where a folder of clips is unpacked")
    parser.add_argument(
        "--max-minutes", type=number(0, 1_000_000), default=9.0, help="of this call, export included (default: 9)"
    )
    parser.add_argument("--resume-from", type=Path, metavar="MODEL", help="go on from the model of an earlier call")
    parser.add_argument("--write-backbone", type=Path, metavar="FILE", help="write the backbone's weights and stop")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return tell_mistakes(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    config = _config(options)
    if options.write_backbone is not None:
        write_backbone(config.loss.backbone, options.write_backbone, config.loss.backbone_weights)
        return 0
    check_outputs({"OUT": options.out}, {}, {"OUT": (".safetensors",)})
    minutes = max(0.0, options.max_minutes - _EXPORT_MINUTES)
    result = fit(config, options.run_dir, max_minutes=minutes, cache=options.cache)
    info = export(options.run_dir, options.out, half=True)
    shutil.copyfile(options.run_dir / STATS, options.out.with_suffix(".stats.jsonl"))
    if sheets := sorted((options.run_dir / "sheets").glob("*.png")):
        shutil.copyfile(sheets[-1], options.out.with_suffix(".png"))
    ending = "all steps are done" if result.reason == "done" else f"stopped ({result.reason}); call again to go on"
    sys.stdout.write(f"{options.out}: {info.name} after {result.step} steps; {ending}\n")
    return 0


def _config(options: argparse.Namespace) -> FitConfig:
    overrides = [] if torch.cuda.is_available() else list(ON_A_CPU)
    overrides += [f"data.path={options.data}", *options.overrides]
    if options.resume_from is not None:
        steps = load_model(options.resume_from).info.training.get("steps")
        if not isinstance(steps, int):
            raise CheckpointError(
                f"{options.resume_from} does not say how many steps it is old: it is no model of a run"
            )
        overrides += [f"run.initial={options.resume_from}", f"run.first_step={steps}"]
    elif not (options.run_dir / CHECKPOINT).is_file():
        logging.getLogger(__name__).info("starting afresh in %s", options.run_dir)
    return load_config("starter", overrides)


if __name__ == "__main__":
    sys.exit(main())
