"""`mcnet convert`: the authors' checkpoint, or a model of ours, into our format."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "convert",
        help="convert a checkpoint into a .safetensors model",
        description="Convert the authors' released checkpoint (.pth.tar), or a model of ours, into a .safetensors "
        "model. Only tensors are read, never code; the discriminator and the optimizers are left out.",
    )
    parser.add_argument("input", type=Path, metavar="IN", help="a .pth.tar checkpoint or a .safetensors model")
    parser.add_argument("output", type=Path, metavar="OUT", help="the .safetensors file to write")
    parser.add_argument("--name", help="the model's name (default: IN's)")
    parser.add_argument(
        "--half", action="store_true", help="store float16: half the size, computed in float32 all the same"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also measure, on the bundled portraits, where activations lie, and note it: the engine may then compute "
        "the decoder in 8 bits",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and say what came of it."""
    from mcnet.checkpoint import load_model, save_model
    from mcnet.commands.outputs import check_outputs
    from mcnet.model_file import find_model

    check_outputs({"OUT": args.output}, {"IN": find_model(args.input)}, {"OUT": (".safetensors",)})
    model = load_model(args.input)
    if args.name:
        model.info = dataclasses.replace(model.info, name=args.name)
    if args.int8:
        from mcnet.bench.ranges import note_bundled_ranges

        note_bundled_ranges(model)
    info = save_model(model, args.output, half=args.half)
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(
        f"{args.output}: model {info.name}, {millions:.1f} M parameters, {model.config.size_px} px, "
        f"{args.output.stat().st_size / 1e6:.1f} MB, hash {info.content_hash[:12]}"
    )
    return 0
