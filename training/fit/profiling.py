"""Where the steps of a run spend their time, by operation, on the host and on the device."""

import time
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from training.fit.processes import Processes
from training.fit.running import Reader
from training.fit.stages import Stage
from training.fit.trainer import EAGER_STEPS, Trainer

_ROWS = 25
"""Operations that a table names; the others are added up."""
_FEW = 3
"""Steps that are looked into where time is short: adding up the thousands of operations of each takes seconds."""


class StageProfile(NamedTuple):
    """What a stage's steps cost.

    Attributes:
        stage: its name.
        step_ms: milliseconds per step as the run launches it: recorded where that can be done.
        pairs_per_s: of all processes together.
        table: where the time of steps that are launched one operation at a time goes, for people.
    """

    stage: str
    step_ms: float
    pairs_per_s: float
    table: str


def profile_stage(
    trainer: Trainer,
    stage: Stage,
    steps: int,
    reader: Reader | None,
    processes: Processes,
    limit_s: float | None = None,
) -> StageProfile:
    """Run steps of a stage: some to warm up, `steps` that are timed, `steps` that are looked into.

    Args:
        trainer: it learns from the steps.
        stage: of a run.
        steps: how many of either.
        reader: as for the run.
        processes: of the run.
        limit_s: after a third of so many seconds each of the three parts ends, with one step at the least; and only a
            few steps are looked into.
    """
    trainer.begin(stage)
    number = stage.first

    def launch(count: int, *, recorded: bool = True) -> int:
        """So many steps; returns how many there was time for."""
        nonlocal number
        began, done = time.perf_counter(), 0
        while done < count and (not done or limit_s is None or time.perf_counter() - began < limit_s / 3):
            read = None if reader is None else reader.take(number, stage.config, processes.rank)
            trainer.launch(stage, number, read, recorded=recorded)
            number = min(number + 1, stage.first + stage.steps - 1)
            done += 1
        if processes.device.type == "cuda":
            torch.cuda.synchronize()
        return done

    launch(EAGER_STEPS + 2)
    began = time.perf_counter()
    timed = launch(steps)
    step_ms = 1000 * (time.perf_counter() - began) / timed
    activities = [ProfilerActivity.CPU]
    if processes.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profiler(activities=activities) as measured:
        looked_into = launch(steps if limit_s is None else min(steps, _FEW), recorded=False)
    pairs_per_s = stage.config.batch * processes.count * 1000 / step_ms
    title = (
        f"{stage.name}: {step_ms:.1f} ms per step of {stage.config.batch} pairs, {pairs_per_s:.1f} pairs per second, "
        f"on {_name(processes.device)}. Below, {looked_into} steps, launched one operation at a time, per step:"
    )
    return StageProfile(stage.name, step_ms, pairs_per_s, "\n".join([title, *_lines(measured, looked_into)]))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU ({torch.get_num_threads()} threads)"


def _lines(measured: profiler, steps: int) -> list[str]:
    """A line per operation, the slowest first: those of the device where there is one, and those of the host."""
    # Kernels are listed too, as events of the device; their time is told by the operations that launched them.
    averages = [event for event in measured.key_averages() if event.device_type.name == "CPU"]
    host = [(event.self_cpu_time_total, event.count, event.key) for event in averages]
    device = [
        (event.self_device_time_total, event.count, event.key) for event in averages if event.self_device_time_total
    ]
    lines: list[str] = []
    for where, rows in (("device", device), ("host", host)):
        if not rows:
            continue
        rows.sort(reverse=True)
        total = sum(micros for micros, _, _ in rows)
        lines.append(f"{where + ', ms':>12}  share   calls  operation")
        shown = rows[:_ROWS]
        rest = (sum(row[0] for row in rows[_ROWS:]), sum(row[1] for row in rows[_ROWS:]), "all others")
        for micros, calls, name in [*shown, rest, (total, sum(row[1] for row in rows), "all")]:
            lines.append(
                f"{micros / 1000 / steps:12.2f} {micros / max(total, 1e-9):6.1%} {calls / steps:7.0f}  {name[:90]}"
            )
    return lines
