"""The process that is a microphone in PipeWire: it hears the chosen one, and gives its sound later.

`app.pipeline.output.pipewire_microphone` starts it. Both sides run on PipeWire's own data thread, as whatever works on
sound there does, so that nothing waits but for the sound itself.
"""

import gc
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from app.errors import AppError
from app.pipeline.output.delayed_sound import DelayedSound
from app.pipeline.output.pipewire_client import (
    AUTOCONNECT,
    ERROR,
    IN_DATA_THREAD,
    INACTIVE,
    INPUT,
    MAP_BUFFERS,
    OUTPUT,
    PAUSED,
    STREAMING,
    UNCONNECTED,
    Global,
    PipeWire,
    Stream,
    sound_format,
)
from app.pipeline.output.pipewire_process import end_with
from app.pipeline.output.pipewire_worker import MICROPHONE_NAME
from app.pipeline.output.sound import RATE_HZ, SoundFeed
from mcnet.phrases import phrase

_NODE_NAME = "mcnet-avatar-microphone"
_LINK_GROUP = "mcnet-avatar-sound"  # who is in one is never joined to itself
_QUANTUM = 512
_OLDEST = (0, 3, 50)  # older ones do not say how much sound they want, nor when a cycle began
_LOST_S = 0.004  # of cycles, whose beginning is known: who is late only says so
_SILENT_S = 2.0
_LOOK_S = 0.25
_TOLD_S = 0.005
_AGAIN_S = 1.0


def microphone(connection: "Connection[Any, Any]", key: str, name: str) -> None:
    """Be a microphone until nobody wants it any more.

    Sends dicts: `node`, its number, once it is there; `listened`, whether somebody hears it; `delay_s`, that is kept,
    whenever it changes; `trouble`, for people, whenever that changes; `taken`, for each message. Receives a delay in
    seconds, and whether it is muted.

    Args:
        connection: for this.
        key: of the microphone to be heard, as the window has it; "" is the system's usual one.
        name: of it, for people; "" where it is not known.

    Raises:
        AppError: there is no library or no daemon, or it has ended.
    """
    gc.freeze()
    gc.disable()  # nothing here makes circles, and a collection would be heard
    _Microphone(connection, key, name).run()


def find_node(known: Sequence[Global], key: str, name: str) -> str:
    """The name of the node that the window means by a key; "" where there is none.

    Qt's keys are PipeWire's names of nodes or their numbers, by how it comes to them.
    """
    nodes = [
        one.properties
        for one in known
        if one.kind == "Node" and one.properties.get("media.class", "").startswith("Audio/Source")
    ]
    for known_as, wanted in (("node.name", key), ("object.serial", key), ("node.description", name)):
        for node in nodes:
            if wanted and node.get(known_as) == wanted:
                return node.get("node.name", "")
    return ""


