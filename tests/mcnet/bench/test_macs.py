import pytest

from mcnet.bench.macs import FrameMacs, count_macs
from mcnet.config import McnetConfig


def test_the_released_networks_cost_is_what_was_counted_by_hand() -> None:
    macs = count_macs(McnetConfig.named("released"))
    # design notes: 196.3 + 1.4 GMAC as it is written, encoder included; 157.7 a frame after the rewrites
    assert macs.plain.total + macs.source == pytest.approx(196.3 + 1.4, rel=0.01)
    assert macs.rewritten.total == pytest.approx(157.7, rel=0.01)


def test_parts_and_rewrites() -> None:
    macs = count_macs(McnetConfig.named("tiny"))
    assert macs.rewritten.total < macs.plain.total
    assert macs.plain.detector > macs.rewritten.detector > 0  # its hourglass has UpBlocks too
    assert FrameMacs(1, 2, 3, 4).total == 10


def test_the_studio_has_the_starters_keypoints_and_motion_and_a_large_decoder() -> None:
    starter, studio = (count_macs(McnetConfig.named(name)).rewritten for name in ("starter", "studio"))
    assert starter.total <= 2.4
    assert studio.motion == starter.motion
    # Only the shrinking differs: from 512 px to 64 px.
    assert studio.detector == pytest.approx(starter.detector, abs=0.05)
    assert 10 <= studio.decoder <= 25
