import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.clips import Clip, Tone, carried, is_copied, measure
from tests.media.matrix import unknown_first_sound
from tests.media.videos import sound_of

OUTPUTS = ("out.mp4", "out.webm")


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_track_that_cannot_be_decoded_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    source = unknown_first_sound(Clip(tones=(Tone(volume=0.0), Tone())).make(tmp_path / "two.mp4"))
    with caplog.at_level(logging.WARNING):
        assert carried(source, tmp_path / name).has_sound
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: sound track 1 has a codec that cannot be decoded; sound track 2 is taken"
    ]


@pytest.mark.parametrize("name", OUTPUTS)
def test_without_any_track_that_can_be_decoded_the_video_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    source = unknown_first_sound(Clip().make(tmp_path / "one.mp4"))
    with caplog.at_level(logging.WARNING):
        assert not carried(source, tmp_path / name).has_sound
    assert "sound track 1 has a codec that cannot be decoded; the video will be silent" in caplog.text
    got = measure(tmp_path / name)
    assert (got.frames, got.codec) == (30, "")
    assert got.picture_s == pytest.approx(1.2)


@pytest.mark.parametrize("name", OUTPUTS)
def test_channels_that_nobody_can_mix_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    tones = (Tone(codec="pcm_s16le", layout="9 channels"), Tone(codec="pcm_s16le"))
    source = Clip(tones=tones).make(tmp_path / "many.mkv")
    assert carried(source, tmp_path / name).has_sound
    assert "sound track 1 has 9 channels without known places; sound track 2 is taken" in caplog.text


@pytest.mark.parametrize(("suffix", "codec", "sound", "output"), [
    (".mp4", "libx264", "aac", "out.mp4"),
    (".mkv", "libx264", "aac", "out.mp4"),
    (".mp4", "libx264", "libmp3lame", "out.mp4"),
    (".webm", "libvpx", "libopus", "out.webm"),
    (".mkv", "libx264", "vorbis", "out.webm"),
])  # fmt: skip
def test_what_is_copied_sounds_the_same_to_the_sample(
    tmp_path: Path, suffix: str, codec: str, sound: str, output: str
) -> None:
    source = Clip(suffix, codec, tones=(Tone(sound, 48_000),)).make(tmp_path / f"in{suffix}")
    carried(source, tmp_path / output)
    assert is_copied(source, tmp_path / output)
    _, original, _ = sound_of(source)
    _, copy, _ = sound_of(tmp_path / output)
    assert abs(original.size - copy.size) <= 1200, "to one packet"
    length = min(original.size, copy.size) - 1200
    assert np.abs(original[:length] - copy[:length]).max() < 1e-4


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_damaged_is_silent_and_what_follows_in_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    source = Clip(".mkv", tones=(Tone("ac3", 48_000),)).make(tmp_path / "in.mkv")
    content = bytearray(source.read_bytes())
    with av.open(source) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    for packet in packets[16:20]:  # from 0.512 s on
        place = content.index(packet)
        content[place : place + len(packet)] = bytes(len(packet))
    source.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        carried(source, tmp_path / name)
    assert "is damaged: 4 of its packets cannot be decoded and are silent" in caplog.text
    got = measure(tmp_path / name)
    assert got.beeps_s == pytest.approx([0.4, 0.8], abs=0.04)
    assert got.sound_s == pytest.approx(1.2, abs=0.03)


def test_sound_that_sets_in_after_the_end_is_not_there(tmp_path: Path) -> None:
    source = Clip(seconds=0.6, tones=(Tone(stretches=((0.8, 1.2),)),)).make(tmp_path / "in.mp4")
    for name in OUTPUTS:
        assert not measure(tmp_path / name).beeps_s if carried(source, tmp_path / name).has_sound else True


def test_a_microphone_that_was_muted_for_more_than_a_minute(tmp_path: Path) -> None:
    tone = Tone(stretches=((0.0, 3.0), (71.5, 73.0)))
    source = Clip(".mkv", fps=Fraction(2), seconds=73, flashes_s=(2.0, 72.0), tones=(tone,)).make(tmp_path / "in.mkv")
    carried(source, tmp_path / "out.mp4")
    got = measure(tmp_path / "out.mp4")
    assert got.flashes_s == pytest.approx([2, 72], abs=0.01)
    assert got.beeps_s == pytest.approx([2, 72], abs=0.04)


def test_a_screen_that_stood_still_for_more_than_a_minute_while_somebody_spoke(tmp_path: Path) -> None:
    times_s = (*(index / 5 for index in range(6)), *(71 + index / 5 for index in range(10)))
    tone = Tone(rate_hz=16_000, layout="mono", stretches=((0.0, 73.0),))
    source = Clip(".mkv", times_s=times_s, flashes_s=(0.6, 72.0), tones=(tone,)).make(tmp_path / "in.mkv")
    carried(source, tmp_path / "out.mp4")
    got = measure(tmp_path / "out.mp4")
    assert got.flashes_s == pytest.approx([0.6, 72], abs=0.01)
    assert got.beeps_s == pytest.approx([0.6, 72], abs=0.04)
