"""Each exact rewrite against the plain module that it stands in for."""

import dataclasses
from collections.abc import Iterator
from typing import TypeVar, get_args

import pytest
import torch
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.config import Conditioning, McnetConfig
from mcnet.dense_motion import DenseMotion
from mcnet.engine.rewrites import (
    ComposedMemoryCompensation,
    FoldedResBlock,
    MergedDenseMotion,
    MergedKeypointDetector,
    TransposedUpBlock,
    attend_rows,
    fold_batchnorm,
    rewrite,
)
from mcnet.generator import Mcnet
from mcnet.geometry import gaussian_heatmaps
from mcnet.keypoints import KeypointDetector
from mcnet.layers import DownBlock, ResBlock, SameBlock, UpBlock
from mcnet.memory import MemoryCompensation
from tests.tolerance import PICTURE, PLACE, largest_error, of_sums, products

M = TypeVar("M", bound=nn.Module)
TINY = McnetConfig.named("tiny")


def settle(module: M) -> M:
    """Random statistics, biases and norms, as after training: fresh ones hide mistakes behind ones and zeros."""
    generator = torch.Generator().manual_seed(5)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if not value.is_floating_point() or name.endswith("shrink.weight"):
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.data = 1 + 0.3 * noise.abs()
        elif value.dim() == 1:
            value.data = value.data + 0.3 * noise
        elif not value.any():
            value.data = 0.05 * noise
    return module.eval()


def random_keypoints(seed: int, batch: int = 1) -> Keypoints:
    generator = torch.Generator().manual_seed(seed)
    value = torch.rand(batch, TINY.num_keypoints, 2, generator=generator) * 1.6 - 0.8
    jacobian = torch.eye(2) + 0.2 * torch.randn(batch, TINY.num_keypoints, 2, 2, generator=generator)
    return Keypoints(value, jacobian)


def assert_same(got: Tensor, expected: Tensor, plain: nn.Module) -> None:
    """The same but for the order of the sums in the layers of the plain module."""
    largest = expected.abs().max().item()
    assert largest > 0
    assert largest_error(got, expected) <= of_sums(products(plain)) * largest


@pytest.fixture(autouse=True)
def _no_gradients_and_a_fixed_seed() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("block", [SameBlock(6, 10, kernel=7), DownBlock(6, 10)])
def test_batchnorm_folds_into_its_convolution(block: SameBlock | DownBlock) -> None:
    settle(block)
    x = torch.randn(2, 6, 12, 12)
    folded = fold_batchnorm(block.conv, block.norm)
    assert_same(folded(x), block.norm(block.conv(x)), block)


@pytest.mark.parametrize("size_px", [1, 2, 9])
def test_upsampling_and_convolution_is_one_transposed_convolution(size_px: int) -> None:
    block = settle(UpBlock(6, 10))
    x = torch.randn(2, 6, size_px, size_px)
    assert_same(TransposedUpBlock(block)(x), block(x), block)


def test_folded_resblock() -> None:
    block = settle(ResBlock(8))
    x = torch.randn(2, 8, 9, 9)
    kept = x.clone()
    assert_same(FoldedResBlock(block)(x), block(x), block)
    assert torch.equal(x, kept)


def test_merged_keypoint_detector() -> None:
    detector = settle(KeypointDetector(TINY))
    picture = torch.rand(2, 3, 256, 256)
    expected = detector(picture)
    got = MergedKeypointDetector(detector)(picture)
    assert largest_error(got.value, expected.value) <= PLACE
    assert largest_error(got.jacobian, expected.jacobian) <= PLACE


def test_merged_dense_motion() -> None:
    plain = settle(DenseMotion(TINY))
    source, driving = random_keypoints(1), random_keypoints(2, batch=3)
    small, heatmaps = torch.rand(1, 3, 64, 64), gaussian_heatmaps(source.value, 64)
    expected = plain(small, heatmaps, source, driving)
    got = MergedDenseMotion(plain)(small, heatmaps, source, driving)
    for ours, theirs in zip(got, expected, strict=True):
        assert_same(ours, theirs, plain)


@pytest.mark.parametrize("conditioning", get_args(Conditioning))
@pytest.mark.parametrize("size_px", [32, 64])
def test_composed_memory(conditioning: Conditioning, size_px: int) -> None:
    config = dataclasses.replace(TINY, memory=dataclasses.replace(TINY.memory, conditioning=conditioning))
    plain = settle(MemoryCompensation(config))
    fast = ComposedMemoryCompensation(plain)
    source = random_keypoints(1)
    warped = torch.randn(2, {32: 24, 64: 16}[size_px], size_px, size_px)
    expected = plain(warped, source, plain.condition(source))
    assert_same(fast(warped, source, fast.condition(source)), expected, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_keeps_its_logits_in_float32(dtype: torch.dtype) -> None:
    # The logits reach 150. Rounded to bfloat16, which has steps of 0.5 to 1 there, they would give errors of 0.2.
    query, key, value = ((scale * torch.randn(2, n, 64)).to(dtype) for scale, n in ((6, 40), (1, 30), (1, 30)))
    logits = query.double() @ key.double().transpose(1, 2)
    exact = torch.softmax(logits, -1) @ value.double()
    # The error of a logit is the relative one of its weight. In bfloat16 weights and result are rounded too, by half of
    # its eps each.
    bar = of_sums(64) * float(logits.abs().max()) + (0.0 if dtype == torch.float32 else torch.finfo(dtype).eps)
    bar *= float(value.abs().max())
    assert largest_error(attend_rows(query, key, value), exact) <= bar
    rounded = torch.softmax((query @ key.transpose(1, 2)).to(torch.bfloat16).double(), -1) @ value.double()
    assert largest_error(rounded, exact) > 3 * bar


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("size_px", "levels", "conditioning"),
    [
        *((256, (32, 64), conditioning) for conditioning in get_args(Conditioning)),
        *((512, (32, 64, 128), conditioning) for conditioning in get_args(Conditioning)),
        (256, (), "none"),  # without levels there is no memory that could be conditioned
    ],
)
def test_rewritten_model_is_the_same_function(
    conditioning: Conditioning, size_px: int, levels: tuple[int, ...], batch: int
) -> None:
    extra = size_px == 512
    config = dataclasses.replace(
        TINY,
        size_px=size_px,
        encoder_widths=(6, 8, 16, 24, 32) if extra else TINY.encoder_widths,
        decoder_widths=(24, 16, 12, 8, 8) if extra else TINY.decoder_widths,
        resblocks=(1, 2, 0, 1) if extra else TINY.resblocks,
        memory=dataclasses.replace(TINY.memory, conditioning=conditioning, levels_px=levels),
    )
    model = settle(Mcnet(config))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = rewrite(model)
    source, driving = torch.rand(1, 3, size_px, size_px), random_keypoints(4, batch)
    with torch.inference_mode():
        expected = model.generator(model.encode_source(source), driving)
        got = fast.generator(fast.encode_source(source), driving)
    assert expected.shape == (batch, 3, size_px, size_px)
    assert largest_error(got, expected) <= PICTURE
    fast.to(torch.bfloat16)  # as an engine does with its decoder
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the original changed"
