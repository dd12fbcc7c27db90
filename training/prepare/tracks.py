"""Follows every face of a video, and measures what was followed.

A track is one face from frame to frame, without a gap. It ends where

- a **hard cut** lies: the picture as a whole changes (its 32 x 32 miniature by 20 of 255 on average and by four times
  the change usual before), or the face does (its 32 x 32 miniature, framed alike in both frames, by 20 of 255, by three
  times the usual, and correlates by less than 0.75): two people may be cut together before one background. In 29
  training clips this happens once, where a head is thrown aside within a frame; of all pairs of their faces one in
  twenty correlates by more. Fades and dissolves are not recognised;
- the face is **lost**: the mesh network sees none near the old place, or it jumps or swells by more than a face can;
- it **leaves**: a tenth of its box lies outside the picture.
"""

import bisect
import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import SIDE_PER_SIZE, SquareBox, face_size_px, frame_face, without_outliers
from mcnet.media.faces import Box, Face, FaceFinder
from mcnet.media.sampling import sample_square

SEARCH_BUSY_S = 0.48
SEARCH_IDLE_S = 0.2
"""How often new faces are looked for: while some are followed, and while none is."""
SHARPNESS_EVERY = 5
"""Sharpness is measured in every so many-th frame."""

_MINIATURE_PX = 32
_CUT_CHANGE = 20.0  # of 255
_CUT_OF_USUAL = 4.0
_FACE_CUT_OF_USUAL = 3.0
_FACE_CUT_CORRELATION = 0.75
_USUAL_FRAMES = 25
_MIN_INSIDE = 0.9
_MAX_JUMP_FACES = 0.6
_MAX_SWELLING = 1.35
_SEARCHED_FACE_PX = 32  # the smallest wanted face is searched at this size: the search sees down to two thirds of it
_SHARPNESS_PX = 128
LONGEST_S = 60.0  # a longer track is cut, which bounds memory

_RIGHT, _LEFT = [234, 127, 33], [454, 356, 263]  # side of the face, temple, outer corner of the eye
_UPPER, _LOWER = [10, 151, 9], [2, 98, 327]  # forehead; below the nose, which speech moves less than the chin


@dataclass
class FaceTrack:
    """One face, followed through consecutive frames.

    Attributes:
        number: of the video's tracks, from 0 in the order of their beginnings.
        start: index of its first frame.
        faces: one per frame.
        sharpness: see `sharpness_of`, of every fifth frame.
        ended: `cut`, `lost`, `left`, `long` (a minute is the longest) or `end` (of the video).
    """

    number: int
    start: int
    faces: list[Face] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    ended: str = ""


class _Change:
    """Whether something changes far more than it did before."""

    def __init__(self, of_usual: float) -> None:
        self._of_usual = of_usual
        self._recent: collections.deque[float] = collections.deque(maxlen=_USUAL_FRAMES)

    def is_cut(self, change: float) -> bool:
        usual = max(1.0, float(np.median(self._recent))) if self._recent else 1.0
        if change > 0.05:  # a repeated frame tells nothing of the video's usual change
            self._recent.append(change)
        return change >= max(_CUT_CHANGE, self._of_usual * usual)


class _Followed:
    """A track that has not ended, and the state for continuing it."""

    def __init__(self, track: FaceTrack, rgb: NDArray[np.uint8], face: Face) -> None:
        self.track = track
        self.face = face
        self._change = _Change(_FACE_CUT_OF_USUAL)
        self._seen = _miniature_of_face(rgb, face)
        self._keep(rgb, face)

    def step(self, rgb: NDArray[np.uint8], face: Face | None) -> str:
        """Take the next frame's face, or answer why the track ends before it."""
        if face is None or not _is_continued(self.face, face):
            return "lost"
        if face.box.share_inside(rgb) < _MIN_INSIDE:
            return "left"
        seen = _miniature_of_face(rgb, face)
        changed = self._change.is_cut(_difference(self._seen, seen))
        if changed and _correlation(self._seen, seen) < _FACE_CUT_CORRELATION:
            return "cut"
        self.face, self._seen = face, seen
        self._keep(rgb, face)
        return ""

    def _keep(self, rgb: NDArray[np.uint8], face: Face) -> None:
        if len(self.track.faces) % SHARPNESS_EVERY == 0:
            self.track.sharpness.append(sharpness_of(rgb, face))
        self.track.faces.append(face)


