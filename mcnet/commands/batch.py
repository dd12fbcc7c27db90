"""`mcnet animate --jobs`: many animations from a table, several at once, and on from where they were interrupted."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from mcnet.commands.arguments import whole_number
from mcnet.commands.jobs import (
    ANY_GPU,
    NEEDED,
    Job,
    JobsError,
    Outcome,
    Parse,
    Perform,
    do,
    gone_on,
    known_outcomes,
    outcome_of,
    read_jobs,
    read_results,
    write_results,
)
from mcnet.commands.outputs import check_outputs
from mcnet.commands.status import INTERRUPTED
from mcnet.files import as_written, claimed, remove_left_scratch
from mcnet.processes import start_process
from mcnet.signals import StopSignals

_CORES_PER_JOB = 4
"""More cores make one frame little faster; more jobs at once make the batch faster."""
_TELL_EVERY_S = 0.5
_POLL_S = 0.2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the group of options for batches."""
    batch = parser.add_argument_group("batches", "in place of --source, --driving and --output")
    batch.add_argument(
        "--jobs",
        type=as_written,
        metavar="CSV",
        help="do all animations of this table: columns source, driving, output, and further options of this command "
        "(motion, max-frames) by name; places are relative to the table's folder. Options beside --jobs hold for every "
        "job that does not say otherwise",
    )
    batch.add_argument(
        "--results",
        type=as_written,
        metavar="CSV",
        help="table of what became of each job; jobs that it says are done are left out (default: the table's name "
        "with .results.csv)",
    )
    batch.add_argument(
        "--at-once",
        type=whole_number(1, 1024),
        metavar="N",
        help="jobs in work at a time (default: one per GPU, else one per four cores)",
    )
    batch.add_argument(
        "--on",
        choices=["here", "ray"],
        default="here",
        help="here, or on the cluster that Ray is connected to, which has to see the same files (default: here)",
    )


def run(args: argparse.Namespace, words: Sequence[str], parse: Parse, perform: Perform) -> int:
    """Do all jobs that are not done yet; returns the exit status: 0 all done, 1 some failed, 130 interrupted.

    Args:
        args: of `mcnet animate --jobs`.
        words: what they were made from.
        parse: see `Parse`.
        perform: see `Perform`.

    Raises:
        JobsError, OutputError: the table cannot be used, or the results cannot be written, or another batch is at work
            on either; nothing was done.
    """
    table = Path(args.jobs)
    if table.is_dir():
        raise JobsError(f"--jobs {table}: it is a folder, expected a CSV table; name a file of it")
    results = args.results or table.with_suffix(".results.csv")
    check_outputs({"--results": results}, {"--jobs": table})
    with _alone_at({"--jobs": table, "--results": results}):
        jobs = read_jobs(table, shared_arguments(words), parse)
        before = read_results(results)
        outcomes = known_outcomes(jobs, before)
        left, earlier = gone_on([job for job in jobs if job.row not in outcomes], before)
        if outcomes:
            print(f"{len(outcomes)} of {len(jobs)} jobs are done already, by {results}", file=sys.stderr)
        with StopSignals() as stop:
            for outcome in _outcomes(left, args, perform, stop):
                outcomes[outcome.row] = outcome
                told = earlier | outcomes
                write_results(results, [told[row] for row in sorted(told)])
                print(f"{len(outcomes)}/{len(jobs)} {line(outcome)}", flush=True)
    failed = sum(outcome.state == "failed" for outcome in outcomes.values())
    done = sum(outcome.state == "done" for outcome in outcomes.values())
    print(f"{results}: {done} of {len(jobs)} jobs done, {failed} failed")
    if stop.received:
        print("interrupted: the same command goes on with what is left", file=sys.stderr)
        return INTERRUPTED
    return 1 if done < len(jobs) else 0


@contextlib.contextmanager
def _alone_at(files: Mapping[str, Path]) -> Iterator[None]:
    """Claim files while the block runs: a second batch would do the same jobs, and each write over the other's results.

    Raises:
        JobsError: another batch has one of them.
    """
    with contextlib.ExitStack() as stack:
        for option, path in files.items():
            if not stack.enter_context(claimed(path)):
                raise JobsError(
                    f"{option} {path}: another mcnet animate --jobs is at work on it, expected one at a time; wait "
                    "until it has ended, then the same command does what is left"
                )
        yield


def _outcomes(jobs: Sequence[Job], args: argparse.Namespace, perform: Perform, stop: StopSignals) -> Iterator[Outcome]:
    if args.on == "ray":
        from mcnet.commands.batch_on_ray import outcomes_on_ray

        return outcomes_on_ray(jobs, perform, args.at_once, stop)
    places = list(places_here(args.device, args.at_once))
    return outcomes_here(jobs, perform, places, stop, bars=sys.stderr.isatty())


