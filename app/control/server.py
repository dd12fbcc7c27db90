"""The server that lets programs of this computer's user control the app: HTTP and WebSocket on 127.0.0.1 alone.

It has a thread and an event loop of its own. Into it, facts come by `show` and `tell`, which any thread may call and
which never wait: what is not sent yet is kept in short queues, the newest state in place of those before, the oldest
event given up first. Out of it, commands go to an `Operator`, which does them where the app does such things, and whose
answer the loop awaits. So neither a slow client nor one that floods it can hold up a picture. Nor does the loop wait
for a disk: a thread of its own looks at the files.
"""

import asyncio
import contextlib
import errno
import functools
import hmac
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

from app.control.access import Access, Address
from app.control.facts import AppState, event_as_json, figures_as_json
from app.control.operation import Operator
from app.control.protocol import STATUS, VERSION, RefusedError, Slate, Stop, help_of_commands, read_command
from app.errors import AppError
from app.pipeline.events import Event
from mcnet.errors import UserError, sentence
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
MOST_BYTES = 16 * 1024
"""Of a request's body, and of a message."""
MOST_CLIENTS = 16
"""That listen at once."""
MOST_CONNECTIONS = 64
"""Of whoever they are: each takes a file descriptor of the app's, and any user of this computer can open one."""
_SUBPROTOCOL = "mcnet-avatar.v1"
_TOKEN_SUBPROTOCOL = "mcnet-avatar.token."  # noqa: S105 - what stands before it
_COMMANDS_PER_S, _COMMANDS_AT_ONCE = 20.0, 40.0
_PATIENCE_S = 5.0
_SEND_S = 10.0
_FIRST_REQUEST_S = 5.0
_HEARTBEAT_S = 20.0
_FIGURES_S = 1.0
_LOOK_S = 1.0
_DISK_S = 2.0
"""So long a request without the token that is known waits for the token's file."""
_START_S = 20.0
_EVENTS_KEPT = 256
_EVENTS_WAITING = 64
_ANSWERS_WAITING = 32

Json = dict[str, Any]
T = TypeVar("T")


