"""One frame with everything that the plain network computes on its way."""

from typing import NamedTuple

import torch
from torch import Tensor

from mcnet.arrays import Keypoints, SourceCache
from mcnet.config import MOTION_SIZE_PX
from mcnet.generator import Inspection, Mcnet
from mcnet.geometry import coordinate_grid
from mcnet.memory import attention


class Seen(NamedTuple):
    """A frame and its inside, batch 1.

    Attributes:
        cache: the source.
        driving: the keypoints that it takes.
        frame: what `Generator.inspect` gave.
        sparse: (K + 1, 64, 64, 2), each motion for itself; 0 is the background's.
        candidates: (K + 1, 3, 64, 64) RGB in [0, 1], the small source as each motion shows it.
        bank: (C, size, size), the meta memory; None for a network without memory.
    """

    cache: SourceCache
    driving: Keypoints
    frame: Inspection
    sparse: Tensor
    candidates: Tensor
    bank: Tensor | None

    @property
    def motion(self) -> Tensor:
        """(64, 64, 2) xy: how far what is shown at each place came, in coordinates from -1 to 1."""
        deformation = self.frame.motion.deformation[0]
        return coordinate_grid(MOTION_SIZE_PX, MOTION_SIZE_PX, deformation) - deformation

    @property
    def levels_px(self) -> tuple[int, ...]:
        """Sides of the compensated maps, lowest first."""
        return tuple(sorted(self.frame.compensations))

    def before(self, size_px: int) -> Tensor:
        """(C, size_px, size_px): the warped feature that is compensated."""
        return next(feature for feature in self.frame.warped.features if feature.shape[-1] == size_px)[0]

    def after(self, size_px: int) -> Tensor:
        """(C, size_px, size_px): the compensated feature."""
        return self.frame.compensations[size_px].compensated[0]

    def memory(self, size_px: int) -> Tensor:
        """(C, size, size): the conditioned memory that a level looks things up in."""
        return self.frame.compensations[size_px].memory[0]

    def attention(self, size_px: int, point: tuple[float, float]) -> Tensor:
        """How much of each position of the memory one place of a level takes.

        Args:
            size_px: the level.
            point: x and y as shares of the picture, 0 to 1.

        Returns:
            (size, size), sums to 1.
        """
        compensation = self.frame.compensations[size_px]
        column, row = (min(int(share * size_px), size_px - 1) for share in point)
        asked = compensation.query[:, :, row : row + 1, column : column + 1]
        return attention(asked, compensation.key)[0, 0].reshape(compensation.key.shape[2:])

    def askers(self, size_px: int, position: int) -> Tensor:
        """(size_px, size_px) in [0, 1]: the share of a position of the memory in what each place of a level takes."""
        compensation = self.frame.compensations[size_px]
        return attention(compensation.query, compensation.key)[0, :, position].reshape(size_px, size_px)


@torch.inference_mode()
def see(model: Mcnet, cache: SourceCache, driving: Keypoints) -> Seen:
    """Compute a frame by the plain network and keep everything.

    Args:
        model: in evaluation mode, in float32.
        cache: of the source, by the same model.
        driving: batch 1.
    """
    generator = model.generator
    sparse, seen = generator.dense_motion.sparse(cache.small, cache.heatmaps, cache.keypoints, driving)
    motions = sparse.shape[1]
    candidates = seen.reshape(motions, 4, MOTION_SIZE_PX, MOTION_SIZE_PX)[:, 1:]
    bank = None if generator.memory is None else generator.memory.bank.detach()[0]
    return Seen(cache, driving, generator.inspect(cache, driving), sparse[0], candidates, bank)
