"""The blend beside what it is made of, with errors that are worked out by hand."""

import pytest
import torch
from torch import Tensor

from training.evaluate.blending import BlendL1, BlendShares, Composition, blend_l1, blend_shares


def even(level: float, side_px: int = 40) -> Tensor:
    return torch.full((1, 3, side_px, side_px), level)


def test_the_better_of_both_is_chosen_in_each_neighbourhood() -> None:
    """The warp is right on the left half and the decoder on the right one: away from the seam the choice is perfect."""
    driving, warped, generated = even(0.5), even(0.5), even(0.5)
    warped[..., 20:] = 0.8
    generated[..., :20] = 0.3
    found = blend_l1(Composition(even(0.6), warped, generated), source=even(0.1), driving=driving)
    # Beside the seam the window decides: of its 9 columns, n lie on the right. There the warp's mean error is 0.3 n / 9
    # and the decoder's 0.2 (9 - n) / 9, so that the decoder is taken from n = 4 on: one column too early, where its
    # own error of 0.2 still counts.
    assert found == pytest.approx(BlendL1(blended=0.1, warped=0.15, generated=0.1, better=0.2 / 40, copied=0.4))


def test_the_error_is_the_mean_of_all_colours() -> None:
    driving, warped = even(0.0), even(0.0)
    warped[:, 0] = 0.9  # red alone is wrong: by 0.3 in the mean
    found = blend_l1(Composition(even(0.2), warped, even(0.2)), source=even(1.0), driving=driving)
    assert found == pytest.approx(BlendL1(0.2, 0.3, 0.2, 0.2, 1.0))


def test_shares_are_of_the_mean_errors() -> None:
    blends = [BlendL1(0.05, 0.06, 0.08, 0.04, 0.1), None, BlendL1(0.15, 0.20, 0.10, 0.08, 0.3)]
    shares = blend_shares(blends)
    assert shares == pytest.approx(BlendShares(2, 0.5, 0.65, 0.45, 0.3, 0.2))
    assert blend_shares([None]) is None
    assert blend_shares([]) is None
    assert blend_shares([BlendL1(0, 0, 0, 0, 0)]) is None, "the source drives itself: there is nothing to share"
