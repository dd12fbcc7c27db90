"""Whether the avatar can be moved in space, as far as is known."""

from dataclasses import dataclass

from app.settings import LiveSettings


@dataclass(frozen=True)
class Space:
    """What the pipeline has told about motion in space.

    Attributes:
        model: whether the model's keypoints can be measured; None before it is loaded.
        portrait: whether those of the portrait were; None before it is animated.
        reference: whether the last calibration asked for an expression alone, so that it is no reference in the plane.
    """

    model: bool | None = None
    portrait: bool | None = None
    reference: bool = False

    def obstacle(self, live: LiveSettings) -> str:
        """Why there is no motion in space, one sentence for people; "" where nothing is known to forbid it."""
        if live.keypoints == "detected":
            return "Not in space: the settings ask for detected keypoints, and this needs measured ones."
        if self.model is False:
            return "Not in space: this model's keypoints are not known points of a face."
        if self.portrait is False:
            return "Not in space: no face was found in this portrait."
        return ""

    def moves(self, live: LiveSettings) -> bool:
        """Whether the avatar is moved in space."""
        return live.relative and live.motion == "space" and not self.obstacle(live)

    def needs_calibration(self, live: LiveSettings) -> bool:
        """Whether the reference does not do for these settings."""
        return self.reference and live.relative and not self.moves(live)
