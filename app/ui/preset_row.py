"""The presets in the window: which one is in force, and what can be done with them."""

from collections.abc import Callable

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QHBoxLayout, QInputDialog, QLabel, QVBoxLayout, QWidget

from app.presets import STANDARD
from app.ui.flow import FlowLayout
from app.ui.languages import tr
from app.ui.session import Session
from app.ui.widgets import NAME_PX, Combo, button, label


class PresetRow(QWidget):
    """Shows the presets, and passes the user's wishes on to their desk.

    Attributes:
        choice: which is in force; nothing is chosen while the strengths are nobody's.
        save_button, rename_button, delete_button: what can be done with the strengths in force, and with their preset.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self._desk = session, session.presets
        self.choice = Combo(
            tr("Preset"),
            tr("Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own."),
        )
        self.choice.setPlaceholderText(tr("This portrait's own"))
        self.save_button = button(tr("Save as…"), tip=tr("Keep these strengths under a name"), kind="link")
        self.rename_button = button(tr("Rename…"), tip=tr("Call this preset something else"), kind="link")
        self.delete_button = button(
            tr("Delete"),
            tip=tr("Delete this preset; the portraits keep their strengths"),
            kind="link",
            name=tr("Delete preset"),
        )
        row = QHBoxLayout()
        row.setSpacing(6)
        name = label(tr("Preset"))
        name.setMinimumWidth(NAME_PX)
        row.addWidget(name)
        row.addWidget(self.choice, 1)
        buttons = FlowLayout()
        for made in (self.save_button, self.rename_button, self.delete_button):
            buttons.addWidget(made)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addLayout(buttons)
        self.choice.activated.connect(lambda row: self._desk.apply(str(self.choice.itemData(row))))
        self.save_button.clicked.connect(lambda: self._ask_to_save(self._own()))
        self.rename_button.clicked.connect(lambda: self._ask_to_rename(self._own(), self._own()))
        self.delete_button.clicked.connect(lambda: self._desk.delete(self._own()))
        self._desk.changed.connect(self.refresh)
        session.live_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what there is, and what is in force."""
        names = self._desk.names
        if tuple(self.choice.itemData(row) for row in range(self.choice.count())) != names:
            self.choice.clear()
            for name in names:
                self.choice.addItem(tr("Standard") if name == STANDARD else name, name)
        self.choice.setCurrentIndex(self.choice.findData(self._desk.current))
        self.choice.setEnabled(self._session.settings.live.relative)
        for made in (self.rename_button, self.delete_button):
            made.setVisible(bool(self._own()))

    def _own(self) -> str:
        """The user's preset that is in force, or ""."""
        current = self._desk.current
        return "" if current == STANDARD else current

    def _ask_to_save(self, name: str) -> None:
        def save(text: str) -> None:
            if not self._desk.save(text):
                self._ask_to_save(text)

        self._ask(tr("Save a preset"), tr("Name of these strengths:"), name, tr("Save"), save)

    def _ask_to_rename(self, preset: str, name: str) -> None:
        def rename(text: str) -> None:
            if not self._desk.rename(preset, text):
                self._ask_to_rename(preset, text)

        self._ask(tr("Rename a preset"), tr("Another name for {preset}:", preset=preset), name, tr("Rename"), rename)

    def _ask(self, title: str, text: str, name: str, action: str, then: Callable[[str], None]) -> None:
        """Let the user give a name; neither modal, so that Ctrl+0 reaches the slate, nor lost if it cannot be used."""
        dialog = QInputDialog(self.window())
        dialog.setWindowTitle(title)
        dialog.setLabelText(text.replace("&", "&&"))  # no key of the field's, nor markup, though names may look so
        for shown in dialog.findChildren(QLabel):
            shown.setTextFormat(Qt.TextFormat.PlainText)
        dialog.setTextValue(name)
        dialog.setOkButtonText(action)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.textValueSelected.connect(then)
        dialog.show()
