"""The sound of a driving video, carried into the video that is written."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import av
import av.error
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from mcnet.media.muxer import Muxer

logger = logging.getLogger(__name__)

# What every player of the format plays; FFmpeg would also put MP2 into MP4, which hardly any plays.
_COPIED = {".mp4": {"aac", "mp3"}, ".webm": {"opus", "vorbis"}}
_ENCODER = {".mp4": "aac", ".webm": "libopus"}
_OPUS_RATE_HZ = 48_000
_AAC_RATES_HZ = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})


_Part = TypeVar("_Part")


class Sound(Protocol):
    """A sound track on its way from one video into another. Times count from the driving video's first picture.

    Attributes:
        heard: whether any of it was written: it may begin after the video's end.
    """

    heard: bool

    def advance(self, until_s: float) -> None:
        """Write what is to be heard before a time."""

    def finish(self, end_s: float) -> None:
        """Write the rest up to the end of the video."""

    def close(self) -> None:
        """Let go of the driving video; harmless when called again."""


def carry_sound(source: Path, target: Muxer, suffix: str) -> Sound | None:
    """Add a sound track to a video that is to be written, before its first packet.

    Args:
        source: the driving video; it opens.
        target: the video to be written.
        suffix: `.mp4` or `.webm`.

    Returns:
        None when the driving video has no sound.
    """
    container = av.open(source)
    if not container.streams.audio:
        container.close()
        return None
    stream = container.streams.audio[0]
    if stream.codec_context.name in _COPIED[suffix] or stream.codec_context.codec.canonical_name in _COPIED[suffix]:
        return _CopiedSound(container, stream, target)
    return _EncodedSound(container, stream, target, _ENCODER[suffix])


def _origin_s(container: InputContainer) -> float:
    """When the first picture is shown."""
    if container.streams.video:
        stream = container.streams.video[0]
        if stream.start_time is not None and stream.time_base:
            return float(stream.start_time * stream.time_base)
    return 0.0


class _CopiedSound:
    """Packets as they are; its length is right to one packet, some 20 ms."""

    def __init__(self, container: InputContainer, stream: AudioStream, target: Muxer) -> None:
        self._container = container
        self._target = target
        self._stream = target.container.add_stream_from_template(stream)
        self._origin_s = _origin_s(container)
        self._packets = _unbroken(container.demux(stream), container.name)
        self._next: Packet[AudioStream] | None = None
        self.heard = False

    def advance(self, until_s: float) -> None:
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = None
            if packet.pts is None or not packet.size:
                continue
            start_s = float(packet.pts * packet.time_base) - self._origin_s
            if start_s + float((packet.duration or 0) * packet.time_base) / 2 > until_s:
                self._next = packet
                return
            if start_s < 0:
                continue
            shift = round(self._origin_s / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._stream
            self._target.mux(packet)
            self.heard = True

    def finish(self, end_s: float) -> None:
        self.advance(end_s)

    def close(self) -> None:
        self._container.close()


class _EncodedSound:
    """Decoded and encoded anew; its length is right to the sample."""

    def __init__(self, container: InputContainer, stream: AudioStream, target: Muxer, encoder: str) -> None:
        rate_hz = stream.codec_context.sample_rate
        if encoder == "libopus" or rate_hz not in _AAC_RATES_HZ:
            rate_hz = _OPUS_RATE_HZ
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self._container = container
        self._target = target
        self._rate_hz = rate_hz
        added = target.container.add_stream(encoder, rate=rate_hz, layout=layout)
        assert isinstance(added, AudioStream)
        self._stream = added
        self._resampler = AudioResampler(format=added.codec_context.format.name, layout=layout, rate=rate_hz)
        self._frames = _unbroken(container.decode(stream), container.name)
        self._origin_s = _origin_s(container)
        self._waiting = AudioFifo()
        self._started = self._ended = False
        self._skip = 0  # what is heard before the first picture
        self._written = 0
        self.heard = False

    def advance(self, until_s: float) -> None:
        limit = round(until_s * self._rate_hz)
        self._decode_up_to(limit)
        size = self._stream.codec_context.frame_size or 1024
        while self._waiting.samples >= size and self._written + size <= limit:
            self._encode(size)

    def finish(self, end_s: float) -> None:
        self.advance(end_s)
        rest = min(self._waiting.samples, round(end_s * self._rate_hz) - self._written)
        if rest > 0:
            self._encode(rest)
        self._target.mux(self._stream.encode(None))

    def close(self) -> None:
        self._container.close()

    def _decode_up_to(self, limit: int) -> None:
        while not self._ended and self._written + self._waiting.samples < limit:
            frame = next(self._frames, None)
            self._ended = frame is None
            start_s = 0.0 if frame is None or frame.time is None else frame.time - self._origin_s
            for part in self._resampler.resample(frame):
                part.pts = None
                if not self._started:
                    self._started = True
                    self._skip = max(0, -round(start_s * self._rate_hz))
                    if start_s > 0:
                        self._waiting.write(_silence(part, round(start_s * self._rate_hz)))
                self._waiting.write(part)
            dropped = min(self._skip, self._waiting.samples)
            if dropped:
                self._waiting.read(dropped)
                self._skip -= dropped

    def _encode(self, samples: int) -> None:
        frame = self._waiting.read(samples)
        assert isinstance(frame, AudioFrame)
        frame.pts = self._written
        self._written += samples
        self._target.mux(self._stream.encode(frame))
        self.heard = True


def _silence(like: AudioFrame, samples: int) -> AudioFrame:
    channels = like.layout.nb_channels
    shape = (channels, samples) if like.format.is_planar else (1, channels * samples)
    silence = AudioFrame.from_ndarray(
        np.zeros(shape, like.to_ndarray().dtype), format=like.format.name, layout=like.layout.name
    )
    silence.sample_rate = like.sample_rate
    return silence


def _unbroken(parts: Iterator[_Part], name: str) -> Iterator[_Part]:
    """End at damage instead of failing: a video with half its sound is better than none."""
    with contextlib.suppress(StopIteration):
        while True:
            try:
                yield next(parts)
            except av.error.FFmpegError as error:
                logger.warning("the sound of %s is damaged and ends early: %s", name, error.strerror or error)
                return
