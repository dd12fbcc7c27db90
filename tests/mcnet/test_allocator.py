"""The allocator setting does what it is for: freed memory is not mapped anew."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from mcnet.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
for _ in range(20):  # the heap grows until there is a piece that fits
    torch.empty(2**23).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(2**23).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_reused_without_page_faults() -> None:
    as_it_comes, kept = page_faults("as it comes"), page_faults("keep")
    assert kept * 10 < as_it_comes, f"{kept} page faults with the setting, {as_it_comes} without"
