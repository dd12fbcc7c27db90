"""The portraits on the left."""

from typing import TYPE_CHECKING

from PyQt6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QFont, QImage, QKeySequence, QPainter, QPainterPath, QPen, QShortcut
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
)

from app.ui.languages import tr
from app.ui.portrait_desk import PortraitDesk
from app.ui.theme import theme_in_use
from app.ui.widgets import ElidedLabel, button, label, set_tip, tip_of, written
from mcnet.phrases import listed

if TYPE_CHECKING:
    from app.pipeline.portraits import Portrait

GALLERY_PX = 220
"""Two portraits side by side."""
_CELL_PX = 90
_LONGEST_NAME = 80
_PICTURE_PX = 84
_BADGE_PX = 16
_KEY = Qt.ItemDataRole.UserRole
_PICTURE = _KEY + 1
_BUSY = _KEY + 2


class Gallery(QFrame):
    """Shows the desk's portraits, and passes the user's wishes on to it.

    Attributes:
        list: the portraits.
        add_button, paste_button, crop_button, remove_button, rename_button: what can be done.
        name_field: takes another name, while `renaming`.

    Signals:
        add_wanted: the user wants to pick a file.
        paste_wanted: the user wants the clipboard's picture.
    """

    add_wanted = pyqtSignal()
    paste_wanted = pyqtSignal()

    def __init__(self, desk: PortraitDesk) -> None:
        super().__init__()
        self.setProperty("role", "panel")
        self.setFixedWidth(GALLERY_PX)
        self._desk = desk
        self._marked = ""
        self._portrait: Portrait | None = None
        self._renamed = ""
        self.list = QListWidget()
        self.list.setObjectName("Gallery")
        self.list.setAccessibleName(tr("Portraits"))
        self.list.setViewMode(QListView.ViewMode.IconMode)
        self.list.setMovement(QListView.Movement.Static)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setGridSize(QSize(_CELL_PX, _CELL_PX))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setUniformItemSizes(True)
        self.list.setItemDelegate(_Thumbnails(self.list))
        self.add_button = button(
            tr("Add…"), tip=tr("Add a picture of yours (Ctrl+O), or drop one anywhere"), icon_name="add"
        )
        self.paste_button = button(
            "", tip=tr("Add the picture in the clipboard (Ctrl+V)"), icon_name="paste", name=tr("Paste a picture")
        )
        self.crop_button = button(
            "", tip=tr("See and adjust the crop"), icon_name="crop", kind="flat", name=tr("Adjust the crop")
        )
        self.remove_button = button(
            "",
            tip=tr("Take this picture of yours out of the gallery (Delete)"),
            icon_name="remove",
            kind="flat",
            name=tr("Remove"),
        )
        self.rename_button = button(
            "",
            tip=tr("Call this picture of yours something else (F2)"),
            icon_name="rename",
            kind="flat",
            name=tr("Rename"),
        )
        self._name = ElidedLabel("title")
        self.name_field = QLineEdit()
        self.name_field.setAccessibleName(tr("Name of the portrait"))
        set_tip(self.name_field, tr("Enter keeps the name, Escape the one before."))
        self.name_field.setMaxLength(_LONGEST_NAME)
        self.name_field.hide()
        self._score = label("", "muted", wrap=True)
        self._score.setAccessibleName(tr("Score of the portrait"))

        head = QHBoxLayout()
        head.addWidget(label(tr("Portraits"), "title"))
        head.addStretch(1)
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.add_button, 1)
        buttons.addWidget(self.paste_button)
        chosen = QHBoxLayout()
        chosen.setSpacing(2)
        chosen.addWidget(self._name, 1)
        chosen.addWidget(self.name_field, 1)
        chosen.addWidget(self.rename_button)
        chosen.addWidget(self.crop_button)
        chosen.addWidget(self.remove_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 8, 12)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.list, 1)
        column.addLayout(chosen)
        column.addWidget(self._score)
        column.addLayout(buttons)

        self.add_button.clicked.connect(self.add_wanted)
        self.paste_button.clicked.connect(self.paste_wanted)
        self.crop_button.clicked.connect(lambda: desk.crop(desk.current))
        self.remove_button.clicked.connect(lambda: desk.remove(desk.current))
        delete = QShortcut(QKeySequence.StandardKey.Delete, self.list)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        delete.setAutoRepeat(False)  # a key that is held down would empty the gallery
        delete.activated.connect(self._remove_highlighted)
        self.rename_button.clicked.connect(self.begin_renaming)
        self.name_field.editingFinished.connect(self._end_renaming)
        self.list.itemClicked.connect(self._choose)
        self.list.itemActivated.connect(self._choose)
        desk.changed.connect(self._refresh)
        self._refresh()

    @property
    def name(self) -> str:
        """What the portrait in use is called."""
        return self._name.text()

    @property
    def score(self) -> str:
        """What is said about the portrait in use."""
        return self._score.text()

    @property
    def renaming(self) -> bool:
        """Whether the user writes another name."""
        return not self.name_field.isHidden()

    def begin_renaming(self) -> None:
        """Let the user write another name for the portrait in use, if that is one of his own."""
        if self.rename_button.isHidden():
            return
        self.name_field.setText(self.name)
        self._renamed = self._desk.current
        self._name.hide()
        self.name_field.show()
        self.name_field.selectAll()
        self.name_field.setFocus()

    def cancel_renaming(self) -> None:
        """Leave the name as it was."""
        self._renamed = ""
        self.name_field.hide()
        self._name.show()
        self.list.setFocus()

    def _end_renaming(self) -> None:
        key, name = self._renamed, written(self.name_field)
        if key:  # Enter tells it, and so does the focus that goes then
            self.cancel_renaming()
            if name:
                self._desk.rename(key, name)

    def set_portrait(self, portrait: "Portrait | None") -> None:
        """Say how well the portrait in use should animate, and why."""
        self._portrait = portrait
        self._show_score()

    def _show_score(self) -> None:
        """Of the portrait whose name stands above it; while another one is read, there is none yet."""
        portrait, current = self._portrait, self._desk.current
        if portrait is None or portrait.entry.key != current:
            self._score.setText(tr("One moment: it is being read…") if current else "")
            return
        if portrait.remarks:
            remarks = listed(portrait.remarks)
            self._score.setText(tr("Score {score} of 100: {remarks}", score=portrait.score, remarks=remarks))
        else:
            self._score.setText(tr("Score {score} of 100", score=portrait.score))

    def _choose(self, item: QListWidgetItem) -> None:
        self._desk.choose(str(item.data(_KEY)))

    def _remove_highlighted(self) -> None:
        """The arrow keys move the ring without choosing: what is removed is what has the ring."""
        if (item := self.list.currentItem()) is not None:
            self._desk.remove(str(item.data(_KEY)))

    def _refresh(self) -> None:
        desk = self._desk
        highlighted, row_before = self.list.currentItem(), self.list.currentRow()
        mark = desk.current if highlighted is None or desk.current != self._marked else str(highlighted.data(_KEY))
        self._marked = desk.current
        keys = [entry.key for entry in desk.entries]
        self._show_entries()
        for row, entry in enumerate(desk.entries):
            item = self._item(row)
            item.setText(entry.name)
            item.setData(_PICTURE, desk.thumbnails.get(entry.key))
            item.setData(_BUSY, entry.key == desk.pending)
        if mark and mark not in keys and keys:  # the next one, which is no other than the eye is on
            mark = keys[min(row_before, len(keys) - 1)]
        if mark in keys and self.list.currentRow() != keys.index(mark):
            self.list.setCurrentRow(keys.index(mark))
        chosen = next((entry for entry in desk.entries if entry.key == desk.current), None)
        self._name.setText(chosen.name if chosen else "")
        self._show_score()
        self.crop_button.setEnabled(chosen is not None)
        own = chosen is not None and not chosen.bundled
        self.remove_button.setVisible(own)
        self.rename_button.setVisible(own)
        if self._renamed and self._renamed != desk.current:
            self.cancel_renaming()
        for row, entry in enumerate(desk.entries):
            tip = tr("{name} (key {key})", name=entry.name, key=row + 1) if row < 9 else entry.name
            self._item(row).setToolTip(tip_of(tip))

    def _show_entries(self) -> None:
        """Have an item for each portrait: those that stay are left as they are, or the list would scroll."""
        entries = self._desk.entries
        keys = [entry.key for entry in entries]
        shown = [str(self._item(row).data(_KEY)) for row in range(self.list.count())]
        if shown == keys:
            return
        stay = set(shown) & set(keys)
        if [key for key in shown if key in stay] != [key for key in keys if key in stay]:  # in another order
            self.list.clear()
            shown, stay = [], set()
        for row in reversed(range(len(shown))):
            if shown[row] not in stay:
                self.list.takeItem(row)
        for row, entry in enumerate(entries):
            if entry.key not in stay:
                item = QListWidgetItem(entry.name)
                item.setData(_KEY, entry.key)
                item.setSizeHint(QSize(_CELL_PX, _CELL_PX))
                self.list.insertItem(row, item)

    def _item(self, row: int) -> QListWidgetItem:
        item = self.list.item(row)
        assert item is not None
        return item