class ControlServer:
    """Listens from `start` to `stop`, which may follow each other.

    Args:
        operator: does what is asked.
        access: of whoever asks.
        state: of the app, until it is told another one.
        origins: web pages that may connect, as `http://localhost:3000`, by WebSocket; none other may.

    Attributes:
        port: where it listens, or 0.
    """

    def __init__(self, operator: Operator, access: Access, state: AppState, origins: Sequence[str] = ()) -> None:
        self.port = 0
        self._operator = operator
        self._access = access
        self._origins = frozenset(origins)
        self._token = b""
        self._reading: asyncio.Future[str] | None = None  # the token's file; of the loop
        self._thread: threading.Thread | None = None
        self._address_lock = threading.Lock()  # so that what was withdrawn is not told again; held while a disk is slow
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._lock = threading.Lock()  # of the next four, and of the loop while it is woken; never held for long
        self._state = state
        self._events: deque[Json] = deque(maxlen=_EVENTS_KEPT)
        self._woken = False
        self._changed = False
        self._clients: set[_Client] = set()
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # who has asked nothing yet
        self._allowance = _Allowance(_COMMANDS_PER_S, _COMMANDS_AT_ONCE)

    # On any thread

    @property
    def token(self) -> str:
        """What whoever asks has to show; "" before the first start."""
        return self._token.decode()

    def forget_token(self) -> None:
        """Have the next start make another one.

        Raises:
            AppError: the file cannot be removed.
        """
        self._access.forget()

    def start(self, port: int) -> None:
        """Listen on a port, or on any that is free for 0; returns once it does. Takes a while: aiohttp is loaded.

        Raises:
            AppError: the port is taken, or token or address cannot be kept.
        """
        assert self._thread is None, "it listens already"
        self._token = self._access.token().encode()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(port, started), name="control", daemon=True)
        self._thread.start()
        try:
            started.result(_START_S)
            with self._address_lock:
                self._access.tell(self._address)
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Listen no more, and let go of everybody; harmless when called again.

        Args:
            timeout_s: how long it waits for its thread, and for the disk from which the address is taken away.

        Returns:
            Whether its thread has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return True
            if self._loop is not None and self._stopping is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
        withdrawing = threading.Thread(
            target=self._withdraw, args=(self._address,), name="files of control", daemon=True
        )
        withdrawing.start()
        for each in (thread, withdrawing):
            each.join(max(0.0, deadline_s - time.monotonic()))
            if each.is_alive():
                logger.warning("%s has not ended within %.1f s and is left behind", each.name, timeout_s)
        self.port = 0
        return not thread.is_alive()

    def _withdraw(self, address: Address) -> None:
        with self._address_lock:
            if self._thread is None:  # or it listens again, and has told another address
                self._access.withdraw(address)

    def _tell_again(self, address: Address, thread: threading.Thread) -> None:
        """Leave the address where there is none, unless the server's thread is another one by now, or stopped."""
        try:
            with self._address_lock:
                if self._thread is thread and self._access.address() is None:
                    self._access.tell(address)
        except AppError as error:
            logger.debug("%s", error)  # the disk may be full, and have room again

    @property
    def _address(self) -> Address:
        return Address(self.port, os.getpid(), VERSION)

    def show(self, state: AppState) -> None:
        """This is the app's state from now on."""
        with self._lock:
            self._state, self._changed = state, True
            self._wake()

    def tell(self, event: Event) -> None:
        """This has happened."""
        with self._lock:
            if self._loop is not None:
                self._events.append(event_as_json(event))
                self._wake()

    def _wake(self) -> None:
        """Have the loop hand out what is new, once for all that comes until it does."""
        if self._loop is not None and not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._hand_out)

    # On the server's thread

    def _run(self, port: int, started: "Future[None]") -> None:
        try:
            asyncio.run(self._serve(port, started))
        except Exception as error:  # the last guard of a thread
            logger.exception("control from outside")
            if not started.done():
                started.set_exception(AppError(phrase("control from outside cannot start: {why}", why=sentence(error))))
        finally:
            with self._lock:
                self._loop, self._stopping, self._woken = None, None, False

    async def _serve(self, port: int, started: "Future[None]") -> None:
        app = web.Application(client_max_size=MOST_BYTES, middlewares=[self._guard])
        app.router.add_get("/v1/state", self._get_state)
        app.router.add_get("/v1/commands", self._get_commands)
        app.router.add_post("/v1/commands/{name}", self._post_command)
        app.router.add_get("/v1/events", self._get_events)
        strangers = logging.getLogger(f"{__name__}.strangers")
        strangers.addFilter(_in_one_line)
        runner = web.AppRunner(app, access_log=None, logger=strangers, shutdown_timeout=0.5)
        await runner.setup()
        assert runner.server is not None
        meet, loop = functools.partial(self._meet, runner.server), asyncio.get_running_loop()
        listening: asyncio.Server | None = None
        try:
            try:
                listening = await loop.create_server(meet, HOST, port)
            except (OSError, OverflowError) as error:
                started.set_exception(_cannot_listen(port, error))
                return
            self.port = int(listening.sockets[0].getsockname()[1])
            stopping = asyncio.Event()
            with self._lock:
                self._loop, self._stopping = loop, stopping
            tasks = [asyncio.create_task(self._tell_figures()), asyncio.create_task(self._stay_known())]
            started.set_result(None)
            await stopping.wait()
            for task in tasks:
                task.cancel()
            for client in set(self._clients):
                client.end()
        finally:
            with self._lock:
                self._loop = None
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None
            if listening is not None:
                listening.close()
            for timer in self._silent.values():
                timer.cancel()
            self._silent.clear()
            await runner.cleanup()

    def _meet(self, server: web.Server) -> asyncio.Protocol:
        """Somebody has connected, who is let go again where there are too many, or if they ask nothing soon."""
        if len(self._silent.keys() | set(server.connections)) >= MOST_CONNECTIONS:
            return _TooMany()
        handler = server()

        def give_up() -> None:
            del self._silent[handler]
            handler.force_close()

        self._silent[handler] = asyncio.get_running_loop().call_later(_FIRST_REQUEST_S, give_up)
        return handler

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let nobody in but whoever has the token, and answer every failure in JSON."""
        if (timer := self._silent.pop(request.protocol, None)) is not None:
            timer.cancel()
        try:
            await self._check(request)
        except RefusedError as error:
            refusal = _failure(error)
            refusal.force_close()  # a stranger's connection is not kept for the next request
            return refusal
        try:
            return await handler(request)
        except RefusedError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(
                RefusedError("too_large", f"got more than {MOST_BYTES} bytes, expected a short JSON object")
            )
        except web.HTTPException as error:
            known = "GET /v1/state, GET /v1/commands, POST /v1/commands/NAME, or a WebSocket to /v1/events"
            got = f"{request.method} {request.path[:60]}"
            return _failure(RefusedError("unknown_path", f"got {got} ({error.reason}), expected {known}"))
        except ConnectionError:  # they have gone
            raise
        except Exception as error:
            logger.exception("a request from outside")
            return _failure(RefusedError("failed", f"something unexpected went wrong: {error!r}"))

    async def _check(self, request: web.Request) -> None:
        """Whether the request may come in.

        Raises:
            RefusedError: it may not.
        """
        host = request.headers.get("Host", "")
        if host not in (f"{HOST}:{self.port}", f"localhost:{self.port}"):  # a page whose name leads here, maybe
            raise RefusedError("not_allowed", f"got the host {host[:60]!r}, expected {HOST}:{self.port}")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            raise RefusedError(
                "not_allowed",
                f"a web page of {origin[:60]!r} asks, which nobody has allowed: name it in the setting control.origins",
            )
        token = _token_of(request).encode(errors="replace")
        if not hmac.compare_digest(token, self._token):  # only then: the slate does not wait for a disk
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._follow_token(), _DISK_S)
        if not hmac.compare_digest(token, self._token):
            raise RefusedError(
                "wrong_token",
                f"got no token, or a wrong one; expected the header Authorization: Bearer and what stands in "
                f"{self._access.token_path}",
            )

    async def _get_state(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response(self._state.as_json())

    async def _get_commands(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"version": VERSION, "commands": help_of_commands()})

    async def _post_command(self, request: web.Request) -> web.StreamResponse:
        try:
            arguments = _object(await request.read())
        except web.RequestPayloadError as error:
            raise RefusedError(
                "bad_request", "got a body that cannot be read, expected JSON, not compressed"
            ) from error
        return web.json_response({"ok": True, **await self._do(request.match_info["name"], arguments)})

    async def _do(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """Do a command.

        Returns:
            What it says of itself.

        Raises:
            RefusedError: it cannot be done.
        """
        command = read_command(name, arguments)
        urgent = isinstance(command, Stop) or (isinstance(command, Slate) and command.to == "on")
        if urgent:
            self._operator.panic()
        elif not self._allowance.take(time.monotonic()):
            raise RefusedError(
                "too_many", f"got more than {_COMMANDS_PER_S:g} commands per second; slow down and try again"
            )
        try:
            answer = asyncio.wrap_future(self._operator.perform(command))
            # What has not begun by then is not done later, but for the slate.
            return await asyncio.wait_for(asyncio.shield(answer) if urgent else answer, _PATIENCE_S)
        except TimeoutError as error:
            if urgent:
                return {"slate": True}
            raise RefusedError(
                "busy", f"the app has not answered within {_PATIENCE_S:g} s; see whether it hangs"
            ) from error
        except RefusedError:
            raise
        except UserError as error:
            said = str(error)  # what is said of an argument names the command itself, as on the command line
            raise RefusedError("not_now", said if said.startswith(f"{name}: ") else f"{name}: {said}") from error
        except Exception as error:
            logger.exception("the command %s from outside", name)
            raise RefusedError("failed", f"{name}: something unexpected went wrong: {error!r}") from error

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        if len(self._clients) >= MOST_CLIENTS:
            raise RefusedError("too_many", f"{MOST_CLIENTS} programs listen already: end one of them")
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, timeout=1.0, max_msg_size=MOST_BYTES, protocols=(_SUBPROTOCOL,)
        )
        if not socket.can_prepare(request).ok:
            raise RefusedError("bad_request", "got a plain request, expected a WebSocket")
        await socket.prepare(request)
        client = _Client(socket)
        self._clients.add(client)
        client.show(self._state.as_json())
        sending = asyncio.create_task(client.send_all())
        sending.add_done_callback(lambda _: _cut(request))
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                client.answer(await self._answer(message.data))
        finally:
            self._clients.discard(client)
            client.end()
            with contextlib.suppress(Exception):
                await sending
        return socket

    async def _answer(self, text: str | bytes) -> Json:
        """Do what a message of a listening client asks for."""
        number: Any = None
        try:
            asked = _object(text)
            number = asked.pop("id", None)
            name = asked.pop("command", None)
            if not isinstance(name, str):
                raise RefusedError("bad_request", 'got no command, expected {"command": NAME, ...its arguments}')
            return {"type": "answer", "id": number, "ok": True, **await self._do(name, asked)}
        except RefusedError as error:
            return {"type": "answer", "id": number, **_error(error)}

    def _hand_out(self) -> None:
        with self._lock:
            self._woken = False
            events, changed, state = list(self._events), self._changed, self._state
            self._events.clear()
            self._changed = False
        if not self._clients:
            return
        shown = state.as_json() if changed else None
        for client in self._clients:
            for event in events:
                client.tell(event)
            if shown is not None:
                client.show(shown)

    async def _tell_figures(self) -> None:
        while True:
            await asyncio.sleep(_FIGURES_S)
            if self._clients:
                figures = figures_as_json(self._operator.stats())
                for client in self._clients:
                    client.show_figures(figures)

    async def _stay_known(self) -> None:
        """Follow what another app does with the files that both share."""
        tell_again = functools.partial(self._tell_again, self._address, threading.current_thread())
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._follow_token()
            await _beside(tell_again)

    async def _follow_token(self) -> None:
        """Take over a token that another app has made, and let go of everybody who came by the one before."""
        if self._reading is not None:
            await asyncio.wait([self._reading])  # which may have begun before there was that token
        if self._reading is None or self._reading.done():
            self._reading = _beside(self._access.kept_token)  # one at a time, however many ask
        reading = self._reading
        await asyncio.wait([reading])
        token = reading.result().encode()
        if token and token != self._token:
            logger.info("another app has made a new token, which counts here too")
            self._token = token
            for client in self._clients:
                client.end()


def _beside(work: Callable[[], T]) -> "asyncio.Future[T]":
    """What comes of work that may take long; nobody waits for its thread at the end, as for a pool's."""
    done: Future[T] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="files of control", daemon=True).start()
    return asyncio.wrap_future(done)


class _TooMany(asyncio.Protocol):
    """A connection that is let go at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _Client:
    """One that listens, and what is not sent to it yet; on the server's loop.

    Args:
        socket: its connection.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._answers: deque[Json] = deque()
        self._events: deque[Json] = deque()
        self._missed = 0
        self._state: Json | None = None
        self._figures: Json | None = None
        self._new = asyncio.Event()
        self._ended = False

    def show(self, state: Json) -> None:
        """Have the newest state sent; those before that were not sent are of no use any more."""
        self._state = {"type": "state", **state}
        self._new.set()

    def show_figures(self, figures: Json) -> None:
        """Likewise with the figures."""
        self._figures = figures
        self._new.set()

    def tell(self, event: Json) -> None:
        """Have an event sent; where too many wait, the oldest is counted only."""
        if len(self._events) == _EVENTS_WAITING:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self._new.set()

    def answer(self, answer: Json) -> None:
        """Have an answer sent. Who asks on and on without reading is let go."""
        self._answers.append(answer)
        if len(self._answers) > _ANSWERS_WAITING:
            self.end()
        self._new.set()

    def end(self) -> None:
        """Send nothing more, and close."""
        self._ended = True
        self._new.set()

    async def send_all(self) -> None:
        """Send what there is, until the end or until the client takes nothing any more."""
        while not self._ended:
            await self._new.wait()
            self._new.clear()
            while not self._ended and (message := self._next()) is not None:
                await asyncio.wait_for(self._socket.send_str(json.dumps(message)), _SEND_S)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._socket.close(), 1.0)

    def _next(self) -> Json | None:
        if self._answers:
            return self._answers.popleft()
        if self._missed:
            missed, self._missed = self._missed, 0
            return {"type": "missed", "events": missed}
        if self._events:
            return self._events.popleft()
        state, self._state = self._state, None
        if state is not None:
            return state
        figures, self._figures = self._figures, None
        return figures


