"""What ships with the project: portraits, a driving clip, models. Each file's origin and licence: `README.md` here."""

from pathlib import Path

ROOT = Path(__file__).parent
