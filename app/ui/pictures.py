"""Between numpy's pictures and Qt's. Every answer owns its memory."""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtGui import QColorSpace, QImage, QPainter


def to_image(rgb: NDArray[np.uint8]) -> QImage:
    """A Qt picture of (H, W, 3) uint8 RGB, in the format that paints fastest."""
    rgb = np.ascontiguousarray(rgb)
    height, width = rgb.shape[:2]
    view = QImage(cast(bytes, rgb.data), width, height, 3 * width, QImage.Format.Format_RGB888)
    return view.convertToFormat(QImage.Format.Format_RGB32)  # which copies


def to_rgb(image: QImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a Qt picture, in sRGB; what is transparent becomes white."""
    srgb = QColorSpace(QColorSpace.NamedColorSpace.SRgb)
    if image.colorSpace().isValid() and image.colorSpace() != srgb:
        image = image.convertedToColorSpace(srgb)
    if image.hasAlphaChannel():
        flat = QImage(image.size(), QImage.Format.Format_RGB32)
        flat.fill(0xFFFFFFFF)
        painter = QPainter(flat)
        painter.drawImage(0, 0, image)
        painter.end()
        image = flat
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    bits = image.constBits()
    assert bits is not None, "the picture is empty"
    rows = np.frombuffer(bits.asstring(image.sizeInBytes()), np.uint8).reshape(image.height(), image.bytesPerLine())
    return np.ascontiguousarray(rows[:, : 3 * image.width()]).reshape(image.height(), image.width(), 3)
