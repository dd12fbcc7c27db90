"""The rewritten network as OpenVINO graphs, written operation by operation.

Writing them takes a fraction of a second, where tracing the torch modules takes many, and it lets maps stay in the
order in which this runtime computes fastest. Batch 1; the tests hold the graphs to the plain network.

Maps between graphs are rows: (side * side, channels), one position each.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mcnet.config import MOTION_SIZE_PX, Border, McnetConfig
from mcnet.engine.quantization import Ranges
from mcnet.engine.rewrites import (
    ComposedLevel,
    ComposedMemoryCompensation,
    FoldedResBlock,
    MergedDenseMotion,
    MergedKeypointDetector,
    TransposedUpBlock,
)
from mcnet.generator import Mcnet, SourceCache
from mcnet.geometry import HEATMAP_VARIANCE
from mcnet.keypoints import TEMPERATURE
from mcnet.memory import DEMODULATION_EPS, KERNEL_TEMPERATURE
from mcnet.openvino_import import op, ov

Array = NDArray[Any]
Node = Any  # of openvino, which has no types

MARGIN = 3
"""A warped map's table has a ring of zeros: one row and column before the map, two after it."""

BORDER_PX = 1
"""Pixels of zeros around the warped map of the full size."""

_COLOURS = 4
"""Colours of a pixel while it is computed: red, green, blue, and a zero, since runs of four fill registers."""


def detector_graph(model: Mcnet) -> ov.Model:
    """(size, size, 3) uint8 RGB -> keypoints: value (K, 2) and jacobian (K, 4), float32."""
    detector = cast(MergedKeypointDetector, model.keypoint_detector)
    size_px = model.config.size_px
    rgb = _parameter("rgb", (size_px, size_px, 3), np.uint8)
    small = _shrunk(op.convert(rgb, np.float32), detector.shrink.weight[0, 0], detector.shrink.factor, 1 / 255)
    features = _hourglass(_to_maps(small, MOTION_SIZE_PX), detector.hourglass)
    # The heads apart again: splitting their common output costs as much as they do.
    points, side = detector.split[0], MOTION_SIZE_PX - detector.heads.kernel_size[0] + 1
    logits = _conv(features, detector.heads, outputs=range(points))
    jacobians = _conv(features, detector.heads, outputs=range(points, 5 * points))
    heatmap = op.softmax(op.multiply(_reshape(logits, (points, side * side)), _constant(1 / TEMPERATURE)), axis=1)
    value = op.matmul(heatmap, _constant(_grid(side)[:, :2]), False, False)
    per_keypoint = _reshape(jacobians, (points, 4, side * side))
    jacobian = op.matmul(per_keypoint, op.unsqueeze(heatmap, _axes(2)), False, False)
    results = [_result("value", value), _result("jacobian", _reshape(jacobian, (-1, 4)))]
    return ov.Model(results, [rgb], "detector")


def sparse_graph(model: Mcnet) -> ov.Model:
    """Keypoints -> seen (64, 64, 4 K + 3), what dense motion's hourglass sees of the sparse motions.

    Inputs: affine (3, (K + 1) * 2), where column k, xy of rows x, y, 1 is T_k; driving (K, 2); of the source: small
    (1, 3, 64, 64) and heatmaps (64, 64, K).
    """
    points, motions, side = model.config.num_keypoints, model.config.num_keypoints + 1, MOTION_SIZE_PX
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


def mask_graph(model: Mcnet) -> ov.Model:
    """What the hourglass sees -> logits (1, K + 1, 64, 64), of the occlusion and then of the mask's motions 1 to K.

    A softmax does not change when all its logits are lowered alike: lowered by that of motion 0, which is then zero and
    left out, as many maps remain as there are motions, 16 for the usual 15 keypoints, which fill registers.
    """
    motion = cast(MergedDenseMotion, model.generator.dense_motion)
    motions, side = model.config.num_keypoints + 1, MOTION_SIZE_PX
    # The background's heatmap is zero and left out; the plain network has heatmap, red, green, blue of each motion.
    order = [4 * k for k in range(1, motions)] + [4 * k + 1 + c for c in range(3) for k in range(motions)]
    seen = _parameter("seen", (side, side, len(order)))
    features = _hourglass(_to_maps(seen, side), motion.hourglass, order)
    own = model.config.motion_hourglass.channels(0)
    order = [*range(own), *(own + channel for channel in order)]
    weight, bias = motion.heads.weight.double(), cast(Tensor, motion.heads.bias).double()
    weight, bias = (
        torch.cat((part[motions:], part[1:motions] - part[:1])).float() for part in (weight[:, order], bias)
    )
    logits = _convolution(features, weight, bias, cast(int, motion.heads.padding[0]))
    return ov.Model([_result("logits", logits)], [seen], "mask")


