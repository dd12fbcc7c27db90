"""Where the app keeps its things on this system."""

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import platformdirs

from app.errors import AppError
from mcnet.files import cause_and_remedy, free_name
from mcnet.phrases import phrase
from mcnet.places import APP, folder_of_user


def settings_file() -> Path:
    """The user's settings."""
    return folder_of_user(platformdirs.user_config_path, APP) / "settings.toml"


def presets_file(settings: Path | None = None) -> Path:
    """Strengths of the motion by name and by portrait, beside the settings."""
    return (settings or settings_file()).with_name("presets.toml")


def control_folder() -> Path:
    """Who may control the app from outside, and where it listens."""
    return folder_of_user(platformdirs.user_config_path, APP) / "control"


def portraits_folder() -> Path:
    """The user's own portraits."""
    return folder_of_user(platformdirs.user_data_path, APP) / "portraits"


def references_folder() -> Path:
    """What was calibrated; each file says what a performer's face measures."""
    return folder_of_user(platformdirs.user_data_path, APP) / "calibrations"


def source_cache_folder() -> Path:
    """Encoded portraits; may be deleted at any time."""
    return folder_of_user(platformdirs.user_cache_path, APP) / "sources"


def videos_folder() -> Path:
    """Recordings and snapshots, unless the user chose another folder."""
    return folder_of_user(platformdirs.user_videos_path)


def from_home(path: Path) -> str:
    """The path as people write it: with `~` for their own folder, where that is usual."""
    try:
        home = Path.home()
    except RuntimeError:  # an account without one
        return str(path)
    if os.name == "nt" or home == Path(home.anchor) or not path.is_relative_to(home):
        return str(path)
    return str("~" / path.relative_to(home))


def dated_file(folder: Path, suffix: str, what: str = "avatar") -> Path:
    """A name for a recording or a snapshot of now, without a look into the folder: another file may bear it."""
    return folder / f"{what}-{datetime.now():%Y-%m-%d-%H%M%S}{suffix}"


def unused(path: Path) -> Path:
    """That name, or one like it, which nothing in the folder bears yet; there need be no folder yet.

    May take as long as the folder's disk or network takes to answer.

    Raises:
        AppError: the folder cannot be looked into.
    """
    try:
        return free_name(path)
    except OSError as error:
        raise AppError(
            phrase("cannot use the folder {folder}: {cause}", folder=path.parent, cause=cause_and_remedy(error))
        ) from error


def new_file(folder: Path, suffix: str, what: str = "avatar") -> Path:
    """A name for a recording or a snapshot of now, `unused`.

    Raises:
        AppError: the folder cannot be looked into.
    """
    return unused(dated_file(folder, suffix, what))


@contextlib.contextmanager
def taken(path: Path) -> Iterator[Path]:
    """Take a new file's name while it is written: what was given the same name meanwhile, and is there by now, stays.

    Yields:
        The path, or one beside it, with an empty file that the block replaces, and that goes away if the block fails.

    Raises:
        AppError: nothing can be written there.
    """
    try:
        free = _made_empty(path)
    except OSError as error:
        raise AppError(
            phrase("cannot use the folder {folder}: {cause}", folder=path.parent, cause=cause_and_remedy(error))
        ) from error
    try:
        yield free
    except BaseException:
        with contextlib.suppress(OSError):
            free.unlink()
        raise


def _made_empty(path: Path) -> Path:
    while True:
        free = free_name(path)
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            free.touch(exist_ok=False)
            return free


def make_folder(folder: Path) -> None:
    """Make a folder for recordings and snapshots, where there is none.

    Raises:
        AppError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            phrase(
                "cannot make the folder {folder}: {cause}",
                folder=folder,
                cause=cause_and_remedy(error),
            )
        ) from error
