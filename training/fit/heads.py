"""Heads in space: what is pose and what is shape in the landmarks of every frame.

Each frame's mesh is brought into the common head's frame by a similarity on 20 rigid points, as
`mcnet.media.head_motion` does it for one face at a time. There two faces can be compared: what differs between two
frames of one person is a change of expression, whatever the pose, and another person's face can borrow it.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mcnet.mean_head import RIGID_POINTS, RIGID_SHAPE
from training.data import Dataset
from training.fit.stores import columns_on, to_coordinates, training_points
from training.landmarks import TRAINING_POINTS

_RIGID = tuple(TRAINING_POINTS.index(point) for point in RIGID_POINTS)
_ODDEST = 0.2
"""Root mean square distance of the rigid points from a mean head's, in face sizes. Real faces, with hands before them
or in profile, have 0.12 at most (`mcnet.media.head_motion`)."""
_AT_ONCE = 4096


class Heads(NamedTuple):
    """Faces in space, of which mesh = shape @ rotation^T * scale + shift.

    Attributes:
        shape: (n, P, 3) TRAINING_POINTS in the head's frame: the origin at the mean of the rigid points, their root
            mean square distance from it 1 (a face size), x to the picture's right, y downwards, z away from the camera
            when it is looked into.
        rotation: (n, 3, 3) from the head's frame to the picture's axes.
        scale: (n,) the face size in the picture's coordinates ([-1, 1]).
        shift: (n, 3) the mean of the rigid points in the picture's coordinates.
    """

    shape: Tensor
    rotation: Tensor
    scale: Tensor
    shift: Tensor

    @property
    def mesh(self) -> Tensor:
        """(n, P, 3) in the picture's coordinates."""
        return self.placed(self.shape)

    def placed(self, shape: Tensor) -> Tensor:
        """Other (n, N, 3) points of the head's frame, in the picture's coordinates."""
        return shape @ self.rotation.transpose(1, 2) * self.scale[:, None, None] + self.shift[:, None]

    def rows(self, chosen: Tensor) -> "Heads":
        """Some of them."""
        return Heads(*(part[chosen] for part in self))


def heads_of(mesh: Tensor) -> Heads:
    """Tell pose and shape of (n, P, 3) meshes of TRAINING_POINTS apart, by Procrustes analysis of the rigid points."""
    # In double precision: three of the products that tell the rotation nearly cancel.
    mesh = mesh.double()
    mean_head = torch.from_numpy(RIGID_SHAPE).to(mesh)
    mean_head = mean_head - mean_head.mean(0)
    rigid = mesh[:, columns_on(_RIGID, mesh.device)]
    shift = rigid.mean(1)
    centred = rigid - shift[:, None]
    left, _, right = torch.linalg.svd(centred.transpose(1, 2) @ mean_head)
    handed = torch.ones_like(left[:, 0])
    handed[:, 2] = torch.sign(torch.linalg.det(left @ right))  # a turn, and no mirror image
    rotation = (left * handed[:, None]) @ right
    scale = (centred.square().sum((1, 2)) / mean_head.square().sum()).sqrt().clamp(min=1e-6)
    shape = (mesh - shift[:, None]) @ rotation / scale[:, None, None]
    return Heads(shape.float(), rotation.float(), scale.float(), shift.float())


class HeadStore:
    """Heads by row, on the training device.

    Args:
        dataset: where their landmarks come from.
        device: where they are needed.

    Raises:
        DataError: the dataset has landmarks in the picture's plane only.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        kept = dataset.landmarks
        places = training_points(kept.points, kept.in_space)
        usable = torch.from_numpy(kept.valid & np.isfinite(places).all((1, 2)))
        shares = torch.from_numpy(np.where(usable.numpy()[:, None, None], places, 0))
        plane = to_coordinates(shares[..., :2], dataset.size_px)
        depth = shares[..., 2:] * (2 * dataset.size_px / (dataset.size_px - 1))
        meshes = torch.cat((plane, depth), -1)
        parts = [heads_of(meshes[first : first + _AT_ONCE]) for first in range(0, len(meshes), _AT_ONCE)]
        heads = Heads(*(torch.cat(part) for part in zip(*parts, strict=True)))
        mean_head = torch.from_numpy(RIGID_SHAPE).float()
        oddity = (heads.shape[:, list(_RIGID)] - mean_head).square().sum(-1).mean(1).sqrt()
        self._heads = Heads(*(part.to(device) for part in heads))
        self._likely = (usable & (oddity < _ODDEST)).to(device)

    def read(self, rows: Tensor) -> tuple[Heads, Tensor]:
        """(n,) int64 rows on the device -> their heads, and (n,) bool, whether each can be a face."""
        return self._heads.rows(rows), self._likely[rows]
