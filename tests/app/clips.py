"""What stands in for a webcam in tests, made on the spot from the GRID clip (CC BY 4.0, see assets/README.md)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcnet.media.video import open_driving
from tests.media.videos import GRID, make_video

FPS_HZ = 25
_GONE_PX = 230  # the face lies between 100 and 210 px of 360


def face_that_leaves(path: Path, *, there: int = 30, slide: int = 6, gone: int = 40, back: int = 25) -> Path:
    """The GRID speaker is there, leaves to the left, stays away, and comes back: a video of 25 frames/s, 360 x 288.

    What he leaves behind is the wall at the picture's right edge.

    Args:
        path: of the H.264 file to write.
        there: frames at first with the face at its place.
        slide: frames in which it leaves, and in which it comes back.
        gone: frames without it.
        back: frames with it at the end.
    """
    shifts = np.concatenate(
        [
            np.zeros(there),
            np.linspace(0, _GONE_PX, slide),
            np.full(gone, _GONE_PX),
            np.linspace(_GONE_PX, 0, slide),
            np.zeros(back),
        ]
    )
    frames = list(open_driving(GRID))
    there_and_back = frames + frames[-2:0:-1]  # without a jump where the clip ends
    shown = [
        _moved(there_and_back[index % len(there_and_back)], round(float(shift))) for index, shift in enumerate(shifts)
    ]
    return make_video(path, shown, fps=FPS_HZ)


def _moved(rgb: NDArray[np.uint8], left_px: int) -> NDArray[np.uint8]:
    wide = np.pad(rgb, ((0, 0), (0, left_px), (0, 0)), mode="edge")
    return np.ascontiguousarray(wide[:, left_px:])
