"""Views of the inside that can be watched live: one picture each, whose colours mean the same in every frame."""

from collections.abc import Callable

import numpy as np

from mcnet.arrays import Rgb
from mcnet.config import Border
from mcnet.inspection import LiveView
from mcnet.inspection.drawing import (
    Components,
    cross,
    deformed_lattice,
    flow_with_wheel,
    heat,
    mask_colours,
    picture,
    resized,
)
from mcnet.inspection.seen import Seen

MOST_MOTION = 0.16
"""The length that has the flow's strongest colour, in coordinates from -1 to 1: 20 of 256 px."""


def draw(view: LiveView, seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:
    """One view of a frame.

    Args:
        view: which.
        seen: the frame.
        border: of the network's configuration.
        point: whose attention is shown, x and y as shares of the picture.
        size_px: height of the answer. It is as wide, or twice as wide where two pictures belong together.
    """
    return _DRAWN[view](seen, border, point, size_px)


def _flow(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001 - see `draw`
    return flow_with_wheel(seen.motion, MOST_MOTION, size_px)


def _lattice(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    return deformed_lattice(seen.cache.picture, seen.frame.motion.deformation, border, size_px)


def _masks(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    return mask_colours(seen.frame.motion.mask[0], size_px)


def _occlusion(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    return resized(heat(seen.frame.warped.occlusion[0, 0]), size_px)


def _warped(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    return picture(seen.frame.warped.picture[0], size_px)


def _generated(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    return picture(seen.frame.generated[0], size_px)


def _features(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    """Before and after compensation, by one basis, at the finest level that is compensated."""
    if not seen.levels_px:
        return _none(size_px)
    before, after = seen.before(seen.levels_px[-1]), seen.after(seen.levels_px[-1])
    basis = Components.of(before, after)
    return np.hstack((basis.picture(before, size_px), basis.picture(after, size_px)))


def _attention(seen: Seen, border: Border, point: tuple[float, float], size_px: int) -> Rgb:  # noqa: ARG001
    """The place that asks, and what it takes from the memory, at the finest level that is compensated."""
    if not seen.levels_px:
        return _none(size_px)
    share = seen.attention(seen.levels_px[-1], point)
    asked = cross(picture(seen.frame.prediction[0], size_px), point)
    return np.hstack((asked, resized(heat(share, share.max().item()), size_px, sharp=True)))


def _none(size_px: int) -> Rgb:
    """Of a network without memory."""
    return np.full((size_px, 2 * size_px, 3), 40, np.uint8)


_DRAWN: dict[LiveView, Callable[[Seen, Border, tuple[float, float], int], Rgb]] = {
    "flow": _flow,
    "lattice": _lattice,
    "masks": _masks,
    "occlusion": _occlusion,
    "warped": _warped,
    "generated": _generated,
    "features": _features,
    "attention": _attention,
}
