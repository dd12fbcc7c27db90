"""Animations that are none: what a batch's processes do in tests, found by its name."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcnet.commands.animate_options import parse_one
from mcnet.commands.jobs import Tell
from mcnet.errors import UserError
from mcnet.media.video_writer import VideoWriter
from mcnet.signals import StopSignals


class StandIn(NamedTuple):
    """See `mcnet.commands.jobs.Done`."""

    frames: int
    held: int
    interrupted: bool
    missing: str = ""


def perform(words: Sequence[str], tell: Tell | None, replaces: str = "") -> StandIn:
    """By the driving file's name: fail, break, die, slow, endless, meet or another; notes on what cores.

    The ones that meet wait until two of them have begun, which those that come one after the other never do. A folder
    gets pictures instead; there, tear fails after two of them, crash dies, and endless waits to be stopped where it has
    none to replace.
    """
    args = parse_one(words)
    print("chatter of the model", file=sys.stderr)
    how = args.driving.stem
    if how == "fail":
        raise UserError(f"no face in {args.driving}")
    if how == "break":
        raise ZeroDivisionError("a bug")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "meet":
        output = Path(args.output)
        output.with_suffix(".began").touch()
        _wait_for_two(output.parent)
    if str(args.output).endswith("/"):
        return _pictures(args.output, how, replaces, tell)
    with StopSignals() as stop:
        for frame in range(5):
            if tell is not None:
                tell("animating", frame, 5)
            for _ in range({"slow": 20, "endless": 10_000}.get(how, 1)):
                time.sleep(0.01)
                if stop.received:
                    Path(args.output).write_text("half", encoding="utf-8")
                    return StandIn(frame, 0, interrupted=True)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    Path(args.output).write_text(f"{time.time()} {args.device} {cores}", encoding="utf-8")
    return StandIn(5, 1, interrupted=False)


def _pictures(folder: str, how: str, replaces: str, tell: Tell | None) -> StandIn:
    waits = how == "endless" and not replaces
    with StopSignals() as stop, VideoWriter(folder, 25, (64, 64), replaces=replaces) as writer:
        for _ in range(4 if waits else 2 if how == "tear" else 3):
            writer.write(np.zeros((64, 64, 3), np.uint8))
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "tear":
            raise UserError("torn")
        if tell is not None:
            tell("animating", 0, 4)
        while waits and not stop.received:
            time.sleep(0.01)
    return StandIn(writer.frame_count, 0, interrupted=waits)


def _wait_for_two(folder: Path) -> None:
    deadline_s = time.monotonic() + 60
    while len(list(folder.glob("*.began"))) < 2:
        if time.monotonic() > deadline_s:
            raise UserError("no other job began within a minute")
        time.sleep(0.01)
