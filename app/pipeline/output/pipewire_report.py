"""Whether PipeWire can have a camera of ours, and what to do where it cannot. Linux only."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import AppError
from app.pipeline.output import pipewire_process
from app.pipeline.output.pipewire_client import LibraryError
from app.pipeline.output.pipewire_worker import NODE_NAME, PipeWireWorker, daemon_socket, require_daemon
from app.pipeline.output.virtual_camera_report import Fix, VirtualCameraReport, distributions
from mcnet.phrases import phrase

_ANSWER_S = 10.0
_INSTALL = {
    "debian": "sudo apt install pipewire wireplumber",
    "fedora": "sudo dnf install pipewire wireplumber",
    "arch": "sudo pacman -S --needed pipewire wireplumber",
}
_START = Fix(
    phrase("Start it, now and at every login"),
    "systemctl --user enable --now pipewire.socket pipewire.service wireplumber.service",
)
_RESTART = Fix(phrase("Start PipeWire again"), "systemctl --user restart pipewire wireplumber")


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
            sentence = phrase("PipeWire runs, but you may not use it ({socket}).", socket=daemon_socket())
            again = Fix(phrase("Start the app as the user who is logged in, and not with sudo"))
            return VirtualCameraReport("denied", "", sentence, (again,))
        except OSError:
            return self._no_daemon()
        try:
            facts = self._ask()
        except AppError as error:
            sentence = phrase("PipeWire runs, but cannot be used: {error}.", error=error)
            fixes = self._install() if isinstance(error, LibraryError) else (_RESTART,)
            return VirtualCameraReport("missing", "", sentence, fixes)
        version, manager = facts["version"], facts["manager"]
        if not manager:
            sentence = phrase(
                "PipeWire {version} runs, but without a session manager: no program would reach the camera.",
                version=version,
            )
            return VirtualCameraReport("missing", "", sentence, (*self._install(), _START))
        sentence = phrase(
            "PipeWire {version} with {manager} can have the camera {name}, without a kernel module.",
            version=version,
            manager=manager,
            name=NODE_NAME,
        )
        return VirtualCameraReport("ready", NODE_NAME, sentence)

    def _no_daemon(self) -> VirtualCameraReport:
        if self._installed():
            sentence = phrase(
                "PipeWire is installed, but does not run: nothing listens at {socket}.", socket=daemon_socket()
            )
            return VirtualCameraReport("missing", "", sentence, (_START,))
        return VirtualCameraReport("missing", "", phrase("PipeWire is not installed."), (*self._install(), _START))

    def _install(self) -> tuple[Fix, ...]:
        try:
            named = distributions(self._os_release.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            named = []
        name = next((name for name in named if name in _INSTALL), "")
        if not name:
            return (Fix(phrase("Install your distribution's packages pipewire and wireplumber")),)
        return (Fix(phrase("Install it"), _INSTALL[name]),)
