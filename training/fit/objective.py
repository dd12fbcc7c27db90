"""What a step computes: the network's answers for a batch of pairs, and the named losses of each stage."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.config import MOTION_SIZE_PX
from mcnet.dense_motion import DenseMotion, Motion, combine
from mcnet.generator import Mcnet, blend
from mcnet.geometry import gaussian_heatmaps, resize_deformation, sample
from mcnet.keypoints import expected_keypoints
from mcnet.memory import Compensation
from training.data import DataError
from training.fit import losses
from training.fit.augment import Faces
from training.fit.config import LossConfig
from training.fit.crops import face_squares
from training.fit.measured import Measured
from training.fit.warps import Warp
from training.landmarks import TRAINING_POINTS

Autocast = Callable[[], contextlib.AbstractContextManager[None]]
"""Opens the run's precision for what stands inside; keypoints, motion and sampling stay outside."""


class Outputs(NamedTuple):
    """What the network says about a batch of pairs.

    Attributes:
        source: keypoints of the source, as the motion takes them.
        driving: keypoints of the driving frame, likewise.
        target: the driving frame, at the size of what is compared with it.
        copied: the source at that size.
        transformed: keypoints of the driving frame under the equivariance warp; None where the detector rests.
        motion: the dense motion; None in the `detector` stage.
        taught: what the teacher says about the same keypoints and source; None where there is no teacher.
        warped: the warped source, (B, 3, w, w): w is `warped_px` in the `motion` stage, else the picture's side; None
            in the `detector` stage.
        prediction: (B, 3, S, S); None before the `full` stage.
        generated: (B, 3, S, S), the decoder's picture before it is blended with the warped one; None before that stage.
        crops: of mouth and eyes; None where nothing looks at them.
        seen: (B, K, 2) places that the detector at rest finds in prediction and driving frame; None where none looks.
        consistency: the feature consistency; None before the `full` stage and for a network without memory.
        detected: the detector's own keypoints of both, where measured ones took their place; else None.
    """

    source: Keypoints
    driving: Keypoints
    target: Tensor
    copied: Tensor
    transformed: Keypoints | None = None
    motion: Motion | None = None
    taught: "Lesson | None" = None
    warped: Tensor | None = None
    prediction: Tensor | None = None
    generated: Tensor | None = None
    crops: "CropPair | None" = None
    seen: tuple[Tensor, Tensor] | None = None
    consistency: Tensor | None = None
    detected: tuple[Keypoints, Keypoints] | None = None


class Lesson(NamedTuple):
    """A teacher's motion, and what its terms compare with it besides the network's own.

    Attributes:
        teacher: without gradient.
        mask_logits: (B, K + 1, 64, 64), the network's mask before the softmax.
        occlusion_logits: (B, 1, 64, 64), its occlusion map before the sigmoid.
    """

    teacher: Motion
    mask_logits: Tensor
    occlusion_logits: Tensor


class CropPair(NamedTuple):
    """Crops of mouth and eyes, 3 per pair.

    Attributes:
        predicted: (3 B, 3, c, c), of the prediction.
        wanted: (3 B, 3, c, c), of the driving frame.
        points: (3 B, K, 2), the driving keypoints in the crops' coordinates, without gradient.
        weights: (3 B, 1, 1, 1), 0 where no face was found.
    """

    predicted: Tensor
    wanted: Tensor
    points: Tensor
    weights: Tensor


def with_crops(outputs: Outputs, driving: Faces, size_px: int) -> Outputs:
    """The outputs, with crops of so many pixels, cut by the driving frame's landmarks."""
    assert outputs.prediction is not None
    squares = face_squares(driving.landmarks, driving.valid)
    predicted, wanted = (squares.pictures(picture, size_px) for picture in (outputs.prediction, outputs.target))
    points = squares.points(outputs.driving.value.detach())
    return outputs._replace(crops=CropPair(predicted, wanted, points, squares.weights))


def with_second_look(outputs: Outputs, model: Mcnet, autocast: Autocast) -> Outputs:
    """The outputs, with what the detector finds in prediction and driving frame. Its weights and statistics rest."""
    assert outputs.prediction is not None
    detector = model.keypoint_detector
    with at_rest(detector):
        found = _detect(model, detector.shrink(torch.cat((outputs.prediction, outputs.target))), 2, autocast)
    return outputs._replace(seen=(found[0].value, found[1].value.detach()))


