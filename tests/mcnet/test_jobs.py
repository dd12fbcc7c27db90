"""Batches: what a table may say, what becomes of every job, and that a second run does only what is left."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mcnet import engine, model_file
from mcnet.__main__ import main
from mcnet.commands import batch
from mcnet.commands.animate_options import parse_one
from mcnet.commands.batch import Place, outcomes_here, places_here
from mcnet.commands.jobs import (
    NEEDED,
    JobsError,
    Outcome,
    do,
    known_outcomes,
    outcome_of,
    read_jobs,
    read_results,
    write_results,
)
from mcnet.commands.outputs import OutputError
from mcnet.files import Claim
from mcnet.signals import STOPPING, StopSignals, handled_by
from tests.mcnet.stand_in_jobs import perform
from tests.media.videos import GRID


def table(folder: Path, *rows: str, header: str = "source,driving,output") -> Path:
    path = folder / "jobs.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def run(folder: Path, *rows: str, words: tuple[str, ...] = (), header: str = "source,driving,output") -> int:
    words = ("--jobs", str(table(folder, *rows, header=header)), *words)
    return batch.run(parse_one(words), words, parse_one, perform)


def states(folder: Path) -> list[str]:
    return [outcome.state for outcome in read_results(folder / "jobs.results.csv")]


def test_every_job_has_its_outcome_whatever_becomes_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("woman_1,good.mp4,a.mp4", "woman_1,fail.mp4,b.mp4", "woman_1,break.mp4,c.mp4", "woman_1,die.mp4,d.mp4")
    assert run(tmp_path, *rows, "woman_2,good.mp4,e.mp4", words=("--at-once", "2")) == 1
    results = read_results(tmp_path / "jobs.results.csv")
    assert [one.row for one in results] == [1, 2, 3, 4, 5]
    assert [one.state for one in results] == ["done", "failed", "failed", "failed", "done"]
    assert (results[0].frames, results[0].held) == (5, 1)
    assert results[1].message.startswith("no face in ")
    assert results[2].message == "ZeroDivisionError: a bug"
    assert "-9" in results[3].message
    out, err = capsys.readouterr()
    assert "3 failed" in out
    assert "woman_1 by fail.mp4: failed: no face in" in out
    assert "chatter" not in err


def test_a_second_run_does_what_is_left_and_what_has_changed(tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_text("a video", encoding="utf-8")
    rows = ["woman_1,good.mp4,a.txt", "woman_1,fail.mp4,b.txt", "woman_1,other.mp4,c.txt", "woman_1,third.mp4,d.txt"]
    assert run(tmp_path, *rows) == 1
    first = {name: (tmp_path / name).read_text(encoding="utf-8") for name in ("a.txt", "c.txt", "d.txt")}
    (tmp_path / "c.txt").unlink()
    rows[1] = "woman_1,mended.mp4,b.txt"
    rows[3] = "woman_2,third.mp4,d.txt"
    assert run(tmp_path, *rows) == 0
    assert states(tmp_path) == ["done"] * 4
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == first["a.txt"], "it was done already"
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") != first["c.txt"], "its output was gone"
    assert (tmp_path / "d.txt").read_text(encoding="utf-8") != first["d.txt"], "another portrait"
    (tmp_path / "good.mp4").write_text("another video", encoding="utf-8")
    assert run(tmp_path, *rows) == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") != first["a.txt"], "another video under the same name"


def pictures(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def signalled_in_work(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> Iterator[None]:
    """Send this process a signal once a job in the block is under way."""
    begun = threading.Event()
    start = batch._Working.hear

    def hear(self: batch._Working) -> Outcome | None:
        outcome = start(self)
        begun.set()
        return outcome

    monkeypatch.setattr(batch._Working, "hear", hear)

    def stop() -> None:
        begun.wait(60)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    yield
    thread.join()


@pytest.mark.usefixtures("_signals_are_heard")
def test_an_interrupted_folder_of_pictures_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with signalled_in_work(monkeypatch, signal.SIGTERM):
        assert run(tmp_path, "woman_1,endless.mp4,pngs/") == 130
    first = pictures(tmp_path / "pngs")
    assert len(first) == 4
    assert run(tmp_path, "woman_1,endless.mp4,pngs/") == 0
    then = pictures(tmp_path / "pngs")
    assert list(then) == ["000000.png", "000001.png", "000002.png"], "what the longer one had besides is gone"
    assert not set(then.values()) & set(first.values())
    assert run(tmp_path, "woman_1,endless.mp4,pngs/") == 0
    assert pictures(tmp_path / "pngs") == then, "it was done already"


def test_pictures_that_a_batch_left_make_way_once_there_are_others(tmp_path: Path) -> None:
    """Whether the job was done or torn; and they wait while it fails anew, or is not reached."""
    assert run(tmp_path, "woman_1,good.mp4,a/", "woman_1,tear.mp4,b/") == 1
    done, torn = pictures(tmp_path / "a"), pictures(tmp_path / "b")
    assert (len(done), len(torn)) == (3, 2)
    assert run(tmp_path, "woman_1,fail.mp4,a/", "woman_1,die.mp4,b/") == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "outcomes_here", lambda jobs, *_, **__: [outcome_of(jobs[0], "interrupted")])
        assert run(tmp_path, "woman_1,fail.mp4,b/", "woman_1,other.mp4,a/") == 1
    assert (pictures(tmp_path / "a"), pictures(tmp_path / "b")) == (done, torn)
    assert run(tmp_path, "woman_1,other.mp4,a/", "woman_1,good.mp4,b/") == 0
    for folder, before in (("a", done), ("b", torn)):
        after = pictures(tmp_path / folder)
        assert len(after) == 3
        assert not set(after.values()) & set(before.values())


def test_what_a_crash_left_of_pictures_is_gone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "new"):
        assert run(tmp_path, f"woman_1,crash.mp4,{folder}/") == 1
        assert "-9" in read_results(tmp_path / "jobs.results.csv")[0].message
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "jobs.csv", "jobs.results.csv"]
    assert run(tmp_path, "woman_1,good.mp4,empty/") == 0
    before = pictures(tmp_path / "empty")
    assert run(tmp_path, "woman_1,crash.mp4,empty/") == 1
    assert pictures(tmp_path / "empty") == before
    assert run(tmp_path, "woman_1,good.mp4,empty/") == 0
    assert not set(pictures(tmp_path / "empty").values()) & set(before.values())


def test_pictures_that_are_not_the_batchs_own_stay(tmp_path: Path) -> None:
    own, edited, beside = (tmp_path / name for name in ("own", "edited", "beside"))
    own.mkdir()
    (own / "000000.png").write_bytes(b"from a camera")
    rows = ("woman_1,tear.mp4,own/", "woman_1,tear.mp4,edited/", "woman_1,tear.mp4,beside/")
    assert run(tmp_path, *rows) == 1
    (edited / "000001.png").write_bytes(b"retouched")
    (beside / "notes.txt").write_text("mine", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    assert len(before) == 6
    for driving in ("tear", "good", "good"):
        assert run(tmp_path, *(row.replace("tear", driving) for row in rows)) == 1
        outcomes = read_results(tmp_path / "jobs.results.csv")
        assert ["is not empty" in outcome.message for outcome in outcomes] == [True] * 3
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


def test_results_of_an_older_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_results(path, [Outcome(1, "done", "woman_1", "a.mp4", "b.mp4", key="k")])
    head, line = path.read_text(encoding="utf-8").splitlines()
    path.write_text(f"{head.removesuffix(',wrote')}\n{line.removesuffix(',')}\n", encoding="utf-8")
    assert [one.key for one in read_results(path)] == ["k"]


@pytest.mark.parametrize(("held", "option"), [("jobs.csv", "--jobs"), ("jobs.results.csv", "--results")])
def test_a_second_batch_beside_the_first_does_nothing(tmp_path: Path, held: str, option: str) -> None:
    """By the table: its jobs are being done. By the results: each would write over the other's."""
    first = Claim.beside(tmp_path / held)
    assert first.take()
    with pytest.raises(JobsError, match=rf"{option} .*{held}: another mcnet animate --jobs is at work on it"):
        run(tmp_path, "woman_1,good.mp4,a.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"jobs.csv", first.path.name}
    first.release()
    assert run(tmp_path, "woman_1,good.mp4,a.txt") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"jobs.csv", "jobs.results.csv", "a.txt"}


