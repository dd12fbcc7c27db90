"""The training objective's terms: MCNet's, and our own where it is said; plain functions of tensors, unweighted.

Pictures are (B, 3, S, S) float32 RGB in [0, 1]; every term is a mean, so that weights mean the same at any size.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.dense_motion import Motion
from mcnet.geometry import resize_aligned, sample
from mcnet.layers import AntiAlias
from mcnet.memory import Compensation
from mcnet.mesh_points import LEFT_EYE_RING, RIGHT_EYE_RING
from mcnet.pose import invert_2x2
from training.fit.stores import columns_on
from training.fit.warps import Warp
from training.landmarks import EYE_OPENINGS, MOUTH_OPENINGS, MOUTH_POINTS, OPEN_EYE, PUPILS, TRAINING_POINTS

OUTSIDE = 0.03
"""How far outside lids and lips the deformation is held (coordinate units): one pixel of its 64."""
_DISTRUSTED = 0.3
"""A pixel whose warp a teacher does not trust at all counts for that one's motion as 0.3 to 1.3 of one that it trusts
wholly."""
_READ_PX = 256
"""The picture's side in which distances from a teacher's deformation are told."""
KEYPOINTS_APART = 0.2
"""Keypoints nearer to one another than this (coordinate units) are pushed apart."""


_OPENING_COLUMNS = [
    tuple(TRAINING_POINTS.index(point) for point in column)
    for column in zip(*MOUTH_OPENINGS, *EYE_OPENINGS, strict=True)
]

_LID_COLUMNS = [
    tuple(TRAINING_POINTS.index(point) for point in column)
    for column in zip(*sorted(EYE_OPENINGS, key=lambda opening: opening[2:] == EYE_OPENINGS[0][2:]), strict=True)
]
_PUPIL_COLUMNS = tuple(TRAINING_POINTS.index(point) for point in PUPILS)


PLAIN_COLUMNS = tuple(
    sorted(
        set(range(len(TRAINING_POINTS)))
        - {TRAINING_POINTS.index(point) for opening in (*MOUTH_OPENINGS, *EYE_OPENINGS) for point in opening[:2]}
        - set(_PUPIL_COLUMNS)
    )
)
"""Columns of TRAINING_POINTS that meet no other point when eyes or mouth close, and are always seen."""


class KeypointPair(NamedTuple):
    """Two keypoints on both sides of an opening, and the columns of their landmarks in TRAINING_POINTS."""

    upper: int
    lower: int
    upper_column: int
    lower_column: int


def keypoint_pairs(guidance_points: Sequence[int]) -> list[KeypointPair]:
    """The openings that have a keypoint on either side, where keypoints are guided to these mesh points."""
    return [
        KeypointPair(
            guidance_points.index(opening.upper),
            guidance_points.index(opening.lower),
            TRAINING_POINTS.index(opening.upper),
            TRAINING_POINTS.index(opening.lower),
        )
        for opening in (*MOUTH_OPENINGS, *EYE_OPENINGS)
        if opening.upper in guidance_points and opening.lower in guidance_points
    ]


class Pyramid(nn.Module):
    """A picture at its size divided by each of some factors, anti-aliased."""

    def __init__(self, factors: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Identity() if factor == 1 else AntiAlias(3, factor) for factor in factors)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> one (B, 3, S / factor, S / factor) per factor."""
        return [level(picture) for level in self.levels]


