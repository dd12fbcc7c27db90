"""The methods that an evaluation compares: how a picture comes of a source, a reference and a driving frame.

A model whose keypoints are points of the face is animated by measured keypoints, as people get it, and beside that by
what its own detector finds; across people in space, as people get it, and in the picture's plane. What people get in
space is retouched (`mcnet.media.retouch`); the network alone stands beside it as "unretouched". Any other model is
animated by its detector alone. Beside them stand two methods that cost nothing: the source itself, and the source
warped by the model's motion without what the decoder adds.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mcnet.arrays import Keypoints, Rgb, SourceCache
from mcnet.commands.drives import Drive, PlaneDrive, Shot, SpaceDrive, Unretouched
from mcnet.engine import Engine
from mcnet.generator import Mcnet, blend
from mcnet.model_file import driven_as_trained, with_own_jacobians
from mcnet.pictures import to_picture, to_rgb
from mcnet.pose import adapted_scale, relative_keypoints
from training.evaluate.blending import BlendL1, Composition, blend_l1
from training.evaluate.scores import COPY

_SELF_METHODS = {True: ("measured", "detected", "warp", COPY), False: ("model", "warp", COPY)}
_CROSS_METHODS = {True: ("space", "unretouched", "plane", COPY), False: ("model", "warp", COPY)}
_MEASURED = frozenset({"measured", "space", "unretouched", "plane"})
_IN_SPACE = frozenset({"space", "unretouched"})
_WITHOUT_ENGINE = frozenset({"warp", COPY})


class Performed(NamedTuple):
    """A method's picture of a driving frame.

    Attributes:
        rgb: (S, S, 3).
        engine_ms: what the engine took, and the retouching of its picture; None for methods that need no engine.
    """

    rgb: Rgb
    engine_ms: float | None


class MethodRunner:
    """Makes the methods' pictures.

    Attributes:
        engine: of the model.
        measures: whether the model's keypoints are points of the face, so that the face mesh can measure them.
        plain: the model as it is written down, for what the engine does not show.
        detected_instead: scenes whose keypoints were detected though they should have been measured, as the source or
            the reference shows no face; counted once for each method.
        held: frames without a face that could be measured, for which the picture before was held, likewise.
        unretouched: frames that could not be retouched, and why the first of them could not.
    """

    def __init__(self, model: Mcnet, engine: Engine) -> None:
        self.measures = bool(engine.keypoint_landmarks)
        self.plain = PlainModel(model, engine)
        self.detected_instead = 0
        self.held = 0
        self.unretouched = Unretouched()
        self.engine = engine

    def methods(self, *, of_self: bool) -> tuple[str, ...]:
        """What is compared, and first of all what people get.

        Args:
            of_self: in self-reenactment; else in cross-identity.
        """
        methods = (_SELF_METHODS if of_self else _CROSS_METHODS)[self.measures]
        return tuple(method for method in methods if method != "detected" or self.engine.detects)

    @property
    def still_methods(self) -> tuple[str, ...]:
        """By which a performer's restlessness is told: one for each way to find keypoints."""
        if not self.measures:
            return ("model",)
        return ("measured", "detected") if self.engine.detects else ("measured",)

    def perform(
        self, method: str, source: Shot, reference: Shot | None, performers: Sequence[Shot]
    ) -> Iterator[Performed]:
        """One picture after the other. Finish one performance before the next begins: they share the engine.

        As in `mcnet animate`, a frame without a face that can be measured holds the picture before it (at the start,
        the source), and a source or reference without one is animated by detected keypoints; by a model that cannot
        detect any it is not animated.

        Args:
            method: one of `methods`.
            source: who is animated.
            reference: the performer's frame from which relative motion starts; None: absolute keypoints.
            performers: the driving frames.
        """
        drive = self._drive(method, source, reference)
        shown = source.square
        for performer in performers:
            started = time.perf_counter()
            if drive.measures and performer.face is None:
                self.held += 1
            else:
                shown = drive.pictures([performer])[0]
            elapsed_ms = 1000 * (time.perf_counter() - started)
            yield Performed(shown, None if method in _WITHOUT_ENGINE else elapsed_ms)
        if isinstance(drive, SpaceDrive):
            before, now = self.unretouched, drive.unretouched
            self.unretouched = Unretouched(before.frames + now.frames, before.reason or now.reason)

    def blends(self, source: Shot, performers: Sequence[Shot]) -> list[BlendL1 | None]:
        """How the blend compares with its parts in self-reenactment, by the plain model in float32.

        Args:
            source: who is animated, by absolute keypoints: measured ones if the model's can be measured on the source.
            performers: the driving frames.

        Returns:
            For each driving frame; None where it shows no face that can be measured.
        """
        plain, measured = self.plain, self.measures and source.face is not None
        cache = plain.encode(source, measured=measured)

        def blend_of(performer: Shot) -> BlendL1 | None:
            if measured and performer.face is None:
                return None
            driving = plain.keypoints(performer, measured=measured)
            if measured:
                driving = plain.as_trained(driving, cache)
            return blend_l1(plain.compose(cache, driving), cache.picture, plain.picture(performer))

        return [blend_of(performer) for performer in performers]

    def _drive(self, method: str, source: Shot, reference: Shot | None) -> Drive:
        if method == COPY:
            return _CopyDrive(source)
        measured = method in _MEASURED or (method == "warp" and self.measures)
        if measured and (source.face is None or (reference is not None and reference.face is None)):
            if not self.engine.detects:
                return _CopyDrive(source)
            self.detected_instead += 1
            measured = False
        if method == "warp":
            return _WarpDrive(self.plain, source, reference, measured=measured)
        if method in _IN_SPACE and measured:
            assert reference is not None
            return SpaceDrive(self.engine, source, reference, retouch=method == "space")
        return PlaneDrive(self.engine, source, reference, measured=measured, adapt_scale=True)


