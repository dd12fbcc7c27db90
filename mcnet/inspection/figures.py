"""The figures of `mcnet inspect`: each a sheet of panels about one part of the network."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mcnet.arrays import Keypoints, Rgb
from mcnet.config import Border
from mcnet.inspection.drawing import (
    Components,
    arrows,
    cross,
    deformed_lattice,
    flow_colours,
    flow_wheel,
    flow_with_wheel,
    grey,
    heat,
    hues,
    inner,
    keypoint_dots,
    liveliest,
    map_picture,
    montage,
    over,
    picture,
    resized,
)
from mcnet.inspection.seen import Seen
from mcnet.inspection.sheet import BACKGROUND, Panel, sheet

CELL_PX = 256
_SMALL_PX = 128
_LARGE_PX = 384
_COLUMNS = 8
_CHANNELS = 8
_LEAST_MOTION = 0.02
"""The strongest colour of a flow stands for no less than this, in shares of the side, so that stillness looks still."""


class Performer(NamedTuple):
    """The driving frame.

    Attributes:
        rgb: (S, S, 3) uint8 RGB, as the model sees it.
        keypoints: the performer's own in it, batch 1.
    """

    rgb: Rgb
    keypoints: Keypoints


class Range(NamedTuple):
    """What the frames of one video share, so that colours do not change their meaning.

    Attributes:
        most: the motion that has the strongest colour, in coordinates from -1 to 1.
        channels: those of the memory that are shown.
    """

    most: float
    channels: list[int]

    @classmethod
    def of(cls, seen: Seen) -> "Range":
        """As suits one frame."""
        longest = float(torch.quantile(seen.motion.norm(dim=-1).flatten(), 0.99))
        channels = liveliest(seen.memory(seen.levels_px[0]), 16) if seen.levels_px else []
        return cls(max(longest, 2 * _LEAST_MOTION), channels)


def overview(seen: Seen, performer: Performer, shown: Range) -> Rgb:
    """Like the paper's figure 1: source, driving frame, motion, warped source, memory, result."""
    memory = Panel(np.full((CELL_PX, CELL_PX, 3), 40, np.uint8), "memory\nthis network has none")
    if seen.levels_px:
        tiles = montage(seen.memory(seen.levels_px[0]), shown.channels, 4, CELL_PX)
        memory = Panel(tiles, f"memory\n{len(shown.channels)} channels, conditioned on this source")
    return sheet(
        "MCNet, one frame",
        [
            [
                Panel(_source(seen), "source\nthe portrait"),
                Panel(resized(performer.rgb, CELL_PX), "driving frame\nthe performer"),
                Panel(
                    flow_with_wheel(seen.motion, shown.most, CELL_PX),
                    f"motion\nrim of the wheel: {_pixels(seen, shown.most)}",
                ),
            ],
            [
                Panel(picture(seen.frame.warped.picture[0], CELL_PX), "warped\nthe source, moved"),
                memory,
                Panel(picture(seen.frame.prediction[0], CELL_PX), "result\nwarped, compensated, decoded"),
            ],
        ],
    )


def keypoints(seen: Seen, performer: Performer) -> Rgb:
    """Keypoints of source and performer, and those that the source takes."""
    return sheet(
        "Keypoints",
        [
            [
                Panel(keypoint_dots(_source(seen, _LARGE_PX), seen.cache.keypoints), "source\nits own keypoints"),
                Panel(
                    keypoint_dots(resized(performer.rgb, _LARGE_PX), performer.keypoints),
                    "driving frame\nthe performer's keypoints",
                ),
                Panel(
                    keypoint_dots(picture(seen.frame.prediction[0], _LARGE_PX), seen.driving),
                    "result\nthe keypoints that the source takes",
                ),
            ]
        ],
        "Each keypoint has a place and a jacobian: what becomes of a small right angle there. Its axis to the right is "
        "thick, the one downwards thin.",
    )


def sparse_motions(seen: Seen) -> Rgb:
    """The source as each motion alone shows it."""
    panels = []
    for number, candidate in enumerate(seen.candidates):
        if number == 0:
            panels.append(Panel(picture(candidate, _SMALL_PX), "background\nat rest"))
            continue
        way = (seen.driving.value - seen.cache.keypoints.value)[0, number - 1].tolist()
        moved = ", ".join(f"{round(part * 128):+d}" for part in way)
        panels.append(Panel(picture(candidate, _SMALL_PX), f"keypoint {number}\nby {moved} px"))
    return sheet(
        "Sparse motions",
        _in_rows(panels),
        "Each keypoint proposes one affine motion for the whole picture. This is what the dense motion network is "
        "shown: the source at 64 px, moved by each of them. Below is how far the keypoint itself goes to the right and "
        "down, in pixels of 256.",
    )


