"""The processes of a run, under `torchrun` or alone, and what they tell one another.

Written on torch alone: where a run travels to, nothing else can be installed.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from mcnet.errors import UserError, sentence

T = TypeVar("T")


class ElsewhereError(UserError):
    """Another process of the run failed; the message says which, and why."""


class LauncherError(UserError):
    """What launches several processes has not said how they find one another; the message says what to do."""


class Processes:
    """The processes of a run. Use as a context manager: what was opened to talk to the others is closed with it.

    Args:
        on_gpu: whether each process computes on a GPU of its own.

    Attributes:
        device: where this process computes.
        rank: of this process, from 0.
        count: how many there are.

    Raises:
        LauncherError: a variable of the environment is missing, or says what cannot be.
    """

    def __init__(self, *, on_gpu: bool) -> None:
        self.count = _told("WORLD_SIZE", 1, None) if "WORLD_SIZE" in os.environ else 1
        several = self.count > 1
        self.rank = _told("RANK", 0, self.count - 1) if several else 0
        self._opened = several and not distributed.is_initialized()
        if self._opened:
            _told("MASTER_PORT", 0, 65535)
            _require(bool(os.environ.get("MASTER_ADDR")), "MASTER_ADDR", "the first machine's address")
        self.device = torch.device("cpu")
        if on_gpu:
            cards = torch.cuda.device_count()
            self.device = torch.device("cuda", _told("LOCAL_RANK", 0, cards - 1) if several else 0)
            torch.cuda.set_device(self.device)
        if self._opened:
            try:
                distributed.init_process_group("nccl" if on_gpu else "gloo")
            except (RuntimeError, ValueError) as error:  # an address of nobody, a port that another one has
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                raise LauncherError(
                    f"the {self.count} processes do not find one another ({cause}): see MASTER_ADDR and MASTER_PORT, "
                    "or leave them to torchrun"
                ) from error

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all others are here."""
        if self.count > 1:
            distributed.barrier()

    def by_one(self, work: Callable[[], T]) -> T:
        """What the first process finds, in all of them: others may round otherwise, or write to the same place.

        Args:
            work: done in the first process, while the others wait; what it returns can be pickled.

        Raises:
            ElsewhereError: in all others, at once, where it fails; in the first one what `work` raises.
        """
        if self.count == 1:
            return work()
        told: list[Any] = [None, None]
        try:
            if self.main:
                told = [work(), None]
        except BaseException as error:  # a signal too: nobody shall wait for what does not come
            told = [None, sentence(error) if isinstance(error, Exception) else type(error).__name__]
            raise
        finally:
            distributed.broadcast_object_list(told, device=self.device)
        found, failure = told
        if failure is not None:
            raise ElsewhereError(f"the first of {self.count} processes failed, so that this one ends: {failure}")
        return cast("T", found)

    def sum(self, values: Tensor) -> Tensor:
        """Over the processes; the host does not wait for a GPU."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes, likewise."""
        return self.sum(values) / self.count if self.count > 1 else values

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the processes.

        Done here and not by DistributedDataParallel: the stages train different parts, and a reduction of one flat
        tensor is all it takes.
        """
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened:
            distributed.destroy_process_group()


def _told(name: str, least: int, most: int | None) -> int:
    """A number of the environment.

    Raises:
        LauncherError: it is missing, no whole number, or out of range.
    """
    said = os.environ.get(name, "")
    value = int(said) if said.isascii() and said.isdecimal() else -1
    within = f"a whole number from {least}" + ("" if most is None else f" to {most}")
    _require(value >= least and (most is None or value <= most), name, within)
    return value


def _require(ok: bool, name: str, expected: str) -> None:
    if not ok:
        raise LauncherError(
            f"the environment has {name}={os.environ.get(name, '')!r}, expected {expected}: start several processes by "
            "torchrun, or one alone without WORLD_SIZE"
        )
