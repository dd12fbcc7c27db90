"""What the app needs from the machine: what is there, what is missing, and the exact fix."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from app.errors import AppError
from app.pipeline.output.pipewire_report import examine_pipewire
from app.pipeline.output.virtual_camera_report import JOIN_VIDEO_GROUP, Fix, VirtualCameraReport, examine_virtual_camera
from app.pipeline.stats import LEAST_HZ
from app.pipeline.v4l2 import VideoDevices
from app.settings import AppSettings, load_settings
from mcnet.errors import UserError
from mcnet.packages import install_command, is_bundled, told_missing

if TYPE_CHECKING:  # what examines them is loaded once the rest is known to be there
    from mcnet.bench.tiers import Tier
    from mcnet.engine import EngineOptions, Lack, Precision
    from mcnet.model_file import ModelFile

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


def check_up(
    model: str, device: str = "auto", precision: str = "auto", camera: str | None = None
) -> tuple[Finding, ...]:
    """Look at cameras, virtual cameras, device, model and face finder.

    Args:
        model: bundled name or file of the model to look at.
        device: that is to run it, as `EngineOptions.device`.
        precision: in which it is to run, as `EngineOptions.precision`.
        camera: to be tried, as `parse_camera` takes it; None: all that there are, which are only listed.
    """
    virtual = _virtual_cameras()
    try:
        importlib.import_module("mcnet.media")
    except UserError as error:  # nothing of the rest can be examined without it
        return *virtual, Finding("OpenCV", False, f"{error}.")
    return (
        *_examined("Cameras", lambda: [_cameras() if camera is None else _camera(camera)]),
        *virtual,
        *_examined("Device and model", lambda: _device_and_model(model, device, precision)),
        *_examined("Face finder", lambda: [_face_finder()]),
    )


def _examined(part: str, examine: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    """What is found; where a package is missing for it, that."""
    try:
        return examine()
    except ModuleNotFoundError as error:
        return [Finding(part, False, f"{told_missing(error)}.")]


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


def _camera(text: str) -> Finding:
    """One that was asked for, opened as the app would."""
    from app.pipeline.camera_spec import parse_camera
    from app.pipeline.capture.cameras import open_camera

    try:
        spec = parse_camera(text)
        if spec.kind == "motion":
            return Finding("Camera", True, f"{spec.name} is a motion file, which stands in for a camera.")
        camera = open_camera(spec)
    except UserError as error:
        return Finding("Camera", False, f"{error}.")
    with contextlib.closing(camera):
        gives = camera.format
        size = f"{gives.width_px} x {gives.height_px}"
        return Finding("Camera", True, f"{camera.name} gives {size} at {gives.fps_hz:.3g} frames per second.")


def _device_and_model(model: str, device: str, precision: str) -> tuple[Finding, Finding]:
    from mcnet.bench.tiers import remembered
    from mcnet.engine import EngineOptions, open_model
    from mcnet.model_file import find_model
    from mcnet.places import measured_file

    options = EngineOptions(device=device, precision=cast("Precision", precision))
    try:
        path = find_model(model)
        loaded = open_model(model)
    except UserError as error:
        return _device(options, None, None), Finding("Model", False, f"{error}.")
    tier: Tier | None = None
    with contextlib.suppress(UserError):  # of the device, which tells it
        tier = remembered(loaded, options, measured_file())
    measured = f"Measured: {tier.sentence}." if tier else "Not measured on this machine yet: the first start does it."
    size = f"{loaded.config.size_px} x {loaded.config.size_px} pixels, {path.stat().st_size / 1e6:.1f} MB"
    return _device(options, loaded, tier), Finding("Model", True, f"{loaded.info.name} ({size}, {path}). {measured}")


def _device(options: "EngineOptions", model: "ModelFile | None", tier: "Tier | None") -> Finding:
    """What would compute, as the engine chooses it.

    A GPU that could be used and is not is no fault, as long as the processor is not known to be too slow, and is not
    looked for where a device is asked for by name.

    Args:
        options: what is asked for.
        model: to be run; None where it cannot be read.
        tier: what was measured of it.
    """
    from app.pipeline import tiers
    from mcnet.engine import DeviceChoice, EngineError, chosen_backend, lacks_openvino

    if model is None and options.precision == "int8":  # which only a model that was read can have
        options = dataclasses.replace(options, precision="auto")
    options = options if tier is None else tier.over(options)
    try:
        choice = DeviceChoice.of(options, None if model is None else model.info)
        backend, why = chosen_backend(choice, options)
    except EngineError as error:
        return Finding("Device", False, f"{error}.", _for_lack(error.lacks))
    unused = tiers.unused_gpus() if options.device == "auto" else ()
    why = choice.unsaid(why)
    computing = f"{backend} computes: {why}" if why else f"{backend} computes"
    sentence = ". ".join([choice.reason, computing, *map(str, unused)])
    slow = tier is not None and tier.best.frame_ms > 1000 / LEAST_HZ
    fixes: tuple[Fix, ...] = ()
    if lacks_openvino(choice.device):
        faster = "Install OpenVINO, which computes about twice as fast as torch on a processor"
        fixes += (_install(faster, "openvino"),)
    if any(gpu.usable for gpu in unused):
        fixes += _for_lack("torch for GPUs")
    return Finding("Device", not (slow and fixes), f"{sentence}.", fixes)


def _for_lack(lacks: "Lack | None") -> tuple[Fix, ...]:
    """What has the engine do what it cannot do for lack of this, by how the app was installed."""
    if lacks is None:
        return ()
    if lacks == "openvino":
        return (_install("Install OpenVINO", "openvino"),)
    if is_bundled():
        return (
            Fix("For this GPU, use an installation from source (docs/install.md): the bundle cannot take torch in"),
        )
    return (Fix("Install torch for your GPU, and its driver: https://pytorch.org/get-started/locally"),)


def _install(text: str, module: str, *options: str) -> Fix:
    """What to do about a package, which in the bundle is all there is to do."""
    command = install_command(module)
    return Fix(text, " ".join([command, *options])) if command else Fix("Install the app again")


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
        again = _install("Install OpenCV again", "cv2", "--force-reinstall")
        return Finding("Face finder", False, f"It sees {len(faces)} faces in a bundled portrait, expected 1.", (again,))
    return Finding("Face finder", True, "It finds the face of a bundled portrait.")
