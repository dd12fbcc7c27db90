"""References on disk, so that the same performer before the same camera is not asked to calibrate again."""

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.kept_arrays import read_arrays, write_arrays
from app.pipeline.animation.motion import Pose, Reference
from mcnet.mean_head import RIGID_POINTS
from mcnet.media.expressions import Mesh, head_turn
from mcnet.media.head_motion import Head
from mcnet.phrases import packed, unpacked

logger = logging.getLogger(__name__)

_VERSION = "1"
_KEPT_FILES = 60
_STRAIGHT_DEG = 25.0
_ROTATION_ATOL = 1e-4
_SAME_PERSON = 0.035
"""Of the rigid points, root mean square in face sizes. One person's stay within 0.022 of the first over GRID's 75
frames of a speaker, who is at least 0.040 away from each of the ten bundled portraits. These are between 0.023 and
0.114 away from each other: somebody whose head has the very same proportions is taken for the same person, and is moved
from that one's neutral face until a more neutral one is seen, or until a calibration is asked for."""


class Setup(NamedTuple):
    """What a reference is valid for.

    Attributes:
        camera: which; "" where nothing tells it from others over runs, so that nothing is kept.
        shape: of its frames, which are other ones when the camera is turned or asked for another size.
        in_space: an expression was looked for, which serves every portrait and every model.
        measured: whether keypoints' places are measured.
        portrait: the square that is animated, for motion in the plane, whose reference looks as the portrait does.
        fingerprint: of the model, likewise.
    """

    camera: str
    shape: tuple[int, ...]
    in_space: bool
    measured: bool
    portrait: NDArray[np.uint8]
    fingerprint: str

    @property
    def key(self) -> str:
        """The same for the same setup; it tells nothing about the camera, whose address may have a password in it."""
        parts = [self.camera, str(self.shape), f"{self.in_space} {self.measured}"]
        if not self.in_space:
            parts += [self.fingerprint, hashlib.sha256(self.portrait.tobytes()).hexdigest()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class Kept(NamedTuple):
    """A reference, and whose it is.

    Attributes:
        reference: for motion.
        likeness: (20, 3) the rigid points of the performer's head.
        score, remarks: as of `app.pipeline.events.Calibrated`.
    """

    reference: Reference
    likeness: NDArray[np.float64]
    score: int
    remarks: tuple[str, ...]

    def is_of(self, landmarks: Mesh) -> bool:
        """Whether a face, (468 or more, 3), is this performer's, and looks about straight; turned far, it cannot be
        told.
        """
        head = Head.of(np.asarray(landmarks, np.float64))
        return alike(likeness_of(head), self.likeness) and head_turn(head.rotation).angle < _STRAIGHT_DEG


def kept_of(reference: Reference, landmarks: Mesh, score: int, remarks: tuple[str, ...]) -> Kept:
    """A reference with its performer's likeness: the reference's own, or that of the (468 or more, 3) landmarks of
    another frame of the same performer.
    """
    head = reference.head or Head.of(np.asarray(landmarks, np.float64))
    return Kept(reference, likeness_of(head), score, remarks)


def likeness_of(head: Head) -> NDArray[np.float64]:
    """What tells a performer from others: (20, 3) the rigid points of the head, in face sizes."""
    return head.shape[list(RIGID_POINTS)]


def alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two likenesses, each of a head that looks about straight, are one person's."""
    return bool(np.square(one - other).sum(1).mean() ** 0.5 < _SAME_PERSON)


class ReferenceStore:
    """A folder of references; what cannot be read or written is found anew.

    Each says what a performer's face measures, so that a file is its owner's alone.

    Args:
        folder: made when the first one is kept; at most 60 files stay, the last used ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, setup: Setup) -> Kept | None:
        """The reference that is valid for a setup; None where there is none."""
        if not setup.camera:
            return None
        path = self._path(setup)
        try:
            tensors, told = read_arrays(path)
            kept = _unpack({name: tensor.astype(np.float64) for name, tensor in tensors.items()}, told)
            path.touch()
        except FileNotFoundError:
            return None
        except (OSError, LookupError, ValueError, TypeError) as error:
            logger.info("the kept calibration %s cannot be used (%s); it is made anew", path, error)
            return None
        return kept

    def save(self, setup: Setup, kept: Kept) -> None:
        """Keep a reference; a full or forbidden disk is no reason to stop."""
        if not setup.camera:
            return
        path = self._path(setup)
        remarks = [packed(remark) for remark in kept.remarks]
        told = {"score": kept.score, "remarks": remarks, "model": kept.reference.fingerprint, "version": _VERSION}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_arrays(path, _pack(kept), told)
            self._tidy()
        except OSError as error:
            logger.warning("the calibration could not be kept in %s: %s", self._folder, error)

    def clear(self) -> None:
        """Delete all of them."""
        for path in self._folder.glob("*.safetensors"):
            try:
                path.unlink()
            except OSError as error:
                logger.warning("the kept calibration %s could not be deleted: %s", path, error)

    def _path(self, setup: Setup) -> Path:
        return self._folder / f"{setup.key}.safetensors"

    def _tidy(self) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_KEPT_FILES:]:
            with contextlib.suppress(OSError):
                path.unlink()


def _pack(kept: Kept) -> dict[str, NDArray[np.float32]]:
    pose, head, _ = kept.reference
    tensors = {"value": pose.value, "jacobian": pose.jacobian, "likeness": kept.likeness}
    if head is not None:
        tensors |= {
            "shape": head.shape,
            "rotation": head.rotation,
            "shift": head.shift,
            "scale": np.array([head.scale]),
        }
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def _unpack(tensors: dict[str, NDArray[np.float64]], told: dict[str, object]) -> Kept:
    if told["version"] != _VERSION:
        raise ValueError(f"got version {told['version']!r}, expected {_VERSION}")
    value, jacobian, likeness = tensors["value"], tensors["jacobian"], tensors["likeness"]
    shapes = [(value, (len(value), 2)), (jacobian, (len(value), 2, 2)), (likeness, (len(RIGID_POINTS), 3))]
    in_space = "shape" in tensors
    if in_space:
        shape, rotation, scale, shift = (tensors[name] for name in ("shape", "rotation", "scale", "shift"))
        shapes += [(shape, (max(468, len(shape)), 3)), (rotation, (3, 3)), (scale, (1,)), (shift, (3,))]
    for tensor, expected in shapes:
        if tensor.shape != expected or not np.isfinite(tensor).all():
            raise ValueError(f"got a tensor of shape {tensor.shape}, expected finite numbers of shape {expected}")
    head = Head(shape, rotation, float(scale[0]), shift) if in_space else None
    if head is not None and not (head.scale > 0 and _is_rotation(head.rotation)):
        raise ValueError(f"got a head of size {head.scale}, turned by {head.rotation.tolist()}")
    score, remarks = told["score"], told["remarks"]
    if not isinstance(score, int) or not isinstance(remarks, list):
        raise ValueError("got no score")
    reference = Reference(Pose(value, jacobian), head, str(told["model"]))
    return Kept(reference, likeness, score, tuple(map(unpacked, remarks)))


def _is_rotation(matrix: NDArray[np.float64]) -> bool:
    """Whether a (3, 3) matrix of float32's accuracy turns, and neither stretches nor mirrors."""
    turns = np.allclose(matrix @ matrix.T, np.eye(3), atol=_ROTATION_ATOL)
    return bool(turns and np.linalg.det(matrix) > 0)