@contextlib.contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Inside, a network's weights get no gradient, and BatchNorm uses its running statistics and keeps them."""
    modes = [(module, module.training) for module in network.modules()]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in learning:
            parameter.requires_grad_(True)


def detector_outputs(
    model: Mcnet, source: Tensor, driving: Tensor, warp: Warp, autocast: Autocast, disturb: Callable[[Tensor], Tensor]
) -> Outputs:
    """Keypoints alone.

    Args:
        model: its detector is used.
        source: (B, 3, S, S) RGB in [0, 1].
        driving: (B, 3, S, S).
        warp: the equivariance warp.
        autocast: the run's precision, of the hourglass.
        disturb: what is done to the (2 B, 3, 64, 64) pictures that the detector sees.
    """
    small, transformed = _small_pictures(model, source, driving, warp)
    small_source, small_driving = small.chunk(2)
    found = _detect(model, torch.cat((disturb(small), transformed)), 3, autocast)
    return Outputs(found[0], found[1], target=small_driving, copied=small_source, transformed=found[2])


def motion_outputs(
    model: Mcnet,
    source: Tensor,
    driving: Tensor,
    warp: Warp,
    autocast: Autocast,
    warped_px: int = MOTION_SIZE_PX,
    measured: Measured | None = None,
    teacher: DenseMotion | None = None,
) -> Outputs:
    """Keypoints and dense motion on pictures shrunk to 64x64, without encoder and decoder: a tenth of the work.

    Args:
        model: its detector and dense motion are used.
        source: (B, 3, S, S) RGB in [0, 1].
        driving: (B, 3, S, S).
        warp: the equivariance warp.
        autocast: the run's precision, of the hourglasses.
        warped_px: side of the warped picture: 64 or S.
        measured: keypoints that take the place of the detector's; None: none do.
        teacher: whose motion is asked for, too; None: nobody's.
    """
    small, transformed = _small_pictures(model, source, driving, warp)
    small_source, small_driving = small.chunk(2)
    if _learns(model.keypoint_detector):
        found = _detect(model, torch.cat((small, transformed)), 3, autocast)
    else:
        found = _detect(model, small, 2, autocast)
    source_points, driving_points = _taken(found, measured)
    motion, taught = _move(model.generator.dense_motion, small_source, source_points, driving_points, autocast, teacher)
    if warped_px == small_source.shape[-1]:
        source, driving = small_source, small_driving
    warped = sample(source, resize_deformation(motion.deformation, source.shape[-1]), model.config.border)
    return Outputs(
        source_points,
        driving_points,
        target=driving,
        copied=source,
        transformed=found[2] if len(found) > 2 else None,
        motion=motion,
        taught=taught,
        warped=warped,
        detected=None if measured is None else (found[0], found[1]),
    )


def _taken(found: Sequence[Keypoints], measured: Measured | None) -> tuple[Keypoints, Keypoints]:
    """The keypoints of source and driving frame that the motion takes."""
    return (found[0], found[1]) if measured is None else measured.keypoints(found[0], found[1])


def _learns(network: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in network.parameters())


@torch.no_grad()
def _small_pictures(model: Mcnet, source: Tensor, driving: Tensor, warp: Warp) -> tuple[Tensor, Tensor]:
    """(2 B, 3, 64, 64) sources and driving frames, and (B, 3, 64, 64) driving frames under the equivariance warp."""
    small: Tensor = model.keypoint_detector.shrink(torch.cat((source, driving)))
    return small, warp.pictures(small.chunk(2)[1])


def _detect(model: Mcnet, small: Tensor, parts: int, autocast: Autocast) -> list[Keypoints]:
    """Keypoints of so many batches in one pass, from their pictures at 64x64; the hourglass in the run's precision."""
    detector = model.keypoint_detector
    with autocast():
        features = detector.hourglass(small)
    keypoints = expected_keypoints(detector.logits(features.float()), detector.jacobians(features.float()))
    return [
        Keypoints(value, jacobian)
        for value, jacobian in zip(keypoints.value.chunk(parts), keypoints.jacobian.chunk(parts), strict=True)
    ]


