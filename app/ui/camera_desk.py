"""Which camera is used, which ones there are, and how the one in use does."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import CameraFailed, CameraOpened
from app.ui.chain import Chain, Link
from app.ui.messages import Message, failure_message
from app.ui.permissions import when_camera_is_allowed
from app.ui.worker import Worker
from mcnet.errors import UserError

if TYPE_CHECKING:
    from app.pipeline.capture.cameras import CameraInfo, CameraSpec
    from app.pipeline.pipeline import Pipeline


class CameraDesk(QObject):
    """Lists cameras, has the pipeline open one, and follows what becomes of it. Lives on the GUI thread; slow work goes
    to the worker.

    Args:
        worker: lists the cameras.
        list_cameras: those that are there.
        parse_camera: text to spec.
        camera: text of the camera to begin with, or "".

    Attributes:
        pipeline: opens the camera; None before it is there.
        cameras: those that are there; None while they are looked for.
        current: text of the one in use, or "".
        link: how it stands.

    Signals:
        changed: anything of the above.
        chosen: text of the camera that is in use from now on, to be remembered.
        interrupted: no frames arrive until a camera is opened.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(str)
    interrupted = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self,
        worker: Worker,
        list_cameras: "Callable[[], list[CameraInfo]]",
        parse_camera: "Callable[[str], CameraSpec]",
        camera: str,
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.cameras: list[CameraInfo] | None = None
        self.current = camera
        self.link = Chain().camera
        self._worker = worker
        self._list_cameras = list_cameras
        self._parse_camera = parse_camera
        self._proven = ""
        self._proven_link = Link()

    def refresh(self) -> None:
        """Look again which cameras are there."""
        self.cameras = None
        self.changed.emit()
        self._worker.run(self._list_cameras, self._take_cameras, self._no_cameras)

    def choose(self, text: str) -> None:
        """Take another camera, or a file that stands in for one, and remember it."""
        if text == self.current and self.link.done:
            return
        self.current = text
        self.chosen.emit(text)
        self.open()
        self.changed.emit()

    def open(self) -> None:
        """Have the pipeline open the current camera, if there is one."""
        if self.pipeline is None or not self.current:
            return
        try:
            spec = self._parse_camera(self.current)
        except UserError as error:
            self._set_link(Link(text="the camera cannot be used: choose another one", failed=True))
            self.told.emit(Message("camera", str(error)))
            return
        pipeline = self.pipeline
        self.cleared.emit("camera")  # it was about what was in use before
        self.interrupted.emit()
        self._set_link(Link(text="the camera is being opened"))
        if spec.kind == "device":
            when_camera_is_allowed(lambda: pipeline.set_camera(spec), self._forbidden)
        else:
            pipeline.set_camera(spec)

    def hear(self, event: CameraOpened | CameraFailed) -> None:
        """Take a fact about a camera."""
        if isinstance(event, CameraOpened):
            self._opened(event)
        else:
            self._failed(event)

    def _opened(self, event: CameraOpened) -> None:
        size = f"{event.width_px} x {event.height_px}, {event.fps_hz:.0f} fps"
        text = f"{size}; {event.remark}" if event.remark else size
        self._proven, self._proven_link = self.current, Link(True, text)
        self._set_link(self._proven_link)
        self.cleared.emit("camera")

    def _failed(self, event: CameraFailed) -> None:
        text = f"{event.message.rstrip('.')}."
        if event.retry_s is not None:
            text += f" Trying again in {max(1, round(event.retry_s))} s."
        if event.kept:
            self.current = self._proven
            self.chosen.emit(self.current)
            self._set_link(self._proven_link)
            text += f" {Path(event.kept).name} goes on."
        else:
            self.interrupted.emit()
            self._set_link(
                Link(text="the camera gives no frames: plug it in again, or choose another one", failed=True)
            )
        tone: Literal["error", "warning"] = "warning" if event.kept else "error"
        self.told.emit(Message("camera", text, tone, action="Refresh cameras", act=self.refresh))

    def _forbidden(self) -> None:
        self._set_link(Link(text="the system forbids the camera: allow it in System Settings, Privacy", failed=True))
        self.told.emit(
            Message("camera", "The system does not let this app use the camera. Allow it in System Settings, Privacy.")
        )

    def _take_cameras(self, cameras: "list[CameraInfo]") -> None:
        self.cameras = cameras
        self.cleared.emit("cameras")
        if not self.current and cameras:
            self.current = cameras[0].spec_text
            self.open()
        elif not self.current:
            self._set_link(Link(text="no camera was found: plug one in, or use a video file", failed=True))
            self.told.emit(
                Message("camera", "No camera was found. Plug one in and refresh, or let a video file stand in for it.")
            )
        self.changed.emit()

    def _no_cameras(self, error: Exception) -> None:
        self.cameras = []
        self.told.emit(failure_message("cameras", error))
        self.changed.emit()

    def _set_link(self, link: Link) -> None:
        self.link = link
        self.changed.emit()
