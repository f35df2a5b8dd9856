import platform
import resource
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from cnncore.training.glibc_allocator import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fault_count():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fewest = None
for _ in range(20):  # it takes some until freed blocks fit
    before = fault_count()
    torch.ones(20 * 2**20)  # 80 MiB
    faults = fault_count() - before
    fewest = faults if fewest is None else min(fewest, faults)
print(fewest)
if sys.argv[1] == "keep":
    keep_freed_memory()
    before = fault_count()
    torch.ones(20 * 2**20)
    assert fault_count() - before > 10  # it went back to the system in between
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_is_touched_for_the_first_time_once_only():
    faults = {}
    for mode in ("keep", "plain"):
        printed = subprocess.run(
            [sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True
        )
        faults[mode] = int(printed.stdout)
    pages = 80 * 2**20 // resource.getpagesize()
    assert faults["keep"] < 10
    # A page, or a huge page of 2 MiB, at a time.
    assert faults["plain"] >= min(pages, 40)
