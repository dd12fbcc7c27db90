"""Where the network's square picture is cut out of a larger one, and how that square moves with a video.

One rule frames faces for the app, the command and the training data alike, because the network only knows faces as they
lay in its training clips.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.mean_head import RIGID_POINTS
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from mcnet.media.sampling import sample_square

SIDE_PER_SIZE = 5.45
SHIFT_PER_SIZE = 0.23
DEAD_ZONE = 0.06
FOLLOW_HZ = 0.7

_OUTLIER_FRAMES, _OUTLIER_S = 2, 0.1
"""A mesh goes astray for so many frames on end at most, and for so long: what stays for longer was there."""
_PLAN_SMOOTHING_S = 0.5
_FASTEST_HZ = (4.0, 4.0, 2.5)
"""How fast a head may move, in sides of its square per second, and grow or shrink, by the logarithm of its size: who
is elsewhere sooner came there by a cut. The fastest of 33 clips of talking heads moves by 3.4 and grows by 1.0."""
_LEAST_JUMP = (0.15, 0.15, 0.1)
"""Of the same: less than this between two frames is no cut at any frame rate."""
_LONGEST_MOVE_S = 0.1
_REACH = (DEAD_ZONE, DEAD_ZONE, math.log1p(DEAD_ZONE))
"""Of the same: a head that is as near as this to where it was moves no square."""


@dataclass(frozen=True)
class SquareBox:
    """An upright square in a picture's pixels; it may leave the picture.

    Attributes:
        center_x: to the right, 0 at the picture's left edge.
        center_y: downwards, 0 at the picture's upper edge.
        side: length of an edge.
    """

    center_x: float
    center_y: float
    side: float


def face_size_px(face: Face) -> float:
    """How large a face is, in pixels, however it is turned and whatever the mouth does.

    It is the root mean square distance in space of 20 points on the rigid part of the head from their mean. Turning
    does not change distances in space, and expressions do not move these points: within the training clips whose head
    turns by more than 25 degrees it varies by 1.8 % (standard deviation), the width of the mesh's box by 2.2 %, its
    height by 2.6 % and the distance of the eyes in the picture by 3.8 %.
    """
    rigid = face.landmarks_px[list(RIGID_POINTS)]
    return float(np.sqrt(((rigid - rigid.mean(axis=0)) ** 2).sum(axis=1).mean()))


def frame_face(face: Face) -> SquareBox:
    """The square that shows a face as the training clips show theirs.

    Facts (medians of 142 training clips of 105 people, 12 frames each): the mesh's box is 0.479 of the frame wide and
    0.574 high, its centre lies at 0.501 of the width and 0.533 of the height, and the frame is 5.45 face sizes wide,
    with its centre 0.23 face sizes below the mean of the rigid points; 90 % of the clips lie between 4.74 and 6.40
    face sizes. The 199 portraits of the training data, framed by their makers, are wider: 6.11 face sizes.
    """
    size = face_size_px(face)
    x, y = face.landmarks_px[list(RIGID_POINTS), :2].mean(axis=0).tolist()
    return SquareBox(x, y + SHIFT_PER_SIZE * size, SIDE_PER_SIZE * size)


def lies_in(face: Face, box: SquareBox) -> bool:
    """Whether the middle of the face lies in the square: whether that is who the square shows."""
    left, top, right, bottom = face.box
    away_x, away_y = (left + right) / 2 - box.center_x, (top + bottom) / 2 - box.center_y
    return max(abs(away_x), abs(away_y)) <= box.side / 2


def central_square(rgb: NDArray[np.uint8]) -> SquareBox:
    """The largest square in the middle of a picture, (H, W, 3)."""
    height, width = rgb.shape[:2]
    return SquareBox(width / 2, height / 2, min(width, height))


def turned(rgb: NDArray[np.uint8], angle_deg: float) -> NDArray[np.uint8]:
    """The whole of a picture, turned about its middle; it grows as far as its corners then reach.

    Quarter turns move whole pixels. Beyond the picture's border its last pixels are repeated, as `crop` does.

    Args:
        rgb: (H, W, 3) uint8.
        angle_deg: clockwise as seen.

    Returns:
        (H', W', 3) uint8, as `turned_size` says.
    """
    quarters, rest = divmod(angle_deg, 90)
    if not rest:
        return np.ascontiguousarray(np.rot90(rgb, -int(quarters)))
    height, width = rgb.shape[:2]
    new_width, new_height = turned_size((width, height), angle_deg)
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]])
    middle, new_middle = np.array([width - 1, height - 1]) / 2, np.array([new_width - 1, new_height - 1]) / 2
    matrix[:, 2] = new_middle - matrix[:, :2] @ middle
    shown = cv2.warpAffine(rgb, matrix, (new_width, new_height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return shown.astype(np.uint8, copy=False)


def turned_size(size_px: tuple[int, int], angle_deg: float) -> tuple[int, int]:
    """Width and height of a turned picture of that width and height."""
    cos, sin = abs(math.cos(math.radians(angle_deg))), abs(math.sin(math.radians(angle_deg)))
    width, height = size_px
    return round(width * cos + height * sin), round(width * sin + height * cos)


def turned_box(box: SquareBox, size_px: tuple[int, int], from_deg: float, to_deg: float) -> SquareBox:
    """A square around the same place of a picture that is turned otherwise: itself upright, in that one's pixels.

    Args:
        box: in the pixels of the picture turned by `from_deg`.
        size_px: width and height of the picture as it is not turned.
        from_deg: how far it is turned, clockwise.
        to_deg: how far it will be.
    """
    by = math.radians(to_deg - from_deg)
    before, after = turned_size(size_px, from_deg), turned_size(size_px, to_deg)
    x, y = box.center_x - before[0] / 2, box.center_y - before[1] / 2
    cos, sin = math.cos(by), math.sin(by)
    return SquareBox(cos * x - sin * y + after[0] / 2, sin * x + cos * y + after[1] / 2, box.side)


def touches(box: SquareBox, rgb: NDArray[np.uint8]) -> bool:
    """Whether anything of a picture, (H, W, 3), lies in a square."""
    height, width = rgb.shape[:2]
    half = box.side / 2
    reaches = -half < box.center_x < width + half and -half < box.center_y < height + half
    return reaches and box.side > 0 and math.isfinite(box.side)


def crop(rgb: NDArray[np.uint8], box: SquareBox, size_px: int) -> NDArray[np.uint8]:
    """Cut a square out and scale it, to fractions of a pixel.

    Smaller: averaged over each pixel's area. Larger: bicubic. Beyond the picture's border its last pixels are repeated:
    of the ways to fill in, a mirrored border shows a second chin or forehead, and a black one an edge that moves.

    Args:
        rgb: (H, W, 3) uint8.
        box: may leave the picture.
        size_px: width and height of the answer.

    Returns:
        (size_px, size_px, 3) uint8.

    Raises:
        MediaError: the box does not touch the picture, or has no size; or the answer would have none, or the picture is
            of another type or shape.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise MediaError(
            f"cannot crop: got {rgb.dtype} of shape {rgb.shape}, expected uint8 of shape (height, width, 3)"
        )
    if size_px < 1:
        raise MediaError(f"cannot crop to {size_px} px: expected 1 at least")
    if not touches(box, rgb):
        height, width = rgb.shape[:2]
        raise MediaError(f"cannot crop: got {box}, expected a square that touches the {width} x {height} picture")
    return sample_square(rgb, (box.center_x, box.center_y), box.side, size_px, border=cv2.BORDER_REPLICATE)[0]


