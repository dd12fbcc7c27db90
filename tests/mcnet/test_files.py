import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av.error
import numpy as np
import pytest

from mcnet.files import Claim, cause_and_remedy, claimed, free_name, replacing, scratch_beside
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video_writer import VideoWriter


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EDQUOT, "make room: what you may use of the disk is used up"),
        (errno.EFBIG, "choose a disk that takes larger files, or make it shorter"),
        (errno.EROFS, "choose another place"),
        (errno.EIO, "choose another place"),
    ],
)
def test_why_a_file_could_not_be_written(number: int, remedy: str) -> None:
    said = f"{os.strerror(number)}; {remedy}"
    assert cause_and_remedy(OSError(number, os.strerror(number))) == said
    assert cause_and_remedy(av.error.FFmpegError(number, os.strerror(number))) == said


def test_what_no_other_place_would_help() -> None:
    external = int.from_bytes(b"EXT ", "little")  # FFmpeg's numbers of its own are four letters
    encoder = av.error.FFmpegError(external, "Generic error in an external library")
    assert cause_and_remedy(encoder) == "Generic error in an external library"
    assert cause_and_remedy(OSError("it was removed meanwhile")) == "it was removed meanwhile"


def test_a_free_name(tmp_path: Path) -> None:
    for name in ("a.mp4", "a-2.mp4", "a-3.mp4"):
        assert free_name(tmp_path / "a.mp4") == tmp_path / name
        (tmp_path / name).touch()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.txt").write_text("old", encoding="utf-8")
    link = tmp_path / "link.txt"
    link.symlink_to(Path("elsewhere", "real.txt"))
    with replacing(link) as partial:
        partial.write_text("new", encoding="utf-8")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.txt").read_text(encoding="utf-8") == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "link.txt", "real.txt"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, settled = tmp_path / "settings.toml", []
    path.write_text("old", encoding="utf-8")

    def fsync(descriptor: int) -> None:
        settled.append((os.fstat(descriptor).st_size, path.read_text(encoding="utf-8")))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(path, lasting=False) as partial:
        partial.write_text("a frame", encoding="utf-8")
    assert settled == []
    with replacing(path) as partial:
        partial.write_text("of now", encoding="utf-8")
    assert settled == [(len("of now"), "a frame")]
    assert path.read_text(encoding="utf-8") == "of now"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_what_cannot_reach_the_disk_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file system that knows no such wish is no failure."""
    path = tmp_path / "settings.toml"
    path.write_text("old", encoding="utf-8")

    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    known = number == errno.EINVAL
    fails = contextlib.nullcontext() if known else pytest.raises(OSError, match=os.strerror(number))
    with fails, replacing(path) as partial:
        partial.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == ("new" if known else "old")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
@pytest.mark.parametrize("rights", [0o600, 0o640, 0o664])
def test_who_may_read_a_file_may_read_the_one_in_its_place(tmp_path: Path, rights: int) -> None:
    path = tmp_path / "report.json"
    for made_for, expected in ((0o644, rights), (0o600, 0o600)):
        path.touch()
        path.chmod(rights)
        with replacing(path) as partial:
            partial.touch()
            partial.chmod(made_for)
        assert stat.S_IMODE(path.stat().st_mode) == expected


LONG_NAMES = ["x" * 251 + ".png", "ä" * 125 + ".png", "画" * 83 + "ab.png"]
"""As long as the usual file systems take: 255 bytes."""


@pytest.mark.parametrize("name", [*LONG_NAMES, "a.png"])
def test_a_name_that_the_file_system_takes_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()  # it can be
    with replacing(path) as partial:
        assert len(os.fsencode(partial.name)) < 100
        partial.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new"
    rgb = np.full((64, 64, 3), 90, np.uint8)
    write_rgb(path, rgb)
    assert (read_rgb(path) == 90).all()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ""])
def test_a_video_of_a_long_name_is_written_and_the_one_before_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    if suffix:
        path.touch()
    with VideoWriter(path, 25, (64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size > 0


def test_scratch_names_of_different_files_differ(tmp_path: Path) -> None:
    names = {scratch_beside(tmp_path / f"{'x' * 100}{number}.mp4", ".mp4").name for number in range(20)}
    assert len(names) == 20
    assert all(name.startswith(".xxxx") and name.endswith(".partial.mp4") for name in names)


def test_threads_that_write_the_same_file_do_not_share_a_scratch(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as other:
        elsewhere = other.submit(scratch_beside, tmp_path / "a.mp4").result()
    assert elsewhere != scratch_beside(tmp_path / "a.mp4") == scratch_beside(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", LONG_NAMES)
def test_a_free_name_beside_a_long_one_is_one_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    for number in range(1, 12):
        free = free_name(tmp_path / name)
        free.touch()
        assert free.suffix == ".png"
        assert number == 1 or free.stem.endswith(f"-{number}")
    assert len(list(tmp_path.iterdir())) == 11


def test_a_claim_is_one_processs_and_ends_with_it(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    claim = Claim.beside(folder / "jobs.csv")
    other = Claim.beside(tmp_path / "folder" / ".." / "folder" / "jobs.csv")
    assert claim.take()
    assert not other.take()
    claim.release()
    claim.release()
    assert list(folder.iterdir()) == []
    code = "import sys; from pathlib import Path; from mcnet.files import Claim; print(Claim(Path(sys.argv[1])).take())"
    hold = [sys.executable, "-c", f"{code}; sys.stdout.flush(); input()", str(claim.path)]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not claim.take()
        process.kill()
    assert claim.path.exists(), "which nobody took away"
    assert claim.take()
    claim.release()


def test_where_nothing_can_be_claimed_the_work_is_done(tmp_path: Path) -> None:
    with claimed(tmp_path / "no such folder" / "jobs.csv") as alone:
        assert alone
    with claimed(tmp_path / "jobs.csv") as first, claimed(tmp_path / "jobs.csv") as second:
        assert (first, second) == (True, False)


def test_of_many_that_claim_at_once_one_does(tmp_path: Path) -> None:
    """Also while those who had it before let go of it, which takes the file away that others have open."""
    inside, most = 0, 0

    def work(_: int) -> int:
        nonlocal inside, most
        taken = 0
        for _ in range(200):
            claim = Claim(tmp_path / "claim")
            if claim.take():
                inside += 1
                time.sleep(0)
                most = max(most, inside)
                taken += 1
                inside -= 1
                claim.release()
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    assert most == 1
    assert list(tmp_path.iterdir()) == []