def picture_l1(picture: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute difference over all pictures and pixels, each times its weight.

    Args:
        picture: (B, 3, S, S), carries the gradient.
        target: likewise, carries none.
        weights: (B, 1, S, S), of mean 1 over each picture (`region_weights`), or (B, 1, 1, 1), 0 for a picture that
            does not count and 1 for one that does; what does not count still counts in the mean's denominator.
    """
    difference = (picture - target).abs()
    return difference.mean() if weights is None else (difference * weights).mean()


@torch.no_grad()
def perceived(backbone: Callable[[Tensor], list[Tensor]], pyramid: Pyramid, target: Tensor) -> list[list[Tensor]]:
    """What a frozen network sees of a target, level by level: `perceptual` compares with it, as often as is wanted.

    Args:
        backbone: pictures -> list of feature maps, (B, C, h, w) each.
        pyramid: the sizes at which pictures are compared.
        target: (B, 3, S, S).
    """
    return [backbone(picture) for picture in pyramid(target)]


def perceptual(
    backbone: Callable[[Tensor], list[Tensor]],
    pyramid: Pyramid,
    prediction: Tensor,
    wanted: list[list[Tensor]],
    weights: Tensor | None = None,
) -> Tensor:
    """L1 between a frozen network's features of both pictures, summed over its layers and the pyramid's levels.

    Args:
        backbone: as of `perceived`.
        pyramid: likewise.
        prediction: (B, 3, S, S), carries the gradient.
        wanted: what was `perceived` of the target.
        weights: as of `picture_l1`; resized to each map.
    """
    total = prediction.new_zeros(())
    for predicted, wanted_features in zip(pyramid(prediction), wanted, strict=True):
        for feature, wanted_feature in zip(backbone(predicted), wanted_features, strict=True):
            difference = (feature.float() - wanted_feature.float()).abs()
            if weights is not None:
                difference = difference * F.interpolate(weights, size=feature.shape[-2:], mode="area")
            total = total + difference.mean()
    return total


def equivariance_value(driving: Keypoints, warped: Keypoints, warp: Warp) -> Tensor:
    """Mean |p - T(p')|: the driving frame's keypoints against those found on its warped copy, brought back.

    Args:
        driving: p, on the driving frame.
        warped: p', on the frame sampled at T.
        warp: T.
    """
    return (driving.value - warp.points(warped.value)).abs().mean()


def equivariance_jacobian(driving: Keypoints, warped: Keypoints, warp: Warp) -> Tensor:
    """Mean |1 - J^-1 (dT(p') J')|, 1 the 2x2 identity."""
    brought_back = warp.jacobian(warped.value) @ warped.jacobian
    product = invert_2x2(driving.jacobian) @ brought_back
    return (torch.eye(2, dtype=product.dtype, device=product.device) - product).abs().mean()


def _pair_distances(points: Tensor) -> Tensor:
    """(B, K, 2) -> (B, K, K) distances, 1e-4 on the diagonal."""
    return ((points[:, :, None] - points[:, None]).square().sum(-1) + 1e-8).sqrt()


def keypoint_distance_of_paper(points: Tensor) -> Tensor:
    """The paper's keypoint distance term of one picture: mean over the K^2 pairs of 1 - sign(|p_i - p_j| - 0.2).

    The diagonal contributes 0. It counts keypoints that are too near, and has no gradient: for reading only.
    """
    counted = 1 - torch.sign(_pair_distances(points) - KEYPOINTS_APART)
    return (counted * _off_diagonal(points)).mean()


def keypoint_distance(points: Tensor) -> Tensor:
    """The hinge that we train with in its place: mean over the same pairs of max(0, 0.2 - |p_i - p_j|)."""
    return (F.relu(KEYPOINTS_APART - _pair_distances(points)) * _off_diagonal(points)).mean()


def _off_diagonal(points: Tensor) -> Tensor:
    return 1 - torch.eye(points.shape[1], dtype=points.dtype, device=points.device)


def feature_consistency(compensations: Sequence[Compensation]) -> Tensor:
    """Sum over the levels of mean |sg(feature) - value|: what the memory holds shall look like warped features.

    Args:
        compensations: one per level; each feature is resized to its memory's size.
    """
    total = compensations[0].value.new_zeros(())
    for compensation in compensations:
        feature = resize_aligned(compensation.feature.detach().float(), compensation.value.shape[-1])
        total = total + (feature - compensation.value.float()).abs().mean()
    return total


def gan_generator(fake_scores: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """LSGAN: mean (1 - D(fake))^2; `weights` (B, 1, 1, 1) say how much each picture counts, in these three terms."""
    return ((1 - fake_scores).square() * weights).mean()


def gan_discriminator(real_scores: Tensor, fake_scores: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """LSGAN: mean (1 - D(real))^2 + D(fake)^2."""
    return (((1 - real_scores).square() + fake_scores.square()) * weights).mean()


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor], weights: Tensor | float = 1.0) -> Tensor:
    """L1 between the discriminator's features of real (no gradient) and fake pictures, summed over its blocks."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([((wanted.detach() - got).abs() * weights).mean() for wanted, got in pairs]).sum()


def adversarial_factor(others: Tensor, adversarial: Tensor, share: float) -> Tensor:
    """The factor on adversarial terms that makes their gradient `share` times as long as the other terms'.

    VQGAN's adaptive weight (Esser, Rombach and Ommer 2021, "Taming Transformers", equation 7), its limit of 10^4
    included.

    Args:
        others: gradient of all other terms at the decoder's last layer.
        adversarial: gradient of the adversarial terms there.
        share: as above.

    Returns:
        (), without gradient.
    """
    norms = [gradient.detach().square().sum().sqrt() for gradient in (others, adversarial)]
    return (share * norms[0] / (norms[1] + 1e-6)).clamp(max=1e4)


def landmark_guidance(points: Tensor, landmarks: Tensor, valid: Tensor, columns: Sequence[int]) -> Tensor:
    """Mean distance along x and y of each keypoint to its own face landmark.

    Not in the paper. Unsupervised keypoints take many epochs to find the face at all; a pull that fades gives them the
    face at once, and the parts that matter (lids, lips) a keypoint each.

    Args:
        points: (B, K, 2) keypoints.
        landmarks: (B, P, 2) xy of TRAINING_POINTS.
        valid: (B,) bool; other samples do not count.
        columns: K indices into TRAINING_POINTS.
    """
    targets = landmarks[:, columns_on(tuple(columns), landmarks.device)]
    inside = valid[:, None] & (targets.abs() <= 1).all(-1)  # (B, K): those that left the picture cannot be seen
    distance = (points - targets).abs().mean(-1)
    # Divided by all, not by the valid ones: a sample then weighs the same in any batch, on any number of processes.
    return (distance * inside).mean()


def keypoint_openings(points: Tensor, landmarks: Tensor, valid: Tensor, pairs: Sequence[KeypointPair]) -> Tensor:
    """Mean error, along x and y, of the distance between keypoints that sit on both sides of an eye or a mouth.

    `landmark_guidance` is content when both are off by the same pixel, and hardly less so when they are off in opposite
    directions: then an eye is closed.

    Args:
        points: (B, K, 2) keypoints.
        landmarks: (B, P, 2) xy of TRAINING_POINTS.
        valid: (B,) bool; other samples do not count.
        pairs: the keypoints and their landmarks' columns.
    """
    upper, lower, upper_column, lower_column = (
        columns_on(column, points.device) for column in zip(*pairs, strict=True)
    )
    wanted = landmarks[:, upper_column] - landmarks[:, lower_column]
    error = (points[:, upper] - points[:, lower] - wanted).abs().mean(-1)
    return (error * valid[:, None]).mean()


def shown_openings(shown: Tensor, wanted: Tensor, pairs: Sequence[KeypointPair]) -> Tensor:
    """Mean difference, along x and y, of lid and lip distances between two pictures, by what a detector finds in them.

    As the detector looks at both, what it always gets wrong cancels.

    Args:
        shown: (B, K, 2) keypoints of the prediction; they carry the gradient.
        wanted: (B, K, 2) keypoints of the driving frame.
        pairs: the keypoints that lie on both sides of an opening.
    """
    upper, lower = (columns_on(column, shown.device) for column in list(zip(*pairs, strict=True))[:2])
    opening, wanted_opening = (points[:, upper] - points[:, lower] for points in (shown, wanted.detach()))
    return (opening - wanted_opening).abs().mean()


def correspondence(
    deformation: Tensor, source: Tensor, driving: Tensor, valid: Tensor, columns: Sequence[int] | None = None
) -> Tensor:
    """Mean distance, along x and y, of where the deformation takes landmarks and where they lie in the source.

    Not in the paper. A mesh says where each of its points went; pixels say so only where there is texture, and what
    fits them on few faces need not fit others.

    Args:
        deformation: (B, h, w, 2) xy in the source.
        source: (B, P, 2) places in the source.
        driving: (B, P, 2) places in the driving frame.
        valid: (B,) bool; other samples do not count.
        columns: which of the P; None: all.
    """
    if columns is not None:
        chosen = columns_on(tuple(columns), source.device)
        source, driving = source[:, chosen], driving[:, chosen]
    return _taken_there(deformation, source, driving, valid[:, None]).mean()


def gaze(deformation: Tensor, source: Tensor, driving: Tensor, valid: Tensor) -> Tensor:
    """The same distance for the pupils: it is what makes an avatar look where the performer looks.

    Args:
        deformation: (B, h, w, 2) xy in the source.
        source: (B, P, 2) TRAINING_POINTS in the source.
        driving: (B, P, 2) in the driving frame.
        valid: (B,) bool; other samples do not count, nor do eyes that are not open in both pictures: what a mesh says
            of a hidden pupil is a guess.
    """
    open_in_both = (_eye_openings(source) > OPEN_EYE) & (_eye_openings(driving) > OPEN_EYE)  # (B, 2)
    pupils = columns_on(_PUPIL_COLUMNS, source.device)
    return _taken_there(deformation, source[:, pupils], driving[:, pupils], valid[:, None] & open_in_both).mean()


def _taken_there(deformation: Tensor, source: Tensor, driving: Tensor, counts: Tensor) -> Tensor:
    """(B, P): how far each driving place is taken from its place in the source; 0 where it does not count."""
    inside = counts & (source.abs() <= 1).all(-1) & (driving.abs() <= 1).all(-1)
    taken = sample(deformation.permute(0, 3, 1, 2), driving[:, :, None])[..., 0].transpose(1, 2)  # (B, P, 2)
    return (taken - source).abs().mean(-1) * inside


def _eye_openings(landmarks: Tensor) -> Tensor:
    """(B, P, 2) TRAINING_POINTS -> (B, 2), in the order of PUPILS: the lids' mean gap over the corners' distance."""
    upper, lower, right, left = (
        landmarks[:, columns_on(each, landmarks.device)].view(len(landmarks), len(PUPILS), -1, 2)
        for each in _LID_COLUMNS
    )
    gaps, widths = ((one - other).square().sum(-1).sqrt().mean(-1) for one, other in ((upper, lower), (right, left)))
    openings: Tensor = gaps / widths.clamp(min=1e-3)
    return openings


def outside_openings(landmarks: Tensor) -> Tensor:
    """Places just outside lids and lips: (B, P, 2) landmarks -> (B, 2 N, 2), above the N openings, then below them.

    The points of a closed eye's lids coincide, and one place cannot be taken to two; so they are moved apart, across
    the line between the corners, by `OUTSIDE`. Eyes and mouth count the same.
    """
    upper, lower, right, left = (landmarks[:, columns_on(each, landmarks.device)] for each in _OPENING_COLUMNS)
    along = left - right
    up = torch.stack((along[..., 1], -along[..., 0]), -1)
    up = up / (up.square().sum(-1, keepdim=True) + 1e-8).sqrt() * OUTSIDE
    return torch.cat((upper + up, lower - up), dim=1)


def occlusion_by_errors(occlusion: Tensor, warped: Tensor, target: Tensor, price: float) -> Tensor:
    """Teaches the occlusion map how far the warp can be trusted, pixel by pixel.

    Binary cross entropy with price / (price + error): the share that the warp deserves in a mean of two estimates of
    which the other, the decoder's, has the error `price`. The error is averaged over 5x5 pixels and divided by its
    picture's mean; it has no gradient: the warp is judged, not changed. A term that always pulled the map towards 1
    would starve the decoder and the memory, and one with an absolute price would close the map while the warp is still
    poor everywhere.

    Args:
        occlusion: (B, 1, w, w) in [0, 1].
        warped: the warped source.
        target: the driving frame, of the same size.
        price: as a multiple of the mean error.
    """
    error = _smoothed_error(warped, target, 5, occlusion)
    error = error / (error.mean((1, 2, 3), keepdim=True) + 1e-4)
    return _share_cross_entropy(occlusion, price / (price + error))


def occlusion_by_both_errors(occlusion: Tensor, warped: Tensor, generated: Tensor, target: Tensor) -> Tensor:
    """Teaches the occlusion map which of the two pictures that it blends is the better one, and by how much.

    Binary cross entropy with e_g / (e_g + e_w): the share of the warped picture in the mean of two estimates whose
    errors are e_w and e_g. Each error is averaged over 9x9 pixels and has no gradient: pictures are judged, not
    changed. `occlusion_by_errors` supposes the decoder to be equally good everywhere.

    Args:
        occlusion: (B, 1, w, w) in [0, 1].
        warped: (B, 3, S, S), the warped source.
        generated: (B, 3, S, S), the decoder's picture before the blend.
        target: (B, 3, S, S), the driving frame.
    """
    by_warp, by_decoder = (_smoothed_error(picture, target, 9, occlusion) + 1e-3 for picture in (warped, generated))
    return _share_cross_entropy(occlusion, by_decoder / (by_decoder + by_warp))


def _smoothed_error(picture: Tensor, target: Tensor, side_px: int, like: Tensor) -> Tensor:
    """(B, 1, w, w) mean error in a neighbourhood of so many pixels, at the size of `like`; without gradient."""
    error = (picture - target).abs().mean(1, keepdim=True).detach()
    error = F.avg_pool2d(error, side_px, 1, side_px // 2, count_include_pad=False)
    return error if error.shape == like.shape else F.interpolate(error, size=like.shape[-2:], mode="area")


def _share_cross_entropy(occlusion: Tensor, share: Tensor) -> Tensor:
    # Written out: torch's own stops the program, on a GPU for good, where a map is NaN; such a step is to be left out.
    return -(share * torch.log(occlusion + 1e-6) + (1 - share) * torch.log(1 - occlusion + 1e-6)).mean()


def taught_motion(motion: Motion, teacher: Motion, weights: Tensor | None = None) -> Tensor:
    """Mean L1 distance between two deformations (coordinate units), where the teacher's occlusion map trusts the warp.

    Args:
        motion: carries the gradient.
        teacher: carries none.
        weights: (B, 1, 64, 64), of mean 1 over each picture (`region_weights`); None: 1 everywhere.
    """
    distance = (motion.deformation - teacher.deformation).abs().sum(-1)[:, None]
    return (distance * _counted(teacher, weights)).mean()


def taught_motion_px(motion: Motion, teacher: Motion) -> Tensor:
    """Mean distance between two deformations in pixels of 256, where the teacher trusts its warp: for reading."""
    distance = (motion.deformation - teacher.deformation).norm(dim=-1)[:, None] * _READ_PX / 2
    mean: Tensor = (distance * teacher.occlusion).sum() / teacher.occlusion.sum().clamp_min(1e-6)
    return mean


def taught_mask(logits: Tensor, teacher: Motion, weights: Tensor | None = None) -> Tensor:
    """Mean Kullback-Leibler divergence of the mask from the teacher's, pixels weighed as by `taught_motion`.

    Args:
        logits: (B, K + 1, 64, 64) of the mask, before the softmax.
        teacher: carries no gradient.
        weights: as of `taught_motion`.
    """
    divergence = F.kl_div(logits.log_softmax(1), teacher.mask, reduction="none").sum(1, keepdim=True)
    return (divergence * _counted(teacher, weights)).mean()


def taught_occlusion(logits: Tensor, teacher: Motion, weights: Tensor | None = None) -> Tensor:
    """Mean Kullback-Leibler divergence of the occlusion map, as a probability, from the teacher's.

    Args:
        logits: (B, 1, 64, 64) of the map, before the sigmoid.
        teacher: carries no gradient.
        weights: as of `taught_motion`; what the teacher does not trust counts as much as all else.
    """
    wanted = teacher.occlusion
    entropy = torch.special.entr(wanted) + torch.special.entr(1 - wanted)
    divergence = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") - entropy
    mean: Tensor = (divergence if weights is None else divergence * weights).mean()
    return mean


def _counted(teacher: Motion, weights: Tensor | None) -> Tensor:
    """(B, 1, 64, 64) of mean 1: how much pixels count that the teacher trusts by so much."""
    trusted = teacher.occlusion + _DISTRUSTED
    if weights is not None:
        trusted = trusted * weights
    return trusted / trusted.mean((1, 2, 3), keepdim=True)


class Regions(NamedTuple):
    """How much more the mouth and the eyes weigh than the rest."""

    mouth: float
    eyes: float


_RINGS = tuple(
    tuple(TRAINING_POINTS.index(point) for point in points) for points in (MOUTH_POINTS, LEFT_EYE_RING, RIGHT_EYE_RING)
)
_MARGIN = 1.5
"""A region reaches so many times as far as its landmarks: lips have a border, eyes have lids."""
_LEAST_SPREAD = 0.02
"""Coordinate units; a closed eye's landmarks lie on a line, and its region must not."""


def region_weights(landmarks: Tensor, valid: Tensor, size_px: int, regions: Regions) -> Tensor | None:
    """Weights of pixels by face region, mean 1 over each picture.

    Each region is an ellipse with soft borders about the mean of its landmarks, along the axes of their covariance.

    Args:
        landmarks: (B, P, 2) xy of TRAINING_POINTS.
        valid: (B,) bool; pictures without landmarks weigh 1 everywhere.
        size_px: side of the map.
        regions: the added weights.

    Returns:
        (B, 1, size_px, size_px), or None where nothing is added.
    """
    if not any(regions):
        return None
    line = torch.linspace(-1, 1, size_px, dtype=landmarks.dtype, device=landmarks.device)
    total = torch.ones((len(landmarks), size_px, size_px), dtype=landmarks.dtype, device=landmarks.device)
    for columns, weight in zip(_RINGS, (regions.mouth, regions.eyes, regions.eyes), strict=True):
        ring = landmarks[:, columns_on(columns, landmarks.device)]
        centre = ring.mean(1, keepdim=True)
        spread = (ring - centre).transpose(1, 2) @ (ring - centre) / ring.shape[1]
        spread = spread + torch.eye(2, dtype=ring.dtype, device=ring.device) * _LEAST_SPREAD**2
        # On an ellipse the squared Mahalanobis distance to its ring's covariance is 2.
        form = invert_2x2(spread) / (2 * _MARGIN**2)
        x, y = (line - centre[..., axis] for axis in (0, 1))  # (B, S) each
        # The quadratic form in two products per pixel: (2 b x + d y) y, and a x^2, which is the same in all rows.
        mixed = (2 * form[:, 0, 1, None] * x)[:, None, :] + (form[:, 1, 1, None] * y)[:, :, None]
        squared = torch.addcmul((form[:, 0, 0, None] * x.square())[:, None, :], mixed, y[:, :, None])
        total = total + torch.sigmoid(6 * (1 - squared)) * (weight * valid)[:, None, None]
    return (total / total.mean((1, 2), keepdim=True))[:, None]
