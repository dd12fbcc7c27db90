"""Every screen of the window on the fakes, at every size, and what is wrong with it.

`python -m tests.app.ui.screens [--theme light] [--language de] [--rtl] [--font 1.5] [--few] [--folder FOLDER]` prints a
fault per line; `QT_SCALE_FACTOR` sets the pixels per point. With a folder it leaves the pictures there, one contact
sheet per size.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from tests.app.ui.desk import PLATFORM

os.environ["QT_QPA_PLATFORM"] = PLATFORM  # before Qt asks

import numpy as np
from PyQt6.QtCore import QLocale, QPoint, QRect, QRectF, Qt
from PyQt6.QtGui import QPainter, QPixmap
from PyQt6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QApplication,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QSlider,
    QWidget,
)

import assets
from app.errors import AppError
from app.pipeline.events import StageFailed, StateChanged
from app.pipeline.output.compositor import Compositor
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import AppSettings, LiveSettings, WindowSettings
from app.ui.crop_editor import CropCanvas
from app.ui.inspector_dock import ViewsCanvas
from app.ui.languages import speak
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.parts import WindowOptions
from app.ui.performer_widget import PerformerWidget
from app.ui.preview import Preview
from app.ui.session import Session
from app.ui.sound_row import LevelMeter
from app.ui.theme import apply_theme, current_theme
from app.ui.widgets import ColumnScroll, Combo, ElidedLabel
from mcnet.media.images import read_rgb
from mcnet.phrases import phrase
from tests.app.ui.fakes import MISSING, STATS, World, card, performer_view_of
from tests.app.ui.pseudo import speak_pseudo, texts_of, untranslated

SIZES = ((800, 480), (920, 560), (960, 540), (1024, 600), (1180, 720), (1366, 700))
"""In points: the smallest, what used to be, 200 % of 1920x1080, two notebooks less their panels, and the default."""
_LEAVES = (
    QLabel,
    QAbstractButton,
    QComboBox,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QSlider,
    CropCanvas,
    LevelMeter,
    PerformerWidget,
    ViewsCanvas,
)
_LONG = (
    "The model cannot be loaded: cannot read /home/somebody/models/another-model.safetensors: it ends after 1024 bytes "
    "of 61211904; copy it again, or choose another model. The output shows the slate."
)
_FAKED = (
    "A name as long as one may have it, yes; Webcam, GPU 0: a fake one, device of virtualcam, the fake GPU, usual, "
    "someone, Start again, Another one waits."
)
_LATEST = Path("runs/of-mine/latest.safetensors")
_LICENCE = "CC BY 4.0 (GRID corpus), Apache-2.0, a licence that somebody wrote in words of their own and 12 more"


class Stage:
    """One window on fakes of its own."""

    def __init__(self, folder: Path, theme: str, **settings: Any) -> None:
        self.folder = folder
        self.world = World(folder)
        self._prepare(self.world)
        window = WindowSettings(theme=cast(Any, theme), **settings)
        options = WindowOptions(settings_path=folder / "settings.toml")
        kept = AppSettings(portrait="fake_1", window=window, recordings=str(folder))
        self.window = MainWindow(Session(options, kept, self.world.parts()))
        self.session = self.window.session
        self.window.when_painted(self.session.start)
        self.window.show()
        self.until(lambda: self.session.ready and bool(self.session.desk.entries))
        self.until(lambda: not self.session.busy)

    def _prepare(self, world: World) -> None:
        world.cameras[0] = replace(world.cameras[0], name="Integrated Camera of a Notebook: HD 1080p (V4L2)")

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Let the window run until something holds."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, "the window did not get there"
            QApplication.processEvents()
            time.sleep(0.001)

    def rest(self) -> None:
        """Let what was asked for be laid out. It is not painted, which is what takes long: `grab` does that."""
        self.window.setUpdatesEnabled(False)
        for _ in range(8):
            QApplication.processEvents()
        self.window.setUpdatesEnabled(True)

    def prove(self) -> None:
        """Everything works, and the preview shows an avatar."""
        self.world.pipeline.prove()
        self.until(lambda: self.session.chain.missing_name() == "virtual camera")
        avatar = read_rgb(assets.ROOT / "portraits" / "woman_1.jpg")
        picture = Compositor(OutputFormat(1280, 720)).compose(avatar, LiveSettings())
        self.world.pipeline.show(State.LIVE, picture)
        self.world.pipeline.show_performer(performer_view_of())
        self.world.pipeline.figures = STATS
        self.until(lambda: self.window.preview.picture_size is not None)
        self.window.messages.clear("measured")

    def go_live(self) -> None:
        """The virtual camera takes the pictures, and a recording runs."""
        self.prove()
        self.session.virtual_camera.switch(True)
        self.until(lambda: "virtualcam" in self.world.pipeline.sinks)
        self.world.pipeline.open_sink("virtualcam")
        self.until(lambda: self.session.virtual_camera.on_air)
        self.session.go_live()
        self.session.recordings.toggle()
        self.until(lambda: self.session.recordings.path is not None)

    def notice(self) -> None:
        """A long one, with something to do."""
        self.window.messages.show_message(Message("stage", _LONG, action="Start again", act=lambda: None))
        self.window.messages.show_message(Message("other", "Another one waits.", tone="warning"))

    def data(self) -> str:
        """All words that are no text of the window's: names of files, cameras, portraits, models and what failed."""
        world = self.world
        names = [str(self.folder), _LONG, _LICENCE, _FAKED, *(entry.name for entry in self.session.desk.entries)]
        return " ".join([*names, *(camera.name for camera in world.cameras), repr(world.cards)])

    def close(self) -> None:
        """Stop everything."""
        self.window.close()
        self.session.deleteLater()
        self.window.deleteLater()