class _Microphone:
    def __init__(self, connection: "Connection[Any, Any]", key: str, name: str) -> None:
        self._connection = connection
        self._key = key
        self._name = name
        self._feed = SoundFeed(_LOST_S)  # a busy system leaves cycles out
        self._feed.begin(RATE_HZ)
        self._sound = DelayedSound(self._feed)
        self._sound.muted = True  # until it is told, or a call would hear what is said while the slate is shown
        self._heard_s = self._asked_s = 0.0
        self._there = self._listened = False
        self._told_s = -1.0
        self._trouble = ""
        self._pipewire = PipeWire(self._lose)
        if tuple(int(part) for part in self._pipewire.library_version.split(".")[:3]) < _OLDEST:
            oldest = ".".join(str(part) for part in _OLDEST)
            raise AppError(
                phrase(
                    "got PipeWire {version}, expected {oldest} or newer; update it",
                    version=self._pipewire.library_version,
                    oldest=oldest,
                )
            )
        self._usual = {
            "media.type": "Audio",
            "node.latency": f"{_QUANTUM}/{RATE_HZ}",
            "node.link-group": _LINK_GROUP,
        }
        node = self._find()
        if key and not node:
            raise AppError(phrase("the microphone is not there: plug it in, or choose another one"))
        self._ear_lost = False
        self._looked_s = 0.0
        self._ear = self._make_ear(node)
        self._mouth = Stream(
            self._pipewire,
            self._usual
            | {
                "media.class": "Audio/Source",
                "node.name": _NODE_NAME,
                "node.nick": MICROPHONE_NAME,
                "node.description": MICROPHONE_NAME,
                "node.virtual": "true",
                # There is nothing to suspend, and WirePlumber 0.4 would try to 5 s later, even if this is gone by then.
                "session.suspend-timeout-seconds": "0",
            },
            on_state=self._hear_mouth,
            on_param=lambda _param, _address: None,
            on_process=lambda: self._mouth.give_sound(self._give),
        )

    def run(self) -> None:
        self._connect_ear()  # first, and closed, for the mouth may be listened to at once
        self._mouth.connect(OUTPUT, MAP_BUFFERS | IN_DATA_THREAD, [sound_format(RATE_HZ)])
        while True:
            if self._ear_lost and time.monotonic() - self._looked_s > _AGAIN_S:
                self._renew_ear()
            if told := self._connection.poll(_LOOK_S):
                self._sound.delay_s, self._sound.muted = self._connection.recv()
            with self._pipewire:
                if told:
                    self._connection.send({"taken": self._sound.delay_s})
                self._tell()

    def _find(self) -> str:
        """The name of the node that is to be heard; "" where it is not there, or is the usual one."""
        return find_node(self._pipewire.globals(), self._key, self._name) if self._key else ""

    def _make_ear(self, node: str) -> Stream:
        target = {}
        if node:
            # The second one is for 0.3.64 and older. The last one: nobody who unplugs a microphone expects that a
            # call hears another one.
            target = {"target.object": node, "node.target": node, "node.dont-reconnect": "true"}
        return Stream(
            self._pipewire,
            self._usual
            | target
            | {
                "media.category": "Capture",
                "media.role": "Communication",
                "node.name": f"{_NODE_NAME}-input",
                "node.description": "mcnet-avatar hears",
            },
            on_state=self._hear_ear,
            on_param=lambda _param, _address: None,
            on_process=self._take,
        )

    def _connect_ear(self) -> None:
        self._ear.connect(INPUT, AUTOCONNECT | INACTIVE | MAP_BUFFERS | IN_DATA_THREAD, [sound_format(RATE_HZ)])

    def _renew_ear(self) -> None:
        """Hear the microphone again, once it is there again; a call keeps this one meanwhile, and hears silence."""
        self._looked_s = time.monotonic()
        if not (node := self._find()):
            return
        self._ear.close()
        self._ear_lost = False
        self._ear = self._make_ear(node)
        self._connect_ear()
        with self._pipewire:
            self._ear.set_active(self._listened)

    def _tell(self) -> None:
        """Say what has changed; with the lock."""
        given_s = self._sound.given_s
        if self._listened and abs(given_s - self._told_s) > _TOLD_S:
            self._told_s = given_s
            self._connection.send({"delay_s": given_s})
        since_s = time.monotonic() - max(self._heard_s, self._asked_s)
        trouble = ""
        if self._listened and since_s > _SILENT_S:
            trouble = phrase("the microphone gives no sound: plug it in again, or choose another one")
        if trouble != self._trouble:
            self._trouble = trouble
            self._connection.send({"trouble": trouble})

    def _take(self) -> None:
        """From the data thread."""
        wave = np.frombuffer(self._ear.take_sound(), np.float32)
        if not wave.size:
            return
        self._heard_s = self._ear.cycle_s()
        self._feed.put(wave, self._heard_s)

    def _give(self, count: int) -> bytes:
        """From the data thread."""
        return self._sound.take(count, self._mouth.cycle_s()).astype(np.float32).tobytes()

    def _lose(self, message: str) -> None:
        end_with(self._connection, message)

    def _hear_ear(self, state: int, error: str) -> None:
        if state not in (ERROR, UNCONNECTED):
            return
        if self._key:  # it was unplugged: the session manager has taken the node away
            self._ear_lost = True
        elif state == ERROR:
            self._lose(phrase("PipeWire has refused to hear the microphone: {error}", error=error))

    def _hear_mouth(self, state: int, error: str) -> None:
        if state == ERROR:
            self._lose(phrase("PipeWire has refused the microphone: {error}", error=error))
        if state == PAUSED and not self._there:
            self._there = True
            self._connection.send({"node": self._mouth.node_id})
        listened = state == STREAMING
        if listened != self._listened:
            self._listened = listened
            self._asked_s = time.monotonic()
            self._connection.send({"listened": listened})
        if not self._ear_lost:
            self._ear.set_active(listened)  # a microphone that nobody hears is closed
