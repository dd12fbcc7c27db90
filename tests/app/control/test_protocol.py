from typing import Any

import pytest

from app.control.protocol import (
    COMMANDS,
    STATUS,
    ApplyPreset,
    Calibrate,
    ChoosePortrait,
    Command,
    Live,
    Record,
    RefusedError,
    SetGains,
    Slate,
    Stop,
    SwitchDetail,
    SwitchRetouch,
    help_of_commands,
    read_command,
)


@pytest.mark.parametrize(
    ("name", "arguments", "command"),
    [
        ("slate", {}, Slate("on")),
        ("slate", {"to": "off"}, Slate("off")),
        ("live", {}, Live()),
        ("stop", {}, Stop()),
        ("portrait", {"name": "woman_1"}, ChoosePortrait("woman_1")),
        ("portrait", {"step": -1}, ChoosePortrait(step=-1)),
        ("calibrate", {"now": True}, Calibrate(now=True)),
        ("record", {}, Record("toggle")),
        ("preset", {"name": "Lively"}, ApplyPreset("Lively")),
        ("gains", {"mouth": 2, "lids": 0.5}, SetGains((("mouth", 2.0), ("lids", 0.5)))),
        ("retouch", {}, SwitchRetouch("toggle")),
        ("retouch", {"to": "off"}, SwitchRetouch("off")),
        ("detail", {}, SwitchDetail("toggle")),
        ("detail", {"to": "on"}, SwitchDetail("on")),
    ],
)
def test_commands_are_read(name: str, arguments: dict[str, Any], command: Command) -> None:
    assert read_command(name, arguments) == command


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        (
            "quit",
            {},
            "unknown_command",
            "expected one of slate, live, stop, portrait, calibrate, record, preset, gains",
        ),
        ("x" * 5000, {}, "unknown_command", "xxx"),
        ("slate", {"to": "away"}, "bad_argument", "expected on or off or toggle"),
        ("slate", {"to": True}, "bad_argument", "expected on or off or toggle"),
        ("slate", {"on": True}, "bad_argument", "unknown argument on"),
        ("live", {"now": True}, "bad_argument", "unknown argument now"),
        ("portrait", {}, "bad_argument", "both or none of name and step"),
        ("portrait", {"name": "a", "step": 1}, "bad_argument", "both or none of name and step"),
        ("portrait", {"name": 3}, "bad_argument", "expected str"),
        ("calibrate", {"now": "yes"}, "bad_argument", "expected bool"),
        ("preset", {}, "bad_argument", "got no name"),
        ("preset", {"name": " "}, "bad_argument", "got an empty name"),
        ("gains", {}, "bad_argument", "got none, expected one or more of motion"),
        ("gains", {"nose": 1}, "bad_argument", "got 'nose', expected one or more of motion"),
        ("gains", {"mouth": 2.1}, "bad_argument", "expected 0 to 2"),
        ("gains", {"mouth": float("nan")}, "bad_argument", "expected 0 to 2"),
        ("gains", {"mouth": True}, "bad_argument", "expected 0 to 2"),
        ("gains", {"mouth": "1"}, "bad_argument", "expected 0 to 2"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, arguments: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_command(name, arguments)
    assert refused.value.code == code
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


def test_every_command_is_explained_and_every_code_has_a_status() -> None:
    assert set(help_of_commands()) == set(COMMANDS)
    assert all(one["what"].endswith(".") for one in help_of_commands().values())
    assert set(STATUS.values()) <= {400, 401, 403, 404, 409, 413, 429, 500, 504}
