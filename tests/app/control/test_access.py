import json
import logging
import os
import secrets
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.control.access import Access, Address
from app.errors import AppError

posix = pytest.mark.skipif(os.name != "posix", reason="Windows hands down the profile folder's permissions")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_nobody_else_can_read_what_is_kept_and_it_stays(tmp_path: Path) -> None:
    before = os.umask(0)  # the most that could be given away
    try:
        access = Access(tmp_path / "config" / "control")
        token = access.token()
        access.tell(Address(8713, os.getpid(), 1))
    finally:
        os.umask(before)
    assert len(token) == 64
    assert mode(access.folder) == 0o700
    assert {path.name: mode(path) for path in access.folder.iterdir()} == {"token": 0o600, "address.json": 0o600}
    assert Access(access.folder).token() == token
    assert Access(access.folder).kept_token() == token


@posix
@pytest.mark.parametrize("before", ["", "damaged"])
def test_two_apps_that_start_at_once_have_one_token(
    tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one asks while the first one makes it."""
    if before:
        (tmp_path / "token").write_text(before, encoding="utf-8")
    seconds: list[str] = []
    second = threading.Thread(target=lambda: seconds.append(Access(tmp_path).token()))
    token_hex = secrets.token_hex

    def make(size: int) -> str:
        if second.ident is None:
            second.start()
            second.join(0.3)
        return token_hex(size)

    monkeypatch.setattr(secrets, "token_hex", make)
    first = Access(tmp_path).token()
    second.join(10)
    assert seconds == [first] == [Access(tmp_path).kept_token()]


@posix
@pytest.mark.parametrize("flaw", ["readable", "damaged", "empty"])
def test_a_token_that_others_may_know_is_made_anew(tmp_path: Path, flaw: str, caplog: pytest.LogCaptureFixture) -> None:
    access = Access(tmp_path)
    token = access.token()
    if flaw == "readable":
        access.token_path.chmod(0o644)
    else:
        access.token_path.write_text("" if flaw == "empty" else "guess me", encoding="utf-8")
    assert access.kept_token() == ""
    with caplog.at_level(logging.WARNING):
        other = access.token()
    assert other not in (token, "", "guess me")
    assert len(other) == 64
    assert mode(access.token_path) == 0o600
    assert "it is made anew" in caplog.text
    assert other not in caplog.text


@posix
def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a" * 64, encoding="utf-8")
    elsewhere.chmod(0o600)
    folder = tmp_path / "control"
    folder.mkdir()
    (folder / "token").symlink_to(elsewhere)
    with pytest.raises(AppError, match=r"token is a link, which the token .* cannot be: remove it$"):
        Access(folder).token()
    assert Access(folder).kept_token() == ""


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    access = Access(tmp_path / "file" / "control")
    with pytest.raises(AppError, match=r"cannot keep the token of control from outside in .*token: "):
        access.token()
    with pytest.raises(AppError, match=r"cannot say in .*address\.json where the app listens"):
        access.tell(Address(1, 1, 1))


def test_the_address_is_there_while_its_app_lives(tmp_path: Path) -> None:
    access = Access(tmp_path)
    assert access.address() is None
    mine = Address(8713, os.getpid(), 1)
    access.tell(mine)
    assert access.address() == mine
    access.withdraw(Address(8714, os.getpid(), 1))  # another app's end takes nothing of this one's away
    assert access.address() == mine
    access.withdraw(mine)
    access.withdraw(mine)
    assert access.address() is None


@posix
def test_what_a_crash_has_left_is_nobodys_address(tmp_path: Path) -> None:
    """Even where its process has that number still, or another one by now; and the next app leaves its own there."""
    code = (
        "import os, sys; from pathlib import Path; from app.control.access import Access, Address; "
        "access = Access(Path(sys.argv[1])); access.tell(Address(8713, os.getppid(), 1)); "
        "assert access.address() is not None; os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 1
    assert (tmp_path / "address.json").exists()
    access = Access(tmp_path)
    assert access.address() is None
    mine = Address(8714, os.getpid(), 1)
    access.tell(mine)
    assert access.address() == mine


@posix
def test_an_address_that_others_could_have_written_is_none(tmp_path: Path) -> None:
    access = Access(tmp_path)
    access.tell(Address(8713, os.getpid(), 1))
    (tmp_path / "address.json").chmod(0o622)
    assert access.address() is None


@posix
def test_a_second_app_takes_nothing_of_the_firsts_away(tmp_path: Path) -> None:
    first, second = Access(tmp_path), Access(tmp_path)
    kept, other = Address(8713, os.getpid(), 1), Address(8714, os.getpid(), 1)
    first.tell(kept)
    second.tell(other)
    assert Access(tmp_path).address() == kept
    second.withdraw(other)
    assert Access(tmp_path).address() == kept
    first.withdraw(kept)
    second.tell(other)
    assert Access(tmp_path).address() == other


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"port": 1}', "\0", json.dumps({"port": 1, "process": 1, "x": 1})])
def test_an_address_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "address.json").write_text(text, encoding="utf-8")
    assert Access(tmp_path).address() is None
