"""What the process of a microphone runs, by Qt; `app.ui.microphones` starts it.

Qt is there already, and its part for sound needs nothing that a desktop with sound lacks: PyAV's own devices do not
find the system's settings for sound on Linux. But libpulse, below it, aborts the process when a microphone is opened
after the sound server has gone, which must not end a call. So the window reads a pipe, and who fails is started anew.
"""

import os
import sys
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import AppError
from app.pipeline.output.pipewire_process import end_with_parent
from app.pipeline.output.pipewire_worker import MICROPHONE_NAME
from app.pipeline.output.sound import RATE_HZ
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from PyQt6.QtMultimedia import QAudioDevice, QAudioFormat

_POLL_S = 0.01
_BUFFER_S = 1.0


def serve(connection: "Connection[Any, Any]", key: str | None) -> None:
    """The process, which ends with the one that started it: answers, and says nothing else to anybody.

    Args:
        connection: takes the answer.
        key: as `answer` takes it.
    """
    from PyQt6.QtCore import QCoreApplication

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the system's sound says there is for nobody
    end_with_parent()
    application = QCoreApplication(sys.argv[:1])
    answer(connection, key)
    del application


def answer(connection: "Connection[Any, Any]", key: str | None) -> None:
    """Send what is asked for.

    First a dict: with `microphones` where these are asked for, with `name` and `rate_hz` of one that is open, or with
    an `error` for people. After an open one's dict, its samples as bytes of float32, for as long as there are any.

    Args:
        connection: takes it.
        key: of the microphone; "" is the system's usual one, None asks which there are.
    """
    try:
        if key is None:
            connection.send({"microphones": listed()})
        else:
            listen(key, connection)
    except AppError as error:
        connection.send({"error": str(error)})
    except BrokenPipeError:  # nobody listens any more
        return


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


def listen(key: str, connection: "Connection[Any, Any]") -> None:
    """Send what a microphone hears until it gives no more; "" is the system's usual one.

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
            phrase(
                "the microphone {description} cannot be opened ({name}): close what else uses it, or choose another "
                "one",
                description=device.description(),
                name=source.error().name,
            )
        )
    connection.send({"name": device.description(), "rate_hz": wanted.sampleRate()})
    rest, frame_bytes = b"", wanted.bytesPerFrame()
    while source.error() is QAudio.Error.NoError and source.state() is not QAudio.State.StoppedState:
        time.sleep(_POLL_S)
        QCoreApplication.processEvents()
        data = rest + stream.readAll().data()
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        if whole:
            mean = np.frombuffer(data[:whole], np.float32).reshape(-1, wanted.channelCount()).mean(axis=1)
            connection.send_bytes(mean.astype(np.float32).tobytes())


def _find(key: str) -> "QAudioDevice":
    from PyQt6.QtMultimedia import QMediaDevices

    if not key:
        device = QMediaDevices.defaultAudioInput()
        if device.description() == MICROPHONE_NAME:  # calls' usual one is as late as a recording makes it
            others = [one for one in QMediaDevices.audioInputs() if one.description() != MICROPHONE_NAME]
            device = others[0] if others else device
        if device.isNull():
            raise AppError(
                phrase("there is no microphone: plug one in, or allow it in the system's settings for sound")
            )
        return device
    found = [one for one in QMediaDevices.audioInputs() if _key(one) == key]
    if not found:
        raise AppError(phrase("the microphone is not there: plug it in, or choose another one"))
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


def _require_multimedia() -> None:
    """Load Qt's part for sound, which on Linux needs a library that a desktop has and a bare system has not."""
    try:
        import PyQt6.QtMultimedia  # noqa: F401
    except ImportError as error:
        linux = sys.platform == "linux"
        remedy = phrase("on Debian or Ubuntu: apt-get install libpulse0") if linux else phrase("install the app again")
        raise AppError(
            phrase("Qt's part for sound cannot be loaded ({error}); {remedy}", error=error, remedy=remedy)
        ) from error
