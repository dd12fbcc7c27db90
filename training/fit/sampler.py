"""Which pairs of frames a step learns from."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data import CLIP, PHOTOS, Clip, DataError, Dataset, Landmarks
from training.draws import Draws
from training.landmarks import EYE_OPENINGS, MOUTH_OPENINGS, Opening


class PairPlan(NamedTuple):
    """Which frames a step learns from.

    Attributes:
        source: (B,) rows of the dataset.
        driving: (B,) rows; of the same clip or pack of photographs, and another frame unless it is a still.
        still: (B,) whether the pair has to be made from one picture.
        draws: the step's random numbers, for what else is random in it.
    """

    source: NDArray[np.int64]
    driving: NDArray[np.int64]
    still: NDArray[np.bool_]
    draws: Draws


LIVELY_DRAWS = 4
"""Of so many frames a lively pair takes the one with the most different expression."""


def expressions(landmarks: Landmarks) -> NDArray[np.float64]:
    """(N, 2): how far mouth and eyes are open over their widths, in standard deviations; 0 where no face was found."""
    places = landmarks.landmarks.astype(np.float64)
    columns = {int(point): column for column, point in enumerate(landmarks.points)}

    def opening(opening: Opening) -> NDArray[np.float64]:
        upper, lower, right, left = (places[:, columns[point]] for point in opening)
        width = np.linalg.norm(left - right, axis=-1)
        return np.asarray(np.linalg.norm(upper - lower, axis=-1) / np.maximum(width, 1e-3))

    eyes = np.mean([opening(EYE_OPENINGS[0]), opening(EYE_OPENINGS[len(EYE_OPENINGS) // 2])], axis=0)
    both = np.stack((opening(MOUTH_OPENINGS[0]), eyes), axis=-1)
    good = landmarks.valid & np.isfinite(both).all(-1)
    if not good.any():
        return np.zeros_like(both)
    both = np.where(good[:, None], both, 0.0)
    return np.where(good[:, None], (both - both[good].mean(0)) / (both[good].std(0) + 1e-9), 0.0)


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
    ) -> None:
        self._seed = seed
        self._lively_share = lively_share
        self._expressions = expressions(dataset.landmarks) if lively_share else None
        starts = dataset.starts
        of_split = [
            (clip, int(start)) for clip, start in zip(dataset.clips, starts, strict=True) if clip.split == split
        ]
        self.clips = _People([pair for pair in of_split if pair[0].frames > 1 and pair[0].kind == CLIP])
        self.photos = _People([pair for pair in of_split if pair[0].frames > 1 and pair[0].kind == PHOTOS])
        stills = _People([pair for pair in of_split if pair[0].frames == 1])
        splits = sorted({clip.split for clip in dataset.clips})
        if not len(self.clips) and not len(self.photos) and stills_share < 1:
            raise DataError(
                f"{dataset.folder} has no clip of two frames or more in split {split!r} (its splits: "
                f"{', '.join(splits)}); a pair needs two frames, unless data.stills_share is 1"
            )
        if stills_share > 0 and not len(stills):
            raise DataError(
                f"{dataset.folder} has no stills in split {split!r} (its splits: {', '.join(splits)}), but "
                f"data.stills_share is {stills_share}; set it to 0"
            )
        self.stills = stills
        self._stills_share = stills_share
        self._photos_share = (photos_share if len(self.clips) else 1.0) if len(self.photos) else 0.0

    def plan(self, step: int, batch: int, rank: int = 0, stills: float = 1.0) -> PairPlan:
        """The pairs of one process in one step: a pure function of its arguments and the seed.

        Args:
            step: of the run.
            batch: pairs.
            rank: of the process.
            stills: share of pairs from stills, as a multiple of the run's.
        """
        draws = Draws(self._seed, step, rank * batch, batch)
        still = draws.chance("still", self._stills_share * stills)
        photos = draws.chance("photos", self._photos_share) & ~still
        source = np.zeros(batch, np.int64)
        driving = np.zeros(batch, np.int64)
        who, which = draws.uniform("identity"), draws.uniform("clip")
        a, b = draws.uniform("first frame"), draws.uniform("second frame")
        for chosen, people in ((still, self.stills), (photos, self.photos), (~still & ~photos, self.clips)):
            if chosen.any():
                start, length = people.choose(who[chosen], which[chosen])
                one = (a[chosen] * length).astype(np.int64)
                other = (one + 1 + (b[chosen] * (length - 1)).astype(np.int64)) % length
                source[chosen], driving[chosen] = start + one, start + other
                if people is self.clips and self._expressions is not None:
                    lively = draws.chance("lively", self._lively_share)[chosen]
                    more = draws.uniform("livelier frames", LIVELY_DRAWS - 1)[chosen]
                    offered = (one[:, None] + 1 + (more * (length[:, None] - 1)).astype(np.int64)) % length[:, None]
                    rows = np.concatenate((driving[chosen][:, None], start[:, None] + offered), axis=1)
                    change = self._expressions[rows] - self._expressions[source[chosen]][:, None]
                    livelier = rows[np.arange(len(rows)), np.abs(change).sum(-1).argmax(1)]
                    driving[chosen] = np.where(lively, livelier, driving[chosen])
        return PairPlan(source, driving, still, draws)


class _People:
    """Clips grouped by identity, for drawing without a loop."""

    def __init__(self, clips: list[tuple[Clip, int]]) -> None:
        clips = sorted(clips, key=lambda pair: (pair[0].identity, pair[1]))
        self._start = np.array([start for _, start in clips], np.int64)
        self._length = np.array([clip.frames for clip, _ in clips], np.int64)
        identities = [clip.identity for clip, _ in clips]
        _, self._first, self._count = np.unique(identities, return_index=True, return_counts=True)

    def __len__(self) -> int:
        """Clips."""
        return len(self._start)

    @property
    def identities(self) -> int:
        """People."""
        return len(self._first)

    def choose(
        self, who: NDArray[np.float64], which: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frames and lengths of clips, for numbers in [0, 1)."""
        person = (who * len(self._first)).astype(np.int64)
        clip = self._first[person] + (which * self._count[person]).astype(np.int64)
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