class Tracker:
    """Follows every face of one video. Belongs to one thread.

    Faces below two thirds of `min_face_px` are not looked for. Beside a large face one of less than half its size may
    be missed, see `FaceFinder`.

    Args:
        finder: without `tracking`.
        min_face_px: width of the smallest face that is wanted.
        fps: of the video.
    """

    def __init__(self, finder: FaceFinder, min_face_px: float, fps: float) -> None:
        self._finder = finder
        self._scale = min(1.0, _SEARCHED_FACE_PX / min_face_px)
        self._busy_frames = max(1, round(SEARCH_BUSY_S * fps))
        self._idle_frames = max(1, round(SEARCH_IDLE_S * fps))
        self._longest = round(LONGEST_S * fps)
        self._followed: list[_Followed] = []
        self._frame = 0
        self._search_at = 0
        self._tracks = 0
        self._miniature: NDArray[np.float32] | None = None
        self._change = _Change(_CUT_OF_USUAL)

    def step(self, rgb: NDArray[np.uint8]) -> list[FaceTrack]:
        """Take the next frame; answer the tracks that ended before it."""
        if self._is_cut(rgb):
            ended = self._end_all("cut")
            self._search_at = self._frame
        else:
            ended = self._follow(rgb)
        if ended:
            self._search_at = min(self._search_at, self._frame + self._idle_frames)
        if self._frame >= self._search_at:
            self._search(rgb)
        self._frame += 1
        return ended

    def finish(self) -> list[FaceTrack]:
        """The tracks that last until the video's end."""
        return self._end_all("end")

    def _is_cut(self, rgb: NDArray[np.uint8]) -> bool:
        miniature = _miniature(rgb)
        before, self._miniature = self._miniature, miniature
        return before is not None and self._change.is_cut(_difference(before, miniature))

    def _follow(self, rgb: NDArray[np.uint8]) -> list[FaceTrack]:
        ended: list[FaceTrack] = []
        going_on: list[_Followed] = []
        for followed in self._followed:
            face = self._finder.follow(rgb, followed.face)
            taken = face is not None and any(_is_same(face, other.face) for other in going_on)
            why = "lost" if taken else followed.step(rgb, face)
            if not why and len(followed.track.faces) > self._longest:
                followed.track.faces.pop()
                why = "long"
            if not why:
                going_on.append(followed)
                continue
            followed.track.ended = why
            ended.append(followed.track)
            if why in {"cut", "long"} and face is not None:
                going_on.append(self._begin(rgb, face))
        self._followed = going_on
        return ended

    def _search(self, rgb: NDArray[np.uint8]) -> None:
        height, width = (max(1, round(length * self._scale)) for length in rgb.shape[:2])
        small = rgb if self._scale == 1 else cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        ratio = np.array([rgb.shape[1] / width, rgb.shape[0] / height, rgb.shape[1] / width], np.float32)
        for found in self._finder.find(small.astype(np.uint8, copy=False)):
            face = self._finder.follow(rgb, Face(found.landmarks_px * ratio, found.presence))
            known = face is None or any(_is_same(face, other.face) for other in self._followed)
            if face is not None and not known and face.box.share_inside(rgb) >= _MIN_INSIDE:
                self._followed.append(self._begin(rgb, face))
        self._search_at = self._frame + (self._busy_frames if self._followed else self._idle_frames)

    def _begin(self, rgb: NDArray[np.uint8], face: Face) -> _Followed:
        self._tracks += 1
        return _Followed(FaceTrack(self._tracks - 1, self._frame), rgb, face)

    def _end_all(self, why: str) -> list[FaceTrack]:
        ended = [followed.track for followed in self._followed]
        for track in ended:
            track.ended = why
        self._followed = []
        return ended


def sharpness_of(rgb: NDArray[np.uint8], face: Face) -> float:
    """How sharp a face is, whatever its size and contrast.

    The variance of the Laplacian over the variance of the grey levels, in thousandths, of the middle half of the face's
    frame at 128 x 128 pixels: what a clip of 256 px shows. 29 training clips lie between 22 and 152; blurred by a
    Gaussian of 2 px they lie between 3 and 15.
    """
    box = frame_face(face)
    patch, _ = sample_square(rgb, (box.center_x, box.center_y), box.side / 2, _SHARPNESS_PX)
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(1000 * cv2.Laplacian(grey, cv2.CV_32F).var() / max(float(grey.var()), 1.0))


