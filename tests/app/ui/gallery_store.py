"""The gallery's store, without files and faces: what is looked at, kept, put aside and restored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.portraits import Portrait, PortraitEntry
from mcnet.media.crop import SquareBox
from tests.app.ui.fakes import FakeStore, plain


class GalleryStore(FakeStore):
    """Remembers what was kept, and what was put aside.

    Attributes:
        aside: removed portraits that can be restored.
        unreadable: keys of those whose file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.aside: list[PortraitEntry] = []
        self.unreadable: set[str] = set()

    @property
    def own(self) -> list[str]:
        """Keys of the user's own portraits."""
        return [entry.key for entry in self.kept if not entry.bundled]

    def own_one(self, name: str) -> PortraitEntry:
        """Put one into the gallery before the window opens."""
        self.kept.append(PortraitEntry(f"own_{name}", name, Path(f"{name}.png"), bundled=False))
        return self.kept[-1]

    def look(self, path: Path) -> Portrait:
        if not path.exists():
            raise AppError(f"cannot read {path}")
        return self._look(path.stem, path)

    def look_at(self, rgb: NDArray[np.uint8], name: str) -> Portrait:
        assert rgb.ndim == 3
        return self._look(name, Path("pasted.png"))

    def prepare(self, entry: PortraitEntry) -> Portrait:
        if entry.key in self.unreadable:
            raise AppError(f"cannot read {entry.name}")
        return super().prepare(entry)

    def reframe(self, portrait: Portrait, box: SquareBox | None) -> Portrait:
        entry = replace(portrait.entry, box=box)
        return replace(portrait, entry=entry, box=box or SquareBox(50.0, 40.0, 60.0))

    def keep(self, portrait: Portrait) -> None:
        if not portrait.entry.bundled:
            known = {entry.key: entry for entry in self.kept}
            self.kept = list((known | {portrait.entry.key: portrait.entry}).values())

    def remove(self, entry: PortraitEntry) -> None:
        super().remove(entry)
        self.aside.append(entry)

    def restore(self, entry: PortraitEntry) -> None:
        self.aside.remove(entry)
        self.kept.append(entry)

    def forget_removed(self) -> None:
        self.aside.clear()

    def _look(self, name: str, path: Path) -> Portrait:
        entry = PortraitEntry(f"own_{name}", name, path, bundled=False)
        if entry.key in self.own:
            return self.prepare(entry)
        box = SquareBox(50.0, 40.0, 60.0)
        return Portrait(entry, plain(200, 100, 80), box, plain(200, 512, 512), None, 70, ("the mouth is open",))
