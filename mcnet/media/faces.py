"""Finding faces in pictures and in camera frames: BlazeFace searches, a face mesh measures.

MediaPipe's own FaceLandmarker cannot be used with the bundled `face_landmarker.task`: its mesh network answers
468 x 3 = 1404 numbers, while the task reads every answer as 478 points, takes 1404 // 478 = 2 numbers for each, and so
returns without a warning points that lie nowhere on the face. The steps around the networks follow the published
MediaPipe graphs (anchors, letterbox, rotated region of 1.5 face boxes).
"""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.media.cuts import are_alike, coarsely
from mcnet.media.errors import MediaError
from mcnet.media.face_mesh import (
    BUNDLE,
    LANDMARK_COUNT,
    REGION_FACTOR,
    AttentionMesh,
    Box,
    Face,
    FaceMesh,
    PlainMesh,
    Region,
    read_bundle,
)
from mcnet.media.light import Light
from mcnet.media.sampling import sample_square

__all__ = ["BUNDLE", "LANDMARK_COUNT", "Box", "Face", "FaceFinder"]

_DETECTOR_PX = 128
_ENOUGH_PX = 8 * _DETECTOR_PX
"""Of a picture's shorter side, for the detector: faces are measured in the whole picture."""
_MIN_DETECTION_SCORE = 0.5
_MIN_PRESENCE = 0.5
# A face that was not followed so far must be surer, and the plain mesh is the judge: with it, 959 true ones all reached
# 0.99, while letters in a drawn video reached 0.96 once in 300 frames without a face. The attention mesh, which knows
# better whether it lies on a face or beside it, takes such letters and photographic negatives for faces.
_MIN_PRESENCE_ANEW = 0.98
# A face that is followed is judged now and then, and at once where it looks otherwise: on 1,630 frames of talking
# heads, the ones turned by over 30 degrees included, the plain mesh never was less sure than 0.99; below a hand it was
# at 0.00, in the dark at 0.3 to 0.7, while the attention mesh went on with 1.00.
_MIN_PRESENCE_FOLLOWED = 0.9
_FRAME_S = 1 / 30
"""How long a frame lasts where nobody says when it was taken."""
_LONGEST_S = 0.5
"""At most so much of the time between two frames counts: what nobody saw, as while a camera froze, tells nothing."""
# The times below are 15, 300 and 5 frames of a camera that gives 30 in a second, which come some milliseconds early.
_JUDGE_EVERY_S = 0.49
_SAME_FACE_IOU = 0.3
LEAST_INSIDE = 0.6
"""At least this share of a performer's box must lie in the frame: the mesh only guesses what is outside."""
_SEARCH_EVERY_S = 0.49
"""So often small faces are looked for, and who was lost while another stands in: of 1920 x 1080 pixels small windows
are 113, which take a quarter of a second."""
_BEHIND = 0.7
"""Of a lost face's size: who is smaller than that is taken to be somebody behind the performer."""
_NEARER = 1.25
"""Who was lost is clearly nearer to the camera than who stands in: so many times as large."""
_WAITED_S, _REMEMBERED_S = 0.49, 9.99
"""For so long nobody behind stands in for a lost one, and for so long that one is taken back."""
_ALONE_S = 0.16
"""After so long without anybody in the picture there is nobody behind: whoever is found next is the performer."""


class _Lost(NamedTuple):
    """Who was followed and is not found any more.

    Attributes:
        region: where that face was.
        since_s: when the first frame without it was taken.
        scene: of half a second or more before, as of `coarsely`.
    """

    region: Region
    since_s: float
    scene: NDArray[np.float32]


