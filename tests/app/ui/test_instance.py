"""One window per user and settings; and what a crash leaves to the next start."""

import ast
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PyQt6.QtCore import QTimer
from PyQt6.QtNetwork import QLocalSocket
from PyQt6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

import app.ui
from app.errors import AppError
from app.settings import AppSettings, save_settings
from app.ui.application import ask_about_crash, open_window, raise_question, show_running
from app.ui.instance import Instance
from app.ui.main_window import MainWindow
from app.ui.parts import WindowOptions, without_virtual_camera
from tests.app.ui.fakes import World

CLAIM_AND_DIE = (
    "import os, sys; from pathlib import Path; from app.ui.instance import Instance\n"
    "one = Instance(Path(sys.argv[1])); assert one.claim(); os._exit(9)"
)
FIRST = """
import gc, os, sys
from pathlib import Path
from PyQt6.QtCore import QCoreApplication
from app.ui.instance import Instance

what = sys.argv[2]

class First(Instance):
    def _listen(self):
        if what == "listens late":
            print("claims", flush=True)
            sys.stdin.readline()
        super()._listen()

    def _take(self):
        super()._take()
        if what == "collects":
            gc.collect()  # as any thread's next allocation may
        elif what == "crashes":
            os._exit(9)
        elif what == "ends":
            self.hang_up()
            print("hangs up", flush=True)
            sys.stdin.readline()
            self.release()

app = QCoreApplication([])
one = First(Path(sys.argv[1]))
one.show = lambda: print("shows", flush=True)
assert one.claim()
print("listens", flush=True)
sys.exit(app.exec())
"""
ASK = (
    "import sys; from pathlib import Path; from app.ui.instance import Instance\n"
    "sys.exit(0 if Instance(Path(sys.argv[1])).ask_to_show() else 3)"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.toml"


@pytest.fixture
def instance(path: Path, qapp: QApplication) -> Iterator[Instance]:
    del qapp
    instance = Instance(path)
    assert instance.claim()
    yield instance
    instance.release()


def claim_and_die(path: Path) -> None:
    """As a run that crashes."""
    assert subprocess.run([sys.executable, "-c", CLAIM_AND_DIE, str(path)], check=False).returncode == 9


def test_settings_have_one_window(path: Path, instance: Instance) -> None:
    second = Instance(path)
    assert not second.claim()
    assert second.holder() == f"process {os.getpid()}"
    other = Instance(path.with_name("other.toml"))
    assert other.claim()
    other.release()
    instance.release()
    instance.release()
    assert second.claim()
    assert not second.crashed
    second.release()


def test_a_run_that_crashed_is_known_to_the_next_and_to_no_other(path: Path) -> None:
    claim_and_die(path)
    after = Instance(path)
    assert after.claim()
    assert after.crashed
    after.release()
    third = Instance(path)
    assert third.claim()
    assert not third.crashed
    third.release()


@pytest.mark.parametrize("crashes", [False, True])
def test_a_second_window_has_the_claim_once_the_first_has_ended(
    path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    """A third start would find neither; if the first one crashed, the next start that opens a window still asks."""
    monkeypatch.setattr("app.ui.instance._AGAIN_MS", 10)
    code = CLAIM_AND_DIE.replace(
        "os._exit(9)", "print(flush=True); sys.stdin.readline(); " + ("os._exit(9)" if crashes else "one.release()")
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.readline()
    second, shown = Instance(path), list[bool]()
    second.show = lambda: shown.append(True)
    assert not second.claim()
    second.claim_once_free()
    first.communicate(b"\n")
    qtbot.waitUntil(lambda: second.holder() == f"process {os.getpid()}", timeout=30_000)
    asking = subprocess.Popen([sys.executable, "-c", ASK, str(path)])
    qtbot.waitUntil(lambda: asking.poll() is not None, timeout=30_000)
    assert (asking.returncode, shown) == (0, [True])
    second.release()
    third = Instance(path)
    assert third.claim()
    assert third.crashed is crashes
    third.release()


def test_a_window_that_is_closed_claims_nothing_any_more(
    path: Path, instance: Instance, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ui.instance._AGAIN_MS", 1)
    second, third = Instance(path), Instance(path)
    second.claim_once_free()
    second.hang_up()
    third.claim_once_free()
    instance.release()
    qtbot.waitUntil(third._lock.isLocked)
    assert not second._lock.isLocked()
    third.release()


def test_a_second_start_brings_the_window_to_the_front(path: Path, instance: Instance, qtbot: QtBot) -> None:
    shown: list[bool] = []
    instance.show = lambda: shown.append(True)
    for number in (1, 2):
        asking = subprocess.Popen([sys.executable, "-c", ASK, str(path)])
        qtbot.waitUntil(lambda asking=asking: asking.poll() is not None, timeout=30_000)  # type: ignore[misc]
        assert asking.returncode == 0
        assert len(shown) == number


class First:
    """A running window in a process of its own, with what may come in between."""

    def __init__(self, path: Path, what: str) -> None:
        command = [sys.executable, "-c", FIRST, str(path), what]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def first(path: Path, request: pytest.FixtureRequest) -> Iterator[First]:
    first = First(path, request.param)
    yield first
    first.process.kill()
    first.process.communicate(timeout=60)


@pytest.mark.parametrize("first", ["collects"], indirect=True)
def test_a_second_start_is_answered_whenever_the_collector_runs(path: Path, first: First) -> None:
    for _ in range(2):
        assert show_running(Instance(path))
        assert first.line() == "shows"
    assert first.process.poll() is None


def closures_over_what_emits(source: str) -> list[str]:
    """Slots that keep alive what calls them, as in `socket.readyRead.connect(lambda: answer(socket))`."""
    found = []
    for call in ast.walk(ast.parse(source)):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=emitter)), attr="connect"),
                args=[ast.Lambda() | ast.Call() as slot, *_],
            ) if emitter != "self":
                named = {node.id for node in ast.walk(slot) if isinstance(node, ast.Name)}
                found += [ast.unparse(call)] if emitter in named else []
    return found


