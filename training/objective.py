"""What a step computes: the network's answers for a batch of pairs, and the named losses of each stage."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mcnet.dense_motion import Motion
from mcnet.generator import Mcnet, blend
from mcnet.geometry import Keypoints, gaussian_heatmaps, sample
from mcnet.keypoints import expected_keypoints
from mcnet.memory import Compensation
from training import losses
from training.augment import Faces
from training.config import LossConfig
from training.data import DataError
from training.landmarks import TRAINING_POINTS
from training.warps import Warp

Autocast = Callable[[], contextlib.AbstractContextManager[None]]
"""Opens the run's precision for what stands inside; keypoints, motion and sampling stay outside."""


class Answer(NamedTuple):
    """What the network says about a batch of pairs.

    Attributes:
        source: keypoints of the source.
        driving: keypoints of the driving frame.
        transformed: keypoints of the driving frame under the equivariance warp.
        motion: the dense motion.
        warped: the warped source: (B, 3, 64, 64) in the `motion` stage, else at the picture's size.
        target: the driving frame at that size.
        copied: the source at that size.
        prediction: (B, 3, S, S); None in the `motion` stage.
        consistency: the feature consistency; None in the `motion` stage and for a network without memory.
    """

    source: Keypoints
    driving: Keypoints
    transformed: Keypoints
    motion: Motion
    warped: Tensor
    target: Tensor
    copied: Tensor
    prediction: Tensor | None = None
    consistency: Tensor | None = None


def answer_motion(model: Mcnet, source: Tensor, driving: Tensor, warp: Warp) -> Answer:
    """Keypoints and dense motion on pictures shrunk to 64x64, without encoder and decoder: a tenth of the work.

    Args:
        model: its detector and dense motion are used.
        source: (B, 3, S, S) RGB in [0, 1].
        driving: (B, 3, S, S).
        warp: the equivariance warp.
    """
    with torch.no_grad():
        small = model.keypoint_detector.shrink(torch.cat((source, driving)))
        small_source, small_driving = small.chunk(2)
        transformed = warp.pictures(small_driving)
    detector = model.keypoint_detector
    features = detector.hourglass(torch.cat((small, transformed)))
    source_points, driving_points, transformed_points = _split(
        expected_keypoints(detector.logits(features), detector.jacobians(features)), 3
    )
    heatmaps = gaussian_heatmaps(source_points.value, small_source.shape[-1])
    motion: Motion = model.generator.dense_motion(small_source, heatmaps, source_points, driving_points)
    warped = sample(small_source, motion.deformation)
    return Answer(
        source_points, driving_points, transformed_points, motion, warped, target=small_driving, copied=small_source
    )


def answer_full(model: Mcnet, source: Tensor, driving: Tensor, warp: Warp, autocast: Autocast) -> Answer:
    """The whole network. Arguments as in `answer_motion`.

    The three detections share one pass, and with it the batch statistics of their BatchNorms.
    """
    generator = model.generator
    pictures = torch.cat((source, driving, warp.pictures(driving)))
    source_points, driving_points, transformed_points = _split(model.keypoint_detector(pictures), 3)
    with autocast():
        cache = generator.encode_source(source, source_points)
    # What is sampled goes on in float32; what motion and memory are conditioned on is small, and is taken again in it.
    cache = cache._replace(
        features=tuple(feature.float() for feature in cache.features),
        small=generator.dense_motion.shrink(source),
        memory=None if generator.memory is None else generator.memory.condition(source_points),
    )
    motion = generator.motion(cache, driving_points)
    warped = generator.warp(cache, motion)
    compensations: dict[int, Compensation] = {}
    with autocast():
        logits = generator.decode(cache, warped, compensations)
    return Answer(
        source_points,
        driving_points,
        transformed_points,
        motion,
        warped.picture,
        target=driving,
        copied=source,
        prediction=blend(logits.float(), warped),
        consistency=losses.feature_consistency(list(compensations.values())) if compensations else None,
    )


def _split(keypoints: Keypoints, parts: int) -> list[Keypoints]:
    return [
        Keypoints(value, jacobian)
        for value, jacobian in zip(keypoints.value.chunk(parts), keypoints.jacobian.chunk(parts), strict=True)
    ]


