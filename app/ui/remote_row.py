"""Control from outside in the window: the switch, the port, the token for others, and the key for the slate."""

from PyQt6.QtGui import QGuiApplication, QIntValidator, QKeySequence
from PyQt6.QtWidgets import QHBoxLayout, QKeySequenceEdit, QLineEdit, QVBoxLayout, QWidget

from app.ui.flow import FlowLayout
from app.ui.languages import tr
from app.ui.session import Session
from app.ui.widgets import NAME_PX, Switch, button, label, set_tip

_MOST = 65535


class RemoteRow(QWidget):
    """Shows how control from outside stands, and passes the user's wishes on to it.

    Attributes:
        switch: whether it listens.
        port: where.
        copy_button, renew_button: for the token.
        key: for the slate, from every window.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._remote = session.remote
        self._panic_key = session.panic_key
        self.switch = Switch(
            tr("Control from outside"),
            tr("Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone."),
        )
        self.port = QLineEdit()
        self.port.setValidator(QIntValidator(0, _MOST))
        self.port.setAccessibleName(tr("Port of control from outside"))
        set_tip(self.port, tr("Where other programs ask; Enter keeps it. 0: any port that is free."))
        self._said = label("", "muted", wrap=True)
        self.copy_button = button(
            tr("Copy the token"), tip=tr("What other programs have to show; keep it secret"), kind="link"
        )
        self.renew_button = button(
            tr("New token"), tip=tr("Make another token; the old one is of no use then"), kind="link"
        )
        name = label(tr("Port"))
        name.setMinimumWidth(NAME_PX)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(name)
        row.addWidget(self.port, 1)
        buttons = FlowLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.renew_button)
        self._more = QWidget()
        more = QVBoxLayout(self._more)
        more.setContentsMargins(0, 0, 0, 0)
        more.setSpacing(8)
        more.addLayout(row)
        more.addWidget(self._said)
        more.addLayout(buttons)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.switch)
        column.addWidget(self._more)
        column.addLayout(self._make_key())
        column.addWidget(self._key_said)
        self.switch.clicked.connect(self._remote.switch)
        self.port.editingFinished.connect(self._port_written)
        self.copy_button.clicked.connect(self._copy)
        self.renew_button.clicked.connect(self._remote.renew_token)
        self.key.editingFinished.connect(self._key_written)
        self._remote.changed.connect(self.refresh)
        self._panic_key.changed.connect(self.refresh)
        self.refresh()

    def _make_key(self) -> QHBoxLayout:
        self.key = QKeySequenceEdit()
        self.key.setMaximumSequenceLength(1)
        self.key.setClearButtonEnabled(True)
        self.key.setAccessibleName(tr("Key for the slate, from every window"))
        set_tip(
            self.key,
            tr("Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0."),
        )
        self._key_said = label("", "muted", wrap=True)
        name = label(tr("Slate key"))
        name.setMinimumWidth(NAME_PX)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(name)
        row.addWidget(self.key, 1)
        return row

    @property
    def key_said(self) -> str:
        """What is said of the key."""
        return self._key_said.text()

    @property
    def said(self) -> str:
        """What is said of it."""
        return self._said.text()

    def refresh(self) -> None:
        """Show how it stands."""
        remote = self._remote
        self.switch.setChecked(remote.wanted)
        self._more.setVisible(remote.wanted)
        if not self.port.hasFocus():  # what is being written stays
            self.port.setText(str(remote.wanted_port))
        listens = remote.port != 0
        if listens:
            text = tr("Programs that show the token can control this window on port {port}.", port=str(remote.port))
        elif remote.opening:
            text = tr("It is being switched on…")
        else:
            text = tr("It is off: {why}.", why=remote.failure)
        self._said.setText(text)
        self.copy_button.setEnabled(listens)
        self.renew_button.setEnabled(listens)
        self._refresh_key()

    def _refresh_key(self) -> None:
        panic = self._panic_key
        if not self.key.hasFocus():
            self.key.setKeySequence(QKeySequence(panic.key))
        if not panic.key:
            text = tr("In this window 0 shows the slate; a key chosen here does so from every other one, too.")
        elif panic.heard:
            text = tr("{key} shows the slate, whichever window has the focus.", key=panic.text)
        elif panic.text:
            text = tr("The key is not heard: {why}.", why=panic.text)
        else:
            text = tr("The system is asked for the key…")
        self._key_said.setText(text)

    def _key_written(self) -> None:
        self._panic_key.choose(self.key.keySequence().toString(QKeySequence.SequenceFormat.PortableText))
        self.key.clearFocus()

    def _port_written(self) -> None:
        self._remote.set_port(int(self.port.text() or self._remote.wanted_port))

    def _copy(self) -> None:
        if (clipboard := QGuiApplication.clipboard()) is not None:
            clipboard.setText(self._remote.token())
