"""Where the app keeps its things on this system."""

from pathlib import Path

import platformdirs

_APP = "mcnet-avatar"


def settings_file() -> Path:
    """The user's settings."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "settings.toml"


def control_folder() -> Path:
    """Who may control the app from outside, and where it listens."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "control"


def portraits_folder() -> Path:
    """The user's own portraits."""
    return platformdirs.user_data_path(_APP, appauthor=False) / "portraits"


def source_cache_folder() -> Path:
    """Encoded portraits; may be deleted at any time."""
    return platformdirs.user_cache_path(_APP, appauthor=False) / "sources"


def videos_folder() -> Path:
    """Recordings and snapshots, unless the user chose another folder."""
    return platformdirs.user_videos_path()
