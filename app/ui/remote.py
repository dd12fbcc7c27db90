"""Control from outside, on the window's side: its server, and what it does in the window."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt, pyqtSignal

from app.control.facts import AppState
from app.control.operation import Answer, Operator
from app.control.protocol import Command
from app.pipeline.events import Event
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.settings import ControlSettings
from app.ui.bridge import FromThreads
from app.ui.languages import clause
from app.ui.messages import failure_message
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.control.server import ControlServer
    from app.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)

_STOP_S = 0.5

MakeServer = Callable[[Operator, AppState, Sequence[str]], "ControlServer"]


class Remote(FromThreads):
    """Listens for other programs while that is wished for, and has the window do what they ask.

    Lives on the GUI thread, but for `panic`, `perform` and `stats`, which the server calls on its own.

    Args:
        worker: starts and stops the server, one after the other; stopped with this.
        make_server: a server for an operator.
        settings: as they were kept.
        port: the one of this run, which is not kept; None: as kept.
        perform: does a command, on the GUI thread.
        mute_now: lets a call hear nothing, at once; called on any thread, and must not wait.

    Attributes:
        pipeline: gives the pictures; None before it is there.
        settings: what is wished for.
        port: where it listens; 0 while it does not.
        failure: why it does not listen although it should, for people, or "".
        opening: whether it is about to listen.

    Signals:
        changed: anything of the above.
        chosen: other settings, to be kept.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        _asked: a command and the future of its answer, always queued.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(object)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    _asked = pyqtSignal(object, object)

    def __init__(
        self,
        worker: Worker,
        make_server: MakeServer,
        settings: ControlSettings,
        port: int | None,
        perform: Callable[[Command], Answer],
        mute_now: Callable[[], None],
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.settings = settings
        self.port = 0
        self.failure = ""
        self.opening = False
        self._forced = port
        self._worker = worker
        self._make_server = make_server
        self._perform = perform
        self._mute_now = mute_now
        self._server: ControlServer | None = None  # once it listens
        self._state = AppState(mode="window")
        self._serving: ControlServer | None = None  # the worker's; by the lock
        self._wishes = 0
        self._asked.connect(self._do, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs

    @property
    def wanted(self) -> bool:
        """Whether it is to listen."""
        return self.settings.on or self._forced is not None

    @property
    def wanted_port(self) -> int:
        """Where it is to listen; 0: on any port that is free."""
        return self.settings.port if self._forced is None else self._forced

    def open(self) -> None:
        """Listen, if that is wished for."""
        if self.wanted:
            self._listen()

    def switch(self, on: bool) -> None:
        """Listen from now on, or not; it is kept."""
        self._forced = None
        self._choose(replace(self.settings, on=on))

    def set_port(self, port: int) -> None:
        """Listen there from now on, if at all; it is kept."""
        if port != self.wanted_port:
            self._forced = None
            self._choose(replace(self.settings, port=port))

    def renew_token(self) -> None:
        """Make another token: whoever knows the old one has to be told."""
        self._listen(anew=True)

    def token(self) -> str:
        """What others have to show, or "" while it does not listen."""
        return "" if self._server is None else self._server.token

    def show(self, state: AppState) -> None:
        """This is the window's state from now on."""
        if state != self._state:
            self._state = state
            if self._server is not None:
                self._server.show(state)

    def tell(self, event: Event) -> None:
        """This has happened."""
        if self._server is not None:
            self._server.tell(event)

    def close(self) -> bool:
        """Listen no more; harmless when called again."""
        with self._lock:
            self._closed, serving = True, self._serving
        self._server = None
        ended = serving is None or serving.stop(_STOP_S)
        return self._worker.stop() and ended

    # On the server's thread

    def panic(self) -> None:
        if (pipeline := self.pipeline) is not None:
            pipeline.slate_now()
        self._mute_now()

    def perform(self, command: Command) -> "Future[Answer]":
        future: Future[Answer] = Future()
        self._carry(self._asked, command, future)
        return future

    def stats(self) -> Stats:
        pipeline = self.pipeline
        return Stats(State.STARTING) if pipeline is None else pipeline.stats()

    # Again on the GUI thread

    def _do(self, command: Command, future: "Future[Answer]") -> None:
        if self._closed or not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._perform(command))
        except Exception as error:  # whoever asked is told
            future.set_exception(error)

    def _choose(self, settings: ControlSettings) -> None:
        if settings != self.settings:
            self.settings = settings
            self.chosen.emit(settings)
        self._listen()

    def _listen(self, *, anew: bool = False) -> None:
        """Stop what listens, and listen as is wished for now; the worker does one after the other."""
        self._server, self._wishes = None, self._wishes + 1
        self.port, self.failure, self.opening = 0, "", self.wanted
        self.cleared.emit("control")
        self.changed.emit()
        wish, wanted, port, state = self._wishes, self.wanted, self.wanted_port, self._state
        origins = self.settings.origins

        def work() -> "ControlServer | None":
            before, self._serving = self._serving, None
            if before is not None:
                before.stop()
            if not wanted:
                return None
            server = self._make_server(self, state, origins)
            if anew:
                server.forget_token()
            server.start(port)
            with self._lock:
                closed, self._serving = self._closed, server
            if closed:
                server.stop()
            return server

        def listens(server: "ControlServer | None") -> None:
            if wish == self._wishes:
                self._server, self.opening = server, False
                if server is not None:
                    self.port = server.port
                    server.show(self._state)
                self.changed.emit()

        def failed(error: Exception) -> None:
            if wish == self._wishes:
                message = failure_message("control", error)
                self.opening, self.failure = False, clause(message.text)
                self.told.emit(message)
                self.changed.emit()

        self._worker.run(work, listens, failed)
