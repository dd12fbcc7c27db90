"""The portrait that is animated, as one engine knows it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app.pipeline.animation.finish import Finishes
from app.pipeline.animation.live_engine import LiveEngine
from app.pipeline.animation.motion import Pose
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.events import Event
from app.pipeline.portraits import Portrait
from mcnet.arrays import Array, SourceCache
from mcnet.media.head_motion import Head, PortraitInSpace, mesh_in_square

_ENCODED_KEPT = 12


class Source(NamedTuple):
    """A portrait that an engine has encoded.

    Attributes:
        portrait: as the gallery has it.
        engine: which animates it.
        pose: its own keypoints.
        cache: for the engine.
        space: its head, where its keypoints are measured; None where they are detected.
        finishes: what can be done to its pictures.
    """

    portrait: Portrait
    engine: LiveEngine
    pose: Pose
    cache: SourceCache[Array]
    space: PortraitInSpace | None
    finishes: Finishes

    def rest(self, like: Pose | Head) -> Pose | Head:
        """The portrait as it is, told as `like` is."""
        return self.space.head if self.space is not None and isinstance(like, Head) else self.pose

    def pose_of(self, stance: Pose | Head) -> Pose:
        """The portrait's keypoints in a stance."""
        if isinstance(stance, Pose):
            return stance
        assert self.space is not None
        value, maps = self.space.driving(stance)
        return Pose(value, maps @ self.pose.jacobian)

    def between(self, start: Pose | Head, end: Pose | Head, share: float) -> Pose | Head:
        """`start` at share 0, `end` at 1; in space where both are told so."""
        if share >= 1:
            return end
        if isinstance(start, Head) and isinstance(end, Head):
            return start.towards(end, share)
        return self.pose_of(start).towards(self.pose_of(end), share)


class Encoder:
    """Has one engine encode portraits, each but once: it keeps the last ones, and the store keeps them over runs.

    Which portrait is animated is not its business; another model has an encoder of its own.

    Args:
        engine: which encodes them.
        store: for encoded portraits, or None.
        watch: times the encoding.
        emit: told what becomes of the finishes.

    Attributes:
        engine: as given.
    """

    def __init__(
        self, engine: LiveEngine, store: SourceStore | None, watch: Stopwatch, emit: Callable[[Event], None]
    ) -> None:
        self.engine = engine
        self._store = store
        self._watch = watch
        self._emit = emit
        self._encoded: dict[bytes, SourceCache[Array]] = {}

    def take(self, portrait: Portrait, *, detected: bool) -> tuple[Source, bool]:
        """Have the engine animate a portrait.

        Args:
            portrait: who.
            detected: whether its keypoints are to be detected also where they could be measured.

        Returns:
            The portrait, and whether it was encoded before.

        Raises:
            UserError, RuntimeError: whatever the engine raises.
        """
        space = self._space_of(portrait, detected=detected)
        cache, known = self._encode(portrait, space)
        self.engine.set_source(cache)
        finishes = Finishes(portrait, space, self.engine.config.size_px, self._emit)
        return Source(portrait, self.engine, Pose.of(cache.keypoints), cache, space, finishes), known

    def measures(self, portrait: Portrait, *, detected: bool) -> bool:
        """Whether the model's keypoints are measured on a portrait, as they can be and are to be.

        Args:
            portrait: who.
            detected: as of `take`; a model that cannot detect any has them measured all the same.
        """
        can = bool(self.engine.keypoint_landmarks) and portrait.landmarks_px is not None
        return can and not (detected and self.engine.detects)

    def _space_of(self, portrait: Portrait, *, detected: bool) -> PortraitInSpace | None:
        """The portrait's head, if the model's keypoints are measured on it."""
        if not self.measures(portrait, detected=detected):
            return None
        assert portrait.landmarks_px is not None
        mesh = mesh_in_square(portrait.landmarks_px, portrait.box, self.engine.config.size_px)
        return PortraitInSpace(mesh, self.engine.keypoint_landmarks, linear=self.engine.linear_jacobians)

    def _encode(self, portrait: Portrait, space: PortraitInSpace | None) -> tuple[SourceCache[Array], bool]:
        places = None if space is None else space.places.astype(np.float32)
        key = portrait.square.tobytes() + (b"" if places is None else places.tobytes())
        cache = self._encoded.get(key)
        if cache is not None:
            return cache, True
        engine, store = self.engine, self._store
        cache = store.load(portrait.square, engine.fingerprint, engine.config, places) if store else None
        known = cache is not None
        if cache is None:
            with self._watch.timed("encode"):
                cache = engine.set_source(portrait.square, places)
            if store:
                store.save(portrait.square, cache, places)
        self._encoded[key] = cache
        while len(self._encoded) > _ENCODED_KEPT:
            del self._encoded[next(iter(self._encoded))]
        return cache, known
