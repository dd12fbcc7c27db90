"""The little of libpipewire that the app needs, through ctypes: parameters, a connection, a stream.

Every system with PipeWire has the library, and its calls have stayed the same since 0.3, while GStreamer's element for
it is a package of its own that many systems lack. Native code can crash, so only processes of their own load it, by
making a `PipeWire`; see `app.pipeline.output.pipewire_process`. Types and numbers are those of PipeWire's headers
(`pipewire/stream.h`, `pipewire/core.h`, `spa/pod/pod.h`, `spa/param`).
"""

import ctypes
import errno
import functools
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from app.errors import AppError
from mcnet.phrases import phrase


class LibraryError(AppError):
    """PipeWire's library is not there, or cannot be used as it is installed."""


LIBRARY = "libpipewire-0.3.so.0"
LOST = phrase("PipeWire has ended")

ANY_TARGET = 0xFFFFFFFF
INPUT, OUTPUT = 0, 1
AUTOCONNECT, INACTIVE, MAP_BUFFERS, DRIVER, IN_DATA_THREAD = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
ERROR, UNCONNECTED, PAUSED, STREAMING = -1, 0, 2, 3

FORMAT_PARAM, _ENUM_FORMAT_PARAM, _BUFFERS_PARAM, _META_PARAM = 4, 3, 5, 6
_FORMAT, _PARAM_BUFFERS, _PARAM_META = 0x40003, 0x40004, 0x40005
_MEDIA_TYPE, _MEDIA_SUBTYPE = 1, 2
_AUDIO, _VIDEO, _RAW = 1, 2, 1
VIDEO_FORMAT = 0x20001
_VIDEO_SIZE, _VIDEO_RATE, _VIDEO_RANGE, _VIDEO_MATRIX = 0x20003, 0x20004, 0x2000C, 0x2000D
I420, YUY2, RGB = 2, 4, 15
_AUDIO_FORMAT, _AUDIO_RATE, _AUDIO_CHANNELS, _AUDIO_POSITION = 0x10001, 0x10003, 0x10004, 0x10005
_FLOAT32, _MONO = 0x11B, 2
_LIMITED_RANGE, _BT601 = 2, 4
_MEMORY_POINTER, _MEMORY_FILE = 1 << 1, 1 << 2
_HEADER = 1

_ID, _INT, _RECTANGLE, _FRACTION, _ARRAY, _OBJECT, _CHOICE = 3, 4, 10, 11, 13, 15, 19
_RANGE, _FLAGS = 1, 4
_ANSWER_S = 5
_LATE_S = 0.05
_CORE_ID = 0
_PIPE_BROKEN, _NOT_THERE = -errno.EPIPE, -errno.ENOENT


# Parameters: SPA's "plain old data".


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + bytes(-len(body) % 8)


def _id(value: int) -> bytes:
    return _pod(_ID, struct.pack("<I", value))


def _int(value: int) -> bytes:
    return _pod(_INT, struct.pack("<i", value))


def _choice(kind: int, *values: int) -> bytes:
    """Of integers: the usual one, then the limits of a range, or flags."""
    return _pod(_CHOICE, struct.pack(f"<IIII{len(values)}i", kind, 0, 4, _INT, *values))


