"""Portraits: what can be animated, the bundled ones and the user's own."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.settings import LEFT
from mcnet.files import Claim, alone_in, free_name, replacing
from mcnet.media import portraits as shipped
from mcnet.media.crop import SquareBox, crop, frame_face, lies_in, turned
from mcnet.media.errors import MediaError
from mcnet.media.faces import FaceFinder
from mcnet.media.images import KEPT_PIXELS, MOST_PIXELS, as_read, read_rgb, write_rgb
from mcnet.media.suitability import suitability
from mcnet.media.surroundings import Margins, Surrounded, margins_around, surrounded
from mcnet.media.upright import View, turned_view, upright
from mcnet.phrases import listed, phrase
from mcnet.tables import salvage, shown

logger = logging.getLogger(__name__)

SQUARE_PX = 512
_INDEX = "portraits.json"
_REMOVED = ".removed"
_REMOVER = ".remover"
_SMALL = ".small.jpg"


@dataclass(frozen=True)
class PortraitEntry:
    """A portrait in the gallery, not yet read.

    Attributes:
        key: bundled: its file's stem (`woman_1`); the user's own: a hash of the picture.
        name: for people.
        path: the picture.
        bundled: whether it came with the app and cannot be removed.
        box: the crop that the user chose, in the turned picture's pixels; None: found by the face.
        angle_deg: how far the picture is turned before that, clockwise.
    """

    key: str
    name: str
    path: Path
    bundled: bool
    box: SquareBox | None = None
    angle_deg: float = 0.0


@dataclass(frozen=True)
class _Row:
    """A portrait as the list has it; what a row does not say has its default.

    Attributes:
        key, name, angle_deg: as of `PortraitEntry`.
        box: likewise, as centre x, centre y and side; empty for None.
    """

    key: str = ""
    name: str = ""
    box: tuple[float, ...] = ()
    angle_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.box and not (len(self.box) == 3 and all(map(math.isfinite, self.box)) and self.box[2] > 0):
            raise AppError(
                phrase(
                    "portrait box: got {box}, expected three numbers, the last of them above 0",
                    box=shown(list(self.box)),
                )
            )
        if not math.isfinite(self.angle_deg):
            raise AppError(phrase("portrait angle_deg: got {angle_deg}, expected a number", angle_deg=self.angle_deg))


@dataclass(frozen=True, eq=False)
class Portrait:
    """A portrait that is ready to be animated.

    Attributes:
        entry: where it came from.
        rgb: (H, W, 3) uint8, the whole picture, as it was before it was turned.
        box: the square that is animated, in the turned picture's pixels.
        square: (512, 512, 3) uint8, that square.
        landmarks_px: (478, 3) float32 of its face, irises included, in the turned picture; None where none was found
            in the square that the user chose, which is not kept.
        score: 0 to 100, how well it should animate.
        remarks: why it is not higher, as "the mouth is open".
    """

    entry: PortraitEntry
    rgb: NDArray[np.uint8]
    box: SquareBox
    square: NDArray[np.uint8]
    landmarks_px: NDArray[np.float32] | None
    score: int
    remarks: tuple[str, ...]

    def surrounded(self, size_px: int) -> Surrounded:
        """The square in a size of its own, with what the photograph shows around it."""
        from mcnet.engine import resized  # the window looks at portraits before there is an engine

        square = resized(self.square, size_px)
        return surrounded(self.rgb, self.box, square, angle_deg=self.entry.angle_deg)

    def margins(self, size_px: int) -> Margins:
        """Those of the square in that picture, which is not made for it."""
        height, width = self.rgb.shape[:2]
        return margins_around((width, height), self.box, size_px, angle_deg=self.entry.angle_deg)

    @property
    def refusal(self) -> str:
        """Why it cannot be taken into the gallery, a sentence for people; "" where it can."""
        if self.landmarks_px is not None:
            return ""
        return phrase(
            "There is no face in this square of {name}: move the square over a face that looks towards the "
            "camera, or choose the automatic crop.",
            name=self.entry.name,
        )


class PortraitStore:
    """The bundled portraits, and a folder of the user's own with an index.

    A new picture is looked at first, which writes nothing, and kept once the user has confirmed the right to use it. A
    removed one can be restored until the store is told to forget, whatever another window's store forgets: what is put
    aside has the name of the store that did so, which claims that name as long as its process lives.

    Args:
        folder: made when the first portrait is kept.
        mends: whether a damaged list is kept aside, and what is good of it written in its place; else it stays as it
            is until something in it is changed.
    """

    def __init__(self, folder: Path, *, mends: bool = True) -> None:
        self._folder = folder
        self._mends = mends
        self._complaint: str | None = None
        self._name = ""
        self._claim: Claim | None = None

    def entries(self) -> list[PortraitEntry]:
        """All there are: the bundled ones, then the user's own in the order of adding."""
        own, complaints = self._read_index()
        if complaints and self._mends:
            own = self._change_index(lambda known: known)
        elif complaints:
            self._complain(complaints, LEFT)
        return [*bundled_portraits(), *own]

    def take_complaint(self) -> str | None:
        """What to tell the user of a list that was damaged; None where there is nothing, or nothing new."""
        complaint, self._complaint = self._complaint, None
        return complaint

    def look(self, path: Path) -> Portrait:
        """Read a picture file that may become a portrait; nothing is written. One that is in the gallery
        already is returned as it is there. Where the face lies on its side or stands on its head, the picture is
        turned.

        Raises:
            AppError, MediaError: it is no picture, or shows no face.
        """
        return self._look_at(read_rgb(path), _one_line(path.stem))

    def look_at(self, rgb: NDArray[np.uint8], name: str) -> Portrait:
        """Likewise with a picture, (H, W, 3) uint8 RGB.

        Raises:
            AppError, MediaError: it shows no face, or is so small that it could not be read once it is kept.
        """
        return self._look_at(as_read(rgb, name), name)

    def _look_at(self, rgb: NDArray[np.uint8], name: str) -> Portrait:
        digest = hashlib.sha256(str(rgb.shape).encode())
        digest.update(np.ascontiguousarray(rgb).data)
        key = digest.hexdigest()[:16]
        known = {entry.key: entry for entry in self._read_index()[0]}
        if key in known:
            return self.prepare(known[key])
        with FaceFinder() as finder:
            view = upright(finder, rgb)
        entry = PortraitEntry(
            key, name or key[:8], self._folder / f"{key}.png", bundled=False, angle_deg=view.angle_deg
        )
        return _framed(entry, rgb, view)

    def reframe(self, portrait: Portrait, box: SquareBox | None, angle_deg: float | None = None) -> Portrait:
        """The same picture with another square, or turned otherwise, scored anew. Nothing is written.

        Args:
            portrait: as it was.
            box: in the pixels of the picture as it is turned then; None: the automatic one.
            angle_deg: how far it is turned, clockwise; None: as it is.

        Raises:
            AppError: there is no face for the automatic one.
        """
        angle_deg = portrait.entry.angle_deg if angle_deg is None else angle_deg
        return _prepare(dataclasses.replace(portrait.entry, box=box, angle_deg=angle_deg), portrait.rgb)

    def keep(self, portrait: Portrait) -> Portrait:
        """Take a portrait into the gallery, or keep the crop of one that is there. Of a bundled one nothing is kept.

        Returns:
            The portrait as the gallery has it: it may have been renamed since it was read.

        Raises:
            AppError, MediaError: there is no face in its square, or the folder cannot be written.
        """
        if portrait.refusal:
            raise AppError(portrait.refusal)
        entry = portrait.entry
        if entry.bundled:
            return portrait
        self._make_folder()

        def keep_crop(known: list[PortraitEntry]) -> list[PortraitEntry]:
            rows = {one.key: one for one in known}
            if entry.key not in rows:  # only now, or it would be found as a picture that has lost its row
                write_rgb(entry.path, portrait.rgb)
            row = dataclasses.replace(rows.get(entry.key, entry), box=entry.box, angle_deg=entry.angle_deg)
            return list((rows | {entry.key: row}).values())

        kept = {one.key: one for one in self._change_index(keep_crop)}
        return dataclasses.replace(portrait, entry=kept[entry.key])

    def prepare(self, entry: PortraitEntry) -> Portrait:
        """Read a portrait, find its face, crop and score it. Takes some tens of milliseconds.

        Raises:
            AppError, MediaError: its file is gone or shows no face.
        """
        # A crop that was chosen is in the pixels of the picture as it was kept, however many they were then.
        return _prepare(entry, read_rgb(entry.path, most_kept=KEPT_PIXELS if entry.box is None else MOST_PIXELS))

    def thumbnail(self, entry: PortraitEntry, size_px: int) -> NDArray[np.uint8]:
        """A small picture of a portrait, (size_px, size_px, 3) uint8: its crop as it was chosen, or the largest square
        high up in its middle, where portraits have their face. Of the user's own it is kept: a photograph takes half a
        second to read, and there may be hundreds.

        Raises:
            MediaError: its file is gone, or cannot be read.
        """
        if entry.bundled:
            return _small(entry, size_px)
        crop_of = hashlib.sha256(repr((entry.box, entry.angle_deg, size_px)).encode()).hexdigest()[:8]
        path = self._folder / f"{entry.key}.{crop_of}{_SMALL}"
        with contextlib.suppress(MediaError):
            return read_rgb(path)
        small = _small(entry, size_px)
        self._delete_small(entry.key)  # of another crop
        try:
            write_rgb(path, small)
        except (OSError, MediaError) as error:
            logger.info("the small picture of %s cannot be kept: %s", entry.name, error)
        return small

    def _delete_small(self, key: str) -> None:
        for path in self._folder.glob(f"{key}.*{_SMALL}"):
            _delete(path)

    def remove(self, entry: PortraitEntry) -> PortraitEntry:
        """Take one of the user's own out of the gallery. Its picture is put aside until `forget_removed` of this store.

        Returns:
            What to `restore`: the portrait as it was then, which may have been renamed or cropped since it was read.

        Raises:
            AppError: it is a bundled one, or the folder cannot be written.
        """
        if entry.bundled:
            raise AppError(
                phrase("{name} came with the app and stays: only your own portraits can be removed", name=entry.name)
            )
        removed: list[PortraitEntry] = []

        def take_out(known: list[PortraitEntry]) -> list[PortraitEntry]:
            removed.extend(one for one in known if one.key == entry.key)
            return [one for one in known if one.key != entry.key]

        self._change_index(take_out)
        self._delete_small(entry.key)
        try:
            entry.path.replace(entry.path.with_suffix(f".{self._own_name()}{_REMOVED}"))
        except FileNotFoundError:
            logger.debug("%s was gone already", entry.path)
        except OSError as error:
            raise AppError(
                phrase("cannot remove {path}: {error}; check the folder's permissions", path=entry.path, error=error)
            ) from error
        return removed[-1] if removed else entry

    def rename(self, entry: PortraitEntry, name: str) -> None:
        """Call one of the user's own something else; its picture and its crop stay as they are.

        Raises:
            AppError: it is a bundled one, the name is empty, or the folder cannot be written.
        """
        name = _one_line(name)
        if entry.bundled:
            raise AppError(
                phrase(
                    "{name} came with the app and keeps its name: only your own portraits can be renamed",
                    name=entry.name,
                )
            )
        if not name:
            raise AppError(
                phrase("a portrait needs a name: got an empty one for {name}, so it keeps its own", name=entry.name)
            )
        self._change_index(
            lambda known: [dataclasses.replace(one, name=name) if one.key == entry.key else one for one in known]
        )

    def restore(self, entry: PortraitEntry) -> None:
        """Put a removed portrait back, as it was; also one that another window's store removed at the same time. One
        that is back already stays as it is by now.

        Raises:
            AppError: its picture is not there any more, or the folder cannot be written.
        """

        def put_back(known: list[PortraitEntry]) -> list[PortraitEntry]:
            try:
                if not entry.path.is_file():
                    aside = sorted(self._folder.glob(f"{entry.key}.*{_REMOVED}"))
                    with replacing(entry.path) as partial:  # a copy: what is aside is its own store's to take away
                        shutil.copyfile(aside[0] if aside else entry.path, partial)
            except OSError as error:
                raise AppError(
                    phrase("cannot put {name} back: {error}; add the picture again", name=entry.name, error=error)
                ) from error
            return known if entry.key in [one.key for one in known] else [*known, entry]

        self._change_index(put_back)

    def forget_removed(self) -> None:
        """Delete the pictures of portraits that this store removed."""
        if self._name:
            self._delete_aside(self._name)
            if self._claim is not None:
                self._claim.release()
            self._name, self._claim = "", None

    def forget_leftovers(self) -> None:
        """Likewise of stores whose process ended before it forgot: nobody can restore these any more."""
        for path in self._folder.glob(f"*{_SMALL}"):
            if not (self._folder / f"{path.name.partition('.')[0]}.png").exists():
                _delete(path)
        for path in [*self._folder.glob(f"*{_REMOVED}"), *self._folder.glob(f"*{_REMOVER}")]:
            name = Path(path.stem).suffix.removeprefix(".") if path.suffix == _REMOVED else path.stem
            if not name:  # of before stores had names
                _delete(path)
                continue
            claim = Claim(self._folder / f"{name}{_REMOVER}")
            try:
                left = claim.take()
            except OSError as error:
                logger.info(
                    "what was removed as %s stays, for nobody knows whether its window is open: %s", name, error
                )
                continue
            if left:
                self._delete_aside(name)
                claim.release()

    def _own_name(self) -> str:
        """What this store puts aside is called by, claimed."""
        while not self._name:
            name = secrets.token_hex(4)
            claim = Claim(self._folder / f"{name}{_REMOVER}")
            try:
                if not claim.take():  # by who looked at it at this moment, whether it is left over
                    continue
                self._claim = claim
            except OSError as error:
                logger.info("%s cannot be claimed, nor by who would take what it names away: %s", claim.path, error)
            self._name = name
        return self._name

    def _delete_aside(self, name: str) -> None:
        for path in self._folder.glob(f"*.{name}{_REMOVED}"):
            _delete(path)

    def _read_index(self) -> tuple[list[PortraitEntry], list[str]]:
        """The list, and a complaint about each part of it that cannot be read. A portrait that has lost its row is then
        found by its picture. A row whose picture is gone is nobody's, and nothing is said of it, unless a picture
        without a row may be the one that it means.
        """
        path = self._folder / _INDEX
        entries: list[PortraitEntry] = []
        complaints: list[str] = []
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise AppError(
                phrase(
                    "cannot read the list of portraits {path}: {error}; check its permissions", path=path, error=error
                )
            ) from error
        except (ValueError, RecursionError) as error:
            rows, complaints = [], [str(error)]
        if not isinstance(rows, list):
            rows, complaints = [], [phrase("got {got}, expected a list", got=shown(rows))]
        gone: list[str] = []
        for number, row in enumerate(rows, start=1):
            try:
                entry, wrong = self._entry(row, number)
                if entry is not None and not entry.path.is_file():
                    got = shown(entry.path.name)
                    gone.append(phrase("row {number}: there is no picture {got}", number=number, got=got))
                    continue
            except (OSError, ValueError) as error:  # no file can have such a name
                entry, wrong = None, [phrase("row {number}: {error}", number=number, error=error)]
            entries += [] if entry is None else [entry]
            complaints += wrong
        if not complaints and not gone:
            return entries, []
        known = {entry.key for entry in entries}
        unlisted = [picture for picture in sorted(self._folder.glob("*.png")) if picture.stem not in known]
        if unlisted:
            complaints += gone
        if complaints:
            entries += [PortraitEntry(one.stem, one.stem[:8], one, bundled=False) for one in unlisted if one.is_file()]
        return entries, complaints

    def _entry(self, row: Any, number: int) -> tuple[PortraitEntry | None, list[str]]:
        """What can be read of a row, or None where it is nobody's; and a complaint about each thing that cannot."""
        key = row.get("key") if isinstance(row, dict) else None
        if not isinstance(key, str) or not key or Path(key).name != key:
            got = shown(row)
            return None, [phrase("row {number}: got {got}, expected a portrait with its key", number=number, got=got)]
        fields = [field.name for field in dataclasses.fields(_Row)]
        values = {name: value for name, value in row.items() if name in fields and value is not None}
        known, wrong = salvage(_Row, values, what=phrase("portrait"))
        name, box = known.name or key[:8], SquareBox(*known.box) if known.box else None
        entry = PortraitEntry(key, name, self._folder / f"{key}.png", bundled=False, box=box, angle_deg=known.angle_deg)
        return entry, [phrase("{name}: {complaint}", name=name, complaint=complaint) for complaint in wrong]

    def _change_index(self, change: Callable[[list[PortraitEntry]], list[PortraitEntry]]) -> list[PortraitEntry]:
        """Write the index anew, and return it; what another window writes at the same moment is not lost, and what was
        damaged is kept aside.
        """
        try:
            with alone_in(self._folder):
                known, complaints = self._read_index()
                if complaints:
                    self._set_aside(complaints)
                changed = change(known)
                self._write_index(changed)
        except OSError as error:
            raise self._cannot_keep(error) from error
        return changed

    def _set_aside(self, complaints: Sequence[str]) -> None:
        path = self._folder / _INDEX
        aside = free_name(path.with_name(path.name + ".damaged"))
        path.replace(aside)
        logger.warning("%s cannot be read (%s): it is kept as %s", path, "; ".join(complaints), aside)
        self._complain(complaints, phrase("the old file is kept as {aside}", aside=aside))

    def _complain(self, complaints: Sequence[str], kept: str) -> None:
        self._complaint = phrase(
            "Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; "
            "{kept}.",
            said=listed(complaints, ";"),
            kept=kept,
        )

    def _cannot_keep(self, error: OSError) -> AppError:
        return AppError(
            phrase(
                "cannot keep the list of portraits in {folder}: {error}; check the disk",
                folder=self._folder,
                error=error,
            )
        )

    def _write_index(self, entries: list[PortraitEntry]) -> None:
        rows = [
            {
                "key": entry.key,
                "name": entry.name,
                "box": None if entry.box is None else [entry.box.center_x, entry.box.center_y, entry.box.side],
                "angle_deg": entry.angle_deg,
            }
            for entry in entries
        ]
        try:
            with replacing(self._folder / _INDEX) as partial:
                partial.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        except OSError as error:
            raise self._cannot_keep(error) from error

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AppError(
                phrase(
                    "cannot make the folder for portraits {folder}: {error}; check the disk",
                    folder=self._folder,
                    error=error,
                )
            ) from error


