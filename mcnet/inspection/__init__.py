"""What the network sees and does inside, as pictures: for `mcnet inspect`, the app's dock and the documentation.

Numbers become pictures with NumPy and OpenCV, and words are written with Pillow: every user has these already, and
neither Qt nor another library for plots has to be there.
"""

from typing import Literal

LiveView = Literal["flow", "lattice", "masks", "occlusion", "warped", "generated", "features", "attention"]
"""What can be watched live; `mcnet.inspection.live` draws it."""
