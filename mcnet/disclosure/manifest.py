"""What a file says of itself: made, signed, checked and read back by the C2PA project's own library (`c2pa-python`)."""

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import ModuleType
from typing import Any

from mcnet.disclosure.errors import DisclosureError
from mcnet.disclosure.identity import Identity
from mcnet.files import cause_and_remedy, real_place, replacing, scratch_beside, take_place
from mcnet.packages import lack_of, missing_package
from mcnet.phrases import listed, phrase
from mcnet.version import project_version

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a trained model made."""
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
"""IPTC's term for pictures of several elements of which at least one was made by a trained model."""
SIDECAR = ".c2pa"
"""Ends the name of the file that holds the statement where the file itself has no place for it."""
UNTRUSTED = "signingCredential.untrusted"
"""C2PA's code for a signer for whom nobody vouches whom this machine trusts; it harms nothing."""

_EMBEDDING = {
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
_BESIDE = {".webm": "video/webm"}
_OWN_LABEL = "io.github.mcnet_avatar.generation"
_GOOD_STATES = ("Valid", "Trusted")
_ROOM_BYTES = 1 << 20  # beyond the file's own size: the statement takes some 15 kB
# Nothing is fetched: not what a manifest refers to, nor whether a certificate was revoked.
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class ModelUsed:
    """A model that made pictures of a file.

    Attributes:
        name: from its file.
        sha256: of its weights, as its file has it; "" where it has none.
    """

    name: str
    sha256: str = ""


@dataclass(frozen=True)
class Generated:
    """What is to be said of a file.

    Attributes:
        models: that made its pictures, in the order in which they were used.
        composite: recorded or other pictures stand beside or behind the generated ones, or in their place.
    """

    models: tuple[ModelUsed, ...]
    composite: bool = False


@dataclass(frozen=True)
class Credentials:
    """What a file says of itself.

    Attributes:
        intact: file and statement are as they were when they were signed.
        trusted: somebody vouches for the signer whom this machine trusts.
        problems: codes of what is wrong, as C2PA has them; `UNTRUSTED` alone harms nothing.
        signer: whom the certificate names.
        generator: program and version.
        source_types: IPTC's terms for how its pictures came about.
        description: in words.
        models: that made the pictures, if it was this program.
        beside: the statement lies in a file of its own.
    """

    intact: bool
    trusted: bool
    problems: tuple[str, ...]
    signer: str
    generator: str
    source_types: tuple[str, ...]
    description: str
    models: tuple[ModelUsed, ...]
    beside: bool


def disclose(path: Path, said: Generated, identity: Identity) -> Path:
    """Sign a finished file, in one step: whatever fails, the file stays as it was.

    A copy with the statement is made beside it, read back, compared with the file picture by picture (of a video packet
    by packet, undecoded), and takes its place. WebM has no place for a statement: it goes into a file beside it.

    Args:
        path: `.mp4`, `.gif`, `.png`, `.jpg`, or `.webm`.
        said: what is stated.
        identity: who signs.

    Returns:
        The file that holds the statement.

    Raises:
        DisclosureError: it cannot be done; the file is as it was.
    """
    suffix = path.suffix.lower()
    embedded = suffix in _EMBEDDING
    kind = _EMBEDDING.get(suffix) or _BESIDE.get(suffix)
    if kind is None:
        raise DisclosureError(
            phrase(
                "{path}: got suffix {suffix}, expected {kinds}",
                path=path,
                suffix=repr(path.suffix),
                kinds=listed((*_EMBEDDING, *_BESIDE)),
            )
        )
    library = _library()
    place = real_place(path)
    partial = scratch_beside(place, suffix)
    try:
        before = _identity_of(path)
        _require_room(path)
        with path.open("rb") as source, contextlib.closing(_Copy(partial)) as copy:
            try:
                manifest = _signed(library, kind, _definition(said), identity, source, copy, embedded=embedded)
            except library.C2paError as error:
                cause = cause_and_remedy(copy.failure) if copy.failure is not None else _words(error)
                raise DisclosureError(phrase("it cannot be signed: {why}", why=cause)) from error
            os.fsync(copy.fileno())
        signed = partial if embedded else path
        _require_good(_read(library, signed, kind, None if embedded else manifest), said)
        if embedded and not _shows_the_same(path, partial):
            raise DisclosureError(phrase("the signed copy does not show the same pictures, so that it was not kept"))
        if _identity_of(path) != before:
            raise DisclosureError(phrase("it was changed, moved or removed while it was being signed"))
        if embedded:
            take_place(partial, place)
            return path
        statement = path.with_suffix(SIDECAR)
        if not may_replace(statement):
            raise DisclosureError(
                phrase(
                    "its statement would go to {path}, where another file is: move or rename that one", path=statement
                )
            )
        with replacing(statement) as beside:
            beside.write_bytes(manifest)
        return statement
    except OSError as error:
        raise DisclosureError(phrase("it cannot be signed: {why}", why=cause_and_remedy(error))) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def statement_beside(path: Path) -> Path | None:
    """Where a file's statement goes if it has no place for one itself; None where it has."""
    return path.with_suffix(SIDECAR) if path.suffix.lower() in _BESIDE else None


def may_replace(statement: Path) -> bool:
    """Whether nothing is at the place of a statement, or an older one of this program."""
    try:
        if not statement.is_file():
            return not statement.exists()
        return statement.stat().st_size <= _ROOM_BYTES and _OWN_LABEL.encode() in statement.read_bytes()
    except OSError:  # what cannot be read stays
        return False


def drop_stale(path: Path) -> None:
    """Take away an older statement of this program from beside a file that was written anew; whatever else stays."""
    statement = statement_beside(path)
    with contextlib.suppress(OSError):
        if statement is not None and may_replace(statement):
            statement.unlink(missing_ok=True)


def read_credentials(path: Path) -> Credentials | None:
    """What a file says of itself; None where it says nothing.

    Args:
        path: of any kind that the library knows. A statement beside it is found by its name.

    Raises:
        DisclosureError: the file cannot be read, or what it says cannot.
    """
    library = _library()
    suffix = path.suffix.lower()
    kind = _EMBEDDING.get(suffix) or _BESIDE.get(suffix)
    beside = path.with_suffix(SIDECAR)
    try:
        if path.exists() and not path.is_file():
            raise DisclosureError(phrase("cannot read {path}: got a device or a pipe, expected a file", path=path))
        path.stat()
        if suffix in _BESIDE and not beside.is_file():
            return None
        return _read(library, path, kind, beside.read_bytes() if suffix in _BESIDE else None)
    except OSError as error:
        raise DisclosureError(
            phrase("cannot read {path}: {why}; check its name", path=path, why=error.strerror or error)
        ) from error


def _library() -> ModuleType:
    """`c2pa`, of which the native part is taken from its own package, and from nowhere else.

    Left alone it would be looked for in the current folder first: in a folder of downloads, say.
    """
    try:
        return _imported_library()
    except (ImportError, OSError, RuntimeError) as error:
        if isinstance(error, ImportError) and (lack := missing_package(error)):
            raise DisclosureError(_or_without(lack)) from error
        raise DisclosureError(
            phrase(
                "the package c2pa-python cannot be used ({error}); install the app again, or switch Content "
                "Credentials off",
                error=error,
            )
        ) from error


def _or_without(lack: str) -> str:
    return phrase("{lack}; or switch Content Credentials off", lack=lack)


@functools.cache
def _imported_library() -> ModuleType:
    found = importlib.util.find_spec("c2pa")
    if found is None or not found.submodule_search_locations:
        raise DisclosureError(_or_without(lack_of("c2pa")))
    beside = Path(found.submodule_search_locations[0], "libs").glob("*c2pa_c.*")
    native = next((path for path in beside if path.suffix in (".so", ".dylib", ".dll")), None)
    if native is None:
        raise ImportError("its native part is missing")
    before = os.environ.get("C2PA_LIBRARY_NAME")
    os.environ["C2PA_LIBRARY_NAME"] = str(native)
    try:
        return importlib.import_module("c2pa")
    finally:
        if before is None:
            del os.environ["C2PA_LIBRARY_NAME"]
        else:
            os.environ["C2PA_LIBRARY_NAME"] = before


def _definition(said: Generated) -> dict[str, Any]:
    """The statement, as the library takes it. Nothing in it is of the user's, their files' names or their machine."""
    program = {"name": "mcnet-avatar", "version": project_version()}
    models = [
        {"name": model.name, **({"sha256": model.sha256} if model.sha256 else {})}
        for model in dict.fromkeys(said.models)
    ]
    created = {
        "action": "c2pa.created",
        "digitalSourceType": COMPOSITE if said.composite else GENERATED,
        "softwareAgent": program,
        "description": _description(said),
    }
    return {
        "claim_generator_info": [program],
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {"label": _OWN_LABEL, "data": {"method": "MCNet", "input": "portrait", "models": models}},
        ],
    }


