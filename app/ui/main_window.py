"""The window: portraits on the left, the output in the middle, controls on the right, one status line."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import QMimeData, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QGuiApplication,
    QImage,
    QKeySequence,
    QPaintEvent,
    QResizeEvent,
    QShortcut,
    QShowEvent,
)
from PyQt6.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QInputDialog,
    QMainWindow,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.pipeline.camera_spec import is_address
from app.ui.actions import ActionBar
from app.ui.centre import Centre
from app.ui.checklist import ChainRow, Checklist
from app.ui.columns import Columns
from app.ui.controls import Controls
from app.ui.crop_editor import CropEditor
from app.ui.gallery import Gallery
from app.ui.inspector_dock import InspectorDock
from app.ui.keys import GROUPS, KeysPanel
from app.ui.languages import spoken, tr
from app.ui.messages import Message, MessageBar
from app.ui.performer_widget import PerformerWidget
from app.ui.preview import Preview
from app.ui.session import Session
from app.ui.status import (
    StatisticsPanel,
    StatusLine,
    Words,
    microphone_delay_ms,
    statistics_text,
    status_text,
    words_for,
)
from app.ui.theme import app_icon, apply_theme, current_theme
from app.ui.widgets import tint
from mcnet.track_name import is_track

if TYPE_CHECKING:
    from app.pipeline.portraits import Portrait

_FIGURES_MS = 250
_VIDEO_ENDINGS = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mts", ".m2ts", ".ts"),
)
_LEAST_PX = (760, 440)
"""A screen of 800 x 480 less a panel and the window's frame."""


