"""Signing in a process of its own, beside a call that must notice nothing of it.

A recording of an hour takes seconds of a processor's time and up to half a gigabyte of memory, in a library of another
language. In a process of its own it takes nothing from the live picture, and could not end it; and it goes on to its
end when the program that asked for it ends first.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mcnet.disclosure.errors import DisclosureError
from mcnet.disclosure.identity import SigningFiles, find_identity
from mcnet.disclosure.manifest import Generated, disclose
from mcnet.errors import log_failure, sentence, told
from mcnet.phrases import phrase
from mcnet.processes import start_process

logger = logging.getLogger(__name__)

_NICENESS = 10


def begin_disclosing(
    path: Path, said: Generated, files: SigningFiles, tell: Callable[[Path, str], None]
) -> threading.Thread:
    """Sign a finished file, as `disclose` does, without waiting for it.

    Args:
        path: of the file.
        said: what is stated.
        files: who signs.
        tell: called with the path on another thread when it is over, and with why it could not be done, or "".

    Returns:
        The thread that waits for the end; its process has begun.

    Raises:
        OSError: no process can be started.
    """
    # No daemon: it is not ended with this process, since what it has begun is worth finishing.
    process, pipe = start_process(_serve, path, said, files, name="content credentials", duplex=False, daemon=False)

    def wait() -> None:
        with pipe:
            try:
                trouble = str(pipe.recv())
            except (EOFError, OSError):
                process.join()
                trouble = phrase(
                    "its process ended with {status}: out of memory, or a library crashed", status=process.exitcode
                )
        process.join()
        tell(path, trouble)

    thread = threading.Thread(target=wait, name="content credentials", daemon=True)
    thread.start()
    return thread


def _serve(pipe: "Connection[Any, Any]", path: Path, said: Generated, files: SigningFiles) -> None:
    """The process: signs, answers, and ends."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    # The library keeps a second copy of a large file for a while: where that has been looked for room.
    os.environ["TMPDIR"] = str(path.parent)
    with contextlib.suppress(OSError), pipe:  # nobody may be there to hear it
        pipe.send(trouble_of(path, said, files))


def trouble_of(path: Path, said: Generated, files: SigningFiles) -> str:
    """Sign a file in this process; returns why it could not be done, for people, or ""."""
    try:
        disclose(path, said, find_identity(files))
    except DisclosureError as error:
        return str(error)
    except OSError as error:
        return told(error)
    except Exception as error:  # a library's own: the file is as it was
        log_failure(logger, f"signing {path}", error)
        return sentence(error)
    return ""
