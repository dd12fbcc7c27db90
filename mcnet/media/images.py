"""Still pictures: any common file in, PNG or JPEG out."""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.config import MIN_SIDE_PX
from mcnet.files import cause_and_remedy, replacing
from mcnet.media.errors import MediaError

WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
BEHIND_TRANSPARENCY = 128
"""The grey, 0 to 255, that shows through where a picture is transparent."""

_JPEG_QUALITY = 95
_ORIENTATION_TAG = 0x0112


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture the way a viewer shows it.

    Its EXIF orientation is applied, 16 bits become 8, grey and palettes become RGB, and transparent parts are blended
    over mid-grey (128).

    Args:
        path: a PNG, JPEG, WebP, BMP or TIFF file; what counts is its content, not its name.

    Returns:
        (H, W, 3) uint8 RGB, at least 64 pixels on each side.

    Raises:
        MediaError: the file is missing, cannot be read, is no picture or is too small.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MediaError(f"no picture at {path}: check the path") from error
    except IsADirectoryError as error:
        raise MediaError(
            f"cannot read the picture {path}: got a folder, expected a file; name one of its files"
        ) from error
    except OSError as error:
        raise MediaError(f"cannot read the picture {path}: {error.strerror or error}; check its permissions") from error
    pixels, orientation = _decode(content)
    if pixels is None:
        what = "an empty file" if not content else "something else or a damaged file"
        raise MediaError(f"cannot read the picture {path}: got {what}, expected PNG, JPEG, WebP, BMP or TIFF")
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise MediaError(
            f"the picture {path} is too small: got {width} x {height}, expected at least {MIN_SIDE_PX} pixels on each "
            "side; use a larger one"
        )
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels.astype(np.float32) / 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise MediaError(f"the picture {path} holds {pixels.dtype}, expected 8 or 16 bits a channel; convert it to PNG")
    return np.ascontiguousarray(_upright(_to_rgb(pixels), orientation))


def write_rgb(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture as PNG or JPEG (quality 95), by the path's suffix, replacing an older one in one step.

    Args:
        path: ends in `.png`, `.jpg` or `.jpeg`; its folder exists.
        rgb: (H, W, 3) uint8 RGB.

    Raises:
        MediaError: the suffix is another, or the place cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise MediaError(
            f"cannot write a picture to {path}: got suffix {path.suffix!r}, expected {' or '.join(WRITABLE_SUFFIXES)}"
        )
    if path.is_dir():
        raise MediaError(f"cannot write the picture {path}: it is a folder, expected a file name")
    try:
        with replacing(path) as partial:
            partial.write_bytes(encoded(rgb, suffix))
    except OSError as error:
        raise MediaError(f"cannot write the picture {path}: {cause_and_remedy(error)}") from error


def encoded(rgb: NDArray[np.uint8], suffix: str) -> bytes:
    """The content of a picture's file.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        suffix: one of `WRITABLE_SUFFIXES`.
    """
    options = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(suffix, rgb[:, :, ::-1], options)[1].tobytes()


def _decode(content: bytes) -> tuple[NDArray[np.generic] | None, int]:
    """The stored pixels, not yet turned, in OpenCV's channel order, and the EXIF orientation (1 to 8)."""
    if not content:
        return None, 1
    try:
        pixels, kinds, metadata = cv2.imdecodeWithMetadata(np.frombuffer(content, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a picture of absurd size, for one
        return None, 1
    exif = next((part for kind, part in zip(kinds, metadata, strict=False) if kind == cv2.IMAGE_METADATA_EXIF), None)
    return pixels, 1 if exif is None else _orientation(np.asarray(exif, np.uint8).tobytes())


def _orientation(exif: bytes) -> int:
    """Read the orientation tag of the first directory of a TIFF header; 1, upright, where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:
        return 1
    return 1


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation; an unknown value changes nothing."""
    if orientation in {2, 4, 5, 7}:
        rgb = rgb[:, ::-1]
    return np.rot90(rgb, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))


def _to_rgb(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    stored = pixels.astype(np.uint8, copy=False)
    if stored.ndim == 2:
        return np.repeat(stored[:, :, None], 3, axis=2)
    if stored.shape[2] == 1:
        return np.repeat(stored, 3, axis=2)
    rgb = stored[:, :, 2::-1]
    if stored.shape[2] == 3:
        return rgb
    alpha = stored[:, :, 3:].astype(np.float32) / 255
    blended = rgb * alpha + BEHIND_TRANSPARENCY * (1 - alpha)
    return np.rint(blended).astype(np.uint8)
