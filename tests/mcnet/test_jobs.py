"""Batches: what a table may say, what becomes of every job, and that a second run does only what is left."""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from mcnet import engine
from mcnet.__main__ import main
from mcnet.commands import batch
from mcnet.commands.animate_options import parse_one
from mcnet.commands.batch import Place, outcomes_here, places_here
from mcnet.commands.jobs import JobsError, Outcome, do, read_jobs, read_results, write_results
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
    with handled_by(signal.default_int_handler, signal.SIGINT):
        assert run(tmp_path, "woman_1,endless.mp4,a.txt", words=("--at-once", "1")) == 130
    thread.join()
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
