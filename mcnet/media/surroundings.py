"""What a photograph shows around the square that is animated: the picture goes on there, and moves along.

The network sees the square alone. What lies beyond, shoulders and hair most often, is the photograph itself; it moves
as the square's border does, ever less with the distance, so that there is no seam. Where the network looks beyond the
square, as above a head that comes down, it can only repeat the border: what the photograph has there is shown instead.
Everything takes and gives numpy's arrays.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.media.crop import SquareBox, turned_box, turned_size
from mcnet.media.sampling import sample_square

_Picture = TypeVar("_Picture", bound=NDArray[np.generic])

# Shares of the square's side.
SEEN_IN_CALLS = (0.4, 0.15, 0.4, 0.15)
"""Left, above, right and below: the width of 16:9 about a square of its height, and what a nod brings into sight."""
FARTHEST = (2.0, 2.0, 2.0, 2.0)
"""Of a video of the whole photograph: what is farther away is left out, where the face is small in it."""
_STILL = 0.5
"""So far from the square nothing moves. A border that moves by a quarter of the side then stretches nothing by more
than three quarters, and folds nothing."""
_SEAM = 0.05
"""So wide is the strip along the border in which network and photograph are blended."""


class Margins(NamedTuple):
    """How far a picture goes on beyond the square that is animated in it, in its pixels; each at least 0.

    Attributes:
        left, top, right, bottom: of the square's edges.
    """

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def square(self, picture: _Picture) -> _Picture:
        """The square of a picture, (H, W) or (H, W, n), with these margins; a view."""
        height, width = picture.shape[:2]
        return picture[self.top : height - self.bottom, self.left : width - self.right]  # type: ignore[return-value]

    def side(self, picture: NDArray[np.generic]) -> int:
        """The square's side in a picture with these margins."""
        return len(picture) - self.top - self.bottom

    def at_most(self, most: "Margins") -> "Margins":
        """On each side the smaller one of both."""
        return Margins(*map(min, self, most))

    def trimmed(self, picture: _Picture, kept: "Margins") -> _Picture:
        """What is left of a picture with these margins when it has others, which are no larger; a view."""
        return Margins(*(mine - other for mine, other in zip(self, kept, strict=True))).square(picture)

    def mirrored(self) -> "Margins":
        """Those of the picture as it is seen in a mirror."""
        return Margins(self.right, self.top, self.left, self.bottom)


NO_MARGINS = Margins()


class Surrounded(NamedTuple):
    """A square with what is seen around it.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        margins: of the square in it.
    """

    rgb: Rgb
    margins: Margins


def surrounded(
    rgb: Rgb,
    box: SquareBox,
    square: Rgb,
    most: tuple[float, float, float, float] = SEEN_IN_CALLS,
    *,
    angle_deg: float = 0.0,
) -> Surrounded:
    """A portrait's square together with what its photograph shows around it; nothing is made up where that ends.

    Args:
        rgb: (H, W, 3) uint8, the photograph.
        box: the square in it, as it is turned; it may leave the photograph.
        square: (S, S, 3) uint8, what is seen in the box.
        most: how far it is seen at most, in shares of the square's side: left, above, right and below.
        angle_deg: how far the photograph is turned, clockwise; `rgb` is not yet.
    """
    side = len(square)
    size_px = (rgb.shape[1], rgb.shape[0])
    margins = margins_around(size_px, box, side, most, angle_deg=angle_deg)
    most_px = max(margins)
    if not most_px:
        return Surrounded(square, NO_MARGINS)
    larger_px = side + 2 * most_px
    flat = turned_box(box, size_px, angle_deg, 0.0)
    larger, _ = sample_square(
        rgb,
        (flat.center_x, flat.center_y),
        box.side * larger_px / side,
        larger_px,
        angle_rad=-math.radians(angle_deg),
        border=cv2.BORDER_REPLICATE,
    )
    picture = Margins(*(most_px,) * 4).trimmed(larger, margins).copy()
    margins.square(picture)[:] = square
    return Surrounded(picture, margins)


