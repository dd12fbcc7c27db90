"""The face mesh: 468 points on a face, five on each iris, found inside a region that is known already.

`AttentionMesh` is MediaPipe's attention mesh (Grishchenko et al., "Attention Mesh: High-fidelity Face Mesh Prediction
in Real-time", 2020): a trunk measures the whole face, and heads look again, on the trunk's features, at each eye and at
the lips. As in MediaPipe's graph, a head's points take the place of the trunk's in x and y, and depth remains the
trunk's. `PlainMesh` is the older network without heads.

Coordinates are a picture's pixels counted from edges: 0 is its left or upper edge, its width or height the other one.
"""

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.media.errors import MediaError
from mcnet.media.mesh_networks import Network, Runtime, loader_of
from mcnet.media.sampling import sample_square
from mcnet.phrases import phrase

LANDMARK_COUNT = 468
IRIS_POINTS = 10
"""Behind them, five on each iris."""
REGION_FACTOR = 1.5
"""A mesh network looks at a square of so many times the face's longer side."""

ATTENTION_FOLDER = ASSETS / "models" / "face_mesh"
_SHA256 = {
    "trunk": "590f365f5143b7c94f6588781b557eb50b83596bd3b4c589c2994817546dd818",
    "left_eye": "79672e9b638d3c2ea067d085c224c3fac2a86123d6b2d239e7e17dda715277e0",
    "right_eye": "78ba605827707689d82b698d912bdbc386c9f53d8cf14a3059ce5c299f8a4d6b",
    "lips": "f5df7110ad7ee1d2dc1635de7e49fc89165bc937e8e548c3fc424cc4bc3d4d41",
}

BUNDLE = ASSETS / "models" / "face_landmarker.task"
BUNDLE_SHA256 = "e899fd44ac3891bbf2a2a1e179f199c01f87ca864e9f250cf29095afcfebc109"

_INPUT_PX = 192
_CELLS, _CELL_PX = 48, 4  # the trunk's map of features: 48 x 48 cells of 4 x 4 input pixels
# Of a region of 384 to 480 px this takes 0.9 ms in place of 2.3 (a busy machine, one thread); landmarks move by 0.02 px
# of the input, and the camera's noise in them grows by 2 to 5 %.
_SPACING_PX = 1.25
_HEAD_CELLS = 16  # what a head sees of it, resampled
_HEAD_MARGIN = 1.5  # and how much larger than its points' box that is
_RIGHT_EYE_OUTER, _LEFT_EYE_OUTER = 33, 263
_SLACK, _SLACK_RAD = 0.02, math.radians(2)
_CLOSED = "cannot look for faces: the face mesh was closed, make a new one"


