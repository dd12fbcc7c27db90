"""Motion without pictures: a performer's face mesh, keypoints and times in a file; see docs/motion_files.md."""

import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mcnet.arrays import Keypoints, Rgb
from mcnet.files import cause_and_remedy, replacing
from mcnet.mean_head import RIGID_POINTS
from mcnet.media.crop import SquareBox
from mcnet.media.errors import MediaError
from mcnet.media.face_mesh import IRIS_POINTS, LANDMARK_COUNT, Face
from mcnet.media.timing import LONGEST_HOLD_S, constant_rate, one_a_slot
from mcnet.phrases import phrase
from mcnet.pose import invert_2x2

logger = logging.getLogger(__name__)

FORMAT, VERSION = "mcnet-motion", 1
MOST_FRAMES = 18_000
"""Ten minutes at 30 frames per second, 52 to 60 MB."""
LONGEST_S = 24 * 3600.0
"""From the first frame to the last one."""
_MOST_BYTES = 256 * 1024 * 1024
_MOST_FPS_HZ = 120.0
_TICK_S = 1e-6
"""So finely, at least, times are told."""
_LONGEST_PAUSE_S = 1.0
_LONGEST_SIDE_PX = 4096
"""Of what is drawn: a larger frame's motion is read in proportion."""
_STEPS = 32767
_TYPES = {
    "time_s": "float64",
    "confidence": "float32",
    "mesh": "int16",
    "place": "float32",
    "value": "float32",
    "jacobian": "float32",
    "box": "float32",
}
"""Of each tensor of the format. A file may have others, which are not read."""
_OF_KEYPOINTS = ("value", "jacobian", "box")
"""Those that count where the header names a model."""
_TYPE_NAMES = {"F64": "float64", "F32": "float32", "I16": "int16"}
"""NumPy's, by safetensors'."""
_MESH_SIZES = (LANDMARK_COUNT, LANDMARK_COUNT + IRIS_POINTS)
_LEAST_FACE_PX = 1.0
_BACK, _DOT = (24, 28, 36), (150, 160, 176)


class _Stored(NamedTuple):
    """Type, by NumPy's name or else by safetensors', and shape of a tensor in a file."""

    kind: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, kind: str, shape: Sequence[int]) -> "_Stored":
        """As safetensors tells of it."""
        return cls(_TYPE_NAMES.get(kind, kind), tuple(shape))

    def length(self, axis: int) -> int:
        """Along an axis; 0 where there is no such axis."""
        return self.shape[axis] if axis < len(self.shape) else 0

    def __str__(self) -> str:
        return f"{self.kind} {self.shape}"


_NOTHING = _Stored("", ())


class TrackKeypoints(NamedTuple):
    """Keypoints that a model found in the frames. A frame in which it found none has zeros, and shows no face.

    Attributes:
        value: (F, K, 2) float32 xy in [-1, 1] of each frame's square.
        jacobian: (F, K, 2, 2) float32.
        box: (F, 3) float32, of each square its centre's x and y and its side, in the frame's pixels.
        model: whose they are: SHA-256 of its weights in float32.
        measured: whether the places were measured by the mesh.
    """

    value: NDArray[np.float32]
    jacobian: NDArray[np.float32]
    box: NDArray[np.float32]
    model: str
    measured: bool

    def at(self, frame: int) -> Keypoints[NDArray[Any]] | None:
        """Those of a frame, batch 1; None where there are none."""
        if not self.jacobian[frame].any():
            return None
        return Keypoints(self.value[frame : frame + 1], self.jacobian[frame : frame + 1])


