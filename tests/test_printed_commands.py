"""Every command that the README and the documentation print can be typed.

One of ours is parsed by its own parser, with the values that it looks at before it works; a target of `make` is walked
through without being done; what needs neither device nor data is run. What no test can run is named in `NOT_RUN`.
"""

import argparse
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

import pytest

from app.control.protocol import read_command
from app.headless import parse_sink
from app.pipeline.camera_spec import is_address, parse_camera
from app.pipeline.doctor import Fix
from app.pipeline.output.virtual_camera_report import LinuxProbe
from app.pipeline.v4l2 import VideoDevices
from app.settings import DEFAULT_PORT
from mcnet.commands.animate_options import parse_one
from mcnet.commands.jobs import read_jobs
from mcnet.errors import UserError
from mcnet.media.portraits import bundled_portraits
from mcnet.model_file import bundled_models
from training.fit.config import load_config

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "packaging/README.md", "assets/README.md")),
    *sorted(ROOT.glob("assets/models/*.md")),
    *sorted(ROOT.glob("docs/*.md")),
]
PROGRAMS = {"mcnet": "mcnet", "mcnet-avatar": "app", "mcnet-train": "training"}
NOT_RUN = {
    "sudo": "needs root and a kernel module; the doctor gives the same lines, which is looked at",
    "echo": "is a part of these lines",
    ".": "a shell's own, in an environment that make has made",
    "pip": "fetches from the network; that the extras exist is looked at",
    "sh": "runs what `travel` wrote, which tests/training/test_journey.py does",
}
"""First words of commands that are printed and not run, and why."""
_NAMED_IN_SENTENCES = (*PROGRAMS, "make", "python", "python3", "pip")


