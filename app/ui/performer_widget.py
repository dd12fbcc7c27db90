"""The user, small, as only he sees himself."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPolygonF,
    QTransform,
)
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.ui.languages import tr
from app.ui.pictures import to_image
from app.ui.theme import theme_in_use
from app.ui.widgets import set_tip

if TYPE_CHECKING:
    from app.pipeline.animation.performer_view import PerformerView

_LEAST_PX, _SMALL_PX, _LARGE_PX = 96, 168, 320
_RADIUS_PX = 8.0


class PerformerWidget(QWidget):
    """Paints the camera's picture with the crop box, on demand the landmarks and keypoints, and the portrait over it.

    A click, or Enter, makes it larger and smaller again. All work is done when it is painted: hidden, it costs nothing.

    Attributes:
        view: what is shown; None before the first frame.
        large: whether it is large.

    Signals:
        resized: it wants another size.
    """

    resized = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(tr("You, as only you see yourself"))
        set_tip(self, tr("You, with the crop that moves the avatar. Nobody else sees this. Click for another size."))
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.view: PerformerView | None = None
        self.large = False
        self._image: QImage | None = None
        self._imaged: PerformerView | None = None  # which the image is of
        self._portrait: QImage | None = None
        self._opacity = 0.0
        self._mirrored = True
        self._points = False
        self._aspect = 4 / 3
        self._landmarks: NDArray[np.float32] | None = None

    def show_view(self, view: "PerformerView") -> None:
        """Paint another frame of the performer."""
        if view.landmarks_px is not None or view.keypoints is None:
            # Where the model detects the keypoints, a face that is followed is searched for in some frames only.
            self._landmarks = view.landmarks_px
        self.view = view
        height, width = view.frame.rgb.shape[:2]
        aspect = width / height
        if aspect != self._aspect:
            self._aspect = aspect
            self.resized.emit()
        self.update()

    def clear(self) -> None:
        """Show nobody: the camera is gone."""
        self.view = self._image = self._imaged = None
        self.update()

    def set_portrait(self, square: NDArray[np.uint8] | None) -> None:
        """The animated portrait, (H, W, 3) uint8 RGB, to lay over the crop."""
        self._portrait = None if square is None else to_image(square)
        self.update()

    def set_opacity(self, opacity: float) -> None:
        """Of the portrait over the performer's picture, 0 to 1."""
        self._opacity = opacity
        self.update()

    def set_mirrored(self, mirrored: bool) -> None:
        """Whether the user sees himself as in a mirror."""
        self._mirrored = mirrored
        self.update()

    def set_points(self, shown: bool) -> None:
        """Whether landmarks and keypoints are drawn."""
        self._points = shown
        self.update()

    def toggle_size(self) -> None:
        """Make it larger, or small again."""
        self.large = not self.large
        self.resized.emit()

    def _image_of(self, view: "PerformerView") -> QImage:
        """The camera's picture; the same view again costs nothing."""
        if self._image is None or self._imaged is not view:
            self._image, self._imaged = to_image(view.frame.rgb), view
        return self._image

    def _to_widget(self, frame: QRectF, image: QImage) -> QTransform:
        """From the camera's pixels to the widget's."""
        scale = min(frame.width() / image.width(), frame.height() / image.height())
        width, height = scale * image.width(), scale * image.height()
        transform = QTransform()
        transform.translate(frame.center().x(), frame.center().y())
        transform.scale(-1 if self._mirrored else 1, 1)
        transform.translate(-width / 2, -height / 2)
        return transform.scale(scale, scale)

    def _paint_findings(self, painter: QPainter, view: "PerformerView", scale: float) -> None:
        theme = theme_in_use()
        if view.box is None:
            return
        half = view.box.side / 2
        square = QRectF(view.box.center_x - half, view.box.center_y - half, view.box.side, view.box.side)
        if self._portrait is not None and self._opacity > 0:
            painter.setOpacity(self._opacity)
            painter.drawImage(square, self._portrait)
            painter.setOpacity(1.0)
        pen = QPen(QColor(theme.warning if view.keypoints is None else theme.live), 2)
        pen.setCosmetic(True)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(square)
        if not self._points:
            return
        if self._landmarks is not None:
            dots = QPen(QColor(230, 234, 240, 170), 1.5)
            dots.setCosmetic(True)
            painter.setPen(dots)
            painter.drawPoints(QPolygonF([QPointF(x, y) for x, y in self._landmarks[:, :2].tolist()]))
        if view.keypoints is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            radius = 3.0 / scale
            for number, (x, y) in enumerate(view.keypoints.tolist()):
                painter.setBrush(QColor.fromHsv(number * 360 // len(view.keypoints), 190, 255))
                painter.drawEllipse(QPointF(view.box.center_x + x * half, view.box.center_y + y * half), radius, radius)

    def _paint_caption(self, painter: QPainter, frame: QRectF) -> None:
        font = self.font()
        font.setPointSizeF(font.pointSizeF() * 0.85)
        painter.setFont(font)
        bar = QRectF(frame.left(), frame.bottom() - 18, frame.width(), 18)
        shape = QPainterPath()
        shape.addRoundedRect(frame, _RADIUS_PX, _RADIUS_PX)
        strip = QPainterPath()
        strip.addRect(bar)
        painter.fillPath(shape & strip, QColor(10, 12, 15, 160))
        painter.setPen(QColor("#e7eaee"))
        caption = painter.fontMetrics().elidedText(
            tr("only you see this"), Qt.TextElideMode.ElideRight, int(bar.width()) - 4
        )
        painter.drawText(bar, int(Qt.AlignmentFlag.AlignCenter), caption)

    def sizeHint(self) -> QSize:
        width, aspect = _LARGE_PX if self.large else _SMALL_PX, max(self._aspect, 0.75)
        if (parent := self.parentWidget()) is not None:
            width = min(width, max(_LEAST_PX, parent.width() * (45 if self.large else 27) // 100))
        return QSize(width, round(width / aspect))

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is not None and a0.button() == Qt.MouseButton.LeftButton:
            self.toggle_size()

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        if a0 is not None and a0.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.toggle_size()
        else:
            super().keyPressEvent(a0)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        theme = theme_in_use()
        frame = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        shape = QPainterPath()
        shape.addRoundedRect(frame, _RADIUS_PX, _RADIUS_PX)
        painter.save()
        painter.setClipPath(shape)
        painter.fillRect(frame, QColor(theme.window))
        if self.view is None:
            painter.setPen(QColor(theme.muted))
            wrapped = int(Qt.AlignmentFlag.AlignCenter) | int(Qt.TextFlag.TextWordWrap)
            painter.drawText(frame.adjusted(4, 0, -4, 0), wrapped, tr("no camera picture"))
        else:
            image = self._image_of(self.view)
            painter.setTransform(self._to_widget(frame, image), combine=True)
            painter.drawImage(QPointF(0, 0), image)
            self._paint_findings(painter, self.view, frame.width() / image.width())
        painter.restore()
        painter.setPen(QPen(QColor(theme.accent if self.hasFocus() else theme.line), 1.5))
        painter.drawPath(shape)
        if self.view is not None:
            self._paint_caption(painter, frame)
