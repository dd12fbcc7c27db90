"""Whether what a command is to write can be written is known before its work, not after it."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mcnet.errors import UserError
from mcnet.files import cause_and_remedy, followed, most_name_bytes, real_place, try_beside


class OutputError(UserError, ValueError):
    """A place that cannot be written to; the message says what was got, what was expected, what to do."""


def check_outputs(
    files: Mapping[str, Path],
    inputs: Mapping[str, Path],
    suffixes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """See that files can be written, and that none would take the place of an input or of another output.

    Args:
        files: what is to be written, by the option that names it.
        inputs: files and folders that are read, likewise; what is not there is left to its reader.
        suffixes: what an output's name must end in, where that matters.

    Raises:
        OutputError: a file cannot be written; nothing was touched.
    """
    for option, path in files.items():
        _check_place(f"{option} {path}", path)
        if (wanted := (suffixes or {}).get(option)) and path.suffix.lower() not in wanted:
            raise OutputError(f"{option} {path}: got suffix {path.suffix!r}, expected {' or '.join(wanted)}")
    check_apart(files, inputs)


def check_folder(option: str, folder: Path, names: Sequence[str], inputs: Mapping[str, Path]) -> None:
    """See that files can be written into a folder, which is made if it is not there, and that none is an input.

    Args:
        option: what names the folder.
        folder: what is in it already stays, but for files of these names.
        names: of what is to be written.
        inputs: as `check_outputs` takes them; a folder that is read is not written to.

    Raises:
        OutputError: it is not so; nothing was touched.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{option} {folder}: it is a file, expected a folder, or the name of a new one")
    if folder.is_dir():
        for name in names:
            _check_place(f"{option} {folder / name}", folder / name)
            check_apart({option: folder / name}, inputs)
    else:
        _check_place(f"{option} {folder}", folder)
    check_apart({option: folder}, inputs)


def check_apart(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """See that no output is an input or another output.

    Raises:
        OutputError: it is so.
    """
    for (option, path), (reader, source) in itertools.product(outputs.items(), inputs.items()):
        if _same(path, source):
            raise OutputError(f"{option} {path}: it would write over what {reader} reads; choose another place")
    for (option, path), (other, second) in itertools.combinations(outputs.items(), 2):
        if _same(path, second):
            raise OutputError(f"{option} {path}: {other} is to be written there, too; choose another name")


def marks_of(path: Path) -> Iterator[object]:
    """What tells a file or folder, whatever it is called by: two names are the same one's where any of it is."""
    yield followed(path)
    with contextlib.suppress(OSError):  # nothing is there
        status = path.stat()
        yield status.st_dev, status.st_ino


def _check_place(what: str, path: Path) -> None:
    place = real_place(path.absolute())
    folder = place.parent
    if len(os.fsencode(place.name)) > (most := most_name_bytes(folder)):
        raise OutputError(f"{what}: its name is too long, expected at most {most} bytes; choose a shorter one")
    if path.is_dir():
        raise OutputError(f"{what}: it is a folder, expected a file's name")
    if path.exists() and not path.is_file():
        raise OutputError(f"{what}: it is a device or a pipe, expected a file's name")
    if not folder.is_dir():
        raise OutputError(f"{what}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{what}: its folder is not writable; choose another place")
    try:
        try_beside(place)
    except OSError as error:
        raise OutputError(f"{what}: {cause_and_remedy(error)}") from error


def _same(path: Path, other: Path) -> bool:
    return not set(marks_of(path)).isdisjoint(marks_of(other))
