"""One version, in pyproject.toml, and all who say it."""

import importlib.metadata
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import app.__main__
import mcnet
import mcnet.__main__
import training.__main__

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.mark.parametrize("main", [mcnet.__main__.main, app.__main__.main, training.__main__.main])
def test_every_program_says_the_installed_version(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    name, version = capsys.readouterr().out.split()
    assert name in ("mcnet", "mcnet-avatar", "mcnet-train")
    assert version == mcnet.__version__ == importlib.metadata.version("mcnet-avatar")


def test_a_checkout_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert mcnet.__version__ == "unknown"


def test_the_changelog_begins_with_it() -> None:
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0] == VERSION


def test_what_installers_read_has_it() -> None:
    patterns = {
        "linux/*.metainfo.xml": r'<release version="([^"]+)"',
        "windows/*.yaml": r"^PackageVersion: (\S+)",
        "macos/*.rb": r'^ *version "([^"]+)"',
    }
    for glob, pattern in patterns.items():
        files = list((ROOT / "packaging").glob(glob))
        assert files
        for file in files:
            assert re.findall(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)[0] == VERSION, file.name
