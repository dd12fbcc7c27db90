"""Random changes of pairs, batched on the training device; landmarks move along."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.draws import Draws
from training.fit.config import AugmentConfig
from training.fit.sampler import PairPlan
from training.fit.stores import columns_on
from training.fit.warps import Warp, random_warp
from training.landmarks import MIRROR, TRAINING_POINTS

_GREY = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_MIRRORED = tuple(TRAINING_POINTS.index(MIRROR[point]) for point in TRAINING_POINTS)


class Faces(NamedTuple):
    """Pictures with their landmarks.

    Attributes:
        pictures: (n, 3, S, S) float32 RGB in [0, 1].
        landmarks: (n, P, 2) xy in [-1, 1] of TRAINING_POINTS; beyond where they left the picture.
        valid: (n,) bool, whether the landmarks can be trusted.
    """

    pictures: Tensor
    landmarks: Tensor
    valid: Tensor


def augment(
    source: Faces, driving: Faces, plan: PairPlan, config: AugmentConfig, in_space: Tensor | None = None
) -> tuple[Faces, Faces]:
    """Change both pictures of each pair at random.

    In this order: each picture of some pairs gets a similarity transform of its own, and stills a bend besides (so that
    one picture makes two); flip; colours; time flip. For pairs drawn uniformly from a clip the time flip changes
    nothing; it is there because the reference has it.

    Args:
        source: B faces.
        driving: B faces.
        plan: of the same B pairs.
        config: how much of it.
        in_space: (B,) bool, whose source was made by moving a face in space (`training.fit.moving`). Such a still is
            two pictures already and is not bent, and such a source is never swapped: what has to be painted is real.
    """
    draws, batch = plan.draws, len(plan.source)
    both = Faces(*(torch.cat(parts) for parts in zip(source, driving, strict=True)))
    bent = plan.still if in_space is None else plan.still & ~in_space
    moved = bent | draws.chance("similarity", config.similarity_share)
    both = _warp(both, moved.repeat(2), _warps(draws, bent, config))
    if config.flip:
        both = _flip(both, draws.chance("flip", 0.5).repeat(2))
    if config.jitter or config.hue:
        both = both._replace(pictures=_jitter(both.pictures, draws, config.jitter, config.hue))
    if config.time_flip:
        swap = draws.chance("time flip", 0.5)
        swap = (swap if in_space is None else swap & ~in_space).repeat(2)
        both = Faces(*(torch.where(swap.view(-1, *(1,) * (x.dim() - 1)), x.roll(batch, 0), x) for x in both))
    return Faces(*(x[:batch] for x in both)), Faces(*(x[batch:] for x in both))


def _warps(draws: Draws, still: Tensor, config: AugmentConfig) -> Warp:
    """One warp per picture, sources first: a similarity, and for stills an affine deviation and a bend."""
    thetas, bends = [], []
    turn, reach = math.radians(config.rotation_deg), math.log1p(config.scale)
    for role in ("source", "driving"):
        angle = draws.between(f"{role} rotation", -turn, turn)
        factor = draws.between(f"{role} scale", -reach, reach).exp()
        shift = draws.between(f"{role} shift", -config.shift, config.shift, 2)
        cos, sin = factor * angle.cos(), factor * angle.sin()
        theta = torch.stack((torch.stack((cos, -sin, shift[:, 0]), -1), torch.stack((sin, cos, shift[:, 1]), -1)), 1)
        thetas.append(theta + still[:, None, None] * config.still_affine * draws.normal(f"{role} affine", 2, 3))
        bends.append(still[:, None, None] * config.still_bend * draws.normal(f"{role} bend", 2, 25))
    return Warp(torch.cat(thetas), torch.cat(bends))


def rows_to_change(chosen: Tensor) -> Tensor:
    """(n,) bool -> the rows to compute: on a CPU those that are chosen, and on a GPU all of them, since the host would
    have to wait for their number.
    """
    return torch.arange(len(chosen), device=chosen.device) if chosen.is_cuda else chosen.nonzero()[:, 0]


def _warp(faces: Faces, moved: Tensor, warps: Warp) -> Faces:
    """Warp the faces that are chosen and leave the others as they are, bit for bit."""
    chosen = rows_to_change(moved)
    if not len(chosen):
        return faces
    warps = Warp(warps.theta[chosen], warps.control[chosen])
    # Bicubic, so that what the network learns to paint is not softer than what it will be given.
    bent = F.grid_sample(
        faces.pictures[chosen],
        warps.grid(faces.pictures.shape[-1]),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    pictures = put_rows(faces.pictures, chosen, moved, bent.clamp_(0, 1))
    return Faces(
        pictures, put_rows(faces.landmarks, chosen, moved, warps.inverse(faces.landmarks[chosen])), faces.valid
    )


def put_rows(whole: Tensor, chosen: Tensor, moved: Tensor, new: Tensor) -> Tensor:
    """The new values of rows that are moved, and the old ones of the others.

    Args:
        whole: (n, ...) old values.
        chosen: what `rows_to_change` gave for `moved`.
        moved: (n,) bool.
        new: (len(chosen), ...) values.
    """
    if len(chosen) == len(moved):
        return torch.where(moved.view(-1, *(1,) * (whole.dim() - 1)), new, whole)
    return whole.index_copy(0, chosen, new)


def _flip(faces: Faces, flipped: Tensor) -> Faces:
    """Mirror the chosen faces; a landmark's counterpart takes its place."""
    pictures = torch.where(flipped[:, None, None, None], faces.pictures.flip(-1), faces.pictures)
    mirrored = faces.landmarks[:, columns_on(_MIRRORED, faces.landmarks.device)]
    mirrored = torch.stack((-mirrored[..., 0], mirrored[..., 1]), -1)
    return Faces(pictures, torch.where(flipped[:, None, None], mirrored, faces.landmarks), faces.valid)


