"""Running out of memory: what it looks like, what was wanted, and giving back what is held."""

from __future__ import annotations

import gc
import re

import torch

from cnncore.measure.timing import peak_memory_mib

# Libraries below PyTorch, and its allocator for the CPU, raise errors of no kind of their own.
SIGNS = ("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
UNITS_MIB = {"bytes": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2.0**10}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device, or on a CPU the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def needed_mib(error: BaseException, device: torch.device) -> float:
    """The peak so far and what was asked for on top: at least so much memory is needed."""
    found = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMG]iB)", str(error))
    asked = float(found.group(1)) * UNITS_MIB[found.group(2)] if found else 0.0
    if device.type == "cpu" and (found := re.search(r"allocate (\d+) bytes", str(error))):
        asked = int(found.group(1)) / 2**20
    return peak_memory_mib(device) + asked


def device_memory_mib(device: torch.device) -> float | None:
    """All that a GPU has; None for a CPU, whose memory others share."""
    if device.type != "cuda":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) / 2**20


def give_memory_back() -> None:
    """Return to the device what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
