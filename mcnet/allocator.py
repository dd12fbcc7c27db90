"""Keeping the C library from giving freed memory back to the operating system between frames."""

import ctypes
import functools
import logging
import platform

logger = logging.getLogger(__name__)

# The numbers of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_KEPT_BYTES = 2**30
_GROWTH_BYTES = 2**26


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc reuse freed memory instead of unmapping it; for the whole process, once.

    A tensor over 128 KiB is otherwise mapped anew each time, and the page faults of touching it can cost more than the
    arithmetic, above all on virtual machines. Up to 1 GiB of freed memory stays with the process instead. The same as
    starting it with MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=1073741824 and MALLOC_TOP_PAD_=67108864.

    Returns:
        Whether it took effect; False where the C library is not glibc (macOS, Windows, musl).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT_BYTES), (_M_TOP_PAD, _GROWTH_BYTES))
    taken = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings]
    if not all(taken):
        logger.warning("glibc refused an allocator setting: frames may be slower than they could be")
    return all(taken)