def shared_arguments(words: Sequence[str]) -> list[str]:
    """What the command line says besides the batch's own options: it holds for every job.

    Raises:
        JobsError: it names a file of one job.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_options(own)
    shared = own.parse_known_args(words)[1]
    for name in (*NEEDED, "contact-sheet", "save-motion"):
        if any(word == f"--{name}" or word.startswith(f"--{name}=") for word in shared):
            raise JobsError(f"--{name}: it goes with one animation; beside --jobs it is a column of the table")
    return shared


def line(outcome: Outcome) -> str:
    """An outcome for people."""
    what = f"{outcome.source} by {outcome.driving}"
    if outcome.state == "failed":
        return f"{what}: failed: {outcome.message}"
    held = f", {outcome.held} of them held" if outcome.held else ""
    note = f"; {outcome.message}" if outcome.message else ""
    return f"{what}: {outcome.state}, {outcome.output}, {outcome.frames} frames{held}, {outcome.seconds:.1f} s{note}"


class Doing(NamedTuple):
    """What a job in work told last.

    Attributes:
        what: the pass over the video.
        frames: of it that are done.
        expected: how many there are, if that is known.
    """

    what: str = "starting"
    frames: int = 0
    expected: int | None = None


class Place(NamedTuple):
    """Where a job runs.

    Attributes:
        cores: the processor's; empty: wherever the system likes.
        gpu: for jobs that leave it open which, as `--device` has it; None: as the job's own options say.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None


def places_here(device: str, at_once: int | None) -> Iterator[Place]:
    """One per GPU where there are some and none was chosen, else one per group of cores.

    Args:
        device: as `--device` has it.
        at_once: how many; None: every GPU, or groups of four cores.
    """
    if device in ANY_GPU:
        from mcnet.engine import gpus

        if names := list(gpus()):
            for number in range(at_once or len(names)):
                yield Place(gpu=names[number % len(names)])
            return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    groups = at_once or max(1, (len(cores) or os.cpu_count() or 1) // _CORES_PER_JOB)
    for number in range(groups):
        yield Place(tuple(cores[number::groups]) if len(cores) >= groups else ())


class _Working:
    """A job in a process of its own, so that a crash of a library ends that job and no other."""

    def __init__(self, job: Job, perform: Perform, slot: int, place: Place) -> None:
        self.job, self.slot = job, slot
        self.doing = Doing()
        self.stopping = False
        self._began_s = time.monotonic()
        self.process, self.pipe = start_process(_work, job, perform, place, duplex=False)

    def stop(self) -> None:
        """Ask the job to end with what it has."""
        self.stopping = True
        self.process.terminate()

    def _clear_up(self) -> None:
        """Remove what the process could not: it would lie in a folder of pictures that is to be empty, for one."""
        from mcnet.media.numbered import pictures_to_be

        for place in self.job.written:
            for scratch in (place, pictures_to_be(place)):
                remove_left_scratch(scratch, self.process.pid)

    def hear(self) -> Outcome | None:
        """Take one message; the outcome once there is one."""
        try:
            message = self.pipe.recv()
        except EOFError:
            self.process.join()
            self._clear_up()
            seconds = time.monotonic() - self._began_s
            if self.stopping:  # before there was anything to write
                return outcome_of(self.job, "interrupted", seconds=seconds)
            why = f"its process ended with {self.process.exitcode}: out of memory, or a library crashed"
            return outcome_of(self.job, "failed", seconds=seconds, message=why)
        if isinstance(message, Doing):
            self.doing = message
            return None
        self.process.join()
        assert isinstance(message, Outcome)
        return message


def outcomes_here(
    jobs: Iterable[Job], perform: Perform, places: Sequence[Place], stop: StopSignals, *, bars: bool = False
) -> Iterator[Outcome]:
    """Do the jobs, one process each and as many at once as there are places, in order; as they end.

    Args:
        jobs: what is to be done.
        perform: does one.
        places: where.
        stop: once it has received a signal no job is begun, and those in work end with what they have.
        bars: whether to draw a bar for every job in work to stderr.
    """
    waiting, free = iter(jobs), list(range(len(places)))[::-1]
    working: dict[Connection, _Working] = {}
    drawn = _Bars(len(places)) if bars else None
    over = False
    while True:
        while free and not over and not stop.received:
            job = next(waiting, None)
            if job is None:
                over = True
            else:
                slot = free.pop()
                begun = _Working(job, perform, slot, places[slot])
                working[begun.pipe] = begun
        if not working:
            break
        if stop.received:
            for one in working.values():
                if not one.stopping:
                    one.stop()
        for pipe in wait(list(working), _POLL_S):
            assert isinstance(pipe, Connection)
            one = working[pipe]
            outcome = one.hear()
            if drawn is not None:
                drawn.draw(one.slot, one.job, one.doing, over=outcome is not None)
            if outcome is not None:
                del working[pipe]
                free.append(one.slot)
                yield outcome
    if drawn is not None:
        drawn.close()


class _Bars:
    """A bar per place on a terminal."""

    def __init__(self, count: int) -> None:
        from tqdm import tqdm

        self._bars = [tqdm(position=place, leave=False, unit=" frames", file=sys.stderr) for place in range(count)]

    def draw(self, slot: int, job: Job, doing: Doing, *, over: bool) -> None:
        bar = self._bars[slot]
        name = f"{job.row} {Path(job.output).name}"
        bar.set_description_str(f"{name}: {doing.what}" if not over else "", refresh=False)
        bar.total, bar.n = (None, 0) if over else (doing.expected, doing.frames)
        bar.refresh()

    def close(self) -> None:
        for bar in self._bars:
            bar.close()


def _work(pipe: Connection, job: Job, perform: Perform, place: Place) -> None:
    """The process of a job: nothing heavy is imported before its cores are its own."""
    if place.cores:
        os.sched_setaffinity(0, place.cores)
    last_s = 0.0

    def tell(what: str, frames: int, expected: int | None) -> None:
        nonlocal last_s
        if frames == 0 or time.monotonic() - last_s >= _TELL_EVERY_S:
            last_s = time.monotonic()
            pipe.send(Doing(what, frames, expected))

    pipe.send(do(job, perform, place.gpu, tell))