class PlainModel:
    """The model without the engine: keypoints, motion and warp.

    Args:
        model: in evaluation mode; it is moved to the engine's device.
        engine: of the same model.
    """

    def __init__(self, model: Mcnet, engine: Engine) -> None:
        self._device = torch.device(engine.choice.device)
        self._points = list(engine.keypoint_landmarks)
        self._model = model.to(self._device)

    @torch.inference_mode()
    def keypoints(self, shot: Shot, *, measured: bool) -> Keypoints:
        """Of one picture, batch 1; with measured places the jacobians are as the model was trained."""
        keypoints: Keypoints = self._model.keypoint_detector(self.picture(shot))
        if not measured:
            return keypoints
        value = torch.from_numpy(shot.places(self._points)[None]).to(keypoints.value)
        return with_own_jacobians(self._model.info, keypoints._replace(value=value))

    def as_trained(self, driving: Keypoints, source: SourceCache) -> Keypoints:
        """Measured driving keypoints, their jacobians as the model was trained to see them."""
        return driven_as_trained(self._model.info, driving, source.keypoints)

    @torch.inference_mode()
    def encode(self, source: Shot, *, measured: bool) -> SourceCache:
        """The cache of a source."""
        return self._model.generator.encode_source(self.picture(source), self.keypoints(source, measured=measured))

    @torch.inference_mode()
    def deformation(self, source: SourceCache, driving: Keypoints) -> NDArray[np.float32]:
        """(h, w, 2) xy in [-1, 1]: where in the source each place of the picture looks."""
        deformation: NDArray[np.float32] = self._model.generator.motion(source, driving).deformation[0].cpu().numpy()
        return deformation

    @torch.inference_mode()
    def warp(self, source: SourceCache, driving: Keypoints) -> Rgb:
        """(S, S, 3): the source's picture, warped."""
        generator = self._model.generator
        warped = generator.warp(source, generator.motion(source, driving)).picture
        rgb: Rgb = to_rgb(warped)[0].cpu().numpy()
        return rgb

    @torch.inference_mode()
    def compose(self, source: SourceCache, driving: Keypoints) -> Composition:
        """The prediction with the two pictures that it is blended of."""
        generator = self._model.generator
        warped = generator.warp(source, generator.motion(source, driving))
        logits = generator.decode(source, warped)
        return Composition(blend(logits, warped), warped.picture, torch.sigmoid(logits))

    def picture(self, shot: Shot) -> torch.Tensor:
        """(1, 3, S, S) RGB in [0, 1], on the model's device."""
        return to_picture(torch.from_numpy(np.ascontiguousarray(shot.square))[None].to(self._device))


class _WarpDrive:
    """The warped source, by the motion in the picture's plane."""

    name = "warp only"

    def __init__(self, plain: PlainModel, source: Shot, reference: Shot | None, *, measured: bool) -> None:
        self.measures = measured
        self._plain = plain
        self._source = plain.encode(source, measured=measured)
        self._reference = None if reference is None else plain.keypoints(reference, measured=measured)

    def pictures(self, shots: Sequence[Shot]) -> Rgb:
        return np.stack([self._picture(self._plain.keypoints(shot, measured=self.measures)) for shot in shots])

    def _picture(self, driving: Keypoints) -> Rgb:
        own, reference = self._source.keypoints, self._reference
        if reference is not None:
            driving = relative_keypoints(own, driving, reference, adapted_scale(own, reference))
        if self.measures:
            driving = self._plain.as_trained(driving, self._source)
        return self._plain.warp(self._source, driving)


class _CopyDrive:
    """The source as it is."""

    name = "copy source"
    measures = False

    def __init__(self, source: Shot) -> None:
        self._source = source.square

    def pictures(self, shots: Sequence[Shot]) -> Rgb:
        return np.stack([self._source] * len(shots))
