"""The generator: encode a source once, then warp, compensate and decode it for each driving frame (paper section 3)."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mcnet.arrays import Keypoints, SourceCache
from mcnet.config import MOTION_SIZE_PX, McnetConfig
from mcnet.dense_motion import DenseMotion, Motion
from mcnet.geometry import gaussian_heatmaps, resize_aligned, resize_deformation, sample
from mcnet.keypoints import KeypointDetector
from mcnet.layers import DownBlock, ResBlock, SameBlock, UpBlock
from mcnet.memory import Compensation, MemoryCompensation
from mcnet.model_file import ModelInfo, meant_landmarks, places_suffice


class Warped(NamedTuple):
    """The source as the motion shows it.

    Attributes:
        features: one per level, lowest resolution first, occluded.
        picture: (B, 3, size_px, size_px), not occluded.
        occlusion: (B, 1, size_px, size_px).
    """

    features: tuple[Tensor, ...]
    picture: Tensor
    occlusion: Tensor


class Inspection(NamedTuple):
    """What an inspector wants to see of one frame; see `Generator.inspect`.

    Attributes:
        prediction: (B, 3, size_px, size_px) RGB in [0, 1].
        generated: likewise, what the decoder made; `prediction` shows it where the occlusion map does not trust the
            warp.
        motion: at 64 px.
        warped: the source's features and picture, sampled.
        compensations: by the side of the compensated map in pixels.
    """

    prediction: Tensor
    generated: Tensor
    motion: Motion
    warped: Warped
    compensations: dict[int, Compensation]


class Generator(nn.Module):
    """Animates a source by the difference between two sets of keypoints."""

    def __init__(self, config: McnetConfig) -> None:
        super().__init__()
        self.dense_motion = DenseMotion(config)
        self.border = config.border
        widths = config.encoder_widths
        self.first = SameBlock(3, widths[0], kernel=7)
        self.down_blocks = nn.ModuleList(DownBlock(wide, wider) for wide, wider in itertools.pairwise(widths))
        self.laterals: nn.ModuleList | None = None
        if config.lateral:
            self.laterals = nn.ModuleList(
                nn.Conv2d(encoded, decoded, 1)
                for encoded, decoded in zip(reversed(widths), config.decoder_widths, strict=True)
            )
        self.memory = MemoryCompensation(config) if config.memory.levels_px else None
        self.memory_levels_px = frozenset(config.memory.levels_px)
        self.res_stages = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        for level, count in enumerate(config.resblocks):
            # Above the lowest level a stage reads [decoded, warped], both of the level's width.
            stage_width = config.decoder_widths[level] * (1 if level == 0 else 2)
            self.res_stages.append(nn.Sequential(*(ResBlock(stage_width) for _ in range(count))))
            self.up_blocks.append(UpBlock(stage_width, config.decoder_widths[level + 1]))
        self.final = nn.Conv2d(config.decoder_widths[-1], 3, config.output_kernel, padding=config.output_kernel // 2)

    def encode_source(self, picture: Tensor, keypoints: Keypoints) -> SourceCache:
        """Compute once per source what its frames share.

        Args:
            picture: (B, 3, size_px, size_px) float RGB in [0, 1].
            keypoints: the detector's, of that picture.
        """
        features = [self.first(picture)]
        for down in self.down_blocks:
            features.append(down(features[-1]))
        features.reverse()
        if self.laterals is not None:
            features = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        return SourceCache(
            picture=picture,
            small=self.dense_motion.shrink(picture),
            keypoints=keypoints,
            heatmaps=gaussian_heatmaps(keypoints.value, MOTION_SIZE_PX),
            features=tuple(features),
            memory=None if self.memory is None else self.memory.condition(keypoints),
        )

    def forward(self, cache: SourceCache, driving: Keypoints) -> Tensor:
        """Animate.

        Args:
            cache: the source, from `encode_source`.
            driving: keypoints that the source shall take.

        Returns:
            The prediction, (B, 3, size_px, size_px) RGB in [0, 1].
        """
        warped = self.warp(cache, self.motion(cache, driving))
        return blend(self.decode(cache, warped), warped)

    def inspect(self, cache: SourceCache, driving: Keypoints) -> Inspection:
        """`forward`, with everything kept that shows what the network saw."""
        motion = self.motion(cache, driving)
        warped = self.warp(cache, motion)
        compensations: dict[int, Compensation] = {}
        logits = self.decode(cache, warped, compensations)
        return Inspection(blend(logits, warped), torch.sigmoid(logits), motion, warped, compensations)

    def motion(self, cache: SourceCache, driving: Keypoints) -> Motion:
        """The dense motion from the source to the driving keypoints."""
        motion = self.dense_motion(cache.small, cache.heatmaps, cache.keypoints, driving)
        assert isinstance(motion, Motion)
        return motion

    def warp(self, cache: SourceCache, motion: Motion) -> Warped:
        """Sample the source's features and picture by the deformation; features times the occlusion map."""
        features = []
        for feature in cache.features:
            size_px = feature.shape[-1]
            deformation = resize_deformation(motion.deformation, size_px)
            occlusion = resize_aligned(motion.occlusion, size_px)
            features.append(self._sample(feature, deformation) * occlusion)
        # The last level is the picture's own size: its deformation and occlusion serve the picture as well.
        return Warped(tuple(features), self._sample(cache.picture, deformation), occlusion)

    def _sample(self, maps: Tensor, deformation: Tensor) -> Tensor:
        return sample(_like(maps, deformation), deformation, self.border)

    def decode(self, cache: SourceCache, warped: Warped, trace: dict[int, Compensation] | None = None) -> Tensor:
        """Warped features -> logits of the generated picture, (B, 3, size_px, size_px), before `blend`.

        Args:
            cache: the source, for its keypoints and memory.
            warped: what `warp` gave.
            trace: if given, filled with the compensation of each level.
        """
        x = self._compensate(cache, warped.features[0], trace)
        for level, (stage, up) in enumerate(zip(self.res_stages, self.up_blocks, strict=True), start=1):
            x = up(stage(x))
            if level < len(self.up_blocks):
                x = torch.cat((x, self._compensate(cache, warped.features[level], trace)), dim=1)
        logits: Tensor = self.final(x * (1 - warped.occlusion) + warped.features[-1])
        return logits

    def _compensate(self, cache: SourceCache, feature: Tensor, trace: dict[int, Compensation] | None) -> Tensor:
        size_px = feature.shape[-1]
        if self.memory is None or size_px not in self.memory_levels_px:
            return feature
        if trace is None:
            compensated: Tensor = self.memory(feature, cache.keypoints, cache.memory)
            return compensated
        trace[size_px] = self.memory.trace(feature, cache.keypoints, cache.memory)
        return trace[size_px].compensated


