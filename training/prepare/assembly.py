"""From the clips of all sources to one dataset: names, splits, tables, report and contact sheet."""

import csv
import dataclasses
import io
import itertools
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.files import replacing
from mcnet.media.contact_sheet import contact_sheet
from mcnet.media.images import write_rgb
from training.data import (
    CLIP,
    CLIPS_FORMAT,
    PHOTOS,
    PNG_PATTERN,
    Clip,
    ClipTable,
    Landmarks,
    decode,
    write_landmarks,
    write_table,
)
from training.prepare.clips import LANDMARKS, REASONS, RECORD, ClipFacts, ClipRules, Record, Reject
from training.prepare.labels import BEFORE, DONE, STATE, kept_labels, key_of, relabelled
from training.prepare.licences import Licences, Stated
from training.prepare.sources import Identities, Source, split_identities

SPLITS = ("train", "test")
SHEET_CLIPS = 400
_SHEET_COLUMNS = 10
_SHEET_CELL_PX = 128
logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """A clip of the dataset.

    Attributes:
        clip: as the table lists it.
        facts: of it.
        source: where it comes from.
        record: of the source.
        landmarks: (frames, points, 3) float16, mapped from a file.
    """

    clip: Clip
    facts: ClipFacts
    source: Source
    record: Record
    landmarks: NDArray[np.float16]


