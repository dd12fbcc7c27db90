"""Where the square is cut out of a portrait, seen and adjusted."""

from dataclasses import replace
from typing import TYPE_CHECKING

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
    QWheelEvent,
)
from PyQt6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.ui.flow import FlowLayout
from app.ui.languages import spoken, tr
from app.ui.pictures import to_image
from app.ui.portrait_desk import Cropping, PortraitDesk
from app.ui.theme import theme_in_use
from app.ui.widgets import ColumnScroll, ElidedLabel, ValueSlider, button, label, panel, set_tip

if TYPE_CHECKING:
    from mcnet.media.crop import SquareBox

_HANDLE_PX = 12.0
_STEP = 0.01
_SCORE_AFTER_MS = 250
_SMALLEST_SIDE_PX = 32.0
_STRAIGHTEN_DEG = 45.0
_STRAIGHTEN_STEP_DEG = 0.5


class CropEditor(QWidget):
    """A page in the place of the preview: the picture with its square, the score, and for new ones the permission.

    Attributes:
        canvas: the picture.
        allowed: the tick "I may use this picture"; hidden for portraits that are in the gallery already.
        accept_button, cancel_button, cancel_all_button, automatic_button: what can be done.
        left_button, right_button, straighten: turn the picture, by a quarter or finely.
    """

    def __init__(self, desk: PortraitDesk) -> None:
        super().__init__()
        self.setAccessibleName(tr("Crop of the portrait"))
        self._desk = desk
        self._shown: Cropping | None = None
        self.canvas = CropCanvas()
        self._title = ElidedLabel("heading")
        self._score = label("", wrap=True)
        self._remarks = label("", "muted", wrap=True)
        self._square = QLabel()
        self._square.setFixedSize(128, 128)
        self._square.setAccessibleName(tr("What will be animated"))
        self.allowed = QCheckBox(tr("I may use this picture"))
        set_tip(self.allowed, tr("It shows me, or the person in it agrees, or nobody real is in it."))
        self.accept_button = button(tr("Use this portrait"), tip=tr("Keep this crop and animate it"), kind="primary")
        self.cancel_button = button(tr("Cancel"), tip=tr("Leave everything as it was (Escape)"))
        self.cancel_all_button = button(tr("Cancel all"), tip=tr("Add neither this picture nor those that wait"))
        self.automatic_button = button(
            tr("Automatic crop"), tip=tr("Crop by the face that was found"), icon_name="centre"
        )
        self.left_button = button(
            "", tip=tr("Turn to the left by a quarter (Page Up)"), icon_name="turn_left", name=tr("Turn to the left")
        )
        self.right_button = button(
            "",
            tip=tr("Turn to the right by a quarter (Page Down)"),
            icon_name="turn_right",
            name=tr("Turn to the right"),
        )
        self.straighten = ValueSlider(
            tr("Straighten"),
            tr("Turns the picture a little (comma and full stop)."),
            low=-_STRAIGHTEN_DEG,
            high=_STRAIGHTEN_DEG,
            default=0,
            step=_STRAIGHTEN_STEP_DEG,
            words=lambda value: f"{value:+.1f}°" if value else "0°",
            stacked=True,
        )
        hint = label(
            tr(
                "Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, "
                "comma and full stop straighten."
            ),
            "muted",
            wrap=True,
        )

        beside = QWidget()
        side = QVBoxLayout(beside)
        side.setContentsMargins(0, 0, 0, 0)
        side.setSpacing(10)
        turns = QHBoxLayout()
        turns.setSpacing(6)
        turns.addWidget(self.left_button)
        turns.addWidget(self.right_button)
        turns.addStretch(1)
        side.addWidget(self._square)
        side.addWidget(self._score)
        side.addWidget(self._remarks)
        side.addLayout(turns)
        side.addWidget(self.straighten)
        side.addStretch(1)
        side.addWidget(hint)
        side.addWidget(self.automatic_button)
        body = QHBoxLayout()
        body.setSpacing(16)
        body.addWidget(self.canvas, 1)
        body.addWidget(ColumnScroll(beside))
        foot = FlowLayout()
        foot.addWidget(self.allowed)
        foot.add_spring()
        foot.addWidget(self.cancel_button)
        foot.addWidget(self.cancel_all_button)
        foot.addWidget(self.accept_button)
        card = panel()
        inside = QVBoxLayout(card)
        inside.setContentsMargins(18, 14, 18, 14)
        inside.setSpacing(12)
        inside.addWidget(self._title)
        inside.addLayout(body, 1)
        inside.addLayout(foot)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(card)

        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SCORE_AFTER_MS)
        self._timer.timeout.connect(self._score_now)
        self.canvas.moved.connect(self._timer.start)
        self.allowed.toggled.connect(self._refresh_buttons)
        self.accept_button.clicked.connect(self._accept)
        self.cancel_button.clicked.connect(desk.cancel_crop)
        self.cancel_all_button.clicked.connect(desk.cancel_crops)
        self.automatic_button.clicked.connect(lambda: desk.score_crop(None, self.canvas.angle_deg))
        self.left_button.clicked.connect(lambda: self.canvas.turn(-90))
        self.right_button.clicked.connect(lambda: self.canvas.turn(90))
        self.straighten.moved.connect(self.canvas.straighten)
        self.canvas.moved.connect(self._show_angle)
        desk.changed.connect(self._refresh)

    @property
    def title(self) -> str:
        """What is said to be shown."""
        return self._title.text()

    def _refresh(self) -> None:
        cropping = self._desk.cropping
        number, of = self._desk.turn
        self.cancel_all_button.setVisible(number < of)
        if cropping is not None:
            name = self._desk.cropped_name
            if of > 1:
                self._title.setText(tr("Crop of {name} ({number} of {of})", name=name, number=number, of=of))
            else:
                self._title.setText(tr("Crop of {name}", name=name))
        if cropping is self._shown:
            return
        before, self._shown = self._shown, cropping
        if cropping is None:
            self._timer.stop()
            self.canvas.clear()
            return
        portrait = cropping.portrait
        if before is None or before.portrait.entry.key != portrait.entry.key:
            self._timer.stop()
            self.canvas.clear()  # of a grip too: what is shown may follow another picture
            self.allowed.setVisible(cropping.new)
            self.allowed.setChecked(not cropping.new)
            self.canvas.set_picture(to_image(portrait.rgb))
            self.canvas.setFocus()
        if not self.canvas.gripped and not self._timer.isActive():
            self.canvas.set_box(portrait.box, portrait.entry.angle_deg)
            self._show_angle()
        ratio = self.devicePixelRatioF()
        side_px = round(128 * ratio)
        shown = to_image(portrait.square).scaled(
            side_px, side_px, transformMode=Qt.TransformationMode.SmoothTransformation
        )
        picture = QPixmap.fromImage(shown)
        picture.setDevicePixelRatio(ratio)
        self._square.setPixmap(picture)
        self._score.setText(tr("Score {score} of 100", score=portrait.score))
        remarks = "\n".join(f"• {spoken(remark)}" for remark in portrait.remarks)
        self._remarks.setText(spoken(portrait.refusal) or remarks or tr("Nothing to improve."))
        self._refresh_buttons()

    def _refresh_buttons(self) -> None:
        refusal = "" if self._shown is None else self._shown.portrait.refusal
        allowed = self.allowed.isChecked()
        self.accept_button.setEnabled(allowed and not refusal)
        set_tip(
            self.accept_button,
            spoken(refusal)
            or (tr("Keep this crop and animate it") if allowed else tr("Tick first that you may use this picture")),
        )

    def _accept(self) -> None:
        if self._shown is None:
            return
        portrait = self._shown.portrait
        as_scored = self.canvas.box == portrait.box and self.canvas.angle_deg == portrait.entry.angle_deg
        automatic = portrait.entry.box is None and as_scored
        self._desk.accept_crop(None if automatic else self.canvas.box, self.canvas.angle_deg)

    def _score_now(self) -> None:
        if self.canvas.box is not None:
            self._desk.score_crop(self.canvas.box, self.canvas.angle_deg)

    def _show_angle(self) -> None:
        self.straighten.set_value(self.canvas.fine_deg)