class FaceFinder:
    """Finds faces and their mesh. One finder belongs to one thread.

    With `tracking`, meant for consecutive frames of one camera or video, `find` answers the one face that it follows
    from frame to frame and looks for another only when that one is lost: faster and steadier than looking anew. Then
    the largest face is taken; but nobody much smaller who is in the picture, too, drives while that one turns away or
    is covered for half a second, and who stands in later, for want of it, gives way as soon as a face of about its size
    is back in that scene (within 10 seconds). After a cut to another scene the largest face is taken at once.
    Without it every picture is searched on its own, small faces in large pictures included; but beside a large face
    one of less than half its size may be missed, as the search ends with the first size of window that shows any.

    Args:
        tracking: follow one face through consecutive frames.
        small: with `tracking`, search for small faces, too, such as in a corner of a recorded screen, every half second
            while no other is seen: for videos, where no picture waits for it.
        max_faces: at most so many, the largest ones (without `tracking`).
        mesh: measures what was found; the finder closes it. None: the attention mesh, which for single pictures is the
            one that loads at once, and with `tracking` the one that is fastest afterwards.
        bundle: the file of the detector, and of the plain mesh that judges what it found; only the bundled one is
            accepted.

    Raises:
        MediaError: a model file is missing or is another one.
    """

    def __init__(
        self,
        *,
        tracking: bool = False,
        small: bool = False,
        max_faces: int = 4,
        mesh: FaceMesh | None = None,
        bundle: Path = BUNDLE,
    ) -> None:
        self._detector: cv2.dnn.Net | None = cv2.dnn.readNetFromTFLite(read_bundle(bundle, "face_detector.tflite"))
        self._mesh: FaceMesh = mesh or AttentionMesh(runtime="auto" if tracking else "opencv")
        self._judge = self._mesh if isinstance(self._mesh, PlainMesh) else PlainMesh(bundle=bundle)
        self._anchors = _anchors()
        self._tracking = tracking
        self._small = small
        self._max_faces = max_faces
        self._followed: Region | None = None
        self._lost: _Lost | None = None
        self._choosing = False
        self._scenes: deque[NDArray[np.float32]] = deque(maxlen=2)
        self._judged: Light | None = None
        self._told_s: float | None = None
        self._now_s = self._step_s = self._alone_s = 0.0
        self._judged_s = self._searched_s = self._scene_s = -math.inf

    def find(self, rgb: NDArray[np.uint8], time_s: float | None = None) -> list[Face]:
        """Find the faces of one picture.

        Args:
            rgb: (H, W, 3) uint8.
            time_s: with `tracking`, when it was taken, in seconds of any clock; one that stands or goes back counts as
                no time. None: a thirtieth of a second after the frame before.

        Returns:
            The faces, largest first; empty when there is none. With `tracking` at most one.

        Raises:
            MediaError: `rgb` has another shape or type, or the finder is closed.
        """
        if not self._tracking:
            return self.search(rgb)
        _check(rgb)
        self._pass_time(time_s)
        face = self._track(rgb)
        return [] if face is None else [face]

    def search(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of one picture on its own, as `find` does without `tracking`; who is followed stays so.

        Args:
            rgb: (H, W, 3) uint8.

        Returns:
            The faces, largest first; empty when there is none.

        Raises:
            MediaError: as `find`.
        """
        _check(rgb)
        return self._search(rgb, small=True)[: self._max_faces]

    def follow(self, rgb: NDArray[np.uint8], face: Face) -> Face | None:
        """Find a face of the frame before again, near its old place: for following several faces of one video.

        Args:
            rgb: (H, W, 3) uint8.
            face: what this method or `find` answered for the frame before, of the same size.

        Returns:
            The face now, or None where there is none any more. After a cut it may be another person's.

        Raises:
            MediaError: the finder is closed.
        """
        return self._measure(rgb, Region.around(face.landmarks_px))

    def sureness(self, rgb: NDArray[np.uint8], face: Face) -> float:
        """How sure the judge is, 0 to 1, that a face lies where it was measured, the way up that it was measured.

        Args:
            rgb: (H, W, 3) uint8, in which `find` found it.
            face: what was found.

        Raises:
            MediaError: the finder is closed.
        """
        return self._judge.presence(rgb, Region.around(face.landmarks_px))

    def forget(self) -> None:
        """Drop the followed face: the next frame is searched anew, as after a cut or a change of camera."""
        self._followed = self._judged = self._lost = None
        self._searched_s = -math.inf

    def choose(self) -> None:
        """The largest face of the next frame is followed, whoever was before; who was, where none is found."""
        self._choosing = True

    def close(self) -> None:
        """Free the networks; harmless when called again."""
        self._detector = None
        self._judge.close()
        self._mesh.close()

    def __enter__(self) -> "FaceFinder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pass_time(self, time_s: float | None) -> None:
        """Let the time pass that lies between the frame before and one of that time."""
        self._step_s = _FRAME_S
        if time_s is not None:
            if self._told_s is not None:
                self._step_s = min(max(time_s - self._told_s, 0.0), _LONGEST_S)
            self._told_s = time_s
        self._now_s += self._step_s

    def _track(self, rgb: NDArray[np.uint8]) -> Face | None:
        """The face that is followed, or is to be from now on."""
        if self._choosing:
            self._choosing = False
            if faces := self._search(rgb, small=False):
                return self._begin(rgb, faces[0])
        face = None if self._followed is None else self._measure(rgb, self._followed)
        if face is not None and self._followed is not None and self._is_still_one(rgb, face):
            self._followed = self._followed.following(Region.around(face.landmarks_px))
            if self._lost is None:
                self._remember_scene(rgb)
                return face
            return self._back_again(rgb, self._lost, self._followed) or face
        if self._followed is not None and self._lost is None:
            self._lost = _Lost(self._followed, self._now_s, self._scenes[0])
            self._alone_s, self._searched_s = 0.0, -math.inf
        self._followed = self._judged = None
        return self._found_anew(rgb)

    def _found_anew(self, rgb: NDArray[np.uint8]) -> Face | None:
        """Who is followed from now on, as nobody is."""
        lost = self._lost
        faces = self._search(rgb, small=self._is_time_to_search() and self._small)
        if not faces:
            self._alone_s += min(self._step_s, _ALONE_S / 2)  # a single look may miss somebody
            return None
        side = Region.around(faces[0].landmarks_px).side
        if lost is None or self._alone_s >= _ALONE_S or side >= _BEHIND * lost.region.side:
            return self._begin(rgb, faces[0])
        if self._now_s - lost.since_s >= _WAITED_S or not are_alike(lost.scene, coarsely(rgb)):
            return self._begin(rgb, faces[0], instead_of=lost)
        return None

    def _back_again(self, rgb: NDArray[np.uint8], lost: _Lost, other: Region) -> Face | None:
        """Who was lost, where that one is seen again while the `other` stands in; it is looked for now and then."""
        if self._now_s - lost.since_s >= _REMEMBERED_S:
            self._lost = None
        elif self._is_time_to_search() and are_alike(lost.scene, coarsely(rgb)):
            least = max(_BEHIND * lost.region.side, _NEARER * other.side)
            faces = self._search(rgb, small=False)
            if faces and Region.around(faces[0].landmarks_px).side >= least:
                return self._begin(rgb, faces[0])
        return None

    def _is_time_to_search(self) -> bool:
        """Whether it is time for what takes longer than a frame."""
        is_time = self._now_s - self._searched_s >= _SEARCH_EVERY_S
        if is_time:
            self._searched_s = self._now_s
        return is_time

    def _begin(self, rgb: NDArray[np.uint8], face: Face, instead_of: _Lost | None = None) -> Face:
        """Follow a face from now on."""
        self._followed, self._lost = Region.around(face.landmarks_px), instead_of
        self._judged, self._judged_s = _light_of(rgb, face), self._now_s
        if instead_of is None:
            self._scene_s = -math.inf
            self._scenes.clear()
            self._remember_scene(rgb)
        return face

    def _remember_scene(self, rgb: NDArray[np.uint8]) -> None:
        """Keep the scene of half a second ago or more: before who is followed left, or the picture began to change."""
        if self._now_s - self._scene_s >= _SEARCH_EVERY_S:
            self._scenes.append(coarsely(rgb))
            self._scene_s = self._now_s

    def _is_still_one(self, rgb: NDArray[np.uint8], face: Face) -> bool:
        """Whether what is followed is a face by the judge too, who is asked only now and then, or where light changed.

        The attention mesh stays on what it follows: it goes on below a hand, and in the dark.
        """
        if self._mesh is self._judge:
            return True
        light = _light_of(rgb, face)
        unchanged = self._judged is not None and not light.differs(self._judged)
        if unchanged and self._now_s - self._judged_s < _JUDGE_EVERY_S:
            return True
        self._judged, self._judged_s = light, self._now_s
        return self._judge.presence(rgb, Region.around(face.landmarks_px)) >= _MIN_PRESENCE_FOLLOWED

    def _search(self, rgb: NDArray[np.uint8], *, small: bool) -> list[Face]:
        """Look in ever smaller windows until one size of window shows a face; in the smallest if `small`.

        The detector sees 128 px: a face below a sixth or so of the window is lost on it, as is one that fills it.
        """
        shown, larger = _shrunk(rgb)
        for windows in _window_sizes(shown.shape[1], shown.shape[0], small=small):
            found = [region for window in windows for region in self._detect(shown, window)]
            regions = [Region(larger * x, larger * y, larger * side, angle) for x, y, side, angle in found]
            faces: list[Face] = []
            for region in regions:
                seen = self._judge.measure(rgb, region)
                if seen.presence < _MIN_PRESENCE:
                    continue
                # A second look, turned and centred by the first mesh, is the one that counts.
                seen = self._judge.measure(rgb, Region.around(seen.landmarks_px))
                if seen.presence < _MIN_PRESENCE_ANEW:
                    continue
                # The judge's own answer is final: a third look by the same mesh differs, and is no better.
                face = seen if self._mesh is self._judge else self._measure(rgb, Region.around(seen.landmarks_px))
                if face is not None:
                    faces.append(face)
            if faces:
                return _largest_first(faces)
        return []

    def _detect(self, rgb: NDArray[np.uint8], window: Region) -> list[Region]:
        if self._detector is None:
            raise MediaError("cannot look for faces: this finder was closed, make a new one")
        picture, to_picture = sample_square(rgb, (window.center_x, window.center_y), window.side, _DETECTOR_PX)
        blob = cv2.dnn.blobFromImage(picture, 1 / 127.5, mean=(127.5, 127.5, 127.5))
        scores = _probabilities(self._detector, blob, "classificators")
        likely = scores > _MIN_DETECTION_SCORE
        if not likely.any():
            return []
        self._detector.setInput(blob)
        offsets = self._detector.forward("regressors").reshape(-1, 8, 2)[likely].astype(np.float32, copy=False)
        points = offsets + self._anchors[likely][:, None]
        points[:, 1] = offsets[:, 1]  # the second pair is the size, which no anchor shifts
        regions = []
        for chosen in _weighted_suppression(points, scores[likely]):
            center, eyes = chosen[0], chosen[2:4]
            center, right_eye, left_eye = (np.array([center, *eyes]) @ to_picture[:, :2].T + to_picture[:, 2]).tolist()
            angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
            side = REGION_FACTOR * float(chosen[1].max()) * window.side / _DETECTOR_PX
            regions.append(Region(center[0], center[1], side, angle))
        return regions

    def _measure(self, rgb: NDArray[np.uint8], region: Region) -> Face | None:
        face = self._mesh.measure(rgb, region)
        return face if face.presence >= _MIN_PRESENCE else None


def _check(rgb: NDArray[np.uint8]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise MediaError(f"cannot look for faces: got {rgb.dtype} of shape {rgb.shape}, expected uint8 (H, W, 3)")


def _shrunk(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """What the detector needs of a picture, and how many times as large the picture is: a photograph of 24 megapixels
    takes half as long then. Its smallest windows, a fourth of the shorter side, still have twice the detector's pixels.
    """
    height, width = rgb.shape[:2]
    times = min(height, width) // _ENOUGH_PX
    if times < 2:
        return rgb, 1.0
    size = (width // times, height // times)
    # Whole pixels of the small one, so that both axes have one scale.
    part = rgb[: size[1] * times, : size[0] * times]
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), float(times)


def _light_of(rgb: NDArray[np.uint8], face: Face) -> Light:
    box = face.box
    left, top = max(0, int(box.left)), max(0, int(box.top))
    return Light.of(rgb[top : max(top, int(box.bottom)), left : max(left, int(box.right))])


def _anchors() -> NDArray[np.float32]:
    """(896, 2) xy in the detector's pixels: 2 anchors at each cell of 16 x 16, then 6 at each of 8 x 8."""
    parts = []
    for cells, at_each in ((16, 2), (8, 6)):
        centers = (np.arange(cells, dtype=np.float32) + 0.5) * (_DETECTOR_PX / cells)
        y, x = np.meshgrid(centers, centers, indexing="ij")
        parts.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), at_each, axis=0))
    return np.concatenate(parts)


