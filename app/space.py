"""Whether the avatar can be moved in space, as far as is known."""

from dataclasses import dataclass
from enum import Enum, auto

from app.settings import LiveSettings


class Obstacle(Enum):
    """What can keep an avatar from being moved in space."""

    DETECTED = auto()
    """The settings ask for detected keypoints, and motion in space needs measured ones."""
    MODEL = auto()
    """Nothing says which points of a face the model's keypoints are, so that they cannot be measured."""
    PORTRAIT = auto()
    """No face was found in the portrait, so that its keypoints could not be measured."""


@dataclass(frozen=True)
class Space:
    """What the pipeline has told about motion in space.

    Attributes:
        model: whether the model's keypoints can be measured; None before it is loaded.
        portrait: whether those of the portrait were; None before it is animated.
        reference: whether the last calibration asked for an expression alone, so that it is no reference in the plane.
        detects: whether the model can detect keypoints, so that the settings may ask for that.
    """

    model: bool | None = None
    portrait: bool | None = None
    reference: bool = False
    detects: bool = True

    def obstacle(self, live: LiveSettings) -> Obstacle | None:
        """What keeps the avatar from being moved in space; None where nothing is known to."""
        if live.keypoints == "detected" and self.detects:
            return Obstacle.DETECTED
        if self.model is False:
            return Obstacle.MODEL
        return Obstacle.PORTRAIT if self.portrait is False else None

    def moves(self, live: LiveSettings) -> bool:
        """Whether the avatar is moved in space."""
        return live.relative and live.motion == "space" and self.obstacle(live) is None

    def needs_calibration(self, live: LiveSettings) -> bool:
        """Whether the reference does not do for these settings."""
        return self.reference and live.relative and not self.moves(live)
