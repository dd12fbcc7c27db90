"""Where the app keeps its things on this system."""

from pathlib import Path

import platformdirs

_APP = "mcnet-avatar"


def settings_file() -> Path:
    """The user's settings."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "settings.toml"


def presets_file(settings: Path | None = None) -> Path:
    """Strengths of the motion by name and by portrait, beside the settings."""
    return (settings or settings_file()).with_name("presets.toml")


def control_folder() -> Path:
    """Who may control the app from outside, and where it listens."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "control"


def portraits_folder() -> Path:
    """The user's own portraits."""
    return platformdirs.user_data_path(_APP, appauthor=False) / "portraits"


def references_folder() -> Path:
    """What was calibrated; each file says what a performer's face measures."""
    return platformdirs.user_data_path(_APP, appauthor=False) / "calibrations"


def source_cache_folder() -> Path:
    """Encoded portraits; may be deleted at any time."""
    return platformdirs.user_cache_path(_APP, appauthor=False) / "sources"


def videos_folder() -> Path:
    """Recordings and snapshots, unless the user chose another folder."""
    return platformdirs.user_videos_path()
