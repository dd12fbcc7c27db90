"""What keeps a run going: reading ahead, sums of figures, limits of gradients, seeds."""

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from training.fit.config import StageConfig
from training.fit.processes import Processes
from training.fit.sampler import PairPlan, PairSampler
from training.fit.stores import FrameStore


def mixed_seed(seed: int, step: int, rank: int) -> int:
    """A seed for torch from the three; NumPy's seed sequence spreads it."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def clip_gradients(parameters: list[nn.Parameter], clip_norm: float) -> Tensor:
    """Limit the norm of a network's gradient; returns the norm before, 0 where nothing learns. 0 is no limit."""
    if all(parameter.grad is None for parameter in parameters):
        return torch.zeros((), device=parameters[0].device)
    return clip_grad_norm_(parameters, clip_norm or math.inf)


class Reader:
    """Reads the next step's frames from disk while this one computes. Use as a context manager, which ends its thread.

    Frames that all lie on the device need none: the step itself gathers them there.
    """

    def __init__(self, sampler: PairSampler, frames: FrameStore) -> None:
        self._sampler = sampler
        self._frames = frames
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="frame-reader")
        self._asked: dict[tuple[int, int], Future[tuple[PairPlan, Tensor]]] = {}

    def ask(self, step: int, stage: StageConfig, rank: int) -> None:
        """Begin to read a step's frames."""
        self._asked[step, rank] = self._pool.submit(self._read, step, stage, rank)

    def take(self, step: int, stage: StageConfig, rank: int) -> tuple[PairPlan, Tensor]:
        """A step's plan and its frames as `FrameStore.read` gives them: B sources, then B driving frames."""
        asked = self._asked.pop((step, rank), None)
        return self._read(step, stage, rank) if asked is None else asked.result()

    def _read(self, step: int, stage: StageConfig, rank: int) -> tuple[PairPlan, Tensor]:
        plan = self._sampler.plan(step, stage.batch, rank, stage.stills)
        return plan, self._frames.read(torch.cat((plan.source, plan.driving)))

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Totals:
    """Sums of figures since the last line, kept on the device so that adding makes no GPU wait."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._data_s = self._paused_s = 0.0
        self._steps = 0
        self._began = time.perf_counter()

    def add(self, figures: dict[str, Tensor], good: Tensor) -> None:
        """Of one step; they count only where `good`, a () bool, is true. It changes tensors in place, so that a
        recorded step goes on adding.
        """
        names = tuple(figures)
        values = torch.stack([good.float(), *(value.detach().float() for value in figures.values())])
        if names not in self._sums:
            self._sums[names] = torch.zeros_like(values)
        self._sums[names] += torch.where(good, values, 0)

    def time(self, data_s: float) -> None:
        """Of any step: how long the host waited for pictures in it."""
        self._data_s += data_s
        self._steps += 1

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is no part of a step's time."""
        began = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - began

    def take(self, processes: Processes) -> dict[str, float]:
        """Means over steps and processes since the last call, and milliseconds per step. Waits for the device.

        `step_ms` is `data_ms`, waiting for pictures, and `compute_ms`; `other_ms` is what comes on top per step for
        sheets, checkpoints and curves.
        """
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, total in self._sums.items():
            count, *values = processes.mean(total).tolist()
            for name, value in zip(names, values, strict=True) if count else ():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
            total.zero_()
        line = {name: sums[name] / counts[name] for name in sorted(sums)}
        for name in ("warped", "predicted"):
            if f"{name}_l1" in line:
                line[f"{name}_of_copied"] = line[f"{name}_l1"] / max(line["copied_l1"], 1e-9)
        now = time.perf_counter()
        line["step_ms"] = 1000 * (now - self._began - self._paused_s) / self._steps
        line["data_ms"] = 1000 * self._data_s / self._steps
        line["compute_ms"] = line["step_ms"] - line["data_ms"]
        line["other_ms"] = 1000 * self._paused_s / self._steps
        self._data_s = self._paused_s = 0.0
        self._steps, self._began = 0, now
        return line
