"""What there is to prepare: videos and folders of pictures, their names, who is seen in them, and who is held out."""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcnet.media.images import meant_as_picture

_VIDEOS = "3gp avi flv gif m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEOS.split())
_LONGEST_NAME = 80


class SourceError(ValueError):
    """Inputs that cannot be used; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Source:
    """A video, or a folder of its frames."""

    label: str
    """Its path relative to the input it was found in; a file that was named itself has its own name."""
    path: Path
    name: str
    """Letters, digits, `-` and `_`: what its clips are named after. No other source has it."""

    @property
    def stamp(self) -> str:
        """Changes when the file, or the folder's content, does."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def find_sources(inputs: Sequence[Path], leave_out: Path) -> list[Source]:
    """Find all sources of the inputs.

    A file is a source whatever its suffix. In a folder, at any depth, videos are told by their suffix; a folder with
    pictures and without videos is one source, its pictures the frames in natural order.

    Args:
        inputs: files and folders.
        leave_out: a folder that is no input, even inside of one: where the result goes.

    Returns:
        Sources, each once, sorted by label.

    Raises:
        SourceError: an input is missing, or holds no source.
    """
    found: dict[Path, list[str]] = {}
    for given in inputs:
        if not given.exists():
            raise SourceError(f"no video or folder at {given}: check the path")
        paths = list(_walk(given, leave_out.resolve())) if given.is_dir() else [given]
        if not paths:
            raise SourceError(f"the folder {given} holds no videos and no pictures: expected some, in it or below")
        for path in paths:
            resolved = path.resolve()
            relative = path.relative_to(given)
            label = relative.as_posix() if relative.parts else resolved.name
            found.setdefault(resolved, [*resolved.parts[1 : -len(Path(label).parts)], label])
    labels = _distinct(found)
    slugs = {path: _slug(label) for path, label in labels.items()}
    sources = []
    for path, label in labels.items():
        name = slugs[path]
        if list(slugs.values()).count(name) > 1 or len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        sources.append(Source(label, path, name))
    return sorted(sources, key=lambda source: source.label)


def _walk(folder: Path, leave_out: Path) -> Iterator[Path]:
    if folder.resolve() == leave_out:
        return
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    videos = [entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()]
    yield from videos
    if not videos and any(map(meant_as_picture, entries)):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, leave_out)


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


class Identities:
    """Who is seen in a clip.

    In this order: the mapping's line for the clip's track (`NAME#003`), its line for the source (label, file name, or
    either without suffix); what stands before `#` in the file's name, as in the released layout; the first folder of
    the label, if asked for, as VoxCeleb's `id10001/VIDEO/00001.mp4` has it; else each source is a person of its own.

    Args:
        mapping: who, by the above; empty without one.
        by_folder: whether the first folder names the person.
    """

    def __init__(self, mapping: dict[str, str], *, by_folder: bool) -> None:
        self._mapping = mapping
        self._by_folder = by_folder

    @staticmethod
    def keys(source: Source, track: int) -> tuple[str, ...]:
        """What a mapping may call a clip's track or source, in the order in which it is looked for."""
        label, file = source.label, Path(source.label)
        stem = label.removesuffix(file.suffix)
        return f"{source.name}#{track:03d}", label, stem, file.name, file.stem, source.name

    def of(self, source: Source, track: int) -> str:
        """The identity, in letters, digits, `-` and `_`."""
        for key in self.keys(source, track):
            if key in self._mapping:
                return _slug(self._mapping[key])
        file = Path(source.label)
        before, mark, _ = file.name.partition("#")
        if mark and before:
            return _slug(before)
        if self._by_folder and len(file.parts) > 1:
            return _slug(file.parts[0])
        return source.name


def read_mapping(path: Path) -> dict[str, str]:
    """Read a CSV with the columns `source` and `identity`.

    Raises:
        SourceError: it cannot be read, lacks a column, or says two things of one source.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"cannot read the identities {path}: {error}") from error
    mapping: dict[str, str] = {}
    for row in rows:
        source, identity = row.get("source"), row.get("identity")
        if not source or not identity:
            raise SourceError(f"{path}: got the row {row}, expected the columns source and identity, both filled")
        if mapping.setdefault(source, identity) != identity:
            raise SourceError(f"{path}: {source} is both {mapping[source]} and {identity}: expected one identity")
    return mapping


def split_identities(identities: Iterable[str], test_share: float, seed: int) -> dict[str, str]:
    """Who is learned from, and who is held out: `train` or `test` for each identity.

    A person's place is a function of the name and the seed alone, so that nobody changes sides when more footage is
    added. Only where all would fall on one side (few people) does the one nearest to the border change over.

    Args:
        identities: names.
        test_share: the expected share of people held out, in [0, 1).
        seed: another seed, another choice.
    """
    places = {name: _place(name, seed) for name in sorted(set(identities))}
    splits = {name: "test" if place < test_share else "train" for name, place in places.items()}
    if test_share > 0 and len(places) > 1 and len(set(splits.values())) == 1:
        one_side = next(iter(splits.values()))
        nearest = (max if one_side == "test" else min)(places, key=lambda name: places[name])
        splits[nearest] = "train" if one_side == "test" else "test"
    return splits


def _place(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
