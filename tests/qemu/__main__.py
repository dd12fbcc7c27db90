"""`python -m tests.qemu`: the app between a real V4L2 webcam and a real virtual camera, in an emulated computer.

Real are the kernel, vivid, v4l2loopback, and `mcnet-avatar --headless` with its whole pipeline and engine. The model is
not: the emulator makes some tenth of a billion multiplications a second, and the starter would take minutes for a
portrait. A tiny untrained one stands in, made so that it shows the warped portrait and nothing that it invented.
"""

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from app.pipeline.output.compositor import Compositor
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.portraits import PortraitStore, load_portrait
from app.pipeline.state import State
from mcnet.arrays import Rgb
from mcnet.checkpoint import save_model
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.images import write_rgb
from mcnet.media.video import open_driving
from mcnet.model_file import ModelInfo
from tests.qemu.guest import FPS_HZ, FRAMES, Seen
from tests.qemu.machine import CannotEmulateError, Machine

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "build" / "qemu"
_CLIP = _ROOT / "assets" / "driving" / "grid_bbaf2n.mpg"
_LIMIT_S = 600.0
_WIDTH_PX, _HEIGHT_PX = 1280, 720
_RATE_SHARES = 0.5, 1.2  # of the rate that was asked for: the emulator shares its one processor with all that it runs
_SLATE_MOST = 2.0  # mean difference of 255, which I420 and nothing else makes
_PORTRAIT_LEAST, _CAMERA_MOST = 0.8, 0.75  # correlations; a fade from the slate is like the portrait by 0.9


def main() -> int:
    began_s = time.monotonic()
    try:
        machine = Machine(_FOLDER / "machine")
    except CannotEmulateError as error:
        print(f"\n*** SKIPPED: no real camera was tested, as QEMU cannot be had here ***\n{error}\n", file=sys.stderr)
        return 0
    print(f"the virtual machine is ready after {time.monotonic() - began_s:.0f} s", flush=True)
    shared = _FOLDER / "shared"
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    _make_model(shared / "model.safetensors")
    clip = _make_clip(shared)
    log = _FOLDER / "serial.log"
    command = ["env", "-C", str(_ROOT), "HOME=/tmp/home", sys.executable, str(Path(__file__).with_name("guest.py"))]
    began_s = time.monotonic()
    with log.open("w", encoding="utf-8", buffering=1) as file:
        status = machine.run(command, shared, limit_s=_LIMIT_S, hear=lambda line: print(line, file=file))
    print(f"the virtual machine ran for {time.monotonic() - began_s:.0f} s", flush=True)
    problems = [f"guest: got exit status {status}, expected 0"] if status else _judge(shared, clip)
    if problems:
        print(
            "\n".join(["serial console of the guest:", log.read_text(encoding="utf-8"), "FAILED", *problems]),
            file=sys.stderr,
        )
        return 1
    print(f"passed; look at {_FOLDER / 'slate.png'} and {_FOLDER / 'avatar.png'}")
    return 0


def _make_model(path: Path) -> None:
    """A tiny model whose keypoints move with the picture, and which trusts its warp everywhere."""
    torch.manual_seed(0)
    config = McnetConfig.named("tiny")
    # OpenVINO does not take this conditioning, and takes longer to say so of another than torch to compute it.
    memory = dataclasses.replace(config.memory, conditioning="keypoints+appearance")
    model = Mcnet(dataclasses.replace(config, memory=memory), ModelInfo(name="tiny")).eval()
    with torch.no_grad():
        model.keypoint_detector.logits.weight.mul_(5)
        occlusion = model.generator.dense_motion.occlusion
        assert occlusion.bias is not None
        occlusion.bias.fill_(6)
    save_model(model, path)


def _make_clip(shared: Path) -> list[Rgb]:
    """Decode the driving clip for the guest's camera."""
    clip = list(open_driving(_CLIP))
    height, width = clip[0].shape[:2]
    (shared / "face.json").write_text(json.dumps([width, height]), encoding="utf-8")
    (shared / "face.i420").write_bytes(b"".join(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).tobytes() for rgb in clip))
    return clip


