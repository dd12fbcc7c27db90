"""`mcnet-train relabel`: the landmarks of prepared data, measured anew by the networks that measure live.

A network that is driven by measured keypoints is to be trained on what it will be given: places found by the same mesh,
with the noise of the same mesh. Pictures and tables stay as they are, in their order; only `landmarks.npz` is new. What
is measured is kept clip by clip, so that the same call goes on where it was interrupted.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.commands.outputs import check_outputs
from mcnet.commands.status import INTERRUPTED
from mcnet.files import claimed, replacing
from mcnet.mesh_points import MESH_SIZE
from training.data import (
    CLIP,
    CLIPS_FORMAT,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    decode,
    files_of,
    is_packed,
    open_dataset,
    read_landmarks,
    read_table,
    state_of_files,
    write_landmarks,
)
from training.landmarks import TRAINING_POINTS
from training.prepare.labels import BEFORE, keep_labels

if TYPE_CHECKING:  # OpenCV is imported by what labels only
    from mcnet.media.faces import Face

_WORK = ".relabel"
_TABLES = ("dataset.json", "clips.json")
_SECONDS_PER_LINE = 10.0

FindFace = Callable[[NDArray[np.uint8]], "Face | None"]
"""(H, W, 3) uint8 RGB -> its face."""


class Finders(NamedTuple):
    """How faces are found.

    Attributes:
        follow: in consecutive frames of one clip, as live.
        forget: called before a clip.
        search: in single pictures.
    """

    follow: FindFace
    forget: Callable[[], None]
    search: FindFace


class Relabelled(NamedTuple):
    """What was done.

    Attributes:
        clips: that were labelled, in this call and in earlier ones.
        frames: of them.
        lost: frames that had landmarks before and have none now.
        found: frames that have some now and had none before.
        moved_px: by how many pixels points that both tables have lie apart, root mean square over points and frames;
            NaN where there are none.
        skipped: a line for each clip that could not be read; its old landmarks stay.
    """

    clips: int
    frames: int
    lost: int
    found: int
    moved_px: float
    skipped: tuple[str, ...]


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "relabel",
        help="measure the landmarks of prepared data anew",
        description="Measure the landmarks of a packed dataset or a folder of clips anew, by the face mesh that "
        "measures live, with pupils and in space. Pictures, tables and their order stay. The same call goes on where "
        "it was interrupted.",
    )
    parser.add_argument("data", type=Path, help="packed dataset or folder of clips")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"a folder for the labelled data, whose pictures are linked or copied (default: in place; the old table "
        f"stays as {BEFORE})",
    )
    parser.add_argument(
        "--points",
        choices=("all", "training"),
        default="training",
        help="landmarks to store: those that fit uses, or the whole mesh with its irises (default: training)",
    )
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> int:
    """Label, and tell what differs."""
    points = tuple(range(MESH_SIZE)) if options.points == "all" else TRAINING_POINTS
    try:
        with live_finders() as finders:
            report = relabel(options.data, options.out or options.data, finders, points)
    except KeyboardInterrupt:
        sys.stderr.write("mcnet-train relabel: interrupted; the same call again goes on with what is not labelled\n")
        return INTERRUPTED
    moved = "" if np.isnan(report.moved_px) else f"; landmarks lie {report.moved_px:.2f} px from those before"
    sys.stdout.write(
        f"labelled {report.frames} frames of {report.clips} clips in {options.out or options.data}: {report.lost} lost "
        f"their face, {report.found} found one{moved}\n"
    )
    for reason in report.skipped:
        sys.stdout.write(f"not labelled: {reason}\n")
    if not report.skipped:
        return 0
    sys.stderr.write(
        f"mcnet-train: {len(report.skipped)} of {report.clips + len(report.skipped)} clips are not labelled, as told "
        "above, and keep their old landmarks, or none where those lack points or depth; mend them, and label again\n"
    )
    return 1


@contextlib.contextmanager
def live_finders() -> Iterator[Finders]:
    """The attention mesh, as it follows a performer and as it measures a portrait.

    Raises:
        MediaError: a network is missing.
    """
    from mcnet.media.faces import FaceFinder

    with FaceFinder(tracking=True) as tracker, FaceFinder() as searcher:

        def first(finder: FaceFinder) -> FindFace:
            return lambda rgb: next(iter(finder.find(rgb)), None)

        yield Finders(first(tracker), tracker.forget, first(searcher))


def relabel(folder: Path, out: Path, finders: Finders, points: tuple[int, ...] = TRAINING_POINTS) -> Relabelled:
    """Measure the landmarks of every frame anew.

    Args:
        folder: a packed dataset or a folder of clips, of either version.
        out: where the data with its new landmarks is to be: the same folder, or another one.
        finders: find the faces.
        points: mesh points to keep.

    Raises:
        DataError: the folder holds no dataset, `out` holds another one, another call is at work there, or something
            cannot be written.
        OutputError: the landmarks cannot be written there.
    """
    try:
        pictures = _Pictures(folder)
        out.mkdir(parents=True, exist_ok=True)
        check_outputs({"the labels": out / "landmarks.npz"}, {})
        with claimed(out / "landmarks.npz") as alone:
            if not alone:
                raise DataError(f"another call labels {out}: wait for it, or choose another --out")
            return _relabel(folder, pictures, out, finders, points)
    except OSError as error:
        raise DataError(
            f"cannot write the labels to {out}: {error.strerror or error}; what is measured is kept, and the same call "
            "goes on with it; give --out FOLDER where the data may not be changed"
        ) from error


def _relabel(folder: Path, pictures: "_Pictures", out: Path, finders: Finders, points: tuple[int, ...]) -> Relabelled:
    from tqdm import tqdm

    table, old = pictures.table, read_landmarks(folder / "landmarks.npz")
    starts = np.cumsum([0, *(clip.frames for clip in table.clips)])
    if len(old.valid) != starts[-1]:
        raise DataError(f"{folder / 'landmarks.npz'}: got {len(old.valid)} rows, expected {starts[-1]}, one per frame")
    columns = np.array(sorted(points), np.int64)
    work = _workplace(out, folder, pictures, columns)
    places = np.zeros((len(old.valid), len(columns), 3), np.float16)
    valid = np.zeros(len(old.valid), bool)
    skipped: list[str] = []
    # Where there is no terminal, a bar every ten seconds is a line in a log.
    every_s = 0.1 if sys.stderr.isatty() else _SECONDS_PER_LINE
    with tqdm(total=int(starts[-1]), desc="labelling", unit=" frames", mininterval=every_s, maxinterval=every_s) as bar:
        for number, clip in enumerate(table.clips):
            rows = slice(int(starts[number]), int(starts[number + 1]))
            try:
                labels = _labels_of(work / f"{number:06d}.npz", clip, pictures.frames(number), finders, columns)
            except DataError as error:
                skipped.append(str(error))
                labels = _kept(old.rows(np.arange(rows.start, rows.stop)), columns)
            places[rows], valid[rows] = labels
            bar.update(clip.frames)
    _link_pictures(folder, out, pictures.files)
    new = Landmarks(columns, places[..., :2], valid, places[..., 2])
    if out.resolve() == folder.resolve():
        if not (folder / BEFORE).exists():
            with replacing(folder / BEFORE) as partial:  # it is made once: half of it would stay
                shutil.copyfile(folder / "landmarks.npz", partial)
        if pictures.name == "clips.json":  # or `prepare` would write its own again when it is called once more
            keep_labels(folder, table.clips, new)
    write_landmarks(work / "landmarks.npz", new)
    (work / "landmarks.npz").replace(out / "landmarks.npz")
    if out.resolve() != folder.resolve():
        with replacing(out / pictures.name) as partial:  # it is what makes it a dataset
            shutil.copyfile(folder / pictures.name, partial)
    shutil.rmtree(work)
    both = new.valid & old.valid
    return Relabelled(
        len(table.clips) - len(skipped),
        len(valid),
        int((old.valid & ~new.valid).sum()),
        int((new.valid & ~old.valid).sum()),
        _apart_px(new, old, both, table.size_px),
        tuple(skipped),
    )


class _Pictures:
    """The frames of a dataset of either form, clip by clip.

    Attributes:
        name: of the table's file.
        table: the clips.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packed: NDArray[np.uint8] | None = None
        if is_packed(folder):
            self.name = "dataset.json"
            dataset = open_dataset(folder)
            self.table = ClipTable(dataset.size_px, dataset.clips)
            self._packed, self._starts = dataset.frames, dataset.starts
        else:
            self.name = "clips.json"
            self.table = read_table(folder / self.name, CLIPS_FORMAT)

    @property
    def files(self) -> list[str]:
        """Names of the files that they are in, as the table has them."""
        return ["frames.u8"] if self._packed is not None else sorted({clip.file for clip in self.table.clips})

    def frames(self, number: int) -> Iterator[NDArray[np.uint8]]:
        """Of one clip, (S, S, 3) uint8 RGB each.

        Raises:
            DataError: they cannot be read.
        """
        clip = self.table.clips[number]
        if self._packed is None:
            yield from decode(self._folder / clip.file)
            return
        start = int(self._starts[number])
        for row in range(start, start + clip.frames):
            yield np.array(self._packed[row])


