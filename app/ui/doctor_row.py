"""The virtual camera: its switch, how it stands, and one fix at a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QGuiApplication, QResizeEvent, QTextOption
from PyQt6.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from app.ui.flow import FlowLayout
from app.ui.languages import full_sentence, spoken, tr
from app.ui.theme import Tone
from app.ui.widgets import Segmented, Switch, button, label, restyle
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.doctor import Fix, VirtualCameraReport
    from app.settings import VirtualCameraKind

_WHO_SEES = {
    "driver": "",
    "pipewire": phrase(
        "Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not."
    ),
}


class DoctorRow(QWidget):
    """Shows the doctor's report.

    Attributes:
        switch: the virtual camera, on or off.
        kind: which kind of it; shown where there is a choice.
        again_button: has the doctor look again.
        copy_button: copies the command of the fix.
        next_button: shows the step after it.

    Signals:
        switched: the user wants it on or off.
        kind_chosen: the user wants another kind.
        again_wanted: the user wants another look.
    """

    switched = pyqtSignal(bool)
    kind_chosen = pyqtSignal(str)
    again_wanted = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch(
            tr("Virtual camera"),
            tr("Give the output to call programs as a camera. It starts with the slate; then go live."),
        )
        self.kind = Segmented(
            tr("Kind of virtual camera"),
            (
                (
                    "driver",
                    "v4l2loopback",
                    tr("A device that every call program lists. It needs a kernel module, and root once."),
                ),
                (
                    "pipewire",
                    "PipeWire",
                    tr("No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it."),
                ),
            ),
        )
        self._who_sees = label("", "muted", wrap=True)
        self._state = label("", wrap=True)
        self._fixes: tuple[Fix, ...] = ()
        self._step = 0
        self._fix = label("", "muted", wrap=True)
        self._fix.setAccessibleName(tr("What to do"))
        self._command = QPlainTextEdit()
        self._command.setReadOnly(True)
        self._command.setTabChangesFocus(True)
        self._command.setAccessibleName(tr("Command"))
        self._command.setProperty("role", "code")
        self._command.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)
        self._command.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.copy_button = button(tr("Copy"), tip=tr("Copy this command"), icon_name="copy")
        self.again_button = button(
            tr("Recheck"), tip=tr("Look again for a virtual camera"), icon_name="refresh", kind="flat"
        )
        self.next_button = button("", tip=tr("Show the next step"), kind="link", name=tr("Next step"))
        buttons = FlowLayout(spacing_px=6)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.again_button)
        buttons.addWidget(self.next_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.switch)
        column.addWidget(self.kind)
        column.addWidget(self._who_sees)
        column.addWidget(self._state)
        column.addWidget(self._fix)
        column.addWidget(self._command)
        column.addLayout(buttons)
        self.switch.clicked.connect(self.switched)
        self.kind.chosen.connect(self.kind_chosen)
        self.again_button.clicked.connect(self.again_wanted)
        self.copy_button.clicked.connect(self._copy)
        self.next_button.clicked.connect(self._next)

    @property
    def text(self) -> str:
        """How it stands, in words."""
        return self._state.text()

    @property
    def fix(self) -> str:
        """What to do, or ""."""
        return self._fix.text()

    @property
    def command(self) -> str:
        """The command that does it, or ""."""
        return self._command.toPlainText()

    def show_kind(self, kind: "VirtualCameraKind", kinds: "Sequence[VirtualCameraKind]", *, may_change: bool) -> None:
        """Show which kind it is, and who sees it."""
        self.kind.setVisible(len(kinds) > 1)
        self.kind.setEnabled(may_change)
        self.kind.set_choice(kind)
        self._who_sees.setText(spoken(_WHO_SEES[kind]))
        self._who_sees.setVisible(bool(_WHO_SEES[kind]))

    def show_report(self, report: "VirtualCameraReport | None", *, on: bool, opening: bool, device: str) -> None:
        """Show how it stands.

        Args:
            report: the doctor's; None while it looks.
            on: whether the virtual camera takes pictures.
            opening: whether it was switched on and has not answered yet.
            device: that takes them, or "".
        """
        self.switch.setChecked(on or opening)
        fixes: tuple[Fix, ...] = ()
        tone: Tone = "quiet"
        if on:
            text, tone = tr("On: {device}. Choose it in your call program.", device=device), "live"
        elif opening:
            text, tone = tr("Opening…"), "info"
        elif report is None:
            text = tr("Looking for one…")
        else:
            text, fixes = report.sentence, report.fixes
            tone = "warning" if fixes else "quiet"
        self.switch.setEnabled(on or opening or (report is not None and report.status == "ready"))
        self._state.setText(spoken(text))
        restyle(self._state, "tone", tone)
        if fixes != self._fixes:
            self._fixes, self._step = fixes, 0
        self._show_fix()
        self.again_button.setVisible(not on and not opening)
        self.again_button.setEnabled(report is not None)

    def _show_fix(self) -> None:
        fix = self._fixes[self._step] if self._fixes else None
        self._fix.setText("" if fix is None else full_sentence(fix.text))
        self._fix.setVisible(fix is not None)
        command = "" if fix is None else fix.command
        if command != self.command:
            self._command.setPlainText(command)
        self._command.setVisible(bool(command))
        self.copy_button.setVisible(bool(command))
        self.next_button.setVisible(len(self._fixes) > 1)
        self.next_button.setText(tr("Step {step} of {steps}", step=self._step + 1, steps=len(self._fixes)))
        self._fit_command()

    def _fit_command(self) -> None:
        """Make the command's box as high as its text."""
        document = self._command.document()
        if document is not None:
            lines = round(document.size().height())
            self._command.setFixedHeight(lines * self._command.fontMetrics().lineSpacing() + 18)

    def _next(self) -> None:
        self._step = (self._step + 1) % len(self._fixes)
        self._show_fix()

    def _copy(self) -> None:
        if (clipboard := QGuiApplication.clipboard()) is not None:
            clipboard.setText(self.command)

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self._fit_command()
