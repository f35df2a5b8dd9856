"""glibc's memory allocator, configured so that training on a CPU reuses its memory.

glibc gives every block above 32 MiB (often above 128 KiB) back to the system when it is freed, and
the next step's first touch of each page then costs a page fault. A step of `mobilenet_small` at
32x32 and batch 128 meets 256,000 of them, two thirds of its time; with freed memory kept, none.
"""

from __future__ import annotations

import ctypes
import functools
import sys

# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> bool:
    """Keep the memory that this process frees from now on for its next allocations.

    Returns false, and changes nothing, if the C library is not glibc. Memory that is free at the
    time of the call goes back to the system, so that a trial neither holds nor counts the memory
    of the one before it. Works in a process's main thread, less so in other threads.
    """
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim(0)
    return True


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Configure glibc once per process and return it; None if the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    # One arena, because the others cannot grow past 64 MiB.
    for name, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_ARENA_MAX, 1)):
        library.mallopt(name, value)
    return library
