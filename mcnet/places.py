"""Where the commands keep what they find out about this machine, and what they sign with."""

from pathlib import Path

import platformdirs


def measured_file() -> Path:
    """What `mcnet.bench.tiers` measured; may be deleted at any time."""
    return platformdirs.user_cache_path("mcnet-avatar", appauthor=False) / "tiers.json"


def local_signer_file() -> Path:
    """The key and the certificates that sign Content Credentials on this machine; its owner's alone.

    May be deleted: another one is made then, and what was signed before stays signed.
    """
    return platformdirs.user_data_path("mcnet-avatar", appauthor=False) / "signing" / "local.pem"
