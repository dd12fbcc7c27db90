"""A table of animations to do, and one of what became of them."""

import argparse
import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from mcnet.commands.animated_files import is_picture_name, read_by, written_by
from mcnet.commands.outputs import marks_of
from mcnet.errors import UserError, log_failure, sentence, told
from mcnet.files import as_written, followed, replacing

logger = logging.getLogger(__name__)

NEEDED = ("source", "driving", "output")
"""Columns that every table of jobs has."""
ANY_GPU = ("auto", "cuda")
"""Values of `--device` that leave it open which GPU."""
BATCH_OPTIONS = ("jobs", "results", "at-once", "on")
_PLACES = ("driving", "output", "contact-sheet", "save-motion", "signing-certificates", "signing-key")
"""Columns of files and folders."""
_PLACES_OR_NAMES = ("source", "model", "background")
"""Columns of what may be bundled, or no file, and goes by its name then; a file goes first."""

Tell = Callable[[str, int, int | None], None]
"""Told what is being done, how many frames of it are done, and of how many, if that is known."""

Parse = Callable[[Sequence[str]], argparse.Namespace]
"""Parses the arguments of one animation, and exits where they are wrong."""


class Done(Protocol):
    """What an animation came to.

    Attributes:
        frames: how many were written.
        held: how many of them show no face and hold the picture before.
        interrupted: whether a signal ended it early.
        missing: what was to be in what was written and is not, and why; or "".
    """

    @property
    def frames(self) -> int: ...

    @property
    def held(self) -> int: ...

    @property
    def interrupted(self) -> bool: ...

    @property
    def missing(self) -> str: ...


Perform = Callable[[Sequence[str], Tell | None, str], Done]
"""Does one animation, in this process; a function of a module, so that another process finds it. It is told the stamp
of the pictures in its folder that it may replace (`mcnet.media.numbered`), or ""."""


class JobsError(UserError, ValueError):
    """The table of jobs cannot be used; the message says where, what was got, and what was expected."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One animation.

    Attributes:
        row: its line in the table, counted from 1 without the header.
        arguments: of `mcnet animate`.
        source: the portrait, as the table has it.
        driving: the video, likewise.
        output: what is written, likewise.
        device: as `--device` has it.
        read: every file or folder that it reads.
        written: every file or folder that it writes, the output first.
        key: changes with the arguments, and with size and time of what is read; of a folder, of its pictures.
        replaces: stamp of the pictures that the batch left in its folder before, which make way for it; "" for none.
    """

    row: int
    arguments: tuple[str, ...]
    source: str
    driving: str
    output: str
    device: str
    read: tuple[Path, ...]
    written: tuple[Path, ...]
    key: str
    replaces: str = ""

    @property
    def place(self) -> Path:
        """Where the output is written."""
        return self.written[0]


class Outcome(NamedTuple):
    """What became of a job; a row of the table of results.

    Attributes:
        row: of the table of jobs.
        state: done, failed or interrupted.
        source: as in the table.
        driving: likewise.
        output: likewise.
        frames: that were written.
        held: how many of them show no face and hold the picture before.
        seconds: that it took.
        message: why it failed, or what is missing of it.
        key: of the job, as it was then.
        wrote: stamp of the pictures in its folder, of which none is anybody else's; "" for none.
    """

    row: int
    state: str
    source: str
    driving: str
    output: str
    frames: int = 0
    held: int = 0
    seconds: float = 0.0
    message: str = ""
    key: str = ""
    wrote: str = ""