def _object(kind: int, param: int, properties: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(struct.pack("<II", key, 0) + value for key, value in properties)
    return _pod(_OBJECT, struct.pack("<II", kind, param) + body)


def video_format(pixel_format: int, size_px: tuple[int, int], rate: tuple[int, int]) -> bytes:
    """One format that a camera offers.

    Args:
        pixel_format: `I420`, `YUY2` or `RGB`.
        size_px: width and height.
        rate: pictures per second, as a fraction.
    """
    properties = [
        (_MEDIA_TYPE, _id(_VIDEO)),
        (_MEDIA_SUBTYPE, _id(_RAW)),
        (VIDEO_FORMAT, _id(pixel_format)),
        (_VIDEO_SIZE, _pod(_RECTANGLE, struct.pack("<II", *size_px))),
        (_VIDEO_RATE, _pod(_FRACTION, struct.pack("<II", *rate))),
    ]
    if pixel_format != RGB:  # or a reader would take a large picture for BT.709's
        properties += [(_VIDEO_RANGE, _id(_LIMITED_RANGE)), (_VIDEO_MATRIX, _id(_BT601))]
    return _object(_FORMAT, _ENUM_FORMAT_PARAM, properties)


def sound_format(rate_hz: int) -> bytes:
    """Sound of one channel, as float32 in [-1, 1]; PipeWire converts whatever others have."""
    properties = [
        (_MEDIA_TYPE, _id(_AUDIO)),
        (_MEDIA_SUBTYPE, _id(_RAW)),
        (_AUDIO_FORMAT, _id(_FLOAT32)),
        (_AUDIO_RATE, _int(rate_hz)),
        (_AUDIO_CHANNELS, _int(1)),
        (_AUDIO_POSITION, _pod(_ARRAY, struct.pack("<III", 4, _ID, _MONO))),
    ]
    return _object(_FORMAT, _ENUM_FORMAT_PARAM, properties)


def video_buffers(stride_bytes: int, size_bytes: int) -> list[bytes]:
    """What the memory of pictures must be like, and that each has its time with it."""
    buffers = _object(
        _PARAM_BUFFERS,
        _BUFFERS_PARAM,
        [
            (1, _choice(_RANGE, 4, 2, 8)),  # how many
            (2, _int(1)),  # blocks in each
            (3, _int(size_bytes)),
            (4, _int(stride_bytes)),
            (6, _choice(_FLAGS, _MEMORY_POINTER | _MEMORY_FILE)),
        ],
    )
    header = _object(_PARAM_META, _META_PARAM, [(1, _id(_HEADER)), (2, _int(ctypes.sizeof(_MetaHeader)))])
    return [buffers, header]


def read_id(param: int, key: int) -> int | None:
    """A property of an object that holds an identifier; None where there is none.

    Args:
        param: the object's address.
        key: of the property.
    """
    size, kind, _, _ = struct.unpack("<IIII", ctypes.string_at(param, 16))
    if kind != _OBJECT:
        return None
    body = ctypes.string_at(param + 16, size - 8)
    at = 0
    while at + 16 <= len(body):
        found, _, value_bytes, value_kind = struct.unpack_from("<IIII", body, at)
        if found == key:
            first = at + 16 + (16 if value_kind == _CHOICE else 0)  # one that is settled may still be a choice
            return int.from_bytes(body[first : first + 4], "little")
        at += 16 + value_bytes + -value_bytes % 8
    return None


# Structures, as far as they are used.


class _Hook(ctypes.Structure):
    _fields_ = (("words", ctypes.c_void_p * 6),)


class _Interface(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("methods", ctypes.POINTER(ctypes.c_void_p)),
        ("object", ctypes.c_void_p),
    )


class _DictItem(ctypes.Structure):
    _fields_ = (("key", ctypes.c_char_p), ("value", ctypes.c_char_p))


class _Dict(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint32), ("count", ctypes.c_uint32), ("items", ctypes.POINTER(_DictItem)))


class _CoreInfo(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_uint32),
        ("cookie", ctypes.c_uint32),
        ("user_name", ctypes.c_char_p),
        ("host_name", ctypes.c_char_p),
        ("version", ctypes.c_char_p),
    )