def _description(said: Generated) -> str:
    names = ", ".join(dict.fromkeys(model.name for model in said.models))
    made = f"AI-generated: a neural network (MCNet; model {names}) animated a portrait."
    if said.composite:
        return (
            f"{made} Other pictures are shown too, such as the portrait, a recording of the person who moved it, or a "
            "background. Sound, where there is any, is recorded."
        )
    return f"{made} No picture is a camera's. Sound, where there is any, is recorded."


def _signed(
    library: ModuleType,
    kind: str,
    definition: dict[str, Any],
    identity: Identity,
    source: Any,
    copy: "_Copy",
    *,
    embedded: bool,
) -> bytes:
    """Write a copy with the statement; returns the statement."""
    info = library.C2paSignerInfo(identity.algorithm.encode(), identity.certificates, identity.key, None)
    with (
        library.Signer.from_info(info) as signer,
        library.Context.from_dict(_SETTINGS) as context,
        library.Builder.from_json(definition, context) as builder,
    ):
        if not embedded:
            builder.set_no_embed()
        return bytes(builder.sign(signer, kind, source, copy))


def _read(library: ModuleType, path: Path, kind: str | None, manifest: bytes | None) -> Credentials | None:
    with path.open("rb") as file, library.Context.from_dict(_SETTINGS) as context:
        try:
            with library.Reader(kind, file, manifest, context) as reader:
                return _credentials(json.loads(reader.json()), beside=manifest is not None)
        except library.C2paError.ManifestNotFound:
            return None
        except library.C2paError as error:
            raise DisclosureError(
                phrase("what {path} says of itself cannot be read: {why}", path=path, why=_words(error))
            ) from error


