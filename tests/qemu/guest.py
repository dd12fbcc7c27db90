"""Runs in the guest: starts the app twice, and reads from another process what a call would see.

Once the webcam is vivid with its test pattern, once a loopback camera that shows a face. Importing torch takes half a
minute and more here; so the app is imported once, and each run is a fork of that.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

SHARED = Path("/mnt")
# Asked for a small picture: the emulated processor draws the test pattern too.
PATTERN_CAMERA = "/dev/video0@320x180@15"
VIRTUAL_CAMERA, FACE_CAMERA = "/dev/video10", "/dev/video11"
FPS_HZ = 5
FRAMES = 5
_FACE_FPS_HZ = 25
_PICTURES_AFTER = 15
_OPTIONS = (
    *("--headless", "-v", "--source", "woman_1", "--model", f"{SHARED}/model.safetensors", "--precision", "fp32"),
    *("--sink", f"virtualcam:{VIRTUAL_CAMERA}", "--fps", str(FPS_HZ), "--calibration-s", "0"),
    # The app's own times are for real computers; the emulated one is some fifty times slower.
    *("--give-up-s", "300", "--model-timeout-s", "60", "--camera-timeout-s", "60"),
)
_GET_FORMAT, _SET_FORMAT = 0xC0D05604, 0xC0D05605
_CAPTURE, _OUTPUT = 1, 2
_PROGRESSIVE, _SRGB = 1, 8


@dataclass
class Seen:
    """What was read from the virtual camera during one run of the app.

    Attributes:
        status: the app's exit status.
        width_px, height_px, fourcc: the device's format.
        pictures: how many were read.
        seconds: from the first to the last of them.
        longest_gap_s: between two of them.
        counts: how often each picture came, in order of its first appearance.
    """

    status: int = -1
    width_px: int = 0
    height_px: int = 0
    fourcc: str = ""
    pictures: int = 0
    seconds: float = 0.0
    longest_gap_s: float = 0.0
    counts: list[int] = field(default_factory=list)


class Reader:
    """Reads a V4L2 device that gives I420, without waiting."""

    def __init__(self, device: str) -> None:
        self.seen = Seen()
        self.distinct: dict[int, bytes] = {}
        self._counts: dict[int, int] = {}
        self._last_s = 0.0
        self._file = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
        answer = bytearray(struct.pack("<I204x", _CAPTURE))
        try:
            fcntl.ioctl(self._file, _GET_FORMAT, answer)
        except OSError:
            os.close(self._file)
            raise
        self.seen.width_px, self.seen.height_px, fourcc, _, _, self._size = struct.unpack_from("<II4sIII", answer, 8)
        self.seen.fourcc = fourcc.decode()

    def read(self) -> None:
        try:
            picture = os.read(self._file, self._size)
        except OSError:  # nothing new, or the app closed the device
            return
        now_s = time.monotonic()
        seen = self.seen
        if seen.pictures:
            seen.seconds += now_s - self._last_s
            seen.longest_gap_s = max(seen.longest_gap_s, now_s - self._last_s)
        self._last_s = now_s
        seen.pictures += 1
        key = zlib.crc32(picture)
        self.distinct.setdefault(key, picture)
        self._counts[key] = self._counts.get(key, 0) + 1
        seen.counts = list(self._counts.values())

    def close(self) -> None:
        os.close(self._file)


def main() -> int:
    feeder, _ = _fork(_feed)
    sys.path.insert(0, str(Path.cwd()))
    import app.headless  # noqa: F401 - for the forks, as the next line
    import mcnet.engine  # noqa: F401
    from app.__main__ import main as mcnet_avatar
    from mcnet.checkpoint import load_model

    load_model(f"{SHARED}/model.safetensors")  # torch imports a good deal more at its first use

    def run(name: str, *options: str) -> int:
        return mcnet_avatar([*_OPTIONS, "--report", f"{SHARED}/{name}.report.json", *options])

    _say("imported")
    try:
        _watch("pattern", lambda: run("pattern", "--camera", PATTERN_CAMERA), end_after="state: calibrating")
        _watch("face", lambda: run("face", "--camera", FACE_CAMERA, "--frames", str(FRAMES)))
    finally:
        os.kill(feeder, signal.SIGKILL)
    return 0


def _watch(name: str, body: Callable[[], int], *, end_after: str | None = None) -> None:
    """Run the app and read along; `end_after`: end it some pictures after it said this."""
    process, messages = _fork(body)
    reader: Reader | None = None
    opened = False
    end_at: int | None = None
    text = ""
    while True:
        if opened and not reader:
            with contextlib.suppress(OSError):  # the device has no format before the first picture
                reader = Reader(VIRTUAL_CAMERA)
        # v4l2loopback never tells a reader of this kind that a picture is there: look often instead.
        ready, _, _ = select.select([messages], [], [], 0.02)
        if messages in ready:
            piece = os.read(messages, 65536).decode(errors="replace")
            if not piece:
                break
            *lines, text = (text + piece).split("\n")
            for line in lines:
                _say(f"{name}: {line}")
                opened |= "SinkOpened" in line
                if end_after and end_after in line and end_at is None:
                    end_at = (reader.seen.pictures if reader else 0) + _PICTURES_AFTER
        if reader:
            reader.read()
        if reader and end_at is not None and reader.seen.pictures >= end_at:
            os.kill(process, signal.SIGTERM)
            end_after = end_at = None
    seen = reader.seen if reader else Seen()
    seen.status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if reader:
        reader.close()
        for index, picture in enumerate(reader.distinct.values()):
            (SHARED / f"{name}.{index:03}.i420").write_bytes(picture)
    (SHARED / f"{name}.json").write_text(json.dumps(asdict(seen)), encoding="utf-8")
    _say(f"{name}: {seen}")


def _feed() -> int:
    """Be a camera: show the clip that the host decoded, over and over, at its rate."""
    width, height = json.loads((SHARED / "face.json").read_text(encoding="utf-8"))
    size = width * height * 3 // 2
    clip = (SHARED / "face.i420").read_bytes()
    device = os.open(FACE_CAMERA, os.O_RDWR)
    picture = struct.pack("<II4sIIII", width, height, b"YU12", _PROGRESSIVE, width, size, _SRGB)
    fcntl.ioctl(device, _SET_FORMAT, bytearray(struct.pack("<I4x", _OUTPUT) + picture.ljust(200, b"\0")))
    due_s = time.monotonic()
    while True:
        for start in range(0, len(clip), size):
            os.write(device, clip[start : start + size])
            due_s = max(due_s + 1 / _FACE_FPS_HZ, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))


def _fork(body: Callable[[], int]) -> tuple[int, int]:
    """Run it in a process of its own; returns that and a file of what it prints."""
    inlet, outlet = os.pipe()
    process = os.fork()
    if process:
        os.close(outlet)
        return process, inlet
    status = 1
    with contextlib.suppress(BaseException):
        os.dup2(outlet, 1)
        os.dup2(outlet, 2)
        try:
            status = body()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _say(text: str) -> None:
    print(f"guest: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
