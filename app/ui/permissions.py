"""macOS asks the user before a program may see or hear them, and wants to be asked on the main thread."""

import sys
from collections.abc import Callable

from PyQt6.QtCore import QCameraPermission, QCoreApplication, QMicrophonePermission, Qt

_SYSTEM: str = sys.platform


def when_camera_is_allowed(then: Callable[[], None], forbidden: Callable[[], None]) -> None:
    """Call one of the two, at once or after the user has answered the system's question."""
    _when_allowed(QCameraPermission(), then, forbidden)


def when_microphone_is_allowed(then: Callable[[], None], forbidden: Callable[[], None]) -> None:
    """Likewise for the microphone."""
    _when_allowed(QMicrophonePermission(), then, forbidden)


def _when_allowed(
    wanted: QCameraPermission | QMicrophonePermission, then: Callable[[], None], forbidden: Callable[[], None]
) -> None:
    app = _application()
    if _SYSTEM != "darwin" or app is None:
        then()
        return

    def act() -> None:
        (then if app.checkPermission(wanted) is Qt.PermissionStatus.Granted else forbidden)()

    if app.checkPermission(wanted) is Qt.PermissionStatus.Undetermined:
        app.requestPermission(wanted, lambda _: act())
    else:
        act()


def _application() -> QCoreApplication | None:
    return QCoreApplication.instance()