class CropCanvas(QWidget):
    """A picture that can be turned, and a square on it that can be moved and resized, by mouse and keys.

    Attributes:
        box: the square, in the turned picture's pixels; None where there is no picture.
        angle_deg: how far the picture is turned, clockwise, 0 to 360.

    Signals:
        moved: the user changed the square, or turned the picture.
    """

    moved = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(tr("Square to animate"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(120, 100)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.box: SquareBox | None = None
        self.angle_deg = 0.0
        self._image: QImage | None = None
        self._grip: tuple[QPointF, SquareBox, bool] | None = None

    def set_picture(self, image: QImage) -> None:
        """Show a picture."""
        self._image = image
        self.update()

    def set_box(self, box: "SquareBox", angle_deg: float) -> None:
        """Show a square on the picture turned so far."""
        self.box, self.angle_deg = box, angle_deg % 360
        self.update()

    @property
    def fine_deg(self) -> float:
        """How far the picture is turned beyond the nearest quarter, -45 to 45."""
        return (self.angle_deg + _STRAIGHTEN_DEG) % 90 - _STRAIGHTEN_DEG

    def turn(self, by_deg: float) -> None:
        """Turn the picture clockwise; the square stays around what it shows."""
        self._turn_to(self.angle_deg + by_deg)

    def straighten(self, fine_deg: float) -> None:
        """Turn the picture so far beyond the nearest quarter, -45 to 45."""
        self._turn_to(self.angle_deg - self.fine_deg + min(fine_deg, _STRAIGHTEN_DEG - 1e-3))

    def _turn_to(self, angle_deg: float) -> None:
        if self._image is None or self.box is None:
            return
        from mcnet.media.crop import turned_box

        angle_deg = round(angle_deg, 3) % 360
        box = turned_box(self.box, (self._image.width(), self._image.height()), self.angle_deg, angle_deg)
        self.angle_deg = angle_deg
        self._change(box)

    def _size(self) -> tuple[int, int]:
        """Width and height of the turned picture."""
        from mcnet.media.crop import turned_size

        assert self._image is not None
        return turned_size((self._image.width(), self._image.height()), self.angle_deg)

    def clear(self) -> None:
        """Show nothing."""
        self._image = self.box = self._grip = None
        self.angle_deg = 0.0
        self.update()

    @property
    def gripped(self) -> bool:
        """Whether the user holds the square."""
        return self._grip is not None

    def square_rect(self) -> QRectF:
        """The square, in the widget's pixels."""
        if self.box is None:
            return QRectF()
        place, scale = self._place()
        half = self.box.side * scale / 2
        centre = QPointF(place.left() + self.box.center_x * scale, place.top() + self.box.center_y * scale)
        return QRectF(centre.x() - half, centre.y() - half, 2 * half, 2 * half)

    def _place(self) -> tuple[QRectF, float]:
        """Where the picture lies, and widget pixels per picture pixel."""
        shown_width, shown_height = self._size()
        room = QRectF(self.rect()).adjusted(8, 8, -8, -8)
        scale = min(room.width() / shown_width, room.height() / shown_height)
        width, height = shown_width * scale, shown_height * scale
        return QRectF(room.center().x() - width / 2, room.center().y() - height / 2, width, height), scale

    def _at_corner(self, point: QPointF) -> bool:
        square = self.square_rect()
        corners = (square.topLeft(), square.topRight(), square.bottomLeft(), square.bottomRight())
        return any((corner - point).manhattanLength() < 1.6 * _HANDLE_PX for corner in corners)

    def _change(self, box: "SquareBox") -> None:
        """Take another square, kept within reason: its centre on the picture, its side not tiny and not huge."""
        width, height = self._size()
        self.box = replace(
            box,
            center_x=min(max(box.center_x, 0.0), float(width)),
            center_y=min(max(box.center_y, 0.0), float(height)),
            side=min(max(box.side, _SMALLEST_SIDE_PX), 1.5 * max(width, height)),
        )
        self.update()
        self.moved.emit()

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is None or self.box is None or a0.button() != Qt.MouseButton.LeftButton:
            return
        corner = self._at_corner(a0.position())
        if corner or self.square_rect().contains(a0.position()):
            self._grip = (a0.position(), self.box, corner)

    def mouseMoveEvent(self, a0: QMouseEvent | None) -> None:
        if a0 is None or self.box is None:
            return
        if self._grip is None:
            corner = self._at_corner(a0.position())
            inside = self.square_rect().contains(a0.position())
            shape = Qt.CursorShape.SizeFDiagCursor if corner else Qt.CursorShape.SizeAllCursor
            self.setCursor(shape if corner or inside else Qt.CursorShape.ArrowCursor)
            return
        start, box, corner = self._grip
        place, scale = self._place()
        if corner:
            centre = QPointF(place.left() + box.center_x * scale, place.top() + box.center_y * scale)
            away = a0.position() - centre
            self._change(replace(box, side=2 * max(abs(away.x()), abs(away.y())) / scale))
        else:
            by = (a0.position() - start) / scale
            self._change(replace(box, center_x=box.center_x + by.x(), center_y=box.center_y + by.y()))

    def mouseReleaseEvent(self, a0: QMouseEvent | None) -> None:  # noqa: ARG002
        self._grip = None

    def wheelEvent(self, a0: QWheelEvent | None) -> None:
        if a0 is not None and self.box is not None:
            self._change(replace(self.box, side=self.box.side * 1.03 ** (-a0.angleDelta().y() / 120)))

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        if a0 is None or self.box is None:
            return
        box, step = self.box, self.box.side * _STEP
        moves = {
            Qt.Key.Key_Left: replace(box, center_x=box.center_x - step),
            Qt.Key.Key_Right: replace(box, center_x=box.center_x + step),
            Qt.Key.Key_Up: replace(box, center_y=box.center_y - step),
            Qt.Key.Key_Down: replace(box, center_y=box.center_y + step),
            Qt.Key.Key_Plus: replace(box, side=box.side + 2 * step),
            Qt.Key.Key_Equal: replace(box, side=box.side + 2 * step),
            Qt.Key.Key_Minus: replace(box, side=box.side - 2 * step),
        }
        turns = {
            Qt.Key.Key_PageUp: -90.0,
            Qt.Key.Key_PageDown: 90.0,
            Qt.Key.Key_Comma: -_STRAIGHTEN_STEP_DEG,
            Qt.Key.Key_Period: _STRAIGHTEN_STEP_DEG,
        }
        key = Qt.Key(a0.key())
        if key in moves:
            self._change(moves[key])
        elif key in turns:
            self.turn(turns[key])
        else:
            super().keyPressEvent(a0)

    def sizeHint(self) -> QSize:
        return QSize(420, 320)

    def paintEvent(self, a0: QPaintEvent | None) -> None:  # noqa: ARG002
        if self._image is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        place, scale = self._place()
        painter.save()
        painter.setClipRect(place)
        painter.translate(place.center())
        painter.rotate(self.angle_deg)
        painter.scale(scale, scale)
        width, height = self._image.width(), self._image.height()
        painter.drawImage(QRectF(-width / 2, -height / 2, width, height), self._image)
        painter.restore()
        square = self.square_rect()
        around, inside = QPainterPath(), QPainterPath()
        around.addRect(place)
        inside.addRect(square)
        painter.fillPath(around - inside, QColor(10, 12, 15, 150))
        accent = QColor(theme_in_use().accent)
        painter.setPen(QPen(accent, 3 if self.hasFocus() else 2))
        painter.drawRect(square)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(accent)
        for corner in (square.topLeft(), square.topRight(), square.bottomLeft(), square.bottomRight()):
            painter.drawEllipse(corner, _HANDLE_PX / 2, _HANDLE_PX / 2)
