"""Stores, desktops and package managers take what they read, and an AppImage is as its runtime wants it."""

import importlib
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
REQUIRED = {
    "version": {"DefaultLocale"},
    "defaultLocale": {"PackageLocale", "Publisher", "PackageName", "License", "ShortDescription"},
    "installer": {"Installers"},
}
"""By winget's schemas, version 1.10, of each kind of manifest, besides what all have."""


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(PACKAGING))
    module = importlib.import_module("bundle")
    monkeypatch.setattr(module, "BUILD", tmp_path)
    return module


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        (["desktop-file-validate"], "*.desktop"),
        (["appstreamcli", "validate", "--no-net"], "*.metainfo.xml"),
    ],
)
def test_desktops_and_their_stores_take_the_entries(command: list[str], pattern: str) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not here")
    (file,) = (PACKAGING / "linux").glob(pattern)
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout


def test_winget_finds_what_it_requires() -> None:
    manifests = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (PACKAGING / "windows").glob("*.yaml")]
    assert {manifest["ManifestType"] for manifest in manifests} == set(REQUIRED)
    for manifest in manifests:
        assert REQUIRED[manifest["ManifestType"]] <= set(manifest)
        assert (manifest["PackageIdentifier"], manifest["ManifestVersion"]) == ("McnetAvatar.McnetAvatar", "1.10.0")
    (installer,) = (manifest for manifest in manifests if manifest["ManifestType"] == "installer")
    programs = [file["RelativeFilePath"] for file in installer["NestedInstallerFiles"]]
    assert programs == [f"mcnet-avatar\\{name}.exe" for name in ("mcnet-avatar", "mcnet")]
    assert all({"Architecture", "InstallerUrl", "InstallerSha256"} <= set(one) for one in installer["Installers"])


def test_the_page_names_the_files_that_are_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    named = re.findall(
        r"`(mcnet-avatar[-_][^` ]+\.(?:deb|gz))`", (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    )
    assert named == [f"mcnet-avatar_{version}_amd64.deb", f"mcnet-avatar-{version}-linux-x86_64.tar.gz"]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump: apt-get install binutils")
def test_what_a_folders_programs_need_of_the_c_library_is_read_from_them(bundle: Any, tmp_path: Path) -> None:
    shutil.copy("/bin/sh", tmp_path)
    (tmp_path / "text").write_text("GLIBC_2.99", encoding="utf-8")
    major, minor = map(int, bundle.needed_libc(tmp_path).split("."))
    assert (2, 2) <= (major, minor) <= tuple(map(int, platform.libc_ver()[1].split(".")))


def test_an_app_image_is_its_runtime_and_then_the_files(bundle: Any, tmp_path: Path) -> None:
    if not shutil.which("mksquashfs"):
        pytest.skip("mksquashfs is not here")
    folder, runtime = tmp_path / "App.AppDir", tmp_path / "runtime-x86_64"
    folder.mkdir()
    (folder / "AppRun").write_text("started\n", encoding="utf-8")
    begin = b"\x7fELF\x02\x01\x01\x00AI\x02" + bytes(70_000)
    runtime.write_bytes(begin)
    image = bundle.app_image(folder, runtime)
    assert image.stat().st_mode & 0o111 == 0o111
    assert image.read_bytes()[: len(begin)] == begin
    command = ["unsquashfs", "-offset", str(len(begin)), "-cat", str(image), "AppRun"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout == "started\n"


@pytest.mark.parametrize("content", [None, b"\x7fELF, and no AppImage's"])
def test_another_program_is_no_runtime(bundle: Any, tmp_path: Path, content: bytes | None) -> None:
    runtime = tmp_path / "runtime"
    if content is not None:
        runtime.write_bytes(content)
    with pytest.raises(SystemExit, match=r"runtime is no program that mounts.*runtime-x86_64 of the latest release"):
        bundle.app_image(tmp_path, runtime)
