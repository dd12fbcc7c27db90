"""A network's pictures of a portrait, enlarged with the portrait's own detail.

A network of 256 px shows a portrait of 1,024 px in 256 px. What it leaves out, pores, hairs and threads, is in the
portrait, and the network says where each place of its picture looks: so the detail is moved along, and added to the
enlarged picture where the network shows what it looks at. Where it does not, in what it made up or changed, there is no
detail to be had, and the picture is as smooth as the network left it.
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb

ENOUGH_PIXELS = 0.75
"""Of a picture's, that a portrait has to have: with a smaller share there is little to show in it."""
MOST_TIMES = 2
"""As large as the network's are pictures at most that nobody asked for in another size."""
_TRUSTED_LEVELS = 8.0
"""A picture that differs by so much from what it looks at, in levels of 255, gets 1 / e of the detail there."""
_NEIGHBOURHOOD_PX = 5
"""Of the network's picture, over which that is averaged."""
_IN_THE_FIRST = cast("cv2.typing.MatLike", None)
"""The second map of `cv2.remap` where the first one has both coordinates; OpenCV's types do not know of it."""
_NO_DETAIL = 128
"""Level of what is kept as detail, in eight bits, where the portrait is as smooth as its small picture."""


class FineDetail:
    """Enlarges pictures of one portrait.

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        large: (L, L, 3), the same part of the portrait in the size that pictures are to get, L no less than S.
    """

    def __init__(self, square: Rgb, large: Rgb) -> None:
        self._square, self._size_px = square, len(large)
        apart = large.astype(np.int16) - self._enlarged(square)
        self._detail: Rgb = np.clip(apart + _NO_DETAIL, 0, 255).astype(np.uint8)

    def added(self, rgb: Rgb, deformation: NDArray[np.float32]) -> Rgb:
        """A picture with detail.

        Args:
            rgb: (S, S, 3), what the network made of the portrait.
            deformation: (64, 64, 2) float32 of that picture, as `mcnet.arrays.Flow` has it.

        Returns:
            (L, L, 3).
        """
        seen = self._moved(self._square, deformation)
        apart = cv2.cvtColor(cv2.absdiff(seen, rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
        around = cv2.blur(apart, (_NEIGHBOURHOOD_PX,) * 2)
        trusted = np.exp(-np.square(around / np.float32(_TRUSTED_LEVELS)))
        share = cv2.resize(trusted, (self._size_px,) * 2, interpolation=cv2.INTER_LINEAR)
        without = self._enlarged(rgb)
        whole = cv2.addWeighted(without, 1, self._moved(self._detail, deformation), 1, -_NO_DETAIL)
        return np.asarray(cv2.blendLinear(whole, without, share, 1 - share), np.uint8)

    def _enlarged(self, rgb: Rgb) -> Rgb:
        return np.asarray(cv2.resize(rgb, (self._size_px,) * 2, interpolation=cv2.INTER_CUBIC), np.uint8)

    def _moved(self, picture: Rgb, deformation: NDArray[np.float32]) -> Rgb:
        """What a picture of the portrait, of any size, has where the network looks; beyond its edge, that edge."""
        looks, border = self._looks(deformation, len(picture)), cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(picture, looks, _IN_THE_FIRST, cv2.INTER_LINEAR, borderMode=border), np.uint8)

    def _looks(self, deformation: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
        """(size_px, size_px, 2): where each pixel of a picture of that size looks in the portrait's, x and y."""
        side = len(self._square)
        per_px = size_px / side
        center = np.float32(per_px * side / 2 - 0.5)
        places_px = deformation * np.float32(per_px * (side - 1) / 2) + center
        # Maps lie corners on corners over the model's picture, whose pixels cover those of a larger one.
        step = (len(deformation) - 1) / (side - 1)
        scale, shift = step / per_px, step * (0.5 / per_px - 0.5)
        matrix = np.array([[scale, 0, shift], [0, scale, shift]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        looks = cv2.warpAffine(places_px, matrix, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(looks, np.float32)