class MainWindow(QMainWindow):
    """Lays everything out, and turns keys, clicks and drops into the session's wishes.

    Attributes:
        session: what it shows.
        gallery, preview, performer, controls, checklist, chain_row, statistics, status, messages: its parts.
        action_bar: the buttons below the preview.
        centre, columns: where all of that is.
        inspector: the dock that shows the inside of the network.
        crop_editor, keys_panel: pages that take the preview's place for a while.
        pages: the preview and those.
        ended: whether every thread has ended; True until the window was closed.

    Signals:
        closed: the window is gone, and everything it had started has been stopped.
    """

    closed = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.ended = True
        self._done = False
        self._refused_address = ""
        self._portrait: Portrait | None = None
        self._when_painted: Callable[[], None] | None = None
        self.setWindowTitle("mcnet-avatar")
        self.setWindowIcon(app_icon())
        self.setAcceptDrops(True)
        self.setMinimumSize(*_LEAST_PX)
        window = session.settings.window
        self.resize(window.width_px, window.height_px)

        self.gallery = Gallery(session.desk)
        self.messages = MessageBar()
        self.chain_row = ChainRow()
        self.preview = Preview(session.settings.output_width_px / session.settings.output_height_px)
        self.performer = PerformerWidget()
        self.performer.setParent(self.preview)
        self.preview.inset = self.performer
        self.crop_editor = CropEditor(session.desk)
        self.pages = QStackedWidget()
        for page in (self.preview, self.crop_editor):
            self.pages.addWidget(page)
        self.checklist = Checklist(session)
        self.controls = Controls(session)
        self.statistics = StatisticsPanel()
        self.action_bar = ActionBar(session)
        self.status = StatusLine()
        self.centre = Centre(self.preview, self.pages, self.messages, self.action_bar, self.checklist, self.chain_row)
        root = QWidget()
        self.setCentralWidget(root)
        self.columns = Columns(self.gallery, self.centre, self.controls, self.statistics, root)
        self.inspector = InspectorDock(session)
        self._lay_out(root)
        for made in root.findChildren(QWidget):
            made.setAcceptDrops(False)  # or a field takes the name of a dropped file for text
        self._connect()
        self._bind_keys()
        self._timer = QTimer(self)
        self._timer.setInterval(_FIGURES_MS)
        self._timer.timeout.connect(self._show_figures)
        self._timer.start()
        self._show_everything()

    # Making

    def _lay_out(self, root: QWidget) -> None:
        root.setObjectName("Root")
        whole = QVBoxLayout(root)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self.columns, 1)
        whole.addWidget(self.status)
        self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.inspector)

    def _connect(self) -> None:
        session = self.session
        session.changed.connect(self._show_state)
        session.live_changed.connect(self._show_state)
        session.window_changed.connect(self._show_window)
        session.woken.connect(self._pull)
        session.told.connect(self.messages.show_message)
        session.cleared.connect(self.messages.clear)
        session.busy_changed.connect(self.status.set_busy)
        session.desk.changed.connect(self._show_page)
        self.gallery.add_wanted.connect(self.pick_portrait)
        self.gallery.paste_wanted.connect(self.paste)
        self.controls.video_wanted.connect(self._pick_video)
        self.controls.motion_wanted.connect(self._pick_motion)
        self.controls.idle_motion_wanted.connect(self._pick_idle_motion)
        self.controls.network_wanted.connect(self._ask_for_address)
        self.controls.scene.picture_wanted.connect(self._pick_background)
        self.controls.scene.video_wanted.connect(self._pick_background_video)
        self.preview.dragged.connect(self._place_portrait)
        self.preview.turned.connect(self._resize_portrait)
        self.preview.double_clicked.connect(self._put_portrait_back)
        self.controls.slate_picture_wanted.connect(self._pick_slate_picture)
        self.controls.run.model_wanted.connect(self._pick_model)
        self.controls.run.model_folder_wanted.connect(self._pick_model_folder)
        self.controls.run.folder_wanted.connect(self._pick_folder)
        self.controls.pause.clicked.connect(self.preview.set_paused)
        self.checklist.portrait_wanted.connect(self.pick_portrait)
        self.checklist.put_away.connect(lambda: self.controls.checklist.click())
        self.performer.resized.connect(self.preview.lay_out)
        self.status.help_button.clicked.connect(self.toggle_keys)
        self.action_bar.live_button.clicked.connect(self.toggle_live)
        self.action_bar.calibrate_button.clicked.connect(lambda: session.calibrate(now=False))
        self.action_bar.record_button.clicked.connect(self._record)
        self.action_bar.snapshot_button.clicked.connect(session.recordings.snapshot)
        self.action_bar.motion_button.clicked.connect(self._record_motion)
        self.action_bar.slate_button.clicked.connect(self._slate_clicked)

    def _commands(self) -> dict[str, Callable[[], object]]:
        """What each key of `app.ui.keys` does, but for the digits."""
        session, controls = self.session, self.controls
        return {
            "slate": session.slate,
            "live": self.toggle_live,
            "record": session.recordings.toggle,
            "snapshot": session.recordings.snapshot,
            "previous": lambda: session.desk.step(-1),
            "next": lambda: session.desk.step(1),
            "add": self.pick_portrait,
            "paste": self.paste,
            "rename": self.gallery.begin_renaming,
            "calibrate_now": lambda: session.calibrate(now=True),
            "calibrate": lambda: session.calibrate(now=False),
            "zoom_in": lambda: controls.step_zoom(1),
            "zoom_out": lambda: controls.step_zoom(-1),
            "nudge_up": lambda: controls.nudge("up"),
            "nudge_down": lambda: controls.nudge("down"),
            "nudge_left": lambda: controls.nudge("left"),
            "nudge_right": lambda: controls.nudge("right"),
            "overlay_less": lambda: controls.step_overlay(-1),
            "overlay_more": lambda: controls.step_overlay(1),
            "mirror_preview": controls.mirror_preview.click,
            "mirror_output": controls.mirror_output.click,
            "statistics": controls.statistics.click,
            "landmarks": controls.landmarks.click,
            "inspector": controls.inspector.click,
            "performer": controls.performer.click,
            "help": self.toggle_keys,
            "quit": self._quit,
        }

    def _bind_keys(self) -> None:
        commands = self._commands()
        for _, keys in GROUPS:
            for key in keys:
                for sequence in key.sequences:
                    if key.command == "avatar":
                        number = int(sequence)
                        self._bind(sequence, lambda number=number: self.session.desk.choose_number(number))  # type: ignore[misc]
                    else:
                        self._bind(sequence, commands[key.command], everywhere=key.everywhere)
        self._bind("Escape", self._escape)
        for choice in self.findChildren(QComboBox):  # whose list is a window of its own while it is open
            slate = QShortcut(QKeySequence("0"), choice.view())
            slate.activated.connect(self.session.slate)

    def _bind(self, sequence: str, command: Callable[[], object], *, everywhere: bool = False) -> None:
        shortcut = QShortcut(QKeySequence(sequence), self)
        if everywhere:
            shortcut.setContext(Qt.ShortcutContext.ApplicationShortcut)
        shortcut.setAutoRepeat(sequence in "WSUHJKZC")
        shortcut.activated.connect(command)

    @property
    def missing(self) -> str:
        """What is said to be missing before going live."""
        return self.action_bar.missing.text()

    # Wishes

    def toggle_live(self) -> None:
        """Go live, or leave the slate up."""
        if self.session.live:
            self.session.stop()
        else:
            self.session.go_live()

    @cached_property
    def keys_panel(self) -> KeysPanel:
        """Made when it is asked for: it has a label per key and more, for which no start of the app should wait."""
        made = KeysPanel()
        made.closed.connect(self.toggle_keys)
        self.pages.addWidget(made)
        return made

    def toggle_keys(self) -> None:
        """Show the keys, or the preview again."""
        if isinstance(self.pages.currentWidget(), KeysPanel):
            self.pages.setCurrentWidget(self.preview)
            self._show_page()
        else:
            self.pages.setCurrentWidget(self.keys_panel)
            self.keys_panel.close_button.setFocus()

    def pick_portrait(self) -> None:
        """Let the user pick pictures to add."""
        dialog = self._file_dialog(tr("Add a portrait"), _kinds_of_pictures())
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.filesSelected.connect(lambda paths: self.session.desk.add_files([Path(path) for path in paths]))
        dialog.show()

    def paste(self) -> None:
        """Add the picture in the clipboard, or the picture files copied to it."""
        clipboard = QGuiApplication.clipboard()
        mime = clipboard.mimeData() if clipboard is not None else None
        if mime is not None and self._take(mime):
            return
        image = clipboard.image() if clipboard is not None else None
        if image is None or image.isNull():
            nothing = tr("There is no picture in the clipboard: copy one first.")
            self.messages.show_message(Message("paste", _address_alone(mime) or nothing, tone="info"))
        else:
            self.session.desk.add_image(image)

    def _pick_video(self) -> None:
        endings = " ".join(f"*{ending}" for ending in _VIDEO_ENDINGS)
        dialog = self._file_dialog(
            tr("A video in the camera's place"), tr("Videos ({endings});;All files (*)", endings=endings)
        )
        dialog.fileSelected.connect(self.session.camera_desk.choose)
        dialog.show()

    def _pick_motion(self) -> None:
        self._pick_motion_file(tr("A motion file in the camera's place"), self.session.camera_desk.choose)

    def _pick_idle_motion(self) -> None:
        self._pick_motion_file(tr("A motion file for the avatar that idles"), self.controls.set_idle_motion)

    def _pick_motion_file(self, title: str, then: Callable[[str], object]) -> None:
        def show(folder: Path, there: bool | None) -> None:
            begin = folder if there else Path.home()
            dialog = self._file_dialog(title, tr("Motion files (*.safetensors);;All files (*)"), begin)
            dialog.fileSelected.connect(then)
            dialog.show()

        self.session.where_recordings_are(show)

    def _ask_for_address(self) -> None:
        """Let the user give a network camera's address; neither modal nor lost if it cannot be read."""
        dialog = QInputDialog(self)
        dialog.setWindowTitle(tr("Network camera"))
        dialog.setLabelText(
            tr(
                "The address that the camera's app shows, such as http://192.168.1.20:8080/video or "
                "rtsp://192.168.1.20/live.\nIf it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video"
            )
        )
        dialog.setTextValue(self._refused_address or "http://")
        dialog.setOkButtonText(tr("Use this camera"))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.textValueSelected.connect(self._take_address)
        dialog.show()

    def _take_address(self, text: str) -> None:
        address = text.strip() if "://" in text else f"http://{text.strip()}"
        self._refused_address = "" if self.session.camera_desk.choose(address) else address

    def _pick_background(self) -> None:
        dialog = self._file_dialog(tr("A picture as background"), _kinds_of_pictures())
        dialog.fileSelected.connect(lambda path: self.controls.scene.set_file("image", Path(path)))
        dialog.show()

    def _pick_background_video(self) -> None:
        endings = " ".join(f"*{ending}" for ending in _VIDEO_ENDINGS)
        dialog = self._file_dialog(
            tr("A video as background"), tr("Videos ({endings});;All files (*)", endings=endings)
        )
        dialog.fileSelected.connect(lambda path: self.controls.scene.set_file("video", Path(path)))
        dialog.show()

    def _shows_portrait(self) -> bool:
        """Whether the output shows the portrait, so that the user sees what becomes of it."""
        return self.session.state.shows_avatar

    def _place_portrait(self, right: float, down: float) -> None:
        """The user drags the portrait by shares of the picture, as the preview shows it."""
        if self._shows_portrait():
            mirrored = self.session.settings.window.mirror_preview
            self.controls.scene.move_place(-right if mirrored else right, down)

    def _resize_portrait(self, steps: float) -> None:
        if self._shows_portrait():
            self.controls.scene.step_size(steps)

    def _put_portrait_back(self) -> None:
        if self._shows_portrait():
            self.controls.scene.reset_place()

    def _pick_slate_picture(self) -> None:
        dialog = self._file_dialog(tr("A picture for the slate"), _kinds_of_pictures())
        dialog.fileSelected.connect(lambda path: self.controls.set_slate_picture(Path(path)))
        dialog.show()

    def _pick_model(self) -> None:
        dialog = self._file_dialog(tr("A model"), tr("Models (*.safetensors *.pth *.tar);;All files (*)"))
        dialog.fileSelected.connect(lambda path: self.controls.run.set_model(Path(path)))
        dialog.show()

    def _pick_model_folder(self) -> None:
        dialog = self._file_dialog(tr("A model's folder, or that of a run that learns"), "")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(lambda path: self.controls.run.set_model(Path(path)))
        dialog.show()

    def _pick_folder(self) -> None:
        def show(folder: Path, there: bool | None) -> None:
            dialog = self._file_dialog(tr("A folder for recordings"), "", folder if there else Path.home())
            dialog.setFileMode(QFileDialog.FileMode.Directory)
            dialog.fileSelected.connect(lambda path: self.controls.run.set_folder(Path(path)))
            dialog.show()

        self.session.where_recordings_are(show)

    def _file_dialog(self, title: str, kinds: str, folder: Path | None = None) -> QFileDialog:
        """A dialog for a file that exists.

        While it is active, the window's own keys are dead, the plain 0 too: it belongs to the text field. Ctrl+0 slates
        from here as well, for which the dialog must be neither modal nor the system's own. It begins with a folder,
        None being that of the dialog before, and looks into it on this thread. A folder that is not there would be
        taken for the name of what was chosen.
        """
        dialog = QFileDialog(self, title, "" if folder is None else str(folder), kinds)
        dialog.setOption(QFileDialog.Option.DontUseNativeDialog)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        return dialog

    def _take(self, mime: QMimeData) -> bool:
        """Use dropped or pasted files: pictures become portraits, also those in a folder; a video or the motion in a
        file stands in for the camera.
        """
        from mcnet.media.images import meant_as_picture

        paths = [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()]
        folders = [path for path in paths if _is_folder(path)]
        pictures = [path for path in paths if meant_as_picture(path)]
        played = [path for path in paths if path.suffix.lower() in _VIDEO_ENDINGS or is_track(path)]
        if pictures:
            self.session.desk.add_files(pictures)
        for folder in folders:
            self.session.desk.add_folder(folder)
        if played and played[-1] not in folders:
            self.session.camera_desk.choose(str(played[-1]))
        return bool(pictures or folders or played)

    def _record(self) -> None:
        self.session.recordings.toggle()
        self._show_state()  # the button is down only once a recording runs

    def _record_motion(self) -> None:
        self.session.recordings.toggle_motion()
        self._show_state()

    def _slate_clicked(self) -> None:
        self.session.slate()
        self._show_state()

    def _escape(self) -> None:
        page = self.pages.currentWidget()
        if self.gallery.renaming:
            self.gallery.cancel_renaming()
        elif isinstance(page, KeysPanel):
            self.toggle_keys()
        elif page is self.crop_editor:
            self.session.desk.cancel_crop()
        elif self.messages.isVisible():
            self.messages.dismiss()

    def _quit(self) -> None:
        self.close()

    # Showing

    def _show_everything(self) -> None:
        self._show_window()
        self._show_state()
        self._show_figures()

    def _pull(self) -> None:
        composed, view = self.session.pull()
        if composed is not None:
            # A mirror is for one's own movements; words are read.
            readable = composed.fading or not composed.state.shows_avatar
            mirrored = self.session.settings.window.mirror_preview and not readable
            self.preview.show_picture(composed.rgb, mirrored=mirrored, badge=self.session.settings.live.badge)
        if view is not None and self.pages.currentWidget() is self.preview and not self.preview.paused:
            self.performer.show_view(view)
        if view is not None and view.posed is not None and self.inspector.isVisible():
            self.session.insight.offer(view.posed)

    def _show_state(self) -> None:
        session = self.session
        on_air = session.virtual_camera.on_air
        words = words_for(session.state, on_air=on_air, in_space=session.in_space, more=session.reason)
        if session.measuring.under_way:
            words = Words(tr("MEASURING"), "info", spoken(session.measuring.doing))
        self.preview.set_words(words)
        self.setWindowTitle(f"{words.state.capitalize()} - mcnet-avatar")
        self.preview.set_progress(session.measuring.share if session.measuring.under_way else session.calibrating)
        self.status.set_words(words)
        if session.portrait is not self._portrait:
            self._portrait = session.portrait
            self.gallery.set_portrait(session.portrait)
            self.performer.set_portrait(None if session.portrait is None else session.portrait.square)
        if session.chain.camera.failed:
            self.performer.clear()

        self.chain_row.show_chain(session.chain)
        self.action_bar.show_state()

    def _show_window(self) -> None:
        window = self.session.settings.window
        app = QApplication.instance()
        theme = current_theme(window.theme)
        if isinstance(app, QApplication) and app.palette().window().color().name() != theme.window:
            apply_theme(app, theme)
            self.refresh_theme()
        self.performer.set_mirrored(window.mirror_preview)
        self.performer.set_opacity(window.overlay_opacity)
        self.performer.set_points(window.show_landmarks)
        self.performer.setVisible(window.show_driver)
        self.centre.show_steps(not window.checklist_done)
        self.statistics.setVisible(window.show_statistics)
        self.inspector.show_as(window, self.width() - _LEAST_PX[0])
        self._show_figures()

    def refresh_theme(self) -> None:
        """Draw everything again that holds a colour of its own."""
        for made in self.findChildren(QPushButton):
            tint(made)
        self.messages.refresh_theme()
        self.checklist.refresh()
        self.chain_row.show_chain(self.session.chain)

    def _show_page(self) -> None:
        cropping = self.session.desk.cropping is not None
        if cropping:
            self.pages.setCurrentWidget(self.crop_editor)
        elif self.pages.currentWidget() is self.crop_editor:
            self.pages.setCurrentWidget(self.preview)

    def _show_figures(self) -> None:
        session, stats = self.session, self.session.stats()
        session.watch_speed(stats)
        text = status_text(self.preview.words, stats, session.device)
        by_hand = session.live and not session.call_microphone.in_call
        delay_ms = microphone_delay_ms(stats) if by_hand else 0
        self.status.set_figures(text, delay_ms=delay_ms, tooltip=session.engine)
        self.action_bar.show_recording()
        if session.settings.window.show_statistics:
            self.statistics.set_text(statistics_text(stats, f"{session.device} {session.backend}".strip()))

    def come_to_front(self) -> None:
        """Show the window above all others, wherever it was put; where the desktop forbids that, ask for attention."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()
        QApplication.alert(self)

    def follow_system(self) -> None:
        """The desktop's theme has changed."""
        self._show_window()

    def when_painted(self, then: Callable[[], None]) -> None:
        """Call something once, after the window was painted for the first time."""
        self._when_painted = then

    # Qt

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        super().paintEvent(a0)
        if self._when_painted is not None:
            then, self._when_painted = self._when_painted, None
            QTimer.singleShot(0, then)

    def dragEnterEvent(self, a0: QDragEnterEvent | None) -> None:
        if a0 is not None and (mime := a0.mimeData()) is not None and (mime.hasUrls() or mime.hasImage()):
            _accept_copy(a0)
            self.preview.set_words(Words(tr("DROP"), "info", tr("a picture becomes a portrait, a video the camera")))

    def dragLeaveEvent(self, a0: QDragLeaveEvent | None) -> None:
        super().dragLeaveEvent(a0)
        self._show_state()

    def dropEvent(self, a0: QDropEvent | None) -> None:
        self._show_state()
        if a0 is None or (mime := a0.mimeData()) is None:
            return
        if self._take(mime):
            _accept_copy(a0)
            return
        image = mime.imageData() if mime.hasImage() else None
        if isinstance(image, QImage) and not image.isNull():  # where its data are damaged there is an empty one
            self.session.desk.add_image(image)
            _accept_copy(a0)
        else:
            nothing = tr("Drop a picture to add a portrait, or a video or motion file to stand in for the camera.")
            self.messages.show_message(Message("drop", _address_alone(mime) or nothing, tone="info"))

    def showEvent(self, a0: QShowEvent | None) -> None:
        super().showEvent(a0)
        if (handle := self.windowHandle()) is not None:
            handle.screenChanged.connect(self._fit_screen)
        QTimer.singleShot(0, self._fit_screen)  # the frame that the desktop puts around it is known by then

    def _fit_screen(self) -> None:
        """Be no larger than what the desktop leaves to windows, and lie within it."""
        screen = self.screen()
        if screen is None or self._done or self.isMaximized() or self.isFullScreen():
            return
        room, frame = screen.availableGeometry(), self.frameGeometry()
        around = QSize(frame.width() - self.width(), frame.height() - self.height())
        self.resize(self.size().boundedTo(room.size() - around))
        frame = self.frameGeometry()
        self.move(
            min(max(frame.x(), room.x()), room.right() + 1 - frame.width()),
            min(max(frame.y(), room.y()), room.bottom() + 1 - frame.height()),
        )

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        super().resizeEvent(a0)
        self.inspector.fit(self.width() - _LEAST_PX[0])

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        if not self._done:
            self._done = True
            self._timer.stop()
            for dialog in self.findChildren(QDialog):  # or they stay on the screen until all has ended
                dialog.close()
            self.hide()
            if not (self.isMaximized() or self.isFullScreen()):
                self.session.set_window_size(self.width(), self.height())
            self.ended = self.session.close()
            self.session.desk.close()
            self.closed.emit()
        super().closeEvent(a0)


def _accept_copy(event: QDropEvent) -> None:
    """Take what is dropped, whatever is proposed: of what is moved, which Shift asks for, the file may go."""
    event.setDropAction(Qt.DropAction.CopyAction)
    event.accept()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, which will be told as any other file's
        return False


def _address_alone(mime: QMimeData | None) -> str:
    """What to say where only the address of a picture on the web has come; "" where none has."""
    if mime is None or any(url.isLocalFile() for url in mime.urls()) or not (mime.hasUrls() or is_address(mime.text())):
        return ""
    return tr("This is only the address of a picture: copy the picture itself, or save it and add the file.")


def _kinds_of_pictures() -> str:
    """For a file dialog, which can go by names only: the usual ones, and all, for what counts is the content."""
    from mcnet.media.images import usual_endings

    endings = " ".join(f"*{ending}" for ending in usual_endings())
    return tr("Pictures ({endings});;All files (*)", endings=endings)
