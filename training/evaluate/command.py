"""The command `mcnet-train evaluate`: measures a model on held-out clips, prints a table, writes JSON and a sheet."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mcnet.commands.arguments import PRECISIONS, seed, whole_number
from mcnet.commands.outputs import check_outputs
from mcnet.files import replacing
from mcnet.model_card import CONFIG_FILE, MODEL_FILE, README_FILE
from training.data import FILES
from training.evaluate.options import REFERENCES


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on held-out clips",
        description="Measure a model on clips that it has not learned from: self-reenactment (a clip's first frame is "
        "animated by the rest of it) and cross-identity (by somebody else). A model whose keypoints are points of the "
        "face is judged with measured and with detected keypoints, and across people with motion in space (retouched, "
        "as people get it, and by the network alone) and in the picture's plane. Clips are compared, the worst are "
        "named, and the test split's figures stand beside the project's bars. What needs a package or a download that "
        "is not there is left out and named.",
    )
    parser.add_argument("model", help="a bundled name, a .safetensors file, a model's folder or a .pth.tar")
    parser.add_argument("data", type=Path, help="packed dataset or folder of clips")
    parser.add_argument("--split", default="test", help="which clips (default: test)")
    parser.add_argument(
        "--frames-per-clip",
        type=_frames,
        default=5,
        metavar="N",
        help="driving frames of each clip, evenly; all: every frame, as in the paper (default: 5)",
    )
    parser.add_argument(
        "--max-clips", type=whole_number(1), metavar="N", help="at most N clips, different people first"
    )
    parser.add_argument(
        "--cross-pairs",
        type=whole_number(),
        metavar="N",
        help="pairs of people in cross-identity (default: one per clip; 0: none)",
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        default=["first"],
        choices=REFERENCES,
        help="where the performer's motion starts in cross-identity, one or several: the clip's first frame, which is "
        "comparable from model to model as nothing chooses it; its most neutral expression, which the app looks for; "
        "the head turned farthest; the mouth open widest (default: first)",
    )
    parser.add_argument("--seed", type=seed(), default=0, help="of those pairs and of the noise (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the decoder (default: auto; int8 only if it is asked for)",
    )
    parser.add_argument(
        "--paper-landmarks", action="store_true", help="also AKD by face-alignment as in the paper (slow on a CPU)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, pair by pair too")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="write best, median and worst pairs, by each method",
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate, and say what came of it.

    Raises:
        UserError: something given cannot be used.
    """
    _check_places(options)
    # Imported here: `--help` shall not wait for torch, nor `fit` need OpenCV.
    from mcnet.checkpoint import load_model
    from training.evaluate.evaluation import evaluate
    from training.evaluate.options import EvaluateOptions
    from training.evaluate.report import format_table, to_json, write_sheet

    model = load_model(options.model)
    settings = EvaluateOptions(
        split=options.split,
        frames_per_clip=options.frames_per_clip,
        max_clips=options.max_clips,
        cross_pairs=options.cross_pairs,
        references=tuple(dict.fromkeys(options.reference)),
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        paper_landmarks=options.paper_landmarks,
    )
    evaluation = evaluate(model, options.data, settings)
    sys.stdout.write(format_table(evaluation, model.info.name, options.split))
    if options.json:
        with replacing(options.json) as partial:
            partial.write_text(to_json(evaluation, model.info, settings), encoding="utf-8")
    if options.sheet:
        write_sheet(options.sheet, evaluation, model, options.data, settings)
    return 0


def _check_places(options: argparse.Namespace) -> None:
    """Whether the results can be written is known before the work, not after it."""
    files = {"--json": options.json, "--sheet": options.sheet}
    check_outputs(
        {option: path for option, path in files.items() if path is not None},
        {
            "MODEL": Path(options.model),
            "DATA": options.data,
            **{f"MODEL ({name})": Path(options.model) / name for name in (MODEL_FILE, CONFIG_FILE, README_FILE)},
            **{f"DATA ({name})": options.data / name for name in FILES},
        },
        {"--sheet": (".png", ".jpg", ".jpeg")},
    )


def _frames(text: str) -> int | None:
    return None if text == "all" else whole_number(1)(text)
