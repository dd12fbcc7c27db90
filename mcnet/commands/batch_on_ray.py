"""A batch of animations on a cluster, by Ray Data. Importing this imports ray, which is an optional package."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcnet.commands.jobs import Job, JobsError, Outcome, Perform, do

if TYPE_CHECKING:
    from mcnet.signals import StopSignals

try:
    import ray
    import ray.data
except ImportError as error:
    raise JobsError("--on ray: Ray is not installed; pip install 'mcnet-avatar[cluster]'") from error


def outcomes_on_ray(
    jobs: Sequence[Job], perform: Perform, at_once: int | None, stop: "StopSignals"
) -> Iterator[Outcome]:
    """Do the jobs where Ray puts them, one at a time per worker, in the order in which they end.

    Ray connects to the cluster that RAY_ADDRESS names, or else starts on this machine. Every worker has to see the
    same files under the same names, and needs `mcnet-avatar`. A worker takes a GPU where the cluster has any.

    Args:
        jobs: what is to be done.
        perform: does one.
        at_once: how many workers; None: as many as there are GPUs, or else groups of four cores.
        stop: once it has received a signal, only the next outcome is waited for.
    """
    if not jobs:
        return
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    resources = ray.cluster_resources()
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    workers = min(len(jobs), at_once or gpus or max(1, cores // 4))
    data = ray.data.from_items([{"job": number} for number in range(len(jobs))], override_num_blocks=len(jobs))
    done = data.map_batches(
        _Worker,
        fn_constructor_args=(list(jobs), perform),
        batch_size=1,
        concurrency=workers,
        num_cpus=0 if gpus else max(1, cores // workers),
        num_gpus=1 if gpus else 0,
    )
    for row in done.iter_rows():
        yield Outcome(
            *(row[name].item() if isinstance(row[name], np.generic) else row[name] for name in Outcome._fields)
        )
        if stop.received:
            return


class _Worker:
    """What a process of the cluster does with a batch of one job."""

    def __init__(self, jobs: list[Job], perform: Perform) -> None:
        self._jobs, self._perform = jobs, perform

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes = [do(self._jobs[number], self._perform) for number in batch["job"].tolist()]
        return {name: np.array([getattr(one, name) for one in outcomes]) for name in Outcome._fields}
