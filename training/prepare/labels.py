"""Labels that `relabel` measured of clips that `prepare` made, kept with what else their sources gave."""

import contextlib
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcnet.files import free_name, replacing
from training.data import CLIPS_FORMAT, PNG_PATTERN, Clip, DataError, Landmarks, read_landmarks, read_table

BEFORE = "landmarks.before.npz"
"""The landmarks that a folder had before it was labelled anew in place."""
STATE, DONE = ".prepare", "done"
"""The folder of what `prepare` keeps, and the one in it that has a folder for each finished source."""
_RELABELLED = "relabelled.npz"
_log = logging.getLogger(__name__)


def key_of(file: str | Path) -> str:
    """NAME#TRACK#FIRST#LAST of a clip's file, or of the pattern of its PNGs: whoever is seen, whatever the split."""
    parts = _file_of(Path(file)).stem.split("#")
    return "#".join(parts[-4:])


def _file_of(path: Path) -> Path:
    return path.parent if path.name == PNG_PATTERN else path


def keep_labels(out: Path, clips: Sequence[Clip], labels: Landmarks) -> None:
    """Keep the labels of clips, each with the others of its source; of sources that `prepare` does not know, nothing.

    Args:
        out: the folder that `prepare` made, or another one, where nothing is kept.
        clips: of a table.
        labels: of all their frames, with depth.

    Raises:
        OSError: they cannot be written.
    """
    starts = np.cumsum([0, *(clip.frames for clip in clips)])
    of_sources: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        of_sources.setdefault(key_of(clip.file).split("#")[0], []).append(number)
    for name, numbers in of_sources.items():
        kept = out / STATE / DONE / name
        if not kept.is_dir():
            continue
        rows = labels.rows(np.concatenate([np.arange(starts[number], starts[number + 1]) for number in numbers]))
        with replacing(kept / _RELABELLED) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                keys=np.array([key_of(clips[number].file) for number in numbers]),
                frames=np.array([clips[number].frames for number in numbers]),
                points=rows.points,
                places=rows.in_space,
                valid=rows.valid,
            )


def take_over_labels(out: Path) -> None:
    """Keep the labels that an earlier version's `relabel` measured in place, which kept none beside their sources.

    What cannot be kept is put aside, and told.

    Args:
        out: the folder that `prepare` made, as the last call left it.

    Raises:
        OSError: something cannot be written.
    """
    path, table = out / "landmarks.npz", out / "clips.json"
    measured = (out / BEFORE).is_file() and path.is_file() and table.is_file()
    if not measured or any((out / STATE / DONE).glob(f"*/{_RELABELLED}")):
        return
    try:
        clips, labels = read_table(table, CLIPS_FORMAT).clips, read_landmarks(path)
        starts = np.cumsum([0, *(clip.frames for clip in clips)])
        if len(labels.valid) != starts[-1]:
            raise DataError(f"{path}: got {len(labels.valid)} rows, expected {starts[-1]}, one per frame")
        # A call that was interrupted may have begun to prepare some of the sources anew: their clips are not there.
        there = [number for number, clip in enumerate(clips) if _file_of(out / clip.file).exists()]
        rows = [np.arange(starts[number], starts[number + 1]) for number in there]
        if there:
            keep_labels(out, [clips[number] for number in there], labels.rows(np.concatenate(rows)))
    except DataError as error:
        aside = free_name(out / "landmarks.relabelled.npz")
        path.replace(aside)
        (out / BEFORE).unlink()
        _log.warning(
            "the labels that relabel measured cannot be taken over (%s) and are put aside into %s: call mcnet-train "
            "relabel %s again",
            error,
            aside,
            out,
        )


def kept_labels(source: Path) -> dict[str, Landmarks]:
    """The labels that are kept of a source's clips, by their keys; none where it was not labelled anew.

    Args:
        source: the source's own folder.
    """
    with (
        contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
        np.load(source / _RELABELLED) as file,
    ):
        points, places, valid, frames = file["points"], file["places"], file["valid"], file["frames"]
        every = Landmarks(points, places[..., :2], valid, places[..., 2])
        ends = np.cumsum(frames)
        return {
            str(key): every.rows(np.arange(end - count, end))
            for key, count, end in zip(file["keys"], frames, ends, strict=True)
        }
    return {}


def relabelled(sources: Sequence[Path], clips: Sequence[Clip]) -> Landmarks | None:
    """The labels of all frames of some clips as `relabel` measured them; None where it did not measure all of them.

    Args:
        sources: the folders of the clips' sources.
        clips: in the order of the frames.
    """
    kept = {key: labels for source in sources for key, labels in kept_labels(source).items()}
    found = [kept.get(key_of(clip.file)) for clip in clips]
    parts = [part for part, clip in zip(found, clips, strict=True) if part is not None and _fits(part, clip, found[0])]
    if not parts or len(parts) < len(clips):
        return None
    places = np.concatenate([part.in_space for part in parts])
    valid = np.concatenate([part.valid for part in parts])
    return Landmarks(parts[0].points, places[..., :2], valid, places[..., 2])


def _fits(part: Landmarks, clip: Clip, first: Landmarks | None) -> bool:
    return len(part.valid) == clip.frames and first is not None and np.array_equal(part.points, first.points)