class Box(NamedTuple):
    """An upright rectangle in pixels; x grows to the right, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area_px2(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.bottom - self.top)

    def share_inside(self, rgb: NDArray[np.uint8]) -> float:
        """Which share of it lies in a picture, (H, W, 3)."""
        width = min(self.right, float(rgb.shape[1])) - max(self.left, 0.0)
        height = min(self.bottom, float(rgb.shape[0])) - max(self.top, 0.0)
        return max(0.0, width) * max(0.0, height) / max(self.area_px2, 1e-6)


class Region(NamedTuple):
    """A square that may be turned: where a mesh network looks.

    Attributes:
        center_x: in the picture's pixels.
        center_y: likewise.
        side: length of an edge in the picture's pixels.
        angle_rad: how far it is turned, clockwise as seen.
    """

    center_x: float
    center_y: float
    side: float
    angle_rad: float

    @classmethod
    def around(cls, landmarks_px: NDArray[np.float32]) -> "Region":
        """The region in which to measure a face whose landmarks are known, for example from the frame before.

        Args:
            landmarks_px: (468, 2 or 3) in the picture's pixels.
        """
        right_eye, left_eye = landmarks_px[_RIGHT_EYE_OUTER, :2], landmarks_px[_LEFT_EYE_OUTER, :2]
        angle = math.atan2(float(left_eye[1] - right_eye[1]), float(left_eye[0] - right_eye[0]))
        upright = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], np.float32)
        turned = landmarks_px[:, :2] @ upright.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        center_x, center_y = ((low + high) / 2 @ upright).tolist()
        return cls(center_x, center_y, REGION_FACTOR * float((high - low).max()), angle)

    def following(self, other: "Region") -> "Region":
        """This region, drawn along as far as it has to be to lie near another one: for the next frame of a video.

        A region around every frame's landmarks would tremble with them, and the answer with it, since the network's
        depends a little on where it looks. So it rests while the face stays within 2 % of its side and 2 degrees.
        """
        slack = _SLACK * self.side
        ratio = min(max(other.side / self.side, 1 - 2 * _SLACK), 1 + 2 * _SLACK)
        turn = math.remainder(other.angle_rad - self.angle_rad, 2 * math.pi)
        return Region(
            other.center_x - min(max(other.center_x - self.center_x, -slack), slack),
            other.center_y - min(max(other.center_y - self.center_y, -slack), slack),
            other.side / ratio,
            other.angle_rad - min(max(turn, -_SLACK_RAD), _SLACK_RAD),
        )


@dataclass(frozen=True, eq=False)
class Face:
    """A face found in one picture.

    Attributes:
        landmarks_px: (468, 3) float32 in MediaPipe's mesh order: x to the right and y downwards in the picture's
            pixels (they may lie outside it), z in the same unit, smaller nearer to the camera, 0 at the head's middle.
        presence: how sure the mesh network is that this is a face, 0 to 1.
        irises_px: (2, 5, 2) float32 xy: the person's right iris, then the left one, which are MediaPipe's points 468 to
            472 and 473 to 477; of each its centre, then its edge's four points. Guessed where the eye is shut. None
            from a mesh that has none.
    """

    landmarks_px: NDArray[np.float32]
    presence: float
    irises_px: NDArray[np.float32] | None = None

    @property
    def mesh_px(self) -> NDArray[np.float32]:
        """(478, 3): `landmarks_px`, and behind them the irises as MediaPipe numbers them; (468, 3) without irises.

        Irises are measured in the picture only. As in MediaPipe's graph, their depth is the mean of their lids'.
        """
        if self.irises_px is None:
            return self.landmarks_px
        lids = (RIGHT_EYE_POINTS[:_LID_COUNT], LEFT_EYE_POINTS[:_LID_COUNT])
        depths = np.array([self.landmarks_px[list(points), 2].mean() for points in lids], np.float32)
        irises = np.dstack((self.irises_px, np.repeat(depths[:, None], self.irises_px.shape[1], axis=1)))
        return np.concatenate((self.landmarks_px, irises.reshape(-1, 3)))

    @property
    def box(self) -> Box:
        """The upright rectangle around the mesh."""
        left, top = self.landmarks_px[:, :2].min(axis=0)
        right, bottom = self.landmarks_px[:, :2].max(axis=0)
        return Box(float(left), float(top), float(right), float(bottom))

    @property
    def area_px2(self) -> float:
        """The area of `box`."""
        return self.box.area_px2


class FaceMesh(Protocol):
    """Measures a face whose region is known. One mesh belongs to one thread; the same input gives the same answer."""

    def measure(self, rgb: NDArray[np.uint8], region: Region) -> Face:
        """Measure, in one pass, to fractions of a pixel.

        Args:
            rgb: (H, W, 3) uint8.
            region: from a detector, or `Region.around` the landmarks of the frame before; it may leave the picture.

        Returns:
            The face, whatever its presence: where that is low, what lies in the region is none.

        Raises:
            MediaError: the mesh is closed.
        """
        ...

    def close(self) -> None:
        """Free the networks; harmless when called again."""
        ...


class _Head(NamedTuple):
    """A network that looks again at a part of the face.

    Attributes:
        name: of its file.
        outputs: of the network: the points of `points`, then those of the iris if it has one.
        points: mesh indices, in the order of the head's answers.
        corners: the mesh indices, left to right in an upright picture, whose line is the head's horizontal.
    """

    name: str
    outputs: tuple[str, ...]
    points: tuple[int, ...]
    corners: tuple[int, int]


RIGHT_EYE_POINTS = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
    *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189),
    *(35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245),
    *(156, 70, 63, 105, 66, 107, 55, 193),
)
"""Mesh indices of what the head of the person's right eye finds: lower lid from the outer to the inner corner, upper
lid likewise without corners, then rings around the eye and the brow."""
_LID_COUNT = 16
"""So many of them, the first ones, are the lids."""

LEFT_EYE_POINTS = (
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
    *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413),
    *(265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465),
    *(383, 300, 293, 334, 296, 336, 285, 417),
)
"""Likewise of the person's left eye."""

