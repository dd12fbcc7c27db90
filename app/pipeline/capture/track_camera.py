"""A motion file in a camera's place: no picture, but the face that one had."""

from pathlib import Path
from time import monotonic

from app.errors import CameraError
from app.pipeline.capture.camera import CameraFormat, Tenancy
from app.pipeline.capture.camera_frame import Played
from mcnet.media.errors import MediaError
from mcnet.media.motion_track import MotionTrack, load_track, loop_of, resampled

_LATEST_S = 0.5
_LEAST_FPS_HZ = 25.0
"""A slower file was recorded on a busy machine, or made by hand: what lies between its frames is made up."""


def open_track_camera(name: str, path: Path) -> "TrackCamera":
    """Open a motion file.

    Args:
        name: for people.
        path: of the file.

    Raises:
        CameraError: it is none, or cannot be read.
    """
    try:
        return TrackCamera(name, load_track(path))
    except MediaError as error:
        raise CameraError(str(error)) from error


class TrackCamera:
    """Plays a motion file in real time, in a loop that goes on without a jump; see `Camera`.

    A late reader gets the frame that is due. If it is more than half a second late, the motion goes on from where it
    was.
    """

    is_device = False

    def __init__(self, name: str, track: MotionTrack) -> None:
        self.name = name
        loop = loop_of(track)
        self._loop = loop if loop.fps >= _LEAST_FPS_HZ else resampled(loop, _LEAST_FPS_HZ)
        self.format = CameraFormat(*track.frame_size_px, round(self._loop.fps, 3))
        self._next = 0  # over all loops
        self._start_s: float | None = None
        self._tenancy = Tenancy(name, lambda: None)

    def read(self) -> Played:
        with self._tenancy.use():
            now_s = monotonic()
            if self._start_s is None or now_s - self._start_s - self._due_s(self._next) > _LATEST_S:
                self._start_s = now_s - self._due_s(self._next)
            while self._due_s(self._next + 1) <= now_s - self._start_s:
                self._next += 1
            wait_s = self._start_s + self._due_s(self._next) - now_s
            if wait_s > 0:
                self._tenancy.closed.wait(wait_s)
            self._tenancy.require_open()
            index = self._next % len(self._loop.faces)
            self._next += 1
            return Played(self._loop.picture(index), self._loop.faces[index])

    def close(self) -> None:
        self._tenancy.close()

    def _due_s(self, frame: int) -> float:
        """When a frame is due, in seconds from the start."""
        loops, index = divmod(frame, len(self._loop.faces))
        return loops * self._loop.length_s + float(self._loop.times_s[index])
