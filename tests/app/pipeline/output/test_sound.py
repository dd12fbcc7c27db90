"""A microphone beeps when a picture flashes; both are looked for in the file."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from app.pipeline.output.output_frame import Composed
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.sound import RATE_HZ, Shown, SoundFeed, SoundTrack, Wave
from app.pipeline.state import State
from mcnet.media.muxer import Muxer
from mcnet.media.sound import SoundEncoder
from tests.app.fakes import wait_until

EVERY_S, LASTS_S = 2.0, 0.1
BEEP_HZ = 1000.0
CHUNK_S = 0.02
IN_STEP_S = 0.02

AgeAt = Callable[[float], float]


def since_beep_s(time_s: "NDArray[np.float64] | float") -> "NDArray[np.float64]":
    """How long ago a beep and a flash began at that moment of the world; they do so every two seconds from 2 s on."""
    return np.where(np.asarray(time_s) >= EVERY_S, np.asarray(time_s) % EVERY_S, np.inf)


class FakeMicrophone:
    """Hears the world's beeps by a clock of its own, and delivers them in chunks, now and then late.

    Attributes:
        gone: it delivers nothing while this is set.
    """

    def __init__(self, feed: SoundFeed, *, fast: float = 0.0, rate_hz: int = RATE_HZ, late_s: float = 0.03) -> None:
        self.gone = False
        self._feed = feed
        self._rate_hz = rate_hz
        self._real_rate_hz = rate_hz * (1 + fast)
        self._late_s = late_s
        self._count = 0
        self._waiting: list[tuple[float, Wave]] = []
        self._noise = np.random.default_rng(0)
        feed.begin(rate_hz)

    def run_until(self, now_s: float) -> None:
        """Hear and deliver everything up to that moment."""
        size = round(CHUNK_S * self._rate_hz)
        while (end_s := (self._count + size) / self._real_rate_hz) <= now_s:
            times_s = (self._count + np.arange(size)) / self._real_rate_hz
            wave = np.where(since_beep_s(times_s) < LASTS_S, 0.5 * np.sin(2 * np.pi * BEEP_HZ * times_s), 0).astype(
                np.float32
            )
            self._count += size
            if not self.gone:
                self._waiting.append((end_s + self._late_s * self._noise.random(), wave.astype(np.float32)))
        while self._waiting and self._waiting[0][0] <= now_s:
            came_s, wave = self._waiting.pop(0)
            self._feed.put(wave, came_s)


def record(
    path: Path,
    seconds: float,
    age_at: AgeAt,
    microphone: FakeMicrophone,
    feed: SoundFeed | None,
    *,
    stalls_s: Sequence[float] = (),
    state_at: Callable[[float], State] = lambda _: State.LIVE,
    fps_hz: float = 30.0,
) -> list[float]:
    """Make a recording of so many seconds, in as many as the encoder takes: its clock is ours.

    Args:
        path: of the file.
        seconds: how long the world goes on.
        age_at: how old the picture is that is sent at a moment.
        microphone: what hears.
        feed: what is recorded.
        stalls_s: at these moments no picture is sent for half a second.
        state_at: what the output shows at a moment.
        fps_hz: of the output.

    Returns:
        Of each flash, how long after its beginning the first picture was captured that shows it.
    """
    now_s, seen_s, late_s = 0.0, -1.0, []
    sink = RecorderSink(path, feed, clock=lambda: now_s)
    sink.open(OutputFormat(64, 64, fps_hz))
    dark, bright = (np.full((64, 64, 3), level, np.uint8) for level in (0, 255))
    shown = dark
    stalls = list(stalls_s)
    while now_s < seconds:
        microphone.run_until(now_s)
        captured_s = now_s - age_at(now_s)
        fresh = captured_s > seen_s  # a camera's pictures come in order: while the age grows, one is shown for longer
        seen_s = max(seen_s, captured_s)
        before, shown = shown, bright if since_beep_s(seen_s) < LASTS_S else dark
        if shown is bright and before is dark:
            late_s.append(float(since_beep_s(seen_s)))
        sink.send(Composed(0, seen_s, state_at(now_s), shown, fresh=fresh))
        wait_until(lambda: len(sink._recording._pending) < 4, "the encoder follows")  # type: ignore[union-attr]
        now_s += 1 / fps_hz
        if stalls and now_s >= stalls[0]:
            now_s += 0.5
            stalls.pop(0)
    sink.close()
    wait_until(sink.finished, "the file is finished")
    return late_s


def starts_in(path: Path) -> tuple[list[float], list[float]]:
    """When flashes and beeps begin, in seconds of the file."""
    flashes: list[float] = []
    loud: list[float] = []
    before = 0.0
    reformatter = VideoReformatter()  # one for all: making it takes longer than a frame
    with av.open(path) as container:
        for frame in container.decode(video=0):
            level = float(reformatter.reformat(frame, format="gray").to_ndarray().mean())
            if level > 128 > before:
                flashes.append(float(frame.time or 0))
            before = level
    with av.open(path) as container:
        for sound in container.decode(audio=0):
            wave = np.abs(sound.to_ndarray()[0])
            begin_s = float(sound.time or 0)
            loud += [begin_s + place / RATE_HZ for place in np.flatnonzero(wave > 0.1)]
    beeps_s = [now for before, now in itertools.pairwise([-1.0, *loud]) if now - before > 0.5]
    return flashes, beeps_s


def apart(path: Path, late_s: Sequence[float]) -> NDArray[np.float64]:
    """How much later each beep begins than its flash, in seconds, had a picture been captured at that very moment."""
    flashes, beeps_s = starts_in(path)
    assert len(flashes) == len(beeps_s) == len(late_s), (flashes, beeps_s)
    answer: NDArray[np.float64] = np.array(beeps_s) - np.array(flashes) + np.array(late_s)
    return answer


@pytest.mark.parametrize(
    "age_at",
    [
        pytest.param(lambda _: 0.05, id="50 ms"),
        pytest.param(lambda _: 0.15, id="150 ms"),
        pytest.param(lambda now_s: 0.05 if now_s < 9 else 0.2, id="50 to 200 ms at once"),
        pytest.param(lambda now_s: 0.2 if now_s < 9 else 0.05, id="200 to 50 ms at once"),
        pytest.param(lambda now_s: float(np.interp(now_s, (5, 11), (0.05, 0.2))), id="50 to 200 ms in 6 s"),
        pytest.param(lambda now_s: float(np.interp(now_s, (5, 11), (0.2, 0.05))), id="200 to 50 ms in 6 s"),
    ],
)
def test_beep_and_flash_lie_together_whatever_the_age(tmp_path: Path, age_at: AgeAt) -> None:
    feed = SoundFeed()
    late_s = record(tmp_path / "me.mp4", 17.0, age_at, FakeMicrophone(feed), feed)
    off_s = apart(tmp_path / "me.mp4", late_s)
    assert len(off_s) == 8
    assert np.abs(off_s).max() < IN_STEP_S


def test_ages_that_jump_about_and_an_output_that_stands_still(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)

    def age_at(_: float) -> float:
        return 0.08 + 0.02 * noise.random() + (0.2 if noise.random() < 0.05 else 0.0)

    feed = SoundFeed()
    late_s = record(tmp_path / "me.mp4", 17.0, age_at, FakeMicrophone(feed), feed, stalls_s=(5.0, 11.1))
    assert np.abs(apart(tmp_path / "me.mp4", late_s)).max() < IN_STEP_S


@pytest.mark.parametrize("fast", [0.001, -0.001])
def test_the_clock_of_a_microphone_that_is_wrong_by_a_thousandth_is_made_good(tmp_path: Path, fast: float) -> None:
    feed = SoundFeed()
    microphone = FakeMicrophone(feed, fast=fast)
    late_s = record(tmp_path / "me.mp4", 50.0, lambda _: 0.1, microphone, feed, fps_hz=10.0)
    off_s = apart(tmp_path / "me.mp4", late_s)
    assert len(off_s) == 24
    assert np.abs(off_s).max() < IN_STEP_S  # it would be 50 ms at the end


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 96_000])
def test_microphones_of_other_rates(tmp_path: Path, rate_hz: int) -> None:
    feed = SoundFeed()
    late_s = record(tmp_path / "me.mp4", 5.0, lambda _: 0.1, FakeMicrophone(feed, rate_hz=rate_hz), feed)
    assert np.abs(apart(tmp_path / "me.mp4", late_s)).max() < IN_STEP_S


def test_it_is_aac_as_long_as_the_pictures_and_absent_unless_wanted(tmp_path: Path) -> None:
    feed = SoundFeed()
    for name, wanted in (("with.mp4", feed), ("without.mp4", None)):
        record(tmp_path / name, 3.0, lambda _: 0.1, FakeMicrophone(feed), wanted)
    with av.open(tmp_path / "with.mp4") as container:
        sound = container.streams.audio[0].codec_context
        assert (sound.name, sound.sample_rate, sound.channels) == ("aac", RATE_HZ, 1)
        ends = dict.fromkeys(("audio", "video"), 0.0)
        for packet in container.demux():
            if packet.pts is not None:
                ends[packet.stream.type] = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        assert ends["audio"] == pytest.approx(ends["video"], abs=0.05)
    with av.open(tmp_path / "without.mp4") as container:
        assert not container.streams.audio
        assert container.streams.video[0].frames == 91


def test_a_microphone_that_vanishes_is_silence_and_costs_no_picture(tmp_path: Path) -> None:
    feed = SoundFeed()
    microphone = FakeMicrophone(feed)

    def state_at(now_s: float) -> State:  # a way to be called before each picture
        microphone.gone = 5.0 < now_s < 9.0
        return State.LIVE

    late_s = record(tmp_path / "me.mp4", 13.0, lambda _: 0.1, microphone, feed, state_at=state_at)
    flashes, beeps_s = starts_in(tmp_path / "me.mp4")
    assert len(flashes) == len(late_s) == 6
    assert len(beeps_s) == 4
    heard = np.array(flashes)[[0, 1, 4, 5]] - np.array(late_s)[[0, 1, 4, 5]]
    assert np.abs(np.array(beeps_s) - heard).max() < IN_STEP_S
    with av.open(tmp_path / "me.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 391


@pytest.mark.parametrize("gone_s", [(5.0, 5.4), (5.0, 5.9)])
def test_a_microphone_that_loses_some_sound_stays_in_step(tmp_path: Path, gone_s: tuple[float, float]) -> None:
    feed = SoundFeed()
    microphone = FakeMicrophone(feed)

    def state_at(now_s: float) -> State:  # a way to be called before each picture
        microphone.gone = gone_s[0] < now_s < gone_s[1]
        return State.LIVE

    late_s = record(tmp_path / "me.mp4", 9.0, lambda _: 0.1, microphone, feed, state_at=state_at)
    assert np.abs(apart(tmp_path / "me.mp4", late_s)).max() < IN_STEP_S


def test_without_any_microphone_the_track_is_silent(tmp_path: Path) -> None:
    record(tmp_path / "me.mp4", 3.0, lambda _: 0.1, FakeMicrophone(SoundFeed()), SoundFeed())
    flashes, beeps_s = starts_in(tmp_path / "me.mp4")
    assert (len(flashes), beeps_s) == (1, [])


def test_nothing_is_heard_while_the_user_wants_the_slate(tmp_path: Path) -> None:
    feed = SoundFeed()

    def state_at(now_s: float) -> State:
        return State.SLATE if 3.5 < now_s < 5.0 else State.LIVE

    record(tmp_path / "me.mp4", 7.0, lambda _: 0.1, FakeMicrophone(feed), feed, state_at=state_at)
    _, beeps_s = starts_in(tmp_path / "me.mp4")
    assert [round(one) for one in beeps_s] == [2, 6]


def test_a_fault_of_the_sound_costs_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SoundFeed):
        def place(self) -> None:
            raise ZeroDivisionError("a bug")

    record(tmp_path / "me.mp4", 3.0, lambda _: 0.1, FakeMicrophone(SoundFeed()), Broken())
    assert "the sound of" in caplog.text
    with av.open(tmp_path / "me.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 91


@pytest.mark.parametrize("step", ["__init__", "write", "finish"])
def test_an_encoder_of_sound_that_fails_costs_no_picture_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise av.error.PermissionError(1, "no more")  # which is an OSError, too, and yet not the file's

    monkeypatch.setattr(SoundEncoder, step, fail)
    sink = RecorderSink(tmp_path / "me.mp4", SoundFeed())
    sink.open(OutputFormat(64, 64, 30.0))
    for _ in range(30):
        sink.send(Composed(0, 0.0, State.LIVE, np.zeros((64, 64, 3), np.uint8), fresh=True))
        wait_until(lambda: len(sink._recording._pending) < 4, "the encoder follows")  # type: ignore[union-attr]
    sink.close()
    wait_until(sink.finished, "the file is finished")
    assert "its pictures go on" in caplog.text
    assert sink.sound_trouble.startswith("The recording ")
    assert sink.detail == str(tmp_path / "me.mp4")
    with av.open(tmp_path / "me.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
        assert bool(container.streams.audio) == (step != "__init__")


def test_an_encoder_of_sound_that_cannot_be_opened_costs_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = SoundEncoder.__init__

    def make_wrong(encoder: SoundEncoder, target: Muxer, suffix: str, rate_hz: int, channels: int) -> None:
        make(encoder, target, suffix, rate_hz, channels)
        target.container.streams.audio[0].codec_context.sample_rate = 12_345  # which AAC has not

    monkeypatch.setattr(SoundEncoder, "__init__", make_wrong)
    record(tmp_path / "me.mp4", 1.0, lambda _: 0.1, FakeMicrophone(SoundFeed()), SoundFeed())
    with av.open(tmp_path / "me.mp4") as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 31


class Kept:
    """Takes the place of the encoder."""

    def __init__(self) -> None:
        self.waves: list[Wave] = []
        self.written = 0

    def write(self, wave: Wave) -> None:
        self.waves.append(wave[0])
        self.written += wave.shape[1]

    def finish(self) -> None: ...


@pytest.mark.parametrize("fast", [0.001, -0.001])
def test_it_follows_without_clicks(fast: float) -> None:
    feed, kept = SoundFeed(), Kept()
    track = SoundTrack(feed, kept)
    hum_hz, rate_hz = 300.0, RATE_HZ * (1 + fast)
    count = 0
    feed.begin(RATE_HZ)
    for tick in range(900):
        now_s = tick / 30
        while (count + 480) / rate_hz <= now_s:
            wave = 0.5 * np.sin(2 * np.pi * hum_hz * (count + np.arange(480)) / rate_hz)
            count += 480
            if not 750 <= tick < 780:
                feed.put(wave.astype(np.float32), count / rate_hz)
        age_s = float(np.interp(now_s, (5, 8, 15, 15.01), (0.05, 0.2, 0.2, 0.08)))
        muted = 20 < now_s < 21
        track.follow(Shown(now_s, now_s, now_s - age_s if tick % 7 else None, muted))
        if tick == 750:  # it is switched off and on again
            feed.end()
        if tick == 780:
            feed.begin(RATE_HZ)
    track.finish(30.0)
    heard = np.concatenate(kept.waves)
    assert heard.size == 30 * RATE_HZ
    steepest = 0.5 * 2 * np.pi * hum_hz / RATE_HZ
    assert np.abs(np.diff(heard)).max() < 1.2 * steepest
    loud = np.abs(heard).reshape(-1, RATE_HZ // 10).max(axis=1)
    assert (loud[2:195] > 0.2).all()
    assert (loud[202:209] == 0).all()
    assert (loud[251:260] == 0).all()
    assert (loud[264:] > 0.2).all()


def test_a_feed_keeps_ten_seconds_and_forgets_what_it_is_told_to() -> None:
    feed = SoundFeed()
    feed.put(np.ones(10, np.float32), 0.0)
    assert feed.place() is None  # no stretch has begun
    feed.begin(1000)
    for second in range(12):
        feed.put(np.full(1000, second / 20, np.float32), second + 1.0)
    place = feed.place()
    assert place is not None
    assert (place.rate_hz, place.offset_s) == (1000, 0.0)
    assert feed.read(place.stretch, 1999, 2) is None
    kept = feed.read(place.stretch, 2999, 2)
    assert kept is not None
    assert kept.tolist() == pytest.approx([0.1, 0.15])
    assert feed.read(place.stretch, 11999, 2) is None
    assert feed.take_peak() == pytest.approx(0.55)
    assert feed.take_peak() == 0.0
    feed.end()
    assert feed.place() is None
    assert feed.read(place.stretch, 3000, 2) is None


def _fed(*chunks: tuple[float, int], stretch: int = 1) -> list[float]:
    """The last 3 s before the last chunk came, as 30 samples: those of the first chunk are 0.1, and so on."""
    feed = SoundFeed()
    feed.begin(10)
    for number, (came_s, count) in enumerate(chunks, 1):
        feed.put(np.full(count, number / 10, np.float32), came_s)
    place = feed.place()
    assert place is not None
    assert place.stretch == stretch
    last = feed.read(stretch, round((chunks[-1][0] - 3 - place.offset_s) * place.rate_hz), 30)
    assert last is not None
    return [round(float(sample), 1) for sample in last]


def test_what_was_lost_is_silence_and_what_comes_late_keeps_its_place() -> None:
    assert _fed((6.0, 60), (9.0, 30)) == 30 * [0.2]  # a heap
    assert _fed((6.0, 60), (9.0, 10)) == 20 * [0.0] + 10 * [0.2]
    assert _fed((6.0, 60), (7.0, 4), (8.0, 10)) == 10 * [0.1] + 6 * [0.0] + 4 * [0.2] + 10 * [0.3]
    assert _fed((6.0, 60), (7.0, 4), (7.0, 6), (8.0, 20))[10:] == 20 * [0.4]  # a heap that came in pieces
    assert _fed((6.0, 60), (7.0, 8), (8.0, 12)) == 10 * [0.1] + 8 * [0.2] + 12 * [0.3]  # late, as its successor shows
    assert _fed((6.0, 60), (36.0, 30), stretch=2) == 30 * [0.2]


def test_what_is_no_sound_becomes_some() -> None:
    feed = SoundFeed()
    feed.begin(1000)
    feed.put(np.array([np.nan, np.inf, -np.inf, 7, 0.5], np.float32), 0.0)
    place = feed.place()
    assert place is not None
    assert feed.read(place.stretch, 0, 5) == pytest.approx([0, 1, -1, 1, 0.5])