class Command(NamedTuple):
    """As a page prints it; `whole` where a reader is to type it as it is, and not a part of it or a pattern."""

    page: str
    text: str
    whole: bool

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def _printed() -> Iterator[Command]:
    for page in PAGES:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip():
                    yield Command(name, line.removesuffix(" ...").strip(), not line.endswith(" ..."))
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`([^`]+)`", prose):
            words = span.split()
            if len(words) > 1 and words[0].removeprefix(".venv/bin/") in _NAMED_IN_SENTENCES:
                yield Command(name, " ".join(words), False)


COMMANDS = list(_printed())
_OURS = [command for command in COMMANDS if command.words and command.words[0] not in NOT_RUN]


class _Parser(Exception):  # noqa: N818 - it is no error
    """Carries a program's parser out of its `main`, and what it was to parse, before that does anything."""


def parser_of(module: str, words: Sequence[str] = ()) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser that a program makes for these words, and those of them that it is given.

    Args:
        module: as `python -m` runs it.
        words: after the program's name.
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if spec.submodule_search_locations:
        module = f"{module}.__main__"

    def carry(parser: argparse.ArgumentParser, given: Sequence[str] | None = None, *_: object) -> NoReturn:
        raise _Parser(parser, sys.argv[1:] if given is None else list(given))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", carry)
        patch.setattr(sys, "argv", [module, *words])
        try:
            importlib.import_module(module).main()
        except _Parser as carried:
            parser: argparse.ArgumentParser = carried.args[0]
            return parser, carried.args[1]
    raise AssertionError(f"{module} parses no arguments")


def subparser_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that words begin with, where there are several."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            name = next((word for word in words if not word.startswith("-")), None)
            if name is None:  # the program alone
                break
            assert name in action.choices, f"there is no command {name}"
            found: argparse.ArgumentParser = action.choices[name]
            return found
    return parser


def check_arguments(parser: argparse.ArgumentParser, words: Sequence[str], *, whole: bool) -> None:
    """See that a program takes these words: all of them, or the options among them."""
    if not whole:
        known = {*parser._option_string_actions, *subparser_of(parser, words)._option_string_actions}
        assert [word for word in words if word.startswith("-") and word.partition("=")[0] not in known] == []
        return

    def fail(_: argparse.ArgumentParser, message: str) -> NoReturn:
        raise AssertionError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", fail)
        check_values(vars(parser.parse_args(words)))


def check_values(given: dict[str, object]) -> None:
    """See that what is named is there: bundled portraits and models, files of the repository, keys, cameras, sinks."""
    for value in given.values():
        for text in value if isinstance(value, list) else [value]:
            if str(text).startswith(("assets/", "tests/", "docs/")):
                assert (ROOT / str(text)).exists(), f"there is no {text}"
    if (source := given.get("source")) is not None:
        assert source in bundled_portraits() or Path(str(source)).suffix, f"no portrait is called {source}"
    if isinstance(model := given.get("model"), str) and not Path(model).suffix:
        assert model in bundled_models(), f"no model is called {model}"
    if is_address(camera := str(given.get("camera") or "")):
        parse_camera(camera)
    sinks = given.get("sink") or []
    for sink in sinks if isinstance(sinks, list) else [sinks]:
        parse_sink(str(sink))
    overrides = given.get("overrides")
    load_config(str(given.get("config") or "ablation"), overrides if isinstance(overrides, list) else [])


def check_module(words: Sequence[str], *, whole: bool) -> None:
    """See that `python -m` finds it, and that it takes these words."""
    if words[0] == "pytest":
        assert [word for word in words if word.endswith(".py") and not (ROOT / word).is_file()] == []
    elif words[0] == "tests.media.matrix":  # has no options: a file to write
        assert importlib.util.find_spec(words[0]) is not None
        assert [(ROOT / word).is_file() for word in words[1:]] == [True]
    else:
        check_arguments(*parser_of(words[0], words[1:]), whole=whole)


def check_request(words: Sequence[str]) -> None:
    """See that the app that runs would take what curl asks for."""
    address = urlsplit(words[-1])
    assert (address.hostname, address.port) == ("127.0.0.1", DEFAULT_PORT)
    name = address.path.removeprefix("/v1/commands/")
    read_command(name, json.loads(words[words.index("--data") + 1]))


def try_command(command: Command) -> None:
    """See that a command can be typed; an AssertionError says why not."""
    first, *rest = command.words
    first = first.removeprefix(".venv/bin/")
    if first in PROGRAMS:
        check_arguments(*parser_of(PROGRAMS[first], rest), whole=command.whole)
    elif first == "make":
        done = subprocess.run(
            ["make", "-n", *rest], cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
    elif first == "export":
        assert all(re.fullmatch(r"[A-Z_]+=[\w.]+", word) for word in rest)
    elif first == "curl":
        check_request(rest)
    elif re.match(r"\w+=", first):
        assert rest[-1].endswith("/mcnet-avatar/control/token)"), (
            f"{command.text}: the only file that is read by a shell"
        )
    elif first in ("python", "python3") and rest[0] == "-m":
        check_module(rest[1:], whole=command.whole)
    elif first in ("python", "python3"):
        done = subprocess.run(
            [sys.executable, *rest], cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    else:
        raise AssertionError(f"nothing here knows how to try {command.text!r}: teach it, or name it in NOT_RUN")


@pytest.mark.parametrize("command", _OURS, ids=lambda command: f"{command.page}-{command.text[:50]}")
def test_a_command_can_be_typed(command: Command) -> None:
    try_command(command)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("mcnet animate --source woman_1 --driving a.mp4 --output b.mp4 --no-such-option", True),
        ("mcnet animate --source woman_99 --driving a.mp4 --output b.mp4", True),
        ("mcnet animate --source woman_1 --driving assets/driving/none.mpg --output b.mp4", True),
        ("mcnet fly", False),
        ("mcnet-train ablate --data DATA --set full.no_such_key=1", True),
        ("mcnet-train fit --no-such-option", False),
        ("mcnet-avatar --headless --camera gopher://a --source woman_1 --sink null", True),
        ("mcnet-avatar --headless --camera 0 --source woman_1 --sink printer", True),
        ("mcnet-avatar ctl fly", True),
        ("mcnet-avatar ctl gains nose=1", True),
        ("curl --data '{}' http://127.0.0.1:8713/v1/commands/fly", True),
        ("make no-such-target", False),
        ("python -m tests.no_such_module", False),
        ("no-such-program --help", True),
    ],
)
def test_a_command_that_cannot_be_typed_is_found_out(text: str, whole: bool) -> None:
    with pytest.raises((AssertionError, UserError)):
        try_command(Command("a page", text, whole))


def _options(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(_options, action.choices.values()))
    return found


def test_every_option_that_a_sentence_names_exists() -> None:
    known: set[str] = set()
    for module in (*PROGRAMS.values(), "training.recipes.starter", "tests.soak", "tests.app.ui.screenshot"):
        known |= _options(parser_of(module)[0])
    known |= _options(parser_of("app", ["ctl"])[0])
    named = {
        (page.name, word)
        for page in PAGES
        for span in re.findall(
            r"`(--?[a-z][^`]*)`", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        )
        for word in span.split()
        if word.startswith("-")
    }
    assert len(named) > 30
    assert [(page, word) for page, word in sorted(named) if word.partition("=")[0] not in known] == []


def test_the_table_of_jobs_can_be_read(tmp_path: Path) -> None:
    example = re.search(
        r"^```csv\n(.+?)^```", (ROOT / "docs" / "animate.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert example is not None
    (tmp_path / "jobs.csv").write_text(example[1], encoding="utf-8")
    for name in ("talk.mp4", "me.jpg"):
        (tmp_path / name).touch()
    jobs = read_jobs(tmp_path / "jobs.csv", [], parse_one)
    assert [job.output for job in jobs] == ["woman-talking.mp4", "me-talking.mp4"]


def test_the_extras_that_pip_is_asked_for_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [command for command in COMMANDS if command.words[0] == "pip" and ".[" in command.text]
    assert asked
    for command in asked:
        for names in re.findall(r"\.\[([\w,]+)\]", command.text):
            assert set(names.split(",")) <= set(project["optional-dependencies"]), command


def test_the_lines_for_root_are_the_doctors_but_for_what_make_needs(tmp_path: Path) -> None:
    probe = LinuxProbe(VideoDevices(tmp_path), "6.1.0")
    fixes: tuple[Fix, ...] = probe.examine(None).fixes
    advice = {line for fix in fixes for line in fix.command.splitlines()}
    printed = [command.text for command in COMMANDS if command.words[0] in ("sudo", "echo")]
    assert len(printed) >= 4
    assert [line for line in printed if line not in advice] == ["sudo apt install git make python3-venv"]


def test_what_is_not_run_is_printed_somewhere() -> None:
    assert set(NOT_RUN) <= {command.words[0] for command in COMMANDS}
