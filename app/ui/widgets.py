"""Small widgets that Qt lacks, and short ways to make those that it has."""

import html
from collections.abc import Callable, Sequence
from typing import Literal

from PyQt6.QtCore import QEvent, QObject, QPoint, QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
    QWheelEvent,
)
from PyQt6.QtWidgets import (
    QBoxLayout,
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from app.ui.languages import spoken, tr
from app.ui.theme import ICON_PX, Tone, icon, theme_in_use

ButtonKind = Literal["plain", "primary", "live", "danger", "recording", "flat", "link", "expander"]
LabelRole = Literal["text", "title", "heading", "muted", "value", "keycap", "code"]

NAME_PX = 86
"""Width of the names of sliders, so that these stand below each other; a longer name takes what it needs."""
_ICON_GAP_PX = 4
_TIP_PX = 480


def button(text: str, *, tip: str, icon_name: str = "", kind: ButtonKind = "plain", name: str = "") -> QPushButton:
    """A push button.

    Args:
        text: on it; empty for one with an icon alone.
        tip: what it does, in words; also read out by screen readers.
        icon_name: of `assets/icons`; drawn by `tint`, again after each change of theme.
        kind: how it looks.
        name: for screen readers; the text where empty.
    """
    made = QPushButton(spoken(text))
    made.setAccessibleName(spoken(name or text or tip))
    set_tip(made, tip)
    made.setProperty("kind", kind)
    made.setProperty("icon_name", icon_name)
    made.setAutoDefault(False)
    if icon_name:
        tint(made)
    return made


def set_tip(widget: QWidget, tip: str) -> None:
    """Say what something does, to those who point at it and to those who have it read out: these would get the tooltip
    itself otherwise, which may be markup.
    """
    widget.setToolTip(tip_of(tip))
    widget.setAccessibleDescription(spoken(tip))


def tip_of(text: str) -> str:
    """A text as a tooltip is given it, which Qt takes for markup where it looks like it, and breaks into lines only
    then: a long one would leave the screen, and names of files may look like anything.
    """
    said = spoken(text)
    if not looks_like_markup(said) and QFontMetrics(QToolTip.font()).horizontalAdvance(said) <= _TIP_PX:
        return said
    lines = html.escape(said, quote=False).split("\n")
    return f"<qt>{'<br>'.join(lines)}</qt>"


def looks_like_markup(text: str) -> bool:
    """Whether Qt takes a text for markup wherever it is not told otherwise."""
    return bool(Qt.mightBeRichText(text))  # type: ignore[attr-defined] # missing in PyQt6's stubs


def written(field: QLineEdit) -> str:
    """What stands in a field, without the space around it, and without the half of a character that its limit left."""
    return field.text().encode(errors="ignore").decode().strip()


def tint(made: QPushButton) -> None:
    """Draw a button's icon in the colour of its text, if it is not drawn so already."""
    if not (icon_name := made.property("icon_name")):
        return
    theme, kind = theme_in_use(), made.property("kind")
    colour = {"primary": theme.on_accent, "live": theme.window, "danger": theme.error, "recording": theme.error}.get(
        kind, theme.text
    )
    if kind == "danger" and made.isChecked():
        colour = theme.window
    gap_px = _ICON_GAP_PX if made.text() else 0
    drawn = f"{icon_name} {colour} {gap_px}"
    if made.property("icon_drawn") != drawn:
        made.setProperty("icon_drawn", drawn)
        made.setIconSize(QSize(ICON_PX + gap_px, ICON_PX))
        made.setIcon(icon(icon_name, colour, theme.muted, gap_px))


def restyle(widget: QWidget, name: str, value: str) -> None:
    """Set a property that the stylesheet looks at."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    if (style := widget.style()) is not None:
        style.unpolish(widget)
        style.polish(widget)
    if isinstance(widget, QPushButton):
        tint(widget)


def label(text: str, role: LabelRole = "text", *, wrap: bool = False) -> QLabel:
    """A piece of text; never read as markup, for it may hold names of files."""
    made = QLabel(spoken(text))
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setProperty("role", role)
    made.setWordWrap(wrap)
    return made


def panel() -> QFrame:
    """A surface with a border and rounded corners."""
    made = QFrame()
    made.setProperty("role", "panel")
    return made


def rule() -> QFrame:
    """A thin line between two groups."""
    made = QFrame()
    made.setProperty("role", "line")
    return made


class ElidedLabel(QLabel):
    """One line of text that shortens itself with dots; the whole of it is in the tooltip.

    Args:
        role: how it looks.
        takes_room: whether it asks for the room that its text needs; otherwise it takes what is left over.
    """

    def __init__(self, role: LabelRole = "muted", *, takes_room: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        wanted = QSizePolicy.Policy.Maximum if takes_room else QSizePolicy.Policy.Ignored
        self.setSizePolicy(wanted, QSizePolicy.Policy.Preferred)

    def setText(self, text: str | None) -> None:
        said = spoken(text or "")
        super().setText(said)
        set_tip(self, said)

    def minimumSizeHint(self) -> QSize:
        return QSize(24 if self.text() else 0, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        text = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), int(self.alignment()), text)


class Combo(QComboBox):
    """A drop-down that the mouse wheel changes only after a click, so that scrolling past it changes nothing."""

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        set_tip(self, tip)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None and not self.hasFocus():
            event.ignore()
        else:
            super().wheelEvent(event)

    def paintEvent(self, e: QPaintEvent | None) -> None:  # noqa: ARG002
        """As Qt does, but what is too long ends in dots."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        assert style is not None
        kind, field = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
        room_px = style.subControlRect(kind, option, field, self).width() - 4
        text = option.currentText or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, room_px)
        painter = QStylePainter(self)
        painter.drawComplexControl(kind, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class Switch(QCheckBox):
    """A check box drawn as a switch: its text on the left, the switch at the right edge; all of it can be clicked."""

    _TRACK_PX = QSize(34, 18)

    def __init__(self, text: str, tip: str) -> None:
        super().__init__(text)
        self.setAccessibleName(text)
        set_tip(self, tip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def hitButton(self, pos: QPoint) -> bool:
        return self.rect().contains(pos)

    def sizeHint(self) -> QSize:
        metrics = self.fontMetrics()
        return QSize(
            metrics.horizontalAdvance(self.text()) + self._TRACK_PX.width() + 12, max(26, metrics.height() + 8)
        )

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        palette, theme = self.palette(), theme_in_use()
        group = QPalette.ColorGroup.Normal if self.isEnabled() else QPalette.ColorGroup.Disabled
        painter.setPen(palette.color(group, QPalette.ColorRole.WindowText))
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(self.rect(), int(flags), self.text())

        # What is laid out from right to left has the text on the right and the switch at the left edge.
        left = 1 if self.isRightToLeft() else self.width() - self._TRACK_PX.width() - 1
        track = QRectF(
            left, (self.height() - self._TRACK_PX.height()) / 2, self._TRACK_PX.width(), self._TRACK_PX.height()
        )
        on = self.isChecked()
        back = QColor(theme.accent if on else theme.line)
        if not self.isEnabled():
            back.setAlpha(110)
        painter.setBrush(back)
        painter.setPen(QColor(theme.text) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.drawRoundedRect(track, track.height() / 2, track.height() / 2)
        knob = QColor(theme.on_accent if on else theme.muted)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(knob)
        middle = track.right() - track.height() / 2 if on else track.left() + track.height() / 2
        painter.drawEllipse(QPointF(middle, track.center().y()), 6.0, 6.0)


class _QuietSlider(QSlider):
    """A slider that takes the mouse wheel only when it has the focus, and jumps to where it is clicked."""

    def wheelEvent(self, e: QWheelEvent | None) -> None:
        if e is not None and not self.hasFocus():
            e.ignore()
        else:
            super().wheelEvent(e)

    def mousePressEvent(self, ev: QMouseEvent | None) -> None:
        if ev is not None and ev.button() == Qt.MouseButton.LeftButton:
            reach = max(1, self.width() - 14)
            offset = round(ev.position().x()) - 7
            self.setValue(QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), offset, reach))
        super().mousePressEvent(ev)


class ValueSlider(QWidget):
    """A named slider over a real number, its value in words beside it.

    A double click on the name resets it, and so does Backspace.

    Args:
        name: of what is set.
        tip: what it does.
        low, high, default: of the number.
        step: of one press of an arrow key.
        words: the value for people.
        stacked: the slider lies below its name, for a narrow column.

    Signals:
        moved: the new number, when the user moves the slider.
    """

    moved = pyqtSignal(float)

    def __init__(
        self,
        name: str,
        tip: str,
        *,
        low: float,
        high: float,
        default: float,
        step: float,
        words: Callable[[float], str],
        stacked: bool = False,
    ) -> None:
        super().__init__()
        self._low, self._step, self._default, self._words = low, step, default, words
        tip = tr("{tip} Double-click the name, or press Backspace, for {words}.", tip=tip, words=words(default))
        self.name_label = label(name)
        self.name_label.setMinimumWidth(NAME_PX)
        self.value_label = label("", "value")
        self.value_label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.value_label.setMinimumWidth(54)
        self.slider = _QuietSlider(Qt.Orientation.Horizontal)
        self.slider.setLayoutDirection(Qt.LayoutDirection.LeftToRight)  # as the stylesheet fills it
        self.slider.setRange(0, round((high - low) / step))
        self.slider.setPageStep(max(1, self.slider.maximum() // 10))
        self.slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.slider.setAccessibleName(spoken(name))
        self.slider.setAccessibleDescription(tip)
        set_tip(self, tip)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.name_label, 0, 0)
        grid.addWidget(self.slider, *((1, 0, 1, 3) if stacked else (0, 1)))
        grid.addWidget(self.value_label, 0, 2)
        self.slider.valueChanged.connect(self._tell)
        self.set_value(default)

    @property
    def value(self) -> float:
        """The number, rounded to the slider's steps."""
        return round(self._low + self.slider.value() * self._step, 6)

    def set_value(self, value: float) -> None:
        """Show a number without telling that it moved."""
        self.slider.blockSignals(True)
        self.slider.setValue(round((value - self._low) / self._step))
        self.slider.blockSignals(False)
        self.refresh_words()

    def refresh_words(self) -> None:
        """Write the value again: its words may depend on more than the number."""
        self.value_label.setText(self._words(self.value))

    def _reset(self) -> None:
        self.set_value(self._default)
        self._tell()

    def _tell(self) -> None:
        self.refresh_words()
        self.moved.emit(self.value)

    def mouseDoubleClickEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is not None and self.name_label.geometry().contains(a0.position().toPoint()):
            self._reset()

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        if a0 is not None and a0.key() == Qt.Key.Key_Backspace:  # which the slider, that has the focus, leaves to us
            self._reset()
        else:
            super().keyPressEvent(a0)


class Expander(QWidget):
    """A button that shows and hides what lies below it.

    Attributes:
        button: the one.
        body: takes what lies below.

    Signals:
        toggled: whether it is open now, when the user opens or closes it.
    """

    toggled = pyqtSignal(bool)

    def __init__(self, text: str, tip: str) -> None:
        super().__init__()
        self.button = button(text, tip=tip, icon_name="right", kind="expander")
        self.button.setCheckable(True)
        self._remark = label("", "value")
        self._area = QWidget()
        self._area.hide()
        self.body = QVBoxLayout(self._area)
        self.body.setContentsMargins(12, 0, 0, 4)
        self.body.setSpacing(8)
        head = QHBoxLayout()
        head.addWidget(self.button)
        head.addStretch(1)
        head.addWidget(self._remark)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self._area)
        self.button.clicked.connect(self._clicked)

    @property
    def remark(self) -> str:
        """What is written beside the button."""
        return self._remark.text()

    def set_remark(self, text: str) -> None:
        """Say beside the button, in a word or two, what lies below."""
        self._remark.setText(text)

    def set_open(self, opened: bool) -> None:
        """Show or hide what lies below, without telling."""
        self.button.setChecked(opened)
        self.button.setProperty("icon_name", "down" if opened else "right")
        tint(self.button)
        self._area.setVisible(opened)

    def _clicked(self, opened: bool) -> None:
        self.set_open(opened)
        self.toggled.emit(opened)


class SideBySide(QWidget):
    """Its widgets stand side by side, equally wide, where there is room, and otherwise one below the other.

    Args:
        spacing_px: between them.
        least_px: what each of them needs at least to stand beside another.
    """

    def __init__(self, spacing_px: int, least_px: int = 0) -> None:
        super().__init__()
        self._least_px = least_px
        self._line = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._line.setContentsMargins(0, 0, 0, 0)
        self._line.setSpacing(spacing_px)

    def add(self, widget: QWidget) -> None:
        """Put another one at the end."""
        self._line.addWidget(widget, 1)

    @property
    def stacked(self) -> bool:
        """Whether they stand one below the other."""
        return self._line.direction() == QBoxLayout.Direction.TopToBottom

    def _widths_px(self) -> list[int]:
        """What each of them needs."""
        items = [self._line.itemAt(at) for at in range(self._line.count())]
        return [max(self._least_px, item.minimumSize().width()) for item in items if item is not None]

    def fit(self) -> None:
        """Stand as the width allows."""
        widths_px = self._widths_px()
        needed_px = sum(widths_px) + self._line.spacing() * (len(widths_px) - 1)
        stacked = needed_px > self.width()
        if stacked != self.stacked:
            way = QBoxLayout.Direction.TopToBottom if stacked else QBoxLayout.Direction.LeftToRight
            self._line.setDirection(way)

    def minimumSizeHint(self) -> QSize:
        return QSize(max(self._widths_px(), default=0), super().minimumSizeHint().height())

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self.fit()


class ColumnScroll(QScrollArea):
    """Scrolls a widget up and down, and is as wide as that needs: nothing is cut at its right."""

    def __init__(self, body: QWidget, least_height_px: int = 64) -> None:
        super().__init__()
        self._least_height_px = least_height_px
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setWidget(body)

    def minimumSizeHint(self) -> QSize:
        body, bar = self.widget(), self.verticalScrollBar()
        if body is None or bar is None:  # while it is being made
            return super().minimumSizeHint()
        return QSize(body.minimumSizeHint().width() + bar.sizeHint().width(), self._least_height_px)

    def sizeHint(self) -> QSize:
        body = self.widget()
        height = self._least_height_px if body is None else body.sizeHint().height()
        return QSize(self.minimumSizeHint().width(), max(self._least_height_px, height))

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        if a1 is not None and a1.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(a0, a1)


class Segmented(SideBySide):
    """A few choices side by side, one of them taken; one below the other where their texts are too long.

    Signals:
        chosen: the key of the choice that the user took.
    """

    chosen = pyqtSignal(str)

    def __init__(self, name: str, choices: Sequence[tuple[str, str, str]]) -> None:
        """Make it from (key, text, tooltip) of each choice."""
        super().__init__(0)
        self.setAccessibleName(name)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QPushButton] = {}
        for key, text, tip in choices:
            made = button(text, tip=tip, name=tr("{name}: {text}", name=name, text=text))
            made.setProperty("kind", "segment")
            made.setCheckable(True)
            made.clicked.connect(lambda _=False, key=key: self.chosen.emit(key))
            self._group.addButton(made)
            self._buttons[key] = made
            self.add(made)
        self._shape()

    def fit(self) -> None:
        super().fit()
        self._shape()

    def _shape(self) -> None:
        """Round the corners at the ends of the row; in a column, each choice's own."""
        last = len(self._buttons) - 1
        for number, made in enumerate(self._buttons.values()):
            place = "alone" if self.stacked else "first" if number == 0 else "last" if number == last else "middle"
            restyle(made, "place", place)

    def button(self, key: str) -> QPushButton:
        """The button of a choice."""
        return self._buttons[key]

    def set_choice(self, key: str) -> None:
        """Show a choice as taken, without telling."""
        self._buttons[key].setChecked(True)


def percent(value: float) -> str:
    """A share, as sliders say it."""
    return tr("{percent:.0f} %", percent=100 * value)


def tone_colour(tone: Tone) -> QColor:
    """The colour of a tone of voice."""
    return QColor(theme_in_use().tone(tone))