def head_pose_deg(landmarks_px: NDArray[np.float32]) -> tuple[float, float, float]:
    """Yaw (to the picture's left is positive), pitch (downwards), roll (clockwise as seen), in degrees.

    From the mesh's own axes: from the person's right to the left side, and from the forehead to below the nose. Meant
    for differences: zero is near, not at, the look into the camera.

    Args:
        landmarks_px: (468, 3), z in the unit of x and y.
    """
    points = landmarks_px.astype(np.float64)
    across = points[_LEFT].mean(axis=0) - points[_RIGHT].mean(axis=0)
    across /= max(float(np.linalg.norm(across)), 1e-9)
    down = points[_LOWER].mean(axis=0) - points[_UPPER].mean(axis=0)
    down -= across * (across @ down)
    down /= max(float(np.linalg.norm(down)), 1e-9)
    away = np.cross(across, down)
    yaw = math.atan2(away[0], away[2])
    pitch = -math.asin(float(np.clip(away[1], -1, 1)))
    roll = math.atan2(across[1], down[1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def motion_of(faces: Sequence[Face], fps: float) -> float:
    """How much a face moves and plays: the mesh points' mean speed in the picture, in widths of the face per second.

    Training clips lie between 0.007 (a hardly moving mouth) and 0.6.
    """
    if len(faces) < 2:
        return 0.0
    places = np.stack([face.landmarks_px[:, :2] for face in faces])
    steps_px = np.linalg.norm(np.diff(places, axis=0), axis=2).mean()
    return float(steps_px * fps / max(1e-6, float(np.median([face_width_px(face) for face in faces]))))


def face_width_px(face: Face) -> float:
    """Width of the mesh's box."""
    box = face.box
    return box.right - box.left


def _miniature(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(rgb, (_MINIATURE_PX, _MINIATURE_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def _miniature_of_face(rgb: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    box = frame_face(face)
    center = (box.center_x, box.center_y)
    return sample_square(rgb, center, 0.6 * box.side, _MINIATURE_PX)[0].astype(np.float32)


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    first, second = (values.mean(axis=2) - values.mean() for values in (one, other))
    return float((first * second).sum() / max(1e-6, math.sqrt((first**2).sum() * (second**2).sum())))


def _is_continued(before: Face, now: Face) -> bool:
    was, is_now = frame_face(before), frame_face(now)
    width_px = was.side / SIDE_PER_SIZE * 2.6
    jump = math.hypot(is_now.center_x - was.center_x, is_now.center_y - was.center_y)
    swelling = face_size_px(now) / max(face_size_px(before), 1e-6)
    return jump < _MAX_JUMP_FACES * width_px and 1 / _MAX_SWELLING < swelling < _MAX_SWELLING


def _is_same(one: Face, other: Face) -> bool:
    return _holds(one.box, other.box) or _holds(other.box, one.box)


def _holds(box: Box, other: Box) -> bool:
    """Whether the middle of the other box lies in this one."""
    x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
    return box.left < x < box.right and box.top < y < box.bottom


# Framing: mcnet.media.crop frames one face; a clip is framed so that all its faces lie as those of the training clips.

CORE_PER_SIZE = 0.88 * SIDE_PER_SIZE
"""Of each frame at least a square of so many face sizes is shown: the app's, less its dead zone of 6 % at each side."""
MAX_SIDE_PER_SIZE = 6.4
"""The widest framing of any frame, in face sizes: the upper end of what 90 % of the training clips show. The figures
for it, and for squares that rest rather than follow the head, are in docs/training.md."""


class Part(NamedTuple):
    """Consecutive frames of a track.

    Attributes:
        frames: their indices.
        held: whether one square shows all of them as it should.
    """

    frames: range
    held: bool


def split_by_movement(
    faces: Sequence[Face], width_px: int, height_px: int, max_outside: float, min_frames: int
) -> list[Part]:
    """Divide a track where its person moves too far, or too near, for one square to frame all of it.

    A part goes on for as long as its square is no wider than 6.4 sizes of its smallest face, and shows no more than the
    given share beyond the picture's border. Frames from which on no square holds the head for long enough are parts of
    their own.

    Args:
        faces: of consecutive frames.
        width_px: of the picture.
        height_px: of the picture.
        max_outside: share of a square that may lie outside the picture.
        min_frames: of a part that is of use, at least 1.

    Returns:
        Parts that cover the track without a gap. For those that are held there is a `clip_square`.
    """
    cores = without_outliers(_cores(faces))
    size = np.array([width_px, height_px], np.float64)

    def held_from(first: int, stop: int) -> int:
        """How many frames one square holds."""
        low, high = _corners(cores[first:stop])
        low, high = np.minimum.accumulate(low), np.maximum.accumulate(high)
        smallest = np.minimum.accumulate(cores[first:stop, 2]) / CORE_PER_SIZE
        squares = _squares(low, high, _running_median(cores[first:stop, 2]), size)
        holds = (high - low).max(axis=1) <= MAX_SIDE_PER_SIZE * smallest
        holds &= _outside(*squares, size) <= max_outside
        return len(holds) if holds.all() else int(np.argmin(holds))

    parts: list[Part] = []
    first = 0
    while first < len(cores):
        begin = first
        while begin < len(cores) and held_from(begin, begin + min_frames) < min_frames:
            begin += 1
        if begin > first:
            parts.append(Part(range(first, begin), held=False))
        if begin < len(cores):
            first = begin + held_from(begin, len(cores))
            parts.append(Part(range(begin, first), held=True))
        else:
            first = begin
    return parts


def fits_one_square(faces: Sequence[Face]) -> bool:
    """Whether one square shows all faces, none of them too small; faces need not be of consecutive frames."""
    cores = _cores(faces)
    low, high = _corners(cores)
    union = float((high.max(axis=0) - low.min(axis=0)).max())
    return union <= MAX_SIDE_PER_SIZE * float(cores[:, 2].min()) / CORE_PER_SIZE


def clip_square(faces: Sequence[Face], width_px: int, height_px: int, *, consecutive: bool = True) -> SquareBox:
    """The resting square of a clip.

    The union of all frames' cores (4.8 face sizes: the face's box enlarged 1.84 times), enlarged about its middle to
    5.45 face sizes (`crop.frame_face`: 2.09 times the face's box) if it is smaller. A head that stays within the dead
    zone of the live crop is so framed exactly as the app frames it. A square that leaves the picture is moved back into
    it, and shrunk to its size, as far as no core is cut.

    Args:
        faces: that one square can frame, see `split_by_movement`.
        width_px: of the picture.
        height_px: of the picture.
        consecutive: whether they are of consecutive frames, so that a mesh gone astray for a frame or two is told by
            its neighbours, and moves nothing.
    """
    cores = _cores(faces)
    if consecutive:
        cores = without_outliers(cores)
    low, high = _corners(cores)
    size = np.array([width_px, height_px], np.float64)
    union = low.min(axis=0, keepdims=True), high.max(axis=0, keepdims=True)
    centers, sides = _squares(*union, np.median(cores[:, 2], keepdims=True), size)
    return SquareBox(float(centers[0, 0]), float(centers[0, 1]), float(sides[0]))


def outside_share(square: SquareBox, width_px: int, height_px: int) -> float:
    """Which share of a square lies outside the picture, where its border is repeated."""
    center = np.array([[square.center_x, square.center_y]])
    return float(_outside(center, np.array([square.side]), np.array([width_px, height_px], np.float64))[0])


def _outside(
    centers: NDArray[np.float64], sides: NDArray[np.float64], size_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    half = sides[:, None] / 2
    shown = np.clip(np.minimum(centers + half, size_px) - np.maximum(centers - half, 0), 0, None)
    return np.asarray(np.clip(1 - shown.prod(axis=1) / sides**2, 0, None))


def _squares(
    low: NDArray[np.float64], high: NDArray[np.float64], cores_px: NDArray[np.float64], size_px: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squares that hold everything between two corners, see `clip_square`: many at once.

    Args:
        low: (N, 2) upper left corners.
        high: (N, 2) lower right corners.
        cores_px: (N,) sides of the cores that count.
        size_px: width and height of the picture.

    Returns:
        (N, 2) middles and (N,) sides.
    """
    union = (high - low).max(axis=1)
    side = np.maximum(union, SIDE_PER_SIZE / CORE_PER_SIZE * cores_px)
    side = np.minimum(side, np.maximum(union, size_px.min()))
    half = side[:, None] / 2
    center = (low + high) / 2
    within = np.where(size_px >= 2 * half, np.clip(center, half, np.maximum(size_px - half, half)), size_px / 2)
    return np.clip(within, high - half, low + half), side


def _corners(cores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) each: upper left and lower right."""
    return cores[:, :2] - cores[:, 2:] / 2, cores[:, :2] + cores[:, 2:] / 2


def _cores(faces: Sequence[Face]) -> NDArray[np.float64]:
    """(N, 3): middle and side of each face's core."""
    boxes = [frame_face(face) for face in faces]
    return np.array([(box.center_x, box.center_y, box.side * CORE_PER_SIZE / SIDE_PER_SIZE) for box in boxes])


def _running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all values up to each."""
    ordered: list[float] = []
    medians = []
    for value in values:
        bisect.insort(ordered, float(value))
        medians.append((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
    return np.array(medians)
