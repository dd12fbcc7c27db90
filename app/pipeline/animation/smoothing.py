"""How strongly a setting smooths, and what delay that costs. Light: the window tells it before anything is loaded."""

import math

_WEAK_HZ, _STRONG_HZ = 1.0, 0.1
_STILL = 0.02
_SPEED_GAIN = 400.0
SLOW = 0.1
"""A slow movement, for which the delay is told: in coordinates per second, 13 pixels of 256."""


def smoothing_cutoff_hz(smoothing: float, speed: float = 0.0) -> float:
    """The filter's cut-off frequency; infinite for a setting of 0.

    Args:
        smoothing: the setting, 0 to 1.
        speed: of what is smoothed, root mean square, in coordinates per second. Up to 0.02 it is taken for jitter:
            that of a still face is 0.01, measured by the mesh with two grey levels of noise at 30 frames per second.
    """
    if smoothing <= 0:
        return math.inf
    rest_hz = _WEAK_HZ * (_STRONG_HZ / _WEAK_HZ) ** smoothing
    return float(rest_hz * (1 + _SPEED_GAIN * max(0.0, speed - _STILL)))


def smoothing_delay_ms(smoothing: float) -> float:
    """How far smoothed keypoints lag behind a slow movement (`SLOW`), in milliseconds; faster ones are delayed less."""
    return 1000 / (2 * math.pi * smoothing_cutoff_hz(smoothing, SLOW))
