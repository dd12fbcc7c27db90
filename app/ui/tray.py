"""The icon in the system's tray, where there is one."""

from collections.abc import Callable

from PyQt6.QtCore import QObject
from PyQt6.QtGui import QAction
from PyQt6.QtWidgets import QMenu, QSystemTrayIcon

from app.ui.languages import tr
from app.ui.main_window import MainWindow
from app.ui.theme import app_icon


class Tray(QObject):
    """Start, stop and slate without looking for the window.

    Attributes:
        live, slate, show_window, quit: the menu's lines.
    """

    def __init__(self, window: MainWindow) -> None:
        super().__init__()
        self._window = window
        self._menu = QMenu()
        self.live = self._add(tr("Go live"), window.toggle_live)
        self.slate = self._add(tr("Slate"), window.session.slate)
        self._menu.addSeparator()
        self.show_window = self._add(tr("Show window"), window.come_to_front)
        self.quit = self._add(tr("Quit"), window.close)
        self._icon = QSystemTrayIcon(app_icon())
        self._icon.setContextMenu(self._menu)
        self._icon.activated.connect(self._activated)
        window.session.changed.connect(self._refresh)
        self._refresh()
        self._icon.show()

    def close(self) -> None:
        """Take the icon away; harmless when called again."""
        self._icon.hide()
        self._menu.close()

    def _add(self, text: str, act: Callable[[], object]) -> QAction:
        action = QAction(text, self)
        action.triggered.connect(lambda: act())
        self._menu.addAction(action)
        return action

    def _refresh(self) -> None:
        session = self._window.session
        self.live.setText(tr("Stop") if session.live else tr("Go live"))
        self.live.setEnabled(session.live or not session.chain.missing())
        self._icon.setToolTip(f"mcnet-avatar: {self._window.preview.words.state.lower()}")

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason is QSystemTrayIcon.ActivationReason.Trigger:
            self._window.come_to_front()


def make_tray(window: MainWindow) -> Tray | None:
    """The tray icon, or None on a desktop without a tray."""
    return Tray(window) if QSystemTrayIcon.isSystemTrayAvailable() else None
