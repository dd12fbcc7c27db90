"""Where the commands and the app keep things."""

import os
from pathlib import Path

import pytest

from app import places as of_the_app
from mcnet import places


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number that has no name."""
    for name in [*os.environ]:
        if name == "HOME" or name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    of_commands = (places.measured_file, places.local_signer_file)
    for find in (*of_commands, of_the_app.settings_file, of_the_app.portraits_folder, of_the_app.source_cache_folder):
        with pytest.raises(places.NoHomeError, match="set HOME to a folder"):
            find()


def test_the_folders_of_a_user_are_in_their_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [*os.environ]:
        if name.startswith("XDG_"):
            monkeypatch.delenv(name)
    assert places.local_signer_file().is_relative_to(tmp_path)
    assert of_the_app.videos_folder().is_relative_to(tmp_path)