def test_a_batch_is_claimed_while_its_jobs_are_in_work(tmp_path: Path) -> None:
    (tmp_path / "jobs.results.csv").write_text("no results\n1\n", encoding="utf-8")
    with pytest.raises(JobsError, match="no table of results"):
        run(tmp_path, "woman_1,good.mp4,a.txt")
    (tmp_path / "jobs.results.csv").unlink()
    found: list[bool] = []

    def begins(*_: object) -> list[Outcome]:
        found.extend(Claim.beside(tmp_path / name).take() for name in ("jobs.csv", "jobs.results.csv"))
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_outcomes", begins)
        assert run(tmp_path, "woman_1,good.mp4,a.txt") == 1
    assert found == [False, False]


def test_names_that_are_no_utf_8_are_kept_in_the_results(tmp_path: Path) -> None:
    said = Outcome(
        1, "failed", "woman_1", "a.mp4", "b.mp4", message=f"no video at {os.fsdecode(os.fsencode('é') + bytes([0xFF]))}"
    )
    write_results(tmp_path / "results.csv", [said])
    assert read_results(tmp_path / "results.csv") == [said]


def test_an_interrupted_batch_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"woman_1,slow.mp4,{name}.txt" for name in "abc"]

    def interrupt() -> None:
        deadline_s = time.monotonic() + 30
        while not (tmp_path / "a.txt").exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run(tmp_path, *rows, words=("--at-once", "1")) == 130
    thread.join()
    assert "goes on with what is left" in capsys.readouterr().err
    done = states(tmp_path)
    assert done[0] == "done"
    assert len(done) < 3
    kept = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert run(tmp_path, *rows, words=("--at-once", "3")) == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == kept


