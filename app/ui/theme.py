"""Colours, stylesheet and icons. Own widgets ask the palette, so that a change of theme reaches all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from PyQt6.QtCore import QByteArray, QRectF, QSize, Qt
from PyQt6.QtGui import QColor, QFontMetrics, QGuiApplication, QIcon, QPainter, QPalette, QPixmap, QPixmapCache
from PyQt6.QtSvg import QSvgRenderer
from PyQt6.QtWidgets import QApplication

import assets

ThemeChoice = Literal["system", "dark", "light"]
Tone = Literal["live", "info", "warning", "error", "quiet"]

_ICONS = assets.ROOT / "icons"
ICON_PX = 16
_LEAST_HEIGHTS_PX = {"button_px": 18, "link_px": 14, "field_px": 20}
"""Of what is within buttons and fields, by their names in the stylesheet; a larger font needs more."""
_APP_ICON_SIZES_PX = (16, 24, 32, 48, 64, 128)


@dataclass(frozen=True)
class Theme:
    """One set of colours, each as #rrggbb.

    Attributes:
        window: behind everything.
        surface: panels.
        raised: buttons and fields on a panel.
        hover: a button under the mouse.
        line: borders.
        text: what is read.
        muted: what is read second.
        accent: what is chosen or can be done next.
        on_accent: text on it.
        live: the call sees the avatar.
        warning: something needs a hand.
        error: something failed; also the slate's button.
    """

    window: str
    surface: str
    raised: str
    hover: str
    line: str
    text: str
    muted: str
    accent: str
    on_accent: str
    live: str
    warning: str
    error: str

    def tone(self, tone: Tone) -> str:
        """The colour of a tone of voice."""
        return {
            "live": self.live,
            "info": self.accent,
            "warning": self.warning,
            "error": self.error,
            "quiet": self.muted,
        }[tone]


DARK = Theme(
    window="#111418",
    surface="#181c22",
    raised="#232932",
    hover="#2c343f",
    line="#2b323c",
    text="#e7eaee",
    muted="#98a2b0",
    accent="#5b9dff",
    on_accent="#07121f",
    live="#3ccb7f",
    warning="#e5ae4d",
    error="#f0716b",
)
LIGHT = Theme(
    window="#eef0f3",
    surface="#fafbfc",
    raised="#ffffff",
    hover="#e9edf2",
    line="#d3d8df",
    text="#1a1f26",
    muted="#5a6573",
    accent="#1f66d6",
    on_accent="#ffffff",
    live="#127a45",
    warning="#96610a",
    error="#c0332c",
)


def current_theme(choice: ThemeChoice) -> Theme:
    """The colours of a choice; `system` asks the desktop, and is dark where that does not say."""
    if choice == "system":
        hints = QGuiApplication.styleHints()
        light = hints is not None and hints.colorScheme() == Qt.ColorScheme.Light
        return LIGHT if light else DARK
    return LIGHT if choice == "light" else DARK


def theme_in_use() -> Theme:
    """The theme that was applied last, for widgets that paint themselves.

    Asked of the program's palette: a widget's own one also holds what the stylesheet says about that widget.
    """
    return LIGHT if QGuiApplication.palette().color(QPalette.ColorRole.Window).lightness() > 128 else DARK


def apply_theme(app: QApplication, theme: Theme) -> None:
    """Give the whole program its look; again after every change of theme."""
    app.setStyle("Fusion")
    app.setPalette(palette_of(theme))
    app.setStyleSheet(stylesheet_of(theme, QFontMetrics(app.font()).height()))


def palette_of(theme: Theme) -> QPalette:
    """The theme as Qt's palette."""
    palette = QPalette()
    role = QPalette.ColorRole
    for where, colour in (
        (role.Window, theme.window),
        (role.WindowText, theme.text),
        (role.Base, theme.surface),
        (role.AlternateBase, theme.raised),
        (role.Text, theme.text),
        (role.Button, theme.raised),
        (role.ButtonText, theme.text),
        (role.BrightText, theme.error),
        (role.ToolTipBase, theme.raised),
        (role.ToolTipText, theme.text),
        (role.PlaceholderText, theme.muted),
        (role.Highlight, theme.accent),
        (role.HighlightedText, theme.on_accent),
        (role.Accent, theme.accent),
        (role.Link, theme.accent),
        (role.Mid, theme.line),
        (role.Midlight, theme.hover),
    ):
        palette.setColor(where, QColor(colour))
    faint = QColor(theme.muted)
    faint.setAlpha(150)
    for where in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, where, faint)
    return palette


def stylesheet_of(theme: Theme, line_px: int = 0) -> str:
    """The theme as a stylesheet: spacing in multiples of 4, corners of 6 and 10 pixels.

    Args:
        theme: the colours.
        line_px: what a line of text needs. Qt lets a layout squeeze a widget down to its least height in a stylesheet,
            whatever the widget itself asks for, so that no least height may be below it.
    """
    names = {name: getattr(theme, name) for name in Theme.__dataclass_fields__}
    text = (Path(__file__).parent / "style.qss").read_text(encoding="utf-8")
    names |= {name: str(max(least_px, line_px)) for name, least_px in _LEAST_HEIGHTS_PX.items()}
    names["icons"] = _ICONS.as_posix()
    names["mode"] = "dark" if theme is DARK else "light"
    for name, value in names.items():
        text = text.replace(f"@{name}@", value)
    return text


def icon(name: str, colour: str, disabled: str, gap_px: int = 0) -> QIcon:
    """One of `assets/icons`, drawn in a colour (#rrggbb), for screens of up to twice the usual density.

    `gap_px` leaves room between it and what stands on its right.
    """
    answer = QIcon()
    for ratio in (1, 2):
        for mode, ink in ((QIcon.Mode.Normal, colour), (QIcon.Mode.Disabled, disabled)):
            answer.addPixmap(pixmap(name, ink, ICON_PX, ratio, gap_px), mode)
    return answer


def app_icon() -> QIcon:
    """The program's own."""
    answer = QIcon()
    for size_px in _APP_ICON_SIZES_PX:
        answer.addPixmap(pixmap("app", "", size_px))
    return answer


def pixmap(name: str, colour: str, size_px: int, ratio: float = 1.0, gap_px: int = 0) -> QPixmap:
    """One of `assets/icons` as a picture of `size_px` logical pixels, with a gap on its right.

    Drawn once: a window shows some two hundred, most of them the same few, and the checklist asks for its own again
    with every change.
    """
    key = f"mcnet-avatar {name} {colour} {size_px} {ratio} {gap_px}"
    kept = cast("QPixmap | None", QPixmapCache.find(key))  # PyQt's types leave the None out
    if kept is not None:
        return kept
    svg = (_ICONS / f"{name}.svg").read_text(encoding="utf-8").replace("currentColor", colour)
    picture = QPixmap(QSize(size_px + gap_px, size_px) * ratio)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, size_px * ratio, size_px * ratio))
    painter.end()
    picture.setDevicePixelRatio(ratio)
    QPixmapCache.insert(key, picture)
    return picture
