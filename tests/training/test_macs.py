import pytest

from mcnet.config import McnetConfig
from training.macs import count_macs


def test_the_starters_cost_is_what_was_counted_by_hand() -> None:
    macs = count_macs(McnetConfig.named("tiny"))
    assert macs.rewritten < macs.frame
    assert macs.detector + macs.motion < macs.frame
    starter = count_macs(McnetConfig.named("starter"))
    # design notes: 4.58 GMAC a frame once the source is cached, 8.2 M parameters
    assert starter.rewritten == pytest.approx(4.58, rel=0.01)
    assert starter.parameters == pytest.approx(8.2, rel=0.01)
