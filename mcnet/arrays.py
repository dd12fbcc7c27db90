"""The types of arrays that travel between modules."""

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""A picture as files, cameras and the engine give it: (H, W, 3) uint8, red first; or several, (N, H, W, 3)."""