class CropSmoother:
    """The square of a live video: at rest while the head moves within it, following when the person moves away.

    A square that followed the face exactly would take the head's own movement out of the picture, and with it out of
    the animation. So the square rests until the face's square leaves it by more than a dead zone, then is drawn along
    by a critically damped spring (no overshoot). Jitter of the finder below the dead zone moves nothing at all. Its
    answer depends on the boxes and times given and on nothing else.

    Args:
        dead_zone: how far the face may stray before the square follows, as a fraction of the square's side (and by
            which factor its size may differ, less 1).
        follow_hz: the spring's natural frequency; at 0.7 Hz nine tenths of a jump are made up after 0.9 s.
    """

    def __init__(self, *, dead_zone: float = DEAD_ZONE, follow_hz: float = FOLLOW_HZ) -> None:
        self._dead_zone = dead_zone
        self._omega = 2 * math.pi * follow_hz
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next face is framed afresh, as after a change of camera or a calibration."""
        self._anchor: NDArray[np.float64] | None = None
        self._state = np.zeros(3)
        self._speed = np.zeros(3)

    def update(self, box: SquareBox | None, dt_s: float) -> SquareBox | None:
        """Take the next frame's square and answer the one to cut.

        Args:
            box: from `frame_face`, or None where no face was found: the square then stays where it is.
            dt_s: seconds since the frame before; any value from 0.

        Returns:
            The square; None as long as there was no face at all.
        """
        if box is not None:
            wanted = _to_vector(box)
            if self._anchor is None:
                self._anchor, self._state, self._speed = wanted, wanted, np.zeros(3)
            self._anchor = _drag(self._anchor, wanted, self._dead_zone)
        if self._anchor is None:
            return None
        if box is None:
            self._speed = np.zeros(3)
        else:
            # The spring's exact solution over the step, so that it is stable for every step.
            away = self._state - self._anchor
            push = (self._speed + self._omega * away) * dt_s
            decay = math.exp(-self._omega * dt_s)
            self._state = self._anchor + (away + push) * decay
            self._speed = (self._speed - self._omega * push) * decay
        return _to_box(self._state)


def find_shots(faces: Sequence[Face | None], fps: float, other_scenes: Sequence[bool] = ()) -> list[range]:
    """The shots of a video, by its frames: between them there was a cut.

    There was one where the scene is another; or where a head is elsewhere, or of another size, sooner than any head
    moves, which can be told without the pictures.

    Args:
        faces: the followed face of each frame, or None.
        fps: frames per second.
        other_scenes: of each frame, whether it shows another scene than the last one before it that has a face; empty
            where nobody saw the pictures.

    Returns:
        All frames; each shot but the first begins with a face, and frames without one belong to the shot before.
    """
    found = [index for index, face in enumerate(faces) if face is not None]
    if not found:
        return [range(len(faces))]
    measured = np.array([_to_vector(frame_face(face)) for face in faces if face is not None])
    scenes = [each for each, frame in enumerate(found) if each and other_scenes and other_scenes[frame]]
    cuts = []
    for first, last in itertools.pairwise([0, *scenes, len(found)]):
        steady = without_outliers(measured[first:last], _astray_frames(fps))
        # A head that was gone for longer may have moved, but nobody saw it: the picture was held, and jumps anyway.
        times_s = np.minimum(np.diff(found[first:last]) / fps, max(_LONGEST_MOVE_S, 1 / fps))
        reach = np.maximum(_LEAST_JUMP, np.outer(times_s, _FASTEST_HZ))
        too_fast = np.flatnonzero((_steps(steady) > reach).any(axis=1)).tolist()
        cuts += [first, *(first + each + 1 for each in too_fast)]
    return [range(*shot) for shot in itertools.pairwise([0, *(found[cut] for cut in cuts[1:]), len(faces)])]


def plan_crops(faces: Sequence[Face | None], fps: float, shots: Sequence[range] = ()) -> list[SquareBox]:
    """The squares of a whole video, for use where all frames are known beforehand.

    The same idea as `CropSmoother`, without its delay: a resting square wherever the head stays within the dead zone,
    and one that moves smoothly where it does not, the same way backwards as forwards in time. Frames without a face get
    what lies between their neighbours'. A video whose head never leaves the dead zone gets one square throughout.

    A shot in which the face is elsewhere is planned on its own, so that the square is where its face is from its first
    frame on. One square that glided from shot to shot would throw the avatar across the picture and draw it back for a
    second.

    Args:
        faces: the followed face of each frame, or None.
        fps: frames per second.
        shots: from `find_shots`; empty: as it finds them without the pictures.

    Returns:
        A square for each frame.

    Raises:
        MediaError: no frame has a face.
    """
    if not any(face is not None for face in faces):
        raise MediaError(f"no face in any of {len(faces)} frames: expected one that looks towards the camera")
    planned: list[SquareBox] = []
    for shot in _apart(shots or find_shots(faces, fps), faces):
        seen = [(index, frame_face(face)) for index in shot if (face := faces[index]) is not None]
        measured = without_outliers(np.array([_to_vector(box) for _, box in seen]), _astray_frames(fps))
        wanted = np.stack([np.interp(shot, [index for index, _ in seen], column) for column in measured.T], axis=1)
        rest = np.median(measured, axis=0)
        forwards = _drag_along(rest, wanted)
        backwards = _drag_along(rest, wanted[::-1])[::-1]
        planned += map(_to_box, _gaussian((forwards + backwards) / 2, _PLAN_SMOOTHING_S * fps))
    return planned


def _apart(shots: Sequence[range], faces: Sequence[Face | None]) -> list[range]:
    """Shots, those as one whose face begins where it was before: there was a flash of light, say, and no cut."""
    apart: list[range] = []
    last: SquareBox | None = None
    for shot in shots:
        seen = [frame_face(face) for index in shot if (face := faces[index]) is not None]
        if last is not None and (_steps(np.array([_to_vector(last), _to_vector(seen[0])])) <= _REACH).all():
            apart[-1] = range(apart[-1].start, shot.stop)
        else:
            apart.append(shot)
        last = seen[-1]
    return apart


def _steps(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far squares, (N, 3) with the logarithm of the side, are from the one before each, in sides of that."""
    steps = np.abs(np.diff(measured, axis=0))
    steps[:, :2] /= np.exp(measured[:-1, 2:])
    return steps