def read_jobs(path: Path, shared: Sequence[str], parse: Parse) -> list[Job]:
    """Read and check the table: a CSV file in UTF-8 with a header.

    `source`, `driving` and `output` have to be there; every further column is an option of `mcnet animate` without its
    dashes (`motion`, `max-frames`, `side-by-side`). An empty cell leaves the option out; one that takes no value is set
    by `yes`. Relative places are the table's: they start from its folder; `~` is a home.

    Raises:
        JobsError: it cannot be read, or a row cannot be right, alone or beside the others; the first one is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except FileNotFoundError as error:
        raise JobsError(f"--jobs {path}: there is no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = told(error) if isinstance(error, OSError) else str(error)
        raise JobsError(f"--jobs {path}: cannot be read: {why}; expected a CSV table in UTF-8") from error
    if own := [name for name in BATCH_OPTIONS if name in columns]:
        raise JobsError(f"--jobs {path}: got a column {own[0]}, which is of the whole batch and not of a job")
    if any(name not in columns for name in NEEDED):
        raise JobsError(
            f"--jobs {path}: got columns {', '.join(columns) or 'none'}, expected {', '.join(NEEDED)}, and options of "
            "mcnet animate if wanted, with commas between them"
        )
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise JobsError(f"--jobs {path}: got two columns {twice[0]}, expected one; rename one of them or take it out")
    if not rows:
        raise JobsError(f"--jobs {path}: it has no job, expected a line for each under the header")
    jobs = [_job(number, row, path, shared, parse) for number, row in enumerate(rows, 1)]
    _refuse_clashes(path, jobs)
    return jobs


def _refuse_clashes(table: Path, jobs: Sequence[Job]) -> None:
    """See that no job writes what another one writes, or what any of them reads.

    What is read may lie in a folder that is written, or may be a folder that a picture is written into.

    Raises:
        JobsError: one does.
    """
    marks = functools.cache(lambda path: tuple(marks_of(path)))
    writers: dict[object, tuple[Job, Path]] = {}
    adding: dict[object, tuple[Job, Path]] = {}
    for job in jobs:
        for place in job.written:
            for mark in marks(place):
                if (other := writers.setdefault(mark, (job, place))[0]) is not job:
                    named = _named(job, place)
                    raise JobsError(
                        f"--jobs {table}, job {job.row}: job {other.row} writes {named} too; choose another name"
                    )
            for mark in marks(followed(place).parent) if is_picture_name(place) else ():
                adding.setdefault(mark, (job, place))
    for job in jobs:
        for path in job.read:
            over = (writers.get(mark) for place in (path, *followed(path).parents) for mark in marks(place))
            into = (adding.get(mark) for mark in marks(path))
            for writer, place in filter(None, (*over, *into)):
                raise JobsError(
                    f"--jobs {table}, job {writer.row}: to write {_named(writer, place)} would change {path}, which "
                    f"job {job.row} reads; choose another name, or do what reads it by a second table, later"
                )


def _named(job: Job, place: Path) -> str:
    return job.output if place == job.place else str(place)


def _job(
    number: int,
    row: dict[str, Any],
    table: Path,
    shared: Sequence[str],
    parse: Parse,
) -> Job:
    where = f"--jobs {table}, job {number}"
    if None in row or None in row.values():
        raise JobsError(f"{where}: it has not as many cells as the header, expected {len(row.keys() - {None})}")
    cells = {name: value.strip() for name, value in row.items()}
    if nul := [name for name, value in cells.items() if "\0" in value]:
        raise JobsError(f"{where}: {nul[0]} has a NUL character, expected text; type it anew")
    if cells.pop("", ""):
        raise JobsError(f"{where}: it has a cell in a column without a name; name it, or empty the cell")
    if empty := [name for name in NEEDED if not cells[name]]:
        raise JobsError(f"{where}: {empty[0]} is empty, expected a file's name")
    options = {name: value for name, value in cells.items() if value}
    for name in options.keys() & {*_PLACES, *_PLACES_OR_NAMES}:
        text = options[name]
        place = table.absolute().parent / as_written(text)
        may_be_name = name in _PLACES_OR_NAMES and (name != "source" or _may_be_bundled(text))
        if not may_be_name or _is_there(place):
            slash = os.sep if text.endswith(("/", os.sep)) else ""  # it makes a folder of what is written
            options[name] = f"{place}{slash}"
    arguments = list(shared)
    for name, value in options.items():
        arguments.append(f"--{name}" if value == "yes" else f"--{name}={value}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            args = parse(arguments)
    except SystemExit as error:
        raise JobsError(f"{where}: {said.getvalue().strip().rpartition('error: ')[2]}") from error
    read = tuple(read_by(args).values())
    return Job(
        number,
        tuple(arguments),
        cells["source"],
        cells["driving"],
        cells["output"],
        args.device,
        read,
        tuple(written_by(args).values()),
        _key(arguments, read),
    )


def _may_be_bundled(name: str) -> bool:
    return not Path(name).suffix and not {"/", os.sep} & {*name}


def _key(arguments: Sequence[str], read: Iterable[Path]) -> str:
    stamps: list[tuple[str, int, int]] = []
    for path in read:
        with contextlib.suppress(OSError):
            for file in _files_of(path):
                status = file.stat()
                stamps.append((file.name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps([list(arguments), stamps]).encode()).hexdigest()[:16]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    from mcnet.media.images import pictures_in

    return pictures_in(path)


def read_results(path: Path) -> list[Outcome]:
    """Those of a run before; none where there is no such file.

    Raises:
        JobsError: the file is not such a table.
    """
    try:
        with _text(path, "r") as file:
            return [
                Outcome(
                    row=int(row["row"]),
                    state=row["state"],
                    source=row["source"],
                    driving=row["driving"],
                    output=row["output"],
                    frames=int(row["frames"]),
                    held=int(row["held"]),
                    seconds=float(row["seconds"]),
                    message=row["message"],
                    key=row["key"],
                    wrote=row.get("wrote") or "",
                )
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise JobsError(
            f"--results {path}: it is there and is no table of results ({type(error).__name__}); choose another name, "
            "or move it away"
        ) from error


def write_results(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write them all, in place of those before."""
    with replacing(path) as partial, _text(partial, "w") as file:
        writer = csv.writer(file)
        writer.writerow(Outcome._fields)
        writer.writerows(outcomes)


