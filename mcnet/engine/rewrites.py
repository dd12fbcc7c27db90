"""Exact rewrites: the same function in fewer operations. The engine applies them to its copy of a model.

Every class here has the signature of the plain one it stands in for, and a parity test against it.
"""

import copy
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcnet.arrays import ConditionedMemory, Keypoints
from mcnet.config import DEMODULATION_EPS, MOTION_SIZE_PX
from mcnet.dense_motion import DenseMotion, Motion, combine
from mcnet.engine.weights import Affine, batchnorm_affine, compose, fold, transposed_kernel
from mcnet.generator import Mcnet
from mcnet.geometry import coordinate_grid
from mcnet.keypoints import KeypointDetector, expected_keypoints
from mcnet.layers import DownBlock, ResBlock, SameBlock, UpBlock
from mcnet.memory import LevelProjection, MemoryCompensation, interleave
from mcnet.pose import affine_motions

M = TypeVar("M", bound=nn.Module)

SDPA_MAX_HEAD = 256
"""The GPU's fused attention kernels take no larger heads."""


def rewrite(model: Mcnet) -> Mcnet:
    """A rewritten copy of a plain model, in evaluation mode and without gradients; the model itself stays as it is.

    Weights that no rewrite changes are shared, not copied: whoever goes on training the model rewrites a copy of it.
    """
    fast = _sharing_copy(model).eval()
    _replace_blocks(fast)
    fast.keypoint_detector = cast(Any, MergedKeypointDetector(fast.keypoint_detector))
    fast.generator.dense_motion = cast(Any, MergedDenseMotion(fast.generator.dense_motion))
    if fast.generator.memory is not None:
        fast.generator.memory = cast(Any, ComposedMemoryCompensation(fast.generator.memory))
    return fast


def _replace_blocks(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, SameBlock | DownBlock):
            child.conv = fold_batchnorm(child.conv, child.norm)
            child.norm = nn.Identity()
        elif isinstance(child, UpBlock):
            setattr(module, name, TransposedUpBlock(child))
        elif isinstance(child, ResBlock):
            setattr(module, name, FoldedResBlock(child))
        else:
            _replace_blocks(child)


def fold_batchnorm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """One convolution that does what a convolution and the BatchNorm after it do in evaluation."""
    assert conv.bias is not None
    folded = _sharing_copy(conv)
    folded.weight, folded.bias = map(_frozen, fold(conv.weight, conv.bias, _affine(norm)))
    return folded


def _affine(norm: nn.Module) -> Affine[Tensor]:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return batchnorm_affine(norm.weight, norm.bias, norm.running_mean, norm.running_var)


class TransposedUpBlock(nn.Module):
    """`UpBlock` as one transposed convolution with BatchNorm folded in."""

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        folded = fold_batchnorm(block.conv, block.norm)
        self.weight = _frozen(transposed_kernel(folded.weight))
        self.bias = folded.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1).relu_()


