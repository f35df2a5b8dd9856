"""What a network costs on a device: latency, peak memory, energy."""

from __future__ import annotations

import platform
import resource
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cnncore.measure.evaluate import autocast, eval_mode

MIB = 2**20
FEWEST_RUNS = 5
MOST_RUNS = 200
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Latency:
    """Times of one forward pass over `n` synchronised runs: median and 95th percentile."""

    p50_ms: float
    p95_ms: float
    n: int
    batch_size: int

    @property
    def images_per_s(self) -> float:
        """Images per second of the median run."""
        return self.batch_size * 1000.0 / self.p50_ms


def measure_latency(
    model: nn.Module,
    image_size: int,
    *,
    batch_size: int = 1,
    device: torch.device,
    precision: str = "fp32",
    seconds: float = 0.1,
) -> Latency:
    """Time forward passes of `batch_size` images in eval mode, each one synchronised.

    Three runs warm up; then runs are timed until `seconds` have passed (the warm-up counts) or
    there are 200, but never fewer than five. Images are `channels_last`; the model is expected
    to be on `device`, in the memory format it was trained in. With "bf16" the weights are cast
    in the warm-up, as a server would. Weights, statistics, modes and torch's random state stay
    as they were.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch_size, 3, image_size, image_size, generator=generator)
    images = images.to(device, memory_format=torch.channels_last)
    times_s: list[float] = []
    with eval_mode(model), torch.inference_mode(), autocast(device, precision):
        start = time.perf_counter()
        for _ in range(WARM_UP_RUNS):
            model(images)
        _synchronise(device)
        while len(times_s) < FEWEST_RUNS or (
            len(times_s) < MOST_RUNS and time.perf_counter() - start < seconds
        ):
            run_start = time.perf_counter()
            model(images)
            _synchronise(device)
            times_s.append(time.perf_counter() - run_start)
    p50, p95 = np.percentile(times_s, (50, 95)) * 1000.0
    return Latency(float(p50), float(p95), len(times_s), batch_size)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new measurement of `peak_memory_mib`.

    For a CPU that works on Linux; elsewhere the peak stays that of the whole process's life.
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
    """Most memory since `reset_peak_memory`: of a GPU what tensors held, of a CPU what the whole
    process did, Python and libraries included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes (getrusage(2) of each).
    return peak / MIB if sys.platform == "darwin" else peak / 1024


class EnergyMeter:
    """Energy of a whole GPU since the meter was made, everything that runs on it included."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._start_mj = self._read_mj()

    def joules(self) -> float:
        """Joules since the meter was made."""
        return (self._read_mj() - self._start_mj) / 1000.0

    def _read_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def energy_meter(device: torch.device) -> EnergyMeter | None:
    """A running meter, or None: on a CPU, without the package nvidia-ml-py, or where the driver
    does not count energy (GPUs before Volta).
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # By identity: NVML's numbers take no notice of CUDA_VISIBLE_DEVICES.
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return EnergyMeter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return None


@lru_cache(maxsize=16)
def device_name(device: torch.device) -> str:
    """The model of the GPU or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
