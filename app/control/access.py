"""Who may control the app, and where it listens: two small files that only the user can read."""

import contextlib
import json
import logging
import os
import re
import secrets
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from app.errors import AppError
from mcnet.files import alone_in, cause_and_remedy, replacing
from mcnet.phrases import phrase

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Address:
    """Where a running app listens.

    Attributes:
        port: on 127.0.0.1.
        process: the app's.
        version: of the protocol.
    """

    port: int
    process: int
    version: int


class Access:
    """The token, which stays the same from run to run, and the address, which is there while the app listens.

    The token is kept, since a Stream Deck or a script is told it once. It is made anew where somebody else could have
    read it, and whenever its file is deleted. On Windows the files are the user's alone by the permissions that the
    profile's folder hands down; elsewhere by their own (0600). There the address's file is also locked by the app for
    as long as it listens: one that nobody locks was left by a crash, and its port may be anybody's by now.

    Args:
        folder: of both files; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token_path = folder / "token"
        self._address_path = folder / "address.json"
        self._lock: int | None = None  # the descriptor that locks the address's file
        self._told: Address | None = None

    def token(self) -> str:
        """The token; made where there is none that can be trusted.

        Raises:
            AppError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone_in(self.folder):  # of two apps that start at once, one makes it and the other reads it
                kept, flaw = self._kept_token()
                if kept:
                    return kept
                if flaw:
                    logger.warning("the control token in %s %s: it is made anew", self.token_path, flaw)
                    self.token_path.unlink()
                return self._make_token()
        except OSError as error:
            place, why = self.token_path, cause_and_remedy(error)
            if place.is_symlink():
                raise AppError(
                    phrase(
                        "{place} is a link, which the token of control from outside cannot be: remove it", place=place
                    )
                ) from error
            raise AppError(
                phrase("cannot keep the token of control from outside in {place}: {why}", place=place, why=why)
            ) from error

    def kept_token(self) -> str:
        """The token that a running app has made, or "" where there is none that can be read."""
        with contextlib.suppress(OSError):
            return self._kept_token()[0]
        return ""

    def forget(self) -> None:
        """Have another token made when one is asked for next.

        Raises:
            AppError: the file cannot be removed.
        """
        try:
            self.token_path.unlink(missing_ok=True)
        except OSError as error:
            raise AppError(
                phrase("cannot remove the token {place}: {why}", place=self.token_path, why=cause_and_remedy(error))
            ) from error

    def tell(self, address: Address) -> None:
        """Leave the address for those who want to talk to the app, unless another one's that listens stands there.

        Raises:
            AppError: the folder cannot be written.
        """
        if sys.platform != "win32" and self.address() not in (None, self._told):
            logger.info("another app listens too, which mcnet-avatar ctl reaches; this one has port %d", address.port)
            return
        self._unlock()
        self._told = address
        try:
            with replacing(self._address_path) as partial:
                _write_private(partial, json.dumps(asdict(address)))
                if sys.platform != "win32":
                    self._lock = os.open(partial, os.O_RDWR)
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._unlock()
            place, why = self._address_path, cause_and_remedy(error)
            raise AppError(
                phrase("cannot say in {place} where the app listens: {why}", place=place, why=why)
            ) from error

    def withdraw(self, address: Address) -> None:
        """Take the address away, unless another app's stands there by now; harmless when called again."""
        if self._read_address() == address:
            with contextlib.suppress(OSError):
                self._address_path.unlink()
            self._unlock()

    def address(self) -> Address | None:
        """Where the app listens; None where none does, or where one that crashed has left its address."""
        address = self._read_address()
        return address if address is not None and _is_locked(self._address_path) else None

    def _read_address(self) -> Address | None:
        try:
            text, flaw = _read_private(self._address_path)
            return None if flaw else Address(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return None

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _kept_token(self) -> tuple[str, str]:
        """The token, or why there is none to trust; neither where none was made yet."""
        try:
            text, flaw = _read_private(self.token_path)
        except FileNotFoundError:
            return "", ""
        if not flaw and not _TOKEN.fullmatch(text):
            flaw = "is damaged"
        return ("", flaw) if flaw else (text, "")

    def _make_token(self) -> str:
        token = secrets.token_hex(32)
        _write_private(self.token_path, token)
        return token


def _read_private(path: Path) -> tuple[str, str]:
    """A small file's text without the space around it, and who else could have read or written it, or ""."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        facts = os.fstat(descriptor)
        flaw = ""
        if os.name == "posix":
            if facts.st_uid != os.getuid():
                flaw = "belongs to somebody else"
            elif stat.S_IMODE(facts.st_mode) & 0o077:
                flaw = "could be read by others"
        return file.read(_MOST_BYTES).strip(), flaw


def _write_private(path: Path, text: str) -> None:
    """Write a file that was not there, which nobody else can read at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _is_locked(path: Path) -> bool:
    """Whether an app that runs locks that file; on Windows nobody looks."""
    if sys.platform == "win32":
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(
            descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB
        )  # shared, so that two who look are not in each other's way
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(descriptor)
