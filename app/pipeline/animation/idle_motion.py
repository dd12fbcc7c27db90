"""What the avatar does while its performer's face is gone: a motion file, in a loop."""

from pathlib import Path

import numpy as np

import assets
from app.settings import GENTLE
from mcnet.media.crop import frame_face
from mcnet.media.head_motion import Gains, Head, PortraitInSpace, mesh_in_square, most_neutral
from mcnet.media.motion_track import load_track, loop_of, resampled

_RATE_HZ = 30.0
_SIZE_PX = 256


class IdleMotion:
    """A motion file's heads over time, around its most neutral one.

    Args:
        name: `GENTLE`, or a motion file.

    Raises:
        MediaError: the file cannot be read.
    """

    def __init__(self, name: str) -> None:
        path = assets.ROOT / "motions" / "gentle.safetensors" if name == GENTLE else Path(name)
        loop = loop_of(resampled(load_track(path), _RATE_HZ))
        faces = [face for face in loop.faces if face is not None]
        self._length_s = len(faces) / _RATE_HZ
        self._meshes = [face.landmarks_px for face in faces]
        middle = faces[most_neutral(self._meshes)]
        self._box = frame_face(middle)
        self._reference = self._head(middle.landmarks_px)

    def stance(self, portrait: PortraitInSpace, time_s: float, gains: Gains) -> Head:
        """The portrait's head at a time of the loop, in seconds from its start."""
        index = int(time_s % self._length_s * _RATE_HZ) % len(self._meshes)
        return portrait.follow(self._head(self._meshes[index]), self._reference, gains)

    def _head(self, landmarks_px: np.ndarray) -> Head:
        return Head.of(mesh_in_square(landmarks_px, self._box, _SIZE_PX))
