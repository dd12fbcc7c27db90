"""The rewritten network as OpenVINO graphs, written operation by operation from a model's weights.

Writing them takes a fraction of a second, where tracing the torch modules takes many, and it lets maps stay in the
order in which this runtime computes fastest. It needs no torch either. Batch 1; the tests hold the graphs to the plain
network.

Maps between graphs are rows: (side * side, channels), one position each.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mcnet.arrays import Array, SourceCache
from mcnet.config import (
    DEMODULATION_EPS,
    HEATMAP_TEMPERATURE,
    HEATMAP_VARIANCE,
    KERNEL_TEMPERATURE,
    MOTION_SIZE_PX,
    NORM_EPS,
    Border,
    HourglassConfig,
    McnetConfig,
)
from mcnet.engine.weights import ComposedWeights, Conv, Weights, compose, transposed_kernel
from mcnet.model_file import Ranges
from mcnet.openvino_import import op, ov

Node = Any  # of openvino, which has no types

MARGIN = 3
"""A warped map's table has a ring of zeros: one row and column before the map, two after it."""

_REGISTER = 8
"""Numbers in a register of AVX2, of which whole ones are computed fastest."""

_NEVER = -1e4
"""The logit of a motion that is none: its share is zero, in bf16 as well."""

_MANY_CHANNELS = 256
"""From so many on, a doubling in float32 takes fewer products by differences, which cost as many sums per pixel."""

_COLOURS = 4
"""Colours of a pixel while it is computed: red, green, blue, and a zero, since runs of four fill registers."""


def detector_graph(config: McnetConfig, weights: Weights) -> ov.Model:
    """(size, size, 3) uint8 RGB -> keypoints: value (K, 2) and jacobian (K, 4), float32."""
    detector = weights.part("keypoint_detector")
    size_px, points = config.size_px, config.num_keypoints
    rgb = _parameter("rgb", (size_px, size_px, 3), np.uint8)
    small = _shrunk(op.convert(rgb, np.float32), detector["shrink.weight"][0, 0], config, 1 / 255)
    features = _hourglass(_to_maps(small, MOTION_SIZE_PX), detector.part("hourglass"), config.keypoint_hourglass)
    # The heads stay apart: splitting a common output of theirs would cost as much as they do.
    side = MOTION_SIZE_PX - config.keypoint_hourglass.head_kernel + 1
    logits, jacobians = (_conv(features, detector.conv(head), padding=0) for head in ("logits", "jacobians"))
    scaled = op.multiply(_reshape(logits, (points, side * side)), _constant(1 / HEATMAP_TEMPERATURE))
    heatmap = op.softmax(scaled, axis=1)
    value = op.matmul(heatmap, _constant(_grid(side)[:, :2]), False, False)
    per_keypoint = _reshape(jacobians, (points, 4, side * side))
    jacobian = op.matmul(per_keypoint, op.unsqueeze(heatmap, _axes(2)), False, False)
    results = [_result("value", value), _result("jacobian", _reshape(jacobian, (-1, 4)))]
    return ov.Model(results, [rgb], "detector")


def encoder_graph(config: McnetConfig, weights: Weights) -> ov.Model:
    """(size, size, 3) uint8 RGB -> what a source settles but for its keypoints.

    Outputs: small (1, 3, 64, 64), the picture shrunk; feature_N (1, C, N, N) per level, as they are warped.
    """
    generator, size_px = weights.part("generator"), config.size_px
    rgb = _parameter("rgb", (size_px, size_px, 3), np.uint8)
    whole = op.multiply(op.convert(rgb, np.float32), _constant(1 / 255))
    small = _shrunk(whole, generator["dense_motion.shrink.weight"][0, 0], config, 1.0)
    x = op.relu(_conv(_to_maps(whole, size_px), generator.part("first").folded()))
    features = [x]
    for down in generator.parts("down_blocks", len(config.encoder_widths) - 1):
        x = _halved(op.relu(_conv(x, down.folded())))
        features.append(x)
    features.reverse()
    if config.lateral:
        features = [_conv(x, generator.conv(f"laterals.{level}")) for level, x in enumerate(features)]
    results = [_result(f"feature_{side}", x) for side, x in zip(config.level_sizes_px, features, strict=True)]
    return ov.Model([_result("small", _to_maps(small, MOTION_SIZE_PX)), *results], [rgb], "encoder")


def keypoints_graph(config: McnetConfig, weights: Weights) -> ov.Model:
    """A source's keypoints (K, 2) -> what they settle.

    Outputs: heatmaps (64, 64, K); where the memory's conditioning depends on the source alone, memory
    (1, C, size, size) and responses (P, size * size, 2 C).
    """
    points = _parameter("points", (config.num_keypoints, 2))
    results = [_result("heatmaps", _heatmaps(points, MOTION_SIZE_PX))]
    if config.memory.levels_px and config.memory.conditioning != "keypoints+appearance":
        memory = _Memory(config, weights.part("generator.memory"))
        if config.memory.conditioning == "none":
            maps = _constant(memory.weights["bank"])
        else:
            maps = op.multiply(_modulated(memory, _reshape(points, (1, -1))), _constant(2**0.5))
        kernels, size = memory.kernels, config.memory.size
        stacked = _conv(maps, Conv(kernels.weight.reshape(-1, *kernels.weight.shape[2:]), kernels.bias.reshape(-1)))
        rows = op.transpose(_reshape(stacked, (len(kernels.weight), -1, size**2)), _axes(0, 2, 1))
        results += [_result("memory", maps), _result("responses", rows)]
    return ov.Model(results, [points], "keypoints")


