"""`mcnet inspect`: what the network sees and does inside on one frame, or on all of them, as pictures."""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcnet.commands.animate_options import add_motion_options
from mcnet.commands.arguments import number, whole_number
from mcnet.commands.footage import (
    Performance,
    SourcePortrait,
    find_performance,
    load_portrait,
    progress,
    shot_of,
)
from mcnet.commands.motion_asked import check_motion, make_drive
from mcnet.commands.status import INTERRUPTED
from mcnet.signals import StopSignals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mcnet.arrays import Array, Keypoints, Rgb, SourceCache
    from mcnet.commands.drives import Shot
    from mcnet.generator import Mcnet
    from mcnet.inspection.figures import Performer, Range
    from mcnet.inspection.seen import Seen
    from mcnet.media.video import DrivingVideo

PICTURES = (
    "overview",
    "keypoints",
    "sparse_motions",
    "flow",
    "masks",
    "occlusion",
    "blend",
    "features",
    "memory",
    "attention",
    "scales",
)
"""What is written, by name; the last four of a network with memory alone."""
OF_MEMORY = PICTURES[-4:]
VIDEO = "overview.mp4"
SCALES = (0.7, 0.85, 1.0, 1.2, 1.4)
"""Of the source's face, in the picture of how the memory follows it."""


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "inspect",
        help="show what the network does inside, as pictures",
        description="Show what the network does inside on one frame: keypoints, sparse and dense motion, masks, "
        "occlusion, warped and generated picture, features before and after the memory compensates them, the memory "
        "itself, attention over it, and how it follows the source's scale. The plain network in float32 computes it.",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--source",
        required=True,
        metavar="IMAGE|NAME",
        help="the portrait: a picture of any usual kind, or a bundled name (woman_1)",
    )
    files.add_argument(
        "--driving", type=Path, required=True, metavar="VIDEO", help="who moves it: a video, or a folder of pictures"
    )
    files.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder for the pictures, which is made if need be; older ones of the same names are replaced",
    )
    files.add_argument("--video", action="store_true", help=f"also write {VIDEO}: the overview of every frame")
    what = parser.add_argument_group("what is shown")
    what.add_argument(
        "--frame", type=whole_number(), metavar="N", help="the frame, counted from 0 (default: the middle one)"
    )
    what.add_argument(
        "--point",
        type=_point,
        default=(0.5, 0.64),
        metavar="X,Y",
        help="whose attention is shown: shares of the picture, 0,0 is its upper left corner (default: 0.5,0.64)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default="starter",
        help="a bundled name, a .safetensors file, a model's folder or a .pth.tar (default: starter)",
    )
    model.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    motion = add_motion_options(parser)
    motion.add_argument("--max-frames", type=whole_number(1), metavar="N", help="look at the first N frames only")
    parser.set_defaults(run=run)


def _point(text: str) -> tuple[float, float]:
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a number from 0 to 1 and another after a comma, as 0.5,0.64"
        )
    x, y = map(number(0, 1), parts)
    return x, y


