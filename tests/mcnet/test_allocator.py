"""The allocator settings do what they are for: freed memory is not mapped anew, and threads share arenas."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from mcnet.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
libc = ctypes.CDLL(None)
def use_and_free():
    block = ctypes.c_void_p()
    assert libc.posix_memalign(ctypes.byref(block), ctypes.c_size_t(64), ctypes.c_size_t(2**25)) == 0  # as torch asks
    libc.memset(block, 1, ctypes.c_size_t(2**25))
    libc.free(block)
for _ in range(20):  # the heap grows until there is a piece that fits
    use_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    return int(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True, encoding="utf-8"
        ).stdout
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_reused_without_page_faults() -> None:
    as_it_comes, kept = page_faults("as it comes"), page_faults("keep")
    assert kept * 10 < as_it_comes, f"{kept} page faults with the setting, {as_it_comes} without"


THREADS = """
import sys, tempfile, threading
import ctypes
from mcnet.allocator import share_arenas
if sys.argv[1] == "share":
    assert share_arenas() and share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
together = threading.Barrier(12)
def work():
    libc.malloc(ctypes.c_size_t(1000))
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile("r") as told:
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(file))
    libc.fclose(ctypes.c_void_p(file))
    print(told.read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_threads_share_arenas() -> None:
    as_it_comes, shared = (
        int(
            subprocess.run(
                [sys.executable, "-c", THREADS, how], check=True, capture_output=True, text=True, encoding="utf-8"
            ).stdout
        )
        for how in ("as it comes", "share")
    )
    assert shared == 2, f"{shared} arenas with the setting, {as_it_comes} without"
    assert as_it_comes > 2, "or this measures nothing"
