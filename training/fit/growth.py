"""Larger networks out of trained ones: more ResBlocks and more keypoints, and at first the same picture.

What is added does nothing yet, but has a gradient (Net2Net: Chen, Goodfellow and Shlens 2016): a new ResBlock's last
convolution is zero, and a new keypoint that is detected is a second copy of one that is there, with which it shares the
motion mask. One that is measured has a place of its own, and begins between its neighbours.
"""

import dataclasses
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.pose import LinearMap
from training.fit.stores import columns_on
from training.landmarks import PUPILS, TRAINING_POINTS

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


NEIGHBOURS = 2
"""Of so many keypoints a new measured one begins as the mean: an iris lies between two lids."""


def neighbouring_points(landmarks: Tensor, points: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """For each of `points` beyond the first `count`, those of the first that lie nearest on the mean face.

    Args:
        landmarks: (n, P, 2) of TRAINING_POINTS, of pictures with a face.
        points: mesh points of the larger network's keypoints.
        count: of keypoints that are there already.

    Returns:
        For each new keypoint `NEIGHBOURS` old ones that are not on irises, or all where there are fewer.
    """
    places = landmarks.mean(0)[columns_on(tuple(map(TRAINING_POINTS.index, points)), landmarks.device)]
    candidates = [number for number in range(count) if points[number] not in PUPILS]  # they move within the face
    nearest = torch.cdist(places[count:], places[candidates]).topk(min(NEIGHBOURS, len(candidates)), largest=False)
    return tuple(tuple(sorted(candidates[place] for place in row)) for row in nearest.indices.tolist())


def with_measured_keypoints(key: str, given: Tensor, fresh: Tensor, neighbours: Sequence[Sequence[int]]) -> Tensor:
    """A weight in the place of one of a network of more keypoints, of which the new ones are the last.

    A measured keypoint has a place of its own from the start, so that a copy of an old one would not do what that did.
    Its motion takes the geometric mean of its neighbours' shares: it moves what lies between them. The detector finds
    it there, with the mean of their jacobians. What reads the new keypoint's channels has zeros, and gradients.

    Args:
        key: of the weight.
        given: of the smaller network.
        fresh: of the larger one, for its shape.
        neighbours: of each new keypoint, the old ones that it is a mean of.
    """
    if given.shape == fresh.shape:
        return given
    larger = torch.zeros_like(fresh)
    larger[tuple(slice(length) for length in given.shape)] = given
    first, rows = 0, 1
    if key.startswith("generator.dense_motion.mask."):
        first = 1  # the background's motion
    elif key.startswith("keypoint_detector.jacobians."):
        rows = 4
    elif not key.startswith("keypoint_detector."):
        return larger
    old = len(given) // rows - first
    for number, nearest in enumerate(neighbours):
        mean = torch.stack([larger[_rows(first + index, rows)] for index in nearest]).mean(0)
        larger[_rows(first + old + number, rows)] = mean
    return larger


def _rows(number: int, each: int) -> slice:
    return slice(number * each, (number + 1) * each)


def with_more_places(linear: LinearMap, neighbours: Sequence[Sequence[int]]) -> LinearMap:
    """A map from places to jacobians that knows new keypoints behind the old ones.

    Their jacobians are the mean of their neighbours', and their places count nothing.

    Args:
        linear: of the smaller network, (2 K + 1, 4 K).
        neighbours: of each new keypoint, the old ones that it is a mean of.
    """
    old = torch.tensor(linear, dtype=torch.float64).view(len(linear), -1, 4)
    new = [old[:, list(nearest)].mean(1, keepdim=True) for nearest in neighbours]
    every = torch.cat((old, *new), 1).flatten(1)
    places = torch.zeros((2 * len(neighbours), every.shape[1]), dtype=every.dtype)
    return tuple(map(tuple, torch.cat((every[:-1], places, every[-1:])).tolist()))


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
