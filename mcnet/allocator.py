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

    A large tensor is otherwise mapped anew each time, and the page faults of touching it can cost more than the
    arithmetic, above all on virtual machines. glibc raises its own threshold up to 32 MiB as blocks are freed, so a
    small model gains little (measured: 1.07x) and a large one more (1.24x; see `mcnet bench`).
    The price: freed memory below the highest block in use stays with the process, and so does up to 1 GiB above it.
    Threads other than the first gain for blocks below 64 MiB, the size of their heaps. The same as starting the process
    with MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=1073741824 and MALLOC_TOP_PAD_=67108864.

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


def give_back_freed_memory() -> None:
    """Return freed memory to the operating system, also where `keep_freed_memory` keeps it: after a rare large need.

    Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
