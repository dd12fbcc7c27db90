"""What the pipeline wants of an engine; `mcnet.Engine` has it, and tests give fakes."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Array, Flow, Keypoints, SourceCache
from mcnet.config import McnetConfig
from mcnet.engine import DeviceChoice
from mcnet.pose import LinearMap


class LiveEngine(Protocol):
    """Made and called on the inference thread; see `mcnet.engine.Engine`, whose attributes and methods these are."""

    config: McnetConfig
    model_name: str
    content_hash: str
    choice: DeviceChoice
    fingerprint: str
    keypoint_landmarks: tuple[int, ...]
    linear_jacobians: LinearMap
    places_suffice: bool
    detects: bool
    backend_reason: str

    @property
    def backend_name(self) -> str: ...

    def set_source(
        self, source: NDArray[np.uint8] | SourceCache[Array], places: NDArray[np.floating[Any]] | None = None
    ) -> SourceCache[Array]: ...

    def detect(
        self, picture: NDArray[np.uint8] | None, places: NDArray[np.floating[Any]] | None = None
    ) -> Keypoints[Array]: ...

    def render(self, driving: Keypoints[Array]) -> NDArray[np.uint8]: ...

    def render_with_flow(self, driving: Keypoints[Array]) -> tuple[NDArray[np.uint8], Flow]: ...


EngineFactory = Callable[[], LiveEngine]
