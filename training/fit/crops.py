"""Enlarged crops of mouth and eyes, cut by landmarks where the pictures lie: the few pixels that make an expression."""

from typing import NamedTuple

import torch
from torch import Tensor

from mcnet.geometry import sample
from mcnet.mesh_points import LEFT_EYE_RING, RIGHT_EYE_RING
from mcnet.pose import invert_2x2
from training.fit.stores import columns_on
from training.landmarks import MOUTH_POINTS, TRAINING_POINTS

_LEAST_HALF = 0.05
"""Coordinate units, 6 pixels of 256: half the side of the smallest crop, also of a face that was not found."""


class _Region(NamedTuple):
    """Columns of a ring, those of the corners between which it lies level, and how many times its extent is cut out."""

    ring: tuple[int, ...]
    right: int
    left: int
    margin: float


def _region(ring: tuple[int, ...], right: int, left: int, margin: float) -> _Region:
    column = TRAINING_POINTS.index
    return _Region(tuple(map(column, ring)), column(right), column(left), margin)


REGIONS = (
    _region(MOUTH_POINTS, 61, 291, 1.6),
    # Eyes are wide and low: the square about one has brow and cheek in it, which say how far the lids are.
    _region(LEFT_EYE_RING, 362, 263, 2.2),
    _region(RIGHT_EYE_RING, 33, 133, 2.2),
)
"""Mouth, left eye, right eye."""


class Squares(NamedTuple):
    """Where the crops of B faces lie: squares with the line of the corners level, 3 per face in the order of `REGIONS`.

    A place p of the crop, in its coordinates from -1 to 1, lies at axes @ p + centre in the picture's coordinates.

    Attributes:
        centre: (B, 3, 2) in the picture's coordinates.
        axes: (B, 3, 2, 2), whose columns lead from the centre to the right and to the lower side.
        valid: (B,) bool, whether a face was found there.
    """

    centre: Tensor
    axes: Tensor
    valid: Tensor

    @property
    def weights(self) -> Tensor:
        """(3 B, 1, 1, 1) of the crops: 1, or 0 where no face was found.

        Terms are means over all crops, so that a face weighs the same in any batch, on any number of processes.
        """
        return self.valid.float().repeat_interleave(len(REGIONS)).view(-1, 1, 1, 1)

    def pictures(self, pictures: Tensor, size_px: int) -> Tensor:
        """The crops of (B, C, S, S) pictures, (3 B, C, size_px, size_px), bilinear; what lies beyond the border is the
        border's.
        """
        batch, channels = pictures.shape[:2]
        line = torch.linspace(-1, 1, size_px, dtype=pictures.dtype, device=pictures.device)
        right, down = (self.axes[:, :, None, None, :, axis] for axis in (0, 1))
        offset = right * line[:, None] + down * line[:, None, None]
        places = self.centre[:, :, None, None] + offset  # (B, 3, size_px, size_px, 2)
        # All crops of a picture are one tall grid.
        crops = sample(pictures, places.flatten(1, 2), "replicate")
        crops = crops.view(batch, channels, len(REGIONS), size_px, size_px)
        return crops.transpose(1, 2).reshape(-1, channels, size_px, size_px)

    def points(self, points: Tensor) -> Tensor:
        """(B, K, 2) places in the picture's coordinates -> (3 B, K, 2) in those of the crops."""
        offset = points[:, None] - self.centre[:, :, None]  # (B, 3, K, 2)
        return (offset @ invert_2x2(self.axes).transpose(-1, -2)).flatten(0, 1)


def face_squares(landmarks: Tensor, valid: Tensor) -> Squares:
    """The squares about mouth and eyes.

    Args:
        landmarks: (B, P, 2) xy of TRAINING_POINTS.
        valid: (B,) bool, whether they can be trusted.
    """
    centres, axes = [], []
    # Where no face was found landmarks are all the same place: any square will do, but it must be one.
    level = torch.zeros_like(landmarks[:, 0])
    level[:, 0].fill_(1)  # a number that is assigned would be copied there
    for region in REGIONS:
        ring = landmarks[:, columns_on(region.ring, landmarks.device)]
        along = landmarks[:, region.left] - landmarks[:, region.right]
        length = along.square().sum(-1, keepdim=True).sqrt()
        along = torch.where(length > 1e-6, along / length.clamp(min=1e-6), level)
        turned = torch.stack((along, torch.stack((-along[:, 1], along[:, 0]), -1)), -1)  # (B, 2, 2): columns
        placed = ring @ turned  # along and across
        low, high = placed.amin(1), placed.amax(1)
        half = (region.margin / 2 * (high - low).amax(1)).clamp(min=_LEAST_HALF)
        centres.append((turned @ ((low + high) / 2)[..., None])[..., 0])
        axes.append(turned * half[:, None, None])
    return Squares(torch.stack(centres, 1), torch.stack(axes, 1), valid)
