"""The virtual camera: what the doctor says of it, and whether it takes the pictures."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import SinkClosed, SinkFailed, SinkOpened
from app.ui.chain import Chain, Link
from app.ui.languages import tr
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.pipeline.doctor import VirtualCameraReport
    from app.pipeline.output.sinks import Sink
    from app.pipeline.pipeline import Pipeline


class VirtualCameraSwitch(QObject):
    """Switches the virtual camera on and off. Lives on the GUI thread; slow work goes to the worker.

    Args:
        worker: examines and makes the virtual camera.
        examine: ready, missing, busy or denied, and what to do.
        make: a sink.

    Attributes:
        pipeline: gives the pictures; None before it is there.
        report: of the doctor; None while it looks.
        link: how the virtual camera stands.

    Signals:
        changed: anything of the above.
        switched_on: it was switched on, and is not opened yet.
        gone: it takes no pictures any more, or could not be opened.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    switched_on = pyqtSignal()
    gone = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self, worker: Worker, examine: "Callable[[], VirtualCameraReport]", make: "Callable[[], Sink]"
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.report: VirtualCameraReport | None = None
        self.link = Chain().virtual_camera
        self._worker = worker
        self._examine = examine
        self._make = make
        self._sink: Sink | None = None
        self._wanted = False

    @property
    def on_air(self) -> bool:
        """Whether the virtual camera takes the pictures."""
        return self.link.done

    @property
    def wanted(self) -> bool:
        """Whether it is switched on, open or not."""
        return self._wanted

    @property
    def opening(self) -> bool:
        """Whether it was switched on and has not answered yet."""
        return self._wanted and not self.on_air

    def examine(self) -> None:
        """Have the doctor look."""
        self.report = None
        self.changed.emit()
        self._worker.run(self._examine, self._take_report, self._not_examined)

    def switch(self, on: bool) -> None:
        """Switch it on or off. It starts with the slate; going live is another step."""
        if self.pipeline is None:
            return
        if not on:
            if self._sink is None:
                self._lose(Chain().virtual_camera)
            else:
                self.pipeline.remove_sink(self._sink.name)
            return
        if self._wanted:
            return
        self._wanted = True
        self.cleared.emit("virtual camera")
        self.link = Link(text=tr("the virtual camera is being opened"))
        self.switched_on.emit()
        self.changed.emit()
        self._worker.run(self._make, self._add, self._not_made)

    def hear(self, event: SinkOpened | SinkFailed | SinkClosed) -> None:
        """Take a fact about a sink; others' are let pass."""
        if self._sink is None or event.sink != self._sink.name:
            return
        if isinstance(event, SinkOpened):
            self._set_link(Link(True, event.detail or event.sink))
            self.cleared.emit("virtual camera")
        elif isinstance(event, SinkFailed):
            self._lose(Link(text=tr("the virtual camera takes no pictures any more: switch it on again"), failed=True))
            self.told.emit(Message("virtual camera", event.message))
            self.examine()
        elif event.asked:
            self._lose(Chain().virtual_camera)
        else:
            self._set_link(Link(text=tr("the virtual camera is being opened again")))

    def _take_report(self, report: "VirtualCameraReport") -> None:
        self.report = report
        self.cleared.emit("virtual camera report")
        self.changed.emit()

    def _not_examined(self, error: Exception) -> None:
        self.told.emit(failure_message("virtual camera report", error))

    def _add(self, sink: "Sink") -> None:
        if self.pipeline is not None and self._wanted and self._sink is None:
            self._sink = sink
            self.pipeline.add_sink(sink)
            self.changed.emit()

    def _not_made(self, error: Exception) -> None:
        self._lose(Link(text=tr("the virtual camera cannot be opened: see the advice below its switch"), failed=True))
        self.told.emit(failure_message("virtual camera", error))

    def _lose(self, link: Link) -> None:
        if self.pipeline is not None and self._sink is not None:
            self.pipeline.remove_sink(self._sink.name)  # or it would come back with the next start
        self._sink, self._wanted = None, False
        self._set_link(link)
        self.gone.emit()

    def _set_link(self, link: Link) -> None:
        self.link = link
        self.changed.emit()
