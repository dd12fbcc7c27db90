"""`mcnet-avatar ctl`: asks the running app for something, from a terminal, a Stream Deck or a script.

It imports nothing heavy, so that it has done its work in a fraction of a second.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.control.access import Access
from app.control.protocol import GAINS, MOST_GAIN, VERSION
from app.errors import AppError
from app.places import control_folder, settings_file
from mcnet.commands.arguments import number, whole_number
from mcnet.packages import told_missing
from mcnet.phrases import offered

REFUSED, UNREACHABLE = 1, 3
"""Exit statuses besides 0, done, and 2, misused."""
_HOST = "127.0.0.1"
_PATIENCE_S = 8.0
_SWITCH = ("on", "off", "toggle")
_SWITCH_ON = (
    "switch on Control from outside in the window, or start mcnet-avatar with --control (with --headless too); then "
    "try again"
)
_NOT_OURS = "what answers on that port is no mcnet-avatar: name another --port"

Json = dict[str, Any]


class UnreachableError(AppError):
    """There is no app that listens."""


class _Answer(dict[str, Any]):
    """An object of an answer, which lacks what is asked of it where another program has answered."""

    def __missing__(self, key: str) -> Any:
        raise UnreachableError(_NOT_OURS)


def run_ctl(argv: Sequence[str]) -> int:
    """Ask the app; returns the exit status: 0 done, 1 refused, 2 misused, 3 there is no app that listens."""
    args = build_parser().parse_args(argv)
    try:
        return _run(Connection(Access(control_folder()), args.port), args)
    except UnreachableError as error:
        print(f"mcnet-avatar ctl: {error}", file=sys.stderr)
        return UNREACHABLE
    except AppError as error:
        print(f"mcnet-avatar ctl: {error}", file=sys.stderr)
        return REFUSED
    except ModuleNotFoundError as error:
        print(f"mcnet-avatar ctl: {told_missing(error)}", file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # whoever reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        return 0
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The command line of `mcnet-avatar ctl`."""
    parser = argparse.ArgumentParser(
        prog="mcnet-avatar ctl",
        description="Control the mcnet-avatar that runs, whose control from outside is switched on.",
        epilog="Exit status: 0 done, 1 refused by the app, 2 misused, 3 no app listens. docs/control.md tells more.",
    )
    _add_port(parser, None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    slate = commands.add_parser("slate", help="show the slate at once, or take it away")
    slate.add_argument("to", nargs="?", choices=_SWITCH, default="on", help="default: on")
    commands.add_parser(
        "live", help="take the slate away; the window refuses while something is missing that a call needs"
    )
    commands.add_parser("stop", help="leave the slate up; the call keeps its picture")
    portrait = commands.add_parser("portrait", help="animate another portrait; alone, list them")
    portrait.add_argument("name", nargs="?", metavar="NAME", help="name or id of one in the gallery")
    portrait.add_argument("--next", dest="step", action="store_const", const=1, help="the next one")
    portrait.add_argument("--previous", dest="step", action="store_const", const=-1, help="the one before")
    calibrate = commands.add_parser("calibrate", help="take the reference pose anew")
    calibrate.add_argument("--now", action="store_true", help="from this very moment; else the best of some seconds")
    record = commands.add_parser("record", help="begin or end a recording")
    record.add_argument("to", nargs="?", choices=_SWITCH, default="toggle", help="default: toggle")
    preset = commands.add_parser("preset", help="put a preset's strengths in force; alone, list them")
    preset.add_argument("name", nargs="?", metavar="NAME")
    gains = commands.add_parser("gains", help="change strengths; alone, list them")
    gains.add_argument(
        "changes", nargs="*", type=_gain, metavar="NAME=VALUE", help=f"{', '.join(GAINS)}: 0 to {MOST_GAIN:g}"
    )
    retouch = commands.add_parser("retouch", help="draw skin, teeth and closed lids, in motion in space, or do not")
    retouch.add_argument("to", nargs="?", choices=_SWITCH, default="toggle", help="default: toggle")
    detail = commands.add_parser("detail", help="show the portrait's own fine detail, or do not")
    detail.add_argument("to", nargs="?", choices=_SWITCH, default="toggle", help="default: toggle")
    status = commands.add_parser("status", help="say how the app stands")
    status.add_argument("--json", action="store_true", help="all of it, as JSON")
    commands.add_parser("watch", help="print every change and event as a line of JSON, until Ctrl-C")
    for command in commands.choices.values():
        _add_port(command, argparse.SUPPRESS)  # what stands before the command stays
    return parser


def _add_port(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        default=default,
        metavar="PORT",
        help="where the app listens (default: as it says itself)",
    )


def _gain(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in GAINS:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=VALUE with a name of {offered(GAINS, name)}")
    return name, number(0, MOST_GAIN)(value)


def _run(app: "Connection", args: argparse.Namespace) -> int:
    match args.command:
        case "watch":
            import asyncio

            return asyncio.run(app.watch())
        case "status":
            state = app.ask("GET", "/v1/state")
            print(json.dumps(state, indent=2) if args.json else status_text(state))
        case "slate" | "record":
            done = app.do(args.command, {"to": args.to})
            print(f"slate: {'on' if done['slate'] else 'off'}" if args.command == "slate" else _recording(done))
        case "retouch":
            print(f"retouch: {'on' if app.do('retouch', {'to': args.to})['retouch'] else 'off'}")
        case "detail":
            print(f"fine detail: {'on' if app.do('detail', {'to': args.to})['fine_detail'] else 'off'}")
        case "live" | "stop":
            print(f"slate: {'on' if app.do(args.command, {})['slate'] else 'off'}")
        case "portrait" if args.name is None and args.step is None:
            print(portraits_text(app.ask("GET", "/v1/state")))
        case "portrait":
            wanted = {"name": args.name, "step": args.step}
            done = app.do("portrait", {key: value for key, value in wanted.items() if value is not None})
            print(f"portrait: {done['portrait']['name']}")
        case "calibrate":
            app.do("calibrate", {"now": args.now})
            print("calibrating")
        case "preset" if args.name is None:
            state = app.ask("GET", "/v1/state")
            print("\n".join(f"{'*' if name == state['preset'] else ' '} {name}" for name in state["presets"]))
        case "preset":
            print(f"preset: {app.do('preset', {'name': args.name})['preset']}")
        case "gains":
            changes = dict(args.changes)
            gains = app.do("gains", changes)["gains"] if changes else app.ask("GET", "/v1/state")["gains"]
            print("\n".join(f"{name}={value:g}" for name, value in gains.items()))
    return 0


class Connection:
    """Talks to the app that listens.

    Args:
        access: where it says so, and the token.
        port: another one than it says, or None.

    Attributes:
        port: where it is asked.
    """

    def __init__(self, access: Access, port: int | None) -> None:
        address = access.address()
        if port is None:
            if address is None:
                raise UnreachableError(_nobody())
            port = address.port
        if address is not None and address.port == port and address.version != VERSION:
            got = f"the app speaks version {address.version} of the protocol, this command {VERSION}"
            raise AppError(f"{got}: use the mcnet-avatar that was installed with the app")
        self.port = port
        self._token = access.kept_token()
        if not self._token:
            flaw = f"cannot read the token in {access.token_path}, or others can read it too"
            raise AppError(f"{flaw}: switch control from outside off and on again, which makes a new one")

    def ask(self, method: str, path: str, arguments: Mapping[str, Any] | None = None) -> Json:
        """One request.

        Raises:
            AppError: the app refuses it.
            UnreachableError: nobody answers.
        """
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=_PATIENCE_S)
        body = None if arguments is None else json.dumps(arguments)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            values = json.loads(answer.read(), object_hook=_Answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"nobody answers on port {self.port} ({error}): {_SWITCH_ON}") from error
        finally:
            connection.close()
        done = answer.status == http.client.OK
        said = values if done or not isinstance(values, dict) else values["error"]
        if not isinstance(said, dict):
            raise UnreachableError(_NOT_OURS)
        if not done:
            raise AppError(str(said["message"]))
        return said

    def do(self, command: str, arguments: Mapping[str, Any]) -> Json:
        """One command; as `ask`."""
        return self.ask("POST", f"/v1/commands/{command}", arguments)

    async def watch(self) -> int:
        """Print what the app tells, line by line, until it ends.

        Raises:
            UnreachableError: nobody answers.
        """
        import aiohttp

        self.ask("GET", "/v1/state")["version"]  # so that what is wrong is told as for every other command
        url, headers = f"http://{_HOST}:{self.port}/v1/events", {"Authorization": f"Bearer {self._token}"}
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        print(message.data, flush=True)
        except aiohttp.WSServerHandshakeError as error:
            said = f"the app takes no other listener (HTTP status {error.status}): end another ctl watch, or try again"
            raise AppError(said) from error
        except aiohttp.ClientError as error:
            raise UnreachableError(f"nobody answers on port {self.port} ({error}): {_SWITCH_ON}") from error
        raise UnreachableError("the app has ended, or its control from outside was switched off")


def _nobody() -> str:
    """Why nobody listens, as far as can be seen."""
    with contextlib.suppress(OSError, ValueError):
        lock = settings_file().with_name(settings_file().name + ".lock")
        process = int(lock.read_text(encoding="utf-8").split()[0])
        if Path(f"/proc/{process}").is_dir() or os.name != "posix":
            return f"mcnet-avatar runs (process {process}), but its control from outside is off: {_SWITCH_ON}"
    return f"mcnet-avatar does not run, or its control from outside is off: {_SWITCH_ON}"


def _recording(done: Json) -> str:
    return f"recording: {done['recording'] or 'off'}"


def status_text(state: Json) -> str:
    """A state for people, a line each."""
    only_you_see_it = state["shows_avatar"] and not state["live"]
    shown = "PREVIEW" if only_you_see_it else state["state"].upper()
    lines = [f"{shown}{': ' + state['why'] if state['why'] else ''}"]
    lines.append(f"the call sees {'the avatar' if state['live'] else 'the slate, or nothing'}")
    if state["missing"]:
        lines.append(f"missing: {state['missing']}")
    if state["portrait"]:
        lines.append(f"portrait: {state['portrait']['name']} ({state['portrait']['id']})")
    lines.append(f"camera: {state['camera'] or 'none'}")
    if state["score"] is not None:
        lines.append(f"calibration: {state['score']} of 100")
    lines.append(_recording(state))
    if state["model"]:
        lines.append(f"model: {state['model']} on {state['device']} with {state['backend']}")
    return "\n".join(lines)


def portraits_text(state: Json) -> str:
    """The gallery, a line each; the one that is animated has a star."""
    current = (state["portrait"] or {}).get("id")
    return "\n".join(f"{'*' if one['id'] == current else ' '} {one['id']}  {one['name']}" for one in state["portraits"])
