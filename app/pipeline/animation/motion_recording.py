"""A recording of the performer's motion, without pictures, while the avatar is live."""

import threading
from pathlib import Path

from app.errors import AppError
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from mcnet.media.motion_track import LONGEST_S, MOST_FRAMES, TrackRecorder, save_track
from mcnet.phrases import phrase


class MotionRecording:
    """Takes the faces of one recording on the inference thread; any other thread may save it in the end.

    Where frames come from another camera or have another size, or there are too many, no more is taken: what was is
    whole.

    Args:
        path: of the file, which is written by `save`, in one step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._recorder = TrackRecorder()
        self._size_px: tuple[int, int] | None = None
        self._camera = ""
        self._ended = ""

    @property
    def ended(self) -> str:
        """Why no more is taken, for people; "" while it goes on."""
        return self._ended

    @property
    def frames(self) -> int:
        """How many were taken."""
        return len(self._recorder)

    def take(self, captured_s: float, face: Face | None, size_px: tuple[int, int], camera: str = "") -> None:
        """Take a frame.

        Args:
            captured_s: when it arrived, of a monotonic clock.
            face: in its pixels; None where there is none.
            size_px: its width and height.
            camera: which one it is from.
        """
        with self._lock:
            if self._ended or (face is None and self._size_px is None):  # it begins with the first face
                return
            if self._size_px is not None and camera != self._camera:
                self._ended = phrase("another camera is used now")
                return
            if self._size_px not in (None, size_px):
                self._ended = phrase("the camera's frames have another size now")
                return
            if not self._recorder.reaches(captured_s):
                self._ended = phrase("a motion file takes no more than {hours} hours", hours=round(LONGEST_S / 3600))
                return
            self._size_px, self._camera = size_px, camera
            self._recorder.add(captured_s, face)
            if self._recorder.full:
                self._ended = phrase(
                    "it has {frames} frames, which is as many as a motion file takes", frames=MOST_FRAMES
                )

    def save(self) -> None:
        """End it, and write what was taken.

        Raises:
            AppError: no face was seen, or the place cannot be written.
        """
        with self._lock:
            self._ended = self._ended or phrase("it was ended")
            recorder, size_px = self._recorder, self._size_px
        if size_px is None:
            raise AppError(
                phrase("no face was seen while the motion was recorded: there is no file {path}", path=self.path)
            )
        try:
            save_track(self.path, recorder.track(size_px))
        except MediaError as error:
            raise AppError(str(error)) from error
