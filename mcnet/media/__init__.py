"""Pictures, videos, faces and crops: everything between files and the 256 x 256 pictures that the network takes.

Pictures are RGB uint8 arrays of shape (height, width, 3) everywhere in here.
"""

import os
from pathlib import Path

from mcnet.packages import missing_package
from mcnet.phrases import phrase

_QT_SETTINGS = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
_BEFORE = {name: os.environ.get(name, "") for name in _QT_SETTINGS}

try:
    import cv2
except ImportError as error:
    # Not above: of two threads, one that imports this package and one that imports a module of it, each would wait for
    # the other if the package imported that module itself.
    from mcnet.media.errors import MediaError

    raise MediaError(
        missing_package(error)
        or phrase(
            "OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1",
            error=error,
        )
    ) from error

# Importing cv2 points Qt at cv2's own plugins, which would break a PyQt6 window in the same process: undo it, also
# where someone else imported it before.
_CV2_FOLDER = str(Path(cv2.__file__).parent)
for _name in _QT_SETTINGS:
    if os.environ.get(_name, "").startswith(_CV2_FOLDER):
        del os.environ[_name]
        if _BEFORE[_name] and not _BEFORE[_name].startswith(_CV2_FOLDER):
            os.environ[_name] = _BEFORE[_name]
