"""Numbers as pictures. All pictures are (H, W, 3) uint8 RGB."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mcnet.arrays import Keypoints, Rgb
from mcnet.config import Border
from mcnet.geometry import resize_deformation, sample
from mcnet.pictures import to_rgb

Floats = NDArray[np.float32]

_LATTICE_CELLS = 16
_ARROWS = 16
_JACOBIAN_REACH = 0.09
_SHOWN_SHARE = 2.0
"""Per cent of the values at each end that colours do not tell apart, so that single ones do not darken all others."""


def picture(image: Tensor, size_px: int | None = None) -> Rgb:
    """A (3, H, W) RGB tensor in [0, 1], at a size if one is given."""
    rgb: Rgb = to_rgb(image[None].float().cpu())[0].numpy()
    return rgb if size_px is None else resized(rgb, size_px)


def resized(rgb: Rgb, size_px: int, *, sharp: bool = False) -> Rgb:
    """A square picture at another size; `sharp` keeps the squares of few values as they are."""
    smaller = size_px < rgb.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST if sharp else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (size_px, size_px), interpolation=how), np.uint8)


def heat(values: Tensor, most: float = 1.0) -> Rgb:
    """(H, W) values from 0 (dark blue) to `most` (yellow), by OpenCV's viridis."""
    steps = (values.float() * (255 / most)).round().clamp(0, 255).byte().cpu().numpy()
    return np.asarray(cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[:, :, ::-1], np.uint8)


def grey(values: Tensor, low: float, high: float) -> Rgb:
    """(H, W) values from `low` (black) to `high` (white)."""
    shares = ((values.float() - low) / max(high - low, 1e-12)).clamp(0, 1)
    return picture(shares.expand(3, -1, -1))


def map_picture(values: Tensor) -> Rgb:
    """A map of the memory in grey, from the least to the largest value of its inner part; see `inner`."""
    shown = inner(values)
    return grey(values, shown.min().item(), shown.max().item())


def inner(maps: Tensor) -> Tensor:
    """(..., h, w) without an eighth of its sides at each border, where what padding made outshines all else."""
    (top, left) = (side // 8 for side in maps.shape[-2:])
    return maps[..., top : maps.shape[-2] - top, left : maps.shape[-1] - left]


def hues(count: int) -> NDArray[np.uint8]:
    """(count, 3): colours of the keypoints in their order, round the circle."""
    hsv = np.array([[[round(180 * number / count), 200, 255] for number in range(count)]], np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0], np.uint8)


def flow_colours(motion: Tensor, most: float) -> Rgb:
    """A field of motion as colours: the direction as a hue, the length as its strength.

    To the right is red, downwards yellow-green, to the left cyan, upwards violet; what rests is white. `flow_wheel` is
    the legend.

    Args:
        motion: (H, W, 2) xy, y downwards.
        most: the length of the strongest colour.
    """
    field = motion.float().cpu().numpy()
    length, angle_deg = cv2.cartToPolar(field[..., 0], field[..., 1], angleInDegrees=True)
    hsv = np.stack((angle_deg, np.clip(length / most, 0, 1), np.ones_like(length)), axis=-1).astype(np.float32)
    return np.round(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8)


def flow_wheel(size_px: int, background: int) -> Rgb:
    """The colour of every motion: a disc whose place is the motion, the strongest at its rim."""
    line = torch.linspace(-1, 1, size_px) * (size_px / (size_px - 8))  # a rim of 4 px
    motion = torch.stack((line.expand(size_px, size_px), line[:, None].expand(size_px, size_px)), dim=-1)
    wheel = flow_colours(motion, 1.0)
    wheel[(motion.norm(dim=-1) > 1).numpy()] = background
    return wheel


def flow_with_wheel(motion: Tensor, most: float, size_px: int) -> Rgb:
    """`flow_colours` at a size, with a small legend in the lower left corner."""
    colours = resized(flow_colours(motion, most), size_px)
    wheel = flow_wheel(size_px // 5, 0)
    corner = colours[-len(wheel) - 6 : -6, 6 : 6 + len(wheel)]
    np.copyto(corner, wheel, where=wheel.any(axis=2, keepdims=True))
    return colours


def arrows(rgb: Rgb, motion: Tensor) -> Rgb:
    """Arrows over a picture, from where something was in the source to where it is shown.

    Args:
        rgb: the picture that is shown; it is dimmed.
        motion: (h, w, 2) xy in coordinates from -1 to 1.
    """
    size_px = rgb.shape[0]
    drawn = rgb // 2
    field = motion.float().cpu().numpy()
    places = (np.arange(_ARROWS) + 0.5) / _ARROWS
    colour = (255, 236, 120)
    for y in places:
        for x in places:
            way = field[int(y * field.shape[0]), int(x * field.shape[1])] * (size_px - 1) / 2
            head = np.array((x, y)) * size_px
            tail, head_at = (_sixteenths(*place) for place in (head - way, head))
            if np.hypot(*way) < 1:
                cv2.circle(drawn, head_at, 16, colour, cv2.FILLED, cv2.LINE_AA, shift=4)
            else:
                _arrow(drawn, head - way, head, colour)
                cv2.line(drawn, tail, head_at, colour, 1, cv2.LINE_AA, shift=4)
    return drawn


def _arrow(drawn: Rgb, tail: NDArray[np.float64], head: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
    """The head of an arrow."""
    way = head - tail
    length = float(np.hypot(*way))
    along = way / length * min(5.0, 1.5 + length / 3)
    across = np.array((-along[1], along[0])) * 0.6
    corners = np.array([_sixteenths(*corner) for corner in (head, head - along + across, head - along - across)])
    cv2.fillConvexPoly(drawn, corners, colour, cv2.LINE_AA, shift=4)


def _sixteenths(x: float, y: float) -> tuple[int, int]:
    """A place in pixels as OpenCV takes fractions of them, with `shift=4`."""
    return round(16 * x), round(16 * y)


def deformed_lattice(source: Tensor, deformation: Tensor, border: Border, size_px: int) -> Rgb:
    """A lattice drawn on the source, seen through the deformation as the network's warp samples.

    Args:
        source: (1, 3, S, S) RGB in [0, 1].
        deformation: (1, h, w, 2) xy in the source.
        border: what lies beyond it.
        size_px: of the answer.
    """
    drawn = resized(picture(source[0]), size_px) // 2
    for line in np.linspace(0, size_px - 1, _LATTICE_CELLS + 1).round().astype(int).tolist():
        cv2.line(drawn, (line, 0), (line, size_px - 1), (120, 230, 255), 1)
        cv2.line(drawn, (0, line), (size_px - 1, line), (120, 230, 255), 1)
    lattice = torch.from_numpy(drawn).to(source.device).permute(2, 0, 1)[None].float() / 255
    return picture(sample(lattice, resize_deformation(deformation, size_px), border)[0])


def mask_colours(mask: Tensor, size_px: int) -> Rgb:
    """All motion masks at once: each keypoint's colour by its share, the background's motion in dark grey.

    Args:
        mask: (K + 1, h, w), sums to 1; 0 is the background's.
        size_px: of the answer.
    """
    colours = np.concatenate((np.full((1, 3), 40), hues(len(mask) - 1)))
    mixed = torch.einsum("khw,kc->chw", mask.float().cpu(), torch.from_numpy(colours / 255).float())
    return picture(mixed, size_px)


def over(rgb: Rgb, share: Tensor, colour: NDArray[np.uint8]) -> Rgb:
    """A colour over a picture in grey, by a (h, w) share in [0, 1]."""
    dimmed = rgb.mean(axis=2, keepdims=True) * 0.45
    weight = cv2.resize(share.float().cpu().numpy(), rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    return np.asarray(np.round(dimmed + weight * (colour - dimmed)), np.uint8)


def keypoint_dots(rgb: Rgb, keypoints: Keypoints, *, numbered: bool = True) -> Rgb:
    """Keypoints over a picture: numbered from 1, each with what its jacobian makes of a small right angle.

    The axis to the right is drawn thick, the one downwards thin.

    Args:
        rgb: square.
        keypoints: batch 1.
        numbered: whether there is room for numbers; without, the angles are left out too.
    """
    size_px = rgb.shape[0]
    drawn = rgb.copy()
    values, jacobians = keypoints.value[0].double().cpu().numpy(), keypoints.jacobian[0].double().cpu().numpy()
    colours = [tuple(map(int, colour)) for colour in hues(len(values))]
    places = (values + 1) / 2 * (size_px - 1)
    for place, jacobian, colour in zip(places, jacobians, colours, strict=True):
        for axis, thickness in ((0, 2), (1, 1)) if numbered else ():
            end = place + jacobian[:, axis] * _JACOBIAN_REACH * size_px / 2
            cv2.line(drawn, _sixteenths(*place), _sixteenths(*end), colour, thickness, cv2.LINE_AA, shift=4)
        cv2.circle(drawn, _sixteenths(*place), 5 * 16, (0, 0, 0), cv2.FILLED, cv2.LINE_AA, shift=4)
        cv2.circle(drawn, _sixteenths(*place), 4 * 16, colour, cv2.FILLED, cv2.LINE_AA, shift=4)
    if not numbered:
        return drawn
    image = Image.fromarray(drawn)
    pen = ImageDraw.Draw(image)
    for number, (x, y) in enumerate(places.tolist(), start=1):
        others = np.delete(places, number - 1, axis=0)
        nearest = others[np.abs(others - (x, y)).sum(axis=1).argmin()]
        above = y <= nearest[1]  # where two lie close together, their numbers do not
        at, anchor = ((x + 5, y - 3), "lb") if above else ((x + 5, y + 3), "lt")
        pen.text(at, str(number), (255, 255, 255), font(13), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(image, np.uint8)


def cross(rgb: Rgb, point: tuple[float, float]) -> Rgb:
    """A mark at a place of a picture, x and y as shares of it."""
    drawn = rgb.copy()
    x, y = (share * side for share, side in zip(point, rgb.shape[1::-1], strict=True))
    for colour, thickness in (((0, 0, 0), 4), ((255, 64, 64), 2)):
        cv2.circle(drawn, _sixteenths(x, y), 8 * 16, colour, thickness, cv2.LINE_AA, shift=4)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = _sixteenths(x + 11 * dx, y + 11 * dy), _sixteenths(x + 18 * dx, y + 18 * dy)
            cv2.line(drawn, *ends, colour, thickness, cv2.LINE_AA, shift=4)
    return drawn


class Components(NamedTuple):
    """Three principal components of features, and the range of each that colours show.

    Attributes:
        mean: (C,).
        axes: (C, 3), orthonormal, the strongest first.
        low, high: (3,), of what is told apart.
    """

    mean: Tensor
    axes: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, *features: Tensor) -> "Components":
        """Of all positions of some (C, h, w) features together, so that their colours compare."""
        columns = torch.cat([feature.double().flatten(1) for feature in features], dim=1).cpu()
        mean = columns.mean(1)
        centred = columns - mean[:, None]
        axes = torch.linalg.eigh(centred @ centred.T)[1].flip(1)[:, :3]
        # An axis may as well point the other way: the largest of its parts is taken to be positive.
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        axes = axes * torch.where(signs == 0, 1.0, signs)
        projected = axes.T @ centred
        share = _SHOWN_SHARE / 100
        low, high = (torch.from_numpy(np.quantile(projected.numpy(), end, axis=1)) for end in (share, 1 - share))
        return cls(mean, axes, low, high)

    def project(self, feature: Tensor) -> Tensor:
        """(C, h, w) -> (3, h, w), how much of each component is in each position."""
        columns = feature.double().cpu().flatten(1) - self.mean[:, None]
        return (self.axes.T @ columns).reshape(-1, *feature.shape[1:])

    def picture(self, feature: Tensor, size_px: int) -> Rgb:
        """(C, h, w) as a picture: the first component is red, the second green, the third blue."""
        span = (self.high - self.low).clamp(min=1e-12)
        shares = (self.project(feature) - self.low[:, None, None]) / span[:, None, None]
        lacking = 3 - len(shares)
        shares = torch.cat((shares, torch.zeros(lacking, *shares.shape[1:], dtype=shares.dtype)))
        return resized(picture(shares.clamp(0, 1)), size_px, sharp=True)


def liveliest(maps: Tensor, count: int) -> list[int]:
    """The channels of (C, h, w) that vary most over their inner positions, in order of their numbers."""
    spread = inner(maps.float()).flatten(1).var(dim=1)
    return sorted(spread.topk(min(count, len(maps))).indices.tolist())


def montage(maps: Tensor, channels: list[int], columns: int, size_px: int) -> Rgb:
    """Some channels of (C, h, w) in a square of `columns` each way, each as `map_picture`."""
    gap_px = 2
    side_px = (size_px - gap_px * (columns - 1)) // columns
    whole = np.zeros((size_px, size_px, 3), np.uint8)
    for place, channel in enumerate(channels[: columns * columns]):
        top, left = (part * (side_px + gap_px) for part in divmod(place, columns))
        tile = resized(map_picture(maps[channel]), side_px, sharp=True)
        whole[top : top + side_px, left : left + side_px] = tile
    return whole


@functools.cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font."""
    found = ImageFont.load_default(size_px)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found