class Workplace:
    """The folder that is made, and where in it things lie.

        train/ test/    IDENTITY#NAME#TRACK#FIRST#LAST.mp4: a video, or a folder of PNGs, as in the released layout
        clips.json      the table that `fit` reads, and landmarks.npz: see `training.data`
        manifest.csv    the same clips with their origin and quality
        rejects.csv     what became no clip, and why
        report.txt      what came of it in figures; contact_sheet.png: a frame of each clip
        .prepare/       what is needed to go on: a record for each finished source, the labels that `relabel` measured
                        of its clips, and the licences that were written into manifest.csv by hand

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.state = out / STATE
        self.rules = self.state / "rules.json"
        self.partial = self.state / "partial"
        self.done = self.state / DONE
        self.unused = self.state / "unused"
        self.licences = self.state / "licences.json"

    def clip_files(self) -> dict[str, Path]:
        """Where each clip lies, by its key; the one of an unfinished move lies where it was."""
        places = [self.unused, *(self.out / split for split in SPLITS), *self.done.glob("*/clips")]
        found: dict[str, Path] = {}
        for place in places:
            for file in sorted(place.glob("*.mp4")) if place.is_dir() else []:
                found[key_of(file)] = file
        return found

    def finished(self, source: Source, stamp: str, files: Mapping[str, Path]) -> Record | None:
        """What is known of a source, if it was prepared, did not change since, and its clips are still there."""
        try:
            record = Record.read(self.done / source.name / RECORD)
        except (OSError, ValueError):
            return None
        whole = all(clip.key in files for clip in record.clips) and (self.done / source.name / LANDMARKS).is_file()
        return record if whole and record.stamp == stamp and record.label == source.label else None

    def discard(self, name: str, files: Mapping[str, Path]) -> None:
        """Remove what an earlier call made of a source."""
        # The record first: without it, leftovers of the rest are never taken for finished work.
        (self.done / name / RECORD).unlink(missing_ok=True)
        for key, file in files.items():
            if key.split("#")[0] == name:
                _remove(file)
        _remove(self.done / name)

    def discard_all(self) -> None:
        """Remove what earlier calls made."""
        for path in (self.out / "clips.json", self.done, self.unused, *(self.out / split for split in SPLITS)):
            _remove(path)

    def clean(self) -> None:
        """Remove what is half-written."""
        _remove(self.partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def assemble(
    workplace: Workplace,
    records: Sequence[tuple[Source, Record]],
    rules: ClipRules,
    identities: Identities,
    test_share: float,
    seed: int,
) -> list[Row]:
    """Name the clips, put each into its split's folder, and write the tables. The same records give the same files.

    Clips of other sources that lie there from earlier calls are put aside into `.prepare/unused`.

    Returns:
        The clips of the dataset in the table's order; none leaves no table.

    Raises:
        DataError: something cannot be written.
    """
    by_hand = Licences(workplace.out / "manifest.csv", workplace.licences)
    by_hand.keep()
    # The table is what makes it a dataset: removed first and written last.
    (workplace.out / "clips.json").unlink(missing_ok=True)
    files = workplace.clip_files()
    who = {clip.key: identities.of(source, clip.track) for source, record in records for clip in record.clips}
    splits = split_identities(who.values(), test_share, seed)
    rows = []
    for source, record in records:
        landmarks = np.load(workplace.done / source.name / LANDMARKS, mmap_mode="r")
        first = 0
        for facts in record.clips:
            identity = who[facts.key]
            file = workplace.out / splits[identity] / f"{identity}#{facts.key}.mp4"
            _move(files.pop(facts.key), file)
            listed = file / PNG_PATTERN if rules.png else file
            clip = Clip(
                listed.relative_to(workplace.out).as_posix(),
                identity,
                splits[identity],
                facts.frames,
                source.kind,
                identities.licence(source, facts.track) or by_hand.of(facts.key, source.label, record.stamp),
            )
            rows.append(Row(clip, facts, source, record, landmarks[first : first + facts.frames]))
            first += facts.frames
    _put_aside(workplace, files)
    rows.sort(key=lambda row: (SPLITS.index(row.clip.split), row.clip.file))
    _write_manifest(workplace.out / "manifest.csv", rows, rules)
    # After the manifest: one of the call before would pass for one of these sources.
    by_hand.take_over({row.facts.key: Stated(row.source.label, row.clip.licence, row.record.stamp) for row in rows})
    by_hand.keep()
    if rows:
        _write_landmarks(workplace, rows, rules)
        partial = workplace.state / "clips.json"
        write_table(partial, CLIPS_FORMAT, ClipTable(rules.size_px, tuple(row.clip for row in rows)))
        partial.replace(workplace.out / "clips.json")
    else:
        (workplace.out / "landmarks.npz").unlink(missing_ok=True)
    return rows


def _write_landmarks(workplace: Workplace, rows: Sequence[Row], rules: ClipRules) -> None:
    """Write those that `relabel` measured where it measured all of the clips, else those that were measured here."""
    places = np.concatenate([row.landmarks for row in rows])
    ours = Landmarks(np.array(rules.points, np.int64), places[..., :2], np.ones(len(places), bool), places[..., 2])
    sources = [workplace.done / name for name in dict.fromkeys(row.source.name for row in rows)]
    theirs = relabelled(sources, [row.clip for row in rows])
    before = workplace.out / BEFORE
    if theirs is not None:
        _replace_landmarks(workplace, before, ours)
    else:
        if before.is_file() or any(map(kept_labels, sources)):
            logger.warning(
                "relabel did not measure all of these clips, so that the landmarks are prepare's own, of one kind for "
                "all: call mcnet-train relabel %s again",
                workplace.out,
            )
        before.unlink(missing_ok=True)  # of other clips: the next `relabel` keeps what it finds
    _replace_landmarks(workplace, workplace.out / "landmarks.npz", ours if theirs is None else theirs)


def _replace_landmarks(workplace: Workplace, path: Path, landmarks: Landmarks) -> None:
    partial = workplace.state / "landmarks.npz"
    write_landmarks(partial, landmarks)
    partial.replace(path)


def _move(old: Path, new: Path) -> None:
    if old != new:
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)


def _put_aside(workplace: Workplace, files: Mapping[str, Path]) -> None:
    others = {key: file for key, file in files.items() if file.parent.parent == workplace.out}
    for file in others.values():
        _move(file, workplace.unused / file.name)
    if others:
        logger.info("%d clips of sources that were not named now are put aside into %s", len(others), workplace.unused)
    for split in SPLITS:
        folder = workplace.out / split
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


_ORIGIN = (
    "file",
    "identity",
    "split",
    "kind",
    "source",
    "licence",
    "start_s",
    "seconds",
    "source_width_px",
    "source_height_px",
)
_COLUMNS = (*_ORIGIN, *(field.name for field in dataclasses.fields(ClipFacts) if field.name not in {"key", "start"}))


def _write_manifest(path: Path, rows: Sequence[Row], rules: ClipRules) -> None:
    lines = []
    for row in rows:
        facts = row.facts
        values: dict[str, object] = {
            "file": row.clip.file,
            "identity": row.clip.identity,
            "split": row.clip.split,
            "kind": row.clip.kind,
            "source": row.source.label,
            "licence": row.clip.licence,
            "start_s": round(facts.start / rules.fps, 3),
            "seconds": round(facts.frames / rules.fps, 3) if row.clip.kind == CLIP else 0.0,
            "source_width_px": row.record.width_px,
            "source_height_px": row.record.height_px,
        }
        lines.append([values[name] if name in values else getattr(facts, name) for name in _COLUMNS])
    write_csv(path, _COLUMNS, lines)


def write_csv(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Write a table in one step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file in one step. What is no text in it, as some names of files, is escaped."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write `rejects.csv`."""
    columns = ("source", "track", "start_s", "seconds", "reason", "detail")
    lines = ([getattr(reject, name) for name in columns] for reject in rejects)
    write_csv(path, columns, lines)