class _Chunk(ctypes.Structure):
    _fields_ = (
        ("offset", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("stride", ctypes.c_int32),
        ("flags", ctypes.c_int32),
    )


class _Data(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("fd", ctypes.c_int64),
        ("map_offset", ctypes.c_uint32),
        ("max_size", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
        ("chunk", ctypes.POINTER(_Chunk)),
    )


class _Meta(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("data", ctypes.c_void_p))


class _MetaHeader(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("pts", ctypes.c_int64),
        ("dts_offset", ctypes.c_int64),
        ("seq", ctypes.c_uint64),
    )


class _SpaBuffer(ctypes.Structure):
    _fields_ = (
        ("meta_count", ctypes.c_uint32),
        ("data_count", ctypes.c_uint32),
        ("metas", ctypes.POINTER(_Meta)),
        ("datas", ctypes.POINTER(_Data)),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.POINTER(_SpaBuffer)),
        ("user_data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("requested", ctypes.c_uint64),
    )


class _Time(ctypes.Structure):
    _fields_ = (
        ("now", ctypes.c_int64),
        ("rate", ctypes.c_uint32 * 2),
        ("ticks", ctypes.c_uint64),
        ("delay", ctypes.c_int64),
        ("queued", ctypes.c_uint64),
        ("buffered", ctypes.c_uint64),
        ("queued_buffers", ctypes.c_uint32),
        ("available_buffers", ctypes.c_uint32),
    )


_STREAM_EVENTS = (
    *("destroy", "state_changed", "control_info", "io_changed", "param_changed", "add_buffer", "remove_buffer"),
    *("process", "drained", "command", "trigger_done"),
)
_CORE_EVENTS = ("info", "done", "ping", "error", "remove_id", "bound_id", "add_mem", "remove_mem")
_REGISTRY_EVENTS = ("global", "global_remove")

_ON_STATE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p)
_ON_PARAM = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_ON_BUFFER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_ON_PROCESS = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_ON_INFO = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_CoreInfo))
_ON_DONE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)
_ON_ERROR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_int, ctypes.c_char_p)
_ON_GLOBAL = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32, ctypes.POINTER(_Dict)),
)
_ADD_LISTENER = ctypes.CFUNCTYPE(ctypes.c_int, *(ctypes.c_void_p,) * 4)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)
_GET_REGISTRY = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t)
# Which of an object's methods: the table begins with its version.
_ADD_LISTENER_AT, _SYNC_AT, _GET_REGISTRY_AT = 1, 3, 6


def _method(address: int, at: int, kind: Callable[[int], Any]) -> Callable[..., Any]:
    """A method of one of PipeWire's objects, bound to it."""
    interface = _Interface.from_address(address)
    pointer = interface.methods[at]
    assert pointer is not None
    return functools.partial(kind(pointer), interface.object)


class _Listener:
    """A table of callbacks, kept for as long as PipeWire may call them."""

    def __init__(self, version: int, names: Sequence[str], callbacks: Mapping[str, Any]) -> None:
        self._callbacks = callbacks
        self.hook = _Hook()
        self.table = (ctypes.c_void_p * (1 + len(names)))()
        self.table[0] = version
        for name, callback in callbacks.items():
            self.table[1 + names.index(name)] = ctypes.cast(callback, ctypes.c_void_p).value


