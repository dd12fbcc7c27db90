"""The command `mcnet-train ablate`: trains the variants of the memory and prints a table."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from mcnet.commands.arguments import number, whole_number
from mcnet.commands.outputs import check_folder
from mcnet.files import claimed
from training.fit.config import FitConfig, load_config

_log = logging.getLogger(__name__)
TABLE = "table.md"


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "ablate",
        help="measure what the memory is for, by leaving it out",
        description="Train one network four times per seed: without memory, with a memory that is the same for "
        "everybody, with one that is conditioned on the source's keypoints (the paper's first draft), and with the "
        "released conditioning. All see the same pairs, and held-out clips tell them apart. What is done is kept: the "
        "same command again goes on.",
    )
    parser.add_argument("--data", type=Path, required=True, help="packed dataset or folder of clips")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder (default: runs/ablation)")
    parser.add_argument(
        "--config", default="ablation", help="a TOML file as for `fit`, with a memory (default: ablation, 64 px)"
    )
    parser.add_argument("--seeds", type=whole_number(1, 100), default=3, help="runs of each variant (default: 3)")
    parser.add_argument(
        "--frames-per-clip",
        type=whole_number(1, 1000),
        default=10,
        metavar="N",
        help="held-out driving frames of each clip (default: 10)",
    )
    parser.add_argument("--max-minutes", type=number(0, 1_000_000), help="save and stop after so long")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as for fit")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> int:
    """Train what is missing, measure it, and print the table.

    Raises:
        UserError: something given cannot be used.
    """
    config = load_config(options.config, options.overrides)
    table = config.to_dict()
    config = FitConfig.from_dict({**table, "data": {**table["data"], "path": str(options.data)}})
    # Imported here: `--help` shall not wait for torch.
    from training.ablate.ablation import CONFIG, RESULTS, AblationError, ablate
    from training.ablate.report import format_table

    if options.out.exists():
        check_folder("--out", options.out, (TABLE, RESULTS, CONFIG), {"--data": options.data})
    options.out.mkdir(parents=True, exist_ok=True)
    with claimed(options.out / RESULTS) as alone:
        if not alone:
            raise AblationError(f"another call is at work in {options.out}: wait for it, or choose another --out")
        ablation = ablate(
            config,
            options.out,
            seeds=options.seeds,
            frames_per_clip=options.frames_per_clip,
            max_minutes=options.max_minutes,
            say=_log.info,
        )
    text = format_table(ablation)
    (options.out / TABLE).write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0
