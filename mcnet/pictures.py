"""Between pictures as files and cameras have them and as the network sees them."""

import torch
from torch import Tensor


def to_picture(rgb: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32 RGB in [0, 1], on the same device."""
    return rgb.permute(0, 3, 1, 2).float().div_(255)


def to_rgb(picture: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] -> (B, H, W, 3) uint8 RGB, rounded, on the same device."""
    return picture.permute(0, 2, 3, 1).mul(255).round_().clamp_(0, 255).to(torch.uint8).contiguous()
