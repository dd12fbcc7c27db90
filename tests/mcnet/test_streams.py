"""Standard output and standard error that are closed, full, or left by their reader, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from tqdm import tqdm
from mcnet.streams import steady_streams, untold

steady_streams()
with open(sys.argv[1], "wb") as file:
    number = file.fileno()
    for _ in tqdm(range(3)):
        print("worked", flush=True)
    print("name \\udcfd", os.fsdecode(b"\\xc3\\xa9"))
    print("why not", file=sys.stderr)
    why = untold()
    file.write(f"{number > 2} {why}".encode())
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")


def run(folder: Path, redirections: str, **settings: str) -> "tuple[subprocess.CompletedProcess[bytes], str]":
    """The process of the script, and what it found out."""
    found = folder / "found.txt"
    command = ["sh", "-c", f'"$0" -c "$1" "$2" {redirections}', sys.executable, SCRIPT, str(found)]
    done = subprocess.run(command, capture_output=True, env=os.environ | settings, timeout=60)
    return done, found.read_text(encoding="utf-8")


@posix
@pytest.mark.parametrize(
    "redirections", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | true", "2>&1 >/dev/null | true"]
)
def test_what_cannot_be_told_loses_no_work(tmp_path: Path, redirections: str) -> None:
    done, found = run(tmp_path, redirections)
    assert (done.returncode, found) == (0, "True ")
    assert b"Error" not in done.stderr
    assert b"Exception" not in done.stderr


@posix
def test_output_that_goes_nowhere_is_told_of_in_the_end(tmp_path: Path) -> None:
    done, found = run(tmp_path, ">/dev/full")
    assert (done.returncode, found) == (0, "True No space left on device")
    assert b"why not" in done.stderr


@posix
def test_a_terminal_that_closed_is_no_failure(tmp_path: Path) -> None:
    terminal, end = os.openpty()
    found = tmp_path / "found.txt"
    wait = 'print("ready", flush=True)\nsys.stdin.readline()\n'
    script = SCRIPT.replace("steady_streams()\n", f"steady_streams()\n{wait}", 1)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(found)], stdin=subprocess.PIPE, stdout=end, stderr=end
    ) as process:
        os.close(end)
        assert os.read(terminal, 100).strip() == b"ready"
        os.close(terminal)
        process.communicate(b"go on\n", timeout=60)
    assert (process.returncode, found.read_text(encoding="utf-8")) == (0, "True ")


@posix
@pytest.mark.parametrize(
    ("encoding", "printed"), [("utf-8:strict", b"name \\udcfd \xc3\xa9"), ("ascii:strict", b"name \\udcfd \\xe9")]
)
def test_names_that_are_no_text_in_the_outputs_encoding_are_printed(
    tmp_path: Path, encoding: str, printed: bytes
) -> None:
    done, _ = run(tmp_path, "", PYTHONIOENCODING=encoding)
    assert done.stdout.splitlines()[-1] == printed


def test_what_a_test_has_put_in_their_place_stays(capsys: pytest.CaptureFixture[str]) -> None:
    from mcnet.streams import steady_streams, untold

    before = sys.stdout, sys.stderr
    steady_streams()
    assert (sys.stdout, sys.stderr) == before
    assert not untold()
    assert capsys.readouterr() == ("", "")
