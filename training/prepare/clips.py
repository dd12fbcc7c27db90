"""From one source to its clips: follow the faces, judge what was followed, cut out what is good enough.

A pack of photographs gives one clip of kind `photos`, cut by one box, so that what differs between two of them is what
the person did. In it a frame is a photograph.

What a source gives lies in a folder of its own, put in place in one step when it is complete:

    record.json     the source's facts, its clips and rejects
    landmarks.npy   (frames of all clips in the record's order, points, 3) float16: x and y in [0, 1] of the clip's
                    side, z in the same unit
    clips/          KEY.mp4: H.264, or a folder of PNGs; KEY is NAME#TRACK#FIRST#LAST, frames of the source counted at
                    the clips' rate
"""

import contextlib
import dataclasses
import io
import itertools
import json
import logging
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import SquareBox, crop
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.video import DrivingVideo, open_driving
from mcnet.media.video_writer import VideoWriter
from mcnet.mesh_points import MESH_SIZE
from training.landmarks import TRAINING_POINTS
from training.prepare.progress import NOTE_SUFFIX, Note
from training.prepare.sources import Source
from training.prepare.tracks import (
    SHARPNESS_EVERY,
    FaceTrack,
    Tracker,
    clip_square,
    face_width_px,
    fits_one_square,
    head_pose_deg,
    motion_of,
    outside_share,
    sharpness_of,
    split_by_movement,
)
from training.prepare.workers import WorkerError

RECORD = "record.json"
LANDMARKS = "landmarks.npy"
_CLIP_REASONS = ("unreadable", "no_face", "too_short", "too_small", "blurred", "still", "cut_off", "moving")
REASONS = ("copy", *_CLIP_REASONS, "apart", "failed", "crashed")
"""Why something is rejected, in the order in which it is checked; `apart` is told of photographs; `failed` is an error
of ours, and tried again."""


@dataclass(frozen=True)
class ClipRules:
    """What becomes a clip, and how it is stored."""

    size_px: int = 256
    """Side of the clips."""
    fps: float = 25.0
    """Frames per second of the clips. Videos are resampled by their time stamps; folders of pictures count as such."""
    min_face_px: float = 77.0
    """A clip is rejected if the median width of its face in the source is less."""
    min_seconds: float = 1.0
    """A clip is rejected if it is shorter."""
    max_seconds: float = 20.0
    """A longer clip is divided into equal parts."""
    min_sharpness: float = 12.0
    """A clip is rejected if its median sharpness is less; see `training.prepare.tracks.sharpness_of`."""
    min_motion: float = 0.005
    """A clip is rejected as a still if its face moves less; see `training.prepare.tracks.motion_of`."""
    max_outside: float = 0.15
    """A clip is rejected if more of its square lies outside the picture."""
    png: bool = False
    """Store folders of PNGs instead of H.264."""
    all_points: bool = True
    """Store all points of the mesh and its irises, or those that `fit` uses."""

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip."""
        return max(2, math.ceil(self.min_seconds * self.fps - 1e-6))

    @property
    def points(self) -> tuple[int, ...]:
        """The mesh points that are stored."""
        return tuple(range(MESH_SIZE)) if self.all_points else TRAINING_POINTS


@dataclass(frozen=True)
class ClipFacts:
    """A clip: where it comes from and how good it is."""

    key: str
    """NAME#TRACK#FIRST#LAST."""
    track: int
    """Which of the source's faces."""
    start: int
    """First frame, of the source at the clips' rate."""
    frames: int
    """How many."""
    center_x: float
    """Of the square, in the source's pixels."""
    center_y: float
    """Likewise."""
    side_px: float
    """Likewise."""
    outside: float
    """Share of the square beyond the picture's border."""
    face_width_px: float
    """Median width of the mesh's box in the source."""
    sharpness: float
    """Median of `sharpness_of`."""
    yaw_range_deg: float
    """From the 2nd to the 98th percentile of the head's turn; likewise the next two."""
    pitch_range_deg: float
    """Nod."""
    roll_range_deg: float
    """Tilt."""
    motion: float
    """See `motion_of`; 0 for photographs."""
    ended: str
    """Why the track, or this part of it, ends: as `FaceTrack.ended`, `moved` or `divided`."""


