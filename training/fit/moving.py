"""Sources made of other pictures: a face moved in space, the picture warped along.

A still shows one pose and one expression, and clips show few. So the source of some pairs is not the frame as it was
filmed: its mesh is turned, shifted and given the change of expression between two frames of another clip, and a
thin-plate spline through the mesh's points takes the picture along. The driving frame stays as it was filmed, so that
what the network has to paint is always a real picture.
"""

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mcnet.geometry import coordinate_grid
from training.draws import Draws
from training.fit.augment import Faces, put_rows, rows_to_change
from training.fit.config import AugmentConfig
from training.fit.heads import Heads, HeadStore
from training.fit.sampler import PairPlan, PairSampler
from training.fit.stores import columns_on
from training.landmarks import TRAINING_POINTS

_OUTLINE = tuple(
    TRAINING_POINTS.index(point)
    for point in (
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    )
)
_HAIR = (1.42, 1.42, 0.55)
"""What the face's outline is stretched by about its middle, to stand for hair and ears, which move with the head."""
_BORDER = 1.12
"""Where the points lie that stay: a little beyond the picture's border."""
_BORDER_POINTS = 7
"""Of them along each side."""
_SMOOTHING = 2e-3
"""How far the spline may miss its points: two points that move towards one place would else fold the picture."""
_SPLINE_PX = 64
"""Side of the grid on which the spline is evaluated; between, the deformation is smooth enough to interpolate."""
_TOWARDS_PROFILE = 0.6
"""Factor on a turn that takes a head further from the front: what comes into sight there was never filmed."""
_PROFILE = 0.5
"""Sine of the turn from which a head is not moved: of its far side too little was filmed, and the spline folds."""
_FARTHEST_DEVIATIONS = 2.0
"""Where normal numbers that move a head are cut off."""
_LARGEST_CHANGE = 0.35
"""In face sizes: a change of expression that moves a point further was measured wrongly, and is not borrowed."""


class Mover:
    """Moves the sources of some pairs.

    Args:
        heads: of all frames.
        sampler: draws whose change of expression is borrowed.
    """

    def __init__(self, heads: HeadStore, sampler: PairSampler) -> None:
        self._heads = heads
        self._sampler = sampler

    def __call__(self, source: Faces, plan: PairPlan, config: AugmentConfig) -> tuple[Faces, Tensor]:
        """Sources with some of them moved, and (B,) bool, which; the same for the same plan.

        Args:
            source: B faces as filmed.
            plan: of their pairs, on the same device.
            config: how many are moved, and how far.
        """
        draws = plan.draws
        heads, likely = self._heads.read(plan.source)
        share = torch.where(plan.still, config.moved_stills, config.moved_clips)
        chosen = (draws.uniform("moved") < share) & likely & (heads.rotation[:, 2, 0].abs() < _PROFILE)
        rows = rows_to_change(chosen)
        if not len(rows):
            return source, chosen
        (one, one_likely), (other, other_likely) = (self._heads.read(each) for each in self._sampler.borrowed(plan))
        change = (other.shape - one.shape) * (one_likely & other_likely)[:, None, None]
        moved = moved_heads(heads, change, draws, config)
        pictures, landmarks = move(source.pictures[rows], heads.rows(rows), moved.rows(rows))
        pictures = put_rows(source.pictures, rows, chosen, pictures)
        return Faces(pictures, put_rows(source.landmarks, rows, chosen, landmarks), source.valid), chosen


def moved_heads(heads: Heads, change: Tensor, draws: Draws, config: AugmentConfig) -> Heads:
    """Heads in another pose, with another expression; their random numbers are the draws' own.

    Args:
        heads: as filmed, as many as the draws count.
        change: (n, P, 3) change of expression in the head's frame, to be taken over by a random share.
        draws: of the step.
        config: how far they move.
    """

    def normal(name: str, deviation: float, *shape: int) -> Tensor:
        drawn = draws.normal(f"moved {name}", *shape).view(draws.count, *shape)
        return deviation * drawn.clamp(-_FARTHEST_DEVIATIONS, _FARTHEST_DEVIATIONS)

    turn = normal("turn", math.radians(config.moved_turn_deg))
    nod = normal("nod", math.radians(config.moved_nod_deg))
    tilt = normal("tilt", math.radians(config.moved_tilt_deg))
    away = -heads.rotation[:, 2, 0] * turn > 0  # -rotation[2, 0] is the sine of the head's own turn
    turn = torch.where(away, _TOWARDS_PROFILE * turn, turn)
    gain = draws.between("moved expression", 0.0, config.moved_expression)
    likely = change.square().sum(-1).amax(1).sqrt() < _LARGEST_CHANGE
    shape = heads.shape + change * (gain * likely)[:, None, None]
    shift = F.pad(normal("shift", config.moved_shift, 2), (0, 1))
    scale = heads.scale * normal("scale", math.log1p(config.moved_scale)).exp()
    return Heads(shape, rotation_of(turn, nod, tilt) @ heads.rotation, scale, heads.shift + shift)


def rotation_of(turn: Tensor, nod: Tensor, tilt: Tensor) -> Tensor:
    """(n, 3, 3) rotations by (n,) angles in radians: tilt after turn after nod, with the signs of
    `mcnet.media.expressions.head_turn`.
    """
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)

    def matrix(*values: Tensor) -> Tensor:
        return torch.stack(values, -1).view(-1, 3, 3)

    tilted = matrix(tilt.cos(), -tilt.sin(), zero, tilt.sin(), tilt.cos(), zero, zero, zero, one)
    turned = matrix(turn.cos(), zero, turn.sin(), zero, one, zero, -turn.sin(), zero, turn.cos())
    nodded = matrix(one, zero, zero, zero, nod.cos(), -nod.sin(), zero, nod.sin(), nod.cos())
    return tilted @ turned @ nodded


