"""What one camera frame tells of the performer. No sink may import this module (import-linter)."""

from typing import NamedTuple

from app.pipeline.animation.motion import Pose
from app.pipeline.animation.performer_view import PerformerView
from mcnet.media.head_motion import Head


class Seen(NamedTuple):
    """A camera frame as the performer's motion is read from it.

    Attributes:
        view: the frame, and what was found in it.
        dt_s: seconds since the frame before.
        searched: whether the face was looked for in this very frame.
        head: the performer's, steadied; None where it is not measured.
        pose: keypoints in the square; None where the head says all.
        fingerprint: of the model that the keypoints are of; "" where they are only places, as in a motion file.
        refused: whether this is a motion file that cannot move this portrait.
    """

    view: PerformerView
    dt_s: float
    searched: bool
    head: Head | None = None
    pose: Pose | None = None
    fingerprint: str = ""
    refused: bool = False

    @property
    def moves(self) -> bool:
        """Whether the avatar can be moved by it: there is a face, and its keypoints are known."""
        return self.view.keypoints is not None