def test_jobs_run_side_by_side_on_cores_of_their_own(tmp_path: Path) -> None:
    words = ("--at-once", "2", "--device", "cpu")
    assert run(tmp_path, "woman_1,meet.mp4,a.txt", "woman_1,meet.mp4,b.txt", words=words) == 0
    (_, _, *cores_a), (_, _, *cores_b) = (
        (tmp_path / name).read_text(encoding="utf-8").split(" ") for name in ("a.txt", "b.txt")
    )
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1:
        assert not set("".join(cores_a).strip("[]").split(",")) & set("".join(cores_b).strip("[]").split(","))


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)), raising=False)
    assert list(places_here("cpu", None)) == [Place((0, 2, 4, 6, 8)), Place((1, 3, 5, 7))]
    assert list(places_here("cpu", 12)) == [Place()] * 12, "more jobs than cores share them"
    monkeypatch.setattr(engine, "gpus", lambda: {"cuda:0": "one", "cuda:2": "another"})
    assert list(places_here("auto", None)) == [Place(gpu="cuda:0"), Place(gpu="cuda:2")]
    assert [place.gpu for place in places_here("cuda", 3)] == ["cuda:0", "cuda:2", "cuda:0"]
    assert [place.gpu for place in places_here("cuda:1", 1)] == [None], "the one that was chosen"


