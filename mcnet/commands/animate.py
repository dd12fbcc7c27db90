"""`mcnet animate`: a portrait moved by a video, from file to file."""

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcnet.commands.errors import INTERRUPTED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mcnet.engine import Engine
    from mcnet.media.crop import SquareBox
    from mcnet.media.faces import Face
    from mcnet.media.video import DrivingVideo, VideoWriter

    Rgb = NDArray[np.uint8]

SHEET_MOMENTS = 6


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "animate",
        help="animate a portrait by a video of somebody's face",
        description="Animate a portrait by a video of somebody's face. The face is found and cropped in both. By "
        "default the portrait moves as the driver moved since the first frame (relative motion), scaled to its own "
        "size, so that it keeps its own face. Sound is carried over.",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--source", type=Path, required=True, metavar="IMAGE", help="the portrait to animate")
    files.add_argument(
        "--driving", type=Path, required=True, metavar="VIDEO", help="who moves it: a video, or a folder of pictures"
    )
    files.add_argument(
        "--output",
        required=True,
        metavar="OUT",
        help="OUT.mp4 (H.264), OUT.webm (VP9), OUT.gif, or a folder for PNGs (a name without suffix)",
    )
    files.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also write one picture of several moments")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", default="starter", help="a bundled name, a .safetensors file or a .pth.tar (default: starter)"
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    model.add_argument(
        "--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"], help="of the decoder (default: auto)"
    )
    motion = parser.add_argument_group("motion and framing")
    motion.add_argument(
        "--absolute",
        action="store_true",
        help="give the portrait the driver's keypoints as they are; for a driver who is the portrayed person",
    )
    motion.add_argument(
        "--no-adapt-scale",
        action="store_true",
        help="do not scale the motion by the size of the portrait's face over the driver's",
    )
    motion.add_argument(
        "--best-frame",
        action="store_true",
        help="measure relative motion from the frame posed most like the portrait, instead of from the first",
    )
    motion.add_argument(
        "--no-crop", action="store_true", help="take the central square of portrait and video instead of the face"
    )
    motion.add_argument("--side-by-side", action="store_true", help="show portrait and driver beside the result")
    motion.add_argument("--max-frames", type=_positive, metavar="N", help="stop after N frames")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Shots:
    """What the first pass over a driving video found.

    Attributes:
        faces: the followed face of each frame, or None; empty when nobody looked for it.
        boxes: where each frame is cropped; empty when it is not.
    """

    faces: Sequence["Face | None"]
    boxes: Sequence["SquareBox"]


def run(args: argparse.Namespace) -> int:
    """Animate, and say what came of it."""
    from mcnet.checkpoint import find_model, load_model
    from mcnet.engine import Engine, EngineOptions
    from mcnet.media.crop import best_reference_frame
    from mcnet.media.errors import MediaError
    from mcnet.media.video import VideoWriter, open_driving

    started = time.perf_counter()
    find_model(args.model)  # a misspelt name shall not wait for the face search
    source_rgb, source_face = load_source(args.source, crop_face=not args.no_crop, find_face=args.best_frame)
    driving = open_driving(args.driving)
    engine = Engine(load_model(args.model), EngineOptions(device=args.device, precision=args.precision))
    size_px = engine.config.size_px
    source = to_square(source_rgb, None, size_px)
    width = size_px * (3 if args.side_by_side else 1)
    with VideoWriter(args.output, driving.fps, (width, size_px), audio_from=driving.path) as writer:
        print(f"model {engine.model_name} on {engine.choice.reason}", file=sys.stderr)
        shots = find_shots(driving, args.max_frames, wanted=not args.no_crop or args.best_frame, crop=not args.no_crop)
        engine.set_source(source)
        if not args.absolute:
            reference = first_face(shots)
            if args.best_frame:
                assert source_face is not None
                reference = best_reference_frame(source_face, shots.faces)
            frame = next(itertools.islice(driving, reference, None), None)
            if frame is None:
                raise MediaError(f"{args.driving} has no frame to start from: expected a video or pictures of a face")
            engine.calibrate(to_square(frame, shots.boxes[reference] if shots.boxes else None, size_px))
        result = animate(args, engine, source, driving, shots, writer)
    if args.contact_sheet:
        write_sheet(args.contact_sheet, source, result.moments)
    return report(args, driving, result, time.perf_counter() - started)


def load_source(path: Path, *, crop_face: bool, find_face: bool) -> "tuple[Rgb, Face | None]":
    """The portrait, cropped to its face if wanted (else whole), and the face if it was looked for.

    Raises:
        MediaError: it cannot be read, or there is no face in it.
    """
    from mcnet.media.crop import crop, frame_face
    from mcnet.media.errors import MediaError
    from mcnet.media.faces import FaceFinder
    from mcnet.media.images import read_rgb

    rgb = read_rgb(path)
    if not crop_face and not find_face:
        return rgb, None
    with FaceFinder() as finder:
        faces = finder.find(rgb)
    if not faces:
        raise MediaError(
            f"no face in {path}: got none that looks towards the camera, expected one; take another picture, or pass "
            "--no-crop to use its central square as it is"
        )
    if len(faces) > 1:
        print(f"{path} shows {len(faces)} faces; the largest is animated", file=sys.stderr)
    if not crop_face:
        return rgb, faces[0]
    box = frame_face(faces[0])
    return crop(rgb, box, max(64, round(box.side))), faces[0]


