"""Reads damaged videos: each is played in part, or refused in one sentence; no traceback, no crash, no hang.

Usage: python -m tests.media.damage [COUNT [SEED]], from the repository's root; tells what was not so.

The files are small clips of several containers with bytes changed, stretches of them zeroed, repeated or left out, or
the end cut off. They are read and written in a child process, since a fault in a library ends a process; after such an
end the next child goes on with the next file.
"""

import contextlib
import faulthandler
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcnet.media.errors import MediaError
from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter
from tests.media.clips import Clip, Tone

_AC3 = (Tone("ac3", 48_000),)
CLIPS = (
    Clip(seconds=0.6),
    Clip(".mov", seconds=0.6, tones=(Tone("pcm_s16le"),)),
    Clip(".mkv", seconds=0.6, tones=(Tone("vorbis"),)),
    Clip(".webm", "libvpx", seconds=0.6, tones=(Tone("libopus", 48_000),)),
    Clip(".ts", seconds=0.6, tones=_AC3),
    Clip(".mp4", "libx265", seconds=0.6, tones=(Tone("eac3", 48_000),)),
    Clip(".avi", "mpeg4", seconds=0.6, tones=(Tone("pcm_s16le"),)),
    Clip(".flv", seconds=0.6),
    Clip(".mpg", "mpeg2video", seconds=0.6, tones=(Tone("mp2"),)),
)
_MOST_FRAMES = 100
_LONGEST_S = 60.0  # a hundred times what one takes


class Outcome(NamedTuple):
    """What came of a file.

    Attributes:
        place: which one.
        kind: `played`, `refused` in one sentence, or `failed`.
        told: the sentence or the traceback.
    """

    place: int
    kind: str
    told: str


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """A file with one kind of damage."""
    content = bytearray(whole)
    start = int(rng.integers(len(content)))
    length = min(len(content) - start, int(rng.integers(1, 2000)))
    match int(rng.integers(6)):
        case 0:
            return bytes(content[:start])
        case 1:
            content[start : start + length] = bytes(length)
        case 2:
            content[start:start] = content[start : start + length]
        case 3:
            del content[start : start + length]
        case kind:  # most of them anywhere, the others where the headers are
            count = int(rng.integers(1, 60))
            for place in rng.integers(len(content) if kind == 4 else min(1500, len(content)), size=count):
                content[place] = int(rng.integers(256))
    return bytes(content)


def outcomes(count: int, seed: int) -> Iterator[Outcome]:
    """Damage and read so many files, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        for place, clip in enumerate(CLIPS):
            clip.make(Path(folder) / f"{place}{clip.suffix}")
        first = 0
        while first < count:
            command = [sys.executable, "-m", "tests.media.damage", "child", folder, str(first), str(count), str(seed)]
            child = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
            told = [Outcome(*json.loads(line)) for line in child.stdout.splitlines()]
            yield from told
            first += len(told)
            if first < count:
                yield Outcome(first, "failed", f"the process ended with {child.returncode}: {child.stderr[-3000:]}")
                first += 1


def _read(path: Path) -> tuple[str, str]:
    try:
        video = open_driving(path)
        with VideoWriter(path.with_name("out.mp4"), video.fps, video.frame_size_px, audio_from=path) as writer:
            for rgb in itertools.islice(video, _MOST_FRAMES):
                writer.write(rgb)
    except MediaError as error:
        text = str(error)
        return ("refused" if text and "\n" not in text else "failed"), text
    except Exception:
        return "failed", traceback.format_exc()
    return "played", ""


def _child(folder: Path, first: int, count: int, seed: int) -> None:
    logging.disable(logging.WARNING)
    for index in range(first, count):
        rng = np.random.default_rng((seed, index))
        clip = CLIPS[index % len(CLIPS)]
        path = folder / f"damaged{clip.suffix}"
        path.write_bytes(damaged((folder / f"{index % len(CLIPS)}{clip.suffix}").read_bytes(), rng))
        faulthandler.dump_traceback_later(_LONGEST_S, exit=True)
        print(json.dumps(Outcome(index, *_read(path))), flush=True)
        faulthandler.cancel_dump_traceback_later()
        with contextlib.suppress(OSError):
            (folder / "out.mp4").unlink()


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        _child(Path(sys.argv[2]), *(int(number) for number in sys.argv[3:6]))
        return
    count, seed = (int(number) for number in (*sys.argv[1:3], *("300", "0")[len(sys.argv) - 1 :]))
    kinds: Counter[str] = Counter()
    for outcome in outcomes(count, seed):
        kinds[outcome.kind] += 1
        if outcome.kind == "failed":
            print(f"file {outcome.place} of seed {seed}: {outcome.told}", flush=True)
    print(f"{count} files: {dict(kinds)}")
    sys.exit(os.EX_DATAERR if kinds["failed"] else 0)


if __name__ == "__main__":
    main()
