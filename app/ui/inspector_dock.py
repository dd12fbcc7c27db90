"""The dock that shows what the network does inside, live."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QAction, QCloseEvent, QColor, QImage, QMouseEvent, QPainter, QPaintEvent
from PyQt6.QtWidgets import QDockWidget, QHBoxLayout, QMenu, QSizePolicy, QVBoxLayout, QWidget

from app.settings import LEAST_VIEWS, MOST_VIEWS, WindowSettings
from app.ui.languages import spoken, tr
from app.ui.pictures import to_image
from app.ui.session import Session
from app.ui.theme import theme_in_use
from app.ui.widgets import ElidedLabel, button, set_tip, tip_of
from mcnet.inspection import LiveView
from mcnet.phrases import phrase

_TITLES: dict[LiveView, tuple[str, str]] = {
    "flow": (
        phrase("Motion"),
        phrase("Where what is shown came from: the direction as a hue, 20 px and more in full colour"),
    ),
    "lattice": (phrase("Lattice"), phrase("A lattice drawn on the portrait, moved as the portrait is")),
    "masks": (phrase("Masks"), phrase("Which keypoint's motion moves each place, by colour; dark: the background's")),
    "occlusion": (phrase("Occlusion"), phrase("Yellow: the moved portrait is trusted; blue: the picture is generated")),
    "warped": (phrase("Warped"), phrase("The portrait, moved and nothing else")),
    "generated": (phrase("Generated"), phrase("What the decoder makes of it, with the memory's help")),
    "features": (
        phrase("Features"),
        phrase("Before and after the memory compensates them, by the same principal components"),
    ),
    "attention": (
        phrase("Attention"),
        phrase("What the marked place takes from the memory; click to mark another one"),
    ),
}
WIDTH_PX = 272
_LEAST_HEIGHT_PX = 220
_LEAST_CAPTION_PX = 18
_GAP_PX = 6


class _Pane(NamedTuple):
    view: LiveView
    image: QImage


class ViewsCanvas(QWidget):
    """Paints the views side by side or one above the other, as they are largest.

    Signals:
        marked: a place of the picture was clicked in the view of attention; x and y as shares of it.
    """

    marked = pyqtSignal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(tr("What the network does inside"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.words = ""
        self._panes: list[_Pane] = []

    @property
    def shown(self) -> list[LiveView]:
        """The views that there are pictures of."""
        return [pane.view for pane in self._panes]

    def show_pictures(self, views: Sequence[LiveView], pictures: Sequence[NDArray[np.uint8]]) -> None:
        """Paint these from now on: (H, W, 3) uint8 RGB each."""
        self._panes = [_Pane(view, to_image(rgb)) for view, rgb in zip(views, pictures, strict=True)]
        self.words = ""
        self.update()

    def show_words(self, words: str) -> None:
        """Say why there is no picture."""
        self._panes, self.words = [], spoken(words)
        self.update()

    @property
    def _caption_px(self) -> int:
        """The height of what is written below a picture."""
        return max(_LEAST_CAPTION_PX, self.fontMetrics().height())

    def picture_rects(self) -> list[QRectF]:
        """Where each picture lies: all of one height, in rows from left to right, as large as they go."""
        aspects = [pane.image.width() / pane.image.height() for pane in self._panes]
        for height in range(self.height() - self._caption_px, 0, -1):
            rows: list[list[int]] = []
            left = float(self.width() + 1)
            for place, aspect in enumerate(aspects):
                if left + aspect * height > self.width():
                    rows.append([])
                    left = 0.0
                rows[-1].append(place)
                left += aspect * height + _GAP_PX
            fits = max(aspects, default=0.0) * height <= self.width()
            if fits and len(rows) * (height + self._caption_px + _GAP_PX) - _GAP_PX <= self.height():
                return self._in_rows(rows, aspects, height)
        return [QRectF()] * len(aspects)

    def _in_rows(self, rows: list[list[int]], aspects: list[float], height: int) -> list[QRectF]:
        """Each row in the middle of the width."""
        rects = []
        for number, row in enumerate(rows):
            widths = [aspects[place] * height for place in row]
            left = (self.width() - sum(widths) - _GAP_PX * (len(row) - 1)) / 2
            for width in widths:
                rects.append(QRectF(left, number * (height + self._caption_px + _GAP_PX), width, height))
                left += width + _GAP_PX
        return rects

    def sizeHint(self) -> QSize:
        return QSize(WIDTH_PX, 2 * WIDTH_PX)

    def minimumSizeHint(self) -> QSize:
        return QSize(WIDTH_PX - 24, _LEAST_HEIGHT_PX)

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is None:
            return
        for pane, rect in zip(self._panes, self.picture_rects(), strict=True):
            asked = QRectF(rect.left(), rect.top(), rect.height(), rect.height())
            if pane.view == "attention" and asked.contains(a0.position()):
                at = a0.position() - asked.topLeft()
                self.marked.emit(at.x() / asked.width(), at.y() / asked.height())

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        theme = theme_in_use()
        painter.setPen(QColor(theme.muted))
        if not self._panes:
            flags = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(QRectF(self.rect()).adjusted(8, 8, -8, -8), flags, self.words)
            return
        for pane, rect in zip(self._panes, self.picture_rects(), strict=True):
            painter.drawImage(rect, pane.image)
            caption = QRectF(rect.left(), rect.bottom(), rect.width(), self._caption_px)
            painter.drawText(caption, int(Qt.AlignmentFlag.AlignCenter), spoken(_TITLES[pane.view][0]))


class InspectorDock(QDockWidget):
    """Chooses two to four views and shows them, docked where there is room and floating where there is none.

    Attributes:
        canvas: the pictures.
        choose: the button with the views.
        actions_of: each view's entry in its menu.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(tr("Inside the network"))
        self.setObjectName("Inspector")
        self.setAllowedAreas(Qt.DockWidgetArea.LeftDockWidgetArea | Qt.DockWidgetArea.RightDockWidgetArea)
        self._session = session
        self._for_room = False
        self.canvas = ViewsCanvas()
        self.choose = button(tr("Views"), tip=tr("Choose two to four views of the network's inside"), kind="flat")
        menu = QMenu(self.choose)
        menu.setToolTipsVisible(True)
        self.actions_of: dict[LiveView, QAction] = {}
        for view in get_args(LiveView):
            title, tip = _TITLES[view]
            action = QAction(spoken(title), menu)
            action.setToolTip(tip_of(tip))
            action.setCheckable(True)
            action.triggered.connect(self._choose_views)
            menu.addAction(action)
            self.actions_of[view] = action
        self.choose.setMenu(menu)
        self.figures = ElidedLabel()
        top = QHBoxLayout()
        top.addWidget(self.choose)
        top.addWidget(self.figures, 1)
        content = QWidget()
        content.setObjectName("Root")
        column = QVBoxLayout(content)
        column.setContentsMargins(12, 6, 12, 10)
        column.addLayout(top)
        column.addWidget(self.canvas, 1)
        self.setWidget(content)
        self.hide()
        session.insight.drawn.connect(self._show_drawn)
        session.insight.waiting.connect(lambda: self._show_words(tr("waiting for the weights of the model in use…")))
        session.insight.failed.connect(lambda: self._show_words(session.insight.failure))
        session.changed.connect(self._follow_model)
        self.canvas.marked.connect(self._mark)

    def show_as(self, window: WindowSettings, room_px: int) -> None:
        """Follow the settings.

        Args:
            window: which views, and whether it is shown at all.
            room_px: what the window has beyond its least width.
        """
        views, insight = window.inspector_views, self._session.insight
        for view, action in self.actions_of.items():
            action.setChecked(view in views)
            full = len(views) >= MOST_VIEWS if view not in views else len(views) <= LEAST_VIEWS
            action.setEnabled(not full)
        insight.views = views
        if window.show_inspector:
            if not insight.open:
                self.canvas.show_words(tr("starting…"))
                self.figures.setText("")
            insight.begin(self._session.run_settings.model)
            self.fit(room_px)
        else:
            insight.close()
        self.setVisible(window.show_inspector)

    def fit(self, room_px: int) -> None:
        """Float while the window has no room for a column more."""
        if room_px < WIDTH_PX and not self.isFloating():
            self._for_room = True
            self.setFloating(True)
        elif room_px >= WIDTH_PX and self._for_room:
            self._for_room = False
            self.setFloating(False)

    def _follow_model(self) -> None:
        """Another model may have been chosen."""
        if self._session.insight.open:
            self._session.insight.begin(self._session.run_settings.model)

    def _choose_views(self) -> None:
        window = self._session.settings.window
        wanted = [view for view, action in self.actions_of.items() if action.isChecked()]
        kept = [view for view in window.inspector_views if view in wanted]
        views = (*kept, *(view for view in wanted if view not in kept))
        self._session.set_window(replace(window, inspector_views=views))

    def _mark(self, x: float, y: float) -> None:
        self._session.insight.point = (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))

    def _show_drawn(self, views: Sequence[LiveView], pictures: Sequence[NDArray[np.uint8]]) -> None:
        if self.isVisible():
            self.canvas.show_pictures(views, pictures)
            self.figures.setText(tr("{busy_ms:.0f} ms each", busy_ms=1000 * self._session.insight.busy_s))
            set_tip(self.figures, tr("How long a process of its own was busy with computing one frame once more"))

    def _show_words(self, words: str) -> None:
        self.canvas.show_words(words)
        self.figures.setText("")

    def closeEvent(self, event: QCloseEvent | None) -> None:
        super().closeEvent(event)
        self._session.set_window(replace(self._session.settings.window, show_inspector=False))
