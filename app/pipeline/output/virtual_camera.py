"""The virtual camera that call programs see, through pyvirtualcam."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SinkError
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.virtual_camera_report import VirtualCameraReport, examine_virtual_camera
from app.pipeline.v4l2 import VideoDevices, end_as_stream, free_loopback
from mcnet.phrases import offered, phrase

if TYPE_CHECKING:
    import pyvirtualcam

logger = logging.getLogger(__name__)


class VirtualCameraSink:
    """Writes pictures to a virtual camera; see `Sink`.

    The machine is looked at before and after pyvirtualcam's attempt, for its words do not tell a busy device from a
    missing one, and its own search opens every camera of the machine and keeps those open that are none of its kind.

    Args:
        device: `/dev/videoN` on Linux, a camera's name elsewhere; None: the first that is free.
        backend: pyvirtualcam's name of a driver, which is then not looked at beforehand; None: the system's own.
        examine: looks at the machine.

    Attributes:
        name: `virtualcam`.
        detail: the device, once open.
        sent: pictures sent since it was opened.
    """

    name = "virtualcam"

    def __init__(
        self,
        device: str | None = None,
        *,
        backend: str | None = None,
        examine: Callable[[str | None], VirtualCameraReport] = examine_virtual_camera,
    ) -> None:
        self.detail = ""
        self.sent = 0
        self._device = device
        self._backend = backend
        self._examine = examine
        self._camera: pyvirtualcam.Camera | None = None

    def open(self, output: OutputFormat) -> None:
        """Get ready for pictures of that size, which stays: call programs do not bear a change.

        Raises:
            SinkError: there is no virtual camera, another program writes to it, it is not permitted, or this sink is
                open already; with what to do.
        """
        if self._camera is not None:
            raise SinkError(phrase("the virtual camera is open already ({detail}); close it first", detail=self.detail))
        device = self._device
        if self._backend is None:
            report = self._examine(device)
            if report.status != "ready":
                raise SinkError(report.advice)
            device = report.device or device
            _free(device)
        self._camera = self._opened(output, device)
        self.detail = self._camera.device
        self.sent = 0
        logger.info("virtual camera %s: %dx%d", self.detail, output.width_px, output.height_px)

    def _opened(self, output: OutputFormat, device: str | None) -> "pyvirtualcam.Camera":
        try:
            import pyvirtualcam
            from pyvirtualcam.camera import BACKENDS
        except ImportError as error:
            raise SinkError(
                phrase(
                    "the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip "
                    "install pyvirtualcam`",
                    error=error,
                )
            ) from error
        if self._backend is not None and self._backend not in BACKENDS:
            raise SinkError(
                phrase(
                    "virtual camera: got backend {backend}, expected one of {backends}",
                    backend=repr(self._backend),
                    backends=offered(BACKENDS, self._backend),
                )
            )
        try:
            return pyvirtualcam.Camera(
                output.width_px,
                output.height_px,
                output.fps_hz,
                fmt=pyvirtualcam.PixelFormat.RGB,
                device=device,
                backend=self._backend,
            )
        except Exception as error:  # a driver raises what it likes
            raise SinkError(self._why_not(error)) from error

    def _why_not(self, error: Exception) -> str:
        said = " ".join(str(error).split())
        if self._backend is None:
            report = self._examine(self._device)
            if report.status != "ready":  # it changed between the look and the attempt
                return report.advice
        return phrase(
            "the virtual camera cannot be opened: {said}; close programs that may write to it, and try again", said=said
        )

    def send(self, picture: Composed) -> None:
        """Show a picture. Its bytes are copied before this returns.

        Raises:
            SinkError: the driver refuses, or the sink is not open.
        """
        if self._camera is None:
            raise SinkError(phrase("the virtual camera is not open; open it first"))
        expected = (self._camera.height, self._camera.width, 3)
        if picture.rgb.shape != expected:
            raise SinkError(
                phrase(
                    "virtual camera {detail}: got a picture of {shape}, expected {expected}",
                    detail=self.detail,
                    shape=picture.rgb.shape,
                    expected=expected,
                )
            )
        try:
            self._camera.send(picture.rgb)
        except Exception as error:  # a driver raises what it likes
            raise SinkError(
                phrase(
                    "the virtual camera {detail} takes no pictures any more: {error}; open it again",
                    detail=self.detail,
                    error=error,
                )
            ) from error
        self.sent += 1

    def close(self) -> None:
        """Let go of the device; call programs lose it. Harmless when called again.

        Raises:
            SinkError: the driver refuses.
        """
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            if self._backend is None and sys.platform == "linux":
                end_as_stream(Path(self.detail))
            camera.close()
        except Exception as error:
            # Its destructor would try again, when nobody listens.
            camera._backend = None
            raise SinkError(
                phrase("the virtual camera {detail} could not be closed: {error}", detail=self.detail, error=error)
            ) from error

    def finished(self) -> bool:
        """True: a device is let go of at once."""
        return True


def _free(device: str | None) -> None:
    """Undo what an older Linux driver makes of a writer that went away."""
    if sys.platform != "linux" or device is None:
        return
    node = VideoDevices().node(Path(device))
    if node is not None and node.stuck:
        try:
            free_loopback(node.device)
        except OSError as error:
            logger.warning("%s offers nothing and cannot be freed: %s", device, error)
