"""What the occlusion map makes of the two pictures that it blends, and what the better of both would have given.

The prediction is the warped source where the map trusts the warp, and the generated picture elsewhere
(`mcnet.generator.blend`). A map that chose the picture with the smaller error in each neighbourhood would come closer
to the driving frame than either picture. The gap between the blend and that choice is what a better map could gain
with the same two pictures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURHOOD_PX = 9
"""Side of the square around a pixel over which the errors of both pictures are compared."""


class Composition(NamedTuple):
    """A prediction and what it is made of, each (1, 3, S, S) RGB in [0, 1].

    Attributes:
        blended: the prediction.
        warped: the source's picture, warped.
        generated: the decoder's picture.
    """

    blended: Tensor
    warped: Tensor
    generated: Tensor


class BlendL1(NamedTuple):
    """L1 to the driving frame, in [0, 1].

    Attributes:
        blended: of the prediction.
        warped: of the warped source alone.
        generated: of the generated picture alone.
        better: of that one of the two, pixel by pixel, whose error is smaller in the neighbourhood.
        copied: of the source as it is.
    """

    blended: float
    warped: float
    generated: float
    better: float
    copied: float


@torch.inference_mode()
def blend_l1(composition: Composition, source: Tensor, driving: Tensor) -> BlendL1:
    """Compare all of it with the driving frame.

    Args:
        composition: the prediction and its parts.
        source: (1, 3, S, S) RGB in [0, 1], the picture that is animated.
        driving: likewise, what should come out.
    """
    blended, warped, generated, copied = (
        (picture - driving).abs().mean(dim=1, keepdim=True) for picture in (*composition, source)
    )
    better = torch.where(_around(generated) < _around(warped), generated, warped)
    return BlendL1(*(float(error.double().mean()) for error in (blended, warped, generated, better, copied)))


def _around(error: Tensor) -> Tensor:
    """Its mean over each pixel's neighbourhood, as far as that lies within the picture."""
    return F.avg_pool2d(error, NEIGHBOURHOOD_PX, stride=1, padding=NEIGHBOURHOOD_PX // 2, count_include_pad=False)


class BlendShares(NamedTuple):
    """L1 over some pairs, each over that of copying the source.

    Attributes:
        pairs: so many.
        blended, warped, generated, better: see `BlendL1`.
        gap: `blended` minus `better`: what a better occlusion map could gain with the same two pictures.
    """

    pairs: int
    blended: float
    warped: float
    generated: float
    better: float
    gap: float


def blend_shares(blends: Sequence[BlendL1 | None]) -> BlendShares | None:
    """The shares of the mean errors; None without any pair, or where the source is the driving frame in all of them.

    Args:
        blends: by pair; None where nothing was animated, as the driving frame shows no face that can be measured.
    """
    known = [blend for blend in blends if blend is not None]
    if not known:
        return None
    *means, copied = np.mean(known, axis=0).tolist()
    if not copied:
        return None
    blended, warped, generated, better = (mean / copied for mean in means)
    return BlendShares(len(known), blended, warped, generated, better, blended - better)
