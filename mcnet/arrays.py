"""The types of arrays that travel between modules: pictures, keypoints, and what a source settles.

The network computes with torch's tensors, and all that stands outside of it with numpy's arrays, so that a machine
without torch animates too. What travels has one form for both: `Keypoints` are tensors, `Keypoints[Array]` arrays.
"""

from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeVar  # that of the standard library has no defaults before Python 3.13

    Kind = TypeVar("Kind", default=Tensor)
else:
    from typing import TypeVar

    Kind = TypeVar("Kind")

Rgb = NDArray[np.uint8]
"""A picture as files, cameras and the engine give it: (H, W, 3) uint8, red first; or several, (N, H, W, 3)."""
Array = NDArray[Any]


class Keypoints(NamedTuple, Generic[Kind]):
    """K keypoints with the local affine frame of each (first-order motion).

    Attributes:
        value: (B, K, 2) float32 xy in [-1, 1].
        jacobian: (B, K, 2, 2) float32.
    """

    value: Kind
    jacobian: Kind


class ConditionedMemory(NamedTuple, Generic[Kind]):
    """The memory bank as one source sees it.

    Attributes:
        memory: (B, C, size, size).
        responses: (B, P, 2 C, size, size), what each of the P parallel kernels makes of it; the engine's are rows,
            (B, P, size * size, 2 C).
    """

    memory: Kind
    responses: Kind


class Flow(NamedTuple):
    """Where B frames look in their source, and how far that is to be trusted: what moves anything with the portrait.

    Attributes:
        deformation: (B, 64, 64, 2) float32, xy in [-1, 1] of the source, corner-aligned.
        occlusion: (B, 64, 64) float32 in [0, 1]; 1 = trust the warp.
    """

    deformation: NDArray[np.float32]
    occlusion: NDArray[np.float32]


class SourceCache(NamedTuple, Generic[Kind]):
    """All that a source settles, so that no frame computes it again.

    Attributes:
        picture: (B, 3, size_px, size_px) RGB in [0, 1].
        small: (B, 3, 64, 64), the picture shrunk.
        keypoints: of the source.
        heatmaps: (B, K, 64, 64), their Gaussians.
        features: one (B, C, w, w) per level, lowest resolution first, at the width that is warped.
        memory: the conditioned memory, where the conditioning depends on the source alone.
    """

    picture: Kind
    small: Kind
    keypoints: Keypoints[Kind]
    heatmaps: Kind
    features: tuple[Kind, ...]
    memory: ConditionedMemory[Kind] | None
    fingerprint: str = ""
    """Whose weights and arithmetic made it: the engine fills it in, so as to refuse another model's."""
    measured: bool = False
    """Whether the keypoints' places were measured by a face mesh, and not detected by the model itself."""