def test_no_slot_keeps_alive_what_emits_its_signal() -> None:
    """The collector would take both while Qt still has its half, and calls the slot."""
    for slot in ("lambda: answer(socket)", "partial(answer, socket)"):
        assert closures_over_what_emits(f"socket.readyRead.connect({slot})")
    assert not closures_over_what_emits("socket.disconnected.connect(socket.deleteLater)")
    files = sorted(Path(app.ui.__file__).parent.glob("*.py"))
    assert len(files) > 30
    assert not [found for file in files for found in closures_over_what_emits(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("first", ["listens late"], indirect=True)
def test_of_two_starts_at_once_one_opens_and_the_other_shows_it(
    path: Path, first: First, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Instance(path)
    assert not second.claim()
    assert not second.ask_to_show()
    sleep = time.sleep

    def wait(wait_s: float) -> None:
        first.go_on()  # the second one has asked and claimed in vain
        sleep(wait_s)

    with monkeypatch.context() as patch:  # until then: waiting for a process to end sleeps, too
        patch.setattr("app.ui.application.time.sleep", wait)
        assert show_running(second)
    assert [first.line(), first.line()] == ["listens", "shows"]


@pytest.mark.parametrize("first", ["ends"], indirect=True)
def test_a_window_that_ends_while_it_is_asked_leaves_its_place_to_who_asked(
    path: Path, first: First, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    sleep = time.sleep

    def wait(wait_s: float) -> None:
        if not tries:
            assert first.line() == "hangs up"  # and has its claim still
            first.go_on()
        tries.append(wait_s)
        sleep(wait_s)

    second = Instance(path)
    assert not second.claim()
    with monkeypatch.context() as patch:
        patch.setattr("app.ui.application.time.sleep", wait)
        assert not show_running(second)
    assert tries
    assert not second.crashed
    assert not Instance(path).claim()
    assert Instance(path).holder() == second.holder() == f"process {os.getpid()}"
    second.release()


@pytest.mark.parametrize("first", ["crashes"], indirect=True)
def test_a_window_that_crashes_while_it_is_asked_does_too(path: Path, first: First) -> None:
    second = Instance(path)
    assert not second.claim()
    assert not show_running(second)
    assert second.crashed
    assert first.process.wait(60) == 9
    second.release()


def test_what_arrives_in_pieces_or_from_who_has_gone_is_answered(instance: Instance, path: Path, qtbot: QtBot) -> None:
    shown: list[bool] = []
    instance.show = lambda: shown.append(True)
    name = f"mcnet-avatar-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}"
    socket = QLocalSocket()
    socket.connectToServer(name)
    for piece in (b"sh", b"ow\n"):
        assert not shown
        socket.write(piece)
        socket.flush()
        qtbot.wait(50)
    assert shown == [True]
    assert socket.readAll().data() == b"shown\n"
    socket.abort()
    socket.connectToServer(name)
    socket.write(b"show\n")
    socket.flush()
    socket.abort()
    qtbot.waitUntil(lambda: len(shown) == 2)


@pytest.mark.usefixtures("instance")
def test_a_running_window_that_does_not_answer_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ui.instance._ANSWER_MS", 50)  # its event loop does not run meanwhile
    with pytest.raises(AppError, match=rf"running already .*\(process {os.getpid()}\) and does not answer: end it, or"):
        show_running(Instance(path))


def test_where_no_lock_can_be_written_the_app_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    instance = Instance(tmp_path / "file" / "settings.toml")
    assert instance.claim()
    assert not instance.crashed
    instance.release()
    assert "cannot look for a running window" in caplog.text


@pytest.mark.parametrize("left", [b"", b"\0\0\0", None], ids=["empty", "zeros", "a folder"])
def test_a_lock_that_says_nothing_keeps_nobody_out(path: Path, left: bytes | None) -> None:
    """As a power cut leaves one."""
    lock = path.with_name(f"{path.name}.lock")
    lock.parent.mkdir()
    if left is None:
        lock.mkdir()
    else:
        lock.write_bytes(left)
    instance, second = Instance(path), Instance(path)
    assert instance.claim()
    if left is not None:
        assert instance.holder() == f"process {os.getpid()}"
        assert not second.claim()
    instance.release()


@pytest.mark.skipif(sys.platform == "win32", reason="what is open there is nobody else's to write")
def test_a_lock_that_somebody_emptied_holds_as_long_as_its_process_lives(path: Path) -> None:
    instance, second = Instance(path), Instance(path)
    assert instance.claim()
    path.with_name(f"{path.name}.lock").write_bytes(b"")
    assert not second.claim()
    assert "does not name" in second.holder()
    instance.release()
    assert second.claim()
    second.release()


def test_the_window_comes_to_the_front_from_where_it_was_put(window: MainWindow, qtbot: QtBot) -> None:
    window.showMinimized()
    window.come_to_front()
    qtbot.waitUntil(lambda: window.isVisible() and not window.isMinimized())


@pytest.mark.parametrize(("answer", "expected"), [("Start safely", True), ("Start as usual", False), ("", False)])
def test_after_a_crash_the_user_is_asked(qapp: QApplication, answer: str, expected: bool) -> None:
    said: list[str] = []

    def click() -> None:
        box = qapp.activeModalWidget()
        assert isinstance(box, QMessageBox)
        said.append(f"{box.text()} {box.informativeText()}")
        named = [button for button in box.buttons() if button.text().replace("&", "") == answer]
        if named:
            named[0].click()
        else:
            box.reject()
        box.deleteLater()

    QTimer.singleShot(50, click)
    assert ask_about_crash() is expected
    assert "did not end in order last time" in said[0]
    assert "the processor computes, there is no virtual camera, and all settings are the defaults" in said[0]


def test_a_second_start_brings_the_question_to_the_front(qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[str] = []
    monkeypatch.setattr(QMessageBox, "raise_", lambda box: raised.append(box.text()))

    def ask_again() -> None:
        raise_question()
        box = qapp.activeModalWidget()
        assert isinstance(box, QMessageBox)
        box.reject()
        box.deleteLater()

    QTimer.singleShot(50, ask_again)
    assert ask_about_crash() is False
    assert "did not end in order last time" in raised[0]
    raise_question()  # nothing is asked any more
    assert len(raised) == 1


@pytest.mark.usefixtures("_signals_are_heard")
def test_control_c_ends_the_question_too(qapp: QApplication) -> None:
    QTimer.singleShot(50, lambda: signal.raise_signal(signal.SIGINT))
    assert ask_about_crash() is None
    for widget in qapp.topLevelWidgets():
        if isinstance(widget, QMessageBox):
            widget.deleteLater()


def test_a_safe_start_runs_on_the_processor_without_a_virtual_camera_and_keeps_nothing(
    qapp: QApplication, world: World, options: WindowOptions, qtbot: QtBot
) -> None:
    save_settings(options.settings_path, AppSettings(portrait="fake_3", device="cuda:1"))
    before = options.settings_path.read_bytes()
    safe = replace(options, device="cuda:0").made_safe()
    window, cleanup = open_window(qapp, safe, without_virtual_camera(world.parts()), AppSettings(), "safe")
    try:
        qtbot.waitUntil(lambda: window.session.ready and window.session.virtual_camera.report is not None)
        made_from = world.pipeline.made_from
        assert (made_from.device, made_from.precision) == ("cpu", "fp32")
        assert world.examined == 0
        assert not window.controls.doctor.switch.isEnabled()
        assert window.session.virtual_camera.report is not None
        assert "no virtual camera in a safe start" in window.session.virtual_camera.report.sentence
        window.controls.step_zoom(1)
    finally:
        cleanup.run()
        window.session.deleteLater()
        window.deleteLater()
    assert options.settings_path.read_bytes() == before


REAL = """
import faulthandler, sys
from pathlib import Path
from PyQt6.QtWidgets import QMessageBox
from app.ui.application import WindowOptions, run_window
from app.ui.main_window import MainWindow
from app.ui.messages import MessageBar

faulthandler.enable()
MainWindow.showEvent = lambda self, event: print("shown", flush=True)
front = MainWindow.come_to_front
MainWindow.come_to_front = lambda self: (print("front", flush=True), front(self))
show = MessageBar.show_message
MessageBar.show_message = lambda self, message: (print(message.text, flush=True), show(self, message))
QMessageBox.exec = lambda self: (print(self.text(), flush=True), self.buttons()[-1].click())
new = "new" in sys.argv
sys.exit(run_window(WindowOptions(camera="nowhere.mp4", settings_path=Path(sys.argv[1]), new_instance=new)))
"""


@pytest.mark.usefixtures("_signals_are_heard")
def test_the_real_program_started_twice_killed_and_started_again(path: Path, tmp_path: Path) -> None:
    homes = {name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **homes, "QT_QPA_PLATFORM": "offscreen"}

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", REAL, str(path), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def where_it_stands(process: "subprocess.Popen[str]") -> str:
        process.send_signal(signal.SIGABRT)  # unless it has crashed by itself
        return process.communicate(timeout=60)[1]

    def line(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    running: list[subprocess.Popen[str]] = []
    try:
        running.append(first := start())
        assert line(first) == "shown"
        second = start()
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 0, f"{errors}\nThe first one:\n{where_it_stands(first)}"
        assert "running already: its window comes to the front" in errors
        seen = [line(first)]
        while seen[-1] != "front":
            assert len(seen) < 50
            seen.append(line(first))
        running.append(another := start("new"))
        assert line(another) == "shown"
        for process in (first, another):
            process.kill()
            process.communicate(timeout=60)
        kept = path.read_bytes() if path.exists() else None
        running.append(after := start())
        assert "did not end in order last time" in line(after)
        seen = [line(after), line(after)]
        assert seen[0] == "shown"
        assert seen[1].startswith("This is a safe start")
        after.send_signal(signal.SIGTERM)
        _, errors = after.communicate(timeout=60)
        assert after.returncode == 0, errors
        assert (path.read_bytes() if path.exists() else None) == kept
        assert not [*path.parent.glob("*.lock"), *path.parent.glob("*.running")]
    finally:
        for process in running:
            process.kill()
            process.communicate(timeout=60)
