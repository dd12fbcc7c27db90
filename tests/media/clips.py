"""Videos of FFmpeg's test pattern that flash when they beep, in many containers, and what measures them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter

SIZE_PX = (96, 64)
BEEP_S = 0.08


@dataclass(frozen=True)
class Tone:
    """A sound track. Times count from the first picture; each tuple is a stretch of it, and they follow each other.

    Attributes:
        codec: FFmpeg's encoder.
        rate_hz, layout: of the samples.
        stretches: (from, to) in seconds; between them nothing is stored.
        language: as the container tells it.
        volume: 0 is silence.
        default: whether the container is to prefer it; None: as the format does.
    """

    codec: str = "aac"
    rate_hz: int = 44_100
    layout: str = "stereo"
    stretches: tuple[tuple[float, float], ...] = ((0.0, 1.2),)
    language: str = ""
    volume: float = 1.0
    default: bool | None = None


@dataclass(frozen=True)
class Clip:
    """A video to be made.

    Attributes:
        suffix: of its name: which container.
        codec: FFmpeg's encoder of the pictures.
        fps: pictures per second.
        seconds: how long it is.
        flashes_s: when it flashes and beeps.
        tones: its sound tracks.
        starts_s: the time stamp of the first picture.
        times_s: of the pictures, where they are uneven.
        options: of the encoder of the pictures.
        pixels: their format.
        muxer: its name, where the suffix does not tell.
    """

    suffix: str = ".mp4"
    codec: str = "libx264"
    fps: Fraction = Fraction(25)
    seconds: float = 1.2
    flashes_s: tuple[float, ...] = (0.4, 0.8)
    tones: tuple[Tone, ...] = (Tone(),)
    starts_s: float = 0.0
    times_s: tuple[float, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    muxer: str | None = None

    @property
    def shown_s(self) -> list[float]:
        """When each picture is shown, from the first one."""
        return list(self.times_s) or [index / float(self.fps) for index in range(round(self.seconds * self.fps))]

    def make(self, path: Path) -> Path:
        """Write it."""
        with av.open(path, "w", format=self.muxer) as target:
            pictures = target.add_stream(self.codec, rate=self.fps, options=_fast(self.codec) | self.options)
            assert isinstance(pictures, VideoStream)
            pictures.width, pictures.height = SIZE_PX
            pictures.pix_fmt = self.pixels
            if self.times_s:
                pictures.codec_context.time_base = Fraction(1, 1000)
            sounds = [_add_sound(target, tone) for tone in self.tones]
            reformatter = VideoReformatter()  # a frame's own has threads of its own
            for index, (frame, time_s) in enumerate(zip(test_pattern(self.flashed()), self.shown_s, strict=False)):
                if self.times_s:
                    frame.pts, frame.time_base = round((time_s + self.starts_s) * 1000), Fraction(1, 1000)
                else:
                    frame.pts, frame.time_base = index + round(self.starts_s * self.fps), 1 / self.fps
                target.mux(pictures.encode(reformatter.reformat(frame, format=self.pixels)))
            target.mux(pictures.encode(None))
            for sound, tone in zip(sounds, self.tones, strict=True):
                for piece in self.pieces(tone):
                    target.mux(sound.encode(piece))
                target.mux(sound.encode(None))
        return path

    @property
    def seen_flashes_s(self) -> tuple[float, ...]:
        """When the flashes begin: with the first picture at or after their time."""
        return tuple(min(time for time in self.shown_s if time >= at - 1e-6) for at in self.flashes_s)

    def flashed(self) -> list[bool]:
        """Whether each picture is a flash."""
        return [any(at - 1e-6 <= time < at + BEEP_S for at in self.flashes_s) for time in self.shown_s]

    def pieces(self, tone: Tone) -> Iterator[AudioFrame]:
        """The samples of a track, in pieces of 1024."""
        for start_s, end_s in tone.stretches:
            first, last = round(start_s * tone.rate_hz), round(end_s * tone.rate_hz)
            for place in range(first, last, 1024):
                wave = tone.volume * beeps(self.flashes_s, tone.rate_hz, range(place, min(last, place + 1024)))
                channels = av.AudioLayout(tone.layout).nb_channels
                packed = np.repeat(wave, channels)[None]
                piece = AudioFrame.from_ndarray(packed, format="flt", layout=tone.layout)
                piece.sample_rate = tone.rate_hz
                piece.pts = place + round(self.starts_s * tone.rate_hz)
                piece.time_base = Fraction(1, tone.rate_hz)
                yield piece


def _fast(codec: str) -> dict[str, str]:
    return {
        "libx264": {"preset": "ultrafast", "bf": "2", "g": "12"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
        # More threads of it spin for each other, on a busy machine for minutes.
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        "libsvtav1": {"preset": "12"},
    }.get(codec, {})


def _add_sound(target: av.container.OutputContainer, tone: Tone) -> AudioStream:
    options = {"strict": "-2"} if tone.codec == "vorbis" else {}
    sound = target.add_stream(tone.codec, rate=tone.rate_hz, layout=tone.layout, options=options)
    assert isinstance(sound, AudioStream)
    if tone.language:
        sound.metadata["language"] = tone.language
    if tone.default is not None:
        sound.disposition = av.stream.Disposition.default if tone.default else av.stream.Disposition(0)
    return sound


def test_pattern(flashed: Iterable[bool]) -> Iterator[VideoFrame]:
    """FFmpeg's moving test picture, darkened, with a white bar in the middle third where it flashes."""
    graph = Graph()
    source = graph.add("testsrc2", f"size={SIZE_PX[0]}x{SIZE_PX[1]}:rate=25")
    out = graph.add("buffersink")
    source.link_to(out)
    graph.configure()
    reformatter = VideoReformatter()
    for flash in flashed:
        frame = out.pull()
        assert isinstance(frame, VideoFrame)
        rgb = reformatter.reformat(frame, format="rgb24").to_ndarray() // 3
        if flash:
            rgb[:, SIZE_PX[0] // 3 : 2 * SIZE_PX[0] // 3] = 255
        yield VideoFrame.from_ndarray(rgb, format="rgb24")


test_pattern.__test__ = False  # type: ignore[attr-defined]  # it only looks like one to pytest


def beeps(at_s: Iterable[float], rate_hz: int, samples: range) -> NDArray[np.float32]:
    """A tone of 1 kHz at times, of samples counted from the first picture."""
    time_s = np.arange(samples.start, samples.stop) / rate_hz
    sounding = np.any([(time_s >= at) & (time_s < at + BEEP_S) for at in at_s], axis=0)
    return np.asarray(0.5 * np.sin(2 * np.pi * 1000 * time_s) * sounding, np.float32)


class Measured(NamedTuple):
    """What a video shows and sounds; times from the first picture, in seconds.

    Attributes:
        frames: how many pictures.
        picture_s, sound_s: how long; 0 without sound.
        flashes_s, beeps_s: when they begin.
        codec: of the sound; empty without.
    """

    frames: int
    picture_s: float
    sound_s: float
    flashes_s: list[float]
    beeps_s: list[float]
    codec: str


def measure(path: Path) -> Measured:
    """Decode a written video and look at it by FFmpeg alone."""
    reformatter = VideoReformatter()
    with av.open(path) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        pictures = [
            (frame.time, reformatter.reformat(frame, format="gray").to_ndarray()) for frame in container.decode(video=0)
        ]
    origin_s = pictures[0][0]
    third = pictures[0][1].shape[1] // 3
    bright = [bool(gray[:, third : 2 * third].mean() > 150) for _, gray in pictures]
    flashes = [
        pictures[index][0] - origin_s for index in range(1, len(bright)) if bright[index] and not bright[index - 1]
    ]
    picture_s = pictures[-1][0] + 1 / float(rate) - origin_s
    loud: list[float] = []
    end_s, codec = 0.0, ""
    with av.open(path) as container:
        if container.streams.audio:
            codec = container.streams.audio[0].codec_context.codec.canonical_name
            for frame in container.decode(audio=0):
                wave = frame.to_ndarray()
                wave = wave if frame.format.is_planar else wave.reshape(-1, frame.layout.nb_channels).T
                level = np.abs(wave).max(axis=0) / (32768 if wave.dtype == np.int16 else 1)
                assert frame.time is not None
                start_s = frame.time - origin_s
                end_s = start_s + frame.samples / frame.sample_rate
                loud += (start_s + np.flatnonzero(level > 0.1) / frame.sample_rate).tolist()
    onsets = [time for before, time in zip([-math.inf, *loud], loud, strict=False) if time - before > 0.1]
    return Measured(len(pictures), picture_s, end_s, flashes, onsets, codec)


def carried(source: Path, target: Path) -> VideoWriter:
    """Write a driving video's pictures and sound into another file, as `mcnet animate` does."""
    video = open_driving(source)
    with VideoWriter(target, video.fps, video.frame_size_px, audio_from=source) as writer:
        for rgb in video:
            writer.write(rgb)
    return writer


def is_copied(source: Path, target: Path) -> bool:
    """Whether the sound of a written video is the packets of the driving video."""
    with av.open(source) as container:
        stored = [bytes(packet) for packet in container.demux(container.streams.audio) if packet.size]
    with av.open(target) as container:
        written = max((bytes(packet) for packet in container.demux(container.streams.audio[0])), key=len)  # not silence
    return any(packet.endswith(written) for packet in stored)  # a transport stream puts a header before each


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Give an MP4's picture track another display matrix: a, b, c, d of x' = a x + c y, y' = b x + d y."""
    unit = 0x10000
    zero = bytes(4)

    def packed(a: int, b: int, c: int, d: int) -> bytes:
        signed = [(value * unit).to_bytes(4, "big", signed=True) for value in (a, b, c, d)]
        return signed[0] + signed[1] + zero + signed[2] + signed[3] + zero * 3 + (0x40000000).to_bytes(4, "big")

    content = path.read_bytes()
    track = content.index(packed(1, 0, 0, 1), content.index(b"tkhd"))
    path.write_bytes(content[:track] + packed(*matrix) + content[track + 36 :])
    return path


def joined(path: Path, parts: Iterable[Path]) -> Path:
    """One file of several, as recorders and `cat` join transport streams."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path
