"""What a camera gives. Sinks never see it: nothing that writes outputs may import this module (import-linter)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One picture of the performer.

    Attributes:
        frame_id: counts the frames of one pipeline from 0, over all its cameras.
        captured_s: when it arrived, in seconds of `time.monotonic`.
        rgb: (H, W, 3) uint8 RGB.
        camera: which one; the same when it comes back after a failure.
        identity: likewise, and the same in the next run, as far as can be told; never shown. "": it cannot be told.
    """

    frame_id: int
    captured_s: float
    rgb: NDArray[np.uint8]
    camera: str = ""
    identity: str = ""