def report(
    records: Sequence[tuple[Source, Record]], rows: Sequence[Row], rejects: Sequence[Reject], rules: ClipRules
) -> str:
    """What came of it, as a text table."""
    looked_s = sum(record.frames for source, record in records if source.kind == CLIP) / rules.fps
    used = {row.source.label for row in rows}
    lines: list[tuple[str, ...]] = [("", "all", *SPLITS)]
    for what, values in (
        ("clips", [row.clip.file for row in rows]),
        ("identities", [row.clip.identity for row in rows]),
        ("sources", [row.source.label for row in rows]),
    ):
        of_splits = [
            len({value for value, row in zip(values, rows, strict=True) if row.clip.split == s}) for s in SPLITS
        ]
        lines.append((what, str(len(set(values))), *(str(count) for count in of_splits)))
    for what, kind, per_unit in (("minutes", CLIP, 60 * rules.fps), ("photographs", PHOTOS, 1)):
        frames = [sum(row.clip.frames for row in rows if (row.clip.split, row.clip.kind) == (s, kind)) for s in SPLITS]
        digits = 1 if kind == CLIP else 0
        if kind == CLIP or any(frames):
            lines.append((what, *(f"{count / per_unit:.{digits}f}" for count in (sum(frames), *frames))))
    text = "".join(f"{line[0]:<12}" + "".join(f"{value:>10}" for value in line[1:]) + "\n" for line in lines)
    text += f"\n{len(records)} sources of {looked_s / 60:.1f} minutes were read, {len(used)} of them gave clips\n"
    if rows:
        text += "\nmedian and range of the clips\n"
        for name in ("face_width_px", "sharpness", "yaw_range_deg", "pitch_range_deg", "motion", "outside"):
            figures = [float(getattr(row.facts, name)) for row in rows]
            text += f"{name:<18}{np.median(figures):>8.3g}{min(figures):>10.3g} to {max(figures):.3g}\n"
    counts = Counter(reject.reason for reject in rejects)
    text += f"\n{len(rejects)} rejected\n"
    for reason in REASONS:
        if counts[reason]:
            seconds_lost = sum(reject.seconds for reject in rejects if reject.reason == reason)
            text += f"{reason:<18}{counts[reason]:>8}{seconds_lost:>10.1f} s\n"
    remarks = [f"{source.label}: {remark}\n" for source, record in records for remark in record.remarks]
    return text + ("\nremarks\n" + "".join(remarks) if remarks else "")


def write_sheet(path: Path, out: Path, rows: Sequence[Row]) -> None:
    """Draw the middle frame of each clip, row by row in the manifest's order; the number is that of the first in a row.

    Of more than 400 clips, 400 that are spread evenly are shown.
    """
    if not rows:
        path.unlink(missing_ok=True)
        return
    chosen = [round(float(index)) for index in np.linspace(0, len(rows) - 1, min(len(rows), SHEET_CLIPS))]
    pictures = []
    for index in chosen:
        clip = rows[index].clip
        pictures.append(next(itertools.islice(decode(out / clip.file), clip.frames // 2, None)))
    starts = range(0, len(pictures), _SHEET_COLUMNS)
    sheet = contact_sheet(
        [pictures[start : start + _SHEET_COLUMNS] for start in starts],
        row_labels=[str(chosen[start] + 1) for start in starts],
        cell_px=_SHEET_CELL_PX,
    )
    write_rgb(path, sheet)
