"""CUDA graphs: what is launched once is recorded, and launched again as one."""

from collections.abc import Callable

import torch

_failed: list[torch.cuda.CUDAGraph] = []
"""Those whose recording failed; they have to live, since torch's allocator goes on asking whether they record."""


def record(launch: Callable[[], None], stream: torch.cuda.Stream | None = None) -> Callable[[], None]:
    """Record what `launch` launches on fixed buffers, after it was launched before on a stream aside.

    Args:
        launch: has been warmed up.
        stream: to record on; None: one of torch's own.

    Returns:
        What launches the same again.

    Raises:
        RuntimeError: it cannot be recorded, as where the memory does not suffice or an operation needs the host. The
            stream in force is the one of before, and torch can go on without a recording.
    """
    before = torch.cuda.current_stream()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            launch()
    except RuntimeError:
        _failed.append(graph)
        raise
    finally:
        torch.cuda.set_stream(before)  # torch.cuda.graph leaves its own one in force where recording fails
    return graph.replay
