"""What files say of themselves, read back by the library for each kind of file; and files that stay as they are."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.disclosure import (
    DisclosureError,
    Generated,
    Identity,
    ModelUsed,
    SigningFiles,
    disclose,
    find_identity,
    manifest,
    read_credentials,
)
from mcnet.disclosure.process import begin_disclosing, trouble_of
from mcnet.media.images import write_rgb
from mcnet.media.video_writer import VideoWriter
from tests.disks import HOWS, Room, place

SAID = Generated((ModelUsed("starter", "5a" * 32), ModelUsed("another"), ModelUsed("starter", "5a" * 32)))
NAMES = ["a.mp4", "a.gif", "a.png", "a.jpg", "a.webm"]
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return find_identity(SigningFiles())


def written(path: Path, frames: int = 5) -> Path:
    if path.suffix in (".png", ".jpg"):
        write_rgb(path, NOISE[1:, 1:])  # of odd sides
        return path
    with VideoWriter(path, 25, (96, 64)) as writer:
        for index in range(frames):
            writer.write(np.roll(NOISE, index, axis=0))
    return path


def shown(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_file_says_it_and_shows_the_same(name: str, tmp_path: Path, identity: Identity) -> None:
    path = written(tmp_path / name)
    before, bare = shown(path), path.read_bytes()
    assert read_credentials(path) is None
    beside = name == "a.webm"
    assert disclose(path, SAID, identity) == (tmp_path / "a.c2pa" if beside else path)
    assert np.array_equal(before, shown(path))
    assert (path.read_bytes() == bare) is beside
    assert sorted(entry.name for entry in tmp_path.iterdir()) == (["a.c2pa", name] if beside else [name])
    found = read_credentials(path)
    assert found is not None
    assert (found.intact, found.trusted, found.beside) == (True, False, beside)
    assert found.problems == ("signingCredential.untrusted",)
    assert found.source_types == (manifest.GENERATED,)
    assert found.models == (ModelUsed("starter", "5a" * 32), ModelUsed("another"))
    assert "AI-generated: a neural network (MCNet; model starter, another) animated a portrait." in found.description
    assert found.generator.startswith("mcnet-avatar")
    assert "not verified" in found.signer
    added = (tmp_path / "a.c2pa" if beside else path).read_bytes()
    assert str(tmp_path).encode() not in added
    assert tmp_path.name.encode() not in added


def test_recorded_pictures_beside_generated_ones_are_a_composite(tmp_path: Path, identity: Identity) -> None:
    disclose(written(tmp_path / "a.png"), Generated(SAID.models, composite=True), identity)
    found = read_credentials(tmp_path / "a.png")
    assert found is not None
    assert found.source_types == (manifest.COMPOSITE,)
    assert "recording of the person" in found.description
    assert "No picture is a camera's" not in found.description


@pytest.mark.parametrize(
    "data",
    [
        {"models": 5},
        {"models": ["x"]},
        {"models": {"name": "x"}},
        {"models": [{"name": ["x"], "sha256": 5}]},
        {"actions": "x"},
        {"actions": [5]},
        {"actions": [{"description": ["x"], "digitalSourceType": {"x": 1}}]},
        ["a"],
        "a",
        5,
        None,
    ],
)
def test_a_statement_of_another_shape_says_nothing(data: object) -> None:
    """Anybody may sign one under any label."""
    labels = (manifest._OWN_LABEL, "c2pa.actions.v2", "c2pa.actions")
    told = {
        "assertions": [{"label": label, "data": data} for label in labels] + [5, {"label": data}],
        "signature_info": data,
        "claim_generator_info": data,
    }
    found = manifest._credentials(
        {"active_manifest": "a", "manifests": {"a": told}, "validation_status": data}, beside=False
    )
    assert not found.intact
    assert (found.signer, found.generator, found.source_types, found.description) == ("", "", (), "")
    assert all(model == ModelUsed("", "") for model in found.models)


def test_a_change_afterwards_is_seen(tmp_path: Path, identity: Identity) -> None:
    path = written(tmp_path / "a.mp4")
    disclose(path, SAID, identity)
    content = bytearray(path.read_bytes())
    content[content.index(b"mdat") + 100] ^= 1
    path.write_bytes(content)
    found = read_credentials(path)
    assert found is not None
    assert not found.intact
    assert "assertion.bmffHash.mismatch" in found.problems


def test_a_file_that_was_signed_before_is_signed_anew(tmp_path: Path, identity: Identity) -> None:
    path = written(tmp_path / "a.mp4")
    for models in (SAID.models, (ModelUsed("new"),)):
        disclose(path, Generated(models), identity)
    found = read_credentials(path)
    assert found is not None
    assert (found.intact, found.models) == (True, (ModelUsed("new"),))


def test_only_its_own_statement_is_replaced_or_taken_away(tmp_path: Path, identity: Identity) -> None:
    path, statement = written(tmp_path / "a.webm"), tmp_path / "a.c2pa"
    statement.write_bytes(b"the user's")
    with pytest.raises(DisclosureError, match="another file is: move or rename that one"):
        disclose(path, SAID, identity)
    manifest.drop_stale(path)
    assert statement.read_bytes() == b"the user's"
    statement.unlink()
    for _ in range(2):
        assert disclose(path, SAID, identity) == statement
    found = read_credentials(path)
    assert found is not None
    assert found.intact
    manifest.drop_stale(tmp_path / "a.mp4")  # of which none is beside
    assert statement.exists()
    manifest.drop_stale(path)
    assert not statement.exists()


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
@pytest.mark.parametrize("how", HOWS)
def test_a_full_disk_leaves_the_file_as_it_was(name: str, how: str, tmp_path: Path) -> None:
    with place(how, tmp_path) as folder:
        path = written(folder / name)
        bare = path.read_bytes()
        code = (
            "import sys; from pathlib import Path; from mcnet.disclosure.process import trouble_of; "
            "from tests.disks import Room; from tests.mcnet.disclosure.test_manifest import SAID; "
            "from mcnet.disclosure import SigningFiles, find_identity; find_identity(SigningFiles()); "
            "Room(sys.argv[1], Path(sys.argv[2]).parent).take(); "
            "print(trouble_of(Path(sys.argv[2]), SAID, SigningFiles()))"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, how, str(path)], capture_output=True, text=True, check=True, encoding="utf-8"
        )
        wanted = {"disk": "make room on the disk", "limit": "choose a disk that takes larger files"}[how]
        assert wanted in said.stdout
        Room(how, folder).give()
        assert [entry.name for entry in folder.iterdir()] == [name]
        assert path.read_bytes() == bare


@pytest.mark.parametrize("step", ["_require_good", "_shows_the_same"])
def test_a_process_that_is_killed_leaves_the_file_as_it_was(step: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4")
    bare = path.read_bytes()
    code = (
        f"import os, sys; from pathlib import Path; from mcnet.disclosure import manifest, SigningFiles; "
        f"manifest.{step} = lambda *_: os.kill(os.getpid(), 9); from mcnet.disclosure.process import trouble_of; "
        "trouble_of(Path(sys.argv[1]), manifest.Generated((manifest.ModelUsed('m'),)), SigningFiles())"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_bytes() == bare


@pytest.mark.parametrize(
    ("step", "does", "told"),
    [
        ("_shows_the_same", lambda *_: False, "does not show the same pictures"),
        ("_read", lambda *_: None, r"does not hold when it is read back \(nothing is there\)"),
        ("_require_good", lambda *_: os.utime("a.mp4", (1, 1)), "was changed, moved or removed while"),
    ],
)
def test_a_copy_that_is_not_good_is_not_kept(
    step: str, does: object, told: str, tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "a.mp4")
    bare = path.read_bytes()
    monkeypatch.setattr(manifest, step, does)
    with pytest.raises(DisclosureError, match=told):
        disclose(path, SAID, identity)
    assert path.read_bytes() == bare
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_pictures_that_differ_are_told_apart(tmp_path: Path) -> None:
    for suffix in (".mp4", ".gif"):
        one, other = written(tmp_path / f"a{suffix}", 5), written(tmp_path / f"b{suffix}", 4)
        assert manifest._shows_the_same(one, one)
        assert not manifest._shows_the_same(one, other)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_of_any_width_show_the_same_as_themselves(suffix: str, tmp_path: Path) -> None:
    """Whatever lies in memory where FFmpeg writes nothing."""
    for width in range(593, 609):
        path = tmp_path / f"a{suffix}"
        write_rgb(path, np.resize(NOISE, (540, width, 3)))
        assert manifest._shows_the_same(path, path), width


def test_what_cannot_be_signed_is_told(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.mp4").write_text("no video at all", encoding="utf-8")
    for path, told in (
        (tmp_path / "a.txt", r"got suffix '.txt', expected .mp4, .gif, .png, .jpg, .jpeg, .webm"),
        (tmp_path / "a.mp4", "it cannot be signed"),
        (tmp_path / "none.mp4", "it cannot be signed: No such file"),
    ):
        with pytest.raises(DisclosureError, match=told):
            disclose(path, SAID, identity)
    assert (tmp_path / "a.mp4").read_text(encoding="utf-8") == "no video at all"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.mp4")  # nobody will ever write into it
    for path, told in (
        (tmp_path / "pipe.mp4", "got a device or a pipe, expected a file"),
        (tmp_path / "none.png", "cannot read .*none.png: No such file"),
        (tmp_path / "a.txt", "says of itself cannot be read"),
    ):
        with pytest.raises(DisclosureError, match=told):
            read_credentials(path)


def test_without_the_library_the_file_stays_and_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.png")
    bare = path.read_bytes()
    manifest._imported_library.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    told = trouble_of(path, SAID, SigningFiles())
    lack = "the package c2pa is not installed (pip install c2pa-python)"
    assert told == f"{lack}; or switch Content Credentials off"
    assert path.read_bytes() == bare


@pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's table of what a process has loaded")
def test_the_native_library_is_not_taken_from_the_current_folder(tmp_path: Path) -> None:
    found = manifest._imported_library().__file__
    assert found is not None
    native = Path(found).parent / "libs" / "libc2pa_c.so"
    (tmp_path / "libc2pa_c.so").write_bytes(native.read_bytes())
    code = "from mcnet.disclosure import manifest; manifest._imported_library(); print(open('/proc/self/maps').read())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout
    assert str(native) in loaded
    assert str(tmp_path) not in loaded


def test_a_process_of_its_own_signs_and_tells(tmp_path: Path) -> None:
    told: list[tuple[Path, str]] = []
    good, bad = written(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    bad.write_text("no video", encoding="utf-8")
    for thread in [
        begin_disclosing(path, SAID, SigningFiles(), lambda *what: told.append(what)) for path in (good, bad)
    ]:
        thread.join(60)
    found = read_credentials(good)
    assert found is not None
    assert found.intact
    troubles = dict(told)
    assert troubles[good] == ""
    assert troubles[bad].startswith("it cannot be signed")


def test_it_goes_on_when_the_program_that_asked_for_it_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4")
    code = (
        "import os, sys; from pathlib import Path; from mcnet.disclosure import SigningFiles; "
        "from mcnet.disclosure.process import begin_disclosing; from tests.mcnet.disclosure.test_manifest import SAID; "
        "begin_disclosing(Path(sys.argv[1]), SAID, SigningFiles(), print); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    deadline_s = time.monotonic() + 60
    while read_credentials(path) is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("place", ["_imported_library", "_definition"])
def test_a_package_that_signing_lacks_is_told_in_its_sentence_and_logged_nowhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")

    path = written(tmp_path / "a.png")
    monkeypatch.setattr(manifest, place, lacking)
    told = trouble_of(path, SAID, SigningFiles())
    assert told.startswith("the package nowhere is not installed (pip install nowhere)")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