def _jitter(pictures: Tensor, draws: Draws, amount: float, hue: float) -> Tensor:
    """Brightness, contrast, saturation and hue, the same for both pictures of a pair.

    All four are linear in the colours, so each picture takes one 3x3 matrix and one offset. The hue turns in YIQ, where
    that is a rotation, and not in HSV.
    """
    brightness, contrast, saturation = (
        draws.between(name, max(0.0, 1 - amount), 1 + amount) for name in ("brightness", "contrast", "saturation")
    )
    angle = draws.between("hue", -2 * math.pi * hue, 2 * math.pi * hue)
    grey, bases = _colour_bases(pictures.device)
    # A turn of the hue is a constant matrix, one times the angle's cosine, and one times its sine.
    turn = bases[0] + angle.cos()[:, None, None] * bases[1] + angle.sin()[:, None, None] * bases[2]
    saturated = turn * saturation[:, None, None] + (1 - saturation)[:, None, None] * (turn @ grey.expand(3, 3))
    matrices = (saturated * (brightness * contrast)[:, None, None]).repeat(2, 1, 1)
    lost = (brightness * (1 - contrast)).repeat(2)
    mean_grey = (pictures.mean((2, 3)) * grey).sum(1)  # contrast turns about it
    offset = (lost * mean_grey)[:, None, None]
    changed = torch.baddbmm(offset, matrices, pictures.flatten(2))
    return changed.clamp_(0, 1).view_as(pictures)


@functools.lru_cache(maxsize=8)
def _colour_bases(device: torch.device) -> tuple[Tensor, Tensor]:
    """(3,) the grey of RGB, and (3, 3, 3): what a turn of the hue keeps, and what its cosine and its sine weigh."""
    yiq = np.array(_YIQ)
    parts = [np.linalg.inv(yiq) @ np.array(part) @ yiq for part in _HUE_PARTS]
    with torch.inference_mode(mode=False):  # it outlives the call
        return torch.tensor(_GREY, device=device), torch.tensor(np.stack(parts), dtype=torch.float32, device=device)


_HUE_PARTS = (
    ((1, 0, 0), (0, 0, 0), (0, 0, 0)),
    ((0, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 0), (0, 0, -1), (0, 1, 0)),
)
"""Of a rotation of the plane of I and Q."""


def disturb(pictures: Tensor, draws: Draws, share: float) -> Tensor:
    """What a webcam does to pictures, for some of them: exposure, tint, slanted light, blur and noise.

    Args:
        pictures: (n, 3, S, S) RGB in [0, 1]; n is a multiple of the draws' count, and each multiple gets its own.
        draws: of the step.
        share: of the pictures.
    """
    parts = len(pictures) // draws.count

    def between(name: str, low: float, high: float, *shape: int) -> Tensor:
        numbers = torch.cat([draws.between(f"disturb {name} {part}", low, high, *shape) for part in range(parts)])
        return numbers.view(len(pictures), -1, *(1,) * (pictures.dim() - 2))

    size_px = pictures.shape[-1]
    gamma = torch.exp(between("gamma", -0.6, 0.6))
    tint = between("tint", 0.8, 1.2, 3)
    slope = between("slope", -0.5, 0.5, 2)
    across = torch.linspace(-1, 1, size_px, device=pictures.device)
    light = (1 + slope[:, :1] * across) * (1 + slope[:, 1:] * across[:, None])
    changed = pictures.clamp(1e-3, 1).pow(gamma) * tint * light
    soft = F.avg_pool2d(changed, 3, 1, 1, count_include_pad=False)
    changed = torch.lerp(changed, soft, between("blur", -0.6, 1.0).clamp(min=0))
    noise = torch.cat([draws.normal(f"disturb noise {part}", 3, size_px, size_px) for part in range(parts)])
    changed = changed + between("noise level", 0, 0.04) * noise
    return torch.where(between("chosen", 0, 1) < share, changed.clamp(0, 1), pictures)


def equivariance_warp(draws: Draws, affine: float, bend: float) -> Warp:
    """The warp T under which keypoints shall be equivariant: p(x) = T(p(T(x))) for a frame x."""
    return random_warp(
        affine * draws.normal("equivariance affine", 2, 3), bend * draws.normal("equivariance bend", 1, 25)
    )
