"""Keypoints as they move: relative motion, jacobians that follow from places, affine motions.

All of it for torch's tensors and numpy's arrays alike (`mcnet.arrays.Keypoints`): the network and training compute with
tensors, on any device, the engine with arrays. Importing this does not import torch.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Array, Keypoints
from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE
from mcnet.mesh_points import LEFT_IRIS, LEFT_LIDS, RIGHT_IRIS, RIGHT_LIDS

if TYPE_CHECKING:
    from torch import Tensor

TensorOrArray = TypeVar("TensorOrArray", "Tensor", Array)


def namespace(array: "Tensor | Array") -> Any:
    """The module whose functions are for such an array: `torch` or `numpy`; they agree on the names used here."""
    return np if isinstance(array, np.ndarray) else importlib.import_module("torch")


def invert_2x2(matrix: TensorOrArray) -> TensorOrArray:
    """Inverse of (..., 2, 2) matrices in closed form; `torch.inverse` would make a GPU wait for the host."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    stack = namespace(matrix).stack
    adjugate = stack((stack((d, -b), -1), stack((-c, a), -1)), -2)
    inverse: TensorOrArray = adjugate / (a * d - b * c)[..., None, None]
    return inverse


def affine_motions(source: Keypoints[TensorOrArray], driving: Keypoints[TensorOrArray]) -> TensorOrArray:
    """The sparse motions T_k(z) = A_k z + b_k of paper eq. 1, as matrices for (x, y, 1): (B, K + 1, 2, 3).

    T_0 is the identity, the background's.
    """
    xp = namespace(driving.value)
    linear = source.jacobian @ invert_2x2(driving.jacobian)  # (B, K, 2, 2)
    offset = source.value[..., None] - linear @ driving.value[..., None]
    moved = xp.concatenate((linear, offset), -1)
    identity = _constant(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), driving.value)
    motions: TensorOrArray = xp.concatenate((xp.broadcast_to(identity, (len(moved), 1, 2, 3)), moved), 1)
    return motions


Jacobians = Literal["detected", "identity", "rotation"]
"""Where the jacobians of measured keypoints come from: the detector, nowhere, or the head's rotation and size."""
_LEAST_DEPTH = 0.3
"""Root of the summed squares, in face sizes, of the rigid keypoints' distances from the plane that fits them best: with
less, noise of their places would turn the head."""
_FACE_SIZE = 2 / 5.45
"""Of a face as it is framed: at this size, looking into the camera, the rotation's jacobian is the identity."""


def jacobians_of_places(places: TensorOrArray, points: Sequence[int], kind: Jacobians) -> TensorOrArray:
    """Jacobians of measured keypoints that follow from their places alone, so that nothing has to be detected.

    For `rotation`, a mean head's rigid points are fitted to those among the keypoints by an affine map of space to the
    picture, of which the nearest scaled rotation is taken (weak perspective): what it does to the plane of the face is
    the jacobian of all keypoints.

    Args:
        places: (B, K, 2) xy in [-1, 1].
        points: which of the face mesh's points they are; for `rotation`, `tells_rotation` of them.
        kind: `identity` or `rotation`.

    Returns:
        (B, K, 2, 2).
    """
    xp = namespace(places)
    sets, points_each = places.shape[:2]
    identity = _constant(((1.0, 0.0), (0.0, 1.0)), places)
    if kind == "identity":
        same: TensorOrArray = xp.tile(identity, (sets, points_each, 1, 1))
        return same
    fit = _constant(_rigid_fit(tuple(points)), places)  # (3, K)
    affine = (fit @ places).mT  # (B, 2, 3)
    gram = affine @ affine.mT
    # The inverse root of a symmetric 2x2 matrix in closed form, by Cayley and Hamilton.
    root = xp.sqrt(xp.clip(gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] * gram[:, 1, 0], 1e-12, None))
    trace = gram[:, 0, 0] + gram[:, 1, 1]
    square_root = (gram + root[:, None, None] * identity) / xp.sqrt(trace + 2 * root)[:, None, None]
    rotation = invert_2x2(square_root) @ affine
    scale = xp.sqrt(trace / 2) / _FACE_SIZE
    turned: TensorOrArray = xp.tile((scale[:, None, None] * rotation[:, :, :2])[:, None], (1, points_each, 1, 1))
    return turned


