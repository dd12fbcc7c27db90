"""The engine: the only place that knows about speed.

It runs a rewritten copy of a model, picture in and picture out, on one thread. It does not find or crop faces, does not
smooth motion, and knows no clock: frames are squares that show a face as the training clips do.
"""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mcnet.allocator import keep_freed_memory
from mcnet.arrays import Array, Flow, Keypoints, Rgb, SourceCache
from mcnet.config import MIN_SIDE_PX, McnetConfig
from mcnet.engine.backends import Backend, Preparation, Rendered
from mcnet.engine.device import (
    DeviceChoice,
    EngineError,
    EngineOptions,
    chosen_backend,
    require_torch,
    threads_of,
    why_no_torch,
)
from mcnet.model_file import ModelFile, driven_as_trained, refuse_wrong_shapes, with_own_jacobians
from mcnet.phrases import listed, phrase
from mcnet.pose import adapted_scale, relative_keypoints

if TYPE_CHECKING:
    from mcnet.engine.torch_backend import TorchBackend
    from mcnet.generator import Mcnet

logger = logging.getLogger(__name__)

T = TypeVar("T")
Places = NDArray[np.floating[Any]]
"""(K, 2) xy in [-1, 1]: where keypoints were measured."""


class Engine:
    """Animates one source after another, frame by frame.

    Create it, call it and drop it on one thread. Everything that it takes and gives is numpy's, wherever it computes;
    torch is imported where torch computes, and nowhere else. Its backend holds no buffers of its own: what a frame
    frees, the next one gets again from the allocator, glibc's (see `EngineOptions.keep_memory`) or torch's on a GPU.

    Attributes:
        config: of the model.
        model_name: from the model's file.
        content_hash: of its weights, as its file has it; "" where it has none.
        choice: device and precision, with the reason.
        backend_reason: why `backend_name` computes, or what keeps a faster one from it; for people.
        source: the cache in use, or None before `set_source`.
        fingerprint: of weights and precision; a source cached under another one is refused.
        keypoint_landmarks: which points of the face mesh the model's keypoints are, in their order (of its 468, or of
            the ten on the irises behind them). Places of such a model may be measured by a mesh, at the camera's
            resolution, instead of detected on 64 px; their jacobians are the detector's, or follow from the places, as
            the model was trained. Empty where the keypoints mean nothing.
        linear_jacobians: the map from places to jacobians that motion in space takes; empty where the model has none.
        places_suffice: whether the jacobians follow from measured places, so that reference pose and driving frames
            need no picture, and nothing is detected.
        detects: whether keypoints may be detected; if not, they have to be measured.
    """

    def __init__(self, model: "Mcnet | ModelFile", options: EngineOptions | None = None) -> None:
        """Take the weights that `model` has now (it stays as it is), and get ready.

        Raises:
            CheckpointError: the weights are not those of the model's configuration.
            EngineError: device, precision or backend that were asked for cannot be had, or the model gives NaN while
                it warms up.
        """
        options = options or EngineOptions()
        self._model = model if isinstance(model, ModelFile) else ModelFile.of(model)
        info = self._model.info
        refuse_wrong_shapes(self._model.config, self._model.weights, f"model {info.name}")
        self.config: McnetConfig = self._model.config
        self.model_name = info.name
        self.content_hash = info.content_hash
        self.keypoint_landmarks = self._model.keypoint_landmarks
        self.linear_jacobians = self._model.info.linear_jacobians if self.keypoint_landmarks else ()
        self.places_suffice = self._model.places_suffice
        self.detects = self._model.detects
        self._options = options
        self._threads = threads_of(options)
        self.choice = DeviceChoice.of(options, info)
        self.source: SourceCache[Array] | None = None
        self._reference: Keypoints[Array] | None = None
        self._reference_measured = False
        self._scale: float | None = None
        self._thread = threading.get_ident()
        if options.keep_memory and not self.choice.on_gpu:
            keep_freed_memory()
        # Of the weights at hand: a model's `info` tells of its file, and training may have gone on since.
        self.fingerprint = f"{self._model.hash_in_float32}/{self.choice.dtype}"
        logger.info("model %s runs on %s", self.model_name, self.choice.reason)
        self.backend_reason = phrase("as asked")
        self._torch: TorchBackend | None = None
        self._backend: Backend | None = None
        self._preparation: Preparation | None = None
        self._choose_backend(options)
        if self._preparation is None and self.backend_name != "openvino":  # which has warmed up by itself
            has_to_record = options.backend == "cudagraph"
            self._warm_up(max(1, options.warm_up_frames) if has_to_record else options.warm_up_frames)
            if has_to_record and self.backend_name != "cudagraph":
                raise EngineError(
                    phrase(
                        "backend: got 'cudagraph', but {reason}; use backend auto or torch",
                        reason=self.backend_reason,
                    )
                )

    @property
    def backend_name(self) -> str:
        """What computes: `torch`, `openvino` or `cudagraph`; while OpenVINO is being made ready, that it will."""
        return "openvino" if self._backend is None else self._backend.name

    @property
    def backend(self) -> Backend:
        """What computes, for those who measure it; waits until it is ready."""
        return self._ready()

    def settle(self) -> str:
        """Wait until what is being made ready in the background is, or failed; the next call would wait as well.

        Returns:
            `backend_name` from now on.

        Raises:
            EngineError: it failed, and torch is not there to go on.
        """
        self._check_thread()
        return self._ready().name

    @property
    def stand_in_places(self) -> Places | None:
        """(K, 2) made-up places for those who warm up or measure without a face; None where keypoints are detected."""
        if not self.places_suffice:
            return None
        return np.random.default_rng(0).uniform(-0.5, 0.5, (self.config.num_keypoints, 2))

    def set_source(
        self, source: NDArray[np.uint8] | SourceCache[Array], places: Places | None = None
    ) -> SourceCache[Array]:
        """Choose who is animated.

        Args:
            source: (H, W, 3) uint8 RGB, at least 64 px per side (of a picture that is not square the central square is
                taken), or a cache that this method gave before.
            places: (K, 2) xy in [-1, 1] of the square, corner-aligned: the keypoints as a face mesh measured them, for
                a model with `keypoint_landmarks`. None: the model detects them. Source, reference pose and driving
                frames are to be measured alike. Goes with a picture only, as a cache holds its keypoints.

        Returns:
            The cache: keep it, and setting it again costs nothing.

        Raises:
            EngineError: the picture or the places cannot be used, or the cache is of another model or precision.
        """
        self._check_thread()
        if isinstance(source, SourceCache):
            if source.fingerprint != self.fingerprint:
                raise EngineError(
                    f"the source was cached for {source.fingerprint[:12] or 'the plain model'}..., expected "
                    f"{self.fingerprint[:12]}... (this model and precision): set the picture itself again"
                )
            if not (source.measured or self.detects):
                raise EngineError(f"the source's keypoints were detected: {self._why_measured}")
            cache = source
        else:
            rgb = self._picture(source)[None]
            keypoints = self._keypoints([source], None if places is None else [places])
            self._require_finite(keypoints, "keypoints of the source")
            cache = self._compute(lambda backend: backend.encode(rgb, keypoints))
            cache = cache._replace(fingerprint=self.fingerprint, measured=places is not None)
        self.source = cache
        self._scale = None
        return cache

    def calibrate(self, driving: NDArray[np.uint8] | None, places: Places | None = None) -> None:
        """Take a frame of the performer, best with a neutral face, as the reference pose for relative motion.

        Args:
            driving: (H, W, 3) uint8 RGB, at least 64 px per side; None where places suffice.
            places: (K, 2), measured in that picture; see `set_source`.

        Raises:
            EngineError: the picture or the places cannot be used; the reference pose before it stays.
        """
        reference = self.detect(driving, places)
        self._require_finite(reference, "keypoints of the reference pose")
        self._reference, self._reference_measured = reference, places is not None
        self._scale = None

    def detect(self, picture: NDArray[np.uint8] | None, places: Places | None = None) -> Keypoints[Array]:
        """The keypoints of a picture, for a caller who moves them before `render`.

        Args:
            picture: (H, W, 3) uint8 RGB, at least 64 px per side; None where `places_suffice`.
            places: (K, 2), measured in that picture; see `set_source`. The model then adds the jacobians.

        Returns:
            Batch 1, float32.

        Raises:
            EngineError: the picture or the places cannot be used.
        """
        self._check_thread()
        return self._keypoints(None if picture is None else [picture], None if places is None else [places])

    def _keypoints(
        self, pictures: Sequence[NDArray[np.uint8]] | None, places: Sequence[Places] | None
    ) -> Keypoints[Array]:
        """Of B pictures: detected, or at measured places if they are given. No picture is looked at where these
        suffice.
        """
        if any(given is not None and not len(given) for given in (pictures, places)):
            raise EngineError("frames: got none, expected one at least, as pictures or as places")
        measured = None
        if places is not None:
            measured = self._places(places, len(places) if pictures is None else len(pictures))
            if self.places_suffice:
                return with_own_jacobians(self._model.info, Keypoints(measured, np.empty(0, np.float32)))
        elif not self.detects:
            raise EngineError(f"places: got none: {self._why_measured}")
        if pictures is None:
            raise EngineError(
                f"picture: got none, expected one: model {self.model_name} detects "
                f"{'keypoints' if measured is None else 'jacobians'} in it"
            )
        rgb = np.stack([self._picture(picture) for picture in pictures])
        detected = self._compute(lambda backend: backend.detect(rgb))
        return detected if measured is None else detected._replace(value=measured)

    @property
    def _why_measured(self) -> str:
        return (
            f"model {self.model_name} was trained on measured keypoints only and cannot detect any; expected the "
            f"places of {self.config.num_keypoints} points of the face mesh: take a picture that shows a face, or "
            "another model"
        )

    def _places(self, places: Sequence[Places], pictures: int) -> NDArray[np.float32]:
        """Check measured places: (B, K, 2)."""
        if not self.keypoint_landmarks:
            raise EngineError(
                f"places: got measured ones, but nothing says which points of a face the keypoints of model "
                f"{self.model_name} are, so they can only be detected: leave places out"
            )
        shape = (self.config.num_keypoints, 2)
        found = [np.asarray(one) for one in places]
        if len(found) != pictures or any(one.shape != shape or not np.isfinite(one).all() for one in found):
            raise EngineError(
                phrase(
                    "places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers",
                    given=len(found),
                    got=listed(sorted({str(one.shape) for one in found})) or phrase("none"),
                    pictures=pictures,
                    shape=shape,
                )
            )
        return np.stack(found).astype(np.float32)

    def render(self, driving: Keypoints[Array]) -> NDArray[np.uint8]:
        """The source, taking the given keypoints.

        Args:
            driving: (1, K, 2) and (1, K, 2, 2) float32, or what becomes that.

        Returns:
            (size_px, size_px, 3) uint8 RGB, a fresh array.

        Raises:
            EngineError: there is no source, the keypoints are of another shape, or they or the model's answer are NaN.
        """
        rgb: Rgb = self.render_batch(driving)[0]
        return rgb

    def render_batch(self, driving: Keypoints[Array]) -> NDArray[np.uint8]:
        """Likewise for several frames at once: (B, K, 2) and (B, K, 2, 2) -> (B, size_px, size_px, 3).

        Where the source was measured and the model's jacobians follow from the places, those given count for nothing;
        and lids squeeze the irises of a model that was trained so.
        """
        return self._rendered(driving, with_flow=False).rgb

    def render_with_flow(self, driving: Keypoints[Array]) -> tuple[NDArray[np.uint8], Flow]:
        """`render_batch`, with the flow that moved the source: for whoever moves something else along with it.

        Returns:
            (B, size_px, size_px, 3) uint8 RGB, and the flow of these frames; fresh arrays.

        Raises:
            EngineError: as `render`.
        """
        rendered = self._rendered(driving, with_flow=True)
        assert rendered.flow is not None
        return rendered.rgb, rendered.flow

    def _rendered(self, driving: Keypoints[Array], *, with_flow: bool) -> Rendered:
        self._check_thread()
        if self.source is None:
            raise EngineError("render: got no source, expected one: call set_source(rgb) first")
        source, driving = self.source, self._as_rendered(driving)
        if source.measured:
            driving = driven_as_trained(self._model.info, driving, source.keypoints)
        rendered = self._compute(lambda backend: backend.render(source, driving, with_flow=with_flow))
        if not math.isfinite(rendered.witness):
            raise EngineError(
                phrase(
                    "model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use "
                    "precision fp32 or another model; the frame is not shown",
                    model=self.model_name,
                )
            )
        return rendered

    def _as_rendered(self, keypoints: Keypoints[Array]) -> Keypoints[Array]:
        """Keypoints as every backend takes them: (B, K, 2) and (B, K, 2, 2) float32, B at least 1."""
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is not shown
                value, jacobian = (np.asarray(part, np.float32) for part in keypoints)
        except (TypeError, ValueError) as error:
            raise EngineError(f"keypoints: got {error}; expected a value and a jacobian of numbers") from error
        count = self.config.num_keypoints
        batch = len(value) if value.ndim else 0
        if not batch or value.shape != (batch, count, 2) or jacobian.shape != (batch, count, 2, 2):
            raise EngineError(
                f"keypoints: got shapes {value.shape} and {jacobian.shape}, expected (B, {count}, 2) and "
                f"(B, {count}, 2, 2) of at least one frame: those of model {self.model_name}, with the axis of frames"
            )
        return Keypoints(value, jacobian)

    def animate(
        self,
        driving: NDArray[np.uint8] | None,
        places: Places | None = None,
        *,
        relative: bool = True,
        adapt_scale: bool = True,
    ) -> NDArray[np.uint8]:
        """Animate the source by one frame.

        Args:
            driving: (H, W, 3) uint8 RGB, at least 64 px per side; None where `places_suffice`.
            places: (K, 2), measured in that picture; see `set_source`.
            relative: move the source as the performer moved since the reference pose; otherwise the source takes the
                performer's keypoints as they are, which suits a source and a performer who are the same person.
            adapt_scale: with `relative`, scale the motion by the size of the source's face over the performer's.

        Returns:
            (size_px, size_px, 3) uint8 RGB, a fresh array.

        Raises:
            EngineError: there is no source, or no reference pose for relative motion; the picture or the places cannot
                be used, or are measured where the source's or the reference's are not; or the model gave NaN.
        """
        measured = None if places is None else [places]
        pictures = None if driving is None else [driving]
        rgb: Rgb = self.animate_batch(pictures, measured, relative=relative, adapt_scale=adapt_scale)[0]
        return rgb

    def animate_batch(
        self,
        driving: Sequence[NDArray[np.uint8]] | None,
        places: Sequence[Places] | None = None,
        *,
        relative: bool = True,
        adapt_scale: bool = True,
    ) -> NDArray[np.uint8]:
        """Animate the source by several frames at once: for a GPU that one frame does not fill, and no live video.

        Args:
            driving: at least one, each as `animate` takes it; None where `places_suffice`.
            places: as many, likewise.
            relative: as in `animate`.
            adapt_scale: as in `animate`.

        Returns:
            (B, size_px, size_px, 3) uint8 RGB, a fresh array.

        Raises:
            EngineError: as `animate`.
        """
        return self.render_batch(self.drive(driving, places, relative=relative, adapt_scale=adapt_scale))

    def drive(
        self,
        driving: Sequence[NDArray[np.uint8]] | None,
        places: Sequence[Places] | None = None,
        *,
        relative: bool = True,
        adapt_scale: bool = True,
    ) -> Keypoints[Array]:
        """The keypoints that `animate_batch` has the source take, batch B; arguments as there.

        Raises:
            EngineError: as `animate`.
        """
        self._check_thread()
        if self.source is None:
            raise EngineError("animate: got no source, expected one: call set_source(rgb) first")
        if relative and self._reference is None:
            raise EngineError(
                "animate: got no reference pose, expected one for relative motion: call calibrate(rgb) with a frame of "
                "the performer first, or pass relative=False"
            )
        alike = {"source": self.source.measured, "driving frame": places is not None}
        if relative:
            alike["reference pose"] = self._reference_measured
        if len(set(alike.values())) > 1:
            told = ", ".join(f"{what} {'measured' if is_so else 'detected'}" for what, is_so in alike.items())
            raise EngineError(
                f"places: got {told}; expected all alike, as the two differ by some pixels: pass places to set_source, "
                "calibrate and animate, or to none of them"
            )
        keypoints = self._keypoints(driving, places)
        if relative:
            keypoints = self._relative(self.source, keypoints, adapt_scale)
        return keypoints

    def _relative(self, cache: SourceCache[Array], driving: Keypoints[Array], adapt_scale: bool) -> Keypoints[Array]:
        assert self._reference is not None
        if adapt_scale and self._scale is None:
            try:
                self._scale = adapted_scale(cache.keypoints, self._reference)
            except ValueError as error:
                raise EngineError(f"{error}; calibrate with another frame") from error
        scale = self._scale if adapt_scale and self._scale is not None else 1.0
        return relative_keypoints(cache.keypoints, driving, self._reference, scale)

    def _choose_backend(self, options: EngineOptions) -> None:
        """Make what shall compute, or begin to.

        Raises:
            EngineError: it was asked for by name and cannot be had, or nothing here computes.
        """
        wanted, reason = chosen_backend(self.choice, options)
        self.backend_reason = reason or self.backend_reason
        if wanted == "torch":
            logger.info("torch computes: %s", self.backend_reason)
            self._backend = self._torch_backend()
        elif wanted == "cudagraph":
            from mcnet.engine.cuda_graph import CudaGraphBackend

            self._backend = CudaGraphBackend(self._torch_backend())
        else:
            self._prepare_openvino(asked=not reason)

    def _prepare_openvino(self, *, asked: bool) -> None:
        """Begin to make it ready in the background; wait for it if it was asked for.

        Raises:
            EngineError: it was asked for and fails.
        """

        def make() -> Backend:
            from mcnet.engine.openvino_backend import OpenVinoBackend

            return OpenVinoBackend(
                self._model, self.choice.dtype, self._threads, int8=self.choice.int8, device=self.choice.device
            )

        self._preparation = Preparation(make)
        if asked:
            self._preparation.wait()
            if self._preparation.failure is not None:
                raise EngineError(
                    phrase("backend: OpenVINO failed: {failure}", failure=self._preparation.failure)
                ) from (self._preparation.failure)
            self._ready()

    def _ready(self) -> Backend:
        """What computes; waits for it if it is being prepared."""
        if (preparation := self._preparation) is not None:
            preparation.wait()
            self._preparation = None
            self._backend = preparation.backend
            if self._backend is None:
                self._go_on_with_torch(phrase("openvino cannot be used: {failure}", failure=preparation.failure))
        assert self._backend is not None
        return self._backend

    def _compute(self, call: Callable[[Backend], T]) -> T:
        """Ask the backend; one that fails is given up, and torch answers."""
        backend = self._ready()
        try:
            return call(backend)
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and whatever CUDA says of a recording
            if backend is self._torch:
                if self.choice.kind == "mps" and isinstance(error, NotImplementedError):
                    raise EngineError(
                        phrase(
                            "torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, "
                            "or a newer torch",
                            error=str(error).partition(".")[0],
                        )
                    ) from error
                raise
            reason = phrase("{name} failed: {error}", name=backend.name, error=error)
        # Not in the handler: the error holds on to the memory of what failed, which torch may need.
        del backend
        return call(self._go_on_with_torch(reason))

    def _go_on_with_torch(self, reason: str) -> "TorchBackend":
        """Take torch in place of what failed.

        Raises:
            EngineError: it is not there.
        """
        if self.choice.kind == "gpu":
            raise EngineError(
                phrase(
                    "{reason}; nothing else computes on {device}: use device cpu",
                    reason=reason,
                    device=self.choice.device,
                )
            )
        if lack := why_no_torch():
            raise EngineError(
                phrase(
                    "{reason}; {lack}, so that nothing else computes: install it, or mend that",
                    reason=reason,
                    lack=lack,
                )
            )
        self.backend_reason = reason
        logger.warning("torch goes on: %s", reason)
        self._backend = torch_backend = self._torch_backend()
        return torch_backend

    def _torch_backend(self) -> "TorchBackend":
        """Torch's own, made when it is first wanted.

        Raises:
            EngineError: torch is not there.
        """
        require_torch(self.choice)
        if self._torch is None:
            import torch

            from mcnet.checkpoint import assemble
            from mcnet.engine.torch_backend import DTYPES, TorchBackend

            if self._options.threads is not None:
                torch.set_num_threads(self._options.threads)
            device = torch.device(self.choice.device)
            self._torch = TorchBackend(assemble(self._model), device, DTYPES[self.choice.dtype])
        return self._torch

    def _picture(self, rgb: Rgb) -> Rgb:
        """Check a picture and bring it to the model's size: (size_px, size_px, 3) uint8 RGB."""
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            got = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise EngineError(f"picture: got {got}, expected a uint8 array of shape (height, width, 3), RGB")
        height, width = rgb.shape[:2]
        side = min(height, width)
        if side < MIN_SIDE_PX:
            raise EngineError(f"picture: got {width}x{height} pixels, expected at least {MIN_SIDE_PX} per side")
        top, left = (height - side) // 2, (width - side) // 2
        square = np.ascontiguousarray(rgb[top : top + side, left : left + side])
        if not square.flags.writeable:
            square = square.copy()  # torch warns of arrays that it could write to and must not
        return resized(square, self.config.size_px)

    def _warm_up(self, frames: int) -> None:
        if frames <= 0:
            return
        size_px = self.config.size_px
        noise = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
        places = self.stand_in_places
        self.set_source(noise, places)
        self.calibrate(noise, places)
        try:
            for _ in range(frames):
                self.animate(noise, places, adapt_scale=False)
        finally:
            self.source = self._reference = None

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineError(
                f"the engine was called on thread {threading.current_thread().name!r}, expected the one that made it: "
                "create and call an engine on one thread"
            )

    def _require_finite(self, keypoints: Keypoints[Array], what: str) -> None:
        if not all(np.isfinite(part).all() for part in keypoints):
            raise EngineError(
                phrase(
                    "model {model} gave NaN for the {what}: use precision fp32 or another model",
                    model=self.model_name,
                    what=what,
                )
            )


def resized(square: Rgb, size_px: int) -> Rgb:
    """A (side, side, 3) picture, (size_px, size_px, 3): bilinear, without aliasing; itself where it has that size.

    Each pixel is a mean, weighed by a triangle about its centre, as wide as two pixels of the smaller picture.
    """
    side = len(square)
    if side == size_px:
        return square
    scale = side / size_px
    centres = (np.arange(size_px) + 0.5) * scale - 0.5
    matrix = np.maximum(1 - np.abs(np.arange(side) - centres[:, None]) / max(scale, 1.0), 0)
    matrix = (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)
    rows = matrix @ square.reshape(side, -1).astype(np.float32)  # (size_px, side * 3)
    whole = matrix @ rows.reshape(size_px, side, 3)  # along columns
    rgb: Rgb = np.clip(np.round(whole), 0, 255).astype(np.uint8)
    return rgb
