"""`mcnet animate`: a portrait moved by a video, from file to file."""

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mcnet.commands import batch, credentials
from mcnet.commands.animate_options import add_arguments, ignored, parse_one
from mcnet.commands.animated_files import is_picture_name, read_by, written_by
from mcnet.commands.footage import Performance, find_performance, load_portrait, open_performer, progress, shot_of
from mcnet.commands.moments import SHEET_MOMENTS, Moment, Moments, write_sheet
from mcnet.commands.motion_asked import check_motion, make_drive, motion_recorder
from mcnet.commands.status import INTERRUPTED
from mcnet.signals import StopSignals

if TYPE_CHECKING:
    from mcnet.arrays import Rgb
    from mcnet.commands.drives import KeypointDrive, Shot, Unretouched
    from mcnet.commands.jobs import Tell
    from mcnet.disclosure import SigningFiles
    from mcnet.engine import DeviceChoice, Engine
    from mcnet.media.matte import Cutout
    from mcnet.media.motion_track import TrackDriving, TrackRecorder
    from mcnet.media.scene import Background, Scene
    from mcnet.media.surroundings import Surrounded
    from mcnet.media.video import DrivingVideo
    from mcnet.media.video_writer import VideoWriter
    from mcnet.model_file import ModelFile


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
    add_arguments(parser)

    def run_one_or_many(args: argparse.Namespace) -> int:
        if args.jobs is not None:
            return batch.run(args, args.words, parse_one, perform_words)
        missing = [f"--{name}" for name in ("source", "driving", "output") if getattr(args, name) is None]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(missing)} (or --jobs)")
        if lone := ignored(args, parser):
            parser.error(lone)
        return run(args)

    parser.set_defaults(run=run_one_or_many)


class Animated(NamedTuple):
    """What `perform` did.

    Attributes:
        result: of the second pass over the video.
        has_sound: whether sound was carried over.
        fps: frames per second.
        interrupted: whether a signal ended it early.
        undisclosed: why what was written has no Content Credentials though it was to have them, for people; or "".
        motion_frames: how many frames the motion file has; 0 without one.
    """

    result: "Result"
    has_sound: bool
    fps: float
    interrupted: bool
    undisclosed: str
    motion_frames: int = 0

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
        return "; ".join(filter(None, (self.unretouched, self.short_motion, undisclosed)))

    @property
    def short_motion(self) -> str:
        """That the motion file has not all frames, and why, for people; or ""."""
        if not 0 < self.motion_frames < self.frames:
            return ""
        from mcnet.media.motion_track import LONGEST_S, MOST_FRAMES

        return (
            f"the motion file has the first {self.motion_frames} of {self.frames} frames: it takes {MOST_FRAMES} at "
            f"most, of {LONGEST_S / 3600:g} hours"
        )

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


def perform_words(words: Sequence[str], tell: "Tell | None" = None, replaces: str = "") -> Animated:
    """`perform`, from the words of a command line."""
    return perform(parse_one(words), tell, replaces)


def perform(args: argparse.Namespace, tell: "Tell | None" = None, replaces: str = "") -> Animated:
    """Animate, and write what was asked for.

    Args:
        args: of `mcnet animate`.
        tell: told how far it is; None: a bar on a terminal.
        replaces: as `VideoWriter` takes it.

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
    check_places(args, background, signer, replaces)
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
        writer = VideoWriter(
            args.output, driving.fps, size_px, audio_from=sound, alpha=alpha, words=words, replaces=replaces
        )
        sheets: list[Path] = []

        def sign() -> str:
            written = [] if writer.written is None else [writer.written]
            generated, composites = ([], written) if args.side_by_side or behind or around else (written, [])
            return credentials.disclose_all(signer, generated, [*composites, *sheets], model.info)

        with _signed_whatever_comes(writer, sign):
            with writer:
                performance = find_performance(driving, args, stop, measurable=measurable, tell=tell)
                backend = engine.settle()  # every frame from the same arithmetic
                larger = shown.square if shown is not source else None
                drive = make_drive(
                    args,
                    engine,
                    source,
                    driving,
                    performance,
                    measurable=measurable,
                    retouch=args.retouch,
                    larger=larger,
                )
                recorder = None if args.save_motion is None else motion_recorder(engine, drive)
                why = engine.choice.unsaid(engine.backend_reason)
                how = f"{engine.choice.reason}; with {backend}" + (f": {why}" if why else "")
                print(f"model {engine.model_name} on {how}; {drive.name}", file=sys.stderr)
                result = animate(args, engine, drive, whole, driving, performance, writer, stop, tell, scene, recorder)
            interrupted = stop.received is not None
            if recorder is not None:
                save_track(args.save_motion, recorder.track(driving.frame_size_px))
            if args.contact_sheet:
                write_sheet(args.contact_sheet, shown.square, result.moments)
                sheets.append(args.contact_sheet)
        undisclosed = sign()
    return Animated(result, writer.has_sound, driving.fps, interrupted, undisclosed, len(recorder or ()))


@contextlib.contextmanager
def _signed_whatever_comes(writer: "VideoWriter", sign: Callable[[], str]) -> Iterator[None]:
    """Have what was written signed also where the block fails behind it, and say that it is there.

    Args:
        writer: of the video.
        sign: signs what there is, and returns why it could not, or "".
    """
    try:
        yield
    except BaseException:
        if writer.written is not None:
            why = sign()
            unsigned = f", without Content Credentials: {why}" if why else ""
            print(f"{writer.written} holds the {writer.frame_count} frames of before{unsigned}", file=sys.stderr)
        raise


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
    args: argparse.Namespace, background: "Background | None", signer: "SigningFiles | None", replaces: str
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

    read, written = read_by(args), written_by(args)
    beside = {option: path for option, path in written.items() if option != "--output"}
    check_outputs(beside, read, {"--contact-sheet": WRITABLE_SUFFIXES, "--save-motion": (TRACK_SUFFIX,)})
    check_apart(written, read)
    credentials.check_statement(signer, written["--output"], read)
    if args.save_motion and is_track(args.driving):
        raise OutputError(f"--save-motion {args.save_motion}: {args.driving} is a motion file already; copy it instead")
    for option, path in written.items():  # it would be the next driving picture
        if is_picture_name(path) and followed(args.driving) == followed(path).parent:
            raise OutputError(f"{option} {path}: it lies in the folder that --driving reads; choose another place")
    alpha = background is not None and background.kind == "alpha"
    # To be made, it looks at its place.
    VideoWriter(args.output, fps=25, frame_size_px=(64, 64), alpha=alpha, replaces=replaces)


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
    cropped = bool(performance.boxes)
    frames = enumerate(progress(driving, args.max_frames, "animating", tell))
    while batch := list(itertools.islice(frames, batch_frames(engine.choice))):
        shots = [performance.shot(index, frame, engine.config.size_px) for index, frame in batch]
        lost = [drive.lacks(shot) or (cropped and shot.face is None) for shot in shots]
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
        print(f"{args.save_motion}: the motion of {done.motion_frames} frames")
        if done.short_motion:
            print(f"{done.short_motion}; cut the video into parts to keep the motion of all", file=sys.stderr)
    if done.undisclosed:
        print(f"it is written, but without Content Credentials: {done.undisclosed}", file=sys.stderr)
    elif result.frames and not args.no_content_credentials and (beside := _statement_beside(Path(args.output))):
        print(f"{beside}: the video's Content Credentials; keep it beside it")
    if args.contact_sheet:
        print(f"{args.contact_sheet}: {len(result.moments)} moments")
