"""What fails in a whole run is tried once more, alone: `.ci/again`, on tests of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[1] / ".ci"
TESTS = """
from pathlib import Path

def run():
    done = Path("runs")
    done.write_text(done.read_text() + "." if done.exists() else ".")
    return len(done.read_text())

def test_that_passes(): pass
def test_that_is_late_once(): assert run() > 1
"""
FAULT = "def test_a_fault(): assert 0"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's script")


def _again(folder: Path, tests: str, most: int = 2, *words: str) -> "subprocess.CompletedProcess[str]":
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    shutil.copy(CI / "again", folder)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_some.py").write_text(tests, encoding="utf-8")
    # What an earlier run left is none of this one's business.
    kept = folder / ".pytest_cache" / "v" / "cache" / "lastfailed"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"test_some.py::test_that_passes": true}', encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = ["sh", "again", str(most), str(python), "-m", "pytest", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )


def test_what_passes_alone_passes_and_is_named(tmp_path: Path) -> None:
    ran = _again(tmp_path, TESTS)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-1] == "test_some.py::test_that_is_late_once"
    assert "failed beside others and passed alone" in ran.stdout
    assert "1 passed in" in ran.stdout, "nothing but what had failed"


def test_all_that_passes_is_run_once(tmp_path: Path) -> None:
    ran = _again(tmp_path, "def test_fine(): pass")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "alone" not in ran.stdout


def test_a_fault_fails(tmp_path: Path) -> None:
    ran = _again(tmp_path, TESTS + FAULT)
    assert ran.returncode == 1
    assert "1 failed, 1 passed in" in ran.stdout
    assert "passed alone" not in ran.stdout


def test_much_that_fails_is_not_tried_once_more(tmp_path: Path) -> None:
    many = "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_one(n): assert 0\n"
    ran = _again(tmp_path, many)
    assert ran.returncode == 1
    assert ran.stderr == "More than 2 tests failed, so none is tried once more.\n"


@pytest.mark.parametrize(
    ("tests", "words", "status"),
    [
        ("import no_such_module", (), 2),
        (TESTS + "import pytest\ndef test_stop(): pytest.exit('stopped', 3)", (), 3),
        (TESTS, ("--no-such-option",), 4),
        ("", (), 5),
    ],
    ids=["not read", "stopped", "not understood", "no test"],
)
def test_a_run_without_an_end_fails(tmp_path: Path, tests: str, words: tuple[str, ...], status: int) -> None:
    ran = _again(tmp_path, tests, 2, *words)
    assert ran.returncode == status
    assert "alone" not in ran.stdout
