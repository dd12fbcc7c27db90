"""How the C library's allocator treats threads that come and go, and memory that is freed between frames."""

import ctypes
import functools
import logging
import platform

logger = logging.getLogger(__name__)

# The numbers of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_KEPT_BYTES = 2**30
_GROWTH_BYTES = 2**26
_ARENAS = 2


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
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT_BYTES), (_M_TOP_PAD, _GROWTH_BYTES))


@functools.cache
def share_arenas() -> bool:
    """Let all threads that are still to come take their memory from two arenas of glibc; for the whole process, once.

    Else glibc gives new threads arenas of their own, up to eight per core, and what was freed in one is of no use to
    another. Every recording starts some ten threads (ours, and the encoder's), so that the process grew by 310 MB over
    thirty recordings on two cores, and by 19 MB with this. The same as starting it with MALLOC_ARENA_MAX=2.

    Returns:
        Whether it took effect; False where the C library is not glibc (macOS, Windows, musl).
    """
    return _set((_M_ARENA_MAX, _ARENAS))


def give_back_freed_memory() -> None:
    """Return freed memory to the operating system, also where `keep_freed_memory` keeps it: after a rare large need.

    Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _set(*settings: tuple[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    taken = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings]
    if not all(taken):
        logger.warning("glibc refused an allocator setting: frames may be slower, or memory larger, than they could be")
    return all(taken)
