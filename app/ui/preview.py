"""What the call sees, with its state in words on the border."""

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QFontMetricsF,
    QImage,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.pipeline.output.output_frame import badge_place
from app.ui.languages import tr
from app.ui.pictures import to_image
from app.ui.status import Words
from app.ui.theme import theme_in_use
from app.ui.widgets import tone_colour
from mcnet.phrases import phrase

_RADIUS_PX = 10.0
_PAUSED = phrase("The preview is paused; the output goes on.")
_PILL_HEIGHT_PX = 24.0
_INSET_PX = 14
_LEAST_PX = (320, 160)
_LEAST_INSET_PX, _ABOVE_INSET_PX = 60, 116
"""Above it there is room for a notice of a line or two, and for the avatar's face."""
_KEEP_ASPECT = Qt.AspectRatioMode.KeepAspectRatio
_MARGIN_PX = 8
_WHEEL_STEP = 120
"""Of Qt's eighths of a degree: one notch of a usual wheel."""
_BADGE_SHARE = 0.085  # of the picture's height, at its foot: where the output says that it is synthetic


class Preview(QWidget):
    """Paints the output, fitted into the widget, and the words of its state across the upper edge of its border.

    Attributes:
        words: what the border says.
        picture_size: of the output shown last, in its own pixels; None before the first.
        inset: a widget in the picture's lower right corner, or None.
        paused: whether the picture stands still, whatever the output shows.

    Signals:
        laid_out: the picture, or what lies over it, has another place.
        dragged: the picture was dragged to the right and down, by shares of its width and height as it is shown.
        turned: the mouse wheel was turned over the picture, by so many steps, away from the user above 0.
        double_clicked: on the picture.
    """

    laid_out = pyqtSignal()
    dragged = pyqtSignal(float, float)
    turned = pyqtSignal(float)
    double_clicked = pyqtSignal()

    def __init__(self, aspect: float) -> None:
        """Reserve the place of a picture that is `aspect` times as wide as high."""
        super().__init__()
        self.setObjectName("Preview")
        self.setAccessibleName(tr("Output preview"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(*_LEAST_PX)
        self.words = Words(tr("STARTING"), "quiet", "")
        self.picture_size: QSize | None = None
        self.inset: QWidget | None = None
        self.paused = False
        self._aspect = aspect
        self._image: QImage | None = None
        self._shown: NDArray[np.uint8] | None = None
        self._mirrored = False
        self._badge = False
        self._held: tuple[NDArray[np.uint8], bool, bool] | None = None
        self._progress: float | None = None
        self._held_at: QPointF | None = None

    def show_picture(self, rgb: NDArray[np.uint8], *, mirrored: bool, badge: bool = False) -> None:
        """Paint (H, W, 3) uint8 RGB from now on, as it is or as in a mirror; the same array again costs nothing.

        A badge in it can be read in the mirror too: it changes sides, and is not turned round.
        """
        if self.paused:
            self._held = (rgb, mirrored, badge)
            return
        if rgb is self._shown and (mirrored, badge) == (self._mirrored, self._badge):
            return
        self._shown, self._mirrored, self._badge = rgb, mirrored, badge
        self._image = to_image(rgb)
        self.picture_size = self._image.size()
        self._aspect = self._image.width() / self._image.height()
        self.update()

    def set_paused(self, paused: bool) -> None:
        """Let the picture stand still, which saves the work of painting, or show the newest one again."""
        self.paused = paused
        if not paused and self._held is not None:
            rgb, mirrored, badge = self._held
            self.show_picture(rgb, mirrored=mirrored, badge=badge)
        self._held = None
        self.update()

    def set_words(self, words: Words) -> None:
        """Say another state."""
        if words == self.words:
            return
        self.words = words
        self.setAccessibleDescription(f"{words.state}. {words.more}".strip())
        self.update()

    def set_progress(self, share: float | None) -> None:
        """Show how far something has come, 0 to 1, along the picture's lower edge; None: nothing is under way."""
        if share != self._progress:
            self._progress = share
            self.update()

    def picture_rect(self) -> QRectF:
        """Where the picture lies."""
        room = QRectF(self.rect()).adjusted(_MARGIN_PX, _PILL_HEIGHT_PX / 2 + _MARGIN_PX, -_MARGIN_PX, -_MARGIN_PX)
        width = min(room.width(), room.height() * self._aspect)
        height = width / self._aspect
        return QRectF(room.center().x() - width / 2, room.top() + (room.height() - height) / 2, width, height)

    def lay_out(self) -> None:
        """Put what lies over the picture in its place."""
        picture = self.picture_rect().toRect()
        if self.inset is not None:
            size = self.inset.sizeHint()
            most = QSize(size.width(), max(_LEAST_INSET_PX, picture.height() - _ABOVE_INSET_PX))
            self.inset.resize(size if size.height() <= most.height() else size.scaled(most, _KEEP_ASPECT))
            above_badge_px = round(_BADGE_SHARE * picture.height())
            self.inset.move(
                picture.right() - self.inset.width() - _INSET_PX + 1,
                picture.bottom() - self.inset.height() - max(_INSET_PX, above_badge_px) + 1,
            )
        self.laid_out.emit()

    def _round_corners(self, painter: QPainter, picture: QRectF) -> None:
        outside, inside = QPainterPath(), QPainterPath()
        outside.addRect(picture.adjusted(-1, -1, 1, 1))
        inside.addRoundedRect(picture, _RADIUS_PX, _RADIUS_PX)
        painter.fillPath(outside - inside, QColor(theme_in_use().surface))

    def _paint_badge(self, painter: QPainter, picture: QRectF, image: QImage) -> None:
        """The badge of a mirrored picture, as it is written."""
        left, top, width, height = badge_place(image.width(), image.height())
        scale = picture.width() / image.width()
        mirrored_left = image.width() - left - width
        place = QRectF(mirrored_left * scale, top * scale, width * scale, height * scale)
        painter.drawImage(place.translated(picture.topLeft()), image, QRectF(left, top, width, height))

    def _paint_progress(self, painter: QPainter, picture: QRectF) -> None:
        bar = QRectF(picture.left(), picture.bottom() - 6, picture.width(), 6)
        painter.fillRect(bar, QColor(0, 0, 0, 120))
        bar.setWidth(picture.width() * (self._progress or 0.0))
        painter.fillRect(bar, tone_colour("info"))

    def _paint_words(self, painter: QPainter, picture: QRectF, colour: QColor) -> None:
        theme = theme_in_use()
        strong = self.font()
        strong.setBold(True)
        metrics, plain = QFontMetricsF(strong), QFontMetricsF(self.font())
        state_px = metrics.horizontalAdvance(self.words.state)
        room_px = picture.width() - state_px - 76
        more = plain.elidedText(self.words.more, Qt.TextElideMode.ElideRight, room_px)
        more_px = plain.horizontalAdvance(more) + 10 if more else 0.0

        def place(left_px: float, width_px: float) -> QRectF:
            """On the picture's upper edge, so far from where a line begins."""
            left = picture.right() - left_px - width_px if self.isRightToLeft() else picture.left() + left_px
            return QRectF(left, picture.top() - _PILL_HEIGHT_PX / 2, width_px, _PILL_HEIGHT_PX)

        pill = place(16, state_px + more_px + 36)
        painter.setPen(QPen(colour, 1.5))
        painter.setBrush(QColor(theme.surface))
        painter.drawRoundedRect(pill, _PILL_HEIGHT_PX / 2, _PILL_HEIGHT_PX / 2)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawEllipse(place(30, 0).center(), 4.0, 4.0)
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.setFont(strong)
        painter.setPen(colour)
        painter.drawText(place(41, state_px + 1), int(middle), self.words.state)
        painter.setFont(self.font())
        painter.setPen(QColor(theme.text))
        painter.drawText(place(41 + state_px + 10, more_px), int(middle), more)

    def sizeHint(self) -> QSize:
        return QSize(640, round(640 / self._aspect))

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is not None and a0.button() is Qt.MouseButton.LeftButton and self.picture_rect().contains(a0.position()):
            self._held_at = a0.position()
        else:
            super().mousePressEvent(a0)

    def mouseMoveEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is None or self._held_at is None:
            return
        moved, picture = a0.position() - self._held_at, self.picture_rect()
        self._held_at = a0.position()
        self.dragged.emit(moved.x() / picture.width(), moved.y() / picture.height())

    def mouseReleaseEvent(self, a0: QMouseEvent | None) -> None:  # noqa: ARG002
        self._held_at = None

    def mouseDoubleClickEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is not None and self.picture_rect().contains(a0.position()):
            self.double_clicked.emit()

    def wheelEvent(self, a0: QWheelEvent | None) -> None:
        if a0 is not None and a0.angleDelta().y() and self.picture_rect().contains(a0.position()):
            self.turned.emit(a0.angleDelta().y() / _WHEEL_STEP)
            a0.accept()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self.lay_out()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        theme, picture = theme_in_use(), self.picture_rect()
        painter.setPen(QColor(theme.line))
        painter.setBrush(QColor(theme.surface))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), _RADIUS_PX, _RADIUS_PX)
        if self._image is None:
            painter.fillRect(picture, QColor(theme.raised))
        else:
            painter.save()
            if self._mirrored:
                painter.translate(2 * picture.center().x(), 0)
                painter.scale(-1, 1)
            painter.drawImage(picture, self._image)
            painter.restore()
            if self._mirrored and self._badge:
                self._paint_badge(painter, picture, self._image)
        if self.paused:
            painter.fillRect(picture, QColor(10, 12, 15, 150))
            painter.setPen(QColor("#e7eaee"))
            text = painter.fontMetrics().elidedText(_PAUSED, Qt.TextElideMode.ElideRight, int(picture.width()) - 16)
            painter.drawText(picture, int(Qt.AlignmentFlag.AlignCenter), text)
        if self._progress is not None:
            self._paint_progress(painter, picture)
        self._round_corners(painter, picture)
        colour = tone_colour(self.words.tone)
        painter.setPen(QPen(colour, 2))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(picture, _RADIUS_PX, _RADIUS_PX)
        self._paint_words(painter, picture, colour)
