"""What an animation is made of: the portrait, and the performer's video, with the faces in them."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mcnet.signals import StopSignals

if TYPE_CHECKING:
    from mcnet.arrays import Array, Keypoints, Rgb
    from mcnet.commands.drives import Shot
    from mcnet.commands.jobs import Tell
    from mcnet.media.crop import SquareBox
    from mcnet.media.faces import Face
    from mcnet.media.motion_track import TrackDriving
    from mcnet.media.performers import Performers
    from mcnet.media.video import DrivingVideo

LOOK_EVERY_FRAMES, MOST_LOOKS = 25, 40
"""So often, and so many times, a frame with a face is looked at for whether it lies: each takes some 50 ms."""
LYING_SHARE = 0.2
"""Of the frames that are looked at: where more of them lie, so does the video."""


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
    from mcnet.media.suitability import poor_portrait, suitability
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
        if poor := poor_portrait(str(path), score, remarks):
            print(poor, file=sys.stderr)
        return SourcePortrait(view.rgb, faces[0], box)
    # A face beside the central square is not the one that is animated.
    shown = [face for face in faces if lies_in(face, central_square(rgb))]
    return SourcePortrait(rgb, shown[0] if shown else faces[0] if args.best_frame else None, None)


@dataclass(frozen=True)
class Performance:
    """What the first pass over a driving video found.

    Attributes:
        faces: the followed face of each frame, or None; empty when nobody looked for it.
        boxes: where each frame is cropped; empty when it is not.
        known: a model's keypoints of each frame, from a motion file, or None where it found none; empty without them.
        performers: who is seen in each frame; None where no face was found.
    """

    faces: Sequence["Face | None"]
    boxes: Sequence["SquareBox"]
    known: Sequence["Keypoints[Array] | None"] = ()
    performers: "Performers | None" = None

    def shot(self, index: int, frame: "Rgb", size_px: int) -> "Shot":
        """Frame `index` as the model sees it."""
        face = self.faces[index] if index < len(self.faces) else None
        shot = shot_of(frame, face, self.boxes[index] if index < len(self.boxes) else None, size_px)
        return replace(
            shot,
            known=self.known[index] if index < len(self.known) else None,
            performer=self.performers.of_frames[index] if self.performers else 0,
        )


def open_performer(path: Path) -> "DrivingVideo | TrackDriving":
    """A driving video, a folder of pictures, or a motion file.

    Raises:
        MediaError: it is none of them, or cannot be read.
    """
    from mcnet.media.motion_track import open_track
    from mcnet.media.video import open_driving
    from mcnet.track_name import is_track

    return open_track(path) if is_track(path) else open_driving(path)


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

    from mcnet.media.cuts import SceneFinder
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
        return performance_of(faces, driving.fps, (), known, crop=not args.no_crop)
    if args.no_crop and not (args.best_frame or measurable or getattr(args, "save_motion", None)):
        return Performance((), ())
    faces = []
    scenes, other_scenes = SceneFinder(), []
    turns_deg: list[float] = []
    seen = 0
    with FaceFinder(tracking=True, small=True) as finder:
        for index, frame in enumerate(progress(driving, args.max_frames, "finding the face", tell)):
            if stop.received:
                raise KeyboardInterrupt
            found = finder.find(frame, index / driving.fps)
            face = found[0] if found and found[0].box.share_inside(frame) >= LEAST_INSIDE else None
            # What is hardly a face is none, as live: the picture before it is held.
            likely = face is not None and Head.of(face.landmarks_px.astype(np.float64)).likely
            faces.append(face if likely else None)
            other_scenes.append(likely and scenes.is_another(frame))
            seen += likely
            if likely and seen % LOOK_EVERY_FRAMES == 1 and len(turns_deg) < MOST_LOOKS:
                turns_deg.append(upright(finder, frame).angle_deg)
    if not any(face is not None for face in faces):
        needed = ["--best-frame"] if args.best_frame else []
        needed += ["--save-motion"] if getattr(args, "save_motion", None) else []
        if args.no_crop and not needed:
            return Performance((), ())
        way_out = "pass --no-crop to use the central square as it is"
        if args.no_crop:
            way_out = f"leave {' and '.join(needed)} out"
        if args.max_frames:
            way_out += ", or raise --max-frames"
        raise MediaError(
            f"no face in any of the {len(faces)} frames of {driving.path}: expected one that looks towards the camera; "
            f"{way_out}"
        )
    tell_lying(driving.path, turns_deg)
    return performance_of(faces, driving.fps, other_scenes, crop=not args.no_crop)


def performance_of(
    faces: "Sequence[Face | None]",
    fps: float,
    other_scenes: Sequence[bool],
    known: "Sequence[Keypoints[Array] | None]" = (),
    *,
    crop: bool,
) -> Performance:
    """What the faces of a video say: its shots, who is seen in them, and where each frame is to be cropped.

    Args:
        faces: of each frame, or None; at least one is a face.
        fps: frames per second.
        other_scenes: see `find_shots`.
        known: see `Performance`.
        crop: whether frames are to be cropped.
    """
    from mcnet.media.crop import find_shots, plan_crops
    from mcnet.media.performers import tell_apart

    shots = find_shots(faces, fps, other_scenes)
    performers = tell_apart([None if face is None else face.landmarks_px for face in faces], shots, fps)
    return Performance(faces, plan_crops(faces, fps, shots) if crop else (), known, performers)


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


def shot_of(rgb: "Rgb", face: "Face | None", box: "SquareBox | None", size_px: int) -> "Shot":
    """A picture with its face and its crop; without a box the central square."""
    from mcnet.commands.drives import Shot
    from mcnet.media.crop import central_square

    return Shot(rgb, face, box or central_square(rgb), size_px)


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
