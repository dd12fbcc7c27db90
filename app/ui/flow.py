"""A row of widgets that goes on in the next line where it is too long."""

from PyQt6.QtCore import QRect, QSize, Qt
from PyQt6.QtWidgets import QLayout, QLayoutItem, QStyle, QWidget


class FlowLayout(QLayout):
    """Widgets one after the other, each as wide as it wants to be, in as many lines as they need.

    Args:
        parent: whose layout it is, or None where it is put into another layout.
        spacing_px: between widgets and between lines.
    """

    def __init__(self, parent: QWidget | None = None, spacing_px: int = 8) -> None:
        super().__init__(parent)
        self.setContentsMargins(0, 0, 0, 0)
        self.setSpacing(spacing_px)
        self._items: list[QLayoutItem] = []
        self._spring_at = -1

    def add_spring(self) -> None:
        """What is added next stands at the right end of its line."""
        self._spring_at = len(self._items)

    def _lines(self, width: int) -> list[list[QLayoutItem]]:
        """What is shown, line by line."""
        lines: list[list[QLayoutItem]] = []
        left_px = -1
        for item in self._items:
            if item.isEmpty():
                continue
            needed_px = item.sizeHint().width() + self.spacing()
            if needed_px > left_px:
                lines.append([])
                left_px = width + self.spacing()
            lines[-1].append(item)
            left_px -= needed_px
        return lines

    def _heights(self, lines: list[list[QLayoutItem]]) -> list[int]:
        return [max(item.sizeHint().height() for item in line) for line in lines]

    # Qt

    def addItem(self, a0: QLayoutItem | None) -> None:
        if a0 is not None:
            self._items.append(a0)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, a0: int) -> int:
        heights = self._heights(self._lines(a0))
        return sum(heights) + self.spacing() * max(0, len(heights) - 1)

    def setGeometry(self, a0: QRect) -> None:
        super().setGeometry(a0)
        lines = self._lines(a0.width())
        spring = self._items[self._spring_at] if 0 <= self._spring_at < len(self._items) else None
        parent = self.parentWidget()
        direction = Qt.LayoutDirection.LeftToRight if parent is None else parent.layoutDirection()
        y = a0.top()
        for line, height in zip(lines, self._heights(lines), strict=True):
            x = a0.left()
            used_px = sum(item.sizeHint().width() for item in line) + self.spacing() * (len(line) - 1)
            for item in line:
                if item is spring:
                    x += max(0, a0.width() - used_px)
                hint = item.sizeHint()
                place = QRect(x, y + (height - hint.height()) // 2, hint.width(), hint.height())
                item.setGeometry(QStyle.visualRect(direction, a0, place))
                x += hint.width() + self.spacing()
            y += height + self.spacing()

    def sizeHint(self) -> QSize:
        shown = [item.sizeHint() for item in self._items if not item.isEmpty()]
        width = sum(hint.width() for hint in shown) + self.spacing() * max(0, len(shown) - 1)
        return QSize(width, max((hint.height() for hint in shown), default=0))

    def minimumSize(self) -> QSize:
        shown = [item.sizeHint() for item in self._items if not item.isEmpty()]
        return QSize(
            max((hint.width() for hint in shown), default=0), max((hint.height() for hint in shown), default=0)
        )
