"""The virtual camera: what the doctor says of it, and whether it takes the pictures."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, get_args

from PyQt6.QtCore import Qt, pyqtSignal

from app.pipeline.events import SinkClosed, SinkFailed, SinkOpened
from app.settings import VirtualCameraKind
from app.ui.bridge import FromThreads
from app.ui.chain import Chain, Link
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.doctor import VirtualCameraReport
    from app.pipeline.output.sinks import Sink
    from app.pipeline.pipeline import Pipeline


class VirtualCameraSwitch(FromThreads):
    """Switches the virtual camera on and off. Lives on the GUI thread; slow work goes to the worker.

    Args:
        worker: examines and makes the virtual camera.
        examine: of a kind: ready, missing, busy or denied, and what to do.
        make: a sink of that kind, which tells from a thread what is wrong for the time being, and "" when it is over.
        kind: as it was kept.

    Attributes:
        kinds: those that this system has.
        kind: the one in use.
        pipeline: gives the pictures; None before it is there.
        report: of the doctor; None while it looks.
        link: how the virtual camera stands.

    Signals:
        changed: anything of the above.
        chosen: the kind, when the user changed it.
        switched_on: it was switched on, and is not opened yet.
        gone: it takes no pictures any more, or could not be opened.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        _troubled: the number of a switching-on, and what is wrong for the time being, or ""; always queued.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(str)
    switched_on = pyqtSignal()
    gone = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    _troubled = pyqtSignal(int, object)

    def __init__(
        self,
        worker: Worker,
        examine: "Callable[[VirtualCameraKind], VirtualCameraReport]",
        make: "Callable[[VirtualCameraKind, Callable[[str], None]], Sink]",
        kind: VirtualCameraKind,
    ) -> None:
        super().__init__()
        self.kinds: tuple[VirtualCameraKind, ...] = (
            get_args(VirtualCameraKind) if sys.platform == "linux" else ("driver",)
        )
        self.kind: VirtualCameraKind = kind if kind in self.kinds else "driver"
        self.pipeline: Pipeline | None = None
        self.report: VirtualCameraReport | None = None
        self.link = Chain().virtual_camera
        self._worker = worker
        self._examine = examine
        self._make = make
        self._sink: Sink | None = None
        self._wanted = False
        self._number = 0
        self._troubled.connect(self._hear_trouble, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs

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
        kind = self.kind
        self._worker.run(
            lambda: self._examine(kind), lambda report: self._take_report(kind, report), self._not_examined
        )

    def choose(self, kind: VirtualCameraKind) -> None:
        """Use another kind; not while it is on, for a call would lose its camera."""
        if kind != self.kind and not self._wanted:
            self.kind = kind
            self.link = Chain().virtual_camera
            self.chosen.emit(kind)
            self.cleared.emit("virtual camera")
            self.examine()

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
        self._number += 1
        self.cleared.emit("virtual camera")
        self.link = Link(text=phrase("the virtual camera is being opened"))
        self.switched_on.emit()
        self.changed.emit()
        number = self._number
        make = partial(self._make, self.kind, partial(self._tell, number))
        self._worker.run(make, partial(self._add, number), partial(self._not_made, number))

    def hear(self, event: SinkOpened | SinkFailed | SinkClosed) -> None:
        """Take a fact about a sink; others' are let pass."""
        if self._sink is None or event.sink != self._sink.name:
            return
        if isinstance(event, SinkOpened):
            self._set_link(Link(True, event.detail or event.sink))
            self.cleared.emit("virtual camera")
        elif isinstance(event, SinkFailed):
            self._lose(
                Link(text=phrase("the virtual camera takes no pictures any more: switch it on again"), failed=True)
            )
            self.told.emit(Message("virtual camera", event.message))
            self.examine()
        elif event.asked:
            self._lose(Chain().virtual_camera)
        else:
            self._set_link(Link(text=phrase("the virtual camera is being opened again")))

    def close(self) -> bool:
        """Be told nothing any more; harmless when called again."""
        self._carry_no_more()
        return True

    def _tell(self, number: int, trouble: str) -> None:
        self._carry(self._troubled, number, trouble)

    def _hear_trouble(self, number: int, trouble: str) -> None:
        if number != self._number or not self._wanted or self._closed:
            return
        if trouble:
            self.told.emit(Message("virtual camera", trouble, tone="warning"))
        else:
            self.cleared.emit("virtual camera")

    def _take_report(self, kind: VirtualCameraKind, report: "VirtualCameraReport") -> None:
        if kind != self.kind:
            return  # another one was chosen meanwhile
        self.report = report
        self.cleared.emit("virtual camera report")
        self.changed.emit()

    def _not_examined(self, error: Exception) -> None:
        self.told.emit(failure_message("virtual camera report", error))

    def _add(self, number: int, sink: "Sink") -> None:
        if self.pipeline is not None and self._wanted and number == self._number:  # not of a wish before
            self._sink = sink
            self.pipeline.add_sink(sink)
            self.changed.emit()

    def _not_made(self, number: int, error: Exception) -> None:
        if number != self._number or not self._wanted:
            return
        self._lose(
            Link(text=phrase("the virtual camera cannot be opened: see the advice below its switch"), failed=True)
        )
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
