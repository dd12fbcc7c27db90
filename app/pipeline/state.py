"""What the output shows, and who decides it."""

from enum import StrEnum


class State(StrEnum):
    """What the output shows, and why.

    This table lists who decides each state. The later a row stands, the stronger it is: what a lower row decides is
    shown whatever the rows above it say.

    | Decides | States | When |
    | --- | --- | --- |
    | `TrackingLadder.update` | LIVE, HOLD, EASING, IDLE, NO_FACE, NO_CAMERA | by how long the face has been gone |
    | `Animator` | STARTING, CALIBRATING, NO_CAMERA | before the ladder: no portrait yet, no reference pose yet |
    | `Presenter` | STARTING, FAULT | no picture has come yet, none has come in time, or a stage failed |
    | `Presenter` | SLATE | the user's setting; it is read at each beat and overrides everything above |
    | `SinkStage` | FAULT | presenting itself failed: `Presenter.last_resort` |

    `SinkStage.state` repeats what was last presented, and the window's words for a state are in `app.ui.status`.
    """

    STARTING = "starting"
    """The model is being loaded, or no portrait has been chosen: the slate."""
    CALIBRATING = "calibrating"
    """Looking for the performer's reference pose: the slate."""
    LIVE = "live"
    """The avatar follows the performer."""
    HOLD = "hold"
    """The performer's face was lost just now: the last picture stays."""
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
