"""The window's entry point."""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from app.errors import AppError
from app.settings import AppSettings, kept_language, load_settings
from app.ui.parts import Parts, WindowOptions
from mcnet.packages import missing_package
from mcnet.phrases import phrase
from mcnet.signals import handled_by, handlers_wait

if TYPE_CHECKING:
    from PyQt6.QtWidgets import QApplication

    from app.ui.cleanup import Cleanup
    from app.ui.instance import Instance
    from app.ui.main_window import MainWindow

logger = logging.getLogger(__name__)

_PATIENCE_S = 3.0
_QT = ("PyQt6.QtCore", "PyQt6.QtGui", "PyQt6.QtWidgets", "PyQt6.QtSvg", "PyQt6.QtNetwork")
_INTERRUPTED = 130
_TRIES, _AGAIN_S = 50, 0.1
_SAFE = phrase(
    "This is a safe start: the processor computes, there is no virtual camera, and all settings are the "
    "defaults. Nothing of them is kept; your own are back with the next start."
)
_AWAKE_MS = 200
_IDLE = "ThreadPoolExecutor"  # threads of libraries' pools, which Python itself ends

__all__ = ["WindowOptions", "run_window"]


def run_window(options: WindowOptions) -> int:
    """Open the window and stay until it is closed; where one has these settings already, bring that to the front.

    Returns:
        The exit status.

    Raises:
        AppError: there is no display to open a window on, Qt cannot be loaded, the settings cannot be read, or a window
            has them that does not answer.
    """
    check_display()
    check_qt()
    from PyQt6.QtWidgets import QApplication

    from app.ui.instance import Instance
    from app.ui.languages import speak

    app = QApplication([sys.argv[0]])
    app.setApplicationName("mcnet-avatar")
    app.setDesktopFileName("mcnet-avatar")
    speak(app, options.language or kept_language(options.settings_path))
    instance = Instance(options.settings_path)
    with handled_by(signal.default_int_handler):  # the window has its own; before, an end is no crash either
        try:
            if not instance.claim():
                if options.new_instance:
                    instance.claim_once_free()
                elif show_running(instance):
                    return 0
            status, ended = _open_and_stay(app, options, instance)
        finally:
            instance.release()
        if not ended:
            _leave_behind(status)
        return status


def _open_and_stay(app: "QApplication", options: WindowOptions, instance: "Instance") -> tuple[int, bool]:
    """Open the window and stay until it is closed.

    Returns:
        The exit status, and whether every thread has ended.
    """
    from app.ui.parts import real_parts, without_virtual_camera

    parts = real_parts()
    instance.show = raise_question
    safe = ask_about_crash() if instance.crashed else False
    if safe is None:
        return _INTERRUPTED, True
    if safe:
        options, parts = options.made_safe(), without_virtual_camera(parts)
    settings, complaint = (AppSettings(), _SAFE) if safe else load_settings(options.settings_path)
    window, cleanup = open_window(app, options, parts, settings, complaint)
    instance.show = window.come_to_front
    window.closed.connect(instance.hang_up)
    window.closed.connect(app.quit)
    try:
        status = app.exec()
    finally:
        cleanup.run()
    return status, window.ended


def show_running(instance: "Instance") -> bool:
    """Bring the window to the front that has the settings.

    Returns:
        Whether it is there; False where it has ended meanwhile, so that the claim is `instance`'s.

    Raises:
        AppError: it does not answer.
    """
    with contextlib.suppress(TimeoutError):
        for _ in range(_TRIES):  # it may have the claim and not listen yet, or listen no more and be about to let go
            if instance.ask_to_show():
                logger.warning(
                    "mcnet-avatar is running already: its window comes to the front; --new-instance opens another one"
                )
                return True
            if instance.claim():
                return False
            time.sleep(_AGAIN_S)
    raise AppError(
        f"mcnet-avatar is running already with these settings ({instance.holder()}) and does not answer: end it, "
        "or open another window with --new-instance"
    )


def ask_about_crash() -> bool | None:
    """Say that the last run did not end in order; returns whether to start safely, or None after Ctrl-C."""
    from PyQt6.QtCore import QTimer
    from PyQt6.QtWidgets import QMessageBox

    from app.ui.languages import tr

    box = QMessageBox(
        QMessageBox.Icon.Warning,
        "mcnet-avatar",
        tr("The app did not end in order last time: it crashed or was killed."),
    )
    box.setInformativeText(
        tr(
            "A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, "
            "and all settings are the defaults. Your own are kept for the next start."
        )
    )
    usual = box.addButton(tr("Start as usual"), QMessageBox.ButtonRole.AcceptRole)
    safe = box.addButton(tr("Start safely"), QMessageBox.ButtonRole.ActionRole)
    box.setDefaultButton(usual)
    box.setEscapeButton(usual)
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        nonlocal interrupted
        interrupted = True
        QTimer.singleShot(0, box.reject)

    awake = QTimer()  # Python hears of a signal when it next runs
    awake.timeout.connect(lambda: None)
    awake.start(_AWAKE_MS)
    with handled_by(interrupt):
        box.exec()
    awake.stop()
    return None if interrupted else box.clickedButton() is safe


