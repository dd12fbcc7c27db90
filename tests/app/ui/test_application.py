"""The entry point, in a process of its own where that matters."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QCameraPermission, Qt
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.errors import AppError
from app.settings import AppSettings
from app.ui import permissions
from app.ui.application import check_display, open_window, run_window
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    return monkeypatch


def test_no_display_is_said_clearly(no_display: pytest.MonkeyPatch) -> None:
    del no_display
    with pytest.raises(AppError, match="no display to open a window on"):
        check_display()


def test_a_display_that_does_not_answer(no_display: pytest.MonkeyPatch) -> None:
    no_display.setenv("DISPLAY", ":4711")
    with pytest.raises(AppError, match=r"the display :4711 does not answer|a library is missing"):
        check_display()


def test_a_missing_library_is_named(no_display: pytest.MonkeyPatch) -> None:
    no_display.setenv("DISPLAY", ":0")

    def fail(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    no_display.setattr("ctypes.CDLL", fail)
    with pytest.raises(AppError, match=r"libxcb-cursor.so.0.*apt-get install libxcb-cursor0"):
        check_display()


def test_a_qt_that_cannot_be_loaded_is_said_clearly(monkeypatch: pytest.MonkeyPatch, options: WindowOptions) -> None:
    def fail(name: str) -> None:
        if name == "PyQt6.QtGui":
            raise ImportError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("app.ui.application.import_module", fail)
    with pytest.raises(AppError, match=r"PyQt6.QtGui: libEGL.so.1: cannot open.*apt-get install libegl1 libgl1"):
        run_window(options)


@pytest.mark.parametrize(("name", "value"), [("QT_QPA_PLATFORM", "offscreen"), ("WAYLAND_DISPLAY", "wayland-0")])
def test_other_platforms_are_left_to_qt(no_display: pytest.MonkeyPatch, name: str, value: str) -> None:
    no_display.setenv(name, value)
    check_display()


def test_the_window_is_up_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys, app.ui.application, app.ui.main_window, app.ui.session, app.ui.tray, app.ui.parts;"
        "print([name for name in ('torch', 'cv2', 'av') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert answer.stdout.strip() == "[]"


@pytest.fixture
def opened(qapp: QApplication, qtbot: QtBot, world: World, options: WindowOptions) -> Iterator[MainWindow]:
    """A window as the entry point opens it, with damaged settings."""
    del qtbot
    signals, hook = signal.getsignal(signal.SIGINT), sys.excepthook
    window, cleanup = open_window(qapp, options, world.parts(), AppSettings(portrait="fake_1"), "kept aside")
    yield window
    cleanup.run()
    assert (signal.getsignal(signal.SIGINT), sys.excepthook) == (signals, hook)
    assert world.pipeline.stops == 1
    window.session.deleteLater()
    window.deleteLater()


def test_everything_starts_after_the_first_paint(opened: MainWindow, qtbot: QtBot) -> None:
    assert not opened.session.busy
    qtbot.waitUntil(lambda: opened.session.ready)


def test_damaged_settings_are_told(opened: MainWindow, qtbot: QtBot) -> None:
    assert opened.messages.text == "kept aside"
    qtbot.waitUntil(lambda: opened.session.ready)


def test_control_c_closes_the_window(opened: MainWindow, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: opened.session.ready)
    with qtbot.waitSignal(opened.closed):
        signal.raise_signal(signal.SIGINT)
        assert opened.isVisible()  # not from within the handler: it may have interrupted who holds a lock


def test_what_nobody_expected_is_told(opened: MainWindow, qtbot: QtBot, caplog: pytest.LogCaptureFixture) -> None:
    qtbot.waitUntil(lambda: opened.session.ready)
    opened.messages.dismiss()
    sys.excepthook(ValueError, ValueError("odd"), None)
    assert "Something unexpected went wrong in the window: ValueError: odd" in opened.messages.text
    assert "unexpected error in the window" in caplog.text


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize(
    "at",
    [
        "application.load_settings = end",
        "parts.real_parts = end",
        "instance.Instance._listen = end",
        "widgets.ColumnScroll.eventFilter = lambda *_: end() or False",  # Qt's own call, which nothing may be raised in
    ],
)
def test_an_end_before_there_is_a_window_is_no_crash(tmp_path: Path, at: str) -> None:
    code = (
        "import signal; from pathlib import Path\n"
        "from app.ui import application, instance, parts, widgets\n"
        "def end(*_): signal.raise_signal(signal.SIGTERM)\n"
        f"{at}\n"
        f"options = application.WindowOptions(settings_path=Path({str(tmp_path / 's.toml')!r}))\n"
        "try: application.run_window(options)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout == "interrupted\n"
    assert not (tmp_path / "s.toml.running").exists()


@pytest.mark.usefixtures("_signals_are_heard")
def test_the_real_program_opens_its_window_and_ends_in_order(tmp_path: Path) -> None:
    """Offscreen, with what a user gets; ended by a polite kill while the model is still being loaded."""
    code = (
        "import sys; from pathlib import Path\n"
        "from app.ui.application import WindowOptions, run_window\n"
        "from app.ui.main_window import MainWindow\n"
        "MainWindow.showEvent = lambda self, event: print('shown', flush=True)\n"
        f"sys.exit(run_window(WindowOptions(camera='nowhere.mp4', settings_path=Path({str(tmp_path / 's.toml')!r}))))"
    )
    homes = {name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **homes, "QT_QPA_PLATFORM": "offscreen"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "shown"
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


class FakeApplication:
    """Asks the user about the camera, as macOS does, and answers in his place."""

    def __init__(self, before: Qt.PermissionStatus, after: Qt.PermissionStatus) -> None:
        self.status, self.after = before, after

    def checkPermission(self, permission: QCameraPermission) -> Qt.PermissionStatus:
        assert isinstance(permission, QCameraPermission)
        return self.status

    def requestPermission(self, permission: QCameraPermission, answered: Callable[[object], None]) -> None:
        self.status = self.after
        answered(permission)


GRANTED, DENIED, UNDETERMINED = (
    Qt.PermissionStatus.Granted,
    Qt.PermissionStatus.Denied,
    Qt.PermissionStatus.Undetermined,
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (GRANTED, GRANTED, "then"),
        (DENIED, DENIED, "forbidden"),
        (UNDETERMINED, GRANTED, "then"),
        (UNDETERMINED, DENIED, "forbidden"),
    ],
)
def test_the_camera_is_asked_for_on_macos(
    monkeypatch: pytest.MonkeyPatch, before: Qt.PermissionStatus, after: Qt.PermissionStatus, expected: str
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(permissions, "_SYSTEM", "darwin")
    monkeypatch.setattr(permissions, "_application", lambda: FakeApplication(before, after))
    permissions.when_camera_is_allowed(lambda: heard.append("then"), lambda: heard.append("forbidden"))
    assert heard == [expected]


def test_other_systems_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(permissions, "_SYSTEM", "linux")
    permissions.when_camera_is_allowed(lambda: heard.append("then"), lambda: heard.append("forbidden"))
    assert heard == ["then"]


def test_a_forbidden_camera_is_told(open_window: OpenWindow, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ui.camera_desk.when_camera_is_allowed", lambda _, forbidden: forbidden())
    window = open_window()
    assert "does not let this app use the camera" in window.messages.text
    assert window.session.chain.camera.failed
    assert world.pipeline.camera is None


IMPORT_SIDE_BY_SIDE = """
import sys, threading, time
from app.ui.parts import real_parts

bare = threading.Event()
failed = []

def linger(frame, event, _):
    if event == "return" and frame.f_code.co_name == "import_module" and frame.f_locals.get("name") == "cv2":
        bare.set()
        time.sleep(1.0)

def list_cameras():
    sys.setprofile(linger)
    real_parts().list_cameras()

def open_store():
    bare.wait(20.0)
    try:
        real_parts().open_store()
    except AttributeError as error:
        failed.append(error)

threads = [threading.Thread(target=work) for work in (list_cameras, open_store)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(bare.is_set(), failed)
"""


def test_what_starts_side_by_side_does_not_get_half_of_opencv() -> None:
    """Its import has its bare library in its own place for a moment, and the app's threads begin at the same time."""
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_SIDE_BY_SIDE], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert answer.stdout.strip() == "True []"
