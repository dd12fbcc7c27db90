"""What the app needs from the machine: what is there, what is missing, and the exact fix."""

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import AppError
from app.pipeline.output.pipewire_report import examine_pipewire
from app.pipeline.output.virtual_camera_report import JOIN_VIDEO_GROUP, Fix, VirtualCameraReport, examine_virtual_camera
from app.pipeline.v4l2 import VideoDevices
from app.settings import AppSettings, load_settings
from mcnet.errors import UserError

__all__ = [
    "Finding",
    "Fix",
    "VirtualCameraReport",
    "as_text",
    "check_up",
    "examine_pipewire",
    "examine_settings",
    "examine_virtual_camera",
]


@dataclass(frozen=True)
class Finding:
    """One part of the machine, examined.

    Attributes:
        part: what it is.
        good: whether the app can work with it as it is.
        sentence: how it stands.
        fixes: what to do, in this order.
    """

    part: str
    good: bool
    sentence: str
    fixes: tuple[Fix, ...] = ()


def as_text(findings: Sequence[Finding]) -> str:
    """Findings as text for people, with the versions of what they are about."""
    return "\n".join([_versions(), "", *(line for finding in findings for line in _lines(finding)), ""])


def check_up(model: str) -> tuple[Finding, ...]:
    """Look at cameras, virtual cameras, device, model and face finder.

    Args:
        model: bundled name or file of the model to look at.
    """
    virtual = _virtual_cameras()
    try:
        importlib.import_module("mcnet.media")
    except UserError as error:  # nothing of the rest can be examined without it
        return *virtual, Finding("OpenCV", False, f"{error}.")
    return (_cameras(), *virtual, *_device_and_model(model), _face_finder())


def examine_settings(path: Path) -> tuple[AppSettings, Finding]:
    """Look at the settings, whose file stays as it is.

    Returns:
        Them, as far as they can be used, and how they stand.
    """
    try:
        settings, complaint = load_settings(path, mends=False)
    except AppError as error:
        return AppSettings(), Finding("Settings", False, f"{error}.")
    if complaint is None:
        return settings, Finding("Settings", True, f"{path}." if path.exists() else "None are kept yet.")
    fix = Fix(f"Correct that in {path}, or start mcnet-avatar, which mends the file and keeps the old one")
    return settings, Finding("Settings", False, complaint, (fix,))


def _virtual_cameras() -> list[Finding]:
    """The system's, and on Linux PipeWire's: call programs differ in which of them they know, and one is enough."""
    reports = {"Virtual camera": examine_virtual_camera()}
    if sys.platform == "linux":
        reports["PipeWire camera"] = examine_pipewire()
    good = any(one.status == "ready" for one in reports.values())
    return [Finding(part, good, one.sentence, one.fixes) for part, one in reports.items()]


def _lines(finding: Finding) -> list[str]:
    lines = [f"[{'ok' if finding.good else '!!'}] {finding.part}: {finding.sentence}"]
    for number, fix in enumerate(finding.fixes, start=1):
        lines.append(f"     {number}. {fix.text}" + (":" if fix.command else ""))
        lines += [f"          {line}" for line in fix.command.splitlines()]
    return lines


def _versions() -> str:
    parts = [
        f"{name} {_version(name)}" for name in ("torch", "openvino", "opencv-python", "av", "pyvirtualcam", "PyQt6")
    ]
    system = f"{platform.system()} {platform.release()} ({platform.machine()})"
    return f"mcnet-avatar {_version('mcnet-avatar')}, Python {platform.python_version()}, {system}\n{', '.join(parts)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def _cameras() -> Finding:
    from app.pipeline.capture.cameras import list_cameras

    found = list_cameras()
    if not found:
        instead = Fix("Plug one in; a video file can stand in for it", "mcnet-avatar --camera FILE")
        return Finding("Cameras", False, "None was found.", (instead,))
    names = ", ".join(f"{camera.name} ({camera.spec_text})" for camera in found)
    denied = [str(node.device) for node in VideoDevices().nodes() if node.denied and not node.is_loopback]
    if denied:
        sentence = f"{names}. You may not use {' and '.join(denied)}."
        return Finding("Cameras", False, sentence, (JOIN_VIDEO_GROUP,))
    return Finding("Cameras", True, f"{names}.")


def _device_and_model(model: str) -> tuple[Finding, Finding]:
    from app.pipeline import tiers
    from mcnet.bench.tiers import Tier, remembered
    from mcnet.engine import DeviceChoice, open_model
    from mcnet.model_file import ModelFile, find_model
    from mcnet.places import measured_file

    tier: Tier | None = None
    loaded: ModelFile | None = None
    failure = ""
    try:
        path = find_model(model)
        loaded = open_model(model)
        tier = remembered(loaded, tiers.AUTO, measured_file())
    except UserError as error:
        failure = str(error)
    options = tiers.AUTO if tier is None else tier.over(tiers.AUTO)
    unused = tiers.unused_gpus()
    sentence = ". ".join([DeviceChoice.of(options, None if loaded is None else loaded.info).reason, *map(str, unused)])
    fixes = (Fix("Install torch for your GPU, and its driver: https://pytorch.org/get-started/locally"),)
    device = Finding("Device", not unused, f"{sentence}.", fixes if unused else ())
    if loaded is None:
        return device, Finding("Model", False, f"{failure}.")
    measured = f"Measured: {tier.sentence}." if tier else "Not measured on this machine yet: the first start does it."
    size = f"{loaded.config.size_px} x {loaded.config.size_px} pixels, {path.stat().st_size / 1e6:.1f} MB"
    return device, Finding("Model", True, f"{loaded.info.name} ({size}, {path}). {measured}")


def _face_finder() -> Finding:
    from assets import ROOT
    from mcnet.media.faces import FaceFinder
    from mcnet.media.images import read_rgb

    try:
        with FaceFinder() as finder:
            faces = finder.find(read_rgb(ROOT / "portraits" / "woman_1.jpg"))
    except UserError as error:
        return Finding("Face finder", False, f"{error}.")
    if len(faces) != 1:
        again = Fix("Install OpenCV again", "pip install --force-reinstall opencv-python")
        return Finding("Face finder", False, f"It sees {len(faces)} faces in a bundled portrait, expected 1.", (again,))
    return Finding("Face finder", True, "It finds the face of a bundled portrait.")