def flow(seen: Seen, border: Border, shown: Range) -> Rgb:
    """The dense motion as colours with their legend, as arrows, and as a deformed lattice."""
    deformation = seen.frame.motion.deformation
    result = picture(seen.frame.prediction[0], _LARGE_PX)
    lattice = deformed_lattice(seen.cache.picture, deformation, border, _LARGE_PX)
    return sheet(
        "Dense motion",
        [
            [
                Panel(resized(flow_colours(seen.motion, shown.most), _LARGE_PX), "flow\nwhere what is shown came from"),
                Panel(arrows(result, seen.motion), "arrows\nfrom the place in the source to the place shown"),
                Panel(lattice, "lattice\ndrawn on the source, then warped"),
                Panel(
                    flow_wheel(_SMALL_PX, BACKGROUND),
                    f"legend\na colour is a motion away from the middle; the rim is {_pixels(seen, shown.most)}",
                ),
            ]
        ],
    )


def masks(seen: Seen) -> Rgb:
    """The share of each sparse motion at each place."""
    result = picture(seen.frame.prediction[0], _SMALL_PX)
    colours = [np.full(3, 255, np.uint8), *hues(len(seen.sparse) - 1)]
    panels = []
    for number, (mask, colour) in enumerate(zip(seen.frame.motion.mask[0], colours, strict=True)):
        share = 100 * mask.mean().item()
        name = f"keypoint {number}" if number else "background"
        panels.append(Panel(over(result, mask, colour), f"{name}\n{share:.1f} % of all"))
    return sheet(
        "Motion masks",
        _in_rows(panels),
        "How much of each sparse motion is in the dense motion at each place. The masks add up to 1 everywhere.",
    )


def occlusion(seen: Seen) -> Rgb:
    """The occlusion map as it was estimated, and as the levels use it."""
    whole = seen.frame.motion.occlusion[0, 0]
    used = seen.frame.warped.occlusion[0, 0]
    result = picture(seen.frame.prediction[0], CELL_PX)
    distrusted = over(result, 1 - used, np.array((255, 80, 80), np.uint8))
    mean = used.mean().item()
    return sheet(
        "Occlusion map",
        [
            [
                Panel(resized(heat(whole), CELL_PX, sharp=True), f"estimated\nat {whole.shape[-1]} px"),
                Panel(
                    resized(heat(used), CELL_PX),
                    f"used\nat {used.shape[-1]} px; from {used.min():.2f} to {used.max():.2f}, {mean:.2f} on average",
                ),
                Panel(distrusted, "distrusted\nred: here the picture is generated"),
                _bar(1.0, "the warp is trusted", "it is not"),
            ]
        ],
    )


def blend(seen: Seen) -> Rgb:
    """The result and what it is made of."""
    frame = seen.frame
    used = frame.warped.occlusion[0, 0]
    return sheet(
        "Blend",
        [
            [
                Panel(picture(frame.warped.picture[0], CELL_PX), "warped\nthe source, sampled at the dense motion"),
                Panel(picture(frame.generated[0], CELL_PX), "generated\nwhat the decoder made"),
                Panel(resized(heat(used), CELL_PX), "occlusion map\nyellow: warped, blue: generated"),
                Panel(picture(frame.prediction[0], CELL_PX), "result\nthe two, weighed by the map"),
            ]
        ],
        "result = occlusion map x warped + (1 - occlusion map) x generated",
    )


def features(seen: Seen) -> Rgb:
    """Features of each compensated level before and after, by one basis of principal components."""
    rows = []
    for size_px in seen.levels_px:
        before, after = seen.before(size_px), seen.after(size_px)
        basis = Components.of(before, after)
        change = (after - before).norm(dim=0)
        most = max(torch.quantile(change.flatten(), 0.98).item(), 1e-12)
        keep, lacking = (seen.frame.compensations[size_px].compensated[0, parity::2] for parity in (0, 1))
        level = f"{size_px} px, {len(before)} channels"
        rows.append(
            [
                Panel(basis.picture(before, CELL_PX), f"before, {level}\nthe warped feature"),
                Panel(basis.picture(after, CELL_PX), "after\nthe compensated feature"),
                Panel(resized(heat(change, most), CELL_PX, sharp=True), f"change\nyellow: by {most:.3g} or more"),
                Panel(Components.of(keep).picture(keep, CELL_PX), "half that stays\nits own components"),
                Panel(Components.of(lacking).picture(lacking, CELL_PX), "half filled in\nits own components"),
            ]
        )
    return sheet(
        "Features before and after compensation",
        rows,
        "Red, green and blue are the three strongest principal components. Before and after share one basis and one "
        "range in each row, so that the same colour is the same feature. Every second channel stays as it is.",
    )


def memory(seen: Seen) -> Rgb:
    """Channels of the meta memory, and the same ones conditioned on the source."""
    assert seen.bank is not None
    conditioned = seen.memory(seen.levels_px[0])
    channels = liveliest(conditioned, _CHANNELS)
    rows = [
        [
            Panel(resized(map_picture(maps[channel]), _SMALL_PX, sharp=True), f"{name}\nchannel {channel}")
            for channel in channels
        ]
        for name, maps in (("meta", seen.bank), ("conditioned", conditioned))
    ]
    size = conditioned.shape[-1]
    return sheet(
        "Memory",
        rows,
        f"Above: the meta memory, {len(conditioned)} channels of {size} x {size} that were learned from all faces. "
        f"Below: the same channels, conditioned on this source at {seen.levels_px[0]} px. Shown are those that vary "
        "most once conditioned, without their borders; each has its own range of grey.",
    )