def _text(path: Path, mode: str) -> IO[str]:
    """A table of results in UTF-8, but for names of files that are none: these keep their bytes."""
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def known_outcomes(jobs: Iterable[Job], results: Iterable[Outcome]) -> dict[int, Outcome]:
    """What a run before made of a job, by its row: of those that are as they were then, and whose files are there."""
    done = {outcome.key: outcome for outcome in results if outcome.state == "done"}
    known = {}
    for job in jobs:
        if job.key in done and all(map(_is_whole, job.written)):
            known[job.row] = done[job.key]._replace(row=job.row)
    return known


def _is_whole(place: Path) -> bool:
    return any(place.iterdir()) if place.is_dir() else _is_there(place)


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # too long a name, say
        return False


def gone_on(jobs: Sequence[Job], results: Iterable[Outcome]) -> tuple[list[Job], dict[int, Outcome]]:
    """Jobs that are to be done, with what a run before left in their folders.

    Returns:
        The jobs; and by their rows what became of them then, which holds until they are done.
    """
    before = {outcome.output: outcome for outcome in results}
    earlier = {job.row: before[job.output]._replace(row=job.row) for job in jobs if job.output in before}
    replacing_own = [
        dataclasses.replace(job, replaces=earlier[job.row].wrote) if job.row in earlier else job for job in jobs
    ]
    return replacing_own, earlier


def do(job: Job, perform: Perform, gpu: str | None = None, tell: Tell | None = None) -> Outcome:
    """Do one job in this process; a failure is its outcome, with the message that the command would give.

    Args:
        job: what is to be done.
        perform: does it.
        gpu: takes it, where the job leaves open which; as `--device` has it.
        tell: told how far it is.
    """
    from mcnet.media.numbered import stamp_of_pictures

    before = stamp_of_pictures(job.place)
    outcome = _do(job, perform, gpu, tell)
    # Pictures that lay there before and are none of the batch's keep the folder from being written.
    alone = before == "" or before == job.replaces
    return outcome._replace(wrote=stamp_of_pictures(job.place) or "") if alone else outcome


def _do(job: Job, perform: Perform, gpu: str | None, tell: Tell | None) -> Outcome:
    began_s = time.monotonic()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # how the model runs, which every job would say
            device = (f"--device={gpu}",) if gpu is not None and job.device in ANY_GPU else ()
            done = perform((*job.arguments, *device), tell, job.replaces)
    except (UserError, OSError) as error:
        why = told(error) if isinstance(error, OSError) else str(error)
        return outcome_of(job, "failed", seconds=time.monotonic() - began_s, message=why)
    except KeyboardInterrupt:
        return outcome_of(job, "interrupted", seconds=time.monotonic() - began_s)
    except Exception as error:  # the other jobs go on
        log_failure(logger, f"job {job.row}", error)
        return outcome_of(job, "failed", seconds=time.monotonic() - began_s, message=sentence(error))
    return outcome_of(
        job,
        "interrupted" if done.interrupted else "done",
        frames=done.frames,
        held=done.held,
        seconds=time.monotonic() - began_s,
        message=done.missing,
    )


def outcome_of(
    job: Job, state: str, *, frames: int = 0, held: int = 0, seconds: float = 0.0, message: str = ""
) -> Outcome:
    """A job's outcome; of its folder nothing is known but what was left there before."""
    return Outcome(
        job.row,
        state,
        job.source,
        job.driving,
        job.output,
        frames,
        held,
        round(seconds, 2),
        message,
        job.key,
        job.replaces,
    )