def run(args: argparse.Namespace) -> int:
    """Look, and say what was written."""
    from mcnet.checkpoint import load_model
    from mcnet.commands.outputs import check_folder
    from mcnet.inspection.figures import Range
    from mcnet.media.errors import MediaError
    from mcnet.media.images import write_rgb
    from mcnet.media.portraits import find_portrait
    from mcnet.media.video import open_driving
    from mcnet.model_file import find_model
    from mcnet.track_name import is_track

    path = find_portrait(args.source)
    if is_track(args.driving):
        raise MediaError(
            f"--driving {args.driving}: a motion file has no pictures to look at; take the video that it was saved of, "
            "or another one"
        )
    names = [f"{name}.png" for name in PICTURES] + [VIDEO] * args.video
    check_folder(
        "--output", args.output, names, {"--source": path, "--driving": args.driving, "--model": Path(args.model)}
    )
    find_model(args.model)  # a misspelt name shall not wait for the face search
    model = load_model(args.model)
    measurable = check_motion(args, model)
    portrait = load_portrait(path, args, measurable=measurable)
    driving = open_driving(args.driving)
    with StopSignals() as stop:
        performance = find_performance(driving, args, stop, measurable=measurable)
        inspector = Inspector(args, model, portrait, driving, performance, measurable=measurable)
        index = chosen_frame(args, driving, performance, needs_face=inspector.needs_face)
        look = inspector.look(inspector.shot(index))
        shown = Range.of(look.seen)
        args.output.mkdir(exist_ok=True)
        for name, draw in figures(inspector, look, shown, args.point).items():
            write_rgb(args.output / f"{name}.png", draw())
        print(f"{args.output}: frame {index} by model {model.info.name}, {inspector.drive.name}")
        if not look.seen.levels_px:
            print(f"model {model.info.name} has no memory: {', '.join(OF_MEMORY)} are left out", file=sys.stderr)
        if args.video:
            frames = write_video(args.output / VIDEO, inspector, look, shown, stop)
            print(f"{args.output / VIDEO}: {frames} frames at {driving.fps:g} frames/s")
    return INTERRUPTED if stop.received else 0


