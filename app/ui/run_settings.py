"""What the pipeline is made of: the output's size and rate, the model and where it runs; and where recordings go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PyQt6.QtCore import Qt, QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.places import from_home
from app.ui.flow import FlowLayout
from app.ui.languages import spoken, tr
from app.ui.messages import Message
from app.ui.model_desk import BUNDLED, label_of
from app.ui.run import RunChanges
from app.ui.session import Session
from app.ui.widgets import NAME_PX, Combo, ElidedLabel, Switch, button, label, set_tip
from app.words import card_lines
from mcnet.phrases import phrase

_SIZES = ((640, 360), (640, 480), (960, 540), (1280, 720), (1920, 1080), (720, 1280))
_RATES_HZ = (15.0, 24.0, 25.0, 30.0, 60.0)
_FILE, _FOLDER = "\0file", "\0folder"
"""What stands in the chooser for models that are still to be picked: no path is written like this."""
_Choice = TypeVar("_Choice")
_NOT_NOW = phrase("Switch the virtual camera off first: a call keeps what it began with.")


class RunSettings(QWidget):
    """Shows them, and passes changes on to the session, which makes its pipeline anew.

    Attributes:
        size_choice, rate_choice, model_choice, device_choice: one of each.
        card: what is said of the model in use.
        read_button: opens what there is to read about it.
        folder_button, open_button: other recordings' folder, and a look into this one.
        credentials_switch: whether recordings and snapshots carry Content Credentials.

    Signals:
        model_wanted: the user wants to pick a model's file.
        model_folder_wanted: the user wants to pick a model's folder, or that of a run that learns.
        folder_wanted: the user wants to pick the recordings' folder.
    """

    model_wanted = pyqtSignal()
    model_folder_wanted = pyqtSignal()
    folder_wanted = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.size_choice = Combo(tr("Output size"), tr("Of the picture that calls and recordings get, in pixels."))
        self.rate_choice = Combo(tr("Output rate"), tr("How often calls and recordings get a picture."))
        self.model_choice = Combo(
            tr("Model"), tr("The network that animates the portrait: the bundled one, or a file or folder of yours.")
        )
        self.device_choice = Combo(
            tr("Device"), tr("Where the model runs. Automatic: where it was measured to be fastest.")
        )
        self._tips = {
            combo: combo.accessibleDescription()
            for combo in (self.size_choice, self.rate_choice, self.model_choice, self.device_choice)
        }
        self.card = label("", "muted", wrap=True)
        self.card.setAccessibleName(tr("The model's card"))
        self.read_button = button(tr("Read its card"), tip=tr("Open what is written about this model"), kind="link")
        self._folder = ElidedLabel("text")
        self._folder.setAccessibleName(tr("Folder of recordings"))
        self.folder_button = button(tr("Change…"), tip=tr("Put recordings and snapshots elsewhere"), kind="link")
        self.open_button = button(tr("Open"), tip=tr("Show the folder of recordings and snapshots"), kind="link")
        self.credentials_switch = Switch(
            tr("Content Credentials"),
            tr(
                "Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with "
                "which model; nothing of you. Others can read it, and can remove it."
            ),
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for name, widget in (
            (tr("Size"), self.size_choice),
            (tr("Rate"), self.rate_choice),
            (tr("Model"), self.model_choice),
            (tr("Device"), self.device_choice),
            (tr("Recordings"), self._folder),
        ):
            row = QHBoxLayout()
            row.setSpacing(6)
            name_label = label(name)
            name_label.setMinimumWidth(NAME_PX)
            row.addWidget(name_label)
            row.addWidget(widget, 1)
            column.addLayout(row)
            if widget is self.model_choice:
                column.addWidget(self.card)
                column.addWidget(self.read_button, 0, Qt.AlignmentFlag.AlignLeft)
        buttons = FlowLayout()
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.folder_button)
        column.addLayout(buttons)
        column.addWidget(self.credentials_switch)
        self.size_choice.activated.connect(self._size_chosen)
        self.rate_choice.activated.connect(
            lambda row: self._set(RunChanges(fps_hz=float(self.rate_choice.itemData(row))))
        )
        self.model_choice.activated.connect(self._model_chosen)
        self.device_choice.activated.connect(
            lambda row: self._set(RunChanges(device=str(self.device_choice.itemData(row))))
        )
        self.credentials_switch.clicked.connect(session.set_content_credentials)
        self.folder_button.clicked.connect(self.folder_wanted)
        self.open_button.clicked.connect(self._open_folder)
        self.read_button.clicked.connect(self._read_card)
        session.changed.connect(self.refresh)
        self.refresh()

    def set_model(self, path: Path | str) -> None:
        """Use a model's file or folder, unless something speaks against it."""
        self._session.choose_model(str(path))
        self.refresh()

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
        _fill(
            self.rate_choice,
            [(tr("{rate_hz:g} per second", rate_hz=rate), rate) for rate in _with(_RATES_HZ, used.output_fps_hz)],
        )
        self.rate_choice.setCurrentIndex(self.rate_choice.findData(used.output_fps_hz))
        known_models = dict.fromkeys((*BUNDLED, used.model, *session.settings.recent_models))
        models = [(label_of(model), model) for model in known_models]
        _fill(self.model_choice, [*models, (tr("Another file…"), _FILE), (tr("A folder…"), _FOLDER)])
        self.model_choice.setCurrentIndex(self.model_choice.findData(used.model))
        self._show_card(used.model)
        known = {"auto": tr("Automatic"), "cpu": tr("Processor")} | dict(session.devices)
        if used.device == "auto" and session.device:
            known["auto"] = tr("Automatic: {device}", device=session.device)
        known.setdefault(used.device, used.device)
        _fill(self.device_choice, [(name, device) for device, name in known.items()])
        self.device_choice.setCurrentIndex(self.device_choice.findData(used.device))
        for combo in self._tips:
            may, tip = session.can_change_run, _NOT_NOW if session.virtual_camera.wanted else self._tips[combo]
            if combo is self.model_choice:
                may, tip = session.can_change_model and not session.models.looking, self._tips[combo]
            combo.setEnabled(may)
            set_tip(combo, tip)
        self.credentials_switch.setChecked(session.settings.content_credentials)
        folder = from_home(session.recordings_folder)
        if folder != self._folder.text():
            self._folder.setText(folder)

    def _show_card(self, model: str) -> None:
        models, measured = self._session.models, self._session.measuring.measured
        if models.card_of != model:
            text, readable = tr("Its card is being read…"), False
        else:
            frame_ms = models.frame_ms(model) if measured is None else measured.tier.best.frame_ms
            lines = card_lines(models.card, frame_ms)
            text, readable = "\n".join(map(spoken, lines)), models.card is not None and models.card.readme is not None
        if text != self.card.text():
            self.card.setText(text)
        self.read_button.setVisible(readable)

    def _read_card(self) -> None:
        card = self._session.models.card
        if card is not None and card.readme is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(card.readme)))

    def _set(self, changes: RunChanges) -> None:
        self._session.set_run(changes)
        self.refresh()

    def _size_chosen(self, row: int) -> None:
        width, height = str(self.size_choice.itemData(row)).split("x")
        self._set(RunChanges(size_px=(int(width), int(height))))

    def _model_chosen(self, row: int) -> None:
        model = str(self.model_choice.itemData(row))
        if model in (_FILE, _FOLDER):
            self.refresh()  # nothing is changed before one is picked
            (self.model_wanted if model == _FILE else self.model_folder_wanted).emit()
        else:
            self.set_model(model)

    def _open_folder(self) -> None:
        def show(folder: Path, there: bool | None) -> None:
            if there:
                QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
            elif there is not None:
                text = tr(
                    "There is no folder {folder} to open yet: it is made with the first recording or snapshot.",
                    folder=folder,
                )
                self._session.told.emit(Message("recording", text, tone="info"))

        self._session.where_recordings_are(show)


def _with(choices: Sequence[_Choice], used: _Choice) -> list[_Choice]:
    """The usual choices, and what is in force if it is none of them."""
    return [*choices] if used in choices else [*choices, used]


def _fill(combo: Combo, choices: Sequence[tuple[str, object]]) -> None:
    """Offer these choices, if they are not offered already."""
    if [(combo.itemText(row), combo.itemData(row)) for row in range(combo.count())] != [*choices]:
        combo.clear()
        for name, value in choices:
            combo.addItem(name, value)
