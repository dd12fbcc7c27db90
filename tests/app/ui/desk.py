"""The screen of the tests, which nobody sees: as large as a desk's."""

from pathlib import Path

PLATFORM = f"offscreen:configfile={Path(__file__).with_name('desk.json')}"
"""For `QT_QPA_PLATFORM`."""
