"""Numbers on the command lines of all commands."""

import argparse
from collections.abc import Iterator

import pytest

from app.__main__ import build_parser as build_app_parser
from mcnet.__main__ import build_parser
from mcnet.commands.arguments import number, seconds, seed, whole_number
from training.__main__ import build_parser as build_train_parser


def _actions(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                yield from _actions(below, f"{name} {command}")
        else:
            yield f"{name} {'/'.join(action.option_strings) or action.dest}", action


ALL = dict(
    found
    for parser, name in (
        (build_parser(), "mcnet"),
        (build_app_parser(), "mcnet-avatar"),
        (build_train_parser(), "mcnet-train"),
    )
    for found in _actions(parser, name)
)
RANGE = r"got .*, expected a (whole )?number (from|above) -?[0-9.]+ to [0-9]"
NUMBERS = {
    name: action
    for name, action in ALL.items()
    if callable(action.type) and action.type.__module__.startswith("mcnet.commands")  # places are no numbers
} | {"mcnet-train evaluate --frames-per-clip": ALL["mcnet-train evaluate --frames-per-clip"]}


def test_every_number_has_a_range() -> None:
    assert len(NUMBERS) > 20
    for option in ("--frames", "--fps", "--seconds", "--camera-timeout-s"):
        assert f"mcnet-avatar {option}" in NUMBERS
    plain = [name for name, action in ALL.items() if action.type in (int, float) and not action.choices]
    assert not plain, "these take any number: give them a type of mcnet.commands.arguments"


@pytest.mark.parametrize("text", ["-5", "nan", "inf", "-inf", "1e400", "9" * 5000, "", "many", "0x10", "½"])
@pytest.mark.parametrize("option", NUMBERS)
def test_what_is_no_number_within_the_range_is_refused_with_the_range(option: str, text: str) -> None:
    convert = NUMBERS[option].type
    assert callable(convert)
    with pytest.raises(argparse.ArgumentTypeError, match=RANGE):
        convert(text)


SIGNED = ("mcnet-avatar --portrait-x", "mcnet-avatar --portrait-y")
"""Shares to either side; all else begins with zero or above it."""


@pytest.mark.parametrize("option", NUMBERS)
def test_a_little_below_zero_is_refused_where_nothing_has_two_sides(option: str) -> None:
    convert = NUMBERS[option].type
    assert callable(convert)
    if option in SIGNED:
        assert convert("-0.001") == -0.001
        return
    with pytest.raises(argparse.ArgumentTypeError, match=RANGE):
        convert("-0.001")


def test_what_is_asked_for_with_0_and_without_a_default_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        (["--frames", "0"], "got '0', expected a whole number from 1 to 1000000000"),
        (["--frames", "-5"], "got '-5', expected a whole number from 1"),
        (["--fps", "0"], "got '0', expected a number from 1 to 120"),
        (["--seconds", "-5"], "got '-5', expected a number above 0 to 10000000"),
        (["--camera-timeout-s", "-1"], "got '-1', expected a number above 0 to 10000000"),
    ):
        with pytest.raises(SystemExit, match="2"):
            build_app_parser().parse_args(["--headless", *options])
        assert f"argument {options[0]}: {message}" in capsys.readouterr().err


def test_the_ends_of_a_range() -> None:
    assert (whole_number(1, 3)("1"), whole_number(1, 3)(" 3 ")) == (1, 3)
    assert (number(0, 1)("0"), number(0, 1)("1"), number(0, 1)("1e-3")) == (0.0, 1.0, 0.001)
    assert (seconds(zero=True)("0"), seed()("4294967295")) == (0.0, 4294967295)
    for convert, text in (
        (whole_number(1, 3), "4"),
        (number(0, 1, above=True), "0"),
        (seconds(), "0"),
        (seed(), "4294967296"),
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            convert(text)
