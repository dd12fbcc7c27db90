"""A PipeWire daemon of a test's own, and a reader that is not ours: GStreamer's."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.output.pipewire_worker import PipeWireWorker
from tests.app.pipeline.output import pipewire_tone

PROGRAMS = ("pipewire", "wireplumber", "dbus-run-session", "pw-dump", "gst-launch-1.0")
_PATIENCE_S = 60.0


def missing() -> str:
    """What the tests with a real daemon lack here, for people; "" where nothing."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if not lacking and subprocess.run(["gst-inspect-1.0", "pipewiresrc"], capture_output=True, check=False).returncode:
        lacking = ["GStreamer's pipewiresrc"]
    remedy = "apt-get install pipewire wireplumber dbus-daemon gstreamer1.0-tools gstreamer1.0-pipewire"
    return f"there is no {' and no '.join(lacking)} here ({remedy})" if lacking else ""


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, f"not within {_PATIENCE_S} s: {what}"
        time.sleep(0.02)


class Daemon:
    """PipeWire with WirePlumber, in a folder of its own."""

    def __init__(self) -> None:
        # A socket's path may have 107 characters: pytest's own folders are too deep.
        self.folder = Path(tempfile.mkdtemp(prefix="pw"))
        homes = {name: str(self.folder) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
        self.environment = os.environ | homes
        for name in ("PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR", "PULSE_SERVER"):
            self.environment.pop(name, None)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, manager: bool = True) -> None:
        self._run("pipewire")
        until(self._listens, "the daemon listens")
        if manager:
            self._run("dbus-run-session", "--", "wireplumber")
            until(
                lambda: self.globals("Client", "application.name", "WirePlumber [export]") != [], "there is a manager"
            )

    def stop(self) -> None:
        """End it at once, as a crash would."""
        for process in reversed(self._processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def globals(self, kind: str, key: str, value: str) -> list[dict[str, Any]]:
        """What the daemon has of a kind, with that property."""
        said = subprocess.run(["pw-dump"], env=self.environment, capture_output=True, check=False, timeout=20).stdout
        found = json.loads(said) if said else []
        return [
            one
            for one in found
            if one["type"].endswith(f":{kind}")
            and (one.get("props", {}) | (one.get("info") or {}).get("props", {})).get(key) == value
        ]

    def nodes(self, name: str) -> list[dict[str, Any]]:
        return self.globals("Node", "node.name", name)

    def add_microphone(self, name: str = pipewire_tone.NAME) -> None:
        """Plug in one of `pipewire_tone`."""
        self._do("pw-cli", "create-node", "adapter", pipewire_tone.device(name))
        until(lambda: self.nodes(name) != [], "the microphone is there")

    def remove_microphone(self, name: str = pipewire_tone.NAME) -> None:
        """Unplug it."""
        for node in self.nodes(name):
            self._do("pw-cli", "destroy", str(node["id"]))

    def speak(self, hz: float, name: str = pipewire_tone.NAME) -> PipeWireWorker:
        """Have somebody speak into it; ends with the worker."""
        worker = PipeWireWorker(pipewire_tone.tone, hz, name)
        worker.facts(_PATIENCE_S)
        ends = (f"{name}-speaker:output_MONO", f"{name}:input_MONO")
        until(lambda: self._do("pw-link", *ends) == 0, "the speaker speaks into the microphone")
        return worker

    def _do(self, *command: str) -> int:
        return subprocess.run(
            command, env=self.environment, capture_output=True, check=False, timeout=_PATIENCE_S
        ).returncode

    def read(self, count: int, pixel_format: str, name: str = "mcnet-avatar") -> "Reader":
        """Begin to read so many pictures."""
        return Reader(self.folder, self.environment, count, pixel_format, name)

    def run(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a program that finds this daemon; ended with it."""
        return self._run(*command)

    def _run(self, *command: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.folder / "pipewire-0"))
            except OSError:
                return False
        return True


class Reader:
    """GStreamer, reading a camera."""

    def __init__(self, folder: Path, environment: dict[str, str], count: int, pixel_format: str, name: str) -> None:
        self._place = Path(tempfile.mkdtemp(dir=folder)) / "pictures"
        self._count = count
        self._process = subprocess.Popen(
            ["gst-launch-1.0", "-v", "pipewiresrc", f"target-object={name}", f"num-buffers={count}",
             "!", f"video/x-raw,format={pixel_format}",
             "!", "identity", "silent=false", "!", "filesink", f"location={self._place}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True, encoding="utf-8"
        )  # fmt: skip

    @property
    def reading(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def pictures(self) -> "tuple[NDArray[np.uint8], list[float], str]":
        """Wait for the end: the pictures, a row each, their times in seconds, and the format with size and rate."""
        said, _ = self._process.communicate(timeout=_PATIENCE_S)
        times = [
            int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            for hours, minutes, seconds in re.findall(r"pts: (\d+):(\d+):([\d.]+)", said)
        ]
        caps = re.findall(r"caps = (video/x-raw.*)", said)
        data = np.fromfile(self._place, np.uint8)
        assert data.size, said
        return data.reshape(self._count, -1), times, caps[-1] if caps else said


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that runs. Who needs it finds it as any program does."""
    if lacking := missing():
        pytest.skip(lacking)
    daemon = Daemon()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(daemon.folder))
        for name in ("PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR"):
            patch.delenv(name, raising=False)
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.close()