class _NoVirtualCamera(Stage):
    def _prepare(self, world: World) -> None:
        super()._prepare(world)
        world.report = MISSING


def _stages(folder: Path, theme: str) -> Iterator[tuple[str, Stage]]:
    """Each screen, one after the other; the one before is closed by then."""
    yield "first launch", Stage(folder, theme)

    stage = Stage(folder, theme)
    stage.prove()
    stage.notice()
    yield "first steps and a notice", stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.go_live()
    yield "live and recording", stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.prove()
    stage.world.pipeline.tell(StageFailed("model", _LONG))
    stage.world.pipeline.tell(StateChanged(State.FAULT))
    stage.until(lambda: stage.session.state is State.FAULT)
    yield "fault", stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.prove()
    stage.world.pipeline.fail_camera(phrase("{name} ended without a frame", name="Webcam"), retry_s=2.0)
    stage.world.pipeline.tell(StateChanged(State.NO_CAMERA))
    stage.until(lambda: stage.session.state is State.NO_CAMERA)
    yield "no camera", stage

    stage = _NoVirtualCamera(folder, theme)
    stage.prove()
    yield "doctor", stage

    stage = Stage(folder, theme, checklist_done=True, show_statistics=True, show_landmarks=True, show_fine_tune=True)
    stage.go_live()
    stage.window.performer.toggle_size()
    stage.session.set_live(replace(stage.session.settings.live, mouth_strength=1.5))
    stage.session.presets.save("A name as long as one may have it, yes")
    yield "statistics, fine-tune and a large self view", stage

    stage = Stage(folder, theme, checklist_done=True, show_statistics=True)
    stage.prove()
    stage.window.performer.toggle_size()
    stage.notice()
    yield "statistics, a large self view and a notice", stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.prove()
    stage.session.set_live(replace(stage.session.settings.live, background="colour", keypoints="detected"))
    yield "colours and no motion in space", stage

    for name, microphones in (
        ("a microphone", ["webcam"]),
        ("no microphone", AppError(_LONG)),
    ):
        stage = Stage(folder, theme, checklist_done=True)
        stage.prove()
        stage.world.microphones = microphones
        stage.session.microphone.switch(True)
        stage.session.call_microphone.switch(True)
        stage.until(lambda: bool(stage.session.microphone.name or stage.session.microphone.trouble))  # noqa: B023
        scroll = stage.window.controls.findChild(ColumnScroll)
        assert scroll is not None
        scroll.ensureWidgetVisible(stage.window.controls.sound)
        yield name, stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.prove()
    scroll = stage.window.controls.findChild(ColumnScroll)
    assert scroll is not None
    stage.session.remote.set_port(0)
    stage.session.remote.switch(True)
    stage.until(lambda: stage.session.remote.port != 0)
    stage.session.panic_key.choose("Ctrl+Alt+0")
    stage.until(lambda: stage.session.panic_key.heard)
    scroll.ensureWidgetVisible(stage.window.controls.theme)
    yield "output, computer, other programs and window", stage

    stage = Stage(folder, theme, checklist_done=True, show_inspector=True, show_statistics=True)
    stage.prove()
    stage.until(lambda: len(stage.window.inspector.canvas.shown) == 4)
    yield "inside the network", stage

    two = ("features", "attention")
    stage = Stage(folder, theme, checklist_done=True, show_inspector=True, inspector_views=two)
    stage.prove()
    stage.until(lambda: len(stage.window.inspector.canvas.shown) == 2)
    stage.notice()
    yield "two views of the inside, and a notice", stage

    stage = Stage(folder, theme, checklist_done=True)
    long_name = str(folder / "a-model-with-a-name-that-nobody-would-shorten")
    stage.world.cards[long_name] = card(Path(long_name) / "model.safetensors", good=False, steps=1200)
    stage.world.cards["starter"] = replace(card(_LATEST, steps=123456, of_steps=600000), licence=_LICENCE)
    stage.prove()
    stage.until(lambda: "123456" in stage.window.controls.run.card.text())
    stage.session.choose_model(long_name)
    stage.until(lambda: bool(stage.window.messages.messages))
    scroll = stage.window.controls.findChild(ColumnScroll)
    assert scroll is not None
    scroll.ensureWidgetVisible(stage.window.controls.run.card)
    yield "a model's card and what speaks against another", stage

    stage = Stage(folder, theme, checklist_done=True)
    stage.prove()
    stage.session.measure()
    stage.until(lambda: stage.session.measuring.doing.startswith("trying"))
    yield "measuring", stage
    stage.world.gate.set()

    several = [folder / f"{name}.png" for name in ("someone", "someone else", "a third")]
    for path in several:
        path.touch()
    for name, done, notice, paths in (
        ("crop", True, False, several[:1]),
        ("crop of several", True, False, several),
        ("crop, first steps and a notice", False, True, several[:1]),
    ):
        stage = Stage(folder, theme, checklist_done=done)
        stage.prove()
        stage.session.desk.add_files(paths)
        stage.until(lambda: stage.session.desk.cropping is not None)  # noqa: B023
        if notice:
            stage.window.crop_editor.canvas.turn(-70)
            stage.notice()
        yield name, stage

    for name, notice in (("keys", False), ("keys and a notice", True)):
        stage = Stage(folder, theme, checklist_done=True)
        stage.prove()
        stage.window.toggle_keys()
        if notice:
            stage.notice()
        yield name, stage