LinearMap = tuple[tuple[float, ...], ...]
"""(2 K + 1, 4 K): what takes the places of K keypoints, x and y in turn and a 1 behind them, to their jacobians, row by
row."""


def linear_jacobians(places: TensorOrArray, linear: LinearMap) -> TensorOrArray:
    """Jacobians as a linear map of all places, that was fitted to what a detector finds.

    Args:
        places: (B, K, 2) xy in [-1, 1].
        linear: the map.

    Returns:
        (B, K, 2, 2).
    """
    sets, points = places.shape[:2]
    fitted = _constant(linear, places)
    found: TensorOrArray = places.reshape(sets, 2 * points) @ fitted[:-1] + fitted[-1]
    return found.reshape(sets, points, 2, 2)


LIDS_OF_IRISES = ((RIGHT_IRIS.start, *RIGHT_LIDS), (LEFT_IRIS.start, *LEFT_LIDS))
"""The middle of the person's right and left iris, and of the upper and the lower lid before it."""
_OPEN_EYES = 0.12
"""The gap of open lids over the distance of the irises, as it is seen: 0.1 to 0.17 on faces that look into the camera.
A common factor only, as squeezes count against one another."""
_SQUEEZES = (0.2, 2.0)
"""The least and the most of a squeeze: at 0 no motion could be told, and in profile the distance of irises is none.
With 0.1, which the bundled model learned with, its lids follow a little less well, and shut eyes have blots."""


def irises_have_lids(points: Sequence[int]) -> bool:
    """Whether both irises are among these points of the face mesh, and the lids before them."""
    return bool(_irises_among(tuple(points)))


def squeezes(places: TensorOrArray, points: Sequence[int]) -> TensorOrArray:
    """How far lids have come together over irises, as matrices from the left for the jacobians of keypoints.

    An iris stays as it is behind its lids. The motion of a keypoint there would show an open eye where a shut one is to
    be seen; with squeezed jacobians, it takes what lies just above the line where lids meet from above the eye.

    Args:
        places: (B, K, 2) xy in [-1, 1].
        points: which of the face mesh's points they are: `irises_have_lids`.

    Returns:
        (B, K, 2, 2): the identity but for the irises, which are scaled across the eyes.
    """
    xp = namespace(places)
    found = _irises_among(tuple(points))
    along = places[:, found[1][0]] - places[:, found[0][0]]
    apart = xp.sqrt((along * along).sum(-1) + 1e-12)  # (B,)
    down = xp.stack((-along[:, 1], along[:, 0]), -1) / apart[:, None]
    gaps = [((places[:, lower] - places[:, upper]) * down).sum(-1) / apart for _, upper, lower in found]
    share = xp.clip(xp.stack(gaps, -1) / _OPEN_EYES, *_SQUEEZES)  # (B, 2)
    chosen = tuple(tuple(float(point == iris) for point in points) for iris, _, _ in LIDS_OF_IRISES)
    less = (share - 1) @ _constant(chosen, places)  # (B, K)
    across = down[:, None, :, None] * down[:, None, None, :]  # (B, 1, 2, 2)
    matrices: TensorOrArray = _constant(((1.0, 0.0), (0.0, 1.0)), places) + less[..., None, None] * across
    return matrices