def guidance_weight(config: LossConfig, step: int) -> float:
    """The landmark guidance's weight at a step of the run: from `guidance` linearly to `guidance_late`."""
    progress = min(1.0, step / max(1, config.guidance_steps))
    return config.guidance + (config.guidance_late - config.guidance) * progress


class Terms(NamedTuple):
    """The objective of one step.

    Attributes:
        total: what is minimised.
        weighted: its terms by name, weights included; they sum to `total`.
        readings: figures to read only: the paper's keypoint distance, the warped and predicted L1 as shares of copying
            the source, the mean occlusion.
    """

    total: Tensor
    weighted: dict[str, Tensor]
    readings: dict[str, Tensor]


class Objective:
    """Weighs the losses of an answer.

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

    def terms(
        self, answer: Answer, source: Faces, driving: Faces, warp: Warp, step: int, adversarial: dict[str, Tensor]
    ) -> Terms:
        """The objective of a batch.

        Args:
            answer: of the network.
            source: what it was asked about.
            driving: likewise.
            warp: the equivariance warp.
            step: of the run, for the guidance's weight.
            adversarial: unweighted `gan` and `feature_matching` where a discriminator plays, else empty.
        """
        config = self._config
        target, size_px = answer.target, answer.target.shape[-1]
        weights = losses.region_weights(driving.landmarks, driving.valid, size_px, self._regions)
        weighted: dict[str, Tensor] = {}

        def add(name: str, weight: float, loss: Callable[[], Tensor]) -> None:
            if weight:
                weighted[name] = weight * loss()

        seen, moved = answer.driving, answer.transformed
        add("equivariance_value", config.equivariance_value, lambda: losses.equivariance_value(seen, moved, warp))
        add(
            "equivariance_jacobian",
            config.equivariance_jacobian,
            lambda: losses.equivariance_jacobian(seen, moved, warp),
        )
        add(
            "keypoint_distance",
            config.keypoint_distance,
            lambda: losses.keypoint_distance(answer.source.value) + losses.keypoint_distance(seen.value),
        )
        if self._columns:
            add("guidance", guidance_weight(config, step), lambda: self._guidance(answer, source, driving))
        add("warped", config.warped, lambda: losses.picture_l1(answer.warped, target, weights))
        add(
            "occlusion",
            config.occlusion,
            lambda: losses.occlusion_as_judge(answer.motion.occlusion, answer.warped, target, config.occlusion_price),
        )
        prediction, consistency = answer.prediction, answer.consistency
        if prediction is not None:
            add("l1", config.l1, lambda: losses.picture_l1(prediction, target, weights))
            add("perceptual", config.perceptual, lambda: self._perceptual(prediction, target, weights))
        if consistency is not None:
            add("feature_consistency", config.feature_consistency, lambda: consistency)
        if adversarial:
            add("gan", config.gan, lambda: adversarial["gan"])
            add("feature_matching", config.feature_matching, lambda: adversarial["feature_matching"])
        if not weighted:
            raise DataError("all loss weights of this stage are 0: nothing would be learned")
        return Terms(torch.stack(list(weighted.values())).sum(), weighted, _readings(answer))

    def _guidance(self, answer: Answer, source: Faces, driving: Faces) -> Tensor:
        return losses.landmark_guidance(
            answer.source.value, source.landmarks, source.valid, self._columns
        ) + losses.landmark_guidance(answer.driving.value, driving.landmarks, driving.valid, self._columns)

    def _perceptual(self, prediction: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        def features(picture: Tensor) -> list[Tensor]:
            assert self._backbone is not None
            with self._autocast():
                maps: list[Tensor] = self._backbone(picture)
            return maps

        return losses.perceptual(features, self._pyramid, prediction, target, weights)


@torch.no_grad()
def _readings(answer: Answer) -> dict[str, Tensor]:
    copied = losses.picture_l1(answer.copied, answer.target)
    readings = {
        "keypoint_distance_of_paper": losses.keypoint_distance_of_paper(answer.source.value)
        + losses.keypoint_distance_of_paper(answer.driving.value),
        "copied_l1": copied,
        "warped_l1": losses.picture_l1(answer.warped, answer.target),
        "occlusion_mean": answer.motion.occlusion.mean(),
    }
    if answer.prediction is not None:
        readings["predicted_l1"] = losses.picture_l1(answer.prediction, answer.target)
    return readings
