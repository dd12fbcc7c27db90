"""The camera's view of the performer, for the window only. No sink may import this module (import-linter)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.inspector import Posed
from mcnet.media.crop import SquareBox


@dataclass(frozen=True, eq=False)
class PerformerView:
    """A camera frame, and what was found in it.

    Attributes:
        frame: what the camera gave.
        box: the square that the model sees, in the frame's pixels; None before a face was found.
        landmarks_px: (468, 3) float32 in the frame's pixels; None where no face was found in this very frame.
        keypoints: (K, 2) float32 xy in [-1, 1] of `box`; None where the avatar is not moved by this frame.
        posed: how the avatar was moved by this frame, if it was.
    """

    frame: CameraFrame
    box: SquareBox | None
    landmarks_px: NDArray[np.float32] | None
    keypoints: NDArray[np.float32] | None
    posed: Posed | None = None
