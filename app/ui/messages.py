"""What went wrong and what to do, one message at a time, in the window's own space."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PyQt6.QtCore import Qt, QTimer, pyqtSignal
from PyQt6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QStyle

from app.ui.languages import spoken, tr
from app.ui.theme import pixmap, theme_in_use
from app.ui.widgets import ColumnScroll, button, label, restyle
from mcnet.errors import UserError

logger = logging.getLogger(__name__)

_INFO_MS = 6000
_ACTION_MS = 20000


@dataclass(frozen=True)
class Message:
    """Something that the user should know.

    Attributes:
        key: what it is about, as "camera": a newer message of the same key takes the older one's place, and it can be
            taken back by its key once it is no longer true.
        text: what happened and what to do; a phrase is translated when it is shown.
        tone: `info` goes away by itself, later where it has an action, and for other such news where it has none.
        action: text of a button, or "".
        act: what the button does.
        stays: it is put behind the others rather than away, as long as it is true: there is no other way to act.
    """

    key: str
    text: str
    tone: Literal["error", "warning", "info"] = "error"
    action: str = ""
    act: Callable[[], None] | None = None
    stays: bool = False


def failure_message(key: str, error: Exception, action: str = "", act: Callable[[], None] | None = None) -> Message:
    """What to show of an error: our own messages as they are; others are logged, and shown as what nobody expected.

    Args:
        key: what the message is about.
        error: what went wrong.
        action: text of a button, or "".
        act: what the button does.
    """
    if isinstance(error, UserError):
        return Message(key, str(error), action=action, act=act)
    logger.error("unexpected error about the %s", key, exc_info=error)
    return Message(key, tr("Something unexpected went wrong ({key}): {error}.", key=key, error=repr(error)))


class MessageBar(QFrame):
    """Shows one message; the others wait their turn, errors first.

    Attributes:
        messages: what is shown and what waits, the first one shown.

    Signals:
        changed: it shows something else, or nothing any more, and may need another place.
    """

    changed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("MessageBar")
        self.messages: list[Message] = []
        self._icon = QLabel()
        self._text = label("", wrap=True)
        self._text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._text.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._more = label("", "muted")
        self.action_button = button("", tip=tr("Do what the message proposes"), kind="link")
        self.close_button = button(
            "", tip=tr("Put this message away"), icon_name="close", kind="flat", name=tr("Dismiss")
        )
        scroll = ColumnScroll(self._text, least_height_px=self.fontMetrics().height())
        scroll.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(12, 6, 6, 6)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._grid.setRowStretch(0, 1)
        self._grid.addWidget(self._icon, 0, 0)
        self._grid.addWidget(scroll, 0, 1)
        self._foot = QHBoxLayout()
        self._foot.setSpacing(10)
        self._foot.addWidget(self.action_button)
        self._foot.addWidget(self._more)
        self._foot.addStretch(1)
        self._grid.addLayout(self._foot, 1, 1)
        self._grid.addWidget(self.close_button, 0, 2, Qt.AlignmentFlag.AlignTop)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.dismiss)
        self.close_button.clicked.connect(self.dismiss)
        self.action_button.clicked.connect(self._act)
        self.hide()

    @property
    def text(self) -> str:
        """What is shown, or "" where nothing is."""
        return self.messages[0].text if self.messages else ""

    def height_for(self, width_px: int, most_px: int) -> int:
        """The height that it needs at a width, up to a limit beyond which its text scrolls, but for one line."""
        margins, gap_px = self._grid.contentsMargins(), self._grid.horizontalSpacing()
        room_px = width_px - margins.left() - margins.right() - 2 * gap_px
        room_px -= self._icon.sizeHint().width() + self.close_button.sizeHint().width()
        foot = [made.sizeHint().height() for made in (self.action_button, self._more) if not made.isHidden()]
        around_px = margins.top() + margins.bottom() + (max(foot) + self._grid.verticalSpacing() if foot else 0)
        line_px = self._text.fontMetrics().lineSpacing()
        text_px = self._text.heightForWidth(room_px)
        if text_px + around_px > most_px:
            style = self.style()
            bar_px = 0 if style is None else style.pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
            lines = max(1, (most_px - around_px) // line_px)  # whole ones
            text_px = min(self._text.heightForWidth(room_px - bar_px), lines * line_px)
        return max(text_px, self.close_button.sizeHint().height()) + around_px

    def show_message(self, message: Message) -> None:
        """Show a message, or have it wait while an error is shown."""
        others = [other for other in self.messages if other.key != message.key]
        if message.tone == "info":
            others = [other for other in others if other.tone != "info" or other.action]
        rank = {"error": 0, "warning": 1, "info": 2}
        self.messages = sorted([message, *others], key=lambda one: rank[one.tone])
        self._show_first()

    def clear(self, key: str) -> None:
        """Take a message back: what it was about is well again."""
        self.messages = [other for other in self.messages if other.key != key]
        self._show_first()

    def dismiss(self) -> None:
        """Put the shown message away, or behind those that wait if it stays."""
        self.messages = self.messages[1:] + [one for one in self.messages[:1] if one.stays]
        self._show_first()

    def refresh_theme(self) -> None:
        """Draw the icons again."""
        self._show_first()

    def _act(self) -> None:
        act = self.messages[0].act
        self.dismiss()
        if act is not None:
            act()

    def _show_first(self) -> None:
        self._timer.stop()
        self.setVisible(bool(self.messages))
        if not self.messages:
            self.changed.emit()
            return
        first = self.messages[0]
        text, action = spoken(first.text), spoken(first.action)
        self._text.setText(text)
        self._icon.setPixmap(pixmap(first.tone, theme_in_use().tone(first.tone), 18, self.devicePixelRatioF()))
        waiting = len(self.messages) - 1
        self._more.setText(tr("{number} more", number=waiting) if waiting else "")
        self._more.setVisible(bool(waiting))
        self.close_button.setVisible(bool(waiting) or not first.stays)
        self.action_button.setVisible(bool(first.action))
        self.action_button.setText(action)
        self.action_button.setAccessibleName(action)
        restyle(self, "tone", first.tone)
        self.setAccessibleName(text)
        self.changed.emit()
        if first.tone == "info":
            self._timer.start(_ACTION_MS if first.action else _INFO_MS)
