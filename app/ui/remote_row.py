"""Control from outside in the window: the switch, the port, and the token for others."""

from PyQt6.QtGui import QGuiApplication, QIntValidator
from PyQt6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from app.ui.flow import FlowLayout
from app.ui.session import Session
from app.ui.widgets import NAME_PX, Switch, button, label, set_tip

_MOST = 65535


class RemoteRow(QWidget):
    """Shows how control from outside stands, and passes the user's wishes on to it.

    Attributes:
        switch: whether it listens.
        port: where.
        copy_button, renew_button: for the token.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._remote = session.remote
        self.switch = Switch(
            "Control from outside",
            "Let a Stream Deck, OBS or scripts of yours reach slate, portraits and recordings; on this computer alone.",
        )
        self.port = QLineEdit()
        self.port.setValidator(QIntValidator(0, _MOST))
        self.port.setAccessibleName("Port of control from outside")
        set_tip(self.port, "Where other programs ask; Enter keeps it. 0: any port that is free.")
        self._said = label("", "muted", wrap=True)
        self.copy_button = button("Copy the token", tip="What other programs have to show; keep it secret", kind="link")
        self.renew_button = button("New token", tip="Make another token; the old one is of no use then", kind="link")
        name = label("Port")
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
        self.switch.clicked.connect(self._remote.switch)
        self.port.editingFinished.connect(self._port_written)
        self.copy_button.clicked.connect(self._copy)
        self.renew_button.clicked.connect(self._remote.renew_token)
        self._remote.changed.connect(self.refresh)
        self.refresh()

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
            self._said.setText(f"Programs that show the token can control this window on port {remote.port}.")
        else:
            self._said.setText("It is being switched on…" if remote.opening else f"It is off: {remote.failure}.")
        self.copy_button.setEnabled(listens)
        self.renew_button.setEnabled(listens)

    def _port_written(self) -> None:
        self._remote.set_port(int(self.port.text() or self._remote.wanted_port))

    def _copy(self) -> None:
        if (clipboard := QGuiApplication.clipboard()) is not None:
            clipboard.setText(self._remote.token())
