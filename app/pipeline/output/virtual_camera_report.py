"""Whether there is a virtual camera, and the exact fix where there is none: Linux, Windows and macOS."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from app.pipeline.v4l2 import VideoDevices, VideoNode
from mcnet.phrases import listed, phrase

Status = Literal["ready", "missing", "busy", "denied"]

OBS_CAMERA, UNITY_CAMERA = "OBS Virtual Camera", "Unity Video Capture"

_OBS_URL = "https://obsproject.com/download"
_OBS_CLASS = "{A3FCE0F5-3493-419F-958A-ABA1250EC20B}"
_UNITY_CLASS = "{5C2CD55C-92AD-4999-8666-912BD3E70010}"
_OBS_QUEUE = "OBSVirtualCamVideo"
_OBS_EXTENSION = "com.obsproject.obs-studio.mac-camera-extension"
_FIRST_NUMBER = 10  # high enough to leave the webcams their numbers
_INSTALL = {
    # dkms builds for the kernels whose headers are there, so they have to be the running one's.
    "debian": "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)",
    "fedora": "sudo dnf install akmod-v4l2loopback\nsudo akmods",
    "arch": "sudo pacman -S --needed v4l2loopback-dkms linux-headers",
}
_LAYERED = "rpm-ostree install akmod-v4l2loopback\nsystemctl reboot"
_TEXTS = {
    "fedora": phrase("Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it"),
    "arch": phrase("Install it (for another kernel than linux, its own headers: linux-lts-headers, say)"),
}
_SIGNING_KEYS = {"ubuntu": "/var/lib/shim-signed/mok/MOK.der", "fedora": "/etc/pki/akmods/certs/public_key.der"}


@dataclass(frozen=True)
class Fix:
    """One thing to do.

    Attributes:
        text: what, for people.
        command: to be typed or copied, a line each; "" where there is none.
    """

    text: str
    command: str = ""


JOIN_VIDEO_GROUP = Fix(
    phrase("Join the group of video devices, then log out and in again"), "sudo usermod -aG video $USER"
)


@dataclass(frozen=True)
class VirtualCameraReport:
    """How the virtual camera stands.

    Attributes:
        status: `ready` to be opened; `missing`; `busy`: another program writes to it; `denied`: it is there, but the
            system does not let the user have it.
        device: the one that would be used, or "".
        sentence: for people.
        fixes: what to do, in this order. A ready one may have some too: it works, but not everywhere.
    """

    status: Status
    device: str
    sentence: str
    fixes: tuple[Fix, ...] = ()

    @property
    def advice(self) -> str:
        """The sentence with the first fix, in one line."""
        fix = self.fixes[0] if self.fixes else None
        if fix is None:
            return self.sentence
        command = " && ".join(fix.command.splitlines())
        if command:
            return phrase("{sentence} {fix}: {command}", sentence=self.sentence, fix=fix.text, command=command)
        return phrase("{sentence} {fix}.", sentence=self.sentence, fix=fix.text)


class VirtualCameraProbe(Protocol):
    """Looks at one operating system."""

    def examine(self, device: str | None) -> VirtualCameraReport:
        """Report on a device, or on whichever would be chosen."""
        ...


def examine_virtual_camera(device: str | None = None) -> VirtualCameraReport:
    """Look whether a virtual camera can be opened, without opening it.

    Args:
        device: `/dev/videoN` on Linux, a camera's name elsewhere; None: any.
    """
    return _probe(sys.platform).examine(device)


def _probe(system: str) -> VirtualCameraProbe:
    if system == "linux":
        return LinuxProbe()
    if system == "win32":
        return WindowsProbe()
    if system == "darwin":
        return MacProbe()
    return UnknownSystemProbe(system)


def distributions(os_release: str) -> list[str]:
    """Names of the Linux distribution whose file that is, from the nearest on.

    What is only like Fedora (RHEL and its kin) has neither its packages nor ours.
    """
    lines = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    own, like = (lines.get(key, "").strip("\"'").split() for key in ("ID", "ID_LIKE"))
    return [*own, *(name for name in like if name != "fedora" or "rhel" not in like)]


class LinuxProbe:
    """Looks for v4l2loopback.

    Args:
        devices: the machine's video devices, and its file system.
        kernel: the running kernel's release.
    """

    def __init__(self, devices: VideoDevices | None = None, kernel: str | None = None) -> None:
        self._devices = devices or VideoDevices()
        self._kernel = kernel or platform.release()

    def examine(self, device: str | None) -> VirtualCameraReport:
        if device is not None:
            node = self._devices.node(Path(device)) if device.startswith("/") else None
            if node is None or not node.is_loopback:
                what = phrase("nothing") if node is None else phrase("{name}, a camera of another kind", name=node.name)
                sentence = phrase(
                    "There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.",
                    device=device,
                    what=what,
                )
                return VirtualCameraReport("missing", "", sentence, self._loading())
            return self._report(node)
        loopbacks = [node for node in self._devices.nodes() if node.is_loopback]
        if not loopbacks:
            return self._nothing()
        reports = [self._report(node) for node in sorted(loopbacks, key=lambda node: not node.exclusive)]
        order: tuple[Status, ...] = ("ready", "busy", "denied", "missing")
        return min(reports, key=lambda report: order.index(report.status))

    def _report(self, node: VideoNode) -> VirtualCameraReport:
        device, called = str(node.device), f"{node.device} ({node.name})"
        if node.denied:
            sentence = phrase("The virtual camera {called} is there, but you may not use it.", called=called)
            return VirtualCameraReport("denied", device, sentence, (JOIN_VIDEO_GROUP,))
        if node.error:
            sentence = phrase(
                "The virtual camera {called} does not answer ({cause}).",
                called=called,
                cause=os.strerror(node.error),
            )
            return VirtualCameraReport("missing", device, sentence, (self._reloading(),))
        if node.fed and self._devices.fed_by_us(node.device):
            return VirtualCameraReport(
                "ready", device, phrase("The virtual camera {called} takes our pictures.", called=called)
            )
        if node.fed or not (node.can_output or node.stuck):
            return self._busy(node, called)
        if not node.exclusive:
            sentence = phrase(
                "The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).",
                called=called,
            )
            return VirtualCameraReport("ready", device, sentence, (self._reloading(), self._at_boot()))
        return VirtualCameraReport("ready", device, phrase("The virtual camera {called} is ready.", called=called))

    def _busy(self, node: VideoNode, called: str) -> VirtualCameraReport:
        others = [holder for holder in self._devices.holders(node.device) if holder.pid != os.getpid()]
        if others:
            named = [phrase("{name} (process {pid})", name=holder.name, pid=holder.pid) for holder in others]
            by = listed(named, "and")
            sentence = phrase("The virtual camera {called} is in use by {by}.", called=called, by=by)
            return VirtualCameraReport("busy", str(node.device), sentence, (Fix(phrase("Close {by}", by=by)),))
        sentence = phrase("The virtual camera {called} is in use by another program.", called=called)
        fixes = (
            Fix(phrase("See which program it is, and close it"), f"sudo fuser -v {node.device}"),
            Fix(
                phrase("If there is none, the device keeps an old format: free it"),
                f"v4l2-ctl -d {node.device} -c keep_format=0",
            ),
        )
        return VirtualCameraReport("busy", str(node.device), sentence, fixes)

    def _nothing(self) -> VirtualCameraReport:
        if self._exists("/sys/module/v4l2loopback"):
            sentence = phrase("v4l2loopback is loaded, but has no device.")
            return VirtualCameraReport("missing", "", sentence, (self._reloading(), self._at_boot()))
        if self._installed():
            sentence = phrase("There is no virtual camera: v4l2loopback is installed, but not loaded.")
            return VirtualCameraReport("missing", "", sentence, (*self._loading(), *self._secure_boot()))
        sentence = phrase(
            "There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.", kernel=self._kernel
        )
        return VirtualCameraReport("missing", "", sentence, (self._install(), *self._loading(), *self._secure_boot()))

    def _loading(self) -> tuple[Fix, ...]:
        return Fix(phrase("Load the module"), f"sudo modprobe v4l2loopback {self._options()}"), self._at_boot()

    def _reloading(self) -> Fix:
        command = f"sudo modprobe -r v4l2loopback\nsudo modprobe v4l2loopback {self._options()}"
        return Fix(phrase("Close the programs that use it and load the module again"), command)

    def _at_boot(self) -> Fix:
        options = shlex.quote(f"options v4l2loopback {self._options()}")
        command = (
            "echo v4l2loopback | sudo tee /etc/modules-load.d/v4l2loopback.conf\n"
            f"echo {options} | sudo tee /etc/modprobe.d/mcnet-avatar.conf"
        )
        return Fix(phrase("Have it at every start of the system"), command)

    def _options(self) -> str:
        """For the module. The number is one that no other device has."""
        taken = {self._devices.number(node.device) for node in self._devices.nodes() if not node.is_loopback}
        number = next(number for number in range(_FIRST_NUMBER, 1000) if number not in taken)
        return f'devices=1 video_nr={number} card_label="Avatar" exclusive_caps=1'

    def _installed(self) -> bool:
        folders = (f"/lib/modules/{self._kernel}", f"/usr/lib/modules/{self._kernel}")
        return any("/v4l2loopback.ko" in self._read(f"{folder}/modules.dep") for folder in folders)

    def _install(self) -> Fix:
        name = next((name for name in self._distribution() if name in _INSTALL), "")
        if name == "fedora" and self._exists("/run/ostree-booted"):
            return Fix(_TEXTS["fedora"], _LAYERED)
        if not name:
            return Fix(phrase("Install your distribution's package v4l2loopback (or v4l2loopback-dkms)"))
        return Fix(_TEXTS.get(name, phrase("Install it")), _INSTALL[name])

    def _distribution(self) -> list[str]:
        return distributions(self._read("/etc/os-release"))

    def _secure_boot(self) -> tuple[Fix, ...]:
        folder = self._devices.in_root(Path("/sys/firmware/efi/efivars"))
        state = next(iter(sorted(folder.glob("SecureBoot-*"))), None) if folder.is_dir() else None
        try:
            on = state is not None and state.read_bytes()[-1:] == b"\x01"
        except OSError:
            on = False
        if not on:
            return ()
        text = phrase(
            "Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, "
            "restart, and confirm it in the blue menu"
        )
        keys = (_SIGNING_KEYS[name] for name in self._distribution() if name in _SIGNING_KEYS)
        return (Fix(text, f"sudo mokutil --import {next(keys, '/var/lib/dkms/mok.pub')}"),)

    def _exists(self, path: str) -> bool:
        return self._devices.in_root(Path(path)).exists()

    def _read(self, path: str) -> str:
        try:
            return self._devices.in_root(Path(path)).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


class WindowsProbe:
    """Looks for the cameras of OBS and UnityCapture.

    Args:
        registered: whether a class is registered with the system.
        in_use: whether a program writes to OBS's camera.
    """

    def __init__(
        self, registered: Callable[[str], bool] | None = None, in_use: Callable[[], bool] | None = None
    ) -> None:
        self._registered = registered or _class_is_registered
        self._in_use = in_use or _obs_queue_exists

    def examine(self, device: str | None) -> VirtualCameraReport:
        if device not in (None, OBS_CAMERA) and not self._registered(_UNITY_CLASS):
            sentence = phrase(
                "There is no virtual camera {device}: expected {camera} or UnityCapture's.",
                device=repr(device),
                camera=OBS_CAMERA,
            )
            return VirtualCameraReport("missing", "", sentence, (Fix(phrase("Choose {camera}", camera=OBS_CAMERA)),))
        obs = device in (None, OBS_CAMERA) and self._registered(_OBS_CLASS)
        if obs and not self._in_use():
            return VirtualCameraReport("ready", OBS_CAMERA, phrase("The {camera} is ready.", camera=OBS_CAMERA))
        if device != OBS_CAMERA and self._registered(_UNITY_CLASS):
            name = device or UNITY_CAMERA
            return VirtualCameraReport("ready", name, phrase("The virtual camera {name} is ready.", name=name))
        if obs:
            sentence = phrase("The {camera} is in use: OBS itself or another program writes to it.", camera=OBS_CAMERA)
            return VirtualCameraReport("busy", OBS_CAMERA, sentence, (Fix(phrase("Stop the virtual camera in OBS")),))
        fixes = (
            Fix(
                phrase(
                    "Install OBS Studio from {address} (it need not run), then restart your call program",
                    address=_OBS_URL,
                )
            ),
        )
        return VirtualCameraReport("missing", "", phrase("There is no virtual camera: OBS Studio brings one."), fixes)


class MacProbe:
    """Looks for the camera extension of OBS.

    Args:
        extensions: what `systemextensionsctl list` says.
        obs_installed: whether OBS is among the applications.
        release: of macOS, as `14.2`.
    """

    def __init__(
        self,
        extensions: Callable[[], str] | None = None,
        obs_installed: Callable[[], bool] | None = None,
        release: str | None = None,
    ) -> None:
        self._extensions = extensions or _system_extensions
        self._obs_installed = obs_installed or Path("/Applications/OBS.app").exists
        self._release = release if release is not None else platform.mac_ver()[0]

    def examine(self, device: str | None) -> VirtualCameraReport:
        if device not in (None, OBS_CAMERA):
            sentence = phrase(
                "There is no virtual camera {device}: expected {camera}.", device=repr(device), camera=OBS_CAMERA
            )
            return VirtualCameraReport("missing", "", sentence, (Fix(phrase("Choose {camera}", camera=OBS_CAMERA)),))
        major = int(self._release.partition(".")[0] or 0)
        if major < 13:
            sentence = phrase(
                "There is no virtual camera: got macOS {release}, expected 13 or newer.", release=self._release
            )
            return VirtualCameraReport("missing", "", sentence, (Fix(phrase("Update macOS")),))
        lines = [line for line in self._extensions().splitlines() if _OBS_EXTENSION in line]
        if any("[activated enabled]" in line for line in lines):
            return VirtualCameraReport("ready", OBS_CAMERA, phrase("The {camera} is ready.", camera=OBS_CAMERA))
        if any("[activated waiting for user]" in line for line in lines):
            place = "General > Login Items & Extensions > Camera Extensions" if major >= 15 else "Privacy & Security"
            sentence = phrase("The {camera} is installed, but you have not approved it yet.", camera=OBS_CAMERA)
            fix = Fix(phrase("Allow it in System Settings > {place}", place=place))
            return VirtualCameraReport("denied", OBS_CAMERA, sentence, (fix,))
        start = Fix(
            phrase("Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app")
        )
        if self._obs_installed():
            sentence = phrase(
                "There is no virtual camera: OBS is installed, its camera not yet ({camera}).",
                camera=OBS_CAMERA,
            )
            return VirtualCameraReport("missing", "", sentence, (start,))
        install = Fix(phrase("Install OBS Studio 30 or newer from {address}", address=_OBS_URL))
        return VirtualCameraReport(
            "missing", "", phrase("There is no virtual camera: OBS Studio brings one."), (install, start)
        )


class UnknownSystemProbe:
    """Knows that there is none."""

    def __init__(self, system: str) -> None:
        self._system = system

    def examine(self, device: str | None) -> VirtualCameraReport:  # noqa: ARG002
        sentence = phrase(
            "There is no virtual camera for {system}: expected Linux, Windows or macOS.", system=self._system
        )
        return VirtualCameraReport(
            "missing", "", sentence, (Fix(phrase("Record, or capture the window with your call program")),)
        )


def _class_is_registered(class_id: str) -> bool:
    if sys.platform == "win32":
        import winreg

        try:
            winreg.CloseKey(winreg.OpenKey(winreg.HKEY_CLASSES_ROOT, f"CLSID\\{class_id}"))
        except OSError:
            return False
        return True
    return False


def _obs_queue_exists() -> bool:
    """Whether somebody has made the shared memory through which OBS's camera gets its pictures."""
    if sys.platform == "win32":
        import ctypes

        file_map_read = 4
        handle = ctypes.windll.kernel32.OpenFileMappingW(file_map_read, False, _OBS_QUEUE)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    return False


def _system_extensions() -> str:
    try:
        command = ["/usr/bin/systemextensionsctl", "list"]
        answer = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=10, check=False, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout
