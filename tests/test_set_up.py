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
    (folder / ".ci" / "system-packages").write_text("exit 0\n")
    python = folder / "python"
    python.write_text(PLAYS)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "EVERY_S": "1", "PIP_ENDS_WITH": str(ends_with)}
    environment["PIP_TAKES_S"] = "0" if what else "2.5"
    command = ["sh", ".ci/set-up", *what]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


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
    calls = (tmp_path / "pip").read_text().splitlines()
    assert [call.partition("version-check ")[2] for call in calls] == [
        "-r .venv/requirements.txt",
        "--no-deps --editable .",
    ]
    assert (tmp_path / ".venv" / "requirements.txt").read_text() == "openvino\n"


@pytest.mark.parametrize(("answer", "status"), [("", 0), ("y", 0), ("n", 1)])
def test_who_may_use_sudo_is_asked_and_need_not_copy_a_line(tmp_path: Path, answer: str, status: int) -> None:
    """In a terminal, and where every library is missing: a yes installs them, a no prints the line."""
    import pty  # no system but a POSIX one has it

    programs = {
        "id": "echo 1000",
        "python": 'test "$2" = "import ctypes, sys; ctypes.CDLL(sys.argv[1])" && exit 1; exit 0',
    }
    programs |= {"sudo": 'echo "$@" >>sudo-was-asked', "apt-get": "exit 9", "uname": "echo Linux"}
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    ours, theirs = pty.openpty()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": str(tmp_path / "python")}
    process = subprocess.Popen(
        ["sh", str(CI / "system-packages")], cwd=tmp_path, env=environment, stdin=theirs,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.write(ours, f"{answer}\n".encode())
    said = process.communicate(timeout=30)[0]
    os.close(ours)
    os.close(theirs)
    assert process.returncode == status, said
    assert "Install them now" in said
    asked = tmp_path / "sudo-was-asked"
    lines = asked.read_text().splitlines() if asked.exists() else []
    assert [line.split()[:2] for line in lines] == (
        [["apt-get", "update"], ["env", "DEBIAN_FRONTEND=noninteractive"]] if status == 0 else []
    )
    assert ("sudo apt-get install libgl1" in "\n".join([said, *lines])) == (status == 1)
    if status == 0:
        assert "libxcb-cursor0" in lines[-1]
