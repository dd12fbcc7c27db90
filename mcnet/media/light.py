"""How bright and how contrasty a part of a picture is, which tells that a lens was covered or a hand put before it."""

from typing import NamedTuple

import numpy as np

from mcnet.arrays import Rgb

_STEP_PX = 8
_BRIGHTER = 1.3
_LEVELS = 6.0
"""Of 255: below this, brightness and contrast are noise."""


class Light(NamedTuple):
    """Of a part of a picture.

    Attributes:
        brightness: the mean of the green channel, 0 to 255.
        contrast: its standard deviation.
    """

    brightness: float
    contrast: float

    @classmethod
    def of(cls, rgb: Rgb) -> "Light":
        """Of a picture, by every eighth row and column.

        Args:
            rgb: (H, W, 3) uint8; a view into a frame will do.
        """
        green = rgb[::_STEP_PX, ::_STEP_PX, 1]
        if not green.size:
            return cls(0.0, 0.0)
        return cls(float(np.mean(green)), float(np.std(green)))

    def differs(self, other: "Light") -> bool:
        """Whether the two are too different to be of the same face in the same light."""
        return any(
            max(one, another) + _LEVELS > _BRIGHTER * (min(one, another) + _LEVELS)
            for one, another in zip(self, other, strict=True)
        )