# What is wrong


def faults(window: MainWindow) -> list[str]:
    """Overlaps, cut texts, and what lies outside of its place, in the window and in a dock that floats beside it."""
    dock = window.inspector
    floating = [dock] if dock.isFloating() and dock.isVisible() else []
    return [fault for top in (window, *floating) for fault in _faults_in(top, window)]


def _faults_in(top: QWidget, window: MainWindow) -> list[str]:
    shown = [
        widget
        for widget in top.findChildren(QWidget)
        if widget.isVisibleTo(top) and widget.window() is top and not _of_qt(widget)
    ]
    found = [fault for widget in shown for fault in (*_outside(widget, window), *_cut(widget))]
    leaves = [widget for widget in shown if isinstance(widget, _LEAVES)]
    siblings: dict[QWidget | None, list[QWidget]] = {}
    for leaf in leaves:
        siblings.setdefault(leaf.parentWidget(), []).append(leaf)
    common: dict[tuple[QWidget, QWidget], QRect] = {}
    for group in siblings.values():  # also where they are scrolled out of sight
        common |= _overlaps(group, [leaf.geometry() for leaf in group])
    seen: dict[QWidget, QRect] = {}
    common |= _overlaps(leaves, [_visible(leaf, top, seen) for leaf in leaves])
    for (one, other), place in common.items():
        if not one.isAncestorOf(other) and not other.isAncestorOf(one):
            found.append(f"{_name(one)} and {_name(other)} overlap by {place.width()} x {place.height()}")
    return found


def _overlaps(widgets: Sequence[QWidget], places: Sequence[QRect]) -> dict[tuple[QWidget, QWidget], QRect]:
    """Pairs of widgets whose places have a part in common, and that part. There are thousands of pairs."""
    sides = np.array([(p.x(), p.y(), p.x() + p.width(), p.y() + p.height()) for p in places]).reshape(-1, 4)
    shared = np.minimum(sides[:, None, 2:], sides[None, :, 2:]) - np.maximum(sides[:, None, :2], sides[None, :, :2])
    pairs = np.argwhere(np.triu((shared > 0).all(-1), 1)).tolist()
    return {(widgets[one], widgets[other]): places[one] & places[other] for one, other in pairs}