def _astray_frames(fps: float) -> int:
    return min(_OUTLIER_FRAMES, round(_OUTLIER_S * fps))


def best_reference_frame(source: Face, driving: Sequence[Face | None]) -> int:
    """The driving frame whose face is posed most like the source's: the one to measure relative motion from.

    FOMM's measure: points centred on their mean and divided by the square root of their hull's area, then the smallest
    sum of squared distances. Turning, tilt, and opening of mouth and eyes count; place and size do not.

    Args:
        source: the face to be animated.
        driving: the face of each frame, or None.

    Returns:
        Index into `driving`; the first of equals.

    Raises:
        MediaError: no driving frame has a face.
    """
    wanted = _normalised(source)
    distances = [math.inf if face is None else float(((_normalised(face) - wanted) ** 2).sum()) for face in driving]
    if not any(math.isfinite(distance) for distance in distances):
        raise MediaError(f"no face in any of {len(distances)} driving frames: expected one that looks at the camera")
    return int(np.argmin(distances))


def _normalised(face: Face) -> NDArray[np.float32]:
    points = face.landmarks_px[:, :2] - face.landmarks_px[:, :2].mean(axis=0)
    area = cv2.contourArea(cv2.convexHull(points))
    answer: NDArray[np.float32] = points / math.sqrt(max(area, 1e-6))
    return answer


