"""How the window does what is asked from outside."""

from dataclasses import replace
from typing import Any, assert_never

from app.control.facts import gains_of, with_gains
from app.control.operation import Answer, find_portrait, switched
from app.control.protocol import (
    ApplyPreset,
    Calibrate,
    ChoosePortrait,
    Command,
    Live,
    Record,
    RefusedError,
    SetGains,
    Slate,
    Stop,
    SwitchDetail,
    SwitchRetouch,
)
from app.ui.calibration import Calibration
from app.ui.going_live import GoingLive
from app.ui.kept_settings import KeptSettings
from app.ui.portrait_desk import PortraitDesk
from app.ui.preset_desk import PresetDesk
from app.ui.recordings import Recordings
from app.ui.virtual_camera_switch import VirtualCameraSwitch


class WindowOperator:
    """Operates the window as its user does, one command after another. Lives on the GUI thread.

    It owns nothing: what was asked becomes the same wish as a button's, or is refused where the button would be grey.
    Who may ask, and the answers' way back, is `Remote`'s.

    Args:
        going_live: has the slate.
        kept: has the live settings.
        virtual_camera: is on or off, which decides what going live needs.
        calibration: takes references.
        desk: has the portraits.
        presets: of strengths.
        recordings: begin and end.
    """

    def __init__(
        self,
        going_live: GoingLive,
        kept: KeptSettings,
        virtual_camera: VirtualCameraSwitch,
        calibration: Calibration,
        desk: PortraitDesk,
        presets: PresetDesk,
        recordings: Recordings,
    ) -> None:
        self._going_live = going_live
        self._kept = kept
        self._virtual_camera = virtual_camera
        self._calibration = calibration
        self._desk = desk
        self._presets = presets
        self._recordings = recordings

    def perform(self, command: Command) -> Answer:
        """Do what was asked from outside.

        Raises:
            RefusedError: it cannot be done now.
        """
        slate = self._kept.live.slate
        match command:
            case Slate():
                if switched(command.to, slate):
                    self._going_live.slate()
                    if command.to == "on":
                        self._going_live.take_over_slate()
                elif slate:
                    self._lift_slate()
            case Live():
                self._lift_slate()
            case Stop():
                self._going_live.stop()
                self._going_live.take_over_slate()
            case ChoosePortrait():
                return self._choose(command)
            case Calibrate():
                for link in (self._going_live.chain.model, self._going_live.chain.camera):
                    if not link.done:
                        raise RefusedError("not_now", f"calibrate: {link.text}")
                self._calibration.take(now=command.now)
                return {}
            case Record():
                return {"recording": self._record(command)}
            case SetGains():
                self._kept.set_live(with_gains(self._kept.live, command.changes))
                return {"gains": gains_of(self._kept.live), "preset": self._presets.current}
            case ApplyPreset():
                self._presets.apply(command.name)
                return {"gains": gains_of(self._kept.live), "preset": self._presets.current}
            case SwitchRetouch(setting=setting) | SwitchDetail(setting=setting):
                live = self._kept.live
                change: dict[str, Any] = {setting: switched(command.to, getattr(live, setting))}
                self._kept.set_live(replace(live, **change))
                return {setting: getattr(self._kept.live, setting)}
            case _:
                assert_never(command)
        return {"slate": self._kept.live.slate}

    def _lift_slate(self) -> None:
        """As the button does: for a call once everything is proven; without one, only a slate can be taken away."""
        if self._going_live.live:
            return
        missing = self._going_live.chain.missing()
        if missing and (self._virtual_camera.wanted or not self._kept.live.slate):
            raise RefusedError("not_now", f"live: {missing}")
        self._going_live.go_live()

    def _choose(self, command: ChoosePortrait) -> Answer:
        names = {entry.key: entry.name for entry in self._desk.entries}
        key = find_portrait(names, command, self._desk.current)
        self._desk.choose(key)
        return {"portrait": {"id": key, "name": names[key]}}

    def _record(self, command: Record) -> str:
        """Begin or end one, and answer its name as it is wished: the state has the file's own once it is written."""
        path = None if self._recordings.ending else self._recordings.path or self._recordings.beginning
        if switched(command.to, path is not None) == (path is not None):
            return "" if path is None else str(path)
        if self._recordings.ending:
            raise RefusedError("not_now", "record: the recording before is being finished; try again in a moment")
        if path is None and (self._recordings.pipeline is None or not self._recordings.pipeline.running):
            raise RefusedError("not_now", "record: there is nothing to record at the moment")
        began = self._recordings.toggle()
        return "" if began is None else str(began)
