"""Random changes of pairs, batched on the training device; landmarks move along."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.draws import Draws
from training.fit.config import AugmentConfig
from training.fit.sampler import PairPlan
from training.fit.warps import Warp, random_warp
from training.landmarks import MIRROR, TRAINING_POINTS

_GREY = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_MIRRORED = [TRAINING_POINTS.index(MIRROR[point]) for point in TRAINING_POINTS]


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


def augment(source: Faces, driving: Faces, plan: PairPlan, config: AugmentConfig) -> tuple[Faces, Faces]:
    """Change both pictures of each pair at random.

    In this order: each picture of some pairs gets a similarity transform of its own, and stills a bend besides (so that
    one picture makes two); flip; colours; time flip. For pairs drawn uniformly from a clip the time flip changes
    nothing; it is there because the reference has it.

    Args:
        source: B faces.
        driving: B faces.
        plan: of the same B pairs.
        config: how much of it.
    """
    draws, batch = plan.draws, len(plan.source)
    both = Faces(*(torch.cat(parts) for parts in zip(source, driving, strict=True)))
    moved = plan.still | draws.chance("similarity", config.similarity_share)
    if moved.any():
        both = _warp(both, np.tile(moved, 2), _warps(draws, plan.still, config, both.pictures.device))
    if config.flip:
        both = _flip(both, _twice(draws.chance("flip", 0.5), both.pictures.device))
    if config.jitter or config.hue:
        both = both._replace(pictures=_jitter(both.pictures, draws, config.jitter, config.hue))
    if config.time_flip:
        swap = _twice(draws.chance("time flip", 0.5), both.pictures.device)
        both = Faces(*(torch.where(swap.view(-1, *(1,) * (x.dim() - 1)), x.roll(batch, 0), x) for x in both))
    return Faces(*(x[:batch] for x in both)), Faces(*(x[batch:] for x in both))


def _twice(chosen: NDArray[np.bool_], device: torch.device) -> Tensor:
    return torch.from_numpy(np.tile(chosen, 2)).to(device)


def _warps(draws: Draws, still: NDArray[np.bool_], config: AugmentConfig, device: torch.device) -> Warp:
    """One warp per picture, sources first: a similarity, and for stills an affine deviation and a bend."""
    thetas, bends = [], []
    for role in ("source", "driving"):
        angle = np.radians(draws.between(f"{role} rotation", -config.rotation_deg, config.rotation_deg))
        reach = math.log1p(config.scale)
        factor = np.exp(draws.between(f"{role} scale", -reach, reach))
        shift = draws.between(f"{role} shift", -config.shift, config.shift, 2)
        cos, sin = factor * np.cos(angle), factor * np.sin(angle)
        theta = np.stack((np.stack((cos, -sin, shift[:, 0]), -1), np.stack((sin, cos, shift[:, 1]), -1)), 1)
        theta += still[:, None, None] * config.still_affine * draws.normal(f"{role} affine", 2, 3)
        thetas.append(theta)
        bends.append(still[:, None, None] * config.still_bend * draws.normal(f"{role} bend", 2, 25))
    theta_all = torch.from_numpy(np.concatenate(thetas)).float().to(device)
    return Warp(theta_all, torch.from_numpy(np.concatenate(bends)).float().to(device))


def _warp(faces: Faces, moved: NDArray[np.bool_], warps: Warp) -> Faces:
    """Warp the faces that are chosen and leave the others as they are, bit for bit."""
    chosen = torch.from_numpy(np.flatnonzero(moved)).to(faces.pictures.device)
    warps = Warp(warps.theta[chosen], warps.control[chosen])
    pictures, landmarks = faces.pictures.clone(), faces.landmarks.clone()
    # Bicubic, so that what the network learns to paint is not softer than what it will be given.
    bent = F.grid_sample(
        faces.pictures[chosen],
        warps.grid(pictures.shape[-1]),
        mode="bicubic",
        padding_mode="reflection",
        align_corners=True,
    )
    pictures[chosen] = bent.clamp(0, 1)
    landmarks[chosen] = warps.inverse(faces.landmarks[chosen])
    return Faces(pictures, landmarks, faces.valid)


def _flip(faces: Faces, flipped: Tensor) -> Faces:
    """Mirror the chosen faces; a landmark's counterpart takes its place."""
    pictures = torch.where(flipped[:, None, None, None], faces.pictures.flip(-1), faces.pictures)
    mirrored = faces.landmarks[:, _MIRRORED] * faces.landmarks.new_tensor([-1.0, 1.0])
    return Faces(pictures, torch.where(flipped[:, None, None], mirrored, faces.landmarks), faces.valid)


def _jitter(pictures: Tensor, draws: Draws, amount: float, hue: float) -> Tensor:
    """Brightness, contrast, saturation and hue, the same for both pictures of a pair.

    All four are linear in the colours, so each picture takes one 3x3 matrix and one offset. The hue turns in YIQ, where
    that is a rotation, and not in HSV.
    """
    brightness, contrast, saturation = (
        draws.between(name, max(0.0, 1 - amount), 1 + amount) for name in ("brightness", "contrast", "saturation")
    )
    angle = 2 * np.pi * draws.between("hue", -hue, hue)
    yiq, grey = np.array(_YIQ), np.tile(np.array(_GREY), (3, 1))
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    saturate = saturation[:, None, None] * np.eye(3) + (1 - saturation)[:, None, None] * grey
    matrix = np.linalg.inv(yiq) @ turn @ yiq @ saturate * (brightness * contrast)[:, None, None]
    matrices = torch.from_numpy(np.tile(matrix, (2, 1, 1))).float().to(pictures.device)
    lost = torch.from_numpy(np.tile(brightness * (1 - contrast), 2)).float().to(pictures.device)
    mean_grey = (pictures.mean((2, 3)) * pictures.new_tensor(_GREY)).sum(1)  # contrast turns about it
    offset = (lost * mean_grey)[:, None, None]
    changed = torch.baddbmm(offset, matrices, pictures.flatten(2))
    return changed.clamp(0, 1).view_as(pictures)


def disturb(pictures: Tensor, draws: Draws, share: float) -> Tensor:
    """What a webcam does to pictures, for some of them: exposure, tint, slanted light, blur and noise.

    Args:
        pictures: (n, 3, S, S) RGB in [0, 1]; n is a multiple of the draws' count, and each multiple gets its own.
        draws: of the step.
        share: of the pictures.
    """
    parts = len(pictures) // draws.count

    def between(name: str, low: float, high: float, *shape: int) -> Tensor:
        drawn = [draws.between(f"disturb {name} {part}", low, high, *shape) for part in range(parts)]
        numbers = torch.from_numpy(np.concatenate(drawn)).float().to(pictures.device)
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
    noise = torch.from_numpy(
        np.concatenate([draws.normal(f"disturb noise {part}", 3, size_px, size_px) for part in range(parts)])
    )
    changed = changed + between("noise level", 0, 0.04) * noise.to(changed)
    return torch.where(between("chosen", 0, 1) < share, changed.clamp(0, 1), pictures)


def equivariance_warp(draws: Draws, affine: float, bend: float, device: torch.device) -> Warp:
    """The warp T under which keypoints shall be equivariant: p(x) = T(p(T(x))) for a frame x."""
    return random_warp(
        torch.from_numpy(affine * draws.normal("equivariance affine", 2, 3)).float().to(device),
        torch.from_numpy(bend * draws.normal("equivariance bend", 1, 25)).float().to(device),
    )
