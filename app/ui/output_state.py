"""What the output shows, and why, on the window's side."""

from collections.abc import Callable

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import StageFailed
from app.pipeline.state import State
from app.ui.languages import capital, full_sentence, tr
from app.ui.messages import Message
from mcnet.phrases import Phrase, phrase


class OutputState(QObject):
    """Follows what the output shows, and tells of faults until they are over. Lives on the GUI thread.

    It owns the state, the reason for it and what has failed. What follows from a failure for the model and for what has
    to be proven is others'.

    Args:
        restart: starts the pipeline again; offered with each fault.

    Attributes:
        state: what the output shows.
        why: the pipeline's reason for it, or "".
        fault: what has failed and what to do, while it has; or "".

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
        self.fault = ""
        self._restart = restart

    def change(self, state: State, why: str = "") -> None:
        """The output shows this from now on."""
        before, self.state, self.why = self.state, state, why
        # A fault may come of pictures that fail to come, of which no stage has told; it goes with them.
        if state is State.FAULT and before is not State.FAULT and not self.fault:
            self._tell(
                tr(
                    "The model has given no picture for a while, so the output shows the slate. It goes on by itself "
                    "once there is one; if it stays so, start again."
                )
            )
        elif before is State.FAULT and state is not State.FAULT and not self.fault:
            self.cleared.emit("stage")

    def begin_anew(self) -> None:
        """The pipeline is started anew: what has failed is over."""
        self.state, self.why = State.STARTING, ""
        self.end_fault()

    def fail(self, event: StageFailed) -> None:
        """A stage has failed: without the sinks', which shows the slate, no picture goes out."""
        # A phrase has no full stop, and stays one.
        reason = event.message if isinstance(event.message, Phrase) else event.message.rstrip(".")
        if event.stage == "model":
            self.fault = phrase("the model cannot be loaded: {reason}", reason=reason)
        elif event.stage == "sinks":
            self.fault = phrase("the output has failed: {reason}", reason=reason)
        else:
            self.fault = phrase("the {stage} has failed: {reason}", stage=event.stage, reason=reason)
        so = tr("No picture goes out any more.") if event.stage == "sinks" else tr("The output shows the slate.")
        self._tell(f"{full_sentence(capital(self.fault))} {so}")

    def end_fault(self) -> None:
        """What has failed works again."""
        self.fault = ""
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

    def _tell(self, text: str) -> None:
        self.told.emit(Message("stage", text, action=tr("Start again"), act=self._restart))
