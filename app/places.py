"""Where the app keeps its things on this system."""

from pathlib import Path

import platformdirs

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
