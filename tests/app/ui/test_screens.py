"""No screen overlaps itself, cuts its texts or leaves its place, at any size, scale, font, theme and length."""

import os
import re
import subprocess
import sys

import pytest
from PyQt6.QtGui import QPainter
from pytestqt.qtbot import QtBot

from app.settings import AppSettings, WindowSettings
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.widgets import label
from tests.app.ui.conftest import OFFSCREEN_LACKS, OpenWindow
from tests.app.ui.pseudo import lengthen, untranslated
from tests.app.ui.screens import SIZES, faults, watch_painting


# Every theme, scale, direction and length of texts with every other one somewhere; all of them would take minutes more.
@pytest.mark.parametrize(
    ("theme", "scale", "language"),
    [
        ("dark", 1, ["en"]),
        ("light", 1, ["pseudo"]),
        ("dark", 2, ["pseudo", "--rtl"]),
        ("light", 2, ["de"]),
        ("light", 1, ["en", "--font", "1.5", "--few"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_every_screen_fits_and_is_translated(theme: str, scale: int, language: list[str]) -> None:
    command = [sys.executable, "-m", "tests.app.ui.screens", "--theme", theme, "--language", *language]
    environment = {**os.environ, "QT_SCALE_FACTOR": str(scale)}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False, encoding="utf-8"
    )
    said = [line for line in run.stderr.splitlines() if not any(re.search(lack, line) for lack in OFFSCREEN_LACKS)]
    assert run.returncode == 0, "\n".join(run.stdout.splitlines()[-40:] + said)
    assert not said


def test_the_look_at_screens_finds_what_is_wrong(window: MainWindow) -> None:
    assert faults(window) == []
    text = label("a text that needs more than twenty points")
    text.setParent(window.action_bar)
    text.setGeometry(0, 0, 20, 30)
    text.show()
    found = faults(window)
    assert any("is cut" in fault for fault in found)
    assert any("overlap" in fault and "Go live" in fault for fault in found)
    text.setGeometry(-10, 0, 20, 30)
    assert any("is outside of" in fault for fault in faults(window))
    text.hide()
    assert faults(window) == []
    window.preview.lay_out()
    window.performer.move(-3, 0)
    assert any("outside of the picture" in fault for fault in faults(window))


def test_the_look_at_screens_finds_painted_text_that_is_cut(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QPainter, "drawText", QPainter.drawText)  # put back after the test
    cut, painted = watch_painting()
    window.grab()
    assert cut == []
    assert "no camera picture" in painted
    window.performer.resize(40, 12)
    window.performer.grab()
    assert any("no camera picture" in fault for fault in cut)


def test_the_look_at_screens_finds_what_is_not_translated() -> None:
    texts = ["GoÄĝ liveÄĝ", "camera Fred: goneÄĝ", "Fred", "goneÄĝ fore…", "dev/video10", "62 ms", "Go live"]
    assert untranslated(texts, "Fred") == ["camera Fred: goneÄĝ", "Go live"]


def test_longer_texts() -> None:
    assert lengthen("Go live") == "Go liveÄĝ"
    assert lengthen("/dev/video10") == "/dev/video10"
    assert len(lengthen("expression")) == 14


def test_the_window_takes_no_more_than_its_screen(open_window: OpenWindow, qtbot: QtBot) -> None:
    window = open_window(AppSettings(portrait="fake_1", window=WindowSettings(width_px=4000, height_px=3000)))
    screen = window.screen()
    assert screen is not None
    qtbot.waitUntil(lambda: screen.availableGeometry().contains(window.frameGeometry()))
    window.move(1800, 1100)
    window.hide()
    window.show()
    qtbot.waitUntil(lambda: screen.availableGeometry().contains(window.frameGeometry()))


def test_the_window_can_be_as_small_as_a_small_screen(window: MainWindow) -> None:
    smallest = window.minimumSize()
    assert smallest.width() < SIZES[0][0]
    assert smallest.height() < SIZES[0][1] - 30  # a title bar


def test_in_a_narrow_window_portraits_and_controls_take_turns(window: MainWindow, qtbot: QtBot) -> None:
    assert window.gallery.isVisible()
    assert window.controls.isVisible()
    assert not window.columns.turns.isVisible()
    window.resize(800, 480)
    qtbot.waitUntil(lambda: window.columns.folded)
    assert window.gallery.isVisible()
    assert not window.controls.isVisible()
    window.columns.turns.button("controls").click()
    assert not window.gallery.isVisible()
    assert window.controls.isVisible()
    window.resize(1180, 720)
    qtbot.waitUntil(lambda: not window.columns.folded)
    assert window.gallery.isVisible()
    assert window.controls.isVisible()


def test_a_notice_does_not_move_the_preview(proven: MainWindow, qtbot: QtBot) -> None:
    before = proven.preview.geometry()
    proven.messages.show_message(Message("stage", "Something has failed: " + 20 * "it is long, ", action="Start again"))
    qtbot.wait(50)
    assert proven.preview.geometry() == before
    assert proven.messages.isVisible()
    assert not proven.messages.geometry().isEmpty()
    proven.messages.dismiss()
    assert proven.preview.geometry() == before


def test_a_low_window_shows_the_next_step_alone(window: MainWindow, qtbot: QtBot) -> None:
    assert all(step.isVisible() for step in window.checklist.steps)
    window.resize(800, 480)
    qtbot.waitUntil(lambda: sum(step.isVisible() for step in window.checklist.steps) == 1)
    shown = next(step for step in window.checklist.steps if step.isVisible())
    assert shown is next(step for step in window.checklist.steps if not step.done)
