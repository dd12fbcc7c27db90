"""Keypoints whose places were measured by the face mesh, in the place of the detector's.

The mesh sees a face at the camera's resolution, where the detector sees 64 pixels. A network that is to be driven by
measured places is trained on them, with the noise that they will have.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mcnet.arrays import Keypoints
from mcnet.pose import (
    Jacobians,
    LinearMap,
    invert_2x2,
    irises_have_lids,
    jacobians_of_places,
    linear_jacobians,
    squeezes,
)
from training.draws import Draws
from training.fit.augment import Faces
from training.fit.config import DataConfig
from training.fit.stores import columns_on
from training.landmarks import TRAINING_POINTS

_JITTER_SIDE_PX = 256


class Measured(NamedTuple):
    """What was measured of a batch of pairs.

    Attributes:
        source: (B, K, 2) places in [-1, 1] of the source's keypoints.
        driving: (B, K, 2), the driving frame's.
        used: (B,) bool, for which pairs they take the detector's place; the others are detected.
        points: which of the mesh's points they are.
        jacobians: where the jacobians come from.
        linear: the map from places to jacobians; empty where nothing uses it.
        moved: (B,) bool, in which measured pairs the driving jacobians are the source's, changed as the map says.
    """

    source: Tensor
    driving: Tensor
    used: Tensor
    points: tuple[int, ...]
    jacobians: Jacobians
    linear: LinearMap
    moved: Tensor

    def keypoints(self, detected_source: Keypoints, detected_driving: Keypoints) -> tuple[Keypoints, Keypoints]:
        """The detector's keypoints of both pictures, with what was measured in their place. No gradient reaches the
        detector's places of pairs that are measured.
        """
        driving = detected_driving.jacobian
        if self.linear:
            before, after = (linear_jacobians(places, self.linear) for places in (self.source, self.driving))
            moved = after @ invert_2x2(before) @ detected_source.jacobian
            driving = torch.where((self.used & self.moved)[:, None, None, None], moved, driving)
        return (
            self._in_place_of(detected_source, self.source),
            self._in_place_of(detected_driving._replace(jacobian=driving), self.driving),
        )

    def pair(self, index: int) -> "Measured":
        """Of one pair, batch 1."""
        one = slice(index, index + 1)
        return self._replace(
            source=self.source[one], driving=self.driving[one], used=self.used[one], moved=self.moved[one]
        )

    def _in_place_of(self, detected: Keypoints, places: Tensor) -> Keypoints:
        own = detected.jacobian
        if self.jacobians != "detected":
            own = jacobians_of_places(places, self.points, self.jacobians)
        if irises_have_lids(self.points):
            own = squeezes(places, self.points) @ own
        return Keypoints(
            torch.where(self.used[:, None, None], places, detected.value),
            torch.where(self.used[:, None, None, None], own, detected.jacobian),
        )


def measured(
    source: Faces, driving: Faces, config: DataConfig, draws: Draws | None = None, linear: LinearMap = ()
) -> Measured | None:
    """The measured keypoints of pairs; None where the configuration detects them.

    Args:
        source: as the network sees them: landmarks went along with all that was done to the pictures.
        driving: likewise.
        config: which points, with how much noise, in which share of pairs.
        draws: of the step; None: without noise, in all pairs that have landmarks, the jacobians as they are.
        linear: the run's map from places to jacobians, for the share of pairs that take it.
    """
    if config.keypoints == "detected":
        return None
    columns = tuple(TRAINING_POINTS.index(point) for point in config.keypoint_points)
    chosen = columns_on(columns, source.landmarks.device)
    of_source, of_driving = source.landmarks[:, chosen], driving.landmarks[:, chosen]
    used = source.valid & driving.valid
    moved = torch.zeros_like(used)
    if draws is not None:
        jitter = config.keypoint_jitter_px * 2 / (_JITTER_SIDE_PX - 1)
        of_source = of_source + jitter * draws.normal("measured source", len(columns), 2)
        of_driving = of_driving + jitter * draws.normal("measured driving", len(columns), 2)
        used = used & ~draws.chance("detected", config.detected_share)
        if linear:
            moved = draws.chance("linear jacobians", config.linear_share)
    return Measured(of_source, of_driving, used, config.keypoint_points, config.keypoint_jacobians, linear, moved)