def _small(entry: PortraitEntry, size_px: int) -> NDArray[np.uint8]:
    box = entry.box
    rgb = turned(read_rgb(entry.path, most_kept=KEPT_PIXELS if box is None else MOST_PIXELS), entry.angle_deg)
    if box is None:
        height, width = rgb.shape[:2]
        side = min(width, height)
        box = SquareBox(width / 2, (height - side) / 4 + side / 2, side)
    return crop(rgb, box, size_px)


def _one_line(name: str) -> str:
    """A name for people: a file's may have line breaks, and what steers a terminal."""
    return "".join(letter for letter in " ".join(name.split()) if unicodedata.category(letter) != "Cc")


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot delete %s of a portrait that was removed: %s", path, error)


def bundled_portraits() -> list[PortraitEntry]:
    """What ships with the app."""
    return [
        PortraitEntry(path.stem, path.stem.replace("_", " ").capitalize(), path, bundled=True)
        for path in shipped.bundled_portraits().values()
    ]


def load_portrait(text: str, store: PortraitStore) -> Portrait:
    """A portrait by name, key or file, as a command line names it.

    A file is looked at as the window looks at it (`PortraitStore.look`), and not taken into the gallery.

    Raises:
        AppError, MediaError: there is none such, or it cannot be animated.
    """
    try:
        entries = store.entries()
    except AppError:
        entries = bundled_portraits()  # which need no list
        if text not in [entry.key for entry in entries]:
            raise
    path = shipped.find_portrait(text, {entry.key: entry.path for entry in entries})
    known = next((entry for entry in entries if entry.path == path), None)
    return store.look(path) if known is None else store.prepare(known)


def _prepare(entry: PortraitEntry, rgb: NDArray[np.uint8]) -> Portrait:
    with FaceFinder() as finder:
        return _framed(entry, rgb, turned_view(finder, rgb, entry.angle_deg))


def _framed(entry: PortraitEntry, rgb: NDArray[np.uint8], view: View) -> Portrait:
    box, faces = entry.box, view.faces
    # The largest face in the chosen square: it is measured, and another's would move the avatar to where that one is.
    shown = faces if box is None else [face for face in faces if lies_in(face, box)]
    face = shown[0] if shown else None
    if box is None:
        if face is None:
            raise AppError(
                phrase(
                    "no face in {name}: got none that looks towards the camera; take another picture, larger or from "
                    "the front, or turn this one upright",
                    name=entry.name,
                )
            )
        box = frame_face(face)
    square = crop(view.rgb, box, SQUARE_PX)
    score, remarks = suitability(face, box, view.rgb, several=len(shown) > 1)
    landmarks = None if face is None else face.mesh_px
    return Portrait(entry, rgb, box, square, landmarks, score, remarks)
