"""What Linux knows about its video devices, without opening a stream: names, abilities, and who holds them."""

import contextlib
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mcnet.phrases import phrase

LOOPBACK_DRIVER = "v4l2 loopback"
"""What the v4l2loopback module answers to VIDIOC_QUERYCAP, spelt so."""

_VIDIOC_QUERYCAP = 0x80685600
_VIDIOC_STREAMON = 0x40045612
_OUTPUT_STREAM = 2  # V4L2_BUF_TYPE_VIDEO_OUTPUT
_CAPABILITY = struct.Struct("16s32s32sIII12x")  # struct v4l2_capability of linux/videodev2.h
_CAPTURE, _CAPTURE_MPLANE = 0x1, 0x1000
_OUTPUT = 0x2
_HAS_DEVICE_CAPS = 0x80000000


class Capability(NamedTuple):
    """An answer to VIDIOC_QUERYCAP. `flags` are those of this very node, where the driver tells them apart."""

    driver: str
    card: str
    flags: int


class Holder(NamedTuple):
    """A process that has a device open. `only_writes`: as pyvirtualcam does, and no reader."""

    pid: int
    name: str
    only_writes: bool


def query_capability(device: Path) -> Capability:
    """Ask a driver what a device node can do.

    Raises:
        OSError: the node cannot be opened, or is no video device.
    """
    import fcntl  # Linux only, as this whole file; but it must be importable elsewhere

    handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        answer = fcntl.ioctl(handle, _VIDIOC_QUERYCAP, bytes(_CAPABILITY.size))
    finally:
        os.close(handle)
    driver, card, _, _, of_all_nodes, of_this_node = _CAPABILITY.unpack(answer)
    flags = of_this_node if of_all_nodes & _HAS_DEVICE_CAPS else of_all_nodes
    return Capability(_text(driver), _text(card), flags)


def free_loopback(device: Path) -> None:
    """Make a stuck loopback device writable again.

    v4l2loopback 0.12, as Debian 12 and Ubuntu 22.04 have it, waits for the end of a stream before it offers itself to
    writers again, but one who writes without a stream, as pyvirtualcam does, never ends one. So we end one.

    Raises:
        OSError: the device cannot be opened.
    """
    handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        _begin_output_stream(handle)
    finally:
        os.close(handle)


def end_as_stream(device: Path) -> None:
    """Before our writer's handle is closed: have the device offer itself again afterwards; see `free_loopback`.

    It matters when a call program keeps reading: then the device is not stuck, but looks as if it were fed by another.
    Newer modules, which do without this, have a `state` in /sys.
    """
    devices = VideoDevices()
    number = devices.number(device)
    if number is None or devices.in_root(Path(f"/sys/class/video4linux/video{number}/state")).exists():
        return
    us = devices.in_root(Path(f"/proc/{os.getpid()}"))
    for handle in _handles(us, devices.in_root(device).resolve()):
        if _is_write_only(us, handle):
            _begin_output_stream(int(handle))


def _begin_output_stream(handle: int) -> None:
    import fcntl

    # What the driver makes of it does not matter: it has noted by then that there was a stream.
    with contextlib.suppress(OSError):
        fcntl.ioctl(handle, _VIDIOC_STREAMON, struct.pack("i", _OUTPUT_STREAM))


def _text(padded: bytes) -> str:
    return padded.split(b"\0", 1)[0].decode("utf-8", "replace")


@dataclass(frozen=True)
class VideoNode:
    """A video device.

    Attributes:
        device: `/dev/videoN`.
        name: as its maker calls it.
        flags: of VIDIOC_QUERYCAP, or None where the node could not be asked.
        error: why not, an errno; 0 where it could be.
        is_loopback: whether v4l2loopback made it.
        exclusive: for a loopback: whether it was made with exclusive_caps=1, as Chrome needs it.
        fed: for a loopback: whether a program writes to it right now.
    """

    device: Path
    name: str
    flags: int | None
    error: int
    is_loopback: bool
    exclusive: bool
    fed: bool

    @property
    def can_capture(self) -> bool:
        """Whether programs can read pictures from it."""
        return bool((self.flags or 0) & (_CAPTURE | _CAPTURE_MPLANE))

    @property
    def can_output(self) -> bool:
        """Whether programs can write pictures to it."""
        return bool((self.flags or 0) & _OUTPUT)

    @property
    def stuck(self) -> bool:
        """Whether it is a loopback that offers nothing any more; see `free_loopback`."""
        return self.is_loopback and self.flags is not None and not (self.can_capture or self.can_output)

    @property
    def denied(self) -> bool:
        """Whether it is there but may not be opened."""
        return self.error in (errno.EACCES, errno.EPERM)