def _to_vector(box: SquareBox) -> NDArray[np.float64]:
    """Centre and the logarithm of the side, so that growing and shrinking are alike."""
    return np.array([box.center_x, box.center_y, math.log(box.side)])


def _to_box(vector: NDArray[np.float64]) -> SquareBox:
    return SquareBox(float(vector[0]), float(vector[1]), math.exp(float(vector[2])))


def _drag(anchor: NDArray[np.float64], wanted: NDArray[np.float64], dead_zone: float) -> NDArray[np.float64]:
    """Move the anchor by as little as brings what is wanted back to the dead zone's edge."""
    side = math.exp(float(anchor[2]))
    reach = np.array([dead_zone * side, dead_zone * side, math.log1p(dead_zone)])
    return np.clip(anchor, wanted - reach, wanted + reach)


def _drag_along(start: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    path = np.empty_like(wanted)
    anchor = start
    for index, target in enumerate(wanted):
        anchor = path[index] = _drag(anchor, target, DEAD_ZONE)
    return path


def without_outliers(measured: NDArray[np.float64], most_frames: int = _OUTLIER_FRAMES) -> NDArray[np.float64]:
    """The running median of five frames, (N, M): a mesh gone astray for one or two of them moves nothing.

    Fewer than three frames have no median to go by, and stay as they are.

    Args:
        measured: of each frame.
        most_frames: so many on end may be astray: the median is that of twice as many and one.
    """
    if len(measured) <= most_frames:
        return measured
    # Repeated ends would outvote the rest.
    padded = np.pad(measured, ((most_frames, most_frames), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * most_frames + 1, axis=0)
    answer: NDArray[np.float64] = np.median(windows, axis=-1)
    return answer


def _gaussian(path: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Smooth each column without delay; the ends are held."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    weights /= weights.sum()
    padded = np.pad(path, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, weights, mode="valid") for column in padded.T], axis=1)
