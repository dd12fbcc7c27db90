"""WebDataset tar shards: clips for training from object storage, where many small files are slow.

    shards/SPLIT-000000.tar ...     about 1 GB each, in the order of clips.json shuffled by the clips' names

Each clip is a sample of three members that lie side by side; its key is the clip's file name without `.mp4`:

    KEY.mp4     the H.264 clip
    KEY.npy     (frames, points, 3) float16 landmarks: x and y in [0, 1], z in their unit
    KEY.json    the clip as in clips.json, `size_px`, and `points`: the mesh points of the landmarks

The order is shuffled, so that a reader's small shuffle buffer holds many people. The same dataset gives the same bytes.
Reading needs nothing of ours: `webdataset.WebDataset(urls).decode()`, with urls such as `train-{000000..000031}.tar` or
`pipe:aws s3 cp s3://bucket/train-{000000..000031}.tar -`. `mcnet-train unshard` makes a folder of clips of them again.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.files import scratch_beside
from training.data import (
    CLIPS_FORMAT,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    clip_of,
    read_landmarks,
    read_table,
    write_landmarks,
    write_table,
)

SHARD_BYTES = 1_000_000_000
_UNFINISHED = ".unshard"
"""In a folder that is being made of shards: what is there may be written over."""


class ShardClip(NamedTuple):
    """A clip as a shard holds it.

    Attributes:
        clip: as in clips.json.
        size_px: side of the pictures.
        video: the MP4 file's content.
        points: (P,) mesh points of the landmarks.
        landmarks: (frames, P, 3) float16, x and y in [0, 1], z in their unit.
    """

    clip: Clip
    size_px: int
    video: bytes
    points: NDArray[np.int64]
    landmarks: NDArray[np.float16]


def load_webdataset() -> ModuleType:
    """The library.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("webdataset")
    except ImportError as error:
        raise DataError(f"shards need the webdataset library ({error}): pip install 'mcnet-avatar[train]'") from error


