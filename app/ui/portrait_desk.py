"""The portraits on the window's side: which there are, which is chosen, what is being added or cropped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QImage

from app.errors import AppError
from app.ui.languages import tr
from app.ui.messages import Message, failure_message
from app.ui.pictures import to_image, to_rgb
from app.ui.worker import Worker
from mcnet.files import cause_and_remedy, may_be_file
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.portraits import Portrait, PortraitEntry, PortraitStore
    from mcnet.media.crop import SquareBox

THUMBNAIL_PX = 176
_THUMBNAILS_AT_ONCE_S = 0.2
_LOOKED_AHEAD = 3
"""Pictures that wait to be cropped, each of which may take 72 MB."""


@dataclass(frozen=True, eq=False)
class Cropping:
    """A portrait whose crop is being looked at.

    Attributes:
        portrait: as it stands.
        new: it is not in the gallery: it is kept only if the user goes on, having said that he may use it.
    """

    portrait: "Portrait"
    new: bool


class PortraitDesk(QObject):
    """Keeps the gallery's portraits in order; slow work goes to the worker. Lives on the GUI thread.

    Attributes:
        entries: of the gallery, in its order.
        thumbnails: square pictures by key, as far as they are made.
        current: key of the one that is shown as chosen, or "".
        pending: key of the one that is being prepared, or "".
        cropping: what the crop editor shows, or None.

    Signals:
        changed: anything of the above.
        chosen: a `Portrait` that is to be animated.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(object)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self, worker: Worker, open_store: "Callable[[], PortraitStore]") -> None:
        super().__init__()
        self.entries: list[PortraitEntry] = []
        self.thumbnails: dict[str, QImage] = {}
        self.current = ""
        self.pending = ""
        self.cropping: Cropping | None = None
        self._worker = worker
        self._open_store = open_store
        self._store: PortraitStore | None = None
        self._settled = ""
        self._choices = 0
        self._waiting: list[Callable[[], None]] = []
        self._scorings = 0
        self._queue: list[Cropping] = []
        self._unseen: list[Callable[[PortraitStore], Portrait]] = []
        self._looking = 0  # how many have been asked for and not been looked at, those unseen among them
        self._batch = 0  # what is looked at when all are given up belongs to the one before
        self._turn = 0
        self._bundled_crops: dict[str, tuple[SquareBox | None, float]] = {}
        self._unusable: set[str] = set()

    def open(self, first: str) -> None:
        """Read the gallery, then choose the portrait of that key, or add the picture of that path."""

        def load() -> "tuple[PortraitStore, list[PortraitEntry], Exception | None]":
            store = self._open_store()
            store.forget_leftovers()  # of a run that had no time for it
            try:
                return store, store.entries(), None
            except AppError as error:  # the user's own cannot be had; an avatar can
                from app.pipeline.portraits import bundled_portraits

                return store, bundled_portraits(), error

        def opened(answer: "tuple[PortraitStore, list[PortraitEntry], Exception | None]") -> None:
            self._store, entries, trouble = answer
            self._take_entries(entries)
            self.changed.emit()
            keys = [entry.key for entry in self.entries]
            if first in keys:
                self.choose(first)
            elif first and may_be_file(first):
                self.add_files([Path(first)])
            elif keys:
                if first:
                    gone = tr(
                        "The portrait {first} is not in the gallery any more; {name} is used.",
                        first=first,
                        name=self.entries[0].name,
                    )
                    self.told.emit(Message("portrait gone", gone, tone="warning"))
                self.choose(keys[0])
            self._make_thumbnails(self.entries)  # once the first portrait is read: there may be hundreds
            if trouble is not None:
                self._failed(trouble)
            waiting, self._waiting = self._waiting, []
            for work in waiting:
                work()

        self._worker.run(load, opened, self._failed)

    def close(self) -> None:
        """Let go of what Undo would have put back; once the worker has stopped."""
        if self._store is not None:
            self._store.forget_removed()

    def name_of(self, key: str) -> str:
        """What people call a portrait."""
        return next((entry.name for entry in self.entries if entry.key == key), key)

    @property
    def cropped_name(self) -> str:
        """What people call what the crop editor shows, which may have been renamed since; "" where it shows nothing."""
        if self.cropping is None:
            return ""
        shown = self.cropping.portrait.entry
        return shown.name if (entry := self._entry(shown.key)) is None else entry.name

    def choose(self, key: str) -> None:
        """Prepare a portrait and have it animated."""
        entry = self._entry(key)
        if entry is None or self._store is None or key == self.pending:
            return
        store = self._store
        self.current = self.pending = key
        self._choices += 1
        number = self._choices
        self.cleared.emit("portrait")  # it was about another one
        self.changed.emit()

        def prepare() -> "Portrait | None":
            return store.prepare(entry) if number == self._choices else None  # another one was chosen meanwhile

        def prepared(portrait: "Portrait | None") -> None:
            if portrait is None:
                return
            self._unusable.discard(key)
            self._thumbnail_of(portrait)
            if self.current == key:
                self.chosen.emit(portrait)
            self.changed.emit()

        def failed(error: Exception) -> None:
            self.refuse(key)
            if entry.bundled:
                self._failed(error)
            else:
                self._failed(error, action=tr("Remove it"), act=lambda: self.remove(key))

        self._worker.run(prepare, prepared, failed)

    @property
    def exhausted(self) -> bool:
        """Whether there are portraits and none of them can be used."""
        return bool(self.entries) and all(entry.key in self._unusable for entry in self.entries)

    def choose_number(self, number: int) -> None:
        """Choose the n-th portrait of the gallery, counted from 1."""
        if 1 <= number <= len(self.entries):
            self.choose(self.entries[number - 1].key)

    def step(self, by: int) -> None:
        """Choose the next portrait (1) or the one before (-1), round and round."""
        if not self.entries:
            return
        keys = [entry.key for entry in self.entries]
        at = keys.index(self.current) if self.current in keys else 0
        self.choose(keys[(at + by) % len(keys)])

    def settle(self, key: str) -> None:
        """The portrait of that key is animated now."""
        self._settled = key
        self._unusable.discard(key)
        if self.pending == key:
            self.pending = ""
        self.changed.emit()

    def refuse(self, key: str) -> None:
        """The portrait of that key cannot be used; the one before stays, or the first that can be used is chosen."""
        self._unusable.add(key)
        if self.pending == key:
            self.pending = ""
        if self.current == key:
            self.current = self._settled
        if not self.current:
            self._choose_any()
        self.changed.emit()

    def _choose_any(self) -> None:
        """Choose the first portrait that has not failed: without one nothing is animated, and nothing is said."""
        if (key := next((entry.key for entry in self.entries if entry.key not in self._unusable), "")) != "":
            self.choose(key)

    def _choose_any_at_first(self) -> None:
        """Likewise where the picture that the window was started with has not become a portrait."""
        if not self.current and self.cropping is None and not self._looking:
            self._choose_any()

    # Adding and cropping

    def add_files(self, paths: Sequence[Path]) -> None:
        """Show pictures in the crop editor, one after the other; each is in the gallery once it is accepted."""
        self.cleared.emit("portrait")  # it was about an earlier one
        for path in paths:
            self._look(lambda store, path=path: store.look(path))  # type: ignore[misc]

    def add_folder(self, folder: Path) -> None:
        """Show the pictures of a folder in the crop editor, likewise."""

        def find() -> list[Path]:
            from mcnet.media.images import pictures_in

            try:
                return pictures_in(folder)
            except OSError as error:
                raise AppError(
                    phrase("cannot use the folder {folder}: {cause}", folder=folder, cause=cause_and_remedy(error))
                ) from error

        def found(pictures: list[Path]) -> None:
            if pictures:
                self.add_files(pictures)
            else:
                none = tr("There is no picture in the folder {folder}: choose one that has some.", folder=folder)
                self.told.emit(Message("portrait", none, tone="info"))

        self._worker.run(find, found, self._failed)

    def add_image(self, image: QImage) -> None:
        """Show a picture that was pasted in the crop editor, likewise."""
        self.cleared.emit("portrait")
        rgb = to_rgb(image)
        self._look(lambda store: store.look_at(rgb, "pasted"))

    @property
    def turn(self) -> tuple[int, int]:
        """The number of what the crop editor shows, counted from 1, and how many there are with those to come."""
        return self._turn, self._turn + len(self._queue) + self._looking

    def crop(self, key: str) -> None:
        """Show a portrait's crop."""
        entry = self._entry(key)
        if entry is None or self._store is None:
            return
        store = self._store

        def prepared(portrait: "Portrait") -> None:
            if self.cropping is not None and not self.cropping.new:  # what was only looked at gives way
                self.cropping = None
                self._turn -= 1
            self._queue.append(Cropping(portrait, new=False))
            self._show_next()

        self._worker.run(lambda: store.prepare(entry), prepared, self._failed)

    def score_crop(self, box: "SquareBox | None", angle_deg: float) -> None:
        """Try another square on the portrait in the crop editor, or the automatic one, turned so far, and score it."""
        if self.cropping is None or self._store is None:
            return
        store, before = self._store, self.cropping.portrait
        self._scorings += 1
        number = self._scorings

        def scored(portrait: "Portrait") -> None:
            if self.cropping is not None and number == self._scorings:  # the newest wins here too
                self.cropping = replace(self.cropping, portrait=portrait)
                self.changed.emit()

        self._worker.run(lambda: store.reframe(before, box, angle_deg), scored, self._failed)

    def accept_crop(self, box: "SquareBox | None", angle_deg: float) -> None:
        """Keep this square for the portrait in the crop editor, or the automatic one, turned so far, and animate it."""
        if self.cropping is None or self._store is None:
            return
        store, shown = self._store, self.cropping
        self._end_cropping()

        def keep() -> "tuple[Portrait, list[PortraitEntry]]":
            nonlocal shown
            portrait = store.reframe(shown.portrait, box, angle_deg)
            shown = replace(shown, portrait=portrait)
            return store.keep(portrait), store.entries()

        def failed(error: Exception) -> None:
            self._queue.insert(0, shown)  # nothing of it is lost
            self._turn = max(0, self._turn - 1)
            self._show_next()
            self._failed(error)

        self._worker.run(keep, self._kept, failed, keeps=True)

    def _kept(self, answer: "tuple[Portrait, list[PortraitEntry]]") -> None:
        """Animate what has just been put into the gallery, or cropped anew."""
        portrait, entries = answer
        if portrait.entry.bundled:
            self._bundled_crops[portrait.entry.key] = portrait.entry.box, portrait.entry.angle_deg
        self._take_entries(entries)
        self._thumbnail_of(portrait)
        self.current = self.pending = portrait.entry.key
        self.chosen.emit(portrait)
        self.changed.emit()

    def cancel_crop(self) -> None:
        """Leave the crop as it was; a new picture is not taken into the gallery."""
        self._end_cropping()
        self._choose_any_at_first()

    def cancel_crops(self) -> None:
        """Likewise with it and all that wait to be shown."""
        self._queue.clear()
        self._looking -= len(self._unseen)
        self._unseen.clear()
        self._batch += 1
        self.cancel_crop()

    def remove(self, key: str) -> None:
        """Take one of the user's own portraits out of the gallery, and offer to put it back."""
        if (entry := self._own(key)) is not None and (store := self._store) is not None:

            def work() -> "tuple[PortraitEntry, list[PortraitEntry]]":
                return store.remove(entry), store.entries()

            def removed(answer: "tuple[PortraitEntry, list[PortraitEntry]]") -> None:
                gone, entries = answer
                used = self.current == key
                self._take_entries(entries)
                if used or not self.current:
                    settled = self._settled != key and self._entry(self._settled) is not None
                    if settled:
                        self.choose(self._settled)
                    else:
                        self._choose_any()
                self.changed.emit()
                text = tr("{name} was taken out of the gallery.", name=gone.name)
                undo = Message(
                    f"removed {key}", text, tone="info", action=tr("Undo"), act=lambda: self._put_back(gone, use=used)
                )
                self.told.emit(undo)

            self._worker.run(work, removed, self._failed, keeps=True)

    def rename(self, key: str, name: str) -> None:
        """Call one of the user's own portraits something else."""
        if (entry := self._own(key)) is not None and (store := self._store) is not None and name != entry.name:

            def work() -> "list[PortraitEntry]":
                store.rename(entry, name)
                return store.entries()

            def renamed(entries: "list[PortraitEntry]") -> None:
                self._take_entries(entries)
                self.changed.emit()

            self._worker.run(work, renamed, self._failed, keeps=True)

    def _put_back(self, entry: "PortraitEntry", *, use: bool) -> None:
        if (store := self._store) is None:
            return

        def work() -> "list[PortraitEntry]":
            store.restore(entry)
            return store.entries()

        def restored(entries: "list[PortraitEntry]") -> None:
            self._take_entries(entries)
            self.changed.emit()
            if use:
                self.choose(entry.key)

        self._worker.run(work, restored, self._failed, keeps=True)

    def _look(self, look: "Callable[[PortraitStore], Portrait]") -> None:
        if self._store is None:
            self._waiting.append(lambda: self._look(look))
            return
        self._looking += 1
        self._unseen.append(look)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Look at the next picture, unless enough of them wait to be shown: of a whole folder of photographs each would
        take its memory, and what is wanted meanwhile would wait for them all.
        """
        if self._store is None or not self._unseen or self._looking > len(self._unseen):
            return
        if len(self._queue) >= _LOOKED_AHEAD:
            return
        store, look, batch = self._store, self._unseen.pop(0), self._batch

        def work() -> "tuple[Portrait, list[PortraitEntry]]":
            return look(store), store.entries()

        def looked(answer: "tuple[Portrait, list[PortraitEntry]]") -> None:
            portrait, entries = answer
            self._tell_damage()
            self._looking -= 1
            shown = [] if self.cropping is None else [self.cropping]
            there = portrait.entry.key in [one.portrait.entry.key for one in (*shown, *self._queue)]
            if batch == self._batch and not there:
                new = portrait.entry.key not in [entry.key for entry in entries]
                self._queue.append(Cropping(portrait, new))
            self._show_next()

        def failed(error: Exception) -> None:
            self._looking -= 1
            self._show_next()
            self._choose_any_at_first()
            if batch == self._batch:
                self._failed(error)

        self._worker.run(work, looked, failed)

    def _show_next(self) -> None:
        """Show the next crop, unless one is shown."""
        if self.cropping is None and self._queue:
            self._scorings += 1
            self.cropping = self._queue.pop(0)
            self._turn += 1
        elif self.cropping is None and not self._looking:
            self._turn = 0
        self._look_ahead()
        self.changed.emit()

    def _end_cropping(self) -> None:
        self._scorings += 1
        self.cropping = None
        self._show_next()

    # Helpers

    def _take_entries(self, entries: "Sequence[PortraitEntry]") -> None:
        """The store keeps no crop of a bundled portrait; as long as the window is open, this does."""
        self._tell_damage()
        self.entries = []
        for entry in entries:
            box, angle_deg = self._bundled_crops.get(entry.key, (entry.box, entry.angle_deg))
            self.entries.append(replace(entry, box=box, angle_deg=angle_deg))

    def _tell_damage(self) -> None:
        if self._store is not None and (complaint := self._store.take_complaint()) is not None:
            self.told.emit(Message("portraits file", complaint, tone="warning"))

    def _entry(self, key: str) -> "PortraitEntry | None":
        return next((entry for entry in self.entries if entry.key == key), None)

    def _own(self, key: str) -> "PortraitEntry | None":
        entry = self._entry(key)
        return None if entry is None or entry.bundled else entry

    def _thumbnail_of(self, portrait: "Portrait") -> None:
        self.thumbnails[portrait.entry.key] = _scaled(to_image(portrait.square))

    def _make_thumbnails(self, entries: "Sequence[PortraitEntry]") -> None:
        """A few at a time, so that what is wanted meanwhile is done in between."""
        missing = [entry for entry in entries if entry.key not in self.thumbnails]
        store = self._store
        if store is None or not missing:
            return

        def work() -> dict[str, QImage]:
            until_s = time.monotonic() + _THUMBNAILS_AT_ONCE_S
            thumbnails: dict[str, QImage] = {}
            for entry in missing:
                thumbnails[entry.key] = _thumbnail(store, entry)
                if time.monotonic() >= until_s:
                    break
            return thumbnails

        def made(thumbnails: dict[str, QImage]) -> None:
            self.thumbnails = thumbnails | self.thumbnails
            self.changed.emit()
            self._make_thumbnails(missing)

        self._worker.run(work, made, self._failed)

    def _failed(self, error: Exception, action: str = "", act: Callable[[], None] | None = None) -> None:
        self.told.emit(failure_message("portrait", error, action, act))


def _thumbnail(store: "PortraitStore", entry: "PortraitEntry") -> QImage:
    from mcnet.errors import UserError

    try:
        return to_image(store.thumbnail(entry, THUMBNAIL_PX))
    except UserError:  # said once the portrait is chosen
        return QImage()


def _scaled(image: QImage) -> QImage:
    return image.scaled(
        QSize(THUMBNAIL_PX, THUMBNAIL_PX),
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
