"""Processes that this program starts: for what may crash, must not be waited for, or has a core of its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from mcnet.signals import leave_terminal_to_parent, starting_processes


def start_process(
    target: Callable[..., None], *args: Any, name: str | None = None, duplex: bool = True, daemon: bool = True
) -> "tuple[SpawnProcess, Connection[Any, Any]]":
    """Start a process that leaves Ctrl-C and the end of the terminal to this one.

    On POSIX both signals are blocked in it from its first moment on; on Windows it ignores Ctrl-C once it runs, and
    before, where this is called on the main thread. The process begins afresh, and is no fork: a copy of a process with
    threads may wait forever for a lock that one of them held.

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
        OSError: there can be no more processes or pipes. As after any exception, a Ctrl-C among them, none is left.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex)
    process = context.Process(target=_begin, args=(theirs, target, args), name=name, daemon=daemon)
    try:
        with theirs, starting_processes():
            process.start()
    except BaseException:
        ours.close()
        if process.pid is not None:  # a signal that came meanwhile is heard behind its start
            process.kill()
            process.join()
        raise
    return process, ours


def _begin(pipe: "Connection[Any, Any]", target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """What the process runs."""
    leave_terminal_to_parent()
    target(pipe, *args)
