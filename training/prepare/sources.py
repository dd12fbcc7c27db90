"""What there is to prepare: videos, folders of a video's frames, packs of photographs; who is seen, who is held out."""

import csv
import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av

from mcnet.media.images import meant_as_picture, pictures_in
from training.data import CLIP, PHOTOS

_VIDEOS = "3gp avi flv gif m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEOS.split())
_LONGEST_NAME = 80


class SourceError(ValueError):
    """Inputs that cannot be used; the message says what was found, what was expected and what to do."""


class Statement(NamedTuple):
    """What a line of the identities' table says of a source; empty where it says nothing.

    Attributes:
        identity: who is seen.
        licence: under which the source may be used.
        kind: `photos` for a folder of photographs of one person, or for one of them; `clip` for a video.
    """

    identity: str = ""
    licence: str = ""
    kind: str = ""


class Pack(NamedTuple):
    """Photographs of one person.

    Attributes:
        pictures: in natural order.
        identity: who is seen, where the table or the pictures' names tell it; else empty.
        licence: as the table states it for the pictures.
        rows: the table's lines that name them.
    """

    pictures: tuple[Path, ...]
    identity: str
    licence: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A video, a folder of its frames, or a pack of photographs."""

    label: str
    """Its path relative to the input it was found in; a file that was named itself has its own name."""
    path: Path
    name: str
    """Letters, digits, `-` and `_`: what its clips are named after. No other source has it."""
    pack: Pack | None = None
    """The photographs, where it is a pack of them; `path` is their folder."""
    folder: str = ""
    """The first folder below the input that it was found in, which may be the source itself; empty where there is none.
    """

    @property
    def kind(self) -> str:
        """`clip` or `photos`, as `training.data` has it."""
        return CLIP if self.pack is None else PHOTOS

    @property
    def files(self) -> tuple[Path, ...]:
        """What it consists of: of a folder the pictures that are read, and nothing that lies beside them."""
        if self.pack is not None:
            return self.pack.pictures
        if self.path.is_dir():
            return tuple(sorted(pictures_in(self.path)))
        return (self.path,)

    @property
    def stamp(self) -> str:
        """Changes when the file, or the folder's content, does, or what it is taken for."""
        facts: list[object] = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        if self.kind != CLIP:
            facts.append(self.kind)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def find_sources(
    inputs: Sequence[Path], leave_out: Path, table: Mapping[str, Statement] | None = None, *, photos: bool = False
) -> list[Source]:
    """Find all sources of the inputs.

    A file is a source whatever its suffix. In a folder, at any depth, videos are told by their suffix. A folder with
    pictures and without videos is one source, its pictures the frames in natural order; or, with `photos`, or where the
    table says so of the folder or its pictures, packs of photographs, one for each person: whom the table, or what
    stands before `#` in a picture's name, tells apart, and else one.

    Args:
        inputs: files and folders.
        leave_out: a folder that is no input, even inside of one: where the result goes.
        table: see `read_table_of_identities`.
        photos: take all folders of pictures for packs of photographs.

    Returns:
        Sources, each once, sorted by label.

    Raises:
        SourceError: an input is missing, or holds no source; or the table names some pictures of a folder only.
    """
    table = table or {}
    found: dict[Path, list[str]] = {}
    folders: dict[Path, str] = {}
    packs: dict[Path, tuple[Path, Pack]] = {}
    for given in inputs:
        if not given.exists():
            raise SourceError(f"no video or folder at {given}: check the path")
        paths = list(_walk(given, leave_out.resolve())) if given.is_dir() else [given]
        if not paths:
            raise SourceError(f"the folder {given} holds no videos and no pictures: expected some, in it or below")
        for path in paths:
            resolved = path.resolve()
            relative = path.relative_to(given)
            label = _as_text(relative.as_posix() if relative.parts else resolved.name)
            # Of Windows: what differs by its drive alone is not the same.
            drive = re.sub(r"\W+", "-", resolved.drive).strip("-")
            above = [drive] * bool(drive) + [*map(_as_text, resolved.parts[1 : -len(Path(label).parts)])]
            around = Path(label).parts if path.is_dir() else relative.parts[:-1]
            in_packs = _packs(path, label, table, photos=photos) if path.is_dir() else []
            for one in in_packs:
                own = one.identity if len(in_packs) > 1 else ""
                packs.setdefault(resolved / own, (path, one))
                folders.setdefault(resolved / own, around[0])
                found.setdefault(resolved / own, [*above, f"{label}/{own}" if own else label])
            if not in_packs:
                found.setdefault(resolved, [*above, label])
                folders.setdefault(resolved, around[0] if around else "")
    labels = _distinct(found)
    slugs = {path: _slug(label) for path, label in labels.items()}
    sources = []
    for path, label in labels.items():
        name = slugs[path]
        if list(slugs.values()).count(name) > 1 or len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        pack: Pack | None
        folder, pack = packs.get(path, (path, None))
        sources.append(Source(label, folder, name, pack, folders[path]))
    return sorted(sources, key=lambda source: source.label)