class _Thumbnails(QStyledItemDelegate):
    """Paints a portrait with rounded corners, its number, and a ring round the chosen one."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        del option, index
        return QSize(_CELL_PX, _CELL_PX)

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        if painter is None:
            return
        theme = theme_in_use()
        place = QRectF(option.rect)
        place = QRectF(
            place.center().x() - _PICTURE_PX / 2, place.center().y() - _PICTURE_PX / 2, _PICTURE_PX, _PICTURE_PX
        )
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        shape = QPainterPath()
        shape.addRoundedRect(place, 8, 8)
        painter.setClipPath(shape)
        painter.fillRect(place, QColor(theme.raised))
        picture = index.data(_PICTURE)
        if isinstance(picture, QImage):
            painter.drawImage(place, picture)
        if index.data(_BUSY):
            painter.fillRect(place, QColor(10, 12, 15, 140))
            painter.setPen(QColor("#e7eaee"))
            painter.drawText(place, int(Qt.AlignmentFlag.AlignCenter), "…")
        painter.setClipping(False)
        if index.row() < 9:
            font = QFont(option.font)
            font.setPointSizeF(font.pointSizeF() * 0.85)
            painter.setFont(font)
            side_px = max(_BADGE_PX, painter.fontMetrics().height())
            badge = QRectF(place.left() + 4, place.top() + 4, side_px, side_px)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(10, 12, 15, 150))
            painter.drawRoundedRect(badge, 4, 4)
            painter.setPen(QColor("#e7eaee"))
            painter.drawText(badge, int(Qt.AlignmentFlag.AlignCenter), str(index.row() + 1))
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        hovered = bool(option.state & QStyle.StateFlag.State_MouseOver)
        focused = bool(option.state & QStyle.StateFlag.State_HasFocus)
        if selected or hovered or focused:
            colour = theme.accent if selected else theme.text if focused else theme.muted
            painter.setPen(QPen(QColor(colour), 3 if selected and focused else 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(place, 8, 8)
        painter.restore()
