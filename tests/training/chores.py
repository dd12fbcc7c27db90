"""Tasks for processes of their own; apart from the tests, so that those processes import little."""

import os

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