class VideoDevices:
    """The video devices of a Linux machine.

    Args:
        root: where the file system starts; tests lay out another.
        query: asks a device node.
    """

    def __init__(self, root: Path = Path("/"), query: Callable[[Path], Capability] = query_capability) -> None:
        self.root = root
        self._query = query

    def nodes(self) -> list[VideoNode]:
        """All of them, by number."""
        nodes = []
        loopbacks = 0
        for entry in self._entries():
            node = self._node(int(entry.name[5:]), entry, loopbacks)
            loopbacks += node.is_loopback
            nodes.append(node)
        return nodes

    def node(self, device: Path) -> VideoNode | None:
        """The one at a path such as `/dev/video0` or a link to it; None where there is none."""
        number = self.number(device)
        return next((node for node in self.nodes() if self.number(node.device) == number), None)

    def number(self, device: Path) -> int | None:
        """N of `/dev/videoN`, also of a link to it; None for anything else."""
        name = self.in_root(device).resolve().name
        return int(name[5:]) if name.startswith("video") and name[5:].isdecimal() else None

    def stable_link(self, device: Path) -> Path | None:
        """The name under /dev/v4l/by-id that stays when cameras are plugged in otherwise, or None."""
        folder = self.in_root(Path("/dev/v4l/by-id"))
        number = self.number(device)
        links = sorted(folder.iterdir()) if folder.is_dir() else []
        link = next((link for link in links if self.number(Path("/dev/v4l/by-id") / link.name) == number), None)
        return None if link is None else Path("/dev/v4l/by-id") / link.name

    def holders(self, device: Path) -> tuple[Holder, ...]:
        """Who has it open. Other users' processes cannot be seen into and are missing here."""
        wanted = self.in_root(device).resolve()
        processes = (entry for entry in self.in_root(Path("/proc")).iterdir() if entry.name.isdecimal())
        found = []
        for process in sorted(processes, key=lambda process: int(process.name)):
            handles = _handles(process, wanted)
            if handles:
                name = _read_line(process / "comm") or phrase("process {name}", name=process.name)
                only_writes = all(_is_write_only(process, handle) for handle in handles)
                found.append(Holder(int(process.name), name, only_writes))
        return tuple(found)

    def fed_by_us(self, device: Path) -> bool:
        """Whether this very process writes to it."""
        return any(holder.pid == os.getpid() and holder.only_writes for holder in self.holders(device))

    def in_root(self, path: Path) -> Path:
        """Where an absolute path lies in this file system."""
        return self.root / path.relative_to("/")

    def _entries(self) -> list[Path]:
        folder = self.in_root(Path("/sys/class/video4linux"))
        entries = folder.iterdir() if folder.is_dir() else iter(())
        named = (entry for entry in entries if entry.name.startswith("video") and entry.name[5:].isdecimal())
        return sorted(named, key=lambda entry: int(entry.name[5:]))

    def _node(self, number: int, entry: Path, loopbacks_before: int) -> VideoNode:
        device = Path(f"/dev/video{number}")
        capability, error = None, 0
        try:
            capability = self._query(self.in_root(device))
        except OSError as failure:
            error = failure.errno or errno.EIO
        name = _read_line(entry / "name") or (capability.card if capability else "") or device.name
        flags = None if capability is None else capability.flags
        # `max_openers` is an attribute of v4l2loopback alone, and can be seen without any permission.
        loopback = (entry / "max_openers").exists() if capability is None else capability.driver == LOOPBACK_DRIVER
        if not loopback:
            return VideoNode(device, name, flags, error, is_loopback=False, exclusive=False, fed=False)
        exclusive = self._exclusive(loopbacks_before)
        if exclusive and flags is not None:
            fed = bool(flags & _CAPTURE) and not flags & _OUTPUT
        elif (entry / "state").exists():
            fed = _read_line(entry / "state") == "capture"
        else:  # module 0.12 has no state, and tells the format only while somebody writes or reads
            fed = bool(_read_line(entry / "format"))
        return VideoNode(device, name, flags, error, is_loopback=True, exclusive=exclusive, fed=fed)

    def _exclusive(self, index: int) -> bool:
        """What the module was told for its device of that index; devices that were added later are taken to be so."""
        told = _read_line(self.in_root(Path("/sys/module/v4l2loopback/parameters/exclusive_caps"))).split(",")
        return index >= len(told) or told[index] != "N"


def _handles(process: Path, device: Path) -> list[str]:
    try:
        return [handle.name for handle in (process / "fd").iterdir() if _leads_to(handle, device)]
    except OSError:  # another user's process, or one that has just ended
        return []


def _leads_to(handle: Path, device: Path) -> bool:
    try:
        return handle.readlink() == device
    except OSError:
        return False


def _is_write_only(process: Path, handle: str) -> bool:
    """The access mode that a file was opened with; see proc(5)."""
    try:
        lines = (process / "fdinfo" / handle).read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE == os.O_WRONLY


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""