def margins_around(
    size_px: tuple[int, int],
    box: SquareBox,
    side: int,
    most: tuple[float, float, float, float] = SEEN_IN_CALLS,
    *,
    angle_deg: float = 0.0,
) -> Margins:
    """How far a photograph of that width and height shows more than the box, in pixels of a square of that side.

    For the rest see `surrounded`.
    """
    width, height = turned_size(size_px, angle_deg)
    half = box.side / 2
    room = (box.center_x - half, box.center_y - half, width - box.center_x - half, height - box.center_y - half)
    shares = [min(max(0.0, length / box.side), limit) for length, limit in zip(room, most, strict=True)]
    if angle_deg % 90:  # the photograph does not fill the upright picture that it is turned into
        whole, steps = shares, 64
        fits = [
            step for step in range(steps + 1) if _shown(size_px, box, [one * step / steps for one in whole], angle_deg)
        ]
        shares = [one * max(fits, default=0) / steps for one in whole]
    return Margins(*(math.floor(side * share) for share in shares))


def _shown(size_px: tuple[int, int], box: SquareBox, shares: Sequence[float], angle_deg: float) -> bool:
    """Whether a turned photograph shows all of the box with so much of its side around it."""
    left, top, right, bottom = (box.side * (0.5 + share) for share in shares)
    corners = [
        turned_box(SquareBox(box.center_x + x, box.center_y + y, 0), size_px, angle_deg, 0.0)
        for x in (-left, right)
        for y in (-top, bottom)
    ]
    return all(0 <= one.center_x <= size_px[0] and 0 <= one.center_y <= size_px[1] for one in corners)


class Part(NamedTuple):
    """A rectangle of a picture, in its pixels.

    Attributes:
        left, top, width, height: of the rectangle.
    """

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: _Picture) -> _Picture:
        """What it shows of a picture; a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]  # type: ignore[return-value]

    def within(self, other: "Part") -> "Part":
        """What two have in common; of no width or height where that is nothing."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        return Part(left, top, max(0, right - left), max(0, bottom - top))

    def moved(self, right: int, down: int) -> "Part":
        """The same size at another place."""
        return self._replace(left=self.left + right, top=self.top + down)


def moving(side: int, margins: Margins) -> Part:
    """What moves of a picture in which the square has that side and these margins: beyond, everything is at rest."""
    far = math.ceil(_STILL * side)
    height, width = side + margins.top + margins.bottom, side + margins.left + margins.right
    around_square = Part(margins.left - far, margins.top - far, side + 2 * far, side + 2 * far)
    return around_square.within(Part(0, 0, width, height))


