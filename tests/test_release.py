"""`make release` finds out what a checkout never shows: a file that an archive or a wheel lacks, or has too many."""

import hashlib
import importlib
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TRACKED = {"README.md", "mcnet/a.py", "assets/portrait.jpg"}
METADATA = """Metadata-Version: 2.4
Name: mcnet-avatar
Version: 1.2.3
License-Expression: MIT
License-File: LICENSE

What it is.
"""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    module = importlib.import_module("release")
    monkeypatch.setattr(module, "tracked", lambda: TRACKED)
    return module


def _source(folder: Path, names: set[str]) -> Path:
    path = folder / "mcnet_avatar-1.2.3.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted(names | {"PKG-INFO", "mcnet_avatar.egg-info/SOURCES.txt"}):
            archive.addfile(tarfile.TarInfo(f"mcnet_avatar-1.2.3/{name}"), io.BytesIO())
    return path


def _wheel(folder: Path, names: set[str], metadata: str = METADATA) -> Path:
    path = folder / "mcnet_avatar-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(names):
            archive.writestr(name, "")
        archive.writestr("mcnet_avatar-1.2.3.dist-info/METADATA", metadata)
        archive.writestr("mcnet_avatar-1.2.3.dist-info/licenses/LICENSE", "")
    return path


def test_a_source_archive_is_what_git_tracks(release: Any, tmp_path: Path) -> None:
    release.check_source(_source(tmp_path, TRACKED))
    with pytest.raises(SystemExit, match=r"lacks README\.md: name it in MANIFEST\.in"):
        release.check_source(_source(tmp_path, TRACKED - {"README.md"}))
    with pytest.raises(SystemExit, match=r"holds notes\.txt, which git does not track"):
        release.check_source(_source(tmp_path, TRACKED | {"notes.txt"}))


def test_a_wheel_is_our_packages_whole(release: Any, tmp_path: Path) -> None:
    packages = TRACKED - {"README.md"}
    release.check_wheel(_wheel(tmp_path, packages), "1.2.3")
    with pytest.raises(SystemExit, match=r"lacks assets/portrait\.jpg"):
        release.check_wheel(_wheel(tmp_path, {"mcnet/a.py"}), "1.2.3")
    with pytest.raises(SystemExit, match=r"holds tests/test_a\.py"):
        release.check_wheel(_wheel(tmp_path, packages | {"tests/test_a.py"}), "1.2.3")
    with pytest.raises(SystemExit, match=r"got version 1\.2\.4, expected 1\.2\.3"):
        release.check_wheel(_wheel(tmp_path, packages, METADATA.replace("1.2.3", "1.2.4")), "1.2.3")
    with pytest.raises(SystemExit, match="lacks the text of NOTICE"):
        release.check_wheel(_wheel(tmp_path, packages, METADATA.replace("LICENSE", "NOTICE")), "1.2.3")


def test_the_sums_are_those_of_the_files(release: Any, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"abc")
    release.sums(tmp_path)
    assert (tmp_path / release.SUMS).read_text(encoding="utf-8") == f"{hashlib.sha256(b'abc').hexdigest()}  a.whl\n"


def test_a_bundle_runs_where_the_page_says(release: Any) -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert re.findall(r"glibc (2\.\d+) or newer", page) == [release.OLDEST_LIBC]
    for older in ("2.4", "2.34", release.OLDEST_LIBC):
        release.check_libc(older)
    with pytest.raises(SystemExit, match=r"needs glibc 2\.38, expected 2\.\d+ at most"):
        release.check_libc("2.38")
