"""What the bundle's program `mcnet-avatar` starts."""

from app.__main__ import run

run()
