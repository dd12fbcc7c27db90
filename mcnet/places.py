"""Where the commands keep what they find out about this machine."""

from pathlib import Path

import platformdirs


def measured_file() -> Path:
    """What `mcnet.bench.tiers` measured; may be deleted at any time."""
    return platformdirs.user_cache_path("mcnet-avatar", appauthor=False) / "tiers.json"
