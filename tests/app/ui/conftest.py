"""A window on fakes, and a watch over what it leaves behind."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.app.ui.desk import PLATFORM

os.environ["QT_QPA_PLATFORM"] = PLATFORM  # before Qt asks
os.environ["LC_ALL"] = (
    "C.UTF-8"  # what windows and programs say is compared in English, whatever the machine's language is
)

import pytest
from PyQt6 import sip
from PyQt6.QtCore import QCoreApplication, QEvent, QLocale, QTimer
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.settings import AppSettings
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions
from app.ui.session import Session
from app.ui.theme import apply_theme, current_theme
from tests.app.ui.fakes import FakeStore, World

OFFSCREEN_LACKS = (
    r"does not support (propagateSizeHints\(\)|raise\(\)|grabbing the keyboard)",
    "systemTrayWindowChanged",
)
HERE = Path(__file__).parent
_PATIENCE_MS = 60_000

# A machine with much else to do takes seconds for what a quiet one does at once, and five are pytest-qt's patience.
for wait in (QtBot.waitUntil, QtBot.waitSignal, QtBot.waitSignals):
    wait.__kwdefaults__ = {**(wait.__kwdefaults__ or {}), "timeout": _PATIENCE_MS}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.qt_log_level_fail("WARNING"))
            item.add_marker(pytest.mark.qt_log_ignore(*OFFSCREEN_LACKS, extend=True))


@pytest.fixture(scope="module")
def few_objects(qapp: QApplication) -> None:
    """Spares the collector what was there before a file's tests: torch alone has some hundred thousand objects, and
    the files before leave more, all of which each test would look through.
    """
    del qapp
    QLocale.setDefault(QLocale("en_US"))  # whatever the machine's own is
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(qapp: QApplication, few_objects: None) -> Iterator[None]:
    """Fails a test that leaves a thread, a running timer or a top-level widget behind."""
    del few_objects
    threads = set(threading.enumerate())
    widgets = {id(widget) for widget in qapp.topLevelWidgets()}
    yield
    for _ in range(3):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        qapp.processEvents()
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not left, f"threads left behind: {left}"
    timers = [
        one for one in gc.get_objects() if issubclass(type(one), QTimer) and not sip.isdeleted(one) and one.isActive()
    ]
    assert not timers, f"timers left running: {timers}"
    shown = [widget for widget in qapp.topLevelWidgets() if id(widget) not in widgets]
    assert not shown, f"widgets left behind: {shown}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def store(world: World) -> FakeStore:
    return world.store


@pytest.fixture
def options(tmp_path: Path) -> WindowOptions:
    return WindowOptions(settings_path=tmp_path / "settings.toml")


OpenWindow = Callable[..., MainWindow]


@pytest.fixture
def open_window(
    qtbot: QtBot, qapp: QApplication, world: World, options: WindowOptions, tmp_path: Path
) -> Iterator[OpenWindow]:
    """Makes windows on the fakes, started and shown, and closes them after the test."""
    windows: list[MainWindow] = []
    apply_theme(qapp, current_theme("dark"))

    def make(settings: AppSettings | None = None, options: WindowOptions = options) -> MainWindow:
        settings = settings or AppSettings(portrait="fake_1", recordings=str(tmp_path / "videos"))
        window = MainWindow(Session(options, settings, world.parts()))
        windows.append(window)
        window.when_painted(window.session.start)
        window.show()
        qtbot.waitUntil(lambda: window.session.ready and bool(window.session.desk.entries))
        qtbot.waitUntil(lambda: not window.session.busy)
        return window

    yield make
    for window in windows:
        window.close()
        window.session.deleteLater()
        window.deleteLater()


@pytest.fixture
def window(open_window: OpenWindow) -> MainWindow:
    return open_window()


@pytest.fixture
def proven(window: MainWindow, world: World, qtbot: QtBot) -> MainWindow:
    """A window whose chain holds but for the virtual camera."""
    world.pipeline.prove()
    qtbot.waitUntil(lambda: window.session.chain.missing_name() == "virtual camera")
    window.messages.clear("measured")
    return window


@pytest.fixture
def live(proven: MainWindow, world: World, qtbot: QtBot) -> MainWindow:
    """A window that is live."""
    proven.session.virtual_camera.switch(True)
    qtbot.waitUntil(lambda: "virtualcam" in world.pipeline.sinks)
    world.pipeline.open_sink("virtualcam")
    qtbot.waitUntil(lambda: proven.session.virtual_camera.on_air)
    proven.session.go_live()
    return proven
