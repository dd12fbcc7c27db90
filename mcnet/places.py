"""Where the commands keep what they find out about this machine, and what they sign with."""

from collections.abc import Callable
from pathlib import Path

from mcnet.errors import UserError
from mcnet.phrases import phrase

APP = "mcnet-avatar"


class NoHomeError(UserError, RuntimeError):
    """Nobody knows where this user's files are kept."""


def folder_of_user(find: Callable[..., Path], *name: str) -> Path:
    """One of the folders that `platformdirs` finds, by its function.

    Args:
        find: such as `platformdirs.user_cache_path`.
        name: of the program, where the folder is to be its own.

    Raises:
        NoHomeError: the user has no home, as in a container under a number that has no name.
    """
    try:
        return find(*name, appauthor=False) if name else find()
    except RuntimeError as error:
        raise NoHomeError(
            phrase("this user has no home folder: set HOME to a folder where the program may keep its files")
        ) from error


def measured_file() -> Path:
    """What `mcnet.bench.tiers` measured; may be deleted at any time."""
    import platformdirs  # in functions, as all commands import this module and `bench` does without

    return folder_of_user(platformdirs.user_cache_path, APP) / "tiers.json"


def local_signer_file() -> Path:
    """The key and the certificates that sign Content Credentials on this machine; its owner's alone.

    May be deleted: another one is made then, and what was signed before stays signed.
    """
    import platformdirs

    return folder_of_user(platformdirs.user_data_path, APP) / "signing" / "local.pem"