def raise_question() -> None:
    """Bring what is asked before there is a window to the front."""
    from PyQt6.QtWidgets import QApplication

    if (box := QApplication.activeModalWidget()) is not None:
        box.raise_()
        box.activateWindow()


def open_window(
    app: "QApplication", options: WindowOptions, parts: Parts, settings: AppSettings, complaint: str | None
) -> "tuple[MainWindow, Cleanup]":
    """Show the window, and start everything once it was painted.

    Args:
        app: Qt's.
        options: from the command line.
        parts: what the window is built on.
        settings: as they were kept.
        complaint: what was wrong with them, or None.

    Returns:
        The window, and what takes down all that goes with it.
    """
    from app.ui.cleanup import Cleanup
    from app.ui.main_window import MainWindow
    from app.ui.messages import Message
    from app.ui.session import Session
    from app.ui.theme import apply_theme, current_theme
    from app.ui.tray import make_tray

    with handlers_wait():  # what they raise in a method that Qt calls, such as a layout's, ends the process
        apply_theme(app, current_theme(settings.window.theme))
        window = MainWindow(Session(options, settings, parts))
    cleanup = Cleanup()
    cleanup.add("window", window.close)
    if (tray := make_tray(window)) is not None:
        cleanup.add("tray", tray.close)
    cleanup.add("signals", _close_on_signals(window.close))
    cleanup.add("excepthook", _tell_unexpected(lambda text: window.session.told.emit(Message("unexpected", text))))
    if (hints := app.styleHints()) is not None:
        hints.colorSchemeChanged.connect(window.follow_system)
    window.show()
    if complaint is not None:
        window.messages.show_message(Message("settings file", complaint, tone="warning"))
    window.when_painted(window.session.start)
    return window, cleanup


def check_display() -> None:
    """Say clearly what Qt would only abort about.

    Raises:
        AppError: there is no display, or a library is missing to use it.
    """
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return
    if os.environ.get("WAYLAND_DISPLAY"):
        return
    display = os.environ.get("DISPLAY")
    if not display:
        raise AppError(
            "there is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set): start it from a "
            "desktop, or use --headless"
        )
    try:
        ctypes.CDLL("libxcb-cursor.so.0")
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        raise AppError(
            f"a library is missing to open a window ({error}); on Debian or Ubuntu: apt-get install libxcb-cursor0 "
            "libxcb-icccm4 libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxkbcommon-x11-0"
        ) from error
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    failed = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    if failed:
        raise AppError(f"the display {display} does not answer: start it from a desktop, or use --headless")


def check_qt() -> None:
    """Load Qt, which on any platform needs libraries of the system.

    Raises:
        AppError: it cannot be loaded.
    """
    for name in _QT:
        try:
            import_module(name)
        except ImportError as error:
            raise AppError(
                missing_package(error)
                or f"Qt cannot be loaded to open a window ({name}: {error}); on Debian or Ubuntu: apt-get install "
                "libegl1 libgl1 libglib2.0-0 libxkbcommon0 libfontconfig1 libdbus-1-3 libgssapi-krb5-2, or use "
                "--headless"
            ) from error


def _leave_behind(status: int) -> None:
    """Wait a little for threads that a driver or a model still holds, and end the process, under those that stay.

    Python's own way out would pull such a thread from under C++ code, which aborts the process. So it is not taken
    either where all of them ended in time: what they were about, such as compiling a model, may have threads of its own
    that Python does not know.
    """
    deadline_s = time.monotonic() + _PATIENCE_S
    others = [thread for thread in threading.enumerate() if thread.daemon and not thread.name.startswith(_IDLE)]
    for thread in others:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        logger.warning("leaving behind %s", ", ".join(thread.name for thread in others if thread.is_alive()))
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as in a program without a console
            stream.flush()
    os._exit(status)


def _close_on_signals(close: Callable[[], object]) -> Callable[[], None]:
    """Have Ctrl-C and a polite kill close the window in order; returns what undoes it.

    Python hears of a signal when it next runs, which the window's timer sees to; that may be anywhere, also where a
    lock is held that closing needs. So it closes from the event loop.
    """
    from PyQt6.QtCore import QTimer

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        logger.info("signal %d: closing", number)
        QTimer.singleShot(0, close)

    stack = contextlib.ExitStack()
    stack.enter_context(handled_by(handle))
    return stack.close


def _tell_unexpected(tell: Callable[[str], None]) -> Callable[[], None]:
    """Show and log what nobody expected, instead of PyQt's abort; returns what undoes it."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.error("unexpected error in the window", exc_info=(kind, error, trace))
        tell(
            phrase(
                "Something unexpected went wrong in the window: {kind}: {error}. The log tells more.",
                kind=kind.__name__,
                error=error,
            )
        )

    sys.excepthook = hook

    def undo() -> None:
        sys.excepthook = before

    return undo