class FoldedResBlock(nn.Module):
    """`ResBlock` with norm2 folded into conv1; norm1 has no convolution before it and stays a scale and shift."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        scale, shift = _affine(block.norm1)
        self.scale, self.shift = _frozen(scale[:, None, None]), _frozen(shift[:, None, None])
        self.conv1 = fold_batchnorm(block.conv1, block.norm2)
        self.conv2 = block.conv2

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(self.conv1(torch.addcmul(self.shift, x, self.scale).relu_()).relu_())
        return change.add_(x)


class MergedKeypointDetector(nn.Module):
    """`KeypointDetector` whose two heads are one convolution."""

    def __init__(self, detector: KeypointDetector) -> None:
        super().__init__()
        self.shrink = detector.shrink
        self.hourglass = detector.hourglass
        self.heads = merge_convs(detector.logits, detector.jacobians)
        self.split = (detector.logits.out_channels, detector.jacobians.out_channels)

    def forward(self, picture: Tensor) -> Keypoints:
        logits, jacobians = self.heads(self.hourglass(self.shrink(picture))).split(self.split, dim=1)
        return expected_keypoints(logits, jacobians)


class MergedDenseMotion(DenseMotion):
    """`DenseMotion` with its two heads as one convolution, and its sparse motions as one affine map each."""

    def __init__(self, plain: DenseMotion) -> None:
        nn.Module.__init__(self)
        self.shrink = plain.shrink
        self.hourglass = plain.hourglass
        self.heads = merge_convs(plain.mask, plain.occlusion)
        self.split = (plain.mask.out_channels, plain.occlusion.out_channels)

    def forward(self, small_source: Tensor, source_heatmaps: Tensor, source: Keypoints, driving: Keypoints) -> Motion:
        sparse, seen = self.sparse(small_source, source_heatmaps, source, driving)
        mask, occlusion = self.heads(self.hourglass(seen)).split(self.split, dim=1)
        return combine(sparse, mask, occlusion)

    def sparse(
        self, small_source: Tensor, source_heatmaps: Tensor, source: Keypoints, driving: Keypoints
    ) -> tuple[Tensor, Tensor]:
        """As `DenseMotion.sparse`, without a product of 2x2 matrices for each pixel."""
        grid = coordinate_grid(MOTION_SIZE_PX, MOTION_SIZE_PX, driving.value)
        grid = torch.cat((grid, torch.ones_like(grid[..., :1])), dim=-1).flatten(0, 1)  # (64 * 64, 3)
        sparse = grid @ affine_motions(source, driving).transpose(-1, -2)  # (B, K + 1, 64 * 64, 2)
        sparse = sparse.reshape(*sparse.shape[:2], MOTION_SIZE_PX, MOTION_SIZE_PX, 2)
        return sparse, self.see(small_source, source_heatmaps, sparse, driving)


def merge_convs(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One convolution that gives the channels of two (of the same kernel and padding), one after the other."""
    assert first.bias is not None
    assert second.bias is not None
    merged = _sharing_copy(first)
    merged.out_channels = first.out_channels + second.out_channels
    merged.weight = _frozen(torch.cat((first.weight, second.weight)))
    merged.bias = _frozen(torch.cat((first.bias, second.bias)))
    return merged


class ComposedLevel(nn.Module):
    """What `LevelProjection` becomes when the 1x1 convolutions behind it are composed with it.

    One matrix takes the lacking half straight to [query / 4, difference, feature]: all three are linear before their
    ReLU, and the attention's scale goes through the query's.
    """

    def __init__(self, level: LevelProjection, query: nn.Conv2d, difference: nn.Conv2d) -> None:
        super().__init__()
        convs = (level.inward, query, difference)
        composed = compose(*(part for conv in convs for part in (conv.weight, cast(Tensor, conv.bias))))
        self.inward, self.inward_bias, self.matrix, self.bias = map(_frozen, composed)
        self.outward = level.outward
        self.norm = level.norm


