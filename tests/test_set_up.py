"""`make demo` says what it does while pip works: `.ci/set-up`, with a Python that only plays pip."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci"
PLAYS = """#!/bin/sh
case "$*" in
    --version) echo Python 3.11.2 ;;
    "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "packaging/bundle.py requirements") echo openvino ;;
    "-m pip install"*)
        echo "$*" >>pip
        head -c 3000000 /dev/zero >"$TMPDIR/a" && sleep "$PIP_TAKES_S" && rm "$TMPDIR/a" && exit "$PIP_ENDS_WITH" ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's script")


def _set_up(folder: Path, ends_with: int, *what: str) -> "subprocess.CompletedProcess[str]":
    (folder / ".ci").mkdir()
    shutil.copy(CI / "set-up", folder / ".ci")
    (folder / ".ci" / "system-packages").write_text("exit 0\n", encoding="utf-8")
    python = folder / "python"
    python.write_text(PLAYS, encoding="utf-8")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "EVERY_S": "1", "PIP_ENDS_WITH": str(ends_with)}
    environment["PIP_TAKES_S"] = "0" if what else "2.5"
    command = ["sh", ".ci/set-up", *what]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )


def test_it_tells_each_step_how_much_there_is_and_how_far_it_is(tmp_path: Path) -> None:
    run = _set_up(tmp_path, 0)
    assert (run.returncode, run.stderr) == (0, "")
    assert [line[:5] for line in run.stdout.splitlines() if line.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert "Python 3.11.2" in run.stdout
    assert "about 600 MB" in run.stdout
    assert "      0 min 1 s: 3 MB in download, " in run.stdout
    assert "0 min 2 s:" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("      done: ")
    assert not (tmp_path / ".venv" / "downloads").exists()


def test_a_download_that_fails_says_what_to_do(tmp_path: Path) -> None:
    run = _set_up(tmp_path, 1)
    assert run.returncode == 1
    for help_for in ("no connection", "proxy", "no space left", "Python 3.11 or newer", "same command again"):
        assert help_for in run.stderr
    assert "done" not in run.stdout


def test_the_app_alone_is_set_up_without_pytorch(tmp_path: Path) -> None:
    run = _set_up(tmp_path, 0, "live")
    assert (run.returncode, run.stderr) == (0, "")
    assert "without PyTorch" in run.stdout
    calls = (tmp_path / "pip").read_text(encoding="utf-8").splitlines()
    assert [call.partition("version-check ")[2] for call in calls] == [
        "-r .venv/requirements.txt",
        "--no-deps --editable .",
    ]
    assert (tmp_path / ".venv" / "requirements.txt").read_text(encoding="utf-8") == "openvino\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make: apt-get install make")
def test_two_targets_at_once_do_not_set_up_at_once(tmp_path: Path) -> None:
    shutil.copy(CI.parent / "Makefile", tmp_path)
    (tmp_path / ".ci").mkdir()
    for name in ("pyproject.toml", ".ci/system-packages"):
        (tmp_path / name).touch()
    (tmp_path / ".ci" / "set-up").write_text(
        "mkdir busy || exit 9\nsleep 0.5\nmkdir -p .venv\nrmdir busy\n", encoding="utf-8"
    )
    command = ["make", "-j4", ".venv/.ready", ".venv/.live"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert {path.name for path in (tmp_path / ".venv").iterdir()} == {".ready", ".live"}


def _asked_in_a_terminal(tmp_path: Path, answer: bytes, sudo: str = "") -> tuple[int, str, list[list[str]]]:
    """`.ci/system-packages`, where every library is missing: its status, what it says, and what sudo was asked for.

    Args:
        tmp_path: holds the programs that it calls.
        answer: what the user types.
        sudo: what sudo does, in a shell's words.
    """
    import pty  # no system but a POSIX one has it

    programs = {
        "id": "echo 1000",
        "python": 'test "$2" = "import ctypes, sys; ctypes.CDLL(sys.argv[1])" && exit 1; exit 0',
    }
    programs |= {"sudo": f'echo "$@" >>sudo-was-asked\n{sudo}', "apt-get": "exit 9", "uname": "echo Linux"}
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    ours, theirs = pty.openpty()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": str(tmp_path / "python")}
    process = subprocess.Popen(
        ["sh", str(CI / "system-packages")], cwd=tmp_path, env=environment, stdin=theirs,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )  # fmt: skip
    os.write(ours, answer)
    said = process.communicate(timeout=30)[0]
    os.close(ours)
    os.close(theirs)
    assert "Install them now" in said
    asked = tmp_path / "sudo-was-asked"
    lines = asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []
    return process.returncode, said, [line.split() for line in lines]


@pytest.mark.parametrize("answer", [b"\n", b"y\n"])
def test_who_may_use_sudo_is_asked_and_need_not_copy_a_line(tmp_path: Path, answer: bytes) -> None:
    status, said, asked = _asked_in_a_terminal(tmp_path, answer)
    assert status == 0, said
    assert [words[:2] for words in asked] == [["apt-get", "update"], ["env", "DEBIAN_FRONTEND=noninteractive"]]
    assert {"libgl1", "libxcb-cursor0"} < {*asked[-1]}
    assert "sudo apt-get install" not in said


@pytest.mark.parametrize("answer", [b"n\n", b"\x04"])
def test_who_says_no_or_ends_the_input_is_given_the_line(tmp_path: Path, answer: bytes) -> None:
    status, said, asked = _asked_in_a_terminal(tmp_path, answer)
    assert (status, asked) == (1, [])
    assert "sudo apt-get install libgl1" in said


@pytest.mark.parametrize("fails", ["update", "install"])
def test_an_installation_that_fails_gives_the_line_too(tmp_path: Path, fails: str) -> None:
    """A wrong password, or no network."""
    status, said, asked = _asked_in_a_terminal(tmp_path, b"y\n", f'case "$*" in *{fails}*) exit 100 ;; esac')
    assert status == 1
    assert fails in asked[-1]
    assert "they could not be installed" in said
    assert "sudo apt-get install libgl1" in said


@pytest.mark.skipif(shutil.which("make") is None, reason="no make: apt-get install make")
def test_the_demo_without_a_display_shows_the_video_that_it_made(tmp_path: Path) -> None:
    app = tmp_path / "mcnet-avatar"
    app.write_text("#!/bin/sh\nset -C; echo new >out/demo.mp4\n", encoding="utf-8")  # never over what is there
    app.chmod(app.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo.mp4").write_text("old\n", encoding="utf-8")
    command = ["make", "-f", str(CI.parent / "Makefile"), "demo", "LIVE=", "DISPLAYED=", f"BIN={tmp_path}"]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True
    )
    assert "look at out/demo.mp4" in run.stdout
    assert (tmp_path / "out" / "demo.mp4").read_text(encoding="utf-8") == "new\n"
