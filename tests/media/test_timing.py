import itertools
from fractions import Fraction

import numpy as np
import pytest
from av.packet import Packet

from mcnet.media.timing import PictureClock, constant_rate, one_a_slot


def slots(times_s: list[float], fps: float) -> list[tuple[int, int]]:
    return list(one_a_slot(enumerate(times_s), fps))


@pytest.mark.parametrize("fps", [Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(60_000, 1001)])
@pytest.mark.parametrize("declared", [[], [Fraction(1000)], [None, Fraction(1000)]])
def test_a_rate_is_found_in_stamps_of_a_millisecond(fps: Fraction, declared: list[Fraction | None]) -> None:
    times_s = [round(index / fps * 1000) / 1000 for index in range(150)]
    assert constant_rate(times_s, declared, 1e-3) == fps


def test_jitter_does_not_change_the_rate_nor_lose_a_picture() -> None:
    rng = np.random.default_rng(0)
    times_s = np.sort(np.arange(200) / 30 + rng.uniform(-0.014, 0.014, 200))
    fps = constant_rate(times_s.tolist(), [], 1e-3)
    assert fps is not None
    assert float(fps) == pytest.approx(30, rel=2e-3)
    assert len(slots((times_s - times_s[0]).tolist(), float(fps))) == 200


def test_a_few_quick_pictures_between_long_holds_need_a_fast_rate() -> None:
    times_s = np.cumsum([0, *[0.4, 0.04] * 20]).tolist()
    assert constant_rate(times_s, [Fraction(5)], 1e-3) == 25


def test_without_stamps_the_container_is_believed_but_not_all_of_it() -> None:
    assert constant_rate([], [None, Fraction(30)], 1e-3) == 30
    assert constant_rate([0.0], [Fraction(1000), Fraction(90_000)], 1e-3) is None


def test_pictures_stand_by_their_times_and_in_order() -> None:
    rng = np.random.default_rng(1)
    times_s = np.cumsum(rng.uniform(0.01, 0.09, 100)).tolist()
    placed = slots(times_s, 25.0)
    assert all(before < after for (_, before), (_, after) in itertools.pairwise(placed))
    assert all(abs(slot / 25 - times_s[which]) <= 0.03 + 1e-9 for which, slot in placed)


def test_a_crowd_moves_apart_before_a_picture_is_left_out() -> None:
    assert slots([0, 1.4, 1.6, 3], 1.0) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert len(slots([index / 60 for index in range(60)], 30.0)) == pytest.approx(30, abs=1), "no room for the others"


def packets(*stamps: tuple[int | None, int | None]) -> list[tuple[int | None, int | None]]:
    """Where a clock of milliseconds places packets of 40 ms, given their pts and dts."""
    clock = PictureClock(Fraction(1, 1000))
    placed = []
    for pts, dts in stamps:
        packet = Packet(1)
        packet.time_base = Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = pts, dts, 40
        clock.place(packet)
        placed.append((packet.pts, packet.dts))
    return placed


def test_stamps_that_restart_go_on() -> None:
    assert packets((100, 20), (220, 60), (140, 100), (180, 140), (100, 20), (140, 60))[4:] == [(260, 180), (300, 220)]


def test_a_jump_ahead_is_no_still_picture_but_a_hold_is() -> None:
    assert packets((0, 0), (70_000, 70_000), (70_040, 70_040))[1:] == [(40, 40), (80, 80)]
    assert packets((0, 0), (50_000, 50_000))[1:] == [(50_000, 50_000)]


def test_the_first_stamps_of_matroska_are_no_restart() -> None:
    stamps = [(0, None), (120, None), (40, 0), (80, 40)]
    assert packets(*stamps) == stamps
    seldom = [(0, None), (12_000, None), (6_000, None), (3_000, 3_000), (9_000, 6_000)]  # a picture every 3 s
    assert packets(*seldom) == seldom


def test_stamps_of_showing_alone_that_restart_go_on() -> None:
    stamps = [(step * 500, None) for step in range(30)]
    assert packets(*stamps, (0, None), (500, None))[-2:] == [(14_540, None), (15_040, None)]


def test_a_long_still_picture_is_one_where_there_is_sound() -> None:
    clock = PictureClock(Fraction(1, 1000))

    def shown(pts: int) -> int | None:
        picture = Packet(1)
        picture.time_base, picture.pts, picture.dts, picture.duration = Fraction(1, 1000), pts, pts, 40
        clock.place(picture)
        return picture.pts

    assert shown(0) == 0
    for pts in range(0, 200_000, 20):
        piece = Packet(1)
        piece.time_base, piece.pts = Fraction(1, 1000), pts
        clock.hear(piece)
    assert shown(200_000) == 200_000
    assert shown(400_000) == 200_040, "nothing was heard meanwhile"
