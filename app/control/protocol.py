"""What may be asked of the running app from outside, and how it refuses: commands, their arguments, errors.

Version 1 of the protocol. What is there keeps its name and its meaning; what is added does not change the version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from app.errors import AppError
from app.settings import EXPRESSION_PARTS, MOTION_PARTS
from mcnet.errors import UserError
from mcnet.phrases import offered
from mcnet.tables import build

VERSION = 1
GAINS = ("motion", "expression", *MOTION_PARTS, *EXPRESSION_PARTS)
"""Each is a strength in the settings, 0 to 2."""
MOST_GAIN = 2.0

Switch = Literal["on", "off", "toggle"]
Code = Literal[
    "bad_request",
    "not_allowed",
    "wrong_token",
    "unknown_path",
    "unknown_command",
    "bad_argument",
    "not_found",
    "not_now",
    "too_large",
    "too_many",
    "busy",
    "failed",
]

STATUS: dict[Code, int] = {
    "bad_request": 400,
    "not_allowed": 403,
    "wrong_token": 401,
    "unknown_path": 404,
    "unknown_command": 404,
    "bad_argument": 400,
    "not_found": 404,
    "not_now": 409,
    "too_large": 413,
    "too_many": 429,
    "busy": 504,
    "failed": 500,
}
"""HTTP's status for each code."""


class RefusedError(AppError):
    """What was asked cannot be done.

    Args:
        code: why, for programs.
        message: why, for people.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Slate:
    """Show the slate, or take it away. `to`: `off` does what `Live` does."""

    to: Switch = "on"


@dataclass(frozen=True)
class Live:
    """Take the slate away; the window refuses while something is missing that a call needs."""


@dataclass(frozen=True)
class Stop:
    """Leave the slate up."""


@dataclass(frozen=True)
class ChoosePortrait:
    """Animate another portrait of the gallery: by its id or name, or so many further on, round and round."""

    name: str = ""
    step: int = 0

    def __post_init__(self) -> None:
        if bool(self.name) == bool(self.step):
            raise RefusedError("bad_argument", "portrait: got both or none of name and step, expected one of them")


@dataclass(frozen=True)
class Calibrate:
    """Take the reference pose anew: the best of the next seconds, or this very moment's."""

    now: bool = False


@dataclass(frozen=True)
class Record:
    """Begin or end a recording."""

    to: Switch = "toggle"


@dataclass(frozen=True)
class SetGains:
    """Change strengths. `changes`: name and value of each."""

    changes: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "SetGains":
        """From plain values.

        Raises:
            RefusedError: there are none, one is not known, or one is out of its range.
        """
        expected = f"expected one or more of {', '.join(GAINS)}"
        for name, value in arguments.items():
            if name not in GAINS:
                raise RefusedError(
                    "bad_argument", f"gains: got {name[:40]!r}, expected one or more of {offered(GAINS, name)}"
                )
            if type(value) not in (int, float) or not 0 <= value <= MOST_GAIN:
                raise RefusedError(
                    "bad_argument", f"gains: got {str(value)[:40]} for {name}, expected 0 to {MOST_GAIN:g}"
                )
        if not arguments:
            raise RefusedError("bad_argument", f"gains: got none, {expected}")
        return cls(tuple((name, float(value)) for name, value in arguments.items()))


@dataclass(frozen=True)
class ApplyPreset:
    """Put a preset's strengths in force."""

    name: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise RefusedError("bad_argument", "preset: got an empty name, expected one of the presets'")


@dataclass(frozen=True)
class SwitchRetouch:
    """Have what the network cannot show of a portrait drawn, or leave it as it is."""

    setting: ClassVar[str] = "retouch"
    """The field of `LiveSettings` that it switches."""
    to: Switch = "toggle"


@dataclass(frozen=True)
class SwitchDetail:
    """Have the portrait's own fine detail shown, or the network's pictures alone."""

    setting: ClassVar[str] = "fine_detail"
    to: Switch = "toggle"


Command = (
    Slate | Live | Stop | ChoosePortrait | Calibrate | Record | SetGains | ApplyPreset | SwitchRetouch | SwitchDetail
)


@dataclass(frozen=True)
class CommandHelp:
    """What is said of a command.

    Attributes:
        kind: what it is read into.
        what: what it does.
        arguments: what each means.
    """

    kind: type[Command]
    what: str
    arguments: Mapping[str, str]


_TO = "on, off or toggle"
COMMANDS: dict[str, CommandHelp] = {
    "slate": CommandHelp(Slate, "Show the slate at once, or take it away.", {"to": f"{_TO}; without it: on"}),
    "live": CommandHelp(
        Live, "Take the slate away; the window refuses while something is missing that a call needs.", {}
    ),
    "stop": CommandHelp(Stop, "Leave the slate up; the call keeps its picture.", {}),
    "portrait": CommandHelp(
        ChoosePortrait,
        "Animate another portrait of the gallery.",
        {"name": "its id or name", "step": "1: the next one, -1: the one before"},
    ),
    "calibrate": CommandHelp(
        Calibrate, "Take the reference pose anew.", {"now": "true: this very moment's; else the best of some seconds"}
    ),
    "record": CommandHelp(Record, "Begin or end a recording.", {"to": f"{_TO}; without it: toggle"}),
    "preset": CommandHelp(ApplyPreset, "Put a preset's strengths in force.", {"name": "of the preset"}),
    "gains": CommandHelp(SetGains, "Change strengths.", dict.fromkeys(GAINS, f"0 to {MOST_GAIN:g}")),
    "retouch": CommandHelp(
        SwitchRetouch,
        "Draw skin, teeth and closed lids, in motion in space, or leave them as the network makes them.",
        {"to": f"{_TO}; without it: toggle"},
    ),
    "detail": CommandHelp(
        SwitchDetail,
        "Show the portrait's own fine detail, or the network's pictures alone.",
        {"to": f"{_TO}; without it: toggle"},
    ),
}


def read_command(name: str, arguments: Mapping[str, Any]) -> Command:
    """A command from its name and plain values.

    Raises:
        RefusedError: it is not known, or an argument is not.
    """
    known = COMMANDS.get(name)
    if known is None:
        offer = offered(COMMANDS, name)
        raise RefusedError("unknown_command", f"got the command {name[:40]!r}, expected one of {offer}")
    if known.kind is ApplyPreset and "name" not in arguments:
        raise RefusedError("bad_argument", "preset: got no name, expected one of the presets'")
    try:
        return SetGains.of(arguments) if known.kind is SetGains else build(known.kind, arguments, what="argument")
    except RefusedError:
        raise
    except UserError as error:
        raise RefusedError("bad_argument", f"{name}: {str(error)[:200]}") from error


def help_of_commands() -> dict[str, Any]:
    """Every command and its arguments, ready for JSON."""
    return {name: {"what": one.what, "arguments": dict(one.arguments)} for name, one in COMMANDS.items()}