def _probabilities(network: cv2.dnn.Net, blob: cv2.typing.MatLike, layer: str) -> NDArray[np.float32]:
    network.setInput(blob)
    logits = network.forward(layer).reshape(-1).astype(np.float32, copy=False)
    answer: NDArray[np.float32] = np.reciprocal(1 + np.exp(-np.clip(logits, -50, 50)))
    return answer


def _window_sizes(width: int, height: int, *, small: bool) -> Sequence[list[Region]]:
    """Square windows to search, a list for each size: the whole picture, its height or width, then halves of that."""
    long, short = max(width, height), min(width, height)
    sides: list[float] = [long] if long < 1.1 * short else [long, short]
    if small:
        sides += [side for side in (short / 2, short / 4) if side >= _DETECTOR_PX / 2]
        sides.append(1.6 * long)
    return [_windows(width, height, side) for side in sides]


def _windows(width: int, height: int, side: float) -> list[Region]:
    """Windows of one size that overlap by half; a window larger than the picture stands at its middle."""

    def centers(length: int) -> list[float]:
        if side >= length:
            return [length / 2]
        count = math.ceil((length - side) / (side / 2)) + 1
        return [float(center) for center in np.linspace(side / 2, length - side / 2, count)]

    return [Region(x, y, side, 0.0) for y in centers(height) for x in centers(width)]


