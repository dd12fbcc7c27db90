"""`mcnet animate`: a portrait moved by a video, from file to file."""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mcnet.commands import batch, credentials
from mcnet.commands.arguments import PRECISIONS, check_motion_options, number, whole_number
from mcnet.commands.status import INTERRUPTED
from mcnet.signals import StopSignals

if TYPE_CHECKING:
    from mcnet.arrays import Array, Keypoints, Rgb
    from mcnet.commands.drives import KeypointDrive, Shot, Unretouched
    from mcnet.commands.jobs import Tell
    from mcnet.disclosure import SigningFiles
    from mcnet.engine import DeviceChoice, Engine
    from mcnet.generator import Mcnet
    from mcnet.media.crop import SquareBox
    from mcnet.media.faces import Face
    from mcnet.media.matte import Cutout
    from mcnet.media.motion_track import TrackDriving, TrackRecorder
    from mcnet.media.scene import Background, Scene
    from mcnet.media.surroundings import Surrounded
    from mcnet.media.video import DrivingVideo
    from mcnet.media.video_writer import VideoWriter
    from mcnet.model_file import ModelFile


SHEET_MOMENTS = 6
LYING_SHARE = 0.2
BATCH_FRAMES = {"cuda": 16}
"""Frames that are animated at once, by the kind of device: any other is busy with one."""


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "animate",
        help="animate a portrait by a video of somebody's face",
        description="Animate a portrait by a video of somebody's face. The face is found and cropped in both. By "
        "default the portrait keeps its own shape, looks where the performer looks, and takes the performer's change "
        "of expression, measured in space. Sound is carried over.",
    )
    _add_arguments(parser)

    def run_one_or_many(args: argparse.Namespace) -> int:
        if args.jobs is not None:
            return batch.run(args, args.words, parse_one, perform_words)
        missing = [f"--{name}" for name in ("source", "driving", "output") if getattr(args, name) is None]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(missing)} (or --jobs)")
        return run(args)

    parser.set_defaults(run=run_one_or_many)