def warp_graph(model: Mcnet) -> ov.Model:
    """The mask -> every level's source as the motion shows it.

    Inputs: affine, as for `sparse_graph`; those that `mask_graph` gives; of the source: a table per level, lowest first
    (the last one with the picture's colours appended).
    Outputs: those that `decoder_graph` takes, and motion_witness, which is NaN or infinite if any place is.
    """
    config = model.config
    motions, side = config.num_keypoints + 1, MOTION_SIZE_PX
    affine = _parameter("affine", (3, motions * 2))
    logits = _parameter("logits", (1, motions, side, side))
    inputs = [affine, logits]
    occlusion_logit = _sliced(logits, 0, 1, axis=1)
    is_of_mask = np.arange(motions).reshape(1, -1, 1, 1) > 0
    mask = _reshape(op.softmax(op.multiply(logits, _constant(is_of_mask)), axis=1), (motions, side * side))
    maps = op.concat(
        [
            _reshape(_deformation(affine, mask, side), (2, side, side)),
            _reshape(op.sigmoid(occlusion_logit), (1, side, side)),
        ],
        0,
    )
    results: list[Node] = []
    occlusion: Node = maps
    for size_px, width in zip(config.level_sizes_px, _table_widths(model), strict=True):
        table = _parameter(f"table_{size_px}", ((size_px + MARGIN) ** 2, width))
        inputs.append(table)
        margin = BORDER_PX if size_px == config.size_px else 0
        x, y, occlusion = _split(_resized(maps, side, size_px, margin), [1, 1, 1], axis=0)
        points = (size_px + 2 * margin) ** 2
        rows = _sampled(table, x, y, occlusion, side=size_px, points=points, border=config.border)
        results.append(_result(f"warped_{size_px}", rows))
    # Clamped places would hide NaN from the decoder.
    results.append(_result("motion_witness", op.reduce_sum(maps, _axes(0, 1, 2), keep_dims=False)))
    inside = np.pad(np.ones((config.size_px, config.size_px)), BORDER_PX)
    results.append(_result("generated", op.subtract(_constant(inside), _reshape(occlusion, inside.shape))))
    return ov.Model(results, inputs, "warp")