def _weighted_suppression(points: NDArray[np.float32], scores: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Merge the answers that overlap the best one into their mean weighted by score, as BlazeFace does against jitter.

    Args:
        points: (N, 8, 2): centre, size, then six keypoints.
        scores: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    merged = []
    while order.size:
        overlap = _iou(points[order[0]], points[order])
        same = order[overlap > _SAME_FACE_IOU] if overlap[0] > _SAME_FACE_IOU else order[:1]
        weight = scores[same][:, None, None]
        merged.append((points[same] * weight).sum(axis=0) / weight.sum())
        order = order[~np.isin(order, same)]
    return merged


def _iou(one: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(one[0] - one[1] / 2, many[:, 0] - many[:, 1] / 2)
    high = np.minimum(one[0] + one[1] / 2, many[:, 0] + many[:, 1] / 2)
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = one[1].prod() + many[:, 1].prod(axis=1) - common
    answer: NDArray[np.float32] = common / np.maximum(union, 1e-6)
    return answer


def _largest_first(faces: list[Face]) -> list[Face]:
    """Sort by area and drop what overlapping windows found twice."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.area_px2, reverse=True):
        box = face.box
        center = ((box.left + box.right) / 2, (box.top + box.bottom) / 2)
        inside = (
            other.left < center[0] < other.right and other.top < center[1] < other.bottom
            for other in (kept_face.box for kept_face in kept)
        )
        if not any(inside):
            kept.append(face)
    return kept
