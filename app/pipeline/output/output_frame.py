"""What may leave the app: pictures that the engine generated, or the slate."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class State(StrEnum):
    """What the output shows, and why."""

    STARTING = "starting"
    """The model is being loaded, or no portrait has been chosen: the slate."""
    CALIBRATING = "calibrating"
    """Looking for the driver's reference pose: the slate."""
    LIVE = "live"
    """The avatar follows the driver."""
    HOLD = "hold"
    """The driver's face was lost just now: the last picture stays."""
    EASING = "easing"
    """Still lost: the avatar returns to its own pose."""
    IDLE = "idle"
    """Still lost: the avatar rests."""
    NO_FACE = "no face"
    """Lost for long: the slate."""
    NO_CAMERA = "no camera"
    """The camera gives no frames: hold, easing and idle come first, then the slate."""
    SLATE = "slate"
    """The user wants the slate."""
    FAULT = "fault"
    """A stage failed: the slate."""

    @property
    def shows_avatar(self) -> bool:
        """Whether the output shows the avatar in this state; otherwise it shows the slate."""
        return self in (State.LIVE, State.HOLD, State.EASING, State.IDLE)


@dataclass(frozen=True, eq=False)
class OutputFrame:
    """One step of the output, made by the inference stage.

    Attributes:
        frame_id: of the camera frame that moved it; a repeated or eased picture bears the last one's.
        captured_s: when that camera frame arrived, in seconds of `time.monotonic`.
        state: what this is.
        avatar: (size_px, size_px, 3) uint8 RGB as the engine generated it; None where the slate is to be shown.
        fresh: whether a new camera frame moved it.
    """

    frame_id: int
    captured_s: float
    state: State
    avatar: NDArray[np.uint8] | None
    fresh: bool


@dataclass(frozen=True, eq=False)
class Composed:
    """A picture as a call sees it, made by the compositor from an `OutputFrame`.

    Attributes:
        frame_id: of the `OutputFrame`.
        captured_s: of the `OutputFrame`.
        state: of the `OutputFrame`, or `SLATE` or `FAULT` where the sink stage decided so.
        rgb: (height, width, 3) uint8 RGB, C-contiguous, never written to again.
        fresh: whether it shows a camera frame's motion for the first time; a repeated picture is not fresh.
    """

    frame_id: int
    captured_s: float
    state: State
    rgb: NDArray[np.uint8]
    fresh: bool