def _of_qt(widget: QWidget) -> bool:
    """Made by Qt inside another one."""
    return widget.objectName().startswith("qt_") or "QScrollBar" in type(widget).__name__


def _name(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, QLabel | QAbstractButton) else ""
    return f"{type(widget).__name__} {(text or widget.accessibleName() or widget.objectName())[:40]!r}"


def _scrolled_by(widget: QWidget) -> QScrollArea | None:
    """The area whose whole content the widget is."""
    viewport = widget.parentWidget()
    area = viewport.parentWidget() if viewport is not None else None
    return area if isinstance(area, QScrollArea) and area.widget() is widget else None


def _visible(widget: QWidget, window: QWidget, seen: dict[QWidget, QRect]) -> QRect:
    """What can be seen of a widget, in the window's points; `seen` keeps it for the widgets beside it and below."""
    if widget not in seen:
        whole = QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())
        parent = widget.parentWidget()
        seen[widget] = whole if parent is None or parent is window else whole & _visible(parent, window, seen)
    return seen[widget]


def _outside(widget: QWidget, window: MainWindow) -> Iterator[str]:
    parent = widget.parentWidget()
    assert parent is not None
    if (area := _scrolled_by(widget)) is not None:
        viewport = area.viewport()
        assert viewport is not None
        if widget.width() > viewport.width():
            yield f"{_name(widget)} is {widget.width() - viewport.width()} wider than what scrolls it"
        if viewport.height() < 24:
            yield f"{_name(area)} shows {viewport.height()} of {widget.height()} only"
    elif not parent.rect().contains(widget.geometry()):
        yield f"{_name(widget)} at {widget.geometry().getRect()} is outside of {_name(parent)} {parent.size()}"
    if isinstance(parent, Preview):
        picture = window.preview.picture_rect().toRect()
        if not picture.contains(widget.geometry()):
            yield f"{_name(widget)} at {widget.geometry().getRect()} is outside of the picture {picture.getRect()}"
    if isinstance(widget, Preview) and widget.picture_rect().height() < 120:
        yield f"the preview's picture is {widget.picture_rect().height():.0f} high"
    if isinstance(widget, ViewsCanvas):
        whole = QRectF(widget.rect())
        for view, drawn in zip(widget.shown, widget.picture_rects(), strict=True):
            if not whole.contains(drawn) or drawn.height() < 64:
                yield f"the picture of {view} at {drawn.getRect()} is small, or outside of {whole.getRect()}"
    if isinstance(widget, CropCanvas) and min(widget.width(), widget.height()) < 100:
        yield f"the crop's picture is {widget.width()} x {widget.height()}"


def _cut(widget: QWidget) -> Iterator[str]:
    width, height = widget.width(), widget.height()
    if isinstance(widget, ElidedLabel):
        if widget.text() and (width < 24 or height < widget.fontMetrics().height()):
            yield f"{_name(widget)} has {width} x {height} only"
    elif isinstance(widget, QLabel) and widget.text():
        hint = widget.sizeHint()
        if widget.wordWrap():
            words = re.split(r"\s+|(?<=[/-])", widget.text())  # where Qt breaks lines
            longest = max(widget.fontMetrics().horizontalAdvance(word) for word in words)
            needs = widget.heightForWidth(width)
            if longest > widget.contentsRect().width() or needs > height:
                yield f"{_name(widget)} is cut: has {width} x {height}, needs {max(longest, width)} x {needs}"
        elif hint.width() > width or hint.height() > height:
            yield f"{_name(widget)} is cut: has {width} x {height}, needs {hint.width()} x {hint.height()}"
    elif isinstance(widget, QPushButton | QCheckBox):
        hint = widget.sizeHint()
        if not widget.text():
            hint = widget.iconSize() if isinstance(widget, QPushButton) else hint
        if hint.width() > width or hint.height() > height:
            yield f"{_name(widget)} is cut: has {width} x {height}, needs {hint.width()} x {hint.height()}"
    elif isinstance(widget, QComboBox) and not isinstance(widget, Combo):
        yield f"{_name(widget)} may be cut: use Combo"
    elif isinstance(widget, QComboBox | QLineEdit):
        if (needs := widget.sizeHint().height()) > height:
            yield f"{_name(widget)} is cut: is {height} high, needs {needs}"
    elif isinstance(widget, QPlainTextEdit):
        area = cast(QAbstractScrollArea, widget)
        bar = area.verticalScrollBar()
        if bar is not None and bar.maximum() > 0:
            yield f"{_name(widget)} hides {bar.maximum()} lines"