def sparse_graph(config: McnetConfig) -> ov.Model:
    """Keypoints -> seen (64, 64, 4 K + 3), what dense motion's hourglass sees of the sparse motions.

    Inputs: affine (3, (K + 1) * 2), where column k, xy of rows x, y, 1 is T_k; driving (K, 2); of the source: small
    (1, 3, 64, 64) and heatmaps (64, 64, K).
    """
    points, motions, side = config.num_keypoints, config.num_keypoints + 1, MOTION_SIZE_PX
    affine = _parameter("affine", (3, motions * 2))
    driving = _parameter("driving", (points, 2))
    small = _parameter("small", (1, 3, side, side))
    source_heatmaps = _parameter("heatmaps", (side, side, points))
    sparse = _reshape(op.matmul(_constant(_grid(side)), affine, False, False), (1, side * side, motions, 2))
    deformed = op.grid_sample(
        small, sparse, {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
    )  # (1, 3, 64 * 64, K + 1)
    deformed = _reshape(op.transpose(deformed, _axes(0, 2, 1, 3)), (side, side, 3 * motions))
    seen = op.concat([op.subtract(_heatmaps(driving, side), source_heatmaps), deformed], 2)
    return ov.Model([_result("seen", seen)], [affine, driving, small, source_heatmaps], "sparse")


def mask_graph(config: McnetConfig, weights: Weights, *, in_float32: bool = True) -> ov.Model:
    """What the hourglass sees -> logits (64 * 64, N): of the occlusion, of the mask's motions 1 to K, then `_NEVER`.

    A softmax does not change when all its logits are lowered alike: lowered by that of motion 0, which is then zero and
    left out, as many remain as there are motions, 18 for the starter's 17 keypoints. N is `_logits`, 24 there.
    """
    motion = weights.part("generator.dense_motion")
    motions, side = config.num_keypoints + 1, MOTION_SIZE_PX
    # The background's heatmap is zero and left out; the plain network has heatmap, red, green, blue of each motion.
    order = [4 * k for k in range(1, motions)] + [4 * k + 1 + c for c in range(3) for k in range(motions)]
    seen = _parameter("seen", (side, side, len(order)))
    features = _hourglass(
        _to_maps(seen, side), motion.part("hourglass"), config.motion_hourglass, order, in_float32=in_float32
    )
    own = config.motion_hourglass.channels(0)
    order = [*range(own), *(own + channel for channel in order)]
    weight, bias = (
        np.concatenate((occlusion, mask[1:] - mask[:1]))
        for occlusion, mask in zip(motion.conv("occlusion"), motion.conv("mask"), strict=True)
    )
    lacking = (0, _logits(config) - motions)
    weight = np.pad(weight[:, order], (lacking, (0, 0), (0, 0), (0, 0)))
    logits = _conv(features, Conv(weight, np.pad(bias, lacking, constant_values=_NEVER)))
    return ov.Model([_result("logits", _to_rows(logits))], [seen], "mask")


def _logits(config: McnetConfig) -> int:
    """How many logits `mask_graph` gives of each place."""
    return -(-(config.num_keypoints + 1) // _REGISTER) * _REGISTER


def warp_graph(config: McnetConfig) -> ov.Model:
    """The mask -> every level's source as the motion shows it.

    The full size is in pairs of pixels along both axes, since `decoder_graph` makes it so: a place has four pixels, of
    which the left ones come first, and of these the upper one. There are places for the features as the last doubling
    gives them, `_pairs_of_features`, and for the colours as the last convolution does, `_pairs_of_colours`.

    Inputs: affine, as for `sparse_graph`; logits, which `mask_graph` gives; of the source: a table per level, lowest
    first, and the picture (1, 3, size, size).
    Outputs: those that `decoder_graph` takes, and motion_witness, which is NaN or infinite if any place is.
    """
    size_px, border = config.size_px, config.border
    inputs, maps = _flow(config)
    results: list[Node] = []
    for side, width in zip(config.level_sizes_px, config.decoder_widths, strict=True):
        table = _parameter(f"table_{side}", ((side + MARGIN) ** 2, width))
        inputs.append(table)
        if side == size_px:
            pairs = _pairs_of_features(size_px)
            parts = _split(_in_pairs(maps, pairs), [1, 1, 1], axis=0)
            # Each by itself: all three at once are turned half as fast.
            turned = [op.transpose(_reshape(part, (4, pairs.places)), _axes(1, 0)) for part in parts]
            results.append(_result("generated_in_pairs", op.subtract(_constant(pairs.inside().T), turned[2])))
            flow = [_reshape(part, (1, 4 * pairs.places)) for part in turned]
        else:
            flow = _split(_reshape(_resized(maps, side), (3, side**2)), [1, 1, 1], axis=0)
        results.append(_result(f"warped_{side}", _sampled(table, flow, side=side, border=border)))
    picture = _parameter("picture", (1, 3, size_px, size_px))
    shown = _in_pairs(maps, _pairs_of_colours(size_px))
    results.append(_result("colours", _colours_at(shown, picture, border)))
    results.append(_result("generated", op.subtract(_constant(1.0), _sliced(shown, 2, 3, axis=0))))
    # Clamped places would hide NaN from the decoder.
    results.append(_result("motion_witness", op.reduce_sum(maps, _axes(0, 1, 2), keep_dims=False)))
    return ov.Model(results, [*inputs, picture], "warp")


class _Pairs(NamedTuple):
    """Places of 2x2 pixels.

    Attributes:
        size_px: of the picture.
        first_px: row and column of the first pixel.
        rows: how many places there are below one another.
        columns: likewise, side by side.
    """

    size_px: int
    first_px: int
    rows: int
    columns: int

    @property
    def places(self) -> int:
        """How many there are."""
        return self.rows * self.columns

    def along(self, values: Array, count: int) -> Array:
        """Of a value per pixel along an axis that of the first and of the second pixel of each pair, (2, count); 0
        outside the picture.
        """
        after = 2 * count - self.size_px + self.first_px
        return np.pad(values, (-self.first_px, after)).reshape(count, 2).T

    def inside(self) -> Array:
        """(4, places): 1 in the picture, else 0."""
        down, across = (self.along(np.ones(self.size_px), count) for count in (self.rows, self.columns))
        inside: Array = np.einsum("py,qx->qpyx", down, across).reshape(4, self.places)
        return inside


def _pairs_of_features(size_px: int) -> _Pairs:
    """Pixels -1 and 0, 1 and 2, ..., as `_paired` gives them."""
    return _Pairs(size_px, -1, size_px // 2 + 1, size_px // 2 + 1)


def _pairs_of_colours(size_px: int) -> _Pairs:
    """Pixels 0 and 1, 2 and 3, ..., and a column too many.

    Maps whose lengths are powers of two are turned three times as slowly: all of them want the same lines of a cache.
    """
    return _Pairs(size_px, 0, size_px // 2, size_px // 2 + 1)


def flow_graph(config: McnetConfig) -> ov.Model:
    """The mask -> flow (3, 64, 64): the deformation's x and y, and the occlusion; inputs as for `warp_graph`.

    It computes once more what `warp_graph` keeps to itself, so that frames whose flow nobody wants give none.
    """
    inputs, maps = _flow(config)
    return ov.Model([_result("flow", maps)], inputs, "flow")


def _flow(config: McnetConfig) -> tuple[list[Node], Node]:
    """The parameters affine and logits, and the flow of `flow_graph`."""
    motions, side = config.num_keypoints + 1, MOTION_SIZE_PX
    affine = _parameter("affine", (3, motions * 2))
    count = _logits(config)
    logits = _parameter("logits", (side * side, count))
    occlusion_logit = _sliced(logits, 0, 1, axis=1)
    mask = op.softmax(op.multiply(logits, _constant(np.arange(count)[None] > 0)), axis=1)
    maps = op.concat(
        [
            _reshape(_deformation(affine, mask, side), (2, side, side)),
            _reshape(op.sigmoid(occlusion_logit), (1, side, side)),
        ],
        0,
    )
    return [affine, logits], maps


def decoder_graph(config: McnetConfig, weights: Weights, ranges: Ranges | None = None) -> ov.Model:
    """The source as the motion shows it -> the picture.

    The full size is computed in pairs of pixels: the last doubling gives pixels -1 and 0, 1 and 2, ..., and the last
    convolution takes these to the pixels 0 and 1, 2 and 3, ... in one smaller convolution, so that only the finished
    picture has to be taken apart into pixels.

    Convolutions whose input's range is given are computed in 8 bits, but for the last one.

    Inputs: warped rows per level, lowest first, (4 * places, C) of `_pairs_of_features` for the last one;
    generated_in_pairs (places, 4), how much of each of these pixels is generated: 1 - the occlusion, and 0 outside the
    picture; generated (1, 4, places), the same of `_pairs_of_colours`; colours (3, 4, places), there the warped picture
    times the occlusion; where there is a memory, what a source settles of it (`settled_of_memory`).
    Outputs: (size, size, 3) uint8 RGB, and its sum in [0, 1], which is NaN or infinite if any colour is.
    """
    generator = weights.part("generator")
    memory = _Memory(config, generator.part("memory")) if config.memory.levels_px else None
    ranges = ranges or {}
    inputs = []
    settled: Node | None = None
    if memory is not None:
        settled = _parameter(*settled_of_memory(config))
        inputs.append(settled)
    x: Node | None = None
    order: list[int] = []
    for level, (side, width) in enumerate(zip(config.level_sizes_px[:-1], config.decoder_widths, strict=False)):
        warped = _parameter(f"warped_{side}", (side**2, width))
        inputs.append(warped)
        shown = _clipped(_to_maps(warped, side), ranges.get(f"warped_{side}"))
        if memory is not None and side in config.memory.levels_px:
            found = _to_maps(_attended(memory, memory.level(side), warped, settled), side)
            found = _clipped(found, ranges.get(f"memory.levels.{side}.outward"))
            filled = _filled(memory.weights.part(f"levels.{side}"), found)
            maps = op.concat([_picked(shown, range(width // 2)), filled], 1)
        else:
            maps = _picked(shown, range(width))
        level_order = channel_order(config, side)
        seen = ranges.get(f"up_blocks.{level}")
        if x is None:
            x, order = maps, level_order
        else:
            # Where nothing comes before the next convolution, parts are clipped as they are made: in the convolution
            # that makes them, and what takes its result apart moves bytes and not floats.
            early = None if config.resblocks[level] else seen
            x = op.concat([_unpaired(_clipped(x, early)), _clipped(maps, early)], 1)
            order = [*range(width), *(width + channel for channel in level_order)]
        for name in (f"res_stages.{level}.{number}" for number in range(config.resblocks[level])):
            x = _res_block(x, generator.part(name), order, ranges, name)
        x = x if _is_clipped(x) else _clipped(x, seen)
        left_first = side == config.size_px // 2
        x = _paired(x, generator.part(f"up_blocks.{level}").folded(), order, left_first=left_first)
    assert x is not None
    size_px, width = config.size_px, config.decoder_widths[-1]
    features, made = _pairs_of_features(size_px), _pairs_of_colours(size_px)
    warped = _parameter(f"warped_{size_px}", (4 * features.places, width))
    shares = _parameter("generated_in_pairs", (features.places, 4))
    generated, colours = _parameter("generated", (1, 4, made.places)), _parameter("colours", (3, 4, made.places))
    inputs += [warped, shares, generated, colours]
    of_pixels = (features.places, 4, width)
    x = op.multiply(_reshape(_to_rows(x), of_pixels), op.unsqueeze(shares, _axes(2)))
    x = op.add(x, _reshape(warped, of_pixels))
    x = op.transpose(_reshape(x, (1, features.rows, features.columns, 4 * width)), _axes(0, 3, 1, 2))
    logits = op.transpose(_final_of_pairs(x, generator.conv("final")), _axes(0, 2, 3, 1))
    logits = op.transpose(_reshape(logits, (made.places, 4 * _COLOURS)), _axes(1, 0))
    logits = _sliced(_reshape(logits, (_COLOURS, 4, made.places)), 0, 3, axis=0)
    # What follows the last convolution is computed in float32, the warped picture included.
    prediction = op.add(op.multiply(op.sigmoid(logits), generated), colours)
    rgb = op.clamp(op.round(op.multiply(prediction, _constant(255.0)), "half_to_even"), 0, 255)
    rgb = _reshape(op.convert(rgb, np.uint8), (3, 2, 2, made.rows, made.columns))
    rgb = _reshape(op.transpose(rgb, _axes(3, 2, 4, 1, 0)), (size_px, 2 * made.columns, 3))
    results = [
        _result("rgb", _sliced(rgb, 0, size_px, axis=1)),
        _result("witness", op.reduce_sum(prediction, _axes(0, 1, 2), keep_dims=False)),
    ]
    return ov.Model(results, inputs, "decoder")


def settled_of_memory(config: McnetConfig) -> tuple[str, tuple[int, ...]]:
    """Name and shape of what a source settles of the memory: the parallel kernels' responses, or just its keypoints."""
    memory = config.memory
    if memory.conditioning != "keypoints+appearance":
        return "responses", (memory.parallel_kernels, memory.size**2 * 2 * memory.channels)
    return "points", (1, 2 * config.num_keypoints)


def channel_order(config: McnetConfig, size_px: int) -> list[int]:
    """Which of the network's channels per level's are: where the memory compensates, the kept half comes first."""
    width = config.decoder_widths[config.level_sizes_px.index(size_px)]
    if size_px not in config.memory.levels_px:
        return list(range(width))
    return [*range(0, width, 2), *range(1, width, 2)]


def tables(config: McnetConfig, cache: SourceCache[Array]) -> dict[str, Array]:
    """What `warp_graph` samples of a source, by its inputs' names: ((side + MARGIN)^2, C) each."""
    maps = {
        size_px: feature[:, channel_order(config, size_px)]
        for size_px, feature in zip(config.level_sizes_px, cache.features, strict=True)
    }
    return {f"table_{size_px}": _table(feature) for size_px, feature in maps.items()}


def _table(maps: Array) -> Array:
    ring = (1, MARGIN - 1)
    rows = np.pad(maps[0].transpose(1, 2, 0), (ring, ring, (0, 0)))
    return rows.reshape(-1, rows.shape[-1])


def _grid(side: int) -> Array:
    """(side * side, 3): x, y, 1 of each position, corner-aligned."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)


def _shrunk(picture: Node, kernel: Array, config: McnetConfig, scale: float) -> Node:
    """`AntiAlias` of (size, size, 3) as two matrix products: its kernel is an outer product; gives (64, 64, 3)."""
    size, small = config.size_px, MOTION_SIZE_PX
    factor = size // small
    profile = kernel.sum(1, dtype=np.float64)  # the kernel sums to 1
    matrix = np.zeros((small, size))
    radius = len(profile) // 2
    for row in range(small):
        for tap, weight in enumerate(profile):
            column = row * factor + tap - radius
            if 0 <= column < size:
                matrix[row, column] = weight
    along_columns = np.kron((matrix * scale).T, np.eye(3)).astype(np.float32)
    tall = op.matmul(_constant(matrix.astype(np.float32)), _reshape(picture, (size, size * 3)), False, False)
    return _reshape(op.matmul(tall, _constant(along_columns), False, False), (small, small, 3))


def _heatmaps(points: Node, side: int) -> Node:
    """(K, 2) -> (side, side, K), as `gaussian_heatmaps`: a Gaussian is the product of one along x and one along y."""
    axis = _constant(np.linspace(-1, 1, side, dtype=np.float32)[:, None])
    profiles = []
    for column in (0, 1):
        offset = op.subtract(axis, _reshape(_sliced(points, column, column + 1, axis=1), (1, -1)))
        profiles.append(op.exp(op.multiply(op.multiply(offset, offset), _constant(-0.5 / HEATMAP_VARIANCE))))
    return op.multiply(op.unsqueeze(profiles[0], _axes(0)), op.unsqueeze(profiles[1], _axes(1)))


def _resized(maps: Node, size: int) -> Node:
    """`resize_aligned` of (n, side, side) as two matrix products."""
    side = maps.get_output_shape(0)[-1]
    if side == size:
        return maps
    matrix = _constant(_resizing(side, size))
    return op.matmul(op.matmul(matrix, maps, False, False), matrix, False, True)


def _in_pairs(maps: Node, pairs: _Pairs) -> Node:
    """Likewise, pixels in pairs, and zero outside the picture: (n, side, side) -> (n, 4, places).

    A matrix product along x. Along y, where rows are whole, two neighbours of each are fetched instead.
    """
    count, side, _ = maps.get_output_shape(0)
    lower, nearer, farther = _neighbours(side, pairs.size_px)
    along_x = np.stack([pairs.along(column, pairs.columns) for column in _resizing(side, pairs.size_px).T], -1)
    wide = op.matmul(op.unsqueeze(maps, _axes(1)), _constant(along_x[None]), False, True)  # (n, 2, side, columns)
    rows = []
    for neighbour, share in ((lower, nearer), (lower + 1, farther)):
        which, shares = (pairs.along(part, pairs.rows).reshape(-1) for part in (neighbour, share))
        rows.append(op.multiply(op.gather(wide, op.constant(which), _axes(2)), _constant(shares[:, None])))
    return _reshape(op.add(*rows), (count, 4, pairs.places))


def _resizing(side: int, size: int) -> Array:
    """The matrix (size, side) that resizes along an axis."""
    lower, nearer, farther = _neighbours(side, size)
    matrix: Array = nearer[:, None] * np.eye(side)[lower] + farther[:, None] * np.eye(side)[lower + 1]
    return matrix


def _neighbours(side: int, size: int) -> tuple[Array, Array, Array]:
    """Of which two of `side` numbers each of `size` is made, first and last ones aligned: the lower one's place, its
    share, and that of the one above it.
    """
    places = np.linspace(0, side - 1, size)
    lower = np.minimum(places.astype(np.int32), side - 2)
    return lower, 1 - (places - lower), places - lower


def _colours_at(flow: Node, picture: Node, border: Border) -> Node:
    """Bilinear samples of the picture (1, 3, side, side) times the occlusion; flow and result are (3, m, n)."""
    _, height, width = flow.get_output_shape(0)
    places, occlusion = _split(flow, [2, 1], axis=0)
    # Far outside is as good as outside, and nothing that is not finite becomes an index.
    grid = op.clamp(op.transpose(_reshape(places, (2, height * width)), _axes(1, 0)), -2, 2)
    mode = {"mode": "bilinear", "padding_mode": "zeros" if border == "zeros" else "border", "align_corners": True}
    sampled = op.grid_sample(picture, _reshape(grid, (1, height, width, 2)), mode)
    return op.multiply(_reshape(sampled, (3, height, width)), occlusion)


def _sampled(table: Node, flow: Sequence[Node], *, side: int, border: Border) -> Node:
    """Bilinear samples of a map of that side times the occlusion: (points, C).

    A bag of four weighted rows each. What lies outside ends in the table's ring of zeros, or at the map's border.

    Args:
        table: ((side + MARGIN)^2, C).
        flow: where to sample, x and y, and the occlusion, (1, points) each.
        side: of the map.
        border: what lies outside it.
    """
    least, largest = (-1, side) if border == "zeros" else (0, side - 1)
    x, y, occlusion = flow
    corners, fractions = [], []
    for coordinate in (x, y):
        place = op.multiply(op.add(coordinate, _constant(1.0)), _constant((side - 1) / 2))
        place = op.add(op.clamp(place, least, largest), _constant(1.0))
        corner = op.floor(place)
        corners.append(corner)
        fractions.append(op.subtract(place, corner))
    stride = side + MARGIN
    first = op.convert(op.add(op.multiply(corners[1], _constant(float(stride))), corners[0]), np.int32)
    # Of four rows each and turned at the end: along an axis of one or four a processor computes number by number.
    bags = op.add(first, _constant([[0], [1], [stride], [stride + 1]], np.int32))
    # (1 - f, f) along x, twice; along y each of them twice.
    along_x = op.add(op.multiply(fractions[0], _constant([[-1], [1], [-1], [1]])), _constant([[1], [0], [1], [0]]))
    along_y = op.add(op.multiply(fractions[1], _constant([[-1], [-1], [1], [1]])), _constant([[1], [1], [0], [0]]))
    weights = op.multiply(op.multiply(along_x, along_y), occlusion)
    return op.embedding_bag_packed_sum(table, op.transpose(bags, _axes(1, 0)), op.transpose(weights, _axes(1, 0)))


class _Memory:
    """Of the memory, what its graphs are made of: weights with their factors, as `ComposedMemoryCompensation` has them.

    Attributes:
        config: of the network.
        weights: of the memory, as they are.
        channels: of the memory.
        kernels: the parallel ones, (P, 2 C, C, 3, 3) and (P, 2 C).
    """

    def __init__(self, config: McnetConfig, weights: Weights) -> None:
        self.config = config.memory
        self.weights = weights
        self.channels = config.memory.channels
        self.kernels = weights.conv("key_value")

    def level(self, size_px: int) -> ComposedWeights[Array]:
        """Of a compensated level."""
        convs = (f"levels.{size_px}.inward", "query", "difference")
        return compose(*(part for name in convs for part in self.weights.conv(name)))


def _attended(memory: _Memory, level: ComposedWeights[Array], rows: Node, settled: Node) -> Node:
    """`ComposedMemoryCompensation.forward` up to the convolution outwards: (w w, C_f) -> (w w, C)."""
    width = rows.get_output_shape(0)[1]
    channels = memory.channels
    lacking = _sliced(rows, width // 2, width, axis=1)
    pooled = _linear(op.reduce_mean(lacking, _axes(0), keep_dims=True), level.inward, level.inward_bias)
    # Three products: splitting the result of one costs half of it again.
    query, difference, feature = (
        _linear(lacking, matrix, bias)
        for matrix, bias in zip(np.split(level.matrix, 3), np.split(level.bias, 3), strict=True)
    )
    kernel_weights = _kernel_weights(memory, pooled)
    if memory.config.conditioning != "keypoints+appearance":
        key_value = _reshape(op.matmul(kernel_weights, settled, False, False), (-1, 2 * channels))
    else:
        key_value = _mixed(memory, kernel_weights, _modulated(memory, op.concat([pooled, settled], 1)))
    key_value = op.relu(key_value)
    key, value = _split(key_value, [channels] * 2, axis=1)
    value = _linear(value, memory.weights["difference.weight"][:, :, 0, 0], None)
    fetched = _attend(op.relu(query), key, value)
    return op.add(op.relu(op.subtract(difference, fetched)), feature)


def _attend(query: Node, key: Node, value: Node) -> Node:
    """`attend_rows`, (n, C), (m, C), (m, C) -> (n, C)."""
    return op.matmul(op.softmax(op.matmul(query, key, False, True), axis=1), value, False, False)


def _modulated(memory: _Memory, scale_code: Node) -> Node:
    """`ComposedMemoryCompensation._modulated_bank`, but for the factor sqrt(2): (1, C, size, size)."""
    weights, channels = memory.weights, memory.channels
    hidden, code = weights.conv("style_route.0"), weights.conv("style_route.2")
    code_of = _linear(op.relu(_linear(scale_code, *hidden)), *code)
    own = weights.part("modulated_bank")
    style = _linear(code_of, own["modulation_weight"] / channels**0.5, own["modulation_bias"])
    kernel = own["weight"] / (9 * channels) ** 0.5
    energy = _linear(op.multiply(style, style), np.square(kernel).sum((2, 3)), None)
    demodulation = op.divide(_constant(1.0), op.sqrt(op.add(energy, _constant(DEMODULATION_EPS))))
    shape = (1, channels, 1, 1)
    bank = op.multiply(_constant(weights["bank"]), _reshape(style, shape))
    maps = op.multiply(_convolution(bank, kernel, None, padding=1), _reshape(demodulation, shape))
    return op.prelu(op.add(maps, _constant(own["bias"].reshape(shape))), _constant(0.2))


def _mixed(memory: _Memory, kernel_weights: Node, maps: Node) -> Node:
    """The convolution by a mixture of kernels as one matrix product: (1, C, size, size) -> (size size, 2 C)."""
    channels, size = memory.channels, maps.get_output_shape(0)[2]
    kernels = memory.kernels.weight * 2**0.5  # with the factor that `_modulated` leaves out
    flat = kernels.transpose(0, 3, 4, 2, 1).reshape(len(kernels), -1)  # by tap, input and output
    mixed = _reshape(op.matmul(kernel_weights, _constant(flat), False, False), (9 * channels, 2 * channels))
    bias = op.matmul(kernel_weights, _constant(memory.kernels.bias), False, False)
    padded = op.pad(maps, _axes(0, 0, 1, 1), _axes(0, 0, 1, 1), "constant", op.constant(np.float32(0)))
    taps = [
        op.slice(padded, _axes(row, column), _axes(row + size, column + size), _axes(1, 1), _axes(2, 3))
        for row in range(3)
        for column in range(3)
    ]
    return op.add(op.matmul(_to_rows(op.concat(taps, 1)), mixed, False, False), bias)


def _filled(level: Weights, found: Node) -> Node:
    """The rest of it: (1, C, w, w) -> the filled half, (1, C_f / 2, w, w)."""
    maps = op.mvn(_conv(found, level.conv("outward")), _axes(2, 3), True, NORM_EPS, "inside_sqrt")
    return op.relu(_affine(maps, *level.conv("norm")))


def _deformation(affine: Node, mask: Node, side: int) -> Node:
    """(3, (K + 1) * 2), (side * side, at least K + 1) -> (2, side * side); what the mask has more of it has no share.

    sum_k mask_k (A_k z + b_k) = (sum_k mask_k A_k) z + sum_k mask_k b_k: no sparse motion is made.
    """
    motions, columns = affine.get_output_shape(0)[1] // 2, mask.get_output_shape(0)[1]
    per_motion = _reshape(op.transpose(_reshape(affine, (3, motions, 2)), _axes(0, 2, 1)), (6, motions))
    per_motion = op.pad(per_motion, _axes(0, 0), _axes(0, columns - motions), "constant", op.constant(np.float32(0)))
    along_x, along_y, offset = _split(op.matmul(per_motion, mask, False, True), [2, 2, 2], axis=0)
    grid = _grid(side)
    return op.add(
        op.add(op.multiply(along_x, _constant(grid[:, 0])), op.multiply(along_y, _constant(grid[:, 1]))), offset
    )


def _kernel_weights(memory: _Memory, pooled: Node) -> Node:
    """(1, C) -> (1, P), as `DynamicKeyValue.kernel_weights`."""
    excite, bias = memory.weights.conv("key_value.excite")
    hidden = op.relu(_linear(pooled, memory.weights["key_value.squeeze.weight"][:, :, 0, 0], None))
    logits = _linear(hidden, excite[:, :, 0, 0], bias)
    return op.softmax(op.multiply(logits, _constant(1 / KERNEL_TEMPERATURE)), axis=1)


def _hourglass(
    x: Node,
    weights: Weights,
    config: HourglassConfig,
    order: Sequence[int] | None = None,
    *,
    in_float32: bool = True,
) -> Node:
    """`Hourglass`; `order` tells which of its input channels the node's channels are (others are zero)."""
    skips = []
    for depth, down in enumerate(weights.parts("down_blocks", config.blocks)):
        skips.append(x)
        x = _halved(op.relu(_conv(x, down.folded(), inputs=order if depth == 0 else None)))
    for up in weights.parts("up_blocks", config.blocks):
        by_differences = in_float32 and x.get_output_shape(0)[1] >= _MANY_CHANNELS
        pairs = _paired_by_differences(x, up.folded()) if by_differences else _paired(x, up.folded())
        x = op.concat([_unpaired(pairs), skips.pop()], 1)
    return x


def _halved(maps: Node) -> Node:
    return op.avg_pool(maps, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True, auto_pad="explicit")


def _res_block(x: Node, block: Weights, order: Sequence[int], ranges: Ranges, name: str) -> Node:
    """`FoldedResBlock` on channels in the given order."""
    index = list(order)
    scale, shift = block.affine("norm1")
    inner = op.relu(_affine(x, scale[index], shift[index]))
    inner = _clipped(inner, ranges.get(f"{name}.conv1"))
    inner = op.relu(_conv(inner, block.folded("conv1", "norm2"), inputs=index))
    inner = _clipped(inner, ranges.get(f"{name}.conv2"))
    return op.add(_conv(inner, block.conv("conv2"), outputs=index), x)


def _unpaired(x: Node) -> Node:
    """What `_paired` makes, taken apart into maps: (1, 4 C, side + 1, side + 1) -> (1, C, 2 side, 2 side)."""
    doubled = op.depth_to_space(x, "blocks_first", 2)
    return op.slice(doubled, _axes(1, 1), _axes(-1, -1), _axes(1, 1), _axes(2, 3))


def _paired(x: Node, up: Conv, order: Sequence[int] | None = None, *, left_first: bool = False) -> Node:
    """A folded `UpBlock` as one 2x2 convolution with a channel for each of the 2x2 pixels that an input settles.

    Output rows 2 i - 1 and 2 i read the input rows i - 1 and i, so that a convolution with one row of zeros around
    gives all of them, and one row too many at each end. Transposed convolutions would stay in float32 here.

    Returns:
        (1, 4 C, side + 1, side + 1), the 2x2 pixels of each place in order of rows; with `left_first` in that of
        columns, as `warp_graph` has them.
    """
    weight = transposed_kernel(up.weight)
    weight = weight if order is None else weight[list(order)]
    inputs, outputs = weight.shape[:2]
    # Kernel row u = 2 s + p of the 4x4 belongs to the output's parity p and the input row i - s.
    taps = np.flip(weight.reshape(inputs, outputs, 2, 2, 2, 2), (2, 4))  # (in, out, t, p, t', q)
    parities = (5, 3) if left_first else (3, 5)
    kernel = taps.transpose(*parities, 1, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2)
    return op.relu(_convolution(x, kernel, np.tile(up.bias, 4), padding=1))


def _paired_by_differences(x: Node, up: Conv) -> Node:
    """What `_paired` gives, by 9 products for each of its 16.

    Along an axis with taps a, b, c, the pixels between inputs p and q are (a + b) p + c q and a p + (b + c) q. The
    second is the first and b (q - p), so that three products give both.
    """

    def first(weight: Array, axis: int) -> Array:
        a, b, c = np.split(weight, 3, axis)
        return np.concatenate([a + b, c], axis)

    def second(weight: Array, axis: int) -> Array:
        return np.split(weight, 3, axis)[1]

    def part(maps: Node, along_y: Callable[[Array, int], Array], along_x: Callable[[Array, int], Array]) -> Node:
        """Differences have their border already; maps get it here."""
        kernel = along_x(along_y(up.weight, 2), 3)
        pads = [side - 1 for side in kernel.shape[2:]]
        return op.convolution(maps, _constant(kernel), [1, 1], pads, pads, [1, 1])

    across_x, across_y = _differences(x, 3), _differences(x, 2)
    upper_left = op.add(part(x, first, first), _constant(up.bias[None, :, None, None]))
    to_right, down = part(across_x, first, second), part(across_y, second, first)
    upper_right, lower_left = op.add(to_right, upper_left), op.add(down, upper_left)
    lower_right = op.add(op.add(part(_differences(across_x, 2), second, second), upper_right), down)
    return op.relu(op.concat([upper_left, upper_right, lower_left, lower_right], 1))


def _differences(x: Node, axis: int) -> Node:
    """Of neighbours along an axis of maps, which have zeros around them: one more than there are pixels."""
    none, one = [0, 0, 0, 0], [0, 0, 0, 0]
    one[axis] = 1
    zero = op.constant(np.float32(0))
    after, before = (
        op.pad(x, _axes(*begin), _axes(*end), "constant", zero) for begin, end in ((none, one), (one, none))
    )
    return op.subtract(after, before)


def _final_of_pairs(x: Node, conv: Conv) -> Node:
    """The last convolution, (1, 4 in, ...) of `_pairs_of_features` -> (1, `_COLOURS` * 4, ...) of `_pairs_of_colours`.

    A place's left pixels come first, in both. Of the outputs, colours come first; those beyond red, green and blue are
    zero.
    """
    lacking = (0, _COLOURS - len(conv.bias))
    taps = _pair_taps(np.pad(conv.weight, (lacking, (0, 0), (0, 0), (0, 0))))
    taken = taps.shape[-1]
    kernel = taps.transpose(0, 5, 2, 6, 3, 1, 4, 7).reshape(4 * _COLOURS, -1, taken, taken)
    bias = np.repeat(np.pad(conv.bias, lacking), 4)[None, :, None, None]
    before = taken // 2 - 1
    y = op.convolution(x, _constant(kernel), [1, 1], [before, before], [before, before + 1], [1, 1])
    return op.add(y, _constant(bias))


def _pair_taps(weight: Array) -> Array:
    """A kernel (out, in, k, k) between pixels in pairs: (out, in, 2, s, n, 2, t, n).

    Of the output's pixels 2 i and 2 i + 1 the one of parity a reads the pixel 2 (i + first + u) - 1 + s, number s of
    the input's pair u of n; s, u and a along y come first, then those along x.
    """
    size = weight.shape[-1]
    half = size // 2
    first, last = (1 - half) // 2, (2 + half) // 2
    share = np.zeros((2, 2, last - first + 1, size), weight.dtype)
    for parity, number, pair in np.ndindex(*share.shape[:3]):
        tap = 2 * (first + pair) - 1 + number - parity + half
        if 0 <= tap < size:
            share[parity, number, pair, tap] = 1
    return np.asarray(np.einsum("asuk,btvl,oikl->oiasubtv", share, share, weight, optimize=True))


def _conv(
    x: Node,
    conv: Conv,
    padding: int | None = None,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
) -> Node:
    """A convolution, of some of its channels only; by default maps keep their size."""
    weight, bias = conv
    if inputs is not None:
        weight = weight[:, list(inputs)]
    if outputs is not None:
        weight, bias = weight[list(outputs)], bias[list(outputs)]
    return _convolution(x, weight, bias, weight.shape[-1] // 2 if padding is None else padding)


def _clipped(x: Node, seen: tuple[float, float] | None) -> Node:
    """In 256 steps over a range, so that convolutions that read it are computed in 8 bits; None: as it is."""
    if seen is None:
        return x
    least, largest = seen
    if least < 0:
        largest = max(largest, -least)
        least = -largest * 128 / 127
    ends = _constant(least if least < 0 else 0.0), _constant(max(largest, 1e-6))
    return op.fake_quantize(x, *ends, *ends, 256)


def _is_clipped(x: Node) -> bool:
    """Whether a map is in 8 bits: clipped, or put together of such maps' places."""
    kind = x.get_type_name()
    if kind in ("Concat", "DepthToSpace", "Slice"):
        parts = x.inputs() if kind == "Concat" else x.inputs()[:1]
        return all(_is_clipped(part.get_source_output().get_node()) for part in parts)
    return bool(kind == "FakeQuantize")


def _convolution(x: Node, weight: Array, bias: Array | None, padding: int) -> Node:
    pads = [padding, padding]
    kernel = _constant(weight)
    if _is_clipped(x):
        bound = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), 1e-12)
        ends = _constant(-bound), _constant(bound)
        kernel = op.fake_quantize(kernel, *ends, *ends, 255)
    y = op.convolution(x, kernel, [1, 1], pads, pads, [1, 1])
    return y if bias is None else op.add(y, _constant(bias[None, :, None, None]))


def _picked(x: Node, channels: Sequence[int]) -> Node:
    """Some of a map's channels, by a 1x1 convolution: the one thing that takes rows to maps without copying them."""
    weight = np.zeros((len(channels), x.get_output_shape(0)[1], 1, 1), np.float32)
    weight[range(len(channels)), list(channels)] = 1
    return _convolution(x, weight, None, 0)


def _linear(x: Node, matrix: Array, bias: Array | None) -> Node:
    y = op.matmul(x, _constant(matrix), False, True)
    return y if bias is None else op.add(y, _constant(bias))


def _affine(x: Node, scale: Array, shift: Array) -> Node:
    shape = (1, -1, 1, 1)
    return op.add(op.multiply(x, _constant(scale.reshape(shape))), _constant(shift.reshape(shape)))


def _to_maps(rows: Node, side: int) -> Node:
    """(side * side, C) or (side, side, C) -> (1, C, side, side)."""
    channels = rows.get_output_shape(0)[-1]
    return op.transpose(_reshape(rows, (1, side, side, channels)), _axes(0, 3, 1, 2))


def _to_rows(maps: Node) -> Node:
    """(1, C, side, side) -> (side * side, C)."""
    _, channels, side, _ = maps.get_output_shape(0)
    return _reshape(op.transpose(maps, _axes(0, 2, 3, 1)), (side * side, channels))


def _parameter(name: str, shape: tuple[int, ...], dtype: type = np.float32) -> Node:
    parameter = op.parameter(list(shape), dtype, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _result(name: str, node: Node) -> Node:
    node.output(0).get_tensor().set_names({name})
    return op.result(node)


def _constant(value: Any, dtype: type = np.float32) -> Node:
    return op.constant(np.ascontiguousarray(value, dtype))


def _axes(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _reshape(x: Node, shape: tuple[int, ...]) -> Node:
    return op.reshape(x, _axes(*shape), special_zero=False)


def _split(x: Node, lengths: list[int], axis: int = 1) -> list[Node]:
    parts: list[Node] = op.variadic_split(x, op.constant(np.int64(axis)), _axes(*lengths)).outputs()
    return parts


def _sliced(x: Node, first: int, last: int, axis: int) -> Node:
    return op.slice(x, _axes(first), _axes(last), _axes(1), _axes(axis))
