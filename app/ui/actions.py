"""The buttons below the preview: what is done most, and the slate."""

import time

from PyQt6.QtCore import QSize
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QWidget

from app.ui.languages import tr
from app.ui.session import Session
from app.ui.status import calibration_request
from app.ui.widgets import ElidedLabel, button, restyle, set_tip, tint

_LEAST_WORDS_PX = 80
_LIVE_PX = 112
_GAP_PX, _LEAST_GAP_PX = 8, 2


class ActionBar(QWidget):
    """Shows what can be done now. Where its width does not do for words, most buttons show their icons alone.

    Attributes:
        live_button, calibrate_button, record_button, snapshot_button, motion_button, slate_button: from left to right.
        missing: says what is missing before going live, where there is room for it.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.live_button = button(
            tr("Go live"), tip=tr("Show the avatar to the call (G)"), icon_name="live", kind="primary"
        )
        self.calibrate_button = button(tr("Calibrate"), tip=tr("Calibrate (F)"), icon_name="calibrate")
        self.record_button = button(tr("Record"), tip=tr("Record the output (V)"), icon_name="record")
        self.record_button.setCheckable(True)
        self.snapshot_button = button(
            "", tip=tr("Save a picture of the output (P)"), icon_name="snapshot", name=tr("Snapshot")
        )
        self.motion_button = button(
            "",
            tip=tr("Record your motion, without pictures, to play it on any portrait later"),
            icon_name="motion",
            name=tr("Record my motion"),
        )
        self.motion_button.setCheckable(True)
        self.slate_button = button(
            tr("Slate"), tip=tr("Show no face at once (0; from a dialog Ctrl+0)"), icon_name="slate", kind="danger"
        )
        self.slate_button.setCheckable(True)
        self.missing = ElidedLabel()
        self.missing.setAccessibleName(tr("What is missing before going live"))
        self._words: dict[QPushButton, str] = {
            self.live_button: tr("Go live"),
            self.calibrate_button: tr("Calibrate"),
            self.record_button: tr("Record"),
            self.slate_button: tr("Slate"),
        }
        self._buttons = (
            self.live_button,
            self.calibrate_button,
            self.record_button,
            self.snapshot_button,
            self.motion_button,
            self.slate_button,
        )
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(_GAP_PX)
        for made in self._buttons[:-1]:
            self._row.addWidget(made)
        self._row.addWidget(self.missing, 1)
        self._row.addWidget(self.slate_button)

    def show_state(self) -> None:
        """Show what can be done, and why not."""
        session = self._session
        on_air = session.virtual_camera.on_air
        missing, slate = session.chain.missing(), session.settings.live.slate
        can_act = True
        if session.live:
            text, kind, icon_name = tr("Stop"), "live", "stop"
            tip = tr("Leave the slate up; the call keeps its picture (G)")
        elif slate and not on_air:
            text, kind, icon_name = tr("Lift slate"), "primary", "live"
            tip = tr("Show the avatar in the preview again (G)")
        else:
            text, kind, icon_name = tr("Go live"), "primary", "live"
            tip = tr("Not yet: {missing}", missing=missing) if missing else tr("Show the avatar to the call (G)")
            can_act = not missing
        self._words[self.live_button] = text
        self.live_button.setAccessibleName(text)
        set_tip(self.live_button, tip)
        self.live_button.setProperty("icon_name", icon_name)
        restyle(self.live_button, "kind", kind)
        self.live_button.setEnabled(can_act)
        self.missing.setText(
            tr("Missing: {link}", link=session.chain.missing_name()) if missing and not session.live else ""
        )
        set_tip(self.missing, missing)
        request = calibration_request(in_space=session.in_space)
        set_tip(
            self.calibrate_button,
            tr("{request} The best frame of a second or two becomes the reference (F).", request=request),
        )
        self.calibrate_button.setEnabled(session.chain.model.done and session.chain.camera.done)
        self.slate_button.setChecked(slate)
        self.show_recording()
        self.record_button.setEnabled(session.ready)
        self.motion_button.setEnabled(session.ready)

    def show_recording(self) -> None:
        """Show for how long it has been recorded, or that a recording is about to begin."""
        recordings = self._session.recordings
        recording = recordings.path is not None
        seconds = int(time.monotonic() - recordings.began_s)
        begins = tr("Begins…") if recordings.under_way else tr("Record")
        self._words[self.record_button] = f"{seconds // 60}:{seconds % 60:02}" if recording else begins
        self.record_button.setChecked(recordings.under_way)
        self.record_button.setAccessibleName(tr("Stop recording") if recordings.under_way else tr("Record"))
        restyle(self.record_button, "kind", "recording" if recording else "plain")
        recordings.watch()
        of_motion = recordings.motion_path is not None
        self.motion_button.setChecked(of_motion)
        self.motion_button.setAccessibleName(tr("Stop recording my motion") if of_motion else tr("Record my motion"))
        restyle(self.motion_button, "kind", "recording" if of_motion else "plain")
        self._fit()

    def _fit(self) -> None:
        """Write the words where there is room for them; the time of a recording in any case."""
        recording = self._session.recordings.path is not None
        for made, words in self._words.items():
            made.setText(words)
        self.live_button.setMinimumWidth(_LIVE_PX)
        self._row.setSpacing(_GAP_PX)
        if self._needed_px() > self.width():
            self.live_button.setMinimumWidth(0)
            self.calibrate_button.setText("")
            self.record_button.setText(self._words[self.record_button] if recording else "")
        if self._needed_px() > self.width():
            self._row.setSpacing(_LEAST_GAP_PX)
        for made in (self.live_button, self.slate_button, self.record_button):  # in a large font; each has its icon
            if self._needed_px() > self.width():
                made.setText("")
        for made in self._buttons:
            tint(made)
        self.missing.setVisible(self.width() - self._needed_px() >= _LEAST_WORDS_PX)
        self._row.activate()  # or what was widened for a moment stays so until the next event

    def _needed_px(self) -> int:
        """What the buttons take."""
        widths_px = [max(made.minimumWidth(), made.sizeHint().width()) for made in self._buttons]
        return sum(widths_px) + self._row.spacing() * len(self._buttons)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self._row.minimumSize().height())

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self._fit()