class _Allowance:
    """So many commands per second, and some more at once after a pause."""

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s = per_s
        self._most = self._left = at_once
        self._then_s = time.monotonic()

    def take(self, now_s: float) -> bool:
        self._left = min(self._most, self._left + self._per_s * max(0.0, now_s - self._then_s))
        self._then_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _in_one_line(record: logging.LogRecord) -> bool:
    """Whoever sends no HTTP, as a browser that tries https, leaves no traceback in the log of whoever runs the app."""
    if record.exc_info:
        cause = " ".join(str(record.exc_info[1]).split())
        logger.info("%s: %s", record.getMessage(), cause[:200])
    return not record.exc_info


def _cut(request: web.Request) -> None:
    """Have the reading end, too, of a client that takes nothing any more."""
    if request.transport is not None:
        request.transport.abort()


def _token_of(request: web.Request) -> str:
    """The token that a request shows: in its header, or, as pages cannot set one, among its WebSocket's protocols."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if (name := protocol.strip()).startswith(_TOKEN_SUBPROTOCOL):
            return name.removeprefix(_TOKEN_SUBPROTOCOL)
    return ""


def _object(text: str | bytes) -> Json:
    """A JSON object; nothing is one without anything in it.

    Raises:
        RefusedError: it is something else.
    """
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise RefusedError("bad_request", f"got no JSON ({str(error)[:80]}), expected an object") from error
    if not isinstance(value, dict):
        raise RefusedError(
            "bad_request", f"got JSON that is no object, expected one such as {json.dumps({'to': 'on'})}"
        )
    return value


def _error(error: RefusedError) -> Json:
    return {"ok": False, "error": {"code": error.code, "message": str(error)}}


def _failure(error: RefusedError) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "wrong_token" else None
    return web.json_response(_error(error), status=STATUS[error.code], headers=headers)


def _cannot_listen(port: int, error: Exception) -> AppError:
    if not isinstance(error, OSError):
        return AppError(phrase("control from outside: got port {port}, expected 0 to 65535", port=str(port)))
    if error.errno == errno.EADDRINUSE:
        why = phrase("another program has it, maybe another mcnet-avatar")
    else:
        why = error.strerror or str(error)
    return AppError(
        phrase(
            "control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free",
            port=str(port),
            why=why,
        )
    )