def _move(
    dense_motion: DenseMotion,
    small: Tensor,
    source: Keypoints,
    driving: Keypoints,
    autocast: Autocast,
    teacher: DenseMotion | None = None,
) -> tuple[Motion, Lesson | None]:
    """The dense motion, with its hourglass in the run's precision, and what a teacher says in its place, if one does.

    No gradient reaches the keypoints by way of the teacher, who would have to follow them: they are to be at rest.
    """
    sparse, seen = dense_motion.sparse(small, gaussian_heatmaps(source.value, small.shape[-1]), source, driving)
    mask_logits, occlusion_logits = _answer(dense_motion, seen, autocast)
    motion = combine(sparse, mask_logits, occlusion_logits)
    if teacher is None:
        return motion, None
    with torch.no_grad():
        taught = combine(sparse, *_answer(teacher, seen, autocast))
    return motion, Lesson(taught, mask_logits, occlusion_logits)


def _answer(dense_motion: DenseMotion, seen: Tensor, autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Logits of mask and occlusion map for the sparse motions that are seen."""
    with autocast():
        features = dense_motion.hourglass(seen)
    return dense_motion.mask(features.float()), dense_motion.occlusion(features.float())


def full_outputs(
    model: Mcnet,
    source: Tensor,
    driving: Tensor,
    warp: Warp,
    autocast: Autocast,
    measured: Measured | None = None,
    teacher: DenseMotion | None = None,
) -> Outputs:
    """The whole network. Arguments as in `motion_outputs`.

    The detections share one pass, and with it the batch statistics of their BatchNorms. There are three, or two where
    the detector rests.
    """
    generator = model.generator
    pictures, parts = torch.cat((source, driving)), 2
    if _learns(model.keypoint_detector):
        pictures, parts = torch.cat((pictures, warp.pictures(driving))), 3
    found = _detect(model, model.keypoint_detector.shrink(pictures), parts, autocast)
    source_points, driving_points = _taken(found, measured)
    with autocast():
        cache = generator.encode_source(source, source_points)
    # What is sampled goes on in float32; what motion and memory are conditioned on is small, and is taken again in it.
    cache = cache._replace(
        features=tuple(feature.float() for feature in cache.features),
        small=generator.dense_motion.shrink(source),
        memory=None if generator.memory is None else generator.memory.condition(source_points),
    )
    motion, taught = _move(generator.dense_motion, cache.small, source_points, driving_points, autocast, teacher)
    warped = generator.warp(cache, motion)
    compensations: dict[int, Compensation] = {}
    with autocast():
        logits = generator.decode(cache, warped, compensations)
    return Outputs(
        source_points,
        driving_points,
        target=driving,
        copied=source,
        transformed=found[2] if len(found) > 2 else None,
        motion=motion,
        taught=taught,
        warped=warped.picture,
        prediction=blend(logits.float(), warped),
        generated=torch.sigmoid(logits.float()),
        consistency=losses.feature_consistency(list(compensations.values())) if compensations else None,
        detected=None if measured is None else (found[0], found[1]),
    )


def guidance_weight(config: LossConfig, step: Tensor) -> Tensor | float:
    """The landmark guidance's weight at a step of the run, (): from `guidance` linearly to `guidance_late`."""
    if config.guidance == config.guidance_late:
        return config.guidance
    progress = (step / max(1, config.guidance_steps)).clamp(max=1.0)
    return config.guidance + (config.guidance_late - config.guidance) * progress


class _Seen(NamedTuple):
    """Keypoints of pictures, and those pictures' landmarks."""

    points: Tensor
    landmarks: Tensor
    valid: Tensor


ADVERSARIAL = ("gan", "feature_matching", "crops_gan", "crops_feature_matching")
"""The terms by which discriminators teach the network."""


class Terms(NamedTuple):
    """The objective of one step.

    Attributes:
        total: what is minimised.
        weighted: its terms by name, weights included; they sum to `total`.
        readings: figures to read only: the paper's keypoint distance, the warped and predicted L1 as shares of copying
            the source, the mean occlusion, the distance from a teacher's deformation.
    """

    total: Tensor
    weighted: dict[str, Tensor]
    readings: dict[str, Tensor]

    def balanced(self, share: float, last_layer: Tensor, sum_over_processes: Callable[[Tensor], Tensor]) -> "Terms":
        """The same terms, the adversarial ones scaled by `losses.adversarial_factor`.

        Args:
            share: of the other terms' gradient.
            last_layer: the decoder's last weights, where gradients are compared.
            sum_over_processes: adds up a tensor: the gradients are those of the whole batch.
        """

        def gradient(*, adversarial: bool) -> Tensor:
            terms = [value for name, value in self.weighted.items() if (name in ADVERSARIAL) == adversarial]
            (own,) = torch.autograd.grad(torch.stack(terms).sum(), last_layer, retain_graph=True)
            return sum_over_processes(own)

        factor = losses.adversarial_factor(gradient(adversarial=False), gradient(adversarial=True), share)
        weighted = {name: value * factor if name in ADVERSARIAL else value for name, value in self.weighted.items()}
        readings = {**self.readings, "adversarial_factor": factor}
        return Terms(torch.stack(list(weighted.values())).sum(), weighted, readings)


class Objective:
    """Weighs the losses of one batch.

    Args:
        config: the weights.
        backbone: of the perceptual pyramid; None where the `full` stage or the perceptual term is off.
        pyramid: its sizes.
        autocast: the run's precision.
    """

    def __init__(
        self, config: LossConfig, backbone: nn.Module | None, pyramid: losses.Pyramid, autocast: Autocast
    ) -> None:
        self._config = config
        self._backbone = backbone
        self._pyramid = pyramid
        self._autocast = autocast
        self._regions = losses.Regions(config.mouth, config.eyes)
        self._columns: list[int] = []
        if config.guidance or config.guidance_late:
            self._columns = [TRAINING_POINTS.index(point) for point in config.guidance_points]
        self._opposite = losses.keypoint_pairs(config.guidance_points)
        self._pairs = self._opposite if config.guidance_openings else []
        self._as_it_is = losses.Pyramid((1,))

    def terms(
        self, outputs: Outputs, source: Faces, driving: Faces, warp: Warp, step: Tensor, adversarial: dict[str, Tensor]
    ) -> Terms:
        """The objective of a batch.

        Args:
            outputs: of the network.
            source: what it was asked about.
            driving: likewise.
            warp: the equivariance warp.
            step: of the run, (), for the guidance's weight.
            adversarial: unweighted terms of `ADVERSARIAL` where discriminators play, else empty.
        """
        config = self._config
        target, size_px = outputs.target, outputs.target.shape[-1]
        weights = losses.region_weights(driving.landmarks, driving.valid, size_px, self._regions)
        weighted: dict[str, Tensor] = {}
        wanted = functools.cache(lambda: losses.perceived(self._features, self._pyramid, target))

        def add(name: str, weight: Tensor | float, loss: Callable[[], Tensor]) -> None:
            if isinstance(weight, Tensor) or weight:  # a tensor's value is the device's business
                weighted[name] = weight * loss()

        of_source, seen = outputs.detected or (outputs.source, outputs.driving)
        moved = outputs.transformed
        if moved is not None:
            pictures = [
                _Seen(of_source.value, source.landmarks, source.valid),
                _Seen(seen.value, driving.landmarks, driving.valid),
            ]
            if outputs.motion is None:  # the detector alone: what is known of the third picture counts as well
                pictures.append(_Seen(moved.value, warp.landmarks(driving.landmarks, MOTION_SIZE_PX), driving.valid))
            add("equivariance_value", config.equivariance_value, lambda: losses.equivariance_value(seen, moved, warp))
            add(
                "equivariance_jacobian",
                config.equivariance_jacobian,
                lambda: losses.equivariance_jacobian(seen, moved, warp),
            )
            add(
                "keypoint_distance",
                config.keypoint_distance,
                lambda: losses.keypoint_distance(of_source.value) + losses.keypoint_distance(seen.value),
            )
            if self._columns:
                add("guidance", guidance_weight(config, step), lambda: self._guidance(pictures))
            if self._pairs:
                add("guidance_openings", config.guidance_openings, lambda: self._openings(pictures))
        motion, warped = outputs.motion, outputs.warped
        if motion is not None and warped is not None:
            add("warped", config.warped, lambda: losses.picture_l1(warped, target, weights))
            add("occlusion", config.occlusion, lambda: self._occlusion(motion.occlusion, warped, outputs))
            valid = source.valid & driving.valid
            add(
                "correspondence",
                config.correspondence,
                lambda: losses.correspondence(
                    motion.deformation, source.landmarks, driving.landmarks, valid, losses.PLAIN_COLUMNS
                ),
            )
            add(
                "openings",
                config.openings,
                lambda: losses.correspondence(
                    motion.deformation,
                    losses.outside_openings(source.landmarks),
                    losses.outside_openings(driving.landmarks),
                    valid,
                ),
            )
            add(
                "gaze",
                config.gaze,
                lambda: losses.gaze(motion.deformation, source.landmarks, driving.landmarks, valid),
            )
        taught = outputs.taught
        if motion is not None and taught is not None:
            teacher, about = taught.teacher, weights
            if size_px != MOTION_SIZE_PX:
                about = losses.region_weights(driving.landmarks, driving.valid, MOTION_SIZE_PX, self._regions)
            add("taught_motion", config.taught_motion, lambda: losses.taught_motion(motion, teacher, about))
            add("taught_mask", config.taught_mask, lambda: losses.taught_mask(taught.mask_logits, teacher, about))
            add(
                "taught_occlusion",
                config.taught_occlusion,
                lambda: losses.taught_occlusion(taught.occlusion_logits, teacher, about),
            )
        prediction, consistency = outputs.prediction, outputs.consistency
        if prediction is not None:
            add("l1", config.l1, lambda: losses.picture_l1(prediction, target, weights))
            add("perceptual", config.perceptual, lambda: self._perceptual(prediction, wanted(), weights))
        if consistency is not None:
            add("feature_consistency", config.feature_consistency, lambda: consistency)
        generated, crops, seen_in_pictures = outputs.generated, outputs.crops, outputs.seen
        if generated is not None:
            add("generated", config.generated, lambda: losses.picture_l1(generated, target, weights))
            add(
                "generated_perceptual",
                config.generated_perceptual,
                lambda: self._perceptual(generated, wanted(), weights),
            )
        if crops is not None:
            add("crops", config.crops, lambda: losses.picture_l1(crops.predicted, crops.wanted, crops.weights))
            add("crops_perceptual", config.crops_perceptual, lambda: self._crops_perceptual(crops))
        if seen_in_pictures is not None:
            add(
                "picture_openings",
                config.picture_openings,
                lambda: losses.shown_openings(*seen_in_pictures, self._opposite),
            )
        given = {"gan": config.gan, "crops_gan": config.crops_gan}
        for name, loss in adversarial.items():
            if weight := given.get(name, config.feature_matching):
                weighted[name] = weight * loss
        if not weighted:
            raise DataError("all loss weights of this stage are 0: nothing would be learned")
        return Terms(torch.stack(list(weighted.values())).sum(), weighted, _readings(outputs))

    def _guidance(self, seen: Sequence[_Seen]) -> Tensor:
        terms = [losses.landmark_guidance(*one, self._columns) for one in seen]
        return torch.stack(terms).sum()

    def _openings(self, seen: Sequence[_Seen]) -> Tensor:
        terms = [losses.keypoint_openings(*one, self._pairs) for one in seen]
        return torch.stack(terms).sum()

    def _occlusion(self, occlusion: Tensor, warped: Tensor, outputs: Outputs) -> Tensor:
        if self._config.occlusion_by == "errors" and outputs.generated is not None:
            return losses.occlusion_by_both_errors(occlusion, warped, outputs.generated, outputs.target)
        return losses.occlusion_by_errors(occlusion, warped, outputs.target, self._config.occlusion_price)

    def _features(self, picture: Tensor) -> list[Tensor]:
        assert self._backbone is not None
        with self._autocast():
            maps: list[Tensor] = self._backbone(picture)
        return maps

    def _perceptual(self, picture: Tensor, wanted: list[list[Tensor]], weights: Tensor | None) -> Tensor:
        return losses.perceptual(self._features, self._pyramid, picture, wanted, weights)

    def _crops_perceptual(self, crops: CropPair) -> Tensor:
        wanted = losses.perceived(self._features, self._as_it_is, crops.wanted)
        return losses.perceptual(self._features, self._as_it_is, crops.predicted, wanted, crops.weights)


@torch.no_grad()
def _readings(outputs: Outputs) -> dict[str, Tensor]:
    readings = {
        "keypoint_distance_of_paper": losses.keypoint_distance_of_paper(outputs.source.value)
        + losses.keypoint_distance_of_paper(outputs.driving.value),
        "copied_l1": losses.picture_l1(outputs.copied, outputs.target),
    }
    if outputs.warped is not None and outputs.motion is not None:
        readings["warped_l1"] = losses.picture_l1(outputs.warped, outputs.target)
        readings["occlusion_mean"] = outputs.motion.occlusion.mean()
    if outputs.taught is not None and outputs.motion is not None:
        readings["taught_px"] = losses.taught_motion_px(outputs.motion, outputs.taught.teacher)
    if outputs.prediction is not None:
        readings["predicted_l1"] = losses.picture_l1(outputs.prediction, outputs.target)
    return readings
