"""Builds what people install who never saw a terminal: `make bundle` calls it, step by step.

python packaging/bundle.py requirements    what the app needs without torch, for pip
python packaging/bundle.py tools           what builds the bundle, likewise
python packaging/bundle.py build           build/bundle/mcnet-avatar, and its archive and .deb beside it
python packaging/bundle.py smoke           start what was built: from another folder, with an empty home
"""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bundle"
FOLDER = BUILD / "mcnet-avatar"
LINUX = ROOT / "packaging" / "linux"
APP_ID = "io.github.mcnet_avatar.McnetAvatar"
ICON_SIDES_PX = (16, 24, 32, 48, 64, 128, 256, 512)
LARGEST_MB = 350
"""Of the archive; more is a mistake, such as a library that came along unseen."""
NOT_IN_THE_BUNDLE = ("altgraph", "openvino-telemetry", "packaging", "pip", "pyinstaller-hooks-contrib", "setuptools")
"""Installed where it is built. What starts the programs is PyInstaller's, so that this is in it."""
_WINDOW_S = 90
_APP_IMAGE_NEEDS = (
    "It takes mksquashfs (Debian's package squashfs-tools), and the file runtime-x86_64 of the latest release of "
    "AppImage's project type2-runtime on GitHub: make bundle APPIMAGE_RUNTIME=/path/to/runtime-x86_64"
)

_SOURCES = """\
Mcnet Avatar contains PyQt6, which is under the GNU General Public License, version 3; this bundle as a whole is
distributed under that licence (licenses/GPL-3.txt). Our own code by itself is under the MIT licence.

You may have the complete corresponding source of everything in here, for as long as this version is distributed and for
three years after that, from whoever gave it to you: ask the mcnet-avatar authors in the project's issues, or fetch it
beside the bundle. It is the project at version {version}, with the recipe of this bundle in its folder packaging/, and
the source releases that the following packages' authors publish on the Python Package Index under these versions; what
they contain of other projects is named in their licences, in the folder licenses/.

{packages}
"""


def project() -> dict[str, object]:
    """The table `project` of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def requirements() -> list[str]:
    """The app's own, with OpenVINO and without torch: pyproject.toml is the one place that says what the app needs."""
    own = project()["dependencies"]
    assert isinstance(own, list)
    return [*(line for line in own if not line.startswith("torch")), *extra("openvino")]


def extra(name: str) -> list[str]:
    """What an extra of pyproject.toml adds."""
    extras = project()["optional-dependencies"]
    assert isinstance(extras, Mapping)
    return list(extras[name])


def build() -> None:
    """Build the folder, the archive and, where its tool is, the .deb."""
    shutil.rmtree(BUILD, ignore_errors=True)
    draw_icons(ROOT / "build" / "icons")
    name_version(ROOT / "build" / "metadata")
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--distpath", str(BUILD), "--workpath", str(ROOT / "build" / "pyinstaller")]
    subprocess.run([*command, str(ROOT / "packaging" / "mcnet-avatar.spec")], check=True)  # noqa: S603
    whole = BUILD / "Mcnet Avatar.app" if sys.platform == "darwin" else FOLDER
    if sys.platform == "darwin":
        lay_licences(whole / "Contents" / "Resources")
        sign(whole)
    else:
        lay_licences(whole)
    print(f"{whole}: {size_mb(whole):.0f} MB")
    archive = pack(whole)
    packed_mb = archive.stat().st_size / 1e6
    print(f"{archive}: {packed_mb:.0f} MB")
    if packed_mb > LARGEST_MB:
        raise SystemExit(f"the archive is {packed_mb:.0f} MB large, expected at most {LARGEST_MB} MB")
    if not sys.platform.startswith("linux"):
        return
    laid = app_dir()
    runtime = os.environ.get("APPIMAGE_RUNTIME")
    if runtime and shutil.which("mksquashfs"):
        image = app_image(laid, Path(runtime))
        print(f"{image}: {image.stat().st_size / 1e6:.0f} MB")
    else:
        print(f"{laid}: no AppImage was made of it. {_APP_IMAGE_NEEDS}")
    if shutil.which("dpkg-deb"):
        package = debian_package()
        print(f"{package}: {package.stat().st_size / 1e6:.0f} MB")


