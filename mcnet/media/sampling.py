"""Cutting a square out of a picture, turned and scaled at will."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray


def sample_square(
    rgb: NDArray[np.uint8],
    center: tuple[float, float],
    side: float,
    size_px: int,
    *,
    angle_rad: float = 0.0,
    border: int = cv2.BORDER_CONSTANT,
    spacing_px: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Sample a square, to fractions of a pixel: averaged where it shrinks, bicubic where it grows.

    Coordinates count from edges: 0 is a picture's left or upper edge, its width or height the other one.

    Args:
        rgb: (H, W, 3) uint8.
        center: xy of the square's middle; the square may leave the picture.
        side: the square's edge in the picture's pixels.
        size_px: width and height of the answer.
        angle_rad: how far the square is turned, clockwise as seen.
        border: what lies beyond the picture, one of OpenCV's border modes.
        spacing_px: how far apart, in the picture's pixels, samples may lie that are averaged. More than 1 is quicker
            and lets a little more noise through.

    Returns:
        The (size_px, size_px, 3) uint8 square, and the (2, 3) float32 map from its coordinates to the picture's.

    Raises:
        ValueError: it is no picture of three channels, as a camera's driver may give one.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"got a picture of shape {rgb.shape}, expected (height, width, 3)")
    finer = math.ceil(side / size_px - 1e-6)
    finer = max(1, min(finer, 2), math.ceil(side / (size_px * spacing_px) - 1e-6))
    to_picture = _map(center, side / size_px, size_px, angle_rad)
    matrix = _map(center, side / (size_px * finer), size_px * finer, angle_rad)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5  # warpAffine counts from the first pixel's middle
    finer_px = (size_px * finer, size_px * finer)
    if finer == 1:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        sampled = cv2.warpAffine(rgb, matrix, finer_px, flags=flags, borderMode=border)
    else:
        # OpenCV samples four channels linearly in less than half the time of three.
        part, corner = _around(rgb, matrix, finer_px[0])
        matrix[:, 2] -= corner
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        four = cv2.warpAffine(cv2.cvtColor(part, cv2.COLOR_RGB2RGBA), matrix, finer_px, flags=flags, borderMode=border)
        four = cv2.resize(four, (size_px, size_px), interpolation=cv2.INTER_AREA)
        sampled = cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)
    return sampled.astype(np.uint8, copy=False), to_picture.astype(np.float32)


def _around(
    rgb: NDArray[np.uint8], matrix: NDArray[np.float64], side_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """What of a picture a square of that many samples sees: a view, and the xy where it begins."""
    corners = matrix[:, :2] @ [[0, side_px, 0, side_px], [0, 0, side_px, side_px]] + matrix[:, 2:]
    size = np.array((rgb.shape[1], rgb.shape[0]))
    # Clipped before they are whole numbers: a square may lie anywhere.
    first = np.clip(np.floor(corners.min(axis=1)) - 1, 0, size - 1).astype(np.int64)
    last = np.clip(np.ceil(corners.max(axis=1)) + 2, first + 1, size).astype(np.int64)
    return rgb[first[1] : last[1], first[0] : last[0]], first


def _map(center: tuple[float, float], scale: float, size_px: int, angle_rad: float) -> NDArray[np.float64]:
    """Turn and scale about the middle of a square of `size_px`, then move that to the centre."""
    cos, sin = math.cos(angle_rad) * scale, math.sin(angle_rad) * scale
    half = size_px / 2
    return np.array(
        [[cos, -sin, center[0] - (cos - sin) * half], [sin, cos, center[1] - (sin + cos) * half]], np.float64
    )