def _workplace(out: Path, folder: Path, pictures: "_Pictures", columns: NDArray[np.int64]) -> Path:
    """Where measured clips wait. What was measured of another table, of other pictures or points is dropped."""
    if out.resolve() != folder.resolve() and any((out / table).exists() for table in _TABLES):
        raise DataError(f"{out} holds a dataset already: choose another folder, or label that one in place")
    work = out / _WORK
    files = state_of_files(folder, pictures.files)
    stamp = hashlib.sha256((folder / pictures.name).read_bytes() + columns.tobytes() + files.encode()).hexdigest()
    mark = work / "stamp"
    if not (mark.is_file() and mark.read_text(encoding="utf-8") == stamp):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        mark.write_text(stamp, encoding="utf-8")
    return work


def _labels_of(
    path: Path, clip: Clip, frames: Iterator[NDArray[np.uint8]], finders: Finders, columns: NDArray[np.int64]
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """(n, P, 3) places and (n,) whether there is a face, of a clip that was measured before or is measured now.

    Raises:
        DataError: the clip cannot be read, or is not as long as the table says.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError), np.load(path) as file:
        return file["places"], file["valid"]
    finders.forget()
    find = finders.follow if clip.frames > 1 and clip.kind == CLIP else finders.search
    places = np.zeros((clip.frames, len(columns), 3), np.float16)
    valid = np.zeros(clip.frames, bool)
    count = 0
    for rgb in frames:
        face = find(rgb) if count < clip.frames else None
        if face is not None:
            places[count], valid[count] = face.mesh_px[columns] / rgb.shape[0], True
        count += 1
    if count != clip.frames:
        raise DataError(f"{clip.file}: got {count} frames, expected {clip.frames} as its table says")
    with replacing(path) as partial, partial.open("wb") as file:  # given a name, NumPy would add an ending
        np.savez(file, places=places, valid=valid)
    return places, valid


def _kept(old: Landmarks, columns: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """The old labels of a clip that cannot be read, as far as they have the points; without all of them, none."""
    places = np.zeros((len(old.valid), len(columns), 3), np.float16)
    if not set(columns.tolist()) <= set(old.points.tolist()) or old.depth is None:
        return places, np.zeros(len(old.valid), bool)
    return old.in_space[:, np.searchsorted(old.points, columns)], old.valid


def _link_pictures(folder: Path, out: Path, listed: Sequence[str]) -> None:
    """Have the pictures in `out` as well: linked where the file system can, otherwise copied."""
    if out.resolve() == folder.resolve():
        return
    for name in (file for each in listed for file in files_of(folder, each)):
        source, target = folder / name, out / name
        if target.exists() or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            with replacing(target) as partial:
                shutil.copyfile(source, partial)


def _apart_px(new: Landmarks, old: Landmarks, both: NDArray[np.bool_], size_px: int) -> float:
    shared = np.intersect1d(new.points, old.points)
    if not both.any() or not len(shared):
        return float("nan")
    one, other = (
        table.landmarks[both][:, np.searchsorted(table.points, shared)].astype(np.float32) for table in (new, old)
    )
    return float(np.sqrt(np.square(one - other).sum(-1).mean()) * size_px)