def draw_icons(folder: Path) -> None:
    """The icon in all sizes, and as Windows and macOS want it, from the one drawing in assets/icons."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from PIL import Image
    from PyQt6.QtGui import QGuiApplication, QImage, QPainter
    from PyQt6.QtSvg import QSvgRenderer

    app = QGuiApplication([])
    drawing = QSvgRenderer(str(ROOT / "assets" / "icons" / "app.svg"))
    folder.mkdir(parents=True, exist_ok=True)
    for side_px in ICON_SIDES_PX:
        image = QImage(side_px, side_px, QImage.Format.Format_ARGB32)
        image.fill(0)
        painter = QPainter(image)
        drawing.render(painter)
        painter.end()
        if not image.save(str(folder / f"{side_px}.png")):
            raise SystemExit(f"cannot write {folder / f'{side_px}.png'}: is the disk full?")
    del app
    with Image.open(folder / f"{max(ICON_SIDES_PX)}.png") as largest:
        largest.save(folder / "mcnet-avatar.ico", sizes=[(side, side) for side in ICON_SIDES_PX if side <= 256])
        largest.save(folder / "mcnet-avatar.icns")


def name_version(folder: Path) -> None:
    """What `importlib.metadata` reads: the app is not installed where it is bundled, and knows its version by that."""
    version = project()["version"]
    information = folder / f"mcnet_avatar-{version}.dist-info"
    shutil.rmtree(folder, ignore_errors=True)
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: mcnet-avatar\nVersion: {version}\n", encoding="utf-8"
    )


def lay_licences(folder: Path) -> None:
    """Licence texts of all that is in the bundle, the offer of its sources, and the licence of the whole."""
    licences = folder / "licenses"
    packages = []
    for distribution in sorted(importlib.metadata.distributions(), key=lambda one: one.metadata["Name"].lower()):
        name = distribution.metadata["Name"]
        if name in NOT_IN_THE_BUNDLE:
            continue
        packages.append(f"{name} {distribution.version}")
        for file in distribution.files or ():
            is_text = any(word in file.name.upper() for word in ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS"))
            if is_text and "dist-info" in file.parts[0] and file.locate().is_file():
                target = licences / name / "_".join(file.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    gpl = next((licences / "PyQt6").glob("*LICENSE*"))
    if "GNU GENERAL PUBLIC LICENSE" not in gpl.read_text(encoding="utf-8").upper():
        raise SystemExit(f"{gpl}: expected the text of the GPL, under which PyQt6 is; get it and put it there")
    shutil.copyfile(gpl, licences / "GPL-3.txt")
    shutil.copyfile(ROOT / "LICENSE", licences / "mcnet-avatar.txt")
    offer = _SOURCES.format(version=project()["version"], packages="\n".join(packages))
    (folder / "SOURCES.txt").write_text(offer, encoding="utf-8")


def size_mb(folder: Path) -> float:
    """Of all files, each once."""
    files = {(stat.st_dev, stat.st_ino): stat.st_size for path in folder.rglob("*") if (stat := path.lstat())}
    return sum(files.values()) / 1e6


def pack(folder: Path) -> Path:
    """The archive that people download, as their system unpacks it by a double click."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    base = BUILD / f"mcnet-avatar-{project()['version']}-{system}-{platform.machine().lower()}"
    if sys.platform == "win32":
        return Path(shutil.make_archive(str(base), "zip", folder.parent, folder.name))
    path = base.with_name(f"{base.name}.zip" if sys.platform == "darwin" else f"{base.name}.tar.gz")
    if sys.platform == "darwin":  # keeps links and signatures, which Python's zipfile does not
        subprocess.run(["ditto", "-c", "-k", "--keepParent", str(folder), str(path)], check=True)  # noqa: S603, S607
        return path
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        archive.add(folder, folder.name)
    return path


def sign(app: Path) -> None:
    """Sign the app for macOS once all its files are there: by CODESIGN_IDENTITY, or as nobody's."""
    command = ["codesign", "--force", "--deep", "--sign", os.environ.get("CODESIGN_IDENTITY", "-")]
    command += ["--options", "runtime", "--entitlements", str(ROOT / "packaging" / "macos" / "entitlements.plist")]
    subprocess.run([*command, str(app)], check=True)  # noqa: S603


def lay_linux(root: Path, prefix: str) -> None:
    """Desktop entry, AppStream file and icons under `root`/`prefix`/share."""
    share = root / prefix / "share"
    for name, target in ((f"{APP_ID}.desktop", "applications"), (f"{APP_ID}.metainfo.xml", "metainfo")):
        (share / target).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LINUX / name, share / target / name)
    icons = share / "icons" / "hicolor"
    for side_px in ICON_SIDES_PX:
        target = icons / f"{side_px}x{side_px}" / "apps"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "build" / "icons" / f"{side_px}.png", target / f"{APP_ID}.png")
    (icons / "scalable" / "apps").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "assets" / "icons" / "app.svg", icons / "scalable" / "apps" / f"{APP_ID}.svg")


