"""Random smooth warps: an affine map plus a thin-plate bend, as of FOMM's equivariance loss.

With the affine part (A, t), `d_i` the L1 distance of z to control point i and one weight `c_i` for x and y:
T(z) = A z + t + sum_i c_i d_i^2 log(d_i + 1e-6).
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcnet.geometry import coordinate_grid
from mcnet.pose import invert_2x2

CONTROL_SIDE = 5
"""The bend's control points are the corner-aligned grid of so many by so many points, y outer, x inner."""
_EPS = 1e-6


class Warp(NamedTuple):
    """T(z) = theta[:, :2] z + theta[:, 2] + sum_i c_i d_i^2 log(d_i + 1e-6), d_i the L1 distance to control point i.

    Attributes:
        theta: (B, 2, 3).
        control: (B, 1, 25): one bend that is added to x and to y (as the reference has it); (B, 2, 25): one for each.
    """

    theta: Tensor
    control: Tensor

    def points(self, z: Tensor) -> Tensor:
        """T of (B, N, 2) xy."""
        return self._affine(z) + self._bend(_basis(z))

    def grid(self, size_px: int) -> Tensor:
        """T of the corner-aligned identity grid, (B, size_px, size_px, 2)."""
        # The identity grid is the same for all: all pictures take one product with what is known of it.
        known = _identity_terms(size_px, self.theta.dtype, self.theta.device)
        factors = torch.cat((self.theta, self.control.expand(-1, 2, -1)), dim=-1)  # (B, 2, 3 + 25)
        places = (factors.flatten(0, 1) @ known).view(-1, 2, size_px, size_px)
        return places.permute(0, 2, 3, 1).contiguous()

    def jacobian(self, z: Tensor) -> Tensor:
        """dT/dz at (B, N, 2) places, (B, N, 2, 2); differentiable in z."""
        offset, distance = _distances(z)
        slope = 2 * distance * torch.log(distance + _EPS) + distance.square() / (distance + _EPS)  # (B, N, 25)
        slopes = torch.sign(offset) * slope[..., None]  # d basis / dz, (B, N, 25, 2)
        bend = torch.einsum("bci,bnix->bncx", self.control, slopes)
        return self.theta[:, None, :, :2] + bend.expand(-1, -1, 2, -1)

    def inverse(self, targets: Tensor, iterations: int = 15) -> Tensor:
        """The (B, N, 2) places z with T(z) = targets, by fixed-point iteration; for mild bends only."""
        affine = invert_2x2(self.theta[:, :, :2])
        z = targets
        for _ in range(iterations):
            z = (targets - self.theta[:, None, :, 2] - self._bend(_basis(z))) @ affine.transpose(1, 2)
        return z

    def pictures(self, pictures: Tensor) -> Tensor:
        """Pictures (B, C, S, S) that show at z what the given ones show at T(z); reflected beyond the border.

        The grid is corner-aligned but sampled as if it were not (align_corners=False), as in the released training.
        """
        return F.grid_sample(
            pictures, self.grid(pictures.shape[-1]), mode="bilinear", padding_mode="reflection", align_corners=False
        )

    def landmarks(self, landmarks: Tensor, size_px: int) -> Tensor:
        """Where (B, N, 2) places of a picture of that side lie in what `pictures` makes of it, its quirk included."""
        return self.inverse(landmarks * ((size_px - 1) / size_px))

    def _affine(self, z: Tensor) -> Tensor:
        return z @ self.theta[:, :, :2].transpose(1, 2) + self.theta[:, None, :, 2]

    def _bend(self, basis: Tensor) -> Tensor:
        return basis @ self.control.transpose(1, 2)  # (B, N, 1 or 2)


def random_warp(affine: Tensor, bend: Tensor) -> Warp:
    """A warp near the identity from (B, 2, 3) and (B, 1 or 2, 25) normal deviates, already scaled."""
    return Warp(torch.eye(2, 3, dtype=affine.dtype, device=affine.device) + affine, bend)


def _distances(z: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets (..., 25, 2) and L1 distances (..., 25) of (..., 2) places to the control points."""
    offset = z[..., None, :] - coordinate_grid(CONTROL_SIDE, CONTROL_SIDE, z).flatten(0, 1)
    return offset, offset.abs().sum(-1)


def _basis(z: Tensor) -> Tensor:
    _, distance = _distances(z)
    return distance.square() * torch.log(distance + _EPS)


@functools.lru_cache(maxsize=8)
def _identity_terms(size_px: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(3 + 25, size_px^2): x, y, 1 and the basis of every place of the corner-aligned identity grid."""
    with torch.inference_mode(mode=False):  # it outlives the call, and is later used where gradients are taken
        identity = coordinate_grid(size_px, size_px, torch.empty(0, dtype=dtype, device=device)).flatten(0, 1)
        return torch.cat((identity, torch.ones_like(identity[:, :1]), _basis(identity)), dim=1).T.contiguous()
