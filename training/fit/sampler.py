"""Which pairs of frames a step learns from."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import CLIP, PHOTOS, Clip, DataError, Dataset, Landmarks
from training.draws import Draws
from training.landmarks import EYE_CORNERS, EYE_OPENINGS, MOUTH_OPENINGS, OPEN_EYE, PUPILS, Opening


class PairPlan(NamedTuple):
    """Which frames a step learns from; tensors lie where the plan was drawn.

    Attributes:
        source: (B,) int64, rows of the dataset.
        driving: (B,) int64 rows; of the same clip or pack of photographs, and another frame unless it is a still.
        still: (B,) bool, whether the pair has to be made from one picture.
        draws: the step's random numbers, for what else is random in it.
    """

    source: Tensor
    driving: Tensor
    still: Tensor
    draws: Draws

    def to(self, device: torch.device) -> "PairPlan":
        """The same plan elsewhere."""
        if device == self.source.device:
            return self
        source, driving, still = (
            part.to(device, non_blocking=True) for part in (self.source, self.driving, self.still)
        )
        return PairPlan(source, driving, still, self.draws.to(device))


LIVELY_DRAWS = 4
"""Of so many frames a lively pair takes the one with the most different expression."""


def expressions(landmarks: Landmarks) -> NDArray[np.float64]:
    """What makes an expression, in standard deviations; 0 where no face was found.

    Returns:
        (N, 2) how far mouth and eyes are open over their widths; where the landmarks have pupils, (N, 3), with the
        gaze to the sides.
    """
    places = landmarks.landmarks.astype(np.float64)
    columns = {int(point): column for column, point in enumerate(landmarks.points)}

    def opening(opening: Opening) -> NDArray[np.float64]:
        upper, lower, right, left = (places[:, columns[point]] for point in opening)
        width = np.linalg.norm(left - right, axis=-1)
        return np.asarray(np.linalg.norm(upper - lower, axis=-1) / np.maximum(width, 1e-3))

    eyes = np.mean([opening(EYE_OPENINGS[0]), opening(EYE_OPENINGS[len(EYE_OPENINGS) // 2])], axis=0)
    parts = [opening(MOUTH_OPENINGS[0]), eyes]
    if set(PUPILS) <= set(columns):
        parts.append(_gaze(places, columns))
    every = np.stack(parts, axis=-1)
    good = landmarks.valid & np.isfinite(every).all(-1)
    if not good.any():
        return np.zeros_like(every)
    every = np.where(good[:, None], every, 0.0)
    scores = np.where(good[:, None], (every - every[good].mean(0)) / (every[good].std(0) + 1e-9), 0.0)
    scores[eyes <= OPEN_EYE, 2:] = 0.0  # the gaze of hidden pupils counts as the usual one
    return scores


def _gaze(places: NDArray[np.float64], columns: Mapping[int, int]) -> NDArray[np.float64]:
    """(N,): the pupils' places between the corners of their eyes, along the line of these, as means of both eyes."""
    shares = []
    for pupil, corners in zip(PUPILS, EYE_CORNERS, strict=True):
        right, left = (places[:, columns[point], :2] for point in corners)
        along = left - right
        from_middle = places[:, columns[pupil], :2] - (right + left) / 2
        shares.append((from_middle * along).sum(-1) / np.maximum(np.square(along).sum(-1), 1e-6))
    return np.asarray(np.mean(shares, axis=0))


def check_split(folder: Path, clips: Iterable[Clip], split: str, stills_share: float) -> None:
    """See that a split has what its pairs are to be made of.

    Args:
        folder: of the data, for messages.
        clips: of all splits.
        split: the one to learn from.
        stills_share: share of pairs that are made from stills.

    Raises:
        DataError: the split has neither clips nor packs, or stills are wanted and there are none.
    """
    lengths = [clip.frames for clip in clips if clip.split == split]
    splits = ", ".join(sorted({clip.split for clip in clips}))
    if stills_share < 1 and not any(length > 1 for length in lengths):
        raise DataError(
            f"{folder} has no clip of two frames or more in split {split!r} (its splits: {splits}); a pair needs two "
            f"frames, unless data.stills_share is 1{_instead(clips)}"
        )
    if stills_share > 0 and 1 not in lengths:
        raise DataError(
            f"{folder} has no stills in split {split!r} (its splits: {splits}), but data.stills_share is "
            f"{stills_share}: set it to 0 (--set data.stills_share=0), or prepare photographs as well (--photos)"
        )


def _instead(clips: Iterable[Clip]) -> str:
    """What to do where a split has no clips; "" where nothing but other footage helps."""
    if not (others := sorted({clip.split for clip in clips if clip.frames > 1})):
        return ""
    return f": learn from another split (--set data.split={others[0]}), or prepare again (prepare --test-share 0)"