def decoder_graph(model: Mcnet, ranges: Ranges | None = None) -> ov.Model:
    """The source as the motion shows it -> the picture.

    The full size is computed in pairs of pixels: the last doubling gives pixels -1 and 0, 1 and 2, ..., and the last
    convolution takes these to the pixels 0 and 1, 2 and 3, ... in one smaller convolution, so that neither has to be
    taken apart into maps of the full size.

    Convolutions whose input's range is given are computed in 8 bits, but for the last one.

    Inputs: warped rows per level, lowest first, the last one with its border of zeros; generated (size + 2, size + 2),
    how much of each pixel is generated, 1 - the occlusion, and 0 in the frame; where there is a memory, what a source
    settles of it (`settled_of_memory`).
    Outputs: (size, size, 3) uint8 RGB, and its sum in [0, 1], which is NaN or infinite if any colour is.
    """
    generator, config = model.generator, model.config
    memory = cast(ComposedMemoryCompensation | None, generator.memory)
    ranges = ranges or {}
    inputs = []
    settled: Node | None = None
    if memory is not None:
        settled = _parameter(*settled_of_memory(config))
        inputs.append(settled)
    x: Node | None = None
    order: list[int] = []
    for level, (size_px, width) in enumerate(zip(config.level_sizes_px[:-1], config.decoder_widths, strict=False)):
        warped = _parameter(f"warped_{size_px}", (size_px**2, width))
        inputs.append(warped)
        shown = _clipped(_to_maps(warped, size_px), ranges.get(f"warped_{size_px}"))
        if memory is not None and size_px in config.memory.levels_px:
            compensation = cast(ComposedLevel, memory.levels[str(size_px)])
            found = _to_maps(_attended(memory, compensation, warped, settled), size_px)
            filled = _filled(compensation, _clipped(found, ranges.get(f"memory.levels.{size_px}.outward")))
            maps = op.concat([_picked(shown, range(width // 2)), filled], 1)
        else:
            maps = _picked(shown, range(width))
        level_order = channel_order(config, size_px)
        if x is None:
            x, order = maps, level_order
        else:
            x, order = op.concat([x, maps], 1), [*range(width), *(width + channel for channel in level_order)]
        for number, block in enumerate(cast(nn.Sequential, generator.res_stages[level])):
            x = _res_block(x, cast(FoldedResBlock, block), order, ranges, f"res_stages.{level}.{number}")
        x = _clipped(x, ranges.get(f"up_blocks.{level}"))
        up_block = cast(TransposedUpBlock, generator.up_blocks[level])
        x = _doubled(x, up_block, order) if 2 * size_px < config.size_px else _paired(x, up_block, order)
    assert x is not None
    size_px, width = config.size_px, config.decoder_widths[-1]
    framed, pairs = size_px + 2 * BORDER_PX, size_px // 2 + 1
    warped = _parameter(f"warped_{size_px}", (framed**2, width + _COLOURS))
    generated = _parameter("generated", (framed, framed))
    shares = op.transpose(_reshape(generated, (pairs, 2, pairs, 2)), _axes(0, 2, 1, 3))
    x = op.multiply(_reshape(_to_rows(x), (framed**2, width)), _reshape(shares, (framed**2, 1)))
    x = _to_maps(_reshape(x, (pairs**2, 4 * width)), pairs)
    final = _with_colours(generator.final)
    # A row of pixels lies pair by pair already, so that the warped features are read as they are.
    rows_of_pairs = op.transpose(_reshape(warped, (1, framed, pairs, 2 * (width + _COLOURS))), _axes(0, 3, 1, 2))
    logits = op.add(_final_of_pairs(x, final), _final_of_rows(rows_of_pairs, final))
    logits = op.transpose(op.depth_to_space(logits, "blocks_first", 2), _axes(0, 2, 3, 1))
    logits = _reshape(logits, (size_px, size_px, _COLOURS))
    # What follows the last convolution is computed in float32, the warped picture included.
    colours = _unframed(_reshape(warped, (framed, framed, width + _COLOURS)), width)
    share = _unframed(_reshape(generated, (framed, framed, 1)), 0)
    prediction = op.add(op.multiply(op.sigmoid(logits), share), colours)
    rgb = op.clamp(op.round(op.multiply(prediction, _constant(255.0)), "half_to_even"), 0, 255)
    results = [
        _result("rgb", _sliced(op.convert(rgb, np.uint8), 0, 3, axis=2)),
        _result("witness", op.reduce_sum(prediction, _axes(0, 1, 2), keep_dims=False)),
    ]
    return ov.Model(results, [*inputs, warped, generated], "decoder")


def settled_of_memory(config: McnetConfig) -> tuple[str, tuple[int, ...]]:
    """Name and shape of what a source settles of the memory: the parallel kernels' responses, or just its keypoints."""
    memory = config.memory
    if memory.conditioning != "keypoints+appearance":
        return "responses", (memory.parallel_kernels, memory.size**2 * 2 * memory.channels)
    return "points", (1, 2 * config.num_keypoints)


def _table_widths(model: Mcnet) -> list[int]:
    widths = list(model.config.decoder_widths)
    widths[-1] += _COLOURS
    return widths


def channel_order(config: McnetConfig, size_px: int) -> list[int]:
    """Which of the network's channels per level's are: where the memory compensates, the kept half comes first."""
    width = config.decoder_widths[config.level_sizes_px.index(size_px)]
    if size_px not in config.memory.levels_px:
        return list(range(width))
    return [*range(0, width, 2), *range(1, width, 2)]


def tables(config: McnetConfig, cache: SourceCache) -> dict[str, Array]:
    """What `warp_graph` samples of a source, by its inputs' names: ((side + MARGIN)^2, C) each."""
    maps = {
        size_px: feature[:, channel_order(config, size_px)]
        for size_px, feature in zip(config.level_sizes_px, cache.features, strict=True)
    }
    colours = torch.nn.functional.pad(cache.picture, (0, 0, 0, 0, 0, _COLOURS - 3))
    maps[config.size_px] = torch.cat((maps[config.size_px], colours), dim=1)
    return {f"table_{size_px}": _table(feature) for size_px, feature in maps.items()}


def _table(maps: Tensor) -> Array:
    padded = torch.nn.functional.pad(maps.float(), (1, MARGIN - 1, 1, MARGIN - 1))
    return padded[0].permute(1, 2, 0).flatten(0, 1).contiguous().cpu().numpy()


def _grid(side: int) -> Array:
    """(side * side, 3): x, y, 1 of each position, corner-aligned."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)


def _shrunk(picture: Node, kernel: Tensor, factor: int, scale: float) -> Node:
    """`AntiAlias` of (size, size, 3) as two matrix products: its kernel is an outer product; gives (64, 64, 3)."""
    size = picture.get_output_shape(0)[0]
    profile = kernel.double().sum(1).numpy()  # the kernel sums to 1
    small = size // factor
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


def _resized(maps: Node, side: int, size: int, margin: int = 0) -> Node:
    """`resize_aligned` of (n, side, side) as two matrix products, with so wide a margin of zeros around the result."""
    if side == size and not margin:
        return maps
    places = np.linspace(0, side - 1, size)
    lower = np.minimum(places.astype(int), side - 2)
    matrix = np.zeros((size, side))
    matrix[np.arange(size), lower] = 1 - (places - lower)
    matrix[np.arange(size), lower + 1] = places - lower
    matrix = np.pad(matrix, ((margin, margin), (0, 0))).astype(np.float32)
    return op.matmul(op.matmul(_constant(matrix), maps, False, False), _constant(matrix), False, True)


def _sampled(table: Node, x: Node, y: Node, occlusion: Node, *, side: int, points: int, border: Border) -> Node:
    """Bilinear samples, at so many places, of a map of that side times the occlusion: (points, C).

    A bag of four weighted rows each. What lies outside ends in the table's ring of zeros, or at the map's border.
    """
    least, largest = (-1, side) if border == "zeros" else (0, side - 1)
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
    first, occlusion, *fractions = (_reshape(part, (1, points)) for part in (first, occlusion, *fractions))
    bags = op.add(first, _constant([[0], [1], [stride], [stride + 1]], np.int32))
    # (1 - f, f) along x, twice; along y each of them twice.
    along_x = op.add(op.multiply(fractions[0], _constant([[-1], [1], [-1], [1]])), _constant([[1], [0], [1], [0]]))
    along_y = op.add(op.multiply(fractions[1], _constant([[-1], [-1], [1], [1]])), _constant([[1], [1], [0], [0]]))
    weights = op.multiply(op.multiply(along_x, along_y), occlusion)
    return op.embedding_bag_packed_sum(table, op.transpose(bags, _axes(1, 0)), op.transpose(weights, _axes(1, 0)))


def _attended(memory: ComposedMemoryCompensation, level: ComposedLevel, rows: Node, settled: Node) -> Node:
    """`ComposedMemoryCompensation.forward` up to the convolution outwards: (w w, C_f) -> (w w, C)."""
    width = rows.get_output_shape(0)[1]
    channels = memory.channels
    lacking = _sliced(rows, width // 2, width, axis=1)
    pooled = _linear(op.reduce_mean(lacking, _axes(0), keep_dims=True), level.inward, level.inward_bias)
    # Three products: splitting the result of one costs half of it again.
    query, difference, feature = (
        _linear(lacking, matrix, bias) for matrix, bias in zip(level.matrix.chunk(3), level.bias.chunk(3), strict=True)
    )
    kernel_weights = _kernel_weights(memory, pooled)
    if memory.conditioning != "keypoints+appearance":
        key_value = _reshape(op.matmul(kernel_weights, settled, False, False), (-1, 2 * channels))
    else:
        key_value = _mixed(memory, kernel_weights, _modulated(memory, op.concat([pooled, settled], 1)))
    key_value = op.relu(key_value)
    key, value = _split(key_value, [channels] * 2, axis=1)
    value = _linear(value, memory.difference, None)
    fetched = _attend(op.relu(query), key, value)
    return op.add(op.relu(op.subtract(difference, fetched)), feature)


def _attend(query: Node, key: Node, value: Node) -> Node:
    """`attend_rows`, (n, C), (m, C), (m, C) -> (n, C): fused, so that logits stay float32 in a graph in bf16."""
    return op.matmul(op.softmax(op.matmul(query, key, False, True), axis=1), value, False, False)


def _modulated(memory: ComposedMemoryCompensation, scale_code: Node) -> Node:
    """`ComposedMemoryCompensation._modulated_bank`, but for the factor sqrt(2): (1, C, size, size)."""
    hidden, code = cast(nn.Linear, memory.style_route[0]), cast(nn.Linear, memory.style_route[2])
    code_of = _linear(op.relu(_linear(scale_code, hidden.weight, hidden.bias)), code.weight, code.bias)
    style = _linear(code_of, memory.modulation_weight, memory.modulation_bias)
    energy = op.matmul(op.multiply(style, style), _constant(_array(memory.bank_energy)), False, False)
    demodulation = op.divide(_constant(1.0), op.sqrt(op.add(energy, _constant(DEMODULATION_EPS))))
    shape = (1, memory.channels, 1, 1)
    bank = op.multiply(_constant(_array(memory.bank)), _reshape(style, shape))
    maps = op.multiply(_convolution(bank, memory.bank_weight, None, padding=1), _reshape(demodulation, shape))
    return op.prelu(op.add(maps, _constant(_array(memory.bank_bias)[None])), _constant(0.2))


def _mixed(memory: ComposedMemoryCompensation, kernel_weights: Node, maps: Node) -> Node:
    """The convolution by a mixture of kernels as one matrix product: (1, C, size, size) -> (size size, 2 C)."""
    channels, size = memory.channels, maps.get_output_shape(0)[2]
    kernels = memory.key_value.weight * 2**0.5  # (P, 2 C, C, 3, 3), with the factor that `_modulated` leaves out
    flat = kernels.permute(0, 3, 4, 2, 1).flatten(1)  # by tap, input and output
    mixed = _reshape(op.matmul(kernel_weights, _constant(_array(flat)), False, False), (9 * channels, 2 * channels))
    bias = op.matmul(kernel_weights, _constant(_array(memory.key_value.bias)), False, False)
    padded = op.pad(maps, _axes(0, 0, 1, 1), _axes(0, 0, 1, 1), "constant", op.constant(np.float32(0)))
    taps = [
        op.slice(padded, _axes(row, column), _axes(row + size, column + size), _axes(1, 1), _axes(2, 3))
        for row in range(3)
        for column in range(3)
    ]
    return op.add(op.matmul(_to_rows(op.concat(taps, 1)), mixed, False, False), bias)


def _filled(level: ComposedLevel, found: Node) -> Node:
    """The rest of it: (1, C, w, w) -> the filled half, (1, C_f / 2, w, w)."""
    norm = level.norm
    maps = op.mvn(_conv(found, level.outward), _axes(2, 3), True, norm.eps, "inside_sqrt")
    return op.relu(_affine(maps, norm.weight, norm.bias))


def _deformation(affine: Node, mask: Node, side: int) -> Node:
    """(3, (K + 1) * 2), (K + 1, side * side) -> (2, side * side).

    sum_k mask_k (A_k z + b_k) = (sum_k mask_k A_k) z + sum_k mask_k b_k: no sparse motion is made.
    """
    motions = mask.get_output_shape(0)[0]
    per_motion = _reshape(op.transpose(_reshape(affine, (3, motions, 2)), _axes(0, 2, 1)), (6, motions))
    along_x, along_y, offset = _split(op.matmul(per_motion, mask, False, False), [2, 2, 2], axis=0)
    grid = _grid(side)
    return op.add(
        op.add(op.multiply(along_x, _constant(grid[:, 0])), op.multiply(along_y, _constant(grid[:, 1]))), offset
    )


def _kernel_weights(memory: ComposedMemoryCompensation, pooled: Node) -> Node:
    """(1, C) -> (1, P), as `DynamicKeyValue.kernel_weights`."""
    squeeze, excite = memory.key_value.squeeze, memory.key_value.excite
    hidden = op.relu(_linear(pooled, squeeze.weight.flatten(1), None))
    logits = _linear(hidden, excite.weight.flatten(1), excite.bias)
    return op.softmax(op.multiply(logits, _constant(1 / KERNEL_TEMPERATURE)), axis=1)


def _hourglass(x: Node, hourglass: Any, order: Sequence[int] | None = None) -> Node:
    """`Hourglass`; `order` tells which of its input channels the node's channels are (others are zero)."""
    skips = []
    for depth, down in enumerate(hourglass.down_blocks):
        skips.append(x)
        maps = op.relu(_conv(x, down.conv, order if depth == 0 else None))
        x = op.avg_pool(maps, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True, auto_pad="explicit")
    for up in hourglass.up_blocks:
        x = op.concat([_doubled(x, up), skips.pop()], 1)
    return x


def _res_block(x: Node, block: FoldedResBlock, order: Sequence[int], ranges: Ranges, name: str) -> Node:
    """`FoldedResBlock` on channels in the given order."""
    index = list(order)
    inner = op.relu(_affine(x, block.scale.flatten()[index], block.shift.flatten()[index]))
    inner = _clipped(inner, ranges.get(f"{name}.conv1"))
    inner = _clipped(op.relu(_conv(inner, block.conv1, index)), ranges.get(f"{name}.conv2"))
    return op.add(_conv(inner, block.conv2, outputs=index), x)


def _doubled(x: Node, block: TransposedUpBlock, order: Sequence[int] | None = None) -> Node:
    """`TransposedUpBlock` as one 2x2 convolution with a channel for each of the 2x2 pixels that an input settles.

    Output rows 2 i - 1 and 2 i read the input rows i - 1 and i, so that a convolution with one row of zeros around
    gives all of them, and one row too many at each end. Transposed convolutions would stay in float32 here.
    """
    doubled = op.depth_to_space(_paired(x, block, order), "blocks_first", 2)
    return op.slice(doubled, _axes(1, 1), _axes(-1, -1), _axes(1, 1), _axes(2, 3))


def _paired(x: Node, block: TransposedUpBlock, order: Sequence[int] | None = None) -> Node:
    """What `_doubled` takes apart: (1, 4 C, side + 1, side + 1), the 2x2 pixels of each place in order of rows."""
    weight = block.weight if order is None else block.weight[list(order)]
    inputs, outputs = weight.shape[:2]
    # Kernel row u = 2 s + p of the 4x4 belongs to the output's parity p and the input row i - s.
    taps = weight.reshape(inputs, outputs, 2, 2, 2, 2).flip(2, 4)  # (in, out, t, p, t', q)
    kernel = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2)
    bias = cast(Tensor, block.bias).repeat(4)
    return op.relu(_convolution(x, kernel, bias, padding=1))


def _with_colours(conv: nn.Conv2d) -> nn.Conv2d:
    """The last convolution, with as many outputs as `_COLOURS`; those beyond red, green and blue are zero."""
    wide = copy.deepcopy(conv)
    lacking = _COLOURS - conv.out_channels
    wide.out_channels = _COLOURS
    wide.weight = nn.Parameter(torch.nn.functional.pad(conv.weight.detach(), (0, 0, 0, 0, 0, 0, 0, lacking)))
    wide.bias = nn.Parameter(torch.nn.functional.pad(cast(Tensor, conv.bias).detach(), (0, lacking)))
    return wide


def _final_of_pairs(x: Node, conv: nn.Conv2d) -> Node:
    """A convolution of maps in pairs of pixels: (1, 4 in, side / 2 + 1, ...) -> (1, 4 out, side / 2, ...)."""
    taps = _pair_taps(conv.weight)
    taken = taps.shape[-1]
    kernel = taps.permute(2, 5, 0, 3, 6, 1, 4, 7).reshape(4 * conv.out_channels, -1, taken, taken)
    return _convolution(x, kernel, cast(Tensor, conv.bias).repeat(4), padding=taken // 2 - 1)


def _final_of_rows(x: Node, conv: nn.Conv2d) -> Node:
    """As `_final_of_pairs`, without the bias, of rows of pixels in pairs: (1, 2 C, side + 2, side / 2 + 1).

    C may be more than the convolution's inputs; the rest is not looked at.
    """
    unseen = x.get_output_shape(0)[1] // 2 - conv.in_channels
    taps = _pair_taps(torch.nn.functional.pad(conv.weight, (0, 0, 0, 0, 0, unseen)))
    taken = taps.shape[-1]
    kernel = taps.permute(2, 5, 0, 6, 1, 4, 3, 7).reshape(4 * conv.out_channels, -1, 2 * taken, taken)
    pads = [2 * (taken // 2 - 1), taken // 2 - 1]
    return op.convolution(x, _constant(_array(kernel)), [2, 1], pads, pads, [1, 1])


def _pair_taps(weight: Tensor) -> Tensor:
    """A kernel (out, in, k, k) between pixels in pairs: (out, in, 2, s, n, 2, t, n).

    Of the output's pixels 2 i and 2 i + 1 the one of parity a reads the pixel 2 (i + first + u) - 1 + s, number s of
    the input's pair u of n; s, u and a along y come first, then those along x.
    """
    size = weight.shape[-1]
    half = size // 2
    first, last = (1 - half) // 2, (2 + half) // 2
    share = weight.new_zeros(2, 2, last - first + 1, size)
    for parity, number, pair in np.ndindex(*share.shape[:3]):
        tap = 2 * (first + pair) - 1 + number - parity + half
        if 0 <= tap < size:
            share[parity, number, pair, tap] = 1
    return torch.einsum("asuk,btvl,oikl->oiasubtv", share, share, weight)


def _unframed(rows: Node, first: int) -> Node:
    """Maps without their border, from a channel on: (side + 2, side + 2, C) -> (side, side, C - first)."""
    side, _, channels = rows.get_output_shape(0)
    return op.slice(
        rows,
        _axes(BORDER_PX, BORDER_PX, first),
        _axes(side - BORDER_PX, side - BORDER_PX, channels),
        _axes(1, 1, 1),
        _axes(0, 1, 2),
    )


def _conv(
    x: Node,
    conv: nn.Conv2d,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
) -> Node:
    weight, bias = conv.weight, cast(Tensor, conv.bias)
    if inputs is not None:
        weight = weight[:, list(inputs)]
    if outputs is not None:
        weight, bias = weight[list(outputs)], bias[list(outputs)]
    return _convolution(x, weight, bias, cast(int, conv.padding[0]))


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


def _convolution(x: Node, weight: Tensor, bias: Tensor | None, padding: int) -> Node:
    pads = [padding, padding]
    kernel = _constant(_array(weight))
    if x.get_type_name() == "FakeQuantize":
        bound = _array(weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12))
        ends = _constant(-bound), _constant(bound)
        kernel = op.fake_quantize(kernel, *ends, *ends, 255)
    y = op.convolution(x, kernel, [1, 1], pads, pads, [1, 1])
    return y if bias is None else op.add(y, _constant(_array(bias)[None, :, None, None]))


def _picked(x: Node, channels: Sequence[int]) -> Node:
    """Some of a map's channels, by a 1x1 convolution: the one thing that takes rows to maps without copying them."""
    weight = torch.zeros(len(channels), x.get_output_shape(0)[1], 1, 1)
    weight[range(len(channels)), list(channels)] = 1
    return _convolution(x, weight, None, 0)


def _linear(x: Node, matrix: Tensor, bias: Tensor | None) -> Node:
    y = op.matmul(x, _constant(_array(matrix)), False, True)
    return y if bias is None else op.add(y, _constant(_array(bias)))


def _affine(x: Node, scale: Tensor, shift: Tensor) -> Node:
    shape = (1, -1, 1, 1)
    return op.add(op.multiply(x, _constant(_array(scale).reshape(shape))), _constant(_array(shift).reshape(shape)))


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


def _array(tensor: Tensor) -> Array:
    return tensor.detach().float().cpu().numpy()
