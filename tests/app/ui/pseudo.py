"""A language that nobody speaks, in which every text of ours is 40 % longer and looks odd.

What does not look odd was not translated, and what does not fit will not fit in somebody's language.
"""

import re
from collections.abc import Iterator

from PyQt6.QtCore import QTranslator
from PyQt6.QtGui import QAction
from PyQt6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QWidget,
)

from app.ui.languages import CONTEXT, LANGUAGES

_PLACE = re.compile(r"(\{\w+(?::[^{}]*)?\}|\{\{|\}\})")
_WORD = re.compile(r"(?<![\wÄĝüñ])[A-Za-z]{3,}(?![\wÄĝüñ])")
_ANYWHERE = (
    "mcnet avatar starter released cuda cpu torch cudagraph openvino dev video AMD NVIDIA OBS GPU PipeWire Ctrl Alt "
    "Shift Meta"
)
"""What is called the same in any language."""


def lengthen(text: str) -> str:
    """As in a language whose words are 40 % longer, with marks above and below them. What is no word stays."""
    if "/" in text and " " not in text:
        return text
    return re.sub(r"[A-Za-z]{3,}", lambda word: word[0] + ("Äĝüñ" * 9)[: -(-4 * len(word[0]) // 10)], text)


class PseudoTranslator(QTranslator):
    """Translates every text of ours into that language."""

    def translate(  # type: ignore[override] # None says that there is none
        self, context: str | None, source: str | None, disambiguation: str | None = None, n: int = -1
    ) -> str | None:
        if context != CONTEXT or source is None:
            return None
        parts = _PLACE.split(source)
        return "".join(part if _PLACE.fullmatch(part) else lengthen(part) for part in parts)


def speak_pseudo(app: QApplication) -> PseudoTranslator:
    """Have everything said in that language from now on, in this process, until the translator is removed."""
    translator = PseudoTranslator(app)
    app.installTranslator(translator)
    return translator


def texts_of(window: QWidget) -> Iterator[str]:
    """Every text of a window's widgets, shown or not: what is read, pointed at or read out."""
    for widget in (window, *window.findChildren(QWidget)):
        if type(widget).__module__.startswith("PyQt6") and widget.objectName().startswith("qt_"):
            continue
        yield from (widget.toolTip(), widget.accessibleName(), widget.accessibleDescription())
        if isinstance(widget, QLabel | QAbstractButton) and widget.property("role") != "code":
            yield widget.text()
        elif isinstance(widget, QComboBox):
            yield widget.placeholderText()
            yield from (widget.itemText(row) for row in range(widget.count()))
        elif isinstance(widget, QLineEdit):
            yield widget.placeholderText()
        elif isinstance(widget, QListWidget):
            yield from (item.toolTip() for row in range(widget.count()) if (item := widget.item(row)) is not None)
    for action in window.findChildren(QAction):
        yield from (action.text(), action.toolTip())


def untranslated(texts: Iterator[str] | list[str], data: str = "") -> list[str]:
    """Those that have a word in them which is neither of that language nor data.

    Args:
        texts: to look at.
        data: all that comes from outside of the program, as names of files.
    """
    known = set(re.findall(r"[A-Za-z]{3,}", " ".join([data, _ANYWHERE, *LANGUAGES.values()])))
    return [text for text in dict.fromkeys(texts) if set(_WORD.findall(_whole_words(text))) - known]


def _whole_words(text: str) -> str:
    """Without the word that dots cut off."""
    return re.sub(r"\S*…$", "", text)
