"""Jacobians as a linear map of measured places, fitted to what a detector finds.

A detector's jacobians say how the face around each keypoint is turned and stretched, and on a face that follows nearly
from where all keypoints lie. Motion in space drives by places that are in nobody's picture, where nothing can be
detected; such a map gives it jacobians of the kind that the network has learned from (the affine motions of paper
eq. 1).
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mcnet.keypoints import KeypointDetector
from mcnet.pose import LinearMap
from training.data import DataError, Dataset
from training.fit.objective import at_rest
from training.fit.stores import FrameStore, LandmarkStore
from training.landmarks import TRAINING_POINTS

_log = logging.getLogger(__name__)

FRAMES_PER_CLIP = 32
"""At most so many of each clip: neighbouring frames say the same."""
_BATCH = 32
_RIDGE = 0.01
"""In variances of a place. On people left out of the fit it explains 78% of what the jacobians vary within a clip (72%
with a hundredth of it), and lets through a third of the noise that places have."""
_DIGITS = 5


@torch.inference_mode()
def fit_linear_jacobians(
    detector: KeypointDetector,
    dataset: Dataset,
    split: str,
    frames: FrameStore,
    landmarks: LandmarkStore,
    points: Sequence[int],
) -> LinearMap:
    """The map that comes nearest to the detector's jacobians on a dataset: ridge regression, each clip alike.

    Args:
        detector: on the stores' device; it rests meanwhile.
        dataset: whose pictures with trusted landmarks are looked at, some of each clip.
        split: of the dataset.
        frames: of the dataset.
        landmarks: likewise.
        points: which points of the face mesh the keypoints are.

    Raises:
        DataError: no picture of the split has landmarks that can be trusted.
    """
    rows = _rows(dataset, split)
    columns = [TRAINING_POINTS.index(point) for point in points]
    places, found = [], []
    with at_rest(detector):
        for start in range(0, len(rows), _BATCH):
            chosen = torch.from_numpy(rows[start : start + _BATCH])
            pictures = frames.to_pictures(frames.read(chosen.to(frames.rows_on)))
            measured, trusted = landmarks.read(chosen.to(pictures.device))
            jacobians = detector(pictures).jacobian
            places.append(measured[trusted][:, columns].flatten(1).cpu().numpy())
            found.append(jacobians[trusted].flatten(1).cpu().numpy())
    if not sum(map(len, places)):
        raise DataError(
            f"no picture of the split {split} has landmarks that can be trusted, expected some, as data.linear_share "
            f"is above 0: {'label the data anew (mcnet-train relabel)' if len(rows) else 'it has no pictures'}"
        )
    return _ridge(np.concatenate(places), np.concatenate(found))


def _rows(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """Rows of the split's pictures, evenly over each clip."""
    rows = [
        start + np.linspace(0, clip.frames - 1, min(clip.frames, FRAMES_PER_CLIP)).round().astype(np.int64)
        for clip, start in zip(dataset.clips, dataset.starts, strict=True)
        if clip.split == split
    ]
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def _ridge(places: NDArray[np.float32], jacobians: NDArray[np.float32]) -> LinearMap:
    """(N, 2 K) -> (N, 4 K). The constant is free: places count from their mean."""
    wanted, given = jacobians.astype(np.float64), places.astype(np.float64)
    mean, target = given.mean(0), wanted.mean(0)
    about = given - mean
    ridge = _RIDGE * max(float(about.var(axis=0).mean()), 1e-9) * np.eye(about.shape[1])
    weights = np.linalg.solve(about.T @ about / len(about) + ridge, about.T @ (wanted - target) / len(about))
    left = wanted - target - about @ weights
    _log.info(
        "jacobians as a linear map of places: %d pictures, %.0f%% of what the detector's vary",
        len(given),
        100 * (1 - left.var() / max(float((wanted - target).var()), 1e-12)),
    )
    rows = np.concatenate((weights, (target - mean @ weights)[None])).round(_DIGITS)
    return tuple(tuple(row) for row in rows.tolist())
