"""The keys, as people know them from avatarify, and the panel that lists them."""

from dataclasses import dataclass

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from app.ui.languages import tr
from app.ui.widgets import ColumnScroll, SideBySide, button, label, panel
from mcnet.phrases import phrase


@dataclass(frozen=True)
class Key:
    """One line of the help.

    Attributes:
        command: what the window calls it.
        sequences: as `QKeySequence` reads them.
        caps: what is printed on the keys.
        what: what it does.
        everywhere: it works in the app's dialogs too, not in the window alone.
    """

    command: str
    sequences: tuple[str, ...]
    caps: tuple[str, ...]
    what: str
    everywhere: bool = False


def _key(command: str, sequence: str, what: str) -> Key:
    return Key(command, (sequence,), (sequence,), what)


_CAP_PX, _CAPS_PX = 40, 96
_COLUMN_PX = 250

GROUPS: tuple[tuple[str, tuple[Key, ...]], ...] = (
    (
        phrase("In a call"),
        (
            _key("slate", "0", phrase("Slate at once: the call sees no face")),
            Key(
                "slate",
                ("Ctrl+0",),
                (phrase("Ctrl"), "0"),
                phrase("The same, from a dialog for files or colours too"),
                everywhere=True,
            ),
            _key("live", "G", phrase("Go live, or stop")),
            _key("record", "V", phrase("Start or stop the recording")),
            _key("snapshot", "P", phrase("Save a picture of the output")),
        ),
    ),
    (
        phrase("Avatar"),
        (
            Key("avatar", tuple("123456789"), ("1", "…", "9"), phrase("The first nine portraits")),
            _key("previous", "A", phrase("Previous portrait")),
            _key("next", "D", phrase("Next portrait")),
            Key("add", ("Ctrl+O",), (phrase("Ctrl"), "O"), phrase("Add a picture from a file")),
            Key("paste", ("Ctrl+V",), (phrase("Ctrl"), "V"), phrase("Add a picture from the clipboard")),
            _key("rename", "F2", phrase("Rename a portrait of yours")),
        ),
    ),
    (
        phrase("Pose"),
        (
            _key("calibrate_now", "X", phrase("Calibrate: this very frame is the reference")),
            _key("calibrate", "F", phrase("Calibrate hands-free: the best frame of a second or two")),
            _key("zoom_in", "W", phrase("Zoom in on you")),
            _key("zoom_out", "S", phrase("Zoom out")),
            Key("nudge_up", ("U",), ("U",), phrase("Nudge the crop up")),
            Key("nudge_down", ("J",), ("J",), phrase("Nudge it down")),
            Key("nudge_left", ("H",), ("H",), phrase("Nudge it left")),
            Key("nudge_right", ("K",), ("K",), phrase("Nudge it right")),
            _key("overlay_less", "Z", phrase("Portrait over your picture: fainter")),
            _key("overlay_more", "C", phrase("Portrait over your picture: stronger")),
        ),
    ),
    (
        phrase("View"),
        (
            _key("mirror_preview", "R", phrase("Mirror the preview")),
            _key("mirror_output", "T", phrase("Mirror what the call sees")),
            _key("statistics", "I", phrase("Statistics")),
            _key("landmarks", "O", phrase("Landmarks and keypoints")),
            _key("inspector", "N", phrase("Inside the network")),
            _key("performer", "B", phrase("Show or hide my camera picture")),
            Key("help", ("?", "F1"), ("?",), phrase("This list")),
            Key("quit", ("Ctrl+Q",), (phrase("Ctrl"), "Q"), phrase("Stop everything and quit")),
        ),
    ),
)


class KeysPanel(QWidget):
    """All keys, in two columns, or in one where there is no room for two.

    Signals:
        closed: the user has read enough.
    """

    closed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(tr("Keys"))
        self.close_button = button(tr("Close"), tip=tr("Back to the preview (Escape)"), icon_name="close")
        self.close_button.clicked.connect(self.closed)
        head = QHBoxLayout()
        head.addWidget(label(tr("Keys"), "heading"))
        head.addStretch(1)
        head.addWidget(self.close_button)

        columns = SideBySide(28, least_px=_COLUMN_PX)
        for groups, caps_px in ((GROUPS[:2] + GROUPS[3:], _CAPS_PX), (GROUPS[2:3], _CAP_PX)):
            half = QWidget()
            column = QVBoxLayout(half)
            column.setContentsMargins(0, 0, 8, 14)
            column.setSpacing(14)
            for title, keys in groups:
                column.addLayout(_group(title, keys, caps_px))
            column.addStretch(1)
            columns.add(half)

        card = panel()
        inside = QVBoxLayout(card)
        inside.setContentsMargins(20, 16, 12, 16)
        inside.setSpacing(12)
        inside.addLayout(head)
        inside.addWidget(ColumnScroll(columns), 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(card)


def _group(title: str, keys: tuple[Key, ...], caps_px: int) -> QGridLayout:
    grid = QGridLayout()
    grid.setHorizontalSpacing(12)
    grid.setVerticalSpacing(5)
    grid.setColumnStretch(1, 1)
    grid.setColumnMinimumWidth(0, caps_px)
    grid.addWidget(label(title, "muted"), 0, 0, 1, 2)
    for number, key in enumerate(keys, start=1):
        caps = QHBoxLayout()
        caps.setSpacing(4)
        for cap in key.caps:
            caps.addWidget(label(cap, "text" if cap == "…" else "keycap"))
        caps.addStretch(1)
        grid.addLayout(caps, number, 0)
        grid.addWidget(label(key.what, wrap=True), number, 1)
    return grid
