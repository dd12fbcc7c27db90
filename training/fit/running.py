"""What keeps a run going: reading ahead, sums of figures, gradients of several processes."""

import math
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from training.fit.config import StageConfig
from training.fit.sampler import PairPlan, PairSampler
from training.fit.stores import FrameStore


def mixed_seed(seed: int, step: int, rank: int) -> int:
    """A seed for torch from the three; NumPy's seed sequence spreads it."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def average_gradients(accelerator: Accelerator, parameters: list[nn.Parameter]) -> None:
    """Average gradients over the processes.

    Done here and not by DistributedDataParallel: the stages train different parts, and a reduction of one flat tensor
    is all it takes.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat: Tensor = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_gradients(parameters: list[nn.Parameter], clip_norm: float) -> Tensor:
    """Limit the norm of a network's gradient; returns the norm before, 0 where nothing learns. 0 is no limit."""
    if all(parameter.grad is None for parameter in parameters):
        return torch.zeros((), device=parameters[0].device)
    return clip_grad_norm_(parameters, clip_norm or math.inf)


class Reader:
    """Reads the next step's frames while this one computes. Use as a context manager: its thread ends with it."""

    def __init__(self, sampler: PairSampler, frames: FrameStore) -> None:
        self._sampler = sampler
        self._frames = frames
        # Frames that lie on a GPU are gathered by the thread that computes: one thread touches CUDA.
        self._pool = None if frames.resident else ThreadPoolExecutor(1, thread_name_prefix="frame-reader")
        self._asked: dict[tuple[int, int], Future[tuple[PairPlan, Tensor]]] = {}

    def ask(self, step: int, stage: StageConfig, rank: int) -> None:
        """Begin to read a step's frames."""
        if self._pool is not None:
            self._asked[step, rank] = self._pool.submit(self._read, step, stage, rank)

    def take(self, step: int, stage: StageConfig, rank: int) -> tuple[PairPlan, Tensor]:
        """A step's plan and its frames as `FrameStore.read` gives them: B sources, then B driving frames."""
        asked = self._asked.pop((step, rank), None)
        return self._read(step, stage, rank) if asked is None else asked.result()

    def _read(self, step: int, stage: StageConfig, rank: int) -> tuple[PairPlan, Tensor]:
        plan = self._sampler.plan(step, stage.batch, rank, stage.stills)
        return plan, self._frames.read(np.concatenate((plan.source, plan.driving)))

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


class Totals:
    """Sums of figures since the last line, kept on the device so that adding makes no GPU wait."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._data_s = self._compute_s = 0.0
        self._steps = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Of one step that counted."""
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def time(self, data_s: float, compute_s: float) -> None:
        """Of any step: waiting for pictures, and the rest of it.

        On a GPU, work that was asked for while fetching may be waited for while computing.
        """
        self._data_s += data_s
        self._compute_s += compute_s
        self._steps += 1

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes since the last call, and milliseconds per step."""
        names = sorted(self._sums)
        line: dict[str, float] = {}
        if names:
            means = torch.stack([self._sums[name] / self._counts[name] for name in names])
            if accelerator.num_processes > 1:
                means = accelerator.reduce(means, "mean")
            line = dict(zip(names, means.tolist(), strict=True))
        for name in ("warped", "predicted"):
            if f"{name}_l1" in line:
                line[f"{name}_of_copied"] = line[f"{name}_l1"] / max(line["copied_l1"], 1e-9)
        line["data_ms"] = 1000 * self._data_s / self._steps
        line["compute_ms"] = 1000 * self._compute_s / self._steps
        line["step_ms"] = line["data_ms"] + line["compute_ms"]
        self._clear()
        return line
