"""What stands in for a camera: a video file played in real time, a folder of pictures."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.capture.camera import CameraFormat, Tenancy
from mcnet.media.errors import MediaError
from mcnet.media.playing import Playing
from mcnet.media.video import DrivingVideo, looped, open_driving
from mcnet.phrases import phrase

_MOST_FPS_HZ = 60.0  # a faster video is thinned out: no camera of a call is faster
_AGAIN_S = 0.2  # a slower one gives each picture several times: a camera that is silent for longer may be gone


def open_file(name: str, path: Path) -> "FileCamera":
    """Open a video file or a folder of pictures.

    Args:
        name: for people.
        path: of either.

    Raises:
        CameraError: it is neither, or cannot be read.
    """
    try:
        return FileCamera(name, open_driving(path, max_fps=_MOST_FPS_HZ))
    except MediaError as error:
        raise CameraError(str(error)) from error


class FileCamera:
    """A video file or a folder of pictures, looping, in real time like a camera; see `Camera`.

    Which picture a late reader gets, says `Playing`. Five times per second there is a picture, be it the same one; a
    single picture is read once only.
    """

    is_device = False

    def __init__(self, name: str, video: DrivingVideo) -> None:
        self.name = name
        width, height = video.frame_size_px
        self.format = CameraFormat(width, height, round(video.fps, 3))
        self._frames: Iterator[NDArray[np.uint8]] = looped(video)
        self._playing = Playing(self._pull, self.format.fps_hz, monotonic)
        self._shown: NDArray[np.uint8] | None = None
        self._tenancy = Tenancy(name, self._release)

    def read(self) -> NDArray[np.uint8]:
        with self._tenancy.use():
            if self._shown is None or self._playing.until_s(1) <= _AGAIN_S:
                self._shown = self._playing.frame()
                wait_s = self._playing.until_s()
            else:
                wait_s = _AGAIN_S
            if wait_s > 0:
                self._tenancy.closed.wait(wait_s)
            self._tenancy.require_open()
            return self._shown.copy()  # what is held is one array several times

    def close(self) -> None:
        self._tenancy.close()

    def _pull(self) -> NDArray[np.uint8]:
        """The next frame, over the end of the file. Cannot be interrupted, but takes a frame's decoding only."""
        self._tenancy.require_open()
        try:
            rgb = next(self._frames, None)
        except MediaError as error:
            raise CameraError(str(error)) from error
        if rgb is None:
            raise CameraError(
                phrase("{name}: got no frame any more, expected a video; was the file changed?", name=self.name)
            )
        return rgb

    def _release(self) -> None:
        self._frames, self._shown = iter(()), None