def parse_one(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of one animation, from the words of a command line after `mcnet animate`."""
    parser = argparse.ArgumentParser("mcnet animate", add_help=False)  # nobody reads it there
    _add_arguments(parser)
    return parser.parse_args(words)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("files")
    files.add_argument(
        "--source",
        metavar="IMAGE|NAME",
        help="the portrait to animate: a picture of any usual kind, or a bundled name (woman_1)",
    )
    files.add_argument(
        "--driving",
        type=Path,
        metavar="VIDEO",
        help="who moves it: a video, a folder of pictures, or a motion file (.safetensors), which has no pictures",
    )
    files.add_argument(
        "--save-motion",
        type=Path,
        metavar="FILE",
        help="also keep the performer's motion, without pictures, in FILE.safetensors, as --driving plays it",
    )
    files.add_argument(
        "--output",
        metavar="OUT",
        help="OUT.mp4 (H.264), OUT.webm (VP9), OUT.gif, or an empty or new folder for PNGs (a name without suffix); an "
        "older file is replaced",
    )
    files.add_argument(
        "--contact-sheet", type=Path, metavar="IMAGE", help="also write one picture (PNG or JPEG) of several moments"
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


@dataclass(frozen=True)
class Performance:
    """What the first pass over a driving video found.

    Attributes:
        faces: the followed face of each frame, or None; empty when nobody looked for it.
        boxes: where each frame is cropped; empty when it is not.
        known: a model's keypoints of each frame, from a motion file; empty where there are none.
    """

    faces: Sequence["Face | None"]
    boxes: Sequence["SquareBox"]
    known: Sequence["Keypoints[Array]"] = ()

    def shot(self, index: int, frame: "Rgb", size_px: int) -> "Shot":
        """Frame `index` as the model sees it."""
        face = self.faces[index] if index < len(self.faces) else None
        shot = shot_of(frame, face, self.boxes[index] if index < len(self.boxes) else None, size_px)
        return replace(shot, known=self.known[index]) if index < len(self.known) else shot


class Animated(NamedTuple):
    """What `perform` did.

    Attributes:
        result: of the second pass over the video.
        has_sound: whether sound was carried over.
        fps: frames per second.
        interrupted: whether a signal ended it early.
        undisclosed: why what was written has no Content Credentials though it was to have them, for people; or "".
    """

    result: "Result"
    has_sound: bool
    fps: float
    interrupted: bool
    undisclosed: str

    @property
    def frames(self) -> int:
        """How many were written."""
        return self.result.frames

    @property
    def held(self) -> int:
        """How many of them show the picture before them, for want of a face."""
        return self.result.held

    @property
    def missing(self) -> str:
        """What was to be in it and is not, for people; or ""."""
        undisclosed = f"without Content Credentials: {self.undisclosed}" if self.undisclosed else ""
        return "; ".join(filter(None, (self.unretouched, undisclosed)))

    @property
    def unretouched(self) -> str:
        """How many frames could not be retouched, and why, for people; or ""."""
        frames, reason = self.result.unretouched
        if not frames:
            return ""
        return f"skin, teeth and shut lids are not drawn in {frames} of {self.frames} frames: {reason}"


def run(args: argparse.Namespace) -> int:
    """Animate, and say what came of it."""
    started = time.perf_counter()
    done = perform(args)
    report(args, done, time.perf_counter() - started)
    if done.interrupted:
        print(f"interrupted: {args.output} holds the first {done.result.frames} frames", file=sys.stderr)
        return INTERRUPTED
    return 0


def perform_words(words: Sequence[str], tell: "Tell | None" = None) -> Animated:
    """`perform`, from the words of a command line."""
    return perform(parse_one(words), tell)


def perform(args: argparse.Namespace, tell: "Tell | None" = None) -> Animated:
    """Animate, and write what was asked for.

    Args:
        args: of `mcnet animate`.
        tell: told how far it is; None: a bar on a terminal.

    Raises:
        UserError: it cannot be done.
        KeyboardInterrupt: a signal came before there was anything to write.
    """
    from mcnet.disclosure.words import words_of_animation
    from mcnet.engine import open_model
    from mcnet.media.motion_track import save_track
    from mcnet.media.portraits import find_portrait
    from mcnet.media.scene import Scene
    from mcnet.media.surroundings import FARTHEST, NO_MARGINS, Surrounded, surrounded
    from mcnet.media.video_writer import VideoWriter
    from mcnet.model_file import find_model

    path = find_portrait(args.source)
    signer = credentials.signing_files(args)
    background = wanted_background(args)
    check_places(args, path, background, signer)
    find_model(args.model)  # a misspelt name shall not wait for the face search
    model = open_model(args.model)
    measurable = check_motion(args, model)
    portrait = load_portrait(path, args, measurable=measurable)
    driving = open_performer(args.driving)
    engine = make_engine(args, model)
    source = shot_of(portrait.rgb, portrait.face, portrait.box, engine.config.size_px)
    shown = in_size_asked(args, source)
    whole = Surrounded(shown.square, NO_MARGINS)
    if args.surroundings:
        whole = surrounded(portrait.rgb, shown.box, shown.square, FARTHEST)
    scene = None if background is None else Scene(background, whole)
    height, width = whole.rgb.shape[:2]
    alpha = scene is not None and scene.has_alpha
    size_px = (width * (3 if args.side_by_side else 1), height)
    sound = driving.path if driving.has_audio else None
    behind = background is not None and background.is_file
    around = any(whole.margins)
    words = words_of_animation(beside=args.side_by_side, behind=behind, around=around)
    with StopSignals() as stop:
        with VideoWriter(args.output, driving.fps, size_px, audio_from=sound, alpha=alpha, words=words) as writer:
            performance = find_performance(driving, args, stop, measurable=measurable, tell=tell)
            backend = engine.settle()  # every frame from the same arithmetic
            larger = shown.square if shown is not source else None
            drive = make_drive(
                args, engine, source, driving, performance, measurable=measurable, retouch=args.retouch, larger=larger
            )
            recorder = None if args.save_motion is None else motion_recorder(engine, drive)
            how = f"{engine.choice.reason}; with {backend}: {engine.backend_reason}"
            print(f"model {engine.model_name} on {how}; {drive.name}", file=sys.stderr)
            result = animate(args, engine, drive, whole, driving, performance, writer, stop, tell, scene, recorder)
        interrupted = stop.received is not None
        if recorder is not None:
            save_track(args.save_motion, recorder.track(driving.frame_size_px))
        if args.contact_sheet:
            write_sheet(args.contact_sheet, shown.square, result.moments)
        sheet = [args.contact_sheet] if args.contact_sheet else []
        written = [writer.path] if result.frames else []
        generated, composites = ([], written) if args.side_by_side or behind or around else (written, [])
        undisclosed = credentials.disclose_all(signer, generated, [*composites, *sheet], model.info)
    return Animated(result, writer.has_sound, driving.fps, interrupted, undisclosed)


def in_size_asked(args: argparse.Namespace, source: "Shot") -> "Shot":
    """The portrait in the size of the pictures that are wanted; `source` itself in the model's.

    Raises:
        OutputError: it is smaller than the model's.
    """
    from mcnet.commands.outputs import OutputError
    from mcnet.media.fine_detail import ENOUGH_PIXELS, MOST_TIMES

    enough = source.box.side >= MOST_TIMES * ENOUGH_PIXELS * source.size_px
    size_px = args.size or (MOST_TIMES if enough else 1) * source.size_px
    if size_px == source.size_px:
        return source
    if size_px < source.size_px:
        raise OutputError(
            f"--size {size_px}: the model makes pictures of {source.size_px} px; ask for that or more, and make the "
            "video smaller afterwards"
        )
    if source.box.side < ENOUGH_PIXELS * size_px:
        print(
            f"--size {size_px}: the portrait has {source.box.side:.0f} px where the avatar is, and no detail beyond "
            "that; a larger picture has more",
            file=sys.stderr,
        )
    return replace(source, size_px=size_px)


def wanted_background(args: argparse.Namespace) -> "Background | None":
    """What `--background` asks for; None where nothing is to be cut out.

    Raises:
        MediaError: it is no background.
        OutputError: it, or what is around the portrait, does not go with `--side-by-side`.
    """
    from mcnet.commands.outputs import OutputError
    from mcnet.media.scene import parse_background

    if args.surroundings and args.side_by_side:
        raise OutputError("--surroundings: got --side-by-side too, which shows squares; leave one of the two out")
    if args.background is None:
        return None
    background = parse_background(args.background, args.background_blur)
    if background.kind == "alpha" and args.side_by_side:
        raise OutputError(
            "--background alpha: got --side-by-side too, whose pictures have no alpha; leave one of the two out"
        )
    return background


def check_motion(args: argparse.Namespace, model: "ModelFile | Mcnet") -> bool:
    """See that the options for motion and keypoints go together, and with the model.

    Returns:
        Whether keypoints are to be measured, where faces are found.

    Raises:
        UserError: they do not.
    """
    from mcnet.media.errors import MediaError
    from mcnet.model_file import may_detect, meant_landmarks

    check_motion_options(args)
    measurable = bool(meant_landmarks(model))
    if args.keypoints == "detected":
        if not may_detect(model):
            raise MediaError(
                f"--keypoints detected: model {model.info.name} was trained on measured keypoints only and cannot "
                "detect any; use --keypoints measured, or another model"
            )
        return False
    if not measurable and (args.motion == "space" or args.keypoints == "measured"):
        option = "--motion space" if args.motion == "space" else "--keypoints measured"
        raise MediaError(
            f"{option}: nothing says which points of a face the keypoints of model {model.info.name} are, so they can "
            "only be detected: use --motion plane --keypoints detected, or the model starter"
        )
    return measurable


def make_drive(
    args: argparse.Namespace,
    engine: "Engine",
    source: "Shot",
    driving: "DrivingVideo | TrackDriving",
    performance: Performance,
    *,
    measurable: bool,
    retouch: bool,
    larger: "Rgb | None" = None,
) -> "KeypointDrive":
    """Choose how the portrait is moved, and find the reference frame.

    Args:
        args: of `add_motion_options`.
        engine: gets its source here, and its reference pose.
        source: the portrait.
        driving: who moves it.
        performance: what was found there.
        measurable: whether keypoints are to be measured, where faces are found.
        retouch: see `SpaceDrive`; other motion knows no head to draw on.
        larger: see `KeypointDrive`.

    Raises:
        MediaError: there is no frame, or what was asked for wants a face where there is none.
    """
    from mcnet.commands.drives import KnownDrive, PlaneDrive, SpaceDrive
    from mcnet.media.crop import best_reference_frame
    from mcnet.media.errors import MediaError
    from mcnet.media.head_motion import most_neutral
    from mcnet.media.motion_track import TrackDriving

    faces = performance.faces
    measured = measurable and source.face is not None and any(face is not None for face in faces)
    if measurable and not measured:
        lacking = "the portrait" if source.face is None else "the video"
        if engine.detects and (args.keypoints == "measured" or args.motion == "space"):
            raise MediaError(f"no face in {lacking}: measured keypoints need one; use --keypoints detected")
        if not engine.detects:
            raise MediaError(
                f"no face in {lacking}: model {engine.model_name} was trained on measured keypoints only and cannot "
                "detect any; take a picture and a video that show a face, or another model"
            )
        print(f"keypoints are detected, since {lacking} shows no face that can be measured", file=sys.stderr)
    in_space = measured and args.motion != "plane" and not args.absolute
    if in_space:
        reference = most_neutral([None if face is None else face.landmarks_px for face in faces])
    elif args.best_frame:
        assert source.face is not None
        reference = best_reference_frame(source.face, faces)
    else:
        reference = next((index for index, face in enumerate(faces) if face is not None), 0)
    frame = next(itertools.islice(driving, reference, None), None)
    if frame is None:
        raise MediaError(f"{args.driving} has no frame to start from: expected a video or pictures of a face")
    start = performance.shot(reference, frame, engine.config.size_px)
    if in_space:
        return SpaceDrive(engine, source, start, retouch=retouch, larger=larger)
    make: type[PlaneDrive] | type[KnownDrive] = PlaneDrive
    if isinstance(driving, TrackDriving) and not (measured and engine.places_suffice):
        check_known(args, driving, engine, measured=measured)
        make = KnownDrive
    return make(
        engine,
        source,
        None if args.absolute else start,
        measured=measured,
        adapt_scale=not args.no_adapt_scale,
        larger=larger,
    )


def check_known(args: argparse.Namespace, driving: "TrackDriving", engine: "Engine", *, measured: bool) -> None:
    """See that a motion file has the keypoints that motion in the plane needs, where there is no picture to find them.

    Raises:
        MediaError: it has none, or another model's, or they were found in another way.
    """
    from mcnet.media.errors import MediaError

    found, name = driving.track.keypoints, engine.model_name
    if found is None:
        got = "the motion of a face mesh only"
    elif found.model != weights_of(engine):
        got = f"keypoints of model {driving.track.model_name}"
    elif found.measured != measured:
        got = f"{'measured' if found.measured else 'detected'} keypoints"
    else:
        return
    wanted = f"{'measured' if measured else 'detected'} keypoints of model {name}"
    asked = "--absolute" if args.absolute else "--motion plane" if args.motion == "plane" else "motion in the plane"
    use = "leave --absolute out, and use" if args.absolute else "use"
    anew = "this model" if args.absolute else "this model and --motion plane"
    raise MediaError(
        f"{driving.path} has {got}, and {asked} needs {wanted}: {use} --motion space with a model whose keypoints can "
        f"be measured, as the starter's, or save the motion anew with {anew}"
    )


def weights_of(engine: "Engine") -> str:
    """What tells a model's keypoints from another's, whatever the precision that they are computed in."""
    return engine.fingerprint.rpartition("/")[0]


def motion_recorder(engine: "Engine", drive: "KeypointDrive") -> "TrackRecorder":
    """What keeps the performer's motion."""
    from mcnet.media.motion_track import TrackRecorder

    return TrackRecorder(weights_of(engine), engine.model_name, measured=drive.measures)


def open_performer(path: Path) -> "DrivingVideo | TrackDriving":
    """A driving video, a folder of pictures, or a motion file.

    Raises:
        MediaError: it is none of them, or cannot be read.
    """
    from mcnet.media.motion_track import open_track
    from mcnet.media.video import open_driving
    from mcnet.track_name import is_track

    return open_track(path) if is_track(path) else open_driving(path)


def make_engine(args: argparse.Namespace, model: "ModelFile") -> "Engine":
    """Make the engine. What is left at `auto` is taken as measured to be fastest on this machine; the first call
    measures.

    Raises:
        EngineError: the device cannot be used.
    """
    from mcnet.bench.tiers import fastest
    from mcnet.engine import DeviceChoice, Engine, EngineOptions
    from mcnet.places import measured_file

    def tell() -> None:
        print("measuring what runs the model best here", file=sys.stderr)

    def tell_not_remembered(why: str) -> None:
        print(f"not remembered: {why}; it is measured again at the next start", file=sys.stderr)

    options = EngineOptions(device=args.device, precision=args.precision, backend=args.backend)
    choice = DeviceChoice.of(options, model.info)
    if choice.kind == "cuda" and options.backend == "auto":  # it is for batches, which are torch's
        options = replace(options, backend="torch")
    open_options = replace(options, device=choice.device)
    tier = fastest(
        model,
        open_options,
        measured_file(),
        batch=batch_frames(choice),
        on_measuring=tell,
        on_not_remembered=tell_not_remembered,
    )
    return Engine(model, options if tier is None else tier.over(options))


def batch_frames(choice: "DeviceChoice") -> int:
    """How many frames are animated at once."""
    return BATCH_FRAMES.get(choice.kind, 1)


def check_places(
    args: argparse.Namespace, portrait: Path, background: "Background | None", signer: "SigningFiles | None"
) -> None:
    """See that what is to be written can be, and takes the place of nothing that is read, before any work.

    Raises:
        OutputError, MediaError: it is not so.
    """
    from mcnet.commands.outputs import OutputError, check_apart, check_outputs
    from mcnet.files import followed
    from mcnet.media.images import WRITABLE_SUFFIXES
    from mcnet.media.video_writer import VideoWriter
    from mcnet.track_name import TRACK_SUFFIX, is_track

    read = {"--source": portrait, "--driving": args.driving, "--model": Path(args.model), **credentials.read_by(args)}
    if background is not None and background.is_file:
        read["--background"] = background.path
    output = {"--output": Path(args.output)}
    sheet = {"--contact-sheet": args.contact_sheet} if args.contact_sheet else {}
    motion = {"--save-motion": args.save_motion} if args.save_motion else {}
    check_outputs(sheet | motion, read, {"--contact-sheet": WRITABLE_SUFFIXES, "--save-motion": (TRACK_SUFFIX,)})
    check_apart(output | sheet | motion, read)
    credentials.check_statement(signer, output["--output"], read)
    if motion and is_track(args.driving):
        raise OutputError(f"--save-motion {args.save_motion}: {args.driving} is a motion file already; copy it instead")
    if sheet and followed(args.driving) == followed(args.contact_sheet).parent:  # it would be the next driving picture
        raise OutputError(
            f"--contact-sheet {args.contact_sheet}: it lies in the folder that --driving reads; choose another place"
        )
    alpha = background is not None and background.kind == "alpha"
    VideoWriter(args.output, fps=25, frame_size_px=(64, 64), alpha=alpha)  # to be made, it looks at its place


@dataclass(frozen=True)
class SourcePortrait:
    """The source picture.

    Attributes:
        rgb: (H, W, 3) uint8.
        face: if it was looked for.
        box: where it is cropped; None: its central square.
    """

    rgb: "Rgb"
    face: "Face | None"
    box: "SquareBox | None"


def load_portrait(path: Path, args: argparse.Namespace, *, measurable: bool) -> SourcePortrait:
    """Read the portrait, and find its face if it is to be cropped, compared or measured.

    Raises:
        MediaError: it cannot be read, or there is no face in it.
    """
    from mcnet.media.crop import central_square, frame_face, lies_in
    from mcnet.media.errors import MediaError
    from mcnet.media.faces import FaceFinder
    from mcnet.media.images import read_rgb
    from mcnet.media.suitability import POOR_SCORE, suitability
    from mcnet.media.upright import turned_view, upright

    crop = not args.no_crop
    rgb = read_rgb(path)
    if not (crop or args.best_frame or measurable):
        return SourcePortrait(rgb, None, None)
    with FaceFinder() as finder:
        view = upright(finder, rgb) if crop else turned_view(finder, rgb, 0.0)
    faces = view.faces
    if not faces:
        if not (crop or args.best_frame):
            return SourcePortrait(rgb, None, None)
        way_out = "pass --no-crop to use its central square as it is" if crop else "leave --best-frame out"
        raise MediaError(
            f"no face in {path}: got none that looks towards the camera and is large enough, expected one; take "
            f"another picture, larger or from the front, or {way_out}"
        )
    if len(faces) > 1:
        print(f"{path} shows {len(faces)} faces; the largest is animated", file=sys.stderr)
    if crop:
        if view.angle_deg:
            print(f"{path} is turned by {view.angle_deg:g} degrees, so that its face stands upright", file=sys.stderr)
        box = frame_face(faces[0])
        score, remarks = suitability(faces[0], box, view.rgb, several=False)
        if score < POOR_SCORE:
            print(f"{path} scores {score} of 100 as a portrait: {'; '.join(remarks)}", file=sys.stderr)
        return SourcePortrait(view.rgb, faces[0], box)
    # A face beside the central square is not the one that is animated.
    shown = [face for face in faces if lies_in(face, central_square(rgb))]
    return SourcePortrait(rgb, shown[0] if shown else faces[0] if args.best_frame else None, None)


def find_performance(
    driving: "DrivingVideo | TrackDriving",
    args: argparse.Namespace,
    stop: StopSignals,
    *,
    measurable: bool,
    tell: "Tell | None" = None,
) -> Performance:
    """Follow the performer's face through the video, if anything needs it, and plan the crop, if there is to be one.

    Raises:
        MediaError: no frame shows a face.
        KeyboardInterrupt: `stop` has received a signal.
    """
    import numpy as np

    from mcnet.media.crop import plan_crops
    from mcnet.media.errors import MediaError
    from mcnet.media.faces import LEAST_INSIDE, FaceFinder
    from mcnet.media.head_motion import Head
    from mcnet.media.motion_track import TrackDriving
    from mcnet.media.upright import upright

    if isinstance(driving, TrackDriving):
        track = driving.track
        faces = driving.faces[: args.max_frames]
        if not any(face is not None for face in faces):
            raise MediaError(f"no face in the first {len(faces)} frames of {driving.path}: raise --max-frames")
        known = [] if track.keypoints is None else [track.keypoints.at(index) for index in driving.frames]
        return Performance(faces, () if args.no_crop else plan_crops(faces, driving.fps), known)
    if args.no_crop and not (args.best_frame or measurable or getattr(args, "save_motion", None)):
        return Performance((), ())
    faces = []
    turns_deg: list[float] = []
    seen = 0
    with FaceFinder(tracking=True, small=True) as finder, FaceFinder() as searcher:
        for frame in progress(driving, args.max_frames, "finding the face", tell):
            if stop.received:
                raise KeyboardInterrupt
            found = finder.find(frame)
            face = found[0] if found and found[0].box.share_inside(frame) >= LEAST_INSIDE else None
            # What is hardly a face is none, as live: the picture before it is held.
            likely = face is not None and Head.of(face.landmarks_px.astype(np.float64)).likely
            faces.append(face if likely else None)
            seen += likely
            if likely and seen.bit_count() == 1:  # ever more rarely
                turns_deg.append(upright(searcher, frame).angle_deg)
    if not any(face is not None for face in faces):
        if args.no_crop and not args.best_frame:
            return Performance((), ())
        way_out = "leave --best-frame out" if args.no_crop else "pass --no-crop to use the central square as it is"
        if args.max_frames:
            way_out += ", or raise --max-frames"
        raise MediaError(
            f"no face in any of the {len(faces)} frames of {driving.path}: expected one that looks towards the camera; "
            f"{way_out}"
        )
    tell_lying(driving.path, turns_deg)
    return Performance(faces, () if args.no_crop else plan_crops(faces, driving.fps))


def tell_lying(path: Path, turns_deg: Sequence[float]) -> None:
    """Say so where the performer lies on the side or stands on the head, as in a video filmed so.

    Args:
        path: the video.
        turns_deg: by how much some of its frames would have to be turned, clockwise, so that the face stands upright.
            A mesh may be laid over a face on its head the wrong way, so that not all of them tell.
    """
    lying = [turn_deg for turn_deg in turns_deg if turn_deg]
    if len(lying) > LYING_SHARE * len(turns_deg):
        turn_deg = max(lying, key=lying.count)
        print(
            f"{path} has to be turned by {turn_deg:g} degrees, clockwise, for its face to stand upright: turn it "
            "first, since a portrait is tilted by 45 degrees at most",
            file=sys.stderr,
        )


class Moment(NamedTuple):
    """One frame for the contact sheet."""

    time_s: float
    performer: "Rgb"
    result: "Rgb"


class Moments:
    """Some frames of a video of unknown length, spread evenly: every n-th, n doubled whenever there are too many."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._every = 1
        self._kept: list[Moment] = []

    def offer(self, index: int, moment: Moment) -> None:
        """Take frame `index` into consideration; every frame is to be offered, in order."""
        if index % self._every:
            return
        self._kept.append(moment)
        if len(self._kept) > 4 * self._wanted:
            self._kept = self._kept[::2]
            self._every *= 2

    def chosen(self) -> list[Moment]:
        """As many as wanted, or all there are."""
        last = len(self._kept) - 1
        places = {round(step * last / max(1, self._wanted - 1)) for step in range(self._wanted)}
        return [self._kept[place] for place in sorted(places) if place >= 0]


@dataclass(frozen=True)
class Result:
    """What the second pass did.

    Attributes:
        frames: how many were written.
        held: how many of them show the picture before them, for want of a face.
        animate_s: seconds spent in the engine and in retouching its pictures.
        moments: some frames, spread evenly, for the contact sheet.
        unretouched: what could not be drawn.
    """

    frames: int
    held: int
    animate_s: float
    moments: Sequence[Moment]
    unretouched: "Unretouched"


def animate(
    args: argparse.Namespace,
    engine: "Engine",
    drive: "KeypointDrive",
    portrait: "Surrounded",
    driving: "DrivingVideo | TrackDriving",
    performance: Performance,
    writer: "VideoWriter",
    stop: StopSignals,
    tell: "Tell | None" = None,
    scene: "Scene | None" = None,
    recorder: "TrackRecorder | None" = None,
) -> Result:
    """Animate frames and write them until `stop` has a signal. A frame without a face holds the picture before it,
    while a scene's background goes on. What the performer does is told to the recorder.
    """
    import numpy as np

    from mcnet.commands.drives import split
    from mcnet.media.colours import opaque

    moments = Moments(SHEET_MOMENTS)
    held = 0
    animate_s = 0.0
    source = portrait.margins.square(portrait.rgb)
    # Until the performer's face is first seen it is the portrait.
    shown: Rgb | Cutout = portrait.rgb if scene is None else scene.portrait()
    wanted = drive.measures or bool(performance.boxes)
    frames = enumerate(progress(driving, args.max_frames, "animating", tell))
    while batch := list(itertools.islice(frames, batch_frames(engine.choice))):
        shots = [performance.shot(index, frame, engine.config.size_px) for index, frame in batch]
        lost = [wanted and shot.face is None for shot in shots]
        before = time.perf_counter()
        seen = [shot for shot, is_lost in zip(shots, lost, strict=True) if not is_lost]
        results = iter(_animated(drive, seen, portrait, scene) if seen else ())
        animate_s += time.perf_counter() - before
        if recorder is not None:
            found = iter(split(drive.found(seen)) if seen else ())
            for (index, _), shot, is_lost in zip(batch, shots, lost, strict=True):
                recorder.add(index / driving.fps, shot.face, None if is_lost else next(found), shot.box)
        for (index, _), shot, is_lost in zip(batch, shots, lost, strict=True):
            held += is_lost
            shown = shown if is_lost else next(results)
            time_s = index / driving.fps
            result = cast("Rgb", shown) if scene is None else scene.show(cast("Cutout", shown), time_s)
            if args.side_by_side or args.contact_sheet:
                performer = replace(shot, size_px=len(source)).square
            writer.write(np.hstack((source, performer, result)) if args.side_by_side else result)
            if args.contact_sheet:
                moments.offer(index, Moment(time_s, performer, opaque(portrait.margins.square(result)).copy()))
        if stop.received:
            break
    chosen = moments.chosen() if args.contact_sheet else []
    return Result(writer.frame_count, held, animate_s, chosen, drive.unretouched)


def _animated(
    drive: "KeypointDrive", shots: "Sequence[Shot]", portrait: "Surrounded", scene: "Scene | None"
) -> "Sequence[Rgb | Cutout]":
    """The pictures of some frames with what is around the portrait; of a scene, the person in them."""
    from mcnet.media.surroundings import around_animated

    if scene is None and not any(portrait.margins):
        return list(drive.pictures(shots))
    squares, flow = drive.pictures_with_flow(shots)
    pictures = [
        around_animated(portrait, square, deformation)
        for square, deformation in zip(squares, flow.deformation, strict=True)
    ]
    if scene is None:
        return pictures
    return [scene.cut(*frame) for frame in zip(pictures, flow.deformation, flow.occlusion, strict=True)]


def shot_of(rgb: "Rgb", face: "Face | None", box: "SquareBox | None", size_px: int) -> "Shot":
    """A picture with its face and its crop; without a box the central square."""
    from mcnet.commands.drives import Shot
    from mcnet.media.crop import central_square

    return Shot(rgb, face, box or central_square(rgb), size_px)


def write_sheet(path: Path, source: "Rgb", moments: Sequence[Moment]) -> None:
    """The portrait, then performer above result at each moment."""
    from mcnet.disclosure.words import words_of_animation
    from mcnet.media.contact_sheet import contact_sheet
    from mcnet.media.images import write_rgb

    rows: list[list[Rgb | None]] = [
        [source, *(moment.performer for moment in moments)],
        [None, *(moment.result for moment in moments)],
    ]
    times = (f"{moment.time_s:.1f} s" for moment in moments)
    sheet = contact_sheet(rows, column_labels=("source", *times), row_labels=("driving", "animated"))
    write_rgb(path, sheet, words_of_animation(beside=True, behind=False))


def _statement_beside(output: Path) -> Path | None:
    """The file that holds a video's Content Credentials; None where they are in it, or in the pictures of a folder."""
    from mcnet.disclosure.manifest import statement_beside

    return statement_beside(output) if output.is_file() else None


def report(args: argparse.Namespace, done: Animated, elapsed_s: float) -> None:
    """Say what was written and how fast."""
    result = done.result
    animated = result.frames - result.held
    speed = f"{animated / result.animate_s:.1f} frames/s animated, " if result.animate_s else ""
    sound = ", with its sound" if done.has_sound else ""
    print(f"{args.output}: {result.frames} frames at {done.fps:g} frames/s{sound}; {speed}{elapsed_s:.1f} s in all")
    if result.held:
        print(
            f"{result.held} frames of {args.driving} show no face; they hold the picture before them", file=sys.stderr
        )
    if done.unretouched:
        print(f"{done.unretouched}; they are as with --no-retouch", file=sys.stderr)
    if args.save_motion is not None:
        print(f"{args.save_motion}: the motion of {result.frames} frames")
    if done.undisclosed:
        print(f"it is written, but without Content Credentials: {done.undisclosed}", file=sys.stderr)
    elif result.frames and not args.no_content_credentials and (beside := _statement_beside(Path(args.output))):
        print(f"{beside}: the video's Content Credentials; keep it beside it")
    if args.contact_sheet:
        print(f"{args.contact_sheet}: {len(result.moments)} moments")


def progress(
    driving: "DrivingVideo | TrackDriving", max_frames: int | None, what: str, tell: "Tell | None" = None
) -> "Iterator[Rgb]":
    """The frames, at most `max_frames`; `tell` is told of each, or else a bar on a terminal tells frames per second."""
    from tqdm import tqdm

    expected = driving.frame_count
    if max_frames is not None:
        expected = max_frames if expected is None else min(expected, max_frames)
    frames = itertools.islice(driving, max_frames)
    if tell is None:
        yield from tqdm(frames, total=expected, desc=what, unit=" frames", disable=None, leave=False)
        return
    for done, frame in enumerate(frames):
        tell(what, done, expected)
        yield frame
