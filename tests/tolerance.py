"""How far two results may lie apart that are the same but for rounding.

Processors, numbers of threads and libraries add up the products of a convolution each in an order of its own, and every
addition rounds. A bar must hold for any of them. So it follows from how many products are added up, times the size of
the result, or from what the product promises to whom looks at it; never from what one machine gave.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EPSILON = 2.0**-23
"""float32: from 1 to the next number. An addition is off by half of it at most, times the size of the sum so far."""

PLACE = 0.01 * 2 / 255
"""A hundredth of a pixel of a 256 px picture, in coordinates from -1 to 1: nobody sees a warp that is off by it. The
softmax that gives keypoints divides by its temperature of 0.1, and so makes rounding errors ten times as large."""
PICTURE = 0.1 / 255
"""A tenth of a step of a picture in uint8, for what is a colour or a share of one. Once they are rounded, pictures that
differ by less differ by one step at most, which is what the engine promises."""
ROUNDED_OTHERWISE = 1e-3
"""Mean difference of two such pictures in uint8: how often a value rounds to the other side is its error in steps, of
which the largest is a tenth, and the mean a hundredth of that or less."""


class Promise(NamedTuple):
    """How far a picture of the engine may be from the plain float32 network's, both in uint8.

    Attributes:
        largest: error in steps of 255.
        mean: error in steps of 255.
        psnr_db: of the worst picture, at least.
    """

    largest: int
    mean: float
    psnr_db: float


PROMISED = {
    "fp32": Promise(1, ROUNDED_OTHERWISE, 75),
    "bf16": Promise(4, 0.05, 58),
    "int8": Promise(6, 0.15, 55),
}
"""By precision, of the starter: what docs/performance.md tells users."""

FLOAT16 = 2.0**-12
"""What rounding to float16 makes of numbers below 1: half of its step of 2^-11."""


def of_sums(products: int) -> float:
    """The bar for float32 sums in another order, relative to the largest number of the result.

    n roundings, each of EPSILON / 2 at most and of either sign, add up like a random walk: to EPSILON sqrt(n / 12) on
    average. Two results that both round differ by EPSILON sqrt(n / 6). This is five times as much, since the largest
    error of many numbers is told. A mistake in the arithmetic is a matter of percents.

    Args:
        products: that are added up for one number, over all the layers that lie before it.
    """
    return 2 * EPSILON * math.sqrt(products)


def products(module: nn.Module) -> int:
    """How many products are added up on the way through all the convolutions and linear layers of a module."""
    weights = (weight for name, weight in module.named_parameters() if name.endswith("weight") and weight.dim() > 1)
    return sum(weight.flatten(end_dim=max(weight.dim() - 4, 0))[0].numel() for weight in weights)


def largest_error(got: Tensor, expected: Tensor) -> float:
    """Of two tensors of one shape; NaN where either holds one."""
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).abs().max())


def assert_near(got: Tensor, expected: NDArray[Any], bar: float) -> None:
    """No number may be off from the stored one by more than the bar, which is absolute."""
    error = largest_error(got, torch.from_numpy(expected.astype(np.float32)))
    assert error <= bar, f"largest error {error:.2e}, expected at most {bar:.1e}"