@functools.lru_cache(maxsize=8)
def _irises_among(points: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """The columns of iris, upper and lower lid, of both eyes; empty if any is missing."""
    if not {point for eye in LIDS_OF_IRISES for point in eye} <= set(points):
        return ()
    right, left = (tuple(map(points.index, eye)) for eye in LIDS_OF_IRISES)
    return (right[0], right[1], right[2]), (left[0], left[1], left[2])


def tells_rotation(points: Sequence[int]) -> bool:
    """Whether the head's rotation follows from the places of these points of the face mesh.

    It takes rigid points of the head that do not lie in one plane, as both sides of the face, forehead and nose.
    """
    shape = _centred_shape(points)
    return len(shape) >= 4 and float(np.linalg.svd(shape, compute_uv=False)[-1]) >= _LEAST_DEPTH


def _rigid_among(points: Sequence[int]) -> list[int]:
    """The keypoints that lie on rigid points of the head, by their places in the order."""
    return [index for index, point in enumerate(points) if point in RIGID_POINTS]


def _centred_shape(points: Sequence[int]) -> NDArray[np.float64]:
    """(n, 3): a mean head's rigid points among the keypoints, about their mean."""
    rigid = [RIGID_POINTS.index(points[index]) for index in _rigid_among(points)]
    shape: NDArray[np.float64] = RIGID_SHAPE[rigid]
    return shape - shape.mean(axis=0) if rigid else shape


@functools.lru_cache(maxsize=8)
def _rigid_fit(points: tuple[int, ...]) -> tuple[tuple[float, ...], ...]:
    """(3, K): what takes the places of keypoints to the affine map from a mean head to them, transposed.

    Its rows sum to 0, so that places need no centring.
    """
    fit = np.zeros((3, len(points)))
    fit[:, _rigid_among(points)] = np.linalg.pinv(_centred_shape(points))
    return tuple(tuple(row) for row in fit.tolist())


def _constant(rows: tuple[tuple[float, ...], ...], like: Any) -> Any:
    """A matrix of the kind, type and device of `like`."""
    if isinstance(like, np.ndarray):
        return _array(rows, like.dtype)
    return _tensor(rows, like.device).to(like.dtype)


@functools.lru_cache(maxsize=16)
def _array(rows: tuple[tuple[float, ...], ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Kept, since a large one takes a tenth of a millisecond to make."""
    made = np.array(rows, dtype)
    made.flags.writeable = False
    return made


@functools.lru_cache(maxsize=16)
def _tensor(rows: tuple[tuple[float, ...], ...], device: Any) -> "Tensor":
    """Kept, since a copy from the host would make a GPU wait."""
    import torch

    with torch.inference_mode(mode=False):  # it outlives the call, and is later used where gradients are taken
        return torch.tensor(rows, device=device)


def hull_area(points: NDArray[np.float32]) -> float:
    """Area of the convex hull of (K, 2) points, in squared coordinate units; 0 when they lie on one line.

    Andrew's monotone chain, then the shoelace formula, in float64.
    """
    ordered = sorted({(float(x), float(y)) for x, y in points})

    def half_hull(chain: list[tuple[float, float]]) -> list[tuple[float, float]]:
        hull: list[tuple[float, float]] = []
        for point in chain:
            while len(hull) > 1:
                (ax, ay), (bx, by) = hull[-2], hull[-1]
                if (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) > 0:
                    break
                hull.pop()
            hull.append(point)
        return hull[:-1]

    hull = half_hull(ordered) + half_hull(ordered[::-1])
    twice = sum(ax * by - ay * bx for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True))
    return abs(twice) / 2


def adapted_scale(source: Keypoints[TensorOrArray], reference: Keypoints[TensorOrArray]) -> float:
    """How much larger the source's face is than the performer's: the root of the ratio of their keypoints' hull areas.

    Args:
        source: keypoints of the source, batch 1.
        reference: keypoints of the performer's reference pose, batch 1.

    Raises:
        ValueError: all keypoints of the reference lie on one line, so no scale can be told.
    """
    areas = [hull_area(_on_host(keypoints.value[0])) for keypoints in (source, reference)]
    if not areas[1] > 0:
        raise ValueError("the keypoints of the reference pose span no area: got a flat hull, expected a face")
    return float(np.sqrt(areas[0] / areas[1]))


def relative_keypoints(
    source: Keypoints[TensorOrArray],
    driving: Keypoints[TensorOrArray],
    reference: Keypoints[TensorOrArray],
    scale: float = 1.0,
) -> Keypoints[TensorOrArray]:
    """The source's keypoints, moved as the performer moved since the reference pose (FOMM, "relative motion transfer").

    p = (p_d - p_0) * scale + p_s and J = J_d J_0^-1 J_s.

    Args:
        source: p_s, J_s.
        driving: p_d, J_d of this frame.
        reference: p_0, J_0 of the calibrated frame.
        scale: `adapted_scale`, or 1.
    """
    return Keypoints(
        value=(driving.value - reference.value) * scale + source.value,
        jacobian=driving.jacobian @ invert_2x2(reference.jacobian) @ source.jacobian,
    )


def _on_host(array: "Tensor | Array") -> NDArray[np.float32]:
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