def _credentials(store: dict[str, Any], *, beside: bool) -> Credentials:
    """What the library found, of the file's own statement; those of what it was made from are left aside.

    Anybody may sign anything under any label: what has not the shape that it should have says nothing.
    """
    manifest = _table(store["manifests"][store["active_manifest"]])
    assertions = {_text(entry.get("label")): _table(entry.get("data")) for entry in _tables(manifest.get("assertions"))}
    lists = [data for label, data in assertions.items() if label.startswith("c2pa.actions")]
    actions = [action for data in lists for action in _tables(data.get("actions"))]
    signature = _table(manifest.get("signature_info"))
    programs = _tables(manifest.get("claim_generator_info")) or [{}]
    named = (_text(signature.get("issuer")), _text(signature.get("common_name")))
    return Credentials(
        intact=store.get("validation_state") in _GOOD_STATES,
        trusted=store.get("validation_state") == "Trusted",
        problems=tuple(_text(problem.get("code")) for problem in _tables(store.get("validation_status"))),
        signer=", ".join(dict.fromkeys(name for name in named if name)),
        generator=" ".join(str(programs[0][part]) for part in ("name", "version") if part in programs[0]),
        source_types=tuple(
            dict.fromkeys(source for action in actions if (source := _text(action.get("digitalSourceType"))))
        ),
        description=" ".join(filter(None, (_text(action.get("description")) for action in actions))),
        models=tuple(
            ModelUsed(_text(model.get("name")), _text(model.get("sha256")))
            for model in _tables(assertions.get(_OWN_LABEL, {}).get("models"))
        ),
        beside=beside,
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _require_good(found: Credentials | None, said: Generated) -> None:
    """See that what was written can be read back, and says what it should."""
    if found is None or not found.intact:
        problems = phrase("nothing is there") if found is None else listed(found.problems)
        raise DisclosureError(
            phrase(
                "the signed copy does not hold when it is read back ({problems}), so that it was not kept",
                problems=problems,
            )
        )
    if found.models != tuple(dict.fromkeys(said.models)):
        raise DisclosureError(phrase("the signed copy says something else, so that it was not kept"))


class _Copy(FileIO):
    """A file that the library writes to; what goes wrong is kept here, since the library only hears that it did.

    Attributes:
        failure: what went wrong first.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        super().__init__(path, "w+")

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest:  # a full disk takes what still fits, and refuses only the next bytes
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.failure = self.failure or error
            raise
        return len(data)


def _shows_the_same(one: Path, other: Path) -> bool:
    """Whether two files show and sound the same: a video's packets, undecoded; the decoded pictures of others."""
    import av.error

    parts = _packets if one.suffix.lower() == ".mp4" else _pictures
    pairs = itertools.zip_longest(parts(one), parts(other))
    try:
        return all(mine == theirs for mine, theirs in pairs)
    except av.error.FFmpegError:
        return False


def _packets(path: Path) -> Iterator[tuple[Any, ...]]:
    import av

    with av.open(str(path.absolute())) as container:  # FFmpeg takes a relative name with a colon for an address
        for packet in container.demux():
            yield packet.stream_index, packet.pts, packet.dts, bytes(packet)


def _pictures(path: Path) -> Iterator[tuple[Any, ...]]:
    import av
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with av.open(str(path.absolute())) as container:
        for frame in container.decode(video=0):
            # NumPy gets no JPEG of an odd width as it is stored, and of rgba FFmpeg leaves out the last pixels of each
            # row in every fourth width of a JPEG: what is in memory there differs.
            shown = reformatter.reformat(frame, format="gbrap")
            yield frame.pts, frame.width, frame.height, shown.to_ndarray().tobytes()


def _require_room(path: Path) -> None:
    needed, free = path.stat().st_size + _ROOM_BYTES, shutil.disk_usage(path.parent).free
    if free < needed:
        raise DisclosureError(
            phrase(
                "signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on "
                "the disk",
                free_mb=free / 1e6,
                needed_mb=needed / 1e6,
            )
        )


def _identity_of(path: Path) -> tuple[int, int, int]:
    """Tells a file apart from one that was changed or took its place."""
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _words(error: Exception) -> str:
    """What the library says, as a part of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
