"""Processes that this program starts: for what may crash, must not be waited for, or has a core of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from mcnet.signals import starting_processes


def start_process(
    target: Callable[..., None], *args: Any, name: str | None = None, duplex: bool = True, daemon: bool = True
) -> "tuple[SpawnProcess, Connection[Any, Any]]":
    """Start a process, and leave Ctrl-C and the end of the terminal to this one from its first moment on.

    It begins afresh, and is no fork: a copy of a process with threads may wait forever for a lock that one of them
    held. Both are blocked in it; one that asks for them itself has to unblock them.

    Args:
        target: called there with its end of the pipe and `args`; found by its name, as pickle does.
        args: of the target; they are pickled.
        name: of the process; None has it numbered.
        duplex: whether the pipe takes what this process has to say, too.
        daemon: whether it is ended with this one.

    Returns:
        The process, and this one's end of the pipe: the process's end is closed here, so that its death is the end of
        the connection.

    Raises:
        OSError: there can be no more processes or pipes.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex)
    process = context.Process(target=target, args=(theirs, *args), name=name, daemon=daemon)
    try:
        with theirs, starting_processes():
            process.start()
    except BaseException:
        ours.close()
        raise
    return process, ours
