"""Whether PipeWire can have a camera of ours, and what to do where it cannot. Linux only."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.pipeline.output import pipewire_process
from app.pipeline.output.pipewire_worker import NODE_NAME, PipeWireWorker, daemon_socket, require_daemon
from app.pipeline.output.virtual_camera_report import Fix, VirtualCameraReport, distributions

_ANSWER_S = 10.0
_INSTALL = {
    "debian": "sudo apt install pipewire wireplumber",
    "fedora": "sudo dnf install pipewire wireplumber",
    "arch": "sudo pacman -S --needed pipewire wireplumber",
}
_START = Fix(
    "Start it, now and at every login",
    "systemctl --user enable --now pipewire.socket pipewire.service wireplumber.service",
)
_RESTART = Fix("Start PipeWire again", "systemctl --user restart pipewire wireplumber")


def examine_pipewire() -> VirtualCameraReport:
    """Look whether PipeWire can have a camera of ours. Takes a moment."""
    return PipeWireProbe().examine()


def _ask() -> dict[str, Any]:
    worker = PipeWireWorker(pipewire_process.examine)
    try:
        return worker.facts(_ANSWER_S)
    finally:
        worker.end()
        worker.close()


class PipeWireProbe:
    """Looks for the daemon and its session manager.

    Args:
        require: raises OSError where no daemon listens.
        ask: what `pipewire_process.examine` says, or an AppError.
        installed: whether the daemon's program is there.
        os_release: a file that names the distribution.
    """

    def __init__(
        self,
        require: Callable[[], None] = require_daemon,
        ask: Callable[[], dict[str, Any]] = _ask,
        installed: Callable[[], bool] = lambda: shutil.which("pipewire") is not None,
        os_release: Path = Path("/etc/os-release"),
    ) -> None:
        self._require = require
        self._ask = ask
        self._installed = installed
        self._os_release = os_release

    def examine(self) -> VirtualCameraReport:
        """Report on it."""
        try:
            self._require()
        except PermissionError:
            sentence = f"PipeWire runs, but you may not use it ({daemon_socket()})."
            again = Fix("Start the app as the user who is logged in, and not with sudo")
            return VirtualCameraReport("denied", "", sentence, (again,))
        except OSError:
            return self._no_daemon()
        try:
            facts = self._ask()
        except AppError as error:
            sentence = f"PipeWire runs, but cannot be used: {error}."
            return VirtualCameraReport("missing", "", sentence, (_RESTART,))
        version, manager = facts["version"], facts["manager"]
        if not manager:
            sentence = f"PipeWire {version} runs, but without a session manager: no program would reach the camera."
            return VirtualCameraReport("missing", "", sentence, (*self._install(), _START))
        sentence = f"PipeWire {version} with {manager} can have the camera {NODE_NAME}, without a kernel module."
        return VirtualCameraReport("ready", NODE_NAME, sentence)

    def _no_daemon(self) -> VirtualCameraReport:
        if self._installed():
            sentence = f"PipeWire is installed, but does not run: nothing listens at {daemon_socket()}."
            return VirtualCameraReport("missing", "", sentence, (_START,))
        return VirtualCameraReport("missing", "", "PipeWire is not installed.", (*self._install(), _START))

    def _install(self) -> tuple[Fix, ...]:
        try:
            named = distributions(self._os_release.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            named = []
        name = next((name for name in named if name in _INSTALL), "")
        if not name:
            return (Fix("Install your distribution's packages pipewire and wireplumber"),)
        return (Fix("Install it", _INSTALL[name]),)
