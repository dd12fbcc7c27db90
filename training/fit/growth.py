"""Larger networks out of trained ones: more ResBlocks and more keypoints, and at first the same picture.

What is added does nothing yet, but has a gradient (Net2Net: Chen, Goodfellow and Shlens 2016): a new ResBlock's last
convolution is zero, and a new keypoint is a second copy of one that is there, with which it shares the motion mask.
"""

import dataclasses
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from training.fit.stores import columns_on
from training.landmarks import TRAINING_POINTS

_SILENT_LOGIT = -5.0
"""Of a new keypoint's share in the motion: hardly anything to be seen, and a gradient."""
_BLOCK = re.compile(r"generator\.res_stages\.(\d+)\.(\d+)\.(\w+)\.\w+")


def can_grow(small: McnetConfig, large: McnetConfig) -> bool:
    """Whether the larger network is the small one with further ResBlocks or keypoints, and nothing else."""
    if small == large or len(small.resblocks) != len(large.resblocks) or small.num_keypoints > large.num_keypoints:
        return False
    shrunk = dataclasses.replace(large, num_keypoints=small.num_keypoints, resblocks=small.resblocks)
    return shrunk == small and all(few <= many for few, many in zip(small.resblocks, large.resblocks, strict=True))


def nearest_points(landmarks: Tensor, points: Sequence[int], count: int) -> tuple[int, ...]:
    """For each of `points` beyond the first `count`, the one of those that lies nearest on the mean face.

    Args:
        landmarks: (n, P, 2) of TRAINING_POINTS, of pictures with a face.
        points: mesh points of the larger network's keypoints.
        count: of keypoints that are there already.
    """
    places = landmarks.mean(0)[columns_on(tuple(map(TRAINING_POINTS.index, points)), landmarks.device)]
    return tuple(torch.cdist(places[count:], places[:count]).argmin(1).tolist())


def grown(small: Mcnet, large: Mcnet, parents: Sequence[int]) -> dict[str, Tensor]:
    """Weights for the larger network that make it the small one's function.

    Args:
        small: whose weights are taken.
        large: what they are for, as `can_grow` has it.
        parents: of each new keypoint, the old one that it is a copy of.

    Returns:
        A whole state dict of `large`.
    """
    before, old = small.config.num_keypoints, small.state_dict()
    family = torch.tensor([*range(before), *parents])
    copies = torch.bincount(family, minlength=before)[family]
    weights: dict[str, Tensor] = {}
    for name, value in large.state_dict().items():
        block = _BLOCK.fullmatch(name)
        if block is not None and int(block[2]) >= small.config.resblocks[int(block[1])]:
            weights[name] = torch.zeros_like(value) if block[3] == "conv2" else value.clone()
        elif old[name].shape == value.shape:
            weights[name] = old[name].clone()
        else:
            weights[name] = _with_keypoints(name, old[name], value, family, copies)
    return weights


def with_silent_keypoints(key: str, given: Tensor, fresh: Tensor) -> Tensor:
    """A weight in the place of one of a network of more keypoints, of which the new ones are the last, and are silent.

    A measured keypoint has a place of its own from the start, so that a copy of an old one would not do what that did.
    The detector's new channels begin afresh; all others are 0, so that the network does nearly what it did.

    Args:
        key: of the weight.
        given: of the smaller network.
        fresh: of the larger one, as it was initialised.
    """
    if given.shape == fresh.shape:
        return given
    larger = fresh.clone() if key.startswith("keypoint_detector.") else torch.zeros_like(fresh)
    if key == "generator.dense_motion.mask.bias":
        larger.fill_(_SILENT_LOGIT)
    larger[tuple(slice(length) for length in given.shape)] = given
    return larger


def _with_keypoints(name: str, old: Tensor, new: Tensor, family: Tensor, copies: Tensor) -> Tensor:
    """One tensor whose shape depends on the keypoints; their channels are the last ones wherever they are read."""
    made = torch.zeros_like(new)
    if name.startswith("keypoint_detector.logits."):
        return made.copy_(old[family])
    if name.startswith("keypoint_detector.jacobians."):
        matrices = old.view(-1, 4, *old.shape[1:])
        return made.copy_(matrices[family].flatten(0, 1))
    if name.startswith("generator.dense_motion.mask."):
        motions = torch.cat((torch.zeros(1, dtype=family.dtype), 1 + family))  # the background's is the first
        if new.dim() == 1:  # softmax: so many equal shares make up the one that was
            shares = torch.cat((torch.ones(1), copies.float()))
            return made.copy_(old[motions] - shares.log())
        made[:, : old.shape[1]] = old[motions]
        return made
    # What reads keypoints' channels: what is new in them counts nothing yet.
    made[:, : old.shape[1]] = old
    return made
