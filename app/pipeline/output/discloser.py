"""Content Credentials of what the app writes: by which models, by whom signed, and off every thread of the pipeline."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from app.pipeline.events import Undisclosed
from mcnet.disclosure import Generated, ModelUsed, SigningFiles
from mcnet.disclosure.manifest import drop_stale
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

Begin = Callable[[Path, Generated, SigningFiles, Callable[[Path, str], None]], threading.Thread]
"""As `mcnet.disclosure.process.begin_disclosing`."""

Disclose = Callable[[Path, bool], None]
"""Begins to sign a file that is finished, and does not wait for the end; True: pictures of the user's were in it, as
background or slate. Never raises."""


class Discloser:
    """Signs files that are finished, each in a process of its own; any thread.

    Args:
        find_files: who signs; None: nothing is signed.
        emit: told of a file that could not be signed.
        begin: starts the process.
    """

    def __init__(
        self, find_files: Callable[[], SigningFiles | None], emit: Callable[[Undisclosed], None], begin: Begin
    ) -> None:
        self._begin_process = begin
        self._find_files = find_files
        self._emit = emit
        self._models: list[ModelUsed] = []
        self._under_way: list[threading.Thread] = []

    def uses(self, name: str, sha256: str) -> None:
        """A model makes the pictures from now on."""
        if self._models[-1:] != [ModelUsed(name, sha256)]:
            self._models.append(ModelUsed(name, sha256))

    def recording(self) -> Disclose:
        """For a file that begins now; its pictures may come from several models."""
        first = max(0, len(self._models) - 1)
        return lambda path, composite: self._begin(path, Generated(tuple(self._models[first:]), composite))

    def wait(self) -> None:
        """Wait until everything that was begun is signed."""
        for thread in self._under_way:
            thread.join()

    def _begin(self, path: Path, said: Generated) -> None:
        files = self._find_files()
        drop_stale(path)
        if files is None or not said.models:  # without a model there was only the slate
            return
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]
        try:
            self._under_way.append(self._begin_process(path, said, files, self._over))
        except Exception as error:  # the file is finished and stays, whatever keeps a process from starting
            logger.exception("Content Credentials of %s", path)
            self._over(path, phrase("no process could be started for it ({error})", error=error))

    def _over(self, path: Path, trouble: str) -> None:
        if trouble:
            self._emit(Undisclosed(str(path), trouble))
