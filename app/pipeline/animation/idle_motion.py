"""What the avatar does while its performer's face is gone: a motion file, in a loop."""

import logging
import threading
from pathlib import Path

import numpy as np

import assets
from app.settings import GENTLE
from mcnet.errors import UserError, sentence
from mcnet.media.crop import frame_face
from mcnet.media.head_motion import Gains, Head, PortraitInSpace, mesh_in_square, most_neutral
from mcnet.media.motion_track import MotionTrack, load_track, loop_of, resampled

logger = logging.getLogger(__name__)

_RATE_HZ = 30.0
_SIZE_PX = 256
_JUDGED = 300
"""Frames of which the most neutral one is chosen, spread over the file: each costs some 0.2 ms."""


class IdleMotion:
    """A motion file's heads over time, around its most neutral one.

    Args:
        name: `GENTLE`, or a motion file.

    Raises:
        MediaError: the file cannot be read.
    """

    def __init__(self, name: str) -> None:
        path = assets.ROOT / "motions" / "gentle.safetensors" if name == GENTLE else Path(name)
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
            if not isinstance(error, UserError):
                logger.exception("idle motion %s", self._file)
            self.failure = sentence(error)
