"""What is seen of a frame adds up, for models of every kind."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.inspection import figures
from mcnet.inspection.figures import Performer, Range
from mcnet.inspection.seen import Seen, see
from tests.released import to_tensor
from tests.tolerance import EPSILON, of_sums


def looked_at(model: Mcnet, pictures: dict[str, NDArray[Any]]) -> tuple[Seen, Performer]:
    with torch.inference_mode():
        cache = model.encode_source(to_tensor(pictures["source"]))
        driving = model.keypoint_detector(to_tensor(pictures["driving"]))
    return see(model, cache, driving), Performer(pictures["driving"], driving)


@pytest.fixture
def seen(tiny: Mcnet, pictures: dict[str, NDArray[Any]]) -> Seen:
    return looked_at(tiny, pictures)[0]


def test_the_dense_motion_is_the_masked_sum_of_the_sparse_ones(seen: Seen) -> None:
    mask = seen.frame.motion.mask[0]
    assert torch.allclose(mask.sum(0), torch.ones(64, 64), atol=of_sums(len(mask)))
    summed = (mask[..., None] * seen.sparse).sum(0)
    largest = seen.sparse.abs().max().item()
    assert torch.allclose(summed, seen.frame.motion.deformation[0], atol=of_sums(len(mask)) * largest)
    # What is shown at a place came from where the deformation looks.
    row, column = 10, 40
    place = torch.tensor((column, row)) * 2 / 63 - 1
    expected = place - seen.frame.motion.deformation[0, row, column]
    assert torch.allclose(seen.motion[row, column], expected, atol=4 * EPSILON)


def test_the_background_stands_still(seen: Seen) -> None:
    assert seen.candidates.shape == (6, 3, 64, 64)
    inner = slice(4, -4)
    # Nearly: the network samples a corner-aligned grid as if it were not.
    apart = (seen.candidates[0] - seen.cache.small[0])[:, inner, inner].abs().mean()
    assert apart < 0.03
    assert (seen.candidates[1] - seen.cache.small[0])[:, inner, inner].abs().mean() > apart


def test_the_result_is_the_blend_that_is_shown(seen: Seen) -> None:
    trusted = seen.frame.warped.occlusion
    blended = seen.frame.warped.picture * trusted + seen.frame.generated * (1 - trusted)
    assert torch.allclose(seen.frame.prediction, blended, atol=2 * EPSILON)


def test_attention_sums_to_one_and_fetches_the_residual(seen: Seen) -> None:
    for size_px in seen.levels_px:
        compensation = seen.frame.compensations[size_px]
        for point in ((0.0, 0.0), (0.5, 0.64), (1.0, 1.0)):
            share = seen.attention(size_px, point)
            assert share.shape == seen.memory(size_px).shape[1:]
            assert share.sum().item() == pytest.approx(1, abs=of_sums(share.numel()))
            column, row = (min(int(part * size_px), size_px - 1) for part in point)
            fetched = (compensation.value[0] * share).sum((1, 2))
            expected = compensation.residual[0, :, row, column]
            bar = of_sums(share.numel()) * max(1.0, expected.abs().max().item())
            assert torch.allclose(fetched, expected, atol=bar)
        askers = torch.stack([seen.askers(size_px, position) for position in range(share.numel())])
        assert torch.allclose(askers.sum(0), torch.ones(size_px, size_px), atol=of_sums(share.numel()))


def test_half_of_a_feature_stays_as_it_is(seen: Seen) -> None:
    for size_px in seen.levels_px:
        before, after = seen.before(size_px), seen.after(size_px)
        assert before.shape == after.shape
        assert torch.equal(before[0::2], after[0::2])
        assert not torch.equal(before[1::2], after[1::2])


def test_a_network_without_memory_has_an_overview(pictures: dict[str, NDArray[Any]]) -> None:
    tiny = McnetConfig.named("tiny")
    config = dataclasses.replace(tiny, memory=dataclasses.replace(tiny.memory, levels_px=()))
    torch.manual_seed(0)
    seen, performer = looked_at(Mcnet(config).eval(), pictures)
    assert seen.bank is None
    assert seen.levels_px == ()
    assert figures.overview(seen, performer, Range.of(seen)).shape[1] == 3 * 256 + 4 * 12


def test_the_range_of_a_still_frame_is_not_that_of_noise(tiny: Mcnet, pictures: dict[str, NDArray[Any]]) -> None:
    with torch.inference_mode():
        cache = tiny.encode_source(to_tensor(pictures["source"]))
        still = see(tiny, cache, cache.keypoints)
    assert Range.of(still).most == pytest.approx(0.04)
    moved = looked_at(tiny, pictures)[0]
    longest = np.quantile(moved.motion.norm(dim=-1).numpy(), 0.99)
    assert Range.of(moved).most == pytest.approx(max(longest, 0.04), rel=1e-5)


def test_appearance_conditions_each_level_anew(pictures: dict[str, NDArray[Any]]) -> None:
    """As the released network does: the memory of one level is not that of another, and both are shown."""
    tiny = McnetConfig.named("tiny")
    config = dataclasses.replace(tiny, memory=dataclasses.replace(tiny.memory, conditioning="keypoints+appearance"))
    torch.manual_seed(0)
    seen, _ = looked_at(Mcnet(config).eval(), pictures)
    one, other = (seen.memory(size_px) for size_px in seen.levels_px)
    assert not torch.equal(one, other)
    assert figures.memory(seen).shape[1] == 8 * (128 + 12) + 12
    assert figures.features(seen).shape[1] == 5 * (256 + 12) + 12
