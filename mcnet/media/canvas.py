"""Smooth shapes on small pictures, and the colours that lie in them: what is drawn into a portrait is made of these."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.head_motion import Array, Head

Maps = NDArray[np.float32]
"""(h, w) or (h, w, c)."""
Colour = NDArray[np.float32]
"""(3,) RGB, 0 to 255."""

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_SHIFT = 4
"""Bits behind the point of the places that OpenCV draws at."""
_FARTHEST_PX = 1e4
_SIDEWAYS = 0.35, 0.6
"""Foreshortenings between which something is turned away."""


def pixels(places: Array, rgb: Rgb) -> Array:
    """(n, 2 or more) places in the keypoints' coordinates -> (n, 2) in a picture's pixels, counted from centres."""
    return np.asarray((places[:, :2] + 1) * (rgb.shape[0] - 1) / 2)


def ramp(value: float, begin: float, end: float) -> float:
    """0 at `begin` and before, 1 at `end` and behind, smoothly between; `end` may be the smaller one."""
    share = min(max((value - begin) / (end - begin), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def facing(head: Head, one: int, other: int) -> float:
    """How far what lies between two points of a face is turned to the camera: 0 where it is seen from the side, 1 from
    some 40 degrees on. What is drawn fades with it: from the side, the nose hides what lies behind.
    """
    if head.rotation[2, 2] <= 0:
        return 0.0
    between: Array = head.shape[one] - head.shape[other]
    length, seen = (float(np.linalg.norm(way)) for way in (between, (head.rotation @ between)[:2]))
    return ramp(seen / max(length, 1e-6), *_SIDEWAYS)


def brightness(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """(...,) of (..., 3)."""
    return np.asarray(colours @ _LUMA)


def colours_inside(rgb: Rgb, outline_px: Array) -> NDArray[np.float32]:
    """(n, 3): the colours in a polygon; of the whole picture where it lies outside."""
    inside = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(np.clip(outline_px, -_FARTHEST_PX, _FARTHEST_PX)).astype(np.int32)], (1,))
    found = rgb[inside > 0]
    return (found if len(found) else rgb.reshape(-1, 3)).astype(np.float32)


def blurred(maps: Maps, deviation_px: float) -> Maps:
    """Blurred by a Gaussian of that standard deviation."""
    return np.asarray(cv2.GaussianBlur(maps, (0, 0), max(deviation_px, 0.1)), np.float32)


def part_around(places_px: Array, rgb: Rgb, margin_px: int) -> tuple[slice, slice] | None:
    """Rows and columns of the part of a picture that holds these places, all finite; None where none of it does."""
    first = np.floor(places_px.min(axis=0)) - margin_px
    behind = np.ceil(places_px.max(axis=0)) + margin_px + 1
    (left, top), (right, bottom) = (
        np.clip(corner, 0, rgb.shape[1::-1]).astype(int).tolist() for corner in (first, behind)
    )
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


class Canvas:
    """A part of a picture, enlarged, so that what is drawn has smooth edges once it is made small again.

    Places are given in the picture's pixels.

    Args:
        rows: of the picture.
        columns: of the picture.
        factor: by which the part is enlarged.

    Attributes:
        size_px: width and height of the part.
        origin_px: x and y of its first pixel in the picture.
        factor: as given.
        shape: (h, w) of what is drawn.
    """

    def __init__(self, rows: slice, columns: slice, factor: int = 1) -> None:
        self.size_px = columns.stop - columns.start, rows.stop - rows.start
        self.origin_px = columns.start, rows.start
        self.factor = factor
        width, height = self.size_px
        self.shape = height * factor, width * factor

    def fill(self, colours: Maps, outlines_px: Array, fillings: NDArray[np.float32]) -> None:
        """Fill (n, p, 2) polygons in (h, w, 3) colours, one after the other with (n, 3) fillings; edges are hard."""
        for outline, filling in zip(self._drawable(outlines_px), fillings.tolist(), strict=True):
            cv2.fillPoly(colours, [outline], filling, cv2.LINE_8, _SHIFT)

    def polygon(self, outline_px: Array) -> Maps:
        """(h, w): 1 in a polygon, 0 elsewhere."""
        drawn = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(drawn, [self._drawable(outline_px)], (255,), cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / np.float32(255)

    def numbered(self, outlines_px: Array) -> NDArray[np.uint8]:
        """(h, w): 1 in the first of (n, p, 2) convex polygons, of which there are 255 at most, 2 in the second, and so
        on; 0 elsewhere.
        """
        drawn = np.zeros(self.shape, np.uint8)
        for number, outline in enumerate(self._drawable(outlines_px), start=1):
            cv2.fillConvexPoly(drawn, outline, (number,), cv2.LINE_8, _SHIFT)
        return drawn

    def line(self, places_px: Array, width_px: float) -> Maps:
        """(h, w): 1 on an open line through places, 0 elsewhere."""
        drawn = np.zeros(self.shape, np.uint8)
        thickness = max(1, round(width_px * self.factor))
        cv2.polylines(drawn, [self._drawable(places_px)], False, (255,), thickness, cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / np.float32(255)

    def small(self, maps: Maps) -> Maps:
        """What is as large as the canvas, in the size of the part."""
        return np.asarray(cv2.resize(maps, self.size_px, interpolation=cv2.INTER_AREA), np.float32)

    def _drawable(self, places_px: Array) -> NDArray[np.int32]:
        """In fixed point."""
        inside = (places_px - self.origin_px + 0.5) * self.factor - 0.5
        fixed = np.round(np.clip(inside, -_FARTHEST_PX, _FARTHEST_PX) * (1 << _SHIFT))
        return np.asarray(fixed, np.int32)