def _judge(shared: Path, clip: list[Rgb]) -> list[str]:
    """What is wrong with what the guest saw, one sentence each."""
    problems: list[str] = []
    kinds: dict[str, list[str]] = {}
    eye = _Eye(clip)
    for name, picture_file in (("pattern", "slate.png"), ("face", "avatar.png")):
        seen = Seen(**json.loads((shared / f"{name}.json").read_text(encoding="utf-8")))
        problems += [f"{name}: {problem}" for problem in _wrong_device(seen)]
        pictures = [_picture(path) for path in sorted(shared.glob(f"{name}.*.i420"))]
        if not pictures:
            continue
        write_rgb(_FOLDER / picture_file, pictures[-1])
        kinds[name] = []
        for index, picture in enumerate(pictures):
            kind, why = eye.kind(picture)
            kinds[name].append(kind)
            if kind == "neither":
                problems.append(f"{name}: picture {index} is {why}, expected the slate or the avatar")
                write_rgb(_FOLDER / f"{name}.{index}.png", picture)
        told = json.loads((shared / f"{name}.report.json").read_text(encoding="utf-8"))
        medians = ", ".join(f"{stage} {times['p50']:.0f}" for stage, times in told["stage_ms"].items())
        states = [row["state"] for row in told["states"]]
        print(
            f"{name}: {seen.pictures} pictures of {seen.width_px}x{seen.height_px} in {seen.seconds:.1f} s, "
            f"the longest gap {seen.longest_gap_s:.1f} s; {kinds[name].count('slate')} different slates, "
            f"{kinds[name].count('avatar')} different avatars {eye.range()}; states {', '.join(states)}; "
            f"{told['frames_out']} frames animated, medians in ms: {medians}"
        )
        if name == "pattern" and (
            set(kinds[name]) != {"slate"} or told["frames_out"] or "face" not in told["stage_ms"]
        ):
            problems.append(
                f"pattern: got {sorted(set(kinds[name]))}, {told['frames_out']} animated frames and the stages "
                f"{', '.join(told['stage_ms'])}; expected slates only, 0 frames, and a search for a face"
            )
        if name == "face" and (kinds[name][-1] != "avatar" or kinds[name].count("avatar") < 3):
            problems.append(f"face: got {kinds[name]}, expected at least 3 different avatars, and one at the end")
        if name == "face" and told["frames_out"] < FRAMES:
            problems.append(f"face: got {told['frames_out']} animated frames, expected {FRAMES}")
    return problems


def _wrong_device(seen: Seen) -> list[str]:
    """What is wrong with the app's end, and with the virtual camera's format and rate."""
    problems = []
    if seen.status:
        problems.append(f"got exit status {seen.status} of the app, expected 0")
    if (seen.width_px, seen.height_px, seen.fourcc) != (_WIDTH_PX, _HEIGHT_PX, "YU12"):
        problems.append(f"got {seen.width_px}x{seen.height_px} {seen.fourcc}, expected {_WIDTH_PX}x{_HEIGHT_PX} YU12")
    measured_hz = (seen.pictures - 1) / seen.seconds if seen.seconds else 0.0
    least, most = (share * FPS_HZ for share in _RATE_SHARES)
    if not least <= measured_hz <= most:
        problems.append(f"got {measured_hz:.1f} pictures/s, expected {least:.1f} to {most:.1f}")
    return problems


class _Eye:
    """Tells the slate, the avatar and the camera's picture apart."""

    def __init__(self, clip: list[Rgb]) -> None:
        compositor = Compositor(OutputFormat(_WIDTH_PX, _HEIGHT_PX, FPS_HZ))
        self._slates = [compositor.slate(state) for state in State]
        self._portrait = _small(load_portrait("woman_1", PortraitStore(_FOLDER)).square)
        with FaceFinder() as finder:
            faces = finder.find(clip[0])
        squares = [crop(rgb, frame_face(faces[0]), _HEIGHT_PX) for rgb in clip]
        self._camera = [_small(rgb) for rgb in (*squares, *clip)]
        self._likeness: list[tuple[float, float]] = []

    def kind(self, picture: Rgb) -> tuple[str, str]:
        """`slate`, `avatar` or `neither`; and how it was told."""
        slate = min(float(np.abs(picture.astype(np.int16) - rgb).mean()) for rgb in self._slates)
        if slate <= _SLATE_MOST:
            return "slate", ""
        left = (_WIDTH_PX - _HEIGHT_PX) // 2
        small = _small(picture[:, left : left + _HEIGHT_PX])
        portrait = float(np.mean(small * self._portrait))
        camera = max(float(np.mean(seen * other)) for other in self._camera for seen in (small, _small(picture)))
        self._likeness.append((portrait, camera))
        told = f"{slate:.1f} of 255 from the slate, and like the portrait by {portrait:.2f}, the camera by {camera:.2f}"
        return ("avatar" if portrait >= _PORTRAIT_LEAST and camera <= _CAMERA_MOST else "neither"), told

    def range(self) -> str:
        """How like portrait and camera the avatars were, for the record."""
        if not self._likeness:
            return ""
        portrait, camera = zip(*self._likeness, strict=True)
        return f"(like the portrait by {min(portrait):.2f} and more, like the camera by {max(camera):.2f} and less)"


def _small(rgb: Rgb) -> NDArray[np.float32]:
    """Grey, 64x64, of mean 0 and variance 1: the mean of the product of two is their correlation."""
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    answer: NDArray[np.float32] = (grey - grey.mean()) / max(float(grey.std()), 1e-6)
    return answer


def _picture(path: Path) -> Rgb:
    planes = np.fromfile(path, np.uint8).reshape(_HEIGHT_PX * 3 // 2, _WIDTH_PX)
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
