"""A small virtual machine: Debian's kernel with a webcam and loopback cameras, on this system's own files.

QEMU emulates the processor in software, so that it works where no kernel module can be loaded and no processor
virtualised. The guest sees the host's root read-only, with a layer of memory on top; what it writes into one folder,
the host gets.
"""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_MODULES = {
    "virtio_pci": "",
    "9pnet_virtio": "",
    "9p": "",
    "overlay": "",
    # As users load it, with a second device that stands in for a webcam.
    "v4l2loopback": 'video_nr=10,11 card_label="Avatar","Face" exclusive_caps=1,1',
    "vivid": "n_devs=1 node_types=0x1 input_types=0x0 vid_cap_nr=0",
}
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /host /layer /root
mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev
{insert_modules}
share="-t 9p -o trans=virtio,version=9p2000.L,msize=524288"
mount $share,ro,cache=loose host /host && mount -t tmpfs none /layer && mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work none /root
for folder in proc sys dev; do mount -o bind /$folder /root/$folder; done
mount $share results /root/mnt
echo "guest: up"
chroot /root /bin/sh /mnt/command
echo "guest: exit $?"
poweroff -f
"""


class CannotEmulateError(Exception):
    """This system has no QEMU or no kernel for it, and cannot get them."""


class Machine:
    """The guest. `folder` keeps what was built for it, so that later calls need no network.

    Raises:
        CannotEmulateError: what it needs cannot be installed here; the message says why.
    """

    def __init__(self, folder: Path) -> None:
        self._kernel, self._initrd, stamp = folder / "vmlinuz", folder / "initrd", folder / "stamp"
        recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        if not shutil.which("qemu-system-x86_64"):
            _install("qemu-system-x86")
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != recipe:
            folder.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _build(Path(scratch), self._kernel, self._initrd)
            stamp.write_text(recipe, encoding="utf-8")

    def run(self, command: list[str], shared: Path, *, limit_s: float, hear: Callable[[str], None]) -> int:
        """Boot, run a command as root in the guest, and power off.

        Args:
            command: its paths are the host's.
            shared: a folder of the host that the guest sees as /mnt and may write to.
            limit_s: the guest is stopped after so many seconds.
            hear: gets each line of the guest's serial console, with the seconds since power-on.

        Returns:
            The command's exit status; -1 when the guest did not come so far.
        """
        (shared / "command").write_text(f"exec {shlex.join(command)}\n", encoding="utf-8")
        qemu = [
            *("timeout", str(limit_s), "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"),
            # Emulated AVX is slower than emulated SSE. With a second processor the two wait for each other whenever the
            # host does not run both at once.
            *("-cpu", "Nehalem", "-smp", "1", "-m", "4096"),
            *("-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(self._kernel), "-initrd", str(self._initrd)),
            *("-append", "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init"),
            *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
            *("-virtfs", f"local,path={shared},mount_tag=results,security_model=none"),
        ]
        status, began_s = -1, time.monotonic()
        with subprocess.Popen(
            qemu,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            encoding="utf-8",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                hear(f"{time.monotonic() - began_s:6.1f} {line.rstrip()}")
                if said := re.search(r"guest: exit (\d+)", line):
                    status = int(said[1])
        return status


def _build(scratch: Path, kernel: Path, initrd: Path) -> None:
    """Fetch Debian's kernel, build its module for loopback cameras, and pack what boots."""
    _apt("update", "-qq")
    image = _dependency("linux-image-amd64", "linux-image-")
    headers = image.replace("image", "headers")
    _install(_dependency(headers, "linux-compiler-"), "make")
    needed = [image, headers, _dependency(headers, "linux-headers-"), _dependency(headers, "linux-kbuild-")]
    _apt("download", "-qq", *needed, "v4l2loopback-dkms", "busybox-static", folder=scratch)
    root = scratch / "root"
    for package in scratch.glob("*.deb"):
        _call("dpkg", "-x", package, root)
    tree, (source,) = root / "usr/src" / headers, (root / "usr/src").glob("v4l2loopback-*")
    makefile = tree / "Makefile"
    makefile.write_text(makefile.read_text(encoding="utf-8").replace("/usr/src/", f"{root}/usr/src/"), encoding="utf-8")
    _call("make", "-s", "-C", tree, f"M={source}", "modules")
    busybox = root / "bin/busybox"
    modules = {path.stem.replace("-", "_"): path for path in root.glob("lib/modules/**/*.ko")}
    modules["v4l2loopback"] = source / "v4l2loopback.ko"
    _pack(scratch / "boot", busybox, modules, initrd)
    shutil.copy(next(root.glob("boot/vmlinuz-*")), kernel)


def _pack(boot: Path, busybox: Path, modules: dict[str, Path], initrd: Path) -> None:
    (boot / "bin").mkdir(parents=True)
    shutil.copy(busybox, boot / "bin")
    lines = []
    for name in _in_order(list(_MODULES), modules):
        shutil.copy(modules[name], boot / f"{name}.ko")
        lines.append(f"insmod /{name}.ko {_MODULES.get(name, '')}")
    init = boot / "init"
    init.write_text(_INIT.format(insert_modules="\n".join(lines)), encoding="utf-8")
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(boot)) for path in sorted(boot.rglob("*")))
    archive = subprocess.run(
        [busybox, "cpio", "-o", "-H", "newc"], cwd=boot, input=names.encode(), capture_output=True, check=True
    )
    initrd.write_bytes(archive.stdout)


def _in_order(wanted: list[str], modules: dict[str, Path]) -> list[str]:
    """The modules and all that they need, each after what it needs."""
    order: list[str] = []
    for name in wanted:
        said = re.search(rb"\0depends=([^\0]*)\0", modules[name].read_bytes())
        needed = said[1].decode().replace("-", "_").split(",") if said and said[1] else []
        order += [module for module in [*_in_order(needed, modules), name] if module not in order]
    return order


def _dependency(package: str, prefix: str) -> str:
    """The first package of that prefix that a package depends on."""
    said = _apt_tool("apt-cache", "depends", package)
    found = re.search(rf"Depends: ({re.escape(prefix)}\S+)", said)
    if found is None:
        raise CannotEmulateError(f"apt knows no {prefix}* for {package}: it offers the packages of another system")
    return found[1]


def _install(*packages: str) -> None:
    if os.geteuid() != 0:
        installed = subprocess.run(["dpkg", "-s", *packages], capture_output=True, check=False).returncode == 0
        if installed:
            return
        raise CannotEmulateError(f"not root, so not installed: {' '.join(packages)}; install them, or run as root")
    _apt("install", "-y", "-qq", "--no-install-recommends", *packages)


def _apt(*words: str, folder: Path | None = None) -> None:
    if words[0] == "update" and os.geteuid() != 0:
        return
    _apt_tool("apt-get", "-o", "APT::Sandbox::User=root", *words, folder=folder)


def _apt_tool(*words: str, folder: Path | None = None) -> str:
    if platform.machine() != "x86_64" or not shutil.which(words[0]):
        raise CannotEmulateError(f"got {platform.system()} on {platform.machine()}, expected Debian on x86_64")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise CannotEmulateError(f"{' '.join(words)} failed:\n{done.stderr.strip()}")
    return done.stdout


def _call(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")
