"""What the exact rewrites do to weights: for torch's tensors and numpy's arrays alike, so that it is written once.

`mcnet.engine.rewrites` makes modules of the results, `mcnet.engine.openvino_graph` graphs.
"""

from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple

import numpy as np

from mcnet.arrays import Array
from mcnet.config import NORM_EPS, QUERY_SCALE
from mcnet.pose import TensorOrArray, namespace


class Weights:
    """Weights by name, or a part of them: `part("generator")["final.weight"]` is `["generator.final.weight"]`."""

    def __init__(self, weights: Mapping[str, Array], prefix: str = "") -> None:
        """Look at the weights whose names begin with `prefix`."""
        self._weights = weights
        self._prefix = prefix

    def __getitem__(self, name: str) -> Array:
        """That weight, in float32."""
        return self._weights[self._prefix + name].astype(np.float32)

    def part(self, name: str) -> "Weights":
        """Those below a name."""
        return Weights(self._weights, f"{self._prefix}{name}.")

    def parts(self, name: str, count: int) -> Iterator["Weights"]:
        """Those below each of the numbers 0 to `count` - 1 below a name."""
        return (self.part(f"{name}.{number}") for number in range(count))

    def conv(self, name: str) -> "Conv":
        """A convolution as it is."""
        return Conv(self[f"{name}.weight"], self[f"{name}.bias"])

    def affine(self, name: str) -> "Affine[Array]":
        """A BatchNorm."""
        norm = self.part(name)
        return batchnorm_affine(norm["weight"], norm["bias"], norm["running_mean"], norm["running_var"])

    def folded(self, conv: str = "conv", norm: str = "norm") -> "Conv":
        """A convolution with the BatchNorm after it."""
        return Conv(*fold(*self.conv(conv), self.affine(norm)))


class Conv(NamedTuple):
    """A convolution's kernel (out, in, k, k) and bias (out,)."""

    weight: Array
    bias: Array


class Affine(NamedTuple, Generic[TensorOrArray]):
    """Scale and shift, (C,) each."""

    scale: TensorOrArray
    shift: TensorOrArray


def batchnorm_affine(
    weight: TensorOrArray, bias: TensorOrArray, mean: TensorOrArray, variance: TensorOrArray
) -> "Affine[TensorOrArray]":
    """What a BatchNorm applies in evaluation."""
    scale = weight / namespace(weight).sqrt(variance + NORM_EPS)
    return Affine(scale, bias - mean * scale)


def fold(
    weight: TensorOrArray, bias: TensorOrArray, affine: "Affine[TensorOrArray]"
) -> tuple[TensorOrArray, TensorOrArray]:
    """Kernel and bias of one convolution that does what a convolution and the BatchNorm after it do in evaluation."""
    return weight * affine.scale[:, None, None, None], bias * affine.scale + affine.shift


def transposed_kernel(weight: TensorOrArray) -> TensorOrArray:
    """The 4x4 kernel of the transposed convolution (stride 2, padding 1) that equals nearest x2, then a 3x3 one.

    Each output pixel sees only 2x2 different inputs, on which the 3x3 kernel's taps fall together: 4/9 of the work.
    Output row 2 i + a reads input row j through the kernel row u = 2 i + a - 2 j + 1. Along one axis tap t of the 3x3
    kernel reads floor((a + t - 1) / 2), so u = 0 takes tap 2, u = 1 taps 1 + 2, u = 2 taps 0 + 1, u = 3 tap 0.

    Args:
        weight: (out, in, 3, 3).

    Returns:
        (in, out, 4, 4).
    """
    stack = namespace(weight).stack
    rows = stack(
        (weight[:, :, 2], weight[:, :, 1] + weight[:, :, 2], weight[:, :, 0] + weight[:, :, 1], weight[:, :, 0]), 2
    )
    both: TensorOrArray = stack(
        (rows[..., 2], rows[..., 1] + rows[..., 2], rows[..., 0] + rows[..., 1], rows[..., 0]), 3
    )
    return both.swapaxes(0, 1)


class ComposedWeights(NamedTuple, Generic[TensorOrArray]):
    """Of a compensated level; see `mcnet.engine.rewrites.ComposedLevel`.

    Attributes:
        inward, inward_bias: (C, C_f / 2) and (C,).
        matrix, bias: (3 C, C_f / 2) and (3 C,), to [query / 4, difference, feature].
    """

    inward: TensorOrArray
    inward_bias: TensorOrArray
    matrix: TensorOrArray
    bias: TensorOrArray


def compose(
    inward: TensorOrArray,
    inward_bias: TensorOrArray,
    query: TensorOrArray,
    query_bias: TensorOrArray,
    difference: TensorOrArray,
    difference_bias: TensorOrArray,
) -> "ComposedWeights[TensorOrArray]":
    """Compose the 1x1 convolutions behind a level's inward one with it; kernels are (out, in, 1, 1)."""
    xp = namespace(inward)
    inward, query, difference = (kernel[:, :, 0, 0] for kernel in (inward, query, difference))
    matrix = xp.concatenate((query @ inward * QUERY_SCALE, difference @ inward, inward))
    bias = xp.concatenate(
        ((query @ inward_bias + query_bias) * QUERY_SCALE, difference @ inward_bias + difference_bias, inward_bias)
    )
    return ComposedWeights(inward, inward_bias, matrix, bias)
