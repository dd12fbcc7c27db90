"""`make demo` says what it does while pip works: `.ci/set-up`, with a Python that only plays pip."""

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
    "-m pip install"*) head -c 3000000 /dev/zero >"$TMPDIR/a" && sleep 2.5 && rm "$TMPDIR/a" && exit "$PIP_ENDS_WITH" ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's script")


def _set_up(folder: Path, ends_with: int) -> "subprocess.CompletedProcess[str]":
    (folder / ".ci").mkdir()
    shutil.copy(CI / "set-up", folder / ".ci")
    (folder / ".ci" / "system-packages").write_text("exit 0\n")
    python = folder / "python"
    python.write_text(PLAYS)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "EVERY_S": "1", "PIP_ENDS_WITH": str(ends_with)}
    command = ["sh", ".ci/set-up"]
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
    for help_for in ("no connection", "proxy", "no space left", "Python 3.11 or newer", "make demo"):
        assert help_for in run.stderr
    assert "done" not in run.stdout
