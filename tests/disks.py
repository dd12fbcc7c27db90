"""Disks without room: a real one of a few kilobytes where the tests run as root, a limit on files' size elsewhere."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HOWS = ["disk", "limit"]
"""Ways of having no room, as `Room` and `place` know them."""


@contextlib.contextmanager
def place(how: str, base: Path) -> Iterator[Path]:
    """Give an empty folder whose room a `Room` may take away; skips the test where that cannot be."""
    outputs = base / how / "outputs"
    if how == "limit":
        if sys.platform == "win32":
            pytest.skip("limits the size of files by POSIX means")
        outputs.mkdir(parents=True)
        yield outputs
        return
    with mounted(base / how, "size=8000k,nr_inodes=100"):
        outputs.mkdir()
        yield outputs


@contextlib.contextmanager
def full(base: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give an empty folder, on a full disk if it can be, and what to put before a command that is to find no room."""
    with contextlib.ExitStack() as stack:
        try:
            outputs = stack.enter_context(place("disk", base))
        except pytest.skip.Exception:
            outputs = stack.enter_context(place("limit", base))
            yield outputs, ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
            return
        Room("disk", outputs).take()
        yield outputs, []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at a folder that is not there yet."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounts a small file system, which only root on Linux may")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.splitlines()[0]}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Room:
    """What is left for files in a folder from `place`; used in a child process, for a limit is the whole process's."""

    def __init__(self, how: str, outputs: Path) -> None:
        self._how = how
        self._outputs = outputs
        self._fillers = outputs.parent / "fillers"

    def take(self, file: Path | None = None) -> None:
        """Let no file grow any more; a limit is drawn where `file` ends, or at the first byte."""
        if self._how == "limit":
            self._limit(0 if file is None else file.stat().st_size)
            return
        self._fillers.mkdir()
        with (self._fillers / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))

    def take_names(self) -> None:
        """Let no file be made any more: a disk may have room and no name for it, and a folder may go."""
        if self._how == "limit":
            self._outputs.rmdir()
            return
        self._fillers.mkdir()
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (self._fillers / str(number)).touch()

    def give(self) -> None:
        """Let files be made and grow again."""
        if self._how == "limit":
            self._limit(None)
        shutil.rmtree(self._fillers, ignore_errors=True)
        self._outputs.mkdir(exist_ok=True)

    @staticmethod
    def _limit(size: int | None) -> None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def in_child(module: str, *arguments: str) -> list[Any]:
    """Run a module that may end with its process; returns what it told, a line of JSON each."""
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, encoding="utf-8")
    assert done.returncode == 0, f"ended with {done.returncode} after\n{done.stdout}\n{done.stderr}"
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