@pytest.mark.parametrize(
    ("shared", "column", "taken"),
    [
        ((), "", "cuda:1"),
        (("--device", "cuda"), "", "cuda:1"),
        (("--device=auto",), "", "cuda:1"),
        (("--device", "cuda"), "cpu", "cpu"),
        ((), "cuda:3", "cuda:3"),
    ],
)
def test_a_job_that_leaves_it_open_is_told_which_gpu(
    tmp_path: Path, shared: tuple[str, ...], column: str, taken: str
) -> None:
    path = table(tmp_path, f"woman_1,good.mp4,a.txt,{column}", header="source,driving,output,device")
    (job,) = read_jobs(path, shared, parse_one)
    assert do(job, perform, "cuda:1").state == "done"
    assert f" {taken} " in (tmp_path / "a.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_jobs_in_work_with_what_they_have(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent to this process alone, as a service manager does; at once, and once the job is under way."""
    with signalled_in_work(monkeypatch, number), handled_by(signal.default_int_handler, signal.SIGINT):
        assert run(tmp_path, "woman_1,endless.mp4,a.txt", words=("--at-once", "1")) == 130
    (outcome,) = read_results(tmp_path / "jobs.results.csv")
    assert (outcome.state, outcome.message) == ("interrupted", "")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "half"


def test_a_job_that_is_ended_before_it_began_is_no_crash(tmp_path: Path) -> None:
    (job,) = read_jobs(table(tmp_path, "woman_1,endless.mp4,a.txt"), (), parse_one)
    with StopSignals() as stop:
        threading.Timer(0.05, lambda: setattr(stop, "received", "SIGTERM")).start()
        (outcome,) = outcomes_here([job], perform, [Place()], stop)
    assert (outcome.state, outcome.message) == ("interrupted", "")


def test_a_model_lies_beside_the_table_like_everything_else(tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_text("weights", encoding="utf-8")
    rows = ("woman_1,a.mp4,1.mp4,own.safetensors", "woman_1,a.mp4,2.mp4,starter")
    path = table(tmp_path, *rows, header="source,driving,output,model")
    first, second = read_jobs(path, (), parse_one)
    assert parse_one(first.arguments).model == str(tmp_path / "own.safetensors")
    assert parse_one(second.arguments).model == "starter"
    (tmp_path / "own.safetensors").write_text("other weights", encoding="utf-8")
    assert read_jobs(path, (), parse_one)[0].key != first.key


def test_a_job_is_done_again_where_anything_that_it_reads_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frames").mkdir()
    names = ("me.png", "room.png", "my.pem", "my.key", "frames/1.png", "bundled.safetensors")
    for name in names:
        (tmp_path / name).write_text("first", encoding="utf-8")
    monkeypatch.setattr(model_file, "bundled_models", lambda: {"starter": tmp_path / "bundled.safetensors"})
    header = "source,driving,output,background,signing-certificates,signing-key"
    path = table(tmp_path, "me.png,frames,a.mp4,room.png,my.pem,my.key", header=header)
    keys = {read_jobs(path, (), parse_one)[0].key}
    for name in names:
        (tmp_path / name).write_text("another", encoding="utf-8")
        keys.add(read_jobs(path, (), parse_one)[0].key)
    assert len(keys) == 1 + len(names)
    (tmp_path / "frames" / "a.mp4").write_text("what it wrote", encoding="utf-8")
    assert read_jobs(path, (), parse_one)[0].key in keys


def test_a_job_is_done_again_where_anything_that_it_wrote_is_gone(tmp_path: Path) -> None:
    header = "source,driving,output,contact-sheet,save-motion"
    path = table(tmp_path, "woman_1,a.mp4,pngs/,sheet.png,motion.safetensors", header=header)
    (job,) = read_jobs(path, (), parse_one)
    (tmp_path / "pngs").mkdir()
    written = [tmp_path / name for name in ("pngs/000000.png", "sheet.png", "motion.safetensors")]
    for file in written:
        file.touch()
    done = [outcome_of(job, "done")]
    assert known_outcomes([job], done)
    for file in written:
        file.unlink()
        assert not known_outcomes([job], done), file
        file.touch()


def test_places_may_begin_at_home_and_portraits_have_no_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    columns = (*NEEDED, "contact-sheet", "save-motion", "signing-certificates", "signing-key", "model", "background")
    (home / "model").touch()
    (home / "background").touch()
    header = ",".join(columns)
    (job,) = read_jobs(
        table(tmp_path, ",".join(f"~/{name}" for name in header.split(",")), header=header), (), parse_one
    )
    args = vars(parse_one(job.arguments))
    assert {name: str(args[name.replace("-", "_")]) for name in columns} == {name: str(home / name) for name in columns}
    (tmp_path / "portrait").touch()
    path = table(tmp_path, "portrait,~/a/,~/b/", "woman_1,a,c")
    first, second = (parse_one(job.arguments) for job in read_jobs(path, (), parse_one))
    assert first.source == str(tmp_path / "portrait"), "a file goes first"
    assert first.output == f"{home}/b/", "a folder stays one"
    assert second.source == "woman_1"
    said = parse_one(["--driving=~/a", "--output=~/b/", "--contact-sheet=~/c", "--save-motion=~/d", "--jobs=~/e"])
    assert (said.driving, said.output) == (home / "a", f"{home}/b/")
    assert (said.contact_sheet, said.save_motion, said.jobs) == (home / "c", home / "d", home / "e")


def test_columns_are_options_and_go_before_those_of_the_batch(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "woman_1,a.mp4,1.mp4,plane,,yes",
        "faces/me.png,a.mp4,frames/,,12,",
        header="source,driving,output,motion,max-frames,no-crop",
    )
    jobs = read_jobs(path, ("--motion", "space", "--max-frames", "7"), parse_one)
    first, second = (parse_one(job.arguments) for job in jobs)
    assert (first.motion, first.max_frames, first.no_crop) == ("plane", 7, True)
    assert (second.motion, second.max_frames, second.no_crop) == ("space", 12, False)
    assert first.source == "woman_1"
    assert second.source == str(tmp_path / "faces/me.png"), "relative to the table"
    assert second.output == f"{tmp_path}/frames/", "a folder stays one"


def test_signing_files_are_relative_to_the_table(tmp_path: Path) -> None:
    header = "source,driving,output,signing-certificates,signing-key"
    jobs = read_jobs(table(tmp_path, "woman_1,a.mp4,1.mp4,chain.pem,keys/my.pem", header=header), (), parse_one)
    args = parse_one(jobs[0].arguments)
    assert args.signing_certificates == str(tmp_path / "chain.pem")
    assert args.signing_key == str(tmp_path / "keys" / "my.pem")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got columns none, expected source, driving, output"),
        ("source,output\na,b\n", "got columns source, output, expected source, driving, output"),
        ("source,driving,output\n", "it has no job"),
        ("source,driving,output\na,b\n", "job 1: it has not as many cells as the header, expected 3"),
        ("source,driving,output\na,b,c,d\n", "job 1: it has not as many cells as the header, expected 3"),
        ("source,driving,output\na,b,c\na,,d\n", "job 2: driving is empty"),
        ("source,driving,output,motion\na,b,c,up\n", "job 1: argument --motion: invalid choice: 'up'"),
        ("source,driving,output,driving\na,b,c,d\n", "got two columns driving, expected one"),
        ("source,driving,output,\na,b,c,\na,d,e,f\n", "job 2: it has a cell in a column without a name"),
        ("source,driving,output\na,b,c\0d\n", "job 1: output has a NUL character"),
        ("source,driving,output,help\na,b,c,yes\n", "job 1: unrecognized arguments: --help"),
        ("source;driving;output\na;b;c\n", "if wanted, with commas between them"),
        ("source,driving,output,speed\na,b,c,1\n", "job 1: unrecognized arguments: --speed=1"),
        ("source,driving,output,jobs\na,b,c,1\n", "got a column jobs, which is of the whole batch"),
        ("source,driving,output\na,b,c\na,d,./c\n", "job 2: job 1 writes ./c too"),
        ("source,driving,output,save-motion\na,b,c,m.safetensors\na,d,e,m.safetensors\n", "m.safetensors too; choose"),
        ("source,driving,output,contact-sheet\na,b,c.png,\na,d,e,./c.png\n", "job 2: job 1 writes "),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_before_any_work(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(JobsError) as told:
        read_jobs(path, (), parse_one)
    assert message in str(told.value)


CLASHES = [
    ("p.png,a.mp4,b.mp4,,,", "p.png,b.mp4,c.mp4,,,", 1, "b.mp4", 2),
    ("p.png,b.mp4,c.mp4,,,", "p.png,a.mp4,link.mp4,,,", 2, "link.mp4", 1),
    ("p.png,b.mp4,c.mp4,,,", "p.png,a.mp4,hard.mp4,,,", 2, "hard.mp4", 1),
    ("p.png,a.mp4,c.mp4,,,", "q.png,a.mp4,d.mp4,p.png,,", 2, "p.png", 1),
    ("p.png,m.safetensors,c.mp4,,,", "p.png,a.mp4,d.mp4,,m.safetensors,", 2, "m.safetensors", 1),
    ("p.png,a.mp4,room.mp4,,,", "p.png,a.mp4,d.mp4,,,room.mp4", 1, "room.mp4", 2),
    ("p.png,a.mp4,frames/,,,", "frames/1.png,a.mp4,d.mp4,,,", 1, "frames/", 2),
    ("p.png,frames,c.mp4,,,", "p.png,a.mp4,frames/x.gif,,,", 2, "frames/x.gif", 1),
    ("p.png,a.mp4,c.mp4,,,", "p.png,b.mp4,b.mp4,,,", 2, "b.mp4", 2),
]


@pytest.mark.parametrize(("first", "second", "writer", "written", "reader"), CLASHES)
def test_no_job_writes_what_any_of_them_reads(
    tmp_path: Path, first: str, second: str, writer: int, written: str, reader: int
) -> None:
    (tmp_path / "frames").mkdir()
    for name in ("p.png", "q.png", "a.mp4", "b.mp4", "room.mp4", "m.safetensors", "frames/1.png"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "link.mp4").symlink_to("b.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "b.mp4")
    before = sorted(tmp_path.rglob("*"))
    header = "source,driving,output,contact-sheet,save-motion,background"
    with pytest.raises(JobsError) as told:
        run(tmp_path, first, second, header=header)
    assert f"job {writer}: to write " in str(told.value)
    assert f"{written} would change " in str(told.value)
    assert f", which job {reader} reads; choose another name" in str(told.value)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "jobs.csv"]), "told before any work"


def test_a_job_may_write_beside_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").touch()
    rows = ("frames/1.png,frames,frames/out.mp4", "frames/1.png,frames,frames/pngs/")
    assert [job.row for job in read_jobs(table(tmp_path, *rows), (), parse_one)] == [1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--results", "r.csv"), "--results goes with --jobs"),
        (("--at-once", "2"), "--at-once goes with --jobs"),
        (("--on", "ray"), "--on goes with --jobs"),
        (("--background-blur", "0.2"), "--background-blur goes with --background blur"),
        (("--background-blur", "0.2", "--background", "own"), "--background-blur goes with --background blur"),
    ],
)
def test_an_option_that_would_say_nothing_is_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["animate", "--source", "woman_1", "--driving", "none.mp4", "--output", "a.mp4", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JobsError, match="there is no such file"):
        read_jobs(tmp_path / "none.csv", (), parse_one)
    (tmp_path / "jobs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobsError, match="expected a CSV table in UTF-8"):
        read_jobs(tmp_path / "jobs.csv", (), parse_one)
    (tmp_path / "jobs.results.csv").write_text("mine, not yours\n1,2\n", encoding="utf-8")
    with pytest.raises(JobsError, match="is no table of results"):
        run(tmp_path, "woman_1,good.mp4,a.txt")
    assert (tmp_path / "jobs.results.csv").read_text(encoding="utf-8") == "mine, not yours\n1,2\n"
    assert main(["animate", "--jobs", "."]) == 1
    assert "--jobs .: it is a folder, expected a CSV table" in capsys.readouterr().err
    with pytest.raises(OutputError, match="it would write over what --jobs reads"):
        run(tmp_path, "woman_1,good.mp4,a.txt", words=("--results", str(tmp_path / "jobs.csv")))
    with pytest.raises(OutputError, match="there is no folder"):
        run(tmp_path, "woman_1,good.mp4,a.txt", words=("--results", str(tmp_path / "nowhere" / "r.csv")))
    assert not (tmp_path / "a.txt").exists(), "told before any work"


def test_what_belongs_to_one_animation_is_no_option_of_a_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path, "woman_1,good.mp4,a.txt")
    for option in ("--output", "--contact-sheet", "--save-motion"):
        assert main(["animate", "--jobs", str(path), option, "x.mp4"]) == 1
        assert f"{option}: it goes with one animation; beside --jobs it is a column" in capsys.readouterr().err


@pytest.mark.usefixtures("_fastest_known")
def test_the_real_command_animates_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, f"woman_1,{GRID},a.mp4", f"woman_1,{tmp_path / 'none.mp4'},b.mp4")
    assert main(["animate", "--jobs", str(path), "--max-frames", "3", "--at-once", "1"]) == 1
    first, second = read_results(tmp_path / "jobs.results.csv")
    assert (first.state, first.frames) == ("done", 3)
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    assert second.state == "failed"
    assert "none.mp4" in second.message
    assert "1 of 2 jobs done, 1 failed" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # whatever Ray does