LIPS_POINTS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
    *(76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
    *(62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
)
"""Of the lips: outer, inner, and two rings between; of each the lower lip from the right corner to the left one, then
the upper lip without corners."""

# MediaPipe names the eyes as the picture shows them: its left eye is the person's right one.
_HEADS = (
    _Head("left_eye", ("conv_left_eye", "conv_left_iris"), RIGHT_EYE_POINTS, (33, 133)),
    _Head("right_eye", ("conv_right_eye", "conv_right_iris"), LEFT_EYE_POINTS, (362, 263)),
    _Head("lips", ("conv_lips",), LIPS_POINTS, (61, 291)),
)
_TRUNK_OUTPUTS = ("output_mesh", "conv_faceflag", "p_re_lu_3")


class AttentionMesh:
    """A `FaceMesh` whose lids, irises and lips come from networks of their own.

    Args:
        runtime: what computes. OpenVINO is twice as fast or faster and takes some tenths of a second to load, OpenCV
            loads at once; their answers agree to 0.01 px of a region of 192 px.
        folder: holds the networks; only the bundled ones are accepted.

    Raises:
        MediaError: a network is missing or is another one.
        ImportError: runtime "openvino" was asked for and is not installed.
    """

    def __init__(self, *, runtime: Runtime = "auto", folder: Path = ATTENTION_FOLDER) -> None:
        load = loader_of(runtime)
        trunk = load(_checked(folder, "trunk"), _TRUNK_OUTPUTS)
        heads = [load(_checked(folder, head.name), head.outputs) for head in _HEADS]
        self._networks: tuple[Network, list[Network]] | None = (trunk, heads)

    def measure(self, rgb: NDArray[np.uint8], region: Region) -> Face:
        if self._networks is None:
            raise MediaError(_CLOSED)
        trunk, heads = self._networks
        square, to_picture = _sample(rgb, region)
        mesh, logit, features = trunk.run(square)
        points = mesh.reshape(LANDMARK_COUNT, 3).copy()
        maps = np.stack([_head_map(points, head) for head in _HEADS])
        seen = _resample(features, maps)
        irises = []
        for head, network, view, to_cells in zip(_HEADS, heads, seen, maps, strict=True):
            found, *iris = (_from_head(answer, to_cells) for answer in network.run(view))
            points[list(head.points), :2] = found
            irises += iris
        return Face(
            landmarks_px=_to_picture(points, to_picture, region),
            presence=_probability(logit),
            irises_px=np.stack(irises).astype(np.float32) @ to_picture[:, :2].T + to_picture[:, 2],
        )

    def close(self) -> None:
        self._networks = None


class PlainMesh:
    """A `FaceMesh` by MediaPipe's network of 2019, without irises and with lids that hardly shut.

    It is kept for figures that are to be compared with earlier ones, and as a judge that made none of the keypoints.

    Args:
        bundle: the file that holds it; only the bundled one is accepted.

    Raises:
        MediaError: the file is missing or is another one.
    """

    def __init__(self, *, bundle: Path = BUNDLE) -> None:
        self._network: cv2.dnn.Net | None = cv2.dnn.readNetFromTFLite(
            read_bundle(bundle, "face_landmarks_detector.tflite")
        )

    def measure(self, rgb: NDArray[np.uint8], region: Region) -> Face:
        if self._network is None:
            raise MediaError(_CLOSED)
        square, to_picture = _sample(rgb, region)
        presence = self._presence_in(self._network, square)
        mesh = np.asarray(self._network.forward("conv2d_21"), np.float32).reshape(LANDMARK_COUNT, 3)
        return Face(_to_picture(mesh, to_picture, region), presence)

    def presence(self, rgb: NDArray[np.uint8], region: Region) -> float:
        """How sure the network is that this is a face, 0 to 1: that of `measure`, in half of its time.

        OpenCV computes the network anew for each of its two outputs.

        Args:
            rgb: (H, W, 3) uint8.
            region: as for `measure`.

        Raises:
            MediaError: the mesh is closed.
        """
        if self._network is None:
            raise MediaError(_CLOSED)
        return self._presence_in(self._network, _sample(rgb, region)[0])

    @staticmethod
    def _presence_in(network: cv2.dnn.Net, square: NDArray[np.float32]) -> float:
        network.setInput(np.ascontiguousarray(square.transpose(2, 0, 1))[None])
        return _probability(np.asarray(network.forward("conv2d_31"), np.float32))

    def close(self) -> None:
        self._network = None


def read_bundle(bundle: Path, name: str) -> NDArray[np.uint8]:
    """The bytes of one network of MediaPipe's bundle.

    Args:
        bundle: the file.
        name: of the network inside.

    Raises:
        MediaError: the file is missing or is another one than the bundled one.
    """
    content = checked_content(bundle, BUNDLE_SHA256)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return np.frombuffer(archive.read(name), np.uint8)


def _checked(folder: Path, name: str) -> Path:
    path = folder / f"{name}.tflite"
    checked_content(path, _SHA256[name])
    return path


def checked_content(path: Path, expected: str) -> bytes:
    """The bytes of a bundled network.

    Args:
        path: of the file.
        expected: its SHA-256.

    Raises:
        MediaError: the file is missing or is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MediaError(
            phrase(
                "cannot read the bundled network {path}: {cause}; reinstall the package",
                path=path,
                cause=error.strerror or error,
            )
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise MediaError(
            phrase(
                "the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; "
                "reinstall the package",
                path=path,
                found=found[:16],
                expected=expected[:16],
            )
        )
    return content


def _sample(rgb: NDArray[np.uint8], region: Region) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The region as (192, 192, 3) float32 in 0 to 1, and the map from its pixels to the picture's."""
    square, to_picture = sample_square(
        rgb,
        (region.center_x, region.center_y),
        region.side,
        _INPUT_PX,
        angle_rad=region.angle_rad,
        spacing_px=_SPACING_PX,
    )
    return np.multiply(square, np.float32(1 / 255), dtype=np.float32), to_picture


def _to_picture(points: NDArray[np.float32], to_picture: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
    """(N, 3) points of the region's 192 pixels in the picture's."""
    landmarks = np.empty_like(points)
    landmarks[:, :2] = points[:, :2] @ to_picture[:, :2].T + to_picture[:, 2]
    landmarks[:, 2] = points[:, 2] * (region.side / _INPUT_PX)
    return landmarks


def _probability(logit: NDArray[np.float32]) -> float:
    return 1 / (1 + math.exp(-min(50.0, max(-50.0, float(logit.reshape(-1)[0])))))


def _head_map(points: NDArray[np.float32], head: _Head) -> NDArray[np.float64]:
    """(2, 3): from the cells that a head sees to the trunk's.

    A head sees the upright box of its points, enlarged, after the face was turned so that its corners' line is level
    (MediaPipe's operator Landmarks2TransformMatrix, version 2).

    Args:
        points: (468, 3), the trunk's, in input pixels.
        head: whose.
    """
    places = points[[*head.points, *head.corners], :2].astype(np.float64) / _CELL_PX
    x, y = (places[-1] - places[-2]).tolist()
    length = max(math.hypot(x, y), 1e-6)
    level = np.array([[x / length, y / length], [-y / length, x / length]])
    turned = places[:-2] @ level.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    linear = level.T * (_HEAD_MARGIN * (high - low) / _HEAD_CELLS)
    shift = level.T @ ((low + high) / 2) - linear.sum(axis=1) * (_HEAD_CELLS / 2)
    return np.column_stack([linear, shift])


def _resample(features: NDArray[np.float32], maps: NDArray[np.float64]) -> NDArray[np.float32]:
    """What heads see of the trunk's features, bilinear (MediaPipe's operator TransformTensorBilinear, version 2).

    Args:
        features: (48, 48, C).
        maps: (N, 2, 3) from `_head_map`.

    Returns:
        (N, 16, 16, C); 0 where a place lies outside the middles of the border's cells.
    """
    middles = np.arange(_HEAD_CELLS) + 0.5
    cells = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
    places = (cells @ maps[:, :, :2].transpose(0, 2, 1) + maps[:, None, :, 2] - 0.5).reshape(-1, 2)
    inside = ((places >= 0) & (places <= _CELLS - 1)).all(axis=1)
    first = np.clip(np.floor(places), 0, _CELLS - 2).astype(np.intp)
    right, down = (places - first).astype(np.float32).T
    up, down = (1 - down) * inside, down * inside
    corner = first[:, 1] * _CELLS + first[:, 0]
    rows = features.reshape(_CELLS * _CELLS, -1)
    seen: NDArray[np.float32] = rows.take(corner, axis=0) * ((1 - right) * up)[:, None]
    for offset, share in ((1, right * up), (_CELLS, (1 - right) * down), (_CELLS + 1, right * down)):
        part = rows.take(corner + offset, axis=0)
        part *= share[:, None]
        seen += part
    return seen.reshape(len(maps), _HEAD_CELLS, _HEAD_CELLS, -1)


def _from_head(answer: NDArray[np.float32], to_cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """A head's (N, 2) points, which count 4 pixels to each of its cells, in the trunk's input pixels."""
    points: NDArray[np.float64] = answer.reshape(-1, 2) @ to_cells[:, :2].T + _CELL_PX * to_cells[:, 2]
    return points
