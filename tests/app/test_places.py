"""How paths are shown."""

import os
from pathlib import Path

import pytest

from app.places import from_home


@pytest.mark.skipif(os.name == "nt", reason="~ is not usual there")
@pytest.mark.parametrize(
    ("home", "path", "shown"),
    [
        ("/home/ada", "/home/ada/Videos", "~/Videos"),
        ("/home/ada", "/home/ada", "~"),
        ("/home/ada", "/home/adam/Videos", "/home/adam/Videos"),
        ("/", "/srv/Videos", "/srv/Videos"),
    ],
)
def test_what_lies_at_home_begins_with_a_tilde(
    home: str, path: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    assert from_home(Path(path)) == shown


def test_an_account_without_a_home_sees_whole_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    assert from_home(Path("/srv/Videos")) == str(Path("/srv/Videos"))
