"""Decoding and whoever watches take time on a clock of the test's own."""

import numpy as np
import pytest

from mcnet.arrays import Rgb
from mcnet.media.playing import Playing


class Film:
    """Its frames are numbered, and each takes some time to decode."""

    def __init__(self, fps: float, decoding_s: float) -> None:
        self.now_s = 100.0
        self.decoding_s = decoding_s
        self._decoded = 0
        self.playing = Playing(self._decode, fps, lambda: self.now_s)

    def _decode(self) -> Rgb:
        self.now_s += self.decoding_s
        self._decoded += 1
        return np.array([[[0, *divmod(self._decoded - 1, 256)]]], np.uint8)

    def seen(self, seconds: float, busy_s: float) -> tuple[list[int], list[float]]:
        """Numbers of the frames that are seen within a time, and when: who watches is busy for a while after each."""
        numbers, times_s = [], []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            frame = self.playing.frame()
            self.now_s += max(0.0, self.playing.until_s())
            numbers.append(number_of(frame))
            times_s.append(self.now_s)
            self.now_s += busy_s
        return numbers, times_s


def number_of(frame: Rgb) -> int:
    return 256 * int(frame[0, 0, 1]) + int(frame[0, 0, 2])


@pytest.mark.parametrize("busy_s", [0.0, 0.01])
def test_what_is_slow_to_decode_is_seen_frame_by_frame(busy_s: float) -> None:
    numbers, times_s = Film(30.0, decoding_s=0.045).seen(10.0, busy_s)
    assert numbers == list(range(len(numbers)))
    assert np.diff(times_s) == pytest.approx(np.full(len(times_s) - 1, 0.045 + busy_s))


def test_what_is_decoded_in_time_is_seen_at_its_time() -> None:
    numbers, times_s = Film(30.0, decoding_s=0.02).seen(5.0, 0.005)
    assert numbers == list(range(len(numbers)))
    assert np.diff(times_s[5:]) == pytest.approx(np.full(len(times_s) - 6, 1 / 30))  # the first one is late


def test_one_frame_that_is_slow_moves_nothing_after_it() -> None:
    film = Film(30.0, decoding_s=0.005)
    film.seen(1.0, 0.0)
    film.decoding_s = 0.2
    late = film.playing.frame()
    film.decoding_s = 0.005
    numbers, times_s = film.seen(1.0, 0.0)
    assert numbers[0] - number_of(late) > 3
    assert times_s[-1] == pytest.approx(100.005 + numbers[-1] / 30, abs=0.01)


@pytest.mark.parametrize(
    ("fps", "decoding_s", "busy_s"),
    [
        (30, 0.02, 0.015),
        (30, 0.02, 0.018),
        (30, 0.02, 0.02),
        (30, 0.02, 0.03),
        (30, 0.025, 0.045),
        (60, 0.01, 0.008),
        (60, 0.01, 0.03),
        (60, 0.012, 0.033),
    ],
)
def test_what_is_decoded_in_time_keeps_its_speed_however_busy_who_watches(
    fps: float, decoding_s: float, busy_s: float
) -> None:
    numbers, times_s = Film(fps, decoding_s).seen(10.0, busy_s)
    late_s = np.array(times_s) - 100 - np.array(numbers) / fps
    assert late_s.max() < 0.25
    assert np.diff(times_s).max() < 0.3


@pytest.mark.parametrize(("fps", "decoding_s", "busy_s"), [(30, 0.03, 0.1), (30, 0.035, 0.02), (60, 0.02, 0.05)])
def test_what_is_not_is_seen_frame_by_frame_however_busy_who_watches(
    fps: float, decoding_s: float, busy_s: float
) -> None:
    numbers, times_s = Film(fps, decoding_s).seen(10.0, busy_s)
    assert numbers == list(range(len(numbers)))
    assert np.diff(times_s).max() == pytest.approx(decoding_s + busy_s)


def test_who_is_away_for_longer_than_is_made_good_sees_something_move() -> None:
    _, times_s = Film(30.0, decoding_s=0.025).seen(10.0, 0.2)
    assert np.diff(times_s).max() < 0.2 + 0.2 + 0.026


def test_a_frame_that_is_slow_now_and_then_says_nothing_of_the_others() -> None:
    film = Film(30.0, decoding_s=0.01)
    for _ in range(5):
        film.seen(1.0, 0.03)
        film.decoding_s = 0.15
        film.playing.frame()
        film.decoding_s = 0.01
    numbers, times_s = film.seen(1.0, 0.03)
    assert times_s[-1] - 100 - numbers[-1] / 30 < 0.1


@pytest.mark.parametrize("decoding_s", [0.005, 0.01])
def test_who_watches_seldom_sees_what_is_due(decoding_s: float) -> None:
    numbers, times_s = Film(30.0, decoding_s).seen(5.0, 0.2)
    assert len(numbers) < 30
    late_s = np.array(times_s) - 100 - np.array(numbers) / 30
    assert late_s.max() < 0.2


def test_who_was_away_goes_on_where_he_was() -> None:
    film = Film(30.0, decoding_s=0.005)
    before, _ = film.seen(1.0, 0.0)
    film.now_s += 0.6
    assert number_of(film.playing.frame()) == before[-1] + 1
