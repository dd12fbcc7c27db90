"""Which camera is used, which ones there are, and how the one in use does."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import CameraDark, CameraFailed, CameraLit, CameraOpened
from app.ui.chain import Chain, Link
from app.ui.languages import full_sentence, tr
from app.ui.messages import Message, failure_message
from app.ui.permissions import when_camera_is_allowed
from app.ui.worker import Worker
from app.words import dark_camera_words, unmet_wishes_words
from mcnet.errors import UserError
from mcnet.phrases import listed, phrase

if TYPE_CHECKING:
    from app.pipeline.camera_spec import CameraSpec
    from app.pipeline.capture.camera import CameraInfo
    from app.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)


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
        self._spec: CameraSpec | None = None
        self._wish: int | None = None
        self._texts: dict[CameraSpec, str] = {}  # of all that were asked for
        self._links: dict[CameraSpec, Link] = {}  # of all that were opened

    def refresh(self) -> None:
        """Look again which cameras are there."""
        self.cameras = None
        self.changed.emit()
        self._worker.run(self._list_cameras, self._take_cameras, self._no_cameras)

    def choose(self, text: str) -> bool:
        """Take another camera, or what stands in for one, and remember it.

        Returns:
            Whether the text means a camera. If not, the one in use, if there is one, goes on and stays chosen.
        """
        if text == self.current and self.link.done:
            return True
        before, self.current = self.current, text
        spec = self._parsed()
        if spec is None and self._spec is not None:
            self.current = before
        else:
            self.chosen.emit(text)
            self._take(spec)
        self.changed.emit()
        return spec is not None

    def open(self) -> None:
        """Have the pipeline open the current camera, if there is one."""
        if self.pipeline is not None and self.current:
            self._take(self._parsed())

    def _parsed(self) -> "CameraSpec | None":
        """The current camera's spec, or None, with a message, where the text means none."""
        try:
            return self._parse_camera(self.current)
        except UserError as error:
            self.told.emit(Message("camera", str(error)))
            return None

    def _take(self, spec: "CameraSpec | None") -> None:
        if self.pipeline is None:
            return
        if spec is None:
            self._set_link(Link(text=phrase("the camera cannot be used: choose another one"), failed=True))
            return
        self._clear()  # it was about what was in use before
        self._spec, self._wish = spec, None
        self._texts[spec] = self.current
        self.interrupted.emit()
        self._set_link(Link(text=phrase("the camera is being opened")))
        if spec.kind == "device":
            when_camera_is_allowed(lambda: self._ask_for(spec), lambda: self._forbid(spec))
        else:
            self._ask_for(spec)

    def hear(self, event: CameraOpened | CameraFailed | CameraDark | CameraLit) -> None:
        """Take a fact about a camera. Others' are let pass, and so is what the pipeline told before it heard of the
        last wish: the user has moved on.
        """
        if isinstance(event, CameraOpened):
            self._links[event.spec] = _link_of(event)
        if event.wish != self._wish or event.spec != self._spec:
            logger.info("not about the camera of now: %s", event)
        elif isinstance(event, CameraOpened):
            self._set_link(self._links[event.spec])
            self._clear()
        elif isinstance(event, CameraFailed):
            self._take_failed(event)
        elif isinstance(event, CameraLit):
            self.cleared.emit("camera dark")
        else:
            text = dark_camera_words(event)
            self.told.emit(Message("camera dark", full_sentence(text), action=tr("Refresh cameras"), act=self.refresh))

    def _clear(self) -> None:
        """What was told of a camera, and of its darkness, is over."""
        self.cleared.emit("camera")
        self.cleared.emit("camera dark")

    def _ask_for(self, spec: "CameraSpec") -> None:
        # The system may have asked the user first, and the answer may come when another camera was chosen.
        if self.pipeline is not None and spec == self._spec:
            self._wish = self.pipeline.set_camera(spec)

    def _forbid(self, spec: "CameraSpec") -> None:
        if spec == self._spec:
            self._set_link(
                Link(text=phrase("the system forbids the camera: allow it in System Settings, Privacy"), failed=True)
            )
            text = tr("The system does not let this app use the camera. Allow it in System Settings, Privacy.")
            self.told.emit(Message("camera", text))

    def _take_failed(self, event: CameraFailed) -> None:
        said = [full_sentence(event.message)]
        if event.retry_s is not None:
            said.append(tr("Trying again in {seconds} s.", seconds=max(1, round(event.retry_s))))
        if event.kept is not None:
            self._spec, self.current = event.kept, self._texts[event.kept]
            self.chosen.emit(self.current)
            self._set_link(self._links[event.kept])
            said.append(tr("{camera} goes on.", camera=event.kept.path.name if event.kept.path else event.kept_name))
        else:
            self.cleared.emit("camera dark")
            self.interrupted.emit()
            self._set_link(
                Link(text=phrase("the camera gives no frames: plug it in again, or choose another one"), failed=True)
            )
        tone: Literal["error", "warning"] = "warning" if event.kept else "error"
        self.told.emit(Message("camera", " ".join(said), tone, action=tr("Refresh cameras"), act=self.refresh))

    def _take_cameras(self, cameras: "list[CameraInfo]") -> None:
        self.cameras = cameras
        self.cleared.emit("cameras")
        if not self.current and cameras:
            self.current = cameras[0].spec_text
            self.open()
        elif not self.current:
            self._set_link(Link(text=phrase("no camera was found: plug one in, or use a video file"), failed=True))
            self.told.emit(
                Message(
                    "camera", tr("No camera was found. Plug one in and refresh, or let a video file stand in for it.")
                )
            )
        self.changed.emit()

    def _no_cameras(self, error: Exception) -> None:
        self.cameras = []
        self.told.emit(failure_message("cameras", error))
        self.changed.emit()

    def _set_link(self, link: Link) -> None:
        self.link = link
        self.changed.emit()


def _link_of(event: CameraOpened) -> Link:
    size = phrase(
        "{width_px} x {height_px}, {fps_hz:.0f} fps",
        width_px=event.width_px,
        height_px=event.height_px,
        fps_hz=event.fps_hz,
    )
    unmet = unmet_wishes_words(event)
    return Link(True, listed([size, unmet], ";") if unmet else size)
