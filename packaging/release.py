"""Builds a release into dist/ and checks it: `make release` calls it, after the site and the bundle.

python packaging/release.py [--without-bundle]

What is in dist/ then: the source (everything that git tracks, so that tests and documentation can be made of it), the
wheel, the bundle's archive and .deb, the site, and the SHA-256 sums of all. The wheel is built from the source archive,
installed where neither the checkout nor torch is, and has to animate there.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from bundle import BUILD, FOLDER, ROOT, needed_libc, project, requirements
from packaging.metadata import Metadata

DIST = ROOT / "dist"
SITE = ROOT / "build" / "site"
PACKAGES = ("app/", "assets/", "mcnet/", "training/")
SUMS = "SHA256SUMS"
OLDEST_LIBC = "2.36"
"""With which docs/install.md says that the bundle runs: that of Debian 12, where it is built."""
_CLIP = "assets/driving/grid_bbaf2n.mpg"


def main() -> None:
    """Build, check, and say what there is."""
    parser = argparse.ArgumentParser(prog="python packaging/release.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--without-bundle", action="store_true", help="leave the bundle out, which takes minutes")
    options = parser.parse_args()
    refuse_changes()
    shutil.rmtree(DIST, ignore_errors=True)
    for old in ("build/lib", "mcnet_avatar.egg-info"):  # what an earlier version left there would come along
        shutil.rmtree(ROOT / old, ignore_errors=True)
    run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)], ROOT)
    version = str(project()["version"])
    source, wheel = DIST / f"mcnet_avatar-{version}.tar.gz", only(DIST.glob("*.whl"))
    check_source(source)
    check_wheel(wheel, version)
    try_wheel(wheel, version)
    pack_site(DIST / f"mcnet-avatar-{version}-docs.tar.gz")
    if not options.without_bundle:
        check_libc(needed_libc(FOLDER))
        for pattern in (f"*-{version}-*.tar.gz", f"*_{version}_*.deb", f"*-{version}-*.AppImage"):
            for path in BUILD.glob(pattern):
                shutil.copyfile(path, DIST / path.name)
        only(DIST.glob(f"*-{version}-linux-*.tar.gz"))
    for path, digest in sums(DIST).items():
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.name}  {digest[:12]}")
    print(f"{DIST}: checked; `cd dist && sha256sum -c {SUMS}` compares the sums")


def refuse_changes() -> None:
    """A release is what is committed."""
    changed = run(["git", "status", "--porcelain"], ROOT)
    if changed:
        raise SystemExit(f"there are changes that are not committed, expected none; commit them first:\n{changed}")


def tracked() -> set[str]:
    """Every file that git tracks, relative to the root."""
    return set(run(["git", "ls-files"], ROOT).splitlines())


def check_source(archive: Path) -> None:
    """The source archive holds what git tracks, and what setuptools adds."""
    with tarfile.open(archive) as tar:
        found = {name.partition("/")[2] for name in (member.name for member in tar if member.isfile())}
    made = {"PKG-INFO", "setup.cfg", *(name for name in found if ".egg-info/" in name)}
    if lost := sorted(tracked() - found):
        raise SystemExit(f"{archive.name} lacks {', '.join(lost[:10])}: name it in MANIFEST.in")
    if more := sorted(found - made - tracked()):
        raise SystemExit(f"{archive.name} holds {', '.join(more[:10])}, which git does not track")


def check_wheel(wheel: Path, version: str) -> None:
    """The wheel holds our packages whole and nothing else, and its metadata are what an index takes."""
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
        information = f"mcnet_avatar-{version}.dist-info/"
        metadata = Metadata.from_email(archive.read(f"{information}METADATA"), validate=True)
    ours = {name for name in tracked() if name.startswith(PACKAGES)}
    if lost := sorted(ours - found):
        raise SystemExit(f"{wheel.name} lacks {', '.join(lost[:10])}: name it under package-data in pyproject.toml")
    if more := sorted(name for name in found - ours if not name.startswith(information)):
        raise SystemExit(f"{wheel.name} holds {', '.join(more[:10])}, which belongs to none of our packages")
    if str(metadata.version) != version or not metadata.description or not metadata.license_expression:
        raise SystemExit(
            f"{wheel.name}: got version {metadata.version}, expected {version}, a description and a licence"
        )
    for licence in metadata.license_files or ():
        if f"{information}licenses/{licence}" not in found:
            raise SystemExit(f"{wheel.name} lacks the text of {licence}")


def try_wheel(wheel: Path, version: str) -> None:
    """Install it where the checkout is not, without torch, and animate a few frames by it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run([sys.executable, "-m", "venv", str(folder / "environment")], folder)
        programs = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *requirements()], folder)
        run([*pip, "--no-deps", str(wheel)], folder)
        for program in ("mcnet", "mcnet-avatar"):
            said = run([str(programs / program), "--version"], folder)
            if said != f"{program} {version}":
                raise SystemExit(f"{program} --version: got {said!r}, expected {version}")
        place = run([str(programs / "python"), "-c", "import assets; print(assets.ROOT)"], folder)
        if not Path(place).is_relative_to(folder):
            raise SystemExit(f"the wheel's assets lie in {place}, expected them in {folder}")
        clip = Path(place).parent / _CLIP
        animate = [
            "animate",
            "--source",
            "woman_1",
            "--driving",
            str(clip),
            "--output",
            "out.mp4",
            "--max-frames",
            "10",
        ]
        run([str(programs / "mcnet"), *animate], folder)
        if (folder / "out.mp4").stat().st_size < 5_000:
            raise SystemExit("the wheel animated, but its video is too small to show anything")


def check_libc(needed: str) -> None:
    """The bundle runs where the users are told that it does, which it does not if it is built on a newer system."""
    if tuple(map(int, needed.split("."))) > tuple(map(int, OLDEST_LIBC.split("."))):
        raise SystemExit(
            f"the bundle needs glibc {needed}, expected {OLDEST_LIBC} at most: build it on an older system, or change "
            "OLDEST_LIBC and the systems that docs/install.md names"
        )


def pack_site(archive: Path) -> None:
    """The documentation, as one folder."""
    if not (SITE / "index.html").is_file():
        raise SystemExit(f"there is no site in {SITE}: run `make site` first")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(SITE, archive.name.removesuffix(".tar.gz"))


def sums(folder: Path) -> dict[Path, str]:
    """The SHA-256 of every file, also written beside them as `sha256sum -c` reads it."""
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / SUMS).write_text("".join(f"{digest}  {path.name}\n" for path, digest in found.items()), encoding="utf-8")
    return found


def only(paths: Iterable[Path]) -> Path:
    """The one file that there has to be."""
    found = list(paths)
    if len(found) != 1:
        raise SystemExit(f"got {', '.join(path.name for path in found) or 'no file'}, expected one")
    return found[0]


def run(command: Sequence[str], folder: Path) -> str:
    """A command, to its end, without the checkout on Python's path; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
