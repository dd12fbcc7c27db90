"""Tasks for processes of their own; apart from the tests, so that those processes import little."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from training.prepare.workers import WorkerError


def dies_on_two(number: int) -> int:
    if number == 2:
        os._exit(7)
    if number == 3:
        raise ValueError("three")
    return 10 * number


def stops_on_two(number: int) -> int:
    if number == 2:
        raise WorkerError("the disk is full")
    return number


class Errand(NamedTuple):
    """A task that waits until another one has begun, or until others are done."""

    number: int
    dear: bool
    others: tuple[int, ...]
    folder: Path


def run_errand(errand: Errand) -> int:
    """The dear one ends after all others; none of these ends before it has begun."""
    if errand.dear:
        (errand.folder / "dear").touch()
    awaited = [f"{other}" for other in errand.others] if errand.dear else ["dear"]
    deadline = time.monotonic() + 30
    while not all((errand.folder / name).exists() for name in awaited):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{errand.number} waited for {awaited}")
        time.sleep(0.01)
    (errand.folder / str(errand.number)).touch()
    return errand.number
