"""What to show while the performer's face is gone: hold, ease to the avatar's own pose, rest, then the slate."""

from typing import NamedTuple

from app.pipeline.state import State
from app.settings import LiveSettings

_RETURN_S = 0.3


class Rung(NamedTuple):
    """Where on the ladder things stand.

    Attributes:
        state: one of LIVE, HOLD, EASING, IDLE, NO_FACE, NO_CAMERA.
        presence: how much of the performer's motion shows, 0 (the avatar's own pose) to 1.
    """

    state: State
    presence: float


class TrackingLadder:
    """LIVE -> HOLD -> EASING -> IDLE -> NO_FACE or NO_CAMERA, and back by itself as soon as the face is there again.

    Its answers depend on the times and facts given and on nothing else.
    """

    def __init__(self) -> None:
        self._seen_s: float | None = None
        self._updated_s: float | None = None
        self._presence = 0.0

    def reset(self) -> None:
        """Begin anew, as after a change of camera: the avatar rises from its own pose."""
        self._seen_s = self._updated_s = None
        self._presence = 0.0

    def update(self, now_s: float, *, face: bool, camera: bool, settings: LiveSettings) -> Rung:
        """Take a step.

        Args:
            now_s: of a monotonic clock.
            face: the performer's face is there in the newest frame.
            camera: the camera gives frames at all.
            settings: for the times.
        """
        dt_s = 0.0 if self._updated_s is None else now_s - self._updated_s
        self._updated_s = now_s
        if face:
            self._seen_s = now_s
            self._presence = min(1.0, self._presence + dt_s / _RETURN_S)
            return Rung(State.LIVE, eased(self._presence))
        gone = State.NO_FACE if camera else State.NO_CAMERA
        if self._seen_s is None:
            return Rung(gone, 0.0)
        lost_s = now_s - self._seen_s
        if lost_s < settings.hold_s:
            return Rung(State.HOLD, eased(self._presence))
        lost_s -= settings.hold_s
        if lost_s < settings.ease_s:
            self._presence = min(self._presence, 1 - lost_s / settings.ease_s)
            return Rung(State.EASING, eased(self._presence))
        self._presence = 0.0
        resting = lost_s - settings.ease_s < settings.idle_s
        return Rung(State.IDLE if resting else gone, 0.0)


def eased(share: float) -> float:
    """A share of a way, 0 to 1, slow at both ends (smoothstep)."""
    return share * share * (3 - 2 * share)
