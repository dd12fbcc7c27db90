"""Smooth shapes on small pictures, and the colours that lie in them: what is drawn into a portrait is made of these."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb

Array = NDArray[np.float64]
Maps = NDArray[np.float32]
"""(h, w) or (h, w, c)."""
Colour = NDArray[np.float32]
"""(3,) RGB, 0 to 255."""

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_SHIFT = 4
"""Bits behind the point of the places that OpenCV draws at."""
_FARTHEST_PX = 1e4


def pixels(places: Array, rgb: Rgb) -> Array:
    """(n, 2 or more) places in the keypoints' coordinates -> (n, 2) in a picture's pixels, counted from centres."""
    return np.asarray((places[:, :2] + 1) * (rgb.shape[0] - 1) / 2)


def ramp(value: float, begin: float, end: float) -> float:
    """0 at `begin` and before, 1 at `end` and behind, smoothly between; `end` may be the smaller one."""
    share = min(max((value - begin) / (end - begin), 0.0), 1.0)
    return share * share * (3 - 2 * share)


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
    """Rows and columns of the part of a picture that holds these places; None where none of it does."""
    if not np.isfinite(places_px).all():
        return None
    first = np.floor(places_px.min(axis=0)) - margin_px
    behind = np.ceil(places_px.max(axis=0)) + margin_px + 1
    (left, top), (right, bottom) = (
        np.clip(corner, 0, rgb.shape[1::-1]).astype(int).tolist() for corner in (first, behind)
    )
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


class Canvas:
    """A part of a picture, enlarged, so that what is drawn has smooth edges once it is made small again.

    Args:
        part: rows and columns of the picture.
        factor: by which the part is enlarged.

    Attributes:
        size_px: width and height of the part.
        origin_px: x and y of its first pixel in the picture.
        factor: as given.
        colours: (h, w, 3) float32, to be drawn in.
    """

    def __init__(self, part: tuple[slice, slice], factor: int) -> None:
        rows, columns = part
        self.size_px = columns.stop - columns.start, rows.stop - rows.start
        self.origin_px = columns.start, rows.start
        self.factor = factor
        width, height = self.size_px
        self.colours: Maps = np.empty((height * factor, width * factor, 3), np.float32)

    def fill(self, outlines_px: Array, colours: NDArray[np.float32]) -> None:
        """Fill (n, p, 2) polygons, given in the picture's pixels, one after the other with (n, 3) colours."""
        for outline, colour in zip(self._drawable(outlines_px), colours.tolist(), strict=True):
            cv2.fillPoly(self.colours, [outline], colour, cv2.LINE_AA, _SHIFT)

    def polygon(self, outline_px: Array) -> Maps:
        """(h, w): 1 in a polygon, 0 elsewhere."""
        drawn = np.zeros(self.colours.shape[:2], np.uint8)
        cv2.fillPoly(drawn, [self._drawable(outline_px)], (255,), cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / np.float32(255)

    def numbered(self, outlines_px: Array) -> NDArray[np.uint8]:
        """(h, w): 1 in the first of (n, p, 2) convex polygons, of which there are 255 at most, 2 in the second, and so
        on; 0 elsewhere.
        """
        drawn = np.zeros(self.colours.shape[:2], np.uint8)
        for number, outline in enumerate(self._drawable(outlines_px), start=1):
            cv2.fillConvexPoly(drawn, outline, (number,), cv2.LINE_8, _SHIFT)
        return drawn

    def line(self, places_px: Array, width_px: float) -> Maps:
        """(h, w): 1 on an open line through places, 0 elsewhere."""
        drawn = np.zeros(self.colours.shape[:2], np.uint8)
        thickness = max(1, round(width_px * self.factor))
        cv2.polylines(drawn, [self._drawable(places_px)], False, (255,), thickness, cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / np.float32(255)

    def small(self, maps: Maps) -> Maps:
        """What is as large as the canvas, in the size of the part."""
        return np.asarray(cv2.resize(maps, self.size_px, interpolation=cv2.INTER_AREA), np.float32)

    def _drawable(self, places_px: Array) -> NDArray[np.int32]:
        inside = (places_px - self.origin_px + 0.5) * self.factor - 0.5
        drawable: NDArray[np.int32] = np.round(np.clip(inside, -_FARTHEST_PX, _FARTHEST_PX) * (1 << _SHIFT)).astype(
            np.int32
        )
        return drawable
