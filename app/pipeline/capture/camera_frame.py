"""What a camera gives. Sinks never see it: nothing that writes outputs may import this module (import-linter)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.media.faces import Face


class Played(NamedTuple):
    """A frame of a motion file, which has no picture.

    Attributes:
        rgb: (H, W, 3) uint8 RGB, a drawing that stands for one.
        face: that was measured then, in its pixels; None where there was none.
    """

    rgb: NDArray[np.uint8]
    face: Face | None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One picture of the performer.

    Attributes:
        frame_id: counts the frames of one pipeline from 0, over all its cameras.
        captured_s: when it arrived, in seconds of `time.monotonic`.
        rgb: (H, W, 3) uint8 RGB.
        camera: which one; the same when it comes back after a failure. Never shown.
        identity: likewise, and the same in the next run, as far as can be told; never shown. "": it cannot be told.
        played: of a motion file; None: it is a picture, in which a face may be found.
        next_s: how long the camera takes for the next one, by the last ones; 0: not known yet.
    """

    frame_id: int
    captured_s: float
    rgb: NDArray[np.uint8]
    camera: str = ""
    identity: str = ""
    played: Played | None = None
    next_s: float = 0.0