def app_dir() -> Path:
    """What an AppImage holds."""
    root = BUILD / "McnetAvatar.AppDir"
    shutil.copytree(FOLDER, root / "usr" / "lib" / "mcnet-avatar", symlinks=True)
    lay_linux(root, "usr")
    shutil.copyfile(LINUX / f"{APP_ID}.desktop", root / f"{APP_ID}.desktop")
    shutil.copyfile(ROOT / "build" / "icons" / "256.png", root / f"{APP_ID}.png")
    (root / ".DirIcon").symlink_to(f"{APP_ID}.png")
    start = root / "AppRun"
    start.write_text(
        '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/usr/lib/mcnet-avatar/mcnet-avatar" "$@"\n', encoding="utf-8"
    )
    start.chmod(0o755)
    return root


def app_image(folder: Path, runtime: Path) -> Path:
    """An AppImage (type 2) of `app_dir`: a program that mounts what stands after it, a file system of squashfs.

    Args:
        folder: with `AppRun` and a desktop entry.
        runtime: that program. The AppImage project gives it out; it is in no registry of packages.
    """
    begin = runtime.read_bytes() if runtime.is_file() else b""
    if begin[:4] != b"\x7fELF" or begin[8:11] != b"AI\x02":
        raise SystemExit(f"{runtime} is no program that mounts an AppImage of type 2. {_APP_IMAGE_NEEDS}")
    path = BUILD / f"mcnet-avatar-{project()['version']}-x86_64.AppImage"
    path.unlink(missing_ok=True)
    command = ["mksquashfs", str(folder), str(path), "-offset", str(len(begin)), "-comp", "zstd", "-all-root"]
    subprocess.run([*command, "-quiet", "-no-progress"], check=True)  # noqa: S603
    with path.open("r+b") as image:
        image.write(begin)
    path.chmod(0o755)
    return path


def debian_package() -> Path:
    """A .deb of the folder: /opt/mcnet-avatar, with the programs in /usr/bin."""
    version = project()["version"]
    root = BUILD / "deb"
    shutil.copytree(FOLDER, root / "opt" / "mcnet-avatar", symlinks=True)
    lay_linux(root, "usr")
    programs = root / "usr" / "bin"
    programs.mkdir(parents=True)
    for name in ("mcnet-avatar", "mcnet"):
        (programs / name).symlink_to(f"/opt/mcnet-avatar/{name}")
    control = (LINUX / "control").read_text(encoding="utf-8")
    filled = control.format(version=version, installed_kb=round(size_mb(root) * 1e3), libc=needed_libc(FOLDER))
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(filled, encoding="utf-8")
    path = BUILD / f"mcnet-avatar_{version}_amd64.deb"
    # Smaller than by gzip, packed and unpacked in a fifth of the time; level 15 took minutes more.
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", str(root), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    shutil.rmtree(root)
    return path


