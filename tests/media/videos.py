"""Small videos made on the spot, with pictures whose content tells their time."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

GRID = Path(__file__).parents[2] / "assets" / "driving" / "grid_bbaf2n.mpg"


def counted(count: int, frame_size_px: tuple[int, int] = (96, 64)) -> list[NDArray[np.uint8]]:
    """Frames of one colour each that tells their number: ones in red, tens in green."""
    frames = np.empty((count, frame_size_px[1], frame_size_px[0], 3), np.uint8)
    for index in range(count):
        frames[index] = (20 + 20 * (index % 10), 20 + 20 * (index // 10), 100)
    return list(frames)


def number_of(rgb: NDArray[np.uint8]) -> int:
    """Which frame of `counted` a decoded one was."""
    ones, tens = ((float(rgb[..., channel].mean()) - 20) / 20 for channel in (0, 1))
    return round(ones) + 10 * round(tens)


def make_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    *,
    fps: int = 25,
    times_ms: Iterable[int] | None = None,
    sound_s: float = 0.0,
    sound_from_s: float = 0.0,
    sound_codec: str = "aac",
    rotation: int = 0,
) -> Path:
    """H.264, with a 440 Hz tone when `sound_s` is given."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "8", "preset": "ultrafast", "bf": "0"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream(sound_codec, rate=44_100, layout="mono") if sound_s else None
        times = list(times_ms or (round(1000 * index / fps) for index in range(len(frames))))
        for rgb, time_ms in zip(frames, times, strict=True):
            frame = VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            assert isinstance(sound, AudioStream)
            total = round(sound_s * 44_100)
            wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(total) / 44_100)).astype(np.float32)
            for start in range(0, total, 1024):
                part = AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                part.sample_rate = 44_100
                part.pts, part.time_base = start + round(sound_from_s * 44_100), Fraction(1, 44_100)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def make_sound_only(path: Path) -> Path:
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        assert isinstance(sound, AudioStream)
        part = AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        part.sample_rate = 44_100
        container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path


def sound_of(path: Path) -> tuple[str, NDArray[np.float32], int]:
    """The codec, what is to be heard from the first picture on (the first channel), and samples a second."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        picture = container.streams.video[0]
        origin_s = float((picture.start_time or 0) * (picture.time_base or 0))
        parts: list[NDArray[np.float32]] = []
        length = 0
        for frame in container.decode(stream):
            start = round(((frame.time or 0.0) - origin_s) * rate)
            if start > length:
                parts.append(np.zeros(start - length, np.float32))
                length = start
            samples = frame.to_ndarray()
            wave = samples[0] if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)[:, 0]
            wave = (wave / (32768 if samples.dtype == np.int16 else 1)).astype(np.float32)
            parts.append(wave)
            length += wave.size
        return stream.codec_context.name, np.concatenate(parts), rate