@dataclass(frozen=True, eq=False)
class MotionTrack:
    """A performer's motion over time.

    Attributes:
        times_s: (F,) float64, of each frame, ascending from 0.
        faces: of each frame, or None where there was none; at least one is a face.
        frame_size_px: (width, height) of the pictures in which they were measured; of a file at most 4096 per side,
            as all that is in pixels is read in proportion.
        keypoints: what a model found, or None.
        model_name: of that model, for people; "".
    """

    times_s: NDArray[np.float64]
    faces: Sequence[Face | None]
    frame_size_px: tuple[int, int]
    keypoints: TrackKeypoints | None = None
    model_name: str = ""

    @cached_property
    def fps(self) -> float:
        """Frames per second, on the mean."""
        if len(self.times_s) < 2:
            return 25.0
        rate_hz = (len(self.times_s) - 1) / float(self.times_s[-1] - self.times_s[0])
        return round(min(max(rate_hz, 1.0), _MOST_FPS_HZ), 3)

    @property
    def length_s(self) -> float:
        """From the first frame until the last one is over."""
        return float(self.times_s[-1]) + 1 / self.fps

    def picture(self, index: int) -> Rgb:
        """What stands for a frame's picture: its mesh as dots. No camera's picture is in a track."""
        width, height = self.frame_size_px
        return drawn(self.faces[index], width, height)


def drawn(face: Face | None, width: int, height: int) -> Rgb:
    """A face's mesh as dots on a plain picture, (height, width, 3) uint8 RGB."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = _BACK
    if face is not None:
        radius = max(1, round((face.box.bottom - face.box.top) / 200))
        for x, y in face.landmarks_px[:, :2]:
            if -width < x < 2 * width and -height < y < 2 * height:
                cv2.circle(rgb, (round(float(x)), round(float(y))), radius, _DOT, -1, cv2.LINE_AA)
    return rgb


class TrackDriving:
    """A track in the place of a driving video, at the constant rate that its times fit best; see
    `mcnet.media.video.DrivingVideo`. A pause is held, for a minute at most.

    Attributes:
        track: the one.
        path, fps, frame_count, frame_size_px, has_audio: as of a video; a track is silent.
        frames: of each frame at the constant rate, the frame of the track.
    """

    has_audio = False

    def __init__(self, path: Path, track: MotionTrack) -> None:
        self.track = track
        self.path = path
        self.frame_size_px = track.frame_size_px
        steps_s = np.minimum(np.diff(track.times_s), LONGEST_HOLD_S)
        times_s: list[float] = np.append(0.0, np.cumsum(steps_s)).tolist()
        rate = constant_rate(times_s, (), _TICK_S)
        self.fps = track.fps if rate is None else float(rate)
        self.frames: list[int] = []
        for index, slot in one_a_slot(enumerate(times_s), self.fps):
            self.frames += itertools.repeat(self.frames[-1] if self.frames else index, slot - len(self.frames))
            self.frames.append(index)
        self.frame_count = len(self.frames)

    @property
    def faces(self) -> list[Face | None]:
        """Of each frame at the constant rate."""
        return [self.track.faces[index] for index in self.frames]

    def __iter__(self) -> Iterator[Rgb]:
        return (self.track.picture(index) for index in self.frames)


def open_track(path: Path) -> TrackDriving:
    """A motion file in the place of a driving video. What of it is not shown is logged as a warning.

    Raises:
        MediaError: as `load_track`.
    """
    driving = TrackDriving(path, load_track(path))
    count = len(driving.track.faces)
    if lost := count - len(set(driving.frames)):
        logger.warning(
            "%s has no constant frame rate: at %.5g frames/s %d of its %d frames are left out",
            path,
            driving.fps,
            lost,
            count,
        )
    if longer := int((np.diff(driving.track.times_s) > LONGEST_HOLD_S).sum()):
        logger.warning("%s has pauses of more than %g s: %d are cut to that", path, LONGEST_HOLD_S, longer)
    return driving


def save_track(path: Path, track: MotionTrack) -> None:
    """Write a track in one step: what was at the path stays until all of it is written.

    Raises:
        MediaError: it is too long, shows no face, or the place cannot be written.
    """
    count = len(track.faces)
    if count != len(track.times_s) or not any(face is not None for face in track.faces):
        raise MediaError(
            phrase(
                "cannot keep the motion in {path}: got {count} frames without a face, expected one at least",
                path=path,
                count=count,
            )
        )
    if count > MOST_FRAMES:
        raise MediaError(
            phrase(
                "cannot keep the motion in {path}: got {count} frames, expected at most {most}",
                path=path,
                count=count,
                most=MOST_FRAMES,
            )
        )
    if track.times_s[-1] > LONGEST_S:
        raise MediaError(
            phrase(
                "cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}",
                path=path,
                hours=float(track.times_s[-1]) / 3600,
                most=round(LONGEST_S / 3600),
            )
        )
    has_irises = all(face is None or face.irises_px is not None for face in track.faces)
    mesh = np.zeros((count, _MESH_SIZES[has_irises], 3), np.int16)
    place = np.zeros((count, 3), np.float32)
    confidence = np.zeros(count, np.float32)
    for index, face in enumerate(track.faces):
        if face is not None:
            points = face.mesh_px if has_irises else face.landmarks_px[:LANDMARK_COUNT]
            mesh[index], place[index] = _packed(points)
            confidence[index] = face.presence
    tensors: dict[str, NDArray[Any]] = {
        "time_s": np.ascontiguousarray(track.times_s, np.float64),
        "confidence": confidence,
        "mesh": mesh,
        "place": place,
    }
    told: dict[str, Any] = {"frame_size_px": list(track.frame_size_px), "model": None}
    if (found := track.keypoints) is not None:
        tensors |= {"value": found.value, "jacobian": found.jacobian, "box": found.box}
        told["model"] = {"name": track.model_name, "weights": found.model, "measured": found.measured}
    header = {"format": FORMAT, "version": str(VERSION), "motion": json.dumps(told)}
    try:
        with replacing(path) as partial:
            # As bytes, since safetensors' own files are readable to their owner alone.
            partial.write_bytes(save({name: np.ascontiguousarray(one) for name, one in tensors.items()}, header))
    except (OSError, SafetensorError) as error:
        raise MediaError(
            phrase("cannot keep the motion in {path}: {why}", path=path, why=cause_and_remedy(error))
        ) from error


def _packed(points: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """A mesh as steps from its middle, and where that is and how large a step, in pixels."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    middle = np.array([*(low + high) / 2, 0.0], np.float32)
    step_px = max(float(np.abs(points - middle).max()), 1.0) / _STEPS
    return (
        np.rint((points - middle) / step_px).clip(-_STEPS, _STEPS).astype(np.int16),
        np.array([*middle[:2], step_px], np.float32),
    )