def move(pictures: Tensor, heads: Heads, moved: Heads) -> tuple[Tensor, Tensor]:
    """Show the faces of pictures as if their heads were others.

    Args:
        pictures: (n, 3, S, S) RGB in [0, 1].
        heads: in them.
        moved: where they are to be.

    Returns:
        (n, 3, S, S) pictures, mirrored where they show what is beyond the border; and (n, P, 2) where they show the
        landmarks, which the spline's smoothing keeps from lying exactly where they were to be.
    """
    hair = _with_hair(heads.shape)
    stay = _border(pictures.device).expand(len(pictures), -1, -1)
    before = torch.cat((heads.mesh[..., :2], heads.placed(hair)[..., :2], stay), 1)
    after = torch.cat((moved.mesh[..., :2], moved.placed(hair)[..., :2], stay), 1)
    spline = ThinPlate.through(after, before)
    size_px = pictures.shape[-1]
    coarse = spline(coordinate_grid(_SPLINE_PX, _SPLINE_PX, pictures).flatten(0, 1).expand(len(pictures), -1, -1))
    coarse = coarse.view(-1, _SPLINE_PX, _SPLINE_PX, 2).permute(0, 3, 1, 2)
    grid = F.interpolate(coarse, size=(size_px, size_px), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    # Bicubic, as every picture that is warped before the network sees it.
    warped = F.grid_sample(pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=True)
    count = heads.shape.shape[1]
    return warped.clamp_(0, 1), spline.inverse(before[:, :count], near=after[:, :count])


class ThinPlate(NamedTuple):
    """A smoothing thin-plate spline from the plane to itself: z -> z + K(z, centres) weights.

    K is the kernel r^2 log r^2, made positive definite by its values at three fixed places (Wahba, Spline Models for
    Observational Data, 1990), so that the spline is found by Cholesky's method, which a GPU does without the host.

    Attributes:
        centres: (n, N, 2) the places that are led somewhere.
        weights: (n, N, 2) of x and y.
    """

    centres: Tensor
    weights: Tensor

    @classmethod
    def through(cls, places: Tensor, values: Tensor) -> "ThinPlate":
        """The spline that takes (n, N, 2) places near (n, N, 2) values; what is smooth lies nearer."""
        each = torch.eye(places.shape[1], device=places.device)
        kernel = _kernel_times(places, places, each.expand(len(places), -1, -1)) + _SMOOTHING * each
        lower, _ = torch.linalg.cholesky_ex(kernel)
        half = torch.linalg.solve_triangular(lower, values - places, upper=False)
        return cls(places, torch.linalg.solve_triangular(lower.transpose(1, 2), half, upper=True))

    def __call__(self, places: Tensor) -> Tensor:
        """Where (n, M, 2) places are taken."""
        return places + _kernel_times(places, self.centres, self.weights)

    def inverse(self, values: Tensor, near: Tensor, iterations: int = 6) -> Tensor:
        """(n, M, 2) places that are taken to values, sought from others by fixed-point steps.

        Where the spline folds there are several such places or none; then it is the best that was seen.
        """
        best, least = near, (self(near) - values).square().sum(-1, keepdim=True)
        place = near
        for _ in range(iterations):
            place = place - (self(place) - values)
            miss = (self(place) - values).square().sum(-1, keepdim=True)
            best, least = torch.where(miss < least, place, best), torch.minimum(miss, least)
        return best


_FIXED = ((-1.0, -1.0), (1.0, -1.0), (0.0, 1.0))
"""Three places that lie on no line: an affine map is told by its values there."""


def _kernel_times(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """The kernel between (n, N, 2) and (n, M, 2) places, times (n, M, c) weights: (n, N, c)."""
    fixed = _fixed(one.device).expand(len(one), -1, -1)
    pulled = _affine_basis(other).transpose(1, 2) @ weights
    at_fixed = _plate(fixed, fixed) @ pulled + pulled - _plate(fixed, other) @ weights
    return _plate(one, other) @ weights - _plate(one, fixed) @ pulled + _affine_basis(one) @ at_fixed


def _plate(one: Tensor, other: Tensor) -> Tensor:
    """r^2 log r^2 of all distances, 0 at none."""
    across, down = ((one[..., axis, None] - other[..., None, :, axis]).square_() for axis in (0, 1))
    squared = across.add_(down)
    return torch.log(squared + 1e-9).mul_(squared)


def _affine_basis(places: Tensor) -> Tensor:
    """(n, N, 3): the affine functions that are 1 at one of the fixed places and 0 at the others."""
    x, y = places.unbind(-1)
    return torch.stack(((1 - y - 2 * x) / 4, (1 - y + 2 * x) / 4, (1 + y) / 2), -1)


@functools.lru_cache(maxsize=8)
def _fixed(device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # it outlives the call
        return torch.tensor(_FIXED, device=device)


@functools.lru_cache(maxsize=8)
def _border(device: torch.device) -> Tensor:
    """Places around the picture that stay."""
    last = _BORDER_POINTS - 1
    steps = range(_BORDER_POINTS)
    ring = [(x, y) for x in steps for y in steps if {x, y} & {0, last}]
    with torch.inference_mode(mode=False):  # it outlives the call
        return _BORDER * (torch.tensor(ring, device=device) * (2 / last) - 1)


def _with_hair(shape: Tensor) -> Tensor:
    """(n, P, 3) shapes -> (n, 36, 3): the outline of hair and ears around them."""
    outline = shape[:, columns_on(_OUTLINE, shape.device)]
    middle = outline.mean(1, keepdim=True)
    return (outline - middle) * torch.stack([torch.full_like(middle[..., 0], part) for part in _HAIR], -1) + middle
