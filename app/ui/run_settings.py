"""What the pipeline is made of: the output's size and rate, the model and where it runs; and where recordings go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PyQt6.QtCore import QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.ui.flow import FlowLayout
from app.ui.session import RunChanges, Session
from app.ui.widgets import NAME_PX, Combo, ElidedLabel, button, label

_SIZES = ((640, 360), (640, 480), (960, 540), (1280, 720), (1920, 1080), (720, 1280))
_RATES_HZ = (15.0, 24.0, 25.0, 30.0, 60.0)
_BUNDLED = "starter"
_OTHER = "another"
_Choice = TypeVar("_Choice")
_NOT_NOW = "Switch the virtual camera off first: a call keeps what it began with."


class RunSettings(QWidget):
    """Shows them, and passes changes on to the session, which makes its pipeline anew.

    Attributes:
        size_choice, rate_choice, model_choice, device_choice: one of each.
        folder_button, open_button: other recordings' folder, and a look into this one.

    Signals:
        model_wanted: the user wants to pick a model's file.
        folder_wanted: the user wants to pick the recordings' folder.
    """

    model_wanted = pyqtSignal()
    folder_wanted = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.size_choice = Combo("Output size", "Of the picture that calls and recordings get, in pixels.")
        self.rate_choice = Combo("Output rate", "How often calls and recordings get a picture.")
        self.model_choice = Combo(
            "Model", "The network that animates the portrait: the bundled one, or a file of yours."
        )
        self.device_choice = Combo("Device", "Where the model runs. Automatic: where it was measured to be fastest.")
        self._tips = {
            combo: combo.toolTip()
            for combo in (self.size_choice, self.rate_choice, self.model_choice, self.device_choice)
        }
        self._folder = ElidedLabel("text")
        self._folder.setAccessibleName("Folder of recordings")
        self.folder_button = button("Change…", tip="Put recordings and snapshots elsewhere", kind="link")
        self.open_button = button("Open", tip="Show the folder of recordings and snapshots", kind="link")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for name, widget in (
            ("Size", self.size_choice),
            ("Rate", self.rate_choice),
            ("Model", self.model_choice),
            ("Device", self.device_choice),
            ("Recordings", self._folder),
        ):
            row = QHBoxLayout()
            row.setSpacing(6)
            name_label = label(name)
            name_label.setMinimumWidth(NAME_PX)
            row.addWidget(name_label)
            row.addWidget(widget, 1)
            column.addLayout(row)
        buttons = FlowLayout()
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.folder_button)
        column.addLayout(buttons)
        self.size_choice.activated.connect(self._size_chosen)
        self.rate_choice.activated.connect(
            lambda row: self._set(RunChanges(fps_hz=float(self.rate_choice.itemData(row))))
        )
        self.model_choice.activated.connect(self._model_chosen)
        self.device_choice.activated.connect(
            lambda row: self._set(RunChanges(device=str(self.device_choice.itemData(row))))
        )
        self.folder_button.clicked.connect(self.folder_wanted)
        self.open_button.clicked.connect(self._open_folder)
        session.changed.connect(self.refresh)
        self.refresh()

    def set_model(self, path: Path) -> None:
        """Use a model's file."""
        self._set(RunChanges(model=str(path)))

    def set_folder(self, path: Path) -> None:
        """Put recordings there from now on."""
        self._session.set_recordings_folder(path)
        self.refresh()

    def refresh(self) -> None:
        """Show what is in force."""
        session = self._session
        used = session.run_settings
        size = (used.output_width_px, used.output_height_px)
        _fill(self.size_choice, [(f"{width} x {height}", f"{width}x{height}") for width, height in _with(_SIZES, size)])
        self.size_choice.setCurrentIndex(self.size_choice.findData(f"{size[0]}x{size[1]}"))
        _fill(self.rate_choice, [(f"{rate:g} per second", rate) for rate in _with(_RATES_HZ, used.output_fps_hz)])
        self.rate_choice.setCurrentIndex(self.rate_choice.findData(used.output_fps_hz))
        models = [(Path(model).stem, model) for model in _with((_BUNDLED,), used.model)]
        _fill(self.model_choice, [*models, ("Another file…", _OTHER)])
        self.model_choice.setCurrentIndex(self.model_choice.findData(used.model))
        known = {"auto": "Automatic", "cpu": "Processor"} | dict(session.devices)
        if used.device == "auto" and session.device:
            known["auto"] = f"Automatic: {session.device}"
        known.setdefault(used.device, used.device)
        _fill(self.device_choice, [(name, device) for device, name in known.items()])
        self.device_choice.setCurrentIndex(self.device_choice.findData(used.device))
        for combo in self._tips:
            combo.setEnabled(session.can_change_run)
            combo.setToolTip(_NOT_NOW if session.virtual_camera.wanted else self._tips[combo])
        folder = str(session.recordings_folder)
        if folder != self._folder.text():
            self._folder.setText(folder)

    def _set(self, changes: RunChanges) -> None:
        self._session.set_run(changes)
        self.refresh()

    def _size_chosen(self, row: int) -> None:
        width, height = str(self.size_choice.itemData(row)).split("x")
        self._set(RunChanges(size_px=(int(width), int(height))))

    def _model_chosen(self, row: int) -> None:
        model = str(self.model_choice.itemData(row))
        if model == _OTHER:
            self.refresh()  # nothing is changed before a file is picked
            self.model_wanted.emit()
        else:
            self._set(RunChanges(model=model))

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._session.recordings_folder)))


def _with(choices: Sequence[_Choice], used: _Choice) -> list[_Choice]:
    """The usual choices, and what is in force if it is none of them."""
    return [*choices] if used in choices else [*choices, used]


def _fill(combo: Combo, choices: Sequence[tuple[str, object]]) -> None:
    """Offer these choices, if they are not offered already."""
    if [(combo.itemText(row), combo.itemData(row)) for row in range(combo.count())] != [*choices]:
        combo.clear()
        for name, value in choices:
            combo.addItem(name, value)
