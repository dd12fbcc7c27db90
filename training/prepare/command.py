"""`mcnet-train prepare`: from raw videos, and photographs, to a folder of clips that `fit` reads.

Every face of every video is followed (`training.prepare.tracks`), divided where it is cut, lost or moves too far,
judged, and cut out by one resting square per clip, framed as the live app frames faces (`training.prepare.clips`). What
a source gave is put in place in one step, so that a call that was interrupted goes on where it stopped.
`training.prepare.assembly` then names the clips, splits them by identity, and writes the tables.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcnet.commands.arguments import number, seed, whole_number
from mcnet.commands.status import INTERRUPTED
from mcnet.files import Claim
from mcnet.signals import handled_by

if TYPE_CHECKING:  # OpenCV is imported by what prepares only: `fit` runs on machines that have none
    from training.prepare.assembly import Workplace
    from training.prepare.clips import ClipRules, Record, Reject
    from training.prepare.sources import Identities, Source, Statement

_VERSION = 3
"""Raised when the same rules would give other clips."""
_FACE_PER_SIZE = 0.3
_LONGEST_S = 60.0
"""As `tracks.LONGEST_S`, which would import OpenCV."""


def add_parser(commands: Any) -> None:
    """Add the subcommand to the parser's."""
    parser = commands.add_parser(
        "prepare",
        help="cut clips of faces out of videos",
        description="Follow the faces in videos and cut clips out of them, and out of photographs of one person: a "
        "folder that 'fit --data' reads. The same "
        "call again goes on where it was interrupted and takes up videos that were added. Look at contact_sheet.png, "
        "report.txt and rejects.csv in it.",
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="videos, folders of videos, folders of a video's frames, or with --photos of photographs",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder that is made, or gone on with")
    clips = parser.add_argument_group("clips")
    clips.add_argument("--size", type=int, choices=(256, 512), default=256, help="side in pixels (default: 256)")
    clips.add_argument("--fps", type=number(1, 240), default=25.0, help="frames per second (default: 25)")
    clips.add_argument("--png", action="store_true", help="folders of PNGs, the released layout, instead of H.264")
    clips.add_argument(
        "--points",
        choices=("all", "training"),
        default="all",
        help="landmarks to store: the whole mesh with irises, or those that fit uses, a third of it (default: all)",
    )
    quality = parser.add_argument_group("what is good enough")
    quality.add_argument(
        "--min-face-px", type=number(8, 4096), help="width of the face in the source (default: 0.3 of the size)"
    )
    quality.add_argument("--min-seconds", type=number(0, _LONGEST_S), default=1.0, help="length of a clip (default: 1)")
    quality.add_argument(
        "--max-seconds", type=number(0.04, _LONGEST_S), default=20.0, help="longer ones are divided (default: 20)"
    )
    quality.add_argument(
        "--min-sharpness", type=number(0, 1000), default=12.0, help="see manifest.csv for what there is (default: 12)"
    )
    quality.add_argument(
        "--min-motion", type=number(0, 10), default=0.005, help="in face widths per second (default: 0.005)"
    )
    quality.add_argument(
        "--max-outside",
        type=number(0, 0.95),
        default=0.15,
        help="share of a clip beyond the picture's border (default: 0.15)",
    )
    people = parser.add_argument_group("people")
    people.add_argument("--test-share", type=number(0, 0.95), default=0.1, help="of identities held out (default: 0.1)")
    people.add_argument(
        "--seed", type=seed(), default=0, help="a different seed holds out different people (default: 0)"
    )
    people.add_argument(
        "--identity",
        choices=("source", "folder"),
        default="source",
        help="who is seen: each source another person, or the first folder's name. Files named ID#... tell it",
    )
    people.add_argument(
        "--identities",
        type=Path,
        metavar="CSV",
        help="column source, and identity, licence or kind (clip or photos); also NAME#TRACK of one face of several",
    )
    people.add_argument(
        "--photos",
        action="store_true",
        help="folders of pictures are packs of photographs of one person each, or of whom --identities or their names "
        "(ID#...) tell; cut by one box per pack. Otherwise they are the frames of a video",
    )
    work = parser.add_argument_group("work")
    work.add_argument(
        "--workers", type=whole_number(1, 1024), default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    work.add_argument("--shards", action="store_true", help="also write WebDataset tar shards into OUT/shards")
    work.add_argument("--redo", action="store_true", help="discard clips that were made by other rules")
    parser.set_defaults(run_command=run)


def run(options: argparse.Namespace) -> int:
    """Prepare, and say what came of it.

    Raises:
        DataError: nothing usable was given, the folder cannot be written, or holds something else.
    """
    from training.data import DataError
    from training.prepare.clips import ClipRules
    from training.prepare.sources import SourceError
    from training.prepare.workers import WorkerError

    min_face_px = _FACE_PER_SIZE * options.size if options.min_face_px is None else options.min_face_px
    rules = ClipRules(
        size_px=options.size,
        fps=options.fps,
        min_face_px=round(min_face_px, 1),
        min_seconds=options.min_seconds,
        max_seconds=options.max_seconds,
        min_sharpness=options.min_sharpness,
        min_motion=options.min_motion,
        max_outside=options.max_outside,
        png=options.png,
        all_points=options.points == "all",
    )
    if options.shards and options.png:
        raise DataError("--shards hold H.264 clips: leave out --png")
    if rules.max_seconds < rules.min_seconds:
        raise DataError(f"got --max-seconds {rules.max_seconds:g}, expected at least --min-seconds")
    try:
        with handled_by(
            signal.default_int_handler, signal.SIGTERM
        ):  # as batch systems send it: it ends this as Ctrl-C does
            return _prepare(options, rules)
    except (SourceError, WorkerError) as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"cannot go on in {options.out}: {error}; what is finished is kept") from error
    except KeyboardInterrupt:
        sys.stderr.write("mcnet-train prepare: interrupted; the same call again goes on with what is not finished\n")
        return INTERRUPTED


def _prepare(options: argparse.Namespace, rules: "ClipRules") -> int:
    from training.data import DataError
    from training.prepare.assembly import Workplace, assemble, report, write_rejects, write_sheet, write_text
    from training.prepare.clips import Reject
    from training.prepare.labels import take_over_labels
    from training.prepare.shards import load_webdataset, write_shards
    from training.prepare.sources import Identities, find_sources, read_table_of_identities, without_copies

    if options.shards:
        load_webdataset()  # what is not installed is told before hours of work
    table = {} if options.identities is None else read_table_of_identities(options.identities)
    identities = Identities(table, by_folder=options.identity == "folder")
    sources = find_sources(options.inputs, options.out, table, photos=options.photos)
    identities.refuse_unknown(sources)
    sources, copies = without_copies(sources, identities)
    workplace = Workplace(options.out)
    with _one_at_a_time(workplace):
        _agree_on_rules(workplace, rules, redo=options.redo)
        take_over_labels(workplace.out)  # before anything is prepared anew
        records, failures = _prepare_sources(workplace, sources, rules, options.workers)
        rows = assemble(workplace, records, rules, identities, options.test_share, options.seed)
        rejects = [
            Reject(copy.label, "copy", f"the same footage as {first.label}, which stands for it")
            for copy, first in copies
        ]
        rejects += [reject for _, record in records for reject in record.rejects] + failures
        write_rejects(workplace.out / "rejects.csv", rejects)
        write_sheet(workplace.out / "contact_sheet.png", workplace.out, rows)
        text = report(records, rows, rejects, rules)
        write_text(workplace.out / "report.txt", text)
        sys.stdout.write(text)
        if not rows:
            first = rejects[0]
            raise DataError(
                f"no clip came of {len(sources)} sources: {first.source}: {first.reason}, {first.detail}; all reasons "
                f"are in {workplace.out / 'rejects.csv'}"
            )
        _warn_of_unused(table, identities, records)
        if options.shards:
            shards = write_shards(workplace.out, workplace.out / "shards")
            sys.stdout.write(f"{len(shards)} shards in {workplace.out / 'shards'}\n")
    sys.stdout.write(
        f"look at {workplace.out / 'contact_sheet.png'}, then: mcnet-train fit CONFIG --data {workplace.out}\n"
    )
    return 0


def _prepare_sources(
    workplace: "Workplace", sources: Sequence["Source"], rules: "ClipRules", workers: int
) -> tuple[list[tuple["Source", "Record"]], list["Reject"]]:
    """Do what is not done yet.

    Returns:
        The records of what is finished now, in the order of the sources, and the sources that failed.
    """
    from training.prepare.clips import Reject, SourceTask, prepare_source
    from training.prepare.progress import Progress
    from training.prepare.sources import cost_of
    from training.prepare.workers import run_tasks

    stamps = {source.name: source.stamp for source in sources}
    files = workplace.clip_files()
    records: dict[str, Record] = {}
    tasks: list[SourceTask] = []
    for source in sources:
        record = workplace.finished(source, stamps[source.name], files)
        if record is not None:
            records[source.name] = record
            continue
        workplace.discard(source.name, files)
        done = workplace.done / source.name
        tasks.append(SourceTask(source, stamps[source.name], rules, workplace.partial / source.name, done))
    if records:
        sys.stderr.write(f"{len(records)} of {len(sources)} sources are finished already\n")
    failures: list[Reject] = []
    labels = {task.source.name: task.source.label for task in tasks}
    with Progress(labels, workplace.partial) as progress, contextlib.ExitStack() as stack:
        # Short work first, so that something is there soon; see `run_tasks` for who takes the long.
        tasks.sort(key=lambda task: (cost_of(task.source), task.source.label))
        outcomes = run_tasks(prepare_source, tasks, min(workers, max(1, len(tasks))))
        stack.callback(outcomes.close)
        for outcome in outcomes:
            source = outcome.task.source
            if outcome.failure is not None:
                reason = "crashed" if outcome.failure.died else "failed"
                why = f"{outcome.failure.reason}; tried again by the next call"
                failures.append(Reject(source.label, reason, why))
                progress.tell(f"{source.label}: {outcome.failure.details}")
            else:
                assert outcome.result is not None
                records[source.name] = outcome.result
            progress.done(source.name, 0 if outcome.result is None else len(outcome.result.clips))
    failures.sort(key=lambda reject: reject.source)
    return [(source, records[source.name]) for source in sources if source.name in records], failures


def _agree_on_rules(workplace: "Workplace", rules: "ClipRules", *, redo: bool) -> None:
    """Refuse to mix clips that were made by different rules."""
    from training.data import DataError
    from training.prepare.assembly import write_text

    wanted = {"version": _VERSION, **dataclasses.asdict(rules)}
    if workplace.rules.is_file():
        try:
            found = json.loads(workplace.rules.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{workplace.rules} is damaged ({error}): --redo begins anew") from error
        changed = [
            f"{name} {found.get(name)} instead of {wanted[name]}" for name in wanted if _differs(found, wanted, name)
        ]
        if changed and not redo:
            raise DataError(
                f"{workplace.out} was prepared by other rules: {', '.join(changed)}; choose another folder, or discard "
                "its clips by --redo"
            )
        if changed:
            workplace.discard_all()
    write_text(workplace.rules, json.dumps(wanted, indent=1) + "\n")


def _differs(found: Any, wanted: dict[str, Any], name: str) -> bool:
    return not isinstance(found, dict) or name not in found or found[name] != wanted[name]


def _warn_of_unused(
    table: Mapping[str, "Statement"], identities: "Identities", records: Sequence[tuple["Source", "Record"]]
) -> None:
    used = {key for source, record in records for clip in record.clips for key in identities.keys(source, clip.track)}
    if unused := sorted(set(table) - used):
        sys.stderr.write(f"no clip is of {len(unused)} sources of the identities' table, such as {unused[0]}\n")


@contextlib.contextmanager
def _one_at_a_time(workplace: "Workplace") -> Iterator[None]:
    """Make the folder, and keep a second call out of it."""
    from training.data import DataError

    out = workplace.out
    try:
        if out.exists() and not out.is_dir():
            raise DataError(f"cannot write into {out}: got a file, expected a folder or a new name")
        if out.is_dir() and any(out.iterdir()) and not workplace.state.is_dir():
            raise DataError(f"{out} holds something else: choose an empty folder, or one that prepare made")
        workplace.state.mkdir(parents=True, exist_ok=True)
        claim = Claim(workplace.state / "lock")
        alone = claim.take()
    except OSError as error:
        raise DataError(f"cannot write into {out}: {error.strerror or error}; choose another place") from error
    if not alone:
        raise DataError(f"another call is preparing {out}: wait for it, or choose another folder")
    try:
        workplace.clean()
        try:
            yield
        finally:
            workplace.clean()
    finally:
        claim.release()
