"""The microphone in the window: whether recordings have its sound, which it is, and how loud it is now."""

import math
from collections.abc import Callable

from PyQt6.QtCore import QRectF, QSize, Qt, QTimer
from PyQt6.QtGui import QColor, QHideEvent, QPainter, QPaintEvent, QShowEvent
from PyQt6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from app.pipeline.output.pipewire_worker import MICROPHONE_NAME
from app.ui.languages import clause, spoken, tr
from app.ui.session import Session
from app.ui.theme import theme_in_use
from app.ui.widgets import NAME_PX, Combo, Switch, button, label, set_tip
from mcnet.phrases import phrase

_EVERY_MS = 50
_QUIETEST_DB = -60.0
_LOUD_DB = -6.0
_FALL_DB = 1.5  # per look, so that the eye can follow
_USUAL = phrase("The system's usual one")


class SoundRow(QWidget):
    """Shows the microphone, and passes the user's wishes on to it.

    Attributes:
        switch: whether recordings have sound.
        choice: which microphone.
        refresh_button: look again for microphones.
        meter: how loud it is.
        call_switch: whether calls are offered it as late as the picture; shown where they can be.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._microphone = session.microphone
        self.switch = Switch(
            tr("Record my microphone"),
            tr("New recordings have your voice, in step with the picture. Switched off, the microphone is closed."),
        )
        self.choice = Combo(
            tr("Microphone"), tr("Whose sound recordings have, and calls that take the microphone for calls.")
        )
        self.refresh_button = button(
            "", tip=tr("Look again for microphones"), icon_name="refresh", name=tr("Refresh microphones")
        )
        self.meter = LevelMeter(self._microphone.feed.take_peak)
        self._said = label("", "muted", wrap=True)
        self._call = session.call_microphone
        self.call_switch = Switch(
            tr("Microphone for calls, in step"),
            tr(
                "Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is "
                "heard only while a program listens, and silent while you show the slate."
            ),
        )
        self.call_switch.setVisible(self._call.available)
        self._call_said = label("", "muted", wrap=True)
        self._more, self._loudness = QWidget(), QWidget()
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.choice, 1)
        row.addWidget(self.refresh_button)
        level = QHBoxLayout(self._loudness)
        level.setContentsMargins(0, 0, 0, 0)
        level.setSpacing(6)
        name = label(tr("Level"))
        name.setMinimumWidth(NAME_PX)
        level.addWidget(name)
        level.addWidget(self.meter, 1)
        more = QVBoxLayout(self._more)
        more.setContentsMargins(0, 0, 0, 0)
        more.setSpacing(8)
        more.addLayout(row)
        more.addWidget(self._loudness)
        more.addWidget(self._said)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.switch)
        column.addWidget(self.call_switch)
        column.addWidget(self._call_said)
        column.addWidget(self._more)
        self.switch.clicked.connect(self._microphone.switch)
        self.call_switch.clicked.connect(self._switch_call)
        self._call.changed.connect(self.refresh)
        self.choice.activated.connect(lambda row: self._microphone.choose(str(self.choice.itemData(row))))
        self.refresh_button.clicked.connect(self._microphone.refresh)
        self._microphone.changed.connect(self.refresh)
        self.refresh()

    @property
    def said(self) -> str:
        """What is said of the microphone."""
        return self._said.text()

    @property
    def call_said(self) -> str:
        """What is said of the microphone for calls."""
        return self._call_said.text()

    def _switch_call(self, on: bool) -> None:
        self._call.switch(on)
        if on:
            self._microphone.refresh()

    def refresh(self) -> None:
        """Show how the microphone stands, for recordings and for calls."""
        microphone = self._microphone
        self.switch.setChecked(microphone.wanted)
        self.call_switch.setChecked(self._call.wanted)
        self._more.setVisible(microphone.wanted or self._call.wanted)
        self._loudness.setVisible(microphone.wanted)
        self._said.setVisible(microphone.wanted)
        self._call_said.setVisible(self._call.wanted)
        self._call_said.setText(self._call_words())
        choices = [(spoken(_USUAL), ""), *((name, key) for key, name in microphone.microphones or ())]
        if microphone.key and microphone.key not in [key for _, key in choices]:
            choices.append((tr("The one chosen before"), microphone.key))
        if choices != [(self.choice.itemText(row), self.choice.itemData(row)) for row in range(self.choice.count())]:
            self.choice.clear()
            for name, key in choices:
                self.choice.addItem(name, key)
        self.choice.setCurrentIndex(self.choice.findData(microphone.key))
        if microphone.trouble:
            self._said.setText(tr("Nothing is heard: {trouble}.", trouble=clause(microphone.trouble)))
        else:
            self._said.setText(
                tr("Heard: {name}", name=microphone.name) if microphone.name else tr("The microphone is being opened…")
            )

    def _call_words(self) -> str:
        standing = self._call.standing
        if standing is not None and standing.trouble:
            return tr("A call hears nothing: {trouble}.", trouble=clause(standing.trouble))
        if standing is None or not standing.there:
            return tr("The microphone for calls is being made…")
        if not standing.listened:
            return tr("Choose “{name}” in your call program. Nobody listens to it yet.", name=MICROPHONE_NAME)
        if self._call.muted:
            return tr("Silent while you show the slate.")
        return tr("A call hears you {delay_ms:.0f} ms late, with the picture.", delay_ms=1000 * standing.delay_s)


class LevelMeter(QWidget):
    """A bar that is as long as the sound is loud, from -60 dB to full scale; it looks while it is shown."""

    def __init__(self, take_peak: Callable[[], float]) -> None:
        super().__init__()
        self._take_peak = take_peak
        self._level_db = _QUIETEST_DB
        self.setAccessibleName(tr("Level of the microphone"))
        set_tip(self, tr("Speak as you will in the recording: the bar should reach the middle, and not turn red."))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._timer = QTimer(self)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self._look)

    @property
    def level_db(self) -> float:
        """What is shown, in decibels below full scale."""
        return self._level_db

    def _look(self) -> None:
        peak = self._take_peak()
        heard_db = 20 * math.log10(peak) if peak > 0 else _QUIETEST_DB
        level_db = min(0.0, max(heard_db, self._level_db - _FALL_DB, _QUIETEST_DB))
        if level_db != self._level_db:
            self._level_db = level_db
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, max(14, self.fontMetrics().height() - 4))

    def minimumSizeHint(self) -> QSize:
        return QSize(60, self.sizeHint().height())

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        theme = theme_in_use()
        height = 8.0
        whole = QRectF(0, (self.height() - height) / 2, self.width(), height)
        painter.setBrush(QColor(theme.line))
        painter.drawRoundedRect(whole, height / 2, height / 2)
        share = 1 - self._level_db / _QUIETEST_DB
        if share > 0:
            painter.setBrush(QColor(theme.error if self._level_db > _LOUD_DB else theme.accent))
            bar = QRectF(whole)
            bar.setWidth(max(height, share * whole.width()))
            painter.drawRoundedRect(bar, height / 2, height / 2)

    def showEvent(self, a0: QShowEvent | None) -> None:
        super().showEvent(a0)
        self._timer.start()

    def hideEvent(self, a0: QHideEvent | None) -> None:
        super().hideEvent(a0)
        self._timer.stop()
        self._level_db = _QUIETEST_DB