def blend(logits: Tensor, warped: Warped) -> Tensor:
    """The warped source where the warp is trusted, the generated picture (sigmoid of `logits`) elsewhere."""
    return torch.sigmoid(logits) * (1 - warped.occlusion) + warped.picture * warped.occlusion


def _like(maps: Tensor, deformation: Tensor) -> Tensor:
    """One source may be driven by a batch of frames."""
    return maps.expand(len(deformation), -1, -1, -1)


class Mcnet(nn.Module):
    """The whole network: a keypoint detector and a generator.

    Attributes:
        config: what it was built from.
        info: what is known about its weights.
    """

    def __init__(self, config: McnetConfig, info: ModelInfo | None = None) -> None:
        super().__init__()
        self.config = config
        self.info = info or ModelInfo()
        self.keypoint_detector = KeypointDetector(config)
        self.generator = Generator(config)

    @property
    def places_suffice(self) -> bool:
        """Whether jacobians follow from measured places, so that nothing has to be detected."""
        return places_suffice(self)

    def encode_source(self, picture: Tensor) -> SourceCache:
        """Detect the keypoints of (B, 3, size_px, size_px) RGB in [0, 1] and cache everything about it."""
        return self.generator.encode_source(picture, self.keypoint_detector(picture))

    @property
    def keypoint_landmarks(self) -> tuple[int, ...]:
        """Which points of the face mesh the keypoints are, in their order; empty where they mean nothing."""
        return meant_landmarks(self)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        """Animate pictures by pictures with absolute keypoints: both (B, 3, size_px, size_px) RGB in [0, 1]."""
        prediction: Tensor = self.generator(self.encode_source(source), self.keypoint_detector(driving))
        return prediction
