"""The window's columns: portraits, the middle, controls. In a narrow window the outer two take turns in one place."""

from typing import Literal, cast

from PyQt6.QtCore import QEvent
from PyQt6.QtGui import QResizeEvent
from PyQt6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.ui.centre import Centre
from app.ui.controls import Controls
from app.ui.gallery import GALLERY_PX, Gallery
from app.ui.languages import tr
from app.ui.status import StatisticsPanel
from app.ui.widgets import Segmented

Side = Literal["portraits", "controls"]

_MARGIN_PX = 10
_SPACING_PX = 12
_CENTRE_PX = 500
"""Where less than this is left to the middle, the outer columns take turns."""


class Columns(QWidget):
    """Lays out the columns.

    Attributes:
        folded: whether portraits and controls take turns on the left.
        side: which of them is shown then.
        turns: says which, and lets the user change it.
    """

    def __init__(
        self, gallery: Gallery, centre: Centre, controls: Controls, statistics: StatisticsPanel, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.folded = False
        self.side: Side = "portraits"
        self._gallery, self._controls, self._statistics = gallery, controls, statistics
        self.turns = Segmented(
            tr("Column"),
            (
                ("portraits", tr("Portraits"), tr("Show the portraits here")),
                ("controls", tr("Controls"), tr("Show the controls here")),
            ),
        )
        self.turns.hide()
        self._left, self._right = QVBoxLayout(), QVBoxLayout()
        for column in (self._left, self._right):
            column.setSpacing(8)
        self._left.addWidget(self.turns)
        self._left.addWidget(gallery, 1)
        self._right.addWidget(controls, 1)
        self._right.addWidget(statistics)
        row = QHBoxLayout(self)
        row.setContentsMargins(_MARGIN_PX, _MARGIN_PX, _MARGIN_PX, _MARGIN_PX)
        row.setSpacing(_SPACING_PX)
        row.addLayout(self._left)
        row.addWidget(centre, 1)
        row.addLayout(self._right)
        self.turns.chosen.connect(lambda side: self.show_side(cast(Side, side)))
        self.show_side("portraits")

    def show_side(self, side: Side) -> None:
        """Show the portraits, or the controls, where there is room for one of them alone."""
        self.side = side
        self.turns.set_choice(side)
        self._gallery.setVisible(not self.folded or side == "portraits")
        self._controls.setVisible(not self.folded or side == "controls")

    def _fit(self) -> None:
        """Fold where both outer columns would leave too little to the middle."""
        controls_px = self._controls.minimumSizeHint().width()
        gallery_px = max(GALLERY_PX, self._gallery.minimumSizeHint().width())
        needed_px = gallery_px + _CENTRE_PX + controls_px + 2 * (_MARGIN_PX + _SPACING_PX)
        folded = self.width() < needed_px
        self._gallery.setFixedWidth(max(controls_px, gallery_px) if folded else gallery_px)
        if folded == self.folded:
            return
        self.folded = folded
        home = self._left if folded else self._right
        for widget, stretch in ((self._controls, 1), (self._statistics, 0)):
            (self._right if folded else self._left).removeWidget(widget)
            home.addWidget(widget, stretch)
        self.turns.setVisible(folded)
        self.show_side(self.side)

    def event(self, a0: QEvent | None) -> bool:
        if a0 is not None and a0.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return super().event(a0)

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self._fit()