def find_shots(driving: "DrivingVideo", max_frames: int | None, *, wanted: bool, crop: bool) -> Shots:
    """Follow the driver's face through the video, if `wanted`, and plan the crop, if there is to be one.

    Raises:
        MediaError: no frame shows a face.
    """
    from mcnet.media.crop import plan_crops
    from mcnet.media.errors import MediaError
    from mcnet.media.faces import FaceFinder

    if not wanted:
        return Shots((), ())
    faces: list[Face | None] = []
    with FaceFinder(tracking=True) as finder:
        for frame in _progress(itertools.islice(driving, max_frames), driving, max_frames, "finding the face"):
            found = finder.find(frame)
            faces.append(found[0] if found else None)
    if not any(face is not None for face in faces):
        raise MediaError(
            f"no face in any of the {len(faces)} frames of {driving.path}: expected one that looks towards the camera; "
            "pass --no-crop to use the central square as it is"
        )
    return Shots(faces, plan_crops(faces, driving.fps) if crop else ())


def first_face(shots: Shots) -> int:
    """The first frame with a face, or the very first if nobody looked."""
    return next((index for index, face in enumerate(shots.faces) if face is not None), 0)


class Moment(NamedTuple):
    """One frame for the contact sheet."""

    time_s: float
    driver: "Rgb"
    result: "Rgb"


@dataclass(frozen=True)
class Result:
    """What the second pass did.

    Attributes:
        frames: how many were written.
        held: how many of them show the picture before them, for want of a face.
        animate_s: seconds spent in the engine.
        moments: some frames, spread evenly, for the contact sheet.
        interrupted: whether Ctrl-C ended it.
    """

    frames: int
    held: int
    animate_s: float
    moments: Sequence[Moment]
    interrupted: bool


def animate(
    args: argparse.Namespace,
    engine: "Engine",
    source: "Rgb",
    driving: "DrivingVideo",
    shots: Shots,
    writer: "VideoWriter",
) -> Result:
    """Animate every frame and write it. A frame without a face holds the picture before it."""
    import numpy as np

    total = len(shots.faces) or driving.frame_count or args.max_frames or SHEET_MOMENTS
    if args.max_frames:
        total = min(total, args.max_frames)
    chosen = {round(step * (total - 1) / (SHEET_MOMENTS - 1)) for step in range(SHEET_MOMENTS)}
    size_px = engine.config.size_px
    moments: list[Moment] = []
    frames = held = 0
    animate_s = 0.0
    result = source  # until the driver's face is first seen
    with _stop_on_interrupt() as stop:
        for index, frame in enumerate(
            _progress(itertools.islice(driving, args.max_frames), driving, args.max_frames, "animating")
        ):
            driver = to_square(frame, shots.boxes[index] if index < len(shots.boxes) else None, size_px)
            if index < len(shots.faces) and shots.faces[index] is None:
                held += 1
            else:
                before = time.perf_counter()
                result = engine.animate(driver, relative=not args.absolute, adapt_scale=not args.no_adapt_scale)
                animate_s += time.perf_counter() - before
            writer.write(np.hstack((source, driver, result)) if args.side_by_side else result)
            frames += 1
            if index in chosen:
                moments.append(Moment(index / driving.fps, driver, result))
            if stop:
                break
    return Result(frames, held, animate_s, moments, bool(stop))


def to_square(rgb: "Rgb", box: "SquareBox | None", size_px: int) -> "Rgb":
    """The crop at the model's size; without a box the central square."""
    from mcnet.media.crop import SquareBox, crop

    height, width = rgb.shape[:2]
    return crop(rgb, box or SquareBox(width / 2, height / 2, min(width, height)), size_px)


def write_sheet(path: Path, source: "Rgb", moments: Sequence[Moment]) -> None:
    """The portrait, then driver above result at each moment."""
    from mcnet.media.contact_sheet import contact_sheet
    from mcnet.media.images import write_rgb

    rows: list[list[Rgb | None]] = [
        [source, *(moment.driver for moment in moments)],
        [None, *(moment.result for moment in moments)],
    ]
    times = (f"{moment.time_s:.1f} s" for moment in moments)
    write_rgb(path, contact_sheet(rows, column_labels=("source", *times), row_labels=("driving", "animated")))


def report(args: argparse.Namespace, driving: "DrivingVideo", result: Result, elapsed_s: float) -> int:
    """Say what was written and how fast; the exit status."""
    animated = result.frames - result.held
    speed = f"{animated / result.animate_s:.1f} frames/s in the engine, " if result.animate_s else ""
    sound = ", with its sound" if driving.has_audio and Path(args.output).suffix.lower() in (".mp4", ".webm") else ""
    print(f"{args.output}: {result.frames} frames at {driving.fps:g} frames/s{sound}; {speed}{elapsed_s:.1f} s in all")
    if result.held:
        print(
            f"{result.held} frames of {driving.path} show no face; they hold the picture before them", file=sys.stderr
        )
    if args.contact_sheet:
        print(f"{args.contact_sheet}: {len(result.moments)} moments")
    if result.interrupted:
        print(f"interrupted: {args.output} holds the first {result.frames} frames", file=sys.stderr)
        return INTERRUPTED
    return 0


def _progress(frames: "Iterator[Rgb]", driving: "DrivingVideo", max_frames: int | None, what: str) -> "Iterator[Rgb]":
    """`frames`, with a bar on a terminal that tells frames a second."""
    from tqdm import tqdm

    expected = driving.frame_count
    if max_frames is not None:
        expected = max_frames if expected is None else min(expected, max_frames)
    yield from tqdm(frames, total=expected, desc=what, unit=" frames", disable=None, leave=False)


@contextmanager
def _stop_on_interrupt() -> Iterator[list[int]]:
    """Ctrl-C (and SIGTERM) fill the list once, so that the frame in work is finished; a second Ctrl-C stops at once."""
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1")
    return number