def chosen_frame(
    args: argparse.Namespace, driving: "DrivingVideo", performance: Performance, *, needs_face: bool
) -> int:
    """The number of the frame that is shown.

    Raises:
        MediaError: the one that was asked for is not there, or shows no face.
    """
    from mcnet.media.errors import MediaError

    faces = performance.faces
    count = len(faces) or sum(1 for _ in progress(driving, args.max_frames, "counting frames"))
    if not count:
        raise MediaError(f"{driving.path} has no frame: expected a video or pictures of a face")
    usable = [index for index in range(count) if not needs_face or faces[index] is not None]
    if args.frame is None:
        return usable[len(usable) // 2]
    if args.frame >= count:
        raise MediaError(f"--frame {args.frame}: {driving.path} has {count} frames, expected 0 to {count - 1}")
    if args.frame not in usable:
        nearest = min(usable, key=lambda index: abs(index - args.frame))
        raise MediaError(
            f"--frame {args.frame}: it shows no face, expected one that looks towards the camera; the nearest that "
            f"does is {nearest}"
        )
    return int(args.frame)


class Look(NamedTuple):
    """One frame and the performer in it."""

    seen: "Seen"
    performer: "Performer"


class Inspector:
    """Drives the source as `mcnet animate` does, and looks at frames by the plain network.

    Attributes:
        model: plain, in float32, where the keypoints are found.
        driving: the performer's video.
        drive: how the source is moved.
        needs_face: whether a frame without a face cannot be looked at.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        model: "Mcnet",
        portrait: SourcePortrait,
        driving: "DrivingVideo",
        performance: Performance,
        *,
        measurable: bool,
    ) -> None:
        from mcnet.engine import Engine, EngineOptions

        # The network itself shows what it does; the engine finds keypoints and does nothing else.
        options = EngineOptions(device=args.device, precision="fp32", backend="torch", warm_up_frames=0)
        self._engine: Engine = Engine(model, options)
        self.model = model.to(self._engine.choice.device)
        self.driving = driving
        self._performance = performance
        self._portrait = portrait
        self._max_frames = args.max_frames
        self._size_px = model.config.size_px
        source = shot_of(portrait.rgb, portrait.face, portrait.box, self._size_px)
        self.drive = make_drive(args, self._engine, source, driving, performance, measurable=measurable, retouch=False)
        self.needs_face = self.drive.measures or bool(performance.boxes)
        assert self._engine.source is not None
        self._measured = self._engine.source.measured
        self._cache = self._encode(source)

    def shots(self) -> "Iterator[tuple[int, Shot]]":
        """The frames with their numbers, as the model sees them."""
        for index, frame in enumerate(progress(self.driving, self._max_frames, "looking")):
            yield index, self._performance.shot(index, frame, self._size_px)

    def shot(self, index: int) -> "Shot":
        """One frame by its number.

        Raises:
            MediaError: the video has become shorter since its frames were counted.
        """
        from mcnet.media.errors import MediaError

        read = 0
        for at, shot in self.shots():
            if at == index:
                return shot
            read = at + 1
        raise MediaError(
            f"{self.driving.path}: got {read} frames when it was read again, expected frame {index} as at first; look "
            "whether it is still being written, and whether its disk reads well"
        )

    def look(self, shot: "Shot") -> Look:
        """At the source, driven by a frame."""
        from mcnet.inspection.figures import Performer
        from mcnet.inspection.seen import see
        from mcnet.model_file import driven_as_trained

        driving = self._tensors(self.drive.keypoints([shot]))
        if self._measured:
            driving = driven_as_trained(self.model.info, driving, self._cache.keypoints)
        own = self._engine.detect(shot.square, self._places(shot))
        return Look(see(self.model, self._cache, driving), Performer(shot.square, self._tensors(own)))

    def at_scale(self, factor: float) -> "Seen":
        """The source at rest, with its face larger by a factor."""
        from mcnet.inspection.seen import see
        from mcnet.media.crop import central_square

        box = self._portrait.box or central_square(self._portrait.rgb)
        shot = shot_of(self._portrait.rgb, self._portrait.face, replace(box, side=box.side / factor), self._size_px)
        cache = self._encode(shot)
        return see(self.model, cache, cache.keypoints)

    def _encode(self, shot: "Shot") -> "SourceCache":
        import torch

        from mcnet.pictures import to_picture

        keypoints = self._tensors(self._engine.detect(shot.square, self._places(shot)))
        rgb = torch.from_numpy(shot.square[None]).to(keypoints.value.device)
        with torch.inference_mode():
            return self.model.generator.encode_source(to_picture(rgb), keypoints)

    def _tensors(self, keypoints: "Keypoints[Array]") -> "Keypoints":
        """The engine's keypoints for the plain model, where that is."""
        import torch

        from mcnet.arrays import Keypoints

        device = next(self.model.parameters()).device
        return Keypoints(*(torch.from_numpy(part).to(device) for part in keypoints))

    def _places(self, shot: "Shot") -> "NDArray[np.float64] | None":
        return shot.places(self._engine.keypoint_landmarks) if self._measured else None


def figures(
    inspector: Inspector, look: Look, shown: "Range", point: tuple[float, float]
) -> "dict[str, Callable[[], Rgb]]":
    """What draws each picture, by its name; without those of the memory for a network that has none."""
    from mcnet.inspection import figures as draw

    seen, performer = look
    made: dict[str, Callable[[], Rgb]] = {
        "overview": lambda: draw.overview(seen, performer, shown),
        "keypoints": lambda: draw.keypoints(seen, performer),
        "sparse_motions": lambda: draw.sparse_motions(seen),
        "flow": lambda: draw.flow(seen, inspector.model.config.border, shown),
        "masks": lambda: draw.masks(seen),
        "occlusion": lambda: draw.occlusion(seen),
        "blend": lambda: draw.blend(seen),
        "features": lambda: draw.features(seen),
        "memory": lambda: draw.memory(seen),
        "attention": lambda: draw.attention(seen, point),
        "scales": lambda: draw.scales([(factor, inspector.at_scale(factor)) for factor in SCALES]),
    }
    assert tuple(made) == PICTURES
    return {name: made[name] for name in PICTURES if seen.levels_px or name not in OF_MEMORY}


def write_video(path: Path, inspector: Inspector, look: Look, shown: "Range", stop: StopSignals) -> int:
    """Write the overview of every frame, until `stop` has a signal.

    A frame without a face holds the picture before it; before the first face, that of `look`.

    Returns:
        How many frames were written.
    """
    from mcnet.inspection.figures import overview
    from mcnet.media.video_writer import VideoWriter

    sheet = overview(*look, shown)
    with VideoWriter(path, inspector.driving.fps, (sheet.shape[1], sheet.shape[0])) as writer:
        for _, shot in inspector.shots():
            if shot.face is not None or not inspector.needs_face:
                sheet = overview(*inspector.look(shot), shown)
            writer.write(sheet)
            if stop.received:
                break
    return writer.frame_count
