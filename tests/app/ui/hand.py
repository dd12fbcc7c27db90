"""A user's hand. PyQt6's stubs take QTest's functions for methods, and pytest-qt's are untyped."""

from typing import Any, cast

from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QWidget

_TEST = cast(Any, QTest)
NO_MODIFIER = Qt.KeyboardModifier.NoModifier


def press(widget: QWidget, keys: str) -> None:
    """Type letters and digits."""
    for key in keys:
        _TEST.keyClick(widget, key)


def press_key(widget: QWidget, key: Qt.Key, modifier: Qt.KeyboardModifier = NO_MODIFIER) -> None:
    """Press one key."""
    _TEST.keyClick(widget, key, modifier)


def click(widget: QWidget, at: QPoint | None = None) -> None:
    """Click with the left button, in the middle unless told where."""
    _TEST.mouseClick(widget, Qt.MouseButton.LeftButton, NO_MODIFIER, at or widget.rect().center())


def double_click(widget: QWidget, at: QPoint) -> None:
    _TEST.mouseDClick(widget, Qt.MouseButton.LeftButton, NO_MODIFIER, at)


def drag(widget: QWidget, start: QPoint, end: QPoint) -> None:
    """Press, move, release."""
    _TEST.mousePress(widget, Qt.MouseButton.LeftButton, NO_MODIFIER, start)
    _TEST.mouseMove(widget, end)
    _TEST.mouseRelease(widget, Qt.MouseButton.LeftButton, NO_MODIFIER, end)