def _as_text(name: str) -> str:
    """A name that tables can hold: bytes of it that are no UTF-8 are written as %E9."""
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def _walk(folder: Path, leave_out: Path, walked: set[Path] | None = None) -> Iterator[Path]:
    """What lies in a folder; each folder once, as links may lead back to one above."""
    walked = {leave_out} if walked is None else walked
    resolved = folder.resolve()
    if resolved in walked:
        return
    walked.add(resolved)
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    videos = [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()]
    yield from videos
    if not videos and any(map(meant_as_picture, entries)):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, leave_out, walked)


def without_copies(
    sources: Sequence[Source], identities: "Identities"
) -> tuple[list[Source], list[tuple[Source, Source]]]:
    """Leave out what is the same footage once more, byte by byte: taken for another person, it could be learned from
    here and held out there.

    Returns:
        The sources without those, and each of those with the one that stands for it: of several the first that the
        table names, or else the first.

    Raises:
        SourceError: the table says that different people are seen in it.
    """
    alike: dict[tuple[int, ...], list[Source]] = {}
    for source in sources:
        alike.setdefault(tuple(file.stat().st_size for file in source.files), []).append(source)
    instead: dict[Source, Source] = {}
    for sizes, group in alike.items():
        same: dict[str, list[Source]] = {}
        for source in group if len(group) > 1 and any(sizes) else []:
            same.setdefault(_content(source), []).append(source)
        for copies in same.values():
            first, *others = sorted(copies, key=lambda source: not identities.stated(source))
            for other in others:
                one, two = identities.stated(first), identities.stated(other)
                if two and one != two:
                    raise SourceError(
                        f"{first.label} and {other.label} are the same footage, and the table says that {one} is seen "
                        f"in one and {two} in the other: expected one person; mend the table, or take one of them away"
                    )
                instead[other] = first
    return [source for source in sources if source not in instead], list(instead.items())


def _content(source: Source) -> str:
    digest = hashlib.sha256()
    for path in source.files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def cost_of(source: Source) -> float:
    """How much work a source is: the pixels to be decoded, as its header tells them.

    Where that does not tell them, by the bytes: 80 pixels in each, as in H.264 of 0.1 bit per pixel.
    """
    files = source.files
    by_bytes = 80.0 * sum(file.stat().st_size for file in files)
    try:
        with av.open(str(files[0].absolute())) as container:
            stream = container.streams.video[0]
            pixels = stream.codec_context.width * stream.codec_context.height
            if source.path.is_dir():
                return float(pixels * len(files))
            duration_s = (container.duration or 0) / av.time_base
            return pixels * float(stream.frames or duration_s * (stream.average_rate or 25)) or by_bytes
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return by_bytes


