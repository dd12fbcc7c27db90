"""What the output shows, and why, on the window's side."""

from collections.abc import Callable

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.pipeline.events import StageFailed
from app.pipeline.state import State
from app.ui.languages import capital, full_sentence, tr
from app.ui.messages import Message
from mcnet.phrases import Phrase, phrase

_UNNAMED_MS = 1000
"""A fault of which no stage has told is told after so long: one that is over is seen for a few pictures more."""


class OutputState(QObject):
    """Follows what the output shows, and tells of faults until they are over. Lives on the GUI thread.

    It owns the state, the reason for it and what has failed. What follows from a failure for the model and for what has
    to be proven is others'.

    Args:
        restart: starts the pipeline again; offered with each fault.

    Attributes:
        state: what the output shows.
        why: the pipeline's reason for it, or "".

    Signals:
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self, restart: Callable[[], None]) -> None:
        super().__init__()
        self.state = State.STARTING
        self.why = ""
        self._faults: dict[str, str] = {}  # by stage, the last one last
        self._restart = restart
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._tell_unnamed)

    @property
    def fault(self) -> str:
        """What has failed and what to do, while it has; or ""."""
        return next(reversed(self._faults.values()), "")

    def change(self, state: State, why: str = "") -> None:
        """The output shows this from now on."""
        before, self.state, self.why = self.state, state, why
        if (state is State.FAULT) is not (before is State.FAULT) and not self._faults:
            self._tell_fault()

    def begin_anew(self) -> None:
        """The pipeline is started anew: what has failed is over."""
        self.state, self.why = State.STARTING, ""
        self.end_fault()

    def fail(self, event: StageFailed) -> None:
        """A stage has failed: without the sinks', which shows the slate, no picture goes out."""
        # A phrase has no full stop, and stays one.
        reason = event.message if isinstance(event.message, Phrase) else event.message.rstrip(".")
        if event.stage == "model":
            fault = phrase("the model cannot be loaded: {reason}", reason=reason)
        elif event.stage == "sinks":
            fault = phrase("the output has failed: {reason}", reason=reason)
        else:
            fault = phrase("the {stage} has failed: {reason}", stage=event.stage, reason=reason)
        self._faults.pop(event.stage, None)
        self._faults[event.stage] = fault
        self._tell_fault()

    def recover(self, stage: str) -> None:
        """A stage goes on by itself; what else has failed stays so."""
        if self._faults.pop(stage, ""):
            self._tell_fault()

    def end_fault(self) -> None:
        """All that has failed is over."""
        self._faults.clear()
        self._timer.stop()
        self.cleared.emit("stage")

    def reason(self, missing: str) -> str:
        """Why the output shows what it shows, and what to do, as far as the state alone does not say it; or "".

        Args:
            missing: before going live, or "".
        """
        if self.state is State.FAULT:
            return self.fault or self.why
        if self.state is State.STARTING:
            return self.why or missing
        return self.why

    def _tell_fault(self) -> None:
        self._timer.stop()
        if self._faults:
            stage, fault = next(reversed(self._faults.items()))
            so = tr("No picture goes out any more.") if stage == "sinks" else tr("The output shows the slate.")
            self._tell(f"{full_sentence(capital(fault))} {so}")
            return
        self.cleared.emit("stage")
        if self.state is State.FAULT:
            self._timer.start(_UNNAMED_MS)

    def _tell_unnamed(self) -> None:
        """Of pictures that fail to come, of which no stage has told; it goes with them."""
        self._tell(
            tr(
                "The model has given no picture for a while, so the output shows the slate. It goes on by itself "
                "once there is one; if it stays so, start again."
            )
        )

    def _tell(self, text: str) -> None:
        self.told.emit(Message("stage", text, action=tr("Start again"), act=self._restart, stays=True))
