"""Which portrait a command line means."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from assets import ROOT
from mcnet.files import as_written
from mcnet.media.errors import MediaError
from mcnet.phrases import offered, phrase


def bundled_portraits() -> dict[str, Path]:
    """The pictures that ship with the project, by their names (`woman_1`)."""
    return {path.stem: path for path in sorted((ROOT / "portraits").glob("*.jpg"))}


def find_portrait(text: str, known: Mapping[str, Path] | None = None) -> Path:
    """The file of a portrait that is named by its path or by a known name; a file goes first.

    Args:
        text: what a user wrote; `~` is expanded.
        known: names and their files; None: the bundled ones.

    Raises:
        MediaError: there is neither such a file nor such a name.
    """
    known = bundled_portraits() if known is None else known
    with contextlib.suppress(OSError):  # too long a name: no such file either
        path = as_written(text)
        if path.exists():  # a folder, too: reading says what is wrong
            return path
    if text in known:
        return known[text]
    raise MediaError(
        phrase(
            "no portrait {text}: got neither a file nor a known name ({names}); check the path or the name",
            text=repr(text),
            names=offered(known, text),
        )
    )