def places_px(
    deformation: NDArray[np.float32], side: int, margins: Margins, part: Part
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where pixels of an animated picture look in the picture at rest.

    Args:
        deformation: (N, N, 2) float32 in [-1, 1], of the square, as `mcnet.arrays.Flow` has it.
        side: of the square, in pixels.
        margins: of the square in the picture.
        part: which pixels.

    Returns:
        (height, width) float32 x and y of the part's pixels, counted from the middle of the picture's first one.
    """
    return _places_of(_motion_px(deformation, side, margins), len(deformation), side, margins, part)


def _motion_px(deformation: NDArray[np.float32], side: int, margins: Margins) -> NDArray[np.float32]:
    """(M, M, 2): how far away the square's cells look, and as many more on all sides as there are margins for."""
    by_px = (deformation - _identity(len(deformation))) * np.float32((side - 1) / 2)
    if not any(margins):
        return by_px
    share = _moving_share(len(deformation), side, margins)
    more = (len(share) - len(deformation)) // 2
    return np.pad(by_px, ((more, more), (more, more), (0, 0)), mode="edge") * share[..., None]


def _places_of(
    by_px: NDArray[np.float32], cells: int, side: int, margins: Margins, part: Part
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x, y = cv2.split(_on_part(by_px, cells, side, margins, part))
    x += np.arange(part.left, part.left + part.width, dtype=np.float32)
    y += np.arange(part.top, part.top + part.height, dtype=np.float32)[:, None]
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def around_animated(portrait: Surrounded, rgb: Rgb, deformation: NDArray[np.float32]) -> Rgb:
    """An animated square with what is seen around it.

    Args:
        portrait: at rest.
        rgb: (S, S, 3) uint8 RGB, the animated square, as large as the portrait's.
        deformation: (N, N, 2) float32 of that frame, as `mcnet.arrays.Flow` has it.

    Returns:
        (H, W, 3) uint8 RGB, a fresh array as large as the portrait's picture; `rgb` itself where there are no margins.
    """
    margins, side = portrait.margins, len(rgb)
    if not any(margins):
        return rgb
    share, depths = _network_share(deformation, margins)
    picture = portrait.rgb.copy()
    margins.square(picture)[:] = rgb
    by_px, moves = _motion_px(deformation, side, margins), moving(side, margins)
    for part in (one.within(moves) for one in _parts_but(depths, len(share), side, margins)):
        if not (part.width and part.height):
            continue
        x, y = _places_of(by_px, len(deformation), side, margins, part)
        part.of(picture)[:] = cv2.remap(portrait.rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seam = part.within(Part(margins.left, margins.top, side, side))
        if seam.width and seam.height:
            network = _on_part(share, len(share), side, margins, seam)
            photo, made = np.ascontiguousarray(seam.of(picture)), seam.moved(-margins.left, -margins.top).of(rgb)
            seam.of(picture)[:] = cv2.blendLinear(np.ascontiguousarray(made), photo, network, 1 - network)
    return picture


def _network_share(
    deformation: NDArray[np.float32], margins: Margins
) -> tuple[NDArray[np.float32], tuple[int, int, int, int]]:
    """How far the network's picture is seen in the square, and where it is seen alone.

    Not on a border beyond which the photograph goes on, and not where it would look beyond that border.

    Returns:
        (N, N) in [0, 1] its share in each cell, and behind how many of them, counted from the left, the upper, the
        right and the lower border, the share is 1.
    """
    cells = len(deformation)
    here = _identity(cells)
    share = np.ones((cells, cells), np.float32)
    depths = []
    for there, axis, sign in zip(margins, (0, 1, 0, 1), (1, 1, -1, -1), strict=True):
        if not there:
            depths.append(0)
            continue
        near = (np.minimum(here[..., axis] * sign, deformation[..., axis] * sign) + 1) / (2 * _SEAM)
        share *= np.clip(near, 0, 1)
        (lines,) = np.nonzero((near < 1).any(axis=axis))
        depths.append(int(lines[-1]) + 1 if sign > 0 else cells - int(lines[0]))
    return np.asarray(share * share * (3 - 2 * share), np.float32), (depths[0], depths[1], depths[2], depths[3])


def _parts_but(depths: tuple[int, int, int, int], cells: int, side: int, margins: Margins) -> list[Part]:
    """The picture but for what lies behind so many cells of the square, in at most four parts."""
    left, top, right, bottom = (
        margin + math.ceil(depth * (side - 1) / (cells - 1)) for margin, depth in zip(margins, depths, strict=True)
    )
    width, height = margins.left + side + margins.right, margins.top + side + margins.bottom
    if left + right >= width or top + bottom >= height:
        return [Part(0, 0, width, height)]
    between = height - top - bottom
    parts = (
        Part(0, 0, width, top),
        Part(0, height - bottom, width, bottom),
        Part(0, top, left, between),
        Part(width - right, top, right, between),
    )
    return [part for part in parts if part.width and part.height]


def on_pixels(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(N, N) or (N, N, n) -> (side, side): corners on corners, as the network resizes its maps."""
    return _on_part(maps, len(maps), side, NO_MARGINS, Part(0, 0, side, side))


def _on_part(maps: NDArray[np.float32], cells: int, side: int, margins: Margins, part: Part) -> NDArray[np.float32]:
    """Likewise for a part of the picture around the square.

    Args:
        maps: (M, M) or (M, M, n), M at least `cells`: as many more on all sides.
        cells: of the square itself.
        side: of the square, in pixels.
        margins: of the square in the picture.
        part: of the picture.
    """
    step = (cells - 1) / (side - 1)
    more = (len(maps) - cells) // 2
    x, y = (more - step * (margin - start) for margin, start in ((margins.left, part.left), (margins.top, part.top)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size_px = (part.width, part.height)
    matrix = np.array([[step, 0, x], [0, step, y]])
    return np.asarray(cv2.warpAffine(maps, matrix, size_px, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32)


@functools.lru_cache(maxsize=4)
def _identity(cells: int) -> NDArray[np.float32]:
    """(cells, cells, 2): where each cell looks in a picture at rest."""
    line = np.linspace(-1, 1, cells, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1)


@functools.lru_cache(maxsize=8)
def _moving_share(cells: int, side: int, margins: Margins) -> NDArray[np.float32]:
    """How much of the border's motion is there in the cells of the square and around it, as far as margins go."""
    cell_px = (side - 1) / (cells - 1)
    more = math.ceil(max(margins) / cell_px)
    line = np.arange(-more, cells + more, dtype=np.float32)
    away = np.maximum(np.maximum(-line, line - (cells - 1)), 0) * np.float32(cell_px / side)
    near = np.clip(1 - np.hypot(away[:, None], away) / _STILL, 0, 1)
    return np.asarray(near * near * (3 - 2 * near), np.float32)
