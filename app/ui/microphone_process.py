"""`python -m app.ui.microphone_process`: a microphone in a process of its own, by Qt.

Qt is there already, and its part for sound needs nothing that a desktop with sound lacks: PyAV's own devices do not
find the system's settings for sound on Linux. But libpulse, below it, aborts the process when a microphone is opened
after the sound server has gone, which must not end a call. So the window reads a pipe, and who fails is started anew.

Without a key, or with one, it writes a line of JSON (`name`, `rate_hz`), then samples as float32 for as long as there
are any. With `--list` it writes the microphones as JSON. What cannot be is a line with an `error` for people.
"""

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from app.errors import AppError
from app.pipeline.output.sound import RATE_HZ

if TYPE_CHECKING:
    from PyQt6.QtMultimedia import QAudioDevice, QAudioFormat

_POLL_S = 0.01
_BUFFER_S = 1.0


def main(arguments: list[str], output: BinaryIO) -> int:
    """Do what the arguments say; returns the exit status."""
    try:
        if arguments == ["--list"]:
            _tell(output, {"microphones": listed()})
        else:
            listen(arguments[0] if arguments else "", output)
    except AppError as error:
        _tell(output, {"error": str(error)})
        return 1
    except (BrokenPipeError, KeyboardInterrupt):  # nobody listens any more
        return 0
    return 0


def listed() -> list[tuple[str, str]]:
    """Key and name of every microphone, the usual one first.

    Raises:
        AppError: Qt's part for sound cannot be loaded.
    """
    _require_multimedia()
    from PyQt6.QtMultimedia import QMediaDevices

    usual = QMediaDevices.defaultAudioInput()
    devices = sorted(QMediaDevices.audioInputs(), key=lambda device: device != usual)
    return [(_key(device), device.description()) for device in devices]


def listen(key: str, output: BinaryIO) -> None:
    """Write what a microphone hears until it gives no more; "" is the system's usual one.

    Raises:
        AppError: it is not there, or cannot be opened.
    """
    _require_multimedia()
    from PyQt6.QtCore import QCoreApplication
    from PyQt6.QtMultimedia import QAudio, QAudioSource

    device = _find(key)
    wanted = _format_of(device)
    source = QAudioSource(device, wanted)
    source.setBufferSize(wanted.bytesForDuration(round(1e6 * _BUFFER_S)))
    stream = source.start()
    if stream is None or source.error() is not QAudio.Error.NoError:
        raise AppError(
            f"the microphone {device.description()} cannot be opened ({source.error().name}): close what else uses it, "
            "or choose another one"
        )
    _tell(output, {"name": device.description(), "rate_hz": wanted.sampleRate()})
    rest, frame_bytes, parent = b"", wanted.bytesPerFrame(), os.getppid()
    while source.error() is QAudio.Error.NoError and source.state() is not QAudio.State.StoppedState:
        if os.getppid() != parent:  # the window was killed, and the microphone may give nothing to write
            return
        time.sleep(_POLL_S)
        QCoreApplication.processEvents()
        data = rest + stream.readAll().data()
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        if whole:
            mean = np.frombuffer(data[:whole], np.float32).reshape(-1, wanted.channelCount()).mean(axis=1)
            output.write(mean.astype(np.float32).tobytes())
            output.flush()


def _find(key: str) -> "QAudioDevice":
    from PyQt6.QtMultimedia import QMediaDevices

    if not key:
        device = QMediaDevices.defaultAudioInput()
        if device.isNull():
            raise AppError("there is no microphone: plug one in, or allow it in the system's settings for sound")
        return device
    found = [one for one in QMediaDevices.audioInputs() if _key(one) == key]
    if not found:
        raise AppError("the microphone is not there: plug it in, or choose another one")
    return found[0]


def _format_of(device: "QAudioDevice") -> "QAudioFormat":
    """One channel at the recordings' rate where the system converts, else as many as there are, at the usual rate."""
    from PyQt6.QtMultimedia import QAudioFormat

    wanted = QAudioFormat()
    wanted.setSampleFormat(QAudioFormat.SampleFormat.Float)
    wanted.setSampleRate(RATE_HZ)
    wanted.setChannelCount(1)
    if not device.isFormatSupported(wanted):
        usual = device.preferredFormat()
        wanted.setSampleRate(usual.sampleRate())
        wanted.setChannelCount(usual.channelCount())
    return wanted


def _key(device: "QAudioDevice") -> str:
    return device.id().data().decode(errors="replace")


def _tell(output: BinaryIO, facts: dict[str, Any]) -> None:
    output.write(json.dumps(facts).encode() + b"\n")
    output.flush()


def _require_multimedia() -> None:
    """Load Qt's part for sound, which on Linux needs a library that a desktop has and a bare system has not."""
    try:
        import PyQt6.QtMultimedia  # noqa: F401
    except ImportError as error:
        linux = sys.platform == "linux"
        remedy = "on Debian or Ubuntu: apt-get install libpulse0" if linux else "install the app again"
        raise AppError(f"Qt's part for sound cannot be loaded ({error}); {remedy}") from error


def run() -> int:
    """The process's body."""
    from PyQt6.QtCore import QCoreApplication

    application = QCoreApplication(sys.argv[:1])
    status = main(sys.argv[1:], sys.stdout.buffer)
    del application
    return status


if __name__ == "__main__":
    sys.exit(run())
