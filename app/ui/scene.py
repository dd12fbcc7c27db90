"""The scene in the window: what stands behind the portrait, and where the portrait stands."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QColor, QIcon, QPainter, QPixmap
from PyQt6.QtWidgets import QColorDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.settings import FARTHEST_SHIFT, PORTRAIT_SIZES, Background, LiveSettings
from app.ui.languages import spoken, tr
from app.ui.session import Session
from app.ui.widgets import NAME_PX, Combo, ElidedLabel, Switch, ValueSlider, button, label, percent
from mcnet.files import may_be_file
from mcnet.phrases import phrase

PLACE_STEP = 0.01
SIZE_STEP = 0.05
_COLOURS = (
    ("#1f2430", phrase("ink")),
    ("#3b4252", phrase("slate grey")),
    ("#0f3d3e", phrase("pine")),
    ("#264b73", phrase("blue")),
    ("#6b4f3a", phrase("wood")),
    ("#c9cdd4", phrase("light grey")),
    ("#00b140", phrase("chroma green")),
)
_KINDS: dict[Background, str] = {
    "blur": phrase("The portrait's own, blurred"),
    "own": phrase("The portrait's own, still"),
    "colour": phrase("One colour"),
    "image": phrase("A picture…"),
    "video": phrase("A video…"),
    "alpha": phrase("None: transparent"),
}
_NEEDS_CUTTING: tuple[Background, ...] = ("own", "alpha")
_FILES: dict[Background, str] = {"image": "background_image", "video": "background_video"}
_DEFAULTS = LiveSettings()


class SceneControls(QWidget):
    """Shows the scene's settings and passes changes on to the session.

    Attributes:
        surroundings: whether what the photo shows around the portrait is seen.
        cut_out: whether the person is cut out.
        background: of which kind.
        blur: of the portrait's own background.
        swatches, other_colour_button: the colour.
        file_button: for another picture or video than the one in use.
        portrait_size, portrait_x, portrait_y, reset_button: where the portrait stands.

    Signals:
        picture_wanted: the user wants to pick a picture as background.
        video_wanted: likewise a video.
    """

    picture_wanted = pyqtSignal()
    video_wanted = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.surroundings = Switch(
            tr("Show the whole photo"),
            tr(
                "Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone."
            ),
        )
        self.cut_out = Switch(
            tr("Cut the person out"),
            tr("The background stays still behind the person, instead of moving along with the head."),
        )
        self.background = Combo(tr("Background"), tr("What is seen around the portrait, or behind the person."))
        for kind, text in _KINDS.items():
            self.background.addItem(spoken(text), kind)
        self.blur = ValueSlider(
            tr("Blur"),
            tr("How far the background is out of focus."),
            low=0,
            high=1,
            default=_DEFAULTS.background_blur,
            step=0.05,
            words=percent,
        )
        self._colours = self._make_colours()
        self._transparent = label(
            tr("Recordings (WebM) and snapshots are transparent; the call sees this colour:"), "muted", wrap=True
        )
        self._file = ElidedLabel()
        self.file_button = button(tr("Another file…"), tip=tr("Choose another picture or video"), kind="link")
        self._files = QWidget()
        file_row = QHBoxLayout(self._files)
        file_row.setContentsMargins(0, 0, 0, 0)
        file_row.addWidget(self._file, 1)
        file_row.addWidget(self.file_button)
        self.portrait_size = ValueSlider(
            tr("Portrait size"),
            tr("How large the portrait stands in the picture (the mouse wheel over the preview)."),
            low=PORTRAIT_SIZES[0],
            high=PORTRAIT_SIZES[1],
            default=_DEFAULTS.portrait_size,
            step=SIZE_STEP,
            words=percent,
        )
        self.portrait_x, self.portrait_y = (
            ValueSlider(
                name, tip, low=-FARTHEST_SHIFT, high=FARTHEST_SHIFT, default=0.0, step=PLACE_STEP, words=percent
            )
            for name, tip in (
                (tr("Sideways"), tr("Where the portrait stands; it can be dragged in the preview.")),
                (tr("Up and down"), tr("Where the portrait stands; it can be dragged in the preview.")),
            )
        )
        self.reset_button = button(
            tr("Reset the place"),
            tip=tr("Put the portrait back in the middle, in its usual size (a double click on the preview)"),
            kind="link",
        )
        row = QHBoxLayout()
        row.setSpacing(6)
        name = label(tr("Background"))
        name.setMinimumWidth(NAME_PX)
        row.addWidget(name)
        row.addWidget(self.background, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.surroundings)
        column.addWidget(self.cut_out)
        column.addLayout(row)
        for widget in (
            self.blur,
            self._transparent,
            self._colours,
            self._files,
            self.portrait_size,
            self.portrait_x,
            self.portrait_y,
        ):
            column.addWidget(widget)
        column.addWidget(self.reset_button, 0, Qt.AlignmentFlag.AlignLeft)
        self.surroundings.clicked.connect(lambda on: self._set(surroundings=on))
        self.cut_out.clicked.connect(self._cut)
        self.background.activated.connect(lambda row: self._choose(cast(Background, self.background.itemData(row))))
        self.blur.moved.connect(lambda value: self._set(background_blur=value))
        self.file_button.clicked.connect(self._ask_for_file)
        self.portrait_size.moved.connect(lambda value: self._set(portrait_size=value))
        self.portrait_x.moved.connect(lambda value: self._set(portrait_x=value))
        self.portrait_y.moved.connect(lambda value: self._set(portrait_y=value))
        self.reset_button.clicked.connect(self.reset_place)
        session.live_changed.connect(self.refresh)
        self.refresh()

    def _make_colours(self) -> QWidget:
        colours = QWidget()
        row = QHBoxLayout(colours)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.swatches: dict[str, QPushButton] = {}
        for colour, name in _COLOURS:
            made = button("", tip=tr("Background: {name}", name=name), kind="flat", name=name)
            made.setIcon(_swatch(colour))
            made.setFixedWidth(30)
            made.setCheckable(True)
            made.clicked.connect(lambda _=False, colour=colour: self.set_colour(colour))
            self.swatches[colour] = made
            row.addWidget(made)
        self.other_colour_button = button("…", tip=tr("Another colour"), kind="flat", name=tr("Another colour"))
        self.other_colour_button.setMinimumWidth(30)
        self.other_colour_button.clicked.connect(self._pick_colour)
        row.addWidget(self.other_colour_button)
        row.addStretch(1)
        return colours

    # Changing

    def set_colour(self, colour: str) -> None:
        """Take a colour, as #rrggbb, for the background, or for what a call sees where it is transparent."""
        self._set(background="alpha" if self._live.background == "alpha" else "colour", background_colour=colour)
        self.refresh()

    def set_file(self, kind: Background, path: Path) -> None:
        """Use a picture (`image`) or a video (`video`) as background."""
        self._set(background=kind, **{_FILES[kind]: str(path)})

    def move_place(self, right: float, down: float) -> None:
        """Move the portrait by shares of the output's width and height."""
        live = self._live
        self._set(portrait_x=_within(live.portrait_x + right), portrait_y=_within(live.portrait_y + down))

    def step_size(self, steps: float) -> None:
        """Make the portrait larger (1) or smaller (-1)."""
        size = self._live.portrait_size + steps * SIZE_STEP
        self._set(portrait_size=min(PORTRAIT_SIZES[1], max(PORTRAIT_SIZES[0], round(size, 6))))

    def reset_place(self) -> None:
        """Put the portrait back in the middle, in its usual size."""
        self._set(portrait_size=_DEFAULTS.portrait_size, portrait_x=0.0, portrait_y=0.0)

    @property
    def _live(self) -> LiveSettings:
        return self._session.settings.live

    def _set(self, **changed: Any) -> None:
        self._session.set_live(replace(self._live, **changed))

    def _cut(self, on: bool) -> None:
        if not on and self._live.background in _NEEDS_CUTTING:
            self._set(cut_out=False, background=_DEFAULTS.background)
        else:
            self._set(cut_out=on)

    def _choose(self, kind: Background) -> None:
        assert kind in get_args(Background)
        if kind in _FILES and not may_be_file(getattr(self._live, _FILES[kind])):
            self.refresh()  # nothing is changed before a file is picked
            self._ask_for(kind)
        elif kind in _NEEDS_CUTTING:
            self._set(background=kind, cut_out=True)
        else:
            self._set(background=kind)

    def _ask_for_file(self) -> None:
        self._ask_for(self._live.background)

    def _ask_for(self, kind: Background) -> None:
        (self.video_wanted if kind == "video" else self.picture_wanted).emit()

    def _pick_colour(self) -> None:
        dialog = QColorDialog(QColor(self._live.background_colour), self.window())
        dialog.setOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)  # the system's takes no key of ours
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.colorSelected.connect(lambda colour: self.set_colour(colour.name()))
        dialog.show()  # not modal: Ctrl+0 reaches the slate from here, and the window can still be clicked

    # Showing

    def refresh(self) -> None:
        """Show what is in force."""
        live = self._live
        self.surroundings.setChecked(live.surroundings)
        self.cut_out.setChecked(live.cut_out)
        self.background.setCurrentIndex(self.background.findData(live.background))
        self.blur.set_value(live.background_blur)
        self.blur.setVisible(live.cut_out and live.background == "blur")
        self._transparent.setVisible(live.background == "alpha")
        self._colours.setVisible(live.background in ("colour", "alpha"))
        for colour, made in self.swatches.items():
            made.setChecked(colour == live.background_colour)
        self._files.setVisible(live.background in _FILES)
        if live.background in _FILES:
            self._file.setText(Path(getattr(live, _FILES[live.background])).name)
        self.portrait_size.set_value(live.portrait_size)
        self.portrait_x.set_value(live.portrait_x)
        self.portrait_y.set_value(live.portrait_y)
        usual = (_DEFAULTS.portrait_size, _DEFAULTS.portrait_x, _DEFAULTS.portrait_y)
        self.reset_button.setEnabled((live.portrait_size, live.portrait_x, live.portrait_y) != usual)


def _within(value: float) -> float:
    return min(FARTHEST_SHIFT, max(-FARTHEST_SHIFT, round(value, 4)))


def _swatch(colour: str) -> QIcon:
    picture = QPixmap(32, 32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(colour))
    painter.setPen(QColor(128, 136, 148))
    painter.drawRoundedRect(2, 2, 28, 28, 8, 8)
    painter.end()
    return QIcon(picture)