@functools.cache
def _library() -> ctypes.CDLL:
    """PipeWire's library.

    Raises:
        LibraryError: it is not there, or too old.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise LibraryError(
            phrase("PipeWire's library cannot be loaded ({error}); install PipeWire", error=error)
        ) from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32
    calls: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "pw_init": (None, (pointer, pointer)),
        "pw_get_library_version": (text, ()),
        "pw_properties_new_dict": (pointer, (ctypes.POINTER(_Dict),)),
        "pw_thread_loop_new": (pointer, (text, pointer)),
        "pw_thread_loop_get_loop": (pointer, (pointer,)),
        "pw_thread_loop_start": (ctypes.c_int, (pointer,)),
        "pw_thread_loop_stop": (None, (pointer,)),
        "pw_thread_loop_lock": (None, (pointer,)),
        "pw_thread_loop_unlock": (None, (pointer,)),
        "pw_thread_loop_signal": (None, (pointer, ctypes.c_bool)),
        "pw_thread_loop_timed_wait": (ctypes.c_int, (pointer, ctypes.c_int)),
        "pw_thread_loop_destroy": (None, (pointer,)),
        "pw_context_new": (pointer, (pointer, pointer, ctypes.c_size_t)),
        "pw_context_connect": (pointer, (pointer, pointer, ctypes.c_size_t)),
        "pw_context_destroy": (None, (pointer,)),
        "pw_core_disconnect": (ctypes.c_int, (pointer,)),
        "pw_proxy_destroy": (None, (pointer,)),
        "pw_stream_new": (pointer, (pointer, text, pointer)),
        "pw_stream_add_listener": (None, (pointer, pointer, pointer, pointer)),
        "pw_stream_connect": (ctypes.c_int, (pointer, ctypes.c_int, number, ctypes.c_int, pointer, number)),
        "pw_stream_update_params": (ctypes.c_int, (pointer, pointer, number)),
        "pw_stream_get_node_id": (number, (pointer,)),
        "pw_stream_dequeue_buffer": (ctypes.POINTER(_Buffer), (pointer,)),
        "pw_stream_queue_buffer": (ctypes.c_int, (pointer, ctypes.POINTER(_Buffer))),
        "pw_stream_get_time_n": (ctypes.c_int, (pointer, pointer, ctypes.c_size_t)),
        "pw_stream_set_active": (ctypes.c_int, (pointer, ctypes.c_bool)),
        "pw_stream_trigger_process": (ctypes.c_int, (pointer,)),
        "pw_stream_destroy": (None, (pointer,)),
    }
    for name, (result, arguments) in calls.items():
        try:
            call = getattr(library, name)
        except AttributeError as error:
            raise LibraryError(
                phrase("PipeWire's library is too old: it lacks {name}; update PipeWire", name=name)
            ) from error
        call.restype, call.argtypes = result, arguments
    return library


class Global(NamedTuple):
    """Something that PipeWire's daemon has.

    Attributes:
        kind: such as `Node` or `Client`.
        properties: as far as everybody is told.
    """

    kind: str
    properties: dict[str, str]


class PipeWire:
    """A connection to the daemon. Callbacks come on a thread of its own, and hold its lock; all others take it first.

    Args:
        on_lost: called once when the connection is.

    Attributes:
        version: of the daemon.
        library_version: of the library.

    Raises:
        LibraryError: there is no library, or not all of it.
        AppError: there is no daemon, or it does not answer.
    """

    def __init__(self, on_lost: Callable[[str], None] = lambda _: None) -> None:
        self.library = _library()
        self.library.pw_init(None, None)
        self.library_version = (self.library.pw_get_library_version() or b"").decode(errors="replace")
        self.version = ""
        self._on_lost = on_lost
        self._lost = ""
        self._done = -1
        self._loop = self.library.pw_thread_loop_new(b"mcnet-avatar", None)
        self._context = self.library.pw_context_new(self.library.pw_thread_loop_get_loop(self._loop), None, 0)
        if not self._context:
            raise LibraryError(
                phrase("PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire")
            )
        if self.library.pw_thread_loop_start(self._loop) < 0:
            raise AppError(phrase("PipeWire's library cannot be used: its thread does not start"))
        self._listener = _Listener(
            0,
            _CORE_EVENTS,
            {
                "info": _ON_INFO(self._hear_info),
                "done": _ON_DONE(self._hear_done),
                "error": _ON_ERROR(self._hear_error),
            },
        )
        with self:
            self.core: int = self.library.pw_context_connect(self._context, None, 0)
            if not self.core:
                raise AppError(phrase("PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire"))
            self._listen(self.core, self._listener)
            self.sync()

    def __enter__(self) -> Self:
        """Take the lock."""
        self.library.pw_thread_loop_lock(self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.library.pw_thread_loop_unlock(self._loop)

    def sync(self) -> None:
        """Wait until the daemon has done what it was asked so far. Needs the lock, and lets go of it meanwhile.

        Raises:
            AppError: it does not answer.
        """
        number = _method(self.core, _SYNC_AT, _SYNC)(_CORE_ID, 0)
        self.wait(lambda: self._done >= number)

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for what a callback brings about, which ends with `signal`. Needs the lock.

        Raises:
            AppError: it did not come within 5 s, or the daemon has ended.
        """
        deadline_s = time.monotonic() + _ANSWER_S
        while not until():
            if self._lost:
                raise AppError(self._lost)
            if time.monotonic() > deadline_s:
                raise AppError(phrase("PipeWire did not answer within {seconds} s", seconds=_ANSWER_S))
            self.library.pw_thread_loop_timed_wait(self._loop, 1)

    def signal(self) -> None:
        """Wake up whoever waits; from a callback."""
        self.library.pw_thread_loop_signal(self._loop, False)

    def globals(self) -> list[Global]:
        """Everything that the daemon has.

        Raises:
            AppError: it does not answer.
        """
        found: list[Global] = []

        def hear(_data: Any, _id: int, _permissions: int, kind: bytes, _version: int, properties: Any) -> None:
            found.append(Global(kind.decode().rpartition(":")[2], _as_dict(properties)))

        listener = _Listener(0, _REGISTRY_EVENTS, {"global": _ON_GLOBAL(hear)})
        with self:
            registry: int = _method(self.core, _GET_REGISTRY_AT, _GET_REGISTRY)(3, 0)
            self._listen(registry, listener)
            self.sync()
            self.library.pw_proxy_destroy(registry)
        return found

    def close(self) -> None:
        """End the connection; what was made by it goes too."""
        self.library.pw_thread_loop_stop(self._loop)
        self.library.pw_core_disconnect(self.core)
        self.library.pw_context_destroy(self._context)
        self.library.pw_thread_loop_destroy(self._loop)

    def _listen(self, address: int, listener: _Listener) -> None:
        add = _method(address, _ADD_LISTENER_AT, _ADD_LISTENER)
        add(ctypes.addressof(listener.hook), ctypes.addressof(listener.table), None)

    def _hear_info(self, _data: Any, info: Any) -> None:
        self.version = (info.contents.version or b"").decode(errors="replace")

    def _hear_done(self, _data: Any, _id: int, number: int) -> None:
        self._done = number
        self.signal()

    def _hear_error(self, _data: Any, thing: int, _number: int, result: int, message: bytes | None) -> None:
        if thing != _CORE_ID or self._lost:
            return  # of a stream: it tells so itself
        if result == _NOT_THERE:
            return  # of what was taken away while it was asked for something
        said = (message or b"").decode(errors="replace")
        self._lost = LOST if result == _PIPE_BROKEN else phrase("PipeWire has failed: {said}", said=said)
        self.signal()
        self._on_lost(self._lost)