def load_track(path: Path) -> MotionTrack:
    """Read a motion file.

    Raises:
        MediaError: it is none, is damaged, too large, or of a later version; the message says which.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise MediaError(
                phrase(
                    "{path} is larger than {most} MB, expected a motion file; take a shorter one",
                    path=path,
                    most=_MOST_BYTES >> 20,
                )
            )
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise MediaError(
                    phrase("{path} is no motion file: expected one that --save-motion or the app recorded", path=path)
                )
            version = header.get("version", "")
            if version.isdecimal() and int(version[:9]) > VERSION:  # Python takes no longer number than it can print
                raise MediaError(
                    phrase(
                        "{path} is a motion file of version {version}, this program knows versions up to {known}; use "
                        "a newer one",
                        path=path,
                        version=version,
                        known=VERSION,
                    )
                )
            slices = {name: file.get_slice(name) for name in file.keys() if name in _TYPES}  # noqa: SIM118
            stored = {name: _Stored.of(one.get_dtype(), one.get_shape()) for name, one in slices.items()}
            if (count := stored.get("time_s", _NOTHING).length(0)) > MOST_FRAMES:
                raise MediaError(
                    phrase(
                        "{path} has {count} frames, expected at most {most}",
                        path=path,
                        count=count,
                        most=MOST_FRAMES,
                    )
                )
            # NumPy has not all types that a file may have: no other is asked for.
            tensors = {name: file.get_tensor(name) for name, one in stored.items() if one.kind == _TYPES[name]}
    except FileNotFoundError as error:
        raise MediaError(phrase("no motion file {path}: there is no such file", path=path)) from error
    except MediaError:
        raise
    except (OSError, ValueError, SafetensorError) as error:  # ValueError: a name that no file can have
        raise MediaError(
            phrase("{path} cannot be read as a motion file: {error}; copy or record it again", path=path, error=error)
        ) from error
    try:
        told = json.loads(header["motion"])
        with_keypoints = told["model"] is not None
        _check_stored(stored, with_keypoints=with_keypoints)
        called_for = {name: one for name, one in tensors.items() if with_keypoints or name not in _OF_KEYPOINTS}
        return _unpacked(called_for, told)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise MediaError(
            phrase("{path} is a damaged motion file: {error}; copy or record it again", path=path, error=error)
        ) from error


def _check_stored(stored: Mapping[str, _Stored], *, with_keypoints: bool) -> None:
    """See that a file's tensors are of the types and shapes of the format.

    Raises:
        KeyError, ValueError: one is missing, or is not what it is to be.
    """
    count, points = stored["time_s"].length(0), stored["mesh"].length(1)
    if not count or points not in _MESH_SIZES:
        raise ValueError(
            f"got {count} frames of {points} points, expected some of {' or '.join(map(str, _MESH_SIZES))}"
        )
    shapes: dict[str, tuple[int, ...]] = {
        "time_s": (count,),
        "confidence": (count,),
        "mesh": (count, points, 3),
        "place": (count, 3),
    }
    if with_keypoints:
        kinds = stored["value"].length(1)
        shapes |= {"value": (count, kinds, 2), "jacobian": (count, kinds, 2, 2), "box": (count, 3)}
    for name, shape in shapes.items():
        if stored[name] != (wanted := _Stored(_TYPES[name], shape)):
            raise ValueError(f"got {name} as {stored[name]}, expected {wanted}")


def _unpacked(tensors: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> MotionTrack:
    """A track of what a file holds, whose types and shapes are as they are to be.

    Raises:
        KeyError, ValueError, TypeError, OverflowError: something is missing, or is not what it is to be.
    """
    model = told["model"]
    for name, one in tensors.items():
        if not np.isfinite(one).all():
            raise ValueError(f"{name} has numbers that are not finite")
    times_s, confidence, place = tensors["time_s"], tensors["confidence"], tensors["place"]
    if times_s[0] != 0 or (np.diff(times_s) <= 0).any():
        raise ValueError("time_s does not ascend from 0")
    if times_s[-1] > LONGEST_S:
        raise ValueError(f"got {times_s[-1] / 3600:.1f} hours, expected at most {LONGEST_S / 3600:g}")
    width, height = (int(side) for side in told["frame_size_px"])
    if not (16 <= width <= 16384 and 16 <= height <= 16384):
        raise ValueError(f"got a frame size of {width} x {height}, expected 16 to 16384 pixels per side")
    there = confidence > 0
    if not there.any():
        raise ValueError("no frame shows a face")
    farthest_px = np.abs(place[there, :2]).max(1) + _STEPS * np.abs(place[there, 2])
    if not (farthest_px < 10 * max(width, height)).all() or not (place[there, 2] > 0).all():
        raise ValueError("a face lies outside of all pictures")
    extent_px = np.ptp(tensors["mesh"][there][:, RIGID_POINTS, :2].astype(np.int32), axis=1) * place[there, 2:]
    if (extent_px < _LEAST_FACE_PX).any():
        raise ValueError(f"a face has no width or no height, expected {_LEAST_FACE_PX:g} pixels at least")
    if model is not None:
        with np.errstate(all="ignore"):
            inverses = invert_2x2(tensors["jacobian"][there | tensors["jacobian"].any((1, 2, 3))])
        if not np.isfinite(inverses).all():
            raise ValueError("jacobian has matrices without an inverse, expected invertible ones where a face is")
    if max(width, height) > _LONGEST_SIDE_PX:
        shrunk = np.float32(_LONGEST_SIDE_PX / max(width, height))
        width, height, place = (
            max(1, round(float(width * shrunk))),
            max(1, round(float(height * shrunk))),
            place * shrunk,
        )
        if model is not None:
            tensors = {**tensors, "box": tensors["box"] * shrunk}
    faces = [
        _face(mesh, where, float(sure)) if sure > 0 else None
        for mesh, where, sure in zip(tensors["mesh"], place, confidence, strict=True)
    ]
    keypoints = None
    if model is not None:
        parts = tensors["value"], tensors["jacobian"], tensors["box"]
        keypoints = TrackKeypoints(*parts, model=str(model["weights"]), measured=bool(model["measured"]))
    name = "" if model is None else str(model["name"])
    return MotionTrack(times_s, faces, (width, height), keypoints, name)


def _face(mesh: NDArray[np.int16], place: NDArray[np.float32], confidence: float) -> Face:
    points = mesh.astype(np.float32) * place[2]
    points[:, :2] += place[:2]
    irises = points[LANDMARK_COUNT:, :2].reshape(2, -1, 2) if len(points) > LANDMARK_COUNT else None
    return Face(points[:LANDMARK_COUNT], min(confidence, 1.0), irises)


def boxes_array(boxes: Sequence[SquareBox]) -> NDArray[np.float32]:
    """(F, 3) float32 for `TrackKeypoints.box`."""
    return np.array([(box.center_x, box.center_y, box.side) for box in boxes], np.float32).reshape(-1, 3)


def loop_of(track: MotionTrack, blend_s: float = 0.6) -> MotionTrack:
    """A track that goes on from its last frame to its first without a jump, without keypoints.

    Its end is blended into its beginning, which is left out in exchange: so much shorter it becomes. Frames without a
    face at its ends are left out, and so is what is longer than a second of each pause between two frames.
    """
    there = [index for index, face in enumerate(track.faces) if face is not None]
    first, end = there[0], there[-1] + 1
    steps_s = np.minimum(np.diff(track.times_s[first:end]), _LONGEST_PAUSE_S)
    cut = MotionTrack(np.append(0.0, np.cumsum(steps_s)), track.faces[first:end], track.frame_size_px)
    faces = list(cut.faces)
    overlap = min(round(blend_s * cut.fps), len(faces) // 3)
    start = len(faces) - overlap
    for step in range(overlap):
        share = 0.5 - 0.5 * math.cos(math.pi * (step + 1) / (overlap + 1))
        faces[start + step] = _between(faces[start + step], faces[step], share)
    times_s = cut.times_s[overlap:] - cut.times_s[overlap]
    return MotionTrack(np.ascontiguousarray(times_s), faces[overlap:], track.frame_size_px)


def resampled(loop: MotionTrack, fps_hz: float) -> MotionTrack:
    """A loop at a constant rate; between its frames the head is turned and moved evenly, whenever a face is asked for.

    Args:
        loop: as of `loop_of`.
        fps_hz: frames per second.
    """
    count = max(1, round(loop.length_s * fps_hz))
    times_s = np.arange(count) / fps_hz
    places = np.interp(times_s, np.append(loop.times_s, loop.length_s), np.arange(len(loop.faces) + 1))
    return MotionTrack(times_s, _FacesBetween(loop.faces, places), loop.frame_size_px)


class _FacesBetween(Sequence[Face | None]):
    """Faces of a loop at places between its frames. Each is made when it is asked for: a long file has many.

    Args:
        faces: of the loop.
        places: (F,) float64 in [0, len(faces)), the whole part of which is a frame, the rest the share of its next.
    """

    def __init__(self, faces: Sequence[Face | None], places: NDArray[np.float64]) -> None:
        self._faces, self._places = faces, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Face | None: ...

    @overload
    def __getitem__(self, index: slice) -> "_FacesBetween": ...

    def __getitem__(self, index: int | slice) -> "Face | _FacesBetween | None":
        if isinstance(index, slice):
            return _FacesBetween(self._faces, self._places[index])
        place = float(self._places[index])
        before = int(place)
        return _between(self._faces[before], self._faces[(before + 1) % len(self._faces)], place - before)


def _between(start: Face | None, end: Face | None, share: float) -> Face | None:
    """`start` at share 0, `end` at 1; where one is missing, the nearer one."""
    from mcnet.media.head_motion import Head

    if start is None or end is None or not 0 < share < 1:
        return end if share > 0.5 else start
    first, second = (Head.of(np.asarray(face.mesh_px, np.float64)) for face in (start, end))
    mesh = first.towards(second, share).mesh.astype(np.float32)
    irises = mesh[LANDMARK_COUNT:, :2].reshape(2, -1, 2) if len(mesh) > LANDMARK_COUNT else None
    return Face(mesh[:LANDMARK_COUNT], min(start.presence, end.presence), irises)


class TrackRecorder:
    """Takes a performer's frames one after the other, and makes a track of them.

    What is compared and refused is refused by `save_track`. Memory grows by some 6 kB per frame.

    Args:
        model: whose keypoints are added: SHA-256 of its weights in float32.
        model_name: for people.
        measured: whether their places are measured by the mesh.
    """

    def __init__(self, model: str = "", model_name: str = "", *, measured: bool = False) -> None:
        self._model, self._model_name, self._measured = model, model_name, measured
        self._times_s: list[float] = []
        self._faces: list[Face | None] = []
        self._found: list[Keypoints[NDArray[Any]] | None] = []
        self._boxes: list[SquareBox | None] = []

    def __len__(self) -> int:
        return len(self._faces)

    @property
    def full(self) -> bool:
        """Whether no more can be taken."""
        return len(self) >= MOST_FRAMES

    @property
    def length_s(self) -> float:
        """From the first frame to the last one."""
        return self._times_s[-1] - self._times_s[0] if self._times_s else 0.0

    def reaches(self, time_s: float) -> bool:
        """Whether a frame of that time is within the longest track that can be kept."""
        return not self._times_s or time_s - self._times_s[0] <= LONGEST_S

    @property
    def faces(self) -> int:
        """How many frames show a face."""
        return sum(face is not None for face in self._faces)

    def add(
        self,
        time_s: float,
        face: Face | None,
        found: Keypoints[NDArray[Any]] | None = None,
        box: SquareBox | None = None,
    ) -> None:
        """Take the next frame; one that is not later than the one before is left out, and so is what is too much.

        Args:
            time_s: of any clock.
            face: in the frame's pixels.
            found: a model's keypoints, batch 1.
            box: the square that these are in.
        """
        if self.full or not self.reaches(time_s) or (self._times_s and time_s <= self._times_s[-1]):
            return
        self._times_s.append(time_s)
        self._faces.append(face)
        self._found.append(found)
        self._boxes.append(box)

    def track(self, frame_size_px: tuple[int, int]) -> MotionTrack:
        """All that was taken; with keypoints where they were found in all frames that show a face."""
        times_s = np.array(self._times_s, np.float64)
        times_s -= times_s[0] if len(times_s) else 0.0
        found = [one for one in self._found if one is not None]
        lacking = [face is not None for face, one in zip(self._faces, self._found, strict=True) if one is None]
        keypoints = None
        if found and not any(lacking):
            nothing: Keypoints[NDArray[Any]] = Keypoints(*(np.zeros_like(part) for part in found[0]))
            rows = [nothing if one is None else one for one in self._found]
            values, jacobians = (np.concatenate(parts).astype(np.float32) for parts in zip(*rows, strict=True))
            boxes = boxes_array([box or SquareBox(0, 0, 0) for box in self._boxes])
            keypoints = TrackKeypoints(values, jacobians, boxes, self._model, self._measured)
        return MotionTrack(times_s, list(self._faces), frame_size_px, keypoints, self._model_name)
