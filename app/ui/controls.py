"""The controls on the right."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLineEdit, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app.pipeline.animation.smoothing import smoothing_delay_ms
from app.pipeline.camera_spec import is_address, without_secrets
from app.settings import (
    EXPRESSION_PARTS,
    GENTLE,
    LONGEST_SLATE_TEXT,
    MOTION_PARTS,
    Language,
    LiveSettings,
    MotionKind,
    WindowSettings,
    not_on_slate,
)
from app.ui.doctor_row import DoctorRow
from app.ui.flow import FlowLayout
from app.ui.languages import LANGUAGES, tr
from app.ui.messages import Message
from app.ui.preset_row import PresetRow
from app.ui.remote_row import RemoteRow
from app.ui.run_settings import RunSettings
from app.ui.scene import SceneControls
from app.ui.session import Session
from app.ui.sound_row import SoundRow
from app.ui.theme import ThemeChoice
from app.ui.widgets import (
    NAME_PX,
    ColumnScroll,
    Combo,
    ElidedLabel,
    Expander,
    Segmented,
    Switch,
    ValueSlider,
    button,
    label,
    percent,
    rule,
    set_tip,
    written,
)
from app.words import not_in_space_words
from mcnet.phrases import phrase

_LEAST_PX = 308
_OTHER_FILE = "\0file"  # what stands for a file that is still to be picked: no path is written like this
ZOOM_STEP = 0.05
NUDGE_STEP = 0.01
OVERLAY_STEP = 0.1
_DEFAULTS = LiveSettings()
_IN_SPACE_TIP = phrase(
    "The avatar keeps its own face and looks where you look, however you were turned at the calibration."
)
_PARTS = {
    "turn": (phrase("Turn"), phrase("The head turned to the sides.")),
    "nod": (phrase("Nod"), phrase("The head raised and lowered.")),
    "tilt": (phrase("Tilt"), phrase("The head leant towards a shoulder.")),
    "shift": (phrase("Shift"), phrase("The head moved in the picture.")),
    "nearness": (phrase("Nearness"), phrase("The head moved towards the camera and away from it.")),
    "lids": (phrase("Lids"), phrase("Blinks, and eyes wide open.")),
    "gaze": (phrase("Gaze"), phrase("Where the eyes look.")),
    "mouth": (phrase("Mouth"), phrase("Lips, jaw and chin.")),
    "brows": (phrase("Brows"), phrase("The brows raised and knit.")),
}


class Controls(QFrame):
    """Shows the settings and what the session knows, and passes changes on to the session.

    Attributes:
        camera, refresh_button, file_button, motion_button, network_button: which camera.
        doctor: the virtual camera.
        preset: strengths of the motion by name.
        idle: what the avatar does while its performer is away.
        remember_calibration: whether the reference comes back for the same performer and camera.
        motion_kind, no_space, motion, expression, smoothing: how the avatar moves, and why it cannot in space.
        fine_tune, gains: the gains of the parts of motion and expression, by the parts' names in the settings.
        retouch: whether what a portrait cannot show is drawn.
        zoom, overlay, nudge_buttons: how the performer is framed.
        scene: what stands behind the portrait, and where that stands.
        fine_detail, sharpness, badge, mirror_output, mirror_preview: the picture.
        slate_text, slate_button, no_slate_button: the slate.
        sound: the microphone of recordings.
        run: the output, the model and the device.
        remote: control from outside.
        performer, pause, statistics, landmarks, inspector, language, language_note, theme: the window.

    Signals:
        video_wanted: the user wants to pick a video that stands in for a camera.
        motion_wanted: the user wants to pick a motion file that stands in for a camera.
        idle_motion_wanted: the user wants to pick one that the avatar plays while it idles.
        network_wanted: the user wants to give the address of a network camera.
        slate_picture_wanted: the user wants to pick a picture for the slate.
    """

    video_wanted = pyqtSignal()
    motion_wanted = pyqtSignal()
    idle_motion_wanted = pyqtSignal()
    network_wanted = pyqtSignal()
    slate_picture_wanted = pyqtSignal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._language = session.settings.window.language
        self.setProperty("role", "panel")
        self.setMinimumWidth(_LEAST_PX)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        self.setAccessibleName(tr("Controls"))
        body = QWidget()
        whole = QVBoxLayout(self)
        whole.setContentsMargins(1, 4, 2, 4)
        whole.addWidget(ColumnScroll(body))
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(14, 8, 14, 8)
        self._column.setSpacing(8)
        self._make_camera()
        self._column.addWidget(rule())
        self._make_virtual_camera()
        self._column.addWidget(rule())
        self._make_motion()
        self._column.addWidget(rule())
        self._make_framing()
        self._column.addWidget(rule())
        self.scene = SceneControls(session)
        self._column.addWidget(label(tr("Scene"), "title"))
        self._column.addWidget(self.scene)
        self._column.addWidget(rule())
        self._make_picture()
        self._column.addWidget(rule())
        self.run = RunSettings(session)
        self.sound = SoundRow(session)
        self._column.addWidget(label(tr("Sound"), "title"))
        self._column.addWidget(self.sound)
        self._column.addWidget(rule())
        self._column.addWidget(label(tr("Output and computer"), "title"))
        self._column.addWidget(self.run)
        self._column.addWidget(rule())
        self.remote = RemoteRow(session)
        self._column.addWidget(label(tr("Other programs"), "title"))
        self._column.addWidget(self.remote)
        self._column.addWidget(rule())
        self._make_view()
        self._column.addStretch(1)
        session.changed.connect(self._refresh)
        session.live_changed.connect(self._refresh_live)
        session.window_changed.connect(self._refresh_window)
        self._refresh()
        self._refresh_live()
        self._refresh_window()

    # Making

    def _make_camera(self) -> None:
        self.camera = Combo(
            tr("Camera"), tr("The camera that sees you. Only the avatar leaves this app, never its picture.")
        )
        self.refresh_button = button(
            "", tip=tr("Look again for cameras"), icon_name="refresh", name=tr("Refresh cameras")
        )
        self._camera_state = ElidedLabel()
        self.file_button = button(
            tr("Use a video file…"), tip=tr("Use a video, in a loop, instead of a camera"), kind="link"
        )
        self.network_button = button(
            tr("Network camera…"),
            tip=tr("A phone with a camera app, or any camera with an address on your network"),
            kind="link",
        )
        self.motion_button = button(
            tr("Motion file…"),
            tip=tr("Play motion that was recorded before, in a loop, instead of a camera"),
            kind="link",
        )
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.camera, 1)
        row.addWidget(self.refresh_button)
        foot = FlowLayout()
        for made in (self.network_button, self.file_button, self.motion_button):
            foot.addWidget(made)
        self._column.addWidget(label(tr("Camera"), "title"))
        self._column.addLayout(row)
        self._column.addWidget(self._camera_state)
        self._column.addLayout(foot)
        self.camera.activated.connect(self._camera_chosen)
        self.refresh_button.clicked.connect(self._session.camera_desk.refresh)
        self.file_button.clicked.connect(self.video_wanted)
        self.motion_button.clicked.connect(self.motion_wanted)
        self.network_button.clicked.connect(self.network_wanted)

    def _make_virtual_camera(self) -> None:
        self.doctor = DoctorRow()
        self._column.addWidget(self.doctor)
        self.doctor.switched.connect(self._switch_virtual_camera)
        self.doctor.kind_chosen.connect(self._session.virtual_camera.choose)
        self.doctor.again_wanted.connect(self._session.virtual_camera.examine)

    def _make_motion(self) -> None:
        self.motion_kind = Segmented(
            tr("Motion"),
            (
                ("space", tr("In space"), _IN_SPACE_TIP),
                (
                    "plane",
                    tr("In the plane"),
                    tr("The avatar moves as you move in the picture since the calibration: the paper's way."),
                ),
                (
                    "absolute",
                    tr("Absolute"),
                    tr("The avatar takes your very pose and face: for a portrait of yourself."),
                ),
            ),
        )
        self.no_space = label("", "muted", wrap=True)
        self.preset = PresetRow(self._session)
        self.motion = ValueSlider(
            tr("Motion"),
            tr("How far the head moves."),
            low=0,
            high=2,
            default=_DEFAULTS.motion_strength,
            step=0.05,
            words=percent,
        )
        self.expression = ValueSlider(
            tr("Expression"),
            tr("How strongly mouth, eyes and brows move."),
            low=0,
            high=2,
            default=_DEFAULTS.expression_strength,
            step=0.05,
            words=percent,
        )
        self.fine_tune = Expander(tr("Fine-tune"), tr("Each part of motion and expression for itself, in space only."))
        self.gains: dict[str, ValueSlider] = {}
        for title, parts in ((tr("Parts of motion"), MOTION_PARTS), (tr("Parts of expression"), EXPRESSION_PARTS)):
            self.fine_tune.body.addWidget(label(title, "muted"))
            for part in parts:
                self._make_gain(part)
        self.retouch = Switch(
            tr("Draw skin, teeth, lids"),
            tr(
                "Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth "
                "that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture "
                "goes into it."
            ),
        )
        self.fine_tune.body.addWidget(self.retouch)
        self.idle = Combo(
            tr("While away"),
            tr(
                "What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints."
            ),
        )
        self.smoothing = ValueSlider(
            tr("Smoothing"),
            tr("Calms jitter; a slow movement is shown that much later."),
            low=0,
            high=1,
            default=_DEFAULTS.smoothing,
            step=0.05,
            words=lambda value: tr("{delay_ms:.0f} ms", delay_ms=smoothing_delay_ms(value)),
        )
        self.remember_calibration = Switch(
            tr("Remember the calibration"),
            tr(
                "You are not asked to calibrate again before the same camera. What your face measures is kept on this "
                "computer for that, for your account alone; switched off, it is deleted."
            ),
        )
        self._column.addWidget(label(tr("Motion"), "title"))
        for widget in (
            self.motion_kind,
            self.no_space,
            self.preset,
            self.motion,
            self.expression,
            self.fine_tune,
            self.smoothing,
            self.remember_calibration,
        ):
            self._column.addWidget(widget)
        idle_row = QHBoxLayout()
        idle_row.setSpacing(6)
        idle_name = label(tr("While away"))
        idle_name.setMinimumWidth(NAME_PX)
        idle_row.addWidget(idle_name)
        idle_row.addWidget(self.idle, 1)
        self._column.addLayout(idle_row)
        self.idle.activated.connect(self._idle_chosen)
        self.motion_kind.chosen.connect(self._motion_chosen)
        self.fine_tune.toggled.connect(lambda on: self._set_window(replace(self._window, show_fine_tune=on)))
        self.motion.moved.connect(lambda value: self._set_live(replace(self._live, motion_strength=value)))
        self.expression.moved.connect(lambda value: self._set_live(replace(self._live, expression_strength=value)))
        self.retouch.clicked.connect(lambda on: self._set_live(replace(self._live, retouch=on)))
        self.remember_calibration.clicked.connect(
            lambda on: self._set_live(replace(self._live, remember_calibration=on))
        )
        self.smoothing.moved.connect(lambda value: self._set_live(replace(self._live, smoothing=value)))

    def _make_gain(self, part: str) -> None:
        name, tip = _PARTS[part]
        made = ValueSlider(
            name,
            tr("{tip} Times Motion.", tip=tip) if part in MOTION_PARTS else tr("{tip} Times Expression.", tip=tip),
            low=0,
            high=2,
            default=getattr(_DEFAULTS, _strength(part)),
            step=0.05,
            words=percent,
        )
        made.moved.connect(lambda value: self._set_gain(part, value))
        self.gains[part] = made
        self.fine_tune.body.addWidget(made)

    def _make_framing(self) -> None:
        self.zoom = ValueSlider(
            tr("Zoom"),
            tr("How much of the crop your face fills (W and S)."),
            low=0.5,
            high=2,
            default=_DEFAULTS.zoom,
            step=ZOOM_STEP,
            words=percent,
        )
        self.overlay = ValueSlider(
            tr("Overlay"),
            tr("The portrait over your picture (Z and C); for motion in the plane, to line up the pose."),
            low=0,
            high=1,
            default=0,
            step=OVERLAY_STEP,
            words=percent,
        )
        self.nudge_buttons: dict[str, QPushButton] = {}
        places = QWidget()
        places.setLayoutDirection(Qt.LayoutDirection.LeftToRight)  # left is on the left in every language
        grid = QHBoxLayout(places)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        name = label(tr("Nudge"))
        name.setMinimumWidth(NAME_PX)
        for where, tip in (
            ("left", tr("Move the crop to the left (H)")),
            ("up", tr("Move the crop up (U)")),
            ("down", tr("Move the crop down (J)")),
            ("right", tr("Move the crop to the right (K)")),
            ("centre", tr("Put the crop back where the face is")),
        ):
            made = button("", tip=tip, icon_name=where, kind="flat", name=tip)
            made.setFixedWidth(30)  # all five fit beside the scroll bar
            made.setAutoRepeat(where != "centre")
            made.clicked.connect(lambda _=False, where=where: self.nudge(where))
            self.nudge_buttons[where] = made
            grid.addWidget(made)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(name)
        row.addWidget(places)
        row.addStretch(1)
        self._column.addWidget(label(tr("Framing"), "title"))
        self._column.addWidget(self.zoom)
        self._column.addWidget(self.overlay)
        self._column.addLayout(row)
        self.zoom.moved.connect(lambda value: self._set_live(replace(self._live, zoom=value)))
        self.overlay.moved.connect(lambda value: self._set_window(replace(self._window, overlay_opacity=value)))

    def _make_picture(self) -> None:
        self.slate_text = QLineEdit()
        self.slate_text.setMaxLength(LONGEST_SLATE_TEXT)
        self.slate_text.setPlaceholderText(tr("as usual"))
        self.slate_text.setAccessibleName(tr("Text of the slate"))
        set_tip(
            self.slate_text, tr("What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.")
        )
        self.slate_button = button(
            tr("Slate's picture…"), tip=tr("A picture of yours that the slate shows"), kind="link"
        )
        self.no_slate_button = button(tr("Without"), tip=tr("Show the slate without a picture again"), kind="link")
        slate_row = QHBoxLayout()
        slate_row.setSpacing(8)
        slate_name = label(tr("Slate says"))
        slate_name.setMinimumWidth(NAME_PX)
        slate_row.addWidget(slate_name)
        slate_row.addWidget(self.slate_text, 1)
        self.fine_detail = Switch(
            tr("Fine detail"),
            tr(
                "Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the "
                "pixels. It takes some milliseconds per picture: switch it off if the avatar stutters."
            ),
        )
        self.sharpness = ValueSlider(
            tr("Sharpness"),
            tr("How far the enlarged portrait is sharpened."),
            low=0,
            high=1,
            default=_DEFAULTS.sharpness,
            step=0.05,
            words=percent,
        )
        self.badge = Switch(
            tr("“AI avatar” badge"),
            tr("Says in the picture that it is synthetic. Please leave it on when others watch."),
        )
        self.mirror_output = Switch(tr("Mirror the output"), tr("Flip what the call sees (T)."))
        self.mirror_preview = Switch(
            tr("Mirror the preview"),
            tr("Show me the output as in a mirror (R), but for the badge; the call sees it unchanged."),
        )
        self._column.addWidget(label(tr("Picture"), "title"))
        for widget in (
            self.fine_detail,
            self.sharpness,
            self.badge,
            self.mirror_output,
            self.mirror_preview,
        ):
            self._column.addWidget(widget)
        self._column.addLayout(slate_row)
        slate_pictures = FlowLayout()
        slate_pictures.addWidget(self.slate_button)
        slate_pictures.addWidget(self.no_slate_button)
        self._column.addLayout(slate_pictures)
        self.slate_button.clicked.connect(self.slate_picture_wanted)
        self.no_slate_button.clicked.connect(lambda: self.set_slate_picture(None))
        self.slate_text.editingFinished.connect(self._slate_text_written)
        self.fine_detail.clicked.connect(lambda on: self._set_live(replace(self._live, fine_detail=on)))
        self.sharpness.moved.connect(lambda value: self._set_live(replace(self._live, sharpness=value)))
        self.badge.clicked.connect(lambda on: self._set_live(replace(self._live, badge=on)))
        self.mirror_output.clicked.connect(lambda on: self._set_live(replace(self._live, mirror_output=on)))
        self.mirror_preview.clicked.connect(lambda on: self._set_window(replace(self._window, mirror_preview=on)))

    def _make_view(self) -> None:
        self.performer = Switch(
            tr("Show my camera picture"),
            tr("Your own picture in the preview's corner (B). Hide it before you share this window."),
        )
        self.landmarks = Switch(tr("Landmarks and keypoints"), tr("Draw on your picture what was found in it (O)."))
        self.statistics = Switch(tr("Statistics"), tr("Show below what is measured (I)."))
        self.inspector = Switch(tr("Inside the network"), tr("Show what the network does with your motion (N)."))
        self.pause = Switch(
            tr("Pause the preview"), tr("Stop painting it, as saves power; the call and recordings go on.")
        )
        self.checklist = Switch(tr("First steps"), tr("Show the checklist of the first launch."))
        self.language = Combo(
            tr("Language"), tr("Of the window's texts. A change takes effect at the app's next start.")
        )
        self.language.addItem(tr("As the system"), "system")
        for key, name in LANGUAGES.items():
            self.language.addItem(name, key)
        self._language_row = QHBoxLayout()
        self._language_row.setSpacing(8)
        language_name = label(tr("Language"))
        language_name.setMinimumWidth(NAME_PX)
        self._language_row.addWidget(language_name)
        self._language_row.addWidget(self.language, 1)
        self.theme = Segmented(
            tr("Theme"),
            (
                ("system", tr("System"), tr("As the desktop")),
                ("dark", tr("Dark"), tr("Always dark")),
                ("light", tr("Light"), tr("Always light")),
            ),
        )
        self._column.addWidget(label(tr("Window"), "title"))
        shown = (
            self.performer,
            self.landmarks,
            self.statistics,
            self.inspector,
            self.pause,
            self.checklist,
            self.theme,
        )
        for widget in shown:
            self._column.addWidget(widget)
        self.performer.clicked.connect(lambda on: self._set_window(replace(self._window, show_driver=on)))
        self.landmarks.clicked.connect(lambda on: self._set_window(replace(self._window, show_landmarks=on)))
        self.statistics.clicked.connect(lambda on: self._set_window(replace(self._window, show_statistics=on)))
        self.inspector.clicked.connect(lambda on: self._set_window(replace(self._window, show_inspector=on)))
        self.checklist.clicked.connect(lambda on: self._set_window(replace(self._window, checklist_done=not on)))
        self._column.addLayout(self._language_row)
        self.language_note = label(tr("The language changes at the next start of the app."), "muted", wrap=True)
        self._column.addWidget(self.language_note)
        self.theme.chosen.connect(lambda key: self._set_window(replace(self._window, theme=cast(ThemeChoice, key))))
        self.language.activated.connect(self._language_chosen)

    # Changing

    def nudge(self, where: str) -> None:
        """Move the crop one step `left`, `right`, `up` or `down`, or back to the `centre`."""
        live = self._live
        right, down = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(where, (0, 0))
        if where == "centre":
            self._set_live(replace(live, nudge_x=0.0, nudge_y=0.0))
        else:
            self._set_live(
                replace(
                    live,
                    nudge_x=_stepped(live.nudge_x, right * NUDGE_STEP, -0.3, 0.3),
                    nudge_y=_stepped(live.nudge_y, down * NUDGE_STEP, -0.3, 0.3),
                )
            )

    def step_zoom(self, steps: int) -> None:
        """Zoom in (1) or out (-1)."""
        self._set_live(replace(self._live, zoom=_stepped(self._live.zoom, steps * ZOOM_STEP, 0.5, 2.0)))

    def step_overlay(self, steps: int) -> None:
        """Make the portrait over the performer's picture stronger (1) or fainter (-1)."""
        opacity = _stepped(self._window.overlay_opacity, steps * OVERLAY_STEP, 0.0, 1.0)
        self._set_window(replace(self._window, overlay_opacity=opacity))

    def set_slate_picture(self, path: Path | None) -> None:
        """Have the slate show a picture, or none."""
        self._set_live(replace(self._live, slate_image="" if path is None else str(path)))

    @property
    def _live(self) -> LiveSettings:
        return self._session.settings.live

    @property
    def _window(self) -> WindowSettings:
        return self._session.settings.window

    def _slate_text_written(self) -> None:
        text = written(self.slate_text)
        if characters := not_on_slate(text):
            said = tr(
                "The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.",
                characters=characters,
            )
            self._session.told.emit(Message("slate text", said, tone="warning"))
        else:
            self._session.cleared.emit("slate text")
            self._set_live(replace(self._live, slate_text=text))

    def _set_live(self, live: LiveSettings) -> None:
        self._session.set_live(live)

    def _set_window(self, window: WindowSettings) -> None:
        self._session.set_window(window)

    def _camera_chosen(self, row: int) -> None:
        self._session.camera_desk.choose(str(self.camera.itemData(row)))

    def _language_chosen(self, row: int) -> None:
        self._set_window(replace(self._window, language=cast(Language, self.language.itemData(row))))

    def _switch_virtual_camera(self, on: bool) -> None:
        self._session.virtual_camera.switch(on)

    def _motion_chosen(self, key: str) -> None:
        live = replace(self._live, relative=key != "absolute")
        # Where motion in space cannot be had, choosing the plane does not overwrite the wish for space.
        if live.relative and self._session.space.obstacle(live) is None:
            live = replace(live, motion=cast(MotionKind, key))
        self._set_live(live)

    def _idle_chosen(self, row: int) -> None:
        wanted = str(self.idle.itemData(row))
        if wanted == _OTHER_FILE:
            self._refresh_live()  # nothing is changed before a file is picked
            self.idle_motion_wanted.emit()
        else:
            self.set_idle_motion(wanted)

    def set_idle_motion(self, name: str) -> None:
        """Have the avatar do this while it idles: nothing, the bundled motion, or a motion file's."""
        self._set_live(replace(self._live, idle_motion=name))

    def _set_gain(self, part: str, value: float) -> None:
        changed: dict[str, Any] = {_strength(part): value}
        self._set_live(replace(self._live, **changed))

    # Showing

    def _refresh(self) -> None:
        desk, virtual_camera = self._session.camera_desk, self._session.virtual_camera
        cameras = [(camera.name, camera.spec_text) for camera in desk.cameras or []]
        current = desk.current
        if current and current not in [text for _, text in cameras]:
            if is_address(current):
                name = without_secrets(current)
            else:
                name = tr("Camera {number}", number=current) if current.isdigit() else Path(current).name or current
            cameras.append((name, current))
        shown = [(self.camera.itemText(row), self.camera.itemData(row)) for row in range(self.camera.count())]
        if shown != cameras:
            self.camera.clear()
            for name, text in cameras:
                self.camera.addItem(name, text)
        self.camera.setCurrentIndex(self.camera.findData(current))
        self.camera.setPlaceholderText(tr("Looking for cameras…") if desk.cameras is None else tr("No camera"))
        self.camera.setEnabled(bool(cameras))
        self.refresh_button.setEnabled(desk.cameras is not None)
        self._camera_state.setText(desk.link.text)
        self._refresh_motion()
        self.doctor.show_kind(virtual_camera.kind, virtual_camera.kinds, may_change=not virtual_camera.wanted)
        on, device = virtual_camera.on_air, virtual_camera.link.text
        self.doctor.show_report(
            virtual_camera.report, on=on, opening=virtual_camera.opening, device=device if on else ""
        )

    def _refresh_motion(self) -> None:
        live, in_space = self._live, self._session.in_space
        obstacle = self._session.space.obstacle(live)
        words = "" if obstacle is None else tr("Not in space: {reason}.", reason=not_in_space_words(obstacle))
        space = self.motion_kind.button("space")
        space.setEnabled(obstacle is None)
        set_tip(space, words or _IN_SPACE_TIP)
        self.no_space.setText(words)
        self.no_space.setVisible(obstacle is not None)
        self.motion_kind.set_choice("space" if in_space else "plane" if live.relative else "absolute")
        self.motion.setEnabled(live.relative)
        self.expression.setEnabled(live.relative)
        for parts, strength in ((MOTION_PARTS, live.motion_strength), (EXPRESSION_PARTS, live.expression_strength)):
            for part in parts:
                self.gains[part].setEnabled(in_space and strength > 0)
        self.retouch.setEnabled(in_space or bool(live.idle_motion))  # that is in space, too

    def _refresh_live(self) -> None:
        live = self._live
        self._refresh_motion()
        self.motion.set_value(live.motion_strength)
        self.expression.set_value(live.expression_strength)
        for part, slider in self.gains.items():
            slider.set_value(getattr(live, _strength(part)))
        self.retouch.setChecked(live.retouch)
        tuned = [*map(_strength, self.gains), "retouch"]
        changed = sum(getattr(live, name) != getattr(_DEFAULTS, name) for name in tuned)
        self.fine_tune.set_remark(tr("{changed} changed", changed=changed) if changed else "")
        self.smoothing.set_value(live.smoothing)
        self._refresh_idle(live.idle_motion)
        self.remember_calibration.setChecked(live.remember_calibration)
        self.zoom.set_value(live.zoom)
        self.no_slate_button.setVisible(bool(live.slate_image))
        set_tip(
            self.slate_button,
            tr("A picture of yours that the slate shows; now: {file}", file=live.slate_image or tr("none")),
        )
        if not self.slate_text.hasFocus():  # what is being written stays
            self.slate_text.setText(live.slate_text)
        self.fine_detail.setChecked(live.fine_detail)
        self.sharpness.set_value(live.sharpness)
        self.badge.setChecked(live.badge)
        self.mirror_output.setChecked(live.mirror_output)

    def _refresh_idle(self, used: str) -> None:
        choices = [(tr("Rests still"), ""), (tr("Moves gently"), GENTLE)]
        if used not in ("", GENTLE):
            choices.append((Path(used).name, used))
        choices.append((tr("A motion file…"), _OTHER_FILE))
        if [(self.idle.itemText(row), self.idle.itemData(row)) for row in range(self.idle.count())] != choices:
            self.idle.clear()
            for text, name in choices:
                self.idle.addItem(text, name)
        self.idle.setCurrentIndex(self.idle.findData(used))

    def _refresh_window(self) -> None:
        window = self._window
        self.fine_tune.set_open(window.show_fine_tune)
        self.overlay.set_value(window.overlay_opacity)
        self.mirror_preview.setChecked(window.mirror_preview)
        self.performer.setChecked(window.show_driver)
        self.landmarks.setChecked(window.show_landmarks)
        self.statistics.setChecked(window.show_statistics)
        self.inspector.setChecked(window.show_inspector)
        self.checklist.setChecked(not window.checklist_done)
        self.theme.set_choice(window.theme)
        self.language.setCurrentIndex(self.language.findData(window.language))
        self.language_note.setVisible(window.language != self._language)


def _strength(part: str) -> str:
    """The name of a part's gain in the settings."""
    return f"{part}_strength"


def _stepped(value: float, by: float, low: float, high: float) -> float:
    return min(high, max(low, round(value + by, 6)))