def _as_dict(properties: Any) -> dict[str, str]:
    if not properties:
        return {}
    items = properties.contents.items
    pairs = ((items[index].key, items[index].value) for index in range(properties.contents.count))
    return {key.decode(errors="replace"): (value or b"").decode(errors="replace") for key, value in pairs}


class Stream:
    """A node with one port that gives or takes buffers. Its callbacks come with the connection's lock held.

    Args:
        pipewire: the connection.
        properties: of the node; `node.name` among them.
        on_state: told the state and, of an error, what it is.
        on_param: told which parameter has changed, and its address, or 0.
        on_process: told that it is time to give or take a buffer.
    """

    def __init__(
        self,
        pipewire: PipeWire,
        properties: Mapping[str, str],
        *,
        on_state: Callable[[int, str], None],
        on_param: Callable[[int, int], None],
        on_process: Callable[[], None],
    ) -> None:
        self._pipewire = pipewire
        self._library = pipewire.library
        self._buffers: set[int] = set()
        self._listener = _Listener(
            2,
            _STREAM_EVENTS,
            {
                "state_changed": _ON_STATE(
                    lambda _data, _old, state, error: on_state(state, (error or b"").decode(errors="replace"))
                ),
                "param_changed": _ON_PARAM(lambda _data, param, address: on_param(param, address or 0)),
                "add_buffer": _ON_BUFFER(lambda _data, address: self._buffers.add(address)),
                "remove_buffer": _ON_BUFFER(lambda _data, address: self._buffers.discard(address)),
                "process": _ON_PROCESS(lambda _data: on_process()),
            },
        )
        items = (_DictItem * len(properties))(
            *(_DictItem(key.encode(), value.encode()) for key, value in properties.items())
        )
        with pipewire:
            made = self._library.pw_properties_new_dict(ctypes.byref(_Dict(0, len(properties), items)))
            name = properties["node.name"].encode()
            self._stream: int = self._library.pw_stream_new(pipewire.core, name, made)
            hook, table = ctypes.addressof(self._listener.hook), ctypes.addressof(self._listener.table)
            self._library.pw_stream_add_listener(self._stream, hook, table, None)

    def connect(self, direction: int, flags: int, formats: Sequence[bytes]) -> None:
        """Become a node.

        Raises:
            AppError: PipeWire refuses.
        """
        with self._pipewire:
            kept = _params(formats)
            result = self._library.pw_stream_connect(
                self._stream, direction, ANY_TARGET, flags, kept.pointers, len(formats)
            )
        if result < 0:
            raise AppError(phrase("PipeWire makes no node (error {number})", number=-result))

    def close(self) -> None:
        """Take the node away; nothing is called back any more."""
        with self._pipewire:
            self._library.pw_stream_destroy(self._stream)

    @property
    def node_id(self) -> int:
        """The daemon's number for the node."""
        return int(self._library.pw_stream_get_node_id(self._stream))

    def set_params(self, params: Sequence[bytes]) -> None:
        """Answer a change of format. From a callback."""
        kept = _params(params)  # until PipeWire has copied them
        self._library.pw_stream_update_params(self._stream, kept.pointers, len(params))

    def trigger(self) -> None:
        """Begin a cycle, as the one who sets the pace."""
        self._library.pw_stream_trigger_process(self._stream)

    def overwrite(self, picture: int, size_bytes: int) -> None:
        """Put a picture in the place of all that are in PipeWire's hands; with the lock.

        Buffers outlive their reader: the next one would see what was left in them, however old.

        Args:
            picture: its address.
            size_bytes: of it.
        """
        for address in self._buffers:
            data = _Buffer.from_address(address).buffer.contents.datas[0]
            if data.data and data.max_size >= size_bytes:
                ctypes.memmove(data.data, picture, size_bytes)

    def give_picture(self, picture: int, size_bytes: int, stride_bytes: int, time_ns: int, number: int) -> bool:
        """Pass a picture on. From the callback.

        Args:
            picture: its address.
            size_bytes: of it.
            stride_bytes: of a row.
            time_ns: of the monotonic clock.
            number: of the picture.

        Returns:
            Whether there was room for it.
        """
        buffer = self._library.pw_stream_dequeue_buffer(self._stream)
        if not buffer:
            return False
        spa_buffer = buffer.contents.buffer.contents
        data = spa_buffer.datas[0]
        fits = bool(data.data) and data.max_size >= size_bytes
        if fits:
            ctypes.memmove(data.data, picture, size_bytes)
        chunk = data.chunk.contents
        chunk.offset, chunk.size, chunk.stride, chunk.flags = 0, size_bytes if fits else 0, stride_bytes, 0
        for index in range(spa_buffer.meta_count):
            meta = spa_buffer.metas[index]
            if meta.type == _HEADER and meta.data and meta.size >= ctypes.sizeof(_MetaHeader):
                header = _MetaHeader.from_address(meta.data)
                header.flags, header.offset, header.pts, header.dts_offset, header.seq = 0, 0, time_ns, 0, number
        self._library.pw_stream_queue_buffer(self._stream, buffer)
        return fits

    def set_active(self, active: bool) -> None:
        """Let it run, or rest; with the lock."""
        self._library.pw_stream_set_active(self._stream, active)

    def cycle_s(self) -> float:
        """When the cycle under way began, in seconds of the monotonic clock; from the callback of a stream of sound.

        Callbacks come late as often as the system is busy; this does not.
        """
        clock = _Time()
        self._library.pw_stream_get_time_n(self._stream, ctypes.addressof(clock), ctypes.sizeof(clock))
        now_s = time.monotonic()
        cycle_s = clock.now / 1e9
        return cycle_s if now_s - _LATE_S < cycle_s <= now_s else now_s  # a stream that has just begun has an older one

    def take_sound(self) -> bytes:
        """What has come, as float32; from the callback."""
        came = b""
        while buffer := self._library.pw_stream_dequeue_buffer(self._stream):
            data = buffer.contents.buffer.contents.datas[0]
            chunk = data.chunk.contents
            if data.data and chunk.offset + chunk.size <= data.max_size:
                came += ctypes.string_at(data.data + chunk.offset, chunk.size)
            self._library.pw_stream_queue_buffer(self._stream, buffer)
        return came

    def give_sound(self, make: Callable[[int], bytes]) -> None:
        """Pass sound on; from the callback.

        Args:
            make: so many samples of float32.
        """
        buffer = self._library.pw_stream_dequeue_buffer(self._stream)
        if not buffer:
            return
        data = buffer.contents.buffer.contents.datas[0]
        room = data.max_size // 4 if data.data else 0
        sound = make(min(room, buffer.contents.requested or room))
        ctypes.memmove(data.data, sound, len(sound))
        chunk = data.chunk.contents
        chunk.offset, chunk.size, chunk.stride, chunk.flags = 0, len(sound), 4, 0
        self._library.pw_stream_queue_buffer(self._stream, buffer)


class _Params(NamedTuple):
    """Parameters in memory; `pointers` is what PipeWire takes, and copies from."""

    memory: list[Any]
    pointers: Any


def _params(pods: Sequence[bytes]) -> _Params:
    memory = [ctypes.create_string_buffer(pod, len(pod)) for pod in pods]
    return _Params(memory, (ctypes.c_void_p * len(pods))(*(ctypes.addressof(one) for one in memory)))
