import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cnncore.measure.memory import peak_memory_mib, reset_peak_memory

CPU = torch.device("cpu")


@contextmanager
def held_mib(size_mib: int) -> Iterator[None]:
    """Hold memory from the system itself: an earlier test may have let malloc keep freed memory."""
    with mmap.mmap(-1, size_mib * 2**20) as block:
        for offset in range(0, len(block), mmap.PAGESIZE):
            block[offset] = 1
        yield


def test_peak_memory_grows_by_what_was_held():
    reset_peak_memory(CPU)
    before = peak_memory_mib(CPU)
    with held_mib(256):
        assert before + 200 < peak_memory_mib(CPU) < before + 400


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can reset it")
def test_a_reset_forgets_an_earlier_peak():
    with held_mib(256):
        high = peak_memory_mib(CPU)
    reset_peak_memory(CPU)
    assert peak_memory_mib(CPU) < high - 200
