"""Energy that a GPU uses."""

from __future__ import annotations

from typing import Any

import torch


class EnergyMeter:
    """Energy of a whole GPU since the meter was created, all programs on it included."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._start_mj = self._read_mj()

    def joules(self) -> float:
        """Return the joules used since the meter was created."""
        return (self._read_mj() - self._start_mj) / 1000.0

    def _read_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))


def energy_meter(device: torch.device) -> EnergyMeter | None:
    """Return a running meter, or None if the energy cannot be measured.

    That is so on a CPU, without the package nvidia-ml-py, if the driver does not count energy (GPUs
    before Volta), and for a slice of a GPU (MIG): the driver counts that of the whole.
    """
    if device.type != "cuda" or "MIG" in torch.cuda.get_device_name(device):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # By UUID, because NVML's device numbers ignore CUDA_VISIBLE_DEVICES.
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return EnergyMeter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return None