class PairSampler:
    """Chooses pairs: first a person, then one of their clips (or packs of photographs), then two frames of it.

    Args:
        dataset: what there is.
        split: the split to draw from.
        stills_share: share of pairs that are made from stills.
        seed: of the run.
        lively_share: share of the pairs from clips whose driving frame is chosen for its expression.
        photos_share: share of the pairs of two frames that are two photographs of one pack. It counts for nothing where
            there are no packs; where there are packs and no clips, all pairs of two frames are photographs.
        device: where plans are drawn: where the frames are read by row.

    Raises:
        DataError: the split has neither clips nor packs, or stills are wanted and there are none.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        stills_share: float,
        seed: int,
        lively_share: float = 0.0,
        photos_share: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._seed = seed
        self._lively_share = lively_share
        self._device = torch.device(device)
        self._expressions = (
            torch.from_numpy(expressions(dataset.landmarks)).float().to(device) if lively_share else None
        )
        starts = dataset.starts
        of_split = [
            (clip, int(start)) for clip, start in zip(dataset.clips, starts, strict=True) if clip.split == split
        ]
        frames = [pair for pair in of_split if pair[0].frames > 1]
        self.clips = _People([pair for pair in frames if pair[0].kind == CLIP], self._device)
        self.photos = _People([pair for pair in frames if pair[0].kind == PHOTOS], self._device)
        stills = _People([pair for pair in of_split if pair[0].frames == 1], self._device)
        check_split(dataset.folder, dataset.clips, split, stills_share)
        self.stills = stills
        self._stills_share = stills_share
        self._photos_share = (photos_share if len(self.clips) else 1.0) if len(self.photos) else 0.0

    def plan(self, step: int | Tensor, batch: int, rank: int = 0, stills: float = 1.0) -> PairPlan:
        """The pairs of one process in one step: a pure function of its arguments and the seed.

        Args:
            step: of the run; a tensor () int64 where the step is recorded.
            batch: pairs.
            rank: of the process.
            stills: share of pairs from stills, as a multiple of the run's.
        """
        draws = Draws(self._seed, step, rank * batch, batch, self._device)
        still = draws.chance("still", self._stills_share * stills)
        if not len(self.clips) and not len(self.photos):
            still = torch.ones_like(still)
        photos = draws.chance("photos", self._photos_share) & ~still
        # Each kind is drawn for every pair and one is taken: to count them, the host would have to wait for a GPU.
        drawn: tuple[Tensor, Tensor] | None = None
        for people, chosen in ((self.clips, ~still & ~photos), (self.photos, photos), (self.stills, still)):
            if len(people):
                pair = self._pair(people, draws)
                drawn = pair if drawn is None else _taken(chosen, pair, drawn)
        assert drawn is not None
        source, driving = drawn
        return PairPlan(source, driving, still, draws)

    def borrowed(self, plan: PairPlan) -> tuple[Tensor, Tensor]:
        """(B,) rows of two frames of a clip (or pack), anybody's, whose change of expression a pair's source may take.

        Twice the pair's own source where there are neither clips nor packs.
        """
        people = self.clips if len(self.clips) else self.photos
        if not len(people):
            return plan.source, plan.source
        draws = plan.draws.to(self._device)
        start, length = people.choose(draws, "borrowed ")
        one = draws.below("borrowed first frame", length)
        other = (one + 1 + draws.below("borrowed other frame", length - 1)) % length
        return (start + one).to(plan.source.device), (start + other).to(plan.source.device)

    def _pair(self, people: "_People", draws: Draws) -> tuple[Tensor, Tensor]:
        """(B,) rows of two frames of a clip or pack, or twice a still's."""
        start, length = people.choose(draws)
        if people is self.stills:
            return start, start
        lively = people is self.clips and self._expressions is not None
        one = draws.below("first frame", length)
        further = draws.below("other frames", (length - 1)[:, None], LIVELY_DRAWS if lively else 1)
        rows = start[:, None] + (one[:, None] + 1 + further) % length[:, None]
        source, driving = start + one, rows[:, 0]
        if lively and self._expressions is not None:
            change = self._expressions[rows] - self._expressions[source][:, None]
            liveliest = change.abs().sum(-1).argmax(1, keepdim=True)
            driving = torch.where(draws.chance("lively", self._lively_share), rows.gather(1, liveliest)[:, 0], driving)
        return source, driving


def _taken(chosen: Tensor, pair: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The rows of one pair where they are chosen, those of another elsewhere."""
    return torch.where(chosen, pair[0], other[0]), torch.where(chosen, pair[1], other[1])


class _People:
    """Clips grouped by identity, for drawing without a loop."""

    def __init__(self, clips: list[tuple[Clip, int]], device: torch.device) -> None:
        clips = sorted(clips, key=lambda pair: (pair[0].identity, pair[1]))
        _, first, count = np.unique([clip.identity for clip, _ in clips], return_index=True, return_counts=True)
        self.identities = len(first)
        """People."""
        self._start = torch.tensor([start for _, start in clips], dtype=torch.int64, device=device)
        self._length = torch.tensor([clip.frames for clip, _ in clips], dtype=torch.int64, device=device)
        self._first, self._count = (torch.from_numpy(each.astype(np.int64)).to(device) for each in (first, count))
        self._all = torch.tensor(self.identities, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        """Clips."""
        return len(self._start)

    def choose(self, draws: Draws, purpose: str = "") -> tuple[Tensor, Tensor]:
        """(B,) first frames and (B,) lengths of clips; drawn anew for each purpose."""
        person = draws.below(f"{purpose}identity", self._all)
        clip = self._first[person] + draws.below(f"{purpose}clip", self._count[person])
        return self._start[clip], self._length[clip]


def held_out_pairs(dataset: Dataset, split: str, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fixed pairs to look at: the first frame of a clip and one further on, clips of different people first.

    Args:
        dataset: what there is.
        split: the split to take; the clips of all splits where it has none.
        count: how many at most.
    """
    rows: list[tuple[Any, ...]] = []
    seen: dict[str, int] = {}
    for clip, start in zip(dataset.clips, dataset.starts, strict=True):
        if clip.frames > 1 and (clip.split == split or not any(c.split == split for c in dataset.clips)):
            seen[clip.identity] = seen.get(clip.identity, 0) + 1
            rows.append((seen[clip.identity], int(start), int(start) + round(0.6 * (clip.frames - 1))))
    rows.sort(key=lambda row: row[0])
    chosen = rows[:count]
    return np.array([row[1] for row in chosen], np.int64), np.array([row[2] for row in chosen], np.int64)
