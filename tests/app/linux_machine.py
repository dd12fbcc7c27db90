"""A Linux machine laid out in a folder: /sys, /dev and /proc as far as video devices go."""

import errno
from pathlib import Path

from app.pipeline.v4l2 import LOOPBACK_DRIVER, Capability, VideoDevices

CAPTURE, OUTPUT, METADATA = 0x1, 0x2, 0x00800000


class LinuxMachine:
    """Devices are added one by one; `devices` looks at them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._answers: dict[Path, Capability | int] = {}
        for folder in ("sys/class/video4linux", "dev", "proc", "etc", "lib/modules/6.1.0"):
            (root / folder).mkdir(parents=True)

    @property
    def devices(self) -> VideoDevices:
        return VideoDevices(self.root, self._query)

    def add(
        self, number: int, name: str, flags: int = CAPTURE, *, driver: str = "uvcvideo", error: int = 0
    ) -> "LinuxMachine":
        """A device node; `error` is what opening it fails with."""
        entry = self.root / f"sys/class/video4linux/video{number}"
        entry.mkdir()
        (entry / "name").write_text(name + "\n", encoding="utf-8")
        device = self.root / f"dev/video{number}"
        device.touch()
        self._answers[device] = error or Capability(driver, name, flags)
        return self

    def add_loopback(
        self,
        number: int,
        name: str = "avatar",
        *,
        exclusive: bool = True,
        fed: bool = False,
        flags: int | None = None,
        error: int = 0,
    ) -> "LinuxMachine":
        """A device of v4l2loopback, and the module. `flags` says otherwise than follows from the rest."""
        if flags is None:
            flags = (CAPTURE if fed else OUTPUT) if exclusive else CAPTURE | OUTPUT
        self.add(number, name, flags, driver=LOOPBACK_DRIVER, error=error)
        entry = self.root / f"sys/class/video4linux/video{number}"
        (entry / "max_openers").write_text("10\n", encoding="utf-8")
        (entry / "state").write_text("capture\n" if fed else "output\n", encoding="utf-8")
        return self.load_module(exclusive=exclusive)

    def load_module(self, *, exclusive: bool = True) -> "LinuxMachine":
        parameters = self.root / "sys/module/v4l2loopback/parameters"
        parameters.mkdir(parents=True, exist_ok=True)
        (parameters / "exclusive_caps").write_text(",".join(["Y" if exclusive else "N"] * 8) + "\n", encoding="utf-8")
        return self

    def install_module(self) -> "LinuxMachine":
        (self.root / "lib/modules/6.1.0/modules.dep").write_text(
            "updates/dkms/v4l2loopback.ko.xz: kernel/videodev.ko\n", encoding="utf-8"
        )
        return self

    def add_process(self, pid: int, name: str, number: int, *, only_writes: bool = False) -> "LinuxMachine":
        """A process that has a device open."""
        handles = self.root / f"proc/{pid}/fd"
        handles.mkdir(parents=True)
        (handles.parent / "comm").write_text(name + "\n", encoding="utf-8")
        (handles.parent / "fdinfo").mkdir()
        (handles.parent / "fdinfo/7").write_text(f"pos:\t0\nflags:\t01000{1 if only_writes else 2}\n", encoding="utf-8")
        (handles / "7").symlink_to(self.root / f"dev/video{number}")
        return self

    def link(self, name: str, number: int) -> "LinuxMachine":
        """A name under /dev/v4l/by-id."""
        folder = self.root / "dev/v4l/by-id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(f"../../video{number}")
        return self

    def _query(self, device: Path) -> Capability:
        answer = self._answers.get(device.resolve(), errno.ENOENT)
        if isinstance(answer, int):
            raise OSError(answer, "as told")
        return answer
