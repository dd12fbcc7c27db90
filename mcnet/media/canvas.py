"""Smooth shapes on small pictures, and the colours that lie in them: what is drawn into a portrait is made of these."""

from collections.abc import Sequence

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


def remapped(rgb: Rgb, x: Maps, y: Maps) -> Rgb:
    """(h, w, 3): what a picture has at (h, w) places in its pixels, its edge outside of it."""
    return np.asarray(cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def doubled_areas(corners: Array) -> Array:
    """(n,): twice the areas of (n, 3, 2) triangles, less than 0 where their corners go the other way around."""
    along, across = _sides(corners)
    return np.asarray(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0])


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

    def interpolated(self, corners_px: Array, values: Array, beyond: Sequence[float]) -> tuple[Maps, NDArray[np.bool_]]:
        """What triangles have at their corners, linear within each of them; a later one covers an earlier one.

        A pixel at its edge lies beyond a triangle by a part of one, and in a thin triangle values run far away there.

        Args:
            corners_px: (n, 3, 2) of the triangles, at most 65,535, none of them without an area.
            values: (n, 3, c), of their corners.
            beyond: c numbers: how far a value may lie beyond those of the corners.

        Returns:
            (c, h, w), 0 outside of all triangles, and (h, w), where there is one.
        """
        number = np.zeros(self.shape, np.uint16)
        for one, outline in enumerate(self._drawable(corners_px), start=1):
            cv2.fillConvexPoly(number, outline, (one,), cv2.LINE_8, _SHIFT)
        first, along, across = corners_px[:, 0], *_sides(corners_px)
        area = doubled_areas(corners_px)[:, None]
        by_first, by_second = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
        by_x = (by_first * across[:, 1:] - by_second * along[:, 1:]) / area
        by_y = (by_second * along[:, :1] - by_first * across[:, :1]) / area
        at_origin = values[:, 0] - by_x * first[:, :1] - by_y * first[:, 1:]
        planes = np.zeros((5, values.shape[2], len(values) + 1), np.float32)
        one, two, three = values.transpose(1, 0, 2)  # which is faster than along an axis of three
        bounds = np.minimum(np.minimum(one, two), three) - beyond, np.maximum(np.maximum(one, two), three) + beyond
        planes[..., 1:] = np.stack((by_x, by_y, at_origin, *bounds)).transpose(0, 2, 1)
        x, y = (
            (np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(self.factor) + np.float32(origin - 0.5)
            for length, origin in ((self.shape[1], self.origin_px[0]), (self.shape[0], self.origin_px[1]))
        )
        chosen = number.astype(np.intp)  # which `take` would make of it each time
        maps = np.empty((values.shape[2], *self.shape), np.float32)
        part = np.empty(self.shape, np.float32)
        for filled, (px, py, p0, least, most) in zip(maps, planes.transpose(1, 0, 2), strict=True):
            np.take(px, chosen, out=filled, mode="clip")
            filled *= x
            np.take(py, chosen, out=part, mode="clip")
            part *= y[:, None]
            filled += part
            filled += np.take(p0, chosen, out=part, mode="clip")
            np.maximum(filled, np.take(least, chosen, out=part, mode="clip"), out=filled)
            np.minimum(filled, np.take(most, chosen, out=part, mode="clip"), out=filled)
        return maps, number > 0

    def line(self, places_px: Array, width_px: float) -> Maps:
        """(h, w): 1 on an open line through places, 0 elsewhere."""
        drawn = np.zeros(self.shape, np.uint8)
        thickness = max(1, round(width_px * self.factor))
        cv2.polylines(drawn, [self._drawable(places_px)], False, (255,), thickness, cv2.LINE_AA, _SHIFT)
        return drawn.astype(np.float32) / np.float32(255)

    def small(self, maps: Maps) -> Maps:
        """What is as large as the canvas, in the size of the part."""
        return np.asarray(cv2.resize(maps, self.size_px, interpolation=cv2.INTER_AREA), np.float32)

    def places(self, places_px: Array) -> Array:
        """Places of the picture on the canvas, in its own pixels."""
        return np.asarray((places_px - self.origin_px + 0.5) * self.factor - 0.5)

    def _drawable(self, places_px: Array) -> NDArray[np.int32]:
        """In fixed point."""
        fixed = np.round(np.clip(self.places(places_px), -_FARTHEST_PX, _FARTHEST_PX) * (1 << _SHIFT))
        return np.asarray(fixed, np.int32)


def _sides(corners: Array) -> tuple[Array, Array]:
    """From the first corner of triangles to the second one, and to the third one."""
    return corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