def test_ray_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is an optional package: pip install 'mcnet-avatar[cluster]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert run(tmp_path, "woman_1,good.mp4,a.txt", "woman_1,fail.mp4,b.txt", words=("--on", "ray")) == 1
    assert sorted(states(tmp_path)) == ["done", "failed"]
    assert read_results(tmp_path / "jobs.results.csv")[0].frames == 5


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mcnet.commands.batch_on_ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(JobsError, match=r"pip install 'mcnet-avatar\[cluster\]'"):
        run(tmp_path, "woman_1,good.mp4,a.txt", words=("--on", "ray"))


def test_a_job_here_and_now(tmp_path: Path) -> None:
    (job,) = read_jobs(table(tmp_path, "woman_1,good.mp4,a.txt"), (), parse_one)
    told: list[tuple[str, int, int | None]] = []
    outcome = do(job, perform, tell=lambda *what: told.append(what))
    assert isinstance(outcome, Outcome)
    assert told == [("animating", frame, 5) for frame in range(5)]
    assert isinstance(parse_one(job.arguments), argparse.Namespace)


def test_a_package_that_a_job_lacks_is_told_in_its_sentence_and_logged_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: object) -> NoReturn:
        raise ModuleNotFoundError(name="nowhere")

    (job,) = read_jobs(table(tmp_path, "woman_1,good.mp4,a.txt"), (), parse_one)
    outcome = do(job, lacking)
    assert (outcome.state, outcome.message.partition(";")[0]) == (
        "failed",
        "the package nowhere is not installed (pip install nowhere)",
    )
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