def needed_libc(folder: Path) -> str:
    """The oldest version of the C library, as "2.36", that has all that a folder's programs and libraries ask for."""
    files = [str(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and is_elf(path)]
    done = subprocess.run(["objdump", "-p", *files], capture_output=True, text=True, check=True, encoding="utf-8")  # noqa: S603, S607
    return max(re.findall(r"\bGLIBC_(2\.\d+)", done.stdout), key=lambda version: int(version.partition(".")[2]))


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a library of Linux."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def smoke() -> None:
    """Start the bundle as somebody does who just unpacked it: nothing of ours in reach, and nothing of theirs lost."""
    clip = next((FOLDER / "_internal" / "assets" / "driving").glob("*.mpg"))
    if lost := sorted(path.name for path in (FOLDER / "_internal").glob("torch*")):
        raise SystemExit(f"the bundle holds {', '.join(lost)}, expected no torch")
    with tempfile.TemporaryDirectory() as temporary:
        home, elsewhere = Path(temporary, "home"), Path(temporary, "elsewhere")
        home.mkdir()
        elsewhere.mkdir()
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        said = run_program(["mcnet", "--version"], environment, elsewhere)
        if said != f"mcnet {project()['version']}":
            raise SystemExit(f"mcnet --version: got {said!r}, expected the version of pyproject.toml")
        for start in (BUILD / "McnetAvatar.AppDir" / "AppRun", *BUILD.glob("*.AppImage")):
            said = run_program([str(start), "--version"], {**environment, "APPIMAGE_EXTRACT_AND_RUN": "1"}, elsewhere)
            if said != f"mcnet-avatar {project()['version']}":
                raise SystemExit(f"{start.name} --version: got {said!r}, expected the version of pyproject.toml")
        began_s = time.perf_counter()
        video = elsewhere / "live.mp4"
        run_program(["mcnet-avatar", "--headless", "--camera", str(clip), "--sink", f"file:{video}", "--frames", "50"],
                    environment, elsewhere)  # fmt: skip
        print(f"live, without a window: {video.stat().st_size} bytes in {time.perf_counter() - began_s:.1f} s")
        still = elsewhere / "animated.mp4"
        run_program(["mcnet", "animate", "--source", "woman_1", "--driving", str(clip), "--output", str(still),
                     "--max-frames", "25"], environment, elsewhere)  # fmt: skip
        print(f"animated from file to file: {still.stat().st_size} bytes")
        if min(video.stat().st_size, still.stat().st_size) < 10_000:
            raise SystemExit("the videos are too small to show anything")
        said = run_program(["mcnet", "credentials", str(video), str(still)], environment, elsewhere)
        if said.count("says that it is generated by AI") != 2 or said.count("unchanged since") != 2:
            raise SystemExit(f"got {said!r}, expected Content Credentials in both videos")
        print("both say, signed, that AI generated them")
        try_window(clip, environment, home, elsewhere)


def run_program(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    """One of the bundle's programs, to its end; returns what it printed."""
    done = subprocess.run(  # noqa: S603
        [str(FOLDER / command[0]), *command[1:]],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    if "OpenCV computes it instead" in done.stderr:  # it works, and is slower than what people were told
        raise SystemExit(f"{' '.join(command)}: OpenVINO lacks what reads the networks of faces: {done.stderr}")
    return done.stdout.strip()


def try_window(clip: Path, environment: Mapping[str, str], home: Path, folder: Path) -> None:
    """Open the window, wait until the model animates in it and sound answers, take a picture, and close it politely."""
    display = {"QT_QPA_PLATFORM": "offscreen"}
    screen = None
    if shutil.which("Xvfb"):
        display = {"DISPLAY": ":87"}
        screen = subprocess.Popen(["Xvfb", ":87", "-screen", "0", "1400x900x24"], stderr=subprocess.DEVNULL)  # noqa: S607
        time.sleep(2)
    # Portraits that were animated before are kept; here one is, once the window's engine has encoded it.
    shutil.rmtree(home / ".cache" / "mcnet-avatar", ignore_errors=True)
    settings = home / ".config" / "mcnet-avatar" / "settings.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("record_sound = true\n[control]\nslate_key = 'Pause'\n", encoding="utf-8")
    log = folder / "window.log"
    with log.open("w") as said:
        program = subprocess.Popen(  # noqa: S603
            [str(FOLDER / "mcnet-avatar"), "--verbose", "--camera", str(clip), "--control", "0"],
            env={**environment, **display},
            cwd=folder,
            stderr=said,
        )
    try:
        end_s = time.monotonic() + _WINDOW_S
        sources = home / ".cache" / "mcnet-avatar" / "sources"
        while not (list(sources.glob("*.safetensors")) and (heard := microphone_said(log))):
            if program.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(
                    f"the window animates nothing, or its microphone says nothing: {log.read_text(encoding='utf-8')}"
                )
            time.sleep(0.2)
        if not any(good in heard for good in ("hears ", "there is no microphone", "libpulse")):
            raise SystemExit(f"got {heard!r} of the microphone, expected one, or that this machine has none")
        print(f"microphone: {heard}")
        run_program(["mcnet-avatar", "ctl", "slate"], environment, folder)
        print("control from outside: slate")
        if screen is not None and "slate key: Pause" not in log.read_text(encoding="utf-8"):
            raise SystemExit(f"the window hears no key for the slate: {log.read_text(encoding='utf-8')}")
        time.sleep(5)
        if screen is not None:
            take_picture(display, BUILD / "window.png")
            print(f"window: {BUILD / 'window.png'}")
        program.terminate()
        if program.wait(timeout=30) not in (0, 130, 143, -15):
            raise SystemExit(f"the window ended with {program.returncode}: {log.read_text(encoding='utf-8')}")
    finally:
        program.kill()
        if screen is not None:
            screen.terminate()


def microphone_said(log: Path) -> str:
    """Whom the window hears, or why nobody; "" before it is known."""
    return next(
        (
            line.partition("microphone: ")[2]
            for line in log.read_text(encoding="utf-8").splitlines()
            if "microphone: " in line
        ),
        "",
    )


def take_picture(display: Mapping[str, str], path: Path) -> None:
    """Of the whole screen, by a process of this environment."""
    code = "import sys; from PyQt6.QtGui import QGuiApplication as A; a = A([])"
    code += f"; sys.exit(not a.primaryScreen().grabWindow(0).save({str(path)!r}))"
    environment = {name: value for name, value in os.environ.items() if name != "QT_QPA_PLATFORM"}
    subprocess.run([sys.executable, "-c", code], env={**environment, **display}, check=True)  # noqa: S603


def main() -> None:
    """The step that the command line names."""
    steps = {
        "requirements": lambda: print("\n".join(requirements())),
        "tools": lambda: print("\n".join(extra("bundle"))),
        "build": build,
        "smoke": smoke,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        raise SystemExit(f"got {' '.join(sys.argv[1:]) or 'nothing'}, expected one of: {', '.join(steps)}")
    steps[sys.argv[1]]()


if __name__ == "__main__":
    main()