def attention(seen: Seen, point: tuple[float, float]) -> Rgb:
    """What a place of the picture takes from the memory, and who else takes it."""
    rows = []
    marked = cross(picture(seen.frame.prediction[0], CELL_PX), point)
    for size_px in seen.levels_px:
        share = seen.attention(size_px, point)
        flat = share.flatten()
        peak = int(flat.argmax())
        half = int((flat.sort(descending=True).values.cumsum(0) < 0.5).sum()) + 1
        askers = seen.askers(size_px, peak)
        row, column = divmod(peak, share.shape[1])
        rows.append(
            [
                Panel(marked, f"asked, at {size_px} px\nx {point[0]:.2f}, y {point[1]:.2f} of the picture"),
                Panel(
                    resized(heat(share, flat.max().item()), CELL_PX, sharp=True),
                    f"attention over the memory\nyellow: {_percent(flat.max())}; half of it lies on {half} of "
                    f"{len(flat)} positions",
                ),
                Panel(
                    resized(heat(askers, max(askers.max().item(), 1e-12)), CELL_PX, sharp=True),
                    f"who takes the strongest\nof column {column}, row {row}; yellow: {_percent(askers.max())}",
                ),
            ]
        )
    return sheet(
        "Attention",
        rows,
        "Each place of a warped feature takes a mixture of the memory's positions. An even mixture would take "
        f"{_percent(1 / seen.attention(seen.levels_px[0], point).numel())} of each.",
    )


def scales(sources: Sequence[tuple[float, Seen]]) -> Rgb:
    """How the conditioned memory changes with the size of the face in the source.

    Args:
        sources: the source at several sizes, each with its factor; one of them is 1.
    """
    cell_px = _SMALL_PX * 3 // 2
    own = next(seen for factor, seen in sources if factor == 1)
    level_px = own.levels_px[0]
    memories = [seen.memory(level_px) for _, seen in sources]
    changed = inner(torch.stack(memories).var(dim=0)).flatten(1).mean(1)
    channels = sorted(changed.topk(min(4, len(changed))).indices.tolist())
    basis = Components.of(*memories)
    at_rest = own.memory(level_px)
    columns = []
    for (factor, seen), conditioned in zip(sources, memories, strict=True):
        apart = 100 * ((conditioned - at_rest).norm() / at_rest.norm()).item()
        shown = keypoint_dots(_source(seen, cell_px), seen.cache.keypoints, numbered=False)
        tiles = [_in_one_range(conditioned[channel], [one[channel] for one in memories]) for channel in channels]
        whole = np.concatenate([np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:4], axis=1)])
        columns.append(
            (
                Panel(shown, f"face x {factor:g}"),
                Panel(basis.picture(conditioned, cell_px), f"memory\n{apart:.1f} % from that of x 1"),
                Panel(resized(whole, cell_px, sharp=True), "channels " + ", ".join(map(str, channels))),
            )
        )
    return sheet(
        "Memory and the source's scale",
        [list(row) for row in zip(*columns, strict=True)],
        "The same portrait, with its face at several sizes. Below each: the memory as conditioned on it, by principal "
        "components of all of them together, and the four channels that change most, each in one range of grey.",
    )


def _in_one_range(values: Tensor, among: Sequence[Tensor]) -> Rgb:
    """A map in grey from the least to the largest inner value of some maps, framed."""
    shown = inner(torch.stack(list(among)))
    return np.pad(grey(values, shown.min().item(), shown.max().item()), ((0, 1), (0, 1), (0, 0)))


def _pixels(seen: Seen, length: float) -> str:
    """A length in coordinates from -1 to 1."""
    size_px: int = seen.frame.prediction.shape[-1]
    return f"{length / 2 * size_px:.0f} of {size_px} px"


def _percent(share: float | Tensor) -> str:
    """With two digits that count, as 0.39 % or 89 %."""
    percent = 100 * float(share)
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def _source(seen: Seen, size_px: int = CELL_PX) -> Rgb:
    return picture(seen.cache.picture[0], size_px)


def _bar(most: float, at_most: str, at_none: str) -> Panel:
    """The legend of `heat`, which runs from 0 to `most`."""
    ramp = torch.linspace(most, 0, CELL_PX)[:, None].expand(CELL_PX, _SMALL_PX // 4)
    padded = np.full((CELL_PX, _SMALL_PX, 3), BACKGROUND, np.uint8)
    padded[:, : _SMALL_PX // 4] = heat(ramp, most)
    return Panel(padded, f"legend\nupper end {most:g}: {at_most}; lower end 0: {at_none}")


def _in_rows(panels: list[Panel]) -> list[list[Panel]]:
    """In as few rows as have room, evenly filled."""
    columns = math.ceil(len(panels) / math.ceil(len(panels) / _COLUMNS))
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]
