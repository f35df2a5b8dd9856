"""Name and memory of a device, and how a process is prepared for it."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

import torch


def prepare_process(device: str) -> None:
    """Set what CUDA reads when it starts in this process; a value of the user's stays.

    With this workspace cuBLAS repeats its results in `deterministic: true`, and PyTorch refuses
    matrix products without it (cuBLAS documentation, "Results Reproducibility"). It holds for every
    trial, because a process that trains one without it may train another with it later.
    """
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@lru_cache(maxsize=16)
def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def device_memory_mib(device: torch.device) -> float | None:
    """Return a GPU's total memory; None for a CPU, whose memory other processes share."""
    if device.type != "cuda":
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) / 2**20
