"""Memory that a trial uses: its peak, running out of it, and releasing it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import sys
from pathlib import Path

import torch

from cnncore.error_text import error_message

MIB = 2**20
# Room for a process's CUDA context and the kernels that it loads: about 500 MiB are often seen on
# data-centre GPUs; never measured here.
CONTEXT_MIB = 600
UNITS_MIB = {"bytes": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10}
# CUDA and the libraries below PyTorch, and its allocator for the CPU, raise other errors. cuBLAS
# says that it is not initialized if there is no room for its handle; cuDNN 9 has the longer names.
OUT_OF_MEMORY_MESSAGES = (
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "can't allocate memory",
)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_mib`.

    For a CPU this needs Linux; on other systems the peak stays that of the whole process's life.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # 5 resets the peak of the resident set (proc_pid_clear_refs(5)).
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mib(device: torch.device) -> float:
    """Return the most memory used since `reset_peak_memory`.

    On a GPU the memory of tensors counts, on a CPU that of the whole process, Python and libraries
    included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes (getrusage(2) of each).
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def free_memory_mib(device: torch.device) -> float:
    """Return the memory that is free on a device, in MiB; infinite if the system does not tell.

    For a CPU that is what the kernel would give to a new process without swapping (MemAvailable of
    proc_meminfo(5)), within the limit of this process's container (control groups, version 2).
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / MIB
    free = float("inf")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) / 1024
    with contextlib.suppress(OSError, ValueError):  # ValueError: no limit, "max"
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        free = min(free, (int((group / "memory.max").read_text()) - used) / MIB)
    return free


def limit_memory(device: torch.device, share: float | None) -> None:
    """Let this process allocate no more than its share of a GPU.

    So a trial runs itself out of memory and never its neighbour. The context, which PyTorch's
    allocator does not count, is taken off a share below 1. Does nothing on a CPU (share None).
    """
    if device.type != "cuda" or share is None:
        return
    total = torch.cuda.get_device_properties(device).total_memory
    context = CONTEXT_MIB * MIB / total if share < 1 else 0.0
    torch.cuda.set_per_process_memory_fraction(max(share - context, share / 2), device)


def total_memory_mib(device: torch.device) -> float:
    """Return the whole memory of a device, in MiB; for a CPU that of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory) / MIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that the device, or for a CPU the machine, is full."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        message in error_message(error) for message in OUT_OF_MEMORY_MESSAGES
    )


def needed_mib(error: BaseException, device: torch.device) -> float:
    """Return a lower bound of the memory needed: the peak so far plus the failed allocation."""
    match = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMG]iB)", error_message(error))
    requested_mib = float(match.group(1)) * UNITS_MIB[match.group(2)] if match else 0.0
    if device.type == "cpu" and (match := re.search(r"allocate (\d+) bytes", error_message(error))):
        requested_mib = int(match.group(1)) / MIB
    return peak_memory_mib(device) + requested_mib


def release_unused_memory() -> None:
    """Return to the device the memory that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
