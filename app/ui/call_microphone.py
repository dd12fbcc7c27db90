"""The microphone for calls: the chosen one, as late as the picture. On Linux, through PipeWire."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt, QTimer, pyqtSignal

from app.ui.bridge import FromThreads
from app.ui.languages import capital, full_sentence, tr
from app.ui.messages import Message

if TYPE_CHECKING:
    from app.pipeline.output.pipewire_microphone import MicrophoneStanding, PipeWireMicrophone

_FOLLOW_MS = 500


class CallMicrophone(FromThreads):
    """Offers call programs a microphone while it is switched on. Never waits.

    Lives on the GUI thread, but for `mute_now`, which may be called on any.

    Args:
        make: has one, of a microphone's key and name; tells from a thread how it stands.
        follow: asked twice per second for the age of the pictures in seconds, 0 where it is not known.

    Attributes:
        available: whether this system can have one.
        wanted: whether it is switched on.
        standing: how it stands; None while it is off.
        muted: nothing is heard.

    Signals:
        changed: anything of the above.
        chosen: whether it is switched on, when the user changed that.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        _stood: the number of a switching-on, and how it stands; always queued.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(bool)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    _stood = pyqtSignal(int, object)

    def __init__(
        self,
        make: "Callable[[str, str, Callable[[MicrophoneStanding], None]], PipeWireMicrophone]",
        follow: Callable[[], float],
    ) -> None:
        super().__init__()
        self.available = sys.platform == "linux"
        self.wanted = self.muted = False
        self.standing: MicrophoneStanding | None = None
        self._make = make
        self._age_s = follow
        self._known_age_s = 0.0
        self._key = self._name = ""
        self._number = 0
        self._made: PipeWireMicrophone | None = None  # by the lock, as the next one
        self._silences = 0  # of `mute_now`, which the window has not taken over yet
        self._timer = QTimer(self)
        self._timer.setInterval(_FOLLOW_MS)
        self._timer.timeout.connect(self._follow)
        self._stood.connect(self._hear, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs

    @property
    def in_call(self) -> bool:
        """Whether a program listens to it."""
        return self.standing is not None and self.standing.listened

    def switch(self, on: bool) -> None:
        """Switch it on or off."""
        if on == self.wanted or not self.available:
            return
        self.wanted = on
        self.chosen.emit(on)
        if on:
            self._begin()
        else:
            self._end()
        self.changed.emit()

    def use(self, key: str, name: str) -> None:
        """Hear that microphone; "" is the system's usual one. `name`: for people, or "" where it is not known."""
        if key == self._key and (not name or name == self._name):
            return
        # A name that is learnt later may help to find what was not found.
        again = key != self._key or (self.standing is not None and bool(self.standing.trouble))
        self._key, self._name = key, name
        if self.wanted and again:
            self._end()
            self._begin()

    def mute(self, muted: bool) -> None:
        """Let nothing be heard, or something again; at once."""
        if muted != self.muted:
            self.muted = muted
            self._follow()
            self.changed.emit()

    def mute_now(self) -> None:
        """Let nothing be heard, whatever the GUI thread is at, until `take_over_silence` is called once for each."""
        with self._lock:
            self._silences += 1
            if self._made is not None:
                self._made.follow(self._known_age_s, muted=True)

    def take_over_silence(self) -> None:
        """Have `mute` decide again after a `mute_now`: whoever calls it has heard of that, and has muted."""
        with self._lock:
            self._silences = max(0, self._silences - 1)
        self._follow()

    def close(self) -> bool:
        """Take it away; harmless when called again. Returns whether its thread has ended."""
        self._carry_no_more()
        made = self._end()
        return made is None or made.ended(0.5)

    def _begin(self) -> None:
        self._number += 1
        number = self._number
        made = self._make(self._key, self._name, lambda standing: self._tell(number, standing))
        with self._lock:
            self._made = made
        self._timer.start()
        self._follow()

    def _end(self) -> "PipeWireMicrophone | None":
        self._timer.stop()
        self._number += 1
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.stop()
        self.standing = None
        self.cleared.emit("call microphone")
        return made

    def _follow(self) -> None:
        if self._made is None:
            return
        self._known_age_s = self._age_s() or self._known_age_s  # before and between pictures the last one holds
        with self._lock:
            self._made.follow(self._known_age_s, muted=self.muted or self._silences > 0)

    def _tell(self, number: int, standing: "MicrophoneStanding") -> None:
        self._carry(self._stood, number, standing)

    def _hear(self, number: int, standing: "MicrophoneStanding") -> None:
        if number != self._number or not self.wanted or self._closed:
            return
        before, self.standing = self.standing, standing
        if standing.trouble and (before is None or before.trouble != standing.trouble):
            text = tr(
                "{trouble} A call hears nothing meanwhile; it is tried again.",
                trouble=full_sentence(capital(standing.trouble)),
            )
            self.told.emit(Message("call microphone", text, tone="warning"))
        elif not standing.trouble:
            self.cleared.emit("call microphone")
        self.changed.emit()