def _packs(folder: Path, label: str, table: Mapping[str, Statement], *, photos: bool) -> list[Pack]:
    """The packs of photographs of a folder of pictures; none where these are a video's frames."""
    if not photos and all(line.kind != PHOTOS for line in table.values()):
        return []
    pictures = pictures_in(folder)
    rows = {
        picture: [key for key in _labels(f"{label}/{picture.name}") if key in table and table[key].kind != CLIP]
        for picture in pictures
    }
    named = [picture for picture in pictures if any(table[row].kind == PHOTOS for row in rows[picture])]
    if not (photos or named or any(table[key].kind == PHOTOS for key in _labels(label) if key in table)):
        return []
    told = [picture for picture in pictures if rows[picture] or "#" in picture.name]
    if told and len(told) < len(pictures):
        left_out = next(picture for picture in pictures if picture not in told)
        raise SourceError(
            f"of the {len(pictures)} photographs in {folder}, {len(told)} are named in the table or ID#..., and "
            f"{left_out.name} is not: expected all of them or none, so that nobody is taken for another"
        )
    people: dict[str, list[Path]] = {}
    for picture in pictures:
        stated = next((table[row].identity for row in rows[picture] if table[row].identity), "")
        before, mark, _ = picture.name.partition("#")
        person = stated or (before if mark else "")
        people.setdefault(_identity(person) if person else "", []).append(picture)
    packs = []
    for identity, group in people.items():
        lines = [row for picture in group for row in rows[picture]]
        licences = dict.fromkeys(table[row].licence for row in lines if table[row].licence)
        packs.append(Pack(tuple(group), identity, "; ".join(licences), tuple(lines)))
    return packs


def _labels(label: str) -> tuple[str, ...]:
    """What a table may call something: its label or its file name, either without suffix."""
    file = Path(label)
    return label, label.removesuffix(file.suffix), file.name, file.stem


def _distinct(found: dict[Path, list[str]]) -> dict[Path, str]:
    """Labels; those that several inputs share are lengthened by the folders above until they differ."""
    depth = dict.fromkeys(found, 1)
    while True:
        labels = {path: "/".join(parts[-depth[path] :]) for path, parts in found.items()}
        together: dict[str, list[Path]] = {}
        for path, label in labels.items():
            together.setdefault(label, []).append(path)
        shared = [path for paths in together.values() if len(paths) > 1 for path in paths]
        if not shared:
            return labels
        for path in shared:
            depth[path] += 1


def _slug(label: str) -> str:
    stem = label[: -len(Path(label).suffix)] if Path(label).suffix.lower() in VIDEO_SUFFIXES else label
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-") or "source"


def _identity(person: str) -> str:
    """A person's name in letters, digits, `-` and `_`; where that leaves out other letters, with a hash of it all, so
    that two people never become one.
    """
    if person.isascii() and re.search(r"\w", person):
        return _slug(person)
    name = unicodedata.normalize("NFKD", person)  # as one file system writes accents, and another does not
    plain = "".join(letter for letter in name if not unicodedata.combining(letter))
    return f"{_slug(plain)}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:6]}"


class Identities:
    """Who is seen in a clip, and under which licence.

    In this order: the table's line for the clip's track (`NAME#003`), its line for the source (label, file name, or
    either without suffix); what stands before `#` in the file's name, as in the released layout; the first folder
    below the input, if asked for, as VoxCeleb's `id10001/VIDEO/00001.mp4` has it; else each source is a person of its
    own.

    Args:
        table: who, by the above; empty without one.
        by_folder: whether the first folder names the person.
    """

    def __init__(self, table: Mapping[str, Statement], *, by_folder: bool) -> None:
        self._table = table
        self._by_folder = by_folder

    @staticmethod
    def keys(source: Source, track: int) -> tuple[str, ...]:
        """What a table may call a clip's track or source, in the order in which it is looked for."""
        photographs = () if source.pack is None else source.pack.rows
        return f"{source.name}#{track:03d}", *_labels(source.label), source.name, *photographs

    def _stated(self, source: Source, track: int) -> list[Statement]:
        return [self._table[key] for key in self.keys(source, track) if key in self._table]

    def licence(self, source: Source, track: int) -> str:
        """As the table states it; empty where it does not."""
        if source.pack is not None and source.pack.licence:
            return source.pack.licence
        return next((line.licence for line in self._stated(source, track) if line.licence), "")

    def of(self, source: Source, track: int) -> str:
        """The identity, in letters, digits, `-` and `_`."""
        if stated := self.stated(source, track):
            return stated
        before, mark, _ = Path(source.label).name.partition("#")
        if mark and before:
            return _identity(before)
        if self._by_folder and source.folder:
            return _identity(source.folder)
        return source.name

    def stated(self, source: Source, track: int = 0) -> str:
        """The identity that the table states, or what tells the photographs of a pack apart; empty where none does."""
        if source.pack is not None and source.pack.identity:
            return source.pack.identity
        return next((_identity(line.identity) for line in self._stated(source, track) if line.identity), "")

    def refuse_unknown(self, sources: Iterable[Source]) -> None:
        """See that folders tell who is seen, where they are to.

        Raises:
            SourceError: a source lies in none, and would be taken for another person than its neighbours.
        """
        for source in sources if self._by_folder else ():
            if not source.folder and self.of(source, 0) == source.name:
                raise SourceError(
                    f"{source.label} lies in no folder of its input, expected a folder for each person there: give the "
                    "folder above them, or tell who is seen by --identities"
                )