class ComposedMemoryCompensation(nn.Module):
    """`MemoryCompensation` on rows (one position each) instead of maps, with its linear steps composed.

    The difference's 1x1 convolution moves inside the attention: it is applied to the memory's values, of which there
    are few, instead of to what each position fetched. What an inspector would see is never made.
    """

    def __init__(self, plain: MemoryCompensation) -> None:
        super().__init__()
        self.conditioning = plain.conditioning
        self.channels = plain.query.out_channels
        self.bank = plain.bank
        if plain.conditioning != "none":
            self.style_route = plain.style_route
            bank = plain.modulated_bank
            self.modulation_weight = _frozen(bank.modulation_weight / self.channels**0.5)
            self.modulation_bias = bank.modulation_bias
            self.bank_weight = _frozen(bank.weight / (self.channels * 9) ** 0.5)
            self.bank_energy = _frozen(self.bank_weight.square().sum((2, 3)).T.contiguous())
            self.bank_bias = _frozen(bank.bias[:, None, None])
        self.key_value = plain.key_value
        self.difference = _frozen(plain.difference.weight.flatten(1))
        self.levels = nn.ModuleDict(
            {
                size_px: ComposedLevel(cast(LevelProjection, level), plain.query, plain.difference)
                for size_px, level in plain.levels.items()
            }
        )

    def condition(self, source: Keypoints) -> ConditionedMemory | None:
        """As `MemoryCompensation.condition`, but the responses are rows: (B, P, size * size, 2 C)."""
        if self.conditioning == "keypoints+appearance":
            return None
        if self.conditioning == "none":
            memory = self.bank.expand(len(source.value), -1, -1, -1)
        else:
            memory = self._modulated_bank(source.value.flatten(1).to(self.bank.dtype))
        return ConditionedMemory(memory, self.key_value.responses(memory).flatten(3).transpose(2, 3).contiguous())

    def forward(self, warped: Tensor, source: Keypoints, conditioned: ConditionedMemory | None) -> Tensor:
        """As `MemoryCompensation.forward`; returns the compensated feature alone."""
        level = cast(ComposedLevel, self.levels[str(warped.shape[-1])])
        size_px = warped.shape[-1]
        keep, lacking = warped[:, 0::2], warped[:, 1::2]
        rows = lacking.flatten(2).transpose(1, 2)  # (B, w w, C_f / 2)
        pooled = F.linear(rows.mean(1), level.inward, level.inward_bias)
        query, difference, feature = F.linear(rows, level.matrix, level.bias).chunk(3, dim=-1)
        kernel_weights = self.key_value.kernel_weights(pooled)
        if conditioned is None:
            points = source.value.flatten(1).to(pooled.dtype).expand(len(pooled), -1)
            memory = self._modulated_bank(torch.cat((pooled, points), dim=1))
            key_value = self.key_value(memory, kernel_weights).flatten(2).transpose(1, 2)
        else:
            key_value = torch.einsum("bp,bpno->bno", kernel_weights, conditioned.responses)
        key, value = F.relu(key_value).chunk(2, dim=-1)  # (B, size size, C) each
        fetched = attend_rows(F.relu(query), key, F.linear(value, self.difference))
        filled = F.relu(difference - fetched).add_(feature).transpose(1, 2)
        filled = filled.view(*filled.shape[:2], size_px, size_px)
        filled = F.relu(level.norm(level.outward(filled)))
        return interleave(keep, filled)

    def _modulated_bank(self, scale_code: Tensor) -> Tensor:
        style = F.linear(self.style_route(scale_code), self.modulation_weight, self.modulation_bias)
        demodulation = torch.rsqrt(style.square() @ self.bank_energy + DEMODULATION_EPS)
        memory = F.conv2d(self.bank * style[:, :, None, None], self.bank_weight, padding=1)
        return F.leaky_relu(torch.addcmul(self.bank_bias, memory, demodulation[:, :, None, None]), 0.2) * 2**0.5


def attend_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T) value with the softmax in float32; the scale is already in the query.

    Args:
        query: (B, n, C).
        key: (B, m, C).
        value: (B, m, C).

    Returns:
        (B, n, C).
    """
    # Fused attention keeps the logits in float32 inside. On a CPU it wins in float32 and loses in bfloat16 (measured:
    # 512 channels, 16384 queries, 190 ms where two products and a softmax take 95 ms).
    fused = query.dtype == torch.float32 if query.device.type == "cpu" else query.shape[-1] <= SDPA_MAX_HEAD
    if fused:
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
    # The logits must never be rounded to half precision: near 100 bfloat16 has steps of 0.5, a factor of
    # 1.6 in a weight.
    logits = query.float() @ key.float().transpose(1, 2)
    return torch.softmax(logits, dim=-1).to(value.dtype) @ value


def _sharing_copy(module: M) -> M:
    """A copy without gradients that has its weights where the module has them, until it is given others."""
    own: dict[int, Any] = {id(weight): _frozen(weight) for weight in module.parameters()}
    own |= {id(buffer): buffer.detach() for buffer in module.buffers()}
    return copy.deepcopy(module, own)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)
