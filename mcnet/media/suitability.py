"""How well a picture should serve as a portrait, and what speaks against it."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import SquareBox, crop
from mcnet.media.expressions import expression
from mcnet.media.faces import Box, Face
from mcnet.media.upright import roll_deg
from mcnet.phrases import phrase

POOR_SCORE = 70
"""Below it, a portrait's remarks are told without being asked for. Bundled ones have 95 or more."""
_JUDGED_PX = 512
"""The side of the square in which a picture's sharpness is judged."""
_SMALL_BOX_PX = 256
_SOFT = 12.0
_DARK, _WHITE = 100.0, 250
"""Levels of 255. In 105 portraits, statues and drawings among them, every tenth of a face's pixels has a channel of 183
or more, and at most 6 of 100 are white."""


def suitability(
    face: Face | None, box: SquareBox, rgb: NDArray[np.uint8], *, several: bool
) -> tuple[int, tuple[str, ...]]:
    """How well a portrait should animate, 0 to 100, and what speaks against it, for people.

    Args:
        face: found in the square, or None.
        box: what is animated, in the picture's pixels.
        rgb: (H, W, 3) uint8, the picture.
        several: whether there are more faces than the one that is animated.
    """
    if face is None:
        return 0, (phrase("no face was found in it"),)
    shown = expression(face.landmarks_px, in_space=True)
    left, right = (face.landmarks_px[point].astype(np.float64) for point in (234, 454))
    yaw_deg = abs(math.degrees(math.atan2(right[2] - left[2], right[0] - left[0])))
    tilt_deg = abs(roll_deg(face))
    half = box.side / 2
    edges = Box(box.center_x - half, box.center_y - half, box.center_x + half, box.center_y + half)
    outside = 1 - edges.share_inside(rgb)
    square = crop(rgb, box, _JUDGED_PX)
    shown_px = _inside(rgb, face.box)
    brightest = float(np.percentile(shown_px.max(axis=-1), 90))
    white = float((shown_px.min(axis=-1) >= _WHITE).mean())
    sharpness = float(cv2.Laplacian(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())
    faults = (
        (phrase("the face is small: use a larger picture"), 30 * max(0.0, 1 - box.side / _SMALL_BOX_PX)),
        (phrase("the mouth is open: teeth and lips will stretch"), 80 * max(0.0, shown.mouth - 0.08)),
        (phrase("the eyes are hardly open"), 150 * max(0.0, 0.16 - shown.eyes)),
        (phrase("the head is turned to the side"), 1.2 * max(0.0, yaw_deg - 10)),
        (phrase("the head is tilted"), 0.8 * max(0.0, tilt_deg - 8)),
        (phrase("the face is close to the picture's border"), 60 * max(0.0, outside - 0.05)),
        (phrase("part of the face is cut off"), 60 * max(0.0, 0.97 - face.box.share_inside(rgb))),
        (phrase("the face is dark: take a picture in more light"), 0.6 * max(0.0, _DARK - brightest)),
        (phrase("the face is over-exposed: take a picture in less light"), 200 * max(0.0, white - 0.1)),
        (phrase("the picture is soft"), 2.0 * max(0.0, _SOFT - sharpness)),
        (phrase("several people are in it; the largest face is used"), 5.0 * several),
    )
    score = max(0, round(100 - sum(fault for _, fault in faults)))
    return score, tuple(remark for remark, fault in faults if fault >= 3)


def poor_portrait(name: str, score: int, remarks: Sequence[str]) -> str:
    """What to tell of a portrait without being asked, a line for people; "" where it is good enough."""
    return f"{name} scores {score} of 100 as a portrait: {'; '.join(remarks)}" if score < POOR_SCORE else ""


def _inside(rgb: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """What a picture shows in a box, one pixel at least."""
    height, width = rgb.shape[:2]
    left, top = min(max(int(box.left), 0), width - 1), min(max(int(box.top), 0), height - 1)
    return rgb[top : max(int(box.bottom), top + 1), left : max(int(box.right), left + 1)]
