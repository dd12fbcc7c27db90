"""A microphone for tests, which hears what it is told, at the time that it is told.

It is PipeWire's own null device, which sets the pace of its graph as a sound card does, and who speaks into it.
"""

from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from app.pipeline.output.pipewire_client import (
    IN_DATA_THREAD,
    MAP_BUFFERS,
    OUTPUT,
    PipeWire,
    Stream,
    sound_format,
)
from app.pipeline.output.sound import RATE_HZ

NAME = "test-microphone"
OTHER_NAME = "other-microphone"
BEEP_S = 0.05


def device(name: str) -> str:
    """The microphone of that name, as PipeWire makes it."""
    return (
        f"{{ factory.name=support.null-audio-sink node.name={name} media.class=Audio/Source/Virtual "
        "audio.position=[MONO] object.linger=true session.suspend-timeout-seconds=0 }"
    )


def tone(connection: "Connection[Any, Any]", hz: float, name: str) -> None:
    """Speak into a microphone. Receives the moment of a beep, in seconds of the monotonic clock.

    Args:
        connection: for this; `node` is sent once it is there.
        hz: of a tone that is heard all the time; 0 is silence but for beeps.
        name: of the microphone.
    """
    given, beep_s = 0, 0.0

    def make(count: int) -> bytes:
        nonlocal given
        given += count
        numbers = given - count + np.arange(count)
        at_s = stream.cycle_s() + (np.arange(count) - count) / RATE_HZ
        beeps = (at_s >= beep_s) & (at_s < beep_s + BEEP_S)
        wave = 0.5 * np.sin(2 * np.pi * hz * numbers / RATE_HZ) if hz else np.where(beeps, 0.9, 0.0)
        return wave.astype(np.float32).tobytes()

    pipewire = PipeWire()
    properties = {"media.type": "Audio", "media.category": "Playback", "node.name": f"{name}-speaker"}
    stream = Stream(
        pipewire,
        properties | {"node.latency": "512/48000"},
        on_state=lambda state, _error: connection.send({"node": 0}) if state == 2 else None,
        on_param=lambda _param, _address: None,
        on_process=lambda: stream.give_sound(make),
    )
    stream.connect(OUTPUT, MAP_BUFFERS | IN_DATA_THREAD, [sound_format(RATE_HZ)])
    while True:
        beep_s = connection.recv()
