"""The `mcnet-train` command."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mcnet
from mcnet.commands.arguments import number, whole_number
from mcnet.commands.outputs import check_apart, check_outputs
from mcnet.config import ConfigError
from mcnet.errors import UserError, is_out_of_memory, told
from mcnet.packages import told_missing
from mcnet.streams import steady_streams
from training.ablate import command as ablate
from training.data import pack
from training.evaluate import command as evaluate
from training.fit.config import SHIPPED, FitConfig, format_config, load_config
from training.prepare import command as prepare
from training.prepare import relabel, shards


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    steady_streams()
    parser = build_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return tell_mistakes(lambda: options.run_command(options))


def tell_mistakes(run: Callable[[], int]) -> int:
    """Run a command; what its user can mend is told in a sentence, with exit status 2."""
    try:
        return run()
    except UserError as error:
        sys.stderr.write(f"mcnet-train: {error}\n")
        return 2
    except ModuleNotFoundError as error:
        sys.stderr.write(f"mcnet-train: {told_missing(error)}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"mcnet-train: {told(error)}; what was saved before is kept\n")
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        logging.getLogger(__name__).debug("from where it came", exc_info=True)
        sys.stderr.write(
            "mcnet-train: there is not enough memory: close other programs, or take smaller batches (such as --set "
            "full.batch=2 of fit) or a smaller network; what was saved before is kept\n"
        )
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports nothing heavy."""
    parser = argparse.ArgumentParser(prog="mcnet-train", description="Train MCNet models.")
    parser.add_argument("--version", action="version", version=f"mcnet-train {mcnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare.add_parser(commands)
    relabel.add_parser(commands)

    fit = commands.add_parser(
        "fit",
        help="train; the same command again resumes",
        description="Train a model. The same command again resumes. SIGTERM and Ctrl-C save first.",
    )
    fit.add_argument("config", help=f"{', '.join(SHIPPED)}, or a TOML file")
    # Not plain --run: torchrun would take that for its own --run-path.
    fit.add_argument("--run-dir", type=Path, help="folder of the run (default: runs/CONFIG)")
    fit.add_argument("--data", type=Path, help="packed dataset or folder of clips; sets data.path")
    fit.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as loss.l1=2.0")
    fit.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    fit.add_argument("--max-minutes", type=number(0, 1_000_000), help="save and stop after so long, set-up included")
    fit.add_argument(
        "--cache", type=Path, help="where a folder of clips is unpacked (default: inside the run's folder)"
    )
    fit.add_argument(
        "--profile",
        type=whole_number(1, 100_000),
        metavar="N",
        help="print where N steps of each stage spend their time, and save nothing",
    )
    fit.set_defaults(run_command=_fit)

    export = commands.add_parser(
        "export",
        help="write a run's model file, or a folder with its card",
        description="Write a run's averaged weights as a model file; or as a folder that model hubs know, with "
        "config.json, README.md, the licence of the data, figures and a sheet.",
    )
    export.add_argument("run", type=Path, help="folder of the run")
    export.add_argument("out", type=Path, help="model file to write (.safetensors), or a folder")
    export.add_argument("--name", default="", help="the model's name (default: the file's or folder's)")
    export.add_argument("--half", action="store_true", help="store float16: half the size")
    export.add_argument(
        "--figures", type=Path, metavar="JSON", help="what `evaluate --json` wrote of these weights, for the card"
    )
    export.add_argument(
        "--sheet", type=Path, metavar="PNG", help="a sheet for the folder (default: the run's newest sample sheet)"
    )
    export.set_defaults(run_command=_export)

    packing = commands.add_parser(
        "pack", help="decode a folder of clips", description="Decode a folder of clips into a packed dataset."
    )
    packing.add_argument("clips", type=Path, help="folder with clips.json and landmarks.npz")
    packing.add_argument("out", type=Path, help="folder of the packed dataset")
    packing.set_defaults(run_command=_pack)
    evaluate.add_parser(commands)
    ablate.add_parser(commands)
    shards.add_parser(commands)
    return parser


def _fit(options: argparse.Namespace) -> int:
    overrides = list(options.overrides)
    config = load_config(options.config, overrides)
    if options.data is not None:
        config = FitConfig.from_dict(
            {**config.to_dict(), "data": {**config.to_dict()["data"], "path": str(options.data)}}
        )
    if options.dry_run:
        sys.stdout.write(format_config(config))
        return 0
    if not config.data.path:
        raise ConfigError("data.path is empty: give --data FOLDER")
    from training.fit.loop import fit, profile

    run = options.run_dir or Path("runs") / Path(options.config).stem
    if options.profile is not None:
        for stage in profile(config, run, options.profile, cache=options.cache):
            sys.stdout.write(f"{stage.table}\n\n")
        return 0
    result = fit(config, run, max_minutes=options.max_minutes, cache=options.cache)
    if result.reason in signal.Signals.__members__:
        return 128 + signal.Signals[result.reason]
    return 0


def _export(options: argparse.Namespace) -> int:
    from training.fit.export import export

    read = {"RUN": options.run, "--figures": options.figures, "--sheet": options.sheet}
    inputs = {name: path for name, path in read.items() if path is not None}
    if options.out.suffix.lower() == ".safetensors":
        check_outputs({"OUT": options.out}, inputs)
    else:
        check_apart({"OUT": options.out}, inputs)
    info = export(
        options.run,
        options.out,
        name=options.name,
        half=options.half,
        evaluation=None if options.figures is None else _read_figures(options.figures),
        sheet=options.sheet,
    )
    sys.stdout.write(f"wrote {options.out}: {info.name}, {info.training['steps']} steps, {info.content_hash[:12]}\n")
    from mcnet.model_card import fit_to_show

    for part, whose in (
        ("data", "the"),
        ("initial", "the initial model's"),
        ("teacher", "the teacher's"),
    ):
        licences = info.training.get(part, {}).get("licences", {})  # runs of before did not note them
        if licences:
            told = ", ".join(
                fit_to_show(licence) + (f" ({clips} clip{'s' * (clips != 1)})" if clips else "")
                for licence, clips in licences.items()
            )
            sys.stdout.write(f"licences of {whose} data: {told}\n")
    return 0


def _read_figures(path: Path) -> dict[str, Any]:
    """What a card has of an evaluation, and the hash of the weights that it is of."""
    from mcnet.model_card import CardError, summary_of

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of a text that is none, or is nested too deep
        raise CardError(
            f"{path} holds no figures: it is no JSON; give what `mcnet-train evaluate --json` wrote"
        ) from error
    try:
        return {**summary_of(values), "content_hash": str(values["model"]["content_hash"])}
    except (CardError, KeyError, TypeError) as error:
        raise CardError(f"{path}: {error}") from error


def _pack(options: argparse.Namespace) -> int:
    report = pack(options.clips, options.out)
    for reason in report.skipped:
        sys.stdout.write(f"left out: {reason}\n")
    sys.stdout.write(f"packed {report.clips} clips, {report.frames} frames into {options.out}\n")
    if not report.skipped:
        return 0
    sys.stderr.write(
        f"mcnet-train: {len(report.skipped)} of {report.clips + len(report.skipped)} clips are left out, as told above "
        f"and in {options.out / 'dataset.json'}: mend or remove them, and pack again\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
