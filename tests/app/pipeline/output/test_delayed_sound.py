"""The microphone, later by as much as the picture is: with clocks that the tests set."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.output.delayed_sound import DelayedSound
from app.pipeline.output.sound import RATE_HZ, SoundFeed

QUANTUM = 512
HZ, AMPLITUDE = 440.0, 0.5
OWN_JUMP = AMPLITUDE * 2 * np.pi * HZ / RATE_HZ
CUT_JUMP = 2 * AMPLITUDE / 480  # of a cross-fade between any two places of the tone, over 10 ms

Heard = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def tone(at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return AMPLITUDE * np.sin(2 * np.pi * HZ * at_s)


def clicks(at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for a millisecond at each whole second."""
    return np.where(at_s % 1.0 < 0.001, 1.0, 0.0)


class Line:
    """A microphone and a listener who take turns, as PipeWire has it."""

    def __init__(self, heard: Heard, clock: float = 1.0) -> None:
        self.feed = SoundFeed(0.004)
        self.feed.begin(RATE_HZ)
        self.sound = DelayedSound(self.feed)
        self.now_s = 100.0
        self._heard = heard
        self._clock = clock  # of the microphone, over the listener's

    def run(
        self,
        seconds: float,
        delay_s: Callable[[float], float],
        *,
        lose: frozenset[int] = frozenset(),
        miss: frozenset[int] = frozenset(),
    ) -> None:
        """Go on; what was given is `given`. In cycles to lose nothing comes or goes, in those to miss nothing goes."""
        parts = []
        for cycle in range(round(seconds * RATE_HZ / QUANTUM)):
            self.now_s += QUANTUM / RATE_HZ
            if cycle in lose:
                continue
            at_s = self.now_s + (np.arange(QUANTUM) - QUANTUM) / RATE_HZ
            self.feed.put(self._heard(at_s * self._clock).astype(np.float32), self.now_s)
            if cycle in miss:
                continue
            self.sound.delay_s = delay_s(self.now_s)
            parts.append((at_s[0], self.sound.take(QUANTUM, self.now_s)))
        self.begin_s = parts[0][0]
        self.given = np.concatenate([wave for _, wave in parts])
        self.times_s = np.concatenate([first_s + np.arange(QUANTUM) / RATE_HZ for first_s, _ in parts])


@pytest.mark.parametrize("delay_s", [0.06, 0.083, 0.25])
def test_it_is_as_late_as_is_asked(delay_s: float) -> None:
    line = Line(clicks)
    line.run(3.5, lambda _: delay_s)
    went_s = line.times_s[line.given > 0.5]
    assert went_s.size > 100
    late_s = went_s % 1.0 - delay_s
    assert np.abs(late_s - 0.0005).max() < 0.001


def test_what_has_not_come_yet_is_given_as_soon_as_it_has() -> None:
    line = Line(clicks)
    line.run(3.5, lambda _: 0.0)
    late_s = line.times_s[line.given > 0.5][-20:] % 1.0
    assert line.sound.given_s == pytest.approx(float(late_s.mean()), abs=0.002)
    assert 0 < line.sound.given_s < 0.04
    line.run(3.5, lambda _: 0.1)
    assert line.sound.given_s == pytest.approx(0.1)


def test_a_slow_change_is_followed_without_a_click() -> None:
    line = Line(tone)
    line.run(1.0, lambda _: 0.08)
    begin_s = line.now_s
    line.run(20.0, lambda now_s: 0.08 + 0.005 * min(6.0, now_s - begin_s))
    assert np.abs(np.diff(line.given)).max() < 1.01 * OWN_JUMP
    assert np.abs(line.given).max() < 1.01 * AMPLITUDE
    ended = line.given[-RATE_HZ:]
    assert np.abs(ended - tone(line.times_s[-RATE_HZ:] - 0.11)).max() < 0.03  # a fiftieth of a millisecond
    assert np.abs(ended).max() > 0.99 * AMPLITUDE


def test_a_large_change_is_one_cut_without_a_click() -> None:
    line = Line(tone)
    line.run(1.0, lambda _: 0.08)
    begin_s = line.now_s
    line.run(3.0, lambda now_s: 0.08 if now_s < begin_s + 1 else 0.2)
    assert np.abs(np.diff(line.given)).max() < 1.01 * OWN_JUMP + CUT_JUMP
    assert np.abs(line.given[-RATE_HZ:] - tone(line.times_s[-RATE_HZ:] - 0.2)).max() < 0.01


def test_a_microphone_whose_clock_is_off_stays_in_step_without_a_click() -> None:
    line = Line(tone, clock=1 + 100e-6)
    line.run(1.0, lambda _: 0.1)
    line.run(20.0, lambda _: 0.1)
    assert np.abs(np.diff(line.given)).max() < 1.01 * OWN_JUMP


@pytest.mark.parametrize("how", ["lose", "miss"])
@pytest.mark.parametrize("cycles", [{60}, {20, 60, 150}, {20, 60, 61, 150}, {170, 171, 172}])
def test_after_cycles_that_are_lost_each_click_is_at_its_time(how: str, cycles: set[int]) -> None:
    line = Line(clicks)
    line.run(1.0, lambda _: 0.1)
    line.run(6.5, lambda _: 0.1, **{how: frozenset(cycles)})
    went_s = line.times_s[line.given > 0.5]
    assert set(np.floor(went_s)) == {101, 102, 103, 104, 105, 106, 107}
    assert np.abs(went_s % 1.0 - 0.1 - 0.0005).max() < 0.001


def test_after_a_cycle_that_is_missed_there_is_one_cut_without_a_click() -> None:
    line = Line(tone)
    line.run(1.0, lambda _: 0.1)
    line.run(3.0, lambda _: 0.1, miss=frozenset({60}))
    steps = np.abs(np.diff(line.given))  # the cycle that was missed is in none of them
    assert steps.max() < 1.01 * OWN_JUMP + CUT_JUMP
    assert np.abs(line.given[-RATE_HZ:] - tone(line.times_s[-RATE_HZ:] - 0.1)).max() < 0.01


def test_muted_and_silent() -> None:
    line = Line(tone)
    line.run(1.0, lambda _: 0.1)
    line.sound.muted = True
    line.run(0.5, lambda _: 0.1)
    assert np.abs(np.diff(line.given)).max() < 1.1 * OWN_JUMP, "it fades"
    assert not line.given[1000:].any()
    line.sound.muted = False
    line.run(0.5, lambda _: 0.1)
    assert line.given[-1000:].any()
    line.feed.end()
    line.run(0.5, lambda _: 0.1)


def test_nothing_is_given_before_anything_is_heard() -> None:
    sound = DelayedSound(SoundFeed())
    assert not sound.take(QUANTUM, 1.0).any()
    assert sound.take(100, 1.01).shape == (100,)