def read_table_of_identities(path: Path) -> dict[str, Statement]:
    """Read a CSV with the column `source` and at least one of `identity`, `licence` and `kind`.

    Raises:
        SourceError: it cannot be read, lacks a column, or says two things of one source.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"cannot read the identities {path}: {error}") from error
    _check_columns(path, reader.fieldnames or ())
    table: dict[str, Statement] = {}
    for row in rows:
        if surplus := row.get(None):  # as DictReader calls what has no column
            raise SourceError(
                f"{path}: got the cells {surplus} behind the last column in the line of {row.get('source')!r}, "
                'expected as many cells as columns: a text with commas stands in quotes, as "CC BY, 4.0"'
            )
        if not any(map(str.strip, filter(None, row.values()))):  # as spreadsheets leave at the end
            continue
        source = (row.get("source") or "").strip()
        given = Statement(*((row.get(name) or "").strip() for name in Statement._fields))
        if not source or not any(given):
            raise SourceError(
                f"{path}: got the row {row}, expected the columns source and identity, licence or kind, source filled "
                "and one of the others"
            )
        if given.kind not in {"", CLIP, PHOTOS}:
            raise SourceError(f"{path}: {source} is of kind {given.kind!r}, expected {CLIP} or {PHOTOS}")
        if (before := table.setdefault(source, given)) != given:
            one, other = (" ".join(filter(None, statement)) for statement in (before, given))
            raise SourceError(f"{path}: {source} is both {one} and {other}: expected one line for each source")
    return table


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse columns that would say nothing, though they are meant to.

    Raises:
        SourceError: one is there twice, or its name is nearly one of ours.
    """
    known = ("source", *Statement._fields)
    for column in columns:
        name = column.strip().lower()
        if columns.count(column) > 1 and column in known:
            raise SourceError(f"{path}: got the column {column} twice, expected it once")
        if column not in known and (meant := difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
            raise SourceError(f"{path}: got the column {column!r}, expected {meant[0]}: rename it")


def split_identities(identities: Iterable[str], test_share: float, seed: int) -> dict[str, str]:
    """Who is learned from, and who is held out: `train` or `test` for each identity.

    A person's place is a function of the name and the seed alone, so that nobody changes sides when more footage is
    added. Only where all would fall on one side (few people) does the one nearest to the border change over; one who is
    alone is learned from.

    Args:
        identities: names.
        test_share: the expected share of people held out, in [0, 1).
        seed: a different seed holds out different people.
    """
    places = {name: _place(name, seed) for name in sorted(set(identities))}
    splits = {name: "test" if place < test_share else "train" for name, place in places.items()}
    if len(places) == 1:
        return dict.fromkeys(places, "train")
    if test_share > 0 and len(set(splits.values())) == 1:
        one_side = next(iter(splits.values()))
        nearest = (max if one_side == "test" else min)(places, key=lambda name: places[name])
        splits[nearest] = "train" if one_side == "test" else "test"
    return splits


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