def write_shards(folder: Path, out: Path, *, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Pack a folder of clips into shards, put in place in one step.

    Args:
        folder: with clips.json, landmarks.npz, and clips as MP4 files.
        out: the folder of the shards; older ones in it are replaced.
        shard_bytes: a shard that has reached this size is followed by another.

    Returns:
        The shards.

    Raises:
        DataError: there is nothing to pack, the library is missing, or the place cannot be written.
    """
    writer = load_webdataset().TarWriter
    table = read_table(folder / "clips.json", CLIPS_FORMAT)
    kept = read_landmarks(folder / "landmarks.npz")
    points, landmarks = kept.points, kept.in_space
    starts = np.cumsum([0, *(clip.frames for clip in table.clips)])
    order = sorted(range(len(table.clips)), key=lambda index: hashlib.sha256(table.clips[index].file.encode()).digest())
    partial = scratch_beside(out)
    names: list[str] = []
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for split in sorted({clip.split for clip in table.clips}):
            samples = (
                _to_sample(folder, table, index, points, landmarks[starts[index] : starts[index + 1]])
                for index in order
                if table.clips[index].split == split
            )
            names += _write_split(partial, split, samples, shard_bytes, writer)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except OSError as error:
        raise DataError(f"cannot write the shards {out}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [out / name for name in names]


def _to_sample(
    folder: Path, table: ClipTable, index: int, points: NDArray[np.int64], landmarks: NDArray[np.float16]
) -> dict[str, Any]:
    clip = table.clips[index]
    buffer = io.BytesIO()
    np.save(buffer, landmarks)
    facts = {**dataclasses.asdict(clip), "size_px": table.size_px, "points": points.tolist()}
    return {
        "__key__": Path(clip.file).stem,
        "json": json.dumps(facts).encode(),
        "mp4": (folder / clip.file).read_bytes(),
        "npy": buffer.getvalue(),
    }


def _write_split(
    folder: Path, split: str, samples: Iterator[dict[str, Any]], shard_bytes: int, writer: Callable[..., Any]
) -> list[str]:
    names: list[str] = []
    sample = next(samples, None)
    while sample is not None:
        names.append(f"{split}-{len(names):06d}.tar")
        # The library's own roll-over leaves its files open when something fails.
        with (
            (folder / names[-1]).open("wb") as file,
            writer(file, encoder=False, mtime=0, user="", group="", mode=0o644, format="PAX_FORMAT") as shard,
        ):
            while sample is not None:
                shard.write(sample)
                sample = next(samples, None)
                if file.tell() >= shard_bytes:
                    break
    return names


def read_shards(urls: Sequence[str]) -> Iterator[ShardClip]:
    """Read shards once, in order.

    Args:
        urls: paths, or what else WebDataset opens.

    Raises:
        DataError: the library is missing, or a shard holds something else or cannot be read.
    """
    library = load_webdataset()
    url = ", ".join(urls)
    try:
        for url in (url for pattern in urls for url in library.shardlists.expand_urls(pattern)):
            # What WebDataset does itself, but that it leaves files open.
            with contextlib.closing(library.gopen(url)) as stream:
                members = library.tariterators.tar_file_expander([{"url": url, "stream": stream}])
                for sample in library.tariterators.group_by_keys(members):
                    yield _from_sample(sample)
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        why = error.args[0] if error.args else type(error).__name__  # WebDataset adds the place to the arguments
        if isinstance(error, OSError) and error.strerror:
            why = error.strerror
        raise DataError(
            f"cannot read the shard {url} ({why}): expected a tar file that prepare --shards wrote; check the path, or "
            "get it again"
        ) from error


def _from_sample(sample: dict[str, Any]) -> ShardClip:
    facts = json.loads(sample["json"])
    return ShardClip(
        clip_of(facts),
        facts["size_px"],
        sample["mp4"],
        np.array(facts["points"], np.int64),
        np.load(io.BytesIO(sample["npy"])),
    )


def unshard(urls: Sequence[str], out: Path) -> int:
    """Make a folder of clips of shards, as `fit` reads it.

    Args:
        urls: see `read_shards`.
        out: a folder that is made; it must hold nothing but what an earlier call, which failed, left there.

    Returns:
        How many clips.

    Raises:
        DataError: the shards cannot be read or do not fit together, or the folder holds something.
    """
    mark = out / _UNFINISHED
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, expected an empty folder or a new name for the clips, behind the shards")
    if (out / "clips.json").exists():
        raise DataError(f"{out} already holds a dataset: choose another folder")
    if out.is_dir() and any(out.iterdir()) and not mark.exists():
        raise DataError(f"{out} holds something else: choose an empty folder, or a new name")
    clips: list[tuple[Clip, NDArray[np.float16]]] = []
    kinds: set[tuple[int, bytes, int]] = set()
    seen: set[str] = set()
    points = np.zeros(0, np.int64)
    size_px = 0
    for size_px, points, clip, video, landmarks in (
        (one.size_px, one.points, one.clip, one.video, one.landmarks) for one in read_shards(urls)
    ):
        kinds.add((size_px, points.tobytes(), landmarks.shape[2]))
        if len(kinds) > 1:
            raise DataError("the shards are of different sizes or landmarks: expected those of one dataset")
        file = out / clip.file
        if not file.resolve().is_relative_to(out.resolve()):
            raise DataError(f"a shard names the clip {clip.file}: expected a path below the dataset's folder")
        if clip.file in seen:  # its pictures would take the place of the other's, whose landmarks stay
            raise DataError(f"the shards name the clip {clip.file} twice: expected those of one dataset, each once")
        seen.add(clip.file)
        out.mkdir(parents=True, exist_ok=True)
        mark.touch()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(video)
        clips.append((clip, landmarks))
    if not clips:
        raise DataError(f"no clips in {', '.join(urls)}")
    clips.sort(key=lambda pair: (pair[0].split != "train", pair[0].file))
    places = np.concatenate([landmarks for _, landmarks in clips])
    depth = places[..., 2] if places.shape[2] > 2 else None  # shards of before hold x and y
    write_landmarks(out / "landmarks.npz", Landmarks(points, places[..., :2], np.ones(len(places), bool), depth))
    write_table(out / "clips.json", CLIPS_FORMAT, ClipTable(size_px, tuple(clip for clip, _ in clips)))
    mark.unlink()
    return len(clips)


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "unshard",
        help="make a folder of clips of WebDataset shards",
        description="Make a folder of clips, which fit and pack read, of the shards that prepare --shards wrote.",
    )
    parser.add_argument("shards", nargs="+", metavar="SHARD", help="tar files, or what else WebDataset opens")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the clips")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> int:
    """Unpack, and say how much."""
    count = unshard(options.shards, options.out)
    sys.stdout.write(f"unpacked {count} clips into {options.out}\n")
    return 0
