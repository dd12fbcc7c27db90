"""The words of `mcnet animate`, of which `mcnet inspect` has some, too."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from mcnet.commands import batch, credentials
from mcnet.commands.arguments import PRECISIONS, number, whole_number
from mcnet.commands.jobs import BATCH_OPTIONS
from mcnet.files import as_written


def parse_one(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of one animation, from the words of a command line after `mcnet animate`."""
    parser = argparse.ArgumentParser("mcnet animate", add_help=False)  # nobody reads it there
    add_arguments(parser)
    return parser.parse_args(words)


def ignored(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Which option of one animation would say nothing, and what it goes with; "" where there is none.

    Not those that ask for what is so in any case, as `--no-adapt-scale` does where motion is in space.
    """
    goes_with = {name.replace("-", "_"): "--jobs" for name in BATCH_OPTIONS}
    if args.background != "blur":
        goes_with["background_blur"] = "--background blur"
    for name, other in goes_with.items():
        if getattr(args, name) != parser.get_default(name):
            return f"--{name.replace('_', '-')} goes with {other}"
    return ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--source",
        metavar="IMAGE|NAME",
        help="the portrait to animate: a picture of any usual kind, or a bundled name (woman_1)",
    )
    files.add_argument(
        "--driving",
        type=as_written,
        metavar="VIDEO",
        help="who moves it: a video, a folder of pictures, or a motion file (.safetensors), which has no pictures",
    )
    files.add_argument(
        "--save-motion",
        type=as_written,
        metavar="FILE",
        help="also keep the performer's motion, without pictures, in FILE.safetensors, as --driving plays it",
    )
    files.add_argument(
        "--output",
        type=os.path.expanduser,  # and a slash at its end, which makes it a folder, stays
        metavar="OUT",
        help="OUT.mp4 (H.264), OUT.webm (VP9), OUT.gif, or an empty or new folder for PNGs (a name without suffix); an "
        "older file is replaced",
    )
    files.add_argument(
        "--contact-sheet",
        type=as_written,
        metavar="IMAGE",
        help="also write one picture (PNG or JPEG) of several moments",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="starter",
        help="a bundled name, a .safetensors file, a model's folder or a .pth.tar (default: starter)",
    )
    model.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N (NVIDIA), gpu, gpu:N (Intel) or mps (Apple) (default: auto)",
    )
    model.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the decoder (default: auto)",
    )
    model.add_argument(
        "--backend",
        default="auto",
        choices=["auto", "torch", "openvino"],
        help="what computes (default: auto: what is measured to be fastest here; on a GPU torch, in batches)",
    )
    motion = add_motion_options(parser)
    motion.add_argument(
        "--retouch",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw what the network cannot show into the pictures of motion in space: the portrait's skin, the inside "
        "of a mouth that it keeps shut, lids that shut; --no-retouch leaves them as the network makes them (default: "
        "--retouch)",
    )
    parser.add_argument(
        "--size",
        type=whole_number(64, 2048),
        metavar="PX",
        help="side of the pictures; beyond the model's, the portrait's own detail is moved along (default: twice the "
        "model's, so 512 for the bundled one, where the portrait has the pixels, else the model's)",
    )
    parser.add_argument(
        "--surroundings",
        action="store_true",
        help="show what the portrait's picture shows around the square that is animated, as far as twice its side on "
        "each hand, so that the video has the picture's shape (default: the square alone)",
    )
    motion.add_argument("--side-by-side", action="store_true", help="show portrait and performer beside the result")
    motion.add_argument("--max-frames", type=whole_number(1), metavar="N", help="stop after N frames")
    credentials.add_options(parser)
    add_scene_options(parser)
    batch.add_options(parser)


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Add the group of options for what stands behind the person."""
    scene = parser.add_argument_group("scene", "the person cut out of the portrait, before a background that is still")
    scene.add_argument(
        "--background",
        metavar="KIND|FILE",
        help="own (the portrait's, which then stays still), blur (the same, blurred), green, another colour as "
        "#rrggbb, alpha (transparent; OUT.webm or a folder of PNGs), or a picture or a video (which is repeated) "
        "(default: nothing is cut out, and the portrait's background moves along)",
    )
    scene.add_argument(
        "--background-blur",
        type=number(0, 1),
        default=0.5,
        metavar="STRENGTH",
        help="of --background blur, 0 to 1 (default: 0.5)",
    )


def add_motion_options(parser: argparse.ArgumentParser) -> Any:
    """Add the group of options for motion and framing, which `check_motion`, `load_portrait`, `find_performance` and
    `make_drive` read.
    """
    motion = parser.add_argument_group("motion and framing")
    motion.add_argument(
        "--motion",
        default="auto",
        choices=["auto", "space", "plane"],
        help="space: pose and expression told apart in three dimensions; plane: differences of places in the picture "
        "since the first frame (relative motion of the paper), which wants that frame to look as the portrait does "
        "(default: auto: space for a model whose keypoints can be measured)",
    )
    motion.add_argument(
        "--keypoints",
        default="auto",
        choices=["auto", "measured", "detected"],
        help="measured: by the face mesh at the video's resolution; detected: by the model itself, on 64 px (default: "
        "auto: measured for a model whose keypoints are points of the face, as the starter's)",
    )
    measured_from = motion.add_mutually_exclusive_group()  # --absolute motion is measured from no frame
    measured_from.add_argument(
        "--absolute",
        action="store_true",
        help="give the portrait the performer's keypoints as they are; for a performer who is the portrayed person",
    )
    motion.add_argument(
        "--no-adapt-scale",
        action="store_true",
        help="do not scale motion in the plane by the size of the portrait's face over the performer's",
    )
    measured_from.add_argument(
        "--best-frame",
        action="store_true",
        help="measure motion in the plane from the frame posed most like the portrait, instead of from the first; "
        "motion in space takes the frame of the most neutral expression in any case",
    )
    motion.add_argument(
        "--no-crop", action="store_true", help="take the central square of portrait and video instead of the face"
    )
    return motion