@dataclass(frozen=True)
class Reject:
    """Something that became no clip."""

    source: str
    """Label of the source."""
    reason: str
    """One of REASONS."""
    detail: str
    """What was got and what was expected."""
    track: int = -1
    """Which of the source's faces; -1 for the whole source."""
    start_s: float = 0.0
    """Where it begins in the source."""
    seconds: float = 0.0
    """How long it lasts."""


@dataclass(frozen=True)
class Record:
    """What a source gave."""

    label: str
    """The source's."""
    stamp: str
    """Of the source when it was read."""
    clips: tuple[ClipFacts, ...]
    """In the order of track and time."""
    rejects: tuple[Reject, ...]
    """Likewise."""
    remarks: tuple[str, ...] = ()
    """What else is to be told of the source, such as damage."""
    frames: int = 0
    """At the clips' rate."""
    width_px: int = 0
    """Of the picture."""
    height_px: int = 0
    """Of the picture."""

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            clips = tuple(ClipFacts(**clip) for clip in values.pop("clips"))
            rejects = tuple(Reject(**reject) for reject in values.pop("rejects"))
            return cls(clips=clips, rejects=rejects, remarks=tuple(values.pop("remarks")), **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")


class SourceTask(NamedTuple):
    """What a worker needs.

    Attributes:
        source: to prepare.
        stamp: of the source.
        rules: for its clips.
        partial: where to work; whatever is there is removed. Beside it lies the `Note` of how far the work is.
        done: what `partial` becomes when it is complete.
    """

    source: Source
    stamp: str
    rules: ClipRules
    partial: Path
    done: Path

    @property
    def note(self) -> Path:
        """Where it is told how far the work is."""
        return self.partial.with_name(self.partial.name + NOTE_SUFFIX)


class _Found(NamedTuple):
    """A clip to cut.

    Attributes:
        facts: of it.
        square: where.
        landmarks: (frames, points, 3) float16.
    """

    facts: ClipFacts
    square: SquareBox
    landmarks: NDArray[np.float16]


def prepare_source(task: SourceTask) -> Record:
    """Make the clips of one source.

    Returns:
        What came of it, rejects included; it also lies in `task.done`.

    Raises:
        WorkerError: the result cannot be written.
    """
    cv2.setNumThreads(1)
    source, rules = task.source, task.rules
    try:
        shutil.rmtree(task.partial, ignore_errors=True)
        (task.partial / "clips").mkdir(parents=True)
        with _warnings_kept() as remarks:
            if source.pack is None:
                found, record = _look(source, rules, task.note)
                _see_that_it_is_there(source)
                if found:
                    _cut_out(source, rules, found, task.partial / "clips")
            else:
                photographs, record = _look_at_photographs(source, source.pack.pictures, rules)
                _see_that_it_is_there(source)
                found = [] if photographs is None else [photographs.clip]
                if photographs is not None:
                    _cut_out_photographs(photographs, rules, task.partial / "clips")
        record = dataclasses.replace(record, stamp=task.stamp, remarks=tuple(dict.fromkeys(remarks)))
        landmarks = [clip.landmarks for clip in found]
        empty = np.zeros((0, len(rules.points), 3), np.float16)
        stored = io.BytesIO()  # of a full disk NumPy tells the bytes alone
        np.save(stored, np.concatenate([empty, *landmarks]))
        (task.partial / LANDMARKS).write_bytes(stored.getbuffer())
        record.write(task.partial / RECORD)
        shutil.rmtree(task.done, ignore_errors=True)
        task.done.parent.mkdir(parents=True, exist_ok=True)
        task.partial.rename(task.done)
    except OSError as error:
        raise WorkerError(f"cannot write {task.done}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(task.partial, ignore_errors=True)
        task.note.unlink(missing_ok=True)
    return record


def _see_that_it_is_there(source: Source) -> None:
    """Tell a source that cannot be read from one that is away, as a drive may be: that would count as done for good.

    Raises:
        WorkerError: it is away.
    """
    try:
        _ = source.stamp
    except OSError as error:
        raise WorkerError(
            f"{error.filename or source.path} cannot be reached any more ({error.strerror or error}): see that its "
            "drive is there, and that nobody takes it away meanwhile; the same call goes on"
        ) from error


def _look(source: Source, rules: ClipRules, note: Path) -> tuple[list[_Found], Record]:
    """The first reading: follow the faces and judge them."""
    found: list[_Found] = []
    rejects: list[Reject] = []
    width_px = height_px = frames = tracks = 0
    try:
        video, duration_s = _open(source, rules.fps)
        progress = Note(note, duration_s)
        width_px, height_px = video.frame_size_px
        with FaceFinder() as finder:
            tracker = Tracker(finder, rules.min_face_px, rules.fps)
            for ended in _ended_tracks(tracker, video):
                for track in ended:
                    accepted, refused = _judge(track, source, rules, video.frame_size_px)
                    found += accepted
                    rejects += refused
                    tracks += 1
                frames += 1
                progress.at(frames / rules.fps)
            frames -= 1  # the last round is the video's end
    except (MediaError, OSError) as error:
        # A folder of pictures may turn out to be unusable midway: nothing of it is used.
        detail = str(error).replace(str(source.path), source.label)
        found, rejects, tracks = [], [Reject(source.label, "unreadable", detail)], 1
    if not tracks:
        detail = f"none in {frames} frames; faces below {rules.min_face_px * 2 / 3:.0f} px are not looked for"
        rejects.append(Reject(source.label, "no_face", detail, seconds=frames / rules.fps))
    found.sort(key=lambda clip: (clip.facts.track, clip.facts.start))
    rejects.sort(key=lambda reject: (reject.track, reject.start_s))
    facts = tuple(clip.facts for clip in found)
    return found, Record(source.label, "", facts, tuple(rejects), (), frames, width_px, height_px)


def _open(source: Source, fps: float) -> tuple[DrivingVideo, float | None]:
    """The video at the clips' rate, and how long it is, if it tells."""
    video = open_driving(source.path, folder_fps=fps)
    duration_s = None if video.frame_count is None else video.frame_count / video.fps
    video.fps = fps  # slower videos as well are resampled: a clip's frames are always as far apart
    return video, duration_s


def _ended_tracks(tracker: Tracker, video: Iterable[NDArray[np.uint8]]) -> Iterator[list[FaceTrack]]:
    for rgb in video:
        yield tracker.step(rgb)
    yield tracker.finish()


def _judge(
    track: FaceTrack, source: Source, rules: ClipRules, frame_size_px: tuple[int, int]
) -> tuple[list[_Found], list[Reject]]:
    """Divide a track into clips, and keep those that are good enough."""
    accepted: list[_Found] = []
    rejects: list[Reject] = []
    longest = max(1, round(rules.max_seconds * rules.fps))
    for part, held in split_by_movement(track.faces, *frame_size_px, rules.max_outside, rules.min_frames):
        pieces = math.ceil(len(part) / longest)
        borders = [part.start + len(part) * piece // pieces for piece in range(pieces + 1)]
        for first, last in itertools.pairwise(borders):
            at_end = last == len(track.faces)
            ended = track.ended if at_end else "moved" if last == part.stop else "divided"
            measured = range(first // SHARPNESS_EVERY, (last - 1) // SHARPNESS_EVERY + 1)
            sharpness = [track.sharpness[index] for index in measured]
            piece = _Piece(track.number, track.start + first, track.faces[first:last], sharpness, ended)
            clip = _measure(piece, source, rules, frame_size_px)
            reason = _reason_against(clip.facts, rules)
            if not held and reason is None:
                reason = "moving", f"got a head that no square holds for {rules.min_seconds:g} s"
            if reason:
                seconds = clip.facts.frames / rules.fps
                start_s = round(clip.facts.start / rules.fps, 3)
                rejects.append(Reject(source.label, *reason, track.number, start_s, round(seconds, 3)))
            else:
                accepted.append(clip)
    return accepted, rejects


class _Piece(NamedTuple):
    """What may become a clip.

    Attributes:
        track: which of the source's faces.
        start: index of the first frame.
        faces: one per frame.
        sharpness: of some of them.
        ended: see `ClipFacts`.
    """

    track: int
    start: int
    faces: Sequence[Face]
    sharpness: Sequence[float]
    ended: str


def _measure(piece: _Piece, source: Source, rules: ClipRules, frame_size_px: tuple[int, int]) -> _Found:
    faces, consecutive = piece.faces, source.pack is None
    square = clip_square(faces, *frame_size_px, consecutive=consecutive)
    poses = np.array([head_pose_deg(face.landmarks_px) for face in faces])
    low, high = np.percentile(np.unwrap(poses, axis=0, period=360), [2, 98], axis=0)
    facts = ClipFacts(
        key=f"{source.name}#{piece.track:03d}#{piece.start:06d}#{piece.start + len(faces) - 1:06d}",
        track=piece.track,
        start=piece.start,
        frames=len(faces),
        center_x=round(square.center_x, 2),
        center_y=round(square.center_y, 2),
        side_px=round(square.side, 2),
        outside=round(outside_share(square, *frame_size_px), 3),
        face_width_px=round(float(np.median([face_width_px(face) for face in faces])), 1),
        sharpness=round(float(np.median(piece.sharpness)), 1),
        yaw_range_deg=round(float(high[0] - low[0]), 1),
        pitch_range_deg=round(float(high[1] - low[1]), 1),
        roll_range_deg=round(float(high[2] - low[2]), 1),
        motion=round(motion_of(faces, rules.fps), 4) if consecutive else 0.0,
        ended=piece.ended,
    )
    return _Found(facts, square, _in_square(faces, square, rules.points))


def _in_square(faces: Sequence[Face], square: SquareBox, points: tuple[int, ...]) -> NDArray[np.float16]:
    corner = np.array([square.center_x - square.side / 2, square.center_y - square.side / 2, 0])
    places = np.stack([face.mesh_px[list(points)] for face in faces])
    return np.asarray((places - corner) / square.side, np.float16)


def _reason_against(facts: ClipFacts, rules: ClipRules) -> tuple[str, str] | None:
    """Why a clip is rejected, and the figures."""
    seconds = facts.frames / rules.fps
    if facts.frames < 2 or seconds < rules.min_seconds - 1e-6:
        got = f"{facts.frames} frame{'s' * (facts.frames != 1)} ({seconds:.2f} s), then {_ENDINGS[facts.ended]}"
        return "too_short", f"got {got}; expected {rules.min_seconds:g} s"
    if facts.face_width_px < rules.min_face_px:
        return "too_small", f"got a face {facts.face_width_px:.0f} px wide, expected {rules.min_face_px:.0f}"
    if facts.sharpness < rules.min_sharpness:
        return "blurred", f"got a sharpness of {facts.sharpness:.1f}, expected {rules.min_sharpness:g}"
    if facts.motion < rules.min_motion:
        return "still", f"got a motion of {facts.motion:.4f} faces/s, expected {rules.min_motion:g}"
    if facts.outside > rules.max_outside:
        return "cut_off", _too_much_outside(facts, rules)
    return None


def _too_much_outside(facts: ClipFacts, rules: ClipRules) -> str:
    return f"got {facts.outside:.0%} of the square beyond the border, expected {rules.max_outside:.0%}"


_ENDINGS = {
    "cut": "a cut",
    "lost": "the face is lost",
    "left": "the face leaves the picture",
    "long": "the next part",
    "end": "the end",
    "moved": "the head moves out of the square",
    "divided": "the next part",
}


def _cut_out(source: Source, rules: ClipRules, found: list[_Found], folder: Path) -> None:
    """The second reading: write the clips."""
    waiting = sorted(found, key=lambda clip: clip.facts.start, reverse=True)
    size = (rules.size_px, rules.size_px)
    at_work: list[tuple[_Found, VideoWriter]] = []
    with contextlib.ExitStack() as stack:
        for index, rgb in enumerate(_open(source, rules.fps)[0]):
            try:
                while waiting and waiting[-1].facts.start == index:
                    clip = waiting.pop()
                    writer = VideoWriter(_file_of(clip, rules, folder), rules.fps, size)
                    at_work.append((clip, stack.enter_context(writer)))
                for clip, writer in list(at_work):
                    writer.write(crop(rgb, clip.square, rules.size_px))
                    if writer.frame_count == clip.facts.frames:
                        writer.close()
                        at_work.remove((clip, writer))
            except MediaError as error:
                raise WorkerError(str(error)) from error
            if not waiting and not at_work:
                return
    raise WorkerError(f"{source.path} has changed while it was read: call again when nobody writes to it")


class _Photograph(NamedTuple):
    """A photograph that is good enough.

    Attributes:
        path: of it.
        face: its largest.
        sharpness: see `sharpness_of`.
        frame_size_px: width and height.
    """

    path: Path
    face: Face
    sharpness: float
    frame_size_px: tuple[int, int]


class _Photographs(NamedTuple):
    """A pack that can be used.

    Attributes:
        clip: what it becomes.
        pictures: those that are used, in the clip's order.
    """

    clip: _Found
    pictures: list[Path]


def _look_at_photographs(
    source: Source, pictures: Sequence[Path], rules: ClipRules
) -> tuple[_Photographs | None, Record]:
    """Find the face of each photograph, leave out those that are not good enough, and judge the rest as one clip."""
    rejects: list[Reject] = []
    good: list[_Photograph] = []
    with FaceFinder(max_faces=1) as finder:
        for picture in pictures:
            try:
                rgb = read_rgb(picture)
            except MediaError as error:
                rejects.append(Reject(source.label, "unreadable", str(error).replace(str(picture), picture.name)))
                continue
            faces = finder.find(rgb)
            sharpness = sharpness_of(rgb, faces[0]) if faces else 0.0
            if reason := _reason_against_photograph(faces, sharpness, rules):
                rejects.append(Reject(source.label, reason[0], f"{picture.name}: {reason[1]}"))
            else:
                good.append(_Photograph(picture, faces[0], sharpness, (rgb.shape[1], rgb.shape[0])))
    frame_size_px = Counter(one.frame_size_px for one in good).most_common(1)[0][0] if good else (0, 0)
    for one in good:
        if one.frame_size_px != frame_size_px:
            got = "got {} x {} pixels, expected {} x {} as most of the pack has".format(
                *one.frame_size_px, *frame_size_px
            )
            rejects.append(Reject(source.label, "apart", f"{one.path.name}: {got}: one box cuts all of them"))
    good = [one for one in good if one.frame_size_px == frame_size_px]
    used: _Photographs | None = None
    if good:
        faces = [one.face for one in good]
        clip = _measure(_Piece(0, 0, faces, [one.sharpness for one in good], "end"), source, rules, frame_size_px)
        if not fits_one_square(faces):
            detail = "the heads are too far apart for one box: give what was taken from another place as another pack"
            rejects.append(Reject(source.label, "apart", detail))
        elif clip.facts.outside > rules.max_outside:
            rejects.append(Reject(source.label, "cut_off", _too_much_outside(clip.facts, rules)))
        else:
            used = _Photographs(clip, [one.path for one in good])
    facts = () if used is None else (used.clip.facts,)
    return used, Record(source.label, "", facts, tuple(rejects), (), len(pictures), *frame_size_px)


def _reason_against_photograph(faces: Sequence[Face], sharpness: float, rules: ClipRules) -> tuple[str, str] | None:
    if not faces:
        return "no_face", "no face is found"
    if (width_px := face_width_px(faces[0])) < rules.min_face_px:
        return "too_small", f"got a face {width_px:.0f} px wide, expected {rules.min_face_px:.0f}"
    if sharpness < rules.min_sharpness:
        return "blurred", f"got a sharpness of {sharpness:.1f}, expected {rules.min_sharpness:g}"
    return None


def _cut_out_photographs(photographs: _Photographs, rules: ClipRules, folder: Path) -> None:
    """The second reading: write the clip."""
    clip = photographs.clip
    try:
        with VideoWriter(_file_of(clip, rules, folder), rules.fps, (rules.size_px, rules.size_px)) as writer:
            for picture in photographs.pictures:
                writer.write(crop(read_rgb(picture), clip.square, rules.size_px))
    except MediaError as error:
        raise WorkerError(str(error)) from error


def _file_of(clip: _Found, rules: ClipRules, folder: Path) -> str:
    return f"{folder / clip.facts.key}.mp4{'/' if rules.png else ''}"


@contextlib.contextmanager
def _warnings_kept() -> Iterator[list[str]]:
    """Collect what reading a video warns of, instead of telling it between the lines of a progress bar."""
    kept: list[str] = []
    logger = logging.getLogger("mcnet.media")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield kept
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
