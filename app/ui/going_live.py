"""The slate: put up, and taken away once everything is proven."""

from dataclasses import replace

from PyQt6.QtCore import QObject, pyqtSignal

from app.ui.calibration import Calibration
from app.ui.call_microphone import CallMicrophone
from app.ui.camera_desk import CameraDesk
from app.ui.chain import Chain
from app.ui.kept_settings import KeptSettings
from app.ui.model_in_use import ModelInUse
from app.ui.portrait_in_use import PortraitInUse
from app.ui.recordings import Recordings
from app.ui.run import Run
from app.ui.virtual_camera_switch import VirtualCameraSwitch


class GoingLive(QObject):
    """Puts the slate up and takes it away. Lives on the GUI thread.

    It owns whether the slate was put up in a hurry. How each link of the chain stands is that link's own affair; here
    they are put together, since all of them have to hold before a call sees the avatar.

    Args:
        run: has the pipeline, which shows the slate before this thread knows of it.
        kept: has the slate's switch.
        model, camera, portrait, calibration, virtual_camera: the chain's links.
        call_microphone: is heard again with the avatar.
        recordings: see and hear what a call does.

    Signals:
        changed: a call may see something else now.
    """

    changed = pyqtSignal()

    def __init__(
        self,
        run: Run,
        kept: KeptSettings,
        *,
        model: ModelInUse,
        camera: CameraDesk,
        portrait: PortraitInUse,
        calibration: Calibration,
        virtual_camera: VirtualCameraSwitch,
        call_microphone: CallMicrophone,
        recordings: Recordings,
    ) -> None:
        super().__init__()
        self._run = run
        self._kept = kept
        self._model = model
        self._camera = camera
        self._portrait = portrait
        self._calibration = calibration
        self._virtual_camera = virtual_camera
        self._call_microphone = call_microphone
        self._recordings = recordings
        self._panicked = False
        virtual_camera.switched_on.connect(lambda: self._set_slate(True))
        virtual_camera.gone.connect(self._follow_gone)

    @property
    def chain(self) -> Chain:
        """What is proven so far."""
        return Chain(
            model=self._model.link,
            camera=self._camera.link,
            portrait=self._portrait.link,
            calibration=self._calibration.link,
            virtual_camera=self._virtual_camera.link,
            absolute=not self._kept.live.relative,
        )

    @property
    def live(self) -> bool:
        """Whether a call may see the avatar now."""
        return self._virtual_camera.on_air and not self._kept.live.slate

    def go_live(self) -> None:
        """Take the slate away: with a virtual camera once the chain is proven, without one at any time."""
        if self._virtual_camera.wanted and self.chain.missing():
            return
        self._panicked = False
        self._set_slate(False)
        self.changed.emit()

    def stop(self) -> None:
        """Leave the slate up. The virtual camera stays, so that the call keeps its picture."""
        self._set_slate(True)
        self.changed.emit()

    def slate(self) -> None:
        """The slate with the next picture, whatever else is going on. Never takes it away."""
        self._panicked = True
        self.stop()

    def follow_panic(self) -> None:
        """Likewise, where the pipeline shows it before this thread knows of that."""
        self.slate()
        self.take_over_slate()

    def take_over_slate(self) -> None:
        """The settings have the slate by now that the pipeline had before this thread knew of it."""
        if self._run.pipeline is not None:
            self._run.pipeline.take_over_slate()
        self._call_microphone.take_over_silence()

    def _set_slate(self, slate: bool) -> None:
        self._kept.set_live(replace(self._kept.live, slate=slate))

    def _follow_gone(self) -> None:
        # Nobody watches any more: the preview goes on. But a call may hear, and a recording see, who has said stop.
        if not self._panicked and not self._call_microphone.wanted and not self._recordings.under_way:
            self._set_slate(False)
