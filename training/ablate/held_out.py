"""What a trained variant makes of clips that none has learned from."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mcnet.generator import Mcnet
from mcnet.pictures import to_picture
from training.data import CLIP, Clip, DataError, Dataset

FIGURES = ("l1", "l1_of_copying", "distrusted_l1", "psnr_db")
"""Names of what `figures` gives."""
_GREY = 255.0


def check_held_out(folder: Path, clips: Iterable[Clip], split: str) -> None:
    """See that there is something to measure by.

    Args:
        folder: of the data, for the message.
        clips: of all splits.
        split: whose clips are measured.

    Raises:
        DataError: nobody moves in that split.
    """
    clips = list(clips)
    if not any(_measures(clip, split) for clip in clips):
        splits = ", ".join(sorted({clip.split for clip in clips}))
        raise DataError(
            f"{folder} has no clip of two frames or more in split {split!r} to measure by (its splits: {splits}): hold "
            "out more people (mcnet-train prepare --test-share), or set data.held_out_split to another split"
        )


def _measures(clip: Clip, split: str) -> bool:
    return clip.split == split and clip.kind == CLIP and clip.frames > 1


@torch.inference_mode()
def figures(model: Mcnet, dataset: Dataset, split: str, frames_per_clip: int) -> dict[str, float]:
    """Self-reenactment by the plain network in float32: a clip's first frame is driven by others of it.

    Args:
        model: in evaluation mode; it detects the keypoints itself.
        dataset: pictures of the model's size.
        split: of the clips.
        frames_per_clip: driving frames of each clip, evenly to its end.

    Returns:
        Means over clips of their means over pairs. `l1`: mean absolute difference in grey levels of 255;
        `l1_of_copying`: the sum of those over the sum of what showing the source as it is would give;
        `distrusted_l1`: `l1` with each pixel weighted by how little the occlusion map trusts the warped source there,
        which is where only the decoder can help; `psnr_db`: mean peak signal to noise ratio in dB.

    Raises:
        DataError: the split has no clips.
    """
    check_held_out(dataset.folder, dataset.clips, split)
    rows = []
    for source, driving in _pairs(dataset, split, frames_per_clip):
        cache = model.encode_source(source)
        seen = model.generator.inspect(cache, model.keypoint_detector(driving))
        difference = (seen.prediction - driving).abs().mean(1, keepdim=True)
        distrust = 1 - seen.warped.occlusion
        rows.append(
            [
                float(difference.mean()) * _GREY,
                float((source - driving).abs().mean()) * _GREY,
                float((difference * distrust).sum() / distrust.sum().clamp(min=1e-6)) * _GREY,
                float(
                    (-10 * torch.log10((seen.prediction - driving).square().mean((1, 2, 3)).clamp(min=1e-10))).mean()
                ),
            ]
        )
    l1, copied, distrusted, psnr = np.array(rows).mean(0).tolist()
    return {"l1": l1, "l1_of_copying": l1 / max(copied, 1e-9), "distrusted_l1": distrusted, "psnr_db": psnr}


def _pairs(dataset: Dataset, split: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each clip, its first frame (1, 3, S, S) and driving frames (n, 3, S, S), float32 RGB in [0, 1]."""
    for clip, start in zip(dataset.clips, dataset.starts.tolist(), strict=True):
        if not _measures(clip, split):
            continue
        chosen = sorted({round(place) for place in np.linspace(0, clip.frames - 1, count + 1)[1:].tolist()})
        taken = torch.from_numpy(np.array(dataset.frames[[start, *(start + frame for frame in chosen)]]))
        pictures = to_picture(taken)
        yield pictures[:1], pictures[1:]