def watch_painting() -> tuple[list[str], list[str]]:
    """From now on, in this process, note the texts that widgets paint themselves: those that do not fit, and all."""
    before: Any = QPainter.drawText
    cut: list[str] = []
    painted: list[str] = []

    def draw_text(self: QPainter, *args: Any) -> None:
        painted.append(str(args[-1]))
        if len(args) == 3 and isinstance(args[0], QRect | QRectF):
            place, flags, text = QRectF(args[0]), args[1], args[2]
            needs = self.boundingRect(place, flags, text)
            if needs.width() > place.width() + 1 or needs.height() > place.height() + 1:
                has, wants = (f"{size.width():.0f} x {size.height():.0f}" for size in (place, needs))
                cut.append(f"painted {text[:40]!r} is cut: has {has}, needs {wants}")
        before(self, *args)

    QPainter.drawText = draw_text  # type: ignore[method-assign, assignment]
    return cut, painted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument(
        "--language", default="en", help="of the texts; pseudo: one that nobody speaks, with words 40 %% longer"
    )
    parser.add_argument("--rtl", action="store_true", help="laid out from right to left, as for Arabic or Hebrew")
    parser.add_argument("--font", type=float, default=1.0, help="so many times as large as usual")
    parser.add_argument("--few", action="store_true", help="at the smallest size and the default only")
    parser.add_argument("--folder", type=Path, help="leave the pictures here")
    args = parser.parse_args()
    app = QApplication(sys.argv[:1])
    font = app.font()
    font.setPointSizeF(font.pointSizeF() * args.font)
    app.setFont(font)
    sizes = (SIZES[0], SIZES[4]) if args.few else SIZES
    QLocale.setDefault(QLocale("en_US"))
    if args.language == "pseudo":
        speak_pseudo(app)
    else:
        speak(app, args.language)
    if args.rtl:
        app.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    apply_theme(app, current_theme(args.theme))
    pictures: dict[tuple[int, int], list[tuple[str, QPixmap]]] = {size: [] for size in sizes}
    found = 0
    cut, painted = watch_painting()
    with tempfile.TemporaryDirectory() as place:
        for number, (name, stage) in enumerate(_stages(Path(place), args.theme)):
            for size in sizes:
                stage.window.resize(*size)
                stage.rest()
                for side in ("portraits", "controls") if stage.window.columns.folded else ("both columns",):
                    if side != "both columns":
                        stage.window.columns.show_side(side)
                        stage.rest()
                    window = stage.window
                    wrong = [] if (window.width(), window.height()) == size else [f"the window is {window.size()}"]
                    cut.clear()
                    painted.clear()
                    picture = window.grab()
                    if args.language == "pseudo":
                        texts = [*texts_of(window), window.windowTitle(), *painted]
                        wrong += [f"{text!r} is not translated" for text in untranslated(texts, stage.data())]
                    for fault in (*wrong, *faults(window), *dict.fromkeys(cut)):
                        print(f"{size[0]}x{size[1]} {name} ({side}): {fault}")
                        found += 1
                    assert picture.width() == round(window.width() * picture.devicePixelRatio()), picture.size()
                    pictures[size].append((f"{number} {name} ({side})", picture))
            stage.close()
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
        for size, named in pictures.items():
            _sheet(size, named).save(str(args.folder / f"{size[0]}x{size[1]}.png"))
    print(f"{found} faults in {sum(map(len, pictures.values()))} pictures")
    return 1 if found else 0


def _sheet(size: tuple[int, int], named: list[tuple[str, QPixmap]], columns: int = 3) -> QPixmap:
    """All pictures of one size side by side."""
    width, height = size[0] + 8, size[1] + 24
    sheet = QPixmap(columns * width, -(-len(named) // columns) * height)
    sheet.fill()
    painter = QPainter(sheet)
    for number, (name, picture) in enumerate(named):
        x, y = number % columns * width, number // columns * height
        painter.drawText(x + 4, y + 16, name)
        painter.drawPixmap(QRect(x, y + 22, *size), picture)
    painter.end()
    return sheet


if __name__ == "__main__":
    sys.exit(main())
