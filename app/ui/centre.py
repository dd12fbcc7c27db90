"""The middle of the window: the preview or a page in its place, a notice over it, and what belongs to it below."""

from PyQt6.QtCore import QRect
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from app.ui.actions import ActionBar
from app.ui.checklist import ChainRow, Checklist
from app.ui.messages import MessageBar
from app.ui.preview import Preview

_SPACING_PX = 10
_PAGE_PX = 260
"""What is left to the page where the first steps are all shown."""
_BESIDE_PX = 12
_BELOW_PILL_PX = 18


class Centre(QWidget):
    """Lays out the middle column.

    A notice lies over the preview, which stays where it is; a page that takes the preview's place makes room for it.

    Attributes:
        pages: the preview, and what takes its place for a while.
    """

    def __init__(
        self,
        preview: Preview,
        pages: QStackedWidget,
        messages: MessageBar,
        actions: ActionBar,
        checklist: Checklist,
        chain_row: ChainRow,
    ) -> None:
        super().__init__()
        self.pages = pages
        self._preview, self._messages, self._checklist = preview, messages, checklist
        self._around = QVBoxLayout()
        self._around.setContentsMargins(0, 0, 0, 0)
        self._around.addWidget(pages)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(_SPACING_PX)
        column.addLayout(self._around, 1)
        column.addWidget(actions)
        column.addWidget(checklist)
        column.addWidget(chain_row)
        self._actions, self._chain_row = actions, chain_row
        self._steps_wanted = False
        messages.setParent(self)
        messages.changed.connect(self._make_room)
        pages.currentChanged.connect(self._make_room)
        preview.laid_out.connect(self._place_notice)

    def show_steps(self, wanted: bool) -> None:
        """Show the first steps below the preview, or the chain in their place."""
        self._steps_wanted = wanted
        self._chain_row.setVisible(not wanted)
        self._fit()

    def _fit(self) -> None:
        """Show as many of the first steps as there is room for: none below a page that needs all of it."""
        room_px = self.height() - self._actions.sizeHint().height() - 2 * _SPACING_PX - _PAGE_PX
        room_px -= self._around.contentsMargins().top()
        changed = self._checklist.fit(self.width(), room_px)
        shown = self._steps_wanted and (self._over_preview or self._checklist.minimumSizeHint().height() <= room_px)
        changed = changed or shown == self._checklist.isHidden()
        self._checklist.setVisible(shown)
        if changed:
            # Qt may be laying out just now, and would leave what it has done already as it is.
            for widget in (self._checklist, self):
                if (layout := widget.layout()) is not None:
                    layout.activate()

    @property
    def _over_preview(self) -> bool:
        return self.pages.currentWidget() is self._preview

    def _make_room(self) -> None:
        """Move a page, but for the preview, out of the notice's way."""
        shown = bool(self._messages.messages) and not self._over_preview
        height = self._messages.height_for(self.width(), self.height() // 4) if shown else 0
        self._around.setContentsMargins(0, height + _SPACING_PX if shown else 0, 0, 0)
        if shown:
            self._messages.setGeometry(0, 0, self.width(), height)
        self._place_notice()
        self._messages.raise_()
        self._fit()

    def _place_notice(self) -> None:
        """Put the notice over the preview, if that is shown."""
        if self._messages.messages and self._over_preview:
            self._messages.setGeometry(self._place_over_preview())

    def _place_over_preview(self) -> QRect:
        """Below the words of the state, and above the user's own picture."""
        picture = self._preview.picture_rect().toRect().translated(self.pages.pos())
        left, top = picture.left() + _BESIDE_PX, picture.top() + _BELOW_PILL_PX
        width = picture.width() - 2 * _BESIDE_PX
        bottom = picture.bottom() - _BESIDE_PX
        inset = self._preview.inset
        if inset is not None and inset.isVisibleTo(self._preview):
            bottom = self.pages.y() + inset.y() - 4
        return QRect(left, top, width, self._messages.height_for(width, bottom - top))

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self._make_room()
