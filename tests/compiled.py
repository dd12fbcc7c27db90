"""OpenVINO reads back what it compiled before, for tests and programs of tests that only use a network."""

from pathlib import Path
from typing import Any

from mcnet.openvino_import import ov


def core_that_keeps(folder: Path) -> Any:
    """What takes the place of `ov.Core`: a core that keeps what it compiles in a folder, and reads it from there."""

    def core(make: Any = ov.Core) -> Any:
        made = make()
        made.set_property({"CACHE_DIR": str(folder)})
        return made

    return core


def keep(folder: Path) -> None:
    """Have this process, a test's own, keep what it compiles from now on."""
    ov.Core = core_that_keeps(folder)
