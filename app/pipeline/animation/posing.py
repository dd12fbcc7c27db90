"""How the portrait is posed: as the performer moves it, on the way there, at rest, or in its idle motion."""

from typing import NamedTuple

from app.pipeline.animation.idle_motion import Idling
from app.pipeline.animation.motion import Pose
from app.pipeline.animation.source import Source
from app.pipeline.animation.tracking_ladder import TrackingLadder, eased
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.media.head_motion import Head

_GLIDE_S = 0.3


class Posture(NamedTuple):
    """What the output is to show of the portrait.

    Attributes:
        state: what it shows at all.
        stance: how the portrait is posed; None: as it is held, or as it is.
        drawn: how much is seen of what is drawn in that stance, 0 to 1.
    """

    state: State
    stance: Pose | Head | None
    drawn: float = 1.0


class Posing:
    """Decides how the portrait is posed, so that no change of it is a jump.

    It owns the ladder that the avatar goes down while the performer is away, and the glide to what the same pose of the
    performer means from now on. What the performer's motion is, and which picture is made of a stance, is not decided
    here.

    Args:
        idling: the idle motion.
    """

    def __init__(self, idling: Idling) -> None:
        self._idling = idling
        self._ladder = TrackingLadder()
        self._target: Pose | Head | None = None
        self._glide: tuple[float, Pose | Head] | None = None
        self._meant: tuple[object, ...] = (LiveSettings().relative, LiveSettings().motion, 0)

    def begin_anew(self) -> None:
        """Forget the stances of another portrait or model."""
        self._target = self._glide = None
        self._idling.end()

    def change_camera(self) -> None:
        """Before another camera the avatar rises from its own pose."""
        self._ladder.reset()

    def follow(
        self, target: Pose | Head, source: Source, references: int, now_s: float, settings: LiveSettings
    ) -> Posture:
        """Pose the portrait while the performer's face is there.

        Args:
            target: the stance that the performer means.
            source: the portrait.
            references: how many there were; with another one, the performer means another pose.
            now_s: of a monotonic clock.
            settings: in force.
        """
        meant = settings.relative, settings.motion, references
        if meant != self._meant:
            self._glide = None if self._target is None else (now_s, self._target)
        self._meant = meant
        self._target, drawn = self._glided(target, source, now_s)
        rung = self._ladder.update(now_s, face=True, camera=True, settings=settings)
        stance = source.between(self._rest(source, self._target), self._target, rung.presence)
        self._idling.interrupt(over=rung.presence >= 1)
        return Posture(rung.state, stance, drawn)

    def wait(self, source: Source, now_s: float, settings: LiveSettings, *, camera: bool) -> Posture:
        """Pose the portrait while the performer's face is gone.

        Args:
            source: the portrait.
            now_s: of a monotonic clock.
            settings: in force.
            camera: whether the camera gives frames at all.
        """
        rung = self._ladder.update(now_s, face=False, camera=camera, settings=settings)
        stance: Pose | Head | None = None
        if not rung.state.shows_avatar:
            self._idling.end()
        elif rung.state is State.EASING and self._target is not None:
            stance = source.between(self._rest(source, self._target), self._target, rung.presence)
        elif rung.state is State.IDLE and source.space is not None:
            stance = self._idling.stance(source.space, now_s, settings)
        return Posture(rung.state, stance)

    def _rest(self, source: Source, like: Pose | Head) -> Pose | Head:
        """Where the avatar comes from and goes to without its performer, told as `like` is: where it idled last."""
        if self._idling.reached is not None and isinstance(like, Head):
            return self._idling.reached
        return source.rest(like)

    def _glided(self, target: Pose | Head, source: Source, now_s: float) -> tuple[Pose | Head, float]:
        """A stance within a glide, or behind it, and how much of what is drawn there is seen.

        Between the plane and space no head is known to draw on, so that the drawing fades in behind such a glide.
        """
        if self._glide is None:
            return target, 1.0
        began_s, start = self._glide
        share = (now_s - began_s) / _GLIDE_S
        if share < 1:
            return source.between(start, target, eased(share)), 1.0
        if share < 2 and isinstance(start, Pose):
            return target, eased(share - 1)
        self._glide = None
        return target, 1.0
