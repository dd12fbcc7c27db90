"""Legible, reachable by keyboard, named for screen readers, and sensible in a small window."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QAction, QFontMetrics, QTextDocument
from PyQt6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QSlider, QToolTip, QWidget
from pytestqt.qtbot import QtBot

import assets
from app.pipeline.capture.camera import CameraInfo
from app.settings import AppSettings, WindowSettings
from app.ui.main_window import MainWindow
from app.ui.theme import DARK, LIGHT, Theme, app_icon, pixmap, stylesheet_of
from app.ui.widgets import looks_like_markup, tip_of
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World
from tests.app.ui.hand import press_key

UI = Path(__file__).parents[3] / "app" / "ui"


def luminance(colour: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_everything_that_is_read_has_contrast(theme: Theme) -> None:
    for back in (theme.window, theme.surface, theme.raised):
        for fore in (theme.text, theme.muted, theme.accent, theme.live, theme.warning, theme.error):
            assert contrast(fore, back) >= 4.5, f"{fore} on {back}"
    assert contrast(theme.on_accent, theme.accent) >= 4.5
    assert contrast(theme.window, theme.live) >= 4.5
    assert contrast(theme.window, theme.error) >= 4.5


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_the_stylesheet_is_complete(theme: Theme) -> None:
    text = stylesheet_of(theme)
    assert not re.findall(r"@\w+@", text)
    for path in re.findall(r"url\(([^)]+)\)", text):
        assert Path(path).is_file(), path


def test_every_icon_that_is_named_is_there_and_none_is_idle(qapp: QApplication) -> None:
    del qapp
    code = "".join(path.read_text(encoding="utf-8") for path in [*UI.glob("*.py"), UI / "style.qss"])
    for path in (assets.ROOT / "icons").glob("*.svg"):
        used = path.stem in code or path.stem.rpartition("-")[0] in code
        assert used, f"nobody uses {path.name}"
        image = pixmap(path.stem, "#ff0000", 32).toImage()
        assert any(image.pixelColor(x, y).alpha() for x in range(32) for y in range(32)), path.name
    assert not app_icon().isNull()


def controls_of(window: MainWindow) -> list[QWidget]:
    return [
        widget
        for kind in (QAbstractButton, QComboBox, QSlider)
        for widget in window.findChildren(kind)
        if widget.isVisibleTo(window)
    ]


def test_every_control_has_a_name_and_a_tip(window: MainWindow) -> None:
    for widget in controls_of(window):
        assert widget.accessibleName(), widget
        assert widget.toolTip() or widget.parentWidget().toolTip(), widget.accessibleName()  # type: ignore[union-attr]


def tips_of(window: MainWindow) -> Iterator[str]:
    yield from (widget.toolTip() for widget in (window, *window.findChildren(QWidget)))
    yield from (action.toolTip() for action in window.findChildren(QAction))
    rows = range(window.gallery.list.count())
    yield from (item.toolTip() for row in rows if (item := window.gallery.list.item(row)) is not None)


def test_a_name_is_never_markup(open_window: OpenWindow, world: World, tmp_path: Path) -> None:
    """Whatever looks like markup Qt takes for that: a name would be shown without half of its characters."""
    world.cameras = [CameraInfo("<b>Cam</b>", "0")]
    world.microphones = ["<b>Mic</b>"]
    world.store.own_one("<b>Portrait</b>\n&amp; co")
    recordings = str(tmp_path / "<b>Recordings<")
    window = open_window(AppSettings(portrait="own_<b>Portrait</b>\n&amp; co", recordings=recordings, model="<b>Model"))
    tips = {tip for tip in tips_of(window) if looks_like_markup(tip)}
    escaped = {name for name in ("Portrait", "Recordings") if any(f"&lt;b&gt;{name}" in tip for tip in tips)}
    assert escaped == {"Portrait", "Recordings"}
    for tip in tips:
        document = QTextDocument()
        document.setHtml(tip)
        assert tip_of(document.toPlainText()) == tip, "as it was written"
    for widget in window.findChildren(QWidget):
        described = widget.accessibleDescription()
        assert described or not looks_like_markup(widget.toolTip()), "else the tooltip is read out"
        assert "<qt>" not in described
    for shown in window.findChildren(QLabel):
        assert not looks_like_markup(shown.text()) or shown.textFormat() is Qt.TextFormat.PlainText, shown.text()


def test_no_tip_is_wider_than_a_small_screen(window: MainWindow) -> None:
    """Qt breaks only those into lines that are markup."""
    metrics = QFontMetrics(QToolTip.font())
    plain = [tip for tip in tips_of(window) if not looks_like_markup(tip)]
    assert any(plain)
    assert max(metrics.horizontalAdvance(tip) for tip in plain) < 500


def test_every_control_is_reached_by_the_tab_key(proven: MainWindow, qtbot: QtBot) -> None:
    proven.controls.fine_tune.button.click()
    proven.activateWindow()
    qtbot.waitUntil(proven.isActiveWindow)
    reached: set[int] = set()
    proven.gallery.list.setFocus()
    for _ in range(150):
        widget = QApplication.focusWidget()
        assert widget is not None
        reached.add(id(widget))
        press_key(widget, Qt.Key.Key_Tab)
    wanted = [widget for widget in controls_of(proven) if widget.isEnabled() and not exclusive(widget)]
    assert proven.controls.gains["brows"].slider in wanted
    missed = [widget.accessibleName() for widget in wanted if id(widget) not in reached]
    assert not missed


def exclusive(widget: QWidget) -> bool:
    """One of several choices: the tab key goes to the chosen one, the arrows to the others."""
    return isinstance(widget, QAbstractButton) and widget.group() is not None and not widget.isChecked()


@pytest.mark.parametrize("checklist_done", [False, True])
def test_nothing_is_squeezed_at_1024_by_640(open_window: OpenWindow, checklist_done: bool) -> None:
    settings = AppSettings(
        portrait="fake_1", window=WindowSettings(width_px=1024, height_px=640, checklist_done=checklist_done)
    )
    window = open_window(settings)
    assert (window.width(), window.height()) == (1024, 640)
    for made in (
        window.action_bar.live_button,
        window.action_bar.slate_button,
        window.action_bar.snapshot_button,
        window.status,
    ):
        assert window.rect().contains(made.mapTo(window, made.rect().center()))
        assert made.width() >= made.minimumSizeHint().width()
    assert window.preview.picture_rect().height() >= 180
    assert window.missing == "Missing: model"
