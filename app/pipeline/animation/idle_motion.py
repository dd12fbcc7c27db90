"""What the avatar does while its performer's face is gone: a motion file, in a loop."""

import logging
import threading
from collections.abc import Callable

import numpy as np

import assets
from app.pipeline.animation.motion import gains_of
from app.pipeline.animation.tracking_ladder import eased
from app.pipeline.events import Event, SettingRefused
from app.settings import GENTLE, LiveSettings
from mcnet.errors import log_failure, sentence
from mcnet.files import as_written
from mcnet.media.crop import frame_face
from mcnet.media.head_motion import Gains, Head, PortraitInSpace, mesh_in_square, most_neutral
from mcnet.media.motion_track import MotionTrack, load_track, loop_of, resampled

logger = logging.getLogger(__name__)

_RATE_HZ = 30.0
_SIZE_PX = 256
_JUDGED = 300
"""Frames of which the most neutral one is chosen, spread over the file: each costs some 0.2 ms."""
_COME_IN_S = 1.5
"""Within so long an avatar at rest comes into its idle motion."""


class IdleMotion:
    """A motion file's heads over time, around its most neutral one.

    Args:
        name: `GENTLE`, or a motion file.

    Raises:
        MediaError: the file cannot be read.
    """

    def __init__(self, name: str) -> None:
        path = assets.ROOT / "motions" / "gentle.safetensors" if name == GENTLE else as_written(name)
        track = load_track(path)
        seen = [(time_s, face) for time_s, face in zip(track.times_s, track.faces, strict=True) if face is not None]
        times_s = np.array([time_s for time_s, _ in seen]) - seen[0][0]
        loop = loop_of(MotionTrack(times_s, [face for _, face in seen], track.frame_size_px))
        self._meshes = resampled(loop, _RATE_HZ).faces
        judged = [face for face in loop.faces[:: -(-len(loop.faces) // _JUDGED)] if face is not None]
        middle = judged[most_neutral([face.landmarks_px for face in judged])]
        self._box = frame_face(middle)
        self._reference = self._head(middle.landmarks_px)

    def stance(self, portrait: PortraitInSpace, time_s: float, gains: Gains) -> Head:
        """The portrait's head at a time of the loop, in seconds from its start."""
        face = self._meshes[int(time_s * _RATE_HZ) % len(self._meshes)]
        assert face is not None, "those without one were left out"
        return portrait.follow(self._head(face.landmarks_px), self._reference, gains)

    def _head(self, landmarks_px: np.ndarray) -> Head:
        return Head.of(mesh_in_square(landmarks_px, self._box, _SIZE_PX))


class IdleMotionLoading(threading.Thread):
    """Reads an idle motion, which begins at once; no picture waits for a long file or a slow disk.

    Args:
        name: as of `IdleMotion`.

    Attributes:
        motion: what was read; None before that, and where it cannot be.
        failure: why it cannot be, for people; "" otherwise.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name="idle motion", daemon=True)
        self.motion: IdleMotion | None = None
        self.failure = ""
        self._file = name
        self.start()

    def run(self) -> None:
        try:
            self.motion = IdleMotion(self._file)
        except Exception as error:  # whatever it is, out of memory included: the avatar rests still
            log_failure(logger, f"idle motion {self._file}", error)
            self.failure = sentence(error)


class Idling:
    """The idle motion that was chosen, and the avatar in it. When it idles is not decided here.

    Args:
        emit: told where a motion cannot be read.

    Attributes:
        motion: None where none was chosen, or where it is not read yet.
        loading: reads it, while it does.
        reached: how the avatar was posed in it last; None once its performer has it, or the slate is shown.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.motion: IdleMotion | None = None
        self.loading: IdleMotionLoading | None = None
        self.reached: Head | None = None
        self._emit = emit
        self._name = ""
        self._began: tuple[float, Head] | None = None

    def prepare(self, settings: LiveSettings) -> None:
        """Have the chosen motion read, and take it once it is there."""
        if settings.idle_motion != self._name:
            self._name, self.motion = settings.idle_motion, None
            self.loading = IdleMotionLoading(self._name) if self._name else None
        loading = self.loading
        if loading is not None and not loading.is_alive():
            self.motion, self.loading = loading.motion, None
            if loading.failure:
                self._emit(SettingRefused("idle_motion", loading.failure))

    def stance(self, space: PortraitInSpace, now_s: float, settings: LiveSettings) -> Head | None:
        """How the avatar is posed while it idles; None where it rests still.

        Args:
            space: the portrait's head.
            now_s: of a monotonic clock; the motion begins with the first time, where the avatar is then.
            settings: for the gains.
        """
        if self.motion is None:
            return None
        if self._began is None:
            self._began = now_s, space.head if self.reached is None else self.reached
        began_s, start = self._began
        time_s = now_s - began_s
        stance = self.motion.stance(space, time_s, gains_of(settings))
        self.reached = start.towards(stance, eased(min(1.0, time_s / _COME_IN_S)))
        return self.reached

    def interrupt(self, *, over: bool) -> None:
        """The performer is back, and the motion begins anew when next needed.

        Args:
            over: whether the avatar has left the motion altogether.
        """
        self._began = None
        if over:
            self.reached = None

    def end(self) -> None:
        """The avatar is not seen, or is another one."""
        self.interrupt(over=True)
